"""Check the operands of `dot_bound`: two matrices and the scales of groups, a part at a time as float64 numbers."""

from __future__ import annotations

from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from kbit_ref.arithmetic import Arithmetic
from kbit_ref.engine.codec import decode
from kbit_ref.errors import BadInput, message
from kbit_ref.inputs import as_reals
from kbit_ref.products.accumulate import Accumulator
from kbit_ref.products.replay import are_float32
from kbit_ref.tensors.dequantize import dequantize
from kbit_ref.tensors.qtensor import QTensor
from kbit_ref.tensors.scales import effective

__all__ = ["Operands", "matrix", "operands"]

Array = NDArray[Any]
F64 = NDArray[np.float64]
RANGE = 2.0**-200, 2.0**200  # of numbers that are no float32 numbers; products and their bits stay in range


class Operands(NamedTuple):
    """a [M, K], b [K, N], scales [groups, N] or None; `shape` is that of a without K."""

    a: Array
    b: Array
    scales: F64 | None
    group: int | None
    shape: tuple[int, ...]

    def part(self, rows: slice, columns: slice) -> Operands:
        """Return what rows and columns of the result depend on, a and b in float64."""
        scales = None if self.scales is None else self.scales[:, columns]
        return self._replace(a=_wide(self.a[rows]), b=_wide(self.b[:, columns]), scales=scales)

    def scaled(self) -> tuple[F64, F64]:
        """Return a, and b with its scales: 24 bits times 24 bits, exact in float64."""
        if self.scales is None or self.group is None:
            return self.a, self.b
        return self.a, self.b * np.repeat(self.scales, self.group, axis=0)[: len(self.b)]


def operands(a: Any, b: Any, model: Accumulator, scales: Any) -> Operands:
    """Check arrays or QTensors, and return them as exact numbers."""
    x = _numbers("a", a, model)
    s: F64 | None
    if isinstance(b, QTensor) and model.group:
        if scales is not None:
            raise BadInput(message("dot_bound", "scales", "b is a QTensor and has its own", "drop scales="))
        y, s = _levels_and_scales(b, model.group)
    else:
        y = _numbers("b", b, model)
        s = None if scales is None else np.asarray(as_reals("dot_bound", scales), np.float64)
    if x.ndim < 1 or y.ndim != 2 or x.shape[-1] != y.shape[0] or not y.shape[0]:
        got = f"a of shape {x.shape} and b of shape {y.shape}"
        raise BadInput(message("dot_bound", got, "they are [..., K] and [K, N] with K >= 1", "transpose or reshape"))
    if s is not None:
        wanted = (-(-len(y) // (model.group or len(y))), y.shape[1])
        if model.group is None or s.shape != wanted:
            rule = "the accumulator has no groups" if model.group is None else f"groups need shape {wanted}"
            raise BadInput(message("dot_bound", f"scales of shape {s.shape}", rule, "see accumulator, e.g. int32_b32"))
        _finite("scales", s)
        if not (are_float32(s).all() and are_float32(y).all()):
            raise BadInput(message("dot_bound", "scales or b", "they are no float32 numbers", "round them first"))
    return Operands(x.reshape(-1, x.shape[-1]), y, s, model.group, x.shape[:-1])


def matrix(function: str, name: str, x: Any) -> Array:
    """Check real numbers, and return them as float32 or float64."""
    array = dequantize(x) if isinstance(x, QTensor) else as_reals(function, x)
    if array.dtype.itemsize > 8:
        got, rule = f"{name} of dtype longdouble", "products are those of at most float64"
        raise BadInput(message(function, got, rule, f"use {name}.astype(np.float64)"))
    _finite(name, array, function)
    if array.dtype.itemsize > 4:
        array = _wide(array)
        size = np.abs(array[~are_float32(array)])
        if size.size and not RANGE[0] <= size.min() <= size.max() <= RANGE[1]:
            rule = "its float64 numbers reach below 2**-200 or above 2**200"
            raise BadInput(message(function, name, rule, "scale it by a power of two"))
        return array
    return array.astype(np.float32, copy=False)


def _wide(x: Array) -> F64:
    return x.astype(np.float64, copy=False)


def _numbers(name: str, x: Any, model: Accumulator) -> Array:
    if model.sums != "int32":
        return matrix("dot_bound", name, x)
    array = np.asarray(x) if not isinstance(x, QTensor) and np.asarray(x).dtype.kind in "iu" else None
    wide = matrix("dot_bound", name, x) if array is None else _wide(array)
    if (wide != np.rint(wide)).any() or (np.abs(wide) > 2**24).any():
        raise BadInput(message("dot_bound", name, "int32 adds whole numbers up to 2**24", "pass codes, not values"))
    return wide


def _finite(name: str, x: Array, function: str = "dot_bound") -> None:
    if not np.isfinite(x).all():
        at = np.argwhere(~np.isfinite(x))[0].tolist()
        got = f"{name}{at} = {x[tuple(at)]}"
        raise BadInput(message(function, got, "a product with it has no bound", "clean the input"))


def _levels_and_scales(q: QTensor, group: int) -> tuple[F64, F64]:
    """Return levels less zero points [K, N], and scales [groups, N], of blocks along axis 0."""
    cut, s = q.scheme.cut, q.scheme
    along = len(q.shape) == 2 and (
        (cut.kind == "b" and cut.axis in (0, -2) and cut.size == group)
        or (cut.kind == "channel" and cut.axis in (1, -1) and q.shape[0] == group)
    )
    if not along or q.offsets is not None or s["scaleas"] == "divisor":
        rule = f"it has no multiplier for each group of {group} rows of b"
        raise BadInput(message("dot_bound", f"b = QTensor of {s}", rule, f"use a cut b{group}@0 without offsets"))
    levels = decode(s.dtype, q.codes).astype(np.float64)
    if q.zero_points is not None:
        levels -= np.repeat(q.zero_points.T.astype(np.float64), group, axis=0)[: len(levels)]
    scales = effective(s, Arithmetic("float32"), q.global_scale, q.scales)
    return levels, np.asarray(scales.T, np.float64)
