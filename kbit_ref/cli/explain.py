"""Trace the quantization of one element: bits, block, scale, neighbouring levels, code, bytes, decoded value."""

from __future__ import annotations

import argparse
import json
import re
from fractions import Fraction
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from kbit_ref.checkpoints import Container
from kbit_ref.engine.codec import encode
from kbit_ref.errors import BadInput, message
from kbit_ref.exact.arithmetic import FORMATS, round_to
from kbit_ref.explanation import explain

HELP = "trace the quantization of one element, step by step"
EXAMPLE = "kbit-ref explain int4-b4-absmax-f32 1 --values 7 -3.5 1.75 0"
OUTPUT = {
    "x, block": "the element with its bits, and the block that it lies in",
    "rule, scale, stored": "how the scale comes about, and what is stored of it",
    "scaled, y": "the number that is encoded",
    "below, above": "the neighbouring levels and the midpoint between them; why: what decides",
    "code, bytes": "the code, and its place in the packed bytes",
    "decoded, error": "what it decodes to, and the difference from x",
}
MOST_DIGITS = 4  # of an exponent: beyond 1e9999 there is nothing but 0 and infinity, and no end of digits


def arguments(parser: argparse.ArgumentParser) -> None:
    """Add the options of `kbit-ref explain`."""
    parser.add_argument("scheme", metavar="SCHEME", help="a scheme or a profile, e.g. nf4-b64-absmax-f32")
    parser.add_argument(
        "index", metavar="INDEX", help="index of the element: 5, or 2,7 (negative ones after --, as in -- -1,-1)"
    )
    source = parser.add_mutually_exclusive_group(required=True)
    like_options = "where one begins like an option, --values=-1e-3,2"
    source.add_argument("--values", nargs="+", metavar="X", help=f"the numbers, as one row; {like_options}")
    source.add_argument("--file", metavar="FILE", help="a safetensors file that holds the array")
    parser.add_argument("--dtype", choices=tuple(FORMATS), help="format of the values (default float32)")
    parser.add_argument("--tensor", metavar="NAME", help="with --file: the name of the array")
    parser.add_argument("--random", type=int, metavar="R", help="for stochastic rounding: the random bits as a number")
    parser.add_argument("--random-bits", type=int, default=0, metavar="N", help="how many random bits there are")


def run(args: argparse.Namespace) -> int:
    """Explain one element."""
    index = index_of(args.index)
    if args.file is not None:
        if args.tensor is None or args.dtype is not None:
            rule = "a file has many tensors, each with its own type"
            raise BadInput(message("explain", f"file = {args.file}", rule, "add --tensor NAME, leave --dtype out"))
        with Container(args.file) as file:
            bfloat16 = file.entry(args.tensor).dtype == "BF16"
            return _print(args, file.array(args.tensor), index, bfloat16)
    if args.tensor is not None:
        raise BadInput(message("explain", f"tensor = {args.tensor}", "values have no names", "add --file FILE"))
    dtype = args.dtype or "float32"
    return _print(args, values_of(args.values, dtype), index, dtype == "bfloat16")


def _print(args: argparse.Namespace, x: NDArray[Any], index: int | tuple[int, ...], bfloat16: bool) -> int:
    options = {"bfloat16": bfloat16, "random": args.random, "random_bits": args.random_bits}
    found = explain(x, index, args.scheme, **options)
    if args.json:
        where = {"file": args.file and str(Path(args.file)), "tensor": args.tensor}
        print(json.dumps(where | found.as_dict(), indent=1))
    else:
        print(found)
    return 0


def index_of(text: str) -> int | tuple[int, ...]:
    """Return the index of its spelling.

    Examples
    --------
    >>> index_of("5"), index_of("2,-7")
    (5, (2, -7))
    """
    if not re.fullmatch(r"-?\d{1,18}(,-?\d{1,18})*", text):
        raise BadInput(message("explain", f"index = {text!r}", "it is no integer", "use 5, or 2,7"))
    numbers = tuple(map(int, text.split(",")))
    return numbers if len(numbers) > 1 else numbers[0]


def values_of(texts: list[str], dtype: str) -> NDArray[Any]:
    """Return the numbers of their spellings, each rounded once to a format; bfloat16 as its bits.

    Examples
    --------
    >>> values_of(["0.1", "-3", "1/3", "inf"], "float32")
    array([ 0.1       , -3.        ,  0.33333334,         inf], dtype=float32)
    """
    numbers = []
    for text in re.split(r"[,\s]+", " ".join(texts).strip()):
        if re.search(rf"e[+-]?[\d_]{{{MOST_DIGITS + 1},}}$", text, re.I):
            got, rule = f"values = {text!r}", f"its exponent has more than {MOST_DIGITS} digits"
            raise BadInput(message("explain", got, rule, "use 0 or inf"))
        try:
            special = re.fullmatch(r"[+-]?(nan|inf|infinity)|-0*\.?0*", text, re.I)
            numbers.append(float(text) if special else float(round_to(Fraction(text), dtype)))
        except (ValueError, ZeroDivisionError):
            raise BadInput(message("explain", f"values = {text!r}", "it is no number", "use 0.5, 1e-3, inf")) from None
    if dtype == "bfloat16":
        return encode("bf16+overflow=ieee", np.array(numbers, np.float32), threads=1)
    return np.array(numbers, dtype)
