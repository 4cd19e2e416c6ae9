"""Quantile types: levels where the data are, computed from an ideal distribution.

Every table here is committed in `literals.txt`; the functions `compute_...` say where it came
from, and a test compares the two.
"""

from __future__ import annotations

from functools import partial
from typing import Any

import numpy as np
from numpy.typing import NDArray

from kbit_ref.datatypes.datatype import DataType, register
from kbit_ref.datatypes.learned import quantile_probabilities, with_zero
from kbit_ref.datatypes.literals import computed_by, literal

WIDTHS = range(2, 9)
BLOCK_SIZES = tuple(2**n for n in range(4, 13))  # 16 ... 4096

Array = NDArray[np.float64]


def printed(table: str) -> NDArray[np.float32]:
    """float32 [n]: a published table, every number rounded once."""
    return np.array(table.split(), np.float32)


# Normal float and Student float ---------------------------------------------------------------

NF4 = """
    -1.0 -0.6961928009986877 -0.5250730514526367 -0.39491748809814453 -0.28444138169288635
    -0.18477343022823334 -0.09105003625154495 0.0 0.07958029955625534 0.16093020141124725
    0.24611230194568634 0.33791524171829224 0.44070982933044434 0.5626170039176941
    0.7229568362236023 1.0
"""  # QLoRA, arXiv 2305.14314, appendix E: every digit


@register("nf{bits}", family="quantile", source="QLoRA, arXiv 2305.14314; bitsandbytes create_normal_map", bits=WIDTHS)
def normal_float(bits: int) -> DataType:
    """Normal float: quantiles of N(0, 1), half of them on either side of an exact zero.

    nf4 is the published table, bit for bit; the other widths are its construction.
    """
    return DataType.from_levels(printed(NF4) if bits == 4 else literal(f"nf{bits}"))


def compute_normal_float(bits: int, ppf: Any = None) -> Array:
    """float64 [2**bits]: evenly spaced probabilities from the offset to 1/2, on each side.

    The offset of k bits is 1 - (1/(2(2**k - 1)) + 1/2**(k+1))/2, QLoRA's 0.9677083 for 4 bits.
    """
    from scipy.stats import norm

    ppf = ppf or norm.ppf
    half = 2 ** (bits - 1)
    offset = 1 - (1 / (2 * (2**bits - 1)) + 1 / 2 ** (bits + 1)) / 2
    positive = ppf(np.linspace(offset, 0.5, half + 1)[:-1])
    negative = -ppf(np.linspace(offset, 0.5, half)[:-1])
    levels = np.sort(np.concatenate([negative, [0.0], positive]))
    return np.asarray(levels / levels.max())


@register("sf4", family="quantile", source="Dotzel et al., arXiv 2405.03103: Student's t, 5 degrees of freedom")
def student_float() -> DataType:
    """Student float: nf4's recipe with the quantiles of Student's t."""
    return DataType.from_levels(literal("sf4"))


def compute_student_float() -> Array:
    """float64 [16]: the normal-float recipe under t with 5 degrees of freedom."""
    from scipy.stats import t

    return compute_normal_float(4, partial(t.ppf, df=5))


# The paper's quantiles ------------------------------------------------------------------------


@register("quantile{bits}", family="quantile", source="arXiv 2212.09720; bitsandbytes create_quantile_map", bits=WIDTHS)
def quantile(bits: int) -> DataType:
    """The authors' quantile type for ideal normal data: 2**bits - 1 quantiles, and 0.

    Its median is not 0 but a hair below, so one code nearly repeats another: so does the code.
    """
    return DataType.from_levels(literal(f"quantile{bits}"))


def compute_quantile(bits: int) -> Array:
    """float64 [2**bits]: the authors' probabilities under N(0, 1)."""
    from scipy.stats import norm

    return with_zero(norm.ppf(quantile_probabilities(bits)))


# Made for normalised blocks -------------------------------------------------------------------
#
# In a block of B normal numbers divided by the largest magnitude, that element is +-1 and the
# others follow a law of their own. M = max|z| has the distribution (2 Phi(m) - 1)**B, and given
# M = m the others are normal, cut off at +-m.


class BlockLaw:
    """The law of z/M for the elements of a block of normals that are not its largest.

    Integrals over M by Gauss-Legendre; `mass`, `moment` weight each block by M**power.
    """

    def __init__(self, block_size: int, power: int):
        from scipy.special import log_ndtr
        from scipy.stats import norm

        self._norm = norm
        nodes, weights = np.polynomial.legendre.leggauss(800)
        low, high = norm.isf(0.5 * (1 - 1e-18 ** (1 / block_size))), norm.isf(0.5 * 1e-18 / block_size)
        self.m = low + (nodes + 1) * (high - low) / 2  # [n_nodes]
        inside = -np.expm1(np.log(2) + log_ndtr(-self.m))  # 2 Phi(m) - 1
        # density of M, over the mass of the cut-off normal, times M**power
        self.weight = (
            weights * (high - low) / 2 * block_size * inside ** (block_size - 2) * 2 * norm.pdf(self.m) * self.m**power
        )

    def mass(self, x: Array) -> Array:
        """[n]: the weighted probability of (0, x)."""
        return np.asarray((self._norm.cdf(np.multiply.outer(x, self.m)) - 0.5) @ self.weight)

    def moment(self, x: Array) -> Array:
        """[n]: the weighted mean of z/M over (0, x)."""
        density = self._norm.pdf(np.multiply.outer(x, self.m))
        return np.asarray((self._norm.pdf(0) - density) @ (self.weight / self.m))


@register(
    "af4_b{block_size}",
    family="quantile",
    source="Yoshida, arXiv 2306.06965; rule reconstructed, but b64, which is the printed table",
    block_size=BLOCK_SIZES,
)
def abnormal_float(block_size: int) -> DataType:
    """AF4, least absolute error for blocks of normals divided by their largest magnitude.

    b64 is the printed table. The others are reconstructed (k-medians on each side of zero), which
    comes within 9e-4 of the printed b32, b64 and b4096.
    """
    return DataType.from_levels(printed(AF4_B64) if block_size == 64 else literal(f"af4_b{block_size}"))


AF4_B64 = """
    -1.0 -0.69441008 -0.51243739 -0.3736951 -0.25607552 -0.14982478 -0.04934812 0.0 0.04273164
    0.12934483 0.21961274 0.31675666 0.42563882 0.55496234 0.72424863 1.0
"""


def compute_abnormal_float(block_size: int) -> Array:
    """float64 [16]: k-medians on each side of zero, 8 positive and 7 negative levels, the last +-1."""
    law = BlockLaw(block_size, power=0)
    return np.concatenate([-_side_medians(law, 7)[::-1], [0.0], _side_medians(law, 8)])


def _side_medians(law: BlockLaw, n: int) -> Array:
    """[n]: levels on (0, 1], the last one 1, each the median of its cell; the first cell starts at 0."""
    levels = (np.arange(n) + 1) / n
    grid = np.linspace(0, 1, 20001)
    mass_of_grid = law.mass(grid)
    for _ in range(5000):
        edges = np.concatenate([[0.0], (levels[1:] + levels[:-1]) / 2])  # where each cell starts; the last is +-1's
        mass = law.mass(edges)
        target = (mass[:-1] + mass[1:]) / 2
        medians = np.interp(target, mass_of_grid, grid)
        medians -= (law.mass(medians) - target) * (grid[1] - grid[0]) / np.interp(
            medians, grid[1:], np.diff(mass_of_grid)
        )  # one Newton step sharpens the interpolation
        moved = np.append(medians, 1.0)
        if np.max(np.abs(moved - levels)) < 1e-13:
            break
        levels = moved
    return levels


@register(
    "bof4_b{block_size}",
    family="quantile",
    source="BOF4, arXiv 2505.06653; b64 is the printed table",
    block_size=BLOCK_SIZES,
)
def block_optimal_float(block_size: int) -> DataType:
    """BOF4, least squared error of the weights themselves, block maximum included; -1, 0, 1 fixed."""
    return DataType.from_levels(printed(BOF4_B64) if block_size == 64 else literal(f"bof4_b{block_size}"))


BOF4_B64 = """
    -1 -.7535245 -.5792037 -.4385999 -.3167680 -.2059924 -.1015388 0 .0887245 .1793770 .2741500
    .3758211 .4884938 .6187059 .7790452 1
"""


@register(
    "bof4s_b{block_size}",
    family="quantile",
    source="BOF4-S, arXiv 2505.06653; b64 is the printed table",
    block_size=BLOCK_SIZES,
)
def signed_block_optimal_float(block_size: int) -> DataType:
    """BOF4-S, for blocks divided by their signed largest element: 0 and 1 fixed. Use with signedmax."""
    return DataType.from_levels(printed(BOF4S_B64) if block_size == 64 else literal(f"bof4s_b{block_size}"))


BOF4S_B64 = """
    -.8568464 -.6692874 -.5235266 -.4004883 -.2910638 -.1900093 -.0938530 0 .0887672 .1794803
    .2743096 .3760197 .4886530 .6188604 .7791396 1
"""


def compute_block_optimal_float(block_size: int, signed: bool) -> Array:
    """float64 [16]: Lloyd's iteration under the block law weighted by M**2."""
    law = BlockLaw(block_size, power=2)
    negative = np.arange(-7, 0) / (8 if signed else 7)
    fixed_first = [] if signed else [0]
    levels = np.concatenate([negative, [0.0], np.arange(1, 9) / 8])
    free = np.setdiff1d(np.arange(16), [*fixed_first, 7, 15])
    for _ in range(20000):
        edges = np.concatenate([[-1.0], (levels[1:] + levels[:-1]) / 2, [1.0]])
        mass = np.diff(np.sign(edges) * law.mass(np.abs(edges)))
        moment = np.diff(law.moment(np.abs(edges)))
        moved = levels.copy()
        moved[free] = (moment / mass)[free]
        if np.max(np.abs(moved - levels)) < 1e-13:
            break
        levels = moved
    return levels


for _bits in WIDTHS:
    computed_by(f"quantile{_bits}", partial(compute_quantile, _bits))
    if _bits != 4:
        computed_by(f"nf{_bits}", partial(compute_normal_float, _bits))
computed_by("sf4", compute_student_float)
for _size in BLOCK_SIZES:
    if _size != 64:
        computed_by(f"af4_b{_size}", partial(compute_abnormal_float, _size))
        computed_by(f"bof4_b{_size}", partial(compute_block_optimal_float, _size, signed=False))
        computed_by(f"bof4s_b{_size}", partial(compute_block_optimal_float, _size, signed=True))
