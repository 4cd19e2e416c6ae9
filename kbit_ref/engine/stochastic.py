"""Stochastic rounding, given the random bits: a function of x and R, so it can be checked exactly."""

from __future__ import annotations

from functools import lru_cache
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import ArrayLike, NDArray

from kbit_ref.datatypes.datatype import DataType, datatype
from kbit_ref.datatypes.levels import parts, rounded
from kbit_ref.engine.codec import CHUNK, encode
from kbit_ref.engine.staircase import in_pairs
from kbit_ref.errors import BadInput, BadType, message
from kbit_ref.inputs import as_reals

__all__ = ["encode_stochastic"]


class _Outward(NamedTuple):
    """What lies outward, for the sign of x (0 or 1) and the code nearer to zero."""

    magnitude: NDArray[Any]  # [2**bits]: of the level; nearest float of a level that no x rounds to
    code: NDArray[np.intp]  # [2, 2**bits]: the next code
    gap: NDArray[Any]  # [2, 2**bits]: how far it is, infinite where there is no next one


@lru_cache(maxsize=64)
def _outward(d: DataType, real: Any) -> _Outward:
    """The table of a type, in the float type that x is compared in.

    A gap smaller than every float is 0 here: x is on the level then (0 / 0, no way to go), unless
    it is below zero in a type that gives NaN there (x / 0, all the way).
    """
    code = np.tile(np.arange(2**d.bits), (2, 1))
    gap = np.full(code.shape, np.inf, real)
    v, e = d.parts(d.ascending)
    for side, sign in ((0, 1), (1, -1)):
        on = v * sign >= 0
        steps, s, powers = d.ascending[on][::sign], np.abs(v[on])[::sign], e[on][::sign]  # from zero outward
        target = d.signs.infinity[sign]
        if target is None and d.overflow == "ieee":
            target = d.nan_code
        if sign < 0 and v[0] >= 0:  # nothing below zero: NaN, or the smallest level
            after = (v[1], e[1]) if d.negative == "nan" and len(v) > 1 else None
            target = d.nan_code
        else:
            after = parts(d.beyond) if d.overflow in ("infinity", "ieee") and d.beyond is not None else None
        if after is not None and target is not None:
            steps, s, powers = np.append(steps, target), np.append(s, after[0]), np.append(powers, after[1])
        inner, outer, scale = in_pairs(s, powers)
        if not (np.frexp(outer - inner)[0] == 0.5).all():
            rule = f"gaps between levels of {d.name} are not powers of two, so float64 is not exact"
            raise BadInput(message("encode_stochastic", f"dtype = {d.name}", rule, "use kb.exact.encode"))
        code[side, steps[:-1]], gap[side, steps[:-1]] = steps[1:], rounded(outer - inner, scale, real)[0]
        zero = d.signs.minus_zero
        if zero is not None and s.size and s[0] == 0:
            code[side, zero], gap[side, zero] = code[side, steps[0]], gap[side, steps[0]]
    return _Outward(np.abs(rounded(*d.parts(), real)[0]), code, gap)


def encode_stochastic(dtype: DataType | str, x: Any, random: ArrayLike, random_bits: int) -> NDArray[Any]:
    """Encode by stochastic rounding with the given random bits, equal to `kb.exact.encode` for each.

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

    outward = _outward(d, np.longdouble if numbers.dtype.type is np.longdouble else np.float64)
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
    side = np.signbit(x).astype(np.intp)
    with np.errstate(invalid="ignore", over="ignore", divide="ignore"):
        v = (np.abs(x).astype(outward.gap.dtype) - outward.magnitude[near]) / outward.gap[side, near]
        v = np.where(np.isnan(v), 0, v)
        if d.rounding == "stochastic_a":
            away = np.floor(v * 2**n) + r >= 2**n
        elif d.rounding == "stochastic_b":
            away = np.floor(v * 2 ** (n + 1)) + 2.0 * r + 1 >= 2 ** (n + 1)
        else:
            away = np.rint(v * 2**n) + r >= 2**n
    rounded: NDArray[np.intp] = np.where(away, outward.code[side, near], near)
    return rounded
