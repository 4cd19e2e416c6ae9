"""Why blocks differ: the named choices that give their answers, and a few words for decoded numbers."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from kbit_ref.arithmetic import same, widened
from kbit_ref.conformance.compare import Compared, Record, agree
from kbit_ref.conformance.definition import block_index, independent, reference
from kbit_ref.conformance.inputs.of_schemes import narrowed, shaped
from kbit_ref.conformance.variants.choices import pairs, singles
from kbit_ref.tensors.scheme import Scheme

__all__ = [
    "FOLLOWS",
    "LAST_BITS",
    "UNEXPLAINED",
    "WHY",
    "ZERO",
    "Explanation",
    "decoded_causes",
    "explain",
    "explained_by",
    "other_numbers",
    "plain_cause",
]

Array = NDArray[Any]
UNEXPLAINED, ZERO, FOLLOWS = "unexplained", "sign of zero", "follows from the scale"
LAST_BITS = "last bits"
FOR_PAIRS = 6  # records on which all pairs of words are tried
FEW_ARRAYS = 3  # in which a word must explain something, where blocks are not independent


@dataclass
class Explanation:
    """A cause, and which of the records it explains; the scheme that gives theirs, if it is a named choice."""

    cause: str
    scheme: Scheme | None
    which: NDArray[np.bool_]


def explain(s: Scheme, found: Sequence[Record], everything: Sequence[Compared]) -> list[Explanation]:
    """Causes for all records, each record to one of them.

    A named choice is what a library does everywhere: it must give theirs also where ours agrees
    now. Among those the word that explains the most comes first; pairs of words are tried for what
    no single word explains. A word that gives theirs in some blocks, and elsewhere does not, is a
    hint and no explanation: it is called `as ... here`.
    """
    work = _Explainer(s, found, everything, np.ones(len(found), bool), [])
    words = work.gains(singles(s), len(found))
    work.take({name: made for name, made in words.items() if work.keeps(made)})
    plain = np.array([plain_cause(record) for record in found])
    work.rest(ZERO, plain == ZERO)
    if work.left.any() and independent(s):
        two = work.gains(pairs(s), FOR_PAIRS)
        work.take({name: made for name, made in two.items() if work.keeps(made)})
        work.take({f"as {name} here": made for name, made in words.items() if "compute=" not in name})
    work.rest(LAST_BITS, plain == LAST_BITS)
    work.rest(UNEXPLAINED, work.left)
    return work.result


@dataclass
class _Explainer:
    """What is left to explain, and what is explained."""

    s: Scheme
    found: Sequence[Record]
    everything: Sequence[Compared]
    left: NDArray[np.bool_]
    result: list[Explanation]

    def gains(self, candidates: dict[str, Scheme], most: int) -> dict[str, Scheme]:
        """The candidates that explain something, tried on at most so many records."""
        at = np.flatnonzero(self.left)
        if not at.size:
            return {}
        at = at[np.unique(np.linspace(0, at.size - 1, min(most, at.size)).astype(int))]
        some = [self.found[i] for i in at]
        if not independent(self.s):  # a whole array has to be quantized for each of them
            few = list(dict.fromkeys(id(record.compared) for record in some))[:FEW_ARRAYS]
            some = [record for record in some if id(record.compared) in few]
        return {name: made for name, made in candidates.items() if explained_by(made, some).any()}

    def keeps(self, made: Scheme) -> bool:
        """Does a scheme give theirs wherever ours does? Blocks that it refuses are not held against it."""
        for compared in self.everything:
            ours = reference(made, compared.case.words, compared.case.source)
            good = ~compared.ours.refused
            good[compared.wrong_blocks()] = False
            if (good & ~ours.refused & ~_agreeing(made, compared)).any():
                return False
        return True

    def take(self, candidates: dict[str, Scheme]) -> None:
        """Records to candidates, the one that explains the most first."""
        fits = {name: explained_by(made, self.found) for name, made in candidates.items()}
        while fits and self.left.any():
            name = max(fits, key=lambda each: int((fits[each] & self.left).sum()))
            which = fits.pop(name) & self.left
            if not which.any():
                break
            self.result.append(Explanation(name, candidates[name], which))
            self.left = self.left & ~which

    def rest(self, cause: str, where: NDArray[np.bool_]) -> None:
        """Records to a cause that is no named choice."""
        which = self.left & where
        if which.any():
            self.result.append(Explanation(cause, None, which))
            self.left = self.left & ~which


def plain_cause(record: Record) -> str:
    """What one can say of a block without naming a choice: only signs of zero, only last bits, or nothing."""
    compared, block = record.compared, record.block
    if "codes" in compared.wrong and compared.wrong["codes"][compared.index == block].any():
        return UNEXPLAINED
    pairs_of = [(float(compared.ours.blocks[name][block]), value) for name, value in record.parts.items()]
    if all(ours == value for ours, value in pairs_of):
        return ZERO
    close = all(abs(ours - value) <= 2.0**-18 * abs(value) for ours, value in pairs_of)
    return LAST_BITS if close else UNEXPLAINED


def other_numbers(record: Record) -> bool:
    """Is a number of the block (its scale, ...) another one than ours?"""
    return any(record.compared.wrong[name][record.block] for name in record.parts)


def explained_by(made: Scheme, found: Sequence[Record]) -> NDArray[np.bool_]:
    """Which records the scheme gives, code for code and number for number."""
    good = np.zeros(len(found), bool)
    if independent(made):
        groups: dict[tuple[str, int, int], list[int]] = {}
        for i, record in enumerate(found):
            groups.setdefault((record.source, record.words.size, i if record.short else -1), []).append(i)
        for (source, _, _), members in groups.items():
            words = shaped(np.stack([found[i].words for i in members]), made)
            codes = shaped(np.stack([found[i].codes for i in members]), made)
            names = found[members[0]].parts
            parts = {name: np.array([found[i].parts[name] for i in members]) for name in names}
            ours = reference(made, words, source)
            good[members] = agree(made, ours, block_index(made, words.shape), codes, parts)
        return good
    for compared in {id(record.compared): record.compared for record in found}.values():
        fits = _agreeing(made, compared)
        for i, record in enumerate(found):
            if record.compared is compared:
                good[i] = fits[record.block]
    return good


def _agreeing(made: Scheme, compared: Compared) -> NDArray[np.bool_]:
    """[n_blocks]: the blocks of an array for which a scheme gives theirs."""
    ours = reference(made, compared.case.words, compared.case.source)
    blocks = compared.theirs.stored.blocks
    parts = {name: values for name, values in blocks.items() if name in compared.wrong}
    return np.asarray(agree(made, ours, compared.index, compared.theirs.stored.codes, parts))


# Decoded numbers ---------------------------------------------------------------------------------

WHY = {
    ZERO: "a zero with the other sign",
    "rounded to bfloat16": "theirs is the bfloat16 next to ours",
    "rounded to float16": "theirs is the float16 next to ours",
    "arithmetic in bfloat16": "theirs is a bfloat16 beside ours",
    "arithmetic in float16": "theirs is a float16 beside ours",
    "the scale of another block": "theirs is the level times the scale of another block of the array",
    LAST_BITS: "theirs is a float32 beside ours",
    UNEXPLAINED: "their number is not what their code and scale stand for",
}


def decoded_causes(s: Scheme, compared: Compared) -> dict[str, NDArray[np.bool_]]:
    """The decoded numbers that differ, by cause."""
    wrong, ours, theirs = compared.wrong["decoded"], compared.spelled, compared.theirs.decoded
    assert ours is not None
    assert theirs is not None
    found: dict[str, NDArray[np.bool_]] = {}
    left = wrong.copy()

    def take(name: str, where: Array) -> None:
        nonlocal left
        if (left & where).any():
            found[name] = left & where
            left = left & ~where

    take(ZERO, (ours == 0) & (theirs == 0))
    with np.errstate(all="ignore"):
        small = theirs.astype(np.float32)
        for form in ("bfloat16", "float16"):
            near = _rounded(ours, form)
            is_one = same(_rounded(small.astype(np.float64), form), theirs)
            if (is_one | ~left).all():  # all that are left: not by chance
                take(f"rounded to {form}", same(near, theirs))
                beside = np.abs(near - theirs) <= np.abs(ours) * (2.0**-6 if form == "bfloat16" else 2.0**-9)
                take(f"arithmetic in {form}", is_one & beside)
        take("the scale of another block", _of_another_block(s, compared))
        take(LAST_BITS, np.abs(small - ours.astype(np.float32)) <= np.abs(np.spacing(small)))
    take(UNEXPLAINED, left.copy())
    return found


def _rounded(numbers: Array, form: str) -> NDArray[np.float64]:
    words = narrowed(np.asarray(numbers, np.float32), form)
    return widened(words, form).astype(np.float64)


def _of_another_block(s: Scheme, compared: Compared) -> NDArray[np.bool_]:
    """Elements that are their level times the scale of some block."""
    assert compared.theirs.decoded is not None
    result = np.zeros(compared.index.shape, bool)
    if not compared.theirs.says_numbers:
        return result
    scales = compared.theirs.stored.blocks["scales"]
    if scales.size < 2 or "offsets" in compared.theirs.stored.blocks or "zero_points" in compared.theirs.stored.blocks:
        return result
    at = np.flatnonzero(compared.wrong["decoded"].reshape(-1))[:4096]
    levels = s.dtype.levels[compared.theirs.stored.codes.reshape(-1)[at]].astype(np.float32)
    products = levels[:, None] * scales.astype(np.float32)[:4096]
    theirs = compared.theirs.decoded.reshape(-1)[at].astype(np.float32)
    result.reshape(-1)[at] = (products == theirs[:, None]).any(1) & (levels != 0)
    return result
