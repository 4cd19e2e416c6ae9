"""The README says what the code does: its tables are generated, its examples run."""

import doctest
import re
import shlex
import sys
from collections.abc import Iterable
from functools import cache
from pathlib import Path

import numpy as np
import pytest

from kbit_ref import exact, open_checkpoint, profiles
from kbit_ref.checkpoints import Writer
from kbit_ref.checkpoints.header import Spec
from kbit_ref.cli import audit, commands, main, parser, vectors
from kbit_ref.cli.list_ import TABLES as PRINTED
from kbit_ref.cli.list_ import markdown
from kbit_ref.data import data_folder
from kbit_ref.exact.encoders import ENCODERS
from kbit_ref.exact.rules import RULES
from kbit_ref.study.findings import findings
from kbit_ref.study.results import read
from kbit_ref.tensors.scheme import CHOICES, DOUBLES, MEANINGS, SCALE_DTYPES

README = (Path(__file__).parents[2] / "README.md").read_text("utf-8")


LISTS = {"list": "types"} | {f"list {what}": what for what in ("schemes", "profiles", "layouts", "methods")}
TABLES = (*LISTS, "vectors", "findings")
SLOW = ("audit",)  # half a minute


@cache
def printed(name: str) -> str:
    """What a command prints for the README."""
    if name == "audit":
        return audit.markdown()
    if name == "findings":
        return _findings((data_folder("study") / "report" / "report.md").read_text("utf-8"))
    return vectors.markdown() if name == "vectors" else markdown(LISTS[name])


def _findings(report: str) -> str:
    """The answer, and the first table of the findings."""
    answer = report.partition("\n## The answer\n")[2].partition("\n![")[0].strip()
    table = report.partition("\n## The paper's eight findings\n")[2].partition("\n|")[2].partition("\n\n")[0]
    return f"{answer}\n\n|{table}"


def stale(text: str, names: Iterable[str] = TABLES) -> list[str]:
    """The tables that are not what the command prints."""
    found = []
    for name in names:
        match = re.search(rf"<!-- generated: {name} -->\n(.*?)<!-- end -->", text, re.S)
        if match is None or match[1] != printed(name) + "\n":
            found.append(name)
    return found


def renewed(text: str, names: Iterable[str] = TABLES) -> str:
    """The README with its tables printed again."""
    for name in names:
        before, marker, rest = text.partition(f"<!-- generated: {name} -->\n")
        text = before + marker + printed(name) + "\n<!-- end -->" + rest.partition("<!-- end -->")[2]
    return text


def test_tables_are_generated() -> None:
    assert set(LISTS.values()) == set(PRINTED)
    assert stale(README) == [], "print them again: python tests/test_readme.py"


@pytest.mark.slow
def test_the_findings_are_those_of_the_results() -> None:
    """Drawn again: verdicts, and which number decides."""
    found = findings(read(data_folder("study") / "results.sqlite"))
    rows = [line.split(" | ") for line in printed("findings").rpartition("\n\n")[2].splitlines()[2:]]
    assert [[row.claim, row.verdict] for row in found] == [cells[1:3] for cells in rows]


@pytest.mark.slow
def test_the_table_of_acceptance_rules_is_generated() -> None:
    assert stale(README, SLOW) == [], "print it again: python tests/test_readme.py audit"


@pytest.mark.parametrize(
    ("name", "was", "planted"),
    [
        ("list", "| `mxint8` | integer |", "| `mxint8` | float |"),
        ("list schemes", "| `absmax` | fl(max", "| `absmax` | fl(2 max"),
        ("list schemes", "| `eps` | `0` `1e-7`", "| `eps` | `0` `1e-6`"),
        ("list profiles", "| `onnx-dynamic` | `uint8-tensor", "| `onnx-dynamic` | `int8-tensor"),
        ("list layouts", "| AutoAWQ GEMM |", "| AutoAWQ |"),
        ("list layouts", "<!-- generated: list layouts -->\n", ""),
    ],
)
def test_a_stale_table_would_be_found(name: str, was: str, planted: str) -> None:
    fresh = renewed(README)
    assert (stale(fresh), was in fresh) == ([], True)
    assert stale(fresh.replace(was, planted)) == [name]


def test_tables_are_whole() -> None:
    schemes = markdown("schemes")
    names = {*RULES, *SCALE_DTYPES, *CHOICES, *ENCODERS, *DOUBLES}
    assert {name for name in names if f"| `{name}` |" not in schemes} == set()
    assert set(CHOICES) == set(MEANINGS)
    patterns = re.findall(r"^\| `(\S+)` \| `(\S+)` \| [\d to]+ \| (.*) \|$", markdown("profiles"), re.M)
    expanded = {}
    for pattern, spelling, source in patterns:
        before, _, rest = pattern.replace("\\|", "|").partition("[")
        words, _, after = rest.partition("]")
        for word in words.split("|"):
            expanded[before + word + after] = (spelling.replace("[]", word), source)
    assert expanded == {p.name: (p.spelling, p.source) for p in profiles().values()}


def test_table_of_choices_is_complete() -> None:
    table = README.partition("| choice |")[2].partition("\n\n")[0]
    rows = dict(re.findall(r"^\| `(\w+)` \| (.*?) \|", table, re.M))
    assert {name: tuple(re.findall(r"`(\w+)`", names)) for name, names in rows.items()} == exact.CHOICES


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
    (Path(__file__).parents[2] / "README.md").write_text(renewed(README, sys.argv[1:] or TABLES), "utf-8")
