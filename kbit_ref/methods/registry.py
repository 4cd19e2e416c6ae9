"""The registry of methods: how codes are found for a matrix. One decorated function each.

A method is spelled like a scheme's choices: `gptq`, `gptq+order=act`, `proxy+share=0.02+axis=authors`.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from typing import Any

from numpy.typing import NDArray

from kbit_ref.errors import BadInput, UnknownName, message
from kbit_ref.inputs import as_reals
from kbit_ref.methods.coded import Coded
from kbit_ref.tensors.scheme import Scheme, scheme

__all__ = ["Given", "Method", "Row", "method", "methods", "register"]

Array = NDArray[Any]


@dataclass(frozen=True, eq=False)
class Given:
    """What a method may look at besides the weights.

    Parameters
    ----------
    inputs
        [n, d_in]: calibration inputs of the matrix, or None.
    previous
        [d_in, ...]: the matrix whose outputs are this one's inputs, in the same order, or None where there is none.
    """

    inputs: Array | None = None
    previous: Array | None = None


@dataclass(frozen=True)
class Row:
    """A method by name: its function, and the values of its choices, the default first.

    A choice whose default is a number takes any number of that kind; of others the values are all there are.
    """

    name: str
    build: Callable[..., Coded]
    choices: Mapping[str, tuple[Any, ...]]
    needs: Mapping[str, str]  # parts of Given; the choice that needs it, `axis=paper`, or "": all do
    source: str

    @property
    def summary(self) -> str:
        """The first line of the docstring."""
        return (self.build.__doc__ or "").strip().splitlines()[0]


_ROWS: dict[str, Row] = {}


def register(
    name: str, *, source: str, needs: Iterable[str] | Mapping[str, str] = (), **choices: tuple[Any, ...]
) -> Callable[[Callable[..., Coded]], Callable[..., Coded]]:
    """Add a function (weights [d_out, d_in], scheme, given, **choices) -> Coded.

    `needs` are parts of `Given`; where one choice alone needs a part, `{"previous": "axis=paper"}`.
    """

    def add(build: Callable[..., Coded]) -> Callable[..., Coded]:
        assert name not in _ROWS, name
        parts = needs if isinstance(needs, Mapping) else dict.fromkeys(needs, "")
        _ROWS[name] = Row(name, build, choices, parts, source)
        return build

    return add


def methods() -> dict[str, Row]:
    """All methods by name, in the order in which they are explained."""
    return dict(_ROWS)


@dataclass(frozen=True)
class Method:
    """A method with its choices settled; call it.

    Parameters
    ----------
    row
        Which one.
    chosen
        Every choice by name.
    """

    row: Row
    chosen: Mapping[str, Any]

    def __str__(self) -> str:
        """The spelling; choices that stand at their default are left out."""
        said = [f"+{k}={v}" for k, v in self.chosen.items() if v != self.row.choices[k][0]]
        return self.row.name + "".join(said)

    @property
    def needs(self) -> tuple[str, ...]:
        """The parts of `Given` without which it cannot be called."""
        made = {f"{name}={value}" for name, value in self.chosen.items()}
        return tuple(part for part, choice in self.row.needs.items() if not choice or choice in made)

    def lacks(self, given: Given | None) -> tuple[str, ...]:
        """The parts that it needs and that are not given."""
        return tuple(part for part in self.needs if getattr(given, part, None) is None)

    def __call__(self, weights: Any, scheme_: Scheme | str, given: Given | None = None) -> Coded:
        """float [d_out, d_in] to few bits."""
        x = as_reals(self.row.name, weights)
        if x.ndim != 2 or not x.size:
            got = f"weights of shape {x.shape}"
            raise BadInput(message(self.row.name, got, "a matrix is [d_out, d_in]", "quantize one matrix at a time"))
        for part in self.lacks(given):
            raise BadInput(message(self.row.name, f"{part} = None", f"{self} needs it", f"give Given({part}=...)"))
        return self.row.build(x, scheme(scheme_), given or Given(), **self.chosen)


def method(text: str) -> Method:
    """The method of a spelling.

    Raises
    ------
    UnknownName
        `method: name = 'gtpq', there is no such name; did you mean gptq? ...`
    BadInput
        `method: order = 'up', its values are given, act; use one of them`
    """
    name, *said = text.split("+")
    if name not in _ROWS:
        raise UnknownName.among("method", "name", name, _ROWS, f"methods are {', '.join(_ROWS)}")
    row = _ROWS[name]
    chosen = {key: values[0] for key, values in row.choices.items()}
    read: dict[str, str] = {}
    for word in said:
        key, equals, value = word.partition("=")
        if key not in chosen or not equals:
            raise UnknownName.among("method", f"choice of {name}", key, chosen, f"choices are {', '.join(chosen)}")
        if key in read:
            got = f"{key} = {read[key]} and {key} = {value}"
            raise BadInput(message("method", got, "a choice is made once", "leave one of them out"))
        read[key] = value
    return Method(row, chosen | {key: _read(key, value, row.choices[key]) for key, value in read.items()})


def _read(key: str, value: str, values: tuple[Any, ...]) -> Any:
    """A choice's value: one of those listed, or a number where the default is one."""
    default = values[0]
    if isinstance(default, str):
        if value not in values:
            rule = f"its values are {', '.join(values)}"
            raise BadInput(message("method", f"{key} = {value!r}", rule, "use one of them"))
        return value
    try:
        return type(default)(value)
    except ValueError:
        rule = f"it is a number like {default}"
        raise BadInput(message("method", f"{key} = {value!r}", rule, "give one")) from None
