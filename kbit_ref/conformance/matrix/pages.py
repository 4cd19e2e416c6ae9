"""The matrix on pages: Markdown, and one HTML file that needs nothing else. Both are drawn from the JSON of it."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from html import escape
from typing import Any

from kbit_ref.conformance.matrix.pairs import Group, Pair

__all__ = ["alike_lines", "counts", "html", "markdown"]

Row = dict[str, Any]
SOURCES = ("float16", "bfloat16", "float32", "float64", "codes")
PARTS = ("scales", "offsets", "zero_points", "global_scale", "scale_codes", "scale_scales", "scale_offset")
COLUMNS = (*PARTS, "codes", "packed", "decoded", "nan", "inf")
STATUSES = ("agree", "known", "disagree", "error")
TITLE = "Who computes what"
INTRODUCTION = (
    "Every installed library on every data type and block format that it has, bit for bit: first against the "
    "definition that its profile names, then against each other. *agree*: every value; *known*: differences that "
    "are on public record, and still occur; *disagree*: others; *error*: no answer, or fewer values than expected."
)


def counts(rows: Sequence[Row]) -> dict[str, int]:
    """Return how many verdicts of each status, of types or of parts of block formats."""
    found = [each["status"] for row in rows for each in row["rows"]]
    found += ["error" for row in rows if row["errors"]]
    return {status: found.count(status) for status in STATUSES}


def alike_lines(group: Group) -> list[str]:
    """Return the members in sets that give identical answers, a line each; then who gave none."""
    lines = [f"{len(names)} alike: {', '.join(names)}" if len(names) > 1 else names[0] for names in group.alike]
    return [*lines, *(f"({text})" for text in group.missing)]


def _libraries(matrix: Row) -> Iterator[tuple[str, str, list[Row], list[Row]]]:
    """Yield name, version, types and block formats of each library."""
    for library, version in matrix["versions"].items():
        own = [[row for row in matrix[kind] if row["library"] == library] for kind in ("types", "blocks")]
        yield library, version, own[0], own[1]


def _groups(matrix: Row) -> list[Group]:
    return [Group.from_dict(each) for each in matrix["groups"]]


# Markdown ----------------------------------------------------------------------------------------


def markdown(matrix: Row) -> str:
    """Return the matrix as Markdown: the counts, the tables of verdicts, the differences, who agrees with whom."""
    lines = [f"# {TITLE}, {matrix['date']}", "", INTRODUCTION, ""]
    lines += _md_table(("library", "version", *(f"types: {s}" for s in STATUSES), *(f"parts: {s}" for s in STATUSES)))
    for library, version, types, blocks in _libraries(matrix):
        lines.append(_md_row((library, version, *counts(types).values(), *counts(blocks).values())))
    lines += ["", "## Data types", ""]
    lines += _md_table(("library", "name", "type", *SOURCES))
    for row in matrix["types"]:
        cells = {verdict["source"]: _verdict_words(verdict) for verdict in row["rows"]}
        name = (row["library"], row["theirs"], row["subject"])
        lines.append(_md_row((*name, *(cells.get(source, "") for source in SOURCES))))
    lines += ["", "## Block formats", ""]
    lines += _md_table(("library", "name", "profile", *COLUMNS))
    for row in matrix["blocks"]:
        lines.append(_md_row((row["library"], row["theirs"], row["subject"], *(_block_words(row, c) for c in COLUMNS))))
    lines += ["", "## Differences", ""]
    lines += [f"- {line}" for line in _difference_lines(matrix)]
    faults = [f"- {row['library']} {row['theirs']}: {line}" for row in matrix["blocks"] for line in _faults(row)]
    lines += ["", "## Known faults of those that agree", "", *faults] if faults else []
    lines += ["", "## Who agrees with whom", ""]
    for group in _groups(matrix):
        lines += [f"### {group.name} ({group.kind})", "", *(f"- {line}" for line in alike_lines(group)), ""]
    return "\n".join(lines)


def _md_table(heads: Sequence[str]) -> list[str]:
    return [_md_row(heads), _md_row(["---"] * len(heads))]


def _md_row(cells: Sequence[Any]) -> str:
    return "| " + " | ".join(str(cell).replace("|", "\\|") for cell in cells) + " |"


def _verdict_words(verdict: Row) -> str:
    different = verdict["different"]
    return f"**{verdict['status']}** {different:,}" if different else str(verdict["status"])


def _block_words(row: Row, column: str) -> str:
    part = _part(row, column)
    if part is not None:
        return _verdict_words(part)
    special = _special(row, column)
    return "" if special is None else str(special["word"])


def _part(row: Row, name: str) -> Row | None:
    return next((part for part in row["rows"] if part["part"] == name), None)


def _special(row: Row, number: str) -> Row | None:
    return next((special for special in row["specials"] if special["number"] == number), None)


def _difference_lines(matrix: Row) -> Iterator[str]:
    for row in matrix["types"]:
        for verdict in row["rows"]:
            for each in verdict["differences"]:
                example = _type_example(each["example"])
                link = f"; on record: {each['link']}" if each["link"] else ""
                name = f"{row['library']} {row['theirs']} from {verdict['source']}"
                yield f"{name}: {each['count']:,} x {each['cause']}: {example}{link}"
            yield from (f"{row['library']} {row['theirs']}: error: {error}" for error in verdict["errors"])
    for row in matrix["blocks"]:
        for part in row["rows"]:
            for kind in part["differences"]:
                link = f"; on record: {kind['link']}" if kind["link"] else ""
                name = f"{row['library']} {row['theirs']}, {part['part']}"
                yield f"{name}: {kind['count']:,} x {kind['cause']}: {_block_example(kind['example'])}{link}"
        yield from (f"{row['library']} {row['theirs']}: error: {error}" for error in row["errors"])


def _type_example(example: Row) -> str:
    return f"`{example['bits']}` = {example['value']}: theirs {example['theirs']}, ours {example['ours']}"


def _block_example(example: Row | None) -> str:
    if example is None:
        return ""
    at = f" at {example['at']}" if example["at"] else ""
    return f"`{example['value']}` ({example['source']}){at}: theirs {example['theirs']}, ours {example['ours']}"


# HTML --------------------------------------------------------------------------------------------

STYLE = """
:root { color-scheme: light dark; --line: #8884; --good: #2e7d3233; --known: #0277bd33; --bad: #c6282833; }
body { font: 15px/1.45 system-ui, sans-serif; margin: 2rem auto; max-width: 110rem; padding: 0 1rem; }
h1, h2, h3 { line-height: 1.2; } h2 { margin-top: 2.5rem; border-bottom: 1px solid var(--line); }
table { border-collapse: collapse; margin: .5rem 0 1.5rem; }
th, td { border: 1px solid var(--line); padding: .2rem .5rem; text-align: left; vertical-align: top; }
th { font-weight: 600; } td.name, code, .box { font-family: ui-monospace, monospace; font-size: 13px; }
.wide { overflow-x: auto; }
td.agree, td.alike { background: var(--good); } td.known { background: var(--known); }
td.disagree, td.error, td.apart { background: var(--bad); } td.none { opacity: .4; }
summary { cursor: pointer; } .box { max-width: 70ch; white-space: pre-wrap; overflow-wrap: anywhere; margin: .3rem 0; }
nav a { margin-right: 1rem; }
"""


def html(matrix: Row) -> str:
    """Return the matrix as one page; what differs opens its counterexamples, without any script."""
    parts = [
        "<!doctype html>",
        '<html lang="en"><head><meta charset="utf-8">',
        '<meta name="viewport" content="width=device-width, initial-scale=1">',
        f"<title>{TITLE}, {escape(matrix['date'])}</title><style>{STYLE}</style></head><body>",
        f"<h1>{TITLE}, {escape(matrix['date'])}</h1>",
        f"<p>{escape(INTRODUCTION).replace('*agree*', '<b>agree</b>').replace('*', '')}",
        "A cell that can be opened shows counterexamples.</p>",
        '<nav><a href="#types">Data types</a><a href="#blocks">Block formats</a>'
        '<a href="#pairs">Who agrees with whom</a></nav>',
        *_html_summary(matrix),
        '<h2 id="types">Data types</h2>',
        *_html_types(matrix),
        '<h2 id="blocks">Block formats</h2>',
        *_html_blocks(matrix),
        '<h2 id="pairs">Who agrees with whom</h2>',
        "<p>The same inputs to all of a group; a number is how many answers of the two differ. "
        "Block formats are compared by the numbers that codes and scales stand for.</p>",
        *(line for group in _groups(matrix) for line in _html_group(group)),
        "</body></html>",
    ]
    return "\n".join(parts) + "\n"


def _html_summary(matrix: Row) -> Iterator[str]:
    heads = ("library", "version", *(f"types: {s}" for s in STATUSES), *(f"parts: {s}" for s in STATUSES))
    yield _table_head(heads)
    for library, version, types, blocks in _libraries(matrix):
        cells = [f"<td>{escape(text)}</td>" for text in (library, version)]
        for found in (counts(types), counts(blocks)):
            cells += [f'<td class="{s if n else "none"}">{n}</td>' for s, n in found.items()]
        yield f"<tr>{''.join(cells)}</tr>"
    yield "</table></div>"


def _table_head(heads: Sequence[str]) -> str:
    return '<div class="wide"><table><tr>' + "".join(f"<th>{escape(head)}</th>" for head in heads) + "</tr>"


def _html_types(matrix: Row) -> Iterator[str]:
    yield _table_head(("library", "name", "type", *SOURCES))
    for row in matrix["types"]:
        cells = [f'<td class="name">{escape(row[key])}</td>' for key in ("library", "theirs", "subject")]
        verdicts = {verdict["source"]: verdict for verdict in row["rows"]}
        for source in SOURCES:
            verdict = verdicts.get(source)
            if verdict is None:
                cells.append('<td class="none">-</td>')
                continue
            lines = [_type_lines(each) for each in verdict["differences"]]
            cells.append(_cell(verdict["status"], _told(verdict), [*lines, *verdict["errors"]]))
        yield f"<tr>{''.join(cells)}</tr>"
    yield "</table></div>"


def _told(verdict: Row) -> str:
    """Return the status, and how many values differ."""
    listed = verdict["differences"]
    different = sum(each["count"] for each in listed)
    return f"{verdict['status']} {different:,}" if different else str(verdict["status"])


def _type_lines(each: Row) -> str:
    e = each["example"]
    said = [f"{each['count']:,} x {each['cause']}: {each['why']}", *_record(each)]
    said += [f"input {e['bits']} = {e['value']}", f"theirs {e['theirs']}", f"ours {e['ours']}", *e["steps"]]
    return "\n".join(said)


def _record(each: Row) -> list[str]:
    return [f"on record: {each['link']}"] if each["link"] else []


def _cell(status: str, text: str, details: Sequence[str]) -> str:
    if not details:
        return f'<td class="{status}">{escape(text)}</td>'
    boxes = "".join(f'<div class="box">{escape(each)}</div>' for each in details)
    return f'<td class="{status}"><details><summary>{escape(text)}</summary>{boxes}</details></td>'


def _html_blocks(matrix: Row) -> Iterator[str]:
    yield _table_head(("library", "name", "profile", *COLUMNS))
    for row in matrix["blocks"]:
        cells = [f'<td class="name">{escape(row[key])}</td>' for key in ("library", "theirs")]
        about = [row["spelling"], *row["notes"], *(f"error: {error}" for error in row["errors"])]
        about += [f"known fault: {line}" for line in _faults(row)]
        cells.append(_cell("error" if row["errors"] else "name", row["subject"], about))
        cells += [_html_part(row, column) for column in COLUMNS]
        yield f"<tr>{''.join(cells)}</tr>"
    yield "</table></div>"


def _faults(row: Row) -> list[str]:
    """Return what is wrong with the profile itself; matrices of old releases say nothing of it."""
    found = row.get("faults", ())
    return [f"{each['choices']}: {each['meaning']} ({each['effect']}); `{each['example']}`" for each in found]


def _html_part(row: Row, column: str) -> str:
    part = _part(row, column)
    if part is not None:
        return _cell(part["status"], _told(part), [_kind_lines(kind) for kind in part["differences"]])
    own = [special for special in row["specials"] if special["number"] == column]
    if not own:
        return '<td class="none">-</td>'
    said = [f"{s['source']}: {s['does']}" + (f" ({s['choice']})" if s["choice"] else "") for s in own]
    return _cell(own[0]["status"], own[0]["word"], said)


def _kind_lines(kind: Row) -> str:
    said = [f"{kind['count']:,} x {kind['cause']}: {kind['why']}", *_record(kind)]
    e = kind["example"]
    if e is not None:
        said += [f"block {e['value']} ({e['source']})", *([f"at {e['at']}"] if e["at"] else [])]
        said += [f"theirs {e['theirs']}", f"ours {e['ours']}", *e["steps"]]
    return "\n".join(said)


def _html_group(group: Group) -> Iterator[str]:
    yield f"<h3>{escape(group.name)}</h3><ul>"
    yield from (f"<li>{escape(line)}</li>" for line in alike_lines(group))
    yield "</ul><details><summary>pair by pair</summary>"
    yield _table_head(("", *(str(i + 1) for i in range(len(group.members)))))
    pairs = {(pair.first, pair.second): pair for pair in group.pairs}
    for i, name in enumerate(group.members):
        cells = [f'<td class="name">{i + 1} {escape(name)}</td>']
        for j in range(len(group.members)):
            cells.append('<td class="none"></td>' if i == j else _html_pair(pairs[min(i, j), max(i, j)], i < j))
        yield f"<tr>{''.join(cells)}</tr>"
    yield "</table></div></details>"


def _html_pair(pair: Pair, upper: bool) -> str:
    """Return a cell: above the diagonal with an example, below it the number alone."""
    if not pair.tried:
        return '<td class="none">-</td>'
    if not pair.differing:
        return '<td class="alike">=</td>'
    text = f"{pair.differing:,}"
    if not upper:
        return f'<td class="apart">{text}</td>'
    signs = f"; {pair.zeros:,} of them in the sign of a zero alone" if pair.zeros else ""
    details = [f"{pair.differing:,} of {pair.tried:,} differ{signs}", f"first {pair.example}"]
    return _cell("apart", text, details)
