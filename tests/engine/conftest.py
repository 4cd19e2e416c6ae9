"""For the tests of the engine: few numbers of float64 are not searched for but looked up, as many are."""

import pytest

from kbit_ref.engine import tables


@pytest.fixture(autouse=True)
def tables_are_used(monkeypatch: pytest.MonkeyPatch) -> None:
    """From the first number on."""
    monkeypatch.setattr(tables, "PAYS", 0)
    tables.coder_for.cache_clear()
