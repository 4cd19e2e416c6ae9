"""OPT: learned positions that begin at row 2 and leave padding out, ReLU. The 350m norms last and projects."""

from __future__ import annotations

from kbit_ref.transformer.config import Config
from kbit_ref.transformer.families import ACTIVATIONS, Facts, family


@family(
    "opt",
    prefixes=("model.decoder.", "decoder."),
    names={
        "embed": "embed_tokens",
        "positions": "embed_positions",
        "project_in": "project_in",
        "project_out": "project_out",
        "blocks.{i}.norm1": "layers.{i}.self_attn_layer_norm",
        "blocks.{i}.attention.q": "layers.{i}.self_attn.q_proj",
        "blocks.{i}.attention.k": "layers.{i}.self_attn.k_proj",
        "blocks.{i}.attention.v": "layers.{i}.self_attn.v_proj",
        "blocks.{i}.attention.out": "layers.{i}.self_attn.out_proj",
        "blocks.{i}.norm2": "layers.{i}.final_layer_norm",
        "blocks.{i}.mlp.up": "layers.{i}.fc1",
        "blocks.{i}.mlp.down": "layers.{i}.fc2",
        "final_norm": "final_layer_norm",
        "head": "lm_head",
    },
)
def opt(f: Facts) -> Config:
    """Zhang et al. 2022 (arXiv 2205.01068)."""
    first = f("do_layer_norm_before", True)
    bias = f("enable_bias", True)
    return Config(
        family="opt",
        n_vocab=f.size("vocab_size"),
        n_layer=f.size("num_hidden_layers"),
        n_head=f.size("num_attention_heads"),
        d_model=f.size("hidden_size"),
        d_ff=f.size("ffn_dim"),
        n_positions=f.size("max_position_embeddings", 2048),
        d_embed=f.size("word_embed_proj_dim", f("hidden_size")),
        activation=f.one_of("activation_function", ACTIVATIONS, "relu"),
        norm_affine=f("layer_norm_elementwise_affine", True),
        norm_first=first,
        final_norm=first and not f("_remove_final_layer_norm", False),
        position_shift=2,
        positions_from_mask=True,
        bias_qkv=bias,
        bias_out=bias,
        bias_mlp=bias,
        tied=f("tie_word_embeddings", True),
    )
