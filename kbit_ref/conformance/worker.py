"""The process in which one library answers: `main(WORK)`, started by `libraries`.

It reads WORK/jobs.json, and for each job a file of words that the parent made before; it writes
the answers to files and one line of JSON a step to its standard output. It judges nothing: whatever
the library does to this process (a crash, a hang, flush-to-zero) stays in it.
"""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np

from kbit_ref.conformance.adapters import Adapter, adapters
from kbit_ref.conformance.ask import ask, flushes_to_zero
from kbit_ref.conformance.inputs import SOURCES
from kbit_ref.conformance.worker_pipe import loaded, open_pipe


def main(folder: str) -> None:
    """Answer all jobs."""
    work = Path(folder)
    tell = open_pipe()
    jobs = json.loads((work / "jobs.json").read_text("utf-8"))
    adapter = adapters(jobs["folders"])[jobs["library"]]
    if not loaded(adapter, tell):
        return
    for job in jobs["jobs"]:
        tell(start=job["id"])
        words = np.load(job["inputs"], allow_pickle=False)
        numbers = words.view(job["source"]) if job["source"] in SOURCES and job["source"] != "bfloat16" else words
        arrays: dict[str, Any] = {}
        lines = []
        for i, answer in enumerate(ask(_asked(adapter, job), numbers)):
            if answer.array is not None:
                arrays[str(i)] = answer.array
            lines.append({"arrangement": answer.arrangement, "custom": answer.custom, "error": answer.error})
        name = f"{job['id']}.npz"
        np.savez(work / name, allow_pickle=False, **arrays)
        tell(done=job["id"], answers=lines, file=name)
    tell(end=True, flushes=flushes_to_zero())


def _asked(adapter: Adapter, job: dict[str, Any]) -> Callable[[Any], Any]:
    """The adapter's method for one job, as a function of the array."""
    if job["what"] == "decode":
        return lambda codes: adapter.decode(job["theirs"], codes)
    return lambda x: adapter.encode(job["theirs"], x, job["source"])
