"""A named order of summation replayed in NumPy, bit for bit, for all elements of a matrix product at once."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

from kbit_ref.arithmetic import Arithmetic
from kbit_ref.errors import BadInput, message
from kbit_ref.exact.arithmetic import FORMATS
from kbit_ref.products.accumulate import Accumulator, order
from kbit_ref.products.exact_product import two_sum

__all__ = ["Arrays", "are_float32", "half_ulp", "replay", "rounded_sum"]

Array = NDArray[Any]


def replay(
    model: Accumulator, a: NDArray[np.float64], b: NDArray[np.float64], scales: Array | None = None
) -> tuple[Array, NDArray[np.float64]]:
    """Compute a [M, K] @ b [K, N] as the model adds it, and the sum of squares of the half ulps of its roundings.

    `scales` [groups, N] multiply the sums of groups. The result is float32, or float64 where the
    format is float64 or int32.
    """
    run = order(model.order)
    with np.errstate(all="ignore"):
        if model.group is None:
            machine = Arrays(model, a, b)
            total, noise = run(machine, a.shape[1]), machine.noise
        else:
            total, noise = _groups(model, a, b, scales)
        if model.out != model.last:
            total = _round(model.out, total)
            noise = noise + half_ulp(model.out, total) ** 2
    return total.astype(np.float64 if model.out in ("float64", "int32") else np.float32), noise


def _groups(model: Accumulator, a: Array, b: Array, scales: Array | None) -> tuple[Array, Array]:
    assert model.group is not None
    run, outer, total = order(model.order), Arithmetic(model.outer), None
    noise = np.zeros((len(a), b.shape[1]))
    for g, first in enumerate(range(0, a.shape[1], model.group)):
        at = slice(first, first + model.group)
        machine = Arrays(model, a[:, at], b[at])
        part = run(machine, a[:, at].shape[1])
        inner = machine.noise
        if (narrow := _round(model.outer, part)) is not part:
            inner = inner + np.where(narrow == part, 0, half_ulp(model.outer, narrow) ** 2)
        scale = np.ones((1, b.shape[1])) if scales is None else scales[g : g + 1]
        part = outer.multiply(narrow, scale)
        noise += inner * np.square(scale) + half_ulp(model.outer, part) ** 2
        if total is None:
            total = part
        else:
            total = outer.add(total, part)
            noise += half_ulp(model.outer, total) ** 2
    assert total is not None
    return total, noise


def half_ulp(form: str, x: Array) -> NDArray[np.float64]:
    """Return half the distance between numbers of the format at x: no rounding that gives x was further off."""
    if form == "int32":
        return np.zeros(np.shape(x))
    precision, least, _ = FORMATS[form]
    numbers = np.asarray(x)
    if numbers.dtype == np.float32:  # 2**e where 2**e <= |x| < 2**(e + 1); 0 of a subnormal
        power: Array = (numbers.view(np.uint32) & np.uint32(0x7F800000)).view(np.float32)
    else:
        power = (numbers.view(np.uint64) & np.uint64(0x7FF0000000000000)).view(np.float64)
    return np.asarray(np.maximum(power.astype(np.float64), 2.0**least) * 2.0**-precision)


def rounded_sum(form: str, x: Array, y: Array) -> Array:
    """Round x + y once to the format; in float64 first, to an odd neighbour, unless the format is float64."""
    if form == "float64":
        return np.asarray(x + y)
    total, lost = two_sum(np.asarray(x, np.float64), np.asarray(y, np.float64))
    even = total.view(np.uint64) % 2 == 0
    odd = np.where(even & (lost != 0) & np.isfinite(lost), np.nextafter(total, np.copysign(np.inf, lost)), total)
    return _round(form, odd)


def _round(form: str, x: Array) -> Array:
    return Arithmetic(form).round(x)


class Arrays:
    """The machine: sums [M, N] of the numbers of a [M, K] and b [K, N]."""

    def __init__(self, model: Accumulator, a: Array, b: Array):
        self.form, self.products = model.sums, model.products
        wide = "float64" in (model.sums, model.products)
        narrow = not wide and are_float32(a).all() and are_float32(b).all()
        if not narrow and model.products == "exact":  # exact products need room
            got, rule = f"accumulator = {model}", "its exact products of such numbers are no float64 numbers"
            raise BadInput(message("dot_bound", got, rule, "use numbers of float32, or +order=any"))
        self.plain = self.form == self.products == "float32" and narrow
        dtype = np.float32 if self.plain else np.float64
        self.a, self.b = a.T.astype(dtype)[:, :, None], b.astype(dtype)[:, None, :]
        self.noise = np.zeros((len(a), b.shape[1]))

    def product(self, k: int) -> Array:
        """Return product k, as it is added."""
        product = self.a[k] * self.b[k]
        if self.products == "exact" or self.plain:
            return np.asarray(product)
        return _round(self.products, product)

    def counted(self, total: Array, form: str) -> Array:
        """Count a rounding that gave `total`."""
        self.noise += half_ulp(form, total) ** 2
        return total

    def start(self, k: int) -> Array:
        """Return product k, as a number of the format of sums."""
        product = self.product(k)
        if self.products != "exact":
            self.counted(product, self.products)
        if self.products == self.form:
            return product
        return _wrapped(product) if self.form == "int32" else self.counted(_round(self.form, product), self.form)

    def step(self, total: Array, k: int) -> Array:
        """Add product k to the sum, rounded."""
        product = self.product(k)
        if self.products != "exact":
            self.counted(product, self.products)
        return self.join(total, product)

    def join(self, total: Array, other: Array) -> Array:
        """Add two sums, rounded."""
        if self.form == "int32":
            return _wrapped(total + other)
        return self.counted(total + other if self.plain else rounded_sum(self.form, total, other), self.form)


def are_float32(x: Array) -> NDArray[np.bool_]:
    """Return which numbers are float32 numbers."""
    with np.errstate(over="ignore"):
        return np.asarray(x.astype(np.float32) == x)


def _wrapped(x: Array) -> Array:
    """Reduce whole numbers modulo 2**32, from -2**31."""
    return np.asarray(np.remainder(x + 2.0**31, 2.0**32) - 2.0**31)
