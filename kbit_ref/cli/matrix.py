"""Compare all installed libraries on all that they have: each with the definition, then with each other."""

from __future__ import annotations

import argparse
import json
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from kbit_ref.cli import _libraries
from kbit_ref.cli._page import verdict_tables
from kbit_ref.cli._terminal import width, wrapped
from kbit_ref.cli.check import can_be_written
from kbit_ref.conformance.matrix.matrix import Matrix, as_dict, make_matrix
from kbit_ref.conformance.matrix.pages import alike_lines, html, markdown
from kbit_ref.conformance.verdict import worst
from kbit_ref.errors import BadInput, MissingLibrary, message
from kbit_ref.progress import Progress

HELP = "compare all libraries with the definition and with each other; as text, Markdown, HTML or JSON"
EXAMPLE = "kbit-ref matrix onnx onnxruntime --html matrix.html"
OUTPUT = {
    "first tables": "per library: its version, its name for each type or format, ours, and the verdict on each part",
    "alike": "who gives identical answers to the same inputs, one line per set of equal answers",
}


def arguments(parser: argparse.ArgumentParser) -> None:
    """Add the options of `kbit-ref matrix`."""
    _libraries.arguments(parser)
    parser.add_argument("--html", metavar="FILE", help="write one page that needs nothing else")
    parser.add_argument("--markdown", metavar="FILE", help="write it as Markdown")
    parser.add_argument("--save", metavar="FILE", help="write it as JSON")
    parser.add_argument("--read", metavar="FILE", help="draw the pages of a JSON file instead of judging")


def run(args: argparse.Namespace) -> int:
    """Judge, compare, print and write."""
    for name in ("html", "markdown", "save"):
        if getattr(args, name):
            can_be_written("matrix", name, Path(getattr(args, name)))
    if args.read:
        found, lines, status = _read(Path(args.read)), [], "agree"
    else:
        begin = time.monotonic()
        matrix = _made(args)
        found, lines = as_dict(matrix), text(matrix, time.monotonic() - begin)
        status = worst([*(row.report.status for row in matrix.types), *(row.status for row in matrix.blocks)])
    for path, page in ((args.html, html), (args.markdown, markdown), (args.save, _json)):
        if path:
            Path(path).write_text(page(found), "utf-8")
    print(_json(found) if args.json else "\n".join(lines), end="\n" if args.json or lines else "")
    return 0 if status in ("agree", "known") else 1


def _json(found: dict[str, Any]) -> str:
    return json.dumps(found, indent=None, separators=(",", ":")) + "\n"


def _read(path: Path) -> dict[str, Any]:
    """Return a matrix that was saved."""
    try:
        found = json.loads(path.read_text("utf-8"))
    except (OSError, ValueError) as error:
        raise BadInput(
            message("matrix", f"read = {path}", f"it cannot be read ({error})", "give a saved matrix")
        ) from None
    keys = {"date", "versions", "types", "blocks", "groups"}
    if not isinstance(found, dict) or not keys <= set(found):
        rule = "it is no matrix"
        raise BadInput(message("matrix", f"read = {path}", rule, "make one with `kbit-ref matrix --save FILE`"))
    return found


def _made(args: argparse.Namespace) -> Matrix:
    present, _ = _libraries.chosen("matrix", args, own=True)
    if not present:
        rule = "no library that it has an adapter for is installed"
        raise MissingLibrary(message("matrix", "libraries", rule, "pip install ml_dtypes gfloat gguf onnx jax"))
    with Progress("judging", 0) as step:
        return make_matrix(present, timeout=args.timeout, folders=args.adapters, progress=_libraries.sum_up(step))


def text(matrix: Matrix, seconds: float) -> list[str]:
    """Return the tables of verdicts, then who agrees with whom."""
    lines = verdict_tables([*(row.report for row in matrix.types), *matrix.blocks])
    for group in matrix.groups:
        lines.append(f"{group.name}: {len(group.members)} side by side, {_counted(group.alike)}")
        for line in alike_lines(group):
            first, *others = wrapped(line, width() - 4)
            lines += [f"  {first}", *(f"    {other}" for other in others)]
    libraries = len(matrix.versions)
    rows = len(matrix.types) + len(matrix.blocks)
    return [
        *lines,
        "",
        f"{libraries} libraries, {rows} types and formats, {len(matrix.groups)} groups; {seconds:.0f} s.",
    ]


def _counted(alike: Sequence[Sequence[str]]) -> str:
    return "all alike" if len(alike) == 1 else f"{len(alike)} different answers"
