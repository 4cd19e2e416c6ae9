"""`Explanation`: what is known of one element, and how it is told."""

from __future__ import annotations

import math
from dataclasses import asdict, dataclass
from typing import Any

from kbit_ref.explanation.decision import Decision
from kbit_ref.explanation.spelling import Figure

__all__ = ["Decider", "Explanation", "Place", "Step"]

MANY = 10**9  # more ulp than that are told by their power of two


@dataclass(frozen=True)
class Step:
    """One operation and its result, rounded."""

    what: str
    result: Figure


@dataclass(frozen=True)
class Decider:
    """A number that the scale comes from: what it is, and where it stands in x; None if nowhere."""

    what: str
    value: float
    index: tuple[int, ...] | None


@dataclass(frozen=True)
class Place:
    """Where a bit of the code lies: bit `at` (0 is the lowest) of byte `byte` of `packed`."""

    bit: int
    byte: int
    at: int


@dataclass(frozen=True)
class Explanation:
    """A trace of the quantization of one element. `print` it, or use `as_dict()` for JSON.

    Parameters
    ----------
    scheme, index, x
        Its spelling; where in x the element stands; the element.
    row, block, element, elements
        The block: of which row of the cut, its number in that row; the element's number in it; how many it has.
    first, last
        Where in x the block begins and ends.
    rule, formula, deciders
        The scale's rule; the numbers that it looked at.
    scale_steps, scale
        The scale before it is stored, an operation a step; as it is stored.
    offset, zero_point, mean, global_scale
        What else is stored, or None.
    double
        The explanation of the scale, where the scales are quantized again.
    steps, y
        The operations on the element; the number that is encoded.
    encoder, decision
        How; and where y lies between its neighbours.
    code, bits
        The code, and as bits.
    places, digit
        Where each bit of the code lies; or, in a layout of digits to base 3, the byte, and which digit (0 is the
        highest).
    decode_steps, decoded, error
        Back to a number; decoded - x, exactly, rounded once to float64.
    """

    scheme: str
    index: tuple[int, ...]
    x: Figure
    row: int
    block: int
    element: int
    elements: int
    first: tuple[int, ...]
    last: tuple[int, ...]
    rule: str
    formula: str
    deciders: tuple[Decider, ...]
    scale_steps: tuple[Step, ...]
    scale: Figure
    offset: Figure | None
    zero_point: Figure | None
    mean: Figure | None
    global_scale: Figure | None
    double: Explanation | None
    steps: tuple[Step, ...]
    y: Figure
    encoder: str
    decision: Decision
    code: int
    bits: str
    places: tuple[Place, ...]
    digit: tuple[int, int] | None
    decode_steps: tuple[Step, ...]
    decoded: float
    error: float

    def as_dict(self) -> dict[str, Any]:
        """Return plain dicts, lists, numbers and strings; infinities and NaN are strings, which JSON has."""
        found: dict[str, Any] = _plain(asdict(self))
        return found

    def __str__(self) -> str:
        lines = self._lines()
        width = max(len(label) for label, _ in lines)
        return "\n".join(f"{label:<{width}}  {text}".rstrip() for label, text in lines)

    def _lines(self) -> list[tuple[str, str]]:
        """(label, text), the label empty where a line goes on with the one above."""
        lines = [("scheme", self.scheme), (_at("x", self.index), f"{self.x}  {self.x.format}")]
        if self.x.value != 0 and self.x.exact != self.x.text and self.x.exact != _short(self.x.value):
            lines.append(("", f"= {self.x.exact}"))
        where = f"{_at('x', self.first)} ... {_at('x', self.last)}, {_counted(self.elements)}"
        lines.append(("block", f"row {self.row}, block {self.block}: {where}; this is number {self.element}"))
        lines.append(("rule", f"{self.rule}: {self.formula}"))
        for decider in self.deciders:
            place = "" if decider.index is None else f" at {_at('x', decider.index)}"
            lines.append(("", f"{decider.what} = {_short(decider.value)}{place}"))
        lines += _told("scale", self.scale_steps)
        lines.append(("stored", f"{self.scale}  {self.scale.format}"))
        for label in ("offset", "zero_point", "mean", "global_scale"):
            found = getattr(self, label)
            if found is not None:
                lines.append((label.replace("_", " "), f"{found}  {found.format}"))
        if self.double is not None:
            lines.append(("", "the scales are quantized again:"))
            lines += [("", f"    {line}") for line in str(self.double).splitlines()]
        lines += _told("scaled", self.steps)
        lines.append(("y", f"{self.y}  {self.y.format}"))
        lines += self._decision_lines()
        lines.append(("code", f"{self.code} = {self.bits}"))
        lines += [("bytes" if i == 0 else "", text) for i, text in enumerate(self._where())]
        lines += _told("decoded", self.decode_steps)
        lines.append(("error", _short(self.error)))
        return lines

    def _decision_lines(self) -> list[tuple[str, str]]:
        d, lines = self.decision, []
        for label, side in (("below", d.below), ("above", d.above)):
            if side is not None:
                code = "no code" if side.code is None else f"code {side.code} = {side.code:0{len(self.bits)}b}"
                lines.append((label, f"{_short(side.level)}  {code}"))
        if d.midpoint is not None:
            lies = "it is y" if d.side == "tie" else f"y lies {_ulps(d.ulps)} {d.side} it"
            lines.append(("midpoint", f"{_short(d.midpoint)}: {lies}"))
        return lines + [("why" if i == 0 else "", text) for i, text in enumerate(d.why)]

    def _where(self) -> list[str]:
        if self.digit is not None:
            byte, digit = self.digit
            return [f"packed[{byte}], digit {digit} of 0 ... 4 to base 3, the highest first"]
        runs: list[list[Place]] = []
        for place in self.places:
            if runs and (runs[-1][-1].byte, runs[-1][-1].at + 1) == (place.byte, place.at):
                runs[-1].append(place)
            else:
                runs.append([place])
        return [
            f"packed[{run[0].byte}], {_bits(run[0].at, run[-1].at)} = {_bits(run[0].bit, run[-1].bit)} of the code"
            for run in runs
        ]


def _told(label: str, steps: tuple[Step, ...]) -> list[tuple[str, str]]:
    width = max((len(step.what) for step in steps), default=0)
    return [
        (label if i == 0 else "", f"{step.what:<{width}} = {step.result.text}") for i, step in enumerate(steps)
    ]


def _at(name: str, index: tuple[int, ...]) -> str:
    return f"{name}[{', '.join(map(str, index))}]" if index else name


def _bits(first: int, last: int) -> str:
    return f"bit {first}" if first == last else f"bits {first}-{last}"


def _counted(n: int) -> str:
    return f"{n} element{'s' * (n != 1)}"


def _ulps(n: int | float | None) -> str:
    """So many ulp; of a number that nobody counts to, about how many."""
    return f"about 2^{int(n).bit_length() - 1} ulp" if n is not None and n > MANY else f"{n} ulp"


def _short(value: float) -> str:
    """Without `.0`."""
    return repr(int(value)) if math.isfinite(value) and value == int(value) and 0 < abs(value) < 1e15 else repr(value)


def _plain(value: Any) -> Any:
    if isinstance(value, dict):
        return {key: _plain(item) for key, item in value.items()}
    if isinstance(value, list | tuple):
        return [_plain(item) for item in value]
    return str(value) if isinstance(value, float) and not math.isfinite(value) else value
