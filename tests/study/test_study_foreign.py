"""The study on models that are not ours: families made with transformers, a tokenizer of their own, a text, questions.

The weights are random and large, so that few bits do harm; nothing is trained.
"""

import importlib
import json
import math
import os
import shutil
from collections.abc import Iterator
from dataclasses import replace
from functools import cache, partial
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from helpers.libraries import heavy

import kbit_ref as kb
from kbit_ref.cli import main
from kbit_ref.study import gathered
from kbit_ref.study.choose import Limit, choose
from kbit_ref.study.curves import curves
from kbit_ref.study.families import families, guessing, named
from kbit_ref.study.findings import findings
from kbit_ref.study.measure import measure
from kbit_ref.study.plan import Evaluation, name_of, parse_plan
from kbit_ref.study.report import report
from kbit_ref.study.results import read
from kbit_ref.study.rows import Cell
from kbit_ref.transformer.tokens import Bytes, load_tokenizer

pytestmark = [pytest.mark.heavy, pytest.mark.filterwarnings("ignore")]  # of the other libraries

SIZES = {"pythia-16": (16, 2, 2), "pythia-32": (32, 2, 2), "pythia-48": (48, 3, 3)}
N_WORDS = 320
N_POSITIONS = 32
PLAN = """
title = "Not ours"
models = ["pythia-*"]
[evaluation]
text = "text.txt"
tasks = "tasks.jsonl"
windows = 12
questions = 30
calibration = 4
[[sweep]]
kinds = ["int", "quantile"]
bits = [3, 4, 8]
[[sweep]]
kinds = ["int"]
bits = [4]
blocks = ["tensor"]
scopes = ["all", "linear"]
methods = ["nearest", "gptq"]
"""


def text_of_python() -> str:
    """Real words: the docstrings of some modules of the standard library."""
    names = "argparse decimal fractions logging statistics string tarfile textwrap unittest.mock"
    modules = [importlib.import_module(name) for name in names.split()]
    found = [module.__doc__ or "" for module in modules]
    for module in modules:
        found += [value.__doc__ for value in vars(module).values() if isinstance(value, type) and value.__doc__]
    return "\n\n".join(found)


def tokenizer_of(text: str, n_words: int) -> Any:
    """Byte-level BPE, trained on the text."""
    tokenizers = heavy("tokenizers")
    found = tokenizers.Tokenizer(tokenizers.models.BPE())
    found.pre_tokenizer = tokenizers.pre_tokenizers.ByteLevel(add_prefix_space=False)
    found.decoder = tokenizers.decoders.ByteLevel()
    alphabet = tokenizers.pre_tokenizers.ByteLevel.alphabet()
    trainer = tokenizers.trainers.BpeTrainer(vocab_size=n_words, initial_alphabet=alphabet, special_tokens=["<end>"])
    found.train_from_iterator([text], trainer)
    return found


def random_model(kind: str, d: int, n_layer: int, n_head: int, n_words: int = N_WORDS, **more: Any) -> Any:
    """One of transformers' own, `GPTNeoX` or `Llama`."""
    transformers = heavy("transformers")
    config = getattr(transformers, f"{kind}Config")(
        vocab_size=n_words,
        hidden_size=d,
        num_hidden_layers=n_layer,
        num_attention_heads=n_head,
        max_position_embeddings=N_POSITIONS,
        initializer_range=0.2,
        tie_word_embeddings=False,
        **more,
    )
    return getattr(transformers, f"{kind}ForCausalLM")(config)


def neox(d: int, n_layer: int, n_head: int) -> Any:
    return random_model("GPTNeoX", d, n_layer, n_head, intermediate_size=4 * d)


def llama(d: int, n_layer: int, n_head: int, n_words: int = N_WORDS) -> Any:
    grouped = {"num_key_value_heads": n_head // 2}
    return random_model("Llama", d, n_layer, n_head, n_words, intermediate_size=2 * d, **grouped)


def saved(model: Any, tokenizer: Any, folder: Path, **more: Any) -> Path:
    """As a user would save it."""
    model.save_pretrained(folder, **more)
    theirs = heavy("transformers").PreTrainedTokenizerFast(tokenizer_object=tokenizer, eos_token="<end>")
    theirs.save_pretrained(folder)
    return folder


@pytest.fixture(scope="module")
def home(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Three sizes of Pythia's architecture, one in shards, two of Llama's, a text, questions, and the results."""
    folder = tmp_path_factory.mktemp("foreign")
    heavy("torch").manual_seed(0)
    text = text_of_python()
    tokenizer = tokenizer_of(text, N_WORDS)
    for name, size in SIZES.items():
        more = {"max_shard_size": "100KB"} if name == "pythia-48" else {}
        saved(neox(*size), tokenizer, folder / name, **more)
    assert not (folder / "pythia-48" / "model.safetensors").exists()
    saved(llama(16, 2, 2), tokenizer, folder / "tiny-llama-1")
    saved(llama(16, 2, 2, N_WORDS + 64), tokenizer_of(text, N_WORDS + 64), folder / "tiny-llama-2")
    (folder / "text.txt").write_text(text, "utf-8")
    words = text.split()
    asked = [(" ".join(words[i : i + 3]), f" {words[i + 3]}", f" {words[i + 7]}") for i in range(len(words) - 8)]
    short = [one for one in asked if len("".join(one)) < N_POSITIONS and one[1] != one[2]]  # a token is a byte or more
    rows = [
        {
            "context": context,
            "choices": choices,
            "gold": i // 2 % 2,
            "task": "words" if i % 2 else "more words",
        }
        for i, (context, *choices) in enumerate(short[:40])
    ]
    (folder / "tasks.jsonl").write_text("\n".join(map(json.dumps, rows)), "utf-8")
    (folder / "plan.toml").write_text(PLAN, "utf-8")
    run(folder, "plan.toml", "r.sqlite")
    return folder


def as_it_is(folder: Path, text: Path, name: str = "") -> Any:
    """The model as it is, on a text."""
    return measure(folder, Evaluation(windows=4, questions=0, text=str(text)), Cell(name or folder.name))


def run(home: Path, plan: str, results: str) -> None:
    assert main(["study", "run", str(home / plan), "-o", str(home / results), "--workers", "1"]) == 0


def told(home: Path, capsys: pytest.CaptureFixture[str], *words: str) -> tuple[int, str, str]:
    """Exit code and what is printed."""
    code = main(list(words))
    printed = capsys.readouterr()
    return code, printed.out, printed.err


@pytest.fixture(autouse=True, scope="module")
def distortion_once() -> Iterator[None]:
    """All types on all sources are the same in every report: they are computed once."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(gathered, "table", cache(gathered.table))
        yield


# Plan, results ---------------------------------------------------------------------------------


def test_every_cell_is_that_of_transformers(home: Path) -> None:
    """The loss of each window and the answer to each question, as transformers computes them."""
    torch, transformers = heavy("torch"), heavy("transformers")
    found = {row.cell: row for row in read(home / "r.sqlite")}
    assert set(found) == set(parse_plan(PLAN, home).cells())
    assert len(found) == 3 * (2 + 6 + 4)
    for name in SIZES:
        row = found[Cell(name)]
        model = transformers.AutoModelForCausalLM.from_pretrained(home / name)
        tokenizer = transformers.AutoTokenizer.from_pretrained(home / name)
        ids = torch.tensor(tokenizer((home / "text.txt").read_text("utf-8"))["input_ids"])
        windows = torch.stack([ids[i * N_POSITIONS : (i + 1) * N_POSITIONS + 1] for i in range(12)])
        with torch.no_grad():
            log_p = model(windows[:, :-1]).logits.double().log_softmax(-1)
        expected = -log_p.gather(-1, windows[:, 1:, None])[..., 0].mean(1).numpy()
        assert row.nats["text"] == pytest.approx(expected, rel=1e-4)
        assert row.subject.n_parameters == sum(p.numel() for p in model.parameters())
        assert row.total_bits == 16 * row.subject.n_parameters
        assert {task: len(x) for task, x in row.right.items()} == {"more words": 20, "words": 20}
        assert (row.excess, row.subject.size, row.subject.seed, row.facts["family"]) == (None, name, None, "gpt_neox")
        lines = [json.loads(line) for line in (home / "tasks.jsonl").read_text("utf-8").splitlines()]
        asked = [line for line in lines if line["task"] == "words"]
        for line, right in zip(asked, row.right["words"], strict=True):
            before = tokenizer(line["context"])["input_ids"]
            sums = []
            for choice in line["choices"]:
                whole = tokenizer(line["context"] + choice)["input_ids"]
                assert whole[: len(before)] == before
                assert len(whole) <= N_POSITIONS
                ids = torch.tensor([whole])
                with torch.no_grad():
                    log_p = model(ids[:, :-1]).logits.double().log_softmax(-1)
                sums.append(float(log_p.gather(-1, ids[:, 1:, None])[0, len(before) - 1 :, 0].sum()))
            assert abs(sums[0] - sums[1]) > 1e-3
            assert right == (sums[line["gold"]] > sums[1 - line["gold"]])


def test_quantized_cells_count_and_harm_as_they_should(home: Path) -> None:
    found = {row.cell: row for row in read(home / "r.sqlite")}
    for name in SIZES:
        row = found[Cell(name, "int", 4, 64)]
        shapes = [x.shape for x in kb.load_model(home / name).parameters.values()]
        matrices = [math.prod(shape) for shape in shapes if len(shape) == 2]
        vectors = sum(math.prod(shape) for shape in shapes) - sum(matrices)
        assert row.total_bits == sum(4 * n + 16 * -(-n // 64) for n in matrices) + 16 * vectors
        of = {bits: found[Cell(name, "int", bits, 64)] for bits in (3, 4, 8)}
        assert of[3].weight_error > 9 * of[4].weight_error / 4 > of[8].weight_error > 0
        change = {bits: np.abs(row.nats["text"] - found[Cell(name)].nats["text"]).mean() for bits, row in of.items()}
        assert change[8] < change[4] < change[3]


# Report ----------------------------------------------------------------------------------------


def test_the_report_says_nothing_of_what_nobody_knows(home: Path, capsys: pytest.CaptureFixture[str]) -> None:
    code, out, _ = told(home, capsys, "study", "report", str(home / "r.sqlite"), "-o", str(home / "report"))
    assert (code, out.strip()) == (0, str(home / "report" / "report.html"))
    text = (home / "report" / "report.md").read_text("utf-8")
    sections = dict(part.split("\n", 1) for part in text.split("\n## ")[1:])
    without = text.replace(sections["Rate and distortion"], "")
    ours = ("above the floor", "Knowledge", "Training for few bits", "How the models were trained")
    for word in (*ours, "nan", " inf "):
        assert word not in without, word
    assert "36 cells were measured on 3 models" in text
    assert "judged on 12 windows of text.txt and 40 multiple choices." in text
    assert "no law is fitted here" in sections["Fits and their residuals"]
    rows = [line for line in sections["Models"].splitlines() if line.startswith("| pythia-")]
    found = {row.cell.model: row.subject for row in read(home / "r.sqlite")}
    assert rows == [
        f"| {name} | gpt\\_neox | {found[name].n_parameters:,} | {found[name].n_linear:,} |" for name in SIZES
    ]
    assert "| model | architecture | parameters | in linear layers |" in sections["Models"]
    types = [line for line in sections["Data types"].splitlines() if line.startswith("| bits")]
    assert types == ["| bits | type | pythia-16 | pythia-32 | pythia-48 |"]
    fixed = sections["Performance = f(k)"]
    assert "in blocks of 64, in nats a token." in fixed
    assert "3 | 4" in fixed


def test_nothing_is_kept_where_there_was_nothing(home: Path) -> None:
    """What few bits leave of the accuracy above chance can be told only where there is some in 16 bits."""
    rows = [row for row in read(home / "r.sqlite") if row.cell.scope == "all"]
    rows = [replace(row, cell=replace(row.cell, kind=row.cell.kind.replace("quantile", "float"))) for row in rows]

    def answered(rightly: np.ndarray[Any, Any]) -> Any:
        return findings([replace(row, right=dict.fromkeys(row.right, rightly)) for row in rows], n=100)[1]

    guessed, known = answered(np.arange(20) % 2 == 0), answered(np.arange(20) < 18)
    assert guessed.verdict == "undecided"
    assert [one.estimate for one in guessed.evidence] == [None, None]
    assert "In 16 bits the largest model is not surely above chance" in guessed.why
    assert known.evidence[0].estimate.value == pytest.approx(1, abs=1e-12)  # two means, added in another order
    assert known.verdict == "not supported"


# Families --------------------------------------------------------------------------------------


def test_families_are_never_mixed(home: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """Pythia and one Llama read the same tokens, the other Llama has a tokenizer of its own."""
    small = PLAN.replace("windows = 12", "windows = 4").replace("[3, 4, 8]", "[3, 4]").replace('"pythia-*"', '"*-*"')
    (home / "all.toml").write_text(small.split('[[sweep]]\nkinds = ["int"]')[0], "utf-8")
    run(home, "all.toml", "all.sqlite")
    rows = read(home / "all.sqlite")
    found = families(rows)
    assert sorted((family.name, family.architecture, len(family.models)) for family in found) == [
        ("pythia", "gpt_neox", 3),
        ("tiny-llama-1", "llama", 1),
        ("tiny-llama-2", "llama", 1),
    ]
    for refused in (curves, findings):
        with pytest.raises(kb.KbitError, match=r"models of 3 families \(.*llama: tiny-llama-2\), no curve goes"):
            refused(rows, n=0)
    limit = Limit(memory=1e6)
    with pytest.raises(kb.KbitError, match=r"judged on other tokens \(.* and tiny-llama-2\).*--models PATTERN"):
        choose(rows, limit)
    same = [row for row in rows if row.cell.model != "tiny-llama-2"]
    assert choose(same, limit, n=20).recommended.loss.value == min(row.loss for row in same)
    page = report(home / "all.sqlite", home / "all", n=20)
    index = page.read_text("utf-8")
    for family in found:
        assert f'<a href="{family.name}/report.html">' in index
        own = (home / "all" / family.name / "report.md").read_text("utf-8")
        assert {name for name in {row.cell.model for row in rows} if f"| {name} |" in own} == set(family.models)
    report(home / "all.sqlite", home / "one", n=0, models="pythia-*")
    assert "3 models of" in (home / "one" / "report.md").read_text("utf-8")
    results = ("--results", str(home / "all.sqlite"))
    code, out, _ = told(home, capsys, "choose", "--memory", "1MB", *results, "--models", "tiny-llama-2")
    assert code == 0
    assert "use      tiny-llama-2 (" in out
    code, _, err = told(home, capsys, "choose", "--memory", "1MB", *results, "--models", "opt-*")
    assert code == 2
    assert "models = opt-*, there is none of that name: tiny-llama-1, tiny-llama-2, pythia-16" in err
    assert {row.cell.model for row in named(rows, "tiny-*")} == {"tiny-llama-1", "tiny-llama-2"}


# Choose ----------------------------------------------------------------------------------------


def test_choose_from_results_keeps_within_limits(home: Path, capsys: pytest.CaptureFixture[str]) -> None:
    rows = [row for row in read(home / "r.sqlite") if row.cell.scope == "all"]
    results = ("--results", str(home / "r.sqlite"), "--json")
    for limit, within in (
        (("--memory", "30kB"), lambda row: row.total_bits <= 8 * 30_000),
        (("--bits-per-parameter", "5"), lambda row: row.bits_per_parameter <= 5),
    ):
        code, out, _ = told(home, capsys, "choose", *limit, *results)
        assert code == 0
        best = min(filter(within, rows), key=lambda row: row.loss)
        found = json.loads(out)["recommended"]
        assert (found["size"], found["total_bits"]) == (best.cell.model, best.total_bits)
    bound = sorted(row.loss for row in rows)[len(rows) // 2]
    code, out, _ = told(home, capsys, "choose", "--loss", str(bound), *results)
    assert json.loads(out)["recommended"]["total_bits"] == min(r.total_bits for r in rows if r.loss <= bound)


def test_choose_on_a_model_tries_methods_on_what_fits(home: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """4 bits in blocks of 128 are 4.125 bits, but with the vectors they are more than 4.2: what fits has 2 and 3 bits.

    Of 2 bits there are three kinds, of 3 bits four; in blocks of 32 and 64 both widths fit, in blocks of 128 that of 3.
    """
    words = ("choose", "--model", str(home / "pythia-16"), "--text", str(home / "text.txt"), "--json")
    code, out, _ = told(home, capsys, *words, "--bits-per-parameter", "4.2")
    found = json.loads(out)
    assert (code, found["recommended"]["size"]) == (0, "pythia-16")
    assert found["recommended"]["bits_per_parameter"] <= 4.2
    assert found["n_options"] == 2 * (3 + 4) + 4 + 3  # and three methods on the best of them
    code, _, err = told(home, capsys, *words, "--memory", "1kB")
    assert code == 2
    smallest = float(err.partition("the smallest measured takes ")[2].split()[0])
    assert smallest < 2.6 * sum(x.size for x in kb.load_model(home / "pythia-16").parameters.values()) / 8000
    code, _, err = told(home, capsys, *words[:3], "--memory", "1MB")
    assert code == 2
    assert "pythia-16, a model of 320 words and 32 positions" in err
    assert "--text FILE" in err


def test_eval_agrees_with_the_study(home: Path, capsys: pytest.CaptureFixture[str]) -> None:
    row = next(row for row in read(home / "r.sqlite") if row.cell == Cell("pythia-48"))
    tasks = str(home / "tasks.jsonl")
    _, out, _ = told(home, capsys, "eval", str(home / "pythia-48"), "--tasks", tasks, "--json")
    for line in json.loads(out)["rows"]:
        assert line["accuracy"] == row.right[line["task"]].mean()
        assert line["chance"] == row.chances[line["task"]] == 0.5


# Directories -----------------------------------------------------------------------------------


def test_names_of_directories(home: Path) -> None:
    hub = home / "hub" / "models--us--nano" / "snapshots" / "0a1b2c"
    shutil.copytree(home / "pythia-16", hub)
    os.symlink(hub, home / "linked")
    text = PLAN.replace('"pythia-*"', '"hub/*/snapshots/*", "linked"')
    assert dict(parse_plan(text, home).models) == {"nano": hub, "linked": home / "linked"}
    assert name_of(hub) == "nano"
    row = as_it_is(hub, home / "text.txt", "nano")
    assert (row.subject.name, row.subject.size) == ("nano", "nano")


@pytest.mark.parametrize("setting", ["truncation", "padding"])
def test_a_text_is_never_cut_off_nor_filled_up(home: Path, tmp_path: Path, setting: str) -> None:
    """Whatever the file says that its tokenizer was last used with."""
    facts = json.loads((home / "pythia-16" / "tokenizer.json").read_text("utf-8"))
    theirs = heavy("tokenizers").Tokenizer.from_file(str(home / "pythia-16" / "tokenizer.json"))
    expected = theirs.encode("def main(): pass").ids
    theirs.enable_truncation(5) if setting == "truncation" else theirs.enable_padding(length=64)
    theirs.save(str(tmp_path / "tokenizer.json"))
    assert len(theirs.encode("def main(): pass").ids) in (5, 64)
    assert json.loads((tmp_path / "tokenizer.json").read_text("utf-8"))[setting] != facts[setting]
    assert load_tokenizer(tmp_path).encode("def main(): pass") == expected


def test_a_vocabulary_with_merges_is_a_tokenizer(home: Path, tmp_path: Path) -> None:
    model = json.loads((home / "pythia-16" / "tokenizer.json").read_text("utf-8"))["model"]
    (tmp_path / "vocab.json").write_text(json.dumps(model["vocab"]), "utf-8")
    merges = [" ".join(pair) for pair in model["merges"]]
    (tmp_path / "merges.txt").write_text("\n".join(["#version: 0.2", *merges]), "utf-8")
    text = (home / "text.txt").read_text("utf-8")
    assert load_tokenizer(tmp_path).encode(text) == load_tokenizer(home / "pythia-16").encode(text)
    assert load_tokenizer(tmp_path).decode(load_tokenizer(tmp_path).encode(text)) == text


def test_what_is_missing_is_told(home: Path, tmp_path: Path) -> None:
    folder = tmp_path / "m"
    shutil.copytree(home / "pythia-16", folder)
    shutil.copy(home / "tiny-llama-2" / "tokenizer.json", folder)
    (tmp_path / "text.txt").write_text((home / "text.txt").read_text("utf-8"), "utf-8")
    go = partial(as_it_is, folder, tmp_path / "text.txt")
    with pytest.raises(kb.KbitError, match=r"m, its tokenizer goes up to .*, and the model has 320 words"):
        go()
    (folder / "tokenizer.json").unlink()
    with pytest.raises(kb.KbitError, match=r"it has tokenizer_config.json and no tokenizer.json; let transformers"):
        go()
    (folder / "tokenizer_config.json").unlink()
    assert isinstance(load_tokenizer(folder), Bytes)  # 320 words may be bytes
    config = json.loads((folder / "config.json").read_text("utf-8"))
    (folder / "config.json").write_text(json.dumps(config | {"vocab_size": 5000}), "utf-8")
    with pytest.raises(kb.KbitError, match="a model of 5,000 words does not read bytes"):
        load_tokenizer(folder)
    (folder / "model.safetensors").rename(folder / "pytorch_model.bin")
    with pytest.raises(kb.KbitError, match=r"it has pytorch_model\.bin and no safetensors; let transformers"):
        kb.load_model(folder)


def test_a_text_in_no_language_is_told(home: Path, tmp_path: Path) -> None:
    """Random models with large weights lose more than guessing would: so does a model with a wrong tokenizer."""
    row = as_it_is(home / "pythia-48", home / "text.txt")
    assert row.loss > math.log(N_WORDS)
    assert "is above that of even guessing among all words" in guessing([row])
    assert choose([row], Limit(memory=1e6), n=0).notes == (guessing([row]),)
    (tmp_path / "short.txt").write_text("a few words", "utf-8")
    with pytest.raises(kb.KbitError, match="an interval needs two windows"):
        as_it_is(home / "pythia-48", tmp_path / "short.txt")
