"""Judging models: sliding windows and multiple choice by hand, tokens, and the three commands on real directories."""

import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from helpers.libraries import heavy

import kbit_ref as kb
from kbit_ref.cli import main
from kbit_ref.transformer import load_model
from kbit_ref.transformer.config import Config
from kbit_ref.transformer.evaluate import Choice, multiple_choice, read_choices, text_loss
from kbit_ref.transformer.family import SIZES, STEPS, Run, config, n_parameters, run, run_of, runs
from kbit_ref.transformer.tokens import Bytes, Words, load_tokenizer
from kbit_ref.transformer.world import TASKS, WORDS, World


class Counting:
    """After a token t the next one is t + 1 with probability 3/4 (of 4 tokens); it keeps what it was asked."""

    config = Config("gpt2", n_vocab=4, n_layer=1, n_head=1, d_model=1, d_ff=1, n_positions=6)

    def __init__(self) -> None:
        self.asked: list[list[list[int]]] = []

    def forward(self, tokens: Any) -> Any:
        """Logits."""
        self.asked.append(np.asarray(tokens).tolist())
        p = np.full((*np.shape(tokens), 4), 1 / 12)
        np.put_along_axis(p, ((np.asarray(tokens) + 1) % 4)[..., None], 0.75, -1)
        return np.log(p) + 5


def test_every_token_of_a_text_is_predicted_once() -> None:
    model = Counting()
    text = [0, 1, 2, 3, 0, 1, 1, 3, 0, 1]  # two of nine steps do not count upwards
    found = text_loss(model, text, window=4, stride=2)
    assert found.n_tokens == 9
    assert found.nats == pytest.approx(-7 * np.log(0.75) - 2 * np.log(1 / 12))
    assert found.perplexity == pytest.approx(np.exp(found.nats / 9))
    assert model.asked == [[[0, 1, 2, 3]], [[2, 3, 0, 1]], [[0, 1, 1, 3]], [[1, 3, 0]]]


@pytest.mark.parametrize(("window", "stride"), [(6, 6), (6, 1), (1, 1), (5, 3), (6, None), (None, None)])
def test_windows_do_not_change_what_is_predicted(window: int | None, stride: int | None) -> None:
    text = np.random.default_rng(0).integers(0, 4, 57)
    steps = int(np.sum((text[:-1] + 1) % 4 == text[1:]))
    told: list[int] = []
    found = text_loss(Counting(), text, window, stride, told.append)
    assert found.n_tokens == sum(told) == 56
    assert found.nats == pytest.approx(-steps * np.log(0.75) - (56 - steps) * np.log(1 / 12))


def test_sums_and_means_choose_differently() -> None:
    """Two good tokens and a bad one against one bad token: a smaller sum, a larger mean."""
    questions = [Choice((0,), ((3,), (1, 2, 0)), 1), Choice((2,), ((3,), (0,)), 0)]
    scores, sums = multiple_choice(Counting(), questions)
    good, bad = np.log(0.75), np.log(1 / 12)
    assert sums == [[pytest.approx(bad), pytest.approx(2 * good + bad)], [pytest.approx(good), pytest.approx(bad)]]
    assert (scores.n, scores.right, scores.right_normed, scores.chance) == (2, 1, 2, 0.5)


def test_choices_are_read_from_lines(tmp_path: Path) -> None:
    file = tmp_path / "tasks.jsonl"
    file.write_text('{"context": "ab", "choices": ["c", "de"], "gold": 1, "task": "x"}\n\n'
                    '{"context": [1, 2], "choices": [[3], [4, 5]], "gold": 0}\n')  # fmt: skip
    assert list(read_choices(file, Bytes().encode)) == [
        Choice((97, 98), ((99,), (100, 101)), 1, "x"),
        Choice((1, 2), ((3,), (4, 5)), 0, ""),
    ]


@pytest.mark.parametrize(
    ("line", "said"),
    [
        ("{", "line 2: the line, it is no JSON object"),
        ("[1]", "it is no JSON object"),
        ('{"context": "a", "choices": ["b"], "gold": 0}', "it is a list of at least two"),
        ('{"context": "a", "choices": ["b", "c"], "gold": 2}', "gold = 2, there are 2 choices, counted from 0"),
        ('{"context": "a", "choices": ["b", "c"]}', "gold = None, there are 2 choices"),
        ('{"context": "", "choices": ["b", "c"], "gold": 0}', "context = '', it has no token"),
        ('{"context": "a", "choices": ["b", ""], "gold": 0}', "choice '', it has no token"),
        ('{"context": "a", "choices": ["b", [1.5]], "gold": 0}', "it is a text or a list of tokens"),
    ],
)
def test_bad_lines_are_told(line: str, said: str, tmp_path: Path) -> None:
    file = tmp_path / "tasks.jsonl"
    file.write_text('{"context": "a", "choices": ["b", "c"], "gold": 0}\n' + line + "\n")
    with pytest.raises(kb.KbitError) as caught:
        list(read_choices(file, Bytes().encode))
    assert said in str(caught.value)
    assert "\n" not in str(caught.value)


def test_tokens_of_a_directory(tmp_path: Path) -> None:
    assert isinstance(load_tokenizer(tmp_path), Bytes)
    assert Bytes().decode(Bytes().encode("naïve ✓")) == "naïve ✓"
    (tmp_path / "tokenizer.json").write_text(
        json.dumps(
            {
                "pre_tokenizer": {"type": "WhitespaceSplit"},
                "model": {"type": "WordLevel", "vocab": {"a": 0, "bc": 1}, "unk_token": "a"},
            }
        )
    )
    tokenizer = load_tokenizer(tmp_path)
    assert isinstance(tokenizer, Words)
    assert tokenizer.encode(" bc a\nbc ") == [1, 0, 1]
    assert tokenizer.decode([1, 0, 9]) == " bc a \ufffd"
    with pytest.raises(kb.KbitError, match="word = 'b', there is no such name"):
        tokenizer.encode("b")
    (tmp_path / "tokenizer.json").write_text("{")
    with pytest.raises(kb.KbitError, match="it cannot be read"):
        load_tokenizer(tmp_path)


def test_the_plan_of_the_family() -> None:
    """What the issue asks: seven sizes evenly spaced from 10 thousand to 1.5 million, seeds, token counts."""
    counts = [n_parameters(size) for size in SIZES]
    assert len(counts) >= 7
    assert counts[0] < 12_000
    assert counts[-1] > 1_500_000
    ratios = np.array(counts[1:]) / counts[:-1]
    assert ratios.max() / ratios.min() < 1.7
    plan = list(runs())
    assert len({run.name for run in plan}) == len(plan)
    for size, count in zip(SIZES, counts, strict=True):
        seeds = {run.seed for run in plan if run.size == size and run.steps == STEPS}
        assert seeds == (set(range(5)) if count <= 250_000 else {0})
    plain = [run for run in plan if not run.scheme]
    several = [size for size in SIZES if len({run.steps for run in plain if run.size == size}) >= 3]
    assert len(several) >= 4
    assert {kb.scheme(run.scheme).dtype.bits for run in plan if run.scheme} == {2, 3, 4}
    assert all(run_of(run.name) == run for run in plan)
    with pytest.raises(kb.KbitError, match="run = 's-9', there is no such name"):
        run_of("s-9")


@pytest.fixture(scope="module")
def trained(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A model of the smallest size after 40 steps."""
    return run(Run("xxs", 0, 40), tmp_path_factory.mktemp("models"))


def test_a_run_leaves_a_model_that_loads(trained: Path) -> None:
    names = {
        "config.json",
        "model.safetensors",
        "tokenizer.json",
        "tokenizer_config.json",
        "training.json",
        "curve.csv",
    }
    assert {path.name for path in trained.iterdir()} == names
    model = load_model(trained)
    assert model.config == config("xxs")
    assert model.n_parameters == n_parameters("xxs")
    assert load_tokenizer(trained).encode("ask: baba") == [WORDS.index("ask:"), 0]
    assert (trained / "curve.csv").read_text().splitlines()[0] == "step,loss"
    before = (trained / "model.safetensors").stat().st_mtime_ns
    assert run(Run("xxs", 0, 40), trained.parent) == trained
    assert (trained / "model.safetensors").stat().st_mtime_ns == before


def test_training_for_a_scheme_leaves_its_levels(tmp_path: Path) -> None:
    spelling = "int3sym-b64-absmax-f32"
    for learned in (False, True):
        folder = run(Run("xxs", 0, 3, spelling, learned), tmp_path, skip=("embed.weight", "positions.weight"))
        model = load_model(folder)
        for name, value in model.parameters.items():
            if not learned and value.ndim == 2 and name.startswith("blocks."):
                again = kb.dequantize(kb.quantize(np.ascontiguousarray(value), spelling))
                assert np.array_equal(again, value)
            if value.ndim == 2 and name.startswith("blocks."):
                assert all(len(set(block)) <= 7 for block in value.reshape(-1, 64).tolist())


def told(capsys: Any, *arguments: str) -> Any:
    """What a command prints as JSON."""
    assert main([*arguments, "--json"]) == 0
    return json.loads(capsys.readouterr().out)


def test_eval_of_the_world(trained: Path, capsys: Any) -> None:
    facts = told(capsys, "eval", str(trained), "--world", "-n", "40")
    rows = {row["task"]: row for row in facts["rows"]}
    assert set(rows) == set(TASKS)
    for task, row in rows.items():
        assert row["floor"] == World().floors[task]
        assert row["floor"] < row["loss"] < np.log(288) + 0.1
        assert 0 <= row["accuracy"] <= 1
    quantized = told(capsys, "eval", str(trained), "--world", "-n", "10", "--scheme", "int4-b64-absmax-f16", "--all")
    assert quantized["bits_per_parameter"] < 4.25 + 3  # norms and biases of so small a model are many
    assert facts["bits_per_parameter"] == 32


def test_eval_of_a_text_and_of_tasks(trained: Path, tmp_path: Path, capsys: Any) -> None:
    text = tmp_path / "text.txt"
    text.write_text(" ".join(WORDS[:100]))
    row = told(capsys, "eval", str(trained), "--text", str(text))["rows"][0]
    assert row["tokens"] == 99
    assert row["perplexity"] == pytest.approx(np.exp(row["loss"]))
    tasks = tmp_path / "tasks.jsonl"
    question = {"context": "ask: baba baba home", "choices": [" baba", " dedi", " text:"], "gold": 1}
    tasks.write_text("\n".join(json.dumps(question | {"task": task}) for task in ("a", "b", "a")))
    rows = told(capsys, "eval", str(trained), "--tasks", str(tasks))["rows"]
    assert [(row["task"], row["n"]) for row in rows] == [("a", 2), ("b", 1)]
    assert rows[0]["chance"] == pytest.approx(1 / 3)


def test_generate_streams_what_the_model_says(trained: Path, capsys: Any) -> None:
    facts = told(capsys, "generate", str(trained), "--prompt", "ask: baba", "-n", "8")
    model = load_model(trained)
    expected = model.generate([facts["prompt"]], 8)[0].tolist()
    assert facts["tokens"] == expected
    assert main(["generate", str(trained), "--prompt", "ask: baba", "-n", "8"]) == 0
    assert capsys.readouterr().out.strip() == "ask: baba " + " ".join(WORDS[token] for token in expected)


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (["generate", "{}", "--prompt", "babo"], "word = 'babo', there is no such name"),
        (["generate", "{}", "--prompt", ""], "--prompt '', it has no token; write what to go on with"),
        (["generate", "{}", "--prompt", "ask: " * 33], "--prompt of 33 tokens, the model has 32 positions"),
        (["generate", "{}", "--prompt", "ask:", "-n", "40"], "-n = 40, the model has 32 positions and adds at most 32"),
        (["generate", "{}", "--prompt", "ask:", "-n", "-5"], "-n = -5, it is an integer from 0"),
        (["generate", "{}", "--prompt", "ask:", "--temperature", "-1"], "--temperature = -1.0, it is a finite"),
        (["generate", "{}", "--prompt", "ask:", "--temperature", "1", "--seed", "-1"], "--seed = -1, it is a whole"),
        (["generate", "{}", "--prompt", "ask:", "--temperature", "1", "--top-k", "0"], "--top-k = 0, it is at least"),
        (["generate", "{}", "--prompt", "ask:", "--top-k", "5"], "--top-k, at temperature 0 the likeliest token"),
        (["generate", "{}", "--prompt", "ask:", "--top-p", "0.5", "--seed", "0"], "--top-p, --seed, at temperature 0"),
        (["generate", "{}", "--prompt", "ask:", "--method", "gptq"], "--method, nothing is quantized without a scheme"),
        (["generate", "{}/model.safetensors", "--prompt", "ask:"], "model.safetensors, it is a file; name its dir"),
        (["eval", "{}", "--world", "--all", "--calibration", "t"], "--calibration, --all, nothing is quantized"),
        (["eval", "{}", "--world", "--activations", "int8-b64-absmax-f16"], "--activations, nothing is quantized"),
        (["eval", "{}", "--world", "--seed", "-1"], "seed = -1, it is a whole number from 0"),
        (["eval", "{}", "--world", "--stride", "2"], "--stride, a text alone has windows that slide"),
        (["eval", "{}", "--text", "{}/config.json", "-n", "5"], "-n, only --world draws windows and questions"),
        (["eval", "{}", "--tasks", "{}/config.json", "--seed", "5"], "--seed, only --world draws"),
        (["generate", "{}/no", "--prompt", "ask:"], "there is no such file"),
        (["eval", "{}", "--text", "{}/no.txt"], "it cannot be read"),
        (["eval", "{}", "--text", "{}/config.json"], "there is no such name"),
        (["eval", "{}", "--world", "-n", "0"], "n = 0, it is at least 1"),
        (["eval", "{}", "--world", "--scheme", "int4-b64"], "scheme"),
        (["train", "--size", "xxs", "-o", "{}", "--steps", "0"], "train: steps = 0, it is at least 1"),
        (["train", "--size", "xxs", "-o", "{}", "--learned"], "--learned, nothing is quantized without a scheme"),
        (["train", "--size", "xxs", "-o", "{}", "--skip", "head.weight"], "--skip, nothing is quantized without"),
        (["train", "--size", "xxs", "-o", "{}", "--seed", "-3"], "seed = -3, it is a whole number from 0"),
        (["train", "--size", "xxs", "-o", "{}", "--workers", "2"], "--workers, one run is one process"),
        (["train", "--size", "xxs", "-o", "{}", "--scheme", "nf4-b64-absmax-f16", "--skip", "foo"], "skip = 'foo'"),
        (["train", "--size", "xxs", "-o", "{}/config.json"], "config.json, there is a file of that name; name another"),
        (["train", "--size", "xxs", "-o", "{}/config.json/x"], "config.json is a file; name another directory"),
        (["train", "--size", "xxs", "-o", "/dev/null/x"], "/dev/null is a file; name another directory"),
        (["train", "--family", "-o", "{}", "--steps", "5"], "--steps, the runs of the family have their own"),
        (["train", "--family", "-o", "{}", "--skip", "x", "--seed", "0"], "--seed, --skip, the runs of the family"),
        (["train", "--run", "s-0", "-o", "{}", "--learned"], "--learned, the runs of the family have their own"),
        (["train", "--run", "xx-0", "-o", "{}"], "run = 'xx-0', there is no such name"),
    ],
)
def test_mistakes_are_told_in_one_line(arguments: list[str], said: str, trained: Path, capsys: Any) -> None:
    assert main([argument.replace("{}", str(trained)) for argument in arguments]) == 2
    out, error = capsys.readouterr()
    assert out == ""
    assert said in error
    assert len(error.strip().splitlines()) == 1


def test_generate_by_default_ends_where_the_positions_do(trained: Path, capsys: Any) -> None:
    words = ["generate", str(trained), "--prompt", "ask: baba"]
    facts = told(capsys, *words)
    assert facts["tokens"] == load_model(trained).generate([facts["prompt"]], 31)[0].tolist()
    assert main(words) == 0
    ended = "kbit-ref generate: ended at the last of the model's 32 positions"
    assert capsys.readouterr().err.splitlines()[1:] == [ended]
    for more in (["-n", "31"], ["--stop", str(facts["tokens"][0])]):  # no surprise
        assert main([*words, *more]) == 0
        assert ended not in capsys.readouterr().err


def test_an_error_in_a_stream_begins_on_a_line_of_its_own(trained: Path, capsys: Any, monkeypatch: Any) -> None:
    calls: list[int] = []

    def forward(*arguments: Any) -> Any:
        calls.append(1)
        if len(calls) == 2:
            raise kb.KbitError("forward: it is over, there is no more; stop")
        return plain(*arguments)

    from kbit_ref.transformer.model import forward as plain

    monkeypatch.setattr("kbit_ref.transformer.model.forward", forward)
    assert main(["generate", str(trained), "--prompt", "ask:"]) == 2
    out, error = capsys.readouterr()
    assert (out.count("\n"), out[-1]) == (1, "\n")
    assert error == "kbit-ref generate: it is over, there is no more; stop\n"


def test_train_as_a_command(tmp_path: Path) -> None:
    command = [sys.executable, "-m", "kbit_ref", "train", "--size", "xxs", "--steps", "3", "-o", str(tmp_path)]
    done = subprocess.run(command, capture_output=True, text=True, check=True)
    assert done.stdout.strip() == str(tmp_path / "xxs-0-3")
    assert (tmp_path / "xxs-0-3" / "model.safetensors").exists()
    assert done.stderr == ""
    again = subprocess.run(command, capture_output=True, text=True, check=True)
    assert again.stdout == done.stdout
    assert again.stderr == f"kbit-ref train: {tmp_path / 'xxs-0-3'} is there already, nothing is trained\n"


def test_a_run_of_another_recipe_is_not_taken_for_this_one(tmp_path: Path, capsys: Any) -> None:
    asked = ["train", "--size", "xxs", "--steps", "1", "--scheme", "int4sym-b64-absmax-f16", "-o", str(tmp_path)]
    assert main(asked) == 0
    assert main([*asked, "--skip", "embed.weight"]) == 2
    place = tmp_path / "xxs-0-1-int4sym-b64-absmax-f16"
    error = capsys.readouterr().err
    assert error == f"kbit-ref train: {place}, a run of another recipe is there (skip); name another directory\n"
    assert main(asked) == 0


def test_train_writes_here_by_default(tmp_path: Path, capsys: Any, monkeypatch: Any) -> None:
    monkeypatch.chdir(tmp_path)
    assert main(["train", "--size", "xxs", "--steps", "1", "--scheme", "int3sym-b64-absmax-f16"]) == 0
    assert capsys.readouterr().out == "xxs-0-1-int3sym-b64-absmax-f16\n"
    assert Path("xxs-0-1-int3sym-b64-absmax-f16", "model.safetensors").exists()


def test_a_place_that_may_not_be_written_into(tmp_path: Path, capsys: Any, monkeypatch: Any) -> None:
    monkeypatch.setattr("os.access", lambda *_: False)  # root may everything
    assert main(["train", "--size", "xxs", "--steps", "1", "-o", str(tmp_path)]) == 2
    assert f"-o {tmp_path}, it may not be written into; name another directory" in capsys.readouterr().err
    assert main(["study", "quick", "-o", str(tmp_path / "r.sqlite")]) == 2
    assert f"-o {tmp_path / 'r.sqlite'}, it may not be written there; name another file" in capsys.readouterr().err


def test_a_family_that_is_there(tmp_path: Path, capsys: Any) -> None:
    for what in runs():
        (tmp_path / what.name).mkdir()
        (tmp_path / what.name / "model.safetensors").touch()
    assert main(["train", "--family", "-o", str(tmp_path), "--json"]) == 0
    out, error = capsys.readouterr()
    assert json.loads(out)["directory"] == str(tmp_path)
    assert error == "kbit-ref train: 44 of 44 runs are there already\n"


@pytest.mark.heavy
@pytest.mark.filterwarnings("ignore")
def test_our_directories_load_in_transformers(trained: Path) -> None:
    torch, transformers = heavy("torch"), heavy("transformers")
    there = transformers.AutoModelForCausalLM.from_pretrained(trained, dtype=torch.float32).eval()
    tokens = World().windows(8, np.random.default_rng(0))[:, :-1]
    with torch.no_grad():
        answer = there(torch.tensor(tokens)).logits.numpy()
    ours = load_model(trained).forward(tokens)
    assert np.abs(answer - ours).max() < 1e-4
    assert np.array_equal(answer.argmax(-1), ours.argmax(-1))
    ids = transformers.AutoTokenizer.from_pretrained(trained)("ask: baba dedi")["input_ids"]
    assert ids == load_tokenizer(trained).encode("ask: baba dedi")
