"""Run a library in a process of its own, one question at a time; the parent makes the arrays and judges the answers.

A library that crashes or hangs loses the question it was at; a new process takes the next one.
What comes back is not trusted: anything that cannot be read is an error of that library.
"""

from __future__ import annotations

import contextlib
import json
import queue
import subprocess
import sys
import tempfile
import threading
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path
from types import TracebackType
from typing import Any, Self

import numpy as np
from numpy.typing import NDArray

from kbit_ref.conformance.implementations.processes import Processes

__all__ = ["Library", "Reply"]

MOST_RESTARTS = 16
START = (
    "import sys; sys.path[:] = sys.argv[2:]; "
    "from kbit_ref.conformance.implementations.worker import main; main(sys.argv[1])"
)


@dataclass(frozen=True)
class Reply:
    """A reply of a library: arrays, and facts about them; or the reason there is neither."""

    arrays: dict[str, NDArray[Any]]
    said: Any = None
    error: str = ""


class Library:
    """A library in a process of its own; use it in a `with` statement.

    Parameters
    ----------
    name
        Of the library, which is installed.
    timeout
        Seconds that it may be silent, its import included.
    folders
        Where adapters that are not ours were found.
    processes
        What starts them, and may end them.

    Attributes
    ----------
    flushes
        Did it switch on flush-to-zero in its process?
    """

    def __init__(
        self,
        name: str,
        timeout: float = 120.0,
        folders: Iterable[str | Path] = (),
        processes: Processes | None = None,
    ):
        self.timeout = timeout
        self.processes = processes or Processes()
        self.flushes = False
        self._asked, self._starts = 0, 0
        self._fault = ""  # why no more processes are started
        self._process: subprocess.Popen[bytes] | None = None
        self._lines: queue.Queue[bytes | None] = queue.Queue()
        self._folder = tempfile.TemporaryDirectory(prefix="kbit_ref-check-", ignore_cleanup_errors=True)
        self._work = Path(self._folder.name)
        who = {"library": name, "folders": [str(Path(folder).resolve()) for folder in folders]}
        (self._work / "who.json").write_text(json.dumps(who), "utf-8")

    def __enter__(self) -> Self:
        return self

    def __exit__(self, kind: type | None, error: BaseException | None, trace: TracebackType | None) -> None:
        self._stop()
        self._folder.cleanup()

    def ask(self, verb: str, theirs: str, source: str, arrays: dict[str, NDArray[Any]]) -> Reply:
        """Ask the library to `encode`, `decode` or `quantize` arrays of a source format, and return its answer."""
        if self._process is None and not self._fault:
            self._start()
        if self._fault:
            return Reply({}, error=self._fault)
        number, self._asked = self._asked, self._asked + 1
        np.savez(self._work / f"{number}.in.npz", allow_pickle=False, **arrays)
        try:
            return self._answer(number, {"verb": verb, "theirs": theirs, "source": source})
        finally:
            for path in self._work.glob(f"{number}.*.npz"):
                path.unlink()

    def _answer(self, number: int, request: dict[str, Any]) -> Reply:
        assert self._process is not None
        assert self._process.stdin is not None
        try:
            line = json.dumps({"id": number, **request}) + "\n"
            self._process.stdin.write(line.encode())
            self._process.stdin.flush()
        except OSError:
            return Reply({}, error=self._ended())
        received = self._read_line()
        if isinstance(received, str):
            return Reply({}, error=received)
        if received.get("done") != number:
            return Reply({}, error=self._ended("it answered another question"))
        try:
            with np.load(self._work / f"{number}.out.npz", allow_pickle=False) as file:
                return Reply(dict(file), received.get("said"))
        except Exception as error:  # the file is theirs: anything may be wrong with it
            return Reply({}, error=f"its answer cannot be read ({type(error).__name__})")

    def _read_line(self) -> dict[str, Any] | str:
        """Read the next line as a dict, or what is wrong."""
        try:
            line = self._lines.get(timeout=self.timeout)
        except queue.Empty:
            return self._ended(f"it was silent for {self.timeout:g} s, and was ended")
        if line is None:
            return self._ended()
        try:
            received = json.loads(line)
            self.flushes = self.flushes or bool(received.get("flushes"))
        except (ValueError, AttributeError):
            return self._ended("its process wrote a line that is no report")
        return dict(received)

    def _start(self) -> None:
        if self._starts > MOST_RESTARTS:
            self._fault = f"its process died {self._starts} times, and is not started again"
            return
        self._starts += 1
        places = [str(Path(place).resolve()) for place in sys.path]  # what we can import, it can
        command = [sys.executable, "-u", "-P", "-c", START, str(self._work), *places]
        self._lines = queue.Queue()
        with (self._work / "stderr").open("wb") as stderr:
            pipes = {"stdin": subprocess.PIPE, "stdout": subprocess.PIPE, "stderr": stderr}
            self._process = self.processes.start(command, **pipes)
        threading.Thread(target=_read_lines, args=(self._process.stdout, self._lines), daemon=True).start()
        received = self._read_line()
        if isinstance(received, str):
            self._fault = received
        elif "failed" in received:
            self._fault = str(received["failed"])[:300]

    def _ended(self, why: str = "") -> str:
        """End the process; why it ended."""
        process = self._process
        assert process is not None
        if not why:
            try:
                code = process.wait(5)
                text = (self._work / "stderr").read_text("utf-8", "replace").strip().splitlines()
                how = f"signal {-code}" if code < 0 else f"exit code {code}"
                why = f"its process died: {how}" + (f" ({text[-1][:160]})" if text else "")
            except subprocess.TimeoutExpired:
                why = "it closed its pipe and went on"
        self._stop()
        return why

    def _stop(self) -> None:
        process, self._process = self._process, None
        if process is None:
            return
        if process.poll() is None:
            process.kill()
        process.wait()
        for pipe in (process.stdin, process.stdout):
            if pipe is not None:
                with contextlib.suppress(OSError):  # what was not yet written to a dead process
                    pipe.close()


def _read_lines(pipe: Any, lines: queue.Queue[bytes | None]) -> None:
    try:
        for line in pipe:
            lines.put(line)
    except ValueError:  # closed meanwhile
        pass
    lines.put(None)
