"""`kbit-ref check`: the table, the exit codes, the lines for what is wrong or absent."""

import json
import os
import re
import signal
import subprocess
import sys
import time
from pathlib import Path
from xml.etree import ElementTree

import jsonschema
import pytest
from helpers import children
from helpers.libraries import light

from kbit_ref.cli import main
from kbit_ref.cli._page import Libraries, details, finding_lines, legend, summary, verdict_tables
from kbit_ref.conformance.findings import findings_of
from kbit_ref.conformance.implementations.adapters import adapters
from kbit_ref.conformance.judges import judge_libraries
from kbit_ref.conformance.verdict import Counterexample, Difference, Row, Verdict

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

SCHEMA = json.loads((Path(__file__).parents[2] / "data/schemas/check.schema.json").read_text("utf-8"))
VALIDATOR = jsonschema.Draft202012Validator(SCHEMA)

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
    assert lines[0].split() == [
        "library",
        "version",
        "types",
        "formats",
        "agree",
        "known",
        "disagree",
        "error",
        "values",
        "s",
    ]
    assert lines[1].split()[0] == "mine"
    assert lines[1].split()[2:-2] == ["1", "-", "1", "-", "-", "-"]
    assert "1 type or format of 1 library: 1 agree, 0 known, 0 disagree, 0 error; 0 findings. " in out
    assert err == "" or err.startswith("judging mine")  # a line only after two seconds
    assert main([*mine(), "--details"]) == 0
    lines = capsys.readouterr().out.splitlines()
    assert lines[0].split()[2:] == ["checked", "as", "float16", "float32"]
    assert lines[1].split() == ["four", "e2m1fn", "agree", "agree"]
    assert "note      mine, four: 2,071 NaN were not tried, the type has none" in lines


def test_disagreement(mine, capsys):
    assert main(mine("e2m1fn+ties=away")) == 1
    out = capsys.readouterr().out
    assert re.search(r"^1  <\.001  mine four +float16 \+1: ties=away +0\.25 +0\.5 \| 0$", out, re.M)
    assert "0 agree, 0 known, 1 disagree, 0 error; 1 finding. " in out
    assert "More: kbit-ref check mine --details 1 (or all)" in out
    for what in ("1", "all", "four", "ties=away", "mine", "disagree"):
        assert main([*mine("e2m1fn+ties=away"), "--details", what]) == 1
        out = capsys.readouterr().out
        assert "  cause    ties=away: theirs is what ties=away gives\n" in out
        assert "  parts    encode float16, encode float32\n  answers  16 of 75,741 answers differ (0.02%)" in out
        assert "    input   0x3400 = 0.25  (float16)\n    theirs  0x1 = 0.5\n    ours    0x0 = 0\n" in out


def test_known_difference(mine, capsys):
    record = '(Known(choice(ties="away"), "https://example.org/7"),)'
    assert main(mine("e2m1fn+ties=away", known=record)) == 0
    assert re.search(r"^1  known  mine four +float16 \+1: ties=away", capsys.readouterr().out, re.M)
    assert main([*mine("e2m1fn+ties=away", known=record), "--details"]) == 0
    assert "  record   https://example.org/7\n" in capsys.readouterr().out
    assert main(mine("e2m1fn", known=record)) == 1
    assert re.search(r"^1  error  mine four +float16 \+1: no longer", capsys.readouterr().out, re.M)


def test_json(mine, capsys):
    assert main([*mine("e2m1fn+ties=away"), "--json"]) == 1
    document = json.loads(capsys.readouterr().out)
    (row,) = document["verdicts"]
    assert (row["library"], row["subject"], row["theirs"], row["status"]) == ("mine", "e2m1fn", "four", "disagree")
    assert [v["different"] for v in row["rows"]] == [8, 8]
    assert row["rows"][1]["differences"][0]["example"]["bits"] == "0x3e800000"
    assert document["absent"] == []
    (finding,) = document["findings"]
    assert (finding["number"], finding["count"], finding["formats"]) == (1, 16, ["four"])
    assert list(VALIDATOR.iter_errors(document)) == []


@pytest.mark.parametrize("key", ["format", "verdicts", "findings", "absent"])
def test_the_schema_of_json_is_strict(key, mine, capsys):
    main([*mine("e2m1fn+ties=away"), "--json", "--rank"])
    document = json.loads(capsys.readouterr().out)
    assert list(VALIDATOR.iter_errors(document)) == []
    found = document[key]
    for broken in (document | {"more": 1}, {name: value for name, value in document.items() if name != key}):
        assert list(VALIDATOR.iter_errors(broken))
    if key in ("verdicts", "findings"):
        for name in found[0]:
            broken = {other: value for other, value in found[0].items() if other != name}
            assert list(VALIDATOR.iter_errors(document | {key: [broken]})), name


def test_absent_library(mine, capsys):
    assert main(mine(module="no_such_module_of_anybody")) == 2
    out, err = capsys.readouterr()
    assert out == ""
    assert err == "kbit-ref check: library = mine, it is not installed; pip install mine\n"


def test_absent_libraries_are_listed_when_none_is_named(monkeypatch, capsys):
    from kbit_ref.conformance.implementations.adapters import Adapter

    monkeypatch.setattr(Adapter, "installed", lambda self: False)
    assert main(["check"]) == 1
    out = " ".join(capsys.readouterr().out.split())
    assert "No library that check has an adapter for is installed" in out
    assert re.search(r"Not installed: .*\bml_dtypes\b.*; pip install .*\bml_dtypes\b", out)


@pytest.mark.parametrize(
    ("more", "text"),
    [
        (["--type", "e2m1fm"], "check: datatype = 'e2m1fm', there is no such name; did you mean e2m1fn"),
        (["--type", "nf4"], "check: type = nf4, none of the chosen libraries has it"),
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
    main(["check", "ml_dtypes", "--type", name, "--details"])
    rows = [line for line in capsys.readouterr().out.splitlines() if line.startswith("float")]
    assert [row.split()[1] for row in rows] == [name]


def test_module_runs_in_a_fresh_process(mine):
    done = subprocess.run([sys.executable, "-m", "kbit_ref", *mine()], capture_output=True, text=True)
    assert done.returncode == 0
    assert "\n1 type or format of 1 library: 1 agree, " in done.stdout


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


def test_the_work_of_all_libraries_is_known_before_the_first_begins():
    """Else the percentage would come to 100 with every library that is done."""
    libraries = list(adapters().values())[:3]
    told = []

    def progress(library, done, total):
        told.append((library, done))
        assert total > 0
        if len(told) == 3:
            raise InterruptedError

    with pytest.raises(InterruptedError):
        judge_libraries(libraries, progress=progress)
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
    (row,) = json.loads(capsys.readouterr().out)["verdicts"]
    assert "e2m1fn+ties=away" in row["ranking"]["conforms"]


def test_a_baseline_is_recorded_then_accepted_and_what_is_stale_is_said(mine, tmp_path, capsys):
    file = str(tmp_path / "accepted.json")
    assert main([*mine("e2m1fn+ties=away"), "--baseline", file]) == 0
    assert f"{file}: 2 places are recorded, and accepted from now on" in capsys.readouterr().out
    before = Path(file).read_bytes()
    assert main([*mine("e2m1fn+ties=away"), "--baseline", file]) == 0
    assert re.search(r"^1  accep  mine four +float16 \+1: ties=away", capsys.readouterr().out, re.M)
    assert main([*mine("e2m1fn+ties=zero"), "--baseline", file]) == 1  # another cause is new
    assert main([*mine("e2m1fn"), "--baseline", file]) == 0
    stale = f"{file}: mine four, encode float32: ties=away is accepted, and no longer occurs"
    assert stale in capsys.readouterr().out
    assert Path(file).read_bytes() == before
    Path(file).write_text("{}")
    assert main([*mine(), "--baseline", file]) == 2
    assert "it is no baseline" in capsys.readouterr().err


def test_a_report_for_ci(mine, tmp_path):
    file = tmp_path / "report.xml"
    assert main([*mine("e2m1fn+ties=away"), "--junit", str(file)]) == 1
    (suite,) = ElementTree.parse(file).getroot()
    assert (suite.get("name"), suite.get("tests"), suite.get("failures")) == ("mine", "2", "2")
    assert [case.get("name") for case in suite] == ["encode float16", "encode float32"]


BOTH = """
import kbit_ref as kb
from kbit_ref.conformance.implementations.adapters import Adapter, BlockProfile, Profile

class {name}(Adapter):
    library, module, install = "{name}", "numpy", "pip install {name}"
    profiles = (
        Profile("e2m1fn", "four", sources=("float16",), what=("encode",)),
        Profile("nf4", "normal", sources=("float16",), what=("encode",)),
        BlockProfile("ocp-mxfp4", "MX four"),
        BlockProfile("nf4-b64@-1-absmax-f32+scalerange=clamp", "nf"),
    )

    def encode(self, theirs, x, source):
        return kb.encode("e2m1fn" if theirs == "four" else "nf4", x)

    def quantize(self, theirs, x, source):
        q = kb.quantize(x, "ocp-mxfp4" if theirs == "MX four" else "nf4-b64@-1-absmax-f32+scalerange=clamp")
        return {{"codes": q.codes, "scales": q.scales}}
"""


@pytest.mark.parametrize(
    ("names", "judged"),
    [
        (["ada"], {"ada four", "ada normal", "ada MX four", "ada nf"}),
        (["four"], {"ada four", "bob four"}),
        (["bob", "four"], {"bob four"}),
        (["NF4"], {"ada normal", "bob normal", "ada nf", "bob nf"}),
        (["float4_e2m1fn", "ada"], {"ada four", "ada MX four"}),
        (["mxfp4", "bob"], {"bob MX four"}),
        (["mx", "bob"], {"bob MX four"}),
    ],
)
def test_only_chooses_libraries_types_and_formats(names, judged, tmp_path, monkeypatch, capsys):
    for name in ("ada", "bob"):
        (tmp_path / f"{name}.py").write_text(BOTH.format(name=name), "utf-8")
    monkeypatch.setattr("kbit_ref.cli._libraries.adapters", lambda folders=(): own if folders else {})
    own = {name: a for name, a in adapters([tmp_path]).items() if name in ("ada", "bob")}
    main(["check", "--adapters", str(tmp_path), "--json", *(word for name in names for word in ("--only", name))])
    found = json.loads(capsys.readouterr().out)["verdicts"]
    assert {f"{each['library']} {each['theirs']}" for each in found} == judged


@pytest.mark.parametrize(
    ("name", "text"),
    [
        ("fp8", "check: only = 'fp8', 4 different data types have that name; use e4m3fn (OCP FP8 E4M3), e5m2"),
        ("ggufff", "check: only = 'ggufff', there is no such name; "),
        ("ternary", "check: only = ternary, none of the chosen libraries has it; see"),
    ],
)
def test_only_says_what_it_does_not_know(name, text, mine, capsys):
    assert main([*mine(), "--only", name]) == 2
    assert text in capsys.readouterr().err


def verdicts(n, formats=3):
    """Libraries by hand, which differ in as many ways."""
    found = []
    for i in range(n):
        name = f"a-long-library-{i}"
        for j in range(formats):
            theirs = f"a format with a name that is far too long for a table of that width {j}"
            example = Counterexample("float32", "[1.0000001, 0.33333334, 0 x 30]", "codes 123456789", "codes 987654321")
            causes = (Difference(f"+a={j}+another=choice{k}", "why", 10 - k, example, error=0.5) for k in range(3))
            row = Row("codes", 100 * (j + 1), tuple(causes))
            found.append(Verdict("nf4-b64-absmax-f32", "nf4-b64-absmax-f32", (row,), name, "1.22.333+cpu", theirs))
    return found


@pytest.mark.parametrize("columns", [80, 100, 160])
def test_the_page_fits_the_terminal(columns, monkeypatch, capsys):
    monkeypatch.setenv("COLUMNS", str(columns))
    some = verdicts(7)
    page = Libraries({verdict.library: 3 for verdict in some})
    for verdict in some:
        page.add(verdict)
    found = findings_of(some)
    assert len(found) == 7 * 9
    print("\n".join([*finding_lines(found), *summary(some, found, 1.0), *legend()]))
    lines = capsys.readouterr().out.splitlines()
    assert max(map(len, lines)) <= columns
    if columns >= 100:
        assert len(lines) + 7 <= 40  # two blank lines, known faults, what to type for more (2), what is absent (2)
    assert sum(line.startswith("a-long-library") for line in lines) == 7
    assert [line.split()[0] for line in lines if re.match(r"\d+ ", line)][:18] == [str(i) for i in range(1, 19)]
    assert "and 45 disagree more" in lines
    for number, finding in enumerate(found[:2], 1):
        assert max(map(len, details(number, finding))) <= columns
    assert max(map(len, verdict_tables(some))) <= columns


def test_findings_are_ranked_by_harm_and_say_both_answers():
    lines = finding_lines(findings_of(verdicts(1, 1)))
    assert [line.split()[:2] for line in lines[1:]] == [["1", "0.050"], ["2", "0.045"], ["3", "0.040"]]
    assert all("123456789 | 987654321" in line for line in lines[1:])


@pytest.mark.parametrize(
    ("terminal", "no_colour", "coloured"), [(True, "", True), (True, "1", False), (False, "", False)]
)
def test_colour_on_a_terminal_only(terminal, no_colour, coloured, monkeypatch):
    monkeypatch.setattr(sys.stdout, "isatty", lambda: terminal, raising=False)
    monkeypatch.setenv("NO_COLOR", no_colour)
    monkeypatch.setenv("TERM", "xterm")
    monkeypatch.setenv("COLUMNS", "100")
    lines = finding_lines(findings_of(verdicts(1, 1)))
    assert any("\x1b[" in line for line in lines) == coloured
    plain = [re.sub(r"\x1b\[\d*m", "", line) for line in lines]
    assert plain[1].startswith("1  0.050  a-long-library-0 ")


def test_the_column_of_errors_has_a_head():
    good = Verdict("nf4-b64-absmax-f32", "nf4-b64-absmax-f32", (Row("codes", 1), Row("scales", 1)), "lib", "1", "good")
    bad = Verdict("no-such", "", (), "lib", "1", "bad", errors=("it raised",))
    heads, *rows = verdict_tables([good, bad])
    assert heads.split() == ["lib", "1", "checked", "as", "scales", "codes", "faults", "answers"]
    assert [row.split()[-3:] for row in rows[:2]] == [["agree", "0", "-"], ["-", "0", "ERROR"]]
