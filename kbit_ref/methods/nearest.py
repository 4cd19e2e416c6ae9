"""Round to nearest: what `kb.quantize` does, as a method beside the others."""

from __future__ import annotations

from typing import Any

from numpy.typing import NDArray

from kbit_ref.methods.coded import Coded
from kbit_ref.methods.registry import Given, register
from kbit_ref.tensors.quantize import quantize
from kbit_ref.tensors.scheme import Scheme


@register("nearest", source="Dettmers & Zettlemoyer, arXiv 2212.09720, appendix A")
def nearest(weights: NDArray[Any], scheme: Scheme, given: Given) -> Coded:
    """Every element goes to the nearest level of its block."""
    return Coded(quantize(weights, scheme))
