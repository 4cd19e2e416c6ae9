"""Every choice of rounding, ties, overflow and signs of zero: the engine equals the definition."""

from itertools import product

import numpy as np
import pytest
from helpers.by_definition import KINDS, expected, probes
from test_engine import compare_all_words, faults

import kbit_ref as kb
from kbit_ref import exact
from kbit_ref.datatypes.datatype import DataType
from kbit_ref.errors import KbitError

DETERMINISTIC = [rounding for rounding in exact.CHOICES["rounding"] if not rounding.startswith("stochastic")]
SMALL = ["e2m1fn", "int3", "uint2", "kfloat4_e2m1", "ternary", "Binary4p2se", "Binary4p2ue", "Binary4p1uf"]
SMALL += ["Binary5p1se", "fp4_bnb", "nf3"]
LARGE = ["e4m3fn", "e5m2", "e4m3fnuz", "e8m0fnu", "ue4m3", "Binary8p3se", "Binary8p3ue"]


def combinations(name: str) -> list[DataType]:
    """The type under all combinations of choices that it can have."""
    options = {**exact.CHOICES, "rounding": DETERMINISTIC}
    found = []
    for values in product(*options.values()):
        choices = dict(zip(options, values, strict=True))
        if choices["rounding"] != "nearest" and choices["ties"] != "lower":
            continue  # ties mean nothing there
        try:
            found.append(kb.datatype(name).with_choices(**choices))
        except KbitError:
            continue
    return found


def compare(d: DataType, most: int, kinds: tuple[str, ...] = KINDS) -> None:
    """At the landmarks in each format; where the definition refuses, the engine does."""
    for kind in kinds:
        x = probes(d, kind, 1, most)
        try:
            assert faults(d, x, bfloat16=kind == "bfloat16") == [], (d.name, kind)
        except KbitError:
            raise AssertionError(f"{d.name} refuses a number") from None


@pytest.mark.parametrize("name", SMALL)
def test_combinations_of_small_types(name: str) -> None:
    every = combinations(name)
    assert len(every) >= 8
    for i, d in enumerate(every):  # each combination in one or two of the five formats, in turn
        compare(d, 16, (KINDS[i % 5], "float32") if i % 2 else (KINDS[i % 5],))


@pytest.mark.parametrize("name", LARGE)
def test_some_combinations_of_large_types(name: str) -> None:
    for i, d in enumerate(combinations(name)[::7]):
        compare(d, 12, (KINDS[i % 5],))


@pytest.mark.parametrize("name", ["f16+overflow=ieee+ties=away", "bf16+overflow=finite+rounding=odd"])
def test_choices_of_wide_types(name: str) -> None:
    compare(kb.datatype(name), 50)


@pytest.mark.slow
@pytest.mark.parametrize("name", SMALL)
def test_all_combinations_of_small_types(name: str) -> None:
    for d in combinations(name):
        compare(d, 64)
        compare_all_words(d)


@pytest.mark.slow
@pytest.mark.parametrize("name", LARGE)
def test_all_combinations_of_large_types(name: str) -> None:
    for d in combinations(name):
        compare(d, 24)


@pytest.mark.slow
@pytest.mark.parametrize("name", [name for name in kb.datatypes() if kb.datatype(name).bits <= 8])
def test_combinations_of_all_narrow_types(name: str) -> None:
    for i, d in enumerate(combinations(name)):
        compare(d, 12, (KINDS[i % 5],))


def test_combinations_cover_every_choice() -> None:
    seen = {(choice, getattr(d, choice)) for name in SMALL for d in combinations(name) for choice in exact.CHOICES}
    stochastic = {("rounding", name) for name in exact.CHOICES["rounding"] if name.startswith("stochastic")}
    assert seen | stochastic == {(choice, name) for choice, names in exact.CHOICES.items() for name in names}


def test_expected_is_not_the_engine(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("kbit_ref.engine.codec.encode", lambda *_: 1 / 0)
    assert expected(kb.datatype("int4"), np.array([1.4, -9.0])).tolist() == [1, 8]
