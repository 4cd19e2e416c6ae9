"""Compare the numbers that libraries store for the same blocks.

A group is all formats of the same levels and the same size of block, whatever their scales: what
their codes and scales stand for is compared, number by number, the signs of zeros too.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from kbit_ref.conformance.diagnosis.counterexample import complexity, spell_block
from kbit_ref.conformance.implementations.adapters import Adapter
from kbit_ref.conformance.implementations.ask import spelled as said_of
from kbit_ref.conformance.implementations.claims import BlockProfile
from kbit_ref.conformance.implementations.library import Library
from kbit_ref.conformance.inputs.of_schemes import cases
from kbit_ref.conformance.judge import given_scales
from kbit_ref.conformance.libraries import parts_by
from kbit_ref.conformance.matrix.pairs import Group, Member, group_of
from kbit_ref.conformance.reading import Refused, read, spelled
from kbit_ref.errors import KbitError
from kbit_ref.tensors.scheme import Scheme, scheme

__all__ = ["BlockGroups"]

Array = NDArray[Any]
MOST_BLOCKS = 120  # of each class of inputs, of each scheme of a group
Key = tuple[bytes, int]
Answers = dict[tuple[Key, str], tuple[Array | str, ...]]


class BlockGroups:
    """All groups of two formats or more, from float32: a plan of the calls of each library."""

    def __init__(self, libraries: Sequence[Adapter]):
        formats: dict[Key, list[tuple[Adapter, BlockProfile, Scheme]]] = {}
        for adapter in libraries:
            for profile in adapter.formats:
                made = _scheme(profile)
                alone = profile.what == "decode" or (made is not None and made.cut.kind == "tensor")
                if made is not None and not alone and "float32" in profile.sources:
                    formats.setdefault(_key(made, profile), []).append((adapter, profile, made))
        self.formats = {key: found for key, found in formats.items() if len(found) > 1}
        self._inputs: dict[Key, list[NDArray[np.float32]]] = {}

    def inputs(self, key: Key) -> list[NDArray[np.float32]]:
        """Return the arrays of a group."""
        if key not in self._inputs:
            self._inputs[key] = _inputs(self.formats[key])
        return self._inputs[key]

    def ask(self, adapter: Adapter, library: Library) -> Answers:
        """Return the numbers that one library stores for the inputs of its groups, by group and name."""
        return {
            (key, profile.theirs): tuple(_numbers(library, profile, s, x) for x in self.inputs(key))
            for key, found in self.formats.items()
            for other, profile, s in found
            if other is adapter
        }

    def compared(self, answered: Mapping[str, Answers]) -> Iterator[Group]:
        """Compare the groups, from the answers of each library."""
        for key, found in self.formats.items():
            nothing = ("its judge died",) * len(self.inputs(key))
            members = [
                Member(f"{a.library} {p.theirs}", answered[a.library].get((key, p.theirs), nothing))
                for a, p, _ in found
            ]
            yield _group(key, found, members, self.inputs(key))


def _scheme(profile: BlockProfile) -> Scheme | None:
    try:
        return scheme(profile.profile)
    except KbitError:  # told by the judge
        return None


def _key(s: Scheme, profile: BlockProfile) -> Key:
    return np.unique(s.dtype.levels).tobytes(), s.cut.size or profile.size


def _inputs(found: Sequence[tuple[Adapter, BlockProfile, Scheme]]) -> list[NDArray[np.float32]]:
    """Return arrays of rows of a block: some of each class, of each scheme, none twice, in a number that suits all."""
    multiple = math.lcm(*(profile.blocks for _, profile, _ in found))
    by_class: dict[str, list[NDArray[np.float32]]] = {}
    for s in {str(s): s for _, _, s in found}.values():
        size = next(profile.size for _, profile, made in found if made is s)
        for case in cases(s, ("float32",), "rows", 1, size):
            if not case.name.startswith(("shape", "specials")):
                rows = s.cut.rows(case.words).reshape(-1, s.cut.size or size)
                by_class.setdefault(case.name, []).append(rows[:: -(-len(rows) // MOST_BLOCKS)])
    arrays = []
    for rows in (np.concatenate(each) for each in by_class.values()):
        unique = np.unique(rows.view(np.uint32), axis=0).view(np.float32)
        fill = -len(unique) % multiple
        arrays.append(np.concatenate([unique, *[unique[:1]] * fill]) if fill else unique)
    return arrays


def _numbers(library: Library, profile: BlockProfile, s: Scheme, rows: NDArray[np.float32]) -> Array | str:
    """Return what is stored for each of the rows as words, uint64 [n, size]; or why there is no answer."""
    along_first = s.cut.kind == "b" and s.cut.axis == 0
    x = np.ascontiguousarray(rows.T) if along_first else rows
    try:
        given = given_scales(s, profile, x)
        parts = parts_by(library, profile.theirs)(x, "float32", **given) | given
        numbers = spelled(s, x.shape, read(s, x.shape, parts))
    except (Refused, KbitError) as error:
        return str(error)
    except Exception as error:  # theirs or ours: it costs this answer, and no other
        return f"it cannot be read: {said_of(error)}"
    if numbers is None:
        return "codes and scales stand for no numbers"
    return _words(numbers.T if along_first else numbers)


def _words(numbers: NDArray[np.float64]) -> NDArray[np.uint64]:
    words = np.ascontiguousarray(numbers).view(np.uint64)
    return np.where(np.isnan(numbers), np.uint64(0x7FF8 << 48), words)


def _group(
    key: Key,
    found: Sequence[tuple[Adapter, BlockProfile, Scheme]],
    members: Sequence[Member],
    inputs: Sequence[NDArray[np.float32]],
) -> Group:
    def zeros(words: Array) -> NDArray[np.bool_]:
        return np.asarray(words << np.uint64(1) == 0)

    def example(at: int, where: NDArray[np.bool_], a: Member, b: Member) -> str:
        rows = np.flatnonzero(where.any(axis=1))
        row = int(min(rows, key=lambda i: complexity(inputs[at][i])))
        i = int(np.flatnonzero(where[row])[0])
        said = [f"{float(each.word(at, (row, i)).view(np.float64)):.9g}" for each in (a, b)]
        return f"{spell_block(inputs[at][row])} at [{i}] = {inputs[at][row, i]:.9g}: {said[0]}; {said[1]}"

    names = dict.fromkeys(s.dtype.name.partition("+")[0] for _, _, s in found)
    return group_of(f"{', '.join(names)} in blocks of {key[1]}", "blocks", members, zeros, example)
