"""The benchmark runs, and no operation works in more than 8 MiB a thread. Times are not judged here."""

import pytest

from kbit_ref.conformance.bench import Task, measure, scratch_bytes, tasks

CODING = [task for task in tasks() if task.verb in ("encode", "decode")]


@pytest.mark.parametrize("task", CODING, ids=str)
@pytest.mark.parametrize("threads", [1, 2])
def test_scratch_is_bounded(task: Task, threads: int) -> None:
    assert scratch_bytes(task, 1 << 21, threads) <= 8 << 20


def test_scratch_would_be_seen(monkeypatch: pytest.MonkeyPatch) -> None:
    from kbit_ref import engine

    monkeypatch.setattr(engine, "CHUNK", 1 << 21)
    assert scratch_bytes(Task("encode", "nf4"), 1 << 21) > 8 << 20


def test_rows() -> None:
    rows = list(measure(Task("encode", "e4m3fn", target={1: 0.55}), 4096, 1, 3, []))
    assert [row.who for row in rows] == ["copy", "kbit_ref"]
    assert rows[0].ratio == 1
    assert rows[1].target == 0.55
    assert rows[1].speed == 4096 / rows[1].seconds
