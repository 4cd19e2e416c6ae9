"""Turn a file that `kbit-ref quantize` wrote back into tensors of their original types."""

from __future__ import annotations

import argparse
import json
import time

from kbit_ref.checkpoints.header import shown
from kbit_ref.checkpoints.kbit import dequantize_file
from kbit_ref.cli.quantize import amount, as_dict, check_threads, output_arguments
from kbit_ref.progress import Progress

HELP = "restore the tensors of a file that `quantize` wrote"
EXAMPLE = "kbit-ref dequantize small.safetensors -o again.safetensors"
OUTPUT = "the file that was written, how many tensors were dequantized and how many copied; sizes before and after."


def arguments(parser: argparse.ArgumentParser) -> None:
    """Add the options of `kbit-ref dequantize`."""
    parser.add_argument("file", metavar="FILE", help="a file that `kbit-ref quantize` wrote")
    output_arguments(parser)


def run(args: argparse.Namespace) -> int:
    """Dequantize, print what was done."""
    check_threads("dequantize", args.threads)
    begin = time.monotonic()
    with Progress("dequantize", 0) as step:
        done = dequantize_file(
            args.file, args.output, force=args.force, threads=args.threads, expect=step.expect, tell=step
        )
    if args.json:
        print(json.dumps(as_dict(args, done), indent=1))
        return 0
    count = f"{len(done.tensors)} tensor{'s' * (len(done.tensors) != 1)}"
    print(f"{shown(args.output)}: {count} dequantized, {done.copied} copied")
    print(f"{amount(done.before)} -> {amount(done.after)}, {time.monotonic() - begin:.1f} s")
    return 0
