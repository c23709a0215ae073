"""Sphinx extension: numbers for chapters, figures and display equations, and links from the text to them.

The notebooks stay plain Markdown. A chapter's number is that of its file; a figure is a cell's output with a picture or
an interactive figure, its caption the emphasised paragraph after the cell; "figure 3.4" and "equation (2.1)" in the
text become links. A reference to a number that does not exist is warned of, and so fails the build.
"""

import hashlib
import re
from collections.abc import Iterator
from pathlib import Path, PurePosixPath

from docutils import nodes
from sphinx.transforms import SphinxTransform
from sphinx.util import logging

log = logging.getLogger(__name__)
CHAPTER = re.compile(r"^(\d\d)-(?:.*(-experiments)$)?")
NUMBER = r"\(?[A-Z]?\d+\.\d+\)?"
REFERENCE = re.compile(
    rf"\b(?P<kind>figures?|equations?)\s+(?P<numbers>{NUMBER}(?:(?:,\s+and\s+|,\s+|\s+and\s+|\s+or\s+|\s+to\s+|–){NUMBER})*)",
    re.IGNORECASE,
)
LIVE = 'class="lb-static'
UNTOUCHED = (
    nodes.literal,
    nodes.FixedTextElement,
    nodes.math,
    nodes.math_block,
    nodes.raw,
    nodes.title,
    nodes.reference,
)


class Figure(nodes.General, nodes.Element):
    """A cell's outputs with their caption: <figure id="figure-3-4">."""


class Caption(nodes.General, nodes.TextElement):
    """The caption of a Figure: its number, a link to itself, the text."""


class Reference(nodes.Inline, nodes.TextElement):
    """A number in the text that leads to a figure or an equation of the book."""


def chapter_of(docname: str) -> str | None:
    """The number of a chapter's page, `3` or for its companion `E3`; None for every other page."""
    path = PurePosixPath(docname)
    if path.parent.name != "notebooks" or not (found := CHAPTER.match(path.name)):
        return None
    return ("E" if found[2] else "") + str(int(found[1]))


def anchor(kind: str, number: str) -> str:
    """`figure-3-4` for figure 3.4."""
    return f"{kind}-{number.lower().replace('.', '-')}"


def references(text: str) -> Iterator[tuple[int, int, str, str]]:
    """(start, end, kind, number) of each mention of a numbered figure or equation in a text.

    The first of "figures 3.4 and 3.5" includes its word, so that a link reads "figure 3.4".
    """
    for found in REFERENCE.finditer(text):
        kind, start = found["kind"].lower().rstrip("s"), found.start()
        for number in re.finditer(NUMBER, found["numbers"]):
            base = found.start("numbers")
            start = start if number.start() == 0 else base + number.start()
            yield start, base + number.end(), kind, number[0].strip("()")


def is_emphasised(paragraph: nodes.Node) -> bool:
    """Whether a paragraph is emphasised from end to end."""
    return isinstance(paragraph, nodes.paragraph) and all(
        isinstance(child, (nodes.emphasis, nodes.comment, nodes.raw)) or not child.astext().strip()
        for child in paragraph.children
    )


def has_bold_lead(paragraph: nodes.Node) -> bool:
    """Whether a paragraph begins with bold words."""
    first = next((child for child in paragraph.children if child.astext().strip()), None) if paragraph else None
    return isinstance(paragraph, nodes.paragraph) and isinstance(first, nodes.strong)


def after(node: nodes.Element) -> nodes.Node | None:
    """The next sibling that readers see."""
    parent = node.parent
    for sibling in parent.children[parent.index(node) + 1 :]:
        if not isinstance(sibling, nodes.comment):
            return sibling
    return None


def pictures(cell: nodes.Element) -> nodes.Element | None:
    """The outputs of a cell if a picture or an interactive figure is among them."""
    for child in cell.children:
        if isinstance(child, nodes.container) and child.get("nb_element") == "cell_code_output":
            live = any(LIVE in raw.astext() for raw in child.findall(nodes.raw))
            return child if live or next(child.findall(nodes.image), None) is not None else None
    return None


def is_live(outputs: nodes.Element) -> bool:
    return any(LIVE in raw.astext() for raw in outputs.findall(nodes.raw))


class Number(SphinxTransform):
    """Number a chapter's title, figures and display equations, and find the references of any page."""

    default_priority = 860  # after the text is whole, before the title is collected for the table of contents

    def apply(self, **kwargs) -> None:
        found = {"figure": [], "equation": [], "references": [], "live": []}
        if number := chapter_of(self.env.docname):
            self.title(number)
            self.figures(number, found)
            self.equations(number, found)
        self.mark_references(found["references"])
        numbers_of(self.env)[self.env.docname] = found

    def title(self, number: str) -> None:
        title = next(iter(self.document.findall(nodes.title)), None)
        if title is not None:
            title.insert(0, [nodes.inline(text=f"{number}.", classes=["lb-chapter"]), nodes.Text(" ")])

    def figures(self, chapter: str, found: dict) -> None:
        """Make a Figure of each cell's outputs with a picture; those inside a folded solution stay as they are."""
        cells = [
            (cell, outputs)
            for cell in self.document.findall(nodes.container)
            if cell.get("nb_element") == "cell_code" and cell.get("hide_mode") != "all" and (outputs := pictures(cell))
        ]
        # A chapter has one style of caption: emphasised or, where it has none of these, led by bold words.
        captioned = any(is_emphasised(after(cell)) for cell, _ in cells)
        is_caption = is_emphasised if captioned else has_bold_lead
        for place, (cell, outputs) in enumerate(cells, 1):
            number = f"{chapter}.{place}"
            figure = Figure(
                ids=[anchor("figure", number)], number=number, live=is_live(outputs), nb_element="cell_code_output"
            )
            text = after(cell)
            text = text if is_caption(text) else None
            if text is not None:
                text.parent.remove(text)
            cell.replace(outputs, figure)
            figure += [outputs, caption(number, text)]
            figure.source, figure.line = outputs.source, outputs.line
            found["figure"].append(number)
            if figure["live"]:
                found["live"].append(number)

    def equations(self, chapter: str, found: dict) -> None:
        domain = self.env.get_domain("math")
        for place, block in enumerate(self.document.findall(nodes.math_block), 1):
            number = f"{chapter}.{place}"
            block["number"] = number
            block["ids"].insert(0, anchor("equation", number))
            if block.get("label") in domain.equations:  # so that {eq}`label` says the same number
                domain.equations[block["label"]] = (self.env.docname, number)
            found["equation"].append(number)

    def mark_references(self, found: list) -> None:
        for text in list(self.document.findall(nodes.Text)):
            if is_untouched(text) or not (places := list(references(text))):
                continue
            parts, done = [], 0
            for start, end, kind, number in places:
                parts += [nodes.Text(text[done:start]), Reference("", text[start:end], kind=kind, number=number)]
                found.append((kind, number, line_of(text)))
                done = end
            text.parent.replace(text, [part for part in [*parts, nodes.Text(text[done:])] if part.astext()])


def is_untouched(node: nodes.Node) -> bool:
    """Whether a node stands where nothing becomes a link: in code, formulas, titles, links."""
    while node := node.parent:
        if isinstance(node, UNTOUCHED):
            return True
    return False


def line_of(node: nodes.Node) -> int | None:
    while node is not None:
        if getattr(node, "line", None):
            return node.line
        node = node.parent
    return None


def caption(number: str, text: nodes.paragraph | None) -> Caption:
    """The caption's node; a text emphasised from end to end is set upright, as the caption's own style sets it apart."""
    children = [] if text is None else list(text.children)
    if text is not None and is_emphasised(text):
        children = [c for child in children for c in (child.children if isinstance(child, nodes.emphasis) else [child])]
    return Caption("", "", *children, number=number, anchor=anchor("figure", number))


def numbers_of(env) -> dict[str, dict]:
    """{page: what is numbered on it and what it refers to}, kept between builds."""
    if not hasattr(env, "lb_numbers"):
        env.lb_numbers = {}
    return env.lb_numbers


def target(env, kind: str, number: str) -> tuple[str, str] | None:
    """The page and anchor of a numbered thing, None where there is none."""
    for docname, found in numbers_of(env).items():
        if number in found[kind]:
            return docname, anchor(kind, number)
    return None


def check(app, env) -> None:
    """Warn of each reference to a number that does not exist, also on pages that have not changed."""
    for docname, found in numbers_of(env).items():
        for kind, number, line in found["references"]:
            if target(env, kind, number) is None:
                log.warning("there is no %s %s", kind, number, location=(docname, line))


def link(app, doctree, docname) -> None:
    """Turn references into links; one that leads nowhere stays text."""
    for node in list(doctree.findall(Reference)):
        text = nodes.Text(node.astext())
        if found := target(app.env, node["kind"], node["number"]):
            page, place = found
            uri = "" if page == docname else app.builder.get_relative_uri(docname, page)
            text = nodes.reference("", "", text, refuri=f"{uri}#{place}", internal=True, classes=["lb-numbered"])
        node.replace_self(text)


def purge(app, env, docname) -> None:
    numbers_of(env).pop(docname, None)


def merge(app, env, docnames, other) -> None:
    numbers_of(env).update({name: numbers_of(other)[name] for name in docnames if name in numbers_of(other)})


def open_figure(self, node) -> None:
    focus = {"tabindex": "-1"} if node["live"] else {}  # a skip link puts the focus here
    self.body.append(self.starttag(node, "figure", CLASS="lb-figure" + " lb-live" * node["live"], **focus))


def close_figure(self, node) -> None:
    self.body.append("</figure>\n")


def open_caption(self, node) -> None:
    self.body.append(f'<figcaption><p><span class="lb-number">Figure {node["number"]}</span> ')


def close_caption(self, node) -> None:
    self.body.append(
        f'<a class="headerlink" href="#{node["anchor"]}" title="Link to this figure">#</a></p></figcaption>\n'
    )


def no_op(self, node) -> None:
    """Other writers show the children."""


def setup(app):
    # Numbers are given when a page is read: pages are read again when this file changes.
    app.add_config_value("numbering_source", hashlib.sha256(Path(__file__).read_bytes()).hexdigest(), "env")
    app.add_node(Figure, html=(open_figure, close_figure), text=(no_op, no_op), latex=(no_op, no_op))
    app.add_node(Caption, html=(open_caption, close_caption), text=(no_op, no_op), latex=(no_op, no_op))
    app.add_node(Reference, html=(no_op, no_op), text=(no_op, no_op), latex=(no_op, no_op))
    app.add_transform(Number)
    app.connect("env-purge-doc", purge)
    app.connect("env-merge-info", merge)
    app.connect("env-check-consistency", check)
    app.connect("doctree-resolved", link)
    return {"parallel_read_safe": True, "parallel_write_safe": True, "env_version": 1}
