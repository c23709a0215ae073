"""The front page's figure: chapter 04's window on ten digits, kept in book/window.html."""

from pathlib import Path

import torch
from torch import Tensor

from latentbook.data import Digits
from latentbook.figures import nth_of
from latentbook.files import check_writable, write_whole
from latentbook.localisation import Localisation
from latentbook.spatial_transformer import window_to_image
from latentbook.widgets.attention import AttentionWindow

WHERE = (2.0, 0.7, 0.4)  # of the 3: as in the chapter's examples
CAPTION = (
    "Where to look is a latent of three numbers, a scale and two shifts. Drag the window over the digit, pull its corners, or "
    "use the arrow keys, + and −. The crop is what a network would be given to read; pasted back, it stands where it was taken."
)


def front_window(digits: Digits) -> AttentionWindow:
    """A window on ten canvases of one digit each: the second of its kind in `digits`, placed as in chapter 04.

    digits: MNIST's test digits; of any others the chapter's are not among them. Raises ValueError where there are fewer than
    two of a kind.
    """
    ten = digits.take(torch.cat([nth_of(digits, label, 1) for label in range(10)]))
    canvas, _ = Localisation().scene(ten.images, torch.Generator().manual_seed(3))
    canvas[3] = window_to_image(ten.images[3:4], torch.tensor([WHERE]).to(ten.images), canvas.shape[-1])[0]
    return window_on(canvas[:, 0])


def window_on(scenes: Tensor) -> AttentionWindow:
    """The figure on scenes [10, height, width] of the digits 0 to 9, the 3 chosen and in its window."""
    names = [f"a {label}" for label in range(10)]
    return AttentionWindow(scenes, where=WHERE, scene=3, names=names, caption=CAPTION)


def write_front_window(path: str | Path, digits: Digits) -> None:
    """The figure with its still picture as HTML, made anew, written whole or not at all."""
    check_writable(path, "the front page's figure")
    write_whole(path, front_window(digits).to_html() + "\n")
