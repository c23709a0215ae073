"""ContradictFigure: write a digit, ask two decoders for another, and see whom each of them follows."""

import base64
from collections.abc import Sequence
from typing import Any, ClassVar

import numpy as np
import torch
import traitlets
from matplotlib.figure import Figure
from torch import Tensor

from latentbook import checks
from latentbook.experiments import results
from latentbook.figures.plots import BookFigure, book_style
from latentbook.models.conditional_vae import ConditionalVAE
from latentbook.widgets import pad
from latentbook.widgets.base import Whole, compose
from latentbook.widgets.checks import refused
from latentbook.widgets.export import read_model, shipped_model
from latentbook.widgets.model import ModelFigure
from latentbook.widgets.sprites import draw_mosaic, grey_bytes
from latentbook.words import a_digit

# Two conditional VAEs by the words of the figure: the shipped state of each, and the variant whose runs are quoted. Both are
# trained alike, on the same images and labels; chapter 02 also has the tutorial's code with its own training.
MODELS = {
    "tutorial's model": ("conditional-vae-retrained", "retrained"),
    "fixed model": ("conditional-vae-fixed", "fixed"),
}


class ContradictFigure(ModelFigure):
    """A pad to write a digit on, ten labels to ask for, and what two conditional VAEs make of both, as the judge sees it.

    The digit's code z is inferred with the class that each model itself predicts; only the label given to the decoder is
    the reader's. All of it is computed where the figure stands, and nothing that is written leaves it.

    digit: which sample digit stands on the pad at first, unless there are strokes. label: what is asked for at first,
        another digit.
    strokes: what is on the pad, lists of points [x, y] in 28 x 28 pixels; synced: `figure.strokes` follows the hand.

    Raises ValueError for a digit or label that is none, where both are the same, and for strokes that leave the pad.
    """

    _name: ClassVar[str] = "contradict"
    _saved: ClassVar[tuple[str, ...]] = (
        "first", "second", "judge", "names", "samples", "strokes", "label", "recorded", "measured", "caption",
    )  # fmt: skip
    _esm = compose("contradict", ".js", "sampling", "engine", "pad")
    _css = compose("contradict", ".css", "pad")

    first = traitlets.Bytes().tag(sync=True)
    second = traitlets.Bytes().tag(sync=True)
    judge = traitlets.Bytes().tag(sync=True)
    names = traitlets.List().tag(sync=True)
    samples = traitlets.Dict().tag(sync=True)
    strokes = traitlets.List().tag(sync=True)
    label = Whole(7).tag(sync=True)
    recorded = traitlets.Dict().tag(sync=True)  # the start, for as long as the models are on their way
    measured = traitlets.List().tag(sync=True)  # for each model the share of test digits that follow another label
    caption = traitlets.Unicode(
        "A judge, a separate classifier of digits, reads your ink and both drawings. Both models were trained here, alike, on "
        "60,000 labelled digits. What you write stays in this page; only a link that you copy holds it."
    ).tag(sync=True)

    def __init__(self, *, digit: int = 3, label: int = 7, strokes: Any = None, caption: str | None = None) -> None:
        digit, label = checks.count("digit", digit, 0, 9), checks.count("label", label, 0, 9)
        if strokes is None and digit == label:
            raise ValueError(f"label must be another digit than the one on the pad, got {label} for both")
        strokes = pad.drawing(pad.centred(pad.SAMPLES[str(digit)]) if strokes is None else strokes)
        files = [shipped_model(state) for state, _ in MODELS.values()]
        pictures, chances = answers(strokes, label, files)
        recorded = {
            "ink": int(np.argmax(chances[0])),
            "chances": chances,
            "pictures": [base64.b64encode(grey).decode() for grey in pictures[1:]],
        }
        super().__init__(
            first=files[0],
            second=files[1],
            judge=shipped_model("judge"),
            names=list(MODELS),
            samples=pad.SAMPLES,
            strokes=strokes,
            label=label,
            recorded=recorded,
            measured=[follows_another_label(variant) for _, variant in MODELS.values()],
            **({} if caption is None else {"caption": caption}),
        )

    @traitlets.validate("label", "strokes")
    def _check(self, proposal: dict) -> Any:
        name, value = proposal["trait"].name, proposal["value"]
        return refused(lambda: checks.count(name, value, 0, 9) if name == "label" else pad.drawing(value))

    def seen(self) -> list[int]:
        """What the judge sees in the ink and in both drawings, as the figure stands."""
        return [int(np.argmax(chances)) for chances in answers(self.strokes, self.label, [self.first, self.second])[1]]

    def describe(self) -> str:
        if not self.strokes:
            return "An empty pad, and two models that wait for a digit."
        ink, *seen = self.seen()
        told = "; ".join(f"the {name} draws {a_digit(digit)}" for name, digit in zip(self.names, seen, strict=True))
        return f"A written {ink}, and what two models draw when they are asked for {a_digit(self.label)}: {told}."

    @book_style()
    def still(self) -> Figure:
        files = [self.first, self.second]
        pictures, chances = answers(self.strokes, self.label, files)
        figure = BookFigure(figsize=(6.4, 2.35))
        titles = [
            f"written: {a_digit(int(np.argmax(chances[0])))}",
            *(f"{name}: {a_digit(self.label)}?" for name in self.names),
        ]
        for k, (title, grey, seen) in enumerate(zip(titles, pictures, chances, strict=True)):
            axes = figure.add_axes((0.01 + k / 3, 0.14, 0.3, 0.72))
            draw_mosaic(axes, np.frombuffer(grey, np.uint8).reshape(1, 1, 28, 28))
            axes.set_title(title, fontsize=9.5, loc="left", color="#222222", pad=4)
            axes.set_xlabel(f"the judge sees {a_digit(int(np.argmax(seen)))}", fontsize=9, color="#222222", loc="left")
        return figure


def follows_another_label(variant: str) -> float:
    """The share of test digits in which the judge sees the label asked for, of nine others; the mean over recorded seeds."""
    return float(np.mean(results.load("conditional-vae")["variants"][variant]["metrics"]["other_label_wins"]))


@torch.no_grad()
def answers(
    strokes: Sequence[Sequence[Sequence[float]]], label: int, files: Sequence[bytes]
) -> tuple[list[bytes], list[list[float]]]:
    """The ink as MNIST has it and what each model draws, 784 grey bytes each, and the judge's ten probabilities of each."""
    image = torch.from_numpy(pad.rasterise(pad.centred(strokes)))[None, None]
    drawn = [decoded(read_model(file), image, label) for file in files]
    judge = read_model(shipped_model("judge"))
    chances = [judge(one).softmax(1)[0].tolist() for one in (image, *drawn)]
    return [grey_bytes(one).tobytes() for one in (image, *drawn)], chances


def decoded(model: ConditionalVAE, image: Tensor, label: int) -> Tensor:
    """The image's code, inferred with the class that the model predicts, decoded with a label: [1, 1, 28, 28]."""
    return model.sample(torch.tensor([label]), z=model.infer(image).mean)
