"""The answers of data types as evidence: numbers and codes. A type is a scheme whose scale is 1."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Any

import numpy as np
from numpy.typing import NDArray

from kbit_ref.conformance.diagnosis.evidence import EXACT, SMALL, Evidence, Piece, spread_evenly
from kbit_ref.conformance.variants.of_types import NanCodes, with_nan
from kbit_ref.datatypes.datatype import DataType
from kbit_ref.engine.codec import encode
from kbit_ref.engine.stochastic import encode_stochastic
from kbit_ref.tensors.cut import Cut
from kbit_ref.tensors.scheme import Scheme
from kbit_ref.tensors.steps import Codes, Steps, reference

__all__ = ["Encodes", "of_type", "steps_of_type"]

Array = NDArray[Any]


def of_type(
    d: DataType,
    kind: str,
    x: Array,
    theirs: Array,
    nan: NanCodes | None = None,
    judged: Array | None = None,
    random: tuple[Array, int] | None = None,
) -> Evidence:
    """Return numbers and the codes that they became; of the source `codes`, codes and the numbers that they became.

    Parameters
    ----------
    d, kind
        The type; the format of the numbers.
    x, theirs : [n]
        float64 numbers and codes, -1 where an answer is no level; or codes and float64 numbers.
    nan
        The codes that the NaNs of both signs must have; None if any will do.
    judged
        Where an answer is judged.
    random
        For stochastic rounding: the random bits of each number, and how many there are.
    """

    def piece(at: Any) -> Piece:
        bits = None if random is None else (random[0][at], random[1])
        return _of_type(steps_of_type(d, bits), d, kind, x[at], theirs[at], nan, None if judged is None else judged[at])

    def sample(e: Evidence, left: NDArray[np.bool_]) -> Evidence:
        agrees = e.ours == EXACT if judged is None else (e.ours == EXACT) & judged
        at = np.concatenate(
            [spread_evenly(np.flatnonzero(left), SMALL), spread_evenly(np.flatnonzero(agrees), 2 * SMALL)]
        )
        return Evidence(d, (piece(at),), kind)

    return Evidence(d, (piece(slice(None)),), kind, sample)


def _of_type(
    base: Steps, d: DataType, kind: str, x: Array, theirs: Array, nan: NanCodes | None, judged: Array | None
) -> Piece:
    one = np.ones((), np.float64)

    def make(steps: Steps, _: bool) -> dict[str, Array]:
        with np.errstate(all="ignore"):
            if kind == "codes":
                return {"values": steps.level(x)}
            y = steps.read(x)
            return {"codes": with_nan(d, steps.encode(y, one, None), y, nan).astype(np.int64)}

    part = "values" if kind == "codes" else "codes"
    return Piece(base, make, {part: theirs}, {} if judged is None else {part: judged}, given=x)


def steps_of_type(d: DataType, random: tuple[Array, int] | None = None) -> Steps:
    """Return a data type as a scheme whose scale is 1: numbers are read as float64, and encoded."""
    words = dict(part.split("=") for part in d.name.split("+")[1:])
    words |= {"inf": "saturate"} | ({"nan": "code"} if d.nan_code is not None else {})
    s = Scheme(d, Cut("tensor"), "absmax", "f32", words)
    plain = reference("int8-tensor-absmax-f32", "float64")
    return replace(
        plain,
        scheme=s,
        encode=Encodes(d, random),
        level=lambda codes: d.levels[codes],
    )


@dataclass(frozen=True, eq=False)
class Encodes:
    """The step that encodes numbers as a type does; for stochastic rounding with the random bits of each number."""

    d: DataType
    random: tuple[Array, int] | None = None

    def __call__(self, y: Array, used: Array, zero: Array | None) -> Codes:
        """Return the codes."""
        if self.random is not None and self.d.rounding.startswith("stochastic"):
            return encode_stochastic(self.d, y, *self.random)
        return encode(self.d, np.asarray(y), threads=1)
