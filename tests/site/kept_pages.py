"""Pages that stay open from test to test, since to open one takes a second: put in order after each, else closed."""

from collections.abc import Hashable

MOST = 3  # each is a process of some 100 MB
REMEMBER = """() => { window.asOpened = {
    article: document.querySelector("article").outerHTML, frame: requestAnimationFrame, width: innerWidth,
}; }"""
PUT_IN_ORDER = """() => {
    document.activeElement?.blur();
    for (const cell of document.querySelectorAll("article .cell")) cell.remove();
    getSelection().removeAllRanges();
    if (location.hash) location.hash = ""; // a figure wrote its state there
    scrollTo({ top: 0, behavior: "instant" });
    const { article, frame, width } = window.asOpened ?? {};
    return document.querySelector("article")?.outerHTML === article && requestAnimationFrame === frame && innerWidth === width;
}"""


def remember(page) -> None:
    """Note how a page was opened, before a figure is put into it."""
    page.evaluate(REMEMBER)


def in_order(page) -> bool:
    """Take out the figures that a test put into a page; whether it then is as it was opened."""
    page.mouse.move(0, 0)
    return page.evaluate(PUT_IN_ORDER)


class Kept:
    """Visitors of open pages by how those are looked at; the last few that were used."""

    def __init__(self) -> None:
        self.visitors = {}

    def take(self, how: Hashable):
        """One to be used alone, until it is put back; None where there is none."""
        return self.visitors.pop(how, None)

    def put(self, how: Hashable, visitor) -> None:
        self.visitors[how] = visitor
        if len(self.visitors) > MOST:
            self.visitors.pop(next(iter(self.visitors))).page.context.close()

    def close(self) -> None:
        for visitor in self.visitors.values():
            visitor.page.context.close()
