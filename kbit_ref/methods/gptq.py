"""GPTQ: round a column, and let the columns that are still free make up for the error.

Let H = X^T X over the calibration inputs. With some columns of a row w already rounded, the best
values of the others minimise (w' - w) H (w' - w)^T: a least-squares problem. `gptq_slow.py` solves
it anew before every column; that is the definition. Here the same numbers come from one Cholesky
factorization: if H = R R^T with R upper triangular, and U = R^-1, then to round column j by

    e = w_j - q_j    moves the best value of each later column k by    -e U[j, k] / U[j, j],

because rows j.. of U are the factor of the inverse of H without the columns before j. The error of
a column is fed to its neighbours at once, and to all columns further right once in PIECE columns.
"""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

from kbit_ref.errors import BadInput, message
from kbit_ref.methods.coded import Coded
from kbit_ref.methods.grids import Grids, columns_of_a_block
from kbit_ref.methods.objective import Objective
from kbit_ref.methods.registry import Given, register
from kbit_ref.tensors.scheme import Scheme

__all__ = ["damped", "feedback", "order_of", "scales_follow"]

Array = NDArray[Any]
PIECE = 128  # columns


@register(
    "gptq",
    source="Frantar et al., arXiv 2210.17323",
    needs=("inputs",),
    order=("given", "act"),
    damp=(0.01,),
    scales=("updated", "original"),
)
def gptq(weights: NDArray[Any], scheme: Scheme, given: Given, order: str, damp: float, scales: str) -> Coded:
    """Round column by column; what is still free makes up for the error.

    order
        `given`: from the first column to the last. `act`: those of the largest inputs first.
    damp
        This share of the mean of H's diagonal is added to the diagonal.
    scales
        `original`: those of the weights. `updated`: those of the weights as they are when their block is reached; only
        in the given order, and only if blocks lie within rows and their scales depend on nothing else.
    """
    objective = Objective("gptq", weights, given.inputs)
    columns = order_of(objective.root, order)
    h = damped(objective.root, damp)
    f = feedback(h[np.ix_(columns, columns)], damp)
    grids = Grids("gptq", weights, scheme)
    size = columns_of_a_block(scheme.cut, weights.shape) if scales_follow(scheme, order, scales) else None
    w = objective.weights[:, columns]
    for first, last in _pieces(len(columns), size):
        errors = np.zeros((len(w), last - first))
        for j in range(first, last):
            if size and j % size == 0:  # here columns are in the given order, and the block is up to date
                grids.refit(j, w[:, j : j + size])
            e = w[:, j] - grids.nearest(int(columns[j]), w[:, j])
            errors[:, j - first] = e
            w[:, j + 1 : last] -= np.outer(e, f[j, j + 1 : last])
        w[:, last:] -= errors @ f[first:last, last:]
    return Coded(grids.qtensor())


def _pieces(n: int, size: int | None) -> list[tuple[int, int]]:
    """Columns that are worked on together: at most PIECE, and no block begins in the middle, unless it ends there too.

    Examples
    --------
    >>> _pieces(300, None), _pieces(300, 100)
    ([(0, 128), (128, 256), (256, 300)], [(0, 100), (100, 200), (200, 300)])
    >>> _pieces(300, 150)
    [(0, 128), (128, 150), (150, 278), (278, 300)]
    """
    whole = n if size is None else size * max(1, PIECE // size)  # whole blocks
    starts = [c for a in range(0, n, whole) for c in range(a, min(a + whole, n), PIECE)]
    return list(zip(starts, [*starts[1:], n], strict=True))


def order_of(root: Array, order: str) -> NDArray[np.intp]:
    """The columns in the order in which they are rounded."""
    squares = (root**2).sum(axis=0)
    return np.argsort(-squares, kind="stable") if order == "act" else np.arange(len(squares))


def scales_follow(s: Scheme, order: str, scales: str) -> bool:
    """May scales be those of updated weights? Not if they depend on each other, or blocks are reached in parts."""
    alone = s["global"] == "none" and s["center"] != "tensor" and s.double is None
    return scales == "updated" and order == "given" and alone


def damped(root: Array, damp: float) -> Array:
    """H, up to a factor, with a share of the mean of its diagonal added to the diagonal.

    An input that is always 0 says nothing of its column, which then is rounded to nearest and moves no other: its row
    is that of the unit matrix.
    """
    if not 0 <= damp < np.inf:
        raise BadInput(message("gptq", f"damp = {damp}", "it is a share, from 0", "e.g. 0.01"))
    root = root / (np.abs(root).max() or 1)  # a factor changes nothing
    h = root.T @ root
    diagonal = np.einsum("ii->i", h)  # a view
    dead = diagonal == 0
    diagonal += damp * diagonal.sum() / max(1, np.count_nonzero(~dead))
    diagonal[dead] = 1
    return h


def feedback(h: Array, damp: float) -> Array:
    """F [d_in, d_in]: rounding column j down by e moves the best value of column k > j by -e F[j, k].

    Examples
    --------
    >>> feedback(np.array([[1.0, 0.5], [0.5, 1.0]]), 0)[0]  # 1 too little at column 0 asks for 0.5 more at column 1
    array([ 1. , -0.5])
    """
    from scipy.linalg import LinAlgError, cholesky, solve_triangular

    try:
        r = cholesky(h[::-1, ::-1], lower=True)[::-1, ::-1]  # from the last column back: h = r r^T, r upper triangular
    except LinAlgError:
        rule = "so few inputs do not determine the best values of the free columns"
        remedy = "use a larger damp, e.g. 0.01, or more inputs"
        raise BadInput(message("gptq", f"damp = {damp}", rule, remedy)) from None
    u = solve_triangular(r, np.eye(len(r)))
    return np.asarray(u / np.diag(u)[:, None])
