"""Several libraries: a judge for each in a process of its own, two at a time, since Python computes on one core.

A judge asks its library, which has a process of its own too, and sends pickles of what it finds: our own results, and
arrays that it has read. One library is judged in this process.
"""

from __future__ import annotations

import importlib
import json
import os
import pickle
import subprocess
import sys
import tempfile
import threading
from collections.abc import Callable, Iterable, Iterator, Sequence
from copy import copy
from dataclasses import dataclass, replace
from pathlib import Path
from typing import IO, Any

from kbit_ref.conformance.implementations.adapters import Adapter, adapters
from kbit_ref.conformance.implementations.claims import Profile
from kbit_ref.conformance.implementations.library import Library
from kbit_ref.conformance.implementations.processes import Processes, side_by_side
from kbit_ref.conformance.libraries import Claim, Judged, Progress, effort, judge_library, questions
from kbit_ref.conformance.subject import Question
from kbit_ref.conformance.verdict import Verdict
from kbit_ref.datatypes.datatype import datatype

__all__ = ["Found", "judge_libraries", "judge_side_by_side"]

START = "import sys; sys.path[:] = sys.argv[1:]; from kbit_ref.conformance.judges import main; main()"


@dataclass
class Found:
    """The verdicts on a library, and what else its judge was to ask."""

    judged: list[Judged]
    more: Any = None


@dataclass(frozen=True)
class _Work:
    """The work of a judging process."""

    timeout: float
    folders: tuple[str, ...]
    rank: bool
    answered: bool  # answers about data types are sent too
    more: str  # module:function of all adapters, its own, and the library

    def extra(self, libraries: Sequence[Adapter], adapter: Adapter, library: Library) -> Any:
        """Return the answer of the function `more`."""
        module, _, name = self.more.partition(":")
        return getattr(importlib.import_module(module), name)(libraries, adapter, library) if module else None


def judge_libraries(libraries: Sequence[Adapter], **options: Any) -> list[Judged]:
    """Judge the profiles of libraries; the verdicts are in the order of the libraries.

    Parameters
    ----------
    libraries
        Adapters, all of them installed.
    options
        As in `judge_side_by_side`.
    """
    return [judged for one in judge_side_by_side(libraries, **options) for judged in one.judged]


def judge_side_by_side(
    libraries: Sequence[Adapter],
    *,
    timeout: float = 120.0,
    folders: Iterable[str | Path] = (),
    progress: Progress = lambda *_: None,
    each: Callable[[Verdict], None] = lambda _: None,
    rank: bool = False,
    answered: bool = False,
    more: str = "",
) -> list[Found]:
    """Judge libraries side by side, the fastest to import first; return verdicts, answers, and the results of `more`.

    Parameters
    ----------
    timeout
        Seconds that a library may be silent, its import included.
    folders
        Where adapters that are not ours were found.
    progress, rank
        As in `judge_library`.
    each
        Called with each verdict as soon as it is reached.
    answered
        Return the answers about data types too.
    more
        `module:function`, called with all adapters, one of them, and its library, and returns what can be pickled.
    """
    lock, over, processes = threading.Lock(), threading.Event(), Processes()
    tell, show = _alone(progress, lock, over), _alone(each, lock, over)
    for adapter in libraries:
        tell(adapter.library, 0, sum(map(effort, adapter.profiles)))
    work = _Work(timeout, tuple(str(Path(folder).resolve()) for folder in folders), rank, answered, more)

    def one(adapter: Adapter) -> Found:
        spec = _spelled(libraries, adapter, work) if len(libraries) > 1 else None
        if spec is not None:
            return _apart(spec, adapter, processes, tell, show)
        with Library(adapter.library, timeout, work.folders, processes) as library:
            judged = judge_library(adapter, library, progress=tell, each=lambda j: show(j.report), rank=rank)
            return Found(judged, work.extra(libraries, adapter, library))

    order = sorted(libraries, key=lambda adapter: adapter.import_seconds)
    try:
        results = dict(zip(map(id, order), side_by_side(one, order, processes), strict=True))
        return [results[id(adapter)] for adapter in libraries]
    finally:
        with lock:  # a thread that an interrupt leaves behind prints no more
            over.set()


def _alone(call: Callable[..., None], lock: threading.Lock, over: threading.Event) -> Callable[..., None]:
    """Let one thread at a time do it, until it is over."""

    def alone(*arguments: Any) -> None:
        with lock:
            if not over.is_set():
                call(*arguments)

    return alone


# In this process ---------------------------------------------------------------------------------


def _spelled(libraries: Sequence[Adapter], adapter: Adapter, work: _Work) -> str | None:
    """Return the work on a library as JSON; None if another process would not find the same profiles."""
    known, chosen = adapters(work.folders), {}
    for one in libraries:
        all_of_it = known[one.library].profiles if one.library in known else ()
        if not all(profile in all_of_it for profile in one.profiles):
            return None
        chosen[one.library] = [all_of_it.index(profile) for profile in one.profiles]
    return json.dumps({"library": adapter.library, "libraries": chosen, "work": vars(work)})


def _apart(
    spec: str, adapter: Adapter, processes: Processes, progress: Progress, each: Callable[[Verdict], None]
) -> Found:
    """Let another process judge the library, and pass its events on."""
    found, done = Found([]), False
    with tempfile.TemporaryDirectory(prefix="kbit_ref-judge-", ignore_cleanup_errors=True) as folder:
        places = [str(Path(place).resolve()) for place in sys.path]
        options = {"stdin": subprocess.PIPE, "stdout": subprocess.PIPE, "start_new_session": True}
        command = [sys.executable, "-P", "-c", START, *places]
        process = processes.start(command, **options, env={**os.environ, "TMPDIR": folder})
        assert process.stdin is not None
        assert process.stdout is not None
        with process.stdin, process.stdout:
            try:
                process.stdin.write(spec.encode())
                process.stdin.close()
                for kind, what in _events(process.stdout):
                    if kind == "progress":
                        progress(*what)
                    elif kind == "judged":
                        found.judged.append(_with_questions(*what))
                        each(found.judged[-1].report)
                    else:
                        found.more, done = what, True
            except BrokenPipeError:  # it has ended before it could read
                pass
        code = process.wait()
    for profile in adapter.profiles[len(found.judged) :]:
        found.judged.append(_unjudged(adapter, profile, f"its judge died: exit code {code}"))
        each(found.judged[-1].report)
    if not done and found.more is None:
        progress(adapter.library, *[sum(map(effort, adapter.profiles))] * 2)
    return found


def _events(pipe: IO[bytes]) -> Iterator[tuple[str, Any]]:
    """Yield the events that a judging process sends, until it ends."""
    while True:
        try:
            yield pickle.load(pipe)
        except (EOFError, pickle.UnpicklingError, ValueError):  # the last one may be cut off
            return


def _unjudged(adapter: Adapter, profile: Claim, why: str) -> Judged:
    if isinstance(profile, Profile):
        return Judged(profile, Verdict(profile.dtype, profile.dtype, (), *_about(adapter, profile.theirs), (why,)))
    return Judged(profile, Verdict(profile.profile, "", (), *_about(adapter, profile.name), (why,)))


def _about(adapter: Adapter, name: str) -> tuple[str, str, str]:
    return adapter.library, adapter.version(), name


# In the process of a judge -----------------------------------------------------------------------


def main() -> None:
    """Do the work that comes as JSON, and send what is found."""
    out = os.fdopen(os.dup(1), "wb")
    os.dup2(2, 1)  # what anybody prints is no event
    given = json.load(sys.stdin)
    work = _Work(**given["work"])
    known = adapters(work.folders)
    chosen = [_only(known[name], which) for name, which in given["libraries"].items()]
    adapter = next(each for each in chosen if each.library == given["library"])

    def send(kind: str, what: Any) -> None:
        pickle.dump((kind, what), out)
        out.flush()

    with Library(adapter.library, work.timeout, work.folders) as library:
        judge_library(
            adapter,
            library,
            progress=lambda *what: send("progress", what),
            each=lambda judged: send("judged", _to_send(judged, work.answered)),
            rank=work.rank,
        )
        send("more", work.extra(chosen, adapter, library))


def _only(adapter: Adapter, which: Sequence[int]) -> Adapter:
    """Return an adapter with some of its profiles."""
    made = copy(adapter)
    made.profiles = tuple(adapter.profiles[i] for i in which)
    return made


def _to_send(judged: Judged, answered: bool) -> tuple[Judged, list[Any]]:
    """Split a result for sending: without the answers; and the answers, with what makes each question."""
    sent = [(_key(question), answers) for question, answers in judged.answered] if answered else []
    return replace(judged, answered=()), sent


def _key(question: Question) -> Any:
    return question.dtype.name, question.what, question.inputs.kind, question.nan


def _with_questions(judged: Judged, answered: list[Any]) -> Judged:
    """Return the result with the answers, and the questions themselves."""
    pairs = ((questions(datatype(name), *rest), answers) for (name, *rest), answers in answered)
    return replace(judged, answered=tuple(pairs))
