"""The command line: documents, exit codes, and one line for what is wrong."""

import json
import os
import re
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

import kbit_ref
from kbit_ref.checkpoints import Writer
from kbit_ref.checkpoints.header import Spec
from kbit_ref.cli import commands, main, parser
from kbit_ref.cli.show import field_widths, number_line
from kbit_ref.datatypes.datatype import datatype, datatypes
from kbit_ref.tensors.profiles import profiles


@pytest.mark.parametrize(
    "argv",
    [
        *(["list", *all_] for all_ in ([], ["--all"])),
        *(["list", what, *all_] for what in ("schemes", "profiles", "layouts", "methods") for all_ in ([], ["--all"])),
        ["show", "e2m1fn"],
        ["explain", "nf4-b2-absmax-f32", "1", "--values", "0.5", "-1", "3"],
        ["bench", "--size", "4096", "--runs", "1", "--type", "nf4"],
    ],
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
    from kbit_ref.datatypes.datatype import datatype

    assert bit_fields(datatype(name), code) == bits


@pytest.mark.parametrize(
    "argv",
    [
        *(["show", "nf44"], ["prove", "f17"], ["bench", "--type", "x"]),
        ["explain", "nf4-b64", "0", "--values", "1"],
        ["explain", "nf4-b2-absmax-f32", "3", "--values", "1", "2"],
        ["explain", "nf4-b2-absmax-f32", "1.5", "--values", "1", "2"],
        ["explain", "nf4-b2-absmax-f32", "1", "--values", "1", "2x"],
        ["explain", "nf4-b2-absmax-f32", "1", "--values", "1", "1/0"],
        ["explain", "nf4-b2-absmax-f32", "1", "--values", "1", "1e999999999"],
        ["explain", "nf4-b2-absmax-f32", "1", "--values", "1", "1e-9_999_999"],
        ["explain", "nf4-b2-absmax-f32", "9" * 5000, "--values", "1"],
        ["explain", "nf4-b2-absmax-f32", "1", "--values", "1", "--tensor", "w"],
        ["explain", "nf4-b2-absmax-f32", "1", "--file", "absent.safetensors"],
        ["explain", "nf4-b2-absmax-f32", "1", "--file", "absent.safetensors", "--tensor", "w"],
    ],
)
def test_mistakes_are_one_line_and_two(argv: list[str], capsys: pytest.CaptureFixture[str]) -> None:
    assert main(argv) == 2
    captured = capsys.readouterr()
    assert captured.err.count("\n") == 1
    assert captured.err.startswith(f"kbit-ref {argv[0]}: ")
    assert captured.err.count(f"{argv[0]}: ") == 1


@pytest.mark.parametrize(
    "argv",
    [[], ["nonsense"], ["show"], ["list", "nonsense"], ["explain", "nf4-b2-absmax-f32", "1"]],
)
def test_usage_is_two(argv: list[str]) -> None:
    with pytest.raises(SystemExit) as caught:
        main(argv)
    assert caught.value.code == 2


def test_module_and_help() -> None:
    done = subprocess.run([sys.executable, "-m", "kbit_ref", "--help"], capture_output=True, text=True, check=True)
    for name in commands():
        assert f"\n    {name}" in done.stdout


def test_a_reader_that_leaves() -> None:
    done = in_a_shell("show e4m3fn --all | (read line; echo $line); exit ${PIPESTATUS[0]}")
    assert done.stdout.startswith("e4m3fn: 8 bits")
    assert (done.stderr, done.returncode) == ("", 0)


def in_a_shell(line: str, **environment: str) -> "subprocess.CompletedProcess[str]":
    """`kbit-ref` with what the shell does to its output."""
    command = ["bash", "-c", f"{sys.executable} -m kbit_ref {line}"]
    return subprocess.run(command, capture_output=True, text=True, check=False, env=os.environ | environment)


@pytest.mark.parametrize("redirected", [">&-", "2>&-", ">&- 2>&-"])
def test_closed_output(redirected: str) -> None:
    done = in_a_shell(f"list {redirected}")
    assert (done.stderr, done.returncode) == ("", 0)
    assert in_a_shell(f"show nf44 {redirected}").returncode == 2


@pytest.mark.skipif(not Path("/dev/full").exists(), reason="a device of Linux")
@pytest.mark.parametrize("command", ["list", "show f16 --all --json"])
def test_a_full_disk(command: str) -> None:
    done = in_a_shell(f"{command} > /dev/full")
    assert (done.stderr, done.returncode) == (f"kbit-ref {command.split()[0]}: No space left on device\n", 2)


def test_names_beyond_the_encoding_of_the_output(tmp_path: Path) -> None:
    with Writer(tmp_path / "x.safetensors", [Spec("w", "F32", (2, 64))], {}):
        pass
    out = f"{tmp_path}/\u00f6.safetensors"
    done = in_a_shell(f"quantize {tmp_path}/x.safetensors nf4-b64-absmax-f32 -o {out}", PYTHONIOENCODING="ascii")
    assert (done.stderr, done.returncode) == ("", 0)
    assert "\\xf6.safetensors: 1 tensor as" in done.stdout


def test_interrupted_while_commands_are_imported(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    def interrupted() -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr("kbit_ref.cli.parser", interrupted)
    assert main(["list"]) == 130
    assert capsys.readouterr().err == "kbit-ref: interrupted\n"


def test_errors_name_the_command_and_no_function_behind_it(capsys: pytest.CaptureFixture[str]) -> None:
    for argv in (["choose", "--memory", "1MB", "--results", "no.sqlite"], ["eval", "no", "--world"], ["show", "nf44"]):
        assert main(argv) == 2
        assert re.match(rf"kbit-ref {argv[0]}: [^:,]+, there is no such ", capsys.readouterr().err)


def test_too_much_memory(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["bench", "--size", "1000000000000000", "--type", "nf4", "--threads", "1"]) == 2
    err = capsys.readouterr().err
    assert err.startswith("kbit-ref bench: Unable to allocate 3.55 PiB")
    assert err.count("\n") == 1


def test_names_of_profiles_are_asked_for_as_a_command(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["explain", "ggml-q4", "0", "--values", "1"]) == 2
    assert "? `kbit-ref list profiles` has all\n" in capsys.readouterr().err


def test_version(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as caught:
        main(["--version"])
    assert (caught.value.code, capsys.readouterr().out) == (0, f"kbit-ref {kbit_ref.__version__}\n")


@pytest.mark.parametrize("name", [n for n in datatypes(grammar=True) if re.match(r"(kfloat\d_)?u?e\d+m\d+", n)])
def test_bit_fields_are_those_of_the_name(name: str) -> None:
    found = re.search(r"e(\d+)m(\d+)", name)
    assert found is not None
    exponent, significand = int(found[1]), int(found[2])
    d = datatype(name)
    assert field_widths(d) == [d.bits - exponent - significand, exponent, significand]


@pytest.mark.parametrize("name", [name for name in datatypes() if datatype(name).bits <= 8])
def test_number_lines_fit(name: str) -> None:
    line, ends, *_ = number_line(datatype(name)).splitlines()
    levels = datatype(name).levels[datatype(name).emitted]
    marks = sum(10 if mark == "+" else int(mark) if mark.isdigit() else mark == "|" for mark in line)
    finite = np.unique(levels[np.isfinite(levels)]).size
    assert len(line) == 96 >= len(ends)
    assert marks == finite or ("+" in line and marks < finite)


def test_number_line_by_hand() -> None:
    line, ends = number_line(datatype("int2")).splitlines()
    assert [i for i, mark in enumerate(line) if mark == "|"] == [0, 32, 63, 95]
    assert ends.index("0") == 63


def test_show_as_a_document(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["show", "fp4_bnb", "--json"]) == 0
    document = json.loads(capsys.readouterr().out)
    assert document["choices"]["ties"] == "zero"
    assert [row["code"] for row in document["levels"] if row["unused"]] == [8]
    assert document["levels"][3] == {"code": 3, "bits": "0011", "level": "1.0", "gap": None, "unused": False}


def test_every_command_takes_json() -> None:
    actions = next(a for a in parser()._actions if a.choices)
    assert set(actions.choices) == set(commands()) >= {"list", "show", "prove", "check", "bench"}
    for sub in actions.choices.values():
        assert "--json" in sub.format_help()


def test_lists(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["list", "schemes"]) == 0
    out = capsys.readouterr().out
    assert out.startswith("RULES\nname         scale\nabsmax       fl(max|x| / top)\n")
    assert "\n\nSTORED SCALES\nname     summary\nf32      IEEE single precision, float32.\n" in out
    assert re.search(r"^tail +own pad error +a short last block is a block of its own", out, re.M)
    assert main(["list", "profiles"]) == 0
    out = capsys.readouterr().out
    assert re.search(r"^onnx-int\[2\|4\|8\] +ONNX .*\n    int\[\]-b32@-1-absmax-f32\+zeroblock=one$", out, re.M)
    assert main(["list", "profiles", "--all", "--json"]) == 0
    rows = json.loads(capsys.readouterr().out)
    assert [row["name"] for row in rows] == list(profiles())
    assert main(["list", "layouts", "--all"]) == 0
    assert re.search(r"^lsb3 +3 +8 +3$", capsys.readouterr().out, re.M)


@pytest.mark.parametrize("dtype", ["float16", "bfloat16", "float32", "float64"])
def test_explain_values(dtype: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["explain", "int4-b2-absmax-f32", "-1", "--values=0.1,-1e-3", "--dtype", dtype, "--json"]) == 0
    found = json.loads(capsys.readouterr().out)
    assert (found["index"], found["x"]["format"]) == ([1], dtype)
    hexes = {"float16": "0x9419", "bfloat16": "0xba83", "float32": "0xba83126f", "float64": "0xbf50624dd2f1a9fc"}
    assert found["x"]["hex"] == hexes[dtype]


def test_numbers_beyond_every_format(capsys: pytest.CaptureFixture[str]) -> None:
    argv = ["explain", "int4-b2-absmax-f32+scalerange=clamp", "1", "--json", "--values", "1"]
    assert main([*argv, "1e-9999"]) == 0
    assert json.loads(capsys.readouterr().out)["x"]["value"] == 0


def test_explain_random_bits(capsys: pytest.CaptureFixture[str]) -> None:
    # a quarter of the way from 1 to 2 with R = 3 of 2 bits goes up
    scheme = "int4-b2-absmax-f32+rounding=stochastic_a"
    assert main(["explain", scheme, "1", "--values", "7", "1.25", "--random", "3", "--random-bits", "2"]) == 0
    assert "code      2 = 0010\n" in capsys.readouterr().out


@pytest.mark.parametrize(("kind", "bits", "as_hex"), [("F32", "<u4", "0x3fc00000"), ("BF16", "<u2", "0x3fc0")])
def test_explain_a_file(kind: str, bits: str, as_hex: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    words = np.full((2, 3), int(as_hex, 16), bits)  # 1.5 everywhere
    with Writer(tmp_path / "x.safetensors", [Spec("w", kind, (2, 3)), Spec("n", "I32", (1,))], {}) as file:
        file.view("w")[:] = words.view(np.uint8).reshape(-1)
    argv = ["explain", "int4-b3-absmax-f32", "1,-1", "--file", str(tmp_path / "x.safetensors"), "--tensor"]
    assert main([*argv, "w"]) == 0
    assert f"x[1, 2]   1.5 = {as_hex} = 0|01111111|1" in capsys.readouterr().out
    indexed = ["explain", *argv[3:], "w", argv[1], "--", "-1,-1"]
    assert main(indexed) == 0
    assert "x[1, 2]   1.5 = " in capsys.readouterr().out
    assert main([*argv, "\udcff"]) == 2  # a byte that is no UTF-8
    assert "tensor = '\\udcff', there is no such name" in capsys.readouterr().err
    for name in ("v", "n"):  # no such tensor; integers
        assert main([*argv, name]) == 2
        assert capsys.readouterr().err.count("\n") == 1


@pytest.mark.parametrize("what", ["types", "schemes", "profiles", "layouts", "methods"])
@pytest.mark.parametrize("columns", [80, 100])
def test_lists_fit_the_terminal(
    what: str, columns: int, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("COLUMNS", str(columns))
    for all_ in ([], ["--all"]):
        assert main(["list", what, *all_]) == 0
        assert max(map(len, capsys.readouterr().out.splitlines())) <= columns


def test_show_a_scheme(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["show", "Q4_0"]) == 0
    out = capsys.readouterr().out
    assert "profile ggml-q4_0: ggml-quants.c; gguf 0.19.0 quants.py\ndefinition: oint4-b32" in out
    assert "\n4.5 bits per parameter" in out
    assert re.search(r"^cut +b32@-1 +blocks of 32 elements along axis -1, a scale each$", out, re.M)
    assert re.search(r"^\+encoder +addhalf +integers: 1/2 and the lowest", out, re.M)
    assert main(["show", "nf4-channel-absmax-f32", "--json"]) == 0
    document = json.loads(capsys.readouterr().out)
    assert (document["spelling"], document["profiles"]) == ("nf4-channel-absmax-f32", [])
    assert document["bits_per_parameter"] == 4 + 32 / 1024
    assert document["parts"]["cut"] == {"value": "channel", "meaning": "one scale for each index of axis 0"}
    assert main(["show", "mxfp4", "--all"]) == 2
    assert main(["show", "fp4"]) == 2
    err = capsys.readouterr().err.splitlines()
    assert err[0] == "kbit-ref show: --all, a scheme has no codes of its own; leave it out"
    assert err[1].startswith("kbit-ref show: datatype = 'fp4', 2 different data types have that name; use e2m1fn (")


def test_lists_of_all_have_headings(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["list", "layouts", "--all"]) == 0
    assert capsys.readouterr().out.splitlines()[0].split() == ["name", "bits", "codes", "bytes"]


def test_two_forms_at_once_are_refused(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["list", "--markdown", "--json"]) == 2
    assert capsys.readouterr() == (
        "",
        "kbit-ref list: --markdown, --json, two forms of one table; choose one of them\n",
    )


def test_one_bit_is_singular(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["show", "uint1"]) == 0
    assert capsys.readouterr().out.startswith("uint1: 1 bit, ")


@pytest.mark.parametrize("command", ["bench", "quantize a nf4 -o b", "dequantize a -o b", "prove int4"])
def test_threads(command: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert main([*command.split(), "--threads", "0"]) == 2
    assert re.match(r"kbit-ref \w+: threads = 0, it is .*; leave it out\n$", capsys.readouterr().err)


@pytest.mark.parametrize(
    "command",
    [
        *("show fp4", "gen fp8", "export FP8 --rom -", "prove E4M3", "bench --type fp4", "study distortion fp8"),
        *(
            "explain nvfp4 1 --values 1 2",
            "quantize x nvfp4 -o y",
            "departures nvfp4",
            "check --only fp8",
            "check --type fp8",
        ),
        *("check fp8 --pipe", "audit sqnr_18 --scheme nvfp4", "train --size s --scheme fp4"),
    ],
)
def test_every_command_lists_what_an_everyday_name_may_mean(
    command: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(tmp_path)
    with Writer(tmp_path / "x", [Spec("w", "F32", (2, 64))], {}):
        pass
    assert main(command.split()) == 2
    out, err = capsys.readouterr()
    assert (out, err.count("\n")) == ("", 1)
    assert (
        re.search(r"\d different (data type|scheme)s have that name; use \S+ \(.*\), .* or ", err) or "fp4_bnb" in err
    )


@pytest.mark.parametrize(
    "command",
    [
        "show MXFP4",
        "explain Q8_0 1 --values 1 2",
        "gen NF4 --count 1",
        "export float8_e4m3fn --rom -",
        "departures Q4_0",
    ],
)
def test_every_command_finds_what_an_everyday_name_means(command: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(command.split()) == 0
    assert capsys.readouterr().out
