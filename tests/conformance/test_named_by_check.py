"""`kb.check` alone names the mistake: quantizers made of mutants, given as functions and asked as anybody's are.

Of each scheme every third mutant is tried here. Those that agree change nothing that `check` compares for the scheme.
"""

from collections.abc import Callable, Iterator, Mapping
from typing import Any

import pytest

import kbit_ref as kb
from kbit_ref.conformance.variants import Mutant, mutants
from kbit_ref.tensors.scheme import Scheme
from kbit_ref.tensors.steps import Runner, reference

SCHEMES = (
    *("nf4-b64-absmax-f32", "int4-b32-absmax-f32", "ggml-q4_0", "ocp-mxfp4"),
    *("bnb-cuda-nf4-double", "uint4-b128-minmax-f16"),
)


def quantizer(s: Scheme, mutant: Mutant | None) -> Callable[[Any], Mapping[str, Any]]:
    """What a user would write: from an array to the parts that are stored, and what is read back."""

    def quantize(x: Any) -> Mapping[str, Any]:
        right = reference(s, x.dtype.name)
        steps = right if mutant is None else mutant(right)
        assert steps is not None
        return {name: part for name, part in Runner(x)(steps, keep=False).parts().items() if name != "codes"}

    return quantize


def some(s: Scheme, first: int) -> Iterator[Mutant]:
    """Every third mutant that applies, from one on."""
    yield from [mutant for mutant in mutants().values() if mutant.applies(s)][first % 3 :: 3]


@pytest.mark.parametrize("text", SCHEMES)
def test_the_reference_agrees(text: str) -> None:
    verdict = kb.check(quantizer(kb.scheme(text), None), text)
    assert verdict.status == "agree", str(verdict)


@pytest.mark.slow
def test_mutants_are_named() -> None:
    tried, first, missed = 0, 0, []
    for i, text in enumerate(SCHEMES):
        s = kb.scheme(text)
        for mutant in some(s, i):
            verdict = kb.check(quantizer(s, mutant), s)
            if verdict.status == "agree":
                continue
            names = verdict.diagnosis.names if verdict.diagnosis is not None else ()
            tried, first = tried + 1, first + (names[:1] == (mutant.name,))
            if mutant.name not in names:
                missed.append((text, mutant.name, names[:1]))
    assert tried > 120
    assert first + len(missed) >= 0.95 * tried
    assert len(missed) <= 0.04 * tried, missed
