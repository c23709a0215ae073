"""StripsFigure: a scrubber over pictures that change, epoch by epoch."""

from collections.abc import Iterable, Sequence
from textwrap import fill
from typing import Any, ClassVar

import numpy as np
import torch
import traitlets
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from latentbook import checks
from latentbook.figures import BookFigure, book_style
from latentbook.widgets.base import StaticWidget, Whole, compose
from latentbook.widgets.sprites import grey, lay, numbers, pack, unpack


class StripsFigure(StaticWidget):
    """Rows of small pictures and a slider that goes through their frames: what a model draws after every epoch.

    frames: grey values 0 to 1 [frames, rows, columns, height, width] (nested lists, an array or a tensor), shown as
        they are, with 256 steps. beside: a second mosaic of as many frames, drawn beneath the first; its rows and
        columns may differ, its pictures have the same size.
    labels: a word above each column of `frames`. headings: a line above each mosaic, none or one for each.
    name: what a frame is; they count from `start`, or `ticks` names a number for each, shown as it is. index: the frame
        shown at first, the last if None. notes: a short text for each frame, shown beneath the pictures.

    Raises ValueError for values that do not fit together, and says what would.
    """

    _name: ClassVar[str] = "strips"
    _saved: ClassVar[tuple[str, ...]] = (
        "sheet", "packing", "shapes", "ticks", "labels", "headings", "notes", "name", "index", "caption",
    )  # fmt: skip
    _esm = compose("strips", ".js")
    _css = compose("strips", ".css")

    sheet = traitlets.Unicode().tag(sync=True)
    packing = traitlets.Dict().tag(sync=True)
    shapes = traitlets.List().tag(sync=True)  # [rows, columns] of each mosaic
    ticks = traitlets.List().tag(sync=True)
    labels = traitlets.List().tag(sync=True)
    headings = traitlets.List().tag(sync=True)
    notes = traitlets.List().tag(sync=True)
    name = traitlets.Unicode("epoch").tag(sync=True)
    index = Whole(0).tag(sync=True)
    caption = traitlets.Unicode(
        "Move the slider, or drag across the pictures, to see how what the model draws changes in training. "
        "No picture is rescaled by its own maximum."
    ).tag(sync=True)

    def __init__(
        self,
        frames: Any,
        *,
        labels: Sequence[str] | None = None,
        beside: Any = None,
        headings: Sequence[str] = (),
        name: str = "epoch",
        start: int = 0,
        ticks: Any = None,
        notes: Sequence[str] | None = None,
        index: int | None = None,
        **traits: Any,
    ) -> None:
        mosaics = [grey("frames", frames, "frames rows columns height width")]
        count, _, columns, height, width = mosaics[0].shape
        if beside is not None:
            mosaics.append(grey("beside", beside, f"{count} rows columns {height} {width}"))
        labels = words("labels", labels, columns, "column of frames")
        notes = words("notes", notes, count, "frame")
        headings = words("headings", headings, len(mosaics), "mosaic")
        first = checks.count("start", start, least=-(2**53))
        ticks = list(range(first, first + count)) if ticks is None else plain_numbers("ticks", ticks, count)
        index = count - 1 if index is None else checks.count("index", index, 0, count - 1)
        sheet, packing = pack(np.concatenate([mosaic.reshape(-1, height, width) for mosaic in mosaics]))
        super().__init__(
            sheet=sheet,
            packing=packing,
            shapes=[list(mosaic.shape[1:3]) for mosaic in mosaics],
            ticks=ticks,
            labels=labels,
            headings=headings,
            notes=notes,
            name=name,
            index=index,
            **traits,
        )

    @traitlets.validate("index")
    def _check_index(self, proposal: dict) -> int:
        if not 0 <= proposal["value"] < max(1, len(self.ticks)):
            raise traitlets.TraitError(f"index must be between 0 and {len(self.ticks) - 1}, got {proposal['value']}")
        return proposal["value"]

    def mosaics(self) -> list[np.ndarray]:
        """The pictures as they are shown, uint8 [frames, rows, columns, height, width]: frames, then beside."""
        pictures, found, first = unpack(self.sheet, self.packing), [], 0
        for rows, columns in self.shapes:
            after = first + len(self.ticks) * rows * columns
            found.append(pictures[first:after].reshape(len(self.ticks), rows, columns, *pictures.shape[1:]))
            first = after
        return found

    def chosen(self) -> list[int]:
        """The frames of the still picture: the first, the one shown or else the middle one, the last."""
        last = len(self.ticks) - 1
        return sorted({0, self.index if 0 < self.index < last else (last + 1) // 2, last})

    def describe(self) -> str:
        named = f"{self.name} " + ", ".join(as_text(self.ticks[i]) for i in self.chosen())
        parts = [
            f"{rows} row{'s' * (rows > 1)} of {columns} pictures" + (f" ({heading})" if heading else "")
            for (rows, columns), heading in zip(self.shapes, self.headings or [""] * len(self.shapes), strict=True)
        ]
        columns = f", columns {', '.join(self.labels)}" if self.labels else ""
        last = f" {self.notes[self.chosen()[-1]]}" if self.notes else ""
        return f"At {named}: {' and '.join(parts)}{columns}.{last}"

    @book_style()
    def still(self) -> Figure:
        mosaics, chosen = self.mosaics(), self.chosen()
        wide = [mosaic.shape[2] for mosaic in mosaics]
        tile = min(0.55, 7.4 / sum(wide))  # inches; a page has room for about eight
        high = max(mosaic.shape[1] for mosaic in mosaics) * tile * self.packing["height"] / self.packing["width"]
        titles = [fill(text, int(13 * n * tile)) for text, n in zip(self.headings, wide, strict=False)]
        top = 0.17 * max((title.count("\n") + 1 for title in titles), default=0) + (0.2 if self.labels else 0) + 0.1
        left, gap, across = 0.3, 0.3, 0.3 * (len(wide) + 1) + tile * sum(wide)
        figure = BookFigure(figsize=(across, tall := top + (high + gap) * len(chosen) - gap + 0.03))
        for j, mosaic in enumerate(mosaics):
            for i, frame in enumerate(chosen):
                bottom = tall - top - high - i * (high + gap)
                axes = figure.add_axes((left / across, bottom / tall, tile * wide[j] / across, high / tall))
                draw_mosaic(axes, mosaic[frame], self.labels if i == j == 0 else [])
                if j == 0:
                    axes.set_ylabel(
                        f"{self.name} {as_text(self.ticks[frame])}", fontsize=9, color="#444444", labelpad=3
                    )
                if i == 0 and titles:
                    axes.set_title(titles[j], fontsize=9.5, loc="left", color="#222222", pad=16 if self.labels else 4)
            left += tile * wide[j] + gap
        return figure


def plain_numbers(name: str, values: Any, count: int) -> list[int | float]:
    """A number for each of `count` frames, as plain ones: whole ones as int, others by the shortest decimals that tell them.

    Raises ValueError for another number of them, and for what is no finite number.
    """
    found = checks.as_tensor(name, values, dtype=torch.float64)
    if found.shape != (count,) or found.dtype == torch.bool:
        given = found.tolist()
        raise ValueError(f"{name} must hold one number for each of {count} frames, got {found.numel()}: {given}")
    exact = numbers(name, found, f"{count}")
    exact = found.detach().cpu().numpy() if found.dtype == torch.float32 else exact
    decimals = (float(str(value)) for value in exact)  # of 0.1 in float32: 0.1
    return [int(value) if value.is_integer() else value for value in decimals]


def as_text(tick: float) -> str:
    """A tick as JavaScript writes it, without an exponent where people write none."""
    return np.format_float_positional(tick, trim="-") if 1e-6 <= abs(tick) < 1e21 else str(tick)


def words(name: str, given: Sequence[str] | None, count: int, each: str) -> list[str]:
    """None, or one text for each of `count` things. Raises ValueError for another number of them."""
    given = given.tolist() if hasattr(given, "tolist") else given  # of arrays and tensors
    if not isinstance(given, Iterable | None):
        raise ValueError(f"{name} must hold texts, one for each {each}, or none, got {given!r}")
    found = [] if given is None else [given] if isinstance(given, str) else [str(text) for text in given]
    if len(found) not in (0, count):
        raise ValueError(
            f"{name} must hold one text for each {each}, {count} of them or none, got {len(found)}: {found}"
        )
    return found


def draw_mosaic(axes: Axes, pictures: np.ndarray, labels: Sequence[str] = ()) -> None:
    """Pictures uint8 [rows, columns, height, width] as dark ink on white, with labels above the columns."""
    width = pictures.shape[3] + 2
    axes.imshow(lay(pictures), cmap="gray_r", vmin=0, vmax=255, interpolation="nearest")
    axes.set(xticks=[], yticks=[], anchor="NW")
    axes.grid(False)
    axes.spines[:].set_visible(False)
    if labels:
        axes.xaxis.tick_top()
        axes.set_xticks([width * (i + 0.5) - 0.5 for i in range(len(labels))], labels, fontsize=8)
    axes.tick_params(length=0, pad=1)
