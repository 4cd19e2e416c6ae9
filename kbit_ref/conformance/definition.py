"""Compute what the definition stores for an array, block by block, and which blocks it refuses."""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass, field
from typing import Any

import numpy as np
from numpy.typing import NDArray

from kbit_ref.errors import KbitError
from kbit_ref.tensors.dequantize import dequantize
from kbit_ref.tensors.packing import Layout, pack
from kbit_ref.tensors.qtensor import QTensor
from kbit_ref.tensors.quantize import quantize
from kbit_ref.tensors.scheme import Scheme

__all__ = ["Stored", "answered", "block_index", "independent", "reference", "repacked", "stored_of"]

Array = NDArray[Any]
PER_BLOCK = ("scales", "offsets", "zero_points")


@dataclass
class Stored:
    """The parts of an array in one form, theirs or ours.

    Parameters
    ----------
    codes
        int64 [*shape]; -1 where there is none.
    blocks
        `scales`, `offsets`, `zero_points`: float64 [n_blocks], in the order of the cut.
    global_scale
        Of the whole, or None.
    refused
        [n_blocks]: blocks for which the scheme has no answer, and the reasons with their counts.
    double
        Of scales that are quantized again: `scale_codes`, `scale_scales`, `scale_offset`, flat.
    decoded
        float32 [*shape], if requested.
    """

    codes: NDArray[np.int64]
    blocks: dict[str, NDArray[np.float64]]
    global_scale: float | None
    refused: NDArray[np.bool_]
    reasons: Counter[str] = field(default_factory=Counter)
    double: dict[str, NDArray[np.float64]] = field(default_factory=dict)
    decoded: Array | None = None


def independent(s: Scheme) -> bool:
    """Return whether the answer for a block depends on that block alone."""
    return s["global"] == "none" and s["center"] != "tensor" and s.double is None and s.cut.kind != "tensor"


def block_index(s: Scheme, shape: tuple[int, ...]) -> NDArray[np.intp]:
    """Return the number of the block that each element belongs to, in the order of the cut, [*shape]."""
    rows = s.cut.rows(np.empty(shape, np.uint8)).shape
    width = s.cut.size or max(rows[1], 1)
    of_row = np.arange(rows[1]) // width
    index = np.arange(rows[0])[:, None] * s.cut.per_row(rows[1]) + of_row
    return np.asarray(s.cut.join(index, shape), np.intp)


def reference(s: Scheme, words: Array, source: str, decoded: bool = False) -> Stored:
    """Return what the scheme stores for an array; blocks that it refuses are found one by one where they can be."""
    try:
        return stored_of(quantize(words, s, threads=1, bfloat16=source == "bfloat16"), decoded)
    except KbitError as error:
        axis = 1 if s.cut.kind == "b" and s.cut.axis == 0 else 0
        lone = words.ndim != 2 or words.shape[axis] < 2 or not independent(s)
        flat_rows_mix = s.cut.kind == "b" and s.cut.axis is None and words.shape[-1] % (s.cut.size or 1) != 0
        if lone or flat_rows_mix:
            return _nothing(s, words.shape, str(error))
    half = words.shape[axis] // 2
    first, second = np.split(words, [half], axis)
    parts = [reference(s, np.ascontiguousarray(part), source, decoded) for part in (first, second)]
    names = dict.fromkeys(name for part in parts for name in part.blocks)

    def joined(name: str) -> NDArray[np.float64]:
        blank = [np.full(part.refused.shape, np.nan) for part in parts]
        return np.concatenate([part.blocks.get(name, none) for part, none in zip(parts, blank, strict=True)])

    return Stored(
        np.concatenate([part.codes for part in parts], axis),
        {name: joined(name) for name in names},
        None,
        np.concatenate([part.refused for part in parts]),
        parts[0].reasons + parts[1].reasons,
        decoded=np.concatenate([part.decoded for part in parts], axis) if decoded else None,
    )


def answered(s: Scheme, words: Array, refused: NDArray[np.bool_]) -> Array:
    """Return an array without the blocks that the scheme refuses; nothing where its rows (or columns) are no blocks."""
    if not refused.any():
        return words
    axis = 1 if s.cut.kind == "b" and s.cut.axis == 0 else 0
    if words.ndim != 2 or words.shape[axis] != refused.size:
        return words[:0]
    return np.ascontiguousarray(words.compress(~refused, axis))


def stored_of(q: QTensor, decoded: bool) -> Stored:
    """Return the parts of a quantized array."""
    n_blocks = q.scales.size
    blocks = {}
    for name in PER_BLOCK:
        values = getattr(q, name)
        if values is not None and values.size == n_blocks:
            blocks[name] = np.asarray(values, np.float64).reshape(-1)
    whole = None if q.global_scale is None else float(q.global_scale)
    again = {}
    if q.double is not None:
        numbers = {"scale_codes": q.double.codes, "scale_scales": q.double.scales, "scale_offset": q.double.offsets}
        again = {name: np.asarray(x, np.float64).reshape(-1) for name, x in numbers.items() if x is not None}
    made = Stored(q.codes.astype(np.int64), blocks, whole, np.zeros(n_blocks, bool), double=again)
    if decoded:
        with np.errstate(all="ignore"):
            made.decoded = dequantize(q, threads=1)
    return made


def _nothing(s: Scheme, shape: tuple[int, ...], error: str) -> Stored:
    index = block_index(s, shape)
    n_blocks = int(index.max()) + 1 if index.size else 0
    reason = error.split(";")[0].rsplit(", ", 1)[-1]
    nothing = np.full(shape, np.nan, np.float32)
    codes = np.full(shape, -1, np.int64)
    return Stored(codes, {}, None, np.ones(n_blocks, bool), Counter({reason: n_blocks}), decoded=nothing)


def repacked(s: Scheme, codes: NDArray[np.uint8], form: Layout | None = None) -> NDArray[np.uint8]:
    """Return the bytes of codes in a layout, by default the scheme's, which says how a short last group is filled."""
    form = form or s.layout
    return pack(np.concatenate([codes, np.full(-codes.size % form.elements, s.fill, np.uint8)]), form)
