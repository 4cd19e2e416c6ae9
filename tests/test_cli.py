"""The command line: documents, exit codes, and one line for what is wrong."""

import json
import subprocess
import sys

import pytest

from kbit_ref.cli import commands, main


@pytest.mark.parametrize(
    "argv",
    [["list"], ["list", "--all"], ["show", "e2m1fn"], ["bench", "--size", "4096", "--runs", "1", "--type", "nf4"]],
)
def test_json_parses(argv: list[str], capsys: pytest.CaptureFixture[str]) -> None:
    assert main([*argv, "--json"]) == 0
    assert json.loads(capsys.readouterr().out)


def test_show(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["show", "e2m1fn"]) == 0
    out = capsys.readouterr().out
    assert "     5  0 10 1                       3.0             1.0\n" in out
    assert "rounding=nearest ties=even overflow=saturate" in out
    assert main(["show", "f16"]) == 0
    assert "65520 codes are left out; --all prints them" in capsys.readouterr().out


@pytest.mark.parametrize(
    ("name", "code", "bits"),
    [("e4m3fn", 0b10111001, "1 0111 001"), ("Binary8p3ue", 0b10111001, "101110 01"), ("e8m0fnu", 3, "00000011")],
)
def test_bit_fields(name: str, code: int, bits: str) -> None:
    from kbit_ref.cli.show import bit_fields
    from kbit_ref.datatype import datatype

    assert bit_fields(datatype(name), code) == bits


@pytest.mark.parametrize("argv", [["show", "nf44"], ["prove", "f17"], ["bench", "--type", "x"]])
def test_mistakes_are_one_line_and_two(argv: list[str], capsys: pytest.CaptureFixture[str]) -> None:
    assert main(argv) == 2
    captured = capsys.readouterr()
    assert captured.err.count("\n") == 1
    assert captured.err.startswith(f"kbit-ref {argv[0]}: ")


@pytest.mark.parametrize("argv", [[], ["nonsense"], ["show"]])
def test_usage_is_two(argv: list[str]) -> None:
    with pytest.raises(SystemExit) as caught:
        main(argv)
    assert caught.value.code == 2


def test_module_and_help() -> None:
    done = subprocess.run([sys.executable, "-m", "kbit_ref", "--help"], capture_output=True, text=True, check=True)
    for name in commands():
        assert f"\n    {name}" in done.stdout


def test_a_reader_that_leaves() -> None:
    shell = f"{sys.executable} -m kbit_ref show e4m3fn --all | head -n 1"
    done = subprocess.run(shell, shell=True, capture_output=True, text=True, check=True)
    assert done.stdout.startswith("e4m3fn: 8 bits")
    assert "Traceback" not in done.stderr
