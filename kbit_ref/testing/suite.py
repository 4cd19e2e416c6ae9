"""The laws. Each holds of the reference in a domain that `Law.test` finds by asking the reference."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

from kbit_ref.arithmetic import same
from kbit_ref.conformance.cases.of_schemes import arranged
from kbit_ref.conformance.definition import block_index, independent
from kbit_ref.tensors.scheme import Scheme
from kbit_ref.testing.law import Ask, law
from kbit_ref.testing.subject import Answer

__all__: list[str] = []

Array = NDArray[Any]


@law
def the_same_twice(ask: Ask, x: Array, n: int, s: Scheme) -> bool | None:
    """The same array has the same answer when it comes again, at once and after another one."""
    first, second = ask(x), ask(x.copy())
    ask(x[::-1].copy())
    return first.same(second) and first.same(ask(x.copy()))


@law
def order_of_memory(ask: Ask, x: Array, n: int, s: Scheme) -> bool | None:
    """Arrays that are equal have the same answer, whatever the order and the strides of their memory."""
    spaced = np.repeat(x, 2, axis=-1)[..., ::2]
    return all(ask(np.ascontiguousarray(x)).same(ask(other)) for other in (np.asfortranarray(x), spaced))


@law
def shape(ask: Ask, x: Array, n: int, s: Scheme) -> bool | None:
    """Where blocks run over the flat array, its shape makes no difference."""
    if s.cut.axis is not None:
        return None
    one, two = ask(x), ask(x.reshape(1, -1))
    if one.codes is not None and two.codes is not None and not np.array_equal(one.codes.ravel(), two.codes.ravel()):
        return False
    return _alike(one, two)


@law
def blocks_alone(ask: Ask, x: Array, n: int, s: Scheme) -> bool | None:
    """A block alone has the answer that it has among others."""
    if not independent(s) or s.cut.kind != "b":
        return None
    index = block_index(s, x.shape)
    whole, at = ask(x), int(index.max()) * (n % 2)  # the first, or the last
    block = index == at
    rows = arranged(s.cut, s.cut.rows(x)[s.cut.rows(block)].reshape(1, -1))
    alone = ask(rows)
    for name, numbers in whole.numbers.items():
        if name not in alone.numbers or not same(numbers[at : at + 1], alone.numbers[name]).all():
            return False
    if whole.codes is not None and alone.codes is not None:
        among = s.cut.rows(whole.codes)[s.cut.rows(block)]
        if not np.array_equal(among, s.cut.rows(alone.codes).ravel()):
            return False
    if whole.values is not None and alone.values is not None:
        return bool(same(s.cut.rows(whole.values)[s.cut.rows(block)], s.cut.rows(alone.values).ravel()).all())
    return True


@law
def powers_of_two(ask: Ask, x: Array, n: int, s: Scheme) -> bool | None:
    """Times 2^n, an array has the same codes, and values times 2^n."""
    with np.errstate(all="ignore"):
        scaled = np.ldexp(x, n)
        if n == 0 or not same(np.ldexp(scaled, -n), x).all():
            return None
    one, two = ask(x), ask(scaled)
    if one.codes is not None and two.codes is not None and not np.array_equal(one.codes, two.codes):
        return False
    if one.values is None or two.values is None:
        return None if one.codes is None else True
    return bool(same(np.ldexp(one.values, n), two.values).all())


@law
def again(ask: Ask, x: Array, n: int, s: Scheme) -> bool | None:
    """What was decoded has itself as its answer."""
    values = ask(x).values
    if values is None or not np.isfinite(values).all():
        return None
    then = ask(values.astype(x.dtype)).values
    return None if then is None else bool(same(values, then).all())


@law
def order_is_kept(ask: Ask, x: Array, n: int, s: Scheme) -> bool | None:
    """Of two numbers of a block the larger one decodes to no less."""
    values = ask(x).values
    if values is None or not np.isfinite(values).all():
        return None
    index = block_index(s, x.shape).ravel()
    order = np.lexsort((x.ravel(), index))
    together = np.diff(index[order]) == 0
    return bool((np.diff(values.ravel()[order])[together] >= 0).all())


@law
def sign(ask: Ask, x: Array, n: int, s: Scheme) -> bool | None:
    """With the signs of all numbers turned, the values are the same but for their signs."""
    one, two = ask(x).values, ask(-x).values
    if one is None or two is None:
        return None
    return bool(same(one, -two, zeros=False).all())


@law
def zeros(ask: Ask, x: Array, n: int, s: Scheme) -> bool | None:
    """Zeros decode to zeros."""
    values = ask(np.zeros_like(x)).values
    return None if values is None else not values.any()


def _alike(one: Answer, two: Answer) -> bool:
    """Equal numbers of blocks, and values, in whatever shapes."""
    pairs = [(numbers, two.numbers.get(name)) for name, numbers in one.numbers.items()]
    if one.values is not None:
        pairs.append((one.values, two.values))
    return all(b is not None and a.size == b.size and bool(same(a.ravel(), b.ravel()).all()) for a, b in pairs)
