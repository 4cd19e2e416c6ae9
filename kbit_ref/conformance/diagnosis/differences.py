"""Describe what differs, part by part: each kind with its cause, its count and its smallest example."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import replace
from typing import Any

import numpy as np
from numpy.typing import NDArray

from kbit_ref.arithmetic import median_error
from kbit_ref.conformance.compare import Compared
from kbit_ref.conformance.definition import Stored
from kbit_ref.conformance.diagnosis import Diagnosis, Group, explain_answers
from kbit_ref.conformance.diagnosis.counterexample import Shrinker
from kbit_ref.conformance.implementations.claims import DOUBLE, PARTS
from kbit_ref.conformance.reading import spelled
from kbit_ref.conformance.verdict import Difference
from kbit_ref.tensors.scheme import Scheme

__all__ = ["differences"]

Array = NDArray[Any]
FOR_ERROR = 8  # arrays of which the error is measured


def differences(
    s: Scheme, compared: Sequence[Compared], shrinker: Shrinker, prefer: Iterable[str] = ()
) -> tuple[Diagnosis | None, dict[str, list[Difference]]]:
    """Return what is wrong, and by part what differs, each kind with its cause and its smallest example."""
    preferred = set(prefer)
    kinds: dict[str, list[Difference]] = {name: [] for name in PARTS}
    if not any(wrong.any() for one in compared for wrong in one.wrong.values()):
        return None, kinds
    diagnosis = explain_answers(s, compared, preferred)
    for group in diagnosis.groups:
        cause = next((name for name in group.names if name in preferred), group.cause)
        example = shrinker.of(group, compared, diagnosis.findings)
        error = _error(s, group, compared)
        kinds[group.part].append(Difference(cause, group.why, group.count, example, error=error))
    return diagnosis, kinds


def _error(s: Scheme, group: Group, compared: Sequence[Compared]) -> float | None:
    """Return the median relative error of the numbers of a group; for what is stored, of the numbers of its blocks."""
    ours, theirs = [], []
    for i, where in list(group.where.items())[:FOR_ERROR]:
        one = compared[i]
        if group.part in DOUBLE or group.part == "global_scale":
            numbers: list[Array | None] = [_of_array(stored, group.part) for stored in (one.ours, one.theirs.stored)]
        elif group.part == "decoded":
            numbers = [one.spelled, one.theirs.decoded]
        else:
            right = replace(one.theirs, stored=one.ours, given=("codes", "scales"))
            numbers = [spelled(s, one.case.words.shape, each) for each in (right, one.theirs)]
            where = np.isin(one.index, one.index[where] if group.part == "codes" else np.flatnonzero(where))
        if group.part == "packed" or numbers[0] is None or numbers[1] is None:
            return None
        ours.append(numbers[0][where])
        theirs.append(numbers[1][where])
    return median_error(np.concatenate(ours), np.concatenate(theirs)) if ours else None


def _of_array(stored: Stored, part: str) -> Array:
    """Return the numbers of such a part, flat."""
    return np.array([stored.global_scale], np.float64) if part == "global_scale" else stored.double[part]
