"""Generate the cases for programs, as words and as lines: the same every time, a batch at a time.

Level 1 are full blocks: the hard cases (`cases`), `kb.probe`, then all that the judge of block formats asks
libraries (`inputs`). Level 2, the default, adds rows of other lengths: one element, short tails, several blocks.
For a data type both levels are the judge's own (`inputs`). Without a count that is all; with one, random
cases follow without end.
"""

from __future__ import annotations

from collections.abc import Iterator
from itertools import islice
from typing import Any

import numpy as np
from numpy.typing import NDArray

from kbit_ref.conformance.cases import cases_of as hard_cases
from kbit_ref.conformance.definition import independent, reference
from kbit_ref.conformance.implementations.programs.grammar import Form, Words
from kbit_ref.conformance.inputs.of_schemes import cases, narrowed, of_length
from kbit_ref.conformance.inputs.of_types import WORD, encode_inputs, to_float64
from kbit_ref.tensors.probe import probe
from kbit_ref.tensors.qtensor import QTensor
from kbit_ref.tensors.quantize import quantize
from kbit_ref.tensors.scheme import Scheme

__all__ = ["ROW", "Batch", "accepted", "batches", "lines", "stored_words"]

ROW = 32  # elements of a row, where the cut does not say
AT_ONCE = 512  # random rows at a time
Batch = tuple[int, Words]  # n of each row, and [m, words of a row] of the side before the arrow
UNSIGNED = ("e8m0fnu", "e4m4", "ue4m3")
OTHERS = {"offsets": 0.7, "zero_points": 1, "global_scale": 0.3}  # of the cases with every code
SCALES = (1.0, 1 / 3, 0.75, 1 + 2.0**-23, -0.1, 448.0, 2.0**-14, 2.0**-130)


def lines(f: Form, level: int = 2, count: int | None = None, seed: int = 0) -> Iterator[str]:
    """Yield the left sides of lines, before the arrow.

    Examples
    --------
    >>> from kbit_ref.conformance.implementations.programs.grammar import form
    >>> list(lines(form("int2", "decode")))
    ['0', '1', '2', '3']
    """
    every = (f.spell(n, row) for n, words in batches(f, level, seed, endless=count is not None) for row in words)
    return islice(every, count)


def batches(f: Form, level: int = 2, seed: int = 0, endless: bool = False) -> Iterator[Batch]:
    """Return the same as words: batches of rows of one length."""
    if f.is_type:
        return _of_type(f, seed, endless)
    if f.what == "encode":
        return _encode_rows(f, level, seed, endless)
    return _decode_rows(f, level, seed, endless)


def _of_type(f: Form, seed: int, endless: bool) -> Iterator[Batch]:
    d = f.dtype
    if f.what == "decode":
        codes = np.arange(2**d.bits, dtype=np.uint64)[:, None]
        yield 1, codes
        while endless:  # there are no others
            yield 1, codes
        return
    yield 1, encode_inputs(d, f.source, seed).words.astype(np.uint64)[:, None]
    rng = np.random.default_rng([seed, 1])
    word = WORD[f.source]
    while endless:
        words = rng.integers(0, np.iinfo(word).max, 1 << 14, dtype=word, endpoint=True)
        if d.definition.nan is None:
            words = words[~np.isnan(to_float64(words, f.source))]
        yield 1, words.astype(np.uint64)[:, None]


def _encode_rows(f: Form, level: int, seed: int, endless: bool) -> Iterator[Batch]:
    (x,), _ = f.sides(1)
    for rows in _rows(f.scheme, f.source, level, seed, endless):
        words = x.words(rows)
        some = words[accepted(f, words)]
        if len(some):
            yield rows.shape[1], some


def _rows(s: Scheme, source: str, level: int, seed: int, endless: bool) -> Iterator[NDArray[np.generic]]:
    """Yield numbers of the source format, [m, n]."""
    width = s.cut.size or ROW
    alone = independent(s)
    for x in _telling(s):
        rows = narrowed(x.reshape(-1, x.shape[-1]) if alone else x.reshape(1, -1), source)
        if level > 1 or (rows.shape[1] % width == 0 and (rows.shape[1] == width or not alone)):
            yield rows
    probed = narrowed(probe(s), source)
    yield probed.reshape(-1, width if alone else probed.size)
    for case in cases(s, (source,), "rows", 1, ROW):
        yield case.words if alone else case.words.reshape(1, -1)
    rng = np.random.default_rng([seed, 2])
    if level > 1:
        for n in dict.fromkeys((1, 2, 3, width - 1, width + 1, 2 * width, 3 * width + 5)):
            if n > 0:
                yield narrowed(of_length(s, n, np.random.default_rng(n)), source)
    while endless:
        yield narrowed(_random(rng, AT_ONCE, width), source)


def _telling(s: Scheme) -> Iterator[NDArray[np.floating]]:
    """Yield the arrays of the hard cases: few, and simple."""
    for case in hard_cases(s):
        for given in case.given(s):
            if "x" in given.arrays:
                yield given.arrays["x"]


def _random(rng: np.random.Generator, m: int, n: int) -> NDArray[np.float32]:
    """Return normal numbers, each row of a magnitude of its own."""
    return (rng.standard_normal((m, n)) * np.exp2(rng.uniform(-12, 12, (m, 1)))).astype(np.float32)


def accepted(f: Form, words: Words) -> NDArray[np.bool_]:
    """Return the rows that the scheme has an answer for, [m]."""
    (x,), _ = f.sides(words.shape[1])
    s, rows = f.scheme, x.numbers(words)
    m, n = rows.shape
    if independent(s) and n == (s.cut.size or n):
        return ~reference(s, rows, f.source).refused
    return np.array([not reference(s, rows[i : i + 1], f.source).refused.any() for i in range(m)], bool)


def _decode_rows(f: Form, level: int, seed: int, endless: bool) -> Iterator[Batch]:
    """Yield what the scheme stores for the rows of `encode`; before that every code with a few scales."""
    if f.scheme.double is None:
        yield from _all_codes(f)
    given = Form(f.subject, "encode", "float32")
    for n, words in _encode_rows(given, level, seed, endless):
        yield n, stored_words(given, n, words)


def _all_codes(f: Form) -> Iterator[Batch]:
    """Yield every code, those never emitted too, with scales that a wrong product would show."""
    s = f.scheme
    codes = s.layout.codes
    n = s.cut.size or max(codes, ROW)
    order = np.resize(np.arange(codes, dtype=np.uint8), -(-codes // n) * n)
    fields = f.sides(n)[0]
    found = []
    for scale in SCALES:
        numbers = {"scales": abs(scale) if s.scale_dtype in UNSIGNED else scale} | OTHERS
        if not fields[0].numbers(fields[0].words(np.array([numbers["scales"]]))).any():
            continue  # too small for the type of the scale
        for part in order.reshape(-1, n):
            filled = {field.name: np.full(field.count, numbers.get(field.name, 0)) for field in fields}
            filled["packed"] = s.layout.pack(part)
            found.append(np.concatenate([field.words(filled[field.name]) for field in fields]))
    yield n, np.stack(found)


def _part(q: QTensor, name: str) -> NDArray[Any]:
    """Return what a field of that name holds."""
    if q.double is not None:
        names = {"scale_codes": "codes", "scale_scales": "scales", "scale_offset": "offsets"}
        q, name = (q.double, names[name]) if name in names else (q, name)
    return np.asarray(getattr(q, name))


def stored_words(f: Form, n: int, words: Words) -> Words:
    """Return the words after the arrow of `encode` by the definition: [m, n] -> [m, all]."""
    (x,), fields = f.sides(n)
    s, rows = f.scheme, x.numbers(words)
    at_once = len(rows) if independent(s) and n % (s.cut.size or n) == n % s.layout.elements == 0 else 1
    found = []
    for i in range(0, len(rows), at_once):
        q = quantize(rows[i : i + at_once], s, threads=1, bfloat16=f.source == "bfloat16")
        parts = [_part(q, field.name).reshape(-1, field.count) for field in fields]
        found.append(np.concatenate([g.words(part) for g, part in zip(fields, parts, strict=True)], axis=1))
    return np.concatenate(found)
