"""Write levels, midpoints and test cases as a C header or as Verilog memory files."""

from __future__ import annotations

import argparse
import json
import sys
from pathlib import Path

from kbit_ref import __version__
from kbit_ref.cli import _programs
from kbit_ref.conformance.implementations.programs.grammar import form
from kbit_ref.conformance.programs.c_header import c_header
from kbit_ref.conformance.programs.memory import memory, rom
from kbit_ref.errors import BadInput, message

HELP = "write levels and test cases as a C header or Verilog memory files"
EXAMPLE = "kbit-ref export nf4 --c nf4.h --mem nf4.mem --rom nf4_levels.mem"
OUTPUT = "the files; each begins with a comment that says what its tables hold."


def arguments(parser: argparse.ArgumentParser) -> None:
    """Add the options of `kbit-ref export`."""
    parser.add_argument("subject", metavar="SCHEME", help="a scheme, a profile or a data type")
    parser.add_argument(
        "--c", metavar="FILE", help="write a C header: levels, midpoints, steps, test cases; - prints it"
    )
    parser.add_argument("--mem", metavar="FILE", help="write test cases for $readmemh; - prints them")
    parser.add_argument("--rom", metavar="FILE", help="write the levels for $readmemh; - prints them")
    parser.add_argument("--force", action="store_true", help="replace files that exist")
    _programs.source(parser)
    parser.add_argument("--count", type=int, metavar="N", help="number of test cases (default 1000 values, or 64 rows)")
    parser.add_argument(
        "--seed", type=int, default=0, help="seed of the random cases that follow the chosen ones (default 0)"
    )


def run(args: argparse.Namespace) -> int:
    """Write the files."""
    _programs.check_count("export", args)
    f = form(args.subject, "encode", args.source)
    rest = args.subject, __version__, args.count, args.seed
    makers = {"c": lambda: c_header(f, *rest), "mem": lambda: memory(f, *rest), "rom": lambda: rom(f, __version__)}
    wanted = {kind: getattr(args, kind) for kind in makers if getattr(args, kind) is not None}
    if not wanted:
        raise BadInput(
            message("export", "no file", "nothing says what to write", "add --c FILE, --mem FILE or --rom FILE")
        )
    if args.json and "-" in wanted.values():
        raise BadInput(message("export", "--json and -", "two texts in one place", "name a file"))
    for path in wanted.values():
        if path != "-" and Path(path).exists() and not args.force:
            raise BadInput(message("export", path, "it exists", "name another file, or add --force"))
    for kind, path in wanted.items():
        text = makers[kind]()
        if path == "-":
            sys.stdout.write(text)
        else:
            Path(path).write_text(text, "utf-8")
    if args.json:
        print(json.dumps({"subject": str(f.subject), "source": f.source, "files": wanted}, indent=1))
    return 0
