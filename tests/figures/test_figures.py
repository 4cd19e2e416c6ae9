"""Pictures: a line a precision and no other, the heights of the rows, the same bytes twice."""

import sys
from dataclasses import replace

import numpy as np
import pytest
from helpers.study_rows import SIZES, made_up

from kbit_ref.errors import BadInput, MissingLibrary
from kbit_ref.figures import blocks, draw, drawn, kinds, performance, precisions, rate_distortion, save, training
from kbit_ref.figures.ink import COLOURS, INKS, figure, named, style
from kbit_ref.figures.parts import legend
from kbit_ref.study.distortion import table
from kbit_ref.study.gathered import Gathered, Pictured
from kbit_ref.study.kinds import KINDS

pytest.importorskip("matplotlib")


@pytest.fixture(scope="module")
def rows() -> Gathered:
    return Gathered(made_up(), n=20)


def lines(axes) -> dict[str, object]:
    """The lines that stand for something, by what they are."""
    return {str(line.get_gid())[5:]: line for line in axes.lines if str(line.get_gid()).startswith("line ")}


def laid_out(picture) -> None:
    """Draw it, so that everything has its place."""
    from matplotlib.backends.backend_agg import FigureCanvasAgg

    with style():
        FigureCanvasAgg(picture).draw()


def test_a_line_a_precision(rows) -> None:
    panels = {"excess": rows.precisions, "accuracy": rows.precisions_of_accuracy}
    picture = precisions(panels, 0.25)
    assert len(picture.axes) == 3
    for axes, found in zip(picture.axes[:2], panels.values(), strict=True):
        drawn_lines = lines(axes)
        assert list(drawn_lines) == ["3", "4", "5", "16"]
        for curve in found:
            line = drawn_lines[str(curve.series.bits)]
            assert list(line.get_xdata()) == [p.total_bits for p in curve.points]
            assert list(line.get_ydata()) == [p.quality.value for p in curve.points]
        looks = {(line.get_color(), line.get_marker()) for line in drawn_lines.values()}
        assert len({colour for colour, _ in looks}) == len({marker for _, marker in looks}) == 4
        assert axes.get_xscale() == "log"
    (legend,) = picture.legends
    assert legend.get_title().get_text() == "bits"
    assert [text.get_text() for text in legend.get_texts()] == ["3", "4", "5", "16"]


def test_four_bits_and_more_are_divided_by_the_best_of_them(rows) -> None:
    foot = lines(precisions({"excess": rows.precisions}).axes[-1])
    assert list(foot) == ["4", "5", "16"]
    close = [curve for curve in rows.precisions if curve.series.bits >= 4]
    for curve in close:
        x, y = [], []
        for point in curve.points:
            there = []
            for other in close:
                logs = [np.log(p.total_bits) for p in other.points]
                if logs[0] <= np.log(point.total_bits) <= logs[-1]:
                    there.append(np.interp(np.log(point.total_bits), logs, [p.quality.value for p in other.points]))
            if len(there) > 1:  # alone no width is the best
                x.append(point.total_bits)
                y.append(point.quality.value / min(there))
        assert x
        assert list(foot[str(curve.series.bits)].get_xdata()) == x
        assert list(foot[str(curve.series.bits)].get_ydata()) == pytest.approx(y, rel=1e-12)
    assert len(precisions({"accuracy": rows.precisions_of_accuracy}).axes) == 1


def test_gray_is_where_a_width_has_no_model(rows) -> None:
    foot = precisions({"excess": rows.precisions}).axes[-1]
    close = [curve for curve in rows.precisions if curve.series.bits >= 4]
    left, right = (patch.get_extents().transformed(foot.transData.inverted()) for patch in foot.patches)
    assert left.x1 == pytest.approx(max(curve.points[0].total_bits for curve in close))
    assert right.x0 == pytest.approx(min(curve.points[-1].total_bits for curve in close))


def test_intervals_are_those_of_the_rows(rows) -> None:
    axes, _ = precisions({"excess": rows.precisions}).axes
    ends = sorted(tuple(part[:, 1]) for bars in axes.collections for part in bars.get_segments())
    assert ends == sorted((p.quality.low, p.quality.high) for c in rows.precisions for p in c.points)


def test_types_and_blocks_have_a_panel_a_width(rows) -> None:
    for picture, names in ((kinds(rows.kinds), ["int", "quantile"]), (blocks(rows.blocks), ["64", "tensor"])):
        assert [axes.get_title("left") for axes in picture.axes] == ["3 bits", "4 bits", "5 bits"]
        assert all(list(lines(axes)) == names for axes in picture.axes)


def test_types_are_divided_by_the_best_of_their_width(rows) -> None:
    for axes, found in zip(kinds(rows.kinds).axes, rows.kinds.values(), strict=True):
        of = {curve.series.kind: [p.quality.value for p in curve.points] for curve in found}
        drawn_lines = lines(axes)
        assert list(drawn_lines["quantile"].get_ydata()) == [1, 1, 1]  # int does twice the damage
        ratios = [one / other for one, other in zip(of["int"], of["quantile"], strict=True)]
        assert list(drawn_lines["int"].get_ydata()) == pytest.approx(ratios, rel=1e-12)


def test_types_without_a_colour_have_panels_of_their_own(rows) -> None:
    (three, *_) = rows.kinds.values()
    more = [replace(three[0], series=replace(three[0].series, kind=kind)) for kind in ("clip", "af")]
    picture = kinds({3: [*three, *more]})
    found = {axes.get_title("left"): list(lines(axes)) for axes in picture.axes}
    assert found == {"3 bits": ["int", "quantile"], "3 bits, more types": ["clip", "af"]}


def test_legends_are_within_the_paper(rows) -> None:
    for labels, most in ((["a", "b", "c"], 1), ([f"a long label, {i}" for i in range(12)], 4)):
        with style():
            paper, (axes,) = figure(1, 1, 3)
            for label in labels:
                axes.plot([1, 2], [1, 2], label=label)
            legend(paper, [axes], "all of them")
        laid_out(paper)
        (made,) = paper.legends
        box = made.get_window_extent()
        assert 0 <= box.x0 < box.x1 <= paper.bbox.width
        assert [text.get_text() for text in made.get_texts()] == labels
        heights = {round(text.get_window_extent().y0) for text in made.get_texts()}
        assert 1 <= len(heights) <= most


def test_a_line_a_size_over_k(rows) -> None:
    (axes,) = performance({"excess": rows.precisions}).axes
    assert list(lines(axes)) == list(SIZES)
    assert [list(line.get_xdata()) for line in lines(axes).values()] == [[3, 4, 5, 16]] * 3


def test_the_rate_distortion_plane_has_the_bound_and_lloyd_max() -> None:
    found = table(["int4sym", "int5sym", "nf4", "lloyd4"], ["normal"], [64])
    above, below = rate_distortion(found, ["normal"]).axes
    assert {"bound", "lloyd-max", "int", "nf"} <= set(lines(above))
    assert max(map(abs, lines(below)["bound"].get_ydata())) < 1e-9
    printed = [0.4553, 0.5724, 0.6411, 0.6794, 0.6999, 0.7107, 0.7162]  # log2(D 4**bits) / 2
    assert list(lines(below)["lloyd-max"].get_ydata()) == pytest.approx(printed, abs=1e-4)
    nf4 = next(row for row in found if row.type == "nf4")
    assert list(lines(above)["nf"].get_ydata()) == [nf4.sqnr]


def test_a_line_a_model_in_training() -> None:
    (axes,) = training({"s-0": [(50, 5.0), (100, 4.0)], "s-1": [(50, 5.1), (100, 4.1)], "m-0": [(50, 4.9)]}, 2.5).axes
    found = lines(axes)
    assert list(found) == ["s-0", "s-1", "m-0", "floor"]
    assert found["s-0"].get_color() == found["s-1"].get_color() != found["m-0"].get_color()


def test_names_stand_at_the_ends_of_lines_and_off_the_floor() -> None:
    from matplotlib.text import Text

    curves = {"a-0": [(50, 5.0), (100, 2.60)], "b-0": [(50, 5.0), (100, 2.55)], "b-1": [(50, 5.0)]}  # b-1 stopped
    for floor in (None, 2.5):
        (axes,) = training(curves, floor).axes
        laid_out(axes.figure)
        names = {text.get_text(): text for text in axes.texts}
        boxes = [Text.get_window_extent(names[name]) for name in "ab"]  # without the tie
        assert names["b"].xy == (1, 2.55)
        assert boxes[0].y0 > boxes[1].y1
        if floor is not None:
            assert boxes[1].y0 > axes.transData.transform((50, floor))[1]


def test_the_same_bytes_twice(rows) -> None:
    panels = {"excess": rows.precisions}
    for form, begin in (("svg", b"<?xml"), ("png", b"\x89PNG")):
        first, second = (drawn(precisions(panels), form) for _ in range(2))
        assert first == second
        assert first.startswith(begin)
        assert b"Matplotlib v" not in first
        assert b"date" not in first
    with pytest.raises(BadInput, match="pictures are png or svg"):
        drawn(precisions(panels), "gif")


def test_the_style_stays_where_it_is_needed(rows, tmp_path) -> None:
    import matplotlib

    before = dict(matplotlib.rcParams)
    save(training({"s-0": [(50, 5.0), (100, 4.0)]}), tmp_path / "t")
    assert sorted(path.name for path in tmp_path.iterdir()) == ["t.png", "t.svg"]
    assert dict(matplotlib.rcParams) == before


def test_what_has_no_rows_has_no_picture() -> None:
    assert draw(Pictured()) == {}
    made = draw(Pictured(training={"s-0": [(50, 5.0), (100, 4.0)]}))
    assert {name: sorted(forms) for name, forms in made.items()} == {"training": ["png", "svg"]}


def test_without_matplotlib_the_extra_is_named(rows, monkeypatch) -> None:
    monkeypatch.setitem(sys.modules, "matplotlib", None)
    with pytest.raises(MissingLibrary, match=r"pip install kbit_ref\[plot\]"):
        precisions({"excess": rows.precisions})


def test_names_differ_for_the_colour_blind_and_in_gray_print() -> None:
    """Colours of Okabe and Ito, black and gray; without them markers and their insides tell all known kinds apart."""
    known = {"#0072B2", "#D55E00", "#009E73", "#CC79A7", "#E69F00", "#56B4E9", "#000000", "#7F7F7F"}
    assert {*COLOURS, *INKS} <= known
    assert len({*COLOURS, *INKS}) == len(COLOURS) + len(INKS)
    looks = named(list(KINDS))
    assert len({(look.marker, look.hollow) for look in looks.values()}) == len(KINDS)
    assert [kind for kind, look in looks.items() if not look.hollow] == [
        *("int", "float", "dynamic", "quantile", "nf", "lloyd")
    ]
    assert named(["other", "int"])["int"] == looks["int"]
    assert named(["other"])["other"] not in looks.values()
