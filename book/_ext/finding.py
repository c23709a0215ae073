"""Sphinx extension: the search lands on sections and says what stands there in words, without raw TeX.

Sphinx's index knows only which words a page has. Here each section's text goes into a script that the search page
loads (so that it also works from the folder, where nothing can be fetched), and search.js looks in it.
"""

import json
from collections.abc import Iterator
from pathlib import Path

import plain
from assets import add_script
from docutils import nodes
from sphinx import addnodes

KEPT = "sections.json"  # between builds: pages that have not changed are not written again


def sections(doctree: nodes.document) -> Iterator[tuple[str, str, str, str]]:
    """(anchor, title, prose, code) of each section of a page, and of each documented name."""
    for node in doctree.findall(lambda n: isinstance(n, (nodes.section, addnodes.desc))):
        if isinstance(node, nodes.section):
            title = next((child for child in node.children if isinstance(child, nodes.title)), None)
            name, anchors = plain.text(title) if title is not None else "", node["ids"]
        else:
            signature = next(iter(node.findall(addnodes.desc_signature)))
            name, anchors = signature.get("fullname", ""), signature["ids"]
        said, code = [], []
        for part in parts(node):
            (code if is_code(part) else said).append(part.astext() if is_code(part) else plain.text(part))
        if anchors:
            yield anchors[0], name, " ".join(filter(None, said)), " ".join(" ".join(code).split())


def parts(node: nodes.Node) -> Iterator[nodes.Node]:
    """What stands in a section itself, its title and the sections inside it left out; paragraphs and code one by one."""
    for child in node.children:
        if isinstance(child, (nodes.section, nodes.title, addnodes.desc, addnodes.desc_signature)):
            continue
        leaf = is_code(child) or isinstance(child, (nodes.TextElement, nodes.table, nodes.raw))
        yield from [child] if leaf else parts(child)


def is_code(node: nodes.Node) -> bool:
    return isinstance(node, (nodes.literal_block, nodes.doctest_block))


def collect(app, doctree, docname) -> None:
    if app.builder.format == "html":
        app.env.lb_sections = getattr(app.env, "lb_sections", {})
        app.env.lb_sections[docname] = list(sections(doctree))


def write(app, exception) -> None:
    """Write the sections of all pages, those written in this build over those kept from the last."""
    if exception is not None or app.builder.format != "html":
        return
    kept = Path(app.doctreedir, KEPT)
    pages = json.loads(kept.read_text(encoding="utf-8")) if kept.exists() else {}
    pages |= getattr(app.env, "lb_sections", {})
    pages = {name: pages[name] for name in sorted(pages) if name in app.env.found_docs}
    kept.write_text(json.dumps(pages), encoding="utf-8")
    titles = {name: plain.text(app.env.titles[name]) for name in pages if name in app.env.titles}
    script = json.dumps([[name, titles.get(name, name), found] for name, found in pages.items()], ensure_ascii=False)
    target = Path(app.outdir, "_static", "latentbook", "sections.js")
    target.parent.mkdir(parents=True, exist_ok=True)
    target.write_text(f"window.latentbookSections = {script};\n", encoding="utf-8")


def add_search(app, pagename, templatename, context, doctree) -> None:
    """Let the search page, and no other, load the sections and what looks in them."""
    if pagename == "search":
        for name in ("sections.js", "search.js"):
            app.add_js_file(f"latentbook/{name}", loading_method="defer")


def setup(app):
    app.connect("builder-inited", lambda app: add_script(app, "search.js"))
    app.connect("doctree-resolved", collect, priority=550)
    app.connect("html-page-context", add_search)
    app.connect("build-finished", write, priority=200)
    return {"parallel_read_safe": True, "parallel_write_safe": False}
