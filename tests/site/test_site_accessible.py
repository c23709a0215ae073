"""axe-core on every interactive figure of the book, light and wide, dark and on a phone: no violation inside it."""

import pytest
import site_harness as harness
from axe_playwright_python.sync_playwright import Axe

FIGURES = "div.lb-static"
CHAPTERS = [path for path in sorted((harness.ROOT / "notebooks").glob("0[0-9]-*.md")) if not harness.is_companion(path)]
PAGES = ["book/index.html", *(f"notebooks/{path.stem}.html" for path in CHAPTERS)]
# The figures without the rest of the chapter: what lies under each of their words is the same, and found ten times as fast.
ALONE = """() => {
    for (const div of document.querySelectorAll("div.lb-static"))
        for (let at = div; at !== document.body; at = at.parentElement)
            for (const other of [...at.parentElement.children])
                if (other !== at && !other.matches("div.lb-static, script, style, link") &&
                    !other.querySelector("div.lb-static")) other.remove();
    document.body.insertAdjacentHTML("beforeend", '<div id="pst-header"></div>'); // the theme's script asks for its height
}"""


def violations(page, inside: str = FIGURES) -> list[str]:
    """What axe finds inside the figures of an open page (or what else is named), a line each."""
    options = {
        "resultTypes": ["violations"],
        "preload": False,
    }  # style sheets are the page's own: nothing is fetched again
    found = Axe().run(page, context=inside, options=options).response["violations"]
    return [
        f"{one['id']} ({one['impact']}): {node['target'][0]}: {node['html'][:120]}"
        for one in found
        for node in one["nodes"]
    ]


@pytest.mark.parametrize("path", PAGES)
def test_axe_finds_no_violation_inside_a_figure(visit, path):
    page = visit(path)
    assert harness.start_figures(page) > 0
    for answer in page.locator(f"{FIGURES} .lb-question").get_by_text("just show me").all():
        answer.click()  # what is veiled till then is looked at as well
    for box in page.locator(f"{FIGURES} input[type=checkbox]:visible").all():
        box.check()
    assert harness.becomes(lambda: page.locator("[data-waiting]").count(), 0)  # what is computed stands pale till then
    page.evaluate(ALONE)
    assert page.locator(FIGURES).count() > 0 and violations(page) == []
    page.emulate_media(color_scheme="dark")
    page.set_viewport_size(harness.PHONE)
    assert harness.becomes(lambda: page.locator("html").get_attribute("data-theme"), "dark")
    assert violations(page) == []


def test_these_are_all_pages_with_figures(built):
    assert {path for path in harness.pages(built) if harness.read_page(built / path).states} == {*PAGES}


def test_a_violation_would_be_found(visit):
    page = visit("book/notation.html")
    page.evaluate("""document.querySelector("article").insertAdjacentHTML("beforeend",
        '<div class="lb-static"><button></button><p style="color: #999; background: #aaa">pale words</p></div>')""")
    page.evaluate(ALONE)
    assert {line.split()[0] for line in violations(page)} == {"button-name", "color-contrast"}
