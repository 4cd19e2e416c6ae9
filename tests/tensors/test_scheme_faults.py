"""Faults that a reviewer planted in the engine, and that other tests let pass: each is found by a test here.

Expected values are by hand, from the rationals of `kb.exact`, or from a sum in Python's floats.
"""

import sys
from fractions import Fraction
from typing import Any

import numpy as np
import pytest

import kbit_ref as kb
from kbit_ref.arithmetic import Arithmetic, odd_quotient
from kbit_ref.tensors import kernels
from kbit_ref.tensors.scales import _is_power_of_two

F = np.float32
Array = np.ndarray[Any, Any]


def both(x: Any, text: str) -> kb.QTensor:
    """What the engine stores, if the definition stores the same codes and scales."""
    q, wanted = kb.quantize(x, text), kb.exact.quantize(x, text)
    assert kb.scheme(text).cut.rows(q.codes).tolist() == wanted.codes
    assert q.scales.ravel().tolist() == [float(block.scale) for row in wanted.rows for block in row]
    return q


# Pieces and groups of a layout ----------------------------------------------------------------------------------------


def test_a_piece_that_begins_within_a_byte_is_not_aligned() -> None:
    assert kernels.aligned([(slice(2, 3), 0, 3)], 3, 2)  # its first element is the 6th
    assert not kernels.aligned([(slice(1, 2), 0, 3)], 3, 2)  # the 3rd: the second half of a byte
    assert not kernels.aligned([(slice(0, 1), 3, 4)], 4, 2)


def test_pieces_begin_a_group_where_they_can() -> None:
    rows = [row for row, _, _ in kernels.pieces_of(5, 3, 3, 2, 9)]  # two rows of 3 fill three bytes of two
    assert rows == [slice(0, 2), slice(2, 4), slice(4, 5)]
    columns = [begin for _, begin, _ in kernels.pieces_of(1, 200, 6, 4, 66)]  # 60 are whole blocks of 6 and groups of 4
    assert columns == [0, 60, 120, 180]


@pytest.mark.parametrize("threads", [1, 2])
def test_rows_of_odd_length_in_pieces(threads: int, monkeypatch: pytest.MonkeyPatch) -> None:
    x = np.random.default_rng(0).standard_normal((4, 33)).astype(F)
    whole = kb.quantize(x, "nf4-b3@-1-absmax-f32")
    values = kb.dequantize(whole)
    for verb in ("quantize", "dequantize"):
        for name in {"PIECE", "CHUNK"} & set(vars(sys.modules[f"kbit_ref.tensors.{verb}"])):
            monkeypatch.setattr(sys.modules[f"kbit_ref.tensors.{verb}"], name, 12)
    again = kb.quantize(x, "nf4-b3@-1-absmax-f32", threads=threads)
    assert again.packed.tolist() == whole.packed.tolist()
    assert kb.dequantize(again, threads=threads).tolist() == values.tolist()


# Arithmetic -----------------------------------------------------------------------------------------------------------


def on_the_right_side(a: float, b: float) -> bool:
    """Is the odd quotient exact, or an odd neighbour of the true one?"""
    got, true = float(odd_quotient(np.float64(a), np.float64(b))), Fraction(a) / Fraction(b)
    if Fraction(got) == true:
        return True
    other = np.nextafter(got, np.inf if true > Fraction(got) else -np.inf)
    odd = bool(np.float64(got).view(np.uint64) % 2 == 1)
    beyond = not np.isfinite(other)
    return odd and (beyond or min(got, other) < true < max(got, other))


def test_odd_quotients_next_to_a_float() -> None:
    rng = np.random.default_rng(0)
    n = 1 + rng.integers(0, 2**52, 400) / 2.0**52
    q = 1 + rng.integers(0, 2**52, 400) / 2.0**52
    for a, b in zip((n * q).tolist(), n.tolist(), strict=True):  # a / b is within half a step of q
        for numerator in (a, np.nextafter(a, 9), -a):
            assert on_the_right_side(float(numerator), b)


@pytest.mark.parametrize(
    ("a", "b", "wanted"),
    [
        *((5e-324, 4.0, 5e-324), (-5e-324, 4.0, -5e-324), (5e-324, -1e300, -5e-324)),  # not 0, which would be exact
        *((1e308, 1e-3, 1.7976931348623157e308), (-1e308, 5e-324, -1.7976931348623157e308)),  # not infinite
        *((0.0, 3.0, 0.0), (6.0, 3.0, 2.0)),
    ],
)
def test_ends_of_odd_quotients(a: float, b: float, wanted: float) -> None:
    assert float(odd_quotient(np.float64(a), np.float64(b))) == wanted


def test_float64_is_rounded_to_bfloat16_once() -> None:
    # 1 + 2**-8 is the tie of 1 and 1 + 2**-7, and the even one is 1; a little more goes up, but is the tie in float32
    for x, wanted in ((1 + 2.0**-8, 1), (1 + 2.0**-8 + 2.0**-40, 1 + 2.0**-7), (1 + 2.0**-8 - 2.0**-40, 1)):
        assert float(Arithmetic("bfloat16").round(np.float64(x))) == wanted


def test_quotients_of_float64_for_pow2rceil() -> None:
    # the float32 above 1 is 1 + 2**-23, and 1 + 2**-24 the tie, which goes to 1; a quotient above it needs the scale 2
    tie = 6 * (1 + 2.0**-24)
    for x, wanted in ((6.0, 1), (tie, 1), (np.nextafter(tie, 7), 2), (np.nextafter(tie, 0), 1), (6.000001, 2)):
        assert both(np.float64([x, 0]), "e2m1fn-tensor-pow2rceil-e8m0fnu").scales.tolist() == [[wanted]]
    # float32 numbers below the normal ones are further apart: 3 * 2**-150 is a tie, and goes to 2**-148
    tie = 6 * 3 * 2.0**-150
    for x, wanted in ((tie, 2.0**-148), (np.nextafter(tie, 0), 2.0**-149), (np.nextafter(tie, 1), 2.0**-148)):
        assert both(np.float64([x, 0]), "e2m1fn-tensor-pow2rceil-f32").scales.tolist() == [[wanted]]


# Scales ---------------------------------------------------------------------------------------------------------------


def test_the_order_of_reciprocals_of_a_divisor() -> None:
    # times fl(1 / fl(224 * fl(1 / global))) the last number is the tie 0.25, code 0; over it in another order, code 1
    x = np.zeros((1, 32), F)
    x[0, 0], x[0, 16], x[0, 17] = 4.731957912445068, 2.32503080368042, 0.09858246147632599
    assert both(x, "nvfp4-te").codes[0, [0, 16, 17]].tolist() == [7, 7, 0]


def test_a_least_scale_is_a_number_of_the_arithmetic() -> None:
    # 1e-5 is 0x3727c5ac in float32, 0x3728 in bfloat16
    q = both(np.zeros(4, F), "int4-tensor-absmax-f32+compute=bfloat16+leastscale=1e-5")
    assert q.scales.view(np.uint32).tolist() == [[0x37280000]]


@pytest.mark.parametrize(
    ("word", "wanted"),
    [
        *((0x00000000, False), (0x00400000, False), (0x00800000, True), (0x3F800000, True), (0x3F800001, False)),
        *((0x7F000000, True), (0x7F800000, False), (0x7FC00000, False), (0xBF800000, False)),  # 2**127, inf, NaN, -1
    ],
)
def test_which_words_are_powers_of_two(word: int, wanted: bool) -> None:
    assert _is_power_of_two(np.array([word], np.uint32).view(F)) == wanted
    assert not _is_power_of_two(np.array([word, 0x3F800001], np.uint32).view(F))


def test_padding_counts_beside_an_infinity() -> None:
    # the rule sees 5, 0, 0: range 0 to 5
    q = both(np.float32([5, np.inf]), "uint4-b4-minmax-f32+tail=pad+inf=saturate")
    assert (q.scales.tolist(), q.offsets.tolist()) == ([[float(F(5) / F(15))]], [[0]])  # type: ignore[union-attr]


def test_the_first_of_equal_magnitudes_beside_an_infinity() -> None:
    q = both(np.float32([-np.inf, 4, -4]), "int4-tensor-signedmax-f32+inf=saturate+signedtie=negative")
    assert q.scales.tolist() == [[0.5]]  # -4 over -8


def test_errors_of_clip_are_those_of_float64(monkeypatch: pytest.MonkeyPatch) -> None:
    work = sys.modules["kbit_ref.tensors.quantize"].Work
    right, found = work.error, []

    def error(self: Any, p: Any) -> Array:
        errors: Array = right(self, p)
        for x, scale, got in zip(p.numbers, p.stored[:, 0], errors[:, 0], strict=True):
            values = kb.decode("int4", kb.encode("int4", x / scale)) * scale
            total = 0.0
            for number, value in zip(x.tolist(), values.tolist(), strict=True):
                total += (number - value) ** 2
            found.append((got, total))
        return errors

    monkeypatch.setattr(work, "error", error)
    kb.quantize(np.random.default_rng(0).standard_normal((6, 5)).astype(F), "int4-b5-clip-f32")
    assert len(found) == 6 * 25
    assert all(got == total for got, total in found)


def test_hqq_takes_1_up_to_its_least_span() -> None:
    least = F(1e-4)
    assert both(np.array([0, least]), "uint4-tensor-hqq-f32").scales.tolist() == [[1]]
    assert both(np.array([0, np.nextafter(least, F(1))]), "uint4-tensor-hqq-f32").scales[0, 0] < 1e-3


# Codes and back -------------------------------------------------------------------------------------------------------


def test_integers_are_counted_in_float64() -> None:
    # 0.49999997 + 0.5 is 1 in float32
    below = np.nextafter(F(0.5), F(0))
    assert both(np.array([15, below, 0.5], F), "uint4-tensor-absmax-f32+encoder=addround").codes.tolist() == [15, 0, 1]


def test_float64_beside_a_float32_midpoint() -> None:
    levels = kb.datatype("nf4").levels.astype(F)
    middle = float((levels[0] + levels[1]) * F(0.5))
    x = np.array([1, middle, np.nextafter(middle, 0)])
    assert both(x, "nf4-tensor-absmax-f32+encoder=midpoints32").codes.tolist() == [15, 0, 1]


def test_an_infinite_offset_leaves_infinities_alone() -> None:
    # stored in half precision the offset -1e6 is -inf, and so is the scale: 15 * inf stays inf, 15 * inf - inf is NaN
    text = "uint4-tensor-minmax-f16+scalerange=keep+scaleuse=unrounded"
    q = both(np.float32([-1e6, 1e6]), text)
    assert q.codes.tolist() == [0, 15]
    assert kb.dequantize(q)[1] == np.inf
    assert kb.exact.dequantize(kb.exact.quantize(np.float32([-1e6, 1e6]), text), text)[0][1] == np.inf


def test_an_infinity_takes_no_offset() -> None:
    # -inf - -inf is NaN; all others are inf above the offset
    text = "uint4-tensor-minmax-f16+scalerange=keep+inf=saturate"
    assert both(np.float32([-70000, -69990, -np.inf]), text).codes.tolist() == [15, 15, 0]


def test_unpack_takes_as_many_bytes_as_there_are() -> None:
    for n in (1, 3):
        with pytest.raises(kb.KbitError, match=rf"^unpack: buffer of {n} bytes, 3 codes in low4 take 2; "):
            kb.unpack(bytes(n), "low4", 3)
