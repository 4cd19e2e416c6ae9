"""The family of trained models in `data/models`: sizes, runs, and how they are made.

Seven sizes, evenly spaced by the logarithm of their parameters; five seeds of those up to 250,000;
four sizes at half and at a quarter of the tokens as well, each with a schedule of its own; the
smallest three trained for 2, 3 and 4 bits, too. A run is a directory of its name; what is there
already is not made again, and a run that was stopped goes on.
"""

from __future__ import annotations

import csv
import json
import math
import os
from collections.abc import Callable, Iterator
from dataclasses import asdict, dataclass
from functools import lru_cache
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from kbit_ref.errors import BadInput, UnknownName, message
from kbit_ref.transformer.config import Config, shapes
from kbit_ref.transformer.model import Model
from kbit_ref.transformer.save import save_model
from kbit_ref.transformer.train import Recipe, train
from kbit_ref.transformer.world import N_SEQ, N_VOCAB, WORDS, World

__all__ = ["N_BATCH", "SIZES", "Run", "batches", "config", "n_parameters", "recipe", "run", "run_of", "runs", "write"]

SIZES = {  # layers, width, heads
    "xxs": (2, 16, 2),
    "xs": (2, 24, 2),
    "s": (3, 32, 4),
    "m": (4, 48, 4),
    "l": (4, 64, 4),
    "xl": (5, 96, 6),
    "xxl": (6, 144, 6),
}
STEPS = 6000
N_BATCH = 64
SEEDED = 250_000  # parameters up to which there are five seeds
SHORTENED = ("xs", "s", "m", "l")  # sizes with fewer tokens, too
AWARE = ("xxs", "xs", "s")  # sizes that are trained for few bits, too
FEW_BITS = (2, 3, 4)
WORLD = 0
CURVE = 50  # steps whose mean loss is a row of the curve


def config(size: str) -> Config:
    """The sizes and choices of a model."""
    if size not in SIZES:
        raise UnknownName.among("train", "size", size, SIZES, f"sizes are {', '.join(SIZES)}")
    n_layer, d_model, n_head = SIZES[size]
    return Config(
        family="gpt2",
        n_vocab=N_VOCAB,
        n_layer=n_layer,
        n_head=n_head,
        d_model=d_model,
        d_ff=4 * d_model,
        n_positions=N_SEQ,
        qkv="thirds",
    )


def n_parameters(size: str) -> int:
    """How many numbers a model has.

    Examples
    --------
    >>> [n_parameters(size) for size in SIZES]
    [11712, 22176, 48416, 128544, 220544, 590112, 1550592]
    """
    return sum(math.prod(shape) for shape in shapes(config(size)).values())


@dataclass(frozen=True)
class Run:
    """One model: a size, a seed, how many steps, and the scheme that it is trained for, if any."""

    size: str
    seed: int = 0
    steps: int = STEPS
    scheme: str = ""
    learned: bool = False

    @property
    def name(self) -> str:
        """What its directory is called."""
        short = "" if self.steps == STEPS else f"-{self.steps}"
        aware = f"-{self.scheme}{'-learned' if self.learned else ''}" if self.scheme else ""
        return f"{self.size}-{self.seed}{short}{aware}"


def runs() -> Iterator[Run]:
    """All runs: first one seed of each size, then what is there for the fits."""
    for size in SIZES:
        yield Run(size)
    for size in SHORTENED:
        yield from (Run(size, 0, STEPS // part) for part in (2, 4))
    for seed in range(1, 5):
        yield from (Run(size, seed) for size in SIZES if n_parameters(size) <= SEEDED)
    for bits in FEW_BITS:
        yield from (Run(size, scheme=f"int{bits}sym-b64-absmax-f16") for size in AWARE)


def run_of(name: str) -> Run:
    """The run of the family that has this name.

    Examples
    --------
    >>> run_of("s-0-1500")
    Run(size='s', seed=0, steps=1500, scheme='', learned=False)
    """
    known = {run.name: run for run in runs()}
    if name not in known:
        raise UnknownName.among("train", "run", name, known, f"the family has {len(known)} runs")
    return known[name]


def recipe(size: str, seed: int = 0, steps: int = STEPS, **more: Any) -> Recipe:
    """The recipe of the family: the rate falls with the root of the width."""
    return Recipe(steps=steps, rate=0.04 / math.sqrt(config(size).d_model), seed=seed, **more)


def batches(seed: int) -> Callable[[int], NDArray[np.intp]]:
    """Windows of the world: those of a step are the same whenever they are asked for."""
    world = _world(WORLD)

    def batch(step: int) -> NDArray[np.intp]:
        return world.windows(N_BATCH, np.random.default_rng([seed, 2, step]))

    return batch


@lru_cache(maxsize=1)
def _world(seed: int) -> World:
    return World(seed)


def run(
    what: Run, directory: str | os.PathLike[str], tell: Callable[[int, float, float], None] | None = None, **more: Any
) -> Path:
    """Train one model into a directory of its name, unless it is there; the directory.

    Raises
    ------
    BadInput
        `train: runs/xxs-0, a run of another recipe is there (skip); name another directory`
    """
    folder = Path(directory) / what.name
    r = recipe(what.size, what.seed, what.steps, scheme=what.scheme, learned=what.learned, **more)
    if (folder / "model.safetensors").exists():
        if other := _other(folder, r):
            rule = f"a run of another recipe is there ({', '.join(other)})"
            raise BadInput(message("train", str(folder), rule, "name another directory"))
        return folder
    model, losses = train(config(what.size), r, batches(what.seed), folder, tell=tell)
    facts = {"recipe": asdict(r), "world": WORLD, "batch": N_BATCH}
    write(folder, model, losses, facts, "F32" if what.scheme else "F16")  # levels times scales stay what they are
    for left in folder.glob("training.safetensors"):
        left.unlink()
    return folder


def _other(folder: Path, r: Recipe) -> list[str]:
    """In what the recipe of a run that is there differs."""
    try:
        made = json.loads((folder / "training.json").read_text("utf-8"))["recipe"]
    except (OSError, ValueError, KeyError, TypeError):
        return ["it does not say which"]
    asked = json.loads(json.dumps(asdict(r)))
    return [name for name, value in asked.items() if made.get(name) != value]


def write(folder: Path, model: Model, losses: NDArray[np.float32], facts: dict[str, Any], dtype: str = "F16") -> None:
    """A trained model with its words, how it was made, and its loss curve."""
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "tokenizer.json").write_text(json.dumps(_tokenizer()) + "\n", "utf-8")
    kind = {"tokenizer_class": "PreTrainedTokenizerFast", "unk_token": WORDS[-1], "model_max_length": N_SEQ}
    (folder / "tokenizer_config.json").write_text(json.dumps(kind) + "\n", "utf-8")
    (folder / "training.json").write_text(json.dumps(facts, indent=1) + "\n", "utf-8")
    with (folder / "curve.csv").open("w", encoding="utf-8", newline="") as file:
        rows = csv.writer(file, lineterminator="\n")
        rows.writerow(["step", "loss"])
        for begin in range(0, len(losses), CURVE):
            part = losses[begin : begin + CURVE]
            rows.writerow([begin + len(part), f"{part.mean(dtype=np.float64):.4f}"])
    save_model(model, folder, dtype)  # last: what has a model is whole


def _tokenizer() -> dict[str, Any]:
    """For the tokenizers library: a word is what stands between spaces."""
    return {
        "version": "1.0",
        "pre_tokenizer": {"type": "WhitespaceSplit"},
        "model": {"type": "WordLevel", "vocab": {word: i for i, word in enumerate(WORDS)}, "unk_token": WORDS[-1]},
        "added_tokens": [],
    }
