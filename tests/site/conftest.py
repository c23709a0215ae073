"""Fixtures: the built site (built when older than its sources), a server for it, one browser for the session."""

import sys
from pathlib import Path

import pytest
from filelock import FileLock

sys.path.insert(0, str(Path(__file__).parent))  # for the tests beside this file, under any import mode

import kept_pages
import site_harness as harness

from latentbook.authoring.site import FLAGS, find_browser

FAILED = pytest.StashKey[bool]()


def pytest_collection_modifyitems(items):
    """Mark the tests that drive a browser, so that `-m "not browser"` leaves them out."""
    for item in items:
        if "browser" in getattr(item, "fixturenames", ()):
            item.add_marker(pytest.mark.browser)


@pytest.fixture(scope="session")
def built(tmp_path_factory):
    """The folder of the built site, built first if anything it is made from is younger."""
    harness.BUILT.parent.mkdir(exist_ok=True)
    with FileLock(harness.BUILT.parent / ".site.lock"):
        if not harness.is_fresh():
            harness.build()
    return harness.BUILT


@pytest.fixture(scope="session")
def address(built):
    """Where the built site is served, on loopback."""
    with harness.serve(built) as home:
        yield home


@pytest.fixture(scope="session")
def browser():
    """A headless Chromium. Without one: skipped, but failed where CI=true."""
    path = find_browser()
    if path is None:
        say = pytest.fail if harness.must_have_browser() else pytest.skip
        say("no browser: install chromium (Debian: apt-get install chromium) to test the site as readers see it")
    from playwright.sync_api import sync_playwright

    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=path, args=list(FLAGS))
        yield browser
        browser.close()


@pytest.fixture(scope="session")
def kept(browser):
    """Pages that stay open from test to test."""
    pages = kept_pages.Kept()
    yield pages
    pages.close()


@pytest.hookimpl(wrapper=True)
def pytest_runtest_makereport(item, call):
    """A test's fixtures know at its end whether it failed."""
    report = yield
    if report.failed:
        item.stash[FAILED] = True
    return report


@pytest.fixture
def visit(browser, address, kept, request):
    """visit("book/index.html", dark=False, phone=False, touch=False, scripts=True, home=...) opens a page.

    When the test ends, whatever the page complained of meanwhile fails it. keep=True: the page may be one that an earlier
    test was done with. It is put in order after each test; where that does not give what was opened, it is closed.
    """
    visitors, borrowed = [], {}

    def open_page(path, dark=False, phone=False, touch=False, scripts=True, home=address, calm=True, keep=False):
        how = (home, path, dark, phone, touch, scripts, calm)
        if keep and (visitor := kept.take(how)):
            borrowed[how] = visitor
            visitors.append(visitor)
            return visitor.page
        context = browser.new_context(
            color_scheme="dark" if dark else "light",
            viewport=harness.PHONE if phone else harness.WIDE,
            has_touch=touch,
            java_script_enabled=scripts,
            reduced_motion="reduce" if calm else "no-preference",
        )
        visitor = harness.Visitor(context.new_page(), home, scripts)
        visitors.append(visitor)
        page = visitor.open(path)
        if scripts and path == harness.PAGE:  # it has no figure of its own, so no module of one
            page.evaluate(harness.all_figures())
        if keep and how not in borrowed:
            kept_pages.remember(page)
            borrowed[how] = visitor
        return page

    yield open_page
    complaints = [c for visitor in visitors for c in visitor.complaints]
    well = not complaints and FAILED not in request.node.stash
    for how, visitor in borrowed.items():
        if well and kept_pages.in_order(visitor.page):
            kept.put(how, visitor)
            visitors.remove(visitor)
    for visitor in visitors:
        visitor.page.context.close()
    assert not complaints, "\n".join(complaints)
