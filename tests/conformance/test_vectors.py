"""Vectors: the files that come with the package, how they are made, read and used, and what is refused."""

import ast
import copy
import importlib
import json
import random
import shutil
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import kbit_ref as kb
from kbit_ref.checkpoints import Writer
from kbit_ref.checkpoints.header import Spec as Entry
from kbit_ref.cli import main
from kbit_ref.cli.vectors import markdown
from kbit_ref.conformance.cases import Given, cases_of
from kbit_ref.conformance.variants import mutants
from kbit_ref.conformance.vectors import (
    check_vectors,
    definition,
    files_of,
    generate,
    read_vectors,
    vector_files,
    write_vectors,
)
from kbit_ref.conformance.vectors.as_json import SCHEMA, as_json, document
from kbit_ref.conformance.vectors.cover import coverage, levels, survivors
from kbit_ref.conformance.vectors.definition import answer, packed
from kbit_ref.conformance.vectors.files import lint_file
from kbit_ref.conformance.vectors.flags import killed, kills
from kbit_ref.conformance.vectors.implementations import engine
from kbit_ref.conformance.vectors.model import Vectors
from kbit_ref.conformance.vectors.schema import load, problems
from kbit_ref.conformance.vectors.subjects import subject_of, vectors_of

FILES = {path.stem: read_vectors(path) for path in vector_files()}
Array = np.ndarray[Any, Any]


# What comes with the package ---------------------------------------------------------------------


def test_every_file_is_there_and_small() -> None:
    assert set(FILES) == set(files_of("quick"))
    folder = vector_files()[0].parent
    assert {path.stem for path in folder.glob("*.safetensors")} == set(FILES)
    assert sum(path.stat().st_size for path in folder.iterdir()) < 4_500_000  # half a megabyte packed


@pytest.mark.parametrize("name", FILES)
def test_both_forms_say_the_same(name: str) -> None:
    path = next(path for path in vector_files() if path.stem == name)
    other = read_vectors(path.with_suffix(".safetensors"))
    assert as_json(FILES[name]) == as_json(other) == path.read_bytes()


@pytest.mark.parametrize("name", FILES)
def test_our_engine_passes(name: str) -> None:
    outcome = check_vectors(FILES[name])
    assert outcome.failures == ()
    assert outcome.tests > 20


def test_every_profile_type_and_layout_is_there() -> None:
    groups = [group for vectors in FILES.values() for group in vectors.groups]
    assert {name for group in groups for name in group.profiles} == set(kb.profiles())
    assert {group.name for group in groups if group.type == "layout"} == set(kb.layouts())
    small = {name for name in kb.datatypes() if kb.datatype(name).bits <= 8 and kb.datatype(name).family != "custom"}
    assert small <= {group.name for group in groups if group.type == "dtype"}
    assert {"valid", "invalid", "acceptable"} == {test.result for v in FILES.values() for _, test in v.tests()}


# Mutants -----------------------------------------------------------------------------------------


def test_every_mutant_is_killed() -> None:
    assert survivors(FILES.values()) == []
    assert survivors([]) == list(mutants())
    assert coverage(FILES.values())[-1]["mutants killed"] == killed_of_all()


@pytest.mark.parametrize("name", mutants())
def test_a_flag_kills_its_mutant(name: str) -> None:
    group, test = next((g, t) for vectors in FILES.values() for g, t in vectors.tests() if name in t.flags)
    assert kills(subject_of(group.type, group.name), group.type, test, name)


@pytest.mark.parametrize("name", FILES)
def test_flags_are_all_that_a_test_kills(name: str) -> None:
    for group, test in list(FILES[name].tests())[:: len(list(FILES[name].tests())) // 4]:
        assert killed(subject_of(group.type, group.name), group.type, test) == test.flags


@pytest.mark.slow
@pytest.mark.parametrize("name", FILES)
def test_every_flag_of_every_test(name: str) -> None:
    for group, test in FILES[name].tests():
        assert killed(subject_of(group.type, group.name), group.type, test) == test.flags, test.number


def test_full_holds_quick() -> None:
    spelling = str(kb.scheme("onnx-int4"))
    subject = subject_of("scheme", spelling)
    quick = {t.comment for v in FILES.values() for g, t in v.tests() if g.name == spelling}
    full = {f"{case.name}: {given.comment}" for case in cases_of(subject) for given in case.given(subject, "full")}
    assert quick < full
    rows = levels(FILES.values())
    assert [row["level"] for row in rows] == ["quick", "full"]
    assert int(str(rows[1]["tests"])) > 10 * int(str(rows[0]["tests"]))


def test_notes_are_those_of_the_registry() -> None:
    for vectors in FILES.values():
        for flag, note in vectors.notes.items():
            assert note["description"] == mutants()[flag].why
            assert note["bugType"].endswith(mutants()[flag].stage)


# Where they come from ----------------------------------------------------------------------------


def test_the_same_bytes_every_time(tmp_path: Path) -> None:
    for path, again in zip(_pair("layouts"), write_vectors(generate("layouts", "quick"), tmp_path), strict=True):
        assert again.read_bytes() == path.read_bytes()


def _pair(name: str) -> tuple[Path, Path]:
    path = next(path for path in vector_files() if path.stem == name)
    return path, path.with_suffix(".safetensors")


@pytest.mark.parametrize(("kind", "name"), [("scheme", "onnx-int4"), ("dtype", "e2m1fn"), ("dtype", "e4m3fn")])
def test_the_same_tests_every_time(kind: str, name: str) -> None:
    spelling = str(subject_of(kind, name))
    kept = [t for vectors in FILES.values() for g, t in vectors.tests() if (g.type, g.name) == (kind, spelling)]
    again = vectors_of(kind, spelling, "quick")
    assert {(t.comment, t.flags, t.result) for t in kept} == {(t.comment, t.flags, t.result) for t in again}
    bytes_of = [sorted((p, a.tobytes()) for t in tests for p, a in t.arrays.items()) for tests in (kept, again)]
    assert bytes_of[0] == bytes_of[1]


@pytest.mark.slow
@pytest.mark.parametrize("name", FILES)
def test_every_file_again(name: str, tmp_path: Path) -> None:
    for path, again in zip(_pair(name), write_vectors(generate(name, "quick"), tmp_path), strict=True):
        assert again.read_bytes() == path.read_bytes()


def test_they_come_from_the_definition() -> None:
    module = ast.parse(Path(definition.__file__).read_text("utf-8"))
    names = {(n.module, alias.name) for n in ast.walk(module) if isinstance(n, ast.ImportFrom) for alias in n.names}
    ours = {(place, name) for place, name in names if place and place.startswith("kbit_ref")}
    of_exact = {(place, name) for place, name in ours if place.startswith("kbit_ref.exact") or name == "exact"}
    assert {name for _, name in ours - of_exact} == {"Given", "DataType", "BadInput", "KbitError", "Layout", "Scheme"}


def test_a_block_by_hand() -> None:
    x = np.array([[0.5, -1.0, 3.0, 6.0]], np.float32)
    found = answer(kb.scheme("e2m1fn-b2-absmax-f32"), Given("by hand", {"x": x}))
    sixth = np.float32(1) / np.float32(6)  # 1 by the largest level
    assert found.expected["codes"].tolist() == [[5, 15, 5, 7]]
    assert found.expected["packed"].tolist() == [0xF5, 0x75]
    assert found.expected["scales"].tolist() == [[sixth, 1]]
    assert found.expected["values"].tolist() == x.tolist()


def test_packing_by_hand() -> None:
    assert packed(kb.layout("lsb3"), [1, 2, 3, 4, 5, 6, 7, 0]).tolist() == [0b11_010_001, 0b0_101_100_0, 0b000_111_11]
    assert packed(kb.layout("high4"), [1, 2, 3], fill=7).tolist() == [0x12, 0x37]
    digits = packed(kb.layout("trits2x256"), [2] * 256).tolist()
    assert digits == [255] * 48 + [253] * 4  # ceil(242 * 256 / 243); four digits of 2: ceil(240 * 256 / 243)


def test_what_is_acceptable() -> None:
    tiny = Given("negative underflow, NaN", {"x": np.array([-1e-9], np.float32)})
    found = answer(kb.datatype("e2m1fn"), tiny)
    assert (found.result, found.expected["codes"].tolist()) == ("acceptable", [8])
    assert {name: part["codes"].tolist() for name, part in found.alternatives.items()} == {"zero_sign=positive": [0]}
    nan = answer(kb.datatype("e4m3fn"), Given("NaN", {"x": np.array([np.nan], np.float32)}))
    assert {name: part["codes"].tolist() for name, part in nan.alternatives.items()} == {"nan=0xff": [255]}
    assert answer(kb.datatype("int4"), Given("NaN", {"x": np.array([np.nan], np.float32)})).result == "invalid"


# Other implementations ---------------------------------------------------------------------------


def swapped(verb: str, name: str, arrays: Mapping[str, Array]) -> Mapping[str, Any]:
    """Our engine, with the two codes of a byte read in the wrong order."""
    if verb in ("unpack", "dequantize") and (verb == "unpack" or kb.scheme(name).dtype.bits == 4):
        form = kb.layout(name) if verb == "unpack" else kb.scheme(name).layout
        if form.name in ("low4", "high4"):
            turned = arrays["packed"] >> 4 | arrays["packed"] << 4
            arrays = {**arrays, "packed": turned.astype(np.uint8)}
    return engine(verb, name, arrays)


@pytest.mark.parametrize("name", ["profiles-codebook", "profiles-float"])
def test_the_flag_that_fits_is_named(name: str) -> None:
    outcome = check_vectors(FILES[name], swapped)
    assert outcome.failures
    best = outcome.suspects()[0]
    assert (best.flag, best.both) == ("nibbles-swapped", best.failed)
    assert outcome.diagnosis is not None
    assert outcome.diagnosis[1].names[0] == "nibbles-swapped"
    if name == "profiles-codebook":  # all its types of 4 bits lie in nibbles
        assert [suspect.flag for suspect in outcome.suspects() if suspect.fit == 1] == ["nibbles-swapped"]


def test_an_acceptable_answer_passes_and_a_third_one_fails() -> None:
    vectors = _only(FILES["types"], "e4m3fn")

    def plain_zero(verb: str, name: str, arrays: Mapping[str, Array]) -> Mapping[str, Any]:
        return engine(verb, f"{name}+zero_sign=positive" if verb == "encode" else name, arrays)

    def away(verb: str, name: str, arrays: Mapping[str, Array]) -> Mapping[str, Any]:
        return engine(verb, f"{name}+ties=away" if verb == "encode" else name, arrays)

    assert check_vectors(vectors, plain_zero).failures == ()
    assert [failure.test.comment for failure in check_vectors(vectors, away).failures] == ["midpoints: midpoints"]


def test_only_what_is_given_is_judged(capsys: pytest.CaptureFixture[str]) -> None:
    def encoder(verb: str, name: str, arrays: Mapping[str, Array]) -> Mapping[str, Any] | None:
        if verb == "decode":
            raise NotImplementedError
        return None if verb != "encode" else engine(verb, f"{name}+ties=away", arrays)

    outcome = check_vectors(_only(FILES["types"], "e4m3fn"), encoder)  # type: ignore[arg-type]
    assert len(outcome.failures) == 1
    assert outcome.left_out
    assert outcome.diagnosis is not None
    assert outcome.diagnosis[0] == "e4m3fn"
    assert "ties" in outcome.diagnosis[1].sentence
    nothing = check_vectors(_only(FILES["layouts"], "low4"), encoder)  # type: ignore[arg-type]
    assert nothing.left_out == len(nothing.given)


def _only(vectors: Vectors, name: str) -> Vectors:
    kept = tuple(g for g in vectors.groups if name in (g.name, *g.profiles))
    return Vectors(vectors.name, vectors.level, vectors.notes, kept)


def test_what_must_be_refused() -> None:
    vectors = _only(FILES["layouts"], "low4")

    def masked(verb: str, name: str, arrays: Mapping[str, Array]) -> Mapping[str, Any]:
        return engine(verb, name, {**arrays, "codes": arrays["codes"] & 15} if verb == "pack" else arrays)

    (failure,) = check_vectors(vectors, masked).failures
    assert failure.test.result == "invalid"
    assert failure.wrong == ("pack: accepted, and must be refused",)


@pytest.mark.parametrize(
    ("given", "wrong"),
    [
        ({}, "encode: no answer has codes"),
        ({"codes": [1, 2]}, "encode: codes has 2 numbers, not"),
        ({"codes": "text"}, "encode: codes has 1 numbers, not"),
        ({"codes": [[1], [2, 3]]}, "encode: codes holds no numbers"),
        (7, "encode: refused (its answer is a int, no dict of arrays)"),
    ],
)
def test_strange_answers(given: Mapping[str, Any], wrong: str) -> None:
    outcome = check_vectors(_only(FILES["types"], "int4"), lambda verb, *_: given if verb == "encode" else {})
    assert any(line.startswith(wrong) for failure in outcome.failures for line in failure.wrong)


PROGRAM = """
import json, sys
import numpy as np
from kbit_ref.conformance.vectors.as_json import array_of, words
from kbit_ref.conformance.vectors.implementations import engine
from kbit_ref.conformance.vectors.model import Spec, spec_of

for line in sys.stdin:
    asked = json.loads(line)
    arrays = {
        part: array_of(given["words"], Spec(given["dtype"], tuple(given["shape"])))
        if isinstance(given, dict) else np.array(given)
        for part, given in asked["arrays"].items()
    }
    try:
        found = engine(asked["verb"], asked["name"], arrays)
    except Exception as error:
        print(json.dumps({"refused": str(error)}), flush=True)
        continue
    specs = {part: (spec_of(np.asarray(a)), np.asarray(a)) for part, a in found.items() if a is not None}
    answer = {part: {"dtype": s.dtype, "shape": s.shape, "words": words(a)} for part, (s, a) in specs.items()}
    print(json.dumps(answer), flush=True)
    if len(sys.argv) > 1:
        break
"""


@pytest.mark.skipif(sys.platform == "win32", reason="programs are run on POSIX systems")
def test_a_program_and_a_function(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "answers.py").write_text(PROGRAM)
    (tmp_path / "my_kernels.py").write_text("from kbit_ref.conformance.vectors.implementations import engine as ours\n")
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("PYTHONPATH", str(Path(kb.__file__).parents[1]))
    file = str(_pair("choices")[0])
    assert main(["vectors", "check", file, "--cmd", f"{sys.executable} answers.py"]) == 0
    assert main(["vectors", "check", file, "--call", "my_kernels:ours"]) == 0
    assert capsys.readouterr().out.count(f"choices: all {len(list(FILES['choices'].tests()))} tests pass\n") == 2
    assert main(["vectors", "check", file, "--cmd", f"{sys.executable} answers.py once"]) == 2
    assert capsys.readouterr().err.count("\n") == 1
    for name in ("my_kernels", "my_kernels:theirs", "absent:f", "my_kernels:__name__"):
        assert main(["vectors", "check", file, "--call", name]) == 2
        assert capsys.readouterr().err.count("\n") == 1


# The command -------------------------------------------------------------------------------------


def test_commands(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["vectors", "list"]) == 0
    out = capsys.readouterr().out
    assert out.startswith("file ")
    assert f"{killed_of_all()}\n" in out
    assert main(["vectors", "list", "--cases"]) == 0
    assert "reciprocal-sensitive" in capsys.readouterr().out
    assert main(["vectors", "list", "--level", "full", "--json"]) == 0
    assert {row["file"] for row in json.loads(capsys.readouterr().out)} == set(files_of("full"))
    assert main(["vectors", "write", "layouts", "-o", str(tmp_path)]) == 0
    assert main(["vectors", "lint", *map(str, sorted(tmp_path.iterdir()))]) == 0
    assert capsys.readouterr().out.count("well formed") == 2
    assert main(["vectors", "write", "layouts", "-o", str(tmp_path)]) == 2  # it exists
    assert main(["vectors", "check", str(tmp_path / "layouts.safetensors"), "--only", "low*", "--json"]) == 0
    capsys.readouterr()
    assert main(["vectors", "check", "--only", "nonsense"]) == 2
    assert main(["vectors", "write", "bnb", "-o", str(tmp_path)]) == 2
    assert main(["vectors", "write", "layouts", "-o", str(tmp_path / "absent")]) == 2
    assert capsys.readouterr().err.count("\n") == 3


def test_the_table_of_the_readme() -> None:
    lines = markdown().splitlines()
    assert lines[0] == "| file | tests | mutants killed |"
    assert len(lines) == 2 + len(FILES) + 2
    assert lines[-2] == f"| all of quick | {sum(1 for v in FILES.values() for _ in v.tests())} | {killed_of_all()} |"


def killed_of_all() -> str:
    """All of all."""
    return f"{len(mutants())} of {len(mutants())}"


# Files from strangers ----------------------------------------------------------------------------


@pytest.fixture
def small() -> dict[str, Any]:
    """A document of two groups, one of them of a scheme."""
    groups = [next(g for g in FILES["profiles-codebook"].groups if "expected/codes" in g.arrays)]
    groups += [g for g in FILES["layouts"].groups if g.name == "low4"][:1]
    tests = [test for group in groups for test in group.tests]
    text = json.dumps(document(Vectors("small", "quick", {}, tuple(groups))))
    found: dict[str, Any] = json.loads(text)
    number = 0
    for group in found["testGroups"]:
        for test in group["tests"]:
            number += 1
            test["tcId"] = number
    flags = sorted({flag for test in tests for flag in test.flags})
    notes = {**FILES["profiles-codebook"].notes, **FILES["layouts"].notes}
    found["notes"] = {flag: notes[flag] for flag in flags}
    return found


def lint_of(found: Any, tmp_path: Path) -> list[str]:
    """What lint says of a document."""
    path = tmp_path / "x.json"
    path.write_text(found if isinstance(found, str) else json.dumps(found))
    return lint_file(path)


def test_the_small_document_is_well_made(small: dict[str, Any], tmp_path: Path) -> None:
    assert lint_of(small, tmp_path) == []


def _set(*path: Any) -> Any:
    *places, last, value = path

    def change(found: Any) -> None:
        for place in places:
            found = found[place]
        if value is KeyError:
            del found[last]
        else:
            found[last] = value

    return change


GROUP, TEST = ("testGroups", 0), ("testGroups", 0, "tests", 0)


LAST_NEW_LINE = [  # the library leaves these to Python's reading of $
    (_set("file", "line\n"), "is not spelled as it must be"),
    (_set(*TEST, "inputs", "x", "3f800000\n"), "is not spelled as it must be"),
]
CHANGES = [
    (_set("schema", "other"), "is not 'vectors.schema.json'"),
    (_set("level", KeyError), "level is missing"),
    (_set("extra", 1), "'extra' is not known here"),
    (_set("numberOfTests", "9"), "is no integer"),
    (_set("numberOfTests", True), "is no integer"),
    (_set("numberOfTests", 99), "numberOfTests is 99"),
    (_set("notes", {}), "has no note"),
    (_set("notes", "spare", {"bugType": "x", "description": "", "effect": "", "links": []}), "note spare is of no"),
    (_set("notes", "two\nlines", {}), "is not spelled as it must be"),
    (_set(*GROUP, "type", "matrix"), "is none of scheme, dtype, layout"),
    (_set(*GROUP, "name", "nf5000-b64-absmax-f32"), "there is no such name"),
    (_set(*GROUP, "name", "nf4-b64-absmax-f32+layout=low4"), "its own spelling is"),
    (_set(*GROUP, "profiles", ["ggml-q4_0"]), "is another scheme"),
    (_set(*GROUP, "source", "version", "2"), "it is for version '2'"),
    (_set(*GROUP, "tests", []), "at least 1 must be there"),
    (_set(*GROUP, "arrays", "inputs/x", "dtype", "F8"), "is none of F16"),
    (_set(*GROUP, "arrays", "inputs/x", "shape", [1] * 9), "at most 8"),
    (_set(*GROUP, "arrays", "inputs/x", "shape", [-1]), "is below 0"),
    (_set(*GROUP, "arrays", "inputs/x", "shape", [2**32, 2**32, 2**32]), "words for shape"),
    (_set(*GROUP, "arrays", "inputs/x", KeyError), "inputs/x is not both in the test and"),
    (_set(*GROUP, "arrays", "inputs/y", {"dtype": "U8", "shape": []}), "is not spelled as it must be"),
    (_set(*TEST, "inputs", "x", "3F800000"), "is not spelled as it must be"),
    (_set(*TEST, "inputs", "x", "3f80"), "words of F32 have 8 digits"),
    (_set(*TEST, "inputs", "x", KeyError), "inputs/x is not both"),
    (_set(*TEST, "result", "wrong"), "is none of valid"),
    (_set(*TEST, "result", "invalid"), "its arrays are those of one that is valid"),
    (_set(*TEST, "tcId", 0), "is below 1"),
    (_set(*TEST, "tcId", 7000), "are not 1, 2, 3"),
    (_set(*TEST, "flags", ["a", "a"]), "an item is there twice"),
    (_set(*TEST, "flags", "a"), "is no array"),
    (_set("testGroups", 3), "is no array"),
]


@pytest.mark.parametrize(("change", "problem"), CHANGES + LAST_NEW_LINE)
def test_what_is_wrong_is_told(small: dict[str, Any], change: Any, problem: str, tmp_path: Path) -> None:
    change(small)
    found = lint_of(small, tmp_path)
    assert any(problem in line for line in found), found
    assert all("\n" not in line and len(line) < 500 for line in found)
    with pytest.raises(kb.KbitError) as caught:
        read_vectors(tmp_path / "x.json")
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize("path", ["expected/packed", "expected/scales", "expected/values", "inputs/x"])
def test_a_part_that_is_missing_in_a_whole_group(small: dict[str, Any], path: str, tmp_path: Path) -> None:
    head, _, part = path.partition("/")
    group = small["testGroups"][0]
    del group["arrays"][path]
    for test in group["tests"]:
        del test[head][part]
    assert any(part in line for line in lint_of(small, tmp_path))


@pytest.mark.parametrize(
    "text",
    ["", "{", "[" * 100_000, '{"a": NaN}', '{"a": 1, "a": 2}', "3", "null", "[]", '"text"', "1" * 5000, '{"a": 1e999}'],
)
def test_no_document(text: str, tmp_path: Path) -> None:
    found = lint_of(text, tmp_path)
    assert found
    assert all("\n" not in line for line in found)


def test_no_file(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (tmp_path / "x.json").write_bytes(b"\xff\xfe{}")
    (tmp_path / "folder.json").mkdir()
    with Writer(tmp_path / "x.safetensors", [Entry("w", "F32", (2,))], {}):
        pass
    with Writer(tmp_path / "y.safetensors", [Entry("w", "F32", (2,))], {"vectors": "{}"}):
        pass
    for name in ("x.json", "absent.json", "folder.json", "x.safetensors", "y.safetensors", "absent.safetensors"):
        assert main(["vectors", "check", str(tmp_path / name)]) == 2
        assert capsys.readouterr().err.count("\n") == 1


@pytest.mark.parametrize("form", [0, 1])
def test_damaged_files_end_in_one_line(form: int, tmp_path: Path) -> None:
    source = _pair("choices")[form]
    whole, rng = source.read_bytes(), random.Random(form)
    path = tmp_path / f"x{source.suffix}"
    refused: list[str] = []
    for _ in range(60):
        data = bytearray(whole)
        for _ in range(rng.randint(1, 3)):
            data[rng.randrange(min(len(data), 30_000))] = rng.randrange(256)
        path.write_bytes(data[: rng.choice([len(data), len(data) - 1])])
        try:
            check_vectors(_first(read_vectors(path)))
        except kb.KbitError as error:
            refused.append(str(error))
    assert len(refused) > 20
    assert not any("\n" in line for line in refused)


def _first(vectors: Vectors) -> Vectors:
    return Vectors(vectors.name, vectors.level, vectors.notes, vectors.groups[:2])


# The schema --------------------------------------------------------------------------------------


def test_the_library_agrees_with_our_reading_of_the_schema(small: dict[str, Any]) -> None:
    jsonschema = importlib.import_module("jsonschema")
    library = jsonschema.Draft202012Validator(load(SCHEMA))
    library.check_schema(load(SCHEMA))
    for change, _ in CHANGES:
        found = copy.deepcopy(small)
        change(found)
        assert library.is_valid(found) == (not list(problems(found, load(SCHEMA))))


def test_every_word_of_the_schema_is_understood() -> None:
    from kbit_ref.conformance.vectors import schema

    def words_of(part: Mapping[str, Any]) -> set[str]:
        found = set(part)
        for word in ("properties", "$defs"):
            found |= {w for inner in part.get(word, {}).values() for w in words_of(inner)}
        for word in ("items", "additionalProperties", "propertyNames"):
            if isinstance(part.get(word), dict):
                found |= words_of(part[word])
        return found

    known = {name.removeprefix("_") for name in vars(schema._Check)} | schema._TOLD | {"$ref"}
    assert words_of(load(SCHEMA)) <= known


def test_vectors_travel(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    from kbit_ref import data

    shutil.copytree(data.data_folder("schemas"), tmp_path / "_data" / "schemas")
    monkeypatch.setattr(data, "PACKAGE", tmp_path)
    assert data.data_folder("schemas") == tmp_path / "_data" / "schemas"
    with pytest.raises(kb.KbitError, match="folder = vectors"):
        data.data_folder("vectors")
