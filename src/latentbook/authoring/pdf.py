"""One PDF of the whole book, printed by Chromium from the built site: title page, contents with page numbers, live links.

The pages are put into one document, so that a link from a chapter to the notation leads there on paper too. It is printed
twice: the first time tells on which sheet each section stands, the second has these numbers in its contents.
"""

from __future__ import annotations

import re
from collections.abc import Callable
from html import escape, unescape
from importlib.util import find_spec
from pathlib import Path
from posixpath import join, normpath
from typing import Any

from latentbook import __version__
from latentbook.authoring.site import built_site, started
from latentbook.files import check_writable, write_whole

PLACE = "book/_whole-book.html"  # one folder deep, as every page is, so that pictures are found
ARTICLE = re.compile(r"<article\b[^>]*>(.*)</article>", re.DOTALL)
TAG = re.compile(r"<(?:\"[^\"]*\"|[^>\"])*>")
POINTER = re.compile(r'\b(id|href|for|aria-labelledby|aria-describedby|aria-controls)="([^"]*)"')
HEADING = re.compile(
    r'<section\b[^>]*\bid="([^"]+)"[^>]*>\s*(?:<span[^>]*></span>\s*)*<h([12])\b[^>]*>(.*?)</h\2>', re.DOTALL
)
FOOT = "font: 8px system-ui; width: 100%; text-align: center; color: #57606a"
TIMEOUT = 300_000  # milliseconds for setting all formulas and printing

LAYOUT = """
.lb-title { height: 240mm; display: flex; flex-direction: column; justify-content: center; }
.lb-title h1 { font-size: 3rem; line-height: 1.1; } .lb-title p { font-size: 1.2rem; color: #57606a; }
.lb-contents, .lb-page { break-before: page; }
.lb-contents ol { list-style: none; padding: 0; margin: 0; } .lb-contents li { display: flex; gap: .6rem; align-items: baseline; }
.lb-contents li::after { content: attr(data-page); margin-left: auto; font-variant-numeric: tabular-nums; }
.lb-contents a { color: inherit; text-decoration: none; } .lb-contents .lb-chapter { font-weight: 600; margin-top: .7rem; }
.lb-contents .lb-section { padding-left: 1.4rem; font-size: .93em; }
"""

# Of a table with more columns than a sheet can hold, those that the site shows at first. One that is wider than the sheet
# would also make the browser print all others smaller.
FIRST_COLUMNS = """() => {
    for (const table of document.querySelectorAll("table:has(thead th.lb-first)")) {
        const heads = [...table.tHead.rows[0].cells].map((head) => head.classList.contains("lb-first"));
        for (const row of table.rows) for (const cell of row.cells) {
            if (cell.colSpan === 1 && !heads[cell.cellIndex]) cell.style.display = "none";
        }
    }
}"""


def make(
    site: str | Path = "_build/html", target: str | Path = "_build/book.pdf", report: Callable[[str], None] = print
) -> Path:
    """Print the built site as one PDF and write it whole; returns where it stands.

    Raises ValueError where the site is not built, or no browser is found; ModuleNotFoundError without playwright or pypdf;
    OSError where `target` cannot be written, or the site's folder, in which the one document stands meanwhile.
    """
    site, target = built_site(Path(site)), Path(target)
    names = pages(site)
    check_writable(target, "the PDF")
    if find_spec("pypdf") is None:
        raise ModuleNotFoundError("No module named 'pypdf'", name="pypdf")
    document = site / PLACE
    check_writable(document, "the pages in one document")
    try:
        with started() as browser:
            report(f"printing {len(names)} pages ...")
            numbers = sheets(printed(browser.new_page, document, whole(site, names, {})))
            write_whole(target, printed(browser.new_page, document, whole(site, names, numbers)))
    finally:
        document.unlink(missing_ok=True)
    report(f"{target}: {lengths(target.read_bytes(), site, names)}")
    return target


def pages(site: Path) -> list[str]:
    """The pages of the site in reading order, as names without suffix, by the links from each to the next."""
    name = re.search(r'url=([^"]+)\.html"', (site / "index.html").read_text(encoding="utf-8"))[1]
    found = []
    while name and name not in found:
        found.append(name)
        following = re.search(
            r'<a\s+class="right-next"\s+href="([^"#]+)\.html', (site / f"{name}.html").read_text(encoding="utf-8")
        )
        name = normpath(join(name, "..", following[1])) if following else None
    return found


def whole(site: Path, names: list[str], numbers: dict[str, int]) -> str:
    """The document that is printed: title page, contents, all pages. numbers: the sheet of every anchor, as far as known."""
    texts = {name: (site / f"{name}.html").read_text(encoding="utf-8") for name in names}
    head = re.search(r"<head>(.*?)</head>", texts[names[-1]], re.DOTALL)[1]
    styles = "".join(re.findall(r'<link\b[^>]*rel="stylesheet"[^>]*>|<style\b.*?</style>', head, re.DOTALL))
    settings = "".join(
        s for s in re.findall(r"<script\b[^>]*>.*?</script>", "".join(texts.values()), re.DOTALL) if "MathJax" in s
    )
    formulas = next((m[1] for m in re.finditer(r'data-formulas="([^"]*)"', "".join(texts.values()))), "")
    title = unescape(re.search(r"<title>(.*?)</title>", (site / "index.html").read_text(encoding="utf-8"))[1])
    known = set(names)
    bodies = {name: article(text, name, known) for name, text in texts.items()}
    parts = [f'<section class="lb-page" id="{anchor(name)}">{body}</section>' for name, body in bodies.items()]
    script = f'<script defer src="{formulas}"></script>' if formulas else ""
    head = f'<meta charset="utf-8"><title>{escape(title)}</title>{styles}<style>{LAYOUT}</style>'
    front = f'<section class="lb-title"><h1>{escape(title)}</h1><p>Version {__version__}</p></section>'
    text = f"{front}{contents(bodies, numbers)}{''.join(parts)}"
    return (
        f'<!doctype html><html lang="en" data-theme="light"><head>{head}{settings if formulas else ""}{script}</head>'
        f'<body><main class="bd-content"><article class="bd-article">{text}</article></main></body></html>'
    )


def article(page: str, name: str, known: set[str]) -> str:
    """The text of a page: what it names made different from what other pages name, its links to them alive, its scripts gone."""
    body = re.sub(r"<script\b.*?</script>", "", ARTICLE.search(page)[1], flags=re.DOTALL)

    def pointer(found: re.Match) -> str:
        kind, value = found[1], found[2]
        if kind != "href":
            return f'{kind}="{" ".join(anchor(name, each) for each in value.split())}"'
        if re.match(r"[a-z]+:|//", value):
            return found[0]
        place, _, part = value.partition("#")
        other = normpath(join(name, "..", place.removesuffix(".html"))) if place else name
        return f'href="#{anchor(other, part)}"' if other in known else f'href="{value}"'

    body = TAG.sub(lambda tag: POINTER.sub(pointer, tag[0]).replace(' loading="lazy"', ""), body)
    return body


def anchor(name: str, part: str = "") -> str:
    """What stands for a page, or for a part of it, in the one document."""
    return re.sub(r"[^\w-]", "-", name) + (f"--{part}" if part else "")


def headings(body: str) -> list[tuple[int, str, str]]:
    """(level, anchor, text) of a page's title and sections."""
    return [(int(level), ident, plain(text)) for ident, level, text in HEADING.findall(body)]


def plain(text: str) -> str:
    """A heading without its tags and the link to itself."""
    text = re.sub(r'<a class="headerlink".*?</a>', "", text, flags=re.DOTALL)
    return re.sub(r"\s+", " ", re.sub(r"<[^>]*>", "", text)).strip()


def contents(bodies: dict[str, str], numbers: dict[str, int]) -> str:
    """The list of pages, and of the chapters' sections, with their sheets; without numbers it takes the same room."""
    lines = []
    for name, body in bodies.items():
        for level, ident, text in headings(body):
            if level > 1 and not name.startswith("notebooks/"):
                continue
            kind = "lb-chapter" if level == 1 else "lb-section"
            lines.append(
                f'<li class="{kind}" data-page="{numbers.get(ident, "000")}"><a href="#{ident}">{text}</a></li>'
            )
    return f'<section class="lb-contents"><h1>Contents</h1><ol>{"".join(lines)}</ol></section>'


def printed(open_page: Callable[[], Any], document: Path, text: str) -> bytes:
    """A document as PDF. It stands among the pages of the site while it is printed."""
    page = laid_out(open_page, document, text)
    foot = f'<div style="{FOOT}"><span class="pageNumber"></span></div>'
    found = page.pdf(
        prefer_css_page_size=True, print_background=True, outline=True, tagged=True,
        display_header_footer=True, header_template="<span></span>", footer_template=foot,
    )  # fmt: skip
    page.close()
    return found


def laid_out(open_page: Callable[[], Any], document: Path, text: str) -> Any:
    """The document, open as it is printed: its formulas set, its pictures there, its tables in few columns."""
    document.write_text(text, encoding="utf-8")
    page = open_page()
    page.set_default_timeout(TIMEOUT)
    page.emulate_media(media="print", color_scheme="light")
    page.goto(document.resolve().as_uri(), wait_until="load", timeout=TIMEOUT)
    page.evaluate(
        "async () => { await (window.MathJax?.startup?.promise ?? null); await document.fonts.ready;"
        " await Promise.all([...document.images].map((image) => image.decode().catch(() => {}))); }"
    )
    page.evaluate(FIRST_COLUMNS)
    return page


def sheets(pdf: bytes) -> dict[str, int]:
    """The sheet, counted from 1, of every anchor that something in the document leads to."""
    import io

    from pypdf import PdfReader

    reader = PdfReader(io.BytesIO(pdf))
    found = {}
    for name, place in reader.named_destinations.items():
        number = reader.get_destination_page_number(place)
        if number is not None and number >= 0:
            found[unescape(name).lstrip("/")] = number + 1
    return found


def lengths(pdf: bytes, site: Path, names: list[str]) -> str:
    """How many sheets each page of the site takes, in words."""
    import io

    from pypdf import PdfReader

    last, starts = len(PdfReader(io.BytesIO(pdf)).pages), sheets(pdf)
    firsts = []
    for name in names:
        titles = headings(article((site / f"{name}.html").read_text(encoding="utf-8"), name, set(names)))
        firsts.append(starts.get(titles[0][1], 0) if titles else 0)
    ends = [*firsts[1:], last + 1]
    each = ", ".join(f"{Path(name).name} {end - first}" for name, first, end in zip(names, firsts, ends, strict=True))
    return f"{last} pages ({each})"
