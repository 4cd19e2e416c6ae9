"""What becomes of blocks that a scheme has no answer for: told in a sentence, and judged by what comes back."""

import numpy as np
import pytest

import kbit_ref as kb
from kbit_ref.conformance import refused
from kbit_ref.conformance.departures import Departure
from kbit_ref.conformance.findings import findings_of

INT4 = "int4-b32@-1-absmax-f16"
F16 = np.float16


def quantizer(of_zero_scale, store=F16):
    """A quantizer as one writes it: `of_zero_scale` makes codes of a block whose scale is stored as 0."""

    def mine(x):
        largest = np.abs(x).max(axis=1, keepdims=True)
        with np.errstate(all="ignore"):
            scales = (largest / np.float32(7)).astype(store).astype(np.float32)
            levels = np.clip(np.rint(x / np.where(scales == 0, 1, scales)), -8, 7)
            levels = np.where((scales == 0) & (largest != 0), of_zero_scale(x), levels)
            decoded = np.where(levels == 0, 0, levels * scales)
        return {"values": np.where(np.isfinite(x), decoded, np.nan)}

    return mine


def says(of_zero_scale, spelling=INT4, **options):
    verdict = kb.check(quantizer(of_zero_scale, **options), spelling + "+zero_sign=positive", shapes=False)
    return verdict, verdict.special("refused")


def test_what_is_lost_is_said() -> None:
    """The smallest scale of float16 is 2**-24: 2**-24 is held, but its scale of 2**-24 / 7 is stored as 0.

    A scale that is kept as 0 is a choice with a name.
    """
    verdict, found = says(np.zeros_like)
    assert verdict.part("decoded").status == "agree"
    assert (found.word, found.status, found.choice) == ("lost", "told", "+scalerange=keep")
    assert "9 lost (the largest number of a block comes back as less than half of itself" in found.does
    assert "smallest [5.9604645e-08, 0 x 31]: 5.9604645e-08 comes back as 0, by the nearest scale as 5.96" in found.does
    assert verdict.agree
    assert f"  {found.part} (float32): {found.does}" in str(verdict).splitlines()


def test_what_no_choice_loses_disagrees() -> None:
    """The smallest normal float16 for all that has a smaller scale."""
    right = quantizer(np.zeros_like)

    def mine(x):
        values = right(x)["values"]
        lost = (np.abs(x).max(axis=1, keepdims=True) < 2**-23) & (x != 0)
        return {"values": np.where(lost, np.copysign(np.float32(2**-14), x), values)}

    verdict = kb.check(mine, INT4 + "+zero_sign=positive", shapes=False)
    found = verdict.special("refused")
    assert (found.word, found.status, found.choice, verdict.status) == ("lost", "disagree", "", "disagree")
    assert "comes back as 6.1035156e-05, by the nearest scale as 0" not in found.does
    assert str(verdict).splitlines()[0].startswith(f"{verdict.spelling}: disagree: blocks without an answer: ")
    (finding,) = findings_of([verdict])
    assert (finding.cause, finding.parts) == ("lost", ("blocks without an answer",))


def test_what_the_format_cannot_hold_may_be_lost() -> None:
    """Numbers below half of the smallest scale are 0 in any case, and those above the largest have no scale."""
    _, found = says(np.zeros_like)
    assert "182 come back as near as the format can, 77 lie beyond the format" in found.does
    exact = np.float32(2**-24)

    def held(x):
        return np.where(np.abs(x) >= exact / 2, np.inf, 0)  # times a scale of 0

    assert says(held)[1].word == "not finite"


def test_nan_for_small_numbers_is_not_finite() -> None:
    _, found = says(lambda x: np.full_like(x, np.nan))
    assert (found.word, found.status) == ("not finite", "disagree")
    assert "191 not finite (a finite number comes back as an infinity or NaN), 77 lie beyond" in found.does


@pytest.mark.parametrize("clamped", [False, True])
def test_a_subnormal_maximum_in_float32(clamped: bool) -> None:
    """1e-45 / 7 is 0 in float32, and 1e-45 * 1 is 1e-45."""
    spelling = "int4-b32@-1-absmax-f32"
    answers = spelling + "+scalerange=clamp" * clamped + "+scalerange=zeroblock" * (not clamped)
    verdict = kb.check(lambda x: kb.quantize(x, answers), spelling, shapes=False)
    found = verdict.special("refused")
    assert found.does.startswith("8 blocks that are refused (only a block of zeros has that): 8 ")
    expected = ("near", "agree", "") if clamped else ("lost", "told", "+scalerange=keep")
    assert (found.word, found.status, found.choice) == expected
    assert verdict.agree
    assert ("smallest [3e-45, 0 x 31]: 3e-45 comes back as 0, by the nearest scale as 3e-45" in found.does) != clamped


def test_who_raises_refuses_as_the_scheme_does() -> None:
    verdict = kb.check(lambda x: kb.quantize(x, INT4), INT4)
    assert verdict.special("refused") is None
    assert verdict.agree


def test_the_one_scale_of_an_array_that_cannot_be_stored() -> None:
    """Of an array that is refused as a whole the largest number alone must come back."""
    spelling = "e2m1fn-b16@-1-absmax-e4m3fn+global=multiplier"

    def zeros(x):
        try:
            return {"values": kb.dequantize(kb.quantize(x, spelling))}
        except kb.KbitError:
            return {"values": np.where(np.isfinite(x), np.float32(0), np.nan)}

    found = kb.check(zeros, spelling, shapes=False).special("refused")
    assert (found.word, found.status) == ("lost", "disagree")


def test_what_is_on_record_of_a_profile_is_no_disagreement(monkeypatch: pytest.MonkeyPatch) -> None:
    """A law that the profile breaks too, or an answer that it does not have, is in the departures."""


    def nan(x):
        return np.full_like(x, np.nan)

    def status(*effects):
        made = [Departure("p", (), each, True, *[0] * 3, *[0.0] * 4, (), "", *[0.0] * 3) for each in effects]
        monkeypatch.setattr("kbit_ref.conformance.judge.faults", lambda profile: tuple(made))
        return says(nan)[1].status

    assert [status(), status("changed")] == ["disagree", "disagree"]
    assert [status("not finite"), status("no answer")] == ["told", "told"]


def test_the_laws_are_those_of_departures() -> None:
    assert refused.BROKEN == ("not finite", "lost", "zero moved", "sign of zero")
