"""Decoders of schemes against the definition: the numbers that they make of what is stored."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from kbit_ref.arithmetic import same
from kbit_ref.conformance.compare import PER_BLOCK, Compared
from kbit_ref.conformance.definition import Stored, block_index
from kbit_ref.conformance.diagnosis import explain_answers
from kbit_ref.conformance.diagnosis.counterexample import simplest, spell_code
from kbit_ref.conformance.implementations.ask import Answer
from kbit_ref.conformance.inputs.of_schemes import Case
from kbit_ref.conformance.inputs.of_stored import stored_cases
from kbit_ref.conformance.reading import Refused, Theirs, parts_in
from kbit_ref.conformance.verdict import Counterexample, Difference, Row, Verdict
from kbit_ref.tensors.dequantize import dequantize
from kbit_ref.tensors.qtensor import QTensor
from kbit_ref.tensors.scheme import Scheme

__all__ = ["compare_decoded", "decoded_row", "judge_decoder"]

Array = NDArray[Any]


def judge_decoder(s: Scheme, ask: Callable[[QTensor], Answer], name: str, shapes: str) -> Verdict:
    """Judge who makes numbers of what a scheme stores.

    Parameters
    ----------
    ask
        Their numbers, in the shape of the array, or flat in the order of the cut.
    name, shapes
        Of who is judged, and of the arrays, as in `BlockProfile`.
    """
    compared, errors = [], dict[str, list[str]]()
    for what, q in stored_cases(s, shapes):
        try:
            decoded = parts_in(ask(q))["decoded"]
            compared.append(compare_decoded(q, decoded, what))
        except Refused as refused:
            errors.setdefault(str(refused), []).append(what)
    texts = tuple(f"{text} ({', '.join(dict.fromkeys(where))})" for text, where in errors.items())
    rows = (decoded_row(s, compared),) if compared else ()
    return Verdict(str(s), str(s), rows, theirs=name, errors=texts)


def compare_decoded(q: QTensor, decoded: Array, name: str = "", source: str = "float32") -> Compared:
    """Compare the numbers that were made of what is stored with those of `dequantize`.

    Raises
    ------
    Refused
        They are too many or too few, or no real numbers.
    """
    s = q.scheme
    if decoded.dtype.kind != "f":
        raise Refused(f"the answer has dtype {decoded.dtype}; give real numbers")
    if decoded.shape != q.shape:
        if decoded.size != q.size:
            raise Refused(f"the answer has shape {decoded.shape}, the array {q.shape}")
        decoded = np.ascontiguousarray(s.cut.join(decoded.reshape(s.cut.grid(q.shape)), q.shape))
    with np.errstate(all="ignore"):
        ours = dequantize(q, threads=1)
    blocks = {}
    for part in PER_BLOCK:
        values = getattr(q, part)
        if values is not None and values.size == q.scales.size:
            blocks[part] = np.asarray(values, np.float64).reshape(-1)
    whole = None if q.global_scale is None else float(q.global_scale)
    stored = Stored(q.codes.astype(np.int64), blocks, whole, np.zeros(q.scales.size, bool))
    given = ("codes", "packed", *blocks)
    theirs = Theirs(stored, decoded.astype(np.float64), in_order=s.cut.rows(q.codes).reshape(-1), given=given)
    found = Compared(Case(name, source, ours), stored, theirs, block_index(s, q.shape))
    found.spelled = ours.astype(np.float64)
    found.wrong["decoded"] = ~same(found.spelled, theirs.decoded)
    found.tried["decoded"] = q.size
    return found


def decoded_row(s: Scheme, compared: Sequence[Compared]) -> Row:
    """Return the verdict on decoded numbers, each difference with its cause and its simplest number."""
    tried = sum(one.tried["decoded"] for one in compared)
    if not any(one.wrong["decoded"].any() for one in compared):
        return Row("decoded", tried)
    diagnosis = explain_answers(s, compared)
    found = []
    for group in diagnosis.groups:
        i, where = next(iter(group.where.items()))
        found.append(Difference(group.cause, group.why, group.count, _example(s, compared[i], where)))
    return Row("decoded", tried, tuple(found), diagnosis=diagnosis)


def _example(s: Scheme, one: Compared, where: NDArray[np.bool_]) -> Counterexample:
    """Return the number of the fewest digits that differs, and what it is made of."""
    assert one.spelled is not None
    assert one.theirs.decoded is not None
    at = simplest(one.spelled.reshape(-1), where.reshape(-1))
    block = int(one.index.reshape(-1)[at])
    place = int((one.index.reshape(-1)[:at] == block).sum())
    code = int(one.ours.codes.reshape(-1)[at])
    numbers = ", ".join(f"{name[:-1].replace('_', ' ')} {v[block]:.9g}" for name, v in one.ours.blocks.items())
    theirs, ours = (repr(np.float32(a.reshape(-1)[at]).item()) for a in (one.theirs.decoded, one.spelled))
    return Counterexample("stored", numbers, theirs, ours, at=f"[{place}], code {spell_code(s.dtype, code)}")
