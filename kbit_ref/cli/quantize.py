"""Quantize the floating tensors of a safetensors file; copy everything else byte for byte."""

from __future__ import annotations

import argparse
import json
import sys
import time

from kbit_ref.checkpoints.header import shown
from kbit_ref.checkpoints.kbit import Converted, quantize_file
from kbit_ref.errors import BadInput, message
from kbit_ref.progress import Progress

HELP = "quantize the tensors of a safetensors file"
EXAMPLE = "kbit-ref quantize model.safetensors nf4-b64-absmax-f32 -o small.safetensors"
OUTPUT = (
    "the file that was written, how many tensors were quantized and how many copied; sizes before and after, and the "
    "bits per quantized parameter with scales counted."
)
UNITS = (("GB", 10**9), ("MB", 10**6), ("kB", 10**3))


def arguments(parser: argparse.ArgumentParser) -> None:
    """Add the options of `kbit-ref quantize`."""
    parser.add_argument("file", metavar="FILE", help="a safetensors file")
    parser.add_argument("scheme", metavar="SCHEME", help="a scheme or a profile, e.g. nf4-b64-absmax-f32")
    output_arguments(parser)
    parser.add_argument(
        "--include",
        action="append",
        default=[],
        metavar="GLOB",
        help="only tensors of such names, those of one dimension too",
    )
    parser.add_argument(
        "--exclude", action="append", default=[], metavar="GLOB", help="copy tensors of such names unchanged"
    )


def output_arguments(parser: argparse.ArgumentParser) -> None:
    """Add the options that `quantize` and `dequantize` share."""
    parser.add_argument("-o", "--output", required=True, metavar="OUT", help="the file to write")
    parser.add_argument("--force", action="store_true", help="replace OUT if it exists")
    parser.add_argument("--threads", type=int, metavar="N", help="number of threads (default: as many as help)")


def run(args: argparse.Namespace) -> int:
    """Quantize, print what was done."""
    check_threads("quantize", args.threads)
    begin = time.monotonic()
    with Progress("quantize", 0) as step:
        done = quantize_file(
            *(args.file, args.scheme, args.output),
            include=args.include,
            exclude=args.exclude,
            force=args.force,
            threads=args.threads,
            expect=step.expect,
            tell=step,
            warn=lambda text: print(f"kbit-ref quantize: {text}", file=sys.stderr),
        )
    if args.json:
        print(json.dumps(as_dict(args, done), indent=1))
        return 0
    count = f"{len(done.tensors)} tensor{'s' * (len(done.tensors) != 1)}"
    print(f"{shown(args.output)}: {count} as {done.tensors[0].scheme}, {done.copied} copied")
    elements = sum(tensor.size for tensor in done.tensors)
    bits = 8 * sum(tensor.n_bytes for tensor in done.tensors) / elements
    sizes = f"{amount(done.before)} -> {amount(done.after)}"
    print(f"{sizes}, {bits:.3f} bits a quantized parameter, {time.monotonic() - begin:.1f} s")
    return 0


def check_threads(command: str, threads: int | None) -> None:
    """Refuse a number of threads below one."""
    if threads is not None and threads < 1:
        rule = "it is a number of threads from 1"
        raise BadInput(message(command, f"threads = {threads}", rule, "leave it out"))


def amount(n_bytes: int) -> str:
    """Return a number of bytes in a readable unit.

    Examples
    --------
    >>> amount(999), amount(4_294_967_296)
    ('999 bytes', '4.29 GB')
    """
    for unit, size in UNITS:
        if n_bytes >= size:
            return f"{n_bytes / size:.2f} {unit}"
    return f"{n_bytes} bytes"


def as_dict(args: argparse.Namespace, done: Converted) -> dict[str, object]:
    """Return what was done, as a document."""
    tensors = [
        {"name": tensor.name, "scheme": str(tensor.scheme), "shape": list(tensor.shape), "dtype": tensor.dtype}
        | {"bytes": tensor.n_bytes, "bits_per_parameter": 8 * tensor.n_bytes / tensor.size}
        for tensor in done.tensors
    ]
    numbers = {"copied": done.copied, "before": done.before, "after": done.after}
    return {"input": args.file, "output": args.output, **numbers, "tensors": tensors}
