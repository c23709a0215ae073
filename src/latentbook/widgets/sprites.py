"""Many small pictures in one PNG: how figures that show digits carry them, to the byte, into notebook and page."""

import base64
import io
import math
from typing import Any

import numpy as np
import torch
from PIL import Image  # a dependency of matplotlib

from latentbook import checks, figures

PREFIX = "data:image/png;base64,"


def grey(name: str, values: Any, axes: str) -> np.ndarray:
    """Grey values 0 to 1 (lists, an array or a tensor) as bytes 0 to 255, rounded, never rescaled by their own maximum.

    axes: as in `numbers`. Raises ValueError for another shape, an empty axis, and values that are no grey values.
    """
    return figures.grey(name, values, lengths(axes)).double().mul(255).round().to(torch.uint8).numpy()


def numbers(name: str, values: Any, axes: str) -> np.ndarray:
    """Finite numbers of one shape (lists, an array or a tensor) as float64.

    axes: what the dimensions are, as in "frames rows columns height width"; a number there is a length that must hold.
    Raises ValueError for another shape, an empty axis, and values that are not numbers or not finite.
    """
    return figures.numbers(name, values, lengths(axes)).numpy()


def probabilities(name: str, values: Any, axes: str, hint: str) -> np.ndarray:
    """Numbers (see `numbers`) between 0 and 1; raises ValueError for others. hint: what to give."""
    found = numbers(name, values, axes)
    if found.min() < 0 or found.max() > 1:
        raise ValueError(f"{name} must lie between 0 and 1, got {found.min():g} to {found.max():g}: {hint}")
    return found


def whole(name: str, values: Any, axes: str, count: int) -> list:
    """Integers between 0 and count - 1 of one shape (see `numbers`) as nested lists; raises ValueError for anything else."""
    found = checks.shaped(name, checks.as_tensor(name, values), lengths(axes))
    plain = checks.class_numbers(name, found.detach().cpu().flatten()).view(found.shape)
    if plain.min() < 0 or plain.max() >= count:
        raise ValueError(f"{name} must lie between 0 and {count - 1}, got {plain.min()} to {plain.max()}")
    return plain.tolist()


def lengths(axes: str) -> list[int | str]:
    """The axes one by one, numbers as such."""
    return [int(axis) if axis.isdigit() else axis for axis in axes.split()]


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
