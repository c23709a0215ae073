"""Chapter 03's diagrams, how evidence is put together and how an image is drawn again, and its grid of swapped images."""

from __future__ import annotations

import math

import matplotlib.pyplot as plt
import torch
from jaxtyping import Float
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.patches import Rectangle
from torch import Tensor

from latentbook.figures import BACKWARD, COLOURS, arrow, box, mosaic, route, sheet
from latentbook.multi_level_vae import MultiLevelVAE

TILE = 30  # pixels from image to image in a grid


def symbol(axes: Axes, x: float, y: float, formula: str, concept: str) -> None:
    """A variable in the colour of its concept, centred on (x, y)."""
    axes.text(x, y, formula, color=COLOURS[concept], fontsize=15, va="center", ha="center")


def draw_evidence_flow(cut: bool) -> Figure:
    """A group of three images: a style code for each, one class code for all; dashed, the way of the gradient.

    With `cut` the evidence is accumulated on `.data`, as a reproduction did, and no gradient reaches the class heads.
    """
    figure, axes = sheet(15.2, 7.6, 0.62)
    styles, images, classes = (6.75, 5.8, 4.85), (5.6, 3.8, 2.0), (2.75, 1.85, 0.95)
    for x, name in ((2.3, "encoder"), (12.2, "decoder")):
        box(axes, x, 3.8, name, 1.5, 7.0, COLOURS["data"])
    for i, (style, image, evidence) in enumerate(zip(styles, images, classes, strict=True), 1):
        symbol(axes, 0.5, image, f"$x_{i}$", "data")
        symbol(axes, 10.2, style, f"$s_{i}$", "style")
        symbol(axes, 14.6, image, rf"$\hat{{x}}_{i}$", "data")
        box(axes, 4.9, style, rf"$q(s\,|\,x_{i})$", 1.6, 0.55, COLOURS["style"])
        box(axes, 4.9, evidence, rf"$q(c\,|\,x_{i})$", 1.6, 0.55, COLOURS["class"])
        for y, stretches in (
            (image, ((0.85, 1.5), (13.0, 14.2))),
            (style, ((3.1, 4.05), (5.75, 9.8), (10.6, 11.4))),
            (evidence, ((3.1, 4.05),)),
        ):
            for start, end in stretches:
                arrow(axes, (start, y), (end, y))
        arrow(axes, (5.75, evidence), (7.0, classes[1] + 0.35 * (evidence - classes[1])))
    axes.text(7.8, styles[0] + 0.1, "each with its own noise", fontsize=9, ha="center", va="bottom")
    draw_accumulation(axes, classes[1])
    draw_gradients(axes, cut)
    return figure


def draw_accumulation(axes: Axes, y: float) -> None:
    """The product over the group, and the one class code that the decoder gets for all its images."""
    box(axes, 8.1, y, "product over\nthe group", 2.0, 1.0, COLOURS["class"])
    symbol(axes, 10.2, y, "$c$", "class")
    arrow(axes, (9.2, y), (9.85, y))
    arrow(axes, (10.5, y), (11.4, y))
    axes.text(10.2, y + 0.4, "one for\nall three", fontsize=9, ha="center", va="bottom")


def draw_gradients(axes: Axes, cut: bool) -> None:
    """The way back by the styles, and by the class code: to the encoder, or to where a cut ends it."""
    for y, end in ((3.8, 3.1), (0.4, 6.45 if cut else 3.1)):
        route(axes, [(11.4, y), (end, y)], dashed=True)
        axes.text(8.9, y + 0.08, "gradient", color=BACKWARD, fontsize=9, ha="center", va="bottom")
    if cut:
        axes.plot([6.4, 6.4], [0.12, 3.15], color=BACKWARD, linewidth=3.5, solid_capstyle="butt", zorder=3)
        axes.text(6.4, 3.2, ".data: values pass, no gradient", color=BACKWARD, fontsize=9, ha="center", va="bottom")
        axes.text(4.9, 0.4, "never learn", color=BACKWARD, fontsize=9, ha="center", va="center")


def draw_swap_flow() -> Figure:
    """A swap: the style of one image, the class of others, decoded into an image that shares something with each."""
    figure, axes = sheet(14.2, 4.4, 0.64)
    for y, given, role, posterior, code, concept in (
        (3.3, "$x$", "gives the style", r"$q(s\,|\,x)$", "$s$", "style"),
        (1.2, r"$x_1 \ldots x_k$", "give the class", r"$q(c\,|\,x_1 \ldots x_k)$", "$c$", "class"),
    ):
        symbol(axes, 0.9, y, given, "data")
        axes.text(0.9, y - 0.35, role, fontsize=9, ha="center", va="top")
        box(axes, 3.2, y, "encoder", colour=COLOURS["data"])
        box(axes, 6.0, y, posterior, 2.3, 0.6, COLOURS[concept])
        symbol(axes, 8.8, y, code, concept)
        for start, end in ((1.75, 2.35), (4.05, 4.75), (7.25, 8.5), (9.1, 10.05)):
            arrow(axes, (start, y), (end, y))
        axes.text(7.87, y + 0.1, "its mean", fontsize=8, ha="center", va="bottom")
    axes.text(6.0, 0.72, "product over the $k$ images", fontsize=9, ha="center", va="top")
    box(axes, 10.9, 2.25, "decoder", 1.5, 3.0, COLOURS["data"])
    arrow(axes, (11.75, 2.25), (12.75, 2.25))
    symbol(axes, 13.1, 2.25, r"$\hat{x}$", "data")
    axes.text(13.1, 1.85, "the style of $x$,\nthe class\nof the others", fontsize=9, ha="center", va="top")
    return figure


@torch.no_grad()
def draw_swap_grid(
    model: MultiLevelVAE,
    styles: Float[Tensor, "rows 1 28 28"],
    evidence: Float[Tensor, "columns k 1 28 28"],
    *,
    title: str = "",
    axes: Axes | None = None,
) -> Axes:
    """Every image of `styles` (first column) drawn again with the class of each set of evidence (first row), decoder means.

    Of k > 1 images of evidence all are shown, smaller. Raises ValueError for no styles or no evidence.
    """
    (rows, *_), (columns, k, *_) = styles.shape, evidence.shape
    if 0 in (rows, columns, k):
        raise ValueError(f"a grid needs at least one style and one image of evidence, got {rows} and {columns} x {k}")
    drawn = model.swap(styles.repeat_interleave(columns, 0), evidence.repeat(rows, 1, 1, 1, 1))
    across = math.ceil(math.sqrt(k / 1.5))  # images of evidence side by side above a column
    small = TILE if k == 1 else (TILE - 4) / across
    left, top = TILE + 8, small * math.ceil(k / across) + 8
    wide, high = left + TILE * columns, top + TILE * rows
    if axes is None:
        axes = plt.subplots(figsize=(0.021 * wide, 0.021 * high + 0.35))[1]
    for images, x, y, size, per_row in (
        (styles, 0, top, TILE, 1),
        (drawn, left, top, TILE, columns),
        *((one, left + TILE * i, 0, small, across) for i, one in enumerate(evidence)),
    ):
        shown = mosaic(images, per_row)
        step = size / TILE
        extent = (x, x + step * shown.shape[1], y + step * shown.shape[0], y)
        axes.imshow(shown, vmin=0, vmax=1, extent=extent, interpolation="antialiased" if step < 1 else "nearest")
    for x, y, width, height, concept, dash in (
        (-2, top - 2, TILE + 2, TILE * rows + 2, "style", "-"),
        (left - 2, -2, TILE * columns + 2, top - 6, "class", "--"),
    ):
        axes.add_patch(
            Rectangle((x, y), width, height, fill=False, edgecolor=COLOURS[concept], linewidth=1.6, linestyle=dash)
        )
    axes.text(left - 4, -2, "class", fontsize=9, ha="right", va="top")
    axes.text(-2, top - 4, "style", fontsize=9, ha="left", va="bottom")
    axes.set(xlim=(-4, wide + 2), ylim=(high + 2, -4), xticks=[], yticks=[], title=title)
    axes.grid(False)
    axes.spines[:].set_visible(False)
    return axes
