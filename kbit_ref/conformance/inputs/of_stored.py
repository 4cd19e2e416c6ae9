"""Generate inputs for decoders of a scheme: every code with scales of many kinds, and what is stored for arrays."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import numpy as np

from kbit_ref.conformance.cases import cases_of
from kbit_ref.conformance.definition import answered, reference
from kbit_ref.conformance.inputs.of_schemes import cases
from kbit_ref.tensors.packing import pack
from kbit_ref.tensors.qtensor import QTensor
from kbit_ref.tensors.quantize import quantize
from kbit_ref.tensors.scales import stored_as
from kbit_ref.tensors.scheme import Scheme

__all__ = ["stored_cases"]


def stored_cases(s: Scheme, shapes: str = "any") -> Iterator[tuple[str, QTensor]]:
    """Yield what a scheme stores, each with a name.

    Parameters
    ----------
    shapes
        Of the arrays, as in `BlockProfile`.

    Examples
    --------
    >>> import kbit_ref as kb
    >>> s = kb.scheme("int4-b2-absmax-f32")
    >>> [name for name, q in stored_cases(s, "rows")][:3]
    ['every code', 'every pair', 'levels']
    """
    for case in cases_of(s):
        for given in case.given(s, "full"):
            if "codes" in given.arrays:
                yield given.comment, _of_parts(s, dict(given.arrays))
    for one in cases(s, ("float32",), shapes, 1, 32):
        if one.name != "specials":
            stored = reference(s, one.words, "float32")
            offsets = stored.blocks.get("offsets", np.zeros(stored.refused.shape))
            words = answered(s, one.words, stored.refused | ~np.isfinite(offsets))  # nothing is added to infinities
            if words.size:
                yield one.name, quantize(words, s, threads=1)


def _of_parts(s: Scheme, parts: dict[str, Any]) -> QTensor:
    """Return codes and numbers that no quantizer made."""
    codes = parts.pop("codes")
    whole = parts.pop("global_scale", None)
    packed = pack(np.ascontiguousarray(s.cut.rows(codes)), s.layout)
    scales = stored_as(s, parts.pop("scales"))
    if "offsets" in parts:
        parts["offsets"] = stored_as(s, parts["offsets"])
    return QTensor(packed, scales, codes.shape, s, global_scale=None if whole is None else np.float32(whole), **parts)
