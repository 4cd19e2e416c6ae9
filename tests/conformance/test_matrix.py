"""`kbit-ref matrix`: who agrees with whom, on pages that stand alone."""

import contextlib
import io
import json
from html.parser import HTMLParser
from pathlib import Path

import numpy as np
import pytest

import kbit_ref as kb
from kbit_ref.cli import main
from kbit_ref.conformance.implementations.adapters import adapters
from kbit_ref.conformance.matrix.pages import html, markdown
from kbit_ref.conformance.matrix.pairs import Group, Member, group_of

TWO = """
import numpy as np
import kbit_ref as kb
from kbit_ref.conformance.adapters import Adapter, Profile
from kbit_ref.conformance.blocks.adapters import BlockAdapter, BlockProfile

class {name}(Adapter):
    library, module, install = "{name}", "numpy", "pip install {name}"
    profiles = (Profile("int4", "four", sources=("float32",), what=("encode",)),)

    def encode(self, theirs, x, source):
        return kb.encode("{type}", x)

class Blocks{name}(BlockAdapter):
    library, module, install = "{name}", "numpy", "pip install {name}"
    profiles = (BlockProfile("int4-b16@-1-absmax-f32+scalerange=clamp", "blocks"),)

    def quantize(self, theirs, x, source):
        {body}
        q = kb.quantize(x, "{scheme}")
        return {{"codes": q.codes, "scales": q.scales, "decoded": kb.dequantize(q)}}
"""
ROUNDS = "int4-b16@-1-absmax-f32+scalerange=clamp"


def write(folder: Path, name: str, more: str = "", body: str = "pass") -> None:
    text = TWO.format(name=name, type="int4" + more, scheme=ROUNDS + more, body=body)
    (folder / f"{name}.py").write_text(text, "utf-8")


@pytest.fixture(scope="module")
def made(tmp_path_factory):
    """The exit code, what was printed, and the pages of three libraries, of which two agree."""
    folder = tmp_path_factory.mktemp("three")
    write(folder, "ada")
    write(folder, "bob")
    write(folder, "eve", "+ties=away")
    return run(folder, "ada", "bob", "eve")


def run(folder: Path, *names: str):
    files = [folder / name for name in ("m.html", "m.md", "m.json")]
    command = ["matrix", *names, "--adapters", str(folder)]
    for option, file in zip(("--html", "--markdown", "--save"), files, strict=True):
        command += [option, str(file)]
    with contextlib.redirect_stdout(io.StringIO()) as out:
        code = main(command)
    return code, out.getvalue().splitlines(), *files


def test_who_agrees_with_whom_in_the_terminal_and_on_pages(made):
    code, lines, page, text, saved = made
    assert code == 1
    begin = lines.index("int4 from float32: 3 side by side, 2 different answers")
    assert lines[begin + 1 : begin + 3] == ["  2 alike: ada four, bob four", "  eve four"]
    begin = lines.index("int4 in blocks of 16: 3 side by side, 2 different answers")
    assert lines[begin + 1 : begin + 3] == ["  2 alike: ada blocks, bob blocks", "  eve blocks"]
    assert lines[-1].startswith("3 libraries, 6 types and formats, 2 groups; ")

    found = json.loads(saved.read_text("utf-8"))
    assert [row["status"] for row in found["types"]] == ["agree", "agree", "disagree"]
    assert [row["status"] for row in found["blocks"]] == ["agree", "agree", "disagree"]
    of_type, of_blocks = found["groups"]
    both, first, second = of_type["pairs"]
    assert both[2] > 10_000
    assert both[3:] == [0, 0, ""]
    ties = sum(kb.encode("int4", x) != kb.encode("int4+ties=away", x) for x in np.arange(-7.5, 7.5))
    assert first[3] == second[3] == ties
    assert first[5] == "0.5 (float32): 0x0 = 0; 0x1 = 1"  # the simplest tie
    assert of_blocks["pairs"][0][3] == 0
    assert of_blocks["pairs"][1][3] == of_blocks["pairs"][2][3] > 0
    check_page(page.read_text("utf-8"))
    assert "- 2 alike: ada four, bob four" in text.read_text("utf-8").splitlines()
    for name, draw in ((page, html), (text, markdown)):  # pages of the saved file are the same
        assert draw(found) == name.read_text("utf-8")


class Tags(HTMLParser):
    """What is open must be closed, and nothing comes from elsewhere."""

    ALONE = ("meta", "!doctype")

    def __init__(self):
        super().__init__()
        self.open, self.seen, self.faults = [], [], []

    def handle_starttag(self, tag, attrs):
        self.seen.append(tag)
        self.faults += [f"{tag} {name}={value}" for name, value in attrs if name in ("src", "onclick") or "//" in value]
        if tag not in self.ALONE:
            self.open.append(tag)

    def handle_endtag(self, tag):
        if self.open and self.open[-1] == tag:
            self.open.pop()
        else:
            self.faults.append(f"</{tag}> while {self.open[-3:]}")


def check_page(page: str) -> Tags:
    tags = Tags()
    tags.feed(page)
    assert tags.faults == []
    assert tags.open == []
    assert "script" not in tags.seen
    assert "link" not in tags.seen
    assert {"details", "summary", "table", "style"} <= set(tags.seen)
    return tags


def test_a_page_that_is_not_closed_is_found():
    with pytest.raises(AssertionError):
        check_page("<table><tr></table><details><summary></summary></details><style></style>")
    with pytest.raises(AssertionError):
        check_page('<script src="https://example.org/x.js"></script>')


def test_no_answer_agrees_with_nobody_and_what_libraries_say_is_escaped(tmp_path):
    write(tmp_path, "ada")
    write(tmp_path, "bob", body="raise ValueError('<script>alert(1)</script>')")
    write(tmp_path, "eve", body="raise ValueError('<script>alert(1)</script>')")
    code, lines, page, _, _ = run(tmp_path, "ada", "bob", "eve")
    assert code == 1
    begin = lines.index("int4 in blocks of 16: 3 side by side, 3 different answers")
    assert lines[begin + 1 : begin + 4] == ["  ada blocks", "  bob blocks", "  eve blocks"]
    assert "  (eve blocks: no answer to 6 of 6 inputs: it raised ValueError: <script>alert(1)</script>)" in lines
    check_page(page.read_text("utf-8"))
    assert "&lt;script&gt;" in page.read_text("utf-8")


def test_the_matrix_on_record_is_whole():
    """Every type and format of every adapter, as JSON and as pages that it gives."""
    latest = sorted((Path(__file__).parents[2] / "data" / "matrix").glob("*.json"))[-1]
    found = json.loads(latest.read_text("utf-8"))
    assert found["date"] == latest.stem
    types = {(a.library, p.theirs) for a in adapters().values() for p in a.types}
    assert {(row["library"], row["theirs"]) for row in found["types"]} == types
    blocks = {(a.library, p.name) for a in adapters().values() for p in a.formats}
    assert {(row["library"], row["theirs"]) for row in found["blocks"]} == blocks
    page = latest.with_suffix(".html").read_text("utf-8")
    assert page == html(found)
    assert latest.with_suffix(".md").read_text("utf-8") == markdown(found)
    check_page(page)
    assert sum(file.stat().st_size for file in latest.parent.iterdir()) < 2_000_000


def test_pairs_by_hand():
    words = [np.array([1, 2, 3, 0]), np.array([1, 2, 3, 0]), np.array([1, 5, 3, 8]), "it raised"]
    members = [Member(name, (each,)) for name, each in zip("abcd", words, strict=True)]
    group = group_of("g", "type", members, lambda w: np.isin(w, (0, 8)), lambda at, where, a, b: str(np.argmax(where)))
    found = [(p.first, p.second, p.tried, p.differing, p.zeros, p.example) for p in group.pairs]
    differ = (4, 2, 1, "1")
    assert found == [
        *((0, 1, 4, 0, 0, ""), (0, 2, *differ), (0, 3, 0, 0, 0, "")),
        *((1, 2, *differ), (1, 3, 0, 0, 0, ""), (2, 3, 0, 0, 0, "")),
    ]
    assert group.alike == [["a", "b"], ["c"], ["d"]]
    assert group.missing == ("d: no answer to 1 of 1 inputs: it raised",)
    assert Group.from_dict(group.as_dict()) == group


def test_a_saved_matrix_is_drawn_without_judging(made, tmp_path, capsys):
    page = tmp_path / "m.html"
    assert main(["matrix", "--read", str(made[-1]), "--html", str(page)]) == 0
    assert capsys.readouterr().out == ""
    assert page.read_text("utf-8") == made[2].read_text("utf-8")


@pytest.mark.parametrize(
    ("argv", "text"),
    [
        (["nobody"], "matrix: library = 'nobody', there is no such name"),
        (["--timeout", "0"], "matrix: timeout = 0.0, it is a number of seconds"),
        (["--read", "/nope.json"], "matrix: read = /nope.json, it cannot be read"),
        (["--html", "/nope/m.html"], "matrix: html = /nope/m.html, No such file or directory"),
    ],
)
def test_usage(capsys, argv, text):
    assert main(["matrix", *argv]) == 2
    assert text in capsys.readouterr().err


def test_a_file_that_is_no_matrix(tmp_path, capsys):
    (tmp_path / "x.json").write_text("[1]")
    assert main(["matrix", "--read", str(tmp_path / "x.json")]) == 2
    assert "it is no matrix; make one with `kbit-ref matrix --save FILE`" in capsys.readouterr().err


def test_own_modules_take_part_beside_the_libraries_that_are_named(tmp_path, monkeypatch):
    write(tmp_path, "ada")
    write(tmp_path, "eve", "+ties=away")
    monkeypatch.setenv("COLUMNS", "80")
    _, lines, *_ = run(tmp_path, "ada")
    begin = lines.index("int4 from float32: 2 side by side, 2 different answers")
    assert lines[begin + 1 : begin + 3] == ["  ada four", "  eve four"]
    assert max(map(len, lines)) <= 80
