"""Sphinx extension: folded code says what it does, and each chapter has a switch that shows all code.

A cell folds by its tag: `hide-input` its code, `hide-cell` all of it. The words of a fold come from the cell: what it
draws, makes or sets up, and how many lines it has.
"""

from html import escape

from assets import add_script
from docutils import nodes
from myst_nb.sphinx_ import HideCodeCellNode
from sphinx.transforms.post_transforms import SphinxPostTransform

SWITCH = '<button type="button" class="lb-show-code" hidden>Show all code</button>'  # fold.js shows it


class Fold(nodes.General, nodes.Element):
    """What a reader opens: <details> with words that say what is inside."""


def lines(code: str) -> str:
    count = len(code.strip().splitlines())
    return f"{count} line{'s' * (count != 1)}"


def words(code: str, whole: bool = False, figure: str | None = None, table: bool = False) -> str:
    """What the fold of a cell says.

    whole: its outputs fold with it. figure: the number of the figure that it draws. table: a table is among its outputs.
    """
    first = code.strip().split("\n", 1)[0]
    if whole:
        return f"A solution in code, with its output ({lines(code)})"
    if "%pip" in code:
        what = "installs the library where it is missing"
    elif figure:
        what = f"draws figure {figure}"
    elif table:
        what = "makes the table below"
    elif first.startswith(("import ", "from ")):
        what = "imports and set-up"
    else:
        return f"Show the code ({lines(code)})"
    return f"Code: {what} ({lines(code)})"


class NameFolds(SphinxPostTransform):
    """Put a Fold in the place of each hidden part of a cell."""

    default_priority = 210  # after HideInputCells has made them
    formats = ("html",)

    def run(self, **kwargs) -> None:
        for cell in list(self.document.findall(nodes.container)):
            if cell.get("nb_element") == "cell_code" and cell.get("hide_mode"):
                self.name(cell)

    def name(self, cell: nodes.container) -> None:
        whole, hidden = cell["hide_mode"] == "all", cell.children[0]
        sources = (n for n in hidden.findall(nodes.container) if n.get("nb_element") == "cell_code_source")
        source = next(sources, None)
        if not isinstance(hidden, HideCodeCellNode) or source is None:
            return  # outputs alone are hidden: the words of the theme do
        figure = next((n["number"] for n in cell.children[1:] if n.get("number")), None)
        table = next(cell.findall(nodes.table), None) is not None
        cell[0] = Fold("", *hidden.children, words=words(source.astext(), whole, figure, table), whole=whole)


def open_fold(self, node) -> None:
    kind = "lb-solution" if node["whole"] else "lb-code"
    self.body.append(f'<details class="lb-fold {kind}">\n<summary>{escape(node["words"])}</summary>\n')


def close_fold(self, node) -> None:
    self.body.append("</details>\n")


def has_folds(doctree) -> bool:
    return any(not fold["whole"] for fold in doctree.findall(Fold))


def setup(app):
    app.add_node(Fold, html=(open_fold, close_fold))
    app.add_post_transform(NameFolds)
    app.connect("builder-inited", lambda app: add_script(app, "fold.js"))
    app.add_js_file("latentbook/fold.js", loading_method="defer")
    return {"parallel_read_safe": True, "parallel_write_safe": True}
