"""Every figure is drawn in the book's own look: the reader's settings neither show in it nor stop it, and stay as they were."""

from __future__ import annotations

import hashlib
import inspect
import io
import sys
import types
from pathlib import Path

import ipywidgets
import matplotlib
import matplotlib.pyplot as plt
import numpy as np
import pytest
import torch
from IPython.core.formatters import DisplayFormatter
from IPython.core.pylabtools import print_figure
from matplotlib.axes import Axes
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure
from PIL import Image

from latentbook import widgets
from latentbook.data.digits import load_digits
from latentbook.experiments import mix_and_match
from latentbook.figures import air as air_figures
from latentbook.figures import diagrams
from latentbook.figures import plots as figures
from latentbook.widgets.base import render_png

ROOT = Path(__file__).resolve().parents[2]


def uniform(*shape: int, seed: int = 0) -> torch.Tensor:
    return torch.rand(*shape, generator=torch.Generator().manual_seed(seed))


READERS = {  # settings of a reader's own; without LaTeX the first stops whatever heeds it
    "text.usetex": True,
    "savefig.transparent": True,
    "savefig.bbox": "tight",
    "savefig.dpi": 31,
    "savefig.facecolor": "none",
    "figure.facecolor": "black",
    "figure.dpi": 47,
    "figure.constrained_layout.use": True,
    "font.family": ["No Such Font"],
    "font.sans-serif": ["No Such Font"],
    "font.size": 23,
    "mathtext.fontset": "cm",
    "path.sketch": (9, 9, 9),
    "image.cmap": "viridis",
    "image.origin": "lower",
    "axes.unicode_minus": False,
    "axes.formatter.use_mathtext": True,
    "xtick.color": "magenta",
    "xtick.major.size": 20,
    "ytick.minor.visible": True,
    "lines.linewidth": 9,
    "lines.dash_capstyle": "round",
    "hatch.linewidth": 7,
    "legend.frameon": True,
}


def on_canvas(figure: Figure) -> Figure:
    """A figure that no window shows, on a canvas that can be looked at."""
    FigureCanvasAgg(figure)
    return figure


WHERE = torch.tensor([[2.0, 0.5, -0.3], [3.0, 0.0, 0.4]])
FOUR = uniform(4, 1, 28, 28)
DRAWN = {
    "show_digits": lambda: figures.show_digits(
        FOUR, 2, title="four", row_labels=list("ab"), column_labels=["$c_1$", "d"]
    ),
    "show_windows": lambda: figures.show_windows(FOUR[:2], {"a": WHERE}, {"a": FOUR[2:]}),
    "narrow_digits": lambda: on_canvas(figures.narrow_digits(figures.pixels(FOUR), 4, "", ["a"], list("abcd"))),
    "draw_completions": lambda: on_canvas(
        figures.draw_completions(FOUR[:, 0], FOUR.flatten(1)[:, 500:], uniform(4, 2, 500), 9, 3.5)
    ),
    "completions_grid": lambda: figures.completions_grid(FOUR, FOUR.flatten(1)[:, 500:], uniform(4, 2, 500)),
    "curves": lambda: figures.curves({"a": [1, -2, 3], "b": [3, 2, 1e-7]}, ylabel="$x$ (nats)").figure,
    "sheet": lambda: figures.sheet(3, 2)[0],
    "draw_vae": figures.draw_vae,
    "draw_label_flow": lambda: figures.draw_label_flow(True),
    "draw_fixed_flow": figures.draw_fixed_flow,
    "draw_mixing": lambda: figures.draw_mixing([True, False, True]),
    "draw_spatial_transformer": figures.draw_spatial_transformer,
    "draw_evidence_flow": lambda: diagrams.draw_evidence_flow(True),
    "draw_swap_flow": diagrams.draw_swap_flow,
    "show_rows": lambda: air_figures.show_rows({"a": FOUR, "b": FOUR}, title="rows"),
    "show_scenes": lambda: air_figures.show_scenes(FOUR[:2], WHERE.expand(2, 2, 3), torch.tensor([1, 2])),
    "draw_policy": lambda: air_figures.draw_policy(28 * uniform(9, 2), 28 * uniform(9, 2, seed=1), [(-3.0, 1.0)], 28),
    "draw_unrolled": lambda: air_figures.draw_unrolled(2),
}
CODES = uniform(2, 3, 5)
LAYERS = [uniform(6, 9, seed=1), uniform(6), uniform(784, 6, seed=2) - 0.5, uniform(784)]
WHAT = [uniform(6, 16), uniform(6), uniform(4, 6), uniform(4)], [uniform(6, 2), uniform(6), uniform(16, 6), uniform(16)]
WIDGETS = {
    "AttentionWindow": lambda: widgets.AttentionWindow(FOUR[:, 0]),
    "CompleteFigure": lambda: widgets.CompleteFigure(),
    "CollapseFigure": lambda: widgets.CollapseFigure(load_digits("train", source="offline"), count=64, epochs=2),
    "ContradictFigure": lambda: widgets.ContradictFigure(),
    "EvidenceFigure": lambda: widgets.EvidenceFigure(
        uniform(2, 3, 28, 28), CODES, CODES - 2, names=list("ab"), centres=uniform(4, 5), styles=FOUR[:, 0],
        style_codes=uniform(4, 4), decoder=LAYERS,
    ),
    "GradientExplorer": lambda: widgets.GradientExplorer(FOUR[0, 0], (2.0, 0.3, 0.0)),
    "MixingFigure": lambda: widgets.MixingFigure(),
    "RelabelFigure": lambda: widgets.RelabelFigure(
        FOUR[:2, 0], {"a model": uniform(2, 3, 28, 28)}, {"a model": [[0, 1, 2], [1, 1, 1]]}
    ),
    "SignFigure": lambda: widgets.SignFigure(load_digits("test", source="offline")),
    "RepeatFigure": lambda: widgets.RepeatFigure(
        FOUR[:, 0], WHERE.expand(4, 2, 3), uniform(4, 2) / 4 + 0.7, encoder=WHAT[0], decoder=WHAT[1], output_bias=-1
    ),
    "SteerFigure": lambda: widgets.SteerFigure(load_digits("test", source="offline"), count=60),
    "StripsFigure": lambda: widgets.StripsFigure(FOUR[:, None], labels=["$a$"], headings=["one"]),
}  # fmt: skip


@pytest.fixture(autouse=True)
def leave_no_figures():
    with matplotlib.rc_context():
        matplotlib.use("Agg")
        yield
        plt.close("all")


def plain():
    """matplotlib's own settings."""
    return plt.style.context("default", after_reset=True)


def readers_own():
    return plt.style.context(["dark_background", READERS], after_reset=True)


def drawn(figure: Figure) -> bytes:
    """What stands on a figure's canvas, with its size."""
    figure.canvas.draw()
    return bytes(figure.canvas.buffer_rgba()) + repr(figure.canvas.get_width_height()).encode()


def test_these_are_all_that_draw():
    def draws(thing) -> bool:
        return inspect.isfunction(thing) and not {"Figure", "Axes", "tuple[Figure, Axes]"}.isdisjoint(
            thing.__annotations__.values()
        )

    for module in (figures, diagrams, air_figures):
        here = {
            name: thing for name, thing in vars(module).items() if getattr(thing, "__module__", "") == module.__name__
        }
        for name, thing in here.items():
            assert not draws(thing) or hasattr(thing, "__wrapped__"), f"{name} draws without @book_style()"
            made = draws(thing) and ("Figure" in str(thing.__annotations__["return"]) or name == "curves")
            assert not made or name in DRAWN, f"{name} is not tried here"
    shown = {name for name in widgets.__all__ if isinstance(getattr(widgets, name), type)}
    assert shown - {"StaticWidget"} == set(WIDGETS)


@pytest.mark.parametrize("name", DRAWN)
def test_a_figure_takes_nothing_of_the_readers_settings(name):
    with plain():
        expected = drawn(DRAWN[name]())
    with readers_own():
        before = dict(matplotlib.rcParams)
        assert drawn(DRAWN[name]()) == expected
        assert dict(matplotlib.rcParams) == before


def test_nor_does_a_notebook_or_a_file_that_shows_it_later():
    def kept(figure: Figure) -> tuple[bytes, bytes]:
        figure.savefig(out := io.BytesIO(), format="png")
        return print_figure(figure, "png"), out.getvalue()

    with plain():
        expected = kept(DRAWN["curves"]())
    with readers_own():
        assert kept(DRAWN["curves"]()) == expected
    for png in expected:
        paper = np.asarray(Image.open(io.BytesIO(png)).convert("RGBA"))
        assert (paper[0, 0] == 255).all() and (paper[..., 3] == 255).all()  # opaque and white


@pytest.mark.parametrize("name", WIDGETS)
def test_a_still_takes_nothing_of_the_readers_settings(name):
    with plain():
        expected = WIDGETS[name]()._repr_mimebundle_()[0]
    with readers_own():
        before = dict(matplotlib.rcParams)
        found = WIDGETS[name]()._repr_mimebundle_()[0]
        assert dict(matplotlib.rcParams) == before
    assert found["image/png"] == expected["image/png"] and found["text/html"] == expected["text/html"]


def test_a_still_is_cut_to_what_is_drawn_whatever_the_settings():
    figure, sizes = figures.BookFigure(figsize=(2, 1)), set()
    figure.add_axes((0.4, 0.4, 0.2, 0.2)).set_axis_off()
    for settings in ({}, {"savefig.bbox": "tight"}, {"savefig.bbox": "standard"}, {"savefig.pad_inches": 3}):
        with matplotlib.rc_context(settings):
            sizes.add(Image.open(io.BytesIO(render_png(figure))).size)
    ((width, height),) = sizes
    assert width < 200 and height < 100  # of 288 x 144


def test_what_is_drawn_into_a_readers_axes_is_in_the_books_look():
    def parts() -> bytes:
        figure, axes = plt.subplots(figsize=(3, 2), dpi=90, facecolor="white")
        axes.set(xlim=(0, 3), ylim=(0, 2))
        axes.set_axis_off()
        figures.box(axes, 1.5, 1, "a box")
        figures.term(axes, 2.5, 1.6, "$z$", "a term")
        figures.spread(axes, [1, 2], [[0.5, 0.7], [1.0, 1.2]], label="a", colour="black")
        diagrams.symbol(axes, 0.5, 0.5, "$x$", "data")
        return drawn(figure)

    with plain():
        expected = parts()
    settings = {name: READERS[name] for name in ("text.usetex", "font.size", "lines.linewidth", "image.cmap")}
    with plt.style.context(["dark_background", settings], after_reset=True):
        assert parts() == expected


def test_the_look_of_a_chapter_leaves_nothing_of_the_readers():
    with plain():
        figures.use_style()
        expected = dict(matplotlib.rcParams)
    with readers_own():
        figures.use_style()
        assert dict(matplotlib.rcParams) == expected and expected["image.cmap"] == "gray_r"


def test_the_picture_of_the_readme_takes_nothing_of_the_readers_settings(tmp_path):
    digits = load_digits("test", source="offline")
    with plain():
        figures.front_picture(tmp_path / "one.png", digits, columns=2)
    with readers_own():
        before = dict(matplotlib.rcParams)
        figures.front_picture(tmp_path / "two.png", digits, columns=2)
        assert dict(matplotlib.rcParams) == before
    one, two = ((tmp_path / name).read_bytes() for name in ("one.png", "two.png"))
    assert one == two and sorted(path.name for path in tmp_path.iterdir()) == ["one.png", "two.png"]
    with pytest.raises(ValueError, match="at least 3 of each kind, got fewer of 2"):
        figures.front_picture(tmp_path / "three.png", digits.take(slice(0, 5)))
    with pytest.raises(IsADirectoryError, match="the picture cannot be written"):
        figures.front_picture(tmp_path, digits)


def test_the_picture_of_the_readme_was_made_by_the_state_that_is_shipped():
    variant, state = Image.open(ROOT / "book" / "completions.png").text["Source"].split()
    assert variant == "concatenation-best" and "completions.png" in (ROOT / "README.md").read_text(encoding="utf-8")
    assert state == hashlib.sha256(mix_and_match.state_path(variant).read_bytes()).hexdigest()


# What a notebook keeps of a widget

KEPT = {"text/plain", "text/html", "image/png", "application/vnd.jupyter.widget-view+json"}


def test_ipywidgets_7_keeps_the_still_picture_too(monkeypatch):
    """There a widget shows itself by a method that IPython asks first, and that knows nothing of our bundle."""
    shown = []
    monkeypatch.setattr(ipywidgets.Widget, "_ipython_display_", lambda self, **_: shown.append(self), raising=False)
    data, _ = DisplayFormatter().format(WIDGETS["StripsFigure"]())
    assert set(data) == KEPT and shown == []
    assert data["text/html"].startswith('<div class="lb-static"') and data["image/png"] in data["text/html"]
    plain_widget = ipywidgets.IntSlider()  # as it would be without our word
    assert DisplayFormatter().format(plain_widget) == ({}, {}) and shown == [plain_widget]


def test_a_closed_widget_still_shows_its_picture():
    figure = WIDGETS["StripsFigure"]()
    figure.close()
    data, _ = type(figure)._repr_mimebundle_(figure)
    assert set(data) == KEPT - {"application/vnd.jupyter.widget-view+json"}


def test_colab_is_asked_for_its_manager_of_custom_widgets(monkeypatch):
    import anywidget._util

    output = types.ModuleType("google.colab.output")
    asked = []
    output.enable_custom_widget_manager = lambda: asked.append(True)
    output._widgets = types.SimpleNamespace(_installed_url="https://example.org/manager.js")
    monkeypatch.setitem(sys.modules, "google.colab.output", output)
    anywidget._util.enable_custom_widget_manager_once.cache_clear()
    data, metadata = DisplayFormatter().format(WIDGETS["StripsFigure"]())
    anywidget._util.enable_custom_widget_manager_once.cache_clear()
    assert asked == [True] and set(data) == KEPT
    (of_the_view,) = metadata.values()
    assert of_the_view["colab"]["custom_widget_manager"]["url"] == "https://example.org/manager.js"


def test_axes_are_what_curves_gives():
    assert isinstance(figures.curves({"a": [1.0]}, ylabel="y"), Axes)


def test_curves_during_training_are_drawn_in_the_books_look(monkeypatch):
    from livelossplot import PlotLosses

    from latentbook.training.loop import History, live_curves

    seen = []
    monkeypatch.setattr(
        PlotLosses, "send", lambda self: seen.append((plt.rcParams["text.usetex"], plt.rcParams["axes.facecolor"]))
    )
    with plt.rc_context({"text.usetex": True, "axes.facecolor": "black"}):
        live_curves()(None, History(epochs=[{"bce": 1.0}]))
        assert plt.rcParams["text.usetex"] is True
    assert seen == [(False, "white")]


def test_a_backend_that_shows_figures_is_not_switched_off(monkeypatch):
    """A notebook's backend turns interactive drawing on when the first figure is made, which may be one of the book's."""
    monkeypatch.setitem(plt.rcParams, "interactive", False)
    with figures.book_style():
        plt.ion()
    assert plt.isinteractive()
    with pytest.raises(ZeroDivisionError), figures.book_style():
        plt.ioff()
        _ = 1 / 0
    assert not plt.isinteractive()
