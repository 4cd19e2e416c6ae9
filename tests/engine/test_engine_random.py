"""Types that Hypothesis makes up: any levels, any choices, any format; the engine equals the definition."""

from typing import Any

import numpy as np
from helpers.by_definition import KINDS, probes
from hypothesis import HealthCheck, assume, given, settings
from hypothesis import strategies as st
from test_engine import compare_all_words, faults

from kbit_ref import DataType, exact

DETERMINISTIC = [rounding for rounding in exact.CHOICES["rounding"] if not rounding.startswith("stochastic")]

near_one = st.integers(-40, 40).map(lambda n: n / 16)
any_size = st.tuples(st.integers(-149, 127), st.sampled_from([1, -1, 1.5, -1.5, 1 + 2**-23])).map(
    lambda pair: float(np.float32(np.ldexp(pair[1], pair[0])))
)
crowded = st.integers(0, 60).map(lambda n: float(np.float32(1) + np.float32(n * 2**-23)))
float32s = st.floats(width=32, allow_nan=True, allow_infinity=True)
lists = st.one_of(*(st.lists(one, min_size=1, max_size=24) for one in (near_one, any_size, crowded, float32s)))


@st.composite
def types(draw: Any) -> DataType:
    """A type, of which only what `DataType` refuses is left out."""
    levels = draw(lists)
    if draw(st.booleans()):
        levels = sorted(levels)
    choices: dict[str, Any] = {
        "rounding": draw(st.sampled_from(["nearest"] * 4 + DETERMINISTIC)),
        "zero_sign": draw(st.sampled_from(exact.CHOICES["zero_sign"])),
        "ties": draw(st.sampled_from(exact.CHOICES["ties"])),
    }
    finite = [abs(level) for level in levels if np.isfinite(level)]
    if finite and draw(st.booleans()):
        choices["beyond"] = max(finite) * 2 or 1.0
        choices["overflow"] = draw(st.sampled_from(exact.CHOICES["overflow"]))
    if min(levels) >= 0 and any(map(np.isnan, levels)):
        choices["negative"] = draw(st.sampled_from(exact.CHOICES["negative"]))
    if 0 in levels:
        levels.append(0.0)  # a -0 wants its 0
    unused = draw(st.lists(st.integers(0, len(levels) - 1), max_size=2))
    try:
        return DataType.from_levels(levels, unused=unused, **choices)
    except ValueError:
        assume(False)
        raise


@settings(max_examples=400, suppress_health_check=[HealthCheck.filter_too_much])
@given(types(), st.sampled_from(KINDS))
def test_any_type_in_any_format(dtype: DataType, kind: str) -> None:
    assert faults(dtype, probes(dtype, kind, 1), bfloat16=kind == "bfloat16") == []


@settings(max_examples=40, suppress_health_check=[HealthCheck.filter_too_much])
@given(types())
def test_any_type_on_all_16_bit_inputs(dtype: DataType) -> None:
    compare_all_words(dtype)
