"""Tables as a C header: C99 and C++, nothing but `static const` arrays of bits and their sizes."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

from kbit_ref.conformance.implementations.programs.grammar import Form
from kbit_ref.conformance.programs.tables import Table, case_tables, identifier, type_tables

__all__ = ["c_header"]

WIDTH = 100  # of a line


def c_header(f: Form, name: str, version: str, count: int | None = None, seed: int = 0) -> str:
    """Return the text of the header.

    Parameters
    ----------
    f
        Of the lines of `encode`.
    name
        That the user gave, from which the identifiers are made.
    version
        Of this package, for the first line.
    count
        Test cases; see `case_tables`.

    Examples
    --------
    >>> from kbit_ref.conformance.implementations.programs.grammar import form
    >>> print(c_header(form("int2"), "int2", "1", 2).partition("/* their codes */")[2], end="")
    <BLANKLINE>
    #define KBIT_INT2_CASE_CODES_SIZE 2
    static const uint8_t kbit_int2_case_codes[2] = {
        0x0, 0x1};
    <BLANKLINE>
    #endif
    """
    mine, of_type = identifier(name), identifier(f.dtype.name)
    cases = case_tables(f, count, seed)
    guard = mine.upper() + "_H"
    about = [f"kbit-ref {version}: {name}" + (f" = {f.subject}" if str(f.subject) != name else "")]
    if not f.is_type:
        about += [
            f"A case is a row of {cases[0].words.shape[-1]} numbers; {f.scheme.layout.name} is the layout of bytes."
        ]
    about += ["All arrays hold bits: copy them with memcpy into a float or double of that size."]
    lines = [f"/* {about[0]}", *(f" * {line}" for line in about[1:]), " */"]
    lines += [f"#ifndef {guard}", f"#define {guard}", "", "#include <stdint.h>", ""]
    once = of_type.upper() + "_TABLES"  # two schemes of one type may meet in a file
    lines += [f"#ifndef {once}", f"#define {once}", "", f"#define {of_type.upper()}_BITS {f.dtype.bits}"]
    for table in type_tables(f.dtype):
        lines += _array(of_type, table)
    lines += ["", "#endif"]
    for table in cases:
        lines += _array(mine, table)
    return "\n".join([*lines, "", "#endif", ""])


def _array(name: str, table: Table) -> Iterator[str]:
    """Yield the declaration of one array: a comment, its size, its elements."""
    bits = next(size for size in (8, 16, 32, 64) if table.bits <= size)
    shape, digits = table.words.shape, -(-table.bits // 4)
    full = f"{name}_{table.name}"
    yield ""
    yield f"/* {table.about} */"
    yield f"#define {full.upper()}_SIZE {shape[0]}"
    sizes = "".join(f"[{size}]" for size in shape)
    yield f"static const uint{bits}_t {full}{sizes} = {{"
    if len(shape) == 1:
        yield from _rows(table.words.tolist(), digits, "};")
        return
    for i, row in enumerate(table.words.tolist()):
        first, *others = _rows(row, digits, "}};" if i == len(table.words) - 1 else "},")
        yield "    {" + first[4:]
        yield from others


def _rows(words: Sequence[int], digits: int, end: str) -> list[str]:
    """Return entries, as many as fit in a line."""
    texts = [f"0x{word:0{digits}x}" for word in words]
    most = max(1, (WIDTH - 4) // (digits + 4))
    lines = ["    " + ", ".join(texts[i : i + most]) + "," for i in range(0, len(texts), most)]
    lines[-1] = lines[-1][:-1] + end
    return lines
