"""Make tables for a program's own source: levels, boundaries, test cases, all of them as bits.

`c_header` and `memory` write them down; here they are arrays with a name and a line about each.
"""

from __future__ import annotations

import re
from dataclasses import dataclass

import numpy as np

from kbit_ref.conformance.definition import independent
from kbit_ref.conformance.implementations.programs.grammar import Field, Form, Words, form, split
from kbit_ref.conformance.implementations.programs.inputs import ROW, accepted, batches, stored_words
from kbit_ref.conformance.programs.blocks import compare_decoded, together
from kbit_ref.datatypes.datatype import DataType
from kbit_ref.engine.codec import encode
from kbit_ref.engine.staircase import staircase

__all__ = ["Table", "case_tables", "identifier", "type_tables"]

TYPE_CASES, SCHEME_CASES = 1000, 64  # how many there are without a count
TOGETHER = 4  # blocks of a row, where they have a number in common


@dataclass(frozen=True)
class Table:
    """An array of bits.

    Parameters
    ----------
    name
        A part of an identifier: levels, case_x, ...
    bits
        Width of an entry.
    words : [n] or [n_cases, n]
    about
        What the entries are, in one line.
    """

    name: str
    bits: int
    words: Words
    about: str


def identifier(text: str) -> str:
    """Return a valid name in C.

    Examples
    --------
    >>> identifier("nf4-b64-absmax-f32"), identifier("e4m3fn+overflow=ieee")
    ('kbit_nf4_b64_absmax_f32', 'kbit_e4m3fn_overflow_ieee')
    """
    return "kbit_" + re.sub(r"\W+", "_", text)


def type_tables(d: DataType) -> list[Table]:
    """Return the levels of a data type and where its codes change.

    Examples
    --------
    >>> import kbit_ref as kb
    >>> [(t.name, t.words.size) for t in type_tables(kb.datatype("int2"))]
    [('levels', 4), ('midpoints', 3), ('step_words', 5), ('step_codes', 5)]
    """
    level = Field("levels", d.level_dtype.name, 2**d.bits)
    values = np.unique(d.levels[d.emitted])
    values = values[np.isfinite(values)]
    middle = Field("midpoints", "float64", values.size - 1)
    scale = 0.25 if values.size and np.abs(values).max() > 2.0**1000 else 1.0  # clear of overflow
    midpoints = (values[1:] * scale + values[:-1] * scale) / (2 * scale)
    first, codes = staircase(d, "float32")
    by_code = f"by code: the bits of a {_c_name(level)}"
    steps = "the code of a float with bits w, no NaN, is step_codes[i] for the last i with step_words[i] <= w"
    return [
        Table("levels", level.bits, level.words(d.levels), by_code),
        Table("midpoints", 64, middle.words(midpoints), "between neighbouring levels, ascending: the bits of a double"),
        Table("step_words", 32, first.astype(np.uint64), steps),
        Table("step_codes", d.bits, codes.astype(np.uint64), "of these steps"),
    ]


def _c_name(field: Field) -> str:
    return {"float32": "float", "float64": "double"}.get(field.kind, field.kind)


def case_tables(f: Form, count: int | None = None, seed: int = 0) -> list[Table]:
    """Test cases, a row each: for a type x and its codes, for a scheme x, all that is stored, and what that decodes to.

    Parameters
    ----------
    f
        Of the lines of `encode`.
    count
        How many cases; by default 1000 values, or 64 blocks. All rows are of one length.

    Examples
    --------
    >>> [(t.name, t.words.shape) for t in case_tables(form("nf4-b64-absmax-f32"), 10)]
    [('case_x', (10, 64)), ('case_scales', (10, 1)), ('case_packed', (10, 32)), ('case_decoded', (10, 64))]
    """
    n, words = _rows(f, count or (TYPE_CASES if f.is_type else SCHEME_CASES), seed)
    (x,), outputs = f.sides(n)
    found = [Table("case_x", x.bits, words if n > 1 else words[:, 0], f"to encode: the bits of {x.kind} numbers")]
    if f.is_type:
        (codes,) = outputs
        ours = encode(f.dtype, x.numbers(words[:, 0]), bfloat16=f.source == "bfloat16")
        return [*found, Table("case_codes", codes.bits, ours.astype(np.uint64), "their codes")]
    stored = stored_words(f, n, words)
    for field, some in split(outputs, stored):
        about = "the bytes of the codes" if field.name == "packed" else f"{field.name}, as {field.kind}"
        found.append(Table(f"case_{field.name}", field.bits, some, about.replace("_", " ")))
    back = form(f.subject, "decode")
    decoded = back.sides(n)[1][0]
    return [
        *found,
        Table("case_decoded", decoded.bits, _decoded(back, n, stored), "what is decoded: the bits of floats"),
    ]


def _rows(f: Form, count: int, seed: int) -> tuple[int, Words]:
    """Return so many rows before the arrow: one block each, or a few where blocks share a number."""
    n = 1
    if not f.is_type:
        n = (f.scheme.cut.size or ROW) * (1 if independent(f.scheme) else TOGETHER)
    found: list[Words] = []
    have = 0
    for _, words in batches(f, 1, seed, endless=True):
        flat = words.reshape(-1)
        rows = flat[: flat.size // n * n].reshape(-1, n)
        if not f.is_type:
            rows = rows[accepted(f, rows)]
        found.append(rows[: count - have])
        have += len(found[-1])
        if have == count:
            break
    return n, np.concatenate(found)


def _decoded(f: Form, n: int, stored: Words) -> Words:
    """Return what our definition makes of stored rows, [m, n]."""
    field = f.sides(n)[1][0]
    at_once = len(stored) if together(f, n) else 1
    found = []
    for i in range(0, len(stored), at_once):
        some = stored[i : i + at_once]
        spelled = compare_decoded(f, n, some, np.zeros((len(some), n), np.uint64)).spelled
        assert spelled is not None
        found.append(field.words(spelled))
    return np.concatenate(found)
