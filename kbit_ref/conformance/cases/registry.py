"""Define cases: decorated functions that make inputs, with the subjects that they are for."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from kbit_ref.datatypes.datatype import DataType
from kbit_ref.tensors.packing import Layout
from kbit_ref.tensors.scheme import Scheme

__all__ = ["LEVELS", "Case", "Given", "Subject", "all_cases", "case", "cases_of", "spread"]

Subject = Scheme | DataType | Layout
Array = NDArray[Any]

LEVELS = ("quick", "full", "exhaustive")  # each holds the one before it


@dataclass(frozen=True, eq=False)
class Given:
    """Inputs of one test.

    Parameters
    ----------
    comment
        What they are, in a few words.
    arrays
        `x` to encode or quantize; or `codes`, and for schemes `scales`, ..., to decode or dequantize.
    level
        The first of `LEVELS` that has it.
    """

    comment: str
    arrays: Mapping[str, Array]
    level: str = "quick"


Make = Callable[[Any], Iterator[Given]]


@dataclass(frozen=True)
class Case:
    """A way to make hard inputs.

    Parameters
    ----------
    name
        In words with hyphens.
    subject
        What it is for: `Scheme`, `DataType` or `Layout`.
    catches
        The mistakes that these inputs show.
    applies
        Has it inputs for this subject?
    make
        The inputs, the most telling first.
    """

    name: str
    subject: type[Subject]
    catches: str
    applies: Callable[[Any], bool]
    make: Make

    @property
    def summary(self) -> str:
        """Return the first line of the function's docstring."""
        return (self.make.__doc__ or "").strip().splitlines()[0]

    def given(self, subject: Subject, level: str = "quick") -> Iterator[Given]:
        """Yield the inputs of a level and of those before it."""
        for given in self.make(subject):
            if LEVELS.index(given.level) <= LEVELS.index(level):
                yield given


_cases: dict[str, Case] = {}


def case(
    name: str, subject: type[Subject], *, catches: str, applies: Callable[[Any], bool] = lambda _: True
) -> Callable[[Make], Make]:
    """Decorate the function that makes the inputs of that name."""

    def decorate(make: Make) -> Make:
        assert name not in _cases, name
        _cases[name] = Case(name, subject, catches, applies, make)
        return make

    return decorate


def all_cases() -> dict[str, Case]:
    """Return all cases by name, in reading order.

    Examples
    --------
    >>> all_cases()["reciprocal-sensitive"].summary
    'quotients and products with fl(1 / scale) that lie on different sides of a midpoint, or one of them on it'
    """
    return dict(_cases)


def cases_of(subject: Subject) -> list[Case]:
    """Return the cases that have inputs for a scheme, a data type or a layout.

    Examples
    --------
    >>> import kbit_ref as kb
    >>> [case.name for case in cases_of(kb.layout("low4"))]
    ['numbered-bits', 'pairs', 'short-group', 'code-out-of-range']
    """
    return [case for case in _cases.values() if isinstance(subject, case.subject) and case.applies(subject)]


def spread(values: Array) -> Array:
    """Order values so that the first few lie all over the range: multiples of the golden ratio, sorted."""
    at = np.arange(len(values), dtype=np.uint64) * np.uint64(0x9E3779B9) % np.uint64(2**32)
    return values[np.argsort(at, kind="stable")]
