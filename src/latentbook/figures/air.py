"""Figures of Attend, Infer, Repeat: scenes with numbered windows, and its data flow, drawn as those of `figures` are."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import matplotlib.pyplot as plt
import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.patheffects import withStroke

from latentbook import checks
from latentbook.figures.diagrams import symbol
from latentbook.figures.plots import (
    COLOURS,
    BookFigure,
    arrow,
    book_style,
    box,
    draw_box,
    grey,
    numbers,
    pictures,
    route,
    sheet,
)
from latentbook.layers.spatial_transformer import box_corners, pair

DASHES = ("-", (0, (4, 2)), (0, (1, 1.2)), (0, (5, 1.5, 1, 1.5)))  # of the first window, the second, ...


@book_style()
def show_rows(rows: Mapping[str, Any], *, title: str = "", scale: float = 0.95) -> Figure:
    """Rows of pictures [n, 1, height, width], each row with its name at the left where it has one.

    Raises ValueError where a row has more pictures than another, and as `figures.pictures` does.
    """
    if not checks.mapping("rows", rows):
        raise ValueError("rows must hold at least one row of pictures, got none: give {name: [n, 1, height, width]}")
    every = {name: pictures(name or "scenes", images) for name, images in rows.items()}
    columns, margin = checks.same_length(**every), 1.1 if any(every) else 0.1
    size = (scale * columns + margin, scale * len(every) + (0.35 if title else 0.05))
    figure, panels = plt.subplots(len(every), columns, figsize=size, squeeze=False, FigureClass=BookFigure)
    for line, (name, images) in zip(panels, every.items(), strict=True):
        line[0].set_ylabel(name, rotation=0, ha="right", va="center", fontsize=9)
        for panel, image in zip(line, images, strict=True):
            show_image(panel, image)
    figure.suptitle(title, fontsize=10, y=1.0, va="top")
    figure.subplots_adjust(
        left=(margin - 0.05) / size[0], right=0.99, bottom=0.02, top=1 - (0.35 if title else 0.05) / size[1]
    )
    figure.subplots_adjust(wspace=0.08, hspace=0.08)
    return figure


@book_style()
def show_scenes(
    scenes: Any, where: Any, counts: Any, rows: Mapping[str, Any] | None = None, *, title: str = "", scale: float = 0.95
) -> Figure:
    """Scenes with their windows, numbered and each with its own dash, and rows of other pictures of the same scenes below.

    scenes: [n, 1, height, width]; where: [n, steps, 3]; counts: how many of a scene's windows are drawn, integers [n].
    Raises ValueError for other shapes, and as `show_rows` does.
    """
    shown = pictures("scenes", scenes)
    windows = numbers("where", where, [len(shown), "steps", 3])
    drawn = checks.class_numbers("counts", counts, len(shown), windows.shape[1] + 1).tolist()
    figure = show_rows({"": shown} | dict(rows or {}), title=title, scale=scale)
    for panel, places, count in zip(figure.axes[: len(shown)], windows, drawn, strict=True):
        if count:
            number_windows(panel, places[:count], tuple(shown.shape[1:]))
    return figure


@book_style()
def show_image(panel: Axes, image: Any, alpha: float = 1.0) -> None:
    """One picture [height, width] in a thin frame, without ticks."""
    panel.imshow(grey("image", image, ["height", "width"]).numpy(), vmin=0, vmax=1, alpha=alpha)
    panel.set(xticks=[], yticks=[])
    panel.grid(False)
    panel.spines[:].set(visible=True, color="#bbbbbb")


@book_style()
def number_windows(panel: Axes, where: Any, size: int | tuple[int, int], first: int = 1) -> None:
    """Boxes of windows [steps, 3] over a canvas shown by imshow: solid, dashed, dotted, numbered from `first`.

    size: the canvas' (height, width) in pixels, or one number for both.
    """
    height, width = pair(size)
    for i, one in enumerate(numbers("where", where, ["steps", 3]), first):
        draw_box(panel, one, (height, width), dash=DASHES[(i - 1) % len(DASHES)], clip=True)
        left, top, *_ = (box_corners(one, (height, width)) - 0.5).tolist()
        left, top = (min(max(edge, 0), max(n - 8, 0)) for edge, n in ((left, width), (top, height)))
        number = panel.text(
            left + 1.2, top + 0.8, str(i), fontsize=8, va="top", color=COLOURS["attention"], weight="bold"
        )
        number.set_path_effects([withStroke(linewidth=2, foreground="white")])


@book_style()
def draw_policy(first: Any, second: Any, means: Sequence[tuple[float, float]], size: int | tuple[int, int]) -> Figure:
    """Which of two objects is attended to first, by the centres (x, y) of both in pixels, [pairs, 2].

    Left, for each part of a canvas of `size` pixels (or height, width), how often an object there is the first; middle,
    where the first stands as seen from the second; right, the means of such differences, one a model.
    """
    height, width = pair(size)
    first = numbers("first", first, ["pairs", 2]).numpy()
    second = numbers("second", second, [len(first), 2]).numpy()
    means = numbers("means", means, ["models", 2]).tolist() if len(means) else []
    figure, (share, difference, models) = plt.subplots(
        1, 3, figsize=(9.6, 3.3), layout="constrained", FigureClass=BookFigure
    )
    edges = (np.linspace(0, height, 6), np.linspace(0, width, 6))
    counts = [np.histogram2d(*part.T[::-1], bins=edges)[0] for part in (first, second)]
    shares = counts[0] / np.maximum(sum(counts), 1)
    share.imshow(shares, vmin=0, vmax=1, extent=(0, width, height, 0))
    for row, column in np.argwhere(sum(counts) > 0):
        colour = "white" if shares[row, column] > 0.5 else "black"
        at = (edges[1][column] + width / 10, edges[0][row] + height / 10)
        share.text(*at, f"{shares[row, column]:.0%}", color=colour, ha="center", va="center", fontsize=8)
    share.set(title="seen first, by place", xlabel="$x$ (pixels)", ylabel="$y$ (pixels)")
    share.grid(False)
    difference.plot(*(first - second).T, ".", markersize=3, color=COLOURS["data"])
    reach = 1.05 * max(height, width)
    difference.set(title="first minus second", aspect="equal", xlim=(-reach, reach), ylim=(reach, -reach))
    for x, y in means:
        models.annotate("", (x, y), (0, 0), arrowprops={"arrowstyle": "->", "color": COLOURS["attention"]})
    far = 1.2 * max((max(abs(x), abs(y)) for x, y in means), default=1.0)
    models.set(title="the same, mean of each model", aspect="equal", xlim=(-far, far), ylim=(far, -far))
    for panel in (difference, models):
        panel.set_xlabel("$x$ (pixels)")
    return figure


@book_style()
def draw_unrolled(steps: int = 3) -> Figure:
    """Inference over some steps, and generation below it: what each step takes, gives, and hands on."""
    steps = checks.count("steps", steps)
    wide = 1.2 + 4.6 * steps
    figure, axes = sheet(wide, 8.0, 0.62)
    top, mid, low, out = 6.6, 5.0, 3.2, 1.3
    axes.text(0.1, 3.0, "inference", fontsize=10, style="italic", va="top")
    axes.text(0.1, 2.35, "generation", fontsize=10, style="italic", va="top")
    axes.plot([0, wide], [2.55, 2.55], color="#bbbbbb", linewidth=0.8, linestyle="-")
    symbol(axes, 0.5, 7.6, "$x$", "data")
    for i in range(1, steps + 1):
        x = 2.9 + 4.6 * (i - 1)
        box(axes, x, top, "recurrent\nnetwork", 1.7, 0.8)
        symbol(axes, x - 1.15, mid, rf"$z^\mathrm{{pres}}_{i}$", "presence")
        symbol(axes, x + 0.15, mid, rf"$z^\mathrm{{where}}_{i}$", "attention")
        arrow(axes, (x - 0.5, top - 0.45), (x - 1.05, mid + 0.32))
        arrow(axes, (x + 0.05, top - 0.45), (x + 0.12, mid + 0.32))
        box(axes, x + 1.75, mid, "crop", 0.9, 0.5, COLOURS["attention"])
        arrow(axes, (x + 0.7, mid), (x + 1.22, mid))
        box(axes, x + 1.75, low + 0.62, "encoder", 1.2, 0.5, COLOURS["data"])
        arrow(axes, (x + 1.75, mid - 0.3), (x + 1.75, low + 0.94))
        symbol(axes, x + 0.48, low + 0.62, rf"$z^\mathrm{{what}}_{i}$", "latent")
        arrow(axes, (x + 1.14, low + 0.62), (x + 0.92, low + 0.62))
        if i < steps:
            route(axes, [(x + 0.9, top), (x + 3.7, top)])
            axes.text(x + 2.75, top + 0.1, "state, $z_" + str(i) + "$", fontsize=9, ha="center", va="bottom")
        box(axes, x + 0.15, out, "decode, paste\nif present", 1.9, 0.75, COLOURS["data"])
        for start, end in (((-1.1, mid - 0.33), -0.65), ((-0.1, mid - 0.35), -0.2), ((0.48, low + 0.28), 0.48)):
            arrow(axes, (x + start[0], start[1]), (x + end, out + 0.43))  # of presence, where and what
        if i < steps:
            arrow(axes, (x + 1.15, out), (x + 3.7, out))
            axes.text(x + 2.4, out + 0.1, "canvas $+$", fontsize=9, ha="center", va="bottom")
    axes.plot([0.8, 2.9 + 4.6 * (steps - 1) + 1.75], [7.6, 7.6], color="#444444", linewidth=1.1, linestyle="-")
    for i in range(steps):
        x = 2.9 + 4.6 * i
        arrow(axes, (x + 1.75, 7.6), (x + 1.75, mid + 0.3))
        arrow(axes, (x, 7.6), (x, top + 0.45))
    end = 2.9 + 4.6 * (steps - 1)
    arrow(axes, (end + 1.15, out), (end + 1.6, out))
    symbol(axes, end + 1.85, out, r"$\hat{x}$", "data")
    return figure
