"""GradientExplorer: the loss of a window's crop against a target over both shifts, and gradient descent on it."""

from typing import Any, ClassVar

import numpy as np
import torch
import torch.nn.functional as F
import traitlets
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.patches import Rectangle
from torch import Tensor

from latentbook import checks
from latentbook.figures.plots import COLOURS, BookFigure, book_style
from latentbook.layers.spatial_transformer import box_corners, image_to_window
from latentbook.widgets.base import Real, compose
from latentbook.widgets.checks import checked_where, grey, in_single
from latentbook.widgets.scene import MARGIN, SceneWidget, draw_box, show_picture
from latentbook.widgets.sprites import pack

ARROW = 10  # steps: the length of the arrow, or a step of good size could not be seen


class GradientExplorer(SceneWidget):
    """Which way a window is pulled: the mean squared error between its crop and a target crop, for every shift.

    picture: a scene, grey values 0 to 1 [height, width] (nested lists, an array or a tensor).
    target: the (scale, shift_x, shift_y) whose crop is to be matched. where: where the window stands at first; it is
        synced, as AttentionWindow's. rate: step size of the descent, synced too. window: pixels of a crop on each side.

    Raises ValueError for values that do not fit together, and says what would.
    """

    _name: ClassVar[str] = "landscape"
    _saved: ClassVar[tuple[str, ...]] = ("sheet", "packing", "window", "target", "where", "rate", "caption")
    _esm = compose("landscape", ".js", "sampling", "scene")
    _css = compose("landscape", ".css", "scene")

    target = traitlets.Any((3.0, 0.0, 0.0)).tag(sync=True)  # as where
    rate = Real(0.5).tag(sync=True)
    caption = traitlets.Unicode(
        "Gradient descent on the two shifts, to make the crop equal the target. The landscape lies over the scene: each of its "
        "places is a window's centre, dark where the loss is low, hatched where it is level and the gradient exactly "
        "zero. The arrow is ten steps long. A lower scale, a larger window, feels the digit from farther away."
    ).tag(sync=True)

    def __init__(
        self,
        picture: Any,
        target: Any,
        *,
        where: Any = (3.0, 0.0, 0.0),
        window: int = 28,
        rate: float = 0.5,
        **traits: Any,
    ) -> None:
        sheet, packing = pack(grey("picture", picture, "height width")[None])
        super().__init__(
            sheet=sheet,
            packing=packing,
            window=checks.count("window", window),
            target=checked_where("target", target),
            where=checked_where("where", where),
            rate=checked_rate(rate),
            **traits,
        )

    @traitlets.validate("target")
    def _check_target(self, proposal: dict) -> tuple[float, float, float]:
        try:
            return checked_where("target", proposal["value"])
        except ValueError as error:
            raise traitlets.TraitError(str(error)) from error

    @traitlets.validate("rate")
    def _check_rate(self, proposal: dict) -> float:
        try:
            return checked_rate(proposal["value"])
        except ValueError as error:
            raise traitlets.TraitError(str(error)) from error

    def loss(self, where: Any = None) -> Tensor:
        """The mean squared error between the crop at `where` (a [3] or [n, 3] tensor; the window's if None) and the target."""
        where = in_single(self.where) if where is None else where
        crops = image_to_window(
            self.picture().to(where).expand(where.numel() // 3, 1, -1, -1), where.view(-1, 3), self.window
        )
        target = self.crop(self.target).to(where)
        return (
            F.mse_loss(crops[:, 0], target.expand_as(crops[:, 0]), reduction="none").mean((1, 2)).view(where.shape[:-1])
        )

    def gradient(self) -> tuple[float, float]:
        """The slope of the loss along shift_x and shift_y at the window."""
        where = in_single(self.where).requires_grad_()
        (slope,) = torch.autograd.grad(self.loss(where), where)
        return slope[1].item(), slope[2].item()

    def landscape(self, count: int = 53) -> tuple[Tensor, Tensor]:
        """Losses [count, count] of windows of the present scale whose centres lie on a grid over the scene and its margin.

        The second tensor is true where the loss is level: its gradient along both shifts is exactly zero.
        """
        places = torch.linspace(-1, 1, count, dtype=torch.float32) * (1 + 2 * MARGIN)
        y, x = torch.meshgrid(places, places, indexing="ij")
        scale = self.where[0]
        where = torch.stack([torch.full_like(x, scale), -scale * x, -scale * y], -1).view(-1, 3).requires_grad_()
        losses = self.loss(where)
        (slopes,) = torch.autograd.grad(losses.sum(), where)
        return losses.detach().view(count, count), (slopes[:, 1:] == 0).all(1).view(count, count)

    def describe(self) -> str:
        scale, x, y = self.where
        slope = self.gradient()
        pull = "exactly zero" if slope == (0, 0) else f"({slope[0]:.4f}, {slope[1]:.4f})"
        return (
            f"Left, a scene of {self.size[1]} by {self.size[0]} pixels with a window of scale {scale:g} and shifts {x:g} and "
            f"{y:g}, and dashed the target's place. Middle, the loss for every shift at this scale, as contour lines over "
            f"the scene: low around the target, level far from all ink. At the window the loss is {self.loss().item():.4f} and "
            f"its gradient {pull}. Right, the target crop and the crop of the window."
        )

    @book_style()
    def still(self) -> Figure:
        side, gap, pad = 2.05, 0.3, 0.25  # inches
        wide = (1 + 2 * MARGIN) * side
        across, tall, small = 2.5 * wide + 2 * gap + 0.03, wide + pad, 0.5 * wide - pad
        figure = BookFigure(figsize=(across, tall))

        def room(x: float, y: float, size: float):
            return figure.add_axes((x / across, y / tall, size / across, size / tall))

        scene, ground = room(0, 0, wide), room(wide + gap, 0, wide)
        height, width = self.size
        show_picture(scene, self.picture(), "scene", MARGIN)
        draw_box(scene, box_corners(in_single(self.target), self.size).tolist(), linestyle="--")
        draw_box(scene, self.corners())
        self.draw_ground(ground)
        left, top, right, bottom = self.corners()
        start, slope, long = (
            ((left + right) / 2, (top + bottom) / 2),
            self.gradient(),
            ARROW * self.rate / self.where[0] / 2,
        )
        end = (start[0] + long * slope[0] * width, start[1] + long * slope[1] * height)
        for axes in (scene, ground):
            axes.annotate(
                "", end, start, arrowprops={"arrowstyle": "->", "color": COLOURS["attention"], "linewidth": 2}
            )
        ground.plot(*start, "o", color=COLOURS["attention"], markersize=6)
        for y, title, crop, style in (
            (small + pad, "target", self.crop(self.target), "--"),
            (0, "crop", self.crop(), "-"),
        ):
            axes = room(2 * (wide + gap), y, small)
            show_picture(axes, crop, title)
            draw_box(axes, [0, 0, self.window, self.window], linestyle=style)
        return figure

    def draw_ground(self, axes: Axes) -> None:
        """The landscape in the scene's pixels: contour lines, hatched where it is level."""
        height, width = self.size
        losses, level = (values.numpy() for values in self.landscape())
        x, y = (np.linspace(-MARGIN * n, (1 + MARGIN) * n, len(losses)) for n in (width, height))
        depth = (losses.max() - losses) / (losses.max() - losses.min() + 1e-12)
        axes.contourf(x, y, depth**2, levels=50, cmap="gray_r", vmin=0, vmax=1 / 0.6)
        axes.contour(x, y, losses, levels=9, colors="#666666", linewidths=0.7)
        hatched = axes.contourf(x, y, level * 1.0, levels=(0.5, 1.5), colors="none", hatches=["////"])
        hatched.set(edgecolor="#aaaaaa", linewidth=0)
        axes.add_patch(Rectangle((0, 0), width, height, fill=False, edgecolor="#777777", linestyle=":"))
        axes.text(x[0], y[0] - 0.02 * height, "loss for every shift", va="bottom", fontsize=9.5, color="#444444")
        axes.set(xlim=(x[0], x[-1]), ylim=(y[-1], y[0]))
        axes.set_axis_off()


def checked_rate(rate: Any) -> float:
    """A step size; raises ValueError unless it is a positive, finite number."""
    return checks.number("rate", rate, 0, open_low=True)
