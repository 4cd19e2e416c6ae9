"""Judge a function that multiplies matrices: every element lies in its derived interval, or is named as wrong."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any

import numpy as np
from numpy.typing import NDArray

from kbit_ref.conformance.implementations.ask import spelled
from kbit_ref.conformance.verdict import Counterexample, Difference, Row, Verdict
from kbit_ref.products.accumulate import Accumulator
from kbit_ref.products.bounds import DotBound, Judgement, dot_bound

__all__ = ["check_product"]

Array = NDArray[Any]
NAMED = 0.9  # of the doubtful answers that a mistake must explain to be one where all are possible


def check_product(function: Callable[..., Any], model: Accumulator, source: str = "float32") -> Verdict:
    """Judge a function of a [M, K] and b [K, N] by an accumulator.

    Parameters
    ----------
    function
        Takes two NumPy arrays (whole numbers as int64 if the accumulator adds int32), returns their product [M, N].
    model
        The formats and the order of additions that it claims; with order `any` every order is right.
    source
        The format of the operands, `float32` or `float16`.

    Returns
    -------
    Verdict
        A row for each kind of operands. A difference is named if a known mistake explains it.
    """
    rows = tuple(_row(function, name, a, b, model) for name, a, b in _operands(model, source))
    return Verdict(str(model), str(model), rows, theirs=getattr(function, "__name__", "function"))


def _operands(model: Accumulator, source: str) -> Iterator[tuple[str, Array, Array]]:
    """Yield pairs of matrices, each kind of which tells some mistakes apart."""
    rng = np.random.default_rng(20261130)
    if model.sums == "int32":
        for name, top, k in (("codes", 128, 65), ("large sums", 4096, 513), ("one product", 128, 1)):
            a, b = rng.integers(-top, top, (5, k)), rng.integers(-top, top, (k, 6))
            a[0], b[:, 0] = top - 1, top - 1  # the largest sum
            a[1], b[:, 1] = -top, -top
            yield name, a, b
        return

    def real(*shape: int) -> Array:
        return rng.uniform(-1, 1, shape).astype(np.float16).astype(source)  # products are exact in float32

    yield "sums that cancel", real(9, 1024), real(1024, 8)
    yield "odd lengths", real(5, 333), real(333, 7)
    yield "one product", real(3, 1), real(1, 3)
    power = np.exp2(rng.integers(-6, 7, (1, 200))).astype(source)
    yield "many magnitudes", real(6, 200) * power, real(200, 5) * power.T
    yield "same signs", np.abs(real(4, 4096)), np.abs(real(4096, 4))
    zeros = real(4, 64)
    zeros[1], zeros[2, ::2] = 0, -0.0
    yield "zeros", zeros, real(64, 5)


def _row(function: Callable[..., Any], name: str, a: Array, b: Array, model: Accumulator) -> Row:
    """Judge one pair of matrices."""
    answer = _answer(function, a, b, model)
    if isinstance(answer, str):
        return Row("product", 0, errors=(answer,), what="multiply", source=name)
    bound = dot_bound(a, b, model)
    judged = bound.holds(answer) if model.order == "any" else bound.equal(answer)
    return Row("product", answer.size, _differences(bound, judged, answer), what="multiply", source=name)


def _answer(function: Callable[..., Any], a: Array, b: Array, model: Accumulator) -> Array | str:
    """Return the function's product, or why there is none."""
    before = a.tobytes(), b.tobytes()
    try:
        with np.errstate(all="ignore"):
            answer = np.asarray(function(a, b))
    except Exception as error:  # whatever it raises is the answer
        return f"it raised {spelled(error)}"
    if (a.tobytes(), b.tobytes()) != before:
        return "it changed the matrices that it was given"
    wanted = (len(a), b.shape[1])
    if answer.shape != wanted:
        return f"the answer has shape {answer.shape}, the product {wanted}"
    if answer.dtype.kind not in ("iu" if model.out == "int32" else "f"):
        return f"the answer has dtype {answer.dtype}; give {'integers' if model.out == 'int32' else 'real numbers'}"
    return answer


def _differences(bound: DotBound, judged: Judgement, answer: Array) -> tuple[Difference, ...]:
    """Return what is wrong with a product; nothing if every element is possible and none is explained by a mistake."""
    found = judged.diagnosis
    outside = judged.outside
    if found is None:
        return ()
    if not outside.any():
        if not found.names or found.explained < NAMED * found.total:
            return ()
        with np.errstate(invalid="ignore"):
            outside = judged.error > bound.probable
    first = tuple(np.argwhere(outside)[0].tolist())
    example = Counterexample(
        "product",
        f"a {[len(bound.given.a), bound.given.a.shape[1]]} @ b {list(bound.given.b.shape)}",
        f"{answer[first]:.9g}",
        f"{bound.centre[first]:.9g}" if bound.replayed is None else f"{bound.replayed[first]:.9g}",
        (
            f"any order of additions lies in [{bound.lower[first]:.9g}, {bound.upper[first]:.9g}]",
            f"probably within {bound.probable[first]:.3g} of {bound.centre[first]:.9g}",
            f"sum|a*b| = {bound.magnitude[first]:.4g}",
        ),
        at=f"c{list(first)}",
    )
    cause = found.names[0] if found.names else "unexplained"
    return (Difference(cause, found.sentence, int(outside.sum()), example),)
