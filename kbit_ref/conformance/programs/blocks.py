"""Lines of a scheme against the definition: a batch of rows, part by part, in the terms of the judge of blocks."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import numpy as np
from numpy.typing import NDArray

from kbit_ref.conformance import decoding
from kbit_ref.conformance.compare import Compared, compare, likely_layout
from kbit_ref.conformance.definition import block_index, independent, reference, repacked
from kbit_ref.conformance.implementations.programs.grammar import Form, Words, split
from kbit_ref.conformance.inputs.of_schemes import Case
from kbit_ref.conformance.reading import Refused, read
from kbit_ref.errors import KbitError
from kbit_ref.tensors.dequantize import dequantize
from kbit_ref.tensors.packing import Layout, pack, unpack
from kbit_ref.tensors.qtensor import QTensor
from kbit_ref.tensors.scheme import Scheme

__all__ = ["compare_decoded", "compare_stored", "in_rows", "layout_of_rows", "together"]

Array = NDArray[Any]


def together(f: Form, n: int) -> bool:
    """Return whether rows of that length can be judged in one array; else each is an array of its own."""
    s = f.scheme
    return independent(s) and n % (s.cut.size or n) == 0


def in_rows(s: Scheme) -> Scheme:
    """Return the scheme for many arrays of one dimension as the rows of one: each is cut by itself."""
    flat = s.cut.kind == "b" and s.cut.axis is None
    return Scheme(s.dtype, replace(s.cut, axis=-1), s.rule, s.scale_dtype, s.choices) if flat else s


def layout_of_rows(f: Form, n: int, given: Words, answers: Words, before: Layout) -> Layout:
    """Return the layout of a program's bytes, `before` for other rows."""
    s = f.scheme
    (x,), outputs = f.sides(n)
    ours = reference(s, x.numbers(given), f.source)
    answered = ~ours.refused[block_index(s, ours.codes.shape)]
    packed = answers[:, -outputs[-1].count :].astype(np.uint8)

    def wrong(form: Layout) -> int:
        return int((answered & (_unpacked(form, packed, n) != ours.codes)).sum())

    return likely_layout(s, n, outputs[-1].count, wrong, before)


def compare_stored(f: Form, n: int, given: Words, answers: Words, form: Layout) -> Compared:
    """Compare what a program stores for rows with what the scheme stores.

    Parameters
    ----------
    n
        Of every row.
    given, answers : [m, ...]
        The words before and after the arrow.
    form
        The layout of its bytes.

    Raises
    ------
    Refused
        The answer is none; the text says why.
    """
    s, (inputs, outputs) = f.scheme, f.sides(n)
    x = inputs[0].numbers(given)
    ours = reference(s, x, f.source)
    parts: dict[str, Array] = {}
    packed = np.zeros((len(given), 0), np.uint8)
    for field, words in split(outputs, answers):
        if field.name == "packed":
            packed = words.astype(np.uint8)
        elif not (field.name == "offsets" and s["center"] == "tensor"):  # compared by `other_mean`
            parts[field.name] = field.numbers(words)
    parts["codes"] = _unpacked(form, packed, n)
    parts |= _scales_of(s, parts)
    theirs = read(s, x.shape, parts)
    found = compare(s, Case("", f.source, x), ours, theirs)
    theirs.packed = packed.reshape(-1)
    theirs.repacked = np.concatenate([repacked(s, row, s.layout) for row in parts["codes"]])
    if form is s.layout:  # the codes are those of the bytes
        theirs.given = tuple("packed" if name == "codes" else name for name in theirs.given)
    found.wrong["packed"] = theirs.packed != theirs.repacked
    found.tried["packed"] = theirs.packed.size
    return found


def compare_decoded(f: Form, n: int, given: Words, answers: Words) -> Compared:
    """Compare the numbers that a program decodes from stored rows with those of `dequantize`."""
    s, (inputs, outputs) = f.scheme, f.sides(n)
    m = len(given)
    parts = {field.name: field.numbers(words) for field, words in split(inputs, given)}
    parts |= _scales_of(s, parts)
    codes = _unpacked(s.layout, parts["packed"], n)
    per_block = (1, 1) if s["center"] == "tensor" else (m, s.cut.per_row(n))
    q = QTensor(
        pack(codes, s.layout),
        parts["scales"].astype(np.float32).reshape(_grid(s, m, n)),
        (m, n),
        s,
        offsets=_shaped(parts.get("offsets"), per_block if s["center"] == "tensor" else _grid(s, m, n)),
        zero_points=_shaped(parts.get("zero_points"), _grid(s, m, n)),
        global_scale=np.float32(parts["global_scale"][0, 0]) if "global_scale" in parts else None,
    )
    return decoding.compare_decoded(q, outputs[0].numbers(answers).astype(np.float64), "", f.source)


def _scales_of(s: Scheme, parts: dict[str, Array]) -> dict[str, Array]:
    """Return scales that are quantized again, as the numbers that their parts stand for."""
    if s.double is None:
        return {}
    codes = parts["scale_codes"].reshape(1, -1)
    scales, mean = (np.ascontiguousarray(parts[name], np.float32) for name in ("scale_scales", "scale_offset"))
    q = QTensor(pack(codes, s.double.layout), scales.reshape(1, -1), codes.shape, s.double, mean.reshape(1, 1))
    with np.errstate(all="ignore"):
        return {"scales": dequantize(q, threads=1).reshape(-1)}


def _grid(s: Scheme, m: int, n: int) -> tuple[int, int]:
    """Return the shape of the scales of [m, n]."""
    n_rows, length = s.cut.grid((m, n))
    return n_rows, s.cut.per_row(length)


def _shaped(values: Array | None, shape: tuple[int, int]) -> Array | None:
    if values is None:
        return None
    narrow = values if values.dtype.kind in "iu" else values.astype(np.float32)
    return np.ascontiguousarray(narrow).reshape(shape)


def _unpacked(form: Layout, packed: NDArray[np.uint8], n: int) -> NDArray[np.uint8]:
    """Return the codes of every row: [m, n_bytes] -> [m, n]."""
    try:
        if n % form.elements == 0:
            return unpack(np.ascontiguousarray(packed).reshape(-1), form, len(packed) * n).reshape(-1, n)
        return np.stack([unpack(np.ascontiguousarray(row), form, n) for row in packed])
    except KbitError as error:
        raise Refused(str(error)) from None


