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

from kbit_ref.errors import BadInput, message
from kbit_ref.family import N_BATCH, SIZES, STEPS, Run, n_parameters, run_of, runs
from kbit_ref.family import run as train_run
from kbit_ref.progress import Progress
from kbit_ref.world import N_SEQ

HELP = "train a model in NumPy, for a chosen k if you like"


def arguments(parser: argparse.ArgumentParser) -> None:
    """Options of `kbit-ref train`."""
    sizes = ", ".join(f"{size} ({n_parameters(size):,})" for size in SIZES)
    what = parser.add_mutually_exclusive_group(required=True)
    what.add_argument("--size", choices=tuple(SIZES), help=f"and parameters: {sizes}")
    what.add_argument("--family", action="store_true", help="all runs of data/models; what is there is left as it is")
    what.add_argument("--run", dest="name", metavar="NAME", help="one run of the family: s-0, s-0-1500, ...")
    parser.add_argument("-o", "--output", required=True, metavar="DIR", help="a directory for the run's directory")
    parser.add_argument("--seed", type=int, default=0, metavar="S", help="of parameters and windows")
    parser.add_argument("--steps", type=int, default=STEPS, metavar="N", help=f"updates (default {STEPS})")
    parser.add_argument("--scheme", default="", metavar="SCHEME", help="train for it: int3sym-b64-absmax-f16")
    parser.add_argument("--skip", action="append", default=[], metavar="NAME", help="a matrix to leave as it is")
    parser.add_argument("--learned", action="store_true", help="with --scheme: the scales are learned as well")
    parser.add_argument("--workers", type=int, default=1, metavar="N", help="with --family: runs at a time")


def run(args: argparse.Namespace) -> int:
    """Train, and say where the model is."""
    if args.steps < 1 or args.workers < 1:
        got = f"steps = {args.steps}, workers = {args.workers}"
        raise BadInput(message("train", got, "both are at least 1", "leave them out"))
    if args.learned and not args.scheme:
        raise BadInput(message("train", "learned", "there are no steps without a scheme", "add --scheme"))
    Path(args.output).mkdir(parents=True, exist_ok=True)
    if args.family:
        return _family(Path(args.output), args.workers)
    what = run_of(args.name) if args.name else Run(args.size, args.seed, args.steps, args.scheme, args.learned)
    begin = time.monotonic()
    with Progress(f"train {what.name}", what.steps) as step:
        folder = train_run(what, args.output, _teller(step), skip=tuple(args.skip))
    if args.json:
        print(json.dumps({"directory": str(folder), "seconds": time.monotonic() - begin}))
    else:
        print(folder)
    return 0


def _teller(step: Progress) -> Callable[[int, float, float], None]:
    """Loss and tokens a second beside the bar."""
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


def _family(output: Path, workers: int) -> int:
    """Every run in a process of its own, one BLAS thread each; the first that fails ends it."""
    todo = [what for what in runs() if not (output / what.name / "model.safetensors").exists()]
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
    print(output)
    return 0
