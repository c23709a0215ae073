"""A page that several tests use is the same for each of them."""

import kept_pages
import pytest
import site_harness as harness

from latentbook.widgets import MixingFigure

SAID = "document.querySelector('article').outerHTML"


@pytest.fixture
def page(visit):
    page = visit(harness.PAGE)
    kept_pages.remember(page)
    return page


def test_a_figure_that_was_played_with_leaves_nothing(page):
    before = page.evaluate(SAID)
    for _ in range(2):
        harness.insert(page, MixingFigure().to_html())
        figure = harness.Figure(page, "mixing")
        figure.press(figure.control("alpha"), "ArrowRight")
        figure.find(".lb-cell").nth(40).hover()
        page.mouse.wheel(0, 300)
        assert kept_pages.in_order(page)
        assert page.evaluate(SAID) == before and page.evaluate("document.activeElement === document.body")
        assert page.evaluate("scrollY") == 0 and page.locator("div.lb-static").count() == 0


@pytest.mark.parametrize(
    "change",
    [
        "document.querySelector('article').append('more')",
        "document.body.replaceChildren()",  # as a figure that is started as a notebook starts it
        "window.requestAnimationFrame = () => 0",
        "delete window.asOpened",
    ],
)
def test_a_page_that_is_not_as_it_was_is_not_used_again(page, change):
    assert kept_pages.in_order(page)
    page.evaluate(f"() => {{ {change}; }}")
    assert not kept_pages.in_order(page)


def test_neither_is_one_of_another_size(page):
    page.set_viewport_size(harness.PHONE)
    assert not kept_pages.in_order(page)


def test_only_the_last_few_stay_open_and_each_has_one_user():
    class Visitor:
        def __init__(self):
            self.page = self.context = self
            self.closed = False

        def close(self):
            self.closed = True

    kept, visitors = kept_pages.Kept(), [Visitor() for _ in range(kept_pages.MOST + 1)]
    for number, visitor in enumerate(visitors):
        kept.put(number, visitor)
    assert [visitor.closed for visitor in visitors] == [True] + [False] * kept_pages.MOST
    assert kept.take(0) is None and kept.take(1) is visitors[1] and kept.take(1) is None
    kept.close()
    assert not visitors[1].closed and all(visitor.closed for visitor in visitors[2:])
