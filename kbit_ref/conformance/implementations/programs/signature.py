"""The declaration of a C function, in which the names of the parameters say what they are.

    void quantize(const float *x, float *scales, uint8_t *packed, int64_t n)
    void dequantize(const float *scales, const uint8_t *codes, float *x, int64_t block_size, int64_t n)
    uint8_t encode(float x)

Arrays, `const` if the function reads them, not if it writes them:

    x                the numbers
    codes            one code an element
    packed           the bytes of the codes
    scales, offsets, zero_points, global_scale
    scale_codes, scale_scales, scale_offset     of scales that are quantized again
    levels           of the data type, in the order of the codes; always const

Their numbers are of a real type, or of an integer type for their bits. Numbers:

    n, n_blocks, n_bytes, n_levels, block_size
    rows, columns    1 and n
    flags = 3        any other name, with the value to give

A function without arrays is called for each element. One that returns an integer has failed if it is not 0.
"""

from __future__ import annotations

import re
from dataclasses import dataclass

from kbit_ref.errors import BadInput, UnknownName, message

__all__ = ["ARRAYS", "C_TYPES", "NUMBERS", "Call", "Parameter", "parse"]

DOUBLE = ("scale_codes", "scale_scales", "scale_offset")  # of scales that are quantized again
ARRAYS = ("x", "codes", "packed", "scales", *DOUBLE, "offsets", "zero_points", "global_scale", "levels")
NUMBERS = ("n", "n_blocks", "n_bytes", "n_levels", "block_size", "rows", "columns")

C_TYPES = {  # what they hold: a float format, or whole numbers of so many bits
    "float": "float32",
    "double": "float64",
    "_Float16": "float16",
    "__bf16": "bfloat16",
    "bool": "uint8",
    "size_t": "uint64",
    "ptrdiff_t": "int64",
}
for _bits in (8, 16, 32, 64):
    C_TYPES |= {f"{_sign}int{_bits}_t": f"{_sign}int{_bits}" for _sign in ("", "u")}
for _words, _bits in (("char", 8), ("short", 16), ("int", 32), ("long", 64), ("long long", 64)):
    C_TYPES |= {_words: f"int{_bits}", f"signed {_words}": f"int{_bits}", f"unsigned {_words}": f"uint{_bits}"}
C_TYPES["unsigned"] = "uint32"


@dataclass(frozen=True)
class Parameter:
    """One parameter.

    Parameters
    ----------
    kind
        What its C type holds: float32, uint8, ...
    """

    name: str
    kind: str
    array: bool = False
    const: bool = False
    value: int | None = None

    @property
    def real(self) -> bool:
        """Return whether it holds numbers, not their bits."""
        return "int" not in self.kind


@dataclass(frozen=True)
class Call:
    """A function: its name, what it returns (None: nothing), its parameters."""

    name: str
    result: str | None
    parameters: tuple[Parameter, ...]

    @property
    def for_each(self) -> bool:
        """Return whether the function is called for each element."""
        return not any(p.array for p in self.parameters)

    def find(self, name: str) -> Parameter | None:
        """Return the parameter of that name."""
        return next((p for p in self.parameters if p.name == name), None)


def parse(text: str) -> Call:
    """Parse a declaration into a function.

    Raises
    ------
    BadInput
        `check: call = '...', it is no declaration; e.g. void f(const float *x, uint8_t *codes, int64_t n)`

    Examples
    --------
    >>> call = parse("void f(const float *x, uint8_t *codes, int64_t n);")
    >>> call.name, call.result, [p.name for p in call.parameters if p.const]
    ('f', None, ['x'])
    """
    match = re.fullmatch(r"\s*([\w\s]+?)\s*\b([A-Za-z_]\w*)\s*\((.*)\)\s*;?\s*", text, re.DOTALL)
    if match is None:
        _refuse(text, "it is no declaration of a function", "e.g. void f(const float *x, uint8_t *codes, int64_t n)")
    assert match is not None
    result, name, inside = match.groups()
    parameters = tuple(_parameter(part, text) for part in inside.split(",") if part.strip() not in ("", "void"))
    names = [p.name for p in parameters]
    for twice in (name for name in names if names.count(name) > 1):
        _refuse(text, f"two parameters have the name {twice}", "each name says what one of them is")
    return Call(name, None if result == "void" else _kind(result, text), parameters)


def _parameter(part: str, text: str) -> Parameter:
    match = re.fullmatch(r"\s*(const\s+)?([\w\s]+?)\s*(\*?)\s*\b([A-Za-z_]\w*)\s*(=\s*(-?\d+))?\s*", part)
    if match is None:
        _refuse(text, f"{part.strip()!r} is no parameter", "e.g. const float *x, int64_t n, int flags = 3")
    assert match is not None
    const, kind, star, name, _, value = match.groups()
    array = bool(star)
    if array and name not in ARRAYS:
        raise UnknownName.among("check", "array", name, ARRAYS, f"arrays are {', '.join(ARRAYS)}")
    if not array and value is None and name not in (*NUMBERS, "x", "codes"):
        remedy = f"numbers are {', '.join(NUMBERS)}; others have a value, {name} = 0"
        raise UnknownName.among("check", "number", name, NUMBERS, remedy)
    return Parameter(name, _kind(kind, text), array, bool(const), None if value is None else int(value))


def _kind(words: str, text: str) -> str:
    name = " ".join(words.split())
    if name not in C_TYPES:
        raise UnknownName.among("check", "C type", name, C_TYPES, f"in {text!r}; use float, uint8_t, int64_t, ...")
    return C_TYPES[name]


def _refuse(text: str, rule: str, remedy: str) -> None:
    raise BadInput(message("check", f"call = {text!r}", rule, remedy))
