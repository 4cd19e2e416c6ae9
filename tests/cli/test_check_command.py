"""`kbit-ref check`: the table, the exit codes, the lines for what is wrong or absent."""

import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest
from helpers import children
from helpers.libraries import light

from kbit_ref.cli import main
from kbit_ref.conformance.implementations.adapters import adapters, block_adapters
from kbit_ref.conformance.implementations.block_libraries import judge_block_libraries
from kbit_ref.conformance.implementations.libraries import judge_libraries

ADAPTER = """
import numpy as np
import kbit_ref as kb
from kbit_ref.conformance.implementations.adapters import Adapter, Profile
from kbit_ref.conformance.variants.of_types import choice
from kbit_ref.conformance.judge import Known

class Mine(Adapter):
    library, module, install = "mine", "{module}", "pip install mine"
    profiles = (Profile("e2m1fn", "four", sources=("float16", "float32"), what=("encode",)),)
    known = {known}

    def encode(self, theirs, x, source):
        return kb.encode("{spelling}", x)
"""

BLOCKS = """
from kbit_ref.conformance.implementations.adapters import BlockAdapter, BlockProfile

class Mine(BlockAdapter):
    library, module, install = "mine", "numpy", "pip install mine"
    profiles = (BlockProfile("int4-b32-absmax-f32", "theirs"),)

    def quantize(self, theirs, x, source):
        return {}
"""


@pytest.fixture
def mine(tmp_path: Path):
    def write(spelling="e2m1fn", module="numpy", known="()"):
        (tmp_path / "mine.py").write_text(ADAPTER.format(spelling=spelling, module=module, known=known), "utf-8")
        return ["check", "mine", "--adapters", str(tmp_path)]

    return write


def test_agreement(mine, capsys):
    assert main(mine()) == 0
    out, err = capsys.readouterr()
    lines = out.splitlines()
    assert lines[0].startswith("mine ")
    assert lines[0].split()[2:] == ["type", "values", "float16", "bfloat16", "float32", "float64", "decode"]
    assert lines[1].split()[:2] == ["four", "e2m1fn"]
    assert lines[1].split()[3:] == ["agree", "-", "agree", "-", "-"]
    assert "2 verdicts on 1 library: 2 agree, 0 known, 0 disagree, 0 error." in lines[-1]
    assert "Left out by rule: 2,071 NaN" in out
    assert err == "" or err.startswith("judging: ")  # a line only after two seconds


def test_disagreement(mine, capsys):
    assert main(mine("e2m1fn+ties=away")) == 1
    out = capsys.readouterr().out
    assert "DISAGREE" in out.splitlines()[1]
    assert "DISAGREE  mine: ties=away: theirs is what ties=away gives" in out
    assert "values  16 from float16, float32: four" in out
    assert "input   0x3400 = 0.25  (float16)" in out
    assert "16 values differ from the definition and are on no public record that we know of." in out
    assert "2 disagree" in out.splitlines()[-1]


def test_known_difference(mine, capsys):
    record = '(Known(choice(ties="away"), "https://example.org/7"),)'
    assert main(mine("e2m1fn+ties=away", known=record)) == 0
    out = capsys.readouterr().out
    assert "record  https://example.org/7" in out
    assert "no public record" not in out
    assert main(mine("e2m1fn", known=record)) == 1
    assert "no longer differs: ties=away (https://example.org/7)" in capsys.readouterr().out


def test_json(mine, capsys):
    assert main([*mine("e2m1fn+ties=away"), "--json"]) == 1
    document = json.loads(capsys.readouterr().out)
    (row,) = document["rows"]
    assert (row["library"], row["subject"], row["theirs"], row["status"]) == ("mine", "e2m1fn", "four", "disagree")
    assert [v["different"] for v in row["rows"]] == [8, 8]
    assert row["rows"][1]["differences"][0]["example"]["bits"] == "0x3e800000"
    assert document["absent"] == []


def test_absent_library(mine, capsys):
    assert main(mine(module="no_such_module_of_anybody")) == 2
    out, err = capsys.readouterr()
    assert out == ""
    assert err == "kbit-ref check: library = mine, it is not installed; pip install mine\n"


def test_absent_libraries_are_listed_when_none_is_named(monkeypatch, capsys):
    from kbit_ref.conformance.implementations.adapters import Adapter

    monkeypatch.setattr(Adapter, "installed", lambda self: False)
    assert main(["check"]) == 1
    out = capsys.readouterr().out
    assert "ml_dtypes is not installed: pip install ml_dtypes" in out
    assert "No library that check has an adapter for is installed" in out


@pytest.mark.parametrize(
    ("more", "text"),
    [
        (["--type", "e2m1fm"], "check: datatype = 'e2m1fm', there is no such name; did you mean e2m1fn"),
        (["--type", "nf4"], "check: type = nf4, no library that was asked has it"),
        (["--timeout", "0"], "check: timeout = 0.0, it is a number of seconds"),
        (["--timeout", "inf"], "check: timeout = inf, it is a number of seconds, at most 1,000,000"),
        (["--adapters", "/no/such/folder"], "check: adapters = /no/such/folder, there is no such folder"),
    ],
)
def test_usage(mine, capsys, more, text):
    assert main([*mine(), *more]) == 2
    assert text in capsys.readouterr().err


@pytest.mark.parametrize(
    ("source", "text"), [("raise ValueError('on\npurpose')", "ValueError: on purpose"), ("def", "SyntaxError: ")]
)
def test_a_broken_adapter_is_one_line_with_its_file(source, text, mine, tmp_path, capsys):
    command = mine()
    (tmp_path / "foo.py").write_text(source.replace("on\n", "on\\n"), "utf-8")
    assert main(command) == 2
    err = capsys.readouterr().err
    assert err.startswith(f"kbit-ref check: adapters = {tmp_path}/foo.py, the file cannot be loaded ({text}")
    assert err.count("\n") == 1


def test_unknown_library(mine, capsys):
    _, _, *rest = mine()
    assert main(["check", "mina", *rest]) == 2
    assert "check: library = 'mina', there is no such name; did you mean mine" in capsys.readouterr().err


@pytest.mark.parametrize("name", ["e2m1fn", "e4m3fn+overflow=ieee"])
def test_type_chooses_rows(name, capsys):
    light("ml_dtypes")
    main(["check", "ml_dtypes", "--type", name])
    rows = [line for line in capsys.readouterr().out.splitlines() if line.startswith("float")]
    assert [row.split()[1] for row in rows] == [name]


def test_module_runs_in_a_fresh_process(mine):
    done = subprocess.run([sys.executable, "-m", "kbit_ref", *mine()], capture_output=True, text=True)
    assert done.returncode == 0
    assert done.stdout.splitlines()[-1].startswith("2 verdicts on 1 library")


@pytest.mark.skipif(sys.platform == "win32", reason="signals")
@pytest.mark.parametrize("blocks", [False, True])
def test_an_interrupt_ends_it_and_its_processes_at_once(blocks, mine, tmp_path):
    command = [*mine(), *(["--blocks"] if blocks else [])]
    path = tmp_path / "mine.py"
    if blocks:
        path.write_text(BLOCKS, "utf-8")
    tell = f"pathlib.Path({str(tmp_path)!r}, 'id').write_text(str(os.getpid()))"
    sleep = f"import os, pathlib, time; {tell}; time.sleep(60)"
    path.write_text(path.read_text("utf-8").replace("return", f"{sleep}; return"), "utf-8")
    process = subprocess.Popen(
        children.command(*command, first=children.INTERRUPTS),
        stderr=subprocess.PIPE,
        text=True,
    )
    while not (tmp_path / "id").exists() or not (tmp_path / "id").read_text("utf-8"):
        time.sleep(0.02)
        assert process.poll() is None
    begin = time.monotonic()
    process.send_signal(signal.SIGINT)
    assert process.wait(20) == 130
    assert time.monotonic() - begin < 2  # 0.1 where nothing else runs
    assert process.communicate()[1] == "kbit-ref: interrupted\n"
    with pytest.raises(ProcessLookupError):
        os.kill(int((tmp_path / "id").read_text()), 0)


@pytest.mark.parametrize(
    ("found", "judge"), [(adapters, judge_libraries), (block_adapters, judge_block_libraries)], ids=["types", "blocks"]
)
def test_the_work_of_all_libraries_is_known_before_the_first_begins(found, judge):
    """Else the percentage would come to 100 with every library that is done."""
    libraries = [a for a in found().values() if a.types or judge is not judge_libraries][:3]
    told = []

    def progress(library, done, total):
        told.append((library, done))
        assert total > 0
        if len(told) == 3:
            raise InterruptedError

    with pytest.raises(InterruptedError):
        judge(libraries, progress=progress)
    assert told == [(adapter.library, 0) for adapter in libraries]


def test_rank_names_the_choices_and_where_others_part(mine, capsys):
    assert main([*mine("e2m1fn+ties=away"), "--rank"]) == 1
    lines = capsys.readouterr().out.splitlines()
    begin = lines.index("RANK      mine four")
    assert lines[begin + 1].startswith("  conforms to  e2m1fn+ties=away (the same here: ")
    even = next(line for line in lines if line.startswith("  not to       e2m1fn (the same here: "))
    assert even.endswith("differ; first 0x3400 = 0.25 (float16): theirs 0x1 = 0.5, its 0x0 = 0")


def test_rank_speaks_json(mine, capsys):
    main([*mine("e2m1fn+ties=away"), "--rank", "--json"])
    (row,) = json.loads(capsys.readouterr().out)["rows"]
    assert "e2m1fn+ties=away" in row["ranking"]["conforms"]
