"""`Scheme`: everything besides the data type that decides the bytes, in one spelling.

DTYPE-CUT-RULE-SCALE{+name=value}

nf4-b64-absmax-f32        uint4-b128-minmax-f16        e2m1fn-b32-pow2floor-e8m0fnu
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from functools import cached_property, lru_cache
from types import MappingProxyType

from kbit_ref import exact
from kbit_ref.blocks import Cut
from kbit_ref.datatype import DataType, datatype
from kbit_ref.errors import BadInput, UnknownName, message
from kbit_ref.packing import Layout, layout, layouts

__all__ = ["CHOICES", "RULES", "SCALE_DTYPES", "Scheme", "scheme"]

RULES = {
    "absmax": "fl(max|x| / top)",
    "signedmax": "fl(m / L): m the first element of largest magnitude, L the level of largest magnitude",
    "rms": "root mean square, summed in order in float64",
    "minmax": "fl((max - min) / (n - 1)), offset = min; unsigned integers",
    "affine": "range widened to hold 0, integer zero point; unsigned integers",
    "pow2floor": "2**(floor(log2 max|x|) - floor(log2 top))",
    "pow2ceil": "2**(ceil(log2 max|x|) - floor(log2 top))",
    "pow2even": "max|x| rounded to the significand of the type, then as pow2floor",
    "pow2rceil": "2**ceil(log2 fl32(max|x| / top))",
}

SCALE_DTYPES = ("f32", "f16", "bf16", "e8m0fnu", "e4m3fn", "e4m4", "ue4m3")

CHOICES: dict[str, tuple[str, ...]] = {  # the first value is the default
    "arith": ("divide", "reciprocal", "exact"),
    "center": ("none", "tensor", "block"),
    "compute": ("wider", "float16", "bfloat16", "float32", "float64"),
    "global": ("none", "multiplier", "divisor"),
    "inf": ("error", "saturate"),
    "nan": ("error", "code", "zero"),
    "scalerange": ("error", "clamp"),
    "scaleuse": ("rounded", "unrounded"),
    "tail": ("own", "pad", "error"),
    "zeroblock": ("zero", "one"),
}

POWERS_OF_TWO = ("pow2floor", "pow2ceil", "pow2even", "pow2rceil")


@dataclass(frozen=True, eq=False)
class Scheme:
    """How an array becomes codes, scales and bytes. Make one with `kb.scheme(text)`.

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

    def __getitem__(self, name: str) -> str:
        """The value of a choice."""
        return self.choices.get(name, CHOICES[name][0])

    @property
    def scale_type(self) -> str:
        """The type that stores the scale; beyond its range a half-precision scale is infinite, and refused."""
        return f"{self.scale_dtype}+overflow=ieee" if self.scale_dtype in ("f16", "bf16") else self.scale_dtype

    @cached_property
    def layout(self) -> Layout:
        """The packing layout: `low` where codes fill bytes evenly, a dense `lsb` stream elsewhere."""
        bits = self.dtype.bits
        return layout(self.choices.get("layout", f"low{bits}" if bits in (1, 2, 4, 8) else f"lsb{bits}"))

    def __str__(self) -> str:
        base = self.dtype.name.partition("+")[0]
        head = "-".join([base, str(self.cut), self.rule, self.scale_dtype])
        return "+".join([head, *(f"{name}={self.choices[name]}" for name in sorted(self.choices))])


def scheme(text: str | Scheme) -> Scheme:
    """The scheme of that spelling. Choices may come in any order.

    Raises
    ------
    UnknownName
        `scheme: rule = 'absmin', there is no such name; did you mean absmax? ...`
    BadInput
        `scheme: text = 'nf4-b64', a scheme is DTYPE-CUT-RULE-SCALE{+name=value}; ...`

    Examples
    --------
    >>> str(scheme("nf4-b64-absmax-f32+layout=high4+arith=reciprocal"))
    'nf4-b64-absmax-f32+arith=reciprocal+layout=high4'
    >>> scheme("nf4-b64-absmax-f32").layout.name
    'low4'
    """
    return text if isinstance(text, Scheme) else _parse(text)


@lru_cache(maxsize=1024)
def _parse(text: str) -> Scheme:
    head, *spelled = text.split("+")
    # a '-' before a digit is the sign of an axis, all others separate the parts
    parts = re.split(r"-(?!\d)", head)
    if len(parts) != 4:
        rule = "a scheme is DTYPE-CUT-RULE-SCALE{+name=value}"
        raise BadInput(message("scheme", f"text = {text!r}", rule, "e.g. nf4-b64-absmax-f32"))
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
    dtype = dtype.with_choices(**changed) if changed else dtype

    if rule not in RULES:
        raise UnknownName.among("scheme", "rule", rule, RULES, f"rules are {', '.join(RULES)}")
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
            raise UnknownName.among("scheme", key, value, allowed, f"use {', '.join(allowed[:12])}")
    kept = {key: value for key, value in choices.items() if key not in CHOICES or value != CHOICES[key][0]}
    kept = {key: value for key, value in kept.items() if key not in of_type or key in changed}
    made = Scheme(dtype, Cut.parse(cut), rule, scale, kept)
    if kept.get("layout") == Scheme(dtype, made.cut, rule, scale).layout.name:
        made = Scheme(dtype, made.cut, rule, scale, {key: value for key, value in kept.items() if key != "layout"})
    _check(made, text)
    return made


def _check(s: Scheme, text: str) -> None:
    """The parts must fit together."""

    def refuse(rule: str, remedy: str) -> None:
        raise BadInput(message("scheme", f"text = {text!r}", rule, remedy))

    if s.layout.bits != s.dtype.bits:
        refuse(f"layout {s.layout.name} is for {s.layout.bits} bits, {s.dtype.name} has {s.dtype.bits}", "change one")
    if s.dtype.bits > 8:
        refuse("schemes are for types of at most 8 bits", "use kb.encode")
    if s.rule in ("minmax", "affine") and not s.dtype.name.startswith("uint"):
        refuse(f"{s.rule} counts from 0 and is for uint types", f"use uint{s.dtype.bits}")
    if s["center"] != "none" and s.rule in ("minmax", "affine"):
        refuse(f"{s.rule} has an offset or a zero point already", "leave center out")
    if s.scale_dtype == "e8m0fnu" and s.rule not in POWERS_OF_TWO and s["scaleuse"] == "unrounded":
        refuse("an e8m0fnu scale used unrounded is not a power of two", "drop scaleuse")
    if s["global"] != "none" and (s.rule != "absmax" or s.scale_dtype == "f32"):
        refuse("a global scale goes with absmax and a stored scale below 32 bits", "use absmax and e4m3fn")
    if s.scale_dtype not in ("f32", "f16", "bf16") and (s.rule in ("minmax",) or s["center"] == "block"):
        refuse(f"the offset is stored like the scale, and {s.scale_dtype} is too narrow for it", "use f16")
    if s.rule == "signedmax" and s.scale_dtype in ("e8m0fnu", "e4m4", "ue4m3"):
        refuse(f"signedmax makes negative scales, and {s.scale_dtype} has none", "use f32 or e4m3fn")
