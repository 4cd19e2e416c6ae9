"""The way back: every function of the forward pass once more, as a pair of its result and its gradient.

    y, back = f(x, ...)        dx = back(dy)

`back` takes the derivative of the loss with respect to y, and gives the one with respect to x; what
concerns parameters it adds to `g`, a dictionary of the same names. A chain of pairs is undone in
reverse order, and that is all there is to backpropagation. `forward.py` says what is computed; here
nothing is tiled and nothing is cached, because training sees short sequences.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any

import numpy as np
from numpy.typing import NDArray

from kbit_ref.transformer.config import Config
from kbit_ref.transformer.forward import Where, split_heads, stand
from kbit_ref.transformer.functions import gelu as gelu_forward
from kbit_ref.transformer.functions import rotate as rotate_forward
from kbit_ref.transformer.functions import softmax as softmax_forward

__all__ = ["PAIRS", "Gradients", "cross_entropy", "gradients", "logits"]

Array = NDArray[Any]
Back = Callable[[Array], Array]
Pair = tuple[Array, Back]
Gradients = dict[str, Array]
Parameters = dict[str, Array]


def add(g: Gradients, name: str, value: Array) -> None:
    """A parameter that is used twice gets the sum."""
    if name in g:
        g[name] += value
    else:
        g[name] = value


def linear(x: Array, p: Parameters, g: Gradients, name: str) -> Pair:
    """y = x W.T + b;  dx = dy W, dW = dy.T x, db = sum of dy."""
    weight, bias = p[f"{name}.weight"], p.get(f"{name}.bias")
    flat = x.reshape(-1, x.shape[-1])
    y = flat @ weight.T
    if bias is not None:
        y += bias

    def back(dy: Array) -> Array:
        d = dy.reshape(-1, dy.shape[-1])
        add(g, f"{name}.weight", d.T @ flat)
        if bias is not None:
            add(g, f"{name}.bias", d.sum(0))
        return (d @ weight).reshape(x.shape)

    return y.reshape(*x.shape[:-1], -1), back


def layer_norm(x: Array, p: Parameters, g: Gradients, name: str, eps: float) -> Pair:
    """n = (x - mean) / s;  dx = (dn - mean(dn) - n mean(dn n)) / s, where dn = dy weight."""
    weight, bias = p.get(f"{name}.weight"), p.get(f"{name}.bias")
    d = x.dtype.type(x.shape[-1])
    n = x - x.mean(-1, keepdims=True)
    s = np.sqrt(np.einsum("...i,...i->...", n, n)[..., None] / d + x.dtype.type(eps))
    n /= s
    y = n if weight is None else n * weight
    if bias is not None:
        y = y + bias

    def back(dy: Array) -> Array:
        if bias is not None:
            add(g, f"{name}.bias", dy.reshape(-1, x.shape[-1]).sum(0))
        dn = dy
        if weight is not None:
            add(g, f"{name}.weight", (dy * n).reshape(-1, x.shape[-1]).sum(0))
            dn = dy * weight
        dx: Array = dn - dn.mean(-1, keepdims=True)
        dx -= n * (np.einsum("...i,...i->...", dn, n)[..., None] / d)
        dx /= s
        return dx

    return y, back


def rms_norm(x: Array, p: Parameters, g: Gradients, name: str, eps: float) -> Pair:
    """n = x / s;  dx = (dn - n mean(dn n)) / s."""
    weight = p.get(f"{name}.weight")
    d = x.dtype.type(x.shape[-1])
    s = np.sqrt(np.einsum("...i,...i->...", x, x)[..., None] / d + x.dtype.type(eps))
    n = x / s
    y = n if weight is None else n * weight

    def back(dy: Array) -> Array:
        dn = dy
        if weight is not None:
            add(g, f"{name}.weight", (dy * n).reshape(-1, x.shape[-1]).sum(0))
            dn = dy * weight
        dx: Array = dn - n * (np.einsum("...i,...i->...", dn, n)[..., None] / d)
        dx /= s
        return dx

    return y, back


def norm(x: Array, p: Parameters, g: Gradients, c: Config, name: str) -> Pair:
    """The norm of the family."""
    return (rms_norm if c.norm == "rms" else layer_norm)(x, p, g, name, c.norm_eps)


def relu(x: Array) -> Pair:
    """dx = dy where x > 0."""
    y = np.maximum(x, 0)
    return y, lambda dy: dy * (y > 0)


def gelu(x: Array) -> Pair:
    """dx = dy (Phi(x) + x phi(x))."""
    from scipy.special import erf

    slope = np.exp(x * x * x.dtype.type(-0.5))
    slope *= x * x.dtype.type(1 / math.sqrt(2 * math.pi))
    slope += (1 + erf(x * x.dtype.type(math.sqrt(0.5)))) * x.dtype.type(0.5)
    return gelu_forward(x.copy()), lambda dy: dy * slope


def gelu_tanh(x: Array) -> Pair:
    """With t = tanh(u), u = a x + b x^3: dx = dy ((1 + t) + x (1 - t^2) (a + 3 b x^2)) / 2."""
    a, b = x.dtype.type(math.sqrt(2 / math.pi)), x.dtype.type(0.044715 * math.sqrt(2 / math.pi))
    square = x * x
    t = square * b
    t += a
    t *= x
    np.tanh(t, out=t)
    y = t + 1
    y *= x
    y *= 0.5

    def back(dy: Array) -> Array:
        inner = square  # a + 3 b x^2, in place
        inner *= 3 * b
        inner += a
        inner *= x
        inner *= 1 - t * t
        inner += 1
        inner += t
        inner *= 0.5
        inner *= dy
        return inner

    return y, back


def silu(x: Array) -> Pair:
    """With s = 1 / (1 + exp(-x)): y = x s, dx = dy (s + y (1 - s))."""
    with np.errstate(over="ignore"):
        s = 1 / (1 + np.exp(-x))
    y = x * s
    return y, lambda dy: dy * (s + y * (1 - s))


def softmax(x: Array) -> Pair:
    """dx = y (dy - sum(dy y)); x is overwritten."""
    y = softmax_forward(x)

    def back(dy: Array) -> Array:
        dx: Array = dy - np.einsum("...i,...i->...", dy, y)[..., None]
        dx *= y
        return dx

    return y, back


def rotate(x: Array, cos: Array, sin: Array) -> Pair:
    """A turn is undone by the opposite turn."""
    return rotate_forward(x, cos, sin), lambda dy: rotate_forward(dy, cos, -sin)


ACTIVATIONS: dict[str, Callable[[Array], Pair]] = {"relu": relu, "gelu": gelu, "gelu_tanh": gelu_tanh, "silu": silu}


def queries_keys_values(x: Array, p: Parameters, g: Gradients, c: Config, name: str) -> tuple[list[Array], Any]:
    """[q, k, v] and the way back from [dq, dk, dv]."""
    heads = (c.n_head, c.n_kv_head, c.n_kv_head)
    join = (*x.shape[:2], -1)
    norms: list[Back] = []
    if c.qkv == "separate":
        pairs = [linear(x, p, g, f"{name}.{part}") for part in "qkv"]
        parts = [split_heads(y, n) for (y, _), n in zip(pairs, heads, strict=True)]
    else:
        y, back_all = linear(x, p, g, f"{name}.qkv")
        shape = (c.n_head, 3, c.d_head) if c.qkv == "by_head" else (3, c.n_head, c.d_head)
        y = y.reshape(*x.shape[:2], *shape)
        parts = [(y[..., i, :] if c.qkv == "by_head" else y[..., i, :, :]).swapaxes(1, 2) for i in range(3)]
    if c.head_norm:
        for i, part in enumerate(("q", "k")):
            parts[i], back_norm = norm(parts[i], p, g, c, f"{name}.{part}_norm")
            norms.append(back_norm)

    def back(d: list[Array]) -> Array:
        d = [undo(one) for undo, one in zip(norms, d, strict=False)] + d[len(norms) :]
        d = [one.swapaxes(1, 2) for one in d]  # [n_batch, n_seq, n_head, d_head]
        if c.qkv == "separate":
            return sum(undo(one.reshape(join)) for (_, undo), one in zip(pairs, d, strict=True))  # type: ignore[return-value]
        together = np.stack(d, axis=3 if c.qkv == "by_head" else 2)
        return back_all(together.reshape(join))

    return parts, back


def attend(q: Array, k: Array, v: Array, c: Config, w: Where, window: int | None) -> tuple[Array, Any]:
    """softmax(q k.T) v [n_batch, n_seq, n_head * d_head], and the way back to [dq, dk, dv]; q is scaled already."""
    n_batch, _, n_seq, d_head = q.shape
    grouped = (n_batch, c.n_kv_head, c.n_head // c.n_kv_head * n_seq, d_head)
    square = (n_batch, c.n_head, n_seq, n_seq)
    q_grouped = q.reshape(grouped)
    scores = (q_grouped @ k.swapaxes(-1, -2)).reshape(square)
    if w.slopes is not None and w.key_positions is not None:
        scores += w.slopes * (w.key_positions - w.key_positions[..., -1:])
    at, of = np.arange(n_seq)[:, None], np.arange(n_seq)
    hidden = (of > at) if window is None else (of > at) | (of <= at - window)
    lowest = np.finfo(q.dtype).min
    np.copyto(scores, lowest, where=hidden)
    if w.keys is not None:
        np.copyto(scores, lowest, where=~w.keys[:, None, None, :])
    shares, back_softmax = softmax(scores)
    shares_grouped = shares.reshape(*grouped[:3], n_seq)
    mixed = (shares_grouped @ v).reshape(n_batch, c.n_head, n_seq, d_head)

    def back(dy: Array) -> list[Array]:
        d = split_heads(dy, c.n_head).reshape(grouped)
        dv = shares_grouped.swapaxes(-1, -2) @ d
        d_scores = back_softmax((d @ v.swapaxes(-1, -2)).reshape(square)).reshape(*grouped[:3], n_seq)
        dq = (d_scores @ k).reshape(q.shape)
        dk = d_scores.swapaxes(-1, -2) @ q_grouped
        return [dq, dk, dv]

    return mixed.swapaxes(1, 2).reshape(n_batch, n_seq, -1), back


def attention(x: Array, p: Parameters, g: Gradients, c: Config, i: int, w: Where) -> Pair:
    """Attention of layer i."""
    name = f"blocks.{i}.attention"
    (q, k, v), back_qkv = queries_keys_values(x, p, g, c, name)
    turns: list[Back] = []
    if w.turns is not None:
        (q, back_q), (k, back_k) = rotate(q, *w.turns), rotate(k, *w.turns)
        turns = [back_q, back_k]
    scale = q.dtype.type((c.d_head**-0.5 if c.scaled else 1.0) / (i + 1 if c.scaled_by_layer else 1))
    mixed, back_attend = attend(q * scale, k, v, c, w, c.windows[i] if c.windows else None)
    y, back_out = linear(mixed, p, g, f"{name}.out")

    def back(dy: Array) -> Array:
        d = back_attend(back_out(dy))
        d[0] *= scale
        d = [undo(one) for undo, one in zip(turns, d, strict=False)] + d[len(turns) :]
        return np.asarray(back_qkv(d))

    return y, back


def mlp(x: Array, p: Parameters, g: Gradients, c: Config, i: int) -> Pair:
    """The MLP of layer i."""
    name, f = f"blocks.{i}.mlp", ACTIVATIONS[c.activation]
    up, back_up = linear(x, p, g, f"{name}.up")
    if not c.gated:
        inner, back_f = f(up)
        y, back_down = linear(inner, p, g, f"{name}.down")
        return y, lambda dy: back_up(back_f(back_down(dy)))
    gate, back_gate = linear(x, p, g, f"{name}.gate")
    opened, back_f = f(gate)
    y, back_down = linear(opened * up, p, g, f"{name}.down")

    def back(dy: Array) -> Array:
        d = back_down(dy)
        return back_gate(back_f(d * up)) + back_up(d * opened)

    return y, back


def block(x: Array, p: Parameters, g: Gradients, c: Config, i: int, w: Where) -> Pair:
    """One layer, in each of its four orders (see `forward.block`)."""
    norm1, norm2 = f"blocks.{i}.norm1", f"blocks.{i}.norm2"
    if not c.norm_first:
        a, back_a = attention(x, p, g, c, i, w)
        x, back_1 = norm(x + a, p, g, c, norm1)
        m, back_m = mlp(x, p, g, c, i)
        y, back_2 = norm(x + m, p, g, c, norm2)

        def back_post(dy: Array) -> Array:
            d = back_2(dy)
            d = back_1(d + back_m(d))
            return d + back_a(d)

        return y, back_post
    n1, back_1 = norm(x, p, g, c, norm1)
    a, back_a = attention(n1, p, g, c, i, w)
    if c.parallel:
        n2, back_2 = norm(x, p, g, c, norm2)
        m, back_m = mlp(n2, p, g, c, i)
        return x + a + m, lambda dy: dy + back_1(back_a(dy)) + back_2(back_m(dy))
    x = (n1 if c.residual_normed else x) + a
    n2, back_2 = norm(x, p, g, c, norm2)
    m, back_m = mlp(n2, p, g, c, i)
    y = (n2 if c.residual_normed else x) + m

    def back(dy: Array) -> Array:
        d = back_2(dy + back_m(dy)) if c.residual_normed else dy + back_2(back_m(dy))
        return back_1(d + back_a(d)) if c.residual_normed else d + back_1(back_a(d))

    return y, back


def embed(tokens: NDArray[np.intp], p: Parameters, g: Gradients, c: Config, positions: NDArray[np.intp]) -> Pair:
    """The embedding; its way back ends here and gives the gradient of the sum of rows, which nobody needs."""
    x = p["embed.weight"][tokens]
    backs: list[Back] = []
    if c.d_embed != c.d_model:
        x, back_in = linear(x, p, g, "project_in")
        backs.append(back_in)
    rows = np.broadcast_to(positions + c.position_shift, tokens.shape)
    if c.positions == "learned":
        x = x + p["positions.weight"][rows]
    back_norm: Back | None = None
    if c.embed_norm:
        x, back_norm = norm(x, p, g, c, "embed_norm")

    def back(dy: Array) -> Array:
        d = dy if back_norm is None else back_norm(dy)
        if c.positions == "learned":
            add(g, "positions.weight", _summed(d, rows, p["positions.weight"]))
        for undo in backs:
            d = undo(d)
        add(g, "embed.weight", _summed(d, tokens, p["embed.weight"]))
        return d

    return x, back


def _summed(d: Array, rows: NDArray[np.intp], table: Array) -> Array:
    """[n_batch, n_seq, d] -> [n_rows, d]: for each row of the table the sum over where it was looked up."""
    flat, index = d.reshape(-1, d.shape[-1]), rows.reshape(-1)
    order = np.argsort(index, kind="stable")
    found, first = np.unique(index[order], return_index=True)
    summed = np.zeros_like(table)
    summed[found] = np.add.reduceat(flat[order], first, axis=0)
    return summed


def logits(
    p: Parameters, g: Gradients, c: Config, tokens: NDArray[np.intp], mask: NDArray[np.bool_] | None = None
) -> tuple[Array, Callable[[Array], None]]:
    """What `forward` gives, [n_batch, n_seq, n_vocab], and the way back, which fills `g`."""
    w, positions = stand(c, tokens.shape, mask, 0, p["embed.weight"].dtype)
    x, back_embed = embed(tokens, p, g, c, positions)
    backs = [back_embed]
    for i in range(c.n_layer):
        x, back_block = block(x, p, g, c, i, w)
        backs.append(back_block)
    if c.final_norm:
        x, back_norm = norm(x, p, g, c, "final_norm")
        backs.append(back_norm)
    if c.d_embed != c.d_model:
        x, back_out = linear(x, p, g, "project_out")
        backs.append(back_out)
    y, back_head = linear(x, p, g, "embed" if c.tied else "head")
    backs.append(back_head)

    def back(dy: Array) -> None:
        for undo in reversed(backs):
            dy = undo(dy)

    return y, back


def cross_entropy(
    y: Array, targets: NDArray[np.intp], weights: Array | None = None
) -> tuple[float, Callable[[], Array]]:
    """The weighted mean of -log softmax(y)[target], in nats, and its gradient dy = weight (softmax(y) - one-hot).

    Parameters
    ----------
    y : [..., n_vocab]
        Logits; they are overwritten.
    targets : [...]
    weights : [...], optional
        How much each target counts; all the same by default.
    """
    shape = y.shape
    y, flat = y.reshape(-1, shape[-1]), targets.reshape(-1)
    w = np.ones(len(flat), y.dtype) if weights is None else weights.reshape(-1).astype(y.dtype)
    w = w / w.sum()
    rows = np.arange(len(flat))
    y -= y.max(-1, keepdims=True)
    hit = y[rows, flat]
    np.exp(y, out=y)
    total = y.sum(-1)
    loss = float((w.astype(np.float64) * (np.log(total) - hit)).sum())

    def back() -> Array:
        dy = y
        dy *= (w / total)[:, None]
        dy[rows, flat] -= w
        return dy.reshape(shape)

    return loss, back


def gradients(
    p: Parameters,
    c: Config,
    tokens: NDArray[np.intp],
    targets: NDArray[np.intp],
    weights: Array | None = None,
    mask: NDArray[np.bool_] | None = None,
) -> tuple[float, Gradients]:
    """The loss of predicting targets [n_batch, n_seq] after tokens [n_batch, n_seq], and all its derivatives."""
    g: Gradients = {}
    y, back = logits(p, g, c, tokens, mask)
    loss, back_loss = cross_entropy(y, targets, weights)
    back(back_loss())
    return loss, g


PAIRS: dict[str, Callable[[Array], Pair]] = ACTIVATIONS | {"softmax": softmax}
