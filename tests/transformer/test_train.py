"""Training: the optimizer by hand, stopping and going on, and training for a chosen k."""

import os
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import kbit_ref as kb
from kbit_ref.transformer.aware import STEPS, Aware, with_steps
from kbit_ref.transformer.config import Config, shapes
from kbit_ref.transformer.train import CHECKPOINT, Recipe, begin, rate, train

CONFIG = Config("gpt2", n_vocab=7, n_layer=1, n_head=2, d_model=8, d_ff=16, n_positions=6, qkv="thirds")


def counting(step: int) -> Any:
    """Sequences that count upwards modulo 7: a model learns them soon."""
    first = np.random.default_rng([step, 8]).integers(0, 7, (16, 1))
    return (first + np.arange(7)) % 7


def test_the_loss_falls() -> None:
    _, losses = train(CONFIG, Recipe(steps=150, rate=0.02, warmup=10), counting)
    assert losses[0] > 1.5
    assert losses[-1] < 0.05


def test_adam_by_hand() -> None:
    """One parameter, two steps, worked out with plain numbers."""
    from kbit_ref.transformer.train import _update

    r = Recipe(steps=10, rate=0.1, warmup=2, decay=0.5, beta1=0.5, beta2=0.75, eps=0.0, clip=1e9)
    p, m, v = (np.array([value], np.float32) for value in (2.0, 0.0, 0.0))
    decays = np.ones(1, np.float32)
    _update(p, np.array([4.0], np.float32), m, v, decays, r, 0, 1.0)
    # m = 2, v = 4; unbiased 4 and 16: step 0.05 * 4 / 4; decay 0.05 * 0.5 * 2
    assert p[0] == pytest.approx(2 - 0.05 - 0.05, rel=1e-6)
    _update(p, np.array([0.0], np.float32), m, v, decays, r, 1, 1.0)
    # m = 1, v = 3; unbiased 1/0.75 and 3/0.4375; decay 0.1 * 0.5 * 1.9
    assert p[0] == pytest.approx(1.9 - 0.1 * (1 / 0.75) / (3 / 0.4375) ** 0.5 - 0.095, rel=1e-6)


def test_large_gradients_are_clipped() -> None:
    free, held = (train(CONFIG, Recipe(steps=1, warmup=1, clip=clip, eps=1.0), counting)[0] for clip in (1e9, 1e-3))
    first = begin(CONFIG, 0)

    def moved(model: Any) -> float:
        return float(max(np.abs(model.parameters[name] - first[name]).max() for name in first if "bias" in name))

    assert moved(held) < moved(free) / 100


def test_biases_and_norms_do_not_decay() -> None:
    r = Recipe(steps=1, rate=1.0, warmup=1, decay=0.5, eps=1e12)  # nothing moves but by decay
    model, _ = train(CONFIG, r, counting)
    first = begin(CONFIG, 0)
    for name, value in model.parameters.items():
        assert np.allclose(value, first[name] * (0.5 if value.ndim == 2 else 1), atol=1e-6)


def test_first_parameters_have_their_deviation() -> None:
    c = Config("gpt2", n_vocab=200, n_layer=8, n_head=2, d_model=64, d_ff=256, n_positions=6)
    p = begin(c, 3)
    assert set(p) == set(shapes(c))
    assert p["embed.weight"].std() == pytest.approx(0.1, rel=0.05)
    assert p["blocks.0.mlp.up.weight"].std() == pytest.approx(1 / 8, rel=0.05)
    assert p["blocks.0.mlp.down.weight"].std() == pytest.approx(1 / 16 / 4, rel=0.05)
    assert (p["blocks.0.norm1.weight"] == 1).all()
    assert (p["blocks.0.mlp.up.bias"] == 0).all()
    assert not np.array_equal(p["embed.weight"], begin(c, 4)["embed.weight"])


def same(a: Any, b: Any) -> bool:
    """Equal bit for bit."""
    return all(np.array_equal(a.parameters[name], b.parameters[name]) for name in a.parameters)


@pytest.mark.parametrize("scheme", ["", "int4-b8-absmax-f32"])
def test_a_run_that_was_stopped_ends_with_the_same_bits(scheme: str, tmp_path: Path) -> None:
    r = Recipe(steps=30, warmup=5, scheme=scheme, learned=bool(scheme))
    whole, losses = train(CONFIG, r, counting)

    class Stop(Exception):
        pass

    def stop(step: int, loss: float, speed: float) -> None:
        if step == 17:
            raise Stop

    with pytest.raises(Stop):
        train(CONFIG, r, counting, tmp_path, every=5, tell=stop)
    steps: list[int] = []
    again, losses_again = train(CONFIG, r, counting, tmp_path, every=5, tell=lambda step, *_: steps.append(step))
    assert steps == list(range(16, 31))  # from the checkpoint of step 15
    assert same(whole, again)
    assert np.array_equal(losses, losses_again)
    done, _ = train(CONFIG, r, counting, tmp_path, tell=lambda *_: pytest.fail("nothing is left to do"))
    assert same(whole, done)


def test_bad_recipes_are_told_in_one_line() -> None:
    with pytest.raises(kb.KbitError, match=r"^train: seed = -3, it is a whole number from 0; leave it out$"):
        train(CONFIG, Recipe(steps=1, seed=-3), counting)
    with pytest.raises(kb.KbitError, match=r"^train: skip = 'blocks\.9\.\*', there is no such name; "):
        train(CONFIG, Recipe(steps=1, scheme="int8-b8-absmax-f32", skip=("blocks.9.*",)), counting)


def test_another_recipe_does_not_go_on_with_it(tmp_path: Path) -> None:
    train(CONFIG, Recipe(steps=2), counting, tmp_path)
    for other in (Recipe(steps=3), Recipe(steps=2, seed=1), Recipe(steps=2, scheme="int8-b8-absmax-f32")):
        with pytest.raises(kb.KbitError, match="it is of another recipe or model; use another directory"):
            train(CONFIG, other, counting, tmp_path)


KILLED = """
import sys
sys.path.insert(0, {tests!r})
from test_train import CONFIG, counting
from kbit_ref.transformer.train import Recipe, train
train(CONFIG, Recipe(steps=100000), counting, {folder!r}, every=1)
"""


def test_killed_at_any_moment_it_goes_on(tmp_path: Path) -> None:
    """Three times; each time the checkpoint is whole, and there is no other file."""
    script = KILLED.format(tests=str(Path(__file__).parent), folder=str(tmp_path))
    before = 0
    for wait in (0.05, 0.11, 0.23):
        worker = subprocess.Popen([sys.executable, "-c", script])
        deadline = time.monotonic() + 60
        while _steps(tmp_path) <= before and time.monotonic() < deadline:
            time.sleep(0.01)
        time.sleep(wait)
        os.kill(worker.pid, signal.SIGKILL)
        worker.wait()
        assert _steps(tmp_path) > before
        before = _steps(tmp_path)
        assert [path.name for path in tmp_path.iterdir()] == [CHECKPOINT]


def _steps(folder: Path) -> int:
    from kbit_ref.checkpoints.container import Container

    if not (folder / CHECKPOINT).exists():
        return 0
    with Container(folder / CHECKPOINT) as file:
        return int(file.metadata["step"])


# For a chosen k -------------------------------------------------------------------------------


def test_the_forward_pass_sees_quantized_weights() -> None:
    p = begin(CONFIG, 0)
    aware = Aware("int3-b8-absmax-f32", skip=("embed.weight", "positions.weight"))
    seen, _ = aware.used(p)
    for name, value in p.items():
        quantized = value.ndim == 2 and name.startswith("blocks.")
        expected = kb.dequantize(kb.quantize(value, "int3-b8-absmax-f32")) if quantized else value
        assert np.array_equal(seen[name], expected)


def test_training_for_k_beats_rounding_afterwards() -> None:
    """At 2 bits: the loss of the rounded weights, of a model that was trained for it and of one that was not."""
    spelling = "int2sym-b8-absmax-f32"
    plain = Recipe(steps=200, rate=0.02, warmup=10)
    loss = {}
    for name, r in {  # in the order of what is expected
        "after": plain,
        "aware": Recipe(**(vars(plain) | {"scheme": spelling})),
        "learned": Recipe(**(vars(plain) | {"scheme": spelling, "learned": True})),
    }.items():
        model, losses = train(CONFIG, r, counting)
        if name == "after":
            rounded = model.quantize(spelling, skip=())
            tokens = counting(999)
            logits = rounded.forward(tokens[:, :-1]).astype(np.float64)
            shares = np.exp(logits - logits.max(-1, keepdims=True))
            shares /= shares.sum(-1, keepdims=True)
            loss[name] = float(-np.log(np.take_along_axis(shares, tokens[:, 1:, None], -1)).mean())
        else:
            loss[name] = float(losses[-20:].mean())
    assert loss["aware"] < loss["after"] / 2
    assert loss["learned"] < loss["after"] / 2


def test_gradient_of_a_learned_step_by_hand() -> None:
    """int3: levels -4 to 3. w = [0.6, 5], step 1: y - q = -0.4 inside, q = 3 outside."""
    aware = Aware("int3-b2-absmax-f32", learned=True)
    p = {"a.weight": np.array([[0.6, 5.0]], np.float32), "a.weight.steps": np.ones((1, 1), np.float32)}
    seen, back = aware.used(p)
    assert seen["a.weight"].tolist() == [[1, 3]]
    g = {"a.weight": np.array([[10.0, 100.0]], np.float32)}
    back(g)
    assert g["a.weight"].tolist() == [[10, 0]]
    assert g["a.weight.steps"][0, 0] == pytest.approx((10 * 0.4 + 100 * 3) / (2 * 3) ** 0.5, rel=1e-6)


@pytest.mark.parametrize("spelling", ["nf4-b8-absmax-f32", "int4-channel-absmax-f16", "int3-b5-absmax-bf16"])
def test_learned_steps_begin_with_those_of_the_rule_and_are_stored(spelling: str) -> None:
    w = np.random.default_rng(0).normal(size=(4, 8)).astype(np.float32)
    aware = Aware(spelling, learned=True)
    steps = aware.steps({"a.weight": w})
    q, expected = with_steps(w, kb.scheme(spelling), steps["a.weight" + STEPS]), kb.quantize(w, spelling)
    assert np.array_equal(q.codes, expected.codes)
    assert np.array_equal(q.scales, expected.scales)
    seen, _ = aware.used({"a.weight": w} | steps)
    assert np.array_equal(seen["a.weight"], kb.dequantize(expected))


def test_steps_cannot_be_learned_where_a_block_has_more_than_a_scale() -> None:
    for spelling in ("uint4-b8-minmax-f32", "ocp-mxfp4", "nvfp4-te", "nf4-b8-absmax-f32+center=block"):
        with pytest.raises(kb.KbitError, match="learned steps need blocks with a scale and nothing else"):
            Aware(spelling, learned=True)


def test_rates() -> None:
    r = Recipe(steps=100, rate=0.5, warmup=4)
    assert [rate(r, step) for step in (0, 1, 3, 4)] == [0.125, 0.25, 0.5, 0.5]
    assert rate(r, 52) == pytest.approx(0.275)
    assert rate(r, 99) > 0.05
