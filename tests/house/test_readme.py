"""The README says what the code does: its tables are generated, its examples run."""

import doctest
import re
import shlex
from pathlib import Path

import numpy as np
import pytest

from kbit_ref import open_checkpoint
from kbit_ref.book import contents
from kbit_ref.checkpoints import Writer
from kbit_ref.checkpoints.header import Spec
from kbit_ref.cli import commands, main, parser

README = (Path(__file__).parents[2] / "README.md").read_text("utf-8")


def contents_of(text: str) -> str:
    """The table of contents as it stands in the README."""
    return text.partition("<!-- generated: contents -->\n")[2].partition("<!-- end -->")[0]


def test_the_contents_are_generated() -> None:
    assert contents_of(README) == contents() + "\n", "print it again: python tests/house/test_readme.py"
    assert contents_of(README.replace("| [Layouts]", "| [Layout]")) != contents() + "\n"


def test_it_is_short_and_begins_with_what_a_reader_wants() -> None:
    lines = README.splitlines()
    assert len(lines) <= 200
    first = "\n".join(lines[:45])
    assert [first.find(words) > 0 for words in ("It is for", "**not** for", "pip install", "kb.check(")] == [True] * 4


def test_every_command_is_mentioned() -> None:
    assert not [name for name in commands() if f"kbit-ref {name}" not in README]


def test_examples_run() -> None:
    blocks = "\n".join(re.findall(r"```python\n(.*?)```", README, re.S))
    test = doctest.DocTestParser().get_doctest(blocks, {}, "README", "README.md", 0)
    assert len(test.examples) >= 5
    assert doctest.DocTestRunner(optionflags=0).run(test).failed == 0


def test_wrong_example_would_be_found() -> None:
    test = doctest.DocTestParser().get_doctest(">>> 1 + 1\n3\n", {}, "wrong", None, 0)
    assert doctest.DocTestRunner(verbose=False).run(test, out=lambda _: None).failed == 1


@pytest.mark.parametrize("name", ["check", "test"])
def test_commands_are_marked(name: str) -> None:
    assert re.search(rf"<!-- command: {name} -->\n```sh\n(.+)\n```", README)


def test_the_other_commands_run(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(tmp_path)
    x = np.random.default_rng(0).normal(size=(8, 64)).astype("<f4")
    with Writer("model.safetensors", [Spec("layer.weight", "F32", x.shape)], {}) as file:
        file.view("layer.weight")[:] = x.view(np.uint8).reshape(-1)
    lines = [line for block in re.findall(r"```sh\n(.*?)```", README, re.S) for line in block.splitlines()]
    commands = [shlex.split(line)[1:] for line in lines if line.startswith("kbit-ref ")]
    assert [command[0] for command in commands] == ["explain", "quantize", "dequantize", "explain"]
    for command in commands:
        assert main(command) == 0
        assert capsys.readouterr().out
    checkpoint = open_checkpoint("small.safetensors")
    assert checkpoint.tensors["layer.weight"].scheme.dtype.name == "nf4"
    again = open_checkpoint("again.safetensors")["layer.weight"]
    assert np.array_equal(again, checkpoint.dequantize("layer.weight"))


@pytest.mark.parametrize("begin", ["kbit-ref train --size", "kbit-ref train --family"])
def test_commands_in_the_text_are_accepted(begin: str) -> None:
    line = begin + README.partition(f"`{begin}")[2].partition("`")[0]
    assert parser().parse_args(shlex.split(line)[1:]).command == "train"


if __name__ == "__main__":
    before, marker, rest = README.partition("<!-- generated: contents -->\n")
    text = before + marker + contents() + "\n<!-- end -->" + rest.partition("<!-- end -->")[2]
    (Path(__file__).parents[2] / "README.md").write_text(text, "utf-8")
