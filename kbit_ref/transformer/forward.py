"""A transformer's forward pass: tokens in, logits out. Read from the bottom up, or from the top down.

    tokens -> embed -> block, block, ... -> norm -> logits
    block(x) = x + attention(norm(x)), then the same with mlp

`p` holds the parameters by name, `c` the sizes and choices. Matrices are [d_out, d_in] and may be
quantized (`products.py`); nothing here knows.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

import numpy as np
from numpy.typing import NDArray

from kbit_ref.transformer.config import Config
from kbit_ref.transformer.functions import ACTIVATIONS, layer_norm, rms_norm, rotate, softmax
from kbit_ref.transformer.positions import alibi_slopes, rotary_tables
from kbit_ref.transformer.products import Parameters, product, rows_of

__all__ = ["attention", "block", "forward", "linear", "mlp", "norm"]

Array = NDArray[Any]
TILE = 128  # queries at a time: their scores fit the cache, and later keys are never looked at
ROWS = 128  # rows of an MLP at a time


@dataclass
class Where:
    """Where the tokens of a call stand, the same for all blocks."""

    n_past: int  # tokens that a cache holds already
    keys: NDArray[np.bool_] | None  # [n_batch, n_keys]: which keys are tokens and no padding; None: all
    turns: tuple[Array, Array] | None = None  # rotary: cos and sin
    slopes: Array | None = None  # alibi: [n_head, 1, 1]
    key_positions: Array | None = None  # alibi: [n_batch, 1, 1, n_keys]
    caches: dict[int, Any] = field(default_factory=dict)


def linear(x: Array, p: Parameters, name: str) -> Array:
    """x @ W.T + b."""
    y = product(x, p[f"{name}.weight"])  # [..., d_in] -> [..., d_out]
    if (bias := p.get(f"{name}.bias")) is not None:
        y += bias
    return y


def norm(x: Array, p: Parameters, c: Config, name: str) -> Array:
    """The norm of the family, with its parameters if it has any."""
    weight, bias = p.get(f"{name}.weight"), p.get(f"{name}.bias")
    return rms_norm(x, weight, c.norm_eps) if c.norm == "rms" else layer_norm(x, weight, bias, c.norm_eps)


def split_heads(x: Array, n_head: int) -> Array:
    """[n_batch, n_seq, n_head * d_head] -> [n_batch, n_head, n_seq, d_head], a view."""
    return x.reshape(*x.shape[:2], n_head, -1).swapaxes(1, 2)


def queries_keys_values(x: Array, p: Parameters, c: Config, name: str) -> tuple[Array, Array, Array]:
    """q [n_batch, n_head, n_seq, d_head], k and v [n_batch, n_kv_head, n_seq, d_head]."""
    if c.qkv == "separate":
        q, k, v = (linear(x, p, f"{name}.{part}") for part in "qkv")
    else:
        y = linear(x, p, f"{name}.qkv")  # [n_batch, n_seq, d_model] -> [n_batch, n_seq, 3 * d_model]
        if c.qkv == "by_head":
            y = y.reshape(*x.shape[:2], c.n_head, 3, c.d_head)
            q, k, v = (y[..., i, :].swapaxes(1, 2) for i in range(3))
            return q, k, v
        q, k, v = np.split(y, 3, axis=-1)
    q, k, v = split_heads(q, c.n_head), split_heads(k, c.n_kv_head), split_heads(v, c.n_kv_head)
    if c.head_norm:
        q, k = norm(q, p, c, f"{name}.q_norm"), norm(k, p, c, f"{name}.k_norm")
    return q, k, v


def attend(q: Array, k: Array, v: Array, c: Config, w: Where, window: int | None) -> Array:
    """softmax(q k.T) v, a tile of queries at a time; q is scaled already.

    q [n_batch, n_head, n_seq, d_head], k and v [n_batch, n_kv_head, n_keys, d_head]
    -> [n_batch, n_seq, n_head * d_head]
    """
    n_batch, _, n_seq, d_head = q.shape
    group = c.n_head // c.n_kv_head
    lowest = np.finfo(q.dtype).min  # not -inf: a query whose keys are all padding gets some number, no NaN
    mixed = np.empty((n_batch, n_seq, c.n_head, d_head), q.dtype)
    for begin in range(0, n_seq, TILE):
        end = min(begin + TILE, n_seq)
        last = w.n_past + end
        first = 0 if window is None else max(0, w.n_past + begin - window + 1)
        queries = q[:, :, begin:end].reshape(n_batch, c.n_kv_head, group * (end - begin), d_head)
        scores = queries @ k[:, :, first:last].swapaxes(-1, -2)  # -> [n_batch, n_kv_head, group * tile, n_keys]
        scores = scores.reshape(n_batch, c.n_head, end - begin, last - first)
        if w.slopes is not None and w.key_positions is not None:
            near = w.key_positions[..., first:last] - w.key_positions[..., last - 1 : last]
            scores += w.slopes * near  # from the last key of the tile: the same softmax, smaller numbers
        at, of = np.arange(w.n_past + begin, last)[:, None], np.arange(first, last)
        if end - begin > 1 or window is not None:
            hidden = (of > at) if window is None else (of > at) | (of <= at - window)
            np.copyto(scores, lowest, where=hidden)  # [tile, n_keys]
        if w.keys is not None:
            np.copyto(scores, lowest, where=~w.keys[:, None, None, first:last])
        softmax(scores)
        scores = scores.reshape(n_batch, c.n_kv_head, group * (end - begin), last - first)
        values = scores @ v[:, :, first:last]  # -> [n_batch, n_kv_head, group * tile, d_head]
        mixed[:, begin:end] = values.reshape(n_batch, c.n_head, end - begin, d_head).swapaxes(1, 2)
    return mixed.reshape(n_batch, n_seq, -1)


def attention(x: Array, p: Parameters, c: Config, i: int, w: Where, cache: Any = None) -> Array:
    """Every token looks at itself and those before it.  [n_batch, n_seq, d_model] -> the same."""
    name = f"blocks.{i}.attention"
    q, k, v = queries_keys_values(x, p, c, name)
    if w.turns is not None:
        q, k = rotate(q, *w.turns), rotate(k, *w.turns)
    if cache is not None:
        k, v = cache.extend(i, k, v)  # [n_batch, n_kv_head, n_past + n_seq, d_head]
    scale = c.d_head**-0.5 if c.scaled else 1.0
    q = q * q.dtype.type(scale / (i + 1) if c.scaled_by_layer else scale)
    window = c.windows[i] if c.windows else None
    return linear(attend(q, k, v, c, w, window), p, f"{name}.out")


def mlp(x: Array, p: Parameters, c: Config, i: int) -> Array:
    """Every token by itself: down(f(up(x))).  [n_batch, n_seq, d_model] -> the same."""
    name, f = f"blocks.{i}.mlp", ACTIVATIONS[c.activation]
    if c.gated:
        y = _by_rows(f, linear(x, p, f"{name}.gate"))  # -> [n_batch, n_seq, d_ff]
        y *= linear(x, p, f"{name}.up")
    else:
        y = _by_rows(f, linear(x, p, f"{name}.up"))
    return linear(y, p, f"{name}.down")


def _by_rows(f: Any, x: Array) -> Array:
    """An elementwise function, a few rows at a time, so that its intermediate results stay in the cache."""
    flat = x.reshape(-1, x.shape[-1])
    for begin in range(0, len(flat), ROWS):
        f(flat[begin : begin + ROWS])
    return x


def block(x: Array, p: Parameters, c: Config, i: int, w: Where, cache: Any = None) -> Array:
    """One layer.  [n_batch, n_seq, d_model] -> the same."""
    norm1, norm2 = f"blocks.{i}.norm1", f"blocks.{i}.norm2"
    if not c.norm_first:
        x = norm(x + attention(x, p, c, i, w, cache), p, c, norm1)
        return norm(x + mlp(x, p, c, i), p, c, norm2)
    y = norm(x, p, c, norm1)
    if c.parallel:
        return x + attention(y, p, c, i, w, cache) + mlp(norm(x, p, c, norm2), p, c, i)
    x = (y if c.residual_normed else x) + attention(y, p, c, i, w, cache)
    y = norm(x, p, c, norm2)
    return (y if c.residual_normed else x) + mlp(y, p, c, i)


def embed(tokens: NDArray[np.intp], p: Parameters, c: Config, positions: NDArray[np.intp]) -> Array:
    """[n_batch, n_seq] -> [n_batch, n_seq, d_model]."""
    x = rows_of(p["embed.weight"], tokens)
    if c.d_embed != c.d_model:
        x = linear(x, p, "project_in")
    if c.positions == "learned":
        x = x + rows_of(p["positions.weight"], positions + c.position_shift)
    return norm(x, p, c, "embed_norm") if c.embed_norm else x


def stand(c: Config, shape: tuple[int, int], mask: Any, n_past: int, dtype: Any) -> tuple[Where, NDArray[np.intp]]:
    """Where the tokens stand, and their positions [n_batch or 1, n_seq]."""
    n = n_past + shape[1]
    keys = None if mask is None or mask.all() else mask  # [n_batch, n]
    positions = np.arange(n)[None]
    if keys is not None and (c.positions_from_mask or c.positions == "alibi"):
        counted = (np.cumsum(keys, axis=1) * keys).astype(np.intp)
        positions = counted - 1 if c.positions_from_mask else np.maximum(counted - 1, 0)
    w = Where(n_past, keys)
    if c.positions == "rotary" and c.rotary is not None:
        cos, sin = rotary_tables(c.rotary, positions[:, n_past:], n)
        w.turns = cos[:, None].astype(dtype), sin[:, None].astype(dtype)
    if c.positions == "alibi":
        w.slopes = alibi_slopes(c.n_head)[:, None, None].astype(dtype)
        w.key_positions = positions[:, None, None, :].astype(dtype)
    return w, positions[:, n_past:]


def forward(
    p: Parameters,
    c: Config,
    tokens: NDArray[np.intp],
    mask: NDArray[np.bool_] | None = None,
    cache: Any = None,
    last: bool = False,
) -> Array:
    """tokens [n_batch, n_seq] -> logits [n_batch, n_seq, n_vocab], or [n_batch, 1, n_vocab] of the last token.

    Mask and cache cover the tokens before, too.
    """
    n_past = 0 if cache is None else cache.n_past
    w, positions = stand(c, tokens.shape, mask, n_past, p["embed.weight"].dtype)
    x = embed(tokens, p, c, positions)
    for i in range(c.n_layer):
        x = block(x, p, c, i, w, cache)
    if last:
        x = x[:, -1:]
    if c.final_norm:
        x = norm(x, p, c, "final_norm")
    if c.d_embed != c.d_model:
        x = linear(x, p, "project_out")
    return product(x, p["embed.weight" if c.tied else "head.weight"])
