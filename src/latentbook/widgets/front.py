"""The front page's figures, kept beside it: a digit to contradict (contradict.html), and chapter 04's window (window.html)."""

from pathlib import Path

import torch
from torch import Tensor

from latentbook.data.digits import Digits
from latentbook.figures.plots import nth_of
from latentbook.files import check_writable, write_whole
from latentbook.layers.spatial_transformer import window_to_image
from latentbook.models.localisation import Localisation
from latentbook.widgets.attention import AttentionWindow
from latentbook.widgets.contradict import ContradictFigure
from latentbook.words import a_digit

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
    names = [a_digit(label) for label in range(10)]
    return AttentionWindow(scenes, where=WHERE, scene=3, names=names, caption=CAPTION)


def write_front_figures(folder: str | Path, digits: Digits) -> None:
    """Both figures with their still pictures as HTML, made anew, each written whole or not at all.

    Raises ValueError as `front_window` does, OSError where the folder cannot be written.
    """
    figures = {"contradict.html": ContradictFigure(), "window.html": front_window(digits)}
    for name in figures:
        check_writable(Path(folder) / name, "a figure of the front page")
    for name, figure in figures.items():
        write_whole(Path(folder) / name, figure.to_html() + "\n")
