"""Every figure as one SVG that is sharp at any density, light or dark, and once more laid out for a phone."""

from __future__ import annotations

import base64
import copy
import io
import re
from collections.abc import Callable
from typing import Any

import matplotlib.pyplot as plt
import numpy as np
from matplotlib.axes import Axes
from matplotlib.backends.backend_svg import FigureCanvasSVG
from matplotlib.figure import Figure
from matplotlib.layout_engine import ConstrainedLayoutEngine
from matplotlib.legend import Legend
from matplotlib.text import Text
from matplotlib.transforms import Bbox, ScaledTranslation

from latentbook.style import book_style
from latentbook.themes import GREY, IMAGE, NARROW, encoded, themed

WIDE = 7.5  # inches that a page's column holds
PHONE = 3.5  # inches, shown some 330 CSS pixels wide on a phone of 390
SMALLEST = 9.0  # points of a label on a phone: more than 11 pixels where 310 are left
PLOT = 1.85  # inches that a plot is high on a phone
NUMBER = re.compile(r"-?\d+\.\d+")
PATTERN = re.compile(r'(<pattern\b.*?<path d=")([^"]*)("[^>]*>)', re.DOTALL)


def show_as_pictures() -> None:
    """Let a notebook keep figures as SVG, wide and narrow, in place of PNG; does nothing where no IPython runs."""
    try:
        from IPython import get_ipython
        from matplotlib_inline.config import InlineBackend
    except ImportError:
        return
    if (shell := get_ipython()) is None:
        return
    backend = InlineBackend.instance(parent=shell)
    backend.shell, backend.figure_formats = shell, set()  # no PNG beside the SVG
    shell.display_formatter.mimebundle_formatter.for_type(Figure, bundle)


def bundle(figure: Figure, include: Any = None, exclude: Any = None) -> tuple[dict[str, str], dict]:
    """What a notebook keeps of a figure: the picture, and the one for a phone where there is one."""
    pictures = {"image/svg+xml": as_svg(figure), NARROW: as_svg(figure, narrow=True), "text/plain": repr(figure)}
    return {kind: text for kind, text in pictures.items() if text}, {}


@book_style()
def as_svg(figure: Figure, narrow: bool = False) -> str:
    """A figure as one themed SVG, the same text for the same figure; the figure itself stays as it is.

    narrow: laid out anew for a phone, by the figure's own `narrow` where it has one (see `has_narrow`), else panel by
    panel; "" where that would change nothing or cannot be done.
    """
    if narrow and (redraw := getattr(figure, "narrow", lay_out)) is not lay_out:
        if redraw is None:
            return ""
        drawn = redraw()
        plt.close(drawn)  # drawn for the page alone: a notebook does not show it
        return written(drawn, PHONE)
    own = copied(figure)
    if narrow:
        return "" if own is None else written(lay_out(own), PHONE)
    if own is not None:
        fit_in(own)
        arrange_legends(own)
    return written(figure if own is None else own)


def has_narrow(figure: Figure, redraw: Callable[[], Figure] | None) -> Figure:
    """The figure, with what draws it for a phone: a figure `PHONE` inches wide; None: it is shown as it is, only smaller."""
    figure.narrow = redraw
    return figure


def copied(figure: Figure) -> Figure | None:
    """A copy to lay out anew, free of the window that shows the original; None of what cannot be copied."""
    manager, figure.canvas.manager = figure.canvas.manager, None  # else the copy would be shown as well
    try:
        return copy.deepcopy(figure)
    except Exception:  # a reader's own artists may hold anything
        return None
    finally:
        figure.canvas.manager = manager


def written(figure: Figure, width: float | None = None) -> str:
    """The SVG of a figure as it is laid out; width: in inches, kept whole, where it is not cut to what is drawn."""
    for axes in figure.axes:
        for image in axes.images:
            image.set_interpolation("none")  # embedded pixel by pixel, drawn sharp
    canvas, out, box = FigureCanvasSVG(figure), io.StringIO(), "tight"
    if width is not None:
        figure.draw_without_rendering()  # so that it is laid out
        box = figure.get_tightbbox(canvas.get_renderer() if hasattr(canvas, "get_renderer") else None)
        box = Bbox.from_extents(min(0, box.x0), box.y0 - 0.03, max(width, box.x1), box.y1 + 0.03)
    nothing = dict.fromkeys(("Creator", "Date", "Format", "Type"))
    canvas.print_figure(out, format="svg", bbox_inches=box, pad_inches=0.04, metadata=nothing)
    return themed(lean(out.getvalue()))


# Laid out


def fit_in(figure: Figure, width: float = WIDE) -> None:
    """Draw a wide figure of panels as wide as a page's column is, so that its labels are not shrunk."""
    wide, high = figure.get_size_inches()
    if wide > width and not getattr(figure, "drawn_to_scale", False):
        figure.set_size_inches(width, max(high * width / wide, min(high, 2.2)))
        for axes in figure.axes:
            room = axes.get_position().width * width * 72
            for title in (axes.title, axes._left_title, axes._right_title):
                longest = max(map(len, title.get_text().split("\n")))
                if longest * title.get_fontsize() * 0.52 > room:
                    title.set_fontsize(max(8.25, room / longest / 0.52))


def arrange_legends(figure: Figure, again: bool = False) -> None:
    """Put every legend where no line runs: below its panel, or below all panels where one legend speaks for them.

    again: those too that stand below already, for another width.
    """
    is_laid_out = isinstance(figure.get_layout_engine(), ConstrainedLayoutEngine)
    if len(figure.axes) > 1 and any(axes.get_legend() for axes in figure.axes) and not is_laid_out:
        figure.set_layout_engine("constrained")  # which leaves room for them
    legends = {axes: axes.get_legend() for axes in figure.axes if axes.get_legend() is not None}
    owners = [axes for axes, legend in legends.items() if again or not hasattr(legend, "outside")]
    if owners and len(figure.axes) > 1 and len({tuple(texts(legends[axes])) for axes in owners}) == 1:
        for axes in owners[1:]:
            legends[axes].remove()
        legend_of_all(figure, owners[0])
        return
    for axes in owners:
        legend_outside(axes)


def legend_outside(axes: Axes, columns: int | None = None) -> Legend:
    """The legend of a plot below it, never over its lines; columns: how many entries a row, by default as many as fit."""
    old = axes.get_legend()
    handles, labels = axes.get_legend_handles_labels() if old is None else (old.legend_handles, texts(old))
    handles = handles if old is None else kept_handles(axes, labels, handles)
    if old is not None:
        old.remove()
    columns = columns or fitting(axes, labels)
    drop = below(axes)
    place = axes.transAxes + ScaledTranslation(0, -drop / 72, axes.figure.dpi_scale_trans)
    legend = axes.legend(
        handles, labels, loc="upper left", bbox_to_anchor=(0, 0), bbox_transform=place, ncols=columns, **FLAT
    )
    legend.outside = True
    return legend


FLAT = {"borderaxespad": 0, "borderpad": 0.2, "columnspacing": 1.4, "handlelength": 2.4}


def legend_of_all(figure: Figure, axes: Axes) -> None:
    """One panel's legend below all of them."""
    old = axes.get_legend()
    labels = texts(old)
    handles = kept_handles(axes, labels, old.legend_handles)
    old.remove()
    room = figure.get_size_inches()[0] * 72
    columns = max(1, min(len(labels), int(room // (max(map(len, labels)) * 5.2 + 45))))
    figure.legend(handles, labels, loc="outside lower center", ncols=columns, **FLAT).outside = True


def texts(legend: Legend) -> list[str]:
    """The words of a legend."""
    return [text.get_text() for text in legend.get_texts()]


def kept_handles(axes: Axes, labels: list[str], drawn: list[Any]) -> list[Any]:
    """The artists that a legend names, by their labels; what the legend drew itself where there is no such artist."""
    found = dict(zip(*reversed(axes.get_legend_handles_labels()), strict=True))
    return [found.get(label, handle) for label, handle in zip(labels, drawn, strict=True)]


def fitting(axes: Axes, labels: list[str]) -> int:
    """How many entries of a legend fit beside one another below a plot."""
    room = axes.get_position().width * axes.figure.get_size_inches()[0] * 72
    return max(1, min(len(labels), int(room // (max(map(len, labels), default=1) * 5.2 + 45))))


def below(axes: Axes) -> float:
    """How far what stands below a plot reaches, ticks and label, in points."""
    axis = axes.xaxis
    deep = 4.0
    if axes.axison and axis.get_visible():
        ticks = [tick.label1 for tick in axis.get_major_ticks() if tick.label1.get_visible()]
        lines = max((text.get_text().count("\n") + 1 for text in ticks), default=0)
        size = max((text.get_fontsize() for text in ticks), default=0)
        deep += lines * size * 1.25 + (5 if lines else 0)
        if axis.label.get_text():
            deep += axis.label.get_fontsize() * 1.3 * (axis.label.get_text().count("\n") + 1) + 4
    return deep


def lay_out(figure: Figure) -> Figure:
    """A figure's panels in as few columns as a phone has room for, its labels no smaller than SMALLEST; the same figure."""
    for text in figure.findobj(Text):
        text.set_fontsize(min(max(text.get_fontsize(), SMALLEST), 9.5))
    panels = grid_of(figure)
    figure.set_size_inches(PHONE, figure.get_size_inches()[1])
    if panels is None:
        figure.set_size_inches(PHONE, PLOT + 0.3)
    else:
        figure.set_layout_engine("constrained")
        if figure._suptitle is not None:
            figure._suptitle._autopos = True  # above the panels, where there is room for it
        figure.get_layout_engine().set(w_pad=0.03, h_pad=0.03, wspace=0.03, hspace=0.03)
        regrid(figure, panels)
    arrange_legends(figure, again=True)
    return figure


def grid_of(figure: Figure) -> np.ndarray | None:
    """The panels of a figure as rows and columns, if they are one plain grid."""
    inside = [axes for axes in figure.axes if axes.get_subplotspec() is not None]
    grids = {id(axes.get_subplotspec().get_gridspec()) for axes in inside}
    if len(grids) != 1:
        return None
    grid = inside[0].get_subplotspec().get_gridspec()
    panels = np.full((grid.nrows, grid.ncols), None, object)
    for axes in inside:
        spec = axes.get_subplotspec()
        if len(spec.rowspan) > 1 or len(spec.colspan) > 1:
            return None
        panels[spec.rowspan.start, spec.colspan.start] = axes
    return panels


def regrid(figure: Figure, panels: np.ndarray) -> None:
    """Wrap the columns of a grid, block below block, and make the figure as high as that needs."""
    rows, every = panels.shape
    columns = columns_for(figure, panels)
    blocks = -(-every // columns)
    grid = figure.add_gridspec(rows * blocks, columns)
    margin, high = margin_of(panels), []
    for row, column in np.ndindex(rows, every):
        if (axes := panels[row, column]) is None:
            continue
        block, place = divmod(column, columns)
        axes.set_subplotspec(grid[block * rows + row, place])
        if place == 0:
            name_again(axes, panels[row, 0])
    for line in range(rows * blocks):
        block, row = divmod(line, rows)
        shown = [a for a in panels[row, block * columns : (block + 1) * columns] if a is not None and a.get_visible()]
        high.append(max((height_of(axes, columns, margin) for axes in shown), default=0.05))
    figure.set_size_inches(PHONE, sum(high) + (0.35 if figure._suptitle is not None else 0.1))
    grid.set_height_ratios(high)


def name_again(axes: Axes, first: Axes) -> None:
    """Give a panel that now begins a row the vertical label and the tick labels of the one that began it."""
    if axes is first or first is None:
        return
    if first.get_ylabel() and not axes.get_ylabel():
        label = first.yaxis.label
        axes.set_ylabel(
            first.get_ylabel(),
            rotation=label.get_rotation(),
            ha=label.get_ha(),
            va=label.get_va(),
            fontsize=label.get_fontsize(),
        )
    if axes.get_shared_y_axes().joined(axes, first):
        axes.tick_params(labelleft=True)


def margin_of(panels: np.ndarray) -> float:
    """Inches that the names of a grid's rows take, at its left."""
    labels = [axes.yaxis.label for axes in panels[:, 0] if axes is not None]
    upright = [label.get_text().split("\n") for label in labels if label.get_rotation() == 0]
    along = max((len(label.get_text().split("\n")) for label in labels if label.get_text()), default=0)
    return max(max((len(line) for lines in upright for line in lines), default=0) * 0.066, along * 0.16) + 0.12


def title_of(axes: Axes) -> str:
    """A panel's title, wherever it stands above it."""
    return "".join(axes.get_title(loc=side) for side in ("left", "center", "right"))


def is_picture(axes: Axes) -> bool:
    """Whether a panel shows an image without numbers along it."""
    return bool(axes.images) and not (len(axes.get_xticks()) and len(axes.get_yticks()))


def columns_for(figure: Figure, panels: np.ndarray) -> int:
    """How many panels stand beside one another on a phone: pictures at least 0.55 inches wide, two small plots or one."""
    every = [axes for axes in panels.flat if axes is not None and axes.get_visible()]
    words = max((len(line) * 9.5 for axes in every for line in title_of(axes).split("\n")), default=0)
    room = (PHONE - margin_of(panels)) * 72
    if all(is_picture(axes) for axes in every):
        mosaics = any(max(axes.images[0].get_size()) > 150 for axes in every)
        least = 200.0 if mosaics else 40.0
    elif panels.shape[1] > 2:
        least = 105.0 if all(axes.images for axes in every) else 110.0 if panels.shape[1] > 3 else 200.0
    else:
        least = 200.0
    fit = max(1, int(room // max(least, words * 0.52)))
    columns = min(panels.shape[1], fit)
    return -(-panels.shape[1] // -(-panels.shape[1] // columns))  # as many in each block, where that is possible


def height_of(axes: Axes, columns: int, margin: float) -> float:
    """Inches that a panel is high on a phone, with its title and labels."""
    labels = below(axes) / 72 if axes.get_xlabel() or len(axes.get_xticks()) else 0.02
    title = 0.19 * (title_of(axes).count("\n") + 1) if title_of(axes) else 0.02
    if axes.get_legend() is not None:
        legend = axes.get_legend()
        labels += 0.17 * -(-len(texts(legend)) // fitting(axes, texts(legend)))
    if axes.images or axes.get_aspect() != "auto":
        (left, right), (bottom, top) = axes.get_xlim(), axes.get_ylim()
        bar = (
            0.72
            if any(each._colorbar.mappable.axes is axes for each in axes.figure.axes if hasattr(each, "_colorbar"))
            else 1
        )
        return bar * (PHONE - margin) / columns * abs(top - bottom) / max(abs(right - left), 1e-9) + labels + title
    return PLOT * (0.8 if columns > 1 else 0.85) + title + labels - 0.2


# Written


def lean(text: str) -> str:
    """An SVG by matplotlib without what no reader needs: its prologue, idle digits, pictures with more colours than they show."""
    body = text[text.index("<svg") :]
    body = re.sub(r"\s*<metadata>.*?</metadata>", "", body, flags=re.DOTALL)
    body = PATTERN.sub(hatching, body)
    body = IMAGE.sub(embedded, body)
    pictures = re.split(r'(base64,[^"]*")', body)  # the letters of pictures are no numbers
    pictures[::2] = [trimmed(part) for part in pictures[::2]]
    return unwrapped("".join(pictures))


def trimmed(text: str) -> str:
    """Markup without comments, idle ids, idle digits and spaces."""
    text = re.sub(r"<!--.*?-->", "", text, flags=re.DOTALL)
    text = re.sub(r"<defs>\s*<style.*?</style>\s*</defs>", "", text, flags=re.DOTALL)  # of all pages that hold it, too
    text = text.replace("<svg ", '<svg stroke-linejoin="round" ', 1)
    text = re.sub(r'(<g\b[^>]*?) id="[^"]*"', r"\1", text)
    text = text.replace("DejaVuSans-", "g")
    text = NUMBER.sub(short, text)
    text = re.sub(r'(?<= d=")[^"]*', lambda path: " ".join(path[0].split()), text)
    text = re.sub(r'style="[^"]*"', lambda style: style[0].replace(": ", ":").replace("; ", ";"), text)
    return re.sub(r"\s*\n\s*", " ", text).replace("> <", "><")


def unwrapped(text: str) -> str:
    """Markup without groups that say nothing."""
    kept, out = [], []
    for part in re.split(r"(<g>|<g\b[^>]*[^/]>|</g>)", text):
        if part == "<g>":
            kept.append(False)
        elif part.startswith("<g ") or part.startswith("<g\n"):
            kept.append(True)
            out.append(part)
        elif part == "</g>":
            if kept.pop():
                out.append(part)
        else:
            out.append(part)
    return "".join(out).strip()


def short(number: re.Match) -> str:
    """A number with as many digits as can be seen."""
    value = float(number[0])
    text = f"{value:.2f}" if abs(value) >= 1 else f"{value:.4f}"  # fonts are scaled by less than 1
    text = text.rstrip("0").rstrip(".")
    return "0" if text in ("-0", "") else text


def hatching(pattern: re.Match) -> str:
    """A hatching's dots, circles of eight curves each, as strokes without length that have round ends; others as they are."""
    circles = [part for part in pattern[2].split("z") if part.strip()]
    if not circles or not all(circle.count("C") == 8 for circle in circles):
        return pattern[0]
    centres = []
    for circle in circles:
        points = np.array([float(n) for n in re.findall(r"-?\d+(?:\.\d+)?", circle)]).reshape(-1, 2)
        x, y = (points.min(0) + points.max(0)) / 2
        centres.append(f"M {x:.2f} {y:.2f} h 0")
    style = pattern[3].replace("stroke-linecap: butt", "stroke-linecap: round")
    style = re.sub(r"stroke-width: [\d.]+", "stroke-width: 2.4", style)
    return pattern[1] + " ".join(centres) + style


def embedded(found: re.Match) -> str:
    """An embedded PNG in as few bytes as it needs, marked where it holds greys alone."""
    from PIL import Image

    picture = Image.open(io.BytesIO(base64.b64decode(found[2]))).convert("RGBA")
    red, green, blue, alpha = (np.asarray(plane) for plane in picture.split())
    is_grey = bool((red == green).all() and (green == blue).all())
    if is_grey:
        picture = Image.merge("LA", [Image.fromarray(red), Image.fromarray(alpha)])
    mark = f'<image class="{GREY}"' if is_grey else "<image"
    head = mark + found[1].removeprefix("<image")
    return f'{head}xlink:href="data:image/png;base64,{encoded(picture)}"{found[3]}'
