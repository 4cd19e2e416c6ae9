"""Data types and schemes of the registries."""

from __future__ import annotations

from functools import lru_cache

from kbit_ref import exact
from kbit_ref.datatypes.datatype import DataType, datatype
from kbit_ref.datatypes.datatype import datatypes as names_of_types
from kbit_ref.errors import BadInput, KbitError, UnknownName, message
from kbit_ref.exact.rules import RULES
from kbit_ref.strategies.search import Draw, st
from kbit_ref.tensors.packing import layout, layouts
from kbit_ref.tensors.profiles import profiles
from kbit_ref.tensors.scheme import CHOICES, SCALE_DTYPES, Scheme
from kbit_ref.tensors.scheme import scheme as scheme_of

__all__ = ["datatypes", "schemes"]


def datatypes(*, family: str | None = None, max_bits: int = 8, grammar: bool = False) -> st.SearchStrategy[DataType]:
    """Draw data types of the registry; those registered at run time too.

    Examples shrink to the first in the order of `kb.datatypes()`: `int2`.

    Parameters
    ----------
    family
        Only types of this family: `integer`, `float`, ...
    max_bits
        Only types of at most so many bits.
    grammar
        The names of the name grammars too, such as `Binary8p3se`.

    Raises
    ------
    UnknownName
        `datatypes: family = 'int', there is no such name; did you mean integer? ...`
    BadInput
        `datatypes: max_bits = 0, a type has 1 to 16 bits; use 8`

    Examples
    --------
    >>> from kbit_ref.strategies import simplest
    >>> simplest(datatypes(), lambda d: True).name, simplest(datatypes(), lambda d: d.bits > 4).name
    ('int2', 'int5')
    """
    if not isinstance(max_bits, int) or not 1 <= max_bits <= 16:
        raise BadInput(message("datatypes", f"max_bits = {max_bits!r}", "a type has 1 to 16 bits", "use 8"))
    every = [datatype(name) for name in names_of_types(grammar=grammar)]
    if family is not None:
        known = list(dict.fromkeys(d.family for d in every))
        if family not in known:
            raise UnknownName.among("datatypes", "family", family, known, f"families are {', '.join(known)}")
        every = [d for d in every if d.family == family]
    some = [d for d in every if d.bits <= max_bits]
    if not some:
        rule = f"no type of the family {family} has so few"
        raise BadInput(message("datatypes", f"max_bits = {max_bits}", rule, "raise it"))
    return st.sampled_from(some)


@lru_cache(maxsize=256)
def _rules(name: str) -> list[str]:
    """Return the scale rules that go with a data type."""
    return [rule for rule in RULES if _valid(f"{name}-tensor-{rule}-f32")]


@lru_cache(maxsize=1024)
def _scales(name: str, rule: str) -> list[str]:
    """Return the stored types that go with a data type and a rule."""
    return [scale for scale in SCALE_DTYPES if _valid(f"{name}-tensor-{rule}-{scale}")]


def _valid(text: str) -> bool:
    try:
        scheme_of(text)
    except KbitError:
        return False
    return True


@lru_cache(maxsize=16)
def _words(bits: int) -> dict[str, list[str]]:
    """Return every choice and its values but the default: of schemes, layouts of the width, choices of types."""
    found = {name: list(values[1:]) for name, values in CHOICES.items()}
    found["layout"] = [name for name in layouts() if layout(name).bits == bits]
    of_types = {name: [v for v in values if not v.startswith("stochastic")] for name, values in exact.CHOICES.items()}
    return found | of_types


_CUTS = st.one_of(
    st.just("tensor"),
    st.integers(1, 128).map(lambda n: f"b{n}"),
    st.just("channel"),
    st.just("channel@1"),
    st.integers(1, 64).map(lambda n: f"b{n}@-1"),
    st.integers(1, 64).map(lambda n: f"b{n}@0"),
)


@st.composite
def _composed(draw: Draw, types: st.SearchStrategy[DataType], most: int, named: list[Scheme]) -> Scheme:
    d = draw(types)
    name, *chosen = d.name.split("+")
    rule = draw(st.sampled_from(_rules(name)))
    scale = draw(st.sampled_from(_scales(name, rule)))
    text = "+".join([f"{name}-{draw(_CUTS)}-{rule}-{scale}", *chosen])
    words = _words(d.bits)
    for choice in draw(st.lists(st.sampled_from(list(words)), max_size=most)):
        value = draw(st.sampled_from(words[choice]))
        if _valid(f"{text}+{choice}={value}"):  # what does not fit is left out
            text = f"{text}+{choice}={value}"
    if named and draw(st.booleans()):  # last, so that what is made up counts as simpler
        return draw(st.sampled_from(named))  # type: ignore[no-any-return]
    return scheme_of(text)


def schemes(
    dtype: DataType | str | st.SearchStrategy[DataType] | None = None, *, max_choices: int = 4
) -> st.SearchStrategy[Scheme]:
    """Draw schemes: every rule, stored type, choice and layout that fit together, and the profiles.

    Examples shrink to fewer choices, the cut `tensor`, the rule `absmax`, the stored type f32:
    `int2-tensor-absmax-f32`; a profile counts as less simple than what is made up. Stochastic rounding, which wants
    random bits, is left out.

    Parameters
    ----------
    dtype
        Only of this data type, or of those of a strategy.
    max_choices
        At most so many `+name=value`, where no profile is drawn.

    Raises
    ------
    BadInput
        `schemes: max_choices = -1, it is a number from 0; use 4`

    Examples
    --------
    >>> from kbit_ref.strategies import simplest
    >>> str(simplest(schemes("int2"), lambda s: True, examples=5))
    'int2-tensor-absmax-f32'
    """
    if not isinstance(max_choices, int) or max_choices < 0:
        raise BadInput(message("schemes", f"max_choices = {max_choices!r}", "it is a number from 0", "use 4"))
    if isinstance(dtype, st.SearchStrategy):
        return _composed(dtype, max_choices, [])
    types = datatypes() if dtype is None else st.just(datatype(dtype))
    if dtype is not None and datatype(dtype).bits > 8:
        rule = "schemes are for types of at most 8 bits"
        raise BadInput(message("schemes", f"dtype = {dtype}", rule, "use near_midpoints or levels_of"))
    known = [scheme_of(name) for name in profiles()] if max_choices else []
    return _composed(types, max_choices, [s for s in known if dtype is None or s.dtype == datatype(dtype)])
