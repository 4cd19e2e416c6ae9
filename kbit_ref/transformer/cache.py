"""Keys and values of the tokens so far, so that a new token costs one row and not the whole text again."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

from kbit_ref.tensors.dequantize import dequantize
from kbit_ref.tensors.qtensor import QTensor
from kbit_ref.tensors.quantize import quantize
from kbit_ref.tensors.scheme import Scheme, scheme

__all__ = ["GROUP", "Cache"]

Array = NDArray[Any]
GROUP = 32  # tokens that are quantized together


class Cache:
    """Keys and values of all layers, [n_batch, n_kv_head, n, d_head] each.

    Parameters
    ----------
    n_layer
        How many layers write into it.
    scheme_
        How they are stored: None as they are. With a scheme each group of 32 tokens becomes a QTensor of
        [n_batch, n_kv_head, 32, d_head], and those that come after the last full group wait as they are:
        `int8-b64-absmax-f16` has a scale for 64 elements of a head, `int4-channel@3-absmax-f16` one for a
        channel of all heads, `e4m3fn-channel@1-absmax-f32` one for a head.
    capacity
        For how many tokens room is made at first; it doubles when it is full.

    Examples
    --------
    >>> cache = Cache(1, "int8-b4-absmax-f32")
    >>> k, v = cache.extend(0, np.ones((1, 2, 40, 4), np.float32), np.ones((1, 2, 40, 4), np.float32))
    >>> k.shape, cache.n_past
    ((1, 2, 40, 4), 40)
    """

    def __init__(self, n_layer: int, scheme_: Scheme | str | None = None, capacity: int = 256):
        self.n_past = 0
        s = None if scheme_ is None else scheme(scheme_)
        self._layers = [tuple(_Tokens(s, capacity) for _ in "kv") for _ in range(n_layer)]

    def extend(self, i: int, k: Array, v: Array) -> tuple[Array, Array]:
        """Keys and values of layer i, those before and the new ones; the last layer ends the step."""
        keys, values = self._layers[i]
        both = keys.extend(k), values.extend(v)
        if i == len(self._layers) - 1:
            self.n_past += k.shape[2]
        return both

    @property
    def n_bytes(self) -> int:
        """What is stored takes so many bytes; room that is not used yet is not counted."""
        return sum(tokens.n_bytes for pair in self._layers for tokens in pair)


class _Tokens:
    """Full groups, quantized, and an array that grows along axis 2 with the tokens after them."""

    def __init__(self, s: Scheme | None, capacity: int):
        self.scheme, self.groups = s, list[QTensor]()
        self.capacity, self.n = capacity if s is None else GROUP, 0
        self.room: Array | None = None

    def extend(self, x: Array) -> Array:
        end = self.n + x.shape[2]
        if self.room is None or end > self.room.shape[2]:
            size = max(self.capacity, 1 << (end - 1).bit_length())
            room = np.empty((*x.shape[:2], size, x.shape[3]), x.dtype)
            if self.room is not None:
                room[:, :, : self.n] = self.room[:, :, : self.n]
            self.room = room
        self.room[:, :, self.n : end] = x
        self.n = end
        if self.scheme is None:
            return self.room[:, :, :end]
        full = end // GROUP * GROUP
        for begin in range(0, full, GROUP):
            self.groups.append(quantize(self.room[:, :, begin : begin + GROUP], self.scheme, threads=1))
        if full:  # what waits moves to the front of a small array
            self.n = end - full
            self.room = self.room[:, :, full : max(end, full + 1)].copy()
        parts = [dequantize(group, threads=1).astype(x.dtype, copy=False) for group in self.groups]
        return np.concatenate([*parts, self.room[:, :, : self.n]], axis=2)

    @property
    def n_bytes(self) -> int:
        waiting = 0 if self.room is None else self.room[:, :, : self.n].nbytes
        return waiting + sum(group.bits // 8 for group in self.groups)
