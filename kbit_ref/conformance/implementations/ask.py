"""Call a function with arrays, and return all its answers, or why there are none.

Nothing here judges. It runs in our process for `kb.check`, in the library's own for adapters, so
it does no arithmetic on floats: a library that switches on flush-to-zero changes nothing.
"""

from __future__ import annotations

import warnings
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from functools import partial
from typing import Any

import numpy as np
from numpy.typing import NDArray

from kbit_ref.conformance.inputs.of_types import arrangements

__all__ = ["FLAT", "Answer", "ask", "ask_parts", "flushes_to_zero", "located", "spelled"]

FLAT = "flat"
CHANGED = "it changed the array that it was given"


@dataclass(frozen=True)
class Answer:
    """An answer to arrays.

    Parameters
    ----------
    parts
        Arrays by name: of a block format its parts, of a data type one `answer`.
    error
        Why there are none.
    raised
        The name of the exception, if they raised one.
    arrangement
        The shape and strides in which the inputs were given.
    custom
        The name of an `ml_dtypes` type, of which `answer` holds the bits.
    """

    parts: dict[str, NDArray[Any]] = field(default_factory=dict)
    error: str = ""
    raised: str = ""
    arrangement: str = FLAT
    custom: str = ""

    @property
    def array(self) -> NDArray[Any] | None:
        """Return the answer of a data type."""
        return self.parts.get("answer")


def ask_parts(call: Callable[[], Mapping[str, Any]], arrays: Sequence[NDArray[Any]]) -> Answer:
    """Call once, with arrays that must stay as they are; the answer are arrays by name."""
    got, error, raised = _attempt(lambda: {name: _plain(name, part) for name, part in call().items()}, arrays)
    return Answer(got or {}, error, raised)


def ask(function: Callable[..., Any], *arrays: NDArray[Any], shapes: bool = True) -> Iterator[Answer]:
    """Call the function with all numbers (and what goes with them), then with a few in each other arrangement."""
    for name, views in [(FLAT, arrays), *(_arranged(arrays) if shapes else ())]:
        got, error, raised = _attempt(partial(_called, function, *views), views)
        array, custom, problem = got or (None, "", error)
        parts = {} if array is None else {"answer": array}
        yield Answer(parts, located(name, problem) if problem else "", raised, name, custom)
        if error == CHANGED:
            return


def _attempt(call: Callable[[], Any], arrays: Sequence[NDArray[Any]]) -> tuple[Any, str, str]:
    """Call a function: return its answer; or what is wrong, and the name of the exception if it raised one."""
    before = [array.tobytes() for array in arrays]
    try:
        with warnings.catch_warnings(), np.errstate(all="ignore"):
            warnings.simplefilter("ignore")  # an overflow that is rounded as it should be may warn
            got, error, raised = call(), "", ""
    except Exception as exception:  # whatever it raises is the answer
        got, error, raised = None, f"it raised {spelled(exception)}", type(exception).__name__
    if [array.tobytes() for array in arrays] != before:
        return None, CHANGED, ""
    return got, error, raised


def _arranged(arrays: Sequence[NDArray[Any]]) -> Iterator[tuple[str, tuple[NDArray[Any], ...]]]:
    """Yield the arrays in each arrangement, side by side."""
    for same in zip(*map(arrangements, arrays), strict=True):
        yield same[0][0], tuple(view for _, view in same)


def located(arrangement: str, text: str) -> str:
    """Return a text with the arrangement that it is about, if that is not the plain one.

    Examples
    --------
    >>> located(FLAT, "it returned None"), located("empty", "it returned None")
    ('it returned None', 'empty: it returned None')
    """
    return text if arrangement == FLAT else f"{arrangement}: {text}"


def spelled(error: Exception) -> str:
    """Describe an exception in one line; for a missing module, say what to install.

    Examples
    --------
    >>> spelled(ModuleNotFoundError("No module named 'onnx_ir'", name="onnx_ir"))
    "ModuleNotFoundError: No module named 'onnx_ir'; pip install onnx_ir"
    """
    remedy = ""
    if isinstance(error, ModuleNotFoundError) and error.name:
        remedy = f"; pip install {error.name.partition('.')[0]}"
    return f"{type(error).__name__}: {' '.join(str(error).split())[:200]}{remedy}"


def _called(function: Callable[..., Any], *views: NDArray[Any]) -> tuple[NDArray[Any] | None, str, str]:
    return _array(function(*views))


def _array(got: Any) -> tuple[NDArray[Any] | None, str, str]:
    """Return the array in an answer, and the name of its type if it is of `ml_dtypes`; or what is wrong with it."""
    if got is None:
        return None, "", "it returned None"
    array = np.asarray(got)
    if array.dtype.isbuiltin == 1 and not array.dtype.hasobject:
        return array, "", ""
    if array.dtype.itemsize in (1, 2) and not array.dtype.hasobject:
        bits = np.ascontiguousarray(array).view(f"uint{8 * array.dtype.itemsize}")
        return bits.reshape(array.shape), array.dtype.name, ""
    return None, "", f"it returned an array of dtype {array.dtype}"


def _plain(name: str, value: Any) -> NDArray[Any]:
    """Return a part as an array that a file can hold: reals and integers of NumPy's own types."""
    array = np.asarray(value)
    if array.dtype.kind in "iufb" and array.dtype.isbuiltin == 1:
        return array
    raise TypeError(f"{name} is an array of dtype {array.dtype}")


def flushes_to_zero() -> bool:
    """Return whether flush-to-zero is on in this thread."""
    tiny = np.array([1], np.uint64).view(np.float64)
    return bool((tiny * np.ones(1)).view(np.uint64)[0] != 1)
