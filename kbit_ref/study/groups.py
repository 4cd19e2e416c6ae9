"""Results put together: cells that ask the same of models of one size are a `Group`, one result for each seed."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, fields
from typing import Any

import numpy as np
from numpy.typing import NDArray

from kbit_ref.errors import BadInput, UnknownName, message
from kbit_ref.study.kinds import is_format
from kbit_ref.study.rows import Cell, Result

__all__ = ["MEASURES", "Group", "Part", "Series", "groups", "is_aware", "longest", "matches", "parts", "sign"]

Array = NDArray[Any]
MEASURES = {"loss": -1, "excess": -1, "accuracy": 1}  # 1: more is better
BROKEN = 20.0  # nats a token that a loss counts which is no finite number: worse than guessing among any words


@dataclass(frozen=True, order=True)
class Series:
    """What is done to a model, whichever it is: a cell without its model. One line of a picture."""

    kind: str = "none"
    bits: int = 16
    block: int = 0
    method: str = "nearest"
    scope: str = "all"
    activations: str = ""

    @classmethod
    def of(cls, cell: Cell) -> Series:
        """The series of a cell."""
        return cls(**{one.name: getattr(cell, one.name) for one in fields(cls)})

    def __str__(self) -> str:
        """For people.

        Examples
        --------
        >>> str(Series("nf", 4, 64)), str(Series("int", 3, 0, "gptq", "linear")), str(Series("ocp-mxfp4", 4))
        ('nf 4 bits, blocks of 64', 'int 3 bits, whole tensors, gptq, linear layers only', 'ocp-mxfp4')
        """
        if self.kind == "none":
            said = ["16 bits, as it is"]
        elif is_format(self.kind):
            said = [self.kind]
        else:
            said = [f"{self.kind} {self.bits} bits", f"blocks of {self.block}" if self.block else "whole tensors"]
        said += [self.method] * (self.method != "nearest")
        said += ["linear layers only"] * (self.scope == "linear")
        said += [f"activations {self.activations}"] * bool(self.activations)
        return ", ".join(said)


@dataclass(frozen=True, eq=False)
class Group:
    """A size of model in one series: a result for each seed.

    Parameters
    ----------
    size, tokens
        Of the models.
    series
        What was done to them.
    results
        One for each seed, in the order of the models' names.
    """

    size: str
    tokens: int | None
    series: Series
    results: tuple[Result, ...]

    @property
    def key(self) -> tuple[str, int, Series]:
        """What tells it from others; tokens that are not known are 0."""
        return self.size, self.tokens or 0, self.series

    @property
    def n_seeds(self) -> int:
        """How many models it is the mean of."""
        return len(self.results)

    @property
    def n_parameters(self) -> int:
        """All numbers of a model."""
        return self.results[0].subject.n_parameters

    @property
    def total_bits(self) -> float:
        """The mean over its results."""
        return float(np.mean([result.total_bits for result in self.results]))

    @property
    def bits_per_parameter(self) -> float:
        """The mean over its results."""
        return float(np.mean([result.bits_per_parameter for result in self.results]))


def groups(results: Iterable[Result], **fixed: Any) -> list[Group]:
    """All groups, by size (smallest first), tokens and series.

    Parameters
    ----------
    results
        In any order; of a cell that is there twice the last counts.
    **fixed
        See `matches`: `scope="all", block=64`.
    """
    found: dict[tuple[str, int, Series], dict[str, Result]] = {}
    for result in results:
        series = Series.of(result.cell)
        if matches(series, **fixed):
            key = (result.subject.size, result.subject.tokens or 0, series)
            found.setdefault(key, {})[result.cell.model] = result
    made = [
        Group(size, tokens or None, series, tuple(of[name] for name in sorted(of)))
        for (size, tokens, series), of in found.items()
    ]
    return sorted(made, key=lambda group: (group.n_parameters, *group.key))


def matches(series: Series, **fixed: Any) -> bool:
    """Has a series these values? The model as it is has any kind, width, block and method, but only its scope."""
    free = ("kind", "bits", "block", "method") if series.kind == "none" else ()
    return all(key in free or getattr(series, key) == value for key, value in fixed.items())


def is_aware(result: Result) -> bool:
    """Was the model trained for a scheme? Those of our family say so in their size."""
    return result.subject.seed is not None and "-" in result.subject.size


def longest(results: Iterable[Result]) -> list[Result]:
    """Of each size, the models that saw the most tokens: those that stand in a curve over sizes.

    Models of ours that were trained for a scheme (size `s-lloyd2-...`) are another question, and left out.
    """
    rows = [row for row in results if not is_aware(row)]
    most: dict[str, int] = {}
    for row in rows:
        most[row.subject.size] = max(most.get(row.subject.size, 0), row.subject.tokens or 0)
    return [row for row in rows if (row.subject.tokens or 0) == most[row.subject.size]]


@dataclass(frozen=True, eq=False)
class Part:
    """Some items of a result and how much their mean counts: a text's windows, a task's questions."""

    name: str
    share: float
    values: Array  # [n_items]


def sign(measure: str) -> int:
    """1 where more is better, -1 where less is.

    Raises
    ------
    UnknownName
        `study: measure = 'los', there is no such name; did you mean loss? ...`

    Examples
    --------
    >>> sign("accuracy"), sign("excess:ask")
    (1, -1)
    """
    name = measure.partition(":")[0]
    if name not in MEASURES:
        raise UnknownName.among("study", "measure", measure, MEASURES, f"measures are {', '.join(MEASURES)}")
    return MEASURES[name]


def parts(result: Result, measure: str) -> list[Part]:
    """The items that a measure is the mean of.

    Parameters
    ----------
    result
        What was measured.
    measure
        "loss" (nats a token), "excess" (loss less the known floor), "accuracy" (mean over tasks); of one text or task
        alone: "excess:ask". The loss of a model that few bits have broken counts at most `BROKEN`.

    Raises
    ------
    BadInput
        `study: excess of gpt2, the floor of its texts is not known; use loss`
    """
    sign(measure)
    name, _, task = measure.partition(":")
    source: dict[str, Any] = dict(result.right)
    if name != "accuracy":
        source = {key: np.nan_to_num(x, nan=BROKEN, posinf=BROKEN).clip(max=BROKEN) for key, x in result.nats.items()}
    if name == "excess":
        if set(result.floors) != set(source):
            rule = "the floor of its texts is not known"
            raise BadInput(message("study", f"excess of {result.cell.model}", rule, "use loss"))
        source = {key: np.asarray(x, np.float64) - result.floors[key] for key, x in source.items()}
    if task:
        source = {key: x for key, x in source.items() if key == task}
    if not source:
        rule = "it was not measured"
        raise BadInput(message("study", f"{measure} of {result.cell.model}", rule, "use another measure"))
    shares = {key: result.shares.get(key, 0.0) for key in source} if name != "accuracy" and not task else {}
    return [Part(key, shares.get(key, 1 / len(source)), np.asarray(x, np.float64)) for key, x in source.items()]
