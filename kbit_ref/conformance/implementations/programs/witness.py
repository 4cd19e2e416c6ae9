"""A few rows in which a program differs, for `diagnose` to name the mistake."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

from kbit_ref.arithmetic import widened
from kbit_ref.conformance.compare import Compared
from kbit_ref.conformance.diagnosis import Diagnosis, diagnose
from kbit_ref.conformance.implementations.programs.grammar import Field, Form, Words, split
from kbit_ref.errors import KbitError

__all__ = ["Witness"]

ROWS = 32  # that are kept; half of them differ, if so many do


class Witness:
    """Keeps rows of one length, of the first batch that differs."""

    def __init__(self, f: Form):
        self.form = f
        self.n = 0
        self.given = self.answers = np.empty((0, 0), np.uint64)

    def see(self, n: int, given: Words, answers: Words, compared: Compared) -> None:
        """A batch, compared."""
        wrong = _wrong_rows(compared, len(given))
        if len(self.given) or not wrong.any():
            return
        differ, agree = np.flatnonzero(wrong), np.flatnonzero(~wrong)
        kept = np.sort(np.concatenate([differ[: max(ROWS // 2, ROWS - len(agree))], agree[: ROWS // 2]]))
        if n % self.form.scheme.layout.elements:  # their bytes would not lie side by side
            kept = differ[:1]
        self.n, self.given, self.answers = n, given[kept], answers[kept]

    def diagnosis(self) -> Diagnosis | None:
        """What `diagnose` says of these rows; None if there are none, or if it does not know such parts."""
        f = self.form
        if not len(self.given) or f.scheme.double is not None:
            return None
        before, after = f.sides(self.n)
        seen = _parts(before, self.given) | _parts(after, self.answers)
        x = seen.pop("x").reshape(-1, self.n)
        try:
            if f.what == "decode":
                return diagnose(x, scheme=f.scheme, **seen)
            return diagnose(scheme=f.scheme, x=widened(x, f.source), **seen)
        except KbitError:
            return None


def _parts(fields: tuple[Field, ...], words: Words) -> dict[str, Any]:
    """The numbers of fields, flat."""
    found = {field.name: field.numbers(some).reshape(-1) for field, some in split(fields, words)}
    if "global_scale" in found:
        found["global_scale"] = found["global_scale"][0]
    return found


def _wrong_rows(compared: Compared, m: int) -> NDArray[np.bool_]:
    """[m]: the rows in which anything differs."""
    wrong = np.zeros(m, bool)
    for where in compared.wrong.values():
        wrong |= where.reshape(m, -1).any(axis=1)
    return wrong
