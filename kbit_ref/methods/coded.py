"""`Coded`: a matrix in few bits. A QTensor, and what has to be done to its decoded numbers afterwards."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Protocol

from numpy.typing import NDArray

from kbit_ref.tensors.dequantize import dequantize
from kbit_ref.tensors.qtensor import QTensor
from kbit_ref.tensors.scheme import Scheme

__all__ = ["Coded", "Step"]

Array = NDArray[Any]


class Step(Protocol):
    """Something done after decoding, and the bits it needs: columns put back, factors undone, a rotation."""

    @property
    def bits(self) -> int:
        """What is stored for it."""

    def __call__(self, x: Array) -> Array:
        """float32 [d_out, d_in] -> the same shape."""


@dataclass(frozen=True, eq=False)
class Coded:
    """A matrix [d_out, d_in] in few bits.

    Parameters
    ----------
    q
        The codes and scales.
    steps
        What is done to the decoded matrix, in this order.

    Examples
    --------
    >>> import numpy as np
    >>> from kbit_ref import quantize
    >>> coded = Coded(quantize(np.ones((2, 64)), "int4-b64-absmax-f16"))
    >>> coded.bits_per_parameter, coded.decoded().shape
    (4.25, (2, 64))
    """

    q: QTensor
    steps: Sequence[Step] = ()

    @property
    def shape(self) -> tuple[int, ...]:
        """[d_out, d_in]."""
        return self.q.shape

    @property
    def scheme(self) -> Scheme:
        """Of the codes."""
        return self.q.scheme

    @property
    def bits(self) -> int:
        """All bits stored, everything counted."""
        return self.q.bits + sum(step.bits for step in self.steps)

    @property
    def bits_per_parameter(self) -> float:
        """`bits` over the number of elements."""
        return self.bits / self.q.size

    def decoded(self) -> Array:
        """float32 [d_out, d_in]: the matrix that a product sees."""
        x: Array = dequantize(self.q)
        for step in self.steps:
            x = step(x)
        return x
