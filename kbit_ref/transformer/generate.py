"""Text that goes on: one token after the other, each drawn from the logits of those before."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import numpy as np
from numpy.typing import NDArray

from kbit_ref.errors import BadInput, message
from kbit_ref.transformer.cache import Cache
from kbit_ref.transformer.functions import softmax

__all__ = ["choose", "stream"]


def choose(
    logits: NDArray[Any],
    temperature: float = 0.0,
    top_k: int | None = None,
    top_p: float | None = None,
    random: np.random.Generator | None = None,
) -> NDArray[np.intp]:
    """One token for each row of logits.

    Parameters
    ----------
    logits : [n_batch, n_vocab]
    temperature
        0: the most probable token (the first of several); otherwise drawn from softmax(logits / temperature).
    top_k
        Only the k most probable tokens, and those as probable as the last of them.
    top_p
        Only the most probable tokens that together have at least this probability; always at least one.
    random
        What draws.

    Returns
    -------
    intp [n_batch]

    Examples
    --------
    >>> choose(np.array([[0.0, 2.0, 1.0]]))
    array([1])
    >>> draws = np.random.default_rng(0)
    >>> {int(choose(np.array([[0.0, 2.0, 1.0]]), 1.0, top_k=2, random=draws)[0]) for _ in range(50)} == {1, 2}
    True
    """
    if not temperature >= 0 or np.isinf(temperature):
        got, rule = f"temperature = {temperature}", "it is a finite number from 0"
        raise BadInput(message("generate", got, rule, "use 0 for the most probable token"))
    if top_k is not None and top_k < 1:
        raise BadInput(message("generate", f"top_k = {top_k}", "it is at least 1", "leave it out for all tokens"))
    if top_p is not None and not 0 < top_p <= 1:
        raise BadInput(message("generate", f"top_p = {top_p}", "it is above 0 and at most 1", "use 1 for all tokens"))
    if temperature == 0:
        best: NDArray[np.intp] = np.argmax(logits, axis=-1)
        return best
    x = logits.astype(np.float64)
    x -= x.max(-1, keepdims=True)  # before the division, which may be by something tiny
    with np.errstate(over="ignore"):
        x /= temperature
    if top_k is not None and top_k < x.shape[-1]:
        last = np.partition(x, -top_k, axis=-1)[:, -top_k, None]  # [n_batch, 1]: the k-th largest
        x[x < last] = -np.inf
    p = softmax(x)
    if top_p is not None and top_p < 1:
        order = np.argsort(-p, axis=-1, kind="stable")
        sorted_p = np.take_along_axis(p, order, axis=-1)
        before = np.cumsum(sorted_p, axis=-1) - sorted_p  # of all more probable ones
        sorted_p[before >= top_p] = 0
        np.put_along_axis(p, order, sorted_p, axis=-1)
    upto = np.cumsum(p, axis=-1)
    draw = (random or np.random.default_rng()).random((len(p), 1)) * upto[:, -1:]
    token: NDArray[np.intp] = (upto <= draw).sum(-1)  # the first whose interval holds the draw
    return token


def stream(
    model: Any,
    tokens: Any,
    n_new: int,
    *,
    mask: Any = None,
    temperature: float = 0.0,
    top_k: int | None = None,
    top_p: float | None = None,
    seed: int = 0,
    cache: str | None = None,
    stop: int | None = None,
) -> Iterator[NDArray[np.intp]]:
    """Each new token [n_batch] as soon as it is known (`Model.generate` explains the parameters)."""
    ids, keep = np.asarray(tokens), None if mask is None else np.asarray(mask)
    if not isinstance(n_new, (int, np.integer)) or n_new < 0:
        raise BadInput(message("generate", f"n_new = {n_new!r}", "it is an integer from 0", "ask for some tokens"))
    if keep is not None and keep.ndim == 2 and keep.size and not keep[:, -1].all():
        rule = "a padded prompt cannot be continued at its right end"
        raise BadInput(message("generate", "mask", rule, "put the padding to the left"))
    draws = np.random.default_rng(seed)
    kept = Cache(model.config.n_layer, cache, capacity=ids.shape[-1] + int(n_new))
    ended = np.zeros(len(ids), bool) if ids.ndim == 2 else None
    for _ in range(n_new):
        logits = model.forward(ids, keep, kept, last=True)[:, -1]
        new = choose(logits, temperature, top_k, top_p, draws)
        if stop is not None and ended is not None:
            new = np.where(ended, stop, new)
            ended |= new == stop
        yield new
        if ended is not None and ended.all():
            return
        ids = new[:, None]
        keep = None if keep is None else np.concatenate([keep, np.ones_like(ids)], axis=1)
