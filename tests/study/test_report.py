"""The report: every number in the page is that of a row, all text is escaped, and the same rows give the same bytes."""

import base64
import re
import subprocess
import sys
from dataclasses import astuple, replace
from html.parser import HTMLParser
from itertools import pairwise
from pathlib import Path

import pytest
from helpers.study_rows import HOSTILE, SIZES, made_up, written

from kbit_ref.errors import BadInput, MissingLibrary
from kbit_ref.study.bootstrap import Estimate
from kbit_ref.study.curves import curves
from kbit_ref.study.document import Document, Picture, Section, Table, html, markdown
from kbit_ref.study.gathered import Gathered
from kbit_ref.study.report import report
from kbit_ref.study.rows import Cell
from kbit_ref.study.sections import ONE_SEED, sections

DRAWS = 20


class Page(HTMLParser):
    """A page read back: its tables by caption, its texts, and what is wrong with it."""

    ALONE = ("meta", "!doctype", "img")

    def __init__(self, text: str):
        super().__init__()
        self.open, self.faults, self.tables, self.images, self.texts = [], [], {}, [], []
        self.ids, self.links, self.rows, self.caption = [], [], [], ""
        self.feed(text)
        self.close()
        assert self.open == []

    def handle_starttag(self, tag, attributes):
        facts = dict(attributes)
        self.faults += [f"{tag} {key}" for key in facts if key.startswith("on")]
        self.faults += [tag] * (tag in ("script", "link", "iframe", "object"))
        if tag == "img":
            self.images.append(facts)
            self.faults += [] if facts["src"].startswith("data:image/svg+xml;base64,") else ["img"]
        self.ids += [facts["id"]] if "id" in facts else []
        self.links += [facts["href"]] if tag == "a" else []
        if tag == "table":
            self.rows = []
        if tag == "tr":
            self.rows.append([])
        if tag in ("th", "td"):
            self.rows[-1].append("")
        if tag in ("caption", "summary"):
            self.caption = ""
        if tag not in self.ALONE:
            self.open.append(tag)

    def handle_endtag(self, tag):
        if not self.open or self.open.pop() != tag:
            self.faults.append(f"</{tag}>")
        if tag == "table":
            self.tables[self.caption] = self.rows

    def handle_data(self, data):
        if "style" in self.open:
            return
        if {"th", "td"} & set(self.open):
            self.rows[-1][-1] += data
        if self.open and self.open[-1] in ("caption", "summary"):
            self.caption += data
        self.texts.append(data)

    def table(self, begin: str) -> list[dict[str, str]]:
        """The rows of the table whose caption begins so."""
        heads, *rows = next(rows for caption, rows in self.tables.items() if caption.startswith(begin))
        return [dict(zip(heads, row, strict=True)) for row in rows]


@pytest.fixture(scope="module")
def made(tmp_path_factory):
    """The folder of a report without pictures, and its rows."""
    folder = tmp_path_factory.mktemp("report")
    results = made_up(HOSTILE)
    path = written(folder / "r.sqlite", results, "Bits & <b>loss</b>")
    report(path, folder / "out", n=DRAWS)
    return folder / "out", results


def test_the_page_is_whole_and_all_text_is_escaped(made) -> None:
    folder, _ = made
    text = (folder / "report.html").read_text("utf-8")
    page = Page(text)
    assert page.faults == []
    assert "<script" not in text
    assert "<b>" not in text
    assert {link.removeprefix("#") for link in page.links} == set(page.ids)
    assert len(page.ids) == len(set(page.ids))
    assert HOSTILE in "".join(page.texts)
    assert "Bits & <b>loss</b>" in page.texts
    assert sorted(path.name for path in folder.iterdir()) == ["report.html", "report.md"]


def test_markdown_is_escaped_and_has_as_many_cells_as_heads(made) -> None:
    text = (made[0] / "report.md").read_text("utf-8")
    assert "<script" not in text
    assert r"&lt;script&gt;alert(1)&lt;/script&gt;\|\`\*&amp;" in text
    lines = [re.sub(r"\\.", "", line) for line in text.splitlines()]
    for before, rule in pairwise(lines):
        if set(rule) <= set("|-: ") and rule:
            assert before.count("|") == rule.count("|")


def test_every_cell_is_in_the_page_with_its_numbers(made) -> None:
    folder, results = made
    rows = Page((folder / "report.html").read_text("utf-8")).table("Every cell")
    assert len(rows) == len(results)
    shown = sorted((r["model"], r["total bits"], r["loss"], r["excess"], r["accuracy"]) for r in rows)
    expected = [
        (r.cell.model, f"{r.total_bits:,}", f"{r.loss:.4g}", f"{r.excess:.4g}", f"{r.accuracy:.4g}") for r in results
    ]
    assert shown == sorted(expected)


def test_curves_types_and_blocks_are_those_of_the_rows(made) -> None:
    folder, results = made
    page = Page((folder / "report.html").read_text("utf-8"))
    by_cell = {(r.subject.size, *astuple(r.cell)[1:5], r.cell.activations): r for r in results}
    curves = page.table("For each width")
    assert [row["bits"] for row in curves] == [bits for bits in ("3", "4", "5", "16") for _ in SIZES]
    for row in curves:
        kind = "none" if row["bits"] == "16" else "quantile"  # int does twice the damage
        block = {"16": 0, "5": 0}.get(row["bits"], 64)  # at 5 bits blocks gain 2.0 %, a model larger by 5 % 2.2 %
        result = by_cell[row["size"], kind, int(row["bits"]), block, "nearest", ""]
        assert row["total bits"] == f"{result.total_bits:,}"
        assert row["nats a token above the floor"].split()[0] == f"{result.excess:.4g}"
        assert row["accuracy"].split()[0] == f"{result.accuracy:.4g}"
    for row in page.table("Data types"):
        for size in SIZES:
            result = by_cell[size, row["type"], int(row["bits"]), 64, "nearest", ""]
            assert row[size].split()[0] == f"{result.excess:.4g}"
    for row in page.table("Block sizes of int"):
        block = 0 if row["block"] == "tensor" else int(row["block"])
        result = by_cell["m", "int", int(row["bits"]), block, "nearest", ""]
        assert row["m"].split()[0] == f"{result.excess:.4g}"
    (method,) = page.table("Methods")
    assert method["m"].split()[0] == f"{by_cell['m', 'int', 4, 64, 'hqq', ''].excess:.4g}"
    (rounded,) = page.table("The other factor")
    assert rounded["activations"] == "int8-channel-absmax-f32"
    (format_,) = page.table("Formats")
    assert format_["format"] == "ocp-mxfp4"


def test_findings_fits_and_distortion_have_their_rows(made) -> None:
    page = Page((made[0] / "report.html").read_text("utf-8"))
    findings = page.table("With every matrix quantized")
    assert [row[""] for row in findings] == [str(i) for i in range(1, 9)]
    assert {row["verdict"] for row in findings} <= {"supported", "not supported", "undecided"}
    assert {row["constant"] for row in page.table("Constants")} >= {"A", "a", "C", "g"}
    assert len(page.table("Residuals")) > 3
    bits_above = {row["type"]: row for row in page.table("Bits above Shannon's bound")}
    assert bits_above["lloyd4"]["normal, one scale"] == "0.6411"  # log2(.009501008 * 4**4) / 2
    whole = {(row["type"], row["source"], row["block"]): row for row in page.table("Every data type")}
    assert whole["nf4", "normal", "64"]["dB"] == "20.73"
    assert page.table("Models: sha256")[0]["digest"] == "ab" * 32


def test_no_width_is_called_best_where_another_has_no_model(made) -> None:
    """3 bits end at 423 kbit, 16 bits begin at 320 kbit: only in between all widths have models."""
    page = Page((made[0] / "report.html").read_text("utf-8"))
    spans = [text for text in page.texts if re.match(r"At (totals from )?[\d.]+e\+\d+ bits \(", text)]
    numbers = [float(x) for text in spans for x in re.findall(r"([\d.]+e\+\d+) bits \(", text)]
    assert numbers
    assert 3.2e5 * 0.98 <= min(numbers) <= max(numbers) <= 4.23e5 * 1.02  # two digits are shown
    assert any(text.startswith("At smaller and larger totals some width has no model") for text in page.texts)


def test_an_answer_of_one_seed_says_so() -> None:
    one = made_up()
    seeds = [(r, replace(r.cell, model=f"{r.subject.size}-1"), replace(r.subject, seed=1)) for r in one]
    two = [*one, *(replace(r, cell=cell, subject=subject) for r, cell, subject in seeds)]
    for rows, told in ((one, True), (two, False)):
        answer = next(section for section in sections(Gathered(rows, n=5), {}) if section.name == "headline")
        assert (ONE_SEED in answer.parts) == told


def test_a_study_of_three_models_says_what_cannot_be_told(tmp_path) -> None:
    rows = [row for row in made_up() if row.subject.size == "s"]
    report(written(tmp_path / "r.sqlite", rows), tmp_path / "out", n=DRAWS)
    page = Page((tmp_path / "out" / "report.html").read_text("utf-8"))
    assert any("Not possible with these results: law: 1 sizes" in text for text in page.texts)


def test_models_trained_for_few_bits_are_apart() -> None:
    rows = made_up()
    aware = [
        replace(row, subject=replace(row.subject, size="s-int4sym-b64-absmax-f16", name="s-aware"), scheme=scheme)
        for row in rows
        if row.subject.size == "s"
        for scheme in ["int4sym-b64-absmax-f16" if row.cell == Cell("s-0", "int", 4, 64) else row.scheme]
    ]
    g = Gathered([*rows, *aware], n=0)
    assert len(g.aware) == len(aware)
    own, others = next(section.parts for section in sections(g, {}) if section.name == "aware")
    assert [line[2] for line in own.rows] == ["int 4 bits, blocks of 64"]
    assert len(others.rows) == len(aware) - 1
    of = {row.cell: row.excess for row in rows}
    assert own.rows[0][4:7] == (of[Cell("s-0", "int", 4, 64)], of[Cell("s-0", "int", 4, 64)], of[Cell("s-0")])
    assert {p.size for c in g.precisions for p in c.points} == set(SIZES)
    foreign = replace(rows[0], subject=replace(rows[0].subject, size="gpt2-medium", seed=None))
    assert Gathered([foreign], n=0).aware == []


def test_each_family_has_a_page_of_its_own(tmp_path) -> None:
    """Two architectures on the same tokens, and one of them on other tokens as well."""
    rows = []
    for name, family, evaluation in (("p", "gpt_neox", "e"), ("l", "llama", "e"), ("b", "llama", "f")):
        for row in made_up():
            model = f"{name}-{row.subject.size}"
            facts = row.facts | {"family": family, "evaluation": evaluation}
            subject = replace(row.subject, name=model, size=model, seed=None)
            rows.append(replace(row, cell=replace(row.cell, model=model), subject=subject, facts=facts))
    report(written(tmp_path / "r.sqlite", rows), tmp_path / "out", n=DRAWS)
    index = Page((tmp_path / "out" / "report.html").read_text("utf-8"))
    assert index.faults == []
    assert [row["family"] for row in index.table("Families")] == ["p", "l", "b"]
    pages = [link for link in index.links if not link.startswith("#")]
    assert pages == ["p/report.html", "l/report.html", "b/report.html"]
    assert "[All about p](p/report.md)" in (tmp_path / "out" / "report.md").read_text("utf-8")
    for name in "plb":
        page = Page((tmp_path / "out" / name / "report.html").read_text("utf-8"))
        assert {row["model"] for row in page.table("Every cell")} == {f"{name}-{size}" for size in SIZES}
    report(tmp_path / "r.sqlite", tmp_path / "one", models="l-*", n=0)
    page = Page((tmp_path / "one" / "report.html").read_text("utf-8"))
    assert {row["architecture"] for row in page.table("Models.")} == {"llama"}
    with pytest.raises(BadInput, match="models of 3 families"):
        curves(rows, n=0)


def test_pictures_are_inlined_and_written_and_missing_matplotlib_is_told(tmp_path) -> None:
    path = written(tmp_path / "r.sqlite", made_up())
    report(path, tmp_path / "out", lambda rows: {"precisions": {"svg": b"<svg/>", "png": b"PNG"}}, n=0)
    page = Page((tmp_path / "out" / "report.html").read_text("utf-8"))
    assert [base64.b64decode(i["src"].partition(",")[2]) for i in page.images] == [b"<svg/>"]
    assert (tmp_path / "out" / "precisions.png").read_bytes() == b"PNG"
    assert "(precisions.png)" in (tmp_path / "out" / "report.md").read_text("utf-8")

    def without(rows):
        raise MissingLibrary("figures: matplotlib, it is not installed; pip install kbit_ref[plot]")

    report(path, tmp_path / "bare", without, n=0)
    page = Page((tmp_path / "bare" / "report.html").read_text("utf-8"))
    assert page.images == []
    assert any("pip install kbit_ref[plot]" in text for text in page.texts)
    assert page.table("Every cell")


def test_the_same_rows_give_the_same_bytes(tmp_path, made) -> None:
    path = written(tmp_path / "r.sqlite", made_up(HOSTILE), "Bits & <b>loss</b>")
    report(path, tmp_path / "out", n=DRAWS)
    for name in ("report.html", "report.md"):
        assert (tmp_path / "out" / name).read_bytes() == (made[0] / name).read_bytes()


def test_mistakes_are_told(tmp_path) -> None:
    with pytest.raises(BadInput, match="there is no such file"):
        report(tmp_path / "none.sqlite", tmp_path / "out")
    (tmp_path / "file").write_text("", "utf-8")
    with pytest.raises(BadInput, match="name another directory"):
        report(written(tmp_path / "r.sqlite", made_up()), tmp_path / "file", n=0)
    with pytest.raises(BadInput, match="there are none"):
        Gathered([])


def test_a_bad_page_would_be_found() -> None:
    for text in ("<p><b></p>", "<p>", '<p onclick="x"></p>', "<script></script>", '<img src="https://x">'):
        with pytest.raises(AssertionError):
            assert Page(text).faults == []


def test_what_a_document_holds_is_shown_in_both() -> None:
    table = Table("A & B", ("<i>", "n"), [("x|y", 1234), ("", Estimate(1.0, 0.1, 0.8, 1.2)), ("z", None)])
    document = Document("T", [Section("s", "S", ["one < two", table, Picture("p", "P")])])
    page = Page(html(document, {}))
    assert page.table("A & B") == [
        {"<i>": "x|y", "n": "1,234"},
        {"<i>": "", "n": "1 [0.8, 1.2]"},
        {"<i>": "z", "n": ""},
    ]
    assert page.images == []
    text = markdown(document, {"p": "p.png"})
    assert "| x\\|y | 1,234 |" in text
    assert "![P](p.png)" in text


def test_short_cells_stay_on_one_line_and_intervals_break_before_their_bracket() -> None:
    rows = [("x" * 24, "y" * 25, Estimate(1.0, 0.1, 0.8, 1.2), 5)]
    text = html(Document("T", [Section("s", "S", [Table("A", ("a", "b", "c", "d"), rows)])]), {})
    assert f'<td class="s">{"x" * 24}</td><td>{"y" * 25}</td>' in text
    assert '<td class="n">1 <span>[0.8, 1.2]</span></td><td class="n">5</td>' in text


def test_importing_the_report_needs_no_matplotlib() -> None:
    code = "import sys, kbit_ref.study.report, kbit_ref.figures; assert 'matplotlib' not in sys.modules"
    assert subprocess.run([sys.executable, "-c", code], cwd=Path(__file__).parents[2]).returncode == 0
