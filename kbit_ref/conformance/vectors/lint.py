"""Check a file beyond its schema: numbers, flags and notes, names, and that the arrays fit together."""

from __future__ import annotations

import math
from collections.abc import Iterator

from kbit_ref.conformance.vectors.model import Group, Test, Vectors
from kbit_ref.conformance.vectors.subjects import Subject, subject_of
from kbit_ref.datatypes.datatype import DataType
from kbit_ref.errors import KbitError
from kbit_ref.tensors.packing import Layout
from kbit_ref.tensors.scheme import Scheme, scheme

__all__ = ["lint"]

FLOATS = ("F16", "F32", "F64")


def lint(vectors: Vectors, n_tests: int) -> Iterator[str]:
    """Yield the problems of a file with a valid document; `n_tests` is the number of tests that it claims."""
    numbers = [test.number for _, test in vectors.tests()]
    if numbers != list(range(1, len(numbers) + 1)):
        yield "the numbers of the tests (tcId) are not 1, 2, 3, ..."
    if n_tests != len(numbers):
        yield f"numberOfTests is {n_tests}, and there are {len(numbers)}"
    flagged = set(vectors.flagged())
    for flag in sorted(flagged ^ set(vectors.notes)):
        yield f"flag {flag} has no note" if flag in flagged else f"note {flag} is of no test's flag"
    for number, group in enumerate(vectors.groups):
        for problem in _group(group):
            yield f"group {number} ({group.type} {group.name[:80]!a}): {problem}"


def _group(group: Group) -> Iterator[str]:
    try:
        subject = subject_of(group.type, group.name)
        others = [name for name in group.profiles if str(scheme(name)) != group.name]
    except KbitError as error:
        yield str(error)
        return
    if str(subject) != group.name:
        yield f"its own spelling is {subject}"
    for name in others:
        yield f"profile {name[:80]!a} is another scheme"
    dtype = subject.dtype if isinstance(subject, Scheme) else subject
    if isinstance(dtype, DataType) and group.version != str(dtype.meaning):
        yield f"it is for version {group.version[:20]!a} of {dtype.name}, which now means version {dtype.meaning}"
    yield from _arrays(subject, group)
    for test in group.tests:
        yield from _test(test, _result(group))


def _result(group: Group) -> str:
    """Return the result that tests with such arrays have."""
    heads = {path.partition("/")[0] for path in group.arrays}
    return "acceptable" if "alternatives" in heads else "valid" if "expected" in heads else "invalid"


def _test(test: Test, result: str) -> Iterator[str]:
    if test.result != result:
        yield f"test {test.number} is {test.result}, its arrays are those of one that is {result}"


def _arrays(subject: Subject, group: Group) -> Iterator[str]:
    """Yield the problems of the arrays of tests: which there are, and whether their shapes fit together."""
    specs = group.arrays
    wanted = [set(paths) for paths in _inputs(subject)]
    inputs = {path.removeprefix("inputs/") for path in specs if path.startswith("inputs/")}
    if not any(some <= inputs for some in wanted):
        needed = " or ".join("+".join(sorted(some)) for some in wanted)
        yield f"its inputs are {', '.join(sorted(inputs)) or 'none'}, not {needed}"
        return
    expected = {path.removeprefix("expected/") for path in specs if path.startswith("expected/")}
    for name in sorted(_outputs(subject, "x" in inputs) - expected) if expected else ():
        yield f"expected/{name} is missing"
    given = specs["inputs/x"] if "x" in inputs else specs["inputs/codes"]
    size = math.prod(given.shape)
    whole = {"codes": ("U8", "U16"), "packed": ("U8",), "zero_points": ("U8", "I8", "F32")}
    for path, spec in specs.items():
        name = path.rpartition("/")[2].removeprefix("double.")
        kinds = whole.get(name, FLOATS)
        if spec.dtype not in kinds:
            yield f"{path} is of type {spec.dtype}, not {' or '.join(kinds)}"
        if name in ("codes", "values") and spec.shape != given.shape:
            yield f"{path} has shape {list(spec.shape)}, x or codes have {list(given.shape)}"
        form = subject if isinstance(subject, Layout) else subject.layout if isinstance(subject, Scheme) else None
        if form is not None and path.endswith("/packed") and spec.shape != (form.size(size),):
            yield f"{path} has shape {list(spec.shape)}, {size} codes in {form.name} take {form.size(size)} bytes"
    if isinstance(subject, Scheme):
        try:
            rows, length = subject.cut.grid(given.shape)
        except KbitError as error:
            yield str(error)
            return
        blocks = rows, subject.cut.per_row(length)
        for path, spec in specs.items():
            if path.endswith("/scales") and spec.shape != blocks:
                yield f"{path} has shape {list(spec.shape)}, there are {list(blocks)} blocks"


def _outputs(subject: Subject, x: bool) -> set[str]:
    """Return what a test must expect, if it expects anything."""
    if isinstance(subject, Layout):
        return {"packed"}
    if not x:
        return {"values"}
    return {"codes"} if isinstance(subject, DataType) else {"codes", "packed", "scales", "values"}


def _inputs(subject: Subject) -> list[list[str]]:
    """Return the sets of inputs that a test may have."""
    if isinstance(subject, Layout):
        return [["codes"]]
    return [["x"], ["codes"]] if isinstance(subject, DataType) else [["x"], ["codes", "packed", "scales"]]
