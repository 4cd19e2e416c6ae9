"""Formats of other libraries inside safetensors: each is a function that finds a matrix of its own by name.

A format is one file of this folder with one function under `reader`; the files are found by looking
for them, when the first matrix is asked for.
"""

from __future__ import annotations

import importlib
import pkgutil
from collections.abc import Callable
from functools import cache

from kbit_ref.checkpoints.container import Container
from kbit_ref.qtensor import QTensor

__all__ = ["quantized", "reader"]

Reader = Callable[[Container, str], QTensor | None]
_readers: list[Reader] = []


def reader(function: Reader) -> Reader:
    """Make a format known."""
    _readers.append(function)
    return function


@cache
def _found() -> tuple[Reader, ...]:
    import kbit_ref.checkpoints as folder

    for module in pkgutil.iter_modules(folder.__path__):
        importlib.import_module(f"{folder.__name__}.{module.name}")
    return tuple(_readers)


def quantized(file: Container, name: str) -> QTensor | None:
    """The quantized matrix that is stored under a name in any known format, or None."""
    for read in _found():
        if (q := read(file, name)) is not None:
            return q
    return None
