"""Reading the parts that a library gave: everything that was asked for, in the sizes that it must have."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from kbit_ref.conformance.definition import Stored, block_index
from kbit_ref.conformance.implementations.block_adapters import DOUBLE, PARTS
from kbit_ref.exact.rules import RULES
from kbit_ref.tensors.dequantize import dequantize
from kbit_ref.tensors.packing import pack, unpack
from kbit_ref.tensors.qtensor import QTensor
from kbit_ref.tensors.scheme import Scheme

__all__ = ["Refused", "Theirs", "read", "spelled"]

Array = NDArray[Any]
EXTRA = ("order",)


class Refused(Exception):
    """An answer that is no answer; the text says why."""


@dataclass
class Theirs:
    """Their parts, and those that were given as such."""

    stored: Stored
    decoded: NDArray[np.float64] | None
    packed: NDArray[np.uint8] | None
    repacked: NDArray[np.uint8] | None  # the bytes that their codes make in the layout of the profile
    in_order: NDArray[np.uint8]  # their codes in the order of the bytes
    given: tuple[str, ...]

    @property
    def has_codes(self) -> bool:
        """Did they say which codes they store?"""
        return "codes" in self.given or "packed" in self.given

    @property
    def says_numbers(self) -> bool:
        """Do codes and scales say what they stand for?"""
        return self.has_codes and "scales" in self.stored.blocks


def read(s: Scheme, shape: tuple[int, ...], parts: dict[str, Array]) -> Theirs:
    """Their parts in the form of ours.

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
    repacked = None
    if packed is not None:
        repacked = _packed(s, in_order)
        if packed.shape != repacked.shape:
            raise Refused(f"{packed.size} packed bytes came back, layout {s.layout.name} has {repacked.size}")
    blocks = {name: _per_block(name, parts[name], n_blocks) for name in PARTS[:3] if name in parts}
    whole = float(parts["global_scale"].reshape(-1)[0]) if "global_scale" in parts else None
    decoded = None
    if "decoded" in parts:
        decoded = parts["decoded"].astype(np.float64)
        if decoded.shape != shape:
            raise Refused(f"decoded has the shape {list(decoded.shape)}, x has {list(shape)}")
    double = {name: parts[name].reshape(-1).astype(np.float64) for name in DOUBLE if name in parts}
    stored = Stored(codes, blocks, whole, np.zeros(n_blocks, bool), double=double)
    return Theirs(stored, decoded, packed, repacked, in_order, tuple(name for name in PARTS if name in parts))


def _bytes(packed: Array) -> NDArray[np.uint8]:
    if packed.dtype != np.uint8:
        raise Refused(f"packed is an array of {packed.dtype}, bytes are uint8")
    return packed.reshape(-1)


def _codes(s: Scheme, shape: tuple[int, ...], codes: Array) -> NDArray[np.int64]:
    if codes.shape != shape:
        raise Refused(f"codes have the shape {list(codes.shape)}, x has {list(shape)}")
    if codes.dtype.kind not in "iu":
        raise Refused(f"codes are an array of {codes.dtype}, not integers")
    wide = codes.astype(np.int64)
    return np.where((wide < 0) | (wide >= 2**s.dtype.bits), -1, wide)


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


def _packed(s: Scheme, codes: NDArray[np.uint8]) -> NDArray[np.uint8]:
    """The bytes of codes in the scheme's layout; a short last group is filled up as the scheme says."""
    short = -codes.size % s.layout.elements
    return pack(np.concatenate([codes, np.full(short, s.fill, np.uint8)]), s.layout)


def _per_block(name: str, values: Array, n_blocks: int) -> NDArray[np.float64]:
    if values.size != n_blocks:
        raise Refused(f"{values.size} {name} came back for {n_blocks} blocks")
    with np.errstate(invalid="ignore"):  # a NaN of a small float is told as one
        return values.reshape(-1).astype(np.float64)


def _zero_kind(s: Scheme) -> Any:
    """The NumPy type of zero points."""
    if RULES[s.rule].zero_point == "real":
        return np.float32
    return np.int8 if s.dtype.levels.min() < 0 else np.uint8


def spelled(s: Scheme, shape: tuple[int, ...], theirs: Theirs) -> NDArray[np.float64] | None:
    """[*shape]: what their codes and scales stand for by our definition; None if they do not say enough."""
    rows = s.cut.rows(np.empty(shape, np.uint8)).shape
    per_row = (rows[0], s.cut.per_row(rows[1]))
    blocks = {name: values.reshape(per_row) for name, values in theirs.stored.blocks.items()}
    if not theirs.says_numbers:
        return None
    zeros = blocks.get("zero_points")
    kind = _zero_kind(s)
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
