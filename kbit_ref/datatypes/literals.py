"""Levels that came out of a numerical computation, read from `literals.txt`.

The file is the type: hexadecimal floats, one type a line, so that a level never changes with a
version of SciPy. The function that computed them stands beside each family (`compute_...`); a
test runs it and finds every level within one unit in the last place of float32.
`write()` makes the file anew.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import cache
from importlib.resources import files
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

__all__ = ["computations", "computed_by", "literal", "write"]

computations: dict[str, Callable[[], NDArray[np.float64]]] = {}  # name of a line -> what computed it


def computed_by(name: str, compute: Callable[[], NDArray[np.float64]]) -> None:
    """Declare the line `name` of the file, and the computation that it came from."""
    computations[name] = compute


@cache
def _lines() -> dict[str, NDArray[np.float64]]:
    text = (files("kbit_ref.datatypes") / "literals.txt").read_text("ascii")
    rows = (line.split() for line in text.splitlines())
    return {name: np.array([float.fromhex(number) for number in numbers]) for name, *numbers in rows}


def literal(name: str) -> NDArray[np.float64]:
    """float64 [n]: the committed levels of that name."""
    return _lines()[name]


def write() -> None:
    """Run every computation, and write the file."""
    rows = (
        " ".join([name, *(float(np.float32(level)).hex() for level in compute())])
        for name, compute in computations.items()
    )
    Path(str(files("kbit_ref.datatypes") / "literals.txt")).write_text("\n".join(rows) + "\n", "ascii")

