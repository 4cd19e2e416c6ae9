"""One tensor of a file into its entries in another, and back, a piece at a time."""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from itertools import groupby
from typing import Any

import numpy as np
from numpy.typing import NDArray

from kbit_ref.checkpoints.container import NUMPY
from kbit_ref.checkpoints.grid import put
from kbit_ref.checkpoints.large import LargeBlocks, streams
from kbit_ref.checkpoints.pieces import AT_ONCE, Piece, contiguous, copied, of_a_piece, part_of, pieces
from kbit_ref.checkpoints.stored import Part, assembled, scales_again, values_of
from kbit_ref.checkpoints.table import Tensor
from kbit_ref.engine.codec import encode
from kbit_ref.errors import BadInput
from kbit_ref.tensors.cut import Cut
from kbit_ref.tensors.dequantize import dequantize
from kbit_ref.tensors.packing import pack_into
from kbit_ref.tensors.quantize import quantize, whole_of
from kbit_ref.tensors.scheme import Scheme

__all__ = ["Views", "dequantize_tensor", "memory_for", "quantize_tensor"]

Array = NDArray[Any]
Views = Mapping[str, NDArray[np.uint8]]  # the bytes of the entries of a tensor, by the fields of a QTensor
Done = Callable[[int], None]  # so many bytes of the tensor are done

OF_AN_ELEMENT, OF_A_BLOCK = 26, 16  # bytes of memory, at most, where blocks or their scales go through at once


def memory_for(tensor: Tensor) -> tuple[int, str]:
    """The bytes of memory that a tensor takes beyond those of its pieces, about, and the reason."""
    s = tensor.scheme
    n_rows, length = s.cut.grid(tensor.shape)
    width = min(s.cut.size or length, length)
    large = OF_AN_ELEMENT * width if width > AT_ONCE else 0
    if s.double is not None:
        return OF_A_BLOCK * n_rows * s.cut.per_row(length) + large, "all its scales are quantized again together"
    who = "center=block" if s["center"] == "block" else s.rule
    return 0 if streams(s) else large, f"{who} needs all of a block together"


def quantize_tensor(
    x: Array, tensor: Tensor, views: Views, threads: int | None, done: Done
) -> None:
    """Fill the entries of a tensor; x is how it lies in the file, and is read a piece at a time."""
    s, bfloat16, own = tensor.scheme, tensor.dtype == "BF16", tensor.parts
    if s.double is not None:  # the codes into the file, the scales in memory
        _store(own, views, values_of(quantize(x, s, bfloat16=bfloat16, threads=threads, out=views["packed"][:])))
        done(x.nbytes)
        return
    # what belongs to the whole tensor; only a mean asks for the order of the cut
    like = s if s["center"] == "tensor" else replace(s, cut=Cut("tensor"))
    whole = whole_of(x, like, bfloat16=bfloat16)
    mean = None if whole.mean is None else np.full((1, 1), whole.mean, np.float32)
    of_whole = [part for part in own if part.kind == "whole"]
    _store(of_whole, views, {"global_scale": whole.global_scale, "offsets": mean})

    def numbers(piece: Piece) -> Array:
        return contiguous(part_of(x, s.cut, piece), piece.shape)

    def quantized(piece: Piece) -> None:
        q = quantize(numbers(piece), of_a_piece(s), bfloat16=bfloat16, threads=threads, whole=whole)
        put(views["packed"], s.layout, piece.elements, q.packed, s.fill)
        _store(own, views, values_of(q), piece)
        done(piece.elements.size * x.itemsize)

    def large(group: Sequence[Piece]) -> None:
        blocks, size = group[0].blocks, sum(piece.shape[1] for piece in group)
        some = LargeBlocks(s, x, bfloat16, whole, blocks.shape[0], (s.cut.size or size) - size)
        for piece in group:
            some.see(numbers(piece))
            done(0)
        _store(own, views, some.settle(), group[0])
        for piece in group:
            packed = np.empty(s.layout.size(piece.elements.size), np.uint8)
            pack_into(packed, some.codes(numbers(piece)), s.layout, 0, s.fill)
            put(views["packed"], s.layout, piece.elements, packed, s.fill)
            done(piece.elements.size * x.itemsize)

    short = s.cut.size is not None and s.cut.grid(tensor.shape)[1] % s.cut.size != 0
    split = streams(s) and not (short and s["tail"] == "error")  # `quantize` will refuse it
    every = pieces(s.cut, tensor.shape, s.layout.elements, _group(own), split=split)
    for _, same in groupby(every, key=lambda piece: piece.blocks):
        group = list(same)
        try:
            quantized(group[0]) if group[0].whole else large(group)
        except BadInput as error:
            for piece in group:
                _name_the_place(error, s, tensor.shape, piece, numbers(piece), bfloat16)
            raise


def _group(own: Sequence[Part]) -> int:
    """How many numbers of blocks make a group, where some are packed."""
    return max(part.layout.elements if part.layout else 1 for part in own)


def _name_the_place(
    error: BadInput, s: Scheme, shape: tuple[int, ...], piece: Piece, numbers: Array, bfloat16: bool
) -> None:
    """Raise the error of a piece as one of the tensor, if it is about one element of this piece."""
    place = re.compile(r"quantize: x\[(\d+), (\d+)\]")
    if place.match(str(error)) is None:  # a large block refuses an element without its place: `quantize` knows it
        try:
            quantize(numbers, replace(s, cut=Cut("channel", None, 0)), bfloat16=bfloat16)
        except BadInput as told:
            error = told
    if match := place.match(str(error)):
        row, column = piece.elements.rows[0] + int(match[1]), piece.elements.columns[0] + int(match[2])
        index = ", ".join(map(str, s.cut.place(shape, row, column)))
        raise BadInput(f"quantize: x[{index}]{str(error)[match.end() :]}") from None


def _store(own: Sequence[Part], views: Views, values: Mapping[str, Any], piece: Piece | None = None) -> None:
    """All but the codes."""
    for part in own:
        found: Any = values
        for name in part.path.split("."):
            found = (found if isinstance(found, Mapping) else values_of(found)).get(name)
            if found is None:  # the mean of no finite number: it stays 0
                break
        if found is not None and part.path != "packed":
            part.write(found, views[part.path], piece.blocks if piece and part.kind == "blocks" else None)


def dequantize_tensor(tensor: Tensor, raw: Views, place: Array, threads: int | None, done: Done) -> None:
    """The numbers of a tensor from its entries, into a file."""
    s = tensor.scheme
    scales = scales_again(s, tensor.shape, raw)
    left = tensor.n_bytes
    for piece in pieces(s.cut, tensor.shape, s.layout.elements, _group(tensor.parts)):
        q = assembled(s, tensor.shape, raw, piece, scales)
        numbers: Array = dequantize(q, threads=threads)
        if tensor.dtype == "BF16":
            numbers = encode("bf16+overflow=ieee", numbers, threads=threads)
        part = part_of(place, s.cut, piece)
        with np.errstate(over="ignore", under="ignore", invalid="ignore"):
            numbers = numbers.astype(NUMPY[tensor.dtype], copy=False)  # rounded once
        copied(part, numbers.reshape(part.shape))
        left -= q.packed.nbytes
        done(q.packed.nbytes)
    done(left)
