"""The engine: `encode` and `decode` in NumPy, as fast as it goes, and equal to `exact` everywhere.

The work is done by a table (`tables.py`) made from the type's staircase (`staircase.py`). Here
the numbers are cut in pieces that fit the cache and handed to as many threads as help.
"""

from __future__ import annotations

import os
import sys
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from functools import lru_cache
from typing import Any, NoReturn

import numpy as np
from numpy.typing import NDArray

from kbit_ref import exact
from kbit_ref.datatypes.datatype import DataType, datatype
from kbit_ref.datatypes.levels import rounded, spelled
from kbit_ref.engine.staircase import INFINITY, WORD, Boundaries, boundaries, fine_boundaries
from kbit_ref.engine.tables import Scratch, coder_for
from kbit_ref.errors import BadInput, message
from kbit_ref.inputs import as_codes, as_out, real_array, refuse_codes

__all__ = ["decode", "encode"]

CHUNK = 1 << 17  # elements in one piece: index and scratch (20 bytes an element) stay in the cache
LEAST_FOR_THREADS = 1 << 20  # a second thread gains nothing on fewer elements


def in_pieces(
    size: int,
    threads: int | None,
    piece: int,
    work: Callable[[int, int, Any], None],
    make: Callable[[int], Any],
    weight: int = 1,
    function: str = "encode",
) -> None:
    """Call work(begin, end, scratch) for pieces of 0 ... size, on as many threads as help.

    `make` gives each thread the scratch for pieces of so many items; an item is `weight` elements.
    """
    if threads is not None and (not isinstance(threads, int) or threads < 1):
        raise BadInput(message(function, f"threads = {threads!r}", "it is a number of threads from 1", "leave it out"))
    wanted = (_cores() if size * weight >= LEAST_FOR_THREADS else 1) if threads is None else threads
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
    """Encode numbers: return the code of the level nearest to each, bit for bit that of `kb.exact.encode`.

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
    nan = d.nan_code
    table_kind = "float64" if kind == "longdouble" else kind
    table = coder_for(d, table_kind)
    word = WORD[table_kind]

    def piece(numbers: NDArray[Any], begin: int, scratch: Scratch) -> None:
        target = flat_codes[begin : begin + numbers.size]
        given = numbers
        if kind == "longdouble":
            numbers = to_odd_float64(given)
        table(numbers.view(word), target, scratch)
        if kind == "longdouble" and d.exponents is not None:
            _among_longdoubles(d, given, target)
        elif kind == "longdouble" and fine_boundaries(d).size:
            _next_to_fine_boundaries(d, given, numbers, target)
        bad = nans(numbers, kind)
        if bad is not None:
            if nan is None:
                where = np.unravel_index(begin + int(np.flatnonzero(bad)[0]), array.shape)
                index = ", ".join(str(int(i)) for i in where)
                rule = f"{d.name} has no NaN level"
                place = f"x[{index}]" if index else "x"
                raise BadInput(message("encode", f"{place} = nan", rule, "clean the input or use a type with NaN"))
            target[bad] = nan

    native = array.dtype.newbyteorder("=")
    if array.flags.c_contiguous and array.dtype == native and sys.byteorder == "little" and array.flags.aligned:
        flat = array.reshape(-1)
        in_pieces(flat.size, threads, CHUNK, lambda begin, end, s: piece(flat[begin:end], begin, s), Scratch)
    elif array.size:
        scratch, begin = Scratch(min(CHUNK, array.size)), 0
        for numbers in _copies(array, native):
            piece(numbers, begin, scratch)
            begin += numbers.size
    return codes


def _copies(array: NDArray[Any], native: np.dtype[Any]) -> Iterator[NDArray[Any]]:
    """The elements of an array of any strides, in C order, a contiguous native piece at a time."""
    flags: Any = ["external_loop", "buffered", "zerosize_ok"]
    options: Any = {"op_dtypes": [native], "casting": "equiv", "order": "C", "buffersize": CHUNK}
    pieces: Any = np.nditer(array, flags=flags, **options)
    for piece in pieces:
        for begin in range(0, piece.size, CHUNK):  # a dimension that needs no buffer comes whole
            yield np.ascontiguousarray(piece[begin : begin + CHUNK])


def nans(numbers: NDArray[Any], kind: str) -> NDArray[np.bool_] | None:
    """Which numbers are NaN, or None if none is (the usual case: one fast pass)."""
    if kind in ("float16", "bfloat16"):
        magnitudes = numbers.view(np.uint16) & np.uint16(0x7FFF)
        return magnitudes > INFINITY[kind] if magnitudes.max(initial=0) > INFINITY[kind] else None
    with np.errstate(invalid="ignore"):
        largest = numbers.max(initial=-np.inf)
    return np.isnan(numbers) if largest != largest else None


def to_odd_float64(numbers: NDArray[Any]) -> NDArray[np.float64]:
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


def _next_to_fine_boundaries(
    d: DataType, numbers: NDArray[Any], odd: NDArray[np.float64], target: NDArray[Any]
) -> None:
    """longdouble next to a boundary that takes more than 52 bits: rare, and asked of the definition."""
    with np.errstate(over="ignore", under="ignore", invalid="ignore"):
        near = numbers.astype(np.float64)
    fine = fine_boundaries(d)
    for i in np.flatnonzero(np.isin(near, fine) | np.isin(odd, fine)):
        target[i] = exact.encode(d, numbers[i])


@lru_cache(maxsize=8)
def _longdouble_boundaries(d: DataType) -> tuple[Boundaries, NDArray[np.intp]]:
    """The boundaries as longdoubles, and how many of the first n are inclusive."""
    b = boundaries(d, np.longdouble)
    return b, np.append(0, np.cumsum(b.inclusive))


def _among_longdoubles(d: DataType, numbers: NDArray[Any], target: NDArray[Any]) -> None:
    """longdouble in a type with levels outside float64: count the boundaries that each number reaches."""
    b, inclusive = _longdouble_boundaries(d)
    below, reached = (np.searchsorted(b.at, numbers, side=side) for side in ("left", "right"))
    target[...] = b.codes[below + inclusive[reached] - inclusive[below]]


# Decode ---------------------------------------------------------------------------------------


@lru_cache(maxsize=64)
def _levels(dtype: DataType) -> NDArray[Any]:
    """float32 or float64 [2**bits]: what each code decodes to; codes `outside` are refused before."""
    return rounded(*dtype.parts())[0].astype(dtype.level_dtype)


@lru_cache(maxsize=64)
def _pairs(dtype: DataType) -> NDArray[np.uint64]:
    """uint64 [65536]: the two float32 levels of every two bytes of codes; unknown codes are left 0."""
    levels = np.zeros(256, np.float32)
    levels[: 2**dtype.bits] = dtype.levels
    both = np.arange(65536, dtype="<u2").view(np.uint8).reshape(-1, 2)  # [65536, 2] bytes in memory order
    return levels[both].view(np.uint64).ravel()


def _refuse_level(d: DataType, codes: NDArray[Any], at: int, first: int | None) -> NoReturn:
    """Raise for the code at `at`, whose level float64 does not hold; codes[0] is at `first` of the user's array."""
    code = int(codes[at])
    place = "codes" if first is None else f"codes[{first + at}]"
    rule = f"{d.name} has level {spelled(*d.parts([code]))[0]} there, outside float64"
    raise BadInput(message("decode", f"{place} = {code:#x}", rule, "use kb.exact.decode"))


def decode(
    dtype: DataType | str,
    codes: Any,
    *,
    threads: int | None = None,
    out: NDArray[Any] | None = None,
) -> NDArray[Any]:
    """Decode codes: return the level of each.

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
        `decode: codes[3] = 0x1, Binary16p1ue has level 2**-32767 there, outside float64; use kb.exact.decode`
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
    table = _pairs(d) if in_pairs else _levels(d)
    limited = 2**d.bits <= np.iinfo(array.dtype).max

    def work(begin: int, end: int, index: NDArray[np.intp]) -> None:
        piece, target = flat[begin:end], flat_out[begin:end]
        if limited and piece.max() >= 2**d.bits:
            refuse_codes("decode", piece, d.bits, begin)
        if d.exponents is not None and (outside := d.outside[piece]).any():
            _refuse_level(d, piece, int(np.flatnonzero(outside)[0]), begin if array.ndim else None)
        even = piece.size // 2 * 2 if in_pairs else 0
        if even:
            ready = index[: even // 2]
            np.copyto(ready, piece[:even].view(np.uint16))
            table.take(ready, out=target[:even].view(np.uint64), mode="clip")
        if even < piece.size:
            np.take(_levels(d), piece[even:], out=target[even:])

    in_pieces(flat.size, threads, 2 * CHUNK, work, lambda n: np.empty(n, np.intp), function="decode")
    return levels
