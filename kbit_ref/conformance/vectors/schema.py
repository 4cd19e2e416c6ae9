"""A document against a JSON schema: the words of the language that ours uses, and no others."""

from __future__ import annotations

import json
import re
from collections.abc import Callable, Iterator, Mapping
from functools import cache
from typing import Any

from kbit_ref.data import data_folder

__all__ = ["load", "problems"]

Schema = Mapping[str, Any]
_TYPES: dict[str, tuple[type, ...]] = {"object": (dict,), "array": (list,), "string": (str,), "integer": (int,)}
_TOLD = {"$schema", "$defs", "title", "description"}  # for people, or looked up


@cache
def load(name: str) -> Schema:
    """Return the schema of that name in `data/schemas`."""
    found: Schema = json.loads((data_folder("schemas") / name).read_text("utf-8"))
    return found


def problems(document: Any, schema: Schema) -> Iterator[str]:
    """Yield what the schema does not allow, each with its place.

    Examples
    --------
    >>> list(problems({"a": [1, "x"]}, {"properties": {"a": {"items": {"type": "integer"}}}}))
    ["/a/1: 'x' is no integer"]
    """
    yield from _Check(schema).at("", document, schema)


class _Check:
    """One walk through a document; `root` is where `$ref` points into."""

    def __init__(self, root: Schema):
        self.root = root

    def at(self, place: str, value: Any, schema: Schema) -> Iterator[str]:
        """Yield the problems of a value and of all below it."""
        for word, wanted in schema.items():
            if word == "$ref":
                yield from self.at(place, value, self.root["$defs"][wanted.removeprefix("#/$defs/")])
            elif word not in _TOLD:
                rule: Callable[[str, Any, Any, Schema], Iterator[str]] = getattr(self, f"_{word}")
                yield from rule(place, value, wanted, schema)

    def _type(self, place: str, value: Any, wanted: str, _: Schema) -> Iterator[str]:
        if not isinstance(value, _TYPES[wanted]) or isinstance(value, bool):
            yield f"{place}: {_shown(value)} is no {wanted}"

    def _const(self, place: str, value: Any, wanted: Any, _: Schema) -> Iterator[str]:
        if value != wanted:
            yield f"{place}: {_shown(value)} is not {wanted!r}"

    def _enum(self, place: str, value: Any, wanted: list[Any], _: Schema) -> Iterator[str]:
        if value not in wanted:
            yield f"{place}: {_shown(value)} is none of {', '.join(map(str, wanted))}"

    def _pattern(self, place: str, value: Any, wanted: str, _: Schema) -> Iterator[str]:
        end = r"\Z"  # a schema means the very end by $, Python the place before a last new line as well
        if isinstance(value, str) and not re.search(wanted.replace("$", end), value):
            yield f"{place}: {_shown(value)} is not spelled as it must be"

    def _minimum(self, place: str, value: Any, wanted: int, _: Schema) -> Iterator[str]:
        if isinstance(value, int) and value < wanted:
            yield f"{place}: {_shown(value)} is below {wanted}"

    def _maximum(self, place: str, value: Any, wanted: int, _: Schema) -> Iterator[str]:
        if isinstance(value, int) and value > wanted:
            yield f"{place}: {_shown(value)} is above {wanted}"

    def _minItems(self, place: str, value: Any, wanted: int, _: Schema) -> Iterator[str]:  # noqa: N802
        if isinstance(value, list) and len(value) < wanted:
            yield f"{place}: it has {len(value)} items, at least {wanted} must be there"

    def _maxItems(self, place: str, value: Any, wanted: int, _: Schema) -> Iterator[str]:  # noqa: N802
        if isinstance(value, list) and len(value) > wanted:
            yield f"{place}: it has {len(value)} items, at most {wanted} may be there"

    def _uniqueItems(self, place: str, value: Any, wanted: bool, _: Schema) -> Iterator[str]:  # noqa: N802
        if wanted and isinstance(value, list) and len({json.dumps(item) for item in value}) < len(value):
            yield f"{place}: an item is there twice"

    def _required(self, place: str, value: Any, wanted: list[str], _: Schema) -> Iterator[str]:
        if isinstance(value, dict):
            yield from (f"{place}: {name} is missing" for name in wanted if name not in value)

    def _properties(self, place: str, value: Any, wanted: Mapping[str, Schema], _: Schema) -> Iterator[str]:
        if isinstance(value, dict):
            for name, schema in wanted.items():
                if name in value:
                    yield from self.at(f"{place}/{name}", value[name], schema)

    def _additionalProperties(self, place: str, value: Any, wanted: Any, schema: Schema) -> Iterator[str]:  # noqa: N802
        others = [name for name in value if name not in schema.get("properties", {})] if isinstance(value, dict) else []
        for name in others:
            if wanted is False:
                yield f"{place}: {_shown(name)} is not known here"
            else:
                yield from self.at(f"{place}/{_shown(name)[1:-1]}", value[name], wanted)

    def _propertyNames(self, place: str, value: Any, wanted: Schema, _: Schema) -> Iterator[str]:  # noqa: N802
        if isinstance(value, dict):
            for name in value:
                yield from self.at(place, name, wanted)

    def _items(self, place: str, value: Any, wanted: Schema, _: Schema) -> Iterator[str]:
        if isinstance(value, list):
            for i, item in enumerate(value):
                yield from self.at(f"{place}/{i}", item, wanted)


def _shown(value: Any) -> str:
    """Return an untrusted value, shortened and on one line."""
    if isinstance(value, dict | list):
        return "an object" if isinstance(value, dict) else "a list"
    text = ascii(value)
    return text if len(text) <= 60 else text[:40] + "..."
