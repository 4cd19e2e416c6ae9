"""How certain a number is: evaluation items are drawn again, and seeds vary as far as they were seen to.

Two things are chance in a measured loss: which windows and questions it was measured on, and which seed the
model was trained with. Items are drawn again with replacement, the same ones for all cells, so that what is
chance in both of two cells cancels in their difference. Seeds are few (five, or one): drawing them with
replacement would give intervals that are a quarter too narrow, so their deviations from the mean get random
weights whose law is Student's; for one size that is exactly the interval of the t test. Where there is one seed
of a size, nothing is known of how seeds of that size vary, and the interval tells of the items alone.

Every number is an array of `1 + 2 n` draws. The first is what was measured; the next n give the standard error
(seeds weighted by normal numbers); the last n give the interval (by Student's). What is computed from such
arrays elementwise (differences, interpolated curves, ratios) is such an array again: `estimate` reads it.
"""

from __future__ import annotations

import zlib
from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from kbit_ref.errors import BadInput, message
from kbit_ref.study.groups import Group, groups, matches, parts
from kbit_ref.study.rows import Result

__all__ = ["Draws", "Estimate", "common", "estimate"]

Floats = NDArray[np.float64]
LEVEL = 0.95


@dataclass(frozen=True)
class Estimate:
    """A number with what is known of its error.

    Parameters
    ----------
    value
        As measured.
    error
        Standard error.
    low, high
        The interval that covers the truth in 95 of 100 such studies.
    """

    value: float
    error: float
    low: float
    high: float

    def __str__(self) -> str:
        """For people.

        Examples
        --------
        >>> str(Estimate(0.5, 0.01, 0.4804, 0.5196))
        '0.5 [0.48, 0.52]'
        """
        return f"{self.value:.4g} [{self.low:.3g}, {self.high:.3g}]"

    @property
    def above(self) -> bool:
        """The whole interval lies above zero."""
        return self.low > 0

    @property
    def below(self) -> bool:
        """The whole interval lies below zero."""
        return self.high < 0


def estimate(draws: Any) -> Estimate:
    """Read an array of draws [1 + 2 n].

    A draw that is NaN (a curve that does not reach a loss in it) counts as infinitely large: it widens. If the number
    as measured is NaN, nothing is known.
    """
    x = np.asarray(draws, np.float64)
    n = (len(x) - 1) // 2
    value = float(x[0])
    if not n:
        return Estimate(value, float("nan"), float("nan"), float("nan"))
    if np.isnan(value):
        return Estimate(value, float("inf"), float("-inf"), float("inf"))
    normal, student = x[1 : 1 + n], np.where(np.isnan(x[1 + n :]), np.inf, x[1 + n :])
    tail = (1 - LEVEL) / 2
    low, high = np.quantile(student, tail, method="lower"), np.quantile(student, 1 - tail, method="higher")
    error = float(np.std(normal, ddof=1)) if np.isfinite(normal).all() and n > 1 else float("inf")
    return Estimate(value, error, float(low), float(high))


def common(one: Group, other: Group) -> frozenset[str] | None:
    """The models that two groups have, if they are of one size; None where there are none, or another size."""
    if one.key[:2] != other.key[:2]:
        return None
    return frozenset(r.cell.model for r in one.results) & {r.cell.model for r in other.results} or None


class Draws:
    """A measure of every group, drawn again n times.

    Parameters
    ----------
    results
        Of any cells.
    measure
        See `groups.parts`.
    n
        How many draws; 0: only what was measured.
    seed
        The same seed gives the same draws.

    Examples
    --------
    >>> from kbit_ref.study.rows import Cell, Result, Subject
    >>> model = Subject("s-0", 1000, 800, "s", 0, None, "")
    >>> row = Result(Cell("s-0"), model, "", 16000, {"text": np.array([1.0, 3.0])}, {}, {}, {}, {"text": 1.0})
    >>> draws = Draws([row], "loss", n=10)
    >>> draws.groups[0].key[:2], draws[draws.groups[0]].shape, float(draws[draws.groups[0]][0])
    (('s', 0), (21,), 2.0)
    """

    def __init__(self, results: Iterable[Result], measure: str = "loss", n: int = 1000, seed: int = 0):
        if n < 0:
            raise BadInput(message("study", f"n = {n}", "it is how often items are drawn again", "use 1000"))
        self.measure, self.n, self.seed = measure, n, seed
        self.groups = groups(results)
        self._means = self._items()
        self._plain = {(*g.key[:2], g.series.scope): g for g in self.groups if g.series.kind == "none"}
        self._of = {group.key: self.of(group) for group in self.groups}

    def __getitem__(self, group: Group) -> Floats:
        """[1 + 2 n]: the mean over its seeds."""
        return self._of[group.key]

    def __contains__(self, group: Group) -> bool:
        """Is there such a group?"""
        return group.key in self._of

    def groups_of(self, **fixed: Any) -> list[Group]:
        """The groups whose series have these values, as in `groups.groups`."""
        return [group for group in self.groups if matches(group.series, **fixed)]

    def of(self, group: Group, names: frozenset[str] | None = None) -> Floats:
        """[1 + 2 n]: the mean over the seeds of a group, or over those of these models alone.

        Where only some seeds of a size were asked, what few bits change in those is added to the mean of all seeds in
        16 bits: whether a seed was lucky does not matter then.
        """
        results = [r for r in group.results if names is None or r.cell.model in names]
        models = [r.cell.model for r in results]
        means = np.stack([self._means[r.cell] for r in results])  # [n_seeds, 1 + n]
        plain = self._plain.get((*group.key[:2], group.series.scope))
        of_plain = {r.cell.model: self._means[r.cell] for r in plain.results} if plain else {}
        if plain is None or set(models) == set(of_plain) or not set(models) <= set(of_plain):
            return self._seeds(means, models)
        change = means - np.stack([of_plain[model] for model in models])
        return self.of(plain) + self._seeds(change, models)

    def less(self, one: Group, other: Group) -> Floats:
        """[1 + 2 n]: one less the other; of the same size, in the models that both have."""
        names = common(one, other)
        return self.of(one, names) - self.of(other, names)

    def _items(self) -> dict[Any, Floats]:
        """For each cell [1 + n]: its mean, and its mean over items drawn again."""
        means: dict[Any, Floats] = {}
        columns: dict[tuple[str, int], list[tuple[Any, float, Floats]]] = {}
        for group in self.groups:
            for result in group.results:
                means[result.cell] = np.zeros(1 + self.n)
                for part in parts(result, self.measure):
                    columns.setdefault((part.name, len(part.values)), []).append((result.cell, part.share, part.values))
        for (name, n_items), of in columns.items():
            weights = self._weights(name, n_items)
            values = np.stack([x for _, _, x in of], axis=1)  # [n_items, n_cells]
            found = weights @ values  # [1 + n, n_cells]
            for column, (cell, share, _) in enumerate(of):
                means[cell] += share * found[:, column]
        return means

    def _weights(self, name: str, n_items: int) -> Floats:
        """[1 + n, n_items]: how often each item is drawn, over how many are; the same for all cells."""
        random = np.random.default_rng([self.seed, 1, zlib.crc32(name.encode()), n_items])
        drawn = random.multinomial(n_items, np.full(n_items, 1 / n_items), self.n)
        return np.concatenate([np.ones((1, n_items)), drawn]) / n_items

    def _seeds(self, of_seeds: Floats, names: list[str]) -> Floats:
        """[n_seeds, 1 + n] to [1 + 2 n]: the mean over seeds, and how it might be with other seeds.

        With weights g that are normal numbers, sum g (x - mean) / sqrt(m (m - 1)) has the variance of a mean of m.
        """
        m, mean = len(of_seeds), of_seeds.mean(0)
        both = np.concatenate([mean, mean[1:]])
        if m == 1:
            return both
        # Drawn for the names of the models: cells of the same models get the same weights.
        random = np.random.default_rng([self.seed, 2, zlib.crc32(" ".join(names).encode())])
        g = random.standard_normal((m, 2 * self.n))
        student = np.sqrt((m - 1) / random.chisquare(m - 1, self.n))
        deviation = np.concatenate([of_seeds[:, 1:], of_seeds[:, 1:]], axis=1) - both[1:]
        moved = (g * deviation).sum(0) / np.sqrt(m * (m - 1))
        moved[self.n :] *= student
        both[1:] += moved
        return both
