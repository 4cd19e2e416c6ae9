"""The smallest counterexample, step by step: of a data type one number, of a scheme one block.

A number is placed between its neighbouring levels, with the midpoint, the distances and the rule that decides,
all in rationals from the type's `exact.Definition` and never from the engine. A block is made simpler as long as it
still shows the difference: fewer numbers other than 0, and simpler ones. Blocks are independent, so a library is
asked about thousands of variants of a block in one array.
"""

from __future__ import annotations

import math
from bisect import bisect_right
from collections.abc import Callable, Iterable, Iterator, Sequence
from fractions import Fraction
from typing import Any

import numpy as np
from numpy.typing import NDArray

from kbit_ref import exact
from kbit_ref.arithmetic import widened
from kbit_ref.conformance.compare import PER_BLOCK, Compared, Record, records
from kbit_ref.conformance.definition import Stored, independent
from kbit_ref.conformance.diagnosis.groups import explained_by, rest
from kbit_ref.conformance.diagnosis.result import Finding, Group
from kbit_ref.conformance.inputs.of_schemes import narrowed, shaped
from kbit_ref.conformance.inputs.of_types import bits_and_number
from kbit_ref.conformance.reading import Refused
from kbit_ref.conformance.verdict import Counterexample
from kbit_ref.datatypes.datatype import DataType
from kbit_ref.exact.rules import RULES
from kbit_ref.explanation.spelling import exactly
from kbit_ref.tensors.scheme import Scheme

__all__ = ["Shrinker", "complexity", "counterexample", "shrink", "simplest", "spell_block", "spell_code"]

Array = NDArray[Any]
Flags = NDArray[np.bool_]
Put = Callable[[Array, str], Compared]
Shows = Callable[[Array], Flags]

MOST_BLOCKS = 500  # of which the simplest is made simpler
MOST_ALONE = 60  # variants that are asked about one by one in a round
MOST_VARIANTS, MOST_ROUNDS = 3000, 24
KEPT_BITS = (1, 2, 3, 4, 6, 8, 11, 16)

# Data types -------------------------------------------------------------------------------------------


def simplest(x: NDArray[np.float64], where: NDArray[np.bool_]) -> int:
    """Return the index of the simplest number among those marked.

    The fewest significand bits, then the magnitude nearest to 1, then positive before negative;
    infinities after finite numbers, NaN last.

    Examples
    --------
    >>> numbers = np.array([1.0, -0.75, 0.75, np.inf, 3.5])
    >>> simplest(numbers, np.array([False, True, True, True, True]))
    2
    """
    index = np.flatnonzero(where)
    y = x[index]
    finite = np.isfinite(y)
    fraction, exponent = np.frexp(np.where(finite, y, 0.0))
    whole = np.abs(np.ldexp(fraction, 53)).astype(np.int64)
    low_bit = np.where(whole == 0, 1, whole & -whole)
    length = np.where(whole == 0, 0, 54 - np.frexp(low_bit)[1]).astype(int)
    rank = np.where(finite, 0, np.where(np.isinf(y), 1, 2))
    order = np.lexsort((np.signbit(y), np.abs(y), np.abs(exponent), length, rank))
    return int(index[order[0]])


def spell_code(dtype: DataType, code: int, raw: Any = None) -> str:
    """Spell a code and its level, `0x7e = 448`; of no code the integer, `-1` for one that was cast to uint64."""
    if not 0 <= code < 2**dtype.bits:
        if raw is None:
            return "no level of the type"
        number = int(raw) - 2**64 if int(raw) >= 2**63 else int(raw)
        return f"{number}, which is no code of {dtype.bits} bits"
    return f"{_hex(code, dtype.bits)} = {_level(exact.decode(dtype, code))}"


def _hex(code: int, bits: int) -> str:
    return f"0x{code:0{-(-bits // 4)}x}"


def _level(level: Any) -> str:
    if not isinstance(level, Fraction):
        return str(level)
    exact_value = exactly(level)
    return exact_value if len(exact_value) <= 14 else f"{float(level):.9g}"


def counterexample(dtype: DataType, kind: str, word: Any, theirs: str, ours: int, more: str = "") -> Counterexample:
    """Return the counterexample at one word of a source format.

    Parameters
    ----------
    dtype, kind, word
        The type; the source format, and the input as one of its words.
    theirs
        Their answer, spelled.
    ours
        The code by the definition.
    more
        A last line: how their answer comes about.
    """
    bits, x = bits_and_number(word, kind)
    steps = _steps(dtype.definition, dtype.bits, x)
    return Counterexample(
        source=kind,
        bits=bits,
        value=_spell_input(x),
        theirs=theirs,
        ours=spell_code(dtype, ours),
        steps=(*steps, more) if more else steps,
    )


def _spell_input(x: float | Fraction) -> str:
    if isinstance(x, Fraction):
        return str(x) if x.denominator == 1 else exactly(x)
    if not math.isfinite(x):
        return ("-nan" if math.copysign(1, x) < 0 else "nan") if x != x else str(x)
    shown = repr(int(x)) if x == int(x) and 0 < abs(x) < 1e15 else repr(x)
    if x and not 1e-3 <= abs(x) < 1e15:
        exact_value = exactly(Fraction(x))
        return shown if len(exact_value) > 30 or exact_value == shown else f"{shown} = {exact_value}"
    return shown


def _steps(d: exact.Definition, bits: int, x: float | Fraction) -> tuple[str, ...]:
    """Return why the definition gives the code it gives."""

    def level(value: Fraction) -> str:
        return f"{_level(value)} ({_hex(dict(d.ladder)[value], bits)})"

    if x != x:
        return ("x is NaN; the canonical NaN of the type is " + _hex(d.nan or 0, bits),)
    if math.isinf(x):
        sign = 1 if x > 0 else -1
        has = "has" if d.infinity[sign] is not None else "has no"
        return (f"x is infinite, the type {has} {'' if sign > 0 else '-'}infinity; overflow={d.overflow} decides",)
    value = Fraction(x)
    if value < 0 <= d.values[0]:
        return (f"x is negative, the smallest level is {level(d.values[0])}; negative={d.negative} decides",)
    i = bisect_right(d.values, value) - 1
    if i >= 0 and d.values[i] == value:
        step = f"x is a level: {level(value)}"
        if value == 0 and d.minus_zero is not None:
            step += f"; its sign bit is {int(math.copysign(1, x) < 0)}, zero_sign={d.zero_sign}"
        return (step,)
    if i == len(d.values) - 1:
        return _beyond(d, value, level(d.values[-1]), d.values[-1], 1)
    if i < 0:
        return _beyond(d, value, level(d.values[0]), d.values[0], -1)
    return _between(d, value, d.values[i], d.values[i + 1], level)


def _between(d: exact.Definition, x: Fraction, below: Fraction, above: Fraction, level: Any) -> tuple[str, ...]:
    steps = [f"neighbouring levels are {level(below)} and {level(above)}"]
    if d.rounding != "nearest":
        steps.append(f"rounding={d.rounding} decides")
    else:
        midpoint = (below + above) / 2
        side = "on it" if x == midpoint else f"{exactly(abs(x - midpoint))} {'above' if x > midpoint else 'below'} it"
        steps.append(f"their midpoint is {exactly(midpoint)}: x lies {side}")
        if x == midpoint:
            steps.append(f"a tie, distance {exactly(x - below)} to both: ties={d.ties} decides")
        else:
            to = [f"{exactly(abs(x - v))} to {_level(v)}" for v in (below, above)]
            nearest = below if x < midpoint else above
            steps.append(f"distances: {to[0]}, {to[1]}; nearest is {_level(nearest)}")
    if 0 in (below, above) and d.minus_zero is not None and x < 0:
        steps.append(f"if it is zero, x < 0 has zero_sign={d.zero_sign}: -0 is {_hex(d.minus_zero, 8)}")
    return tuple(steps)


def _beyond(d: exact.Definition, x: Fraction, last: str, value: Fraction, sign: int) -> tuple[str, ...]:
    if sign < 0 <= value:
        return (f"x lies below the smallest level {last}, which stands for everything from there to 0",)
    steps = [f"x is beyond the last level {last}, by {exactly(abs(x - value))}"]
    if d.overflow in ("saturate", "finite") or d.beyond is None:
        steps.append(f"overflow={d.overflow}: the last level stands for every finite number beyond it")
    else:
        after = sign * Fraction(d.beyond)
        midpoint = (value + after) / 2
        where = "on" if x == midpoint else "past" if abs(x) > abs(midpoint) else "before"
        steps.append(f"the next would be {exactly(after)}, the midpoint is {exactly(midpoint)}: x lies {where} it")
        steps.append(f"overflow={d.overflow} rounds first" + (f", ties={d.ties}" if where == "on" else ""))
    return tuple(steps)


# Simpler blocks ---------------------------------------------------------------------------------------


def shrink(block: NDArray[np.float32], shows: Shows, rounds: int = MOST_ROUNDS) -> NDArray[np.float32]:
    """Return the simplest block that one can get to by small steps, each of which still shows the difference.

    Parameters
    ----------
    block : [size]
        float32; what shows the difference now.
    shows
        [n, size] -> [n]: which blocks show it.
    rounds
        So many steps at most.

    Returns
    -------
    [size]
    """
    best = np.array(block, np.float32)
    for _ in range(rounds):
        variants = list(_unique(best, _variants(best)))[:MOST_VARIANTS]
        if not variants:
            break
        variants.sort(key=complexity)
        good = shows(np.stack(variants))
        first = np.flatnonzero(good)
        if not first.size:
            break
        best = variants[int(first[0])]
    return best


def complexity(block: NDArray[np.float32]) -> tuple[float, ...]:
    """Return a key: fewer numbers other than 0 first, then fewer digits, magnitudes nearer to 1, fewer signs.

    Examples
    --------
    >>> complexity(np.array([1, 0, 0], np.float32)) < complexity(np.array([1, 0.3, 0], np.float32))
    True
    """
    finite = np.isfinite(block)
    numbers = block[finite & (block != 0)].astype(np.float64)
    fraction, exponent = np.frexp(numbers)
    whole = np.abs(np.ldexp(fraction, 24)).astype(np.int64)
    digits = 25 - np.frexp((whole & -whole).astype(np.float64))[1] if numbers.size else np.zeros(0)
    distinct = len(set(numbers.tolist()))
    zeros = int(np.signbit(block[block == 0]).sum())
    negative = int((numbers < 0).sum())
    order = int(np.flatnonzero(block != 0).sum()) if numbers.size else 0
    return (
        float(numbers.size + (~finite).sum() + zeros),
        float(distinct),
        float(digits.sum()),
        float(np.abs(exponent - 1).sum()),
        float(negative + zeros),
        float(order),
    )


def _unique(best: Array, variants: Iterator[Array]) -> Iterator[Array]:
    seen, now = {best.tobytes()}, complexity(best)
    for variant in variants:
        key = variant.tobytes()
        if key not in seen and complexity(variant) < now:
            seen.add(key)
            yield variant


def _variants(block: NDArray[np.float32]) -> Iterator[NDArray[np.float32]]:
    """Yield blocks that differ in one step: numbers removed, made simpler, moved to the front, scaled by 2^n."""
    at = np.flatnonzero((block != 0) | np.signbit(block) | np.isnan(block))
    largest = int(np.abs(np.nan_to_num(block)).argmax())
    for share in (2, 4, 8, 16):  # whole parts at once
        size = -(-len(at) // share)
        for begin in range(0, len(at), max(size, 1)):
            some = at[begin : begin + size]
            yield _with(block, some, 0)
            yield _with(block, some[some != largest], 0)
    if len(at) > 1:
        for i in at:  # it alone, and with the largest
            alone = np.zeros_like(block)
            alone[i] = block[i]
            yield alone
            alone = alone.copy()
            alone[largest] = block[largest]
            yield alone
    for i in at:
        yield _with(block, i, 0)
    yield _front(block, at)
    finite = block[np.isfinite(block) & (block != 0)]
    if finite.size:
        with np.errstate(all="ignore"):
            scaled = np.ldexp(block, -int(np.frexp(np.abs(finite).max())[1]) + 1).astype(np.float32)
            yield scaled
            yield -block
    if len(at) <= 64:
        yield from _simpler(block, at)


def _front(block: NDArray[np.float32], at: Array) -> NDArray[np.float32]:
    moved = np.zeros_like(block)
    moved[: len(at)] = block[at]
    return moved


def _with(block: NDArray[np.float32], at: Any, value: Any) -> NDArray[np.float32]:
    changed = block.copy()
    changed[at] = value
    return changed


def _simpler(block: NDArray[np.float32], at: Array) -> Iterator[NDArray[np.float32]]:
    """Yield one number after the other: 1, -1, a power of two, fewer bits of significand; and all of them at once."""
    for i in at:
        value = block[i]
        for other in (1.0, -1.0, 0.5, 2.0):
            yield _with(block, i, other)
        if np.isfinite(value):
            yield _with(block, i, abs(value))
            for bits in KEPT_BITS:
                yield from (_with(block, i, kept[0]) for kept in _kept(block[i : i + 1], bits))
    for bits in KEPT_BITS:
        yield from _kept(block, bits)
    finite = np.flatnonzero(np.isfinite(block) & (block != 0))
    for i in finite[:8]:
        for j in finite[:8]:
            if i != j:
                yield _with(block, i, block[j])


def _kept(values: NDArray[np.float32], bits: int) -> Iterator[NDArray[np.float32]]:
    """Yield numbers with so many bits of significand: rounded, and cut."""
    with np.errstate(all="ignore"):
        fraction, exponent = np.frexp(values.astype(np.float64))
        for rounding in (np.rint, np.trunc, lambda y: np.sign(y) * np.ceil(np.abs(y))):
            near = np.ldexp(rounding(np.ldexp(fraction, bits)), exponent - bits).astype(np.float32)
            yield np.where(np.isfinite(values) & np.isfinite(near), near, values)


def spell_block(block: Array) -> str:
    """Spell the numbers of a block, runs of one number in short: `[1, 0.5, 0 x 62]`.

    Examples
    --------
    >>> spell_block(np.array([1, 0.5, 0, 0, 0], np.float32))
    '[1, 0.5, 0 x 3]'
    """
    texts = [_spell(value) for value in block.reshape(-1)]
    runs: list[list[Any]] = []
    for text in texts:
        if runs and runs[-1][0] == text:
            runs[-1][1] += 1
        else:
            runs.append([text, 1])
    parts = [text if count == 1 else f"{text} x {count}" for text, count in runs]
    if len(parts) > 12:
        parts = [*parts[:10], f"... {len(texts)} numbers"]
    return "[" + ", ".join(parts) + "]"


def _spell(value: Any) -> str:
    number = np.float32(value) if np.asarray(value).dtype != np.float64 else value
    text = str(number)
    return text.removesuffix(".0") if "e" not in text else text


# Blocks that show a difference -------------------------------------------------------------------------


class Shrinker:
    """Makes counterexamples for one scheme.

    Parameters
    ----------
    put
        (numbers, source) -> their answers and ours; raises `Refused`.
    multiple, size
        The number of blocks of an array must be a multiple of this; elements of a block, where the cut does not say.
    """

    def __init__(self, s: Scheme, put: Put, multiple: int = 1, size: int = 32):
        self.s, self.put, self.multiple, self.size = s, put, multiple, s.cut.size or size

    def of(self, group: Group, compared: Sequence[Compared], findings: Sequence[Finding]) -> Counterexample:
        """Return the simplest that shows a group; `findings` are all that there are."""
        part = group.part
        i = min(group.where)
        if part not in (*PER_BLOCK, "codes", "decoded"):
            return self.first(part, compared[i], group.where[i])

        def shows(one: Compared) -> Flags:
            return _blocks(one, part, self._belongs(group, one, findings))

        found = ((compared[j], _at(compared[j], part, where)) for j, where in group.where.items())
        places = ((each, int(block)) for each, blocks in found for block in blocks)
        one, block, alone = self.simplest(places, shows)
        if part != "decoded" or alone:
            return self.example(part, one, block, self._belongs(group, one, findings) if alone else group.where[i])
        again = self._simple_array(compared[i], lambda one: self._belongs(group, one, findings))
        return self._decoded(*again) if again else self._decoded(compared[i], group.where[i], whole=True)

    def _belongs(self, group: Group, one: Compared, findings: Sequence[Finding]) -> Flags:
        """Return which answers for another array differ for the reason of a group."""
        wrong = one.wrong.get(group.part)
        if wrong is None or not wrong.any():
            return np.zeros(one.index.shape if wrong is None else wrong.shape, bool)
        if group.finding is not None:
            return explained_by(self.s, group.finding, one)[group.part]
        left = {part: flags.copy() for part, flags in one.wrong.items()}
        for finding in findings:
            for part, flags in explained_by(self.s, finding, one).items():
                left[part] &= ~flags
        found = np.zeros(wrong.shape, bool)
        for part, cause, flags in rest(self.s, one, left):
            if (part, cause) == (group.part, group.cause):
                found |= flags
        return found

    def simplest(
        self, places: Iterable[tuple[Compared, int]], shows: Callable[[Compared], Flags], rounds: int = MOST_ROUNDS
    ) -> tuple[Compared, int, bool]:
        """Return the simplest array and its block that show it, and whether it is a block alone.

        Parameters
        ----------
        places
            Blocks that show it.
        shows
            [n_blocks]: those of another array that do.
        """
        every = list(places)
        some = every[:: -(-len(every) // MOST_BLOCKS)]
        of_block = [(records(self.s, one, np.array([block]))[0], one, block) for one, block in some]
        record, one, block = min(
            of_block, key=lambda each: (each[0].short, each[0].source != "float32", complexity(_floats(each[0])))
        )
        if record.short or record.words.size == 1 or self.s.double is not None:
            return one, block, False

        def blocks_show(blocks: Array) -> Flags:
            result = np.zeros(len(blocks), bool)
            if not independent(self.s) and len(blocks) > 1:  # each in an array of its own, up to the first
                for i, each in enumerate(blocks[:MOST_ALONE]):
                    if blocks_show(each[None])[0]:
                        result[i] = True
                        break
                return result
            again = self._put(blocks, record.source)
            if again is not None and again.case.words.size >= blocks.size:
                result |= shows(again)[: len(blocks)]
            return result

        best = shrink(_floats(record), blocks_show, rounds)
        # two of it where blocks are independent: one row is special to some libraries
        again = self._put(np.stack([best] * (2 if independent(self.s) else 1)), record.source)
        return (again, 0, True) if again is not None and shows(again)[:1].any() else (one, block, False)

    def _put(self, blocks: Array, source: str) -> Compared | None:
        try:
            return self.put(shaped(narrowed(blocks, source), self.s, self.multiple), source)
        except Refused:
            return None

    def _simple_array(self, one: Compared, shows: Callable[[Compared], Flags]) -> tuple[Compared, Flags, bool] | None:
        """Return the smallest array of that many dimensions, block i full of i + 1, that shows it."""
        shape, width = one.case.words.shape, self.size
        if len(shape) != 2:
            return None
        for columns in dict.fromkeys((width, 3 * width // 2, shape[1])):
            for rows in dict.fromkeys((1, 2, 3, shape[0])):
                numbers = (np.arange(rows * columns).reshape(rows, columns) // width + 1).astype(np.float32)
                try:
                    again = self.put(narrowed(numbers, one.case.source), one.case.source)
                except Refused:
                    continue
                if (where := shows(again)).any():
                    return again, where, True
        return None

    # How it is told ------------------------------------------------------------------------------

    def first(self, part: str, one: Compared, where: Flags) -> Counterexample:
        """Return the first byte, decoded number or number of the whole array that differs, as it is."""
        if part == "decoded":
            return self._decoded(one, where, whole=True)
        at = int(np.flatnonzero(where)[0])
        if part == "packed":
            assert one.theirs.packed is not None
            assert one.theirs.repacked is not None
            texts = f"byte {at} is 0x{one.theirs.packed[at]:02x}", f"0x{one.theirs.repacked[at]:02x}"
            return Counterexample(one.case.source, _shape(one), *texts)
        stored = (one.theirs.stored, one.ours)
        values = [float(each.global_scale or 0) if part == "global_scale" else each.double[part][at] for each in stored]
        place = f"[{at}]" if part in ("scale_codes", "scale_scales") else ""
        texts = f"{values[0]:.9g}", f"{values[1]:.9g}"
        return Counterexample(one.case.source, f"array {one.case.name}", *texts, at=place)

    def example(self, part: str, compared: Compared, block: int, where: Flags | None = None) -> Counterexample:
        """Return a block that differs in a code or a number, step by step."""
        where = compared.wrong[part] if where is None or where.shape != compared.wrong[part].shape else where
        if part in ("codes", "decoded") and not where[compared.index == block].any():
            where = compared.wrong[part]
        if part == "decoded":
            return self._decoded(compared, where & (compared.index == block))
        record = records(self.s, compared, np.array([block]))[0]
        numbers = widened(record.words, record.source)
        text = spell_block(numbers)
        ours, theirs = compared.ours, compared.theirs.stored
        if part != "codes":
            values = [float(stored.blocks[part][block]) for stored in (theirs, ours)]
            rule = f"rule {self.s.rule}: {RULES[self.s.rule].__doc__}"
            texts = [f"{part} {_real(value)}" for value in values]
            return Counterexample(record.source, text, texts[0], texts[1], (rule,) if part == "scales" else ())
        inside = np.flatnonzero((compared.index == block).reshape(-1))
        wrong = inside[where.reshape(-1)[inside]]
        at = int(wrong[0])
        place = int(np.flatnonzero(inside == at)[0])
        codes = [int(stored.codes.reshape(-1)[at]) for stored in (theirs, ours)]
        x = float(compared.case.numbers.reshape(-1)[at])
        raw = compared.theirs.raw
        came = None if raw is None or raw.reshape(-1)[at] == -1 else raw.reshape(-1)[at]  # -1: it was no level
        spelled = [spell_code(self.s.dtype, codes[0], came), spell_code(self.s.dtype, codes[1])]
        for i, stored in enumerate((theirs, ours)):
            about = _numbers_of(stored, block)
            spelled[i] += f"  ({about})" if about else ""
        steps = self._steps(x, compared, block, codes[1])
        return Counterexample(record.source, text, spelled[0], spelled[1], steps, at=f"[{place}] = {_real(x)}")

    def _steps(self, x: float, compared: Compared, block: int, code: int) -> tuple[str, ...]:
        """Return the scaled number between its neighbouring levels."""
        scales = compared.ours.blocks.get("scales")
        simple = self.s["scaleuse"] == "rounded" and self.s["global"] == "none" and self.s["scaleas"] == "multiplier"
        simple = simple and self.s["leastused"] == "none"
        if scales is None or not simple or RULES[self.s.rule].offset_added or RULES[self.s.rule].zero_point:
            return ()
        with np.errstate(all="ignore"):
            scale = np.float32(scales[block])
            if scale == 0:
                return ("our scale is 0: nothing is divided by it, every number is encoded as 0",)
            reciprocal = self.s["arith"] == "reciprocal"
            y = np.float32(x) * (np.float32(1) / scale) if reciprocal else np.float32(x) / scale
        if not np.isfinite(y):
            return (f"x / scale = {y}",)
        word = int(np.array([y], np.float32).view(np.uint32)[0])
        steps = counterexample(self.s.dtype, "float32", word, "", code).steps
        how = "x * fl(1 / scale)" if reciprocal else "x / scale"
        return (f"{how} = {_real(float(y))}", *steps)

    def _decoded(self, compared: Compared, where: NDArray[np.bool_], whole: bool = False) -> Counterexample:
        assert compared.theirs.decoded is not None
        assert compared.spelled is not None
        at = int(np.flatnonzero(where.reshape(-1))[0])
        block = int(compared.index.reshape(-1)[at])
        code = int(compared.theirs.stored.codes.reshape(-1)[at])
        values = [float(array.reshape(-1)[at]) for array in (compared.theirs.decoded, compared.spelled)]
        numbers = compared.case.numbers
        if whole:
            text = _shape(compared)
            text += f" ({compared.case.name})" if compared.case.name else ", block i full of i + 1"
            position = ", ".join(str(int(i)) for i in np.unravel_index(at, numbers.shape))
        else:
            inside = np.flatnonzero((compared.index == block).reshape(-1))
            text = spell_block(numbers.reshape(-1)[inside])
            position = str(int(np.flatnonzero(inside == at)[0]))
        step = f"their code {spell_code(self.s.dtype, code)}, {_numbers_of(compared.theirs.stored, block)}"
        steps = (step,) if compared.theirs.says_numbers else ()
        return Counterexample(compared.case.source, text, _real(values[0]), _real(values[1]), steps, at=f"[{position}]")


def _at(one: Compared, part: str, where: Flags) -> NDArray[np.intp]:
    """Return the blocks of some answers of a part."""
    return np.flatnonzero(where) if part in PER_BLOCK else np.unique(one.index[where]).astype(np.intp)


def _blocks(one: Compared, part: str, where: Flags) -> Flags:
    """Return those that have some answers of a part, [n_blocks]."""
    found = np.zeros(one.ours.refused.size, bool)
    found[_at(one, part, where)] = True
    return found


def _numbers_of(stored: Stored, block: int) -> str:
    """Return the scale of a block and what else it stores, in words."""
    return ", ".join(f"{name.removesuffix('s')} {_real(float(all_[block]))}" for name, all_ in stored.blocks.items())


def _floats(record: Record) -> NDArray[np.float32]:
    return np.asarray(widened(record.words, record.source), np.float32)


def _shape(compared: Compared) -> str:
    return "array " + " x ".join(map(str, compared.case.words.shape))


def _real(value: float) -> str:
    """Return a float32, or a number of fewer bits, in the fewest digits that tell it apart."""
    small = np.float32(value)
    text = str(small) if float(small) == value or value != value else repr(value)
    return text.removesuffix(".0")
