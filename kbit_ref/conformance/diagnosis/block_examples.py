"""Counterexamples: the first of its kind, shrunk by asking the library again, and taken apart."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from kbit_ref.arithmetic import widened
from kbit_ref.conformance.compare import Compared, Record, records
from kbit_ref.conformance.definition import Stored, independent
from kbit_ref.conformance.diagnosis.block_causes import (
    FOLLOWS,
    UNEXPLAINED,
    Explanation,
    decoded_causes,
    explained_by,
    other_numbers,
    plain_cause,
)
from kbit_ref.conformance.diagnosis.counterexample import counterexample, spell_code
from kbit_ref.conformance.diagnosis.shrink import complexity, shrink, spell_block
from kbit_ref.conformance.implementations.claims import BlockProfile
from kbit_ref.conformance.inputs.of_schemes import narrowed, shaped
from kbit_ref.conformance.reading import Refused
from kbit_ref.conformance.verdict import Counterexample
from kbit_ref.exact.rules import RULES
from kbit_ref.tensors.scheme import Scheme

__all__ = ["Shrinker"]

Array = NDArray[Any]
MOST_ALONE = 60  # variants that are asked about one by one in a round
Put = Callable[[Array, str], Compared]


class Shrinker:
    """Makes counterexamples for one profile."""

    def __init__(self, s: Scheme, profile: BlockProfile, ask: Any, put: Put):
        self.s, self.profile, self.put = s, profile, put
        self.explanations: Sequence[Explanation] = ()

    def of_records(
        self, part: str, cause: str, explanation: Explanation, members: Sequence[Record]
    ) -> Counterexample | None:
        """For the numbers of blocks and for codes."""
        with_part = [r for r in members if _in_part(part, r)]
        if not with_part:
            return None
        first = min(with_part, key=lambda r: (r.short, r.source != "float32", complexity(_floats(r))))
        compared, block = first.compared, first.block
        if not first.short and first.words.size > 1 and self.s.double is None:
            best = shrink(_floats(first), lambda blocks: self._shows(part, cause, explanation, blocks, first.source))
            again = self._twice(best, first.source)
            if again is not None and _shown(part, again, 0) and self._is_of(cause, part, again):
                compared, block = again, 0
        return self.example(part, compared, block)

    def of_elements(self, part: str, cause: str, compared: Compared, where: NDArray[np.bool_]) -> Counterexample | None:
        """For decoded numbers and bytes."""
        if part == "packed":
            return self.first(part, compared, where)
        blocks = np.unique(compared.index[where])
        if independent(self.s):
            record = records(self.s, compared, blocks[:1])[0]
            if not record.short and record.words.size > 1:
                source = record.source
                best = shrink(_floats(record), lambda some: self._decodes(cause, some, source))
                again = self._twice(best, source)
                if again is not None and cause in _causes(self.s, again):
                    return self._decoded(again, _causes(self.s, again)[cause])
        simple = self._simple_array(cause, compared)
        if simple is not None:
            return self._decoded(simple, _causes(self.s, simple)[cause], whole=True)
        return self._decoded(compared, where, whole=True)

    def first(self, part: str, compared: Compared, where: NDArray[np.bool_]) -> Counterexample:
        """The first byte or decoded number that differs, as it is."""
        if part == "decoded":
            return self._decoded(compared, where, whole=True)
        at = int(np.flatnonzero(where)[0])
        assert compared.theirs.packed is not None
        assert compared.theirs.repacked is not None
        texts = f"byte {at} is 0x{compared.theirs.packed[at]:02x}", f"0x{compared.theirs.repacked[at]:02x}"
        return Counterexample(compared.case.source, _shape(compared), *texts)

    # What shows a difference ---------------------------------------------------------------------

    def _compared(self, blocks: Array, source: str) -> Compared | None:
        words = shaped(narrowed(blocks, source), self.s, self.profile.blocks)
        try:
            return self.put(words, source)
        except Refused:
            return None

    def _twice(self, block: NDArray[np.float32], source: str) -> Compared | None:
        """An array of that block, two of it where blocks are independent: one row is special to some libraries."""
        return self._compared(np.stack([block] * (2 if independent(self.s) else 1)), source)

    def _is_of(self, cause: str, part: str, again: Compared) -> bool:
        """Does the first block differ for that reason still, as far as the numbers of the block say?"""
        if part != "codes" or cause not in (UNEXPLAINED, FOLLOWS):
            return True
        return other_numbers(records(self.s, again, np.array([0]))[0]) == (cause == FOLLOWS)

    def _shows(self, part: str, cause: str, explanation: Explanation, blocks: Array, source: str) -> Array:
        """[n, size] -> [n]: blocks that differ in the part, for the same reason."""
        result = np.zeros(len(blocks), bool)
        if not independent(self.s) and len(blocks) > 1:  # each in an array of its own, up to the first
            for i, block in enumerate(blocks[:MOST_ALONE]):
                if self._shows(part, cause, explanation, block[None], source)[0]:
                    result[i] = True
                    break
            return result
        compared = self._compared(blocks, source)
        if compared is None or compared.case.words.size < blocks.size:
            return result
        found = [r for r in records(self.s, compared) if r.block < len(blocks) and _in_part(part, r)]
        if explanation.scheme is None:
            found = [r for r in found if plain_cause(r) == explanation.cause]
            for other in self.explanations:
                if other.scheme is not None and found:
                    taken = explained_by(other.scheme, found)
                    found = [r for r, gone in zip(found, taken, strict=True) if not gone]
            if part == "codes" and cause in (UNEXPLAINED, FOLLOWS):
                found = [r for r in found if other_numbers(r) == (cause == FOLLOWS)]
        elif found:
            fits = explained_by(explanation.scheme, found)
            found = [r for r, good in zip(found, fits, strict=True) if good]
        result[[r.block for r in found]] = True
        return result

    def _decodes(self, cause: str, blocks: Array, source: str) -> Array:
        result = np.zeros(len(blocks), bool)
        compared = self._compared(blocks, source)
        if compared is None or compared.case.words.size < blocks.size:
            return result
        where = _causes(self.s, compared).get(cause)
        if where is not None:
            hit = np.unique(compared.index[where])
            result[hit[hit < len(blocks)]] = True
        return result

    def _simple_array(self, cause: str, compared: Compared) -> Compared | None:
        """The smallest array of that many dimensions, block i full of i + 1, that shows it."""
        shape = compared.case.words.shape
        width = self.s.cut.size or self.profile.size
        if len(shape) != 2:
            return None
        for columns in dict.fromkeys((width, 3 * width // 2, shape[1])):
            for rows in dict.fromkeys((1, 2, 3, shape[0])):
                numbers = (np.arange(rows * columns).reshape(rows, columns) // width + 1).astype(np.float32)
                try:
                    again = self.put(narrowed(numbers, compared.case.source), compared.case.source)
                except Refused:
                    continue
                if cause in _causes(self.s, again):
                    return again
        return None

    # How it is told ------------------------------------------------------------------------------

    def example(self, part: str, compared: Compared, block: int) -> Counterexample:
        """A block that differs in a code or a number, taken apart."""
        if part == "decoded":
            return self._decoded(compared, compared.wrong[part] & (compared.index == block))
        record = records(self.s, compared, np.array([block]))[0]
        numbers = widened(record.words, record.source)
        text = spell_block(numbers)
        ours, theirs = compared.ours, compared.theirs.stored
        if part != "codes":
            values = [float(stored.blocks[part][block]) for stored in (theirs, ours)]
            rule = f"rule {self.s.rule}: {RULES[self.s.rule].__doc__}"
            texts = [f"{part} {_real(value)}" for value in values]
            return Counterexample(record.source, text, texts[0], texts[1], (rule,) if part == "scales" else ())
        inside = np.flatnonzero((compared.index == block).reshape(-1))
        wrong = inside[compared.wrong["codes"].reshape(-1)[inside]]
        at = int(wrong[0])
        where = int(np.flatnonzero(inside == at)[0])
        codes = [int(stored.codes.reshape(-1)[at]) for stored in (theirs, ours)]
        x = float(compared.case.numbers.reshape(-1)[at])
        raw = compared.theirs.raw
        came = None if raw is None or raw.reshape(-1)[at] == -1 else raw.reshape(-1)[at]  # -1: it was no level
        spelled = [spell_code(self.s.dtype, codes[0], came), spell_code(self.s.dtype, codes[1])]
        for i, stored in enumerate((theirs, ours)):
            about = _numbers_of(stored, block)
            spelled[i] += f"  ({about})" if about else ""
        steps = self._steps(x, compared, block, codes[1])
        return Counterexample(record.source, text, spelled[0], spelled[1], steps, at=f"[{where}] = {_real(x)}")

    def _steps(self, x: float, compared: Compared, block: int, code: int) -> tuple[str, ...]:
        """The scaled number between its neighbouring levels."""
        scales = compared.ours.blocks.get("scales")
        simple = self.s["scaleuse"] == "rounded" and self.s["global"] == "none" and self.s["scaleas"] == "multiplier"
        simple = simple and self.s["leastused"] == "none"
        if scales is None or not simple or RULES[self.s.rule].offset_added or RULES[self.s.rule].zero_point:
            return ()
        with np.errstate(all="ignore"):
            scale = np.float32(scales[block])
            if scale == 0:
                return ("our scale is 0: nothing is divided by it, every number is encoded as 0",)
            reciprocal = self.s["arith"] == "reciprocal"
            y = np.float32(x) * (np.float32(1) / scale) if reciprocal else np.float32(x) / scale
        if not np.isfinite(y):
            return (f"x / scale = {y}",)
        word = int(np.array([y], np.float32).view(np.uint32)[0])
        steps = counterexample(self.s.dtype, "float32", word, "", code).steps
        how = "x * fl(1 / scale)" if reciprocal else "x / scale"
        return (f"{how} = {_real(float(y))}", *steps)

    def _decoded(self, compared: Compared, where: NDArray[np.bool_], whole: bool = False) -> Counterexample:
        assert compared.theirs.decoded is not None
        assert compared.spelled is not None
        at = int(np.flatnonzero(where.reshape(-1))[0])
        block = int(compared.index.reshape(-1)[at])
        code = int(compared.theirs.stored.codes.reshape(-1)[at])
        values = [float(array.reshape(-1)[at]) for array in (compared.theirs.decoded, compared.spelled)]
        numbers = compared.case.numbers
        if whole:
            text = _shape(compared)
            text += f" ({compared.case.name})" if compared.case.name else ", block i full of i + 1"
            position = ", ".join(str(int(i)) for i in np.unravel_index(at, numbers.shape))
        else:
            inside = np.flatnonzero((compared.index == block).reshape(-1))
            text = spell_block(numbers.reshape(-1)[inside])
            position = str(int(np.flatnonzero(inside == at)[0]))
        step = f"their code {spell_code(self.s.dtype, code)}, {_numbers_of(compared.theirs.stored, block)}"
        steps = (step,) if compared.theirs.says_numbers else ()
        return Counterexample(compared.case.source, text, _real(values[0]), _real(values[1]), steps, at=f"[{position}]")


def _shown(part: str, compared: Compared, block: int) -> bool:
    wrong = compared.wrong.get(part)
    if wrong is None:
        return False
    return bool(wrong[compared.index == block].any() if part == "codes" else wrong[block])


def _in_part(part: str, record: Record) -> bool:
    return part != "global_scale" and _shown(part, record.compared, record.block)


def _numbers_of(stored: Stored, block: int) -> str:
    """The scale of a block and what else it stores, in words."""
    return ", ".join(f"{name.removesuffix('s')} {_real(float(all_[block]))}" for name, all_ in stored.blocks.items())


def _causes(s: Scheme, compared: Compared) -> dict[str, NDArray[np.bool_]]:
    return decoded_causes(s, compared) if "decoded" in compared.wrong else {}


def _floats(record: Record) -> NDArray[np.float32]:
    return np.asarray(widened(record.words, record.source), np.float32)


def _shape(compared: Compared) -> str:
    return "array " + " x ".join(map(str, compared.case.words.shape))


def _real(value: float) -> str:
    """A float32, or a number of fewer bits, in the fewest digits that tell it apart."""
    small = np.float32(value)
    text = str(small) if float(small) == value or value != value else repr(value)
    return text.removesuffix(".0")
