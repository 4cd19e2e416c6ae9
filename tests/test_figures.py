"""Pictures: a line a precision and no other, the heights of the rows, the same bytes twice."""

import sys

import pytest
from study_rows import SIZES, made_up

from kbit_ref.errors import BadInput, MissingLibrary
from kbit_ref.figures import blocks, draw, drawn, kinds, performance, precisions, rate_distortion, save, training
from kbit_ref.figures.ink import COLOURS
from kbit_ref.study.distortion import table
from kbit_ref.study.gathered import Gathered, Pictured

pytest.importorskip("matplotlib")


@pytest.fixture(scope="module")
def rows() -> Gathered:
    return Gathered(made_up(), n=20)


def lines(axes) -> dict[str, object]:
    """The lines that stand for something, by what they are."""
    return {str(line.get_gid())[5:]: line for line in axes.lines if str(line.get_gid()).startswith("line ")}


def test_a_line_a_precision(rows) -> None:
    panels = {"excess": rows.precisions, "accuracy": rows.precisions_of_accuracy}
    picture = precisions(panels, 0.25)
    assert len(picture.axes) == 2
    for axes, found in zip(picture.axes, panels.values(), strict=True):
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
    assert [text.get_text() for text in legend.get_texts()] == ["bits", "3", "4", "5", "16"]


def test_intervals_are_those_of_the_rows(rows) -> None:
    (axes,) = precisions({"excess": rows.precisions}).axes
    ends = sorted(tuple(part[:, 1]) for bars in axes.collections for part in bars.get_segments())
    assert ends == sorted((p.quality.low, p.quality.high) for c in rows.precisions for p in c.points)


def test_types_and_blocks_have_a_panel_a_width(rows) -> None:
    for picture, names in ((kinds(rows.kinds), ["int", "quantile"]), (blocks(rows.blocks), ["64", "tensor"])):
        assert [axes.get_title("left") for axes in picture.axes] == ["3 bits", "4 bits", "5 bits"]
        assert all(list(lines(axes)) == names for axes in picture.axes)


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


def test_colours_for_names_differ_for_the_colour_blind() -> None:
    """Those of Okabe and Ito, and gray."""
    assert set(COLOURS) <= {"#0072B2", "#D55E00", "#009E73", "#CC79A7", "#E69F00", "#56B4E9", "#000000", "#7F7F7F"}
    assert len(set(COLOURS)) == len(COLOURS)
