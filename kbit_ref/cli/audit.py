"""Find which known-wrong quantizers a test accepts: a function of yours, a pytest test, or a rule in use."""

from __future__ import annotations

import argparse
import json

from kbit_ref.conformance.audit.audit_pytest import audit_test
from kbit_ref.conformance.audit.rules_in_use import RULES, audits, rows
from kbit_ref.conformance.audit.run import Audit, audit, load
from kbit_ref.errors import BadInput, message

__all__ = ["arguments", "markdown", "run"]

HELP = "find which known-wrong quantizers a test accepts"
EXAMPLE = "kbit-ref audit my_tests:close_enough --scheme nf4-b64-absmax-f32"
OUTPUT = {
    "first line": "how many of the wrong quantizers pass the test, and for which scheme",
    "answers differ": "these give wrong answers to the inputs of the test, and it passes: its bound is too wide",
    "answers are right": "these are right on the inputs of the test: only other inputs would show the fault",
    "name": "of the wrong quantizer (a mutant), then what is wrong with it",
}


def arguments(parser: argparse.ArgumentParser) -> None:
    """Add the options of `kbit-ref audit`."""
    parser.add_argument(
        *("rule",),
        nargs="?",
        help="module:function, called with a quantizer q: q(x) gives x quantized and back as float32, q.quantize(x) "
        "its codes, packed, scales and values; it returns True or None to accept, False (or raises) to reject. Or "
        "file.py::test, a pytest test that takes the fixture kbit_quantizer. "
        f"Or one of {', '.join(RULES)} (default: all of these, as worked examples)",
    )
    parser.add_argument("--scheme", metavar="S", help="what the quantizer should compute: a scheme or a profile")
    parser.add_argument(
        "--mutant", action="append", default=[], metavar="M", help="try only this wrong quantizer (repeatable)"
    )
    parser.add_argument("--markdown", action="store_true", help="print Markdown, as in the book")


def run(args: argparse.Namespace) -> int:
    """Audit, print; 1 if a wrong quantizer is accepted."""
    if args.markdown:
        if args.rule or args.json:
            rule = "only the worked examples have a Markdown table"
            raise BadInput(message("audit", "--markdown", rule, "leave out the rule and --json"))
        print(markdown())
        return 0
    found = [_one(args)] if args.rule and (args.scheme or args.rule not in RULES) else _examples(args)
    if args.json:
        documents = [one.as_dict() for one in found]
        print(json.dumps(documents[0] if args.rule and len(documents) == 1 else documents, indent=1))
    else:
        print("\n\n".join(map(str, found)))
    return 1 if any(one.accepted for one in found) else 0


def _one(args: argparse.Namespace) -> Audit:
    if not args.scheme:
        rule = "it does not say what the quantizer should do"
        raise BadInput(message("audit", f"rule = {args.rule}", rule, "add --scheme, e.g. --scheme nf4-b64-absmax-f32"))
    if "::" in args.rule:
        return audit_test(args.rule, args.scheme, only=args.mutant)
    known = RULES.get(args.rule)
    return audit(load(args.rule) if known is None else known.rule, args.scheme, only=args.mutant, name=args.rule)


def _examples(args: argparse.Namespace) -> list[Audit]:
    if args.scheme or args.mutant:
        rule = "the worked examples have schemes of their own"
        raise BadInput(message("audit", "--scheme or --mutant", rule, "name a rule too"))
    return [found for _, _, found in audits([args.rule] if args.rule else ())]


def markdown() -> str:
    """Return the table of worked examples in Markdown, as it stands in the book."""
    table = rows()
    heads = list(table[0])
    lines = [heads, ["---"] * len(heads), *([row[head] for head in heads] for row in table)]
    return "\n".join(
        "| " + " | ".join(f"`{cell}`" if i == 1 and n > 1 else cell for i, cell in enumerate(line)) + " |"
        for n, line in enumerate(lines)
    )
