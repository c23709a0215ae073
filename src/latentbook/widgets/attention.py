"""AttentionWindow: a window that is dragged over a scene, what it sees, and that pasted back."""

from collections.abc import Sequence
from typing import Any, ClassVar

import traitlets
from matplotlib.figure import Figure
from torch import Tensor

from latentbook import checks
from latentbook.figures.plots import BookFigure, book_style
from latentbook.layers.spatial_transformer import affine_from_where, invert
from latentbook.widgets.base import compose
from latentbook.widgets.checks import checked_where, chosen, grey, in_single, whole, words
from latentbook.widgets.scene import MARGIN, SceneWidget, draw_box, show_picture
from latentbook.widgets.sprites import pack


class AttentionWindow(SceneWidget):
    """A scene with a window to drag, the crop under it, and the crop pasted back on an empty canvas.

    scenes: grey values 0 to 1 [n, height, width] (nested lists, an array or a tensor).
    where: (scale, shift_x, shift_y) as in `latentbook.layers.spatial_transformer`. It is synced: `figure.where` follows the
        hand, `figure.observe(f, "where")` calls f at every move, and setting it moves the window.
    window: how many pixels the crop has on each side. scene: which one is shown. names: a word for each scene.
    reading: whether to show the sampling grid, and the four pixels that `pixel` = (column, row) of the crop reads.

    Raises ValueError for values that do not fit together, and says what would.
    """

    _name: ClassVar[str] = "attention"
    _saved: ClassVar[tuple[str, ...]] = (
        "sheet", "packing", "names", "scene", "window", "where", "reading", "pixel", "caption",
    )  # fmt: skip
    _esm = compose("attention", ".js", "sampling", "scene")
    _css = compose("attention", ".css", "scene")

    names = traitlets.List().tag(sync=True)
    reading = traitlets.Bool(False).tag(sync=True)
    pixel = traitlets.Any((14, 14)).tag(sync=True)  # two whole numbers; checked below
    caption = traitlets.Unicode(
        "Drag the window, pull its corners, scroll over it, pinch it, or use the arrow keys, + and −. The crop reads the "
        "scene at the inverse of A; pasting it back reads the crop at A itself. A scale s above 1 is a window smaller than "
        "the scene; its centre lies at −t / s."
    ).tag(sync=True)

    def __init__(
        self,
        scenes: Any,
        *,
        where: Any = (3.0, 0.0, 0.0),
        window: int = 28,
        scene: int = 0,
        names: Sequence[str] | None = None,
        pixel: Sequence[int] | None = None,
        **traits: Any,
    ) -> None:
        pictures = grey("scenes", scenes, "n height width")
        window = checks.count("window", window)
        sheet, packing = pack(pictures)
        super().__init__(
            sheet=sheet,
            packing=packing,
            names=words("names", names, len(pictures), "scene"),
            scene=chosen("scene", scene, len(pictures)),
            window=window,
            where=checked_where("where", where),
            pixel=place("pixel", (window // 2, window // 2) if pixel is None else pixel, window),
            **traits,
        )

    @traitlets.validate("pixel")
    def _check_pixel(self, proposal: dict) -> tuple[int, int]:
        try:
            return place("pixel", proposal["value"], self.window)
        except ValueError as error:
            raise traitlets.TraitError(str(error)) from error

    def describe(self) -> str:
        (height, width), (scale, x, y) = self.size, self.where
        left, top, right, bottom = (f"{edge:.1f}" for edge in self.corners())
        return (
            f"Left, a scene of {width} by {height} pixels and on it a window with scale {scale:g} and shifts {x:g} and "
            f"{y:g}: from {left} to {right} across and from {top} to {bottom} down. Middle, the crop under the window, "
            f"{self.window} by {self.window} pixels, read at the inverse of A. Right, the crop pasted back on an empty "
            "canvas, read at A: it stands where the window stands."
        )

    @book_style()
    def still(self) -> Figure:
        side, gap = 2.05, 0.3  # inches: every picture is drawn to the scale of the scene
        margin, across, tall = (
            MARGIN * side,
            3 * side + 2 * MARGIN * side + 2 * gap + 0.03,
            (1 + 2 * MARGIN) * side + 0.25,
        )
        figure, rooms, left = BookFigure(figsize=(across, tall)), [], 0.0
        for picture, title, edge in (
            (self.picture(), "scene", margin),
            (self.crop(), "crop", 0.0),
            (self.pasted(), "pasted back", 0.0),
        ):
            wide = side + 2 * edge
            box = (left / across, (0.25 + margin - edge) / tall, wide / across, wide / tall)
            rooms.append(figure.add_axes(box))
            show_picture(rooms[-1], picture, title, edge / side)
            left += wide + gap
        draw_box(rooms[0], self.corners())
        draw_box(rooms[1], [0, 0, self.window, self.window])
        draw_box(rooms[2], self.corners(), linestyle="--")
        forward, back = (affine_from_where(w) for w in (in_single(self.where), invert(in_single(self.where))))
        for room, text in ((rooms[1], in_brackets("A⁻¹ = ", back)), (rooms[2], in_brackets("A = ", forward))):
            room.text(
                0, -0.05, text, transform=room.transAxes, va="top", family="monospace", fontsize=8.5, color="#222222"
            )
        return figure


def place(name: str, value: Any, window: int) -> tuple[int, int]:
    """(column, row) of a window's pixel as plain integers; raises ValueError for anything else."""
    column, row = whole(name, value, "2", window)
    return column, row


def in_brackets(name: str, matrix: Tensor) -> str:
    """A 2x3 matrix as two lines of text."""
    top, bottom = (
        " ".join(f"{value:6.3f}".replace("-", "−") if value else "     0" for value in row) for row in matrix.tolist()
    )
    return f"{name}⎡{top} ⎤\n{' ' * len(name)}⎣{bottom} ⎦"
