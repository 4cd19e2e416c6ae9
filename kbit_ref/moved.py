"""Documented modules that have moved: the old name gives the same module as the new one."""

from __future__ import annotations

import importlib
import sys
from collections.abc import Sequence
from importlib.abc import Loader, MetaPathFinder
from importlib.machinery import ModuleSpec
from types import ModuleType

__all__ = ["MOVED"]

MOVED = {
    "kbit_ref.family": "kbit_ref.transformer.family",
    "kbit_ref.world": "kbit_ref.transformer.world",
    "kbit_ref.conformance.mutants": "kbit_ref.conformance.variants",
    "kbit_ref.conformance.rules_in_use": "kbit_ref.conformance.audit.rules_in_use",
    "kbit_ref.conformance.steps": "kbit_ref.tensors.steps",
}


class _Finder(MetaPathFinder, Loader):
    """Finds the old names."""

    def find_spec(
        self, fullname: str, path: Sequence[str] | None, target: ModuleType | None = None
    ) -> ModuleSpec | None:
        """The spec of an old name; None for every other."""
        return ModuleSpec(fullname, self) if fullname in MOVED else None

    def create_module(self, spec: ModuleSpec) -> ModuleType:
        """The module of the new name; its own spec stays."""
        module = importlib.import_module(MOVED[spec.name])
        self._spec, self._loader = module.__spec__, module.__loader__
        return module

    def exec_module(self, module: ModuleType) -> None:
        """It has run already."""
        module.__spec__, module.__loader__ = self._spec, self._loader


sys.meta_path.append(_Finder())
