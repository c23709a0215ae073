"""Every page opened once, wide and on a phone, and read to its end: what it weighs, and that nothing moves or is cut."""

import json
import random
import re
import warnings

import pytest
import site_harness as harness
from test_site_folded import cut_lines
from test_site_phone import SMALL, TARGET

from latentbook.authoring import reserve, site_bench
from latentbook.authoring.site import served

NOTEBOOKS = [path for path in harness.listed_pages() if path.startswith("notebooks/")]
CHAPTERS = [path for path in NOTEBOOKS if not harness.is_companion(path)]
FIGURES = ["book/index.html", *CHAPTERS]  # where figures stand, whose room depends on the screen
PAGES = [*harness.listed_pages(), "genindex.html", "search.html"]
HEIGHTS = "[...document.querySelectorAll('div.lb-static')].map((div) => div.offsetHeight)"
MOST = {"text": 350_000, "figure": 600_000, "shift": 0.05, "growth": 8}  # bytes gzipped, bytes, a share, pixels
RECORDED = json.loads((harness.ROOT / reserve.FIGURES).read_text(encoding="utf-8"))
CLIPPED = """() => [...document.querySelectorAll("article .pst-scrollable-table-container")]
    .filter((box) => box.offsetParent && box.scrollWidth > box.clientWidth + 1)
    .map((box) => box.innerText.slice(0, 60))"""
OUTSIDE = """() => { const edge = document.querySelector(".bd-article-container").getBoundingClientRect().right;
    return [...document.querySelectorAll("article .pst-scrollable-table-container")]
    .filter((box) => box.getBoundingClientRect().right > edge + 1).map((box) => box.innerText.slice(0, 60)); }"""
OPEN_ALL = "() => document.querySelectorAll('article details').forEach((fold) => { fold.open = true; })"


@pytest.fixture(scope="module")
def zipped(built):
    """Where the site is served as hosts do, text gzipped."""
    with served(built) as home:
        yield home


def faults(page, path: str, address: str, phone: bool) -> list[str]:
    """What is wrong with a page, opened and read to its end."""
    read, found = site_bench.read_through(page, address + path), []
    if read["text_bytes"] > MOST["text"]:
        found.append(f"{read['text_bytes']} bytes for its text")
    if sum(shift["value"] for shift in read["shifts"]) >= MOST["shift"]:
        found.append(f"moves: {sorted(read['shifts'], key=lambda shift: -shift['value'])[:3]}")
    if len(read["heights"]) != (started := page.locator("div.lb-static[data-live=true]").count()):
        found.append(f"{started} of {len(read['heights'])} figures started")
    if read["heights"]:
        found += [
            f"grows from {kept} to {high} px, measure again: python -m latentbook reserve"
            for kept, high in zip(kept_heights(page, address + path), read["heights"], strict=True)
            if abs(kept - high) > MOST["growth"]
        ]
    theme = page.evaluate("document.documentElement.dataset.theme")
    found += [f"theme {theme}"] * (theme != ("dark" if phone else "light"))
    if phone:
        wide = page.evaluate("document.documentElement.scrollWidth")
        found += [f"{wide} px wide"] * (wide > harness.PHONE["width"])
        found += page.locator(".bd-header-article").first.evaluate(SMALL, TARGET)
    return found


def kept_heights(page, address: str) -> list[int]:
    """The room of a page's figures before any starts; their own heights, with other fonts than it was measured with."""
    if abs(reserve.sample(page) - RECORDED["fonts"]) > 5:
        warnings.warn("the room of figures was measured with other fonts: python -m latentbook reserve", stacklevel=1)
        return page.evaluate(HEIGHTS)
    before = page.context.new_page()
    before.route("**/latentbook/boot.js*", lambda route: route.abort())
    before.goto(address, wait_until="load")
    found = before.evaluate(HEIGHTS)
    before.close()
    return found


@pytest.mark.parametrize(("path", "phone"), [*((path, True) for path in PAGES), *((path, False) for path in FIGURES)])
def test_a_page_is_light_and_nothing_moves_while_it_is_read(browser, zipped, path, phone):
    """Text within 350 kB, every figure in the room that is kept for it, within 8 px.

    No request leaves the site, none fails, no script complains. A phone is in the dark, and scrolls no page sideways.
    """
    context = browser.new_context(
        viewport=site_bench.PHONE if phone else site_bench.WIDE,
        color_scheme="dark" if phone else "light",
        has_touch=phone,
        is_mobile=phone,
        reduced_motion="reduce",
    )
    visitor = harness.Visitor(context.new_page(), zipped)
    found = faults(visitor.page, path, zipped, phone)
    context.close()
    assert found + visitor.complaints == []


@pytest.mark.parametrize("path", FIGURES)
def test_the_first_figure_lives_within_600_kb(browser, zipped, path):
    assert 0 < site_bench.visit(browser, zipped + path)["figure_bytes"] <= MOST["figure"]


def test_all_figures_stand_where_they_are_looked_for(built):
    assert {path for path in harness.pages(built) if harness.read_page(built / path).states} == {*FIGURES}


def test_a_page_that_moves_grows_weighs_and_is_too_wide_is_found(browser, built, zipped):
    context, path = browser.new_context(viewport=site_bench.PHONE, color_scheme="dark", has_touch=True), FIGURES[0]
    numbers = random.Random(0)
    heavy = f"<script>const heavy = '{numbers.randbytes(400_000).hex()}';</script>"
    late = """<style>div.lb-static:not([data-live]) { padding-bottom: 3000px } .bd-header-article { width: 500px }</style>
    <script>addEventListener("load", () => setTimeout(() => {
        const box = document.createElement("div");
        box.style.height = "400px";
        document.querySelector("article").prepend(box);
    }, 200))</script>"""

    def fault(route):
        body = (built / path).read_text(encoding="utf-8").replace("</body>", f"{heavy}{late}</body>")
        route.fulfill(body=body, content_type="text/html")

    context.route(f"**/{path}", fault)
    found = faults(context.new_page(), path, zipped, phone=True)
    context.close()
    kinds = [re.search(r"bytes|moves|grows|wide", line)[0] for line in found]
    assert list(dict.fromkeys(kinds)) == ["bytes", "moves", "grows", "wide"] and kinds.count("grows") == 2  # figures


@pytest.mark.parametrize("path", NOTEBOOKS)
def test_with_all_folds_open_no_table_is_clipped_and_no_line_of_code_is_cut(visit, path):
    page = visit(path)
    page.evaluate(OPEN_ALL)
    for width in (1400, 1280, 1024, 390):  # on a phone tables scroll
        page.set_viewport_size({"width": width, "height": 900})
        assert cut_lines(page) == [], f"cut at {width} px"
        if width >= 1024:
            assert page.evaluate(CLIPPED) == [], f"cut at {width} px"
            assert page.evaluate(OUTSIDE) == [], f"over the page's own contents at {width} px"
