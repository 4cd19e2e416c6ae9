"""Anybody's own function as an implementation, called in this process; and what its answers are, as parts."""

from __future__ import annotations

import inspect
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from kbit_ref.conformance.implementations.arrays import as_numbers
from kbit_ref.conformance.implementations.ask import Answer, ask, ask_parts, flushes_to_zero
from kbit_ref.conformance.implementations.claims import DOUBLE
from kbit_ref.conformance.subject import Question
from kbit_ref.engine.codec import encode
from kbit_ref.exact.rules import RULES
from kbit_ref.tensors.qtensor import QTensor
from kbit_ref.tensors.scheme import Scheme

__all__ = ["Function", "parts_of", "stored_parts"]

Array = NDArray[Any]
USUAL = ("packed", "scales", "offsets", "zero_points", "global_scale")
GIVEN = ("codes", *USUAL, "scale_bytes", *DOUBLE, "shape")
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
        arrays = (numbers,) if asked.random is None else (numbers, asked.random.copy())
        return _trusted(lambda: list(ask(self.function, *arrays, shapes=shapes)))

    def quantizes(self, s: Scheme) -> Callable[..., Answer]:
        """Return what answers for an array of a format: the parts that a scheme stores."""

        def quantize(theirs: str, source: str, *, x: Array) -> Answer:
            def call() -> dict[str, Any]:
                return parts_of(s, x.shape, self.function(as_numbers(x, source)))

            (answer,) = _trusted(lambda: [ask_parts(call, [x])])
            return answer

        return quantize

    def quantizes_with_bits(self, s: Scheme) -> Callable[..., Answer]:
        """Return the same for a function of an array and random bits."""

        def quantize(x: Array, source: str, random: Array) -> Answer:
            def call() -> dict[str, Any]:
                return parts_of(s, x.shape, self.function(as_numbers(x, source), random))

            (answer,) = _trusted(lambda: [ask_parts(call, [x, random])])
            return answer

        return quantize

    @property
    def takes_shape(self) -> bool:
        """Return whether the function receives the shape of the array that it decodes."""
        return "shape" in self._names()

    def _names(self) -> list[str]:
        """Return the names of the parts that the function requests, if all or its only parameter are such names."""
        try:
            parameters = inspect.signature(self.function).parameters.values()
        except (TypeError, ValueError):
            return []
        if any(p.kind is p.VAR_KEYWORD for p in parameters):
            return [*GIVEN]
        names = [p.name for p in parameters if p.default is p.empty or p.name in GIVEN]
        return names if set(names) <= {*GIVEN} or len(names) == 1 else []

    def dequantizes(self, q: QTensor) -> Answer:
        """Answer what is stored: by the names of the parts that the function asks for, or in their usual order.

        A function of one parameter that is no such name is given the QTensor.
        """
        parts = stored_parts(q)
        names = self._names()

        def call() -> dict[str, Any]:
            if len(names) == 1 and names[0] not in GIVEN:
                got = self.function(q)
            elif names:
                got = self.function(**{name: parts[name] for name in names if name in parts})
            else:
                got = self.function(*(parts[name] for name in USUAL if name in parts))
            return {"decoded": _plain("decoded", got)}

        arrays = [part for part in parts.values() if isinstance(part, np.ndarray)]
        (answer,) = _trusted(lambda: [ask_parts(call, arrays)])
        return answer


def stored_parts(q: QTensor) -> dict[str, Any]:
    """Return what a decoder may request, by name; scales of a narrow type also as its codes, `scale_bytes`."""
    s = q.scheme
    found: dict[str, Any] = {"codes": q.codes, "shape": q.shape}
    found |= {name: getattr(q, name) for name in USUAL if getattr(q, name) is not None}
    if s.scale_dtype != "f32":
        found["scale_bytes"] = encode(s.scale_type, q.scales, threads=1)
    if q.double is not None:
        numbers = {"scale_codes": q.double.codes, "scale_scales": q.double.scales, "scale_offset": q.double.offsets}
        found |= {name: part for name, part in numbers.items() if part is not None}
    return {name: part.copy() if isinstance(part, np.ndarray) else part for name, part in found.items()}


def _trusted(call: Callable[[], list[Answer]]) -> list[Answer]:
    """Return the answers, unless the thread is left in another state."""
    before = flushes_to_zero()
    answers = call()
    return [Answer(error=FLUSHES)] if flushes_to_zero() and not before else answers


def parts_of(s: Scheme, shape: tuple[int, ...], got: Any) -> dict[str, Any]:
    """Return the parts of an answer by name.

    It may be a dict of any of `codes packed scales offsets zero_points global_scale scale_codes
    scale_scales scale_offset values`; a tuple of codes (or packed bytes), scales, and offsets or
    zero points if the scheme has them; one array, of codes, packed bytes, or the decoded real
    numbers; or a QTensor. Signed integers for a signed type are levels. Arrays may be of `ml_dtypes`;
    scales of a type of 8 or 16 bits may be its codes, as unsigned integers of that width.

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
        found = {name: getattr(got, name) for name in USUAL if getattr(got, name) is not None}
        return found if got.offsets is None or got.offsets.size == got.scales.size else _without(found, "offsets")
    if isinstance(got, Mapping):
        found = {str(name): _plain(str(name), value) for name, value in got.items() if value is not None}
        if "values" in found:
            found["decoded"] = found.pop("values")
    elif isinstance(got, (tuple, list)) and not _is_numbers(got):
        third = "offsets" if RULES[s.rule].offset_added else "zero_points"
        names = ("codes", "scales", third)
        if len(got) > len(names):
            raise TypeError(f"it returned {len(got)} arrays; give codes, scales, {third}, or a dict of parts")
        found = {name: _plain(name, value) for name, value in zip(names, got, strict=False) if value is not None}
    else:
        found = {"codes": _plain("codes", got)}
    codes = found.get("codes")
    if codes is None:
        return found
    if codes.dtype.kind == "f":
        return {"decoded": codes.astype(np.float64)} | _without(found, "codes")
    if codes.shape != shape and codes.dtype == np.uint8 and codes.size == s.layout.size(int(np.prod(shape))):
        return {"packed": codes} | _without(found, "codes")
    return found | {"codes": _as_codes(s, codes)}


def _plain(name: str, value: Any) -> Array:
    """Convert a part to a type of NumPy: codes of `ml_dtypes` to their bits, all other such numbers to float32."""
    array = np.asarray(value)
    if array.dtype.isbuiltin == 1 or array.dtype.hasobject:
        return array
    if name == "codes" and array.dtype.itemsize == 1:
        return np.ascontiguousarray(array).view(np.uint8).reshape(array.shape)
    return array.astype(np.float32)


def _without(parts: dict[str, Any], name: str) -> dict[str, Any]:
    return {key: value for key, value in parts.items() if key != name}


def _is_numbers(got: Sequence[Any]) -> bool:
    """Return whether it is a list of numbers, rather than one of arrays."""
    return all(isinstance(each, (int, float)) for each in got)


def _as_codes(s: Scheme, codes: Array) -> Array:
    """Convert signed integers, which are levels in a type with negative ones, to codes; -1 where there is none."""
    levels = s.dtype.levels
    if codes.dtype.kind != "i" or s.dtype.family != "integer" or levels.min() >= 0:
        return codes
    wide = codes.astype(np.int64)
    lowest = int(levels.min())
    table = np.full(2**s.dtype.bits + 1, -1)
    table[(levels - lowest).astype(np.int64)] = np.arange(levels.size)
    inside = (wide >= lowest) & (wide <= int(levels.max()))
    return np.where(inside, table[np.where(inside, wide - lowest, 0)], -1)
