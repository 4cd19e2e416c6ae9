"""Measure which wrong implementations the inputs of `check` find, for every profile and variant.

A variant is a mistake that happened (with each of its parameters), another layout of the bytes, another value of a
choice, or another rule. A scheme takes some seconds; all of them some minutes.
"""

from __future__ import annotations

import argparse
import json
from collections import Counter
from dataclasses import asdict

from kbit_ref.conformance.kill import FATES, Fate, kill, subjects, write_kills
from kbit_ref.progress import Progress
from kbit_ref.tensors.scheme import scheme

HELP = "measure which wrong implementations the inputs of `check` find, for every profile and variant"
EXAMPLE = "kbit-ref kill bnb-cpu-nf4"
OUTPUT = {
    "killed": "variants that the inputs of `check` tell from the scheme",
    "equal": "variants that cannot differ for finite numbers, for reasons that were checked; `--all` prints them",
    "outside": "variants that differ only for what the scheme refuses",
    "survives": "variants that the inputs do not find: blind spots",
}


def arguments(parser: argparse.ArgumentParser) -> None:
    """Add the options of `kbit-ref kill`."""
    parser.add_argument("scheme", nargs="*", help="profiles or schemes; by default all profiles (minutes)")
    parser.add_argument("--all", action="store_true", help="print what kills each variant, or why none does")
    parser.add_argument("--processes", type=int, default=2, metavar="N", help="at a time (default 2)")
    parser.add_argument("-o", "--output", metavar="FILE", help="write all of it as CSV")


def run(args: argparse.Namespace) -> int:
    """Print the table; 1 if a variant survives."""
    known = subjects()
    wanted = list(dict.fromkeys(str(scheme(name)) for name in args.scheme)) or list(known)
    with Progress("schemes", len(wanted)) as progress:
        found = kill(wanted, args.processes, progress)
    if args.output:
        write_kills(args.output, found)
    if args.json:
        print(json.dumps([asdict(each) for each in found], indent=1))
    else:
        print("\n".join(_lines(found, wanted, args.all)))
    return int(any(each.fate == "survives" for each in found))


def _lines(found: list[Fate], wanted: list[str], every: bool) -> list[str]:
    """Return a line per scheme, and one for each variant that is requested or survives."""
    names = subjects()
    lines = ["".join(f"{head:>9}" for head in FATES) + "  scheme"]
    for spelling in wanted:
        some = [each for each in found if each.scheme == spelling]
        counts = Counter(each.fate for each in some)
        known = ", ".join(names.get(spelling, (spelling,)))
        lines.append("".join(f"{counts[fate]:>9}" for fate in FATES) + f"  {known}")
        shown = [each for each in some if every or each.fate == "survives"]
        lines += [f"    {each.fate:<9} {each.variant}: {each.by}" for each in shown]
    total = Counter(each.fate for each in found)
    summary = ", ".join(f"{total[fate]:,} {fate}" for fate in FATES)
    return [*lines, f"{len(found):,} variants of {len(wanted)} schemes: {summary}"]
