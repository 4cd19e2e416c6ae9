"""Hypothesis, the one place where it is imported, and the search for the simplest example."""

from __future__ import annotations

from collections.abc import Callable
from random import Random
from typing import Any, TypeVar

from kbit_ref.errors import BadInput, BadType, MissingLibrary, message

try:
    import hypothesis
    from hypothesis import strategies as st
except ImportError:
    raise MissingLibrary(
        message("strategies", "hypothesis", "it is not installed", "pip install kbit_ref[test]")
    ) from None

__all__ = ["Draw", "simplest", "st"]

Draw = Callable[[Any], Any]
T = TypeVar("T")


def simplest(strategy: st.SearchStrategy[T], holds: Callable[[T], bool], *, examples: int = 200) -> T | None:
    """Return the simplest example for which something holds; None if there is none among so many.

    The same every time.

    Examples
    --------
    >>> from kbit_ref.strategies import levels_of
    >>> simplest(levels_of("int4"), lambda level: level > 4)
    5.0
    >>> simplest(levels_of("int4"), lambda level: level > 7) is None
    True
    """
    if not isinstance(strategy, st.SearchStrategy):
        rule = "it is no strategy"
        raise BadType(message("simplest", f"strategy = {strategy!r}", rule, "e.g. levels_of('int4')"))
    if not isinstance(examples, int) or examples < 1:
        raise BadInput(message("simplest", f"examples = {examples!r}", "it is a number from 1", "use 200"))
    settings = hypothesis.settings(
        max_examples=examples, deadline=None, database=None, suppress_health_check=list(hypothesis.HealthCheck)
    )
    try:
        return hypothesis.find(strategy, holds, settings=settings, random=Random(0))
    except hypothesis.errors.NoSuchExample:
        return None
