"""A judge in a process of its own for each of several libraries: the same verdicts, and nothing left behind."""

import os
import shutil
import signal
import subprocess
import sys
import time
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from helpers import children

from kbit_ref.conformance import judges
from kbit_ref.conformance.implementations.adapters import Adapter, adapters
from kbit_ref.conformance.judges import judge_libraries, judge_side_by_side

ADAPTER = """
import os, sys
import kbit_ref as kb
from kbit_ref.conformance import judges
from kbit_ref.conformance.implementations.adapters import Adapter, BlockProfile, Profile

class Fake(Adapter):
    library, module, install = "{name}", "numpy", "pip install numpy"
    profiles = (
        Profile("e2m1fn", "a", sources=("float32",)),
        Profile("e3m2fn", "b", sources=("float32",)),
        BlockProfile("int4-b32-absmax-f32", "c", sources=("float32",)),
    )

    {first}
    def encode(self, theirs, x, source):
        return kb.encode({{"a": "e2m1fn+ties=away", "b": "e3m2fn"}}[theirs], x)

    def decode(self, theirs, codes):
        return kb.decode({{"a": "e2m1fn", "b": "e3m2fn"}}[theirs], codes)

    def quantize(self, theirs, x, source):
        {then}q = kb.quantize(x, "int4-b32-absmax-f32+ties=away")
        return {{"codes": q.codes, "scales": q.scales}}
"""
IN_A_JUDGE = 'any("conformance.judges" in word for word in sys.orig_argv)'


def made(folder: Path, *names: str, first: str = "", then: str = "") -> list[Adapter]:
    for name in names:
        (folder / f"{name}.py").write_text(ADAPTER.format(name=name, first=first, then=then), "utf-8")
    found = adapters([folder])
    return [found[name] for name in names]


def said(rows: list[Any]) -> list[dict[str, Any]]:
    return [row.report.as_dict() for row in rows]


def test_the_verdicts_are_those_of_one_process(tmp_path: Path) -> None:
    one, two = made(tmp_path, "one", "two")
    shown: list[str] = []
    steps: list[tuple[str, int, int]] = []
    together = judge_libraries(
        [one, two],
        folders=[tmp_path],
        each=lambda verdict: shown.append(f"{verdict.library} {verdict.theirs}"),
        progress=lambda *step: steps.append(step),
    )
    alone = [judge_libraries([each], folders=[tmp_path]) for each in (one, two)]
    assert said(together) == said(alone[0]) + said(alone[1])
    assert [row.report.status for row in together] == ["disagree", "agree", "disagree"] * 2
    assert sorted(shown) == ["one a", "one b", "one c", "two a", "two b", "two c"]
    assert {name: done == total for name, done, total in steps} == {"one": True, "two": True}


def test_what_was_heard_comes_with_its_questions(tmp_path: Path) -> None:
    found = judge_side_by_side(made(tmp_path, "one", "two"), folders=[tmp_path], answered=True)
    (question, answers), *_ = found[1].judged[0].answered
    assert (question.dtype.name, question.what, question.inputs.kind) == ("e2m1fn", "encode", "float32")
    assert answers[0].array is not None
    assert answers[0].array.size == question.ours.size


def test_a_judge_that_dies_costs_its_own_library_what_is_left(tmp_path: Path) -> None:
    (right,) = made(tmp_path, "right")
    dies = f"def version(self):\n        {IN_A_JUDGE} and os._exit(3)\n        return '1'\n"
    (dying,) = made(tmp_path, "dying", first=dies)
    shown: list[str] = []
    rows = judge_libraries([dying, right], folders=[tmp_path], each=lambda verdict: shown.append(verdict.library))
    assert [row.report.status for row in rows] == ["error"] * 3 + ["disagree", "agree", "disagree"]
    assert {row.report.errors for row in rows[:3]} == {("its judge died: exit code 3",)}
    assert sorted(shown) == ["dying"] * 3 + ["right"] * 3


def test_adapters_that_another_process_would_not_find_are_judged_here(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    libraries = made(tmp_path, "one", "two")
    libraries[0].profiles = (replace(libraries[0].profiles[0], theirs="a "),)
    monkeypatch.setattr(judges, "_apart", None)
    rows = judge_libraries(libraries, folders=[tmp_path])
    assert [row.report.status for row in rows] == ["error", "disagree", "agree", "disagree"]


@pytest.mark.skipif(sys.platform == "win32" or shutil.which("ps") is None, reason="signals, ps")
def test_an_interrupt_ends_judges_and_libraries_and_leaves_no_file(tmp_path: Path) -> None:
    folder, temporary = tmp_path / "adapters", tmp_path / "tmp"
    folder.mkdir()
    temporary.mkdir()
    tell = f"open({str(tmp_path)!r} + '/ids', 'a').write(f'{{os.getpid()}} {{os.getppid()}} ')"
    made(folder, "one", "two", then=f"{tell}; import time; time.sleep(60); ")
    process = subprocess.Popen(
        children.command("check", "one", "two", "--adapters", folder, first=children.INTERRUPTS),
        stderr=subprocess.PIPE,
        stdout=subprocess.DEVNULL,
        text=True,
        env={**os.environ, "TMPDIR": str(temporary)},
    )
    ids = tmp_path / "ids"
    begin = time.monotonic()
    while not ids.exists() or len(ids.read_text("utf-8").split()) < 4:
        time.sleep(0.02)
        assert process.poll() is None
        assert time.monotonic() - begin < 60
    process.send_signal(signal.SIGINT)
    assert process.wait(20) == 130
    assert process.communicate()[1].endswith("kbit-ref: interrupted\n")
    time.sleep(0.1)
    for number in ids.read_text("utf-8").split():
        state = subprocess.run(["ps", "-o", "stat=", "-p", number], capture_output=True, text=True).stdout
        assert state[:1] in ("", "Z")  # gone, or dead and not yet waited for by the first process of the machine
    assert list(temporary.iterdir()) == []
