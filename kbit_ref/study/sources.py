"""Sources of known law: the normal distribution and Student's t, with what quantizers ask of them in closed form."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from kbit_ref.errors import UnknownName

__all__ = ["SOURCES", "Source", "lloyd_max", "source"]

Array = NDArray[Any]
BIT = math.log(2)


@dataclass(frozen=True)
class Source:
    """A symmetric distribution of variance 1.

    Parameters
    ----------
    name
        `normal`, `t5` or `t3`.
    nu
        Degrees of freedom of Student's t; infinite for the normal distribution.
    """

    name: str
    nu: float

    @property
    def unit(self) -> float:
        """A number of the source in units of the textbook's t, whose variance is nu / (nu - 2)."""
        return math.sqrt(self.nu / (self.nu - 2))

    @property
    def entropy(self) -> float:
        """The differential entropy h(X) in bits."""
        if math.isinf(self.nu):
            return math.log(2 * math.pi * math.e) / 2 / BIT
        from scipy.special import betaln, digamma

        nu = self.nu
        nats = (nu + 1) / 2 * (digamma((nu + 1) / 2) - digamma(nu / 2)) + math.log(nu) / 2 + betaln(nu / 2, 0.5)
        return float(nats - math.log(self.unit)) / BIT

    def rate(self, distortion: float) -> float:
        """Bits: Shannon's lower bound for this mean squared error, at least 0."""
        return max(0.0, self.entropy - math.log(2 * math.pi * math.e * distortion) / 2 / BIT)

    def bound(self, rate: float) -> float:
        """The mean squared error at which Shannon's lower bound is `rate` bits."""
        return math.exp(2 * BIT * (self.entropy - rate)) / (2 * math.pi * math.e)

    def density(self, x: Array) -> Array:
        """The density at x."""
        if math.isinf(self.nu):
            return np.asarray(np.exp(-x * x / 2) / math.sqrt(2 * math.pi))
        nu, t = self.nu, x * self.unit
        top = math.exp(math.lgamma((nu + 1) / 2) - math.lgamma(nu / 2)) / math.sqrt(nu * math.pi)
        return np.asarray(self.unit * top * (1 + t * t / nu) ** (-(nu + 1) / 2))

    def tails(self, x: Array) -> tuple[Array, Array, Array]:
        """The integrals of the density, x times it and x**2 times it from x >= 0 on."""
        from scipy.special import ndtr, stdtr

        density = self.density(x)
        finite = np.where(np.isinf(x), 0.0, x)
        if math.isinf(self.nu):
            mass = ndtr(-x)
            return mass, density, mass + finite * density
        nu, t = self.nu, x * self.unit
        mass = stdtr(nu, -t)
        first = density / self.unit * (nu + np.where(np.isinf(x), 0.0, t) ** 2) / (nu - 1)
        # (nu + t**2) times the density is that of nu - 2 degrees of freedom, but for a factor and the unit
        second = nu * (nu - 1) / (nu - 2) * stdtr(nu - 2, -t / self.unit) - nu * mass
        return mass, first / self.unit, second / self.unit**2

    def beyond(self, tail: Array) -> Array:
        """The x >= 0 above which this probability lies; at most 1/2."""
        from scipy.special import ndtri, stdtrit

        return np.asarray(-ndtri(tail) if math.isinf(self.nu) else -stdtrit(self.nu, tail) / self.unit)

    def cells(self, edges: Array) -> tuple[Array, Array, Array]:
        """M0, M1, M2 of the cells between neighbouring edges; [..., n + 1] -> [..., n].

        All from tails: far cells keep their digits. A cell with zero inside is 1 less two tails.
        """
        t0, t1, t2 = self.tails(np.abs(edges))
        above = edges >= 0
        sides = [np.where(above, -t, t) for t in (t0, t2)]
        across = (above[..., 1:] & ~above[..., :-1]).astype(np.float64)
        m0, m2 = (np.diff(side, axis=-1) + across for side in sides)
        return m0, -np.diff(t1, axis=-1), m2

    def sample(self, n: int, seed: int = 0) -> Array:
        """[n]: independent numbers, the same on every machine but for rounding."""
        u = np.random.default_rng([seed, 7]).random(n)
        return np.where(u < 0.5, -1.0, 1.0) * self.beyond(np.minimum(u, 1 - u))


SOURCES = {s.name: s for s in (Source("normal", math.inf), Source("t5", 5.0), Source("t3", 3.0))}


def source(name: str | Source) -> Source:
    """The source of that name.

    Raises
    ------
    UnknownName
        `distortion: source = 'normla', there is no such name; did you mean normal? ...`

    Examples
    --------
    >>> round(source("normal").bound(2.0), 6)
    0.0625
    """
    if isinstance(name, Source):
        return name
    if name not in SOURCES:
        raise UnknownName.among("distortion", "source", name, SOURCES, f"sources are {', '.join(SOURCES)}")
    return SOURCES[name]


def lloyd_max(source_: str | Source, bits: int) -> Array:
    """[2**bits]: the levels of least mean squared error for a source, by Newton's method.

    Every level is the mean of its cell, every cell ends at the midpoints: so a level moves with its neighbours alone,
    and a step solves a tridiagonal system. The start is that of many levels: as dense as the cube root of the
    density, which of Student's t is again one, of (nu - 2) / 3 degrees of freedom.
    """
    from scipy.linalg import solve_banded
    from scipy.special import ndtri, stdtrit

    s, n = source(source_), 2 ** (bits - 1)
    tail = 0.5 - 0.5 * (np.arange(n) + 0.5) / n
    if math.isinf(s.nu):
        levels = -ndtri(tail) * math.sqrt(3)
    else:
        thin = (s.nu - 2) / 3
        levels = -stdtrit(thin, tail) * math.sqrt(s.nu / thin) / s.unit
    for _ in range(500):
        edges = np.concatenate([[0.0], (levels[1:] + levels[:-1]) / 2, [np.inf]])
        mass, first, _ = s.cells(edges)
        mean = first / mass
        inner, density = edges[1:-1], s.density(edges[1:-1])
        lower = np.append(0.0, density * (mean[1:] - inner)) / mass / 2  # d mean / d (level below)
        upper = np.append(density * (inner - mean[:-1]), 0.0) / mass / 2  # d mean / d (level above)
        bands = np.zeros((3, n))
        bands[0, 1:], bands[1], bands[2, :-1] = -upper[:-1], 1 - lower - upper, -lower[1:]
        step = solve_banded((1, 1), bands, mean - levels)
        while np.any(np.diff(levels + step, prepend=0) <= 0):
            step /= 2
        levels = levels + step
        if np.all(np.abs(step) < 1e-12 * levels):
            return np.concatenate([-levels[::-1], levels])
    raise AssertionError("Newton's method did not converge")
