"""SignFigure: draw a sign, see what each image and all together say of its class, and let five hands write it."""

import functools
import zlib
from collections.abc import Sequence
from typing import Any, ClassVar

import numpy as np
import torch
import traitlets
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from torch import Tensor

from latentbook import checks
from latentbook.data.digits import Digits
from latentbook.figures.plots import BookFigure, book_style
from latentbook.layers.distributions import DiagonalGaussian
from latentbook.models.multi_level_vae import MultiLevelVAE
from latentbook.widgets import pad
from latentbook.widgets.base import compose
from latentbook.widgets.checks import refused
from latentbook.widgets.ellipses import add_ellipse, plane_through
from latentbook.widgets.export import read_model, shipped_model
from latentbook.widgets.model import ModelFigure
from latentbook.widgets.sprites import draw_mosaic, grey_bytes, pack, unpack
from latentbook.words import a_digit

# The two positions of the switch: whether the class heads received their gradient, and the shipped state of each. Both are
# trained alike; heads that cannot learn have no use for the term of consensus, so the first goes without it.
MODELS = {"cut": "multi-level-vae-unnamed-cut", "restored": "multi-level-vae-unnamed"}
MOST = 10  # images of evidence
HANDS = (0, 2, 3, 5, 6)  # the digits whose first image gives its style, where no others are named
SEARCHED = 1000  # test digits among which a confident one is found
# A letter, which no model has seen, in three hands: strokes in 28 x 28 pixels.
LETTERS = {
    "A": [
        [[[6, 24], [10, 14], [14, 4], [18, 13.5], [22.5, 24]], [[9, 17], [14, 16.7], [19.5, 16.8]]],
        [[[5, 23], [9, 15], [15.5, 4], [18, 14], [20.5, 24]], [[8.5, 16.5], [14, 15.5], [19, 15]]],
        [[[14, 4], [10, 13], [6.5, 23.5]], [[14, 4], [17.5, 13], [21, 23.5]], [[8, 18], [20, 18.5]]],
    ]
}  # fmt: skip
INK = "#222222"
reading = functools.lru_cache(4)(read_model)  # a picture, its words and its start need the same three


class SignFigure(ModelFigure):
    """A pad to draw signs of one class on, up to ten images of evidence, and five hands that write what they say together.

    Each image alone says something of its class, a Gaussian; together they say their product. A decoder draws that class
    in the style of five test digits, and the book's judge, which knows digits alone, reads what is drawn. The switch
    `gradient` is between chapter 03's model without labels and the same with the gradient of its class heads cut, as it was
    published (and without the term of consensus, which would have nothing to train). All of it is computed where the
    figure stands, and nothing that is drawn leaves it.

    digits: a test set, of which the figure keeps sixteen images. digit: the class of the ten at the start.
    hands: rows of `digits` whose styles are used, five of other classes; None: the first of some classes.
    evidence: what is put together: numbers of the kept images, or drawings, lists of strokes of points [x, y] in 28 x 28
        pixels; synced, and `figure.images()` gives them as pictures. left_out: which of it is not in use.
    strokes: what is on the pad, synced too. gradient: "cut" or "restored".

    Raises ValueError for a digit that is none, digits that lack what is asked for, and other values that do not fit.
    """

    _name: ClassVar[str] = "sign"
    _saved: ClassVar[tuple[str, ...]] = (
        *MODELS, "judge", "sheet", "packing", "labels", "hands", "samples", "centres", "planes", "presets", "gradient",
        "evidence", "left_out", "strokes", "recorded", "pictures", "caption",
    )  # fmt: skip
    _esm = compose("sign", ".js", "sampling", "engine", "pad", "ellipses")
    _css = compose("sign", ".css", "pad")

    cut = traitlets.Bytes().tag(sync=True)
    restored = traitlets.Bytes().tag(sync=True)
    judge = traitlets.Bytes().tag(sync=True)
    sheet = traitlets.Unicode().tag(sync=True)  # test digits: ten of a class, one of another, and the hands
    packing = traitlets.Dict().tag(sync=True)
    labels = traitlets.List().tag(sync=True)  # the digit of each
    hands = traitlets.List().tag(sync=True)  # which of them give their style
    samples = traitlets.Dict().tag(sync=True)
    centres = traitlets.Dict().tag(sync=True)  # for each model the mean class code of each digit
    planes = traitlets.Dict().tag(sync=True)  # and the two directions in which these differ most
    presets = traitlets.List().tag(sync=True)  # evidence to try, as [words, evidence]
    gradient = traitlets.Enum(tuple(MODELS), "cut").tag(sync=True)
    evidence = traitlets.List().tag(sync=True)
    left_out = traitlets.List().tag(sync=True)
    strokes = traitlets.List().tag(sync=True)
    # The start, for as long as the models are on their way. For each model what it says of the kept images that are evidence
    # and of drawings, what the judge sees in the five hands, and these, deflated.
    recorded = traitlets.Dict().tag(sync=True)
    pictures = traitlets.Bytes().tag(sync=True)
    caption = traitlets.Unicode(
        "Every image narrows the product, even with the gradient cut; only trained class heads make five hands write the "
        "sign. Draw your own: it never leaves this page."
    ).tag(sync=True)

    def __init__(
        self,
        digits: Digits,
        *,
        digit: int = 7,
        hands: Sequence[int] | None = None,
        gradient: str = "cut",
        evidence: Any = None,
        **traits: Any,
    ) -> None:
        checks.has("digits", digits, "images", "labels", hint='give load_digits("test")')
        digit = checks.count("digit", digit, 0, 9)
        checks.choice("gradient", gradient, MODELS)
        images = checks.grey("digits.images", digits.images, ("n", 1, 28, 28)).cpu()
        labels = checks.class_numbers("digits.labels", digits.labels, len(images), 10).cpu()
        models = {name: reading(shipped_model(state)) for name, state in MODELS.items()}
        ten = ten_of(labels, digit)
        kept = [*ten, confident(models["restored"], images, labels, digit), *chosen_hands(labels, digit, hands)]
        sheet, packing = pack(grey_bytes(images[kept, 0]))
        codes = {name: class_centres(model, images, labels) for name, model in models.items()}
        shown = list(range(MOST)) if evidence is None else evidence
        traitor = int(labels[kept[MOST]])
        super().__init__(
            **{name: shipped_model(state) for name, state in MODELS.items()},
            judge=shipped_model("judge"),
            sheet=sheet,
            packing=packing,
            labels=labels[kept].tolist(),
            hands=list(range(MOST + 1, len(kept))),
            samples=pad.SAMPLES,
            centres={name: rounded(found) for name, found in codes.items()},
            planes={name: rounded(np.linalg.svd(found - found.mean(0))[2][:2]) for name, found in codes.items()},
            presets=[
                [f"one {digit}", [0]],
                [f"ten {digit}s", list(range(MOST))],
                [f"a traitor: nine {digit}s, one {traitor}", list(range(1, MOST + 1))],
                *([f"a letter: {name}", [pad.drawing(one) for one in drawn]] for name, drawn in LETTERS.items()),
            ],
            gradient=gradient,
            **{"evidence": checked_evidence(shown, len(kept)), **traits},
        )
        self.record()

    @traitlets.validate("strokes")
    def _check_strokes(self, proposal: dict) -> list:
        return refused(lambda: pad.drawing(proposal["value"]))

    @traitlets.validate("evidence")
    def _check_evidence(self, proposal: dict) -> list:
        return refused(lambda: checked_evidence(proposal["value"], len(self.labels)))

    @traitlets.validate("left_out")
    def _check_left_out(self, proposal: dict) -> list[int]:
        most = len(self.evidence) - 1
        try:
            return sorted({checks.count("left_out", i, 0, most) for i in proposal["value"]})
        except ValueError as error:
            what = f"left_out must hold places of the {most + 1} images of evidence, got {proposal['value']}"
            raise traitlets.TraitError(what) from error

    @traitlets.observe("evidence")
    def _shorten(self, change: dict) -> None:
        """Places that are no longer there cannot be left out."""
        self.left_out = [i for i in self.left_out if i < len(change["new"])]

    def record(self) -> None:
        """Keep what both models make of the present state, which is shown until they are there."""
        drawn, seen = zip(*(self.written(name) for name in MODELS), strict=True)
        self.recorded = {
            name: {"experts": self.told(name), "seen": seen[k], "exact": reading(getattr(self, name)).config.exact}
            for k, name in enumerate(MODELS)
        }
        self.pictures = zlib.compress(grey_bytes(torch.stack(drawn)).tobytes(), 9)

    def state(self) -> dict[str, Any]:
        """The saved traits, with a record of the state that they tell: a hand may have changed it."""
        self.record()
        return super().state()

    def images(self) -> Tensor:
        """The evidence as the models see it, grey values 0 to 1 [n, 1, 28, 28], whether in use or not."""
        return pictured(self.evidence, self.kept())

    def kept(self) -> Tensor:
        """The test digits that the figure holds, [n, 28, 28]."""
        return torch.from_numpy(unpack(self.sheet, self.packing).copy()).float() / 255

    @property
    def used(self) -> list[int]:
        """Which of the evidence is in use."""
        return [i for i in range(len(self.evidence)) if i not in self.left_out]

    def told(self, name: str) -> list[list[Any]]:
        """What a model says of each kept image that may be evidence, and of the drawings: [item, mean, log-variance]."""
        items = [*range(MOST + 1), *(item for item in self.evidence if isinstance(item, list))]
        found = self.experts(name, pictured(items, self.kept()))
        return [
            [item, rounded(mean), rounded(log_var)]
            for item, mean, log_var in zip(items, found.mean, found.log_var, strict=True)
        ]

    @torch.no_grad()
    def experts(self, name: str, images: Tensor | None = None) -> DiagonalGaussian:
        """What each image in use says of its class alone, by the model of a switch position: [n, class]."""
        images = self.images()[self.used] if images is None else images
        return reading(getattr(self, name)).encode(images)[1]

    @torch.no_grad()
    def product(self, name: str) -> DiagonalGaussian:
        """What all images in use say together, [1, class]; the prior where there are none."""
        model = reading(getattr(self, name))
        if not self.used:
            zeros = torch.zeros(1, model.config.class_dim)
            return DiagonalGaussian(zeros, zeros)
        return model.infer_class(self.images()[self.used][None])

    @torch.no_grad()
    def written(self, name: str) -> tuple[Tensor, list[int]]:
        """The class of the evidence in the style of the hands, [hands, 784], and what the judge sees in each."""
        model, styles = reading(getattr(self, name)), self.kept()[self.hands][:, None]
        style = model.encode(styles)[0].mean
        drawn = model.decode(style, self.product(name).mean.expand(len(style), -1)).sigmoid()
        return drawn, reading(self.judge)(drawn.view(-1, 1, 28, 28)).argmax(1).tolist()

    def known(self) -> int | None:
        """The digit of the evidence in use, where all of it is of one; None for drawings, and where digits differ."""
        found = {self.labels[self.evidence[i]] if isinstance(self.evidence[i], int) else None for i in self.used}
        return found.pop() if len(found) == 1 else None

    def describe(self) -> str:
        n, digit = len(self.used), self.known()
        if not n:
            return "No image of evidence: what all say together is the prior, and five hands wait for a sign."
        what = "that are drawn or not of one digit" if digit is None else f"of {a_digit(digit)}"
        parts = []
        for name in MODELS:
            seen, narrow = self.written(name)[1], width(self.product(name))
            read = "the judge sees " + ", ".join(map(str, seen))
            if digit is not None:
                read += f": {seen.count(digit)} of {len(seen)} read as {a_digit(digit)}"
            parts.append(
                f"with the class gradient {name} their product is {narrow:.2f} as wide as the prior, and {read}"
            )
        return (
            f"{n} image{'' if n == 1 else 's'} {what}, and what five hands write with the class that they give: "
            f"{'; '.join(parts)}."
        )

    @book_style()
    def still(self) -> Figure:
        figure, name = BookFigure(figsize=(7.2, 4.1)), self.gradient
        strip = np.zeros((MOST, 28, 28), np.uint8)
        if self.evidence:
            strength = np.where(np.isin(np.arange(len(self.evidence)), self.used), 1, 0.3)[:, None, None]
            strip[: len(self.evidence)] = grey_bytes(self.images()[:, 0]) * strength
        draw_mosaic(top := figure.add_axes((0.01, 0.78, 0.98, 0.14)), strip[None])
        top.set_title("images of evidence", fontsize=9.5, loc="left", color=INK, pad=3)
        plane = figure.add_axes((0.01, 0.02, 0.38, 0.66))
        self.draw_plane(plane, name)
        plane.set_title(f"what they say of the class, gradient {name}", fontsize=9.5, loc="left", color=INK, pad=3)
        rows = [("five hands", grey_bytes(self.kept()[self.hands]), [""] * len(self.hands))]
        for each in MODELS:
            drawn, seen = self.written(each)
            rows.append((f"with the gradient {each}", grey_bytes(drawn).reshape(-1, 28, 28), list(map(str, seen))))
        for k, (title, pictures, seen) in enumerate(rows):
            axes = figure.add_axes((0.44, 0.49 - 0.235 * k, 0.55, 0.16))
            draw_mosaic(axes, pictures[None])
            axes.set_title(title, fontsize=9.5, loc="left", color=INK, pad=3)
            ticks = [30 * (i + 0.5) - 0.5 for i in range(len(seen))]
            axes.set_xticks(ticks, [f"reads {one}" if one else "" for one in seen], fontsize=8)
        return figure

    def draw_plane(self, axes: Axes, name: str) -> None:
        """What each image says alone and all say together, as ellipses of two standard deviations; digits as dots."""
        product, centres = self.product(name), np.asarray(self.centres[name])
        code, spare = product.mean[0].numpy().astype(float), np.asarray(self.planes[name])
        near = np.argsort(np.square(centres - code).sum(1), kind="stable")[:2]
        plane = plane_through(code, centres[sorted(near)], spare) if self.used else spare
        if self.used:
            alone = self.experts(name)
            for mean, log_var in zip(alone.mean.double(), alone.log_var.double(), strict=True):
                add_ellipse(axes, plane, mean, log_var, "one", alpha=0.8)
            add_ellipse(axes, plane, product.mean[0].double(), product.log_var[0].double(), "product")
        zeros = torch.zeros(centres.shape[1], dtype=torch.float64)
        add_ellipse(axes, plane, zeros, zeros, "prior")
        for i, (x, y) in enumerate(centres @ plane.T):
            alpha = 1 if i in near else 0.4
            axes.plot(x, y, "o", color=INK, markersize=3, alpha=alpha)
            axes.annotate(str(i), (x, y), (3, 2), textcoords="offset points", fontsize=9, color=INK, alpha=alpha)
        axes.set(xticks=[], yticks=[], aspect="equal")
        axes.margins(0.08)


def width(posterior: DiagonalGaussian) -> float:
    """The geometric mean of the standard deviations over the dimensions; the prior's is 1."""
    return float((0.5 * posterior.log_var).mean().exp())


def pictured(items: Sequence[Any], kept: Tensor) -> Tensor:
    """Numbers of kept images and drawings as the models see them, [n, 1, 28, 28]."""
    found = [
        kept[item] if isinstance(item, int) else torch.from_numpy(pad.rasterise(pad.centred(item))) for item in items
    ]
    return torch.stack(found)[:, None] if found else torch.zeros(0, 1, 28, 28)


def checked_evidence(evidence: Any, count: int) -> list:
    """Evidence as the figure keeps it: numbers of its `count` images, and drawings to a tenth of a pixel.

    Raises ValueError for more than ten, for numbers of no image, and for empty drawings or those that leave the pad.
    """
    if not isinstance(evidence, list | tuple):
        raise ValueError(f"evidence must be a list of image numbers and drawings, got a {type(evidence).__name__}")
    if len(evidence) > MOST:
        raise ValueError(f"there is room for {MOST} images of evidence, got {len(evidence)}: leave some out")
    found: list[Any] = []
    for item in evidence:
        if not isinstance(item, list | tuple):
            found.append(checks.count("the number of an image of evidence", item, 0, count - 1))
        elif drawn := pad.drawing(list(item)):
            found.append(drawn)
        else:
            raise ValueError("a drawing of the evidence must have at least one stroke, got none")
    return found


def ten_of(labels: Tensor, digit: int) -> list[int]:
    """The first ten rows of a digit. Raises ValueError where there are fewer."""
    rows = (labels == digit).nonzero().flatten()[:MOST].tolist()
    if len(rows) < MOST:
        raise ValueError(f"digits must hold {MOST} images of {a_digit(digit)}, got {len(rows)}: give a whole test set")
    return rows


@torch.no_grad()
def confident(model: MultiLevelVAE, images: Tensor, labels: Tensor, digit: int) -> int:
    """The row of another digit of whose class the model is surest, among the first ones. Raises ValueError without one."""
    rows = (labels != digit).nonzero().flatten()[:SEARCHED]
    if not len(rows):
        raise ValueError(f"digits must hold other digits than {a_digit(digit)}: give a whole test set")
    return int(rows[model.encode(images[rows])[1].log_var.mean(1).argmin()])


def chosen_hands(labels: Tensor, digit: int, hands: Sequence[int] | None) -> list[int]:
    """Rows of five digits that are not of the class of the evidence. Raises ValueError for others."""
    if hands is None:
        kinds = [kind for kind in (*HANDS, 4, 8) if kind != digit][: len(HANDS)]
        lacking = [kind for kind in kinds if not (labels == kind).any()]
        if lacking:
            raise ValueError(f"digits must hold {', '.join(map(a_digit, lacking))} as a hand: give a whole test set")
        return [int((labels == kind).nonzero()[0]) for kind in kinds]
    rows = [checks.count("hands", row, 0, len(labels) - 1) for row in hands]
    if len(rows) != len(HANDS):
        raise ValueError(f"hands must be {len(HANDS)} rows of digits, got {len(rows)}")
    if any(int(labels[row]) == digit for row in rows):
        raise ValueError(f"hands must be of other digits than the evidence, which is of {a_digit(digit)}")
    return rows


@torch.no_grad()
def class_centres(model: MultiLevelVAE, images: Tensor, labels: Tensor) -> np.ndarray:
    """The mean class code of each digit that there is, [10, class]; of one that there is not, that of all."""
    codes = model.encode(images)[1].mean.double()
    found = [codes[labels == digit] for digit in range(10)]
    return torch.stack([(each if len(each) else codes).mean(0) for each in found]).numpy()


def rounded(values: Any) -> list:
    """To four decimals, as plain numbers."""
    return np.asarray(values, np.float64).round(4).tolist()
