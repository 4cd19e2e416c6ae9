"""Names with parameters, `int{bits}`, and the functions behind them: how every list here is kept."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from itertools import product
from typing import Any, Generic, TypeVar

__all__ = ["Registry", "Row"]

T = TypeVar("T")
Build = TypeVar("Build", bound=Callable[..., Any])


@dataclass(frozen=True)
class Row(Generic[T]):
    """A pattern of names, and the function that makes the thing behind each name.

    `pattern` holds parameters in braces; `parameters` gives the values of each one, `where` which
    combinations exist. A `grammar` has too many names to list: they resolve all the same.
    `facts` is what a table says of the row: its family, its source.
    """

    pattern: str
    build: Callable[..., T]
    parameters: Mapping[str, Sequence[int | str]]
    where: Callable[..., bool]
    grammar: bool
    facts: Mapping[str, str]

    @property
    def summary(self) -> str:
        """The first line of the function's docstring."""
        return (self.build.__doc__ or "").strip().splitlines()[0]

    @property
    def spelled(self) -> str:
        """The names for a table: `int2 ... int8`, or the pattern of a grammar."""
        if self.grammar:
            return self.pattern
        first, *others = self.names()
        return f"{first} ... {others[-1]}" if others else first

    @cached_property
    def regex(self) -> re.Pattern[str]:
        """The pattern as a regular expression with a named group for each parameter."""

        def group(match: re.Match[str]) -> str:
            values = self.parameters[match[1]]
            spelled = r"\d+" if isinstance(values[0], int) else "|".join(map(re.escape, map(str, values)))
            return f"(?P<{match[1]}>{spelled})"

        return re.compile(re.sub(r"{(\w+)}", group, self.pattern))

    def names(self) -> Iterator[str]:
        """Every name of the row, in order."""
        for values in product(*self.parameters.values()):
            chosen = dict(zip(self.parameters, values, strict=True))
            if self.where(**chosen):
                yield self.pattern.format(**chosen)

    def arguments(self, name: str) -> dict[str, Any] | None:
        """The parameters that give this name, or None if the name is not of this row."""
        match = self.regex.fullmatch(name)
        if match is None:
            return None
        values: dict[str, Any] = {}
        for key, text in match.groupdict().items():
            value = int(text) if isinstance(self.parameters[key][0], int) else text
            if value not in self.parameters[key] or str(value) != text:
                return None
            values[key] = value
        return values if self.where(**values) else None


@dataclass
class Registry(Generic[T]):
    """Rows in reading order."""

    rows: list[Row[T]] = field(default_factory=list)

    def row(
        self,
        pattern: str,
        *,
        facts: Mapping[str, str],
        where: Callable[..., bool] = lambda **_: True,
        grammar: bool = False,
        parameters: Mapping[str, Sequence[int | str]],
    ) -> Callable[[Build], Build]:
        """Decorate the function that makes the thing behind each name of the pattern."""

        def decorate(build: Build) -> Build:
            self.rows.append(Row(pattern, build, parameters, where, grammar, facts))
            return build

        return decorate

    def names(self, *, grammar: bool = False) -> Iterator[str]:
        """All names, those of grammars if asked."""
        return (name for row in self.rows if grammar or not row.grammar for name in row.names())

    def find(self, name: str) -> tuple[Row[T], T] | None:
        """The row of a name and what its function makes of it, or None."""
        for row in self.rows:
            arguments = row.arguments(name)
            if arguments is not None:
                return row, row.build(**arguments)
        return None
