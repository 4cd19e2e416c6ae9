"""What matrices are multiplied with when a model reads a text, and which matrix wrote it.

A method may look at both (`Given`). To record inputs the model runs as it is, with each of its matrices
replaced by one that remembers some rows of what it is multiplied with (`transformer.products.Factor`).
"""

from __future__ import annotations

from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from kbit_ref.errors import BadInput, message

if TYPE_CHECKING:
    from kbit_ref.transformer.model import Model

__all__ = ["inputs_of", "previous_of"]

Array = NDArray[Any]
TOKENS = 1024  # of a batch, about: their logits are held at once


@dataclass(eq=False)
class _Listening:
    """A matrix that does its products as before, and remembers rows of what it is multiplied with."""

    weight: Any
    wanted: Array  # bool [n]: which rows of the products to come are remembered
    heard: list[Array] = field(default_factory=list)

    @property
    def shape(self) -> tuple[int, ...]:
        return tuple(self.weight.shape)

    @property
    def dtype(self) -> np.dtype[Any]:
        found: np.dtype[Any] = self.weight.dtype
        return found

    def times(self, x: Array) -> Array:
        self.heard.append(x[self.wanted].astype(np.float32))
        return np.asarray(x @ self.weight.T if isinstance(self.weight, np.ndarray) else self.weight.times(x))

    def rows(self, index: NDArray[np.intp]) -> Array:
        return np.asarray(self.weight[index] if isinstance(self.weight, np.ndarray) else self.weight.rows(index))


def inputs_of(model: Model, tokens: Any, limit: int = 2048, seed: int = 0) -> dict[str, Array]:
    """The inputs of every matrix in a forward pass.

    Parameters
    ----------
    model
        Quantized or not.
    tokens : [n_batch, n_seq]
        The calibration text, without padding.
    limit
        The most rows that are kept of each matrix; which tokens they belong to is drawn, and is the same for all.
    seed
        Of that draw.

    Returns
    -------
    dict
        float32 [n, d_in] by the name of the matrix, rows in the order of the tokens. A matrix that nothing is
        multiplied with is missing: positions, and an embedding that is no output matrix too.

    Raises
    ------
    BadInput
        `inputs_of: limit = 0, it is at least 1; give more`

    Examples
    --------
    >>> from kbit_ref.transformer.config import Config, shapes
    >>> from kbit_ref.transformer.model import Model
    >>> c = Config("gpt2", n_vocab=9, n_layer=1, n_head=2, d_model=4, d_ff=6, n_positions=8, positions="rotary")
    >>> model = Model(c, {name: np.ones(shape, np.float32) for name, shape in shapes(c).items()})
    >>> heard = inputs_of(model, [[1, 2, 3], [4, 5, 6]], limit=5)
    >>> heard["blocks.0.attention.q.weight"].shape, heard["blocks.0.mlp.down.weight"].shape
    ((5, 4), (5, 6))
    """
    ids: Array = np.asarray(tokens)
    if limit < 1:
        raise BadInput(message("inputs_of", f"limit = {limit}", "it is at least 1", "give more"))
    if ids.ndim != 2 or not ids.size:
        rule = "it is [n_batch, n_seq], and not empty"
        raise BadInput(message("inputs_of", f"tokens of shape {ids.shape}", rule, "use [[...]] for one sequence"))
    kept: Array = np.zeros(ids.shape, bool)
    kept.flat[np.random.default_rng(seed).choice(ids.size, min(limit, ids.size), replace=False)] = True
    step = max(1, TOKENS // ids.shape[1])
    ears = {name: _Listening(w, kept[:0]) for name, w in model.parameters.items() if len(w.shape) == 2}
    listening = replace(model, parameters=model.parameters | ears)
    for begin in range(0, len(ids), step):
        here = kept[begin : begin + step]
        if here.any():
            for ear in ears.values():
                ear.wanted = here.ravel()
            listening.forward(ids[begin : begin + step])
    return {name: np.concatenate(ear.heard) for name, ear in ears.items() if ear.heard}


def previous_of(model: Model) -> dict[str, Array]:
    """For every matrix the one whose outputs are its inputs: what the paper's proxy looks at.

    Between the two may stand whatever works unit by unit, or mixes tokens alone: a bias, a norm, an activation,
    attention (its values are mixed, and come from v). The residual stream is a sum of many outputs; the last
    matrix that wrote to it counts.

    Parameters
    ----------
    model
        Matrices that are no arrays (quantized ones) are nobody's previous one.

    Returns
    -------
    dict
        By name: [d_in, ...], a row for each input of the matrix in their order. Missing where there is none: for
        the embeddings, unless the token embedding is the output matrix too.

    Examples
    --------
    >>> from kbit_ref.transformer.config import Config, shapes
    >>> from kbit_ref.transformer.model import Model
    >>> c = Config("gpt2", n_vocab=9, n_layer=1, n_head=2, d_model=4, d_ff=6, n_positions=8)
    >>> model = Model(c, {name: np.ones(shape, np.float32) for name, shape in shapes(c).items()})
    >>> before = previous_of(model)
    >>> before["blocks.0.mlp.up.weight"] is model.parameters["blocks.0.attention.out.weight"]
    True
    """
    c, found = model.config, {}
    matrices = {name: value for name, value in model.parameters.items() if isinstance(value, np.ndarray)}

    def of(name: str) -> Array | None:
        return matrices.get(f"{name}.weight")

    def put(name: str, before: Array | None) -> None:
        if before is not None and f"{name}.weight" in model.parameters:
            found[f"{name}.weight"] = before

    embedding = of("embed")
    stream = None if embedding is None else embedding.T  # [d_embed, n_vocab]: what last wrote to it
    if c.d_embed != c.d_model:
        put("project_in", stream)
        stream = of("project_in")
    for i in range(c.n_layer):
        attention, mlp = f"blocks.{i}.attention", f"blocks.{i}.mlp"
        for part in ("q", "k", "v", "qkv"):
            put(f"{attention}.{part}", stream)
        put(f"{attention}.out", _values(model, of(f"{attention}.v"), of(f"{attention}.qkv")))
        if not c.parallel:  # else both read what the block before wrote
            stream = of(f"{attention}.out")
        put(f"{mlp}.up", stream)
        put(f"{mlp}.gate", stream)
        put(f"{mlp}.down", of(f"{mlp}.up"))  # gated: f(gate) times up
        stream = of(f"{mlp}.down")
    if c.d_embed != c.d_model:
        put("project_out", stream)
        stream = of("project_out")
    put("embed" if c.tied else "head", stream)
    return found


def _values(model: Model, v: Array | None, qkv: Array | None) -> Array | None:
    """[n_head * d_head, d_model]: the rows that make the values, in the order in which `out` reads them."""
    c = model.config
    if qkv is not None:
        if c.qkv == "by_head":  # of each head q, k, v
            return qkv.reshape(c.n_head, 3, c.d_head, -1)[:, 2].reshape(c.n_head * c.d_head, -1)
        v = np.split(qkv, 3)[2]
    if v is None:
        return None
    heads = v.reshape(c.n_kv_head, c.d_head, -1)  # each is read by a group of heads of queries
    return np.repeat(heads, c.n_head // c.n_kv_head, axis=0).reshape(c.n_head * c.d_head, -1)
