"""Data types that a file brings along: those that a fresh process does not know by name.

A type learned from data, or registered by a user, stands in the file with all that decides bytes:

    "quantile4~3f9a01c2": {"bits": 4, "levels": ["-0x1.0000000000000p+0", ...], "ties": "lower", ...}

Reading it registers nothing: the type belongs to the schemes of that file, whatever type the
process knows under the same name.
"""

from __future__ import annotations

import hashlib
import re
import threading
from collections.abc import Mapping
from dataclasses import replace
from typing import Any

from kbit_ref import exact
from kbit_ref.checkpoints.header import shown
from kbit_ref.datatypes.datatype import DataType, _registered, _resolve, datatype, families, register
from kbit_ref.errors import BadInput, KbitError, message
from kbit_ref.tensors.scheme import Scheme, scheme

__all__ = ["as_row", "brought", "from_row", "scheme_of"]

ROW = ("bits", "levels", "unused", *exact.CHOICES, "beyond", "meaning")  # all that decides bytes
LEARNED = re.compile(r"(?:quantile|lloyd)[2-8]~([0-9a-f]{8})")  # as `kb.learn` names a type after its levels
MOST_BITS = 8  # of the types of schemes


def brought(s: Scheme) -> dict[str, DataType]:
    """The types by name that a file of that scheme has to hold: its own, or none.

    Raises
    ------
    BadInput
        `quantize: scheme = mine-b64-absmax-f32, ...`, where a reader would not get the same scheme.
    """
    name = s.dtype.name.partition("+")[0]
    types: dict[str, DataType] = {}
    try:
        if not _built_in(name):
            base = s.dtype if name == s.dtype.name else datatype(name)
            types[name] = from_row(name, as_row(base))
        same = scheme_of(str(s), types) == s
    except KbitError as error:
        text = str(error).partition(": ")[2]
        raise BadInput(f"quantize: type {shown(name)} cannot go into a file: {text}") from None
    if not same:
        rule = f"a file would say {shown(s)}, which is another scheme"
        remedy = "make it with kb.scheme, of a type with a name of its own"
        raise BadInput(message("quantize", f"a scheme of the type {shown(s.dtype)}", rule, remedy))
    return types


def as_row(dtype: DataType) -> dict[str, object]:
    """The type as JSON has it; numbers exactly, in hexadecimal.

    Examples
    --------
    >>> row = as_row(DataType.from_levels([-1, 0.25], name="two"))
    >>> row["levels"], row["ties"], row["beyond"]
    (['-0x1.0000000000000p+0', '0x1.0000000000000p-2'], 'lower', None)
    """
    row: dict[str, object] = {name: getattr(dtype, name) for name in ROW}
    row["levels"] = [level.hex() for level in dtype.levels.tolist()]
    row["unused"] = list(dtype.unused)
    row["beyond"] = None if dtype.beyond is None else float(dtype.beyond).hex()
    return row


def from_row(name: str, row: Any) -> DataType:
    """The type that a row stands for; the row may come from anyone.

    Raises
    ------
    BadInput
        `type: name = quantile4~3f9a01c2, its name is the hash of other levels; ...`
    """

    def refuse(rule: str) -> BadInput:
        return BadInput(message("type", f"name = {shown(name)}", rule, "quantize the original again"))

    if len(name) > 100 or not re.fullmatch(r"[A-Za-z_][\w.~]*", name):
        raise refuse("a name is letters, digits, _ . ~")
    if not isinstance(row, dict) or set(row) != set(ROW):
        raise refuse(f"it has not just {', '.join(ROW)}")
    if type(row["bits"]) is not int or not 1 <= row["bits"] <= MOST_BITS:
        raise refuse(f"bits = {shown(row['bits'])}, schemes are for 1 to {MOST_BITS}")
    levels = row["levels"]
    if not isinstance(levels, list) or len(levels) != 2 ** row["bits"]:
        raise refuse(f"it has not 2**{row['bits']} levels")
    if not isinstance(row["unused"], list) or not all(type(code) is int for code in row["unused"]):
        raise refuse("unused is no list of codes")
    if type(row["meaning"]) is not int or not all(isinstance(row[choice], str) for choice in exact.CHOICES):
        raise refuse("a choice is no name, or the meaning no number")
    numbers = [number for number in map(_number, levels) if number is not None]
    beyond = None if row["beyond"] is None else _number(row["beyond"])
    if len(numbers) < len(levels) or (row["beyond"] is not None and beyond is None):
        raise refuse("a level is no number in hexadecimal, as float.hex writes it")
    choices = {choice: row[choice] for choice in exact.CHOICES} | {"beyond": beyond, "meaning": row["meaning"]}
    found = DataType.from_levels(
        numbers, name=name, bits=row["bits"], unused=row["unused"], source="a file", **choices
    )
    if (match := LEARNED.fullmatch(name)) and match[1] != _digest(found):
        raise refuse("its name is the hash of other levels")
    if _built_in(name) and datatype(name) != found:
        raise refuse("this version has another type of that name")
    return found


def _number(text: object) -> float | None:
    """The number of a hexadecimal spelling, of the one that `float.hex` gives."""
    try:
        number = float.fromhex(str(text))
    except (ValueError, OverflowError):
        return None
    return number if number.hex() == text else None


def _digest(dtype: DataType) -> str:
    return hashlib.sha256(dtype.levels.astype("<f4").tobytes()).hexdigest()[:8]


def _built_in(name: str) -> bool:
    """Does every process know the name, by a row of our own registry?"""
    rows = (row for row in families() if row.build.__module__.startswith("kbit_ref."))
    return any(row.arguments(name) is not None for row in rows)


_one_at_a_time = threading.Lock()


def scheme_of(text: str, types: Mapping[str, DataType]) -> Scheme:
    """The scheme of that spelling, where `types` come before those that the process knows.

    Examples
    --------
    >>> two = DataType.from_levels([-1, 0.25], name="two")
    >>> scheme_of("two-b64-absmax-f32+ties=upper", {"two": two}).dtype.levels
    array([-1.  ,  0.25])
    """
    name = re.split("[-+]", text, maxsplit=1)[0]
    if name not in types:
        return scheme(text)
    # the registry is how a spelling finds a type: it knows this one for a moment, under a name that nobody has
    passing = f"{name}~{hashlib.sha256(repr(as_row(types[name])).encode()).hexdigest()}"
    with _one_at_a_time:
        register(replace(types[name], name=passing))
        try:
            found = scheme(passing + text.removeprefix(name))
        except KbitError as error:
            raise type(error)(str(error).replace(passing, name)) from None
        finally:
            _registered.pop(passing, None)
            _resolve.cache_clear()
    choices = {key: value for key, value in found.choices.items() if key in exact.CHOICES}
    return replace(found, dtype=types[name].with_choices(**choices) if choices else types[name])
