"""What the drawing pad (pad.js) makes of strokes, for still pictures and tests; and digits to begin with, drawn for this book."""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch

from latentbook import checks
from latentbook.data.scenes import draw_strokes

Strokes = Sequence[Any]  # of strokes: lists, arrays or tensors of points (x, y)
# The width of MNIST's strokes: twice an image's ink over the length of its outline (the sum over pixels of the gradient's
# length). Over the 60,000 training images its median is 2.36 pixels and its mean 2.45; this pen gives the sample digits 2.39.
PEN = 2.5
# The same for digits resized to 24 pixels, as scenes have them: 2.25 and 2.34, and 2.29 with this pen, which is wider than
# 24/28 of the other since resizing blurs.
STAMP_PEN = 2.4
SAMPLES: dict[str, list] = json.loads((Path(__file__).parent / "strokes.json").read_text(encoding="utf-8"))
BOX, MIDDLE = 20 / 28, 14.5 / 28  # shares of the side: MNIST's centre of mass lies on the pixel right below the middle
MOST = 8  # the largest enlargement: a tap with a trembling finger stays a dot
FAR, LARGEST = 1e6, 4096  # pixels from the corner that a point may be away, and of the side of a picture


def rasterise(strokes: Strokes, size: int = 28, width: float = PEN) -> np.ndarray:
    """Strokes of points (x, y), in pixels from the upper left corner, as grey values 0 to 1, float32 [size, size].

    One point alone makes a dot. Strokes, and points in them, may be lists, arrays or tensors. Raises ValueError for a stroke
    without points, points that are not two finite numbers of at most a million, and a size or a width that cannot be.
    """
    lines, size, width = _points(strokes), *_pen(size, width)
    drawn = [[*map(tuple, (line.repeat(2, 0) if len(line) == 1 else line).tolist())] for line in lines]
    return draw_strokes(drawn, size, width)[0, 0].numpy()


def centred(strokes: Strokes, size: int = 28, width: float = PEN) -> list[list[list[float]]]:
    """Strokes as MNIST's digits are placed: ink in a box of 20 x 20 of 28 x 28 pixels, then moved by whole pixels until
    its centre of mass lies on the pixel below and right of the middle. Strokes of any scale; none give none.

    Raises ValueError as `rasterise` does, and for a pen that is wider than the box or too thin to leave ink.
    """
    strokes, size, width = _points(strokes), *_pen(size, width)
    if width >= BOX * size:
        raise ValueError(
            f"a pen of width {width:g} is too wide for a size of {size}: it must be below {BOX * size:.3g}"
        )
    if not strokes:
        return []
    points = np.concatenate(strokes)
    low, high = points.min(0), points.max(0)
    extent = float((high - low).max())
    scale = min((BOX * size - width) / extent, MOST) if extent > 0 else 1.0
    placed = [(stroke - (low + high) / 2) * scale + size / 2 for stroke in strokes]
    ink, middles = rasterise(placed, size, width).astype(float), np.arange(size) + 0.5
    if not ink.any():
        raise ValueError(f"a pen of width {width:g} leaves no ink here: give a wider one, such as {PEN}")
    mass = np.array([(ink.sum(axis) * middles).sum() / ink.sum() for axis in (0, 1)])
    shift = np.floor(MIDDLE * size - mass + 0.5)
    return [(stroke + shift).tolist() for stroke in placed]


def drawing(strokes: Any) -> list[list[list[float]]]:
    """Strokes of points [x, y] from 0 to 28, to a tenth of a pixel, as the pad has them.

    Raises ValueError as `rasterise` does, and for points that are not on the pad.
    """
    found = _points(strokes)
    if outside := [stroke for stroke in found if stroke.min() < 0 or stroke.max() > 28]:
        raise ValueError(f"a stroke on the pad has places between 0 and 28 pixels, got {str(outside[0].tolist())[:60]}")
    return [[[round(value, 1) for value in point] for point in stroke.tolist()] for stroke in found]


def _points(strokes: Any) -> list[np.ndarray]:
    """Strokes as arrays of points, float64 [points, 2]. Raises ValueError as `rasterise` does."""
    if not isinstance(strokes, list | tuple | np.ndarray | torch.Tensor) or getattr(strokes, "ndim", 1) == 0:
        raise ValueError(f"strokes must be a list of strokes, each a list of points (x, y), got {strokes!r}")
    found = []
    for stroke in strokes:
        hint = "a stroke is a list of points (x, y)"
        given = checks.as_tensor("a stroke", stroke, hint, torch.float64)
        points = checks.finite("a stroke", given, ("points", 2), torch.float64, hint=hint).detach().cpu().numpy()
        if abs(points).max() > FAR:
            raise ValueError(f"the points of a stroke must lie within {FAR:g} pixels, got one at {abs(points).max():g}")
        found.append(points)
    return found


def _pen(size: Any, width: Any) -> tuple[int, float]:
    """The size of a picture and the width of a pen as plain numbers. Raises ValueError as `rasterise` does."""
    return checks.count("size", size, 1, LARGEST), checks.number("width", width, 0, open_low=True)
