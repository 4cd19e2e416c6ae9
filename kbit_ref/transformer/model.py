"""`Model`: sizes, parameters, and what one does with them."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from fnmatch import fnmatchcase
from typing import Any

import numpy as np
from numpy.typing import NDArray

from kbit_ref.errors import BadInput, BadType, UnknownName, message
from kbit_ref.methods.coded import Coded
from kbit_ref.methods.inputs import inputs_of, previous_of
from kbit_ref.methods.registry import Given
from kbit_ref.methods.registry import method as named
from kbit_ref.tensors.qtensor import QTensor
from kbit_ref.tensors.scheme import Scheme, scheme
from kbit_ref.transformer.cache import Cache
from kbit_ref.transformer.config import Config
from kbit_ref.transformer.forward import forward
from kbit_ref.transformer.generate import stream
from kbit_ref.transformer.products import Matrix

__all__ = ["EMBEDDINGS", "Model"]

EMBEDDINGS = ("embed.weight", "positions.weight", "head.weight")


@dataclass(frozen=True, eq=False)
class Model:
    """A decoder-only transformer: tokens in, logits out.

    Parameters
    ----------
    config
        Sizes and choices.
    parameters
        By name (`config.shapes` lists them): arrays; a matrix is [d_out, d_in] and may be a `Matrix`, a QTensor.
    """

    config: Config
    parameters: dict[str, Any]

    def __repr__(self) -> str:
        c = self.config
        return f"<Model {c.family}: {c.n_layer} layers of {c.d_model}, {self.n_parameters:,} parameters>"

    @property
    def n_parameters(self) -> int:
        """Return the number of parameters."""
        return sum(int(np.prod(value.shape)) for value in self.parameters.values())

    @property
    def bits(self) -> int:
        """Return the bits of all parameters, everything counted: 32 a float32 number, and what QTensors store."""
        return sum(v.bits if isinstance(v, Matrix) else 8 * v.nbytes for v in self.parameters.values())

    @property
    def bits_per_parameter(self) -> float:
        """Return `bits` over `n_parameters`."""
        return self.bits / self.n_parameters

    def astype(self, dtype: str) -> Model:
        """Return the model in another precision, float32 or float64; quantized matrices stay as they are."""

        def converted(value: Any) -> Any:
            return value if isinstance(value, Matrix) else value.astype(dtype)

        return Model(self.config, {name: converted(value) for name, value in self.parameters.items()})

    def quantize(
        self,
        scheme_: Scheme | str,
        *,
        skip: Sequence[str] = EMBEDDINGS,
        activations: Scheme | str | None = None,
        method: str | Callable[[NDArray[Any], Scheme], QTensor | Coded] = "nearest",
        calibration: Any = None,
    ) -> Model:
        """Return the model with quantized matrices.

        They are decoded tile by tile in every product; one whose method has steps after decoding (a rotation,
        columns reordered) is decoded as a whole in every product.

        Parameters
        ----------
        scheme_
            Of every matrix [d_out, d_in].
        skip
            Names, with * for anything, of matrices that stay as they are; by default the embeddings and the
            output matrix. `()` quantizes all of them.
        activations
            A scheme in which the other factor of each product is rounded as well, [n, d_in] at a time:
            `int8-channel-absmax-f32` has a scale for each token (W8A8), `e2m1fn-b32@1-pow2floor-e8m0fnu` is MX.
            None, the default: weights only, as in the paper.
        method
            How codes are found: a spelling of `kbit_ref.methods`, `gptq+order=act`, or a function of a matrix and
            a scheme. A matrix that lacks what the method looks at goes to the nearest levels: positions are
            multiplied with nothing, and before the embedding there is no matrix.
        calibration : [n_batch, n_seq]
            Tokens of a text, for methods that look at what matrices are multiplied with.

        Returns
        -------
        Model

        Raises
        ------
        BadInput
            `quantize: skip = 'hed.weight', it is no matrix of the model; did you mean head.weight? ...`
            `quantize: method = gptq, it looks at what matrices are multiplied with; give it a text (calibration)`

        Choices
        -------
        The embedding of tokens is looked up and, where it is tied, multiplied with too: `activations` rounds the
        second only.
        """
        s = scheme(scheme_)
        rounded = None if activations is None else scheme(activations)
        matrices = [name for name, value in self.parameters.items() if len(value.shape) == 2]
        for pattern in skip:
            if pattern not in EMBEDDINGS and not any(fnmatchcase(name, pattern) for name in matrices):
                remedy = "names are those of `model.parameters`"
                raise UnknownName.among("quantize", "skip", pattern, matrices, remedy)
        wanted = [name for name in matrices if not any(fnmatchcase(name, pattern) for pattern in skip)]
        for name in wanted:
            if isinstance(self.parameters[name], Matrix):
                rule = "it is quantized already"
                raise BadInput(message("quantize", name, rule, "quantize the model as it was before"))
        coded_of = _coder(self, method, calibration)
        quantized: dict[str, Any] = {}
        for name in wanted:
            coded = coded_of(name, s)
            quantized[name] = Matrix(coded.q, rounded, steps=coded.steps)
        return Model(self.config, self.parameters | quantized)

    def forward(self, tokens: Any, mask: Any = None, cache: Cache | None = None, *, last: bool = False) -> NDArray[Any]:
        """Compute the logits of the next token, after every token.

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
        """Continue a text.

        Parameters
        ----------
        tokens : [n_batch, n_seq]
            The prompt.
        n_new
            How many tokens to add; with those of the prompt at most one more than the model has positions, if they
            are learned.
        mask : [n_batch, n_seq], optional
            0 where the prompt is padding, which stands to the left.
        temperature, top_k, top_p
            How a token is drawn (`generate.choose`); temperature 0, the default, takes the most probable one.
        seed
            From 0; the same seed draws the same tokens.
        cache
            A scheme that quantizes keys and values, such as int8-b64-absmax-f16; None leaves them as they are.
        stop
            The token that ends a sequence; what follows it is filled with it.

        Returns
        -------
        intp [n_batch, n], n <= n_new: the new tokens; fewer where every sequence has ended.

        Raises
        ------
        BadInput
            `generate: top_p = 0, it is above 0 and at most 1; use 1 for all tokens`
            `generate: n_new = 40, the model has 32 positions and adds at most 31 to a prompt of 2; ...`
        """
        how: dict[str, Any] = {"temperature": temperature, "top_k": top_k, "top_p": top_p, "seed": seed}
        new = list(stream(self, tokens, n_new, mask=mask, cache=cache, stop=stop, **how))
        return np.stack(new, axis=1) if new else np.empty((len(np.asarray(tokens)), 0), np.intp)


def _coder(
    model: Model, method: str | Callable[[NDArray[Any], Scheme], QTensor | Coded], calibration: Any
) -> Callable[[str, Scheme], Coded]:
    """What turns the matrix of a name to few bits."""
    if not isinstance(method, str):

        def by_function(name: str, s: Scheme) -> Coded:
            made = method(model.parameters[name], s)
            return made if isinstance(made, Coded) else Coded(made)

        return by_function

    how, nearest = named(method), named("nearest")
    known: dict[str, dict[str, Any]] = {}
    if "inputs" in how.needs:
        if calibration is None:
            rule = "it looks at what matrices are multiplied with"
            raise BadInput(message("quantize", f"method = {how}", rule, "give it a text (calibration)"))
        known["inputs"] = inputs_of(model, calibration)
    if "previous" in how.needs:
        known["previous"] = previous_of(model)

    def by_name(name: str, s: Scheme) -> Coded:
        given = Given(**{part: of.get(name) for part, of in known.items()})
        return (nearest if how.lacks(given) else how)(model.parameters[name], s, given)

    return by_name


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
