"""Mistakes of `pack` and `unpack`: which bit lies in which byte."""

from __future__ import annotations

import math
from dataclasses import replace

import numpy as np

from kbit_ref.conformance.variants.registry import CONSTRUCTED, mutant
from kbit_ref.tensors.packing import Layout, layout, unpack
from kbit_ref.tensors.steps import Codes, Steps

__all__: list[str] = []

Grid = tuple[int, int]  # rows, and codes in a row


def reads(steps: Steps, other: Layout) -> Steps | None:
    """Return steps that unpack as another layout does, as far as the bytes go."""
    if other.bits != steps.scheme.dtype.bits or other.name == steps.scheme.layout.name:
        return None

    return replace(steps, unpack=lambda packed, grid: _as_far_as_they_go(packed, other, grid))


def _as_far_as_they_go(packed: Codes, form: Layout, grid: Grid) -> Codes:
    """Return bytes unpacked in a layout for which they may be too few, zeros after them, or too many."""
    n = math.prod(grid)
    filled = np.zeros(form.size(n), np.uint8)
    filled[: packed.size] = packed[: filled.size]
    return unpack(filled, form, n).reshape(grid)


@mutant("nibbles-swapped", "unpack", source="sgl-project/sglang/pull/23625")
def nibbles_swapped(steps: Steps) -> Steps | None:
    """The codes of a byte are read from the other end: the first one from the high bits instead of the low ones."""
    now = steps.scheme.layout.name
    other = {"low": "high", "hig": "low"}.get(now[:3])
    bits = steps.scheme.dtype.bits
    return reads(steps, layout(f"{other}{bits}")) if other and bits < 8 else None


@mutant("nibbles-packed-swapped", "pack", source="bitsandbytes-foundation/bitsandbytes/issues/1472")
def nibbles_packed_swapped(steps: Steps) -> Steps | None:
    """The codes are packed from the other end of each byte."""
    now, bits = steps.scheme.layout.name, steps.scheme.dtype.bits
    if now[:3] not in ("low", "hig") or bits == 8:
        return None
    return replace(steps, pack=lambda codes: _ends_swapped(steps.pack(codes), bits))


def _ends_swapped(packed: Codes, bits: int) -> Codes:
    """Return the fields of each byte, last first."""
    fields = [(packed >> at) & (2**bits - 1) for at in range(0, 8, bits)]
    swapped = sum(part.astype(np.uint16) << (8 - bits - at) for part, at in zip(fields, range(0, 8, bits), strict=True))
    return np.asarray(swapped, np.uint8)


@mutant("split-read-linear", "unpack", source="kekzl/imp/pull/567")
def split_read_linear(steps: Steps) -> Steps | None:
    """The codes of a block that are stored split (j, j + half) are read in pairs of neighbours (2j, 2j + 1)."""
    if not steps.scheme.layout.name.startswith("split"):
        return None
    return reads(steps, layout(f"low{steps.scheme.dtype.bits}"))


@mutant("linear-read-split", "unpack", source="ModelCloud/GPTQModel/pull/3058", size=(32, 16, 64, 128, 256))
def linear_read_split(steps: Steps, size: int = 32) -> Steps | None:
    """The codes of each {size}-block are read split (j, j + half) instead of in a row (2j, 2j + 1)."""
    if steps.scheme.layout.name[:3] not in ("low", "lsb") or steps.scheme.dtype.bits not in (2, 4):
        return None
    return reads(steps, layout(f"split{steps.scheme.dtype.bits}x{size}"))


@mutant("awq-order-missed", "unpack", source="mit-han-lab/llm-awq/issues/91")
def awq_order_missed(steps: Steps) -> Steps | None:
    """The nibbles of a word in AWQ's order (0 2 4 6 1 3 5 7) are read in a row."""
    return reads(steps, layout("lsb4")) if steps.scheme.layout.name == "awq4" else None


@mutant("awq-order-inverted", "unpack", source="casper-hansen/AutoAWQ/issues/275")
def awq_order_inverted(steps: Steps) -> Steps | None:
    """The nibbles of a word in AWQ's order are put back by that order instead of by its inverse."""
    if steps.scheme.layout.name != "awq4":
        return None
    order = np.array([0, 2, 4, 6, 1, 3, 5, 7])

    def wrong(packed: Codes, grid: Grid) -> Codes:
        fields = np.stack([packed & 15, packed >> 4], axis=-1).reshape(-1, 8)  # in a row
        return fields[:, order].reshape(-1)[: math.prod(grid)].reshape(grid)

    return replace(steps, unpack=wrong)


@mutant("row-read-as-awq", "unpack", source="vllm-project/llm-compressor/issues/1613")
def row_read_as_awq(steps: Steps) -> Steps | None:
    """The nibbles of a word, stored in a row, are read in AWQ's order (0 2 4 6 1 3 5 7)."""
    return reads(steps, layout("awq4")) if steps.scheme.layout.name in ("low4", "lsb4") else None


@mutant("big-endian-word", "unpack", source="ollama/ollama/pull/17826", size=(4, 2, 8))
def big_endian_word(steps: Steps, size: int = 4) -> Steps | None:
    """The bytes of each word of {size} are read in big-endian order."""

    def wrong(packed: Codes, grid: Grid) -> Codes:
        whole = packed.size // size * size
        turned = packed[:whole].reshape(-1, size)[:, ::-1].reshape(-1)
        return steps.unpack(np.concatenate([turned, packed[whole:]]), grid)

    return replace(steps, unpack=wrong)


@mutant("stream-read-by-words", "unpack", source="vllm-project/compressed-tensors/pull/732")
def stream_read_by_words(steps: Steps) -> Steps | None:
    """A dense stream of bits is read as words of 32 // bits codes each, with the bits left over empty."""
    bits = steps.scheme.dtype.bits
    dense = steps.scheme.layout.name == f"lsb{bits}" and bits in (3, 5, 6, 7)
    return reads(steps, layout(f"word{bits}")) if dense else None


@mutant("words-read-as-stream", "unpack", source="vllm-project/compressed-tensors/pull/715")
def words_read_as_stream(steps: Steps) -> Steps | None:
    """Words of 32 // bits codes each are read as a dense stream of bits."""
    bits = steps.scheme.dtype.bits
    sparse = steps.scheme.layout.name == f"word{bits}" and bits in (3, 5, 6, 7)
    return reads(steps, layout(f"lsb{bits}")) if sparse else None


@mutant("stream-from-the-high-bit", "unpack", source="llmmanorg/llmman/pull/56")
def stream_from_the_high_bit(steps: Steps) -> Steps | None:
    """The stream of bits is read from the highest bit of each byte and code instead of the lowest."""
    bits = steps.scheme.dtype.bits
    return reads(steps, layout(f"msb{bits}")) if steps.scheme.layout.name == f"lsb{bits}" and bits < 8 else None


@mutant("wrong-stride", "unpack", source="Fantom-foundation/Carmen/pull/514", lost=(1, 2, 4))
def wrong_stride(steps: Steps, lost: int = 1) -> Steps | None:
    """Codes are masked for another width: the {lost} highest bits of each are lost."""
    bits = steps.scheme.dtype.bits
    mask = np.uint8(2 ** max(bits - lost, 0) - 1)
    return replace(steps, unpack=lambda packed, grid: steps.unpack(packed, grid) & mask) if bits > lost else None


@mutant("codes-shifted", "unpack", source="paiml/aprender/issues/2115", by=(1, -1, 2, -2))
def codes_shifted(steps: Steps, by: int = 1) -> Steps | None:
    """Codes are read {by:+d} bits from where they are: shifted up if positive, and masked."""
    bits = steps.scheme.dtype.bits
    if abs(by) >= bits:
        return None
    up, down, mask = np.uint8(max(by, 0)), np.uint8(max(-by, 0)), np.uint8(2**bits - 1)
    return replace(steps, unpack=lambda packed, grid: (steps.unpack(packed, grid) << up & mask) >> down)


@mutant("codes-of-another-width", "unpack", source="ml-explore/mlx-lm/issues/1451", by=(-1, 1, -2, 2, 4, -4))
def codes_of_another_width(steps: Steps, by: int = -1) -> Steps | None:
    """The bytes are read as a stream of codes of another width, {by:+d} bits; of wider ones the low bits are used."""
    bits = steps.scheme.dtype.bits
    if not 1 <= bits + by <= 8 or steps.scheme.layout.digits:
        return None
    other = layout(f"low{bits + by}" if bits + by in (1, 2, 4, 8) else f"lsb{bits + by}")
    mask = np.uint8(2**bits - 1)
    return replace(steps, unpack=lambda packed, grid: _as_far_as_they_go(packed, other, grid) & mask)


@mutant("a-code-a-byte", "unpack", source="safetensors/safetensors/issues/839")
def a_code_a_byte(steps: Steps) -> Steps | None:
    """Every byte is taken for one code, its low bits: the bytes end early, and what is left is code 0."""
    bits = steps.scheme.dtype.bits
    if bits == 8:
        return None
    form, mask = layout("low8"), np.uint8(2**bits - 1)
    return replace(steps, unpack=lambda packed, grid: _as_far_as_they_go(packed, form, grid) & mask)


@mutant("rows-read-padded", "unpack", source=CONSTRUCTED)
def rows_read_padded(steps: Steps) -> Steps | None:
    """Each row is read as if it began at a byte of its own, though the codes of a row go on in the last byte."""
    form = steps.scheme.layout
    if form.elements == 1 or steps.scheme.cut.axis is None:
        return None

    def wrong(packed: Codes, grid: Grid) -> Codes:
        size = form.size(grid[1])
        if grid[1] % form.elements == 0:
            return steps.unpack(packed, grid)
        filled = np.zeros(grid[0] * size, np.uint8)
        filled[: packed.size] = packed[: filled.size]
        rows = [steps.unpack(filled[row * size :][:size], (1, grid[1])) for row in range(grid[0])]
        return np.concatenate(rows)

    return replace(steps, unpack=wrong)


@mutant("rows-padded", "pack", "unpack", source=CONSTRUCTED)
def rows_padded(steps: Steps) -> Steps | None:
    """Each row is packed, and read, as bytes of its own, the last one filled up."""
    read = rows_read_padded(steps)
    if read is None:
        return None

    def wrong(codes: Codes) -> Codes:
        return np.concatenate([steps.pack(row.reshape(1, -1)) for row in np.atleast_2d(codes)])

    return replace(read, pack=wrong)


@mutant(
    "bytes-not-written",
    "pack",
    source="ml-explore/mlx/issues/4250",
    where=("last", "tail", "all", "last block's", "last code's", "last odd code's", "rows' last blocks'"),
    holds=("0", "0xa5"),
)
def bytes_not_written(steps: Steps, where: str = "last", holds: str = "0") -> Steps | None:
    """The packer does not write its {where} bytes, which hold {holds}.

    The last byte; the tail: from the last whole block on; all; those of the last block, or of the last code (in rows
    of an odd length only), of which the other bits of a byte are written; of the last block of every row.
    """
    size = steps.cut.size
    if size is None and where in ("tail", "last block's", "rows' last blocks'"):
        return None
    by_code = ("last block's", "last code's", "last odd code's", "rows' last blocks'")
    if where in by_code[2:] and holds != "0":  # of these only what zeros leave is told
        return None

    def wrong(codes: Codes) -> Codes:
        packed, width = steps.pack(codes).copy(), size or 1
        n, length = codes.size, codes.shape[-1]
        first = {"last": n, "all": 0, "tail": n // width * width, "last code's": max(n - 1, 0)}
        last = length % width or min(width, length)
        first |= {"last block's": n - last, "last odd code's": n - length % 2, "rows' last blocks'": n}
        if where in by_code and holds == "0":
            written = np.arange(n).reshape(codes.shape) < first[where]
            if where == "rows' last blocks'":
                written = written & (np.arange(length) < length - last)
            return steps.pack(np.where(written, codes, np.uint8(0)))
        begin = packed.size - 1 if where == "last" else -(-first[where] * packed.size // max(n, 1))
        packed[begin:] = int(holds, 16)
        return packed

    return replace(steps, pack=wrong)


@mutant("high-bits-in-pairs", "unpack", source="paiml/aprender/pull/1656")
def high_bits_in_pairs(steps: Steps) -> Steps | None:
    """The fifth bits and the nibbles of a block are read for neighbours (2j, 2j + 1) instead of for j and j + 16."""
    if steps.scheme.layout.name != "ggml5x32":
        return None

    def wrong(packed: Codes, grid: Grid) -> Codes:
        """Return 4 bytes of fifth bits, 16 of nibbles, [n_blocks, 20]."""
        blocks = packed.reshape(-1, 20)
        high = np.unpackbits(blocks[:, :4], axis=1, bitorder="little")
        low = np.stack([blocks[:, 4:] & 15, blocks[:, 4:] >> 4], axis=-1).reshape(-1, 32)
        return np.asarray((low | high << 4).reshape(-1)[: math.prod(grid)].reshape(grid))

    return replace(steps, unpack=wrong)


@mutant("high-bit-inverted", "unpack", source="ggml-org/llama.cpp/blob/master/ggml/src/ggml-quants.c")
def high_bit_inverted(steps: Steps) -> Steps | None:
    """The highest bit of each code is read inverted, as Q3_K's mask is."""
    bits = steps.scheme.dtype.bits
    if bits not in (3, 5, 6):
        return None
    return replace(steps, unpack=lambda packed, grid: steps.unpack(packed, grid) ^ np.uint8(2 ** (bits - 1)))


@mutant("header-too-short", "unpack", source="ml-explore/mlx/pull/3664", size=(2, 1, 4))
def header_too_short(steps: Steps, size: int = 2) -> Steps | None:
    """Each group of codes is read {size} bytes too early, where the header of its block still is (taken as zeros)."""
    form = steps.scheme.layout
    if form.bytes <= size:
        return None

    def wrong(packed: Codes, grid: Grid) -> Codes:
        groups = packed.reshape(-1, form.bytes)
        early = np.concatenate([np.zeros((len(groups), size), np.uint8), groups[:, :-size]], axis=1)
        return steps.unpack(np.ascontiguousarray(early).reshape(-1), grid)

    return replace(steps, unpack=wrong)


@mutant("byte-not-cleared", "pack", source="bitsandbytes-foundation/bitsandbytes/pull/1721")
def byte_not_cleared(steps: Steps) -> Steps | None:
    """The variable that collects a byte is not cleared: every byte also holds the bits of the one before it."""
    if steps.scheme.dtype.bits == 8:
        return None

    def wrong(codes: Codes) -> Codes:
        packed = steps.pack(codes)
        before = np.concatenate([packed[:1] * 0, packed[:-1]])
        return np.asarray(packed | before, np.uint8)

    return replace(steps, pack=wrong)


@mutant("packed-byte-saturates", "pack", source="keras-team/keras/pull/22338")
def packed_byte_saturates(steps: Steps) -> Steps | None:
    """A packed byte beyond 127 saturates there, in signed arithmetic, instead of wrapping."""
    if steps.scheme.dtype.bits == 8:
        return None
    return replace(steps, pack=lambda codes: np.minimum(steps.pack(codes), np.uint8(127)))
