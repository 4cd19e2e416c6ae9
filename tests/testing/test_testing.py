"""`kbit_ref.testing`: what is right passes, every known-wrong quantizer fails, and failures say why."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from numpy.typing import NDArray

import kbit_ref as kb
from kbit_ref.conformance.audit.quantizers import quantizer, witnesses
from kbit_ref.errors import KbitError
from kbit_ref.strategies import tensors
from kbit_ref.testing import LAWS, Subject, assert_conforms, laws
from kbit_ref.testing.conform import _given
from kbit_ref.testing.law import obeys
from kbit_ref.testing.outside import expected_failures, ids, subjects, warn_unknown

Array = NDArray[Any]
TEXT = "int4-b8-absmax-f32"
SCHEMES = (TEXT, "ocp-mxfp4", "uint4-b8@-1-affine-f32")


def wrong(text: str, name: str) -> Subject:
    """A mutant as a subject."""
    q = quantizer(kb.scheme(text), name)

    def function(x: Array) -> dict[str, Any]:
        made = q.quantize(x)
        names = ("packed", "scales", "offsets", "zero_points", "global_scale", "values")
        return {part: getattr(made, part) for part in names if getattr(made, part) is not None}

    return Subject.of(function, kb.scheme(text), name=name)


# assert_conforms ---------------------------------------------------------------------------------


@pytest.mark.parametrize("text", [TEXT, "nvfp4-modelopt", "bnb-nested", "uint4-channel@1-minmax-f16", "ggml-q4_0"])
def test_what_is_right_conforms(text: str) -> None:
    assert_conforms(lambda x: kb.quantize(x, text), text, examples=4)


@pytest.mark.parametrize("text", [SCHEMES[0], *(pytest.param(text, marks=pytest.mark.slow) for text in SCHEMES[1:])])
def test_no_wrong_quantizer_conforms(text: str) -> None:
    """Of the given arrays alone, which `assert_conforms` tries first."""
    for name in witnesses(kb.scheme(text)):
        subject = wrong(text, name)
        assert any(subject.differs(x) for x in _given(subject, "float32")), name


def test_arrays_that_are_drawn_show_nearly_all_of_them() -> None:
    """Without the hard cases, which `tensors` mixes in: blocks of its own, 300 arrays."""
    left = {name: wrong(TEXT, name) for name in witnesses(kb.scheme(TEXT))}

    @given(tensors(TEXT, max_blocks=2))
    @settings(max_examples=200)
    def look(x: Array) -> None:
        for name in [name for name, subject in left.items() if subject.differs(x)]:
            del left[name]

    look()
    assert len(left) <= 2, list(left)


def message(function: Callable[[Any], Any], *claim: str, **options: Any) -> str:
    """What a failure says."""
    with pytest.raises(AssertionError) as caught:
        assert_conforms(function, *claim, **options)
    return str(caught.value)


def test_a_failure_says_block_step_and_diagnosis() -> None:
    lines = message(lambda x: kb.quantize(x, f"{TEXT}+ties=away"), TEXT).splitlines()
    assert lines[0].startswith(f"<lambda> is not {TEXT}: ")
    assert "ties are rounded away from zero" in lines[0]
    # by hand: 7 makes the scale 1, 0.5 lies between the levels 0 and 1; even is 0, away from zero is 1
    assert lines[1] == "  block   [0.5, 7, 0 x 6]  (float32, shape 1x8)"
    assert lines[2] == "  parts   at codes[0]: theirs 1, ours 0"
    assert "why       a tie: ties=even takes the even code, 0.0" in lines[-2]


def test_a_failure_names_the_first_step() -> None:
    text = message(lambda x: kb.quantize(x, "e2m1fn-b32@-1-pow2ceil-e8m0fnu"), profile="ocp-mxfp4")
    assert "parts   at scales[0]: theirs" in text
    assert "pow2floor: 2**(floor(log2 max|x|)" in text
    assert "exponent-rounded-up" in text


def test_values_alone_are_judged() -> None:
    text = message(lambda x: kb.dequantize(kb.quantize(x, f"{TEXT}+ties=away")), TEXT)
    assert "parts   at decoded[0]: theirs 1, ours 0" in text


def test_what_is_drawn_is_shrunk_by_hypothesis() -> None:
    """A mistake that no hard case shows: arrays of three dimensions are ones."""

    def off(x: Array) -> kb.QTensor:
        return kb.quantize(np.where(x.ndim == 3, np.float32(1), x).astype(x.dtype), TEXT)

    assert "  block   [0 x 8]  (float32, shape 1x1x8)" in message(off, TEXT, examples=50)


def test_refusals_and_changes() -> None:
    def refuses(x: Array) -> kb.QTensor:
        if not x.any():
            raise ValueError("all zeros")
        return kb.quantize(x, TEXT)

    def changes(x: Array) -> kb.QTensor:
        q = kb.quantize(x, TEXT)
        x[...] = 0
        return q

    assert "parts   before anything: it raised ValueError: all zeros" in message(refuses, TEXT)
    assert "parts   before anything: it changed the array that it was given" in message(changes, TEXT)


def test_shapes() -> None:
    def rows_only(x: Array) -> kb.QTensor:
        assert x.ndim == 2
        assert x.shape[1] % 8 == 0
        return kb.quantize(x, TEXT)

    assert_conforms(rows_only, TEXT, shapes="rows", examples=20)
    assert "it raised AssertionError" in message(rows_only, TEXT, examples=20)


@pytest.mark.parametrize(
    ("scheme", "options", "text"),
    [
        (
            None,
            {},
            "assert_conforms: scheme = None, profile = None, it says nothing of what to expect; give one of them",
        ),
        (None, {"profile": "bnb-cuda-nf"}, "assert_conforms: profile = 'bnb-cuda-nf', there is no such name; did you"),
        (TEXT, {"profile": "ggml-q4_0"}, f"assert_conforms: profile = 'ggml-q4_0', it is no profile of {TEXT}; leave"),
        (TEXT, {"shapes": "square"}, "testing: shapes = 'square', there is no such name; use any, flat, ragged, rows"),
        (TEXT, {"source": "int8"}, "tensors: source = 'int8', there is no such name; "),
        (TEXT, {"examples": 0}, "assert_conforms: examples = 0, it is a number from 1; use 100"),
    ],
)
def test_bad_arguments(scheme: str | None, options: dict[str, Any], text: str) -> None:
    with pytest.raises(KbitError) as caught:
        assert_conforms(lambda x: x, scheme, **options)
    assert str(caught.value).startswith(text)


def test_a_profile_of_a_scheme() -> None:
    assert_conforms(lambda x: kb.quantize(x, "bnb-cuda-nf4"), "nf4-b64-absmax-f32", profile="bnb-cuda-nf4", examples=2)
    with pytest.raises(KbitError, match="testing: quantize = 1, it cannot be called"):
        assert_conforms(1, TEXT)  # type: ignore[arg-type]


# Laws --------------------------------------------------------------------------------------------


class Forgetful:
    """Its answers depend on how often it was asked."""

    def __init__(self) -> None:
        self.asked = 0

    def __call__(self, x: Array) -> kb.QTensor:
        self.asked += 1
        return kb.quantize(x * np.float32(1 + self.asked % 2), TEXT)


def in_memory_order(x: Array) -> kb.QTensor:
    """It takes the numbers as they lie in memory."""
    flat = x.ravel(order="K") if x.flags.c_contiguous or x.flags.f_contiguous else x.base.ravel()[: x.size]
    return kb.quantize(np.array(flat).reshape(x.shape), TEXT)


def with_shared_scale(x: Array) -> kb.QTensor:
    """All blocks of an array share the largest number: it looks beyond its block."""
    largest = np.abs(x).max(initial=0)
    return kb.quantize(np.where(np.abs(x) > largest / 2, x, 0).astype(x.dtype), TEXT)


def noisy(x: Array) -> Array:
    """Values that are no fixed points, nor those of any level."""
    return kb.dequantize(kb.quantize(x, TEXT)) * np.float32(0.99)


def upside_down(x: Array) -> Array:
    """The order of values is turned around."""
    return -kb.dequantize(kb.quantize(x, TEXT))


BROKEN: dict[str, Callable[[Any], Any]] = {
    "the_same_twice": Forgetful(),
    "order_of_memory": in_memory_order,
    "shape": lambda x: kb.dequantize(kb.quantize(x, TEXT.replace("b8", "b64@-1"))),
    "blocks_alone": with_shared_scale,
    "powers_of_two": lambda x: kb.quantize(x + np.float32(0.25) * (np.abs(x) < 1), TEXT),
    "again": noisy,
    "order_is_kept": upside_down,
    "sign": lambda x: kb.dequantize(kb.quantize(np.abs(x), TEXT)),
    "zeros": lambda x: kb.dequantize(kb.quantize(x, TEXT)) + np.float32(1),
}


def test_every_law_is_tried() -> None:
    assert set(BROKEN) == set(LAWS)
    assert all(law.sentence for law in LAWS.values())


@pytest.mark.parametrize("name", LAWS)
def test_a_broken_law_is_broken(name: str) -> None:
    """On an array on which the reference obeys it."""
    s = kb.scheme(TEXT)
    x = np.array([[9] * 8, [0.5, -7, 0.25, 3, 0, 1, 2, -0.75], [1, 2, 3, 3.5, 0, -1, 0.25, 2]], np.float32)
    assert obeys(LAWS[name], Subject.ours(s), x, -1) is True
    assert obeys(LAWS[name], Subject.of(BROKEN[name], s), x, -1) is False


def test_a_broken_law_is_found() -> None:
    with pytest.raises(AssertionError) as caught:
        LAWS["zeros"].test(Subject.of(BROKEN["zeros"], kb.scheme(TEXT)), examples=10)
    assert str(caught.value).startswith(f"<lambda> is not {TEXT}")
    assert "  law     Zeros decode to zeros" in str(caught.value)
    assert "  block   [0 x 8]" in str(caught.value)


@pytest.mark.parametrize("name", LAWS)
@pytest.mark.parametrize("text", ["uint4-b4-minmax-f32", "nvfp4-modelopt"])
def test_the_reference_obeys(name: str, text: str) -> None:
    LAWS[name].test(Subject.ours(kb.scheme(text)), examples=4)


def test_a_law_has_a_domain() -> None:
    """`again` does not hold where -top is no level: there the reference itself breaks it, and nobody is blamed."""
    s = kb.scheme("dynamic8-b4-absmax-f32")
    x = np.array([-1, 0.3, 0.2, 0.1], np.float32)
    assert obeys(LAWS["again"], Subject.ours(s), x, 0) is False
    assert obeys(LAWS["shape"], Subject.ours(kb.scheme("int4-b4@-1-absmax-f32")), x, 0) is None


# Test files --------------------------------------------------------------------------------------

MINE = """\
from kbit_ref.testing import laws
import kbit_ref as kb
TestInt4 = laws(lambda x: kb.quantize(x, "int4-b8-absmax-f32+ties=away"), "int4-b8-absmax-f32", examples=3)
"""
ADAPTER = """\
import numpy as np
import kbit_ref as kb
from kbit_ref.conformance.implementations.adapters import BlockAdapter, BlockProfile

SCHEMES = {"int4-b4-absmax-f32": lambda x: kb.dequantize(kb.quantize(x, "int4-b4-absmax-f32")) * np.float32(-1)}

class Theirs(BlockAdapter):
    library, module, install = "theirs", "kbit_ref", ""
    profiles = (BlockProfile("nf4-b4@-1-absmax-f32", "nf4", shapes="rows"),)

    def quantize(self, theirs, x, source):
        q = kb.quantize(x, "nf4-b4@-1-absmax-f32")
        return {"packed": q.packed, "scales": q.scales}
"""
EXPECTED = """\
int4-b4-absmax-f32/conforms      # it gives everything the wrong sign
*/order_is_kept                  # true of one, not of the other
int4-b4-absmax-f32/order_is_lost
"""


def run(folder: Path, *what: str, **environment: str) -> str:
    """The output of pytest in a folder."""
    root = str(Path(__file__).parents[2])
    variables = os.environ | {"PYTHONPATH": root, "KBIT_REF_EXAMPLES": "2"} | environment
    command = [sys.executable, "-m", "pytest", "-q", "-p", "no:cacheprovider", "--tb=line", "-rA", *what]
    done = subprocess.run(command, cwd=folder, env=variables, capture_output=True, text=True)
    return done.stdout + done.stderr


def test_from_outside_and_in_three_lines(tmp_path: Path) -> None:
    (tmp_path / "mymod.py").write_text(ADAPTER)
    (tmp_path / "test_mine.py").write_text(MINE)
    (tmp_path / "expected.txt").write_text(EXPECTED)
    said = run(
        *(tmp_path, "--pyargs", "kbit_ref.testing", "test_mine.py", "-k", "conforms or kept or twice"),
        KBIT_REF_ADAPTER="mymod",
        KBIT_REF_XFAILS="expected.txt",
    )
    assert "did you mean int4-b4-absmax-f32/order_is_kept?" in " ".join(said.split())
    outcomes = dict(line.split(" ", 1)[::-1] for line in said.splitlines() if line.split(" ")[0].isupper())
    of = {key.split(" ")[0].rpartition("::")[2]: value for key, value in outcomes.items() if "::" in key}
    assert of["test_law[int4-b4-absmax-f32/conforms]"] == "XFAIL"
    assert of["test_law[int4-b4-absmax-f32/order_is_kept]"] == "XFAIL"
    assert of["test_law[nf4-b4@-1-absmax-f32/order_is_kept]"] == "FAILED"  # it was expected to fail, and passes
    assert of["test_law[nf4-b4@-1-absmax-f32/conforms]"] == "PASSED"
    assert of["test_conforms"] == "FAILED"  # of the three lines
    assert of["test_the_same_twice"] == "PASSED"


def test_without_an_adapter_it_fails_and_says_why(tmp_path: Path) -> None:
    said = run(tmp_path, "--pyargs", "kbit_ref.testing", KBIT_REF_ADAPTER="")
    assert "testing: KBIT_REF_ADAPTER = , nothing of yours is judged; set it to a module with SCHEMES" in said
    assert "1 failed" in said
    assert "passed" not in said


ONE_FAULT = """
import kbit_ref as kb
from kbit_ref.testing import laws
S = "int4-b4-absmax-f32"

def swapped(x):
    q = kb.quantize(x, S)
    packed = (q.packed >> 4) | (q.packed << 4)
    return {"packed": packed, "scales": q.scales}

def whole(x):
    if x.ndim != 2 or x.shape[1] % 4:
        raise ValueError("rows of whole blocks only")
    return kb.quantize(x, "int4-b4@-1-absmax-f32")

CALLS = []

def forgetful(x):
    CALLS.append(x)
    return kb.quantize(x, S + "+ties=away" * (len(CALLS) > 400))

TestSwapped = laws(swapped, S, examples=5)
TestWhole = laws(whole, "int4-b4@-1-absmax-f32", examples=5)
"""


def test_a_fault_is_one_failure_that_says_what_it_is(tmp_path: Path) -> None:
    (tmp_path / "test_one.py").write_text(ONE_FAULT)
    said = run(tmp_path, "test_one.py", "--tb=short")
    failed = [line for line in said.splitlines() if line.startswith("FAILED")]
    assert [line.split(" ")[1] for line in failed] == [
        "test_one.py::TestSwapped::test_conforms",
        "test_one.py::TestWhole::test_conforms",
    ]
    assert "AssertionError: swapped is not int4-b4-absmax-f32: " in said
    assert "packed from the other end of each byte" in said.partition("  block")[0]  # in the first line of the failure
    assert 'try     shapes="rows": it takes rows of whole blocks, 2x4' in said
    assert "broken by the fault that test_conforms reports: swapped is not int4-b4-absmax-f32" in said
    assert "kbit_ref/testing/" not in said.partition("short test summary")[0]  # no frame of ours


@pytest.mark.slow
def test_the_three_lines_are_typed(tmp_path: Path) -> None:
    (tmp_path / "mylib.py").write_text("from typing import Any\n\n\ndef quantize(x: Any) -> Any: ...\n")
    imports = "from kbit_ref.testing import laws\nfrom mylib import quantize\n"
    (tmp_path / "test_nf4.py").write_text(f"{imports}TestNF4 = laws(quantize, profile='bnb-cuda-nf4')\n")
    command = [sys.executable, "-m", "mypy", "--strict", "test_nf4.py"]
    variables = os.environ | {"MYPYPATH": str(Path(__file__).parents[2])}
    done = subprocess.run(command, cwd=tmp_path, env=variables, capture_output=True, text=True)
    assert "test_nf4.py" not in done.stdout, done.stdout


@pytest.mark.parametrize(
    ("adapter", "text"),
    [
        ("no_such_module", "testing: KBIT_REF_ADAPTER = no_such_module, it cannot be imported ("),
        ("string", "testing: KBIT_REF_ADAPTER = string, it has no SCHEMES, a dict of schemes to functions, and no"),
    ],
)
def test_a_bad_adapter(adapter: str, text: str) -> None:
    with pytest.raises(KbitError) as caught:
        subjects(adapter)
    assert str(caught.value).startswith(text)


def test_expected_failures(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    assert expected_failures(None) == []
    Path("kbit_ref_xfails.txt").write_text("# why\n\na/b  # because\n*/c\n")
    assert expected_failures(None) == ["a/b", "*/c"]
    with pytest.raises(KbitError, match="there is no such file; name one that exists"):
        expected_failures("other.txt")
    with pytest.warns(UserWarning, match="an id is scheme/law"):
        assert warn_unknown(["q"], [name for name, _, _ in ids(["s"])]) == ["q"]
    assert warn_unknown(["s/zeros", "*/again"], [name for name, _, _ in ids(["s"])]) == []


def test_the_class_has_a_test_for_each_law() -> None:
    made = laws(lambda x: kb.quantize(x, TEXT), TEXT, examples=2)
    assert {name for name in vars(made) if name.startswith("test")} == {f"test_{name}" for name in [*LAWS, "conforms"]}
    made().test_conforms()  # type: ignore[attr-defined]
