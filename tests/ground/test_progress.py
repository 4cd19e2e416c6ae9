"""Progress: nothing for short work, a line for a file, a line that is rewritten for a terminal."""

import importlib
import sys
from collections.abc import Iterator

import pytest

from kbit_ref import progress
from kbit_ref.progress import Progress


@pytest.fixture
def clock(monkeypatch: pytest.MonkeyPatch) -> Iterator[list[float]]:
    """Seconds that pass when the test says so."""
    now = [0.0]
    monkeypatch.setattr(progress.time, "monotonic", lambda: now[0])
    return now


def test_short_work_shows_nothing(clock: list[float], capsys: pytest.CaptureFixture[str]) -> None:
    with Progress("short", 10) as step:
        for _ in range(10):
            clock[0] += 0.19
            step()
    assert step.done == 10
    assert capsys.readouterr().err == ""


def test_a_file_gets_a_line_now_and_then(clock: list[float], capsys: pytest.CaptureFixture[str]) -> None:
    with Progress("long", 100) as step:
        for _ in range(40):
            clock[0] += 1
            step(2, title="longer")
    assert capsys.readouterr().err == "longer: 6 %, 3 s\nlonger: 36 %, 18 s\nlonger: 66 %, 33 s\n"


def test_a_terminal_without_tqdm_sees_one_line(
    clock: list[float], capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(sys.stderr, "isatty", lambda: True, raising=False)
    monkeypatch.setitem(sys.modules, "tqdm", None)
    with Progress("long", 10) as step:
        clock[0] += 2
        step(5)
    assert capsys.readouterr().err == "\r\x1b[Klong: 50 %, 2 s\r\x1b[K"


def test_a_terminal_with_tqdm_sees_its_bar(monkeypatch: pytest.MonkeyPatch) -> None:
    tqdm = importlib.import_module("tqdm")
    made = []

    class Bar:
        def __init__(self, **options: object):
            self.n, self.closed = 0, False
            made.append(self)

        def update(self, steps: int) -> None:
            self.n += steps

        def set_description(self, title: str, refresh: bool) -> None:
            self.title = title

        def close(self) -> None:
            self.closed = True

    monkeypatch.setattr(tqdm, "tqdm", Bar)
    monkeypatch.setattr(sys.stderr, "isatty", lambda: True, raising=False)
    with Progress("long", 10) as step:
        step(3)
        step(4, title="next")
    assert (made[0].n, made[0].title, made[0].closed) == (7, "next", True)


def test_the_total_may_turn_out_later() -> None:
    with Progress("growing", 0) as step:
        step.expect(4)
        step(3)
        assert (step.done, step.total) == (3, 4)


def test_what_begins_slowly_and_ends_soon_shows_nothing(clock: list[float], capsys: pytest.CaptureFixture[str]) -> None:
    with Progress("judging", 100) as step:
        clock[0] += 6  # a library is imported
        for _ in range(100):
            clock[0] += 0.01
            step()
    assert capsys.readouterr().err == ""
