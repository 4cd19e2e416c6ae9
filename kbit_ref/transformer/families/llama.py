"""Llama, Mistral, Qwen2 and Qwen3: RMS norm, rotary, shared heads of keys and values, a gated MLP."""

from __future__ import annotations

from typing import Any

from kbit_ref.errors import BadInput, message
from kbit_ref.transformer.config import Config, Rotary
from kbit_ref.transformer.families import ACTIVATIONS, Facts, family


def rotary(
    f: Facts,
    d_head: int,
    part: float = 1.0,
    theta_name: str = "rope_theta",
    part_name: str = "partial_rotary_factor",
) -> Rotary:
    """From `rope_parameters`, or from the entries of older files: rope_theta and rope_scaling."""
    scaling: dict[str, Any] = f("rope_parameters", None) or f("rope_scaling", None) or {}
    if not isinstance(scaling, dict):
        got = f"{f.place}: rope_parameters = {scaling!r}"
        raise BadInput(message("load_model", got, "it is one object with rope_type", "mend it"))
    facts = {"max_position_embeddings": f("max_position_embeddings", 2048)} | scaling
    for name in ("original_max_position_embeddings",):
        facts.setdefault(name, f(name, None) or facts["max_position_embeddings"])
    theta = scaling.get("rope_theta") or f(theta_name, None) or f("rope_theta", 10000.0)
    share = scaling.get("partial_rotary_factor") or f(part_name, part)
    kind = scaling.get("rope_type") or scaling.get("type") or "default"
    return Rotary(int(d_head * share), float(theta), kind, facts)


def windows(f: Facts, n_layer: int, default: Any = None) -> tuple[int | None, ...]:
    """How far back each layer looks."""
    size = f("sliding_window", default)
    if size is None or not f("use_sliding_window", f("model_type") == "mistral"):
        return ()
    first = f("max_window_layers", 28) if f("model_type") != "mistral" else 0
    kinds = f("layer_types", None) or ["sliding_attention" if i >= first else "full_attention" for i in range(n_layer)]
    return tuple(size if kind == "sliding_attention" else None for kind in kinds)


@family(
    *("llama", "mistral", "qwen2", "qwen3"),
    prefixes=("model.",),
    names={
        "embed": "embed_tokens",
        "blocks.{i}.norm1": "layers.{i}.input_layernorm",
        "blocks.{i}.attention.q": "layers.{i}.self_attn.q_proj",
        "blocks.{i}.attention.k": "layers.{i}.self_attn.k_proj",
        "blocks.{i}.attention.v": "layers.{i}.self_attn.v_proj",
        "blocks.{i}.attention.q_norm": "layers.{i}.self_attn.q_norm",
        "blocks.{i}.attention.k_norm": "layers.{i}.self_attn.k_norm",
        "blocks.{i}.attention.out": "layers.{i}.self_attn.o_proj",
        "blocks.{i}.norm2": "layers.{i}.post_attention_layernorm",
        "blocks.{i}.mlp.gate": "layers.{i}.mlp.gate_proj",
        "blocks.{i}.mlp.up": "layers.{i}.mlp.up_proj",
        "blocks.{i}.mlp.down": "layers.{i}.mlp.down_proj",
        "final_norm": "norm",
        "head": "lm_head",
    },
)
def llama(f: Facts) -> Config:
    """Touvron et al. 2023 (arXiv 2302.13971) and those that load through it."""
    kind = f("model_type")
    d_model, n_head, n_layer = f.size("hidden_size"), f.size("num_attention_heads"), f.size("num_hidden_layers")
    d_head = f.size("head_dim", 128 if kind == "qwen3" else d_model // n_head)
    bias = f("attention_bias", False)
    return Config(
        family="llama",
        n_vocab=f.size("vocab_size"),
        n_layer=n_layer,
        n_head=n_head,
        n_kv_head=f.size("num_key_value_heads", n_head),
        d_model=d_model,
        d_head=d_head,
        d_ff=f.size("intermediate_size"),
        n_positions=f.size("max_position_embeddings", 2048),
        activation=f.one_of("hidden_act", ACTIVATIONS, "silu"),
        gated=True,
        norm="rms",
        norm_eps=f("rms_norm_eps", 1e-6),
        head_norm=kind == "qwen3",
        positions="rotary",
        rotary=rotary(f, d_head),
        windows=windows(f, n_layer, 4096 if kind == "mistral" else None),
        bias_qkv=kind == "qwen2" or bias,
        bias_out=kind != "qwen2" and bias,
        bias_mlp=f("mlp_bias", False),
        tied=f("tie_word_embeddings", False),
    )
