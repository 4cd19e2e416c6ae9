"""The generators of hard cases: what they promise, by hand or by exact arithmetic."""

from fractions import Fraction
from itertools import combinations, pairwise

import numpy as np
import pytest

import kbit_ref as kb
from kbit_ref.conformance.cases import LEVELS, all_cases, cases_of
from kbit_ref.conformance.cases.registry import Subject, spread
from kbit_ref.exact.arithmetic import Arithmetic
from kbit_ref.tensors.scheme import Scheme

SUBJECTS: list[Subject] = [
    *(kb.scheme(name) for name in ("bnb-cuda-nf4", "ocp-mxfp4", "nvfp4-te", "ggml-q4_0", "ggml-tq1_0", "onnx-uint4")),
    *(kb.scheme(name) for name in ("hqq-3", "mlx-affine-4", "keras-int8", "ort-gather", "torchao-nf4")),
    *(kb.scheme(text) for text in ("int4-tensor-absmax-f32", "int8-channel@1-rms-f16", "e4m3fn-b5@2-clip-bf16")),
    *(kb.datatype(name) for name in ("nf4", "e4m3fn", "uint1", "binary", "e8m0fnu", "int8", "fp4_bnb", "f16")),
    *(kb.layout(name) for name in ("low1", "high4", "awq4", "lsb3", "planes5x64", "ggml5x32", "trits2x256", "low8")),
]


@pytest.mark.parametrize("subject", SUBJECTS, ids=str)
def test_inputs_are_made_the_same_every_time(subject: Subject) -> None:
    for case in cases_of(subject):
        first, second = (list(case.given(subject, "exhaustive")) for _ in range(2))
        assert first, case.name
        for one, other in zip(first, second, strict=True):
            assert (one.comment, one.level, list(one.arrays)) == (other.comment, other.level, list(other.arrays))
            for name, array in one.arrays.items():
                assert array.tobytes() == other.arrays[name].tobytes()


@pytest.mark.parametrize("subject", SUBJECTS, ids=str)
def test_levels_hold_those_before(subject: Subject) -> None:
    for case in cases_of(subject):
        counts = [sum(1 for _ in case.given(subject, level)) for level in LEVELS[:2]]
        assert counts == sorted(counts)
        assert all(given.level in LEVELS for given in case.make(subject))


def test_every_case_is_explained_and_used() -> None:
    used = {case.name for subject in SUBJECTS for case in cases_of(subject)}
    assert used == set(all_cases())
    for case in all_cases().values():
        assert case.catches
        assert case.summary


def blocks(text: str, case: str, level: str = "quick") -> list[np.ndarray]:
    """The rows that a case gives for a scheme."""
    s = kb.scheme(text)
    return [row for given in all_cases()[case].given(s, level) for row in s.cut.rows(given.arrays["x"])]


@pytest.mark.parametrize("text", ["int4-b16-absmax-f32", "e2m1fn-b32@-1-pow2floor-e8m0fnu"])
def test_tie_aligned_blocks_hold_ties(text: str) -> None:
    s = kb.scheme(text)
    levels = [Fraction(v) for v in sorted(s.dtype.definition.values)]
    ties = {(a + b) / 2 for a, b in pairwise(levels)}
    first = blocks(text, "tie-aligned")[0]
    scale = Fraction(kb.exact.quantize(first, s).rows[0][0].scale)
    found = [Fraction(float(x)) / scale for x in first]
    assert sum(y in ties for y in found) == len(first) - 1  # all but the one that makes the scale


def test_reciprocal_sensitive_blocks_are() -> None:
    s, f32 = kb.scheme("int8-b32-absmax-f32"), Arithmetic("float32")
    for row in blocks(str(s), "reciprocal-sensitive"):
        scale = kb.exact.quantize(row, s).rows[0][0].scale
        assert isinstance(scale, Fraction)
        x = [Fraction(float(value)) for value in row]
        divided = [f32.divide(value, scale) for value in x]
        multiplied = [f32.multiply(value, f32.divide(Fraction(1), scale)) for value in x]
        assert kb.exact.encode("int8", divided) != kb.exact.encode("int8", multiplied)


def test_powers_of_two() -> None:
    largest = {float(np.abs(row).max()) for row in blocks("e2m1fn-b32@-1-pow2floor-e8m0fnu", "power-of-two")}
    assert {8 * (1 - 2.0**-24), 8.0, 8 * (1 + 2.0**-23), 6 * (1 - 2.0**-23 / 1.5), 6.0} <= largest | {5.9999995}
    assert float(np.nextafter(np.float32(6), np.float32(0))) in largest


def test_nan_at_each_position() -> None:
    rows = blocks("e4m3fn-b32@-1-pow2floor-e8m0fnu+nan=code", "nan", "full")
    assert sorted(int(np.flatnonzero(np.isnan(row))[0]) for row in rows) == list(range(32))
    assert {bool(np.signbit(row[np.isnan(row)][0])) for row in rows} == {False, True}


def test_subnormal_scales() -> None:
    s = kb.scheme("int8-b32-absmax-f32")
    scales = [kb.exact.quantize(row, s).rows[0][0].scale for row in blocks(str(s), "subnormal")]
    assert scales == [Fraction(1, 2**126), Fraction(1, 2**140)]


def test_one_outlier() -> None:
    for row in blocks("int8-b32-absmax-f32", "one-outlier", "full"):
        magnitudes = np.sort(np.abs(row))
        assert magnitudes[-1] > 1000 * magnitudes[-2]


def test_every_pair_of_nibbles() -> None:
    (given,) = all_cases()["pairs"].given(kb.layout("low4"))
    codes = given.arrays["codes"].reshape(-1, 2)
    assert len({tuple(pair) for pair in codes.tolist()}) == 256
    (stored,) = all_cases()["every-pair"].given(kb.scheme("bnb-cuda-nf4"), "full")
    assert len({tuple(pair) for pair in stored.arrays["codes"].reshape(-1, 2).tolist()}) == 256


@pytest.mark.parametrize("name", ["low4", "awq4", "lsb3", "planes2x32", "ggml5x32", "split4x32"])
def test_numbered_bits_tell_any_two_places_apart(name: str) -> None:
    layout = kb.layout(name)
    (given,) = all_cases()["numbered-bits"].given(layout)
    groups = given.arrays["codes"].reshape(-1, layout.elements)
    spelled = [
        tuple((groups[:, element] >> bit & 1).tolist())
        for element in range(layout.elements)
        for bit in range(layout.bits)
    ]
    assert all(a != b for a, b in combinations(spelled, 2))
    assert all(any(word) for word in spelled)  # none is always 0, as a bit that is not there


def test_a_cut_finds_its_rows() -> None:
    from kbit_ref.conformance.cases.of_schemes import arranged
    from kbit_ref.tensors.cut import Cut

    rows = np.arange(12).reshape(3, 4)
    for text in ("channel", "channel@1", "b4@-1", "b4@0", "b4@1", "b4@2", "channel@2"):
        cut = Cut.parse(text)
        assert np.array_equal(cut.rows(arranged(cut, rows)), rows), text
    assert arranged(Cut.parse("b4"), rows).reshape(-1).tolist() == list(range(12))


def test_spread_begins_all_over_the_range() -> None:
    first = np.sort(spread(np.arange(255))[:8])
    assert np.diff(first).min() >= 16
    assert sorted(spread(np.arange(255)).tolist()) == list(range(255))


def test_cases_are_for_schemes_types_or_layouts() -> None:
    assert {case.subject for case in all_cases().values()} == {Scheme, kb.DataType, type(kb.layout("low4"))}
