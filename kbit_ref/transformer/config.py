"""What a transformer of any family is built of: sizes and choices, and from them the shape of every parameter."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

__all__ = ["Config", "Rotary", "shapes"]


@dataclass(frozen=True)
class Rotary:
    """How angles grow with positions.

    Parameters
    ----------
    d
        Elements of a head that are turned, the first ones.
    theta
        The angle of pair i at position t is t * theta**(-2i/d), before scaling.
    kind, facts
        The scaling for long contexts (`positions.py` has them all) and its numbers.
    """

    d: int
    theta: float = 10000.0
    kind: str = "default"
    facts: Mapping[str, Any] = field(default_factory=dict)


@dataclass(frozen=True)
class Config:
    """A decoder-only transformer.

    Parameters
    ----------
    n_vocab, n_layer, n_head, n_kv_head, d_model, d_head, d_ff
        Sizes. `n_kv_head` heads of keys and values, each shared by n_head / n_kv_head heads of queries.
    n_positions
        The longest context.
    d_embed
        Size of the token embedding; another than d_model is projected (OPT-350m).
    activation, gated
        Of the MLP: down(f(up(x))), or gated down(f(gate(x)) * up(x)).
    norm, norm_eps, norm_affine
        `layer` or `rms`; has it weights?
    norm_first
        Normalise what goes into attention and MLP (all but OPT-350m), or what comes out.
    parallel
        Attention and MLP side by side: x + attention(norm1(x)) + mlp(norm2(x)).
    residual_normed
        The normalised input goes round the layer instead of the input (a choice of BLOOM).
    embed_norm, final_norm, head_norm
        A norm after the embedding; one after the last block; one on each head of q and k (Qwen3).
    positions
        `learned`, `rotary` or `alibi`.
    position_shift, positions_from_mask
        Row `position + shift` of the table (OPT: 2); padding does not count as a position.
    qkv
        How q, k, v are stored: `separate`, one after the other (`thirds`), or `by_head`.
    windows
        For each layer how many positions it looks back, or None for all.
    scaled, scaled_by_layer
        Divide scores by sqrt(d_head); by the number of the layer too (choices of GPT-2).
    bias_qkv, bias_out, bias_mlp
        Which products have a bias.
    tied
        The token embedding is the output matrix too.
    """

    family: str
    n_vocab: int
    n_layer: int
    n_head: int
    d_model: int
    d_ff: int
    n_positions: int
    n_kv_head: int = 0
    d_head: int = 0
    d_embed: int = 0
    activation: str = "gelu_tanh"
    gated: bool = False
    norm: str = "layer"
    norm_eps: float = 1e-5
    norm_affine: bool = True
    norm_first: bool = True
    parallel: bool = False
    residual_normed: bool = False
    embed_norm: bool = False
    final_norm: bool = True
    head_norm: bool = False
    positions: str = "learned"
    position_shift: int = 0
    positions_from_mask: bool = False
    rotary: Rotary | None = None
    qkv: str = "separate"
    windows: tuple[int | None, ...] = ()
    scaled: bool = True
    scaled_by_layer: bool = False
    bias_qkv: bool = True
    bias_out: bool = True
    bias_mlp: bool = True
    tied: bool = True

    def __post_init__(self) -> None:
        for name, value in (
            ("n_kv_head", self.n_head),
            ("d_head", self.d_model // max(self.n_head, 1)),
            ("d_embed", self.d_model),
        ):
            if not getattr(self, name):
                object.__setattr__(self, name, value)


def shapes(c: Config) -> dict[str, tuple[int, ...]]:
    """The name and shape of every parameter; a matrix is [d_out, d_in].

    Examples
    --------
    >>> small = Config("gpt2", n_vocab=10, n_layer=1, n_head=2, d_model=4, d_ff=16, n_positions=8, qkv="thirds")
    >>> shapes(small)["blocks.0.attention.qkv.weight"]
    (12, 4)
    """
    found: dict[str, tuple[int, ...]] = {}

    def matrix(name: str, d_out: int, d_in: int, bias: bool = False) -> None:
        found[f"{name}.weight"] = (d_out, d_in)
        if bias:
            found[f"{name}.bias"] = (d_out,)

    def norm(name: str, d: int, bias: bool = c.norm == "layer") -> None:
        if c.norm_affine:
            found[f"{name}.weight"] = (d,)
            if bias:
                found[f"{name}.bias"] = (d,)

    matrix("embed", c.n_vocab, c.d_embed)
    if c.positions == "learned":
        matrix("positions", c.n_positions + c.position_shift, c.d_model)
    if c.d_embed != c.d_model:
        matrix("project_in", c.d_model, c.d_embed)
        matrix("project_out", c.d_embed, c.d_model)
    if c.embed_norm:
        norm("embed_norm", c.d_model)
    d_q, d_kv = c.n_head * c.d_head, c.n_kv_head * c.d_head
    parts = {"q": d_q, "k": d_kv, "v": d_kv} if c.qkv == "separate" else {"qkv": d_q + 2 * d_kv}
    for i in range(c.n_layer):
        block = f"blocks.{i}"
        norm(f"{block}.norm1", c.d_model)
        for part, d_out in parts.items():
            matrix(f"{block}.attention.{part}", d_out, c.d_model, c.bias_qkv)
        if c.head_norm:
            norm(f"{block}.attention.q_norm", c.d_head)
            norm(f"{block}.attention.k_norm", c.d_head)
        matrix(f"{block}.attention.out", c.d_model, d_q, c.bias_out)
        norm(f"{block}.norm2", c.d_model)
        if c.gated:
            matrix(f"{block}.mlp.gate", c.d_ff, c.d_model, c.bias_mlp)
        matrix(f"{block}.mlp.up", c.d_ff, c.d_model, c.bias_mlp)
        matrix(f"{block}.mlp.down", c.d_model, c.d_ff, c.bias_mlp)
    if c.final_norm:
        norm("final_norm", c.d_model)
    if not c.tied:
        matrix("head", c.n_vocab, c.d_embed)
    return found
