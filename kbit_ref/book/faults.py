"""Quantizers written by hand, in NumPy and in C, right ones and ones with a fault: what does `check` say first?

The quantizers share nothing with the package: tables are typed, scales are found and codes are packed in plain NumPy.
The right ones agree with the definition; a faulty one is the same function with one word changed.
"""

from __future__ import annotations

import shutil
import subprocess
import tempfile
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from kbit_ref.conformance.check import check
from kbit_ref.conformance.programs import judge_shared

__all__ = ["FAULTS", "IN_C", "RIGHT", "Planted", "compiled", "escaped", "markdown", "verdicts"]

Array = NDArray[Any]
F32 = np.float32

NF4 = np.array(
    [
        *(-1.0, -0.6961928009986877, -0.5250730514526367, -0.39491748809814453, -0.28444138169288635),
        *(-0.18477343022823334, -0.09105003625154495, 0.0, 0.07958029955625534, 0.16093020141124725),
        *(0.24611230194568634, 0.33791524171829224, 0.44070982933044434, 0.5626170039176941, 0.7229568362236023, 1.0),
    ],
    F32,
)
E2M1 = np.array([0, 0.5, 1, 1.5, 2, 3, 4, 6], F32)


@dataclass(frozen=True)
class Planted:
    """A quantizer with a fault.

    Parameters
    ----------
    fault
        What is wrong with it, in a few words.
    subject
        What it claims: a data type, a scheme, a profile.
    function
        Of one array, as `kb.check` takes it.
    named
        A word that the right name of the fault has.
    shapes
        Which arrays it takes.
    """

    fault: str
    subject: str
    function: Callable[[Array], Any]
    named: str
    shapes: bool | str = True


# The formats by hand ------------------------------------------------------------------------------


def nearest(y: Array, levels: Array, even: bool = False, away: bool = False) -> Array:
    """The code of the nearest level; on a midpoint the lower one, the even one, or the one away from zero."""
    wide = levels.astype(np.float64)
    middle = (wide[1:] + wide[:-1]) / 2
    low = np.searchsorted(middle, y.astype(np.float64), side="left")
    high = np.searchsorted(middle, y.astype(np.float64), side="right")
    if away:
        return np.where(y > 0, high, low)
    return np.where((low % 2 == 1) & even, high, low) if even else low


def in_blocks(x: Array, size: int) -> tuple[Array, Array, Array]:
    """Numbers in rows of blocks, zeros behind the last one; which are there; the largest magnitude of each."""
    flat = x.reshape(-1).astype(F32)
    n_blocks = -(-flat.size // size)
    rows = np.zeros((n_blocks, size), F32)
    rows.reshape(-1)[: flat.size] = flat
    there = np.arange(n_blocks * size).reshape(n_blocks, size) < flat.size
    return rows, there, np.abs(rows).max(axis=1, keepdims=True, initial=0)


def packed(codes: Array, low_first: bool = True) -> Array:
    """Two codes a byte; a last one alone has zeros beside it."""
    flat = codes.reshape(-1).astype(np.uint8)
    flat = np.concatenate([flat, np.zeros(flat.size % 2, np.uint8)])
    first, second = (flat[0::2], flat[1::2]) if low_first else (flat[1::2], flat[0::2])
    return first | second << 4


def nf4(x: Array, fault: str = "") -> dict[str, Array]:
    """nf4-b64-absmax-f32."""
    rows, there, largest = in_blocks(x, 64)
    scales = largest.astype(np.float16).astype(F32) if fault == "half" else largest
    if fault == "no abs":
        scales = np.maximum(rows.max(axis=1, keepdims=True, initial=0), 0)
    if fault == "tail" and x.size % 64 and len(scales) > 1:
        scales = np.concatenate([scales[:-1], scales[-2:-1]])
    with np.errstate(all="ignore"):
        y = rows * (F32(1) / scales) if fault == "reciprocal" else rows / scales
        if fault == "bfloat16":
            y = (y.view(np.uint32) & np.uint32(0xFFFF0000)).view(F32)
    y = np.where(scales == 0, F32(0), y)
    levels = np.round(NF4, 4) if fault == "four digits" else NF4
    codes = nearest(y, levels)
    if fault == "one code":
        codes = np.minimum(codes, 14)
    if fault == "last block" and len(codes):
        codes[-1] = 0
    flat = codes[there]
    return {"packed": packed(flat, fault != "swapped"), "scales": scales.reshape(-1)}


def mxfp4(x: Array, fault: str = "") -> dict[str, Array]:
    """e2m1fn-b32@-1-pow2ceil-e8m0fnu, of rows."""
    rows = x.astype(F32).reshape(-1, 32)
    largest = np.abs(rows).max(axis=1, keepdims=True)
    fraction, exponent = np.frexp(largest)  # largest = fraction * 2^exponent, 0.5 <= fraction < 1
    if fault == "floor" or fault == "logarithm":
        power = exponent - 1
    else:
        power = np.where(fraction == 0.5, exponent - 1, exponent)
    if fault == "logarithm":
        with np.errstate(divide="ignore"):
            power = np.floor(np.log(largest) / np.log(F32(2))).astype(np.int32)
    power = np.clip(np.where(largest == 0, -127, power - 2), -127, 127)
    if fault == "one up":
        power = np.minimum(power + 1, 127)
    y = np.ldexp(rows.astype(np.float64), -power)
    if fault == "truncated":
        codes = np.searchsorted(E2M1, np.abs(y).astype(F32), side="right") - 1
    else:
        codes = nearest(np.abs(y), E2M1, even=fault != "away", away=fault == "away")
    codes = codes | np.where(np.signbit(rows), 8, 0)
    scales = np.ldexp(F32(1), power).astype(F32)
    return {"codes": codes.reshape(x.shape).astype(np.uint8), "scales": scales.reshape(-1)}


def e4m3(x: Array, fault: str = "") -> NDArray[np.uint8]:
    """e4m3fn, saturating, from float32."""
    x = x.astype(np.float16).astype(F32) if fault == "through float16" else x
    significand = 3
    size = np.abs(x.astype(np.float64))
    size = np.where(np.isfinite(size), size, 448.0)
    exponent = np.maximum(np.frexp(size)[1] - 1, -6)
    steps = np.ldexp(size, significand - exponent)  # in units of the last place
    whole = np.floor(steps + 0.5) if fault == "away" else np.trunc(steps) if fault == "truncated" else np.rint(steps)
    value = np.minimum(np.ldexp(whole, exponent - significand), 448.0)
    if fault == "flushed":
        value = np.where(value < 2.0**-6, 0.0, value)
    exponent = np.maximum(np.frexp(value)[1] - 1, -6)
    mantissa = np.ldexp(value, significand - exponent).astype(np.int64)  # 8 ... 15, or less for subnormals
    code = np.where(mantissa >= 8, (exponent + 7) * 8 + mantissa - 8, mantissa)
    if fault == "overflow":
        code = np.where(np.abs(x) > 464, 0x7F, code)
    code = np.where(np.isnan(x), 0x7F, code)
    sign = np.where(np.signbit(x), 0x80, 0)
    return np.asarray(code | (0 if fault == "sign" else sign), np.uint8)


def int8_rows(x: Array, fault: str = "") -> dict[str, Array]:
    """int8-channel-absmax-f32."""
    rows = x.astype(F32).reshape(len(x), -1)
    top = {"128": F32(128), "127.5": F32(127.5)}.get(fault, F32(127))
    scales = (np.abs(rows).max(axis=1, keepdims=True, initial=0) / top).astype(F32)
    with np.errstate(all="ignore"):
        y = np.where(scales == 0, F32(0), rows / scales).astype(F32)
    if fault == "half up":
        whole = np.floor(y + F32(0.5))
    elif fault == "cast":
        whole = np.trunc(y)
    else:
        whole = np.rint(y)
    low = -127 if fault == "symmetric" else -128
    codes = np.clip(whole, low, 127).astype(np.int64)
    return {"codes": (codes & 255).astype(np.uint8).reshape(x.shape), "scales": scales.reshape(-1)}


def uint8_affine(x: Array, fault: str = "") -> Array:
    """uint8-channel-affine-f32, quantized and back."""
    rows = x.astype(F32).reshape(len(x), -1)
    low, high = rows.min(axis=1, keepdims=True), rows.max(axis=1, keepdims=True)
    if fault != "not widened":
        low, high = np.minimum(low, F32(0)), np.maximum(high, F32(0))
    scales = ((high - low) / F32(255)).astype(F32)
    with np.errstate(all="ignore"):
        zero = np.where(scales == 0, F32(0), np.clip(np.rint(-low / scales), 0, 255))
        steps = np.where(scales == 0, F32(0), np.rint(rows / scales))
    codes = np.clip(steps + (F32(0) if fault == "never added" else zero), 0, 255)
    read = zero + F32(1) if fault == "one off" else zero
    return np.asarray((codes - read) * scales, F32).reshape(x.shape)


def q4_0(x: Array, fault: str = "") -> dict[str, Array]:
    """ggml-q4_0, of rows of 32."""
    rows = x.astype(F32).reshape(-1, 32)
    at = np.abs(rows).argmax(axis=1)
    most = rows[np.arange(len(rows)), at][:, None]
    if fault == "absmax":
        most = np.abs(most)
    d = (most / F32(-8)).astype(F32)
    with np.errstate(all="ignore"):
        inverse = np.where(d == 0, F32(0), F32(1) / d).astype(F32)
    shift = F32(8) if fault == "truncated" else F32(8.5)
    with np.errstate(all="ignore"):
        codes = np.clip(np.trunc(rows * inverse + shift), 0, 15).astype(np.uint8)
    if fault == "linear":
        nibbles = codes[:, 0::2] | codes[:, 1::2] << 4
    else:
        nibbles = codes[:, :16] | codes[:, 16:] << 4
    return {"packed": nibbles.reshape(-1), "scales": d.astype(np.float16).astype(F32).reshape(-1)}


MX, NF, I8, U8, Q4 = (
    "e2m1fn-b32@-1-pow2ceil-e8m0fnu",
    "nf4-b64-absmax-f32",
    "int8-channel-absmax-f32",
    "uint8-channel-affine-f32",
    "ggml-q4_0",
)


def with_fault(function: Callable[..., Any], fault: str) -> Callable[[Array], Any]:
    """One of the functions above, with its fault."""
    return lambda x: function(x, fault)


RIGHT: dict[str, tuple[Callable[..., Any], bool | str]] = {
    NF: (nf4, True),
    MX: (mxfp4, "rows"),
    "e4m3fn": (e4m3, True),
    I8: (int8_rows, "rows"),
    U8: (uint8_affine, "rows"),
    Q4: (q4_0, "rows"),
}

_ROWS = (
    # fault, subject, the word above, what a right name has
    ("the nibbles of each byte are swapped", NF, "swapped", "other end of each byte|nibble"),
    ("x is multiplied by the reciprocal of the scale", NF, "reciprocal", "reciprocal"),
    ("the scale is rounded to float16", NF, "half", "float16"),
    ("the short last block has the scale of the block before it", NF, "tail", "short last block|tail"),
    ("the last block is not written", NF, "last block", "last block"),
    ("the table is typed with four digits", NF, "four digits", "table|digits"),
    ("the largest level is never emitted", NF, "one code", "clamp|never|largest"),
    ("the scale is max(x), not max|x|", NF, "no abs", r"max\(x\)"),
    ("quotients are cut to bfloat16", NF, "bfloat16", "bfloat16|upper half"),
    ("the exponent of the scale is rounded down, not up", MX, "floor", "down|floor"),
    ("ties go away from zero", MX, "away", "away from zero"),
    ("codes are truncated", MX, "truncated", "toward zero|truncat|cut off"),
    ("the exponent of the scale is one too large", MX, "one up", r"\+1|2\^1"),
    ("ties go away from zero", "e4m3fn", "away", "away"),
    ("the significand is truncated", "e4m3fn", "truncated", "toward_zero|toward zero|cut"),
    ("subnormals are flushed to zero", "e4m3fn", "flushed", "subnormal"),
    ("x goes through float16", "e4m3fn", "through float16", "float16"),
    ("beyond 464 the answer is NaN", "e4m3fn", "overflow", "overflow|NaN"),
    ("the sign is lost", "e4m3fn", "sign", "sign|\\|x\\|"),
    ("the largest magnitude is divided by 128", I8, "128", "divided by 2.\\(bits - 1\\)"),
    ("the largest magnitude is divided by 127.5", I8, "127.5", "half-the-range"),
    ("rounding is floor(x + 0.5)", I8, "half up", "0.5"),
    ("a C cast truncates the quotient", I8, "cast", "toward zero|truncat|cut off"),
    ("the zero point is never added", U8, "never added", "zero point"),
    ("the zero point is read one off", U8, "one off", "zero point"),
    ("the range is not widened to hold 0", U8, "not widened", "widened|zero"),
    ("nibbles lie one after the other, not j beside j + 16", Q4, "linear", "layout|low4"),
    ("the sign of the largest element is ignored", Q4, "absmax", "sign"),
    ("the half is forgotten before the cut", Q4, "truncated", "toward zero|truncat|cut off|down"),
)

FAULTS = tuple(
    Planted(fault, subject, with_fault(RIGHT[subject][0], word), named, RIGHT[subject][1])
    for fault, subject, word, named in _ROWS
)


# The page -----------------------------------------------------------------------------------------

DECLARATION = "void f(const float *x, float *scales, uint8_t *packed, int64_t n)"
IN_C = {  # the number of the fault in faults.c: what it is, and what a right name has
    1: ("C: the nibbles of each byte are swapped", "other end of each byte"),
    2: ("C: x is multiplied by the reciprocal of the scale", r"fl\(1 / scale\)"),
    3: ("C: the last block is not written", "last blocks. bytes"),
    4: ("C: the scale goes through a half-precision variable", "float16"),
    5: ("C: a short last block ends at the last whole pair of numbers", "last odd code"),
    6: ("C: the sign of the scale is lost in max(x)", r"max\(x\)"),
}


def compiled(number: int, folder: Path) -> Path | None:
    """The shared library of a fault in C; None without a compiler."""
    compiler = shutil.which("cc")
    if compiler is None:
        return None
    made = folder / f"fault{number}.so"
    source = Path(__file__).with_name("faults.c")
    subprocess.run([compiler, "-O1", "-shared", "-fPIC", f"-DFAULT={number}", "-o", made, source, "-lm"], check=True)
    return made


def verdicts() -> Iterator[tuple[str, str, str, float]]:
    """Yield each fault, what it claims, the first line of the verdict, and the seconds that it took."""
    for planted in FAULTS:
        begin = time.perf_counter()
        verdict = check(planted.function, planted.subject, shapes=planted.shapes)
        yield planted.fault, planted.subject, first_line(str(verdict)), time.perf_counter() - begin
    with tempfile.TemporaryDirectory() as folder:
        for number, (fault, _) in IN_C.items():
            library = compiled(number, Path(folder))
            if library is not None:
                begin = time.perf_counter()
                judged = judge_shared(NF, str(library), DECLARATION)
                yield fault, NF, first_line(str(judged)), time.perf_counter() - begin


def first_line(text: str) -> str:
    """What a verdict says first, without the name of the subject and the status."""
    line = text.partition("\n")[0]
    return line.partition(": disagree: ")[2] or line


def escaped(text: str) -> str:
    """Text for a cell of a table."""
    return text.replace("|", "\\|")


def markdown() -> str:
    """The table of planted faults."""
    lines = ["| planted | in | what `check` says first | seconds |", "|---|---|---|---:|"]
    for fault, subject, said, seconds in verdicts():
        lines.append(f"| {escaped(fault)} | `{subject}` | {escaped(said)} | {seconds:.1f} |")
    return "\n".join(lines)
