"""Bytes that are not those of their codes: in which layout they are, and the simplest row that shows it."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any

import numpy as np
from numpy.typing import NDArray

from kbit_ref.conformance.compare import Compared
from kbit_ref.conformance.definition import repacked
from kbit_ref.conformance.diagnosis.counterexample import complexity, shrink, spell_block, spell_code
from kbit_ref.conformance.inputs.of_schemes import narrowed
from kbit_ref.conformance.reading import Refused
from kbit_ref.conformance.verdict import Counterexample, Difference
from kbit_ref.tensors.packing import Layout, rows
from kbit_ref.tensors.scheme import Scheme

__all__ = ["packed_kinds"]

Ask = Callable[[NDArray[Any]], Compared]
OTHER = "other bits"


def packed_kinds(s: Scheme, found: list[Compared], form: Layout, ask: Ask) -> list[Difference]:
    """Describe the bytes that differ.

    Parameters
    ----------
    form
        The layout by which most of their codes are ours.
    ask
        Runs the program on other rows; raises `Refused` where that cannot be done.
    """
    counts: dict[str, int] = {}
    first: dict[str, tuple[Compared, int]] = {}
    for compared in found:
        for row, cause, wrong in _causes(s, compared, form):
            counts[cause] = counts.get(cause, 0) + wrong
            best = first.setdefault(cause, (compared, row))
            if _complexity(compared, row) < _complexity(*best):
                first[cause] = compared, row
    return [
        Difference(cause, _why(s, cause, form), count, _example(s, *_simplest(s, first[cause], cause, form, ask), form))
        for cause, count in counts.items()
    ]


def _causes(s: Scheme, compared: Compared, form: Layout) -> Iterator[tuple[int, str, int]]:
    """Yield number, cause and count of each row of which bytes differ."""
    theirs, codes = _bytes(compared, "packed"), compared.theirs.in_order.reshape(compared.case.words.shape)
    wrong = (theirs != _bytes(compared, "repacked")).sum(axis=1)
    for row in np.flatnonzero(wrong):
        other = form is not s.layout and np.array_equal(theirs[row], repacked(s, codes[row], form))
        yield int(row), f"+layout={form.name}" if other else OTHER, int(wrong[row])


def _bytes(compared: Compared, which: str) -> NDArray[np.uint8]:
    """Return theirs, or those that their codes make, [m, n_bytes]."""
    found: NDArray[np.uint8] = getattr(compared.theirs, which)
    return found.reshape(len(compared.case.words), -1)


def _complexity(compared: Compared, row: int) -> tuple[float, ...]:
    numbers = compared.case.numbers[row]
    return (numbers.size, *complexity(numbers.astype(np.float32)))


def _simplest(s: Scheme, first: tuple[Compared, int], cause: str, form: Layout, ask: Ask) -> tuple[Compared, int]:
    """Return the simplest row of the same length that shows it still."""
    compared, row = first
    source = compared.case.source

    def shows(some: NDArray[np.float32]) -> NDArray[np.bool_]:
        result = np.zeros(len(some), bool)
        try:
            answered = ask(narrowed(some, source))
        except Refused:
            return result
        result[[row for row, other, _ in _causes(s, answered, form) if other == cause]] = True
        return result

    block = shrink(compared.case.numbers[row].astype(np.float32), shows)
    if not shows(block[None])[0]:
        return first
    return ask(narrowed(block[None], source)), 0


def _example(s: Scheme, compared: Compared, row: int, form: Layout) -> Counterexample:
    """Return the first byte that differs, and the codes that it should hold."""
    theirs, ours = _bytes(compared, "packed")[row], _bytes(compared, "repacked")[row]
    at = int(np.flatnonzero(theirs != ours)[0])
    codes = compared.theirs.in_order.reshape(compared.case.words.shape)[row]
    group, byte = divmod(at, s.layout.bytes)
    inside = sorted({element for where, element, _, _ in s.layout.moves if where == byte})
    places = [place for place in (group * s.layout.elements + element for element in inside) if place < codes.size]
    steps = [f"codes of this byte: {', '.join(f'[{i}] {spell_code(s.dtype, int(codes[i]))}' for i in places)}"]
    steps += [f"{one.name}: {_summary(one)}" for one in dict.fromkeys((form, s.layout))]
    text = spell_block(compared.case.numbers[row])
    return Counterexample(
        compared.case.source, text, f"0x{theirs[at]:02x}", f"0x{ours[at]:02x}", tuple(steps), at=f"byte {at}"
    )


def _why(s: Scheme, cause: str, form: Layout) -> str:
    if cause == OTHER:
        return f"the bytes are not those that their codes make in the layout {s.layout.name}"
    return f"the right codes, their bytes in the layout {form.name}, not in {s.layout.name}"


def _summary(form: Layout) -> str:
    """Return what the registry says of a layout."""
    return next((row.summary for row in rows() if row.arguments(form.name) is not None), "")
