"""A block that is too large to be at once: the scale of a whole tensor, in one pass over its pieces.

Of most rules a few numbers decide what the block stores: the first of its largest magnitude, the
smallest and the largest; or a sum of squares. They are gathered piece by piece, a small block of
them goes through the rule in the place of the large one, and then the codes follow piece by piece.
Many blocks go side by side, one a row.
"""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import numpy as np
from numpy.typing import NDArray

from kbit_ref.inputs import Reals
from kbit_ref.tensors.cut import Cut
from kbit_ref.tensors.kernels import BY_LARGEST
from kbit_ref.tensors.quantize import Work, taken
from kbit_ref.tensors.rules import in_order
from kbit_ref.tensors.scales import Plan, Whole, plan
from kbit_ref.tensors.scheme import Scheme

__all__ = ["LargeBlocks", "streams"]

Array = NDArray[Any]

STREAMED = (*BY_LARGEST, "signedmax", "minmax", "affine", "affineplain", "mlx", "hqq", "rms")  # rules


def streams(s: Scheme) -> bool:
    """Do a few numbers decide what a block stores, so that its pieces can go one after another?"""
    return s.rule in STREAMED and s["center"] != "block"


class LargeBlocks:
    """Blocks of which every piece is seen once, then settled, then encoded: [n, size] at a time.

    Parameters
    ----------
    s
        The scheme of the tensor.
    x
        Some of its numbers, which say in what format they are.
    bfloat16
        As for `quantize`.
    whole
        What belongs to the whole tensor.
    n
        How many blocks.
    missing
        Elements by which they are shorter than a block of the scheme.
    """

    def __init__(self, s: Scheme, x: Array, bfloat16: bool, whole: Whole, n: int, missing: int):
        self.s, self.missing = replace(s, cut=Cut("channel", None, 0)), missing
        (array, kind), self.a = taken(x, s, bfloat16)
        self.work = Work(self.s, self.a, Reals(np.empty((n, 1), array.dtype), kind), None, 0)
        self.work.whole = whole
        self.total, self.count = np.zeros((n, 1)), np.zeros((n, 1), np.int64)
        self.first, self.most = np.zeros((n, 1), self.a.dtype), np.full((n, 1), -1, self.a.dtype)
        self.low, self.high = np.full((n, 1), np.inf, self.a.dtype), np.full((n, 1), -np.inf, self.a.dtype)

    def see(self, piece: Array) -> None:
        """Gather what decides."""
        x, finite = self.work.numbers(piece)
        if self.s.rule == "rms":
            with np.errstate(over="ignore", under="ignore"):
                squares = np.where(True if finite is None else finite, np.asarray(x, np.float64), 0) ** 2
            self.total = in_order(np.concatenate([self.total, squares], axis=1), None)
        else:
            magnitudes = np.abs(x) if finite is None else np.where(finite, np.abs(x), -1)
            at = magnitudes.argmax(axis=1, keepdims=True)
            most = np.take_along_axis(magnitudes, at, axis=1)
            self.first = np.where(most > self.most, np.take_along_axis(x, at, axis=1), self.first)
            self.most = np.maximum(self.most, most)
            infinity = x.dtype.type(np.inf)
            low, high = (x, x) if finite is None else (np.where(finite, x, infinity), np.where(finite, x, -infinity))
            self.low = np.minimum(self.low, low.min(axis=1, keepdims=True))
            self.high = np.maximum(self.high, high.max(axis=1, keepdims=True))
        self.count += piece.shape[1] if finite is None else finite.sum(axis=1, keepdims=True)

    def settle(self) -> dict[str, Array | None]:
        """What the blocks store, by the fields of a QTensor: [n, 1] each."""
        padded = self.missing if self.s["tail"] == "pad" else 0
        if padded:  # with zeros
            self.low, self.high = np.minimum(self.low, 0), np.maximum(self.high, 0)
            self.count += padded
        if self.s.rule == "rms":
            few = self.a.round(np.sqrt(self.total / np.maximum(self.count, 1)))  # of one number this is the rms too
        else:
            few = np.concatenate([self.first, self.low, self.high], axis=1)
        counts = None if self.count.all() else np.repeat(self.count > 0, few.shape[1], axis=1)
        self.plan = plan(self.s, self.a, self.work.whole, few, counts, few.shape[1], self.work.error)
        self.plan.short = self.missing > 0
        self.used, self.zero = self.work.finish(self.plan)
        self.work.store((slice(None), slice(None)), self.plan, self.zero)
        return {"scales": self.work.scales, "offsets": self.work.offsets, "zero_points": self.work.zero_points}

    def codes(self, piece: Array) -> NDArray[np.uint8]:
        """[n, size]: the codes of a piece."""
        p: Plan = self.plan
        p.numbers, p.finite = self.work.numbers(piece)
        codes = self.work.codes(p, self.used, self.zero, None)
        if self.s["zerocode"] == "code0":
            codes[(self.used == 0) & ~np.isnan(p.numbers)] = 0
        return codes
