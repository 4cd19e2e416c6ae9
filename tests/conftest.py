"""For all tests: a registry that is put back, and Hypothesis without deadlines on slow machines."""

import os
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest
from hypothesis import settings

import kbit_ref  # noqa: F401  # fills the registry

os.environ.setdefault("KBIT_REF_ADAPTER", str(Path(__file__).parent / "helpers" / "own_schemes.py"))
os.environ.setdefault("KBIT_REF_EXAMPLES", "3")
os.environ.pop("COLUMNS", None)  # pages are as wide as where there is no terminal

settings.register_profile("oracle", deadline=None, derandomize=True, print_blob=True)
settings.load_profile("oracle")

room = sys.modules["kbit_ref.datatypes.datatype"]  # kbit_ref.datatypes.datatype is the function


@pytest.fixture(autouse=True)
def registered_types_are_forgotten() -> Iterator[None]:
    """What a test registers is gone after it."""
    before = dict(room._registered)
    yield
    if room._registered != before:
        room._registered.clear()
        room._registered.update(before)
        room._resolve.cache_clear()
