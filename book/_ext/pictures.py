"""Sphinx extension: every SVG among a notebook's outputs stands on its page light and dark, wide and narrow.

A figure's SVG turns dark by itself where the reader's system prefers that. A page has a switch of its own, so it gets a
file for each theme and width, and the style sheet shows the one that fits. The narrow drawing lies beside the wide one
in the notebook's output (`latentbook.figures.svg`). PNGs of older runs stay as they are; the style sheet inverts them.
"""

import hashlib
import json
import os
import re
from functools import cache
from html import escape
from pathlib import Path

from latentbook import themes

IMAGE = re.compile(r'<img\b[^>]*?\bsrc="(?P<folder>[^"]*_images/)(?P<name>[0-9a-f]{64})\.svg"[^>]*?>')
ALT = re.compile(r'\balt="([^"]*)"')
SIZE = re.compile(r'<svg\b[^>]*?\bwidth="([\d.]+)pt"[^>]*?\bheight="([\d.]+)pt"')
PHONE = "screen and (max-width: 600px)"
LETTERS = re.compile(r"scale\(([\d.]+) -")
SMALLEST = 11  # CSS pixels of the letters of a figure that a phone scrolls


def drawings(notebook: Path) -> dict[str, tuple[str, str]]:
    """The SVGs of a notebook by the name that MyST-NB gives their files: (wide, narrow), narrow "" where there is none."""
    found = {}
    for cell in json.loads(notebook.read_text(encoding="utf-8"))["cells"]:
        for output in cell.get("outputs", []):
            data = output.get("data", {})
            if "image/svg+xml" in data:
                wide, narrow = (joined(data.get(kind, "")) for kind in ("image/svg+xml", themes.NARROW))
                narrow = themes.unpacked(narrow)
                written = os.linesep.join(wide.splitlines()).encode()
                found[hashlib.sha256(written).hexdigest()] = (wide, narrow)
    return found


def joined(text: str | list[str]) -> str:
    return text if isinstance(text, str) else "".join(text)


def size(svg: str) -> tuple[int, int]:
    """Width and height of an SVG in CSS pixels."""
    return tuple(round(float(points) * 4 / 3) for points in SIZE.search(svg).groups())


def readable(svg: str) -> int:
    """The width in CSS pixels at which the smallest letters of an SVG are `SMALLEST` pixels high."""
    letters = min((float(scale) * 100 * 4 / 3 for scale in LETTERS.findall(svg)), default=SMALLEST)
    return round(size(svg)[0] * SMALLEST / letters)


def picture(name: str, wide: str, narrow: str, folder: str, alt: str) -> str:
    """The HTML of one figure: a picture for each theme, of which one is shown, in it a source for phones."""
    parts = []
    for theme in ("light", "dark"):
        source = ""
        if narrow:
            width, height = size(narrow)
            address = f"{folder}{name}-narrow-{theme}.svg"
            source = f'<source media="{PHONE}" srcset="{address}" width="{width}" height="{height}">'
        width, height = size(wide)
        least = "" if narrow else f' style="--lb-least: {readable(wide)}px"'
        parts.append(
            f'<picture class="only-{theme}"{least}>{source}<img class="only-{theme}" src="{folder}{name}-{theme}.svg" '
            f'alt="{alt}" width="{width}" height="{height}" loading="lazy" decoding="async"></picture>'
        )
    kind = "lb-picture-of-code" + ("" if narrow else " lb-scrolls")
    attributes = (
        ""
        if narrow
        else f' tabindex="0" role="group" aria-label="{escape("a wide figure, scrolls sideways on a phone")}"'
    )
    return f'<span class="{kind}"{attributes}>{"".join(parts)}</span>'


def show_pictures(app, pagename, templatename, context, doctree) -> None:
    """Put pictures in the place of a page's SVG images, and write their files."""
    if doctree is None or "_images/" not in context.get("body", ""):
        return
    source = Path(app.env.doc2path(pagename))
    if source.suffix != ".ipynb":
        return
    known = drawings(source)

    def replaced(found: re.Match) -> str:
        name = found["name"]
        if name not in known:
            return found[0]
        wide, narrow = known[name]
        put(Path(app.outdir, "_images"), name, wide, narrow)
        alt = (ALT.search(found[0]) or [None, ""])[1]
        return picture(name, wide, narrow, found["folder"], alt)

    context["body"] = IMAGE.sub(replaced, context["body"])


def put(folder: Path, name: str, wide: str, narrow: str) -> None:
    """Write the files of one figure; their names say their content, so those that are there stay."""
    folder.mkdir(parents=True, exist_ok=True)
    for stem, svg in ((name, wide), (f"{name}-narrow", narrow)):
        for theme, make in (("light", themes.light), ("dark", themes.dark)):
            path = folder / f"{stem}-{theme}.svg"
            if svg and (not path.exists() or path.stat().st_mtime < changed()):
                path.write_text(make(svg), encoding="utf-8")


@cache
def changed() -> float:
    """When the way of making dark pictures was last changed."""
    return max(Path(module).stat().st_mtime for module in (themes.__file__, __file__))


def made_by() -> str:
    """A hash of what makes the pictures: when it changes, Sphinx writes every page anew."""
    return hashlib.sha256(Path(themes.__file__).read_bytes() + Path(__file__).read_bytes()).hexdigest()


def setup(app):
    app.add_config_value("pictures_made_by", made_by(), "html")
    app.connect("html-page-context", show_pictures, priority=400)  # before others look at the images of a page
    return {"parallel_read_safe": True, "parallel_write_safe": True}
