"""Model how an implementation adds up a dot product: formats, fused or not, and in which order.

An `Accumulator` is a frozen record, spelled NAME{+choice=value}: `float32`, `float32_fma`,
`bfloat16_via_float32`, `int32_b32`, `float32+order=strided8`. An order is a function of a machine
that can begin a sum with a product, add a product to a sum, and add two sums. The same function
runs on three machines: NumPy's arrays, rationals (the definition), and text, which shows the tree:

    >>> print(spelled("strided4", 8))
    (((0+4)+(2+6))+((1+5)+(3+7)))
"""

from __future__ import annotations

import re
from collections.abc import Callable, Sequence
from dataclasses import dataclass, fields, replace
from fractions import Fraction
from typing import Any, Generic, Protocol, TypeVar

from kbit_ref.errors import BadInput, UnknownName, message
from kbit_ref.exact.arithmetic import FORMATS, Arithmetic, Number, as_number
from kbit_ref.registry import Registry

__all__ = ["ACCUMULATORS", "ORDERS", "Accumulator", "accumulator", "defined", "spelled", "within"]

Sum = TypeVar("Sum")
SOURCE = {"source": "definition"}


class Machine(Protocol[Sum]):
    """The operations that an order needs; products have the numbers 0 to n - 1."""

    def start(self, k: int) -> Sum:
        """Return the sum of product k alone."""

    def step(self, total: Sum, k: int) -> Sum:
        """Add product k to the sum, rounded."""

    def join(self, total: Sum, other: Sum) -> Sum:
        """Add two sums, rounded."""


Order = Callable[[Any, int], Any]
ORDERS: Registry[Order] = Registry()


def _row(machine: Machine[Sum], indices: Sequence[int]) -> Sum:
    """Add one after the other."""
    total = machine.start(indices[0])
    for k in indices[1:]:
        total = machine.step(total, k)
    return total


def _halves(machine: Machine[Sum], sums: list[Sum]) -> Sum:
    """Add the upper half of the lanes to the lower, until one is left; the number of lanes is a power of two."""
    while len(sums) > 1:
        half = len(sums) // 2
        sums = [machine.join(sums[i], sums[i + half]) for i in range(half)]
    return sums[0]


@ORDERS.row("sequential", facts=SOURCE, parameters={})
def _sequential() -> Order:
    """From the first product to the last."""
    return lambda machine, n: _row(machine, range(n))


@ORDERS.row("reverse", facts=SOURCE, parameters={})
def _reverse() -> Order:
    """From the last product to the first."""
    return lambda machine, n: _row(machine, range(n)[::-1])


@ORDERS.row("pairwise", facts=SOURCE, parameters={})
def _pairwise() -> Order:
    """The two halves, each in the same way; the first is the longer one."""

    def order(machine: Any, n: int) -> Any:
        def part(first: int, last: int) -> Any:
            if last - first == 1:
                return machine.start(first)
            middle = (first + last + 1) // 2
            return machine.join(part(first, middle), part(middle, last))

        return part(0, n)

    return order


@ORDERS.row("blocked{B}", facts=SOURCE, parameters={"B": range(1, 1 << 20)}, grammar=True)
def _blocked(B: int) -> Order:
    """Blocks of B products from first to last, then the sums of the blocks from first to last."""

    def order(machine: Any, n: int) -> Any:
        total = _row(machine, range(min(B, n)))
        for first in range(B, n, B):
            total = machine.join(total, _row(machine, range(first, min(first + B, n))))
        return total

    return order


@ORDERS.row("strided{L}", facts=SOURCE, parameters={"L": [1 << i for i in range(1, 11)]})
def _strided(L: int) -> Order:
    """L lanes, as SIMD does: lane j takes products j, j + L, ...; then half the lanes onto the others, repeatedly."""

    def order(machine: Any, n: int) -> Any:
        if n < L:
            return _row(machine, range(n))
        return _halves(machine, [_row(machine, range(j, n, L)) for j in range(L)])

    return order


@ORDERS.row("numpy", facts={"source": "NumPy 2.4, pairwise_sum"}, parameters={})
def _numpy() -> Order:
    """np.sum of contiguous numbers: eight lanes for at most 128 numbers, above that in halves of a multiple of 8."""

    def order(machine: Any, n: int) -> Any:
        def part(first: int, n: int) -> Any:
            if n < 8:
                return _row(machine, range(first, first + n))
            if n > 128:
                half = n // 2 - n // 2 % 8
                return machine.join(part(first, half), part(first + half, n - half))
            lanes = [_row(machine, range(first + j, first + n - n % 8, 8)) for j in range(8)]
            while len(lanes) > 1:  # neighbours
                lanes = [machine.join(lanes[i], lanes[i + 1]) for i in range(0, len(lanes), 2)]
            total = lanes[0]
            for k in range(first + n - n % 8, first + n):
                total = machine.step(total, k)
            return total

        return part(0, n)

    return order


def order(name: str) -> Order:
    """Return the order of that name."""
    if found := ORDERS.find(name):
        return found[1]
    known = ["any", *ORDERS.names(), "blocked32"]
    raise UnknownName.among("accumulator", "order", name, known, "any, sequential, pairwise, blocked32, strided8, ...")


@dataclass(frozen=True)
class Accumulator:
    """An arithmetic for the products a_k * b_k of a dot product.

    Parameters
    ----------
    sums
        The format every addition is rounded to, nearest even with subnormals: float16, bfloat16,
        float32, float64; or int32, whose sums are exact and wrap.
    products
        The format products are rounded to first, or `exact`: they go into the addition as they are (fused).
    order
        A name in `ORDERS`, or `any`.
    group
        If given: sums of so many products each are made first, and each is multiplied by its scale, in
        `outer`; then the results are added in `outer`, from first to last, or in any order if `order` is any.
        A sum that is no number of `outer` is rounded to it before.
    outer, out
        Formats; `out` is the result's. By default that of the sums, or float32 for groups of int32.
    """

    sums: str
    products: str
    order: str = "any"
    group: int | None = None
    outer: str = ""
    out: str = ""

    def __post_init__(self) -> None:
        if self.group and not self.outer:
            object.__setattr__(self, "outer", "float32" if self.sums == "int32" else self.sums)
        if not self.out:
            object.__setattr__(self, "out", self.last)
        known = {"sums": (*FORMATS, "int32"), "products": ("exact", *FORMATS), "out": (*FORMATS, "int32")}
        for name, forms in known.items():
            if getattr(self, name) not in forms:
                raise UnknownName.among("accumulator", name, getattr(self, name), forms, f"it is {', '.join(forms)}")
        if self.outer and self.outer not in FORMATS:
            raise UnknownName.among("accumulator", "outer", self.outer, FORMATS, f"it is {', '.join(FORMATS)}")
        if self.order != "any":
            order(self.order)
        whole = self.sums == "int32" and self.products != "exact"
        if whole or (self.out == "int32" and self.last != "int32") or (self.group is not None and self.group < 1):
            got = f"sums = {self.sums}, products = {self.products}, group = {self.group}, out = {self.out}"
            rule = "whole numbers have exact products, floating ones no int32, and a group at least one"
            raise BadInput(message("accumulator", got, rule, "start from float32 or int32_b32"))

    @property
    def last(self) -> str:
        """Return the format of the last sum."""
        return self.outer if self.group else self.sums

    def __str__(self) -> str:
        plain = accumulator(self.sums)
        differing = [f.name for f in fields(self) if getattr(self, f.name) != getattr(plain, f.name)]
        return self.sums + "".join(f"+{name}={getattr(self, name)}" for name in differing)


ACCUMULATORS: Registry[Accumulator] = Registry()
FORMS = "|".join(FORMATS)
CHOICES = {"products": f"exact|{FORMS}", "order": r"\w+", "group": "[1-9][0-9]*", "outer": FORMS, "out": FORMS}


@ACCUMULATORS.row("{form}", facts=SOURCE, parameters={"form": list(FORMATS)})
def _plain(form: str) -> Accumulator:
    """Products and sums rounded to one format."""
    return Accumulator(form, form)


@ACCUMULATORS.row("{form}_fma", facts=SOURCE, parameters={"form": ["float16", "bfloat16", "float32"]})
def _fused(form: str) -> Accumulator:
    """Fused multiply-add: a product is not rounded before it is added."""
    return Accumulator(form, "exact")


@ACCUMULATORS.row("{form}_via_float32", facts=SOURCE, parameters={"form": ["float16", "bfloat16"]})
def _via(form: str) -> Accumulator:
    """Products exact, sums in float32, and the result rounded to half precision at the end."""
    return Accumulator("float32", "exact", out=form)


@ACCUMULATORS.row("int32", facts=SOURCE, parameters={})
def _integer() -> Accumulator:
    """Products of whole numbers, in int32."""
    return Accumulator("int32", "exact")


@ACCUMULATORS.row("int32_b{group}", facts=SOURCE, parameters={"group": range(1, 1 << 20)}, grammar=True)
def _integer_groups(group: int) -> Accumulator:
    """Whole numbers: sums of groups in int32, each times its scale in float32, added in float32."""
    return Accumulator("int32", "exact", group=group)


@ACCUMULATORS.row(
    "{form}_b{group}", facts=SOURCE, parameters={"form": [*FORMATS], "group": range(1, 1 << 20)}, grammar=True
)
def _groups(form: str, group: int) -> Accumulator:
    """Sums of groups, each times its scale, all in one format."""
    return Accumulator(form, form, group=group)


def accumulator(model: Accumulator | str) -> Accumulator:
    """Return the record of that spelling.

    Examples
    --------
    >>> accumulator("float32+order=pairwise")
    Accumulator(sums='float32', products='float32', order='pairwise', group=None, outer='', out='float32')
    >>> str(accumulator("bfloat16_via_float32"))
    'float32+products=exact+out=bfloat16'

    Raises
    ------
    UnknownName
        `accumulator: name = 'float23', there is no such name; did you mean float32? ...`
    """
    if isinstance(model, Accumulator):
        return model
    name, *choices = model.split("+")
    found = ACCUMULATORS.find(name)
    if found is None:
        known = [*ACCUMULATORS.names(), "int32_b32", "float32_b32"]
        raise UnknownName.among("accumulator", "name", name, known, "names are float32, float32_fma, int32_b32, ...")
    record = found[1]
    chosen: dict[str, Any] = {}
    for choice in choices:
        key, _, value = choice.partition("=")
        if key not in CHOICES:
            raise UnknownName.among("accumulator", "choice", choice, CHOICES, f"choices are {', '.join(CHOICES)}")
        if not re.fullmatch(CHOICES[key], value):
            raise UnknownName.among("accumulator", key, value, CHOICES[key].split("|"), f"{key} is {CHOICES[key]}")
        chosen[key] = int(value) if key == "group" else value
    if "group" in chosen:  # the format of the result is that of the outer sum, unless told
        chosen.setdefault("out", chosen.get("outer", ""))
    return replace(record, **chosen)


def within(inner: str, outer: str) -> bool:
    """Return whether every finite number of one format is one of the other.

    Examples
    --------
    >>> within("float16", "float32"), within("float16", "bfloat16"), within("int32", "float32")
    (True, False, False)
    """
    (p, least, most), (q, lowest, highest) = _facts(inner), _facts(outer)
    return p <= q and least - p >= lowest - q and most <= highest


def _facts(form: str) -> tuple[int, int, int]:
    return (31, 30, 30) if form == "int32" else FORMATS[form]  # whole numbers of 31 bits


class _Text:
    """The tree, as text."""

    def start(self, k: int) -> str:
        return str(k)

    def step(self, total: str, k: int) -> str:
        return f"({total}+{k})"

    def join(self, total: str, other: str) -> str:
        return f"({total}+{other})"


def spelled(name: str, n: int) -> str:
    """Return the tree of additions of n products in that order.

    Examples
    --------
    >>> spelled("pairwise", 5), spelled("blocked2", 5)
    ('(((0+1)+2)+(3+4))', '(((0+1)+(2+3))+4)')
    """
    return str(order(name)(_Text(), n))


class _Rational(Generic[Sum]):
    """The definition: every operation exact, then rounded once."""

    def __init__(self, model: Accumulator, a: Sequence[Number], b: Sequence[Number]):
        self.model, self.a, self.b = model, a, b
        self.sums = None if model.sums == "int32" else Arithmetic(model.sums)

    def product(self, k: int) -> Number:
        """Return product k, as it is added."""
        a, b = self.a[k], self.b[k]
        if self.model.products != "exact":
            return Arithmetic(self.model.products).multiply(a, b)
        if a and b:
            return as_number(a) * as_number(b)
        return Arithmetic("float64").multiply(a, b)  # zeros have signs

    def start(self, k: int) -> Number:
        x = self.product(k)
        return _wrapped(x) if self.sums is None else self.sums.fl(x)

    def step(self, total: Number, k: int) -> Number:
        return self.join(total, self.product(k))

    def join(self, total: Number, other: Number) -> Number:
        if self.sums is None:
            return _wrapped(as_number(total) + as_number(other))
        return self.sums.add(total, other)


def _wrapped(x: Number) -> Number:
    return (as_number(x) + 2**31) % 2**32 - 2**31


def defined(
    model: Accumulator | str, a: Sequence[Any], b: Sequence[Any], scales: Sequence[Any] | None = None
) -> Number:
    """Compute the dot product of a and b as the model adds it, in rationals; `scales` has one number per group.

    Examples
    --------
    >>> [int(defined(f"float16+order={order}", [2048, 1, 1], [1, 1, 1])) for order in ("sequential", "reverse")]
    [2048, 2050]
    """
    record = accumulator(model)
    x, y = [as_number(v) for v in a], [as_number(v) for v in b]
    run = order(record.order)
    if record.group is None:
        total: Number = run(_Rational(record, x, y), len(x))
    else:
        outer = Arithmetic(record.outer)
        parts = []
        for g, first in enumerate(range(0, len(x), record.group)):
            last = min(first + record.group, len(x))
            part = run(_Rational(record, x[first:last], y[first:last]), last - first)
            scale = Fraction(1) if scales is None else as_number(scales[g])
            parts.append(outer.multiply(outer.fl(part), scale))
        total = parts[0]
        for part in parts[1:]:
            total = outer.add(total, part)
    return total if record.out == "int32" else Arithmetic(record.out).fl(total)
