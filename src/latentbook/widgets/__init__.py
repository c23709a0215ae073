"""Interactive figures: each is a notebook widget and, from the same JavaScript, a figure of the built page."""

from latentbook.widgets.base import StaticWidget
from latentbook.widgets.mixing import MixingFigure, draw_mask

__all__ = ["MixingFigure", "StaticWidget", "draw_mask"]
