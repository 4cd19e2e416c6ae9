"""The form for programs: safetensors. The arrays of a group's tests lie in one tensor, stacked, named GROUP/PATH.

The flags are a tensor too, [tests, notes]: 1 where the test has the flag, in the order of the notes. All else stands
in the metadata under `vectors`: the JSON document without arrays, their types
and shapes, and flags.
"""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np

from kbit_ref.checkpoints import Writer
from kbit_ref.checkpoints.container import Container
from kbit_ref.checkpoints.header import Spec as Entry
from kbit_ref.conformance.vectors.as_json import document
from kbit_ref.conformance.vectors.model import Array, Vectors

__all__ = ["FLAGS", "METADATA", "stacked", "write"]

METADATA = "vectors"
FLAGS = "flags"


def write(path: Path, vectors: Vectors, *, force: bool = False) -> None:
    """Write the file."""
    tensors: dict[str, tuple[str, Array]] = {}
    for number, group in enumerate(vectors.groups):
        for name, spec in group.arrays.items():
            together = np.stack([test.arrays[name] for test in group.tests])
            tensors[f"{number}/{name}"] = (spec.dtype, together)
    tests, notes = [test for _, test in vectors.tests()], list(vectors.notes)
    flags = np.array([[note in test.flags for note in notes] for test in tests], np.uint8)
    tensors[FLAGS] = ("U8", flags.reshape(len(tests), len(notes)))
    specs = [Entry(name, dtype, array.shape) for name, (dtype, array) in tensors.items()]
    text = json.dumps(document(vectors, arrays=False), separators=(",", ":"))
    with Writer(path, specs, {METADATA: text}, force=force) as file:
        for name, (_, array) in tensors.items():
            file.view(name)[:] = array.reshape(-1).view(np.uint8) if array.size else np.empty(0, np.uint8)


def stacked(file: Container, number: int, path: str) -> Array:
    """Return the arrays of that path of the tests of a group."""
    return np.array(file.array(f"{number}/{path}"))
