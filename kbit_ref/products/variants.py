"""Name the mistake that explains a product outside its interval.

A variant is another product: other operands (activations in 8 bits, a tail left out), or another accumulator (partial
sums in bfloat16). It has an interval of its own, and an answer of its own in one order. It explains an answer that
lies outside ours if that answer is the variant's to the bit, or inside the variant's interval and at least four
times nearer to its centre than to ours; it is charged for every answer that ours holds and it would not.
"""

from __future__ import annotations

import inspect
import math
from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from itertools import product
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from kbit_ref.arithmetic import Arithmetic
from kbit_ref.errors import KbitError
from kbit_ref.products.accumulate import Accumulator
from kbit_ref.products.interval import interval
from kbit_ref.products.operands import Operands
from kbit_ref.tensors.dequantize import dequantize
from kbit_ref.tensors.quantize import quantize

__all__ = ["Faulty", "ProductDiagnosis", "ProductVariant", "explain_product", "product_variants"]

F64 = NDArray[np.float64]
CONSTRUCTED = "constructed"
SITE = "https://github.com/"
SAMPLE = 12  # rows and columns of the result on which variants are tried
NEARER = 4  # times, to the variant's centre than to ours


class Faulty(NamedTuple):
    """A product with a mistake: its operands, its accumulator, and what it does to the sum."""

    given: Operands
    model: Accumulator
    after: Callable[[F64], F64] | None = None  # of the exact sum, where the answer is known to the bit
    probable: bool = False  # any answer of probable size counts: our own interval is a point


Build = Callable[..., "Faulty | None"]


@dataclass(frozen=True)
class ProductVariant:
    """A product with a mistake.

    Parameters
    ----------
    name
        How it is called, with its parameters.
    why
        Completes "the answers are explained if ...".
    source
        The public report, or `constructed`.
    build
        (operands, accumulator) -> Faulty, or None where it does not apply.
    """

    name: str
    why: str
    source: str
    build: Callable[[Operands, Accumulator], Faulty | None]

    def __call__(self, given: Operands, model: Accumulator) -> Faulty | None:
        """Return the product with the mistake, or None where it does not apply."""
        try:
            return self.build(given, model)
        except KbitError:
            return None


_variants: list[ProductVariant] = []


def variant(name: str, *, source: str, **tries: tuple[Any, ...]) -> Callable[[Build], Build]:
    """Decorate the function of a variant: its name, its source, and the values of each of its parameters."""

    def decorate(build: Build) -> Build:
        text = " ".join((inspect.getdoc(build) or "").split("\n\n")[0].split()).removesuffix(".")
        for values in product(*tries.values()):
            chosen = dict(zip(tries, values, strict=True))
            spelled = ", ".join(f"{key}={value}" for key, value in chosen.items())
            why = text.format(**chosen)
            _variants.append(
                ProductVariant(
                    f"{name}({spelled})" if spelled else name,
                    why[:1].lower() + why[1:],
                    source if source == CONSTRUCTED else SITE + source,
                    lambda given, model, chosen=chosen: build(given, model, **chosen),  # type: ignore[misc]
                )
            )
        return build

    return decorate


def product_variants() -> Iterator[ProductVariant]:
    """Yield every variant, the simplest first.

    Examples
    --------
    >>> next(product_variants()).name
    'operands-rounded(which=a, form=bfloat16)'
    """
    yield from _variants


# Operands -----------------------------------------------------------------------------------------


@variant(
    "operands-rounded",
    source="bitsandbytes-foundation/bitsandbytes/blob/main/bitsandbytes/nn/modules.py",
    which=("a", "b", "both"),
    form=("bfloat16", "float16"),
)
def operands_rounded(given: Operands, model: Accumulator, which: str, form: str) -> Faulty | None:
    """The operands ({which}) are rounded to {form} before they are multiplied."""
    narrow = Arithmetic(form).round
    a, b = (_wide(narrow(x)) if which in (name, "both") else x for name, x in (("a", given.a), ("b", given.b)))
    return Faulty(given._replace(a=a, b=b), model)


@variant(
    "activations-quantized",
    source="microsoft/onnxruntime/blob/main/docs/ContribOperators.md",
    scheme=("int8-channel-absmax-f32", "int8-b32@-1-absmax-f32", "int8-b64@-1-absmax-f32", "int8-b128@-1-absmax-f32"),
)
def activations_quantized(given: Operands, model: Accumulator, scheme: str) -> Faulty | None:
    """The activations are quantized without being asked for, as {scheme}."""
    return Faulty(given._replace(a=_wide(dequantize(quantize(given.a.astype(np.float32), scheme)))), model)


@variant("tail-left-out", source=CONSTRUCTED, block=(4, 8, 16, 32, 64, 128))
def tail_left_out(given: Operands, model: Accumulator, block: int) -> Faulty | None:
    """The products after the last whole block of {block} are not added."""
    rest = given.a.shape[1] % block
    return Faulty(_without(given, slice(given.a.shape[1] - rest, None)), model) if rest else None


@variant("block-left-out", source=CONSTRUCTED, block=(16, 32, 64, 96, 128, 256, 512))
def block_left_out(given: Operands, model: Accumulator, block: int) -> Faulty | None:
    """The last block of {block} products is not added."""
    n = given.a.shape[1]
    return Faulty(_without(given, slice(n - block, None)), model) if n > block else None


@variant("nothing-computed", source="microsoft/onnxruntime/issues/31155")
def nothing_computed(given: Operands, model: Accumulator) -> Faulty | None:
    """Nothing is computed: every answer is 0."""
    return Faulty(given, model, np.zeros_like)


# Accumulation -------------------------------------------------------------------------------------


@variant(
    "partial-sums-rounded", source="modular/modular/issues/7165", form=("bfloat16", "float16"), parts=(2, 4, 8, 16)
)
def partial_sums_rounded(given: Operands, model: Accumulator, form: str, parts: int) -> Faulty | None:
    """Each of {parts} partial sums is rounded to {form} before they are added (split-K)."""
    n = given.a.shape[1]
    if model.sums == "int32" or model.group or n < 2 * parts:
        return None
    return Faulty(given, replace(model, group=-(-n // parts), outer=form, order="sequential"))


@variant("sums-in", source=CONSTRUCTED, form=("bfloat16", "float16"))
def sums_in(given: Operands, model: Accumulator, form: str) -> Faulty | None:
    """Every sum is rounded to {form}."""
    if model.sums == form or model.group:
        return None
    return Faulty(given, Accumulator(form, "exact", order="sequential"))


@variant("result-rounded", source="mlx-node/mlx-node/issues/101", form=("bfloat16", "float16"))
def result_rounded(given: Operands, model: Accumulator, form: str) -> Faulty | None:
    """The result is rounded to {form}."""
    return (
        None
        if model.out in (form, "int32")
        else Faulty(given, model, lambda exact: _wide(Arithmetic(form).round(exact)))
    )


@variant("int-wraps", source=CONSTRUCTED, bits=(16, 24, 32))
def int_wraps(given: Operands, model: Accumulator, bits: int) -> Faulty | None:
    """The sum is kept in {bits} bits and wraps."""
    half = 2.0 ** (bits - 1)
    return Faulty(given, model, lambda exact: np.mod(exact + half, 2 * half) - half) if _whole(given) else None


@variant("int-saturates", source=CONSTRUCTED, bits=(16, 24, 32))
def int_saturates(given: Operands, model: Accumulator, bits: int) -> Faulty | None:
    """The sum saturates at {bits} bits."""
    half = 2.0 ** (bits - 1)
    return Faulty(given, model, lambda exact: np.clip(exact, -half, half - 1)) if _whole(given) else None


@variant("sums-in-float32", source=CONSTRUCTED)
def sums_in_float32(given: Operands, model: Accumulator) -> Faulty | None:
    """Whole numbers are added in float32, which holds them up to 2^24."""
    if model.sums not in ("int32", "float64") or model.group or not _whole(given):
        return None
    return Faulty(given, Accumulator("float32", "exact", order="sequential"), probable=True)


# Constants ----------------------------------------------------------------------------------------


@variant(
    "times-constant",
    source="bitsandbytes-foundation/bitsandbytes/blob/main/bitsandbytes/functional.py",
    numerator=(127, 128, 255, 256, 7, 8, 15, 16),
    denominator=(127, 128, 255, 256, 7, 8, 15, 16),
)
def times_constant(given: Operands, model: Accumulator, numerator: int, denominator: int) -> Faulty | None:
    """The dequantization constant is wrong: every answer is {numerator}/{denominator} of what it should be."""
    near = numerator != denominator and abs(numerator - denominator) == 1
    return Faulty(given._replace(b=given.b * (numerator / denominator)), model) if near else None


@variant("sign-lost", source=CONSTRUCTED)
def sign_lost(given: Operands, model: Accumulator) -> Faulty | None:
    """Every answer has the opposite sign."""
    return Faulty(given._replace(b=-given.b), model)


def _wide(x: Any) -> F64:
    return np.asarray(x, np.float64)


def _whole(given: Operands) -> bool:
    """Return whether all operands are whole numbers."""
    return given.scales is None and all(bool((part == np.rint(part)).all()) for part in (given.a, given.b))


def _without(given: Operands, columns: slice) -> Operands:
    """Return the operands with zeros in place of some of the K products."""
    a = _wide(given.a).copy()
    a[:, columns] = 0
    return given._replace(a=a)


# The search ---------------------------------------------------------------------------------------


@dataclass(frozen=True)
class ProductDiagnosis:
    """The explanation of answers that are outside an interval, or improbably far from its centre.

    Parameters
    ----------
    sentence
        One sentence: how many of the doubtful answers are explained, by what, and where that happened.
    names
        The variants that explain as many as the first, the first one in the sentence; empty if none earns it.
    explained, total
        Doubtful answers that are explained, and all that were looked at (at most 144).
    tried
        How many variants were tried.
    """

    sentence: str
    names: tuple[str, ...]
    explained: int
    total: int
    tried: int

    def __str__(self) -> str:
        return self.sentence


def explain_product(
    given: Operands, model: Accumulator, centre: F64, theirs: F64, doubtful: NDArray[np.bool_], delta: float
) -> ProductDiagnosis:
    """Name the mistake that explains doubtful answers.

    Parameters
    ----------
    given, model
        The operands and the accumulator.
    centre : [M, N]
        The exact product, correctly rounded.
    theirs, doubtful : [M, N]
        The answers, and where they are outside the interval or improbable.
    delta
        As in `dot_bound`.
    """
    rows, columns = _sampled(doubtful)
    at = np.ix_(rows, columns)
    part = given.part(slice(None), slice(None))
    scales = None if part.scales is None else part.scales[:, columns]
    part = part._replace(a=part.a[rows], b=part.b[:, columns], scales=scales)
    wrong, answer, centre = doubtful[at], theirs[at], centre[at]
    total, tried = int(wrong.sum()), 0
    accounts: list[tuple[int, int, ProductVariant]] = []
    free = replace(model, order="any")  # only variants that are known to the bit are added up one by one
    for variant_ in (*product_variants(), *_fitted(answer, centre, wrong)):
        made = variant_(part, free)
        if made is None:
            continue
        tried += 1
        try:
            good, possible = _gives(made, answer, centre, delta)
        except KbitError:  # its sums are not to be had for such numbers
            continue
        explained, broken = int((good & wrong).sum()), int((~possible & ~wrong).sum())
        if explained - broken > total // 2:
            accounts.append((explained - broken, explained, variant_))
    accounts.sort(key=lambda account: -account[0])  # stable: of two that explain as much the simpler one
    if not accounts:
        text = (
            f"unexplained: none of {tried} known mistakes of products explains more than half of the doubtful answers"
        )
        return ProductDiagnosis(text, (), 0, total, tried)
    score, explained, best = accounts[0]
    names = tuple(account[2].name for account in accounts if account[0] == score)
    more = f"; so does {', '.join(names[1:4])}: they cannot be told apart here" if len(names) > 1 else ""
    where = "" if best.source == CONSTRUCTED else f" ({best.source})"
    text = f"{explained} of {total} doubtful answers are explained: {best.why}{where}{more}"
    return ProductDiagnosis(text, names, explained, total, tried)


def _sampled(doubtful: NDArray[np.bool_]) -> tuple[NDArray[np.intp], NDArray[np.intp]]:
    """Choose the rows and columns with the most doubtful answers, and as many others."""
    found = []
    for axis in (1, 0):
        order = np.argsort(-doubtful.sum(axis=axis), kind="stable")
        found.append(np.sort(np.unique(np.concatenate([order[: SAMPLE // 2], order[-(SAMPLE // 2) :]]))))
    return found[0], found[1]


def _gives(made: Faulty, answer: F64, centre: F64, delta: float) -> tuple[NDArray[np.bool_], NDArray[np.bool_]]:
    """Find where an answer is what a faulty product gives, and where it can be."""
    found = interval(made.model, made.given, delta)
    if made.after is not None:
        same = np.asarray(answer == made.after(found.centre))
        return same, same
    with np.errstate(all="ignore"):
        inside = (answer >= found.lower) & (answer <= found.upper)
        nearer = NEARER * np.abs(answer - found.centre) <= np.abs(answer - centre)
        equal = np.zeros(answer.shape, bool) if found.replayed is None else answer == found.replayed
        if made.probable:
            equal |= inside & (np.abs(answer - found.centre) <= found.probable)
    return (inside & nearer) | equal, inside | equal


def _fitted(answer: F64, centre: F64, wrong: NDArray[np.bool_]) -> Iterator[ProductVariant]:
    """Estimate a constant by which all answers are multiplied, from the answers themselves."""
    with np.errstate(all="ignore"):
        ratios = (answer / centre)[wrong & (centre != 0)]
    ratio = float(np.median(ratios)) if ratios.size else 1.0
    if not math.isfinite(ratio) or ratio in (0.0, 1.0, -1.0):
        return
    exponent = math.frexp(abs(ratio) * (1 + 2.0**-20))[1] - 1
    near = abs(abs(ratio) * 2.0**-exponent - 1) < 2.0**-18
    if near and exponent == 0:
        return
    factor = math.copysign(2.0**exponent, ratio) if near else float(np.float32(ratio))
    text = f"{'-' * (ratio < 0)}2^{exponent}" if near else f"{factor:.6g}"
    yield ProductVariant(
        f"times({text})",
        f"every answer is {text} times what it should be, as where a global scale is left out",
        SITE + "huggingface/transformers/pull/48371",
        lambda given, model: Faulty(given._replace(b=given.b * factor), model),
    )
