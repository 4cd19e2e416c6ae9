"""Name the bug: which mistake gives what an implementation produced."""

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

HELP = "name the bug of an implementation from what it produced"
PARTS = {
    "values": "what they decode to",
    "codes": "their codes, in the shape of x",
    "packed": "the bytes of their codes",
    "scales": "their scales, one a block",
    "offsets": "their offsets, one a block",
    "zero-points": "their zero points, one a block",
    "global-scale": "their global scale",
}


def arguments(parser: argparse.ArgumentParser) -> None:
    """Options of `kbit-ref diagnose`."""
    parser.epilog = (
        "With --x everything is what they made of it. Without, the bytes and scales are what their reader was given, "
        "and --values what it read. A FILE is an .npy, or FILE.safetensors:NAME."
    )
    parser.add_argument("scheme", metavar="SCHEME", help="what they should have done: a scheme or a profile")
    parser.add_argument("--x", metavar="FILE", help="the array that they quantized")
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
    """The array of an .npy file, or of a tensor of a safetensors file.

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
