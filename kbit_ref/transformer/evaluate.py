"""How good a model is: the loss of a text, and multiple choice as evaluation harnesses score it."""

from __future__ import annotations

import json
import os
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Protocol

import numpy as np
from numpy.typing import NDArray

from kbit_ref.errors import BadInput, message

__all__ = ["Choice", "Scores", "Text", "log_probabilities", "multiple_choice", "read_choices", "text_loss"]

Floats = NDArray[np.float64]
TOKENS_AT_ONCE = 4096  # of a batch; logits of them are the largest array there is
LONGEST_LINE = 1 << 24  # bytes of a jsonl file


class Model(Protocol):
    """What is judged: `transformer.Model`, or anything that has its `forward` and `config`."""

    @property
    def config(self) -> Any:
        """With n_positions and positions."""

    def forward(self, tokens: Any) -> NDArray[Any]:
        """Tokens [n_batch, n_seq] to logits [n_batch, n_seq, n_vocab]."""


@dataclass(frozen=True)
class Text:
    """The loss of a text.

    Parameters
    ----------
    n_tokens
        How many were predicted.
    nats
        The sum of -log p.
    """

    n_tokens: int
    nats: float

    @property
    def loss(self) -> float:
        """Nats a token."""
        return self.nats / self.n_tokens

    @property
    def perplexity(self) -> float:
        """exp(loss)."""
        return float(np.exp(self.loss))


@dataclass(frozen=True)
class Choice:
    """A multiple choice, in tokens."""

    context: tuple[int, ...]
    choices: tuple[tuple[int, ...], ...]
    gold: int
    task: str = ""


@dataclass(frozen=True)
class Scores:
    """How many of n multiple choices a model gets right: by the sum of log p, and by its mean over tokens."""

    n: int
    right: int
    right_normed: int
    chance: float

    @property
    def accuracy(self) -> float:
        """By the sum of the logarithms of probabilities."""
        return self.right / self.n

    @property
    def accuracy_normed(self) -> float:
        """By their mean over the tokens of a choice."""
        return self.right_normed / self.n


def log_probabilities(logits: NDArray[Any], targets: NDArray[np.intp]) -> Floats:
    """[..., n_vocab] and [...] to [...]: log softmax(logits)[target], in float64.

    Examples
    --------
    >>> np.exp(log_probabilities(np.log([[1.0, 3.0]]), np.array([1])))
    array([0.75])
    """
    x = logits.astype(np.float64)
    x -= x.max(-1, keepdims=True)
    picked = np.take_along_axis(x, targets[..., None], -1)[..., 0]
    found: Floats = picked - np.log(np.exp(x).sum(-1))
    return found


def text_loss(
    model: Model,
    tokens: Sequence[int] | NDArray[np.intp],
    window: int | None = None,
    stride: int | None = None,
    tell: Callable[[int], None] | None = None,
) -> Text:
    """The loss of a long text by windows that slide over it.

    Each window is moved by `stride` tokens and counts those that no window before it has predicted,
    so that every token but the first is predicted once, with at least window - stride tokens before it.

    Parameters
    ----------
    model
        What is judged.
    tokens : [n]
    window
        How many tokens a window has; by default all positions of the model, at most 2048.
    stride
        By default half a window.
    tell
        Is told how many tokens each window has predicted.

    Raises
    ------
    BadInput
        `eval: stride = 0, it is 1 to the window's 32; leave it out`
    """
    text = np.asarray(tokens, np.intp).reshape(-1)
    if len(text) < 2:
        raise BadInput(message("eval", f"{len(text)} tokens", "a loss needs two", "use a longer text"))
    size = min(model.config.n_positions, 2048) if window is None else window
    step = max(1, size // 2) if stride is None else stride
    if size < 1 or (model.config.positions == "learned" and size > model.config.n_positions):
        rule = f"the model has {model.config.n_positions} positions"
        raise BadInput(message("eval", f"window = {size}", rule, "use a smaller one"))
    if not 1 <= step <= size:
        raise BadInput(message("eval", f"stride = {step}", f"it is 1 to the window's {size}", "leave it out"))
    nats, done, begin = 0.0, 0, 0
    last = len(text) - 1  # the last token is predicted, and predicts nothing
    while done < last:
        end = min(begin + size, last)
        seen = text[begin:end]
        new = end - begin - max(done - begin, 0)
        found = log_probabilities(model.forward(seen[None])[:, -new:], text[None, end - new + 1 : end + 1])
        nats -= float(found.sum())
        done = end
        if tell is not None:
            tell(new)
        begin += step
    return Text(done, nats)


def multiple_choice(
    model: Model, questions: Sequence[Choice], tell: Callable[[int], None] | None = None
) -> tuple[Scores, list[list[float]]]:
    """Which choice a model takes for the likeliest, and the sum of log p of each.

    A draw counts for the first. Sequences of like length are computed together; what fills the
    shorter ones stands behind them, where no token sees it.

    Parameters
    ----------
    model
        What is judged.
    questions
        At least one.
    tell
        Is told how many sequences are done.
    """
    if not questions:
        raise BadInput(message("eval", "no question", "an accuracy needs one", "add some"))
    sequences = [(i, j) for i, question in enumerate(questions) for j in range(len(question.choices))]

    def length(at: tuple[int, int]) -> int:
        return len(questions[at[0]].context) + len(questions[at[0]].choices[at[1]])

    sums = [[0.0] * len(question.choices) for question in questions]
    for group in _batches(sorted(sequences, key=length), length):
        batch = np.zeros((len(group), length(group[-1])), np.intp)
        for row, (i, j) in enumerate(group):
            batch[row, : length((i, j))] = (*questions[i].context, *questions[i].choices[j])
        found = log_probabilities(model.forward(batch[:, :-1]), batch[:, 1:])
        for row, (i, j) in enumerate(group):
            sums[i][j] = float(found[row, len(questions[i].context) - 1 : length((i, j)) - 1].sum())
        if tell is not None:
            tell(len(group))
    lengths = [[len(choice) for choice in question.choices] for question in questions]
    right = sum(int(np.argmax(s)) == q.gold for s, q in zip(sums, questions, strict=True))
    means = [np.array(s) / np.array(n) for s, n in zip(sums, lengths, strict=True)]
    normed = sum(int(np.argmax(m)) == q.gold for m, q in zip(means, questions, strict=True))
    chance = float(np.mean([1 / len(question.choices) for question in questions]))
    return Scores(len(questions), right, normed, chance), sums


def _batches(
    sequences: list[tuple[int, int]], length: Callable[[tuple[int, int]], int]
) -> Iterator[list[tuple[int, int]]]:
    """Neighbours, as many as make at most TOKENS_AT_ONCE tokens with the filling."""
    group: list[tuple[int, int]] = []
    for sequence in sequences:
        if group and (len(group) + 1) * length(sequence) > TOKENS_AT_ONCE:
            yield group
            group = []
        group.append(sequence)
    if group:
        yield group


def read_choices(path: str | os.PathLike[str], encode: Callable[[str], list[int]]) -> Iterable[Choice]:
    """Multiple choices from a file, a JSON object a line: context, choices, gold, and task if there are several.

    `context` and `choices` are texts, or lists of tokens. The choice goes on where the context ends:
    both are turned to tokens together, so that a blank between them belongs to the choice.

    Raises
    ------
    BadInput
        `eval: tasks.jsonl line 3: gold = 4, there are 4 choices, counted from 0; mend it`
    """
    name = Path(path)
    try:
        with name.open(encoding="utf-8") as file:
            for number, line in enumerate(iter(lambda: file.readline(LONGEST_LINE), ""), 1):
                if line.strip():
                    yield _choice(line, f"{name} line {number}", encode)
    except (OSError, UnicodeDecodeError) as error:
        raise BadInput(message("eval", str(name), f"it cannot be read ({error})", "name another")) from None


def _choice(line: str, place: str, encode: Callable[[str], list[int]]) -> Choice:
    def refuse(got: str, rule: str) -> BadInput:
        return BadInput(message("eval", f"{place}: {got}"[:200], rule, "mend it"))

    try:
        row = json.loads(line)
    except (ValueError, RecursionError):
        raise refuse("the line", "it is no JSON object") from None
    if not isinstance(row, dict):
        raise refuse("the line", "it is no JSON object")
    choices, gold, context = row.get("choices"), row.get("gold"), row.get("context", "")
    if not isinstance(choices, list) or len(choices) < 2:
        raise refuse(f"choices = {choices!r}", "it is a list of at least two")
    if not isinstance(gold, int) or isinstance(gold, bool) or not 0 <= gold < len(choices):
        raise refuse(f"gold = {gold!r}", f"there are {len(choices)} choices, counted from 0")
    before = _tokens(context, encode, refuse)
    if not before:
        raise refuse(f"context = {context!r}", "it has no token")
    after = []
    for choice in choices:
        if isinstance(choice, str) and isinstance(context, str):
            whole = encode(context + choice)
            rest = whole[len(before) :] if whole[: len(before)] == before else encode(choice)
        else:
            rest = _tokens(choice, encode, refuse)
        if not rest:
            raise refuse(f"choice {choice!r}", "it has no token")
        after.append(tuple(rest))
    return Choice(tuple(before), tuple(after), gold, str(row.get("task", "")))


def _tokens(text: Any, encode: Callable[[str], list[int]], refuse: Callable[[str, str], BadInput]) -> list[int]:
    if isinstance(text, str):
        return encode(text)
    if isinstance(text, list) and all(isinstance(token, int) and not isinstance(token, bool) for token in text):
        return text
    raise refuse(f"{text!r}", "it is a text or a list of tokens")
