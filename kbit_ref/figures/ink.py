"""Paper and ink: the style of all pictures, their colours, and the bytes that are written.

Colours are those of Okabe and Ito for names and of viridis for what has an order; markers and lines differ too, and
names beyond the six that matter most are black and gray with hollow markers.
"""

from __future__ import annotations

import io
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any, NamedTuple

from kbit_ref.errors import BadInput, MissingLibrary, message
from kbit_ref.study.kinds import KINDS

__all__ = ["PLAIN", "Axes", "Figure", "Look", "above_one", "drawn", "figure", "named", "ordered", "save", "style"]

Axes = Any  # matplotlib's
Figure = Any


class Look(NamedTuple):
    """How a line is drawn."""

    colour: str
    marker: str
    dashes: Any
    hollow: bool = False

    @property
    def words(self) -> dict[str, Any]:
        """The same, as matplotlib calls it."""
        inside, edge, thick = ("white", self.colour, 1.0) if self.hollow else (self.colour, "white", 0.5)
        marker = {"marker": self.marker, "markerfacecolor": inside, "markeredgecolor": edge, "markeredgewidth": thick}
        return {"color": self.colour, "linestyle": self.dashes, **marker}


WIDE = 7.2  # inches: two columns of a journal
COLOURS = ("#0072B2", "#D55E00", "#009E73", "#CC79A7", "#E69F00", "#56B4E9")  # Okabe and Ito
INKS = ("#000000", "#7F7F7F")
MARKERS = ("o", "s", "^", "D", "v", "p", "<", ">", "h", "d")
HOLLOW = ("<", ">", "h", "d", "P", "X", "*", "8")
PLAIN = Look("#000000", "h", (0, (4, 2)))  # a model as it is
DASHES: tuple[Any, ...] = ("-", (0, (5, 2)), (0, (1, 1.2)), (0, (5, 1.5, 1, 1.5)))
STYLE = {
    "font.family": "DejaVu Sans",
    "font.size": 9,
    "axes.labelsize": 9,
    "axes.titlesize": 9.5,
    "axes.titleweight": "bold",
    "axes.titlelocation": "left",
    "xtick.labelsize": 8.5,
    "ytick.labelsize": 8.5,
    "legend.fontsize": 8.5,
    "legend.frameon": False,
    "axes.spines.top": False,
    "axes.spines.right": False,
    "axes.linewidth": 0.7,
    "axes.grid": True,
    "axes.axisbelow": True,
    "grid.color": "#DDDDDD",
    "grid.linewidth": 0.5,
    "lines.linewidth": 1.4,
    "lines.markersize": 4.5,
    "figure.facecolor": "white",
    "savefig.facecolor": "white",
    "svg.hashsalt": "kbit_ref",
    "svg.fonttype": "path",
    "path.simplify": False,
}


@contextmanager
def style() -> Iterator[None]:
    """The style above, while something is drawn or written.

    Raises
    ------
    MissingLibrary
        `figures: matplotlib, it is not installed; pip install kbit_ref[plot]`
    """
    try:
        import matplotlib
    except ImportError:
        remedy = "pip install kbit_ref[plot]"
        raise MissingLibrary(message("figures", "matplotlib", "it is not installed", remedy)) from None
    with matplotlib.rc_context():
        matplotlib.rcdefaults()
        matplotlib.rcParams.update(STYLE)
        yield


def figure(rows: int, columns: int, height: float, **shared: Any) -> tuple[Figure, list[Axes]]:
    """A figure of two columns' width, and its axes row by row."""
    from matplotlib.figure import Figure as Paper

    paper = Paper(figsize=(WIDE, height), layout="constrained")
    axes = paper.subplots(rows, columns, squeeze=False, **shared)
    return paper, list(axes.flat)


def above_one(columns: int, height: float) -> tuple[Figure, list[Axes]]:
    """A figure with axes in a row, and below them one more that is as wide as all; the last of the list."""
    from matplotlib.figure import Figure as Paper

    paper = Paper(figsize=(WIDE, height), layout="constrained")
    grid = paper.add_gridspec(2, columns, height_ratios=(1.25, 1))
    return paper, [*(paper.add_subplot(grid[0, i]) for i in range(columns)), paper.add_subplot(grid[1, :])]


def drawn(picture: Figure, form: str) -> bytes:
    """The figure as `png` or `svg`: the same bytes for the same figure.

    Raises
    ------
    BadInput
        `figures: form = 'gif', pictures are png or svg; use one of them`
    """
    if form not in ("png", "svg"):
        raise BadInput(message("figures", f"form = {form!r}", "pictures are png or svg", "use one of them"))
    metadata = {"Date": None, "Creator": None} if form == "svg" else {"Software": None}
    with style():
        file = io.BytesIO()
        picture.savefig(file, format=form, dpi=220, metadata=metadata)
        return file.getvalue()


def save(picture: Figure, path: str | Path) -> Path:
    """Write a figure to NAME.png and NAME.svg; the first one's path."""
    base = Path(path)
    for form in ("svg", "png"):
        made = base.with_name(f"{base.name}.{form}")
        made.write_bytes(drawn(picture, form))
    return made


def _in_order(n: int) -> list[str]:
    """[n] colours of viridis, dark to light; the lightest third is left out, it is faint in print."""
    from matplotlib import colormaps
    from matplotlib.colors import to_hex

    return [to_hex(colormaps["viridis"](0.84 * i / max(n - 1, 1))) for i in range(n)]


def ordered(values: Sequence[Any]) -> dict[Any, Look]:
    """A look for each value of something with an order."""
    colours = _in_order(len(values))
    return {v: Look(colours[i], MARKERS[i % len(MARKERS)], DASHES[i % len(DASHES)]) for i, v in enumerate(values)}


def named(values: Sequence[str]) -> dict[str, Look]:
    """A look for each kind; known kinds have the same in every picture."""
    order = [*KINDS, *(v for v in values if v not in KINDS)]
    return {v: _name(order.index(v)) for v in values}


def _name(i: int) -> Look:
    """Of the name that is so many after the first: six in colour, the rest in ink."""
    n = len(COLOURS)
    if i < n:
        return Look(COLOURS[i], MARKERS[i], DASHES[i % len(DASHES)])
    turn = (i - n) // len(INKS)
    return Look(INKS[i % len(INKS)], HOLLOW[(i - n) % len(HOLLOW)], DASHES[turn % len(DASHES)], True)
