"""Training for a chosen k: the forward pass sees quantized weights, the optimizer the real ones.

The gradient of a rounding is zero nearly everywhere, so it is taken as if nothing had been rounded
(straight-through estimator, Bengio et al. 2013, arXiv 1308.3432). With `learned` the scales are
parameters as well (learned step size, Esser et al. 2019, arXiv 1902.08153): with y = w / s and
q the nearest level, q s depends on s as

    d(q s) / ds = q - y   inside the range of the levels, and q outside of it,

while w gets no gradient where it is out of range.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from fnmatch import fnmatchcase
from typing import Any

import numpy as np
from numpy.typing import NDArray

from kbit_ref.engine.codec import decode, encode
from kbit_ref.errors import BadInput, UnknownName, message
from kbit_ref.tensors.dequantize import dequantize
from kbit_ref.tensors.packing import pack
from kbit_ref.tensors.qtensor import QTensor
from kbit_ref.tensors.quantize import quantize
from kbit_ref.tensors.scheme import Scheme, scheme
from kbit_ref.transformer.model import EMBEDDINGS

__all__ = ["STEPS", "Aware", "with_steps"]

Array = NDArray[Any]
Parameters = dict[str, Array]
STEPS = ".steps"  # what the scales of a matrix are called among the parameters


class Aware:
    """Which matrices are quantized in training, and how.

    Parameters
    ----------
    scheme_
        Any scheme; with `learned` one whose blocks have a scale and nothing else.
    skip
        Names of matrices that are not quantized, with * for anything.
    learned
        Are the scales parameters?
    """

    def __init__(self, scheme_: Scheme | str, skip: Sequence[str] = (), learned: bool = False):
        self.scheme, self.skip, self.learned = scheme(scheme_), tuple(skip), learned
        if learned and not _plain(self.scheme):
            rule = "learned steps need blocks with a scale and nothing else"
            raise BadInput(message("train", f"scheme = {self.scheme}", rule, "use absmax, or leave the steps alone"))

    def check(self, shapes: Mapping[str, tuple[int, ...]]) -> None:
        """Refuse to skip a matrix that a model of these shapes does not have; embeddings may always be named.

        Raises
        ------
        UnknownName
            `train: skip = 'hed.weight', there is no such name; did you mean embed.weight? ...`
        """
        matrices = [name for name, shape in shapes.items() if len(shape) == 2]
        for pattern in self.skip:
            if pattern not in EMBEDDINGS and not any(fnmatchcase(name, pattern) for name in matrices):
                remedy = f"matrices are {', '.join(matrices[:3])}, ..."
                raise UnknownName.among("train", "skip", pattern, matrices, remedy)

    def names(self, p: Parameters) -> list[str]:
        """The matrices that are quantized."""
        matrices = [name for name, value in p.items() if value.ndim == 2 and name.endswith(".weight")]
        return [name for name in matrices if not any(fnmatchcase(name, pattern) for pattern in self.skip)]

    def steps(self, p: Parameters) -> Parameters:
        """What learned scales begin with: those of the rule."""
        return {name + STEPS: quantize(p[name], self.scheme, threads=1).scales.copy() for name in self.names(p)}

    def used(self, p: Parameters) -> tuple[Parameters, Callable[[Parameters], None]]:
        """The parameters that the forward pass sees, and what turns their gradients into those of `p`."""
        seen = {name: value for name, value in p.items() if not name.endswith(STEPS)}
        backs: list[Callable[[Parameters], None]] = []
        for name in self.names(p):
            if self.learned:
                seen[name], back = self._stepped(p, name)
                backs.append(back)
            else:
                seen[name] = dequantize(quantize(p[name], self.scheme, threads=1), threads=1)

        def back_all(g: Parameters) -> None:
            for undo in backs:
                undo(g)

        return seen, back_all

    def _stepped(self, p: Parameters, name: str) -> tuple[Array, Callable[[Parameters], None]]:
        w, steps = p[name], p[name + STEPS]
        s, dtype = self.scheme, self.scheme.dtype
        levels = dtype.levels[dtype.emitted]
        lowest, highest = levels[np.isfinite(levels)].min(), levels[np.isfinite(levels)].max()
        rows = s.cut.rows(w)  # [n_rows, length]
        size = s.cut.size or rows.shape[1]
        at = np.arange(rows.shape[1]) // size  # the block of each column
        wide = steps[:, at]  # [n_rows, length]
        y = rows / np.where(wide == 0, np.float32(1), wide)
        q = decode(dtype, encode(dtype, y, threads=1), threads=1)
        inside = (y >= lowest) & (y <= highest)
        share = np.float32(1 / np.sqrt(size * highest))  # keeps steps and weights about equally fast

        def back(g: Parameters) -> None:
            d = s.cut.rows(g[name])
            of_steps = d * np.where(inside, q - y, q)
            g[name + STEPS] = np.add.reduceat(of_steps, np.arange(0, rows.shape[1], size), axis=1) * share
            g[name] = s.cut.join(d * inside, w.shape)

        return np.ascontiguousarray(s.cut.join(q * wide, w.shape)), back


def _plain(s: Scheme) -> bool:
    """Does a block have a scale, and nothing else that is stored or computed?"""
    bare = s["center"] == "none" and s["global"] == "none" and s.double is None and s["scaleas"] == "multiplier"
    nearest = s.rule.startswith("absmax") and s["encoder"] == "nearest"
    return bare and nearest and s.scale_dtype in ("f32", "f16", "bf16")


def with_steps(w: Array, s: Scheme, steps: Array) -> QTensor:
    """A matrix with given scales instead of those of the rule; each is rounded to its stored type first."""
    stored = {"f32": np.float32, "f16": np.float16}.get(s.scale_dtype)
    if stored is None:
        scales = decode("bf16", encode("bf16", steps))
    else:
        scales = steps.astype(stored).astype(np.float32)
    rows = s.cut.rows(w)
    size = s.cut.size or rows.shape[1]
    wide = scales[:, np.arange(rows.shape[1]) // size]
    codes = encode(s.dtype, rows / np.where(wide == 0, np.float32(1), wide))
    return QTensor(pack(codes.reshape(-1), s.layout), scales, w.shape, s)
