"""The two verbs: an array to codes and scales, and back.

    x [*shape] --cut--> blocks [n, size] --rule--> scales [n, 1]
      blocks / scales --encode--> codes [n, size] --pack--> bytes         (and back, right to left)

`exact_quantize.py` says what every step means; here each is one NumPy operation on a piece of
blocks that fits the cache.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from fractions import Fraction
from typing import Any

import numpy as np
from numpy.typing import NDArray

from kbit_ref.arithmetic import Arithmetic
from kbit_ref.datatype import datatype
from kbit_ref.engine import CHUNK, decode, encode, in_pieces
from kbit_ref.errors import BadInput, message
from kbit_ref.inputs import as_reals
from kbit_ref.packing import pack, unpack
from kbit_ref.scales import Scaled, Whole, effective, scale_of, whole_of
from kbit_ref.scheme import Scheme, scheme

__all__ = ["QTensor", "dequantize", "quantize"]

Array = NDArray[Any]


@dataclass(frozen=True)
class QTensor:
    """What is stored for an array.

    Parameters
    ----------
    packed
        uint8 [n_bytes]: the codes, rows of blocks in the order of the cut, in the scheme's layout.
    scales
        float32 [n_rows, n_blocks]: the stored scales, as numbers.
    offsets
        float32 [n_rows, n_blocks], or [1, 1] for the mean of the tensor, or None: added on decode.
    zero_points
        uint8 [n_rows, n_blocks] or None: subtracted from the code on decode.
    global_scale
        float32 number or None: the scale of the scales.
    shape, scheme
        Of the array, and how it was quantized.
    """

    packed: NDArray[np.uint8]
    scales: NDArray[np.float32]
    shape: tuple[int, ...]
    scheme: Scheme
    offsets: NDArray[np.float32] | None = None
    zero_points: NDArray[np.uint8] | None = None
    global_scale: np.float32 | None = None

    def __post_init__(self) -> None:
        for array in (self.packed, self.scales, self.offsets, self.zero_points):
            if array is not None:
                array.flags.writeable = False

    @property
    def codes(self) -> NDArray[np.uint8]:
        """uint8 [*shape]: one code an element."""
        flat = unpack(self.packed, self.scheme.layout, int(np.prod(self.shape, dtype=np.intp)))
        rows = self.scheme.cut.rows(np.empty(self.shape, np.uint8)).shape
        return np.ascontiguousarray(self.scheme.cut.join(flat.reshape(rows), self.shape))

    @property
    def bits_per_parameter(self) -> float:
        """All bits stored, over the number of elements."""
        widths = {"f32": 32, "f16": 16, "bf16": 16}
        width = widths.get(self.scheme.scale_dtype) or datatype(self.scheme.scale_dtype).bits
        bits = 8 * self.packed.size + width * self.scales.size
        bits += 0 if self.offsets is None else width * self.offsets.size
        bits += 0 if self.zero_points is None else self.scheme.dtype.bits * self.zero_points.size
        bits += 0 if self.global_scale is None else 32
        elements = int(np.prod(self.shape, dtype=np.intp))
        return bits / elements if elements else 0.0


def quantize(
    x: Any, scheme_: Scheme | str, *, threads: int | None = None, out: NDArray[np.uint8] | None = None
) -> QTensor:
    """An array to codes and scales, bit for bit what `kb.exact.quantize` says.

    Parameters
    ----------
    x : [*shape]
        float16, bfloat16, float32 or float64; all that `encode` takes but longdouble.
    scheme_
        A scheme or its spelling.
    threads
        How many to use; by default as many as help.
    out : [n elements]
        uint8: scratch for the codes before they are packed.

    Returns
    -------
    QTensor

    Raises
    ------
    BadInput
        `quantize: x[3] = nan, a block with NaN has no scale; clean the input, or use +nan=code or zero`

    Examples
    --------
    >>> import kbit_ref as kb
    >>> q = kb.quantize([0.5, -1.0, 3.0, 6.0], "e2m1fn-b2-absmax-f32")
    >>> q.codes, q.scales
    (array([ 5, 15,  5,  7], dtype=uint8), array([[0.16666667, 1.        ]], dtype=float32))
    >>> kb.dequantize(q)
    array([ 0.5, -1. ,  3. ,  6. ], dtype=float32)
    """
    s = scheme(scheme_)
    array = as_reals("quantize", x)
    if array.dtype.type is np.longdouble and np.longdouble is not np.float64:
        rule = "arithmetic of schemes is in at most float64"
        raise BadInput(message("quantize", "x of dtype longdouble", rule, "use x.astype(np.float64)"))
    compute = s["compute"]
    if compute == "wider":
        compute = "float64" if array.dtype == np.float64 else "float32"
    arithmetic = Arithmetic(compute)
    rows = s.cut.rows(array)  # [n_rows, length]
    n_rows, length = rows.shape
    width = s.cut.size or max(length, 1)
    n_blocks = s.cut.per_row(length)
    if length % width and s["tail"] == "error":
        rule = f"blocks are of {width}"
        raise BadInput(message("quantize", f"rows of {length} elements", rule, "pad x, or use +tail=own"))

    whole = whole_of(s, arithmetic, rows)
    codes = np.empty((n_rows, length), np.uint8) if out is None else out.reshape(n_rows, length)
    scales = np.empty((n_rows, n_blocks), np.float32)
    offsets = np.empty_like(scales) if s.rule == "minmax" or s["center"] == "block" else None
    zero_points = np.empty(scales.shape, np.uint8) if s.rule == "affine" else None

    def piece(row: slice, begin: int, end: int, size: int) -> None:
        """Blocks of one size: columns begin ... end of some rows."""
        blocks = np.ascontiguousarray(rows[row, begin:end]).reshape(-1, size)  # [n, size]
        try:
            numbers, finite = _numbers(s, arithmetic, whole, blocks)
            scaled = scale_of(s, arithmetic, whole, numbers, finite, width)
            coded = _codes(s, arithmetic, numbers, scaled)
        except BadInput as error:
            raise _with_position(error, s, array, rows[row, begin:end], row, begin) from None
        codes[row, begin:end] = coded.reshape(codes[row, begin:end].shape)
        columns = slice(begin // width, -(-end // width))
        for target, values in ((scales, scaled.stored), (offsets, scaled.offset), (zero_points, scaled.zero_point)):
            if target is not None and values is not None:
                target[row, columns] = values.reshape(target[row, columns].shape)

    pieces = _pieces(n_rows, length, width)
    in_pieces(len(pieces), threads, 1, lambda i, _, __: piece(*pieces[i]), lambda _: None, CHUNK)
    if whole.mean is not None:
        offsets = np.full((1, 1), whole.mean, np.float32)
    packed = pack(codes, s.layout)
    return QTensor(packed, scales, array.shape, s, offsets, zero_points, whole.global_scale)


def dequantize(q: QTensor, *, threads: int | None = None) -> NDArray[np.float32]:
    """The numbers that a QTensor stands for: level * scale, then + offset, each rounded to float32.

    Returns
    -------
    float32 [*shape]
    """
    s = q.scheme
    f32 = Arithmetic("float32")
    n = int(np.prod(q.shape, dtype=np.intp))
    rows_shape = s.cut.rows(np.empty(q.shape, np.uint8)).shape
    codes = unpack(q.packed, s.layout, n).reshape(rows_shape)
    length = rows_shape[1]
    width = s.cut.size or max(length, 1)
    used = effective(s, f32, q.global_scale, q.scales)

    def spread(values: Array, begin: int, size: int, count: int) -> Array:
        return np.repeat(values[:, begin : begin + count], size, axis=1)

    out = np.empty(rows_shape, np.float32)
    full = length // width * width
    for begin, end, size, first, count in (
        (0, full, width, 0, full // width),
        (full, length, length - full, full // width, 1),
    ):
        if begin == end:
            continue
        part = codes[:, begin:end]
        if q.zero_points is not None:
            zero = spread(q.zero_points, first, size, count)
            levels = (part.astype(np.int32) - zero).astype(np.float32)
        else:
            levels = decode(s.dtype, part, threads=threads)
        with np.errstate(over="ignore", under="ignore", invalid="ignore"):
            values = levels * spread(used, first, size, count)
            if q.offsets is not None:
                offset = (
                    q.offsets
                    if q.offsets.size == 1 and s["center"] == "tensor"
                    else spread(q.offsets, first, size, count)
                )
                values = np.where(np.isfinite(values), values + offset, values)
        out[:, begin:end] = values
    return np.ascontiguousarray(s.cut.join(out, q.shape))


def _pieces(n_rows: int, length: int, width: int) -> list[tuple[slice, int, int, int]]:
    """All blocks as (rows, first column, last column, size of a block), about CHUNK elements each."""
    full = length // width * width
    found = []
    for begin, end, size in ((0, full, width), (full, length, length - full)):
        if begin == end:
            continue
        columns = max(1, CHUNK // size) * size  # of long rows, a part at a time; of short rows, several
        rows = max(1, CHUNK // (end - begin))
        for row in range(0, n_rows, rows):
            for column in range(begin, end, columns):
                found.append((slice(row, min(row + rows, n_rows)), column, min(column + columns, end), size))
    return found


def _numbers(s: Scheme, a: Arithmetic, whole: Whole, blocks: Array) -> tuple[Array, Array | None]:
    """[n, size]: the block in the format of the arithmetic, centred; and which elements are finite, if not all."""
    numbers = a.round(blocks)
    finite = np.isfinite(numbers)
    if finite.all():
        return (numbers if whole.mean is None else a.subtract(numbers, whole.mean)), None
    if (bad := np.isnan(numbers)).any():
        if s["nan"] == "error":
            raise BadInput("nan", int(np.flatnonzero(bad)[0]))
        if s["nan"] == "zero":
            numbers = np.where(bad, a.dtype(0), numbers)
            finite |= bad
    if (infinite := np.isinf(numbers)).any() and s["inf"] == "error":
        raise BadInput("inf", int(np.flatnonzero(infinite)[0]))
    if whole.mean is not None:
        numbers = np.where(finite, a.subtract(numbers, whole.mean), numbers)
    return numbers, finite


def _with_position(error: BadInput, s: Scheme, x: Array, part: Array, row: slice, begin: int) -> BadInput:
    """The error of a piece, told as the position in x."""
    if len(error.args) != 2:
        return error
    what, at = error.args
    r, c = divmod(at, part.shape[1])
    flat = np.arange(x.size).reshape(x.shape)
    position = s.cut.rows(flat)[row.start + r, begin + c]
    index = ", ".join(str(int(i)) for i in np.unravel_index(int(position), x.shape))
    name = "NaN" if what == "nan" else "infinity"
    remedy = "clean the input, or use " + ("+nan=code or +nan=zero" if what == "nan" else "+inf=saturate")
    return BadInput(
        message("quantize", f"x[{index}] = {x.ravel()[int(position)]}", f"a block with {name} has no scale", remedy)
    )


def _codes(s: Scheme, a: Arithmetic, numbers: Array, scaled: Scaled) -> NDArray[np.uint8]:
    """[n, size]: the code of every element."""
    used = scaled.used
    empty = used == 0
    divisor = np.where(empty, a.dtype(1), used) if empty.any() else used
    if s.rule == "minmax":
        assert scaled.offset is not None
        numbers = np.where(np.isfinite(numbers), a.subtract(numbers, scaled.offset), numbers)
    if s["arith"] == "exact":
        if scaled.zero_point is None:
            codes = _round_exactly(lambda ratio: encode(s.dtype, ratio, threads=1), numbers, divisor)
            return np.where(empty & ~np.isnan(numbers), encode(s.dtype, 0.0), codes)
        ratio = _round_exactly(np.rint, numbers, divisor)
    elif s["arith"] == "reciprocal":
        ratio = a.multiply(numbers, a.divide(a.dtype(1), divisor))
    else:
        ratio = a.divide(numbers, divisor)
    if empty.any():
        ratio = np.where(empty & ~np.isnan(numbers), a.dtype(0), ratio)
    if scaled.zero_point is None:
        return encode(s.dtype, ratio, threads=1)
    if np.isnan(ratio).any():
        rule = f"{s.dtype.name} has no NaN level"
        raise BadInput(message("quantize", "x / scale = nan", rule, "use +nan=zero"))
    with np.errstate(over="ignore"):
        steps = np.rint(ratio) + scaled.zero_point
    return np.asarray(np.clip(steps, 0, s.dtype.top), np.uint8)


def _round_exactly(rounding: Callable[[Array], Array], numbers: Array, divisor: Array) -> Array:
    """rounding(numbers / divisor) of the true quotient.

    The float64 quotient is off by less than its neighbours. Where both of them round alike, so does
    the true one; the few others are divided as Fractions and enclosed by a number that tells the side.
    """
    a, b = np.broadcast_arrays(np.asarray(numbers, np.float64), np.asarray(divisor, np.float64))
    with np.errstate(over="ignore", under="ignore", invalid="ignore"):
        quotient = a / b
        below, above = np.nextafter(quotient, -np.inf), np.nextafter(quotient, np.inf)
    for at in np.flatnonzero(np.isfinite(quotient) & (quotient != 0) & (rounding(below) != rounding(above))):
        true, near = Fraction(float(a.flat[at])) / Fraction(float(b.flat[at])), Fraction(float(quotient.flat[at]))
        if true != near:  # past the midpoint that is at, or beside, the nearest float64: never across two
            quotient.flat[at] = (above if true > near else below).flat[at]
    return rounding(quotient)
