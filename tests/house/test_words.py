"""Public docstrings and help pages are written for readers who know nothing of this project."""

import argparse
import inspect
import re
from collections.abc import Iterator

import pytest

import kbit_ref as kb
from kbit_ref.cli import parser

PRIVATE = re.compile(r"\b(?:told|asked|taken|kept|seen|superfluous|heard|put)\b", re.I)
BEGINS = re.compile(r"(?:The|What|Which|Where|How|Is|Does|Are)\b")
OF_FUNCTIONS = re.compile(r"(?:All|An?|Every|Each|One|Their|Its)\b|[^A-Z]")


def faults(text: str, *, is_function: bool) -> list[str]:
    """What is wrong with a docstring or a help page."""
    first = text.strip().partition("\n")[0]
    found = [f"the word {word!r}" for word in PRIVATE.findall(text)]
    if BEGINS.match(first) or (is_function and OF_FUNCTIONS.match(first)):
        found.append(f"it begins with {first!r}, which is no imperative")
    return found


def documented() -> Iterator[tuple[str, str, bool]]:
    """Name, docstring and whether it is a function, of everything public at the top and of its methods."""
    for name in kb.__all__:
        thing = getattr(kb, name)
        yield name, inspect.getdoc(thing) or "", not inspect.isclass(thing)
        if inspect.isclass(thing):
            for inner, member in vars(thing).items():
                it = getattr(member, "__func__", member)
                if not inner.startswith("_") and (inspect.isfunction(it) or hasattr(it, "fget") or hasattr(it, "func")):
                    yield f"{name}.{inner}", inspect.getdoc(it) or "", True


def pages(top: argparse.ArgumentParser, name: str = "kbit-ref") -> Iterator[tuple[str, str]]:
    """The help page of each command, and of each of its actions."""
    yield name, top.format_help().partition("\n\n")[2]
    for action in top._actions:
        if isinstance(action, argparse._SubParsersAction):
            for inner, one in action.choices.items():
                yield from pages(one, f"{name} {inner}")


def test_public_docstrings() -> None:
    found = {name: faults(text, is_function=is_function) for name, text, is_function in documented()}
    assert len(found) > len(kb.__all__)
    assert {"DataType.levels", "QTensor.codes", "DataType.from_levels", "layout"} < set(found)
    assert {name: wrong for name, wrong in found.items() if wrong} == {}


def test_help_pages(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("COLUMNS", "80")
    found = {name: faults(text, is_function=False) for name, text in pages(parser())}
    assert {"kbit-ref", "kbit-ref check", "kbit-ref vectors lint"} < set(found)
    assert {name: wrong for name, wrong in found.items() if wrong} == {}


@pytest.mark.parametrize(
    ("text", "is_function"),
    [
        ("The level of each code.", True),
        ("What is stored for an array.", False),
        ("How an array becomes codes.", False),
        ("A type from its levels.", True),
        ("uint8 up to 8 bits.", True),
        ("Return the code.\n\nNaN is told in a note.", True),
        ("Judge.\n\nerror  other than what was asked for", False),
    ],
)
def test_a_fault_would_be_found(text: str, is_function: bool) -> None:
    assert len(faults(text, is_function=is_function)) == 1
    assert faults("Return the level of each code; taking, asks, keep and seeing are words.", is_function=True) == []
