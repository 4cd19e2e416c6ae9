"""For all tests: a registry that is put back, and Hypothesis without deadlines on slow machines."""

from collections.abc import Iterator

import pytest
from hypothesis import settings

from kbit_ref import datatype as registry

settings.register_profile("oracle", deadline=None, derandomize=True, print_blob=True)
settings.load_profile("oracle")


@pytest.fixture
def clean_registry() -> Iterator[None]:
    """What the test registers is forgotten afterwards."""
    lists = [value for value in vars(registry).values() if isinstance(value, (list, dict))]
    lists += [value.rows for value in vars(registry).values() if isinstance(getattr(value, "rows", None), list)]
    before = [type(value)(value) for value in lists]
    yield
    for value, old in zip(lists, before, strict=True):
        value.clear()
        value.update(old) if isinstance(value, dict) else value.extend(old)
    registry._resolve.cache_clear()
