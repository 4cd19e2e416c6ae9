"""Measure the engine beside `x.copy()` and beside each installed peer, in one process."""

from __future__ import annotations

import argparse
import json
from dataclasses import asdict

from kbit_ref.conformance.bench import Timing, circumstances, installed, measure, scratch_bytes, tasks
from kbit_ref.errors import BadInput, message
from kbit_ref.progress import Progress

HELP = "speed and scratch memory beside a copy and the installed peers"
LIMIT = 8 << 20  # bytes of scratch a thread


def arguments(parser: argparse.ArgumentParser) -> None:
    """Options of `kbit-ref bench`."""
    parser.add_argument("--size", type=int, default=1 << 24, help="elements (default 2**24)")
    parser.add_argument("--runs", type=int, default=7, help="runs of which the median is taken (default 7)")
    parser.add_argument("--threads", type=int, nargs="+", default=[1, 2], help="numbers of threads (default 1 2)")
    parser.add_argument("--type", action="append", default=[], metavar="T", help="only rows of this type or scheme")


def run(args: argparse.Namespace) -> int:
    """Measure, print a row for each of them."""
    if args.size < 1 or args.runs < 1 or min(args.threads) < 1:
        got = f"size = {args.size}, runs = {args.runs}, threads = {args.threads}"
        raise BadInput(message("bench", got, "all are at least 1", "leave them out"))
    chosen = [task for task in tasks() if not args.type or task.subject in args.type]
    if not chosen:
        known = ", ".join(dict.fromkeys(task.subject for task in tasks()))
        raise BadInput(message("bench", f"type = {args.type}", "no row has it", f"rows are {known}"))
    where, rows, scratch = circumstances(), list[Timing](), {}
    peers = list(installed())
    with Progress("bench", len(chosen) * (len(args.threads) + 1)) as step:
        for task in chosen:
            scratch[str(task)] = scratch_bytes(task, min(args.size, 1 << 22))
            step()
            for threads in args.threads:
                rows += measure(task, args.size, threads, args.runs, peers)
                step()
    if args.json:
        document = {"circumstances": where, "scratch": scratch, "rows": [asdict(row) for row in rows]}
        print(json.dumps(document, indent=1))
        return 0
    print("; ".join(f"{name} {value}" for name, value in where.items()))
    print(f"{'operation':<34} {'threads':>7}  {'who':<12} {'of copy':>8} {'M/s':>8}  {'aim':<20} {'scratch':>8}")
    for row in rows:
        aim = ""
        if row.target is not None:
            limit = row.target if row.floor is None else row.floor
            met = "met" if row.ratio >= row.target else "floor met" if row.ratio >= limit else "not met"
            aim = f"{row.target:.2f} {met}"
        used = f"{scratch[row.task] / (1 << 20):.1f} MiB" if row.who == "kbit_ref" else ""
        less = f" ({row.size} elements)" if row.size != args.size else ""
        numbers = f"{row.ratio:>8.3f} {row.speed / 1e6:>8.0f}"
        print(f"{row.task:<34} {row.threads:>7}  {row.who:<12} {numbers}  {aim:<20} {used:>8}{less}".rstrip())
    over = [name for name, used in scratch.items() if used > LIMIT]
    if over:
        print(f"more than {LIMIT >> 20} MiB of scratch a thread: {', '.join(over)}")
    return 1 if over else 0
