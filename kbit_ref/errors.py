"""The few mistakes a user can make, each told in one line.

The line has a fixed form, built here and nowhere else:

    function: argument = got, rule that is broken; what to do
"""

from __future__ import annotations

from collections.abc import Iterable
from difflib import get_close_matches

__all__ = ["BadInput", "BadType", "KbitError", "MissingLibrary", "UnknownName", "message"]


class KbitError(Exception):
    """Any mistake that `kbit_ref` reports; its text is one line."""


class BadInput(KbitError, ValueError):
    """A value breaks a rule: NaN where a type has none, a code out of range, a shape that does not fit."""


class BadType(KbitError, TypeError):
    """An argument of a kind that is not accepted: integers where reals belong, an unsupported dtype."""


class UnknownName(KbitError, ValueError):
    """A name that no registry holds; the text offers the nearest ones."""

    @classmethod
    def among(cls, function: str, argument: str, got: object, known: Iterable[str], remedy: str) -> UnknownName:
        """The error for `got`, with the known names that resemble it."""
        folded = {name.casefold(): name for name in known}
        near = [folded[name] for name in get_close_matches(str(got).casefold(), list(folded), n=3, cutoff=0.5)]
        hint = f"did you mean {', '.join(near)}? {remedy}" if near else remedy
        return cls(message(function, f"{argument} = {got!r}", "there is no such name", hint))


class MissingLibrary(KbitError, ImportError):
    """An optional library is needed and absent; the text names the extra to install."""


def message(function: str, got: str, rule: str, remedy: str) -> str:
    """One line: where, what was got, which rule it breaks, what to do.

    Examples
    --------
    >>> message("encode", "x[3] = nan", "int4 has no NaN level", "clean the input or use e4m3fn")
    'encode: x[3] = nan, int4 has no NaN level; clean the input or use e4m3fn'
    """
    return " ".join(f"{function}: {got}, {rule}; {remedy}".split())
