"""What a study costs: cells a minute, how that falls with the size of the model, and how it grows with workers."""

from __future__ import annotations

import statistics
import tempfile
import time
from collections import defaultdict
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from kbit_ref.data import data_folder
from kbit_ref.study.plan import read_plan
from kbit_ref.study.results import read
from kbit_ref.study.run import run

__all__ = ["Cost", "quick_cost"]


@dataclass(frozen=True)
class Cost:
    """Of a run of the quick study.

    Parameters
    ----------
    workers, n_cells
        Processes, and what they measured.
    seconds
        From the first process to the last result.
    of_models
        By name: parameters, and the median of the seconds of a cell.
    """

    workers: int
    n_cells: int
    seconds: float
    of_models: Mapping[str, tuple[int, float]]


def quick_cost(workers: int) -> Cost:
    """Run the quick study with so many workers, and forget its results."""
    plan = read_plan(data_folder("study") / "quick.toml")
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "quick.sqlite"
        begin = time.perf_counter()
        n_cells = run(plan, path, workers)
        seconds = time.perf_counter() - begin
        results = read(path)
    times: dict[tuple[int, str], list[float]] = defaultdict(list)
    for result in results:
        times[result.subject.n_parameters, result.subject.name].append(result.seconds)
    of_models = {name: (n, statistics.median(found)) for (n, name), found in sorted(times.items())}
    return Cost(workers, n_cells, seconds, of_models)
