"""Hypothesis strategies: data types, schemes, and arrays in which mistakes show. Needs the extra `test`.

    subjects   `datatypes`: which 2**bits numbers; `schemes`: everything else that decides the bytes
    numbers    `levels_of`: numbers that a type has; `near_midpoints`: halfway between two, and next to that
    blocks     `blocks`: one block of a scheme: ties, subnormals, the maximum, an outlier, zeros, a short tail, NaN
    tensors    `tensors`: arrays of blocks, in many shapes and orders of memory; `packed`: the bytes of codes
    search     `simplest`: the simplest example for which something holds

Each says where its examples shrink to. Names, choices, rules and layouts come from the registries.
"""

from kbit_ref.strategies.blocks import KINDS, blocks
from kbit_ref.strategies.numbers import levels_of, near_midpoints
from kbit_ref.strategies.search import simplest
from kbit_ref.strategies.subjects import datatypes, schemes
from kbit_ref.strategies.tensors import packed, tensors

__all__ = [
    "KINDS",
    "blocks",
    "datatypes",
    "levels_of",
    "near_midpoints",
    "packed",
    "schemes",
    "simplest",
    "tensors",
]
