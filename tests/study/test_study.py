"""The engine of the study: schemes, plans, exams, cells, results; runs that are killed, broken, spread out."""

import json
import math
import multiprocessing
import os
import random
import re
import shutil
import signal
import sqlite3
import subprocess
import sys
import threading
import time
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from safetensors.numpy import save_file

import kbit_ref as kb
import kbit_ref.study.run as running
from kbit_ref.cli import main
from kbit_ref.data import data_folder
from kbit_ref.study.evaluation import exam_of
from kbit_ref.study.kinds import KINDS, scheme_of, widths_of
from kbit_ref.study.measure import Rounding, measure
from kbit_ref.study.plan import Evaluation, Plan, parse_plan, read_plan
from kbit_ref.study.quick import difference, headlines, table
from kbit_ref.study.results import Results, facts_of, read, title_of
from kbit_ref.study.rows import Cell, Result
from kbit_ref.study.run import run
from kbit_ref.tensors.profiles import profiles
from kbit_ref.transformer import load_model
from kbit_ref.transformer.config import shapes
from kbit_ref.transformer.evaluate import log_probabilities, multiple_choice
from kbit_ref.transformer.families import FAMILIES, Facts
from kbit_ref.transformer.world import SHARES, TASKS, World

MODELS = data_folder("models")
TINY = Evaluation(windows=4, questions=6, calibration=4)
TEXT = """
title = "tiny"
models = ["*"]
[evaluation]
windows = 4
questions = 6
calibration = 4
[[sweep]]
kinds = ["int", "float"]
bits = [3, 4]
blocks = ["tensor", 64]
"""


@pytest.fixture
def models(tmp_path: Path) -> Path:
    """A directory with two small models."""
    for name in ("xxs-0", "xs-0"):
        shutil.copytree(MODELS / name, tmp_path / "models" / name)
    return tmp_path / "models"


@pytest.fixture
def plan(models: Path) -> Plan:
    """18 cells of two models."""
    return parse_plan(TEXT, models)


# Kinds -----------------------------------------------------------------------------------------


@pytest.mark.parametrize("kind", KINDS)
def test_every_width_of_a_kind_is_a_scheme_with_half_precision_scales(kind: str) -> None:
    x = np.random.default_rng(0).standard_normal((4, 64), np.float32)
    for bits in widths_of(kind):
        q = kb.quantize(x, scheme_of(kind, bits, 64))
        assert q.bits == 256 * bits + 4 * {"affine": 32, "hqq": 48}.get(kind, 16)
        assert q.scheme.dtype.bits == bits


def test_integers_are_the_papers() -> None:
    """Symmetric: 2**k - 1 levels."""
    for bits in range(2, 9):
        levels = scheme_of("int", bits, 64).dtype.levels
        emitted = np.unique(levels[scheme_of("int", bits, 64).dtype.emitted])
        assert emitted.tolist() == list(range(-(2 ** (bits - 1)) + 1, 2 ** (bits - 1)))


@pytest.mark.parametrize("name", ["ocp-mxfp4", "nvfp4-te", "ggml-q4_0", "ggml-q4_1", "ggml-q5_0", "ggml-q8_0"])
def test_a_format_gives_the_numbers_of_its_profile(name: str) -> None:
    """Where rows are whole blocks; and other shapes can be quantized as well."""
    x = np.random.default_rng(1).standard_normal((6, 64), np.float32)
    found = kb.quantize(x, scheme_of(name, widths_of(name)[0]))
    assert np.array_equal(kb.dequantize(found), kb.dequantize(kb.quantize(x, name)))
    assert found.bits == kb.quantize(x, name).bits
    odd = kb.quantize(x[:, :24], scheme_of(name, widths_of(name)[0]))
    assert odd.shape == (6, 24)


def test_blocks_of_a_scale_that_no_half_holds_are_taken() -> None:
    x = np.full((1, 64), 1e-12, np.float32)
    assert kb.quantize(x, scheme_of("int", 4, 64)).scales[0, 0] == np.float32(2**-24)
    with pytest.raises(kb.KbitError):
        kb.quantize(x, "int4sym-b64-absmax-f16")


# Plans -----------------------------------------------------------------------------------------


def test_a_plan_asks_every_combination_once_one_model_after_the_other(models: Path) -> None:
    text = (
        TEXT.replace('["*"]', '"*"')
        + """
[[sweep]]
kinds = ["float", "ocp-mxfp4"]
bits = [2, 4]
scopes = ["linear", "all"]
models = ["xs-*"]
"""
    )
    cells = parse_plan(text, models).cells()
    assert [cell.model for cell in cells] == ["xxs-0"] * 9 + ["xs-0"] * 13
    of_xxs = [(c.kind, c.bits, c.block) for c in cells[:9]]
    assert of_xxs[0] == ("none", 16, 0)
    assert of_xxs[1:] == [(kind, bits, block) for kind in ("int", "float") for bits in (3, 4) for block in (0, 64)]
    rest = {c for c in cells[9:] if c.scope == "linear" or c.kind == "ocp-mxfp4"}
    assert rest == {
        Cell("xs-0", scope="linear"),
        Cell("xs-0", "float", 4, 64, scope="linear"),
        Cell("xs-0", "ocp-mxfp4", 4, 0, scope="linear"),
        Cell("xs-0", "ocp-mxfp4", 4, 0),
    }
    assert len(set(cells)) == len(cells)


FAULTS = {
    "title = 3": "title = 3, it is a text",
    "modles = ['*']": "key = 'modles', there is no such name; did you mean models?",
    "models = []": "models = [], it is a list of texts, not empty",
    "models = ['none-*']": "models = 'none-*', there is no such directory with a config.json",
    "[evaluation]\nwindow = 'all'": "window = 'all', it is a whole number from 1",
    "[evaluation]\nwindows = 0": "windows = 0, it is a whole number from 1",
    "[evaluation]\nwindow = 0": "window = 0, it is a whole number from 1",
    "[evaluation]\nquestions = -1": "questions = -1, it is a whole number from 0",
    "[evaluation]\ntext = 'no.txt'": "text = 'no.txt', there is no such file",
    "[evaluation]\nwidnow = 3": "key = 'widnow', there is no such name; did you mean window",
    "[[sweep]]\nkind = ['int']": "key = 'kind', there is no such name; did you mean kinds?",
    "[[sweep]]\nbits = [4]": "kinds = [], it is a list of texts, not empty",
    "[[sweep]]\nkinds = ['itn']\nbits = [4]": "kind = 'itn', there is no such name; did you mean int",
    "[[sweep]]\nkinds = ['int']": "bits = [], it is a list of whole numbers, not empty",
    "[[sweep]]\nkinds = ['int']\nbits = [9]": "bits = [9], int has 2, 3, 4, 5, 6, 7, 8",
    "[[sweep]]\nkinds = ['int']\nbits = [true]": "bits = [True], it is a list of whole numbers",
    "[[sweep]]\nkinds = ['int']\nbits = [4]\nblocks = ['row']": "blocks = ['row'], it is a list of sizes, or 'tensor'",
    "[[sweep]]\nkinds = ['int']\nbits = [4]\nblocks = []": "blocks = [], it is a list of sizes",
    "[[sweep]]\nkinds = ['af']\nbits = [4]\nblocks = [48]": "af in blocks of 48, it has tables for 16, 32",
    "[[sweep]]\nkinds = ['int']\nbits = [4]\nmethods = ['gtpq']": "name = 'gtpq', there is no such name; did you mean",
    "[[sweep]]\nkinds = ['int']\nbits = [4]\nscopes = ['some']": "scope = 'some', there is no such name",
    "[[sweep]]\nkinds = ['int']\nbits = [4]\nactivations = ['int8']": "text = 'int8', it is a data type and no scheme",
    "[[sweep]]\nkinds = ['int']\nbits = [4]\nmodels = ['s-9']": "models = 's-9', no model of the plan has such a name",
    "[[sweep]": "it is no TOML",
    "sweep = 3": "sweep, a plan has [[sweep]] tables",
}


@pytest.mark.parametrize("fault", FAULTS, ids=range(len(FAULTS)))
def test_a_wrong_plan_is_told_in_a_line(fault: str, models: Path) -> None:
    text = {"models": "models = ['*']\n", "sweep": "\n[[sweep]]\nkinds = ['int']\nbits = [4]"}
    key = fault.split()[0].strip("[]")
    whole = text["models"] * (key != "models") + fault + text["sweep"] * (key != "sweep")
    with pytest.raises(kb.KbitError) as error:
        parse_plan(whole, models, "p.toml")
    assert FAULTS[fault] in str(error.value)
    assert "\n" not in str(error.value)


def test_two_models_of_one_name_are_refused_and_can_be_given_names(models: Path) -> None:
    shutil.copytree(models / "xs-0", models / "more" / "xs-0")
    with pytest.raises(kb.KbitError, match="two are called xs-0; give them names: models = "):
        parse_plan(TEXT.replace('["*"]', '["*", "more/*"]'), models)
    found = parse_plan(TEXT.replace('["*"]', '{ one = "xs-0", other = "more/*" }'), models)
    assert {name: found.folder(name) for name in ("one", "other")} == {
        "one": models / "xs-0",
        "other": models / "more" / "xs-0",
    }
    assert {cell.model for cell in found.cells()} == {"one", "other"}
    with pytest.raises(kb.KbitError, match="it is one model, and 2 fit; name one"):
        parse_plan(TEXT.replace('["*"]', '{ one = "*" }'), models)


@pytest.mark.parametrize("name", ["quick", "plan"])
def test_the_shipped_plans_can_be_read(name: str) -> None:
    found = read_plan(data_folder("study") / f"{name}.toml")
    assert found.cells()[0].kind == "none"
    for cell in found.cells():
        scheme_of(cell.kind, cell.bits, cell.block) if cell.kind != "none" else None


# Exams and cells -------------------------------------------------------------------------------


def test_an_exam_gives_what_the_evaluation_gives() -> None:
    """Shared beginnings are computed once there, and every sequence by itself here."""
    model = load_model(MODELS / "xs-0")
    exam = exam_of(TINY, MODELS / "xs-0", model.config)
    outcome = exam.judge(model)
    world = World(0)
    assert list(outcome.nats) == list(TASKS)
    assert exam.shares == SHARES
    for task, tokens in exam.windows.items():
        logits = np.concatenate([model.forward(row[None, :-1]) for row in tokens])
        assert outcome.nats[task] == pytest.approx(-log_probabilities(logits, tokens[:, 1:]).mean(1), rel=1e-5)
        assert exam.floors[task] == pytest.approx(-world.log_probabilities(tokens).mean(1), rel=1e-6)
        for i, question in enumerate(exam.questions[task]):
            scores, _ = multiple_choice(model, [question])
            assert (scores.right, scores.right_normed) == (outcome.right[task][i], outcome.normed[task][i])
    assert exam.chances == dict.fromkeys(TASKS, 0.25)
    assert exam.calibration.shape == (4, 33)


def test_a_cell_is_the_quantized_model_and_its_bits() -> None:
    """Against `Model.quantize`, whose products decode tile by tile."""
    model = load_model(MODELS / "xs-0")
    exam = exam_of(TINY, MODELS / "xs-0", model.config)
    matrices = {name: value for name, value in model.parameters.items() if value.ndim == 2}
    vectors = sum(value.size for value in model.parameters.values() if value.ndim == 1)
    for scope, skip in (("all", ()), ("linear", ("embed.weight", "positions.weight", "head.weight"))):
        found = measure(MODELS / "xs-0", TINY, Cell("xs-0", "nf", 4, 64, scope=scope))
        quantized = model.quantize("nf4-b64-absmax-f16", skip=skip)
        for task, nats in exam.judge(quantized).nats.items():
            assert np.array_equal(nats, found.nats[task])
        counted = [x.size for name, x in matrices.items() if name not in skip]
        bits = sum(8 * math.ceil(n / 2) + 16 * math.ceil(n / 64) for n in counted)
        assert found.total_bits == bits + (16 * vectors if scope == "all" else 0)
        assert found.n_counted == sum(counted) + (vectors if scope == "all" else 0)
        changed = {name: kb.dequantize(kb.quantize(x, "nf4-b64-absmax-f16")) for name, x in matrices.items()}
        lost = sum(
            float(((x - changed[name]).astype(float) ** 2).sum()) for name, x in matrices.items() if name not in skip
        )
        whole = sum(float((x.astype(float) ** 2).sum()) for name, x in matrices.items() if name not in skip)
        assert found.weight_error == pytest.approx(lost / whole)
        fourth = np.concatenate(
            [
                (x / np.sqrt((x.astype(float) ** 2).mean())).ravel() ** 4
                for name, x in matrices.items()
                if name not in skip
            ]
        )
        assert found.kurtosis == pytest.approx(fourth.mean())


def test_the_model_as_it_is_has_16_bits() -> None:
    model = load_model(MODELS / "xs-0")
    for scope, n in (("all", 22176), ("linear", 2 * 12 * 24 * 24)):
        found = measure(MODELS / "xs-0", TINY, Cell("xs-0", scope=scope))
        assert (found.total_bits, found.n_counted, found.bits_per_parameter) == (16 * n, n, 16.0)
        assert (found.weight_error, found.scheme) == (0.0, "")
    assert found.subject.tokens == 6000 * 64 * 32
    assert (found.subject.size, found.subject.seed) == ("xs", 0)
    exam = exam_of(TINY, MODELS / "xs-0", model.config)
    assert all(np.array_equal(found.nats[task], x) for task, x in exam.judge(model).nats.items())


def test_activations_are_rounded_as_well() -> None:
    rounding = "int4-channel-absmax-f32"
    model = load_model(MODELS / "xs-0")
    found = measure(MODELS / "xs-0", TINY, Cell("xs-0", "int", 4, 64, activations=rounding))
    exam = exam_of(TINY, MODELS / "xs-0", model.config)
    both = model.quantize("int4sym-b64-absmax-f16", skip=(), activations=rounding)
    assert all(np.array_equal(found.nats[task], x) for task, x in exam.judge(both).nats.items())
    assert found.loss > measure(MODELS / "xs-0", TINY, Cell("xs-0", "int", 4, 64)).loss
    assert Rounding(np.eye(2, dtype=np.float32), kb.scheme(rounding)).rows(np.array([1])).tolist() == [[0, 1]]


def test_a_method_takes_its_inputs_from_windows_that_are_not_judged() -> None:
    cell = Cell("xs-0", "int", 3, 64, "gptq", scope="linear")
    found = measure(MODELS / "xs-0", TINY, cell)
    nearest = measure(MODELS / "xs-0", TINY, replace(cell, method="nearest"))
    assert found.total_bits == nearest.total_bits
    assert found.weight_error > nearest.weight_error  # it errs more in weights, and less in what they do
    with pytest.raises(kb.KbitError, match="there are no windows to calibrate with"):
        measure(MODELS / "xs-0", replace(TINY, calibration=0), cell)


def test_a_difference_has_the_error_of_paired_windows() -> None:
    found = measure(MODELS / "xs-0", TINY, Cell("xs-0", "int", 4, 64))
    same = replace(found, nats={task: x + np.float32(0.5) for task, x in found.nats.items()})
    assert difference(same, found) == pytest.approx((0.5, 0.0), abs=1e-6)
    spread = {"text": [1.0, 3.0], "translate": [0.0, 0.0], "ask": [2.0, 2.0]}
    a = replace(found, nats={task: np.array(x, np.float32) for task, x in spread.items()})
    b = replace(found, nats={task: np.zeros(2, np.float32) for task in spread})
    assert difference(a, b) == pytest.approx((0.2 * 2 + 0.6 * 2, 0.2 * math.sqrt(2 / 2)))


# Results ---------------------------------------------------------------------------------------


def same(a: Result, b: Result) -> bool:
    """Everything but the time."""
    for part in ("cell", "subject", "scheme", "total_bits", "chances", "shares", "weight_error", "kurtosis", "facts"):
        assert getattr(a, part) == getattr(b, part), part
    for part in ("nats", "right", "normed", "floors"):
        x, y = getattr(a, part), getattr(b, part)
        assert list(x) == list(y)
        assert all(np.array_equal(x[name], y[name]) and x[name].dtype == y[name].dtype for name in x), part
    return True


def test_results_are_read_as_they_were_written(plan: Plan, tmp_path: Path) -> None:
    found = [measure(plan.folder(c.model), plan.evaluation, c) for c in plan.cells()[:3]]
    with Results(tmp_path / "r.sqlite", plan) as results:
        for result in found:
            results.add(result)
            results.add(result)  # once more changes nothing
        assert results.done() == {result.cell for result in found}
    assert all(same(a, b) for a, b in zip(read(tmp_path / "r.sqlite"), found, strict=True))
    assert title_of(tmp_path / "r.sqlite") == "tiny"
    facts = facts_of(tmp_path / "r.sqlite")
    assert (facts["schema"], facts["plan"]) == ("1", TEXT)
    assert json.loads(facts["evaluation"])["windows"] == 4
    row = sqlite3.connect(tmp_path / "r.sqlite").execute("SELECT loss, excess, accuracy FROM cells WHERE bits = 16")
    assert row.fetchone() == (found[0].loss, found[0].excess, found[0].accuracy)


def test_a_file_that_fits_not_is_told_in_a_line(plan: Plan, models: Path, tmp_path: Path) -> None:
    path = tmp_path / "r.sqlite"
    result = measure(plan.folder("xxs-0"), plan.evaluation, plan.cells()[0])
    with Results(path, plan) as results:
        results.add(result)
        other = replace(result, subject=replace(result.subject, digest="0"), cell=replace(result.cell, scope="linear"))
        with pytest.raises(kb.KbitError, match="xxs-0, it is another model than that of earlier cells"):
            results.add(other)
    with pytest.raises(kb.KbitError, match="its cells were judged in another way"):
        Results(path, parse_plan(TEXT.replace("windows = 4", "windows = 5"), models))
    with Results(path, parse_plan(TEXT.replace("bits = [3, 4]", "bits = [5]"), models)) as results:
        assert len(results.done()) == 1  # more cells are welcome
    base = sqlite3.connect(path)
    base.execute("ALTER TABLE cells RENAME COLUMN nats TO natts")
    base.commit()
    with pytest.raises(kb.KbitError, match="its cells have no column nats"):
        Results(path, plan)
    base.execute("UPDATE facts SET value = '7' WHERE name = 'schema'")
    base.commit()
    base.close()
    (tmp_path / "text.sqlite").write_text("some text that is long enough to be a header" * 9)
    (tmp_path / "other.sqlite").unlink(missing_ok=True)
    foreign = sqlite3.connect(tmp_path / "other.sqlite")
    foreign.execute("CREATE TABLE birds (name)")
    foreign.commit()
    foreign.close()
    for name, words in (
        ("r", "it has schema 7 and this version reads 1; use the version that wrote it"),
        ("text", "file is not a database"),
        ("other", "it holds no results of a study"),
        ("none", "there is no such file; run the study first"),
    ):
        with pytest.raises(kb.KbitError, match=words):
            read(tmp_path / f"{name}.sqlite")
        if name != "none":
            with pytest.raises(kb.KbitError, match=words):
                Results(tmp_path / f"{name}.sqlite", plan)
    assert not (tmp_path / "none.sqlite").exists()


def test_a_full_disk_loses_nothing(plan: Plan, tmp_path: Path) -> None:
    path = tmp_path / "r.sqlite"
    first = measure(plan.folder("xxs-0"), plan.evaluation, plan.cells()[0])
    long = {task: np.arange(300, dtype=np.float32) for task in TASKS}
    found = [replace(first, cell=cell, nats=long, floors=long) for cell in plan.cells()[:9]]
    with Results(path, plan) as results:
        results.add(found[0])
        pages = results.base.execute("PRAGMA page_count").fetchone()[0]
        results.base.execute(f"PRAGMA max_page_count = {pages}")
        with pytest.raises(kb.KbitError, match="database or disk is full; what was finished before is kept"):
            all(results.add(result) is None for result in found[1:])
        kept = results.done()
        assert 1 <= len(kept) < 9
        assert {r.cell for r in read(path)} == kept
        results.base.execute(f"PRAGMA max_page_count = {pages + 99}")
        for result in found:
            results.add(result)
    assert [r.cell for r in read(path)] == [r.cell for r in found]


def test_what_another_process_adds_in_between_counts(plan: Plan, tmp_path: Path) -> None:
    """It is at work on a model of the same name when we ask whether there is one: we wait, and then refuse."""
    ours = measure(plan.folder("xxs-0"), plan.evaluation, plan.cells()[0])
    theirs = replace(ours, subject=replace(ours.subject, digest="0"), cell=plan.cells()[1])
    refused: list[str] = []
    opened, held = threading.Event(), threading.Event()

    def add() -> None:
        with Results(tmp_path / "r.sqlite", plan) as mine:
            opened.set()
            held.wait(20)
            try:
                mine.add(ours)
            except kb.KbitError as error:
                refused.append(str(error))

    with Results(tmp_path / "other.sqlite", plan) as made:
        made.add(theirs)
        row = made.base.execute("SELECT * FROM cells").fetchone()
    worker = threading.Thread(target=add)
    with Results(tmp_path / "r.sqlite", plan) as other:
        worker.start()
        opened.wait(20)
        other.base.execute("BEGIN IMMEDIATE")
        other.base.execute(f"INSERT INTO cells VALUES ({', '.join('?' * len(row))})", row)
        held.set()
        time.sleep(0.3)  # in which the other thread asks
        other.base.execute("COMMIT")
        worker.join(20)
    assert len(refused) == 1
    assert "it is another model than that of earlier cells" in refused[0]
    assert digests(tmp_path / "r.sqlite") == {"0"}


def digests(path: Path) -> set[str]:
    """Of the models in a file."""
    base = sqlite3.connect(path)
    found = {row[0] for row in base.execute("SELECT digest FROM cells")}
    base.close()
    return found


def test_numbers_that_are_none_are_read_as_nan(plan: Plan, tmp_path: Path) -> None:
    """SQLite has no NaN; None would be an error wherever it is counted with."""
    result = replace(measure(plan.folder("xxs-0"), plan.evaluation, plan.cells()[1]), weight_error=math.nan)
    with Results(tmp_path / "r.sqlite", plan) as results:
        results.add(result)
    assert math.isnan(read(tmp_path / "r.sqlite")[0].weight_error)


@pytest.mark.parametrize(
    ("change", "words"),
    [
        ("nats = substr(nats, 1, 40)", "10 numbers for 12 items"),
        ("nats = substr(nats, 1, 41)", "buffer size"),
        ('"right" = substr("right", 1, 2)', "2 bytes for 18 answers"),
        ("facts = 'no'", "JSONDecodeError"),
        ("evaluation = 'none'", "KeyError"),
    ],
)
def test_a_damaged_row_is_told_in_a_line(change: str, words: str, plan: Plan, tmp_path: Path) -> None:
    """Short arrays were read as they were, and missing answers as wrong ones."""
    path = tmp_path / "r.sqlite"
    with Results(path, plan) as results:
        results.add(measure(plan.folder("xxs-0"), plan.evaluation, plan.cells()[0]))
    base = sqlite3.connect(path)
    base.execute(f"UPDATE cells SET {change}")
    base.commit()
    base.close()
    with pytest.raises(kb.KbitError, match="a row of it is damaged") as error:
        read(path)
    assert words in str(error.value)
    assert "\n" not in str(error.value)


def test_a_file_that_another_process_holds_is_told_in_a_line(plan: Plan, tmp_path: Path) -> None:
    path = tmp_path / "r.sqlite"
    with Results(path, plan) as results:
        other = sqlite3.connect(path, isolation_level=None)
        other.execute("BEGIN EXCLUSIVE")
        results.base.execute("PRAGMA busy_timeout = 1")
        with pytest.raises(kb.KbitError, match="database is locked"):
            results.done()
        other.close()
        assert results.done() == set()


# Runs ------------------------------------------------------------------------------------------


def test_two_workers_give_what_one_gives_though_one_is_killed(plan: Plan, tmp_path: Path) -> None:
    """What the killed one was at is measured again, and nothing else is: cells are told once."""
    told: list[tuple[int, int]] = []
    killed: list[int] = []

    def tell(done: int, all_: int, title: str) -> None:
        told.append((done, all_))
        if done == 3:
            victim = next(iter(multiprocessing.active_children())).pid
            assert victim is not None
            os.kill(victim, signal.SIGKILL)
            killed.append(victim)

    assert run(plan, tmp_path / "one.sqlite", 1) == 18
    assert run(plan, tmp_path / "two.sqlite", 2, tell=tell) == 18
    assert killed
    assert told == [(i, 18) for i in range(1, 19)]
    assert run(plan, tmp_path / "two.sqlite", 2) == 0
    one, two = ({r.cell: r for r in read(tmp_path / f"{n}.sqlite")} for n in ("one", "two"))
    assert set(one) == set(two) == set(plan.cells())
    assert all(same(one[cell], two[cell]) for cell in one)


def test_a_killed_run_loses_nothing_and_repeats_nothing(models: Path, tmp_path: Path) -> None:
    """kill -9 of the command while it runs, twice; its workers end as well."""
    long = TEXT.replace("[3, 4]", "[3, 4, 5, 6, 7, 8]").replace('"tensor", 64', '"tensor", 16, 32, 64, 128, 256')
    (models / "plan.toml").write_text(long)
    cells = set(read_plan(models / "plan.toml").cells())
    path = tmp_path / "r.sqlite"
    command = [sys.executable, "-m", "kbit_ref", "study", "run", str(models / "plan.toml"), "-o", str(path)]
    before: dict[Cell, float] = {}
    chance = random.Random(5)
    for workers in ("1", "2"):
        process = subprocess.Popen([*command, "--workers", workers], start_new_session=True)
        until = time.monotonic() + 60
        while len(_finished(path)) == len(before) and time.monotonic() < until:
            time.sleep(0.02)
        time.sleep(chance.random() * 0.05)
        process.kill()
        process.wait()
        _group_ends(process.pid)
        now = _finished(path)
        assert before.items() <= now.items()  # `seconds` of a row would change if it were measured again
        assert len(before) < len(now)
        before = now
    assert len(before) < len(cells), "it was too fast to be killed midway"
    command += ["--workers", "1"]
    assert subprocess.run(command, check=True, capture_output=True, text=True).stdout.strip() == str(path)
    assert before.items() <= _finished(path).items()
    assert set(_finished(path)) == cells


def _finished(path: Path) -> dict[Cell, float]:
    """What another process has written so far."""
    try:
        return {r.cell: r.seconds for r in read(path)}
    except kb.KbitError:
        return {}


def _group_ends(group: int) -> None:
    """Every process of a session ends by itself."""
    until = time.monotonic() + 20
    while time.monotonic() < until:
        try:
            os.killpg(group, 0)
        except ProcessLookupError:
            return
        time.sleep(0.02)
    os.killpg(group, signal.SIGKILL)
    pytest.fail("processes were left behind")


def test_a_model_that_vanishes_is_told_and_the_others_go_on(plan: Plan, models: Path, tmp_path: Path) -> None:
    hidden = tmp_path / "hidden"

    def tell(done: int, all_: int, title: str) -> None:
        if not hidden.exists():
            (models / "xs-0").rename(hidden)

    with pytest.raises(
        kb.KbitError, match=r"9 of 18 cells, the first xs-0, load_model: .*there is no such file"
    ) as error:
        run(plan, tmp_path / "r.sqlite", 1, tell=tell)
    assert "\n" not in str(error.value)
    assert {r.cell for r in read(tmp_path / "r.sqlite")} == set(plan.cells()[:9])


def test_a_model_that_was_replaced_is_not_taken_for_the_one_that_was_measured(models: Path, tmp_path: Path) -> None:
    plan = parse_plan(TEXT.replace("bits = [3, 4]", "bits = [8]"), models)
    n = run(plan, tmp_path / "r.sqlite", 1)
    assert (n, run(plan, tmp_path / "r.sqlite", 1)) == (len(plan.cells()), 0)
    shutil.copy(models / "xs-0" / "curve.csv", models / "xxs-0" / "curve.csv")
    assert run(plan, tmp_path / "r.sqlite", 1) == 0  # its weights are the same
    shutil.copytree(models / "xs-0", models / "xxs-0", dirs_exist_ok=True)
    with pytest.raises(kb.KbitError, match="xxs-0, it is another model than that of earlier cells; use a new file"):
        run(plan, tmp_path / "r.sqlite", 1)


@pytest.mark.filterwarnings("default")  # of a library's own threads and sockets
def test_whatever_is_wrong_with_a_cell_the_others_go_on(plan: Plan, monkeypatch: pytest.MonkeyPatch) -> None:
    """An error that nobody foresaw, in a worker of this process."""

    def measured(folder: str, evaluation: Evaluation, cell: Cell) -> Result:
        if cell.bits == 4:
            raise np.linalg.LinAlgError("singular\nmatrix")
        return measure(folder, evaluation, cell)

    monkeypatch.setattr(running, "measure", measured)
    name = next(iter(plan.models))
    cells = [Cell(name), Cell(name, "int", 4, 64), Cell(name, "int", 8, 64)]
    with ThreadPoolExecutor(1) as pool:
        found = dict(running._measured(pool, plan, cells, 2))
    assert found[cells[1]] == "LinAlgError: singular"
    assert [isinstance(found[cell], Result) for cell in cells] == [True, False, True]


def test_a_dask_cluster_that_loses_a_worker_loses_nothing(plan: Plan, tmp_path: Path) -> None:
    distributed = pytest.importorskip("distributed")
    with distributed.LocalCluster(
        n_workers=2, threads_per_worker=1, processes=True, dashboard_address=None, silence_logs=50
    ) as cluster:
        killed: list[int] = []

        def tell(done: int, all_: int, title: str) -> None:
            if done == 4:
                victim = cluster.workers[0].pid
                os.kill(victim, signal.SIGKILL)
                killed.append(victim)

        assert run(plan, tmp_path / "r.sqlite", dask=cluster.scheduler_address, tell=tell) == 18
        assert killed
    found = {r.cell: r for r in read(tmp_path / "r.sqlite")}
    assert set(found) == set(plan.cells())
    cell = plan.cells()[-1]
    assert found[cell].loss == pytest.approx(measure(plan.folder(cell.model), plan.evaluation, cell).loss, rel=1e-6)


def test_a_scheduler_that_is_not_there(plan: Plan, tmp_path: Path) -> None:
    pytest.importorskip("distributed")
    with pytest.raises(kb.KbitError, match="no scheduler answers there"):
        run(plan, tmp_path / "r.sqlite", dask="nonsense")


# Any model -------------------------------------------------------------------------------------

WORDS = ("the", "cat", "dog", "sees", "hears", "a", "small", "bird", "and", "then", "it", "sleeps")


def llama(folder: Path) -> None:
    """A random model of another family, with words of its own."""
    config = {
        "model_type": "llama",
        "vocab_size": len(WORDS),
        "hidden_size": 32,
        "intermediate_size": 48,
        "num_hidden_layers": 2,
        "num_attention_heads": 4,
        "num_key_value_heads": 2,
        "max_position_embeddings": 64,
        "rms_norm_eps": 1e-5,
        "tie_word_embeddings": False,
        "hidden_act": "silu",
    }
    folder.mkdir(parents=True)
    (folder / "config.json").write_text(json.dumps(config))
    vocab = {word: i for i, word in enumerate(WORDS)}
    tokenizer = {"pre_tokenizer": {"type": "WhitespaceSplit"}, "model": {"type": "WordLevel", "vocab": vocab}}
    (folder / "tokenizer.json").write_text(json.dumps(tokenizer))
    random_ = np.random.default_rng(0)
    family = FAMILIES["llama"]
    found = family.config(Facts(config, "config.json"))
    tensors = {
        family.tensor(name): random_.standard_normal(shape).astype(np.float32) * 0.3
        for name, shape in shapes(found).items()
    }
    save_file(
        {f"model.{name}" if "lm_head" not in name else name: x for name, x in tensors.items()},
        folder / "model.safetensors",
    )


def test_any_model_and_text_run_through_the_same_plan(tmp_path: Path) -> None:
    llama(tmp_path / "tiny-llama")
    shutil.copytree(MODELS / "xxs-0", tmp_path / "xxs-0")
    random_ = random.Random(0)
    (tmp_path / "text.txt").write_text(" ".join(random_.choice(WORDS) for _ in range(300)))
    rows = [{"context": "the cat", "choices": [" sees", " hears", " sleeps"], "gold": 1, "task": "verbs"}]
    (tmp_path / "tasks.jsonl").write_text("\n".join(map(json.dumps, rows * 3)))
    text = """
models = ["tiny-*"]
[evaluation]
text = "text.txt"
tasks = "tasks.jsonl"
windows = 6
window = 16
questions = 2
calibration = 3
[[sweep]]
kinds = ["int", "ggml-q4_0"]
bits = [4]
scopes = ["all", "linear"]
methods = ["nearest", "gptq"]
"""
    plan = parse_plan(text, tmp_path)
    run(plan, tmp_path / "r.sqlite")
    found = {r.cell: r for r in read(tmp_path / "r.sqlite")}
    assert set(found) == set(plan.cells())
    r = found[Cell("tiny-llama", "int", 4, 64, scope="linear")]
    assert {name: x.shape for name, x in r.nats.items()} == {"text": (6,)}
    assert {name: x.shape for name, x in r.right.items()} == {"verbs": (2,)}
    assert r.chances == {"verbs": pytest.approx(1 / 3)}
    assert (r.excess, r.floors, r.subject.size, r.subject.seed) == (None, {}, "tiny-llama", None)
    model = load_model(tmp_path / "tiny-llama")
    tokens = np.array([WORDS.index(word) for word in (tmp_path / "text.txt").read_text().split()])
    whole = found[Cell("tiny-llama")]
    for i in range(6):
        window = tokens[16 * i : 16 * i + 17]
        expected = -log_probabilities(model.forward(window[None, :-1]), window[None, 1:]).mean()
        assert whole.nats["text"][i] == pytest.approx(expected, rel=1e-5)
    later = replace(r, cell=replace(r.cell, bits=5), facts={**r.facts, "evaluation": "other"})
    with Results(tmp_path / "r.sqlite", plan) as results:
        with pytest.raises(kb.KbitError, match="tiny-llama, its text or its questions are not those of earlier cells"):
            results.add(later)
        assert len(results.done()) == len(plan.cells())
    words = (tmp_path / "text.txt").read_text()
    (tmp_path / "text.txt").write_text(words.replace("cat", "dog", 1))  # under the same name
    with pytest.raises(kb.KbitError, match="its cells were judged in another way"):
        Results(tmp_path / "r.sqlite", plan)
    (tmp_path / "text.txt").write_text(words)
    Results(tmp_path / "r.sqlite", plan).base.close()
    wrong = parse_plan(text.replace("tiny-*", "xxs-*"), tmp_path)
    with pytest.raises(kb.KbitError, match=r"tokenizer: word = '.*', there is no such name"):
        measure(tmp_path / "xxs-0", wrong.evaluation, Cell("xxs-0"))
    with pytest.raises(kb.KbitError, match="the world has 288 words and windows of 32; name a text in the plan"):
        measure(tmp_path / "tiny-llama", TINY, Cell("tiny-llama"))


# The command -----------------------------------------------------------------------------------


def test_the_command_runs_a_plan_and_tells_faults_in_a_line(models: Path, tmp_path: Path, capsys: Any) -> None:
    (models / "plan.toml").write_text(TEXT.replace('["int", "float"]', '["int"]').replace("[3, 4]", "[4]"))
    output = str(tmp_path / "r.sqlite")
    arguments = ["study", "run", str(models / "plan.toml"), "-o", output, "--workers", "1", "--json"]
    assert main(arguments) == 0
    told = capsys.readouterr()
    assert json.loads(told.out)["measured"] == 6
    assert re.fullmatch(r"6 cells measured, 0 were there, \d+ s", told.err.splitlines()[-1])
    assert main(arguments[:-1]) == 0
    told = capsys.readouterr()
    assert told.out == f"{output}\n"
    assert re.fullmatch(r"0 cells measured, 6 were there, \d+ s\n", told.err)
    (models / "bad.toml").write_text(TEXT.replace("bits", "bitts"))
    for words, arguments in (
        ("key = 'bitts', there is no such name; did you mean bits", ["run", str(models / "bad.toml"), "-o", output]),
        ("none.toml, it cannot be read", ["run", str(models / "none.toml"), "-o", output]),
        ("workers = -1, it is at least 1", ["run", str(models / "plan.toml"), "-o", output, "--workers", "-1"]),
        ("workers = 0, it is at least 1", ["run", str(models / "plan.toml"), "-o", output, "--workers", "0"]),
        ("workers = 0, it is at least 1", ["quick", "--workers", "0"]),
        ("r.sqlite, there is no directory ", ["run", str(models / "plan.toml"), "-o", f"{tmp_path}/no/r.sqlite"]),
        ("it is a directory; name a file", ["quick", "-o", str(tmp_path)]),
        (f"-o {output}, there is a file of that name", ["report", output, "-o", output]),
    ):
        assert main(["study", *arguments]) == 2
        told = capsys.readouterr().err
        assert told.startswith("kbit-ref study: ")
        assert words in told
        assert told.count("\n") == 1


def test_the_quick_table_and_what_it_says() -> None:
    """By hand: two models, three widths."""
    base = measure(MODELS / "xs-0", TINY, Cell("xs-0", "int", 4, 64))

    def result(model: str, kind: str, bits: int, total: int, loss: float) -> Result:
        nats = {task: np.array([loss, loss + 1e-3], np.float32) for task in SHARES}
        floors = {task: np.zeros(2, np.float32) for task in SHARES}
        cell = Cell(model, kind, bits, 64)
        return replace(base, cell=cell, total_bits=total, nats=nats, floors=floors, subject=base.subject)

    found = [
        result("a", "int", 3, 300, 4.0),
        result("a", "int", 4, 400, 3.0),
        result("a", "float", 4, 400, 3.5),
        result("b", "int", 3, 1200, 2.0),
        result("b", "int", 4, 1600, 1.0),
    ]
    rows = table(found)
    assert [(row["model"], row["bits"], row["Mbit"]) for row in rows] == [
        ("a", 4, 0.0004),
        ("a", 3, 0.0003),
        ("b", 4, 0.0016),
        ("b", 3, 0.0012),
    ]
    assert [rows[0][kind] for kind in ("int", "float")] == pytest.approx([3.0005, 3.5005])
    assert rows[1]["float"] is None
    first = headlines(found)[0]
    at = 4.0 + math.log(400 / 300) / math.log(4) * (2.0 - 4.0)  # between 300 and 1200 bits
    assert f"3: {at + 5e-4:.3f}, 4: 3.000" in first.replace("3.001", "3.000")
    assert "The best of 3 bits (int) loses 1.000 nats more, standard error 0.000." in first
    assert "the best measured" not in headlines(found)[1]  # its 4 bits are at the end of the line of 3 bits


def test_every_profile_is_a_kind() -> None:
    assert {name: widths_of(name) for name in profiles()}.keys() == profiles().keys()
    assert str(scheme_of("int+center=tensor", 4, 64)) == "int4sym-b64-absmax-f16+center=tensor+scalerange=clamp"
    assert scheme_of("ocp-mxfp4+center=tensor", 4)["center"] == "tensor"
    with pytest.raises(kb.KbitError, match="float of 2 bits, float has 3, 4, 5, 6, 7, 8"):
        scheme_of("float", 2, 64)
    with pytest.raises(kb.KbitError, match="ocp-mxfp4 in blocks of 64, it has a block of its own"):
        scheme_of("ocp-mxfp4", 4, 64)
