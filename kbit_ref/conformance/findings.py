"""Find the distinct differences of many verdicts, how much harm each does, and which of them are new."""

from __future__ import annotations

import json
import re
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any
from xml.etree import ElementTree

from kbit_ref.conformance.diagnosis.groups import FOLLOWS, UNEXPLAINED
from kbit_ref.conformance.verdict import Counterexample, Difference, Row, Verdict
from kbit_ref.errors import BadInput, message

__all__ = ["Baseline", "Finding", "Place", "findings_of", "junit"]

ORDER = ("disagree", "error", "known", "accepted")
FORMAT = "kbit-ref check baseline 1"
NOTHING = "nothing was judged"
KEYS = ("library", "theirs", "part", "cause")


@dataclass(frozen=True, order=True)
class Place:
    """The place of a difference, and its cause: an entry of a baseline."""

    library: str
    theirs: str
    part: str
    cause: str


@dataclass(frozen=True)
class Finding:
    """One distinct difference, or error, of a library.

    Parameters
    ----------
    library, version
        Where it was found.
    status
        `disagree`, `error`, `known` (on public record) or `accepted` (by a baseline).
    cause, why
        In a word, and in a sentence; of an error its text.
    places
        Every format and part in which it occurs.
    count, tried
        How many answers differ, of how many.
    error
        The median relative error of the numbers that differ, from 0 to 1; None if it is not measured.
    examples
        For each format the smallest input with both answers: format, type or scheme, example; the simplest first.
    link
        The public record.
    """

    library: str
    version: str
    status: str
    cause: str
    why: str
    places: tuple[Place, ...]
    count: int = 0
    tried: int = 0
    error: float | None = None
    examples: tuple[tuple[str, str, Counterexample], ...] = ()
    link: str = ""

    @property
    def formats(self) -> tuple[str, ...]:
        """Return the library's names of the types and formats, each once."""
        return tuple(dict.fromkeys(place.theirs for place in self.places))

    @property
    def parts(self) -> tuple[str, ...]:
        """Return the names of the parts, `scales`, `encode float32`, ..., each once."""
        return tuple(dict.fromkeys(place.part for place in self.places if place.part))

    @property
    def share(self) -> float:
        """Return the share of the answers that differ."""
        return self.count / self.tried if self.tried else 0.0

    @property
    def harm(self) -> float:
        """Return the share of the answers that differ, times their median relative error."""
        return self.share * (1.0 if self.error is None else self.error)

    @property
    def example(self) -> Counterexample | None:
        """Return the simplest example."""
        return self.examples[0][2] if self.examples else None

    def as_dict(self) -> dict[str, Any]:
        """Return plain values, for JSON."""
        about = {name: getattr(self, name) for name in ("library", "version", "status", "cause", "why", "link")}
        numbers = {name: getattr(self, name) for name in ("count", "tried", "share", "error", "harm")}
        lists = {"formats": list(self.formats), "parts": list(self.parts)}
        examples = [
            {"format": theirs, "spelling": spelling} | asdict(example) for theirs, spelling, example in self.examples
        ]
        return {**about, **lists, **numbers, "examples": examples}


@dataclass
class _Group:
    """A finding that is being collected."""

    status: str
    link: str
    members: list[tuple[Verdict, Place, Row | None, Difference | str]] = field(default_factory=list)

    def finding(self) -> Finding:
        differences = [what for *_, what in self.members if isinstance(what, Difference)]
        rows = {id(row): row for _, _, row, what in self.members if row is not None and isinstance(what, Difference)}
        verdict, _, _, first = self.members[0]
        examples: dict[str, tuple[str, str, Counterexample]] = {}
        for its, _, _, what in self.members:
            if isinstance(what, Difference) and what.example is not None:
                examples.setdefault(its.theirs, (its.theirs, its.spelling, what.example))
        return Finding(
            verdict.library,
            verdict.version,
            self.status,
            first if isinstance(first, str) else first.cause,
            first if isinstance(first, str) else first.why,
            tuple(place for _, place, _, _ in self.members),
            sum(difference.count for difference in differences),
            sum(row.tried for row in rows.values()),
            max((d.error for d in differences if d.error is not None), default=None),
            tuple(sorted(examples.values(), key=lambda each: len(each[2].value))),
            self.link,
        )


@dataclass(frozen=True)
class Baseline:
    """The places of differences and errors that are accepted."""

    accepted: frozenset[Place] = frozenset()

    @classmethod
    def read(cls, path: Path) -> Baseline:
        """Read a file that `write` has written.

        Raises
        ------
        BadInput
            `check: baseline = x.json, it is no baseline (...); ...`
        """
        try:
            found = json.loads(path.read_text("utf-8"))
            if found["format"] != FORMAT:
                raise ValueError(f"format {found['format']!r}")
            return cls(frozenset(Place(**{key: str(each[key]) for key in KEYS}) for each in found["accepted"]))
        except (OSError, ValueError, KeyError, TypeError) as error:
            rule = f"it is no baseline ({type(error).__name__}: {error})"
            remedy = "name a file that check has written, or a new one"
            raise BadInput(message("check", f"baseline = {path}", rule, remedy)) from None

    @classmethod
    def of(cls, found: Iterable[Finding]) -> Baseline:
        """Accept all places that disagree or have an error."""
        new = (finding for finding in found if finding.status in ("disagree", "error"))
        return cls(frozenset(place for finding in new for place in finding.places))

    def write(self, path: Path) -> None:
        """Write it to a file."""
        document = {"format": FORMAT, "accepted": [asdict(place) for place in sorted(self.accepted)]}
        path.write_text(json.dumps(document, indent=1) + "\n", "utf-8")

    def stale(self, verdicts: Iterable[Verdict]) -> list[Place]:
        """Return the accepted places that were judged and no longer differ."""
        judged = {(verdict.library, verdict.theirs): {each[0] for each in _places(verdict)} for verdict in verdicts}
        mine = (place for place in self.accepted if (place.library, place.theirs) in judged)
        return sorted(place for place in mine if place not in judged[place.library, place.theirs])


def findings_of(verdicts: Iterable[Verdict], baseline: Baseline | None = None) -> list[Finding]:
    """Return the distinct findings, the most harmful first; then errors, then what is known or accepted.

    Differences of one cause in a library are one finding, whatever the format and the part; unexplained ones are one
    for each part. Codes that only follow from another scale belong to the finding on that scale.
    """
    accepted = Baseline().accepted if baseline is None else baseline.accepted
    groups: dict[tuple[str, ...], _Group] = {}
    for verdict in verdicts:
        causes: list[tuple[int, tuple[str, ...]]] = []  # of this verdict: how many differ, and the group
        every = sorted(_places(verdict), key=lambda each: isinstance(each[2], Difference) and each[2].cause == FOLLOWS)
        for place, row, what in every:
            key: tuple[str, ...]
            if isinstance(what, str):
                key, status, link = ("error", verdict.library, what), "error", ""
            else:
                follows = what.cause == FOLLOWS and causes
                alone = (place.part, what.why) if what.cause == UNEXPLAINED else ()
                key = max(causes)[1] if follows else (verdict.library, what.cause, what.link, *alone)
                status, link = "known" if what.known else "disagree", what.link
                causes.append((what.count, key))
            if place in accepted and status != "known":
                key, status = ("accepted", *key), "accepted"
            groups.setdefault(key, _Group(status, link)).members.append((verdict, place, row, what))
    found = [group.finding() for group in groups.values()]
    return sorted(found, key=lambda f: (ORDER.index(f.status), -f.harm, -f.count, f.library, f.cause))


def _places(verdict: Verdict) -> Iterator[tuple[Place, Row | None, Difference | str]]:
    """Yield all differences of a verdict and the texts of its errors, with their places."""
    where = (verdict.library, verdict.theirs)
    for row in verdict.rows:
        yield from ((Place(*where, row.name, each.cause), row, each) for each in row.differences)
        yield from ((Place(*where, row.name, error), row, error) for error in row.errors)
    errors = verdict.errors or (() if verdict.rows else (NOTHING,))
    yield from ((Place(*where, "", error), None, error) for error in errors)
    for special in verdict.specials:
        if special.status == "disagree":
            yield Place(*where, special.part, special.word), None, Difference(special.word, special.line, 1)


# Test reports ------------------------------------------------------------------------------------


def junit(verdicts: Sequence[Verdict], baseline: Baseline | None = None) -> str:
    """Return a report in the XML of JUnit: a suite for each library, a test case for each part of each format.

    What disagrees is a failure, what has no answer an error, what a baseline accepts is skipped.
    """
    accepted = Baseline().accepted if baseline is None else baseline.accepted
    root = ElementTree.Element("testsuites", name="kbit-ref check")
    for library in dict.fromkeys(verdict.library for verdict in verdicts):
        suite = ElementTree.SubElement(root, "testsuite", name=library)
        for verdict in (each for each in verdicts if each.library == library):
            parts: dict[str, list[tuple[Place, Difference | str]]] = {row.name: [] for row in verdict.rows}
            for place, _, what in _places(verdict):
                parts.setdefault(place.part or "answers", []).append((place, what))
            for part, found in parts.items():
                case = ElementTree.SubElement(suite, "testcase", classname=f"{library}.{verdict.theirs}", name=part)
                _outcomes(case, found, accepted)
        for kind in ("failure", "error", "skipped"):
            suite.set(
                "failures" if kind == "failure" else f"{kind}s".replace("skippeds", "skipped"), _count(suite, kind)
            )
        suite.set("tests", str(len(suite)))
    ElementTree.indent(root)
    return ElementTree.tostring(root, "unicode", xml_declaration=True) + "\n"


def _outcomes(
    case: ElementTree.Element, found: Sequence[tuple[Place, Difference | str]], accepted: frozenset[Place]
) -> None:
    """Add one outcome, the worst of a test case, with everything that was found in its text."""
    texts: dict[str, list[str]] = {"error": [], "failure": [], "skipped": []}
    for place, what in found:
        if not isinstance(what, str) and what.known:
            continue
        kind = "skipped" if place in accepted else "error" if isinstance(what, str) else "failure"
        texts[kind].append(str(what))
    for kind, own in texts.items():
        if own:
            text = _printable("\n".join(own))
            outcome = ElementTree.SubElement(case, kind, message=text.splitlines()[0])
            outcome.text = text
            return


def _count(suite: ElementTree.Element, kind: str) -> str:
    return str(sum(case.find(kind) is not None for case in suite))


def _printable(text: str) -> str:
    """Remove the characters that XML cannot hold."""
    return re.sub("[^\t\n\r\x20-\ud7ff\ue000-\ufffd\U00010000-\U0010ffff]", "?", text)
