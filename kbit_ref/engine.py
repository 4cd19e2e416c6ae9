"""The engine: `encode` and `decode` in NumPy, as fast as it goes, and equal to `exact` everywhere.

One idea carries it. Read the bits of a float as an unsigned integer (a *word*): among words of
one sign, a larger word is a larger magnitude. So every data type, with every choice of rounding,
ties, overflow and signs of zero, is a staircase over words: a sorted list of first words, and a
code for each step.

    staircase    a type and a float format -> first word of every step, code of every step
    _Table16     16-bit words: look the word up
    _CarryTable  32- and 64-bit words: one look-up by the upper bits and one addition,
                 exact when no cell of the table holds two steps (checked when it is built)
    _RankTable   the same for codes in any order: the carry counts steps, a look-up names them
    _SearchTable any staircase: a look-up, then a halving search among the steps of the cell
    encode       cut in pieces that fit the cache, on as many threads as help

`exact.py` shares nothing with this file but the names of the choices.
"""

from __future__ import annotations

import os
import sys
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from functools import lru_cache
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from kbit_ref.datatype import DataType, datatype
from kbit_ref.errors import BadInput, message
from kbit_ref.inputs import as_codes, as_out, real_array, refuse_codes

__all__ = ["decode", "encode", "staircase"]

Words = NDArray[Any]
Codes = NDArray[Any]

CHUNK = 1 << 17  # elements in one piece: index and scratch (12 to 20 bytes an element) stay in the cache
LEAST_FOR_THREADS = 1 << 20  # a second thread gains nothing on fewer elements

WORD = {"float16": np.uint16, "bfloat16": np.uint16, "float32": np.uint32, "float64": np.uint64}
INFINITY = {"float16": 0x7C00, "bfloat16": 0x7F80, "float32": 0x7F800000, "float64": 0x7FF0 << 48}


# The staircase --------------------------------------------------------------------------------


class _Boundaries(NamedTuple):
    """Where a type changes its code, from -inf to inf: x goes up at `at`, itself included or not."""

    at: NDArray[np.float64]  # [n]
    inclusive: NDArray[np.bool_]  # [n]: does x == at go up?
    codes: NDArray[np.intp]  # [n + 1]


def _boundaries(dtype: DataType) -> _Boundaries:
    """The real numbers at which the code changes, each exact in float64."""
    codes = dtype.emitted
    levels = dtype.levels[codes]
    finite = np.isfinite(levels) & ~((levels == 0) & np.signbit(levels))
    order = np.argsort(levels[finite], kind="stable")
    v, c = levels[finite][order], codes[finite][order]

    special = {
        key: int(codes[hit][0]) if (hit := test(levels)).any() else None
        for key, test in {"nan": np.isnan, "+": np.isposinf, "-": np.isneginf}.items()
    }
    even = c % 2 == 0
    at, inclusive = _between(dtype, v[:-1], v[1:], even[:-1])

    def overflow(last: float, code: int, sign: str) -> tuple[float, bool, int] | None:
        """The boundary beyond `last`, as magnitudes: (at, inclusive, code), or None if there is none."""
        target = special[sign]
        if dtype.overflow == "ieee" and target is None:
            target = special["nan"]
        if dtype.overflow == "finite" or target is None:
            return None
        if dtype.overflow == "saturate":
            return np.inf, True, target
        assert dtype.beyond is not None  # Definition has checked it
        mirrored = {"toward_positive": "toward_negative", "toward_negative": "toward_positive"}
        rounding = dtype.rounding if sign == "+" else mirrored.get(dtype.rounding, dtype.rounding)
        if rounding in ("toward_zero", "toward_negative") or (rounding == "odd" and code % 2):
            return np.inf, True, target
        if rounding in ("toward_positive", "odd"):
            return last, False, target
        up = {"even": code % 2 == 1, "zero": False, "away": True}
        goes = up.get(dtype.ties, (dtype.ties == "upper") == (sign == "+"))
        return (last + dtype.beyond) / 2, goes, target

    above = overflow(float(v[-1]), int(c[-1]), "+")
    if above is not None:
        at, inclusive, c = np.append(at, above[0]), np.append(inclusive, above[1]), np.append(c, above[2])
    if v[0] < 0:
        below = overflow(-float(v[0]), int(c[0]), "-")
        if below is not None:
            at, inclusive, c = np.append(-below[0], at), np.append(not below[1], inclusive), np.append(below[2], c)
    elif dtype.negative == "nan":
        edge, stays = _below_zero(dtype, v)
        at, inclusive, c = np.append(edge, at), np.append(stays, inclusive), np.append(special["nan"], c)
    return _Boundaries(at, inclusive.astype(bool), c.astype(np.intp))


def _between(
    dtype: DataType, below: NDArray[np.float64], above: NDArray[np.float64], below_is_even: NDArray[np.bool_]
) -> tuple[NDArray[np.float64], NDArray[np.bool_]]:
    """The boundary between neighbouring levels, and whether it belongs to the upper one."""
    no, yes = np.zeros(below.shape, bool), np.ones(below.shape, bool)
    if dtype.rounding == "nearest":
        smaller_above = np.abs(above) < np.abs(below)
        larger_above = np.abs(above) > np.abs(below)
        ties = {"even": ~below_is_even, "lower": no, "upper": yes, "zero": smaller_above, "away": larger_above}
        return (below + above) / 2, ties[dtype.ties]
    if dtype.rounding == "toward_positive":
        return below, no
    if dtype.rounding == "toward_negative":
        return above, yes
    if dtype.rounding == "odd":
        return np.where(below_is_even, below, above), ~below_is_even
    positive = below >= 0  # toward zero: from above on the positive side, from below on the negative one
    return np.where(positive, above, below), positive


def _below_zero(dtype: DataType, v: NDArray[np.float64]) -> tuple[float, bool]:
    """Where x < 0 becomes NaN in a type without negative levels: (at, does `at` stay a number?)."""
    if v[0] > 0 or dtype.rounding in ("toward_negative", "odd"):
        return 0.0, True
    if dtype.rounding in ("toward_zero", "toward_positive"):
        return -np.inf, False
    return -float(v[1]) / 2, dtype.ties in ("even", "upper", "zero")


def _first_word(at: NDArray[np.float64], inclusive: NDArray[np.bool_], kind: str) -> Words:
    """The smallest word whose magnitude is >= at (inclusive) or > at; past infinity where there is none."""
    if kind == "bfloat16":
        return (_first_word(at, inclusive, "float32").astype(np.uint64) + 0xFFFF) >> np.uint64(16)
    with np.errstate(over="ignore", under="ignore"):
        near = at.astype(kind)
    short = (near.astype(np.float64) < at) | (~inclusive & (near.astype(np.float64) == at))
    return near.view(WORD[kind]).astype(np.uint64) + short.astype(np.uint64)


def staircase(dtype: DataType, kind: str) -> tuple[Words, Codes]:
    """The type as steps over the words of a float format.

    Parameters
    ----------
    dtype
        Any type whose rounding is not stochastic.
    kind
        `float16`, `bfloat16`, `float32` or `float64`.

    Returns
    -------
    first, codes
        Words [n], ascending from 0, in which a new step begins, and the code of every step.
        Negative numbers follow positive ones, as their words do. NaN words are not described.
    """
    b = _boundaries(dtype)
    word = WORD[kind]
    sign = np.uint64(1) << np.uint64(word(0).nbytes * 8 - 1)
    zero = np.uint64(0)

    right = (b.at > 0) | ((b.at == 0) & ~b.inclusive)
    up = _first_word(np.abs(b.at[right]), b.inclusive[right], kind)
    up_codes = b.codes[np.append(False, right)]
    start = b.codes[np.count_nonzero(~right)]  # the code of +0

    left = (b.at < 0) | ((b.at == 0) & b.inclusive)
    down = _first_word(np.abs(b.at[left][::-1]), ~b.inclusive[left][::-1], kind)
    down_codes = b.codes[np.append(left, False)][::-1]
    start_down = b.codes[np.count_nonzero(left)]  # the code of -0, if it has none of its own

    first = np.concatenate([[zero], up, [sign], sign + down]).astype(np.uint64)
    codes = np.concatenate([[start], up_codes, [start_down], down_codes])
    first, codes = _with_minus_zero(dtype, first, codes, sign)

    last = np.append(first[1:] != first[:-1], True)  # of several steps at one word, the last one holds
    infinity = np.uint64(INFINITY[kind])
    exists = last & ((first & ~sign) <= infinity)
    first, codes = first[exists], codes[exists]
    changes = np.append(True, codes[1:] != codes[:-1])
    return first[changes].astype(word), codes[changes].astype(dtype.code_dtype)


def _with_minus_zero(
    dtype: DataType, first: Words, codes: NDArray[np.intp], sign: np.uint64
) -> tuple[Words, NDArray[np.intp]]:
    """Give the negative side the code of -0 where it underflows, if the type emits one."""
    zeros = dtype.emitted[dtype.levels[dtype.emitted] == 0]
    minus = zeros[np.signbit(dtype.levels[zeros])]
    if not minus.size or dtype.zero_sign == "positive":
        return first, codes
    plus = zeros[~np.signbit(dtype.levels[zeros])]
    becomes = (first >= sign) & np.isin(codes, plus)
    at = int(np.flatnonzero(first == sign)[0])
    if dtype.zero_sign == "negative" and becomes[at]:
        first, codes = np.insert(first, at + 1, sign + np.uint64(1)), np.insert(codes, at + 1, minus[0])
        becomes = np.insert(becomes, at + 1, False)
        becomes[at] = False
    return first, np.where(becomes, minus[0], codes)


# Tables ---------------------------------------------------------------------------------------


class _Table16:
    """16-bit words: the code of every one of the 65,536."""

    def __init__(self, first: Words, codes: Codes):
        self.codes = codes[np.searchsorted(first, np.arange(65536), side="right") - 1]

    def __call__(self, words: Words, out: Codes, scratch: _Scratch) -> None:
        index = scratch.index[: words.size]
        np.copyto(index, words)
        self.codes.take(index, out=out, mode="clip")


class _CarryTable:
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

    def __call__(self, words: Words, out: Codes, scratch: _Scratch) -> None:
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


class _RankTable:
    """At most one step in each cell, any codes: the number of the step by carry, its code by look-up."""

    def __init__(self, ranks: _CarryTable, codes: Codes):
        self.ranks = ranks
        self.codes = codes

    def __call__(self, words: Words, out: Codes, scratch: _Scratch) -> None:
        rank, index = scratch.masks.view(self.ranks.code_dtype)[: words.size], scratch.index[: words.size]
        self.ranks(words, rank, scratch)
        np.copyto(index, rank)
        self.codes.take(index, out=out, mode="clip")


class _SearchTable:
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

    def __call__(self, words: Words, out: Codes, scratch: _Scratch) -> None:
        rank = self.before.take((words >> self.cell).astype(np.intp))
        for stride in self.strides:
            rank += np.int32(stride) * (self.first.take(rank + np.int32(stride)) <= words)
        self.codes.take(rank, out=out, mode="clip")


class _Scratch:
    """The memory that one thread works in: at most 3 MiB."""

    def __init__(self, n: int):
        self.index = np.empty(n, np.intp)
        self.halves = np.empty(n, np.uint16)
        self.masks = np.empty(n, np.uint16)
        self._sums = np.empty(n, np.uint64)

    def words(self, word: Any) -> Words:
        """[n] words; 32-bit ones lie in the first half."""
        return self._sums.view(word)


@lru_cache(maxsize=64)
def _table(dtype: DataType, kind: str) -> Callable[[Words, Codes, _Scratch], None]:
    """The fastest table that is exact for this type and float format."""
    first, codes = staircase(dtype, kind)
    word = WORD[kind]
    if word is np.uint16:
        return _Table16(first, codes)

    cell_bits = {np.uint32: 16, np.uint64: 45}[word]  # sign, exponent, and 7 bits of significand
    cells = np.arange(1 << (word(0).nbytes * 8 - cell_bits), dtype=word) << word(cell_bits)
    before = np.searchsorted(first, cells, side="right") - 1
    after = np.append(before[1:] - (first[before[1:]] == cells[1:]), first.size - 1)
    if (after - before).max() <= 1:
        inside = np.uint64((1 << cell_bits) - 1)
        threshold = np.where(after > before, first[after].astype(np.uint64) & inside, np.uint64(0))
        low, high = codes[before], codes[after]
        if _CarryTable.fits(low, high, threshold):
            return _CarryTable(low, high, threshold, cell_bits, word)
        rank = np.uint8 if first.size <= 256 else np.uint16
        return _RankTable(_CarryTable(before.astype(rank), after.astype(rank), threshold, cell_bits, word), codes)
    return _SearchTable(first, codes, cell_bits)


# Pieces and threads ---------------------------------------------------------------------------


def _in_pieces(size: int, threads: int | None, piece: int, work: Callable[[int, int, Any], None], make: Any) -> None:
    """Call work(begin, end, scratch) for pieces of 0 ... size, on as many threads as help."""
    if threads is not None and threads < 1:
        raise BadInput(message("encode", f"threads = {threads}", "at least one thread is needed", "leave it out"))
    wanted = (_cores() if size >= LEAST_FOR_THREADS else 1) if threads is None else threads
    wanted = max(1, min(wanted, -(-size // piece)))
    share = -(-size // wanted // piece) * piece  # [n_threads] whole pieces each

    def run(begin: int) -> None:
        scratch = make(min(piece, size))
        for start in range(begin, min(begin + share, size), piece):
            work(start, min(start + piece, size), scratch)

    if wanted == 1:
        run(0)
        return
    with ThreadPoolExecutor(wanted - 1) as pool:
        others = [pool.submit(run, begin) for begin in range(share, size, share)]
        run(0)
        for other in others:
            other.result()


def _cores() -> int:
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


def encode(
    dtype: DataType | str,
    x: Any,
    *,
    bfloat16: bool = False,
    threads: int | None = None,
    out: NDArray[Any] | None = None,
) -> NDArray[Any]:
    """The code of the level nearest to each number, bit for bit what `kb.exact.encode` says.

    Parameters
    ----------
    dtype
        A data type or its name.
    x : [*shape]
        float16, float32, float64, longdouble or bfloat16 (of `ml_dtypes`), any shape and stride;
        anything with `__array__` or `__dlpack__`; Python numbers. It is never rounded first.
    bfloat16
        x holds the bits of bfloat16 numbers as uint16.
    threads
        How many to use; by default as many as help.
    out : [*shape]
        uint8 (uint16 above 8 bits), C-contiguous: where to write the codes.

    Returns
    -------
    uint8 [*shape] (uint16 above 8 bits), 0 to 2**bits - 1.

    Raises
    ------
    BadInput
        `encode: x[3] = nan, int4 has no NaN level; clean the input or use a type with NaN`
    BadType
        `encode: x of dtype int64, ...`
    UnknownName
        as `kb.datatype`.

    Choices
    -------
    Ties, overflow, rounding and the sign of zero are those of the type (`DataType.with_choices`).

    Examples
    --------
    >>> import kbit_ref as kb
    >>> kb.encode("e4m3fn", [0.0, 1.0, -1.0, 1000.0, float("nan")])
    array([  0,  56, 184, 126, 127], dtype=uint8)
    """
    d = datatype(dtype)
    if d.rounding.startswith("stochastic"):
        raise BadInput(
            message("encode", f"rounding = {d.rounding}", "it needs random bits", "use kb.encode_stochastic")
        )
    array, kind = real_array("encode", x, bfloat16=bfloat16)
    codes = as_out("encode", out, array.shape, d.code_dtype, array)
    flat_codes = codes.reshape(-1)
    nan = next((int(code) for code in d.emitted if np.isnan(d.levels[code])), None)
    table_kind = "float64" if kind == "longdouble" else kind
    table = _table(d, table_kind)
    word = WORD[table_kind]

    def piece(numbers: NDArray[Any], begin: int, scratch: _Scratch) -> None:
        target = flat_codes[begin : begin + numbers.size]
        if kind == "longdouble":
            numbers = _to_odd_float64(numbers)
        table(numbers.view(word), target, scratch)
        bad = _nans(numbers, kind)
        if bad is not None:
            if nan is None:
                where = np.unravel_index(begin + int(np.flatnonzero(bad)[0]), array.shape)
                index = ", ".join(str(int(i)) for i in where)
                rule = f"{d.name} has no NaN level"
                raise BadInput(message("encode", f"x[{index}] = nan", rule, "clean the input or use a type with NaN"))
            target[bad] = nan

    native = array.dtype.newbyteorder("=")
    if array.flags.c_contiguous and array.dtype == native and sys.byteorder == "little" and array.flags.aligned:
        flat = array.reshape(-1)
        _in_pieces(flat.size, threads, CHUNK, lambda begin, end, s: piece(flat[begin:end], begin, s), _Scratch)
    elif array.size:
        scratch, begin = _Scratch(min(CHUNK, array.size)), 0
        for numbers in _copies(array, native):
            piece(numbers, begin, scratch)
            begin += numbers.size
    return codes


def _copies(array: NDArray[Any], native: np.dtype[Any]) -> Iterator[NDArray[Any]]:
    """The elements of an array of any strides, in C order, a contiguous native piece at a time."""
    flags = ["external_loop", "buffered", "zerosize_ok"]
    pieces = np.nditer(
        array, flags=flags, op_dtypes=[native], casting="equiv", order="C", buffersize=CHUNK  # type: ignore[arg-type]
    )
    for piece in pieces:
        for begin in range(0, piece.size, CHUNK):  # a dimension that needs no buffer comes whole
            yield np.ascontiguousarray(piece[begin : begin + CHUNK])


def _nans(numbers: NDArray[Any], kind: str) -> NDArray[np.bool_] | None:
    """Which numbers are NaN, or None if none is (the usual case: one fast pass)."""
    if kind in ("float16", "bfloat16"):
        magnitudes = numbers.view(np.uint16) & np.uint16(0x7FFF)
        return magnitudes > INFINITY[kind] if magnitudes.max(initial=0) > INFINITY[kind] else None
    with np.errstate(invalid="ignore"):
        largest = numbers.max(initial=-np.inf)
    return np.isnan(numbers) if largest != largest else None


def _to_odd_float64(numbers: NDArray[Any]) -> NDArray[np.float64]:
    """longdouble to float64, inexact results to the neighbour with an odd word: every comparison
    with a number of at most 52 bits comes out the same, and all boundaries are such."""
    with np.errstate(over="ignore", under="ignore", invalid="ignore"):
        near = numbers.astype(np.float64)
        wide = near.astype(np.longdouble)
        even = near.view(np.uint64) % 2 == 0
        return np.where(
            even & (wide > numbers),
            np.nextafter(near, -np.inf),
            np.where(even & (wide < numbers), np.nextafter(near, np.inf), near),
        )


# Decode ---------------------------------------------------------------------------------------


@lru_cache(maxsize=64)
def _pairs(dtype: DataType) -> NDArray[np.uint64]:
    """uint64 [65536]: the two float32 levels of every two bytes of codes; unknown codes are left 0."""
    levels = np.zeros(256, np.float32)
    levels[: 2**dtype.bits] = dtype.levels
    both = np.arange(65536, dtype="<u2").view(np.uint8).reshape(-1, 2)  # [65536, 2] bytes in memory order
    return levels[both].view(np.uint64).ravel()


def decode(
    dtype: DataType | str,
    codes: Any,
    *,
    threads: int | None = None,
    out: NDArray[Any] | None = None,
) -> NDArray[Any]:
    """The level of each code.

    Parameters
    ----------
    dtype
        A data type or its name.
    codes : [*shape]
        Integers, 0 to 2**bits - 1; unused codes have levels too.
    threads
        How many to use; by default as many as help.
    out : [*shape]
        float32, C-contiguous: where to write.

    Returns
    -------
    float32 [*shape]. (float64 for the IEEE P3109 formats whose levels are outside float32.)

    Raises
    ------
    BadInput
        `decode: codes[2] = 16, codes of 4 bits are 0 to 15; mask or unpack them first`
    BadType
        `decode: codes of dtype float32, codes are integers; ...`

    Examples
    --------
    >>> import kbit_ref as kb
    >>> kb.decode("nf4", [0, 7, 15])
    array([-1.,  0.,  1.], dtype=float32)
    """
    d = datatype(dtype)
    array = as_codes("decode", codes, d.bits)
    levels = as_out("decode", out, array.shape, d.level_dtype, array)
    flat, flat_out = np.ascontiguousarray(array).reshape(-1), levels.reshape(-1)
    in_pairs = d.bits <= 8 and sys.byteorder == "little" and flat.ctypes.data % 2 == 0
    table = _pairs(d) if in_pairs else d.levels.astype(d.level_dtype)
    limited = 2**d.bits <= np.iinfo(array.dtype).max

    def work(begin: int, end: int, index: NDArray[np.intp]) -> None:
        piece, target = flat[begin:end], flat_out[begin:end]
        if limited and piece.max() >= 2**d.bits:
            refuse_codes("decode", piece, d.bits, begin)
        even = piece.size // 2 * 2 if in_pairs else 0
        if even:
            ready = index[: even // 2]
            np.copyto(ready, piece[:even].view(np.uint16))
            table.take(ready, out=target[:even].view(np.uint64), mode="clip")
        if even < piece.size:
            np.take(d.levels.astype(d.level_dtype), piece[even:], out=target[even:])

    _in_pieces(flat.size, threads, 2 * CHUNK, work, lambda n: np.empty(n, np.intp))
    return levels


