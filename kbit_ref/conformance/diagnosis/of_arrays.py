"""The answers for arrays as evidence: those that have been compared, and what `diagnose` is given."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from typing import Any

import numpy as np
from numpy.typing import NDArray

from kbit_ref.conformance.compare import PER_BLOCK, Compared
from kbit_ref.conformance.definition import block_index, independent
from kbit_ref.conformance.diagnosis.evidence import NAMES, SMALL, Evidence, Piece, spread_evenly
from kbit_ref.conformance.inputs.of_schemes import shaped
from kbit_ref.engine.codec import decode
from kbit_ref.errors import BadInput, message
from kbit_ref.exact.rules import RULES
from kbit_ref.inputs import as_reals
from kbit_ref.tensors.packing import unpack
from kbit_ref.tensors.scheme import Scheme
from kbit_ref.tensors.steps import READER, WRITER, Reader, Runner, Steps, Stored, reference

__all__ = ["evidence", "of_answers"]

Array = NDArray[Any]

MOST = 1 << 15  # numbers of an array that is sampled as it is, if there is no other one
ARRAYS, LARGE = 4, 3  # of each kind that differ, in a sample


@dataclass(frozen=True, eq=False)
class _Answers:
    """An array, and what there is of it: what a writer gave, or what a reader was given."""

    s: Scheme
    base: Steps
    of: int
    shape: tuple[int, ...]
    x: Array | None  # [*shape]
    codes: Array | None  # [*shape], -1 where there is none
    packed: NDArray[np.uint8] | None  # the bytes of the codes in the order of the cut
    from_bytes: bool  # the codes are those of the bytes
    blocks: dict[str, Array]  # [n_blocks]
    global_scale: Any
    values: Array | None  # [*shape]
    judged: tuple[str, ...]  # of what a writer gives
    apart: bool  # codes and numbers say what values are read from
    answered: NDArray[np.bool_]  # [n_blocks]: the scheme has an answer

    @cached_property
    def index(self) -> NDArray[np.intp]:
        """Return the block of each element, [*shape]."""
        return block_index(self.s, self.shape)

    @property
    def usable(self) -> bool:
        """Return whether its answers can be compared with what a mistake makes."""
        return bool(self.answered.all() or (self.answered.any() and independent(self.s)))

    @property
    def in_blocks(self) -> bool:
        """Return whether its blocks can be combined in other arrays."""
        length = self.s.cut.grid(self.shape)[1]
        return self.s.cut.size is not None and independent(self.s) and bool(length) and length % self.s.cut.size == 0

    @property
    def size(self) -> int:
        """Return how many numbers."""
        return int(np.prod(self.shape))

    def pieces(self, some: NDArray[np.intp] | None = None) -> Iterator[Piece]:
        """From numbers to what is stored, and on to values; of all blocks or of some."""
        s, picked = self.s, some is not None
        places, at = np.arange(self.size).reshape(self.shape), {}
        numbers = np.arange(self.answered.size)
        if some is not None:
            assert s.cut.size is not None
            places, numbers = shaped(s.cut.rows(places).reshape(-1, s.cut.size)[some], s), some
            at = {"codes": places, "values": places, **dict.fromkeys(PER_BLOCK, numbers)}

        def taken(array: Array) -> Array:
            return np.ascontiguousarray(array.reshape(-1)[places.reshape(-1)].reshape(places.shape))

        codes, values = (None if each is None else taken(each) for each in (self.codes, self.values))
        blocks = {n: part.reshape(-1) if some is None else part.reshape(-1)[some] for n, part in self.blocks.items()}
        packed = self.packed
        if some is not None and packed is not None:  # of blocks that fill whole groups of bytes
            whole = self.size % self.answered.size == 0 and packed.size == self.s.layout.size(self.size)
            whole = whole and self.size // self.answered.size % self.s.layout.elements == 0
            packed = packed.reshape(self.answered.size, -1)[some].reshape(-1) if whole else None
        parts: dict[str, Any] = {"codes": codes, "packed": packed, "global_scale": self.global_scale, **blocks}
        about: dict[str, Any] = {"at": at, "of": self.of, "picked": picked}
        if self.x is not None:
            x, judged = taken(self.x), {}
            if not self.answered[numbers].all():  # the scheme has no answer for a block: another one in its place
                bad = taken(~self.answered[self.index])
                x = np.where(bad, x.dtype.type(1), x)
                judged = {"codes": ~bad, "values": ~bad, **dict.fromkeys(PER_BLOCK, self.answered[numbers])}
            answers = {name: np.asarray(parts[name]) for name in self.judged if parts.get(name) is not None}
            answers |= {"values": values} if values is not None and not self.apart else {}
            if answers:
                yield _write(self.base, x, answers, self.from_bytes, **about, open=judged)
        packs = codes is not None and packed is not None and not self.from_bytes and self.x is not None
        if packs or (values is not None and self.apart):
            answers = {"values": values} if values is not None and self.apart else {}
            answers |= {"packed": packed} if packed is not None and packs else {}
            packed = None if packs else packed
            yield self._reading(codes, packed, blocks, numbers, places.shape, answers, about)

    def _reading(
        self,
        codes: Array | None,
        packed: Array | None,
        blocks: dict[str, Array],
        numbers: NDArray[np.intp],
        shape: tuple[int, ...],
        answers: dict[str, Array],
        about: dict[str, Any],
    ) -> Piece:
        """From codes to bytes, and from what is stored to values."""
        s = self.s
        n_rows, length = s.cut.grid(shape)
        grid = (n_rows, s.cut.per_row(length))
        zero = None if "zero_points" not in blocks else _zeros(s, blocks["zero_points"]).reshape(grid)
        offset = None if "offsets" not in blocks else np.asarray(blocks["offsets"], np.float32)
        scales = np.asarray(blocks.get("scales", np.ones(grid)), np.float32).reshape(grid)
        whole = None if self.global_scale is None else np.float32(self.global_scale)
        if offset is not None:
            offset = offset.reshape(grid if offset.size == scales.size else (1, 1))
        stored = Stored(np.zeros(0, np.uint8), scales, offset, zero, whole, shape)
        if packed is not None:
            return _read(self.base, replace(stored, packed=packed), None, answers, **about)
        assert codes is not None
        finite = self.answered[numbers] | np.all([np.isfinite(part) for part in blocks.values()], axis=0)
        judged = {"values": (codes >= 0) & finite[block_index(s, shape)]} if "values" in answers else {}
        return _read(self.base, stored, np.maximum(codes, 0).astype(np.uint8), answers, open=judged, **about)


def _write(base: Steps, x: Array, theirs: dict[str, Array], from_bytes: bool, **about: Any) -> Piece:
    """From numbers to what is stored, and if there are values among the answers to these."""
    runner = Runner(x)
    values, packs = "values" in theirs, from_bytes or "packed" in theirs

    def make(steps: Steps, keep: bool) -> dict[str, Array]:
        if values:
            made = runner(steps, keep=keep).parts()
        else:
            written = runner.write(steps if packs else replace(steps, pack=_nothing), keep=keep)
            made = {name: part for name, part in vars(written.stored).items() if part is not None}
            made["codes"] = written.codes
        if from_bytes and steps.pack is not base.pack:
            made["codes"] = base.cut.join(base.unpack(made["packed"], base.cut.grid(x.shape)), x.shape)
        return made

    uses = {*WRITER, *(READER if values else ())} - (set() if packs or values else {"pack"})
    return Piece(base, make, theirs, given=x, uses=frozenset(uses), **about)


def _nothing(codes: Array) -> NDArray[np.uint8]:
    """Return no bytes, where none are judged."""
    return np.zeros(0, np.uint8)


def _read(base: Steps, stored: Stored, codes: Array | None, theirs: dict[str, Array], **about: Any) -> Piece:
    """From what is stored, codes [*shape] if they are known and bytes else, to values."""

    def packed(steps: Steps) -> Stored:
        assert codes is not None
        return replace(stored, packed=steps.pack(np.ascontiguousarray(base.cut.rows(codes))))

    right = stored if codes is None else packed(base)
    reader = Reader(right)

    def make(steps: Steps, keep: bool) -> dict[str, Array]:
        given = right
        if steps.cut != base.cut:
            given = _in_rows(steps, right if codes is None else packed(steps))
        elif codes is not None and steps.pack is not base.pack:
            given = packed(steps)
        if "values" not in theirs:
            return {"packed": given.packed}
        return {"packed": given.packed, "values": (reader if given is right else Reader(given))(steps, keep=keep)}

    uses = frozenset(("cut", "pack", *READER)) if "values" in theirs else frozenset(("cut", "pack"))
    return Piece(base, make, theirs, given=right, uses=uses, **about)


def _in_rows(steps: Steps, stored: Stored) -> Stored:
    """Return the same numbers of blocks in the rows of another cut, if there are as many."""
    n_rows, length = steps.cut.grid(stored.shape)
    grid = (n_rows, -(-length // (steps.cut.size or max(length, 1))))
    parts = {name: getattr(stored, name) for name in PER_BLOCK}
    return replace(stored, **{name: part.reshape(grid) for name, part in parts.items() if part is not None})


def of_answers(s: Scheme, compared: Sequence[Compared]) -> Evidence:
    """Return the answers for arrays, compared already; blocks for which the scheme has no answer are left out."""
    bases = {wide: reference(s, "float64" if wide else "float32") for wide in (False, True)}
    return _together(s, [_of_compared(s, bases[c.case.source == "float64"], c, i) for i, c in enumerate(compared)])


def _of_compared(s: Scheme, base: Steps, one: Compared, i: int) -> _Answers:
    theirs, stored = one.theirs, one.theirs.stored
    rows = s.cut.rows(np.maximum(stored.codes, 0)).reshape(-1)
    whole: dict[str, Any] = {} if stored.global_scale is None else {"global_scale": stored.global_scale}
    in_order = theirs.packed is not None and np.array_equal(theirs.in_order, rows)
    return _Answers(
        s=s,
        base=base,
        of=i,
        shape=one.case.words.shape,
        x=one.case.numbers,
        codes=stored.codes if theirs.has_codes else None,
        packed=theirs.packed if in_order else None,
        from_bytes="codes" not in theirs.given and theirs.has_codes,
        blocks=dict(stored.blocks),
        global_scale=stored.global_scale,
        values=theirs.decoded,
        judged=tuple(name for name in (*PER_BLOCK, "global_scale", "codes") if name in one.wrong),
        apart=theirs.says_numbers and one.spelled is not None and _says_all(s, {**stored.blocks, **whole}),
        answered=~one.ours.refused,
    )


def _together(s: Scheme, arrays: Sequence[_Answers]) -> Evidence:
    """Return all pieces of the arrays, but for the blocks that the scheme has no answer for."""
    pieces = tuple(piece for one in arrays if one.usable for piece in one.pieces())
    return Evidence(s, pieces, sample=lambda e, left: _sampled(e, left, arrays))


def _sampled(e: Evidence, left: NDArray[np.bool_], arrays: Sequence[_Answers]) -> Evidence:
    """Return small arrays as they are and some blocks of large ones, of those with such answers, and one without.

    Where all of one side agrees, it is represented by one piece.
    """
    wrong = {one.of: np.zeros(one.answered.size, bool) for one in arrays}
    sides = set()
    for piece, flags in e.by_piece(left):
        if flags.any():
            sides.add(isinstance(piece.given, Stored))
            for name, some in piece.parts(flags):
                blocks = wrong[piece.of]
                if name in ("codes", "values"):
                    blocks[arrays[piece.of].index.reshape(-1)[some]] = True
                elif some.any() and blocks.size and some.size % blocks.size == 0:  # bytes lie in the order of blocks
                    blocks |= some.reshape(blocks.size, -1).any(axis=1)
                elif some.any():
                    blocks[:] = True
    usable = sorted((one for one in arrays if one.usable), key=lambda one: one.size)
    differ = [one for one in usable if wrong[one.of].any()]
    small = [one for one in differ if one.size <= SMALL]
    small = small[: ARRAYS // 2] + small[ARRAYS // 2 :][-ARRAYS // 2 :]
    large = sorted((o for o in differ if o.in_blocks and o not in small), key=lambda o: -int(wrong[o.of].sum()))[:LARGE]
    agree = [one for one in usable if one not in differ and one.size <= SMALL]
    pieces: list[Piece] = []
    for one in small or [one for one in differ[:1] if one.size <= MOST or not large]:
        pieces += one.pieces()
    for one in large:
        n = max(8, SMALL // len(large) * one.answered.size // one.size)
        pieces += one.pieces(_some(wrong[one.of] & one.answered, one.answered, n))
    for one in agree[len(agree) // 2 :][:1]:
        pieces += one.pieces()
    kept, clean = [], set(sides)
    for piece in pieces:
        side = isinstance(piece.given, Stored)
        if side in sides or side not in clean:
            kept.append(piece)
        clean.add(side)
    return Evidence(e.subject, tuple(kept))


def _some(wrong: NDArray[np.bool_], answered: NDArray[np.bool_], n: int) -> NDArray[np.intp]:
    """Return about n blocks, evenly spread: two of three that differ, if there are so many."""
    differ, agree = np.flatnonzero(wrong), np.flatnonzero(answered & ~wrong)
    few = min(len(agree), max(1, n // 3, n - len(differ)))
    return np.sort(np.concatenate([spread_evenly(differ, n - few), spread_evenly(agree, few)]))


def _zeros(s: Scheme, zero: Array) -> Array:
    """Return zero points in the type that stores them."""
    real = RULES[s.rule].zero_point == "real"
    return zero.astype(np.float32 if real else np.uint8 if s.dtype.levels.min() >= 0 else np.int8)


# One array, as `diagnose` is given it ------------------------------------------------------------------


def evidence(s: Scheme, theirs: Any, x: Any, given: dict[str, Any]) -> Evidence:
    """Return the arguments of `diagnose`, in order.

    Raises
    ------
    BadInput
        `diagnose: theirs of shape (3, 4), x has shape (4, 3); ...`
    """
    answers = {name: value for name, value in given.items() if value is not None}
    if theirs is not None:
        array = np.asarray(theirs) if not hasattr(theirs, "dtype") or hasattr(theirs, "__array__") else theirs
        is_code = getattr(array, "dtype", np.dtype(float)).kind in "iu"
        answers["codes" if is_code else "values"] = array
    if not answers or (x is None and "values" not in answers):
        rule = "there is nothing to judge"
        remedy = "give what they made: values, or for x also codes, packed or scales"
        raise BadInput(message("diagnose", "theirs = None", rule, remedy))
    numbers = as_reals("diagnose", x if x is not None else answers["values"])
    shape = numbers.shape
    parts = {name: _answer(s, name, answers[name], shape) for name in NAMES if name in answers}
    has_all = "scales" in parts and ("packed" in parts or "codes" in parts)
    if x is None and not has_all:
        rule = "without x the bytes that they read are needed"
        raise BadInput(message("diagnose", "x = None", rule, "give x, or packed and scales"))
    n_blocks = s.cut.grid(shape)[0] * s.cut.per_row(s.cut.grid(shape)[1])
    one = _Answers(
        s=s,
        base=reference(s, "float32" if x is None else numbers.dtype.name),
        of=0,
        shape=shape,
        x=None if x is None else numbers,
        codes=_codes(s, parts, shape),
        packed=parts.get("packed"),
        from_bytes="codes" not in parts,
        blocks={name: parts[name] for name in PER_BLOCK if name in parts},
        global_scale=parts.get("global_scale"),
        values=parts.get("values"),
        judged=tuple(name for name in parts if name != "values" and (name != "packed" or "codes" not in parts)),
        apart=x is None or (has_all and _says_all(s, parts)),
        answered=np.ones(n_blocks, bool),
    )
    return _together(s, [one])


def _codes(s: Scheme, parts: dict[str, Array], shape: tuple[int, ...]) -> Array | None:
    """Return codes as they are given, or those of the bytes."""
    if "codes" in parts or "packed" not in parts:
        return parts.get("codes")
    grid = s.cut.grid(shape)
    return s.cut.join(unpack(parts["packed"], s.layout, int(np.prod(grid))).reshape(grid), shape)


def _says_all(s: Scheme, parts: dict[str, Array]) -> bool:
    """Return whether codes and numbers determine the decoded numbers."""
    rule = RULES[s.rule]
    needed = [("offsets", rule.offset_added or s["center"] != "none"), ("zero_points", bool(rule.zero_point))]
    return all(name in parts for name, need in [*needed, ("global_scale", s["global"] != "none")] if need)


def _answer(s: Scheme, name: str, part: Any, shape: tuple[int, ...]) -> Array:
    """Return one answer, in the shape that ours has."""
    n_rows, length = s.cut.grid(shape)
    blocks = n_rows, s.cut.per_row(length)
    if name == "values":
        array = as_reals("diagnose", part)
        wanted: tuple[int, ...] = shape
    elif name == "packed":
        raw = np.frombuffer(part, np.uint8) if isinstance(part, bytes | bytearray | memoryview) else np.asarray(part)
        array = np.ascontiguousarray(raw).view(np.uint8).reshape(-1)
        wanted = (s.layout.size(n_rows * length),)
    elif name == "codes":
        array = (np.asarray(part).astype(np.int64) & (2**s.dtype.bits - 1)).astype(np.uint8)
        wanted = shape
    elif name == "global_scale":
        array, wanted = np.asarray(part, np.float32).reshape(()), ()
    else:
        array = np.asarray(part)
        if name == "scales" and array.dtype.kind in "iu":  # bytes of a stored type
            array = decode(s.scale_type, array.astype(np.uint8), threads=1)
        centred = name == "offsets" and s["center"] == "tensor"
        wanted = (1, 1) if centred else blocks
        real = name != "zero_points" or RULES[s.rule].zero_point == "real"
        array = array.astype(np.float32 if real else np.int64)
    if array.size != int(np.prod(wanted)):
        got, rule = f"{name} of shape {array.shape}", f"{s} has shape {wanted} for x of shape {shape}"
        raise BadInput(message("diagnose", got, rule, "give all of it, in the order of the cut"))
    return array.reshape(wanted)
