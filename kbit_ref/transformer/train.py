"""Training: batches in, a model out, and a directory from which it goes on whatever stopped it.

AdamW with decoupled weight decay, a linear warm-up, a cosine to a tenth, gradients clipped by their
norm. All parameters lie in one vector, so an update is a handful of operations. A checkpoint is one
file, written whole or not at all; a run that goes on from it gives the same bits as one that was
never stopped.
"""

from __future__ import annotations

import json
import math
import os
from collections.abc import Callable
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from kbit_ref.checkpoints.container import Container, Writer
from kbit_ref.checkpoints.header import Spec
from kbit_ref.errors import BadInput, message
from kbit_ref.inputs import as_seed
from kbit_ref.transformer.aware import STEPS, Aware
from kbit_ref.transformer.backward import gradients
from kbit_ref.transformer.config import Config, shapes
from kbit_ref.transformer.model import Model

__all__ = ["CHECKPOINT", "Recipe", "begin", "rate", "train"]

Array = NDArray[Any]
Batch = Callable[[int], NDArray[np.intp]]  # step -> tokens [n_batch, n_seq + 1]
Tell = Callable[[int, float, float], None]  # step, loss, its rate
CHECKPOINT = "training.safetensors"


@dataclass(frozen=True)
class Recipe:
    """All that decides a run but the model's sizes and the batches.

    Parameters
    ----------
    steps
        Updates in all.
    rate
        The largest learning rate.
    warmup
        Updates until it is reached.
    decay
        Of weights, for each unit of the rate; matrices alone.
    clip
        The largest norm of all gradients together.
    beta1, beta2, eps
        Of Adam.
    seed
        Of the first parameters, from 0.
    scheme, skip, learned
        Training for a chosen k: see `aware.Aware`. "" trains in float32.
    """

    steps: int
    rate: float = 3e-3
    warmup: int = 100
    decay: float = 0.01
    clip: float = 1.0
    beta1: float = 0.9
    beta2: float = 0.95
    eps: float = 1e-8
    seed: int = 0
    scheme: str = ""
    skip: tuple[str, ...] = ()
    learned: bool = False


def rate(r: Recipe, step: int) -> float:
    """The learning rate of a step: up in a line, down in a cosine, to a tenth.

    Examples
    --------
    >>> r = Recipe(steps=110, rate=1.0, warmup=10)
    >>> [round(rate(r, step), 3) for step in (0, 9, 10, 60, 109)]
    [0.1, 1.0, 1.0, 0.55, 0.1]
    """
    if step < r.warmup:
        return r.rate * (step + 1) / r.warmup
    through = (step - r.warmup) / max(1, r.steps - r.warmup)
    return r.rate * (0.55 + 0.45 * math.cos(math.pi * through))


def begin(c: Config, seed: int) -> dict[str, Array]:
    """The first parameters: normal with deviation 1 / sqrt(d_in), less where they are added to the stream.

    Norms begin with 1, biases with 0, embeddings with deviation 0.1.
    """
    random = np.random.default_rng([as_seed("train", seed), 1])
    found: dict[str, Array] = {}
    for name, shape in shapes(c).items():
        if len(shape) == 1:
            found[name] = np.full(shape, float("norm" in name and name.endswith("weight")), np.float32)
            continue
        deviation = 0.1 if name in ("embed.weight", "positions.weight") else shape[1] ** -0.5
        if name.endswith(("out.weight", "down.weight")):
            deviation /= math.sqrt(2 * c.n_layer)
        found[name] = (random.standard_normal(shape) * deviation).astype(np.float32)
    return found


class _Vector:
    """Arrays by name that are views of one vector."""

    def __init__(self, arrays: dict[str, Array]):
        self.flat = np.concatenate([array.reshape(-1) for array in arrays.values()]).astype(np.float32)
        self.views: dict[str, Array] = {}
        at = 0
        for name, array in arrays.items():
            self.views[name] = self.flat[at : at + array.size].reshape(array.shape)
            at += array.size

    def gather(self, arrays: dict[str, Array]) -> None:
        for name, view in self.views.items():
            view[...] = arrays[name]


def train(
    c: Config,
    r: Recipe,
    batch: Batch,
    directory: str | os.PathLike[str] | None = None,
    *,
    every: int = 200,
    tell: Tell | None = None,
    keep: Callable[[int, Model], None] | None = None,
) -> tuple[Model, NDArray[np.float32]]:
    """Train a model, or go on with it.

    Parameters
    ----------
    c, r
        The model's sizes and the recipe.
    batch
        The tokens [n_batch, n_seq + 1] of a step, the same whenever it is asked.
    directory
        Where the checkpoint lies; what is found there is gone on with. None: nothing is written.
    every
        Updates between two checkpoints.
    tell
        Called after each update with its number (from 1), loss and rate.
    keep
        Called after each update with its number and the model so far.

    Returns
    -------
    Model, float32 [steps]
        The model as the forward pass saw it (with a scheme: of rounded weights), and the loss of each step in nats.

    Raises
    ------
    BadInput
        `train: run/training.safetensors, it is of another recipe or model; use another directory`
        `train: skip = 'hed.weight', there is no such name; did you mean embed.weight? ...`
    """
    aware = Aware(r.scheme, r.skip, r.learned) if r.scheme else None
    if aware is not None:
        aware.check(shapes(c))
    first = begin(c, r.seed)
    if aware is not None and r.learned:
        first |= aware.steps(first)
    p, g = _Vector(first), _Vector(first)
    m, v = np.zeros_like(p.flat), np.zeros_like(p.flat)
    decays = _Vector({n: np.full(x.shape, float(x.ndim == 2 and not n.endswith(STEPS))) for n, x in first.items()}).flat
    losses = np.zeros(r.steps, np.float32)
    state = {"parameters": p.flat, "m": m, "v": v, "losses": losses}
    path = None if directory is None else Path(directory) / CHECKPOINT
    done = 0 if path is None else _restored(path, state, c, r)

    for step in range(done, r.steps):
        tokens = batch(step)
        seen, back = (p.views, None) if aware is None else aware.used(p.views)
        loss, found = gradients(seen, c, tokens[:, :-1], tokens[:, 1:])
        if back is not None:
            back(found)
        g.gather(found)
        losses[step] = loss
        norm = math.sqrt(float(np.dot(g.flat, g.flat)))
        if not math.isfinite(norm):
            rule = "the gradient is not finite"
            raise BadInput(message("train", f"step {step}", rule, "use a smaller rate"))
        _update(p.flat, g.flat, m, v, decays, r, step, min(1.0, r.clip / max(norm, 1e-30)))
        if path is not None and ((step + 1) % every == 0 or step + 1 == r.steps):
            _save(path, state, c, r, step + 1)
        if tell is not None:
            tell(step + 1, loss, rate(r, step))
        if keep is not None:
            keep(step + 1, Model(c, p.views))
    seen = p.views if aware is None else aware.used(p.views)[0]
    return Model(c, {name: np.array(value) for name, value in seen.items()}), losses


def _update(p: Array, g: Array, m: Array, v: Array, decays: Array, r: Recipe, step: int, clip: float) -> None:
    """AdamW, in place: m and v are running means of the gradient and of its square."""
    lr, t = rate(r, step), step + 1
    g *= np.float32(clip)
    m *= np.float32(r.beta1)
    m += np.float32(1 - r.beta1) * g
    g *= g
    v *= np.float32(r.beta2)
    v += np.float32(1 - r.beta2) * g
    np.sqrt(v, out=g)
    g *= np.float32(1 / math.sqrt(1 - r.beta2**t))
    g += np.float32(r.eps)
    np.divide(m, g, out=g)
    g *= np.float32(lr / (1 - r.beta1**t))
    p -= np.float32(lr * r.decay) * decays * p
    p -= g


def _said(c: Config, r: Recipe) -> str:
    """Recipe and model as one text, to compare."""
    return json.dumps({"config": asdict(c), "recipe": asdict(r)}, sort_keys=True, default=str)


def _save(path: Path, state: dict[str, Array], c: Config, r: Recipe, step: int) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    specs = [Spec(name, "F32", array.shape) for name, array in state.items()]
    with Writer(path, specs, {"step": str(step), "run": _said(c, r)}, force=True) as file:
        for name, array in state.items():
            file.view(name)[:] = array.astype("<f4", copy=False).view(np.uint8)


def _restored(path: Path, state: dict[str, Array], c: Config, r: Recipe) -> int:
    """Fill the state from a checkpoint, if there is one; the number of steps that it holds."""
    if not path.exists():
        return 0
    with Container(path) as file:
        if file.metadata.get("run") != _said(c, r) or not file.metadata.get("step", "").isdigit():
            rule = "it is of another recipe or model"
            raise BadInput(message("train", str(path), rule, "use another directory"))
        for name, array in state.items():
            stored = file.array(name)
            if stored.shape != array.shape or stored.dtype != array.dtype:
                raise BadInput(message("train", f"{path}: {name}", "it has another shape", "use another directory"))
            array[:] = stored
        return int(file.metadata["step"])
