"""Vary schemes: those that differ from the profile in one named choice, or in two."""

from __future__ import annotations

from collections.abc import Iterator
from functools import cache
from itertools import combinations

from kbit_ref import exact
from kbit_ref.datatypes.datatype import DataType
from kbit_ref.errors import KbitError
from kbit_ref.exact.rules import RULES
from kbit_ref.tensors.definitions import definition
from kbit_ref.tensors.profiles import profiles
from kbit_ref.tensors.scheme import CHOICES, Scheme, scheme

__all__ = ["changed", "changes", "pairs", "published", "singles"]

# Choices that say what there is in an answer, or how it lies in bytes, explain no number.
LEFT_OUT = {"layout", "fill", "double", "global", "center", "percentile", "nan", "inf"}
NOT_PAIRED = {"compute", "overflow", "rounding", "percentile"}
OF_TYPE = ("ties", "zero_sign", "overflow", "rounding")
SAYS = {  # what documents say of types, whatever profiles use
    **dict.fromkeys([("f16", "overflow", "ieee"), ("bf16", "overflow", "ieee")], "IEEE 754"),
    **{
        (name, "overflow", value): f"OCP 8-bit floating point 1.0 {how} saturation"
        for name in ("e4m3fn", "e5m2")
        for value, how in (("ieee", "without"), ("saturate", "with"))
    },
}


def changes(s: Scheme) -> Iterator[tuple[str, str]]:
    """Yield all (word, value) by which a scheme could differ: named choices, the type's own, the rule.

    Examples
    --------
    >>> ("arith", "reciprocal") in set(changes(scheme("int8-b32-absmax-f32")))
    True
    """
    for name, values in CHOICES.items():
        if name not in LEFT_OUT:
            yield from ((name, value) for value in values if value != s[name])
    for name in OF_TYPE:
        others = [value for value in exact.CHOICES[name] if value != getattr(s.dtype, name)]
        yield from ((name, value) for value in others if not value.startswith("stochastic"))
    yield from (("rule", rule) for rule in RULES if rule != s.rule)


@cache
def published(d: DataType, word: str, value: str) -> str:
    """Return who makes a choice for the type as a document says or allows it; empty if nobody does.

    Examples
    --------
    >>> from kbit_ref.datatypes.datatype import datatype
    >>> published(datatype("e2m1fn"), "rule", "pow2ceil"), published(datatype("e2m1fn"), "rounding", "toward_zero")
    ('torchao-mxfp4-ceil', '')
    """
    for name in profiles():
        s = scheme(name)
        if s.dtype.name.partition("+")[0] == d.name.partition("+")[0] and _choice(s, word) == value:
            document = definition(name)
            says = _choice(document.scheme(s), word) == value or document.leaves_open(word) or word == "layout"
            if document.is_published and says:
                return name
    return SAYS.get((d.name.partition("+")[0], word, value), "")


def _choice(s: Scheme, word: str) -> str:
    """Return the value of a word of a scheme, or of its type."""
    if word in exact.CHOICES:
        return str(getattr(s.dtype, word))
    return s.rule if word == "rule" else s.layout.name if word == "layout" else s[word]


def changed(s: Scheme, *words: tuple[str, str]) -> Scheme | None:
    """Return the scheme with other words, or None if they do not fit together."""
    choices = dict(s.choices)
    rule = s.rule
    for name, value in words:
        if name == "rule":
            rule = value
        else:
            choices[name] = value
    text = "-".join([s.dtype.name.partition("+")[0], str(s.cut), rule, s.scale_dtype])
    try:
        made = scheme("+".join([text, *(f"{name}={value}" for name, value in choices.items())]))
    except KbitError:
        return None
    return made if str(made) != str(s) else None


def singles(s: Scheme) -> dict[str, Scheme]:
    """Return schemes that differ in one word, by name: `+arith=reciprocal`, `rule=pow2ceil`.

    Examples
    --------
    >>> str(singles(scheme("int8-b32-absmax-f32"))["+ties=away"])
    'int8-b32-absmax-f32+ties=away'
    """
    return _named(s, ((word,) for word in changes(s)))


def pairs(s: Scheme) -> dict[str, Scheme]:
    """Return schemes that differ in two words."""
    every = [word for word in changes(s) if word[0] not in NOT_PAIRED]
    return _named(s, (pair for pair in combinations(every, 2) if pair[0][0] != pair[1][0]))


def _named(s: Scheme, words: Iterator[tuple[tuple[str, str], ...]]) -> dict[str, Scheme]:
    found = {}
    for each in words:
        made = changed(s, *each)
        if made is not None:
            name = "".join(f"+{key}={value}" if key != "rule" else f" rule={value}" for key, value in each).strip()
            found[name] = made
    return found
