"""Anybody's own function that quantizes an array: what it answers, as parts, and the verdict on it."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from typing import Any

import numpy as np
from numpy.typing import NDArray

from kbit_ref.conformance.block_judge import Answer, judge_profile
from kbit_ref.conformance.implementations.adapters import Adapter
from kbit_ref.conformance.implementations.block_worker import answer
from kbit_ref.conformance.implementations.claims import BlockProfile
from kbit_ref.conformance.rank import rank_blocks
from kbit_ref.conformance.reading import Refused
from kbit_ref.conformance.verdict import Verdict
from kbit_ref.exact.rules import RULES
from kbit_ref.tensors.qtensor import QTensor
from kbit_ref.tensors.scheme import Scheme

__all__ = ["check_blocks", "parts_of"]

Array = NDArray[Any]
FIELDS = ("packed", "scales", "offsets", "zero_points", "global_scale")


def check_blocks(
    function: Callable[[Any], Any],
    s: Scheme,
    sources: Sequence[str],
    as_numbers: Callable[[Array, str], Array],
    shapes: str,
    rank: bool,
) -> Verdict:
    """The verdict on a function of one array.

    Parameters
    ----------
    function
        What is judged; `parts_of` says what it may answer.
    s, sources, shapes
        What it claims, and the arrays that it takes, as in `BlockProfile`.
    as_numbers
        Words of a format as the array that the function takes.
    rank
        Rank the kin of the scheme too.
    """
    profile = BlockProfile(str(s), getattr(function, "__name__", "function"), tuple(sources), shapes)
    mine = _Mine(function, s, as_numbers)

    def ask(theirs: str, source: str, **arrays: Array) -> Answer:
        return Answer(*answer(mine, {"theirs": theirs, "source": source}, arrays))

    def parts(words: Array, source: str) -> dict[str, Array]:
        found = ask(profile.theirs, source, x=words)
        if found.error:
            raise Refused(found.error)
        return found.parts

    row = judge_profile(mine, profile, ask, s)
    return replace(row, ranking=rank_blocks(s, profile, parts)) if rank else row


class _Mine(Adapter):
    """A function, seen as a library."""

    library, module, install = "", "kbit_ref", ""

    def __init__(self, function: Callable[[Any], Any], s: Scheme, as_numbers: Callable[[Array, str], Array]):
        self.function, self.s, self.as_numbers = function, s, as_numbers

    def quantize(self, theirs: str, x: Array, source: str) -> dict[str, Any]:
        """One call; what it answers, as parts."""
        return parts_of(self.s, x.shape, self.function(self.as_numbers(x, source)))

    def version(self) -> str:
        """It has none."""
        return ""


def parts_of(s: Scheme, shape: tuple[int, ...], got: Any) -> dict[str, Any]:
    """An answer by the names of its parts.

    It may be a dict of any of `codes packed scales offsets zero_points global_scale scale_codes
    scale_scales scale_offset values`; a tuple of codes (or packed bytes), scales, and offsets or
    zero points if the scheme has them; one array, of codes, packed bytes, or the decoded real
    numbers; or a QTensor. Signed integers for a signed type are levels.

    Examples
    --------
    >>> import kbit_ref as kb
    >>> s = kb.scheme("int4-b2-absmax-f32")
    >>> sorted(parts_of(s, (2,), (np.array([1, -1], np.int8), [0.5])))
    ['codes', 'scales']
    >>> parts_of(s, (2,), np.array([1, -1], np.int8))
    {'codes': array([ 1, 15])}
    """
    if isinstance(got, QTensor):
        found = {name: getattr(got, name) for name in FIELDS if getattr(got, name) is not None}
        return found if got.offsets is None or got.offsets.size == got.scales.size else _without(found, "offsets")
    if isinstance(got, Mapping):
        found = {str(name): np.asarray(value) for name, value in got.items() if value is not None}
        if "values" in found:
            found["decoded"] = found.pop("values")
    elif isinstance(got, (tuple, list)) and not _is_numbers(got):
        third = "offsets" if RULES[s.rule].offset_added else "zero_points"
        names = ("codes", "scales", third)
        if len(got) > len(names):
            raise TypeError(f"it returned {len(got)} arrays; give codes, scales, {third}, or a dict of parts")
        found = {name: np.asarray(value) for name, value in zip(names, got, strict=False) if value is not None}
    else:
        found = {"codes": np.asarray(got)}
    codes = found.get("codes")
    if codes is None:
        return found
    if codes.dtype.kind == "f" or codes.dtype.name == "bfloat16":
        return {"decoded": codes.astype(np.float64)} | _without(found, "codes")
    if codes.shape != shape and codes.dtype == np.uint8 and codes.size == s.layout.size(int(np.prod(shape))):
        return {"packed": codes} | _without(found, "codes")
    return found | {"codes": _as_codes(s, codes)}


def _without(parts: dict[str, Any], name: str) -> dict[str, Any]:
    return {key: value for key, value in parts.items() if key != name}


def _is_numbers(got: Sequence[Any]) -> bool:
    """Is it a list of numbers, rather than one of arrays?"""
    return all(isinstance(each, (int, float)) for each in got)


def _as_codes(s: Scheme, codes: Array) -> Array:
    """Signed integers of a type with negative levels are levels: the code of each; -1 where there is none."""
    levels = s.dtype.levels
    if codes.dtype.kind != "i" or s.dtype.family != "integer" or levels.min() >= 0:
        return codes
    wide = codes.astype(np.int64)
    lowest = int(levels.min())
    table = np.full(2**s.dtype.bits + 1, -1)
    table[(levels - lowest).astype(np.int64)] = np.arange(levels.size)
    inside = (wide >= lowest) & (wide <= int(levels.max()))
    return np.where(inside, table[np.where(inside, wide - lowest, 0)], -1)
