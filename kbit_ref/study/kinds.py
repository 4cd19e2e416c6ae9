"""Kinds of types: a kind, a width and a block size make the scheme of a matrix.

A kind is one line of `KINDS`; a new one is one more. Every profile is a kind as well, of its own width
and block, so that `ocp-mxfp4` or `ggml-q4_0` stand beside `int` and `quantile`. Choices of the scheme may be added:
`int+center=tensor`. The scale is float16, as the paper counts it: 16/B bits a parameter.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from functools import lru_cache

from kbit_ref.errors import BadInput, UnknownName, message
from kbit_ref.tensors.profiles import profiles
from kbit_ref.tensors.scheme import Scheme, scheme

__all__ = ["BLOCK", "KINDS", "Kind", "is_format", "scheme_of", "widths_of"]


@dataclass(frozen=True)
class Kind:
    """A kind of type.

    Parameters
    ----------
    type
        The name of the type of {bits} bits (for blocks of {block}).
    rule
        The scale rule it is made for.
    widths
        In bits.
    blocks
        The sizes it has tables for; empty: any.
    """

    type: str
    rule: str
    widths: tuple[int, ...]
    blocks: tuple[int, ...] = ()


UP_TO_8 = tuple(range(2, 9))
BLOCK = 64  # the usual one, the paper's
TABLES = tuple(2**n for n in range(4, 13))

KINDS: Mapping[str, Kind] = {
    "int": Kind("int{bits}sym", "absmax", UP_TO_8),  # the paper's: 2**bits - 1 levels, symmetric
    "float": Kind("kfloat{bits}", "absmax", UP_TO_8[1:]),  # the paper's splits, which begin with 3 bits
    "dynamic": Kind("dynamic{bits}", "absmax", UP_TO_8),
    "quantile": Kind("quantile{bits}", "absmax", UP_TO_8),  # the table of ideal normal data
    "nf": Kind("nf{bits}", "absmax", UP_TO_8),
    "lloyd": Kind("lloyd{bits}", "rms", UP_TO_8),  # levels in units of the standard deviation
    "affine": Kind("uint{bits}", "minmax", UP_TO_8),  # with an offset for each block, counted as well
    "clip": Kind("int{bits}sym", "clip", UP_TO_8),  # int, the scale of least squared error
    "e2m1": Kind("e2m1fn", "absmax", (4,)),
    "af": Kind("af4_b{block}", "absmax", (4,), TABLES),
    "bof": Kind("bof4_b{block}", "absmax", (4,), TABLES),
    "hqq": Kind("uint{bits}", "hqq", UP_TO_8),  # with a zero point that is a float32 number, for the method hqq
}


def is_format(kind: str) -> bool:
    """Is it a profile, which has a width and a block of its own?"""
    name = kind.partition("+")[0]
    return name not in KINDS and name in profiles()


def widths_of(kind: str) -> tuple[int, ...]:
    """The widths that a kind has, in bits.

    Raises
    ------
    UnknownName
        `study: kind = 'flaot', there is no such name; did you mean float? ...`

    Examples
    --------
    >>> widths_of("float"), widths_of("ggml-q5_0")
    ((3, 4, 5, 6, 7, 8), (5,))
    """
    name = kind.partition("+")[0]
    if name in KINDS:
        return KINDS[name].widths
    if is_format(kind):
        return (scheme(kind).dtype.bits,)
    remedy = f"kinds are {', '.join(KINDS)}, and every profile"
    raise UnknownName.among("study", "kind", kind, [*KINDS, *profiles()], remedy)


def scheme_of(kind: str, bits: int, block: int = 0) -> Scheme:
    """The scheme of a kind.

    Parameters
    ----------
    kind
        One of `KINDS`, or the name of a profile, and choices of the scheme.
    bits
        Its width.
    block
        Elements that share a scale; 0: the whole tensor, and for a profile what it has.

    Raises
    ------
    BadInput
        `study: float of 2 bits, float has 3, 4, 5, 6, 7, 8; use one of them`

    Choices
    -------
    Blocks run through the flat tensor, as in the paper, also those of a profile, and codes are packed densely:
    so that every shape of matrix can be quantized. Where the rows of a matrix are whole blocks the numbers are
    those of the profile. A block whose scale would be no float16 number takes the nearest one.

    Examples
    --------
    >>> str(scheme_of("int", 4, 64)), str(scheme_of("lloyd", 3))
    ('int4sym-b64-absmax-f16+scalerange=clamp', 'lloyd3-tensor-rms-f16+scalerange=clamp')
    >>> str(scheme_of("ocp-mxfp4", 4))
    'e2m1fn-b32-pow2floor-e8m0fnu'
    >>> str(scheme_of("nf+center=block", 4, 64))
    'nf4-b64-absmax-f16+center=block+scalerange=clamp'
    """
    if bits not in widths_of(kind):
        rule = f"{kind} has {', '.join(map(str, widths_of(kind)))}"
        raise BadInput(message("study", f"{kind} of {bits} bits", rule, "use one of them"))
    return _scheme(kind, bits, block)


@lru_cache(maxsize=1024)
def _scheme(kind: str, bits: int, block: int) -> Scheme:
    name, plus, choices = kind.partition("+")
    if name not in KINDS:
        if block:
            rule = "it has a block of its own"
            raise BadInput(message("study", f"{kind} in blocks of {block}", rule, "leave the block out"))
        return _flat(scheme(kind))
    facts = KINDS[name]
    if facts.blocks and block not in facts.blocks:
        rule = f"it has tables for {', '.join(map(str, facts.blocks))}"
        raise BadInput(message("study", f"{kind} in blocks of {block or 'the tensor'}", rule, "use one of them"))
    type_ = facts.type.format(bits=bits, block=block)
    cut = f"b{block}" if block else "tensor"
    return scheme(f"{type_}-{cut}-{facts.rule}-f16+scalerange=clamp{plus}{choices}")


def _flat(s: Scheme) -> Scheme:
    """The scheme of a profile with blocks through the flat tensor, densely packed."""
    cut = replace(s.cut, axis=None) if s.cut.kind == "b" else s.cut
    choices = {name: value for name, value in s.choices.items() if name != "layout"}
    return scheme(str(Scheme(s.dtype, cut, s.rule, s.scale_dtype, choices)))
