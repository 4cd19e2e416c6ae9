"""Stochastic rounding done wrongly: what else an encoder may make of numbers and of their random bits."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from kbit_ref.datatypes.datatype import DataType
from kbit_ref.engine.codec import encode
from kbit_ref.engine.stochastic import encode_stochastic

__all__ = ["Draw", "draws_of"]

Array = NDArray[Any]
ROUNDINGS = ("stochastic_a", "stochastic_b", "stochastic_c", "nearest", "toward_zero", "odd")
TOO_LOW = "https://github.com/uxlfoundation/oneDNN/pull/2903"


class Draw(NamedTuple):
    """What may be made of the random bits: a name, what it is in a sentence, where it happened, the codes."""

    name: str
    why: str
    source: str
    codes: Array


def draws_of(d: DataType, x: NDArray[np.float64], random: NDArray[np.uint32], bits: int) -> Iterator[Draw]:
    """Yield the mistakes that are known, the usual ones first.

    Parameters
    ----------
    d
        A type with stochastic rounding.
    x, random : [n]
        Numbers and their random bits, `bits` of them.

    Examples
    --------
    >>> import kbit_ref as kb
    >>> d, x, random = kb.datatype("int4+rounding=stochastic_a"), np.array([1.25, 1.25]), np.array([2, 3], np.uint32)
    >>> {each.name: each.codes.tolist() for each in draws_of(d, x, random, 2)}["random bits inverted"]
    [1, 1]
    """

    def of(name: str, why: str, r: Array, n: int = bits, source: str = "") -> Draw:
        return Draw(name, why, source, encode_stochastic(d, x, r, n))

    aligned = "stochastic rounding: the random bits are not aligned with those that are dropped, they are added"
    for places in range(1, min(bits, 32 - bits) + 1):
        why = f"{aligned} {places} place{'s' * (places > 1)} too low"
        yield of(f"random bits {places} too low", why, random, bits + places, TOO_LOW)
    for name in ROUNDINGS:
        if name != d.rounding:
            made = d.with_choices(rounding=name)
            used = name.startswith("stochastic")
            codes = encode_stochastic(made, x, random, bits) if used else encode(made, x, threads=1)
            ignored = "" if used else "stochastic rounding: the random bits have no effect, "
            yield Draw(f"rounding={name}", f"{ignored}theirs is what rounding={name} gives", "", codes)
    for count in range(1, bits):
        upper, lower = random >> np.uint32(count) << np.uint32(count), random & np.uint32(2**count - 1)
        only = "stochastic rounding: of the random bits only the"
        yield of(f"upper {bits - count} random bits", f"{only} upper {bits - count} are used", upper)
        yield of(f"lower {count} random bits", f"{only} lower {count} are used", lower)
    inverted = random ^ np.uint32(2**bits - 1)
    yield of("random bits inverted", "stochastic rounding: the random bits are inverted, or subtracted", inverted)
    order = np.zeros_like(random)
    for i in range(bits):
        order |= (random >> np.uint32(i) & np.uint32(1)) << np.uint32(bits - 1 - i)
    yield of("random bits reversed", "stochastic rounding: the random bits are in reverse order", order)
