"""Judge the block formats of libraries, two at a time: each is asked in a process of its own."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

from numpy.typing import NDArray

from kbit_ref.conformance.implementations.adapters import Adapter
from kbit_ref.conformance.implementations.ask import Answer
from kbit_ref.conformance.implementations.claims import BlockProfile
from kbit_ref.conformance.implementations.libraries import FLUSHES
from kbit_ref.conformance.implementations.library import Library
from kbit_ref.conformance.implementations.processes import Processes, side_by_side
from kbit_ref.conformance.judge import Ask, judge_profile
from kbit_ref.conformance.rank import rank_blocks
from kbit_ref.conformance.reading import parts_in
from kbit_ref.conformance.verdict import Verdict
from kbit_ref.tensors.scheme import scheme

__all__ = ["WORKER", "by", "judge_block_libraries", "parts_by"]

Progress = Callable[[str, int, int], None]
GIVEN = "not ranked: its scales are given to it"
WORKER = "kbit_ref.conformance.implementations.block_worker"


def judge_block_libraries(
    libraries: Sequence[Adapter],
    *,
    profiles: Sequence[str] = (),
    timeout: float = 120.0,
    folders: Iterable[str | Path] = (),
    progress: Progress | None = None,
    each: Callable[[Verdict], None] = lambda _: None,
    rank: bool = False,
) -> list[Verdict]:
    """The verdict on every profile of the libraries, in their order.

    Parameters
    ----------
    libraries
        Adapters, all of them installed.
    profiles
        Only these profiles, by our name or by theirs. Empty: all.
    timeout
        Seconds that a library may be silent, its import included.
    folders
        Where adapters that are not ours were found.
    progress
        Called with the library, the profiles done and their number.
    each
        Called with each verdict as soon as it is reached.
    rank
        Rank the kin of each profile too.
    """
    places = list(folders)
    tell = progress or (lambda *_: None)

    def chosen(adapter: Adapter) -> list[BlockProfile]:
        return [p for p in adapter.formats if not profiles or {p.profile, p.theirs, p.name} & set(profiles)]

    for adapter in libraries:
        tell(adapter.library, 0, len(chosen(adapter)))  # so that all of it is known from the start
    processes = Processes()

    def one(adapter: Adapter) -> list[Verdict]:
        own = chosen(adapter)
        rows = []
        with Library(adapter.library, WORKER, timeout, places, processes) as library:
            for i, profile in enumerate(own):
                row = judge_profile(adapter, profile, by(library))
                if rank and profile.given:
                    row = replace(row, notes=(*row.notes, GIVEN))
                elif rank and row.spelling:
                    ranking = rank_blocks(scheme(profile.profile), profile, parts_by(library, profile.theirs))
                    row = replace(row, ranking=ranking)
                rows.append(replace(row, notes=(*row.notes, FLUSHES)) if library.flushes else row)
                each(rows[-1])
                tell(adapter.library, i + 1, len(own))
        return rows

    return [row for rows in side_by_side(one, libraries, processes) for row in rows]


def by(library: Library) -> Ask:
    """Questions about arrays, put to a library in its process.

    What comes back is an `Answer`: the parts, or the reason there are none.
    """

    def ask(theirs: str, source: str, **arrays: NDArray[Any]) -> Answer:
        reply = library.ask({"theirs": theirs, "source": source}, arrays)
        said = reply.said if isinstance(reply.said, dict) else {}  # it is theirs: anything may be wrong with it
        return Answer(reply.arrays, reply.error or str(said.get("error", "")), str(said.get("raised", "")))

    return ask


def parts_by(library: Library, theirs: str) -> Callable[..., dict[str, NDArray[Any]]]:
    """The parts of an array by a library: `parts(words, source)`, with scales where they are given; or `Refused`."""
    ask = by(library)

    def parts(words: NDArray[Any], source: str, **given: NDArray[Any]) -> dict[str, NDArray[Any]]:
        answer = ask(theirs, source, x=words, **given)
        return parts_in(answer)

    return parts
