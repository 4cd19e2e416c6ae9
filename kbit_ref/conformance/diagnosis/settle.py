"""An input that tells two explanations apart."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from kbit_ref.conformance.diagnosis.evidence import Evidence
from kbit_ref.conformance.diagnosis.search import Account
from kbit_ref.errors import KbitError
from kbit_ref.tensors.probe import probe
from kbit_ref.tensors.scheme import Scheme
from kbit_ref.tensors.steps import Runner, Steps, read

__all__ = ["Settling", "settle"]

Array = NDArray[Any]
Parts = dict[str, Array]
LONGEST = 256  # elements of a block that is made simpler
SHOWN = 8  # numbers of an input that are told


@dataclass(frozen=True, eq=False)
class Settling:
    """An input for which two explanations differ.

    Parameters
    ----------
    first, second
        The names of the explanations.
    x
        The input.
    part, index
        Where their answers differ first.
    gives
        What each of the two gives there.
    """

    first: str
    second: str
    x: Array
    part: str
    index: tuple[int, ...]
    gives: tuple[float, float]

    def as_dict(self) -> dict[str, Any]:
        """Return plain values, for JSON."""
        numbers = {"x": [plain(float(value)) for value in self.x.reshape(-1)], "shape": list(self.x.shape)}
        where = {"part": self.part, "index": list(self.index), "gives": [plain(value) for value in self.gives]}
        return {"first": self.first, "second": self.second} | where | numbers

    def __str__(self) -> str:
        place = f"{self.part}[{', '.join(map(str, self.index))}]" if self.index else self.part
        a, b = (f"{value:.9g}" for value in self.gives)
        return f"{_told(self.x)}: {place} is {a} if it is {self.first}, {b} if it is {self.second}"


def plain(value: float) -> float | str:
    """Return a number that JSON has, or its name."""
    return value if np.isfinite(value) else str(value)


def settle(e: Evidence, first: Account, others: Sequence[Account]) -> Settling | None:
    """Return an input that separates the first account from another one, as simple as can be; None if none is known."""
    s = e.subject
    if not isinstance(s, Scheme):
        return None
    names = tuple(dict.fromkeys(name for piece in e.pieces for name in piece.theirs))
    base = e.bases[0]
    for run in (_runner(e, base, names), _runner(e, base, ("packed", "scales", "codes", "values"))):
        for other in others:
            two = first(base), other(base)
            for x in _trials(s):
                if two[0] is not None and two[1] is not None and _difference(run, two[0], two[1], x) is not None:
                    return _simplest(s, run, (first.name, other.name), (two[0], two[1]), x)
    return None


def _trials(s: Scheme) -> list[Array]:
    """Return arrays that tell much."""
    rng = np.random.default_rng(20261124)
    x = probe(s)
    return [x, rng.standard_normal(x.shape).astype(np.float32)]


def _runner(e: Evidence, base: Steps, names: tuple[str, ...]) -> Callable[[Steps, Array], Parts]:
    """Return how to run an implementation, on arrays, or on their bytes if it is a reader; and the parts to look at."""

    def written(steps: Steps, x: Array) -> Parts:
        made = Runner(x)(steps, keep=False).parts()
        return {name: made[name] for name in names if name in made}

    def read_only(steps: Steps, x: Array) -> Parts:
        return {"values": read(steps, Runner(x).write(base, keep=False).stored)}

    return read_only if e.reads_only else written


def _difference(
    run: Callable[[Steps, Array], Parts], first: Steps, second: Steps, x: Array
) -> tuple[str, tuple[int, ...], tuple[float, float]] | None:
    """Return where two differ first, and what they give."""
    try:
        ours, theirs = run(first, x), run(second, x)
    except (KbitError, ValueError, IndexError):
        return None
    for name, part in ours.items():
        other = theirs.get(name)
        if other is None or other.shape != part.shape:
            continue
        same = (part == other) | ((part != part) & (other != other))
        if not same.all():
            at = int(np.flatnonzero(~same.reshape(-1))[0])
            index = tuple(int(i) for i in np.unravel_index(at, part.shape))
            return name, index, (float(part.reshape(-1)[at]), float(other.reshape(-1)[at]))
    return None


def _simplest(
    s: Scheme, run: Callable[[Steps, Array], Parts], names: tuple[str, str], two: tuple[Steps, Steps], x: Array
) -> Settling:
    """Return one block of it with as many zeros as can be, if one block is enough."""

    def found(array: Array) -> Settling | None:
        where = _difference(run, *two, array)
        return None if where is None else Settling(names[0], names[1], array, *where)

    whole = found(x)
    assert whole is not None
    rows = s.cut.rows(x)
    size = min(s.cut.size or rows.shape[1], rows.shape[1])
    if size > LONGEST:
        return whole
    for row in rows[:, : rows.shape[1] // size * size].reshape(-1, size):
        block = _alone(s, row)
        best = found(block)
        if best is None:
            continue
        kept = np.arange(size)
        step = size // 2
        while step:  # zeros in place of a half, a quarter, ... of what is left
            for begin in range(0, kept.size, step):
                tried = row.copy()
                tried[np.setdiff1d(np.arange(size), np.delete(kept, np.s_[begin : begin + step]))] = 0
                made = found(_alone(s, tried))
                if made is not None:
                    best, row = made, tried
            kept = np.flatnonzero(row)
            step //= 2
        return best
    return whole


def _alone(s: Scheme, row: Array) -> Array:
    """Return an array that is one block."""
    first = s.cut.kind == "channel" or s.cut.axis == -1
    shape = (row.size,) if s.cut.axis is None else (1, row.size) if first else (row.size, 1)
    try:
        return np.ascontiguousarray(s.cut.join(row.reshape(s.cut.grid(shape)), shape))
    except (KbitError, ValueError):
        return row.reshape(shape)


def _told(x: Array) -> str:
    """Return the input, in short."""
    flat = x.reshape(-1)
    places = np.flatnonzero(flat)
    if places.size > SHOWN:
        return f"an array of shape {x.shape} (`.settle.x`)"
    numbers = ", ".join(f"{float(flat[i]):.9g} at {int(i)}" for i in places)
    return f"zeros of shape {x.shape} but for {numbers}" if places.size else f"zeros of shape {x.shape}"
