"""Stored parts to dequantize: what an encoder need not give, and a decoder must understand."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import numpy as np
from numpy.typing import NDArray

from kbit_ref.conformance.cases.of_schemes import arranged, block_size, stored_numbers
from kbit_ref.conformance.cases.registry import Given, case
from kbit_ref.exact.rules import RULES
from kbit_ref.tensors.scheme import Scheme


def _applies(s: Scheme) -> bool:
    return s.double is None and s["center"] != "tensor"


def _stored(s: Scheme, comment: str, codes: NDArray[Any], level: str, scales: NDArray[Any] | None = None) -> Given:
    """The codes in blocks, the last one filled up; a scale, an offset and a zero point for each."""
    size = block_size(s)
    blocks = np.resize(codes, (-(-codes.size // size), size))
    grid = np.arange(len(blocks), dtype=np.float32).reshape(-1, 1)  # [n, 1]
    if s.cut.axis is None:
        grid = grid.reshape(1, -1) if s.cut.kind == "b" else grid[:1]
    rule = RULES[s.rule]
    few = stored_numbers(s) if not rule.power_of_two else np.array([0.5, 4, 1], np.float32)
    arrays: dict[str, NDArray[Any]] = {
        "codes": arranged(s.cut, blocks.astype(np.uint8)),
        "scales": np.resize(few if scales is None else scales, grid.shape).astype(np.float32),
    }
    if rule.offset_added or s["center"] == "block":
        arrays["offsets"] = grid / 4 - 3
    if rule.zero_point == "real":
        arrays["zero_points"] = grid / 8 + np.float32(2**s.dtype.bits / 2 - 0.25)
    elif rule.zero_point:
        lowest = s.dtype.levels.min()
        zero = np.clip(grid + lowest + 2 ** (s.dtype.bits - 1), lowest, s.dtype.levels.max())
        arrays["zero_points"] = zero.astype(np.int8 if lowest < 0 else np.uint8)
    if s["global"] != "none":
        arrays["global_scale"] = np.array(0.3125, np.float32)
    return Given(comment, arrays, level)


@case(
    "every-code-stored",
    Scheme,
    catches="a wrong level, codes that no encoder gives, a sign that is not extended",
    applies=_applies,
)
def every_code_stored(s: Scheme) -> Iterator[Given]:
    """every code, the unused ones too, with scales that the stored type has"""
    yield _stored(s, "every code", np.arange(min(2**s.dtype.bits, s.layout.codes)), "quick")


@case(
    "every-pair",
    Scheme,
    catches="nibbles in another order, a borrow or a sign that reaches the neighbour",
    applies=lambda s: _applies(s) and s.dtype.bits == 4,
)
def every_pair(s: Scheme) -> Iterator[Given]:
    """every pair of nibbles, one after the other"""
    codes = np.arange(512)
    yield _stored(s, "every pair", np.where(codes % 2, codes // 2 % 16, codes // 32), "full")
