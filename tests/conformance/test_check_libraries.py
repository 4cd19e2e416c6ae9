"""Libraries are judged each in a process of its own: one flipped code is found, and no fault passes for agreement."""

import mmap
import platform
import subprocess
import sys
import textwrap
from pathlib import Path

import numpy as np
import pytest
from helpers.libraries import cases, needed

import kbit_ref as kb
from kbit_ref.conformance import libraries
from kbit_ref.conformance.implementations.adapters import adapters
from kbit_ref.conformance.inputs.of_types import encode_inputs
from kbit_ref.conformance.judges import judge_libraries

# For each adapter a profile that agrees from float32, and the index of the input whose code is flipped.
FLIPPED = {
    "ml_dtypes": ("MlDtypes", "float8_e4m3fn"),
    "gfloat": ("Gfloat", "ocp_e4m3 sat"),
    "onnx": ("Onnx", "Cast FLOAT8E5M2 saturate=1"),
    "jax": ("Jax", "float8_e4m3fnuz"),
    "torch": ("Torch", "float8_e5m2"),
    "onnxruntime": ("Onnxruntime", "Cast FLOAT8E4M3FN saturate=1"),
    "torchao": ("Torchao", "f4"),
}
AT = 777  # beyond the numbers that are tried in other arrangements too


def judge(folder: Path, body: str, timeout: float = 60.0, **more: str):
    """The rows for one adapter, written to a file of its own."""
    (folder / "fake.py").write_text(PREFIX + textwrap.dedent(body), "utf-8")
    for name, text in more.items():
        (folder / f"{name}.py").write_text(PREFIX + textwrap.dedent(text), "utf-8")
    found = adapters([folder])
    chosen = [found["fake"], *(found[name] for name in more)]
    return judge_libraries(chosen, timeout=timeout, folders=[folder])


PREFIX = """
import numpy as np
import kbit_ref as kb
from kbit_ref.conformance.implementations.adapters import Adapter, BlockProfile, Profile
"""

RIGHT = """
class Fake(Adapter):
    library, module, install = "fake", "numpy", "pip install numpy"
    profiles = (Profile("e4m3fn", "a"), Profile("e2m1fn", "b", sources=("float32",)))

    def encode(self, theirs, x, source):
        return kb.encode({"a": "e4m3fn", "b": "e2m1fn"}[theirs], x, bfloat16=source == "bfloat16")

    def decode(self, theirs, codes):
        return kb.decode({"a": "e4m3fn", "b": "e2m1fn"}[theirs], codes)
"""


BOTH = RIGHT + """
    profiles = (*profiles, BlockProfile("int4-b32-absmax-f32+scalerange=clamp", "c"))

    def quantize(self, theirs, x, source):
        q = kb.quantize(x, "int4-b32-absmax-f32+scalerange=clamp")
        return {"codes": q.codes, "scales": q.scales, "decoded": kb.dequantize(q)}
"""


def changed(method: str, body: str) -> str:
    """The right adapter with one method replaced."""
    arguments = {"encode": "self, theirs, x, source", "decode": "self, theirs, codes", "load": "self"}[method]
    lines = textwrap.indent(textwrap.dedent(body).strip(), "        ")
    return f"{RIGHT}\nclass Fake(Fake):\n    def {method}({arguments}):\n{lines}\n"


DECODES = RIGHT + """
    profiles = (BlockProfile("uint4-b32@-1-minmax-f16", "d", what="decode"),)

    def dequantize(self, theirs, parts):
        x = parts["codes"].astype(np.float32).reshape(*parts["scales"].shape, 32)
        return (x * parts["scales"][..., None] + parts["offsets"][..., None]).reshape(parts["shape"])
"""


def test_a_decoder_is_judged_by_what_the_format_stores(tmp_path):
    (found,) = judge(tmp_path, DECODES)
    assert (found.report.status, found.report.theirs, found.report.library) == ("agree", "d", "fake")
    assert [(row.part, row.tried > 10_000) for row in found.report.rows] == [("decoded", True)]


@pytest.mark.parametrize(
    ("good", "bad", "said"),
    [
        ('parts["codes"]', '(parts["codes"] & 7)', "the 1 highest bits of each are lost"),
        ('parts["scales"][..., None] +', 'parts["scales"][..., None] -', "subtracted"),
        ("np.float32", "1 / 0", "it raised ZeroDivisionError: division by zero"),
        ('.reshape(parts["shape"])', ".reshape(-1)[1:]", "the answer has shape"),
    ],
)
def test_a_wrong_decoder_is_named(good, bad, said, tmp_path):
    (found,) = judge(tmp_path, DECODES.replace(good, bad))
    assert found.report.status in ("disagree", "error")
    assert said in str(found.report)


@pytest.mark.parametrize(
    ("made", "said"),
    [
        ("np.where(np.signbit(x), 0, 8)", "without its sign bit 3 become 0x8 = -0.0; with it 3 become 0x0 = 0"),
        ("8", "6 become 0x8 = -0.0"),
        ("99", "6 become no code"),
        ("[][0]", "it raised IndexError: list index out of range"),
    ],
)
def test_a_library_is_asked_what_becomes_of_nan_where_a_type_has_none(made, said, tmp_path):
    body = f"""
        nan = np.isnan(x)
        codes = kb.encode({{"a": "e4m3fn", "b": "e2m1fn"}}[theirs], np.where(nan & (theirs == "b"), 0, x),
                          bfloat16=source == "bfloat16")
        return np.where(nan, {made}, codes).astype(np.uint8) if theirs == "b" and nan.any() else codes
    """
    a, b = judge(tmp_path, changed("encode", body))
    assert (a.report.status, b.report.status) == ("agree", "agree")
    assert not [note for row in a.report.rows for note in row.notes if "NaN" in note]
    encoded, decoded = b.report.rows
    assert encoded.notes == (f"6 NaN, which e2m1fn has none of: {said}",)
    assert decoded.notes == ()


@pytest.mark.parametrize("library", cases(FLIPPED))
def test_one_flipped_code_is_found_exactly(library, tmp_path):
    needed(library, adapters()[library].installed())
    name, theirs = FLIPPED[library]
    rows = judge(
        tmp_path,
        f"""
        from dataclasses import replace
        from kbit_ref.conformance.implementations.adapters.{library} import {name}

        class Fake({name}):
            library = "fake"
            profiles = tuple(
                replace(p, sources=("float32",), what=("encode",)) for p in {name}().types if p.theirs == {theirs!r}
            )
            known = ()

            def encode(self, theirs, x, source):
                codes = np.array(super().encode(theirs, x, source))
                codes = codes.view(np.uint8) if codes.dtype.itemsize == 1 else codes.astype(np.uint8)
                if x.size > 1000:
                    codes[{AT}] ^= 1
                return codes
        """,
    )
    (row,) = rows
    (verdict,) = row.report.verdicts
    assert verdict.status == "disagree", verdict
    (difference,) = verdict.differences
    assert (difference.cause, difference.count) == ("unexplained", 1)
    word = encode_inputs(kb.datatype(row.profile.dtype), "float32").words[AT]
    assert difference.example.bits == f"0x{word:08x}"


def test_flipped_entry_of_a_decoder_is_found(tmp_path):
    body = changed("decode", "levels = super().decode(theirs, codes).copy()\nlevels[codes == 9] = 7\nreturn levels")
    rows = judge(tmp_path, body)
    found = [(v.what, d.cause, d.count, d.example.bits) for r in rows for v in r.report.verdicts for d in v.differences]
    assert found == [("decode", "another level", 1, "0x09"), ("decode", "another level", 1, "0x9")]


def test_right_adapter_agrees(tmp_path):
    rows = judge(tmp_path, RIGHT)
    assert [row.report.status for row in rows] == ["agree", "agree"]
    assert [v.source for v in rows[0].report.verdicts] == ["float16", "bfloat16", "float32", "float64", "codes"]
    assert rows[1].report.verdicts[0].nan_left_out > 0


FAULTS = {
    "raises": ("raise RuntimeError('on purpose')", "it raised RuntimeError: on purpose"),
    "skips": ("import unittest\nraise unittest.SkipTest('not today')", "it raised SkipTest: not today"),
    "none": ("return None", "it returned None"),
    "short": ("return super().encode(theirs, x, source).reshape(-1)[1:]", "values"),
    "shape": ("return super().encode(theirs, x, source)[None]", "the answer has shape"),
    "dtype": ("return super().encode(theirs, x, source) > 3", "the answer has dtype bool"),
    "object": ("return super().encode(theirs, x, source).astype(object)", "dtype object"),
    "mutates": ("codes = super().encode(theirs, x, source)\nx[...] = 0\nreturn codes", "it changed the array"),
    "print": ("import os\nprint('its last words')\nos._exit(3)", "its process died: exit code 3 (its last words)"),
    "crash": ("import os, signal\nos.kill(os.getpid(), signal.SIGSEGV)", "its process died: signal 11"),
    "stderr": ("import os, sys\nprint('the reason', file=sys.stderr, flush=True)\nos._exit(1)", "(the reason)"),
}


@pytest.mark.skipif(sys.platform == "win32", reason="signals")
@pytest.mark.parametrize("fault", FAULTS)
def test_faults_of_one_type_are_errors_and_spare_the_next(fault, tmp_path, monkeypatch):
    monkeypatch.delenv("PYTHONUNBUFFERED", raising=False)  # last words reach us in any environment
    body, text = FAULTS[fault]
    guarded = "if theirs == 'a':\n" + textwrap.indent(body, "    ") + "\nreturn super().encode(theirs, x, source)"
    rows = judge(tmp_path, changed("encode", guarded))
    assert rows[0].report.status == "error"
    encoded = [v for v in rows[0].report.verdicts if v.what == "encode"]
    assert all(text in v.errors[0] for v in encoded), rows[0].report
    assert [v.status for v in rows[0].report.verdicts if v.what == "decode"] == ["agree"]
    assert rows[1].report.status == "agree"


def test_hang_is_ended_and_told(tmp_path):
    body = changed(
        "encode", "import time\nif source == 'float16':\n    time.sleep(600)\nreturn super().encode(theirs, x, source)"
    )
    rows = judge(tmp_path, body, timeout=4)
    assert [v.status for v in rows[0].report.verdicts] == ["error", "agree", "agree", "agree", "agree"]
    assert rows[0].report.verdicts[0].errors == ("it was silent for 4 s, and was ended",)
    assert rows[1].report.status == "agree"


@pytest.mark.parametrize(
    ("body", "text"),
    [
        ("raise OSError('no such\\nlibrary')", "it cannot be imported: OSError: no such library"),
        ("import os\nos._exit(5)", "its process died: exit code 5"),
        ("import time\ntime.sleep(600)", "it was silent for 3 s, and was ended"),
        ("import sys\nsys.exit(4)", "its process died: exit code 4"),
    ],
)
def test_an_import_that_fails_is_an_error_everywhere(body, text, tmp_path):
    rows = judge(tmp_path, changed("load", body), timeout=3)
    assert {v.status for row in rows for v in row.report.verdicts} == {"error"}
    assert {v.errors for row in rows for v in row.report.verdicts} == {(text,)}


def test_what_the_library_prints_is_no_answer(tmp_path):
    body = changed("load", "import os\nprint('{\"done\": 0}')\nos.write(1, b'{\"end\": true}\\n')")
    assert [row.report.status for row in judge(tmp_path, body)] == ["agree", "agree"]


def test_a_crash_does_not_touch_another_library(tmp_path):
    crash = changed("load", "import os\nos.abort()")
    other = RIGHT.replace('"fake"', '"other"')
    rows = judge(tmp_path, crash, other=other)
    assert [row.report.status for row in rows if row.library == "other"] == ["agree", "agree"]
    assert [row.report.status for row in rows if row.library == "fake"] == ["error", "error"]


FLUSH = """
import ctypes, mmap
page = mmap.mmap(-1, 4096, prot=mmap.PROT_READ | mmap.PROT_WRITE | mmap.PROT_EXEC)
page.write(b"\\x0f\\xae\\x17\\xc3")  # ldmxcsr [rdi]; ret
control = ctypes.c_uint32(0x9FC0)  # flush to zero, denormals are zero
code = ctypes.addressof(ctypes.c_char.from_buffer(page))
ctypes.CFUNCTYPE(None, ctypes.c_void_p)(code)(ctypes.addressof(control))
self.page = page
"""


@pytest.mark.skipif(sys.platform != "linux" or platform.machine() != "x86_64", reason="machine code of x86-64 Linux")
def test_flush_to_zero_stays_in_its_process(tmp_path):
    """An adapter that switches it on: told in a note; e8m0fnu's subnormal levels are judged right all the same."""
    try:
        mmap.mmap(-1, 4096, prot=mmap.PROT_READ | mmap.PROT_WRITE | mmap.PROT_EXEC).close()
    except OSError:
        pytest.skip("this system runs no code that was written at run time")
    body = changed("load", FLUSH).replace('"e2m1fn"', '"e8m0fnu"')
    rows = judge(tmp_path, body, other=RIGHT.replace('"fake"', '"other"').replace('"e2m1fn"', '"e8m0fnu"'))
    notes = {row.library: row.report.notes for row in rows}
    assert notes == {"fake": ("the library switches on flush-to-zero in its process",), "other": ()}
    assert [row.report.status for row in rows if row.library == "other"] == ["agree", "agree"]
    assert rows[0].report.status == "agree"
    tiny = np.array([1], np.uint64).view(np.float64)
    assert (tiny * np.ones(1)).view(np.uint64)[0] == 1, "not in ours"


# One process, and every fault in its place ---------------------------------------------------------


def test_one_process_answers_types_and_formats(tmp_path):
    started = tmp_path / "started"
    load = f"    def load(self):\n        import pathlib\n        pathlib.Path({str(started)!r}).open('a').write('x')\n"
    shown = []
    (tmp_path / "fake.py").write_text(PREFIX + BOTH + load, "utf-8")
    rows = judge_libraries([adapters([tmp_path])["fake"]], folders=[tmp_path], each=shown.append)
    assert [(row.report.theirs, row.report.status) for row in rows] == [("a", "agree"), ("b", "agree"), ("c", "agree")]
    assert [row.library for row in rows] == ["fake"] * 3
    assert shown == [row.report for row in rows]
    assert started.read_text() == "x"


def test_two_classes_of_a_library_are_one_adapter(tmp_path):
    blocks = """
class Blocks(Adapter):
    library, module, install = "fake", "numpy", "pip install numpy"
    profiles = (BlockProfile("int4-b32-absmax-f32", "c"),)

    def quantize(self, theirs, x, source):
        return {"codes": kb.quantize(x, "int4-b32-absmax-f32").codes}
"""
    (tmp_path / "fake.py").write_text(PREFIX + RIGHT + blocks, "utf-8")
    found = adapters([tmp_path])["fake"]
    assert [p.theirs for p in found.types] == ["a", "b"]
    assert [p.theirs for p in found.formats] == ["c"]
    assert found.encode("a", np.float32([1]), "float32") == [0x38]
    assert found.quantize("c", np.ones((1, 32), np.float32), "float32")["codes"].tolist() == [[7] * 32]


def test_each_verdict_is_shown_before_the_next_profile_is_asked(tmp_path):
    asked = tmp_path / "asked"
    body = f"""
    import pathlib
    pathlib.Path({str(asked)!r}).open("a").write(theirs)
    return super().encode(theirs, x, source)
    """
    (tmp_path / "fake.py").write_text(PREFIX + changed("encode", body), "utf-8")
    shown = []

    def each(verdict):
        shown.append((verdict.theirs, set(asked.read_text())))

    judge_libraries([adapters([tmp_path])["fake"]], folders=[tmp_path], each=each)
    assert shown == [("a", {"a"}), ("b", {"a", "b"})]


def test_quick_imports_come_first(tmp_path):
    for name, seconds in (("slow", 9), ("quick", 0.1), ("usual", 1.0)):
        text = RIGHT.replace('"fake"', f'"{name}"') + f"    import_seconds = {seconds}\n"
        (tmp_path / f"{name}.py").write_text(PREFIX + text, "utf-8")
    found = adapters([tmp_path])
    shown = []
    wanted = [found[name] for name in ("slow", "usual", "quick")]
    rows = judge_libraries(wanted, folders=[tmp_path], each=lambda verdict: shown.append(verdict.library))
    assert [row.library for row in rows] == ["slow"] * 2 + ["usual"] * 2 + ["quick"] * 2
    assert shown.index("quick") < shown.index("slow")
    assert shown.index("usual") < shown.index("slow")


@pytest.mark.parametrize(
    ("place", "theirs"),
    [("question", "a"), ("judge", "b"), ("judge_profile", "c"), ("ranking_of", "b"), ("rank_blocks", "c")],
)
def test_a_crash_of_one_profile_is_its_own_error(place, theirs, tmp_path, monkeypatch):
    """Whoever is to blame: asking, judging or ranking one of the three raises, and the others have their verdicts."""
    (tmp_path / "fake.py").write_text(PREFIX + BOTH, "utf-8")
    right = getattr(libraries, place if place != "question" else "questions")

    def broken(*arguments):
        about = repr(arguments)
        own = {"a": "e4m3fn", "b": "e2m1fn", "c": "int4"}[theirs]
        if own in about:
            raise IndexError("on purpose")
        return right(*arguments)

    monkeypatch.setattr(libraries, place if place != "question" else "questions", broken)
    rows = judge_libraries([adapters([tmp_path])["fake"]], folders=[tmp_path], rank=True)
    assert {row.report.theirs: row.report.status for row in rows} == {
        name: "error" if name == theirs else "agree" for name in "abc"
    }
    (report,) = [row.report for row in rows if row.report.theirs == theirs]
    how = "ranked" if place.startswith("rank") else "judged"
    said = [*report.errors, *(error for row in report.rows for error in row.errors)]
    assert set(said) == {f"it cannot be {how}: IndexError: on purpose"}
    assert bool(report.tried) == (how == "ranked")  # what was found before is there


def test_known_difference_that_vanished_is_an_error(tmp_path):
    known = """
    known = (Known(choice(ties="away"), "https://example.org/1", types=("a",), sources=("float32",)),)
    """
    head = "from kbit_ref.conformance.variants.of_types import choice\nfrom kbit_ref.conformance.judge import Known\n"
    body = head + RIGHT + known.replace("\n    known", "\n    known")
    (verdict,) = [v for v in judge(tmp_path, body)[0].report.verdicts if v.status != "agree"]
    assert (verdict.source, verdict.status) == ("float32", "error")
    assert verdict.errors == ("no longer differs: ties=away (https://example.org/1)",)


@pytest.mark.parametrize("name", [name for name, adapter in adapters().items() if adapter.types])
def test_adapters_say_what_is_needed(name):
    """Without importing the library: spellings resolve, names are unique, each known difference has a record."""
    adapter = adapters()[name]
    assert adapter.library == name
    assert adapter.install.startswith("pip install ")
    theirs = [profile.theirs for profile in adapter.types]
    assert len(set(theirs)) == len(theirs) > 2
    for profile in adapter.types:
        d = kb.datatype(profile.dtype)
        if isinstance(profile.nan, tuple):
            assert all(np.isnan(d.levels[code]) for code in profile.nan)
    for known in adapter.known:
        assert known.link.startswith(("https://", "torch 2"))
        assert set(known.types) <= set(theirs)
        assert any(known.concerns(p.theirs, s) for p in adapter.types for s in p.sources)


def test_importing_the_adapters_imports_no_library():
    names = sorted(adapters())
    code = (
        "import sys, kbit_ref.conformance.implementations.adapters as a, kbit_ref.cli.check; a.adapters(); "
        f"print([name for name in {names!r} if name in sys.modules])"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"
