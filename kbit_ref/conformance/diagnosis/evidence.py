"""What is known of an implementation: what it was given, and what it made of it."""

from __future__ import annotations

import math
from dataclasses import dataclass
from functools import cached_property
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from kbit_ref.arithmetic import same
from kbit_ref.engine.codec import decode
from kbit_ref.errors import BadInput, message
from kbit_ref.exact.rules import RULES
from kbit_ref.inputs import as_reals
from kbit_ref.tensors.packing import pack
from kbit_ref.tensors.scheme import Scheme
from kbit_ref.tensors.steps import Output, Runner, Steps, Stored, read, reference

__all__ = ["NAMES", "Evidence", "Score", "evidence"]

Array = NDArray[Any]

NAMES = {  # how the parts are told: one, many
    "values": ("value", "values"),
    "codes": ("code", "codes"),
    "packed": ("byte", "bytes"),
    "scales": ("scale", "scales"),
    "offsets": ("offset", "offsets"),
    "zero_points": ("zero point", "zero points"),
    "global_scale": ("global scale", "global scales"),
}
GIVEN = ("packed", "codes", "scales", "offsets", "zero_points", "global_scale")


@dataclass(frozen=True, eq=False)
class Evidence:
    """What an implementation was given, and what it made of it.

    Parameters
    ----------
    scheme
        What it should have done.
    x
        The array that it quantized; None if it was given bytes.
    stored
        The bytes that it was given to read; None if it was given an array.
    theirs
        Its answers by name, each in the shape that ours has.
    """

    scheme: Scheme
    x: Array | None
    stored: Stored | None
    theirs: dict[str, Array]

    @cached_property
    def steps(self) -> Steps:
        """The reference for the numbers that were given."""
        return reference(self.scheme, "float32" if self.x is None else self.x.dtype.name)

    @cached_property
    def runner(self) -> Runner | None:
        """Runs steps on the array, if there is one."""
        return None if self.x is None else Runner(self.x)

    @cached_property
    def size(self) -> int:
        """How many numbers are judged."""
        return sum(part.size for part in self.theirs.values())

    def made_by(self, steps: Steps, *, keep: bool = True) -> dict[str, Array]:
        """What steps make of what was given, the parts that there are answers for."""
        if self.runner is not None:
            output: Output = self.runner(steps, keep=keep)
            found = output.parts()
        else:
            assert self.stored is not None
            found = {"values": read(steps, self.stored)}
        return {name: found[name] for name in self.theirs if name in found}

    def equal(self, made: dict[str, Array]) -> dict[str, NDArray[np.bool_]]:
        """For every answer, where it is what was made."""
        found = {}
        for name, theirs in self.theirs.items():
            ours = made.get(name)
            alike = ours is not None and ours.size == theirs.size
            found[name] = _same(ours, theirs) if ours is not None and alike else np.zeros(theirs.shape, bool)
        return found

    def part(self, n: int) -> Evidence | None:
        """The first blocks of it, about n numbers; None where they say nothing without the rest."""
        s = self.scheme
        flat = s.cut.axis is None
        alone = s["global"] == "none" and s["center"] != "tensor" and s.double is None and s.cut.kind == "b"
        if self.x is None or not alone or s.cut.axis not in (None, -1) or s.cut.size is None:
            return None
        rows = s.cut.rows(self.x)
        unit = math.lcm(s.cut.size, s.layout.elements)  # whole blocks that fill whole bytes
        if flat:
            count = columns = min(n // unit * unit, rows.shape[1])
            begin: tuple[slice, ...] = (slice(0, 1), slice(0, columns))
        else:
            columns = rows.shape[1]
            height = min(max(1, n // columns), len(rows))
            count, begin = height * columns, (slice(0, height), slice(0, columns))
        if not count or count % unit:
            return None
        theirs = {}
        for name, part in self.theirs.items():
            if name in ("values", "codes"):
                kept = s.cut.rows(part)[begin]
                theirs[name] = np.ascontiguousarray(kept[0] if flat else kept)
            elif name == "packed":
                theirs[name] = part[: s.layout.size(count)]
            else:
                theirs[name] = np.ascontiguousarray(part[begin[0], : -(-columns // s.cut.size)])
        x = rows[begin]
        return Evidence(s, np.ascontiguousarray(x[0] if flat else x), None, theirs)

    def score(self, made: dict[str, Array]) -> Score:
        """How many answers are what was made."""
        alike = exact = 0
        for name, good in self.equal(made).items():
            exact += int(good.sum())
            alike += int(good.sum())
            if name == "values" and name in made and made[name].size == good.size:
                zeros = (self.theirs[name] == 0) & (made[name].reshape(good.shape) == 0)
                alike += int((zeros & ~good).sum())
        return Score(alike, exact)


class Score(NamedTuple):
    """How many answers are the same: zeros of either sign being alike, and to the bit."""

    alike: int
    exact: int


def _same(ours: Array, theirs: Array) -> NDArray[np.bool_]:
    """Equal to the bit, any NaN equal to any other; narrower answers are compared in their own format."""
    ours = ours.reshape(theirs.shape)
    if theirs.dtype.kind != "f":
        return np.asarray(ours == theirs)
    with np.errstate(over="ignore", under="ignore"):
        ours = ours.astype(theirs.dtype)
        return same(ours, theirs)


def evidence(s: Scheme, theirs: Any, x: Any, given: dict[str, Any]) -> Evidence:
    """The arguments of `diagnose`, in order.

    Raises
    ------
    BadInput
        `diagnose: theirs of shape (3, 4), x has shape (4, 3); ...`
    """
    answers = {name: value for name, value in given.items() if value is not None}
    if theirs is not None:
        array = np.asarray(theirs) if not hasattr(theirs, "dtype") or hasattr(theirs, "__array__") else theirs
        is_code = getattr(array, "dtype", np.dtype(float)).kind in "iu"
        answers["codes" if is_code else "values"] = array
    if not answers or (x is None and "values" not in answers):
        rule = "there is nothing to judge"
        remedy = "give what they made: values, or for x also codes, packed or scales"
        raise BadInput(message("diagnose", "theirs = None", rule, remedy))
    if x is not None:
        numbers = as_reals("diagnose", x)
        shape = numbers.shape
        in_order = sorted(answers, key=list(NAMES).index)
        return Evidence(s, numbers, None, {name: _answer(s, name, answers[name], shape) for name in in_order})
    values = as_reals("diagnose", answers.pop("values"))
    shape = values.shape
    parts = {name: _answer(s, name, part, shape) for name, part in answers.items()}
    return Evidence(s, None, _stored(s, parts, shape), {"values": _answer(s, "values", values, shape)})


def _answer(s: Scheme, name: str, part: Any, shape: tuple[int, ...]) -> Array:
    """One answer, in the shape that ours has."""
    n_rows, length = s.cut.grid(shape)
    blocks = n_rows, s.cut.per_row(length)
    if name == "values":
        array = as_reals("diagnose", part)
        wanted: tuple[int, ...] = shape
    elif name == "packed":
        raw = np.frombuffer(part, np.uint8) if isinstance(part, bytes | bytearray | memoryview) else np.asarray(part)
        array = np.ascontiguousarray(raw).view(np.uint8).reshape(-1)
        wanted = (s.layout.size(n_rows * length),)
    elif name == "codes":
        array = (np.asarray(part).astype(np.int64) & (2**s.dtype.bits - 1)).astype(np.uint8)
        wanted = shape
    elif name == "global_scale":
        array, wanted = np.asarray(part, np.float32).reshape(()), ()
    else:
        array = np.asarray(part)
        if name == "scales" and array.dtype.kind in "iu":  # bytes of a stored type
            array = decode(s.scale_type, array.astype(np.uint8), threads=1)
        centred = name == "offsets" and s["center"] == "tensor"
        wanted = (1, 1) if centred else blocks
        real = name != "zero_points" or RULES[s.rule].zero_point == "real"
        array = array.astype(np.float32 if real else np.int64)
    if array.size != int(np.prod(wanted)):
        got, rule = f"{name} of shape {array.shape}", f"{s} has shape {wanted} for x of shape {shape}"
        raise BadInput(message("diagnose", got, rule, "give all of it, in the order of the cut"))
    return array.reshape(wanted)


def _stored(s: Scheme, parts: dict[str, Array], shape: tuple[int, ...]) -> Stored:
    """The bytes that a reader was given."""
    if "scales" not in parts or not ("packed" in parts or "codes" in parts):
        rule = "without x the bytes that they read are needed"
        raise BadInput(message("diagnose", "x = None", rule, "give x, or packed and scales"))
    packed = parts["packed"] if "packed" in parts else pack(s.cut.rows(parts["codes"]), s.layout)
    zero = parts.get("zero_points")
    if zero is not None and zero.dtype.kind == "i":
        zero = zero.astype(np.uint8 if s.dtype.levels.min() >= 0 else np.int8)
    whole = parts.get("global_scale")
    return Stored(
        *(packed, parts["scales"], parts.get("offsets"), zero),
        *(None if whole is None else np.float32(whole), shape),
    )
