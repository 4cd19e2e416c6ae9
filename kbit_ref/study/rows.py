"""What the study is about: a `Cell` is one question, a `Result` what was measured."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from functools import cached_property
from typing import Any

import numpy as np
from numpy.typing import NDArray

__all__ = ["SCOPES", "Cell", "Result", "Subject"]

Array = NDArray[Any]
SCOPES = ("all", "linear")


@dataclass(frozen=True)
class Subject:
    """A model of the study.

    Parameters
    ----------
    name
        Of its directory, which holds config.json and safetensors.
    n_parameters, n_linear
        All its numbers, and those in matrices that are no embeddings and no output matrix.
    size
        Models that differ in seed or tokens alone have the same: `s`; of foreign models the name.
    seed, tokens
        Of the training where it is known, else None.
    digest
        sha256 of the parameters' bytes.
    """

    name: str
    n_parameters: int
    n_linear: int
    size: str
    seed: int | None
    tokens: int | None
    digest: str


@dataclass(frozen=True, order=True)
class Cell:
    """One question: a model, in so many bits of some kind, found in some way.

    Parameters
    ----------
    model
        The name of its directory.
    kind, bits
        A kind of type ("int float dynamic quantile nf lloyd ...", see `study/kinds.py`) and its width, or the name of
        a format in itself ("ocp-mxfp4", bits 4); "none" and 16 is the model as it is.
    block
        Elements that share a scale; 0: the whole tensor, or what the format has.
    method
        A spelling of `kbit_ref.methods`.
    scope
        "all": every matrix is quantized, embeddings and output too, and every number counts. "linear": embeddings
        and output stay as they are, and neither they nor vectors count.
    activations
        A scheme in which the other factor of every product is rounded, or "".
    """

    model: str
    kind: str = "none"
    bits: int = 16
    block: int = 0
    method: str = "nearest"
    scope: str = "all"
    activations: str = ""


@dataclass(frozen=True, eq=False)
class Result:
    """What a cell gave.

    Parameters
    ----------
    cell, subject
        The question.
    scheme
        The scheme of the matrices, "" for none.
    total_bits
        All bits that count: codes, scales, everything a method stores, 16 for each number that stays (scope "linear":
        of linear matrices alone).
    nats
        For each text (task of the world): float32 [n], the mean loss of each window in nats a token.
    floors
        For each text: float32 [n], the least expected loss of the same windows where it is known, else absent.
    right
        For each task of multiple choice: bool [n], which questions it answered rightly by the sum of log p.
    normed
        The same by the mean log p a token.
    chances
        For each task of multiple choice: the accuracy of guessing.
    shares
        How much each text counts in the loss; they sum to 1.
    weight_error
        Relative squared error of the quantized matrices together: sum (w - w')**2 / sum w**2; 0 for none.
    kurtosis
        Of all quantized matrices together, each divided by its rms: 3 for a normal distribution.
    seconds
        What it took, with loading.
    facts
        Versions and the like: all that is needed to repeat it.
    """

    cell: Cell
    subject: Subject
    scheme: str
    total_bits: int
    nats: Mapping[str, Array]
    right: Mapping[str, Array]
    normed: Mapping[str, Array]
    chances: Mapping[str, float]
    shares: Mapping[str, float]
    floors: Mapping[str, Array] = field(default_factory=dict)
    weight_error: float = 0.0
    kurtosis: float = 0.0
    seconds: float = 0.0
    facts: Mapping[str, Any] = field(default_factory=dict)

    @property
    def n_counted(self) -> int:
        """Numbers that count."""
        return self.subject.n_linear if self.cell.scope == "linear" else self.subject.n_parameters

    @property
    def bits_per_parameter(self) -> float:
        """All bits that count over all numbers that count."""
        return self.total_bits / self.n_counted

    @cached_property
    def loss(self) -> float:
        """Nats a token, of all texts in their shares."""
        return float(sum(self.shares[name] * float(np.mean(x, dtype=np.float64)) for name, x in self.nats.items()))

    @cached_property
    def excess(self) -> float | None:
        """`loss` less the floor of the same windows, or None where that is unknown."""
        if set(self.floors) != set(self.nats):
            return None
        floor = sum(self.shares[name] * float(np.mean(x, dtype=np.float64)) for name, x in self.floors.items())
        return self.loss - float(floor)

    @cached_property
    def accuracy(self) -> float | None:
        """The mean over tasks of multiple choice, each with the same weight, as in the paper; None without any."""
        return float(np.mean([np.mean(x) for x in self.right.values()])) if self.right else None
