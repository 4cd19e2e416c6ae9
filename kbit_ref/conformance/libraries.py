"""Judge a library: ask it in a process of its own, compare here, where nothing of theirs runs.

The inputs and the answers by the definition are made in this process. A library that crashes or
hangs loses the question it was at; a new process goes on with the next one. Whatever goes wrong
with one profile, asking or judging, is an error of that profile.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from functools import lru_cache, partial
from typing import Any

import numpy as np
from numpy.typing import NDArray

from kbit_ref.conformance.decoding import judge_decoder
from kbit_ref.conformance.implementations.adapters import Adapter
from kbit_ref.conformance.implementations.ask import Answer, spelled
from kbit_ref.conformance.implementations.claims import BlockProfile, Known, Profile
from kbit_ref.conformance.implementations.function import stored_parts
from kbit_ref.conformance.implementations.library import Library, Reply
from kbit_ref.conformance.judge import Ask, judge, judge_profile
from kbit_ref.conformance.rank import rank_blocks, ranking_of
from kbit_ref.conformance.reading import parts_in
from kbit_ref.conformance.specials import noting_nan
from kbit_ref.conformance.subject import Question, question
from kbit_ref.conformance.verdict import Row, Verdict
from kbit_ref.datatypes.datatype import datatype
from kbit_ref.tensors.qtensor import QTensor
from kbit_ref.tensors.scheme import scheme

__all__ = ["Claim", "Judged", "Progress", "answers_by", "by", "effort", "judge_library", "parts_by", "questions"]

FLUSHES = "the library switches on flush-to-zero in its process"
GIVEN = "not ranked: its scales are given to it"
DECODES = "not ranked: it stores nothing"

Claim = Profile | BlockProfile
Answered = tuple[tuple[Question, Sequence[Answer]], ...]
Progress = Callable[[str, int, int], None]

questions = lru_cache(maxsize=1024)(question)  # each is made once, for all libraries


@dataclass(frozen=True)
class Judged:
    """One profile of a library, and the verdict on it.

    Parameters
    ----------
    answered
        For a data type the questions and the answers.
    seconds
        How long it took, the answers of the library included.
    """

    profile: Claim
    report: Verdict
    answered: Answered = ()
    seconds: float = 0.0

    @property
    def library(self) -> str:
        """Return its name."""
        return self.report.library

    @property
    def version(self) -> str:
        """Return the version of the library."""
        return self.report.version


def judge_library(
    adapter: Adapter,
    library: Library,
    *,
    progress: Progress = lambda *_: None,
    each: Callable[[Judged], None] = lambda _: None,
    rank: bool = False,
) -> list[Judged]:
    """Judge the profiles of one library by its process.

    Parameters
    ----------
    progress
        Called with the library, the work done and all of its work.
    each
        Called with each verdict as soon as it is reached.
    rank
        Rank the choices of each type, and the kin of each format, too.
    """
    done, total = 0, sum(map(effort, adapter.profiles))
    found: list[Judged] = []
    for profile in adapter.profiles:
        begin = time.monotonic()
        if isinstance(profile, Profile):
            judged = _type(adapter, profile, library)
        else:
            judged = _format(adapter, profile, library)
        judged = _ranked(judged, library) if rank else judged
        if library.flushes:
            judged = replace(judged, report=replace(judged.report, notes=(*judged.report.notes, FLUSHES)))
        found.append(replace(judged, seconds=time.monotonic() - begin))
        done += effort(profile)
        each(found[-1])
        progress(adapter.library, done, total)
    return found


def effort(profile: Claim) -> int:
    """Return about how many arrays a library is called with."""
    return len(_queries(profile)) if isinstance(profile, Profile) else 8 * len(profile.sources)


def _queries(profile: Profile) -> list[tuple[str, str]]:
    """Return the verbs and source formats of the questions on a data type."""
    sources = {"encode": profile.sources, "decode": ("codes",)}
    return [(what, source) for what in profile.what for source in sources[what]]


def _type(adapter: Adapter, profile: Profile, library: Library) -> Judged:
    """Ask about a data type, and judge what comes back; what goes wrong with a question is an error of its row."""
    rows, answered = [], []
    for what, source in _queries(profile):
        known = [k for k in adapter.known if isinstance(k, Known) and what == "encode"]
        try:
            query = questions(datatype(profile.dtype), what, source, profile.nan)
            answers = answers_by(library, profile.theirs, query)
            row = judge(query, answers, None, [k for k in known if k.concerns(profile.theirs, source)])
            rows.append(noting_nan(row, query.dtype, partial(answers_by, library, profile.theirs)))
            answered.append((query, answers))
        except Exception as error:  # theirs or ours: it costs this question, and no other
            part = "codes" if what == "encode" else "decoded"
            rows.append(Row(part, 0, errors=(_failure("judged", error),), what=what, source=source))
    about = (adapter.library, adapter.version(), profile.theirs)
    return Judged(profile, Verdict(profile.dtype, profile.dtype, tuple(rows), *about), tuple(answered))


def _format(adapter: Adapter, profile: BlockProfile, library: Library) -> Judged:
    """Do the same for a block format."""
    try:
        if profile.what == "decode":
            return Judged(profile, _decoder(adapter, profile, library))
        return Judged(profile, judge_profile(adapter, profile, by(library)))
    except Exception as error:  # theirs or ours: it costs this format, and no other
        about = (adapter.library, adapter.version(), profile.name)
        return Judged(profile, Verdict(profile.profile, "", (), *about, (_failure("judged", error),)))


def _decoder(adapter: Adapter, profile: BlockProfile, library: Library) -> Verdict:
    """Ask for numbers of what the format stores, and judge them."""

    def ask(q: QTensor) -> Answer:
        parts = {name: np.asarray(part) for name, part in stored_parts(q).items()}
        return _answer(library.ask("dequantize", profile.theirs, "stored", parts))

    found = judge_decoder(scheme(profile.profile), ask, profile.name, profile.shapes)
    return replace(found, subject=profile.profile, library=adapter.library, version=adapter.version())


def _ranked(judged: Judged, library: Library) -> Judged:
    """Add the ranking of its rivals."""
    report, profile = judged.report, judged.profile
    try:
        if isinstance(profile, Profile):
            report = replace(report, ranking=ranking_of(judged.answered))
        elif profile.given or profile.what == "decode":
            report = replace(report, notes=(*report.notes, GIVEN if profile.given else DECODES))
        elif report.spelling:
            ranking = rank_blocks(scheme(profile.profile), profile, parts_by(library, profile.theirs))
            report = replace(report, ranking=ranking)
    except Exception as error:
        report = replace(report, errors=(*report.errors, _failure("ranked", error)))
    return replace(judged, report=report)


def _failure(verb: str, error: Exception) -> str:
    return f"it cannot be {verb}: {spelled(error)}"


# Questions to a library --------------------------------------------------------------------------


def answers_by(library: Library, theirs: str, query: Question) -> list[Answer]:
    """Return the answers of a library to a question, in all arrangements; one that cannot be read is an error."""
    reply = library.ask(query.what, theirs, query.inputs.kind, {"words": query.inputs.words})
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


def by(library: Library) -> Ask:
    """Return a function that quantizes arrays by a library: it returns the parts, or why there are none."""

    def ask(theirs: str, source: str, **arrays: NDArray[Any]) -> Answer:
        return _answer(library.ask("quantize", theirs, source, arrays))

    return ask


def _answer(reply: Reply) -> Answer:
    """What came back about arrays."""
    said = reply.said if isinstance(reply.said, dict) else {}  # it is theirs: anything may be wrong with it
    return Answer(reply.arrays, reply.error or str(said.get("error", "")), str(said.get("raised", "")))


def parts_by(library: Library, theirs: str) -> Callable[..., dict[str, NDArray[Any]]]:
    """Return a function `parts(words, source)`: the parts of an array by a library, or `Refused`."""
    ask = by(library)

    def parts(words: NDArray[Any], source: str, **given: NDArray[Any]) -> dict[str, NDArray[Any]]:
        return parts_in(ask(theirs, source, x=words, **given))

    return parts
