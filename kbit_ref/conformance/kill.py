"""The kill matrix: what the inputs of `check` tell from each scheme, and why not the rest.

For every profile and each scheme that the README names, every variant is run on the inputs of `check`: each mutant with
all its parameters, each layout as it is written and as it is read, every other value of every choice, every other rule.
Its answers are compared with the definition as `check` compares those of a function that gives all parts.

killed    some part differs; `by` is the class of inputs that shows it first, with the format where it is not float32
equal     it cannot differ on finite float32 numbers; `by` is the reason, which `conformance/equal.py` has checked
outside   it differs only for what the scheme refuses
survives  none of these: a blind spot

`data/kill/kill.csv` is the record of all of them; none survives.
"""

from __future__ import annotations

import csv
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import ProcessPoolExecutor
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path

import numpy as np

from kbit_ref import exact
from kbit_ref.conformance.compare import compare
from kbit_ref.conformance.definition import Stored, answered, reference
from kbit_ref.conformance.equal import reason
from kbit_ref.conformance.inputs.of_schemes import Case, cases
from kbit_ref.conformance.reading import Refused, read
from kbit_ref.conformance.variants import mutants
from kbit_ref.conformance.variants.choices import OF_TYPE, changed
from kbit_ref.conformance.variants.layouts import reads
from kbit_ref.errors import KbitError
from kbit_ref.exact.rules import RULES
from kbit_ref.tensors.packing import Layout, layout, layouts, pack
from kbit_ref.tensors.profiles import profiles
from kbit_ref.tensors.scheme import CHOICES, Scheme, scheme
from kbit_ref.tensors.steps import Runner, Steps
from kbit_ref.tensors.steps import reference as steps_of

__all__ = ["NAMED", "Fate", "fates", "kill", "read_kills", "subjects", "variants", "write_kills"]

NAMED = (  # schemes of the README that are no profiles
    *("nf4-b64-absmax-f32", "int4-b32-absmax-f32", "int4-b4-absmax-f32", "nf4-b64-absmax-f16"),
    "int3sym-b64-absmax-f16",
)
OTHERS = ("float64", "float16", "bfloat16")  # formats that a survivor of float32 is tried with
FATES = ("killed", "equal", "outside", "survives")
FIELDS = ("scheme", "fate", "by", "variants")
SIZE = 32  # of a block where the cut does not say it

Make = Callable[[Steps], "Steps | None"]


@dataclass(frozen=True)
class Fate:
    """The fate of a variant of a scheme: see the head of this file."""

    scheme: str
    variant: str
    fate: str
    by: str


def subjects() -> dict[str, tuple[str, ...]]:
    """Return the schemes by their spelling, with the names that stand for each."""
    found: dict[str, tuple[str, ...]] = {}
    for name in (*profiles(), *NAMED):
        spelling = str(scheme(name))
        found[spelling] = (*found.get(spelling, ()), name)
    return found


def variants(s: Scheme, source: str = "float32") -> Iterator[tuple[str, Make]]:
    """Yield every variant by its name: what it makes of the steps of the scheme, None where it does not apply."""
    for mutant in mutants().values():
        yield from ((each.name, each) for each in mutant.variants())
    for name in layouts():
        form = layout(name)
        if form.bits == s.dtype.bits and not form.digits and name != s.layout.name:
            yield f"read as {name}", partial(reads, other=form)
            yield f"packed as {name}", partial(_packs, form=form)
    for word, value in _words(s):
        made = changed(s, (word, value))
        if made is not None:
            yield f"{word}={value}", partial(_as, made=made, source=source)


def _packs(steps: Steps, form: Layout) -> Steps:
    return replace(steps, pack=lambda codes: pack(codes, form))


def _as(steps: Steps, made: Scheme, source: str) -> Steps:
    return steps_of(made, source)


def _words(s: Scheme) -> Iterator[tuple[str, str]]:
    """Yield every other value of every choice, and every other rule."""
    yield from ((name, value) for name, values in CHOICES.items() for value in values if value != s[name])
    for name in OF_TYPE:
        others = (value for value in exact.CHOICES[name] if value != getattr(s.dtype, name))
        yield from ((name, value) for value in others if not value.startswith("stochastic"))
    widths = ((name, layout(name)) for name in layouts())
    yield from (("layout", name) for name, form in widths if form.bits == s.dtype.bits and name != s.layout.name)
    yield from (("rule", rule) for rule in RULES if rule != s.rule)


def fates(spelling: str) -> list[Fate]:
    """Return what becomes of every variant of a scheme."""
    s = scheme(spelling)
    killed, left = _killed(s, "float32", None)
    found = [Fate(spelling, name, "killed", by) for name, by in killed.items()]
    base, made, open_ = steps_of(s), dict(variants(s)), []
    for name in left:
        steps = made[name](base)
        assert steps is not None
        why = reason(s, name, base, steps)
        if why is None:
            open_.append(name)
        else:
            found.append(Fate(spelling, name, *why))
    for source in OTHERS if open_ else ():
        killed, open_ = _killed(s, source, set(open_))
        found += [Fate(spelling, name, "killed", f"{by} ({source})") for name, by in killed.items()]
    return found + [Fate(spelling, name, "survives", "") for name in open_]


def _killed(s: Scheme, source: str, only: set[str] | None) -> tuple[dict[str, str], list[str]]:
    """Return the variants that the inputs of a format kill, with the class that does; and the others."""
    base = steps_of(s, source)
    left = {}
    for name, make in variants(s, source):
        steps = make(base) if only is None or name in only else None
        if steps is not None:
            left[name] = steps
    killed: dict[str, str] = {}
    for case, ours in _domain(s, source):
        runner = Runner(case.numbers)
        right = {name: part.tobytes() for name, part in runner(base).parts().items()}
        for name, steps in list(left.items()):
            if _differs(s, case, ours, runner, steps, right):
                killed[name] = case.name.partition(" ")[0]
                del left[name]
        if not left:
            break
    return killed, list(left)


def _domain(s: Scheme, source: str) -> Iterator[tuple[Case, Stored]]:
    """Yield the inputs of `check`, the smallest first, without the blocks that the scheme has no answer for."""
    shapes = "any" if s.cut.axis is None else "ragged"
    every = cases(s, (source,), shapes, 1, s.cut.size or SIZE)
    for case in sorted(every, key=lambda case: case.words.size):  # small ones are done with most variants
        ours = reference(s, case.words, source)
        if ours.refused.any():
            words = answered(s, case.words, ours.refused)
            if not words.size or words.size == case.words.size:
                continue
            case = Case(case.name, source, words)
            ours = reference(s, words, source)
            if ours.refused.any():
                continue
        yield case, ours


def _differs(s: Scheme, case: Case, ours: Stored, runner: Runner, steps: Steps, right: dict[str, bytes]) -> bool:
    """Return whether `check` would find a difference in some part."""
    try:
        with np.errstate(all="ignore"):
            parts = runner(steps, keep=False).parts()
        if {name: part.tobytes() for name, part in parts.items()} == right:
            return False
        parts["decoded"] = parts.pop("values")
        found = compare(s, case, ours, read(s, case.words.shape, parts))
    except (Refused, KbitError):
        return True  # what it gives has another form, or it refuses what the scheme takes
    return any(bool(wrong.any()) for wrong in found.wrong.values())


def kill(spellings: Iterable[str], processes: int = 2, progress: Callable[[], None] = lambda: None) -> list[Fate]:
    """Compute the fates of all variants of schemes, several schemes at a time."""
    names = list(spellings)
    found: list[Fate] = []
    if processes <= 1 or len(names) == 1:
        for name in names:
            found += fates(name)
            progress()
        return found
    with ProcessPoolExecutor(processes) as pool:
        for some in pool.map(fates, names):
            found += some
            progress()
    return found


# The record --------------------------------------------------------------------------------------


def write_kills(path: str | Path, found: Iterable[Fate]) -> None:
    """Write one line per scheme, fate and reason, with all variants that share them."""
    groups: dict[tuple[str, str, str], list[str]] = {}
    for each in found:
        groups.setdefault((each.scheme, each.fate, each.by), []).append(each.variant)
    with Path(path).open("w", encoding="utf-8", newline="") as file:
        rows = csv.writer(file, lineterminator="\n")
        rows.writerow(FIELDS)
        rows.writerows([*key, "; ".join(names)] for key, names in groups.items())


def read_kills(path: str | Path) -> list[Fate]:
    """Read the fates of a record."""
    with Path(path).open(encoding="utf-8", newline="") as file:
        rows = list(csv.DictReader(file))
    return [Fate(row["scheme"], name, row["fate"], row["by"]) for row in rows for name in row["variants"].split("; ")]
