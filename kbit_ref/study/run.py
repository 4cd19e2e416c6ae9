"""Run a plan: every cell that a results file does not have yet, in processes of this machine or on a Dask cluster.

Workers measure, this process alone writes. Both kinds of workers are a `concurrent.futures.Executor`, so that there
is one loop; a cell that fails is told at the end, and the others go on.
"""

from __future__ import annotations

import multiprocessing
import os
import threading
import time
from collections.abc import Callable, Iterator
from concurrent.futures import FIRST_COMPLETED, CancelledError, Executor, Future, ProcessPoolExecutor, wait
from concurrent.futures.process import BrokenProcessPool
from contextlib import contextmanager
from multiprocessing import connection
from pathlib import Path

from kbit_ref.errors import BadInput, KbitError, MissingLibrary, message
from kbit_ref.study.measure import measure, subject_of
from kbit_ref.study.plan import Evaluation, Plan
from kbit_ref.study.results import Results
from kbit_ref.study.rows import Cell, Result
from kbit_ref.transformer.load import load_model

__all__ = ["Tell", "run"]

Tell = Callable[[int, int, str], None]  # cells done, cells in all, what is done and the time left
THREADS = ("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS", "VECLIB_MAXIMUM_THREADS")
WAITING = 4  # cells at a time for each worker, so that none is idle
FIXED = 100_000  # parameters that cost as much as what does not grow with them; for the time left
DEATHS = 3  # of worker processes, after which a run gives up


def run(plan: Plan, path: str | os.PathLike[str], workers: int = 1, dask: str = "", tell: Tell | None = None) -> int:
    """Measure what is missing in a results file; how many cells were.

    Parameters
    ----------
    plan
        What is asked.
    path
        The results; cells that are there are not measured again.
    workers
        Processes, with one BLAS thread each.
    dask
        The address of a scheduler, whose workers are used instead; they see the same files and have kbit_ref.
    tell
        Is told how far it is.

    Raises
    ------
    BadInput
        `study: 12 of 300 cells, load_model: m/config.json, there is no such file; ...; mend it and run again`
    MissingLibrary
        `study: dask, distributed is not installed; pip install kbit_ref[cluster]`
    """
    with Results(path, plan) as results:
        cells = plan.cells()
        done = results.done()
        todo = [cell for cell in cells if cell not in done]
        for name in {cell.model for cell in done} - {cell.model for cell in todo}:
            _unchanged(results, plan, name)  # those with cells to do are seen to when these are added
        clock = _Clock(plan, len(cells) - len(todo), todo)
        failed: dict[Cell, str] = {}
        deaths = 0
        while todo:
            try:
                with _executor(workers, dask, len(todo)) as (executor, n):
                    for cell, found in _measured(executor, plan, todo, n * WAITING):
                        if isinstance(found, Result):
                            results.add(found)
                        else:
                            failed[cell] = found
                        done.add(cell)
                        state = clock(cell)
                        if tell is not None:
                            tell(*state)
            except BrokenProcessPool:  # a worker was killed: memory, or somebody; what it was at is asked again
                deaths += 1
                if deaths == DEATHS:
                    rule = f"worker processes died {deaths} times"
                    remedy = "what was finished is kept; use fewer workers, or see what kills them"
                    raise BadInput(message("study", str(path), rule, remedy)) from None
            todo = [cell for cell in todo if cell not in done]
    if failed:
        first = next(iter(failed.values()))
        got = f"{len(failed)} of {len(cells)} cells, the first {next(iter(failed)).model}"
        raise BadInput(message("study", got, first.replace(";", " -"), "the others are kept; mend it and run again"))
    return clock.measured


def _measured(executor: Executor, plan: Plan, cells: list[Cell], at_once: int) -> Iterator[tuple[Cell, Result | str]]:
    """Results as they come, or what was wrong with a cell."""
    going: dict[Future[Result | str], Cell] = {}
    waiting = iter(cells)
    while True:
        for cell in waiting:
            going[executor.submit(_asked, str(plan.folder(cell.model)), plan.evaluation, cell)] = cell
            if len(going) >= at_once:
                break
        if not going:
            return
        for future in wait(going, return_when=FIRST_COMPLETED).done:
            cell = going.pop(future)
            yield cell, future.result()  # raises what has befallen a worker, never what is wrong with a cell


def _asked(folder: str, evaluation: Evaluation, cell: Cell) -> Result | str:
    """In a worker: a result, or what is wrong with the cell in a line, whatever it is; the others go on."""
    try:
        return measure(folder, evaluation, cell)
    except KbitError as error:
        return str(error)
    except Exception as error:
        said = str(error).splitlines()[:1]
        return ": ".join([type(error).__name__, *said])


class _Clock:
    """How many cells are done, and when the rest will be: a cell costs as its model is large."""

    def __init__(self, plan: Plan, done: int, todo: list[Cell]):
        self.done, self.all, self.measured = done, done + len(todo), 0
        sizes = {name: _parameters(folder) for name, folder in plan.models.items()}
        self.costs = {cell: float(FIXED + sizes[cell.model]) for cell in todo}
        self.left = sum(self.costs.values())
        self.spent, self.begin = 0.0, time.monotonic()

    def __call__(self, cell: Cell) -> tuple[int, int, str]:
        """One more is done."""
        self.measured += 1
        self.spent += self.costs[cell]
        self.left -= self.costs[cell]
        seconds = (time.monotonic() - self.begin) * self.left / self.spent
        left = f"{seconds / 60:.0f} min" if seconds > 90 else f"{seconds:.0f} s"
        name = f"{cell.model} {cell.kind} {cell.bits}"
        return self.done + self.measured, self.all, f"{name}, {left} left"


def _parameters(folder: Path) -> float:
    """About how many, by the size of the files."""
    return sum(file.stat().st_size for file in folder.glob("*.safetensors")) / 2


# Workers ---------------------------------------------------------------------------------------


def _unchanged(results: Results, plan: Plan, name: str) -> None:
    """A model that is done is still the one that was measured, if it is still there."""
    if name in plan.models and (plan.folder(name) / "config.json").exists():
        subject = subject_of(load_model(plan.folder(name)), plan.folder(name), name)
        results.same(name, subject.digest)


@contextmanager
def _executor(workers: int, dask: str, n_cells: int) -> Iterator[tuple[Executor, int]]:
    """Who measures, and how many they are."""
    if dask:
        with _cluster(dask) as found:
            yield found
        return
    n = max(1, min(workers, n_cells))
    before = {name: os.environ.get(name) for name in THREADS}
    os.environ.update(dict.fromkeys(THREADS, "1"))  # new processes read them when they import NumPy
    try:
        pool = ProcessPoolExecutor(n, multiprocessing.get_context("spawn"), _follow_parent)
        try:
            yield pool, n
        finally:
            pool.shutdown(cancel_futures=True)
    finally:
        for name, value in before.items():
            if value is None:
                os.environ.pop(name, None)
            else:
                os.environ[name] = value


def _follow_parent() -> None:
    """A worker ends when its parent does, however that ends."""
    parent = multiprocessing.parent_process()
    assert parent is not None

    def watch() -> None:
        connection.wait([parent.sentinel])
        os._exit(1)

    threading.Thread(target=watch, daemon=True).start()


@contextmanager
def _cluster(address: str) -> Iterator[tuple[Executor, int]]:
    """The workers of a Dask scheduler; what one of them was at when it died is given to another."""
    try:
        from distributed import Client, KilledWorker
    except ImportError:
        rule = "distributed is not installed"
        raise MissingLibrary(message("study", "dask", rule, "pip install kbit_ref[cluster]")) from None
    try:
        client = Client(address, timeout=10, set_as_default=False)
    except (OSError, ValueError) as error:
        rule = f"no scheduler answers there ({error})"
        raise BadInput(message("study", f"dask = {address}", rule, "start one")) from None
    with client:
        threads = sum(facts["nthreads"] for facts in client.scheduler_info()["workers"].values())
        try:
            yield client.get_executor(pure=False), max(threads, 1)
        except (KilledWorker, CancelledError) as error:
            rule = f"the cluster lost a cell ({str(error).splitlines()[0]})"
            remedy = "what was finished is kept; run again"
            raise BadInput(message("study", f"dask = {address}", rule, remedy)) from None
