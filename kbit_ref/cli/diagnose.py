"""Name the fault of an implementation from what it produced: arrays in files."""

from __future__ import annotations

import argparse
import json
from pathlib import Path
from typing import Any

import numpy as np

from kbit_ref.arithmetic import widened
from kbit_ref.checkpoints import Container
from kbit_ref.conformance.diagnosis import diagnose
from kbit_ref.errors import BadInput, message

HELP = "name the fault of an implementation from the arrays that it produced"
EXAMPLE = "kbit-ref diagnose nf4-b64-absmax-f32 --x x.npy --packed theirs.npy --scales scales.npy"
OUTPUT = {
    "first line": "the fault, and how many of the differing answers it explains",
    "below": "the simplest input that shows it, both answers, and why ours is what it is, step by step",
}
PARTS = {
    "values": "the numbers that it decodes to",
    "codes": "codes, in the shape of x",
    "packed": "codes packed into bytes",
    "scales": "scales, one per block",
    "offsets": "offsets, one per block",
    "zero-points": "zero points, one per block",
    "global-scale": "the global scale",
}


def arguments(parser: argparse.ArgumentParser) -> None:
    """Add the options of `kbit-ref diagnose`."""
    parser.epilog = (
        "With --x, the other files are what the implementation computed from x. Without --x, bytes and scales are what "
        "its decoder was given, and --values what it returned. A FILE is an .npy, or FILE.safetensors:NAME."
    )
    parser.add_argument("scheme", metavar="SCHEME", help="what it should compute: a scheme or a profile")
    parser.add_argument("--x", metavar="FILE", help="the array that was quantized")
    for name, what in PARTS.items():
        parser.add_argument(f"--{name}", metavar="FILE", help=what)


def run(args: argparse.Namespace) -> int:
    """Diagnose; 0 if everything agrees, 1 if not."""
    parts = {name.replace("-", "_"): getattr(args, name.replace("-", "_")) for name in PARTS}
    arrays = {name: array_of(name, text) for name, text in parts.items() if text is not None}
    values = arrays.pop("values", None)
    x = None if args.x is None else array_of("x", args.x)
    found = diagnose(values, x=x, scheme=args.scheme, **arrays)
    print(json.dumps(found.as_dict(), indent=1) if args.json else found)
    return int(found.verdict != "agrees")


def array_of(name: str, text: str) -> Any:
    """Return the array of an .npy file, or of a tensor of a safetensors file.

    Raises
    ------
    BadInput
        `diagnose: x = w.txt, it is no .npy and no FILE.safetensors:NAME; ...`
    """
    path, colon, tensor = text.rpartition(":")
    if colon and path.endswith(".safetensors"):
        with Container(path) as file:
            array = file.array(tensor)
            return widened(array) if file.entry(tensor).dtype == "BF16" else array
    if not text.endswith(".npy"):
        rule = "it is no .npy and no FILE.safetensors:NAME"
        raise BadInput(message("diagnose", f"{name} = {text}", rule, "save it with numpy.save"))
    try:
        return np.load(Path(text), allow_pickle=False)
    except ValueError as error:
        reason = f"it cannot be read ({' '.join(str(error).split())[:80]})"
        raise BadInput(message("diagnose", f"{name} = {text}", reason, "save it with numpy.save")) from None
