"""`Plan`: which cells a study has, and on what its models are judged. It is written in a TOML file.

    title = "Blocks of four bits"
    models = ["../models/*-0"]           # directories, relative to the file; * is anything
    # or by names of your own:  models = { small = "runs/1/checkpoint-900", large = "runs/2/checkpoint-900" }

    [evaluation]                         # of the world that our own models live in
    windows = 192                        # texts of a task
    questions = 400                      # multiple choices of a task
    # or, for any model:  text = "FILE", tasks = "FILE.jsonl", window = 256

    [[sweep]]                            # every combination of what is listed; there may be several
    kinds = ["int", "float", "ocp-mxfp4"]
    bits = [3, 4]
    blocks = ["tensor", 64]
    methods = ["nearest", "gptq"]
    scopes = ["all", "linear"]
    models = ["s-*"]                     # of those above, by name

The model as it is, in 16 bits, is a cell of every model and scope.
"""

from __future__ import annotations

import glob
import os
import tomllib
from collections.abc import Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass, fields
from fnmatch import fnmatchcase
from itertools import product
from pathlib import Path
from typing import Any

from kbit_ref.errors import BadInput, UnknownName, message
from kbit_ref.methods.registry import method
from kbit_ref.study.kinds import BLOCK, is_format, scheme_of, widths_of
from kbit_ref.study.rows import SCOPES, Cell
from kbit_ref.tensors.scheme import scheme

__all__ = ["Evaluation", "Plan", "name_of", "parse_plan", "read_plan"]


@dataclass(frozen=True)
class Evaluation:
    """On what models are judged: tasks of the world, or a text and multiple choices from files.

    Parameters
    ----------
    windows, questions
        At most so many of each text and of each task.
    seed
        Of the world's windows and questions.
    calibration
        Windows, other ones, from which methods take the inputs of matrices.
    text, tasks
        Files; without a text it is the world.
    window
        Tokens of a window of a text, at most; never more than the positions of the model.
    """

    windows: int = 192
    questions: int = 400
    seed: int = 0
    calibration: int = 64
    text: str = ""
    tasks: str = ""
    window: int = 256


@dataclass(frozen=True)
class Sweep:
    """One table of a plan: lists whose combinations are cells."""

    kinds: tuple[str, ...]
    bits: tuple[int, ...] = ()
    blocks: tuple[int, ...] = (BLOCK,)
    methods: tuple[str, ...] = ("nearest",)
    scopes: tuple[str, ...] = ("all",)
    activations: tuple[str, ...] = ("",)
    models: tuple[str, ...] = ("*",)

    def cells(self, name: str) -> Iterator[Cell]:
        """Those of one model; widths that a kind does not have are left out, blocks of a format are its own."""
        if not any(fnmatchcase(name, pattern) for pattern in self.models):
            return
        for kind in self.kinds:
            widths = widths_of(kind)
            bits = widths if is_format(kind) else [b for b in self.bits if b in widths]
            blocks = (0,) if is_format(kind) else self.blocks
            for scope, b, block, how, rounded in product(self.scopes, bits, blocks, self.methods, self.activations):
                yield Cell(name, kind, b, block, how, scope, rounded)


@dataclass(frozen=True)
class Plan:
    """What a study asks.

    Parameters
    ----------
    title
        Of tables and pictures.
    models
        Directories by name, small models first.
    evaluation
        On what they are judged.
    sweeps
        Which cells there are.
    text
        The file as it was.
    """

    title: str
    models: Mapping[str, Path]
    evaluation: Evaluation
    sweeps: tuple[Sweep, ...]
    text: str

    def cells(self) -> list[Cell]:
        """Every cell once, one model after the other; of a model the one in 16 bits first."""
        found: dict[Cell, None] = {}
        for name in self.models:
            mine = [cell for sweep in self.sweeps for cell in sweep.cells(name)]
            scopes = dict.fromkeys(cell.scope for cell in mine) or {"all": None}
            found |= dict.fromkeys(Cell(name, scope=scope) for scope in scopes)
            found |= dict.fromkeys(mine)
        return list(found)

    def folder(self, name: str) -> Path:
        """The directory of a model."""
        return self.models[name]


def read_plan(path: str | os.PathLike[str]) -> Plan:
    """The plan of a file.

    Raises
    ------
    BadInput
        `study: plan.toml, it cannot be read (...); name a plan`
    """
    try:
        text = Path(path).read_text("utf-8")
    except (OSError, UnicodeDecodeError) as error:
        raise _refused(str(path), f"it cannot be read ({error})", "name a plan") from None
    return parse_plan(text, Path(path).parent, str(path))


def parse_plan(text: str, folder: str | os.PathLike[str] = ".", name: str = "plan") -> Plan:
    """The plan that a text says; files and models are looked for from a folder.

    Raises
    ------
    UnknownName
        `study: plan.toml: [[sweep]] 2: key = 'kind', there is no such name; did you mean kinds? ...`
    BadInput
        `study: plan.toml: bits = [9], it is a list of 2 to 8; mend the plan`
    """
    try:
        table = tomllib.loads(text)
    except tomllib.TOMLDecodeError as error:
        raise _refused(name, f"it is no TOML ({error})", "mend it") from None
    _keys(table, ("title", "models", "evaluation", "sweep"), name)
    title = _value(table, "title", "", name)
    evaluation = _evaluation(_value(table, "evaluation", {}, name), Path(folder), name)
    sweeps = table.get("sweep", [])
    if not isinstance(sweeps, list) or not sweeps or not all(isinstance(s, dict) for s in sweeps):
        raise _refused(f"{name}: sweep", "a plan has [[sweep]] tables", "add one")
    models = _models(table, Path(folder), name)
    found = tuple(_sweep(s, models, f"{name}: [[sweep]] {i}") for i, s in enumerate(sweeps, 1))
    return Plan(title, models, evaluation, found, text)


def _refused(got: str, rule: str, remedy: str = "mend the plan") -> BadInput:
    return BadInput(message("study", got, rule, remedy))


def _keys(table: Mapping[str, Any], known: Sequence[str], place: str) -> None:
    for key in table:
        if key not in known:
            raise UnknownName.among("study", f"{place}: key", key, known, f"keys are {', '.join(known)}")


def _value(table: Mapping[str, Any], key: str, default: Any, place: str) -> Any:
    """A value of the same type as its default; whole numbers are from 0, windows and their tokens from 1."""
    value = table.get(key, default)
    least = int(key in ("windows", "window"))
    kind = {str: "a text", int: f"a whole number from {least}", dict: "a table"}[type(default)]
    if type(value) is not type(default) or (isinstance(value, int) and value < least):
        raise _refused(f"{place}: {key} = {value!r}", f"it is {kind}")
    return value


def _list(table: Mapping[str, Any], key: str, default: tuple[Any, ...], kind: type, place: str) -> tuple[Any, ...]:
    """A list of texts or of whole numbers, not empty; one of them may stand for itself."""
    value = table.get(key, list(default))
    value = value if isinstance(value, list) else [value]
    if not value or any(type(item) is not kind for item in value):
        words = {str: "texts", int: "whole numbers"}[kind]
        raise _refused(f"{place}: {key} = {value!r}", f"it is a list of {words}, not empty")
    return tuple(value)


def _evaluation(table: Mapping[str, Any], folder: Path, name: str) -> Evaluation:
    place, default = f"{name}: [evaluation]", Evaluation()
    known = [f.name for f in fields(Evaluation)]
    _keys(table, known, place)
    found = {key: _value(table, key, getattr(default, key), place) for key in known}
    for key in ("text", "tasks"):
        if found[key]:
            found[key] = str((folder / found[key]).resolve())
            if not Path(found[key]).is_file():
                raise _refused(f"{place}: {key} = {table[key]!r}", "there is no such file", "name another")
    if found["tasks"] and not found["text"]:
        raise _refused(f"{place}: tasks without a text", "the world has tasks of its own", "add text = FILE")
    return Evaluation(**found)


def name_of(place: str | os.PathLike[str]) -> str:
    """What a model is called: as its directory; in the cache of the Hub, as there.

    Examples
    --------
    >>> name_of("runs/tiny"), name_of("hub/models--EleutherAI--pythia-70m/snapshots/a39f36b1")
    ('tiny', 'pythia-70m')
    """
    path = Path(os.path.abspath(place))  # of a link its own name, and not that of where it leads
    if path.parent.name == "snapshots" and path.parent.parent.name.startswith("models--"):
        return path.parent.parent.name.rpartition("--")[2]
    return path.name


def _models(table: Mapping[str, Any], folder: Path, name: str) -> dict[str, Path]:
    """Directories with a config.json, small ones first."""
    asked = table.get("models")
    found: dict[str, Path] = {}
    if isinstance(asked, dict):
        for own in asked:
            (found[own],) = _places(_value(asked, own, "", f"{name}: models"), folder, name, only=True)
    else:
        for place in (p for pattern in _list(table, "models", (), str, name) for p in _places(pattern, folder, name)):
            if found.setdefault(name_of(place), place) != place:
                remedy = 'give them names: models = { NAME = "DIR", ... }'
                raise _refused(f"{name}: models", f"two are called {name_of(place)}", remedy)
    if not found:
        raise _refused(f"{name}: models", "there is none", "add one")

    def size(own: str) -> tuple[int, str]:
        return sum(file.stat().st_size for file in found[own].glob("*.safetensors")), own

    return {own: found[own] for own in sorted(found, key=size)}


def _places(pattern: str, folder: Path, name: str, only: bool = False) -> list[Path]:
    """Directories with a config.json; exactly one, if it is `only` one that is meant."""
    places = [Path(os.path.abspath(place)) for place in sorted(glob.glob(str(folder / pattern)))]
    places = [place for place in places if (place / "config.json").is_file()]
    if not places:
        raise _refused(f"{name}: models = {pattern!r}", "there is no such directory with a config.json", "add one")
    if only and len(places) > 1:
        raise _refused(f"{name}: models = {pattern!r}", f"it is one model, and {len(places)} fit", "name one")
    return places


def _sweep(table: Mapping[str, Any], models: Collection[str], place: str) -> Sweep:
    _keys(table, [f.name for f in fields(Sweep)], place)
    kinds = _list(table, "kinds", (), str, place)
    formats = all(is_format(kind) for kind in kinds)
    bits = _list(table, "bits", (0,) if formats else (), int, place)
    blocks = _blocks(table.get("blocks", Sweep.blocks[0]), place)
    texts = {
        key: _list(table, key, getattr(Sweep, key), str, place)
        for key in ("methods", "scopes", "activations", "models")
    }
    found = Sweep(kinds, bits, blocks, **texts)
    for kind in kinds:
        if not is_format(kind) and not set(widths_of(kind)) & set(bits):
            raise _refused(f"{place}: bits = {list(bits)}", f"{kind} has {', '.join(map(str, widths_of(kind)))}")
    for scope in found.scopes:
        if scope not in SCOPES:
            raise UnknownName.among("study", f"{place}: scope", scope, SCOPES, f"scopes are {', '.join(SCOPES)}")
    for pattern in found.models:
        if not any(fnmatchcase(name, pattern) for name in models):
            raise _refused(f"{place}: models = {pattern!r}", "no model of the plan has such a name")
    for how in found.methods:
        if str(method(how)) != how:
            raise _refused(f"{place}: methods = {how!r}", f"it is spelled {method(how)}")
    for spelling in filter(None, found.activations):
        scheme(spelling)
    for cell in found.cells(next(name for name in models if fnmatchcase(name, found.models[0]))):
        scheme_of(cell.kind, cell.bits, cell.block)
    return found


def _blocks(value: Any, place: str) -> tuple[int, ...]:
    """Elements of each block; `tensor` is 0."""
    found = value if isinstance(value, list) else [value]
    for block in found or [None]:
        if block != "tensor" and (type(block) is not int or block < 1):
            raise _refused(f"{place}: blocks = {value!r}", "it is a list of sizes, or 'tensor'")
    return tuple(0 if block == "tensor" else block for block in found)
