"""Numbers compared to the bit, and bfloat16 read: by hand."""

import numpy as np
import pytest

from kbit_ref.arithmetic import identity, same, widened

NAN = np.array([0x7FC00000, 0xFFC00001, 0x7F800001], np.uint32).view(np.float32)  # quiet, negative, signalling


def test_any_nan_is_any_other_and_nothing_else():
    assert same(NAN[:, None], NAN).all()
    others = [np.inf, 0.0, -0.0, np.float32(3e38)]
    assert not same(NAN[:, None], others).any()
    assert len(set(identity(NAN).tolist())) == 1


def test_the_signs_of_zeros_count_unless_told():
    assert same([0.0, -0.0, 0.0], [0.0, -0.0, -0.0]).tolist() == [True, True, False]
    assert same(0.0, -0.0, zeros=False)
    assert not same(5e-324, 0.0, zeros=False)


@pytest.mark.parametrize("a", [1.0, 5e-324, 1e308, -np.inf])
def test_neighbours_are_not_the_same(a):
    assert same(a, a)
    assert not same(a, np.nextafter(a, 0.5))


def test_integers_are_compared_as_integers():
    assert not same(np.uint64(2**63), np.uint64(2**63 + 1))
    assert same(np.int8(-1), np.int64(-1))
    assert not same(np.int8(-1), np.uint8(255))
    assert same(np.array(3.0), 3)


def test_bfloat16_is_the_upper_half_of_a_float32():
    words = np.array([0x0001, 0x8000, 0x3F80, 0x7F7F, 0xFF80], np.uint16)
    assert widened(words).tolist() == [2.0**-133, 0.0, 1.0, (2 - 2.0**-7) * 2.0**127, -np.inf]
    assert widened(words[::2]).tolist() == [2.0**-133, 1.0, -np.inf]
    assert widened(np.float16([1.5]), "float16").dtype == np.float16
