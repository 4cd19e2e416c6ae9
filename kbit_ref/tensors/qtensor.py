"""`QTensor`: what is stored for an array."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any, NoReturn

import numpy as np
from numpy.typing import NDArray

from kbit_ref.datatypes.datatype import datatype
from kbit_ref.errors import BadInput, message
from kbit_ref.exact.rules import RULES
from kbit_ref.tensors.packing import unpack
from kbit_ref.tensors.scheme import Scheme

__all__ = ["QTensor"]


@dataclass(frozen=True, eq=False)
class QTensor:
    """A quantized array: packed codes, scales, and all else that is stored.

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
        self._check()
        for name in ("packed", "scales", "offsets", "zero_points"):
            if (array := getattr(self, name)) is not None:
                view = array.view()  # the array itself may be the caller's `out`
                view.flags.writeable = False
                object.__setattr__(self, name, view)

    def _check(self) -> None:
        """Refuse what does not fit together: every part has the dtype and the shape that the scheme asks for."""

        def refuse(got: str, rule: str) -> NoReturn:
            raise BadInput(message("QTensor", got, rule, "make one with kb.quantize"))

        if not isinstance(self.scheme, Scheme):
            refuse(f"scheme = {self.scheme!r}", "it is no Scheme")
        s = self.scheme
        whole = isinstance(self.shape, tuple) and all(isinstance(n, int) and 0 <= n < 2**63 for n in self.shape)
        if not whole:
            refuse(f"shape = {self.shape!r}", "it is a tuple of integers from 0")
        n_rows, length = s.cut.grid(self.shape)
        blocks = n_rows, s.cut.per_row(length)
        facts = RULES[s.rule]
        offset_shape = (1, 1) if s["center"] == "tensor" else blocks
        zero_type = np.float32 if facts.zero_point == "real" else np.uint8 if s.dtype.levels.min() >= 0 else np.int8
        has_offset = facts.offset_added or s["center"] != "none"
        wanted: dict[str, tuple[bool, Any, tuple[int, ...]]] = {
            "packed": (True, np.uint8, (s.layout.size(self.size),)),
            "scales": (True, np.float32, blocks),
            "offsets": (has_offset, np.float32, offset_shape),
            "zero_points": (bool(facts.zero_point), zero_type, blocks),
        }
        for name, (present, dtype, shape) in wanted.items():
            array = getattr(self, name)
            if array is None and (not present or (name == "offsets" and s["center"] == "tensor")):
                continue  # the mean of no finite number is None
            if not present:
                refuse(name, f"{s} has none")
            if not isinstance(array, np.ndarray) or array.dtype != dtype or array.shape != shape:
                got = f"{name} of shape {getattr(array, 'shape', None)} and dtype {getattr(array, 'dtype', None)}"
                refuse(got, f"{s} has shape {shape} and dtype {np.dtype(dtype)} for x of shape {self.shape}")
        if (self.global_scale is None) != (s["global"] == "none"):
            refuse(f"global_scale = {self.global_scale}", f"{s} has {'one' if self.global_scale is None else 'none'}")
        if self.double is not None and self.double.scheme != s.double:  # without it `scales` says the same
            refuse("double", f"{s} has {'another' if s.double else 'none'}")

    @property
    def size(self) -> int:
        """Return the number of elements."""
        return math.prod(self.shape)

    @property
    def codes(self) -> NDArray[np.uint8]:
        """Return the codes, uint8 [*shape]."""
        flat = unpack(self.packed, self.scheme.layout, self.size)
        rows = flat.reshape(self.scheme.cut.grid(self.shape))
        return np.ascontiguousarray(self.scheme.cut.join(rows, self.shape))

    @property
    def bits(self) -> int:
        """Return the number of bits stored."""
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
        """Return the bits stored, over the number of elements."""
        return self.bits / self.size if self.size else 0.0
