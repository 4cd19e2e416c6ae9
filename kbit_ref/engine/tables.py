"""A staircase made into tables that NumPy walks fast: one object that turns words into codes.

Table16      16-bit words: look the word up
CarryTable   32- and 64-bit words: one look-up by the upper bits and one addition,
             exact when no cell of the table holds two steps (checked when it is built)
RankTable    the same for codes in any order: the carry counts steps, a look-up names them
SearchTable  any staircase: a look-up, then a halving search among the steps of the cell
"""

from __future__ import annotations

from collections.abc import Callable
from functools import lru_cache
from typing import Any

import numpy as np
from numpy.typing import NDArray

from kbit_ref.datatypes.datatype import DataType
from kbit_ref.engine.staircase import WORD, Codes, Words, staircase

__all__ = ["CarryTable", "RankTable", "Scratch", "SearchTable", "Table16", "coder_for", "table_for"]


PAYS = 1 << 17  # words of float64 from which on a table costs less than searches


class Table16:
    """16-bit words: the code of every one of the 65,536."""

    def __init__(self, first: Words, codes: Codes):
        self.codes = codes[np.searchsorted(first, np.arange(65536), side="right") - 1]

    def __call__(self, words: Words, out: Codes, scratch: Scratch) -> None:
        index = scratch.index[: words.size]
        np.copyto(index, words)
        self.codes.take(index, out=out, mode="clip")


class CarryTable:
    """32- or 64-bit words, at most one step in each cell: one look-up and one addition.

    A cell is the set of words that share their upper bits, h. In it the code is A below the
    threshold t of the lower bits, and B from there on. If B = A + 1, the entry

        E[h] = (A + 1) * 2**r - h * 2**c - t

    makes (E[h] + word) >> r equal to A + (lower bits >= t): adding the word cancels h * 2**c, and
    the lower bits borrow one from A + 1 unless they reach t. (r is where the code begins, c where
    the cell begins; all modulo the word size.) If B = A - 1, as on the negative side of two's
    complement or of a sorted codebook, the same is done to y and y + 1, which a mask m turns
    into A and B by exclusive or: B ^ A is 1, 3, 7, ... then, so m = A ^ (B ^ A) >> 1.
    """

    def __init__(self, low: Codes, high: Codes, threshold: NDArray[np.uint64], cell_bits: int, word: Any):
        self.word = word
        self.code_dtype = low.dtype
        self.cell = word(cell_bits)
        size = word(0).nbytes * 8
        byte = low.dtype.itemsize * 8
        step = threshold > 0
        a, b = low.astype(np.uint64), high.astype(np.uint64)
        self.plain = bool(((b - a)[step] == 1).all())
        if self.plain:
            self.start, field = size - byte, a
        else:
            mask = np.where(step, a ^ ((a ^ b) >> np.uint64(1)), np.uint64(0))
            self.start, field = size - 2 * byte, (mask << np.uint64(byte)) | (a ^ mask)
        h = np.arange(low.size, dtype=np.uint64) << np.uint64(cell_bits)
        start = np.uint64(self.start)
        entry = (field << start) - h + np.where(step, (np.uint64(1) << start) - threshold, np.uint64(0))
        self.entries = entry.astype(word)  # modulo the word size

    @staticmethod
    def fits(low: Codes, high: Codes, threshold: NDArray[np.uint64]) -> bool:
        """Is every step one that a carry can make?"""
        step = threshold > 0
        a, b = low[step].astype(np.int64), high[step].astype(np.int64)
        flipped = a ^ b
        return bool((b - a == 1).all() or (low.dtype == np.uint8 and ((flipped & (flipped + 1)) == 0).all()))

    def __call__(self, words: Words, out: Codes, scratch: Scratch) -> None:
        n = words.size
        index, sums = scratch.index[:n], scratch.words(self.word)[:n]
        if self.word is np.uint64:  # the shifted word is the index already
            np.right_shift(words, self.cell, out=index.view(np.uint64))
        else:
            np.right_shift(words, self.cell, out=sums)
            np.copyto(index, sums)
        self.entries.take(index, out=sums, mode="clip")
        np.add(sums, words, out=sums)
        np.right_shift(sums, self.word(self.start), out=sums)
        if self.plain:
            np.copyto(out, sums, casting="unsafe")
            return
        pair, mask = scratch.halves[:n], scratch.masks[:n]
        np.copyto(pair, sums, casting="unsafe")
        np.right_shift(pair, 8, out=mask)
        np.bitwise_xor(pair, mask, out=pair)
        np.copyto(out, pair, casting="unsafe")


class RankTable:
    """At most one step in each cell, any codes: the number of the step by carry, its code by look-up."""

    def __init__(self, ranks: CarryTable, codes: Codes):
        self.ranks = ranks
        self.codes = codes

    def __call__(self, words: Words, out: Codes, scratch: Scratch) -> None:
        rank, index = scratch.masks.view(self.ranks.code_dtype)[: words.size], scratch.index[: words.size]
        self.ranks(words, rank, scratch)
        np.copyto(index, rank)
        self.codes.take(index, out=out, mode="clip")


class SearchTable:
    """Any staircase: the steps of the word's cell by look-up, then a halving search among them."""

    def __init__(self, first: Words, codes: Codes, cell_bits: int):
        self.cell = first.dtype.type(cell_bits)
        cells = np.arange(1 << (first.dtype.itemsize * 8 - cell_bits), dtype=first.dtype) << self.cell
        before = np.searchsorted(first, cells, side="right") - 1
        most = int(np.diff(before, append=first.size - 1).max())
        self.strides = [1 << i for i in reversed(range(most.bit_length()))]
        self.before = before.astype(np.int32)
        never = np.full(2 * (most + 1), np.iinfo(first.dtype).max, first.dtype)
        self.first = np.concatenate([first, never])
        self.codes = np.concatenate([codes, np.full(never.size, codes[-1])])

    def __call__(self, words: Words, out: Codes, scratch: Scratch) -> None:
        rank = self.before.take((words >> self.cell).astype(np.intp))
        for stride in self.strides:
            rank += np.int32(stride) * (self.first.take(rank + np.int32(stride)) <= words)
        self.codes.take(rank, out=out, mode="clip")


class Scratch:
    """The memory that one thread works in: at most 3 MiB."""

    def __init__(self, n: int):
        self.index = np.empty(n, np.intp)
        self.halves = np.empty(n, np.uint16)
        self.masks = np.empty(n, np.uint16)
        self._sums = np.empty(n, np.uint64)

    def words(self, word: Any) -> Words:
        """[n] words; 32-bit ones lie in the first half."""
        return self._sums.view(word)


class Steps64:
    """The steps of a type over the words of float64, searched; once as many were searched as it pays, by a table."""

    def __init__(self, dtype: DataType):
        self.first, self.codes = staircase(dtype, "float64")
        self.dtype, self.left = dtype, PAYS

    def __call__(self, words: Words, out: Codes, scratch: Scratch) -> None:
        if self.left <= 0 or words.size >= PAYS:
            table_for(self.dtype, "float64")(words, out, scratch)
            return
        self.left -= words.size
        self.codes.take(np.searchsorted(self.first, words, side="right") - 1, out=out, mode="clip")


@lru_cache(maxsize=256)
def coder_for(dtype: DataType, kind: str) -> Callable[[Words, Codes, Scratch], None]:
    """Return what makes codes of words: a table, but for the few numbers of float64 that do not pay for its 4 MiB."""
    return Steps64(dtype) if kind == "float64" else table_for(dtype, kind)


@lru_cache(maxsize=64)
def table_for(dtype: DataType, kind: str) -> Callable[[Words, Codes, Scratch], None]:
    """The fastest table that is exact for this type and float format."""
    first, codes = staircase(dtype, kind)
    word = WORD[kind]
    if word is np.uint16:
        return Table16(first, codes)

    cell_bits = {np.uint32: 16, np.uint64: 45}[word]  # sign, exponent, and 7 bits of significand
    cells = np.arange(1 << (word(0).nbytes * 8 - cell_bits), dtype=word) << word(cell_bits)
    before = np.searchsorted(first, cells, side="right") - 1
    after = np.append(before[1:] - (first[before[1:]] == cells[1:]), first.size - 1)
    if (after - before).max() <= 1:
        inside = np.uint64((1 << cell_bits) - 1)
        threshold = np.where(after > before, first[after].astype(np.uint64) & inside, np.uint64(0))
        low, high = codes[before], codes[after]
        if CarryTable.fits(low, high, threshold):
            return CarryTable(low, high, threshold, cell_bits, word)
        rank = np.uint8 if first.size <= 256 else np.uint16
        return RankTable(CarryTable(before.astype(rank), after.astype(rank), threshold, cell_bits, word), codes)
    return SearchTable(first, codes, cell_bits)
