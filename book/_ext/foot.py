"""Sphinx extension: the foot of every page: licence, version, how to cite, and where to report an error in a section.

All it says comes from one place each: licence and version from pyproject.toml, the citation from CITATION.cff, the address
from `project.urls` there. A report of an error starts as an issue whose title names the page and the section.
"""

import re
from html import escape
from pathlib import Path
from urllib.parse import quote

from docutils import nodes

ENTRY = """@misc{{latentbook{year},
  title = {{{title}}},
  author = {{{{{author}}}}},
  year = {{{year}}},
  version = {{{version}}},
  url = {{{url}}}
}}"""


def field(text: str, name: str) -> str:
    """One `name = "value"` of TOML or `name: value` of YAML. Raises LookupError where it is missing."""
    found = re.search(rf'^\s*-?\s*{re.escape(name)}\s*[:=]\s*"?([^"\n#]+?)"?\s*(?:#.*)?$', text, re.MULTILINE)
    if not found:
        raise LookupError(f"no {name} in it")
    return found[1]


def facts(root: Path) -> dict[str, str]:
    """Title, authors, year, version, licence and address of the book, from pyproject.toml, CITATION.cff and _config.yml."""
    project, citation, config = (
        (root / name).read_text(encoding="utf-8") for name in ("pyproject.toml", "CITATION.cff", "_config.yml")
    )
    return {
        "title": field(citation, "title"),
        "author": field(citation, "name"),
        "year": field(config, "copyright"),
        "version": field(project, "version"),
        "licence": field(project, "license"),
        "address": field(project, "Repository"),
    }


def bibtex(book: dict[str, str]) -> str:
    """The book as a BibTeX entry; its author is a body, so it stands in braces of its own."""
    return ENTRY.format(url=book["address"], **{name: book[name] for name in ("title", "author", "year", "version")})


def report(address: str, page: str, section: str, version: str) -> str:
    """The address at which a new issue starts, titled by page and section."""
    title = quote(f"Error in {page}: {section}" if section and section != page else f"Error in {page}")
    asked = quote(f"What is wrong, and what would be right:\n\n\n(version {version})")
    return f"{address}/issues/new?title={title}&body={asked}"


def sections(doctree: nodes.Node | None) -> list[tuple[str, str]]:
    """(anchor, title) of a page's headings of the first two levels, the page's own first."""
    found = []
    for part in doctree.findall(nodes.section) if doctree is not None else []:
        depth = sum(isinstance(node, nodes.section) for node in ancestors(part))
        title = part.next_node(nodes.title)
        if depth < 2 and title is not None and part["ids"]:
            found.append((part["ids"][0], title.astext()))
    return found


def ancestors(node: nodes.Node):
    while (node := node.parent) is not None:
        yield node


def foot(book: dict[str, str], page: str, parts: list[tuple[str, str]]) -> str:
    """The foot of one page as HTML. `parts` are its sections; the first is the page itself."""
    version, address = escape(book["version"]), escape(book["address"])
    links = "".join(
        f'<li><a href="{escape(report(book["address"], page, title, book["version"]))}">{escape(title)}</a></li>'
        for _, title in parts[1:]
    )
    whole = escape(report(book["address"], page, "", book["version"]))
    error = f'<a class="lb-report" href="{whole}">report it</a>'
    which = f"<details><summary>Report an error in a section</summary><ul>{links}</ul></details>" if links else ""
    licence = f'<a href="{address}/blob/main/LICENSE">{escape(book["licence"])} licence</a>'
    return (
        '<aside class="lb-foot" aria-label="About this page">'
        f"<p>{escape(book['title'])}, version {version}, {licence}. An error on this page? Please {error}.</p>"
        f"{which}"
        '<details><summary>How to cite</summary><div class="highlight-bibtex notranslate"><div class="highlight">'
        f"<pre>{escape(bibtex(book))}</pre></div></div></details></aside>"
    )


def add_foot(app, pagename, templatename, context, doctree) -> None:
    """Append the foot to the body of every page that has text."""
    if "body" not in context:
        return
    parts = sections(doctree)
    page = parts[0][1] if parts else re.sub(r"<[^>]+>", "", context.get("title", pagename))
    context["body"] += foot(app.config.lb_book, page, parts)


def read_facts(app, config) -> None:
    """A change of what the foot says writes every page anew, as any change of the configuration does."""
    config.lb_book = facts(Path(app.srcdir))


def setup(app):
    app.add_config_value("lb_book", {}, "html")
    app.connect("config-inited", read_facts)
    app.connect("html-page-context", add_foot, priority=600)  # after the record of the run
    return {"parallel_read_safe": True, "parallel_write_safe": True}
