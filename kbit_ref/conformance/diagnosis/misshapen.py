"""Answers that have another shape than the scheme says: which mistake gives just these."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np
from numpy.typing import NDArray

from kbit_ref.arithmetic import same
from kbit_ref.conformance.diagnosis.evidence import ODD
from kbit_ref.conformance.variants import mutants
from kbit_ref.tensors.scheme import Scheme
from kbit_ref.tensors.steps import Runner, reference

__all__ = ["misshapen"]

Array = NDArray[Any]


def misshapen(s: Scheme, x: Array, parts: Mapping[str, Array]) -> str:
    """Return the mistake that gives exactly these parts of an array, in a sentence with its source.

    Parameters
    ----------
    x : [*shape]
        float16, float32 or float64.
    parts
        What came back, by name.

    Returns
    -------
    str
        Empty if no mistake that is known does.

    Examples
    --------
    >>> from kbit_ref.tensors.scheme import scheme
    >>> x = np.ones((2, 64), np.float32)
    >>> s = scheme("int4-b32@-1-absmax-f32")
    >>> misshapen(s, x, {"scales": np.full(2, 1 / 7)})
    ''
    >>> text = misshapen(s, x, {"scales": np.full(2, np.float32(1 / 7))})
    >>> "one-scale-a-row" in text
    True
    """
    base, runner = reference(s, "float64" if x.dtype == np.float64 else "float32"), Runner(x)
    for variant in (each for mutant in mutants().values() for each in mutant.variants()):
        steps = variant(base)
        try:
            with np.errstate(all="ignore"):
                made = {} if steps is None else runner(steps, keep=False).parts()
        except ODD:
            continue
        made["decoded"] = made.pop("values", np.zeros(0))
        if parts and all(name in made and _equal(made[name], part) for name, part in parts.items()):
            return f"{variant.why} ({variant.name}, {variant.source})"
    return ""


def _equal(made: Array, part: Any) -> bool:
    array = np.asarray(part)
    return made.size == array.size and bool(same(made.reshape(-1), array.reshape(-1)).all())
