"""Formats of quantized matrices inside safetensors: each is a function that finds a matrix of its own by name.

A format is one file of this folder with one function under `reader`; the files are found by looking
for them, when the first matrix is asked for. A function gives the QTensor, and says whether it is
[d_out, d_in] whatever the family of the model (`ROWS`) or as that family stores matrices (`AS_STORED`).
"""

from __future__ import annotations

import importlib
import pkgutil
from collections.abc import Callable
from functools import cache
from pathlib import Path

from kbit_ref.checkpoints.container import Container
from kbit_ref.tensors.qtensor import QTensor

__all__ = ["AS_STORED", "ROWS", "Found", "quantized", "reader"]

ROWS, AS_STORED = "rows", "as stored"
Found = tuple[QTensor, str]
Reader = Callable[[Container, str], Found | None]
_readers: list[Reader] = []


def reader(function: Reader) -> Reader:
    """Make a format known."""
    _readers.append(function)
    return function


@cache
def _found() -> tuple[Reader, ...]:
    for module in pkgutil.iter_modules([str(Path(__file__).parent)]):
        importlib.import_module(f"{__package__}.{module.name}")
    return tuple(_readers)


def quantized(file: Container, name: str) -> Found | None:
    """The quantized matrix that is stored under a name in any known format, or None."""
    for read in _found():
        if (found := read(file, name)) is not None:
            return found
    return None
