"""Answers against the definition: one verdict for one type, direction and source format."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from kbit_ref.conformance.ask import FLAT, Answer
from kbit_ref.conformance.causes import Cause, NanCodes, with_nan
from kbit_ref.conformance.diagnose import Kind, diagnose
from kbit_ref.conformance.explain import counterexample, simplest, spell_code
from kbit_ref.conformance.inputs import Inputs, arrangements, encode_inputs, to_float64
from kbit_ref.conformance.verdict import Counterexample, Difference, Verdict
from kbit_ref.datatype import DataType
from kbit_ref.engine import encode

__all__ = ["Known", "Question", "judge", "question"]


@dataclass(frozen=True)
class Known:
    """A difference that is on record: it must still occur, and nothing else may.

    Parameters
    ----------
    cause
        What gives their answers; only values with exactly these answers count as known.
    link
        A public issue, or a document with its version.
    types, sources
        The names (theirs) and source formats in which it occurs; empty: all.
    undefined
        Where the record leaves the answer open, so that any difference there is known.
    """

    cause: Cause
    link: str
    types: tuple[str, ...] = ()
    sources: tuple[str, ...] = ()
    undefined: Callable[[DataType, NDArray[np.float64]], NDArray[np.bool_]] | None = None

    def concerns(self, theirs: str, source: str) -> bool:
        """Does it occur there?"""
        return (not self.types or theirs in self.types) and (not self.sources or source in self.sources)


@dataclass(frozen=True)
class Question:
    """What is asked, and the answer by the definition, computed before anybody is asked."""

    dtype: DataType
    what: str  # encode or decode
    inputs: Inputs
    x: NDArray[np.float64]  # [n] the numbers of the words; for decode the levels
    ours: NDArray[Any]  # [n] codes (for decode those asked)
    nan: NanCodes | str = "any"  # any, canonical, or the codes for NaN without and with its sign bit

    @property
    def nan_codes(self) -> NanCodes | None:
        """The codes that NaN must have, if they are not the canonical one."""
        return None if isinstance(self.nan, str) else self.nan


def question(dtype: DataType, what: str, kind: str, nan: NanCodes | str = "any", seed: int = 0) -> Question:
    """The question, with its answer.

    Examples
    --------
    >>> import kbit_ref as kb
    >>> q = question(kb.datatype("int2"), "decode", "codes")
    >>> q.ours, q.x
    (array([0, 1, 2, 3], dtype=uint8), array([ 0.,  1., -2., -1.]))
    """
    if what == "decode":
        codes = np.arange(2**dtype.bits, dtype=dtype.code_dtype)
        return Question(dtype, what, Inputs("codes", codes), dtype.levels, codes, nan)
    inputs = encode_inputs(dtype, kind, seed)
    x = to_float64(inputs.words, kind)
    numbers = inputs.words if kind == "bfloat16" else inputs.words.view(kind)
    codes = encode(dtype, numbers, bfloat16=kind == "bfloat16")
    ours = with_nan(dtype, codes, x, None if isinstance(nan, str) else nan)
    return Question(dtype, what, inputs, x, ours, nan)


class _Refused(Exception):
    """An answer that cannot be compared."""


def judge(asked: Question, answers: Sequence[Answer], form: str | None = None, known: Sequence[Known] = ()) -> Verdict:
    """The verdict on all answers to a question.

    Parameters
    ----------
    asked, answers
        The question; one answer for each arrangement, the flat one first.
    form
        What the answers of an encoder are: `codes`, `values`, or None to see it from their dtype.
    known
        Differences on record that concern this question.
    """
    errors = [answer.error for answer in answers if answer.error]
    differences: tuple[Difference, ...] = ()
    notes: list[str] = []
    compared = 0
    flat = next((a for a in answers if a.arrangement == FLAT and a.array is not None), None)
    if flat is None:
        errors = errors[:1] or ["no answer at all"]
    if flat is not None:
        try:
            got = _read(asked, flat, asked.ours.shape, form)
            differences, more = _compare(asked, got, known)
            compared = int(asked.ours.size)
            errors += more
            if asked.what == "encode" and asked.nan == "any":
                notes += _other_nan(asked, got.codes)
            errors += _arrangements(asked, got, answers, form)
        except _Refused as refused:
            errors.append(str(refused))
    return Verdict(
        dtype=asked.dtype.name,
        what=asked.what,
        source=asked.inputs.kind,
        tried=compared,
        differences=differences,
        errors=tuple(errors),
        nan_left_out=asked.inputs.nan_left_out,
        notes=tuple(notes),
    )


# Reading answers -------------------------------------------------------------------------------


class _Got(NamedTuple):
    codes: NDArray[np.int64]  # -1: no level of the type (or, for decode, unused)
    values: NDArray[np.float64] | None
    raw: NDArray[Any] | None = None  # codes as they came


def _read(asked: Question, answer: Answer, shape: tuple[int, ...], form: str | None) -> _Got:
    """An answer as codes or values, or a refusal."""
    array, where = answer.array, answer.arrangement
    assert array is not None
    if array.shape != shape:
        size = int(np.prod(shape))
        fewer = f": {array.size} of {size} values" if array.size < size else ""
        raise _Refused(f"{where}: the answer has shape {array.shape}, the input {shape}{fewer}")
    bits, integers = asked.dtype.bits, array.dtype.kind in "ui"
    if answer.custom:
        if answer.custom == "bfloat16" and (asked.what == "decode" or asked.dtype.name.partition("+")[0] != "bf16"):
            return _values(asked, to_float64(array, "bfloat16"))
        if asked.what == "decode":
            raise _Refused(f"{where}: the answer has dtype {answer.custom}; give float16, bfloat16, float32 or float64")
        if array.dtype.itemsize != asked.dtype.code_dtype.itemsize:
            raise _Refused(f"{where}: the answer has dtype {answer.custom}, codes have {bits} bits")
        return _Got(array.astype(np.int64) & (2**bits - 1), None)
    if array.dtype.name in ("float16", "float32", "float64") and form != "codes":
        return _values(asked, to_float64(array.view(f"uint{8 * array.dtype.itemsize}"), array.dtype.name))
    if integers and asked.what == "encode":
        signed_values = array.dtype.kind == "i" and asked.dtype.family == "integer"
        if form == "values" or (form is None and signed_values):
            return _values(asked, array.astype(np.float64))
        codes = array.astype(np.int64)
        return _Got(np.where((codes < 0) | (codes >= 2**bits), -1, codes), None, array)
    wanted = "real numbers" if asked.what == "decode" else "codes (integers) or real numbers"
    raise _Refused(f"{where}: the answer has dtype {array.dtype}; give {wanted}")


def _values(asked: Question, values: NDArray[np.float64]) -> _Got:
    """Values, and the code of each that is a level; the sign of zero counts."""
    if asked.what == "decode":
        return _Got(np.full(values.shape, -1, np.int64), values)
    d = asked.dtype
    order = [*d.emitted.tolist(), *d.unused]
    words = _identity(d.levels[order])
    first, index = np.unique(words, return_index=True)
    given = _identity(values)
    at = np.minimum(np.searchsorted(first, given), first.size - 1)
    codes = np.where(first[at] == given, np.array(order)[index[at]], -1)
    if asked.nan_codes is None:
        return _Got(codes.astype(np.int64), values)
    both_nan = np.isnan(values) & np.isnan(asked.x) if values.shape == asked.x.shape else np.isnan(values) & False
    return _Got(np.where(both_nan, asked.ours, codes).astype(np.int64), values)


def _identity(values: NDArray[np.float64]) -> NDArray[np.uint64]:
    """Words that are equal if the values are: all NaNs are one, the zeros are two."""
    words = np.ascontiguousarray(values, np.float64).reshape(values.shape).view(np.uint64)
    nan = (words & np.uint64(2**63 - 1)) > np.uint64(0x7FF << 52)
    return np.where(nan, np.uint64(2**64 - 1), words)


def _same_nan(asked: Question, codes: NDArray[np.int64]) -> NDArray[np.bool_]:
    """Where both are NaN, by different codes."""
    is_nan = np.append(np.isnan(asked.dtype.levels), False)  # -1 is no level
    return np.asarray(is_nan[asked.ours] & is_nan[codes] & (codes != asked.ours))


def _other_nan(asked: Question, codes: NDArray[np.int64]) -> list[str]:
    other = _same_nan(asked, codes)
    if not other.any():
        return []
    spelled = ", ".join(f"0x{code:02x}" for code in np.unique(codes[other]))
    return [f"NaN is given as {spelled} too; the canonical code is 0x{asked.dtype.definition.nan:02x} (nan='any')"]


# Comparing -------------------------------------------------------------------------------------


def _compare(asked: Question, got: _Got, known: Sequence[Known]) -> tuple[tuple[Difference, ...], list[str]]:
    """The differences by kind, and the known ones that did not occur."""
    if asked.what == "decode":
        return _compare_levels(asked, got), []
    ours, theirs = asked.ours.astype(np.int64), got.codes
    if asked.nan == "any":
        is_nan = np.append(np.isnan(asked.dtype.levels), False)  # -1 is no level
        theirs = np.where(
            is_nan[theirs], -1 if asked.dtype.definition.nan is None else asked.dtype.definition.nan, theirs
        )
    if not known and np.array_equal(ours, theirs):
        return (), []
    recorded, errors = _on_record(asked, ours, theirs, known)
    left = theirs.copy()
    for kind, _ in recorded:
        left[kind.where] = ours[kind.where]
    found: list[tuple[Kind, str]] = [
        *((k, "") for k in _zero_signs(asked, got, ours, left)),
        *recorded,
    ]
    explained = np.zeros(ours.shape, bool)
    for kind, _ in found:
        explained |= kind.where
    others = diagnose(asked.dtype, asked.inputs.kind, asked.x, ours, theirs, asked.nan_codes, explained)
    found += [(kind, "") for kind in others]
    return tuple(_difference(asked, kind, got, link) for kind, link in found), errors


def _on_record(
    asked: Question, ours: NDArray[np.int64], theirs: NDArray[np.int64], known: Sequence[Known]
) -> tuple[list[tuple[Kind, str]], list[str]]:
    """The values that the known differences explain, alone or two at once."""
    found, errors = [], []
    left = ours != theirs
    for entry in known:
        combined = [entry.cause.then(other.cause) for other in known if other is not entry]
        where = np.zeros(left.shape, bool)
        if entry.undefined is not None:
            where |= left & entry.undefined(asked.dtype, asked.x)
        for cause in () if entry.undefined else (entry.cause, *filter(None, combined)):
            codes = cause.codes(asked.dtype, asked.x, asked.nan_codes)
            if codes is not None:
                where |= left & (codes == theirs)
        if where.any():
            found.append((Kind(entry.cause.name, entry.cause.why, where, entry.cause), entry.link))
            left = left & ~where
        else:
            errors.append(f"known difference no longer occurs: {entry.cause.name} ({entry.link})")
    return found, errors


def _zero_signs(asked: Question, got: _Got, ours: NDArray[np.int64], theirs: NDArray[np.int64]) -> list[Kind]:
    """Values that are zero with the other sign, in a type that cannot say so in a code."""
    if got.values is None:
        return []
    where = (theirs == -1) & (got.values == 0) & (asked.dtype.levels[ours] == 0)
    return [Kind("sign of zero", "theirs is -0, and the type has only one zero", where)] if where.any() else []


def _difference(asked: Question, kind: Kind, got: _Got, link: str) -> Difference:
    i = simplest(asked.x, kind.where)
    if got.values is not None:
        spelled = repr(float(got.values[i]))
    elif got.codes[i] < 0 and got.raw is not None:
        spelled = f"{got.raw[i]}, which is no code of {asked.dtype.bits} bits"
    else:
        spelled = spell_code(asked.dtype, int(got.codes[i]))
    example = counterexample(
        asked.dtype,
        asked.inputs.kind,
        int(asked.inputs.words[i]),
        spelled,
        int(asked.ours[i]),
        _how(asked, kind, i),
    )
    return Difference(kind.name, kind.why, int(kind.where.sum()), example, link)


def _how(asked: Question, kind: Kind, i: int) -> str:
    """How their answer comes about, in one line."""
    if kind.name == "unexplained":
        return ""
    how = f"theirs: {kind.name}"
    if kind.cause is not None and kind.cause.before is not None:
        with np.errstate(all="ignore"):
            number = kind.cause.before(asked.dtype, asked.x[i : i + 1])[0]
        how += f" (it becomes {float(number)!r})"
    return how


def _compare_levels(asked: Question, got: _Got) -> tuple[Difference, ...]:
    """Decoded values against the levels, entry by entry."""
    assert got.values is not None
    levels, values = asked.x, got.values
    bad = _identity(levels) != _identity(values)
    zeros = bad & (levels == 0) & (values == 0)
    flushed = bad & ~zeros & (values == 0)
    kinds = [
        Kind("sign of zero", "theirs is zero with the other sign", zeros),
        Kind("flushed to zero", "their value is zero, the level is not", flushed),
        Kind("another level", "their value for the code is not its level", bad & ~zeros & ~flushed),
    ]
    found = []
    for kind in kinds:
        if kind.where.any():
            i = int(np.flatnonzero(kind.where)[0])
            code = f"0x{int(asked.ours[i]):0{-(-asked.dtype.bits // 4)}x}"
            steps = (f"the level of code {code} is {levels[i]!r}", kind.why)
            example = Counterexample("codes", code, f"code {i}", repr(float(values[i])), repr(float(levels[i])), steps)
            found.append(Difference(kind.name, kind.why, int(kind.where.sum()), example))
    return tuple(found)


def _arrangements(asked: Question, flat: _Got, answers: Sequence[Answer], form: str | None) -> list[str]:
    """Every other arrangement must give what the flat array gave."""
    errors = []
    codes = dict(arrangements(flat.codes))
    values = dict(arrangements(flat.values)) if flat.values is not None else {}
    for answer in answers:
        if answer.array is None or answer.arrangement == FLAT:
            continue
        name = answer.arrangement
        if name not in codes:
            errors.append(f"{name}: nobody asked for it")
            continue
        try:
            got = _read(asked, answer, codes[name].shape, form)
        except _Refused as refused:
            errors.append(str(refused))
            continue
        same = np.array_equal(got.codes, codes[name])
        if got.values is not None and values and asked.what == "decode":
            same = np.array_equal(_identity(got.values), _identity(values[name]))
        if not same and asked.nan == "any" and asked.what == "encode":
            is_nan = np.append(np.isnan(asked.dtype.levels), False)
            same = bool(np.all((got.codes == codes[name]) | (is_nan[got.codes] & is_nan[codes[name]])))
        if not same:
            errors.append(f"{name}: the answer differs from that for the same numbers in a flat array")
    return errors
