"""Judge libraries: ask each in a process of its own, compare here, where nothing of theirs runs.

The inputs and the answers by the definition are made in this process. A library that crashes or
hangs loses the question it was at; a new process goes on with the next one.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass, replace
from functools import lru_cache
from pathlib import Path

from kbit_ref.conformance.implementations.adapters import Adapter
from kbit_ref.conformance.implementations.ask import Answer
from kbit_ref.conformance.implementations.claims import Known, Profile
from kbit_ref.conformance.implementations.library import Library, Reply
from kbit_ref.conformance.implementations.processes import Processes, side_by_side
from kbit_ref.conformance.judge import judge
from kbit_ref.conformance.rank import ranking_of
from kbit_ref.conformance.subject import Question, question
from kbit_ref.conformance.verdict import Verdict
from kbit_ref.datatypes.datatype import datatype

__all__ = ["FLUSHES", "Judged", "judge_libraries"]

WORKER = "kbit_ref.conformance.implementations.worker"
FLUSHES = "the library switches on flush-to-zero in its process"

Progress = Callable[[str, int, int], None]


@dataclass(frozen=True)
class Judged:
    """One row of the table: a profile of a library, and its verdicts."""

    library: str
    version: str
    profile: Profile
    report: Verdict
    heard: tuple[tuple[Question, Sequence[Answer]], ...] = ()  # what was asked and answered


@dataclass(frozen=True)
class _Job:
    profile: Profile
    what: str
    source: str


def judge_libraries(
    libraries: Sequence[Adapter],
    *,
    types: Sequence[str] = (),
    timeout: float = 120.0,
    folders: Iterable[str | Path] = (),
    progress: Progress | None = None,
    each: Callable[[Verdict], None] = lambda _: None,
    rank: bool = False,
) -> list[Judged]:
    """The verdict on every profile of the libraries, in their order.

    Parameters
    ----------
    libraries
        Adapters, all of them installed.
    types
        Only these types; their names without choices, or spelled in full. Empty: all.
    timeout
        Seconds that a library may be silent, its import included.
    folders
        Where adapters that are not ours were found.
    progress
        Called with the library, the jobs done and their number.
    each
        Called with each verdict as soon as it is reached.
    rank
        Rank the choices of each type too.
    """
    places = list(folders)
    tell = progress or (lambda *_: None)
    for adapter in libraries:
        tell(adapter.library, 0, len(list(_jobs(_chosen(adapter, types)))))  # all of it is known from the start
    processes = Processes()
    made = lru_cache(maxsize=None)(question)  # each question is made once, for all libraries

    def put_by(job: _Job) -> Question:
        return made(datatype(job.profile.dtype), job.what, job.source, job.profile.nan)

    def one(adapter: Adapter) -> list[Judged]:
        profiles = _chosen(adapter, types)
        total, done = len(list(_jobs(profiles))), 0
        found = []
        with Library(adapter.library, WORKER, timeout, places, processes) as library:
            for profile in profiles:
                rows, heard = [], []
                for job in _jobs([profile]):
                    put = put_by(job)
                    about = {"what": job.what, "theirs": job.profile.theirs, "source": job.source}
                    heard.append((put, answers(library.ask(about, {"words": put.inputs.words}))))
                    rows.append(judge(*heard[-1], None, _concerned(adapter, job)))
                    done += 1
                    tell(adapter.library, done, total)
                whose = adapter.library, adapter.version(), profile.theirs
                ranking = ranking_of(heard) if rank else None
                report = Verdict(profile.dtype, profile.dtype, tuple(rows), *whose, ranking=ranking)
                each(report)
                found.append(Judged(adapter.library, adapter.version(), profile, report, tuple(heard)))
        return [_flushed(judged) for judged in found] if library.flushes else found

    return [row for rows in side_by_side(one, libraries, processes) for row in rows]


def _flushed(judged: Judged) -> Judged:
    """The same with a note in each row that the library flushes to zero."""
    rows = tuple(replace(row, notes=(*row.notes, FLUSHES)) for row in judged.report.rows)
    return replace(judged, report=replace(judged.report, rows=rows))


def answers(reply: Reply) -> list[Answer]:
    """The answers in a reply; one that cannot be read is an error."""
    if reply.error:
        return [Answer(error=reply.error)]
    found = []
    try:
        for i, line in enumerate(reply.said):
            array = reply.arrays.get(str(i))
            error = str(line["error"]) or ("" if array is not None else "an answer without an array")
            about = error, *(str(line[name]) for name in ("raised", "arrangement", "custom"))
            found.append(Answer({} if array is None else {"answer": array}, *about))
    except (KeyError, TypeError) as error:  # it is theirs: anything may be wrong with it
        return [Answer(error=f"its answer cannot be read ({type(error).__name__})")]
    return found


def _concerned(adapter: Adapter, job: _Job) -> list[Known]:
    """The differences on record that concern a question."""
    return [
        each
        for each in adapter.known
        if isinstance(each, Known) and job.what == "encode" and each.concerns(job.profile.theirs, job.source)
    ]


def _chosen(adapter: Adapter, types: Sequence[str]) -> list[Profile]:
    return [p for p in adapter.types if not types or {p.dtype, p.dtype.partition("+")[0]} & set(types)]


def _jobs(profiles: Iterable[Profile]) -> Iterator[_Job]:
    for profile in profiles:
        for what in profile.what:
            for source in profile.sources if what == "encode" else ("codes",):
                yield _Job(profile, what, source)
