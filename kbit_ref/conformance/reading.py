"""One reader of answers: the arrays that came back, in the form of ours; or why they cannot be compared."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

import numpy as np
from numpy.typing import NDArray

from kbit_ref.arithmetic import identity
from kbit_ref.conformance.definition import Stored, block_index, repacked
from kbit_ref.conformance.implementations.ask import Answer, located
from kbit_ref.conformance.implementations.claims import DOUBLE, PARTS
from kbit_ref.conformance.inputs.of_types import to_float64
from kbit_ref.conformance.subject import Question
from kbit_ref.datatypes.datatype import datatype
from kbit_ref.engine.codec import decode
from kbit_ref.exact.rules import RULES
from kbit_ref.tensors.dequantize import dequantize
from kbit_ref.tensors.packing import pack, unpack
from kbit_ref.tensors.qtensor import QTensor
from kbit_ref.tensors.scheme import Scheme

__all__ = ["Refused", "Theirs", "parts_in", "read", "read_type", "spelled"]

Array = NDArray[Any]
EXTRA = ("order",)
FLOATS = ("float16", "float32", "float64")


class Refused(Exception):
    """An answer that cannot be compared.

    Parameters
    ----------
    text
        Why.
    raised
        The name of the exception, if they raised one.
    parts
        What came back, by name, if anything did.
    """

    def __init__(self, text: str, raised: str = "", parts: Mapping[str, Array] | None = None):
        super().__init__(text)
        self.raised, self.parts = raised, parts or {}


def parts_in(answer: Answer) -> dict[str, Array]:
    """Return the parts of an answer, or raise `Refused` if there are none."""
    if answer.error:
        raise Refused(answer.error, answer.raised)
    return answer.parts


@dataclass
class Theirs:
    """Their parts.

    Parameters
    ----------
    stored
        What they store. Codes are -1 where an answer is no code of the type; those of a type that came as real
        numbers are the codes of these.
    decoded
        Real numbers, if they came.
    packed, repacked
        Their bytes, and the bytes that their codes make in the layout of the scheme.
    in_order
        Their codes in the order of the bytes.
    given
        The parts that came as such.
    raw
        Codes as they came.
    ordered
        They said in which order the codes stand in the bytes.
    """

    stored: Stored
    decoded: NDArray[np.float64] | None = None
    packed: NDArray[np.uint8] | None = None
    repacked: NDArray[np.uint8] | None = None
    in_order: NDArray[np.uint8] = field(default_factory=lambda: np.zeros(0, np.uint8))
    given: tuple[str, ...] = ()
    raw: Array | None = None
    ordered: bool = False

    @property
    def has_codes(self) -> bool:
        """Return whether the answers have codes."""
        return "codes" in self.given or "packed" in self.given

    @property
    def says_numbers(self) -> bool:
        """Return whether codes and scales determine the decoded numbers."""
        return self.has_codes and "scales" in self.stored.blocks


# Data types ------------------------------------------------------------------------------------------


def read_type(question: Question, answer: Answer, shape: tuple[int, ...], form: str | None = None) -> Theirs:
    """Read the answer to a question about a data type.

    Parameters
    ----------
    shape
        That it must have.
    form
        What the answers of an encoder are: `codes`, `values`, or None to see it from their dtype.

    Raises
    ------
    Refused
        It has another shape, or a dtype that is neither codes nor real numbers.
    """
    array, where = answer.array, answer.arrangement
    assert array is not None
    if array.shape != shape:
        size = int(np.prod(shape))
        fewer = f": {array.size} of {size} values" if array.size < size else ""
        raise Refused(located(where, f"the answer has shape {array.shape}, the input {shape}{fewer}"))
    bits, kind = question.dtype.bits, answer.custom or array.dtype.name
    if answer.custom == "bfloat16" and (question.what == "decode" or question.dtype.name.partition("+")[0] != "bf16"):
        return _of_values(question, to_float64(array, "bfloat16"))
    if answer.custom:
        if question.what == "decode":
            wanted = "float16, bfloat16, float32 or float64"
            raise Refused(located(where, f"the answer has dtype {kind}; give {wanted}"))
        if array.dtype.itemsize != question.dtype.code_dtype.itemsize:
            raise Refused(located(where, f"the answer has dtype {kind}, codes have {bits} bits"))
        return _of_codes(array & array.dtype.type(2**bits - 1), bits)
    if kind in FLOATS and form != "codes":
        return _of_values(question, to_float64(array.view(f"uint{8 * array.dtype.itemsize}"), kind))
    if array.dtype.kind in "ui" and question.what == "encode":
        signed_values = array.dtype.kind == "i" and question.dtype.family == "integer"
        if form == "values" or (form is None and signed_values):
            return _of_values(question, array.astype(np.float64))
        return _of_codes(array, bits)
    wanted = "real numbers" if question.what == "decode" else "codes (integers) or real numbers"
    raise Refused(located(where, f"the answer has dtype {kind}; give {wanted}"))


def _of_codes(codes: Array, bits: int) -> Theirs:
    return Theirs(_alone(_in_range(codes, bits)), given=("codes",), raw=codes)


def _of_values(question: Question, values: NDArray[np.float64]) -> Theirs:
    """Return real numbers, and for an encoder the code of each that is a level; the sign of zero counts."""
    codes = np.full(values.shape, -1, np.int64)
    if question.what == "encode":
        d = question.dtype
        order = np.array([*d.emitted.tolist(), *d.unused])
        first, index = np.unique(identity(d.levels[order]), return_index=True)
        words = identity(values)
        at = np.minimum(np.searchsorted(first, words), first.size - 1)
        codes = np.where(first[at] == words, order[index[at]], -1)
        if question.nan_codes is not None and values.shape == question.x.shape:
            codes = np.where(np.isnan(values) & np.isnan(question.x), question.ours, codes)
    return Theirs(_alone(codes.astype(np.int64)), values, given=("decoded",))


def _alone(codes: NDArray[np.int64]) -> Stored:
    """Return codes of a type, which have no scale."""
    return Stored(codes, {}, None, np.zeros(1, bool))


def _in_range(codes: Array, bits: int) -> NDArray[np.int64]:
    """Convert numbers to codes; -1 for a number that is none."""
    inside = (codes >= 0) & (codes < 2**bits)
    return np.where(inside, codes, 0).astype(np.int64) - np.int64(~inside)


# Schemes ---------------------------------------------------------------------------------------------


def read(s: Scheme, shape: tuple[int, ...], parts: dict[str, Array]) -> Theirs:
    """Convert an answer to parts in the form of the reference.

    Raises
    ------
    Refused
        A part is missing, too short, too long, of the wrong kind, or unknown.
    """
    unknown = set(parts) - {*PARTS, *EXTRA}
    if unknown:
        raise Refused(f"there is no part named {sorted(unknown)[0]}; parts are {', '.join(PARTS)}")
    has_codes = "codes" in parts or "packed" in parts
    if not has_codes and "decoded" not in parts:
        raise Refused("neither codes nor packed bytes nor decoded numbers came back")
    index = block_index(s, shape)
    n_blocks = int(index.max()) + 1 if index.size else 0
    order = parts.get("order")
    packed = _bytes(parts["packed"]) if "packed" in parts else None
    if has_codes:
        codes = _codes(s, shape, parts["codes"]) if "codes" in parts else _unpacked(s, shape, packed, order)
    else:
        codes = np.full(shape, -1, np.int64)
    rows = s.cut.rows(np.where(codes < 0, 0, codes)).reshape(-1).astype(np.uint8)
    in_order = rows if order is None else rows[order]
    again = None
    if packed is not None:
        again = repacked(s, in_order)
        if packed.shape != again.shape:
            raise Refused(f"{packed.size} packed bytes came back, layout {s.layout.name} has {again.size}")
    blocks = {name: _per_block(s, name, parts[name], n_blocks) for name in PARTS[:3] if name in parts}
    whole = float(parts["global_scale"].reshape(-1)[0]) if "global_scale" in parts else None
    decoded = None
    if "decoded" in parts:
        decoded = parts["decoded"].astype(np.float64)
        if decoded.shape != shape:
            raise Refused(f"decoded has the shape {list(decoded.shape)}, x has {list(shape)}")
    double = {name: parts[name].reshape(-1).astype(np.float64) for name in DOUBLE if name in parts}
    stored = Stored(codes, blocks, whole, np.zeros(n_blocks, bool), double=double)
    given = tuple(name for name in PARTS if name in parts)
    return Theirs(stored, decoded, packed, again, in_order, given, parts.get("codes"), order is not None)


def _bytes(packed: Array) -> NDArray[np.uint8]:
    if packed.dtype != np.uint8:
        raise Refused(f"packed is an array of {packed.dtype}, bytes are uint8")
    return packed.reshape(-1)


def _codes(s: Scheme, shape: tuple[int, ...], codes: Array) -> NDArray[np.int64]:
    if codes.shape != shape:
        raise Refused(f"codes have the shape {list(codes.shape)}, x has {list(shape)}")
    if codes.dtype.kind not in "iu":
        raise Refused(f"codes are an array of {codes.dtype}, not integers")
    return _in_range(codes, s.dtype.bits)


def _unpacked(s: Scheme, shape: tuple[int, ...], packed: Array | None, order: Array | None) -> NDArray[np.int64]:
    assert packed is not None
    count = int(np.prod(shape))
    if packed.size != s.layout.size(count):
        raise Refused(f"{packed.size} packed bytes came back, layout {s.layout.name} has {s.layout.size(count)}")
    flat = unpack(packed, s.layout, count).astype(np.int64)
    if order is not None:
        flat[order] = flat.copy()
    rows = s.cut.rows(np.empty(shape, np.uint8)).shape
    return np.ascontiguousarray(s.cut.join(flat.reshape(rows), shape))


def _per_block(s: Scheme, name: str, values: Array, n_blocks: int) -> NDArray[np.float64]:
    """Read numbers; scales and offsets of a narrow type may be its codes, in unsigned integers of its width."""
    if values.size != n_blocks:
        raise Refused(f"{values.size} {name} came back for {n_blocks} blocks")
    if name != "zero_points" and s.scale_dtype != "f32" and values.dtype == datatype(s.scale_type).code_dtype:
        values = decode(s.scale_type, values, threads=1)
    with np.errstate(invalid="ignore"):  # a NaN of a small float is told as one
        return values.reshape(-1).astype(np.float64)


def _zero_kind(s: Scheme) -> Any:
    """Return the NumPy type of zero points."""
    if RULES[s.rule].zero_point == "real":
        return np.float32
    return np.int8 if s.dtype.levels.min() < 0 else np.uint8


def spelled(s: Scheme, shape: tuple[int, ...], theirs: Theirs) -> NDArray[np.float64] | None:
    """Decode their codes and scales by the definition, [*shape]; None if parts are missing."""
    rows = s.cut.rows(np.empty(shape, np.uint8)).shape
    per_row = (rows[0], s.cut.per_row(rows[1]))
    blocks = {name: values.reshape(per_row) for name, values in theirs.stored.blocks.items()}
    if not theirs.says_numbers:
        return None
    zeros = blocks.get("zero_points")
    kind = _zero_kind(s)
    with np.errstate(invalid="ignore"):  # a zero point of NaN or infinity is none
        if zeros is not None and not np.array_equal(zeros, zeros.astype(kind)):
            return None
    codes = np.where(theirs.stored.codes < 0, 0, theirs.stored.codes).astype(np.uint8)
    offsets = blocks.get("offsets")
    whole = theirs.stored.global_scale
    made = QTensor(
        pack(s.cut.rows(codes), s.layout),
        blocks["scales"].astype(np.float32),
        shape,
        s,
        offsets=None if offsets is None else offsets.astype(np.float32),
        zero_points=None if zeros is None else zeros.astype(kind),
        global_scale=None if whole is None else np.float32(whole),
    )
    with np.errstate(all="ignore"):
        return dequantize(made, threads=1).astype(np.float64)
