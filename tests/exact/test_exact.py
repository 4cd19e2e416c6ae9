"""The definition, against cases worked by hand: nothing here is computed by the code under test."""

import ast
import math
from fractions import Fraction
from itertools import product
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import kbit_ref as kb
from kbit_ref import exact
from kbit_ref.errors import BadInput, BadType, UnknownName
from kbit_ref.exact import Definition

INF, NAN = math.inf, math.nan
MAGNITUDES = [0.0, 1, 2, 4, 8, 12, INF, NAN]


def toy(**choices: Any) -> Definition:
    """Codes 0-7: 0 1 2 4 8 12 inf nan; codes 8-15 the negatives, -0 at 8. 16 would follow 12."""
    levels = [*MAGNITUDES, -0.0, -1, -2, -4, -8, -12, -INF, NAN]
    return Definition(levels, unused=[15], beyond=16, **choices)


def test_facts_of_the_toy_type() -> None:
    d = toy()
    assert d.emitted == list(range(15))
    assert d.ladder == [(Fraction(v), c) for v, c in zip([-12, -8, -4, -2, -1], [13, 12, 11, 10, 9], strict=True)] + [
        (Fraction(v), c) for v, c in zip([0, 1, 2, 4, 8, 12], range(6), strict=True)
    ]
    assert (d.minus_zero, d.nan, d.infinity) == (8, 7, {1: 6, -1: 14})


@pytest.mark.parametrize("rounding", exact.CHOICES["rounding"])
@pytest.mark.parametrize("overflow", exact.CHOICES["overflow"])
def test_levels_stay_where_they_are(rounding: str, overflow: str) -> None:
    d = toy(rounding=rounding, overflow=overflow)
    for code in range(15):
        if not (overflow == "finite" and math.isinf(d.levels[code])):
            assert exact.encode(d, d.levels[code], 0, 0) == code


# Every tie between two levels: +-0.5 (0, 1), 1.5 (1, 2), 3 (2, 4), 6 (4, 8), 10 (8, 12).
TIES = [0.5, 1.5, 3, 6, 10, -0.5, -1.5, -3, -6, -10]
AT_A_TIE = {
    "even": [0, 2, 2, 4, 4, 8, 10, 10, 12, 12],
    "lower": [0, 1, 2, 3, 4, 9, 10, 11, 12, 13],
    "upper": [1, 2, 3, 4, 5, 8, 9, 10, 11, 12],
    "zero": [0, 1, 2, 3, 4, 8, 9, 10, 11, 12],
    "away": [1, 2, 3, 4, 5, 9, 10, 11, 12, 13],
}


@pytest.mark.parametrize("ties", exact.CHOICES["ties"])
def test_ties(ties: str) -> None:
    assert exact.encode(toy(ties=ties), TIES) == AT_A_TIE[ties]


@pytest.mark.parametrize("ties", exact.CHOICES["ties"])
def test_next_to_a_tie_is_no_tie(ties: str) -> None:
    hair = Fraction(1, 10**40)
    inward = [Fraction(x) - hair if x > 0 else Fraction(x) + hair for x in TIES]
    outward = [Fraction(x) + hair if x > 0 else Fraction(x) - hair for x in TIES]
    assert exact.encode(toy(ties=ties), inward) == [0, 1, 2, 3, 4, 8, 9, 10, 11, 12]
    assert exact.encode(toy(ties=ties), outward) == [1, 2, 3, 4, 5, 9, 10, 11, 12, 13]


BETWEEN = [0.25, 1.75, 3.5, 6.5, 11, -0.25, -1.75, -3.5, -6.5, -11]
DIRECTED = {
    "toward_zero": [0, 1, 2, 3, 4, 8, 9, 10, 11, 12],
    "toward_positive": [1, 2, 3, 4, 5, 8, 9, 10, 11, 12],
    "toward_negative": [0, 1, 2, 3, 4, 9, 10, 11, 12, 13],
    "odd": [1, 1, 3, 3, 5, 9, 9, 11, 11, 13],
}


@pytest.mark.parametrize("rounding", DIRECTED)
@pytest.mark.parametrize("ties", exact.CHOICES["ties"])
def test_directed_roundings_do_not_look_at_ties(rounding: str, ties: str) -> None:
    assert exact.encode(toy(rounding=rounding, ties=ties), BETWEEN) == DIRECTED[rounding]
    at_ties = {**DIRECTED, "odd": [1, 1, 3, 3, 5, 9, 9, 11, 11, 13]}
    assert exact.encode(toy(rounding=rounding, ties=ties), TIES) == at_ties[rounding]


# Beyond the last level, 12 (odd code 5): the tie with 16 is at 14.
BEYOND = [12.5, 13.999, 14, 15, 16, 1e300, INF, -12.5, -13.999, -14, -15, -16, -1e300, -INF]
OVERFLOW = {
    "saturate": [5, 5, 5, 5, 5, 5, 6, 13, 13, 13, 13, 13, 13, 14],
    "finite": [5, 5, 5, 5, 5, 5, 5, 13, 13, 13, 13, 13, 13, 13],
    "infinity": [5, 5, 6, 6, 6, 6, 6, 13, 13, 14, 14, 14, 14, 14],
    "ieee": [5, 5, 6, 6, 6, 6, 6, 13, 13, 14, 14, 14, 14, 14],
}


@pytest.mark.parametrize("overflow", exact.CHOICES["overflow"])
def test_overflow(overflow: str) -> None:
    assert exact.encode(toy(overflow=overflow), BEYOND) == OVERFLOW[overflow]


@pytest.mark.parametrize("rounding", exact.CHOICES["rounding"])
@pytest.mark.parametrize("overflow", ["saturate", "finite"])
def test_saturation_does_not_look_at_rounding(rounding: str, overflow: str) -> None:
    assert exact.encode(toy(overflow=overflow, rounding=rounding), BEYOND, 0, 0) == OVERFLOW[overflow]


# 14 is a tie between 12 (code 5) and 16, where code 6, infinity, stands; and so is -14.
@pytest.mark.parametrize(
    ("ties", "codes"), [("even", [6, 14]), ("lower", [5, 14]), ("upper", [6, 13]), ("zero", [5, 13]), ("away", [6, 14])]
)
def test_tie_of_the_last_level_and_infinity(ties: str, codes: list[int]) -> None:
    assert exact.encode(toy(overflow="ieee", ties=ties), [14, -14]) == codes


# A directed rounding never leaves the last level, or always does; the odd one, 12 being odd, stays.
@pytest.mark.parametrize(
    ("rounding", "codes"),
    [
        ("toward_zero", [5, 5, 6, 13, 13, 14]),
        ("toward_positive", [6, 6, 6, 13, 13, 14]),
        ("toward_negative", [5, 5, 6, 14, 14, 14]),
        ("odd", [5, 5, 6, 13, 13, 14]),
    ],
)
def test_directed_overflow(rounding: str, codes: list[int]) -> None:
    for overflow in ("infinity", "ieee"):
        d = toy(overflow=overflow, rounding=rounding)
        assert exact.encode(d, [12.5, 1e9, INF, -12.5, -1e9, -INF]) == codes


def test_odd_overflow_leaves_an_even_last_level() -> None:
    d = Definition([0, 1, 2, INF], overflow="ieee", beyond=4, rounding="odd")
    assert exact.encode(d, [2, 2.001, 3, 5, 1e9]) == [2, 3, 3, 3, 3]


def test_overflow_without_infinity() -> None:
    levels = [0, 1, 2, NAN]  # the last level has the even code 2, the tie with 4 is at 3
    points = [2.9, 3, 3.1, 4, 1e9, INF]
    expected = {
        "saturate": [2, 2, 2, 2, 2, 2],
        "finite": [2, 2, 2, 2, 2, 2],
        "infinity": [2, 2, 2, 2, 2, 2],
        "ieee": [2, 2, 3, 3, 3, 3],
    }
    for overflow, codes in expected.items():
        assert exact.encode(Definition(levels, overflow=overflow, beyond=4), points) == codes
    truncated = Definition(levels, overflow="ieee", beyond=4, rounding="toward_zero")
    assert exact.encode(truncated, points) == [2, 2, 2, 2, 2, 3]


def test_overflow_with_neither_infinity_nor_nan() -> None:
    d = Definition([0, 1, 2], overflow="ieee", beyond=3)
    assert exact.encode(d, 2.4) == 2
    for x in (2.6, INF):
        with pytest.raises(BadInput, match=r"^exact.encode: x overflows, the type has neither infinity nor NaN; "):
            exact.encode(d, x)


@pytest.mark.parametrize(
    ("zero_sign", "codes"),
    [("keep", [0, 8, 0, 8]), ("positive", [0, 0, 0, 0]), ("negative", [0, 0, 0, 8])],
)
def test_zero_sign(zero_sign: str, codes: list[int]) -> None:
    assert exact.encode(toy(zero_sign=zero_sign), [0.0, -0.0, 0.3, -0.3]) == codes


def test_zero_sign_for_numbers_without_minus_zero() -> None:
    assert exact.encode(toy(), [0, Fraction(0), Fraction(-1, 3), np.float16(-0.0)]) == [0, 0, 8, 8]
    assert exact.encode(toy(), Fraction(-1, 10**400)) == 8, "its float would be -0.0, and it is not zero"


def test_zero_sign_without_negative_levels() -> None:
    d = Definition([0, 1, -0.0])
    assert exact.encode(d, [-0.3, -7, -INF, 0.3, 10**400, -(10**400)]) == [2, 2, 2, 0, 1, 2]
    assert exact.encode(Definition([0, 1, -0.0], zero_sign="positive"), [-0.0, -7, -INF]) == [0, 0, 0]


# Unsigned: codes 0 1 2 are 0 1 2, and 3 is NaN. Halfway from 0 to the -1 it would have is -0.5.
NEGATIVE = [-0.25, -0.5, -0.75, -1, -7, -INF]


def unsigned(**choices: Any) -> Definition:
    """0, 1, 2, NaN."""
    return Definition([0, 1, 2, NAN], **choices)


def test_negative_saturates() -> None:
    for rounding, ties in product(DIRECTED, exact.CHOICES["ties"]):
        assert exact.encode(unsigned(rounding=rounding, ties=ties), NEGATIVE) == [0] * 6
        assert exact.encode(unsigned(ties=ties), NEGATIVE) == [0] * 6


@pytest.mark.parametrize(
    ("choices", "codes"),
    [
        ({"ties": "even"}, [0, 0, 3, 3, 3, 3]),
        ({"ties": "lower"}, [0, 3, 3, 3, 3, 3]),
        ({"ties": "upper"}, [0, 0, 3, 3, 3, 3]),
        ({"ties": "zero"}, [0, 0, 3, 3, 3, 3]),
        ({"ties": "away"}, [0, 3, 3, 3, 3, 3]),
        ({"rounding": "toward_zero"}, [0, 0, 0, 0, 0, 3]),
        ({"rounding": "toward_positive"}, [0, 0, 0, 0, 0, 3]),
        ({"rounding": "toward_negative"}, [3, 3, 3, 3, 3, 3]),
        ({"rounding": "odd"}, [3, 3, 3, 3, 3, 3]),
    ],
)
def test_negative_is_nan(choices: dict[str, str], codes: list[int]) -> None:
    d = unsigned(negative="nan", **choices)
    assert exact.encode(d, NEGATIVE) == codes
    assert exact.encode(d, [0, -0.0]) == [0, 0]


def test_negative_without_zero() -> None:
    d = Definition([Fraction(1, 2), 1, 2, NAN], negative="nan", ties="even")
    assert exact.encode(d, [0, -0.0, 1e-300, -1e-300, -5, -INF, 1.5]) == [0, 0, 0, 3, 3, 3, 2]


# Stochastic, worked by hand with N = 2 random bits: does 1 + v go up for R = 0, 1, 2, 3?
#   v = 1/8   A: floor(0.5) + R >= 4     B: 1 + 2 R + 1 >= 8     C: rne(0.5) = 0, + R >= 4
STOCHASTIC = {
    "stochastic_a": {1 / 8: "0000", 2 / 8: "0001", 3 / 8: "0001", 4 / 8: "0011", 5 / 8: "0011", 7 / 8: "0111"},
    "stochastic_b": {1 / 8: "0001", 2 / 8: "0001", 3 / 8: "0011", 4 / 8: "0011", 5 / 8: "0111", 7 / 8: "1111"},
    "stochastic_c": {1 / 8: "0000", 2 / 8: "0001", 3 / 8: "0011", 4 / 8: "0011", 5 / 8: "0011", 7 / 8: "1111"},
}


@pytest.mark.parametrize("rounding", STOCHASTIC)
def test_stochastic(rounding: str) -> None:
    d = Definition([0, 1, 2, -0.0, -1, -2], rounding=rounding)
    for v, goes in STOCHASTIC[rounding].items():
        assert "".join(str(exact.encode(d, 1 + v, r, 2) - 1) for r in range(4)) == goes, v
        assert "".join(str(exact.encode(d, -1 - v, r, 2) - 4) for r in range(4)) == goes, "away from zero: mirrored"
        assert "".join(str(exact.encode(d, v, r, 2)) for r in range(4)) == goes, "from zero"
    assert exact.encode(d, [0, 1, -2.0], 3, 2) == [0, 1, 5], "a level stays whatever R is"


# No random bits at all: A truncates, B rounds halves away, C rounds halves to nothing.
@pytest.mark.parametrize(
    ("rounding", "codes"),
    [("stochastic_a", [0, 0, 0, 0]), ("stochastic_b", [0, 1, 1, 1]), ("stochastic_c", [0, 0, 1, 1])],
)
def test_stochastic_without_random_bits(rounding: str, codes: list[int]) -> None:
    d = Definition([0, 1], rounding=rounding)
    assert exact.encode(d, [0.49, 0.5, 0.51, 0.99], 0, 0) == codes


def test_stochastic_overflow() -> None:
    d = Definition([0, 1, 2, INF], rounding="stochastic_a", overflow="ieee", beyond=4)
    assert [exact.encode(d, 3, r, 1) for r in (0, 1)] == [2, 3]  # v = 1/2 on the way from 2 to 4
    assert [exact.encode(d, 4, r, 1) for r in (0, 1)] == [3, 3]


@pytest.mark.parametrize(("random", "bits"), [(None, 0), (4, 2), (-1, 3), (1, 0)])
def test_stochastic_needs_its_bits(random: int | None, bits: int) -> None:
    d = Definition([0, 1], rounding="stochastic_b")
    with pytest.raises(BadInput, match="takes an integer of random_bits = ") as caught:
        exact.encode(d, 0.5, random, bits)
    assert str(caught.value) == (
        f"exact.encode: random = {random}, stochastic_b takes an integer of random_bits = {bits} bits with every "
        "number; give random and random_bits"
    )


def test_nan() -> None:
    assert exact.encode(toy(), [NAN, -NAN, np.float16(NAN)]) == [7, 7, 7]
    with pytest.raises(BadInput) as caught:
        exact.encode(Definition([0, 1]), NAN)
    assert str(caught.value) == (
        "exact.encode: x = nan, the type has no NaN level; clean the input or use a type with NaN"
    )


def test_repeated_levels_and_unused_codes() -> None:
    d = Definition([3, 1, 1, NAN, NAN, 2, 7], unused=[6], ties="lower")
    assert exact.encode(d, [1, 3, 100, 2.5]) == [1, 0, 0, 5], "the first code of 1; 7 is unused"
    assert exact.encode(d, NAN) == 3
    assert exact.decode(d, [2, 6]) == [1, 7]


def test_one_level_is_a_type() -> None:
    d = Definition([Fraction(1, 3)])
    assert exact.encode(d, [0, 1 / 3, -5, 5, INF, -INF]) == [0] * 6


def test_thirds_are_exact() -> None:
    thirds = Definition([Fraction(-1, 3), 0, Fraction(1, 3)], ties="away")
    assert exact.encode(thirds, [Fraction(1, 6), Fraction(-1, 6)]) == [2, 0]
    assert exact.encode(thirds, [1 / 6, -1 / 6]) == [1, 1], "the float nearest to 1/6 is below it"
    assert Fraction(1 / 6) < Fraction(1, 6)


@pytest.mark.parametrize(
    "x",
    [
        *(3, 3.0, Fraction(3), True + 2, np.float16(3), np.float32(3), np.float64(3), np.longdouble(3)),
        *(np.int8(3), np.int64(3), np.uint64(3), np.array(3.0), np.array(3, np.float16)),
    ],
    ids=lambda x: type(x).__name__,
)
def test_kinds_of_numbers(x: Any) -> None:
    assert exact.encode(toy(ties="lower"), x) == 2
    assert exact.encode(toy(ties="upper"), x) == 3


def test_longdouble_is_not_rounded_to_float64() -> None:
    if np.finfo(np.longdouble).nmant <= 52:
        pytest.skip("longdouble is float64 here")
    x = np.longdouble(1.5) + np.longdouble(2) ** -60
    assert float(x) == 1.5
    assert exact.encode(toy(ties="lower"), [1.5, x]) == [1, 2]


def test_large_integers_are_not_rounded() -> None:
    d = Definition([0, 2**80], ties="lower")
    assert exact.encode(d, [2**79, 2**79 + 1]) == [0, 1]


def test_nested_sequences_and_arrays() -> None:
    assert exact.encode(toy(), [[1, [2.0]], [], (4, Fraction(8))]) == [[1, [2]], [], [3, 4]]
    assert exact.encode(toy(), np.array([[1.0, 2], [4, 8]], np.float16)) == [[1, 2], [3, 4]]
    assert exact.encode(toy(), range(3)) == [0, 1, 2]
    assert exact.decode(toy(), [[1, 2], []]) == [[1, 2], []]


def test_decode() -> None:
    got = exact.decode(toy(), range(16))
    assert got[:6] == [0, 1, 2, 4, 8, 12]
    assert all(isinstance(level, Fraction) for level in got[:6])
    assert (got[6], got[14]) == (INF, -INF)
    assert math.isnan(got[7])
    assert math.isnan(got[15])
    assert got[8] == 0
    assert math.copysign(1, got[8]) == -1
    assert exact.decode(Definition([0.1]), 0) == Fraction(3602879701896397, 36028797018963968)


@pytest.mark.parametrize("code", [-1, 16, 10**6])
def test_decode_of_no_code(code: int) -> None:
    with pytest.raises(BadInput) as caught:
        exact.decode(toy(), code)
    assert str(caught.value) == f"exact.decode: code = {code}, codes are 0 to 15; mask or check them first"


@pytest.mark.parametrize("x", ["seven", None, object(), 1 + 2j, "0.5"])
def test_no_number(x: Any) -> None:
    with pytest.raises(BadType, match=r"^exact\.encode: x = .*, it is not a number; give real numbers$"):
        exact.encode(toy(), x)


@pytest.mark.parametrize("dtype", [3, None, [0.0, 1.0]])
def test_no_type(dtype: Any) -> None:
    with pytest.raises(BadType) as caught:
        exact.encode(dtype, 1.0)
    expected = f"exact: dtype = {dtype!r}, it is no data type; give a name, a DataType or an exact.Definition"
    assert str(caught.value) == expected


@pytest.mark.parametrize("choice", exact.CHOICES)
def test_unknown_choices(choice: str) -> None:
    first = exact.CHOICES[choice][0]
    with pytest.raises(UnknownName) as caught:
        Definition([0, 1], **{choice: first + "x"})  # type: ignore[arg-type]
    names = ", ".join(exact.CHOICES[choice])
    text = str(caught.value)
    assert text.startswith(f"Definition: {choice} = '{first}x', there is no such name; did you mean {first}")
    assert text.endswith(f"? use {names}")


@pytest.mark.parametrize("overflow", ["infinity", "ieee"])
def test_overflow_needs_to_know_what_follows(overflow: str) -> None:
    with pytest.raises(BadInput) as caught:
        Definition([0, 1], overflow=overflow)
    assert str(caught.value) == (
        f"Definition: overflow = '{overflow}', the level after the last one is not known (beyond is None); "
        "use saturate or finite"
    )


@pytest.mark.parametrize(
    ("levels", "unused", "rule"),
    [
        ([-0.0, 1], [], "-0 is among them and 0 is not; add a code for 0"),
        ([-0.0, 1, 0], [2], "-0 is among them and 0 is not; add a code for 0"),
        ([INF, NAN, 1], [2], "no finite level is left to emit; give at least one"),
        ([], [], "no finite level is left to emit; give at least one"),
    ],
)
def test_levels_that_make_no_type(levels: list[float], unused: list[int], rule: str) -> None:
    with pytest.raises(BadInput) as caught:
        Definition(levels, unused=unused)
    assert str(caught.value) == f"Definition: levels, {rule}"


def test_a_lone_zero_has_no_negative_side() -> None:
    with pytest.raises(BadInput, match=r"^Definition: negative = 'nan', 0 is the only level, so no x < 0 is nearer to"):
        Definition([0, NAN], negative="nan")


def test_names_and_objects_reach_their_definition() -> None:
    assert exact.encode("int4", [1.4, -8.0]) == [1, 8]
    assert exact.encode(kb.datatype("int4"), [1.4, -8.0]) == [1, 8]
    assert exact.encode("e4m3fn+overflow=ieee", 1e9) == 127
    with pytest.raises(UnknownName):
        exact.encode("int44", 1)


# Independence ---------------------------------------------------------------------------------

ALLOWED = {
    *("__future__", "math", "bisect", "collections.abc", "dataclasses", "fractions", "functools", "operator"),
    *("typing", "kbit_ref.errors"),
}


def imports(source: str) -> set[str]:
    """The modules that a source imports, anywhere in it."""
    found: set[str] = set()
    for node in ast.walk(ast.parse(source)):
        if isinstance(node, ast.Import):
            found |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom):
            found.add("." * node.level + (node.module or ""))
        elif isinstance(node, ast.Call) and getattr(node.func, "id", getattr(node.func, "attr", "")) in (
            *("__import__", "import_module"),
        ):
            found.add("<dynamic>")
    return found


def test_the_definition_is_independent() -> None:
    rooms = list(Path(exact.__file__).parent.glob("*.py"))
    inside = {f"kbit_ref.exact.{path.stem}" for path in rooms}
    assert len(rooms) >= 5
    for path in rooms:
        assert imports(path.read_text("utf-8")) <= ALLOWED | inside | {"itertools"}


@pytest.mark.parametrize(
    "line",
    ["import numpy as np", "from kbit_ref import engine", "from . import engine", "def f():\n  __import__('numpy')"],
)
def test_dependence_would_be_found(line: str) -> None:
    code = Path(exact.__file__).with_name("code.py").read_text("utf-8")
    source = code.replace("import math\n", f"import math\n{line}\n", 1)
    assert not imports(source) <= ALLOWED
