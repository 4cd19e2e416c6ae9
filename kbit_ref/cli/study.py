"""Measure loss and accuracy against bits, over models, types, block sizes and methods."""

from __future__ import annotations

import argparse
import json
import os
import sys
import tempfile
import time
from dataclasses import asdict
from pathlib import Path

from kbit_ref.cli._options import writable_directory, writable_file
from kbit_ref.cli._parser import Parser
from kbit_ref.data import data_folder
from kbit_ref.errors import BadInput, message
from kbit_ref.progress import Progress
from kbit_ref.study import distortion
from kbit_ref.study.distortion import MEASURES
from kbit_ref.study.plan import Plan, read_plan
from kbit_ref.study.quick import headlines, table
from kbit_ref.study.results import read
from kbit_ref.study.run import run as run_plan

ABOUT = """\
Columns are block sizes; each block has a scale (and an offset, if the scale rule has one) of 16 bits. `one scale` is
the best single scale, and for types of more than 8 bits the scale 1. t5 and t3 are Student's t with 5 and 3 degrees of
freedom; every source has variance 1."""
QUICK = {
    "model, bits": "which model (its number of parameters), and the width of a code",
    "other columns": "per data type: loss above the least possible one, in nats per token; share of right answers",
}
HELP = "measure loss and accuracy against bits, over models, types, block sizes, methods"
EXAMPLE = "kbit-ref study quick"
OUTPUT = "a table or a file; `kbit-ref study ACTION --help` says which."


def arguments(parser: Parser) -> None:
    """Add the options of `kbit-ref study`."""
    actions = parser.add_subparsers(dest="action", required=True, metavar="ACTION")
    full = actions.add_parser("run", help="measure what a plan asks for and the results do not have yet")
    full.add_argument("plan", metavar="PLAN.toml", help="what to measure; data/study/plan.toml is the full study")
    full.add_argument("-o", "--output", required=True, metavar="RESULTS.sqlite", help="written, or continued")
    quick = actions.add_parser("quick", help="measure the paper's four types at 3 to 8 bits, in a minute")
    quick.add_argument("-o", "--output", metavar="RESULTS.sqlite", help="keep the results (default: print the table)")
    for sub in (full, quick):
        workers = os.cpu_count() or 1
        sub.add_argument("--workers", type=int, metavar="N", help=f"number of processes (default {workers})")
    full.add_argument("--dask", default="", metavar="ADDRESS", help="use the workers of this Dask scheduler instead")
    report = actions.add_parser("report", help="draw fits, findings and pictures from results")
    report.add_argument("results", metavar="RESULTS.sqlite")
    report.add_argument("-o", "--output", required=True, metavar="DIR", help="the directory for the report")
    report.add_argument("--models", default="*", metavar="PATTERN", help="use only these models, e.g. 'pythia-*'")
    lost = actions.add_parser("distortion", help="measure the distance of each type from Shannon's bound, in bits")
    lost.add_argument("types", nargs="*", metavar="TYPE", help="data types (default: all)")
    lost.add_argument("--measure", choices=tuple(MEASURES), default="width", help="bits (at which rate), or decibels")
    full.explain(
        "kbit-ref study run data/study/plan.toml -o results.sqlite", "the file of results; progress shows cells."
    )
    quick.explain(EXAMPLE, QUICK)
    report.explain("kbit-ref study report results.sqlite -o report", "the page: findings, fits, pictures, as HTML.")
    lost.explain("kbit-ref study distortion nf4 e2m1fn", ABOUT)
    for sub in (full, quick, report, lost):
        sub.add_argument("--json", action="store_true", help="print one JSON document")


def run(args: argparse.Namespace) -> int:
    """Run, or report."""
    if args.action == "report":
        from kbit_ref.figures import draw
        from kbit_ref.study.report import report

        if Path(args.results).is_file():  # else that is what is wrong
            writable_directory("study", args.output)
        with Progress("report", 1) as step:
            page = report(args.results, args.output, draw, models=args.models, tell=step.coming)
        print(json.dumps({"report": args.output, "page": str(page)}) if args.json else page)
        return 0
    if args.action == "distortion":
        with Progress("distortion", 1) as step:
            rows = distortion.table(args.types or None, tell=step.coming)
        lines = distortion.text(rows, args.measure)
        print(*([json.dumps([asdict(row) for row in rows])] if args.json else [*lines, "", ABOUT]), sep="\n")
        return 0
    if args.workers is not None and args.workers < 1:
        raise BadInput(message("study", f"workers = {args.workers}", "it is at least 1", "leave it out"))
    workers = args.workers or os.cpu_count() or 1
    if args.output is not None:
        writable_file("study", args.output)
    if args.action == "quick":
        return _quick(args.output, workers, args.json)
    begin = time.monotonic()
    plan = read_plan(args.plan)
    measured = _run(plan, args.output, workers, args.dask)
    seconds, there = time.monotonic() - begin, len(plan.cells()) - measured
    facts = {"results": args.output, "measured": measured, "seconds": seconds}
    print(f"{_cells(measured)} measured, {there} were there, {seconds:.0f} s", file=sys.stderr)
    print(json.dumps(facts) if args.json else args.output)
    return 0


def _cells(n: int) -> str:
    return "1 cell" if n == 1 else f"{n:,} cells"


def _run(plan: Plan, path: str, workers: int, dask: str = "") -> int:
    """Run a plan, and show progress and the time left."""
    with Progress("study", 1) as step:

        def tell(done: int, all_: int, title: str) -> None:
            step.expect(all_)
            step(done - step.done, title=title)

        return run_plan(plan, path, workers, dask, tell)


def _quick(output: str | None, workers: int, as_json: bool) -> int:
    """Print the table and what it says."""
    plan = read_plan(data_folder("study") / "quick.toml")
    begin = time.monotonic()
    with tempfile.TemporaryDirectory() as folder:
        path = output or str(Path(folder) / "quick.sqlite")
        _run(plan, path, workers)
        results = read(path)
    rows, lines = table(results), headlines(results)
    if as_json:
        print(json.dumps({"seconds": time.monotonic() - begin, "rows": rows, "findings": lines}, indent=1))
        return 0
    names = list(rows[0])
    cells = [names, *([_text(value) for value in row.values()] for row in rows)]
    widths = [max(len(line[i]) for line in cells) for i in range(len(names))]
    print("Excess loss (nats a token above the least possible) and right answers; blocks of 64, everything counted.\n")
    for line in cells:
        print("  ".join(f"{cell:>{width}}" for cell, width in zip(line, widths, strict=True)))
    print("", *lines, sep="\n")
    return 0


def _text(value: object) -> str:
    return f"{value:.3f}" if isinstance(value, float) else str(value)
