"""The forward pass: against the real implementations, against hand-worked cases, and against itself with a cache."""

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from helpers.libraries import heavy

import kbit_ref as kb
from kbit_ref.checkpoints.container import Writer
from kbit_ref.checkpoints.header import Spec
from kbit_ref.transformer import Model, load_model
from kbit_ref.transformer.cache import GROUP, Cache
from kbit_ref.transformer.config import Config, Rotary, shapes
from kbit_ref.transformer.families import FAMILIES, Facts
from kbit_ref.transformer.functions import ACTIVATIONS, gelu, gelu_tanh, layer_norm, rms_norm, rotate, silu, softmax
from kbit_ref.transformer.generate import choose, stream
from kbit_ref.transformer.positions import SCALINGS, alibi_slopes, rotary_tables
from kbit_ref.transformer.products import product, tiles_of

N_VOCAB = 97
SIZES = {
    "vocab_size": N_VOCAB,
    "hidden_size": 64,
    "num_hidden_layers": 3,
    "num_attention_heads": 4,
    "max_position_embeddings": 64,
}
GPT2 = {"vocab_size": N_VOCAB, "n_embd": 64, "n_layer": 3, "n_head": 4, "n_positions": 64}
OPT = SIZES | {"ffn_dim": 128, "word_embed_proj_dim": 64}
BLOOM = {"vocab_size": N_VOCAB, "hidden_size": 64, "n_layer": 3, "n_head": 4}
NEOX = SIZES | {"intermediate_size": 128}
LLAMA = SIZES | {"intermediate_size": 112, "num_key_value_heads": 2}


def scaled(kind: str, **facts: Any) -> dict[str, Any]:
    """Entries of a config for a scaling of rotary."""
    return {"rope_parameters": {"rope_type": kind, "rope_theta": 10000.0} | facts}


VARIANTS: dict[str, tuple[str, dict[str, Any]]] = {
    "gpt2": ("GPT2", GPT2),
    "gpt2-scaled-by-layer": ("GPT2", GPT2 | {"scale_attn_by_inverse_layer_idx": True, "activation_function": "gelu"}),
    "gpt2-unscaled-untied": (
        "GPT2",
        GPT2 | {"scale_attn_weights": False, "tie_word_embeddings": False, "n_inner": 100},
    ),
    "opt": ("OPT", OPT),
    "opt-350m": ("OPT", OPT | {"word_embed_proj_dim": 32, "do_layer_norm_before": False}),
    "opt-post-norm": ("OPT", OPT | {"do_layer_norm_before": False}),
    "opt-projected": ("OPT", OPT | {"word_embed_proj_dim": 32}),
    "opt-plain": ("OPT", OPT | {"enable_bias": False, "layer_norm_elementwise_affine": False}),
    "bloom": ("Bloom", BLOOM),
    "bloom-6-heads": (
        "Bloom",
        BLOOM | {"hidden_size": 96, "n_head": 6, "apply_residual_connection_post_layernorm": True},
    ),
    "gpt_neox": ("GPTNeoX", NEOX),
    "gpt_neox-sequential": ("GPTNeoX", NEOX | {"use_parallel_residual": False, "attention_bias": False}),
    "llama": ("Llama", LLAMA),
    "llama-128": ("Llama", LLAMA | {"intermediate_size": 128, "num_key_value_heads": 4}),
    "llama-biases-tied": ("Llama", LLAMA | {"attention_bias": True, "mlp_bias": True, "tie_word_embeddings": True}),
    "llama-linear": ("Llama", LLAMA | scaled("linear", factor=4.0)),
    "llama-dynamic": ("Llama", LLAMA | {"max_position_embeddings": 16} | scaled("dynamic", factor=4.0)),
    "llama-llama3": (
        "Llama",
        LLAMA
        | scaled("llama3", factor=8.0, low_freq_factor=1.0, high_freq_factor=4.0, original_max_position_embeddings=32),
    ),
    "llama-yarn": ("Llama", LLAMA | scaled("yarn", factor=4.0, original_max_position_embeddings=16)),
    "llama-longrope": (
        "Llama",
        LLAMA
        | scaled(
            "longrope",
            factor=4.0,
            original_max_position_embeddings=16,
            short_factor=[1 + i / 10 for i in range(8)],
            long_factor=[2.0 + i for i in range(8)],
        ),
    ),
    "mistral": ("Mistral", LLAMA | {"head_dim": 16, "sliding_window": 8}),
    "qwen2": ("Qwen2", LLAMA),
    "qwen2-windows": ("Qwen2", LLAMA | {"use_sliding_window": True, "sliding_window": 8, "max_window_layers": 1}),
    "qwen3": ("Qwen3", LLAMA | {"head_dim": 32}),
}
SEEDS = 20


def theirs(name: str, seed: int) -> Any:
    """A model of transformers with random weights of a realistic scale."""
    transformers, torch = heavy("transformers"), heavy("torch")
    transformers.logging.set_verbosity_error()
    transformers.utils.logging.disable_progress_bar()
    architecture, entries = VARIANTS[name]
    config = getattr(transformers, f"{architecture}Config")(**entries)
    torch.manual_seed(seed)
    model = transformers.AutoModelForCausalLM.from_config(config).eval()
    with torch.no_grad():
        for parameter_name, parameter in model.named_parameters():
            if parameter.ndim == 1:
                parameter.normal_(1.0 if "norm" in parameter_name or "ln_" in parameter_name else 0.0, 0.1)
            else:
                parameter.normal_(0.0, 0.08)
    return model


def batch(seed: int) -> tuple[Any, Any]:
    """Three sequences: whole, padded on the left, padded on the right."""
    tokens = np.random.default_rng(seed).integers(0, N_VOCAB, (3, 40))
    mask = np.ones((3, 40), int)
    mask[1, :7] = 0
    mask[2, 33:] = 0
    return tokens, mask


@pytest.mark.heavy
@pytest.mark.filterwarnings("ignore")  # of the other library
@pytest.mark.parametrize("name", VARIANTS)
def test_every_family_agrees_with_transformers(name: str, tmp_path: Path) -> None:
    torch = heavy("torch")
    torch.set_num_threads(1)
    ratios = []
    for seed in range(SEEDS):
        model = theirs(name, seed)
        model.save_pretrained(tmp_path, max_shard_size="100KB" if seed % 2 else "1GB")
        tokens, mask = batch(seed)
        with torch.no_grad():
            answer = model(torch.tensor(tokens), attention_mask=torch.tensor(mask)).logits.numpy()
        ours, exact = (load_model(tmp_path, dtype).forward(tokens, mask) for dtype in ("float32", "float64"))
        assert ours.dtype == np.float32
        real = mask.astype(bool)
        error, their_error = (ours - exact)[real], (answer - exact)[real]
        assert np.abs(error).max() <= 2e-6 * np.abs(exact[real]).max()
        assert np.array_equal(ours[real].argmax(-1), answer[real].argmax(-1))
        ratios.append(np.sqrt(np.mean(error**2) / np.mean(their_error**2)))
        for left in tmp_path.glob("model*"):
            left.unlink()
    assert np.median(ratios) <= 1.2


@pytest.mark.heavy
@pytest.mark.filterwarnings("ignore")
@pytest.mark.parametrize("name", ["gpt2", "opt", "bloom", "gpt_neox", "llama", "qwen3"])
def test_generation_is_that_of_transformers(name: str, tmp_path: Path) -> None:
    torch = heavy("torch")
    model = theirs(name, 0)
    model.save_pretrained(tmp_path)
    tokens, mask = batch(1)
    tokens, mask = tokens[:2, :20], mask[:2, :20]
    model.generation_config.eos_token_id = None
    more = {"max_new_tokens": 12, "do_sample": False, "pad_token_id": 0}
    with torch.no_grad():
        answer = model.generate(torch.tensor(tokens), attention_mask=torch.tensor(mask), **more).numpy()[:, 20:]
    ours = load_model(tmp_path).generate(tokens, 12, mask=mask)
    assert np.array_equal(ours[0], answer[0])
    if name != "gpt2":  # its generate counts positions from the mask, and its forward pass does not
        assert np.array_equal(ours[1], answer[1])


def small(family: str = "llama", **choices: Any) -> Model:
    """A model of our own with random weights."""
    sizes = {"n_vocab": 31, "n_layer": 2, "n_head": 4, "d_model": 16, "d_ff": 24, "n_positions": 200}
    config = Config(family, **(sizes | choices))
    random = np.random.default_rng(7)
    parameters = {
        name: (random.normal(1 if "norm" in name and name.endswith("weight") else 0, 0.3, shape)).astype(np.float32)
        for name, shape in shapes(config).items()
    }
    return Model(config, parameters)


MODELS: dict[str, dict[str, Any]] = {
    "learned": {},
    "rotary": {"positions": "rotary", "rotary": Rotary(4), "norm": "rms", "gated": True, "n_kv_head": 2},
    "alibi": {"positions": "alibi", "qkv": "by_head", "embed_norm": True},
    "windows": {"positions": "rotary", "rotary": Rotary(2), "windows": (5, None), "parallel": True},
    "post-norm": {"norm_first": False, "final_norm": False, "d_embed": 8},
}


@pytest.mark.parametrize("name", MODELS)
def test_a_cache_changes_nothing(name: str) -> None:
    model = small(**MODELS[name]).astype("float64")
    tokens = np.random.default_rng(0).integers(0, 31, (2, 150))
    whole = model.forward(tokens)
    cache = Cache(2, capacity=4)
    parts = [
        model.forward(tokens[:, a:b], cache=cache) for a, b in ((0, 70), (70, 71), (71, 72), (72, 149), (149, 150))
    ]
    assert np.abs(np.concatenate(parts, axis=1) - whole).max() <= 1e-13 * np.abs(whole).max()
    assert cache.n_past == 150


@pytest.mark.parametrize("name", MODELS)
def test_no_token_sees_those_after_it(name: str) -> None:
    model = small(**MODELS[name])
    tokens = np.random.default_rng(0).integers(0, 31, (1, 140))
    other = tokens.copy()
    other[0, 130:] = (other[0, 130:] + 1) % 31
    a, b = model.forward(tokens), model.forward(other)
    assert np.array_equal(a[:, :130], b[:, :130])
    assert not np.array_equal(a[:, 130:], b[:, 130:])


@pytest.mark.parametrize("name", [name for name in MODELS if name not in ("learned", "post-norm")])
def test_padding_on_the_left_changes_nothing(name: str) -> None:
    """True where only distances count; learned positions would be others."""
    model = small(**MODELS[name]).astype("float64")
    tokens = np.random.default_rng(0).integers(0, 31, (1, 9))
    padded = np.concatenate([np.zeros((1, 4), int), tokens], axis=1)
    mask = padded * 0 + 1
    mask[0, :4] = 0
    difference = model.forward(padded, mask)[:, 4:] - model.forward(tokens)
    assert np.abs(difference).max() < 1e-12


def test_attention_by_hand() -> None:
    """One head of one element, all weights 1: token t gets the softmax-weighted mean of what came before."""
    config = Config("gpt2", n_vocab=3, n_layer=1, n_head=1, d_model=1, d_ff=1, n_positions=4, norm_affine=False)
    from kbit_ref.transformer.forward import Where, attention

    ones = {f"blocks.0.attention.{part}.weight": np.ones((1, 1)) for part in ("q", "k", "v", "out")}
    x = np.array([[[1.0], [2.0]]])
    second = (1 * np.exp(2 * 1) + 2 * np.exp(2 * 2)) / (np.exp(2) + np.exp(4))
    assert np.allclose(attention(x, ones, config, 0, Where(0, None)), [[[1.0], [second]]], rtol=1e-15)


def test_functions_by_their_values() -> None:
    x = np.array([-1.0, 0.0, 2.0])
    assert np.allclose(gelu(x.copy()), [-0.15865525393145707, 0, 1.9544997361036416], rtol=1e-15)  # x * Phi(x)
    assert np.allclose(gelu_tanh(x.copy()), [-0.15880800939172324, 0, 1.9545976940877752], rtol=1e-14)
    assert np.allclose(silu(x.copy()), [-0.2689414213699951, 0, 1.7615941559557649], rtol=1e-15)
    assert np.array_equal(silu(np.array([-1e4], np.float32)), [0])
    assert np.allclose(softmax(np.log([[1.0, 2.0, 5.0]])), [[0.125, 0.25, 0.625]], rtol=1e-15)
    assert np.array_equal(softmax(np.array([1e30, -1e30], np.float32)), [1, 0])
    assert np.allclose(layer_norm(np.array([1.0, 3.0]), np.array([2.0, 2.0]), np.array([1.0, 0.0]), 3.0), [0, 1])
    assert np.allclose(rms_norm(np.array([6.0, 8.0]), None, 0.0), np.array([6, 8]) / 50**0.5)
    assert set(ACTIVATIONS) == {"relu", "gelu", "gelu_tanh", "silu"}


def test_rotation_keeps_products_of_equal_distance() -> None:
    random = np.random.default_rng(3)
    q, k = random.normal(size=(2, 1, 8))
    cos, sin = rotary_tables(Rotary(8, 100.0), np.arange(12), 12)

    def score(i: int, j: int) -> float:
        return float((rotate(q, cos[[i]], sin[[i]]) @ rotate(k, cos[[j]], sin[[j]]).T)[0, 0])

    assert np.isclose(score(9, 4), score(5, 0), rtol=1e-12)
    assert not np.isclose(score(9, 4), score(9, 5), rtol=1e-3)


def test_slopes_of_alibi() -> None:
    assert alibi_slopes(8).tolist() == [2.0**-i for i in range(1, 9)]
    assert alibi_slopes(6).tolist() == [0.25, 0.0625, 0.015625, 0.00390625, 0.5, 0.125]


def test_every_scaling_is_tried_against_transformers() -> None:
    tried = {entries.get("rope_parameters", {}).get("rope_type", "default") for _, entries in VARIANTS.values()}
    assert tried == set(SCALINGS)


def test_greedy_takes_the_first_of_the_most_probable() -> None:
    assert choose(np.array([[1.0, 3.0, 3.0], [0.0, -1.0, -2.0]])).tolist() == [1, 0]


def drawn(n: int, **how: Any) -> list[float]:
    """How often each of four tokens comes, of probabilities 1/2, 1/4, 1/8, 1/8."""
    logits = np.log(np.tile([0.25, 0.5, 0.125, 0.125], (n, 1)))
    tokens = choose(logits, random=np.random.default_rng(5), **how)
    return list(np.bincount(tokens, minlength=4) / n)


def test_draws_follow_the_probabilities() -> None:
    n, sigma = 40_000, 0.5 / 200  # of a frequency, at most
    assert np.allclose(drawn(n, temperature=1.0), [0.25, 0.5, 0.125, 0.125], atol=5 * sigma)
    squares = np.array([0.0625, 0.25, 0.015625, 0.015625])
    assert np.allclose(drawn(n, temperature=0.5), squares / squares.sum(), atol=5 * sigma)
    assert np.allclose(drawn(n, temperature=1.0, top_k=2), [1 / 3, 2 / 3, 0, 0], atol=5 * sigma)
    assert drawn(n, temperature=1.0, top_p=0.5) == [0, 1, 0, 0]
    assert np.allclose(drawn(n, temperature=1.0, top_p=0.51), [1 / 3, 2 / 3, 0, 0], atol=5 * sigma)
    assert drawn(n, temperature=1e-300) == [0, 1, 0, 0]


def test_generation_is_seeded_and_stops() -> None:
    model = small()
    tokens = [[1, 2, 3], [4, 5, 6]]
    a, b, c = (model.generate(tokens, 20, temperature=1.0, seed=seed) for seed in (1, 1, 2))
    assert np.array_equal(a, b)
    assert not np.array_equal(a, c)
    stop = int(a[0, 4])
    ended = model.generate(tokens, 20, temperature=1.0, seed=1, stop=stop)
    at = list(a[0]).index(stop)
    assert (ended[0, at:] == stop).all()
    assert model.generate(tokens, 0).shape == (2, 0)


@pytest.mark.parametrize(
    ("spelling", "bytes_of_scales"),
    [("int8-b4-absmax-f32", 192 * 4), ("int8-channel@1-absmax-f16", 3 * 2), ("e4m3fn-channel@3-absmax-f32", 4 * 4)],
)
def test_a_quantized_cache_holds_quantized_groups(spelling: str, bytes_of_scales: int) -> None:
    """What a group gives back is what kb.dequantize says of it; tokens after the last group are as they were."""
    cache = Cache(1, spelling)
    random = np.random.default_rng(0)
    k = random.normal(size=(2, 3, 2 * GROUP + 5, 4)).astype(np.float32)
    steps = [(0, 40), (40, 41), (41, 2 * GROUP + 5)]
    for a, b in steps:
        seen, _ = cache.extend(0, k[:, :, a:b], k[:, :, a:b])
    expected = [kb.dequantize(kb.quantize(k[:, :, i * GROUP : (i + 1) * GROUP], spelling)) for i in (0, 1)]
    assert np.array_equal(seen, np.concatenate([*expected, k[:, :, 2 * GROUP :]], axis=2))
    group, waiting = 2 * 3 * GROUP * 4 + bytes_of_scales, 2 * 3 * 5 * 4 * 4
    assert cache.n_bytes == 2 * (2 * group + waiting)  # keys and values


SCHEMES = (
    *(
        "nf4-b64-absmax-f32",
        "bnb-cuda-nf4",
        "int8-channel-absmax-f32",
        "int4-tensor-absmax-f32",
        "int4-b32@1-absmax-f16",
    ),
    *("uint4-b32-minmax-f16", "int3-b32@0-absmax-f32", "ocp-mxfp4", "nvfp4-te", "ggml-q4_0", "int5-b24-absmax-f32"),
    *(
        "nf4-b64-absmax-f32+center=block",
        "nf4-b64-absmax-f32+center=tensor",
        "bnb-cuda-nf4-double",
        "int3-b8-absmax-f32",
    ),
)


@pytest.mark.parametrize("spelling", SCHEMES)
@pytest.mark.parametrize("shape", [(96, 64), (50, 96), (7, 40)])
def test_tiles_are_the_matrix(spelling: str, shape: tuple[int, int]) -> None:
    x = np.random.default_rng(0).normal(size=shape).astype(np.float32)
    if spelling.startswith(("ocp", "nvfp4", "ggml")) and shape[1] % 32:
        return
    q = kb.quantize(x, spelling)
    tiles = tiles_of(q, about=300)
    assert [first for first, _ in tiles] == list(np.cumsum([0, *(tile.shape[0] for _, tile in tiles[:-1])]))
    assert np.array_equal(np.concatenate([kb.dequantize(tile) for _, tile in tiles]), kb.dequantize(q))
    whole_rows = shape[1] % 24 == 0 or "b24" not in spelling
    if whole_rows and "@0" not in spelling and "center=tensor" not in spelling and shape != (7, 40):
        assert len(tiles) > 1


@pytest.mark.parametrize("spelling", ["nf4-b64-absmax-f32", "int3-b32@0-absmax-f32", "ocp-mxfp8-e4m3"])
def test_a_quantized_model_is_the_model_of_its_decoded_weights(spelling: str) -> None:
    model = small(d_model=32, d_ff=64)
    tokens = [[1, 2, 3, 4]]
    for skip in (("embed.weight", "positions.weight"), ()):
        quantized = model.quantize(spelling, skip=skip)
        decoded = dict(model.parameters)
        for name, value in decoded.items():
            if value.ndim == 2 and name not in skip:
                decoded[name] = kb.dequantize(kb.quantize(value, spelling))
        expected = Model(model.config, decoded).forward(tokens)
        assert np.allclose(quantized.forward(tokens), expected, rtol=1e-5, atol=1e-6 * np.abs(expected).max())
        assert not np.allclose(expected, model.forward(tokens), rtol=1e-3)
    stored = [v.q.bits for v in quantized.parameters.values() if not isinstance(v, np.ndarray)]
    rest = [32 * v.size for v in quantized.parameters.values() if isinstance(v, np.ndarray)]
    assert quantized.bits == sum(stored) + sum(rest)


def test_activations_are_rounded_token_by_token() -> None:
    model = small(n_layer=1)
    weights, tokens = "int8-channel-absmax-f32", "int4-channel-absmax-f32"
    x = np.random.default_rng(2).normal(size=(1, 5, 16)).astype(np.float32)
    quantized = model.quantize(weights, activations=tokens).parameters["blocks.0.mlp.up.weight"]
    w = kb.dequantize(kb.quantize(model.parameters["blocks.0.mlp.up.weight"], weights))
    rounded = np.stack([kb.dequantize(kb.quantize(row, "int4-tensor-absmax-f32")) for row in x[0]])
    assert np.allclose(product(x, quantized)[0], rounded @ w.T, rtol=1e-5, atol=1e-6)
    assert not np.allclose(product(x, quantized)[0], x[0] @ w.T, rtol=1e-3)


def test_what_cannot_be_quantized_is_told() -> None:
    model = small()
    with pytest.raises(kb.KbitError, match=r"skip = 'blocks.0.mlp.upp.weight'.*did you mean blocks.0.mlp.up.weight"):
        model.quantize("nf4-b64-absmax-f32", skip=["blocks.0.mlp.upp.weight"])
    with pytest.raises(kb.KbitError, match="it is quantized already"):
        model.quantize("nf4-b64-absmax-f32").quantize("nf4-b64-absmax-f32")


def saved(folder: Path, change: dict[str, Any] | None = None, entries: dict[str, Any] | None = None) -> Path:
    """A tiny GPT-2 in a directory; `change` replaces tensors (None: leaves one out)."""
    facts = {"model_type": "gpt2", "vocab_size": 5, "n_embd": 4, "n_layer": 1, "n_head": 2, "n_positions": 8}
    facts |= entries or {}
    (folder / "config.json").write_text(json.dumps(facts))
    config = FAMILIES["gpt2"].config(Facts(facts))
    tensors = {}
    for name, shape in shapes(config).items():
        turned = len(shape) == 2 and name.startswith("blocks.")
        tensors[FAMILIES["gpt2"].tensor(name)] = np.full(shape[::-1] if turned else shape, 0.5, np.float32)
    tensors = {name: array for name, array in (tensors | (change or {})).items() if array is not None}
    specs = [Spec(name, "F32", array.shape) for name, array in tensors.items()]
    with Writer(folder / "model.safetensors", specs, {}) as file:
        for name, array in tensors.items():
            file.view(name)[:] = np.frombuffer(array.astype("<f4").tobytes(), np.uint8)
    return folder


@pytest.mark.parametrize(
    ("change", "entries", "said"),
    [
        ({"h.0.mlp.c_fc.weight": None}, {}, "it has no tensor h.0.mlp.c_fc.weight; get the whole checkpoint"),
        ({"wte.weight": np.ones((4, 4))}, {}, r"wte.weight of shape \(4, 4\), config.json asks for \(5, 4\)"),
        ({"ln_f.bias": np.array([0, np.nan, 0, 0])}, {}, r"ln_f.bias\[1\] = nan, weights are finite numbers"),
        ({}, {"model_type": "gptj"}, "model_type = 'gptj', there is no such name"),
        ({}, {"n_head": 3}, "4 is no multiple of 3 heads"),
        ({}, {"activation_function": "tanh"}, "activation_function = 'tanh', known are gelu"),
        ({}, {"n_embd": -4}, "n_embd = -4, it is a positive integer"),
    ],
)
def test_a_bad_checkpoint_is_told_in_one_line(
    change: dict[str, Any], entries: dict[str, Any], said: str, tmp_path: Path
) -> None:
    facts = {
        name: value
        for name, value in entries.items()
        if name not in ("model_type", "n_head", "n_embd", "activation_function")
    }
    saved(tmp_path, change, facts)
    if entries:
        config = json.loads((tmp_path / "config.json").read_text()) | entries
        (tmp_path / "config.json").write_text(json.dumps(config))
    with pytest.raises(kb.KbitError, match=said) as caught:
        load_model(tmp_path)
    assert "\n" not in str(caught.value)


def test_a_good_checkpoint_loads(tmp_path: Path) -> None:
    model = load_model(saved(tmp_path))
    assert model.n_parameters == sum(int(np.prod(shape)) for shape in shapes(model.config).values())
    assert model.forward([[0, 1]]).shape == (1, 2, 5)


@pytest.mark.parametrize("spelling", ["nf4-b4-absmax-f16", "bnb-cuda-nf4-double", "uint4-b4-minmax-f16"])
def test_what_kbit_ref_quantizes_loads(spelling: str, tmp_path: Path) -> None:
    """Matrices of GPT-2 stand as [d_in, d_out]; they are quantized like this, and stay packed."""
    random = np.random.default_rng(0)
    entries = {"n_embd": 16, "n_head": 2}
    config = FAMILIES["gpt2"].config(Facts({"model_type": "gpt2", "vocab_size": 5, "n_layer": 1} | entries))
    tensors = {
        FAMILIES["gpt2"].tensor(name): random.normal(0, 0.3, shape[::-1] if name.startswith("blocks.") else shape)
        for name, shape in shapes(config).items()
        if len(shape) == 2 and name != "positions.weight"
    }
    (tmp_path / "a").mkdir()
    (tmp_path / "b").mkdir()
    saved(tmp_path / "a", tensors, entries)
    kb.quantize_file(tmp_path / "a" / "model.safetensors", spelling, tmp_path / "b" / "model.safetensors")
    (tmp_path / "b" / "config.json").write_text((tmp_path / "a" / "config.json").read_text())
    model = load_model(tmp_path / "b")
    kb.dequantize_file(tmp_path / "b" / "model.safetensors", tmp_path / "a" / "model.safetensors", force=True)
    expected = load_model(tmp_path / "a").forward([[0, 1, 4]])
    assert np.allclose(model.forward([[0, 1, 4]]), expected, rtol=1e-5, atol=1e-6)
    assert model.bits_per_parameter < 32


@pytest.mark.parametrize("place", ["../model.safetensors", "/etc/model.safetensors"])
def test_a_shard_lies_in_the_directory(place: str, tmp_path: Path) -> None:
    saved(tmp_path)
    (tmp_path / "model.safetensors").unlink()
    (tmp_path / "model.safetensors.index.json").write_text(json.dumps({"weight_map": {"wte.weight": place}}))
    with pytest.raises(kb.KbitError, match="a shard lies in the same directory"):
        load_model(tmp_path)


@pytest.mark.parametrize(
    ("tokens", "options", "said"),
    [
        ([[0, 31]], {}, r"tokens\[0, 1\] = 31, tokens are 0 to 30"),
        ([[0, -1]], {}, r"tokens\[0, 1\] = -1"),
        ([0, 1], {}, r"tokens of shape \(2,\), it is \[n_batch, n_seq\]"),
        ([[]], {}, "and not empty"),
        ([[0.5]], {}, "tokens of dtype float64, tokens are integers"),
        ([[0] * 201], {}, "201 tokens, the model has 200 positions"),
        ([[0, 1]], {"mask": [[1]]}, r"mask of shape \(1, 1\)"),
        ([[0, 1]], {"mask": [[1, 2]]}, "it is 0 or 1 for each token"),
    ],
)
def test_bad_tokens_are_told_in_one_line(tokens: Any, options: dict[str, Any], said: str) -> None:
    with pytest.raises(kb.KbitError, match=said) as caught:
        small().forward(tokens, **options)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize(
    ("options", "said"),
    [
        ({"temperature": -1.0}, "temperature = -1.0, it is a finite number from 0"),
        ({"temperature": float("nan")}, "temperature = nan"),
        ({"temperature": 1.0, "top_k": 0}, "top_k = 0, it is at least 1"),
        ({"temperature": 1.0, "top_p": 0}, "top_p = 0, it is above 0"),
        ({"seed": -1}, "generate: seed = -1, it is a whole number from 0"),
        ({"temperature": 1.0, "seed": -1}, "generate: seed = -1, it is a whole number from 0"),
        ({"mask": [[1, 0]]}, "a padded prompt cannot be continued at its right end"),
    ],
)
def test_bad_ways_to_generate_are_told_in_one_line(options: dict[str, Any], said: str) -> None:
    with pytest.raises(kb.KbitError, match=said):
        small().generate([[0, 1]], 2, **options)


def test_what_does_not_fit_is_refused_before_the_first_token(monkeypatch: pytest.MonkeyPatch) -> None:
    """199 tokens and two that are read are 201; small() has 200 positions."""
    model = small()
    assert model.generate([[1] * 199], 2).shape == (1, 2)  # the second is added, and not read
    monkeypatch.setattr("kbit_ref.transformer.model.forward", lambda *_: pytest.fail("a token was generated"))
    said = "n_new = 3, the model has 200 positions and adds at most 2 to a prompt of 199; ask for fewer"
    with pytest.raises(kb.KbitError, match=said):
        model.generate([[1] * 199], 3)
    with pytest.raises(kb.KbitError, match="201 tokens, the model has 200 positions"):
        model.generate([[1] * 201], 3)
    for options in ({"n_new": -1}, {"n_new": 3}, {"n_new": 1, "seed": -1}, {"n_new": 1, "cache": "int4-b9"}):
        with pytest.raises(kb.KbitError):  # at once, and not when the first token is asked for
            stream(model, [[1] * 199], **options)
