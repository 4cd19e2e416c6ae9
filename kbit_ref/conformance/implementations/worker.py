"""The process in which one library encodes and decodes: `main(WORK)`, started by `library`."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from kbit_ref.conformance.implementations.adapters import Adapter, adapters
from kbit_ref.conformance.implementations.ask import ask
from kbit_ref.conformance.implementations.worker_pipe import Arrays, serve
from kbit_ref.conformance.inputs.of_types import SOURCES

__all__ = ["answer", "main"]


def main(folder: str) -> None:
    """Answer all questions."""
    serve(folder, adapters, answer)


def answer(adapter: Adapter, asked: dict[str, Any], arrays: Arrays) -> tuple[Arrays, list[dict[str, str]]]:
    """The answers in all arrangements: their arrays by number, and a line on each."""
    words = arrays["words"]
    numbers = words.view(asked["source"]) if asked["source"] in SOURCES and asked["source"] != "bfloat16" else words
    found: Arrays = {}
    lines = []
    for i, each in enumerate(ask(_method(adapter, asked), numbers)):
        if each.array is not None:
            found[str(i)] = each.array
        about = {"arrangement": each.arrangement, "custom": each.custom, "error": each.error, "raised": each.raised}
        lines.append(about)
    return found, lines


def _method(adapter: Adapter, asked: dict[str, Any]) -> Callable[[Any], Any]:
    """The adapter's method for a question, as a function of the array."""
    if asked["what"] == "decode":
        return lambda codes: adapter.decode(asked["theirs"], codes)
    return lambda x: adapter.encode(asked["theirs"], x, asked["source"])
