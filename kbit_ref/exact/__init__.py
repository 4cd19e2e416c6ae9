"""Define what everything here means, in rational arithmetic.

It imports no NumPy and no other room, takes plain numbers and sequences, and is slow. Everything
fast in this project is compared with it. In reading order:

    code.py        a data type is a list of levels; which code does a number get?
    arithmetic.py  one operation, rounded once to a floating-point format
    rules.py       the scale of a block
    scales.py      scales as they are stored
    encoders.py    codes that are not those of the nearest level
    quantize.py    arrays to blocks, scales and codes, and back
"""

from kbit_ref.exact.code import CHOICES, Definition, Level, decode, definition, encode, is_special, names
from kbit_ref.exact.quantize import Block, Quantized, dequantize, quantize, schemes

__all__ = [
    "CHOICES",
    "Block",
    "Definition",
    "Level",
    "Quantized",
    "decode",
    "definition",
    "dequantize",
    "encode",
    "is_special",
    "names",
    "quantize",
    "schemes",
]
