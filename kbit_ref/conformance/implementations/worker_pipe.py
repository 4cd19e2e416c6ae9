"""How the process of a library answers: one line of JSON a question, on what was its standard output.

The questions come on its standard input, the arrays in files that the parent made. The process
judges nothing: whatever the library does to it (a crash, a hang, flush-to-zero) stays in it.
"""

from __future__ import annotations

import json
import os
import sys
import warnings
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any, Protocol, TypeVar

import numpy as np
from numpy.typing import NDArray

from kbit_ref.conformance.implementations.ask import flushes_to_zero, spelled

__all__ = ["Arrays", "serve"]

Tell = Callable[..., None]
Arrays = dict[str, NDArray[Any]]


class Loadable(Protocol):
    """An adapter: something that imports its library."""

    def load(self) -> None:
        """Import it."""


Adapter = TypeVar("Adapter", bound=Loadable)


def serve(
    folder: str,
    find: Callable[[list[str]], Mapping[str, Adapter]],
    answer: Callable[[Adapter, dict[str, Any], Arrays], tuple[Arrays, Any]],
) -> None:
    """Answer all questions about one library.

    Parameters
    ----------
    folder
        Where the arrays are, and `who.json`: which library, and the folders of adapters.
    find
        The adapters, by library.
    answer
        The arrays of an answer, and what there is to say of them, as JSON.
    """
    work = Path(folder)
    tell = _open_pipe()
    who = json.loads((work / "who.json").read_text("utf-8"))
    adapter = find(who["folders"])[who["library"]]
    if not _loaded(adapter, tell):
        return
    for line in sys.stdin:
        question = json.loads(line)
        with np.load(work / f"{question['id']}.in.npz", allow_pickle=False) as file:
            arrays = dict(file)
        answers, said = answer(adapter, question["asked"], arrays)
        np.savez(work / f"{question['id']}.out.npz", allow_pickle=False, **answers)
        tell(done=question["id"], said=said, flushes=flushes_to_zero())


def _open_pipe() -> Tell:
    """A function that writes its keyword arguments as a line; what the library prints goes to standard error."""
    warnings.simplefilter("ignore")
    pipe = os.fdopen(os.dup(1), "w", encoding="utf-8")
    os.dup2(2, 1)  # what the library prints is not an answer

    def tell(**line: Any) -> None:
        pipe.write(json.dumps(line) + "\n")
        pipe.flush()

    return tell


def _loaded(adapter: Loadable, tell: Tell) -> bool:
    """Import the library, and tell how that went."""
    try:
        adapter.load()
    except Exception as error:  # whatever it raises is the answer
        tell(failed=f"it cannot be imported: {spelled(error)}")
        return False
    tell(loaded=True, flushes=flushes_to_zero())
    return True
