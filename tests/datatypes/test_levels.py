"""The levels of every family against numbers that this package did not make."""

import math
from fractions import Fraction

import numpy as np
import pytest
from helpers.libraries import light

import kbit_ref as kb
from kbit_ref.datatypes import literals, quantile
from kbit_ref.datatypes.linspace import two_ended_linspace


def levels(name: str) -> list[float]:
    """The levels of a type, by code."""
    return kb.datatype(name).levels.tolist()


def emitted(name: str) -> list[float]:
    """The distinct finite levels that encode gives, ascending."""
    d = kb.datatype(name)
    return sorted({level for level in d.levels[d.emitted].tolist() if math.isfinite(level)})


def close(got: list[float], printed: list[float], digits: float) -> None:
    """Equal to the printed digits."""
    assert len(got) == len(printed)
    assert max(abs(a - b) for a, b in zip(got, printed, strict=True)) <= digits


# Integers ---------------------------------------------------------------------------------------


def test_integers_by_hand() -> None:
    assert levels("int3") == [0, 1, 2, 3, -4, -3, -2, -1]
    assert levels("uint2") == [0, 1, 2, 3]
    assert levels("uint1") == [0, 1]
    assert levels("oint3") == [-4, -3, -2, -1, 0, 1, 2, 3]
    assert [levels("mxint8")[code] for code in (0x00, 0x01, 0x7F, 0x80, 0xFF)] == [0, 2**-6, 1.984375, -2, -(2**-6)]
    assert emitted("int3sym") == [-3, -2, -1, 0, 1, 2, 3]
    assert kb.datatype("int4sym").unused == (0b1000,)
    assert levels("binary") == [-1, 1]
    assert emitted("ternary") == [-1, 0, 1]
    assert kb.encode("ternary", [-0.5, 0.5, -0.51, 0.51]).tolist() == [1, 1, 0, 2]


@pytest.mark.parametrize("bits", range(2, 9))
def test_integer_ranges(bits: int) -> None:
    assert (min(levels(f"int{bits}")), max(levels(f"int{bits}"))) == (-(2 ** (bits - 1)), 2 ** (bits - 1) - 1)
    assert len(emitted(f"int{bits}sym")) == 2**bits - 1


def test_linear_is_the_table_of_bitsandbytes() -> None:
    # entries 0, 1, 2, 40, 100, 127, 128, 200, 254, 255 of create_linear_map(True, 8), bitsandbytes 0.50.2
    printed = (
        "-0x1.0p+0 -0x1.fbf7fp-1 -0x1.f7efep-1 -0x1.5ebd7cp-1 -0x1.b366cep-3 0x0p+0 0x1p-28 "
        "0x1.22448ap-1 0x1.fbf7fp-1 0x1p+0"
    )
    at = [0, 1, 2, 40, 100, 127, 128, 200, 254, 255]
    assert [levels("linear8")[i] for i in at] == [float.fromhex(text) for text in printed.split()]
    # the middle point would be 0, and bitsandbytes' float32 misses it: 3, 8, 16, 32, ... distinct levels
    assert [len(emitted(f"linear{bits}")) for bits in range(2, 9)] == [3, 8, 16, 32, 64, 128, 256]


# Floats -----------------------------------------------------------------------------------------

# bits, largest finite, smallest positive, number of NaN codes, code of +inf: from the standards and APFloat.h
FACTS = {
    "e5m2": (8, 57344, 2**-16, 6, 0x7C),
    "e4m3": (8, 240, 2**-9, 14, 0x78),
    "e4m3fn": (8, 448, 2**-9, 2, None),
    "e4m3fnuz": (8, 240, 2**-10, 1, None),
    "e5m2fnuz": (8, 57344, 2**-17, 1, None),
    "e4m3b11fnuz": (8, 30, 2**-13, 1, None),
    "e3m4": (8, 15.5, 2**-6, 30, 0x70),
    "e8m0fnu": (8, 2.0**127, 2.0**-127, 1, None),
    "ue4m3": (7, 448, 2**-9, 1, None),
    "ue5m3": (8, 114688, 2**-17, 1, None),
    "e4m4": (8, 31, 2**-14, 0, None),
    "e2m3fn": (6, 7.5, 0.125, 0, None),
    "e3m2fn": (6, 28, 0.0625, 0, None),
    "e2m1fn": (4, 6, 0.5, 0, None),
    "f16": (16, 65504, 2**-24, 2046, 0x7C00),
    "bf16": (16, (2 - 2**-7) * 2.0**127, 2.0**-133, 254, 0x7F80),
}


@pytest.mark.parametrize("name", FACTS)
def test_float_facts(name: str) -> None:
    bits, top, smallest, nans, infinity = FACTS[name]
    d = kb.datatype(name)
    finite = d.levels[np.isfinite(d.levels)]
    assert d.bits == bits
    assert (finite.max(), finite[finite > 0].min()) == (top, smallest)
    assert np.isnan(d.levels).sum() == nans
    assert np.flatnonzero(np.isposinf(d.levels)).tolist() == ([] if infinity is None else [infinity])


def test_every_float_has_its_facts_here() -> None:
    rows = [row for row in kb.datatypes() if kb.datatype(row).family == "float" and not row.startswith("kfloat")]
    assert set(rows) == set(FACTS)


@pytest.mark.parametrize("name", sorted(set(FACTS) - {"f16", "bf16", "ue4m3", "ue5m3", "e4m4"}))
def test_floats_as_ml_dtypes_has_them(name: str) -> None:
    ml_dtypes = light("ml_dtypes")
    d = kb.datatype(name)
    theirs = np.arange(2**d.bits, dtype=np.uint8).view(getattr(ml_dtypes, f"float{d.bits}_{name}")).astype(np.float64)
    assert np.array_equal(theirs, d.levels, equal_nan=True)
    numbers = ~np.isnan(theirs)
    assert np.array_equal(np.signbit(theirs)[numbers], np.signbit(d.levels)[numbers])


def test_half_precision_as_numpy_has_it() -> None:
    theirs = np.arange(65536, dtype=np.uint16).view(np.float16).astype(np.float64)
    assert np.array_equal(theirs, kb.datatype("f16").levels, equal_nan=True)
    with np.errstate(invalid="ignore"):  # signalling NaNs
        upper = (np.arange(65536, dtype=np.uint32) << 16).view(np.float32).astype(np.float64)
    assert np.array_equal(upper, kb.datatype("bf16").levels, equal_nan=True)


def test_kfloat_is_the_paper_s() -> None:
    assert emitted("kfloat3") == [-4, -2, -1, 0, 1, 2, 4]
    assert [level for level in emitted("kfloat4") if level >= 0] == [0, 1, 2, 4, 8, 16, 32, 64]
    e2m1 = [level * 2 for level in emitted("kfloat4_e2m1") if level >= 0]
    assert e2m1 == [0, 1, 2, 3, 4, 6, 8, 12]  # variant B
    assert [level * 2 for level in emitted("kfloat4_e2m1_sub4") if level >= 0] == [0, 0.25, 2, 3, 4, 6, 8, 12]
    assert [level * 2 for level in emitted("kfloat4_e2m1_sub16") if level >= 0] == [0, 0.0625, 2, 3, 4, 6, 8, 12]
    tops = {bits: max(emitted(f"kfloat{bits}")) for bits in range(3, 9)}
    assert tops == {3: 4, 4: 64, 5: 96, 6: 112, 7: 120, 8: 124}
    for bits in range(3, 9):
        assert len(emitted(f"kfloat{bits}")) == 2**bits - 1


def test_p3109_by_an_independent_formula() -> None:
    for name in kb.datatypes(grammar=True):
        if not name.startswith("Binary") or int(name[6:].split("p")[0]) > 8:
            continue
        K, rest = name[6:].split("p")
        k, p, signed, extended = int(K), int(rest[:-2]), rest[-2] == "s", rest[-1] == "e"
        bias = 2 ** (k - p - 1) if signed else 2 ** (k - p)
        for code, level in enumerate(levels(name)):
            negative = signed and code > 2 ** (k - 1)
            rank = code - 2 ** (k - 1) if negative else code
            if code == (2 ** (k - 1) if signed else 2**k - 1):
                assert math.isnan(level)
            elif extended and rank == (2 ** (k - 1) - 1 if signed else 2**k - 2):
                assert level == (-math.inf if negative else math.inf)
            else:
                m, e = rank % 2 ** (p - 1), rank // 2 ** (p - 1)
                value = Fraction(m + (2 ** (p - 1) if e else 0)) * Fraction(2) ** ((e or 1) - bias - p + 1)
                assert Fraction(level) == (-value if negative else value), (name, code)


def test_p3109_by_the_report() -> None:
    # the report's tables: Binary8p3se 0x3F..0x41, 0x7E, Binary8p4uf 0xFE
    assert [levels("Binary8p3se")[code] for code in (0x3F, 0x40, 0x41, 0x7E, 0x7F)] == [0.875, 1, 1.25, 49152, math.inf]
    assert levels("Binary3p1ue")[:3] == [0, 0.125, 0.25]


def test_p3109_beyond_float64() -> None:
    with pytest.raises(kb.KbitError, match=r"^levels: Binary16p1se, float64 does not hold all of them; "):
        kb.datatype("Binary16p1se").levels  # noqa: B018
    # level 2**-2047 * 2**code / 2: 3 * 2**-2000 lies halfway between two levels, and the even code wins
    assert kb.exact.encode("Binary13p1sf", Fraction(3, 2**2000)) % 2 == 0
    assert kb.datatype("Binary13p1sf").definition.values[-1] == Fraction(2) ** (4095 - 2048)


# Codebooks --------------------------------------------------------------------------------------


def test_dynamic_by_the_paper() -> None:
    close(levels("dynamic3"), [-0.775, -0.325, -0.055, 0, 0.055, 0.325, 0.775, 1], 1e-7)
    printed = [-0.8875, -0.6625, -0.4375, -0.2125, -0.0775, -0.0325, -0.0055, 0]
    printed += [0.0055, 0.0325, 0.0775, 0.2125, 0.4375, 0.6625, 0.8875, 1]
    close(levels("dynamic4"), printed, 1e-7)
    lowest = [levels(f"dynamic{bits}")[0] for bits in range(3, 9)]
    close(lowest, [-0.775, -0.8875, -0.94375, -0.971875, -0.9859375, -0.99296875], 1e-7)
    for bits in range(2, 9):
        assert len(emitted(f"dynamic{bits}")) == len(emitted(f"udynamic{bits}")) == 2**bits
        assert 1 in levels(f"dynamic{bits}")
        assert -1 not in levels(f"dynamic{bits}")


def test_dynamic_is_the_table_of_bitsandbytes() -> None:
    # entries 0, 1, 2, 40, 100, 128, 200, 254, 255 of create_dynamic_map(), bitsandbytes 0.50.2
    printed = (
        "-0x1.fc6666p-1 -0x1.f53334p-1 -0x1.eep-1 -0x1.b8ccccp-2 -0x1.e978d4p-8 0x1.27476ep-21 "
        "0x1.de6666p-3 0x1.fc6666p-1 0x1p+0"
    )
    at = [0, 1, 2, 40, 100, 128, 200, 254, 255]
    assert [levels("dynamic8")[i] for i in at] == [float.fromhex(text) for text in printed.split()]


NF4 = [
    *(-1.0, -0.6961928009986877, -0.5250730514526367, -0.39491748809814453, -0.28444138169288635),
    *(-0.18477343022823334, -0.09105003625154495, 0.0, 0.07958029955625534, 0.16093020141124725),
    *(0.24611230194568634, 0.33791524171829224, 0.44070982933044434, 0.5626170039176941, 0.7229568362236023, 1.0),
]


def test_nf4_is_published_bit_for_bit() -> None:
    assert levels("nf4") == NF4


def test_nf4_comes_out_of_its_recipe() -> None:
    from scipy.stats import norm

    offset = 0.9677083
    positive = norm.ppf(two_ended_linspace(offset, 0.5, 9)[:-1])
    negative = -norm.ppf(two_ended_linspace(offset, 0.5, 8)[:-1])
    made = np.sort(np.concatenate([positive, [0], negative]).astype(np.float32))
    assert (made / made.max()).tolist() == NF4


def test_other_quantile_types_by_print() -> None:
    close(levels("nf3"), [-1, -0.535023, -0.246931, 0, 0.183337, 0.381994, 0.622986, 1], 5e-7)
    printed = [-1, -0.70125, -0.53095, -0.40112, -0.29088, -0.18615, -0.09300, -0.00250]
    printed += [0, 0.08793, 0.18086, 0.28513, 0.39459, 0.52297, 0.68996, 1]
    close(levels("quantile4"), printed, 5.1e-6)
    close(levels("quantile3"), [-1, -0.54422, -0.24986, -0.00288, 0, 0.24986, 0.53636, 1], 5.1e-6)
    printed = [-1, -0.627781, -0.454736, -0.334331, -0.237434, -0.152899, -0.074982, 0]
    printed += [0.065513, 0.132965, 0.204661, 0.283835, 0.375805, 0.491076, 0.656781, 1]
    close(levels("sf4"), printed, 5.1e-7)


def test_published_block_types_are_the_printed_tables() -> None:
    af4 = "-1 -.69441008 -.51243739 -.3736951 -.25607552 -.14982478 -.04934812 0 .04273164 .12934483 .21961274 "
    af4 += ".31675666 .42563882 .55496234 .72424863 1"
    bof4 = "-1 -.7535245 -.5792037 -.4385999 -.3167680 -.2059924 -.1015388 0 .0887245 .1793770 .2741500 .3758211 "
    bof4 += ".4884938 .6187059 .7790452 1"
    bof4s = "-.8568464 -.6692874 -.5235266 -.4004883 -.2910638 -.1900093 -.0938530 0 .0887672 .1794803 .2743096 "
    bof4s += ".3760197 .4886530 .6188604 .7791396 1"
    for name, text in (("af4_b64", af4), ("bof4_b64", bof4), ("bof4s_b64", bof4s)):
        assert levels(name) == np.array(text.split(), np.float32).tolist()


def test_constructions_come_near_the_printed_tables() -> None:
    # PAPER: the rule for AF4 comes within 9e-4; BOF4's integrals were evaluated by Monte Carlo there
    close(quantile.compute_abnormal_float(64).tolist(), levels("af4_b64"), 9e-4)
    close(quantile.compute_block_optimal_float(64, signed=False).tolist(), levels("bof4_b64"), 5e-4)
    close(quantile.compute_block_optimal_float(64, signed=True).tolist(), levels("bof4s_b64"), 5e-4)


@pytest.mark.parametrize("name", literals.computations)
def test_literals_come_out_again(name: str) -> None:
    computed = literals.computations[name]().astype(np.float32)
    committed = literals.literal(name).astype(np.float32)
    one_ulp = np.spacing(np.maximum(np.abs(computed), np.abs(committed)))
    assert np.all(np.abs(computed - committed) <= one_ulp)


def test_fp4_bnb_has_its_published_codes() -> None:
    twelfths = [0, 0.0625, 8, 12, 4, 6, 2, 3]
    printed = [0, 0.0052083333, 0.6666667, 1, 0.3333333, 0.5, 0.1666667, 0.25]
    close([level * 12 for level in levels("fp4_bnb")[:8]], twelfths, 1e-6)
    close(levels("fp4_bnb")[:8], printed, 5e-8)
    assert [-level for level in levels("fp4_bnb")[9:]] == levels("fp4_bnb")[1:8]
    assert kb.datatype("fp4_bnb").unused == (8,)


# Lloyd ------------------------------------------------------------------------------------------

DISTORTION = {  # PAPER, section 5, to its printed digits
    2: ".1174818",
    3: ".03454776",
    4: ".009501008",
    5: ".002504668",
    6: "6.442397e-4",
    7: "1.634782e-4",
    8: "4.118508e-5",
}


def test_every_lloyd_type_has_its_distortion_here() -> None:
    assert {f"lloyd{bits}" for bits in DISTORTION} == {name for name in kb.datatypes() if name.startswith("lloyd")}


@pytest.mark.parametrize("bits", DISTORTION)
def test_lloyd_distortion(bits: int) -> None:
    from scipy.special import ndtr

    y = np.array(emitted(f"lloyd{bits}"))
    edges = np.concatenate([[-np.inf], (y[1:] + y[:-1]) / 2, [np.inf]])
    density = np.exp(-(np.clip(edges, -40, 40) ** 2) / 2) / math.sqrt(2 * math.pi)
    mass = np.diff(ndtr(edges))
    mean = density[:-1] - density[1:]  # of x over the cell, times its mass
    edge_term = np.where(np.isinf(edges), 0, edges) * density
    square = mass + edge_term[:-1] - edge_term[1:]
    distortion = float((square - 2 * y * mean + y * y * mass).sum())
    printed = DISTORTION[bits]
    digits = len(printed.partition("e")[0].lstrip(".0").replace(".", ""))
    assert float(f"{distortion:.{digits - 1}e}") == float(printed)
