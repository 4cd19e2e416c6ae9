"""Stochastic rounding: exact for given bits, and the right odds over all of them."""

import numpy as np
import pytest

import kbit_ref as kb

MODES = [f"stochastic_{letter}" for letter in "abc"]


@pytest.mark.parametrize("name", ["int4", "e4m3fn", "e5m2", "Binary8p3se", "Binary6p1ue", "e4m3fnuz", "e8m0fnu"])
@pytest.mark.parametrize("mode", MODES)
@pytest.mark.parametrize("overflow", ["saturate", "finite", "infinity"])
def test_equals_the_definition(name: str, mode: str, overflow: str) -> None:
    try:
        d = kb.datatype(f"{name}+rounding={mode}+overflow={overflow}")
    except kb.KbitError:
        assert overflow == "infinity"  # a type that knows no level beyond its last one
        return
    rng = np.random.default_rng(0)
    levels = d.levels[np.isfinite(d.levels)]
    x = np.concatenate([rng.choice(levels, 60) * rng.uniform(0.4, 2.1, 60), [np.inf, -np.inf, 0.0, -0.0, 1e-30, -1e30]])
    for bits in (0, 1, 3, 8):
        r = rng.integers(0, 2**bits, x.size)
        wanted = [kb.exact.encode(d, value, int(random), bits) for value, random in zip(x, r, strict=True)]
        assert kb.encode_stochastic(d, x, r, bits).tolist() == wanted


def test_by_hand() -> None:
    # 1.25 lies v = 1/4 from 1. a: floor(v * 4) + R >= 4 for R = 3 alone; b: floor(v * 8) + 2 R + 1 >= 8 for R = 3
    # (2 + 7 = 9; R = 2 gives 7); c: round(v * 4) + R as a
    x = np.full(4, 1.25)
    for mode in MODES:
        assert kb.encode_stochastic(f"int4+rounding={mode}", x, np.arange(4), 2).tolist() == [1, 1, 1, 2]
    # v = 1/8: a: floor(1/2) = 0: never; b: floor(1) + 2 * 3 + 1 = 8: R = 3; c: 1/2 rounds to 0: never
    x = np.full(4, 1.125)
    got = [kb.encode_stochastic(f"int4+rounding={mode}", x, np.arange(4), 2).tolist() for mode in MODES]
    assert got == [[1, 1, 1, 1], [1, 1, 1, 2], [1, 1, 1, 1]]


def test_odds_over_all_random_bits() -> None:
    r = np.arange(256)
    for numerator in range(0, 257, 16):
        x = np.full(256, 2 + numerator / 256)
        up = int((kb.encode_stochastic("int4+rounding=stochastic_a", x, r, 8) == 3).sum())
        assert up == numerator


@pytest.mark.parametrize(
    ("dtype", "random", "bits", "text"),
    [
        ("int4", [0], 1, r"dtype = int4, it rounds without random bits; spell it with \+rounding=stochastic_a"),
        ("int4+rounding=stochastic_a", [8], 3, r"random\[0\] = 8, it has more than random_bits = 3 bits; mask it"),
        ("int4+rounding=stochastic_a", [0.5], 3, r"random of dtype float64, it is no integer; pass integers"),
        ("int4+rounding=stochastic_a", [0, 0], 3, r"random of shape \(2,\), x has shape \(1,\); give one integer"),
        ("int4+rounding=stochastic_a", [0], 33, r"random_bits = 33, it is 0 to 32; use fewer"),
        ("nf4+rounding=stochastic_a", [0], 3, r"dtype = nf4.*, gaps between levels of nf4.* are not powers of two"),
    ],
)
def test_errors(dtype: str, random: list[float], bits: int, text: str) -> None:
    with pytest.raises(kb.KbitError, match=f"^encode_stochastic: {text}"):
        kb.encode_stochastic(dtype, [0.5], random, bits)
