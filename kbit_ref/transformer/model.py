"""`Model`: sizes, parameters, and what one does with them."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from kbit_ref.errors import BadInput, BadType, message
from kbit_ref.transformer.cache import Cache
from kbit_ref.transformer.config import Config
from kbit_ref.transformer.forward import forward
from kbit_ref.transformer.generate import stream

__all__ = ["Model"]


@dataclass(frozen=True, eq=False)
class Model:
    """A decoder-only transformer: tokens in, logits out.

    Parameters
    ----------
    config
        Sizes and choices.
    parameters
        By name (`config.shapes` lists them); matrices are [d_out, d_in].
    """

    config: Config
    parameters: dict[str, Any]

    def __repr__(self) -> str:
        c = self.config
        return f"<Model {c.family}: {c.n_layer} layers of {c.d_model}, {self.n_parameters:,} parameters>"

    @property
    def n_parameters(self) -> int:
        """How many numbers the parameters are."""
        return sum(int(np.prod(value.shape)) for value in self.parameters.values())

    def astype(self, dtype: str) -> Model:
        """The same model in another precision, float32 or float64."""
        return Model(self.config, {name: value.astype(dtype) for name, value in self.parameters.items()})

    def forward(self, tokens: Any, mask: Any = None, cache: Cache | None = None, *, last: bool = False) -> NDArray[Any]:
        """The logits of what comes next, after every token.

        Parameters
        ----------
        tokens : [n_batch, n_seq]
            Integers from 0 to n_vocab - 1.
        mask : [n_batch, n_seq], optional
            True (1) where a token is one, False (0) where it is padding; with a cache it covers the tokens in it too.
        cache
            Of an earlier call, which it continues (`Cache(n_layer)` begins one).
        last
            Only the logits after the last token, [n_batch, 1, n_vocab]: all that generating needs.

        Returns
        -------
        [n_batch, n_seq, n_vocab], float32 (float64 for a model in float64). What stands at padding means nothing.

        Raises
        ------
        BadInput
            `forward: tokens[0, 3] = 60000, n_vocab is 50257; use another tokenizer`
        """
        n_past = 0 if cache is None else cache.n_past
        ids = _tokens(tokens, self.config, n_past)
        return forward(self.parameters, self.config, ids, _mask(mask, ids.shape, n_past), cache, last)

    def generate(
        self,
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
    ) -> NDArray[np.intp]:
        """Go on with a text.

        Parameters
        ----------
        tokens : [n_batch, n_seq]
            The prompt.
        n_new
            How many tokens to add.
        mask : [n_batch, n_seq], optional
            0 where the prompt is padding, which stands to the left.
        temperature, top_k, top_p
            How a token is drawn (`generate.choose`); temperature 0, the default, takes the most probable one.
        seed
            The same seed draws the same tokens.
        cache
            A scheme in which keys and values are kept, such as int8-b64-absmax-f16; None keeps them as they are.
        stop
            The token that ends a sequence; what follows it is filled with it.

        Returns
        -------
        intp [n_batch, n], n <= n_new: the new tokens; fewer where every sequence has ended.

        Raises
        ------
        BadInput
            `generate: top_p = 0, it is above 0 and at most 1; use 1 for all tokens`
        """
        how: dict[str, Any] = {"temperature": temperature, "top_k": top_k, "top_p": top_p, "seed": seed}
        new = list(stream(self, tokens, n_new, mask=mask, cache=cache, stop=stop, **how))
        return np.stack(new, axis=1) if new else np.empty((len(np.asarray(tokens)), 0), np.intp)


def _tokens(tokens: Any, c: Config, n_past: int) -> NDArray[np.intp]:
    """[n_batch, n_seq], checked."""
    ids = np.asarray(tokens)
    if ids.ndim != 2 or ids.size == 0:
        rule = "it is [n_batch, n_seq], and not empty"
        raise BadInput(message("forward", f"tokens of shape {ids.shape}", rule, "use [[...]] for one sequence"))
    if ids.dtype.kind not in "iu":
        raise BadType(message("forward", f"tokens of dtype {ids.dtype}", "tokens are integers", "use .astype(int)"))
    if ((ids < 0) | (ids >= c.n_vocab)).any():
        at = tuple(int(i[0]) for i in np.nonzero((ids < 0) | (ids >= c.n_vocab)))
        got = f"tokens[{at[0]}, {at[1]}] = {ids[at]}"
        raise BadInput(message("forward", got, f"tokens are 0 to {c.n_vocab - 1}", "use the model's own tokenizer"))
    if c.positions == "learned" and n_past + ids.shape[1] > c.n_positions:  # angles and slopes have no end
        rule = f"the model has {c.n_positions} positions"
        raise BadInput(message("forward", f"{n_past + ids.shape[1]} tokens", rule, "shorten the text"))
    return ids.astype(np.intp)


def _mask(mask: Any, shape: tuple[int, int], n_past: int) -> NDArray[np.bool_] | None:
    """[n_batch, n_past + n_seq], checked."""
    if mask is None:
        return None
    keep = np.asarray(mask)
    wanted = (shape[0], n_past + shape[1])
    if keep.shape != wanted or not np.isin(keep, (0, 1)).all():
        got, rule = f"mask of shape {keep.shape}", f"it is 0 or 1 for each token, {wanted}"
        raise BadInput(message("forward", got, rule, "use 1 for tokens, 0 for padding"))
    return keep.astype(bool)
