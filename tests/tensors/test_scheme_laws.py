"""Laws of schemes, each with its domain; outside the domain each is shown to fail."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray

import kbit_ref as kb

Array = NDArray[np.float32]


def normals(seed: int, n: int = 4096) -> Array:
    """Float32 normals."""
    return np.random.default_rng(seed).standard_normal(n, np.float32)


def changed_blocks(x: Array, text: str) -> float:
    """The share of blocks whose scale or codes change when the dequantized tensor is quantized again."""
    first = kb.quantize(x, text)
    again = kb.quantize(kb.dequantize(first), text)
    n_blocks = first.scales.size
    codes = (first.codes.reshape(n_blocks, -1) != again.codes.reshape(n_blocks, -1)).any(axis=1)
    return float((codes | (first.scales != again.scales).ravel()).mean())


# Again: domain: plus and minus top are both levels, the rule is absmax, the choices are the defaults -------------
SYMMETRIC = [
    name
    for name in kb.datatypes()
    if kb.datatype(name).bits <= 8 and {kb.datatype(name).top, -kb.datatype(name).top} <= set(kb.datatype(name).levels)
]


@pytest.mark.parametrize("name", SYMMETRIC)
def test_again_changes_nothing(name: str) -> None:
    for seed in range(4):
        assert changed_blocks(normals(seed), f"{name}-b64-absmax-f32") == 0


def test_again_has_a_domain() -> None:
    assert len(SYMMETRIC) > 40
    # without -top: the largest element comes back short, so the next scale is smaller. 42 to 50 % of blocks
    assert 0.4 < changed_blocks(normals(0, 2**18), "dynamic8-b64-absmax-f32") < 0.52
    # MX ceil: the largest element may round down to a power of two, which has the next smaller scale. For normals
    # 45 % of MXFP4 blocks and 11 % of MXFP8's; the decoded values stay what they are
    for name, share in (("e2m1fn", 0.447), ("e4m3fn", 0.112)):
        text = f"{name}-b32-pow2ceil-e8m0fnu"
        assert abs(changed_blocks(normals(0, 2**18), text) - share) < 0.02
        once = kb.dequantize(kb.quantize(normals(0), text))
        assert np.array_equal(kb.dequantize(kb.quantize(once, text)), once)


# Powers of two: domain: no scale or product leaves the normal numbers ---------------------------------------------
SCALED = ["nf4-b64-absmax-f32", "int8-b16-absmax-bf16", "e2m1fn-b32-pow2floor-e8m0fnu", "uint4-b32-minmax-f32"]


@pytest.mark.parametrize("text", SCALED)
@given(n=st.integers(-60, 60), seed=st.integers(0, 1000))
@settings(max_examples=20)
def test_powers_of_two_commute(text: str, n: int, seed: int) -> None:
    x = normals(seed, 256)
    one, two = kb.quantize(x, text), kb.quantize(np.ldexp(x, n), text)
    assert np.array_equal(one.codes, two.codes)
    assert np.array_equal(np.ldexp(one.scales, n), two.scales)
    assert np.array_equal(np.ldexp(kb.dequantize(one), n), kb.dequantize(two))


def test_powers_of_two_have_a_domain() -> None:
    x = np.array([1.0, 0.3], np.float32)
    text = "nf4-b2-absmax-f32"
    one, two = kb.quantize(x, text), kb.quantize(np.ldexp(x, -148), text)  # two bits are left of 0.3
    assert one.codes.tolist() != two.codes.tolist()


# Blocks are independent: domain: nothing belongs to the whole tensor ----------------------------------------------
@pytest.mark.parametrize("text", ["nf4-b64-absmax-f32", "uint4-b64-affine-f16", "int4-b64-clip-f32", "ggml-q4_0"])
def test_blocks_are_independent(text: str) -> None:
    x = normals(1, 640).reshape(10, 64)
    whole = kb.quantize(x, text)
    for i in range(10):
        alone = kb.quantize(x[i : i + 1], text)
        assert np.array_equal(alone.codes[0], whole.codes[i])
        assert np.array_equal(alone.scales.ravel(), whole.scales.reshape(10, -1)[i])


@pytest.mark.parametrize("choice", ["center=tensor", "global=multiplier", "double=bnb"])
def test_blocks_depend_on_what_is_of_the_tensor(choice: str) -> None:
    text = f"e2m1fn-b64-absmax-{'f32' if 'double' in choice else 'e4m3fn'}+{choice}"
    x = normals(1, 640)
    assert not np.array_equal(kb.dequantize(kb.quantize(x, text))[:64], kb.dequantize(kb.quantize(x[:64], text)))


# Encode is monotone within a block: domain: the scale is positive --------------------------------------------------
@given(st.lists(st.floats(-1e6, 1e6, width=32), min_size=2, max_size=32), st.sampled_from(["nf4", "int4", "e4m3fn"]))
def test_a_block_keeps_its_order(values: list[float], name: str) -> None:
    x = np.sort(np.array(values, np.float32))
    decoded = kb.dequantize(kb.quantize(x, f"{name}-tensor-absmax-f32+scalerange=clamp"))
    assert (np.diff(decoded) >= 0).all()


def test_a_block_with_a_negative_scale_keeps_its_order_too_but_not_its_codes() -> None:
    q = kb.quantize(np.array([-1.0, 0.0, 4.0], np.float32), "oint4-tensor-signedmax-f32")
    assert (np.diff(kb.dequantize(q)) > 0).all()
    assert (np.diff(q.codes.astype(int)) < 0).all()


# Stochastic rounding: exact for each element, right on average -----------------------------------------------------
@pytest.mark.parametrize("mode", ["stochastic_a", "stochastic_b", "stochastic_c"])
def test_stochastic_rounding_given_the_bits(mode: str) -> None:
    rng = np.random.default_rng(3)
    for text in ("int4-b8-absmax-f32", "e2m1fn-b8@-1-pow2floor-e8m0fnu", "e4m3fn-channel@1-absmax-f16"):
        spelled = f"{text}+rounding={mode}"
        x, r = rng.standard_normal((6, 8)).astype(np.float32), rng.integers(0, 16, (6, 8))
        q = kb.quantize(x, spelled, random=r, random_bits=4)
        wanted = kb.exact.quantize(x, spelled, random=r, random_bits=4)
        assert kb.scheme(spelled).cut.rows(q.codes).tolist() == wanted.codes


def test_stochastic_rounding_is_right_on_average() -> None:
    # over all random bits the mean of the decoded values is x, when x lies a multiple of 1/16 of the gap between levels
    x = np.array([7.0, 2.25, -3.0625, 0.5], np.float32)
    total = np.zeros(4)
    for r in range(16):
        q = kb.quantize(x, "int4-tensor-absmax-f32+rounding=stochastic_a", random=np.full(4, r), random_bits=4)
        total += kb.dequantize(q)
    assert (total / 16).tolist() == x.tolist()


def test_stochastic_rounding_needs_bits_and_nothing_else_takes_them() -> None:
    with pytest.raises(kb.KbitError, match=r"^quantize: rounding = stochastic_a, it needs random bits; pass random="):
        kb.quantize([1.0], "int4-tensor-absmax-f32+rounding=stochastic_a")
    with pytest.raises(kb.KbitError, match=r"^quantize: rounding = nearest, it takes no random bits; drop random"):
        kb.quantize([1.0], "int4-tensor-absmax-f32", random=[0], random_bits=1)
