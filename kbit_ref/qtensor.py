"""`QTensor`: what is stored for an array."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from kbit_ref.datatype import datatype
from kbit_ref.packing import unpack
from kbit_ref.scheme import Scheme

__all__ = ["QTensor"]


@dataclass(frozen=True)
class QTensor:
    """What is stored for an array.

    Parameters
    ----------
    packed
        uint8 [n_bytes]: the codes, rows of blocks in the order of the cut, in the scheme's layout.
    scales
        float32 [n_rows, n_blocks]: the scales that decode uses, as numbers of their stored type.
    offsets
        float32 [n_rows, n_blocks], or [1, 1] for the mean of the tensor, or None: added on decode.
    zero_points
        uint8, int8 for signed types, float32 for the rule hqq: [n_rows, n_blocks] or None: subtracted on decode.
    global_scale
        float32 number or None: the scale of the scales.
    double
        The scales quantized again, or None; `scales` is its dequantized copy, and is not counted.
    shape, scheme
        Of the array, and how it was quantized.
    """

    packed: NDArray[np.uint8]
    scales: NDArray[np.float32]
    shape: tuple[int, ...]
    scheme: Scheme
    offsets: NDArray[np.float32] | None = None
    zero_points: NDArray[Any] | None = None
    global_scale: np.float32 | None = None
    double: QTensor | None = None

    def __post_init__(self) -> None:
        for array in (self.packed, self.scales, self.offsets, self.zero_points):
            if array is not None:
                array.flags.writeable = False

    @property
    def size(self) -> int:
        """The number of elements."""
        return math.prod(self.shape)

    @property
    def codes(self) -> NDArray[np.uint8]:
        """uint8 [*shape]: one code an element."""
        flat = unpack(self.packed, self.scheme.layout, self.size)
        rows = self.scheme.cut.rows(np.empty(self.shape, np.uint8)).shape
        return np.ascontiguousarray(self.scheme.cut.join(flat.reshape(rows), self.shape))

    @property
    def bits(self) -> int:
        """All bits stored."""
        widths = {"f32": 32, "f16": 16, "bf16": 16}
        width = widths.get(self.scheme.scale_dtype) or datatype(self.scheme.scale_dtype).bits
        bits = 8 * self.packed.size
        bits += width * self.scales.size if self.double is None else self.double.bits
        bits += 0 if self.offsets is None else width * self.offsets.size
        if self.zero_points is not None:
            real = self.zero_points.dtype == np.float32
            bits += (32 if real else self.scheme.dtype.bits) * self.zero_points.size
        return bits + (0 if self.global_scale is None else 32)

    @property
    def bits_per_parameter(self) -> float:
        """All bits stored, over the number of elements."""
        return self.bits / self.size if self.size else 0.0
