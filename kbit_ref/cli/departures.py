"""List where profiles differ from the published definitions of their formats: known faults, and other choices.

A profile says what a library does. Each departure is a choice of the profile (or several that only together do it)
with what it does to numbers, how often and how much, in which blocks, and the smallest example. A *fault* loses
numbers or breaks a law; a *choice* comes as near to x, or is left open by the definition.
"""

from __future__ import annotations

import argparse
import json
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import asdict

from kbit_ref.cli._terminal import width, wrapped
from kbit_ref.conformance.departures import EFFECTS, Departure, departures, distinct, write
from kbit_ref.conformance.departures.find import find
from kbit_ref.datatypes.everyday import resolve
from kbit_ref.errors import UnknownName
from kbit_ref.progress import Progress
from kbit_ref.tensors.definitions import definition
from kbit_ref.tensors.profiles import profiles
from kbit_ref.tensors.scheme import scheme

HELP = "list where libraries differ from the published definitions of formats, by their profiles"
EXAMPLE = "kbit-ref departures bnb-cpu-nf4"
OUTPUT = {
    "definition": "the scheme that the profile is compared with, and where it is published; or that it is not",
    "fault, choice": "the choices of the profile that part from it, and what they mean; a fault breaks a law or loses "
    "numbers, a choice does not (`--all`)",
    "- lost, changed, ...": "what becomes of numbers, as the last lines explain; to how many of those compared; the "
    "largest error of one of them as a share of the largest number of its block, and the definition's error for "
    "the same number; the largest numbers of the blocks in which it happens",
    "[1, 0 x 63]: ...": "the smallest example: a block, a number in it, what comes back by the profile and by the "
    "definition",
}


def arguments(parser: argparse.ArgumentParser) -> None:
    """Add the options of `kbit-ref departures`."""
    parser.add_argument("profile", nargs="*", help="profiles, e.g. bnb-cpu-nf4; by default all that have faults")
    parser.add_argument("--all", action="store_true", help="print the departures that are no faults too")
    parser.add_argument("--find", action="store_true", help="find them again (minutes), not those of this release")
    parser.add_argument("-o", "--output", metavar="FILE", help="write all of them as CSV")


def run(args: argparse.Namespace) -> int:
    """Print them."""
    names = [_profile(name) for name in args.profile] or [p.name for p in distinct()]
    found: dict[str, Sequence[Departure]] = {}
    with Progress("departures", len(names)) as progress:
        for name in names:
            found[name] = find(name) if args.find else departures(name)
            progress()
    if args.output:
        write(args.output, (each for some in found.values() for each in some))
    shown = {name: [each for each in some if each.bad or args.all] for name, some in found.items()}
    rows = [each for some in shown.values() for each in some]
    if args.json:
        print(json.dumps([asdict(each) | {"meaning": each.meaning, "source": each.source} for each in rows], indent=1))
        return 0
    blocks = ["\n".join(_lines(name, some)) for name, some in shown.items() if some or args.profile]
    blocks += ["\n".join(_legend({each.effect for each in rows}))] if rows else []
    print("\n\n".join(blocks))
    return 0


def _profile(text: str) -> str:
    name = text if text in profiles() else resolve("departures", "profile", text, "scheme") or text
    if name not in profiles():
        raise UnknownName.among("departures", "profile", text, profiles(), "`kbit-ref list profiles` has all")
    return name


def _lines(name: str, found: Sequence[Departure]) -> Iterator[str]:
    """Yield a profile, its definition, and its departures choice by choice."""
    published = definition(name)
    yield f"{name}: {profiles()[name].source}"
    yield from _indented(f"definition: {published.scheme(scheme(name))}; {published.source}", 2)
    for choices, meaning in {each.choices: each.meaning for each in found}.items():
        mine = [each for each in found if each.choices == choices]
        yield f"  {'fault' if mine[0].bad else 'choice':<6}  {' '.join(choices)}"
        yield from _indented(meaning, 10)
        for each in mine:
            yield from _indented(f"- {each.effect}: {_counted(each)}", 10)
            yield from _indented(each.example, 12)
    if not found:
        yield "  no fault: it does as the definition says, or what that leaves open"


def _counted(each: Departure) -> str:
    """Return how many numbers, how far, in which blocks."""
    said = f"{each.values:,} of {each.of:,} numbers"
    if each.values != each.worst:
        said += f", {each.worst:,} of them the worst"
    if each.effect not in ("stored", "zero", "sign of zero", "no answer"):
        said += f"; error up to {each.error:.3g} of the largest number, the definition's {each.error_of_definition:.3g}"
    if each.most:
        some = f"{each.least:.3g}" + (f" ... {each.most:.3g}" if each.most != each.least else "")
        said += f"; in blocks up to {some}"
    return said


def _legend(effects: set[str]) -> Iterator[str]:
    for name in (name for name in EFFECTS if name in effects):
        yield from _indented(f"{name}: {EFFECTS[name]}", 2)


def _indented(text: str, by: int) -> Iterator[str]:
    yield from (" " * by + line for line in wrapped(text, width() - by))


def markdown() -> str:
    """Draw the page of the book: the faults, profiles that share one in a row; then the definitions."""
    shared: dict[tuple[tuple[str, ...], str], list[Departure]] = {}
    for name in (p.name for p in distinct()):
        for each in departures(name):
            if each.bad:
                shared.setdefault((each.choices, each.effect), []).append(each)
    heads = ("choice", "what a library does", "effect", "profiles", "smallest example, of the first")
    rows = [
        (_code(choices), found[0].meaning, effect, _code(each.profile for each in found), f"`{found[0].example}`")
        for (choices, effect), found in shared.items()
    ]
    legend = "\n".join(f"- *{effect}*: {EFFECTS[effect]}" for effect in EFFECTS if effect in {row[2] for row in rows})
    of: dict[tuple[str, str], list[str]] = {}
    for name in (p.name for p in distinct()):
        of.setdefault((definition(name).scheme(scheme(name)).rule, definition(name).source), []).append(name)
    published = [(_code(names), _code([rule]), source) for (rule, source), names in of.items()]
    tables = [_table(heads, rows), legend, "Definitions:", _table(("profiles", "scale rule", "published"), published)]
    return "\n\n".join(tables)


def _code(words: Iterable[str]) -> str:
    return " ".join(f"`{word}`" for word in words)


def _table(heads: Sequence[str], rows: Iterable[Sequence[str]]) -> str:
    lines = ["| " + " | ".join(cell.replace("|", "\\|") for cell in row) + " |" for row in rows]
    return "\n".join(["| " + " | ".join(heads) + " |", "|---" * len(heads) + "|", *lines])
