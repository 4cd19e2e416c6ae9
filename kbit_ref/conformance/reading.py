"""What an answer says: codes, or values and the codes of those that are levels; or why it says nothing."""

from __future__ import annotations

from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from kbit_ref.arithmetic import identity
from kbit_ref.conformance.implementations.ask import Answer, told
from kbit_ref.conformance.inputs.of_types import to_float64
from kbit_ref.conformance.subject import Question

__all__ = ["Got", "Refused", "read"]


class Refused(Exception):
    """An answer that cannot be compared."""


class Got(NamedTuple):
    """An answer in our terms."""

    codes: NDArray[np.int64]  # -1: no level of the type (or, for decode, unused)
    values: NDArray[np.float64] | None
    raw: NDArray[Any] | None = None  # codes as they came


def read(asked: Question, answer: Answer, shape: tuple[int, ...], form: str | None) -> Got:
    """An answer as codes or values, or a refusal."""
    array, where = answer.array, answer.arrangement
    assert array is not None
    if array.shape != shape:
        size = int(np.prod(shape))
        fewer = f": {array.size} of {size} values" if array.size < size else ""
        raise Refused(told(where, f"the answer has shape {array.shape}, the input {shape}{fewer}"))
    bits, integers = asked.dtype.bits, array.dtype.kind in "ui"
    if answer.custom:
        if answer.custom == "bfloat16" and (asked.what == "decode" or asked.dtype.name.partition("+")[0] != "bf16"):
            return _values(asked, to_float64(array, "bfloat16"))
        if asked.what == "decode":
            wanted = "float16, bfloat16, float32 or float64"
            raise Refused(told(where, f"the answer has dtype {answer.custom}; give {wanted}"))
        if array.dtype.itemsize != asked.dtype.code_dtype.itemsize:
            raise Refused(told(where, f"the answer has dtype {answer.custom}, codes have {bits} bits"))
        return Got(array.astype(np.int64) & (2**bits - 1), None)
    if array.dtype.name in ("float16", "float32", "float64") and form != "codes":
        return _values(asked, to_float64(array.view(f"uint{8 * array.dtype.itemsize}"), array.dtype.name))
    if integers and asked.what == "encode":
        signed_values = array.dtype.kind == "i" and asked.dtype.family == "integer"
        if form == "values" or (form is None and signed_values):
            return _values(asked, array.astype(np.float64))
        codes = array.astype(np.int64)
        return Got(np.where((codes < 0) | (codes >= 2**bits), -1, codes), None, array)
    wanted = "real numbers" if asked.what == "decode" else "codes (integers) or real numbers"
    raise Refused(told(where, f"the answer has dtype {array.dtype}; give {wanted}"))


def _values(asked: Question, values: NDArray[np.float64]) -> Got:
    """Values, and the code of each that is a level; the sign of zero counts."""
    if asked.what == "decode":
        return Got(np.full(values.shape, -1, np.int64), values)
    d = asked.dtype
    order = [*d.emitted.tolist(), *d.unused]
    words = identity(d.levels[order])
    first, index = np.unique(words, return_index=True)
    given = identity(values)
    at = np.minimum(np.searchsorted(first, given), first.size - 1)
    codes = np.where(first[at] == given, np.array(order)[index[at]], -1)
    if asked.nan_codes is None:
        return Got(codes.astype(np.int64), values)
    both_nan = np.isnan(values) & np.isnan(asked.x) if values.shape == asked.x.shape else np.isnan(values) & False
    return Got(np.where(both_nan, asked.ours, codes).astype(np.int64), values)
