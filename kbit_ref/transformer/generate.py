"""Text that goes on: one token after the other, each drawn from the logits of those before."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any

import numpy as np
from numpy.typing import NDArray

from kbit_ref.errors import BadInput, message
from kbit_ref.inputs import as_seed
from kbit_ref.transformer.cache import Cache
from kbit_ref.transformer.config import Config
from kbit_ref.transformer.functions import softmax

__all__ = ["check_choices", "choose", "room", "stream"]


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
    check_choices(temperature, top_k, top_p)
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


def check_choices(
    temperature: float = 0.0, top_k: int | None = None, top_p: float | None = None, seed: int = 0, n_new: int = 0
) -> None:
    """Refuse what no model can do, before there is one.

    Raises
    ------
    BadInput
        `generate: top_p = 0, it is above 0 and at most 1; use 1 for all tokens`
    """
    if not temperature >= 0 or np.isinf(temperature):
        got, rule = f"temperature = {temperature}", "it is a finite number from 0"
        raise BadInput(message("generate", got, rule, "use 0 for the most probable token"))
    if top_k is not None and top_k < 1:
        raise BadInput(message("generate", f"top_k = {top_k}", "it is at least 1", "leave it out for all tokens"))
    if top_p is not None and not 0 < top_p <= 1:
        raise BadInput(message("generate", f"top_p = {top_p}", "it is above 0 and at most 1", "use 1 for all tokens"))
    as_seed("generate", seed)
    if not isinstance(n_new, (int, np.integer)) or n_new < 0:
        raise BadInput(message("generate", f"n_new = {n_new!r}", "it is an integer from 0", "ask for some tokens"))


def room(c: Config, n_seq: int) -> int | None:
    """How many tokens a model can add to so many; None where its positions have no end.

    The last one is added and not read, so that it needs no position.

    Examples
    --------
    >>> sizes = {"n_vocab": 7, "n_layer": 1, "n_head": 1, "d_model": 8, "d_ff": 8, "n_positions": 32}
    >>> room(Config("gpt2", **sizes), 2), room(Config("llama", positions="rotary", **sizes), 2)
    (31, None)
    """
    return max(0, c.n_positions - n_seq + 1) if c.positions == "learned" else None


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
    """Each new token [n_batch] as soon as it is known (`Model.generate` explains the parameters).

    What is wrong with them is told here, and not with the first token.
    """
    check_choices(temperature, top_k, top_p, seed, n_new)
    ids, keep = np.asarray(tokens), None if mask is None else np.asarray(mask)
    left = room(model.config, ids.shape[1]) if ids.ndim == 2 else None
    if left and n_new > left:  # of a prompt that is too long itself the forward pass tells
        most = f"adds at most {left} to a prompt of {ids.shape[1]}"
        rule = f"the model has {model.config.n_positions} positions and {most}"
        raise BadInput(message("generate", f"n_new = {n_new}", rule, "ask for fewer"))
    if keep is not None and keep.ndim == 2 and keep.size and not keep[:, -1].all():
        rule = "a padded prompt cannot be continued at its right end"
        raise BadInput(message("generate", "mask", rule, "put the padding to the left"))
    draws = np.random.default_rng(seed)
    kept = Cache(model.config.n_layer, cache, capacity=(ids.shape[-1] if ids.ndim else 0) + int(n_new))

    def choice(logits: NDArray[Any]) -> NDArray[np.intp]:
        return choose(logits, temperature, top_k, top_p, draws)

    return _steps(model, ids, keep, kept, int(n_new), stop, choice)


def _steps(
    model: Any,
    ids: NDArray[Any],
    keep: NDArray[Any] | None,
    kept: Cache,
    n_new: int,
    stop: int | None,
    choice: Callable[[NDArray[Any]], NDArray[np.intp]],
) -> Iterator[NDArray[np.intp]]:
    """Token by token, until all are there or every sequence has ended."""
    ended = np.zeros(len(ids), bool) if ids.ndim == 2 else None
    for _ in range(n_new):
        logits = model.forward(ids, keep, kept, last=True)[:, -1]
        new = choice(logits)
        if stop is not None and ended is not None:
            new = np.where(ended, stop, new)
            ended |= new == stop
        yield new
        if ended is not None and ended.all():
            return
        ids = new[:, None]
        keep = None if keep is None else np.concatenate([keep, np.ones_like(ids)], axis=1)
