"""Bytes laid by hand, and every layout against its own list of places."""

import math
from collections.abc import Sequence
from fractions import Fraction

import numpy as np
import pytest

import kbit_ref as kb
from kbit_ref.tensors import packing

# Codes, and the bytes a person wrote down for them.
GOLDEN = {
    "low1": ([1, 0, 1, 1, 0, 0, 0, 1, 1], [0b10001101, 0b1]),
    "low2": ([1, 2, 3, 0, 3], [0b00_11_10_01, 0b11]),
    "low4": ([0x1, 0x2, 0xF], [0x21, 0x0F]),
    "low8": ([0x12, 0xFF], [0x12, 0xFF]),
    "high1": ([1, 0, 1, 1, 0, 0, 0, 1, 1], [0b10110001, 0b10000000]),
    "high2": ([1, 2, 3, 0, 3], [0b01_10_11_00, 0b11_000000]),
    "high4": ([0x1, 0x2, 0xF], [0x12, 0xF0]),
    "high8": ([0x12, 0xFF], [0x12, 0xFF]),
    # 3 bits, codes 1 2 3 4 5 6 7 0: the number 1 + 2*8 + 3*64 + ... = 0o07654321 = 0x1F58D1
    "lsb3": ([1, 2, 3, 4, 5, 6, 7, 0], [0xD1, 0x58, 0x1F]),
    # the same written from the left: 001 010 011 100 101 110 111 000
    "msb3": ([1, 2, 3, 4, 5, 6, 7, 0], [0b00101001, 0b11001011, 0b10111000]),
    "lsb2": ([1, 2, 3, 0], [0b00_11_10_01, 0]),
    "msb2": ([1, 2, 3, 0], [0b01_10_11_00, 0]),
    "lsb4": ([1, 2], [0x21, 0, 0, 0]),
    "msb4": ([1, 2], [0x12, 0, 0, 0]),
    # 5 bits: 31 + 1*32 + 2*1024 = 0x083F
    "lsb5": ([31, 1, 2], [0x3F, 0x08, 0, 0, 0]),
    "msb5": ([31, 1, 2], [0b11111_000, 0b01_00010_0, 0, 0, 0]),
    # 6 bits: 33 + 2*64 + 3*4096 = 0x30A1
    "lsb6": ([33, 2, 3], [0xA1, 0x30, 0, 0, 0, 0]),
    "msb6": ([33, 2, 3], [0b100001_00, 0b0010_0000, 0b11_000000, 0, 0, 0]),
    # 7 bits: 127 + 1*128 = 0xFF
    "lsb7": ([127, 1], [0xFF, 0, 0, 0, 0, 0, 0]),
    "msb7": ([127, 1], [0b1111111_0, 0b000001_00, 0, 0, 0, 0, 0]),
    "lsb8": ([1, 2], [1, 2, 0, 0, 0, 0, 0, 0]),
    "msb8": ([1, 2], [1, 2, 0, 0, 0, 0, 0, 0]),
    # ten 3-bit codes in a word, two bits left over: 7 + 7 * 8**9 = 0x38000007
    "word3": ([7, 0, 0, 0, 0, 0, 0, 0, 0, 7, 1], [0x07, 0, 0, 0x38, 0x01, 0, 0, 0]),
    "word2": ([3] + [0] * 14 + [2], [3, 0, 0, 0x80]),
    "word4": ([1, 2, 3, 4, 5, 6, 7, 8], [0x21, 0x43, 0x65, 0x87]),
    # six 5-bit codes: 31 * 32**5 = 0x3E000000
    "word5": ([0, 0, 0, 0, 0, 31, 1], [0, 0, 0, 0x3E, 1, 0, 0, 0]),
    # five 6-bit codes: 63 * 64**4 = 0x3F000000
    "word6": ([0, 0, 0, 0, 63, 1], [0, 0, 0, 0x3F, 1, 0, 0, 0]),
    # four 7-bit codes: 127 * 128**3 = 0x0FE00000
    "word7": ([0, 0, 0, 127, 1], [0, 0, 0xE0, 0x0F, 1, 0, 0, 0]),
    "word8": ([1, 2, 3, 4], [1, 2, 3, 4]),
    # nibble i holds element 0 2 4 6 1 3 5 7
    "awq4": ([0, 1, 2, 3, 4, 5, 6, 7], [0x20, 0x64, 0x31, 0x75]),
    # byte j: element j low, element j + 16 high
    "split4x32": (list(range(16)) + [15] * 16, [0xF0 | j for j in range(16)]),
    "split4x16": ([1] * 8 + [2] * 8, [0x21] * 8),
    "split4x64": ([1] * 32 + [2] * 32, [0x21] * 32),
    "split4x128": ([1] * 64 + [2] * 64, [0x21] * 64),
    "split4x256": ([1] * 128 + [2] * 128, [0x21] * 128),
    # byte j: elements j, j + 4, j + 8, j + 12 from the lowest bits
    "split2x16": ([0] * 4 + [1] * 4 + [2] * 4 + [3] * 4, [0b11_10_01_00] * 4),
    "split2x32": ([0] * 8 + [1] * 8 + [2] * 8 + [3] * 8, [0b11_10_01_00] * 8),
    "split2x64": ([0] * 16 + [1] * 16 + [2] * 16 + [3] * 16, [0b11_10_01_00] * 16),
    "split2x128": ([0] * 32 + [1] * 32 + [2] * 32 + [3] * 32, [0b11_10_01_00] * 32),
    "split2x256": ([0] * 64 + [1] * 64 + [2] * 64 + [3] * 64, [0b11_10_01_00] * 64),
}
# 5 bits: element 0 = 0x1F (low nibble F of byte 0, high bit 0), element 16 = 0x12 (high nibble 2, high bit 16)
GOLDEN["ggml5x32"] = ([0x1F, *[0] * 15, 0x12], [0x01, 0, 0x01, 0, 0x2F, *[0] * 15])
# to base 3: element 0 = 2 is v = 162, 162 * 256 / 243 = 170.67; element 32 = 1 adds 27: 189 * 256 / 243 = 199.1;
# element 160 = 1: 81 * 256 / 243 = 85.3; element 252 = 2 is the fourth digit of byte 48: 6 * 256 / 243 = 6.3
_trits = [0] * 256
_trits[0], _trits[32], _trits[160], _trits[252] = 2, 1, 1, 2
GOLDEN["trits2x256"] = (_trits, [200, *[0] * 31, 86, *[0] * 15, 7, 0, 0, 0])
# planes: elements 0 and 9 have all bits set, so each plane is 01 02 00 00 (and 4 more bytes of 0 for 64)
for _bits in range(2, 9):
    _codes = [2**_bits - 1, *[0] * 8, 2**_bits - 1]
    GOLDEN[f"planes{_bits}x32"] = (_codes, [1, 2, 0, 0] * _bits)
    GOLDEN[f"planes{_bits}x64"] = (_codes, [1, 2, 0, 0, 0, 0, 0, 0] * _bits)


def test_every_layout_has_golden_bytes() -> None:
    assert set(GOLDEN) == set(kb.layouts())


@pytest.mark.parametrize("name", kb.layouts())
def test_golden_bytes(name: str) -> None:
    codes, data = GOLDEN[name]
    assert kb.pack(codes, name).tolist() == data
    assert kb.unpack(bytes(data), name, len(codes)).tolist() == codes


def pack_by_places(codes: Sequence[int], form: packing.Layout) -> list[int]:
    """What a layout says, bit by bit."""
    n_groups = -(-len(codes) // form.elements)
    if form.digits:
        padded = [*codes, *[0] * (n_groups * form.elements - len(codes))]
        groups = [padded[i : i + form.elements] for i in range(0, len(padded), form.elements)]
        numbers = [sum(g[e] * 3 ** (4 - i) for i, e in enumerate(d)) for g in groups for d in form.digits]
        return [math.ceil(Fraction(v * 256, 243)) for v in numbers]
    out = [0] * (n_groups * form.bytes)
    for group in range(n_groups):
        for position, place in enumerate(form.places):
            if place is not None:
                at = group * form.elements + place[0]
                code = codes[at] if at < len(codes) else 0
                out[group * form.bytes + position // 8] |= (code >> place[1] & 1) << position % 8
    return out


@pytest.mark.parametrize("name", kb.layouts())
@pytest.mark.parametrize("n", [0, 1, 2, 31, 33, 257])
def test_pack_and_unpack(name: str, n: int) -> None:
    form = kb.layout(name)
    codes = np.random.default_rng(n).integers(0, form.codes, n).astype(np.uint8)
    packed = kb.pack(codes, name)
    assert packed.tolist() == pack_by_places(codes.tolist(), form)
    assert np.array_equal(kb.unpack(packed, name, n), codes)


@pytest.mark.parametrize("name", ["low4", "high4", "lsb3", "split4x32"])
def test_pieces(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    codes = np.random.default_rng(0).integers(0, 2 ** kb.layout(name).bits, 1001).astype(np.uint8)
    whole = kb.pack(codes, name)
    monkeypatch.setattr(packing, "PIECE", 64)
    assert np.array_equal(kb.pack(codes, name), whole)
    assert np.array_equal(kb.unpack(whole, name, 1001), codes)


def test_every_bit_has_one_place() -> None:
    for name in kb.layouts():
        form = kb.layout(name)
        if form.digits:
            assert sorted(element for byte in form.digits for element in byte) == list(range(form.elements))
            continue
        places = [place for place in form.places if place is not None]
        assert sorted(places) == [(element, bit) for element in range(form.elements) for bit in range(form.bits)]


def test_errors() -> None:
    with pytest.raises(kb.KbitError, match=r"^pack: codes\[1\] = 16, codes of 4 bits are 0 to 15; "):
        kb.pack([1, 16], "low4")
    with pytest.raises(kb.KbitError, match=r"^pack: codes\[1\] = 3, trits2x256 writes codes 0 to 2; "):
        kb.pack([1, 3], "trits2x256")
    with pytest.raises(kb.KbitError, match=r"^unpack: buffer of 1 bytes, 3 codes in low4 take 2; "):
        kb.unpack(b"\x00", "low4", 3)
    with pytest.raises(kb.KbitError, match=r"^layout: name = 'low3', there is no such name; did you mean low"):
        kb.layout("low3")
    with pytest.raises(kb.KbitError, match=r"^unpack: buffer of dtype int32, packed codes are uint8; "):
        kb.unpack(np.zeros(2, np.int32), "low4", 4)
