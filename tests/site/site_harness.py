"""What every test of the built site and of interactive figures shares: browser, server, a visitor, a figure.

A test of a new figure needs four lines:

    def test_it(visit):
        page = visit("notebooks/04-spatial-transformer.html")
        figure = Figure(page, "crop")
        figure.set_slider("scale", 0.5)
        assert figure.state("scale") == 0.5
"""

import base64
import functools
import importlib
import json
import os
import re
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from html.parser import HTMLParser
from http.server import SimpleHTTPRequestHandler
from pathlib import Path
from typing import Any
from urllib.parse import unquote, urldefrag, urljoin, urlsplit

from latentbook.authoring.notebooks import is_companion  # noqa: F401 (tests ask the harness)
from latentbook.authoring.site import Quiet

ROOT = Path(__file__).resolve().parents[2]
BUILT = ROOT / "_build" / "html"
SOURCES = (
    *("_config.yml", "_toc.yml", "book", "notebooks", "src/latentbook"),
    *("CHANGELOG.md", "CITATION.cff", "pyproject.toml"),
)
WIDE, PHONE = {"width": 1280, "height": 900}, {"width": 390, "height": 844}
PAGE = "book/bibliography.html"  # any page will do to put a figure into; this one has no formulas to wait for
VIEW = 1.3  # a scene and its margin reach from -VIEW to VIEW


def sources(root: Path = ROOT) -> Iterator[Path]:
    """The files that a build of the site reads."""
    for name in SOURCES:
        path = root / name
        if path.is_file():
            yield path
        elif path.is_dir():
            yield from (
                p for p in path.rglob("*") if p.is_file() and p.suffix != ".pyc" and ".ipynb_checkpoints" not in p.parts
            )


def is_fresh(built: Path = BUILT, root: Path = ROOT) -> bool:
    """Whether the built site is younger than everything it is made from."""
    stamp = built / "objects.inv"  # written last
    return stamp.exists() and all(path.stat().st_mtime <= stamp.stat().st_mtime for path in sources(root))


def build(root: Path = ROOT) -> None:
    """Build the site as `make book` does; raises AssertionError with the end of the log."""
    start = re.search(r"^BUILDER := (.+)$", (ROOT / "Makefile").read_text(encoding="utf-8"), re.MULTILINE)[1]
    command = [sys.executable, "-c", start, "build", "-W", "-n", "--keep-going", "."]
    done = subprocess.run(command, cwd=root, capture_output=True, text=True)
    assert done.returncode == 0, f"the site does not build:\n{(done.stdout + done.stderr)[-4000:]}"


class Silent(SimpleHTTPRequestHandler):
    def log_message(self, *args) -> None:
        """Say nothing: the tests look at the responses themselves."""


@contextmanager
def serve(folder: Path) -> Iterator[str]:
    """The folder over http on loopback; gives the address, with a slash at its end."""
    server = Quiet(("127.0.0.1", 0), functools.partial(Silent, directory=str(folder)))
    thread = threading.Thread(target=server.serve_forever, daemon=True)
    thread.start()
    try:
        yield f"http://127.0.0.1:{server.server_port}/"
    finally:
        server.shutdown()
        server.server_close()


class Visitor:
    """A page that writes down what should not happen: foreign requests, failed ones, messages of errors."""

    def __init__(self, page, home: str, scripts: bool = True) -> None:
        self.page, self.home, self.scripts, self.complaints = page, home, scripts, []
        page.on("request", self._request)
        page.on("requestfailed", self._failed)
        page.on("response", lambda r: r.status >= 400 and self.complaints.append(f"{r.status}: {r.url}"))
        page.on("pageerror", lambda error: self.complaints.append(f"script error: {error}"))
        page.on(
            "console",
            lambda m: m.type in ("error", "warning") and self.complaints.append(f"console {m.type}: {m.text}"),
        )

    def _request(self, request) -> None:
        if not request.url.startswith((self.home, "data:", "blob:")):
            self.complaints.append(f"request outside the site: {request.url}")

    def _failed(self, request) -> None:
        if request.failure == "net::ERR_ABORTED" and request.url.endswith("favicon.svg"):
            return  # the first page leads on at once and is left before its icon comes
        if self.scripts or request.resource_type != "script":  # with scripts off, they are meant not to come
            self.complaints.append(f"request failed: {request.url}")

    def open(self, path: str):
        """Open a page of the site and wait until its formulas stand; a figure starts when it comes near."""
        self.page.goto(self.home + path, wait_until="load")
        self.page.wait_for_selector("main")  # the first page only leads on to the front page
        self.settle()
        return self.page

    def settle(self) -> None:
        self.page.evaluate("async () => { await (window.latentbook?.ready ?? null); await document.fonts.ready; }")


class Figure:
    """One interactive figure of an open page, found by its data-name; its question is skipped, unless it is to be asked."""

    def __init__(self, page, name: str, number: int = 0, ask: bool = False) -> None:
        self.page, self.name, self.number = page, name, number
        self.div = page.locator(f'div.lb-static[data-name="{name}"]').nth(number)
        start_figure(self.div)
        if not ask:
            show(self.div)

    def find(self, selector: str):
        """A locator inside the figure, past its still picture, which stays there unseen."""
        return self.div.locator("> .lb-live").locator(selector)

    def state(self, trait: str):
        """A trait as the figure's model holds it."""
        return self.div.evaluate("(div, trait) => div.latentbook.model.get(trait)", trait)

    def control(self, trait: str, value: str | None = None):
        """The input bound to a trait (of a choice: the one with this value)."""
        return self.find(f'input[data-trait="{trait}"]' + (f'[value="{value}"]' if value else ""))

    def unfold(self) -> None:
        """Open what is not shown at first sight."""
        self.find("details.lb-more > summary").click()

    def press(self, locator, *keys: str) -> None:
        """Put the focus on something and press keys."""
        locator.focus()
        for key in keys:
            self.page.keyboard.press(key)

    def set_slider(self, trait: str, value: float) -> None:
        """Set a slider as a reader would in the end, with its input event."""
        self.control(trait).fill(str(value))

    def drag(self, locator, start: tuple[float, float], end: tuple[float, float], steps: int = 8) -> None:
        """Drag with the mouse inside an element, places as shares of its width and height."""
        box = locator.bounding_box()
        at = [(box["x"] + u * box["width"], box["y"] + v * box["height"]) for u, v in (start, end)]
        self.page.mouse.move(*at[0])
        self.page.mouse.down()
        self.page.mouse.move(*at[1], steps=steps)
        self.page.mouse.up()

    def swipe(self, locator, start: tuple[float, float], end: tuple[float, float], steps: int = 6) -> None:
        """Drag with one finger inside an element (the context needs has_touch)."""
        box = settled(locator)
        way = [[a + k / steps * (b - a) for a, b in zip(start, end, strict=True)] for k in range(steps + 1)]
        first, *others = [(box["x"] + u * box["width"], box["y"] + v * box["height"]) for u, v in way]
        with fingers(self.page) as touch:
            touch("touchStart", {0: first})
            for place in others:
                touch("touchMove", {0: place})
            touch("touchEnd")


def start_figure(div) -> None:
    """Scroll to a figure and wait until it is live, whole, and the page at rest under it."""
    div.scroll_into_view_if_needed()
    live = """async (div) => {
        const wait = (ms) => new Promise((resolve) => setTimeout(resolve, ms));
        for (let n = 0; n < 600 && !(div.dataset.live && !div.hasAttribute("aria-busy")); n++) await wait(50);
        return div.dataset.live === "true";
    }"""
    assert div.evaluate(live), f"the figure {div.get_attribute('data-name')} has not started"
    div.scroll_into_view_if_needed()


def show(place) -> None:
    """Skip a figure's question, as soon as it can be answered: "just show me"."""
    place.evaluate(
        """async (place) => {
            const question = place.querySelector(".lb-question");
            while (question?.inert) await new Promise((resolve) => setTimeout(resolve, 10));
            question?.querySelector(".lb-button").click();
            document.activeElement?.blur();
        }"""
    )


def start_figures(page) -> int:
    """Start all figures of an open page, as one who scrolls through it would; how many there are."""
    figures = page.locator("div.lb-static").all()
    for div in figures:
        start_figure(div)
    return len(figures)


@contextmanager
def fingers(page) -> Iterator[Callable[..., None]]:
    """touch(kind, {finger: (x, y)}) puts fingers on the screen, moves them, lifts those it names or, naming none, all.

    The browser says that a touch was sent before the page has heard of it; so this waits at its end for the last lift.
    """
    page.evaluate(
        """() => { window.lifted = new Promise((resolve) => {
            const lift = (event) => { if (!event.touches.length) resolve(); };
            for (const type of ["touchend", "touchcancel"]) addEventListener(type, lift, { capture: true, passive: true });
        }); }"""
    )
    session = page.context.new_cdp_session(page)

    def touch(kind: str, places: dict[int, tuple[float, float]] | None = None) -> None:
        points = [{"id": finger, "x": x, "y": y} for finger, (x, y) in (places or {}).items()]
        session.send("Input.dispatchTouchEvent", {"type": kind, "touchPoints": points})

    yield touch
    page.evaluate("window.lifted")
    session.detach()


def becomes(look: Callable[[], Any], wanted: Any, seconds: float = 20) -> bool:
    """Whether what `look` finds is, sooner or later, what is wanted: for what the browser does in its own time."""
    end = time.monotonic() + seconds
    while (found := look()) != wanted and time.monotonic() < end:
        time.sleep(0.05)
    if found != wanted:
        print(f"found {found!r}, wanted {wanted!r}")  # pytest shows it with the failure
    return found == wanted


def settled(locator, tries: int = 40) -> dict[str, float]:
    """The bounding box of an element in view, once pictures that load above it have stopped moving it."""
    locator.scroll_into_view_if_needed()
    box, calm = locator.bounding_box(), 0
    for _ in range(tries):
        locator.page.wait_for_timeout(100)
        before, box = box, locator.bounding_box()
        calm = calm + 1 if before == box else 0
        if calm == 3:
            return box
        locator.scroll_into_view_if_needed()
    raise AssertionError(f"{locator} does not come to rest")


def start_module(page, source: str, state: dict) -> None:
    """Load a widget's `_esm` as a notebook does, as an ES module, and render it with a model that holds `state`.

    Afterwards window.module is its default export, window.model its model, and the figure stands in the body.
    """
    page.evaluate(
        """async ([source, text]) => {
            const state = JSON.parse(text);
            const url = URL.createObjectURL(new Blob([source], { type: "text/javascript" }));
            window.module = (await import(url)).default;
            const handlers = {};
            window.model = {
                sent: 0,
                get: (key) => state[key],
                set: (key, value) => { state[key] = value; for (const f of handlers["change:" + key] ?? []) f(); },
                on: (name, f) => { (handlers[name] ??= []).push(f); },
                off: (name, f) => { handlers[name] = (handlers[name] ?? []).filter((g) => g !== f); },
                save_changes() { this.sent += 1; },
            };
            const el = document.createElement("div");
            window.stop = window.module.render({ model: window.model, el });
            document.body.replaceChildren(el);
        }""",
        [source, json.dumps(state)],
    )
    show(page.locator("body"))


@functools.cache
def all_figures() -> str:
    """The script of every figure, as a page has those of its own."""
    sys.path.insert(0, str(ROOT / "book" / "_ext"))
    offline_site = importlib.import_module("offline_site")
    return offline_site.bundle(offline_site.WIDGETS)


def insert(page, html: str) -> None:
    """Put a figure's saved HTML at the top of an open page of the site, as the output of a cell, and start it.

    So a figure can be tested in the theme's own page before a chapter shows it. All figures' modules are there.
    """
    page.evaluate(all_figures())
    page.evaluate(
        """html => {
            const cell = document.createElement("div");
            cell.className = "cell docutils container";
            cell.innerHTML = `<div class="cell_output docutils container"><div class="output text_html">${html}</div></div>`;
            document.querySelector("article.bd-article section").prepend(cell);
            latentbook.mount(cell.querySelector("div.lb-static"));
        }""",
        html,
    )


@functools.cache
def saved(widget) -> str:
    """What a notebook keeps of a widget, with its models, which the site's builder puts beside the page.

    Its still picture takes a third of a second to draw.
    """
    from latentbook.widgets.export import shipped_model

    def model(found: re.Match) -> str:
        return f"&quot;{base64.b64encode(shipped_model(found[1])).decode()}&quot;"

    return re.sub(r"\{&quot;model&quot;:&quot;([\w-]+)&quot;\}", model, widget.to_html())


def put_in(visit, widget, ask: bool = False, **how) -> Figure:
    """A widget's saved figure in a page of the site, looked at as `visit` is told; opened before, maybe, by another test."""
    page = visit(PAGE, keep=True, **how)
    insert(page, saved(widget))
    return Figure(page, widget._name, ask=ask)


def screen(figure: Figure, x: float, y: float) -> tuple[float, float]:
    """Where a place of the figure's scene, -1 to 1, lies on the screen."""
    panel = figure.find(".lb-scene svg").bounding_box()
    return panel["x"] + (x / VIEW + 1) / 2 * panel["width"], panel["y"] + (y / VIEW + 1) / 2 * panel["height"]


def drag(figure: Figure, start: tuple[float, float], end: tuple[float, float]) -> None:
    """Drag with the mouse between two places of the figure's scene."""
    figure.page.mouse.move(*screen(figure, *start))
    figure.page.mouse.down()
    figure.page.mouse.move(*screen(figure, *end), steps=6)
    figure.page.mouse.up()


def grey_values(canvas) -> list[list[int]]:
    """The red values on a canvas, row by row, as the browser holds them; 0 where nothing was drawn.

    They come as one text: of a list, Playwright looks at every number for longer than the browser took to draw it.
    """
    text = canvas.evaluate(
        """canvas => {
            const copy = document.createElement("canvas");
            [copy.width, copy.height] = [canvas.width, canvas.height];
            const paper = copy.getContext("2d", { willReadFrequently: true });
            paper.drawImage(canvas, 0, 0);
            const all = paper.getImageData(0, 0, copy.width, copy.height).data;
            return JSON.stringify(Array.from({ length: copy.height }, (_, y) =>
                Array.from({ length: copy.width }, (_, x) => all[4 * (y * copy.width + x)])));
        }"""
    )
    return json.loads(text)


class Reader(HTMLParser):
    """What a page's HTML says: ids, links, images in its text, states of interactive figures or where they stand."""

    def __init__(self, text: str) -> None:
        super().__init__()
        self.ids: set[str] = set()
        self.links: list[str] = []
        self.images: list[dict] = []
        self.states: list[str] = []
        self.inside = False
        self.feed(text)

    def handle_starttag(self, tag: str, attributes: list) -> None:
        values = dict(attributes)
        self.ids.update(values[name] for name in ("id", "name") if values.get(name))
        if tag in ("a", "link") and values.get("href"):
            self.links.append(values["href"])
        if tag in ("img", "script", "source") and values.get("src"):
            self.links.append(values["src"])
        if tag == "article":
            self.inside = True
        if tag == "img" and self.inside:
            self.images.append(values)
        if found := values.get("data-state") or values.get("data-from"):
            self.states.append(found)

    def handle_endtag(self, tag: str) -> None:
        if tag == "article":
            self.inside = False


@functools.cache
def read_page(path: Path) -> Reader:
    return Reader(path.read_text(encoding="utf-8"))


def pages(built: Path) -> list[str]:
    """Every HTML page of the site, as paths from its root, without those under _static and _sources."""
    found = (p.relative_to(built) for p in built.rglob("*.html"))
    return sorted(p.as_posix() for p in found if not p.parts[0].startswith("_"))


def listed_pages() -> list[str]:
    """The pages of the table of contents, whether built or not: a parametrized test is told of them before the build."""
    listed = re.findall(r"(?:root|file): (\S+)", (ROOT / "_toc.yml").read_text(encoding="utf-8"))
    return [f"{path.removesuffix('.ipynb')}.html" for path in listed]


def broken_links(built: Path, page: str) -> list[str]:
    """Local links of a page that lead to no file, or to no anchor in it."""
    base = f"http://site/{page}"
    broken = []
    for link in read_page(built / page).links:
        address, anchor = urldefrag(urljoin(base, link))
        parts = urlsplit(address)
        if parts.scheme not in ("http", "https") or parts.netloc != "site":
            continue
        target = built / unquote(parts.path).lstrip("/")
        target = target / "index.html" if target.is_dir() else target
        if not target.is_file():
            broken.append(f"{link}: no such file")
        elif anchor and target.suffix == ".html" and unquote(anchor) not in read_page(target).ids:
            broken.append(f"{link}: no such anchor")
    return broken


def without_alt(images: list[dict]) -> list[str]:
    """Images that tell those who do not see them nothing: no alt text, a file name, or a bare word of the kind."""

    def empty(alt: str) -> bool:
        return len(alt.split()) < 3 or bool(re.search(r"_images/|\.(png|svg|jpe?g|gif)$", alt))

    return [image.get("src", "")[:80] for image in images if empty((image.get("alt") or "").strip())]


def must_have_browser() -> bool:
    """In continuous integration a missing browser is a failure, elsewhere a skip that is seen."""
    return os.environ.get("CI", "").lower() == "true"
