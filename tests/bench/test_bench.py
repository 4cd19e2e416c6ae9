"""The benchmark runs, and no operation works in more than 8 MiB a thread. Times are not judged here."""

import json
import os
from dataclasses import replace

import numpy as np
import pytest

import kbit_ref as kb
from kbit_ref.bench import bench
from kbit_ref.bench.bench import Task, measure, scratch_bytes, tasks
from kbit_ref.bench.peers import Peer
from kbit_ref.cli import main
from kbit_ref.cli.bench import met


@pytest.mark.parametrize("task", tasks(), ids=str)
@pytest.mark.parametrize("threads", [1, 2])
def test_scratch_is_bounded(task: Task, threads: int) -> None:
    assert scratch_bytes(task, 1 << 21, threads) <= 8 << 20


def test_scratch_would_be_seen(monkeypatch: pytest.MonkeyPatch) -> None:
    from kbit_ref.engine import codec as engine

    monkeypatch.setattr(engine, "CHUNK", 1 << 21)
    assert scratch_bytes(Task("encode", "nf4"), 1 << 21) > 8 << 20


def test_rows() -> None:
    rows = list(measure(Task("encode", "e4m3fn", target={1: 0.55}), 4096, 1, 3, []))
    assert [row.who for row in rows] == ["copy", "kbit_ref"]
    assert rows[0].ratio == 1
    assert rows[1].target == 0.55
    assert rows[1].speed == 4096 / rows[1].seconds


def echo(task: Task, x: np.ndarray, threads: int) -> Peer:
    """A peer that is right about every code but the first."""
    codes = kb.encode(task.subject, x)
    codes[:1] ^= 1
    return Peer(lambda: codes, lambda result: result)


def broken(task: Task, x: np.ndarray, threads: int) -> Peer:
    """A peer that raises when it is made, or when it is called for the third time or later."""
    if task.subject == "nf4":
        raise ImportError("no such\nlibrary")
    calls = iter([1, 2])
    return Peer(lambda: next(calls) and kb.encode(task.subject, x), lambda result: result)


def test_a_peer_that_answers_something_else_is_told_and_not_compared(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(bench, "PEERS", {"echo": echo})
    monkeypatch.setattr("kbit_ref.cli.bench.installed", lambda: {"echo": "1"})
    argv = ["bench", "--size", "4096", "--runs", "1", "--threads", "1", "--type", "fp4_bnb"]
    assert main(argv) == 0
    out = capsys.readouterr().out
    assert "1 other answers" in out
    assert "other answers than ours: echo (encode fp4_bnb)" in out
    assert " of echo" not in out
    assert main([*argv, "--json"]) == 0
    rows = json.loads(capsys.readouterr().out)["rows"]
    assert [(row["who"], row["differs"]) for row in rows] == [("copy", 0), ("kbit_ref", 0), ("echo", 1)]


def test_a_peer_that_raises_is_a_line_of_the_table(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(bench, "PEERS", {"broken": broken})
    monkeypatch.setattr("kbit_ref.cli.bench.installed", lambda: {"broken": "1"})
    argv = ["bench", "--size", "4096", "--runs", "2", "--threads", "1", "--type", "nf4", "--type", "dynamic8"]
    assert main(argv) == 0
    out = capsys.readouterr().out
    assert out.count("raises ImportError: no such library") == 2  # encode and decode nf4
    assert out.count("raises StopIteration") == 2  # dynamic8, in the last run
    assert " of broken" not in out
    assert main([*argv, "--json"]) == 0
    rows = json.loads(capsys.readouterr().out)["rows"]
    failed = [row for row in rows if row["error"]]
    assert {(row["who"], row["seconds"], row["speed"]) for row in failed} == {("broken", 0, 0)}


def test_too_much_memory_is_wrong(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    monkeypatch.setattr("kbit_ref.cli.bench.LIMIT", 1)
    monkeypatch.setattr("kbit_ref.cli.bench.installed", dict)
    assert main(["bench", "--size", "4096", "--runs", "1", "--threads", "1", "--type", "low4"]) == 1
    assert "of scratch a thread: pack low4, unpack low4" in capsys.readouterr().out


def test_being_slow_is_not_wrong(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    monkeypatch.setattr("kbit_ref.cli.bench.installed", dict)
    argv = ["bench", "--size", "64", "--runs", "1", "--threads", "1", "--type", "nf4-b64-absmax-f32"]
    assert main(argv) == 0
    assert " met" not in capsys.readouterr().out  # nobody aims at so few
    monkeypatch.setattr("kbit_ref.cli.bench.AIMED_AT", 64)
    assert main(argv) == 0  # of 64 numbers, the calls alone take longer than a copy
    assert "0.30 not met" in capsys.readouterr().out


@pytest.mark.parametrize("task", [task for task in tasks() if task.of_blocks or task.out], ids=str)
def test_every_row_runs(task: Task) -> None:
    rows = list(measure(task, 4096, 1, 1, []))
    assert [row.who for row in rows] == ["copy", "kbit_ref"]
    assert not rows[1].error


def test_out_is_not_counted_as_scratch() -> None:
    task = Task("decode", "e4m3fn")
    there = replace(task, out=True)
    assert abs(scratch_bytes(task, 1 << 21) - scratch_bytes(there, 1 << 21)) < 1 << 16


def test_peers_answer_what_we_answer() -> None:
    for name in bench.installed():
        if name not in ("ml_dtypes", "gfloat"):  # the others take seconds to import
            continue
        for verb in ("encode", "decode"):
            rows = list(measure(Task(verb, "e4m3fn"), 4096, 1, 1, [name]))
            assert [row.who for row in rows] == ["copy", "kbit_ref", name]
            assert rows[-1].differs == 0


@pytest.mark.slow
def test_every_installed_peer_answers_what_we_answer() -> None:
    for task in tasks():
        rows = list(measure(task, 1 << 14, 1, 1, list(bench.installed())))  # torchao's nf4 wants 64 * 256
        wrong = [row for row in rows if row.differs or row.error]
        if str(task) == "dequantize nf4-b64-absmax-f32":  # torchao sums the mean of the scales in another order
            wrong = [row for row in wrong if row.who != "torchao"]
        assert wrong == []


@pytest.mark.skipif(not hasattr(os, "sched_getaffinity"), reason="the system cannot bind threads to cores")
def test_cores_are_given_back() -> None:
    before = os.sched_getaffinity(0)
    with bench.on_cores(1):
        assert len(os.sched_getaffinity(0)) == 1
    assert os.sched_getaffinity(0) == before


def test_a_target_is_judged() -> None:
    row = bench.Timing("encode e4m3fn", "kbit_ref", 1, 1 << 22, 1.0, 0.5, 0.55, 0.45)
    assert met(row) == "0.55 floor met"
    assert met(replace(row, ratio=0.55)) == "0.55 met"
    assert met(replace(row, ratio=0.44)) == "0.55 not met"
    assert met(replace(row, target=None)) == met(replace(row, size=1 << 21)) == ""  # the aims are for large arrays
