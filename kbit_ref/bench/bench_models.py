"""How fast the transformer is, beside transformers on the same weights, threads and tokens.

The number of BLAS threads is fixed when a process begins, so each number of threads is measured in
a process of its own; there both sides run in turn, and medians are compared. Without torch and
transformers only our side is measured.
"""

from __future__ import annotations

import json
import os
import statistics
import subprocess
import sys
import warnings
from collections.abc import Callable, Iterator
from dataclasses import asdict, dataclass
from time import perf_counter
from typing import Any

import numpy as np

from kbit_ref.errors import BadInput, message
from kbit_ref.tensors.quantize import quantize
from kbit_ref.transformer.config import Config
from kbit_ref.transformer.model import Model
from kbit_ref.transformer.products import Matrix, product
from kbit_ref.transformer.train import Recipe, begin, train

__all__ = ["ModelTiming", "measured"]

GPT2_SMALL = Config(
    family="gpt2",
    n_vocab=50257,
    n_layer=12,
    n_head=12,
    d_model=768,
    d_ff=3072,
    n_positions=1024,
    qkv="thirds",
)
MILLION = Config(
    family="gpt2",
    n_vocab=288,
    n_layer=6,
    n_head=4,
    d_model=112,
    d_ff=448,
    n_positions=32,
    qkv="thirds",
)
PROMPT, NEW = 32, 32  # tokens of a prompt, and of what is added
NF4 = "nf4-b64-absmax-f32+layout=high4"


@dataclass(frozen=True)
class ModelTiming:
    """One row: medians in seconds, and what they are compared with."""

    task: str
    threads: int
    unit: str
    work: float  # units in one call
    seconds: float
    beside: str  # whose seconds follow; "" if nobody's
    their_seconds: float
    target: float
    floor: float

    @property
    def ratio(self) -> float:
        """How many times as fast as the other side."""
        return self.their_seconds / self.seconds if self.their_seconds else float("nan")


def measured(threads: int, runs: int) -> list[ModelTiming]:
    """All rows for a number of threads, from a process that has so many.

    Raises
    ------
    BadInput
        `bench: models, the process that measures ended with 1; run it alone: ...`
    """
    names = ("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS")
    environment = os.environ | dict.fromkeys(names, str(threads))
    command = [sys.executable, "-m", __name__, str(threads), str(runs)]
    done = subprocess.run(command, env=environment, capture_output=True, text=True, check=False)
    if done.returncode:
        said = done.stderr.strip().splitlines()[-1:] or [""]
        got, rule = "models", f"the process that measures ended with {done.returncode} ({said[0]})"
        raise BadInput(message("bench", got, rule, f"run it alone: {' '.join(command)}"))
    return [ModelTiming(**row) for row in json.loads(done.stdout.splitlines()[-1])]


def rows(threads: int, runs: int) -> Iterator[ModelTiming]:
    """What this process measures."""
    there = _torch(threads)
    model = Model(GPT2_SMALL, begin(GPT2_SMALL, 0))
    theirs = None if there is None else _gpt2(GPT2_SMALL, model)
    tokens = np.random.default_rng(0).integers(0, GPT2_SMALL.n_vocab, (1, 512))

    def row(
        task: str, unit: str, work: float, ours: Callable[[], Any], other: Any, beside: str, target: float, floor: float
    ) -> ModelTiming:
        a, b = _medians(ours, other, runs)
        return ModelTiming(task, threads, unit, work, a, beside if other else "", b, target, floor)

    other = None if theirs is None else lambda: _logits(there, theirs, tokens)
    prefill = lambda: model.forward(tokens)  # noqa: E731
    yield row("prefill of 512", "tokens", 512, prefill, other, "transformers", 0.95, 0.85)
    quantized = model.quantize(NF4)
    nf4 = lambda: quantized.forward(tokens)  # noqa: E731
    yield row("prefill of 512, nf4", "tokens", 512, nf4, prefill, "float32", 0.80, 0.80)
    prompt = tokens[:, :PROMPT]
    other = None if theirs is None else lambda: _generated(there, theirs, prompt)
    yield row("generate", "tokens", NEW, lambda: model.generate(prompt, NEW), other, "transformers", 1.15, 1.05)
    yield _one_row(row)
    yield _training_step(there, threads, runs)


def _one_row(row: Callable[..., ModelTiming]) -> ModelTiming:
    """One token through a quantized matrix of 4096 x 4096."""
    random = np.random.default_rng(1)
    weight = random.standard_normal((4096, 4096), np.float32)
    x = random.standard_normal((1, 4096), np.float32)
    matrix = Matrix(quantize(weight, NF4))
    other = None
    try:
        import torch
        from bitsandbytes import functional
    except ImportError:
        pass
    else:
        codes, state = functional.quantize_4bit(torch.tensor(weight), blocksize=64, quant_type="nf4")
        there = torch.tensor(x)
        other = lambda: there @ functional.dequantize_4bit(codes, state).T  # noqa: E731
    name = "bitsandbytes"
    return row("one row, nf4 4096 x 4096", "weights", weight.size, lambda: product(x, matrix), other, name, 2.5, 2.5)


def _training_step(there: Any, threads: int, runs: int) -> ModelTiming:
    """A step of the model of a million parameters; the gaps between its reports are timed."""
    tokens = np.random.default_rng(2).integers(0, MILLION.n_vocab, (64, 33))
    seconds: list[float] = []
    last = perf_counter()

    def tell(*_: Any) -> None:
        nonlocal last
        now = perf_counter()
        seconds.append(now - last)
        last = now

    train(MILLION, Recipe(steps=runs + 2), lambda _: tokens, tell=tell)
    their_seconds = 0.0
    if there is not None:
        step = _torch_step(there, tokens)
        step()
        found = []
        for _ in range(runs):
            begun = perf_counter()
            step()
            found.append(perf_counter() - begun)
        their_seconds = statistics.median(found)
    ours, name = statistics.median(seconds[2:]), "torch" if there is not None else ""
    return ModelTiming("training step, 1 M", threads, "tokens", 2048, ours, name, their_seconds, 0.5, 0.5)


def _medians(ours: Callable[[], Any], other: Callable[[], Any] | None, runs: int) -> tuple[float, float]:
    """Both in turn, after one call each that is not counted."""
    found: list[list[float]] = [[], []]
    for run in range(runs + 1):
        for which, call in enumerate((ours, other)):
            if call is not None:
                begun = perf_counter()
                call()
                if run:
                    found[which].append(perf_counter() - begun)
    return statistics.median(found[0]), statistics.median(found[1]) if found[1] else 0.0


def _torch(threads: int) -> Any:
    try:
        import torch
        import transformers
    except ImportError:
        return None
    transformers.logging.set_verbosity_error()
    torch.set_num_threads(threads)
    return torch


def _gpt2(c: Config, model: Model) -> Any:
    """The same weights in transformers."""
    import torch
    import transformers

    from kbit_ref.transformer.families import FAMILIES
    from kbit_ref.transformer.families.gpt2 import entries

    config = transformers.GPT2Config(**entries(c, "F32"))
    theirs = transformers.AutoModelForCausalLM.from_config(config).eval()
    places = dict(theirs.transformer.named_parameters())
    with torch.no_grad():
        for name, value in model.parameters.items():
            turned = value.ndim == 2 and name.startswith("blocks.")
            stored = np.ascontiguousarray(value.T if turned else value)
            places[FAMILIES["gpt2"].tensor(name)].copy_(torch.from_numpy(stored))
    return theirs


def _logits(torch: Any, theirs: Any, tokens: Any) -> Any:
    with torch.no_grad():
        return theirs(torch.from_numpy(tokens)).logits


def _generated(torch: Any, theirs: Any, prompt: Any) -> Any:
    more = {"max_new_tokens": NEW, "do_sample": False, "pad_token_id": 0}
    with torch.no_grad():
        return theirs.generate(torch.from_numpy(prompt), attention_mask=torch.ones(prompt.shape), **more)


def _torch_step(torch: Any, tokens: Any) -> Callable[[], None]:
    theirs = _gpt2(MILLION, Model(MILLION, begin(MILLION, 0)))  # `eval`: without dropout, as ours
    optimizer = torch.optim.AdamW(theirs.parameters(), lr=1e-3)
    batch = torch.from_numpy(tokens)

    def step() -> None:
        optimizer.zero_grad()
        out = theirs(batch[:, :-1]).logits
        loss = torch.nn.functional.cross_entropy(out.reshape(-1, MILLION.n_vocab), batch[:, 1:].reshape(-1))
        loss.backward()
        torch.nn.utils.clip_grad_norm_(theirs.parameters(), 1.0)
        optimizer.step()

    return step


if __name__ == "__main__":
    warnings.simplefilter("ignore")  # those of other libraries
    print(json.dumps([asdict(row) for row in rows(int(sys.argv[1]), int(sys.argv[2]))]))
