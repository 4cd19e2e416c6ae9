"""Departures: found by comparing profiles with published definitions, kept in a file, each with a sentence."""

import csv
import json
from fnmatch import fnmatch
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from helpers.libraries import cases, needed
from numpy.typing import NDArray

import kbit_ref as kb
from kbit_ref.arithmetic import same
from kbit_ref.cli import main
from kbit_ref.conformance import reading
from kbit_ref.conformance.departures import (
    EFFECTS,
    Departure,
    as_row,
    departures,
    distinct,
    faults,
    read,
    sentences,
    write,
)
from kbit_ref.conformance.departures import find as finding
from kbit_ref.conformance.departures.find import find
from kbit_ref.conformance.implementations.adapters import block_adapters
from kbit_ref.conformance.implementations.library import Library
from kbit_ref.conformance.inputs.of_schemes import shaped
from kbit_ref.conformance.libraries import parts_by
from kbit_ref.conformance.matrix.matrix import Matrix, as_dict
from kbit_ref.conformance.matrix.pages import html, markdown
from kbit_ref.conformance.reading import spelled
from kbit_ref.tensors import definitions
from kbit_ref.tensors.definitions import definition, parsed
from kbit_ref.tensors.profiles import Profile, profiles
from kbit_ref.tensors.scheme import scheme

COMMITTED = Path(__file__).parents[2] / "data" / "departures" / "departures.csv"
TORCHAO = ("fp8_e4m3", "fp8_e5m2", "fp6_e2m3", "fp6_e3m2", "fp4_e2m1")
AGAIN = "find them again: kbit-ref departures --find -o data/departures/departures.csv"
QUICK = ("bnb-cpu-nf4", "torchao-mxfp4-ceil", "keras-int4-grouped", "jax-nvfp4", "hqq-2", "ocp-mxfp4")


def committed(name: str) -> list[dict[str, str]]:
    """The rows of a profile in the file."""
    with COMMITTED.open(encoding="utf-8", newline="") as file:
        return [row for row in csv.DictReader(file) if row["profile"] == name]


@pytest.mark.parametrize("name", QUICK)
def test_the_file_is_what_is_found(name: str) -> None:
    assert [as_row(each) for each in find(name)] == committed(name), AGAIN


@pytest.mark.slow
@pytest.mark.parametrize("name", [p.name for p in distinct() if p.name not in QUICK])
def test_the_whole_file_is_what_is_found(name: str) -> None:
    assert [as_row(each) for each in find(name)] == committed(name), AGAIN


def test_the_file_is_written_as_it_is_read(tmp_path: Path) -> None:
    write(tmp_path / "again.csv", read())
    assert (tmp_path / "again.csv").read_bytes() == COMMITTED.read_bytes()


def test_every_profile_has_a_definition_and_no_definition_is_stale() -> None:
    named = {name: definition(name) for name in profiles()}
    for name, found in named.items():
        made = found.scheme(scheme(name))
        assert str(made.cut) == str(scheme(name).cut)
        if "no published definition" in found.source:
            assert found.spelling == ".-.-.-."
    patterns = [p for found in definitions._definitions() for p in found.profiles]
    used = {next(p for p in found.profiles if fnmatch(name, p)) for name, found in named.items()}
    assert used == set(patterns)
    assert {row.profile for row in read()} <= {p.name for p in distinct()}


def test_every_departure_has_a_sentence_and_no_sentence_is_stale() -> None:
    assert {choice for row in read() for choice in row.choices} == set(sentences())


# What is known of these libraries from elsewhere (the trap, as it is on record): profile, choice, effect, the block,
# the number in it, what comes back. The numbers follow from the sentence by hand.
ON_RECORD = [
    # absmax 2^-149 over 1e-38 is 1.4e-7, which is the level 0
    ("bnb-cpu-nf4", "leastused=1e-38", "lost", "[1e-45, 0 x 63]", 2.0**-149, 0.0),
    # 0 lies in bin 32767.5, whose centre is 2 * 32768 / 65535 - 1 = 1.5e-5; the level next to it is 2.125e-5
    ("bnb-cpu-dynamic8", "encoder=bnb_bins", "zero moved", "[1, 0 x 63]", 0.0, 2.12499981e-05),
    ("bnb-cpu-dynamic8", "zerocode=code0", "sign of zero", "[0 x 64]", 0.0, -0.0),
    ("bnb-cuda-nf4", "zerocode=code0", "sign of zero", "[0 x 64]", 0.0, -0.0),
    # 2^-19 is above 0, the midpoint of the codes 0 and 8, of which the second one is -0
    ("bnb-cpu-fp4", "encoder=midpoints32", "sign of zero", "[1, 1.9073486e-06, 0 x 62]", 2.0**-19, -0.0),
    ("ggml-q4_0", "zeroblock=quotient", "sign of zero", "[0 x 32]", 0.0, -0.0),
    ("ggml-q5_0", "zeroblock=quotient", "sign of zero", "[0 x 32]", 0.0, -0.0),
    ("ggml-q8_0", "scalerange=keep", "not finite", "[7.0368744e+13, 0 x 31]", 2.0**46, np.inf),
    # 1.9e-6 + 0 rounds to 0 with the scale 1
    ("hqq-4", "rule=hqq", "lost", "[1.9073486e-06, 0 x 63]", 2.0**-19, 0.0),
    # the range is [8, 8], widened to [7, 9]: 2 / 15 a step, zero point -7 * 15 / 2 cut to 0
    ("keras-int4-grouped", "rule=affineplain", "lost", "[8 x 32]", 8.0, 2.0),
    ("quanto-qint4-zeropoint", "rule=affineplain", "lost", "[1 x 32]", 1.0, 0.0),
    # 1 / 7.5 = 0.13333334 a step, 7 of them
    ("ct-int4", "rule=absmaxhalf", "changed", "[1, 0 x 31]", 1.0, 0.933333397),
    # 2^-127 is stored, and 2^-126 divides: 2^-128 becomes the tie 1/4 of 0 and 1/2
    ("torchao-mxfp4", "leastused=1.17549435e-38", "lost", "[2.938736e-39, 0 x 31]", 2.0**-128, 0.0),
    # 1 / 15 is 0.066650390625 in float16; 1 - 15 * that
    ("mlx-affine", "rule=mlx", "changed", "[1, 0 x 63]", 0.0, 0.000244140625),
]


@pytest.mark.parametrize(("name", "choice", "effect", "block", "x", "back"), ON_RECORD)
def test_what_is_on_record_is_found(name: str, choice: str, effect: str, block: str, x: float, back: float) -> None:
    (row,) = [each for each in departures(name) if each.choices == (choice,) and each.effect == effect]
    assert row.bad
    assert row.block == block
    assert (np.float32(row.at), np.float32(row.theirs)) == (np.float32(x), np.float32(back))
    assert np.signbit(row.theirs) == np.signbit(back)
    assert row.ours == (0 if effect == "sign of zero" else 8319008 if effect == "not finite" else x)


@pytest.mark.parametrize(
    ("name", "choices"),
    [
        ("torchao-nf4", ("type=nf4_torchao",)),  # four decimals
        ("torchao-nvfp4", ("global=none", "leastscale=0.015625")),  # block scales end at 2^-6
        ("nvfp4-ct", ("scalerange=zeroblock",)),
        ("bnb-nested", ("leastused=1e-38",)),
    ],
)
def test_faults_that_need_a_whole_array_are_found(name: str, choices: tuple[str, ...]) -> None:
    assert choices in [each.choices for each in faults(name)]


# What parts from its profile in the very block of a fault, which `check` tells as a disagreement.
ELSEWHERE = {
    "bitsandbytes": {"fp4"},  # decodes the code of -0 to 0
    "compressed-tensors": {"mxfp4", "mxfp6", "mxfp8"},  # lose blocks next to the largest float
    "torchao": {f"{name} rceil" for name in TORCHAO},  # flushes scales below 2^-126
}


@pytest.mark.parametrize("library", cases(block_adapters()))
def test_faults_are_what_the_installed_library_does(library: str) -> None:
    adapter = block_adapters()[library]
    needed(library, adapter.installed())
    otherwise = set()
    with Library(library) as process:
        for claim in (each for each in adapter.formats if each.what == "quantize"):
            s, parts = scheme(claim.profile), parts_by(process, claim.theirs)
            for fault in departures(s):
                alone = "... " not in fault.block and "array" not in fault.block  # nothing is left out of the example
                if fault.bad and alone and "float32" in claim.sources and not claim.given:
                    block = numbers(fault.block)
                    if fault.effect == "no answer":  # some number of such blocks comes back wrong
                        inner = np.resize(np.array([0.5, 0.25, -0.125], np.float32) * np.abs(block).max(), block.size)
                        block = np.where(block == 0, inner, block)
                    x = shaped(np.stack([block] * max(2, claim.blocks)), s, claim.blocks)
                    found = parts(x, "float32")
                    back = found.get("decoded")
                    if back is None:
                        back = spelled(s, x.shape, reading.read(s, x.shape, found))
                    if not as_told(fault, block, s.cut.rows(np.asarray(back, np.float64))[0][: block.size]):
                        otherwise.add(claim.theirs)
    assert otherwise == ELSEWHERE.get(library, set())


def as_told(fault: Departure, block: NDArray[np.float32], back: NDArray[np.float64]) -> bool:
    """Does the number come back as the fault says? Where it says none: does the block come back wrong?"""
    if fault.effect == "no answer":
        return not np.abs(back - block).max() < np.abs(block).max() / 4
    return bool(same(back[block == np.float32(fault.at)], float(np.float32(fault.theirs))).any())


def numbers(block: str) -> NDArray[np.float32]:
    """The numbers of a block that is written `[1, 0 x 63]`."""
    runs = (part.partition(" x ") for part in block.strip("[]").split(", "))
    return np.array([np.float32(value) for value, _, count in runs for _ in range(int(count or 1))], np.float32)


def test_choices_that_come_as_near_or_are_left_open_are_no_faults() -> None:
    good = [("ggml-mxfp4", "encoder=argmin"), ("ggml-q8_0", "ties=away"), ("torchao-mxfp4-ceil", "rule=pow2ceil")]
    good += [("nvfp4-modelopt", "global=multiplier"), ("onnx-int4", "zeroblock=one")]
    good += [("bnb-cuda-nf4", "encoder=bnb_nf4")]
    for name, choice in good:
        rows = [each for each in departures(name) if each.choices == (choice,)]
        assert any(not each.bad for each in rows)
        assert {each.effect for each in rows if each.bad} <= {"not finite"}  # FLT_MAX, rounded up
    assert not faults("ocp-mxfp4")
    assert not departures("nvfp4-te")
    assert not departures("int8-b7-absmax-f32")


def planted(patch: pytest.MonkeyPatch, spelling: str, defined: str, left_open: str = "-") -> list[tuple[str, ...]]:
    """Choices, effect and judgement of a profile of that spelling, against that definition."""
    name = f"planted-{len(profiles())}"  # names of schemes are looked up once
    patch.setitem(profiles(), name, Profile(name, spelling, "here"))
    line = f"{name}  {defined}  float32  {left_open}  a test"
    patch.setattr(definitions, "_definitions", lambda: parsed([line]))
    found = find(name)
    return [(*each.choices, each.effect, "bad" if each.bad else "good") for each in found]


def test_planted_departures_are_found_and_nothing_else(monkeypatch: pytest.MonkeyPatch) -> None:
    plain = "int8-b32@-1-absmax-f32"
    assert planted(monkeypatch, plain, ".-.-.-.") == []
    assert planted(monkeypatch, f"{plain}+ties=away", ".-.-.-.") == [("ties=away", "rounding", "good")]
    both = planted(monkeypatch, f"{plain}+leastused=1e-38+ties=away", ".-.-.-.")
    assert both == [
        ("leastused=1e-38", "lost", "bad"),
        ("leastused=1e-38", "changed", "bad"),
        ("ties=away", "rounding", "good"),
    ]
    ceil = "e2m1fn-b32@-1-pow2ceil-e8m0fnu"
    assert ("rule=pow2ceil", "changed", "bad") in planted(monkeypatch, ceil, ".-.-pow2floor-.")
    assert ("rule=pow2ceil", "changed", "good") in planted(monkeypatch, ceil, ".-.-pow2floor-.", "rule")


def test_effects_by_hand() -> None:
    """Blocks of two: what other numbers do, each the worst that applies."""

    def effect(x: list[float], defined: list[float], theirs: list[float], spelling: str = "int8-b2-absmax-f32") -> str:
        answers = []
        for values in (defined, theirs):
            codes, scale = np.zeros(2, np.int64), {"scales": np.ones(1)}
            refused = np.array([np.isnan(values).all()])
            answers.append(finding.Stored(codes, scale, None, refused, decoded=np.array(values, np.float32)))
        index, largest = np.zeros(2, np.intp), np.full(2, np.abs(x).max())
        found = finding.effects_of(scheme(spelling), np.array(x, np.float32), index, largest, *answers)
        return "".join([*EFFECTS, "-"][found[0]])

    nan, inf = np.nan, np.inf
    assert effect([1, 0], [1, 0], [1, 0]) == "-"
    assert effect([1, 0], [1, 0], [nan, nan]) == "no answer"
    assert effect([1, 0], [nan, nan], [1, 0]) == "-"
    assert effect([1, 0], [nan, nan], [inf, 0]) == "not finite"
    assert effect([1, 0], [1, 0], [nan, 0]) == "not finite"
    assert effect([1, 0], [1, 0], [0.49, 0]) == "lost"
    assert effect([1, 0], [1, 0], [-1, 0]) == "lost"
    assert effect([-1, 0], [-1, 0], [-2.1, 0]) == "lost"
    assert effect([1, 0], [0.4, 0], [0.3, 0]) == "farther"
    assert effect([0, 1], [0, 1], [0.01, 1]) == "zero moved"
    assert effect([0, 1], [0, 1], [0.01, 1], "uint8-b2-minmax-f32") == "changed"
    assert effect([0, 1], [0, 1], [-0.0, 1]) == "sign of zero"
    assert effect([-0.0, 1], [-0.0, 1], [0, 1]) == "zero"
    assert effect([-0.0, 1], [0, 1], [-0.0, 1]) == "zero"
    assert effect([0.5, 1], [0.5, 1], [0.51, 1]) == "changed"
    assert effect([0.5, 1], [0.5, 1], [0.5000005, 1]) == "rounding"
    assert effect([0.5, 1], [0.49, 1], [0.51, 1]) == "rounding"
    assert effect([0.5, 1], [0.49, 1], [0.52, 1]) == "farther"


def test_a_verdict_that_agrees_tells_the_faults_of_the_profile(capsys: pytest.CaptureFixture[str]) -> None:
    def same(x: Any) -> Any:
        return kb.quantize(x, "bnb-cpu-nf4")

    verdict = kb.check(same, "bnb-cpu-nf4", shapes="rows")
    assert (verdict.status, verdict.says) == ("agree", "agree, with 1 known fault")
    assert "fault of the profile: leastused=1e-38: " in str(verdict)
    assert [fault["choices"] for fault in verdict.as_dict()["faults"]] == ["leastused=1e-38"]
    assert kb.check(lambda x: kb.encode("int4", x), "int4").says == "agree"
    document = as_dict(Matrix("2026-01-01", (), (verdict,), ()))
    assert "same: leastused=1e-38: elements are divided" in markdown(document)
    assert "known fault: leastused=1e-38: elements are divided" in html(document)
    assert "Known faults" not in markdown(document | {"blocks": []})
    wrong = kb.check(lambda x: kb.quantize(x, "bnb-cuda-nf4"), "bnb-cpu-nf4", shapes="rows")
    assert wrong.says == wrong.status == "disagree"
    half = "oint4-b32@-1-absmaxhalf-f16+compute=float16+layout=lsb4+scalerange=zeroblock+zeroblock=1.1920929e-07"
    assert departures(half) == departures("ct-int4") != ()
    assert main(["show", "bnb-cpu-nf4"]) == 0
    assert "known fault: leastused=1e-38: " in capsys.readouterr().out


def test_the_command(capsys: pytest.CaptureFixture[str], tmp_path: Path) -> None:
    assert main(["departures", "bnb-cpu-nf4"]) == 0
    text = capsys.readouterr().out
    assert "fault   leastused=1e-38" in text
    assert "[1e-45, 0 x 63]: 1e-45 comes back as 0, by the definition as 1e-45" in text
    assert "arith=reciprocal" not in text
    assert main(["departures", "bnb-cpu-nf4", "--all", "--json"]) == 0
    rows = json.loads(capsys.readouterr().out)
    assert {"profile", "choices", "effect", "bad", "values", "error", "block", "meaning", "source"} <= set(rows[0])
    assert [row["bad"] for row in rows] == [True, True, False, False]
    assert main(["departures", "ocp-mxfp4", "--find", "-o", str(tmp_path / "found.csv")]) == 0
    assert "no fault" in capsys.readouterr().out
    assert (tmp_path / "found.csv").read_text("utf-8").count("\n") == 1
    assert main(["departures", "bnb-cpu-nf5"]) == 2
    assert "did you mean bnb-cpu-nf4" in capsys.readouterr().err
