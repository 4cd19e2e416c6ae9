"""GPT-NeoX and Pythia: rotary on a part of each head, attention and MLP side by side."""

from __future__ import annotations

from kbit_ref.transformer.config import Config
from kbit_ref.transformer.families import ACTIVATIONS, Facts, family
from kbit_ref.transformer.families.llama import rotary


@family(
    "gpt_neox",
    prefixes=("gpt_neox.",),
    names={
        "embed": "embed_in",
        "blocks.{i}.norm1": "layers.{i}.input_layernorm",
        "blocks.{i}.attention.qkv": "layers.{i}.attention.query_key_value",
        "blocks.{i}.attention.out": "layers.{i}.attention.dense",
        "blocks.{i}.norm2": "layers.{i}.post_attention_layernorm",
        "blocks.{i}.mlp.up": "layers.{i}.mlp.dense_h_to_4h",
        "blocks.{i}.mlp.down": "layers.{i}.mlp.dense_4h_to_h",
        "final_norm": "final_layer_norm",
        "head": "embed_out",
    },
)
def gpt_neox(f: Facts) -> Config:
    """Black et al. 2022 (arXiv 2204.06745), Biderman et al. 2023 (arXiv 2304.01373)."""
    d_model, n_head = f.size("hidden_size"), f.size("num_attention_heads")
    bias = f("attention_bias", True)
    return Config(
        family="gpt_neox",
        n_vocab=f.size("vocab_size"),
        n_layer=f.size("num_hidden_layers"),
        n_head=n_head,
        d_model=d_model,
        d_ff=f.size("intermediate_size"),
        n_positions=f.size("max_position_embeddings", 2048),
        activation=f.one_of("hidden_act", ACTIVATIONS, "gelu"),
        norm_eps=f("layer_norm_eps", 1e-5),
        parallel=f("use_parallel_residual", True),
        positions="rotary",
        rotary=rotary(f, d_model // n_head, part=0.25, theta_name="rotary_emb_base", part_name="rotary_pct"),
        qkv="by_head",
        bias_qkv=bias,
        bias_out=bias,
        tied=f("tie_word_embeddings", False),
    )
