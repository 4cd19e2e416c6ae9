"""Rate and distortion: printed digits, another implementation, quadrature, and samples."""

import math

import numpy as np
import pytest
from scipy import integrate, stats

import kbit_ref as kb
from kbit_ref.errors import BadInput, UnknownName
from kbit_ref.study.distortion import of_type, table, text
from kbit_ref.study.sources import SOURCES, lloyd_max, source

LLOYD = {  # Lloyd-Max for N(0, 1) as printed: distortion, decibels, distortion * 4**bits
    2: (".1174818", "9.300", "1.8797"),
    3: (".03454776", "14.616", "2.2111"),
    4: (".009501008", "20.222", "2.4323"),
    5: (".002504668", "26.013", "2.5648"),
    6: ("6.442397e-4", "31.910", "2.6388"),
    7: ("1.634782e-4", "37.865", "2.6784"),
    8: ("4.118508e-5", "43.853", "2.6991"),
}
UNIFORM = {  # the best uniform one of 2**bits levels
    1: ".3633802",
    2: ".1188460",
    3: ".03743966",
    4: ".01154288",
    5: ".003495211",
    6: "1.040045e-3",
    7: "3.043328e-4",
    8: "8.768619e-5",
}
BLOCKS = (16, 32, 64, 128, 256, 1024, 4096)
SQNR = {  # decibels of absmax blocks as printed, from 2**24 normal numbers, +-.01
    "int3": (14.03, 12.90, 12.00, 11.25, 10.62, 9.56, 8.71),
    "kfloat3": (14.33, 13.50, 12.91, 12.45, 12.06, 11.41, 10.83),
    "dynamic3": (13.17, 12.54, 12.00, 11.55, 11.16, 10.55, 10.10),
    "quantile3": (14.59, 13.70, 13.03, 12.50, 12.05, 11.30, 10.66),
    "int4": (21.39, 20.26, 19.36, 18.62, 17.98, 16.92, 16.07),
    "kfloat4": (15.48, 14.87, 14.51, 14.31, 14.22, 14.18, 14.20),
    "e2m1fn": (20.52, 19.90, 19.52, 19.26, 19.07, 18.78, 18.50),
    "fp4_bnb": (19.64, 18.85, 18.28, 17.82, 17.42, 16.70, 16.05),
    "dynamic4": (18.46, 17.74, 17.12, 16.58, 16.13, 15.39, 14.82),
    "quantile4": (21.33, 20.66, 20.20, 19.87, 19.59, 19.11, 18.66),
    "nf4": (21.85, 21.18, 20.73, 20.39, 20.12, 19.64, 19.19),
    "af4_b64": (21.54, 20.85, 20.39, 20.04, 19.76, 19.29, 18.86),
    "sf4": (20.41, 19.91, 19.66, 19.54, 19.50, 19.47, 19.39),
    "bof4_b64": (22.45, 21.60, 20.97, 20.47, 20.04, 19.31, 18.68),
    "bof4s_b64": (22.78, 21.95, 21.34, 20.84, 20.41, 19.68, 19.06),
}
ENTROPIES = {"int4": 3.501, "kfloat4": 3.500, "e2m1fn": 3.818, "quantile4": 3.882, "nf4": 3.885, "sf4": 3.936}


def half_a_digit(printed: str) -> float:
    """Half of the last printed digit."""
    number, _, exponent = printed.partition("e")
    return 0.5 * 10.0 ** (int(exponent or 0) - len(number.partition(".")[2])) * (1 + 1e-9)


@pytest.mark.parametrize("bits", LLOYD)
def test_lloyd_max_to_the_printed_digits(bits: int) -> None:
    (row,) = of_type(f"lloyd{bits}", "normal", [0])
    distortion, decibels, ratio = LLOYD[bits]
    assert abs(row.distortion - float(distortion)) <= half_a_digit(distortion)
    assert abs(row.sqnr - float(decibels)) <= 0.001
    assert abs(row.distortion * 4**bits - float(ratio)) <= half_a_digit(ratio)
    assert row.width == bits
    assert row.above_at_width == pytest.approx(math.log2(row.distortion * 4**bits) / 2, rel=1e-12)


@pytest.mark.parametrize("bits", UNIFORM)
def test_the_best_uniform_to_the_printed_digits(bits: int) -> None:
    (row,) = of_type(f"uint{bits}", "normal", [0])
    assert abs(row.distortion - float(UNIFORM[bits])) <= 1.02 * half_a_digit(UNIFORM[bits])  # 2 bits: .11884605


def test_entropy_coded_uniform_is_a_quarter_of_a_bit_above_the_bound() -> None:
    """log2(2 pi e / 12) / 2 where steps are small: here 1/64; types of more than 8 bits have scale 1."""
    fine = kb.DataType.from_levels(np.arange(-512, 512) / 64)
    (row,) = of_type(fine, "normal", [0])
    assert abs(row.above_at_entropy - math.log2(2 * math.pi * math.e / 12) / 2) < 1e-4


@pytest.mark.parametrize("name", SQNR)
def test_absmax_blocks_to_the_printed_digits(name: str) -> None:
    rows = of_type(name, "normal", BLOCKS)
    assert {row.how for row in rows} == {"integral"}
    assert np.abs(np.array([row.sqnr for row in rows]) - SQNR[name]).max() <= 0.0151
    if name in ENTROPIES:
        row = rows[BLOCKS.index(64)]
        assert abs(row.entropy - 16 / 64 - ENTROPIES[name]) < 0.0011


def test_student_blocks_to_the_printed_digits() -> None:
    (kfloat,) = of_type("kfloat4", "t3", [64])
    (int4,) = of_type("int4", "t3", [64])
    assert round(kfloat.sqnr, 1) == 16.1
    assert abs(int4.sqnr - 14.8) < 0.1


@pytest.mark.parametrize("name", ["t3", "t5", "normal"])
@pytest.mark.parametrize(("type_", "block", "rule"), [("nf4", 64, "absmax"), ("bof4s_b64", 16, "signedmax")])
def test_the_integral_is_what_a_sample_gives(name: str, type_: str, block: int, rule: str) -> None:
    """Other numbers, drawn by NumPy's own generators, through quantize and dequantize."""
    rng = np.random.default_rng(5)
    s = SOURCES[name]
    x = rng.standard_normal(2**18) if name == "normal" else rng.standard_t(s.nu, 2**18) / math.sqrt(s.nu / (s.nu - 2))
    q = kb.quantize(x, f"{type_}-b{block}-{rule}-f32")
    blocks = ((x - kb.dequantize(q)) ** 2).reshape(-1, block).mean(axis=1)
    (row,) = of_type(type_, name, [block])
    assert abs(blocks.mean() - row.distortion) < 4 * blocks.std() / math.sqrt(blocks.size)
    p = np.bincount(q.codes.reshape(-1)) / x.size
    assert abs(stats.entropy(p, base=2) - (row.entropy - 16 / block)) < 0.02


@pytest.mark.parametrize("s", SOURCES.values(), ids=SOURCES)
@pytest.mark.parametrize("x", [0.0, 0.7, 3.0, 20.0])
def test_tails_by_quadrature(s, x: float) -> None:
    scale = 1 if math.isinf(s.nu) else math.sqrt((s.nu - 2) / s.nu)
    law = stats.norm if math.isinf(s.nu) else stats.t(s.nu, scale=scale)
    for power, got in enumerate(s.tails(np.array(x))):
        expected, _ = integrate.quad(lambda y, j=power: y**j * law.pdf(y), x, np.inf, epsabs=0, epsrel=1e-9, limit=400)
        assert float(got) == pytest.approx(expected, rel=1e-8)
    assert float(s.beyond(s.tails(np.array(x))[0])) == pytest.approx(x, rel=1e-9, abs=1e-9)
    assert s.entropy * math.log(2) == pytest.approx(float(law.entropy()), rel=1e-9)


def test_the_bound_of_a_normal_source_is_the_rate_distortion_function() -> None:
    s = source("normal")
    assert [s.bound(rate) for rate in (0.0, 1.0, 4.0)] == pytest.approx([1, 1 / 4, 1 / 256], rel=1e-12)
    assert [s.rate(d) for d in (2.0, 1.0, 1 / 16)] == pytest.approx([0, 0, 2], abs=1e-12)


def test_lloyd_max_of_a_source() -> None:
    """The types of the registry come from another program."""
    for bits in (2, 5, 8):
        assert lloyd_max("normal", bits) == pytest.approx(np.sort(kb.datatype(f"lloyd{bits}").levels), rel=1e-6)


@pytest.mark.parametrize("name", ["t5", "t3"])
def test_no_neighbour_of_lloyd_max_is_better(name: str) -> None:
    levels = lloyd_max(name, 3)
    least = raw_distortion(levels, name)
    for i in range(len(levels) // 2):  # the others are their mirror image
        for factor in (0.98, 1.02):
            moved = levels.copy()
            moved[i] *= factor
            assert raw_distortion(moved, name) > least


def raw_distortion(levels, name: str) -> float:
    """By quadrature."""
    s = SOURCES[name]
    law = stats.t(s.nu, scale=math.sqrt((s.nu - 2) / s.nu))
    edges = [-np.inf, *((levels[1:] + levels[:-1]) / 2), np.inf]
    parts = zip(edges[:-1], edges[1:], levels, strict=True)
    return sum(integrate.quad(lambda y, c=c: (y - c) ** 2 * law.pdf(y), a, b, epsabs=1e-9)[0] for a, b, c in parts)


def test_what_a_type_stores_is_counted() -> None:
    widths = {name: of_type(name, "normal", [0, 64]) for name in ("int4", "uint4", "ue4m3", "lloyd4")}
    assert {name: [row.width for row in rows] for name, rows in widths.items()} == {
        "int4": [4, 4.25],
        "uint4": [4, 4.5],  # an offset as well
        "ue4m3": [8, 8.25],  # 7 bits and a sign
        "lloyd4": [4, 4.25],
    }
    assert [rows[1].how for rows in widths.values()] == ["integral", "sample", "integral", "sample"]


def test_lloyd_in_large_blocks_is_lloyd_at_one_scale() -> None:
    one, block = of_type("lloyd4", "normal", [0, 4096])
    assert block.sqnr == pytest.approx(one.sqnr, abs=0.05)


def test_every_type_of_the_registry_has_rows() -> None:
    rows = table(sources=["normal"], blocks=[0])
    assert [row.type for row in rows] == list(kb.datatypes())
    assert all(0 < row.distortion < 1 and row.above_at_width > 0.2 for row in rows)
    assert all(row.above_at_entropy > 0.2 for row in rows if row.type not in ("uint1", "binary"))
    assert of_type("bf16", "normal", [64]) == []  # without a scale, so without blocks


def test_the_table_in_lines() -> None:
    rows = table(["int4sym", "nf4"], ["normal", "t3"], [0, 64])
    lines = [line for part in text(rows, "width") for line in part.splitlines()]
    assert lines[0] == "normal: bits above Shannon's bound, codes at their width"
    assert lines[1].split() == ["type", "one", "scale", "64"]
    assert lines[4] == ""
    assert lines[5].startswith("t3: ")
    shown = [float(cell) for line in (*lines[2:4], *lines[7:9]) for cell in line.split()[1:]]
    ordered = sorted(rows, key=lambda row: ["normal", "t3"].index(row.source))
    assert shown == [round(row.above_at_width, 3) for row in ordered]


def test_mistakes_are_told() -> None:
    with pytest.raises(UnknownName, match="did you mean normal"):
        of_type("nf4", "normla")
    with pytest.raises(UnknownName, match="there is no such name"):
        of_type("nf44", "normal")
    with pytest.raises(BadInput, match="a block has at least 2 numbers"):
        of_type("nf4", "normal", [1])
    with pytest.raises(UnknownName, match="measure"):
        list(text([], "bits"))
