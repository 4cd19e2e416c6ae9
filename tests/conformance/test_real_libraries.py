"""`check` and `matrix` on the libraries themselves: each verdict is the one on record, for the version on record.

The record (`data/matrix`) is what the commands said on its day. Where another version is installed, what must hold
is that every type and format gets its verdicts.
"""

import json
from pathlib import Path
from typing import Any

import pytest
from helpers.libraries import cases, needed

from kbit_ref.cli import main
from kbit_ref.conformance.implementations.adapters import adapters
from kbit_ref.data import data_folder

ADAPTERS = adapters()
RECORD = json.loads(max(data_folder("matrix").glob("*.json")).read_text("utf-8"))


def verdicts(row: dict[str, Any]) -> dict[str, tuple[str, int]]:
    """By part, or by direction and source: the verdict, and how many values differ."""
    names = [f"{part['what']} {part['source']}" if part["what"] else part["part"] for part in row["rows"]]
    return {name: (part["status"], part["different"]) for name, part in zip(names, row["rows"], strict=True)}


def by_name(rows: list[dict[str, Any]], library: str) -> dict[tuple[str, str], dict[str, Any]]:
    """The rows of a library."""
    return {(row["theirs"], row["subject"]): row for row in rows if row["library"] == library}


def compared(rows: list[dict[str, Any]], record: list[dict[str, Any]], library: str) -> int:
    """How many rows there are; each as it is on record."""
    found, recorded = by_name(rows, library), by_name(record, library)
    assert set(found) == set(recorded)
    for name, row in found.items():
        assert verdicts(row) or row["errors"], name
        if row["version"] == recorded[name]["version"]:
            assert (row["status"], verdicts(row)) == (recorded[name]["status"], verdicts(recorded[name])), name
    return len(found)


@pytest.mark.slow
@pytest.mark.parametrize("library", cases(sorted(ADAPTERS)))
def test_check_says_what_is_on_record(library: str, capsys: pytest.CaptureFixture[str]) -> None:
    needed(library, ADAPTERS[library].installed())
    code = main(["check", library, "--json"])
    said = json.loads(capsys.readouterr().out)
    assert compared(said["verdicts"], RECORD["types"] + RECORD["blocks"], library) > 0
    statuses = {row["status"] for row in said["verdicts"]}
    assert code == (0 if statuses <= {"agree", "known"} else 1)


@pytest.mark.slow
def test_matrix_of_real_libraries(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    saved = tmp_path / "m.json"
    assert main(["matrix", "ml_dtypes", "gguf", "onnx", "--save", str(saved)]) == 1
    lines = capsys.readouterr().out.splitlines()
    begin = lines.index("e2m3fn from float32, float16, bfloat16: 3 side by side, all alike")
    assert lines[begin + 1] == "  3 alike: ml_dtypes float6_e2m3fn, onnx Cast FLOAT6E2M3, onnx make_tensor FLOAT6E2M3"
    begin = lines.index("e4m3fn from float64: 4 side by side, 2 different answers")
    assert "  2 alike: ml_dtypes float8_e4m3fn, onnx Cast FLOAT8E4M3FN saturate=0" in lines[begin + 1 : begin + 3]
    made = json.loads(saved.read_text("utf-8"))
    for library in ("ml_dtypes", "gguf", "onnx"):
        compared(made["types"], RECORD["types"], library)
        compared(made["blocks"], RECORD["blocks"], library)


def test_another_verdict_would_be_found() -> None:
    row = next(row for row in RECORD["blocks"] if row["library"] == "gguf")
    part = {**row["rows"][0], "different": row["rows"][0]["different"] + 1}
    mine = [r for r in RECORD["blocks"] if r["library"] == "gguf" and r is not row]
    with pytest.raises(AssertionError):
        compared([*mine, {**row, "rows": [part, *row["rows"][1:]]}], RECORD["blocks"], "gguf")
    with pytest.raises(AssertionError):
        compared(mine, RECORD["blocks"], "gguf")
