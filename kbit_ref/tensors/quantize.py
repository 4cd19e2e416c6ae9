"""An array to codes and scales.

    x [*shape] --cut--> blocks [n, size] --rule--> scales [n, 1]
      blocks / scales --encode--> codes [n, size] --pack--> bytes

`exact/quantize.py` says what every step means; here each is one NumPy operation on a piece of
blocks that fits the cache.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any

import numpy as np
from numpy.typing import NDArray

from kbit_ref.arithmetic import Arithmetic, odd_quotient, round_to_integer, widened
from kbit_ref.engine.codec import CHUNK, encode, in_pieces
from kbit_ref.engine.stochastic import encode_stochastic
from kbit_ref.errors import BadInput, message
from kbit_ref.exact.quantize import INFINITE_SCALE
from kbit_ref.exact.rules import RULES as FACTS
from kbit_ref.inputs import Reals, as_out, real_array
from kbit_ref.tensors.dequantize import dequantize, values_of
from kbit_ref.tensors.encoders import ENCODERS
from kbit_ref.tensors.kernels import PIECE, Room, aligned, encode_blocks, fits, maxima, pieces_of, whole_bytes
from kbit_ref.tensors.packing import pack_into
from kbit_ref.tensors.qtensor import QTensor
from kbit_ref.tensors.rules import RULES, in_order
from kbit_ref.tensors.scales import Plan, Whole, centred, effective, plan, step, used_scale, whole_numbers
from kbit_ref.tensors.scheme import Scheme, scheme

__all__ = ["Work", "quantize", "taken", "whole_of"]

Array = NDArray[Any]
CLEAN = "clean the input, or use"


def quantize(
    x: Any,
    scheme_: Scheme | str,
    *,
    bfloat16: bool = False,
    threads: int | None = None,
    out: NDArray[np.uint8] | None = None,
    random: Any = None,
    random_bits: int = 0,
    whole: Whole | None = None,
) -> QTensor:
    """Quantize an array to codes and scales, bit for bit those of `kb.exact.quantize`.

    Parameters
    ----------
    x : [*shape]
        float16, bfloat16, float32 or float64; all that `encode` takes but longdouble.
    scheme_
        A scheme, its spelling, or the name of a profile.
    bfloat16
        x holds the bits of bfloat16 numbers as uint16.
    threads
        How many to use; by default as many as help.
    out : [n_bytes]
        uint8: where to write the packed codes; `scheme.layout.size(n)` bytes for n elements.
    random, random_bits
        For a type with stochastic rounding: an integer below 2**random_bits for each x.
    whole
        The global scale and mean of the tensor that x is a part of (`whole_of`); by default those of x.

    Returns
    -------
    QTensor

    Raises
    ------
    BadInput
        `quantize: x[3] = nan, a block with NaN has no scale; clean the input, or use +nan=zero`

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
    reals, a = taken(x, s, bfloat16)
    work = Work(s, a, reals, _drawn(s, random, reals.array.shape), random_bits)
    work.whole = whole_of(x, s, bfloat16=bfloat16) if whole is None else whole
    return work.run(threads, out)


def whole_of(x: Any, scheme_: Scheme | str, *, bfloat16: bool = False) -> Whole:
    """What belongs to the whole tensor: its global scale and its mean, where the scheme has them."""
    s = scheme(scheme_)
    (array, kind), a = taken(x, s, bfloat16)
    return whole_numbers(s, a, lambda rows: a.round(widened(rows, kind)), s.cut.rows(array))


def taken(x: Any, s: Scheme, bfloat16: bool) -> tuple[Reals, Arithmetic]:
    """The numbers of x, and the arithmetic for them."""
    reals = real_array("quantize", x, bfloat16=bfloat16)
    if reals.kind == "longdouble":
        rule = "arithmetic of schemes is in at most float64"
        raise BadInput(message("quantize", "x of dtype longdouble", rule, "use x.astype(np.float64)"))
    wider = "float64" if reals.kind == "float64" else "float32"
    return reals, Arithmetic(wider if s["compute"] == "wider" else s["compute"])


def _drawn(s: Scheme, random: Any, shape: tuple[int, ...]) -> Array | None:
    """The random bits, as rows of the cut."""
    stochastic = s.dtype.rounding.startswith("stochastic")
    if stochastic != (random is not None):
        got = f"rounding = {s.dtype.rounding}"
        rule = "it needs random bits" if stochastic else "it takes no random bits"
        raise BadInput(message("quantize", got, rule, "pass random= and random_bits=" if stochastic else "drop random"))
    return None if random is None else s.cut.rows(np.broadcast_to(np.asarray(random), shape))


class _Special(BadInput):
    """There is a NaN or an infinity that the scheme refuses: two words, of which who catches them makes a line."""

    def __init__(self) -> None:
        super().__init__("NaN or infinity", "somewhere")


class Work:
    """One array on its way to a QTensor."""

    def __init__(self, s: Scheme, a: Arithmetic, x: Reals, random: Array | None, random_bits: int):
        self.s, self.a, self.x, self.random, self.random_bits = s, a, x.array, random, random_bits
        self.kind, self.facts = x.kind, FACTS[s.rule]
        self.rows = s.cut.rows(x.array)  # [n_rows, length]
        self.length = self.rows.shape[1]
        self.width = s.cut.size or max(self.length, 1)
        if self.length % self.width and s["tail"] == "error":
            got, rule = f"rows of {self.length} elements", f"blocks are of {self.width}"
            raise BadInput(message("quantize", got, rule, "pad x, or use +tail=own"))
        self.whole = Whole(None, None)
        shape = (len(self.rows), s.cut.per_row(self.length))
        has_offsets = self.facts.offset_added or s["center"] == "block"
        whole_number = np.uint8 if s.dtype.levels.min() >= 0 else np.int8
        zero_type = {"integer": whole_number, "real": np.float32}.get(self.facts.zero_point)
        self.scales = np.empty(shape, np.float32)
        self.offsets = np.empty(shape, np.float32) if has_offsets else None
        self.zero_points: Array | None = np.empty(shape, zero_type) if zero_type else None
        self.double: QTensor | None = None
        self.quick = fits(s, a)

    def read(self, numbers: Array) -> Array:
        """Numbers of x in the format of the arithmetic."""
        return self.a.round(widened(numbers, self.kind))

    def run(self, threads: int | None, out: NDArray[np.uint8] | None) -> QTensor:
        """All of it."""
        try:
            return self.pieces(threads, out)
        except _Special:
            raise self.refusal() from None

    def pieces(self, threads: int | None, out: NDArray[np.uint8] | None) -> QTensor:
        """All pieces, on as many threads as help."""
        s, form, about = self.s, self.s.layout, PIECE if self.quick else CHUNK
        pieces = pieces_of(len(self.rows), self.length, self.width, form.elements, about)
        packed = as_out("quantize", out, (form.size(self.rows.size),), np.dtype(np.uint8), self.x)
        joined = None if aligned(pieces, self.length, form.elements) else np.empty(self.rows.shape, np.uint8)

        def piece(row: slice, begin: int, end: int, room: Room) -> None:
            shape, first = (row.stop - row.start, end - begin), row.start * self.length + begin
            if joined is not None:
                self.parts(row, begin, end, joined[row, begin:end], room)
            elif whole_bytes(form, 1):  # a code is a byte
                self.parts(row, begin, end, packed[first : first + math.prod(shape)].reshape(shape), room)
            else:
                codes = room.codes(shape)
                self.parts(row, begin, end, codes, room)
                pack_into(packed, codes, form, first, s.fill)

        def over(work: Callable[[slice, int, int, Room], None]) -> None:
            in_pieces(
                *(len(pieces), threads, 1, lambda i, _, room: work(*pieces[i], room)),
                *(self.room, about, "quantize"),
            )

        if s.double is not None:  # the scales first, then the codes
            over(lambda row, begin, end, room: self.parts(row, begin, end, None, room))
            self.double = quantize(self.scales, s.double, threads=threads)
            self.scales = dequantize(self.double, threads=threads, out=self.scales)
        over(piece)
        if joined is not None:
            pack_into(packed, joined, form, 0, s.fill)
        offsets = self.offsets if self.whole.mean is None else np.full((1, 1), self.whole.mean, np.float32)
        return QTensor(
            *(packed, self.scales, self.x.shape, s, offsets, self.zero_points),
            *(self.whole.global_scale, self.double),
        )

    def room(self, _: int) -> Room:
        """Scratch for a thread."""
        return Room(self.rows.size if self.quick else 0)

    def parts(self, row: slice, begin: int, end: int, codes: NDArray[np.uint8] | None, room: Room) -> None:
        """A piece: its full blocks, then its short last ones. Without `codes` only what the blocks store."""
        full = begin + (end - begin) // self.width * self.width
        for first, last, size in ((begin, full, self.width), (full, end, end - full)):
            if first == last:
                continue
            blocks = np.ascontiguousarray(self.rows[row, first:last]).reshape(-1, size)  # [n, size]
            at = row, slice(first // self.width, -(-last // self.width))
            target = None if codes is None else codes[:, first - begin : last - begin]
            if self.quick and self.quickly(blocks, at, target, room):
                continue
            p = plan(self.s, self.a, self.whole, *self.numbers(blocks), self.width, self.error)
            if self.double is not None:
                p.stored = self.scales[at].reshape(-1, 1)
            used, zero = self.finish(p)
            self.store(at, p, zero)
            if target is not None:
                random = None if self.random is None else self.random[row, first:last].reshape(blocks.shape)
                coded = self.codes(p, used, zero, random)
                if self.s["zerocode"] == "code0":
                    coded[(used == 0) & ~np.isnan(p.numbers)] = 0
                target[...] = coded.reshape(target.shape)

    def quickly(self, blocks: Array, at: Any, codes: NDArray[np.uint8] | None, room: Room) -> bool:
        """The same from the largest magnitudes alone (`kernels.py`); False, and nothing written, if it cannot be."""
        largest = maxima(blocks, self.read, room)
        if not np.isfinite(largest).all():
            return False
        p = plan(self.s, self.a, self.whole, largest, None, 1, self.error)
        p.short = blocks.shape[1] < self.width
        if self.double is not None:
            p.stored = self.scales[at].reshape(-1, 1)
        used, _ = self.finish(p)
        how, operand = step(self.s, self.a, self.whole, p, used)
        if not np.isfinite(operand).all():
            return False
        self.store(at, p, None)
        if codes is not None:
            direct = codes.flags.c_contiguous
            coded = codes.reshape(blocks.shape) if direct else np.empty(blocks.shape, np.uint8)
            encode_blocks(self.s.dtype, blocks, self.read, how, operand, largest, coded, room)
            if (empty := used[:, 0] == 0).any():
                coded[empty] = self.s.code_of_zero
            if not direct:
                codes[...] = coded.reshape(codes.shape)
        return True

    def numbers(self, blocks: Array) -> tuple[Array, NDArray[np.bool_] | None]:
        """[n, size]: the blocks in the format of the arithmetic, centred; which elements are finite, if not all."""
        s, a, mean = self.s, self.a, self.whole.mean
        numbers = self.read(blocks)
        with np.errstate(invalid="ignore"):
            extremes = numbers.max(initial=-np.inf), numbers.min(initial=np.inf)
        if np.isfinite(extremes).all():
            return (numbers if mean is None else centred(a, numbers, mean)), None
        finite = np.isfinite(numbers)
        if (bad := np.isnan(numbers)).any():
            if s["nan"] == "error":
                raise _Special()
            if s["nan"] == "zero":
                numbers = np.where(bad, a.dtype(0), numbers)
                finite |= bad
        if s["inf"] == "error" and np.isinf(numbers).any():
            raise _Special()
        if mean is not None:
            numbers = centred(a, numbers, mean)
        return numbers, finite

    def refusal(self) -> BadInput:
        """The first element of x, in C order, that the scheme refuses, wherever the pieces found one."""
        s, flat = self.s, self.x.reshape(-1)
        for begin in range(0, flat.size, CHUNK):
            numbers = self.read(flat[begin : begin + CHUNK])
            refused = np.isinf(numbers) & (s["inf"] == "error") | np.isnan(numbers) & (s["nan"] == "error")
            for at in np.flatnonzero(refused)[:1]:
                index = ", ".join(map(str, np.unravel_index(begin + at, self.x.shape)))
                value = widened(flat[begin + at : begin + at + 1], self.kind)[0]
                got = f"{f'x[{index}]' if index else 'x'} = {value}"
                if np.isnan(value):
                    ways = "+nan=zero" if s.dtype.nan_code is None else "+nan=code or +nan=zero"
                    return BadInput(message("quantize", got, "a block with NaN has no scale", f"{CLEAN} {ways}"))
                beyond = f"it is beyond {self.a.name}, and " if np.isfinite(value) else ""
                rule = f"{beyond}a block with infinity has no scale"
                return BadInput(message("quantize", got, rule, f"{CLEAN} +inf=saturate"))
        raise AssertionError("a piece has refused what no element of x is")

    def finish(self, p: Plan) -> tuple[Array, Array | None]:
        """[n, 1] each: the scale that elements are divided by, and the zero point."""
        used = used_scale(self.s, self.a, self.whole, p)
        if not self.facts.zero_point:
            return used, None
        return used, RULES[self.s.rule].zero(self.s, self.a, p.seen, p.seen_finite, used)

    def store(self, at: tuple[slice, slice], p: Plan, zero: Array | None) -> None:
        """Write what the blocks store."""
        for target, values in ((self.scales, p.stored), (self.offsets, p.offset), (self.zero_points, zero)):
            if target is not None and values is not None and not (target is self.scales and self.double):
                target[at] = values.reshape(target[at].shape)

    def codes(self, p: Plan, used: Array, zero: Array | None, random: Array | None) -> NDArray[np.uint8]:
        """[n, size]: the code of every element."""
        s, a = self.s, self.a
        y = self.scaled(p, used)
        if np.isnan(y).any() and not s.nan_has_a_code:
            rule = f"the scale or its reciprocal is infinite in {a.name}"
            raise BadInput(message("quantize", "x / scale = nan", rule, INFINITE_SCALE))
        if random is not None:
            return encode_stochastic(s.dtype, y, random, self.random_bits)
        if zero is None:
            return ENCODERS[s["encoder"]](s, a, y)
        before = s["zeroadd"] == "before" or self.facts.zero_point == "real"
        with np.errstate(over="ignore"):
            ties = s.dtype.ties
            steps = round_to_integer(a.add(y, zero), ties) if before else round_to_integer(y, ties) + zero
        levels = s.dtype.levels
        return encode(s.dtype, np.clip(steps, levels.min(), levels.max()), threads=1)

    def scaled(self, p: Plan, used: Array) -> Array:
        """[n, size]: the numbers that are encoded."""
        s, a, x = self.s, self.a, p.numbers
        if p.raw_offset is not None:
            offset = a.round(p.raw_offset) if s["scaleuse"] == "unrounded" else p.offset
            x = a.subtract(x, offset) if p.finite is None else np.where(p.finite, a.subtract(x, offset), x)
        how, operand = step(s, a, self.whole, p, used)
        y = odd_quotient(x, operand) if how == "exact" else getattr(a, how)(x, operand)
        empty = used == 0
        return np.where(empty & ~np.isnan(x), y.dtype.type(0), y) if empty.any() else y

    def error(self, p: Plan) -> Array:
        """[n, 1]: the sum of squared errors of each block, in order, each operation in float64."""
        used, zero = self.finish(p)
        codes = self.codes(p, used, zero, None)
        scale = effective(self.s, Arithmetic("float32"), self.whole.global_scale, p.stored)
        with np.errstate(over="ignore", under="ignore", invalid="ignore"):
            values = values_of(self.s, codes, scale, None, None)
            return in_order((p.numbers.astype(np.float64) - values) ** 2, p.finite)

