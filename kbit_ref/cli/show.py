"""Describe a data type: levels, codes, bit fields, gaps, a number line. Or a scheme or a profile, part by part."""

from __future__ import annotations

import argparse
import json
import re
from collections.abc import Sequence
from typing import Any

import numpy as np

from kbit_ref import exact
from kbit_ref.cli._options import refuse_idle
from kbit_ref.cli._terminal import table, width, wrapped
from kbit_ref.cli.list_ import first_line, summary
from kbit_ref.conformance.departures import faults
from kbit_ref.datatypes.datatype import DataType
from kbit_ref.datatypes.levels import order, spelled
from kbit_ref.engine.staircase import in_pairs
from kbit_ref.exact.encoders import ENCODERS
from kbit_ref.exact.rules import RULES
from kbit_ref.tensors.definitions import definition
from kbit_ref.tensors.packing import rows as layout_rows
from kbit_ref.tensors.profiles import Profile, profiles
from kbit_ref.tensors.quantize import quantize
from kbit_ref.tensors.scheme import MEANINGS, Scheme, named, scheme

HELP = "describe a data type, a scheme or a profile"
EXAMPLE = "kbit-ref show e2m1fn"
OUTPUT = {
    "number line": "the levels on an axis: | is one level, a digit several in one column, + ten or more",
    "code, bits": "the stored integer, and its sign, exponent and significand",
    "level": "the number that the code stands for; unused: no number is encoded to it",
    "to the next": "the distance to the next larger level",
    "definition, known fault": "for a profile: the published definition of its format, and what parts from it",
    "part, value, meaning": "for a scheme or profile: each of its parts, its choices with a +",
}
WIDTH = 96  # columns of the number line
MANY = 256  # above this many codes, only the ends are printed


def arguments(parser: argparse.ArgumentParser) -> None:
    """Add the options of `kbit-ref show`."""
    parser.add_argument("name", help="a data type, a scheme or a profile: e2m1fn, nf4-b64-absmax-f32, ggml-q4_0")
    parser.add_argument("--all", action="store_true", help="of a data type: print every code, however many there are")


def run(args: argparse.Namespace) -> int:
    """Print what it is."""
    found = named(args.name)
    if isinstance(found, DataType):
        return _show_type(args, found)
    refuse_idle("show", {"--all": args.all}, "a scheme has no codes of its own", "leave it out")
    facts = scheme_facts(found)
    if args.json:
        print(json.dumps(facts, indent=1))
        return 0
    print("\n".join(_scheme_lines(found, facts)))
    return 0


def _show_type(args: argparse.Namespace, d: DataType) -> int:
    rows = level_rows(d)
    facts = {
        "name": d.name,
        "bits": d.bits,
        "family": d.family,
        "source": d.source,
        "meaning": d.meaning,
        "choices": {name: getattr(d, name) for name in exact.CHOICES},
    }
    if args.json:
        print(json.dumps(facts | {"levels": rows}, indent=1))
        return 0
    print(f"{d.name}: {d.bits} bit{'s' * (d.bits != 1)}, {d.family}; {d.source}")
    print(" ".join(f"{name}={getattr(d, name)}" for name in exact.CHOICES))
    print()
    print(number_line(d))
    print()
    print(f"{'code':>6}  {'bits':<{d.bits + 2}}  {'level':>24}  {'to the next':>14}")
    shown = rows if args.all or len(rows) <= MANY else [*rows[:8], None, *rows[-8:]]
    for row in shown:
        if row is None:
            print(f"{'...':>6}  {len(rows) - 16} codes are left out; --all prints them")
            continue
        gap = "" if row["gap"] is None else row["gap"]
        note = "  unused" if row["unused"] else ""
        print(f"{row['code']:>6}  {row['bits']:<{d.bits + 2}}  {row['level']:>24}  {gap:>14}{note}".rstrip())
    return 0


def scheme_facts(s: Scheme) -> dict[str, Any]:
    """Return the parts of a scheme, each with its meaning, and the profiles of that spelling."""
    alike = [profile for profile in profiles().values() if scheme(profile.spelling) == s]
    parts = {
        "data type": (s.dtype.name, summary(s.dtype.name.partition("+")[0])),
        "cut": (str(s.cut), _cut_meaning(s)),
        "scale rule": (s.rule, first_line(RULES[s.rule])),
        "stored scale": (s.scale_dtype, summary(s.scale_dtype)),
        "layout": (s.layout.name, _summary_of_layout(s.layout.name)),
    }
    meanings = MEANINGS | {"encoder": first_line(ENCODERS[s["encoder"]])}
    return {
        "spelling": str(s),
        "profiles": [{"name": profile.name, "source": profile.source} for profile in alike],
        "definition": _definition(s, alike),
        "faults": [fault.as_dict() for fault in faults(s)],
        "bits_per_parameter": quantize(np.ones((1024, 1024), np.float32), s).bits_per_parameter,
        "parts": {name: {"value": value, "meaning": meaning} for name, (value, meaning) in parts.items()},
        "choices": {key: {"value": value, "meaning": meanings.get(key, "")} for key, value in s.choices.items()},
    }


def _definition(s: Scheme, alike: Sequence[Profile]) -> str:
    """Return the scheme that the profiles of this spelling are compared with, and where it is published."""
    return "; ".join(f"{(d := definition(profile.name)).scheme(s)}; {d.source}" for profile in alike[:1])


def _scheme_lines(s: Scheme, facts: dict[str, Any]) -> list[str]:
    """Return what `show` prints of a scheme."""
    lines = wrapped(facts["spelling"], width())
    for profile in facts["profiles"]:
        lines += wrapped(f"profile {profile['name']}: {profile['source']}", width())
    if facts["definition"]:
        lines += wrapped(f"definition: {facts['definition']}", width())
    for fault in facts["faults"]:
        lines += wrapped(f"known fault: {fault['choices']}: {fault['meaning']} ({fault['effect']})", width())
    lines += [f"{facts['bits_per_parameter']:.6g} bits per parameter, for an array of 1024 x 1024", ""]
    choices = {f"+{key}": each for key, each in facts["choices"].items() if key != "layout"}
    named_parts = [{"part": key, **each} for key, each in (facts["parts"] | choices).items()]
    lines += table(named_parts, ("part", "value", "meaning"), width())
    base = s.dtype.name.partition("+")[0]
    return [*lines, "", f"levels: kbit-ref show {base}; one element step by step: kbit-ref explain"]


def _cut_meaning(s: Scheme) -> str:
    where = "the flattened array" if s.cut.axis is None else f"axis {s.cut.axis}"
    whole = {"tensor": "one scale for the whole array", "channel": f"one scale for each index of {where}"}
    return whole.get(s.cut.kind) or f"blocks of {s.cut.size} elements along {where}, a scale each"


def _summary_of_layout(name: str) -> str:
    return next(row.summary for row in layout_rows() if row.arguments(name) is not None)


def level_rows(d: DataType) -> list[dict[str, Any]]:
    """Return every code: its bits, its level (as text, so that inf and nan survive JSON), the gap to the next level."""
    widths, unused = field_widths(d), set(d.unused)
    significands, exponents = d.parts()
    levels, gap = spelled(significands, exponents), _gaps(d)
    return [
        {
            "code": code,
            "bits": bit_fields(d, code, widths),
            "level": level,
            "gap": gap.get((s, e)),  # -0.0 == 0.0
            "unused": code in unused,
        }
        for code, (s, e, level) in enumerate(zip(significands.tolist(), exponents.tolist(), levels, strict=True))
    ]


def _gaps(d: DataType) -> dict[tuple[float, int], str]:
    """Return the distance from each level to the next larger one, decoded codes that are never emitted included."""
    s, e = d.parts()
    pairs = np.unique(np.array([s, e])[:, np.isfinite(s)] + 0.0, axis=1)  # + 0.0: -0 is 0
    s, e = pairs[0], pairs[1].astype(np.int32)
    ascending = order(s, e)
    s, e = s[ascending], e[ascending]
    low, high, scale = in_pairs(s, e)
    texts = spelled(high - low, scale)
    return dict(zip(zip(s.tolist(), e.tolist(), strict=True), texts, strict=False))


def bit_fields(d: DataType, code: int, widths: list[int] | None = None) -> str:
    """Return the bits of a code, sign, exponent and significand apart where the type has them."""
    text = format(code, f"0{d.bits}b")
    cuts = widths or field_widths(d)
    parts = [text[sum(cuts[:i]) : sum(cuts[: i + 1])] for i in range(len(cuts))]
    return " ".join(part for part in parts if part)


def field_widths(d: DataType) -> list[int]:
    """Return the widths of sign, exponent and significand; one field for a type without them."""
    name = d.name.partition("+")[0]
    if d.family == "p3109":
        match = re.fullmatch(r"Binary(\d+)p(\d+)([su])[ef]", name)
        assert match is not None
        signed, significand = int(match[3] == "s"), int(match[2]) - 1
        return [signed, d.bits - signed - significand, significand]
    if d.family != "float" or name.startswith("bnbfloat"):
        return [d.bits]
    # 2**significand levels lie in a binade, v <= level < 2 v
    positive = np.unique(d.levels[np.isfinite(d.levels) & (d.levels > 0)])
    signed = int((d.levels < 0).any())
    _, in_binade = np.unique(np.frexp(positive)[1], return_counts=True)
    significand = int(in_binade.max()).bit_length() - 1
    return [signed, d.bits - signed - significand, significand]


def number_line(d: DataType) -> str:
    """Return an axis from the lowest to the highest level; a second one in powers of two where levels crowd at zero."""
    s, e = d.parts(d.ascending)
    low, high = spelled(s[[0, -1]], e[[0, -1]], "g")
    lines = [_axis(np.ldexp(s, e - e.max()), low, high)]  # the largest exponent left out: only ratios are drawn
    s, e = s[s > 0], e[s > 0]
    fraction, exponent = np.frexp(s)
    exponent = exponent + e
    if s.size > 2 and np.ldexp(fraction[-1] / fraction[0], min(exponent[-1] - exponent[0], 99)) > WIDTH:
        places = exponent + fraction * 2 - 1
        lines.append(_axis(places, spelled(s[:1], e[:1], "g")[0], f"{high}, by powers of two", zero=False))
    return "\n".join(lines)


def _axis(places: Any, left: str, right: str, *, zero: bool = True) -> str:
    """Return one line of marks (digits count levels in a column, + is ten or more), and its ends below."""
    low, high = float(places[0]), float(places[-1])
    span = high - low or 1.0
    columns = np.rint((np.asarray(places) - low) / span * (WIDTH - 1)).astype(int)
    counts = np.bincount(columns, minlength=WIDTH)
    marks = ["-" if n == 0 else "|" if n == 1 else str(n) if n < 10 else "+" for n in counts.tolist()]
    below = [" "] * WIDTH
    if zero and low < 0 < high:
        below[round(-low / span * (WIDTH - 1))] = "0"
    ends = left + "".join(below)[len(left) : WIDTH - len(right)] + right
    return "".join(marks) + "\n" + ends
