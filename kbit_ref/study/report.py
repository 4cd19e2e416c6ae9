"""The report of a study: results in, one HTML page, the same in Markdown, and the pictures as files.

Where models are of several families (`families`) each has a report of its own, and the page says what is in them.
Pictures come from whoever is passed as `draw` (`kbit_ref.figures.draw`); without matplotlib the tables are still there.
"""

from __future__ import annotations

import os
import re
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path

from kbit_ref.errors import BadInput, MissingLibrary, message
from kbit_ref.study.document import Document, Link, Picture, Section, Table, html, markdown
from kbit_ref.study.families import Family, families, named
from kbit_ref.study.gathered import Gathered, Pictured
from kbit_ref.study.results import facts_of, read
from kbit_ref.study.sections import sections

__all__ = ["Draw", "report"]

Pictures = Mapping[str, Mapping[str, bytes]]
Draw = Callable[[Pictured], Pictures]  # for each picture its svg and its png
STEPS = 4  # of a family's report


def report(
    results: str | os.PathLike[str],
    out: str | os.PathLike[str],
    draw: Draw | None = None,
    *,
    models: str = "*",
    n: int = 1000,
    seed: int = 0,
    tell: Callable[[str, int], None] | None = None,
) -> Path:
    """Write report.html, report.md and the pictures into a directory; the page's path.

    Parameters
    ----------
    results
        A file of `kbit-ref study run`.
    out
        A directory; made if it is not there.
    draw
        Makes the pictures; by default there are none.
    models
        Only those whose names fit the pattern; * is anything.
    n, seed
        How often evaluation items and seeds are drawn again for the intervals.
    tell
        Is told what comes next, and how many such steps there are.

    Raises
    ------
    BadInput
        `study: r.sqlite, there is no such file; run the study first`
    """
    found = families(named(read(results), models))
    facts = facts_of(results)
    title = facts.get("title") or "Bits against loss"
    steps = STEPS * max(len(found), 1)
    say = (lambda what: tell(what, steps)) if tell else lambda what: None
    try:
        if len(found) < 2:
            rows = found[0].results if found else ()
            return _page(Path(out), title, *_told(Gathered(rows, n, seed), facts, draw, say))
        answers = []
        for place, family in _places(found).items():
            told, pictures = _told(Gathered(family.results, n, seed), facts, draw, say)
            _page(Path(out) / place, f"{title}: {family.name}", told, pictures)
            answers.append(_answer(place, family, told))
        return _page(Path(out), title, [_apart(found), *answers], {})
    except OSError as error:
        raise BadInput(message("report", f"out = {out}", str(error), "name another directory")) from None


def _told(
    gathered: Gathered, facts: Mapping[str, str], draw: Draw | None, say: Callable[[str], None]
) -> tuple[list[Section], Pictures]:
    """The sections and the pictures of a report."""
    say("types on sources")
    _ = gathered.distortion
    say("curves")
    _ = gathered.precisions
    say("pictures")
    pictures, note = _pictures(gathered, draw)
    say("findings and fits")
    return sections(gathered, facts, note), pictures


def _page(folder: Path, title: str, told: Sequence[Section], pictures: Pictures) -> Path:
    """Write one page in both forms, with its pictures."""
    folder.mkdir(parents=True, exist_ok=True)
    document = Document(title, told)
    for name, forms in pictures.items():
        for form, data in forms.items():
            (folder / f"{name}.{form}").write_bytes(data)
    files = {name: f"{name}.png" for name in pictures}
    inlined = {name: forms["svg"] for name, forms in pictures.items()}
    (folder / "report.md").write_text(markdown(document, files), "utf-8")
    page = folder / "report.html"
    page.write_text(html(document, inlined), "utf-8")
    return page


def _places(found: Sequence[Family]) -> dict[str, Family]:
    """A directory's name for each family."""
    made: dict[str, Family] = {}
    for family in found:
        plain = re.sub(r"[^A-Za-z0-9_-]+", "-", family.name).strip("-") or "models"
        made[plain if plain not in made else f"{plain}-{len(made) + 1}"] = family
    return made


def _apart(found: Sequence[Family]) -> Section:
    """Why there are several reports."""
    rows = []
    for family in found:
        sizes = [row.subject.n_parameters for row in family.results]
        told = (family.name, family.architecture or None, ", ".join(family.models))
        rows.append((*told, min(sizes), max(sizes), family.evaluation, len(family.results)))
    heads = ("family", "architecture", "models", "parameters", "to", "judged on", "cells")
    return Section(
        "families",
        "Families",
        [
            f"These models are of {len(found)} families, by their architecture and by the tokens that they were judged "
            "on. No curve goes from one to another. Where what they were judged on differs, by a tokenizer or by the "
            "length of windows, a loss a token of one cannot be compared with that of another.",
            Table("Families.", heads, rows),
        ],
    )


def _answer(place: str, family: Family, told: Sequence[Section]) -> Section:
    """The answer of a family's report, and where that is."""
    parts = [part for section in told if section.name == "headline" for part in section.parts]
    link = Link(f"All about {family.name}", f"{place}/report")
    return Section(f"family-{place}", family.name, [*(p for p in parts if not isinstance(p, Picture)), link])


def _pictures(gathered: Gathered, draw: Draw | None) -> tuple[Pictures, str]:
    """The pictures, or a line on why there are none."""
    if draw is None:
        return {}, "There are no pictures here; `kbit-ref study report` draws them."
    try:
        return draw(gathered.pictured), ""
    except MissingLibrary as error:
        return {}, f"There are no pictures here. {error}"
