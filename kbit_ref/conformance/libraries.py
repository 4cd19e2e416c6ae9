"""Judge libraries: ask each in a process of its own, compare here, where nothing of theirs runs.

The inputs and the answers by the definition are made in this process. A library that crashes or
hangs loses the job it was at; a new process goes on with the next one. What comes back is not
trusted: anything that cannot be read is an error of that library.
"""

from __future__ import annotations

import json
import queue
import subprocess
import sys
import tempfile
import threading
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np

from kbit_ref.conformance.adapters import Adapter, Profile
from kbit_ref.conformance.ask import Answer
from kbit_ref.conformance.judge import judge
from kbit_ref.conformance.processes import Processes, side_by_side
from kbit_ref.conformance.question import Question, question
from kbit_ref.conformance.verdict import Report, Verdict
from kbit_ref.datatype import datatype

__all__ = ["Judged", "judge_libraries"]

MOST_RESTARTS = 8
START = "import sys; sys.path[:] = sys.argv[2:]; from kbit_ref.conformance.worker import main; main(sys.argv[1])"

Progress = Callable[[str, int, int], None]


@dataclass(frozen=True)
class Judged:
    """One row of the table: a profile of a library, and its verdicts."""

    library: str
    version: str
    profile: Profile
    report: Report


@dataclass(frozen=True)
class _Job:
    id: int
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
    """
    places = [str(Path(folder).resolve()) for folder in folders]
    tell = progress or (lambda *_: None)
    # after an interrupt, a thread may still write into the folder while it is removed
    with tempfile.TemporaryDirectory(prefix="kbit_ref-check-", ignore_cleanup_errors=True) as work:
        paper = _Paper(Path(work))
        for adapter in libraries:
            tell(adapter.library, 0, len(list(_jobs(_chosen(adapter, types)))))  # all of it is known from the start

        def one(adapter: Adapter) -> list[Judged]:
            return _one(adapter, types, timeout, places, paper, tell)

        return [row for rows in side_by_side(one, libraries, paper.processes) for row in rows]


class _Paper:
    """Questions and the files with their inputs, each made once; and the processes that read them."""

    def __init__(self, work: Path):
        self.work = work
        self.processes = Processes()
        self.lock = threading.Lock()
        self.questions: dict[tuple[Any, ...], Question] = {}

    def question(self, job: _Job) -> Question:
        key = (job.profile.dtype, job.what, job.source, job.profile.nan)
        with self.lock:
            if key not in self.questions:
                self.questions[key] = question(datatype(job.profile.dtype), job.what, job.source, job.profile.nan)
            return self.questions[key]

    def inputs(self, job: _Job) -> str:
        base = job.profile.dtype.partition("+")[0]
        path = self.work / f"{base}-{job.what}-{job.source}.npy"
        words = self.question(job).inputs.words
        with self.lock:
            if not path.exists():
                np.save(path, words, allow_pickle=False)
        return str(path)


def _one(
    adapter: Adapter, types: Sequence[str], timeout: float, folders: list[str], paper: _Paper, tell: Progress
) -> list[Judged]:
    """All rows of one library."""
    profiles = _chosen(adapter, types)
    jobs = list(_jobs(profiles))
    verdicts: dict[int, Verdict] = {}
    notes: list[str] = []
    remaining = jobs
    for restart in range(MOST_RESTARTS + 1):
        if not remaining:
            break
        run = _Run(adapter, remaining, timeout, folders, paper)
        for job, answers in run.answers():
            verdicts[job.id] = _verdict(adapter, job, answers, paper)
            tell(adapter.library, len(verdicts), len(jobs))
        if run.flushes:
            notes = ["the library switches on flush-to-zero in its process"]
        left = [job for job in remaining if job.id not in verdicts]
        if left and run.fault:
            stuck = left if run.current is None or restart == MOST_RESTARTS else [run.current]
            for job in stuck:
                verdicts[job.id] = _verdict(adapter, job, [Answer("flat", error=run.fault)], paper)
        remaining = [job for job in left if job.id not in verdicts]
    rows = []
    for profile in profiles:
        its = [verdicts[job.id] for job in jobs if job.profile is profile]
        its = [replace(v, notes=(*v.notes, *notes)) for v in its]
        rows.append(Judged(adapter.library, adapter.version(), profile, Report(tuple(its), profile.theirs)))
    return rows


def _chosen(adapter: Adapter, types: Sequence[str]) -> list[Profile]:
    return [p for p in adapter.profiles if not types or {p.dtype, p.dtype.partition("+")[0]} & set(types)]


def _jobs(profiles: Iterable[Profile]) -> Iterator[_Job]:
    number = 0
    for profile in profiles:
        for what in profile.what:
            for source in profile.sources if what == "encode" else ("codes",):
                yield _Job(number, profile, what, source)
                number += 1


def _verdict(adapter: Adapter, job: _Job, answers: Sequence[Answer], paper: _Paper) -> Verdict:
    concerned = [k for k in adapter.known if job.what == "encode" and k.concerns(job.profile.theirs, job.source)]
    return judge(paper.question(job), answers, None, concerned)


class _Run:
    """One process of a library, from its start to its end, whichever way that comes."""

    def __init__(self, adapter: Adapter, jobs: Sequence[_Job], timeout: float, folders: list[str], paper: _Paper):
        self.jobs = {job.id: job for job in jobs}
        self.timeout = timeout
        self.fault = ""  # why it ended early
        self.current: _Job | None = None  # what it was at
        self.flushes = False
        self.processes = paper.processes
        self.work = Path(tempfile.mkdtemp(dir=paper.work))
        orders = [
            {"id": j.id, "what": j.what, "theirs": j.profile.theirs, "source": j.source, "inputs": paper.inputs(j)}
            for j in jobs
        ]
        text = json.dumps({"library": adapter.library, "folders": folders, "jobs": orders})
        (self.work / "jobs.json").write_text(text, "utf-8")

    def answers(self) -> Iterator[tuple[_Job, list[Answer]]]:
        """Each job as it is answered."""
        places = [str(Path(place).resolve()) for place in sys.path]  # what we can import, it can
        command = [sys.executable, "-u", "-P", "-c", START, str(self.work), *places]
        with (self.work / "stderr").open("wb") as stderr:
            pipes = {"stdin": subprocess.DEVNULL, "stdout": subprocess.PIPE, "stderr": stderr}
            process = self.processes.start(command, **pipes)
            lines: queue.Queue[bytes | None] = queue.Queue()
            reader = threading.Thread(target=_read_lines, args=(process.stdout, lines), daemon=True)
            reader.start()
            try:
                yield from self._follow(lines, process)
            finally:
                if process.poll() is None:
                    process.kill()
                process.wait()
                reader.join(5)  # a process that it started may hold the pipe open
                if process.stdout and not reader.is_alive():
                    process.stdout.close()

    def _follow(
        self, lines: queue.Queue[bytes | None], process: subprocess.Popen[bytes]
    ) -> Iterator[tuple[_Job, list[Answer]]]:
        while True:
            try:
                line = lines.get(timeout=self.timeout)
            except queue.Empty:
                self.fault = f"it was silent for {self.timeout:g} s, and was ended"
                return
            if line is None:
                self.fault = self._last_words(process)
                return
            try:
                told = json.loads(line)
                self.flushes = self.flushes or bool(told.get("flushes"))
                if "failed" in told:
                    self.fault = str(told["failed"])[:300]
                    return
                if "start" in told:
                    self.current = self.jobs[told["start"]]
                elif "done" in told:
                    job = self.jobs[told["done"]]
                    answers = self._read_answers(job, told)
                    self.current = None
                    yield job, answers
                elif "end" in told:
                    return
            except (ValueError, KeyError, TypeError, AttributeError) as error:
                self.fault = f"its process wrote a line that is no report ({type(error).__name__})"
                return

    def _read_answers(self, job: _Job, told: dict[str, Any]) -> list[Answer]:
        """The answers to one job; an unreadable one is an error."""
        answers = []
        try:
            with np.load(self.work / f"{job.id}.npz", allow_pickle=False) as arrays:
                for i, line in enumerate(told["answers"]):
                    array = arrays.get(str(i))
                    error = str(line["error"]) or ("" if array is not None else "an answer without an array")
                    answers.append(Answer(str(line["arrangement"]), array, str(line["custom"]), error))
        except Exception as error:  # the file is theirs: anything may be wrong with it
            return [Answer("flat", error=f"its answer cannot be read ({type(error).__name__})")]
        return answers

    def _last_words(self, process: subprocess.Popen[bytes]) -> str:
        """How the process died, and the last line it wrote."""
        try:
            code = process.wait(self.timeout)
        except subprocess.TimeoutExpired:
            return "it closed its pipe and went on"
        text = (self.work / "stderr").read_text("utf-8", "replace").strip().splitlines()
        how = f"signal {-code}" if code < 0 else f"exit code {code}"
        return f"its process died: {how}" + (f" ({text[-1][:160]})" if text else "")


def _read_lines(pipe: Any, lines: queue.Queue[bytes | None]) -> None:
    for line in pipe:
        lines.put(line)
    lines.put(None)
