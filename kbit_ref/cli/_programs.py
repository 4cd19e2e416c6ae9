"""Judge programs in any language for `kbit-ref check`: the options, and the run; `gen --help` describes the lines."""

from __future__ import annotations

import argparse
import json
import sys
from collections.abc import Iterable

from kbit_ref.conformance.implementations.programs.grammar import form
from kbit_ref.conformance.implementations.programs.inputs import lines
from kbit_ref.conformance.implementations.programs.process import read_pipe
from kbit_ref.conformance.inputs.of_types import SOURCES
from kbit_ref.conformance.programs import Judged, judge_command, judge_lines, judge_shared
from kbit_ref.errors import BadInput, message

EXAMPLE = "void f(const float *x, float *scales, uint8_t *packed, int64_t n)"

__all__ = ["arguments", "cases", "check_count", "requested", "run", "source"]


def source(parser: argparse.ArgumentParser | argparse._ArgumentGroup) -> None:
    """Add the option for the format of the numbers to encode."""
    parser.add_argument(
        "--from",
        dest="source",
        choices=SOURCES,
        default="float32",
        help="format of the numbers to encode (default float32)",
    )


def cases(parser: argparse.ArgumentParser | argparse._ArgumentGroup) -> None:
    """Add the options that choose the cases; the same for `gen` and `check`."""
    parser.add_argument("--decode", action="store_true", help="the program decodes (default: it encodes)")
    source(parser)
    parser.add_argument(
        "--level",
        type=int,
        choices=(1, 2),
        default=2,
        help="1: rows of one block; 2: rows of other lengths and short last blocks too (default)",
    )
    parser.add_argument(
        "--count", type=int, metavar="N", help="number of cases: the chosen ones first, then random ones"
    )
    parser.add_argument("--seed", type=int, default=0, help="seed of the random cases (default 0)")


def arguments(parser: argparse.ArgumentParser) -> None:
    """Add the options of `kbit-ref check` for programs."""
    group = parser.add_argument_group(
        "programs in any language", "give a data type, a scheme or a profile instead of LIBRARY"
    )
    one = group.add_mutually_exclusive_group()
    one.add_argument(
        "--pipe", action="store_true", help="judge the lines on standard input: gen S | prog | check --pipe S"
    )
    one.add_argument("--cmd", metavar="PROG", help="run this program and judge it; --timeout limits its silence")
    one.add_argument("--lib", metavar="FILE", help="judge a function of this shared library")
    group.add_argument("--call", metavar="C", help="with --lib: the declaration of the function in C")
    group.add_argument("--any", action="store_true", help="with --pipe: accept any inputs, as many as come")
    cases(group)


def requested(args: argparse.Namespace) -> bool:
    """Return whether a program is to be judged."""
    for_programs = (args.call, args.count, args.any or None, args.decode or None)
    return args.pipe or args.cmd is not None or args.lib is not None or any(x is not None for x in for_programs)


def run(args: argparse.Namespace) -> int:
    """Judge a program, and return the exit code."""
    judged = _judged(args, _subject(args))
    print(json.dumps(judged.as_dict(), indent=1) if args.json else judged)
    return 0 if judged.agree else 1


def check_count(function: str, args: argparse.Namespace) -> None:
    """Refuse a count or a seed that is too small."""
    if args.count is not None and args.count < 1:
        raise BadInput(message(function, f"count = {args.count}", "it is at least 1", "leave it out"))
    if args.seed < 0:
        raise BadInput(message(function, f"seed = {args.seed}", "it is at least 0", "leave it out"))


def _subject(args: argparse.Namespace) -> str:
    check_count("check", args)
    if not args.pipe and args.cmd is None and args.lib is None:
        raise BadInput(message("check", "no program", "nothing is there to be judged", "add --pipe, --cmd or --lib"))
    if len(args.library) != 1:
        got = f"{len(args.library)} names"
        raise BadInput(message("check", got, "a program is judged by one type or scheme", "e.g. nf4-b64-absmax-f32"))
    if args.call is not None and args.lib is None:
        raise BadInput(message("check", "call", "it declares a function of a library", "add --lib FILE"))
    if args.lib is not None and args.call is None:
        raise BadInput(message("check", f"lib = {args.lib}", "nothing says how to call it", f"add --call {EXAMPLE!r}"))
    return str(args.library[0])


def _judged(args: argparse.Namespace, subject: str) -> Judged:
    what = "decode" if args.decode else "encode"
    options = {"level": args.level, "count": args.count, "seed": args.seed}
    if args.cmd is not None:
        return judge_command(subject, args.cmd, args.timeout, what=what, source=args.source, **options)
    if args.lib is not None:
        return judge_shared(subject, args.lib, args.call, args.timeout, what=what, source=args.source, **options)
    f = form(subject, what, args.source)
    expected = None if args.any else lines(f, **options)
    return judge_lines(f, _standard_input(args.timeout), expected=expected, name="standard input")


def _standard_input(timeout: float) -> Iterable[str]:
    try:
        descriptor = sys.stdin.fileno()
    except (AttributeError, OSError, ValueError):  # closed, or a stand-in that is no file
        return sys.stdin or ()
    return read_pipe(descriptor, timeout)
