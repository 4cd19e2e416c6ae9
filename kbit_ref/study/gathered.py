"""What a report tells, computed once: curves of one scope, which are compared with which, and what pictures need."""

from __future__ import annotations

import csv
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from functools import cache, cached_property
from pathlib import Path
from typing import TypeVar

import numpy as np

from kbit_ref.data import data_folder
from kbit_ref.errors import BadInput, message
from kbit_ref.study.bootstrap import Draws
from kbit_ref.study.curves import Curve, by_precision, curves_of
from kbit_ref.study.distortion import Distortion, table
from kbit_ref.study.findings import PAPER
from kbit_ref.study.groups import Series, is_aware, longest
from kbit_ref.study.kinds import BLOCK, KINDS
from kbit_ref.study.rows import Result

__all__ = ["Gathered", "Pictured", "is_aware"]

T = TypeVar("T")
Loss = tuple[int, float]  # a step, and the mean loss before it


@dataclass(frozen=True)
class Pictured:
    """The rows that pictures are drawn of.

    Parameters
    ----------
    precisions
        For each measure one curve for each width.
    kinds, blocks
        For each width curves that differ in their type, or in their block, alone.
    chance
        The accuracy of guessing, None without questions.
    distortion
        Of all types in one block size.
    training
        For each model its loss curve, small models first.
    floor
        The least possible loss, None where it is not known.
    """

    precisions: Mapping[str, Sequence[Curve]] = field(default_factory=dict)
    kinds: Mapping[int, Sequence[Curve]] = field(default_factory=dict)
    blocks: Mapping[int, Sequence[Curve]] = field(default_factory=dict)
    chance: float | None = None
    distortion: Sequence[Distortion] = ()
    training: Mapping[str, Sequence[Loss]] = field(default_factory=dict)
    floor: float | None = None


@cache
def _distortion() -> tuple[Distortion, ...]:
    return tuple(table(blocks=(0, BLOCK)))  # the same for all results


class Gathered:
    """Results of a study, put together for a report.

    Parameters
    ----------
    results
        All of them.
    n, seed
        How often items and seeds are drawn again.

    Raises
    ------
    BadInput
        `report: results, there are none; run the study first`
    """

    def __init__(self, results: Iterable[Result], n: int = 1000, seed: int = 0):
        self.all = list(results)
        if not self.all:
            raise BadInput(message("report", "results", "there are none", "run the study first"))
        self.n, self.seed = n, seed
        self.aware = [row for row in self.all if is_aware(row)]
        self.rows = [row for row in self.all if not is_aware(row)]
        scopes = {row.cell.scope for row in self.rows}
        self.scopes: list[str] = [scope for scope in ("all", "linear") if scope in scopes]
        self.main = [row for row in self.rows if row.cell.scope == self.scopes[0]] if self.scopes else []

    @property
    def measure(self) -> str:
        """What losses are told as: above the floor, where it is known."""
        return "excess" if all(row.excess is not None for row in self.all) else "loss"

    @property
    def unit(self) -> str:
        """Of the measure, in words."""
        return "nats a token above the floor" if self.measure == "excess" else "nats a token"

    @cached_property
    def draws(self) -> Draws:
        """Of the first scope, activations rounded or not."""
        return Draws(longest(self.main), self.measure, self.n, self.seed)

    @cached_property
    def every(self) -> list[Curve]:
        """Every series of the first scope as a curve."""
        return curves_of(self.draws)

    @cached_property
    def curves(self) -> list[Curve]:
        """Those with activations as they are."""
        return [curve for curve in self.every if not curve.series.activations]

    @cached_property
    def accuracies(self) -> list[Curve]:
        """The same of the questions, if all were asked any."""
        if not self.main or not all(row.right for row in self.main):
            return []
        rows = [row for row in self.main if not row.cell.activations]
        return curves_of(Draws(longest(rows), "accuracy", self.n, self.seed))

    @cached_property
    def nearest(self) -> list[Curve]:
        """Those of a kind of type, by its width and block, each number at its nearest level."""
        return [c for c in self.curves if c.series.method == "nearest" and c.series.kind in (*KINDS, "none")]

    @cached_property
    def precisions(self) -> list[Curve]:
        """For each width the best of the paper's types."""
        return by_precision([c for c in self.nearest if c.series.kind in (*PAPER, "none")])

    @cached_property
    def precisions_of_accuracy(self) -> list[Curve]:
        """The same series, whose losses were the best, in accuracy."""
        chosen = {curve.series for curve in self.precisions}
        return sorted((c for c in self.accuracies if c.series in chosen), key=lambda c: c.series.bits)

    @cached_property
    def block(self) -> int:
        """The block in which most types were measured."""
        return _most_common([c.series.block for c in self.nearest if c.series.kind != "none"], BLOCK)

    @cached_property
    def kind(self) -> str:
        """The type that was measured in most blocks."""
        return _most_common([c.series.kind for c in self.nearest if c.series.kind != "none"], PAPER[0])

    @cached_property
    def kinds(self) -> dict[int, list[Curve]]:
        """For each width the types in that block, where there are two."""
        return self._by_width([c for c in self.nearest if c.series.block == self.block])

    @cached_property
    def blocks(self) -> dict[int, list[Curve]]:
        """For each width the blocks of that type, where there are two."""
        return self._by_width([c for c in self.nearest if c.series.kind == self.kind])

    @staticmethod
    def _by_width(found: Sequence[Curve]) -> dict[int, list[Curve]]:
        of: dict[int, list[Curve]] = {}
        for curve in found:
            if curve.series.kind != "none":
                of.setdefault(curve.series.bits, []).append(curve)
        return {bits: of[bits] for bits in sorted(of) if len(of[bits]) > 1}

    @cached_property
    def methods(self) -> list[tuple[Curve, Curve]]:
        """Curves of other methods, each with that of the nearest level for the same type and block."""
        plain = {c.series: c for c in self.curves if c.series.method == "nearest"}
        pairs = []
        for curve in self.curves:
            s = curve.series
            if s.method != "nearest" and (twin := plain.get(Series(s.kind, s.bits, s.block, "nearest", s.scope))):
                pairs.append((twin, curve))
        return pairs

    @cached_property
    def distortion(self) -> list[Distortion]:
        """Every type on every source, at one scale and in blocks of 64."""
        return list(_distortion())

    @cached_property
    def training(self) -> dict[str, list[Loss]]:
        """Loss curves of the models that are ours and were judged on the world, small ones first."""
        found = {}
        for row in sorted(self.rows, key=lambda row: (row.subject.n_parameters, row.subject.name)):
            name = row.subject.name
            if name not in found and row.floors and row.subject.seed is not None and "/" not in name:
                found[name] = _training(data_folder("models") / name / "curve.csv")
        return {name: curve for name, curve in found.items() if curve}

    @property
    def chance(self) -> float | None:
        """The accuracy of guessing, the mean over tasks."""
        chances = self.main[0].chances if self.main else {}
        return float(np.mean(list(chances.values()))) if chances else None

    @property
    def floor(self) -> float | None:
        """The least possible loss of the texts, None where it is not known."""
        known = [row.loss - row.excess for row in self.main if row.excess is not None]
        return known[0] if known and np.ptp(known) < 1e-6 else None

    @property
    def pictured(self) -> Pictured:
        """What pictures are drawn of."""
        panels = {self.measure: self.precisions, "accuracy": self.precisions_of_accuracy}
        return Pictured(
            {name: found for name, found in panels.items() if found},
            self.kinds,
            self.blocks,
            self.chance,
            [row for row in self.distortion if row.block],
            self.training,
            self.floor,
        )


def _training(path: Path) -> list[Loss]:
    """The loss curve that training wrote, or nothing."""
    if not path.is_file():
        return []
    with path.open(encoding="utf-8", newline="") as file:
        return [(int(row["step"]), float(row["loss"])) for row in csv.DictReader(file)]


def _most_common(values: Sequence[T], default: T) -> T:
    """The default, if it is one of the most common values."""
    return max(dict.fromkeys(values), key=lambda value: (values.count(value), value == default), default=default)
