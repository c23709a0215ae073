"""Sphinx extension: tables that can be read: numbers stand under each other, and what is too wide says that it goes on.

Columns of numbers are set flush right at build time (`align_numbers`). tables.css fits tables into the page from 1024 px on;
where one still is wider than its box, tables.js makes the box reachable by keyboard and names it, and its edge fades.
"""

import re
from pathlib import Path

from docutils import nodes

SCRIPT = Path(__file__).with_suffix(".js")
NUMBER = re.compile(  # a number, its spread or range, its unit
    r"[-−+~≈<>≤≥]?\s*\d[\d,.]*(\s*(±|to|[-–])\s*\d[\d,.]*)?\s*(%|s|ms|min|h|nats?|×|x|px)?"
)
EMPTY = {"", "-", "–", "—"}
SIDES = {"text-left", "text-right", "text-center"}


def is_number(text: str) -> bool:
    """Whether a cell holds a number alone: with a sign, a spread, a unit or a share."""
    return bool(NUMBER.fullmatch(text.strip().strip("*_")))


def numeric_columns(rows: list[list[str]]) -> set[int]:
    """The columns in which every cell that says something is a number, and one at least is."""
    width = min((len(row) for row in rows), default=0)
    columns = ([row[index].strip() for row in rows] for index in range(width))
    said = ([text for text in column if text not in EMPTY] for column in columns)
    return {index for index, texts in enumerate(said) if texts and all(map(is_number, texts))}


def align_numbers(app, doctree, docname) -> None:
    """Set columns of numbers, with their headings, flush right; other columns keep what their author said."""
    for table in doctree.findall(nodes.table):
        body = [list(row.findall(nodes.entry)) for part in table.findall(nodes.tbody) for row in part]
        for text in [text for row in body for entry in row for text in entry.findall(nodes.Text) if "± " in text]:
            text.parent.replace(text, nodes.Text(text.replace("± ", "±\u00a0")))  # a spread breaks off whole, if at all
        for index in numeric_columns([[entry.astext() for entry in row] for row in body]):
            heads = [list(row.findall(nodes.entry)) for part in table.findall(nodes.thead) for row in part]
            for row in [*heads, *body]:
                if index < len(row):
                    row[index]["classes"] = [c for c in row[index]["classes"] if c not in SIDES] + ["text-right"]


def add_script(app, pagename, templatename, context, doctree) -> None:
    if "<table" in context.get("body", ""):
        app.add_js_file(SCRIPT.name, loading_method="defer")


def setup(app):
    app.config.html_static_path.append(str(SCRIPT))
    app.connect("doctree-resolved", align_numbers)
    app.connect("html-page-context", add_script)
    return {"parallel_read_safe": True, "parallel_write_safe": True}
