"""The kill matrix: every variant of every profile is told from it by the inputs of `check`, or cannot be."""

import re
from collections import Counter
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from kbit_ref.cli import main
from kbit_ref.conformance import equal
from kbit_ref.conformance.kill import FATES, Fate, fates, read_kills, subjects, variants, write_kills
from kbit_ref.errors import KbitError
from kbit_ref.tensors.profiles import profiles
from kbit_ref.tensors.scheme import scheme
from kbit_ref.tensors.steps import reference

ROOT = Path(__file__).parents[2]
RECORD = ROOT / "data" / "kill" / "kill.csv"
AGAIN = "find them again: kbit-ref kill -o data/kill/kill.csv"


def applicable(spelling):
    """The variants of a scheme that can be made of it, by today's registries."""
    base = reference(spelling)
    return {name for name, make in variants(scheme(spelling)) if make(base) is not None}


def test_the_schemes_of_the_readme_are_among_them():
    text = re.sub(r"<!-- generated.*?<!-- end -->", "", (ROOT / "README.md").read_text("utf-8"), flags=re.S)
    named = set()
    for word in re.findall(r"[\w@+=.-]*-(?:b\d+|channel|tensor)[\w@+=.-]*-[\w+=.-]+", text):
        try:
            named.add(str(scheme(word.rstrip("."))))
        except KbitError:
            continue
    known = set(subjects())
    assert {str(scheme(name)) for name in profiles()} <= known
    assert named - known == set()


def test_no_variant_of_any_scheme_survives():
    """The record covers today's schemes and variants, each once; what is not killed has its reason."""
    found = read_kills(RECORD)
    assert list(dict.fromkeys(each.scheme for each in found)) == list(subjects()), AGAIN
    for spelling in subjects():
        names = [each.variant for each in found if each.scheme == spelling]
        assert len(names) == len(set(names)), spelling
        assert set(names) == applicable(spelling), f"{spelling}: {AGAIN}"
    assert {each.fate for each in found} == {"killed", "equal", "outside"}
    assert all(each.by for each in found)


def as_recorded(spelling):
    return {each for each in read_kills(RECORD) if each.scheme == spelling} == set(fates(spelling))


@pytest.mark.parametrize("name", ["int4-b4-absmax-f32", "keras-int4"])
def test_the_record_is_what_is_found_today(name):
    assert as_recorded(str(scheme(name))), AGAIN


@pytest.mark.slow
@pytest.mark.parametrize("spelling", [*subjects()][::10])
def test_the_record_is_what_is_found_for_a_tenth(spelling):
    assert as_recorded(spelling), AGAIN


def test_a_record_is_read_as_it_is_written(tmp_path):
    found = [Fate("int4-b32-absmax-f32", name, "killed", "ties") for name in ("ties-up", "rule=clip", "wraps")]
    found.append(Fate("int4-b32-absmax-f32", "nan=zero", "outside", "only for NaN, which the scheme refuses"))
    write_kills(tmp_path / "some.csv", found)
    assert read_kills(tmp_path / "some.csv") == found


def test_no_reason_is_given_where_a_variant_differs():
    """Encoders that part at one float32, a scale that parts at one stored scale, a level that parts at one code."""
    base = reference("int4-b32@-1-absmax-f32")
    tie = np.float32(2.5)
    parted = replace(base, encode=lambda y, *more: np.where(y == tie, 3, base.encode(y, *more)).astype(np.uint8))
    assert equal.reason(base.scheme, "ties-up", base, base)[0] == "equal"
    assert equal.reason(base.scheme, "ties-up", base, parted) is None
    base = reference("ocp-mxfp4")
    assert equal.reason(base.scheme, "multiplies-by-reciprocal", base, base)[0] == "equal"

    def at_one_scale(p, used, whole):
        return base.quotient(p, used, whole) * np.where(used == np.float32(2.0**-127), 2, 1)

    parted = replace(base, quotient=at_one_scale)
    assert equal.reason(base.scheme, "multiplies-by-reciprocal", base, parted) is None
    parted = replace(base, level=lambda codes: np.where(codes == 9, np.float32(-3), base.level(codes)))
    assert equal.reason(base.scheme, "negative-subnormals-misread", base, parted) is None


def test_no_reason_is_given_where_a_number_is_within_reach():
    """Encoders that part beyond every quotient, or just within reach; scales, at one float32 or where none lies."""
    base = reference("int4-b32@-1-absmax-f16")

    for at, known in ((11, True), (10, False), (7, False)):  # 7 * 1.5, since a scale of 1.5 steps may be stored as 1
        wrong = replace(base, encode=lambda y, *more, at=at: np.where(y > at, np.uint8(3), base.encode(y, *more)))
        assert (equal.reason(base.scheme, "wraps", base, wrong) is not None) == known, at
    base = reference("uint4-b64@-1-hqq-f32")
    for at, known in ((1e-6, True), (1e-3, False)):
        wrong = replace(base, store=lambda p, at=at: np.maximum(base.store(p), np.float32(at)))
        assert (equal.reason(base.scheme, "small-scale-flushed", base, wrong) is not None) == known, at
    base = reference("int3sym-b64-absmax-f16")
    assert equal.reason(base.scheme, "arith=exact", base, base)[0] == "equal"
    base = reference("int4-b32@-1-absmax-f32")  # a scale of 24 bits times an edge is no float32
    assert equal.reason(base.scheme, "arith=exact", base, base) is None


def test_the_command(capsys, tmp_path):
    """None survives; a product with the reciprocal of a power of two is equal, and shown to be."""
    path = tmp_path / "kill.csv"
    assert main(["kill", "ocp-mxfp4", "--all", "--processes", "1", "-o", str(path)]) == 0
    text = capsys.readouterr().out
    assert text.splitlines()[0].split() == [*FATES, "scheme"]
    assert "equal     multiplies-by-reciprocal: scales are powers of two" in text
    found = read_kills(path)
    assert {each.variant for each in found} == applicable("ocp-mxfp4")
    counts = Counter(each.fate for each in found)
    assert counts["killed"] > 8 * (counts["equal"] + counts["outside"])
    assert counts["survives"] == 0


def test_a_survivor_is_printed(capsys, monkeypatch):
    """And the command fails."""
    monkeypatch.setattr(equal, "ARGUMENTS", ())
    assert main(["kill", "ocp-mxfp4", "--processes", "1"]) == 1
    assert "    survives  multiplies-by-reciprocal" in capsys.readouterr().out
