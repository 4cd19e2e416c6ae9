"""`kb.check` on functions: right ones agree, wrong ones are found with the counterexample worked by hand."""

import dataclasses
import sys
from fractions import Fraction
from itertools import pairwise

import numpy as np
import pytest
from helpers.libraries import light

import kbit_ref as kb
from kbit_ref.conformance.diagnosis import explain_type
from kbit_ref.conformance.diagnosis.counterexample import simplest
from kbit_ref.conformance.implementations import ask
from kbit_ref.conformance.implementations import function as function_room
from kbit_ref.conformance.inputs.of_types import SOURCES, arrangements, encode_inputs, to_float64
from kbit_ref.conformance.judge import Known, judge
from kbit_ref.conformance.subject import question
from kbit_ref.conformance.variants.of_types import Cause, causes
from kbit_ref.conformance.verdict import worst
from kbit_ref.errors import KbitError, MissingLibrary
from kbit_ref.explanation.spelling import exactly

ml_dtypes = light("ml_dtypes")


def encoder(name):
    return lambda x: kb.encode(name, x)


def cause_names(report):
    return {difference.cause for difference in report.differences}


# Right functions agree ---------------------------------------------------------------------------


@pytest.mark.parametrize("name", ["e4m3fn", "e5m2+overflow=ieee", "e2m1fn", "e8m0fnu", "int4", "nf4", "fp4_bnb"])
def test_engine_agrees_in_every_source(name):
    report = kb.check(encoder(name), name, sources=SOURCES, nan="canonical")
    assert report.agree, report
    assert [v.source for v in report.verdicts] == list(SOURCES)
    assert all(v.tried > 10_000 for v in report.verdicts)


@pytest.mark.parametrize("name", ["e4m3fn", "e2m1fn", "int3", "uint8", "nf4", "kfloat5", "e8m0fnu"])
def test_codes_values_and_decode_are_all_understood(name):
    assert kb.check(encoder(name), name).agree
    assert kb.check(lambda x: kb.decode(name, kb.encode(name, x)), name).agree
    assert kb.check(lambda x: kb.encode(name, x).astype(np.int64), name, what="codes").agree
    assert kb.check(lambda codes: kb.decode(name, codes), name, what="decode").agree


def test_ml_dtypes_arrays_are_their_bits():
    assert kb.check(lambda x: x.astype(ml_dtypes.float8_e5m2), "e5m2+overflow=ieee", nan=(0x7E, 0xFE)).agree
    assert kb.check(lambda x: x.astype(ml_dtypes.bfloat16), "bf16+overflow=ieee").agree
    assert kb.check(
        lambda codes: codes.view(ml_dtypes.float4_e2m1fn).astype(ml_dtypes.bfloat16), "e2m1fn", what="decode"
    )


def test_signed_integers_are_values_of_an_integer_type():
    assert kb.check(lambda x: np.clip(np.rint(x), -8, 7).astype(np.int8), "int4").agree
    assert not kb.check(lambda x: kb.encode("int4", x).astype(np.int16), "int4").agree
    assert kb.check(lambda x: kb.encode("nf4", x).astype(np.intp), "nf4").agree


def test_nan_codes_are_a_choice():
    signed = lambda x: x.astype(ml_dtypes.float8_e4m3fn)  # noqa: E731
    name = "e4m3fn+overflow=ieee"
    lenient = kb.check(signed, name)
    assert lenient.agree
    assert "0xff" in lenient.verdicts[0].notes[0]
    assert kb.check(signed, name, nan=(0x7F, 0xFF)).agree
    assert cause_names(kb.check(signed, name, nan="canonical")) == {"another NaN"}
    assert cause_names(kb.check(signed, name, nan=(0xFF, 0x7F))) == {"another NaN"}
    assert not kb.check(lambda x: np.where(np.isnan(x), 0, kb.encode(name, x)), name).agree


def test_nan_is_left_out_by_rule_and_counted():
    verdict = kb.check(encoder("e2m1fn"), "e2m1fn", sources=["float16"]).verdicts[0]
    assert (verdict.tried, verdict.nan_left_out) == (65536 - 2046, 2046)
    assert "2,046 NaN left out" in str(verdict)
    assert kb.check(encoder("e4m3fn"), "e4m3fn", sources=["float16"]).verdicts[0].nan_left_out == 0


# Wrong functions are found -----------------------------------------------------------------------


def test_counterexample_by_hand():
    """0.25 is halfway between 0 (code 0) and 0.5 (code 1) of e2m1fn: the even code is 0."""
    report = kb.check(encoder("e2m1fn+ties=away"), "e2m1fn")
    assert (report.agree, report.different, report.status) == (False, 8, "disagree")
    (difference,) = report.differences
    assert (difference.cause, difference.count) == ("ties=away", 8)
    example = difference.example
    assert (example.source, example.bits, example.value) == ("float32", "0x3e800000", "0.25")
    assert (example.theirs, example.ours) == ("0x1 = 0.5", "0x0 = 0")
    assert example.steps == (
        "neighbouring levels are 0 (0x0) and 0.5 (0x1)",
        "their midpoint is 0.25: x lies on it",
        "a tie, distance 0.25 to both: ties=even decides",
        "theirs: ties=away",
    )
    assert "0x3e800000 = 0.25" in str(report)
    assert report.as_dict()["rows"][0]["differences"][0]["example"]["bits"] == "0x3e800000"


def test_two_roundings_by_hand():
    """1 + 2**-4 is halfway between 1 and 1.125 of e4m3fn; a float64 just above it belongs to 1.125."""
    x = np.array([1 + 2**-4 + 2**-40])
    assert kb.encode("e4m3fn", x).tolist() == [0x39]
    report = kb.check(lambda x: kb.encode("e4m3fn", x.astype(np.float32)), "e4m3fn", sources=["float64"])
    assert cause_names(report) == {"through float32"}
    assert kb.check(lambda x: kb.encode("e4m3fn", x.astype(np.float32)), "e4m3fn", sources=["float32"]).agree
    verdict = judge_one("e4m3fn", "float64", lambda x: kb.encode("e4m3fn", x.astype(np.float32)))
    assert "2^-" in str(verdict.differences[0].example)


def judge_one(name, source, function, **options):
    asked = question(kb.datatype(name), "encode", source)
    return judge(asked, list(ask.ask(function, asked.inputs.words.view(source))), **options)


def test_overflow_by_hand():
    """464 lies halfway between 448 and 480; what is above it is NaN where theirs does not saturate."""
    report = kb.check(lambda x: x.astype(ml_dtypes.float8_e4m3fn), "e4m3fn")
    (difference,) = report.differences
    assert difference.cause == "overflow=ieee"
    assert difference.example.bits == "0x44000000"  # 512 = 2**9, the number of fewest bits beyond 464
    assert (difference.example.theirs, difference.example.ours) == ("0x7f = nan", "0x7e = 448")
    assert difference.example.steps[0] == "x is beyond the last level 448 (0x7e), by 64"


def flush(x):
    return np.where(np.abs(x) < np.finfo(x.dtype).smallest_normal, np.copysign(0, x), x).astype(x.dtype)


def wrap(x):
    return np.where(np.isfinite(x), np.rint(x), 0).astype(np.int64).astype(np.uint8) % 16


def small(x):
    """Zero for every number below the smallest normal of e4m3fn, 2**-6."""
    return np.where(np.abs(x) < 2.0**-6 - 2.0**-10, np.copysign(0, x), x).astype(x.dtype)


CAUSES = {
    "ties=away": ("e4m3fn", "float32", encoder("e4m3fn+ties=away")),
    "ties=zero": ("e4m3fn", "float32", encoder("e4m3fn+ties=zero")),
    "ties=upper": ("int4", "float32", encoder("int4+ties=upper")),
    "rounding=toward_zero": ("e5m2", "float32", encoder("e5m2+rounding=toward_zero")),
    "rounding=toward_positive": ("e4m3fn", "float16", encoder("e4m3fn+rounding=toward_positive")),
    "overflow=finite": ("e5m2", "float32", encoder("e5m2+overflow=finite")),
    "overflow=ieee": ("e4m3fn", "float32", encoder("e4m3fn+overflow=ieee")),
    "zero_sign=positive": ("e4m3fn", "float32", encoder("e4m3fn+zero_sign=positive")),
    "zero_sign=negative": ("e4m3fn", "float32", encoder("e4m3fn+zero_sign=negative")),
    "negative=saturate": ("e8m0fnu", "float32", encoder("e8m0fnu+negative=saturate")),
    "through float32": ("e2m1fn", "float64", lambda x: kb.encode("e2m1fn", x.astype(np.float32))),
    "through bfloat16": ("e4m3fn", "float32", lambda x: kb.encode("e4m3fn", x.astype(ml_dtypes.bfloat16))),
    "subnormal inputs flushed": ("e5m2", "float16", lambda x: kb.encode("e5m2", flush(x))),
    "subnormal levels flushed": ("e4m3fn", "float32", lambda x: kb.encode("e4m3fn", small(x))),
    "sign ignored": ("e8m0fnu", "float32", lambda x: kb.encode("e8m0fnu", np.abs(x))),
    "wraps": ("int4", "float32", wrap),
    "another NaN": ("e4m3fn", "float32", lambda x: np.where(np.isnan(x), 0xFF, kb.encode("e4m3fn", x))),
    "infinity gives NaN": (
        "e4m3fn",
        "float32",
        lambda x: kb.encode("e4m3fn", np.where(np.isinf(x), np.float32("nan"), x)),
    ),
    "through int32": (
        "int8",
        "float32",
        lambda x: kb.encode("int8", np.where(np.abs(x) >= 2**31, np.float32(-(2**31)), x)),
    ),
    "unexplained": (
        "e4m3fn",
        "float32",
        lambda x: np.where(kb.encode("e4m3fn", x) == 0x38, 0x39, kb.encode("e4m3fn", x)),
    ),
    "no level": ("e2m1fn", "float32", lambda x: np.where(x == 6, 6.5, kb.decode("e2m1fn", kb.encode("e2m1fn", x)))),
    "sign of zero": ("int4", "float32", lambda x: np.clip(np.rint(x), -8, 7)),
}


@pytest.mark.parametrize("cause", CAUSES)
def test_each_cause_is_named(cause):
    name, source, function = CAUSES[cause]
    report = kb.check(function, name, sources=[source], nan="canonical")
    assert cause_names(report) == {cause}, report
    assert report.status == "disagree"


def test_two_causes_at_once_are_named_together():
    both = lambda x: kb.encode("e4m3fn+ties=away", x.astype(np.float32))  # noqa: E731
    report = kb.check(both, "e4m3fn", sources=["float64"])
    assert "unexplained" not in cause_names(report), report
    assert any("ties=away" in cause for cause in cause_names(report))


def test_one_flipped_tie_is_not_called_another_tie_rule():
    def function(x):
        return np.where(x == 0.25, 1, kb.encode("e2m1fn", x))

    (difference,) = kb.check(function, "e2m1fn").differences
    assert (difference.cause, difference.count) == ("unexplained", 1)
    assert difference.example.bits == "0x3e800000"


@pytest.mark.parametrize("name", ["e4m3fn", "e8m0fnu", "nf4", "int4", "bf16"])
def test_every_cause_differs_or_says_nothing(name):
    """A cause that gives our codes everywhere would explain nothing; none may raise."""
    d = kb.datatype(name)
    asked = question(d, "encode", "float64")
    some = slice(0, 4000)
    for cause in causes(d, "float64"):
        codes = cause.codes(d, asked.x[some], None)
        assert codes is None or codes.shape == asked.ours[some].shape


@pytest.mark.parametrize("at", range(0, 256, 37))
def test_decode_finds_one_wrong_entry(at):
    def function(codes):
        levels = kb.decode("e4m3fn", codes)
        return np.where(codes == at, np.float32(3.25), levels)

    (difference,) = kb.check(function, "e4m3fn", what="decode").differences
    assert (difference.cause, difference.count, difference.example.bits) == ("another level", 1, f"0x{at:02x}")


def test_decode_compares_the_sign_of_zero_and_nan():
    report = kb.check(lambda codes: kb.decode("e4m3fn", codes) + np.float32(0), "e4m3fn", what="decode")
    assert [(d.cause, d.example.bits) for d in report.differences] == [("negative-zero-read-as-zero", "0x80")]
    flushed = kb.check(
        lambda codes: np.where(codes == 0, np.float32(0), kb.decode("e8m0fnu", codes)), "e8m0fnu", what="decode"
    )
    assert cause_names(flushed) == {"flushed to zero"}
    no_nan = kb.check(lambda codes: np.nan_to_num(kb.decode("e4m3fn", codes), nan=480), "e4m3fn", what="decode")
    assert [(d.cause, d.count) for d in no_nan.differences] == [
        ("nan-read-as-number", 1),
        ("another level", 1),  # mirrored, it would be -480
    ]


# Faults are errors, never agreement --------------------------------------------------------------


def raises(x):
    raise RuntimeError("on purpose")


def mutates(x):
    codes = kb.encode("e4m3fn", x)
    if x.size:
        x[...] = 1
    return codes


FAULTS = {
    "it raised RuntimeError: on purpose": raises,
    "it returned None": lambda x: None,
    "1 of": lambda x: kb.encode("e4m3fn", x).reshape(-1)[:1],
    "the answer has shape ()": lambda x: np.uint8(3),
    "the answer has dtype bool": lambda x: kb.encode("e4m3fn", x) > 3,
    "array of dtype object": lambda x: kb.encode("e4m3fn", x).astype(object),
    "the answer has dtype complex64": lambda x: x.astype(np.complex64),
    "it changed the array": mutates,
}


@pytest.mark.parametrize("text", FAULTS)
def test_faults_are_errors(text):
    report = kb.check(FAULTS[text], "e4m3fn")
    assert report.status == "error"
    assert not report.agree
    assert text in str(report), report


def test_one_missing_value_is_an_error():
    report = kb.check(lambda x: kb.encode("e4m3fn", x).reshape(-1)[: max(x.size - 1, 0)], "e4m3fn", shapes=False)
    size = encode_inputs(kb.datatype("e4m3fn"), "float32").words.size
    assert f"{size - 1} of {size} values" in report.verdicts[0].errors[0]
    assert report.tried == 0, "none was compared"


@pytest.mark.parametrize("name", [name for name, _ in arrangements(np.arange(1000))])
def test_each_arrangement_is_compared(name):
    """A function that is wrong in one arrangement alone: told apart by shape and strides."""
    views = dict(arrangements(np.arange(1000, dtype=np.float32)))

    def function(x):
        codes = kb.encode("e4m3fn", x)
        if (x.shape, x.strides) == (views[name].shape, views[name].strides):
            return codes + 1 if codes.size else codes.reshape(1, 0)
        return codes

    report = kb.check(function, "e4m3fn")
    assert [error.partition(":")[0] for error in report.verdicts[0].errors] == [name]
    assert kb.check(function, "e4m3fn", shapes=False).agree


def test_codes_out_of_range_are_no_level():
    (difference,) = kb.check(lambda x: kb.encode("int4", x) + 16, "int4", what="codes").differences
    assert difference.cause == "no level"
    assert difference.example.theirs == "16, which is no code of 4 bits"  # at 0, the number of fewest bits


def test_flush_to_zero_left_on_is_an_error(monkeypatch):
    states = iter([False, True])
    monkeypatch.setattr(function_room, "flushes_to_zero", lambda: next(states))
    report = kb.check(encoder("e4m3fn"), "e4m3fn")
    assert report.status == "error"
    assert "flush-to-zero" in str(report)
    assert not ask.flushes_to_zero()


# Known differences -------------------------------------------------------------------------------

KNOWN = Known(Cause("ties=away", "on record", choices={"ties": "away"}), "https://example.org/1")


def test_known_difference_must_occur():
    verdict = judge_one("e4m3fn", "float32", encoder("e4m3fn+ties=away"), known=[KNOWN])
    assert verdict.status == "known"
    assert verdict.differences[0].link == "https://example.org/1"
    vanished = judge_one("e4m3fn", "float32", encoder("e4m3fn"), known=[KNOWN])
    assert vanished.status == "error"
    assert vanished.errors == ("no longer differs: ties=away (https://example.org/1)",)


def test_known_difference_covers_its_own_answers_only():
    def function(x):
        return np.where(x == 1, 0x39, kb.encode("e4m3fn+ties=away", x))

    verdict = judge_one("e4m3fn", "float32", function, known=[KNOWN])
    assert verdict.status == "disagree"
    assert [(d.cause, d.known) for d in verdict.differences] == [("ties=away", True), ("unexplained", False)]
    assert verdict.different == 1


def test_undefined_answers_are_known_whatever_they_are():
    open_above = dataclasses.replace(KNOWN, undefined=lambda d, x: x > 448)
    verdict = judge_one("e4m3fn", "float32", lambda x: np.where(x > 448, 5, kb.encode("e4m3fn", x)), known=[open_above])
    assert verdict.status == "known"
    elsewhere = judge_one(
        "e4m3fn", "float32", lambda x: np.where(x > 400, 5, kb.encode("e4m3fn", x)), known=[open_above]
    )
    assert elsewhere.status == "disagree"


# Parts -------------------------------------------------------------------------------------------


@pytest.mark.parametrize("source", SOURCES)
@pytest.mark.parametrize("name", ["e4m3fn", "e2m1fn", "int4", "nf4", "e8m0fnu"])
def test_inputs_hold_what_they_promise(name, source):
    d = kb.datatype(name)
    inputs = encode_inputs(d, source)
    x = to_float64(inputs.words, source)
    assert len(set(inputs.words.tolist())) == inputs.words.size, "no word twice"
    assert np.array_equal(inputs.words, encode_inputs(d, source).words), "the same every time"
    numbers = set(x[np.isfinite(x)].tolist())
    levels = [level for level in d.levels[np.isfinite(d.levels)].tolist() if source in ("float32", "float64")]
    ladder = sorted(set(levels))
    midpoints = [(a + b) / 2 for a, b in pairwise(ladder)]
    exact_midpoints = [m for m in midpoints if float(np.float32(m)) == m or source == "float64"]
    for number in [*ladder, *exact_midpoints]:
        near = {number, -number}
        if source in ("float32", "float64"):
            kind = np.float32 if source == "float32" else np.float64
            near |= {float(np.nextafter(kind(number), kind(side))) for side in (np.inf, -np.inf)}
        assert near <= numbers
    zeros = np.signbit(x[x == 0])
    assert zeros.any()
    assert not zeros.all()
    assert {np.inf, -np.inf} <= set(x.tolist())
    nan = np.signbit(x[np.isnan(x)])
    assert (nan.any() and not nan.all()) == d.has_nan
    assert (np.abs(x[np.isfinite(x)]).max() > d.top * 4) or source == "float16" or name == "e8m0fnu"


def test_random_tail_is_seeded():
    d = kb.datatype("e4m3fn")
    one, other = (set(encode_inputs(d, "float32", seed).words.tolist()) for seed in (0, 1))
    assert one != other
    assert len(one & other) > 10_000, "everything but the tail is the same"


def test_simplest_prefers_few_bits_then_small_exponents():
    x = np.array([3.0, 1.5, -1.5, 0.75, 2.0, 1024.0, np.nan, np.inf, 0.0])
    assert simplest(x, np.ones(9, bool)) == 8
    assert simplest(x, np.arange(9) < 4) in (1, 3)
    assert simplest(x, np.isin(np.arange(9), [4, 5, 6, 7])) == 4
    assert simplest(x, np.isin(np.arange(9), [6, 7])) == 7
    assert simplest(x, np.isin(np.arange(9), [1, 2])) == 1


@pytest.mark.parametrize(
    ("numerator", "denominator", "text"),
    [(0, 1, "0"), (-3, 2, "-1.5"), (1, 2**40, "2^-40"), (-3, 2**40, "-3 x 2^-40"), (2**60, 1, "2^60"), (2, 3, "2/3")],
)
def test_exactly(numerator, denominator, text):
    assert exactly(Fraction(numerator, denominator)) == text


def test_worst():
    assert worst(["known", "error", "agree"]) == "error"
    assert worst(["known", "disagree"]) == "disagree"
    assert worst([]) == "agree"


def test_there_is_no_kind_of_difference_where_all_agrees():
    d = kb.datatype("e4m3fn")
    asked = question(d, "encode", "float32")
    ours = asked.ours.astype(np.int64)
    found = explain_type(d, "float32", asked.x, ours)
    assert (found.verdict, found.groups) == ("agrees", ())


@pytest.mark.parametrize(
    ("options", "text"),
    [
        ({"what": "encoder"}, "check: what = 'encoder', there is no such name; did you mean encode"),
        ({"sources": ["float31"]}, "check: sources = 'float31', there is no such name; did you mean float32"),
        ({"nan": "some"}, "check: nan = 'some', it is 'any', 'canonical' or two codes"),
    ],
)
def test_bad_arguments_get_one_line(options, text):
    with pytest.raises(KbitError) as caught:
        kb.check(encoder("e4m3fn"), "e4m3fn", **options)
    assert str(caught.value).startswith(text)
    assert "\n" not in str(caught.value)


def test_a_function_is_needed():
    with pytest.raises(KbitError, match="it cannot be called"):
        kb.check("e4m3fn", "e4m3fn")


def test_bfloat16_needs_ml_dtypes(monkeypatch):
    monkeypatch.setitem(sys.modules, "ml_dtypes", None)
    with pytest.raises(MissingLibrary, match="pip install ml_dtypes"):
        kb.check(encoder("e4m3fn"), "e4m3fn", sources=["bfloat16"])


@pytest.mark.parametrize("dtype", ["int8", "int64", "a list"])
def test_codes_that_are_read_as_values_are_told(dtype):
    def codes(x):
        found = kb.encode("int4", x)
        return found.tolist() if dtype == "a list" else found.astype(dtype)

    note = "integers of dtype {} are read as values; if they are codes, give uint8 or uint16"
    (verdict,) = kb.check(codes, "int4").verdicts
    assert verdict.notes[0] == note.format("int64" if dtype == "a list" else dtype)
    assert "NaN, which int4 has none of: it raised" in verdict.notes[1]
    assert kb.check(codes, "int4", what="codes", shapes=False).agree  # an empty list has no dtype
    (right,) = kb.check(lambda x: kb.decode("int4", kb.encode("int4", x)).astype(np.int8), "int4").verdicts
    assert right.status == "agree"
    assert not any("are read as values" in text for text in right.notes)


def test_an_error_names_an_arrangement_only_where_it_is_not_the_plain_one():
    (verdict,) = kb.check(lambda x: None, "int4").verdicts
    assert verdict.errors == ("it returned None",)
    (verdict,) = kb.check(lambda x: kb.encode("int4", x) if x.size else None, "int4").verdicts
    assert verdict.errors == ("empty: it returned None",)


# Rivals --------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "done", ["e4m3fn+overflow=ieee", "e4m3fn+ties=away", "int4+rounding=toward_zero", "nf4+ties=upper"]
)
def test_the_choices_of_a_function_are_found(done):
    """Its own name is among those that it conforms to, and no other one gives an answer that differs."""
    ranking = kb.check(lambda x: kb.encode(done, x), done.partition("+")[0], shapes=False, rank=True).ranking
    assert done in ranking.conforms
    for each in ranking.rivals:
        assert each.conforms == (each.differing == 0)
        assert (each.example is None) == each.conforms


def test_each_rival_parts_at_an_input_where_it_is_another():
    ranking = kb.check(lambda x: kb.encode("e2m1fn+ties=away", x), "e2m1fn", shapes=False, rank=True).ranking
    assert ranking.conforms[0] == "e2m1fn+ties=away"
    even = next(each for each in ranking.rivals if each.name == "e2m1fn")
    assert (even.example.value, even.example.theirs, even.example.ours) == ("0.25", "0x1 = 0.5", "0x0 = 0")
    for each in ranking.rivals[1:]:
        x = np.array([int(each.example.bits, 16)], np.uint32).view(np.float32)
        assert kb.encode(each.name, x) != kb.encode("e2m1fn+ties=away", x)
        assert each.example.ours.startswith(f"0x{kb.encode(each.name, x)[0]:x} ")


def test_what_conforms_to_nothing_is_told_the_nearest_and_speaks_json():
    def flipped(x):
        codes = kb.encode("int4", x)
        return np.where(np.asarray(x) == 3, 5, codes).astype(np.uint8)

    report = kb.check(flipped, "int4", shapes=False, rank=True)
    assert report.ranking.conforms == ()
    nearest = report.as_dict()["ranking"]["rivals"][0]
    assert (nearest["name"], nearest["differing"], nearest["conforms"]) == ("int4", 1, False)
    assert nearest["example"] == "0x40400000 = 3 (float32): theirs 0x5 = 5, its 0x3 = 3"
    assert kb.check(flipped, "int4", shapes=False).as_dict()["ranking"] is None


def test_a_negative_integer_that_was_cast_is_told_as_itself():
    def wraps(x):
        return np.where(x > 3, np.uint64(2**64 - 1), kb.encode("int4", x).astype(np.uint64))

    (difference,) = kb.check(wraps, "int4", shapes=False).differences
    assert difference.example.theirs == "-1, which is no code of 4 bits"
