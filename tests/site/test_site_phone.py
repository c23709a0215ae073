"""On a phone, 390 px wide: figures fit the screen, targets suit a finger, no page scrolls sideways, nothing floats over it."""

import pytest
import site_harness as harness

FIGURES = {
    "attention": "book/index.html",
    "collapse": "notebooks/00-variational-autoencoders.html",
    "complete": "notebooks/01-mix-and-match.html",
    "mixing": "notebooks/01-mix-and-match.html",
    "strips": "notebooks/02-conditional-vae.html",
    "relabel": "notebooks/02-conditional-vae.html",
    "steer": "notebooks/02-conditional-vae.html",
    "sign": "notebooks/03-multi-level-vae.html",
    "evidence": "notebooks/03-multi-level-vae.html",
    "landscape": "notebooks/04-spatial-transformer.html",
    "repeat": "notebooks/05-attend-infer-repeat.html",
}
TALLEST = 780  # pixels for a figure's controls and results; states to try and words may stand below them,
QUESTION = 180  # and a question of so many pixels above
TARGET = 44  # pixels

# What is pressed, with its label where that is pressed in its place: [words, width, height] of those below a size.
SMALL = """(root, least) => {
    const pressed = "button, summary, label:has(input), input:not([type=radio], [type=checkbox])";
    return [...root.querySelectorAll(pressed)]
        .filter((element) => !element.disabled && element.checkVisibility({ visibilityProperty: true }))
        .map((element) => [element, element.getBoundingClientRect()])
        .filter(([, { width, height }]) => width > 0 && (width < least - 0.5 || height < least - 0.5))
        .map(([element, { width, height }]) =>
            [`${element.tagName}.${element.className} ${element.textContent.trim().slice(0, 30)}`, width, height]);
}"""
CONTRAST = """(a) => {
    const linear = (v) => (v <= 0.04045 ? v / 12.92 : ((v + 0.055) / 1.055) ** 2.4);
    const light = (colour) => {
        const [r, g, b] = colour.match(/[\\d.]+/g).slice(0, 3).map((v) => linear(v / 255));
        return 0.2126 * r + 0.7152 * g + 0.0722 * b;
    };
    const [ink, paper] = [getComputedStyle(a).color, getComputedStyle(document.body).backgroundColor].map(light);
    return (Math.max(ink, paper) + 0.05) / (Math.min(ink, paper) + 0.05);
}"""


@pytest.fixture(scope="module")
def phone(browser, address):
    """phone(path) gives a page as a phone opens it; the pages stay open for the tests that follow."""
    context = browser.new_context(viewport=harness.PHONE, has_touch=True, reduced_motion="reduce")
    visitors = {}

    def open_page(path):
        if path not in visitors:
            visitors[path] = harness.Visitor(context.new_page(), address)
            visitors[path].open(path)
        return visitors[path].page

    yield open_page
    complaints = [complaint for visitor in visitors.values() for complaint in visitor.complaints]
    context.close()
    assert complaints == []


@pytest.mark.parametrize("name", FIGURES)
def test_the_controls_of_a_figure_and_what_they_do_fit_on_the_screen(phone, name):
    figure = harness.Figure(phone(FIGURES[name]), name).find("figure.lb-widget")
    parts = "figure => [...figure.children].map((part) => [part.className, part.getBoundingClientRect().top])"
    parts = [(kind, top) for kind, top in figure.evaluate(parts) if kind != "lb-more"]
    tops = [top for kind, top in parts if kind != "lb-question"]
    end = next(top for kind, top in parts if kind == "lb-tries")
    assert 0 < end - tops[0] <= TALLEST and tops[0] - parts[0][1] <= QUESTION


@pytest.mark.parametrize("name", FIGURES)
def test_nothing_of_a_figure_lies_outside_it_and_its_targets_suit_a_finger(phone, name):
    figure = harness.Figure(phone(FIGURES[name]), name)
    assert figure.div.evaluate(SMALL, TARGET) == []
    beyond = """(div) => [...div.querySelectorAll("*")].filter((element) => {
        const box = element.getBoundingClientRect(), room = div.getBoundingClientRect();
        return box.width && !element.closest("svg") && (box.left < room.left - 4 || box.right > room.right + 4);
    }).map((element) => element.outerHTML.slice(0, 90))"""
    assert figure.div.evaluate(beyond) == []


def test_a_small_target_would_be_found(phone):
    page = phone("book/bibliography.html")
    page.evaluate(
        "document.querySelector('article').insertAdjacentHTML('beforeend', '<p class=try><button>x</button></p>')"
    )
    assert len(page.locator("p.try").evaluate(SMALL, TARGET)) == 1


def test_the_sidebar_opens_and_its_links_suit_a_finger(phone):
    page = phone("book/bibliography.html")
    page.locator(".bd-header-article .primary-toggle").first.tap()
    links = page.locator(".bd-sidebar-primary a.reference")
    links.first.wait_for()
    boxes = [link.bounding_box() for link in links.all() if link.is_visible()]  # companions' are folded away
    assert len(boxes) > 8 and all(box["height"] >= TARGET - 0.5 for box in boxes)
    page.keyboard.press("Escape")


def test_the_notation_shows_what_each_symbol_is(phone):
    page = phone("book/notation.html")
    cells = page.locator("#notation-and-glossary tbody tr > :nth-child(3)")
    boxes = [cell.bounding_box() for cell in cells.all()]
    assert len(boxes) > 25
    assert all(box["x"] >= 0 and box["x"] + box["width"] <= 390 and box["width"] > 250 for box in boxes)
    inside = "row => row.closest('table').parentElement.scrollWidth - row.closest('table').parentElement.clientWidth"
    assert cells.first.evaluate(inside) == 0


@pytest.mark.parametrize("path", ["book/index.html", "notebooks/01-mix-and-match.html"])
def test_the_way_back_to_the_top_stands_at_the_foot_and_covers_nothing(phone, path):
    page = phone(path)
    page.evaluate("window.scrollTo(0, 3000); window.scrollTo(0, 2000)")
    floating = """() => [...document.querySelectorAll("body *")].filter((element) => {
        const box = element.getBoundingClientRect();
        return getComputedStyle(element).position === "fixed" && element.checkVisibility({ opacityProperty: true })
            && box.width && box.right > 0 && box.left < innerWidth && box.bottom > 0 && box.top < innerHeight;
    }).map((element) => element.id || element.className)"""
    assert page.evaluate(floating) == []
    link = page.locator(".lb-top a")
    assert link.evaluate("a => getComputedStyle(a.parentElement).position") == "static"
    assert link.bounding_box()["height"] >= TARGET
    link.tap()
    assert harness.becomes(lambda: page.evaluate("scrollY"), 0)


@pytest.mark.parametrize("dark", [False, True], ids=["light", "dark"])
def test_the_way_back_to_the_top_is_easy_to_read(visit, dark):
    page = visit("book/bibliography.html", dark=dark, phone=True)
    assert page.locator(".lb-top a").evaluate(CONTRAST) >= 4.5
