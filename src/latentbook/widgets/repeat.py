"""RepeatFigure: a trained Attend-Infer-Repeat on scenes, step by step, with windows that can be moved."""

import math
from collections.abc import Iterable, Sequence
from typing import Any, ClassVar, NamedTuple

import numpy as np
import torch
import traitlets
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from torch import Tensor

from latentbook import checks
from latentbook.figures.plots import COLOURS, BookFigure, book_style
from latentbook.layers.spatial_transformer import box_corners, image_to_window, window_to_image
from latentbook.widgets.base import Real, Whole, compose
from latentbook.widgets.checks import checked_where, chosen, grey, in_single, numbers, probabilities, whole, words
from latentbook.widgets.decoders import pack_layers, through, unpack_layers, what_vae
from latentbook.widgets.scene import MARGIN, ScenesWidget, draw_box, show_picture
from latentbook.widgets.sprites import pack

DASHES = ("-", (0, (4, 2)), (0, (1, 1.2)))  # of the windows, in turn; their numbers tell the rest apart


class Steps(NamedTuple):
    """What every step sees and paints through its window, whether it is used or not; numbers of float64."""

    crops: Tensor  # [steps, window, window]
    mean: Tensor  # of the code, [steps, what]
    log_var: Tensor
    decoded: Tensor  # [steps, window, window]
    pasted: Tensor  # [steps, height, width]


class RepeatFigure(ScenesWidget):
    """Attend, infer, repeat on real scenes, with the what-VAE in the page: move a window and see what it makes of the crop.

    scenes: grey values 0 to 1 [n, height, width] (nested lists, an array or a tensor).
    where: the windows that the model infers, (scale, shift_x, shift_y) [n, steps, 3]. `figure.where` holds those of the
        shown scene, as the reader leaves them, and is synced.
    presence: the probability of each step's object, given that the step is reached [n, steps].
    encoder: weights and biases of a hidden layer of ReLU, which gets a square window, and of (mean, log-variance) of its code.
    decoder: those of a hidden layer of ReLU and of the window's logits, to which `output_bias` is added; both as
        list(model.what.encoder.parameters()). They are kept in 8 bits.
    counts: how many objects the scenes truly hold, integers [n]. names: a word for each scene.
    variance: of a Gaussian likelihood; with it the squared error is told in nats, ||x - canvas||^2 / (2 variance). As in
        the model's loss, that canvas is the sum itself; what is shown of it is clamped to [0, 1].
    scene: which one is shown. stage: how far the walk is, 3 for each step (attend, infer, paint) and a last one; None: all.

    Raises ValueError for values that do not fit together, and says what would.
    """

    _name: ClassVar[str] = "repeat"
    _saved: ClassVar[tuple[str, ...]] = (
        "sheet", "packing", "names", "counts", "inferred", "presence", "network", "shapes", "variance", "scene", "stage",
        "step", "where", "caption",
    )  # fmt: skip
    _esm = compose("repeat", ".js", "sampling", "scene", "layers")
    _css = compose("repeat", ".css", "scene")

    names = traitlets.List().tag(sync=True)
    counts = traitlets.List().tag(sync=True)
    inferred = traitlets.List().tag(sync=True)  # the model's windows [n][steps][3]
    presence = traitlets.List().tag(sync=True)
    network = traitlets.Bytes().tag(sync=True)  # four layers, as pack_layers makes them
    shapes = traitlets.List().tag(sync=True)  # of these layers
    variance = Real(None, allow_none=True).tag(sync=True)
    stage = Whole(0).tag(sync=True)
    step = Whole(0).tag(sync=True)  # whose window is in hand
    where = traitlets.List().tag(sync=True)  # [steps][3], the shown scene's windows
    caption = traitlets.Unicode(
        "Windows are numbered, dashed differently, and found one after the other. Drag a window, pull its corners, or use the "
        "arrow keys, + and −: its crop, the code (bars: posterior means, lines: one standard deviation to either side), "
        "the decoded window and the canvas follow at once. Presence, the count and the other windows stay the model’s: "
        "the recurrent network that infers them does not run in this page."
    ).tag(sync=True)

    def __init__(
        self,
        scenes: Any,
        where: Any,
        presence: Any,
        *,
        encoder: Iterable[Any],
        decoder: Iterable[Any],
        output_bias: float,
        counts: Any = None,
        names: Sequence[str] | None = None,
        variance: float | None = None,
        scene: int = 0,
        stage: int | None = None,
        **traits: Any,
    ) -> None:
        pictures = grey("scenes", scenes, "n height width")
        n = len(pictures)
        windows = numbers("where", where, f"{n} steps 3")
        if windows[..., 0].min() <= 0:
            raise ValueError(
                f"where must have positive scales, its first numbers, got {windows[..., 0].min():g} as one"
            )
        steps = windows.shape[1]
        odds = probabilities("presence", presence, f"{n} {steps}", "give probabilities, not logits")
        layers = what_vae(encoder, decoder, checks.number("output_bias", output_bias))
        truth = [] if counts is None else whole("counts", counts, f"{n}", 100)
        variance = None if variance is None else checks.number("variance", variance, 0, open_low=True)
        sheet, packing = pack(pictures)
        inferred, scene = windows.round(5).tolist(), chosen("scene", scene, n)
        last = 3 * int(count_probabilities(odds[scene].round(5)).argmax()) + 1
        stage = last if stage is None else chosen("stage", stage, last + 1)
        super().__init__(
            sheet=sheet,
            packing=packing,
            names=words("names", names, n, "scene"),
            counts=truth,
            inferred=inferred,
            presence=odds.round(5).tolist(),
            network=pack_layers(layers),
            shapes=[list(weight.shape) for weight, _ in layers],
            variance=variance,
            scene=scene,
            stage=stage,
            step=in_hand(stage, last),
            where=inferred[scene],
            **traits,
        )
        self.observe(self._show_scene, "scene")

    def _show_scene(self, change: dict) -> None:
        """A scene that is chosen from Python appears with all of its steps and the model's windows, as in the page."""
        self.where = self.inferred[self.scene]
        self.stage = 3 * self.count + 1
        self.step = in_hand(self.stage, self.stage)

    @traitlets.validate("where")
    def _check_where(self, proposal: dict) -> list[list[float]]:
        value, steps = proposal["value"], len(self.inferred[0]) if self.inferred else len(proposal["value"])
        try:
            found = [list(checked_where("where", window)) for window in value]
        except ValueError as error:
            raise traitlets.TraitError(f"each step's {error}") from error
        if len(found) != steps:
            raise traitlets.TraitError(f"where must hold a window for each of {steps} steps, got {len(found)}")
        return found

    @traitlets.validate("stage", "step")
    def _check_walk(self, proposal: dict) -> int:
        name, value = proposal["trait"].name, proposal["value"]
        most = 0 if not self.presence else 3 * self.count + 1 if name == "stage" else len(self.presence[0]) - 1
        if self.presence and not 0 <= value <= most:
            raise traitlets.TraitError(f"{name} must be between 0 and {most} in this scene, got {value}")
        return value

    @property
    def window(self) -> int:
        """How many pixels a crop has on each side."""
        return math.isqrt(self.shapes[0][1])

    @property
    def count_posterior(self) -> np.ndarray:
        """q(n) of the shown scene, n = 0..steps."""
        return count_probabilities(np.asarray(self.presence[self.scene]))

    @property
    def count(self) -> int:
        """The most probable number of objects in the shown scene: so many steps are used."""
        return int(self.count_posterior.argmax())

    def steps(self) -> Steps:
        """Every step of the shown scene through its present window, as the page computes it."""
        where = in_single(self.where)
        crops = image_to_window(self.picture().expand(len(where), 1, -1, -1), where, self.window)
        layers = unpack_layers(self.network, self.shapes)
        mean, log_var = torch.from_numpy(through(layers[:2], crops.flatten(1).numpy())).chunk(2, 1)
        decoded = torch.from_numpy(through(layers[2:], mean.numpy())).sigmoid().view_as(crops)
        return Steps(
            crops[:, 0], mean, log_var, decoded[:, 0], window_to_image(decoded, where.double(), self.size)[:, 0]
        )

    def canvas(self, painted: int | None = None) -> Tensor:
        """The sum of the first `painted` pasted windows, None: of all that are used; [height, width], not yet clamped."""
        return self.steps().pasted[: self.count if painted is None else painted].sum(0)

    def error(self, painted: int | None = None) -> float:
        """The squared error of that canvas, summed over pixels; in nats where the variance is given."""
        total = (self.picture() - self.canvas(painted)).square().sum().item()
        return total if self.variance is None else total / (2 * self.variance)

    def describe(self) -> str:
        (height, width), odds = self.size, self.presence[self.scene]
        said = ", ".join(f"step {k} with probability {p:.2f}" for k, p in enumerate(odds, 1))
        used = f"{self.count} {'window is' if self.count == 1 else 'windows are'} used"
        return (
            f"Left, a scene of {width} by {height} pixels with numbered windows. Middle, step by step: the crop under the "
            f"window, its code, and the decoded window. Something is there at {said}, each if it is reached; {used}. "
            f"Right, the canvas, which is the sum of the pasted windows, with a squared error of {self.error():.1f}"
            f"{'' if self.variance is None else ' nats'}, and the posterior of the count, most probable {self.count}."
        )

    @book_style()
    def still(self) -> Figure:
        side, tile, top, odds = 1.75, 0.6, 0.27, self.presence[self.scene]  # inches
        edge, pitch, seen = MARGIN * side, tile + 0.13, self.steps()
        middle = side + 2 * edge + 0.35
        right = middle + 3 * tile + 0.8
        across, tall = right + side + 0.03, max(top + len(odds) * pitch, top + side + 1.05)
        figure = BookFigure(figsize=(across, tall))

        def room(x: float, y: float, w: float, h: float) -> Axes:  # in inches, from the upper left corner
            return figure.add_axes((x / across, 1 - (y + h) / tall, w / across, h / tall))

        def say(x: float, y: float, text: str, **look: Any) -> None:
            figure.text(x / across, 1 - y / tall, text, fontsize=9, color="#444444", **look)

        scene = room(0, top - edge, side + 2 * edge, side + 2 * edge)
        show_picture(scene, self.picture(), "scene", MARGIN)
        show_picture(canvas := room(right, top, side, side), self.canvas().clamp(0, 1), "canvas")
        for k, corners in enumerate(box_corners(in_single(self.where), self.size).tolist()[: self.count]):
            for axes in (scene, canvas):
                draw_box(axes, corners, DASHES[k % 3])
            scene.text(*corners[:2], str(k + 1), ha="right", va="bottom", fontsize=10, fontweight="bold", clip_on=True)
        say(middle - 0.12, top - 0.07, "presence", ha="right", va="center")
        for k, p in enumerate(odds):
            y = top + k * pitch
            say(middle - 0.08, y + tile / 2, f"{k + 1}: {p:.2f}", ha="right", va="center")
            if k >= self.count:
                say(middle, y + tile / 2, "not used", va="center")
                continue
            for x, picture, title in ((0, seen.crops[k], "crop"), (2 * tile + 0.5, seen.decoded[k], "decoded")):
                show_picture(axes := room(middle + x, y, tile, tile), picture, title if k == 0 else "")
                draw_box(axes, [0, 0, self.window, self.window], DASHES[k % 3])
            draw_code(
                room(middle + tile + 0.1, y, tile + 0.3, tile), seen.mean[k].numpy(), seen.log_var[k].numpy(), k == 0
            )
        counts = room(right, top + side + 0.35, side, 0.45)
        counts.bar(range(len(odds) + 1), self.count_posterior, color=COLOURS["presence"], width=0.6)
        counts.set(ylim=(0, 1), yticks=[], xticks=range(len(odds) + 1))
        counts.set_title("posterior of the count", fontsize=9.5, loc="left", color="#444444", pad=3)
        counts.grid(False)
        counts.tick_params(length=0, labelsize=9)
        counts.spines[["top", "right", "left"]].set_visible(False)
        return figure


def draw_code(axes: Axes, mean: np.ndarray, log_var: np.ndarray, titled: bool) -> None:
    """The posterior of a code: a bar for each mean, and a line of one standard deviation to either side."""
    axes.bar(range(len(mean)), mean, color=COLOURS["latent"], width=0.7)
    axes.errorbar(range(len(mean)), mean, np.exp(0.5 * log_var), fmt="none", ecolor="#222222", elinewidth=0.6)
    axes.axhline(0, color="#888888", linewidth=0.6)
    axes.set(ylim=(-2.5, 2.5))
    axes.text(0, 1.04, "code" if titled else "", transform=axes.transAxes, fontsize=9.5, color="#444444")
    axes.set_axis_off()


def count_probabilities(presence: np.ndarray) -> np.ndarray:
    """q(n), n = 0..steps, where presence [steps] stops at the first absence: p_1 ... p_n (1 - p_(n+1))."""
    return np.append(1, presence.cumprod()) * np.append(1 - presence, 1)


def in_hand(stage: int, last: int) -> int:
    """The step that a stage of the walk ends with; at its last stage no step is added."""
    return max(0, math.ceil(min(stage, last - 1) / 3) - 1)
