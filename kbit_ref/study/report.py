"""The report of a study: results in, one HTML page, the same in Markdown, and the pictures as files.

Pictures come from whoever is passed as `draw` (`kbit_ref.figures.draw`); without matplotlib the tables are still there.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Mapping
from pathlib import Path

from kbit_ref.errors import BadInput, MissingLibrary, message
from kbit_ref.study.document import Document, html, markdown
from kbit_ref.study.gathered import Gathered, Pictured
from kbit_ref.study.results import facts_of, read
from kbit_ref.study.sections import sections

__all__ = ["Draw", "report"]

Draw = Callable[[Pictured], Mapping[str, Mapping[str, bytes]]]  # for each picture its svg and its png


def report(
    results: str | os.PathLike[str],
    out: str | os.PathLike[str],
    draw: Draw | None = None,
    *,
    n: int = 1000,
    seed: int = 0,
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
    n, seed
        How often evaluation items and seeds are drawn again for the intervals.

    Raises
    ------
    BadInput
        `study: r.sqlite, there is no such file; run the study first`
    """
    gathered = Gathered(read(results), n, seed)
    facts = facts_of(results)
    folder = Path(out)
    try:
        folder.mkdir(parents=True, exist_ok=True)
        pictures, note = _pictures(gathered, draw)
        title = facts.get("title") or "Bits against loss"
        document = Document(title, sections(gathered, facts, note))
        for name, forms in pictures.items():
            for form, data in forms.items():
                (folder / f"{name}.{form}").write_bytes(data)
        files = {name: f"{name}.png" for name in pictures}
        inlined = {name: forms["svg"] for name, forms in pictures.items()}
        (folder / "report.md").write_text(markdown(document, files), "utf-8")
        page = folder / "report.html"
        page.write_text(html(document, inlined), "utf-8")
    except OSError as error:
        raise BadInput(message("report", f"out = {out}", str(error), "name another directory")) from None
    return page


def _pictures(gathered: Gathered, draw: Draw | None) -> tuple[Mapping[str, Mapping[str, bytes]], str]:
    """The pictures, or a line on why there are none."""
    if draw is None:
        return {}, "There are no pictures here; `kbit-ref study report` draws them."
    try:
        return draw(gathered.pictured), ""
    except MissingLibrary as error:
        return {}, f"There are no pictures here. {error}"
