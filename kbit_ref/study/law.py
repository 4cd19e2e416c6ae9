"""The joint law of size, tokens and bits, as far as the data identify it.

    L(N, D, k) = E + A N^-a + B D^-b  +  C D^gD N^-gN exp(-k / g)
                 floor   excess of 16 bits   damage of k bits

N parameters, D tokens of training, k bits of a code. E is the known floor of the texts, so `excess` L - E is fitted
and E is not. (Kumar et al. write C_T exp(b) for C: the two are one number, whatever the data.) The damage of a
model is fitted on top of its own excess in 16 bits: what its seed was lucky in cancels, and the excess and the
damage are two small problems, each of least squares in logarithms.

An exponent of D needs three numbers of tokens, one of N three sizes, g three widths; what is lacking is left out,
and the law says so. Intervals tell of chance in the measurement; whether the law is right, residuals tell.

Source: Kumar et al., Scaling Laws for Precision, arXiv 2411.04330.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import lru_cache
from itertools import product
from typing import Any

import numpy as np
from numpy.typing import NDArray

from kbit_ref.errors import BadInput, UnknownName, message
from kbit_ref.study.bootstrap import Draws, Estimate, estimate
from kbit_ref.study.families import one_family
from kbit_ref.study.groups import Series, is_aware, matches
from kbit_ref.study.kinds import scheme_of
from kbit_ref.study.rows import Result
from kbit_ref.tensors.quantize import quantize

__all__ = ["KUMAR", "LAW_DRAWS", "TERMS", "Law", "Residual", "fit_law", "fullest_law", "members"]

Floats = NDArray[np.float64]
FEWEST, MOST = np.log(1e3), np.log(1e15)  # total bits between which the best width is looked for
LAW_DRAWS = 100  # of an interval: a fit costs more than a mean
LEAST = 3  # different values that an exponent needs
CAP = 1.0  # nats: what is damaged more is no longer on the exponential, its loss nears that of guessing
ILL = 300  # condition of the problem from which its constants are not told apart: small errors become large ones
TIED = 0.99  # correlation of log N and log D from which the one stands for the other
TERMS = {  # in the order in which they are added; constants of each
    "size": ("A", "a"),
    "tokens": ("B", "b"),
    "bits": ("C", "g"),
    "bits by size": ("gN",),
    "bits by tokens": ("gD",),
}
KUMAR = {  # table 2 for integers in GPTQ; C is C_T exp(b)
    "A": 4.299e3,
    "a": 0.4965,
    "B": 1.806e4,
    "b": 0.4965,
    "C": 0.0598 * np.exp(1.1277),
    "g": 0.5907,
    "gN": 0.3439,
    "gD": 0.5068,
}


@dataclass(frozen=True)
class Residual:
    """A cell beside the law.

    Parameters
    ----------
    size, n_parameters, tokens, bits
        Which one.
    excess
        Measured, nats a token.
    fitted
        By the law.
    """

    size: str
    n_parameters: int
    tokens: int | None
    bits: int
    excess: float
    fitted: float

    @property
    def log_ratio(self) -> float:
        """log(measured / fitted): 0.1 is ten percent."""
        return float(np.log(self.excess / self.fitted))


@dataclass(frozen=True, eq=False)
class Law:
    """A fitted law.

    Parameters
    ----------
    series
        Which kind, block, method and scope the widths are of (its `bits` mean nothing).
    terms
        Those of `TERMS` that it has.
    constants
        By name, with intervals.
    residuals
        A row a cell.
    left_out
        What is not in it and why, in words.
    draws
        [1 + 2 n] of each constant; those of one draw belong together.
    """

    series: Series
    terms: tuple[str, ...]
    constants: Mapping[str, Estimate]
    residuals: tuple[Residual, ...]
    left_out: tuple[str, ...]
    draws: Mapping[str, Floats]

    def excess(self, n_parameters: float, bits: float = 16, tokens: float | None = None, draw: int = 0) -> float:
        """Nats above the floor; 16 bits do no damage. Draw 0 is the law as it was fitted.

        Raises
        ------
        BadInput
            `law: tokens = None, the law depends on them; give some`
        """
        if tokens is None and ("tokens" in self.terms or "bits by tokens" in self.terms):
            raise BadInput(message("law", "tokens = None", "the law depends on them", "give some"))
        value = {name: float(of[draw]) for name, of in self.draws.items()}
        n, d = float(n_parameters), float(tokens or 1)
        base = value["A"] * n ** -value["a"] + value.get("B", 0.0) * d ** -value.get("b", 0.0)
        if bits >= 16 or "bits" not in self.terms:
            return float(base)
        by_size = d ** value.get("gD", 0.0) * n ** -value.get("gN", 0.0)
        return float(base + value["C"] * by_size * np.exp(-bits / value["g"]))

    def best(self, total_bits: float, tokens: float | None = None, draw: int = 0) -> tuple[int, float, float]:
        """Width, parameters and excess of the best model of so many total bits; what its blocks store is counted.

        Only widths that are in the residuals are tried.
        """
        widths = sorted({row.bits for row in self.residuals if row.bits < 16})
        sizes = [total_bits / (bits + _of_blocks(self.series, bits)) for bits in widths]
        tried = [(self.excess(n, bits, tokens, draw), bits, n) for bits, n in zip(widths, sizes, strict=True)]
        excess, bits, n = min(tried)
        return bits, n, excess

    def best_from(self, bits: int, tokens: float | None = None) -> Estimate:
        """How many parameters a model has from which on no more than `bits` are best for the same total.

        The law goes on as it is, also where nothing was measured; infinite where that is never so.
        """
        return estimate(np.array([self._best_from(bits, tokens, j) for j in range(len(self.draws["A"]))]))

    def _best_from(self, bits: int, tokens: float | None, draw: int) -> float:
        """By halving the logarithm of total bits; the best width falls with them."""
        low, high = FEWEST, MOST
        if self.best(np.exp(high), tokens, draw)[0] > bits:
            return float("inf")
        while high - low > 0.01:
            middle = (low + high) / 2
            low, high = (low, middle) if self.best(np.exp(middle), tokens, draw)[0] <= bits else (middle, high)
        return self.best(np.exp(high), tokens, draw)[1]

    @property
    def rms(self) -> float:
        """Root mean square of the logarithms of measured over fitted."""
        return float(np.sqrt(np.mean([row.log_ratio**2 for row in self.residuals])))

    @property
    def explained(self) -> float:
        """The share of the variance of log(excess) that the law explains: R squared."""
        logs = np.log([row.excess for row in self.residuals])
        spread = float(np.mean((logs - logs.mean()) ** 2))
        return 1 - self.rms**2 / spread if spread > 0 else 1.0


@lru_cache(maxsize=256)
def _of_blocks(series: Series, bits: int) -> float:
    """Bits a parameter of what a block stores besides its codes: a scale, and offsets or zero points where it has some.

    Examples
    --------
    >>> [_of_blocks(Series(kind, block=64), 4) for kind in ("int", "affine", "hqq")]
    [0.25, 0.5, 0.75]
    """
    if not series.block:
        return 0.0
    one = quantize(np.ones((1, series.block), np.float32), scheme_of(series.kind, bits, series.block))
    return one.bits_per_parameter - 8 * one.packed.size / series.block


@dataclass(frozen=True, eq=False)
class _Data:
    """The same cells as arrays: models [m] in 16 bits, and cells [c] of them in fewer."""

    n: Floats  # [m] log N, mean 0
    d: Floats  # [m] log D, mean 0
    base: Floats  # [m, 1 + 2 n_draws] excess in 16 bits
    model: NDArray[np.intp]  # [c]
    bits: Floats  # [c]
    excess: Floats  # [c, 1 + 2 n_draws]
    names: tuple[tuple[str, int, int | None], ...]  # [m] size, N, tokens
    centre: tuple[float, float]  # what was taken from log N and log D
    left_out: tuple[str, ...]


def fit_law(
    results: Iterable[Result],
    kind: str,
    block: int,
    *,
    method: str = "nearest",
    scope: str = "all",
    terms: Sequence[str] | None = None,
    n: int = 100,
    seed: int = 0,
) -> Law:
    """Fit the law to one kind of type in all its widths.

    Parameters
    ----------
    results
        Of any cells; those of the kind, block, method and scope are used, and the models as they are. Models that
        were trained for a scheme obey another law, and are left out.
    kind, block, method, scope
        See `Series`.
    terms
        Of `TERMS`; by default all that the data identify. "size" is always one.
    n, seed
        How often items and seeds are drawn again.

    Raises
    ------
    BadInput
        `law: 2 sizes, an exponent of the size needs three; measure more models`
    """
    for term in terms or ():
        if term not in TERMS:
            raise UnknownName.among("law", "term", term, TERMS, f"terms are {', '.join(TERMS)}")
    series = Series(kind, 0, block, method, scope)
    fixed = {"kind": kind, "block": block, "method": method, "scope": scope, "activations": ""}
    rows = [r for r in results if matches(Series.of(r.cell), **fixed) and not is_aware(r)]
    data = _data(rows, n, seed)
    wanted, left_out = _within(data, terms)
    while isinstance(found := _solved(data, wanted), str):  # the name of a term that is not identified
        if found == "size":
            rule = "the constants are not told apart"
            raise BadInput(message("law", f"{len(data.names)} models", rule, "measure more sizes"))
        wanted.remove(found)
        left_out.append(f"{found}: the data do not tell its constants from the others")
    constants = {name: estimate(draws) for name, draws in found.items()}
    bare = Law(series, tuple(wanted), constants, (), (*data.left_out, *left_out), found)
    return replace(bare, residuals=tuple(_residuals(data, bare)))


def fullest_law(results: Iterable[Result], kind: str, blocks: Iterable[int], **more: Any) -> Law | None:
    """Of a type's laws, one for each block, that of the most terms; None if none can be fitted.

    Where few cells were measured a law lacks the terms of the tokens, and takes what they do for what the size does.
    """
    rows, found = list(results), []
    for block in dict.fromkeys(blocks):
        try:
            found.append(fit_law(rows, kind, block, **more))
        except BadInput:
            continue
    return max(found, key=lambda law: len(law.terms), default=None)


def members(results: Iterable[Result], kind: str, block: int, **more: Any) -> list[Law]:
    """The law and its simpler members, simplest first: what each term gains is seen in `rms`."""
    rows = list(results)
    full = fit_law(rows, kind, block, **more)
    found = [fit_law(rows, kind, block, terms=full.terms[: i + 1], **more) for i in range(len(full.terms) - 1)]
    return [*found, full]


def _data(rows: list[Result], n: int, seed: int) -> _Data:
    if not rows or any(row.excess is None for row in rows):
        rule = "there are none whose floor is known" if rows else "there are none of this kind"
        raise BadInput(message("law", f"{len(rows)} results", rule, "measure some on the world"))
    one_family(rows)
    draws = Draws(rows, "excess", n, seed)
    plain = {group.key[:2]: group for group in draws.groups if group.series.kind == "none"}
    models = list(plain)
    cells = [g for g in draws.groups if g.series.kind != "none" and g.key[:2] in plain]
    heavy = [g for g in cells if draws[g][0] - draws[plain[g.key[:2]]][0] > CAP]
    below = [g for g in cells if draws[g][0] <= 0]
    cells = [g for g in cells if g not in heavy and g not in below]
    said = [f"{len(heavy)} cells that lose more than {CAP:g} nats to few bits"] if heavy else []
    said += [f"{len(below)} cells whose excess is not above zero"] if below else []
    if len({plain[key].n_parameters for key in models}) < LEAST:
        got = f"{len({plain[key].n_parameters for key in models})} sizes in 16 bits"
        raise BadInput(message("law", got, "an exponent of the size needs three", "measure more models"))
    if any(draws[plain[key]][0] <= 0 for key in models):
        raise BadInput(message("law", "an excess", "it is not above zero and has no logarithm", "use more windows"))
    log_n = np.log([plain[key].n_parameters for key in models])
    log_d = np.log([max(key[1], 1) for key in models])
    return _Data(
        log_n - log_n.mean(),
        log_d - log_d.mean(),
        np.stack([draws[plain[key]] for key in models]),
        np.array([models.index(g.key[:2]) for g in cells], np.intp),
        np.array([g.series.bits for g in cells], float),
        np.stack([draws[g] for g in cells]) if cells else np.empty((0, 1 + 2 * n)),
        tuple((plain[key].size, plain[key].n_parameters, plain[key].tokens) for key in models),
        (float(log_n.mean()), float(log_d.mean())),
        tuple(said),
    )


def _within(data: _Data, terms: Sequence[str] | None) -> tuple[list[str], list[str]]:
    """The terms that there are enough different values for, and what is left out."""
    n_tokens = len({tokens for _, _, tokens in data.names if tokens})
    known = all(tokens for _, _, tokens in data.names)
    of_cells = [data.names[i] for i in data.model]
    counts = {
        "size": (LEAST, "sizes"),
        "tokens": (n_tokens if known else 0, "numbers of tokens"),
        "bits": (len(set(data.bits)), "widths"),
        "bits by size": (len({name[1] for name in of_cells}), "sizes"),
        "bits by tokens": (len({name[2] for name in of_cells}) if known else 0, "numbers of tokens"),
    }
    kept, said = [], []
    for term in TERMS:
        count, what = counts[term]
        if term.startswith("bits") and term != "bits" and "bits" not in kept:
            continue
        if terms is not None and term not in terms and term != "size":
            continue
        if count < LEAST:
            said.append(f"{term}: {count} {what}, {LEAST} are needed")
        elif term.endswith("tokens") and _tied(data):
            said.append(f"{term}: they grow with the size, and cannot be told from it")
        else:
            kept.append(term)
    return kept, said


def _tied(data: _Data) -> bool:
    """Do tokens go with the size, as where every model has 20 a parameter?"""
    spread = np.std(data.n) * np.std(data.d)
    return bool(abs(np.mean(data.n * data.d)) > TIED * spread > 0)


def _solved(data: _Data, terms: Sequence[str]) -> dict[str, Floats] | str:
    """The draws of every constant; or the name of a term whose constants are not told apart."""
    n_draws = data.base.shape[1]
    tokens, by_size, by_tokens = (t in terms for t in ("tokens", "bits by size", "bits by tokens"))
    starts = product((-1.0,), (0.3, 1.0), (-1.0, -4.0), (0.3, 1.0)) if tokens else product((-1.0,), (0.3, 1.0))
    base = _fitted(lambda p, j: _log_base(p, data) - np.log(np.maximum(data.base[:, j], 1e-12)), starts, n_draws)
    if base is None:
        return "tokens" if tokens else "size"
    found = {
        "A": np.exp(base[0] + base[1] * data.centre[0]),
        "a": base[1],
    }
    if tokens:
        found |= {"B": np.exp(base[2] + base[3] * data.centre[1]), "b": base[3]}
    if "bits" not in terms:
        return found

    def misfit(p: Floats, j: int) -> Floats:
        fitted = np.maximum(data.base[data.model, j], 1e-12) + np.exp(_log_damage(p, data, by_size, by_tokens))
        return np.asarray(np.log(fitted / np.maximum(data.excess[:, j], 1e-12)))

    rest = [(0.0, 0.5)] * by_size + [(0.0, 0.5)] * by_tokens
    damage = _fitted(misfit, product((1.0, 4.0), (-0.5, 0.3), *rest), n_draws)
    if damage is None:
        return "bits by tokens" if by_tokens else "bits by size" if by_size else "bits"
    found["g"] = np.exp(damage[1])
    log_c = damage[0]
    if by_size:
        found["gN"] = damage[2]
        log_c = log_c + damage[2] * data.centre[0]
    if by_tokens:
        found["gD"] = damage[-1]
        log_c = log_c - damage[-1] * data.centre[1]
    found["C"] = np.exp(log_c)
    return {name: found[name] for term in terms for name in TERMS[term]}


def _log_base(p: Floats, data: _Data) -> Floats:
    """log(A N^-a + B D^-b) of each model; p = log A, a, and log B, b."""
    of_size: Floats = p[0] - p[1] * data.n
    if len(p) == 2:
        return of_size
    return np.asarray(np.logaddexp(of_size, p[2] - p[3] * data.d))


def _log_damage(p: Floats, data: _Data, by_size: bool, by_tokens: bool) -> Floats:
    """log(C D^gD N^-gN exp(-k / g)) of each cell; p = log C, log g, and gN, gD."""
    found: Floats = p[0] - data.bits * np.exp(-np.clip(p[1], -5, 5))
    if by_size:
        found = found - p[2] * data.n[data.model]
    if by_tokens:
        found = found + p[-1] * data.d[data.model]
    return np.asarray(np.minimum(found, 50.0))  # no overflow on the way


def _fitted(
    misfit: Callable[[Floats, int], Floats], starts: Iterable[tuple[float, ...]], n_draws: int
) -> Floats | None:
    """[n_constants, n_draws]: least squares from the best of several starts; None where it is not identified."""
    from scipy.optimize import least_squares

    tried = [least_squares(misfit, start, args=(0,), x_scale="jac", max_nfev=400) for start in starts]
    best = min(tried, key=lambda one: float(one.cost))
    scale = np.linalg.norm(best.jac, axis=0)
    if len(best.fun) < len(best.x) or not (scale > 0).all() or np.linalg.cond(best.jac / scale) > ILL:
        return None
    found = np.empty((len(best.x), n_draws))
    found[:, 0] = best.x
    for j in range(1, n_draws):
        found[:, j] = least_squares(misfit, best.x, args=(j,), x_scale="jac", max_nfev=50).x
    return found


def _residuals(data: _Data, law: Law) -> Iterable[Residual]:
    for i, (size, n, tokens) in enumerate(data.names):
        yield Residual(size, n, tokens, 16, float(data.base[i, 0]), law.excess(n, 16, tokens))
    if "bits" not in law.terms:
        return
    for i, bits, excess in zip(data.model, data.bits, data.excess[:, 0], strict=True):
        size, n, tokens = data.names[i]
        yield Residual(size, n, tokens, int(bits), float(excess), law.excess(n, float(bits), tokens))
