"""Programs of any language: the lines, the pipes, functions of shared libraries, exported files; all compiled here."""

import ctypes
import importlib.util
import io
import itertools
import json
import re
import shutil
import subprocess
import sys
import time
import tracemalloc
from fractions import Fraction
from pathlib import Path

import numpy as np
import pytest
from helpers.libraries import needed

from kbit_ref import exact
from kbit_ref.cli import main
from kbit_ref.conformance.implementations.programs.grammar import form
from kbit_ref.conformance.implementations.programs.inputs import batches, lines, stored_words
from kbit_ref.conformance.implementations.programs.process import run
from kbit_ref.conformance.implementations.programs.signature import C_TYPES, parse
from kbit_ref.conformance.programs import judge as judge_room
from kbit_ref.conformance.programs import judge_command, judge_lines, judge_shared
from kbit_ref.conformance.programs import rows as rows_room
from kbit_ref.conformance.programs.blocks import compare_stored
from kbit_ref.datatypes.datatype import datatype
from kbit_ref.errors import BadInput, KbitError

SOURCES = Path(__file__).parents[1] / "helpers" / "programs"
NF4 = "nf4-b64-absmax-f32"
STRICT = ("-O1", "-Wall", "-Wextra", "-Werror")


def compiler(name: str) -> str:
    """A compiler; its absence is a failure, not a reason to skip."""
    found = shutil.which(name)
    assert found, f"{name} is not installed"
    return found


def compiled(out: Path, source: Path, *options: str, by: str = "cc") -> str:
    done = subprocess.run(
        [compiler(by), *STRICT, *options, "-o", str(out), str(source), "-lm"], capture_output=True, text=True
    )
    assert done.returncode == 0, done.stderr
    return str(out)


@pytest.fixture(scope="module")
def folder(tmp_path_factory) -> Path:
    return tmp_path_factory.mktemp("programs")


@pytest.fixture(scope="module")
def right(folder) -> str:
    return compiled(folder / "right", SOURCES / "nf4_b64.c", "-std=c99")


@pytest.fixture(scope="module")
def swapped(folder) -> str:
    return compiled(folder / "swapped", SOURCES / "nf4_b64.c", "-std=c99", "-DNIBBLE_BUG")


@pytest.fixture(scope="module")
def library(folder) -> str:
    return compiled(folder / "library.so", SOURCES / "library.c", "-std=gnu11", "-shared", "-fPIC")


@pytest.fixture
def script(tmp_path):
    """A program in Python: what it does with its lines."""

    def write(text: str) -> str:
        path = tmp_path / "prog.py"
        path.write_text(f"import os, sys, time\n{text}\n", "utf-8")
        return f"{sys.executable} {path}"

    return write


# What a line says --------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("subject", "what", "line"),
    [  # by hand: 0.3 lies between 0 and 0.5, 5 is a tie between 4 and 6, 1/7 of float32
        ("e2m1fn", "encode", "3e99999a -> 1"),
        ("e2m1fn", "encode", "40a00000 -> 6"),
        ("e2m1fn", "decode", "d -> c0400000"),
        ("int8", "encode", "c3000000 -> 80"),
        ("bf16", "encode", "3f808000 -> 3f80"),
        # scale 1/6, codes 6 and -3, the first in the low bits
        ("e2m1fn-b2-absmax-f32", "encode", "n=2 3f800000 bf000000 -> 3e2aaaab d7"),
        ("e2m1fn-b2-absmax-f32", "decode", "n=2 3f000000 d7 -> 40400000 bfc00000"),
        # scale 1 as float16, codes 127 and -127
        ("int8-b2-absmax-f16", "encode", "n=2 42fe0000 c2fe0000 -> 3c00 7f 81"),
        # from -1 to 14: scale 1, offset -1 or zero point 1
        ("uint4-b2-minmax-f32", "encode", "n=2 bf800000 41600000 -> 3f800000 bf800000 f0"),
        ("uint4-b2-affine-f32", "encode", "n=2 bf800000 41600000 -> 3f800000 01 f0"),
        ("uint4-b2-affine-f32", "decode", "n=2 3f800000 01 f0 -> bf800000 41600000"),
        # of signed integers, the zero point is a level: -8 + 1
        ("int4-b2-affine-f32", "encode", "n=2 bf800000 41600000 -> 3f800000 f9 78"),
        # blocks of 2 and a short one: scales 2**0, 2**1, then the bytes; 6 = code 7, 4 = code 6
        ("e2m1fn-b2-pow2floor-e8m0fnu", "encode", "n=3 40c00000 40800000 41000000 -> 7f 80 67 06"),
        # one scale, 1: the mean is 1 and nothing is left of it, which has code 0 there; high nibble first
        ("bnb-nested", "encode", "n=2 3f800000 bf800000 -> 00 00000000 3f800000 f0"),
        # along which axis of an array the blocks lay makes no difference to a row
        ("ocp-mxfp4", "encode", "n=1 3f800000 -> 7d 06"),
    ],
)
def test_lines_by_hand(subject, what, line):
    judged = judge_lines(subject, [line], what=what)
    assert judged.agree, judged
    assert judge_lines(subject, [line.upper().replace("N=", "n=")], what=what).agree


@pytest.mark.parametrize(
    "name", ["uint4-b2-affine-f32", "e2m1fn-b2-absmax-e4m3fn+global=divisor", "uint3-b8-minmax-f16"]
)
def test_one_other_bit_is_seen(name):
    """In each field of an answer, the bits that fill the last byte too."""
    f, n = form(name), 7
    given = f.sides(n)[0][0].words(np.linspace(-1, 2, n))[None]
    answer = stored_words(f, n, given)
    compared = compare_stored(f, n, given, answer, f.scheme.layout)
    assert not any(wrong.any() for wrong in compared.wrong.values())
    for i in range(answer.size):
        other = answer.copy()
        other[0, i] ^= np.uint64(1)
        compared = compare_stored(f, n, given, other, f.scheme.layout)
        assert any(wrong.any() for wrong in compared.wrong.values()), i


@pytest.mark.parametrize("source", ["float16", "bfloat16", "float64"])
def test_other_formats_of_x(source):
    one = {"float16": "3c00", "bfloat16": "3f80", "float64": "3ff0000000000000"}[source]
    assert judge_lines("int4", [f"{one} -> 1"], source=source).agree
    assert judge_lines("int4-b2-absmax-f32", [f"n=1 {one} -> 3e124925 07"], source=source).agree
    with pytest.raises(BadInput, match="before the -> = "):
        judge_lines("int4", [f"1{one} -> 1"], source=source)


@pytest.mark.parametrize(
    ("line", "text"),
    [
        ("3f800000", "line 1 = '3f800000', it has no ->"),
        ("", "line 1 = '', it has no ->"),
        ("3f800000 -> ", "line 1 = 0 fields after the ->, there must be 1: 1 codes"),
        ("3f800000 -> 1 2", "line 1 = 2 fields after the ->, there must be 1: 1 codes"),
        ("-> 1", "line 1 = 0 fields before the ->, there must be 1: 1 x"),
        ("3f800000 -> 0x1", "line 1: field 1 after the -> = '0x1', it is no hexadecimal number"),
        ("3f800000 -> -1", "line 1: field 1 after the -> = '-1', it is no hexadecimal number"),
        ("3f800000 -> 1_0", "it is no hexadecimal number"),
        ("3f800000 -> \u0661", "it is no hexadecimal number"),
        ("3f800000 -> 10", "line 1: field 1 after the -> = 10, codes have 4 bits"),
        ("3f8000000 -> 1", "line 1: field 1 before the -> = 3f8000000, x have 32 bits"),
        ("3f800000 -> " + "f" * 100, "it is no hexadecimal number"),
    ],
)
def test_garbage_is_one_line(line, text):
    with pytest.raises(BadInput) as error:
        judge_lines("int4", [line])
    assert text in str(error.value)
    assert "\n" not in str(error.value)
    assert len(str(error.value)) < 250


@pytest.mark.parametrize(
    ("line", "text"),
    [
        ("3f800000 -> 3e124925 07", "it does not begin with n="),
        ("n=0 -> 3e124925", "it does not begin with n="),
        ("n=2 3f800000 -> 3e124925 07", "1 fields before the ->, there must be 2: 2 x"),
        ("n=1 3f800000 -> 3e124925", "1 fields after the ->, there must be 2: 1 scales + 1 packed"),
        ("n=3 3f800000 0 0 -> 3e124925 00000000 107 00", "packed have 8 bits"),
        ("n=999999999 3f800000 -> 1", "1 fields before the ->, there must be 999999999"),
    ],
)
def test_garbage_of_schemes_is_one_line(line, text):
    with pytest.raises(BadInput, match=re.escape(text)):
        judge_lines("int4-b2-absmax-f32", [line])


ONE_OF_EACH = ("bnb-cpu-nf4", "ocp-mxfp4", "nvfp4-te", "ggml-q4_1", "ggml-q5_0", "ggml-tq1_0", "onnx-dynamic")
ONE_OF_EACH += (
    "bnb-nested",
    "torchao-nf4",
    "ort-matmulnbits-4-asym",
    "hqq-3",
    "quanto-qint8",
    "ct-int3",
    "keras-int4-grouped",
    "mlx-affine-6",
)


@pytest.mark.parametrize("name", [*ONE_OF_EACH, "int4-channel@1-absmax-f32", "nf4-b64-absmax-f32+center=tensor"])
def test_every_scheme_judges_its_own_answers(name):
    """`exact` is no part of it: this is about spelling, and about inputs that all have an answer."""
    f, back = form(name), form(name, "decode")
    few = itertools.islice(batches(f, 2), 3)
    answered = [
        f"{f.spell(n, row)} -> {f.spell(n, answer, 1)}"
        for n, words in few
        for row, answer in zip(words[:4], stored_words(f, n, words[:4]), strict=True)
    ]
    judged = judge_lines(name, answered)
    assert judged.agree, judged
    stored = [line.partition("->")[2] for line in answered]
    ns = [line.split()[0] for line in answered]
    nothing = [f"{n} {s} -> {' '.join(['0'] * int(n[2:]))}" for n, s in zip(ns, stored, strict=True)]
    judged = judge_lines(back, nothing)
    assert judged.found.part("decoded").tried == sum(int(n[2:]) for n in ns)
    assert not judged.agree


def test_the_mean_of_a_row_is_judged():
    name = "int8-b2-absmax-f32+center=tensor"  # mean 2, then -1 and 1
    assert judge_lines(name, ["n=2 3f800000 40400000 -> 3c010204 40000000 81 7f"]).agree
    judged = judge_lines(name, ["n=2 3f800000 40400000 -> 3c010204 40000001 81 7f"])
    assert [part.part for part in judged.found.rows if part.differences] == ["offsets"]


def test_stochastic_rounding_has_no_lines():
    with pytest.raises(BadInput, match="needs random bits, and lines have none"):
        form("e2m1fn+rounding=stochastic_a")


# gen ---------------------------------------------------------------------------------------------


def printed(capsys, *argv: str) -> list[str]:
    assert main([*argv]) == 0
    return capsys.readouterr().out.splitlines()


@pytest.mark.parametrize("subject", ["int4", NF4, "ocp-mxfp4"])
@pytest.mark.parametrize("what", [[], ["--decode"]])
def test_gen_is_the_same_every_time(subject, what, capsys):
    first = printed(capsys, "gen", subject, *what)
    assert first[:5] == printed(capsys, "gen", subject, *what, "--count", "5")
    more = printed(capsys, "gen", subject, *what, "--count", str(len(first) + 600))
    assert more[: len(first)] == first
    assert len(more) == len(first) + 600
    f = form(subject, "decode" if what else "encode")
    for line in more[:: len(more) // 50]:
        n = 1 if f.is_type else int(line.split()[0][2:])
        fields = line.split()[0 if f.is_type else 1 :]
        assert [len(text) for text in fields] == [g.digits for g in f.sides(n)[0] for _ in range(g.count)]


def test_seeds_and_levels(capsys):
    every = {seed: printed(capsys, "gen", NF4, "--count", "1000", "--seed", seed) for seed in ("0", "1")}
    assert every["0"] != every["1"]
    chosen = printed(capsys, "gen", NF4)
    assert every["0"][: len(chosen)] == every["1"][: len(chosen)] == chosen
    assert {line.split()[0] for line in printed(capsys, "gen", NF4, "--level", "1")} == {"n=64"}
    lengths = {line.split()[0] for line in chosen}
    assert lengths >= {"n=1", "n=2", "n=3", "n=63", "n=64", "n=65", "n=128", "n=197"}


def test_gen_holds_what_it_should(capsys):
    """Every midpoint of e2m1fn and both neighbours in float32; every code to decode."""
    words = set(printed(capsys, "gen", "e2m1fn"))
    for midpoint in (0.25, 0.75, 1.25, 1.75, 2.5, 3.5, 5.0):
        for word in np.array([midpoint, -midpoint], np.float32).view(np.uint32).tolist():
            assert {f"{word + near:08x}" for near in (-1, 0, 1)} <= words
    assert printed(capsys, "gen", "e2m1fn", "--decode") == list("0123456789abcdef")
    stored = [bytes.fromhex("".join(line.split()[2:])) for line in printed(capsys, "gen", NF4, "--decode")]
    assert {byte & 15 for byte in stored[0]} | {byte >> 4 for byte in stored[0]} == set(range(16))


def test_gen_streams():
    """A few lines of a billion are there at once."""
    begin = time.monotonic()
    assert len(list(itertools.islice(lines(form(NF4), count=10**9), 2000))) == 2000
    assert time.monotonic() - begin < 5
    command = [sys.executable, "-m", "kbit_ref", "gen", "e2m1fn", "--count", "1000000000"]
    with subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True) as process:
        assert process.stdout.readline() == "00000000\n"
        process.stdout.close()
        assert process.wait(60) == 0
        assert process.stderr.read() == ""


def test_gen_as_json(capsys):
    assert main(["gen", "int2", "--decode", "--json"]) == 0
    document = json.loads(capsys.readouterr().out)
    assert document == {"subject": "int2", "what": "decode", "source": "float32", "lines": ["0", "1", "2", "3"]}


# The worked example ------------------------------------------------------------------------------


@pytest.mark.parametrize("level", [1, 2])
def test_a_right_program_in_c_agrees(right, level):
    judged = judge_command(NF4, right, level=level)
    assert judged.agree, judged
    assert [(part.part, part.status) for part in judged.found.rows] == [
        ("scales", "agree"),
        ("codes", "agree"),
        ("packed", "agree"),
    ]
    assert judged.lines == len(list(lines(form(NF4), level)))


@pytest.mark.parametrize("level", [1, 2])
def test_swapped_nibbles_are_named(swapped, level):
    judged = judge_command(NF4, swapped, level=level)
    assert {part.part: part.status for part in judged.found.rows} == {
        "scales": "agree",
        "codes": "agree",
        "packed": "disagree",
    }
    (kind,) = judged.found.part("packed").differences
    assert kind.cause == "+layout=high4"
    assert judged.diagnosis.names[0] == "nibbles-packed-swapped"
    assert "packed from the other end of each byte" in str(judged).splitlines()[0]
    example = kind.example
    assert (example.at, example.ours[-2:], example.theirs[-2:]) == (
        ("byte 0", "7f", "f7") if level == 1 else ("byte 0", "0f", "f0")
    )
    if level == 1:
        assert example.block == "[1, 0 x 63]"
        assert example.steps[0] == "codes of this byte: [0] 0xf = 1, [1] 0x7 = 0"


def test_another_choice_is_named_and_shrunk(right):
    judged = judge_command(NF4 + "+arith=reciprocal", right)
    (kind,) = judged.found.part("codes").differences
    assert kind.cause == "divides"
    assert judged.diagnosis.names == ("divides", "+arith=divide")
    numbers = re.fullmatch(r"\[([-\d.]+), ([-\d.e]+), 0 x 62\]", kind.example.block)
    largest, x = (np.float32(text) for text in numbers.groups())
    ours, theirs = (np.float32(x * (np.float32(1) / largest)), np.float32(x / largest))
    levels = datatype("nf4")
    assert exact.encode(levels, Fraction(float(ours))) == int(kind.example.ours.split()[0], 16)
    assert exact.encode(levels, Fraction(float(theirs))) == int(kind.example.theirs.split()[0], 16)
    assert kind.example.ours != kind.example.theirs


def shell(text: str) -> subprocess.CompletedProcess:
    kbit = f"{sys.executable} -m kbit_ref"
    return subprocess.run(text.replace("kbit-ref", kbit), shell=True, capture_output=True, text=True, timeout=120)


def test_the_three_ends_of_a_pipe(right, swapped):
    gen, check = f"kbit-ref gen {NF4} --count 200", f"kbit-ref check --pipe {NF4} --count 200"
    done = shell(f"{gen} | {right} | {check}")
    assert (done.returncode, done.stderr) == (0, "")
    assert done.stdout.startswith(f"standard input: encode {NF4}, 200 lines: agree\n")
    done = shell(f"{gen} | {swapped} | {check}")
    assert (done.returncode, done.stderr) == (1, "")
    assert "+layout=high4: the right codes, their bytes in the layout high4, not in low4" in done.stdout
    assert "it is  nibbles-packed-swapped" in done.stdout
    done = shell(f"{gen} | {right} | head -100 | {check}")
    assert (done.returncode, done.stdout) == (2, "")
    assert done.stderr.startswith("kbit-ref check: standard input, it ended before line 101, which asks 'n=64 ")
    assert done.stderr.count("\n") == 1


def test_the_echo_may_be_spelled_otherwise():
    asked = ["00000000", "3f80000a"]
    assert judge_lines("int4", ["0 -> 0", "3F80000A  ->  01"], expected=asked).agree
    for other in ("3f80000b", "3f80000aa", "a"):
        with pytest.raises(BadInput):
            judge_lines("int4", ["0 -> 0", f"{other} -> 1"], expected=asked)
    with pytest.raises(BadInput, match="it was to answer '01'"):
        judge_lines("int8", ["01f -> 41f80000"], what="decode", expected=["01"])


def test_a_silent_pipe_is_left():
    command = [sys.executable, "-m", "kbit_ref", "check", "--pipe", NF4, "--timeout", "0.5"]
    with subprocess.Popen(command, stdin=subprocess.PIPE, stderr=subprocess.PIPE, text=True) as process:
        assert process.wait(30) == 2
        text = process.stderr.read()
    assert text.startswith("kbit-ref check: standard input after 0 lines, nothing came for 0.5 s; ")
    assert text.count("\n") == 1


def test_any_inputs_will_do_if_asked(monkeypatch, capsys):
    monkeypatch.setattr(sys, "stdin", io.StringIO("3f800000 -> 1\n7fc00000 -> 0\n40000000 -> 3\n"))
    assert main(["check", "--pipe", "--any", "int4"]) == 1
    out = capsys.readouterr().out
    assert "encode float32  2 values: disagree, 1 differ  (1 NaN left out: the type has none)" in out
    assert "input   0x40000000 = 2 " in out


# Programs that do what they should not -----------------------------------------------------------

ECHO = "for line in sys.stdin: print(line.strip(), '-> 0')"


@pytest.mark.parametrize(
    ("text", "told"),
    [
        ("sys.exit(3)", "after 0 lines, it died: exit code 3"),
        ("sys.exit('no licence')", "after 0 lines, it died: exit code 1 (no licence)"),
        ("os.kill(os.getpid(), 11)", "after 0 lines, it died: signal 11"),
        ("print(sys.stdin.readline().strip(), '-> 0', flush=True); os.abort()", "after 1 line, it died: signal 6"),
        (f"{ECHO}\nsys.exit(1)", "after 13084 lines, it died: exit code 1"),
        ("pass", "it ended before line 1, which asks '"),
        ("sys.stdin.close()", "it ended before line 1, which asks '"),
        ("for i in range(5): print(sys.stdin.readline().strip(), '-> 0')", "it ended before line 6, which asks '"),
        (f"{ECHO}\nprint('3f800000 -> 0')", "line 13085 = '3f800000 -> 0', there are only 13,084 lines"),
        ("sys.stdin.read(); print('hello')", "line 1 = 'hello', it has no ->"),
        ("sys.stdin.read(); os.write(1, bytes(range(256)))", "it has no ->"),
        ("for line in reversed(list(sys.stdin)): print(line.strip(), '-> 0')", "line 1 = '"),
        ("while True: os.write(1, b'3f800000 -> 0\\n')", "it was to answer '"),
        ("while True: os.write(1, b'a' * 65536)", "line 1 is longer than 4,194,304 characters"),
        ("while True: os.write(2, b'a' * 65536)", "after 0 lines, it was silent for 1.5 s and was ended"),
        ("os.fork(); time.sleep(60)", "after 0 lines, it was silent for 1.5 s and was ended"),
        ("print(sys.stdin.readline().strip(), '-> 0', flush=True); time.sleep(60)", "it was silent for 1.5 s"),
        ("os.close(1); time.sleep(60)", "it closed its output, went on for 1.5 s"),
        (f"{ECHO}\nsys.stdout.flush(); os.close(1); time.sleep(60)", "it closed its output, went on for 1.5 s"),
    ],
)
def test_what_a_program_does_wrong_is_one_line(text, told, script, capsys):
    timeout = "1.5" if "1.5 s" in told else "60"
    begin = time.monotonic()
    assert main(["check", "nf4", "--cmd", script(text), "--timeout", timeout]) == 2
    assert time.monotonic() - begin < 30
    captured = capsys.readouterr()
    assert captured.out == ""
    assert captured.err.startswith("kbit-ref check: ")
    assert captured.err.count("\n") == 1
    assert told in captured.err


@pytest.mark.skipif(sys.platform == "win32", reason="process groups")
def test_what_a_hung_program_started_is_ended_too(script, tmp_path):
    told = tmp_path / "id"
    text = f"child = os.fork()\nif child: open({str(told)!r}, 'w').write(str(child))\ntime.sleep(60)"
    with pytest.raises(BadInput, match=r"silent for 0\.5 s"):
        judge_command("nf4", script(text), 0.5)
    child = int(told.read_text())
    for _ in range(100):
        state = Path(f"/proc/{child}/stat")
        if not state.exists() or state.read_text().split()[2] == "Z":
            break
        time.sleep(0.02)
    else:
        raise AssertionError("it runs on")


def test_full_pipes_stop_nobody(script):
    """A program that reads all before it writes, and one that writes more than it reads, on both pipes."""
    asked = [f"{i:08x}" for i in range(30_000)]
    assert list(run(script("for line in list(sys.stdin): print(line.strip())"), asked, 30)) == asked
    chatty = "for line in sys.stdin: print(line * 3, end=''); print('x' * 999, file=sys.stderr)"
    assert list(run(script(chatty), asked, 30)) == [line for line in asked for _ in range(3)]


def test_memory_is_bounded(monkeypatch):
    """What is kept of many lines is what is kept of a few."""
    monkeypatch.setattr(judge_room, "AT_ONCE", 1024)
    peaks = []
    for repeated in (1, 10):
        answered = (f"{bits:08x} -> {code}" for _ in range(1000 * repeated) for bits, code in ((0, 0), (0x3F800000, 1)))
        tracemalloc.start()
        assert judge_lines("int2", answered).agree
        peaks.append(tracemalloc.get_traced_memory()[1])
        tracemalloc.stop()
    assert peaks[1] < 1.5 * peaks[0], peaks


def test_pieces_are_summed_up(monkeypatch):
    f, other = form(INT4), form(INT4 + "+ties=away")
    n, words = 32, np.concatenate([rows for _, rows in batches(f, level=1)])[:300]
    answers = stored_words(other, n, words)
    answered = [f"{f.spell(n, x)} -> {f.spell(n, y, 1)}" for x, y in zip(words, answers, strict=True)]
    differ = sum(x != y for x, y in zip(stored_words(f, n, words).tolist(), answers.tolist(), strict=True))
    assert differ > 20  # rows
    whole = judge_lines(INT4, answered)
    monkeypatch.setattr(judge_room, "AT_ONCE", 40 * n)
    monkeypatch.setattr(rows_room, "ENOUGH", 60 * n)
    pieces = judge_lines(INT4, answered)
    found = [(p.part, p.tried, p.different, [kind.cause for kind in p.differences]) for p in whole.found.rows]
    assert [(p.part, p.tried, p.different, [kind.cause for kind in p.differences]) for p in pieces.found.rows] == found
    assert found[1][:2] == ("codes", len(words) * n)
    assert found[1][2] >= differ
    assert found[1][3] == ["ties-away"]
    values = [f"{line} -> {code}" for line, code in (("3f000000", 1), ("3f800000", 1)) for _ in range(3000)]
    monkeypatch.setattr(judge_room, "AT_ONCE", 1000)
    assert (judge_lines("int4", values).found.different, judge_lines("int4", values).found.tried) == (3000, 6000)


@pytest.mark.parametrize(
    ("argv", "text"),
    [
        (["check", "--cmd", "cat"], "0 names, a program is judged by one type or scheme"),
        (["check", "nf4", "int4", "--cmd", "cat"], "2 names, a program is judged by one type or scheme"),
        (["check", "nf44", "--cmd", "cat"], "there is no such name; did you mean nf4"),
        (["check", "nf4", "--cmd", "/no/such/program"], "it cannot be started (No such file or directory)"),
        (["check", "nf4", "--cmd", ""], "it cannot be started (it is empty)"),
        (["check", "nf4", "--cmd", "'"], "it cannot be started (No closing quotation)"),
        (["check", "nf4", "--cmd", "cat", "--timeout", "0"], "timeout = 0.0, it is a number of seconds"),
        (["check", "nf4", "--lib", "x.so"], "nothing says how to call it; add --call 'void f("),
        (["check", "nf4", "--call", "void f()", "--cmd", "cat"], "it declares a function of a library; add --lib"),
        (["check", "nf4", "--decode"], "nothing is there to be judged; add --pipe, --cmd or --lib"),
        (["check", "nf4", "--cmd", "cat", "--count", "0"], "count = 0, it is at least 1"),
        (["gen", "nf4", "--count", "0"], "gen: count = 0, it is at least 1"),
        (["gen", "nf4", "--seed", "-1"], "gen: seed = -1, it is at least 0"),
        (["export", "nf4"], "nothing says what to write; add --c FILE, --mem FILE or --rom FILE"),
        (["export", "nf4", "--c", "-", "--json"], "two texts in one place; name a file"),
        (["export", "nf4", "--c", "/no/such/folder/x.h"], "/no/such/folder/x.h: No such file or directory"),
    ],
)
def test_usage(argv, text, capsys):
    assert main(argv) == 2
    captured = capsys.readouterr()
    assert captured.err.count("\n") == 1
    assert text in captured.err


# Functions of a shared library -------------------------------------------------------------------

INT4 = "int4-b32-absmax-f32"
QUANTIZE = "int quantize(const float *x, float *scales, uint8_t *codes, int n, int block_size, int flags = 3)"
DEQUANTIZE = "void dequantize(const double *scales, const uint8_t *packed, float *x, size_t rows, size_t columns)"
AFFINE = "void quantize_affine(const float *x, float *scales, int32_t *zero_points, uint8_t *codes, int64_t n)"
THIRD = "void third(const float *x, float *scales, uint8_t *codes, int64_t n)"
FLAT = "(const float *x, uint8_t *codes, int64_t n)"


@pytest.mark.parametrize(
    ("subject", "declaration", "what"),
    [
        ("int4", "uint8_t encode_one(float x)", "encode"),
        ("int4", "float decode_one(uint8_t codes)", "decode"),
        ("int4", f"void encode{FLAT}", "encode"),
        (INT4, QUANTIZE, "encode"),
        (INT4, DEQUANTIZE, "decode"),
        ("uint4-channel-affine-f32", AFFINE, "encode"),
    ],
)
def test_right_functions_agree(subject, declaration, what, library):
    """(Affine rows of several blocks would be more than this one does.)"""
    options = {"level": 1, "count": 200} if "channel" in subject or "float x" in declaration else {"level": 2}
    judged = judge_shared(subject, library, declaration, 20, what=what, **options)
    assert judged.agree, judged
    assert judged.name == f"library.so:{parse(declaration).name}"


def test_mistakes_of_functions_are_named(library):
    judged = judge_shared("int4", library, f"void encode_away{FLAT}")
    (difference,) = judged.found.differences
    assert difference.cause == "ties=away"
    assert difference.example.value == "0.5"
    judged = judge_shared("int4", library, f"void encode_in_fours{FLAT}", count=1021)  # called for 1021 at once
    assert judged.found.different == 1
    dequantize = "void dequantize_first(const float *scales, const uint8_t *packed, float *x, size_t n)"
    assert judge_shared(INT4, library, dequantize, what="decode", level=1).agree  # a line is a block
    judged = judge_shared(INT4, library, dequantize, what="decode")
    assert [kind.cause for kind in judged.found.part("decoded").differences] == ["first-scale-for-all"]
    assert "first-scale-for-all" in judged.diagnosis.names


@pytest.mark.parametrize(
    ("subject", "declaration", "text"),
    [
        ("int4", f"void no_such{FLAT}", "library.so:no_such, it has no function no_such"),
        ("int4", f"void writes_beyond{FLAT}", "it wrote beyond the last element of codes"),
        ("int4", f"void writes_before{FLAT}", "it wrote before the first element of codes"),
        ("int4", f"void changes_x{FLAT}", "it changed x"),
        ("int4", f"void writes_seventeen{FLAT}", "codes[2] = 17, it is no number of 4 bits"),
        ("int4", f"void crashes{FLAT}", "library.so:crashes after 0 lines, it died: signal 6"),
        ("int4", f"void leaves{FLAT}", "it died: exit code 3 (no licence found)"),
        ("int4", f"void hangs{FLAT}", "library.so:hangs after 0 lines, it was silent for 1.5 s and was ended"),
        ("int4-b32-absmax-f16", THIRD, "scales[0] = 0.3333333432674408, it is no number of 16 bits"),
        (INT4, QUANTIZE.replace("3", "4"), "it returned 4; if that is no error, declare it void"),
    ],
)
def test_what_a_function_does_wrong_is_one_line(subject, declaration, text, library, capsys):
    timeout = "1.5" if "1.5 s" in text else "60"
    assert main(["check", subject, "--lib", library, "--call", declaration, "--timeout", timeout]) == 2
    captured = capsys.readouterr()
    assert captured.out == ""
    assert captured.err.count("\n") == 1
    assert text in captured.err


@pytest.mark.parametrize(
    ("subject", "declaration", "text"),
    [
        ("int4", "encode", "it is no declaration of a function"),
        ("int4", "void f(const float *y, uint8_t *codes, int64_t n)", "array = 'y', there is no such name"),
        ("int4", "void f(const float *x, uint8_t *codes, int64_t count)", "numbers are n, n_blocks, n_bytes"),
        (
            "int4",
            "void f(const flaot *x, uint8_t *codes)",
            "C type = 'flaot', there is no such name; did you mean float",
        ),
        ("int4", "void f(const float *x, uint8_t *codes, int n, int n)", "two parameters have the name n"),
        ("int4", "void f(const float **x)", "'const float **x' is no parameter"),
        ("int4", "void f(float *x, uint8_t *codes)", "x is const, or is not written; to encode, it writes codes"),
        ("int4", "void f(const float *scales, uint8_t *codes)", "scales is not given; to encode, it is given x"),
        (
            "int4",
            "void f(const double *x, uint8_t *codes)",
            "x holds float64, the numbers are float32; add --from float64",
        ),
        ("int4", "void f(const float *x, int64_t n)", "codes is not written"),
        ("int4", "void f(float x)", "it takes no array; for a data type, it returns codes of x"),
        (INT4, "uint8_t f(float x)", "it takes no array"),
        (INT4, f"void f{FLAT}", "scales is not written; to encode, it writes scales, packed, codes"),
        (INT4, "void f(const float *x, float *scales)", "codes or packed is not written"),
    ],
)
def test_declarations_that_do_not_fit(subject, declaration, text):
    with pytest.raises(KbitError, match=re.escape(text)):
        judge_shared(subject, "none.so", declaration)


def test_a_library_that_cannot_be_loaded(tmp_path):
    with pytest.raises(BadInput, match=r"none\.so:f, it cannot be loaded: .*No such file"):
        judge_shared("int4", str(tmp_path / "none.so"), f"void f{FLAT}")
    (tmp_path / "text.so").write_text("no library")
    with pytest.raises(BadInput, match=r"text\.so:f, it cannot be loaded"):
        judge_shared("int4", str(tmp_path / "text.so"), f"void f{FLAT}")


def test_c_types_have_the_sizes_that_they_have_here():
    names = {"char": "byte", "short": "short", "int": "int", "long": "long", "long long": "longlong"}
    for words, name in names.items():
        bits = 8 * ctypes.sizeof(getattr(ctypes, f"c_{name}"))
        assert (C_TYPES[words], C_TYPES[f"unsigned {words}"]) == (f"int{bits}", f"uint{bits}")
    assert C_TYPES["size_t"] == f"uint{8 * ctypes.sizeof(ctypes.c_size_t)}"


def bitsandbytes() -> str:
    """Its library for the CPU, found without an import."""
    found = importlib.util.find_spec("bitsandbytes")
    needed("bitsandbytes", found is not None)
    assert found is not None
    (path,) = Path(found.submodule_search_locations[0]).glob("libbitsandbytes_cpu.*")
    return str(path)


BLOCKWISE = {
    "encode": "void cquantize_blockwise_cpu_fp32(const float *levels, const float *x, float *scales, uint8_t *codes, "
    "long long block_size, long long n)",
    "decode": "void cdequantize_blockwise_cpu_fp32(const float *levels, const uint8_t *codes, const float *scales, "
    "float *x, long long block_size, long long n)",
}
FOUR = "(const uint8_t *packed, const float *scales, float *x, long long block_size, long long rows, long long columns)"


@pytest.mark.heavy
@pytest.mark.parametrize("what", ["encode", "decode"])
def test_bitsandbytes_by_its_library_alone(what):
    judged = judge_shared("bnb-cpu-dynamic8", bitsandbytes(), BLOCKWISE[what], 60, what=what, level=2)
    assert judged.agree, judged
    assert not {"torch", "bitsandbytes"} & {name for name in sys.modules if "worker" in name}


@pytest.mark.heavy
def test_four_bits_of_bitsandbytes():
    path = bitsandbytes()
    judged = judge_shared("bnb-cpu-nf4", path, f"void cdequantize_blockwise_cpu_nf4_fp32{FOUR}", 60, what="decode")
    assert judged.agree, judged
    # code 8, that its encoder never writes, is +0 there
    judged = judge_shared("bnb-cpu-fp4", path, f"void cdequantize_blockwise_cpu_fp4_fp32{FOUR}", 60, what="decode")
    (kind,) = judged.found.part("decoded").differences
    assert kind.cause == "negative-zero-read-as-zero"
    assert "code 0x8 = -0.0" in kind.example.at


@pytest.mark.heavy
def test_no_torch_is_imported():
    text = f"""
import sys
from kbit_ref.conformance.programs import judge_shared
judged = judge_shared("bnb-cpu-dynamic8", {bitsandbytes()!r}, {BLOCKWISE["encode"]!r}, 60, count=20)
print(judged.agree, "torch" in sys.modules, "bitsandbytes" in sys.modules)
"""
    done = subprocess.run([sys.executable, "-c", text], capture_output=True, text=True)
    assert done.stdout == "True False False\n", done.stderr


# Files for C and Verilog -------------------------------------------------------------------------


@pytest.mark.parametrize(("by", "standards"), [("cc", ["c99", "c11"]), ("c++", ["c++11", "c++17"])], ids=["C", "C++"])
def test_headers_compile_and_are_right(by, standards, tmp_path, capsys):
    """A program of their own computes all codes and numbers again, from the levels, steps and midpoints."""
    for name, subject in (("nf4", "nf4"), ("nf4_blocks", NF4)):
        assert main(["export", subject, "--c", str(tmp_path / f"{name}.h")]) == 0
    assert capsys.readouterr().out == ""
    source = tmp_path / ("main.c" if by == "cc" else "main.cpp")
    source.write_text((SOURCES / "header.c").read_text())
    for standard in standards:
        program = compiled(tmp_path / "main", source, f"-std={standard}", "-pedantic", by=by)
        assert subprocess.run([program]).returncode == 0
    header = tmp_path / "nf4.h"
    text = header.read_text()
    codes = text.partition("kbit_nf4_case_codes")[2]
    header.write_text(text.replace(codes, codes.replace("0x7", "0x6", 1)))  # and it would see a wrong one
    assert subprocess.run([compiled(tmp_path / "main", source, by=by)]).returncode == 1


def memory_file(text: str) -> tuple[list[str], list[int], set[int]]:
    """Comments, words and their widths, read as `$readmemh` does."""
    comments = [line for line in text.splitlines() if line.startswith("//")]
    words = re.sub(r"//.*", "", text).split()
    assert all(re.fullmatch("[0-9a-fA-FxXzZ][0-9a-fA-FxXzZ_]*", word) for word in words)
    plain = [word.replace("_", "") for word in words]
    return comments, [int(word, 16) for word in plain], {4 * len(word) for word in plain}


def test_memory_of_a_type(capsys):
    text = "\n".join(printed(capsys, "export", "e2m1fn", "--mem", "-", "--count", "500"))
    comments, words, widths = memory_file(text)
    assert (len(words), widths) == (500, {36})
    assert "// 500 words of 36 bits; reg [35:0] memory [0:499];" in comments
    assert any(line.startswith("//   [35:4]  x: 1 of 32 bits") for line in comments)
    assert any(line.startswith("//   [3:0]   codes: 1 of 4 bits") for line in comments)
    for word in words:
        x = np.uint32(word >> 4).view(np.float32)
        assert exact.encode(datatype("e2m1fn"), float(x)) == word & 15


@pytest.mark.parametrize("subject", ["ggml-q4_1", "nvfp4-te", "onnx-uint8"])
def test_memory_of_a_scheme(subject, capsys):
    """Its columns, cut out where the comment says, are lines that agree."""
    text = "\n".join(printed(capsys, "export", subject, "--mem", "-", "--count", "3"))
    comments, words, (width,) = memory_file(text)
    columns = {}
    for line in comments:
        if match := re.match(r"//\s+\[(\d+):(\d+)\]\s+(\w+): (\d+) of (\d+) bits", line):
            columns[match[3]] = tuple(map(int, match.groups()[:2] + match.groups()[3:]))
    assert max(high for high, *_ in columns.values()) + 1 == width

    def cut(word: int, name: str) -> str:
        high, low, count, bits = columns[name]
        assert high - low + 1 == count * bits
        return " ".join(f"{word >> (low + i * bits) & (1 << bits) - 1:x}" for i in reversed(range(count)))

    stored = [name for name in columns if name not in ("x", "decoded")]
    n = columns["x"][2]
    encoded = [f"n={n} {cut(w, 'x')} -> {' '.join(cut(w, name) for name in stored)}" for w in words]
    decoded = [f"n={n} {' '.join(cut(w, name) for name in stored)} -> {cut(w, 'decoded')}" for w in words]
    assert judge_lines(subject, encoded).agree
    assert judge_lines(subject, decoded, what="decode").agree
    assert len(words) == 3


def test_rom(tmp_path, capsys):
    path = tmp_path / "nf4.mem"
    assert main(["export", "nf4", "--rom", str(path), "--json"]) == 0
    assert json.loads(capsys.readouterr().out)["files"] == {"rom": str(path)}
    _, words, widths = memory_file(path.read_text())
    assert widths == {32}
    assert np.array(words, np.uint32).view(np.float32).tolist() == datatype("nf4").levels.tolist()
    assert main(["export", "nf4", "--rom", str(path)]) == 2
    assert "it exists; name another file, or add --force" in capsys.readouterr().err
    assert main(["export", "nf4", "--rom", str(path), "--force"]) == 0
