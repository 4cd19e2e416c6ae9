"""Quantizers to try a test on: the reference, and the known-wrong ones, with what became of each call."""

from __future__ import annotations

from collections.abc import Mapping
from contextlib import suppress
from dataclasses import dataclass, field
from functools import lru_cache
from typing import Any

import numpy as np
from numpy.typing import NDArray

from kbit_ref.conformance.cases import cases_of
from kbit_ref.conformance.variants import Mutant, mutants
from kbit_ref.errors import KbitError
from kbit_ref.inputs import as_codes, as_reals
from kbit_ref.tensors.probe import probe
from kbit_ref.tensors.scheme import Scheme
from kbit_ref.tensors.steps import Output, Runner, Steps, Stored, read, reference

__all__ = ["Quantizer", "quantizer", "witnesses"]

Array = NDArray[Any]
MOST_KEPT = 32  # arrays of which the reference's answers are remembered


@lru_cache(maxsize=MOST_KEPT)
def _runner(x: bytes, dtype: str, shape: tuple[int, ...]) -> Runner:
    """Return the runner of an array, which all quantizers share: they begin alike."""
    return Runner(np.frombuffer(x, dtype).reshape(shape))


def _bits(parts: Mapping[str, Array]) -> tuple[Any, ...]:
    """Return parts to compare; any NaN equals any other."""
    return tuple((name, np.where(np.isnan(p), np.nan, p).tobytes()) for name, p in parts.items())


def _alike(one: Output, two: Output) -> bool:
    return _bits(one.parts()) == _bits(two.parts())


@dataclass
class Quantizer:
    """A quantizer for a test: it quantizes by a scheme, rightly or wrongly.

    Parameters
    ----------
    name
        `reference`, or that of the mutant.
    scheme
        What it claims to do.
    mutant
        What is wrong with it; None for the reference.
    calls
        How often it was called.
    shown
        Did any answer differ from the reference's? Else no test can reject it on these arrays.
    inputs
        The arrays that it was called with, as hashes in their order.

    Examples
    --------
    >>> import kbit_ref as kb
    >>> swapped = quantizer(kb.scheme("int4-b4-absmax-f32"), "nibbles-swapped")
    >>> swapped(np.array([7, 1, 2, 3], np.float32)), swapped.shown
    (array([1., 7., 3., 2.], dtype=float32), True)
    """

    name: str
    scheme: Scheme
    mutant: Mutant | None = None
    calls: int = 0
    shown: bool = False
    inputs: list[int] = field(default_factory=list, repr=False)
    _steps: dict[str, tuple[Steps, Steps]] = field(default_factory=dict, repr=False)

    def _of(self, source: str) -> tuple[Steps, Steps]:
        """Return the steps of the reference and its own, for numbers of a format."""
        if source not in self._steps:
            right = reference(self.scheme, source)
            wrong = right if self.mutant is None else self.mutant(right)
            self._steps[source] = right, right if wrong is None else wrong
        return self._steps[source]

    def __call__(self, x: Any) -> NDArray[np.float32]:
        """Quantize an array and dequantize it: float32 [*shape]."""
        return self.quantize(x).values

    def quantize(self, x: Any) -> Output:
        """Return `codes packed scales offsets zero_points global_scale` and `values`, decoded.

        Raises
        ------
        BadInput
            for what the scheme refuses, as `kb.quantize` does; a wrong quantizer may refuse more, or less.
        """
        array = as_reals("quantizer", x)
        self.calls += 1
        self.inputs.append(hash(array.tobytes()))
        right, own = self._of(array.dtype.name)
        runner = _runner(array.tobytes(), array.dtype.str, array.shape)
        with np.errstate(all="ignore"):
            try:
                made = runner(own, keep=False)
            except KbitError:
                self.shown = self.shown or _answered(runner, right)
                raise
            if own is not right:
                self.shown = self.shown or not _answered(runner, right) or not _alike(runner(right), made)
        return made

    def dequantize(self, q: Any) -> NDArray[np.float32]:
        """Dequantize what `quantize` returned, or a QTensor."""
        shape = tuple(getattr(q, "shape", ()) or q.codes.shape)
        stored = Stored(q.packed, q.scales, q.offsets, q.zero_points, q.global_scale, shape)
        return np.asarray(self._both("read", lambda steps: read(steps, stored)), np.float32)

    def pack(self, codes: Any) -> NDArray[np.uint8]:
        """Pack codes into bytes, in the layout of the scheme."""
        flat = as_codes("pack", codes, self.scheme.dtype.bits).reshape(-1)
        return np.asarray(self._both("pack", lambda steps: steps.pack(flat)), np.uint8)

    def unpack(self, packed: Any, n: int) -> NDArray[np.uint8]:
        """Unpack the first n codes of bytes."""
        flat = np.asarray(packed, np.uint8).reshape(-1)
        return np.asarray(self._both("unpack", lambda steps: steps.unpack(flat, (1, n)).reshape(-1)), np.uint8)

    def _both(self, name: str, work: Any) -> Array:
        """Return the quantizer's own answer, and note whether it is that of the reference."""
        self.calls += 1
        right, own = self._of("float32")
        with np.errstate(all="ignore"):
            made: Array = work(own)
            if own is not right:
                self.shown = self.shown or _bits({name: work(right)}) != _bits({name: made})
        return made


def _answered(runner: Runner, steps: Steps) -> bool:
    try:
        runner(steps)
    except KbitError:
        return False
    return True


def quantizer(scheme: Scheme, name: str = "") -> Quantizer:
    """Return the mutant of that name, or the reference."""
    return Quantizer(name, scheme, mutants()[name]) if name else Quantizer("reference", scheme)


@lru_cache(maxsize=128)
def witnesses(s: Scheme) -> dict[str, Array]:
    """Return an array for each mutant that it tells from the reference in this scheme.

    Hard cases, the smallest first; then the probe.
    """
    arrays = [given.arrays["x"] for case in cases_of(s) for given in case.given(s) if "x" in given.arrays]
    arrays = [*sorted(arrays, key=lambda x: x.size), probe(s)]
    found: dict[str, Array] = {}
    left = [name for name, mutant in mutants().items() if mutant.applies(s)]
    for x in arrays:
        for name in list(left):
            q = quantizer(s, name)
            with suppress(KbitError):
                q(x)
            if q.shown:
                found[name] = x
                left.remove(name)
    return {name: found[name] for name in mutants() if name in found}
