"""Levels learned from the matrix itself, or from each of its rows; the tables are stored and counted.

The scheme finds the scales (and offsets) as ever. What is learned are the levels that the scaled elements
y = (x - offset) / scale go to; an element counts as much as its scale squared, since that is what its error
is multiplied with.
"""

from __future__ import annotations

import hashlib
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
from numpy.typing import NDArray

from kbit_ref.arithmetic import Arithmetic
from kbit_ref.datatypes.datatype import DataType
from kbit_ref.datatypes.learned import learn, learn_lloyd
from kbit_ref.errors import BadInput, message
from kbit_ref.exact.rules import RULES
from kbit_ref.methods.coded import Coded
from kbit_ref.methods.grids import of_elements
from kbit_ref.methods.objective import inputs_for
from kbit_ref.methods.registry import Given, register
from kbit_ref.tensors.packing import pack_into
from kbit_ref.tensors.qtensor import QTensor
from kbit_ref.tensors.quantize import quantize
from kbit_ref.tensors.scales import effective
from kbit_ref.tensors.scheme import CHOICES, Scheme

__all__ = ["RowTables", "TableStored"]

Array = NDArray[Any]
ROUNDS = 200  # of Lloyd's iteration at most; every one of them lowers the error


@dataclass(frozen=True)
class TableStored:
    """A step that does nothing: the table of the matrix is its data type, and here it is counted."""

    n_levels: int

    @property
    def bits(self) -> int:
        """16 a level."""
        return 16 * self.n_levels

    def __call__(self, x: Array) -> Array:
        """The same x."""
        return x


@dataclass(frozen=True, eq=False)
class RowTables:
    """A step that looks codes up in the table of their row, instead of in that of the data type.

    Parameters
    ----------
    q
        The codes, scales and offsets.
    tables
        float16 [d_out, n_levels].
    """

    q: QTensor
    tables: NDArray[np.float16]

    @property
    def bits(self) -> int:
        """16 a level."""
        return 16 * self.tables.size

    def __call__(self, x: Array) -> Array:
        """float32 [d_out, d_in], whatever the data type made of the codes."""
        levels = np.take_along_axis(self.tables.astype(np.float32), self.q.codes.astype(np.intp), axis=1)
        scale, offset = scales_and_offsets(self.q)
        return np.asarray(levels * scale + offset)


@register(
    "learned",
    source="Dettmers & Zettlemoyer, arXiv 2212.09720 (quantile); any4, arXiv 2507.04610 (a table for each row)",
    needs={"inputs": "weigh=inputs"},
    by=("lloyd", "quantile"),
    per=("tensor", "row"),
    weigh=("none", "inputs"),
)
def learned(weights: Array, scheme: Scheme, given: Given, *, by: str, per: str, weigh: str) -> Coded:
    """As many levels as the scheme's type has codes, fitted to the matrix or to each of its rows.

    Choices
    -------
    by
        lloyd: Lloyd's iteration, from evenly spaced quantiles and from the levels of the scheme's type (of a row:
        from the table of the matrix), whichever ends better. quantile: the authors' recipe (`kb.learn`) on the
        numbers themselves; 256 or more, rule absmax.
    per
        tensor: one table. row: one for each row; a row for which that of the matrix is as good has a copy of it.
    weigh
        inputs: an element counts as much as the mean square of its input, as in any4.

    The levels are rounded to float16.
    """
    q = quantize(weights, scheme)
    _check(scheme, by)
    scale, offset = scales_and_offsets(q)
    x = weights.astype(np.float64) - offset
    y = np.divide(x, scale, out=np.zeros_like(x), where=scale != 0)
    importance = np.broadcast_to(np.square(scale, dtype=np.float64), x.shape)
    if weigh == "inputs":
        importance = importance * np.square(inputs_for("learned", given.inputs, x.shape[1])).mean(axis=0)

    table = _table(by, scheme, x, y, importance)
    if per == "tensor":
        stored = _with_codes(q, table, _nearest(table, y))
        return Coded(stored, [TableStored(table.size)])
    tables = np.stack([_table(by, scheme, *row, table) for row in zip(x, y, importance, strict=True)])
    stored = _with_codes(q, table, np.stack([_nearest(*row) for row in zip(tables, y, strict=True)]))
    return Coded(stored, [RowTables(stored, tables.astype(np.float16))])


def scales_and_offsets(q: QTensor) -> tuple[Array, Array]:
    """float32, of the shape of q or of one element: what levels are multiplied with, and what is added then."""
    scale = effective(q.scheme, Arithmetic("float32"), q.global_scale, q.scales)
    offset = np.zeros((1, 1), np.float32) if q.offsets is None else q.offsets
    return of_elements(scale, q.scheme.cut, q.shape), of_elements(offset, q.scheme.cut, q.shape)


def _check(s: Scheme, by: str) -> None:
    """Elements have to be level * scale + offset."""

    def refuse(rule: str, remedy: str) -> None:
        raise BadInput(message("learned", f"scheme = {s}", rule, remedy))

    if RULES[s.rule].zero_point:
        refuse("a zero point is for whole numbers, which learned levels are not", "use the rule minmax or absmax")
    if s["scaleas"] == "divisor":
        refuse("levels are multiplied with scales", "drop scaleas")
    if by == "quantile" and s.rule != "absmax":
        refuse("quantiles are divided by the largest, as the rule absmax divides blocks", "use absmax, or by=lloyd")


def _table(by: str, s: Scheme, x: Array, y: Array, importance: Array, other: Array | None = None) -> Array:
    """float64 [2**bits], float16 numbers: the best of what is learned and of another table, if there is one."""
    if by == "quantile":
        found = [learn(x, f"quantile{s.dtype.bits}").levels * s.dtype.top]
    else:
        own = s.dtype.levels[s.dtype.ascending] if other is None else other
        starts = learn_lloyd(y.ravel(), s.dtype.bits), np.pad(own, (0, 2**s.dtype.bits - own.size), mode="edge")
        found = [lloyd(y.ravel(), importance.ravel(), start) for start in starts]
    tables = found if other is None else [other, *found]
    for table in tables:
        if (largest := np.abs(table).max()) > np.finfo(np.float16).max:
            got, rule = f"a level of {largest:.4g}", "levels are stored in float16, which ends at 65504"
            raise BadInput(message("learned", got, rule, "use a type with a smaller top, or a wider scale"))
    rounded = [np.sort(table.astype(np.float16).astype(np.float64)) for table in tables]
    return min(rounded, key=lambda table: float(np.sum(importance * (y - table[_nearest(table, y)]) ** 2)))


def _nearest(table: Array, y: Array) -> NDArray[np.uint8]:
    """The codes of the nearest levels; of two as near the lower one."""
    return np.searchsorted((table[1:] + table[:-1]) / 2, y).astype(np.uint8)


def lloyd(y: Array, importance: Array, levels: Array) -> Array:
    """Lloyd's iteration with weights: every level becomes the mean of the elements nearest to it, repeatedly.

    Examples
    --------
    >>> lloyd(np.array([0.0, 1.0, 4.0, 5.0]), np.array([1.0, 1.0, 1.0, 3.0]), np.array([0.0, 1.0]))
    array([0.5 , 4.75])
    """
    order = np.argsort(y)
    y, importance = y[order], importance[order]
    mass, moment = (np.concatenate([[0.0], np.cumsum(part)]) for part in (importance, importance * y))
    for _ in range(ROUNDS):
        edges = np.searchsorted(y, (levels[1:] + levels[:-1]) / 2, side="right")
        ends = np.concatenate([[0], edges, [y.size]])
        share = np.diff(mass[ends])
        moved = np.where(share > 0, np.diff(moment[ends]) / np.where(share > 0, share, 1), levels)
        if np.array_equal(moved, levels):
            break
        levels = np.sort(moved)
    return levels


def _with_codes(q: QTensor, table: Array, codes: NDArray[np.uint8]) -> QTensor:
    """The same scales with a data type of these levels, and these codes."""
    s = q.scheme
    digest = hashlib.sha256(table.astype("<f4").tobytes()).hexdigest()[:8]
    name = f"learned{s.dtype.bits}~{digest}"
    dtype = DataType.from_levels(table, name=name, family="learned", source="kbit_ref.methods.learned")
    choices = {key: value for key, value in s.choices.items() if key in (*CHOICES, "layout") and key != "encoder"}
    learned_scheme = Scheme(dtype, s.cut, s.rule, s.scale_dtype, choices)
    packed = np.empty_like(q.packed)
    pack_into(packed, np.ascontiguousarray(s.cut.rows(codes)), s.layout, 0, 0)
    return replace(q, packed=packed, scheme=learned_scheme)
