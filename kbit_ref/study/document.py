"""A document of sections, as one HTML file that needs nothing else and as Markdown. Both show the same cells.

All text is escaped; pictures are inlined; there is no script. A number is written once, by `shown`.
"""

from __future__ import annotations

import base64
import math
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from html import escape
from typing import Any

from kbit_ref.study.bootstrap import Estimate

__all__ = ["Document", "Link", "Picture", "Section", "Table", "html", "markdown", "shown"]


@dataclass(frozen=True)
class Table:
    """Rows under heads.

    Parameters
    ----------
    caption
        One sentence.
    heads
        Of the columns.
    rows
        Texts, numbers, `Estimate`s, None where there is nothing.
    folded
        To be opened first.
    """

    caption: str
    heads: tuple[str, ...]
    rows: Sequence[Sequence[Any]]
    folded: bool = False


@dataclass(frozen=True)
class Picture:
    """A picture by name, with what it shows."""

    name: str
    caption: str


@dataclass(frozen=True)
class Link:
    """Another page of the same report: what is told, and its place without the ending, from signs that need no care."""

    text: str
    target: str


@dataclass(frozen=True)
class Section:
    """A title, then texts, tables, pictures and links."""

    name: str
    title: str
    parts: Sequence[str | Table | Picture | Link]


@dataclass(frozen=True)
class Document:
    """A title and sections."""

    title: str
    sections: Sequence[Section]


def shown(value: Any) -> str:
    """A cell as people read it; in both pages.

    Examples
    --------
    >>> [shown(x) for x in ("nf", 1234567, 0.123456, None, math.nan)]
    ['nf', '1,234,567', '0.1235', '', '']
    >>> shown(Estimate(0.5, 0.01, 0.4804, 0.5196))
    '0.5 [0.48, 0.52]'
    """
    if isinstance(value, Estimate):
        return str(value) if math.isfinite(value.low) or math.isfinite(value.high) else shown(value.value)
    if value is None or (isinstance(value, float) and math.isnan(value)):
        return ""
    if isinstance(value, int) and not isinstance(value, bool):
        return f"{value:,}"
    return f"{value:.4g}" if isinstance(value, float) else str(value)


def _is_number(value: Any) -> bool:
    return isinstance(value, (int, float, Estimate)) and not isinstance(value, bool)


# Markdown -----------------------------------------------------------------------------------------


def markdown(document: Document, pictures: Mapping[str, str]) -> str:
    """The document as Markdown.

    Parameters
    ----------
    document
        What is told.
    pictures
        For each picture that there is, the file it lies in.
    """
    lines = [f"# {_md(document.title)}", ""]
    for section in document.sections:
        lines += [f"## {_md(section.title)}", ""]
        for part in section.parts:
            if isinstance(part, Table):
                lines += [_md(part.caption), "", *_md_table(part), ""]
            elif isinstance(part, Picture):
                if part.name in pictures:
                    lines += [f"![{_md(part.caption)}]({pictures[part.name]})", ""]
            elif isinstance(part, Link):
                lines += [f"[{_md(part.text)}]({part.target}.md)", ""]
            else:
                lines += [_md(part), ""]
    return "\n".join(lines)


def _md_table(table: Table) -> Iterator[str]:
    yield "| " + " | ".join(map(_md, table.heads)) + " |"
    yield "|" + "".join(" ---: |" if right else " --- |" for right in _right(table))
    for row in table.rows:
        yield "| " + " | ".join(_md(shown(cell)) for cell in row) + " |"


def _md(text: str) -> str:
    """Nothing in a text starts a tag, a link, a picture, a table's cell or another line."""
    for sign in "\\`*_[]|":
        text = text.replace(sign, "\\" + sign)
    return " ".join(text.replace("&", "&amp;").replace("<", "&lt;").replace(">", "&gt;").split())


def _right(table: Table) -> list[bool]:
    """For each column: does it hold numbers?"""
    columns = zip(*table.rows, strict=True) if table.rows else [() for _ in table.heads]
    return [any(_is_number(cell) for cell in column) for column in columns]


def _short(table: Table) -> list[bool]:
    """For each column: is no cell longer than what a line has room for?"""
    columns = zip(*table.rows, strict=True) if table.rows else [() for _ in table.heads]
    return [all(len(shown(cell)) <= SHORT for cell in column) for column in columns]


# HTML ---------------------------------------------------------------------------------------------

SHORT = 24  # characters; shorter cells stay on one line
STYLE = """
:root { color-scheme: light dark; --line: #8886; --soft: #8881; }
body { font: 16px/1.5 system-ui, sans-serif; margin: 0 auto; max-width: 90rem; padding: 1rem 1rem 4rem; }
h1, h2 { line-height: 1.2; } h2 { margin-top: 3rem; border-top: 1px solid var(--line); padding-top: 1rem; }
nav a { display: inline-block; margin: 0 1rem .3rem 0; }
figure { margin: 1.5rem 0; max-width: 62rem; } figcaption, caption { font-size: .9em; opacity: .85; text-align: left; }
img { width: 100%; height: auto; background: #fff; border-radius: 4px; }
.wide { overflow-x: auto; margin: 1rem 0 1.5rem; background:
  linear-gradient(90deg, Canvas 2rem, transparent 4rem) left / 4rem 100% no-repeat local,
  linear-gradient(270deg, Canvas 2rem, transparent 4rem) right / 4rem 100% no-repeat local,
  linear-gradient(90deg, #8888, transparent) left / .8rem 100% no-repeat scroll,
  linear-gradient(270deg, #8888, transparent) right / .8rem 100% no-repeat scroll; }
table { border-collapse: collapse; font-size: .875em; font-variant-numeric: tabular-nums; }
caption { padding-bottom: .4rem; }
th, td { border-bottom: 1px solid var(--line); padding: .25rem .5rem; text-align: left; vertical-align: top; }
th { border-bottom-width: 2px; vertical-align: bottom; } tbody tr:nth-child(even) { background: var(--soft); }
td { min-width: 9rem; max-width: 46rem; overflow-wrap: break-word; }
.n { text-align: right; } td.n, td.s { min-width: 2rem; white-space: nowrap; }
td.n:has(span) { white-space: normal; } td.n span { white-space: nowrap; }
summary { cursor: pointer; margin: 1rem 0; } p { max-width: 46rem; overflow-wrap: break-word; }
@media (max-width: 40rem) { body { font-size: 15px; padding: .5rem .6rem 3rem; }
  table { font-size: .8em; } th, td { padding: .2rem .3rem; } }
@media print { details { display: block; } nav { display: none; } body { max-width: none; } }
"""


def html(document: Document, pictures: Mapping[str, bytes]) -> str:
    """The document as one page.

    Parameters
    ----------
    document
        What is told.
    pictures
        For each picture that there is, its SVG.
    """
    title = escape(document.title)
    lines = [
        "<!doctype html>",
        '<html lang="en"><head><meta charset="utf-8">',
        '<meta name="viewport" content="width=device-width, initial-scale=1">',
        f"<title>{title}</title><style>{STYLE}</style></head><body>",
        f"<h1>{title}</h1>",
        "<nav>" + "".join(f'<a href="#{escape(s.name)}">{escape(s.title)}</a>' for s in document.sections) + "</nav>",
    ]
    for section in document.sections:
        lines.append(f'<section id="{escape(section.name)}"><h2>{escape(section.title)}</h2>')
        for part in section.parts:
            if isinstance(part, Table):
                lines += _html_table(part)
            elif isinstance(part, Picture):
                lines += _html_picture(part, pictures)
            elif isinstance(part, Link):
                lines.append(f'<p><a href="{escape(part.target)}.html">{escape(part.text)}</a></p>')
            else:
                lines.append(f"<p>{escape(part)}</p>")
        lines.append("</section>")
    lines.append("</body></html>")
    return "\n".join(lines) + "\n"


def _html_picture(picture: Picture, pictures: Mapping[str, bytes]) -> Iterator[str]:
    if picture.name not in pictures:
        return
    data = base64.b64encode(pictures[picture.name]).decode()
    caption = escape(picture.caption)
    image = f'<img alt="{caption}" src="data:image/svg+xml;base64,{data}">'
    yield f"<figure>{image}<figcaption>{caption}</figcaption></figure>"


def _html_table(table: Table) -> Iterator[str]:
    places = zip(_right(table), _short(table), strict=True)
    right = [' class="n"' if number else ' class="s"' if short else "" for number, short in places]
    if table.folded:
        yield f"<details><summary>{escape(table.caption)}</summary>"
    yield '<div class="wide"><table>'
    if not table.folded:
        yield f"<caption>{escape(table.caption)}</caption>"
    heads = (f'<th scope="col"{n}>{escape(head)}</th>' for head, n in zip(table.heads, right, strict=True))
    yield f"<thead><tr>{''.join(heads)}</tr></thead><tbody>"
    for row in table.rows:
        cells = zip(row, right, strict=True)
        yield "<tr>" + "".join(f"<td{n}>{_html_cell(cell)}</td>" for cell, n in cells) + "</tr>"
    yield "</tbody></table></div>" + "</details>" * table.folded


def _html_cell(cell: Any) -> str:
    """A number may have its interval below it, where there is no room; an interval stays on one line."""
    text = escape(shown(cell))
    value, bracket, interval = text.partition(" [")
    return f"{value} <span>[{interval}</span>" if isinstance(cell, Estimate) and bracket else text
