"""The page of `kbit-ref check`: a line for each library, a line for each finding, then what to type for more."""

from __future__ import annotations

import re
import textwrap
from collections import Counter
from collections.abc import Sequence

from kbit_ref.cli._terminal import coloured, cut, table, width
from kbit_ref.conformance.findings import Finding
from kbit_ref.conformance.implementations.claims import PARTS
from kbit_ref.conformance.inputs.of_types import SOURCES
from kbit_ref.conformance.specials import NUMBERS
from kbit_ref.conformance.verdict import WORST, Row, Verdict

__all__ = ["COLUMNS", "Libraries", "details", "finding_lines", "legend", "verdict_tables"]

COLUMNS = {
    "library, version": "what was judged; each library runs in a process of its own",
    "types, formats": "how many data types and block formats of it",
    "agree": "how many of these give every value of the definition or profile, bit for bit",
    "known": "how many differ, all differences being on public record",
    "disagree": "how many differ otherwise",
    "error": "how many raised, or returned something other than what was asked for",
    "values": "how many values were compared; s: how many seconds that took",
    "#": "the number of a finding, for --details",
    "harm": "share of the answers that differ, times their median relative error: 1 is all wrong, 0 only signs of "
    "zeros; inputs are chosen to be hard, so ordinary data differ less often",
    "library and format": "the library's name of the type or format; +2: and of two more",
    "finding": "in which part, and the cause as far as one is found",
    "smallest input": "the simplest input that shows it",
    "its answer | right": "what the library answers, and what the definition or profile does",
}
LEGEND = {
    "agree": "every value, bit for bit",
    "known": "differs, and is on public record",
    "disagree": "differs otherwise",
    "error": "raised, or returned something else than was asked for",
    "harm": "share of the answers that differ x their median relative error, on inputs that are chosen to be hard",
}
HEADS = ("types", "formats", *WORST, "values", "s")
WIDE = (5, 7, 5, 5, 8, 5, 10, 4)
SHARES = {2: 0.28, 3: 0.24, 4: 0.23, 5: 0.25}  # of the width, for columns that are too wide
MOST, EXAMPLES = 20, 3  # findings on the page, examples of a finding
SAID = {"agree": "agree", "known": "known", "disagree": "DISAGREE", "error": "ERROR"}
HEADS_OF_PARTS = {
    "zero_points": "zeros",
    "global_scale": "global",
    "scale_codes": "s.codes",
    "scale_scales": "s.scales",
    "scale_offset": "s.offset",
}


class Libraries:
    """The table of libraries, printed line by line as they finish."""

    def __init__(self, names: Sequence[str]):
        self.wide = max([len("library"), *map(len, names)])

    def heads(self) -> str:
        """The line of heads."""
        cells = (f"{head:>{wide}}" for head, wide in zip(HEADS, WIDE, strict=True))
        return coloured("  ".join([f"{'library':<{self.wide}}", f"{'version':<12}", *cells]), "head")

    def line(self, verdicts: Sequence[Verdict], seconds: float) -> str:
        """One library: how many verdicts of each status."""
        formats = sum("-" in verdict.spelling for verdict in verdicts)
        counts = Counter(verdict.status for verdict in verdicts)
        tried = sum(verdict.tried for verdict in verdicts)
        numbers = [len(verdicts) - formats, formats, *(counts[status] for status in WORST), tried, round(seconds)]
        first = f"{verdicts[0].library:<{self.wide}}  {cut(verdicts[0].version, 12):<12}"
        cells = [f"{number or '-':>{wide}{',' if number else ''}}" for number, wide in zip(numbers, WIDE, strict=True)]
        for i, status in enumerate(WORST, 2):
            cells[i] = coloured(cells[i], status) if counts[status] else cells[i]
        return "  ".join([first, *cells])


def finding_lines(found: Sequence[Finding], most: int = MOST) -> list[str]:
    """A line for each finding, with a line of heads; those beyond `most` are counted."""
    if not found:
        return []
    shown = found[:most]
    heads = ("#", "harm", "library and format", "finding", "smallest input", "its answer | right")
    rows = [
        (str(i), _harm(each), f"{each.library} {_formats(each)}", _what(each), *_example(each))
        for i, each in enumerate(shown, 1)
    ]
    widths = [max(len(row[i]) for row in (heads, *rows)) for i in range(len(heads))]
    while sum(widths) + 2 * len(SHARES) + 2 > width():
        widest = max(SHARES, key=lambda i: widths[i] / SHARES[i])
        widths[widest] -= 1
    lines = [coloured(_line(heads, widths), "head")]
    for row, finding in zip(rows, shown, strict=True):
        kept = len(row[2]) - len(finding.library) - 1
        where = f"{finding.library} {cut(row[2][-kept:], widths[2] - len(finding.library) - 1, 8)}"
        line = _line((*row[:2], where, *row[3:]), widths)
        lines.append(line[:4] + coloured(line[4:9], finding.status) + line[9:])
    if len(found) > most:
        counts = Counter(finding.status for finding in found[most:])
        lines.append(f"and {', '.join(f'{n} {status}' for status, n in counts.items())} more")
    return lines


def _line(cells: Sequence[str], widths: Sequence[int]) -> str:
    return "  ".join(f"{cut(cell, wide):<{wide}}" for cell, wide in zip(cells, widths, strict=True)).rstrip()


def _harm(finding: Finding) -> str:
    if finding.status != "disagree":
        return finding.status[:5]
    return f"{finding.harm:.3f}" if finding.harm >= 0.0005 else "0" if finding.harm == 0 else "<.001"


def _formats(finding: Finding) -> str:
    first, *others = finding.formats
    return f"{first} +{len(others)}" if others else first


def _what(finding: Finding) -> str:
    names = [part.removeprefix("encode ") for part in finding.parts] or [""]
    first, *others = (HEADS_OF_PARTS.get(name, name) for name in names)
    part = f"{first} +{len(others)}" if others else first
    return f"{part}: {finding.cause}" if part else finding.cause


def _example(finding: Finding) -> tuple[str, str]:
    """The smallest input, and both answers, as short as they can be said."""
    example = finding.example
    if example is None:
        return finding.why, ""
    value, at = min(example.value.split(" = "), key=len), example.at.partition(" = ")[0]
    both = [answer.partition("  (")[0].partition(", which")[0] for answer in (example.theirs, example.ours)]
    both = [answer.removeprefix(f"{finding.parts[0]} ") for answer in both]
    for shorter in (lambda answer: answer.rpartition(" = ")[2], _rounded):
        short = [shorter(answer) for answer in both]
        both = short if short[0] != short[1] else both
    return f"{value} {at}" if at not in ("", "[0]") else value, " | ".join(both)


def _rounded(text: str) -> str:
    """Its numbers of many digits to four."""
    return re.sub(r"-?\d+\.\d{4,}(e[+-]?\d+)?", lambda found: f"{float(found[0]):.4g}", text)


def legend() -> list[str]:
    """What the words of the page mean."""
    return textwrap.wrap("; ".join(f"{word}: {meaning}" for word, meaning in LEGEND.items()) + ".", width())


def details(number: int, finding: Finding) -> list[str]:
    """Everything about a finding: where it occurs, why, and the smallest input step by step."""
    share = f"{finding.count:,} of {finding.tried:,} answers differ ({finding.share:.2%})"
    error = "" if finding.error is None else f", median relative error {finding.error:.2g}"
    cause = finding.cause if finding.why == finding.cause else f"{finding.cause}: {finding.why}"
    facts = {"cause": cause, "record": finding.link, "formats": ", ".join(finding.formats)}
    facts |= {"parts": ", ".join(finding.parts), "answers": share + error if finding.tried else ""}
    lines = [coloured(f"{number}  {finding.status}  {finding.library} {finding.version}", finding.status)]
    for name, text in facts.items():
        if text:
            lines += textwrap.wrap(f"  {name:<8} {text}", width(), subsequent_indent=" " * 11)
    for theirs, spelling, example in finding.examples[:EXAMPLES]:
        lines.append(f"  example  {theirs}, checked as {spelling}")
        lines += [f"    {line}" for line in str(example).splitlines()]
    if len(finding.examples) > EXAMPLES:
        lines.append(f"  and examples of {len(finding.examples) - EXAMPLES} more formats (--json has all)")
    return [*lines, ""]


def verdict_tables(verdicts: Sequence[Verdict]) -> list[str]:
    """A table for each library: a line for each type, then for each format, with the verdict on every part."""
    lines: list[str] = []
    for library in dict.fromkeys(verdict.library for verdict in verdicts):
        for blocks in (False, True):
            mine = [v for v in verdicts if v.library == library and ("-" in v.spelling or not v.rows) == blocks]
            if mine:
                lines += [*_table(mine), ""]
    return lines


def _table(mine: Sequence[Verdict]) -> list[str]:
    title = f"{mine[0].library} {mine[0].version}"
    rows = []
    for verdict in mine:
        cells = {title: verdict.theirs, "checked as": verdict.subject}
        cells |= {_column(row): SAID[row.status] for row in verdict.rows}
        cells |= {special.number: special.word for special in reversed(verdict.specials)}
        rows.append(cells | ({"answers": SAID["error"]} if verdict.errors else {}))
    known = [*SOURCES, "decode", *(HEADS_OF_PARTS.get(part, part) for part in PARTS), *NUMBERS, "answers"]
    columns = [title, "checked as", *(column for column in known if any(column in row for row in rows))]
    return table([dict.fromkeys(columns, "-") | row for row in rows], columns, width())


def _column(row: Row) -> str:
    if row.what:
        return row.source if row.what == "encode" else "decode"
    return HEADS_OF_PARTS.get(row.part, row.part)
