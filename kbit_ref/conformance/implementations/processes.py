"""Libraries side by side: a few at a time, each with processes of its own, all of which an interrupt ends at once."""

from __future__ import annotations

import os
import queue
import signal
import subprocess
import threading
from collections.abc import Callable, Sequence
from concurrent.futures import Future
from contextlib import suppress
from typing import Any, TypeVar

__all__ = ["Processes", "side_by_side"]

AT_ONCE = 2
LEFT = 1.6  # seconds in which threads may finish after an interrupt
Item = TypeVar("Item")
Result = TypeVar("Result")


class Processes:
    """The processes that were started, to end them together.

    Examples
    --------
    >>> import sys
    >>> processes = Processes()
    >>> process = processes.start([sys.executable, "-c", "import time; time.sleep(600)"])
    >>> processes.end()
    >>> process.returncode != 0
    True
    """

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._started: list[tuple[subprocess.Popen[bytes], bool]] = []  # and whether it leads those it started
        self._over = False

    def start(self, command: Sequence[str], **options: Any) -> subprocess.Popen[bytes]:
        """Start a process, as `subprocess.Popen` does; refused once all are ended."""
        with self._lock:
            if self._over:
                raise RuntimeError("no process is started after the end")
            process = subprocess.Popen(command, **options)
            self._started.append((process, bool(options.get("start_new_session"))))
        return process

    def end(self) -> None:
        """Kill all that run, and refuse to start another one."""
        with self._lock:
            self._over = True
            for process, leads in self._started:
                _kill(process, leads)
            for process, _ in self._started:
                process.wait()


def _kill(process: subprocess.Popen[bytes], leads: bool) -> None:
    """Kill a process that runs, and all that it has started if it leads them."""
    if leads and hasattr(os, "killpg") and process.poll() is None:
        with suppress(ProcessLookupError):
            os.killpg(process.pid, signal.SIGKILL)
    process.kill()  # of one that is known to have ended, this does nothing


def side_by_side(work: Callable[[Item], Result], items: Sequence[Item], processes: Processes) -> list[Result]:
    """Return `[work(item) for item in items]`, two at a time; an error or interrupt ends the processes and is raised.

    The threads are daemons, and an interrupt waits for them no longer than `LEFT`: a thread pool would keep it waiting.

    Examples
    --------
    >>> side_by_side(lambda x: x * x, [1, 2, 3], Processes())
    [1, 4, 9]
    """
    results: list[Future[Result]] = [Future() for _ in items]
    waiting: queue.SimpleQueue[tuple[Item, Future[Result]]] = queue.SimpleQueue()
    for pair in zip(items, results, strict=True):
        waiting.put(pair)

    def one_after_the_other() -> None:
        while True:
            try:
                item, result = waiting.get_nowait()
            except queue.Empty:
                return
            try:
                result.set_result(work(item))
            except BaseException as error:
                result.set_exception(error)

    threads = [threading.Thread(target=one_after_the_other, daemon=True) for _ in range(AT_ONCE)]
    for thread in threads:
        thread.start()
    try:
        return [result.result() for result in results]
    except BaseException:
        processes.end()
        with suppress(queue.Empty):
            while True:
                waiting.get_nowait()
        for thread in threads:  # one that computes while the interpreter ends would abort it
            thread.join(LEFT / AT_ONCE)
        raise
