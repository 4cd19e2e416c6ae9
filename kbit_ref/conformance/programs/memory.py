"""Test cases and levels as Verilog memory files, for `$readmemh`."""

from __future__ import annotations

from kbit_ref.conformance.implementations.programs.grammar import Form
from kbit_ref.conformance.programs.tables import Table, case_tables, type_tables

__all__ = ["memory", "rom"]


def memory(f: Form, name: str, version: str, count: int | None = None, seed: int = 0) -> str:
    """Write one case per word; a comment says which bits are what.

    Parameters
    ----------
    f
        Of the lines of `encode`.
    name, version
        For the comment.
    count
        Test cases; see `case_tables`.

    Examples
    --------
    >>> from kbit_ref.conformance.implementations.programs.grammar import form
    >>> print(memory(form("int2"), "int2", "1", 2), end="")
    // kbit-ref 1: int2, test cases for $readmemh
    // 2 words of 36 bits; reg [35:0] memory [0:1];
    //   [35:4]  x: 1 of 32 bits, to encode: the bits of float32 numbers
    //   [3:0]   codes: 1 of 4 bits (2 used), their codes
    // Of several numbers the first lies highest.
    00000000_0
    3f800000_1
    """
    tables = case_tables(f, count, seed)
    rows = [table.words.reshape(len(table.words), -1) for table in tables]
    widths = [4 * _digits(table) * row.shape[1] for table, row in zip(tables, rows, strict=True)]
    total, places = sum(widths), []
    for i, (table, row) in enumerate(zip(tables, rows, strict=True)):
        low = sum(widths[i + 1 :])
        each = f"{4 * _digits(table)} bits" + (f" ({table.bits} used)" if table.bits % 4 else "")
        where = f"[{low + widths[i] - 1}:{low}]"
        places.append((where, f"{table.name.removeprefix('case_')}: {row.shape[1]} of {each}, {table.about}"))
    wide = max(len(where) for where, _ in places)
    lines = [f"// kbit-ref {version}: {_named(f, name)}, test cases for $readmemh"]
    lines += [f"// {len(rows[0])} words of {total} bits; reg [{total - 1}:0] memory [0:{len(rows[0]) - 1}];"]
    lines += [f"//   {where:<{wide}}  {text}" for where, text in places]
    lines += ["// Of several numbers the first lies highest."]
    for case in zip(*(row.tolist() for row in rows), strict=True):
        parts = ("_".join(f"{word:0{_digits(t)}x}" for word in words) for t, words in zip(tables, case, strict=True))
        lines.append("_".join(parts))
    return "\n".join([*lines, ""])


def rom(f: Form, version: str) -> str:
    """Write the levels of the data type, a word per code.

    Examples
    --------
    >>> from kbit_ref.conformance.implementations.programs.grammar import form
    >>> print(rom(form("int2"), "1"), end="")
    // kbit-ref 1: int2, levels for $readmemh
    // 4 words of 32 bits; reg [31:0] memory [0:3]; by code: the bits of a float
    00000000
    3f800000
    c0000000
    bf800000
    """
    table = type_tables(f.dtype)[0]
    size = len(table.words)
    lines = [f"// kbit-ref {version}: {f.dtype.name}, levels for $readmemh"]
    lines += [f"// {size} words of {table.bits} bits; reg [{table.bits - 1}:0] memory [0:{size - 1}]; {table.about}"]
    return "\n".join([*lines, *(f"{word:0{_digits(table)}x}" for word in table.words.tolist()), ""])


def _digits(table: Table) -> int:
    return -(-table.bits // 4)


def _named(f: Form, name: str) -> str:
    return name if str(f.subject) == name else f"{name} = {f.subject}"
