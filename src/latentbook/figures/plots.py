"""The book's plots and diagrams: one style, one colour a concept, never colour alone."""

from __future__ import annotations

import hashlib
import inspect
import io
import math
import textwrap
from collections.abc import Callable, Iterable, Mapping, Sequence
from importlib.resources import as_file, files
from itertools import cycle
from pathlib import Path as FilePath
from typing import Any

import matplotlib.pyplot as plt
import numpy as np
import torch
from matplotlib.axes import Axes
from matplotlib.colors import LinearSegmentedColormap
from matplotlib.figure import Figure
from matplotlib.patches import FancyArrowPatch, FancyBboxPatch, Rectangle
from matplotlib.path import Path
from torch import Tensor

from latentbook import checks
from latentbook.data.digits import Digits
from latentbook.figures.svg import PHONE, SMALLEST, has_narrow, legend_outside, show_as_pictures
from latentbook.files import check_writable, write_whole
from latentbook.layers.spatial_transformer import box_corners, pair
from latentbook.style import HELD_OUT, LATENT, TRAINING, book_style

COLOURS = {
    "data": "#0072B2",
    "condition": "#E69F00",
    "latent": LATENT,
    "class": "#CC79A7",
    "style": "#56B4E9",
    "presence": "#D55E00",
    "attention": "#D55E00",
    "training": TRAINING,
    "held out": HELD_OUT,
}
# on a coloured picture, which is the same in the light and in the dark: all other greys turn with the paper
ALWAYS_WHITE, ALWAYS_BLACK = "#fffffe", "#010000"
# from one way to the other, both ends read on light and on dark paper; no colour of a concept
TWO_WAYS = LinearSegmentedColormap.from_list("two-ways", ["#7d63c4", "#888a8c", "#a87b00"])
BACKWARD = "#8a2f00"  # gradients in diagrams, always dashed
HATCHES = {"data": "", "condition": "////", "latent": "...."}
BOXES = (
    (COLOURS["attention"], "-"),
    ("#444444", (0, (3, 2))),
    (COLOURS["data"], (0, (1, 1))),
)  # told apart by dashes too


DASHED = ("-", (0, (4, 2)), "-.", (0, (1, 1.2)), (0, (5, 1, 1, 1, 1, 1)))  # of one curve, the next, ...
GAP = 2  # white pixels between the pictures of a mosaic


def use_style() -> None:
    """Set the book's look for every plot that follows, and nothing of any other look; notebooks keep figures as SVG."""
    with as_file(files("latentbook") / "latentbook.mplstyle") as path:
        plt.style.use(["default", path])
    show_as_pictures()


class BookFigure(Figure):
    """A figure in the book's look for good: ticks, fonts and paper are settled only when it is drawn or saved."""

    @book_style()
    def draw(self, renderer: Any) -> None:
        super().draw(renderer)

    @book_style()
    def get_tightbbox(self, *args: Any, **kwargs: Any) -> Any:
        return super().get_tightbbox(*args, **kwargs)

    @book_style()
    def savefig(self, *args: Any, **kwargs: Any) -> None:
        super().savefig(*args, **kwargs)


def pictures(name: str, images: Any, size: int | tuple[int, int] | None = None) -> Tensor:
    """Grey values 0 to 1 as pictures [n, height, width] on the CPU, without their history.

    images: [..., height, width] (a tensor, an array or nested lists), or flat square ones as rows [n, pixels].
    size: (height, width) of flat ones [..., pixels] that are not square or not in rows.
    Raises ValueError for values outside 0 to 1 or NaN, nothing at all, and where no height and width follow.
    """
    values = checks.as_tensor(name, images)
    height, width = size_of(name, values.shape, size)
    return grey(name, values.reshape(-1, height, width), ("n", "height", "width"))


def grey(name: str, images: Any, shape: Sequence[int | str]) -> Tensor:
    """Grey values of a shape, as `checks.grey` takes them, on the CPU, without their history, in float32 or as wide as given."""
    values = checks.as_tensor(name, images).detach().cpu()
    wide = torch.promote_types(values.dtype, torch.float32) if values.is_floating_point() else torch.float32
    return checks.grey(name, values, shape, wide)


def size_of(name: str, shape: Sequence[int], size: int | tuple[int, int] | None = None) -> tuple[int, int]:
    """Height and width of images of a shape, as `pictures` reads it; raises ValueError where they do not follow."""
    if len(shape) == 0 or 0 in shape:
        raise ValueError(f"{name} must hold at least one picture [height, width], got {list(shape)}: give some")
    if size is not None:
        height, width = pair(size)
        if shape[-1] != height * width and tuple(shape[-2:]) != (height, width):
            raise ValueError(
                f"{name} must be pictures of {height} by {width} pixels, got {list(shape)}: reshape it first"
            )
        return height, width
    if len(shape) > 2:
        return shape[-2], shape[-1]
    side, pixels = math.isqrt(shape[-1]), shape[-1]
    if side**2 != pixels:
        raise ValueError(
            f"{name} must be [..., height, width], or flat square pictures [n, pixels], got {list(shape)}: "
            "reshape it first, or give size=(height, width)"
        )
    if len(shape) == 2 and shape[0] == pixels:
        raise ValueError(
            f"{name} {list(shape)} can be one picture or {pixels} flat ones of {side} by {side}: "
            f"give [1, {pixels}, {pixels}] or [{pixels}, {side}, {side}]"
        )
    return side, side


def numbers(name: str, values: Any, shape: Sequence[int | str]) -> Tensor:
    """Finite numbers of a shape (see `checks.shaped`) as float64 on the CPU, without their history."""
    return checks.finite(name, checks.as_tensor(name, values, dtype=torch.float64).detach().cpu(), shape, torch.float64)


def pixels(images: Any, size: int | tuple[int, int] | None = None) -> np.ndarray:
    """Images as an array [n, height, width] of grey values 0 to 1 for plotting; takes and refuses what `pictures` does."""
    return pictures("images", images, size).numpy()


def mosaic(images: Any, columns: int, gap: int = GAP, size: int | tuple[int, int] | None = None) -> np.ndarray:
    """Images (see `pictures`) laid out row by row on one canvas, black ink on white, `gap` white pixels between."""
    array, columns, gap = pixels(images, size), checks.count("columns", columns), checks.count("gap", gap, 0)
    (n, height, width), down = array.shape, -(-len(array) // columns)
    canvas = np.zeros((down * (height + gap) - gap, columns * (width + gap) - gap), array.dtype)
    for i in range(n):
        top, left = (i // columns) * (height + gap), (i % columns) * (width + gap)
        canvas[top : top + height, left : left + width] = array[i]
    return canvas


@book_style()
def show_digits(
    images: Any,
    columns: int,
    *,
    title: str = "",
    row_labels: Sequence[str] = (),
    column_labels: Sequence[str] = (),
    scale: float = 0.42,
    size: int | tuple[int, int] | None = None,
) -> Figure:
    """One mosaic of digits or other pictures (grey values 0 to 1, no rescaling), with labels along its rows and columns.

    images, size: as in `pictures`. scale: inches a column is wide. Raises ValueError as `pictures` does, and for another
    number of labels than there are rows or columns.
    """
    array, columns = pixels(images, size), checks.count("columns", columns)
    (height, width), rows = array.shape[1:], -(-len(array) // columns)
    row_labels, column_labels = labels("row_labels", row_labels, rows), labels("column_labels", column_labels, columns)
    scale = checks.number("scale", scale, 0, open_low=True)
    across, down = scale * columns + 0.3 + (1.0 if row_labels else 0), scale * rows * height / width + 0.3
    figure, axes = plt.subplots(figsize=(across, down), FigureClass=BookFigure)
    show_mosaic(axes, array, columns, row_labels, column_labels)
    axes.set_title(title)
    return has_narrow(figure, lambda: narrow_digits(array, columns, title, row_labels, column_labels))


@book_style()
def show_mosaic(
    axes: Axes, array: np.ndarray, columns: int, row_labels: Sequence[str] = (), column_labels: Sequence[str] = ()
) -> None:
    """Pictures [n, height, width] as one mosaic, its rows and columns named."""
    (height, width), rows = array.shape[1:], -(-len(array) // columns)
    axes.imshow(mosaic(array, columns), vmin=0, vmax=1, interpolation="nearest")
    axes.set(xticks=[], yticks=[])
    axes.grid(False)
    axes.spines[:].set_visible(False)
    if row_labels:
        axes.set_yticks([(height + GAP) * i + height / 2 for i in range(rows)], row_labels)
    if column_labels:
        axes.xaxis.tick_top()
        axes.set_xticks([(width + GAP) * i + width / 2 for i in range(columns)], column_labels)
    axes.tick_params(length=0)


@book_style()
def narrow_digits(
    array: np.ndarray, columns: int, title: str, row_labels: Sequence[str], column_labels: Sequence[str]
) -> Figure:
    """The mosaic of `show_digits` for a phone: its columns wrapped, block below block, with their labels."""
    (height, width), rows = array.shape[1:], -(-len(array) // columns)
    names = max((len(line) for name in row_labels for line in name.split("\n")), default=0) * 0.07
    fit = max(1, min(columns, int((PHONE - names) / 0.4)))
    fit = -(-columns // -(-columns // fit))  # as many in each block, where that is possible
    if not (row_labels or column_labels) and fit < columns:
        blocks, columns, rows = [array], fit, -(-len(array) // fit)
    else:
        whole = np.concatenate([array, np.zeros((rows * columns - len(array), height, width), array.dtype)])
        grid = whole.reshape(rows, columns, height, width)
        blocks = [grid[:, start : start + fit].reshape(-1, height, width) for start in range(0, columns, fit)]
    down = len(blocks) * ((PHONE - names) / fit * rows * height / width + 0.08 + 0.18 * bool(column_labels))
    figure, panels = plt.subplots(
        len(blocks),
        1,
        figsize=(PHONE, down + 0.25 * bool(title)),
        squeeze=False,
        layout="constrained",
        FigureClass=BookFigure,
    )
    figure.get_layout_engine().set(w_pad=0.01, h_pad=0.03, hspace=0.01)
    for i, (panel, block) in enumerate(zip(panels.flat, blocks, strict=True)):
        own = min(fit, columns - i * fit)
        show_mosaic(panel, block, own, row_labels, column_labels[i * fit : i * fit + own])
        panel.set(anchor="W", xlim=(-0.5, (width + GAP) * fit - GAP - 0.5))
        panel.tick_params(labelsize=SMALLEST)
    panels[0, 0].set_title(title)
    return figure


def labels(name: str, given: Iterable[Any], count: int) -> list[str]:
    """No text, or one for each of `count` rows or columns. Raises ValueError for another number of them."""
    found = [] if given is None else [given] if isinstance(given, str) else [str(text) for text in given]
    if len(found) not in (0, count):
        raise ValueError(f"{name} must hold a text for each of {count}, or none, got {len(found)}: {found}")
    return found


@book_style()
def draw_box(
    axes: Axes,
    where: Any,
    size: int | tuple[int, int],
    colour: str = COLOURS["attention"],
    dash: Any = "-",
    clip: bool = False,
) -> None:
    """The box of one window, `where` [3], over a canvas shown by imshow; clip: not beyond the axes.

    size: the canvas' (height, width) in pixels, or one number for both.
    """
    corners = box_corners(numbers("where", where, [3]), size)
    left, top, right, bottom = (corners - 0.5).tolist()  # imshow: centres at whole numbers
    style = {"edgecolor": colour, "linestyle": dash, "linewidth": 1.6, "clip_on": clip}
    axes.add_patch(Rectangle((left, top), right - left, bottom - top, fill=False, **style))


@book_style()
def show_windows(canvas: Any, boxes: Mapping[str, Any], rows: Mapping[str, Any], scale: float = 0.95) -> Figure:
    """Canvases with boxes, and beneath them a row of what each window shows.

    canvas: [n, 1, height, width]; boxes: up to three name -> where [n, 3]; rows: name -> images [n, 1, height, width]. A row
    of a box's name carries that box's colour and dash.
    Raises ValueError for more boxes, and for pictures and windows of different number.
    """
    boxes, rows = checks.mapping("boxes", boxes), checks.mapping("rows", rows)
    every = {name: pictures(name, images) for name, images in ({"canvas": canvas} | dict(rows)).items()}
    n, size = checks.same_length(**every), tuple(every["canvas"].shape[1:])
    if len(boxes) > len(BOXES):
        raise ValueError(
            f"boxes must be at most {len(BOXES)}, which can be told apart, got {len(boxes)}: {list(boxes)}"
        )
    windows = {name: numbers(name, where, [n, 3]) for name, where in boxes.items()}
    styles = dict(zip(windows, BOXES, strict=False))
    figsize = (scale * n + 0.8, scale * len(every))
    figure, panels = plt.subplots(len(every), n, figsize=figsize, squeeze=False, FigureClass=BookFigure)
    for line, (name, images) in zip(panels, every.items(), strict=True):
        line[0].set_ylabel(name, rotation=0, ha="right", va="center", fontsize=9)
        for panel, image in zip(line, images, strict=True):
            panel.imshow(image.numpy(), vmin=0, vmax=1)
            panel.set(xticks=[], yticks=[])
            panel.grid(False)
            panel.spines[:].set(visible=True, color="#bbbbbb")
            if name in styles:
                colour, dash = styles[name]
                panel.spines[:].set(color=colour, linestyle=dash, linewidth=1.6)
    for i, panel in enumerate(panels[0]):
        for name, where in windows.items():
            draw_box(panel, where[i], size, *styles[name])
    figure.subplots_adjust(wspace=0.12, hspace=0.12)
    return figure


@book_style()
def completions_grid(
    truth: Any, conditions: Any, completions: Any, size: int | tuple[int, int] | None = None
) -> Figure:
    """The original's figure: one row a digit; columns: the truth, the condition, then the completions.

    truth: pictures, [n, 784] or as `pictures` takes them; conditions: [n, 284], the bottoms; completions: [n, k, 500], the
    tops, shown over the true bottoms. Other sizes are taken where top and bottom make a picture.
    """
    whole = pictures("truth", truth, size)
    n, height, width = whole.shape
    bottoms = grey("conditions", conditions, [n, "bottom"])
    top = height * width - bottoms.shape[1]
    if top < 1:
        raise ValueError(
            f"conditions must be smaller than the truth, {height * width} pixels, got {bottoms.shape[1]}: give the bottoms"
        )
    tops = grey("completions", completions, [n, "k", top])
    figure = draw_completions(whole, bottoms, tops)
    few = min(tops.shape[1], 7)  # as many as a phone shows 40 pixels wide
    return has_narrow(figure, lambda: draw_completions(whole, bottoms, tops[:, :few], tops.shape[1], PHONE))


@book_style()
def draw_completions(
    whole: Tensor, bottoms: Tensor, tops: Tensor, of: int | None = None, width_in_inches: float | None = None
) -> Figure:
    """The grid of `completions_grid`; of: how many completions there are, where not all are shown."""
    (n, height, width), k = whole.shape, tops.shape[1]
    shown = torch.cat([torch.zeros(n, 1, tops.shape[2]), tops], 1)
    rest = torch.cat([shown, bottoms[:, None].expand(n, k + 1, -1)], 2)
    everything = torch.cat([whole.flatten(1)[:, None], rest], 1)
    figure = show_digits(everything, k + 2, size=(height, width))
    axes, across, down = figure.axes[0], width + GAP, height + GAP
    axes.xaxis.tick_top()
    axes.tick_params(axis="x", length=0, labelsize=8.25 if width_in_inches is None else SMALLEST)
    axes.set_xticks([width - 2, across + 1], ["true", "given"])  # each to its own side, where columns are narrow
    for label, side in zip(axes.get_xticklabels(), ("right", "left"), strict=True):
        label.set_ha(side)
    words = f"{k} completions" if of in (None, k) else f"{k} of {of} completions"
    axes.text((2 * across + (k + 2) * across) / 2, -6, words, ha="center", va="bottom", fontsize=10)
    for column, colour in ((0, COLOURS["data"]), (1, COLOURS["condition"]), (2, COLOURS["latent"])):
        wide = across * k if column == 2 else across
        corner = (across * column - 1.5, -2.5)
        axes.add_patch(Rectangle(corner, wide, down * n + 2, fill=False, edgecolor=colour, linewidth=1.6))
    axes.set_xlim(-3, across * (k + 2))
    axes.set_ylim(down * n + 1, -4)
    if width_in_inches is not None:
        figure.set_size_inches(width_in_inches, width_in_inches * down * n / (across * (k + 2)) + 0.3)
        figure.subplots_adjust(left=0, right=1, bottom=0, top=1 - 0.27 / figure.get_size_inches()[1])
    return figure


@book_style()
def front_picture(path: str | FilePath, digits: Digits, columns: int = 12) -> None:
    """The picture of the README, made anew: completions of six test digits by the best of chapter 01.

    It is written whole or not at all; a PNG says by the hash of which state it was made. Raises ValueError where `digits`
    has fewer than three of a kind that is shown.
    """
    from latentbook.experiments import mix_and_match

    columns, variant = checks.count("columns", columns), "concatenation-best"
    check_writable(path, "the picture")
    model = mix_and_match.load_figure_state(variant)
    index = torch.cat([nth_of(digits, label, 2) for label in (0, 2, 3, 4, 6, 7)])
    tops, bottoms = model.split(digits.images[index])
    completed = mix_and_match.completions(model, bottoms, columns, torch.Generator().manual_seed(0))
    figure, out = completions_grid(torch.cat((tops, bottoms), 1), bottoms, completed), io.BytesIO()
    kind = FilePath(path).suffix.removeprefix(".") or "png"
    state = hashlib.sha256(mix_and_match.state_path(variant).read_bytes()).hexdigest()
    figure.savefig(out, dpi=150, format=kind, metadata={"Source": f"{variant} {state}"} if kind == "png" else None)
    plt.close(figure)
    write_whole(path, out.getvalue())


def nth_of(digits: Digits, label: int, n: int) -> Tensor:
    """Where the digits have a label for the nth time (counted from 0), [1]. Raises ValueError where they do not."""
    found = (digits.labels == label).nonzero()[n : n + 1, 0]
    if len(found) == 0:
        raise ValueError(f"digits must hold at least {n + 1} of each kind, got fewer of {label}: give a whole test set")
    return found


@book_style()
def curves(
    histories: Mapping[str, Sequence[float]],
    *,
    ylabel: str,
    xlabel: str = "epoch",
    start: int = 1,
    colour: str | None = None,
    axes: Axes | None = None,
) -> Axes:
    """One line a name over the epochs, each with its own dash and marker, in ink or in the colour of a concept.

    histories: name -> one number an epoch; NaN, of a run that diverged, is left out. colour: as that of the latent for a KL;
    None: of training curves, which is no concept's. Raises ValueError where there is no history.
    """
    if not checks.mapping("histories", histories):
        raise ValueError("histories must hold at least one curve, got none: give {name: [one number an epoch]}")
    every = {name: series(name, values) for name, values in histories.items()}
    axes = plt.subplots(figsize=(6, 3), FigureClass=BookFigure)[1] if axes is None else axes
    colours = cycle([TRAINING, HELD_OUT] if colour is None else [colour])
    for (name, values), marker, dash, own in zip(every.items(), cycle("osD^vPX"), cycle(DASHED), colours):
        epochs = range(start, start + len(values))
        look = {"marker": marker, "linestyle": dash, "color": own, "markevery": max(1, len(values) // 8)}
        axes.plot(epochs, values, label=name, **look)
    axes.set(xlabel=xlabel, ylabel=ylabel)
    axes.legend()
    legend_outside(axes)
    return axes


def series(name: str, values: Any) -> np.ndarray:
    """Numbers [n], NaN allowed, as an array; raises ValueError for anything else and for none at all."""
    found = checks.shaped(
        name, checks.as_tensor(name, values, dtype=torch.float64), ["n"], "give one number for each point"
    )
    return found.detach().cpu().to(torch.float64).numpy()


@book_style()
def spread(
    axes: Axes,
    x: Sequence[float],
    values: Sequence[Sequence[float]],
    *,
    label: str,
    colour: str,
    marker: str = "o",
    dash: str = "-",
) -> None:
    """The mean over seeds as a line, every single seed as a faint mark: values[i] holds the seeds at x[i].

    Raises ValueError where there are not as many x as values, or no seed at one of them.
    """
    checks.same_length(x=x, values=values)
    every = [series(f"the values at x = {position}", seeds) for position, seeds in zip(x, values, strict=True)]
    axes.plot(x, [seeds.mean() for seeds in every], dash, color=colour, marker=marker, label=label)
    for position, seeds in zip(x, every, strict=True):
        axes.plot([position] * len(seeds), seeds, linestyle="", marker=marker, color=colour, alpha=0.35, markersize=3)


class Table:
    """A Markdown table that notebooks, the page and code hosts all show as one."""

    def __init__(self, header: Sequence[str], rows: Iterable[Sequence[Any]]):
        self.header, self.rows = list(header), [list(row) for row in rows]
        for row in self.rows:
            if len(row) != len(self.header):
                raise ValueError(
                    f"every row must have {len(self.header)} cells, as the header has, got {len(row)}: {row}"
                )

    def _repr_markdown_(self) -> str:
        align = [":--", *["--:"] * (len(self.header) - 1)]
        lines = [self.header, align, *self.rows]
        return "\n".join("| " + " | ".join(str(cell) for cell in line) + " |" for line in lines)

    def __repr__(self) -> str:
        return self._repr_markdown_()


def results_table(
    rows: Mapping[str, Mapping[str, Any]],
    columns: Mapping[str, tuple[str, Callable[[float], str]]],
    first: str = "variant",
) -> Table:
    """Mean and spread over seeds: rows name -> {metric: list of seeds, or one number}; columns metric -> (heading, format).

    The spread after ± is the standard deviation over seeds; a metric that a row lacks is shown as –.
    """

    def cell(values: Any, show: Callable[[float], str]) -> str:
        values = values.tolist() if hasattr(values, "tolist") else values  # of arrays and tensors
        if values is None or (isinstance(values, Sequence) and len(values) == 0):
            return "–"
        if not isinstance(values, Sequence):
            return show(values)
        if len(values) == 1 or np.std(values) == 0:
            return show(float(np.mean(values)))
        return f"{show(float(np.mean(values)))} ± {show(float(np.std(values, ddof=1)))}"

    body = [
        [name, *(cell(metrics.get(key), show) for key, (_, show) in columns.items())] for name, metrics in rows.items()
    ]
    return Table([first, *(heading for heading, _ in columns.values())], body)


class Source:
    """The library's own code for some classes and functions, as it runs, shown as a Markdown code block everywhere."""

    def __init__(self, *objects: Any):
        self.code = "\n\n".join(inspect.getsource(thing).rstrip() for thing in objects)

    def _repr_markdown_(self) -> str:
        return f"```python\n{self.code}\n```"

    def __repr__(self) -> str:
        return self.code


class Excerpt(Source):
    """Some methods of a class, as they run, without the class around them and so without its margin."""

    def __init__(self, *methods: Any):
        super().__init__()
        self.code = "\n\n".join(textwrap.dedent(inspect.getsource(each)).rstrip() for each in methods)


# Diagrams


@book_style()
def cells(
    axes: Axes, x: float, y: float, kinds: Sequence[str], width: float = 0.32, height: float = 0.42, label: str = ""
) -> None:
    """A feature vector as a row of cells; each kind ("data", "condition", "latent") has its colour and its hatching."""
    for i, kind in enumerate(kinds):
        checks.choice("kind", kind, HATCHES)
        axes.add_patch(
            Rectangle(
                (x + i * width, y),
                width * 0.92,
                height,
                facecolor=COLOURS[kind],
                hatch=HATCHES[kind],
                edgecolor="white",
                linewidth=0.6,
            )
        )
    if label:
        axes.text(x, y + height + 0.08, label, ha="left", va="bottom", fontsize=9)


@book_style()
def box(
    axes: Axes, x: float, y: float, text: str, width: float = 1.5, height: float = 0.6, colour: str = "#444444"
) -> None:
    """A network or an operation: a rounded box around its name, centred on (x, y)."""
    patch = FancyBboxPatch(
        (x - width / 2, y - height / 2), width, height, boxstyle="round,pad=0.05", facecolor="#f6f6f6", edgecolor=colour
    )
    axes.add_patch(patch)
    axes.text(x, y, text, ha="center", va="center", fontsize=9)


@book_style()
def arrow(axes: Axes, start: tuple[float, float], end: tuple[float, float], bend: float = 0.0) -> None:
    """An arrow between two points, straight unless bent."""
    axes.add_patch(
        FancyArrowPatch(
            start,
            end,
            arrowstyle="-|>",
            mutation_scale=11,
            color="#444444",
            linewidth=1.1,
            connectionstyle=f"arc3,rad={bend}",
        )
    )


@book_style()
def route(axes: Axes, points: Sequence[tuple[float, float]], dashed: bool = False) -> None:
    """An arrow along corners; dashed where a gradient flows back instead of a value forward."""
    axes.add_patch(
        FancyArrowPatch(
            path=Path(points),
            arrowstyle="-|>",
            mutation_scale=11,
            color=BACKWARD if dashed else "#444444",
            linewidth=1.3 if dashed else 1.1,
            linestyle=(0, (4, 2.5)) if dashed else "-",
            joinstyle="round",
        )
    )


@book_style()
def one_hot(axes: Axes, x: float, y: float, chosen: int = 4, n: int = 10, size: float = 0.16) -> None:
    """A one-hot label as a row of small cells centred on (x, y), the chosen one filled."""
    checks.count("chosen", chosen, 0, checks.count("n", n) - 1)
    for i in range(n):
        face = COLOURS["class"] if i == chosen else "white"
        corner = (x + (i - n / 2) * size, y - size / 2)
        axes.add_patch(Rectangle(corner, size, size, facecolor=face, edgecolor="#777777", linewidth=0.7))


@book_style()
def term(axes: Axes, x: float, y: float, formula: str, words: str) -> None:
    """A term of the loss, its formula above what it means, centred on (x, y)."""
    axes.text(x, y, f"{formula}\n{words}", ha="center", va="center", fontsize=9)


@book_style()
def sheet(width: float, height: float, scale: float = 1.0) -> tuple[Figure, Axes]:
    """An empty sheet for a diagram, in units of its own, of one aspect."""
    figure, axes = plt.subplots(figsize=(width * scale, height * scale), FigureClass=BookFigure)
    axes.set(xlim=(0, width), ylim=(0, height), aspect="equal")
    axes.axis("off")
    figure.drawn_to_scale, figure.narrow = True, None  # its texts fit its boxes: a phone scrolls it
    return figure, axes


@book_style()
def draw_vae() -> Figure:
    """The VAE as a flow: x -> encoder -> q(z | x) -> sample -> decoder -> p(x | z), and where the two terms of the loss arise."""
    figure, axes = sheet(11, 3.0, 0.8)
    y = 1.9
    axes.text(0.35, y, "$x$", color=COLOURS["data"], fontsize=15, va="center", ha="center")
    box(axes, 1.9, y, "encoder", colour=COLOURS["data"])
    box(axes, 4.3, y, r"$q(z\,|\,x)$" + "\nmean, log-variance", 2.1, 0.8, COLOURS["latent"])
    axes.text(6.35, y, "$z$", color=COLOURS["latent"], fontsize=15, va="center", ha="center")
    box(axes, 8.0, y, "decoder", colour=COLOURS["data"])
    axes.text(10.35, y, r"$p(x\,|\,z)$", color=COLOURS["data"], fontsize=13, va="center", ha="center")
    for a, b in ((0.55, 1.05), (2.75, 3.25), (5.35, 6.15), (6.55, 7.15), (8.85, 9.75)):
        arrow(axes, (a, y), (b, y))
    axes.text(5.75, y + 0.42, "+ noise", fontsize=8, ha="center")
    axes.text(4.3, 0.62, r"KL$(q(z\,|\,x)\,\|\,p(z))$" + "\nwhat the code costs", ha="center", va="center", fontsize=9)
    arrow(axes, (4.3, 1.42), (4.3, 0.98))
    axes.text(10.1, 0.62, r"$-\log p(x\,|\,z)$" + "\nreconstruction", ha="center", va="center", fontsize=9)
    arrow(axes, (10.3, 1.6), (10.3, 0.98))
    return figure


@book_style()
def draw_lane(axes: Axes, y: float, posterior: str, label: str = "y") -> None:
    """The way of the image: x, encoder, q(z | ...), z, decoder, p(x | z, y); above it the two terms that arise on it."""
    axes.text(0.4, y, "$x$", color=COLOURS["data"], fontsize=15, va="center", ha="center")
    box(axes, 2.2, y, "encoder", colour=COLOURS["data"])
    box(axes, 5.1, y, f"${posterior}$\nmean, log-variance", 2.5, 0.8, COLOURS["latent"])
    axes.text(7.9, y, "$z$", color=COLOURS["latent"], fontsize=15, va="center", ha="center")
    axes.text(7.05, y + 0.14, "+ noise", fontsize=8, ha="center", va="bottom")
    box(axes, 10.0, y, "decoder", colour=COLOURS["data"])
    axes.text(12.25, y, rf"$p(x\,|\,z, {label})$", color=COLOURS["data"], fontsize=13, va="center", ha="center")
    for start, end in ((0.65, 1.35), (3.05, 3.75), (6.45, 7.65), (8.15, 9.15), (10.85, 11.4)):
        arrow(axes, (start, y), (end, y))
    arrow(axes, (5.1, y + 0.47), (5.1, y + 0.95))
    arrow(axes, (12.25, y + 0.35), (12.25, y + 0.95))
    term(axes, 5.1, y + 1.32, rf"KL$({posterior}\,\|\,p(z))$", "what the code costs")
    term(axes, 12.25, y + 1.32, rf"$-\log p(x\,|\,z, {label})$", "reconstruction (BCE)")


@book_style()
def draw_classifier(axes: Axes, y: float, top: float) -> None:
    """The way of the label beneath that of the image: classifier, q(y | x)."""
    route(axes, [(0.4, top - 0.3), (0.4, y), (1.35, y)])
    box(axes, 2.2, y, "classifier", colour=COLOURS["class"])
    box(axes, 5.1, y, r"$q(y\,|\,x)$" + "\nten probabilities", 2.5, 0.8, COLOURS["class"])
    arrow(axes, (3.05, y), (3.75, y))


@book_style()
def draw_label(axes: Axes, x: float, y: float, label: str = "y") -> None:
    """The label y that the decoder gets: its cells, and its name to their right."""
    one_hot(axes, x, y)
    axes.text(x + 1.12, y, f"${label}$", color=COLOURS["class"], fontsize=15, va="center", ha="center")


@book_style()
def draw_label_flow(as_prediction: bool) -> Figure:
    """The conditional VAE, its label an input or a prediction, and where the terms of its loss arise.

    As an input it is shown to encoder and decoder. As a prediction only the decoder gets it, and the classifier learns from
    the label (cross-entropy) and, along the dashed arrow, from the reconstruction.
    """
    if not as_prediction:
        figure, axes = sheet(13.4, 3.8, 0.67)
        draw_lane(axes, 2.05, r"q(z\,|\,x, y)")
        draw_label(axes, 6.0, 0.45)
        axes.text(6.0, 0.7, "the label, given with the image", fontsize=9, va="bottom", ha="center")
        route(axes, [(5.1, 0.45), (2.2, 0.45), (2.2, 1.65)])
        route(axes, [(7.4, 0.45), (10.0, 0.45), (10.0, 1.65)])
        return figure
    figure, axes = sheet(13.4, 5.6, 0.67)
    top, low = 3.85, 1.4
    draw_lane(axes, top, r"q(z\,|\,x)", r"\tilde{y}")
    draw_classifier(axes, low, top)
    arrow(axes, (5.1, low - 0.47), (5.1, low - 0.8))
    term(axes, 5.1, low - 1.12, r"$-\log q(y = \mathrm{label}\,|\,x)$", "cross-entropy with the given label")
    box(axes, 8.1, low, "Gumbel-softmax\nstraight-through", 2.1, 0.8, COLOURS["class"])
    arrow(axes, (6.45, low), (6.95, low))
    draw_label(axes, 10.4, low, r"\tilde{y}")
    arrow(axes, (9.25, low), (9.55, low))
    arrow(axes, (10.3, low + 0.2), (10.3, top - 0.4))
    route(axes, [(9.7, top - 0.42), (9.7, 2.5), (2.2, 2.5), (2.2, low + 0.4)], dashed=True)
    axes.text(5.95, 2.58, "gradient of the reconstruction", color=BACKWARD, fontsize=9, va="bottom", ha="center")
    return figure


@book_style()
def draw_fixed_flow() -> Figure:
    """The fixed model: the given label is shown to both networks (1), an adversary looks for it in z (2), and the classifier,
    held fixed, for the label in drawings from the prior (3).
    """
    figure, axes = sheet(13.8, 5.6, 0.65)
    top, low = 3.85, 1.4
    draw_lane(axes, top, r"q(z\,|\,x, y)")
    draw_classifier(axes, low, top)
    arrow(axes, (4.6, low - 0.47), (4.1, low - 0.8))
    term(axes, 3.9, low - 1.12, r"$-\log q(y = \mathrm{label}\,|\,x)$", "cross-entropy")
    draw_label(axes, 10.0, low)
    axes.text(10.0, low - 0.25, "given", fontsize=9, va="top", ha="center")
    arrow(axes, (10.0, low + 0.2), (10.0, top - 0.4))
    route(axes, [(9.6, low + 0.15), (9.6, 2.5), (2.2, 2.5), (2.2, top - 0.4)])
    axes.text(4.9, 2.58, "1. the encoder sees the label", fontsize=9, va="bottom", ha="center")
    box(axes, 8.1, low, "adversary", 1.4, colour=COLOURS["class"])
    arrow(axes, (7.95, top - 0.3), (8.05, low + 0.4))
    term(axes, 8.1, low - 0.92, "2. the label in z?", "reversed gradient")
    box(axes, 12.6, low, "classifier,\nheld fixed", 1.7, 0.8, colour=COLOURS["class"])
    arrow(axes, (12.45, top - 0.35), (12.55, low + 0.5))
    term(axes, 12.3, low - 1.02, "3. the label in the drawing?", "z from the prior")
    return figure


@book_style()
def draw_mixing(mask: Sequence[bool]) -> Figure:
    """Sampling and Resampling on both sides of the model, one cell a feature; the mask says which side each cell comes from.

    mask: one row of yes and no (or 1 and 0), a list, an array or a tensor.
    """
    mask = [value != 0 for value in numbers("mask", mask, ["hidden"]).tolist()]
    n = len(mask)
    w = 0.32
    wide = w * max(0, n - 14)  # beyond the 14 features for which the sheet has room
    figure, axes = sheet(15.2 + 2 * wide, 5.4, 0.66)
    drawn = [i for i, on in enumerate(mask) if on]
    for x, chosen, other, title, target in (
        (0.3, "data", "condition", "encoder side", "to the posterior heads:\n" + r"$q(z\,|\,x, c)$"),
        (8.1 + wide, "condition", "latent", "decoder side", "to the decoder:\n" + r"$p(x\,|\,z, c)$"),
    ):
        axes.text(x, 5.1, title, fontsize=11, weight="bold", va="center")
        cells(axes, x, 3.75, [chosen] * n, label=f"{chosen} features")
        cells(axes, x, 2.35, [other] * n, label=f"{other} features")
        cells(axes, x, 0.75, [chosen if on else other for on in mask], label="mixed")
        for i, on in enumerate(mask):
            centre = x + i * w + 0.46 * w
            if on:
                axes.plot([centre, centre], [3.75, 3.62], color=COLOURS[chosen], lw=1.4)
                axes.plot(centre, 3.58, marker="v", color=COLOURS[chosen], markersize=4)
            else:
                axes.plot([centre, centre], [2.35, 2.22], color=COLOURS[other], lw=1.4)
                axes.plot(centre, 2.18, marker="v", color=COLOURS[other], markersize=4)
        axes.text(x + n * w + 0.15, 3.95, f"kept where drawn\n({len(drawn)} of {n})", fontsize=8, va="center")
        axes.text(x + n * w + 0.15, 2.55, f"kept elsewhere\n({n - len(drawn)} of {n})", fontsize=8, va="center")
        axes.text(x + n * w + 0.15, 0.95, target, fontsize=8, va="center")
        arrow(axes, (x + n * w / 2, 2.1), (x + n * w / 2, 1.55))
    return figure


@book_style()
def draw_spatial_transformer() -> Figure:
    """The three parts of a spatial transformer between a canvas and its reader, and the way of the gradient back through them."""
    figure, axes = sheet(13.4, 4.3, 0.67)
    y, low = 3.2, 1.55
    axes.text(0.6, y, "canvas", color=COLOURS["data"], fontsize=11, va="center", ha="center")
    box(axes, 7.3, y, "sampler\nbilinear", 1.6, 0.8, COLOURS["attention"])
    axes.text(9.35, y, "window", color=COLOURS["data"], fontsize=11, va="center", ha="center")
    box(axes, 11.1, y, "reader", colour=COLOURS["class"])
    axes.text(12.95, y, "loss", fontsize=11, va="center", ha="center")
    for start, end in ((1.1, 6.4), (8.2, 8.75), (9.95, 10.25), (11.95, 12.6)):
        arrow(axes, (start, y), (end, y))
    box(axes, 2.4, low, "localisation\nnetwork", 1.7, 0.8, COLOURS["attention"])
    axes.text(4.35, low, "where\n$(s, t_x, t_y)$", color=COLOURS["attention"], fontsize=10, va="center", ha="center")
    box(axes, 7.3, low, "grid: window pixel\nto canvas coordinates", 2.9, 0.8, COLOURS["attention"])
    route(axes, [(0.6, y - 0.3), (0.6, low), (1.45, low)])
    arrow(axes, (3.35, low), (3.7, low))
    arrow(axes, (5.0, low), (5.75, low))
    arrow(axes, (7.3, low + 0.45), (7.3, y - 0.45))
    back = [(12.95, y - 0.3), (12.95, 0.55), (2.4, 0.55), (2.4, low - 0.5)]
    route(axes, back, dashed=True)
    axes.text(
        7.6, 0.63, "gradient: through reader, sampler and grid", color=BACKWARD, fontsize=9, va="bottom", ha="center"
    )
    return figure
