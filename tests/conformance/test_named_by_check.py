"""`kb.check` alone names the mistake: quantizers made of mutants, given as functions and asked as anybody's are.

Those that agree change nothing that `check` compares for the scheme; `data/kill` says why.
"""

from collections.abc import Callable, Mapping
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


@pytest.mark.parametrize("text", SCHEMES)
def test_the_reference_agrees(text: str) -> None:
    verdict = kb.check(quantizer(kb.scheme(text), None), text)
    assert verdict.status == "agree", str(verdict)


@pytest.mark.parametrize(
    ("text", "name", "count"),
    [
        ("ggml-q4_0", "one-scale-a-row", "2 scales came back for 4 blocks"),
        ("ocp-mxfp4", "rows-padded", "32 packed bytes came back, layout low4 has 31"),
    ],
)
def test_an_answer_of_another_size_is_explained(text: str, name: str, count: str) -> None:
    verdict = kb.check(quantizer(kb.scheme(text), mutants()[name]), text)
    assert verdict.status == "error"
    assert verdict.errors[0].startswith(count)
    assert f"({name}, " in verdict.errors[0]
    assert mutants()[name].why in verdict.errors[0]


def test_an_answer_of_another_size_that_no_mistake_gives_is_not() -> None:
    def doubled(x: Any) -> Mapping[str, Any]:
        parts = quantizer(kb.scheme("ggml-q4_0"), mutants()["one-scale-a-row"])(x)
        return {**parts, "scales": 2 * parts["scales"]}

    verdict = kb.check(doubled, "ggml-q4_0")
    assert verdict.status == "error"
    assert "one-scale-a-row" not in "".join(verdict.errors)


@pytest.mark.slow
def test_mutants_are_named() -> None:
    tried, first, missed = 0, 0, []
    for text in SCHEMES:
        s = kb.scheme(text)
        for mutant in (each for each in mutants().values() if each.applies(s)):
            verdict = kb.check(quantizer(s, mutant), s)
            if verdict.status == "agree":
                continue
            names = verdict.diagnosis.names if verdict.diagnosis is not None else ()
            named = f"({mutant.name}, " in "".join(verdict.errors)
            tried, first = tried + 1, first + (named or names[:1] == (mutant.name,))
            if not named and mutant.name not in names:
                missed.append((text, mutant.name, names[:1]))
    assert tried > 400
    assert first >= 0.98 * tried, (first, tried)
    assert [name for _, name, _ in missed] == ["zero-block-nan"]  # of which the NaN is refused: an error, not a name
