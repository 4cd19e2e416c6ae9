"""`DataType`: which 2**bits numbers? And the registry that knows them all by name."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, fields, replace
from functools import cached_property, lru_cache
from typing import Any, TypeVar, overload

import numpy as np
from numpy.typing import ArrayLike, NDArray

from kbit_ref import exact
from kbit_ref.datatypes.everyday import KINDS, few_words, resolve
from kbit_ref.datatypes.levels import all_float32, check, kept, order, rational, rounded, superfluous
from kbit_ref.errors import BadInput, BadType, UnknownName, message
from kbit_ref.registry import Registry, Row

__all__ = ["DataType", "datatype", "datatypes", "families", "register"]


@dataclass(frozen=True, eq=False)
class DataType:
    """A k-bit data type: 2**bits levels, and how a number finds the one that stands for it.

    Objects are frozen, and equal if they mean the same. Make one with `kb.datatype(name)`,
    `DataType.from_levels` or `kb.learn`; derive one with `with_choices`.

    Parameters
    ----------
    name
        The spelling that finds the type again: `e4m3fn`, `nf4`, `e4m3fn+overflow=ieee`.
    bits
        Width of one code, 1 to 16.
    significands
        float64 [2**bits], indexed by code: the level is significands[code] * 2**exponents[code].
        Nearly every type has no `exponents`; its significands are its levels. Each level is a
        float32 number, or inf, nan, -0.0. (Only IEEE P3109 formats with very wide exponents have
        levels outside float32.)
    unused
        Codes that decode and are never emitted.
    ties, overflow, zero_sign, rounding, negative, beyond
        The free choices, as in `kbit_ref.exact.Definition`.
    family, source
        The kind of type, and where its numbers come from.
    meaning
        Version of the meaning; recorded by proofs and vectors, raised if a level ever changes.
    exponents
        int32 [2**bits], or None. Only there if float64 does not hold all levels; then the
        finite significands are 0 or 1/2 <= |s| < 1, and `levels` refuses.
    """

    name: str
    bits: int
    significands: NDArray[np.float64]
    unused: tuple[int, ...] = ()
    ties: str = "lower"
    overflow: str = "saturate"
    zero_sign: str = "keep"
    family: str = "custom"
    source: str = "given by the user"
    meaning: int = 1
    rounding: str = "nearest"
    negative: str = "saturate"
    beyond: exact.Level | None = None
    exponents: NDArray[np.int32] | None = None

    def __post_init__(self) -> None:
        significands, exponents = kept(self.significands, self.exponents)
        object.__setattr__(self, "significands", significands)
        object.__setattr__(self, "exponents", exponents)
        check(self.name, self.bits, significands, self.unused, any_width=self.family == "p3109")
        object.__setattr__(self, "unused", superfluous(*self.parts(), self.unused, self.zero_sign))
        _check_choices(self)
        if self.ties == "even" or self.rounding == "odd":
            parities = self.ascending % 2
            if (parities[1:] == parities[:-1]).any():
                rule = "two neighbouring levels have codes of the same parity"
                raise BadInput(message("DataType", f"{self.name}: ties = 'even'", rule, "choose ties='lower'"))

    @classmethod
    def from_levels(
        cls,
        levels: ArrayLike,
        *,
        name: str = "custom",
        bits: int | None = None,
        unused: Iterable[int] = (),
        ties: str = "lower",
        **choices: Any,
    ) -> DataType:
        """Make a data type from its levels, in the order of their codes.

        Parameters
        ----------
        levels
            1 to 65536 numbers, each exactly a float32 number. If they are fewer than 2**bits, the
            last one is repeated to fill the codes that are left, which are `unused`.
        name
            Any name that no other type has; it resolves only after `kb.register`.
        bits
            Width of a code; by default the smallest that holds the levels.
        unused, ties, choices
            Fields of `DataType`.

        Raises
        ------
        BadInput
            `DataType: levels[1] = 0.1, it is not a float32 number; round it with np.float32 first`

        Examples
        --------
        >>> import kbit_ref as kb
        >>> thirds = kb.DataType.from_levels([-1, -0.25, 0.25, 1], name="quarters")
        >>> kb.encode(thirds, [-2.0, 0.0, 0.1, 0.7])
        array([0, 1, 2, 3], dtype=uint8)
        """
        table = np.asarray(levels, np.float64)
        if table.ndim != 1 or not 1 <= table.size <= 65536:
            rule = "a type has 1 to 65536 levels in one dimension"
            raise BadInput(message("from_levels", f"levels of shape {table.shape}", rule, "flatten them"))
        bits = max(1, (table.size - 1).bit_length()) if bits is None else bits
        spare = range(table.size, 2**bits)
        table = np.concatenate([table, np.full(len(spare), table[-1])])
        return cls(name, bits, table, (*unused, *spare), ties, **choices)

    def with_choices(self, **choices: str) -> DataType:
        """Return the type with the same levels and other choices; its name spells them.

        Raises
        ------
        UnknownName
            `datatype: choice = 'tie', there is no such name; did you mean ties? ...`

        Examples
        --------
        >>> import kbit_ref as kb
        >>> nan_above = kb.datatype("e4m3fn").with_choices(overflow="ieee")
        >>> nan_above.name, kb.decode(nan_above, kb.encode(nan_above, [464.0, 465.0]))
        ('e4m3fn+overflow=ieee', array([448.,  nan], dtype=float32))
        """
        for choice in choices:
            if choice not in exact.CHOICES:
                remedy = f"choices are {', '.join(exact.CHOICES)}"
                raise UnknownName.among("datatype", "choice", choice, exact.CHOICES, remedy)
        base, _, old = self.name.partition("+")
        spelled = dict(part.split("=") for part in old.split("+") if part) | choices
        name = "+".join([base, *(f"{key}={spelled[key]}" for key in sorted(spelled))])
        minus_zero = tuple(np.flatnonzero((self.significands == 0) & np.signbit(self.significands)).tolist())
        unused = tuple(code for code in self.unused if code not in minus_zero)
        changes: dict[str, Any] = dict(choices)
        return replace(self, name=name, unused=unused, **changes)

    @property
    def levels(self) -> NDArray[np.float64]:
        """Return the number of each code, float64 [2**bits].

        Raises
        ------
        BadInput
            `levels: Binary16p1ue, float64 does not hold all of them; use kb.exact.decode or ...`
        """
        if self.exponents is not None:
            remedy = "use kb.exact.decode or significands and exponents"
            raise BadInput(message("levels", self.name, "float64 does not hold all of them", remedy))
        return self.significands

    @cached_property
    def outside(self) -> NDArray[np.bool_]:
        """Return where float64 does not hold the level of a code, bool [2**bits]."""
        outside: NDArray[np.bool_] = rounded(*self.parts())[1] != 0
        return outside

    @cached_property
    def ascending(self) -> NDArray[np.intp]:
        """Return the codes of the finite levels that `encode` can give, intp [n], by ascending level, without -0."""
        s = self.significands[self.emitted]
        codes: NDArray[np.intp] = self.emitted[np.isfinite(s) & ~((s == 0) & np.signbit(s))]
        return codes[order(*self.parts(codes))]

    def parts(self, codes: Any = slice(None)) -> tuple[NDArray[np.float64], NDArray[np.int32]]:
        """Return (significands, exponents) of codes; by default of all."""
        s = self.significands[codes]
        return s, np.zeros(s.shape, np.int32) if self.exponents is None else self.exponents[codes]

    @cached_property
    def signs(self) -> exact.Definition:
        """Return the significands as a definition: where they are the levels, that of the type.

        Elsewhere they have at least the signs, zeros, infinities and NaNs of the levels.
        """
        return _define(self, self.significands.tolist())

    @property
    def definition(self) -> exact.Definition:
        """Return the same type for `kbit_ref.exact`: plain numbers."""
        return self.signs if self.exponents is None else _wide_definition(self)

    @cached_property
    def emitted(self) -> NDArray[np.intp]:
        """Return the codes that `encode` can give, intp [n], ascending."""
        return np.setdiff1d(np.arange(2**self.bits), self.unused)

    @cached_property
    def top(self) -> float:
        """Return the largest finite level that `encode` can give."""
        return float(self.levels[self.ascending[-1]])

    @property
    def has_nan(self) -> bool:
        """Return whether the type has a code for NaN."""
        return bool(np.isnan(self.significands).any())

    @cached_property
    def nan_code(self) -> int | None:
        """Return the code that `encode` gives NaN, if there is one."""
        codes = self.emitted[np.isnan(self.significands[self.emitted])]
        return int(codes[0]) if codes.size else None

    @property
    def code_dtype(self) -> np.dtype[Any]:
        """Return the dtype of codes: uint8 up to 8 bits, uint16 above."""
        return np.dtype(np.uint8 if self.bits <= 8 else np.uint16)

    @cached_property
    def level_dtype(self) -> np.dtype[Any]:
        """Return the dtype of decoded numbers: float32; float64 if a level does not fit (wide P3109 exponents)."""
        narrow = self.exponents is None and all_float32(self.levels)
        return np.dtype(np.float32 if narrow else np.float64)

    @cached_property
    def _key(self) -> tuple[Any, ...]:
        choices = tuple(getattr(self, name) for name in exact.CHOICES)
        exponents = None if self.exponents is None else self.exponents.tobytes()
        levels = (self.significands.tobytes(), exponents)
        return (self.name, self.bits, levels, self.unused, choices, self.beyond, self.meaning)

    def __eq__(self, other: object) -> bool:
        return self is other or (isinstance(other, DataType) and self._key == other._key)

    def __hash__(self) -> int:
        return self._hash

    @cached_property
    def _hash(self) -> int:
        return hash(self._key)

    def __str__(self) -> str:
        return self.name

    def __repr__(self) -> str:
        return f"<DataType {self.name}: {self.bits} bits, {self.family}>"


def _define(dtype: DataType, levels: list[exact.Level]) -> exact.Definition:
    names = {f.name for f in fields(exact.Definition)} - {"levels"}
    return exact.Definition(levels, **{name: getattr(dtype, name) for name in names})


@lru_cache(maxsize=2)  # one of them takes up to 140 MB
def _wide_definition(dtype: DataType) -> exact.Definition:
    """The definition of a type with levels outside float64."""
    assert dtype.exponents is not None
    pairs = zip(dtype.significands.tolist(), dtype.exponents.tolist(), strict=True)
    return _define(dtype, [rational(s, e) for s, e in pairs])


def _check_choices(dtype: DataType) -> None:
    """A choice must be a name, and have the codes that it needs."""
    d = dtype.signs  # checks the names
    values = dtype.significands[dtype.ascending]  # in order of the levels: their signs are asked
    signs = (1, -1) if values[0] < 0 else (1,)
    if d.overflow == "ieee" and d.nan is None and any(d.infinity[sign] is None for sign in signs):
        rule = "the type has neither infinity nor NaN"
        raise BadInput(message("DataType", f"{dtype.name}: overflow = 'ieee'", rule, "use saturate or finite"))
    if d.negative == "nan" and (d.nan is None or values[0] < 0 or d.infinity[-1] is not None):
        rule = "the type has no NaN, or has negative levels"
        raise BadInput(message("DataType", f"{dtype.name}: negative = 'nan'", rule, "use saturate"))
    if d.rounding != "nearest" and values[0] < 0 and 0 not in values:
        rule = "directed and stochastic rounding need a level at zero"
        raise BadInput(message("DataType", f"{dtype.name}: rounding = {d.rounding!r}", rule, "use nearest"))


# The registry ---------------------------------------------------------------------------------

Build = TypeVar("Build", bound=Callable[..., DataType])


_rows: Registry[DataType] = Registry()
_registered: dict[str, DataType] = {}


@overload
def register(what: DataType) -> DataType: ...
@overload
def register(
    what: str,
    *,
    family: str,
    source: str,
    grammar: bool = ...,
    where: Callable[..., bool] = ...,
    **parameters: Sequence[int | str],
) -> Callable[[Build], Build]: ...
def register(
    what: Any,
    *,
    family: str = "",
    source: str = "",
    grammar: bool = False,
    where: Callable[..., bool] = lambda **_: True,
    **parameters: Any,
) -> Any:
    """Make a type known by name: one object, or (as a decorator) a function for a pattern of names.

    Parameters
    ----------
    what
        A `DataType`, or a name pattern such as `int{bits}`.
    family, source, grammar, where, parameters
        For a pattern: what `kbit_ref.registry.Row` holds. Every parameter is a sequence of its values.

    Returns
    -------
    The type itself, or the decorator.

    Raises
    ------
    BadInput
        `register: name = 'nf4', another type has it; choose another name`

    Examples
    --------
    >>> import kbit_ref as kb
    >>> signs = kb.register(kb.DataType.from_levels([-1, 1], name="signs"))
    >>> kb.encode("signs", [-3.0, 0.5])
    array([0, 1], dtype=uint8)
    """
    if isinstance(what, DataType):
        known = _find(what.name)
        if known is not None and known != what:
            raise BadInput(
                message("register", f"name = {what.name!r}", "another type has it", "choose another name")
            )
        if not re.fullmatch(r"[A-Za-z_][\w.~]*", what.name):
            rule = "a name is letters, digits, _ . ~"
            raise BadInput(message("register", f"name = {what.name!r}", rule, "choose another name"))
        _registered[what.name] = what
        _resolve.cache_clear()
        return what
    if not isinstance(what, str):
        rule = "it is no DataType and no pattern"
        raise BadType(message("register", f"what = {what!r}", rule, "make a DataType first"))

    facts = {"family": family, "source": source}
    return _rows.row(what, facts=facts, where=where, grammar=grammar, parameters=parameters)


def families() -> tuple[Row[DataType], ...]:
    """The rows of the registry, in reading order."""
    return tuple(_rows.rows)


def datatypes(*, grammar: bool = False) -> tuple[str, ...]:
    """Return the names of all data types, in reading order; with `grammar=True` those of the name grammars too.

    Examples
    --------
    >>> import kbit_ref as kb
    >>> "nf4" in kb.datatypes(), "Binary8p3se" in kb.datatypes(grammar=True)
    (True, True)
    """
    return (*_rows.names(grammar=grammar), *_registered)


def _find(name: str) -> DataType | None:
    if name in _registered:
        return _registered[name]
    found = _rows.find(name)
    if found is None:
        return None
    row, made = found
    return replace(made, name=name, family=row.facts["family"], source=row.facts["source"])


def datatype(name: str | DataType) -> DataType:
    """Return the data type of that name. Choices may follow it: `e4m3fn+overflow=ieee+ties=away`.

    Parameters
    ----------
    name
        A name, or a `DataType`, which is returned as it is. Any case, and names that other libraries use for one
        type only (`float8_e4m3fn`, `NF4`), are accepted too.

    Raises
    ------
    UnknownName
        `datatype: name = 'nf44', there is no such name; did you mean nf4? ...`;
        `datatype: name = 'fp4', 2 different data types have that name; use e2m1fn (OCP FP4 E2M1) or fp4_bnb (...)`

    Examples
    --------
    >>> import kbit_ref as kb
    >>> kb.datatype("int4sym").levels
    array([ 0.,  1.,  2.,  3.,  4.,  5.,  6.,  7., -8., -7., -6., -5., -4.,
           -3., -2., -1.])
    """
    if isinstance(name, DataType):
        return name
    if not isinstance(name, str):
        raise BadType(message("datatype", f"name = {name!r}", "it is no name and no DataType", "give one of them"))
    return _resolve(name)


@lru_cache(maxsize=1024)
def _resolve(name: str) -> DataType:
    base, *choices = name.split("+")
    found = _find(base)
    if found is None and (meant := resolve("datatype", "name", base, "data type")):
        found = _find(meant)
    if found is None:
        remedy = "`kbit-ref list` shows all; a type made at run time resolves after kb.register"
        if base.count("-") > 2:
            remedy = "a spelling with dashes is a scheme: use kb.scheme; `kbit-ref list` shows all types"
        for row in _rows.rows:  # a name that a grammar might have had
            if row.grammar and base.casefold().startswith(row.pattern.partition("{")[0].casefold()):
                remedy = f"names {row.pattern}: {row.summary}"
        raise UnknownName.among("datatype", "name", base, datatypes(), remedy)
    if not choices:
        return found
    if not all(part.count("=") == 1 for part in choices):
        raise BadInput(message("datatype", f"name = {name!r}", "a choice is spelled +name=value", "e.g. +ties=away"))
    spelled = [part.split("=") for part in choices]
    if len({key for key, _ in spelled}) < len(spelled):
        raise BadInput(message("datatype", f"name = {name!r}", "a choice is made twice", "make it once"))
    return found.with_choices(**dict(spelled))


def _described() -> dict[str, str]:
    """Every name, those of grammars too, with a few words."""
    rows = {name: few_words(row.summary) for row in _rows.rows for name in row.names()}
    return rows | {name: few_words(d.source) for name, d in _registered.items()}


exact.names.append(datatype)
KINDS["data type"] = _described
