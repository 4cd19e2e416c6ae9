"""The formats of IEEE P3109, by their name grammar: Binary{K}p{P}{s|u}{e|f}.

K bits, P bits of precision (one of them implied), signed or unsigned, extended (with infinities)
or finite. The report's modes are choices of ours:

    NearestTiesToEven   the default            SatPropagate   the default
    NearestTiesToAway   +ties=away             SatFinite      +overflow=finite
    TowardZero          +rounding=toward_zero  SatNone        +overflow=infinity, and for an
    TowardPositive      ...                                   unsigned format +negative=nan
    ToOdd               +rounding=odd
    StochasticA, B, C   +rounding=stochastic_a ...

(SatNone was OvfInf in earlier reports.)
"""

from __future__ import annotations

import numpy as np

from kbit_ref.datatypes.datatype import DataType, register
from kbit_ref.datatypes.levels import rational


@register(
    "Binary{K}p{P}{sign}{domain}",
    family="p3109",
    source="IEEE P3109 interim report 4.0 (June 2026), section 3",
    grammar=True,
    where=lambda K, P, sign, domain: P < K or (P == K and sign == "u"),
    K=range(3, 17),
    P=range(1, 17),
    sign="su",
    domain="ef",
)
def binary(K: int, P: int, sign: str, domain: str) -> DataType:
    """IEEE P3109: one zero, one NaN, gradual subnormals; bias 2**(K-P-1), unsigned 2**(K-P).

    Examples
    --------
    >>> import kbit_ref as kb
    >>> kb.decode("Binary8p3se", [0x3F, 0x40, 0x41, 0x7F, 0x80, 0xC0])
    array([ 0.875,  1.   ,  1.25 ,    inf,    nan, -1.   ], dtype=float32)
    >>> kb.encode("Binary16p1uf", [1.0, 2.0**-1074])  # levels from 2**-32767 to 2**32766
    array([32768, 31694], dtype=uint16)
    """
    signed, extended = sign == "s", domain == "e"
    n = 2 ** (K - signed)  # codes without a sign
    last = n - 1 - extended - (not signed)  # the largest finite level
    bias = 2 ** (K - P - 1) if signed else 2 ** (K - P)

    field, trailing = np.divmod(np.arange(n + 1), 2 ** (P - 1))
    significands = np.where(field == 0, trailing, trailing + 2 ** (P - 1)).astype(np.float64)
    exponents = np.maximum(field, 1) - bias - (P - 1)
    beyond = rational(float(significands[last + 1]), int(exponents[last + 1]))

    if extended:
        significands[last + 1] = np.inf
    if signed:
        significands = np.concatenate([significands[:n], [np.nan], -significands[1:n]])
        exponents = np.concatenate([exponents[:n], exponents[:n]])
    else:
        significands, exponents = np.append(significands[: n - 1], np.nan), exponents[:n]
    return DataType("", K, significands, ties="even", beyond=beyond, exponents=exponents, family="p3109")
