"""Help pages have an example that runs and say what the output means; wrong names get suggestions."""

import argparse
import re
import shlex

import pytest

from kbit_ref.cli import command as module_of
from kbit_ref.cli import commands, main, parser


def every(top: argparse.ArgumentParser) -> dict[str, argparse.ArgumentParser]:
    """The parser of each command and of each of its actions, by what is typed."""
    found = {}
    for action in top._actions:
        for inner in (action.choices or {}).values() if isinstance(action, argparse._SubParsersAction) else ():
            found |= {inner.prog: inner, **every(inner)}
    return found


PARSERS = every(parser())


@pytest.mark.parametrize("name", PARSERS)
def test_help_has_an_example_and_says_what_the_output_means(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("COLUMNS", "100")
    page = every(parser())[name].format_help()
    assert max(map(len, page.splitlines())) <= 100
    example = re.search(r"\nexample:\n  (kbit-ref .*)\n\noutput:\n  \S", page)
    assert example is not None
    assert example[1].startswith(name)
    for command in example[1].split(" | "):
        if command.startswith("kbit-ref"):
            assert parser().parse_args(shlex.split(command)[1:]).command in commands()


@pytest.mark.parametrize(
    "argv",
    [
        *(["list", what, *all_] for what in ("types", "schemes", "layouts", "methods") for all_ in ([], ["--all"])),
        *(["show", name] for name in ("e2m1fn", "nf4-b64-absmax-f32")),
        ["bench", "--size", "4096", "--runs", "1", "--type", "nf4"],
        ["vectors", "list"],
        ["vectors", "list", "--cases"],
    ],
)
def test_every_column_is_explained(argv: list[str], capsys: pytest.CaptureFixture[str]) -> None:
    assert main(argv) == 0
    out = capsys.readouterr().out
    lines = re.findall(r"^ *(?:names?|code|part|operation|file|case)  +\S.*", out, re.M)
    heads = [head for line in lines for head in re.split(r" {2,}", line.strip())]
    assert len(heads) > 1
    page = (
        PARSERS[" ".join(["kbit-ref", *argv[: 1 + (argv[0] == "vectors")]])].format_help().partition("\noutput:\n")[2]
    )
    explained = re.findall(r"^  (\S.*?)  ", page, re.M)
    for head in heads:
        assert any(head in each.split(", ") for each in explained), head


def test_bare_lists_the_commands(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as caught:
        main([])
    out = capsys.readouterr().out
    assert caught.value.code == 2
    for name in commands():
        assert re.search(rf"^    {name} +{re.escape(module_of(name).HELP[:40])}", out, re.M), name


@pytest.mark.parametrize(
    ("argv", "text"),
    [
        (["chek"], "kbit-ref: 'chek', there is no such command; did you mean check, choose?\n"),
        (["zzz"], "kbit-ref: 'zzz', there is no such command; use audit, bench, "),
        (["check", "--pofile", "x"], "kbit-ref check: --pofile, there is no such option; did you mean --profile"),
        (
            ["check", "--zzz=1"],
            "kbit-ref check: --zzz, there is no such option; `kbit-ref check --help` has an example\n",
        ),
        (["vectors", "chekc"], "kbit-ref vectors: 'chekc', there is no such verb; did you mean check?\n"),
        (
            ["vectors", "check", "--onyl", "x"],
            "kbit-ref vectors check: --onyl, there is no such option; did you mean --only",
        ),
        (
            ["show", "nf4", "nf3"],
            "kbit-ref show: nf3, there is no such argument; `kbit-ref show --help` has an example\n",
        ),
        (["explain"], "kbit-ref explain: missing: SCHEME, INDEX; `kbit-ref explain --help` has an example\n"),
        (["list", "typs"], "kbit-ref list: what = 'typs', it is none of the choices; did you mean types?\n"),
        (
            ["gen", "nf4", "--from", "flaot32"],
            "kbit-ref gen: --from = 'flaot32', it is none of the choices; did you mean ",
        ),
        (
            ["prove", "--threads", "two"],
            "kbit-ref prove: --threads: invalid int value: 'two'; `kbit-ref prove --help` has",
        ),
    ],
)
def test_wrong_names_get_suggestions(argv: list[str], text: str, capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as caught:
        main(argv)
    assert caught.value.code == 2
    out, err = capsys.readouterr()
    assert (out, err.count("\n")) == ("", 1)
    assert err.startswith(text)
