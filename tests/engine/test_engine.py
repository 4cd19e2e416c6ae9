"""The engine equals the definition: where codes change, in every format, for every type."""

import math
from typing import Any

import numpy as np
import pytest
from helpers.by_definition import INFINITY, KINDS, all_words, expected, monotone, neighbours, number, probes

import kbit_ref as kb
from kbit_ref import exact
from kbit_ref.datatypes.datatype import DataType, families
from kbit_ref.engine import tables
from kbit_ref.engine.staircase import staircase
from kbit_ref.errors import KbitError

NAMES = kb.datatypes()
NARROW = [name for name in NAMES if kb.datatype(name).bits <= 8]
WIDE = [name for name in NAMES if kb.datatype(name).bits > 8]


def grammar_names(most_bits: int, least_bits: int = 1) -> list[str]:
    """The names of the grammars, by width; those with levels outside float64 are for `test_p3109.py`."""
    names = []
    for row in families():
        for name in row.names() if row.grammar else ():
            values = row.arguments(name)
            assert values is not None
            if least_bits <= values.get("bits", values.get("K")) <= most_bits:
                names += [name] if kb.datatype(name).exponents is None else []
    return names


def test_grammars_are_named_in_full() -> None:
    narrow, wide = grammar_names(8), grammar_names(16, 9)
    assert {kb.datatype(name).bits for name in narrow} == set(range(2, 9))
    assert len(narrow) > 200
    assert len(wide) > 250


def faults(dtype: DataType, x: np.ndarray[Any, Any], *, bfloat16: bool = False) -> list[tuple[Any, int, int]]:
    """The inputs where engine and definition differ: (x, theirs, ours)."""
    got = kb.encode(dtype, x, bfloat16=bfloat16)
    wanted = expected(dtype, x, bfloat16=bfloat16)
    return [(x[i], int(wanted[i]), int(got[i])) for i in np.flatnonzero(got != wanted)]


def compare_everywhere(dtype: DataType, *, ulps: int = 2, most: int = 256, kinds: tuple[str, ...] = KINDS) -> None:
    """At every landmark and its neighbours, in every format."""
    for kind in kinds:
        assert faults(dtype, probes(dtype, kind, ulps, most), bfloat16=kind == "bfloat16") == [], kind


def compare_all_words(dtype: DataType) -> None:
    """On all 2**16 float16 and bfloat16 inputs."""
    for kind in ("float16", "bfloat16"):
        wanted = all_words(dtype, kind)
        fine = np.flatnonzero(wanted >= 0)
        words = fine.astype(np.uint16)
        got = kb.encode(dtype, words if kind == "bfloat16" else words.view(np.float16), bfloat16=kind == "bfloat16")
        bad = np.flatnonzero(got != wanted[fine])
        assert [(number(int(words[i]), kind), int(wanted[fine[i]]), int(got[i])) for i in bad] == [], kind
        assert fine.size + np.count_nonzero(wanted < 0) == 65536


@pytest.mark.parametrize("name", NARROW)
def test_every_landmark_in_every_format(name: str) -> None:
    compare_everywhere(kb.datatype(name))


@pytest.mark.parametrize("name", [*NARROW, *WIDE])
def test_few_numbers_of_float64_are_searched_to_the_same_codes(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(tables, "PAYS", 1 << 30)
    tables.coder_for.cache_clear()
    compare_everywhere(kb.datatype(name), ulps=1, most=200, kinds=("float64",))
    assert tables.coder_for(kb.datatype(name), "float64").left < 1 << 30


def test_many_numbers_of_float64_are_looked_up(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(tables, "PAYS", 100)
    tables.coder_for.cache_clear()
    d, asked = kb.datatype("e4m3fn"), []
    right = tables.table_for
    monkeypatch.setattr(tables, "table_for", lambda *about: asked.append(about) or right(*about))
    x = np.linspace(-500, 500, 60)
    for times in range(4):
        assert (kb.encode(d, x) == kb.encode(d, x.astype(np.longdouble))).all()
        assert bool(asked) == (times > 0)  # after 120 numbers


@pytest.mark.parametrize("name", NARROW)
def test_all_16_bit_inputs(name: str) -> None:
    compare_all_words(kb.datatype(name))


@pytest.mark.parametrize("name", WIDE)
def test_landmarks_of_wide_types(name: str) -> None:
    compare_everywhere(kb.datatype(name), ulps=1, most=200)


@pytest.mark.slow
@pytest.mark.parametrize("name", WIDE)
def test_every_landmark_of_wide_types(name: str) -> None:
    compare_everywhere(kb.datatype(name), ulps=1, most=2**18)
    compare_all_words(kb.datatype(name))


@pytest.mark.parametrize("name", grammar_names(8))
def test_grammars(name: str) -> None:
    compare_everywhere(kb.datatype(name), ulps=1, most=48, kinds=("bfloat16", "float32"))


@pytest.mark.parametrize("name", grammar_names(8)[::5])
def test_grammars_in_the_other_formats(name: str) -> None:
    compare_everywhere(kb.datatype(name), ulps=1, most=48, kinds=("float16", "float64", "longdouble"))


@pytest.mark.parametrize("name", grammar_names(16, 9)[::17])
def test_wide_grammars(name: str) -> None:
    compare_everywhere(kb.datatype(name), ulps=1, most=24)


@pytest.mark.slow
@pytest.mark.parametrize("name", grammar_names(8))
def test_grammars_everywhere(name: str) -> None:
    compare_everywhere(kb.datatype(name))
    compare_all_words(kb.datatype(name))


@pytest.mark.slow
@pytest.mark.parametrize("name", grammar_names(16, 9)[::5])
def test_many_wide_grammars(name: str) -> None:
    compare_everywhere(kb.datatype(name), ulps=1, most=300)


# Types that nobody would publish ----------------------------------------------------------------

ODD_TYPES = {
    "one level": [0.375],
    "two levels of one sign": [-3.0, -2.0],
    "no zero": [-1.0, -0.25, 0.25, 1.0],
    "codes in no order": [0.5, -2, 7, 0, -0.125, 3, 1, -6],
    "two boundaries in a cell": [1, 1 + 2**-20, 1 + 2**-19, 1 + 3 * 2**-20, 2],
    "a crowd in one cell": [1 + n * 2.0**-23 for n in range(200)],
    "far apart": [-1.0, -(2.0**-100), 2.0**-100, 1.0],
    "far apart, unsigned": [2.0**-149, 1.0, 2.0**127],
    "midpoint just above a float64": [2.0**-53 * 1.5, 1.0],
    "midpoint just below a float64": [-(2.0**-53) * 1.5, 1.0],
    "subnormal": [n * 2.0**-149 for n in range(-4, 4)],
    "the whole of float32": [-3.4028234663852886e38, 0, 3.4028234663852886e38],
    "with infinity only above": [0, 1, 2, math.inf],
    "with NaN and -0": [0, 1, -0.0, math.nan],
    "nothing but zeros": [0.0, -0.0],
}


@pytest.mark.parametrize("what", ODD_TYPES)
@pytest.mark.parametrize("ties", ["lower", "upper", "zero", "away"])
def test_odd_types(what: str, ties: str) -> None:
    d = DataType.from_levels(ODD_TYPES[what], ties=ties)
    compare_everywhere(d, ulps=3)
    compare_all_words(d)


# Which table does the work ----------------------------------------------------------------------


@pytest.mark.parametrize(
    ("name", "kind", "table"),
    [
        *(("e4m3fn", "float16", "Table16"), ("nf4", "bfloat16", "Table16")),
        *(("e4m3fn", "float32", "CarryTable"), ("e4m3fn", "float64", "CarryTable")),
        *(("int8", "float32", "CarryTable"), ("nf4", "float32", "CarryTable"), ("bf16", "float32", "CarryTable")),
        *(("fp4_bnb", "float32", "RankTable"), ("f16", "float32", "SearchTable"), ("f16", "float64", "SearchTable")),
    ],
)
def test_tables_in_use(name: str, kind: str, table: str) -> None:
    assert type(tables.table_for(kb.datatype(name), kind)).__name__ == table


def test_a_crowded_cell_falls_back() -> None:
    for what in ("two boundaries in a cell", "a crowd in one cell"):
        d = DataType.from_levels(ODD_TYPES[what])
        assert type(tables.table_for(d, "float32")).__name__ == "SearchTable"


def test_every_kind_of_table_is_compared() -> None:
    used = {type(tables.table_for(kb.datatype(name), kind)).__name__ for name in NAMES for kind in INFINITY}
    assert used >= {"Table16", "CarryTable", "RankTable", "SearchTable"}


@pytest.mark.parametrize("name", ["e2m1fn", "int4", "nf4", "e4m3fn", "fp4_bnb", "e8m0fnu"])
@pytest.mark.parametrize("kind", ["float32", "float64"])
def test_the_slowest_table_is_right_for_all(name: str, kind: str) -> None:
    d = kb.datatype(name)
    first, codes = staircase(d, kind)
    x = probes(d, kind)
    x = x[~np.isnan(x)]
    out = np.empty(x.size, d.code_dtype)
    cell_bits = 16 if kind == "float32" else 45
    tables.SearchTable(first, codes, cell_bits)(x.view(first.dtype), out, tables.Scratch(x.size))
    assert (out == expected(d, x)).all()


# The tests of this file, tested -----------------------------------------------------------------


@pytest.mark.parametrize("name", ["e2m1fn", "nf3", "fp4_bnb"])
@pytest.mark.parametrize("kind", ["float16", "bfloat16"])
def test_halving_finds_what_asking_for_every_word_finds(name: str, kind: str) -> None:
    d = kb.datatype(name)
    words = np.arange(65536)
    words = words[(words & 0x7FFF) <= INFINITY[kind]]
    one_by_one = exact.encode(d, [number(int(word), kind) for word in words])
    assert (all_words(d, kind)[words] == one_by_one).all()


@pytest.mark.slow
@pytest.mark.parametrize("name", NARROW[::3])
def test_halving_is_sound_for_many_types(name: str) -> None:
    for kind in ("float16", "bfloat16"):
        test_halving_finds_what_asking_for_every_word_finds(name, kind)


def test_monotone_finds_runs_of_one() -> None:
    steps = [0, 0, 1, 2, 2, 2, 5, 6, 6]
    assert monotone(steps.__getitem__, 0, 8) == [(0, 0), (2, 1), (3, 2), (6, 5), (7, 6)]


def test_neighbours_are_neighbours() -> None:
    assert neighbours([1], "float32", 1).tolist() == [1 - 2**-24, 1, 1 + 2**-23, -1 + 2**-24, -1, -1 - 2**-23]
    assert neighbours([1], "bfloat16", 1).tolist() == [0x3F7F, 0x3F80, 0x3F81, 0xBF7F, 0xBF80, 0xBF81]
    assert neighbours([0], "float16", 1).tolist() == [0, 2**-24, 0, -(2**-24)]
    assert len(set(neighbours([1], "longdouble", 2).tolist())) == 10 or np.finfo(np.longdouble).nmant > 52


@pytest.mark.parametrize("kind", KINDS)
def test_probes_hold_the_hard_inputs(kind: str) -> None:
    d = kb.datatype("e4m3fn")
    x = probes(d, kind)
    if kind == "bfloat16":
        x = (x.astype(np.uint32) << 16).view(np.float32)
    with np.errstate(invalid="ignore"):  # some NaNs signal
        wide = x.astype(np.longdouble)
    for landmark in (0.0, 2.0**-10, 1.0625, 448.0, 464.0, 480.0, math.inf):
        assert {landmark, -landmark} <= set(wide.tolist())
    assert np.isnan(wide).any()
    assert np.signbit(wide[wide == 0]).any()


class Broken:
    """A table whose answer is changed for some words."""

    def __init__(self, table: Any, wrong: Any):
        self.table, self.wrong = table, wrong

    def __call__(self, words: Any, out: Any, scratch: Any) -> None:
        self.table(words, out, scratch)
        out[self.wrong(words)] ^= 1


def test_one_wrong_entry_is_found(monkeypatch: pytest.MonkeyPatch) -> None:
    d = kb.datatype("nf4")
    table = tables.Table16(*staircase(d, "float16"))
    table.codes[0x3800] ^= 1  # 0.5
    monkeypatch.setattr("kbit_ref.engine.codec.coder_for", lambda *_: table)
    with pytest.raises(AssertionError, match=r"\(0\.5, 12, 13\)\] == \[\]"):
        compare_all_words(d)


@pytest.mark.parametrize("kind", ["float32", "float64"])
@pytest.mark.parametrize("name", ["e4m3fn", "int4", "nf4", "fp4_bnb", "f16"])
def test_one_wrong_threshold_is_found(monkeypatch: pytest.MonkeyPatch, name: str, kind: str) -> None:
    d = kb.datatype(name)
    first, codes = staircase(d, kind)
    moved = first.copy()
    step = int(np.flatnonzero((first > 1) & (first < INFINITY[kind]))[-1])
    moved[step] += 1  # one word of 2**32 or 2**64 changes its code
    monkeypatch.setattr("kbit_ref.engine.tables.staircase", lambda *_: (moved, codes))
    table = tables.table_for.__wrapped__(d, kind)
    monkeypatch.setattr("kbit_ref.engine.codec.coder_for", lambda *_: table)
    wrong = faults(d, probes(d, kind))
    assert [float(x) for x, _, _ in wrong] == [number(int(first[step]), kind)]


@pytest.mark.parametrize("name", ["e4m3fn", "int4", "fp4_bnb", "nf4"])
def test_a_wrong_tie_is_found(name: str) -> None:
    right = kb.datatype(name)
    for ties in exact.CHOICES["ties"]:
        try:
            wrong = right.with_choices(ties=ties)
        except KbitError:
            continue
        x = probes(right, "float64")  # the midpoints of fp4_bnb are no float32 numbers
        assert bool((kb.encode(wrong, x) == expected(right, x)).all()) == (ties == right.ties)


def test_a_single_wrong_word_is_found(monkeypatch: pytest.MonkeyPatch) -> None:
    d = kb.datatype("e5m2")
    tie = np.float32(1.125).view(np.uint32)
    table = tables.table_for(d, "float32")
    monkeypatch.setattr("kbit_ref.engine.codec.coder_for", lambda *_: Broken(table, lambda words: words == tie))
    assert faults(d, probes(d, "float32")) == [(1.125, 60, 61)]
