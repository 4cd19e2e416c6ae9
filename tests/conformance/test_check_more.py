"""`kb.check` of decoders of schemes and of stochastic rounding, and what the text of a verdict says first."""

import ml_dtypes
import numpy as np
import pytest

import kbit_ref as kb
from kbit_ref.conformance.subject import question

MXFP4 = "ocp-mxfp4"


def nibbles(packed):
    return np.stack([packed & 15, packed >> 4], -1).reshape(-1, 32)


def by_bytes(packed, scale_bytes):
    power = np.ldexp(np.float32(1), scale_bytes.astype(int).reshape(-1, 1) - 127)
    return (kb.decode("e2m1fn", nibbles(packed)) * power).astype(np.float32)


def in_order(p, s):
    return kb.decode("e2m1fn", nibbles(p)) * s.reshape(-1, 1)


DECODERS = {  # right ones, in each way to be given what is stored
    "the QTensor": kb.dequantize,
    "parts by name": by_bytes,
    "parts in order": in_order,
    "all parts": lambda **parts: (
        kb.decode("e2m1fn", parts["codes"]) * np.repeat(parts["scales"], 32, 1)[:, : parts["shape"][1]]
    ),
    "bfloat16": lambda packed, scales: in_order(packed, scales).astype(ml_dtypes.bfloat16),
    "flat": lambda packed, scales: in_order(packed, scales).reshape(-1),
}


@pytest.mark.parametrize("name", DECODERS)
def test_a_decoder_is_given_what_it_asks_for(name):
    found = kb.check(DECODERS[name], MXFP4, what="decode")
    assert found.agree, found
    assert found.part("decoded").tried > 10_000


WRONG = {  # tile-ai/tilelang#2748 and bitsandbytes-foundation/bitsandbytes#1472 are the first two
    "2^127": lambda packed, scale_bytes: (
        kb.decode("e2m1fn", nibbles(packed)) * np.ldexp(np.float32(1), scale_bytes.astype(int).reshape(-1, 1))
    ).astype(np.float32),
    "the other end of each byte": lambda packed, scales: in_order(packed >> 4 | packed << 4, scales),
    "one number": lambda q: np.where(kb.dequantize(q) == 3, np.float32(3.5), kb.dequantize(q)),
}


@pytest.mark.parametrize("name", WRONG)
def test_a_wrong_decoder_is_found_and_its_mistake_named_first(name):
    found = kb.check(WRONG[name], MXFP4, what="decode")
    assert found.status == "disagree"
    first = str(found).splitlines()[0]
    assert first.startswith("e2m1fn-b32@-1-pow2floor-e8m0fnu: disagree: ")
    assert name in first or name == "one number"
    assert f"{found.different:,} answers differ" in first


def test_a_decoder_that_raises_or_answers_too_little_has_errors():
    assert kb.check(lambda q: 1 / 0, MXFP4, what="decode").status == "error"
    fewer = kb.check(lambda packed, scales: in_order(packed, scales)[:-1], MXFP4, what="decode")
    assert fewer.status == "error"
    assert "the answer has shape" in fewer.errors[0]


def test_a_decoder_of_tails_is_told_the_shape():
    s = "int4-b32-absmax-f32"

    def tails(codes, scales, shape):
        spread = np.repeat(scales.reshape(-1), 32)[: codes.size].reshape(shape)
        return kb.decode("int4", codes) * spread

    def no_tails(codes, scales, shape):
        values = tails(codes, scales, shape)
        if values.size % 32:
            values.reshape(-1)[-1] += 1
        return values

    assert kb.check(tails, s, what="decode").agree
    assert kb.check(no_tails, s, what="decode").status == "disagree"


# Stochastic rounding ---------------------------------------------------------------------------------


@pytest.mark.parametrize("rounding", ["stochastic_a", "stochastic_b", "stochastic_c"])
def test_an_encoder_is_given_random_bits(rounding):
    name = f"e2m1fn+rounding={rounding}"
    right = kb.check(lambda x, random: kb.encode_stochastic(name, x, random, 8), name, random_bits=8)
    assert right.agree, right
    inverted = kb.check(lambda x, random: kb.encode_stochastic(name, x, 255 - random, 8), name, random_bits=8)
    assert inverted.status == "disagree"


def with_bits(spelling, change=lambda random: random, **numbers):
    """A quantizer that is given random bits, and may use others."""

    def mine(x, random):
        q = kb.quantize(x, spelling, random=change(random), random_bits=8)
        return {"values": kb.dequantize(q)} if numbers else q

    return mine


@pytest.mark.parametrize(
    "spelling",
    [
        "int4-b32-absmax-f32+rounding=stochastic_a",
        "e2m1fn-b32@-1-pow2floor-e8m0fnu+rounding=stochastic_b",
        "e2m1fn-b16@-1-absmax-e4m3fn+global=divisor+rounding=stochastic_c+scalerange=clamp",
    ],
)
def test_a_scheme_with_random_bits(spelling):
    for numbers in ({}, {"values": True}):
        verdict = kb.check(with_bits(spelling, **numbers), spelling, random_bits=8, shapes=False)
        assert verdict.agree, verdict
        assert verdict.tried > 10_000
    half = kb.check(with_bits(spelling, lambda random: random ^ 1), spelling, random_bits=8, shapes=False)
    assert half.status == "disagree"
    assert [row.part for row in half.rows if row.differences] == ["codes"]


A = "int4-b32-absmax-f32+rounding=stochastic_a"
SAID = [
    (with_bits(A, lambda random: 255 - random), "random bits reversed"),
    (with_bits(A, lambda random: np.full_like(random, random.flat[0])), "one random number"),
    (with_bits(A, lambda random: np.roll(random, 1)), "random bits shifted"),
    (with_bits(A.replace("_a", "_c")), "rounding=stochastic_c"),
    (with_bits(A.replace("_a", "_c"), values=True), "rounding=stochastic_c"),
    (lambda x, random: kb.quantize(x, "int4-b32-absmax-f32"), "rounding=nearest"),
    (with_bits(A, lambda random: random ^ 1), "unexplained"),
]


@pytest.mark.parametrize(("function", "cause"), SAID)
def test_what_is_wrong_with_random_bits_is_named(function, cause):
    verdict = kb.check(function, A, random_bits=8, shapes=False)
    (difference,) = verdict.differences
    assert (verdict.status, difference.cause) == ("disagree", cause)
    assert difference.example.steps[0].startswith("random = ")
    assert difference.example.bits.startswith("0x")


@pytest.mark.parametrize("mine", "abc")
@pytest.mark.parametrize("claimed", "abc")
def test_the_stochastic_roundings_of_schemes_are_told_apart(claimed, mine):
    """b and c part only halfway between two steps of the random bits."""
    spelling = A.replace("_a", f"_{claimed}")
    verdict = kb.check(with_bits(A.replace("_a", f"_{mine}")), spelling, random_bits=8, shapes=False)
    assert verdict.agree == (mine == claimed)


def test_a_wrong_scale_beside_random_bits():
    def doubled(x, random):
        q = kb.quantize(x, A, random=random, random_bits=16)
        return {"codes": q.codes, "scales": q.scales * 2}

    verdict = kb.check(doubled, A, shapes=False)
    assert [(row.part, row.status) for row in verdict.rows] == [("scales", "disagree"), ("codes", "agree")]


def test_who_takes_no_random_bits_and_who_is_not_ranked():
    verdict = kb.check(lambda x: kb.quantize(x, "int4-b32-absmax-f32"), A, shapes=False)
    assert verdict.status == "error"
    assert "takes 1 positional argument but 2 were given" in verdict.errors[0]
    with pytest.raises(kb.KbitError, match="are not ranked; rank the encoder alone: int4"):
        kb.check(lambda x, random: x, A, rank=True)


def test_random_bits_that_are_not_aligned_are_named():
    """uxlfoundation/oneDNN#2903: float32 to e5m2 drops 21 bits, and the 16 random ones are added at bit 0."""

    def low_bits(x, random):
        word = np.asarray(x, np.float32).view(np.uint32) + (np.asarray(random, np.uint32) & 0xFFFF)
        return (word.astype(np.uint32) & np.uint32(0xFFE00000)).view(np.float32)

    found = kb.check(low_bits, "e5m2+rounding=stochastic_a")
    assert found.status == "disagree"
    assert "random bits are not aligned" in str(found).splitlines()[0]
    assert "5 places too low" in str(found).splitlines()[0]


def test_the_two_random_numbers_between_which_a_code_changes_are_among_those_tried():
    """1.25 with 4 bits: 1.25 * 16 = 20, which 11 leaves at 1 and 12 takes to 2."""
    d = kb.datatype("int4+rounding=stochastic_a")
    asked = question(d, "encode", "float32", random_bits=4)
    tried = dict(zip(asked.random[asked.x == 1.25].tolist(), asked.ours[asked.x == 1.25].tolist(), strict=True))
    assert {r: tried[r] for r in (0, 11, 12, 15)} == {0: 1, 11: 1, 12: 2, 15: 2}


def test_the_whole_text_of_a_function_fits_a_screen():
    """Many kinds of differences: the counterexample of the most, the others in a line each."""

    def many(x):
        codes = kb.encode("e4m3fn", x).copy()
        for at in range(1, 60):
            codes = np.where(codes == 2 * at, 2 * at + 1, codes)
        return codes

    found = kb.check(many, "e4m3fn", sources=("float16", "bfloat16", "float32", "float64"))
    lines = str(found).splitlines()
    assert len(lines) <= 40
    assert lines[0].startswith("e4m3fn: disagree: ")
    assert sum("why" in line for line in lines) == 1


@pytest.mark.parametrize("number", [np.nan, np.inf])
def test_zero_points_that_are_no_numbers_differ_and_warn_of_nothing(number):
    def mine(x):
        q = kb.quantize(x, "uint4-b32-affine-f32+scalerange=clamp")
        zeros = q.zero_points.astype(np.float32)
        zeros.reshape(-1)[0] = number
        return {"codes": q.codes, "scales": q.scales, "zero_points": zeros, "decoded": kb.dequantize(q)}

    verdict = kb.check(mine, "uint4-b32-affine-f32+scalerange=clamp", shapes=False)
    assert verdict.status == "disagree"
    assert [row.part for row in verdict.rows if row.differences] == ["zero_points"]
