"""Packing: which bit of which code goes in which byte.

A layout cuts the codes in groups of `elements`, and lays every group into `bytes` bytes. That is
all there is: a layout is one list, `places`, that says for each bit of a group, in the order of
the bytes with the lowest bit first, which element it comes from and which of its bits it is; `pack`
does it by shifts of whole arrays. A short last group is filled up with code 0.
The one exception writes codes 0, 1, 2 as the digits of a number to base 3, five in a byte.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from functools import cached_property, lru_cache
from typing import Any

import numpy as np
from numpy.typing import NDArray

from kbit_ref.errors import BadInput, BadType, UnknownName, message
from kbit_ref.inputs import as_codes, refuse_codes
from kbit_ref.registry import Registry, Row

__all__ = ["Layout", "layout", "layouts", "pack", "pack_into", "unpack", "unpack_from"]

Bytes = NDArray[np.uint8]


@dataclass(frozen=True)
class Layout:
    """Where the bits of a group of codes lie.

    Parameters
    ----------
    bits
        Width of a code.
    elements
        How many codes make a group.
    places
        For every bit of the group's bytes (bit 0 is the lowest of the first byte): the pair
        (element, bit of its code), or None for a bit that is always 0.
    digits
        Instead of places, for every byte the elements that are its digits to base 3, the highest first.
    """

    bits: int
    elements: int
    places: tuple[tuple[int, int] | None, ...]
    name: str = ""
    digits: tuple[tuple[int, ...], ...] = ()

    @property
    def bytes(self) -> int:
        """Bytes of a group."""
        return len(self.digits) or len(self.places) // 8

    @property
    def codes(self) -> int:
        """How many codes it can write: 2**bits, or 3."""
        return 3 if self.digits else int(2**self.bits)

    @cached_property
    def moves(self) -> tuple[tuple[int, int, int, int], ...]:
        """Runs of neighbouring bits as (byte, element, mask, shift): byte |= shifted(code & mask)."""
        masks: dict[tuple[int, int, int], int] = {}
        for position, place in enumerate(self.places):
            if place is not None:
                byte, at = divmod(position, 8)
                element, bit = place
                key = (byte, element, at - bit)
                masks[key] = masks.get(key, 0) | 1 << bit
        return tuple((byte, element, mask, shift) for (byte, element, shift), mask in masks.items())

    def size(self, n: int) -> int:
        """Bytes that n codes take."""
        return -(-n // self.elements) * self.bytes

    def pack(self, codes: Any) -> Bytes:
        """As `kbit_ref.pack`."""
        return pack(codes, self)

    def unpack(self, buffer: Any, n: int) -> Bytes:
        """As `kbit_ref.unpack`."""
        return unpack(buffer, self, n)

    def __str__(self) -> str:
        return self.name


_registry: Registry[Layout] = Registry()


def _in_order(bits: int, order: list[int], word: int, *, high_first: bool = False) -> Layout:
    """Codes side by side in words of `word` bits, element order[i] in the i-th place from the low end."""
    slots = list(reversed(order)) if high_first else order
    spare = word - bits * len(order)
    places = [(element, bit) for element in slots for bit in range(bits)]
    return Layout(bits, len(order), (*places, *[None] * spare))


@_registry.row(
    "low{bits}", facts={"source": "ONNX INT4, torchao MX, compressed-tensors FP4"}, parameters={"bits": (1, 2, 4, 8)}
)
def low(bits: int) -> Layout:
    """The first element in the lowest bits of the byte."""
    return _in_order(bits, list(range(8 // bits)), 8)


@_registry.row(
    "high{bits}", facts={"source": "bitsandbytes, torchao NF4, MatMulBnb4"}, parameters={"bits": (1, 2, 4, 8)}
)
def high(bits: int) -> Layout:
    """The first element in the highest bits of the byte."""
    return _in_order(bits, list(range(8 // bits)), 8, high_first=True)


@_registry.row(
    "split{bits}x{size}",
    facts={"source": "GGUF Q4_0 and its kin: 4 bits, 32 elements"},
    parameters={"bits": (2, 4), "size": (16, 32, 64, 128, 256)},
)
def split(bits: int, size: int) -> Layout:
    """Blocks of `size`: byte j holds elements j, j + size/parts, ... from the lowest bits up."""
    parts, n_bytes = 8 // bits, size * bits // 8
    places = [(byte + part * n_bytes, bit) for byte in range(n_bytes) for part in range(parts) for bit in range(bits)]
    return Layout(bits, size, tuple(places))


@_registry.row("lsb{bits}", facts={"source": "GPTQ, MLX, compressed-tensors 0.18"}, parameters={"bits": range(2, 9)})
def lsb(bits: int) -> Layout:
    """A dense stream of bits, each code and each byte from its lowest bit."""
    places = [(element, bit) for element in range(8) for bit in range(bits)]
    return Layout(bits, 8, tuple(places))


@_registry.row("msb{bits}", facts={"source": "big-endian bit streams"}, parameters={"bits": range(2, 9)})
def msb(bits: int) -> Layout:
    """A dense stream of bits, each code and each byte from its highest bit."""
    stream = [(element, bits - 1 - bit) for element in range(8) for bit in range(bits)]
    places = [stream[8 * byte + 7 - at] for byte in range(bits) for at in range(8)]
    return Layout(bits, 8, tuple(places))


@_registry.row("word{bits}", facts={"source": "compressed-tensors before 0.18"}, parameters={"bits": range(2, 9)})
def word(bits: int) -> Layout:
    """32 // bits codes in a little-endian 32-bit word, from the lowest bit; what is left over is 0."""
    return _in_order(bits, list(range(32 // bits)), 32)


@_registry.row(
    "planes{bits}x{size}",
    facts={"source": "bitsandbytes k-bit (pull request 1858): 32 elements"},
    parameters={"bits": range(2, 9), "size": (32, 64)},
)
def planes(bits: int, size: int) -> Layout:
    """Blocks of `size`: all bits 0, then all bits 1, ...; element j at bit j of a little-endian word."""
    return Layout(bits, size, tuple((element, bit) for bit in range(bits) for element in range(size)))


@_registry.row("awq4", facts={"source": "AutoAWQ GEMM"}, parameters={})
def awq() -> Layout:
    """8 codes in a little-endian 32-bit word: nibble i holds element 0 2 4 6 1 3 5 7 [i]."""
    return _in_order(4, [0, 2, 4, 6, 1, 3, 5, 7], 32)


@_registry.row("ggml5x32", facts={"source": "GGUF Q5_0 and Q5_1"}, parameters={})
def ggml_five() -> Layout:
    """Blocks of 32: a little-endian word of the highest bits, element j at bit j; then the other four as split4x32."""
    highest = [(element, 4) for element in range(32)]
    return Layout(5, 32, (*highest, *split(4, 32).places))


@_registry.row("trits2x256", facts={"source": "GGUF TQ1_0"}, parameters={})
def trits() -> Layout:
    """Blocks of 256 codes 0, 1, 2: byte = ceil(v * 256 / 243), v a number of five digits to base 3.

    Byte j of the first 32 holds elements j, j + 32, ... j + 128; of the next 16: 160 + j, 176 + j, ...;
    of the last 4: 240 + j, 244 + j, 248 + j, 252 + j, and 0 as its fifth digit.
    """
    digits = [tuple(range(j, 160, 32)) for j in range(32)]
    digits += [tuple(range(160 + j, 240, 16)) for j in range(16)]
    digits += [tuple(range(240 + j, 256, 4)) for j in range(4)]
    return Layout(2, 256, (), digits=tuple(digits))


def layouts() -> tuple[str, ...]:
    """Return the names of all layouts.

    Examples
    --------
    >>> layouts()[:3]
    ('low1', 'low2', 'low4')
    """
    return tuple(_registry.names())


def rows() -> tuple[Row[Layout], ...]:
    """The rows of the registry of layouts."""
    return tuple(_registry.rows)


@lru_cache
def layout(name: str | Layout) -> Layout:
    """Return the layout of that name.

    Raises
    ------
    UnknownName
        `layout: name = 'low3', there is no such name; did you mean low4, low2, low8? ...`

    Examples
    --------
    >>> layout("lsb3").elements, layout("lsb3").bytes
    (8, 3)
    """
    if isinstance(name, Layout):
        return name
    found = _registry.find(name) if isinstance(name, str) else None
    if found is None:
        raise UnknownName.among("layout", "name", name, layouts(), "kb.layouts() has all")
    made = found[1]
    return replace(made, name=name)


def pack(codes: Any, layout: str | Layout) -> Bytes:
    """Pack codes into bytes.

    Parameters
    ----------
    codes : [*shape]
        Integers below 2**bits, packed in C order.
    layout
        A `Layout` or its name.

    Returns
    -------
    uint8 [n_bytes]; a short last group is filled up with code 0.

    Raises
    ------
    BadInput
        `pack: codes[1] = 16, codes of 4 bits are 0 to 15; mask or unpack them first`

    Examples
    --------
    >>> [hex(b) for b in pack([1, 2, 3], "low4")], [hex(b) for b in pack([1, 2, 3], "high4")]
    (['0x21', '0x3'], ['0x12', '0x30'])
    """
    form = _form(layout)
    flat = np.ascontiguousarray(as_codes("pack", codes, form.bits)).reshape(-1)
    if flat.size and form.bits < 8 and int(flat.max()) >= 2**form.bits:
        refuse_codes("pack", flat, form.bits)
    if form.digits and flat.size and int(flat.max()) >= form.codes:
        got = f"codes[{int((flat >= form.codes).argmax())}] = {int(flat.max())}"
        raise BadInput(message("pack", got, f"{form.name} writes codes 0 to {form.codes - 1}", "use low2"))

    packed = np.empty(form.size(flat.size), np.uint8)
    pack_into(packed, flat, form)
    return packed


def pack_into(packed: Bytes, codes: Bytes, form: Layout, first: int = 0, fill: int = 0) -> None:
    """Write the bytes of codes, C-contiguous and in range, of which the first begins a group of the layout."""
    flat = codes.reshape(-1)
    n_groups, rest = divmod(flat.size, form.elements)
    packed = packed[first // form.elements * form.bytes :]
    body = flat[: n_groups * form.elements].reshape(n_groups, form.elements)  # [n_groups, elements]
    _pack_groups(form, body, packed[: n_groups * form.bytes].reshape(n_groups, form.bytes))
    if rest:
        tail = np.full((1, form.elements), fill, np.uint8)
        tail[0, :rest] = flat[n_groups * form.elements :]
        last = packed[n_groups * form.bytes : (n_groups + 1) * form.bytes]
        _pack_groups(form, tail, last.reshape(1, form.bytes))


def unpack(buffer: Any, layout: str | Layout, n: int) -> Bytes:
    """Unpack the first n codes of bytes.

    Parameters
    ----------
    buffer : [n_bytes]
        uint8, bytes, or any buffer.
    layout
        A `Layout` or its name.
    n
        How many codes there are.

    Returns
    -------
    uint8 [n].

    Raises
    ------
    BadInput
        `unpack: buffer of 1 bytes, 3 codes in low4 take 2; ...`

    Examples
    --------
    >>> unpack(bytes([0x21, 0x03]), "low4", 3)
    array([1, 2, 3], dtype=uint8)
    """
    form = _form(layout)
    if isinstance(buffer, bytes | bytearray | memoryview):
        packed = np.frombuffer(buffer, np.uint8)
    else:
        packed = np.asarray(buffer)
        if packed.dtype != np.uint8:
            got = f"buffer of dtype {packed.dtype}"
            raise BadType(message("unpack", got, "packed codes are uint8", "view it as bytes: buffer.view(np.uint8)"))
        packed = np.ascontiguousarray(packed).reshape(-1)
    if n < 0 or packed.size != form.size(n):
        got = f"buffer of {packed.size} bytes"
        raise BadInput(
            message("unpack", got, f"{n} codes in {form.name} take {form.size(n)}", "check n and the layout")
        )
    return unpack_from(packed, form, 0, n)


def unpack_from(packed: Bytes, form: Layout, first: int, n: int) -> Bytes:
    """n codes, of which the first begins a group of the layout."""
    packed = packed[first // form.elements * form.bytes :][: form.size(n)]
    n_groups, rest = divmod(n, form.elements)
    codes = np.empty(n, np.uint8)
    body = packed[: n_groups * form.bytes].reshape(n_groups, form.bytes)
    _unpack_groups(form, body, codes[: n_groups * form.elements].reshape(n_groups, form.elements))
    if rest:
        tail = np.empty((1, form.elements), np.uint8)
        _unpack_groups(form, packed[n_groups * form.bytes :].reshape(1, form.bytes), tail)
        codes[n_groups * form.elements :] = tail[0, :rest]
    return codes


def _form(name: str | Layout) -> Layout:
    return layout(name)


PIECE = 1 << 16  # groups are handled in pieces of about as many codes


def _pack_digits(form: Layout, codes: Bytes, packed: Bytes) -> None:
    """[n_groups, elements] -> [n_groups, bytes], to base 3."""
    for byte, elements in enumerate(form.digits):
        v = np.zeros(len(codes), np.uint16)
        for i, element in enumerate(elements):
            v += codes[:, element] * np.uint16(3 ** (4 - i))
        packed[:, byte] = (v * 256 + 242) // 243  # at most 62,194


def _unpack_digits(form: Layout, packed: Bytes, codes: Bytes) -> None:
    """[n_groups, bytes] -> [n_groups, elements]: the byte is a fraction of 256, times 3 gives the next digit."""
    for byte, elements in enumerate(form.digits):
        fraction = packed[:, byte].astype(np.uint16)
        for element in elements:
            fraction *= np.uint16(3)
            codes[:, element] = fraction >> 8
            fraction &= np.uint16(255)


def _pack_groups(form: Layout, codes: Bytes, packed: Bytes) -> None:
    """[n_groups, elements] -> [n_groups, bytes], by whole columns."""
    if form.digits:
        _pack_digits(form, codes, packed)
        return
    if form.bits == 8 and form.elements == form.bytes == 1:
        packed[:] = codes
        return
    if form.elements == 2 and form.bytes == 1:  # both nibbles of a byte at once
        pairs = codes.reshape(-1).view("<u2")
        first, second = (0, 4) if form.places[0] == (0, 0) else (4, 0)
        for begin in range(0, pairs.size, PIECE):
            piece = pairs[begin : begin + PIECE]
            np.copyto(packed[begin : begin + PIECE, 0], (piece << first) | (piece >> (8 - second)), casting="unsafe")
        return
    step = max(1, PIECE // form.elements)
    for begin in range(0, len(codes), step):
        columns = np.ascontiguousarray(codes[begin : begin + step].T)  # [elements, piece]
        rows = np.zeros((form.bytes, columns.shape[1]), np.uint8)
        for byte, element, mask, shift in form.moves:
            part = columns[element] & np.uint8(mask)
            rows[byte] |= part << np.uint8(shift) if shift >= 0 else part >> np.uint8(-shift)
        packed[begin : begin + step] = rows.T


def _unpack_groups(form: Layout, packed: Bytes, codes: Bytes) -> None:
    """[n_groups, bytes] -> [n_groups, elements], by whole columns."""
    if form.digits:
        _unpack_digits(form, packed, codes)
        return
    if form.bits == 8 and form.elements == form.bytes == 1:
        codes[:] = packed
        return
    if form.elements == 2 and form.bytes == 1:
        flat, pairs = packed.reshape(-1), codes.reshape(-1).view("<u2")
        low_first = form.places[0] == (0, 0)
        for begin in range(0, flat.size, PIECE):
            wide = flat[begin : begin + PIECE].astype(np.uint16)
            both = (wide | wide << 4) & 0x0F0F if low_first else (wide >> 4 | wide << 8) & 0x0F0F
            pairs[begin : begin + PIECE] = both
        return
    step = max(1, PIECE // form.elements)
    for begin in range(0, len(packed), step):
        rows = np.ascontiguousarray(packed[begin : begin + step].T)  # [bytes, piece]
        columns = np.zeros((form.elements, rows.shape[1]), np.uint8)
        for byte, element, mask, shift in form.moves:
            part = rows[byte] >> np.uint8(shift) if shift >= 0 else rows[byte] << np.uint8(-shift)
            columns[element] |= part & np.uint8(mask)
        codes[begin : begin + step] = columns.T
