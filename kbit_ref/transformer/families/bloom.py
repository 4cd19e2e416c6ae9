"""BLOOM: ALiBi instead of positions, a norm after the embedding, q, k and v side by side for each head."""

from __future__ import annotations

from kbit_ref.transformer.config import Config
from kbit_ref.transformer.families import Facts, family


@family(
    "bloom",
    prefixes=("transformer.",),
    names={
        "embed": "word_embeddings",
        "embed_norm": "word_embeddings_layernorm",
        "blocks.{i}.norm1": "h.{i}.input_layernorm",
        "blocks.{i}.attention.qkv": "h.{i}.self_attention.query_key_value",
        "blocks.{i}.attention.out": "h.{i}.self_attention.dense",
        "blocks.{i}.norm2": "h.{i}.post_attention_layernorm",
        "blocks.{i}.mlp.up": "h.{i}.mlp.dense_h_to_4h",
        "blocks.{i}.mlp.down": "h.{i}.mlp.dense_4h_to_h",
        "final_norm": "ln_f",
        "head": "lm_head",
    },
)
def bloom(f: Facts) -> Config:
    """Le Scao et al. 2022 (arXiv 2211.05100). ALiBi has no longest context; `seq_length` is that of training."""
    d_model = f.size("hidden_size", f("n_embed", ...) if f("hidden_size", None) is None else None)
    return Config(
        family="bloom",
        n_vocab=f.size("vocab_size"),
        n_layer=f.size("n_layer", f("num_hidden_layers", None)),
        n_head=f.size("n_head", f("num_attention_heads", None)),
        d_model=d_model,
        d_ff=4 * d_model,
        n_positions=2**31 - 1,
        norm_eps=f("layer_norm_epsilon", 1e-5),
        residual_normed=f("apply_residual_connection_post_layernorm", False),
        embed_norm=True,
        positions="alibi",
        qkv="by_head",
        tied=f("tie_word_embeddings", True),
    )
