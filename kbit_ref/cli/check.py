"""Judge the installed libraries bit for bit: data types (every level, midpoint and neighbour), then block formats.

Or judge a program in any language by a data type or a scheme, with --cmd, --lib or --pipe.
"""

from __future__ import annotations

import argparse
import json
import shlex
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from kbit_ref.cli import _libraries, _programs
from kbit_ref.cli._page import (
    COLUMNS,
    Libraries,
    details,
    finding_lines,
    is_format,
    legend,
    notes,
    specials,
    summary,
    verdict_tables,
)
from kbit_ref.cli._terminal import width, wrapped
from kbit_ref.conformance.findings import Baseline, Finding, findings_of, junit
from kbit_ref.conformance.implementations.adapters import Adapter
from kbit_ref.conformance.implementations.claims import BlockProfile, Profile
from kbit_ref.conformance.judges import judge_libraries
from kbit_ref.conformance.matrix import tables
from kbit_ref.conformance.verdict import Verdict
from kbit_ref.datatypes.datatype import datatype
from kbit_ref.errors import BadInput, MissingLibrary, UnknownName, message
from kbit_ref.progress import Progress

HELP = "judge the installed libraries bit for bit"
EXAMPLE = "kbit-ref check gguf onnx"
OUTPUT = COLUMNS


def arguments(parser: argparse.ArgumentParser) -> None:
    """Add the options of `kbit-ref check`."""
    _libraries.arguments(parser)
    parser.add_argument(
        *("--only",),
        action="append",
        default=[],
        metavar="NAME",
        help="only this library, or only types and formats of this name: nf4, Q4_0, mxfp4 (repeatable)",
    )
    parser.add_argument("--type", action="append", default=[], metavar="T", help="only this data type (repeatable)")
    parser.add_argument("--blocks", action="store_true", help="only block formats: codes, scales, bytes, numbers")
    parser.add_argument("--profile", action="append", default=[], metavar="P", help="only this format (repeatable)")
    parser.add_argument(
        *("--details",),
        nargs="?",
        const="all",
        metavar="FINDING",
        help="print everything about a finding (its number, or a word of its line), or about all",
    )
    parser.add_argument(
        "--rank", action="store_true", help="say to which choices or profiles each type or format conforms"
    )
    parser.add_argument("--baseline", metavar="FILE", help="accept the findings in this file; record them if it is new")
    parser.add_argument("--junit", metavar="FILE", help="write a test report in the XML of JUnit")
    parser.add_argument("--csv", metavar="FILE", help="write the verdicts on block formats as CSV")
    _programs.arguments(parser)


def run(args: argparse.Namespace) -> int:
    """Judge, print, and return the exit code."""
    if _programs.requested(args):
        return _programs.run(args)
    present, absent = _chosen(args)
    for name in ("csv", "junit", "baseline"):
        if getattr(args, name):
            can_be_written("check", name, Path(getattr(args, name)))
    baseline = Baseline()
    if args.baseline and Path(args.baseline).exists():
        baseline = Baseline.read(Path(args.baseline))
    begin = time.monotonic()
    verdicts = _judged(args, present)
    seconds = time.monotonic() - begin
    said = []
    if args.baseline and not Path(args.baseline).exists():
        baseline = Baseline.of(findings_of(verdicts))
        baseline.write(Path(args.baseline))
        said.append(f"{args.baseline}: {len(baseline.accepted)} places are recorded, and accepted from now on")
    gone = "is accepted, and no longer occurs"
    said += [f"{args.baseline}: {p.library} {p.theirs}, {p.part}: {p.cause} {gone}" for p in baseline.stale(verdicts)]
    found = findings_of(verdicts, baseline)
    if args.csv:
        tables.write_csv(args.csv, list(filter(is_format, verdicts)))
    if args.junit:
        Path(args.junit).write_text(junit(verdicts, baseline), "utf-8")
    if args.json:
        print(json.dumps(as_dict(verdicts, found, absent), indent=1))
    else:
        print("\n".join([*_lines(args, verdicts, found, seconds), *_absent(absent), *said]))
    return 0 if verdicts and not any(finding.status in ("disagree", "error") for finding in found) else 1


def _chosen(args: argparse.Namespace) -> tuple[list[Adapter], list[Adapter]]:
    """Return the adapters with what the options ask for; an error if they make no sense."""
    only_blocks = bool(args.blocks or args.profile or args.csv)
    if args.type and only_blocks:
        rule = "--blocks, --profile and --csv are for block formats"
        raise BadInput(message("check", f"type = {', '.join(args.type)}", rule, "choose one of the two"))
    types = {datatype(name).name for name in args.type}
    libraries, names = _libraries.split_only("check", args)
    formats = _libraries.matching("check", args, "profile", args.profile)
    some = _libraries.matching("check", args, "only", names)
    _libraries.kinds("check", args, [*args.library, *libraries], types=bool(args.type), formats=only_blocks)
    whole = args.library = [*args.library, *libraries]

    def wanted(profile: Profile | BlockProfile) -> bool:
        if isinstance(profile, Profile):
            fits = not only_blocks and (not types or bool({profile.dtype, profile.dtype.partition("+")[0]} & types))
        else:
            fits = not types and (not formats or profile in formats)
        return fits and (not some or profile in some)

    filtered = bool(args.type or only_blocks or names)
    present, absent = _libraries.chosen("check", args, wanted if filtered else None)
    if filtered and not present:
        requested = {"type": args.type, "profile": args.profile, "only": names, "blocks": []}
        option = next(name for name, given in requested.items() if given or name == "blocks")
        got, rule = f"{option} = {', '.join(requested[option])}", "none of the chosen libraries has it"
        if absent:
            raise MissingLibrary(
                message("check", got, f"{absent[0].library} has it, and is not installed", absent[0].install)
            )
        raise BadInput(
            message("check", got, rule, "see `kbit-ref check` without it" + (" for all" if not whole else ""))
        )
    return present, absent


def can_be_written(command: str, name: str, path: Path) -> None:
    """Refuse a file that cannot be written, before the work; the file is left as it is."""
    before = path.exists()
    try:
        with path.open("a", encoding="utf-8"):
            pass
    except OSError as error:
        raise BadInput(message(command, f"{name} = {path}", f"{error.strerror}", "name a file to write")) from None
    if not before:
        path.unlink()


def _judged(args: argparse.Namespace, present: Sequence[Adapter]) -> list[Verdict]:
    """Return all verdicts; a line is printed for each library that is done."""
    if not present:
        return []
    page = None if args.json or args.details else Libraries({a.library: len(a.profiles) for a in present})
    with Progress("judging", 0) as step:
        options: dict[str, Any] = {
            "timeout": args.timeout,
            "folders": args.adapters,
            "progress": _libraries.sum_up(step, page.latest if page else str),
            "rank": args.rank,
            "each": page.add if page else lambda _: None,
        }
        return [judged.report for judged in judge_libraries(present, **options)]


def _lines(
    args: argparse.Namespace, verdicts: Sequence[Verdict], found: Sequence[Finding], seconds: float
) -> list[str]:
    """Return what is printed when all libraries are done."""
    if not verdicts:
        return ["No library that check has an adapter for is installed; pip install ml_dtypes gfloat gguf onnx jax"]
    if args.details:
        return [*_details(args, verdicts, found), *summary(verdicts, found, seconds)]
    lines = ["", *finding_lines(found), "", *summary(verdicts, found, seconds), *_rankings(verdicts)]
    command = shlex.join(["kbit-ref", "check", *args.library])
    more = f"More: {command} --details 1 (or all), --only NAME (a library, type or format), --json, --help"
    return [*lines, *legend(), *wrapped(more, width())]


def _details(args: argparse.Namespace, verdicts: Sequence[Verdict], found: Sequence[Finding]) -> list[str]:
    """Return everything, or the findings that the option names."""
    numbered = list(enumerate(found, 1))
    if args.details == "all":
        lines = verdict_tables(verdicts)
        lines += [line for number, finding in numbered for line in details(number, finding)]
        return [*lines, *specials(verdicts), *_rankings(verdicts), *notes(verdicts)]
    text = args.details.casefold()
    some = [(number, finding) for number, finding in numbered if text == str(number) or text in _words(finding)]
    if not some:
        known = [str(number) for number, _ in numbered]
        raise UnknownName.among("check", "details", args.details, known, "use a number, a library, a format, or all")
    return [line for number, finding in some for line in details(number, finding)]


def _words(finding: Finding) -> set[str]:
    words = (finding.library, finding.status, finding.cause, *finding.formats, *finding.parts)
    return {word.casefold() for word in words}


def _rankings(verdicts: Sequence[Verdict]) -> list[str]:
    """Return `Conforms to X, not to Y` for each that was ranked."""
    lines = []
    for verdict in verdicts:
        if verdict.ranking is not None:
            lines += [
                f"RANK      {verdict.library} {verdict.theirs}",
                *(f"  {line}" for line in str(verdict.ranking).splitlines()),
                "",
            ]
    return lines


def _absent(absent: Sequence[Adapter]) -> list[str]:
    if not absent:
        return []
    packages = " ".join(adapter.install.removeprefix("pip install ") for adapter in absent)
    return wrapped(f"Not installed: {', '.join(a.library for a in absent)}; pip install {packages}", width())


def as_dict(verdicts: Sequence[Verdict], found: Sequence[Finding], absent: Sequence[Adapter]) -> dict[str, object]:
    """Return everything, as `data/schemas/check.schema.json` describes it."""
    return {
        "format": "kbit-ref check 1",
        "verdicts": [verdict.as_dict() for verdict in verdicts],
        "findings": [{"number": number} | finding.as_dict() for number, finding in enumerate(found, 1)],
        "absent": [{"library": adapter.library, "install": adapter.install} for adapter in absent],
    }
