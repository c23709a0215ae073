"""The book's look, for all that draws."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from importlib.resources import as_file, files


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
