"""`Exam`: the texts and questions on which all cells of a model are judged, made once and always the same.

Two cells differ in the model alone, so that the difference of their losses, window by window, has a small error
even where the losses themselves have a large one.
"""

from __future__ import annotations

import hashlib
import os
from collections import defaultdict
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from functools import cached_property, lru_cache
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from kbit_ref.errors import BadInput, message
from kbit_ref.study.plan import Evaluation, name_of
from kbit_ref.transformer.config import Config
from kbit_ref.transformer.evaluate import Choice, Model, log_probabilities, read_choices
from kbit_ref.transformer.tokens import Bytes, load_tokenizer
from kbit_ref.transformer.world import N_SEQ, N_VOCAB, SHARES, TASKS, WORDS, World

__all__ = ["Exam", "Outcome", "exam_of"]

Array = NDArray[Any]
Tokens = NDArray[np.intp]
LOGITS = 1 << 21  # of a batch, about: they are the largest array there is


@dataclass(frozen=True, eq=False)
class Outcome:
    """How a model did: `nats`, `right` and `normed` as a `Result` has them."""

    nats: dict[str, Array]
    right: dict[str, Array]
    normed: dict[str, Array]


@dataclass(frozen=True, eq=False)
class Exam:
    """Texts and questions.

    Parameters
    ----------
    windows
        For each text: tokens [n, length + 1].
    shares
        How much each text counts.
    floors
        For each text: float32 [n], nats a token that nobody can do without; empty where they are not known.
    questions
        For each task.
    calibration : [n, length + 1]
        Windows for methods that look at inputs; none of them is judged.
    n_vocab
        Of the model, which decides how much is computed at once.
    """

    windows: Mapping[str, Tokens]
    shares: Mapping[str, float]
    questions: Mapping[str, Sequence[Choice]]
    calibration: Tokens
    n_vocab: int
    floors: Mapping[str, Array] = field(default_factory=dict)

    @cached_property
    def digest(self) -> str:
        """Of all tokens."""
        hashed = hashlib.sha256()
        for name, tokens in self.windows.items():
            hashed.update(f"{name} {self.shares[name]} {tokens.tolist()}".encode())
        for name, questions in self.questions.items():
            hashed.update(f"{name} {[(q.context, q.choices, q.gold) for q in questions]}".encode())
        return hashed.hexdigest()[:16]

    @property
    def chances(self) -> dict[str, float]:
        """For each task the accuracy of guessing."""
        return {name: float(np.mean([1 / len(q.choices) for q in asked])) for name, asked in self.questions.items()}

    def judge(self, model: Model) -> Outcome:
        """The loss of every window, and which questions are answered rightly."""
        nats = {name: self._loss(model, tokens) for name, tokens in self.windows.items()}
        right, normed = {}, {}
        for name, batches in self._batches.items():
            questions = self.questions[name]
            sums = np.zeros(sum(len(q.choices) for q in questions))
            for batch in batches:
                logits = model.forward(batch.tokens)[batch.rows, batch.columns]
                np.add.at(sums, batch.choices, log_probabilities(logits, batch.targets))
            lengths = np.array([len(choice) for q in questions for choice in q.choices])
            right[name], normed[name] = _chosen(sums, questions), _chosen(sums / lengths, questions)
        return Outcome(nats, right, normed)

    def _loss(self, model: Model, tokens: Tokens) -> Array:
        step = max(1, LOGITS // (tokens.shape[1] * self.n_vocab))
        found = [
            -log_probabilities(model.forward(part[:, :-1]), part[:, 1:]).mean(1)
            for part in (tokens[i : i + step] for i in range(0, len(tokens), step))
        ]
        return np.concatenate(found).astype(np.float32)

    @cached_property
    def _batches(self) -> dict[str, list[_Batch]]:
        return {name: list(_batches(questions, self.n_vocab)) for name, questions in self.questions.items()}


def _chosen(scores: Array, questions: Sequence[Choice]) -> Array:
    """Is the first of the best choices the right one?"""
    ends = np.cumsum([len(q.choices) for q in questions])
    return np.array([int(np.argmax(s)) == q.gold for s, q in zip(np.split(scores, ends[:-1]), questions, strict=True)])


@dataclass(frozen=True, eq=False)
class _Batch:
    """Sequences of like length, and which of their logits say something about which choice."""

    tokens: Tokens  # [n, length]; what fills the shorter ones stands behind them, where no token sees it
    rows: Tokens  # [m]
    columns: Tokens  # [m]
    targets: Tokens  # [m]
    choices: Tokens  # [m]


def _batches(questions: Sequence[Choice], n_vocab: int) -> Iterable[_Batch]:
    """Choices that differ in their last token alone are one sequence: that token is not read."""
    sequences: dict[tuple[int, ...], list[tuple[int, int, int]]] = defaultdict(list)  # -> column, target, choice
    number = 0
    for question in questions:
        for choice in question.choices:
            first = len(question.context) - 1
            read = (*question.context, *choice)[:-1]
            sequences[read] += [(first + i, token, number) for i, token in enumerate(choice)]
            number += 1
    group: list[tuple[int, ...]] = []
    for read in sorted(sequences, key=len):
        if group and (len(group) + 1) * len(read) * n_vocab > LOGITS:
            yield _batch(group, sequences)
            group = []
        group.append(read)
    if group:
        yield _batch(group, sequences)


def _batch(group: list[tuple[int, ...]], sequences: Mapping[tuple[int, ...], list[tuple[int, int, int]]]) -> _Batch:
    tokens = np.zeros((len(group), len(group[-1])), np.intp)
    for row, read in enumerate(group):
        tokens[row, : len(read)] = read
    wanted = np.array([(row, *one) for row, read in enumerate(group) for one in sequences[read]], np.intp)
    return _Batch(tokens, *wanted.T)


# Where texts and questions come from -----------------------------------------------------------


def exam_of(evaluation: Evaluation, folder: str | os.PathLike[str], config: Config) -> Exam:
    """What the model of a directory is judged on.

    Raises
    ------
    BadInput
        `study: m, a model of 50257 words and 1024 positions, the world has 288 words and windows of 32; name a text`
    """
    if evaluation.text:
        return _of_text(evaluation, Path(folder), config.n_positions, config.n_vocab)
    remedy = "name a text in the plan, or with --text FILE"
    if config.n_vocab != N_VOCAB or config.n_positions < N_SEQ:
        got = f"{name_of(folder)}, a model of {config.n_vocab} words and {config.n_positions} positions"
        rule = f"the world has {N_VOCAB} words and windows of {N_SEQ}"
        raise BadInput(message("study", got, rule, remedy))
    if not _reads_the_world(Path(folder)):
        rule = "it has another tokenizer than the models of the world"
        raise BadInput(message("study", name_of(folder), rule, remedy))
    return _of_world(evaluation)


def _reads_the_world(folder: Path) -> bool:
    """Has it the words of the world, or at least none of its own?"""
    tokenizer = load_tokenizer(folder)
    return isinstance(tokenizer, Bytes) or getattr(tokenizer, "words", None) == dict(enumerate(WORDS))


@lru_cache(maxsize=1)
def _of_world(e: Evaluation) -> Exam:
    """Each task of the world is a text and a task of the exam; training saw the same windows by chance alone."""
    world = World()
    randoms = {task: np.random.default_rng([e.seed, 7, i]) for i, task in enumerate(TASKS)}
    windows = {task: world.of_task(task, e.windows, random) for task, random in randoms.items()}
    floors = {task: -world.log_probabilities(tokens).mean(1).astype(np.float32) for task, tokens in windows.items()}
    questions = {
        task: [Choice(q.context, q.choices, q.gold, task) for q in world.questions(task, e.questions, e.seed)]
        for task in (TASKS if e.questions else ())
    }
    calibration = np.empty((0, N_SEQ + 1), np.intp)
    if e.calibration:
        calibration = world.windows(e.calibration, np.random.default_rng([e.seed, 8]))
    return Exam(windows, SHARES, questions, calibration, N_VOCAB, floors)


@lru_cache(maxsize=2)
def _of_text(e: Evaluation, folder: Path, positions: int, n_vocab: int) -> Exam:
    """Windows from the beginning of the text, with the model's own tokens; those that calibrate follow them.

    Angles go on beyond the positions that a model was trained with, but the model does not know them: no window and
    no question is longer.
    """
    tokenizer = load_tokenizer(folder)
    try:
        tokens = np.array(tokenizer.encode(Path(e.text).read_text("utf-8")), np.intp)
    except (OSError, UnicodeDecodeError) as error:
        raise BadInput(message("study", f"text = {e.text}", f"it cannot be read ({error})", "name another")) from None
    length = min(e.window, positions, len(tokens) - 1)
    if length < 1:
        raise BadInput(message("study", f"text = {e.text}", "a loss needs two tokens", "use a longer text"))
    n = (len(tokens) - 1) // length
    cut = np.stack([tokens[i * length : (i + 1) * length + 1] for i in range(n)])  # an end is the next beginning
    kept = min(e.windows, n - min(e.calibration, n // 4))
    if kept < 2 and e.windows > 1:
        rule = f"it has {len(tokens)} tokens, and an interval needs two windows, here of {length}"
        raise BadInput(message("study", f"text = {e.text}", rule, "use a longer text, or a smaller window"))
    if tokens.max() >= n_vocab:
        rule = f"its tokenizer goes up to {tokens.max()}, and the model has {n_vocab} words"
        raise BadInput(message("study", name_of(folder), rule, "give it the tokenizer it was trained with"))
    questions: dict[str, list[Choice]] = defaultdict(list)
    for choice in read_choices(e.tasks, tokenizer.encode) if e.tasks else ():
        if len(questions[choice.task]) < e.questions:
            questions[choice.task].append(_shortened(choice, positions))
    return Exam({"text": cut[:kept]}, {"text": 1.0}, questions, cut[kept : kept + e.calibration], n_vocab)


def _shortened(choice: Choice, positions: int) -> Choice:
    """Without the beginning of a context that is too long, as evaluation harnesses do it."""
    longest = max(map(len, choice.choices))
    if len(choice.context) + longest - 1 <= positions:
        return choice
    return Choice(choice.context[-max(positions - longest + 1, 1) :], choice.choices, choice.gold, choice.task)
