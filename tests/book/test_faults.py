"""Planted faults: the right quantizers agree, the faulty ones are named in the first line, as the page says."""

import re
from pathlib import Path
from typing import Any

import pytest

import kbit_ref as kb
from kbit_ref.book import FOLDER
from kbit_ref.book.faults import DECLARATION, FAULTS, IN_C, NF, RIGHT, Planted, compiled, escaped, first_line
from kbit_ref.conformance.programs import judge_shared

PAGE = (FOLDER / "faults.md").read_text("utf-8")


def judged(function: Any, subject: str, shapes: bool | str) -> Any:
    return kb.check(function, subject) if shapes is True else kb.check(function, subject, shapes=shapes)


def in_page(first: str) -> bool:
    """Does the page say so, whichever of several equal choices is told?"""
    return escaped(first.partition("; +")[0]) in PAGE


@pytest.mark.parametrize("subject", RIGHT)
def test_the_right_ones_agree(subject: str) -> None:
    function, shapes = RIGHT[subject]
    verdict = judged(function, subject, shapes)
    assert verdict.agree, str(verdict)


def test_there_are_enough_of_them() -> None:
    assert len(FAULTS) + len(IN_C) >= 24
    assert all(escaped(planted.fault) in PAGE for planted in FAULTS)


@pytest.mark.slow
@pytest.mark.parametrize("planted", FAULTS, ids=lambda planted: f"{planted.subject}: {planted.fault}")
def test_a_planted_fault_is_named_first(planted: Planted) -> None:
    first = first_line(str(judged(planted.function, planted.subject, planted.shapes)))
    assert re.search(planted.named, first), first
    assert in_page(first), "write it again: python -m kbit_ref.book faults"


@pytest.mark.slow
@pytest.mark.parametrize("number", [0, *IN_C])
def test_a_fault_in_c_is_named_first(number: int, tmp_path: Path) -> None:
    library = compiled(number, tmp_path)
    if library is None:
        pytest.skip("no C compiler")
    verdict = judge_shared(NF, str(library), DECLARATION)
    assert verdict.agree == (number == 0)
    if number:
        first = first_line(str(verdict))
        assert re.search(IN_C[number][1], first.partition("; the first")[0]), first
        assert in_page(first)
