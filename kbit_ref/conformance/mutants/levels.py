"""Mistakes of `level`: what number a code is. Where writer and reader share the mistake, `encode` has it too."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace

import numpy as np

from kbit_ref.conformance.mutants.registry import CONSTRUCTED, mutant
from kbit_ref.conformance.steps import Array, Codes, Steps, reference
from kbit_ref.datatype import DataType, datatype
from kbit_ref.scheme import Scheme

__all__ = ["table"]


def table(steps: Steps) -> Array:
    """float32 [2**bits]: what the steps read every code as."""
    return steps.level(np.arange(2**steps.scheme.dtype.bits, dtype=np.uint8))


def reads_table(steps: Steps, levels: Array) -> Steps:
    """Steps that read codes by another table."""
    narrow = np.asarray(levels, np.float32)
    return replace(steps, level=lambda codes: narrow[codes])


def shares_table(steps: Steps, change: Callable[[Array], Array]) -> Steps | None:
    """Steps of a writer and a reader that share another table."""
    s = steps.scheme
    levels = change(table(steps).astype(np.float64)).astype(np.float32).astype(np.float64)
    if np.array_equal(levels, table(steps), equal_nan=True) or s["encoder"].startswith("bnb"):
        return None
    d = s.dtype
    wrong = DataType(d.name, d.bits, levels, d.unused, d.ties, d.overflow, d.zero_sign)
    other = reference(Scheme(wrong, s.cut, s.rule, s.scale_dtype, s.choices), steps.arithmetic.name)
    return replace(steps, encode=other.encode, level=other.level)


def _kind(steps: Steps) -> str:
    """The name of the type without its bits: int, oint, uint, ..."""
    return steps.scheme.dtype.name.partition("+")[0].rstrip("0123456789")


def _codebook(steps: Steps) -> bool:
    """Is the type a list of numbers that somebody typed or computed?"""
    return steps.scheme.dtype.family not in ("integer", "float", "p3109")


# Whole numbers ------------------------------------------------------------------------------------


@mutant("sign-not-extended", "level", source="https://github.com/jax-ml/jax/issues/17672")
def sign_not_extended(steps: Steps) -> Steps | None:
    """The sign bit of a two's complement code is not extended: negative codes are read as large positive ones."""
    return reads_table(steps, np.arange(2**steps.scheme.dtype.bits)) if _kind(steps) == "int" else None


@mutant("excess-as-twos-complement", "level", source="https://github.com/1bit-MONSTER/1bit-MONSTER/pull/572")
def excess_as_twos_complement(steps: Steps) -> Steps | None:
    """A code that counts from the lowest level (excess 2^(bits-1)) is read as two's complement."""
    bits = steps.scheme.dtype.bits
    return reads_table(steps, datatype(f"int{bits}").levels) if _kind(steps) == "oint" else None


@mutant("twos-complement-as-excess", "level", source="https://github.com/casper-hansen/AutoAWQ/issues/275")
def twos_complement_as_excess(steps: Steps) -> Steps | None:
    """A two's complement code is read as if it counted from the lowest level (excess 2^(bits-1))."""
    bits = steps.scheme.dtype.bits
    return reads_table(steps, datatype(f"oint{bits}").levels) if _kind(steps) == "int" else None


@mutant("excess-one-less", "level", source="https://github.com/tile-ai/tilelang/issues/2477")
def excess_one_less(steps: Steps) -> Steps | None:
    """Code - (2^(bits-1) - 1) is read, excess 7 for 4 bits, whatever the code means."""
    bits = steps.scheme.dtype.bits
    if _kind(steps) not in ("int", "oint"):
        return None
    return reads_table(steps, np.arange(2**bits) - (2 ** (bits - 1) - 1))


@mutant("excess-one-more", "level", source=CONSTRUCTED)
def excess_one_more(steps: Steps) -> Steps | None:
    """Code - (2^(bits-1) + 1) is read, excess 9 for 4 bits."""
    bits = steps.scheme.dtype.bits
    if _kind(steps) not in ("int", "oint"):
        return None
    return reads_table(steps, np.arange(2**bits) - (2 ** (bits - 1) + 1))


@mutant("borrow-across-bytes", "level", source="https://github.com/gittensor-ai-lab/sparkinfer/pull/723")
def borrow_across_bytes(steps: Steps) -> Steps | None:
    """The nibbles of a word become numbers by one subtraction of 32 bits: a negative one borrows from the next byte."""
    if _kind(steps) not in ("int", "oint") or steps.scheme.dtype.bits != 4:
        return None
    flip = np.uint32(0x08080808 if _kind(steps) == "int" else 0)

    def wrong(codes: Codes) -> Array:
        flat = codes.reshape(-1)
        lanes = np.zeros(-(-flat.size // 8) * 8, np.uint8)
        lanes[: flat.size] = flat
        pairs = np.ascontiguousarray(lanes.reshape(-1, 4, 2).transpose(0, 2, 1))  # low nibbles, high nibbles
        words = (pairs.view(np.uint32)[..., 0] ^ flip) - np.uint32(0x08080808)
        numbers = words[..., None].view(np.int8).transpose(0, 2, 1).reshape(-1)
        return numbers[: flat.size].astype(np.float32).reshape(codes.shape)

    return replace(steps, level=wrong)
