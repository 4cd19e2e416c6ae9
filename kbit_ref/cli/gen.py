"""Write test cases for a program in any language, one per line; `kbit-ref check --pipe` judges its answers.

kbit-ref gen SCHEME | ./prog | kbit-ref check --pipe SCHEME
"""

from __future__ import annotations

import argparse
import json
import sys
from itertools import islice

from kbit_ref.cli import _programs
from kbit_ref.conformance.implementations.programs import grammar
from kbit_ref.conformance.implementations.programs.inputs import lines

HELP = "write test cases for a program in any language, one per line"
EXAMPLE = "kbit-ref gen nf4-b64-absmax-f32 | ./prog | kbit-ref check --pipe nf4-b64-absmax-f32"
OUTPUT = "one case per line, in the grammar above; the program repeats the line and appends its answer."
AT_ONCE = 256


def arguments(parser: argparse.ArgumentParser) -> None:
    """Add the options of `kbit-ref gen`."""
    parser.epilog = grammar.__doc__
    parser.add_argument("subject", metavar="SCHEME", help="a scheme, a profile or a data type")
    _programs.cases(parser)


def run(args: argparse.Namespace) -> int:
    """Write the lines, a few hundred at a time."""
    _programs.check_count("gen", args)
    f = grammar.form(args.subject, "decode" if args.decode else "encode", args.source)
    every = lines(f, args.level, args.count, args.seed)
    if args.json:
        about = {"subject": str(f.subject), "what": f.what, "source": f.source}
        print(json.dumps(about | {"lines": list(every)}, indent=1))
        return 0
    while some := list(islice(every, AT_ONCE)):
        sys.stdout.write("\n".join(some) + "\n")
    return 0
