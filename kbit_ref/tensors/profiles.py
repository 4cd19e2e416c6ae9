"""Profiles: what a library does, as one spelling. A profile is a name for a scheme, nothing more.

A line of `profiles.txt` is a name, a spelling and a source. Where names differ in one word, `[a|b]`
in the name is `[]` in the spelling.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import cache
from importlib.resources import files

__all__ = ["Profile", "names_of", "profiles"]


@dataclass(frozen=True)
class Profile:
    """A name, the spelling it stands for, and where it was read."""

    name: str
    spelling: str
    source: str


@cache
def profiles() -> dict[str, Profile]:
    """Return all profiles by name; `kb.scheme` takes the names.

    Examples
    --------
    >>> profiles()["ocp-mxfp4"].spelling
    'e2m1fn-b32@-1-pow2floor-e8m0fnu'
    """
    found = {}
    for line in (files("kbit_ref.tensors") / "profiles.txt").read_text("utf-8").splitlines():
        pattern, spelling, source = (part.strip() for part in line.split(maxsplit=2))
        for name, value in names_of(pattern):
            found[name] = Profile(name, spelling.replace("[]", value), source)
    return found


def names_of(pattern: str) -> list[tuple[str, str]]:
    """The names of a pattern, `ct-int[2|3]`, and what `[]` stands for in their spellings."""
    before, bracket, rest = pattern.partition("[")
    if not bracket:
        return [(pattern, "")]
    choices, _, after = rest.partition("]")
    return [(before + choice + after, choice) for choice in choices.split("|")]
