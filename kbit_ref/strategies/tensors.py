"""Arrays of blocks, and bytes of codes."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from functools import lru_cache
from typing import Any

import numpy as np
from numpy.typing import NDArray

from kbit_ref.conformance.cases import cases_of
from kbit_ref.conformance.cases.of_schemes import arranged, block_size
from kbit_ref.errors import BadInput, message
from kbit_ref.strategies.blocks import PART, answered, block_of, chosen_kinds, fixed
from kbit_ref.strategies.numbers import format_of
from kbit_ref.strategies.search import Draw, st
from kbit_ref.tensors.packing import Layout
from kbit_ref.tensors.packing import layout as layout_of
from kbit_ref.tensors.scheme import Scheme

__all__ = ["packed", "tensors"]

Array = NDArray[Any]


@lru_cache(maxsize=64)
def _hard(s: Scheme) -> tuple[Array, ...]:
    """Return the arrays of the hard cases of a scheme, small ones first, those left out that it refuses."""
    found = [given.arrays["x"] for case in cases_of(s) for given in case.given(s) if "x" in given.arrays]
    return tuple(sorted((x for x in found if answered(x, s)), key=lambda x: x.size))


_ORDERS: tuple[Callable[[Array], Array], ...] = (  # of the memory; all are equal as arrays
    np.ascontiguousarray,
    np.asfortranarray,
    lambda x: np.repeat(x, 2, axis=-1)[..., ::2],
)


@st.composite
def _tensor(draw: Draw, s: Scheme, kind: Any, kinds: list[str], ragged: bool, most: int) -> Array:
    size = block_size(s) if s.cut.size else draw(st.integers(1, 16))
    full = block_of(s, kind, kinds, size, False)
    n_rows = 1 if s.cut.axis is None else draw(st.integers(1, 3))
    per_row = draw(st.integers(1, most)) if s.cut.size else 1
    rows = [np.concatenate([draw(full) for _ in range(per_row)]) for _ in range(n_rows)]
    if s.cut.size and ragged and draw(st.booleans()):
        cut = draw(st.integers(1, size)) if per_row > 1 or size > 1 else 0
        rows = [row[: max(1, row.size - cut)] for row in rows]
    x = arranged(s.cut, np.stack(rows))
    if s.cut.axis is None:
        n = x.size
        wide = draw(st.sampled_from([k for k in (1, 2, 3, 4, 5, 7, n) if n % k == 0]))
        x = x.reshape(draw(st.sampled_from([(n,), (wide, n // wide), (1, wide, n // wide)])))
    hard = [x for x in _hard(s) if ragged or _whole(s, x)] if kind is np.float32 else []
    if hard and draw(st.integers(0, 3)) == 3:  # last, so that what is made up counts as simpler
        x = draw(st.sampled_from(hard))
    return draw(st.sampled_from(_ORDERS))(x)  # type: ignore[no-any-return]


def _whole(s: Scheme, x: Array) -> bool:
    """Return whether all its blocks are full."""
    return s.cut.size is None or s.cut.grid(x.shape)[1] % s.cut.size == 0


def tensors(
    scheme: Scheme | str,
    *,
    kinds: Sequence[str] | None = None,
    ragged: bool = True,
    max_blocks: int = 3,
    source: str = "float32",
) -> st.SearchStrategy[Array]:
    """Draw arrays for a scheme: some of its `blocks` in rows along its axis, or flat in any shape; and its hard cases.

    Examples shrink to one full block of zeros, in C order: of one dimension for flat cuts, of the fewest that the
    cut allows for others. The scheme has an answer to all of them.

    Parameters
    ----------
    kinds
        As in `blocks`.
    ragged
        Rows that end with a short block too.
    max_blocks
        At most so many blocks in a row, hard cases apart.
    source
        The format of the numbers; hard cases are float32.

    Raises
    ------
    BadInput
        `tensors: max_blocks = 0, an array has at least one block; use 3`

    Examples
    --------
    >>> from kbit_ref.strategies import simplest
    >>> simplest(tensors("int4-b4-absmax-f32"), lambda x: True)
    array([0., 0., 0., 0.], dtype=float32)
    >>> simplest(tensors("int4-b2@0-absmax-f32"), lambda x: x.shape[1] > 1).shape
    (2, 2)
    """
    s = fixed("tensors", scheme)
    kind = format_of("tensors", source)
    if not isinstance(max_blocks, int) or max_blocks < 1:
        raise BadInput(message("tensors", f"max_blocks = {max_blocks!r}", "an array has at least one block", "use 3"))
    made = _tensor(s, kind, chosen_kinds("tensors", s, kinds), ragged and s["tail"] != "error", max_blocks)
    return made.filter(lambda x: answered(x, s))


@st.composite
def _packed(draw: Draw, form: Layout, most: int, dirty: bool) -> tuple[NDArray[np.uint8], int]:
    codes = draw(st.lists(st.integers(0, form.codes - 1), max_size=min(most, PART)))
    more = draw(st.integers(0, max(0, most - len(codes)))) if codes else 0  # given again, up to `most` codes
    codes = np.resize(np.array(codes, np.uint8), len(codes) + more)
    buffer = form.pack(codes).copy()
    if dirty and buffer.size:
        used = form.pack(np.full(codes.size, form.codes - 1, np.uint8))  # all bits of all codes
        noise = np.frombuffer(draw(st.binary(min_size=buffer.size, max_size=buffer.size)), np.uint8)
        buffer |= noise & ~used
    return buffer, codes.size


def packed(
    layout: Layout | str, *, max_codes: int | None = None, dirty: bool = False
) -> st.SearchStrategy[tuple[NDArray[np.uint8], int]]:
    """Draw bytes of a layout, and how many codes they hold: what `kb.unpack(bytes, layout, n)` takes.

    Examples shrink to no codes at all, then to few, small ones.

    Parameters
    ----------
    max_codes
        At most so many; by default three groups and one code.
    dirty
        Bits that belong to no code, at the end and inside, are anything. A reader must not look at them.

    Raises
    ------
    BadInput
        `packed: dirty = True, every value of a byte of trits2x256 is digits; leave it out`

    Examples
    --------
    >>> from kbit_ref.strategies import simplest
    >>> simplest(packed("low4"), lambda pair: pair[1] == 2)
    (array([0], dtype=uint8), 2)
    """
    form = layout_of(layout)
    if max_codes is not None and (not isinstance(max_codes, int) or max_codes < 0):
        raise BadInput(message("packed", f"max_codes = {max_codes!r}", "it is a number from 0", "leave it out"))
    if dirty and form.digits:
        rule = f"every value of a byte of {form} is digits"
        raise BadInput(message("packed", "dirty = True", rule, "leave it out"))
    return _packed(form, 3 * form.elements + 1 if max_codes is None else max_codes, dirty)
