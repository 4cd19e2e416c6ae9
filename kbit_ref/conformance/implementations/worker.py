"""The process in which one library answers: `main(WORK)`, started by `library`.

A question is a line of JSON on its standard input, an answer a line on what was its standard output; the arrays are
in files. The process judges nothing: whatever the library does to it (a crash, a hang, flush-to-zero) stays in it.
"""

from __future__ import annotations

import json
import os
import sys
import warnings
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from kbit_ref.conformance.implementations.adapters import Adapter, adapters
from kbit_ref.conformance.implementations.ask import Answer, ask, ask_parts, flushes_to_zero, spelled
from kbit_ref.conformance.inputs.of_types import MORE_SOURCES, SOURCES

__all__ = ["answer", "main", "stored"]

Tell = Callable[..., None]
Arrays = dict[str, NDArray[Any]]


def main(folder: str) -> None:
    """Answer all questions about one library.

    Parameters
    ----------
    folder
        Where the arrays are, and `who.json`: which library, and the folders of adapters.
    """
    work = Path(folder)
    tell = _open_pipe()
    who = json.loads((work / "who.json").read_text("utf-8"))
    adapter = adapters(who["folders"])[who["library"]]
    try:
        adapter.load()
    except Exception as error:  # whatever it raises is the answer
        return tell(failed=f"it cannot be imported: {spelled(error)}")
    tell(loaded=True, flushes=flushes_to_zero())
    for line in sys.stdin:
        question = json.loads(line)
        with np.load(work / f"{question['id']}.in.npz", allow_pickle=False) as file:
            arrays = dict(file)
        answers, said = answer(adapter, question["verb"], question["theirs"], question["source"], arrays)
        np.savez(work / f"{question['id']}.out.npz", allow_pickle=False, **answers)
        tell(done=question["id"], said=said, flushes=flushes_to_zero())
    return None


def _open_pipe() -> Tell:
    """Return a function that writes its keyword arguments as a line; what the library prints goes to standard error."""
    warnings.simplefilter("ignore")
    pipe = os.fdopen(os.dup(1), "w", encoding="utf-8")
    os.dup2(2, 1)  # what the library prints is not an answer

    def tell(**line: Any) -> None:
        pipe.write(json.dumps(line) + "\n")
        pipe.flush()

    return tell


def answer(adapter: Adapter, verb: str, theirs: str, source: str, arrays: Arrays) -> tuple[Arrays, Any]:
    """Return the arrays of an answer, and what there is to say of them, as JSON.

    Parameters
    ----------
    verb
        `encode`, `decode`: about `words`, in all arrangements; `quantize`: as `stored`; `dequantize`: about its parts.
    """
    if verb == "dequantize":
        got = ask_parts(lambda: {"decoded": adapter.dequantize(theirs, arrays)}, list(arrays.values()))
        return got.parts, {"error": got.error, "raised": got.raised}
    if verb == "quantize":
        got = stored(adapter, theirs, source, arrays)
        return got.parts, {"error": got.error, "raised": got.raised}
    words = arrays["words"]
    numbers = words.view(source) if source in (*SOURCES, *MORE_SOURCES) and source != "bfloat16" else words

    def call(x: NDArray[Any]) -> Any:
        return adapter.decode(theirs, x) if verb == "decode" else adapter.encode(theirs, x, source)

    found: Arrays = {}
    lines = []
    for i, each in enumerate(ask(call, numbers)):
        if each.array is not None:
            found[str(i)] = each.array
        lines.append({name: getattr(each, name) for name in ("arrangement", "custom", "error", "raised")})
    return found, lines


def stored(adapter: Adapter, theirs: str, source: str, arrays: Arrays) -> Answer:
    """Return what is stored for `x`, with `scales` and perhaps `zero_points` where the library takes them from us."""

    def call() -> dict[str, Any]:
        if "scales" in arrays:
            return dict(adapter.quantize_given(theirs, arrays["x"], arrays["scales"], arrays.get("zero_points")))
        return dict(adapter.quantize(theirs, arrays["x"], source))

    return ask_parts(call, [arrays["x"]])
