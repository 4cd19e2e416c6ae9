"""The header of a safetensors file: read strictly, and written.

    8 bytes: the length of the header, little-endian        the header, JSON        the data

    {"__metadata__": {"text": "text"}, "NAME": {"dtype": "F32", "shape": [2, 3], "data_offsets": [0, 24]}}

Files come from strangers, so no general JSON reader sees the header. Its grammar is small, and
what departs from it is refused where it departs: a header of a million nested or empty lists never
becomes an object. Tensors fill the data from the first byte to the last, without holes or overlaps.
"""

from __future__ import annotations

import json
import math
import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass

from kbit_ref.errors import BadInput, message

__all__ = ["BITS", "LIMIT", "Entry", "Spec", "n_elements", "parse", "shown", "written"]

BITS = {  # of an element of each of the 22 types
    "F4": 4,
    **dict.fromkeys(["F6_E2M3", "F6_E3M2"], 6),
    **dict.fromkeys(["BOOL", "U8", "I8", "F8_E5M2", "F8_E4M3", "F8_E8M0", "F8_E4M3FNUZ", "F8_E5M2FNUZ"], 8),
    **dict.fromkeys(["I16", "U16", "F16", "BF16"], 16),
    **dict.fromkeys(["I32", "U32", "F32"], 32),
    **dict.fromkeys(["C64", "F64", "I64", "U64"], 64),
}
LIMIT = 100_000_000  # bytes of a header, as in the safetensors library
MAX_NAMES = 1_000_000  # tensors, or texts of the metadata: each costs some 300 bytes of memory
MAX_AXES = 64  # of a NumPy array
METADATA = "__metadata__"
GET_AGAIN = "the file is damaged or cut: get it again"


@dataclass(frozen=True, slots=True)
class Spec:
    """A tensor to be: its name, type and shape."""

    name: str
    dtype: str
    shape: tuple[int, ...]

    @property
    def n_bytes(self) -> int:
        """Bytes that it takes."""
        return -(-math.prod(self.shape) * BITS[self.dtype] // 8)


@dataclass(frozen=True, slots=True)
class Entry(Spec):
    """A tensor in a file: bytes begin ... end of the data."""

    begin: int
    end: int


def shown(name: object) -> str:
    """A name from a file as an error may print it: short, without control characters.

    Examples
    --------
    >>> shown("model.weight"), shown("two\\nlines"), len(shown("long" * 100))
    ('model.weight', "'two\\\\nlines'", 83)
    """
    text = str(name)
    text = text if len(text) <= 200 else text[:80] + "..."
    return text if text.isprintable() else ascii(text)


def n_elements(shape: Iterable[int]) -> int | None:
    """How many elements an array of that shape has; None if no array can have it."""
    sizes = list(shape)
    if len(sizes) > MAX_AXES or any(size < 0 for size in sizes):
        return None
    # NumPy refuses a product beyond 2**63 even beside a 0, in bytes: 8 is the widest element
    return None if math.prod(filter(None, sizes)) * 8 >= 2**63 else math.prod(sizes)


# The possessive `*+` never steps back, so a text that is made to be slow is not.
_BLANK = r"[ \t\n\r]*+"
_NUMBER = r"(?:0|[1-9][0-9]{0,18}+)"
_LIST = rf"\[{_BLANK}((?:{_NUMBER}{_BLANK}(?:,{_BLANK}(?=[0-9])|(?=\]))){{0,{MAX_AXES}}}+)\]"
_VALUE = rf'(?:"([A-Z0-9_]{{1,16}}+)"|{_LIST})'
_FIELD = re.compile(rf'{_BLANK}"(dtype|shape|data_offsets)"{_BLANK}:{_BLANK}{_VALUE}{_BLANK}([,}}])')
_JSON = json.JSONDecoder()
_SPACE, _NUMBERS = re.compile(_BLANK), re.compile(_NUMBER)


def parse(header: bytes, n_data: int, where: str) -> tuple[dict[str, Entry], dict[str, str]]:
    """The tensors and the metadata of a header, all of it checked.

    Parameters
    ----------
    header
        The bytes between the length and the data.
    n_data
        How many bytes of data follow.
    where
        The file, for errors.

    Returns
    -------
    entries by name, in the order of their data; metadata

    Raises
    ------
    BadInput
        `safetensors: x.safetensors, tensor w: F32 of [2, 3] takes 24 bytes and has 20; ...`

    Examples
    --------
    >>> entries, metadata = parse(b'{"w": {"dtype": "U8", "shape": [2], "data_offsets": [0, 2]}}', 2, "a file")
    >>> entries["w"]
    Entry(name='w', dtype='U8', shape=(2,), begin=0, end=2)
    """
    try:
        text = header.decode("utf-8")
    except UnicodeDecodeError as error:
        raise _refusal(where, f"the header is no UTF-8 text (byte {error.start})") from None
    entries, metadata = _Scanner(text, where).header()
    ordered = sorted(entries.values(), key=lambda entry: (entry.begin, entry.end))
    at, before = 0, ""
    for entry in ordered:
        if entry.begin != at:
            kind = "overlap" if entry.begin < at else "leave a hole"
            beside = f"tensors {shown(before)} and {shown(entry.name)}" if before else f"tensor {shown(entry.name)}"
            start = "" if before else f" (it begins at byte {entry.begin}, not 0)"
            raise _refusal(where, f"{beside} {kind if before else 'leaves a hole'} in the data{start}")
        at, before = entry.end, entry.name
    if at != n_data:
        cut = "the end is missing" if at > n_data else "the header speaks of fewer"
        raise _refusal(where, f"its tensors take {at:,} bytes of data and the file has {n_data:,}: {cut}")
    return {entry.name: entry for entry in ordered}, metadata


def written(entries: Iterable[Entry], metadata: Mapping[str, str]) -> bytes:
    """The first bytes of a file, up to its data: length and header, filled up to a multiple of 8."""
    document: dict[str, object] = {METADATA: dict(metadata)} if metadata else {}
    for entry in entries:
        offsets = [entry.begin, entry.end]
        document[entry.name] = {"dtype": entry.dtype, "shape": list(entry.shape), "data_offsets": offsets}
    header = json.dumps(document, separators=(",", ":"), ensure_ascii=False).encode("utf-8")
    header += b" " * (-len(header) % 8)
    return len(header).to_bytes(8, "little") + header


def _refusal(where: str, rule: str, remedy: str = GET_AGAIN) -> BadInput:
    return BadInput(message("safetensors", where, rule, remedy))


class _Scanner:
    """The header, read once from left to right."""

    def __init__(self, text: str, where: str):
        self.text, self.where, self.at = text, where, 0

    def fail(self, wanted: str) -> BadInput:
        """The error for the place where the header departs from its grammar."""
        got = shown(self.text[self.at : self.at + 20]) if self.at < len(self.text) else "its end"
        return _refusal(self.where, f"the header has {got} at character {self.at} where {wanted} belongs")

    def skip_blanks(self) -> None:
        """To the next character that is no space."""
        blank = _SPACE.match(self.text, self.at)
        assert blank is not None
        self.at = blank.end()

    def symbol(self, allowed: str, wanted: str) -> str:
        """The next character that is no space, one of `allowed`."""
        self.skip_blanks()
        if self.at == len(self.text) or self.text[self.at] not in allowed:
            raise self.fail(wanted)
        self.at += 1
        return self.text[self.at - 1]

    def string(self, wanted: str) -> str:
        """The next string, quotes and all."""
        self.symbol('"', wanted)
        self.at -= 1
        try:
            value, end = _JSON.raw_decode(self.text, self.at)  # at a quote it reads a string and nothing else
            value.encode("utf-8")  # half a surrogate pair is no text
        except (json.JSONDecodeError, UnicodeEncodeError):
            raise self.fail(f"{wanted}, a proper string,") from None
        self.at = end
        return str(value)

    def header(self) -> tuple[dict[str, Entry], dict[str, str]]:
        """All of it."""
        entries: dict[str, Entry] = {}
        metadata: dict[str, str] | None = None
        self.symbol("{", "'{'")
        for name in self.keys("the name of a tensor"):
            if name in entries or (name == METADATA and metadata is not None):
                raise _refusal(self.where, f"the header names {shown(name)} twice")
            if name == METADATA:
                metadata = self.metadata()
            else:
                entries[name] = self.entry(name)
        self.skip_blanks()
        if self.at < len(self.text):
            raise self.fail("the end")
        return entries, metadata or {}

    def keys(self, wanted: str) -> Iterable[str]:
        """The keys of an object whose '{' is read; whoever takes a key reads its value."""
        self.skip_blanks()
        if self.text.startswith("}", self.at):
            self.at += 1
            return
        for _ in range(MAX_NAMES):
            key = self.string(wanted)
            self.symbol(":", "':'")
            yield key
            if self.symbol(",}", "',' or '}'") == "}":
                return
        raise _refusal(self.where, f"the header has more than {MAX_NAMES:,} names")

    def metadata(self) -> dict[str, str]:
        """Texts by name."""
        self.symbol("{", "'{'")
        found: dict[str, str] = {}
        for key in self.keys("a key of the metadata"):
            if key in found:
                raise _refusal(self.where, f"the metadata has the key {shown(key)} twice")
            found[key] = self.string("a text of the metadata")
        return found

    def entry(self, name: str) -> Entry:
        """What is said of one tensor: each of the three facts once, in any order."""
        self.symbol("{", "'{'")
        facts: dict[str, tuple[int, ...]] = {}
        dtype = ""
        for _ in range(3):
            field = _FIELD.match(self.text, self.at)
            if field is None or (field[1] == "dtype") != (field[2] is not None) or field[1] in facts:
                raise self.fail(f"dtype, shape or data_offsets of {shown(name)}, each once,")
            facts[field[1]] = tuple(map(int, _NUMBERS.findall(field[3] or "")))
            dtype = field[2] or dtype
            if (field[4] == "}") != (len(facts) == 3):
                self.at = field.end() - 1
                raise self.fail(f"all of dtype, shape and data_offsets of {shown(name)}, and nothing else,")
            self.at = field.end()
        return self.checked(name, dtype, facts["shape"], facts["data_offsets"])

    def checked(self, name: str, dtype: str, shape: tuple[int, ...], offsets: tuple[int, ...]) -> Entry:
        """The entry, if type, shape and offsets fit together."""
        tensor = f"tensor {shown(name)}"
        if dtype not in BITS:
            remedy = f"types are {', '.join(BITS)}"
            raise _refusal(self.where, f"{tensor} is of the unknown type {dtype}", remedy)
        if len(offsets) != 2 or offsets[0] > offsets[1]:
            raise _refusal(self.where, f"{tensor}: data_offsets {list(offsets)[:4]} are no [begin, end]")
        elements = n_elements(shape)
        if elements is None:
            raise _refusal(self.where, f"{tensor}: no array has the shape {shown(list(shape))}")
        bits, has = elements * BITS[dtype], offsets[1] - offsets[0]
        if bits % 8:
            raise _refusal(self.where, f"{tensor}: {elements:,} elements of {dtype} do not fill whole bytes")
        if bits // 8 != has:
            takes = f"{dtype} of {shown(list(shape))} takes {bits // 8:,} bytes and has {has:,}"
            raise _refusal(self.where, f"{tensor}: {takes}")
        return Entry(name, dtype, shape, *offsets)
