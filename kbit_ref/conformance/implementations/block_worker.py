"""The process in which one library quantizes arrays: `main(WORK)`, started by `library`."""

from __future__ import annotations

from typing import Any

from kbit_ref.conformance.implementations.adapters import Adapter, block_adapters
from kbit_ref.conformance.implementations.ask import Answer, ask_parts
from kbit_ref.conformance.implementations.worker_pipe import Arrays, serve

__all__ = ["answer", "main"]


def main(folder: str) -> None:
    """Answer all questions."""

    def told(adapter: Adapter, asked: dict[str, Any], arrays: Arrays) -> tuple[Arrays, dict[str, str]]:
        found = answer(adapter, asked, arrays)
        return found.parts, {"error": found.error, "raised": found.raised}

    serve(folder, block_adapters, told)


def answer(adapter: Adapter, asked: dict[str, Any], arrays: Arrays) -> Answer:
    """Return the parts for one array, or why there are none.

    `asked` has their name and the source format; `arrays` has `x`, and for a library that takes the
    scales from us `scales`, perhaps `zero_points`.
    """

    def call() -> dict[str, Any]:
        theirs, x = asked["theirs"], arrays["x"]
        if "scales" in arrays:
            return dict(adapter.quantize_given(theirs, x, arrays["scales"], arrays.get("zero_points")))
        return dict(adapter.quantize(theirs, x, asked["source"]))

    return ask_parts(call, [arrays["x"]])
