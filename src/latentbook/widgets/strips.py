"""StripsFigure: a scrubber over pictures that change, epoch by epoch."""

from collections.abc import Mapping, Sequence
from decimal import ROUND_HALF_UP, Context, Decimal
from textwrap import fill
from typing import Any, ClassVar

import numpy as np
import torch
import traitlets
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from latentbook import checks
from latentbook.figures.plots import COLOURS, BookFigure, book_style
from latentbook.widgets.base import StaticWidget, Whole, compose
from latentbook.widgets.checks import grey, plain_numbers, refused
from latentbook.widgets.checks import words as texts
from latentbook.widgets.sprites import draw_mosaic, pack, unpack

LINES: tuple[
    dict[str, Any], ...
] = (  # of the curves, at most so many: told apart by dashes and marks, not by colour alone
    {"color": COLOURS["training"], "linestyle": "-", "marker": "o"},
    {"color": COLOURS["held out"], "linestyle": (0, (4, 2)), "marker": "o", "markerfacecolor": "white"},
    {"color": COLOURS["data"], "linestyle": (0, (1, 1.2)), "marker": "^"},
)


class StripsFigure(StaticWidget):
    """Rows of small pictures and a slider that goes through their frames: what a model draws after every epoch.

    frames: grey values 0 to 1 [frames, rows, columns, height, width] (nested lists, an array or a tensor), shown as
        they are, with 256 steps. beside: a second mosaic of as many frames, drawn beneath the first; its rows and
        columns may differ, its pictures have the same size.
    labels: a word above each column of `frames`. headings: a line above each mosaic, none or one for each.
    name: what a frame is; they count from `start`, or `ticks` names a number for each, shown as it is. index: the frame
        shown at first, the last if None. notes: a short text for each frame, shown beneath the pictures.
    words: what each frame is called, where a number would not say it: "trained longer" in place of "step 2".
    curves: up to three curves by their names, each a number for every frame (None or NaN where it has none), plotted
        beneath the pictures with a cursor at the frame that is shown. curves_label: what they measure, with its unit.
        percent: they are shares, 0 to 1, written as per cent.

    Raises ValueError for values that do not fit together, and says what would.
    """

    _name: ClassVar[str] = "strips"
    _saved: ClassVar[tuple[str, ...]] = (
        "sheet", "packing", "shapes", "ticks", "labels", "headings", "notes", "name", "index", "caption",
        "words", "curves", "curves_label", "percent",
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
    words = traitlets.List().tag(sync=True)
    curves = traitlets.Dict().tag(sync=True)  # name -> a number or None for each frame
    curves_label = traitlets.Unicode().tag(sync=True)
    percent = traitlets.Bool(False).tag(sync=True)
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
        words: Sequence[str] | None = None,
        curves: Mapping[str, Any] | None = None,
        curves_label: str = "",
        percent: bool = False,
        **traits: Any,
    ) -> None:
        mosaics = [grey("frames", frames, "frames rows columns height width")]
        count, _, columns, height, width = mosaics[0].shape
        if beside is not None:
            mosaics.append(grey("beside", beside, f"{count} rows columns {height} {width}"))
        labels = texts("labels", labels, columns, "column of frames")
        notes = texts("notes", notes, count, "frame")
        headings = texts("headings", headings, len(mosaics), "mosaic")
        first = checks.count("start", start, least=-(2**53))
        ticks = list(range(first, first + count)) if ticks is None else plain_numbers("ticks", ticks, count)
        index = count - 1 if index is None else checks.count("index", index, 0, count - 1)
        words, percent = texts("words", words, count, "frame"), checks.flag("percent", percent)
        curves = checked_curves(curves, count, percent)
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
            words=words,
            curves=curves,
            curves_label=curves_label,
            percent=percent,
            **traits,
        )

    @traitlets.validate("index")
    def _check_index(self, proposal: dict) -> int:
        if not 0 <= proposal["value"] < max(1, len(self.ticks)):
            raise traitlets.TraitError(f"index must be between 0 and {len(self.ticks) - 1}, got {proposal['value']}")
        return proposal["value"]

    @traitlets.validate("words")
    def _check_words(self, proposal: dict) -> list[str]:
        return refused(lambda: texts("words", proposal["value"], len(self.ticks), "frame"))

    @traitlets.validate("curves")
    def _check_curves(self, proposal: dict) -> dict[str, list]:
        return refused(lambda: checked_curves(proposal["value"], len(self.ticks), self.percent))

    @traitlets.validate("percent")
    def _check_percent(self, proposal: dict) -> bool:
        refused(lambda: checked_curves(self.curves, len(self.ticks), proposal["value"]))
        return proposal["value"]

    def state(self) -> dict[str, Any]:
        """The saved traits; those of words and curves only where the figure has some."""
        without = [] if self.words else ["words"]
        without += [] if self.curves else ["curves", "curves_label", "percent"]
        return {name: value for name, value in super().state().items() if name not in without}

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

    def named(self, index: int) -> str:
        """What a frame is called: its own word, or else its number."""
        return (self.words and self.words[index]) or f"{self.name} {as_text(self.ticks[index])}"

    def written(self, value: float) -> str:
        """A value of the curves, all with the same number of decimals, as few as tell them."""
        scale, sign = (100, "\u00a0%") if self.percent else (1, "")
        every = [scale * each for values in self.curves.values() for each in values if each is not None]
        return fixed(scale * value, decimals(every, self.percent)) + sign

    def values_at(self, index: int) -> str:
        """The line that reads the curves off at a frame: "epoch 7: training 108.2, validation 109.0"."""
        there = [(name, values[index]) for name, values in self.curves.items() if values[index] is not None]
        read = ", ".join(f"{name} {self.written(value)}" for name, value in there)
        return f"{self.named(index)}: {read or 'no value'}"

    def describe(self) -> str:
        named = f"{self.name} " + ", ".join(as_text(self.ticks[i]) for i in self.chosen())
        named = "; ".join(map(self.named, self.chosen())) if self.words else named
        parts = [
            f"{rows} row{'s' * (rows > 1)} of {columns} pictures" + (f" ({heading})" if heading else "")
            for (rows, columns), heading in zip(self.shapes, self.headings or [""] * len(self.shapes), strict=True)
        ]
        columns = f", columns {', '.join(self.labels)}" if self.labels else ""
        last = f" {self.notes[self.chosen()[-1]]}" if self.notes else ""
        return f"At {named}: {' and '.join(parts)}{columns}.{last}{self._curves_described()}"

    def _curves_described(self) -> str:
        """Each curve's first and last value."""
        told = []
        for name, values in self.curves.items():
            there = [i for i, value in enumerate(values) if value is not None]
            ends = [f"{self.written(values[i])} at {self.named(i)}" for i in sorted({there[0], there[-1]})]
            told.append(f"{name} {' and '.join(ends)}")
        return f" Beneath, curves{self.curves_label and f' of {self.curves_label}'}: {'; '.join(told)}." * bool(told)

    @book_style()
    def still(self) -> Figure:
        mosaics, chosen = self.mosaics(), self.chosen()
        wide = [mosaic.shape[2] for mosaic in mosaics]
        tile = min(0.55, 7.4 / sum(wide))  # inches; a page has room for about eight
        high = max(mosaic.shape[1] for mosaic in mosaics) * tile * self.packing["height"] / self.packing["width"]
        titles = [fill(text, int(13 * n * tile)) for text, n in zip(self.headings, wide, strict=False)]
        top = 0.17 * max((title.count("\n") + 1 for title in titles), default=0) + (0.2 if self.labels else 0) + 0.1
        sides = [self.named(frame) for frame in chosen]
        if self.words:
            sides = [fill(side, max(8, int(14 * high)), break_long_words=False) for side in sides]
        left = 0.3 + 0.14 * max(side.count("\n") for side in sides)
        gap, across = 0.3, left + 0.3 * len(wide) + tile * sum(wide)
        under = 1.85 if self.curves else 0
        across = max(across, 4.6) if self.curves else across
        figure = BookFigure(figsize=(across, tall := top + (high + gap) * len(chosen) - gap + 0.03 + under))
        for j, mosaic in enumerate(mosaics):
            for i, frame in enumerate(chosen):
                bottom = tall - top - high - i * (high + gap)
                axes = figure.add_axes((left / across, bottom / tall, tile * wide[j] / across, high / tall))
                draw_mosaic(axes, mosaic[frame], self.labels if i == j == 0 else [])
                if j == 0:
                    axes.set_ylabel(sides[i], fontsize=9, color="#444444", labelpad=3)
                if i == 0 and titles:
                    axes.set_title(titles[j], fontsize=9.5, loc="left", color="#222222", pad=16 if self.labels else 4)
            left += tile * wide[j] + gap
        if self.curves:
            room = 0.25 + 0.075 * max(len(line) for name in self.curves for line in fill(name, 16).splitlines())
            self._draw_curves(
                figure.add_axes((0.5 / across, 0.45 / tall, (across - 0.5 - room) / across, 1.0 / tall)), chosen
            )
        return figure

    def _draw_curves(self, axes: Axes, chosen: Sequence[int]) -> None:
        """The curves with their names at their ends, and a line at the frame that is shown."""
        scale, last, ends = 100 if self.percent else 1, len(self.ticks) - 1, []
        axes.axvline(self.index, color="#222222", linewidth=1, zorder=1)
        for values, line in zip(self.curves.values(), LINES, strict=False):
            heights = [np.nan if value is None else scale * value for value in values]
            axes.plot(heights, markersize=4 if last < 10 else 2.5, linewidth=1.5, **line)
            ends.append(next(height for height in reversed(heights) if not np.isnan(height)))
        axes.set_xlim(-0.02 * max(last, 1), 1.02 * max(last, 1))
        if self.percent:
            axes.set_ylim(0, 1.06 * max(axes.get_ylim()[1] / 1.06, 1))
        axes.locator_params(axis="y", nbins=3)
        axes.grid(False, axis="x")
        if self.percent:
            axes.yaxis.set_major_formatter("{x:g}\u00a0%")
        chosen = range(last + 1) if self.words and last < 5 else chosen
        under = [fill(self.named(i), 14) if self.words else as_text(self.ticks[i]) for i in chosen]
        axes.set_xticks(list(chosen), under, fontsize=8.5)
        axes.tick_params(axis="y", labelsize=8.5)
        axes.set_title(self.curves_label, fontsize=9.5, color="#222222", pad=5)
        if not self.words:
            axes.annotate(self.name, (1, 0), (8, -4), "axes fraction", "offset points", fontsize=8.5, va="top")
        low, high = axes.get_ylim()
        named = [fill(name, 16) for name in self.curves]
        middles = spread([(end - low) / (high - low) for end in ends], [0.15 * (1 + n.count("\n")) for n in named])
        for name, middle, line in zip(named, middles, LINES, strict=False):
            at = {"xycoords": "axes fraction", "textcoords": "offset points", "fontsize": 9, "va": "center"}
            axes.annotate(name, (1, middle), (8, 0), color=line["color"], linespacing=1, **at)


def checked_curves(given: Any, count: int, percent: bool) -> dict[str, list[int | float | None]]:
    """Curves by their names, a plain number or None for each of `count` frames. Raises ValueError for what is none."""
    given = {} if given is None else checks.mapping("curves", given)
    if len(given) > len(LINES):
        raise ValueError(f"curves must be {len(LINES)} at most, or they cannot be told apart, got {list(given)}")
    for name in given:
        if not isinstance(name, str) or not name.strip():
            raise ValueError(f"curves must have names to stand beside them, got {name!r}")
    return {name: checked_curve(f"curves[{name!r}]", values, count, percent) for name, values in given.items()}


def checked_curve(name: str, values: Any, count: int, percent: bool) -> list[int | float | None]:
    """A number or None for each frame, NaN as None."""
    hint = "give a number for each frame, None where there is none"
    if isinstance(values, list | tuple):
        values = [np.nan if value is None else value for value in values]
    found = checks.as_tensor(name, values, hint, torch.float64)
    if found.shape != (count,) or found.dtype == torch.bool:
        raise ValueError(
            f"{name} must hold one number for each of {count} frames, got {found.numel()}: {found.tolist()}"
        )
    there = ~found.isnan()
    if not there.any():
        raise ValueError(f"{name} must hold at least one number, got none: leave the curve out")
    kept = plain_numbers(name, found[there], int(there.sum()))
    if percent and not 0 <= min(kept) <= max(kept) <= 1:
        raise ValueError(
            f"{name} must lie between 0 and 1 with percent=True, got {min(kept):g} to {max(kept):g}: give shares"
        )
    rest = iter(kept)
    return [next(rest) if is_there else None for is_there in there.tolist()]


def decimals(values: Sequence[float], percent: bool) -> int:
    """With how many decimals all are written: as few as tell them, at most one from 10 on, more for smaller ones."""
    most, largest = 1, max(map(abs, values), default=0)
    while not percent and largest < 10 and most < 6:
        most, largest = most + 1, largest * 10

    def tells(n: int) -> bool:
        return all(abs(float(fixed(value, n)) - value) < 1e-9 * max(1, abs(value)) for value in values)

    return next((n for n in range(most) if tells(n)), most)


def fixed(value: float, places: int) -> str:
    """As JavaScript's toFixed writes it."""
    return format(Decimal(value + 0.0).quantize(Decimal(1).scaleb(-places), ROUND_HALF_UP, Context(prec=400)), "f")


def spread(middles: Sequence[float], sizes: Sequence[float]) -> list[float]:
    """Places on a line from 0 to 1, moved apart where their labels would touch."""
    order = sorted(range(len(middles)), key=lambda i: middles[i])
    found, edge = list(middles), -0.1
    for i in order:
        found[i] = max(found[i], edge + sizes[i] / 2)
        edge = found[i] + sizes[i] / 2
    edge = 1.1
    for i in reversed(order):
        found[i] = min(found[i], edge - sizes[i] / 2)
        edge = found[i] - sizes[i] / 2
    return found


def as_text(tick: float) -> str:
    """A tick as JavaScript writes it, without an exponent where people write none."""
    return np.format_float_positional(tick, trim="-") if 1e-6 <= abs(tick) < 1e21 else str(tick)
