"""Dynamic exponent: the number of leading zero bits is a power of ten, the rest a linear fraction.

Level by level, following the authors' code rather than their text: for i = 0 ... bits-2 the
interval [0.1, 1] is cut into 2**i equal parts, whose midpoints are scaled by 10**(i - (bits-2)).
Then 0 and 1 are added. Since 1 is added and -1 is not, the most negative level is short of -1.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from kbit_ref.datatypes.datatype import DataType, register
from kbit_ref.datatypes.linspace import two_ended_linspace

SOURCE = "arXiv 2212.09720, section 2.2; bitsandbytes functional.create_dynamic_map"


def decades(bits: int, first_intervals: int) -> NDArray[np.float32]:
    """float32 [n]: the levels between 0 and 1, in the authors' float32 arithmetic."""
    levels = []
    for i in range(bits - 1):
        edges = two_ended_linspace(0.1, 1, first_intervals * 2**i + 1)
        midpoints = (edges[:-1] + edges[1:]) / np.float32(2)
        levels.append(midpoints * np.float32(10.0 ** (i - (bits - 2))))
    return np.concatenate(levels)


@register("dynamic{bits}", family="dynamic", source=SOURCE, bits=range(2, 9))
def dynamic(bits: int) -> DataType:
    """Signed dynamic exponent: 2**bits levels, +1 among them and -1 not.

    Source
    ------
    `create_dynamic_map(signed=True, total_bits=bits)`; the paper's text cuts [0.1, 0.9].
    """
    positive = decades(bits, 1)
    return DataType.from_levels(np.sort(np.concatenate([-positive, [0], positive, [1]])))


@register("udynamic{bits}", family="dynamic", source=SOURCE, bits=range(2, 9))
def unsigned_dynamic(bits: int) -> DataType:
    """Unsigned dynamic exponent: the sign bit becomes one more fraction bit.

    Source
    ------
    `create_dynamic_map(signed=False, total_bits=bits)`, as corrected in 0.42.
    """
    return DataType.from_levels(np.sort(np.append(decades(bits, 2), [0, 1])))
