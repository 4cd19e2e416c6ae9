"""Every two choices together: a covering design of schemes, the engine against the definition on each.

A factor is a part of a spelling (type, cut, rule, scale, each choice, the layout, the type's own
choices) or the format of x, a value one of its words. The design holds at least one scheme for every
pair of values of different factors that can stand together. Which pairs cannot is asked of
`kb.scheme`, not assumed.
"""

from __future__ import annotations

import random
import re
from collections.abc import Collection, Iterator
from functools import cache
from itertools import combinations
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from test_quantize import CUTS, FORMS, TYPES, compare, random_array

import kbit_ref as kb
from kbit_ref.engine.stochastic import encode_stochastic
from kbit_ref.exact.rules import RULES
from kbit_ref.tensors.scheme import CHOICES, SCALE_DTYPES

LAYOUTS = sorted({re.sub(r"\d", "{}", name, count=1) for name in kb.layouts()})  # `split{}x32`, for types of any width

FACTORS: dict[str, tuple[str, ...]] = {
    "dtype": tuple(TYPES),
    "cut": tuple(CUTS),
    "rule": tuple(RULES),
    "scale": SCALE_DTYPES,
    **CHOICES,
    "layout": ("as it is", *LAYOUTS),
    **{name: ("as it is", *words) for name, words in kb.exact.CHOICES.items()},  # of the type
    "form": FORMS,
}
HEAD = ("dtype", "cut", "rule", "scale")
Pair = tuple[tuple[str, str], tuple[str, str]]


def spelled(values: dict[str, str]) -> str:
    """The spelling of a full assignment."""
    head = "-".join(values[name] for name in HEAD)
    words = {name: word for name, word in values.items() if name not in (*HEAD, "form") and word != FACTORS[name][0]}
    bits = kb.datatype(values["dtype"]).bits
    return head + "".join(f"+{name}={word.format(bits)}" for name, word in words.items())


def valid(values: dict[str, str]) -> bool:
    """Is it a scheme, and one whose rounding the engine has? (Stochastic rounding wants gaps of powers of two.)"""
    try:
        s = kb.scheme(spelled(values))
        if s.dtype.rounding.startswith("stochastic"):
            encode_stochastic(s.dtype, [0.0], [0], 1)
    except kb.KbitError:
        return False
    return True


def pairs_of(values: dict[str, str]) -> Iterator[Pair]:
    """Every two of its values."""
    yield from combinations(sorted(values.items()), 2)


def drawn(values: dict[str, str], rng: random.Random, share: float, fixed: Collection[str] = ()) -> dict[str, str]:
    """The same with some other words, as far as it stays a scheme."""
    for name in rng.sample(sorted(set(FACTORS) - set(fixed)), len(FACTORS) - len(fixed)):
        if rng.random() < share:
            changed = values | {name: rng.choice(FACTORS[name])}
            values = changed if valid(changed) else values
    return values


def plainer(values: dict[str, str], factor: str) -> dict[str, str]:
    """The same with the first words of all factors that this one and the scheme as such can do without."""
    for name, words in FACTORS.items():
        if name not in (factor, *HEAD) and values[name] != words[0]:
            changed = values | {name: words[0]}
            values = changed if valid(changed) else values
    return values


def known(rng: random.Random) -> dict[tuple[str, str], list[dict[str, str]]]:
    """For every word of a factor some schemes that have it, and little else."""
    found: dict[tuple[str, str], list[dict[str, str]]] = {}
    plain = {name: words[0] for name, words in FACTORS.items()}
    for dtype in FACTORS["dtype"]:
        for _ in range(5):
            values = drawn(plain, rng, 0.5)
            values = values | {"dtype": dtype} if valid(values | {"dtype": dtype}) else plain | {"dtype": dtype}
            for _ in range(3):
                values = drawn(values, rng, 0.5, ["dtype"])
            for word in values.items():
                if len(found.setdefault(word, [])) < 6:
                    found[word].append(plainer(values, word[0]))
    return found


@cache
def design(seed: int = 0) -> tuple[list[dict[str, str]], list[Pair]]:
    """The schemes, and the pairs that no scheme was found to hold."""
    rng = random.Random(seed)
    having = known(rng)
    names = sorted(FACTORS)
    open_pairs: dict[Pair, None] = {
        ((a, u), (b, v)): None for a, b in combinations(names, 2) for u in FACTORS[a] for v in FACTORS[b]
    }
    chosen: list[dict[str, str]] = []
    for _ in range(2):  # again, when more schemes are known
        for pair in list(open_pairs):
            if pair not in open_pairs:
                continue
            tries = (values | dict(pair) for word in pair for values in having.get(word, []))
            found = next(filter(valid, tries), None)
            if found is None:
                continue
            for word in pair:
                having[word] = [found, *having.get(word, [])][:12]
            chosen.append(drawn(drawn(found, rng, 0.6, dict(pair)), rng, 0.4, dict(pair)))
            for covered in pairs_of(chosen[-1]):
                open_pairs.pop(covered, None)
    return chosen, list(open_pairs)


def test_the_design_covers_every_pair() -> None:
    covered = {pair for values in design()[0] for pair in pairs_of(values)}
    total = sum(len(FACTORS[a]) * len(FACTORS[b]) for a, b in combinations(sorted(FACTORS), 2))
    assert len(covered) + len(design()[1]) == total
    assert len(design()[1]) < total / 10


def test_impossible_pairs_are_refused_by_a_rule() -> None:
    # with everything else free, and more freely than the design chose it
    rng = random.Random(1)
    for pair in rng.sample(design()[1], 60):
        fixed = dict(pair)
        for _ in range(40):
            values = {name: rng.choice(words) for name, words in FACTORS.items()} | fixed
            assert not valid(values), spelled(values)


def test_a_missing_pair_would_be_found() -> None:
    covered = {pair for values in design()[0][:-1] for pair in pairs_of(values)}
    assert len(covered) < len({pair for values in design()[0] for pair in pairs_of(values)})


def small_array(s: kb.Scheme, form: str, numbers: np.random.Generator) -> np.ndarray[Any, Any]:
    """Something that the scheme may accept: random numbers, or what the probe holds for it."""
    x = random_array(numbers, form)
    if numbers.random() < 0.3:
        x = in_form(kb.probe(s).reshape(64, 64)[numbers.integers(0, 64, 3), :16], form)
    if s["tail"] == "error":  # nothing may be left over
        x = np.resize(x, (5, 8) if s.cut.axis is None else (3, 8))
    return x


@pytest.mark.parametrize("part", range(8))
def test_engine_equals_definition_on_the_design(part: int) -> None:
    numbers = np.random.default_rng(part)
    schemes = [(kb.scheme(spelled(values)), values["form"]) for values in design()[0][part::24]]  # a third of them
    answered = sum(compare(s, random_array(numbers, form), form) for s, form in schemes)
    assert answered > len(schemes) / 3  # the others refuse NaN, infinity, a scale out of range


@pytest.mark.slow
@pytest.mark.parametrize("part", range(8))
def test_every_scheme_of_the_design_answers(part: int) -> None:
    numbers = np.random.default_rng(part)
    refused = []
    for values in design()[0][part::8]:
        s, form = kb.scheme(spelled(values)), values["form"]
        if not any(compare(s, small_array(s, form, numbers), form) for _ in range(40)):
            refused.append(str(s))
    assert refused == []


def in_form(x: np.ndarray[Any, Any], form: str) -> np.ndarray[Any, Any]:
    """Rounded to the format; bfloat16 as float32 numbers."""
    with np.errstate(over="ignore", under="ignore"):
        if form == "bfloat16":
            return (x.view(np.uint32) & np.uint32(0xFFFF0000)).view(np.float32)
        return x.astype(form)


@pytest.mark.slow
@pytest.mark.parametrize("part", range(16))
def test_engine_equals_definition_on_the_probe(part: int) -> None:
    for values in design()[0][part::16]:
        s = kb.scheme(spelled(values))
        x = in_form(kb.probe(s)[:4], values["form"])
        compare(s, x, values["form"])


@pytest.mark.slow
@pytest.mark.parametrize("name", kb.profiles())
def test_profiles_equal_the_definition_on_their_probe(name: str) -> None:
    assert compare(kb.scheme(name), kb.probe(name), "float32")


@settings(max_examples=150, deadline=None)
@given(
    which=st.integers(0, 10**6),
    words=st.lists(st.integers(0, 2**32 - 1), min_size=30, max_size=30),
    moderate=st.booleans(),
)
def test_any_float32_equals_the_definition(which: int, words: list[int], moderate: bool) -> None:
    """Domain: any 30 float32 bit patterns; half of the time with exponents near 0, so that scales are in range."""
    bits = np.array(words, np.uint32)
    if moderate:
        bits = (bits & np.uint32(0x83FFFFFF)) | np.uint32(0x3C000000)
    s = kb.scheme(spelled(design()[0][which % len(design()[0])]))
    compare(s, bits.view(np.float32).reshape(5, 6), "float32")
