"""The pipes of a program: lines in, lines out, and nothing that it does can make us wait for ever or fill our memory.

One loop, one thread: it writes to the program when the program reads, and reads when the program
writes, so that neither waits for the other on a full pipe. A line that never ends, a pipe that stays
silent and a program that dies end in one line of text.
"""

from __future__ import annotations

import contextlib
import os
import select
import shlex
import signal
import subprocess
import sys
import time
from collections.abc import Iterable, Iterator, Sequence
from itertools import islice

from kbit_ref.conformance.implementations.processes import Processes
from kbit_ref.errors import BadInput, message

__all__ = ["read_pipe", "run"]

LONGEST = 1 << 22  # characters of a line
AT_ONCE = 1 << 16  # bytes that are read or written
LINES_AT_ONCE = 64
LONGEST_WAIT = 10**6  # seconds
LAST_WORDS = 2000  # bytes of standard error that are kept


class _Lines:
    """Bytes, cut into lines as they come."""

    def __init__(self, who: str):
        self.who, self.rest, self.count = who, b"", 0

    def add(self, data: bytes) -> list[str]:
        """Add bytes, and return the lines that are complete now."""
        *whole, self.rest = (self.rest + data).split(b"\n")
        if len(self.rest) > LONGEST:
            _refuse(self.who, f"line {self.count + len(whole) + 1} is longer than {LONGEST:,} characters")
        self.count += len(whole)
        return [_text(line) for line in whole]

    def last(self) -> list[str]:
        """Return the bytes after the last end of a line."""
        return [_text(self.rest)] if self.rest.strip() else []


def read_pipe(descriptor: int, timeout: float) -> Iterator[str]:
    """Yield the lines of a pipe that another program writes to; an error if it is silent for too long.

    Raises
    ------
    BadInput
        `check: standard input after 12 lines, nothing came for 60 s; ...`
    """
    _check(timeout)
    lines = _Lines("standard input")
    while True:
        if not select.select([descriptor], [], [], timeout)[0]:
            rule = f"nothing came for {timeout:g} s"
            _refuse(f"standard input after {lines.count} lines", rule, "end the program, or wait longer: --timeout")
        data = os.read(descriptor, AT_ONCE)
        if not data:
            break
        yield from lines.add(data)
    yield from lines.last()


def run(command: str | Sequence[str], lines: Iterable[str], timeout: float, name: str = "") -> Iterator[str]:
    """Start a program, write the lines to it, and give the lines that it writes.

    Parameters
    ----------
    command
        The program and its arguments, a list or quoted as for a shell; no shell runs it.
    lines
        Without their ends; consumed as fast as the program reads them.
    timeout
        Seconds in which it must take a line or give one. After that it is ended, with all that it started.
    name
        Of the program, in errors; by default the command.

    Raises
    ------
    BadInput
        `check: ./prog after 12 lines, it was silent for 10 s and was ended; ...`

    Examples
    --------
    >>> list(run("cat", ["3f000000", "bf000000"], 10))
    ['3f000000', 'bf000000']
    """
    _check(timeout)
    name = name or (command if isinstance(command, str) else shlex.join(command))
    if sys.platform == "win32":
        _refuse(name, "programs are run on POSIX systems only", "use kbit-ref gen | program | kbit-ref check --pipe")
    processes = Processes()
    try:
        process = _start(processes, command)
    except (OSError, ValueError) as error:
        reason = getattr(error, "strerror", None) or str(error)
        _refuse(f"cmd = {name!r}", f"it cannot be started ({reason})", "name a program that can be run")
    try:
        yield from _Run(name, process, lines, timeout).answers()
    finally:
        with contextlib.suppress(OSError):  # all that it started, if there is any of it left
            os.killpg(process.pid, signal.SIGKILL)
        processes.end()
        for pipe in (process.stdin, process.stdout, process.stderr):
            with contextlib.suppress(OSError):
                if pipe:
                    pipe.close()


def _check(timeout: float) -> None:
    if not 0 < timeout <= LONGEST_WAIT:
        _refuse(f"timeout = {timeout}", f"it is a number of seconds, at most {LONGEST_WAIT:,}", "e.g. --timeout 60")


def _start(processes: Processes, command: str | Sequence[str]) -> subprocess.Popen[bytes]:
    words = shlex.split(command) if isinstance(command, str) else list(command)
    if not words:
        raise ValueError("it is empty")
    pipes = {"stdin": subprocess.PIPE, "stdout": subprocess.PIPE, "stderr": subprocess.PIPE, "bufsize": 0}
    return processes.start(words, start_new_session=True, **pipes)


class _Run:
    """A program that runs, from its start to its end, whichever way that comes."""

    def __init__(self, name: str, process: subprocess.Popen[bytes], lines: Iterable[str], timeout: float):
        assert process.stdin
        assert process.stdout
        assert process.stderr
        self.name, self.process, self.timeout = name, process, timeout
        self.stdin, self.stdout, self.stderr = process.stdin, process.stdout, process.stderr
        os.set_blocking(self.stdin.fileno(), False)
        self.questions = iter(lines)
        self.pending = b""  # what is to be written
        self.found = _Lines(name)
        self.words = b""  # the end of what it wrote to standard error
        self.errors_end = False

    def answers(self) -> Iterator[str]:
        """Yield the lines that the program writes, until it closes its output."""
        self.deadline = time.monotonic() + self.timeout
        self._next()
        while True:
            readers = [self.stdout] if self.errors_end else [self.stdout, self.stderr]
            writers = [] if self.stdin.closed else [self.stdin]
            ready = select.select(readers, writers, [], max(0.0, self.deadline - time.monotonic()))
            if not any(ready) or time.monotonic() > self.deadline:
                self._fail(f"it was silent for {self.timeout:g} s and was ended", "wait longer: --timeout")
            if self.stderr in ready[0]:
                self._listen()
            if self.stdin in ready[1]:
                self._write()
            if self.stdout in ready[0]:
                data = os.read(self.stdout.fileno(), AT_ONCE)
                if not data:
                    break
                complete = self.found.add(data)
                yield from complete
                if complete:
                    self._progressed()
        yield from self.found.last()
        self._finish()

    def _progressed(self) -> None:
        self.deadline = time.monotonic() + self.timeout

    def _next(self) -> None:
        """Fetch the next lines; close the pipe after the last one."""
        lines = list(islice(self.questions, LINES_AT_ONCE))
        self.pending = "".join(line + "\n" for line in lines).encode()
        if not lines:
            self._close()

    def _write(self) -> None:
        try:
            written = os.write(self.stdin.fileno(), self.pending[:AT_ONCE])
        except BlockingIOError:
            return
        except BrokenPipeError:  # it reads no more; how it ends tells why
            self._close()
            return
        self.pending = self.pending[written:]
        self._progressed()
        if not self.pending:
            self._next()

    def _close(self) -> None:
        with contextlib.suppress(OSError):
            self.stdin.close()

    def _listen(self) -> None:
        data = os.read(self.stderr.fileno(), AT_ONCE)
        self.errors_end = not data
        self.words = (self.words + data)[-LAST_WORDS:]

    def _finish(self) -> None:
        """Raise an error if the program, having closed its output, ended badly."""
        try:
            code = self.process.wait(max(0.1, self.deadline - time.monotonic()))
        except subprocess.TimeoutExpired:
            self._fail(f"it closed its output, went on for {self.timeout:g} s, and was ended", "let it end by itself")
        while not self.errors_end and select.select([self.stderr], [], [], 0)[0]:
            self._listen()
        if code:
            how = f"signal {-code}" if code < 0 else f"exit code {code}"
            said = self.words.decode("utf-8", "replace").strip().splitlines()
            self._fail(f"it died: {how}" + (f" ({said[-1][:160]})" if said else ""), "run it by hand on that line")

    def _fail(self, rule: str, remedy: str) -> None:
        count = self.found.count
        _refuse(f"{self.name} after {count} line{'s' * (count != 1)}", rule, remedy)


def _text(line: bytes) -> str:
    return line.decode("utf-8", "backslashreplace").rstrip("\r")


def _refuse(got: str, rule: str, remedy: str = "mend the program") -> None:
    raise BadInput(message("check", got, rule, remedy))
