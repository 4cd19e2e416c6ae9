"""The kill matrix: every variant of every profile is told from it by the inputs of `check`, or cannot be."""

import re
from collections import Counter
from dataclasses import replace
from pathlib import Path

import numpy as np

from kbit_ref.cli import main
from kbit_ref.conformance import equal
from kbit_ref.conformance.kill import FATES, Fate, read_kills, subjects, variants, write_kills
from kbit_ref.errors import KbitError
from kbit_ref.tensors.profiles import profiles
from kbit_ref.tensors.scheme import scheme
from kbit_ref.tensors.steps import reference

ROOT = Path(__file__).parents[2]


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


def test_the_command(capsys, tmp_path):
    """Blind spots are told; a product with the reciprocal of a power of two is equal, and shown to be."""
    path = tmp_path / "kill.csv"
    assert main(["kill", "ocp-mxfp4", "--all", "--processes", "1", "-o", str(path)]) == 1
    text = capsys.readouterr().out
    assert text.splitlines()[0].split() == [*FATES, "scheme"]
    assert "equal     multiplies-by-reciprocal: scales are powers of two" in text
    found = read_kills(path)
    assert {each.variant for each in found} == applicable("ocp-mxfp4")
    counts = Counter(each.fate for each in found)
    assert counts["killed"] > 8 * (counts["equal"] + counts["outside"])
    assert all(each.by for each in found if each.fate != "survives")
    blind = ("numbers-through-bf16(form=float32)", "scales-along-another-axis(away=2)", "scales-swizzled(tiles=4 x 4")
    assert [each for each in found if each.fate == "survives" and not each.variant.startswith(blind)] == []
