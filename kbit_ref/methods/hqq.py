"""HQQ: move the zero points, so that most weights are met well and a few may be missed by far.

The error that counts is the sum of |w - w'|^p with p below 1. Half-quadratic splitting gives every weight a slack e:

    e       = shrink(w - w')                 the part of the error that is given up
    zero    = mean(code - (w - e) / scale)   the zero point that fits the rest best

over and over. Large errors are given up all but |error|^(p - 1) / beta, small ones not at all; `beta` grows by `kappa`
each time. Scales stay those of the rule. All is in float32.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from itertools import islice
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from kbit_ref.errors import BadInput, message
from kbit_ref.exact.rules import RULES as FACTS
from kbit_ref.methods.coded import Coded
from kbit_ref.methods.registry import Given, register
from kbit_ref.tensors.packing import pack_into
from kbit_ref.tensors.quantize import quantize
from kbit_ref.tensors.scheme import Scheme

__all__ = ["Settings", "shrink", "solve"]

Array = NDArray[Any]


class Settings(NamedTuple):
    """Of the solver; these are those of Badri & Shaji's library."""

    p: float = 0.7
    beta: float = 10.0
    kappa: float = 1.01
    iters: int = 20
    keep: str = "best"


USUAL = Settings()


@register(
    "hqq",
    source="Badri & Shaji, https://mobiusml.github.io/hqq_blog/; hqq 0.2.8 core/optimize.py",
    p=(USUAL.p,),
    beta=(USUAL.beta,),
    kappa=(USUAL.kappa,),
    iters=(USUAL.iters,),
    keep=("best", "last"),
)
def hqq(
    weights: NDArray[Any], scheme: Scheme, given: Given, p: float, beta: float, kappa: float, iters: int, keep: str
) -> Coded:
    """Zero points for the least sum of |error|^p, by half-quadratic splitting.

    p, beta, kappa, iters
        The power; how much is given up at first, and by what that grows; how often.
    keep
        `best`: each block keeps the zero point of its least mean |error| on the way. `last`: all stop once the mean of
        the whole matrix no longer falls, with the last zero points. With kappa = 1 that is the library's default.
    """
    if FACTS[scheme.rule].zero_point != "real":
        rule = "its blocks have no zero point that can move freely"
        raise BadInput(message("hqq", f"scheme = {scheme}", rule, "use the rule hqq, e.g. the scheme hqq-4"))
    settings = _checked(Settings(p, beta, kappa, iters, keep))
    x = np.asarray(weights).astype(np.float32)
    q = quantize(x, scheme)
    rows, top = scheme.cut.rows(x), np.float32(scheme.dtype.top)
    codes, zeros = np.empty(rows.shape, np.uint8), np.array(q.zero_points)
    size = scheme.cut.size or rows.shape[1]
    full = rows.shape[1] // size * size
    for first, last in ((0, full), (full, rows.shape[1])):  # blocks of `size`, then the short last ones
        if first < last:
            w = rows[:, first:last].reshape(-1, min(size, last - first))
            at = slice(None), slice(first // size, -(-last // size))
            scale = q.scales[at].reshape(-1, 1)
            zero = solve(w, scale, zeros[at].reshape(-1, 1), top, settings)
            zeros[at] = zero.reshape(zeros[at].shape)
            codes[:, first:last] = _codes(w, scale, zero, top).reshape(len(rows), -1)
    packed = np.empty_like(q.packed)
    pack_into(packed, codes, scheme.layout, 0, scheme.fill)
    return Coded(replace(q, packed=packed, zero_points=zeros))


def solve(w: Array, scale: Array, zero: Array, top: Any, settings: Settings = USUAL) -> Array:
    """The zero points of blocks.

    Parameters
    ----------
    w
        float32 [n, size].
    scale, zero
        float32 [n, 1]: what the blocks begin with.
    top
        The largest code.
    settings
        Of the solver.

    Returns
    -------
    float32 [n, 1]
    """
    path = _path(w, scale, zero, top, settings)
    if settings.keep == "last":
        lowest = np.inf
        for _ in range(settings.iters):
            mean = float(next(path)[1].mean())
            if not mean < lowest:
                break
            lowest = mean
        return next(path)[0]
    best, least = next(path)
    for other, error in islice(path, settings.iters):
        better = error < least
        best, least = np.where(better, other, best), np.where(better, error, least)
    return best


def _path(w: Array, scale: Array, zero: Array, top: Any, settings: Settings) -> Iterator[tuple[Array, Array]]:
    """Zero points one after the other, each with the mean |error| of its blocks, [n, 1]."""
    beta = settings.beta
    while True:
        codes = _codes(w, scale, zero, top)
        error = w - (codes - zero) * scale
        yield zero, _mean(np.abs(error))
        zero = _mean(codes - (w - shrink(error, beta, settings.p)) / scale)
        beta *= settings.kappa


def _codes(w: Array, scale: Array, zero: Array, top: Any) -> Array:
    """float32 [n, size]: the codes for these zero points."""
    return np.asarray(np.clip(np.rint(w / scale + zero), np.float32(0), top))


def _mean(x: Array) -> Array:
    """float32 [n, 1]; summed in float64."""
    return np.asarray(x.mean(axis=1, keepdims=True, dtype=np.float64), np.float32)


def shrink(x: Array, beta: float, p: float) -> Array:
    """The slack of errors x: they move towards 0 by |x|^(p - 1) / beta, and 0 for what that would carry beyond.

    Examples
    --------
    >>> shrink(np.array([-2.0, 0.25, 0.0]), 1.0, 1.0)
    array([-1.,  0.,  0.])
    """
    magnitude = np.abs(x)
    with np.errstate(divide="ignore"):  # 0 to a negative power: all the way to 0
        left = magnitude - magnitude ** (p - 1) / beta
    return np.asarray(np.sign(x) * np.maximum(left, 0))


def _checked(settings: Settings) -> Settings:
    """Settings for which the splitting makes sense."""
    ranges = {
        "p": (0 < settings.p <= 1, "it is above 0 and at most 1"),
        "beta": (0 < settings.beta < np.inf, "it is above 0"),
        "kappa": (1 <= settings.kappa < np.inf, "it is at least 1"),
        "iters": (settings.iters >= 1, "it is at least 1"),
    }
    for name, (holds, rule) in ranges.items():
        if not holds:
            got, usual = f"{name} = {getattr(settings, name)}", getattr(USUAL, name)
            raise BadInput(message("hqq", got, rule, f"the usual is {usual}"))
    return settings
