"""The models in `data/models`: runs of the family, whole, of use to the study, and what `transformers` says of them."""

import csv
import hashlib
import json
from pathlib import Path

import numpy as np
import pytest
from helpers.libraries import heavy

from kbit_ref.data import data_folder
from kbit_ref.transformer.evaluate import Choice, multiple_choice
from kbit_ref.transformer.family import SIZES, config, n_parameters, recipe, run_of
from kbit_ref.transformer.load import load_model
from kbit_ref.transformer.model import Model
from kbit_ref.transformer.train import Recipe
from kbit_ref.transformer.world import TASKS, World

FOLDERS = sorted(path for path in data_folder("models").iterdir() if path.is_dir())
SEED = 20  # of windows and questions that no training saw but by chance


@pytest.mark.parametrize("folder", FOLDERS, ids=lambda path: path.name)
def test_a_shipped_model_is_a_whole_run_of_the_family(folder: Path) -> None:
    run = run_of(folder.name)
    model = load_model(folder)
    assert model.config == config(run.size)
    assert model.n_parameters == n_parameters(run.size)
    facts = json.loads((folder / "training.json").read_text("utf-8"))
    made = Recipe(**{**facts["recipe"], "skip": tuple(facts["recipe"]["skip"])})
    assert made == recipe(run.size, run.seed, run.steps, scheme=run.scheme)
    rows = list(csv.DictReader((folder / "curve.csv").read_text("utf-8").splitlines()))
    assert int(rows[-1]["step"]) == run.steps
    assert float(rows[-1]["loss"]) < float(rows[0]["loss"])


def test_no_model_is_another_again() -> None:
    digests = {hashlib.sha256((folder / "model.safetensors").read_bytes()).hexdigest() for folder in FOLDERS}
    assert len(digests) == len(FOLDERS)


def test_no_size_sits_on_chance_or_ceiling() -> None:
    """16-bit accuracy of facts: at least chance + 10 points and at most ceiling - 5, for at least five sizes."""
    world, found = World(), {}
    for size in [size for size in SIZES if (data_folder("models") / f"{size}-0").exists()]:
        model = load_model(data_folder("models") / f"{size}-0")
        asked = [Choice(q.context, q.choices, q.gold) for q in world.questions("ask", 400, SEED)]
        found[size] = multiple_choice(model, asked)[0].accuracy
    assert sum(0.35 <= accuracy <= 0.95 for accuracy in found.values()) >= 5, found


def test_data_is_small() -> None:
    folder = data_folder("models").parent
    assert sum(path.stat().st_size for path in folder.rglob("*") if path.is_file()) < 60e6


@pytest.mark.heavy
@pytest.mark.filterwarnings("ignore")  # of the other library
@pytest.mark.parametrize("folder", FOLDERS, ids=lambda path: path.name)
def test_transformers_takes_the_same_word_for_the_likeliest(folder: Path) -> None:
    """On windows of every task, at every place; but for one where float64 says that float32 cannot tell.

    A float32 logit may be wrong by 2e-6 of the largest (`tests/test_transformer.py`).
    """
    torch, transformers = heavy("torch"), heavy("transformers")
    theirs = transformers.AutoModelForCausalLM.from_pretrained(folder, dtype=torch.float32).eval()
    world, ours = World(), load_model(folder)
    for i, task in enumerate(TASKS):
        tokens = world.of_task(task, 64, np.random.default_rng([SEED, i]))[:, :-1]
        with torch.no_grad():
            logits = theirs(torch.from_numpy(tokens.astype(np.int64))).logits.numpy()
        one, other = ours.forward(tokens).argmax(-1), logits.argmax(-1)
        apart = np.argwhere(one != other)
        assert len(apart) <= 1
        for place in map(tuple, apart):
            exact = Model(ours.config, {k: v.astype(np.float64) for k, v in ours.parameters.items()}).forward(tokens)
            margin = abs(exact[place][one[place]] - exact[place][other[place]])
            assert margin <= 2e-6 * np.abs(logits).max()
