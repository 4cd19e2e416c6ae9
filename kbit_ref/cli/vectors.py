"""List, write and lint test vectors, and judge an implementation by them."""

from __future__ import annotations

import argparse
import json
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, replace
from fnmatch import fnmatchcase
from pathlib import Path

from kbit_ref.checkpoints.header import shown
from kbit_ref.cli._parser import Parser
from kbit_ref.conformance.cases import LEVELS, all_cases
from kbit_ref.conformance.vectors import (
    Outcome,
    check_vectors,
    files_of,
    generate,
    judge,
    read_vectors,
    strangers,
    vector_files,
    write_vectors,
)
from kbit_ref.conformance.vectors.cover import coverage, levels, survivors
from kbit_ref.conformance.vectors.files import lint_file, places
from kbit_ref.conformance.vectors.implementations import engine
from kbit_ref.conformance.vectors.judge import Implementation
from kbit_ref.conformance.vectors.model import Vectors
from kbit_ref.conformance.vectors.subjects import subjects_of
from kbit_ref.errors import BadInput, message
from kbit_ref.progress import Progress

HELP = "list, write, check and lint test vectors"
EXAMPLE = "kbit-ref vectors check --call my_kernels:answer"
OUTPUT = "a table or a verdict; `kbit-ref vectors VERB --help` says which."
SHOWN = 10  # failed tests
LISTED = {
    "file": "the name of the file",
    "groups, tests": "a group is one type, scheme or layout; a test is one question with its right answer",
    "mutants killed": "how many of the known-wrong implementations fail at least one test",
    "case, for, inputs, catches": "with --cases: a generator of inputs, what for, which, and the faults they show",
    "type, subjects": "with --level: what the file is about, and how many of them",
}
WRITTEN = {"file": "the file that was written", "tests, bytes": "how many tests it holds, and its size"}
CHECKED = {
    "first line": "how many tests of a file fail",
    "test N": "a test that fails: its scheme, what it tests, and both answers",
    "name makes ...": "a known fault that makes these answers wrong, and how well it fits",
}


def arguments(parser: Parser) -> None:
    """Add the options of `kbit-ref vectors`."""
    verbs = parser.add_subparsers(dest="verb", required=True, metavar="VERB")

    lists = verbs.add_parser("list", help="list the files in the package, and how many mutants each one kills")
    lists.add_argument("--cases", action="store_true", help="list the generators of hard cases instead")
    lists.add_argument("--level", choices=LEVELS, help="list what `write` can write at this level instead")

    write = verbs.add_parser("write", help="write files from the definition, in JSON and in safetensors")
    write.add_argument("name", nargs="*", metavar="NAME", help="names of files (default: all of the level)")
    write.add_argument("--level", choices=LEVELS, default="quick", help="how many tests (default quick)")
    write.add_argument("-o", "--output", type=Path, required=True, metavar="DIR", help="the directory to write to")
    write.add_argument("--force", action="store_true", help="replace files that exist")

    check = verbs.add_parser(
        "check",
        help="find the tests that an implementation fails, and the fault that makes them fail",
        description=f"{judge.__doc__}\nFor --cmd: {strangers.__doc__}",
    )
    check.add_argument("file", nargs="*", metavar="FILE", help="files of vectors (default: those in the package)")
    check.add_argument("--only", metavar="GLOB", help="only schemes, types and layouts of this name or profile")
    judged = check.add_mutually_exclusive_group()
    judged.add_argument("--call", metavar="MODULE:FUNCTION", help="judge this function (default: kbit_ref itself)")
    judged.add_argument("--cmd", metavar="COMMAND", help="judge this program, which answers lines of JSON")
    check.add_argument("--timeout", type=float, default=60.0, metavar="S", help="seconds a program may be silent")

    lint = verbs.add_parser("lint", help="check that a file of vectors is well formed, and its answers right")
    lint.add_argument("file", nargs="*", metavar="FILE", help="files of vectors (default: those in the package)")
    lists.explain("kbit-ref vectors list", LISTED)
    write.explain("kbit-ref vectors write --level full -o vectors", WRITTEN)
    check.explain(EXAMPLE, CHECKED)
    lint.explain("kbit-ref vectors lint my.json", "per file `well formed`, or what is wrong with it.")
    for sub in (lists, write, check, lint):
        sub.add_argument("--json", action="store_true", default=argparse.SUPPRESS, help="print one JSON document")


def run(args: argparse.Namespace) -> int:
    """List, write, check or lint."""
    verbs: dict[str, Callable[[argparse.Namespace], int]]
    verbs = {"list": _list, "write": _write, "check": _check, "lint": _lint}
    return verbs[args.verb](args)


def _print(args: argparse.Namespace, rows: Sequence[Mapping[str, object]]) -> None:
    """Print rows as a table or as JSON."""
    if args.json:
        print(json.dumps(rows, indent=1))
        return
    heads = list(rows[0])
    widths = {head: max(len(head), *(len(str(row[head])) for row in rows)) for head in heads}
    for row in [dict(zip(heads, heads, strict=True)), *rows]:
        print("  ".join(str(row[head]).ljust(widths[head]) for head in heads).rstrip())


def markdown() -> str:
    """Return the table of the book: what each file of `quick` kills, all of them, and the tests of `full`."""
    files = [read_vectors(path) for path in vector_files()]
    rows = [{**row, "file": f"`{row['file']}`"} for row in coverage(files)[:-1]]
    whole = [{**row, "file": f"all of {row['level']}"} for row in levels(files)]
    heads = ("file", "tests", "mutants killed")
    lines = ["| " + " | ".join(heads) + " |", "|---" * len(heads) + "|"]
    return "\n".join([*lines, *("| " + " | ".join(str(row[head]) for head in heads) + " |" for row in [*rows, *whole])])


def _list(args: argparse.Namespace) -> int:
    if args.cases:
        rows = [
            {"case": case.name, "for": case.subject.__name__, "inputs": case.summary, "catches": case.catches}
            for case in all_cases().values()
        ]
        _print(args, rows)
    elif args.level:
        files = files_of(args.level).items()
        _print(args, [{"file": name, "type": kind, "subjects": len(names)} for name, (kind, names) in files])
    else:
        files_read = [read_vectors(path) for path in vector_files()]
        _print(args, coverage(files_read))
        if (left := survivors(files_read)) and not args.json:
            print(f"no file kills {', '.join(left)}")
    return 0


def _write(args: argparse.Namespace) -> int:
    files = files_of(args.level)
    names = args.name or list(files)
    subjects = sum(len(subjects_of(*files[name])) for name in names if name in files)
    for name in names:
        places(name, args.output, force=args.force)  # told now rather than after the work
    rows: list[dict[str, object]] = []
    with Progress("vectors", subjects) as step:
        for name in names:
            vectors = generate(name, args.level, step)
            for path in write_vectors(vectors, args.output, force=args.force):
                tests = sum(len(group.tests) for group in vectors.groups)
                rows.append({"file": str(path), "tests": tests, "bytes": path.stat().st_size})
    _print(args, rows)
    return 0


def _files(args: argparse.Namespace) -> list[Path]:
    return [Path(name) for name in args.file] or vector_files()


def _check(args: argparse.Namespace) -> int:
    outcomes = []
    for path in _files(args):
        vectors = _only(read_vectors(path), args.only)
        if not vectors.groups:
            continue
        implementation: Implementation = engine
        if args.call:
            implementation = strangers.of_function(args.call)
        elif args.cmd:
            implementation = strangers.of_program(args.cmd, vectors, args.timeout)
        outcomes.append(check_vectors(vectors, implementation))
        if outcomes[-1].left_out == len(outcomes[-1].given):
            rule = "it answers no question"
            raise BadInput(message("vectors", f"file = {path.name}", rule, "name files or --only what it implements"))
    if not outcomes:
        rule = "no file has a scheme, type or layout of such a name"
        raise BadInput(message("vectors", f"only = {args.only!r}", rule, "e.g. --only 'bnb-*'"))
    if args.json:
        print(json.dumps([_document(outcome) for outcome in outcomes], indent=1))
    else:
        for outcome in outcomes:
            print("\n".join(_report(outcome)))
    return 1 if any(outcome.failures for outcome in outcomes) else 0


def _only(vectors: Vectors, pattern: str | None) -> Vectors:
    """Return the groups of such a name or profile."""
    if pattern is None:
        return vectors
    chosen = (g for g in vectors.groups if any(fnmatchcase(name, pattern) for name in (g.name, *g.profiles)))
    return replace(vectors, groups=tuple(chosen))


def _report(outcome: Outcome) -> list[str]:
    """Return what a file says of an implementation, for people."""
    name, failed = outcome.vectors.name, len(outcome.failures)
    left_out = f" ({outcome.left_out:,} questions left out: not implemented)" if outcome.left_out else ""
    if not failed:
        return [f"{name}: all {outcome.tests:,} tests pass{left_out}"]
    lines = [f"{name}: {failed:,} of {outcome.tests:,} tests fail{left_out}"]
    if outcome.diagnosis is not None:
        subject, found = outcome.diagnosis
        lines.append(f"  {subject}: {found.sentence}")
    for failure in outcome.failures[:SHOWN]:
        known_as = f" ({', '.join(failure.group.profiles)})" if failure.group.profiles else ""
        lines.append(f"  test {failure.test.number}, {failure.group.name}{known_as}: {shown(failure.test.comment)}")
        lines += [f"    {shown(wrong)}" for wrong in failure.wrong]
    if failed > SHOWN:
        lines.append(f"  and {failed - SHOWN:,} more")
    for s in outcome.suspects():
        some = f"would make {s.both:,} of these {s.failed:,} answers wrong, and {s.expected:,} in all"
        fits = "makes exactly these answers wrong" if s.fit == 1 else some
        lines.append(f"  {s.flag} {fits}: {shown(outcome.vectors.notes[s.flag]['description'])}")
    return lines


def _document(outcome: Outcome) -> dict[str, object]:
    failures = [
        {"tcId": f.test.number, "name": f.group.name, "comment": f.test.comment, "flags": list(f.test.flags)}
        | {"wrong": list(f.wrong)}
        for f in outcome.failures
    ]
    suspects = [asdict(suspect) for suspect in outcome.suspects()]
    about = {"file": outcome.vectors.name, "tests": outcome.tests, "left_out": outcome.left_out}
    named = {} if outcome.diagnosis is None else {"subject": outcome.diagnosis[0]} | outcome.diagnosis[1].as_dict()
    return about | {"diagnosis": named or None, "failures": failures, "suspects": suspects}


def _lint(args: argparse.Namespace) -> int:
    found = {str(path): lint_file(path) for path in _files(args)}
    if args.json:
        print(json.dumps(found, indent=1))
    for path, problems in found.items() if not args.json else ():
        print(f"{path}: {'well formed' if not problems else ''}".rstrip(" :"))
        for problem in problems[:SHOWN]:
            print(f"  {problem}")
        if len(problems) > SHOWN:
            print(f"  and {len(problems) - SHOWN:,} more")
    return 1 if any(found.values()) else 0
