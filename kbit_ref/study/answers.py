"""Sections of the report that answer with a function: of k, of bits of knowledge, and the joint law."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from kbit_ref.study.curves import best_precisions
from kbit_ref.study.document import Picture, Table
from kbit_ref.study.findings import PAPER
from kbit_ref.study.gathered import Gathered
from kbit_ref.study.groups import Series
from kbit_ref.study.knowledge import knowledge
from kbit_ref.study.law import KUMAR, LAW_DRAWS, Law, members
from kbit_ref.study.performance import Answer, at_fixed_bits, at_fixed_size

__all__ = ["fits_parts", "knowledge_parts", "performance_parts"]

Parts = list[Any]


def performance_parts(g: Gathered) -> Parts:
    """Does more k always help? With the size fixed, and with the total fixed."""
    kind, block = _most_told(g)
    rows = g.main
    of_size = at_fixed_size(rows, kind, block, g.measure, n=g.n, seed=g.seed, scope=g.scopes[0])
    best = best_precisions(g.precisions)
    whole = [row.total_bits for row in best if not row.lacking] or [row.total_bits for row in best]
    totals = whole[:: max(1, len(whole) // 4)]
    paper = [row for row in rows if row.cell.kind in (*PAPER, "none")]
    of_total = at_fixed_bits(paper, totals, measure=g.measure, n=g.n, seed=g.seed, scope=g.scopes[0])
    parts: Parts = [Picture("performance", "Quality against k for each size of model; intervals of 95 %.")]
    parts.append("Does more k always help? With the size fixed, every bit more makes the same model larger.")
    parts += [answer.told for answer in of_size]
    parts.append(_steps(f"Size fixed, {kind} in blocks of {block}, in {g.unit}.", of_size, "size"))
    if of_total:
        parts.append(
            "With the total fixed, every bit more is paid for with parameters, and parameters are the price in time: a "
            "token takes about 6 operations for each in training, and 2 in inference."
        )
        parts += [answer.told for answer in of_total]
        parts.append(_steps(f"Total fixed, the best of the paper's types, in {g.unit}.", of_total, "total bits"))
    return parts


def _most_told(g: Gathered) -> tuple[str, int]:
    """The type and block that are there in most widths; of those the type that is best at 4 bits."""
    widths = _widths(g)
    four = next((c.series.kind for c in g.precisions if c.series.bits == 4), g.kind)
    return max(widths, key=lambda key: (len(widths[key]), key[0] == four, key == (g.kind, g.block)),
               default=(g.kind, g.block))  # fmt: skip


def _steps(caption: str, answers: Sequence[Answer], first: str) -> Table:
    prices = ("total bits", "then", "parameters", "then", "seconds a cell", "then")
    heads = (first, "from", "to", "quality", "gain", "verdict", *prices)
    rows = [
        (a.size or round(a.total_bits), s.bits, s.next_bits, s.quality, s.gain, s.verdict, round(s.total_bits),
         round(s.next_total_bits), round(s.n_parameters), round(s.next_n_parameters), s.seconds or None,
         s.next_seconds or None)
        for a in answers
        for s in a.steps
    ]  # fmt: skip
    return Table(caption, heads, rows)


def knowledge_parts(g: Gathered) -> Parts:
    """Bits of facts in each bit of a model."""
    chosen = {curve.series for curve in g.precisions}
    rows = [row for row in g.main if Series.of(row.cell) in chosen]
    if not any("ask" in row.nats for row in rows):
        return []
    found = knowledge(rows, n=g.n, seed=g.seed)
    sizes = list(dict.fromkeys(k.size for k in found))
    found.sort(key=lambda k: (sizes.index(k.size), k.series.bits))
    heads = ("size", "series", "total bits", "share of what is asked", "facts", "bits a bit", "share by choices")
    cells = [
        (k.size, str(k.series), round(k.total_bits), k.share, k.facts, k.bits_per_bit, k.share_by_choices)
        for k in found
    ]
    return [
        "A fact of the world is 8 bits and is nowhere but in the weights. So much, at least, the models know: by the "
        "loss, which says nothing of a model that is sure of what is wrong, and by the choices between four objects "
        "(Fano's inequality), which tell of 2 of the 8 bits at most.",
        Table("Knowledge by size and width: shares of the bits that are asked for, all of them lower bounds.", heads,
              cells),
    ]  # fmt: skip


def fits_parts(g: Gathered) -> Parts:
    """The joint law, what each of its terms gains, and its residuals."""
    if g.measure == "loss":
        return [
            "The joint law is of the loss above the least possible one. That is known in the world which our own "
            "models live in; of a text nobody knows it, and no law is fitted here."
        ]
    rows = [row for row in g.rows if not row.cell.activations]
    laws = members(rows, *_fitted_kind(g), scope=g.scopes[0], n=min(g.n, LAW_DRAWS), seed=g.seed)
    full = laws[-1]
    names = list(full.constants)
    constants = [(name, full.constants[name], full.constants[name].error, float(KUMAR[name])) for name in names]
    residuals = [
        (r.size, r.n_parameters, r.tokens, r.bits, r.excess, r.fitted, r.log_ratio)
        for r in sorted(full.residuals, key=lambda r: (r.n_parameters, r.tokens or 0, r.bits))
    ]
    heads = ("size", "parameters", "tokens", "bits", "measured", "fitted", "log(measured / fitted)")
    return [
        "Excess = A N^-a + B D^-b + C D^gD N^-gN exp(-k / g), for N parameters, D tokens, k bits; "
        f"here for {full.series.kind} in blocks of {full.series.block}. Left out: "
        + ("; ".join(full.left_out) or "nothing") + ".",
        Table("Constants of the law; beside them Kumar et al.'s, of other models.",
              ("constant", "value", "standard error", "Kumar et al."), constants),
        Table("What each term gains.", ("terms", "rms of log residuals", "R squared"), [_gain(law) for law in laws]),
        Table("Residuals.", heads, residuals, folded=True),
    ]  # fmt: skip


def _gain(law: Law) -> tuple[Any, ...]:
    return ", ".join(law.terms), law.rms, law.explained


def _fitted_kind(g: Gathered) -> tuple[str, int]:
    """The law is fitted to integers if they are there in three widths, else to what is there in most."""
    widths = _widths(g)
    return max(widths, key=lambda key: (len(widths[key]), key == ("int", g.block)), default=("int", g.block))


def _widths(g: Gathered) -> dict[tuple[str, int], set[int]]:
    """For each type and block its widths."""
    found: dict[tuple[str, int], set[int]] = {}
    for curve in g.nearest:
        if curve.series.kind != "none":
            found.setdefault((curve.series.kind, curve.series.block), set()).add(curve.series.bits)
    return found
