"""Measure a model: the loss of a text, multiple choice, or the tasks of the synthetic world of `data/models`."""

from __future__ import annotations

import argparse
import json
from collections import defaultdict
from pathlib import Path
from typing import Any

import numpy as np

from kbit_ref.cli._options import refuse_idle
from kbit_ref.cli.generate import add_quantization, loaded, text_of
from kbit_ref.errors import BadInput, message
from kbit_ref.inputs import as_seed
from kbit_ref.progress import Progress
from kbit_ref.transformer.evaluate import Choice, log_probabilities, multiple_choice, read_choices, text_loss
from kbit_ref.transformer.tokens import load_tokenizer
from kbit_ref.transformer.world import N_SEQ, N_VOCAB, TASKS, World

HELP = "measure a model by the loss of a text, or by multiple choice"
EXAMPLE = "kbit-ref eval data/models/s-0 --world -n 50"
OUTPUT = {
    "task": "which task the row is about",
    "tokens, n": "how many tokens or questions were measured",
    "loss": "mean negative log-likelihood in nats per token; error: its standard error",
    "perplexity": "e to the loss",
    "floor": "the least possible loss (the entropy of the world)",
    "accuracy": "share of questions answered right; normed: with the score divided by the length of the choice",
    "chance, ceiling": "accuracy of a guess, and the best possible",
}
DEFAULT = 1000  # windows and questions of a task of the world


def arguments(parser: argparse.ArgumentParser) -> None:
    """Add the options of `kbit-ref eval`."""
    parser.add_argument("directory", metavar="DIR", help="a directory with config.json and safetensors")
    source = parser.add_mutually_exclusive_group(required=True)
    source.add_argument("--text", metavar="FILE", help="measure the loss of this text, in sliding windows")
    source.add_argument(
        "--tasks", metavar="FILE", help="multiple choice: JSON lines with context, choices, gold (and task)"
    )
    source.add_argument(
        "--world", action="store_true", help="for models of data/models: loss and accuracy of each task"
    )
    parser.add_argument("--window", type=int, metavar="N", help="tokens per window (default: all positions)")
    parser.add_argument(
        "--stride", type=int, metavar="N", help="tokens by which the window moves (default: half of it)"
    )
    parser.add_argument(
        "-n", type=int, metavar="N", help=f"with --world: windows and questions per task (default {DEFAULT})"
    )
    parser.add_argument("--seed", type=int, metavar="S", help="with --world: the seed that draws them (default 0)")
    add_quantization(parser)


def run(args: argparse.Namespace) -> int:
    """Judge and print."""
    if not args.world:
        rule = "only --world draws windows and questions"
        refuse_idle("eval", {"-n": args.n, "--seed": args.seed}, rule, "leave it out")
    if args.text is None:
        given = {"--window": args.window, "--stride": args.stride}
        refuse_idle("eval", given, "a text alone has windows that slide", "leave it out")
    n, seed = DEFAULT if args.n is None else args.n, as_seed("eval", args.seed or 0)
    if n < 1:
        raise BadInput(message("eval", f"n = {n}", "it is at least 1", "ask for some"))
    model = loaded(args)
    facts = {"model": str(Path(args.directory)), "scheme": args.scheme, "bits_per_parameter": model.bits_per_parameter}
    if args.text is not None:
        tokens = load_tokenizer(args.directory).encode(text_of("eval", "text", args.text))
        with Progress("eval", max(len(tokens) - 1, 1)) as step:
            found = text_loss(model, tokens, args.window, args.stride, step)
        rows = [{"tokens": found.n_tokens, "loss": found.loss, "perplexity": found.perplexity}]
    elif args.tasks is not None:
        rows = _tasks(model, list(read_choices(args.tasks, load_tokenizer(args.directory).encode)))
    else:
        rows = _world(model, n, seed)
    if args.json:
        print(json.dumps(facts | {"rows": rows}, indent=1))
    else:
        _table(rows)
    return 0


def _tasks(model: Any, questions: list[Choice]) -> list[dict[str, Any]]:
    """Return a row per task."""
    if not questions:
        raise BadInput(message("eval", "tasks", "the file has no question", "add some"))
    groups: dict[str, list[Choice]] = defaultdict(list)
    for question in questions:
        groups[question.task].append(question)
    rows = []
    with Progress("eval", sum(len(question.choices) for question in questions)) as step:
        for task, group in groups.items():
            scores, _ = multiple_choice(model, group, step)
            facts = {"accuracy": scores.accuracy, "normed": scores.accuracy_normed, "chance": scores.chance}
            rows.append({"task": task, "n": scores.n} | facts)
    return rows


def _world(model: Any, n: int, seed: int) -> list[dict[str, Any]]:
    """Return a row for each task of the world."""
    if model.config.n_vocab != N_VOCAB or model.config.n_positions < N_SEQ:
        got = f"a model of {model.config.n_vocab} words and {model.config.n_positions} positions"
        rule = f"the world has {N_VOCAB} words and windows of {N_SEQ}"
        raise BadInput(message("eval", got, rule, "use a model of data/models, or --text"))
    world = World()
    rows = []
    with Progress("eval", len(TASKS) * 5 * n) as step:
        for i, task in enumerate(TASKS):
            nats = []
            for begin in range(0, n, 128):
                windows = world.of_task(task, min(128, n - begin), np.random.default_rng([seed, 6, i, begin]))
                nats.append(-log_probabilities(model.forward(windows[:, :-1]), windows[:, 1:]).mean(1))
                step(len(windows))
            loss = np.concatenate(nats)
            questions = [Choice(q.context, q.choices, q.gold) for q in world.questions(task, n, seed)]
            scores, _ = multiple_choice(model, questions, step)
            error = float(loss.std(ddof=1) / len(loss) ** 0.5) if n > 1 else float("nan")
            facts = {"loss": float(loss.mean()), "error": error, "floor": world.floors[task]}
            rows.append({"task": task} | facts | {"accuracy": scores.accuracy, "chance": 0.25, "ceiling": 1.0})
    return rows


def _table(rows: list[dict[str, Any]]) -> None:
    names = list(rows[0])
    cells = [[f"{value:.4f}" if isinstance(value, float) else str(value) for value in row.values()] for row in rows]
    widths = [max(len(line[i]) for line in (names, *cells)) for i in range(len(names))]
    for line in (names, *cells):
        print("  ".join(f"{cell:>{width}}" for cell, width in zip(line, widths, strict=True)))
