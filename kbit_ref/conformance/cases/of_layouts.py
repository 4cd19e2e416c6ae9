"""Codes to pack."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np

from kbit_ref.conformance.cases.registry import Given, case
from kbit_ref.tensors.packing import Layout


@case("numbered-bits", Layout, catches="elements, bits, nibbles or bytes in another order")
def numbered_bits(layout: Layout) -> Iterator[Given]:
    """groups in which each bit of each element spells its own number, one binary digit a group: no two places alike"""
    elements = np.arange(layout.elements)
    if layout.digits:  # a code is one digit to base 3
        groups = [(elements + 1 >> j & 1) * (layout.codes - 1) for j in range(layout.elements.bit_length())]
    else:
        number = elements[:, None] * layout.bits + np.arange(layout.bits) + 1  # [elements, bits]
        weight = 2 ** np.arange(layout.bits)
        groups = [((number >> j & 1) * weight).sum(axis=1) for j in range(int(number.max()).bit_length())]
    yield Given(f"{len(groups)} groups", {"codes": np.concatenate(groups).astype(np.uint8)})


@case(
    "pairs",
    Layout,
    catches="nibbles in another order, a sign that spreads into the other nibble",
    applies=lambda layout: layout.bits == 4,
)
def pairs(layout: Layout) -> Iterator[Given]:
    """every pair of nibbles, one after the other"""
    codes = np.arange(512, dtype=np.uint16)
    yield Given("every pair", {"codes": np.where(codes % 2, codes // 2 % 16, codes // 32).astype(np.uint8)})


@case("short-group", Layout, catches="a last group that is lost, or not filled up with code 0")
def short_group(layout: Layout) -> Iterator[Given]:
    """one code more than a group, one less, one alone, none"""
    for n in dict.fromkeys([layout.elements + 1, max(1, layout.elements - 1), 1, 0]):
        codes = (np.arange(n) * 7 + 5) % layout.codes
        yield Given(f"{n} codes", {"codes": codes.astype(np.uint8)}, "quick" if n == layout.elements + 1 else "full")


@case(
    "code-out-of-range",
    Layout,
    catches="a code that is cut, or that changes its neighbour, instead of an error",
    applies=lambda layout: layout.codes < 256,
)
def code_out_of_range(layout: Layout) -> Iterator[Given]:
    """the first code that is too large for the layout"""
    codes = np.zeros(min(layout.elements, 8), np.uint8)
    codes[-1] = layout.codes
    yield Given(f"a code of {layout.codes}", {"codes": codes})
