"""A question: numbers to encode, or codes to decode, and the answer by the definition."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from kbit_ref.conformance.inputs.of_types import MORE_SOURCES, Inputs, encode_inputs, to_float64
from kbit_ref.conformance.variants.of_types import NanCodes, with_nan
from kbit_ref.datatypes.datatype import DataType
from kbit_ref.engine.codec import encode
from kbit_ref.engine.stochastic import encode_stochastic

__all__ = ["Question", "draws", "question", "turning_points"]

MOST = 1 << 16  # numbers of a question with random bits


@dataclass(frozen=True)
class Question:
    """A question about a data type, and its answer by the definition, computed before any other."""

    dtype: DataType
    what: str  # encode or decode
    inputs: Inputs
    x: NDArray[np.float64]  # [n] the numbers of the words; for decode the levels
    ours: NDArray[Any]  # [n] codes (for decode the inputs)
    nan: NanCodes | str = "any"  # any, canonical, or the codes for NaN without and with its sign bit
    random: NDArray[np.uint32] | None = None  # [n] the random bits that go with each number, of a stochastic type
    random_bits: int = 0

    @property
    def nan_codes(self) -> NanCodes | None:
        """Return the codes that NaN must have, if they are not the canonical one."""
        return None if isinstance(self.nan, str) else self.nan


def question(
    dtype: DataType, what: str, kind: str, nan: NanCodes | str = "any", seed: int = 0, random_bits: int = 16
) -> Question:
    """Return the question with its answer; for stochastic rounding with that many random bits per number.

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
    if dtype.rounding.startswith("stochastic"):
        some = np.arange(x.size)
        if x.size > MOST:  # each is tried with several random numbers
            some = np.sort(np.random.default_rng(seed).choice(x.size, MOST, replace=False))
        at, random = draws(dtype, x[some], random_bits, seed)
        inputs, x = Inputs(kind, inputs.words[some[at]], inputs.nan_left_out), x[some[at]]
        codes = encode_stochastic(dtype, x, random, random_bits)
        ours = with_nan(dtype, codes, x, None if isinstance(nan, str) else nan)
        return Question(dtype, what, inputs, x, ours, nan, random, random_bits)
    numbers = x if kind in MORE_SOURCES[1:] else inputs.words if kind == "bfloat16" else inputs.words.view(kind)
    codes = encode(dtype, numbers, bfloat16=kind == "bfloat16")
    ours = with_nan(dtype, codes, x, None if isinstance(nan, str) else nan)
    return Question(dtype, what, inputs, x, ours, nan)


def turning_points(
    codes: Callable[[NDArray[Any]], NDArray[Any]], shape: tuple[int, ...], random_bits: int
) -> tuple[NDArray[np.int64], NDArray[np.int64], NDArray[np.bool_]]:
    """Return, by halving, the two neighbouring random integers of each number between which its code changes.

    Parameters
    ----------
    codes
        From random integers [*shape] to codes, monotone in each.

    Returns
    -------
    low, high, changes : [*shape]
        The two integers, and whether the code changes at all.

    Examples
    --------
    >>> low, high, changes = turning_points(lambda random: random >= np.array([3, 9]), (2,), 3)
    >>> low.tolist(), high.tolist(), changes.tolist()
    ([2, 6], [3, 7], [True, False])
    """
    low, high = np.zeros(shape, np.int64), np.full(shape, 2**random_bits - 1, np.int64)
    least = codes(low)
    changes = codes(high) != least
    for _ in range(random_bits):
        middle = (low + high) // 2
        same = codes(middle) == least
        low, high = np.where(same, middle, low), np.where(same, high, middle)
    return low, high, np.asarray(changes)


def draws(
    d: DataType, x: NDArray[np.float64], random_bits: int, seed: int = 0
) -> tuple[NDArray[np.intp], NDArray[np.uint32]]:
    """Return which numbers to try with which random bits: none, all, drawn ones, the two where the code changes.

    Examples
    --------
    >>> import kbit_ref as kb
    >>> at, random = draws(kb.datatype("int4+rounding=stochastic_a"), np.array([1.25]), 2)
    >>> sorted(set(random.tolist()))  # 1.25 becomes 2 with 3 and 1 with all others
    [0, 2, 3]
    """
    most = 2**random_bits - 1

    def codes(random: NDArray[Any]) -> NDArray[Any]:
        return encode_stochastic(d, x, random, random_bits)

    low, high, changes = turning_points(codes, x.shape, random_bits)
    drawn = np.random.default_rng([seed, random_bits]).integers(0, most, x.size, endpoint=True)
    every = np.arange(x.size)
    where = [every, every, every, every[changes], every[changes]]
    random = [np.zeros(x.size, np.int64), np.full(x.size, most), drawn, low[changes], high[changes]]
    both = np.unique(np.stack([np.concatenate(where), np.concatenate(random)]), axis=1)
    return both[0], both[1].astype(np.uint32)
