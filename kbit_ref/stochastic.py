"""Stochastic rounding, given the random bits: a function of x and R, so it can be checked exactly."""

from __future__ import annotations

from functools import lru_cache
from itertools import pairwise
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import ArrayLike, NDArray

from kbit_ref.datatype import DataType, datatype
from kbit_ref.engine import CHUNK, encode
from kbit_ref.errors import BadInput, BadType, message
from kbit_ref.inputs import as_reals

__all__ = ["encode_stochastic"]


class _Outward(NamedTuple):
    """For the sign of x (0 or 1) and the code nearer to zero: the next code outward, and its magnitude."""

    code: NDArray[np.intp]  # [2, 2**bits]
    magnitude: NDArray[np.float64]  # [2, 2**bits], infinite where there is no next one


@lru_cache(maxsize=64)
def _outward(d: DataType) -> _Outward:
    definition = d.definition
    code = np.tile(np.arange(2**d.bits), (2, 1))
    magnitude = np.full(code.shape, np.inf)
    ladder = [(float(value), c) for value, c in definition.ladder]
    overflows = d.overflow in ("infinity", "ieee")
    for side, sign in ((0, 1), (1, -1)):
        steps = sorted((abs(value), c) for value, c in ladder if value * sign >= 0)
        target = definition.infinity[sign]
        if target is None and d.overflow == "ieee":
            target = definition.nan
        if sign < 0 and ladder[0][0] >= 0:  # nothing below zero: NaN, or the smallest level
            if d.negative == "nan" and definition.nan is not None and len(ladder) > 1:
                steps.append((ladder[1][0], definition.nan))
        elif overflows and target is not None and d.beyond is not None:
            steps.append((d.beyond, target))
        for (_, near), (far_magnitude, far) in pairwise(steps):
            code[side, near], magnitude[side, near] = far, far_magnitude
        zero = definition.minus_zero
        if zero is not None and steps and steps[0][0] == 0:
            code[side, zero], magnitude[side, zero] = code[side, steps[0][1]], magnitude[side, steps[0][1]]

    bounded = np.isfinite(magnitude) & np.isfinite(d.levels)
    gaps = magnitude[bounded] - np.broadcast_to(np.abs(d.levels), magnitude.shape)[bounded]
    if gaps.size and not (np.frexp(gaps)[0] == 0.5).all():
        rule = f"gaps between levels of {d.name} are not powers of two, so float64 is not exact"
        raise BadInput(message("encode_stochastic", f"dtype = {d.name}", rule, "use kb.exact.encode"))
    return _Outward(code, magnitude)


def encode_stochastic(dtype: DataType | str, x: Any, random: ArrayLike, random_bits: int) -> NDArray[Any]:
    """Codes by stochastic rounding with the given random bits, equal to `kb.exact.encode` for each.

    Parameters
    ----------
    dtype
        A type with rounding `stochastic_a`, `stochastic_b` or `stochastic_c`, whose levels are
        powers of two apart (integers and floats): `Binary8p3se+rounding=stochastic_a`.
    x : [*shape]
        As for `encode`.
    random
        Unsigned integers of `random_bits` bits, one for each x (or broadcast to its shape).
    random_bits
        0 to 32.

    Returns
    -------
    uint8 [*shape] (uint16 above 8 bits).

    Raises
    ------
    BadInput
        `encode_stochastic: random[0] = 8, it has more than random_bits = 3 bits; ...`

    Source
    ------
    IEEE P3109 interim report 4.0, section 4.7; the formulas are in `kb.exact.encode`.

    Examples
    --------
    >>> import kbit_ref as kb
    >>> kb.encode_stochastic("int4+rounding=stochastic_a", [1.25, 1.25, -1.25], [2, 3, 3], 2)
    array([ 1,  2, 14], dtype=uint8)
    """
    d = datatype(dtype)
    if not d.rounding.startswith("stochastic"):
        remedy = "spell it with +rounding=stochastic_a, _b or _c"
        raise BadInput(message("encode_stochastic", f"dtype = {d.name}", "it rounds without random bits", remedy))
    numbers = as_reals("encode_stochastic", x)
    r = np.asarray(random)
    if r.dtype.kind not in "iu":
        raise BadType(message("encode_stochastic", f"random of dtype {r.dtype}", "it is no integer", "pass integers"))
    if not 0 <= random_bits <= 32:
        raise BadInput(message("encode_stochastic", f"random_bits = {random_bits}", "it is 0 to 32", "use fewer"))
    if r.size and not 0 <= int(r.min()) <= int(r.max()) < 2**random_bits:
        at = int(np.flatnonzero((r.ravel() < 0) | (r.ravel() >= 2**random_bits))[0])
        rule = f"it has more than random_bits = {random_bits} bits"
        raise BadInput(message("encode_stochastic", f"random[{at}] = {r.ravel()[at]}", rule, "mask it"))
    try:
        r = np.broadcast_to(r, numbers.shape)
    except ValueError:
        got = f"random of shape {r.shape}"
        raise BadInput(
            message("encode_stochastic", got, f"x has shape {numbers.shape}", "give one integer for each x")
        ) from None

    outward = _outward(d)
    toward_zero = d.with_choices(rounding="toward_zero")
    codes = encode(toward_zero, numbers).reshape(-1)
    flat_x, flat_r = numbers.reshape(-1), r.reshape(-1)
    for begin in range(0, codes.size, CHUNK):
        piece = slice(begin, begin + CHUNK)
        codes[piece] = _round_away(d, outward, codes[piece], flat_x[piece], flat_r[piece], random_bits)
    return codes.reshape(numbers.shape)


def _round_away(
    d: DataType, outward: _Outward, near: NDArray[Any], x: NDArray[Any], r: NDArray[Any], n: int
) -> NDArray[np.intp]:
    """[piece]: the code near zero, or the next one outward where the random bits say so."""
    wide = np.longdouble if x.dtype.type is np.longdouble else np.float64
    side = np.signbit(x).astype(np.intp)
    inner, outer = np.abs(d.levels[near]).astype(wide), outward.magnitude[side, near].astype(wide)
    with np.errstate(invalid="ignore", over="ignore"):
        v = (np.abs(x).astype(wide) - inner) / (outer - inner)
        v = np.where(np.isfinite(outer) & np.isfinite(inner), v, 0)
        if d.rounding == "stochastic_a":
            away = np.floor(v * 2**n) + r >= 2**n
        elif d.rounding == "stochastic_b":
            away = np.floor(v * 2 ** (n + 1)) + 2.0 * r + 1 >= 2 ** (n + 1)
        else:
            away = np.rint(v * 2**n) + r >= 2**n
    rounded: NDArray[np.intp] = np.where(away, outward.code[side, near], near)
    return rounded
