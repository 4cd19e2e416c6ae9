"""Which model in which bits: the best measured option under a limit, its runner-up, and how certain that is.

The limit is one of three: memory (bytes of the parameters), bits a parameter, or a loss. Under the first two the
option of least loss is recommended, under a loss the one of fewest bits. What is recommended was measured; what the
joint law says about models that were not is told beside it (`by_law`).
"""

from __future__ import annotations

import math
import os
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass, replace
from pathlib import Path

from kbit_ref.errors import BadInput, KbitError, message
from kbit_ref.study.bootstrap import Draws, Estimate, estimate
from kbit_ref.study.families import comparable, families, guessing
from kbit_ref.study.groups import Group, Series, longest
from kbit_ref.study.kinds import BLOCK, widths_of
from kbit_ref.study.law import fullest_law
from kbit_ref.study.rows import Cell, Result

__all__ = ["BITS_OF_BYTE", "Choice", "Limit", "Option", "Planned", "by_law", "bytes_of", "choose", "sweep"]

BITS_OF_BYTE = 8
KINDS = ("int", "float", "quantile", "nf")  # of the small sweep
BLOCKS = (32, 64, 128)
METHODS = ("gptq", "awq", "rotate")
WIDTHS = range(2, 9)
BEYOND = 2  # times the largest model that was measured: what a law says of larger ones is a guess
WINDOWS = 64  # of a text, for the small sweep
AS_IT_IS = 16  # bits of a number that is not quantized, and of a scale


@dataclass(frozen=True)
class Limit:
    """What an option may cost at most, or lose at most; one of the three.

    Raises
    ------
    BadInput
        `choose: 2 limits, give one of memory, bits a parameter, loss; drop the others`

    Examples
    --------
    >>> str(Limit(memory=5e6)), str(Limit(bits_per_parameter=4.25)), str(Limit(loss=1.2))
    ('at most 5 MB', 'at most 4.25 bits a parameter', 'a loss of at most 1.2 nats a token')
    """

    memory: float | None = None  # bytes
    bits_per_parameter: float | None = None
    loss: float | None = None

    def __post_init__(self) -> None:
        """One limit, above zero."""
        given = {name: value for name, value in vars(self).items() if value is not None}
        if len(given) != 1:
            rule = "give one of memory, bits a parameter, loss"
            raise BadInput(message("choose", f"{len(given)} limits", rule, "drop the others" if given else "add one"))
        for name, value in given.items():
            if not 0 < value < math.inf:
                raise BadInput(message("choose", f"{name} = {value:g}", "it is above 0 and finite", "give another"))

    def __str__(self) -> str:
        """For people."""
        if self.memory is not None:
            return f"at most {bytes_of(self.memory)}"
        if self.bits_per_parameter is not None:
            return f"at most {self.bits_per_parameter:g} bits a parameter"
        return f"a loss of at most {self.loss:g} nats a token"

    def allows(self, option: Option | Result) -> bool:
        """Does an option, or what was measured, keep within it?"""
        if self.memory is not None:
            return option.total_bits <= self.memory * BITS_OF_BYTE
        if self.bits_per_parameter is not None:
            return option.bits_per_parameter <= self.bits_per_parameter
        assert self.loss is not None
        return (option.loss.value if isinstance(option, Option) else option.loss) <= self.loss

    def least(self, options: Iterable[Option]) -> str:
        """What there is, for the error if nothing keeps within it."""
        if self.memory is not None:
            return f"the smallest measured takes {bytes_of(min(o.total_bits for o in options) / BITS_OF_BYTE)}"
        if self.bits_per_parameter is not None:
            return f"the least measured is {min(o.bits_per_parameter for o in options):.3g}"
        return f"the best measured loses {min(o.loss.value for o in options):.4g}"


def bytes_of(n: float) -> str:
    """Bytes for people.

    Examples
    --------
    >>> bytes_of(117_170), bytes_of(5e6), bytes_of(12)
    ('117 kB', '5 MB', '12 B')
    """
    for factor, unit in ((1e9, "GB"), (1e6, "MB"), (1e3, "kB")):
        if n >= factor:
            return f"{n / factor:.3g} {unit}"
    return f"{n:.3g} B"


@dataclass(frozen=True)
class Option:
    """A size of model in one series, as measured.

    Parameters
    ----------
    size, n_parameters
        Of the model.
    series
        Kind, bits, block, method.
    total_bits, bits_per_parameter
        Everything counted.
    loss
        Nats a token.
    """

    size: str
    n_parameters: int
    series: Series
    total_bits: float
    bits_per_parameter: float
    loss: Estimate

    def __str__(self) -> str:
        """For people."""
        memory = bytes_of(self.total_bits / BITS_OF_BYTE)
        return f"{self.size} ({self.n_parameters:,} parameters) in {self.series}: {memory}"


@dataclass(frozen=True)
class Choice:
    """What is recommended.

    Parameters
    ----------
    limit
        In words.
    recommended
        The option.
    runner_up
        The next best; None where no other keeps within the limit.
    difference
        How much more the runner-up loses, in nats a token, cell by cell on the same items.
    certain
        Its interval lies above zero. Under a loss: that of the recommended loss lies below the limit.
    n_options
        How many keep within the limit.
    n_tied
        How many of the others lose no more than what is recommended, as far as is certain; 0 under a loss.
    notes
        What else there is to know, a sentence each.
    """

    limit: str
    recommended: Option
    runner_up: Option | None
    difference: Estimate | None
    certain: bool
    n_options: int
    n_tied: int
    notes: tuple[str, ...]


@dataclass(frozen=True)
class Planned:
    """What the joint law says about a model that was not measured.

    Parameters
    ----------
    n_parameters, bits
        The size and width of least excess for the total.
    excess
        Nats a token above the floor.
    extrapolated
        The size lies beyond those that were measured.
    """

    n_parameters: int
    bits: int
    excess: float
    extrapolated: bool


def choose(results: Iterable[Result], limit: Limit, *, scope: str = "all", n: int = 500, seed: int = 0) -> Choice:
    """Recommend one of the measured options.

    Parameters
    ----------
    results
        Of any models; of each size those count that saw the most tokens.
    limit
        What it may cost or lose at most.
    scope
        "all", or "linear": embeddings stay in 16 bits. All parameters are counted in both.
    n, seed
        How often items and seeds are drawn again.

    Raises
    ------
    BadInput
        `choose: at most 1 kB, the smallest measured takes 5.1 kB; ask for more`
        `choose: models judged on other tokens (a and b), a loss a token of one says nothing of another's; ...`
    """
    seen = [r for r in results if r.cell.scope == scope and not r.cell.activations]
    rows = longest(seen)
    if not rows:
        raise BadInput(message("choose", f"scope = {scope}", "there is no result of it", "measure some"))
    comparable(rows)
    draws = Draws(rows, "loss", n, seed)
    every = [(group, _option(group, draws)) for group in draws.groups]
    within = [(group, option) for group, option in every if limit.allows(option)]
    if not within:
        raise BadInput(message("choose", str(limit), limit.least(o for _, o in every), "ask for more"))
    if limit.loss is None:
        within.sort(key=lambda one: (one[1].loss.value, one[1].total_bits))
    else:
        within.sort(key=lambda one: (one[1].total_bits, one[1].loss.value))
    (best, recommended), *others = within
    worse = [estimate(draws.less(group, best)) for group, _ in others]
    difference = worse[0] if worse else None
    if limit.loss is None:
        certain = difference is None or difference.above
    else:
        certain = recommended.loss.high <= limit.loss
    tied = sum(not one.above for one in worse) if limit.loss is None else 0
    notes = tuple(_notes(seen, limit, recommended, [option for _, option in every], scope))
    second = others[0][1] if others else None
    return Choice(str(limit), recommended, second, difference, certain, len(within), tied, notes)


def _option(group: Group, draws: Draws) -> Option:
    total = group.total_bits
    if group.series.scope == "linear":  # what is not quantized has to be stored, too
        total += AS_IT_IS * (group.n_parameters - group.results[0].subject.n_linear)
    return Option(
        group.size, group.n_parameters, group.series, total, total / group.n_parameters, estimate(draws[group])
    )


def _notes(rows: list[Result], limit: Limit, recommended: Option, every: list[Option], scope: str) -> Iterator[str]:
    if warning := guessing(rows):
        yield warning
    if len({option.size for option in every}) == 1:
        return
    if limit.memory is not None:
        total = limit.memory * BITS_OF_BYTE
        if all(option.total_bits <= total for option in every):
            yield f"Everything measured fits in {bytes_of(limit.memory)}: a larger model might use it better."
        series = recommended.series
        if scope == "all" and series.kind != "none":
            mine = next(f for f in families(rows) if any(r.subject.size == recommended.size for r in f.results))
            planned = by_law(mine.results, total, series.kind, series.block, method=series.method)
            if planned is not None and planned.n_parameters <= BEYOND * max(r.subject.n_parameters for r in rows):
                about = float(f"{planned.n_parameters:.3g}")
                yield (
                    "By the joint law of size, tokens and bits, which also tells of sizes in between, the best of "
                    f"{series.kind} at this total is a model of about {about:,.0f} parameters in {planned.bits} bits."
                )
    if limit.bits_per_parameter is not None:
        yield "The limit is for each parameter, and models of every size keep within it: this is the best of all."
    if all(row.excess is not None for row in rows):
        plain = next(row for row in rows if row.excess is not None)
        yield f"The least possible loss here is {plain.loss - (plain.excess or 0):.4f} nats a token."


def by_law(
    results: Iterable[Result], total_bits: float, kind: str, block: int, *, method: str = "nearest", scope: str = "all"
) -> Planned | None:
    """The size and width of least excess for so many total bits, by the joint law of one kind.

    The law is that of the block, or of the usual one if it has more terms. None where it cannot be fitted: fewer than
    three sizes or widths, or no known floor.
    """
    rows = list(results)
    law = fullest_law(rows, kind, (block, BLOCK), method=method, scope=scope, n=0)
    if law is None or "bits" not in law.terms:
        return None
    tokens = max((row.subject.tokens or 0 for row in rows), default=0) or None
    bits, n, excess = law.best(total_bits, tokens)
    sizes = [row.n_parameters for row in law.residuals]
    return Planned(round(n), bits, excess, not min(sizes) <= n <= max(sizes))


# A model of the user's own ---------------------------------------------------------------------


def sweep(
    folder: str | os.PathLike[str],
    limit: Limit,
    text: str = "",
    *,
    windows: int = WINDOWS,
    tell: Callable[[str, int], None] | None = None,
) -> list[Result]:
    """Measure a model in the few ways that a limit leaves open.

    Parameters
    ----------
    folder
        Of a model, with config.json and safetensors.
    limit
        Under memory or bits a parameter: the two widest widths that fit. Under a loss: from 2 bits up, until a width
        keeps within it. The best in each then in other methods, too.
    text
        A file; without one the model is judged on the world, which only ours know.
    windows
        At most so many of the text.
    tell
        Is told what is measured next, and how many cells there are at most.
    """
    place = Path(folder)
    if text and not Path(text).is_file():
        raise BadInput(message("choose", f"text = {text}", "there is no such file", "name another"))
    ask = _Asked(place, text, windows, tell)
    plain = ask("none", AS_IT_IS, 0)
    assert plain is not None
    if limit.loss is not None and plain.loss > limit.loss:
        rule = f"the model as it is loses {plain.loss:.4g}"
        raise BadInput(message("choose", str(limit), rule, "ask for less, or for a better model"))
    if limit.loss is None:
        room = limit.bits_per_parameter or float(limit.memory or 0) * BITS_OF_BYTE / plain.subject.n_parameters
        cells = cells_within(room) or _cells(WIDTHS[:1])[-1:]  # the smallest there is, so that it can be told
        return [plain, *replace(ask, most=1 + len(cells) + len(METHODS)).all(cells, limit.allows)]
    found = [plain]
    ask = replace(ask, most=1 + len(_cells(WIDTHS)) + len(WIDTHS) * len(METHODS))
    for bits in WIDTHS:
        here = ask.all(_cells([bits]))
        found += here
        if any(result.loss <= limit.loss for result in here):
            break
    return found


@dataclass(frozen=True)
class _Asked:
    """Measures cells of one model."""

    place: Path
    text: str
    windows: int
    tell: Callable[[str, int], None] | None
    most: int = 1

    def all(
        self, cells: list[tuple[str, int, int]], allows: Callable[[Result], bool] = lambda result: True
    ) -> list[Result]:
        """To the nearest level; and the best of these that is allowed once more, with codes found in other ways."""
        found = [result for cell in cells if (result := self(*cell)) is not None]
        allowed = [result for result in found if allows(result)]
        if not allowed:
            return found
        best = min(allowed, key=lambda result: result.loss).cell
        again = [self(best.kind, best.bits, best.block, how) for how in METHODS]
        return found + [result for result in again if result is not None]

    def __call__(self, kind: str, bits: int, block: int, how: str = "nearest") -> Result | None:
        """A cell's result; None where a method does not fit the type, or has too little text to calibrate with."""
        from kbit_ref.study.measure import measure
        from kbit_ref.study.plan import Evaluation, name_of

        if self.tell is not None:
            self.tell(f"{kind} {bits} {how}", self.most)
        text = str(Path(self.text).resolve()) if self.text else ""
        evaluation = Evaluation(windows=self.windows, questions=0, text=text)
        try:
            return measure(self.place, evaluation, Cell(name_of(self.place), kind, bits, block, how))
        except KbitError:
            if how == "nearest":
                raise
            return None


def cells_within(room: float) -> list[tuple[str, int, int]]:
    """Kind, bits and block of what may fit into so many bits a parameter: of each block the two widest widths.

    Examples
    --------
    >>> sorted({(bits, block) for _, bits, block in cells_within(4.25)})
    [(2, 32), (3, 32), (3, 64), (3, 128), (4, 64), (4, 128)]
    """
    found = []
    for block in BLOCKS:
        widths = [bits for bits in WIDTHS if bits + AS_IT_IS / block <= room]
        found += [cell for cell in _cells(widths[-2:]) if cell[2] == block]
    return found


def _cells(widths: Iterable[int]) -> list[tuple[str, int, int]]:
    """Every kind that has the width, in every block."""
    return [(kind, bits, block) for bits in widths for kind in KINDS if bits in widths_of(kind) for block in BLOCKS]
