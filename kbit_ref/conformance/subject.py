"""A question: numbers to encode, or codes to decode, and the answer by the definition."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from kbit_ref.conformance.inputs.of_types import Inputs, encode_inputs, to_float64
from kbit_ref.conformance.variants.of_types import NanCodes, with_nan
from kbit_ref.datatypes.datatype import DataType
from kbit_ref.engine.codec import encode

__all__ = ["Question", "question"]


@dataclass(frozen=True)
class Question:
    """What is asked, and the answer by the definition, computed before anybody is asked."""

    dtype: DataType
    what: str  # encode or decode
    inputs: Inputs
    x: NDArray[np.float64]  # [n] the numbers of the words; for decode the levels
    ours: NDArray[Any]  # [n] codes (for decode those asked)
    nan: NanCodes | str = "any"  # any, canonical, or the codes for NaN without and with its sign bit

    @property
    def nan_codes(self) -> NanCodes | None:
        """The codes that NaN must have, if they are not the canonical one."""
        return None if isinstance(self.nan, str) else self.nan


def question(dtype: DataType, what: str, kind: str, nan: NanCodes | str = "any", seed: int = 0) -> Question:
    """The question, with its answer.

    Examples
    --------
    >>> import kbit_ref as kb
    >>> q = question(kb.datatype("int2"), "decode", "codes")
    >>> q.ours, q.x
    (array([0, 1, 2, 3], dtype=uint8), array([ 0.,  1., -2., -1.]))
    """
    if what == "decode":
        codes = np.arange(2**dtype.bits, dtype=dtype.code_dtype)
        return Question(dtype, what, Inputs("codes", codes), dtype.levels, codes, nan)
    inputs = encode_inputs(dtype, kind, seed)
    x = to_float64(inputs.words, kind)
    numbers = inputs.words if kind == "bfloat16" else inputs.words.view(kind)
    codes = encode(dtype, numbers, bfloat16=kind == "bfloat16")
    ours = with_nan(dtype, codes, x, None if isinstance(nan, str) else nan)
    return Question(dtype, what, inputs, x, ours, nan)
