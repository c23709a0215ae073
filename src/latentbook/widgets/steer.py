"""SteerFigure: move a code over a plane and mix a label of two digits; two decoders draw both, as the judge sees it."""

import zlib
from typing import Any, ClassVar

import numpy as np
import torch
import traitlets
from matplotlib.figure import Figure
from torch import Tensor

from latentbook import checks
from latentbook.data.digits import Digits
from latentbook.figures.plots import BookFigure, book_style
from latentbook.models.conditional_vae import ConditionalVAE
from latentbook.widgets.base import Real, Whole, compose
from latentbook.widgets.checks import refused
from latentbook.widgets.export import read_model, shipped_model
from latentbook.widgets.model import ModelFigure
from latentbook.widgets.plane import draw_codes
from latentbook.widgets.sprites import draw_mosaic, grey_bytes
from latentbook.words import a_digit

# The two of ContradictFigure, by its words: the shipped state of each.
MODELS = {"tutorial's model": "conditional-vae-retrained", "fixed model": "conditional-vae-fixed"}
REACH = 3.0  # how far the point goes from either axis
TICKS = 20  # steps of the label from one digit to the other
MIXES = 10  # of the row of pictures
SHOWN = 400  # codes on a plane
DIRECTIONS = ("classes", "codes")


class SteerFigure(ModelFigure):
    """For each of two conditional VAEs a plane of codes, and what it draws of a point there under a label mixed of two digits.

    Both get the same point (a, b), z = a * first direction + b * second direction, and the same label, (1 - t) of `source`
    and t of `target`. All of it is computed where the figure stands.

    digits: whose codes lie on the planes, MNIST's test digits in the book (on the stand-in's, which the models do not know,
    the classes lie apart in both); the first `count` of them are drawn. directions: "classes", the principal directions of
    the class means, in which the classes lie farthest apart; or "codes", those of all codes. point, t, source, target: how
    it stands at first; all four are synced and follow the hand.

    Raises ValueError for digits of another size or fewer than three classes, and for a point, a share or a digit that no
    control of the figure can set.
    """

    _name: ClassVar[str] = "steer"
    _saved: ClassVar[tuple[str, ...]] = (
        "first", "second", "judge", "names", "planes", "labels", "total", "directions", "point", "t", "source", "target",
        "recorded", "drawn", "caption",
    )  # fmt: skip
    _esm = compose("steer", ".js", "sampling", "engine", "plane")
    _css = compose("steer", ".css", "plane")

    first = traitlets.Bytes().tag(sync=True)
    second = traitlets.Bytes().tag(sync=True)
    judge = traitlets.Bytes().tag(sync=True)
    names = traitlets.List().tag(sync=True)
    planes = traitlets.List().tag(sync=True)  # of each model, as `plane_of` has it
    labels = traitlets.Unicode().tag(sync=True)  # of the codes that are drawn, a figure each
    total = Whole(0).tag(sync=True)  # digits that the directions come from
    directions = traitlets.Enum(DIRECTIONS, "classes").tag(sync=True)
    point = traitlets.List([2.0, 1.4]).tag(sync=True)
    t = Real(0.5).tag(sync=True)
    source = Whole(3).tag(sync=True)
    target = Whole(8).tag(sync=True)
    # The start, for as long as the models are on their way: {"of", "chances"}, and its pictures, uint8
    # [models, 1 + 11, 784], deflated.
    recorded = traitlets.Dict().tag(sync=True)
    drawn = traitlets.Bytes().tag(sync=True)
    caption = traitlets.Unicode(
        "The tutorial's model draws mostly what the code says; the fixed model draws the label in the handwriting of the code. "
        "Drag a point, then move the label."
    ).tag(sync=True)

    def __init__(
        self,
        digits: Digits,
        *,
        point: Any = (2.0, 1.4),
        t: float = 0.5,
        source: int = 3,
        target: int = 8,
        directions: str = "classes",
        count: int = SHOWN,
        **traits: Any,
    ) -> None:
        digits, count = checked_digits(digits), checks.count("count", count)
        checks.choice("directions", directions, DIRECTIONS)
        files = [shipped_model(state) for state in MODELS.values()]
        super().__init__(
            first=files[0],
            second=files[1],
            judge=shipped_model("judge"),
            names=list(MODELS),
            planes=[plane_of(read_model(file), digits, directions, count) for file in files],
            labels="".join(map(str, digits.labels[:count].tolist())),
            total=len(digits),
            directions=directions,
            point=checked_point(point),
            t=checked_share(t),
            source=checks.count("source", source, 0, 9),
            target=checks.count("target", target, 0, 9),
            **traits,
        )
        self.record()

    @traitlets.validate("point", "t", "source", "target")
    def _check(self, proposal: dict) -> Any:
        name, value = proposal["trait"].name, proposal["value"]
        if name in ("source", "target"):
            return refused(lambda: checks.count(name, value, 0, 9))
        return refused(lambda: checked_point(value) if name == "point" else checked_share(value))

    def record(self) -> None:
        """Keep what both models draw in the present state, which is shown until they are there."""
        pictures, chances = self.answers()
        of = {name: getattr(self, name) for name in ("point", "t", "source", "target")}
        self.recorded = {"of": of, "chances": [[round(share, 4) for share in row] for row in chances.tolist()]}
        self.drawn = zlib.compress(grey_bytes(pictures).tobytes(), 9)

    def state(self) -> dict[str, Any]:
        """The saved traits, with a record of the state that they tell: a hand may have changed it."""
        self.record()
        return super().state()

    @torch.no_grad()
    def answers(self) -> tuple[Tensor, Tensor]:
        """What each model draws of the point, under the label and under the 11 of the row, [models, 1 + 11, 784], grey values
        0 to 1; and the judge's ten probabilities of each first one, [models, 10].
        """
        mixes = [self.t, *(k / MIXES for k in range(MIXES + 1))]
        y = torch.stack([soft_label(self.source, self.target, t) for t in mixes])
        models = [read_model(file) for file in (self.first, self.second)]
        pictures = torch.stack([
            model.decode(code(plane, self.point), y).sigmoid() for model, plane in zip(models, self.planes, strict=True)
        ])  # fmt: skip
        return pictures, read_model(self.judge)(pictures[:, :1].view(-1, 1, 28, 28)).softmax(1)

    def seen(self) -> list[int]:
        """What the judge sees in both drawings, as the figure stands."""
        return self.answers()[1].argmax(1).tolist()

    def asked(self) -> str:
        """The label in words."""
        return mixed(self.source, self.target, self.t)

    def describe(self) -> str:
        spread = " and ".join(
            f"{plane['between']:.0%} in the {name}" for name, plane in zip(self.names, self.planes, strict=True)
        )
        told = ", ".join(
            f"the {name} draws {a_digit(seen)}" for name, seen in zip(self.names, self.seen(), strict=True)
        )
        return (
            f"Two planes with the codes of {len(self.labels)} digits as figures of their class, over the prior's circles; of "
            f"the spread on them, {spread} lies between classes. Of the point ({self.point[0]:g}, {self.point[1]:g}) and the "
            f"label {self.asked()}, {told}, as the judge sees it. Below, both draw that point under labels that go from "
            f"{a_digit(self.source)} to {a_digit(self.target)}."
        )

    @book_style()
    def still(self) -> Figure:
        pictures, chances = self.answers()
        figure = BookFigure(figsize=(7.2, 4.2))
        for k, (name, plane) in enumerate(zip(self.names, self.planes, strict=True)):
            left, seen = 0.5 * k, int(chances[k].argmax())
            axes = figure.add_axes((left + 0.01, 0.4, 0.3, 0.51))
            draw_codes(axes, np.reshape(plane["codes"], (-1, 2)), self.labels, title=name)
            axes.plot(
                *self.point, "o", markersize=9, markerfacecolor="none", color="#222222", markeredgewidth=1.6, zorder=5
            )
            axes = figure.add_axes((left + 0.325, 0.6, 0.15, 0.26))
            draw_mosaic(axes, grey_bytes(pictures[k, :1]).reshape(1, 1, 28, 28))
            axes.set_xlabel(
                f"judge sees {a_digit(seen)}\n({chances[k].max():.0%})", fontsize=9, color="#222222", loc="left"
            )
            axes = figure.add_axes((0.01, 0.2 - 0.19 * k, 0.98, 0.13))
            draw_mosaic(axes, grey_bytes(pictures[k, 1:]).reshape(1, MIXES + 1, 28, 28))
            title = f"{name}, the label from {a_digit(self.source)} to {a_digit(self.target)}"
            axes.set_title(title, fontsize=9, loc="left", color="#222222", pad=2)
        figure.text(0.01, 0.97, f"label: {self.asked()}", fontsize=9.5, color="#222222")
        return figure


def checked_digits(digits: Any) -> Digits:
    """The digits on the CPU. Raises ValueError for another size and for fewer than three classes."""
    digits = checks.kind("digits", digits, Digits).to("cpu")
    if tuple(digits.images.shape[1:]) != (1, 28, 28) or len(digits.labels.unique()) < 3:
        raise ValueError(
            f"digits must have 28x28 pixels and be of at least three classes, got {list(digits.images.shape)} of "
            f"{len(digits.labels.unique())} classes: give the test digits"
        )
    return digits


def checked_point(point: Any) -> list[float]:
    """Two finite numbers that the point can have; raises ValueError for anything else."""
    values = checks.finite("point", point, [2], dtype=torch.float64).tolist()
    return [checks.number("point", round(value, 4), -REACH, REACH) for value in values]


def checked_share(t: Any) -> float:
    """A share that the slider can have, 0 to 1 in steps of 0.05; raises ValueError for anything else."""
    value = checks.number("t", t, 0, 1)
    if abs(value * TICKS - round(value * TICKS)) > 1e-6:
        raise ValueError(f"t must be a multiple of {1 / TICKS:g}, got {value:g}")
    return round(value * TICKS) / TICKS


@torch.no_grad()
def plane_of(model: ConditionalVAE, digits: Digits, directions: str = "classes", count: int = SHOWN) -> dict[str, Any]:
    """A plane through the prior's mean and where the digits' codes (posterior means) lie on it.

    "directions": two unit vectors [2, latent], the principal directions of the class means or of all codes, each with its
    largest entry positive; "explained": the share of the variance of those that each holds; "codes": of the first `count`
    digits, a and b by turns; "between": the share of the spread of all codes on the plane that lies between classes.
    """
    means, labels = model.infer(digits.images).mean.double(), digits.labels
    classes = labels.unique()
    middles = torch.stack([means[labels == label].mean(0) for label in classes])
    of = middles if directions == "classes" else means
    _, lengths, axes = torch.linalg.svd(of - of.mean(0), full_matrices=False)
    axes = axes[:2] * axes[:2].gather(1, axes[:2].abs().argmax(1, keepdim=True)).sign()
    codes = means @ axes.T
    own = (middles @ axes.T)[torch.searchsorted(classes, labels)]
    between = (own - codes.mean(0)).square().sum() / (codes - codes.mean(0)).square().sum()
    explained = lengths.square() / lengths.square().sum()
    return {
        "directions": [[round(value, 5) for value in axis] for axis in axes.tolist()],
        "explained": [round(share, 4) for share in explained[:2].tolist()],
        "codes": [round(value, 2) for value in codes[:count].flatten().tolist()],
        "between": round(between.item(), 4),
    }


def code(plane: dict[str, Any], point: list[float]) -> Tensor:
    """The code z [latent] of a point of a plane."""
    return torch.tensor(point, dtype=torch.float32) @ torch.tensor(plane["directions"], dtype=torch.float32)


def soft_label(source: int, target: int, t: float) -> Tensor:
    """y [10]: (1 - t) of one digit and t of the other."""
    y = torch.zeros(10, dtype=torch.float32)
    y[source] += 1 - t
    y[target] += t
    return y


def mixed(source: int, target: int, t: float) -> str:
    """A soft label in words."""
    share = round(100 * t)
    if source == target or share in (0, 100):
        return a_digit(target if share == 100 else source)
    return f"{100 - share} % {a_digit(source)} and {share} % {a_digit(target)}"
