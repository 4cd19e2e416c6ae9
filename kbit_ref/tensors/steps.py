"""The reference as a row of steps, each of which can be replaced: what mutants and `diagnose` are made of.

    x --cut--> rows --read--> numbers --admit--> what counts --scale--> --store--> scales --double-->
      numbers / scales --quotient--> y --encode--> codes --pack--> bytes                       the writer
    bytes --unpack--> codes --level--> levels; scales --effective--> --spread--> one an element
      levels * scales + offsets --times--> --join--> values                                    the reader

`reference(scheme)` gives the steps as the scheme means them, from the engine's own pieces; `run` gives
for an array what `kb.quantize` and `kb.dequantize` give. A wrong implementation is the same record
with one function replaced.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from functools import partial
from typing import Any

import numpy as np
from numpy.typing import NDArray

from kbit_ref.arithmetic import Arithmetic, odd_quotient, round_to_integer
from kbit_ref.engine.codec import encode
from kbit_ref.errors import BadInput, message
from kbit_ref.exact.rules import RULES as FACTS
from kbit_ref.inputs import as_reals
from kbit_ref.tensors.cut import Cut
from kbit_ref.tensors.dequantize import dequantize, values_of
from kbit_ref.tensors.encoders import ENCODERS
from kbit_ref.tensors.packing import pack_into, unpack
from kbit_ref.tensors.quantize import quantize
from kbit_ref.tensors.rules import RULES, in_order
from kbit_ref.tensors.scales import Plan, Whole, centred, effective, plan, step, stored_scale, used_scale, whole_numbers
from kbit_ref.tensors.scheme import Scheme, scheme

__all__ = ["ORDER", "READER", "WRITER", "Output", "Reader", "Runner", "Steps", "Stored", "reference", "run"]

Array = NDArray[Any]
Codes = NDArray[np.uint8]
_Part = tuple[Array, Array | None]

WRITER = ("cut", "read", "whole", "admit", "scale", "store", "double", "zero", "quotient", "encode", "pack")
READER = ("unpack", "level", "effective", "zeros", "spread", "times", "join")
ORDER = (*WRITER, *READER)


@dataclass(frozen=True)
class Steps:
    """What is done to an array, in this order. n blocks of `size` elements share no number but those of `Whole`.

    Parameters
    ----------
    scheme, arithmetic
        What the steps were made for, and the format of the writer's operations.
    cut
        How the array lies in rows, and rows in blocks; the writer's and the reader's.
    read
        rows of x -> the same numbers in the format of the arithmetic.
    whole
        rows -> the mean and the global scale of all, where there are any.
    admit
        (blocks [n, size], whole) -> (numbers, which of them are finite or None if all): NaN and infinity
        handled, centred.
    scale
        (numbers, finite, width, whole) -> Plan: offsets and scales before the scales are stored.
    store
        plan -> [n, 1]: the scales as numbers of their stored type.
    double
        scales [n_rows, n_blocks] -> the same quantized again, and back.
    zero
        (plan, used scales) -> zero points [n, 1], or None.
    quotient
        (plan, used scales, whole) -> [n, size]: the numbers that are encoded.
    encode
        (quotients, used scales, zero points) -> codes [n, size].
    pack
        codes in the order of the rows -> bytes.
    unpack
        (bytes, (n_rows, length)) -> codes [n_rows, length].
    level
        codes -> levels, float32.
    effective
        (scales, global scale) -> the numbers that levels are multiplied by.
    zeros
        zero points [n_rows, n_blocks] as stored -> as subtracted.
    spread
        (one number a block [n_rows, n_blocks], the shape of the array) -> one an element [n_rows, length].
    times
        (levels, scales, zero points, offsets), one an element -> values [n_rows, length].
    join
        (rows, shape) -> the array.
    """

    scheme: Scheme
    arithmetic: Arithmetic
    cut: Cut
    read: Callable[[Array], Array]
    whole: Callable[[Array], Whole]
    admit: Callable[[Array, Whole], tuple[Array, Array | None]]
    scale: Callable[[Array, Array | None, int, Whole], Plan]
    store: Callable[[Plan], Array]
    double: Callable[[Array], Array]
    zero: Callable[[Plan, Array], Array | None]
    quotient: Callable[[Plan, Array, Whole], Array]
    encode: Callable[[Array, Array, Array | None], Codes]
    pack: Callable[[Codes], Codes]
    unpack: Callable[[Codes, tuple[int, int]], Codes]
    level: Callable[[Codes], Array]
    effective: Callable[[Array, Any], Array]
    zeros: Callable[[Array], Array]
    spread: Callable[[Array, tuple[int, ...]], Array]
    times: Callable[[Array, Array, Array | None, Array | None], Array]
    join: Callable[[Array, tuple[int, ...]], Array]


@dataclass(frozen=True)
class Stored:
    """What the writer leaves to the reader."""

    packed: Codes
    scales: NDArray[np.float32]  # [n_rows, n_blocks]
    offsets: NDArray[np.float32] | None  # likewise, or [1, 1]
    zero_points: Array | None
    global_scale: np.float32 | None
    shape: tuple[int, ...]


@dataclass(frozen=True)
class Output:
    """What an implementation makes of an array.

    Parameters
    ----------
    packed, scales, offsets, zero_points, global_scale
        As in `QTensor`.
    codes
        uint8 [*shape]: as the writer gave them to its packer.
    values
        float32 [*shape]: as the reader gives them back.
    """

    packed: Codes
    codes: Codes
    scales: NDArray[np.float32]
    offsets: NDArray[np.float32] | None
    zero_points: Array | None
    global_scale: np.float32 | None
    values: NDArray[np.float32]

    def parts(self) -> dict[str, Array]:
        """Those that there are, by name."""
        return {name: np.asarray(part) for name, part in vars(self).items() if part is not None}


# The steps as the scheme means them --------------------------------------------------------------


def reference(scheme_: Scheme | str, source: str = "float32") -> Steps:
    """The steps of a scheme for numbers of a format, float16, bfloat16, float32 or float64.

    Examples
    --------
    >>> import numpy as np
    >>> out = run(reference("e2m1fn-b2-absmax-f32"), np.array([0.5, -1.0, 3.0, 6.0], np.float32))
    >>> out.codes, out.scales
    (array([ 5, 15,  5,  7], dtype=uint8), array([[0.16666667, 1.        ]], dtype=float32))
    >>> out.values
    array([ 0.5, -1. ,  3. ,  6. ], dtype=float32)
    """
    s = scheme(scheme_)
    wider = "float64" if source == "float64" else "float32"
    a = Arithmetic(wider if s["compute"] == "wider" else s["compute"])
    form = s.layout

    def pack(codes: Codes) -> Codes:
        packed = np.empty(form.size(codes.size), np.uint8)
        pack_into(packed, np.ascontiguousarray(codes), form, 0, s.fill)
        return packed

    return Steps(
        scheme=s,
        arithmetic=a,
        cut=s.cut,
        read=a.round,
        whole=lambda rows: whole_numbers(s, a, lambda numbers: numbers, rows),
        admit=lambda blocks, whole: _admit(s, a, blocks, whole),
        scale=lambda numbers, finite, width, whole: _scale(s, a, numbers, finite, width, whole),
        store=lambda p: stored_scale(s, p.raw, p.empty),
        double=lambda scales: scales if s.double is None else dequantize(quantize(scales, s.double)),
        zero=lambda p, used: _zero(s, a, p, used),
        quotient=lambda p, used, whole: _quotient(s, a, p, used, whole),
        encode=lambda y, used, zero: _encode(s, a, y, used, zero),
        pack=pack,
        unpack=lambda packed, grid: unpack(packed, form, math.prod(grid)).reshape(grid),
        level=partial(_level, np.asarray(s.dtype.levels, s.dtype.level_dtype)),
        effective=lambda scales, whole: effective(s, Arithmetic("float32"), whole, scales),
        zeros=lambda grid: grid,
        spread=partial(spread, s.cut),
        times=lambda levels, scale, zero, offset: times(s, levels, scale, zero, offset),
        join=s.cut.join,
    )


def _level(table: Array, codes: Codes) -> Array:
    """The level of each code."""
    return table[codes]


def _admit(s: Scheme, a: Arithmetic, blocks: Array, whole: Whole) -> tuple[Array, Array | None]:
    """NaN and infinity as the scheme says; centred."""
    finite = np.isfinite(blocks)
    bad = np.isnan(blocks)
    no_nan = s["nan"] == "error" or (s["nan"] == "code" and _refuses_nan(s))
    for wrong, refused in ((bad, no_nan), (np.isinf(blocks), s["inf"] == "error")):
        if refused and wrong.any():
            got = f"x = {blocks[wrong][0]}"
            raise BadInput(message("run", got, f"{s} has no answer", "clean the input"))
    if s["nan"] == "zero":
        blocks, finite = np.where(bad, blocks.dtype.type(0), blocks), finite | bad
    if whole.mean is not None:
        blocks = centred(a, blocks, whole.mean)
    return blocks, None if finite.all() else finite


def _refuses_nan(s: Scheme) -> bool:
    """Is NaN no number that the encoder takes?"""
    return s.dtype.nan_code is None and s["encoder"] not in ("bnb_nf4", "bnb_fp4")


def _scale(s: Scheme, a: Arithmetic, numbers: Array, finite: Array | None, width: int, whole: Whole) -> Plan:
    """The engine's plan; where a rule has several scales, the one with the least squared error."""

    def error(p: Plan) -> Array:
        used = used_scale(s, a, whole, p)
        zero = _zero(s, a, p, used)
        codes = _encode(s, a, _quotient(s, a, p, used, whole), used, zero)
        in_use = effective(s, Arithmetic("float32"), whole.global_scale, p.stored)
        with np.errstate(all="ignore"):
            return in_order((p.numbers.astype(np.float64) - values_of(s, codes, in_use, None, None)) ** 2, p.finite)

    return plan(s, a, whole, numbers, finite, width, error)


def _zero(s: Scheme, a: Arithmetic, p: Plan, used: Array) -> Array | None:
    """The zero points, where the rule has them."""
    return RULES[s.rule].zero(s, a, p.seen, p.seen_finite, used) if FACTS[s.rule].zero_point else None


def _quotient(s: Scheme, a: Arithmetic, p: Plan, used: Array, whole: Whole) -> Array:
    """(x - offset) / scale, as the scheme computes it; 0 where the scale is."""
    x = p.numbers
    if p.raw_offset is not None and p.offset is not None:
        offset = a.round(p.raw_offset) if s["scaleuse"] == "unrounded" else p.offset
        x = np.where(np.isfinite(x), a.subtract(x, offset), x)
    how, operand = step(s, a, whole, p, used)
    y = odd_quotient(x, operand) if how == "exact" else getattr(a, how)(x, operand)
    return np.where((used == 0) & ~np.isnan(x), y.dtype.type(0), y)


def _encode(s: Scheme, a: Arithmetic, y: Array, used: Array, zero: Array | None) -> Codes:
    """The codes; a zero point is added to whole numbers.

    Numbers are never NaN here, unless a mistake has made them so: then they count as 0.
    """
    if _refuses_nan(s) or zero is not None:
        y = np.where(np.isnan(y), y.dtype.type(0), y)
    if zero is None:
        codes = ENCODERS[s["encoder"]](s, a, y)
        if s["zerocode"] == "code0":
            codes = np.where((used == 0) & ~np.isnan(y), np.uint8(0), codes)
        return np.asarray(codes, np.uint8)
    before = s["zeroadd"] == "before" or FACTS[s.rule].zero_point == "real"
    ties = s.dtype.ties
    steps = round_to_integer(a.add(y, zero), ties) if before else round_to_integer(y, ties) + zero
    codes = encode(s.dtype, np.clip(steps, s.dtype.levels.min(), s.dtype.levels.max()), threads=1)
    if s["zerocode"] == "code0":
        codes = np.where(used == 0, np.uint8(0), codes)
    return np.asarray(codes, np.uint8)


def spread(cut: Cut, grid: Array, shape: tuple[int, ...]) -> Array:
    """[n_rows, n_blocks] -> [n_rows, length]: the number of the block that each element is in."""
    length = cut.grid(shape)[1]
    return np.repeat(grid, cut.size or max(length, 1), axis=1)[:, :length]


def times(s: Scheme, levels: Array, scale: Array, zero: Array | None, offset: Array | None) -> Array:
    """(level - zero point) * scale + offset, each operation rounded to float32."""
    with np.errstate(all="ignore"):
        levels = levels if zero is None else levels - zero
        values = np.divide(levels, scale) if s["scaleas"] == "divisor" else np.multiply(levels, scale)
        if offset is not None:
            values = np.where(np.isfinite(values), values + offset, values)
    return np.asarray(values, np.float32)


# Running them ------------------------------------------------------------------------------------


def run(steps: Steps, x: Any) -> Output:
    """What these steps make of an array.

    Raises
    ------
    BadInput
        for what the scheme refuses, as `kb.quantize` does.
    """
    return Runner(x)(steps)


@dataclass(frozen=True)
class _Written:
    """The writer's side, done."""

    stored: Stored
    codes: Codes


class Runner:
    """Steps run on one array; what two records of steps begin with in common is computed once."""

    def __init__(self, x: Any):
        self.x = as_reals("run", x)
        self._known: dict[tuple[Any, ...], Any] = {}

    def __call__(self, steps: Steps, *, keep: bool = True) -> Output:
        """Everything; with `keep=False` nothing new is remembered."""
        written = self.write(steps, keep=keep)
        values = read(steps, written.stored)
        st = written.stored
        return Output(st.packed, written.codes, st.scales, st.offsets, st.zero_points, st.global_scale, values)

    def write(self, steps: Steps, *, keep: bool = True) -> _Written:
        """The writer's side."""

        used_so_far = [getattr(steps, name) for name in WRITER]

        def once(last: str, work: Callable[[], Any]) -> Any:
            """What the steps up to `last` give."""
            key = (last, *used_so_far[: WRITER.index(last) + 1])
            if key in self._known:
                return self._known[key]
            found = work()
            if keep:
                self._known[key] = found
            return found

        rows: Array = once("read", lambda: steps.read(steps.cut.rows(self.x)))
        whole: Whole = once("whole", lambda: steps.whole(rows))
        width = steps.cut.size or max(rows.shape[1], 1)
        cut = _parts(steps, rows, width)
        parts: list[_Part] = once("admit", lambda: [steps.admit(part, whole) for part in cut])
        plans: list[Plan] = once("scale", lambda: [steps.scale(x, finite, width, whole) for x, finite in parts])
        plans = once("double", lambda: _with_scales(steps, plans, len(rows)))
        used = once("zero", lambda: [_used_and_zero(steps, p, whole) for p in plans])

        def quotients() -> list[Array]:
            return [steps.quotient(p, u, whole) for p, (u, _) in zip(plans, used, strict=True)]

        y: list[Array] = once("quotient", quotients)

        def codes_of_rows() -> Codes:
            coded = [steps.encode(part, *pair) for part, pair in zip(y, used, strict=True)]
            return np.concatenate([part.reshape(len(rows), -1) for part in coded], axis=1)

        codes: Codes = once("encode", codes_of_rows)

        def grid(parts: Sequence[Any], dtype: Any) -> Any:
            if any(part is None for part in parts):
                return None
            return np.concatenate([np.asarray(part, dtype).reshape(len(rows), -1) for part in parts], axis=1)

        zeros = [zero for _, zero in used]
        offsets = grid([p.offset for p in plans], np.float32)
        mean = None if whole.mean is None else np.full((1, 1), whole.mean, np.float32)
        stored = Stored(
            packed=once("pack", lambda: steps.pack(_reordered(steps.cut, steps.scheme.cut, codes, self.x.shape))),
            scales=grid([p.stored for p in plans], np.float32),
            offsets=offsets if mean is None else mean,
            zero_points=grid(zeros, None if zeros[0] is None else zeros[0].dtype),
            global_scale=whole.global_scale,
            shape=self.x.shape,
        )
        return _Written(stored, np.ascontiguousarray(steps.cut.join(codes, self.x.shape)))


def read(steps: Steps, stored: Stored) -> NDArray[np.float32]:
    """Return the values of what is stored: the reader's side."""
    return Reader(stored)(steps)


class Reader:
    """The reader's side, run on one array of bytes; what two records of steps begin with in common is computed once."""

    def __init__(self, stored: Stored):
        self.stored = stored
        self._known: dict[tuple[Any, ...], Array] = {}

    def __call__(self, steps: Steps, *, keep: bool = False) -> NDArray[np.float32]:
        """Return the values; with `keep` levels and scales are remembered."""
        stored, shape, cut = self.stored, self.stored.shape, steps.scheme.cut

        def once(work: Callable[[], Array], *key: Any) -> Array:
            found = self._known.get(key)
            if found is None:
                found = work()
                if keep:
                    self._known[key] = found
            return found

        def in_rows() -> Array:
            return _reordered(cut, steps.cut, steps.unpack(stored.packed, cut.grid(shape)), shape)

        codes = once(in_rows, steps.unpack, cut, steps.cut)
        levels = once(lambda: steps.level(codes), steps.unpack, cut, steps.cut, steps.level)
        scales = once(
            lambda: steps.spread(steps.effective(stored.scales, stored.global_scale), shape),
            *(steps.effective, steps.spread),
        )
        return _values(steps, stored, levels, scales)


def _values(steps: Steps, stored: Stored, levels: Array, scales: Array) -> NDArray[np.float32]:
    """The last steps of the reader."""
    shape = stored.shape

    def each(grid: Array | None) -> Array | None:
        return None if grid is None else grid if grid.shape == (1, 1) else steps.spread(grid, shape)

    zeros = None if stored.zero_points is None else steps.zeros(stored.zero_points)
    values = steps.times(levels, scales, each(zeros), each(stored.offsets))
    return np.ascontiguousarray(steps.join(values, shape), np.float32)


def _reordered(one: Cut, other: Cut, codes: Codes, shape: tuple[int, ...]) -> Codes:
    """Codes in the rows of a cut -> in those of another: a wrong cut still packs in the order of the scheme."""
    return codes if one is other else np.ascontiguousarray(other.rows(one.join(codes, shape)))


def _parts(steps: Steps, rows: Array, width: int) -> list[Array]:
    """The full blocks of all rows, then their short last ones: [n, size] each."""
    full = rows.shape[1] // width * width
    if full < rows.shape[1] and steps.scheme["tail"] == "error":
        got, rule = f"rows of {rows.shape[1]} elements", f"blocks are of {width}"
        raise BadInput(message("run", got, rule, "pad x, or use +tail=own"))
    parts = [rows[:, :full].reshape(-1, width), rows[:, full:]]
    return [np.ascontiguousarray(part) for part in parts if part.size]


def _with_scales(steps: Steps, plans: list[Plan], n_rows: int) -> list[Plan]:
    """The plans with the scales that decode will use."""
    stored = [steps.store(p) for p in plans]
    grid = np.concatenate([part.reshape(n_rows, -1) for part in stored], axis=1)
    again = np.asarray(steps.double(grid), np.float32)
    result, begin = [], 0
    for p in plans:
        n_blocks = len(p.numbers) // n_rows
        result.append(replace(p, stored=again[:, begin : begin + n_blocks].reshape(-1, 1)))
        begin += n_blocks
    return result


def _used_and_zero(steps: Steps, p: Plan, whole: Whole) -> tuple[Array, Array | None]:
    used = used_scale(steps.scheme, steps.arithmetic, whole, p)
    used = np.where(np.isfinite(used), used, used.dtype.type(0))  # only a mistake makes it infinite or NaN
    return used, steps.zero(p, used)
