"""The tests of a subject, and which subjects a file has.

Candidates are what the hard cases give (`conformance/cases`). `quick` keeps of them, for each scheme, few
that kill every mutant that they kill together, and one of each result; `full` keeps all.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from dataclasses import replace
from fractions import Fraction
from functools import cache
from itertools import islice
from typing import Any

from kbit_ref.conformance.cases import LEVELS, cases_of
from kbit_ref.conformance.variants import mutants
from kbit_ref.conformance.vectors.definition import Answer, answer
from kbit_ref.conformance.vectors.flags import killed, note
from kbit_ref.conformance.vectors.model import Group, Spec, Test, Vectors, in_order, spec_of
from kbit_ref.datatypes.datatype import DataType, datatype, datatypes
from kbit_ref.errors import KbitError, UnknownName
from kbit_ref.exact.rules import RULES
from kbit_ref.tensors.packing import Layout, layout, layouts
from kbit_ref.tensors.profiles import profiles
from kbit_ref.tensors.scheme import CHOICES, SCALE_DTYPES, Scheme, scheme

__all__ = ["Subject", "files_of", "generate", "subject_of", "subjects_of", "vectors_of"]

Subject = Scheme | DataType | Layout
OVERHEAD = 400  # bytes of a test besides its arrays, about


def files_of(level: str) -> dict[str, tuple[str, list[str]]]:
    """Return the files of a level by name: the type of their groups, and the names of their subjects.

    Examples
    --------
    >>> list(files_of("quick"))
    ['layouts', 'types', 'profiles-codebook', 'profiles-float', 'profiles-integer', 'choices']
    """
    if level not in LEVELS:
        raise UnknownName.among("vectors", "level", level, LEVELS, f"levels are {', '.join(LEVELS)}")
    found: dict[str, tuple[str, list[str]]] = {"layouts": ("layout", list(layouts()))}
    names = datatypes(grammar=level != "quick")
    if level == "quick":
        names = tuple(name for name in names if datatype(name).bits <= 8)
    # of grammars the types of at most 8 bits: Binary10 and above have their thousands of levels
    names = tuple(name for name in names if not name.startswith(("Binary9", "Binary1")))
    if level == "exhaustive":  # a type has all 65,536 numbers of float16, and a file of its own
        found |= {f"types-{name}": ("dtype", [name]) for name in names}
    else:
        found["types"] = "dtype", list(names)
    for name in profiles():
        family = scheme(name).dtype.family
        kind = family if family in ("integer", "float") else "codebook"
        found.setdefault(f"profiles-{kind}", ("scheme", []))[1].append(name)
    found["choices"] = ("scheme", list(_missing() if level == "quick" else dict.fromkeys([*_rules(), *_choices()])))
    return found


def _valid(spellings: Iterable[str]) -> Iterator[str]:
    """Yield those that are schemes, in their own spelling."""
    for text in spellings:
        try:
            yield str(scheme(text))
        except KbitError:
            continue


@cache
def _rules() -> tuple[str, ...]:
    """Return each scale rule with the first type and scale that it goes with."""
    found = []
    for rule in RULES:
        spelled = (f"{dtype}-b16-{rule}-{scale}" for dtype in ("int4", "uint4") for scale in ("f32", "e8m0fnu"))
        found.append(next(_valid(spelled)))
    return tuple(found)


@cache
def _choices() -> tuple[str, ...]:
    """Return each value of each choice, and each type of stored scale, with the first scheme that they go with."""
    bases = [f"{dtype}-b16-{rule}-f32" for rule in RULES for dtype in ("e4m3fn", "int4", "uint4", "dynamic4")]
    bases += [base.replace("-f32", "-e4m3fn") for base in bases]
    found = [*_valid(f"e2m1fn-b16-absmax-{scale}" for scale in SCALE_DTYPES)]
    for choice, values in CHOICES.items():
        for value in values[1:]:
            more = ("", "+zeroblock=one", "+scalerange=clamp")
            found += islice(_valid(f"{base}+{choice}={value}{add}" for base in bases for add in more), 1)
    return tuple(dict.fromkeys(found))


@cache
def _missing() -> tuple[str, ...]:
    """Return rules that no profile has; and for each mutant that fits no profile the first scheme that it fits."""
    used = {scheme(name).rule for name in profiles()}
    found = [text for text in _rules() if scheme(text).rule not in used]
    for mutant in mutants().values():
        if not any(mutant.applies(name) for name in (*profiles(), *found)):
            found += islice((text for text in (*_rules(), *_choices()) if mutant.applies(text)), 1)
    return tuple(found)


def generate(name: str, level: str, tell: Callable[[], object] = lambda: None) -> Vectors:
    """Generate a file of vectors; `tell` is called after each subject.

    Raises
    ------
    UnknownName
        `vectors: file = 'bnb', there is no such name; did you mean ...? ...`
    """
    files = files_of(level)
    if name not in files:
        raise UnknownName.among("vectors", "file", name, files, "`kbit-ref vectors list --level full` has all")
    kind, names = files[name]
    groups: list[Group] = []
    number = 1
    for spelling, known_as in subjects_of(kind, names).items():
        for group in _grouped(kind, spelling, known_as, vectors_of(kind, spelling, level)):
            numbered = tuple(replace(test, number=number + i) for i, test in enumerate(group.tests))
            number += len(numbered)
            groups.append(replace(group, tests=numbered))
        tell()
    flags = sorted({flag for group in groups for test in group.tests for flag in test.flags})
    return Vectors(name, level, {flag: note(flag) for flag in flags}, tuple(groups))


def subject_of(kind: str, name: str) -> Subject:
    """Return the scheme, data type or layout of a group."""
    return {"scheme": scheme, "dtype": datatype, "layout": layout}[kind](name)  # type: ignore[operator, no-any-return]


def subjects_of(kind: str, names: Iterable[str]) -> dict[str, list[str]]:
    """Return the spellings of names, each once, with the profiles that stand for it."""
    found: dict[str, list[str]] = {}
    for name in names:
        known_as = found.setdefault(str(subject_of(kind, name)), [])
        if kind == "scheme" and name in profiles():
            known_as.append(name)
    return found


def vectors_of(kind: str, name: str, level: str) -> list[Test]:
    """Return the tests of a subject, not numbered yet."""
    subject = subject_of(kind, name)
    found = []
    for case in cases_of(subject):
        for given in case.given(subject, level):
            right = answer(subject, given)
            test = Test(0, f"{case.name}: {given.comment}", (), right.result, _paths(right))
            found.append(replace(test, flags=killed(subject, kind, test)))
    return _fewest(found) if level == "quick" and kind == "scheme" else found


def _paths(right: Answer) -> dict[str, Any]:
    parts = {f"inputs/{name}": array for name, array in right.inputs.items()}
    parts |= {f"expected/{name}": array for name, array in right.expected.items()}
    for other, arrays in right.alternatives.items():
        parts |= {f"alternatives/{other}/{name}": array for name, array in arrays.items()}
    return {path: parts[path] for path in sorted(parts, key=in_order)}


def _fewest(tests: list[Test]) -> list[Test]:
    """Choose few tests that kill what all of them kill, and one of each result.

    Greedily the test that kills the most of what is left a byte; then those go that the others make redundant.
    """
    cost = [OVERHEAD + sum(array.nbytes for array in test.arrays.values()) for test in tests]
    wanted = [{*test.flags, f"result={test.result}"} for test in tests]
    left, chosen = set().union(*wanted), set[int]()
    while left:
        best = max(range(len(tests)), key=lambda i: (Fraction(len(left & wanted[i]), cost[i]), -i))
        chosen.add(best)
        left -= wanted[best]
    for i in sorted(chosen, key=lambda i: -cost[i]):
        if wanted[i] <= set().union(*(wanted[j] for j in chosen - {i})):
            chosen.remove(i)
    return [tests[i] for i in sorted(chosen)]


def _grouped(kind: str, name: str, known_as: list[str], tests: list[Test]) -> Iterator[Group]:
    """Group tests with arrays of the same shapes."""
    subject = subject_of(kind, name)
    together: dict[tuple[tuple[str, Spec], ...], list[Test]] = {}
    for test in tests:
        specs = tuple((path, spec_of(array)) for path, array in test.arrays.items())
        together.setdefault(specs, []).append(test)
    if isinstance(subject, Scheme):
        source = profiles()[known_as[0]].source if known_as else "kbit_ref"
        dtype: DataType | None = subject.dtype
    else:
        dtype = subject if isinstance(subject, DataType) else None
        source = subject.source if isinstance(subject, DataType) else _layout_source(subject)
    version = str(dtype.meaning) if dtype is not None else "1"
    for specs, some in together.items():
        yield Group(kind, name, source, version, tuple(known_as), dict(specs), tuple(some))


def _layout_source(form: Layout) -> str:
    from kbit_ref.tensors.packing import rows

    return next(row.facts["source"] for row in rows() if row.arguments(form.name) is not None)
