"""axe-core on every interactive figure of the book, light and wide, dark and on a phone: no violation inside it."""

import pytest
import site_harness as harness
from axe_playwright_python.sync_playwright import Axe

FIGURES = "div.lb-static"


def violations(page) -> list[str]:
    """What axe finds inside the figures of an open page, a line each."""
    options = {
        "resultTypes": ["violations"],
        "preload": False,
    }  # style sheets are the page's own: nothing is fetched again
    found = Axe().run(page, context=FIGURES, options=options).response["violations"]
    return [
        f"{one['id']} ({one['impact']}): {node['target'][0]}: {node['html'][:120]}"
        for one in found
        for node in one["nodes"]
    ]


@pytest.mark.parametrize(("dark", "phone"), [(False, False), (True, True)], ids=["light-wide", "dark-phone"])
def test_axe_finds_no_violation_inside_a_figure(visit, built, dark, phone):
    found, figures = [], 0
    for path in harness.pages(built):
        if not harness.read_page(built / path).states:
            continue
        page = visit(path, dark=dark, phone=phone)
        started = page.locator(f"{FIGURES}[data-live=true]").count()
        assert started == page.locator(FIGURES).count(), path
        for box in page.locator(f"{FIGURES} input[type=checkbox]").all():
            box.check()  # what it shows is looked at as well
        figures += started
        found += [f"{path}: {line}" for line in violations(page)]
    assert figures > 4 and not found, "\n".join(found)


def test_a_violation_would_be_found(visit):
    page = visit("book/notation.html")
    page.evaluate("""document.querySelector("article").insertAdjacentHTML("beforeend",
        '<div class="lb-static"><button></button><p style="color: #999; background: #aaa">pale words</p></div>')""")
    assert {line.split()[0] for line in violations(page)} == {"button-name", "color-contrast"}
