"""Acceptance rules in use in the tests of libraries, and two of equality: worked examples for `audit`.

    kbit-ref audit kbit_ref.conformance.audit.rules_in_use:sqnr_18 --scheme ocp-mxfp8-e4m3

A rule takes a quantizer and says whether it is good enough. They are the rules as people state them, on inputs of
the same kind; the numbers of bounds are theirs.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from functools import cache, lru_cache
from typing import Any

import numpy as np
from numpy.typing import NDArray

from kbit_ref.conformance.audit.quantizers import Quantizer
from kbit_ref.conformance.audit.run import Audit, Rule, audit
from kbit_ref.errors import KbitError
from kbit_ref.tensors.dequantize import dequantize
from kbit_ref.tensors.probe import probe
from kbit_ref.tensors.quantize import quantize
from kbit_ref.tensors.scheme import Scheme

__all__ = ["RULES", "RuleInUse", "audits", "rows"]

Array = NDArray[Any]


@dataclass(frozen=True)
class RuleInUse:
    """An acceptance rule, and the schemes that it is used for."""

    name: str
    rule: Rule
    schemes: tuple[str, ...]

    @property
    def summary(self) -> str:
        """The first line of the docstring."""
        return (self.rule.__doc__ or "").strip().splitlines()[0].removesuffix(".")


RULES: dict[str, RuleInUse] = {}


def rule_for(*schemes: str) -> Callable[[Rule], Rule]:
    """Decorate a rule: it is used for these schemes."""

    def decorate(rule: Rule) -> Rule:
        name = getattr(rule, "__name__", "")
        RULES[name] = RuleInUse(name, rule, schemes)
        return rule

    return decorate


@cache
def normals(*shape: int) -> NDArray[np.float32]:
    """Gaussian numbers, the same every time."""
    return np.random.default_rng(0).standard_normal(shape, np.float32)


def sqnr(x: Array, values: Array) -> float:
    """Signal to quantization noise in decibels."""
    signal, noise = (np.linalg.norm(v.astype(np.float64)) for v in (x, x - values))
    return float(20 * np.log10(signal / noise)) if noise else np.inf


@rule_for("ocp-mxfp8-e4m3")
def sqnr_18(quantizer: Quantizer) -> bool:
    """SQNR of Gaussian data is at least 18 dB (tests of MXFP8)."""
    x = normals(64, 128)
    return sqnr(x, quantizer(x)) >= 18


@rule_for("ocp-mxfp4")
def sqnr_13(quantizer: Quantizer) -> bool:
    """SQNR of Gaussian data is at least 13 dB (tests of MXFP4)."""
    x = normals(64, 128)
    return sqnr(x, quantizer(x)) >= 13


@rule_for("nvfp4-modelopt")
def sqnr_8(quantizer: Quantizer) -> bool:
    """SQNR of Gaussian data is at least 8 dB (tests of NVFP4)."""
    x = normals(64, 128)
    return sqnr(x, quantizer(x)) >= 8


@rule_for("ggml-q8_0", "ggml-q4_0")
def rmse_over_n(quantizer: Quantizer) -> bool:
    """sqrt(sum of squared errors) / n is at most 0.002, n where sqrt(n) is meant (tests of ggml's formats)."""
    x = (0.1 + 2 * np.cos(np.arange(4096))).astype(np.float32)
    return float(np.linalg.norm((x - quantizer(x)).astype(np.float64)) / x.size) <= 0.002


MEAN, DEVIATION = 0.0728, 0.0003  # of the mean absolute error of 65,536 normals under nf4-b64-absmax-f32, over draws


@rule_for("bnb-cuda-nf4", "nf4-b64-absmax-f32")
def mean_error(quantizer: Quantizer) -> bool:
    """The mean error of Gaussian data is at most its mean + 7 deviations over many draws (tests of 4-bit formats)."""
    x = normals(256, 256)
    return float(np.abs(x - quantizer(x)).mean(dtype=np.float64)) <= MEAN + 7 * DEVIATION


@rule_for("bnb-cuda-nf4", "int4-b32-absmax-f32")
def round_trip_of_codes(quantizer: Quantizer) -> bool:
    """Codes that are packed and unpacked again are the same."""
    codes = np.arange(4096) * 7 % 2**quantizer.scheme.dtype.bits
    return np.array_equal(quantizer.unpack(quantizer.pack(codes), codes.size), codes)


@rule_for("bnb-cuda-nf4", "int4-b32-absmax-f32")
def round_trip_of_values(quantizer: Quantizer) -> bool:
    """What was quantized and read back does not change when that is done again."""
    once = quantizer(normals(64, 128))
    return np.array_equal(quantizer(once), once)


@rule_for("ocp-mxfp8-e4m3", "ocp-mxfp4", "bnb-cuda-nf4", "int4-b32-absmax-f32", "ggml-q4_0")
def equal_on_normals(quantizer: Quantizer) -> bool:
    """Bytes, scales and values are equal to the bit to the reference's, for Gaussian data."""
    return _equal(quantizer, normals(64, 128))


@rule_for("ocp-mxfp8-e4m3", "ocp-mxfp4", "bnb-cuda-nf4", "int4-b32-absmax-f32", "ggml-q4_0")
def equal_on_probe(quantizer: Quantizer) -> bool:
    """Bytes, scales and values are equal to the bit to the reference's, for `kb.probe`, 4,096 numbers made for it."""
    return _equal(quantizer, probe(quantizer.scheme))


def _equal(quantizer: Quantizer, x: Array) -> bool:
    """Is it what `kb.quantize` says, or does it refuse what that refuses?"""
    right = _right(quantizer.scheme, x.tobytes(), x.shape)
    try:
        q = quantizer.quantize(x)
    except KbitError:
        return right is None
    theirs = [getattr(q, name) for name in PARTS]
    return right == [None if part is None else np.asarray(part).tobytes() for part in theirs]


PARTS = ("packed", "scales", "offsets", "zero_points", "global_scale", "values")


@lru_cache(maxsize=512)
def _right(s: Scheme, x: bytes, shape: tuple[int, ...]) -> list[bytes | None] | None:
    """The bytes of every part of a float32 array as `kb.quantize` and `kb.dequantize` have them; None if refused."""
    try:
        q = quantize(np.frombuffer(x, np.float32).reshape(shape), s, threads=1)
    except KbitError:
        return None
    parts = [*(getattr(q, name) for name in PARTS[:-1]), dequantize(q, threads=1)]
    return [None if part is None else np.asarray(part).tobytes() for part in parts]


def audits(only: Iterable[str] = ()) -> Iterator[tuple[RuleInUse, str, Audit]]:
    """Every rule (or those of these names) tried on the wrong quantizers of each of its schemes."""
    for one in [RULES[name] for name in only] or RULES.values():
        for scheme in one.schemes:
            yield one, scheme, audit(one.rule, scheme, name=one.name)


def rows(only: Iterable[str] = ()) -> list[dict[str, str]]:
    """A row a rule and scheme, for the book: how many wrong quantizers it accepts, of how many.

    Examples
    --------
    >>> rows(["round_trip_of_codes"])[0]["rule"]
    'Codes that are packed and unpacked again are the same'
    """
    found = []
    for one, scheme, result in audits(only):
        n_shown = sum(mutant.shown for mutant in result.accepted)
        counts = {
            "accepts": f"{len(result.accepted)} of {len(result.tried)}",
            "though it saw the difference": str(n_shown),
        }
        found.append({"rule": one.summary, "for": scheme} | counts)
    return found
