"""Lay out text: the width of the terminal, tables whose cells wrap, colour on a terminal only."""

from __future__ import annotations

import os
import re
import shutil
import sys
from collections.abc import Mapping, Sequence

__all__ = ["coloured", "cut", "table", "width", "wrapped"]

NARROWEST, USUAL = 60, 100
COLOURS = {"agree": "32", "known": "36", "disagree": "31", "error": "35", "head": "1", "faint": "2"}
PIECES = re.compile(r"[^\s+|-]*[|-]|\+?[^\s+|-]+[|-]?|\+|\s+")  # where a long cell may break: spaces, before +, after -


def width() -> int:
    """Return the columns of the terminal; 100 where the output is no terminal, unless COLUMNS says otherwise."""
    if not sys.stdout.isatty() and "COLUMNS" not in os.environ:
        return USUAL
    return max(NARROWEST, shutil.get_terminal_size((USUAL, 24)).columns)


def coloured(text: str, kind: str) -> str:
    """Return the text in the colour of a status, if the output is a terminal and NO_COLOR is not set."""
    if not sys.stdout.isatty() or os.environ.get("NO_COLOR") or os.environ.get("TERM") == "dumb":
        return text
    return f"\x1b[{COLOURS[kind]}m{text}\x1b[0m"


def cut(text: str, most: int, end: int = 0) -> str:
    """Return the text in at most so many characters; of its end so many stay.

    Examples
    --------
    >>> cut("QuantizeLinear INT8 from float16", 20), cut("QuantizeLinear INT8 from float16", 20, 7)
    ('QuantizeLinear INT..', 'QuantizeLin..float16')
    """
    return text if len(text) <= most else text[: most - end - 2].rstrip() + ".." + text[len(text) - end :]


def wrapped(text: str, most: int) -> list[str]:
    """Return the text in lines of so many characters, broken at spaces, before `+` and after `-` and `|`.

    Examples
    --------
    >>> wrapped("nf4-b64-absmax-f32+arith=reciprocal+layout=high4", 36)
    ['nf4-b64-absmax-f32+arith=reciprocal', '+layout=high4']
    """
    lines = [""]
    for word in re.findall(r"\S+\s*", text):
        pieces = [word] if len(word.rstrip()) <= most else PIECES.findall(word)
        for piece in (p[i : i + most] for p in pieces for i in range(0, len(p), most)):
            if lines[-1] and len(lines[-1]) + len(piece.rstrip()) > most:
                lines.append("")
            lines[-1] += piece
    return [line.rstrip() for line in lines]


def table(rows: Sequence[Mapping[str, object]], columns: Sequence[str], most: int, *, heads: bool = True) -> list[str]:
    """Return the rows with a line of heads above them; the widest columns wrap where a row is wider than `most`."""
    texts = [[str(row[column]) for column in columns] for row in rows]
    texts = [list(columns), *texts] if heads else texts
    widths = [max(len(cells[i]) for cells in texts) for i in range(len(columns))]
    while sum(widths) + 2 * (len(widths) - 1) > most and max(widths) > 12:
        widths[max(range(len(widths)), key=widths.__getitem__)] -= 1
    lines = []
    for cells in texts:
        pieces = [wrapped(cell, wide) for cell, wide in zip(cells, widths, strict=True)]
        for i in range(max(map(len, pieces))):
            line = (p[i] if i < len(p) else "" for p in pieces)
            lines.append("  ".join(text.ljust(wide) for text, wide in zip(line, widths, strict=True)).rstrip())
    return lines
