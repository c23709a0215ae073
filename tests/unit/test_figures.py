"""The drawn diagrams: nothing cut, nothing laid over another, and what each says of its model."""

from __future__ import annotations

import itertools
import re

import matplotlib
import numpy as np
import pytest
from matplotlib.patches import FancyArrowPatch, FancyBboxPatch, Rectangle
from matplotlib.transforms import Bbox

from latentbook import diagrams, figures

DIAGRAMS = {
    "vae": figures.draw_vae,
    "label as input": lambda: figures.draw_label_flow(False),
    "label as prediction": lambda: figures.draw_label_flow(True),
    "mended": figures.draw_mended_flow,
    "evidence": diagrams.draw_evidence_flow,
    "evidence, cut": lambda: diagrams.draw_evidence_flow(cut=True),
    "swap": diagrams.draw_swap_flow,
}


@pytest.fixture(autouse=True)
def style():
    """The book's look, and figures closed afterwards."""
    matplotlib.use("Agg")
    with matplotlib.rc_context():
        figures.use_style()
        yield
        figures.plt.close("all")


@pytest.fixture(params=DIAGRAMS, ids=str)
def diagram(request):
    figure = DIAGRAMS[request.param]()
    figure.canvas.draw()
    return figure


def boxes(axes) -> list[Bbox]:
    return [patch.get_window_extent() for patch in axes.patches if isinstance(patch, FancyBboxPatch)]


def arrows(axes) -> list[FancyArrowPatch]:
    return [patch for patch in axes.patches if isinstance(patch, FancyArrowPatch)]


def shaft(arrow: FancyArrowPatch) -> np.ndarray:
    """The line of an arrow without its head, as points on the canvas no further than a pixel apart."""
    line, *_ = arrow.get_transform().transform_path(arrow.get_path()).to_polygons(closed_only=False)
    steps = [np.linspace(a, b, max(2, int(np.hypot(*(b - a))))) for a, b in itertools.pairwise(line)]
    return np.concatenate(steps)


def inner(extent: Bbox) -> Bbox:
    """A text's extent without the air above and below its letters."""
    return Bbox.from_extents(extent.x0 + 1, extent.y0 + 2, extent.x1 - 1, extent.y1 - 2)


def test_nothing_is_cut(diagram):
    for thing in [*diagram.axes[0].texts, *diagram.axes[0].patches]:
        extent = thing.get_window_extent()
        assert extent.x0 >= 0 and extent.x1 <= diagram.bbox.x1, thing
        assert extent.y0 >= 0 and extent.y1 <= diagram.bbox.y1, thing


def test_no_text_lies_over_another(diagram):
    texts = diagram.axes[0].texts
    for i, one in enumerate(texts):
        for other in texts[i + 1 :]:
            assert not inner(one.get_window_extent()).overlaps(inner(other.get_window_extent())), (one, other)


def test_a_text_stands_within_its_box_or_outside_all(diagram):
    (axes,) = diagram.axes
    for text in axes.texts:
        extent = text.get_window_extent()
        for box in boxes(axes):
            inside = box.x0 <= extent.x0 and extent.x1 <= box.x1 and box.y0 <= extent.y0 and extent.y1 <= box.y1
            assert inside or not inner(extent).overlaps(box), text


def test_no_arrow_runs_through_a_text(diagram):
    (axes,) = diagram.axes
    for arrow in arrows(axes):
        for text in axes.texts:
            extent = inner(text.get_window_extent())
            assert not any(extent.contains(*point) for point in shaft(arrow)), text


def said(figure) -> str:
    return re.sub(r"\\,|\s+", " ", " ".join(text.get_text() for text in figure.axes[0].texts))


def dashed(figure) -> list[FancyArrowPatch]:
    return [arrow for arrow in arrows(figure.axes[0]) if arrow.get_linestyle() not in ("-", "solid")]


def test_only_a_predicted_label_lets_the_reconstruction_teach_the_classifier():
    assert dashed(figures.draw_label_flow(False)) == []
    assert dashed(figures.draw_mended_flow()) == []
    figure = figures.draw_label_flow(True)
    figure.canvas.draw()
    (back,) = dashed(figure)
    start, end = figure.axes[0].transData.inverted().transform(shaft(back)[[0, -1]])
    places = {text.get_text(): text.get_position() for text in figure.axes[0].texts}
    assert start == pytest.approx(places["decoder"], abs=0.75) and start[1] < places["decoder"][1]
    assert end == pytest.approx(places["classifier"], abs=0.75) and end[1] > places["classifier"][1]


@pytest.mark.parametrize(
    ("name", "told"),
    [
        ("label as input", {"encoder", "decoder"}),
        ("label as prediction", {"decoder"}),
        ("mended", {"encoder", "decoder"}),
    ],
)
def test_an_arrow_from_below_leads_to_whom_the_label_is_told(name, told):
    """As the model of that picture has it: an encoder that is told y is one of q(z | x, y)."""
    figure = DIAGRAMS[name]()
    figure.canvas.draw()
    (axes,) = figure.axes
    ends = [axes.transData.inverted().transform(shaft(arrow)[-1]) for arrow in arrows(axes)]
    places = {text.get_text(): text.get_position() for text in axes.texts if text.get_text() in ("encoder", "decoder")}
    below = {part for part, (x, y) in places.items() if any(abs(a - x) < 0.75 and 0.2 < y - b < 0.6 for a, b in ends)}
    assert below == told
    assert (r"q(z | x, y)" in said(figure)) == ("encoder" in told)


def test_each_diagram_names_the_terms_that_arise():
    given, predicted, mended = (DIAGRAMS[name]() for name in list(DIAGRAMS)[1:4])
    for figure in (given, predicted, mended):
        assert "BCE" in said(figure) and "what the code costs" in said(figure)
    assert "cross-entropy" not in said(given) and "Gumbel" not in said(given)
    assert "cross-entropy" in said(predicted) and "Gumbel-softmax" in said(predicted)
    assert "p(y)" not in said(predicted)
    assert "p(y)" in said(mended) and "Gumbel" not in said(mended)
    assert r"KL$(q(z | x, y) \| p(z))$" in said(mended)


def test_the_evidence_meets_in_one_product_and_the_cut_shows_where_its_gradient_ends():
    whole, cut = (diagrams.draw_evidence_flow(cut) for cut in (False, True))
    for figure in (whole, cut):
        assert all(f"$x_{i}$" in said(figure) and f"$s_{i}$" in said(figure) for i in (1, 2, 3))
        assert said(figure).count("product") == 1 and said(figure).count("$c$") == 1
    assert dashed(whole) == [] and len(dashed(cut)) == 1
    assert ".data" in said(cut) and ".data" not in said(whole)


def test_the_cut_lies_across_what_is_said_of_the_class_and_leaves_the_styles_alone():
    figure = diagrams.draw_evidence_flow(cut=True)
    figure.canvas.draw()
    (axes,) = figure.axes
    wall = next(line for line in axes.lines if line.get_linewidth() > 3)
    (x, _), (low, high) = wall.get_data()
    crossing, elsewhere = [], []
    for arrow in arrows(axes):
        points = axes.transData.inverted().transform(shaft(arrow))
        at = points[abs(points[:, 0] - x).argmin()]
        (crossing if abs(at[0] - x) < 0.05 and low < at[1] < high else elsewhere).append(points[-1])
    product = next(text.get_position() for text in axes.texts if "product" in text.get_text())
    assert len(crossing) == 3
    assert all(abs(x - end[0]) < 1.1 and abs(product[1] - end[1]) < 0.5 for end in crossing)
    back = axes.transData.inverted().transform(shaft(dashed(figure)[0]))
    assert x < back[-1, 0] < x + 0.3 and low < back[-1, 1] < high  # the gradient comes as far as the wall


def test_a_one_hot_label_fills_one_of_ten_cells():
    cells = [patch for patch in figures.draw_label_flow(False).axes[0].patches if isinstance(patch, Rectangle)]
    purple = matplotlib.colors.to_rgba(figures.COLOURS["class"])
    assert len(cells) == 10
    assert sum(cell.get_facecolor() == purple for cell in cells) == 1
