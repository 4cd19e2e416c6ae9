"""The eight findings of the paper, each held against our results: supported, not supported, or undecided.

Differences are taken at the same total bits (`curves.gap`), so that what small blocks and kept columns cost is
paid for; they are means over all totals at which both are measured. Losses decide, as the paper prefers them;
only the second finding is about accuracy itself.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Mapping
from dataclasses import replace
from functools import cached_property

import numpy as np
from numpy.typing import NDArray

from kbit_ref.errors import BadInput, message
from kbit_ref.study.bootstrap import Draws, estimate
from kbit_ref.study.curves import Curve, best_precisions, by_precision, curves_of, gap, totals
from kbit_ref.study.evidence import Evidence, Finding, clear, concluded, positive, small
from kbit_ref.study.groups import groups, longest, sign
from kbit_ref.study.kinds import BLOCK
from kbit_ref.study.law import LAW_DRAWS, fullest_law
from kbit_ref.study.rows import Result

__all__ = ["PAPER", "findings", "gained_by_size", "tails"]

Floats = NDArray[np.float64]
PAPER = ("int", "float", "dynamic", "quantile")  # its four types
NOTHING = 0.01  # nats a token: a hundredth of the perplexity; less than this is no improvement
RANDOM = 0.1  # of the accuracy above chance; who keeps less is close to random
LARGE = 1024  # a large block; where there is none, whole tensors


class _Data:
    """What the findings look at: curves of one scope, weights only, and the results behind them."""

    def __init__(self, results: Iterable[Result], scope: str, n: int, seed: int):
        self.every = [row for row in results if row.cell.scope == scope and not row.cell.activations]
        rows = longest(self.every)
        if not rows:
            raise BadInput(message("study", f"scope = {scope}", "there is no result of it", "name another scope"))
        self.rows = rows
        self.measure = "excess" if all(row.excess is not None for row in rows) else "loss"
        self.draws = Draws(rows, self.measure, n, seed)
        self.all = curves_of(self.draws)
        self.scope, self.n, self.seed = scope, n, seed

    @cached_property
    def accuracy(self) -> Draws | None:
        """Of the questions, if there are any."""
        return Draws(self.rows, "accuracy", self.n, self.seed) if all(row.right for row in self.rows) else None

    def curve(self, kind: str, bits: int, block: int, method: str = "nearest") -> Curve | None:
        """One curve, if it was measured."""
        for curve in self.all:
            s = curve.series
            if (s.kind, s.bits, s.block, s.method) == (kind, bits, block, method):
                return curve
        return None

    @cached_property
    def precisions(self) -> dict[int, Curve]:
        """For each width the best of the paper's types, to the nearest level."""
        ours = [c for c in self.all if c.series.kind in (*PAPER, "none") and c.series.method == "nearest"]
        return {curve.series.bits: curve for curve in by_precision(ours)}

    def gap(self, worse: Curve | None, better: Curve | None) -> Floats | None:
        """`curves.gap`, if both were measured."""
        return None if worse is None or better is None else gap(worse, better)

    def mean_gap(self, pairs: Iterable[tuple[Curve | None, Curve | None]]) -> Floats | None:
        """The mean of the gaps that were measured."""
        found = [one for one in (self.gap(*pair) for pair in pairs) if one is not None]
        return np.mean(found, axis=0) if found else None

    def largest_gap(self, pairs: Iterable[tuple[Curve | None, Curve | None]]) -> tuple[Floats | None, str]:
        """The largest of the gaps that were measured, and what it is at each size."""
        found = [(one, pair) for pair in pairs if (one := self.gap(*pair)) is not None]
        if not found:
            return None, ""
        one, pair = max(found, key=lambda row: float(row[0][0]))
        return one, gained_by_size(*pair)

    def method(self, name: str) -> str | None:
        """The spelling of a method that was measured: the plain one, if it is there."""
        known = sorted({c.series.method for c in self.all if c.series.method.startswith(name)}, key=len)
        return known[0] if known else None

    def large(self, kind: str, bits: int) -> Curve | None:
        """The curve with the smallest block that is large, or with whole tensors."""
        mine = [c for c in self.all if (c.series.kind, c.series.bits, c.series.method) == (kind, bits, "nearest")]
        wide = sorted((c for c in mine if c.series.block >= LARGE), key=lambda c: c.series.block)
        return wide[0] if wide else next((c for c in mine if not c.series.block), None)


def findings(results: Iterable[Result], *, scope: str = "all", n: int = 1000, seed: int = 0) -> list[Finding]:
    """The paper's eight findings as rows.

    Parameters
    ----------
    results
        Of any models; of each size those count that saw the most tokens.
    scope
        "all" or "linear".
    n, seed
        How often items and seeds are drawn again.

    Raises
    ------
    BadInput
        `study: scope = linear, there is no result of it; name another scope`
    """
    data = _Data(list(results), scope, n, seed)
    return [_explained(make(data), data) for make in _ALL]


def _explained(found: Finding, data: _Data) -> Finding:
    """Says what is missing, where nothing or not all was measured."""
    missing = [one.what for one in found.evidence if one.estimate is None]
    if not missing or found.verdict == "not supported":
        return found
    told = f": {'; '.join(missing)}" if len(missing) < max(len(found.evidence), 2) else ""
    return replace(found, why=f"Not measured{told}. {found.why}".strip())


def tails(results: Iterable[Result]) -> dict[str, float]:
    """For each size the kurtosis of its weights: 3 for a normal distribution, more where tails are heavy."""
    found: dict[str, float] = {}
    for group in groups(longest(results)):
        values = [result.kurtosis for result in group.results if result.kurtosis > 0]
        if values:
            found.setdefault(group.size, float(np.mean(values)))
    return found


def _about_tails(data: _Data) -> str:
    known = tails(data.rows)
    if not known:
        return "The kurtosis of the weights is not known."
    said = ", ".join(f"{size} {value:.1f}" for size, value in known.items())
    return (
        f"Kurtosis of the weights: {said}; 3 is normal. On normal weights int is better than the paper's float at "
        "4 bits; it takes tails like those of Student's t to turn that round."
    )


def gained_by_size(worse: Curve | None, better: Curve | None) -> str:
    """What one series gains on another at each size that both have, whatever it costs; "" without such a size.

    It says how a difference changes with the size of models, which a mean over totals hides.
    """
    if worse is None or better is None:
        return ""
    one, other = worse.beside(better), better.beside(worse)
    before = {point.size: draws[0] for point, draws in zip(one.points, one.draws, strict=True)}
    shared = [(p.size, draws[0]) for p, draws in zip(other.points, other.draws, strict=True) if p.size in before]
    if not shared:
        return ""
    listed = ", ".join(f"{size} {sign(one.measure) * (value - before[size]):.4f}" for size, value in shared)
    return f"Gain of {other.series} over {one.series} at each size of model, whatever it costs: {listed}."


# The eight --------------------------------------------------------------------------------------


def _optimum(data: _Data) -> Finding:
    """1: four bits."""
    claim = "For the same total bits, quality improves from 16 down to 4 bits and falls at 3: 4 bits is best."
    four = data.precisions.get(4)
    evidence = []
    for bits in sorted({3, 16, *data.precisions} - {4}):
        test: Callable[..., Evidence] = clear if bits == 3 else positive
        evidence.append(test(f"4 bits better than {bits}", data.gap(data.precisions.get(bits), four)))
    rule = "4 bits beats every other width, 3 bits by more than three standard errors"
    return concluded(1, claim, evidence, rule, _about_widths(data))


def _about_widths(data: _Data) -> str:
    """Which width is best where, and what decides it: what a doubling of the model gains, and 4 bits cost."""
    usual = [c for bits, c in data.precisions.items() if 3 <= bits <= 8]
    said = []
    rows = best_precisions(usual) if len(usual) > 1 else []
    whole = [row for row in rows if not row.lacking]
    if whole:
        first, last = whole[0], whole[-1]
        begin, end = f"{first.total_bits:.2g}", f"{last.total_bits:.2g}"
        then = f"and {last.series.bits} at {end}" if begin != end else "where all are measured"
        said.append(f"The best width is {first.series.bits} at {begin} bits in all {then}.")
    plain, four = data.precisions.get(16), data.precisions.get(4)
    if plain is None or four is None or len(plain.points) < 2:
        return " ".join(said)
    (a, b), (x, y) = plain.points[-2:], plain.draws[-2:, 0]
    gain = sign(data.measure) * float(y - x) / math.log(b.total_bits / a.total_bits) * math.log(2)
    larger = f"A model of twice the size gains {gain:.3f} nats."
    if gain <= 0:
        larger = f"In 16 bits {b.size} is no better than {a.size}, the size below."
    said.append(f"{larger} {gained_by_size(four, plain)}")
    return " ".join([*said, _by_law(data, four)]).strip()


def _by_law(data: _Data, four: Curve) -> str:
    """From which size on 4 bits would be the best width, if the joint law goes on as it is."""
    s, fewer = four.series, min(data.n, LAW_DRAWS)
    law = fullest_law(data.every, s.kind, (s.block, BLOCK), method=s.method, scope=s.scope, n=fewer, seed=data.seed)
    if law is None or "bits by size" not in law.terms:
        return ""
    tokens = max(row.subject.tokens or 0 for row in data.rows) or None
    size = law.best_from(4, tokens)
    block = law.series.block
    of = f"the joint law of {law.series.kind} in {f'blocks of {block}' if block else 'whole tensors'}"
    if math.isinf(size.value):
        return f"By {of} no more than 4 bits never become the best width."
    known = f", of models trained on {tokens:,} tokens," if tokens else ""
    return (
        f"If {of} goes on as it is, 4 bits or fewer become the best width{known} at {size.value:.1e} parameters "
        f"[{size.low:.1e}, {size.high:.1e}]."
    )


def _unstable(data: _Data) -> Finding:
    """2: three bits are unstable where models are large."""
    claim = "With 3 bits the largest models (of OPT and Pythia) are close to random."
    rule = (
        f"at the largest size 3 bits keep less than {RANDOM:g} of the accuracy above chance, and less than at the next"
    )
    what = ["share of the accuracy above chance kept at the largest size", "so much more is kept at the size below"]
    kept = _kept(data)
    below, last = [None, None, *kept][-2:]
    lost = None if last is None or below is None else below - last
    evidence = [small(what[0], last, RANDOM, "share"), positive(what[1], lost, "share")]
    why = (
        f"The largest model here has {max(row.subject.n_parameters for row in data.rows):,} parameters; outlying "
        "columns, which make 3 bits unstable, come with billions."
    )
    if kept and last is None:
        why = f"In 16 bits the largest model is not surely above chance: it has nothing to keep. {why}"
    return concluded(2, claim, evidence, rule, why)


def _kept(data: _Data) -> list[Floats | None]:
    """For each size [1 + 2 n]: the share of the accuracy above chance that float in 3 bits keeps.

    None where in 16 bits it is not surely above chance.
    """
    if data.accuracy is None:
        return []
    found: list[Floats | None] = []
    plain = {g.size: g for g in data.accuracy.groups_of(bits=16) if g.series.kind == "none"}
    for group in data.accuracy.groups_of(kind="float", bits=3, block=BLOCK, method="nearest"):
        if group.series.kind == "none" or group.size not in plain:
            continue
        chance = float(np.mean(list(group.results[0].chances.values())))
        above = data.accuracy[plain[group.size]] - chance
        kept = (data.accuracy[group] - chance) / np.where(above > 0, above, np.nan)
        found.append(kept if not data.n or estimate(above).above else None)
    return found


def _wide(data: _Data) -> Finding:
    """3: from six bits on nothing matters."""
    claim = "At 6 to 8 bits no data type and no block size improves scaling."
    evidence, said = [], ""
    for bits in (6, 7, 8):
        types = [c for kind in PAPER if (c := data.curve(kind, bits, BLOCK)) is not None]
        pairs = [(worse, better) for worse in types for better in types if worse is not better]
        best, of_type = data.largest_gap(pairs)
        evidence.append(small(f"best over worst type at {bits} bits", best, NOTHING))
        finer = [
            (data.large(c.series.kind, bits), c)
            for c in data.all
            if c.series.kind in PAPER and c.series.bits == bits and 0 < c.series.block < LARGE
        ]
        most, of_block = data.largest_gap(finer)
        evidence.append(small(f"largest gain of smaller blocks at {bits} bits", most, NOTHING))
        said = said or f"{of_type} {of_block}".strip()
    rule = f"in blocks of {BLOCK} no type, and in no type a smaller block, gains {NOTHING:g} nats"
    return concluded(3, claim, evidence, rule, said)


def _blocks(data: _Data) -> Finding:
    """4: small blocks."""
    claim = "Small blocks help much at 4 bits, little but surely at 5, and considerably but not enough at 3."

    def pair(kind: str, bits: int) -> tuple[Curve | None, Curve | None]:
        return data.large(kind, bits), data.curve(kind, bits, BLOCK)

    known = {bits: [kind for kind in PAPER if None not in pair(kind, bits)] for bits in (3, 4, 5)}
    everywhere = [kind for kind in PAPER if all(kind in kinds for kinds in known.values())]
    gains = {bits: data.mean_gap(pair(kind, bits) for kind in everywhere or known[bits]) for bits in known}
    evidence = [positive(f"blocks of {BLOCK} better than large ones at {bits} bits", gains[bits]) for bits in (4, 5, 3)]
    more = None if gains[4] is None or gains[5] is None else gains[4] - gains[5]
    evidence.append(positive("so much more at 4 bits than at 5", more))
    pairs = ((data.curve(kind, 3, BLOCK), data.curve(kind, 4, BLOCK)) for kind in PAPER)
    evidence.append(positive(f"4 bits better than 3 in blocks of {BLOCK}", data.mean_gap(pairs)))
    rule = f"means over {', '.join(everywhere) or 'types'}: every gain is above 0, and that at 4 bits above that at 5"
    at_four = (gained_by_size(data.large(kind, 4), data.curve(kind, 4, BLOCK)) for kind in PAPER)
    return concluded(4, claim, evidence, rule, next((said for said in at_four if said), ""))


def _types(data: _Data) -> Finding:
    """5: which type."""
    claim = "Quantile is the best type; float is better than int, but not at 5 bits; dynamic and int are worse."
    evidence = []
    for bits in (3, 4, 5):
        of = {kind: data.curve(kind, bits, BLOCK) for kind in PAPER}
        wanted = [("quantile", "float"), ("quantile", "int"), ("quantile", "dynamic"), ("float", "dynamic")]
        wanted.append(("int", "float") if bits == 5 else ("float", "int"))
        for better, worse in wanted:
            evidence.append(positive(f"{better} better than {worse} at {bits} bits", data.gap(of[worse], of[better])))
    rule = f"in blocks of {BLOCK} every pair of types differs in the paper's direction"
    ideal, own = (data.curve("quantile", 4, BLOCK, method) for method in ("nearest", "learned+by=quantile"))
    matrix = gained_by_size(ideal, own)
    if matrix:
        matrix = f"Quantile has the levels of a normal law; learned are the quantiles of each matrix. {matrix}"
    return concluded(5, claim, evidence, rule, " ".join(filter(None, (_ranks(data), _about_tails(data), matrix))))


def _ranks(data: _Data) -> str:
    """Types at 4 bits by loss and by squared error of the weights."""
    rows = [r for r in data.rows if (r.cell.bits, r.cell.block, r.cell.method) == (4, BLOCK, "nearest")]
    rows = [r for r in rows if r.cell.kind in PAPER]
    if not rows:
        return ""

    def ranked(key: Callable[[Result], float]) -> str:
        means = {k: np.mean([key(r) for r in rows if r.cell.kind == k]) for k in {r.cell.kind for r in rows}}
        return ", ".join(sorted(means, key=lambda kind: float(means[kind])))

    return f"At 4 bits by loss: {ranked(lambda r: r.loss)}; by error of weights: {ranked(lambda r: r.weight_error)}."


def _proxy(data: _Data) -> Finding:
    """6: proxy quantization."""
    claim = "Keeping 2 % of the columns in 16 bits stabilises 3 bits; 4 bits stays better, and gains nothing."
    name = data.method("proxy")
    three, four = data.curve("float", 3, BLOCK), data.curve("float", 4, BLOCK)
    kept3 = data.curve("float", 3, BLOCK, name) if name else None
    kept4 = data.curve("float", 4, BLOCK, name) if name else None
    evidence = [
        positive("kept columns help float in 3 bits", data.gap(three, kept3)),
        positive("4 bits better than 3 bits with kept columns", data.gap(kept3, four)),
        small("gain of kept columns at 4 bits", data.gap(four, kept4), NOTHING),
    ]
    rule = f"float, blocks of {BLOCK}: a gain at 3 bits, less than 4 bits are better, and below {NOTHING:g} nats at 4"
    gained = gained_by_size(three, kept3), gained_by_size(four, kept4)
    told = "At least one column of a matrix is kept, which in small ones is more than 2 %."
    why = " ".join(filter(None, (told if kept3 or kept4 else "", *gained)))
    return concluded(6, claim, evidence, rule, why)


def _centering(data: _Data) -> Finding:
    """7: centering."""
    claim = "To centre the weights before quantizing them never improves scaling."
    evidence, pairs = [], []
    for kind in PAPER:
        for bits in (3, 4, 5):
            plain, centred = data.curve(kind, bits, BLOCK), data.curve(f"{kind}+center=tensor", bits, BLOCK)
            if plain and centred:
                pairs.append((plain, centred))
                evidence.append(small(f"gain of centering for {kind} in {bits} bits", gap(plain, centred), NOTHING))
    evidence = evidence or [small("gain of centering", None, NOTHING)]
    _, said = data.largest_gap(pairs)
    return concluded(7, claim, evidence, f"it gains less than {NOTHING:g} nats everywhere", said)


def _advice(data: _Data) -> Finding:
    """8: the recommendation."""
    claim = "Use 4 bits in blocks of at most 128, float or quantile."
    advised = [
        c
        for c in data.all
        if c.series.kind in ("float", "quantile")
        and c.series.bits == 4
        and 0 < c.series.block <= 128
        and c.series.method == "nearest"
    ]
    best = by_precision(advised)
    lost = _regret(best[0], data.precisions) if best else None
    said = f" ({best[0].series})" if best else ""
    evidence = [small(f"loss of what is advised{said} against the best width at the same total bits", lost, NOTHING)]
    why = _about_widths(data)
    return concluded(8, claim, evidence, f"what is advised is never {NOTHING:g} nats behind, on the mean", why)


def _regret(advised: Curve, precisions: Mapping[int, Curve]) -> Floats | None:
    """[1 + 2 n]: how far one curve is behind the best at the same total bits, the mean over its range.

    It counts where a wider code was measured at the same total, too; None without one.
    """
    found = []
    for total in totals([advised]):
        here = {bits: curve.at(total) for bits, curve in precisions.items() if curve.covers(total)}
        if any(4 < bits < 16 for bits in here):
            rivals = [*here.values(), advised.at(total)]
            found.append(advised.at(total) - min(rivals, key=lambda draws: float(draws[0])))
    return np.asarray(np.mean(found, axis=0)) if found else None


_ALL: tuple[Callable[[_Data], Finding], ...] = (
    _optimum,
    _unstable,
    _wide,
    _blocks,
    _types,
    _proxy,
    _centering,
    _advice,
)
