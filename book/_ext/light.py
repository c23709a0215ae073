"""Sphinx extension: pages that are light to load.

What the theme writes is changed just before a page is saved: glyphs become inline SVG, scripts and styles that the page
does not use are left out and the others wait for the text, pictures are lazy and have their size, and the states and
still pictures of interactive figures stand in files beside the pages, named by their content, that book/_ext/boot.js
fetches when a figure comes near; so do the models that a state names, one file each for the whole site. A state is a
script that registers its data, for a page that is opened from the folder may not fetch anything else.
"""

import base64
import functools
import hashlib
import html
import importlib.util
import json
import re
import shutil
import struct
import sys
from collections import Counter
from pathlib import Path

from light_icons import draw_icons
from offline_site import WIDGETS, bundle

HERE = Path(__file__).resolve().parent
HEIGHTS, SIZES = HERE / "figure-heights.json", HERE / "formula-sizes.json"  # from `python -m latentbook reserve`
EXPORTER = WIDGETS / "export.py"
STATES, STILLS, SCRIPTS = (f"_static/latentbook/{kind}" for kind in ("states", "stills", "figures"))
BOOT = re.compile(r'<script\b[^>]*\bsrc="[^"]*latentbook/boot\.js|</head>')
SMALL = 6000  # characters of a state that may stand in the page: a request costs more
LARGE = 120_000  # characters of one value that the figure can do without at first, if it is no picture
FORMULAS = "offline/mathjax/"  # the script that sets them; boot.js fetches it
UNUSED = (
    "fontawesome",
    "thebe",
    "searchtools",
    "searchindex",
)  # no page wants these: search.js does what the last two do
NEEDED = {  # what makes a page need a script or style; the others do without
    "language_data.js": 'id="search-results"',
    "togglebutton": re.compile(r'class="(?:[^"]* )?toggle[ "]|class="(?=[^"]*\badmonition\b)(?:[^"]* )?dropdown[ "]'),
    "sphinx-design": re.compile(r'class="[^"]*\bsd-'),
    "design-tabs": re.compile(r'class="[^"]*\bsd-tab'),
    "copybutton": 'class="highlight',
    "clipboard": 'class="highlight',
}
SCRIPT = re.compile(r"[ \t]*<script\b[^>]*\bsrc=\"([^\"]*)\"[^>]*></script>\n?")
LINK = re.compile(r"[ \t]*<link\b[^>]*\bhref=\"([^\"]*)\"[^>]*>\n?")
FIGURE = re.compile(r'<div class="lb-static"([^>]*)>')
ATTRIBUTE = re.compile(r'([\w-]+)="([^"]*)"')
FORMULA = re.compile(r'<(span|div) class="math ([^"]*)"([^>]*)>(.*?)</\1>', re.DOTALL)
TEX = re.compile(r"\\\(.*\\\)|\\\[.*\\\]", re.DOTALL)
IMAGE = re.compile(r"<img\b[^>]*>")
EMBEDDED = re.compile(r'src="data:image/(png|svg\+xml);base64,([^"]*)"')
RESERVE = """<script>
window.latentbookReserve = (div) => {
  const pointer = matchMedia("(pointer: coarse)").matches ? "coarse" : "fine";
  const [from, step, ...heights] = div.dataset[pointer].split(" ").map(Number);
  const at = Math.min(Math.max(0, (div.clientWidth - from) / step), heights.length - 1);
  const height = Math.max(heights[Math.floor(at)], heights[Math.ceil(at)]) + "px";
  div.style.minHeight = height;
  div.style.height = div.dataset.live ? "" : height;
};
</script>
"""
FOLD = re.compile(r'<summary>(?=\s*<span class="toctree-toggle")')
BELOW = "The companion of this chapter"
FONT_RULES = re.compile(r"/\*!\s*\* Font Awesome Free.*?\*/|@font-face\{[^}]*Awesome[^}]*\}", re.DOTALL)


def name_folds(page: str) -> str:
    """What opens the pages below a chapter in the sidebar is a drawing alone: say what it does to those who listen."""
    return FOLD.sub(rf'<summary aria-label="{BELOW}">', page)


class Pages:
    """What turns the theme's pages into light ones, and the files that stand beside them."""

    def __init__(self, out: Path, images: dict[str, str], source: Path, widgets: Path = WIDGETS) -> None:
        """out: the site's folder; images: names under _images of pictures, by their path from `source`; widgets: the figures'."""
        self.out, self.images, self.source, self.widgets = out, images, source, widgets
        self.heights, self.sizes = (read(place) for place in (HEIGHTS, SIZES))

    def lighten(self, page: str, name: str) -> str:
        """The HTML of a page, by its name without suffix; writes the files that it needs beside it."""
        up = "../" * name.count("/")
        page = draw_icons(page)
        page = name_folds(page)
        page = leave_out(page)
        page = self.figures(page, name, up)
        page = FORMULA.sub(self.formula, page)
        return IMAGE.sub(lambda found: self.picture(found[0], up), page)

    def figures(self, page: str, name: str, up: str) -> str:
        """States out of the page, and the room that each figure will take."""
        seen: Counter[str] = Counter()

        def one(found: re.Match) -> str:
            values = {key: html.unescape(value) for key, value in ATTRIBUTE.findall(found[1])}
            kind = values["data-name"]
            text = values.get("data-state", "{}")
            if len(text) > SMALL or any(map(can_wait, json.loads(text).values())):
                values |= self.outside(json.loads(values.pop("data-state")), up)
            heights = self.heights.get(name, {}).get(f"{kind}-{seen[kind]}", {})
            values |= {f"data-{pointer}": " ".join(map(str, row)) for pointer, row in heights.items()}
            seen[kind] += 1
            written = "".join(f' {key}="{html.escape(value)}"' for key, value in values.items())
            room = "<script>latentbookReserve(document.currentScript.parentElement)</script>" if heights else ""
            return f'<div class="lb-static"{written}>{room}'

        page = FIGURE.sub(one, page)
        if names := tuple(name for name in sorted(seen) if (self.widgets / f"{name}.js").exists()):
            tag = f'<script defer src="{up}{self.script(names)}"></script>\n'
            page = BOOT.sub(lambda found: tag + found[0], page, count=1)
        return page.replace("</head>", RESERVE + "</head>", 1) if seen and self.heights.get(name) else page

    def script(self, names: tuple[str, ...]) -> str:
        """Where the script of these figures stands; it is written if it is not there."""
        content = bundle(self.widgets, names).encode()
        place = f"{SCRIPTS}/{hashlib.sha256(content).hexdigest()[:16]}.js"
        put(self.out / place, content)
        return place

    def formula(self, found: re.Match) -> str:
        """A formula with the size that it will have once it is set, where that is known."""
        tag, classes, rest, content = found.groups()
        tex = TEX.search(html.unescape(content))
        size = self.sizes.get(hashlib.sha256(tex[0].encode()).hexdigest()[:12]) if tex else None
        if size is None or "style=" in rest:
            return found[0]
        kept = f"--lb-high:{size[-1]}em" + (f";--lb-wide:{size[0]}em" if tag == "span" else "")
        return f'<{tag} class="math {classes}"{rest} style="{kept}">{content}</{tag}>'

    def outside(self, state: dict, up: str) -> dict[str, str]:
        """Attributes that hold a state or say where it stands, and where the large values that may come after it."""
        later = {key: in_page(value) for key, value in state.items() if can_wait(value)}
        first = {key: value for key, value in state.items() if key not in later}
        places = {key: self.register(value) for key, value in later.items()}
        small = len(json.dumps(state, separators=(",", ":"))) <= SMALL  # but for the models that it names
        found = {"data-state": json.dumps(first, separators=(",", ":"))} if small else {}
        found = found or {"data-from": f"{up}{STATES}/{self.register(first)}.js"}
        if places:
            found["data-later"] = " ".join(f"{key}={up}{STATES}/{place}.js" for key, place in places.items())
            found["data-size"] = str(round(sum(len(value) * 3 / 4 for value in later.values()) / 1000))
        return found

    def register(self, value: object) -> str:
        """The name of the script that registers a value; it is written if it is not there."""
        text = json.dumps(value, separators=(",", ":"))
        name = hashlib.sha256(text.encode()).hexdigest()[:16]
        put(self.out / STATES / f"{name}.js", f'(window.latentbookStates??={{}})["{name}"]={text};\n'.encode())
        return name

    def picture(self, tag: str, up: str) -> str:
        """An <img> whose bytes are in a file, that waits until it comes near, and that has its size."""

        def to_file(found: re.Match) -> str:
            content = base64.b64decode(found[2])
            name = f"{hashlib.sha256(content).hexdigest()[:16]}.{found[1].removesuffix('+xml')}"
            put(self.out / STILLS / name, content)
            return f'src="{up}{STILLS}/{name}"'

        tag = EMBEDDED.sub(to_file, tag)
        values = dict(ATTRIBUTE.findall(tag))
        more = {"loading": "lazy", "decoding": "async"}
        if size := self.size(values.get("src", "").removeprefix(up)):
            more |= dict(zip(("width", "height"), map(str, size), strict=True))
        added = "".join(f' {key}="{value}"' for key, value in more.items() if key not in values)
        return re.sub(r"\s*/?>$", f"{added}>", tag)

    def size(self, place: str) -> tuple[int, int] | None:
        """Width and height of a picture of the site, in CSS pixels; None for one that stands elsewhere."""
        path = self.out / place
        if place.startswith("_images/"):
            name = place.removeprefix("_images/")
            path = next((self.source / source for source, file in self.images.items() if file == name), path)
        return size_of(path.read_bytes()) if path.is_file() else None


def read(place: Path) -> dict:
    return json.loads(place.read_text(encoding="utf-8")) if place.exists() else {}


def can_wait(value: object) -> bool:
    """Whether a figure can start before it has this value: a network's weights, which its module inflates later."""
    return is_model(value) or (isinstance(value, str) and len(value) > LARGE and not value.startswith("data:"))


def is_model(value: object) -> bool:
    """Whether a value names a shipped model, {"model": name}, that the page shall have in its place."""
    return isinstance(value, dict) and value.keys() == {"model"}


def in_page(value: object) -> object:
    """A value as the page gets it: in place of a shipped model's name its file, in base64. Raises ValueError for other names."""
    return base64.b64encode(exporter().shipped_model(value["model"])).decode() if is_model(value) else value


@functools.cache
def exporter():
    """The library's module that exports models, without the library, which would take seconds to import PyTorch."""
    spec = importlib.util.spec_from_file_location("latentbook_export", EXPORTER)
    sys.modules[spec.name] = module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def size_of(content: bytes) -> tuple[int, int] | None:
    """Width and height in pixels of a PNG or an SVG with a size or a view box; None for anything else."""
    if content.startswith(b"\x89PNG\r\n\x1a\n"):
        return struct.unpack(">II", content[16:24])
    if not (root := re.search(rb"<svg\b[^>]*>", content)):
        return None
    values = dict(ATTRIBUTE.findall(root[0].decode()))
    units = {"": 1, "px": 1, "pt": 4 / 3, "in": 96, "mm": 96 / 25.4, "cm": 96 / 2.54}
    sides = [re.fullmatch(r"([\d.]+)(\w*)", values.get(side, "")) for side in ("width", "height")]
    if all(side and side[2] in units for side in sides):
        return tuple(round(float(side[1]) * units[side[2]]) for side in sides)
    box = values.get("viewBox", "").replace(",", " ").split()
    return (round(float(box[2])), round(float(box[3]))) if len(box) == 4 else None


def leave_out(page: str) -> str:
    """The page without scripts and styles that it does not use; the other scripts wait until it has been read.

    The options that the theme's scripts look at are set by a small script and by lines in the page: these stay as they are.
    """
    body = page[page.find("<body") :]

    def unwanted(address: str) -> bool:
        file = address.split("?")[0]
        marks = [mark for part, mark in NEEDED.items() if part in file.rsplit("/", 1)[-1]]
        used = any(mark in body if isinstance(mark, str) else mark.search(body) for mark in marks)
        return any(word in file for word in UNUSED) or bool(marks and not used)

    formulas: list[str] = []

    def script(found: re.Match) -> str:
        if FORMULAS in found[1]:
            formulas.append(found[1])
        if FORMULAS in found[1] or unwanted(found[1]):
            return ""
        if "documentation_options" in found[1] or "defer" in found[0] or "async" in found[0]:
            return found[0]
        return found[0].replace("<script", "<script defer", 1)

    def link(found: re.Match) -> str:
        if 'rel="preload"' in found[0] or ("stylesheet" in found[0] and unwanted(found[1])):
            return ""
        return re.sub(r"styles/theme\.css[^\"]*", "basic.css", found[0])  # which only imports that

    page = LINK.sub(link, SCRIPT.sub(script, page))
    if formulas:
        page = page.replace("<html", f'<html data-formulas="{formulas[0]}"', 1)
    return re.sub(r"<!-- (?:So that users can add custom icons|Pre-loaded scripts.*?) -->\n?", "", page)


def put(target: Path, content: bytes) -> None:
    """Write `content` unless a file of this name, which tells the content, is there already."""
    if not target.exists():
        target.parent.mkdir(parents=True, exist_ok=True)
        target.write_bytes(content)


def watch(app) -> None:
    """Let every page pass through `lighten` before it is saved."""
    if app.builder.format != "html":
        return
    pages, render = Pages(Path(app.outdir), app.builder.images, Path(app.srcdir)), app.builder.templates.render

    def render_light(template: str, context: dict) -> str:
        return pages.lighten(render(template, context), context["pagename"])

    app.builder.templates.render = render_light


def clear_away(app, exception) -> None:
    """Remove the icon font with its script and rules, and the files of figures that no page names any more."""
    if exception is not None or app.builder.format != "html":
        return
    out = Path(app.outdir)
    shutil.rmtree(out / "_static/vendor/fontawesome", ignore_errors=True)
    for path in {*out.glob("_static/scripts/fontawesome*"), *out.glob("_static/scripts/*.map")}:
        path.unlink()
    for path in out.glob("_static/styles/*.css"):
        text = path.read_text(encoding="utf-8")
        if (without := without_icons(text)) != text:
            path.write_text(without, encoding="utf-8")
    files = [path for place in (STATES, STILLS, SCRIPTS) for path in (out / place).glob("*")]
    named = "".join(page.read_text(encoding="utf-8") for page in out.rglob("*.html")) if files else ""
    for path in files:
        if path.name not in named:
            path.unlink()


def without_icons(sheet: str) -> str:
    """A style sheet without the rules of the icon font, by far the most of which name a glyph that no page uses."""
    sheet = FONT_RULES.sub("", sheet)
    sheet = re.sub(r"(?<=[}/\n])(?:\.fa[\w-]*(?:::?before|::?after)?,?)+\{[^{}]*\}", "", sheet)
    return re.sub(r'[^{}]*\{content:"[^"]*";font-family:Font Awesome[^}]*\}', "", sheet)


def setup(app):
    app.connect("builder-inited", watch, priority=900)
    app.connect("build-finished", clear_away, priority=200)
    return {"parallel_read_safe": True, "parallel_write_safe": True}
