"""Adapters are found, not listed: the classes in the files of a folder, ours or somebody else's."""

from __future__ import annotations

import importlib
import importlib.util
import pkgutil
from collections.abc import Iterable
from pathlib import Path
from types import ModuleType
from typing import Any, TypeVar

from kbit_ref.conformance.implementations.ask import spelled
from kbit_ref.errors import BadInput, message

__all__ = ["instances"]

Base = TypeVar("Base")


def instances(base: type[Base], package: str, places: Iterable[str], folders: Iterable[str | Path]) -> dict[str, Base]:
    """Return an object of each class below `base`, by its `library`: those of the package, then of other folders.

    Two classes of one library in a folder are joined: one has its data types, the other its block formats.

    Raises
    ------
    BadInput
        `check: adapters = mine/foo.py, the file cannot be loaded (...); ...`
    """
    found = _of([importlib.import_module(f"{package}.{each.name}") for each in pkgutil.iter_modules(places)], base)
    for folder in folders:
        found |= _of([_from_file(path) for path in sorted(Path(folder).glob("*.py"))], base)
    return found


def _of(modules: Iterable[ModuleType], base: type[Base]) -> dict[str, Base]:
    """Return the adapters of the modules of one folder."""
    found: dict[str, Any] = {}
    for module in modules:
        for value in vars(module).values():
            if isinstance(value, type) and issubclass(value, base) and value.__module__ == module.__name__:
                made: Any = value()
                before = found.get(made.library)
                if before is not None and not issubclass(value, type(before)):
                    every = {name: getattr(before, name) + getattr(made, name) for name in ("profiles", "known")}
                    made = type(value.__name__, (value, type(before)), every)()
                found[made.library] = made
    return found


def _from_file(path: Path) -> ModuleType:
    spec = importlib.util.spec_from_file_location(f"kbit_ref_adapter_{path.stem}", path)
    assert spec is not None
    assert spec.loader is not None  # a .py file has both
    module = importlib.util.module_from_spec(spec)
    try:
        spec.loader.exec_module(module)
    except Exception as error:  # whatever a file of somebody else raises
        rule = f"the file cannot be loaded ({spelled(error)})"
        raise BadInput(message("check", f"adapters = {path}", rule, "mend it or take it out of the folder")) from None
    return module
