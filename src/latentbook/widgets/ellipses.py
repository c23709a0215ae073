"""Gaussians of a class code seen in a plane, as the figures of chapter 03 draw them."""

from typing import Any

import numpy as np
import torch
from matplotlib.axes import Axes
from matplotlib.patches import Ellipse

TONE = "#CC79A7"
EDGES = {  # of the ellipses
    "prior": {"edgecolor": "#57606a", "linestyle": ":", "linewidth": 1.6},
    "one": {"edgecolor": "#57606a", "linewidth": 0.7},
    "product": {"edgecolor": TONE, "facecolor": TONE + "40", "linewidth": 2.2},
    "exact": {"edgecolor": TONE, "linestyle": (0, (4, 2)), "linewidth": 2.2},
}


def plane_through(code: np.ndarray, near: np.ndarray, spare: np.ndarray) -> np.ndarray:
    """Two directions at right angles, [2, class], of the plane through a code [class] and one or two centres [1 or 2, class].

    From the first centre to the second, and from that line to the code; `spare` [2, class] has directions for what coincides.
    """
    found: list[np.ndarray] = []
    for direction in (near[-1] - near[0], code - near[0], *spare):
        rest = direction - sum((direction @ one) * one for one in found)
        if (length := np.linalg.norm(rest)) > 1e-9 * max(1.0, float(np.linalg.norm(direction))) and len(found) < 2:
            found.append(rest / length)
    return np.stack(found)


def add_ellipse(
    axes: Axes, plane: np.ndarray, mean: torch.Tensor, log_var: torch.Tensor, kind: str, **look: Any
) -> None:
    """Two standard deviations of a diagonal Gaussian seen in a plane: its covariance there is P diag(var) P^T."""
    spread, turn = np.linalg.eigh((plane * log_var.exp().numpy()) @ plane.T)
    width, height = 4 * np.sqrt(spread.clip(0))
    angle = np.degrees(np.arctan2(turn[1, 0], turn[0, 0]))
    look = {"facecolor": "none", **EDGES[kind], **look}
    axes.add_patch(Ellipse(plane @ mean.numpy(), width, height, angle=angle, **look))
