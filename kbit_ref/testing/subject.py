"""Represent what is judged: a function that quantizes arrays, and the scheme that it claims to follow."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from kbit_ref.conformance.compare import Compared, compare
from kbit_ref.conformance.definition import reference
from kbit_ref.conformance.implementations.adapters import Adapter
from kbit_ref.conformance.implementations.function import parts_of
from kbit_ref.conformance.implementations.worker import stored
from kbit_ref.conformance.inputs.of_schemes import Case
from kbit_ref.conformance.reading import Refused, Theirs, parts_in, read, spelled
from kbit_ref.errors import BadInput, BadType, UnknownName, message
from kbit_ref.tensors.profiles import profiles
from kbit_ref.tensors.quantize import quantize
from kbit_ref.tensors.scheme import Scheme
from kbit_ref.tensors.scheme import scheme as scheme_of

__all__ = ["Answer", "Subject", "claimed"]

Array = NDArray[Any]


@dataclass(frozen=True)
class Answer:
    """The answer of a subject for an array.

    Parameters
    ----------
    parts
        As it gave them.
    codes : [*shape]
        int64, or None if it does not say them.
    numbers
        `scales`, `offsets`, `zero_points`: of those that it gave, one number a block.
    values : [*shape]
        float64: its decoded numbers, or what its codes and scales stand for; None if it does not say enough.
    """

    parts: dict[str, Array]
    codes: NDArray[np.int64] | None
    numbers: dict[str, NDArray[np.float64]]
    values: NDArray[np.float64] | None

    def same(self, other: Answer) -> bool:
        """Return whether all parts are equal to the bit."""
        alike = self.parts.keys() == other.parts.keys()
        return alike and all(_bits(self.parts[name]) == _bits(other.parts[name]) for name in self.parts)


def _bits(part: Array) -> tuple[Any, ...]:
    part = np.asarray(part)
    return part.dtype.str, part.shape, part.tobytes()


class _Function(Adapter):
    """A function in the form of an adapter."""

    library, module, install = "", "kbit_ref", ""

    def __init__(self, function: Callable[[Any], Any], s: Scheme):
        self.function, self.s = function, s

    def quantize(self, theirs: str, x: Array, source: str) -> dict[str, Any]:
        return parts_of(self.s, x.shape, self.function(x))


@dataclass(frozen=True)
class Subject:
    """An implementation of a scheme.

    Parameters
    ----------
    name
        How it is called in failures and ids.
    scheme
        What it claims.
    adapter, theirs
        Who answers, and their name of the scheme.
    shapes
        Which arrays it takes, as in `BlockProfile`: `any`, `flat`, `ragged`, `rows`.
    """

    name: str
    scheme: Scheme
    adapter: Adapter
    theirs: str = ""
    shapes: str = "any"

    @classmethod
    def of(cls, function: Callable[[Any], Any], scheme: Scheme, shapes: str = "any", name: str = "") -> Subject:
        """Make a subject of a function of one array; `kb.check` says what it may return."""
        if not callable(function):
            rule = "it cannot be called"
            raise BadType(message("testing", f"quantize = {function!r}", rule, "give a function of one array"))
        known = ("any", "flat", "ragged", "rows")
        if shapes not in known:
            raise UnknownName.among("testing", "shapes", shapes, known, f"use {', '.join(known)}")
        return cls(name or getattr(function, "__name__", "function"), scheme, _Function(function, scheme), "", shapes)

    @classmethod
    def ours(cls, scheme: Scheme) -> Subject:
        """Return the reference itself."""
        return cls.of(lambda x: quantize(x, scheme, threads=1), scheme, name="kbit_ref")

    @property
    def ragged(self) -> bool:
        """Return whether the subject takes arrays whose last block is short."""
        return self.shapes in ("any", "ragged")

    def fit(self, x: Array) -> Array:
        """Return x in a shape that the subject takes."""
        if self.shapes in ("any", "flat") or self.scheme.cut.axis is not None:
            return x
        size = self.scheme.cut.size
        whole = size is not None and x.size % size == 0
        return x.reshape(-1, size or 1) if whole and self.shapes == "rows" else x.reshape(1, -1)

    def ask(self, x: Array) -> Theirs:
        """Return the parts of its answer, in the form of the reference.

        Raises
        ------
        Refused
            It raised an exception, changed x, or did not give what it must.
        """
        return read(self.scheme, x.shape, self._parts(x))

    def _parts(self, x: Array) -> dict[str, Array]:
        saved = x.copy()
        found = stored(self.adapter, self.theirs, x.dtype.name, {"x": x})
        if found.error and x.flags.writeable:  # it may have been changed, and is wanted as it was, in its own strides
            x[...] = saved
        return parts_in(found)

    def answer(self, x: Array) -> Answer:
        """Return its whole answer. Raises `Refused` too."""
        parts = self._parts(x)
        theirs = read(self.scheme, x.shape, parts)
        values = theirs.decoded if theirs.decoded is not None else spelled(self.scheme, x.shape, theirs)
        codes = theirs.stored.codes if theirs.has_codes else None
        return Answer(parts, codes, theirs.stored.blocks, values)

    def compared(self, x: Array) -> Compared:
        """Compare its answer with the reference, part by part. Raises `Refused` too."""
        theirs = self.ask(x)
        alone = theirs.decoded is not None and not theirs.says_numbers
        kind = x.dtype.name
        return compare(self.scheme, Case("", kind, x), reference(self.scheme, x, kind, decoded=alone), theirs)

    def differs(self, x: Array) -> bool:
        """Return whether anything is wrong with its answer."""
        try:
            return any(wrong.any() for wrong in self.compared(x).wrong.values())
        except Refused:
            return True


def claimed(function: str, scheme: Scheme | str | None, profile: str | None) -> Scheme:
    """Return the scheme that is meant by a scheme, a profile, or a profile of a scheme.

    Raises
    ------
    BadInput
        `assert_conforms: profile = 'ggml-q4_0', it is no profile of nf4-b64-absmax-f32; ...`
    """
    if profile is None:
        if scheme is None:
            rule = "it says nothing of what to expect"
            raise BadInput(message(function, "scheme = None, profile = None", rule, "give one of them"))
        return scheme_of(scheme)
    if profile not in profiles():
        remedy = "kb.profiles() has all"
        raise UnknownName.among(function, "profile", profile, profiles(), remedy)
    meant = scheme_of(profile)
    if scheme is not None:
        plain = scheme_of(scheme)
        if plain.choices or (plain.dtype.name.partition("+")[0], plain.rule, plain.scale_dtype) != (
            *(meant.dtype.name.partition("+")[0], meant.rule, meant.scale_dtype),
        ):
            rule = f"it is no profile of {plain}"
            raise BadInput(message(function, f"profile = {profile!r}", rule, f"leave the scheme out: it is {meant}"))
    return meant
