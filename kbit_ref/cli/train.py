"""Train a model on the world in NumPy: one of our sizes, for a chosen k if you like, or the whole family."""

from __future__ import annotations

import argparse
import json
import os
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path

from kbit_ref.cli._options import refuse_idle, writable_directory
from kbit_ref.errors import BadInput, message
from kbit_ref.inputs import as_seed
from kbit_ref.progress import Progress
from kbit_ref.transformer.aware import Aware
from kbit_ref.transformer.config import shapes
from kbit_ref.transformer.family import N_BATCH, SIZES, STEPS, Run, config, n_parameters, run_of, runs
from kbit_ref.transformer.family import run as train_run
from kbit_ref.transformer.world import N_SEQ

HELP = "train a model in NumPy, for a chosen number of bits if you like"
EXAMPLE = "kbit-ref train --size s --steps 100 -o models"
OUTPUT = (
    "the directory of the model: config.json, safetensors, the curve of the loss; progress shows loss and tokens/s."
)


def arguments(parser: argparse.ArgumentParser) -> None:
    """Add the options of `kbit-ref train`."""
    sizes = ", ".join(f"{size} ({n_parameters(size):,})" for size in SIZES)
    what = parser.add_mutually_exclusive_group(required=True)
    what.add_argument("--size", choices=tuple(SIZES), help=f"size, and number of parameters: {sizes}")
    what.add_argument(
        "--family", action="store_true", help="train all runs of data/models; those that exist are left as they are"
    )
    what.add_argument("--run", dest="name", metavar="NAME", help="train one run of the family: s-0, s-0-1500, ...")
    place = "where to write the directory of the run (default: here)"
    parser.add_argument("-o", "--output", default=".", metavar="DIR", help=place)
    parser.add_argument("--seed", type=int, metavar="S", help="seed of parameters and windows (default 0)")
    parser.add_argument("--steps", type=int, metavar="N", help=f"number of updates (default {STEPS})")
    parser.add_argument("--scheme", metavar="SCHEME", help="quantize in the forward pass, e.g. int3sym-b64-absmax-f16")
    parser.add_argument(
        "--skip", action="append", default=[], metavar="NAME", help="do not quantize this matrix (repeatable)"
    )
    parser.add_argument("--learned", action="store_true", help="with --scheme: learn the scales too")
    parser.add_argument("--workers", type=int, metavar="N", help="with --family: number of runs at a time (default 1)")


def run(args: argparse.Namespace) -> int:
    """Train, and say where the model is."""
    begin = time.monotonic()
    _check(args)
    if args.family:
        output = writable_directory("train", args.output)
        _family(output, args.workers or 1)
        return _done(output, begin, args.json)
    given = args.seed or 0, STEPS if args.steps is None else args.steps, args.scheme or "", args.learned
    what = run_of(args.name) if args.name else Run(args.size, *given)
    if what.scheme:
        Aware(what.scheme, args.skip, what.learned).check(shapes(config(what.size)))
    folder = Path(args.output) / what.name
    there = (folder / "model.safetensors").exists()
    if not there:
        writable_directory("train", args.output)
        if folder.exists():
            writable_directory("train", folder)
    with Progress(f"train {what.name}", what.steps) as step:
        train_run(what, args.output, _teller(step), skip=tuple(args.skip))
    if there:
        print(f"kbit-ref train: {folder} is there already, nothing is trained", file=sys.stderr)
    return _done(folder, begin, args.json)


def _check(args: argparse.Namespace) -> None:
    """Refuse options that make no sense, or that would do nothing."""
    for option in ("steps", "workers"):
        if (value := getattr(args, option)) is not None and value < 1:
            raise BadInput(message("train", f"{option} = {value}", "it is at least 1", "leave it out"))
    as_seed("train", args.seed or 0)
    of_scheme = {"--skip": args.skip, "--learned": args.learned}
    if args.size is None:
        given = {"--seed": args.seed, "--steps": args.steps, "--scheme": args.scheme} | of_scheme
        refuse_idle("train", given, "the runs of the family have their own", "leave it out, or name a --size")
    if not args.family:
        refuse_idle("train", {"--workers": args.workers}, "one run is one process", "leave it out")
    if not args.scheme:
        refuse_idle("train", of_scheme, "nothing is quantized without a scheme", "add --scheme")


def _done(folder: Path, begin: float, as_json: bool) -> int:
    """Print where the model is."""
    print(json.dumps({"directory": str(folder), "seconds": time.monotonic() - begin}) if as_json else folder)
    return 0


def _teller(step: Progress) -> Callable[[int, float, float], None]:
    """Return a function that shows loss and tokens per second beside the bar."""
    state = {"from": 0, "begin": time.monotonic(), "mean": 0.0}

    def tell(done: int, loss: float, rate: float) -> None:
        if not state["from"]:
            state["from"] = done
            step(done - 1)  # what an earlier run had done
            state["mean"] = loss
        state["mean"] += 0.02 * (loss - state["mean"])
        seconds = max(time.monotonic() - state["begin"], 1e-9)
        speed = (done - state["from"] + 1) * N_BATCH * N_SEQ / seconds
        step(1, title=f"loss {state['mean']:.3f}, {speed:,.0f} tokens/s")

    return tell


def _family(output: Path, workers: int) -> None:
    """Train every run in a process of its own, with one BLAS thread each; the first that fails ends all."""
    every = len(list(runs()))
    todo = [what for what in runs() if not (output / what.name / "model.safetensors").exists()]
    if len(todo) < every:
        print(f"kbit-ref train: {every - len(todo)} of {every} runs are there already", file=sys.stderr)
    environment = os.environ | {"OMP_NUM_THREADS": "1", "OPENBLAS_NUM_THREADS": "1"}
    going: list[tuple[Run, subprocess.Popen[bytes]]] = []
    with Progress("family", len(todo)) as step:
        try:
            while todo or going:
                while todo and len(going) < workers:
                    what = todo.pop(0)
                    command = [sys.executable, "-m", "kbit_ref", "train", "--run", what.name, "-o", str(output)]
                    process = subprocess.Popen(command, env=environment, stdout=subprocess.DEVNULL)
                    going.append((what, process))
                time.sleep(0.2)
                for what, process in list(going):
                    if process.poll() is None:
                        continue
                    going.remove((what, process))
                    if process.returncode:
                        rule = f"it ended with {process.returncode}"
                        raise BadInput(message("train", what.name, rule, "what was said above tells why"))
                    step(1, title=f"{what.name} is done")
        finally:
            for _, process in going:
                process.terminate()
