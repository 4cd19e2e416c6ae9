"""The verdicts on block formats as a CSV file, with their date."""

from __future__ import annotations

import csv
import datetime
from collections.abc import Iterator, Sequence
from pathlib import Path

from kbit_ref.conformance.verdict import Row, Verdict

__all__ = ["COLUMNS", "csv_rows", "write_csv"]

COLUMNS = (
    *("date", "library", "version", "profile", "spelling", "theirs"),
    *("part", "verdict", "values", "differing", "cause", "example"),
)


def csv_rows(rows: Sequence[Verdict], date: str) -> Iterator[dict[str, str]]:
    """Yield one row a part and kind of difference; one for a part that agrees; one for an error."""
    for row in rows:
        about = {"date": date, "library": row.library, "version": row.version, "profile": row.profile}
        about |= {"spelling": row.spelling, "theirs": row.theirs}
        for part in row.rows:
            yield from ({**about, **cells} for cells in _of_part(part))
        for special in row.specials:
            cells = {"part": special.number, "verdict": special.status, "values": "", "differing": ""}
            example = f"{special.does} ({special.source})"
            yield {**about, **cells, "cause": special.choice or special.word, "example": example}
        for error in row.errors:
            cells = {"part": "", "verdict": "error", "values": "", "differing": "", "cause": error, "example": ""}
            yield {**about, **cells}


def _of_part(part: Row) -> Iterator[dict[str, str]]:
    base = {"part": part.part, "values": str(part.tried)}
    if not part.differences:
        yield {**base, "verdict": part.status, "differing": "0", "cause": "", "example": ""}
    for kind in part.differences:
        verdict = "known" if kind.link else "disagree"
        cause = kind.cause + (f" ({kind.link})" if kind.link else "")
        example = kind.example.line if kind.example else ""
        yield {**base, "verdict": verdict, "differing": str(kind.count), "cause": cause, "example": example}


def write_csv(path: str | Path, rows: Sequence[Verdict], date: str | None = None) -> None:
    """Write the matrix; the date is today's."""
    today = date or datetime.date.today().isoformat()
    with Path(path).open("w", encoding="utf-8", newline="") as file:
        writer = csv.DictWriter(file, COLUMNS, lineterminator="\n")
        writer.writeheader()
        writer.writerows(csv_rows(rows, today))
