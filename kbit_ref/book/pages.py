"""The pages: each a title, a paragraph, and a table that a registry or a measurement gives."""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from kbit_ref import cli, exact
from kbit_ref.book import faults
from kbit_ref.book.faults import escaped
from kbit_ref.cli import audit, departures, vectors
from kbit_ref.cli.list_ import markdown
from kbit_ref.data import data_folder

__all__ = ["CHOICES", "FOLDER", "PAGES", "Page", "contents", "page"]

FOLDER = Path(__file__).parent
CHOICES = {  # of a data type
    "rounding": "which neighbour; the stochastic ones take random bits (`kb.encode_stochastic`)",
    "ties": "halfway between two levels",
    "overflow": "beyond the last level",
    "zero_sign": "which x become -0, in a type with a code for it",
    "negative": "x < 0 in a type without negative levels",
}


@dataclass(frozen=True)
class Page:
    """A page of the book.

    Parameters
    ----------
    title, text
        What stands above the table.
    table
        Gives it, in Markdown.
    slow
        Is it measured for more than some seconds?
    """

    title: str
    text: str
    table: Callable[[], str]
    slow: bool = False


def commands() -> str:
    """Return a row per command: what it does, and an example."""
    lines = ["| command | what it does | example |", "|---|---|---|"]
    found = ((name, cli.command(name)) for name in cli.commands())
    lines += [f"| `kbit-ref {name}` | {escaped(it.HELP)} | `{escaped(it.EXAMPLE)}` |" for name, it in found]
    return "\n".join(lines)


def choices() -> str:
    """Return a row per choice of a data type: its names, the default first, and what it decides."""
    lines = ["| choice | names | what it decides |", "|---|---|---|"]
    lines += [f"| `{name}` | `{'` `'.join(names)}` | {CHOICES[name]} |" for name, names in exact.CHOICES.items()]
    return "\n".join(lines)


def findings() -> str:
    """Return the answer of the study, and its verdicts on the paper's findings."""
    report = (data_folder("study") / "report" / "report.md").read_text("utf-8")
    answer = report.partition("\n## The answer\n")[2].partition("\n![")[0].strip()
    table = report.partition("\n## The paper's eight findings\n")[2].partition("\n|")[2].partition("\n\n")[0]
    return f"{answer}\n\n|{table}"


def libraries() -> str:
    """Return a row per reason for which a library differs, by the record of the matrix."""
    record = json.loads(max(data_folder("matrix").glob("*.json")).read_text("utf-8"))
    rows: dict[tuple[str, ...], list[dict[str, Any]]] = {}
    for verdict in (*record["types"], *record["blocks"]):
        if verdict["status"] == "disagree" and verdict["diagnosis"] is not None:
            found = verdict["diagnosis"]["findings"]
            names = [member["name"] for finding in found for member in finding["members"][:1]]
            rows.setdefault((verdict["library"], *(names or [verdict["theirs"]])), []).append(verdict)
    lines = ["| library | format | what `check` says first | seconds | in others too |", "|---|---|---|---:|---:|"]
    for first, *others in rows.values():
        said = first["diagnosis"]["sentence"].partition("; the first:")[0]
        name = f"{first['library']} {first['version']}"
        seconds = record["seconds"][first["library"]][first["theirs"]]
        cells = (name, escaped(first["theirs"]), escaped(said), f"{seconds:.1f}", len(others) or "")
        lines.append(f"| {' | '.join(map(str, cells))} |")
    return "\n".join(lines)


PAGES = {
    "commands": Page("Commands", "`kbit-ref COMMAND --help` says what the output means.", commands),
    "types": Page("Data types", "`kbit-ref list`; `kbit-ref show NAME` draws one.", lambda: markdown("types")),
    "choices": Page(
        "Choices of data types",
        "A name can carry them: `e4m3fn+overflow=ieee`. Further: `e2m1fn+ties=away`, "
        "`Binary8p3se+rounding=toward_zero`; `kbit_ref.exact.Definition` defines each name.",
        choices,
    ),
    "schemes": Page(
        "Schemes",
        "`kbit-ref list schemes`. A scheme takes two choices more: `layout`, a name from the page of layouts whose "
        "width is that of the type, and the choices of the type (`ties=away`). In formulas fl(...) is one rounding to "
        "the format of the arithmetic, and top is the largest level.",
        lambda: markdown("schemes"),
    ),
    "profiles": Page(
        "Profiles",
        "`kbit-ref list profiles`: what libraries do. Where names differ in one word, `[a|b]` in the name is `[]` in "
        "the spelling. `kbit-ref departures` prints the known faults.",
        lambda: markdown("profiles"),
    ),
    "departures": Page(
        "Faults inside profiles",
        "`kbit-ref departures`: what is wrong with a library that does as its profile says. Each profile is "
        "compared with the published definition of its format (`kbit_ref/tensors/definitions.txt`) over the inputs "
        "of `check`. A departure is a fault if it breaks a law (a finite number becomes infinite, the largest of a "
        "block is lost, 0 becomes another number), or changes numbers that the definition gives back exactly and "
        "leaves no choice about.",
        departures.markdown,
    ),
    "layouts": Page(
        "Layouts",
        "`kbit-ref list layouts`: how codes become bytes. The number is the width of a code, and what follows `x` is "
        "the number of codes in a block.",
        lambda: markdown("layouts"),
    ),
    "methods": Page(
        "Methods",
        "`kbit-ref list methods`: how codes are found for a matrix, by `Model.quantize(scheme, method=...)`, "
        "`kbit-ref eval --method` and the plans of the study.",
        lambda: markdown("methods"),
    ),
    "vectors": Page(
        "Test vectors",
        "`kbit-ref vectors list`: the files in `data/vectors/`, and how many of the known mistakes each of them kills.",
        vectors.markdown,
    ),
    "rules": Page(
        "Acceptance rules in use",
        "`kbit-ref audit`: how many of the known-wrong quantizers that apply each rule accepts.",
        audit.markdown,
        slow=True,
    ),
    "faults": Page(
        "What `check` says of planted faults",
        "Quantizers written by hand, in NumPy and in C, each with one fault: the first line of the verdict, and how "
        "long it took on two cores.",
        faults.markdown,
        slow=True,
    ),
    "libraries": Page(
        "What `check` says of libraries",
        "The installed libraries that differ from their profiles, by the record in `data/matrix/`: the first line of "
        "the verdict, formats that differ for the same reasons in one row.",
        libraries,
    ),
    "findings": Page(
        "The study's answer",
        "`kbit-ref study report` on `data/study/`: how loss depends on the number of bits, and what becomes of the "
        "paper's eight findings on our models.",
        findings,
    ),
}


def page(name: str) -> str:
    """Return the Markdown of a page.

    Examples
    --------
    >>> page("layouts").splitlines()[0]
    '# Layouts'
    """
    one = PAGES[name]
    return f"# {one.title}\n\nGenerated by `python -m kbit_ref.book {name}`.\n\n{one.text}\n\n{one.table()}\n"


def contents() -> str:
    """Return the table of the README: a row per page, with the number of its rows."""
    lines = ["| page | rows | what |", "|---|---|---|"]
    for name, one in PAGES.items():
        text = (FOLDER / f"{name}.md").read_text("utf-8")
        table = [line for line in text.splitlines() if line.startswith("|")]
        rows = len(table) - 2 * sum(set(line) <= set("|-: ") for line in table)  # less heads and their rules
        what = one.text.replace("\n", " ").partition(". ")[0].removesuffix(".")
        lines.append(f"| [{one.title}](kbit_ref/book/{name}.md) | {rows} | {what} |")
    return "\n".join(lines)
