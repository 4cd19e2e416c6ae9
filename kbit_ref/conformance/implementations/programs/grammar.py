"""What a line says: the inputs of one case, and after `->` the answers of a program.

    encode a type     x -> code                              3f000000 -> 1
    decode a type     code -> x                              1 -> 3f000000
    encode a scheme   n=N x ... -> stored ...                n=2 3f800000 bf000000 -> 3e124925 97
    decode a scheme   n=N stored ... -> x ...                n=2 3e124925 97 -> 3f800000 bf124925

Fields are hexadecimal, with a space between them; leading zeros and the case of letters do not matter.
`x` are the bits of numbers: 8 digits for float32. A line of a scheme is one row of n numbers (n is
decimal), cut into blocks from its beginning; most rows are one block. `stored` is all that is stored of
it, in this order, each only if the scheme has it:

    scales         the bits of each in its type, one a block
                   scales that are quantized again are three parts: the codes of the scales, a byte each;
                   the scales of these, a float32 for 256 blocks; their mean, a float32
    offsets        likewise; for +center=tensor one float32
    zero points    one byte a block, negative ones in two's complement; float32 where they are real
    global scale   one float32
    bytes          of the codes, in the layout of the scheme: two digits each
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass
from functools import cached_property
from typing import Any

import numpy as np
from numpy.typing import NDArray

from kbit_ref.conformance.inputs.of_types import SOURCES, WORD
from kbit_ref.datatypes.datatype import DataType, datatype
from kbit_ref.engine.codec import decode, encode
from kbit_ref.errors import BadInput, UnknownName, message
from kbit_ref.exact.rules import RULES
from kbit_ref.tensors.scheme import Scheme, named, scheme

__all__ = ["ARROW", "Case", "Field", "Form", "form"]

ARROW = "->"
DIRECTIONS = ("encode", "decode")
WHOLE = re.compile(r"u?int(\d+)")
Words = NDArray[np.uint64]


@dataclass(frozen=True)
class Field:
    """A run of fields of a line: so many numbers of one kind.

    Parameters
    ----------
    name
        As the parts of block formats are named: x, scales, ..., packed; for types x and codes.
    kind
        How a number is written in bits: a float format, uint4, int8, or the name of a type.
    """

    name: str
    kind: str
    count: int

    @cached_property
    def bits(self) -> int:
        """Return the width of one number."""
        if self.kind in WORD:
            return 8 * int(np.dtype(WORD[self.kind]).itemsize)
        whole = WHOLE.fullmatch(self.kind)
        return int(whole[1]) if whole else datatype(self.kind).bits

    @property
    def is_real(self) -> bool:
        """Return whether they are real numbers, not integers."""
        return WHOLE.fullmatch(self.kind) is None

    @property
    def digits(self) -> int:
        """Return the number of hexadecimal digits of one."""
        return -(-self.bits // 4)

    def words(self, numbers: NDArray[Any]) -> Words:
        """Return the bits of numbers; bfloat16 has them already."""
        if not self.is_real or self.kind == "bfloat16":
            return numbers.astype(np.int64).astype(np.uint64) & np.uint64(2**self.bits - 1)
        if self.kind in WORD:
            bits: Words = np.ascontiguousarray(numbers, self.kind).view(WORD[self.kind]).astype(np.uint64)
            return bits
        return encode(self.kind, numbers, threads=1).astype(np.uint64)

    def numbers(self, words: Words) -> NDArray[Any]:
        """Return the numbers of bits; those of bfloat16 are left as uint16."""
        if not self.is_real:
            width = next(size for size in (8, 16, 32, 64) if self.bits <= size)
            whole = words.astype(f"uint{width}")
            return whole if self.kind.startswith("u") else whole.view(f"int{width}")
        if self.kind in WORD:
            bits = np.ascontiguousarray(words.astype(WORD[self.kind]))
            return bits if self.kind == "bfloat16" else bits.view(self.kind)
        return decode(self.kind, words.astype(datatype(self.kind).code_dtype), threads=1)


@dataclass(frozen=True)
class Case:
    """A line that was read: the numbers in a row, the words before the arrow and those after it."""

    n: int
    given: tuple[int, ...]
    answers: tuple[int, ...]


@dataclass(frozen=True)
class Form:
    """The format of the lines about a subject. Make one with `form(...)`."""

    subject: DataType | Scheme
    what: str  # encode or decode
    source: str  # the float format of x; for decode that of the answers

    @property
    def is_type(self) -> bool:
        """Return whether the subject is a data type, with a value per line."""
        return isinstance(self.subject, DataType)

    @property
    def scheme(self) -> Scheme:
        """Return the scheme, if it is one."""
        assert isinstance(self.subject, Scheme)
        return self.subject

    @property
    def dtype(self) -> DataType:
        """Return the data type: the subject, or that of the scheme."""
        return self.subject if isinstance(self.subject, DataType) else self.subject.dtype

    def sides(self, n: int) -> tuple[tuple[Field, ...], tuple[Field, ...]]:
        """Return the fields before and after the arrow, for a row of n numbers."""
        x = (Field("x", self.source, n),)
        other = (Field("codes", f"uint{self.dtype.bits}", 1),) if self.is_type else stored_fields(self.scheme, n)
        return (x, other) if self.what == "encode" else (other, x)

    def spell(self, n: int, words: Words, side: int = 0) -> str:
        """Spell one side of a line from its words."""
        parts = [] if self.is_type or side else [f"n={n}"]
        at = 0
        for field in self.sides(n)[side]:
            some = words[at : at + field.count].tolist()
            parts += [f"{word:0{field.digits}x}" for word in some]
            at += field.count
        return " ".join(parts)

    def given(self, line: str) -> Case:
        """Return a line that has no answer yet."""
        fields = line.split()
        n = 1 if self.is_type else int(fields.pop(0).removeprefix("n="))
        return Case(n, tuple(int(field, 16) for field in fields), ())

    def parse(self, line: str, where: str) -> Case:
        """Parse a line; `where` says which.

        Raises
        ------
        BadInput
            `check: line 7: field 3 after the arrow = 'xyz', it is no hexadecimal number; ...`
        """
        before, arrow, after = line.partition(ARROW)
        if not arrow:
            remedy = f"write the line as it came, {ARROW}, the answer"
            _refuse(f"{where} = {_short(line)}", f"it has no {ARROW}", remedy)
        left, n = before.split(), 1
        if not self.is_type:
            match = re.fullmatch(r"n=([1-9]\d{0,8})", left[0]) if left else None
            if match is None:
                _refuse(f"{where} = {_short(line)}", "it does not begin with n=, a number", "write the line as it came")
            assert match is not None
            left, n = left[1:], int(match[1])
        given, answers = self.sides(n)
        return Case(
            n,
            tuple(_words(left, given, where, f"before the {ARROW}")),
            tuple(_words(after.split(), answers, where, f"after the {ARROW}")),
        )


def form(subject: str | DataType | Scheme, what: str = "encode", source: str = "float32") -> Form:
    """Return what the lines about a data type, a scheme or a profile look like.

    Parameters
    ----------
    what
        `encode` or `decode`.
    source
        The format of the numbers that are encoded.

    Examples
    --------
    >>> f = form("nf4-b64-absmax-f32")
    >>> [(field.name, field.bits, field.count) for field in f.sides(64)[1]]
    [('scales', 32, 1), ('packed', 8, 32)]
    >>> form("e2m1fn").parse("3f000000 -> 1", "line 1")
    Case(n=1, given=(1056964608,), answers=(1,))
    """
    if what not in DIRECTIONS:
        raise UnknownName.among("form", "direction", what, DIRECTIONS, f"use {', '.join(DIRECTIONS)}")
    if source not in SOURCES:
        raise UnknownName.among("form", "source", source, SOURCES, f"use {', '.join(SOURCES)}")
    found = named(subject) if isinstance(subject, str) else subject
    dtype = found.dtype if isinstance(found, Scheme) else found
    if dtype.rounding.startswith("stochastic"):
        got, rule = f"subject = {found}", "stochastic rounding needs random bits, and lines have none"
        raise BadInput(message("form", got, rule, "leave the rounding out"))
    if isinstance(found, Scheme):
        found = in_rows(found)
    if what == "decode":
        source = "float32" if isinstance(found, Scheme) else found.level_dtype.name
    return Form(found, what, source)


def in_rows(s: Scheme) -> Scheme:
    """Return the scheme with blocks along a row: a line does not say which axis of an array that was."""
    plain = {"b": f"b{s.cut.size}" + ("@-1" if s.cut.axis is not None else ""), "channel": "channel"}
    return scheme(str(s).replace(f"-{s.cut}-", f"-{plain.get(s.cut.kind, 'tensor')}-", 1))


def stored_fields(s: Scheme, n: int) -> tuple[Field, ...]:
    """Return what a scheme stores for a row of n numbers."""
    n_blocks, rule = s.cut.per_row(n), RULES[s.rule]
    scale = "float32" if s.scale_dtype == "f32" else s.scale_type
    found = [Field("scales", scale, n_blocks)]
    if s.double is not None:
        assert s.double.layout.bits == 8  # a byte each
        found = [
            Field("scale_codes", "uint8", n_blocks),
            Field("scale_scales", "float32", s.double.cut.per_row(n_blocks)),
        ]
        found.append(Field("scale_offset", "float32", 1))
    if s["center"] == "tensor":
        found.append(Field("offsets", "float32", 1))
    elif rule.offset_added or s["center"] == "block":
        found.append(Field("offsets", scale, n_blocks))
    if rule.zero_point:
        whole = "uint8" if s.dtype.levels.min() >= 0 else "int8"
        found.append(Field("zero_points", "float32" if rule.zero_point == "real" else whole, n_blocks))
    if s["global"] != "none":
        found.append(Field("global_scale", "float32", 1))
    return (*found, Field("packed", "uint8", s.layout.size(n)))


def split(fields: tuple[Field, ...], words: Words) -> Iterator[tuple[Field, Words]]:
    """Split the words of rows by field: [m, all] -> for each field [m, count]."""
    at = 0
    for field in fields:
        yield field, words[:, at : at + field.count]
        at += field.count


def _words(texts: list[str], fields: tuple[Field, ...], where: str, side: str) -> list[int]:
    """Return the words of one side of a line."""
    wanted = sum(field.count for field in fields)
    if len(texts) != wanted:
        names = " + ".join(f"{field.count} {field.name.replace('_', ' ')}" for field in fields)
        _refuse(f"{where} = {len(texts)} fields {side}", f"there must be {wanted}: {names}", "see kbit-ref gen --help")
    words, at = [], 0
    for field in fields:
        limit = 1 << field.bits
        for text in texts[at : at + field.count]:
            at += 1
            if not re.fullmatch("[0-9a-fA-F]{1,16}", text):
                got = f"{where}: field {at} {side} = {_short(text)}"
                _refuse(got, "it is no hexadecimal number", "write digits only, as %x does")
            word = int(text, 16)
            if word >= limit:
                got = f"{where}: field {at} {side} = {text}"
                _refuse(got, f"{field.name.replace('_', ' ')} have {field.bits} bits", "write the bits of the number")
            words.append(word)
    return words


def _short(text: str) -> str:
    return repr(text if len(text) <= 40 else text[:40] + "...")


def _refuse(got: str, rule: str, remedy: str) -> None:
    raise BadInput(message("check", got, rule, remedy))
