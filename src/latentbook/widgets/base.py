"""What every interactive figure shares: one JavaScript source for notebook and page, and a still picture."""

import base64
import html
import io
import json
from pathlib import Path
from typing import Any, ClassVar

import anywidget
import traitlets
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure

from latentbook import checks
from latentbook.figures.plots import book_style

HERE = Path(__file__).parent


def compose(name: str, suffix: str, *shared: str) -> str:
    """base, what a widget shares with some others, and its own source in one text, as anywidget wants it.

    The site's bundler does the same.
    """
    return "\n".join((HERE / f"{stem}{suffix}").read_text(encoding="utf-8") for stem in ("base", *shared, name))


class Whole(traitlets.Int):
    """A whole number, numpy's too, kept as a plain one."""

    def validate(self, obj: Any, value: Any) -> int:
        try:
            value = checks.count(self.name, value, least=-(2**53))  # what JavaScript can count to
        except ValueError:
            self.error(obj, value)
        return super().validate(obj, value)


class Real(traitlets.Float):
    """A finite number, numpy's too, kept as a plain one."""

    def validate(self, obj: Any, value: Any) -> float:
        try:
            value = checks.number(self.name, value)
        except ValueError:
            self.error(obj, value)
        return super().validate(obj, value)


class StaticWidget(anywidget.AnyWidget):
    """An anywidget that also saves an HTML form of itself, with a still picture, for where no kernel or script runs.

    A live notebook shows the widget. The built page takes the HTML: a div with the state as JSON, from which
    book/_ext/boot.js starts the same JavaScript module. Inside the div stands a still picture with its explanation.

    A subclass sets `_name` (its .js and .css beside this file), `_saved` (the traits that make up its state: JSON
    values or bytes), `_esm` and `_css` (from `compose`), `caption`, and overrides `still` and `describe`.
    """

    _name: ClassVar[str] = ""
    _saved: ClassVar[tuple[str, ...]] = ()
    _still_note: ClassVar[str] = "A still picture: run the notebook, or open the page with scripts on, to play with it."
    caption: ClassVar[str] = ""

    # ipywidgets 7, which Colab has, shows itself by this method, past _repr_mimebundle_ and so without the still picture
    _ipython_display_ = None

    def __init__(self, **traits: Any) -> None:
        """Raises ValueError for a name that is no trait, which traitlets would only warn of."""
        names = [name for name in self.trait_names() if not name.startswith("_")]
        checks.known_names(f"{type(self).__name__}(...)", traits, names)
        super().__init__(**traits)

    def still(self) -> Figure:
        """The figure in its present state, drawn by matplotlib."""
        raise NotImplementedError(f"{type(self).__name__} must draw its still picture")

    def describe(self) -> str:
        """What the still picture shows, for those who do not see it (its alt text)."""
        raise NotImplementedError(f"{type(self).__name__} must describe its still picture")

    def state(self) -> dict[str, Any]:
        """The saved traits as JSON values; bytes become base64."""
        values = {name: getattr(self, name) for name in self._saved}
        return {k: base64.b64encode(v).decode() if isinstance(v, bytes) else v for k, v in values.items()}

    def to_html(self, png: bytes | None = None) -> str:
        """The div that the built page brings to life, the still picture inside."""
        png = png if png is not None else render_png(self.still())
        picture = (
            f'<img alt="{html.escape(self.describe())}" src="data:image/png;base64,{base64.b64encode(png).decode()}">'
        )
        words = f"{html.escape(self.caption)} <em>{html.escape(self._still_note)}</em>"
        state = html.escape(json.dumps(self.state(), separators=(",", ":")))
        return (
            f'<div class="lb-static" data-name="{self._name}" data-state="{state}">'
            f'<figure class="lb-still">{picture}<figcaption>{words}</figcaption></figure></div>'
        )

    def _repr_mimebundle_(self, **kwargs: Any) -> tuple[dict, dict]:
        found = None if self.comm is None else super()._repr_mimebundle_(**kwargs)  # None: it has been closed
        data, metadata = found if isinstance(found, tuple) else (found or {}, {})
        png = render_png(self.still())
        data = {
            **data,
            "text/plain": repr(self),
            "text/html": self.to_html(png),
            "image/png": base64.b64encode(png).decode(),
        }
        return data, metadata

    def __repr__(self) -> str:
        return f"{type(self).__name__}()"  # the same in every run: no memory address, no model id


def render_png(figure: Figure, dpi: int = 144) -> bytes:
    """The figure as a PNG on opaque paper, cut to what is drawn; the same bytes for the same figure, whatever is set."""
    out = io.BytesIO()
    with book_style():
        FigureCanvasAgg(figure).print_figure(out, dpi=dpi, format="png", facecolor="white", metadata={"Software": None})
    return out.getvalue()
