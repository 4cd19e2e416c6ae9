"""Put the inputs to a function, and keep everything that it answers, or why it did not.

Nothing here judges. It runs in our process for `kb.check`, in the library's own for adapters, so
it does no arithmetic on floats: a library that switches on flush-to-zero changes nothing.
"""

from __future__ import annotations

import warnings
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from kbit_ref.conformance.inputs.of_types import arrangements

__all__ = ["FLAT", "Answer", "ask", "flushes_to_zero", "spelled", "told"]

FLAT = "flat"


@dataclass(frozen=True)
class Answer:
    """What came back for one arrangement of the inputs: an array, or the reason there is none."""

    arrangement: str
    array: NDArray[Any] | None = None
    custom: str = ""  # the name of an `ml_dtypes` type; `array` holds its bits then
    error: str = ""


def ask(function: Callable[[Any], Any], numbers: NDArray[Any], shapes: bool = True) -> Iterator[Answer]:
    """Call the function with all numbers, then with a few in each other arrangement."""
    asked = [(FLAT, numbers), *(arrangements(numbers) if shapes else ())]
    for name, view in asked:
        before = view.tobytes()
        try:
            with warnings.catch_warnings(), np.errstate(all="ignore"):
                warnings.simplefilter("ignore")  # an overflow that is rounded as it should be may warn
                answer = _take(name, function(view))
        except Exception as error:  # whatever it raises is the answer
            answer = Answer(name, error=told(name, f"it raised {spelled(error)}"))
        if view.tobytes() != before:
            yield Answer(name, error=told(name, "it changed the array that it was given"))
            return
        yield answer


def told(arrangement: str, text: str) -> str:
    """What is wrong with an answer; for which arrangement, if it is not the plain one.

    Examples
    --------
    >>> told(FLAT, "it returned None"), told("empty", "it returned None")
    ('it returned None', 'empty: it returned None')
    """
    return text if arrangement == FLAT else f"{arrangement}: {text}"


def spelled(error: Exception) -> str:
    """What was raised, in one line; for a missing module, what to install.

    Examples
    --------
    >>> spelled(ModuleNotFoundError("No module named 'onnx_ir'", name="onnx_ir"))
    "ModuleNotFoundError: No module named 'onnx_ir'; pip install onnx_ir"
    """
    remedy = ""
    if isinstance(error, ModuleNotFoundError) and error.name:
        remedy = f"; pip install {error.name.partition('.')[0]}"
    return f"{type(error).__name__}: {' '.join(str(error).split())[:200]}{remedy}"


def _take(name: str, got: Any) -> Answer:
    """The array in an answer; `ml_dtypes` arrays as their bits."""
    if got is None:
        return Answer(name, error=told(name, "it returned None"))
    array = np.asarray(got)
    if array.dtype.isbuiltin == 1 and not array.dtype.hasobject:
        return Answer(name, array)
    if array.dtype.itemsize in (1, 2) and not array.dtype.hasobject:
        bits = np.ascontiguousarray(array).view(f"uint{8 * array.dtype.itemsize}")
        return Answer(name, bits.reshape(array.shape), custom=array.dtype.name)
    return Answer(name, error=told(name, f"it returned an array of dtype {array.dtype}"))


def flushes_to_zero() -> bool:
    """Has somebody switched on flush-to-zero in this thread?"""
    tiny = np.array([1], np.uint64).view(np.float64)
    return bool((tiny * np.ones(1)).view(np.uint64)[0] != 1)
