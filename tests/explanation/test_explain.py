"""`kb.explain`: examples worked by hand, every profile against the engine, every bit by flipping it."""

import dataclasses
import json
import math

import numpy as np
import pytest

import kbit_ref as kb
from kbit_ref.exact.rules import RULES
from kbit_ref.explanation import element, explain, seen
from kbit_ref.explanation.decision import Neighbour
from kbit_ref.explanation.explanation import Explanation, Place
from kbit_ref.explanation.seen import BY_ENDS


def f32(*values: float) -> np.ndarray:
    return np.array(values, np.float32)


def places(e: Explanation) -> list[tuple[int, int, int]]:
    return [(place.bit, place.byte, place.at) for place in e.places]


def test_int4_by_hand() -> None:
    # max|x| = 7, top = 7: scale 1. -3.5 = -1.75 * 2: sign 1, exponent 128, significand .11; a tie of -4 and -3
    x = f32(7.0, -3.5, 1.75, 0.0)
    e = explain(x, 1, "int4-b4-absmax-f32")
    assert (e.x.hex, e.x.fields, e.x.format) == ("0xc0600000", "1|10000000|11000000000000000000000", "float32")
    assert (e.row, e.block, e.element, e.elements, e.first, e.last) == (0, 0, 1, 4, (0,), (3,))
    assert [(d.what, d.value, d.index) for d in e.deciders] == [("max|x|", 7.0, (0,))]
    assert (e.rule, e.formula, e.scale.value, e.scale.hex) == ("absmax", "fl(max|x| / top)", 1.0, "0x3f800000")
    assert (e.y.value, e.decision.below, e.decision.above) == (-3.5, Neighbour(12, -4.0), Neighbour(13, -3.0))
    assert (e.decision.midpoint, e.decision.side, e.decision.ulps) == (-3.5, "tie", 0)
    assert e.decision.why == ("a tie: ties=even takes the even code, -4.0",)
    assert (e.code, e.bits, e.decoded, e.error) == (12, "1100", -4.0, -0.5)
    assert places(e) == [(0, 0, 4), (1, 0, 5), (2, 0, 6), (3, 0, 7)]  # low4: the second code in the high nibble
    # 1.75 is 1/4 above the midpoint 1.5; its last place is 2**-23: 2**21 of them
    e = explain(x, 2, "int4-b4-absmax-f32")
    assert (e.decision.side, e.decision.ulps, e.code) == ("above", 2**21, 2)


def test_e2m1fn_by_hand() -> None:
    # floor(log2 20) = 4, floor(log2 6) = 2: scale 2**2, whose code in e8m0fnu is 129
    x = f32(20.0, -1.1)
    e = explain(x, 0, "e2m1fn-b2-pow2floor-e8m0fnu")
    assert (e.scale.value, e.scale.hex, e.scale.format) == (4.0, "0x81", "e8m0fnu")
    assert (e.y.value, e.decision.side, e.code) == (5.0, "tie", 6)  # of 4 and 6 the even code
    # -1.1 is -9227469 * 2**-23 in float32; a quarter is 9227469 - 2**23 units of 2**-25 from -0.25
    e = explain(x, 1, "e2m1fn-b2-pow2floor-e8m0fnu")
    assert e.x.exact == "-9227469 x 2^-23"
    assert (e.decision.midpoint, e.decision.side, e.decision.ulps) == (-0.25, "below", 838861)
    assert (e.decision.below, e.decision.above) == (Neighbour(9, -0.5), Neighbour(0, 0.0))
    assert (e.code, e.bits, e.decoded) == (9, "1001", -2.0)
    assert e.error == -2.0 + float(np.float32(1.1))


def test_nf4_in_split_nibbles_by_hand() -> None:
    x = np.zeros(32, np.float32)
    x[20] = 2
    e = explain(x, 20, "nf4-b32-absmax-f32+layout=split4x32")
    assert (e.code, e.decoded, e.error) == (15, 2.0, 0.0)
    assert (e.decision.below, e.decision.above) == (Neighbour(14, 0.7229568362236023), Neighbour(15, 1.0))
    assert e.decision.why == ("it is a level",)
    assert places(e) == [(bit, 4, 4 + bit) for bit in range(4)]  # byte j: j low, j + 16 high
    assert places(explain(x, 4, "nf4-b32-absmax-f32+layout=split4x32")) == [(bit, 4, bit) for bit in range(4)]


def test_affine_by_hand() -> None:
    # 15 / 15 = 1, zero point 0 - -1 = 1; 2.5 lies between the integers 2 and 3 and goes to 2, the code is 2 + 1
    e = explain(f32(-1.0, 2.5, 14.0, 0.0), 1, "uint4-b4-affine-f32")
    assert [(d.what, d.value, d.index) for d in e.deciders] == [("min", -1.0, (0,)), ("max", 14.0, (2,))]
    assert e.zero_point is not None
    assert (e.scale.value, e.zero_point.value, e.zero_point.fields) == (1.0, 1.0, "0001")
    assert (e.decision.below, e.decision.above) == (Neighbour(3, 2.0), Neighbour(4, 3.0))
    assert (e.decision.midpoint, e.decision.side, e.code, e.decoded, e.error) == (2.5, "tie", 3, 2.0, -0.5)
    # added before: 2.5 + 1 = 3.5 goes to 4
    e = explain(f32(-1.0, 2.5, 14.0, 0.0), 1, "uint4-b4-affine-f32+zeroadd=before")
    assert (e.steps[-1].what, e.steps[-1].result.value) == ("y + zero point", 3.5)
    assert (e.decision.below, e.decision.side, e.code) == (Neighbour(3, 3.0), "tie", 4)


def test_a_zero_point_beyond_the_codes() -> None:
    # no widening: min = 10, max = 25, scale 1, zero point -10 is cut to 0; 12 is cut to 12, 25 to 15
    e = explain(f32(10.0, 25.0), 1, "uint4-b2-affineplain-f32")
    assert (e.code, e.decision.why[-1], e.decoded) == (15, "beyond 0 ... 15: cut to 15.0", 15.0)
    assert (e.decision.below, e.decision.above) == (Neighbour(15, 25.0), Neighbour(15, 26.0))


def test_signed_integers_with_a_zero_point_by_hand() -> None:
    # scale 15 / 15 = 1, zero point -8 - -1 = -7: 2.5 is rounded to 2, 2 - 7 = -5, in two's complement 11
    e = explain(f32(-1.0, 2.5, 14.0, 0.0), 1, "int4-b4-affine-f32")
    assert e.zero_point is not None
    assert (e.zero_point.value, e.zero_point.fields) == (-7.0, "1001")
    assert (e.decision.below, e.decision.above) == (Neighbour(11, 2.0), Neighbour(12, 3.0))
    assert (e.code, [(step.what, step.result.value) for step in e.decode_steps]) == (
        11,
        [("level of the code 11", -5.0), ("- zero point", 2.0), ("* scale", 2.0)],
    )
    # offset binary has the same levels and counts from -8
    assert explain(f32(-1.0, 2.5, 14.0, 0.0), 1, "oint4-b4-affine-f32").code == 3


def test_codes_of_a_block_of_zeros() -> None:
    e = explain(f32(0.0, 0.0), 1, "dynamic8-b2-absmax-f32+zerocode=code0")
    assert (e.code, e.decision.why) == (0, ("zerocode=code0: where the scale is 0, so is the code",))
    assert explain(f32(0.0, 0.0), 1, "dynamic8-b2-absmax-f32").code == 127
    e = explain(f32(0.0, 0.0), 1, "oint4-b2-signedmax-f32+zeroblock=quotient")
    assert (e.scale.hex, e.scale_steps[-1].what) == ("0x80000000", "a block of zeros has, zeroblock=quotient")


def test_ggml_adds_half_by_hand() -> None:
    # m = -8, d = 1; the largest float32 below 0.5 is one unit of 2**-25 below the midpoint, and the sum rounds to 9
    x = np.zeros((1, 32), np.float32)
    x[0, :2] = -8, np.nextafter(np.float32(0.5), np.float32(0))
    e = explain(x, (0, 1), "ggml-q4_0")
    assert (e.scale.format, e.scale.hex, e.deciders[0].index) == ("float16", "0x3c00", (0, 0))
    assert (e.decision.below, e.decision.above) == (Neighbour(8, 0.0), Neighbour(9, 1.0))
    assert (e.decision.midpoint, e.decision.side, e.decision.ulps) == (0.5, "below", 1)
    assert e.decision.why == ("addhalf: y + 8.5 = 9.0, rounded; cut to 9, counted from -8: code 9",)
    assert (e.code, e.decoded, places(e)) == (9, 1.0, [(bit, 1, bit) for bit in range(4)])


def test_double_quantization_by_hand() -> None:
    # scales 1 and 3: mean 2, centred -1 and 1; dynamic8 has 1 and, lowest, -0.99296875
    x = np.zeros(128, np.float32)
    x[0], x[64] = 1, 3
    e = explain(x, 0, "bnb-cuda-nf4-double")
    assert e.double is not None
    assert e.double.mean is not None
    assert (e.double.x.value, e.double.mean.value, e.double.y.value, e.double.code) == (1.0, 2.0, -1.0, 0)
    stored = np.float32(2) - np.float32(0.99296875)
    assert (e.double.decoded, e.scale.value) == (stored, stored)
    assert [step.what for step in e.steps] == ["scale before it is stored", "1 / scale", "x * that"]
    assert (e.y.value, e.code, e.decoded) == (1.0, 15, stored)  # divided by the scale before it was stored
    assert places(e) == [(bit, 0, 4 + bit) for bit in range(4)]  # the first code in the high nibble
    e = explain(x, 64, "bnb-cuda-nf4-double")
    assert e.double is not None
    assert (e.block, e.double.code, e.scale.value, e.decoded) == (1, 255, 3.0, 3.0)


def test_nvfp4_by_hand() -> None:
    # largest 6: global scale 6 * 448 / 6 = 448. Blocks: 6 / 6 * 448 = 448; 3 / 6 * 448 = 224; one of zeros has 0.125
    x = np.zeros(48, np.float32)
    x[0], x[16:18] = 6, (3, 1.25)
    e = explain(x, 0, "nvfp4-ct")
    assert e.global_scale is not None
    assert (e.global_scale.value, e.scale.value, e.scale.hex) == (448.0, 448.0, "0x7e")
    e = explain(x, 17, "nvfp4-ct")
    assert [(step.what, step.result.value) for step in e.scale_steps] == [
        ("by the rule", 0.5),
        ("* global scale", 224.0),
    ]
    assert (e.scale.hex, e.scale.fields) == ("0x76", "0|1110|110")  # 1.75 * 2**7
    assert [(step.what, step.result.value) for step in e.steps] == [("scale / global scale", 0.5), ("x / scale", 2.5)]
    assert (e.decision.side, e.code, e.decoded, e.error) == ("tie", 4, 1.0, -0.25)  # 2 and 3: code 4 is even
    e = explain(x, 40, "nvfp4-ct")
    assert (e.scale_steps[-1].what, e.scale.value) == ("a block of zeros has, zeroblock=0.125", 0.125)
    assert (e.y.value, e.code, e.decoded) == (0.0, 0, 0.0)


def test_a_scale_is_clamped() -> None:
    e = explain(f32(2.0**-20), 0, "e2m1fn-b1-absmax-e4m3fn+scalerange=clamp")  # far below the smallest, 2**-9
    assert (e.scale_steps[-1].what, e.scale.value) == ("beyond the stored type, scalerange=clamp", 2.0**-9)


def test_offsets_and_means_by_hand() -> None:
    # minmax: (16 - 1) / 15 = 1, offset 1; 3.25 - 1 = 2.25
    e = explain(f32(1.0, 16.0, 3.25), 2, "uint4-b3-minmax-f16")
    assert e.offset is not None
    assert (e.offset.value, e.offset.hex, e.steps[0].what) == (1.0, "0x3c00", "x - offset")
    assert (e.y.value, e.code, [step.what for step in e.decode_steps[1:]]) == (2.25, 2, ["* scale", "+ offset"])
    assert (e.decoded, e.error) == (3.0, -0.25)
    # mean of 8, 1 and 0 is 3; the largest of 5, -2 and -3 is 5, which comes from x[0]
    e = explain(f32(8.0, 1.0, 0.0), 1, "int4-b3-absmax-f32+center=tensor")
    assert e.mean is not None
    assert (e.mean.value, e.steps[0].what, e.steps[0].result.value) == (3.0, "x - mean", -2.0)
    assert (e.deciders[0].value, e.deciders[0].index) == (5.0, (0,))
    e = explain(f32(8.0, 1.0, 0.0), 1, "int4-b3-absmax-f32+center=block")
    assert e.offset is not None
    assert (e.offset.value, e.steps[0].what, e.steps[0].result.value) == (3.0, "x - mean of the block", -2.0)


def test_who_decides_the_scale() -> None:
    x = f32(1.0, -4.0, 4.0, 2.0)
    assert explain(x, 0, "int4-b4-signedmax-f32").deciders[0].index == (1,)  # the first of equal magnitudes
    positive_first = f32(4.0, -4.0)
    assert explain(positive_first, 0, "int4-b2-signedmax-f32").deciders[0].index == (0,)
    assert explain(positive_first, 0, "int4-b2-signedmax-f32+signedtie=negative").deciders[0].index == (1,)
    many = np.arange(100, dtype=np.float32)  # 99 % of 100: the 99th smallest magnitude, 98
    decider = explain(many, 0, "int4-tensor-percentile-f32+percentile=99").deciders[0]
    assert (decider.what, decider.value, decider.index) == ("the 99 % point of |x|", 98.0, (98,))
    assert explain(x, 0, "lloyd4-b4-rms-f32").deciders[0].index is None
    padding = explain(f32(5.0, 6.0, 7.0), 2, "uint4-b2-minmax-f32+tail=pad")  # 7 and a zero that is nowhere in x
    assert [(d.value, d.index) for d in padding.deciders] == [(0.0, None), (7.0, (2,))]


def test_clip_takes_the_best_share() -> None:
    # 7 and six of 1: with the full range 7 / 7 = 1 nothing is lost, and no smaller share is better
    e = explain(f32(7.0, 1.0, 1.0), 0, "int4-b3-clip-f32")
    assert e.scale_steps[0].result.value == 1.0
    x = np.random.default_rng(6).normal(size=64).astype(np.float32)
    e = explain(x, 0, "int4-b64-clip-f32")  # stored as float32, the scale is the one by the rule
    share = e.scale.value / (np.abs(x).max() / 7)
    assert share < 0.99
    assert abs(share * 32 - round(share * 32)) < 1e-5
    assert e.scale_steps[0].result.value == e.scale.value


def test_a_scale_that_divides_by_hand() -> None:
    e = explain(f32(2.0, -1.0), 1, "int8sym-b2-absmax-f32+scaleas=divisor+zeroblock=one")  # 127 / 2 = 63.5
    assert (e.scale.value, e.steps[-1].what, e.y.value) == (63.5, "x * scale", -63.5)
    assert (e.decision.side, e.code, e.decode_steps[-1].what) == ("tie", 192, "/ scale")


def test_exact_arithmetic_has_no_bits() -> None:
    e = explain(f32(7.0, 1.0), 1, "e2m1fn-b2-absmax-f32+arith=exact")  # 7 / 6 is rounded once; 1 over that is not
    scale = np.float32(7) / np.float32(6)
    assert (e.y.format, e.y.hex) == ("exact", "")
    assert e.y.exact == f"{2**23}/{int(float(scale) * 2**23)}"
    assert e.code == 2


@pytest.mark.parametrize(
    ("scheme", "x", "code", "why"),
    [
        ("bnb-cuda-fp4", [1.0, 0.5833331], 2, "bnb_fp4: |y| > 0.583333, |y| <= 0.8333333 (constants of the tree"),
        ("bnb-cuda-fp4", [1.0, 0.3], 4, "bnb_fp4: |y| > 0.29166667, |y| <= 0.4166667 (constants"),
        ("bnb-cuda-fp4", [1.0, -1e-3], 8, "y < 0 sets the sign bit: code 8"),
        ("bnb-cuda-fp4", [1.0, 1.0], 3, "bnb_fp4: |y| > 0.8333333 (constants"),
        ("bnb-cpu-dynamic8", [1.0, 0.0], 131, "bnb_bins: y falls in bin 32768 of 65536, whose centre is "),
        ("bnb-cpu-dynamic8", [1.0, -1.0], 0, "the centre is not above the first midpoint: code 0"),
        ("ort-matmulnbits", [-8.0, 0.5], 9, "addround: y + 8 = 8.5; rounded, half away from zero, to 9"),
        ("ternary-b2-absmax-f32+encoder=midpoints32", [1.0, 0.5], 1, "midpoints32: y > -0.5, y <= 0.5 (midpoints, in"),
        ("ternary-b2-absmax-f32+encoder=midpoints32", [1.0, -1.0], 0, "midpoints32: y <= -0.5 (midpoints, in float32)"),
        ("ggml-mxfp4", [6.0, 0.25], 0, "fl(|y - 0.0|) = 0.25, code 0"),
    ],
)
def test_named_encoders(scheme: str, x: list[float], code: int, why: str) -> None:
    e = explain(f32(*x), 1, scheme)
    assert e.code == code
    assert why in "\n".join(e.decision.why)


def test_random_bits_by_hand() -> None:
    # 1.25 is a quarter of the way from 1 to 2: floor(0.25 * 4) + R = 1 + R reaches 4 for R = 3
    x, r = f32(7.0, 1.25, 1.25), [0, 2, 3]
    scheme = "int4-b3-absmax-f32+rounding=stochastic_a"
    two, three = (explain(x, i, scheme, random=r, random_bits=2) for i in (1, 2))
    assert (two.code, three.code) == (1, 2)
    assert two.decision.why[-1] == "stochastic_a: floor(v * 2^2) + R = 3 < 4: toward zero"
    assert three.decision.why[-1] == "stochastic_a: floor(v * 2^2) + R = 4 >= 4: away from zero"
    with pytest.raises(kb.KbitError, match=r"it needs random bits"):
        explain(x, 1, scheme)


def test_specials_and_the_ends() -> None:
    x = np.array([np.nan, 1.0, -np.inf, 0.0])
    nan, _, infinite, _ = (explain(x, i, "e4m3fn-b4-absmax-f32+nan=code+inf=saturate") for i in range(4))
    assert (nan.code, math.isnan(nan.decoded), nan.decision.why) == (0x7F, True, ("NaN has the code 127",))
    assert (infinite.code, infinite.error, infinite.decision.below) == (0xFE, math.inf, None)
    assert infinite.decision.why == ("an infinity with overflow=saturate: -448.0",)
    assert json.loads(json.dumps(nan.as_dict(), allow_nan=False))["decoded"] == "nan"
    counts = explain(x, 0, "int4-b4-absmax-f32+nan=zero+inf=saturate")
    assert (counts.steps[0].what, counts.code) == ("NaN counts as", 0)
    # beyond the last level: 7 / (4 / 7.5) is 13.125 in units of the type, whose last is 7
    e = explain(f32(-8.0, 7.9), 1, "int4-b2-signedmax-f32")
    assert (e.decision.below, e.decision.above, e.decision.midpoint) == (Neighbour(7, 7.0), None, None)
    assert e.decision.why == ("beyond the last level: overflow=saturate gives 7.0",)
    e = explain(f32(1.0, 463.0), 1, "e4m3fn-b2-pow2floor-e8m0fnu+overflow=ieee")  # scale 1: 463 to 448, 464 is half
    assert (e.decision.above, e.decision.midpoint, e.code) == (Neighbour(None, 480.0), 464.0, 0x7E)
    assert (e.decision.side, e.decision.why[0]) == ("below", "the next level would be 480")
    minus = explain(f32(6.0, -0.1), 1, "e2m1fn-b2-absmax-f32")  # becomes zero, with its sign
    assert (minus.code, minus.decoded) == (8, -0.0)
    assert minus.decision.why[-1] == "a zero, the sign bit of the number is set: zero_sign=keep gives the code 8"


def test_blocks_of_zeros_and_tails() -> None:
    e = explain(f32(1.0, 1.0, 0.0, 0.0, 3.0), 2, "int4-b2-absmax-f32")
    assert (e.scale.value, e.steps[-1].what, e.code, e.decoded) == (0.0, "the scale is 0, so y", 0, 0.0)
    tail = explain(f32(1.0, 1.0, 0.0, 0.0, 3.0), 4, "int4-b2-absmax-f32")
    assert (tail.block, tail.elements, tail.first, tail.last, tail.code) == (2, 1, (4,), (4,), 7)


def test_formats_of_x() -> None:
    half = explain(np.array([1.5, -2.0], np.float16), 1, "int4-b2-absmax-f32")
    assert (half.x.format, half.x.hex, half.x.fields) == ("float16", "0xc000", "1|10000|0000000000")
    brain = explain(np.array([0x3FC0, 0xC000], np.uint16), 0, "int4-b2-absmax-f32", bfloat16=True)
    assert (brain.x.value, brain.x.fields) == (1.5, "0|01111111|1000000")
    double = explain(np.array([0.1, 2.0]), 0, "int4-b2-absmax-f32")
    assert (double.x.hex, double.y.format) == ("0x3fb999999999999a", "float64")
    narrow = explain(f32(0.1, 2.0), 0, "int4-b2-absmax-f32+compute=bfloat16")
    assert (narrow.steps[0].what, narrow.steps[0].result.hex) == ("x in bfloat16", "0x3dcd")


@pytest.mark.parametrize("cut", ["tensor", "channel", "channel@1", "b5", "b5@0", "b3@-1", "channel@-1"])
def test_positions(cut: str) -> None:
    x = np.arange(1, 61, dtype=np.float32).reshape(3, 4, 5)
    scheme = kb.scheme(f"int4-{cut}-absmax-f32")
    order = scheme.cut.rows(np.arange(60).reshape(3, 4, 5))
    width = scheme.cut.size or order.shape[1]
    q = kb.quantize(x, scheme)
    for flat in range(60):
        e = explain(x, flat, scheme)
        row, column = (int(i[0]) for i in np.nonzero(order == flat))
        assert (e.row, e.block, e.element) == (row, column // width, column % width)
        block = order[row, column // width * width :][:width]
        assert np.ravel_multi_index(e.first, x.shape) == block[0]
        assert np.ravel_multi_index(e.last, x.shape) == block[-1]
        assert (e.elements, e.deciders[0].value) == (block.size, x.ravel()[block].max())
        assert (e.x.value, e.code) == (flat + 1, q.codes[e.index])


def test_indices() -> None:
    x = np.arange(12, dtype=np.float32).reshape(3, 4)
    for index in (7, -5, (1, 3), (-2, -1), [1, 3], np.int64(7)):
        assert explain(x, index, "int4-b4-absmax-f32").index == (1, 3)
    assert explain(np.float32(3), 0, "int4-tensor-absmax-f32").index == ()
    assert explain(np.float32(3), (), "int4-tensor-absmax-f32").code == 7


@pytest.mark.parametrize(
    ("x", "index", "told"),
    [
        ([1.0, 2.0], 2, "explain: index = 2, x has 2 elements; use -2 to 1"),
        ([[1.0, 2.0]], (0, -3), "explain: index = (0, -3), x has 2 elements along axis 1; use -2 to 1"),
        ([[1.0]], (0, 0, 0), "explain: index = (0, 0, 0), x has 2 dimensions; give a number for each, or one for "),
        ([], 0, "explain: index = 0, x has no elements; pass an array with some"),
        ([1.0], 0.5, "explain: index = 0.5, it is no integer; use 5, or (2, 7)"),
        (np.zeros(3, np.int8), 0, "explain: x of dtype int8, integers are codes or counts, not reals; "),
        ([1.0, np.nan], 0, "quantize: x[1] = nan, a block with NaN has no scale; "),
    ],
)
def test_mistakes_are_one_line(x: object, index: object, told: str) -> None:
    with pytest.raises(kb.KbitError) as caught:
        explain(x, index, "int4-b4-absmax-f32")  # type: ignore[arg-type]
    assert str(caught.value).startswith(told)
    assert "\n" not in str(caught.value)


def _type_of(bits: int) -> str:
    return "uint1" if bits == 1 else f"oint{bits}"


@pytest.mark.parametrize("layout", [name for name in kb.layouts() if not kb.layout(name).digits])
def test_each_bit_is_where_it_is_said_to_be(layout: str) -> None:
    bits = kb.layout(layout).bits
    rule = "minmax" if bits == 1 else "absmax"
    scheme = f"{_type_of(bits)}-b7@0-{rule}-f32+layout={layout}"
    x = np.random.default_rng(bits).normal(size=(23, 13)).astype(np.float32)  # 299 codes: groups and a tail
    q = kb.quantize(x, scheme)
    for flat in (0, 5, 130, 298):
        e = explain(x, flat, scheme)
        assert [place.bit for place in e.places] == list(range(bits))
        assert misplaced(q, e) == []


def misplaced(q: kb.QTensor, e: Explanation) -> list[Place]:
    """The places whose bit of `packed`, flipped, does not flip that bit of that code and nothing else."""
    found = []
    for place in e.places:
        packed = q.packed.copy()
        packed[place.byte] ^= np.uint8(1 << place.at)
        changed = dataclasses.replace(q, packed=packed).codes ^ q.codes
        if changed[e.index] != 1 << place.bit or np.count_nonzero(changed) != 1:
            found.append(place)
    return found


def test_a_wrong_place_would_be_found() -> None:
    x = f32(1.0, 2.0, 3.0, 4.0)
    q, e = kb.quantize(x, "int4-b4-absmax-f32"), explain(x, 1, "int4-b4-absmax-f32")
    other = Place(3, 0, 3)  # in the code of x[0]
    assert misplaced(q, dataclasses.replace(e, places=(*e.places[:3], other))) == [other]


def test_digits() -> None:
    x = np.random.default_rng(3).normal(size=(1, 512)).astype(np.float32)
    q = kb.quantize(x, "ggml-tq1_0")
    for flat in (0, 33, 159, 160, 239, 240, 255, 300, 511):
        e = explain(x, flat, "ggml-tq1_0")
        assert e.digit is not None
        assert e.places == ()
        byte, digit = e.digit
        fraction = int(q.packed[byte]) * 3**digit % 256  # a byte is a fraction of 256; times 3 gives the next digit
        assert fraction * 3 // 256 == e.code == q.codes[0, flat]
    assert explain(x, 33, "ggml-tq1_0").digit == (1, 1)  # 33 = 1 + 32: the second digit of byte 1
    assert explain(x, 300, "ggml-tq1_0").digit == (52 + 12, 1)  # 300 = 256 + 12 + 32; 256 codes take 52 bytes
    assert "packed[1], digit 1 of 0 ... 4 to base 3" in str(explain(x, 33, "ggml-tq1_0"))


@pytest.mark.parametrize("name", kb.profiles())
def test_every_profile_is_as_the_engine(name: str) -> None:
    generator = np.random.default_rng(len(name))
    x = (generator.normal(size=(64, 70)) * 2.0 ** generator.integers(-4, 4, (64, 70))).astype(np.float32)
    x[:, 0] = 0
    q = kb.quantize(x, name)
    decoded = kb.dequantize(q)
    for at in ((0, 0), (63, 69), tuple(generator.integers(0, 64, 2).tolist())):
        e = explain(x, at, name)
        assert (e.code, e.decoded) == (q.codes[at], decoded[at])
        assert e.error == float(decoded[at]) - float(x[at])
        assert len(str(e).splitlines()) > 10
        json.dumps(e.as_dict(), allow_nan=False)


def test_two_that_disagree_would_be_found(monkeypatch: pytest.MonkeyPatch) -> None:
    def wrong(*args: object, **options: object) -> kb.QTensor:
        q = kb.quantize(*args, **options)  # type: ignore[arg-type]
        return dataclasses.replace(q, packed=q.packed ^ np.uint8(1))

    monkeypatch.setattr(element, "quantize", wrong)
    with pytest.raises(AssertionError):
        explain(f32(1.0, 2.0), 0, "int4-b2-absmax-f32")


def test_the_definition_runs_on_one_block_only(monkeypatch: pytest.MonkeyPatch) -> None:
    seen = []

    def counted(x: list[float], *rest: object) -> object:
        seen.append(len(x))
        return exact_block(x, *rest)

    exact_block = element.exact_block
    monkeypatch.setattr(element, "exact_block", counted)
    x = np.random.default_rng(0).normal(size=(1024, 1024)).astype(np.float32)
    explain(x, (1000, 7), "bnb-cuda-nf4-double")
    assert seen == [64, 256]  # the block, and the block of scales


ENDS = {  # a scheme for each rule that looks at nothing but the ends
    **dict.fromkeys(("minmax", "affine", "affineplain", "hqq"), "uint4-b60@-1-{}-f32"),
    "mlx": "uint4-b60@-1-mlx-bf16",
}


@pytest.mark.parametrize("rule", BY_ENDS)
@pytest.mark.parametrize("choices", ["", "+nan=zero+inf=saturate", "+tail=pad+nan=zero"])
def test_large_blocks_are_as_small_ones(rule: str, choices: str, monkeypatch: pytest.MonkeyPatch) -> None:
    scheme = ENDS.get(rule, "int4-b60@-1-{}-f32").format(rule) + choices
    x = np.random.default_rng(4).normal(size=(2, 100)).astype(np.float32)
    x[0, 7], x[0, 80] = -5, 5  # of equal magnitude; and in the second row one that comes first
    x[1, 3], x[1, 4] = 4, -4
    if "pad" in choices:  # all positive, so that a zero of padding or for NaN is the smallest
        x = np.abs(x) + 1
    if choices:
        x[0, 50], x[1, 99] = np.nan, np.nan
    if "inf" in choices:
        x[0, 51] = np.inf
    at = [(0, 0), (0, 7), (0, 50), (0, 51), (0, 99), (1, 4), (1, 99)]
    whole = [explain(x, index, scheme).as_dict() for index in at]
    monkeypatch.setattr(seen, "MANY", 3)
    taken = [seen.seen(kb.scheme(scheme), x[0], 20).size for _ in at]
    assert max(taken) <= 4
    assert [explain(x, index, scheme).as_dict() for index in at] == whole


@pytest.mark.parametrize("scheme", ["int4-tensor-rms-f32", "int4-tensor-clip-f32", "int4-tensor-percentile-f32"])
def test_rules_that_look_at_everything(scheme: str) -> None:
    assert seen.seen(kb.scheme(scheme), np.zeros(seen.MANY + 1), 0).size == seen.MANY + 1
    for choice in ("+center=block", "+center=tensor", "+compute=bfloat16"):
        other = kb.scheme(f"int4-tensor-absmax-f32{choice}")
        assert seen.seen(other, np.zeros(seen.MANY + 1), 0).size == seen.MANY + 1


def test_every_rule_is_one_or_the_other() -> None:
    assert set(RULES) == {*BY_ENDS, "rms", "clip", "percentile"}, "what does the scale of the new rule depend on?"


def test_a_large_tensor() -> None:
    x = np.random.default_rng(5).normal(size=(1024, 1024)).astype(np.float32)
    q = kb.quantize(x, "int8-tensor-absmax-f32")
    e = explain(x, (3, 7), "int8-tensor-absmax-f32")
    assert (e.code, e.scale.value, e.elements) == (q.codes[3, 7], q.scales[0, 0], 1 << 20)
    assert e.deciders[0].index == np.unravel_index(np.abs(x).argmax(), x.shape)


def test_told_line_by_line() -> None:
    assert str(explain(f32(7.0, -3.5, 1.75, 0.0), 1, "int4-b4-absmax-f32")).splitlines() == [
        "scheme    int4-b4-absmax-f32",
        "x[1]      -3.5 = 0xc0600000 = 1|10000000|11000000000000000000000  float32",
        "block     row 0, block 0: x[0] ... x[3], 4 elements; this is number 1",
        "rule      absmax: fl(max|x| / top)",
        "          max|x| = 7 at x[0]",
        "scale     by the rule = 1.0",
        "stored    1.0 = 0x3f800000 = 0|01111111|00000000000000000000000  float32",
        "scaled    x / scale = -3.5",
        "y         -3.5 = 0xc0600000 = 1|10000000|11000000000000000000000  float32",
        "below     -4  code 12 = 1100",
        "above     -3  code 13 = 1101",
        "midpoint  -3.5: it is y",
        "why       a tie: ties=even takes the even code, -4.0",
        "code      12 = 1100",
        "bytes     packed[0], bits 4-7 = bits 0-3 of the code",
        "decoded   level of the code 12 = -4.0",
        "          * scale              = -4.0",
        "error     -0.5",
    ]


def test_zero_is_told_briefly() -> None:
    """0.0398 is 2**-149 (an ulp of 0) about 2**144.35 times."""
    told = str(kb.explain(np.array([1, 0], np.float32), 1, "nf4-b2-absmax-f32")).splitlines()
    assert "midpoint  0.03979014977812767: y lies about 2^144 ulp below it" in told
    assert not any(line.strip() == "= 0" for line in told)
