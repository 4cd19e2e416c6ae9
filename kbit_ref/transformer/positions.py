"""Where a token stands: rotary angles and their scalings for long contexts, and the slopes of ALiBi."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from typing import Any

import numpy as np
from numpy.typing import NDArray

from kbit_ref.errors import UnknownName
from kbit_ref.transformer.config import Rotary

__all__ = ["SCALINGS", "alibi_slopes", "rotary_tables"]

Array = NDArray[np.float64]

# From the frequencies theta**(-2i/d) [d / 2], the facts of the scaling, the rotary and the length of
# the sequence to the frequencies that are used and a factor for cos and sin.
Scaling = Callable[[Array, Mapping[str, Any], Rotary, int], tuple[Array, float]]
SCALINGS: dict[str, Scaling] = {}


def scaling(name: str) -> Callable[[Scaling], Scaling]:
    """Make a scaling known by its name in `config.json`."""

    def known(function: Scaling) -> Scaling:
        SCALINGS[name] = function
        return function

    return known


@scaling("default")
def unscaled(frequencies: Array, facts: Mapping[str, Any], rotary: Rotary, n: int) -> tuple[Array, float]:
    """As trained. Source: Su et al., RoFormer (arXiv 2104.09864)."""
    return frequencies, 1.0


@scaling("linear")
def linear(frequencies: Array, facts: Mapping[str, Any], rotary: Rotary, n: int) -> tuple[Array, float]:
    """All positions divided by a factor. Source: Chen et al., position interpolation (arXiv 2306.15595)."""
    return frequencies / facts["factor"], 1.0


@scaling("dynamic")
def dynamic(frequencies: Array, facts: Mapping[str, Any], rotary: Rotary, n: int) -> tuple[Array, float]:
    """A larger theta once the sequence is longer than those of training ("NTK-aware")."""
    trained, factor = facts["max_position_embeddings"], facts["factor"]
    grown = factor * max(n, trained) / trained - (factor - 1)
    theta = rotary.theta * grown ** (rotary.d / (rotary.d - 2))
    return _frequencies(theta, rotary.d), 1.0


@scaling("llama3")
def llama3(frequencies: Array, facts: Mapping[str, Any], rotary: Rotary, n: int) -> tuple[Array, float]:
    """Slow turns divided by a factor, fast ones kept, a ramp between. Source: Llama 3.1's published code."""
    trained, factor = facts["original_max_position_embeddings"], facts["factor"]
    low, high = facts["low_freq_factor"], facts["high_freq_factor"]
    turns = trained * frequencies / (2 * math.pi)  # [d / 2]: how often a pair turns in the trained context
    kept = np.clip((turns - low) / (high - low), 0, 1)
    return (1 - kept) * frequencies / factor + kept * frequencies, 1.0


@scaling("yarn")
def yarn(frequencies: Array, facts: Mapping[str, Any], rotary: Rotary, n: int) -> tuple[Array, float]:
    """A ramp over the pairs instead of over their turns, and larger scores. Source: arXiv 2309.00071."""
    trained, factor = facts["original_max_position_embeddings"], facts.get("factor")
    if factor is None:
        factor = facts["max_position_embeddings"] / trained

    def pair(turns: float) -> float:  # the pair that turns so often in the trained context
        return rotary.d * math.log(trained / (turns * 2 * math.pi)) / (2 * math.log(rotary.theta))

    low, high = pair(facts.get("beta_fast") or 32), pair(facts.get("beta_slow") or 1)
    if facts.get("truncate", True):
        low, high = math.floor(low), math.ceil(high)
    low, high = max(low, 0), min(high, rotary.d - 1)
    width = high - low if high != low else 0.001
    divided = np.clip((np.arange(rotary.d // 2) - low) / width, 0, 1)
    used = divided * frequencies / factor + (1 - divided) * frequencies

    def larger(by: float) -> float:
        return 0.1 * by * math.log(factor) + 1 if factor > 1 else 1.0

    given, all_dim, mscale = facts.get("attention_factor"), facts.get("mscale_all_dim"), facts.get("mscale")
    if given is None:
        given = larger(mscale) / larger(all_dim) if mscale and all_dim else larger(1)
    return used, float(given)


@scaling("longrope")
def longrope(frequencies: Array, facts: Mapping[str, Any], rotary: Rotary, n: int) -> tuple[Array, float]:
    """Each pair divided by a factor of its own, one list for short and one for long. Source: arXiv 2402.13753."""
    trained = facts.get("original_max_position_embeddings") or facts["max_position_embeddings"]
    factor = facts.get("factor") or facts["max_position_embeddings"] / trained
    given = facts.get("attention_factor")
    if given is None:
        given = math.sqrt(1 + math.log(factor) / math.log(trained)) if factor > 1 else 1.0
    factors = facts["long_factor"] if n > trained else facts["short_factor"]
    return frequencies / np.asarray(factors, np.float64), float(given)


def _frequencies(theta: float, d: int) -> Array:
    return 1 / theta ** (np.arange(0, d, 2) / d)


def rotary_tables(rotary: Rotary, positions: NDArray[np.intp], n: int) -> tuple[Array, Array]:
    """cos and sin [..., n_seq, d / 2] of the angles at positions [..., n_seq]; n is the length of the whole sequence.

    Raises
    ------
    UnknownName
        `load_model: rope_type = 'yarm', there is no such scaling; did you mean yarn? ...`

    Examples
    --------
    >>> cos, sin = rotary_tables(Rotary(4, theta=100.0), np.array([0, 10]), 11)
    >>> np.allclose(sin, [[0, 0], [np.sin(10), np.sin(1)]])
    True
    """
    if rotary.kind not in SCALINGS:
        raise UnknownName.among("load_model", "rope_type", rotary.kind, SCALINGS, f"known are {', '.join(SCALINGS)}")
    used, factor = SCALINGS[rotary.kind](_frequencies(rotary.theta, rotary.d), rotary.facts, rotary, n)
    angles = positions[..., None] * used  # [..., n_seq] -> [..., n_seq, d / 2]
    return np.cos(angles) * factor, np.sin(angles) * factor


def alibi_slopes(n_head: int) -> Array:
    """What a head takes off a score for each position that it looks back: 2**(-8/n), 2**(-16/n), ...

    Where n_head is no power of two, the heads beyond the power p below it get the odd members of
    the series for 2p heads. Source: Press et al. (arXiv 2108.12409) and its code.

    Examples
    --------
    >>> alibi_slopes(3)
    array([0.0625    , 0.00390625, 0.25      ])
    """
    power = 1 << (n_head.bit_length() - 1)
    first = 2.0 ** (-8 / power * np.arange(1, power + 1))
    more = 2.0 ** (-4 / power * np.arange(1, 2 * (n_head - power), 2))
    return np.concatenate([first, more])
