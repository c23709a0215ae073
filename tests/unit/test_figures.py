"""The drawn diagrams: nothing cut, nothing laid over another, and what each says of its model."""

from __future__ import annotations

import ast
import inspect
import itertools
import math
import re

import matplotlib
import numpy as np
import pytest
import torch
from matplotlib.patches import FancyArrowPatch, FancyBboxPatch, Rectangle
from matplotlib.transforms import Bbox

from latentbook.figures import air as air_figures
from latentbook.figures import diagrams
from latentbook.figures import plots as figures

DIAGRAMS = {
    "vae": figures.draw_vae,
    "label as input": lambda: figures.draw_label_flow(False),
    "label as prediction": lambda: figures.draw_label_flow(True),
    "fixed": figures.draw_fixed_flow,
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
    assert dashed(figures.draw_fixed_flow()) == []
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
        ("fixed", {"encoder", "decoder"}),
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
    given, predicted, fixed = (DIAGRAMS[name]() for name in list(DIAGRAMS)[1:4])
    for figure in (given, predicted, fixed):
        assert "BCE" in said(figure) and "what the code costs" in said(figure)
    assert "cross-entropy" not in said(given) and "Gumbel" not in said(given)
    assert "cross-entropy" in said(predicted) and "Gumbel-softmax" in said(predicted)
    assert "p(y)" not in said(predicted)
    assert "adversary" in said(fixed) and "held fixed" in said(fixed) and "Gumbel" not in said(fixed)
    assert [f"{k}." in said(fixed) for k in (1, 2, 3)] == [True] * 3
    assert r"KL$(q(z | x, y) \| p(z))$" in said(fixed)


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


# Pictures of any size


def pictures(*shape: int, seed: int = 0) -> torch.Tensor:
    return torch.rand(*shape, generator=torch.Generator().manual_seed(seed))


@pytest.mark.parametrize(
    ("shape", "found"),
    [
        ((1, 56, 56), (1, 56, 56)),  # one picture, not four of 28 by 28
        ((2, 3, 1, 20, 30), (6, 20, 30)),
        ((5, 784), (5, 28, 28)),
        ((2, 3136), (2, 56, 56)),
        ((64,), (1, 8, 8)),
    ],
)
def test_height_and_width_are_the_pictures_own(shape, found):
    images = pictures(*shape)
    for given in (images, images.numpy(), images.tolist(), images.double(), images.requires_grad_()):
        array = figures.pixels(given)
        assert array.shape == found
        assert np.allclose(array.ravel(), images.detach().flatten(), atol=1e-7)


def test_flat_pictures_of_another_shape_come_with_their_size():
    images = pictures(2, 3, 600)
    assert np.array_equal(figures.pixels(images, size=(20, 30)), images.view(6, 20, 30))
    assert np.array_equal(figures.pixels(images.view(6, 20, 30), size=(20, 30)), images.view(6, 20, 30))


@pytest.mark.parametrize(
    ("images", "words"),
    [
        (torch.zeros(2, 600), r"flat square pictures \[n, pixels\], got \[2, 600\]: reshape it first, or give size="),
        (torch.zeros(28, 28), r"flat square pictures \[n, pixels\], got \[28, 28\]"),
        (torch.zeros(64, 64), r"can be one picture or 64 flat ones of 8 by 8: give \[1, 64, 64\] or \[64, 8, 8\]"),
        (torch.zeros(0, 28, 28), r"at least one picture \[height, width\], got \[0, 28, 28\]"),
        (torch.tensor(0.5), r"at least one picture \[height, width\], got \[\]"),
        (None, "images must hold numbers, got None"),
        ([[0.5], [0.5, 1.0]], "rows of one length"),
        (torch.full((2, 28, 28), 255, dtype=torch.uint8), "got 255 to 255: divide bytes by 255"),
        (np.random.default_rng(0).integers(0, 256, (1, 9, 9)), "grey values in \\[0, 1\\] without NaN"),
        (torch.full((1, 4, 4), math.nan), "without NaN, got nan"),
        (torch.full((1, 4, 4), 1.001), "got 1.001 to 1.001: divide"),
        (torch.zeros(1, 4, 4, dtype=torch.complex64), "complex64"),
    ],
)
def test_what_is_no_picture_is_refused(images, words):
    for draw in (figures.pixels, lambda given: figures.mosaic(given, 2), lambda given: figures.show_digits(given, 2)):
        with pytest.raises(ValueError, match=words):
            draw(images)


def test_binary_pictures_and_the_rounding_of_an_interpolation_are_taken():
    for binary in (
        torch.ones(1, 4, 4, dtype=torch.uint8),
        torch.ones(1, 4, 4, dtype=torch.bool),
        torch.ones(1, 4, 4).half(),
    ):
        found = figures.pixels(binary)
        assert found.dtype == np.float32 and (found == 1).all()
    almost = figures.pixels(torch.tensor([[[1 + 1e-6, -1e-6]]]))
    assert almost.tolist() == [[[1.0, 0.0]]]


def test_a_mosaic_is_laid_in_pictures_of_its_own_size():
    images = pictures(3, 1, 5, 7)
    found = figures.mosaic(images, 2, gap=1)
    assert found.shape == (2 * 6 - 1, 2 * 8 - 1)
    assert np.array_equal(found[:5, 8:15], images[1, 0]) and np.array_equal(found[6:, :7], images[2, 0])
    assert found.sum() == pytest.approx(images.sum().item(), rel=1e-5)
    for wrong in (0, 1.5, True, "2"):
        with pytest.raises(ValueError, match="columns must be a whole number at least 1"):
            figures.mosaic(images, wrong)
    assert np.array_equal(figures.mosaic(images, np.int64(2)), figures.mosaic(images, 2))


def test_labels_stand_at_the_middle_of_pictures_of_any_size():
    figure = figures.show_digits(pictures(4, 20, 30), 2, row_labels=["a", "b"], column_labels=[1, 2], title="four")
    (axes,) = figure.axes
    assert axes.images[0].get_array().shape == (42, 62)
    assert list(axes.get_xticks()) == [15, 47] and list(axes.get_yticks()) == [10, 32]
    assert [text.get_text() for text in axes.get_xticklabels()] == ["1", "2"]
    for wrong in ({"row_labels": ["a"]}, {"column_labels": "abc"}):
        with pytest.raises(ValueError, match="must hold a text for each of 2, or none, got 1"):
            figures.show_digits(pictures(4, 20, 30), 2, **wrong)


def test_a_window_over_a_scene_that_is_no_square_stands_where_it_reads():
    where = torch.tensor([[2.0, 0.5, -1.0], [1.0, 0.0, 0.0]])
    scenes = pictures(2, 1, 20, 40)
    figure = figures.show_windows(scenes, {"crop": where}, {"crop": pictures(2, 1, 8, 8)})
    first, whole = (panel.patches[0] for panel in figure.axes[:2])
    assert (whole.get_x(), whole.get_y(), whole.get_width(), whole.get_height()) == pytest.approx((-0.5, -0.5, 40, 20))
    # half as large, its centre at (-0.25, 0.5)
    assert (first.get_x(), first.get_y(), first.get_width(), first.get_height()) == pytest.approx((4.5, 9.5, 20, 10))


@pytest.mark.parametrize(
    ("given", "words"),
    [
        ({"rows": {"a": torch.zeros(3, 1, 8, 8)}}, "as many canvas as a, got 2 canvas, 3 a"),
        ({"boxes": {"a": torch.ones(3, 3)}}, r"a must have shape \[2, 3\], nothing empty, got \[3, 3\]"),
        ({"boxes": {"a": torch.full((2, 3), math.nan)}}, "a must be finite"),
        ({"boxes": {name: torch.ones(2, 3) for name in "abcd"}}, "at most 3, which can be told apart, got 4"),
        ({"canvas": torch.zeros(2, 1, 9, 9) - 1}, "canvas must hold grey values"),
    ],
)
def test_windows_that_do_not_fit_are_refused(given, words):
    with pytest.raises(ValueError, match=words):
        figures.show_windows(**{"canvas": torch.zeros(2, 1, 9, 9), "boxes": {}, "rows": {}, **given})


def test_completions_are_laid_over_the_true_bottoms_whatever_their_size():
    truth, tops = pictures(2, 1, 6, 10), pictures(2, 3, 45, seed=1)
    bottoms = truth.flatten(1)[:, 45:]
    figure = figures.completions_grid(truth, bottoms, tops)
    shown = figure.axes[0].images[0].get_array()
    assert shown.shape == (2 * 8 - 2, 5 * 12 - 2)
    last = np.asarray(shown[8:14, 48:58])
    assert np.allclose(last.ravel(), torch.cat([tops[1, 2], bottoms[1]]))
    blank = np.asarray(shown[:6, 12:22]).ravel()
    assert not blank[:45].any() and np.allclose(blank[45:], bottoms[0])
    same = figures.completions_grid(truth.flatten(1), bottoms, tops, size=(6, 10)).axes[0].images[0].get_array()
    assert np.array_equal(same, shown)
    for wrong, words in (
        ((truth, bottoms, tops[..., :44]), r"completions must have shape \[2, k, 45\]"),
        ((truth, bottoms[:1], tops), r"conditions must have shape \[2, bottom\]"),
        ((truth, truth.flatten(1), tops), "conditions must be smaller than the truth, 60 pixels, got 60"),
    ):
        with pytest.raises(ValueError, match=words):
            figures.completions_grid(*wrong)


# Curves and tables


def test_every_curve_is_drawn():
    histories = {str(i): [i, i + 1.0] for i in range(9)} | {"diverged": [1.0, math.nan], "tensor": torch.ones(2)}
    axes = figures.curves(histories, ylabel="loss")
    assert [line.get_label() for line in axes.lines] == list(histories)
    assert axes.lines[8].get_marker() == axes.lines[1].get_marker() != axes.lines[0].get_marker()
    for wrong, words in (
        ({}, "at least one curve"),
        ({"a": []}, "a must have shape"),
        ({"a": None}, "a must hold numbers"),
    ):
        with pytest.raises(ValueError, match=words):
            figures.curves(wrong, ylabel="loss")


def test_a_spread_has_seeds_at_every_place():
    _, axes = figures.plt.subplots()
    figures.spread(axes, [1, 2], [torch.tensor([1.0, 3.0]), [5.0]], label="a", colour="black")
    assert list(axes.lines[0].get_ydata()) == [2.0, 5.0] and list(axes.lines[1].get_ydata()) == [1.0, 3.0]
    for x, values, words in (
        ([1], [[1.0], [2.0]], "as many x as values, got 1 x, 2 values"),
        ([1, 2], [[1.0], []], "at x = 2 must have shape"),
    ):
        with pytest.raises(ValueError, match=words):
            figures.spread(axes, x, values, label="a", colour="black")


def test_tables_have_a_cell_for_every_heading():
    with pytest.raises(ValueError, match=r"every row must have 2 cells, as the header has, got 1: \['a'\]"):
        figures.Table(["name", "value"], [["a"]])
    columns = {"kl": ("KL", lambda value: f"{value:.1f}"), "bce": ("BCE", str)}
    rows = {"list": {"kl": [1.0, 2.0]}, "array": {"kl": np.array([1.0, 2.0])}, "none": {"kl": []}}
    table = figures.results_table(rows, columns)
    assert table.rows == [["list", "1.5 ± 0.7", "–"], ["array", "1.5 ± 0.7", "–"], ["none", "–", "–"]]


@pytest.mark.parametrize("n", [1, 14, 30])
def test_the_mixing_of_any_number_of_features_stands_on_its_sheet(n):
    mask = torch.arange(n) % 2 == 0
    figure = figures.draw_mixing(mask)
    figure.canvas.draw()
    (axes,) = figure.axes
    assert sum(isinstance(patch, Rectangle) for patch in axes.patches) == 6 * n
    for thing in [*axes.texts, *axes.patches]:
        extent = thing.get_window_extent()
        assert extent.x0 >= 0 and extent.x1 <= figure.bbox.x1, thing
    texts = axes.texts
    for one, other in itertools.combinations(texts, 2):
        assert not inner(one.get_window_extent()).overlaps(inner(other.get_window_extent())), (one, other)
    for wrong in ([], None, [[True]]):
        with pytest.raises(ValueError, match="mask must h"):
            figures.draw_mixing(wrong)


def test_parts_of_diagrams_that_do_not_exist_are_refused():
    _, axes = figures.sheet(3, 2)
    with pytest.raises(ValueError, match="kind must be one of data, condition, latent, got 'code'"):
        figures.cells(axes, 0, 0, ["code"])
    with pytest.raises(ValueError, match="chosen must be a whole number between 0 and 9, got 10"):
        figures.one_hot(axes, 1, 1, chosen=10)


def test_curves_and_rows_are_named():
    with pytest.raises(ValueError, match="histories must be a dict of names, got a list"):
        figures.curves([1.0, 2.0], ylabel="nats")
    with pytest.raises(ValueError, match="boxes must be a dict of names, got a list"):
        figures.show_windows(np.zeros((1, 8, 8)), [[2.0, 0.0, 0.0]], {})
    with pytest.raises(ValueError, match="rows must be a dict of names, got a list"):
        air_figures.show_rows([np.zeros((1, 8, 8))])


def test_an_excerpt_is_methods_as_they_run_at_the_margin():
    from latentbook.models import VAE

    code = str(figures.Excerpt(VAE.posterior, VAE.sample))
    assert code.startswith("def posterior(") and "\n\ndef sample(" in code and "class" not in code
    assert [node.name for node in ast.parse(code).body] == ["posterior", "sample"]
    assert all(line.strip() in inspect.getsource(VAE) for line in code.splitlines())
