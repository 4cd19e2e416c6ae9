"""Judge the installed libraries bit for bit: data types (every level, midpoint and neighbour), then block formats."""

from __future__ import annotations

import argparse
import json
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from kbit_ref.cli import _programs
from kbit_ref.conformance.implementations.adapters import Adapter, adapters, block_adapters
from kbit_ref.conformance.implementations.block_libraries import judge_block_libraries
from kbit_ref.conformance.implementations.libraries import Judged, judge_libraries
from kbit_ref.conformance.matrix import tables
from kbit_ref.conformance.verdict import Difference, Verdict, worst
from kbit_ref.datatypes.datatype import datatype
from kbit_ref.errors import BadInput, MissingLibrary, UnknownName, message
from kbit_ref.progress import Progress

HELP = "judge the installed libraries bit for bit"
EXAMPLE = "kbit-ref check gguf onnx"
OUTPUT = "see below"
COLUMNS = ("float16", "bfloat16", "float32", "float64", "codes")
LONGEST = 10**6  # seconds that one can wait for a silent library
SAID = {"agree": "agree", "known": "known", "disagree": "DISAGREE", "error": "ERROR"}


def arguments(parser: argparse.ArgumentParser) -> None:
    """Options of `kbit-ref check`."""
    parser.add_argument("library", nargs="*", help="libraries to judge (default: all that are installed)")
    parser.add_argument("--type", action="append", default=[], metavar="T", help="only this data type; repeatable")
    parser.add_argument("--blocks", action="store_true", help="only block formats: codes, scales, bytes, numbers")
    parser.add_argument("--profile", action="append", default=[], metavar="P", help="only this format; repeatable")
    parser.add_argument(
        "--rank", action="store_true", help="say which of all choices or profiles each one is, and where it parts"
    )
    parser.add_argument("--csv", metavar="FILE", help="write the table of block formats to a file")
    parser.add_argument(
        "--timeout", type=float, default=120.0, metavar="S", help="seconds a library may be silent (default 120)"
    )
    parser.add_argument(
        "--adapters", action="append", default=[], metavar="DIR", help="look for adapters in this folder too"
    )
    _programs.arguments(parser)


@dataclass(frozen=True)
class _Chosen:
    """The adapters of those libraries that were asked for."""

    types: list[Adapter]
    blocks: list[Adapter]

    @property
    def present(self) -> _Chosen:
        return _Chosen([a for a in self.types if a.installed()], [a for a in self.blocks if a.installed()])

    @property
    def absent(self) -> list[Adapter]:
        every: list[Adapter] = [*self.types, *self.blocks]
        found = [a for a in every if not a.installed()]
        return list({a.library: a for a in found}.values())


def run(args: argparse.Namespace) -> int:
    """Judge, print, and give the exit code."""
    if _programs.asked(args):
        return _programs.run(args)
    chosen = _chosen(args)
    present, absent = chosen.present, chosen.absent
    if args.library and absent:
        names = ", ".join(adapter.library for adapter in absent)
        raise MissingLibrary(message("check", f"library = {names}", "it is not installed", absent[0].install))
    begin = time.monotonic()
    rows = _judge_types(args, present.types)
    between = time.monotonic()
    blocks = _judge_blocks(args, present.blocks)
    seconds = between - begin, time.monotonic() - between
    if args.csv:
        tables.write_csv(args.csv, blocks)
    if args.json:
        print(json.dumps(as_dict(rows, absent, blocks), indent=1))
    else:
        print(text(rows, absent, seconds, blocks))
    status = worst([*(row.report.status for row in rows), *(row.status for row in blocks)])
    return 0 if (rows or blocks) and status in ("agree", "known") else 1


def _chosen(args: argparse.Namespace) -> _Chosen:
    """What the options ask for; an error if it makes no sense."""
    if not 0 < args.timeout <= LONGEST:
        rule = f"it is a number of seconds, at most {LONGEST:,}"
        raise BadInput(message("check", f"timeout = {args.timeout}", rule, "e.g. --timeout 60"))
    for folder in args.adapters:
        if not Path(folder).is_dir():
            raise BadInput(message("check", f"adapters = {folder}", "there is no such folder", "give one that exists"))
    only_blocks = bool(args.blocks or args.profile or args.csv)
    if args.type and only_blocks:
        rule = "--blocks, --profile and --csv are for block formats"
        raise BadInput(message("check", f"type = {', '.join(args.type)}", rule, "choose one of the two"))
    for name in args.type:
        datatype(name)
    if args.csv:
        can_be_written("check", "csv", Path(args.csv))
    every, all_blocks = adapters(args.adapters), block_adapters(args.adapters)
    all_types = {name: a for name, a in every.items() if a.types}
    profiles = {name for a in all_blocks.values() for p in a.formats for name in (p.profile, p.theirs, p.name)}
    for name in args.profile:
        if name not in profiles:
            raise UnknownName.among("check", "profile", name, profiles, "see `kbit-ref check --blocks`")
    types = {} if only_blocks else all_types
    blocks = {} if args.type else all_blocks
    known = {**types, **blocks}
    for name in args.library:
        if name in known:
            continue
        if name in all_types:
            raise BadInput(message("check", f"library = {name}", "no block formats of it are judged", "name another"))
        if name in all_blocks:
            rule = "only block formats of it are judged"
            raise BadInput(message("check", f"library = {name}", rule, "leave --type out"))
        raise UnknownName.among("check", "library", name, known, f"there are adapters for {', '.join(known)}")
    names = list(dict.fromkeys(args.library)) or list(known)
    return _Chosen([types[n] for n in names if n in types], [blocks[n] for n in names if n in blocks])


def can_be_written(command: str, name: str, path: Path) -> None:
    """Told now rather than after the work; the file is left as it is."""
    before = path.exists()
    try:
        with path.open("a", encoding="utf-8"):
            pass
    except OSError as error:
        raise BadInput(message(command, f"{name} = {path}", f"{error.strerror}", "name a file to write")) from None
    if not before:
        path.unlink()


def _judge_types(args: argparse.Namespace, present: list[Adapter]) -> list[Judged]:
    rows: list[Judged] = []
    if present:
        with Progress("judging", 0) as step:
            options: dict[str, Any] = {
                "timeout": args.timeout,
                "folders": args.adapters,
                "progress": sum_up(step),
                "rank": args.rank,
            }
            rows = judge_libraries(present, types=args.type, **options)
    if args.type and not rows:
        rule = "no library that was asked has it"
        raise BadInput(message("check", f"type = {', '.join(args.type)}", rule, "see `kbit-ref check` without --type"))
    return rows


def _judge_blocks(args: argparse.Namespace, present: list[Adapter]) -> list[Verdict]:
    blocks: list[Verdict] = []
    if present:
        with Progress("judging blocks", 0) as step:
            options: dict[str, Any] = {
                "timeout": args.timeout,
                "folders": args.adapters,
                "progress": sum_up(step),
                "rank": args.rank,
            }
            blocks = judge_block_libraries(present, profiles=args.profile, **options)
    if args.profile and not blocks:
        got, rule = f"profile = {', '.join(args.profile)}", "no library that was asked has it"
        absent = [a for a in block_adapters(args.adapters).values() if not a.installed() and _has(a, args.profile)]
        if absent:
            rule = f"{absent[0].library} has it, and is not installed"
            raise MissingLibrary(message("check", got, rule, absent[0].install))
        raise BadInput(message("check", got, rule, "see `kbit-ref check --blocks`"))
    return blocks


def _has(adapter: Adapter, names: Sequence[str]) -> bool:
    return any(name in (p.profile, p.theirs, p.name) for p in adapter.formats for name in names)


def sum_up(step: Progress) -> Callable[[str, int, int], None]:
    """Each library tells how many verdicts of its own are done; `step` counts those of all."""
    done: dict[str, tuple[int, int]] = {}

    def tell(library: str, verdicts: int, total: int) -> None:
        done[library] = verdicts, total
        step.expect(sum(all_of_it for _, all_of_it in done.values()))
        step(sum(so_far for so_far, _ in done.values()) - step.done)

    return tell


def text(
    rows: Sequence[Judged],
    absent: Sequence[Adapter],
    seconds: tuple[float, float],
    blocks: Sequence[Verdict] = (),
) -> str:
    """The tables, the differences, the notes, the summaries, each with the seconds that it took."""
    parts = [*table(rows), *tables.table(blocks), *differences(rows), *tables.differences(blocks)]
    parts += [*tables.specials(blocks), *rankings(rows, blocks), *tables.notes(blocks)]
    parts += [f"{a.library} is not installed: {a.install}" for a in absent]
    if absent:
        parts.append("")
    if rows or not blocks:
        parts += summary(rows, seconds[0])
    return "\n".join([*parts, *(tables.summary(blocks, seconds[1]) if blocks else [])])


def table(rows: Sequence[Judged]) -> list[str]:
    """One line a profile: what it is by our spelling, the verdict for each source, the values tried."""
    lines: list[str] = []
    heads = ["float16", "bfloat16", "float32", "float64", "decode"]
    for library in dict.fromkeys(row.library for row in rows):
        mine = [row for row in rows if row.library == library]
        title = f"{library} {mine[0].version}"
        wide = max(len(row.profile.dtype) for row in mine)
        theirs = max(len(title), *(len(row.profile.theirs) for row in mine))
        line = f"{title:<{theirs}}  {'type':<{wide}}  {'values':>9}  " + "  ".join(f"{h:<8}" for h in heads)
        lines.append(line.rstrip())
        for row in mine:
            found = {v.source: v.status for v in row.report.rows}
            cells = [SAID[found[column]] if column in found else "-" for column in COLUMNS]
            values = f"{row.report.tried:,}"
            line = f"{row.profile.theirs:<{theirs}}  {row.profile.dtype:<{wide}}  {values:>9}  "
            lines.append((line + "  ".join(f"{cell:<8}" for cell in cells)).rstrip())
        lines.append("")
    return lines


def differences(rows: Sequence[Judged]) -> list[str]:
    """For each library each kind once: where it occurs, and the first minimal counterexample.

    Those on record come first, what is new and the errors last: next to the summary.
    """
    kinds: dict[tuple[str, str, str], list[tuple[Judged, str, Difference]]] = {}
    errors: dict[tuple[str, str], list[str]] = {}
    for row in rows:
        for verdict in row.report.rows:
            for difference in verdict.differences:
                key = (row.library, difference.cause, difference.link)
                kinds.setdefault(key, []).append((row, verdict.source, difference))
            for error in verdict.errors:
                where = f"{row.profile.theirs} from {verdict.source}"
                errors.setdefault((row.library, error), []).append(where)
    lines = []
    together = _together(kinds)
    for (library, cause, link), found in sorted(kinds.items(), key=lambda item: not item[0][2]):
        if cause in together.get(library, {}):
            continue
        row, _, first = found[0]
        count = sum(difference.count for _, _, difference in found)
        sources = dict.fromkeys(source for _, source, _ in found)
        names = dict.fromkeys(row.profile.theirs for row, _, _ in found)
        kind = "known    " if link else "DISAGREE "
        lines.append(f"{kind} {library}: {cause}: {first.why}")
        if link:
            lines.append(f"  record  {link}")
        lines.append(f"  values  {count:,} from {', '.join(sources)}: {_listed(list(names))}")
        head = f"{row.profile.theirs} is {row.profile.dtype}"
        lines += [f"  first   {head}", *("  " + line for line in str(first.example).splitlines()), ""]
    for library, combined in together.items():
        said = "; ".join(f"{cause} {count:,}" for cause, count in combined.items())
        lines += [f"DISAGREE  {library}, of the above two at once: {said}", ""]
    for (library, error), places in errors.items():
        lines += [f"ERROR     {library}: {error}", f"  where   {_listed(places)}", ""]
    return lines


def rankings(rows: Sequence[Judged], blocks: Sequence[Verdict]) -> list[str]:
    """`Conforms to X, not to Y` for each that was ranked."""
    found = [(f"{row.library} {row.profile.theirs}", row.report.ranking) for row in rows]
    found += [(f"{row.library} {row.theirs}", row.ranking) for row in blocks]
    lines = []
    for name, ranking in found:
        if ranking is not None:
            lines += [f"RANK      {name}", *(f"  {line}" for line in str(ranking).splitlines()), ""]
    return lines


def _together(
    kinds: Mapping[tuple[str, str, str], Sequence[tuple[Judged, str, Difference]]],
) -> dict[str, dict[str, int]]:
    """For each library the pairs of causes that need no example, since each of the two has its own: their counts."""
    shown = {(library, cause) for library, cause, _ in kinds}
    pairs: dict[str, dict[str, int]] = {}
    for (library, cause, _), found in kinds.items():
        parts = cause.split(", ")
        if len(parts) > 1 and all((library, part) in shown for part in parts):
            pairs.setdefault(library, {})[cause] = sum(difference.count for _, _, difference in found)
    return pairs


def _listed(names: Sequence[str], width: int = 90) -> str:
    """As many names as fit in a line, at least one, and how many more."""
    most = max(1, sum(len(", ".join(names[: i + 1])) <= width for i in range(len(names))))
    more = f" and {len(names) - most} more" if len(names) > most else ""
    return ", ".join(names[:most]) + more


def summary(rows: Sequence[Judged], seconds: float) -> list[str]:
    """The last lines: how many of each verdict, values, time."""
    verdicts = [v for row in rows for v in row.report.rows]
    counts = {status: sum(v.status == status for v in verdicts) for status in SAID}
    libraries = len({row.library for row in rows})
    tried, left_out = sum(v.tried for v in verdicts), sum(v.nan_left_out for v in verdicts)
    said = f"{counts['agree']} agree, {counts['known']} known, {counts['disagree']} disagree, {counts['error']} error"
    lines = []
    if left_out:
        lines.append(f"Left out by rule: {left_out:,} NaN, for types that have none.")
    if different := sum(v.different for v in verdicts):
        lines.append(f"{different:,} values differ from the definition and are on no public record that we know of.")
    if not rows:
        return ["No library that check has an adapter for is installed; pip install ml_dtypes gfloat onnx jax"]
    plural = "library" if libraries == 1 else "libraries"
    lines.append(f"{len(verdicts)} verdicts on {libraries} {plural}: {said}. {tried:,} values, {seconds:.0f} s.")
    return lines


def as_dict(
    rows: Sequence[Judged], absent: Sequence[Adapter], blocks: Sequence[Verdict] = ()
) -> dict[str, object]:
    """Everything, for JSON."""
    return {
        "rows": [row.report.as_dict() for row in rows],
        "blocks": [row.as_dict() for row in blocks],
        "absent": [{"library": adapter.library, "install": adapter.install} for adapter in absent],
    }
