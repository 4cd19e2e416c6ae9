"""Codes and scales back to an array.

    bytes --unpack--> codes [n, size] --decode--> levels, * scales [n, 1], + offsets --join--> [*shape]
"""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

from kbit_ref.arithmetic import Arithmetic
from kbit_ref.engine.codec import CHUNK, decode, in_pieces
from kbit_ref.inputs import as_out
from kbit_ref.tensors.kernels import STRETCH, Room, aligned, levels_times, pieces_of, whole_bytes
from kbit_ref.tensors.packing import unpack, unpack_from
from kbit_ref.tensors.qtensor import QTensor
from kbit_ref.tensors.scales import effective
from kbit_ref.tensors.scheme import Scheme

__all__ = ["dequantize", "values_of"]

Array = NDArray[Any]


def dequantize(
    q: QTensor,
    *,
    threads: int | None = None,
    out: NDArray[np.float32] | None = None,
    room: Room | None = None,
) -> NDArray[np.float32]:
    """Dequantize a QTensor: level * scale, then + offset, each rounded to float32.

    Parameters
    ----------
    q
        What `quantize` gave.
    threads
        How many to use; by default as many as help.
    out : [*shape]
        float32, C-contiguous: where to write.
    room
        Memory for intermediate results that earlier calls have used, for one thread (`kernels.Room`); many small
        calls are faster with it.

    Returns
    -------
    float32 [*shape]
    """
    s, form = q.scheme, q.scheme.layout
    result = as_out("dequantize", out, q.shape, np.dtype(np.float32), q.packed)
    rows = s.cut.rows(result)
    n_rows, length = rows.shape
    direct = np.may_share_memory(rows, result)
    values = rows if direct else np.empty(rows.shape, np.float32)
    width = s.cut.size or max(length, 1)
    used = effective(s, Arithmetic("float32"), q.global_scale, q.scales)
    plain = values.flags.c_contiguous and q.zero_points is None and q.offsets is None
    plain = plain and whole_bytes(form, width) and s.dtype.level_dtype == np.float32
    about = STRETCH if plain else CHUNK
    pieces = pieces_of(n_rows, length, width, form.elements, about)
    flat = None if aligned(pieces, length, form.elements) else unpack(q.packed, form, q.size).reshape(rows.shape)
    plain = plain and flat is None

    def piece(row: slice, begin: int, end: int, room: Room) -> None:
        at = row, slice(begin // width, end // width)
        if plain and (end - begin) % width == 0:
            packed = q.packed[(row.start * length + begin) // form.elements :]
            levels_times(s, packed, used[at].reshape(-1, 1), values[row, begin:end].reshape(-1, width), room)
            return
        if flat is None:
            count = (row.stop - row.start) * (end - begin)
            codes = unpack_from(q.packed, form, row.start * length + begin, count).reshape(-1, end - begin)
        else:
            codes = flat[row, begin:end]
        full = begin + (end - begin) // width * width
        for first, last, size in ((begin, full, width), (full, end, end - full)):
            if first == last:
                continue
            at = row, slice(first // width, -(-last // width))
            part = np.ascontiguousarray(codes[:, first - begin : last - begin]).reshape(-1, size)
            zero = None if q.zero_points is None else q.zero_points[at].reshape(-1, 1)
            offset = q.offsets
            if offset is not None and s["center"] != "tensor":
                offset = offset[at].reshape(-1, 1)
            target = values[row, first:last]
            target[...] = values_of(s, part, used[at].reshape(-1, 1), zero, offset).reshape(target.shape)

    in_pieces(
        *(len(pieces), 1 if room else threads, 1, lambda i, _, room: piece(*pieces[i], room)),
        *(lambda _: room or Room(q.size if plain else 0), about, "dequantize"),
    )
    if not direct:
        result[...] = s.cut.join(values, q.shape)
    return result


def values_of(s: Scheme, codes: NDArray[np.uint8], scale: Array, zero: Array | None, offset: Array | None) -> Array:
    """[n, size]: the numbers of codes of blocks, float32; scale, zero point and offset are [n, 1]."""
    if zero is None:
        levels = decode(s.dtype, codes, threads=1)
    else:
        levels = decode(s.dtype, codes, threads=1) - zero
    with np.errstate(all="ignore"):
        values = np.divide(levels, scale) if s["scaleas"] == "divisor" else np.multiply(levels, scale, out=levels)
        if offset is not None:
            finite = np.isfinite(values)
            np.add(values, offset, out=values, where=finite)
    return np.asarray(values, np.float32)
