"""RelabelFigure: take a test digit, ask a decoder for another label, and see whom it listens to."""

from collections.abc import Mapping, Sequence
from typing import Any, ClassVar

import numpy as np
import traitlets
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from latentbook.figures.plots import BookFigure, book_style
from latentbook.widgets.base import StaticWidget, Whole, compose
from latentbook.widgets.checks import chosen, grey, percent, same_names, whole
from latentbook.widgets.sprites import draw_mosaic, pack, unpack


class RelabelFigure(StaticWidget):
    """Each test digit is encoded once; the reader chooses the label with which one or more models decode it.

    sources: the test digits, grey values 0 to 1 [n, height, width].
    decodings: for each model's name, in the order shown, what it decodes from source i with label k:
        [n, labels, height, width], with as many labels for every model.
    verdicts: for each model's name the label that a judge sees in each decoding, integers [n, labels].
    probabilities: for each model's name the judge's probability of its verdict [n, labels]; optional.
    labels: the digits that the sources truly show, integers [n]; optional.
    source, label: what is chosen at first; label None: the one after the source's own.

    Raises ValueError for values that do not fit together, and says what would.
    """

    _name: ClassVar[str] = "relabel"
    _saved: ClassVar[tuple[str, ...]] = (
        "sheet", "packing", "names", "verdicts", "probabilities", "labels", "source", "label", "caption",
    )  # fmt: skip
    _esm = compose("relabel", ".js")
    _css = compose("relabel", ".css")

    sheet = traitlets.Unicode().tag(sync=True)
    packing = traitlets.Dict().tag(sync=True)
    names = traitlets.List().tag(sync=True)
    verdicts = traitlets.List().tag(sync=True)  # [models][n][labels]
    probabilities = traitlets.List().tag(sync=True)  # the same, in whole percent, or empty
    labels = traitlets.List().tag(sync=True)
    source = Whole(0).tag(sync=True)
    label = Whole(0).tag(sync=True)
    caption = traitlets.Unicode(
        "The code z of the chosen test digit stays as it is; only the label given to the decoder changes. A decoder that "
        "listens draws the asked digit in the same style; one that does not draws the test digit again."
    ).tag(sync=True)

    def __init__(
        self,
        sources: Any,
        decodings: Mapping[str, Any],
        verdicts: Mapping[str, Any],
        *,
        probabilities: Mapping[str, Any] | None = None,
        labels: Any = None,
        source: int = 0,
        label: int | None = None,
        **traits: Any,
    ) -> None:
        shown = grey("sources", sources, "n height width")
        n, height, width = shown.shape
        if not isinstance(decodings, Mapping) or not decodings:
            raise ValueError(
                "decodings must hold at least one model, got none; give {name: [n, labels, height, width]}"
            )
        names, count = list(decodings), "labels"
        drawn = []
        for name in names:
            drawn.append(grey(f"decodings[{name!r}]", decodings[name], f"{n} {count} {height} {width}"))
            count = drawn[0].shape[1]
        own = [] if labels is None else whole("labels", labels, f"{n}", count)
        source = chosen("source", source, n)
        label = ((own[source] + 1) % count if own else 0) if label is None else chosen("label", label, count)
        same_names("verdicts", verdicts, names)
        if probabilities is not None:
            same_names("probabilities", probabilities, names)
        every = np.concatenate([shown, *(part.reshape(-1, height, width) for part in drawn)])
        sheet, packing = pack(every)
        super().__init__(
            sheet=sheet,
            packing=packing,
            names=names,
            verdicts=[whole(f"verdicts[{name!r}]", verdicts[name], f"{n} {count}", count) for name in names],
            probabilities=[]
            if probabilities is None
            else [percent(name, probabilities[name], n, count) for name in names],
            labels=own,
            source=source,
            label=label,
            **traits,
        )

    @traitlets.validate("source", "label")
    def _check_choice(self, proposal: dict) -> int:
        name = proposal["trait"].name
        count = len(self.verdicts[0][0] if name == "label" else self.verdicts[0]) if self.verdicts else 1
        if self.verdicts and not 0 <= proposal["value"] < count:
            raise traitlets.TraitError(f"{name} must be between 0 and {count - 1}, got {proposal['value']}")
        return proposal["value"]

    def pictures(self) -> tuple[np.ndarray, np.ndarray]:
        """The sources uint8 [n, height, width] and the decodings uint8 [models, n, labels, height, width]."""
        found = unpack(self.sheet, self.packing)
        n, count = len(self.verdicts[0]), len(self.verdicts[0][0])
        return found[:n], found[n:].reshape(len(self.names), n, count, *found.shape[1:])

    def obeyed(self, model: int) -> int:
        """For how many labels of the chosen source the judge sees the asked one."""
        return sum(seen == asked for asked, seen in enumerate(self.verdicts[model][self.source]))

    def describe(self) -> str:
        count = len(self.verdicts[0][0])
        own = f", a test digit {self.labels[self.source]}," if self.labels else ""
        counts = "; ".join(f"{name}: {self.obeyed(m)} of {count}" for m, name in enumerate(self.names))
        return (
            f"One digit{own} and its decodings with the labels 0 to {count - 1}, a row for each model. "
            f"Labels for which the judge sees the asked digit: {counts}."
        )

    @book_style()
    def still(self) -> Figure:
        (sources, decodings), count = self.pictures(), len(self.verdicts[0][0])
        ratio, models = self.packing["height"] / self.packing["width"], len(self.names)
        tile = min(0.62, 6.2 / count)  # inches
        left, high, step = 1.75, tile * ratio, tile * ratio + 0.65
        across, tall = left + tile * count + 0.05, models * step + 0.05
        figure = BookFigure(figsize=(across, tall))

        def mosaic(x: float, y: float, wide: float, pictures: np.ndarray, labels: Sequence[str] = ()) -> Axes:
            axes = figure.add_axes((x / across, y / tall, wide / across, wide * ratio / pictures.shape[1] / tall))
            draw_mosaic(axes, pictures, labels)
            return axes

        axes = mosaic(0.05, tall - 0.28 - 1.5 * high, 1.5 * tile, sources[self.source][None, None])
        axes.set_title("test digit", fontsize=9.5, loc="left", color="#222222", pad=4)
        for m, name in enumerate(self.names):
            bottom = tall - 0.45 - high - m * step
            axes = mosaic(left, bottom, tile * count, decodings[m, self.source][None], [str(k) for k in range(count)])
            axes.set_title(f"{name}, decoded with label", fontsize=9.5, loc="left", color="#222222", pad=16)
            for asked, seen in enumerate(self.verdicts[m][self.source]):
                x, fits = (self.packing["width"] + 2) * (asked + 0.5) - 0.5, seen == asked
                axes.annotate(
                    f"{seen} {'✓' if fits else '✗'}",
                    (x, axes.get_ylim()[0]),
                    (0, -3),
                    textcoords="offset points",
                    ha="center",
                    va="top",
                    fontsize=8,
                    color="#222222" if fits else "#8a5a00",
                    annotation_clip=False,
                )
            axes.annotate(
                "judge sees", (0, axes.get_ylim()[0]), (-4, -3), textcoords="offset points", ha="right", va="top",
                fontsize=8, color="#444444", annotation_clip=False,
            )  # fmt: skip
        return figure
