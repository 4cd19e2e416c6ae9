"""The matrix: every installed library on everything that it has, against the definition and against each other."""

from __future__ import annotations

import datetime
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from fractions import Fraction
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from kbit_ref.conformance.diagnosis.counterexample import simplest, spell_code
from kbit_ref.conformance.implementations.adapters import Adapter
from kbit_ref.conformance.implementations.ask import FLAT
from kbit_ref.conformance.implementations.claims import Profile
from kbit_ref.conformance.implementations.library import Library
from kbit_ref.conformance.judges import judge_side_by_side
from kbit_ref.conformance.libraries import Judged
from kbit_ref.conformance.matrix.block_pairs import Answers, BlockGroups
from kbit_ref.conformance.matrix.pairs import Group, Member, group_of
from kbit_ref.conformance.reading import Refused, read_type
from kbit_ref.conformance.subject import Question
from kbit_ref.conformance.verdict import Verdict
from kbit_ref.datatypes.datatype import DataType, datatype
from kbit_ref.explanation.spelling import exactly

__all__ = ["Matrix", "as_dict", "make_matrix"]

Progress = Callable[[str, int, int], None]


@dataclass(frozen=True)
class Matrix:
    """Everything that was found, with its date."""

    date: str
    types: tuple[Judged, ...]
    blocks: tuple[Verdict, ...]
    groups: tuple[Group, ...]
    seconds: Mapping[str, Mapping[str, float]] = field(default_factory=dict)  # by library and what it judges

    @property
    def versions(self) -> dict[str, str]:
        """Return the libraries, with their versions."""
        return {row.library: row.version for row in self.types} | {row.library: row.version for row in self.blocks}


def make_matrix(
    libraries: Sequence[Adapter],
    *,
    timeout: float = 120.0,
    folders: Sequence[str | Path] = (),
    progress: Progress = lambda *_: None,
) -> Matrix:
    """Judge all libraries, then compare them with each other.

    Parameters
    ----------
    libraries
        Adapters, all of them installed.
    timeout, folders, progress
        As in `judge_libraries`.
    """
    found = judge_side_by_side(
        libraries, timeout=timeout, folders=folders, progress=progress, answered=True, more=f"{__name__}:stored_by"
    )
    judged = [each for one in found for each in one.judged]
    rows = [each for each in judged if isinstance(each.profile, Profile)]
    formats = [each.report for each in judged if not isinstance(each.profile, Profile)]
    answered = {adapter.library: one.more or {} for adapter, one in zip(libraries, found, strict=True)}
    groups = [*type_groups(rows), *BlockGroups(libraries).compared(answered)]
    light = tuple(replace(row, answered=()) for row in rows)
    seconds: dict[str, dict[str, float]] = {}
    for each in judged:
        seconds.setdefault(each.library, {})[each.report.theirs] = round(each.seconds, 1)
    return Matrix(datetime.date.today().isoformat(), light, tuple(formats), tuple(groups), seconds)


def stored_by(libraries: Sequence[Adapter], adapter: Adapter, library: Library) -> Answers:
    """Return what one of the libraries stores for the inputs of its groups."""
    return BlockGroups(libraries).ask(adapter, library)


def as_dict(matrix: Matrix) -> dict[str, Any]:
    """Return plain values, for JSON; the pages are drawn from them."""
    return {
        "date": matrix.date,
        "versions": matrix.versions,
        "seconds": matrix.seconds,
        "types": [row.report.as_dict() for row in matrix.types],
        "blocks": [row.as_dict() for row in matrix.blocks],
        "groups": [group.as_dict() for group in matrix.groups],
    }


# Data types: answers to the same numbers --------------------------------------------------------


def type_groups(rows: Sequence[Judged]) -> Iterator[Group]:
    """Yield the encoders to the same levels, whatever their choices: all that have answers."""
    groups: dict[str, list[Judged]] = {}
    for row in rows:
        if _sources(row):
            groups.setdefault(row.report.subject.partition("+")[0], []).append(row)
    for base, mine in groups.items():
        for sources in (("float32", "float16", "bfloat16"), ("float64",)):  # many round float64 twice
            some = [row for row in mine if _sources(row) & set(sources)]
            if len(some) > 1:
                yield _type_group(base, some, sources)


def _sources(row: Judged) -> set[str]:
    """Return the source formats from which it encodes."""
    return {query.inputs.kind for query, _ in row.answered if query.what == "encode"}


def _type_group(base: str, rows: Sequence[Judged], sources: Sequence[str]) -> Group:
    d = datatype(base)
    queries: dict[str, Question] = {}
    for row in rows:
        for query, _ in row.answered:
            if query.what == "encode" and query.inputs.kind in sources:
                queries.setdefault(query.inputs.kind, query)
    order = [source for source in sources if source in queries]
    members = [Member(f"{row.library} {row.report.theirs}", tuple(_codes(row, kind) for kind in order)) for row in rows]

    def zeros(codes: NDArray[Any]) -> NDArray[np.bool_]:
        return np.asarray(np.append(d.levels == 0, False)[codes])  # -1 is no level

    def example(at: int, where: NDArray[np.bool_], a: Member, b: Member) -> str:
        kind = order[at]
        i = simplest(queries[kind].x, where)
        said = [spell_code(d, int(each.word(at, i))) for each in (a, b)]
        return f"{_spelled(float(queries[kind].x[i]))} ({kind}): {said[0]}; {said[1]}"

    return group_of(f"{base} from {', '.join(order)}", "type", members, zeros, example)


def _codes(row: Judged, kind: str) -> NDArray[np.int64] | str:
    """Return the codes of a library from one source format, every NaN as the first of them; or why there are none."""
    for query, answers in row.answered:
        if query.what == "encode" and query.inputs.kind == kind:
            flat = next((a for a in answers if a.arrangement == FLAT), None)
            if flat is None or flat.array is None:
                return "nothing came back" if flat is None else flat.error
            try:
                return _one_nan(query.dtype, read_type(query, flat, query.ours.shape).stored.codes)
            except Refused as refused:
                return str(refused)
    return f"it does not take {kind}"


def _one_nan(d: DataType, codes: NDArray[np.int64]) -> NDArray[np.int64]:
    is_nan = np.append(np.isnan(d.levels), False)
    nan = int(np.flatnonzero(is_nan)[0]) if is_nan.any() else -1
    return np.where(is_nan[codes], nan, codes)


def _spelled(x: float) -> str:
    if not np.isfinite(x):
        return str(x)
    exact_value = exactly(Fraction(x))
    return repr(x) if len(exact_value) > 24 else exact_value
