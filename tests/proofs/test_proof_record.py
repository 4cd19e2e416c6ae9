"""The record of proofs: sorted, merged, whole; complete, and of the definition of today."""

from pathlib import Path

import numpy as np
import pytest

import kbit_ref as kb
from kbit_ref.cli import main
from kbit_ref.errors import BadInput
from kbit_ref.proofs import record as proof_record
from kbit_ref.proofs.prove import Proof, prove, runs_by_definition

RECORD = Path(__file__).parents[2] / "data" / "proofs"


def row(name: str, faults: int = 0, digest: str = "ab") -> proof_record.Row:
    return proof_record.Row.of(Proof(name, 4, 1, 2**32, faults, digest, 1.0, ()))


def test_record_is_sorted_merged_and_whole(tmp_path) -> None:
    folder = tmp_path / "new"
    assert proof_record.read(folder) == {}
    proof_record.merge(folder, [row("nf4"), row("int4", faults=3)])
    proof_record.merge(folder, [row("int4", digest="cd"), row("e2m1fn")])
    assert list(proof_record.read(folder)) == ["e2m1fn", "int4", "nf4"]
    assert proof_record.read(folder)["int4"] == row("int4", digest="cd")
    assert [path.name for path in folder.iterdir()] == ["float32.csv"]
    assert row("nf4").kbit_ref == kb.__version__
    assert row("nf4").numpy == np.__version__


def test_a_spoilt_record_is_told(tmp_path) -> None:
    proof_record.merge(tmp_path, [row("nf4")])
    path = tmp_path / proof_record.FILE
    path.write_text(path.read_text("utf-8") + "int4,four\n", "utf-8")
    with pytest.raises(BadInput, match=r"float32\.csv, line 3 is no row of a record; restore the file"):
        proof_record.read(tmp_path)


def test_command_writes_the_record(monkeypatch, tmp_path, capsys) -> None:
    def short(dtype, threads=None, progress=None):
        return prove(dtype, threads, progress, words=range(1000))

    monkeypatch.setattr("kbit_ref.cli.prove.prove", short)
    assert main(["prove", "int4", "nf4", "--record", str(tmp_path)]) == 0
    assert list(proof_record.read(tmp_path)) == ["int4", "nf4"]
    assert proof_record.read(tmp_path)["nf4"].inputs == 1000
    capsys.readouterr()
    assert main(["prove", "int4", "uint4", "--record", str(tmp_path), "--missing"]) == 0
    assert [line.split()[0] for line in capsys.readouterr().out.splitlines()] == ["type", "uint4"]
    assert main(["prove", "int4", "uint4", "--record", str(tmp_path)]) == 0
    assert capsys.readouterr().out.splitlines()[-1] == "2 types, 2,000 inputs, 0 types with faults"


def test_options_that_make_no_sense(tmp_path, capsys) -> None:
    (tmp_path / "file").touch()
    assert main(["prove", "int4", "--missing"]) == 2
    assert capsys.readouterr().err.endswith("prove: missing, there is no record to look at; add --record DIR\n")
    assert main(["prove", "int4", "--record", str(tmp_path / "file")]) == 2
    assert "it is no folder" in capsys.readouterr().err


NARROW = [name for name in kb.datatypes(grammar=True) if not name.startswith("Binary1") and kb.datatype(name).bits <= 8]

RECORDED = sorted(proof_record.read(RECORD))


def test_the_record_holds_every_type_of_at_most_8_bits() -> None:
    # what is missing is added by `kbit-ref prove --record data/proofs --missing`
    assert len(NARROW) > 300
    assert sorted(NARROW) == RECORDED


def test_the_record_holds_no_fault() -> None:
    for name, found in proof_record.read(RECORD).items():
        assert (found.inputs, found.faults) == (2**32, 0), name
        assert (found.bits, found.meaning) == (kb.datatype(name).bits, kb.datatype(name).meaning), name


@pytest.mark.parametrize("name", ["int4", "e4m3fn", "nf4", "e8m0fnu", "dynamic8"])
def test_the_record_quotes_the_definition_of_today(name) -> None:
    assert proof_record.read(RECORD)[name].hash == runs_by_definition(kb.datatype(name)).hash()


@pytest.mark.slow
@pytest.mark.parametrize("name", RECORDED)
def test_all_of_the_record_quotes_the_definition_of_today(name) -> None:
    assert proof_record.read(RECORD)[name].hash == runs_by_definition(kb.datatype(name)).hash()


@pytest.mark.slow
@pytest.mark.parametrize("name", ["int4", "e4m3fn", "lloyd8", "e8m0fnu"])
def test_proved_again(name) -> None:
    proof = prove(name)
    assert (proof.inputs, proof.faults) == (2**32, 0)
    assert proof.hash == proof_record.read(RECORD)[name].hash
