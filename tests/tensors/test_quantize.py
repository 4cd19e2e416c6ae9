"""Schemes: the engine against the definition, hand-worked blocks, and PAPER's table."""

import copy
import pickle
import random
import sys
from dataclasses import replace
from typing import Any

import numpy as np
import pytest
from helpers.libraries import light

import kbit_ref as kb
from kbit_ref.arithmetic import Arithmetic
from kbit_ref.exact.rules import RULES
from kbit_ref.tensors.scheme import CHOICES, SCALE_DTYPES

TYPES = [
    *("nf4", "e2m1fn", "e4m3fn", "e5m2", "int4", "int8", "int4sym", "uint4", "uint8"),
    *("dynamic4", "fp4_bnb", "bof4s_b64", "kfloat4", "ternary", "uint3"),
    *("oint4", "mxint8", "nf4_torchao", "dynamic8", "oint5"),
]
CUTS = ["tensor", "channel", "channel@1", "b8", "b5", "b8@-1", "b3@0"]
FORMS = ("float16", "bfloat16", "float32", "float64")


def random_scheme(rng: random.Random) -> kb.Scheme:
    """A valid scheme with some choices: each one drawn is added where it fits to those before."""
    made = None
    while made is None:
        made = fitting("-".join(rng.choice(words) for words in (TYPES, CUTS, list(RULES), SCALE_DTYPES)))
    for name in rng.sample(list(CHOICES), len(CHOICES)):
        if rng.random() < 0.35:
            made = fitting(f"{made}+{name}={rng.choice(CHOICES[name])}") or made
    return made


def fitting(text: str) -> kb.Scheme | None:
    """The scheme of a spelling, if it is one."""
    try:
        return kb.scheme(text)
    except kb.KbitError:
        return None


def random_array(rng: np.random.Generator, form: str) -> np.ndarray[Any, Any]:
    """[5, 6]: normals at some scale, with ties, zeros, subnormals and specials now and then."""
    x = rng.standard_normal(30) * 2.0 ** rng.integers(-12, 12)
    kind = rng.integers(6)
    if kind == 0:
        x = np.round(x * 4) / 4
    elif kind == 1:
        x[rng.integers(0, 30, 10)] = 0
    elif kind == 2:
        x[:] = 0
    elif kind == 3 and form == "float32":
        x = x * 1e-40
    elif kind == 4:
        x = np.abs(x)
    with np.errstate(over="ignore", under="ignore"):
        x = x.astype("float32" if form == "bfloat16" else form)
    if form == "bfloat16":
        x = (x.view(np.uint32) & np.uint32(0xFFFF0000)).view(np.float32)
    for value, odds in ((-0.0, 4), (np.inf * rng.choice([-1, 1]), 5), (np.nan, 5)):
        if rng.integers(odds) == 0:
            x[rng.integers(30)] = value
    return x.reshape(5, 6)


def bits(values: Any) -> list[int]:
    """The bits of numbers as float64: 0 and -0 are two."""
    return np.ravel(np.asarray(values, np.float64)).view(np.uint64).tolist()


def compare(s: kb.Scheme, x: np.ndarray[Any, Any], form: str) -> bool:
    """Do engine and definition agree on everything stored and decoded, bit for bit? True if they answered."""
    given, options = x, {}
    if form == "bfloat16":
        given = x.astype(light("ml_dtypes").bfloat16)
    if s.dtype.rounding.startswith("stochastic"):
        options = {"random": np.arange(x.size).reshape(x.shape) * 5 % 16, "random_bits": 4}
    try:
        wanted = kb.exact.quantize(x, s, form, **options)
    except kb.KbitError:
        with pytest.raises(kb.KbitError):
            kb.quantize(given, s, **options)
        return False
    q = kb.quantize(given, s, **options)

    def stored(what: str) -> list[int]:
        return bits([float(getattr(block, what)) for row in wanted.rows for block in row])

    assert s.cut.rows(q.codes).tolist() == wanted.codes
    assert bits(q.scales) == stored("scale")
    if q.zero_points is not None:
        assert bits(q.zero_points) == stored("zero_point")
    if q.global_scale is not None:
        assert wanted.global_scale is not None
        assert bits(q.global_scale) == bits(float(wanted.global_scale))
    assert (q.double is None) == (wanted.double is None)
    if q.double is not None and wanted.double is not None:
        assert q.double.codes.ravel().tolist() == wanted.double.codes[0]
        assert bits(q.double.scales) == bits([float(block.scale) for row in wanted.double.rows for block in row])
        assert bits(q.double.offsets) == bits(float(wanted.double.mean))  # type: ignore[arg-type]
    if q.offsets is not None:
        assert bits(q.offsets) == (bits(float(wanted.mean)) if s["center"] == "tensor" else stored("offset"))  # type: ignore[arg-type]
    decoded = np.array([[float(value) for value in row] for row in kb.exact.dequantize(wanted, s)])
    got = s.cut.rows(kb.dequantize(q)).astype(np.float64)
    assert np.array_equal(got, decoded, equal_nan=True)
    numbers = ~np.isnan(got)
    assert np.array_equal(np.signbit(got)[numbers], np.signbit(decoded)[numbers])
    return True


@pytest.mark.parametrize("seed", range(8))
def test_random_schemes_equal_the_definition(seed: int) -> None:
    rng, numbers = random.Random(seed), np.random.default_rng(seed)
    answered = 0
    for _ in range(60):
        s, form = random_scheme(rng), rng.choice(FORMS)
        answered += compare(s, random_array(numbers, form), form)
    assert answered > 20


@pytest.mark.slow
@pytest.mark.parametrize("seed", range(100, 110))
def test_many_more_random_schemes(seed: int) -> None:
    rng, numbers = random.Random(seed), np.random.default_rng(seed)
    for _ in range(200):
        s, form = random_scheme(rng), rng.choice(FORMS)
        compare(s, random_array(numbers, form), form)


def test_a_wrong_scale_would_be_found(monkeypatch: pytest.MonkeyPatch) -> None:
    from kbit_ref.tensors import rules

    right = rules.RULES["absmax"].scale
    monkeypatch.setattr(rules.RULES["absmax"], "scale", lambda *a: np.nextafter(right(*a), np.float32(np.inf)))
    with pytest.raises(AssertionError):
        compare(kb.scheme("int4-b5-absmax-f32"), np.linspace(-1, 1, 30, dtype=np.float32).reshape(5, 6), "float32")


def test_absmax_by_hand() -> None:
    q = kb.quantize(np.array([7.0, -3.5, 1.75, 0.0, 14.0, 1.0], np.float32), "int4-b4-absmax-f32")
    assert q.scales.tolist() == [[1.0, 2.0]]
    assert q.codes.tolist() == [7, 12, 2, 0, 7, 0]  # -3.5 and 0.5 are ties: -4 and 0 are even
    assert q.packed.tolist() == [0xC7, 0x02, 0x07]
    assert kb.dequantize(q).tolist() == [7, -4, 2, 0, 14, 0]
    assert q.bits_per_parameter == (3 * 8 + 2 * 32) / 6


def test_mx_by_hand() -> None:
    # max 5.9: floor(log2) = 2, emax of e2m1 = 2, scale 2**0; max 96: floor 6, scale 2**4
    q = kb.quantize(np.array([[5.9, 1.0], [96.0, -40.0]], np.float32), "e2m1fn-b2@1-pow2floor-e8m0fnu")
    assert q.scales.tolist() == [[1.0], [16.0]]
    assert kb.dequantize(q).tolist() == [[6, 1], [96, -32]]  # -40/16 = -2.5 is a tie, -2 has the even code


def test_affine_by_hand() -> None:
    # range -1 ... 2, 15 steps of 0.2f; zero point round(1 / 0.2f) = 5
    q = kb.quantize(np.array([-1.0, 0.0, 2.0], np.float32), "uint4-tensor-affine-f32")
    assert (q.zero_points.tolist(), q.codes.tolist()) == ([[5]], [0, 5, 15])  # type: ignore[union-attr]
    assert kb.dequantize(q)[1] == 0


def test_signedmax_by_hand() -> None:
    q = kb.quantize(np.array([4.0, -2.0], np.float32), "int4-tensor-signedmax-f32")
    assert (q.scales.tolist(), q.codes.tolist()) == ([[-0.5]], [8, 4])  # -8 stands for the largest element


def test_errors() -> None:
    x = np.ones((4, 4), np.float32)
    x[2, 1] = np.nan
    with pytest.raises(kb.KbitError, match=r"^quantize: x\[2, 1\] = nan, a block with NaN has no scale; clean the"):
        kb.quantize(x, "nf4-b8-absmax-f32")
    with pytest.raises(kb.KbitError, match=r"^quantize: cut = b8@5 for x of 2 dimensions, axes are -2 to 1; "):
        kb.quantize(np.ones((2, 2)), "nf4-b8@5-absmax-f32")
    with pytest.raises(kb.KbitError, match=r"^quantize: a block scale of .*, it becomes inf in f16; use a wider"):
        kb.quantize([1e30, 1.0], "int4-tensor-absmax-f16")


@pytest.mark.parametrize("threads", [1, 2])
def test_pieces_and_threads(threads: int) -> None:
    x = np.random.default_rng(0).standard_normal((3, 200_011), np.float32)
    for cut in ("b64", "b64@1", "channel", "b3@0"):
        q = kb.quantize(x, f"int4-{cut}-absmax-f32", threads=threads)
        rows = kb.scheme(f"int4-{cut}-absmax-f32").cut.rows(x)
        width = {"b64": 64, "b64@1": 64, "channel": rows.shape[1], "b3@0": 3}[cut]
        padded = np.pad(np.abs(rows), [(0, 0), (0, -rows.shape[1] % width)])
        largest = padded.reshape(len(rows), -1, width).max(axis=2)
        assert np.array_equal(q.scales, largest / np.float32(7))


# PAPER, section 5: SQNR in dB on N(0, 1), by block size 16 ... 4096
SIZES = (16, 32, 64, 128, 256, 1024, 4096)
TABLE = {
    "int3sym": "14.03 12.90 12.00 11.25 10.62 9.56 8.71",
    "kfloat3": "14.33 13.50 12.91 12.45 12.06 11.41 10.83",
    "dynamic3": "13.17 12.54 12.00 11.55 11.16 10.55 10.10",
    "quantile3": "14.59 13.70 13.03 12.50 12.05 11.30 10.66",
    "int4sym": "21.39 20.26 19.36 18.62 17.98 16.92 16.07",
    "kfloat4": "15.48 14.87 14.51 14.31 14.22 14.18 14.20",
    "kfloat4_e2m1": "20.52 19.90 19.52 19.26 19.07 18.78 18.50",
    "fp4_bnb": "19.64 18.85 18.28 17.82 17.42 16.70 16.05",
    "dynamic4": "18.46 17.74 17.12 16.58 16.13 15.39 14.82",
    "quantile4": "21.33 20.66 20.20 19.87 19.59 19.11 18.66",
    "nf4": "21.85 21.18 20.73 20.39 20.12 19.64 19.19",
    "af4_b64": "21.54 20.85 20.39 20.04 19.76 19.29 18.86",
    "sf4": "20.41 19.91 19.66 19.54 19.50 19.47 19.39",
    "bof4_b64": "22.45 21.60 20.97 20.47 20.04 19.31 18.68",
    "bof4s_b64": "22.78 21.95 21.34 20.84 20.41 19.68 19.06",
}


@pytest.mark.slow
@pytest.mark.parametrize("name", TABLE)
def test_sqnr_table(name: str) -> None:
    x = np.random.default_rng(20240601).standard_normal(2**24, np.float32)
    rule = "signedmax" if name.startswith("bof4s") else "absmax"
    for size, printed in zip(SIZES, TABLE[name].split(), strict=True):
        got = kb.metrics(x, kb.quantize(x, f"{name}-b{size}-{rule}-f32")).sqnr
        assert abs(got - float(printed)) <= 0.02, (size, got, printed)


# What belongs together, and what is refused ------------------------------------------------------------------------


def test_a_scheme_and_a_qtensor_can_be_copied() -> None:
    s = kb.scheme("int4-b4-absmax-f32+arith=reciprocal")
    assert pickle.loads(pickle.dumps(s)) == s == copy.deepcopy(s)
    q = kb.quantize([1.0, 2.0], s)
    again = pickle.loads(pickle.dumps(q))
    assert kb.dequantize(again).tolist() == kb.dequantize(q).tolist()
    assert q != again  # as arrays, they are compared part by part


@pytest.mark.parametrize(
    ("field", "value", "text"),
    [
        ("packed", np.zeros(3, np.uint8), r"packed of shape \(3,\) and dtype uint8, .* has shape \(2,\)"),
        ("packed", None, r"packed of shape None and dtype None"),
        ("scales", np.zeros((1, 2), np.float32), r"scales of shape \(1, 2\) .* has shape \(1, 1\) and dtype float32"),
        ("scales", np.zeros((1, 1)), r"scales of shape \(1, 1\) and dtype float64"),
        ("zero_points", None, r"zero_points of shape None"),
        ("offsets", np.zeros((1, 1), np.float32), r"offsets, uint4-b4-affine-f32 has none"),
        ("global_scale", np.float32(2), r"global_scale = 2.0, uint4-b4-affine-f32 has none"),
        ("shape", (5,), r"packed of shape \(2,\) and dtype uint8, .* has shape \(3,\)"),
        ("shape", (4.0,), r"shape = \(4.0,\), it is a tuple of integers from 0"),
        ("scheme", "uint4-b4-affine-f32", r"scheme = 'uint4-b4-affine-f32', it is no Scheme"),
    ],
)
def test_a_tampered_qtensor_is_refused(field: str, value: Any, text: str) -> None:
    q = kb.quantize([1.0, 2.0, -3.0, 4.0], "uint4-b4-affine-f32")
    with pytest.raises(kb.KbitError, match=f"^QTensor: {text}.*; make one with kb.quantize$"):
        replace(q, **{field: value})


def test_big_endian_bits_of_bfloat16() -> None:
    bits = np.array([0x3F80, 0x4000, 0xC000], np.uint16)  # 1, 2, -2
    assert kb.encode("int4", bits.astype(">u2"), bfloat16=True).tolist() == [1, 2, 14]
    q = kb.quantize(bits.astype(">u2"), "int4-tensor-absmax-f32", bfloat16=True)
    assert q.scales.tolist() == [[float(np.float32(2) / np.float32(7))]]


def test_what_is_out_of_range_is_told() -> None:
    with pytest.raises(kb.KbitError, match=r"^quantize: an offset of 458528.0, it becomes inf in f16; use a wider"):
        kb.quantize(np.float32([458528, 500000, 458529, 458530]), "uint4-b4-minmax-f16")
    with pytest.raises(kb.KbitError, match=r"^quantize: a block scale of 3.*e\+38, it becomes inf in e4m3fn; use a"):
        kb.quantize(np.float32([1e38, 3e38]), "nf4-tensor-absmax-e4m3fn")
    # half a step beyond the largest scale, 448 + 16, still belongs to it
    assert kb.quantize([464.0], "nf4-tensor-absmax-e4m3fn").scales.tolist() == [[448.0]]
    assert kb.quantize([465.0], "nf4-tensor-absmax-e4m3fn+scalerange=clamp").scales.tolist() == [[448.0]]
    assert kb.quantize([1e30, 0.0], "int4-tensor-absmax-f16+scalerange=keep").scales.tolist() == [[np.inf]]


@pytest.mark.parametrize(
    ("text", "said"),
    [
        (None, r"scheme: text = None, it is no spelling and no Scheme"),
        (4, r"scheme: text = 4, it is no spelling"),
        ("f16-b4-absmax-f32", r"scheme: dtype = f16, 16 bits, schemes are for types of at most 8 bits"),
        ("e4m3fn+ties=even+ties=away", r"scheme: text = .*, it is a data type and no scheme; a scheme is"),
        ("int4-b4-absmax-f32+layout=lo4", r"scheme: layout = 'lo4', .* use low4, high4, split4x16"),
    ],
)
def test_bad_schemes_are_told(text: Any, said: str) -> None:
    with pytest.raises(kb.KbitError, match=f"^{said}"):
        kb.scheme(text)


def test_a_choice_of_a_type_is_made_once() -> None:
    with pytest.raises(kb.KbitError, match=r"^datatype: name = 'e4m3fn\+ties=even\+ties=away', a choice is made twice"):
        kb.datatype("e4m3fn+ties=even+ties=away")


def test_out_can_be_used_again() -> None:
    out = np.empty(2, np.uint8)
    first = kb.quantize([7.0, -3.0, 1.0, 0.0], "int4-b4-absmax-f32", out=out)
    assert not first.packed.flags.writeable
    second = kb.quantize([7.0, 3.0, 1.0, 0.0], "int4-b4-absmax-f32", out=out)
    assert (out.tolist(), second.packed.tolist()) == ([0x37, 0x01], [0x37, 0x01])


@pytest.mark.parametrize(
    ("text", "rule"),
    [
        ("uint4-tensor-affine-f32+rounding=stochastic_a", "affine rounds to whole numbers, nearest"),
        ("uint4-tensor-hqq-f32+rounding=toward_zero", "hqq rounds to whole numbers, nearest"),
        ("uint4-tensor-affine-f32+arith=exact+zeroadd=before", "a sum with the exact quotient"),
        ("int4-tensor-clip-f32+rounding=stochastic_a", "random bits are for one scale"),
        ("int4-tensor-signedmax-f32+leastused=1e-38", "signedmax makes negative scales"),
        ("uint2-b4-absmax-f32+layout=trits2x256", "layout trits2x256 writes codes 0 to 2"),
    ],
)
def test_words_that_do_not_go_together(text: str, rule: str) -> None:
    with pytest.raises(kb.KbitError, match=f"^scheme: .*{rule}"):
        kb.scheme(text)


def test_zeros_have_no_sign_in_offsets() -> None:
    for text in ("e2m1fn-tensor-absmax-f32+center=block+zeroblock=one", "uint4-tensor-minmax-f32"):
        for x in ([-0.0] * 4, [0.0, -0.0]):
            q = kb.quantize(np.float32(x), text)
            assert q.offsets is not None
            assert not np.signbit(q.offsets).any()
            assert [q.codes.tolist()] == kb.exact.quantize(np.float32(x), text).codes


def test_float64_beyond_the_scale() -> None:
    for x, text in (
        ([1e300, 1.0], "e4m3fn-tensor-pow2rceil-e8m0fnu"),
        ([5e-324, 0.0], "int4-tensor-pow2floor-f32"),
        ([1e200], "int4-tensor-rms-f32"),
    ):
        for quantize in (kb.quantize, kb.exact.quantize):
            with pytest.raises(kb.KbitError):
                quantize(np.array(x), text)
    assert kb.quantize(np.array([5e-324]), "int4-tensor-pow2ceil-f32+scalerange=clamp").scales.tolist() == [[2.0**-149]]


def test_half_precision_is_rounded_once() -> None:
    # top = 0.9961089491844177 has 24 bits: 1 / top = 1.00390625 + 2**-32 or so lies above the tie, and goes up
    a = Arithmetic("bfloat16")
    assert float(a.divide(np.float32(1), np.float32(0.9961089491844177))) == 1.0078125
    assert float(a.add(np.float32(1.00390625), np.float32(2.0**-60))) == 1.0078125  # a tie, and a little more


def test_random_bits_of_every_column() -> None:
    x, r = np.full((1, 10), 1.5, np.float32), np.arange(10).reshape(1, 10) % 2
    x[0, ::4] = 7
    q = kb.quantize(x, "int4-b4@-1-absmax-f32+rounding=stochastic_a", random=r, random_bits=1)
    assert q.codes.tolist() == [[7, 2, 1, 2, 7, 2, 1, 2, 7, 2]]


def test_a_short_block_divides() -> None:
    x = np.float32([1, 2, 3, 4, 0.161118283867836, 1.6369616985321045])
    text = "int8-b4-absmax-f32+arith=reciprocal"
    codes = [kb.quantize(x, text + choice).codes[4] for choice in ("", "+tailarith=divide")]
    assert codes == [13, 12]
    assert kb.exact.quantize(x, text + "+tailarith=divide").codes[0][4] == 12


def test_the_offset_in_use_is_the_unrounded_one() -> None:
    x = np.float32(100 + np.random.default_rng(0).standard_normal(8) * 0.2)
    text = "uint4-tensor-minmax-f16+scaleuse=unrounded"
    assert [kb.quantize(x, text).codes.tolist()] == kb.exact.quantize(x, text).codes
    assert kb.quantize(x, text).codes.tolist() != kb.quantize(x, "uint4-tensor-minmax-f16").codes.tolist()


@pytest.mark.parametrize("name", ["bnb-cpu-nf4", "nf4-b64-absmax-f32"])
def test_what_fills_the_last_byte(name: str) -> None:
    packed = kb.quantize(np.float32([1.0]), f"{name}+layout=high4").packed
    assert packed.tolist() == [0xF7 if name == "bnb-cpu-nf4" else 0xF0]  # level 0 of nf4 has code 7


@pytest.mark.parametrize("rule", list(RULES))
def test_blocks_of_more_than_4096(rule: str) -> None:
    name = "uint4" if RULES[rule].unsigned or RULES[rule].zero_point else "int4"
    scale = "e8m0fnu" if RULES[rule].power_of_two else "f32"
    x = np.random.default_rng(1).standard_normal(5000).astype(np.float32)
    x[17] = -9
    if rule == "clip":
        x = x[:4200]
    text = f"{name}-tensor-{rule}-{scale}+compute=float32"
    wanted = kb.exact.quantize(x, text, "float32")
    q = kb.quantize(x, text)
    assert [q.codes.tolist()] == wanted.codes
    assert q.scales.tolist() == [[float(wanted.rows[0][0].scale)]]


# Which scales may be 0 ------------------------------------------------------------------------------------------------

TINY = 2.0**-149  # over any level above 1 it is 0 in float32


@pytest.mark.parametrize(
    ("text", "x"),
    [
        ("int4-tensor-absmax-f32", [TINY, 0]),
        ("int4-tensor-absmax-e8m0fnu", [TINY, 0]),
        ("int4-tensor-absmax-f32+scaleuse=unrounded", [TINY, 0]),
        ("oint4-tensor-signedmax-f32", [0, -TINY]),
        ("uint4-tensor-minmax-f32", [TINY, 0]),
        ("uint4-tensor-affine-f32", [-TINY, 0]),
        ("int4-tensor-clip-f32", [TINY, 0]),
        ("uint4-tensor-mlx-f32", [1e38, 1e38]),  # the edge over an infinite number of steps
        ("int4-tensor-percentile-f32+percentile=99", [0] * 199 + [1]),
        ("int4-b1-absmax-e4m3fn+global=multiplier", [3e38, TINY]),
        ("int4-b1-absmax-e4m3fn+global=multiplier+globalat=top", [3e38, TINY]),
    ],
)
def test_only_a_block_of_zeros_has_the_scale_0(text: str, x: list[float]) -> None:
    for quantize in (kb.quantize, kb.exact.quantize):
        with pytest.raises(kb.KbitError, match=r"quantize: a block scale of -?0.0, only a block of zeros has "):
            quantize(np.float32(x), text)


def test_scales_that_are_0_before_they_are_stored() -> None:
    def scales(text: str, *x: float) -> list[float]:
        found = kb.quantize(np.float32(x), text).scales[0].tolist()
        assert found == [float(block.scale) for block in kb.exact.quantize(np.float32(x), text).rows[0]]
        return [float(scale) for scale in found]

    text = "int4-b2-absmax-f32+scalerange="
    assert scales(text + "clamp", TINY, 0, 0, 0) == [TINY, 0]
    assert scales(text + "keep+zeroblock=one", TINY, 0, 0, 0) == [0, 1]
    assert scales(text + "zeroblock+zeroblock=one", TINY, 0, 0, 0) == [1, 1]
    assert scales("int4-b2-absmax-e8m0fnu+scalerange=clamp", TINY, 0, 0, 0) == [2.0**-127, 2.0**-127]
    assert scales("oint4-b1-signedmax-f32+scalerange=clamp", TINY, -TINY) == [-TINY, TINY]  # over -8
    # one number needs no scale: it is the offset
    assert scales("uint4-b2-minmax-f32", 5, 5, -0.0, 0) == [0, 0]
    assert kb.dequantize(kb.quantize([5.0, 5.0], "uint4-tensor-minmax-f32")).tolist() == [5, 5]


def test_the_quotient_zero_beyond_the_type() -> None:
    x = np.float64([1e300, 0])
    text = "oint4-b1-signedmax-f32+scalerange=zeroblock+zeroblock=quotient"
    largest = float(np.finfo(np.float32).max)
    assert kb.quantize(x, text).scales.tolist() == [[-largest, 0]]
    assert [float(block.scale) for block in kb.exact.quantize(x, text).rows[0]] == [-largest, 0]


# Words that a rule does not use ---------------------------------------------------------------------------------------

OF_RULES = {name: CHOICES[name][1] for rule in RULES.values() for name in rule.uses}


@pytest.mark.parametrize("rule", list(RULES))
def test_a_rule_refuses_the_choices_that_it_does_not_use(rule: str) -> None:
    name = "uint4" if RULES[rule].unsigned or RULES[rule].zero_point else "int4"
    for choice, value in OF_RULES.items():
        scale = "e4m3fn" if choice == "global" else "f32"
        more = "+zeroblock=one" if choice == "scaleas" else ""
        text = f"{name}-b4-{rule}-{scale}+{choice}={value}{more}"
        if choice in RULES[rule].uses:
            assert kb.scheme(text)[choice] == value
        else:
            with pytest.raises(kb.KbitError, match=f"the rule {rule} does not use .*; leave"):
                kb.scheme(text)


def test_which_rule_uses_which_choice() -> None:
    assert {name: [rule for rule in RULES if name in RULES[rule].uses] for name in OF_RULES} == {
        "eps": ["absmax", "absmaxhalf", "absmaxfull", "percentile", "minmax", "affine", "affineplain"],
        "scaleas": ["absmax", "absmaxhalf", "absmaxfull", "percentile"],
        "global": ["absmax"],
        "percentile": ["percentile"],
        "signedtie": ["signedmax"],
        "flatzero": ["affine", "affineplain"],
        "zeroadd": ["affine", "affineplain"],
        "flat": ["affineplain"],
    }


IDLE = [  # a word that does nothing beside the others, and a scheme that differs a little, where it does
    ("nf4-b4-absmax-f32+globalby=reciprocal", "nf4-b4-absmax-e4m3fn+global=divisor+globalby=reciprocal"),
    ("nf4-b4-absmax-e4m3fn+global=divisor+globalat=top", "nf4-b4-absmax-e4m3fn+global=multiplier+globalat=top"),
    ("nf4-b4-absmax-f32+arith=reciprocals", "nf4-b4-absmax-e4m3fn+arith=reciprocals+global=divisor"),
    ("nf4-b4-absmax-e4m3fn+arith=reciprocals+global=divisor+leastused=1e-38", "nf4-b4-absmax-f32+leastused=1e-38"),
    ("nf4-tensor-absmax-f32+tail=error", "nf4-b4-absmax-f32+tail=error"),
    ("nf4-b4-absmax-f32+tailarith=divide", "nf4-b4-absmax-f32+arith=reciprocal+tailarith=divide"),
    ("nf4-b4-absmax-f32+arith=reciprocal+tail=error+tailarith=divide", "nf4-b4-absmax-f32+arith=reciprocal+tail=error"),
    ("uint4-b4-affine-f32+eps=1e-7+flatzero=middle", "uint4-b4-affine-f32+flatzero=middle"),
    ("uint4-b4-hqq-f32+zeroblock=one", "uint4-b4-hqq-f16+scalerange=zeroblock+zeroblock=one"),
    ("int4-b4-absmax-f32+leastscale=1e-5+zeroblock=one", "int4-b4-absmax-f32+zeroblock=one"),
    ("nf4-b4-absmax-f32+leastused=1e-38+zerocode=code0", "nf4-b4-absmax-f32+zerocode=code0"),
    ("int4-b4-absmax-f32+zerocode=code0", "uint4-b4-affine-f32+zerocode=code0"),
    ("int4-b4-absmax-f32+fill=zero", "nf4-b4-absmax-f32+fill=zero"),
    ("nf8-b4-absmax-f32+fill=zero", "nf8-b4-absmax-f32+fill=zero+layout=lsb8"),
    ("nf4-b4-absmax-f32+nan=code", "nf4-b4-absmax-f32+encoder=bnb_nf4+nan=code"),
]


@pytest.mark.parametrize(("idle", "useful"), IDLE)
def test_words_that_do_nothing_are_refused(idle: str, useful: str) -> None:
    with pytest.raises(kb.KbitError, match=r"^scheme: text = .*; (leave|use) "):
        kb.scheme(idle)
    kb.scheme(useful)


# What is said of NaN and infinity -------------------------------------------------------------------------------------


@pytest.mark.parametrize("threads", [1, 3])
@pytest.mark.parametrize("cut", ["tensor", "channel", "channel@1", "b8", "b8@0", "b8@1"])
@pytest.mark.parametrize("rule", ["absmax", "rms"])  # the quick path and the other
def test_the_first_special_number_of_x_is_named(
    rule: str, cut: str, threads: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name in ("PIECE", "CHUNK"):
        monkeypatch.setattr(sys.modules["kbit_ref.tensors.quantize"], name, 32)  # a few rows, or parts of one
    x = np.ones((20, 50), np.float32)
    x[3, 40], x[4, 2], x[19, 0] = np.inf, np.nan, -np.inf  # along columns the last is the first
    for wrong, told in ((x, r"x\[3, 40\] = inf"), (x[:, :40], r"x\[4, 2\] = nan"), (x[5:].T, r"x\[0, 14\] = -inf")):
        with pytest.raises(kb.KbitError, match=f"^quantize: {told}, a block with (NaN|infinity) has no scale; clean"):
            kb.quantize(wrong, f"int4-{cut}-{rule}-f32", threads=threads)
    with pytest.raises(kb.KbitError, match=r"^quantize: x\[3, 40\] = inf, .*; clean the input, or use \+inf=saturate"):
        kb.quantize(x, f"int4-{cut}-{rule}-f32+nan=zero", threads=threads)
    with pytest.raises(kb.KbitError, match=r"^quantize: x\[4, 2\] = nan, .*; clean the input, or use \+nan=zero"):
        kb.quantize(x, f"int4-{cut}-{rule}-f32+inf=saturate", threads=threads)


def test_a_number_that_becomes_infinite_is_named_as_it_is() -> None:
    said = r"^quantize: x\[1\] = 1e\+300, it is beyond float32, and a block with infinity has no scale; clean the input"
    with pytest.raises(kb.KbitError, match=said):
        kb.quantize(np.array([1, 1e300]), "int4-tensor-rms-f32+compute=float32")
    with pytest.raises(kb.KbitError, match=r"^quantize: x = inf, a block"):
        kb.quantize(np.float32(np.inf), "int4-tensor-absmax-f32")
    with pytest.raises(kb.KbitError, match=r"^quantize: x\[1\] = nan, a block"):
        kb.quantize(np.array([0x3F80, 0x7FC0], np.uint16), "int4-tensor-absmax-f32", bfloat16=True)


@pytest.mark.parametrize(
    ("text", "x"),
    [
        ("dynamic8-tensor-absmax-f32+arith=reciprocal", [TINY, 0]),  # 0 * fl(1 / 2**-149)
        ("oint4-b2-signedmax-f32+arith=reciprocal+encoder=addhalf", [8 * TINY, 0]),
        ("uint4-b2-affine-f32+arith=reciprocal", [15 * TINY, 0]),
        ("int4-b2-absmax-f16+scalerange=keep+inf=saturate", [1e30, np.inf]),  # infinity over infinity
    ],
)
def test_a_scale_is_blamed_for_its_nan(text: str, x: list[float]) -> None:
    for quantize in (kb.quantize, kb.exact.quantize):
        with pytest.raises(kb.KbitError, match=r"quantize: x / scale = nan, the scale or its reciprocal is inf"):
            quantize(np.float32(x), text)


@pytest.mark.parametrize("layout", ["low4", "high4"])
@pytest.mark.parametrize("shift", [0, 1])
def test_bytes_are_read_alike_wherever_they_lie(layout: str, shift: int) -> None:
    """Two bytes are looked up at once where they lie at an even address: the numbers do not depend on it."""
    codes = np.arange(192, dtype=np.uint8) % 15
    first, second = codes[0::2], codes[1::2]
    room = np.empty(97, np.uint8)
    packed = room[shift : shift + 96]
    packed[:] = first | second << 4 if layout == "low4" else first << 4 | second
    s = kb.scheme(f"nf4-b64-absmax-f32+layout={layout}")
    q = kb.QTensor(packed, np.array([[1, 2, 4]], np.float32), (192,), s)
    by_hand = kb.datatype("nf4").levels.astype(np.float32)[codes] * np.repeat(np.float32([1, 2, 4]), 64)
    assert np.array_equal(kb.dequantize(q), by_hand)
