"""Sections of the report that need no comparison: types on sources, models, and how everything was made."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any

from kbit_ref.study.distortion import Distortion
from kbit_ref.study.document import Picture, Table
from kbit_ref.study.findings import tails
from kbit_ref.study.gathered import Gathered
from kbit_ref.study.groups import Series
from kbit_ref.study.kinds import BLOCK, KINDS
from kbit_ref.study.rows import Result
from kbit_ref.study.sources import SOURCES

__all__ = ["distortion_parts", "made_parts", "subjects", "tails_parts", "training_parts"]

Parts = list[Any]
ABOUT_MODELS = ("evaluation", "family", "words")  # facts that are no versions


def subjects(rows: Iterable[Result]) -> dict[str, Result]:
    """A result of each model, small models first."""
    by_name = {row.subject.name: row for row in rows}
    return dict(sorted(by_name.items(), key=lambda pair: (pair[1].subject.n_parameters, pair[0])))


def distortion_parts(g: Gathered) -> Parts:
    """Types on sources of known law."""
    at = {(row.type, row.source, row.block): row for row in g.distortion}
    lines: list[tuple[Any, ...]] = []
    for kind in KINDS.values():
        names = [(bits, kind.type.format(bits=bits, block=64)) for bits in kind.widths]
        lines += [(bits, name, *_above(at, name)) for bits, name in names]
    heads = ("bits", "type", *(f"{s}, {b}" for s in SOURCES for b in ("one scale", "blocks of 64", "at entropy")))
    every = [_whole(row) for row in g.distortion]
    numbers = ("bits a number", "at entropy", "distortion", "dB", "bound", "above", "above at entropy")
    columns = ("type", "source", "block", *numbers)
    lines = sorted(dict.fromkeys(lines), key=lambda line: line[0])
    shows = "Types in blocks of 64 on two sources, beside Shannon's bound and Lloyd-Max; what is over 4 bits above the "
    caption = "Bits above Shannon's bound: at one scale, in blocks of 64, and in those with codes at their entropy."
    all_of_them = "Every data type on every source, variance 1; block 0 is the best single scale."
    return [
        Picture("rate_distortion", shows + "bound is not shown."),
        Table(caption, heads, lines),
        Table(all_of_them, columns, every, folded=True),
    ]


def _above(at: Mapping[tuple[str, str, int], Distortion], name: str) -> list[float | None]:
    found: list[float | None] = []
    for source in SOURCES:
        one, block = at.get((name, source, 0)), at.get((name, source, BLOCK))
        found.append(None if one is None else one.above_at_width)
        found += [None, None] if block is None else [block.above_at_width, block.above_at_entropy]
    return found


def _whole(row: Distortion) -> tuple[Any, ...]:
    return (row.type, row.source, row.block, row.width, row.entropy, row.distortion, row.sqnr, row.bound,
            row.above_at_width, row.above_at_entropy)  # fmt: skip


def tails_parts(g: Gathered) -> Parts:
    """Kurtosis of the weights."""
    found = tails(g.main)
    if not found:
        return []
    text = "On normal weights evenly spaced levels beat the paper's floats; heavy tails turn the order round."
    return [text, Table("Kurtosis of weights over their rms; 3 is normal.", ("size", "kurtosis"), list(found.items()))]


def training_parts(g: Gathered) -> Parts:
    """The models, and their loss curves."""
    rows = [
        (r.subject.name, r.facts.get("family"), r.subject.n_parameters, r.subject.n_linear, r.subject.seed,
         r.subject.tokens, _last(g, name))
        for name, r in subjects(g.all).items()
    ]  # fmt: skip
    heads = ("model", "architecture", "parameters", "in linear layers", "seed", "tokens", "last training loss")
    known = [i for i, column in enumerate(zip(*rows, strict=True)) if any(cell is not None for cell in column)]
    told = Table("Models.", tuple(heads[i] for i in known), [tuple(row[i] for i in known) for row in rows])
    return [Picture("training", "Loss while the models were trained."), told]


def _last(g: Gathered, name: str) -> float | None:
    curve = g.training.get(name)
    return curve[-1][1] if curve else None


def made_parts(g: Gathered, facts: Mapping[str, str]) -> Parts:
    """All that is needed to make it again, and every cell."""
    versions: dict[str, int] = {}
    for row in g.all:
        facts = {name: value for name, value in row.facts.items() if name not in ABOUT_MODELS}
        told = ", ".join(f"{name} {value}" for name, value in sorted(facts.items()))
        versions[told] = versions.get(told, 0) + 1
    evaluations = sorted({str(row.facts.get("evaluation", "")) for row in g.all})
    digests = [(row.subject.name, row.subject.digest) for row in subjects(g.all).values()]
    said = [f"{name}: {value}" for name, value in sorted(facts.items()) if name not in ("plan", "title")]
    seconds = sum(row.seconds for row in g.all)
    first = (
        f"{len(g.all):,} cells took {seconds:,.0f} seconds of one core. Intervals: {g.n:,} draws, seed {g.seed}. "
        f"Evaluation {', '.join(evaluations)}."
    )
    plan = list(enumerate(facts.get("plan", "").splitlines(), 1))
    return [
        first,
        *said,
        Table("Versions.", ("with", "cells"), list(versions.items())),
        Table("Models: sha256 of their parameters.", ("model", "digest"), digests, folded=True),
        Table("The plan.", ("line", "text"), plan, folded=True),
        _cells(g),
    ]


def _cells(g: Gathered) -> Table:
    numbers = ("total bits", "bits a parameter", "loss", "excess", "accuracy", "error of weights")
    rows = [
        (
            *(r.cell.model, str(Series.of(r.cell)), r.scheme),
            *(r.total_bits, r.bits_per_parameter, r.loss, r.excess, r.accuracy, r.weight_error),
        )
        for r in sorted(g.all, key=lambda r: (r.subject.n_parameters, r.cell))
    ]
    return Table("Every cell.", ("model", "series", "scheme", *numbers), rows, folded=True)
