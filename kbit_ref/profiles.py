"""Profiles: what a library does, as one spelling. A profile is a name for a scheme, nothing more."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cache

__all__ = ["Profile", "profiles"]


@dataclass(frozen=True)
class Profile:
    """A name, the spelling it stands for, and where it was read."""

    name: str
    spelling: str
    source: str


@cache
def profiles() -> dict[str, Profile]:
    """All profiles by name; `kb.scheme` takes the names.

    Examples
    --------
    >>> profiles()["ocp-mxfp4"].spelling
    'e2m1fn-b32@-1-pow2floor-e8m0fnu'
    """
    rows = (line.split(maxsplit=2) for line in TABLE.strip().splitlines())
    return {name: Profile(name, spelling, source) for name, spelling, source in rows}


TABLE = """
ocp-mxfp4 e2m1fn-b32@-1-pow2floor-e8m0fnu OCP MX 1.0
"""
