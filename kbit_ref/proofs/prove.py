"""The engine against the definition on all 2**32 float32 inputs.

A float32 is 32 bits; read as an unsigned integer they are its *word*. Both sides become lists of
runs, (first word, code), and the lists are compared:

    definition   `exact.encode` is monotone in the magnitude of a number of one sign, so all words
                 between two words of one code have that code. Halving the intervals whose ends
                 differ finds every change, with a few thousand questions instead of 2**32. Zeros,
                 infinities and NaN are asked apart, and both ends of every run once more.
    engine       `kb.encode` answers every word, slab by slab; equal answers in a row are one run.

A type without NaN refuses an array that holds one, so REFUSED is an answer too. Refusing concerns a
whole array and says nothing of each word in it. Which words the engine takes for NaN is therefore
asked of a type that has one, `IS_NAN`, to which the engine gives a code for every word; the words
not taken for NaN are then put to the type again and have to get codes.
"""

from __future__ import annotations

import hashlib
import os
import struct
from collections import deque
from collections.abc import Callable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass
from time import perf_counter
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from kbit_ref import exact
from kbit_ref.datatypes.datatype import DataType, datatype
from kbit_ref.engine import codec as engine
from kbit_ref.errors import BadInput, message

__all__ = ["REFUSED", "Fault", "Proof", "Runs", "prove", "runs_by_definition"]

REFUSED = 2**32 - 1  # stands for the code where there is none
SLAB = 1 << 20  # words encoded at a time
ALL = range(2**32)
SIGN, INFINITY = 1 << 31, 0x7F800000
SHOWN = 8  # faults that a proof quotes


class Runs(NamedTuple):
    """Consecutive words with the same answer: where each run begins, ascending, and its code."""

    first: NDArray[np.int64]  # [n]
    code: NDArray[np.int64]  # [n], REFUSED where there is none

    def to_bytes(self) -> bytes:
        """Every first word and code as four bytes each, the lowest first: what the hash is made of."""
        return np.stack([self.first, self.code], axis=1).astype("<u4").tobytes()

    def hash(self) -> str:
        """The SHA-256 of all runs."""
        return hashlib.sha256(self.to_bytes()).hexdigest()


@dataclass(frozen=True)
class Fault:
    """Consecutive words to which the engine gives one answer and the definition another one."""

    first: int
    last: int
    engine: int  # a code, or REFUSED
    definition: int

    def __str__(self) -> str:
        return (
            f"0x{self.first:08x} to 0x{self.last:08x}, from {number(self.first)!r}: "
            f"the engine {_answer(self.engine)}, the definition {_answer(self.definition)}"
        )


@dataclass(frozen=True)
class Proof:
    """What `prove` found.

    `hash` is the SHA-256 of the engine's whole answer: of every run, in ascending order, the first
    word and the code (2**32 - 1: refused), each as four bytes, the lowest first. Slabs and threads
    do not enter. Where there is no fault it is `runs_by_definition(dtype).hash()`.
    """

    type: str
    bits: int
    meaning: int
    inputs: int
    faults: int
    hash: str
    seconds: float
    examples: tuple[Fault, ...]

    @property
    def holds(self) -> bool:
        """Is there no fault?"""
        return self.faults == 0


def number(word: int) -> float:
    """The float32 number with these bits.

    Examples
    --------
    >>> number(0x3F800000), number(0x80000001)
    (1.0, -1.401298464324817e-45)
    """
    value: float = struct.unpack("<f", struct.pack("<I", word))[0]
    return value


def _answer(code: int) -> str:
    return "refuses it" if code == REFUSED else f"gives code {code}"


# The definition -------------------------------------------------------------------------------


def runs_by_definition(dtype: DataType) -> Runs:
    """The definition's answer to all 2**32 words, asking `exact.encode` and nothing else.

    Examples
    --------
    >>> import kbit_ref as kb
    >>> first, code = runs_by_definition(kb.DataType.from_levels([-1, 1]))  # ties go down: zero is -1
    >>> [(hex(word), int(c)) for word, c in zip(first, code)][:2]
    [('0x0', 0), ('0x1', 1)]
    """
    d = dtype.definition

    def ask(word: int) -> int:
        try:
            return int(exact.encode(d, number(word)))
        except BadInput:
            return REFUSED

    runs: list[tuple[int, int]] = []
    for sign in (0, SIGN):
        runs.append((sign, ask(sign)))  # zero
        runs += _halve(ask, sign + 1, sign + INFINITY - 1)
        runs.append((sign + INFINITY, ask(sign + INFINITY)))
        runs.append((sign + INFINITY + 1, ask(sign + INFINITY + 1)))  # NaN, to the last word of the sign
    ends = [first - 1 for first, _ in runs[1:]] + [2**32 - 1]
    for (first, code), last in zip(runs, ends, strict=True):
        assert ask(first) == code == ask(last), f"the definition is not monotone near {number(first)!r}"
    words, codes = np.array(runs, np.int64).T
    return _joined(words, codes)


def _halve(ask: Callable[[int], int], first: int, last: int) -> list[tuple[int, int]]:
    """The runs of a monotone function on the words first ... last."""
    code = {first: ask(first), last: ask(last)}
    runs, intervals = [(first, code[first])], [(first, last)]
    while intervals:
        low, high = intervals.pop()
        if code[low] == code[high]:
            continue
        if high == low + 1:
            runs.append((high, code[high]))
            continue
        middle = (low + high) // 2
        code[middle] = ask(middle)
        intervals += [(middle, high), (low, middle)]
    return runs


# The engine -----------------------------------------------------------------------------------

IS_NAN = DataType.from_levels([0.0, np.nan], name="is_nan")


def answer(dtype: DataType, words: NDArray[np.uint32], out: NDArray[Any] | None = None) -> NDArray[Any]:
    """The engine's answer to every word: codes, or int64 with REFUSED if it refuses any.

    `out` is memory for the codes.
    """
    numbers = words.view(np.float32)
    try:
        return engine.encode(dtype, numbers, threads=1, out=out)
    except BadInput:
        refused = engine.encode(IS_NAN, numbers, threads=1) == 1
    answers = np.full(words.size, REFUSED, np.int64)
    if refused.any() and not refused.all():
        rest = answer(dtype, words[~refused])
        answers[~refused] = rest
    return answers


def _engine_runs(
    dtype: DataType, words: range, threads: int, step: Callable[[int], object]
) -> Iterator[tuple[int, Runs]]:
    """The engine's runs, a slab at a time, in ascending order, each with the first word of its slab."""
    ascending = np.arange(min(SLAB, len(words)), dtype=np.uint32)

    def slab(begin: int) -> tuple[int, Runs]:
        size = min(SLAB, words.stop - begin)
        codes = answer(dtype, ascending[:size] + np.uint32(begin), np.empty(size, dtype.code_dtype))
        changes = np.append(0, np.flatnonzero(codes[1:] != codes[:-1]) + 1)
        step(size)
        return begin, Runs(begin + changes, codes[changes].astype(np.int64))

    with ThreadPoolExecutor(threads) as pool:
        waiting: deque[Future[tuple[int, Runs]]] = deque()
        try:
            for begin in range(words.start, words.stop, SLAB):
                waiting.append(pool.submit(slab, begin))
                if len(waiting) > 4 * threads:
                    yield waiting.popleft().result()
            while waiting:
                yield waiting.popleft().result()
        finally:
            for future in waiting:
                future.cancel()


# The two together -----------------------------------------------------------------------------


def prove(
    dtype: DataType | str,
    threads: int | None = None,
    progress: Callable[[int], object] | None = None,
    words: range = ALL,
) -> Proof:
    """Compare the engine with the definition on all float32 inputs.

    Parameters
    ----------
    dtype
        A data type or its name.
    threads
        How many to use; by default one a core.
    progress
        Called, from any thread, with how many words have just been answered.
    words
        Consecutive words, to look at a part only.

    Raises
    ------
    BadInput
        `prove: rounding = stochastic_a, it needs random bits; prove a type with another rounding`

    Examples
    --------
    >>> proof = prove("e4m3fn", words=range(0x3F800000, 0x40000000))  # from 1 to 2
    >>> proof.inputs, proof.faults, proof.hash[:16]
    (8388608, 0, '7e113d7641a47e6f')
    """
    d = datatype(dtype)
    if d.rounding.startswith("stochastic"):
        rule = "it needs random bits"
        raise BadInput(message("prove", f"rounding = {d.rounding}", rule, "prove a type with another rounding"))
    if threads is not None and threads < 1:
        raise BadInput(message("prove", f"threads = {threads}", "it is a number of threads from 1", "leave it out"))
    if words.step != 1 or not 0 <= words.start < words.stop <= 2**32:
        raise BadInput(message("prove", f"words = {words}", "they are a range within 0 ... 2**32", "e.g. range(2**16)"))
    begin = perf_counter()
    wanted = runs_by_definition(d)
    sha, last_code = hashlib.sha256(), -1
    inputs, faults, examples = 0, 0, list[Fault]()
    for start, got in _engine_runs(d, words, threads or _cores(), progress or (lambda _: None)):
        stop = min(start + SLAB, words.stop)
        inputs += stop - start
        new = got.code != np.append(last_code, got.code[:-1])
        sha.update(Runs(got.first[new], got.code[new]).to_bytes())
        last_code = int(got.code[-1])
        count, found = _faults(wanted, got, stop)
        faults += count
        for fault in found:
            _note(examples, fault)
    seconds = perf_counter() - begin
    return Proof(d.name, d.bits, d.meaning, inputs, faults, sha.hexdigest(), seconds, tuple(examples[:SHOWN]))


def _faults(wanted: Runs, got: Runs, stop: int) -> tuple[int, list[Fault]]:
    """How many words have different answers from the first word of `got` up to `stop`, and the first few."""
    start = int(got.first[0])
    inside = wanted.first[(wanted.first > start) & (wanted.first < stop)]
    first = np.union1d(inside, got.first)
    theirs = got.code[np.searchsorted(got.first, first, side="right") - 1]
    ours = wanted.code[np.searchsorted(wanted.first, first, side="right") - 1]
    after = np.append(first[1:], stop)
    bad = np.flatnonzero(theirs != ours)
    few = [Fault(int(first[i]), int(after[i]) - 1, int(theirs[i]), int(ours[i])) for i in bad[: SHOWN + 1]]
    return int((after - first)[bad].sum()), few


def _note(examples: list[Fault], fault: Fault) -> None:
    """Keep the fault if there is room; one that goes on where the last one ends is joined to it."""
    if examples:
        last = examples[-1]
        if (last.last + 1, last.engine, last.definition) == (fault.first, fault.engine, fault.definition):
            examples[-1] = Fault(last.first, fault.last, fault.engine, fault.definition)
            return
    if len(examples) <= SHOWN:  # one more than is shown, so that the last one shown is whole
        examples.append(fault)


def _joined(words: NDArray[np.int64], codes: NDArray[np.int64]) -> Runs:
    """Runs without neighbours of the same code."""
    changes = np.append(True, codes[1:] != codes[:-1])
    return Runs(words[changes], codes[changes])


def _cores() -> int:
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
