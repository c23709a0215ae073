"""The plane of codes that figures share (plane.js), as a still picture."""

import numpy as np
from matplotlib.axes import Axes

# Of the ten classes: dark and light by turns, each also written as its figure; on light and on dark paper.
PALETTE = ("#0072B2", "#D55E00", "#009E73", "#B0528B", "#7d63c4", "#A87B00", "#2A9AC9", "#C0392B", "#6B8E23", "#777777")


def draw_codes(axes: Axes, codes: np.ndarray, labels: str, title: str = "") -> None:
    """The codes as figures of their class, over the circles of one and two standard deviations of the prior."""
    angle = np.linspace(0, 2 * np.pi, 200)
    for radius in (1, 2):
        axes.plot(radius * np.cos(angle), radius * np.sin(angle), "-", color="#777777", linewidth=0.9, zorder=3)
    for k, (colour, label) in enumerate((PALETTE[int(label)], label) for label in sorted(set(labels))):
        chosen = np.array([one == label for one in labels])
        axes.scatter(*codes[chosen].T, marker=f"${label}$", s=14, color=colour, linewidths=0, zorder=2 + k / 100)
    axes.set(xlim=(-3.5, 3.5), ylim=(-3.5, 3.5), xticks=[], yticks=[], aspect="equal")
    axes.grid(False)
    axes.spines[:].set_visible(False)
    axes.set_title(title or f"codes of {len(labels)} digits", fontsize=9, loc="left", color="#222222", pad=2)
