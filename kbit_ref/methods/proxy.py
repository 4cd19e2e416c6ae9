"""Proxy quantization: the inputs that carry outliers are guessed from weights, and stay in 16 bits."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from kbit_ref.errors import BadInput, message
from kbit_ref.inputs import as_reals
from kbit_ref.methods.coded import Coded
from kbit_ref.methods.registry import Given, register
from kbit_ref.tensors.quantize import quantize
from kbit_ref.tensors.scheme import Scheme

__all__ = ["Columns", "chosen_columns"]

Array = NDArray[Any]
Z_SCORE = 4  # of a spread that is out of the ordinary, for the authors' code


@dataclass(frozen=True, eq=False)
class Columns:
    """A step that puts columns back which were not quantized.

    Parameters
    ----------
    index : [n]
        Which of the matrix's d_in columns.
    numbers : float16 [d_out, n]
        What stands in them.
    code_bits
        Of an element that is quantized. These elements have codes too, all of them the one of zero; they tell
        nothing, and are not counted: the paper's p * (16 - k) more bits a parameter.
    d_in
        Columns of the matrix; an index takes as many bits as count to it.
    """

    index: NDArray[np.intp]
    numbers: NDArray[np.float16]
    code_bits: int
    d_in: int

    @property
    def bits(self) -> int:
        """16 a number instead of its code, and the indices."""
        return (16 - self.code_bits) * self.numbers.size + (self.d_in - 1).bit_length() * self.index.size

    def __call__(self, x: Array) -> Array:
        """float32 [d_out, d_in] -> the same with these columns."""
        whole = x.copy()
        whole[:, self.index] = self.numbers
        return whole


@register(
    "proxy",
    source="Dettmers & Zettlemoyer, arXiv 2212.09720, section 3; bitsandbytes OutlierTracer, Fake4bitLinear",
    needs={"previous": "axis=paper"},
    share=(0.02,),
    axis=("paper", "authors"),
    pick=("share", "zscore"),
)
def proxy(weights: Array, scheme: Scheme, given: Given, *, share: float, axis: str, pick: str) -> Coded:
    """The inputs whose weights spread most stay in 16 bits.

    Choices
    -------
    share
        How many of the columns, rounded, and at least one unless it is 0.
    axis
        paper: a column's spread is that of the weights which make this input, a row of the previous matrix.
        authors: that of the column itself, which is what their code computes.
    pick
        share: so many with the largest spread. zscore, the default of the authors' code: all whose spread lies
        more than 4 standard deviations above the mean of all; `share` is not looked at.
    """
    if not 0 <= share <= 1:
        raise BadInput(message("proxy", f"share = {share}", "it is from 0 to 1", "0.02 is the paper's"))
    d_in = weights.shape[1]
    if axis == "authors":
        spread = _spread(weights, axis=0)
    else:
        previous = as_reals("proxy", given.previous)
        spread = _spread(previous.reshape(len(previous), -1), axis=1)
        if len(spread) != d_in:
            got, rule = f"previous of {len(spread)} rows", f"it has one for each of {d_in} inputs"
            raise BadInput(message("proxy", got, rule, "give the matrix that makes them"))
    for at in np.flatnonzero(~np.isfinite(spread))[:1]:
        got = f"a spread of {spread[at]} at input {at}"
        raise BadInput(message("proxy", got, "what is not finite cannot be compared", "clean the matrices"))
    index = chosen_columns(spread, share, pick)
    with np.errstate(over="ignore"):
        numbers = weights[:, index].astype(np.float16)
    if not np.isfinite(numbers).all():
        rule = "columns that are kept are float16, which ends at 65504"
        raise BadInput(message("proxy", "weights", rule, "scale them down"))
    rest = weights.copy()
    rest[:, index] = 0  # before the blocks' scales are found: they shall not stretch them
    return Coded(quantize(rest, scheme), [Columns(index, numbers, scheme.dtype.bits, d_in)])


def _spread(x: Array, axis: int) -> Array:
    """Standard deviations in float64; not finite where a number is not."""
    with np.errstate(invalid="ignore", over="ignore"):
        return np.asarray(x.std(axis=axis, dtype=np.float64))


def chosen_columns(spread: Array, share: float, pick: str = "share") -> NDArray[np.intp]:
    """The columns that are kept, ascending; of equal spreads the first.

    Examples
    --------
    >>> chosen_columns(np.array([1.0, 5.0, 2.0, 5.0, 5.0]), share=0.4)
    array([1, 3])
    """
    if pick == "zscore":
        if len(spread) < 2:  # nothing to stand out from
            return np.empty(0, np.intp)
        found: NDArray[np.intp] = np.flatnonzero(spread - spread.mean() > Z_SCORE * spread.std(ddof=1))
        return found
    n = max(1, round(share * len(spread))) if share else 0
    return np.sort(np.argsort(-spread, kind="stable")[:n])
