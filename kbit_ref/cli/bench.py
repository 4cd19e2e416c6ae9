"""Measure the engine beside `x.copy()` and beside each installed peer, in one process.

The exit code tells what is wrong, not what is slow: 1 if an operation of ours takes more memory than
it may, else 0. A missed target, a peer that raises and a peer that answers otherwise are lines of the
table: the first depends on the machine, the others on somebody else.
"""

from __future__ import annotations

import argparse
import json
import os
from collections.abc import Sequence
from dataclasses import asdict

from kbit_ref.bench.bench import Timing, circumstances, installed, measure, scratch_bytes, tasks
from kbit_ref.bench.bench_models import ModelTiming, measured
from kbit_ref.bench.study import quick_cost
from kbit_ref.errors import BadInput, message
from kbit_ref.progress import Progress
from kbit_ref.tensors.scheme import named

HELP = "measure speed and scratch memory, beside a copy and the installed libraries"
EXAMPLE = "kbit-ref bench --type nf4 --size 1048576"
OUTPUT = {
    "operation": "what is measured, and on which type or scheme",
    "threads": "how many threads it may use",
    "who": "copy (`x.copy()`), kbit_ref, or another library",
    "of copy": "speed as a share of the speed of the copy",
    "M/s": "millions of elements a second",
    "aim": "the share of the copy that kbit_ref should reach, and whether it does",
    "scratch": "extra memory that kbit_ref takes, all threads together",
    "beside": "speed of kbit_ref as a multiple of the fastest other library; or what to know of that library",
}
LIMIT = 8 << 20  # bytes of scratch a thread
AIMED_AT = 1 << 22  # elements, at least, that the targets are for


def arguments(parser: argparse.ArgumentParser) -> None:
    """Add the options of `kbit-ref bench`."""
    parser.add_argument("--size", type=int, default=1 << 24, help="number of elements (default 2**24)")
    parser.add_argument("--runs", type=int, default=7, help="number of runs; the median counts (default 7)")
    parser.add_argument(
        "--threads", type=int, nargs="+", default=[1, 2], help="numbers of threads to try (default 1 2)"
    )
    other = parser.add_mutually_exclusive_group()
    other.add_argument("--models", action="store_true", help="measure the transformer instead, beside `transformers`")
    other.add_argument("--study", action="store_true", help="measure the quick study instead")
    parser.add_argument(
        "--type", action="append", default=[], metavar="T", help="only this type or scheme (repeatable)"
    )


def run(args: argparse.Namespace) -> int:
    """Measure, print a row for each of them."""
    for name, least in (("size", args.size), ("runs", args.runs), ("threads", min(args.threads))):
        if least < 1:
            raise BadInput(message("bench", f"{name} = {least}", "it is at least 1", "leave it out"))
    if args.models:
        return _models(args)
    if args.study:
        return _study(args)
    known = list(dict.fromkeys(task.subject for task in tasks()))
    types = {name if name in known else str(named(name)) for name in args.type}
    chosen = [task for task in tasks() if not types or task.subject in types]
    if not chosen:
        raise BadInput(message("bench", f"type = {', '.join(types)}", "no row has it", f"rows are {', '.join(known)}"))
    for name in ("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS"):
        os.environ.setdefault(name, "1")  # for peers that are imported now; torch gets the threads of each row
    where, rows, scratch = circumstances(), list[Timing](), {}
    peers = list(installed())
    with Progress("bench", len(chosen) * len(args.threads)) as step:
        for task in chosen:
            step(0, f"bench {task}")
            for threads in args.threads:
                scratch[str(task), threads] = scratch_bytes(task, min(args.size, 1 << 22), threads)
                rows += measure(task, args.size, threads, args.runs, peers)
                step()
    over = sorted({name for (name, _), used in scratch.items() if used > LIMIT})
    wrong = sorted({f"{row.who} ({row.task})" for row in rows if row.differs})
    if args.json:
        used = [{"task": name, "threads": n, "bytes": int(amount)} for (name, n), amount in scratch.items()]
        timings = [asdict(row) | {"speed": row.speed, "met": met(row)} for row in rows]
        print(json.dumps({"circumstances": where, "scratch": used, "rows": timings}, indent=1))
        return 1 if over else 0
    print("; ".join(f"{name} {value}" for name, value in where.items()))
    width = max(len(row.task) for row in rows)
    head = f"{'operation':<{width}} {'threads':>8}  {'who':<12} {'of copy':>8} {'M/s':>8}"
    print(f"{head}  {'aim':<20} {'scratch':>8}  beside")
    for row in rows:
        used_here = f"{scratch[row.task, row.threads] / (1 << 20):.1f} MiB" if row.who == "kbit_ref" else ""
        numbers = f"{row.ratio:>8.3f} {row.speed / 1e6:>8.0f}" if not row.error else f"{'-':>8} {'-':>8}"
        line = f"{row.task:<{width}} {row.threads:>8}  {row.who:<12} {numbers}  {met(row):<20} {used_here:>8}  "
        print((line + beside(row, rows, args.size)).rstrip())
    if wrong:
        print(f"other answers than ours: {', '.join(wrong)}")
    if over:
        print(f"more than {LIMIT >> 20} MiB of scratch a thread: {', '.join(over)}")
    return 1 if over else 0


def _models(args: argparse.Namespace) -> int:
    """Print the rows of the transformer."""
    found: list[ModelTiming] = []
    with Progress("bench models", len(args.threads)) as step:
        for threads in args.threads:
            found += measured(threads, args.runs)
            step()
    if args.json:
        rows = [asdict(row) | {"ratio": row.ratio} for row in found]
        print(json.dumps({"circumstances": circumstances(), "rows": rows}, indent=1))
        return 0
    print("; ".join(f"{name} {value}" for name, value in circumstances().items()))
    print(f"{'operation':<26} threads {'a second':>18} {'ratio':>7}  aim")
    for row in found:
        speed = f"{row.work / row.seconds:,.0f} {row.unit}"
        verdict = "met" if row.ratio >= row.target else "floor met" if row.ratio >= row.floor else "not met"
        aim = f"{row.target:.2f} of {row.beside}: {verdict}" if row.beside else "nobody to compare with"
        print(f"{row.task:<26} {row.threads:>7} {speed:>18} {row.ratio:>7.2f}  {aim}")
    return 0


def _study(args: argparse.Namespace) -> int:
    """Print cells per minute by the size of the model, and what a second worker gains."""
    with Progress("bench study", 2) as step:
        one = quick_cost(1)
        step()
        two = quick_cost(2)
        step()
    if args.json:
        print(json.dumps({"circumstances": circumstances(), "rows": [asdict(one), asdict(two)]}, indent=1))
        return 0
    print("; ".join(f"{name} {value}" for name, value in circumstances().items()))
    print(f"{'model':<8} {'parameters':>10} {'cells a minute':>15}")
    for name, (n_parameters, seconds) in one.of_models.items():
        print(f"{name:<8} {n_parameters:>10,} {60 / seconds:>15,.0f}")
    gain = one.seconds / two.seconds
    verdict = "met" if gain >= 1.7 else "not met"
    print(f"{one.n_cells} cells: {one.seconds:.1f} s, two workers {two.seconds:.1f} s: {gain:.2f}, aim 1.70: {verdict}")
    return 0


def met(row: Timing) -> str:
    """Return the target of a row, and whether it or the floor is met."""
    if row.target is None or row.size < AIMED_AT:
        return ""
    limit = row.target if row.floor is None else row.floor
    verdict = "met" if row.ratio >= row.target else "floor met" if row.ratio >= limit else "not met"
    return f"{row.target:.2f} {verdict}"


def beside(row: Timing, rows: Sequence[Timing], size: int) -> str:
    """Return, for our row, how many times as fast as the best peer it is; for a peer, what to know of it."""
    if row.who == "kbit_ref":
        same = [r for r in rows if (r.task, r.threads) == (row.task, row.threads)]
        peers = [r for r in same if r.who not in ("copy", "kbit_ref") and r.in_reach and not (r.differs or r.error)]
        best = max(peers, key=lambda r: r.speed, default=None)
        return f"{row.speed / best.speed:.2f} of {best.who}" if best else ""
    if row.error:
        return f"raises {row.error}"
    notes = [] if row.size == size else [f"{row.size:,} elements"]
    notes += [] if row.in_reach else ["out of NumPy's reach"]
    notes += [f"{row.differs:,} other answers"] if row.differs else []
    return ", ".join(notes)
