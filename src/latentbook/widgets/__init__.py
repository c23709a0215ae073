"""Interactive figures: each is a notebook widget and, from the same JavaScript, a figure of the built page."""

from latentbook.widgets.attention import AttentionWindow
from latentbook.widgets.base import StaticWidget
from latentbook.widgets.collapse import CollapseFigure
from latentbook.widgets.complete import CompleteFigure
from latentbook.widgets.contradict import ContradictFigure
from latentbook.widgets.evidence import EvidenceFigure
from latentbook.widgets.landscape import GradientExplorer
from latentbook.widgets.mixing import MixingFigure, draw_mask
from latentbook.widgets.relabel import RelabelFigure
from latentbook.widgets.repeat import RepeatFigure
from latentbook.widgets.sign import SignFigure
from latentbook.widgets.steer import SteerFigure
from latentbook.widgets.strips import StripsFigure

__all__ = [
    "AttentionWindow",
    "CollapseFigure",
    "CompleteFigure",
    "ContradictFigure",
    "EvidenceFigure",
    "GradientExplorer",
    "MixingFigure",
    "RelabelFigure",
    "RepeatFigure",
    "SignFigure",
    "StaticWidget",
    "SteerFigure",
    "StripsFigure",
    "draw_mask",
]
