"""IEEE P3109: levels and modes against the report's own procedure, written here in rationals."""

import json
import math
from collections.abc import Iterable
from fractions import Fraction
from itertools import pairwise, product
from typing import Any

import numpy as np
import pytest
from helpers.by_definition import KINDS, neighbours

import kbit_ref as kb
from kbit_ref.cli import main
from kbit_ref.exact import Level

FORMATS = [
    (K, P, sign, domain)
    for K in range(3, 17)
    for P in range(1, 17)
    for sign in "su"
    for domain in "ef"
    if P < K or (P == K and sign == "u")
]
UP_TO_10 = [form for form in FORMATS if form[0] <= 10]


def name_of(form: tuple[int, int, str, str]) -> str:
    """As the report spells it."""
    return "Binary{}p{}{}{}".format(*form)


class Report:
    """One format, following the interim report 4.0: Decode (4.7.1) and Project (4.7.3 to 4.7.5)."""

    def __init__(self, K: int, P: int, sign: str, domain: str):
        self.K, self.P, self.signed, self.extended = K, P, sign == "s", domain == "e"
        self.B = 2 ** (K - P - 1) if self.signed else 2 ** (K - P)
        largest = (2 ** (K - 1) - 1 if self.signed else 2**K - 2) - self.extended
        self.high = Fraction(self.decode(largest))
        self.low = -self.high if self.signed else Fraction(0)

    def decode(self, code: int) -> Level:
        """The value of a code."""
        K, P, B = self.K, self.P, self.B
        if code == (2 ** (K - 1) if self.signed else 2**K - 1):
            return math.nan
        if self.extended and code == (2 ** (K - 1) - 1 if self.signed else 2**K - 2):
            return math.inf
        if self.extended and self.signed and code == 2**K - 1:
            return -math.inf
        if self.signed and code > 2 ** (K - 1):
            return -self.decode(code - 2 ** (K - 1))
        exponent, T = divmod(code, 2 ** (P - 1))
        if exponent == 0:
            return T * Fraction(2) ** (1 - P) * Fraction(2) ** (1 - B)
        return (1 + T * Fraction(2) ** (1 - P)) * Fraction(2) ** (exponent - B)

    def round_to_precision(self, X: Fraction, mode: str, R: int, N: int) -> Fraction:
        """The nearest (or other) number of P bits; the exponent is not bounded above."""
        if X == 0:
            return X
        log = len(bin(abs(X.numerator))) - len(bin(X.denominator))
        log -= abs(X) < Fraction(2) ** log  # floor(log2 |X|)
        Q = max(log, 1 - self.B) - self.P + 1
        s = abs(X) * Fraction(2) ** -Q
        f = math.floor(s)
        v = s - f
        even = f % 2 == 0 if self.P > 1 else f == 0 or (Q + self.B) % 2 == 0
        away = {
            "toward_zero": False,
            "toward_positive": v > 0 and X > 0,
            "toward_negative": v > 0 and X < 0,
            "nearest away": v >= Fraction(1, 2),
            "nearest even": v > Fraction(1, 2) or (v == Fraction(1, 2) and not even),
            "odd": v > 0 and even,
            "stochastic_a": math.floor(v * 2**N) + R >= 2**N,
            "stochastic_b": math.floor(v * 2 ** (N + 1)) + 2 * R + 1 >= 2 ** (N + 1),
            "stochastic_c": round(v * 2**N) + R >= 2**N,
        }[mode]
        return (1 if X > 0 else -1) * (f + away) * Fraction(2) ** Q

    def saturate(self, Z: Level, mode: str, saturation: str) -> Level:
        """Out of range: SatFinite, SatPropagate, SatNone, rule by rule."""
        finite = abs(Z) != math.inf
        if self.low <= Z <= self.high:
            return Z
        if saturation == "SatFinite":
            return self.high if Z > 0 else self.low
        if saturation == "SatPropagate":
            if not finite and self.extended and (Z > 0 or self.signed):
                return Z
            return self.high if Z > 0 else self.low
        if not finite:
            if Z > 0:
                return Z if self.extended else self.high
            return math.nan if not self.signed else Z if self.extended else self.low
        if Z > 0:
            if mode == "odd" and not self.signed and self.extended:
                return self.high
            if mode in ("toward_zero", "toward_negative"):
                return self.high
            return math.inf if self.extended else self.high
        if mode in ("toward_zero", "toward_positive"):
            return self.low
        if not self.signed:
            return math.nan
        return -math.inf if self.extended else self.low

    def project(self, X: Level, mode: str, saturation: str, R: int = 0, N: int = 0) -> Level:
        """The value that X becomes."""
        if X != X:
            return X
        Z = X if abs(X) == math.inf else self.round_to_precision(Fraction(X), mode, R, N)
        return self.saturate(Z, mode, saturation)


def same(a: Level, b: Level) -> bool:
    """Equal, or both NaN."""
    return a == b or (a != a and b != b)


@pytest.mark.parametrize("form", UP_TO_10, ids=name_of)
def test_every_code(form: tuple[int, int, str, str]) -> None:
    report = Report(*form)
    got = kb.exact.decode(name_of(form), range(2 ** form[0]))
    assert [code for code, level in enumerate(got) if not same(level, report.decode(code))] == []
    assert got[0] == 0
    assert got[2 ** (form[0] - 2) if report.signed else 2 ** (form[0] - 1)] == 1


def test_there_are_192_formats_up_to_10_bits() -> None:
    assert len(UP_TO_10) == 192
    names = [name for name in kb.datatypes(grammar=True) if name.startswith("Binary")]
    assert names == [name_of(form) for form in FORMATS]


@pytest.mark.parametrize("form", [form for form in FORMATS if form[0] > 10][::9], ids=name_of)
def test_some_codes_of_wide_formats(form: tuple[int, int, str, str]) -> None:
    report, K = Report(*form), form[0]
    codes = sorted({0, 1, 2, 2 ** (K - 2), 2 ** (K - 1) - 2, 2 ** (K - 1) - 1, 2 ** (K - 1), 2**K - 3, 2**K - 1})
    for code, level in zip(codes, kb.exact.decode(name_of(form), codes), strict=True):
        assert same(level, report.decode(code)), code


MODES = {
    "nearest even": {},
    "nearest away": {"ties": "away"},
    **{mode: {"rounding": mode} for mode in ("toward_zero", "toward_positive", "toward_negative", "odd")},
}
SATURATIONS = {"SatPropagate": "saturate", "SatFinite": "finite", "SatNone": "infinity"}
SMALL = [form for form in FORMATS if form[0] <= 5]


def numbers_for(report: Report) -> list[Level]:
    """Levels, quarters of the gaps, the band beyond the last one, infinities; each with both signs."""
    finite = sorted(
        {abs(Fraction(level)) for code in range(2**report.K) if math.isfinite(level := report.decode(code))}
    )
    finite += [2 * finite[-1], 4 * finite[-1]]
    between = [a + (b - a) * Fraction(n, 4) for a, b in pairwise(finite) for n in range(1, 4)]
    eighths = [finite[-3] + (finite[-2] - finite[-3]) * Fraction(n, 8) for n in range(8)]
    values: list[Level] = [*finite, *between, *eighths, math.inf]
    return [*values, *(-value for value in values), math.nan]


@pytest.mark.parametrize("form", SMALL, ids=name_of)
def test_modes(form: tuple[int, int, str, str]) -> None:
    report = Report(*form)
    numbers = numbers_for(report)
    for (mode, choices), (saturation, overflow) in product(MODES.items(), SATURATIONS.items()):
        also = {"negative": "nan"} if saturation == "SatNone" and not report.signed else {}
        d = kb.datatype(name_of(form)).with_choices(overflow=overflow, **choices, **also)
        for X, code in zip(numbers, kb.exact.encode(d, numbers), strict=True):
            wanted = report.project(X, mode, saturation)
            assert same(report.decode(code), wanted), (d.name, X, wanted)


@pytest.mark.parametrize("form", [form for form in FORMATS if form[0] <= 4], ids=name_of)
@pytest.mark.parametrize("mode", ["stochastic_a", "stochastic_b", "stochastic_c"])
def test_stochastic_modes(form: tuple[int, int, str, str], mode: str) -> None:
    report = Report(*form)
    numbers = numbers_for(report)[:-1]
    N = 2
    for saturation, overflow in SATURATIONS.items():
        also = {"negative": "nan"} if saturation == "SatNone" and not report.signed else {}
        d = kb.datatype(name_of(form)).with_choices(overflow=overflow, rounding=mode, **also)
        for R in range(2**N):
            for X, code in zip(numbers, kb.exact.encode(d, numbers, R, N), strict=True):
                assert same(report.decode(code), report.project(X, mode, saturation, R, N)), (d.name, X, R)


# Levels outside float64 --------------------------------------------------------------------------


def is_wide(form: tuple[int, int, str, str]) -> bool:
    """Has it levels, or a level beyond the last one, outside float64? By bits of the exponent."""
    K, P, sign, domain = form
    exponent_bits = K - P + (sign == "u")
    return exponent_bits > 11 or (exponent_bits == 11 and (sign, domain) == ("s", "f"))


WIDE = [form for form in FORMATS if is_wide(form)]


def test_the_wide_formats_are_known() -> None:
    assert len(WIDE) == 55
    for form in [(K, K - 11, "s", "f") for K in range(12, 17)]:  # only the level beyond the last is outside
        d = kb.datatype(name_of(form))
        assert form in WIDE
        assert (d.exponents, d.beyond) == (None, 2**1024)


ENDS = [*range(-1077, -1070), -1023, -1022, -150, -149, -127, -126, -25, -1, 0, 15, 127, 128, *range(1020, 1026)]
FEW = [-1075, -1074, -1073, 0, 1022, 1023]
EIGHTEEN = [(mode, saturation) for mode in MODES for saturation in SATURATIONS]


def landmarks(report: Report, exponents: Iterable[int]) -> list[Fraction]:
    """The levels with these exponents, halfway and a quarter of the way to the next, and the band beyond the last."""
    significands = [1 + t * Fraction(2) ** (1 - report.P) for t in range(2 ** (report.P - 1))]
    found = [Fraction(0)]
    for exponent in exponents:
        for significand in significands:
            level, gap = significand * Fraction(2) ** exponent, Fraction(2) ** (exponent + 1 - report.P)
            found += [level, level + gap / 4, level + gap / 2]
    return found


def inputs_for(points: list[Fraction], kinds: tuple[str, ...] = KINDS) -> dict[str, Any]:
    """The floats next to these points in each format, of both signs, and the specials."""
    found = {kind: neighbours(points, kind, 1) for kind in kinds}
    for kind, x in found.items():
        if kind != "bfloat16":
            found[kind] = np.append(x, np.array([np.inf, -np.inf, np.nan, 0.0, -0.0], kind))
    return found


def numbers_of(x: Any, kind: str) -> list[Any]:
    """As numbers that a Fraction can be made of."""
    if kind == "bfloat16":
        return (x.astype(np.uint32) << 16).view(np.float32).tolist()
    return [Fraction(*value.as_integer_ratio()) if np.isfinite(value) else float(value) for value in x]


def with_modes(form: tuple[int, int, str, str], mode: str, saturation: str) -> kb.DataType:
    """The report's modes, spelled as choices."""
    also = {"negative": "nan"} if saturation == "SatNone" and form[2] == "u" else {}
    choices = MODES.get(mode, {"rounding": mode})
    return kb.datatype(name_of(form)).with_choices(overflow=SATURATIONS[saturation], **choices, **also)


def check_wide(
    form: tuple[int, int, str, str],
    exponents: Iterable[int],
    modes: list[tuple[str, str]],
    kinds: tuple[str, ...] = KINDS,
) -> None:
    """The engine does what the report's procedure does, in every float format."""
    report = Report(*form)
    inputs = inputs_for([*landmarks(report, exponents), report.high], kinds)
    for mode, saturation in modes:
        d = with_modes(form, mode, saturation)
        for kind, x in inputs.items():
            got = kb.encode(d, x, bfloat16=kind == "bfloat16").tolist()
            for X, code in zip(numbers_of(x, kind), got, strict=True):
                assert same(report.decode(code), report.project(X, mode, saturation)), (d.name, kind, X)


def some_modes(form: tuple[int, int, str, str], most: int) -> list[tuple[str, str]]:
    """Other modes for other formats: all of them are met among a few formats."""
    first = WIDE.index(form) * most
    return [EIGHTEEN[(first + i) % len(EIGHTEEN)] for i in range(most)]


@pytest.mark.parametrize("form", WIDE[::3], ids=name_of)
def test_wide_formats(form: tuple[int, int, str, str]) -> None:
    check_wide(form, FEW, some_modes(form, 1))


@pytest.mark.slow
@pytest.mark.parametrize("form", WIDE[1::4], ids=name_of)
def test_more_wide_formats_everywhere(form: tuple[int, int, str, str]) -> None:
    check_wide(form, ENDS if form[1] < 3 else FEW, some_modes(form, 5))
    check_wide(form, range(-1080, 1030, 2 ** (form[1] - 1)), [("nearest even", "SatPropagate")], ("float64",))
    check_wide(form, range(-151, 130), some_modes(form, 1), ("float32",))


def check_definition(form: tuple[int, int, str, str], exponents: Iterable[int], choices: list[dict[str, str]]) -> None:
    """The engine does what the definition does, ties and overflows of our own included; longdouble too."""
    report = Report(*form)
    points = [*landmarks(report, exponents), report.high]
    inputs = inputs_for(points)
    for chosen in choices:
        d = kb.datatype(name_of(form)).with_choices(**chosen)
        for kind, x in inputs.items():
            got = kb.encode(d, x, bfloat16=kind == "bfloat16").tolist()
            assert got == kb.exact.encode(d, numbers_of(x, kind)), (d.name, kind)


OWN = [{"ties": ties, "overflow": "infinity"} for ties in ("lower", "upper", "zero")] + [{"overflow": "ieee"}]


@pytest.mark.parametrize("form", [(12, 1, "s", "f"), (12, 1, "u", "e"), (13, 2, "s", "f")], ids=name_of)
def test_wide_formats_by_the_definition(form: tuple[int, int, str, str]) -> None:
    check_definition(form, ENDS, [{}, OWN[form[0] % 4]])


@pytest.mark.slow
@pytest.mark.parametrize("form", WIDE[2::4], ids=name_of)
def test_more_wide_formats_by_the_definition(form: tuple[int, int, str, str]) -> None:
    if form[0] == 16 and form[1] < 3:
        pytest.skip("half a minute each, to sort the levels; the report's procedure judges these")
    check_definition(form, FEW, [{}, *OWN, *MODES.values()] if form[0] < 14 else [OWN[WIDE.index(form) % 4]])


SAMPLE = [(12, 1, "u", "e"), (13, 1, "s", "f"), (13, 2, "s", "f"), (14, 2, "u", "f")]


@pytest.mark.parametrize("form", SAMPLE, ids=name_of)
@pytest.mark.parametrize("mode", ["stochastic_a", "stochastic_b", "stochastic_c"])
def test_stochastic_modes_of_wide_formats(form: tuple[int, int, str, str], mode: str) -> None:
    report = Report(*form)
    points = landmarks(report, [-1075, -1074, 0, 1022, 1023])
    for (kind, x), (saturation, N) in product(inputs_for(points).items(), [("SatNone", 2), ("SatFinite", 0)]):
        if kind == "bfloat16":
            continue
        d = with_modes(form, mode, saturation)
        R = np.arange(x.size) % 2**N
        got = kb.encode_stochastic(d, x, R, N).tolist()
        for X, r, code in zip(numbers_of(x, kind), R.tolist(), got, strict=True):
            assert same(report.decode(code), report.project(X, mode, saturation, r, N)), (d.name, kind, X, r)


@pytest.mark.parametrize("form", [(13, 1, "u", "e"), (13, 2, "s", "f"), (16, 2, "s", "e")], ids=name_of)
def test_longdoubles_outside_float64(form: tuple[int, int, str, str]) -> None:
    if np.finfo(np.longdouble).maxexp <= 1024:
        pytest.skip("longdouble is float64 here")
    report = Report(*form)
    powers = (-16445, -16000, -2047, -1076, 1024, 2046, 2047, 16383)
    middles = [np.ldexp(np.longdouble(m), power) for m in (1, 1.25, 1.5) for power in powers]
    x = np.array([np.nextafter(m, to) for m in middles for to in (-np.inf, m, np.inf)], np.longdouble)
    x = np.concatenate([x, -x])
    for mode, saturation in [("nearest even", "SatPropagate"), ("odd", "SatNone"), *some_modes(form, 2)]:
        d = with_modes(form, mode, saturation)
        for X, code in zip(numbers_of(x, "longdouble"), kb.encode(d, x).tolist(), strict=True):
            assert same(report.decode(code), report.project(X, mode, saturation)), (d.name, X)
    d = with_modes(form, "stochastic_b", "SatNone")
    got = kb.encode_stochastic(d, x, np.arange(x.size) % 8, 3).tolist()
    for i, (X, code) in enumerate(zip(numbers_of(x, "longdouble"), got, strict=True)):
        assert same(report.decode(code), report.project(X, "stochastic_b", "SatNone", i % 8, 3)), (d.name, X)


OTHERS = [pytest.param(form, marks=pytest.mark.slow) for i, form in enumerate(WIDE) if i % 3]


@pytest.mark.parametrize("form", [*WIDE[::3], *OTHERS], ids=lambda form: name_of(form))
def test_decode_of_wide_formats(form: tuple[int, int, str, str]) -> None:
    report, name = Report(*form), name_of(form)
    unit = 2 ** (form[1] - 1)
    around = [(E + report.B) * unit + t for E in (-1076, -1075, -1074, -1073, 0, 1022, 1023, 1024) for t in range(unit)]
    half = 2 ** (form[0] - 1)
    codes = {0, 1, 2, half - 2, half - 1, half, half + 1, 2 * half - 3, 2 * half - 2, 2 * half - 1, *around}
    held = []
    for code in sorted(code for code in codes if 0 <= code < 2 * half):
        level = report.decode(code)
        if in_float64(level):
            held.append(code)
            continue
        text = rf"^decode: codes\[1\] = {code:#x}, {name} has level .*, outside float64; use kb.exact.decode$"
        with pytest.raises(kb.KbitError, match=text):
            kb.decode(name, [0, code])
    got = kb.decode(name, held)
    assert got.dtype == np.float64
    for code, level in zip(held, got.tolist(), strict=True):
        assert same(level, report.decode(code)), code


def in_float64(level: Level) -> bool:
    """Is the level a float64 number, or one of the specials?"""
    try:
        return isinstance(level, float) or Fraction(float(level)) == level
    except OverflowError:
        return False


def test_every_code_of_wide_formats() -> None:
    for form in ((12, 1, "u", "e"), (13, 2, "s", "f"), (13, 1, "s", "f")):
        report, d = Report(*form), kb.datatype(name_of(form))
        levels = [report.decode(code) for code in range(2**d.bits)]
        assert all(map(same, d.definition.levels, levels))
        assert d.outside.tolist() == [not in_float64(level) for level in levels]


def test_what_wide_formats_refuse() -> None:
    d = kb.datatype("Binary16p1ue")
    for call, text in (
        (
            lambda: kb.decode(d, [0, 0x8000, 0x8001, 1]),
            "decode: codes[3] = 0x1, Binary16p1ue has level 2**-32767 there, outside float64; use kb.exact.decode",
        ),
        (lambda: kb.decode(d, 0xFFFD), "decode: codes = 0xfffd, Binary16p1ue has level 2**32765 there, outside "),
        (lambda: kb.decode("Binary16p4sf", [0xFFFF]), "decode: codes[0] = 0xffff, Binary16p4sf has level -15 * 2**204"),
        (lambda: d.levels, "levels: Binary16p1ue, float64 does not hold all of them; use kb.exact.decode or "),
        (lambda: d.top, "levels: Binary16p1ue, float64 does not hold all of them; use kb.exact.decode or "),
        (lambda: kb.datatype("Binary17p1ue"), "datatype: name = 'Binary17p1ue', there is no such name; "),
        (lambda: kb.scheme("Binary16p1ue-b32-absmax-f32"), "scheme: "),
        (lambda: kb.encode(d.with_choices(rounding="stochastic_a"), [1.0]), "encode: rounding = stochastic_a, "),
    ):
        with pytest.raises(kb.KbitError) as caught:
            call()
        assert str(caught.value).startswith(text)
        assert "\n" not in str(caught.value)


def test_show_a_wide_format(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["show", "Binary16p4sf"]) == 0
    text = capsys.readouterr().out
    assert "     1  0 000000000000 001                  2**-2050        2**-2050\n" in text
    assert " 65535  1 111111111111 111             -15 * 2**2044         2**2044\n" in text
    assert main(["show", "Binary12p1ue", "--json"]) == 0
    rows = json.loads(capsys.readouterr().out)["levels"]
    assert [rows[code]["level"] for code in (0, 1, 2048, 4093, 4094, 4095)] == [
        *("0.0", "2**-2047", "1.0", "2**2045", "inf", "nan"),
    ]
    assert [rows[code]["gap"] for code in (0, 1, 2048, 4093)] == ["2**-2047", "2**-2047", "1.0", None]
