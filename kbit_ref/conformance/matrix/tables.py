"""The table of verdicts on block formats: as text, and as the CSV file that is kept with its date."""

from __future__ import annotations

import csv
import datetime
from collections.abc import Iterator, Sequence
from pathlib import Path

from kbit_ref.conformance.diagnosis.block_causes import FOLLOWS, UNEXPLAINED
from kbit_ref.conformance.implementations.claims import PARTS
from kbit_ref.conformance.specials import NUMBERS
from kbit_ref.conformance.verdict import Difference, Row, Verdict

__all__ = ["COLUMNS", "csv_rows", "differences", "notes", "specials", "summary", "table", "write_csv"]

COLUMNS = (
    *("date", "library", "version", "profile", "spelling", "theirs"),
    *("part", "verdict", "values", "differing", "cause", "example"),
)
SAID = {"agree": "agree", "known": "known", "disagree": "DISAGREE", "error": "ERROR"}
HEADS = {
    "zero_points": "zeros",
    "global_scale": "global",
    "scale_codes": "s.codes",
    "scale_scales": "s.scales",
    "scale_offset": "s.offset",
}
WIDTH = 8


def table(rows: Sequence[Verdict]) -> list[str]:
    """One line a profile: their name, ours, the verdict on each part, NaN and infinity, known faults of the profile."""
    lines: list[str] = []
    for library in dict.fromkeys(row.library for row in rows):
        mine = [row for row in rows if row.library == library]
        shown = [part for part in PARTS if any(row.part(part) for row in mine)]
        heads = [HEADS.get(part, part) for part in shown] + [*NUMBERS, "faults"]
        title = f"{library} {mine[0].version}"
        theirs = max(len(title), *(len(row.theirs) for row in mine))
        ours = max(len("profile"), *(len(row.profile) for row in mine))
        lines.append((f"{title:<{theirs}}  {'profile':<{ours}}  " + "  ".join(f"{h:<{WIDTH}}" for h in heads)).rstrip())
        for row in mine:
            verdicts = [row.part(name) for name in shown]
            cells = [SAID[verdict.status] if verdict else "-" for verdict in verdicts]
            cells += [special.word if (special := row.special(number)) else "-" for number in NUMBERS]
            cells.append(str(len(row.faults)))
            line = f"{row.theirs:<{theirs}}  {row.profile:<{ours}}  " + "  ".join(f"{c:<{WIDTH}}" for c in cells)
            lines.append((line + ("  ERROR" if row.errors else "")).rstrip())
        lines.append("")
    return lines


def differences(rows: Sequence[Verdict]) -> list[str]:
    """For each library each kind of difference once, with the first counterexample; errors last."""
    kinds: dict[tuple[str, ...], list[tuple[Verdict, Difference]]] = {}
    errors: dict[tuple[str, str], list[str]] = {}
    for row in rows:
        for part in row.rows:
            for kind in part.differences:
                alone = row.theirs if kind.cause in (UNEXPLAINED, FOLLOWS) else ""  # each has causes of its own
                kinds.setdefault((row.library, part.part, kind.cause, kind.link, alone), []).append((row, kind))
            for error in part.errors:
                errors.setdefault((row.library, error), []).append(row.theirs)
        for error in row.errors:
            errors.setdefault((row.library, error), []).append(row.theirs)
    lines = []
    for (library, name, cause, link, _), found in sorted(kinds.items(), key=lambda item: not item[0][3]):
        row, first = found[0]
        count = sum(kind.count for _, kind in found)
        said = f"explained by {cause}" if cause.startswith(("+", "rule=")) else cause
        lines.append(f"{'known    ' if link else 'DISAGREE '} {library}: {name}: {said}: {first.why}")
        if link:
            lines.append(f"  record  {link}")
        lines.append(f"  values  {count:,}: {', '.join(dict.fromkeys(r.theirs for r, _ in found))}")
        lines.append(f"  first   {row.theirs} is {row.spelling}")
        lines += ["  " + line for line in str(first.example).splitlines()] if first.example else []
        lines.append("")
    for (library, error), names in errors.items():
        lines += [f"ERROR     {library}: {error}", f"  where   {', '.join(dict.fromkeys(names))}", ""]
    return lines


def specials(rows: Sequence[Verdict]) -> list[str]:
    """What becomes of NaN and infinity: each library and each answer once, with the formats that give it."""
    found: dict[tuple[str, str, str, str, str], list[str]] = {}
    for row in rows:
        for special in row.specials:
            said = {"told": "told     ", "agree": "agree    ", "disagree": "DISAGREE "}[special.status]
            plain = special.source == "float32" or row.theirs.endswith(f" from {special.source}")
            where = row.theirs if plain else f"{row.theirs} from {special.source}"
            key = (said, row.library, special.number, special.does, special.choice)
            found.setdefault(key, []).append(where)
    lines = []
    for (said, library, number, does, choice), names in found.items():
        text = f"{said} {library}: {number} in a block: {does}" + (f" ({choice})" if choice else "")
        lines += [text, f"  where   {', '.join(dict.fromkeys(names))}"]
    return [*lines, ""] if lines else []


def notes(rows: Sequence[Verdict]) -> list[str]:
    """What was left out, a line each."""
    lines = [f"note      {row.library}, {row.theirs}: {note}" for row in rows for note in row.notes]
    return [*dict.fromkeys(lines), ""] if lines else []


def summary(rows: Sequence[Verdict], seconds: float) -> list[str]:
    """The last lines: how many parts of each verdict, the formats with an error, values, time."""
    parts = [part for row in rows for part in row.rows]
    said = [f"{sum(part.status == status for part in parts)} {status}" for status in ("agree", "known", "disagree")]
    failed = sum(row.status == "error" for row in rows)
    lines = []
    different = sum(part.different for part in parts)
    if different:
        lines.append(f"{different:,} values differ from the profiles and are on no public record that we know of.")
    if faulty := [row for row in rows if row.agree and row.faults]:
        lines.append(f"{_counted(len(faulty), 'format')} that agree have known faults: see `kbit-ref departures`.")
    judged = f"{_counted(len(parts), 'part')} of {_counted(len(rows), 'block format')}"
    libraries = len({row.library for row in rows})
    where = f"{libraries} {'library' if libraries == 1 else 'libraries'}"
    tried = sum(row.tried for row in rows)
    errors = f"{_counted(failed, 'format')} with an error"
    lines.append(f"{judged}, {where}: {', '.join(said)}; {errors}. {tried:,} values, {seconds:.0f} s.")
    return lines


def _counted(n: int, noun: str) -> str:
    return f"{n} {noun}{'s' * (n != 1)}"


def csv_rows(rows: Sequence[Verdict], date: str) -> Iterator[dict[str, str]]:
    """One row a part and kind of difference; one for a part that agrees; one for an error."""
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
