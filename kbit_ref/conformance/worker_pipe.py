"""How the process of a library tells what it does: one line of JSON a step, on what was its standard output."""

from __future__ import annotations

import json
import os
import warnings
from collections.abc import Callable
from typing import Any, Protocol

from kbit_ref.conformance.ask import flushes_to_zero, spelled

__all__ = ["Loadable", "Tell", "loaded", "open_pipe"]

Tell = Callable[..., None]


class Loadable(Protocol):
    """An adapter: something that imports its library."""

    def load(self) -> None:
        """Import it."""


def open_pipe() -> Tell:
    """A function that writes its keyword arguments as a line; what the library prints goes to standard error."""
    warnings.simplefilter("ignore")
    pipe = os.fdopen(os.dup(1), "w", encoding="utf-8")
    os.dup2(2, 1)  # what the library prints is not an answer

    def tell(**line: Any) -> None:
        pipe.write(json.dumps(line) + "\n")
        pipe.flush()

    return tell


def loaded(adapter: Loadable, tell: Tell) -> bool:
    """Import the library, and tell how that went."""
    try:
        adapter.load()
    except Exception as error:  # whatever it raises is the answer
        tell(failed=f"it cannot be imported: {spelled(error)}")
        return False
    tell(loaded=True, flushes=flushes_to_zero())
    return True
