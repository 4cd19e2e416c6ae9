"""A QTensor as entries of a file: which there are, of which type and shape, and their bytes.

    X.packed        U8, the packed codes             X.zero_points   U8, packed from the lowest bit; F32 where real
    X.scales        in the type that stores scales   X.global_scale  F32
    X.offsets       like scales; a mean is F32       X.double.packed ... the same of scales quantized again

The entries follow the fields of `QTensor`: a field more there is an entry more here.
"""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Mapping
from dataclasses import dataclass, replace
from functools import lru_cache
from typing import Any

import numpy as np
from numpy.typing import NDArray

from kbit_ref.checkpoints.container import NUMPY
from kbit_ref.checkpoints.grid import Rectangle, put, taken
from kbit_ref.checkpoints.header import Spec
from kbit_ref.checkpoints.pieces import Piece, of_a_piece
from kbit_ref.engine.codec import decode, encode
from kbit_ref.tensors.cut import Cut
from kbit_ref.tensors.dequantize import dequantize
from kbit_ref.tensors.packing import Layout, layout, pack, unpack
from kbit_ref.tensors.qtensor import QTensor
from kbit_ref.tensors.quantize import quantize
from kbit_ref.tensors.scheme import Scheme

__all__ = ["Part", "assembled", "parts", "scales_again", "values_of"]

Array = NDArray[Any]
Raw = Mapping[str, NDArray[np.uint8]]
AT_ONCE = 1 << 20  # numbers of blocks, a multiple of 8
SCALES = {"f32": "F32", "f16": "F16", "bf16": "BF16", "e8m0fnu": "F8_E8M0", "e4m3fn": "F8_E4M3"}  # others: U8 codes


@dataclass(frozen=True)
class Part:
    """One entry of a quantized tensor.

    Parameters
    ----------
    path
        The field, `scales` or `double.scales`.
    dtype, shape
        As the file has it.
    code
        The type whose codes are stored for float32 numbers; None if they stand as they are.
    layout
        Of packed small integers, or None.
    kind
        `codes`, `blocks` (a number for each block) or `whole` (for the tensor).
    signed
        Are the packed integers in two's complement?
    """

    path: str
    dtype: str
    shape: tuple[int, ...]
    code: str | None
    layout: Layout | None
    kind: str
    signed: bool = False

    def spec(self, name: str) -> Spec:
        """The entry of the tensor of that name."""
        return Spec(f"{name}.{self.path}", self.dtype, self.shape)

    @property
    def form(self) -> Layout | int:
        """The layout, or how many bytes a number has."""
        return self.layout or np.dtype(NUMPY[self.dtype]).itemsize

    def write(self, values: Any, place: NDArray[np.uint8], at: Rectangle | None = None) -> None:
        """The bytes of values, into place; they are numbers of the stored type, so nothing is rounded.

        `at` is where they stand among the numbers of all blocks; by default they are all.
        """
        flat = np.ascontiguousarray(values).reshape(-1)
        if at is not None:
            put(place, self.form, at, self._bytes(flat))
            return
        for begin in range(0, flat.size, AT_ONCE):
            some = flat[begin : begin + AT_ONCE]
            put(place, self.form, Rectangle((0, 1), (begin, begin + some.size), flat.size), self._bytes(some))

    def _bytes(self, values: Array) -> NDArray[np.uint8]:
        if self.layout:
            return pack(values.view(np.uint8) & np.uint8(2**self.layout.bits - 1), self.layout)
        if self.code is None:
            return values.view(np.uint8)
        codes = encode(self.code, values, threads=1)
        again = decode(self.code, codes, threads=1)
        assert np.array_equal(again.view(np.uint32), values.view(np.uint32)), self.path
        return codes.view(np.uint8)

    def to_values(self, raw: NDArray[np.uint8], n: int) -> Array:
        """The first n values of those bytes."""
        if self.layout:
            codes, half = unpack(raw, self.layout, n), np.uint8(2 ** (self.layout.bits - 1))
            return ((codes ^ half) - half).view(np.int8) if self.signed else codes
        size = np.dtype(NUMPY[self.dtype]).itemsize
        stored = np.require(raw.view("<f4" if self.code is None else f"<u{size}"), requirements=["A"])
        return stored if self.code is None else decode(self.code, stored, threads=1)


def parts(s: Scheme, shape: tuple[int, ...]) -> tuple[Part, ...]:
    """The entries of a tensor of that shape quantized by that scheme, known before it is.

    Examples
    --------
    >>> from kbit_ref.tensors.scheme import scheme
    >>> [(part.path, part.dtype, part.shape) for part in parts(scheme("uint4-b64-minmax-f16"), (10, 100))]
    [('packed', 'U8', (500,)), ('scales', 'F16', (1, 16)), ('offsets', 'F16', (1, 16))]
    """
    n_rows, length = s.cut.grid(shape)
    blocks = (n_rows, s.cut.per_row(length))
    found: list[Part] = []
    like = _two_blocks(s)
    for path, value in values_of(like).items():
        if isinstance(value, QTensor):
            inner = parts(value.scheme, blocks)
            found += [replace(part, path=f"{path}.{part.path}", kind="whole") for part in inner]
        elif path == "packed":
            found.append(Part(path, "U8", (s.layout.size(math.prod(shape)),), None, None, "codes"))
        elif value.shape != like.scales.shape:
            found.append(Part(path, "F32", value.shape, None, None, "whole"))
        elif value.dtype in (np.uint8, np.int8):
            bits = s.dtype.bits
            form = layout(f"low{bits}" if bits in (1, 2, 4, 8) else f"lsb{bits}")
            size, signed = form.size(math.prod(blocks)), value.dtype == np.int8
            found.append(Part(path, "U8", (size,), None, form, "blocks", signed))
        elif path == "zero_points" or s.scale_dtype == "f32":
            found.append(Part(path, "F32", blocks, None, None, "blocks"))
        else:
            dtype = SCALES.get(s.scale_dtype, "U8")
            found.append(Part(path, dtype, blocks, s.scale_dtype, None, "blocks"))
    return tuple(found)


def values_of(q: QTensor) -> dict[str, Any]:
    """What a QTensor stores, by field: arrays, scalars, and a QTensor for scales quantized again."""
    fields = {field.name: getattr(q, field.name) for field in dataclasses.fields(q)}
    if q.double is not None:
        del fields["scales"]  # a copy of what `double` says
    return {name: value for name, value in fields.items() if isinstance(value, np.ndarray | np.generic | QTensor)}


def assembled(
    s: Scheme, shape: tuple[int, ...], raw: Raw, piece: Piece | None = None, scales: Array | None = None
) -> QTensor:
    """The QTensor of the bytes of its entries, by path; or that of a piece, as an array [rows, columns].

    `scales` are those that `scales_again` gave, so that the pieces of a tensor need not ask each.
    """
    n_rows, length = s.cut.grid(shape)
    per_row = s.cut.per_row(length)
    blocks = piece.blocks if piece else Rectangle((0, n_rows), (0, per_row), per_row)
    fields: dict[str, Any] = {}
    for part in parts(s, shape):
        if "." in part.path:
            continue
        data = raw[part.path]
        if part.kind == "codes":
            fields[part.path] = taken(data, s.layout, piece.elements) if piece else data
        elif part.kind == "blocks":
            mine = taken(data, part.form, blocks) if piece else data
            fields[part.path] = part.to_values(mine, blocks.size).reshape(blocks.shape)
        else:
            fields[part.path] = part.to_values(data, math.prod(part.shape)).reshape(part.shape)[()]
    if s.double is not None:
        scales = scales_again(s, shape, raw) if scales is None else scales
        fields["scales"] = None if scales is None else scales[slice(*blocks.rows), slice(*blocks.columns)]
        if piece is None:
            fields["double"] = assembled(s.double, (n_rows, per_row), _inner(raw))
    if piece is None:
        return QTensor(shape=shape, scheme=s, **fields)
    return QTensor(shape=piece.shape, scheme=of_a_piece(s), **fields)


def scales_again(s: Scheme, shape: tuple[int, ...], raw: Raw) -> Array | None:
    """float32 [n_rows, n_blocks]: the scales that were quantized again, as numbers; None where they were not."""
    if s.double is None:
        return None
    n_rows, length = s.cut.grid(shape)
    return dequantize(assembled(s.double, (n_rows, s.cut.per_row(length)), _inner(raw)))


def _inner(raw: Raw) -> Raw:
    return {path.removeprefix("double."): data for path, data in raw.items() if path.startswith("double.")}


@lru_cache(maxsize=64)
def _two_blocks(s: Scheme) -> QTensor:
    """The smallest tensor that shows which fields there are, and which hold a number for each block."""
    small = replace(s, cut=Cut("b", 1), choices=dict(s.choices) | {"scalerange": "clamp"})
    return quantize(np.full(2, s.dtype.top, np.float32), small)
