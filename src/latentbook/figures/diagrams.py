"""Diagrams of the Multi-Level VAE, drawn by code as those of `figures` are."""

from __future__ import annotations

from matplotlib.axes import Axes
from matplotlib.figure import Figure

from latentbook.figures.plots import BACKWARD, COLOURS, arrow, book_style, box, route, sheet, term


@book_style()
def symbol(axes: Axes, x: float, y: float, text: str, kind: str) -> None:
    """A variable by its name, in the colour of its concept, centred on (x, y)."""
    axes.text(x, y, text, color=COLOURS[kind], fontsize=14, ha="center", va="center")


@book_style()
def draw_evidence_flow(cut: bool = False) -> Figure:
    """Three images of a group: a style code for each, one class code from the product of what all of them say.

    cut=True: the reproduction's way, in which the product is made of values without their history, and where its gradient ends.
    """
    figure, axes = sheet(14.4, 6.4, 0.64)
    lanes = (5.3, 3.5, 1.7)
    product, sample = (8.0, 3.0), (10.0, 3.0)
    for i, y in enumerate(lanes, start=1):
        symbol(axes, 0.5, y, f"$x_{i}$", "data")
        box(axes, 2.2, y, "encoder", colour=COLOURS["data"])
        arrow(axes, (0.8, y), (1.35, y))
        box(axes, 4.9, y + 0.42, rf"$q(s_{i}\,|\,x_{i})$", 1.7, 0.5, COLOURS["style"])
        box(axes, 4.9, y - 0.42, rf"$q(c\,|\,x_{i})$", 1.7, 0.5, COLOURS["class"])
        arrow(axes, (3.05, y + 0.1), (3.95, y + 0.42))
        arrow(axes, (3.05, y - 0.1), (3.95, y - 0.42))
        symbol(axes, 10.6, y + 0.42, f"$s_{i}$", "style")
        arrow(axes, (5.85, y + 0.42), (10.3, y + 0.42))
        arrow(axes, (5.85, y - 0.42), (product[0] - 0.93, product[1] + 0.14 * (2 - i)))
        box(axes, 12.6, y + 0.2, "decoder", colour=COLOURS["data"])
        arrow(axes, (10.9, y + 0.42), (11.75, y + 0.32))
        route(axes, [(11.2, sample[1]), (11.2, y + 0.02), (11.75, y + 0.02)])
        arrow(axes, (13.45, y + 0.2), (13.85, y + 0.2))
        symbol(axes, 14.15, y + 0.2, rf"$\hat{{x}}_{i}$", "data")
    box(axes, *product, "product over\nthe group", 1.7, 0.8, COLOURS["class"])
    arrow(axes, (8.93, sample[1]), (9.75, sample[1]))
    axes.text(9.33, sample[1] - 0.14, "+ noise", fontsize=8, ha="center", va="top")
    symbol(axes, 10.0, sample[1], "$c$", "class")
    axes.plot([10.25, 11.2], [sample[1]] * 2, color="#444444", linewidth=1.1)
    if cut:  # a wall before the product, across what the images say of the class and nothing else
        wall = 6.8
        axes.plot([wall, wall], [2.3, 3.7], color=BACKWARD, linewidth=4, linestyle=(0, (1, 0.5)), zorder=3)
        axes.plot([wall, wall], [0.55, 2.3], color=BACKWARD, linewidth=0.8, linestyle=(0, (1, 2)))
        words = {"color": BACKWARD, "fontsize": 9}
        axes.text(wall, 0.45, "values without history (.data):\nhere the gradient ends", ha="center", va="top", **words)
        route(axes, [(11.05, 0.75), (8.0, 0.75), (8.0, 2.42), (wall + 0.1, 2.42)], dashed=True)
        axes.text(8.2, 0.83, "gradient of the class code", ha="left", va="bottom", **words)
    return figure


@book_style()
def draw_swap_flow() -> Figure:
    """How a swap is made and scored: style from one image, class from other images of another class, judged by its picture."""
    figure, axes = sheet(14.4, 4.4, 0.64)
    top, low = 3.3, 1.0
    axes.text(0.2, top + 0.62, "style source: one test image", fontsize=9, ha="left")
    axes.text(0.2, low + 0.62, "evidence: other images, of another class", fontsize=9, ha="left")
    symbol(axes, 0.5, top, "$x$", "data")
    symbol(axes, 0.8, low, r"$x_1, \ldots, x_k$", "data")
    for y, start in ((top, 0.8), (low, 1.75)):
        box(axes, 3.0, y, "encoder", colour=COLOURS["data"])
        arrow(axes, (start, y), (2.15, y))
    symbol(axes, 7.6, top, "$s$", "style")
    arrow(axes, (3.85, top), (7.3, top))
    axes.text(5.6, top + 0.1, r"mean of $q(s\,|\,x)$", fontsize=9, ha="center", va="bottom")
    box(axes, 5.6, low, "product over\nthe evidence", 1.8, 0.8, COLOURS["class"])
    arrow(axes, (3.85, low), (4.6, low))
    arrow(axes, (6.6, low), (7.3, low))
    symbol(axes, 7.6, low, "$c$", "class")
    middle = (top + low) / 2
    box(axes, 9.4, middle, "decoder", colour=COLOURS["data"])
    arrow(axes, (7.85, top - 0.1), (8.8, middle + 0.42))
    arrow(axes, (7.85, low + 0.1), (8.8, middle - 0.42))
    arrow(axes, (10.25, middle), (10.75, middle))
    symbol(axes, 11.05, middle, r"$\hat{x}$", "data")
    term(axes, 13.0, top, "the judge", "digit of the evidence,\nof the source, or neither?")
    term(axes, 13.0, low, "slant, thickness", "those of the source?")
    arrow(axes, (11.3, middle + 0.2), (12.2, top - 0.55))
    arrow(axes, (11.3, middle - 0.2), (12.2, low + 0.4))
    return figure
