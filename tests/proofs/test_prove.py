"""`prove` finds exactly the inputs that a broken engine gets wrong."""

import hashlib
import json
from dataclasses import replace
from itertools import pairwise

import numpy as np
import pytest

import kbit_ref as kb
from kbit_ref import exact
from kbit_ref.cli import main
from kbit_ref.engine import codec as engine
from kbit_ref.engine import tables
from kbit_ref.errors import BadInput, KbitError
from kbit_ref.proofs import prove as room
from kbit_ref.proofs.prove import REFUSED, Fault, number, prove, runs_by_definition

ONE = 0x3F800000  # the word of 1.0
INFINITY = 0x7F800000
NEAR_ONE = range(ONE - (1 << 17), ONE + (1 << 20))


@pytest.fixture
def small_slabs(monkeypatch):
    monkeypatch.setattr(room, "SLAB", 1 << 16)


def carry_table(name: str) -> tables.CarryTable:
    table = tables.table_for(kb.datatype(name), "float32")
    assert isinstance(table, tables.CarryTable)
    return table


# A broken engine ------------------------------------------------------------------------------


def test_the_engine_holds_near_one() -> None:
    proof = prove("e4m3fn", threads=2, words=NEAR_ONE)
    assert (proof.inputs, proof.faults, proof.examples, proof.holds) == (len(NEAR_ONE), 0, (), True)
    assert (proof.type, proof.bits, proof.meaning) == ("e4m3fn", 8, 1)


def test_one_entry_with_a_wrong_code_is_wrong_for_its_whole_cell(monkeypatch) -> None:
    table = carry_table("e4m3fn")  # a cell is 2**16 words; 1.0 begins one and has the code 0x38
    entries = table.entries.copy()
    entries[ONE >> 16] += np.uint32(1) << np.uint32(table.start)
    monkeypatch.setattr(table, "entries", entries)
    proof = prove("e4m3fn", threads=2, words=NEAR_ONE)
    assert proof.faults == 65536
    assert proof.examples == (Fault(ONE, ONE + 65535, engine=0x39, definition=0x38),)
    assert str(proof.examples[0]) == (
        "0x3f800000 to 0x3f80ffff, from 1.0: the engine gives code 57, the definition gives code 56"
    )


def test_a_threshold_that_is_one_too_large_is_one_wrong_input(monkeypatch) -> None:
    table = carry_table("e4m3fn")  # 1.0625 is a tie and goes to the even 1.0; the word after it goes up
    entries, tie = table.entries.copy(), int(np.float32(1.0625).view(np.uint32))
    entries[tie >> 16] -= np.uint32(1)
    monkeypatch.setattr(table, "entries", entries)
    proof = prove("e4m3fn", words=NEAR_ONE)
    assert proof.examples == (Fault(tie + 1, tie + 1, engine=0x38, definition=0x39),)
    assert proof.faults == 1
    assert proof.hash != prove("e4m3fn", words=range(ONE, ONE + 1)).hash


def test_a_fault_that_crosses_slabs_is_quoted_once(monkeypatch, small_slabs) -> None:
    monkeypatch.setattr(engine, "encode", lambda dtype, x, threads, out: np.full(x.shape, 9, np.uint8))
    proof = prove("uint8", words=range(ONE, ONE + (3 << 16)))
    assert proof.faults == proof.inputs == 3 << 16
    assert proof.examples == (Fault(ONE, ONE + (3 << 16) - 1, engine=9, definition=1),)


def test_many_faults_are_counted_and_few_are_quoted(monkeypatch, small_slabs) -> None:
    def alternating(dtype, x, threads, out):
        return (x.view(np.uint32) % 2).astype(np.uint8)

    monkeypatch.setattr(engine, "encode", alternating)
    proof = prove("uint8", words=range(ONE, ONE + (1 << 17)))
    assert proof.faults == 1 << 16  # every even word
    assert len(proof.examples) == 8
    assert proof.examples[1] == Fault(ONE + 2, ONE + 2, engine=0, definition=1)


# NaN ------------------------------------------------------------------------------------------

NANS = range(INFINITY - 1000, INFINITY + 200_000)


@pytest.mark.parametrize("name", ["int4", "nf4", "e4m3fn"])
def test_nans_are_refused_or_have_their_code(name) -> None:
    proof = prove(name, words=NANS)
    assert (proof.inputs, proof.faults) == (len(NANS), 0)


def missing_one_nan(missed):
    """The engine's test for NaN, that does not see one of them."""
    honest = engine.nans

    def nans(numbers, kind):
        found = honest(numbers, kind)
        if found is None:
            return None
        found &= numbers.view(np.uint32) != missed
        return found if found.any() else None

    return nans


@pytest.mark.parametrize("name", ["int4", "e4m3fn"])
def test_a_single_nan_that_the_engine_overlooks(name, monkeypatch) -> None:
    missed = INFINITY + 77_777
    monkeypatch.setattr(engine, "nans", missing_one_nan(missed))
    proof = prove(name, words=NANS)
    (fault,) = proof.examples
    assert proof.faults == 1
    assert (fault.first, fault.last) == (missed, missed)
    assert fault.definition == (REFUSED if name == "int4" else 0x7F)
    assert fault.engine != fault.definition


def test_an_engine_that_refuses_a_number(monkeypatch) -> None:
    honest = engine.nans

    def nans(numbers, kind):  # takes the largest finite number for a NaN
        found = honest(numbers, kind)
        found = np.zeros(numbers.shape, bool) if found is None else found
        found |= numbers.view(np.uint32) == INFINITY - 1
        return found if found.any() else None

    monkeypatch.setattr(engine, "nans", nans)
    proof = prove("int4", words=NANS)
    assert proof.examples == (Fault(INFINITY - 1, INFINITY - 1, engine=REFUSED, definition=7),)
    assert proof.faults == 1
    assert "the engine refuses it, the definition gives code 7" in str(proof.examples[0])


def test_an_engine_that_always_refuses_is_wrong_wherever_the_definition_answers(monkeypatch) -> None:
    def encode(dtype, x, threads, out=None):
        if dtype is room.IS_NAN:
            return np.isnan(x).astype(np.uint8)
        raise BadInput("encode: no")

    monkeypatch.setattr(engine, "encode", encode)
    proof = prove("int4", words=NANS)
    assert proof.faults == 1001  # up to infinity, itself included


# The definition's side ------------------------------------------------------------------------


@pytest.mark.parametrize("name", ["int4", "e4m3fn", "e8m0fnu", "e2m1fn+ties=away", "e4m3fn+overflow=ieee", "fp4_bnb"])
def test_runs_by_definition_are_what_the_definition_says(name) -> None:
    d = kb.datatype(name)
    runs = runs_by_definition(d)
    assert runs.first[0] == 0
    assert all(runs.first[1:] > runs.first[:-1])
    assert all(a != b for a, b in pairwise(runs.code.tolist()))
    words = np.random.default_rng(1).integers(0, 2**32, 2000)
    words = np.concatenate([words, runs.first, runs.first[1:] - 1])
    for word in words.tolist():
        code = int(runs.code[np.searchsorted(runs.first, word, side="right") - 1])
        x = number(word)
        if code == REFUSED:
            assert x != x
            assert not d.has_nan
        else:
            assert code == exact.encode(d, x)


def test_runs_of_a_hand_worked_type() -> None:
    d = kb.DataType.from_levels([-1.0, 1.0])  # the midpoint, zero, goes to the lower one
    runs = runs_by_definition(d)
    assert [(hex(int(word)), int(code)) for word, code in zip(*runs, strict=True)] == [
        ("0x0", 0),
        ("0x1", 1),
        ("0x7f800001", REFUSED),
        ("0x80000000", 0),
        ("0xff800001", REFUSED),
    ]


def test_a_definition_that_is_not_monotone_is_noticed(monkeypatch) -> None:
    honest = exact.encode
    last = {}

    def moody(d, x):  # forgets what it has said
        last[x] = last.get(x, -1) + 1
        return honest(d, x) ^ (last[x] > 0 and x == 1.0)

    monkeypatch.setattr(room.exact, "encode", moody)
    d = kb.DataType.from_levels([0.0, 1.0], bits=1, name="half", ties="upper")
    monkeypatch.setattr(room, "INFINITY", ONE)  # so that 1.0 is an end that is asked twice
    with pytest.raises(AssertionError, match="not monotone"):
        runs_by_definition(d)


# Hash, slabs, threads -------------------------------------------------------------------------


def test_the_hash_depends_on_the_codes_alone(monkeypatch) -> None:
    one = prove("nf4", threads=1, words=NEAR_ONE)
    monkeypatch.setattr(room, "SLAB", 12_345)
    two = prove("nf4", threads=2, words=NEAR_ONE)
    assert replace(one, seconds=0) == replace(two, seconds=0)


def test_the_hash_by_hand() -> None:
    half = 0x3F000000  # a tie: uint8 gives the even code 0, and 1 from the next word on
    runs = bytes.fromhex("f6ffff3e 00000000  0100003f 01000000")
    assert prove("uint8", words=range(half - 10, half + 10)).hash == hashlib.sha256(runs).hexdigest()
    nans = bytes.fromhex("ffff7f7f 0f000000  0100807f ffffffff")  # the last finite number; NaN is refused
    assert prove("uint4", words=range(INFINITY - 1, INFINITY + 3)).hash == hashlib.sha256(nans).hexdigest()


def test_progress_counts_every_word() -> None:
    steps = []
    prove("int4", threads=1, progress=steps.append, words=NEAR_ONE)
    assert sum(steps) == len(NEAR_ONE)


@pytest.mark.parametrize(
    ("arguments", "text"),
    [
        ({"dtype": "int4", "threads": 0}, "prove: threads = 0, it is a number of threads from 1"),
        ({"dtype": "int4", "words": range(0, 10, 2)}, "prove: words = range"),
        ({"dtype": "int4", "words": range(0)}, "prove: words = range"),
        ({"dtype": "int4", "words": range(2**32, 2**32 + 1)}, "prove: words = range"),
        ({"dtype": "e4m3fn+rounding=stochastic_a"}, "prove: rounding = stochastic_a, it needs random bits"),
        ({"dtype": "int44"}, "datatype: name = 'int44'"),
    ],
)
def test_bad_arguments(arguments, text) -> None:
    with pytest.raises(KbitError) as error:
        prove(**arguments)
    assert text in str(error.value)


# The command ----------------------------------------------------------------------------------


@pytest.fixture
def near_one(monkeypatch):
    """The command looks at a few words only."""

    def short(dtype, threads=None, progress=None):
        return prove(dtype, threads, progress, words=range(ONE, ONE + 1000))

    monkeypatch.setattr("kbit_ref.cli.prove.prove", short)


def test_command(near_one, capsys) -> None:
    assert main(["prove", "int4", "e4m3fn"]) == 0
    out = capsys.readouterr().out.splitlines()
    assert out[0].split() == ["type", "verdict", "inputs", "faults", "hash", "seconds"]
    for line, name in zip(out[1:], ["int4", "e4m3fn"], strict=False):
        assert line.split()[:4] == [name, "agree", "1,000", "0"]
    assert main(["prove", "int4", "--json"]) == 0
    (proof,) = json.loads(capsys.readouterr().out)
    assert (proof["type"], proof["inputs"], proof["faults"]) == ("int4", 1000, 0)


def test_command_reports_faults(near_one, monkeypatch, capsys) -> None:
    monkeypatch.setattr(engine, "encode", lambda dtype, x, threads, out: np.full(x.shape, 9, np.uint8))
    assert main(["prove", "uint8"]) == 1
    assert "0x3f800000 to 0x3f8003e7, from 1.0: the engine gives code 9, the definition gives code 1" in (
        capsys.readouterr().out
    )
