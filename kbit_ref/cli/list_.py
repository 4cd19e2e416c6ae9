"""List what has a name: data types, the parts of schemes, profiles, layouts, methods."""

from __future__ import annotations

import argparse
import json
from collections.abc import Callable, Mapping, Sequence
from importlib.resources import files
from typing import Any

from kbit_ref.cli._terminal import table, width, wrapped
from kbit_ref.conformance.departures import faults
from kbit_ref.datatypes.datatype import datatype, datatypes, families
from kbit_ref.errors import BadInput, message
from kbit_ref.exact.encoders import ENCODERS
from kbit_ref.exact.rules import RULES
from kbit_ref.methods import methods
from kbit_ref.tensors.packing import layout, layouts
from kbit_ref.tensors.packing import rows as layout_rows
from kbit_ref.tensors.profiles import Profile, names_of, profiles
from kbit_ref.tensors.scheme import CHOICES, DOUBLES, MEANINGS, SCALE_DTYPES

__all__ = ["TABLES", "first_line", "markdown", "summary"]

HELP = "list data types, the parts of schemes, profiles, layouts, methods"
EXAMPLE = "kbit-ref list profiles"
OUTPUT = {
    "name, names": "as it is typed; `a ... b` stands for several, `[a|b]` for one of them, `{bits}` for a number",
    "family, source": "the kind of data type; where its numbers, or the profile, come from",
    "summary, meaning": "what it does",
    "scale, code": "how a scale rule computes the scale, or an encoder the code",
    "values": "of a choice, the default first",
    "known faults": "how many faults a library has that does as the profile says (`kbit-ref departures`)",
    "spelling": "the scheme that a profile stands for; `[]` is the word chosen in its name",
    "bits, top": "width of a code; the largest finite level",
    "codes, bytes": "how many codes a layout puts into how many bytes",
}

Row = Mapping[str, Any]
Tables = dict[str, list[Row]]  # title -> rows; a title is empty where there is only one table


def arguments(parser: argparse.ArgumentParser) -> None:
    """Add the options of `kbit-ref list`."""
    parser.add_argument(
        "what",
        nargs="?",
        choices=tuple(TABLES),
        default="types",
        help="types (default), schemes, profiles, layouts or methods",
    )
    parser.add_argument("--all", action="store_true", help="one row per name, instead of one for names that are alike")
    parser.add_argument("--markdown", action="store_true", help="print Markdown, as in the pages of the book")


def run(args: argparse.Namespace) -> int:
    """Print the registry."""
    if args.markdown and args.json:
        raise BadInput(message("list", "--markdown, --json", "two forms of one table", "choose one of them"))
    if args.markdown:
        print(markdown(args.what, every=args.all))
        return 0
    tables = TABLES[args.what](args.all)
    if args.json:
        print(json.dumps(tables.get("", tables), indent=1))
        return 0
    for i, (title, rows) in enumerate(tables.items()):
        if title:
            print("\n" * (i > 0) + title.upper())
        columns = [name for name in rows[0] if name != "source" or len(rows[0]) <= 3 or args.all]
        stacked = {"spelling", "source"} <= rows[0].keys()
        print("\n".join(_stacked(rows) if stacked else table(rows, columns, width())))
    return 0


def _stacked(rows: Sequence[Row]) -> list[str]:
    """Set name and source in a line, and the spelling below: side by side they are wider than a screen."""
    wide = min(max(len(row["name"]) for row in rows), width() // 2)
    lines = []
    for row in rows:
        more = "" if row["faults"] == "0" else f"; known faults: {row['faults']}"
        first, *others = wrapped(row["source"] + more, width() - wide - 2)
        lines += [f"{row['name']:<{wide}}  {first}", *(" " * (wide + 2) + line for line in others)]
        lines += [f"    {line}" for line in wrapped(row["spelling"], width() - 4)]
    return lines


def markdown(what: str = "types", *, every: bool = False) -> str:
    """Return the tables in Markdown, as they stand in the book."""
    parts = []
    for title, rows in TABLES[what](every).items():
        head = list(rows[0])
        lines = ["| " + " | ".join(HEADINGS.get(name, name) for name in head) + " |", "|---" * len(head) + "|"]
        lines += ["| " + " | ".join(_cell(name, row[name]) for name in head) + " |" for row in rows]
        parts.append((f"{title.capitalize()}:\n\n" if title else "") + "\n".join(lines))
    return "\n\n".join(parts)


HEADINGS = {"summary": "what it is", "faults": "known faults"}
CODE = ("name", "names", "spelling", "values")  # columns of spelled words


def _cell(column: str, value: object) -> str:
    """Return a cell: what is spelled as code, powers with ^, no bar that would end the cell."""
    text = str(value)
    if column == "values":
        text = "` `".join(text.split())
    text = f"`{text}`" if column in CODE and text else text.replace("**", "^")
    return text.replace("|", "\\|")


def first_line(thing: object) -> str:
    """Return the first line of a docstring."""
    return (thing.__doc__ or "").strip().splitlines()[0]


def _types(every: bool) -> Tables:
    if every:
        found = ((name, datatype(name)) for name in datatypes())
        rows: list[Row] = [
            {"name": name, "bits": d.bits, "family": d.family, "top": d.top, "source": d.source} for name, d in found
        ]
        return {"": rows}
    return {
        "": [
            {"names": row.spelled, "family": row.facts["family"], "summary": row.summary, "source": row.facts["source"]}
            for row in families()
        ]
    }


def _schemes(every: bool) -> Tables:
    """Return the parts that a spelling is made of."""
    return {
        "rules": [{"name": name, "scale": first_line(rule)} for name, rule in RULES.items()],
        "stored scales": [{"name": name, "summary": summary(name)} for name in SCALE_DTYPES],
        "choices, the default first": [
            {"name": name, "values": " ".join(values), "meaning": MEANINGS[name]} for name, values in CHOICES.items()
        ],
        "encoders": [{"name": name, "code": first_line(encoder)} for name, encoder in ENCODERS.items()],
        "schemes of scales quantized again": [{"name": name, "spelling": text} for name, text in DOUBLES.items()],
    }


def summary(name: str) -> str:
    """Return what the registry says of a data type, or of a stored scale."""
    found = [row.summary for row in families() if row.arguments(name) is not None]
    return found[0] if found else "IEEE single precision, float32." if name == "f32" else datatype(name).source


def _profiles(every: bool) -> Tables:
    """Return one row per line of `profiles.txt`, or one per profile."""
    rows: list[Row] = []
    for line in (files("kbit_ref.tensors") / "profiles.txt").read_text("utf-8").splitlines():
        pattern, spelling, source = line.split(maxsplit=2)
        found = [profiles()[name] for name, _ in names_of(pattern)]
        if every:
            rows += [{"name": p.name, "spelling": p.spelling, "faults": _faults([p]), "source": source} for p in found]
        else:
            rows.append({"name": pattern, "spelling": spelling, "faults": _faults(found), "source": source})
    return {"": rows}


def _faults(found: Sequence[Profile]) -> str:
    """Return how many known faults these profiles have: `1`, or `1 to 2`."""
    counts = sorted({len(faults(profile.name)) for profile in found})
    return " to ".join(str(counts[i]) for i in ((0, -1) if len(counts) > 1 else (0,)))


def _layouts(every: bool) -> Tables:
    if every:
        found = [layout(name) for name in layouts()]
        rows: list[Row] = [{"name": f.name, "bits": f.bits, "codes": f.elements, "bytes": f.bytes} for f in found]
        return {"": rows}
    return {
        "": [{"names": row.spelled, "summary": row.summary, "source": row.facts["source"]} for row in layout_rows()]
    }


def _methods(every: bool) -> Tables:
    """Return a row per method; the default of a choice stands first, and the values of a number are not listed."""
    found: list[Row] = []
    for row in methods().values():
        choices = " ".join(f"{name}={'|'.join(map(str, values))}" for name, values in row.choices.items())
        found.append({"name": row.name, "values": choices, "summary": row.summary, "source": row.source})
    return {"": found}


TABLES: dict[str, Callable[[bool], Tables]] = {
    "types": _types,
    "schemes": _schemes,
    "profiles": _profiles,
    "layouts": _layouts,
    "methods": _methods,
}
