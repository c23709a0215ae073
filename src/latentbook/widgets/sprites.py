"""Many small pictures in one PNG: how figures that show digits carry them, to the byte, into notebook and page."""

import base64
import io
import math
from collections.abc import Sequence
from typing import Any

import numpy as np
from matplotlib.axes import Axes
from PIL import Image  # a dependency of matplotlib
from torch import Tensor

PREFIX = "data:image/png;base64,"


def pack(pictures: np.ndarray) -> tuple[str, dict[str, Any]]:
    """Pictures uint8 [n, height, width] as one sheet, about as wide as high, in which equal ones stand once.

    Returns the sheet, an 8-bit grey PNG as a data URI, and its packing: "places" holds each picture's number on the
    sheet, counted row by row with "across" in a row of pictures "height" by "width". `sprites` in base.js reads both.
    Raises ValueError for anything but such pictures.
    """
    if pictures.dtype != np.uint8 or pictures.ndim != 3 or 0 in pictures.shape:
        raise ValueError(
            f"pictures must be uint8 [n, height, width], got {pictures.dtype} {list(pictures.shape)}; "
            "make them with grey() and reshape them"
        )
    known: dict[bytes, int] = {}
    places = [known.setdefault(picture.tobytes(), len(known)) for picture in pictures]
    _, height, width = pictures.shape
    across = max(1, round(math.sqrt(len(known) * height / width)))
    down = -(-len(known) // across)
    tiles = np.zeros((down * across, height, width), np.uint8)
    tiles[places] = pictures
    out = io.BytesIO()
    Image.fromarray(lay(tiles.reshape(down, across, height, width), margin=0)).save(out, format="PNG", optimize=True)
    sheet = PREFIX + base64.b64encode(out.getvalue()).decode()
    return sheet, {"places": places, "across": across, "height": height, "width": width}


def grey_bytes(pictures: Tensor) -> np.ndarray:
    """Decoder means, grey values 0 to 1 on the CPU, as bytes 0 to 255 of the same shape, rounded. (`checks.grey` asks first.)"""
    return (255 * pictures + 0.5).byte().numpy()


def unpack(sheet: str, packing: dict[str, Any]) -> np.ndarray:
    """The pictures as they were packed, uint8 [n, height, width]."""
    with Image.open(io.BytesIO(base64.b64decode(sheet.removeprefix(PREFIX)))) as image:
        pixels = np.asarray(image)
    height, width, across = (packing[name] for name in ("height", "width", "across"))
    tiles = pixels.reshape(-1, height, across, width).swapaxes(1, 2).reshape(-1, height, width)
    return tiles[packing["places"]]


def lay(pictures: np.ndarray, margin: int = 1) -> np.ndarray:
    """Pictures [rows, columns, height, width] as one, with a margin of empty pixels around each, as the figures lay them."""
    edge = (margin, margin)
    padded = np.pad(pictures, ((0, 0), (0, 0), edge, edge))
    rows, columns, height, width = padded.shape
    return padded.swapaxes(1, 2).reshape(rows * height, columns * width)


def draw_mosaic(axes: Axes, pictures: np.ndarray, labels: Sequence[str] = ()) -> None:
    """Pictures uint8 [rows, columns, height, width] as dark ink on white, with labels above the columns."""
    width = pictures.shape[3] + 2
    axes.imshow(lay(pictures), cmap="gray_r", vmin=0, vmax=255, interpolation="nearest")
    axes.set(xticks=[], yticks=[], anchor="NW")
    axes.grid(False)
    axes.spines[:].set_visible(False)
    if labels:
        axes.xaxis.tick_top()
        axes.set_xticks([width * (i + 0.5) - 0.5 for i in range(len(labels))], labels, fontsize=8)
    axes.tick_params(length=0, pad=1)
