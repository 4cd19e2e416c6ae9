"""`audit`: what a test accepts, told by hand for small tests; the command; a test of pytest; the worked examples."""

from __future__ import annotations

import itertools
import json
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray

import kbit_ref as kb
from kbit_ref.cli import main
from kbit_ref.cli.audit import markdown
from kbit_ref.conformance.audit.audit_pytest import audit_test
from kbit_ref.conformance.audit.quantizers import Quantizer, quantizer, witnesses
from kbit_ref.conformance.audit.rules_in_use import DEVIATION, MEAN, RULES, rows
from kbit_ref.conformance.audit.run import audit, chosen, load
from kbit_ref.conformance.variants import CONSTRUCTED, Mutant, mutants
from kbit_ref.errors import BadInput, KbitError
from kbit_ref.tensors.steps import Steps

Array = NDArray[Any]
TEXT = "int4-b4-absmax-f32"
X = np.array([7, 2.5, -2.5, 1], np.float32)  # the scale is 1, and two numbers are ties


def names(found: Any) -> set[str]:
    """Of the wrong quantizers that were accepted."""
    return {one.name for one in found.accepted}


# Quantizers --------------------------------------------------------------------------------------


def test_the_reference_is_quantize() -> None:
    for text in ("bnb-cuda-nf4", "nvfp4-modelopt", "uint4-b32@-1-affine-f32"):
        q, x = quantizer(kb.scheme(text)), kb.probe(text)
        right, made = kb.quantize(x, text), q.quantize(x)
        assert np.array_equal(made.packed, right.packed)
        assert np.array_equal(q(x), kb.dequantize(right), equal_nan=True)
        assert np.array_equal(q.dequantize(right), kb.dequantize(right), equal_nan=True)
        assert np.array_equal(q.dequantize(made), q(x), equal_nan=True)
        assert np.array_equal(q.unpack(q.pack(right.codes), right.codes.size), right.codes.ravel())
        assert q.calls == 7
        assert not q.shown


def test_a_wrong_one_is_shown_only_where_it_differs() -> None:
    away = quantizer(kb.scheme(TEXT), "ties-away")
    assert away(np.array([7, 2, -2, 1], np.float32)).tolist() == [7, 2, -2, 1]
    assert not away.shown
    assert away(X).tolist() == [7, 3, -3, 1]
    assert away.shown
    swapped = quantizer(kb.scheme(TEXT), "nibbles-swapped")
    assert swapped.unpack(np.array([0x21], np.uint8), 2).tolist() == [2, 1]
    assert swapped.shown
    assert swapped.pack([1, 2]).tolist() == [0x21]


def test_what_only_one_refuses_is_shown() -> None:
    def mutant(admit: Callable[[Steps], Any]) -> Mutant:
        return Mutant("m", ("admit",), CONSTRUCTED, "", lambda steps: replace(steps, admit=admit(steps)))

    def refuse(steps: Steps) -> Any:
        def wrong(blocks: Array, whole: Any) -> Any:
            raise BadInput("refused")

        return wrong

    more = Quantizer("more", kb.scheme(TEXT), mutant(refuse))
    with pytest.raises(BadInput):
        more(X)
    assert more.shown
    less = Quantizer("less", kb.scheme(TEXT), mutant(lambda s: lambda blocks, whole: (np.nan_to_num(blocks), None)))
    assert less(np.array([7, np.nan, 1, 0], np.float32)).tolist() == [7, 0, 1, 0]
    assert less.shown


@pytest.mark.parametrize("text", [TEXT, "ocp-mxfp4"])
def test_witnesses(text: str) -> None:
    """Each array tells its mutant from `kb.quantize`, an independent path."""
    s = kb.scheme(text)
    found = witnesses(s)
    assert len(found) > 30
    for name, x in found.items():
        made: Any
        try:
            made = quantizer(s, name).quantize(x)
        except KbitError:
            kb.quantize(x, s)  # only the mutant refuses it
            continue
        try:
            right = kb.quantize(x, s)
        except KbitError:
            continue  # only the mutant accepts it
        same = np.array_equal(made.packed, right.packed) and made.scales.tobytes() == right.scales.tobytes()
        assert not (same and made.values.tobytes() == kb.dequantize(right).tobytes()), name


# Audits ------------------------------------------------------------------------------------------


def within_half(q: Quantizer) -> bool:
    """All errors are at most half a step."""
    return bool(np.abs(q(X) - X).max() <= 0.5)


def test_by_hand() -> None:
    tried = ["ties-away", "ties-up", "truncates", "rounds-down", "sign-not-extended", "zero-block-nan", "wraps"]
    found = audit(within_half, TEXT, only=[name for name in tried if name in witnesses(kb.scheme(TEXT))])
    # -2.5 rounded down is -3, and 2.5 is 2: half a step. What is cut off is 2 and -2. Codes 14 read as 14, not -2.
    assert names(found) >= {"ties-away", "ties-up", "truncates", "rounds-down", "zero-block-nan"}
    assert "sign-not-extended" not in names(found)
    shown = {one.name: one.shown for one in found.accepted}
    assert shown["ties-away"]
    assert not shown["zero-block-nan"]
    assert found.killed + len(found.accepted) == len(found.tried)
    assert found.as_dict()["killed"] == found.killed
    assert "ties-away" in str(found)


def test_what_accepts_all_and_what_accepts_none() -> None:
    s = kb.scheme(TEXT)
    assert len(audit(lambda q: q(X) is not None, s).accepted) == len(witnesses(s))

    def equal(q: Quantizer) -> None:
        for x in witnesses(s).values():
            try:
                right = kb.quantize(x, s)
            except KbitError:
                with pytest.raises(KbitError):
                    q(x)
                continue
            made = q.quantize(x)
            assert made.values.tobytes() == kb.dequantize(right).tobytes()
            assert made.packed.tobytes() == right.packed.tobytes()
            assert made.scales.tobytes() == right.scales.tobytes()

    assert names(audit(equal, s)) == set()


def undefined(q: Quantizer) -> bool:
    """A name that is not there, met only by a wrong quantizer."""
    raise NameError("undefined") if q(X) is not None else None


def late(q: Quantizer) -> bool:
    """A rule that breaks for a wrong quantizer only."""
    return q(X) is not None and (q.name == "reference" or undefined(q))


def every_other() -> Any:
    """A rule that accepts every other time."""
    turns = itertools.cycle([True, False])
    return lambda q: q(X) is not None and next(turns)


def test_a_rule_on_unseeded_data_is_noticed() -> None:
    """https://github.com/thinking-machines-lab/tinker-cookbook/pull/711: a fixed tolerance on data new in each call."""
    random = np.random.default_rng(0)  # stands for default_rng(), whose data is new in each call

    def rule(quantize: Quantizer) -> bool:
        x = (random.standard_normal((8, 32)) * 1.55).astype(np.float32)
        return bool(np.abs(quantize(x) - x).max() < 0.33)

    def seeded(quantize: Quantizer) -> bool:
        x = np.random.default_rng(0).standard_normal((8, 32)).astype(np.float32)
        return bool(np.abs(quantize(x) - x).max() < 9)

    with pytest.raises(BadInput, match=r"in \d+ of 32 calls .*: its data is new in each call; seed it"):
        audit(rule, "int4sym-b32@-1-absmax-bf16", only=["nibbles-swapped"])
    loose = audit(lambda q: np.abs(q(random.standard_normal(8))).max() < 99, TEXT, only=["ties-away"])
    assert loose.note == "its data is new in each call; it accepts the reference in 32 of 32 calls"
    assert f"note: {loose.note}" in str(loose)
    assert audit(seeded, TEXT, only=["ties-away"]).note == ""


BAD = {
    "audit: rule = 1, it cannot be called; give a function of a quantizer": lambda: audit(1, TEXT),  # type: ignore[arg-type]
    "audit: rule = never, it never calls the quantizer; call it": lambda: audit(lambda q: True, TEXT, name="never"),
    "audit: rule = strict, it rejects the reference (it returned False), mend it, or name": (
        lambda: audit(lambda q: q(X).sum() > 99, TEXT, name="strict")
    ),
    "audit: rule = broken, it rejects the reference (ZeroDivisionError: division by zero), mend": (
        lambda: audit(lambda q: (q(X), 1 / 0), TEXT, name="broken")
    ),
    "audit: rule = typo, it raised AttributeError ('Output' object has no attribute 'vlaues') for reference; mend it": (
        lambda: audit(lambda q: q.quantize(X).vlaues, TEXT, name="typo")
    ),
    "audit: rule = late, it raised NameError (undefined) for ties-away; mend it: a test rejects by": (
        lambda: audit(late, TEXT, only=["ties-away"])
    ),
    "audit: rule = odd, it rejects the reference in 16 of 32 calls (it returned False): it answers at random": (
        lambda: audit(every_other(), TEXT, name="odd")
    ),
    "audit: an answer of type float64, a test says True or False; return a bool": (
        lambda: audit(lambda q: np.float64(q(X).sum()), TEXT)
    ),
    "audit: mutant = 'ties-awy', there is no such name; did you mean ties-away": lambda: chosen(
        kb.scheme(TEXT), ["ties-awy"]
    ),
    "audit: mutant = awq-order-missed, it changes nothing in int4-b4-absmax-f32; leave it out": lambda: chosen(
        kb.scheme(TEXT), ["awq-order-missed"]
    ),
    "audit: rule = 'sqnr', it is spelled module:function, or file.py::test; e.g.": lambda: load("sqnr"),
    "audit: rule = no_such:f, it cannot be imported (No module named 'no_such'); name": lambda: load("no_such:f"),
    "audit: function = 'isfinit', there is no such name; did you mean isfinite": lambda: load("math:isfinit"),
}


@pytest.mark.parametrize("text", BAD)
def test_bad_input(text: str) -> None:
    with pytest.raises(KbitError) as caught:
        BAD[text]()  # type: ignore[no-untyped-call]
    assert str(caught.value).replace(";", ",", 1).startswith(text.replace(";", ",", 1))
    assert "\n" not in str(caught.value)


# The command, and a test of pytest ---------------------------------------------------------------

MODULE = """\
import numpy as np
X = np.array([7, 2.5, -2.5, 1], np.float32)

def close(quantizer):
    assert np.abs(quantizer(X) - X).max() <= 0.5
"""
TESTS = """\
import numpy as np
import pytest
X = np.array([7, 2.5, -2.5, 1], np.float32)

@pytest.fixture
def kbit_quantizer():
    raise RuntimeError("the project's own: not asked for in an audit")

@pytest.mark.parametrize("sign", [1, -1])
def test_close(kbit_quantizer, sign):
    assert np.abs(kbit_quantizer(sign * X) - sign * X).max() <= 0.5

def test_never(kbit_quantizer):
    pass

def test_without():
    pass

def test_strict(kbit_quantizer):
    assert kbit_quantizer(X).tolist() == X.tolist()

def test_unseeded(kbit_quantizer):
    assert kbit_quantizer(np.random.default_rng().standard_normal(8)).max() < 99

TURNS = iter([True, False] * 9)
def test_at_random(kbit_quantizer):
    assert kbit_quantizer(X) is not None and next(TURNS)
"""


def test_the_command(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    monkeypatch.chdir(tmp_path)
    Path("quality_of_mine.py").write_text(MODULE)
    command = ["audit", "quality_of_mine:close", "--scheme", TEXT]
    mutants_ = ["--mutant", "ties-away", "--mutant", "sign-not-extended"]
    assert main([*command, *mutants_]) == 1
    said = capsys.readouterr().out
    assert said.startswith(f"quality_of_mine:close accepts 1 of 2 wrong quantizers ({TEXT})")
    assert "ties-away  ties are rounded away from zero" in said
    assert main([*command, "--mutant", "sign-not-extended", "--json"]) == 0
    assert json.loads(capsys.readouterr().out)["killed"] == 1
    assert main(["audit", "quality_of_mine.py:close", "--scheme", TEXT, *mutants_]) == 1
    for wrong in (["audit", "quality_of_mine:close"], ["audit", "--mutant", "ties-away"], [*command, "--markdown"]):
        assert main(wrong) == 2
        assert capsys.readouterr().err.startswith("kbit-ref audit: ")


def test_a_test_of_pytest(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("PYTHONPATH", str(Path(__file__).parents[2]))
    Path("test_theirs.py").write_text(TESTS)
    found = audit_test("test_theirs.py::test_close", TEXT, only=["ties-away", "sign-not-extended", "zero-block-nan"])
    assert {one.name: (one.accepted, one.shown) for one in found.tried} == {
        "ties-away": (True, True),
        "sign-not-extended": (False, True),
        "zero-block-nan": (True, False),
    }
    assert audit_test("test_theirs.py::test_unseeded", TEXT, only=["ties-away"]).note == "its data is new in each call"
    for name, text in {
        "never": "it never calls the quantizer; call kbit_quantizer",
        "strict": "for the reference it is rejected; mend it",
        "at_random": "it rejects the reference in 1 of 2 calls: it answers at random; seed it",
        "without": "it does not take the fixture kbit_quantizer; add kbit_quantizer to its arguments",
    }.items():
        with pytest.raises(KbitError) as caught:
            audit_test(f"test_theirs.py::test_{name}", TEXT, only=["ties-away"])
        assert str(caught.value).startswith(f"audit: test = test_theirs.py::test_{name}, {text}")


# The worked examples -----------------------------------------------------------------------------


def test_the_bound_of_the_mean_error_is_what_it_says() -> None:
    errors = []
    for seed in range(1, 31):
        x = np.random.default_rng(seed).standard_normal((256, 256), np.float32)
        errors.append(np.abs(x - kb.dequantize(kb.quantize(x, "nf4-b64-absmax-f32"))).mean(dtype=np.float64))
    assert abs(np.mean(errors) - MEAN) < DEVIATION
    assert DEVIATION / 2 < np.std(errors) < 2 * DEVIATION


# What PEERS' emulations let through, of those that are mutants here.
LETS_THROUGH = {
    "sqnr_18": {"truncates", "rounds-down", "exponent-rounded-up", "ties-away"},
    "sqnr_13": {"truncates", "exponent-rounded-up"},
    "sqnr_8": {"truncates", "largest-level-unused"},
    "rmse_over_n": {"ties-away", "scale-in-bf16"},
    "mean_error": {"table-entry-off", "zero-block-nan"},
    "round_trip_of_codes": {"wrong-axis", "truncates", "zero-block-nan"},
    "round_trip_of_values": {"ties-away", "tail-dropped"},
    "equal_on_normals": {"ties-away", "tail-dropped", "zero-block-nan"},
}


@pytest.mark.parametrize("name", LETS_THROUGH)
def test_what_they_let_through(name: str) -> None:
    one = RULES[name]
    scheme = one.schemes[0]
    wanted = LETS_THROUGH[name] & set(witnesses(kb.scheme(scheme)))
    assert names(audit(one.rule, scheme, only=wanted)) == wanted


def test_they_reject_what_is_grossly_wrong() -> None:
    for name in ("sqnr_18", "sqnr_13", "sqnr_8", "rmse_over_n", "mean_error", "round_trip_of_values"):
        one = RULES[name]
        assert names(audit(one.rule, one.schemes[0], only=["scale-divides"])) == set(), name


def test_equality_on_the_probe_is_nearly_enough() -> None:
    found = audit(RULES["equal_on_probe"].rule, "int4-b32-absmax-f32")
    assert not any(mutant.shown for mutant in found.accepted)
    assert len(found.accepted) <= 4


def test_swapped_in_pack_and_unpack_alike_passes_any_round_trip() -> None:
    s = kb.scheme("int4-b32-absmax-f32")
    first, second = mutants()["nibbles-packed-swapped"], mutants()["nibbles-swapped"]

    class Both(Quantizer):
        def _of(self, source: str) -> Any:
            right = super()._of(source)[0]
            packed = first(right)
            assert packed is not None
            return right, second(packed)

    both = Both("both", s)
    assert RULES["round_trip_of_codes"].rule(both)
    assert both.pack([1, 2]).tolist() == [0x12]
    assert both.shown


def test_rows() -> None:
    assert len(RULES) >= 6
    table = rows(["round_trip_of_codes"])
    assert [list(row) for row in table] == [["rule", "for", "accepts", "though it saw the difference"]] * 2
    assert all(one.summary for one in RULES.values())


@pytest.mark.slow
def test_the_table() -> None:
    lines = markdown().splitlines()
    assert len(lines) == 2 + sum(len(one.schemes) for one in RULES.values())
    assert all(line.count("|") == 5 for line in lines)
