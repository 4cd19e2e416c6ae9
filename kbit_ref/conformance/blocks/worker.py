"""The process in which one library answers as long as it is asked: `main(WORK)`, started by `libraries`.

It reads one question a line from its standard input, the arrays from files that the parent made,
and writes the parts to files and one line of JSON a question to its standard output. It judges
nothing: whatever the library does to this process (a crash, a hang, flush-to-zero) stays in it.
"""

from __future__ import annotations

import json
import sys
import warnings
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from kbit_ref.conformance.ask import flushes_to_zero, spelled
from kbit_ref.conformance.blocks.adapters import BlockAdapter, block_adapters
from kbit_ref.conformance.worker_pipe import loaded, open_pipe

__all__ = ["answer", "main"]


def main(folder: str) -> None:
    """Answer all questions."""
    work = Path(folder)
    tell = open_pipe()
    who = json.loads((work / "who.json").read_text("utf-8"))
    adapter = block_adapters(who["folders"])[who["library"]]
    if not loaded(adapter, tell):
        return
    for line in sys.stdin:
        question = json.loads(line)
        with np.load(work / f"{question['id']}.in.npz", allow_pickle=False) as file:
            arrays = dict(file)
        parts, why = answer(adapter, question["theirs"], question["source"], arrays)
        np.savez(work / f"{question['id']}.out.npz", allow_pickle=False, **parts)
        tell(done=question["id"], error=why, flushes=flushes_to_zero())


def answer(
    adapter: BlockAdapter, theirs: str, source: str, arrays: dict[str, NDArray[Any]]
) -> tuple[dict[str, NDArray[Any]], str]:
    """The parts for one array, or why there are none.

    `arrays` has `x`, and for a library that takes the scales from us `scales`, perhaps `zero_points`.
    """
    x = arrays["x"]
    before = x.tobytes()
    try:
        with warnings.catch_warnings(), np.errstate(all="ignore"):
            warnings.simplefilter("ignore")
            if "scales" in arrays:
                got = adapter.quantize_given(theirs, x, arrays["scales"], arrays.get("zero_points"))
            else:
                got = adapter.quantize(theirs, x, source)
            parts = {name: _plain(name, value) for name, value in dict(got).items()}
    except Exception as error:  # whatever it raises is the answer
        return {}, f"it raised {spelled(error)}"
    if x.tobytes() != before:
        return {}, "it changed the array that it was given"
    return parts, ""


def _plain(name: str, value: Any) -> NDArray[Any]:
    """A part as an array that a file can hold: reals and integers of NumPy's own types."""
    array = np.asarray(value)
    if array.dtype.kind in "iufb" and array.dtype.isbuiltin == 1:
        return array
    raise TypeError(f"{name} is an array of dtype {array.dtype}")
