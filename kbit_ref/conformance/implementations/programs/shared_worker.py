"""The process in which a function of a shared library is called; it needs nothing but Python itself.

    python shared_worker.py LIBRARY FUNCTION RESULT

Each line of its input is one call, a JSON list with an entry an argument: [name, "give", kind, words],
[name, "take", kind, count] or [name, "number", kind, value]. A line of its output is the list of words of each
array that was written, and of the result if there is one. A line that begins with `!` says what went wrong.
"""

from __future__ import annotations

import ctypes
import json
import os
import sys
from typing import Any

C = {f"{sign}int{bits}": getattr(ctypes, f"c_{sign}int{bits}") for bits in (8, 16, 32, 64) for sign in ("", "u")}
C |= {"float32": ctypes.c_float, "float64": ctypes.c_double}
BYTES = {"float16": 2, "bfloat16": 2, **{kind: ctypes.sizeof(c) for kind, c in C.items()}}
GUARD = 64  # bytes on both sides of an array
FILL = 0xA5


class Array:
    """Memory for an array, with bytes around it that nobody may write to."""

    def __init__(self, kind: str, count: int, words: list[int] | None = None):
        self.size, self.count = BYTES[kind], count
        self.memory = ctypes.create_string_buffer(bytes([FILL]) * (count * self.size + 2 * GUARD))
        if words is not None:
            data = b"".join(word.to_bytes(self.size, sys.byteorder) for word in words)
            ctypes.memmove(self.address, data, len(data))
        self.before = self.memory.raw

    @property
    def address(self) -> int:
        """Return where its elements begin."""
        return ctypes.addressof(self.memory) + GUARD

    def words(self) -> list[int]:
        """Return the bits of its elements now."""
        data = self.memory.raw[GUARD : GUARD + self.count * self.size]
        return [int.from_bytes(data[i : i + self.size], sys.byteorder) for i in range(0, len(data), self.size)]

    def wrong(self, given: bool) -> str:
        """Return what is wrong with the memory around the array, if anything."""
        after, end = self.memory.raw, GUARD + self.count * self.size
        if after[:GUARD] != self.before[:GUARD]:
            return "it wrote before the first element of"
        if after[end:] != self.before[end:]:
            return "it wrote beyond the last element of"
        return "it changed" if given and after != self.before else ""


def main(library: str, function: str, result: str) -> None:
    """Answer all lines."""
    pipe = os.fdopen(os.dup(1), "w", encoding="utf-8")
    os.dup2(2, 1)  # what the library prints is not an answer

    def tell(text: str) -> None:
        pipe.write(text + "\n")
        pipe.flush()

    try:
        call: Any = getattr(ctypes.CDLL(library), function)
    except AttributeError:
        return tell(f"!it has no function {function}")
    except OSError as error:
        return tell(f"!it cannot be loaded: {error}")
    call.restype = C[result] if result else None
    for line in sys.stdin:
        tell(answer(call, json.loads(line)))
    return None


def answer(call: Any, arguments: list[list[Any]]) -> str:
    """Answer one call."""
    arrays: list[tuple[str, bool, Array]] = []
    passed: list[Any] = []
    for name, how, kind, value in arguments:
        if how == "number":
            passed.append(number(kind, value))
            continue
        given = how == "give"
        array = Array(kind, len(value) if given else value, value if given else None)
        arrays.append((name, given, array))
        passed.append(ctypes.c_void_p(array.address))
    result = call(*passed)
    for name, given, array in arrays:
        if wrong := array.wrong(given):
            return f"!{wrong} {name}"
    found = [array.words() for _, given, array in arrays if not given]
    if call.restype is not None:
        found.append([bits_of(call.restype, result)])
    return json.dumps(found)


def number(kind: str, bits: int) -> Any:
    """Make an argument from its bits; of an integer they are the number."""
    if kind not in ("float32", "float64"):
        return C[kind](bits)
    return C[kind].from_buffer_copy(bits.to_bytes(BYTES[kind], sys.byteorder))


def bits_of(c: Any, value: Any) -> int:
    """Return the bits of a result."""
    return int.from_bytes(bytes(c(value)), sys.byteorder)


if __name__ == "__main__":
    main(*sys.argv[1:4])
