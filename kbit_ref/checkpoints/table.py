"""The table in the metadata of a file of ours: which tensors are quantized, how, and what they were.

Under `kbit_ref` stands {"format": 1, "tensors": {"X": {"scheme": "nf4-b64-absmax-f32", "shape": [2, 3],
"dtype": "BF16"}}}; and "types": {...} if the scheme is of a type that the file has to bring along
(`types.py`). Nothing that is read from it is believed before it is checked.
"""

from __future__ import annotations

import json
import math
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

from kbit_ref.checkpoints.container import Container
from kbit_ref.checkpoints.header import Spec, n_elements, shown
from kbit_ref.checkpoints.stored import Part, parts
from kbit_ref.checkpoints.types import as_row, brought, from_row, scheme_of
from kbit_ref.datatypes.datatype import DataType
from kbit_ref.errors import BadInput, KbitError, message
from kbit_ref.tensors.scheme import Scheme

__all__ = ["FLOATS", "KEY", "Tensor", "described", "of_tensor", "read_tensors"]

KEY, FORMAT = "kbit_ref", 1
FLOATS = ("F16", "BF16", "F32", "F64")
TYPES = 1 << 16  # characters of the types that a file brings along: one of 8 bits has 8,000


@dataclass(frozen=True)
class Tensor:
    """A quantized tensor: its name, scheme, shape and original type."""

    name: str
    scheme: Scheme
    shape: tuple[int, ...]
    dtype: str

    @property
    def parts(self) -> tuple[Part, ...]:
        """The entries that it has."""
        return parts(self.scheme, self.shape)

    @property
    def size(self) -> int:
        """The number of elements."""
        return math.prod(self.shape)

    @property
    def spec(self) -> Spec:
        """The entry that it was."""
        return Spec(self.name, self.dtype, self.shape)

    @property
    def n_bytes(self) -> int:
        """Bytes of all its entries."""
        return sum(part.spec(self.name).n_bytes for part in self.parts)


def described(tensors: Mapping[str, Tensor], s: Scheme) -> str:
    """Our text in the metadata of a file whose tensors have one scheme."""
    rows = {
        name: {"scheme": str(tensor.scheme), "shape": list(tensor.shape), "dtype": tensor.dtype}
        for name, tensor in tensors.items()
    }
    document: dict[str, object] = {"format": FORMAT, "tensors": rows}
    if types := brought(s):
        document["types"] = {name: as_row(dtype) for name, dtype in types.items()}
    return json.dumps(document, separators=(",", ":"), ensure_ascii=False)


@contextmanager
def of_tensor(function: str, name: str) -> Iterator[None]:
    """Errors say which tensor they are about."""
    try:
        yield
    except KbitError as error:
        text = str(error).removeprefix(f"{function}: ")
        if text.startswith("x["):
            text = shown(name) + text[1:]
        else:
            text = f"tensor {shown(name)}: {text}"
        raise BadInput(f"{function}: {text}") from None


def read_tensors(file: Container) -> dict[str, Tensor]:
    """The quantized tensors of a file, from its metadata; every one of their entries is there."""
    if KEY not in file.metadata:
        return {}
    tensors: dict[str, Tensor] = {}
    rows, types = _rows(file)
    for name, row in rows.items():
        where = f"metadata kbit_ref, tensor {shown(name)}"
        if not isinstance(row, dict) or set(row) != {"scheme", "shape", "dtype"}:
            raise _wrong(file, f"{where}: it has not just scheme, shape and dtype")
        if name in file.entries:
            raise _wrong(file, f"{where}: the file holds the tensor itself too")
        shape, dtype = row["shape"], row["dtype"]
        sizes = isinstance(shape, list) and all(type(size) is int for size in shape)
        if not sizes or not shape or not n_elements(shape):
            raise _wrong(file, f"{where}: the shape {shown(shape)} is none of an array with elements")
        if dtype not in FLOATS or not isinstance(row["scheme"], str) or len(row["scheme"]) > 500:
            raise _wrong(file, f"{where}: dtype or scheme is none that kbit-ref writes")
        with of_tensor("dequantize", name):
            tensor = Tensor(name, scheme_of(row["scheme"], types), tuple(shape), dtype)
            wanted = [part.spec(name) for part in tensor.parts]
        for spec in wanted:
            entry = file.entries.get(spec.name)
            if entry is None or (entry.dtype, entry.shape) != (spec.dtype, spec.shape):
                has = f"{entry.dtype} {shown(list(entry.shape))}" if entry else "not there"
                raise _wrong(file, f"{shown(spec.name)} is {has}, its scheme needs {spec.dtype} {list(spec.shape)}")
        tensors[name] = tensor
    return tensors


def _rows(file: Container) -> tuple[dict[str, Any], dict[str, DataType]]:
    """The table in our metadata, its form checked, and the types that the file brings along."""
    text = file.metadata[KEY]
    # a reader of JSON could be made to fill memory
    if len(text) > TYPES + sum(512 + 8 * len(name) for name in file.entries):
        raise _wrong(file, "metadata kbit_ref is longer than its tensors explain")
    try:
        document = json.loads(text)
    except (ValueError, RecursionError):
        raise _wrong(file, "metadata kbit_ref is no JSON") from None
    if not isinstance(document, dict) or not isinstance(document.get("tensors"), dict):
        raise _wrong(file, "metadata kbit_ref has no tensors")
    if document.get("format") != FORMAT:
        rule = f"its format is {shown(document.get('format'))}, this version reads {FORMAT}"
        raise BadInput(message("dequantize", shown(file.path), rule, "install a newer kbit_ref"))
    types = document.get("types", {})
    if not isinstance(types, dict):
        raise _wrong(file, "metadata kbit_ref has types that are no table")
    try:
        return document["tensors"], {name: from_row(name, row) for name, row in types.items()}
    except KbitError as error:
        raise BadInput(f"dequantize: {shown(file.path)}, {error}") from None


def _wrong(file: Container, rule: str) -> BadInput:
    return BadInput(message("dequantize", shown(file.path), rule, "quantize the original again"))
