"""Recommend size, bits, type, block size and method under a limit, from measured results or on your own model."""

from __future__ import annotations

import argparse
import json
import re
from dataclasses import asdict
from pathlib import Path
from typing import Any

from kbit_ref.data import data_folder
from kbit_ref.errors import BadInput, message
from kbit_ref.progress import Progress
from kbit_ref.study.choose import Choice, Limit, Option, choose, sweep
from kbit_ref.study.families import named
from kbit_ref.study.results import read
from kbit_ref.study.rows import SCOPES, Result

HELP = "recommend size, bits, type, block size and method under a limit"
EXAMPLE = "kbit-ref choose --memory 500kB"
OUTPUT = {
    "use": "the option with the least loss; loss in nats per token, with its 95 % interval in brackets",
    "next": "the runner-up, and how much more it loses",
    "ties": "how many options may be as good, given the intervals",
    "note": "what else the measurements say",
}
UNITS = {"B": 1, "kB": 10**3, "MB": 10**6, "GB": 10**9, "KiB": 2**10, "MiB": 2**20, "GiB": 2**30}


def arguments(parser: argparse.ArgumentParser) -> None:
    """Add the options of `kbit-ref choose`."""
    limit = parser.add_mutually_exclusive_group(required=True)
    limit.add_argument("--memory", metavar="SIZE", help="limit for all parameters: 500kB, 5MB, 1.5GiB")
    limit.add_argument(
        "--bits-per-parameter",
        type=float,
        metavar="X",
        help="limit with scales, offsets and outliers counted, e.g. 4.25",
    )
    limit.add_argument(
        "--loss", type=float, metavar="X", help="limit in nats per token; the smallest model below it is recommended"
    )
    parser.add_argument("--model", metavar="DIR", help="measure on this model instead (config.json and safetensors)")
    parser.add_argument("--text", metavar="FILE", help="with --model: the text on which its loss is measured")
    parser.add_argument("--results", metavar="FILE", help="results of a study (default: the full study in data/study)")
    parser.add_argument(
        "--models", default="*", metavar="PATTERN", help="use only these models of the study, e.g. 'pythia-*'"
    )
    parser.add_argument("--scope", choices=SCOPES, default="all", help="linear: embeddings stay in 16 bits")


def run(args: argparse.Namespace) -> int:
    """Recommend and print."""
    memory = None if args.memory is None else _bytes(args.memory)
    limit = Limit(memory, args.bits_per_parameter, args.loss)
    found = choose(_results(args, limit), limit, scope=args.scope)
    if args.json:
        print(json.dumps(asdict(found), indent=1))
    else:
        print("\n".join(_lines(found)))
    return 0


def _bytes(text: str) -> float:
    """Parse a size: 5MB is 5,000,000 and 5MiB is 5 * 2**20."""
    match = re.fullmatch(r"\s*(\d+(?:\.\d*)?(?:[eE][+-]?\d+)?)\s*([A-Za-z]*)\s*", text)
    number, unit = match.groups() if match else ("5", "MB")
    if match is None or unit not in UNITS:
        meant = next((known for known in UNITS if known.lower() in (unit.lower(), f"{unit}b".lower())), "MB")
        rule = f"it is a number and a unit: {', '.join(UNITS)}"
        raise BadInput(message("choose", f"memory = {text!r}", rule, f"write {number}{meant}"))
    return float(number) * UNITS[unit]


def _results(args: argparse.Namespace, limit: Limit) -> list[Result]:
    if args.model is None:
        if args.text is not None:
            raise BadInput(message("choose", "text", "it is what a model is judged on", "add --model DIR"))
        return named(read(_study() if args.results is None else args.results), args.models)
    if args.results is not None or args.scope != "all" or args.models != "*":
        rule = "a model is measured anew, with everything counted"
        raise BadInput(message("choose", "results, models or scope", rule, "leave them out, or leave out --model"))
    with Progress("choose", 1) as step:
        return sweep(args.model, limit, args.text or "", tell=step.coming)


def _study() -> Path:
    """Return the results that come along."""
    path = data_folder("study") / "results.sqlite"
    if not path.is_file():
        rule = "the results of the full study are not here"
        raise BadInput(message("choose", str(path), rule, "name --results FILE, or --model DIR"))
    return path


def _lines(found: Choice) -> list[str]:
    """Return the recommendation as lines of text."""
    lines = [f"{found.limit}: {found.n_options} of the measured options keep within it", ""]
    lines.append(f"use      {_told(found.recommended)}")
    if found.runner_up is not None and found.difference is not None:
        lines.append(f"next     {_told(found.runner_up)}")
        lines.append(f"         which loses more by {_more(found.difference)} nats a token")
    if found.n_tied:
        options = "1 option loses" if found.n_tied == 1 else f"{found.n_tied} options lose"
        lines.append(f"ties     {options} no more, as far as is certain")
    elif not found.certain:
        lines.append("         whether it keeps within the limit is not certain: its interval does not")
    return [*lines, *(f"note     {note}" for note in found.notes)]


def _told(option: Option) -> str:
    loss = option.loss
    facts = f"{option.bits_per_parameter:.3g} bits a parameter, loss {loss.value:.4f} [{loss.low:.4f}, {loss.high:.4f}]"
    return f"{option}, {facts}"


def _more(difference: Any) -> str:
    return f"{difference.value:+.4f} [{difference.low:+.4f}, {difference.high:+.4f}]"
