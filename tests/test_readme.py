"""The README says what the code does: its tables are generated, its examples run."""

import doctest
import re
from pathlib import Path

import pytest

from kbit_ref import exact
from kbit_ref.cli import commands
from kbit_ref.cli.list_ import markdown

README = (Path(__file__).parent.parent / "README.md").read_text("utf-8")


def generated(name: str) -> str:
    """What stands between the markers of that name."""
    match = re.search(rf"<!-- generated: {name} -->\n(.*?)<!-- end -->", README, re.S)
    assert match, name
    return match[1]


def test_table_of_data_types_is_generated() -> None:
    assert generated("list") == markdown() + "\n"


def test_table_of_choices_is_complete() -> None:
    rows = dict(re.findall(r"^\| `(\w+)` \| (.*?) \|", README.partition("| choice |")[2], re.M))
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
