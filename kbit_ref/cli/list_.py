"""All data types, one row a family, or one row a type with --all."""

from __future__ import annotations

import argparse
import json

from kbit_ref.datatype import datatype, datatypes, families

HELP = "the data types"


def arguments(parser: argparse.ArgumentParser) -> None:
    """Options of `kbit-ref list`."""
    parser.add_argument("--all", action="store_true", help="one row a type, not a family")
    parser.add_argument("--markdown", action="store_true", help="the table of families as it stands in the README")


def run(args: argparse.Namespace) -> int:
    """Print the registry."""
    if args.all:
        rows = [
            {"name": name, "bits": d.bits, "family": d.family, "top": d.top, "source": d.source}
            for name, d in ((name, datatype(name)) for name in datatypes())
        ]
    else:
        rows = [
            {"names": row.spelled, "family": row.facts["family"], "summary": row.summary, "source": row.facts["source"]}
            for row in families()
        ]
    if args.json:
        print(json.dumps(rows, indent=1))
        return 0
    if args.markdown:
        print(markdown())
        return 0
    columns = list(rows[0])[:-1] if not args.all else list(rows[0])
    widths = [max(len(str(row[column])) for row in rows) for column in columns]
    for row in rows:
        print("  ".join(str(row[column]).ljust(width) for column, width in zip(columns, widths, strict=True)).rstrip())
    return 0


def markdown() -> str:
    """The registry as the README's table."""
    rows = [
        f"| `{row.spelled}` | {row.facts['family']} | {row.summary} | {row.facts['source']} |" for row in families()
    ]
    return "\n".join(["| names | family | what it is | source |", "|---|---|---|---|", *rows])
