"""Hand-written gradients: against central differences in float64, and against torch."""

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
from helpers.libraries import heavy

from kbit_ref.transformer.backward import PAIRS, cross_entropy, gradients, layer_norm, linear, logits, rms_norm, rotate
from kbit_ref.transformer.config import Config, Rotary, shapes
from kbit_ref.transformer.forward import forward
from kbit_ref.transformer.positions import rotary_tables

SIZES = {"n_vocab": 11, "n_layer": 2, "n_head": 4, "d_model": 8, "d_ff": 12, "n_positions": 16}
VARIANTS: dict[str, dict[str, Any]] = {
    "gpt2": {"qkv": "thirds"},
    "gpt2-unscaled": {"qkv": "thirds", "scaled": False, "tied": False, "activation": "gelu"},
    "gpt2-scaled-by-layer": {"qkv": "thirds", "scaled_by_layer": True},
    "opt": {"activation": "relu", "position_shift": 2, "positions_from_mask": True},
    "opt-350m": {"d_embed": 6, "norm_first": False, "final_norm": False, "activation": "relu"},
    "opt-plain": {"norm_affine": False, "bias_qkv": False, "bias_out": False, "bias_mlp": False},
    "bloom": {"positions": "alibi", "qkv": "by_head", "embed_norm": True},
    "bloom-residual-normed": {"positions": "alibi", "qkv": "by_head", "embed_norm": True, "residual_normed": True},
    "gpt_neox": {"positions": "rotary", "rotary": Rotary(2), "qkv": "by_head", "parallel": True, "activation": "gelu"},
    "llama": {
        "positions": "rotary",
        "rotary": Rotary(2),
        "norm": "rms",
        "gated": True,
        "n_kv_head": 2,
        "activation": "silu",
        "bias_qkv": False,
        "bias_out": False,
        "bias_mlp": False,
        "tied": False,
    },
    "qwen3": {"positions": "rotary", "rotary": Rotary(2), "norm": "rms", "gated": True, "head_norm": True},
    "mistral": {"positions": "rotary", "rotary": Rotary(2), "norm": "rms", "gated": True, "windows": (3, None)},
}


def random_parameters(c: Config, seed: int = 0) -> dict[str, Any]:
    """Numbers of float64; norms about 1."""
    random = np.random.default_rng(seed)
    return {
        name: random.normal(1.0 if "norm" in name and name.endswith("weight") else 0.0, 0.3, shape)
        for name, shape in shapes(c).items()
    }


def derivative(f: Callable[[], float], x: Any, at: tuple[int, ...], h: float = 1e-5) -> float:
    """(f(x + h) - f(x - h)) / 2h, by changing one element in place."""
    kept = x[at]
    x[at] = kept + h
    above = f()
    x[at] = kept - h
    below = f()
    x[at] = kept
    return (above - below) / (2 * h)


def compared(f: Callable[[], float], x: Any, gradient: Any, count: int = 40) -> None:
    """Some elements of a gradient against central differences."""
    assert gradient.shape == x.shape
    random = np.random.default_rng(1)
    for flat in random.permutation(x.size)[:count]:
        at = tuple(int(i) for i in np.unravel_index(flat, x.shape))
        assert gradient[at] == pytest.approx(derivative(f, x, at), rel=2e-7, abs=2e-9), at


@pytest.mark.parametrize("name", PAIRS)
def test_functions(name: str) -> None:
    random = np.random.default_rng(0)
    x, weight = random.normal(size=(3, 7)), random.normal(size=(3, 7))
    _, back = PAIRS[name](x.copy())
    compared(lambda: float((PAIRS[name](x.copy())[0] * weight).sum()), x, back(weight.copy()))


@pytest.mark.parametrize("function", [layer_norm, rms_norm])
@pytest.mark.parametrize("affine", [True, False])
def test_norms(function: Any, affine: bool) -> None:
    random = np.random.default_rng(0)
    x, up = random.normal(size=(3, 7)), random.normal(size=(3, 7))
    p = {"n.weight": random.normal(size=7), "n.bias": random.normal(size=7)} if affine else {}
    g: dict[str, Any] = {}
    dx = function(x, p, g, "n", 0.1)[1](up)

    def f() -> float:
        return float((function(x, p, {}, "n", 0.1)[0] * up).sum())

    compared(f, x, dx)
    for name, gradient in g.items():
        compared(f, p[name], gradient)
    assert set(g) == ({"n.weight"} | ({"n.bias"} if function is layer_norm else set()) if affine else set())


def test_linear_and_rotation() -> None:
    random = np.random.default_rng(0)
    x, up = random.normal(size=(2, 3, 4)), random.normal(size=(2, 3, 5))
    p = {"a.weight": random.normal(size=(5, 4)), "a.bias": random.normal(size=5)}
    g: dict[str, Any] = {}
    dx = linear(x, p, g, "a")[1](up)

    def f() -> float:
        return float((linear(x, p, {}, "a")[0] * up).sum())

    compared(f, x, dx)
    compared(f, p["a.weight"], g["a.weight"])
    compared(f, p["a.bias"], g["a.bias"])
    cos, sin = rotary_tables(Rotary(2), np.arange(3), 3)
    turned = random.normal(size=(2, 3, 4))
    compared(lambda: float((rotate(x, cos, sin)[0] * turned).sum()), x, rotate(x, cos, sin)[1](turned))


def test_cross_entropy_by_hand() -> None:
    """Probabilities 1/4, 1/4, 1/2: the loss of the last is log 2; its gradient p - one-hot."""
    y = np.log(np.array([[1.0, 1.0, 2.0], [1.0, 1.0, 2.0]]))
    loss, back = cross_entropy(y, np.array([2, 0]), np.array([3.0, 1.0]))
    assert loss == pytest.approx(0.75 * np.log(2) + 0.25 * np.log(4), rel=1e-15)
    assert np.allclose(back(), [[0.1875, 0.1875, -0.375], [-0.1875, 0.0625, 0.125]], rtol=1e-15)


@pytest.mark.parametrize("padded", [False, True])
@pytest.mark.parametrize("name", VARIANTS)
def test_every_parameter_of_every_family(name: str, padded: bool) -> None:
    c = Config(name, **(SIZES | VARIANTS[name]))
    p = random_parameters(c)
    random = np.random.default_rng(2)
    tokens, targets = random.integers(0, 11, (2, 3, 6))
    mask = np.ones(tokens.shape, bool)
    if padded:
        mask[1, :2] = False
    weights = random.random(tokens.shape) * mask
    loss, g = gradients(p, c, tokens, targets, weights, mask)
    assert set(g) == set(p)

    def f() -> float:
        return cross_entropy(forward(p, c, tokens, mask), targets, weights)[0]

    assert loss == pytest.approx(f(), rel=1e-13)
    for parameter, gradient in g.items():
        compared(f, p[parameter], gradient, count=4)


def test_a_wrong_gradient_would_be_found() -> None:
    x = np.random.default_rng(0).normal(size=(3, 4))
    with pytest.raises(AssertionError):
        compared(lambda: float((x**3).sum()), x, 3 * x**2 * (1 + 1e-6))


@pytest.mark.heavy
@pytest.mark.filterwarnings("ignore")
@pytest.mark.parametrize("family", ["gpt2", "opt", "opt-350m", "bloom", "gpt_neox", "llama", "qwen3"])
def test_gradients_are_those_of_torch(family: str, tmp_path: Any) -> None:
    torch = heavy("torch")
    from test_transformer import theirs

    from kbit_ref.transformer import load_model
    from kbit_ref.transformer.families import FAMILIES

    model = theirs(family, 0).double()
    model.save_pretrained(tmp_path)
    ours = load_model(tmp_path, "float64")
    random = np.random.default_rng(0)
    tokens, targets = random.integers(2, 97, (2, 2, 12))  # OPT's token 1 is padding, without a gradient
    out = model(torch.tensor(tokens), attention_mask=torch.ones(2, 12, dtype=torch.long)).logits
    torch.nn.functional.cross_entropy(out.reshape(-1, 97), torch.tensor(targets).reshape(-1)).backward()
    _, g = gradients(ours.parameters, ours.config, tokens, targets)
    known = FAMILIES[model.config.model_type]
    there = {name: parameter.grad.numpy() for name, parameter in model.named_parameters()}
    for prefix in known.prefixes:
        there |= {name.removeprefix(prefix): gradient for name, gradient in there.items()}
    there["embed_out.weight"] = model.get_output_embeddings().weight.grad.numpy()  # a name of files alone
    for name, gradient in g.items():
        expected = there[known.tensor(name)]
        if known.transposed and expected.ndim == 2 and name.startswith("blocks."):
            expected = expected.T
        # transformers computes some norms and softmaxes in float32 whatever the model
        assert np.abs(gradient - expected).max() <= 1e-5 * np.abs(expected).max() + 1e-9, name


def test_logits_are_those_of_the_forward_pass() -> None:
    for name, choices in VARIANTS.items():
        c = Config(name, **(SIZES | choices))
        p = {key: value.astype(np.float32) for key, value in random_parameters(c).items()}
        tokens = np.random.default_rng(3).integers(0, 11, (2, 9))
        a, b = logits(p, {}, c, tokens)[0], forward(p, c, tokens)
        assert np.abs(a - b).max() <= 1e-5 * np.abs(b).max()
