"""IEEE P3109: levels and modes against the report's own procedure, written here in rationals."""

import math
from fractions import Fraction
from itertools import pairwise, product

import pytest

import kbit_ref as kb
from kbit_ref.datatypes.p3109 import fits_float64
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


@pytest.mark.parametrize("form", [form for form in FORMATS if not fits_float64(*form) and form[0] < 14], ids=name_of)
def test_formats_outside_float64_are_for_the_definition(form: tuple[int, int, str, str]) -> None:
    name = name_of(form)
    with pytest.raises(kb.KbitError) as caught:
        kb.encode(name, [1.0])
    assert str(caught.value) == (
        f"datatype: name = '{name}', its levels are outside float64; kb.exact.encode takes it, the engine does not"
    )
    one = 2 ** (form[0] - 2) if form[2] == "s" else 2 ** (form[0] - 1)
    assert kb.exact.encode(name, 1) == one


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
