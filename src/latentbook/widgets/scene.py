"""What the figures with an attention window share: a scene, the window over it, and how both are drawn."""

from typing import Any

import torch
import traitlets
from matplotlib.axes import Axes
from matplotlib.patches import Rectangle
from torch import Tensor

from latentbook.figures.plots import COLOURS
from latentbook.layers.spatial_transformer import box_corners, image_to_window, window_to_image
from latentbook.widgets.base import StaticWidget, Whole
from latentbook.widgets.checks import checked_where, in_single
from latentbook.widgets.sprites import unpack

MARGIN = 0.15  # of the scene, on each side: there the box of a window that leaves the scene still shows


class ScenesWidget(StaticWidget):
    """A figure with scenes of one size, one of which is shown."""

    sheet = traitlets.Unicode().tag(sync=True)
    packing = traitlets.Dict().tag(sync=True)
    scene = Whole(0).tag(sync=True)

    @traitlets.validate("scene")
    def _check_scene(self, proposal: dict) -> int:
        count = len(self.packing["places"]) if self.packing else 1
        if not 0 <= proposal["value"] < count:
            raise traitlets.TraitError(f"scene must be between 0 and {count - 1}, got {proposal['value']}")
        return proposal["value"]

    @property
    def size(self) -> tuple[int, int]:
        """Height and width of a scene in pixels."""
        return self.packing["height"], self.packing["width"]

    def picture(self) -> Tensor:
        """The scene that is shown, [height, width], in the 256 greys in which it is kept."""
        return torch.from_numpy(unpack(self.sheet, self.packing)[self.scene] / 255).float()


class SceneWidget(ScenesWidget):
    """A figure with scenes and a window over one of them; `where` is synced in both directions."""

    window = Whole(28).tag(sync=True)
    where = traitlets.Any((3.0, 0.0, 0.0)).tag(sync=True)  # three floats; checked below

    @traitlets.validate("where")
    def _check_where(self, proposal: dict) -> tuple[float, float, float]:
        try:
            return checked_where("where", proposal["value"])
        except ValueError as error:
            raise traitlets.TraitError(str(error)) from error

    def crop(self, where: Any = None) -> Tensor:
        """What the window sees, [window, window]; or what a window at `where` would see."""
        where = in_single(self.where if where is None else where)
        return image_to_window(self.picture()[None, None], where[None], self.window)[0, 0]

    def pasted(self) -> Tensor:
        """The crop pasted back on an empty canvas, [height, width]."""
        return window_to_image(self.crop()[None, None], in_single(self.where)[None], self.size)[0, 0]

    def corners(self) -> list[float]:
        """The window's box: left, top, right, bottom in the scene's pixels, from the outer edge of the first."""
        return box_corners(in_single(self.where), self.size).tolist()


def show_picture(axes: Axes, picture: Tensor, title: str, margin: float = 0.0) -> None:
    """A picture [height, width] as dark ink on white with pixel edges at whole numbers, and an empty margin around it."""
    height, width = picture.shape
    axes.imshow(picture.numpy(), cmap="gray_r", vmin=0, vmax=1, interpolation="nearest", extent=(0, width, height, 0))
    axes.add_patch(Rectangle((0, 0), width, height, fill=False, edgecolor="#bbbbbb", linewidth=0.8))
    axes.set(xlim=(-margin * width, (1 + margin) * width), ylim=((1 + margin) * height, -margin * height))
    axes.text(0, -0.02 * height, title, va="bottom", fontsize=9.5, color="#444444")
    axes.set_axis_off()


def draw_box(axes: Axes, corners: list[float], linestyle: str | tuple = "-") -> None:
    """A window's box by its left, top, right and bottom edge."""
    left, top, right, bottom = corners
    style = {"edgecolor": COLOURS["attention"], "linewidth": 1.8, "linestyle": linestyle, "clip_on": True}
    axes.add_patch(Rectangle((left, top), right - left, bottom - top, fill=False, **style))
