"""Rate and distortion: what each data type loses on a source of known law, and how far it is from Shannon's bound.

A number x of the source is written as the nearest s * level. The part of the mean squared error that a cell (a, b) of
the source gives is M2 - 2 s level M1 + (s level)**2 M0, where Mj is the integral of x**j times the density over the
cell: all of them have a closed form for the normal distribution and for Student's t. So

    no blocks           the sum over cells, at the scale that makes it least
    blocks of absmax    an integral over the largest magnitude m of the block: one element is +-m, the others
                        follow the source cut off at +-m

and only where a block has another rule (rms, minmax) a sample with a fixed seed stands in. The bound is Shannon's
lower one, h(X) - log2(2 pi e D) / 2 bits: for a normal source it is the rate-distortion function itself, for others it
is below it, and meets it as the rate grows.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from functools import lru_cache
from typing import Any

import numpy as np
from numpy.typing import NDArray

from kbit_ref.datatypes.datatype import DataType, datatype, datatypes
from kbit_ref.errors import BadInput, UnknownName, message
from kbit_ref.study.sources import BIT, SOURCES, Source, source
from kbit_ref.tensors.dequantize import dequantize
from kbit_ref.tensors.quantize import quantize

__all__ = ["BLOCKS", "MEASURES", "Distortion", "of_type", "table", "text"]

Array = NDArray[np.float64]
BLOCKS = (0, *(2**n for n in range(4, 13)))  # 0: no blocks, the best single scale
SCALE_BITS = 16  # of a stored scale or offset, as in the paper
N_SAMPLE = 2**18
LARGEST = ("absmax", "signedmax")  # rules that look at the largest magnitude alone


# One type -----------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Distortion:
    """What a type loses on a source.

    Parameters
    ----------
    type, source, block
        Which; a block of 0 is the best single scale, of types of more than 8 bits the scale 1.
    width
        Bits a number: codes, and 16/B for each number that a block stores.
    entropy
        The same with codes at their entropy.
    distortion
        Mean squared error; the source has variance 1.
    bound
        Bits that Shannon's lower bound asks for this distortion.
    how
        integral, or sample.
    """

    type: str
    source: str
    block: int
    width: float
    entropy: float
    distortion: float
    bound: float
    how: str

    @property
    def above_at_width(self) -> float:
        """Bits above the bound, codes as wide as they are."""
        return self.width - self.bound

    @property
    def above_at_entropy(self) -> float:
        """Bits above the bound, codes at their entropy."""
        return self.entropy - self.bound

    @property
    def sqnr(self) -> float:
        """In decibels: -10 log10 of the distortion."""
        return -10 * math.log10(self.distortion)


@dataclass(frozen=True)
class _Grid:
    """How a type is put on a symmetric source: ascending levels, the rule of its blocks, bits beyond its codes."""

    name: str
    bits: int
    levels: Array
    rule: str
    top: float  # the level that the largest magnitude of a block becomes
    more: int  # bits a number beside the code: a sign

    @property
    def middles(self) -> Array:
        return (self.levels[1:] + self.levels[:-1]) / 2


def _grid(dtype: DataType) -> _Grid:
    """Unsigned integers go with an offset; of other types without negative levels the sign is stored apart."""
    levels = dtype.levels[dtype.ascending]
    if levels[0] >= 0 and dtype.family == "integer":
        centred = levels - (levels[0] + levels[-1]) / 2
        return _Grid(dtype.name, dtype.bits, centred, "minmax", float(centred[-1]), 0)
    if levels[0] >= 0:
        both = np.unique(np.concatenate([-levels, levels]))
        return _Grid(dtype.name, dtype.bits, both, "absmax", float(both[-1]), 1)
    rule = "rms" if dtype.name.startswith("lloyd") else "signedmax" if dtype.name.startswith("bof4s") else "absmax"
    return _Grid(dtype.name, dtype.bits, levels, rule, float(levels[-1]), 0)


def of_type(type_: str | DataType, source_: str | Source, blocks: Iterable[int] = BLOCKS) -> list[Distortion]:
    """A row for each block size.

    Choices
    -------
    Blocks take the rule that the type is made for: rms for lloyd, signedmax for bof4s, minmax for unsigned integers
    (which store an offset as well), absmax for all others. Other types without negative levels get one more bit, the
    sign. Types of more than 8 bits are used as they are, without scale and so without blocks.

    Examples
    --------
    >>> row, = of_type("lloyd2", "normal", [0])
    >>> round(row.distortion, 7), round(row.above_at_width, 4)
    (0.1174818, 0.4553)
    """
    grid, s, blocks = _grid(datatype(type_)), source(source_), list(blocks)
    for block in blocks:
        if block != 0 and block < 2:
            raise BadInput(message("distortion", f"block = {block}", "a block has at least 2 numbers", "0: no blocks"))
    law = _BlockLaw(grid, s) if any(blocks) and grid.bits <= 8 and grid.rule in LARGEST else None
    rows = []
    for block in blocks:
        if block and grid.bits > 8:
            continue
        how = "integral"
        if not block:
            d, codes = _at_one_scale(grid, s)
        elif law is not None:
            d, codes = law.block(block)
        else:
            d, codes, how = *_sampled(grid, s, block), "sample"
        stored = SCALE_BITS * (2 if grid.rule == "minmax" else 1) / block if block else 0.0
        width = grid.bits + grid.more + stored
        rows.append(Distortion(grid.name, s.name, block, width, _entropy(codes) + stored, d, s.rate(d), how))
    return rows


def _entropy(p: Array) -> float:
    """In bits."""
    known = p[p > 0]
    return float(-(known * np.log(known)).sum() / BIT)


def _cells(grid: _Grid, s: Source, scale: Array, most: Array) -> tuple[Array, Array]:
    """[k] the distortion and [k, n] the masses of codes, of the source within +-most: scale and most are [k]."""
    limit = most[:, None]
    inner = np.clip(scale[:, None] * grid.middles, -limit, limit)
    edges = np.concatenate([-limit, inner, limit], axis=1)  # [k, n + 1]
    m0, m1, m2 = s.cells(edges)
    points = scale[:, None] * grid.levels
    return (m2 - 2 * points * m1 + points**2 * m0).sum(axis=1), m0


def _at_one_scale(grid: _Grid, s: Source) -> tuple[float, Array]:
    """The least distortion of all scales, and the masses of the codes."""
    from scipy.optimize import minimize_scalar

    def at(octave: Array) -> tuple[Array, Array]:
        scale = 2.0**octave / grid.top
        return _cells(grid, s, scale, np.full(len(scale), np.inf))

    if grid.bits > 8:  # as it is
        d, codes = _cells(grid, s, np.ones(1), np.full(1, np.inf))
        return float(d[0]), codes[0]
    octaves = np.arange(-16, 321) / 16  # the last level lies at 1/2 to 2**20 standard deviations
    best = float(octaves[np.argmin(at(octaves)[0])])
    found = minimize_scalar(
        lambda octave: float(at(np.array([octave]))[0][0]),
        bounds=(best - 1 / 16, best + 1 / 16),
        method="bounded",
        options={"xatol": 1e-9},
    )
    d, codes = at(np.array([found.x]))
    return float(d[0]), codes[0]


class _BlockLaw:
    """A type in blocks that the largest magnitude scales, for every block size at once.

    The largest magnitude of a block is above m with probability 1 - (1 - p)**B, where |x| > m has probability p.
    With p = exp(-v) the integral over v goes from 0 to where nothing is left, by Gauss-Legendre.
    """

    N_NODES, END = 192, 100.0

    def __init__(self, grid: _Grid, s: Source):
        nodes, weights = np.polynomial.legendre.leggauss(self.N_NODES)
        v = (nodes + 1) * self.END / 2
        self.p, self.weights = np.exp(-v), weights * self.END / 2
        m = s.beyond(self.p / 2)
        inside = -np.expm1(-v)[:, None]
        d, masses = _cells(grid, s, m / grid.top, m)
        self.others, self.masses = d / inside[:, 0], masses / inside  # of an element that is not the largest
        ends = [grid.top] if grid.rule == "signedmax" else [grid.top, -grid.top]
        codes = [int(np.abs(grid.levels - end).argmin()) for end in ends]  # what the largest becomes
        self.largest = np.bincount(codes, minlength=len(grid.levels)) / len(codes)
        errors = [grid.levels[code] / grid.top - end / grid.top for code, end in zip(codes, ends, strict=True)]
        self.own = m**2 * float(np.mean(np.square(errors)))

    def block(self, size: int) -> tuple[float, Array]:
        """The distortion in blocks of this size, and the masses of the codes."""
        weight = self.weights * size * self.p * np.exp((size - 1) * np.log1p(-self.p))
        d = weight @ ((size - 1) * self.others + self.own) / size
        codes = (size - 1) / size * (weight @ self.masses) + self.largest / size
        return float(d), codes


def _sampled(grid: _Grid, s: Source, block: int) -> tuple[float, Array]:
    """The same from a sample."""
    x = _sample(s)
    q = quantize(x, f"{grid.name}-b{block}-{grid.rule}-f32")
    error = x - dequantize(q).reshape(-1)
    return float(error @ error) / x.size, np.bincount(q.codes.reshape(-1)) / x.size


@lru_cache(maxsize=4)
def _sample(s: Source) -> Array:
    x = s.sample(N_SAMPLE)
    x.setflags(write=False)
    return x


# All types ----------------------------------------------------------------------------------------

MEASURES = {
    "width": "bits above Shannon's bound, codes at their width",
    "entropy": "bits above Shannon's bound, codes at their entropy",
    "sqnr": "signal to noise in decibels",
}


def table(
    types: Sequence[str] | None = None,
    sources: Sequence[str] = tuple(SOURCES),
    blocks: Sequence[int] = BLOCKS,
    tell: Callable[[str, int], None] | None = None,
) -> list[Distortion]:
    """Rows for every type on every source in every block size; by default all types of the registry.

    `tell` is told which type comes next, and how many there are.

    Examples
    --------
    >>> [round(row.sqnr, 2) for row in table(["nf4"], ["normal"], [64, 4096])]
    [20.73, 19.18]
    """
    names = datatypes() if types is None else types
    rows = []
    for name in names:
        if tell is not None:
            tell(name, len(names))
        rows += [row for each in sources for row in of_type(name, each, blocks)]
    return rows


def text(rows: Sequence[Distortion], measure: str = "width") -> Iterator[str]:
    """Lines: for each source a table, a line a type and a column a block size.

    Parameters
    ----------
    rows
        Of `table`.
    measure
        `width` or `entropy`: bits above the bound; `sqnr`: decibels.

    Examples
    --------
    >>> print(*text(table(["int4sym", "nf4"], ["normal"], [0, 64]), "sqnr"), sep="\\n")
    normal: signal to noise in decibels
    type     one scale       64
    int4sym     18.898   19.364
    nf4         20.044   20.726
    """
    if measure not in MEASURES:
        raise UnknownName.among("distortion", "measure", measure, MEASURES, f"there are {', '.join(MEASURES)}")
    blocks = sorted({row.block for row in rows})
    cells = {(row.source, row.type, row.block): _measured(row, measure) for row in rows}
    names = list(dict.fromkeys(row.type for row in rows))
    width = max([4, *map(len, names)])
    for i, name in enumerate(dict.fromkeys(row.source for row in rows)):
        yield "\n" * (i > 0) + f"{name}: {MEASURES[measure]}"
        heads = ["one scale" if block == 0 else str(block) for block in blocks]
        yield "type".ljust(width) + "".join("  " + head.rjust(max(7, len(head))) for head in heads)
        for type_ in names:
            values = (cells.get((name, type_, block)) for block in blocks)
            shown = ("" if value is None else f"{value:.3f}" for value in values)
            columns = zip(shown, heads, strict=True)
            yield type_.ljust(width) + "".join("  " + v.rjust(max(7, len(h))) for v, h in columns)


def _measured(row: Distortion, measure: str) -> float:
    values: dict[str, Any] = {"width": row.above_at_width, "entropy": row.above_at_entropy, "sqnr": row.sqnr}
    return float(values[measure])
