"""Compute the answers to a case by the definition: `kb.exact` alone, and the places of bits in a layout one by one."""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from fractions import Fraction
from typing import Any

import numpy as np
from numpy.typing import NDArray

from kbit_ref import exact
from kbit_ref.conformance.cases import Given
from kbit_ref.datatypes.datatype import DataType
from kbit_ref.errors import BadInput, KbitError
from kbit_ref.exact.arithmetic import as_number
from kbit_ref.exact.quantize import Block, Quantized
from kbit_ref.exact.rules import RULES
from kbit_ref.tensors.packing import Layout
from kbit_ref.tensors.scheme import Scheme

__all__ = ["Answer", "answer", "packed"]

Array = NDArray[Any]


@dataclass
class Answer:
    """Inputs as a test gives them, and what is right: arrays by the names of parts."""

    inputs: dict[str, Array]
    result: str = "valid"
    expected: dict[str, Array] = field(default_factory=dict)
    alternatives: dict[str, dict[str, Array]] = field(default_factory=dict)


def answer(subject: Scheme | DataType | Layout, given: Given) -> Answer:
    """Return what the definition makes of the inputs of a case.

    Examples
    --------
    >>> import kbit_ref as kb
    >>> found = answer(kb.datatype("e4m3fn"), Given("beyond", {"x": np.float32([500])}))
    >>> found.result, found.expected["codes"], {name: a["codes"] for name, a in found.alternatives.items()}
    ('acceptable', array([126], dtype=uint8), {'overflow=ieee': array([127], dtype=uint8)})
    """
    arrays = dict(given.arrays)
    if isinstance(subject, Layout):
        return _of_layout(subject, arrays)
    try:
        if isinstance(subject, DataType):
            return _of_type(subject, arrays)
        return _quantized(subject, arrays["x"]) if "x" in arrays else _stored(subject, arrays)
    except BadInput:
        return Answer(arrays, "invalid")


# Layouts -----------------------------------------------------------------------------------------


def packed(layout: Layout, codes: Sequence[int], fill: int = 0) -> NDArray[np.uint8]:
    """Return the bytes of codes, bit by bit, a short last group filled up, uint8 [n_bytes].

    Examples
    --------
    >>> import kbit_ref as kb
    >>> [hex(byte) for byte in packed(kb.layout("high4"), [1, 2, 3])]
    ['0x12', '0x30']
    """
    full = [*codes, *[fill] * (-len(codes) % layout.elements)]
    found: list[int] = []
    for begin in range(0, len(full), layout.elements):
        group = full[begin : begin + layout.elements]
        if layout.digits:
            for elements in layout.digits:
                v = sum(3 ** (4 - i) * group[element] for i, element in enumerate(elements))
                found.append(math.ceil(Fraction(v * 256, 243)))
            continue
        bits = [0 if place is None else group[place[0]] >> place[1] & 1 for place in layout.places]
        found += [sum(bit << i for i, bit in enumerate(bits[at : at + 8])) for at in range(0, len(bits), 8)]
    return np.array(found, np.uint8)


def _of_layout(layout: Layout, arrays: dict[str, Array]) -> Answer:
    codes = arrays["codes"].tolist()
    if any(code >= layout.codes for code in codes):
        return Answer(arrays, "invalid")
    return Answer(arrays, "valid", {"packed": packed(layout, codes)})


# Data types --------------------------------------------------------------------------------------


def _of_type(dtype: DataType, arrays: dict[str, Array]) -> Answer:
    if "codes" in arrays:
        levels = exact.decode(dtype, arrays["codes"].tolist())
        return Answer(arrays, "valid", {"values": _floats(levels, dtype.level_dtype)})
    codes = _codes(dtype, arrays["x"])
    found = Answer(arrays, "valid", {"codes": codes})
    others = {f"nan={code:#x}": np.where(codes == dtype.nan_code, code, codes) for code in _other_nans(dtype)}
    for choice in ("overflow", "zero_sign"):
        for value in exact.CHOICES[choice]:
            try:
                others[f"{choice}={value}"] = _codes(dtype.with_choices(**{choice: value}), arrays["x"])
            except KbitError:  # the type cannot have it
                continue
    distinct = [codes]
    for name, other in others.items():
        if not any(np.array_equal(other, one) for one in distinct):
            distinct.append(other)
            found.alternatives[name] = {"codes": other.astype(codes.dtype)}
    found.result = "acceptable" if found.alternatives else "valid"
    return found


def _other_nans(dtype: DataType) -> list[int]:
    """Return the codes of NaN that `encode` does not give."""
    if dtype.nan_code is None:
        return []
    return [int(code) for code in np.flatnonzero(np.isnan(dtype.levels)) if code != dtype.nan_code]


def _codes(dtype: DataType, x: Array) -> Array:
    return np.array(exact.encode(dtype, x.tolist()), dtype.code_dtype)


def _floats(numbers: Iterable[Any], dtype: Any = np.float32) -> Array:
    """Return numbers of the definition in a format that holds them exactly."""
    return np.array([float(number) for number in numbers], dtype)


# Schemes -----------------------------------------------------------------------------------------


def _quantized(s: Scheme, x: Array) -> Answer:
    q = exact.quantize(x, s)
    expected = _parts(s, q, x.shape)
    expected["values"] = _values(s, q, x.shape)
    return Answer({"x": x}, "valid", expected)


def _parts(s: Scheme, q: Quantized, shape: tuple[int, ...]) -> dict[str, Array]:
    """Return what is stored, by the names that `QTensor` has."""
    rows = np.array(q.codes, np.uint8).reshape(s.cut.grid(shape))
    blocks = [block for row in q.rows for block in row]
    grid = (len(q.rows), -1)
    parts = {
        "codes": np.ascontiguousarray(s.cut.join(rows, shape)),
        "packed": packed(s.layout, rows.reshape(-1).tolist(), s.fill),
        "scales": _floats(block.scale for block in blocks).reshape(grid),
    }
    if q.mean is not None:
        parts["offsets"] = _floats([q.mean]).reshape(1, 1)
    elif blocks[0].offset is not None:
        parts["offsets"] = _floats(block.offset for block in blocks).reshape(grid)
    if blocks[0].zero_point is not None:
        kind = RULES[s.rule].zero_point
        whole = np.uint8 if s.dtype.levels.min() >= 0 else np.int8
        zeros = _floats((block.zero_point for block in blocks), np.float32 if kind == "real" else np.float64)
        parts["zero_points"] = (zeros if kind == "real" else zeros.astype(whole)).reshape(grid)
    if q.global_scale is not None:
        parts["global_scale"] = _floats([q.global_scale])[0].reshape(())
    if q.double is not None and s.double is not None:
        inner = _parts(s.double, q.double, parts["scales"].shape)
        parts |= {f"double.{name}": part for name, part in inner.items() if name != "codes"}
    return parts


def _values(s: Scheme, q: Quantized, shape: tuple[int, ...]) -> Array:
    rows = [_floats(row) for row in exact.dequantize(q, s)]
    return np.ascontiguousarray(s.cut.join(np.array(rows, np.float32).reshape(s.cut.grid(shape)), shape))


def _stored(s: Scheme, arrays: Mapping[str, Array]) -> Answer:
    """Return parts that nobody quantized."""
    codes = arrays["codes"]
    n_rows, length = s.cut.grid(codes.shape)
    rows = s.cut.rows(codes).tolist()
    width = s.cut.size or length

    def each(name: str, row: int, block: int) -> Any:
        return as_number(arrays[name][row, block]) if name in arrays else None

    q = Quantized()
    q.global_scale = as_number(arrays["global_scale"]) if "global_scale" in arrays else None
    for row in range(n_rows):
        q.rows.append([])
        for block, begin in enumerate(range(0, length, width)):
            offset, zero = each("offsets", row, block), each("zero_points", row, block)
            part = rows[row][begin : begin + width]
            q.rows[-1].append(Block(part, each("scales", row, block), offset, zero))
    flat = [code for row in rows for code in row]
    inputs = {"codes": codes, "packed": packed(s.layout, flat, s.fill), **arrays}
    return Answer(inputs, "valid", {"values": _values(s, q, codes.shape)})
