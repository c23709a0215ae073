"""Sphinx extension: what a page says of itself at its head, to readers, to those who pass its link on, to screen readers.

A chapter's head has the time it takes to read, the switch for its code and, where its front matter has a list
`objectives`, what one will learn. Every page has a description and a preview picture for links to it, and a skip link
to each interactive figure, which shows when the keyboard reaches it.
"""

import base64
import io
import json
import re
from html import escape
from pathlib import Path

import numbering
import plain
from docutils import nodes
from folding import SWITCH, has_folds

from latentbook.authoring.notebooks import COMPANION

WORDS_A_MINUTE = 220
PREVIEW = (1200, 630)  # width and height in pixels that link previews are cut to
MARGIN = 40
SKIP = re.compile(r'<div id="pst-skip-link".*?</div>', re.DOTALL)
EMBEDDED = re.compile(r'<image\b[^>]*?\bhref="data:image/png;base64,([^"]+)"')
STILL = re.compile(r'<img\b[^>]*\bsrc="data:image/png;base64,([^"]+)"')


def minutes(words: int) -> int:
    """Minutes that a text of so many words takes, at least one."""
    return max(1, round(words / WORDS_A_MINUTE))


def objectives(value: object) -> list[str]:
    """The list of the front matter, as Sphinx keeps it (as JSON) or as a list; empty for none."""
    if isinstance(value, str):
        try:
            value = json.loads(value)
        except json.JSONDecodeError:
            value = [value]
    return [str(item) for item in value] if isinstance(value, list) else []


def inline(text: str) -> str:
    """One objective as HTML: `code` and *emphasis* are kept."""
    text = re.sub(r"`([^`]+)`", r"<code>\1</code>", escape(text, quote=False))
    return re.sub(r"\*([^*]+)\*", r"<em>\1</em>", text)


def head(words: int, learnt: list[str], folds: bool) -> str:
    """The head of a chapter as HTML."""
    switch = SWITCH if folds else ""
    found = f'<p class="lb-reading"><span>{minutes(words)} minutes to read</span>{switch}</p>'
    if learnt:
        items = "".join(f"<li>{inline(item)}</li>" for item in learnt)
        found += f'<div class="lb-objectives"><p>What you will learn</p><ul>{items}</ul></div>'
    return found


def add_head(app, doctree, docname) -> None:
    """Put a chapter's head under its title, and note what its page says of itself."""
    if app.builder.format != "html":
        return
    paragraphs = list(plain.prose(doctree))
    described = plain.description(iter(paragraphs))
    doctree["lb_described"] = described
    title = next(iter(doctree.findall(nodes.title)), None)
    if numbering.chapter_of(docname) is None or title is None:
        return
    words = sum(len(paragraph.split()) for paragraph in paragraphs)
    learnt = objectives(app.env.metadata[docname].get("objectives"))
    # Of its class, the writer makes a <div> around it.
    raw = nodes.raw("", head(words, learnt, has_folds(doctree)), format="html", classes=["lb-head"])
    title.parent.insert(title.parent.index(title) + 1, raw)


def skip_links(live: list[str]) -> str:
    """A link to each interactive figure of a page, as HTML."""
    word = "the interactive figure" if len(live) == 1 else "interactive figure"
    box = '<div class="skip-link d-print-none lb-skip">'
    links = (f'{box}<a href="#{numbering.anchor("figure", n)}">Skip to {word} {n}</a></div>' for n in live)
    return "".join(links)


def shown_by(notebook: Path) -> bytes | None:
    """The first picture among a notebook's outputs, or drawn in one, as PNG."""
    cells = json.loads(notebook.read_text(encoding="utf-8"))["cells"]
    outputs = [output.get("data", {}) for cell in cells for output in cell.get("outputs", [])]
    stills = ("".join(data["image/png"]) for data in outputs if "image/png" in data)
    drawn = (EMBEDDED.search("".join(data.get("image/svg+xml", ""))) for data in outputs)
    png = next(stills, None) or next((found[1] for found in drawn if found), None)
    return base64.b64decode(png) if png else None


def first_picture(app, docname: str, doctree) -> bytes | None:
    """The first still or picture of a page as PNG; a companion that has only plots shows its chapter's."""
    source = Path(app.env.doc2path(docname))
    if source.suffix == ".ipynb":
        chapter = source.with_stem(source.stem.removesuffix(COMPANION))
        if png := shown_by(source) or (shown_by(chapter) if chapter != source and chapter.is_file() else None):
            return png
    for node in doctree.findall(lambda n: isinstance(n, (nodes.raw, nodes.image))):
        if isinstance(node, nodes.raw) and (still := STILL.search(node.astext())):
            return base64.b64decode(still[1])
        if (
            isinstance(node, nodes.image)
            and (file := Path(app.srcdir, node["uri"])).suffix == ".png"
            and file.is_file()
        ):
            return file.read_bytes()
    return None


def preview(png: bytes) -> bytes:
    """A picture on a white card of the shape that link previews have."""
    from PIL import Image

    picture = Image.open(io.BytesIO(png)).convert("RGBA")
    factor = min((PREVIEW[0] - 2 * MARGIN) / picture.width, (PREVIEW[1] - 2 * MARGIN) / picture.height)
    size = round(picture.width * factor), round(picture.height * factor)
    how = Image.Resampling.LANCZOS if factor < 1 else Image.Resampling.BICUBIC
    card = Image.new("RGBA", PREVIEW, "white")
    picture = picture.resize(size, how)
    card.alpha_composite(picture, ((PREVIEW[0] - size[0]) // 2, (PREVIEW[1] - size[1]) // 2))
    out = io.BytesIO()
    card.convert("RGB").quantize(256, dither=Image.Dither.NONE).save(out, "PNG", optimize=True)
    return out.getvalue()


def picture_of(app, pagename: str, doctree) -> str | None:
    """Write a page's preview picture; returns its path from the site's root, None for a page without pictures."""
    png = first_picture(app, pagename, doctree)
    if png is None:
        return None
    path = f"_static/previews/{pagename.replace('/', '-')}.png"
    target = Path(app.outdir, path)
    target.parent.mkdir(parents=True, exist_ok=True)
    target.write_bytes(preview(png))
    return path


def tags(title: str, described: str, site: str, picture: str | None, address: str | None) -> str:
    """The <meta> elements by which a link to a page is shown: all that is known of it."""
    found = [
        ("name", "description", described),
        ("property", "og:type", "article"),
        ("property", "og:site_name", site),
        ("property", "og:title", title),
        ("property", "og:description", described),
        ("property", "og:image", picture),
        ("property", "og:url", address),
        ("name", "twitter:card", "summary_large_image" if picture else "summary"),
    ]
    return "".join(f'<meta {kind}="{name}" content="{escape(value)}" />\n' for kind, name, value in found if value)


def describe(app, pagename, templatename, context, doctree) -> None:
    """Give a page its description, its preview picture and its skip links."""
    if doctree is None:
        return
    base = (app.config.html_baseurl or "").rstrip("/")  # without one no address of this site is known
    picture = picture_of(app, pagename, doctree)
    if picture:
        picture = f"{base}/{picture}" if base else context["pathto"](picture, resource=True)
    address = f"{base}/{app.builder.get_target_uri(pagename)}" if base else None
    title = plain.text(app.env.titles[pagename])
    context["metatags"] = context.get("metatags", "") + tags(
        title, doctree.get("lb_described", ""), app.config.html_title, picture, address
    )
    context["lb_skip_links"] = skip_links(numbering.numbers_of(app.env).get(pagename, {}).get("live", []))


def add_skip_links(app) -> None:
    """Let each page's skip links follow the theme's own, which is the first thing in the page."""
    if app.builder.format != "html":
        return
    render = app.builder.templates.render

    def with_links(template, context):
        html = render(template, context)
        links = context.get("lb_skip_links")
        return SKIP.sub(lambda found: found[0] + links, html, count=1) if links else html

    app.builder.templates.render = with_links


def setup(app):
    app.connect("builder-inited", add_skip_links)
    app.connect("doctree-resolved", add_head, priority=600)  # after references have become links
    app.connect("html-page-context", describe)
    return {"parallel_read_safe": True, "parallel_write_safe": True}
