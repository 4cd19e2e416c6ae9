"""What `check` feeds finds faults that hide where nobody looks: each test plants one, and it is found."""

from __future__ import annotations

import numpy as np
import pytest

import kbit_ref as kb
from kbit_ref.conformance.definition import block_index, reference
from kbit_ref.conformance.inputs.of_schemes import cases
from kbit_ref.tensors.aligned import changes, edges, in_order, parted, stored_scales
from kbit_ref.tensors.scheme import scheme


def planted(text, bug=None, **words):
    """A function that quantizes by another scheme, or by the right one with a bug in what it stores."""
    done = "+".join([text, *(f"{name}={value}" for name, value in words.items())])

    def function(x):
        q = kb.quantize(accepted(x, text, done), done)
        parts = {"codes": q.codes, "scales": q.scales.copy()}
        optional = {"zero_points": q.zero_points, "offsets": q.offsets, "global_scale": q.global_scale}
        parts |= {name: value for name, value in optional.items() if value is not None}
        return parts if bug is None else bug(x, parts)

    return function


def accepted(x, *texts):
    """x, zeros in the blocks for which one of the schemes has no answer: as good as any other answer."""
    if not np.isfinite(x).all():
        raise ValueError("NaN or infinity")
    for s in map(scheme, texts):
        refused = reference(s, x, x.dtype.name).refused
        if refused.any():
            x = np.where(refused[block_index(s, x.shape)], x.dtype.type(0), x)
    return x


@pytest.mark.parametrize("scale", ["e4m3fn", "ue4m3", "e4m4", "f16", "bf16", "f32"])
def test_a_product_with_the_reciprocal_is_no_quotient_at_any_stored_scale(scale):
    """Of E4M3's eight significands only 15/8 parts the two for e2m1fn: 5 * 240 lies on a tie."""
    text = f"e2m1fn-b16-absmax-{scale}+scalerange=clamp"
    assert kb.check(planted(text), text).agree
    found = kb.check(planted(text, arith="reciprocal"), text)
    assert not found.agree
    assert found.part("codes").different > 5


@pytest.mark.parametrize("scale", ["e4m3fn", "ue4m3", "e8m0fnu", "e4m4"])
def test_every_scale_of_8_bits_is_fed(scale):
    rule = "pow2floor" if scale == "e8m0fnu" else "absmax"
    s = scheme(f"e2m1fn-b16@-1-{rule}-{scale}+scalerange=clamp")
    arrays = [case.words for case in cases(s, ("float32",), "rows", 1, 32)]
    stored = {float(x) for array in arrays for x in kb.quantize(array, s).scales.flat}
    levels = kb.datatype(scale).levels
    every = {float(x) for x in levels[np.isfinite(levels)] if x > 0}
    beyond = {x for x in every if x * 4 > float(np.finfo(np.float32).max)}  # no float32 is so large
    assert every - beyond <= stored
    assert len(beyond) == (2 if scale == "e8m0fnu" else 0)


@pytest.mark.parametrize("text", ["int8-b32@-1-absmax-f16", "uint4-b32@-1-minmax-f16", "int4-b32@-1-absmax-e4m3fn"])
def test_a_stored_scale_that_is_cut_off_instead_of_rounded_is_found(text):
    """Largest numbers halfway between two stored scales, and next to that."""
    text += "+scalerange=clamp"

    def halves_up(x, parts):
        """Ties of the stored scale away from zero, where they should be even."""
        raw = np.ptp(x, axis=1) if "offsets" in parts else np.abs(x).max(axis=1)
        raw = (raw / np.float32(kb.scheme(text).dtype.top)).astype(np.float64)
        levels = kb.datatype(kb.scheme(text).scale_dtype).levels
        levels = np.unique(levels[np.isfinite(levels)])
        at = np.searchsorted(levels, raw, "right").clip(1, levels.size - 1)
        up = raw - levels[at - 1] == levels[at] - raw
        parts["scales"] = np.where(up[:, None], levels[at][:, None], parts["scales"])
        return parts

    assert kb.check(planted(text), text, shapes="rows").agree
    found = kb.check(planted(text, halves_up), text, shapes="rows")
    assert found.part("scales").status == "disagree"


@pytest.mark.parametrize("text", ["uint8-tensor-affine-f32", "int8-tensor-absmax-f32"])
def test_nothing_but_zeros_where_one_scale_serves_the_array(text):
    text += "+scalerange=clamp"

    def one(x, parts):
        return parts if np.any(x) else parts | {"scales": np.ones_like(parts["scales"])}

    assert kb.check(planted(text), text).agree
    assert kb.check(planted(text, one), text).part("scales").different


@pytest.mark.parametrize("kind", ["multiplier", "divisor"])
def test_nothing_but_zeros_under_a_global_scale(kind):
    text = f"e2m1fn-b16-absmax-e4m3fn+global={kind}+scalerange=clamp"

    def zero(x, parts):
        return parts if np.any(x) else parts | {"global_scale": np.float32(0)}

    assert kb.check(planted(text), text).agree
    assert kb.check(planted(text, zero), text).part("global_scale").different


def test_ties_are_in_short_last_blocks_too():
    """The tail divides, where it should multiply with the reciprocal."""
    text = "int8-b64-absmax-f32+arith=reciprocal"
    found = kb.check(planted(text, tailarith="divide"), text)
    assert found.status == "disagree"
    assert found.part("codes").differences[0].cause == "tail-divides"


def test_numbers_of_float64_are_more_than_float32_numbers():
    """The largest number is a scale of 53 bits before it is stored with 24."""
    text = "nf4-b64-absmax-f32"
    wrong = planted(text, scaleuse="unrounded")
    assert kb.check(wrong, text).agree
    assert kb.check(wrong, text, sources=("float64",)).part("codes").different


def test_what_becomes_of_nan_is_told_where_a_type_has_none():
    def sign_kept(x):
        return np.where(np.isnan(x), np.where(np.signbit(x), 8, 0), kb.encode("e2m1fn", np.where(np.isnan(x), 0, x)))

    (row,) = kb.check(sign_kept, "e2m1fn", sources=("float16",), what="codes").rows
    assert row.status == "agree"
    become = "without its sign bit 1,023 become 0x0 = 0; with it 1,023 become 0x8 = -0.0"
    assert row.notes[-1] == f"2,046 NaN, which e2m1fn has none of: {become}"
    (row,) = kb.check(lambda x: kb.encode("e2m1fn", x), "e2m1fn").rows
    assert row.notes[-1].startswith("6 NaN, which e2m1fn has none of: it raised BadInput: encode: x[0] = nan")
    (row,) = kb.check(lambda x: kb.encode("e4m3fn", x), "e4m3fn").rows
    assert not any("NaN" in note for note in row.notes)


# What they are made of ---------------------------------------------------------------------------


def test_the_first_float32_of_each_value():
    rounded = changes(np.rint, int(in_order(np.float32([0.0]))[0]), int(in_order(np.float32([4.0]))[0]))
    assert rounded.tolist() == [0.5 + 2.0**-24, 1.5, 2.5 + 2.0**-22, 3.5]


def test_edges_are_midpoints_and_those_of_the_encoder():
    assert edges(scheme("int2-b4-absmax-f32")).tolist() == [-1.5, -0.5, 0.5]
    more = set(edges(scheme("oint4-b32-signedmax-f32+encoder=addhalf"))) - set(np.arange(-7.5, 7))
    assert float(np.float32(-0.50000024)) in more  # -0.50000024 + 8.5 is 7.9999998, rounded to 8


def test_scales_at_which_a_reciprocal_shows():
    s = scheme("e2m1fn-b16-absmax-e4m3fn")
    scales = stored_scales(s)
    assert scales.size == 126
    shown = scales[parted(s, scales).any(axis=1)]
    assert {float(np.frexp(x)[0]) for x in shown} == {15 / 16}
    tie, scale = np.float32(5 * 240), np.float32(240)
    assert tie / scale == 5
    assert tie * (np.float32(1) / scale) > 5
