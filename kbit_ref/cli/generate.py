"""Continue a text with a model of a directory, token by token."""

from __future__ import annotations

import argparse
import json
import re
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np

from kbit_ref.cli._options import refuse_idle
from kbit_ref.errors import BadInput, message
from kbit_ref.methods.registry import method
from kbit_ref.transformer import Model, load_model
from kbit_ref.transformer.generate import check_choices, room, stream
from kbit_ref.transformer.model import EMBEDDINGS
from kbit_ref.transformer.tokens import load_tokenizer

HELP = "continue a text, token by token"
EXAMPLE = 'kbit-ref generate data/models/xl-0 --prompt "the" -n 12 --scheme nf4-b64-absmax-f16'
OUTPUT = "the prompt and what the model adds to it; with --json also the numbers of the tokens."
DEFAULT = 64  # tokens, where that many have positions


def arguments(parser: argparse.ArgumentParser) -> None:
    """Add the options of `kbit-ref generate`."""
    parser.add_argument("directory", metavar="DIR", help="a directory with config.json and safetensors")
    parser.add_argument("--prompt", required=True, metavar="TEXT", help="the text to continue")
    parser.add_argument("-n", type=int, metavar="N", help="number of tokens to add (default 64, or what the model can)")
    parser.add_argument(
        "--temperature",
        type=float,
        default=0.0,
        metavar="T",
        help="0 (default): take the likeliest token; above 0: draw at random",
    )
    parser.add_argument("--top-k", type=int, metavar="K", help="draw from the K likeliest tokens")
    parser.add_argument("--top-p", type=float, metavar="P", help="draw from the likeliest that make up P")
    parser.add_argument("--seed", type=int, metavar="S", help="seed of the random draws")
    parser.add_argument("--stop", type=int, metavar="TOKEN", help="stop at the token of this number")
    parser.add_argument(
        "--cache", metavar="SCHEME", help="store keys and values in this scheme, e.g. int8-b64-absmax-f16"
    )
    add_quantization(parser)


def add_quantization(parser: argparse.ArgumentParser) -> None:
    """Add the options for a model that is quantized before it is used."""
    parser.add_argument("--scheme", metavar="SCHEME", help="quantize the matrices first, e.g. nf4-b64-absmax-f16")
    parser.add_argument(
        "--method", metavar="METHOD", help="how codes are chosen, e.g. gptq+order=act (`kbit-ref list methods`)"
    )
    parser.add_argument("--calibration", metavar="FILE", help="a text, for methods that need the inputs of matrices")
    parser.add_argument("--activations", metavar="SCHEME", help="quantize the inputs of the matrices too")
    parser.add_argument("--all", action="store_true", help="quantize embeddings and the output matrix too")


def loaded(args: argparse.Namespace) -> Model:
    """Return the model of the directory, quantized if requested."""
    if args.scheme is None:
        given = {"--method": args.method, "--calibration": args.calibration, "--activations": args.activations}
        rule = "nothing is quantized without a scheme"
        refuse_idle(args.command, given | {"--all": args.all}, rule, "add --scheme")
    elif args.calibration is not None and "inputs" not in (how := method(args.method or "nearest")).needs:
        rule = f"{how} does not look at what matrices are multiplied with"
        refuse_idle(args.command, {"--calibration": args.calibration}, rule, "leave it out, or add --method")
    model = load_model(args.directory)
    if args.scheme is None:
        return model
    skip, calibration = () if args.all else EMBEDDINGS, None
    if args.calibration is not None:
        tokens = load_tokenizer(args.directory).encode(text_of("quantize", "calibration", args.calibration))
        window = max(1, min(len(tokens), model.config.n_positions, 512))
        calibration = np.array(tokens[: len(tokens) // window * window], np.intp).reshape(-1, window)
    rest: dict[str, Any] = {"calibration": calibration, "activations": args.activations}
    return model.quantize(args.scheme, skip=skip, method=args.method or "nearest", **rest)


def text_of(command: str, option: str, path: str) -> str:
    """Return the text of a file that an option names."""
    try:
        return Path(path).read_text("utf-8")
    except (OSError, UnicodeDecodeError) as error:
        rule = f"it cannot be read ({error})"
        raise BadInput(message(command, f"{option} = {path}", rule, "name another")) from None


def run(args: argparse.Namespace) -> int:
    """Print the text as it grows."""
    if args.temperature == 0:
        given = {"--top-k": args.top_k, "--top-p": args.top_p, "--seed": args.seed}
        rule = "at temperature 0 the likeliest token is chosen"
        refuse_idle("generate", given, rule, "add --temperature 1, or leave it out")
    how = {"temperature": args.temperature, "top_k": args.top_k, "top_p": args.top_p, "seed": args.seed or 0}
    with _as_typed():
        check_choices(**how, n_new=args.n or 0)
    model, tokenizer = loaded(args), load_tokenizer(args.directory)
    prompt = tokenizer.encode(args.prompt)
    if not prompt:
        raise BadInput(message("generate", f"--prompt {args.prompt!r}", "it has no token", "write what to go on with"))
    left, n_positions = room(model.config, len(prompt)), model.config.n_positions
    if left == 0:
        got, rule = f"--prompt of {len(prompt)} tokens", f"the model has {n_positions} positions"
        raise BadInput(message("generate", got, rule, "shorten it"))
    n = args.n if args.n is not None else DEFAULT if left is None else min(DEFAULT, left)
    with _as_typed():
        tokens = stream(model, np.array([prompt], np.intp), n, cache=args.cache, stop=args.stop, **how)
    begin = time.monotonic()
    new: list[int] = []
    said = ""
    if not args.json:
        print(args.prompt, end="", flush=True)
    try:
        for token in tokens:
            new.append(int(token[0]))
            if not args.json:
                text = tokenizer.decode(new)  # as a whole: a letter may take several tokens
                whole = text if not text.endswith("\ufffd") else said
                print(whole[len(said) :], end="", flush=True)
                said = whole
    finally:
        if not args.json:
            print()  # what is told of an error begins on a line of its own
    seconds = time.monotonic() - begin
    if args.json:
        facts = {"prompt": prompt, "tokens": new, "text": tokenizer.decode(new), "seconds": seconds}
        print(json.dumps(facts, indent=1))
    else:
        print(f"{len(new)} tokens, {len(new) / max(seconds, 1e-9):.1f} a second", file=sys.stderr)
    if args.n is None and len(new) == n < DEFAULT and new[-1] != args.stop:
        print(f"kbit-ref generate: ended at the last of the model's {n_positions} positions", file=sys.stderr)
    return 0


@contextmanager
def _as_typed() -> Iterator[None]:
    """Name options in errors as they are typed, and not as Python's arguments."""
    try:
        yield
    except BadInput as error:
        match = re.match(r"generate: (\w+) = ", str(error))
        if match is None:
            raise
        typed = "-n" if match[1] == "n_new" else f"--{match[1].replace('_', '-')}"
        text = f"generate: {typed}{str(error)[match.end(1) :]}"
        raise BadInput(text) from None
