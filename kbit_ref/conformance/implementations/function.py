"""Anybody's own function as an implementation, called in this process; and what its answers are, as parts."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from kbit_ref.conformance.implementations.arrays import as_numbers
from kbit_ref.conformance.implementations.ask import Answer, ask, ask_parts, flushes_to_zero
from kbit_ref.conformance.subject import Question
from kbit_ref.exact.rules import RULES
from kbit_ref.tensors.qtensor import QTensor
from kbit_ref.tensors.scheme import Scheme

__all__ = ["Function", "parts_of"]

Array = NDArray[Any]
FIELDS = ("packed", "scales", "offsets", "zero_points", "global_scale")
FLUSHES = "it leaves flush-to-zero switched on in this thread; nothing after it can be trusted"


class Function:
    """A function as an implementation: it has no version, and nothing is known of it."""

    library = ""
    known = ()

    def __init__(self, function: Callable[..., Any]):
        self.function = function
        self.name = str(getattr(function, "__name__", "function"))

    def version(self) -> str:
        """Return nothing."""
        return ""

    def convert(self, asked: Question, shapes: bool) -> list[Answer]:
        """Answer a question about a data type, and if wished in every arrangement."""
        words = asked.inputs.words.copy()
        numbers = words if asked.what == "decode" else as_numbers(words, asked.inputs.kind)
        return _trusted(lambda: list(ask(self.function, numbers, shapes=shapes)))

    def quantizes(self, s: Scheme) -> Callable[..., Answer]:
        """Return what answers for an array of a format: the parts that a scheme stores."""

        def quantize(theirs: str, source: str, *, x: Array) -> Answer:
            def call() -> dict[str, Any]:
                return parts_of(s, x.shape, self.function(as_numbers(x, source)))

            (answer,) = _trusted(lambda: [ask_parts(call, [x])])
            return answer

        return quantize


def _trusted(call: Callable[[], list[Answer]]) -> list[Answer]:
    """The answers, unless the thread is left in another state."""
    before = flushes_to_zero()
    answers = call()
    return [Answer(error=FLUSHES)] if flushes_to_zero() and not before else answers


def parts_of(s: Scheme, shape: tuple[int, ...], got: Any) -> dict[str, Any]:
    """An answer by the names of its parts.

    It may be a dict of any of `codes packed scales offsets zero_points global_scale scale_codes
    scale_scales scale_offset values`; a tuple of codes (or packed bytes), scales, and offsets or
    zero points if the scheme has them; one array, of codes, packed bytes, or the decoded real
    numbers; or a QTensor. Signed integers for a signed type are levels.

    Examples
    --------
    >>> import kbit_ref as kb
    >>> s = kb.scheme("int4-b2-absmax-f32")
    >>> sorted(parts_of(s, (2,), (np.array([1, -1], np.int8), [0.5])))
    ['codes', 'scales']
    >>> parts_of(s, (2,), np.array([1, -1], np.int8))
    {'codes': array([ 1, 15])}
    """
    if isinstance(got, QTensor):
        found = {name: getattr(got, name) for name in FIELDS if getattr(got, name) is not None}
        return found if got.offsets is None or got.offsets.size == got.scales.size else _without(found, "offsets")
    if isinstance(got, Mapping):
        found = {str(name): np.asarray(value) for name, value in got.items() if value is not None}
        if "values" in found:
            found["decoded"] = found.pop("values")
    elif isinstance(got, (tuple, list)) and not _is_numbers(got):
        third = "offsets" if RULES[s.rule].offset_added else "zero_points"
        names = ("codes", "scales", third)
        if len(got) > len(names):
            raise TypeError(f"it returned {len(got)} arrays; give codes, scales, {third}, or a dict of parts")
        found = {name: np.asarray(value) for name, value in zip(names, got, strict=False) if value is not None}
    else:
        found = {"codes": np.asarray(got)}
    codes = found.get("codes")
    if codes is None:
        return found
    if codes.dtype.kind == "f" or codes.dtype.name == "bfloat16":
        return {"decoded": codes.astype(np.float64)} | _without(found, "codes")
    if codes.shape != shape and codes.dtype == np.uint8 and codes.size == s.layout.size(int(np.prod(shape))):
        return {"packed": codes} | _without(found, "codes")
    return found | {"codes": _as_codes(s, codes)}


def _without(parts: dict[str, Any], name: str) -> dict[str, Any]:
    return {key: value for key, value in parts.items() if key != name}


def _is_numbers(got: Sequence[Any]) -> bool:
    """Is it a list of numbers, rather than one of arrays?"""
    return all(isinstance(each, (int, float)) for each in got)


def _as_codes(s: Scheme, codes: Array) -> Array:
    """Signed integers of a type with negative levels are levels: the code of each; -1 where there is none."""
    levels = s.dtype.levels
    if codes.dtype.kind != "i" or s.dtype.family != "integer" or levels.min() >= 0:
        return codes
    wide = codes.astype(np.int64)
    lowest = int(levels.min())
    table = np.full(2**s.dtype.bits + 1, -1)
    table[(levels - lowest).astype(np.int64)] = np.arange(levels.size)
    inside = (wide >= lowest) & (wide <= int(levels.max()))
    return np.where(inside, table[np.where(inside, wide - lowest, 0)], -1)
