"""The process in which one library quantizes arrays: `main(WORK)`, started by `library`."""

from __future__ import annotations

import warnings
from typing import Any

import numpy as np
from numpy.typing import NDArray

from kbit_ref.conformance.implementations.adapters import Adapter, block_adapters
from kbit_ref.conformance.implementations.ask import spelled
from kbit_ref.conformance.implementations.worker_pipe import Arrays, serve

__all__ = ["answer", "main"]


def main(folder: str) -> None:
    """Answer all questions."""
    serve(folder, block_adapters, answer)


def answer(adapter: Adapter, asked: dict[str, Any], arrays: Arrays) -> tuple[Arrays, str]:
    """The parts for one array, or why there are none.

    `asked` has their name and the source format; `arrays` has `x`, and for a library that takes the
    scales from us `scales`, perhaps `zero_points`.
    """
    x = arrays["x"]
    before = x.tobytes()
    try:
        with warnings.catch_warnings(), np.errstate(all="ignore"):
            warnings.simplefilter("ignore")
            theirs = asked["theirs"]
            if "scales" in arrays:
                got = adapter.quantize_given(theirs, x, arrays["scales"], arrays.get("zero_points"))
            else:
                got = adapter.quantize(theirs, x, asked["source"])
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
