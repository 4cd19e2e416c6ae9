"""`Scheme`: everything besides the data type that decides the bytes, in one spelling.

DTYPE-CUT-RULE-SCALE{+name=value}

nf4-b64-absmax-f32        uint4-b128-minmax-f16        e2m1fn-b32-pow2floor-e8m0fnu
"""

from __future__ import annotations

import math
import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from difflib import get_close_matches
from functools import cached_property, lru_cache
from itertools import takewhile
from types import MappingProxyType
from typing import Any

import numpy as np

from kbit_ref import exact
from kbit_ref.datatypes.datatype import DataType, datatype, datatypes
from kbit_ref.datatypes.everyday import KINDS, few_words, meanings, resolve
from kbit_ref.errors import BadInput, BadType, KbitError, UnknownName, message
from kbit_ref.exact.arithmetic import Arithmetic
from kbit_ref.exact.encoders import ENCODERS
from kbit_ref.exact.rules import EPS, RULES
from kbit_ref.tensors.cut import Cut
from kbit_ref.tensors.packing import Layout, layout, layouts
from kbit_ref.tensors.profiles import profiles

__all__ = ["CHOICES", "DOUBLES", "MEANINGS", "SCALE_DTYPES", "Scheme", "named", "scheme"]

SCALE_DTYPES = ("f32", "f16", "bf16", "e8m0fnu", "e4m3fn", "e4m4", "ue4m3")

WIDE = ("f32", "f16", "bf16")  # stored scales that an offset can share

DOUBLES = {  # the scheme of the scales, where they are quantized again
    "bnb": "dynamic8-b256-absmax-f32+arith=reciprocal+center=tensor",
    "bnb_cpu": "dynamic8-b256-absmax-f32+arith=reciprocal+center=tensor+encoder=bnb_bins+zerocode=code0",
    "torchao": "int8-b256-absmaxfull-f32+center=tensor+scaleas=divisor+zeroblock=one",
}

CHOICES: dict[str, tuple[str, ...]] = {  # the first value is the default
    "arith": ("divide", "reciprocal", "reciprocals", "exact"),
    "center": ("none", "tensor", "block"),
    "compute": ("wider", "float16", "bfloat16", "float32", "float64"),
    "double": ("none", *DOUBLES),
    "encoder": tuple(ENCODERS),
    "eps": tuple(EPS),
    "fill": ("code0", "zero"),
    "flat": ("asis", "widen"),
    "flatzero": ("low", "middle"),
    "global": ("none", "multiplier", "divisor"),
    "globalat": ("scale", "top"),
    "globalby": ("divide", "reciprocal"),
    "inf": ("error", "saturate"),
    "leastscale": ("none", "1.1920929e-07", "0.015625", "1e-5"),
    "leastused": ("none", "1e-38", "1.17549435e-38"),
    "nan": ("error", "code", "zero"),
    "percentile": ("99.9", "99", "99.5", "99.99"),
    "scaleas": ("multiplier", "divisor"),
    "scalerange": ("error", "clamp", "keep", "zeroblock"),
    "scaleuse": ("rounded", "unrounded"),
    "signedtie": ("first", "negative"),
    "tail": ("own", "pad", "error"),
    "tailarith": ("same", "divide"),
    "zeroadd": ("after", "before"),
    "zeroblock": ("zero", "one", "quotient", "0.125", "0.015625", "1.1920929e-07"),
    "zerocode": ("nearest", "code0"),
}

MEANINGS = {  # of the choices, for tables
    "arith": "x / scale; x * fl(1 / scale); x * fl(fl(1 / global) / scale), for a divisor x * fl(1 / fl(scale * "
    "fl(1 / global))); or the quotient that no rounding touched",
    "center": "subtract the mean of the tensor (the paper's) or of the block; it is added on decode",
    "compute": "the format that every operation is rounded to: the wider of float32 and that of x, or this one",
    "double": "quantize the scales again, as bitsandbytes or as torchao does",
    "encoder": "which code a scaled number gets",
    "eps": "added to max|x|, or to max - min",
    "fill": "what fills the last byte: code 0, or the code of 0.0",
    "flat": "for affineplain: a range of one number stays, or is widened by 1 at both ends",
    "flatzero": "the zero point of a block whose scale is 0: the lowest level, or the middle one",
    "global": "a scale of the scales, by which they are multiplied or divided on decode",
    "globalat": "where it enters the scale of a block: fl(fl(max|x| / top) / global), or fl(max|x| / fl(top * global))",
    "globalby": "the global scale is a quotient, or a product with fl(1 / the divisor)",
    "inf": "an infinity in x is an error, or is encoded as any other number and left out of the scale",
    "leastscale": "no stored scale is below this",
    "leastused": "no scale in use is below this; what is stored does not change",
    "nan": "a NaN in x is an error, takes the NaN code, or counts as 0",
    "percentile": "for the rule of that name",
    "scaleas": "store max|x| / top, or top / max|x|, by which decode divides",
    "scalerange": "a scale that rounds to 0, or lies half a step beyond the largest, is an error; takes the nearest "
    "one; stays; or (zeroblock) stores what a block of zeros stores instead of 0",
    "scaleuse": "divide by the scale as it is stored, or as it was before",
    "signedtie": "for the rule signedmax: of two elements of the largest magnitude the first, or the negative one",
    "tail": "a short last block is a block of its own, filled up with zeros for the scale, or an error",
    "tailarith": "a short last block divides, whatever `arith` says",
    "zeroadd": "the zero point is added after rounding, or before",
    "zeroblock": "the scale that a block of zeros stores; quotient: the zero that signedmax gives, with its sign",
    "zerocode": "the codes of a block whose scale is 0: that of 0.0, or code 0",
}


@dataclass(frozen=True, eq=False)
class Scheme:
    """A rule by which an array becomes codes, scales and bytes. Make one with `kb.scheme(text)`.

    `choices` holds only what differs from the default; `s["arith"]` gives the value in force.
    """

    dtype: DataType
    cut: Cut
    rule: str
    scale_dtype: str
    choices: Mapping[str, str] = field(default_factory=dict)

    def __post_init__(self) -> None:
        object.__setattr__(self, "choices", MappingProxyType(dict(self.choices)))

    def __eq__(self, other: object) -> bool:
        return isinstance(other, Scheme) and (str(self), self.dtype) == (str(other), other.dtype)

    def __hash__(self) -> int:
        return hash(str(self))

    def __reduce__(self) -> tuple[Any, ...]:
        return Scheme, (self.dtype, self.cut, self.rule, self.scale_dtype, dict(self.choices))

    def __getitem__(self, name: str) -> str:
        """The value of a choice."""
        return self.choices.get(name, CHOICES[name][0])

    @cached_property
    def code_of_zero(self) -> int:
        """Return the code of the elements of a block whose scale is 0."""
        return 0 if self["zerocode"] == "code0" else self._zero

    @property
    def _zero(self) -> int:
        return int(exact.encode(self.dtype.with_choices(rounding="nearest"), 0))  # 0 needs no random bits

    @property
    def scale_type(self) -> str:
        """Return the type that stores the scale; beyond its range a half-precision scale is infinite, and refused."""
        return f"{self.scale_dtype}+overflow=ieee" if self.scale_dtype in ("f16", "bf16") else self.scale_dtype

    @cached_property
    def layout(self) -> Layout:
        """Return the packing layout: `low` where codes fill bytes evenly, a dense `lsb` stream elsewhere."""
        bits = self.dtype.bits
        return layout(self.choices.get("layout", f"low{bits}" if bits in (1, 2, 4, 8) else f"lsb{bits}"))

    @cached_property
    def double(self) -> Scheme | None:
        """Return the scheme by which the scales are quantized again."""
        return scheme(DOUBLES[self["double"]]) if self["double"] != "none" else None

    @cached_property
    def nan_has_a_code(self) -> bool:
        """Return whether the type has NaN, or the encoder a code for it."""
        if RULES[self.rule].zero_point:
            return False
        if self.dtype.nan_code is not None:
            return True
        try:
            ENCODERS[self["encoder"]](self, Arithmetic("float32"), math.nan)
        except KbitError:
            return False
        return True

    @cached_property
    def fill(self) -> int:
        """Return the code that fills the last byte."""
        return 0 if self["fill"] == "code0" else self._zero

    def __str__(self) -> str:
        base = self.dtype.name.partition("+")[0]
        head = "-".join([base, str(self.cut), self.rule, self.scale_dtype])
        return "+".join([head, *(f"{name}={self.choices[name]}" for name in sorted(self.choices))])


def scheme(text: str | Scheme) -> Scheme:
    """Return the scheme of that spelling, or of that profile. Choices may come in any order.

    A choice added to the name of a profile replaces the one that the profile spells.

    Parameters
    ----------
    text
        A spelling, the name of a profile, or a `Scheme`, which is returned as it is. Any case, and names that stand
        for one profile only (`Q4_0`), are accepted too; `mxfp4` and the like are those of the published definition.

    Raises
    ------
    UnknownName
        `scheme: rule = 'absmin', there is no such name; did you mean absmax? ...`;
        `scheme: text = 'nvfp4', 6 different schemes have that name; use ...`
    BadInput
        `scheme: text = 'nf4-b64', a scheme is DTYPE-CUT-RULE-SCALE{+name=value}; ...`

    Examples
    --------
    >>> str(scheme("nf4-b64-absmax-f32+layout=high4+arith=reciprocal"))
    'nf4-b64-absmax-f32+arith=reciprocal+layout=high4'
    >>> scheme("nf4-b64-absmax-f32").layout.name
    'low4'
    >>> scheme("Q4_0") == scheme("ggml-q4_0")
    True
    """
    if isinstance(text, Scheme):
        return text
    if not isinstance(text, str):
        got = f"text = {text!r}" if np.isscalar(text) or text is None else f"text of type {type(text).__name__}"
        raise BadType(message("scheme", got, "it is no spelling and no Scheme", "e.g. nf4-b64-absmax-f32"))
    return _scheme(text)


def named(text: str) -> DataType | Scheme:
    """Return the data type or the scheme of that name; where it may be both, the data type.

    Raises
    ------
    UnknownName
        `named: text = 'Q4_K', there is no such type, scheme or profile; did you mean ggml-q4_0? ...`

    Examples
    --------
    >>> named("NF4"), str(named("MXFP4"))
    (<DataType nf4: 4 bits, quantile>, 'e2m1fn-b32@-1-pow2floor-e8m0fnu')
    """
    name = text.partition("+")[0]
    if _is_spelled(name):
        return scheme(text)
    if meanings(name, "data type"):
        return datatype(text)
    if "-" in name or meanings(name, "scheme"):
        return scheme(text)
    near = _resembling(name)
    if get_close_matches(name.casefold(), datatypes()) or not near:
        return datatype(text)  # which says what is near
    rule, remedy = "there is no such type, scheme or profile", f"did you mean {', '.join(near)}?"
    raise UnknownName(message("named", f"text = {name!r}", rule, f"{remedy} kb.profiles() has all"))


def _is_spelled(name: str) -> bool:
    """Is it a profile, or does it have the four parts of a spelling?"""
    return name in profiles() or (len(_parts(name)) == 4 and name.casefold() not in profiles())


def _parts(head: str) -> list[str]:
    return re.split(r"-(?!\d)", head)  # a '-' before a digit is the sign of an axis, all others separate the parts


@lru_cache(maxsize=1024)
def _scheme(text: str) -> Scheme:
    name, *added = text.split("+")
    if not _is_spelled(name):
        name = resolve("scheme", "text", name, "scheme") or name
    if name not in profiles():
        return _parse("+".join([name, *added]))
    head, *spelled = profiles()[name].spelling.split("+")
    replaced = {choice.partition("=")[0] for choice in added}
    return _parse("+".join([head, *(c for c in spelled if c.partition("=")[0] not in replaced), *added]))


@lru_cache(maxsize=256)
def _changed(dtype: DataType, choices: tuple[tuple[str, str], ...]) -> DataType:
    """The type with other choices; to make one takes a while."""
    return dtype.with_choices(**dict(choices))


def _parse(text: str) -> Scheme:
    head, *spelled = text.split("+")
    parts = _parts(head)
    if len(parts) != 4:
        rule = "a scheme is DTYPE-CUT-RULE-SCALE{+name=value}, or a profile"
        near = _resembling(head)
        remedy = f"did you mean {', '.join(near)}? kb.profiles() has all" if near else "e.g. nf4-b64-absmax-f32"
        raise BadInput(message("scheme", f"text = {text!r}", rule, remedy))
    name, cut, rule, scale = parts
    choices: dict[str, str] = {}
    for part in spelled:
        key, _, value = part.partition("=")
        if key in choices:
            raise BadInput(message("scheme", f"text = {text!r}", f"{key} is chosen twice", "choose once"))
        choices[key] = value
    dtype = datatype(name)
    of_type = {key: value for key, value in choices.items() if key in exact.CHOICES}
    changed = {key: value for key, value in of_type.items() if value != getattr(dtype, key)}
    dtype = _changed(dtype, tuple(sorted(changed.items()))) if changed else dtype
    if dtype.bits > 8:
        got, rule = f"dtype = {dtype.name}, {dtype.bits} bits", "schemes are for types of at most 8 bits"
        raise BadInput(message("scheme", got, rule, "use kb.encode, or a narrower type"))

    rule = rule if rule in RULES else rule.casefold()
    if rule not in RULES:
        raise UnknownName.among("scheme", "rule", rule, RULES, f"rules are {', '.join(RULES)}")
    if scale not in SCALE_DTYPES:
        scale = resolve("scheme", "scale", scale, "stored scale") or scale
    if scale not in SCALE_DTYPES:
        raise UnknownName.among("scheme", "scale", scale, SCALE_DTYPES, f"scales are {', '.join(SCALE_DTYPES)}")
    for key, value in choices.items():
        if key in of_type:
            continue
        allowed = tuple(layouts()) if key == "layout" else CHOICES.get(key)
        if allowed is None:
            known = [*CHOICES, "layout", *exact.CHOICES]
            raise UnknownName.among("scheme", "choice", key, known, f"choices are {', '.join(known)}")
        if value not in allowed:
            if key == "layout":  # of those, the ones of the right width
                allowed = tuple(name for name in allowed if layout(name).bits == dtype.bits)
            raise UnknownName.among("scheme", key, value, allowed, f"use {', '.join(allowed)}")
    kept = {key: value for key, value in choices.items() if key not in CHOICES or value != CHOICES[key][0]}
    kept = {key: value for key, value in kept.items() if key not in of_type or key in changed}
    made = Scheme(dtype, Cut.parse(cut.casefold()), rule, scale, kept)
    if kept.get("layout") == Scheme(dtype, made.cut, rule, scale).layout.name:
        made = Scheme(dtype, made.cut, rule, scale, {key: value for key, value in kept.items() if key != "layout"})
    _check(made, text)
    return made


def _resembling(text: str) -> list[str]:
    """The profiles of a name like that, with or without the library that it begins with."""
    tails = {name.partition("-")[2]: name for name in profiles()} | {name: name for name in profiles()}
    return list(dict.fromkeys(tails[near] for near in get_close_matches(text.casefold(), tails, 3)))


def _origin(source: str) -> str:
    """Who made it, without the place in a file."""
    first, *others = few_words(source).split()
    return " ".join([first, *takewhile(lambda word: "/" not in word, others)])


def _check(s: Scheme, text: str) -> None:
    """The parts must fit together."""

    def refuse(rule: str, remedy: str) -> None:
        raise BadInput(message("scheme", f"text = {text!r}", rule, remedy))

    rule = RULES[s.rule]
    if s.layout.bits != s.dtype.bits:
        refuse(f"layout {s.layout.name} is for {s.layout.bits} bits, {s.dtype.name} has {s.dtype.bits}", "change one")
    if rule.unsigned and not s.dtype.name.startswith("uint"):
        refuse(f"{s.rule} counts from 0 and is for uint types", f"use uint{s.dtype.bits}")
    if rule.integers and not re.fullmatch(r"(u|o)?int\d", s.dtype.name.partition("+")[0]):
        refuse(f"{s.rule} is for integers", "use uint, int or oint types")
    for name in sorted({name for other in RULES.values() for name in other.uses} - set(rule.uses)):
        if s[name] != CHOICES[name][0]:
            refuse(f"the rule {s.rule} does not use {name}", f"leave {name} out")
    for name, why in _idle(s):
        if s[name] != CHOICES[name][0]:
            refuse(f"{name} makes no difference where {why}", f"leave {name} out")
    if s["zeroblock"] == "quotient" and s.rule != "signedmax":
        refuse("only signedmax divides by a negative level", "leave zeroblock out")
    if s["center"] != "none" and (rule.offset_added or rule.zero_point):
        refuse(f"{s.rule} has an offset or a zero point already", "leave center out")
    if s.scale_dtype == "e8m0fnu" and not rule.power_of_two and s["scaleuse"] == "unrounded":
        refuse("an e8m0fnu scale used unrounded is not a power of two", "drop scaleuse")
    if s["global"] != "none" and s.scale_dtype not in ("f16", "e4m3fn", "e4m4", "ue4m3"):
        refuse("a global scale goes with a stored scale of a few bits", "use e4m3fn")
    if s["globalat"] == "top" and s["global"] != "multiplier":
        refuse("only a multiplier can be multiplied into the largest level", "use global=multiplier")
    if s["global"] != "none" and s["compute"] == "float16":
        refuse("the product of two largest levels is beyond float16", "leave compute out")
    if s.scale_dtype not in WIDE and (rule.offset_added or s["center"] == "block"):
        refuse(f"the offset is stored like the scale, and {s.scale_dtype} is too narrow for it", "use f16")
    if rule.negative and s.scale_dtype in ("e8m0fnu", "e4m4", "ue4m3"):
        refuse(f"{s.rule} makes negative scales, and {s.scale_dtype} has none", "use f32 or e4m3fn")
    if s["scaleas"] == "divisor" and s["global"] != "none":
        refuse("a scale that divides on decode has no global scale", "leave global out")
    if s["arith"] == "reciprocals" and (s["global"] == "none" or s["leastused"] != "none"):
        refuse("reciprocals are those of the scale and of a global scale as they are", "use arith=reciprocal")
    if s["scaleas"] == "divisor" and s["arith"] != "divide":
        refuse("a scale that divides on decode multiplies on encode", "leave arith out")
    if s["scaleas"] == "divisor" and s["zeroblock"] == "zero" and s["eps"] == "0":
        refuse("a block of zeros cannot store 0 and be divided by it", "add +zeroblock=one or +eps=1e-7")
    if s.double is not None and (s.scale_dtype != "f32" or s["global"] != "none"):
        refuse("scales that are quantized again are f32, and have no global scale", "use f32")
    if s["leastscale"] != "none" and rule.negative:
        refuse(f"{s.rule} makes negative scales, and a least scale is for positive ones", "drop leastscale")
    if rule.zero_point and s["encoder"] != "nearest":
        refuse("a zero point is added to whole numbers", "leave encoder out")
    stochastic = s.dtype.rounding.startswith("stochastic")
    if rule.zero_point and s.dtype.rounding != "nearest":
        refuse(f"{s.rule} rounds to whole numbers, nearest", "leave rounding out")
    if stochastic and (s.rule == "clip" or s["encoder"] != "nearest" or s["zerocode"] != "nearest"):
        refuse("random bits are for one scale and the nearest levels", "leave rounding out")
    if s["arith"] == "exact" and s["zeroadd"] == "before":
        refuse("a sum with the exact quotient is no operation of the arithmetic", "leave zeroadd out")
    if s["leastused"] != "none" and rule.negative:
        refuse(f"{s.rule} makes negative scales, and a least scale is for positive ones", "drop leastused")
    highest = s.dtype.emitted.max() if s["encoder"] == "nearest" else 2**s.dtype.bits - 1  # others give any code
    if s.layout.digits and highest >= s.layout.codes:
        refuse(f"layout {s.layout.name} writes codes 0 to {s.layout.codes - 1}", "use it with ternary, to the nearest")
    if rule.zero_point == "real" and s["arith"] != "divide":
        refuse(f"{s.rule} multiplies by a factor of its own", "leave arith out")
    for encoder, name in (("bnb_fp4", "fp4_bnb"), ("bnb_nf4", "nf4")):
        if s["encoder"] == encoder and s.dtype.name != name:
            refuse(f"the tree {encoder} is for the type {name}", "change one")
    if s["encoder"] == "bnb_bins" and not (
        s.dtype.top <= 1 and not s.dtype.unused and (np.diff(s.dtype.levels) > 0).all()
    ):
        refuse("the table bnb_bins is for ascending levels in [-1, 1]", "use dynamic8 or another codebook")
    if s["encoder"] != "nearest" and s["arith"] == "exact":
        refuse("a named encoder takes a rounded number", "leave arith out")
    if s["encoder"] in ("addhalf", "addround") and not re.fullmatch(r"o?int\d|uint\d", s.dtype.name.partition("+")[0]):
        refuse(f"{s['encoder']} is for integers", "use oint, int or uint types")


def _idle(s: Scheme) -> Iterator[tuple[str, str]]:
    """Choices that could change nothing beside the others, and why."""
    rule = RULES[s.rule]
    if s["global"] == "none":
        yield from ((name, "there is no global scale") for name in ("globalat", "globalby"))
    if s.cut.size is None:
        yield from ((name, f"no block of {s.cut} is short") for name in ("tail", "tailarith"))
    if s["arith"] == "divide":
        yield "tailarith", "every block divides"
    if s["tail"] == "error":
        yield "tailarith", "no block is short"
    never_zero = not rule.zeros or (s["eps"] != "0" and s["compute"] != "float16")  # there eps over the top may be 0
    if never_zero:
        yield "flatzero", "no block has the scale 0"
    if (never_zero or s["leastscale"] != "none") and s["scalerange"] != "zeroblock":
        yield "zeroblock", "no block has the scale 0"
    if s["leastused"] != "none":
        yield "zerocode", "no scale in use is 0"
    if s.choices.keys() & {"fill", "zerocode"} and s._zero == 0:
        yield "fill", "code 0 is that of 0.0"
        if s["encoder"] == "nearest" and not rule.zero_point:
            yield "zerocode", "code 0 is that of 0.0"
    if s.layout.elements == 1:
        yield "fill", "every code is a byte"
    if s["nan"] == "code" and not s.nan_has_a_code:
        yield "nan", "NaN has no code"


exact.schemes.append(scheme)
KINDS["scheme"] = lambda: {name: _origin(profile.source) for name, profile in profiles().items()}
KINDS["stored scale"] = lambda: dict.fromkeys(SCALE_DTYPES, "a type of stored scales")
