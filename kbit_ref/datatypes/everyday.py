"""Everyday names (`fp8`, `NF4`, `mxfp4`, `Q4_0`, `int4 g128`): which data types and schemes they may stand for.

The one resolver of names that are not exact. `datatype`, `scheme` and the commands ask it.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping, Sequence

from kbit_ref.errors import UnknownName, message

__all__ = ["KINDS", "PUBLISHED", "few_words", "meanings", "resolve"]

KINDS: dict[str, Callable[[], Mapping[str, str]]] = {}  # what a name can be -> every such name, with a few words
PUBLISHED = "ocp-"  # profiles of a published definition: `mxfp4` is `ocp-mxfp4`, whatever libraries make of it
MOST = 6  # names in an error

MEANT: Mapping[str, Sequence[str]] = {  # in lower case, without separators
    "fp4": ("e2m1fn", "fp4_bnb", "ocp-mxfp4", "nvfp4-te", "bnb-cuda-fp4"),
    "fp6": ("e2m3fn", "e3m2fn", "ocp-mxfp6-e2m3", "ocp-mxfp6-e3m2"),
    "fp8": ("e4m3fn", "e5m2", "e4m3fnuz", "e5m2fnuz", "ocp-mxfp8-e4m3", "onnx-e4m3fn", "quanto-qfloat8-e4m3fn"),
    "e4m3": ("e4m3fn", "e4m3", "e4m3fnuz"),  # what OCP calls E4M3 is e4m3fn
    "e2m1": ("e2m1fn",),
    "e2m3": ("e2m3fn",),
    "e3m2": ("e3m2fn",),
    "e8m0": ("e8m0fnu",),
    "ue8m0": ("e8m0fnu",),
    "fp16": ("f16",),
    "half": ("f16",),
    "bfloat16": ("bf16",),
    "fp32": ("f32",),
    "normalfloat4": ("nf4",),
}
FLOATS = re.compile(r"(float|fp|f)(\d+)(?:(u?e\d+m\d+[a-z0-9]*?)(?:x2)?)?")  # float8_e4m3fn, Float8E4M3FN, F8_E5M2
GROUPED = re.compile(r"([a-z]*?)(\d)(sym)?g(?:roup)?(?:size)?=?([1-9]\d*)")  # int4 g128
GROUPS = {  # schemes of such a name, and a few words on each
    "{signed}-b{n}@-1-absmax-f16": "symmetric",
    "uint{bits}-b{n}@-1-affine-f16": "asymmetric, whole zero points",
    "uint{bits}-b{n}@-1-minmax-f16": "asymmetric, offsets",
}


def few_words(text: str) -> str:
    """Return the beginning of a description, up to the first punctuation.

    Examples
    --------
    >>> few_words("OCP FP8 E4M3: bias 7, no infinity, one NaN a sign, up to 448.")
    'OCP FP8 E4M3'
    """
    return re.split(r"[:;,](?!\d)|\.(?=\s|$)", text, maxsplit=1)[0]


def meanings(text: str, kind: str) -> dict[str, str]:
    """Return the names of a kind that `text` may stand for, with a few words on each; an exact name is the only one.

    Parameters
    ----------
    text
        A name as people write it.
    kind
        `data type`, `stored scale` or `scheme`.

    Examples
    --------
    >>> import kbit_ref as kb
    >>> meanings("float8_e4m3fn", "data type")
    {'e4m3fn': 'OCP FP8 E4M3'}
    >>> list(meanings("fp4", "data type"))
    ['e2m1fn', 'fp4_bnb']
    """
    known = KINDS[kind]()
    if text in known:
        return {text: known[text]}
    plain = re.sub(r"[\s_-]", "", text.casefold())
    grouped = GROUPED.fullmatch(plain)
    if kind == "scheme" and grouped and grouped[1] in ("int", "uint", "oint"):
        return _grouped(*grouped.groups())
    names = _by_table(plain, known) or [name for name in known if name.casefold() == text.casefold()]
    if kind == "scheme":
        names = names or _by_words(text, known)
    return {name: known[name] for name in names if name in known}


def _by_table(plain: str, known: Mapping[str, str]) -> list[str]:
    if plain in MEANT:
        return list(MEANT[plain])
    match = FLOATS.fullmatch(plain)
    if match is None:
        return []
    family, width, fields = match.groups()
    if fields is None:  # float8
        return list(MEANT.get(f"fp{width}", ()))
    if family == "float" and fields in known:  # the names of LLVM, in which E4M3 is the one with infinities
        return [fields]
    return list(MEANT.get(fields, (fields,)))


def _by_words(text: str, known: Mapping[str, str]) -> list[str]:
    """Return the published profile of that name; else all that have its words, the shortest names first."""
    published = PUBLISHED + text.casefold()
    if published in known:
        return [published]
    words = set(re.split(r"[\s-]+", text.casefold()))
    found = [name for name in known if words <= set(name.casefold().split("-"))]
    return sorted(found, key=lambda name: (not name.startswith(PUBLISHED), name.count("-")))


def _grouped(family: str, bits: str, symmetric: str | None, n: str) -> dict[str, str]:
    wanted = {"int": "" if not symmetric else "symmetric", "oint": "symmetric", "uint": "asymmetric"}[family]
    found = {name: words for name, words in GROUPS.items() if words.startswith(wanted)}
    return {name.format(signed=f"{family}{bits}{symmetric or ''}", bits=bits, n=n): w for name, w in found.items()}


def resolve(function: str, argument: str, text: str, kind: str) -> str | None:
    """Return the one name of a kind that `text` stands for; None if nothing is known of it.

    Raises
    ------
    UnknownName
        `datatype: name = 'fp4', 2 incompatible data types have that name; use e2m1fn (OCP FP4 E2M1) or fp4_bnb (...)`

    Examples
    --------
    >>> import kbit_ref as kb
    >>> resolve("scheme", "text", "Q4_0", "scheme")
    'ggml-q4_0'
    """
    found, got = meanings(text, kind), f"{argument} = {text!r}"
    types = meanings(text, "data type") if kind == "scheme" else {}
    if len(types) == 1 and not any(name.startswith(PUBLISHED) for name in found):
        name = next(iter(types))
        example = f"a scheme is DTYPE-CUT-RULE-SCALE, e.g. {name}-b64-absmax-f32"
        stored = meanings(name, "scheme")
        remedy = example + (f", or one of the profiles {_listed(stored)}" if stored else "")
        raise UnknownName(message(function, got, "it is a data type and no scheme", remedy))
    if len(found) == 1:
        return next(iter(found))
    if found:
        rule = f"{len(found)} different {kind}s have that name"
        raise UnknownName(message(function, got, rule, f"use {_listed(found)}"))
    for other in KINDS:
        if meant := meanings(text, other):
            rule = f"it is a {other} and no {kind}"
            raise UnknownName(message(function, got, rule, f"as such it is {_listed(meant)}"))
    return None


def _listed(found: Mapping[str, str]) -> str:
    said = [f"{name} ({words})" for name, words in found.items()]
    if len(said) > MOST:
        said = [*said[: MOST - 1], f"{len(said) - MOST + 1} more"]
    return " or ".join([", ".join(said[:-1]), said[-1]]) if len(said) > 1 else said[0]
