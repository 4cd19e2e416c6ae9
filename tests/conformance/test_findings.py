"""What is distinct, how much harm it does, which of it is accepted; all of it worked by hand."""

import json
from pathlib import Path
from xml.etree import ElementTree

import numpy as np
import pytest

import kbit_ref as kb
from kbit_ref.arithmetic import median_error
from kbit_ref.conformance.findings import Baseline, Place, findings_of, junit
from kbit_ref.conformance.verdict import Counterexample, Difference, Row, Special, Verdict

ONE = Counterexample("float32", "[1, 0 x 31]", "codes 2", "codes 1")
LONG = Counterexample("float32", "[1, 0.5, 0.25, 0 x 29]", "codes 3", "codes 1")


def verdict(theirs: str, *rows: Row, library: str = "lib", **more) -> Verdict:
    return Verdict("p", "int4-b32-absmax-f32", rows, library, "1.0", theirs, **more)


def row(part: str, *differences: Difference, tried: int = 100, **more) -> Row:
    return Row(part, tried, differences, **more)


def test_one_cause_is_one_finding_whatever_the_format_and_part() -> None:
    up = Difference("rule=up", "theirs", 10, LONG, error=0.5)
    found = findings_of(
        [
            verdict(
                "a", row("scales", up), row("codes", Difference("follows from the scale", "it", 30, None, error=0.25))
            ),
            verdict("b", row("scales", Difference("rule=up", "theirs", 20, ONE)), row("codes")),
            verdict("c", row("scales"), row("codes")),
            verdict("a", row("scales", up), library="other"),
        ]
    )
    assert [(f.library, f.cause, f.formats, f.parts) for f in found] == [
        ("lib", "rule=up", ("a", "b"), ("scales", "codes")),
        ("other", "rule=up", ("a",), ("scales",)),
    ]
    assert (found[0].count, found[0].tried, found[0].error) == (60, 300, 0.5)
    assert (found[0].share, found[0].harm, found[1].harm) == (0.2, 0.1, 0.05)
    assert (found[0].example, found[1].example) == (ONE, LONG)  # the simplest of all formats
    assert [each[0] for each in found[0].examples] == ["b", "a"]


def test_unexplained_differences_are_apart_by_part() -> None:
    lost = Difference("unexplained", "no named choice gives theirs", 1)
    other = Difference("unexplained", "their number is not what their code stands for", 1)
    found = findings_of([verdict("a", row("scales", lost), row("decoded", other)), verdict("b", row("scales", lost))])
    assert sorted((f.formats, f.parts) for f in found) == [(("a",), ("decoded",)), (("a", "b"), ("scales",))]


def test_order_harm_then_errors_then_what_is_known() -> None:
    small, large = (Difference(name, name, 10, error=error) for name, error in (("small", 0.1), ("large", 0.2)))
    sign = Difference("sign of zero", "z", 100, error=0.0)
    unmeasured = Difference("other bits", "bytes", 10)
    known = Difference("old", "old", 100, link="https://example.org/1", error=1.0)
    first = verdict("a", row("scales", sign, small, known), row("codes", large), row("packed", unmeasured))
    found = findings_of([first, verdict("b", errors=("it raised",)), verdict("c")])
    assert [(f.status, f.cause) for f in found] == [
        *(("disagree", name) for name in ("other bits", "large", "small", "sign of zero")),
        *(("error", name) for name in ("it raised", "nothing was judged")),
        ("known", "old"),
    ]


def test_what_becomes_of_nan_is_a_finding_where_the_profile_says_it() -> None:
    specials = (
        Special("nan", "float32", "zero", "it becomes 0", "disagree"),
        Special("inf", "float32", "NaN", "", "told"),
    )
    (found,) = findings_of([verdict("a", row("codes"), specials=specials)])
    assert (found.cause, found.why, found.parts) == ("zero", "nan in a block: it becomes 0", ("nan in a block",))


def test_a_baseline_accepts_what_it_holds_and_tells_what_is_gone(tmp_path: Path) -> None:
    old = verdict("a", row("scales", Difference("x", "x", 1)), row("codes", errors=("it raised",)))
    path = tmp_path / "accepted.json"
    Baseline.of(findings_of([old])).write(path)
    baseline = Baseline.read(path)
    assert len(baseline.accepted) == 2
    assert [f.status for f in findings_of([old], baseline)] == ["accepted", "accepted"]
    assert baseline.stale([old]) == []
    new = verdict("a", row("scales", Difference("x", "x", 7)), row("decoded", Difference("x", "x", 1)), row("codes"))
    assert [(f.status, f.parts) for f in findings_of([new], baseline)] == [
        ("disagree", ("decoded",)),  # another part is new
        ("accepted", ("scales",)),  # another count is not
    ]
    assert baseline.stale([new]) == [Place("lib", "a", "codes", "it raised")]
    assert baseline.stale([verdict("b", row("codes"))]) == []  # `a` was not judged


@pytest.mark.parametrize("text", ["", "[]", "{}", '{"format": "2", "accepted": []}', '{"accepted": [{"library": 1}]}'])
def test_a_file_that_is_no_baseline(text: str, tmp_path: Path) -> None:
    path = tmp_path / "x.json"
    path.write_text(text, "utf-8")
    with pytest.raises(
        kb.KbitError, match=r"^check: baseline = .*, it is no baseline \(.*; name a file that check has"
    ):
        Baseline.read(path)


def test_junit_has_a_case_for_each_part() -> None:
    bad = row("scales", Difference("x", "wrong <\x01>", 1, ONE), Difference("y", "y", 1))
    known = row("packed", Difference("k", "k", 1, link="https://example.org/1"))
    first = verdict("a", bad, row("codes", Difference("z", "z", 1)), known, row("decoded", errors=("it raised",)))
    accepted = Baseline(frozenset({Place("lib", "a", "codes", "z")}))
    (suite,) = ElementTree.fromstring(junit([first, verdict("b", errors=("no answer",))], accepted))
    numbers = [suite.get(name) for name in ("name", "tests", "failures", "errors", "skipped")]
    assert numbers == ["lib", "5", "1", "2", "1"]
    cases = {(case.get("classname"), case.get("name")): [each.tag for each in case] for case in suite}
    assert cases == {
        ("lib.a", "scales"): ["failure"],
        ("lib.a", "codes"): ["skipped"],
        ("lib.a", "packed"): [],
        ("lib.a", "decoded"): ["error"],
        ("lib.b", "answers"): ["error"],
    }
    failure = suite[0][0]
    assert failure.get("message") == "1 x x: wrong <?>"
    assert failure.text is not None
    assert "codes 2" in failure.text
    assert "1 x y: y" in failure.text


def test_findings_are_plain_values() -> None:
    (found,) = findings_of([verdict("a", row("scales", Difference("x", "x", 1, ONE, error=0.5)))])
    document = json.loads(json.dumps(found.as_dict()))
    assert (document["formats"], document["harm"], document["examples"][0]["theirs"]) == (["a"], 0.005, "codes 2")


def test_median_error_by_hand() -> None:
    ours = np.array([1.0, 2.0, -4.0, 0.0, np.inf, np.nan, 3.0])
    theirs = np.array([2.0, 2.0, 4.0, -0.0, 1.0, np.nan, np.nan])
    # 1/2; equal; 1 (2, cut); 0; 1; equal; 1: the median of 0, 1/2, 1, 1, 1
    assert median_error(ours, theirs) == 1
    assert median_error(ours[:4], theirs[:4]) == 0.5
    assert median_error(ours[:0], theirs[:0]) == 0
    assert median_error([1e308], [-1e308]) == 1
    assert median_error([5e-324], [1e-323]) == 0.5


def test_the_judges_measure_it() -> None:
    (codes,) = kb.check(lambda x: kb.encode("int4+ties=away", x), "int4", sources=["float32"], shapes=False).differences
    # away from zero: 1 for 0.5, 3 for 2.5, 5 for 4.5, 7 for 6.5, and their negatives
    errors = [1, 1, 1 / 3, 1 / 3, 1 / 5, 1 / 5, 1 / 7, 1 / 7]
    assert codes.error == np.median(errors[: codes.count])

    def doubled(x):
        q = kb.quantize(x, "int4-b32@-1-absmax-f32")
        return {"codes": q.codes, "scales": 2 * q.scales}

    found = kb.check(doubled, "int4-b32@-1-absmax-f32", sources=["float32"], shapes=False)
    assert {difference.error for difference in found.differences} == {0.5}
