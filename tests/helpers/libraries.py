"""The libraries that tests ask: light ones must be there, heavy ones (those that bring torch) may be missing.

A test that asks a heavy one bears the mark `heavy`; `.ci/run` installs them (`heavy.txt`) and runs the mark.
"""

from __future__ import annotations

import importlib
import importlib.util
import re
import tomllib
from pathlib import Path
from typing import Any

import pytest

HERE = Path(__file__).parent
LIGHT = {
    re.split(r"[<>=]", requirement)[0]
    for requirement in tomllib.loads((HERE.parents[1] / "pyproject.toml").read_text("utf-8"))["project"][
        "optional-dependencies"
    ]["peers"]
}


def light(name: str) -> Any:
    """The module of a library that the test command installs; without it a test fails."""
    assert name.partition(".")[0] in LIGHT, f"{name} is not in the extra `peers`"
    return importlib.import_module(name)


def heavy(name: str) -> Any:
    """The module of a library that may be missing; without it the test is skipped."""
    assert name.partition(".")[0] not in LIGHT
    return pytest.importorskip(name, exc_type=ImportError)


def cases(names: Any) -> list[Any]:
    """Names of libraries as parameters, the heavy ones with their mark."""
    return [name if spelled(name) in LIGHT else pytest.param(name, marks=pytest.mark.heavy) for name in names]


def needed(name: str, present: bool) -> None:
    """Of a library that is a parameter: a light one must be there; without a heavy one the test is skipped."""
    if spelled(name) in LIGHT:
        assert present, f"{name} is not installed: pip install '.[peers]'"
    elif not present:
        pytest.skip(f"{name} is not installed")


def spelled(name: str) -> str:
    """As pyproject spells it."""
    return name.replace("-", "_") if name.replace("-", "_") in LIGHT else name
