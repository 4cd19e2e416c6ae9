"""The form for people: JSON, every array one string of hexadecimal words, most significant digit first.

There is a space between words of more than a byte.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import Any

import numpy as np

from kbit_ref.conformance.vectors.model import Array, Group, Spec, Test, Vectors

__all__ = ["FORMAT", "HEADER", "SCHEMA", "array_of", "as_json", "document", "from_document", "words"]

LINES = 4  # levels of the document that have lines of their own: the fifth is a test
FORMAT = "1"  # changes with the schema
SCHEMA = "vectors.schema.json"
HEADER = [
    "Test vectors of quantization. Written by kbit_ref from its definition in rational arithmetic.",
    "An array is a string of hexadecimal words, the bits of its elements in C order; bytes stand without spaces.",
    "Its type and shape stand in the group. A NaN is as good as any other NaN; zeros differ by their sign.",
    "A flag is a known mistake; a test has the flags of all mistakes that give it a wrong answer.",
]


def words(array: Array) -> str:
    """Return the bits of the elements.

    Examples
    --------
    >>> words(np.float32([1, -0.0])), words(np.uint8([1, 255]))
    ('3f800000 80000000', '01ff')
    """
    size = array.dtype.itemsize
    bits = np.ascontiguousarray(array).reshape(-1).view(f"u{size}")
    return (" " if size > 1 else "").join(f"{word:0{2 * size}x}" for word in bits.tolist())


def array_of(text: str, spec: Spec) -> Array:
    """Return the array of those words; ValueError if they are not of its type or number.

    Examples
    --------
    >>> array_of("3f800000 80000000", Spec("F32", (2,)))
    array([ 1., -0.], dtype=float32)
    """
    size = spec.numpy.itemsize
    found = [text[i : i + 2] for i in range(0, len(text), 2)] if size == 1 else text.split(" ") if text else []
    if any(len(word) != 2 * size for word in found):
        raise ValueError(f"words of {spec.dtype} have {2 * size} digits")
    if len(found) != int(np.prod(spec.shape, dtype=object)):
        raise ValueError(f"{len(found)} words for shape {list(spec.shape)}")
    raw = bytes.fromhex("".join(found))
    return np.frombuffer(raw, f">u{size}").astype(f"u{size}").view(spec.numpy).reshape(spec.shape)


def document(vectors: Vectors, arrays: bool = True) -> dict[str, Any]:
    """Return the file as JSON has it; without arrays and flags as the metadata of safetensors have it."""
    return {
        "schema": SCHEMA,
        "generator": "kbit_ref",
        "generatorVersion": FORMAT,
        "file": vectors.name,
        "level": vectors.level,
        "numberOfTests": sum(len(group.tests) for group in vectors.groups),
        "header": HEADER,
        "notes": {name: dict(note) for name, note in vectors.notes.items()},
        "testGroups": [_group(group, arrays) for group in vectors.groups],
    }


def _group(group: Group, arrays: bool) -> dict[str, Any]:
    found: dict[str, Any] = {"type": group.type, "name": group.name}
    if group.profiles:
        found["profiles"] = list(group.profiles)
    found["source"] = {"name": group.source, "version": group.version}
    if arrays:
        found["arrays"] = {path: {"dtype": s.dtype, "shape": list(s.shape)} for path, s in group.arrays.items()}
    return found | {"tests": [_test(test, arrays) for test in group.tests]}


def _test(test: Test, arrays: bool) -> dict[str, Any]:
    found: dict[str, Any] = {"tcId": test.number, "comment": test.comment}
    if arrays:
        found["flags"] = list(test.flags)
    for path, array in test.arrays.items() if arrays else ():
        *heads, last = path.split("/")
        place = found
        for head in heads:
            place = place.setdefault(head, {})
        place[last] = words(array)
    return found | {"result": test.result}


def as_json(vectors: Vectors) -> bytes:
    """Return the bytes of the file."""
    return (_lines(document(vectors), 0) + "\n").encode("ascii")


def _lines(value: Any, depth: int) -> str:
    """Return a line for each note, head of a group, and test, so that a diff of two files is by lines."""
    if not isinstance(value, dict | list) or depth >= LINES or not value:
        return json.dumps(value)
    inner, end = "\n" + " " * (depth + 1), "\n" + " " * depth
    if isinstance(value, dict):
        items = (f"{json.dumps(name)}: {_lines(item, depth + 1)}" for name, item in value.items())
        return "{" + inner + f",{inner}".join(items) + end + "}"
    return "[" + inner + f",{inner}".join(_lines(item, depth + 1) for item in value) + end + "]"


def from_document(found: Mapping[str, Any], arrays: Mapping[int, Mapping[str, Array]] | None = None) -> Vectors:
    """Return the file of a valid document; its arrays and flags from the document, or by test number.

    ValueError, with the test, for an array that does not fit its type and shape.
    """
    groups = []
    for group in found["testGroups"]:
        specs = {path: Spec(spec["dtype"], tuple(spec["shape"])) for path, spec in group["arrays"].items()}
        tests = []
        for test in group["tests"]:
            number = test["tcId"]
            mine = arrays[number] if arrays is not None else _arrays(test, specs)
            tests.append(Test(number, test["comment"], tuple(test["flags"]), test["result"], mine))
        source = group["source"]
        about = group["type"], group["name"], source["name"], source["version"], tuple(group.get("profiles", ()))
        groups.append(Group(*about, specs, tuple(tests)))
    return Vectors(found["file"], found["level"], found["notes"], tuple(groups))


def _arrays(test: Mapping[str, Any], specs: Mapping[str, Spec]) -> dict[str, Array]:
    texts = {f"{head}/{name}": text for head in ("inputs", "expected") for name, text in test.get(head, {}).items()}
    for other, parts in test.get("alternatives", {}).items():
        texts |= {f"alternatives/{other}/{name}": text for name, text in parts.items()}
    if set(texts) != set(specs):
        odd = sorted(set(texts) ^ set(specs))[0]
        raise ValueError(f"test {test['tcId']}: {odd} is not both in the test and in the arrays of its group")
    found = {}
    for path, spec in specs.items():
        try:
            found[path] = array_of(texts[path], spec)
        except ValueError as error:
            raise ValueError(f"test {test['tcId']}: {path} has {error}") from None
    return found
