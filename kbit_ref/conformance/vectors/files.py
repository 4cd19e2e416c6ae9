"""Files of vectors: where they are, written in both forms, read whole or refused in one line."""

from __future__ import annotations

import json
import os
from collections.abc import Iterable
from pathlib import Path
from typing import Any

from kbit_ref.checkpoints.container import Container
from kbit_ref.checkpoints.header import shown
from kbit_ref.conformance.vectors import as_safetensors
from kbit_ref.conformance.vectors.as_json import SCHEMA, as_json, from_document
from kbit_ref.conformance.vectors.lint import lint
from kbit_ref.conformance.vectors.model import Array, Vectors, in_order
from kbit_ref.conformance.vectors.schema import load, problems
from kbit_ref.data import data_folder
from kbit_ref.errors import BadInput, KbitError, message

__all__ = ["lint_file", "places", "read_vectors", "vector_files", "write_vectors"]

MOST = 1 << 30  # bytes of a document
MEND = "get the file again, or write it with `kbit-ref vectors write`"


def vector_files(level: str = "quick") -> list[Path]:
    """Return the files of a level that come with the package, in JSON."""
    folder = data_folder("vectors") / level
    return sorted(folder.glob("*.json"))


def places(name: str, folder: Path, *, force: bool = False) -> tuple[Path, Path]:
    """Return the paths of a file in its two forms, if it may be written there."""
    paths = folder / f"{name}.json", folder / f"{name}.safetensors"
    if not folder.is_dir():
        raise BadInput(message("vectors", f"folder = {folder}", "there is no such folder", "make it first"))
    for path in paths:
        if path.exists() and not force:
            raise BadInput(message("vectors", str(path), "it exists", "choose another folder, or add --force"))
    return paths


def write_vectors(vectors: Vectors, folder: Path, *, force: bool = False) -> tuple[Path, Path]:
    """Write a file in both forms; the paths."""
    paths = places(vectors.name, folder, force=force)
    as_safetensors.write(paths[1], vectors, force=force)
    passing = paths[0].with_suffix(f".{os.getpid()}.tmp")
    try:
        passing.write_bytes(as_json(vectors))
        passing.replace(paths[0])
    finally:
        passing.unlink(missing_ok=True)
    return paths


def read_vectors(path: str | os.PathLike[str]) -> Vectors:
    """Read a file in either form.

    Raises
    ------
    BadInput
        `vectors: a.json, test 7: expected/codes has 31 words for shape [1, 32]; get the file again, ...`
    """
    vectors, found = _read(Path(path))
    for problem in found:
        raise BadInput(message("vectors", shown(path), problem, MEND))
    assert vectors is not None  # else there was a problem
    return vectors


def lint_file(path: str | os.PathLike[str]) -> list[str]:
    """Return the problems of a file, a line each."""
    return _read(Path(path))[1]


def _read(path: Path) -> tuple[Vectors | None, list[str]]:
    """Read a file as far as possible; return it and all its problems."""
    if path.suffix == ".safetensors":
        with Container(path) as file:
            if as_safetensors.METADATA not in file.metadata:
                return None, [f"its metadata have no text {as_safetensors.METADATA!r}"]
            return _checked(file.metadata[as_safetensors.METADATA], file)
    if not path.is_file():
        raise BadInput(message("vectors", shown(path), "there is no such file", "check its name"))
    try:
        if path.stat().st_size > MOST:
            return None, [f"it has more than {MOST:,} bytes"]
        return _checked(path.read_text("utf-8"), None)
    except UnicodeDecodeError:
        return None, ["it is no text in UTF-8"]


def _checked(text: str, file: Container | None) -> tuple[Vectors | None, list[str]]:
    try:
        document = json.loads(text, object_pairs_hook=_once, parse_constant=_no_constant)
        if file is not None:
            _completed(document, file)
    except (ValueError, RecursionError) as error:
        if isinstance(error, KbitError):
            return None, [str(error)]
        reason = "it is nested too deeply" if isinstance(error, RecursionError) else str(error)
        return None, [f"it is no JSON document: {reason[:200]}"]
    found = list(problems(document, load(SCHEMA)))
    if found:
        return None, found
    try:
        vectors = from_document(document, None if file is None else _arrays(document, file))
    except ValueError as error:
        return None, [str(error)]
    return vectors, list(lint(vectors, document["numberOfTests"]))


def _once(pairs: Iterable[tuple[str, Any]]) -> dict[str, Any]:
    found: dict[str, Any] = {}
    for name, value in pairs:
        if name in found:
            raise ValueError(f"{name[:60]!a} stands twice in an object")
        found[name] = value
    return found


def _completed(document: Any, file: Container) -> None:
    """Copy the flags of tests and the types and shapes of arrays from the tensors into the document."""
    flags = file.array(as_safetensors.FLAGS)
    try:
        notes = list(document["notes"])
        tests = [test for group in document["testGroups"] for test in group["tests"]]
        if flags.shape != (len(tests), len(notes)):
            rule = f"there are {len(tests)} tests and {len(notes)} notes"
            raise BadInput(message("vectors", f"flags of shape {list(flags.shape)}", rule, MEND))
        for test, row in zip(tests, flags, strict=True):
            test["flags"] = [note for note, has in zip(notes, row.tolist(), strict=True) if has]
        paths = [name.partition("/") for name in file.entries if "/" in name]
        for number, _, path in sorted(paths, key=lambda name: in_order(name[2])):
            entry = file.entry(f"{number}/{path}")
            specs = document["testGroups"][int(number)].setdefault("arrays", {})
            specs[path] = {"dtype": entry.dtype, "shape": list(entry.shape[1:])}
    except (KeyError, TypeError, AttributeError, IndexError, ValueError):
        return  # the schema will say what is wrong


def _no_constant(name: str) -> Any:
    raise ValueError(f"{name} is no number of JSON")


def _arrays(document: dict[str, Any], file: Container) -> dict[int, dict[str, Array]]:
    """Return the arrays of a safetensors file by test number, each as its group says."""
    found: dict[int, dict[str, Array]] = {}
    for number, group in enumerate(document["testGroups"]):
        tests = [test["tcId"] for test in group["tests"]]
        if any(set(test) & {"inputs", "expected", "alternatives"} for test in group["tests"]):
            raise ValueError(f"group {number}: its tests hold arrays, which belong in tensors")
        for test in tests:
            found[test] = {}
        for path, spec in group["arrays"].items():
            entry = file.entry(f"{number}/{path}")
            shape = (len(tests), *spec["shape"])
            if (entry.dtype, entry.shape) != (spec["dtype"], shape):
                raise ValueError(f"tensor {number}/{path} is not {spec['dtype']} of shape {list(shape)}")
            for test, array in zip(tests, as_safetensors.stacked(file, number, path), strict=True):
                found[test][path] = array
    return found
