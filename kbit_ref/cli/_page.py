"""The page of `kbit-ref check`: a line for each library, a line for each finding, then what to type for more."""

from __future__ import annotations

import re
import sys
import textwrap
import threading
import time
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence

from kbit_ref.cli._terminal import coloured, cut, table, width, wrapped
from kbit_ref.conformance.findings import Finding, findings_of
from kbit_ref.conformance.implementations.claims import PARTS
from kbit_ref.conformance.inputs.of_types import SOURCES
from kbit_ref.conformance.specials import NUMBERS
from kbit_ref.conformance.verdict import REFUSED, WORST, Row, Verdict

__all__ = [
    "COLUMNS",
    "Libraries",
    "details",
    "finding_lines",
    "is_format",
    "legend",
    "notes",
    "specials",
    "summary",
    "verdict_tables",
]

COLUMNS = {
    "library, version": "what was judged; each library runs in a process of its own",
    "types, formats": "how many data types and block formats of it",
    "agree": "how many of these give every value of the definition or profile, bit for bit",
    "known": "how many differ, all differences being on public record",
    "disagree": "how many differ otherwise",
    "error": "how many raised, or returned something of another kind than requested",
    "values": "how many values were compared; s: after how many seconds the library was done",
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
    "error": "raised, or returned something of another kind than requested",
    "harm": "share of the answers that differ x their median relative error, on inputs that are chosen to be hard",
}
LONGEST = 18  # name of a library
HEADS = ("types", "formats", *WORST, "values", "s")
WIDE = (5, 7, 5, 5, 8, 5, 10, 4)
SHARES = {2: 0.28, 3: 0.24, 4: 0.23, 5: 0.25}  # of the width, for columns that are too wide
MOST, EXAMPLES = 18, 3  # findings on the page, examples of a finding
OTHERS = "others"  # longdouble, integers and bool, in one column
SAID = {"agree": "agree", "known": "known", "disagree": "DISAGREE", "error": "ERROR"}
HEADS_OF_PARTS = {
    "zero_points": "zeros",
    "global_scale": "global",
    "scale_codes": "s.codes",
    "scale_scales": "s.scales",
    "scale_offset": "s.offset",
}


class Libraries:
    """The table of libraries, printed line by line as they finish; `add` may be called by any thread.

    Parameters
    ----------
    expected
        How many verdicts there will be of each library.
    """

    def __init__(self, expected: Mapping[str, int]):
        self.expected = expected
        self.narrow = width() < 100
        self.wide = min(max([len("library"), *map(len, expected)]), LONGEST)
        self.begin = time.monotonic()
        self._verdicts: dict[str, list[Verdict]] = {name: [] for name in expected}
        self._lock = threading.Lock()
        self._latest = ""
        print(coloured(self._cells("library", "version", HEADS), "head"), flush=True)

    def latest(self) -> str:
        """Return the last difference that was found, in a line."""
        return self._latest

    def add(self, verdict: Verdict) -> None:
        """Print the line of its library, if this is its last verdict."""
        for finding in (each for each in findings_of([verdict])[:1] if each.status != "known"):
            self._latest = (
                f": {finding.library} {_formats(finding)}, {_what(finding)}, {' gives '.join(_example(finding))}"
            )
        with self._lock:
            mine = self._verdicts[verdict.library]
            mine.append(verdict)
            if len(mine) == self.expected[verdict.library]:
                clear = "\r\x1b[K" if sys.stdout.isatty() and sys.stderr.isatty() else ""  # where progress was
                print(clear + self._line(mine), flush=True)

    def _line(self, verdicts: Sequence[Verdict]) -> str:
        formats = sum(map(is_format, verdicts))
        counts = Counter(verdict.status for verdict in verdicts)
        tried, seconds = sum(verdict.tried for verdict in verdicts), time.monotonic() - self.begin
        numbers = [len(verdicts) - formats, formats, *(counts[status] for status in WORST), tried, round(seconds)]
        cells = [f"{number:,}" if number else "-" for number in numbers]
        return self._cells(
            verdicts[0].library, verdicts[0].version, cells, [status for status in WORST if counts[status]]
        )

    def _cells(self, library: str, version: str, cells: Sequence[str], statuses: Sequence[str] = ()) -> str:
        wide = 8 if self.narrow else 12
        row = [f"{cut(library, self.wide):<{self.wide}}", f"{cut(version, wide):<{wide}}"]
        some = list(zip(HEADS, cells, WIDE, strict=True))[: -2 if self.narrow else None]
        for head, cell, right in some:
            row.append(coloured(f"{cell:>{right}}", head) if head in statuses else f"{cell:>{right}}")
        return "  ".join(row)


def is_format(verdict: Verdict) -> bool:
    """Return whether it is about a block format, and no data type."""
    return not any(row.what for row in verdict.rows)


def summary(verdicts: Sequence[Verdict], found: Sequence[Finding], seconds: float) -> list[str]:
    """Return how many types and formats of each status, how many findings, values and seconds."""
    counts = Counter(verdict.status for verdict in verdicts)
    libraries = len({verdict.library for verdict in verdicts})
    judged = _counted(len(verdicts), "type or format", "types and formats")
    judged += f" of {_counted(libraries, 'library', 'libraries')}"
    said = ", ".join(f"{counts[status]} {status}" for status in WORST)
    tried = sum(verdict.tried for verdict in verdicts)
    last = f"{_counted(len(found), 'finding', 'findings')}. {tried:,} values, {seconds:.0f} s."
    lines = wrapped(f"{judged}: {said}; {last}", width())
    if faulty := [verdict for verdict in verdicts if verdict.agree and verdict.faults]:
        known = _counted(sum(len(verdict.faults) for verdict in faulty), "known fault", "known faults")
        said = f"{len(faulty)} agree, with {known}: the library does as its profile says, which itself parts from"
        lines += wrapped(f"{said} the published definition of the format; see `kbit-ref departures`.", width())
    return lines


def _counted(n: int, one: str, many: str) -> str:
    return f"{n:,} {one if n == 1 else many}"


def finding_lines(found: Sequence[Finding], most: int = MOST) -> list[str]:
    """Return a line for each finding, with a line of heads; those beyond `most` are counted."""
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
        room = len(row[2]) - len(finding.library) - 1
        where = f"{finding.library} {cut(row[2][-room:], widths[2] - len(finding.library) - 1, 8)}"
        line = _line((*row[:2], where, *row[3:]), widths)
        start, end = widths[0] + 2, widths[0] + widths[1] + 2
        lines.append(line[:start] + coloured(line[start:end], finding.status) + line[end:])
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
    """Return the smallest input, and both answers, as short as they can be said."""
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
    """Round the numbers of many digits in a text to four."""
    return re.sub(r"-?\d+\.\d{4,}(e[+-]?\d+)?", lambda found: f"{float(found[0]):.4g}", text)


def legend() -> list[str]:
    """Return what the words of the page mean."""
    return textwrap.wrap("; ".join(f"{word}: {meaning}" for word, meaning in LEGEND.items()) + ".", width())


def details(number: int, finding: Finding) -> list[str]:
    """Return everything about a finding: where it occurs, why, and the smallest input step by step."""
    share = f"{finding.count:,} of {finding.tried:,} answers differ ({finding.share:.2%})"
    error = "" if finding.error is None else f", median relative error {finding.error:.2g}"
    cause = finding.cause if finding.why == finding.cause else f"{finding.cause}: {finding.why}"
    facts = {"cause": cause, "record": finding.link, "formats": ", ".join(finding.formats)}
    facts |= {"parts": ", ".join(finding.parts), "answers": share + error if finding.tried else ""}
    lines = [coloured(f"{number}  {finding.status}  {finding.library} {finding.version}", finding.status)]
    for name, text in facts.items():
        if text:
            lines += _hanging(f"  {name:<8} {text}", 11)
    for theirs, spelling, example in finding.examples[:EXAMPLES]:
        lines += _hanging(f"  example  {theirs}, checked as {spelling}", 11)
        lines += [part for line in str(example).splitlines() for part in _hanging(f"    {line}", 12)]
    if len(finding.examples) > EXAMPLES:
        lines.append(f"  and examples of {len(finding.examples) - EXAMPLES} more formats (--json has all)")
    return [*lines, ""]


def verdict_tables(verdicts: Sequence[Verdict]) -> list[str]:
    """Return a table for each library: a line for each type, then for each format, with the verdict on every part."""
    lines: list[str] = []
    for library in dict.fromkeys(verdict.library for verdict in verdicts):
        for blocks in (False, True):
            mine = [v for v in verdicts if v.library == library and is_format(v) == blocks]
            if mine:
                lines += [*_table(mine), ""]
    return lines


def _table(mine: Sequence[Verdict]) -> list[str]:
    title = f"{mine[0].library} {mine[0].version}"
    rows = []
    for verdict in mine:
        cells = {title: verdict.theirs, "checked as": verdict.subject}
        for row in sorted(verdict.rows, key=lambda row: WORST.index(row.status)):  # of a column the worst is said
            cells[_column(row)] = SAID[row.status]
        cells |= {special.number: special.word for special in reversed(verdict.specials)}
        cells |= {"faults": str(len(verdict.faults))} if is_format(verdict) else {}
        rows.append(cells | ({"answers": SAID["error"]} if verdict.errors else {}))
    parts = (HEADS_OF_PARTS.get(part, part) for part in PARTS)
    known = [*SOURCES, OTHERS, "decode", *parts, *NUMBERS, REFUSED, "faults", "answers"]
    columns = [title, "checked as", *(column for column in known if any(column in row for row in rows))]
    return table([dict.fromkeys(columns, "-") | row for row in rows], columns, width())


def _column(row: Row) -> str:
    if row.what:
        return "decode" if row.what == "decode" else row.source if row.source in SOURCES else OTHERS
    return HEADS_OF_PARTS.get(row.part, row.part)


def specials(rows: Sequence[Verdict]) -> list[str]:
    """Return what becomes of NaN, infinity and refused blocks: each answer of a library once, with its formats."""
    found: dict[tuple[str, str, str, str, str], list[str]] = {}
    for row in rows:
        for special in row.specials:
            said = {"told": "noted    ", "agree": "agree    ", "disagree": "DISAGREE "}[special.status]
            plain = special.source == "float32" or row.theirs.endswith(f" from {special.source}")
            where = row.theirs if plain else f"{row.theirs} from {special.source}"
            key = (said, row.library, special.part, special.does, special.choice)
            found.setdefault(key, []).append(where)
    lines = []
    for (said, library, part, does, choice), names in found.items():
        text = f"{said} {library}: {part}: {does}" + (f" ({choice})" if choice else "")
        lines += [*_hanging(text, 10), *_hanging(f"  where   {', '.join(dict.fromkeys(names))}", 10)]
    return [*lines, ""] if lines else []


def notes(rows: Sequence[Verdict]) -> list[str]:
    """Return what was left out, a line each."""
    found = dict.fromkeys((row.library, row.theirs, note) for row in rows for note in _all_notes(row))
    lines = [line for each in found for line in _hanging("note      {}, {}: {}".format(*each), 10)]
    return [*lines, ""] if lines else []


def _all_notes(verdict: Verdict) -> Iterator[str]:
    yield from verdict.notes
    for row in verdict.rows:
        yield from (f"{row.name}: {note}" for note in row.notes)
    if left_out := sum(row.nan_left_out for row in verdict.rows):
        yield f"{left_out:,} NaN were not tried, the type has none"


def _hanging(text: str, indent: int) -> list[str]:
    return textwrap.wrap(text, width(), subsequent_indent=" " * indent)
