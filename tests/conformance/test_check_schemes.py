"""`kb.check` of a scheme: anybody's own function that quantizes, part by part, and the profiles it conforms to."""

import dataclasses

import ml_dtypes
import numpy as np
import pytest

import kbit_ref as kb
from kbit_ref.conformance.implementations.function import parts_of
from kbit_ref.errors import BadInput, UnknownName

INT4 = "int4-b32-absmax-f32+scalerange=clamp"


def quantizes(spelling, *names):
    """A function that answers with those parts."""

    def mine(x):
        q = kb.quantize(x, spelling)
        parts = {"codes": q.codes, "packed": q.packed, "scales": q.scales, "values": kb.dequantize(q)}
        parts |= {"offsets": q.offsets, "zero_points": q.zero_points}
        return {name: parts[name] for name in names}

    return mine


@pytest.mark.parametrize("names", [("codes",), ("packed", "scales"), ("values",), ("codes", "scales", "values")])
def test_a_function_that_does_what_it_says_agrees_in_every_part(names):
    row = kb.check(quantizes(INT4, *names), INT4)
    assert row.agree
    assert row.different == 0
    assert {part.part for part in row.parts} == {
        "codes" if n == "packed" else n.replace("values", "decoded") for n in names
    } | ({"packed"} if "packed" in names else set())


@pytest.mark.parametrize("cut", ["b32", "b32@0"])
def test_a_function_may_refuse_an_array_with_a_block_that_the_scheme_has_no_answer_for(cut):
    """The scale of a block of subnormal numbers is rounded to 0; the others of that array are judged all the same."""
    s = f"int4-{cut}-absmax-f16"

    right = kb.check(lambda x: kb.quantize(x, s), s)
    assert right.agree
    assert right.notes[0] == "183 blocks left out, the profile has no answer: it becomes 0.0 in f16"
    beside = lambda x: kb.quantize(np.where(x == np.float32(1.0 + 2**-23), np.float32(2), x), s)  # noqa: E731
    assert kb.check(beside, s, shapes=False).status == "disagree"  # in the same array
    assert kb.check(lambda x: 1 / 0, s, shapes=False).status == "error"


def test_a_function_that_does_not_is_shown_the_block():
    row = kb.check(quantizes(INT4 + "+ties=away", "codes", "scales"), INT4)
    assert not row.agree
    assert row.part("scales").status == "agree"
    assert [kind.cause for kind in row.differences] == ["ties-away"]
    assert "ties=even decides" in str(row)


def test_what_a_function_may_answer():
    s, x = kb.scheme("int4-b32@-1-absmax-f32"), np.linspace(-1, 1, 64, dtype=np.float32).reshape(2, 32)
    q = kb.quantize(x, s)
    signed = np.where(q.codes > 7, q.codes.astype(np.int8) - 16, q.codes).astype(np.int8)
    assert (parts_of(s, x.shape, (signed, q.scales))["codes"] == q.codes).all()
    assert set(parts_of(s, x.shape, (q.packed, q.scales))) == {"packed", "scales"}
    assert set(parts_of(s, x.shape, kb.dequantize(q))) == {"decoded"}
    assert set(parts_of(s, x.shape, q)) == {"packed", "scales"}
    assert parts_of(s, x.shape, signed + np.int8(40))["codes"].max() == -1
    affine = kb.scheme("uint4-b32@-1-affine-f32")
    assert set(parts_of(affine, x.shape, (q.codes, q.scales, q.scales))) == {"codes", "scales", "zero_points"}
    with pytest.raises(TypeError, match="it returned 4 arrays; give codes, scales, zero_points"):
        parts_of(affine, x.shape, (q.codes, q.scales, q.scales, q.scales))


FAULTY = {
    "it raised ZeroDivisionError": lambda x: 1 / 0,
    "it raised TypeError": lambda x: (x, x, x, x),
    "codes have the shape [": lambda x: np.zeros(x.size + 1, np.int64),
    "scales came back for": lambda x: {"codes": np.zeros(x.shape, np.uint8), "scales": np.ones(x.size + 9)},
    "there is no part named zeros": lambda x: {"codes": np.zeros(x.shape, np.uint8), "zeros": np.ones(3)},
    "it changed the array": lambda x: np.copyto(x, 0) or np.zeros(x.shape, np.uint8),
}


@pytest.mark.parametrize("text", FAULTY)
def test_a_function_that_fails_is_an_error(text):
    row = kb.check(FAULTY[text], INT4, shapes=False)
    assert row.status == "error"
    assert not row.agree
    assert text in row.errors[0]


@pytest.mark.parametrize(
    ("claimed", "done", "conforms"),
    [
        ("ocp-mxfp4", "torchao-mxfp4-even", ("torchao-mxfp4-even",)),
        ("bnb-cuda-nf4", "ort-bnb4-nf4", ("ort-bnb4-nf4",)),
        ("bnb-cuda-nf4", "bnb-cpu-nf4", ("bnb-cpu-nf4",)),
    ],
)
def test_the_profile_of_a_function_is_found(claimed, done, conforms):
    ranking = kb.check(quantizes(done, "codes", "scales"), claimed, shapes=False, rank=True).ranking
    assert ranking.conforms == conforms
    others = [each for each in ranking.rivals if not each.conforms]
    assert len(others) >= 2
    assert all(each.example is not None and each.differing for each in others)


def test_each_rival_parts_at_a_block_where_its_answer_really_is_another():
    """The example of each rival, put to both by hand."""
    ranking = kb.check(quantizes("torchao-mxfp4-even", "values"), "ocp-mxfp4", shapes=False, rank=True).ranking
    for each in ranking.rivals[1:]:
        inside = each.example.block.strip("[]").split(", ")
        block = [float(n) for part in inside for n in [part.split(" x ")[0]] * int(([*part.split(" x "), "1"])[1])]
        x = np.array([block], np.float32)
        theirs, its = (kb.dequantize(kb.quantize(x, name)) for name in ("torchao-mxfp4-even", each.spelling))
        at = int(each.example.at.strip("[]"))
        assert (f"{theirs[0, at]:g}", f"{its[0, at]:g}") == (each.example.theirs, each.example.ours)


def test_a_function_that_conforms_to_nothing_is_told_the_nearest():
    def almost(x):
        codes = kb.quantize(x, "ocp-mxfp4").codes.copy()
        codes[..., 3] ^= 1
        return codes

    ranking = kb.check(almost, "ocp-mxfp4", shapes=False, rank=True).ranking
    assert ranking.conforms == ()
    assert str(ranking).startswith("conforms to none of these; the nearest comes first\nnot to       ")


def test_what_schemes_do_not_take():
    with pytest.raises(BadInput, match="check: what = 'encode' for a scheme"):
        kb.check(quantizes(INT4, "codes"), INT4, what="encode")
    with pytest.raises(UnknownName, match="check: shapes = 'round'"):
        kb.check(quantizes(INT4, "codes"), INT4, shapes="round")
    with pytest.raises(BadInput, match="check: shapes = 'any', int4 is a data type"):
        kb.check(lambda x: x, "int4", shapes="any")


def test_to_refuse_what_the_profile_refuses_is_no_error_and_to_refuse_less_is():
    """The global scale of an array of tiny numbers is infinite: the profile has no answer."""
    tiny = "e2m1fn-b16@-1-absmax-e4m3fn+global=divisor+scalerange=clamp"
    row = kb.check(lambda x: kb.quantize(x, tiny), tiny, shapes=False)
    assert row.agree
    assert any("no answer" in note for note in row.notes)

    def picky(x):
        if np.abs(x).max() > 1e30:
            raise ValueError("too large")
        return kb.quantize(x, INT4)

    row = kb.check(picky, INT4, shapes=False)
    assert row.status == "error"
    assert row.errors[0].startswith("it raised ValueError: too large")


def per_tensor(rounds):
    """A quantizer with one scale for the array, that answers whatever it is given."""

    def mine(x):
        with np.errstate(all="ignore"):
            scale = np.float32(np.abs(x).max(initial=0) / 127)
            codes = np.nan_to_num(np.clip(rounds(x / scale), -128, 127)).astype(np.int8)
        return codes, np.full((1, 1), scale, np.float32)

    return mine


def test_a_rule_for_the_whole_array_is_judged_by_name():
    """tenstorrent/tt-metal#51304: a per-tensor quantizer truncates where its twin rounds."""
    found = kb.check(per_tensor(np.trunc), "int8-tensor-absmax-f32")
    assert [d.cause for d in found.differences] == ["truncates"]
    assert found.special("nan").word != "error"  # an answer to NaN is told, with one block as with many
    assert "the scale is nan" in found.special("nan").does
    assert kb.check(per_tensor(np.rint), "int8-tensor-absmax-f32").part("codes").differences == ()


def test_an_integer_that_is_no_code_is_told_as_it_came():
    s = "nf4-b32-absmax-f32"

    def more(x):
        q = kb.quantize(x, s)
        return {"codes": np.where(x == 1, 300, q.codes.astype(int)), "scales": q.scales}

    assert (
        kb.check(more, s, shapes=False)
        .part("codes")
        .differences[0]
        .example.theirs.startswith("300, which is no code of 4 bits")
    )


MXFP4 = "ocp-mxfp4"
ANSWERS = {  # of a right quantizer, in every form that it may have
    "bytes and scale bytes": lambda q: {"packed": q.packed, "scales": (np.log2(q.scales) + 127).astype(np.uint8)},
    "ml_dtypes": lambda q: (q.codes.view(ml_dtypes.float4_e2m1fn), q.scales.astype(ml_dtypes.float8_e8m0fnu)),
    "bytes and numbers": lambda q: {"packed": q.packed, "scales": q.scales},
    "values alone": kb.dequantize,
    "values of bfloat16": lambda q: kb.dequantize(q).astype(ml_dtypes.bfloat16),
    "all in double": lambda q: {"codes": q.codes.astype(np.int64), "scales": q.scales.astype(np.float64)},
}


@pytest.mark.parametrize("form", ANSWERS)
def test_a_right_mx_quantizer_agrees_in_whatever_form_it_answers(form):
    answer = ANSWERS[form]
    assert kb.check(lambda x: answer(kb.quantize(x, MXFP4)), MXFP4).agree

    def one_exponent_off(x):
        q = kb.quantize(x, MXFP4)
        return answer(dataclasses.replace(q, scales=np.where(q.scales == 0.25, np.float32(0.5), q.scales)))

    assert kb.check(one_exponent_off, MXFP4).status == "disagree"


@pytest.mark.parametrize(("text", "bits"), [("nvfp4-te", np.uint8), ("int4-b32-absmax-f16", np.uint16)])
def test_scales_may_be_the_codes_of_their_type(text, bits):
    s = kb.scheme(text)

    def mine(x):
        q = kb.quantize(x, s)
        scales = kb.encode(s.scale_type, q.scales)
        assert scales.dtype == bits
        return {"packed": q.packed, "scales": scales} | (
            {} if q.global_scale is None else {"global_scale": q.global_scale}
        )

    assert kb.check(mine, s, shapes=False).agree
    wrong = kb.check(lambda x: mine(x) | {"scales": mine(x)["scales"] ^ bits(1)}, s, shapes=False)
    assert wrong.part("scales").different == wrong.part("scales").tried


def test_bytes_in_another_layout_are_one_mistake_whether_or_not_the_codes_are_given():
    s = "int4-b32-absmax-f32"

    def swapped(x):
        q = kb.quantize(x, s)
        return {"packed": q.packed >> 4 | q.packed << 4, "scales": q.scales}

    found = kb.check(swapped, s, shapes=False)
    assert {row.part: row.status for row in found.rows} == {"scales": "agree", "codes": "agree", "packed": "disagree"}
    one_bit = kb.check(lambda x: swapped(x) | {"packed": kb.quantize(x, s).packed ^ np.uint8(1)}, s, shapes=False)
    assert one_bit.part("codes").status == "disagree"  # no layout makes these codes right
