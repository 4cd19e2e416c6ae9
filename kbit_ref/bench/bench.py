"""How fast: every operation beside `x.copy()` of float32 normals and beside each installed peer.

All callables of a row run in turn, several times, in one process, on as many cores as the row has
threads; a row reports medians, as the ratio to the copy and in millions of elements a second. Both
are needed: a copy is bound by page faults, and with huge pages it is four times as fast as without,
which changes every ratio. What a peer answers is compared with what we answer: whoever computes
something else is no peer. A peer that raises is told, and costs nothing but its own row.
"""

from __future__ import annotations

import os
import statistics
import tracemalloc
import warnings
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from time import perf_counter
from typing import Any

import numpy as np
from numpy.typing import NDArray

from kbit_ref.bench.peers import OUT_OF_REACH, PEERS, SLOW, Peer, installed
from kbit_ref.bench.tasks import Call, Task, ours, tasks
from kbit_ref.tensors.dequantize import dequantize
from kbit_ref.tensors.quantize import quantize

__all__ = ["PEERS", "Task", "Timing", "circumstances", "installed", "measure", "scratch_bytes", "tasks"]

COMPARED = 1 << 16  # elements of which the blocks of a peer are compared with ours


@dataclass(frozen=True)
class Timing:
    """The median of one callable."""

    task: str
    who: str  # copy, kbit_ref, or a library
    threads: int
    size: int
    seconds: float  # 0 where there is an error
    ratio: float  # copy / seconds, for the same number of elements
    target: float | None
    floor: float | None
    differs: int = 0  # numbers (for packed codes, bytes) for which a peer answers something else than we
    in_reach: bool = True  # for NumPy
    error: str = ""  # what the peer raised

    @property
    def speed(self) -> float:
        """Elements a second."""
        return self.size / self.seconds if self.seconds else 0.0


@contextmanager
def on_cores(count: int) -> Iterator[None]:
    """Keep all threads of this process on so many cores, where the system can."""
    if not hasattr(os, "sched_setaffinity"):
        yield
        return
    allowed = os.sched_getaffinity(0)
    try:
        _pin(set(sorted(allowed)[:count]))
        yield
    finally:
        _pin(allowed)


def _pin(cores: set[int]) -> None:
    threads = Path("/proc/self/task")
    for thread in threads.iterdir() if threads.exists() else [Path("0")]:
        with suppress(OSError):  # it has ended in the meantime
            os.sched_setaffinity(int(thread.name), cores)


def measure(task: Task, size: int, threads: int, runs: int, peers: Sequence[str]) -> Iterator[Timing]:
    """The task by everybody, beside the copy: medians of `runs` runs in turn."""
    with on_cores(threads), warnings.catch_warnings():
        warnings.simplefilter("ignore")  # those of other libraries
        yield from _measured(task, size, threads, runs, peers)


class _Contender:
    """Somebody in a row: what it does, on how many elements, and how long that took."""

    def __init__(self, call: Call, size: int, differs: int = 0):
        self.call, self.size, self.differs = call, size, differs
        self.error = ""
        self.seconds: list[float] = []

    def run(self) -> None:
        """Once more, if it has not failed before."""
        if self.error:
            return
        begin = perf_counter()
        self.error = _error(self.call)
        self.seconds.append(perf_counter() - begin)


def _error(call: Call) -> str:
    """Call it: what it raised, in one line."""
    try:
        call()
    except Exception as error:  # whatever a library raises
        return " ".join(f"{type(error).__name__}: {error}".split())[:80]
    return ""


def _measured(task: Task, size: int, threads: int, runs: int, peers: Sequence[str]) -> list[Timing]:
    normals = np.random.default_rng(0).standard_normal(size, np.float32)
    x = normals.astype(task.source, copy=False)
    call = ours(task, x, threads)
    answer = call()  # if this raises, it is our own mistake
    contenders = {"copy": _Contender(normals.copy, size), "kbit_ref": _Contender(call, size)}
    for name in peers:
        few = min([n for (begin, who), n in SLOW.items() if who == name and str(task).startswith(begin)], default=size)
        found = _contender(name, task, x[:few], threads, answer)
        if found is not None:
            contenders[name] = found
    for contender in contenders.values():
        contender.run()  # tables are built, code compiled, pages touched
        contender.seconds.clear()
    for _ in range(runs):
        for contender in contenders.values():
            contender.run()
    copy = statistics.median(contenders["copy"].seconds) / size
    return [_timing(task, name, threads, contender, copy) for name, contender in contenders.items()]


def _contender(name: str, task: Task, x: NDArray[Any], threads: int, answer: Any) -> _Contender | None:
    """A peer, compared with us; None if it has no such operation."""
    made: list[Peer | None] = []
    contender = _Contender(lambda: None, x.size)
    contender.error = _error(lambda: made.append(PEERS[name](task, x, threads)))
    if contender.error:
        return contender
    if made[0] is None:
        return None
    contender.call = made[0].call
    contender.error = _error(lambda: setattr(contender, "differs", _differences(name, task, x, threads, answer)))
    return contender


def _differences(name: str, task: Task, x: NDArray[Any], threads: int, answer: Any) -> int:
    """How many of its numbers are not ours. Blocks are compared with the profile that it computes."""
    few = x[:COMPARED] if task.of_blocks else x
    peer = PEERS[name](task, few, threads)
    assert peer is not None
    if task.of_blocks:
        q = quantize(few, peer.spelling or task.subject)
        answer = q.packed if task.verb == "quantize" else dequantize(q)
    theirs = peer.read(peer.call())
    return int(np.count_nonzero(theirs != answer[: theirs.size]))


def _timing(task: Task, name: str, threads: int, contender: _Contender, copy: float) -> Timing:
    """The row of a contender; `copy` is seconds an element."""
    target, floor = (task.target or {}, task.floor or {}) if name == "kbit_ref" else ({}, {})
    median = 0.0 if contender.error else statistics.median(contender.seconds)
    return Timing(
        *(str(task), name, threads, contender.size, median, copy * contender.size / median if median else 0.0),
        *(target.get(threads), floor.get(threads), contender.differs),
        not any(str(task).startswith(begin) and name == who for begin, who in OUT_OF_REACH),
        contender.error,
    )


def scratch_bytes(task: Task, size: int = 1 << 22, threads: int = 1) -> float:
    """Peak memory beyond input, output and tables, per thread: bytes, as tracemalloc counts NumPy's."""
    x = np.random.default_rng(0).standard_normal(size, np.float32).astype(task.source)
    call: Callable[[], Any] = ours(task, x, threads)
    call()  # the tables stay, they are not scratch
    tracemalloc.start()
    try:
        result = call()
        _, peak = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()
    made = [result.packed, result.scales] if task.verb == "quantize" else [result]
    kept = sum(array.nbytes for array in made if not (task.out and array is made[0]))
    return float(peak - kept) / threads


def circumstances() -> dict[str, str]:
    """What decides the numbers besides the code: machine, load, versions, huge pages."""
    pages = Path("/sys/kernel/mm/transparent_hugepage/enabled")
    return {
        "load": " ".join(f"{value:.2f}" for value in os.getloadavg()) if hasattr(os, "getloadavg") else "unknown",
        "cores": str(os.cpu_count()),
        "numpy": np.__version__,
        "huge pages": pages.read_text().strip() if pages.exists() else "unknown",
        "NUMPY_MADVISE_HUGEPAGE": os.environ.get("NUMPY_MADVISE_HUGEPAGE", "unset"),
        **installed(),
    }
