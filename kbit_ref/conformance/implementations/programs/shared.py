"""A function of a shared library as a program: our lines become calls, what it writes becomes lines.

The calls are made in another process (`shared_worker`): a crash, a hang or a write to a wrong place
does nothing to this one.
"""

from __future__ import annotations

import json
import sys
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from itertools import islice, tee
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from kbit_ref.arithmetic import same
from kbit_ref.conformance.definition import repacked
from kbit_ref.conformance.implementations.programs.grammar import ARROW, Case, Field, Form, Words
from kbit_ref.conformance.implementations.programs.process import run
from kbit_ref.conformance.implementations.programs.signature import Call, Parameter, parse
from kbit_ref.conformance.inputs.of_types import to_float64
from kbit_ref.errors import BadInput, message
from kbit_ref.tensors.packing import unpack

__all__ = ["Shared"]

WORKER = Path(__file__).with_name("shared_worker.py")
VALUES_AT_ONCE = 1021  # values of a data type in a call: no multiple of what vector instructions take


@dataclass(frozen=True)
class Shared:
    """A function of a library, for lines of one form.

    Parameters
    ----------
    form
        Of the lines.
    library
        A file, or the name of a library that the system finds.
    declaration
        Of the function; see `signature`.
    timeout
        Seconds that a call may take.

    Raises
    ------
    BadInput
        `check: call = '...', nothing is written to it; ...`
    """

    form: Form
    library: str
    declaration: str
    timeout: float

    def __post_init__(self) -> None:
        f, call = self.form, self.call
        reads, writes = self._names()
        for p in call.parameters:
            if p.array and p.const and p.name not in (*reads, "levels"):
                self._refuse(f"{p.name} is not given", f"to {f.what}, it is given {', '.join(reads)}")
            if p.array and not p.const and p.name not in writes:
                self._refuse(f"{p.name} is const, or is not written", f"to {f.what}, it writes {', '.join(writes)}")
            if p.name == "x" and (p.real or p.array) and p.real and p.kind != f.source:
                self._refuse(f"x holds {p.kind}, the numbers are {f.source}", f"add --from {p.kind}")
        if call.for_each:
            if not f.is_type or call.result is None or call.find(reads[0]) is None:
                self._refuse("it takes no array", f"for a data type, it returns {writes[0]} of {reads[0]}")
            return
        codes = {"codes", "packed"}
        needed = [name for name in writes if name not in codes]
        missing = [name for name in needed if call.find(name) is None]
        if codes & set(writes) and not any(call.find(name) for name in codes & set(writes)):
            missing.append("codes or packed" if "packed" in writes else "codes")
        if missing:
            self._refuse(f"{missing[0]} is not written", f"to {f.what}, it writes {', '.join(writes)}")

    @property
    def call(self) -> Call:
        """Parse the declaration."""
        return parse(self.declaration)

    @property
    def name(self) -> str:
        """Return the file and the function, for errors."""
        return f"{Path(self.library).name}:{self.call.name}"

    def _names(self) -> tuple[list[str], list[str]]:
        """Return the names of what the function reads and of what it writes."""
        sides = [[field.name for field in side] for side in self.form.sides(1)]
        for side in sides:
            if "packed" in side:
                side.append("codes")
        return sides[0], sides[1]

    def _refuse(self, rule: str, remedy: str) -> None:
        raise BadInput(message("check", f"call = {self.declaration!r}", rule, remedy))

    def ask(self, lines: Iterable[str]) -> Iterator[str]:
        """Yield the lines with their answers, as `process.run` gives those of a program."""
        f, call = self.form, self.call
        for_calls, for_answers = tee(lines)
        at_once = VALUES_AT_ONCE if f.is_type and not call.for_each else 1
        requests = (json.dumps(self._arguments(cases)) for cases in _groups(f, for_calls, at_once))
        library = str(Path(self.library).resolve()) if Path(self.library).exists() else self.library
        command = [sys.executable, "-I", str(WORKER), library, call.name, call.result or ""]
        answers = run(command, requests, self.timeout, self.name)
        for cases in _groups(f, for_answers, at_once):
            answer = next(answers, None)
            if answer is None:
                return
            if answer.startswith("!"):
                raise BadInput(message("check", self.name, answer[1:], "mend the library or its declaration"))
            yield from self._lines(cases, json.loads(answer))
        yield from answers  # its end: an exit code, or more than was asked for

    # One call ------------------------------------------------------------------------------------

    def _arguments(self, cases: Sequence[Case]) -> list[list[Any]]:
        """Return name, how, kind and value of each argument."""
        f, n = self.form, sum(case.n for case in cases)
        given = self._given(cases)
        numbers = _numbers(f, n)
        found: list[list[Any]] = []
        for p in self.call.parameters:
            if p.array and not p.const:
                found.append([p.name, "take", p.kind, _fields(f, n, 1)[p.name].count])
            elif p.array:
                found.append([p.name, "give", p.kind, _as_c(p, *given[p.name]).tolist()])
            elif p.value is not None or p.name in numbers:
                found.append([p.name, "number", p.kind, numbers[p.name] if p.value is None else p.value])
            else:
                found.append([p.name, "number", p.kind, int(_as_c(p, *given[p.name])[0])])
        return found

    def _given(self, cases: Sequence[Case]) -> dict[str, tuple[Field, Words]]:
        """Return the arrays that the function may read, by name."""
        f, n = self.form, sum(case.n for case in cases)
        words, at = np.array([case.given for case in cases], np.uint64).reshape(-1), 0
        found: dict[str, tuple[Field, Words]] = {}
        fields = _fields(f, n, 0)
        for name in [name for name in fields if f.is_type or name != "codes"]:
            found[name] = fields[name], words[at : at + fields[name].count]
            at += fields[name].count
        if "packed" in found:
            codes = unpack(found["packed"][1].astype(np.uint8), f.scheme.layout, n)
            found["codes"] = fields["codes"], codes.astype(np.uint64)
        kind = f.dtype.level_dtype.name
        levels = Field("levels", kind, 2**f.dtype.bits)
        found["levels"] = levels, levels.words(f.dtype.levels)
        return found

    def _lines(self, cases: Sequence[Case], answer: list[list[int]]) -> Iterator[str]:
        """Yield the answers of a call, as the lines of its cases."""
        f, n = self.form, sum(case.n for case in cases)
        fields, call = _fields(f, n, 1), self.call
        written = [p for p in call.parameters if p.array and not p.const]
        if call.for_each:
            written = [Parameter(next(iter(fields)), call.result or "", array=True)]
        elif call.result is not None and answer[-1] != [0]:
            got = f"{self.name} for {cases[0].n} numbers"
            raise BadInput(
                message("check", got, f"it returned {answer[-1][0]}", "if that is no error, declare it void")
            )
        found = {p.name: self._from_c(p, fields[p.name], words) for p, words in zip(written, answer, strict=False)}
        if f.is_type:
            (words,) = found.values()
            sides = zip(cases, words[:, None], strict=True)
        else:
            if "packed" in fields and "packed" not in found:
                codes = found["codes"].astype(np.uint8)
                found["packed"] = repacked(f.scheme, codes, f.scheme.layout).astype(np.uint64)
            order = [name for name in fields if f.what == "decode" or name != "codes"]
            sides = zip(cases, [np.concatenate([found[name] for name in order])], strict=True)
        for case, words in sides:
            yield f"{f.spell(case.n, np.array(case.given, np.uint64))} {ARROW} {f.spell(case.n, words, 1)}"

    def _from_c(self, p: Parameter, field: Field, words: list[int]) -> Words:
        """Return the array that was written, as the words of a field."""
        theirs = Field(p.name, p.kind, len(words))
        array = np.array(words, np.uint64)
        if p.kind == field.kind:
            return array
        numbers = theirs.numbers(array)
        fits = _reals(numbers, p.kind)
        if p.real:
            found = field.words(fits)
            back = _reals(field.numbers(found), field.kind)
            good = same(back, fits, zeros=False)
        else:  # the number, or the bits of a real one
            low = -(2 ** (field.bits - 1)) if field.kind == "int8" else 0
            good = (fits >= low) & (fits < low + 2**field.bits)
            found = array & np.uint64(2**field.bits - 1)
        if not good.all():
            i = int(np.flatnonzero(~good)[0])
            got = f"{self.name}: {p.name}[{i}] = {numbers[i]}"
            rule = f"it is no number of {field.bits} bits, {field.kind}"
            raise BadInput(message("check", got, rule, "round it to what is stored"))
        return found


def _groups(f: Form, lines: Iterable[str], most: int) -> Iterator[list[Case]]:
    """Yield cases of our own lines, so many at a time."""
    while some := list(islice(lines, most)):
        yield [f.given(line) for line in some]


def _fields(f: Form, n: int, side: int) -> dict[str, Field]:
    """Return what a call for n numbers reads or writes; codes besides the bytes that hold them."""
    if f.is_type:
        return {field.name: Field(field.name, field.kind, n) for field in f.sides(1)[side]}
    found = {field.name: field for field in f.sides(n)[side]}
    if "packed" in found:
        found["codes"] = Field("codes", f"uint{f.dtype.bits}", n)
    return found


def _numbers(f: Form, n: int) -> dict[str, int]:
    """Return the numbers that a function may ask for."""
    found = {"n": n, "rows": 1, "columns": n, "n_levels": 2**f.dtype.bits}
    if not f.is_type:
        s = f.scheme
        found |= {"block_size": s.cut.size or n, "n_blocks": s.cut.per_row(n), "n_bytes": s.layout.size(n)}
    return found


def _as_c(p: Parameter, field: Field, words: Words) -> Words:
    """Convert words of a field to those of a C type: the number in a real or a wider integer, else the bits."""
    if p.kind == field.kind or (not p.real and field.is_real):
        return words
    numbers = _reals(field.numbers(words), field.kind)
    return Field(p.name, p.kind, field.count).words(numbers)


def _reals(numbers: NDArray[Any], kind: str) -> NDArray[np.float64]:
    """Convert numbers to float64."""
    return to_float64(numbers, kind) if kind == "bfloat16" else numbers.astype(np.float64)
