"""ModelFigure: what figures that run shipped models in the page share."""

from typing import Any

from latentbook.widgets.base import StaticWidget
from latentbook.widgets.export import ShippedModel


class ModelFigure(StaticWidget):
    """A StaticWidget whose traits may hold shipped models: its saved HTML names them, as {"model": name}.

    The site's builder puts each in a file beside the pages, one for all figures that name it.
    """

    def state(self) -> dict[str, Any]:
        given = {name: getattr(self, name) for name in self._saved}
        named = {name: {"model": value.name} for name, value in given.items() if isinstance(value, ShippedModel)}
        return super().state() | named
