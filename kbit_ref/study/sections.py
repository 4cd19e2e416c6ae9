"""The sections of the report: each turns rows of the study into texts and tables, and names its picture."""

from __future__ import annotations

import json
import math
from collections.abc import Callable, Mapping, Sequence
from itertools import groupby
from typing import Any

from kbit_ref.errors import KbitError
from kbit_ref.study.answers import fits_parts, knowledge_parts, performance_parts
from kbit_ref.study.bootstrap import Estimate, estimate
from kbit_ref.study.choose import BITS_OF_BYTE, bytes_of
from kbit_ref.study.curves import Best, Curve, best_precisions, front, gap
from kbit_ref.study.document import Picture, Section, Table
from kbit_ref.study.evidence import NATS, VERDICTS, Finding
from kbit_ref.study.families import guessing
from kbit_ref.study.findings import findings
from kbit_ref.study.gathered import Gathered
from kbit_ref.study.groups import Series, longest
from kbit_ref.study.kinds import is_format
from kbit_ref.study.records import distortion_parts, made_parts, subjects, tails_parts, training_parts
from kbit_ref.study.rows import Result

__all__ = ["sections"]

Parts = list[Any]
ONE_SEED = "Some of these curves are of one seed a size: what is sure is so of these models; other seeds may differ."
PRECISIONS = (
    "Quality against total model bits, one line a precision; below, 4 bits and more divided by the best of them at the "
    "same total bits. Intervals of 95 %."
)
SCOPES = {
    "all": "every matrix quantized, every number counted",
    "linear": "linear layers alone quantized and counted",
}


def sections(g: Gathered, facts: Mapping[str, str], note: str = "") -> list[Section]:
    """All sections that there are rows for.

    Parameters
    ----------
    g
        The results.
    facts
        Of the results file: title, plan, evaluation.
    note
        A line for the beginning: why there are no pictures.
    """
    found = {scope: _findings(g, scope) for scope in g.scopes}
    made = [
        Section("question", "The question", [*_question(g, facts), *([note] if note else [])]),
        Section("headline", "The answer", _tried(lambda: _headline(g, found))),
        Section("findings", "The paper's eight findings", _tried(lambda: _findings_parts(g, found))),
        Section("curves", "Total bits against quality", _tried(lambda: _curves(g))),
        Section("types", "Data types", _tried(lambda: _types(g))),
        Section("blocks", "Block sizes", _tried(lambda: _blocks(g))),
        Section("methods", "Methods", _tried(lambda: _methods(g))),
        Section("formats", "Formats, and weights with activations", _tried(lambda: _formats(g))),
        Section("aware", "Training for few bits", _aware(g)),
        Section("performance", "Performance = f(k)", _tried(lambda: performance_parts(g))),
        Section("knowledge", "Knowledge stored a bit", _tried(lambda: knowledge_parts(g))),
        Section("fits", "Fits and their residuals", _tried(lambda: fits_parts(g))),
        Section("distortion", "Rate and distortion", distortion_parts(g)),
        Section("tails", "Weights: how heavy are their tails?", tails_parts(g)),
        Section("training", "How the models were trained" if g.training else "Models", training_parts(g)),
        Section("made", "How it was made", made_parts(g, facts)),
    ]
    return [section for section in made if section.parts]


def _tried(make: Callable[[], Parts]) -> Parts:
    """A section's parts; what the data do not allow is told in its place."""
    try:
        return make()
    except KbitError as error:
        return [f"Not possible with these results: {error}"]


# Beginning ----------------------------------------------------------------------------------------


def _question(g: Gathered, facts: Mapping[str, str]) -> Parts:
    sizes = [row.subject.n_parameters for row in subjects(g.all).values()]
    return [
        "For a fixed number of total model bits: how many parameters, at how many bits each? The question and the "
        "findings held against these data are those of Dettmers and Zettlemoyer, The case for 4-bit precision "
        "(arXiv 2212.09720).",
        f"{len(g.all):,} cells were measured on {len(sizes):,} models of {min(sizes):,} to {max(sizes):,} parameters. "
        "A cell is a model in so many bits of some data type, block size and method. Total bits count everything: "
        "codes, scales, what a method stores besides, and 16 for each number that stays as it is. Intervals, in "
        "brackets, are of 95 %: evaluation items are drawn again, and seeds vary as they were seen to. Where a size "
        "was measured with one seed, how seeds vary is not known: its interval is of the items alone, and too narrow.",
        _judged(g.all[0], facts),
        *filter(None, [guessing(g.all)]),
    ]


def _judged(row: Result, facts: Mapping[str, str]) -> str:
    """On what all models were judged."""
    text = json.loads(facts.get("evaluation", "{}")).get("text")
    said = f"Models were judged on {sum(map(len, row.nats.values())):,} windows"
    said += f" of {text}" if text else " of the world that our own models live in" if row.floors else ""
    n_questions = sum(map(len, row.right.values()))
    return f"{said} and {n_questions:,} multiple choices." if n_questions else f"{said}."


def _headline(g: Gathered, found: Mapping[str, Sequence[Finding]]) -> Parts:
    parts: Parts = []
    best = best_precisions(g.precisions)
    everywhere = [row for row in best if not row.lacking]
    for bits, group in groupby(everywhere, key=lambda row: row.series.bits if row.certain else 0):
        run = list(group)
        span = f"At totals from {_memory(run[0])} to {_memory(run[-1])}" if len(run) > 1 else f"At {_memory(run[0])}"
        known = "; ".join(dict.fromkeys(str(row.series) for row in run))
        parts.append(f"{span} {f'{bits} bits are' if bits else 'no width is surely'} best ({known}).")
    if 0 < len(everywhere) < len(best):
        parts.append("At smaller and larger totals some width has no model, and no width is called the best.")
    if any(point.n_seeds == 1 for curve in g.precisions for point in curve.points):
        parts.append(ONE_SEED)
    gained: dict[str, dict[str, Estimate]] = {}
    for scope, rows in found.items():
        for one in rows[0].evidence if rows else ():
            if one.estimate is not None:
                gained.setdefault(one.what, {})[scope] = one.estimate
    if gained:
        heads = ("", *(SCOPES[scope] for scope in found))
        lines = [(what, *(of.get(scope) for scope in found)) for what, of in gained.items()]
        parts.append(Table(f"At the same total bits, by so many {NATS} (negative: worse).", heads, lines))
    for scope, rows in found.items():
        counts = ", ".join(f"{sum(row.verdict == v for row in rows)} {v}" for v in VERDICTS)
        parts.append(f"Of the paper's eight findings, with {SCOPES[scope]}: {counts}.")
    return [*parts, Picture("precisions", PRECISIONS)]


def _memory(row: Best) -> str:
    return f"{row.total_bits:.3g} bits ({bytes_of(row.total_bits / BITS_OF_BYTE)})"


def _findings(g: Gathered, scope: str) -> list[Finding]:
    try:
        return findings(g.rows, scope=scope, n=g.n, seed=g.seed)
    except KbitError:
        return []


def _findings_parts(g: Gathered, found: Mapping[str, Sequence[Finding]]) -> Parts:
    sizes = [row.subject.n_parameters for row in g.rows]
    parts: Parts = [
        f"The paper's models have 19 million to 176 billion parameters, these {min(sizes):,} to {max(sizes):,}. A "
        "finding is supported if all its evidence is for it, and not supported if any is against it; rules stand "
        "beside the evidence."
    ]
    heads: tuple[str, ...]
    for scope, rows in found.items():
        heads = ("", "claim", "verdict", "the number that decides", "value", "unit", "standard errors from its limit")
        parts.append(Table(f"With {SCOPES[scope]}.", heads, [_finding(row) for row in rows]))
        reasons = [(row.number, row.why) for row in rows if row.why and row.verdict != VERDICTS[0]]
        if reasons:
            caption = "Where these data differ from the paper or cannot tell, and what is known of why."
            parts.append(Table(caption, ("", "why"), reasons))
        heads = ("", "evidence", "value", "unit", "says", "rule")
        evidence = [
            (row.number, one.what, one.estimate, one.unit, one.says, one.rule)
            for row in rows
            for one in row.evidence
            if one.estimate is not None
        ]
        parts.append(Table(f"All evidence, with {SCOPES[scope]}.", heads, evidence, folded=True))
    return parts


def _finding(row: Finding) -> tuple[Any, ...]:
    one = row.deciding
    if one is None:
        return row.number, row.claim, row.verdict, "", None, "", None
    strength = one.strength if one.estimate is not None and math.isfinite(one.strength) else None
    return row.number, row.claim, row.verdict, one.what, one.estimate, one.unit, strength


# Curves -------------------------------------------------------------------------------------------


def _curves(g: Gathered) -> Parts:
    accuracy = {(c.series, p.size): p.quality for c in g.accuracies for p in c.points}
    heads: tuple[str, ...]
    heads = ("bits", "series", "size", "parameters", "total bits", "bits a parameter", "models", g.unit, "accuracy")
    rows = [
        (c.series.bits, str(c.series), p.size, p.n_parameters, round(p.total_bits), p.bits_per_parameter, p.n_seeds,
         p.quality, accuracy.get((c.series, p.size)))
        for c in g.precisions
        for p in c.points
    ]  # fmt: skip
    best = best_precisions(g.precisions)
    parts: Parts = [
        Table("For each width the best of the paper's types, whose curve is drawn.", heads, rows),
    ]
    if best:
        heads = ("total bits", "best", g.unit, "next", "margin", "certain", "the next needs times", "not reached")
        parts.append(Table("The best width at totals in between, interpolated.", heads, [_best(row) for row in best]))
    worth = [(str(s), p.size, round(p.total_bits), p.quality) for s, p in front(g.curves)]
    heads = ("series", "size", "total bits", g.unit)
    parts.append(Table("What is worth storing: no other cell is as small and as good.", heads, worth, folded=True))
    return parts


def _best(row: Best) -> tuple[Any, ...]:
    lacking = ", ".join(f"{bits} bits" for bits in row.lacking)
    certain = "yes" if row.certain else "no"
    return (round(row.total_bits), str(row.series), row.quality, str(row.runner_up or ""), row.margin, certain,
            row.factor if math.isfinite(row.factor.value) else "never", lacking)  # fmt: skip


def _by_size(found: Sequence[Curve]) -> tuple[tuple[str, ...], Callable[[Curve], list[Any]]]:
    """The sizes of some curves, and a row of their qualities."""
    sizes = {p.size: p.n_parameters for c in found for p in c.points}
    order = tuple(sorted(sizes, key=lambda size: (sizes[size], size)))

    def row(curve: Curve) -> list[Any]:
        at = {p.size: p.quality for p in curve.points}
        return [at.get(size) for size in order]

    return order, row


def _types(g: Gathered) -> Parts:
    flat = [curve for found in g.kinds.values() for curve in found]
    if not flat:
        return []
    sizes, row = _by_size(flat)
    where = f"in blocks of {g.block}" if g.block else "of whole tensors"
    return [
        Picture("kinds", f"Data types {where}, divided by the best of their width at the same total bits; 95 %."),
        Table(
            f"Data types {where}: {g.unit}, for each size of model.",
            ("bits", "type", *sizes),
            [(curve.series.bits, curve.series.kind, *row(curve)) for curve in flat],
        ),
    ]


def _blocks(g: Gathered) -> Parts:
    flat = [curve for found in g.blocks.values() for curve in found]
    if not flat:
        return []
    sizes, row = _by_size(flat)
    rows = []
    for found in g.blocks.values():
        wide = max(found, key=lambda curve: curve.series.block or 10**9)
        for curve in sorted(found, key=lambda curve: curve.series.block or 10**9):
            gained = None if curve is wide else gap(wide, curve)
            shown = None if gained is None else estimate(gained)
            name = curve.series.block or "tensor"
            rows.append((curve.series.bits, str(name), *row(curve), shown))
    return [
        Picture("blocks", f"Block sizes of {g.kind}, a panel for each width; scales are counted."),
        Table(
            f"Block sizes of {g.kind}: {g.unit}, for each size of model; the gain is that over the largest block at "
            "the same total bits.",
            ("bits", "block", *sizes, "gain"),
            rows,
        ),
    ]


# Beyond the paper ---------------------------------------------------------------------------------


def _methods(g: Gathered) -> Parts:
    if not g.methods:
        return []
    sizes, row = _by_size([curve for _, curve in g.methods])
    rows = []
    for plain, curve in g.methods:
        gained = gap(plain, curve)
        s = curve.series
        of = (s.kind, s.bits, str(s.block or "tensor"), s.method)
        rows.append((*of, *row(curve), None if gained is None else estimate(gained)))
    caption = (
        f"Methods: {g.unit}, for each size of model; the gain is that over the nearest level at the same total bits."
    )
    rows.sort(key=lambda row: tuple(row[:4]))
    return [Table(caption, ("type", "bits", "block", "method", *sizes, "gain"), rows)]


def _formats(g: Gathered) -> Parts:
    parts: Parts = []
    formats = [curve for curve in g.curves if is_format(curve.series.kind)]
    if formats:
        sizes, row = _by_size(formats)
        rows = [(str(c.series), _mean_bits(c), *row(c)) for c in formats]
        heads = ("format", "bits a parameter", *sizes)
        parts.append(Table(f"Formats as libraries store them: {g.unit}.", heads, rows))
    rounded = [curve for curve in g.every if curve.series.activations]
    if rounded:
        sizes, row = _by_size(rounded)
        plain = {c.series: c for c in g.curves}
        rows = []
        for curve in rounded:
            s = curve.series
            twin = plain.get(Series(s.kind, s.bits, s.block, s.method, s.scope))
            lost = None if twin is None else gap(curve, twin)
            bare = Series(s.kind, s.bits, s.block, s.method, s.scope)
            rows.append((str(bare), s.activations, *row(curve), None if lost is None else estimate(lost)))
        heads = ("weights", "activations", *sizes, "lost to activations")
        parts.append(Table(f"The other factor of every product rounded as well: {g.unit}.", heads, rows))
    return parts


def _mean_bits(curve: Curve) -> float:
    return sum(p.bits_per_parameter for p in curve.points) / len(curve.points)


def _aware(g: Gathered) -> Parts:
    """Models that were trained for a scheme, beside the same scheme after ordinary training."""
    if not g.aware:
        return []
    after = {(r.subject.size, r.subject.seed, Series.of(r.cell)): r for r in longest(g.rows)}
    own: list[tuple[Any, ...]] = []
    others: list[tuple[Any, ...]] = []
    for row in sorted(g.aware, key=lambda r: (r.subject.n_parameters, r.cell)):
        size, _, trained = row.subject.size.partition("-")
        known = (after.get((size, row.subject.seed, s)) for s in (Series.of(row.cell), Series(scope=row.cell.scope)))
        heights = [None if r is None else _height(r) for r in (row, *known)]
        line = (size, trained, str(Series.of(row.cell)), row.total_bits, *heights, row.accuracy)
        (own if row.scheme.partition("+")[0] == trained else others).append(line)
    numbers = ("total bits", g.unit, "without such training", "in 16 bits", "accuracy")
    heads = ("size", "trained for", "measured in", *numbers)
    return [
        Table("Models trained with their weights quantized, in the scheme that they were trained for.", heads, own),
        Table("The same models in other types and widths.", heads, others, folded=True),
    ]


def _height(row: Result) -> float:
    return row.loss if row.excess is None else row.excess
