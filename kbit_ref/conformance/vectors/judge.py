"""Run one test of a file of vectors on an implementation, and judge its answers.

An implementation is one function: a verb, the name of a scheme, data type or layout, and arrays, to arrays.

    quantize      x                          -> codes, packed, scales, offsets, zero_points, ...; what it has of them
    dequantize    shape, packed, scales, ... -> values
    encode        x                          -> codes             decode    codes     -> values
    pack          codes                      -> packed            unpack    packed, n -> codes

It refuses by raising an exception. Only what it returns is judged: a missing part is not, and a test for which it
raises NotImplementedError or returns None is left out and counted.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from kbit_ref.arithmetic import same
from kbit_ref.conformance.vectors.model import Test
from kbit_ref.errors import BadInput

__all__ = ["WRITING", "Ended", "Given", "Implementation", "Question", "judge", "judge_one", "put", "questions"]

Array = NDArray[Any]
WRITING = ("quantize", "encode", "pack")  # the other verbs read what is stored
Implementation = Callable[[str, str, Mapping[str, Array]], Mapping[str, Any]]


class Ended(BadInput):
    """An implementation that has ended: no refusal, and the end of the check."""


@dataclass(frozen=True)
class Question:
    """A question to an implementation.

    Parameters
    ----------
    verb, arrays
        As above.
    answers
        What is right, any of them; none if it must refuse.
    """

    verb: str
    arrays: Mapping[str, Array]
    answers: tuple[Mapping[str, Array], ...] = ()


def questions(kind: str, test: Test) -> Iterator[Question]:
    """Yield the questions of a test of a group of that type."""
    inputs, answers = test.under("inputs"), list(test.answers().values())
    expected = answers[0]
    refuse = test.result == "invalid"
    if kind == "layout":
        yield Question("pack", inputs, () if refuse else (expected,))
        if not refuse:
            yield Question("unpack", {"packed": expected["packed"], "n": np.array(inputs["codes"].size)}, (inputs,))
    elif kind == "dtype":
        verb = "encode" if "x" in inputs else "decode"
        yield Question(verb, inputs, () if refuse else tuple(answers))
    elif "x" in inputs:
        without = [{part: array for part, array in one.items() if part != "values"} for one in answers]
        yield Question("quantize", inputs, () if refuse else tuple(without))
        if not refuse:
            stored = {part: array for part, array in expected.items() if part not in ("codes", "values")}
            yield Question("dequantize", _with_shape(stored, inputs["x"]), ({"values": expected["values"]},))
    else:
        stored = {part: array for part, array in inputs.items() if part != "codes"}
        yield Question("dequantize", _with_shape(stored, inputs["codes"]), ({"values": expected["values"]},))


def _with_shape(stored: Mapping[str, Array], like: Array) -> dict[str, Array]:
    return {"shape": np.array(like.shape, np.int64), **stored}


@dataclass(frozen=True)
class Given:
    """The answer to a question, or the reason there is none; neither if the question is left out."""

    question: Question
    parts: Mapping[str, Any] | None = None
    refused: str = ""

    @property
    def left_out(self) -> bool:
        """Return whether the implementation has no answer to this question."""
        return self.parts is None and not self.refused

    def wrong(self) -> list[str]:
        """Return what is wrong with it, a line each; nothing if it is right or left out."""
        verb = self.question.verb
        if self.parts is None:
            return [f"{verb}: refused ({self.refused})"] if self.refused and self.question.answers else []
        if not self.question.answers:
            return [f"{verb}: accepted, and must be refused"]
        return min((list(_wrong(verb, self.parts, right)) for right in self.question.answers), key=len)


def put(name: str, question: Question, implementation: Implementation) -> Given:
    """Ask an implementation one question."""
    try:
        parts = implementation(question.verb, name, question.arrays)
        if parts is not None and not isinstance(parts, Mapping):
            return Given(question, refused=f"its answer is a {type(parts).__name__}, no dict of arrays")
        return Given(question, parts)
    except Ended:
        raise
    except NotImplementedError:
        return Given(question)
    except Exception as error:  # whatever it raises is a refusal
        return Given(question, refused=" ".join(str(error).split())[:200] or type(error).__name__)


def judge(kind: str, name: str, test: Test, implementation: Implementation) -> list[Given]:
    """Ask an implementation all questions of a test."""
    return [put(name, question, implementation) for question in questions(kind, test)]


def judge_one(name: str, question: Question, implementation: Implementation) -> list[str]:
    """Return what is wrong with the answer to one question."""
    return put(name, question, implementation).wrong()


def _wrong(verb: str, got: Mapping[str, Any], right: Mapping[str, Array]) -> Iterator[str]:
    """Yield the parts that differ from one of the right answers."""
    parts = [part for part in right if got.get(part) is not None]
    if not parts:
        yield f"{verb}: no answer has {' or '.join(right)}"
    for part in parts:
        try:
            theirs = np.asarray(got[part]).reshape(-1)
            ours = right[part].reshape(-1)
            if theirs.size != ours.size:
                yield f"{verb}: {part} has {theirs.size} numbers, not {ours.size}"
                continue
            at = np.flatnonzero(~_alike(theirs, ours))
        except (TypeError, ValueError):
            yield f"{verb}: {part} holds no numbers"
            continue
        if at.size:
            more = f" and {at.size - 1} more" if at.size > 1 else ""
            yield f"{verb}: {part}[{at[0]}] = {theirs[at[0]]}, not {ours[at[0]]}{more}"


def _alike(theirs: Array, ours: Array) -> NDArray[np.bool_]:
    """Return whether numbers are equal, signs of zeros included; any NaN equals any other."""
    if ours.dtype.kind != "f":
        return np.asarray(theirs == ours)
    return same(theirs, ours)
