"""Departures: where a profile, which says what a library does, parts from the published definition of its format.

They are found, not typed in (`find.py`), and stored in a file. Written by hand are the definitions
(`tensors/definitions.txt`) and a sentence for each choice of a library (`sentences.txt`).
"""

from __future__ import annotations

import csv
from collections.abc import Iterable, Iterator
from dataclasses import asdict, dataclass, fields
from functools import cache
from importlib.resources import files
from pathlib import Path
from typing import Any

import numpy as np

from kbit_ref.data import data_folder
from kbit_ref.errors import KbitError
from kbit_ref.tensors.profiles import Profile, profiles
from kbit_ref.tensors.scheme import Scheme, scheme

__all__ = [
    *("EFFECTS", "Departure", "as_row", "departures", "distinct", "faults", "read", "sentences", "write"),
]

EFFECTS = {  # the worst first; what lies before `changed` breaks a law whatever a definition allows
    "no answer": "the arithmetic of the profile gives no number",
    "not finite": "a finite number comes back as an infinity or NaN",
    "lost": "the largest number of a block comes back as less than half of itself or more than twice",
    "zero moved": "0 comes back as another number",
    "sign of zero": "0 or a positive number comes back as -0",
    "changed": "a number that the definition gives back exactly comes back as another one",
    "farther": "numbers come back farther from x",
    "nearer": "numbers come back nearer to x",
    "as near": "some numbers come back farther from x, others nearer, and neither more than chance has it",
    "rounding": "numbers come back as near to x as by the definition, but for roundings",
    "zero": "a zero comes back with another sign",
    "stored": "the same numbers come back, stored otherwise",
}


@dataclass(frozen=True)
class Departure:
    """One departure of a profile from the definition of its format.

    Parameters
    ----------
    profile
        Its name.
    choices
        The choices that make it, `leastused=1e-38`; more than one where only together they do.
    effect
        The worst that it does, one of `EFFECTS`.
    bad
        Does it lose numbers or break a law?
    values, of
        How many numbers come back otherwise (or are stored otherwise), of how many that were compared.
    worst
        To how many of them the effect happens.
    error, error_of_definition
        The largest error among them, |what comes back - x| over the largest magnitude of the block, and that of
        the definition for the same number.
    least, most
        Between which largest magnitudes of blocks the worst happens.
    inputs
        The classes of inputs in which it does, as `check` calls them.
    block, at, theirs, ours
        The smallest example: a block, the number in it, what comes back by the profile and by the definition.
    """

    profile: str
    choices: tuple[str, ...]
    effect: str
    bad: bool
    values: int
    of: int
    worst: int
    error: float
    error_of_definition: float
    least: float
    most: float
    inputs: tuple[str, ...]
    block: str
    at: float
    theirs: float
    ours: float

    @property
    def meaning(self) -> str:
        """Return what the library does, in a sentence."""
        return "; ".join(sentences()[choice] for choice in self.choices)

    @property
    def source(self) -> str:
        """Return where the library does it."""
        return profiles()[self.profile].source

    @property
    def line(self) -> str:
        """Return the choices, what they mean and do, and the smallest example."""
        return f"{' '.join(self.choices)}: {self.meaning} ({self.effect}); {self.example}"

    def as_dict(self) -> dict[str, str]:
        """Return the words of it, for JSON."""
        return {
            "choices": " ".join(self.choices),
            "effect": self.effect,
            "meaning": self.meaning,
            "example": self.example,
        }

    @property
    def example(self) -> str:
        """Return the smallest example, in a line."""
        if self.effect == "stored":
            return self.block
        x, theirs, ours = (str(np.float32(value)).removesuffix(".0") for value in (self.at, self.theirs, self.ours))
        return f"{self.block}: {x} comes back as {theirs}, by the definition as {ours}"


@cache
def sentences() -> dict[str, str]:
    """Return what a choice of a library means for numbers, by `choice=value`."""
    text = (files("kbit_ref.conformance.departures") / "sentences.txt").read_text("utf-8")
    return dict(line.split(maxsplit=1) for line in text.splitlines())


# The departures that were found ------------------------------------------------------------------


def departures(profile: str | Scheme) -> tuple[Departure, ...]:
    """Return the departures of a profile, the worst first, as they were found and committed; none for other schemes.

    Parameters
    ----------
    profile
        Its name, or a scheme of that spelling; the same in half precision (`+compute=float16`, scales in float16)
        has the departures of the profile in float32.

    Examples
    --------
    >>> [(*each.choices, each.effect) for each in departures("bnb-cpu-nf4") if each.bad]
    [('leastused=1e-38', 'lost'), ('leastused=1e-38', 'changed')]
    """
    try:
        s = scheme(profile)
    except KbitError:  # a data type
        return ()
    found = _committed().get(str(s))
    if found is None and s["compute"] in ("float16", "bfloat16"):
        head, *choices = str(s).split("+")
        start = head.removesuffix("-f16").removesuffix("-bf16")
        plain = "+".join([start if start == head else f"{start}-f32", *choices]).replace(f"+compute={s['compute']}", "")
        found = _committed().get(plain)
    return found or ()


def faults(profile: str | Scheme) -> tuple[Departure, ...]:
    """Return the bad departures of a profile: for each choice, or choices that only together do it, the worst.

    Examples
    --------
    >>> print(faults("bnb-cpu-nf4")[0].example)
    [1e-45, 0 x 63]: 1e-45 comes back as 0, by the definition as 1e-45
    """
    return tuple({each.choices: each for each in reversed(departures(profile)) if each.bad}.values())[::-1]


@cache
def _committed() -> dict[str, tuple[Departure, ...]]:
    found: dict[str, list[Departure]] = {}
    for each in read():
        found.setdefault(str(scheme(each.profile)), []).append(each)
    return {spelling: tuple(some) for spelling, some in found.items()}


def distinct() -> list[Profile]:
    """Return the profiles, each spelling once."""
    return list({str(scheme(p.spelling)): p for p in reversed(profiles().values())}.values())[::-1]


def _path() -> Path:
    return data_folder("departures") / "departures.csv"


def read() -> Iterator[Departure]:
    """Yield the committed departures."""
    with _path().open(encoding="utf-8", newline="") as file:
        for row in csv.DictReader(file):
            cells: dict[str, Any] = dict(row)
            cells |= {name: int(row[name]) for name in ("values", "of", "worst")}
            cells |= {name: float(row[name]) for name in ("error", "error_of_definition", "least", "most")}
            cells |= {name: float(np.float32(row[name])) for name in ("at", "theirs", "ours")}
            cells |= {name: tuple(row[name].split()) for name in ("choices", "inputs")}
            yield Departure(**cells | {"bad": row["bad"] == "bad"})


def as_row(departure: Departure) -> dict[str, str]:
    """Return the cells of a departure in the file."""
    cells = {}
    for name, value in asdict(departure).items():
        text = " ".join(value) if isinstance(value, tuple) else f"{value:.9g}" if isinstance(value, float) else value
        cells[name] = str(text)
    return cells | {"bad": "bad" if departure.bad else "good"}


def write(path: str | Path, found: Iterable[Departure]) -> None:
    """Write departures as CSV."""
    with Path(path).open("w", encoding="utf-8", newline="") as file:
        writer = csv.DictWriter(file, [each.name for each in fields(Departure)], lineterminator="\n")
        writer.writeheader()
        writer.writerows(map(as_row, found))
