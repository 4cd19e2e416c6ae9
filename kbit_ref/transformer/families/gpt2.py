"""GPT-2: learned positions, GELU, one matrix for q, k and v. Matrices are stored [d_in, d_out]."""

from __future__ import annotations

from typing import Any

from kbit_ref.transformer.config import Config
from kbit_ref.transformer.families import ACTIVATIONS, Facts, family


@family(
    "gpt2",
    prefixes=("transformer.",),
    transposed=True,
    names={
        "embed": "wte",
        "positions": "wpe",
        "blocks.{i}.norm1": "h.{i}.ln_1",
        "blocks.{i}.attention.qkv": "h.{i}.attn.c_attn",
        "blocks.{i}.attention.out": "h.{i}.attn.c_proj",
        "blocks.{i}.norm2": "h.{i}.ln_2",
        "blocks.{i}.mlp.up": "h.{i}.mlp.c_fc",
        "blocks.{i}.mlp.down": "h.{i}.mlp.c_proj",
        "final_norm": "ln_f",
        "head": "lm_head",
    },
)
def gpt2(f: Facts) -> Config:
    """Radford et al. 2019."""
    d_model = f.size("n_embd")
    return Config(
        family="gpt2",
        n_vocab=f.size("vocab_size"),
        n_layer=f.size("n_layer"),
        n_head=f.size("n_head"),
        d_model=d_model,
        d_ff=f.size("n_inner", 4 * d_model),
        n_positions=f.size("n_positions", 1024),
        activation=f.one_of("activation_function", ACTIVATIONS, "gelu_new"),
        norm_eps=f("layer_norm_epsilon", 1e-5),
        qkv="thirds",
        scaled=f("scale_attn_weights", True),
        scaled_by_layer=f("scale_attn_by_inverse_layer_idx", False),
        tied=f("tie_word_embeddings", True),
    )


def entries(c: Config, dtype: str) -> dict[str, Any]:
    """What `config.json` says of a model of this layout."""
    return {
        "architectures": ["GPT2LMHeadModel"],
        "model_type": "gpt2",
        "vocab_size": c.n_vocab,
        "n_positions": c.n_positions,
        "n_embd": c.d_model,
        "n_layer": c.n_layer,
        "n_head": c.n_head,
        "n_inner": c.d_ff,
        "activation_function": {ours: theirs for theirs, ours in reversed(ACTIVATIONS.items())}[c.activation],
        "layer_norm_epsilon": c.norm_eps,
        "scale_attn_weights": c.scaled,
        "scale_attn_by_inverse_layer_idx": c.scaled_by_layer,
        "tie_word_embeddings": c.tied,
        "bos_token_id": None,
        "eos_token_id": None,
        "dtype": {"F16": "float16", "F32": "float32"}[dtype],
    }
