"""The quick path: blocks of float32 to codes and back, a stretch that fits the cache at a time.

`quantize.py` is written for every scheme, and makes an array for each step. Most schemes need less:
the scale depends on the largest magnitude of a block alone, elements are divided or multiplied by
one number, and the nearest level is taken. Then three passes over a block are enough:

    maxima     the largest magnitude, by whole numbers: without its sign bit a float32 sorts as one
    scaled     divide (or multiply) by a number that is repeated for every element of its block
    encode     the table of the type, or for integers one addition

What depends on a block and not on its elements is computed by the same functions as ever, from a
block of one element, the largest. A piece with a NaN, an infinity, or a number that cannot be
divided by, is left to the general path.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator
from functools import cached_property, lru_cache
from typing import Any

import numpy as np
from numpy.typing import NDArray

from kbit_ref.arithmetic import Arithmetic
from kbit_ref.datatypes.datatype import DataType
from kbit_ref.engine.codec import decode
from kbit_ref.engine.tables import Scratch, table_for
from kbit_ref.tensors.packing import Layout, unpack
from kbit_ref.tensors.scheme import Scheme

__all__ = [
    *("BY_LARGEST", "PIECE", "STRETCH", "Room", "aligned", "encode_blocks", "fits"),
    *("levels_times", "maxima", "pieces_of", "whole_bytes"),
]

Array = NDArray[Any]
Codes = NDArray[np.uint8]
Read = Callable[[Array], Array]  # elements of an array as float32, a stretch at a time

STRETCH = 1 << 18  # elements handled at once: what is read and written for them lies in the cache
PIECE = 1 << 19  # elements of a piece, whose blocks are handled at once; threads meet a few times for each

BY_LARGEST = (  # the rules whose scale depends on the largest magnitude alone, and which yield one scale
    *("absmax", "absmaxhalf", "absmaxfull"),
    *("pow2floor", "pow2ceil", "pow2even", "pow2even1", "pow2rceil"),
)

MAGNITUDE = np.uint32(0x7FFFFFFF)  # all bits of a float32 but the sign
TO_INTEGER = np.float32(1.5 * 2**23)  # float32 numbers beside it are integers: adding it rounds, half to even


class Room:
    """The memory that one thread works in: 24 bytes for each element of a stretch, a byte for each of a piece.

    It is made once: threads that ask the system for memory again and again wait for each other.
    """

    def __init__(self, elements: int):
        self.numbers = np.empty(min(elements, STRETCH), np.float32)
        self._codes = np.empty(0, np.uint8)

    @cached_property
    def scratch(self) -> Scratch:
        """What tables work in."""
        return Scratch(self.numbers.size)

    def codes(self, shape: tuple[int, int]) -> Codes:
        """uint8 of that shape, to be written; what was given before is written over."""
        n = math.prod(shape)
        if n > self._codes.size:
            self._codes = np.empty(n, np.uint8)
        return self._codes[:n].reshape(shape)


def fits(s: Scheme, a: Arithmetic) -> bool:
    """Can blocks of this scheme go the quick path?"""
    scale = a.name == "float32" and s.rule in BY_LARGEST and s["center"] == "none" and s["arith"] != "exact"
    return scale and s["encoder"] == "nearest" and not s.dtype.rounding.startswith("stochastic")


Piece = tuple[slice, int, int]  # rows, first column, last column


def pieces_of(n_rows: int, length: int, width: int, elements: int, about: int) -> list[Piece]:
    """Whole blocks, `about` so many elements together, whose codes begin a group of the layout where that can be."""
    if length > about:  # a part of a row
        columns = max(1, about // width) * width
        aligned = math.lcm(width, elements)
        if aligned <= 2 * about:
            columns = max(1, about // aligned) * aligned
        return [
            (slice(row, row + 1), column, min(column + columns, length))
            for row in range(n_rows)
            for column in range(0, length, columns)
        ]
    step = elements // math.gcd(max(length, 1), elements)  # rows that fill whole groups
    rows = max(1, about // max(length, 1) // step) * step
    return [(slice(row, min(row + rows, n_rows)), 0, length) for row in range(0, n_rows, rows) if length]


def aligned(pieces: list[Piece], length: int, elements: int) -> bool:
    """Does every piece begin a group of the layout?"""
    return all((row.start * length + begin) % elements == 0 for row, begin, _ in pieces)


def stretches(n: int, size: int) -> Iterator[tuple[slice, slice]]:
    """[n, size] in parts of at most STRETCH elements: some whole blocks, or a part of one."""
    step = max(1, STRETCH // size)
    for block in range(0, n, step):
        for column in range(0, size, STRETCH):
            yield slice(block, min(block + step, n)), slice(column, min(column + STRETCH, size))


def maxima(blocks: Array, read: Read, room: Room) -> Array:
    """[n, size] -> float32 [n, 1]: the largest magnitude; not finite where the block has a NaN or an infinity."""
    found = np.zeros(len(blocks), np.uint32)
    for rows, columns in stretches(*blocks.shape):
        part = read(blocks[rows, columns])
        flat = part.reshape(-1).view(np.uint32)
        words = np.bitwise_and(flat, MAGNITUDE, out=room.numbers.view(np.uint32)[: flat.size])
        np.maximum(found[rows], _most(words, part.shape[1], room), out=found[rows])
    return found.view(np.float32)[:, None]


def _most(words: NDArray[np.uint32], size: int, room: Room) -> NDArray[np.uint32]:
    """[n * size] -> [n]: the largest of every `size` words; they are overwritten."""
    if size > 16 or size & (size - 1):
        return np.maximum.reduceat(words, np.arange(0, words.size, size))
    spare = room.scratch.words(np.uint32)
    while size > 1:  # short blocks: neighbours against each other, all blocks at once
        half = np.maximum(words[0::2], words[1::2], out=spare[: words.size // 2])
        words, spare, size = half, words, size // 2
    return words


def encode_blocks(
    dtype: DataType, blocks: Array, read: Read, how: str, operand: Array, largest: Array, codes: Codes, room: Room
) -> None:
    """Write the nearest codes of `how`(blocks, operand), `divide` or `multiply`; operand is [n, 1].

    `largest` is the largest magnitude of each block; neither operation can make another element
    larger than what it makes of that one, because rounding never swaps two numbers.
    """
    operation = getattr(np, how)
    table = table_for(dtype, "float32")
    with np.errstate(all="ignore"):
        integers = _is_integer(dtype) and bool((operation(largest, np.abs(operand)) < dtype.top + 0.5).all())
    for rows, columns in stretches(*blocks.shape):
        part = read(blocks[rows, columns])
        numbers = room.numbers[: part.size]
        with np.errstate(all="ignore"):  # no array is made for it: threads would wait for each other's pages
            operation(part, operand[rows], out=numbers.reshape(part.shape))
        target = codes[rows, columns].reshape(-1)
        if integers:
            _encode_integers(dtype.bits, numbers, target)
        else:
            table(numbers.view(np.uint32), target, room.scratch)


def _encode_integers(bits: int, numbers: Array, codes: Codes) -> None:
    """The low bits of the rounded sum are the integer in two's complement; no number is out of range."""
    np.add(numbers, TO_INTEGER, out=numbers)
    np.copyto(codes, numbers.view(np.uint32), casting="unsafe")  # the lowest byte
    if bits < 8:
        np.bitwise_and(codes, np.uint8(2**bits - 1), out=codes)


@lru_cache(maxsize=64)
def _is_integer(dtype: DataType) -> bool:
    """Is every code the integer that it spells in two's complement, and a tie the even one?"""
    half = 2 ** (dtype.bits - 1)
    spelled = (np.arange(2 * half) + half) % (2 * half) - half
    same = np.array_equal(dtype.levels[dtype.emitted], spelled[dtype.emitted])
    return same and dtype.ties == "even" and dtype.rounding == "nearest" and -dtype.top in dtype.levels


# Back -----------------------------------------------------------------------------------------


def whole_bytes(form: Layout, size: int) -> bool:
    """Do blocks of that size fill whole bytes of the layout, each the codes of neighbours and nothing else?"""
    return form.bytes == 1 and form.elements * form.bits == 8 and size % form.elements == 0


def levels_times(s: Scheme, packed: NDArray[np.uint8], scales: Array, out: Array, room: Room) -> None:
    """Write levels times (or over) scales: packed codes of [n, size], scales [n, 1] -> out, float32 [n, size]."""
    operation = np.divide if s["scaleas"] == "divisor" else np.multiply
    per_byte = s.layout.elements
    for rows, columns in stretches(*out.shape):
        target = out[rows, columns]
        begin = (rows.start * out.shape[1] + columns.start) // per_byte
        piece = packed[begin : begin + target.size // per_byte]
        levels = room.numbers[: target.size]
        if per_byte == 1:
            decode(s.dtype, piece, threads=1, out=levels)
        else:
            even = per_byte == 2 and piece.size % 2 == 0 and piece.ctypes.data % 2 == 0
            words = piece.view(np.uint16) if even else piece  # two bytes at once where they lie so
            index = room.scratch.index[: words.size]
            np.copyto(index, words)
            table = _levels_of_words(s.dtype, s.layout, words.itemsize)
            table.take(index, axis=0, out=levels.reshape(-1, table.shape[1]), mode="clip")
        with np.errstate(all="ignore"):
            operation(levels.reshape(target.shape), scales[rows], out=target)


@lru_cache(maxsize=64)
def _levels_of_words(dtype: DataType, form: Layout, itemsize: int) -> NDArray[np.float32]:
    """float32 [2**(8 * itemsize), codes in a word]: the levels of the codes in every word of one or two bytes."""
    every = np.arange(1 << 8 * itemsize, dtype=np.uint8 if itemsize == 1 else np.uint16)
    codes = unpack(every.view(np.uint8), form, every.nbytes * form.elements)
    return dtype.levels.astype(np.float32)[codes].reshape(every.size, itemsize * form.elements)
