"""StripsFigure: a scrubber over pictures that change, epoch by epoch."""

from collections.abc import Sequence
from textwrap import fill
from typing import Any, ClassVar

import numpy as np
import traitlets
from matplotlib.figure import Figure

from latentbook import checks
from latentbook.figures.plots import BookFigure, book_style
from latentbook.widgets.base import StaticWidget, Whole, compose
from latentbook.widgets.checks import grey, plain_numbers, words
from latentbook.widgets.sprites import draw_mosaic, pack, unpack


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


def as_text(tick: float) -> str:
    """A tick as JavaScript writes it, without an exponent where people write none."""
    return np.format_float_positional(tick, trim="-") if 1e-6 <= abs(tick) < 1e21 else str(tick)
