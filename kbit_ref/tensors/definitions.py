"""Definitions: what is published of a format, apart from what libraries that claim it do.

A line of `definitions.txt` is patterns of profiles, a spelling in which `.` is what the profile says, the format of
the numbers, the choices that are left open, and the source.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from fnmatch import fnmatch
from functools import cache
from importlib.resources import files

from kbit_ref.tensors.scheme import Scheme, scheme

__all__ = ["Definition", "definition", "parsed"]

# What published formulas leave open: the order of roundings, blocks of zeros, scales beyond their type.
OPEN = (
    *("arith", "compute", "flatzero", "globalat", "globalby", "scalerange", "scaleuse", "signedtie"),
    *("tail", "tailarith", "zeroadd", "zeroblock"),
)


@dataclass(frozen=True)
class Definition:
    """The published definition of a family of formats.

    Parameters
    ----------
    profiles
        Patterns of the names of profiles.
    spelling
        A scheme, with `.` where the profile decides.
    source_format
        The format of the numbers that such a library quantizes: float32, or float16.
    open
        The choices that it leaves open, besides those that every formula leaves open; `*`: all.
    source
        Where it is published; or that it is not.
    """

    profiles: tuple[str, ...]
    spelling: str
    source_format: str
    open: tuple[str, ...]
    source: str

    @property
    def is_published(self) -> bool:
        """Say whether a document defines the format, and not the code of a library alone."""
        return not self.source.startswith("no published definition")

    def leaves_open(self, choice: str) -> bool:
        """Say whether it leaves a choice open."""
        return choice in OPEN or choice in self.open or "*" in self.open

    def scheme(self, s: Scheme) -> Scheme:
        """Return it as a scheme of the type, the cut, ... of a profile; with scales beyond their type at its ends."""
        head, *choices = self.spelling.split("+")
        parts = zip(head.split("-"), (s.dtype.name.partition("+")[0], str(s.cut), s.rule, s.scale_dtype), strict=True)
        if s["scalerange"] != "error":
            choices.append("scalerange=clamp")
        return scheme("+".join(["-".join(own if word == "." else word for word, own in parts), *choices]))


def definition(profile: str) -> Definition:
    """Return the definition of the format of a profile.

    Examples
    --------
    >>> definition("bnb-cpu-nf4").spelling
    'nf4-.-absmax-f32'
    """
    return next(d for d in _definitions() if any(fnmatch(profile, pattern) for pattern in d.profiles))


@cache
def _definitions() -> tuple[Definition, ...]:
    return parsed((files("kbit_ref.tensors") / "definitions.txt").read_text("utf-8").splitlines())


def parsed(lines: Iterable[str]) -> tuple[Definition, ...]:
    """Read definitions from lines of patterns, spelling, format of numbers, choices left open or -, source."""
    found = []
    for line in lines:
        names, spelling, source_format, free, source = line.split(maxsplit=4)
        left_open = () if free == "-" else tuple(free.split(","))
        found.append(Definition(tuple(names.split(",")), spelling, source_format, left_open, source))
    return tuple(found)
