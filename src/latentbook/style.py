"""The book's look, for all that draws."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from importlib.resources import as_file, files

LATENT = "#009E73"
TRAINING, HELD_OUT = "#222222", "#777777"  # curves of a training, solid, and of held-out data, dashed with open dots


def curve(held_out: bool, kl: bool = False) -> dict[str, object]:
    """How a loss curve is drawn: training solid, held out dashed with open dots; a KL in the latent's green, others in ink."""
    colour = LATENT if kl else HELD_OUT if held_out else TRAINING
    if not held_out:
        return {"color": colour, "linestyle": "-", "marker": "", "linewidth": 1.8}
    dots = {"marker": "o", "markersize": 3.5, "markerfacecolor": "#ffffff"}
    return {"color": colour, "linestyle": (0, (4, 2)), "linewidth": 1.4, **dots}


@contextmanager
def book_style() -> Iterator[None]:
    """Draw in the book's look, whatever the reader's settings are, and leave those as they were. Decorates functions too."""
    import matplotlib.pyplot as plt  # here: training draws curves, but only where it is asked to

    interactive = plt.isinteractive()
    try:
        with as_file(files("latentbook") / "latentbook.mplstyle") as path, plt.style.context(path, after_reset=True):
            try:
                yield
            finally:
                interactive = plt.isinteractive()
    finally:  # no matter of looks: a notebook's backend turns it on when it makes its first figure, which may be ours
        plt.rcParams["interactive"] = interactive
