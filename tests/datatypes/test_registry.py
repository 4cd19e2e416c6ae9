"""Names: every one resolves, choices in any order, registering, and lists of levels that are none."""

import sys

import numpy as np
import pytest

import kbit_ref as kb
from kbit_ref.cli.list_ import markdown
from kbit_ref.datatypes.datatype import families, register

room = sys.modules["kbit_ref.datatypes.datatype"]  # kb.datatype is the function


def test_every_name_resolves_to_itself() -> None:
    names = kb.datatypes()
    assert len(names) == len(set(names)) > 100
    for name in names:
        d = kb.datatype(name)
        assert d.name == name
        assert len(d.levels) == 2**d.bits


def test_choices_in_any_order() -> None:
    a, b = kb.datatype("e4m3fn+ties=away+overflow=ieee"), kb.datatype("e4m3fn+overflow=ieee+ties=away")
    assert a == b
    assert hash(a) == hash(b)
    assert a.name == "e4m3fn+overflow=ieee+ties=away"
    assert a != kb.datatype("e4m3fn")


def test_levels_are_frozen() -> None:
    with pytest.raises(ValueError, match="read-only"):
        kb.datatype("nf4").levels[0] = 2


def test_a_decorated_function_is_all_it_takes(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(room._rows, "rows", list(room._rows.rows))

    @register("halves{bits}", family="custom", source="this test", bits=(2, 3))
    def halves(bits: int) -> kb.DataType:
        """Multiples of one half."""
        return kb.DataType.from_levels(np.arange(2**bits) / 2)

    assert families()[-1].summary == "Multiples of one half."
    assert kb.datatypes()[-2:] == ("halves2", "halves3")
    assert kb.encode("halves2", [0.6, 9]).tolist() == [1, 3]
    assert "| `halves2 ... halves3` | custom | Multiples of one half. | this test |" in markdown()


def test_register(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(room, "_registered", {})
    mine = kb.DataType.from_levels([0, 1, 5], name="mine")
    with pytest.raises(kb.KbitError, match=r"^datatype: name = 'mine', there is no such name"):
        kb.datatype("mine")
    kb.register(mine)
    assert kb.datatype("mine") is mine
    assert kb.register(mine) is mine
    for name, rule in (("nf4", "another type has it"), ("a b", "a name is letters, digits, _ . ~")):
        with pytest.raises(kb.KbitError, match=f"^register: name = '{name}', {rule}; choose another name$"):
            kb.register(kb.DataType.from_levels([0, 1], name=name))
    room._resolve.cache_clear()


@pytest.mark.parametrize(
    ("levels", "options", "text"),
    [
        ([0, 0.1], {}, r"levels\[1\] = 0.1, it is not a float32 number; round it with np.float32 first$"),
        ([], {}, r"a type has 1 to 65536 levels in one dimension; flatten them$"),
        ([[0, 1]], {}, r"levels of shape \(1, 2\)"),
        ([np.nan, np.inf], {}, r"no finite level is left to emit; give at least one$"),
        ([0, 1], {"unused": [2]}, r"unused = \(2,\), codes are 0 to 1; list codes of the type$"),
        ([0, 1], {"ties": "up"}, r"ties = 'up', there is no such name; did you mean upper"),
        ([0, 1], {"overflow": "ieee"}, r"overflow = 'ieee', the level after the last one is not known"),
        ([0, 1], {"negative": "nan"}, r"negative = 'nan', the type has no NaN, or has negative levels"),
        ([-1, 1], {"rounding": "toward_zero"}, r"directed and stochastic rounding need a level at zero"),
        ([0, 1, 2, 3], {"ties": "even", "unused": [1]}, r"neighbouring levels have codes of the same parity"),
    ],
)
def test_lists_that_are_no_type(levels: list[float], options: dict[str, object], text: str) -> None:
    with pytest.raises(kb.KbitError, match=text):
        kb.DataType.from_levels(levels, **options)  # type: ignore[arg-type]


def test_fewer_levels_and_repeated_ones() -> None:
    d = kb.DataType.from_levels([-1, 0, 0, 1, 2], name="five")
    assert (d.bits, d.unused) == (3, (2, 5, 6, 7))
    assert kb.encode(d, [0, 2, 9]).tolist() == [1, 4, 4]
    assert kb.decode(d, [7]).tolist() == [2]
