"""Encoders from longdouble, integers and bool: the inputs, the answers by the definition, and detours named."""

from fractions import Fraction

import ml_dtypes
import numpy as np
import pytest

import kbit_ref as kb
from kbit_ref.conformance.implementations.adapters import adapters
from kbit_ref.conformance.inputs.of_types import MORE_SOURCES, bits_and_number, encode_inputs, nan_words, to_float64
from kbit_ref.conformance.subject import question
from kbit_ref.errors import UnknownName
from kbit_ref.exact import encode as by_definition

LD = np.longdouble
WIDE = np.finfo(LD).nmant >= 63  # else it is float64, and nothing is rounded on the way to that
TYPES = ("e4m3fn", "bf16", "int8", "e8m0fnu+overflow=ieee", "nf4", "uint4+rounding=toward_zero")


def through(name, kind):
    """An encoder that rounds to another format first; without one it is exact."""

    def mine(x):
        exactly = x if x.dtype == LD else x.astype(LD if x.dtype.itemsize == 8 else np.float64)
        return kb.encode(name, exactly if kind is None else x.astype(kind))

    return mine


def number(word, kind):
    """The exact number of an input, or a float where it is none."""
    if kind == "longdouble":
        return Fraction(*word.as_integer_ratio()) if np.isfinite(word) and word else float(word)
    return Fraction(int(np.array([word]).view(kind)[0]))


@pytest.mark.parametrize("kind", MORE_SOURCES)
@pytest.mark.parametrize("name", TYPES)
def test_what_is_expected_is_the_definition(name: str, kind: str) -> None:
    asked = question(kb.datatype(name), "encode", kind)
    some = np.random.default_rng(0).choice(asked.x.size, min(300, asked.x.size), replace=False)
    if kind in ("longdouble", "int64", "uint64"):  # and those that float64 does not hold
        inexact = np.flatnonzero(asked.x.astype(LD) != asked.inputs.words.view(kind).astype(LD))
        assert inexact.size > 50 or (kind == "longdouble" and not WIDE)
        some = np.concatenate([some, inexact[:100]])
    for i in some:
        assert int(asked.ours[i]) == by_definition(asked.dtype.definition, number(asked.inputs.words[i], kind)), i


def test_which_inputs_there_are() -> None:
    d = kb.datatype("bf16")

    def numbers(kind):
        return set(encode_inputs(d, kind).words.view(kind).tolist())

    assert numbers("bool") == {False, True}
    assert numbers("int8") == set(range(-128, 128))
    assert numbers("uint16") == set(range(65536))
    for kind in ("int32", "uint32", "int64", "uint64"):
        info = np.iinfo(kind)
        assert {0, 1, info.min, info.max, 2**24 - 1, 2**24, 2**24 + 1} <= numbers(kind)
    assert {2**53 - 1, 2**53 + 1, -(2**53) - 1, -(2**62) - 1} <= numbers("int64")
    assert 2**63 + 1 in numbers("uint64")
    given = encode_inputs(d, "longdouble")
    assert np.isnan(given.words).any()
    assert np.isinf(given.words).any()
    with np.errstate(over="ignore", under="ignore"):
        assert not WIDE or (given.words.astype(np.float64) != given.words).sum() > 1000


@pytest.mark.parametrize("kind", MORE_SOURCES)
def test_exact_encoders_agree(kind: str) -> None:
    for name in TYPES:
        verdict = kb.check(through(name, None), name, sources=(kind,))
        assert verdict.agree, verdict
        assert verdict.rows[0].source == kind


DETOURS = [
    ("bf16", "int32", "float32"),
    ("bf16", "uint64", "float32"),
    ("bf16", "int64", "float64"),
    ("e4m3fn", "longdouble", "float32"),
    ("e8m0fnu", "longdouble", "float32"),
]


@pytest.mark.parametrize(("name", "kind", "by"), [*DETOURS, *[("e2m1fn", "longdouble", "float64")] * WIDE])
def test_two_roundings_are_named(name: str, kind: str, by: str) -> None:
    verdict = kb.check(through(name, by), name, sources=(kind,))
    (difference,) = verdict.differences
    assert (verdict.status, difference.cause) == ("disagree", f"through {by}")
    assert f"rounded to {by} first, then to the type" in str(verdict).splitlines()[0]


def test_no_integer_is_rounded_twice_into_a_small_type() -> None:
    """Every midpoint of e4m3fn and its neighbours are float32 numbers."""
    assert kb.check(through("e4m3fn", "float32"), "e4m3fn", sources=("int32", "int64", "uint64")).agree


def test_integers_of_64_bits_that_wrap() -> None:
    """The low bits of 2**60 + 9 are those of 9, and float64 does not hold them."""
    verdict = kb.check(lambda x: (x.view(np.uint64) & 15).astype(np.uint8), "int4", sources=("int64",))
    (difference,) = verdict.differences
    assert difference.cause == "wraps"


def test_a_counterexample_shows_the_integer() -> None:
    def wrong(x):
        return np.where(x == 2**62 + 1, 6, kb.encode("int4", x.astype(np.float64)))

    verdict = kb.check(wrong, "int4", sources=("int64",), what="codes")
    (difference,) = verdict.differences
    assert difference.count == 1
    assert difference.example.bits == "0x4000000000000001"
    assert difference.example.value == "4611686018427387905"
    assert bits_and_number(2**64 - 1, "uint64") == ("0xffffffffffffffff", Fraction(2**64 - 1))
    assert bits_and_number(LD(-1.5), "longdouble")[1] == -1.5


@pytest.mark.parametrize("value", [2**53 + 1, 2**60 + 1, 2**63 - 1, -(2**53) - 1, -(2**63) + 1, 2**53 + 2, -(2**63)])
def test_rounding_to_odd(value: int) -> None:
    """It keeps the side of every number of few bits, and numbers that float64 holds stay."""
    odd = float(to_float64(np.array([value], np.int64).view(np.uint64), "int64")[0])
    if int(float(value)) == value:
        assert int(odd) == value
    for few in (2**53, 2**60, 2**63, -(2**53), -(2**63)):
        assert (odd > few, odd < few) == (value > few, value < few)


def test_nan_of_longdouble_and_none_of_integers() -> None:
    def zero(x):
        return kb.encode("e2m1fn", np.where(np.isnan(x), 0, x))

    (row,) = kb.check(zero, "e2m1fn", sources=("longdouble",)).rows
    assert row.notes == ("2 NaN, which e2m1fn has none of: 2 become 0x0 = 0",)
    assert nan_words("int8").size == 0
    assert kb.check(through("e2m1fn", None), "e2m1fn", sources=("int8",)).rows[0].notes == ()


def test_what_takes_none_of_them_says_so() -> None:
    with pytest.raises(UnknownName, match="sources = 'int8', there is no such name; use float16"):
        kb.check(lambda x: x, "int4-b32-absmax-f32", sources=("int8",))
    with pytest.raises(UnknownName, match="sources = 'int128'"):
        kb.check(lambda x: x, "int4", sources=("int128",))


def test_ml_dtypes_rounds_integers_twice_to_bfloat16() -> None:
    """16973823 lies below the midpoint of 16908288 and 17039360, and becomes that midpoint in float32."""
    verdict = kb.check(lambda x: x.astype(ml_dtypes.bfloat16), "bf16+overflow=ieee", sources=("int64",))
    assert {each.cause for each in verdict.differences} in ({"through float32"}, set())  # set(): it is mended
    assert np.array([16973823]).astype(np.float32)[0] == (16908288 + 17039360) / 2


def test_only_libraries_that_name_them_are_asked() -> None:
    """jax shares the names of ml_dtypes, and takes four formats."""
    asked = {a.library for a in adapters().values() for p in a.types if set(p.sources) & set(MORE_SOURCES)}
    assert asked == {"ml_dtypes"}
