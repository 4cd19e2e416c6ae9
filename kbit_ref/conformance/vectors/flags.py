"""Find the mutants that a test kills. The flags of a test are all of them, so that a failure names what is wrong."""

from __future__ import annotations

from collections.abc import Iterator
from functools import lru_cache
from typing import Any

import numpy as np

from kbit_ref.conformance.variants import Mutant, mutants
from kbit_ref.conformance.vectors.implementations import of_steps, reference_of
from kbit_ref.conformance.vectors.judge import WRITING, judge_one, questions
from kbit_ref.conformance.vectors.model import Test
from kbit_ref.datatypes.datatype import DataType
from kbit_ref.tensors.packing import Layout
from kbit_ref.tensors.scheme import Scheme
from kbit_ref.tensors.steps import Runner, Steps

__all__ = ["killed", "kills", "note"]

Subject = Scheme | DataType | Layout
STEPS = {"dtype": {"read", "encode", "level"}, "layout": {"pack", "unpack"}}  # that a group of a type goes through


def killed(subject: Subject, kind: str, test: Test) -> tuple[str, ...]:
    """Return the names of the mutants that give a wrong answer to a test, sorted."""
    return tuple(sorted(_killed(subject, kind, test)))


def kills(subject: Subject, kind: str, test: Test, name: str) -> bool:
    """Return whether this mutant gives a wrong answer."""
    return name in set(_killed(subject, kind, test, name))


def _killed(subject: Subject, kind: str, test: Test, only: str | None = None) -> Iterator[str]:
    x = test.arrays.get("inputs/x")
    source = "float32" if x is None else str(x.dtype)
    every = list(questions(kind, test))
    runner = Runner(x) if kind == "scheme" and x is not None and test.result != "invalid" else None
    if runner is not None:
        with np.errstate(all="ignore"):
            runner.write(reference_of(subject, source))  # what mutants have in common with it is remembered
    for name, (mutant, steps) in _mutated(subject, kind, source, only).items():
        sides = {"writer", "both"}, {"reader", "both"}
        concerned = [q for q in every if mutant.side in sides[q.verb not in WRITING]]
        if any(judge_one("", question, of_steps(steps, runner)) for question in concerned):
            yield name


@lru_cache(maxsize=4)
def _mutated(subject: Subject, kind: str, source: str, only: str | None) -> dict[str, tuple[Mutant, Steps]]:
    """Return the mutants that go with a subject, and their steps."""
    steps = reference_of(subject, source)
    found = {}
    for name, mutant in mutants().items():
        if only in (None, name) and set(mutant.steps) <= STEPS.get(kind, set(mutant.steps)):
            wrong = mutant(steps)
            if wrong is not None:
                found[name] = mutant, wrong
    return found


def note(name: str) -> dict[str, Any]:
    """Return what a file says of a flag, read from the registry of mutants."""
    found = mutants()[name]
    stage = found.stage if found.side == "both" else f"{found.side}: {found.stage}"
    link = [found.source] if found.source.startswith("https://") else []
    effect = {
        "writer": "what is stored is wrong",
        "reader": "what is stored is right, and read as other numbers",
        "both": "writer and reader share the mistake: nothing shows until one of them meets another implementation",
    }[found.side]
    return {"bugType": stage, "description": found.why, "effect": effect, "links": link}
