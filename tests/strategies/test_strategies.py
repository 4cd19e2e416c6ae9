"""Strategies reach every hard case, shrink to the simplest example, and refuse bad arguments with a way out."""

from __future__ import annotations

import subprocess
import sys
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray

import kbit_ref as kb
from kbit_ref.exact.rules import RULES
from kbit_ref.strategies import (
    KINDS,
    blocks,
    datatypes,
    levels_of,
    near_midpoints,
    packed,
    schemes,
    simplest,
    tensors,
)
from kbit_ref.tensors.scheme import CHOICES, SCALE_DTYPES

Array = NDArray[Any]
TEXT = "int4-b8-absmax-f32"
OPEN = "e4m3fn-b8-absmax-f32+inf=saturate+nan=code"  # has an answer to NaN and infinity


# Reach -------------------------------------------------------------------------------------------


def drawn(strategy: st.SearchStrategy[Array], examples: int) -> list[Array]:
    """So many examples."""
    found: list[Array] = []

    @given(strategy)
    @settings(max_examples=examples)
    def look(x: Array) -> None:
        found.append(x)

    look()
    return found


@pytest.fixture(scope="module")
def some_blocks() -> list[Array]:
    return drawn(blocks(TEXT), 500)


def scaled(x: Array) -> Array:
    """x over its scale: int4 reaches 7."""
    return np.asarray(x / (np.abs(x).max() / np.float32(7)), np.float32)


POINTS = np.arange(-6.5, 7, 1, np.float32)  # the midpoints of int4 that a symmetric block reaches
BESIDE = np.concatenate([np.nextafter(POINTS, np.float32(way)) for way in (-np.inf, np.inf)])
ONE = np.float32(1)

# Facts of a block of int4 in eights.
HARD = {
    "a tie": lambda x: np.isin(scaled(x), POINTS).any(),
    "beside a tie": lambda x: np.isin(scaled(x), BESIDE).any(),
    "a tie, and a scale that is no power of two": lambda x: np.isin(scaled(x), POINTS).any() and x.max() % 7 != 0,
    "subnormals beside others": lambda x: (np.abs(x[x != 0]) < 2.0**-126).any() and x.max() > 2.0**-126,
    "only subnormals": lambda x: x.any() and (np.abs(x) < 2.0**-126).all(),
    "the largest number": lambda x: np.abs(x).max() == np.finfo(np.float32).max,
    "just below a power of two": lambda x: np.frexp(np.nextafter(np.abs(x).max(), np.float32(np.inf)))[0] == 0.5,
    "just above a power of two": lambda x: np.frexp(np.nextafter(np.abs(x).max(), np.float32(0)))[0] == 0.5,
    "one outlier": lambda x: x.size > 2 and 0 < np.sort(np.abs(x))[-2] < x.max() / 1000,
    "a negative outlier": lambda x: x.size > 2 and 0 < np.sort(np.abs(x))[-2] < -x.min() / 1000,
    "zeros": lambda x: x.size == 8 and not x.any(),
    "-0": lambda x: (np.signbit(x) & (x == 0)).any(),
    "one element": lambda x: x.size == 1,
    "a short tail": lambda x: x.size == 7,
    "the largest element is the last": lambda x: x.size == 8 and np.abs(x).argmax() == 7 and x[:7].any(),
    "a tie of the largest magnitudes": lambda x: x.max() > 0 and x.max() == -x.min(),
}


@pytest.mark.parametrize("name", HARD)
def test_blocks_reach(name: str, some_blocks: list[Array]) -> None:
    with np.errstate(all="ignore"):
        assert any(HARD[name](x) for x in some_blocks)


def test_normal_numbers_reach_few_of_them() -> None:
    """The facts are hard: random numbers have three of them, the ones that are about the shape or the order."""
    normals = np.random.default_rng(0).standard_normal((700, 8)).astype(np.float32)
    with np.errstate(all="ignore"):
        assert {name for name, fact in HARD.items() if any(fact(x) for x in normals)} <= {
            "the largest element is the last"
        }


def test_special_numbers_at_every_position() -> None:
    found = set()
    for x in drawn(blocks(OPEN, kinds=["nan", "infinity"], ragged=False), 450):
        for at in np.flatnonzero(~np.isfinite(x)):
            found.add((int(at), "nan" if np.isnan(x[at]) else "inf", bool(np.signbit(x[at]))))
    assert found == {(at, kind, minus) for at in range(8) for kind in ("nan", "inf") for minus in (True, False)}


@given(blocks(TEXT))
@settings(max_examples=30)
def test_blocks_of_a_closed_scheme_are_finite(x: Array) -> None:
    assert np.isfinite(x).all()
    assert x.dtype == np.float32
    assert 1 <= x.size <= 8
    kb.quantize(x, TEXT)


@pytest.mark.parametrize("source", ["float16", "float32", "float64"])
def test_sources(source: str) -> None:
    @given(blocks("int8-b8-absmax-f16", source=source), tensors("nf4-b4@-1-absmax-f32", source=source))
    @settings(max_examples=10)
    def check(x: Array, y: Array) -> None:
        assert x.dtype.name == y.dtype.name == source
        kb.quantize(x, "int8-b8-absmax-f16")

    check()


FLAT = {  # what arrays for a flat cut must reach
    "two dimensions": lambda x: x.ndim == 2 and min(x.shape) > 1,
    "three dimensions": lambda x: x.ndim == 3,
    "not in C order": lambda x: x.size > 1 and not x.flags.c_contiguous,
    "with strides": lambda x: x.ndim == 1 and x.strides[0] == 8,
    "an odd count": lambda x: x.size % 2 == 1,
    "a short tail behind a full block": lambda x: x.size > 8 and x.size % 8 != 0,
    "a zero block behind another": lambda x: x.size >= 16 and x.ravel()[:8].any() and not x.ravel()[8:16].any(),
}


@pytest.fixture(scope="module")
def some_tensors() -> list[Array]:
    return drawn(tensors(TEXT), 200)


@pytest.mark.parametrize("name", FLAT)
def test_tensors_reach(name: str, some_tensors: list[Array]) -> None:
    assert any(FLAT[name](x) for x in some_tensors)


@pytest.mark.parametrize("text", ["int4-b8@0-absmax-f32", "int4-channel@1-absmax-f32", "nvfp4-modelopt", "bnb-nested"])
def test_tensors_have_answers(text: str) -> None:
    @given(tensors(text))
    @settings(max_examples=12)
    def check(x: Array) -> None:
        kb.quantize(x, text)

    check()


def test_whole_blocks_only() -> None:
    text = "nf4-b8@-1-absmax-f32"
    assert {x.shape[-1] % 8 for x in drawn(tensors(text, ragged=False), 20)} == {0}
    assert {x.size for x in drawn(blocks(text, ragged=False), 20)} == {8}
    assert len({x.shape[-1] % 8 for x in drawn(tensors(text), 40)}) > 1


def test_schemes_reach_rules_types_and_choices() -> None:
    rules, scales, choices = set[str](), set[str](), set[str]()

    @given(schemes())
    @settings(max_examples=120)
    def look(s: kb.Scheme) -> None:
        rules.add(s.rule)
        scales.add(s.scale_dtype)
        choices.update(s.choices)
        assert kb.scheme(str(s)) == s

    look()
    assert len(rules) >= len(RULES) - 3
    assert len(scales) >= len(SCALE_DTYPES) - 1
    assert len(choices & set(CHOICES)) >= len(CHOICES) // 2
    assert "layout" in choices


def test_schemes_of_one_type() -> None:
    @given(schemes("nf4"))
    @settings(max_examples=10)
    def check(s: kb.Scheme) -> None:
        assert s.dtype.name.partition("+")[0] == "nf4"

    check()
    assert simplest(schemes("nf4"), lambda s: s == kb.scheme("bnb-cuda-nf4"), examples=100) is not None
    assert simplest(schemes(st.just(kb.datatype("e5m2"))), lambda s: s.dtype.name == "e5m2") is not None


def test_numbers_near_midpoints() -> None:
    # int2 has the levels -2 ... 1, so the midpoints -1.5, -0.5, 0.5: each, and the next float32 on either side
    found = {float(x) for x in drawn(near_midpoints("int2"), 100)}  # type: ignore[arg-type]
    beside = {np.nextafter(np.float32(m), np.float32(way)) for m in (-1.5, -0.5, 0.5) for way in (-9, 9)}
    assert found == {-1.5, -0.5, 0.5} | {float(x) for x in beside}


def test_levels() -> None:
    assert simplest(levels_of("e2m1fn"), lambda x: x == -6) == -6
    assert simplest(levels_of("e5m2", special=True), lambda x: x == -np.inf) == -np.inf
    assert simplest(levels_of("e4m3fn", special=True), np.isnan) is not None
    assert simplest(levels_of("e4m3fn"), np.isnan) is None
    assert simplest(levels_of("int4sym"), lambda x: x == -8) is None  # never emitted


def _round_trip(name: str) -> None:
    form = kb.layout(name)

    @given(packed(name))
    @settings(max_examples=10)
    def check(pair: tuple[Array, int]) -> None:
        buffer, n = pair
        assert buffer.size == form.size(n)
        assert np.array_equal(form.pack(form.unpack(buffer, n)), buffer)

    check()


def test_packed_reaches() -> None:
    for name in ("low4", "word3", "split4x32", "trits2x256"):
        _round_trip(name)
    assert simplest(packed("low4"), lambda pair: pair[1] % 2 == 1) is not None
    dirt = simplest(packed("word3", dirty=True), lambda pair: pair[1] == 10 and pair[0][-1] >= 64)
    assert dirt is not None  # 10 codes of 3 bits leave the two highest bits of a word
    word3 = kb.layout("word3")
    assert not np.array_equal(word3.pack(word3.unpack(*dirt)), dirt[0])


# Shrinking ---------------------------------------------------------------------------------------


def test_the_simplest() -> None:
    assert simplest(datatypes(), lambda d: True) == kb.datatype("int2")
    assert str(simplest(schemes("int3"), lambda s: s.rule == "rms", examples=40)) == "int3-tensor-rms-f32"
    assert simplest(levels_of("kfloat4"), lambda x: True) == 0
    assert simplest(near_midpoints("uint1"), lambda x: True) == 0.5
    assert simplest(packed("awq4"), lambda pair: True)[1] == 0  # type: ignore[index]
    block = simplest(blocks(TEXT), lambda x: True)
    assert block is not None
    assert block.tolist() == [0] * 8
    assert not np.signbit(block).any()


def test_what_must_be_there_stays_and_the_rest_goes() -> None:
    found = simplest(blocks(TEXT, kinds=["levels"]), lambda x: x.size == 8 and 3 in x)
    assert found is not None
    assert found.tolist() == [7, 3, 0, 0, 0, 0, 0, 0]
    found = simplest(blocks(TEXT), lambda x: x.size < 8)
    assert found is not None
    assert found.tolist() == [0] * 7


# Bad arguments -----------------------------------------------------------------------------------

BAD = {
    "datatypes: max_bits = 0, a type has 1 to 16 bits; use 8": lambda: datatypes(max_bits=0),
    "datatypes: family = 'integr', there is no such name; did you mean integer? ": lambda: datatypes(family="integr"),
    "schemes: max_choices = -1, it is a number from 0; use 4": lambda: schemes(max_choices=-1),
    "schemes: dtype = bf16, schemes are for types of at most 8 bits; use near_midpoints": lambda: schemes("bf16"),
    "datatype: name = 'nf5555', there is no such name; ": lambda: levels_of("nf5555"),
    "near_midpoints: source = 'float8', there is no such name; ": lambda: near_midpoints("int4", source="float8"),
    "blocks: kind = 'tie', there is no such name; did you mean ties, outlier? ": lambda: blocks(TEXT, kinds=["tie"]),
    "blocks: kind = nan, int4-b8-absmax-f32 has no answer to it; leave it out, or use +nan=zero": (
        lambda: blocks(TEXT, kinds=["nan"])
    ),
    "blocks: kinds = [], a block is of some kind; use zeros, ": lambda: blocks(TEXT, kinds=[]),
    "blocks: size = 9, blocks of int4-b8-absmax-f32 have 1 to 8 elements; leave it out": lambda: blocks(TEXT, size=9),
    "blocks: scheme = int4-b8-absmax-f32+rounding=stochastic_a, its answer depends on random bits; ": (
        lambda: blocks(f"{TEXT}+rounding=stochastic_a")
    ),
    "tensors: max_blocks = 0, an array has at least one block; use 3": lambda: tensors(TEXT, max_blocks=0),
    "packed: max_codes = -1, it is a number from 0; leave it out": lambda: packed("low4", max_codes=-1),
    "packed: dirty = True, every value of a byte of trits2x256 is digits; leave it out": (
        lambda: packed("trits2x256", dirty=True)
    ),
    "simplest: examples = 0, it is a number from 1; use 200": (
        lambda: simplest(levels_of("int4"), lambda x: True, examples=0)
    ),
    "simplest: strategy = 1, it is no strategy; e.g. levels_of('int4')": lambda: simplest(1, lambda x: True),  # type: ignore[arg-type,unused-ignore]
}


@pytest.mark.parametrize("text", BAD)
def test_bad_arguments(text: str) -> None:
    with pytest.raises(kb.KbitError) as caught:
        BAD[text]()  # type: ignore[no-untyped-call]
    assert str(caught.value).startswith(text)
    assert "\n" not in str(caught.value)


def test_a_type_of_one_level() -> None:
    with pytest.raises(kb.KbitError, match="one has one level, and no midpoint; use levels_of"):
        near_midpoints(kb.DataType.from_levels([1.0], name="one"))


def test_every_kind_says_what_it_is() -> None:
    assert all(make.__doc__ for name, make in KINDS.items() if name not in ("nan", "infinity"))


def test_without_hypothesis_the_error_names_the_extra() -> None:
    code = "import sys; sys.modules['hypothesis'] = None; import kbit_ref.strategies"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True)
    assert "strategies: hypothesis, it is not installed; pip install kbit_ref[test]" in done.stderr
