"""The commands that use a browser: half a site, a browser that does not start, places that cannot be written."""

import sys
import zlib

import pytest

from latentbook import __main__ as cli
from latentbook.authoring import pdf, reserve, site

PAGE = "<!doctype html><html><body><article>text</article></body></html>"


@pytest.fixture
def built(tmp_path, monkeypatch):
    """A built site of two pages, where the commands look for it."""
    folder = tmp_path / "_build" / "html"
    (folder / "book").mkdir(parents=True)
    rows = b"book/one std:doc -1 book/one.html One\nbook/two std:doc -1 book/two.html Two\na py:class 1 b c\n"
    (folder / "objects.inv").write_bytes(b"# Sphinx\n# Project\n# Version\n# zlib\n" + zlib.compress(rows))
    (folder / "index.html").write_text('<meta content="0; url=book/one.html">', encoding="utf-8")
    for page in site.documents(folder):
        (folder / page).write_text(PAGE, encoding="utf-8")
    monkeypatch.chdir(tmp_path)
    return folder


@pytest.fixture
def broken_browser(tmp_path, monkeypatch):
    """A chromium on PATH that does nothing but end with 1."""
    pytest.importorskip("playwright")
    (tmp_path / "bin").mkdir()
    (tmp_path / "bin" / "chromium").write_text("#!/bin/sh\nexit 1\n", encoding="utf-8")
    (tmp_path / "bin" / "chromium").chmod(0o755)
    monkeypatch.setenv("PATH", str(tmp_path / "bin"), prepend=":")


def test_a_whole_site_is_taken(built):
    assert site.built_site().samefile(built) and site.documents(built) == ["book/one.html", "book/two.html"]


@pytest.mark.parametrize(
    ("page", "content", "words"),
    [
        ("book/two.html", None, "No such file or directory: '_build/html/book/two.html'"),
        ("book/two.html", "", "book/two.html is empty or cut"),
        ("book/one.html", PAGE[:-9], "book/one.html is empty or cut"),
        ("index.html", None, "No such file or directory: '_build/html/index.html'"),
        ("index.html", "", "index.html leads to no page"),
        ("objects.inv", "", "incomplete or truncated stream"),
    ],
)
@pytest.mark.parametrize("command", [["pdf"], ["reserve"], ["bench", "site"]], ids=" ".join)
def test_half_a_site_is_told_in_one_line(command, page, content, words, built, capsys):
    (built / page).unlink()
    if content is not None:
        (built / page).write_text(content, encoding="utf-8")
    assert cli.main(command) == 2
    said = capsys.readouterr().err
    assert f"the site in {built.resolve()} is not whole (" in said and words in said and said.count("\n") == 1
    assert said.endswith("give `make book` again\n")


@pytest.mark.parametrize("command", [["pdf"], ["reserve"], ["bench", "site"], ["bench", "engine"]], ids=" ".join)
def test_a_browser_that_does_not_start_is_told_in_one_line(command, built, broken_browser, capsys):
    assert cli.main(command) == 1
    said = capsys.readouterr().err
    assert "/bin/chromium does not start (" in said and "first on PATH" in said and said.count("\n") == 1


def test_what_a_browser_cannot_do_is_told_in_one_line(monkeypatch):
    playwright = pytest.importorskip("playwright.sync_api")
    if site.find_browser() is None:
        pytest.skip("no browser")
    with pytest.raises(RuntimeError, match=r"could not go on \(nothing was seen\): try again$"), site.started():
        raise playwright.Error("Page.goto: nothing was seen\nCall log:\n  - much\n")


@pytest.mark.parametrize("command", [["pdf"], ["reserve"], ["bench", "engine"]], ids=" ".join)
def test_without_playwright_the_package_is_named(command, built, monkeypatch, capsys):
    pytest.importorskip("pypdf")
    monkeypatch.setitem(sys.modules, "playwright.sync_api", None)
    assert cli.main(command) == 2
    assert f"`{command[0]}` needs playwright, which is not installed" in capsys.readouterr().err


@pytest.mark.parametrize("name", ["FIGURES", "FORMULAS"])
def test_reserve_tries_both_files_before_it_measures(name, built, tmp_path, monkeypatch):
    def measured():
        raise AssertionError

    monkeypatch.setattr(reserve, "started", measured)
    (tmp_path / "file").write_text("", encoding="utf-8")
    places = {"figures": tmp_path / "a.json", "formulas": tmp_path / "b.json"}
    places[name.lower()] = tmp_path / "file" / "x.json"
    with pytest.raises(
        OSError, match=r"cannot be written to .*x\.json .*name another place, or make this one writable"
    ):
        reserve.reserve(built, **places)


def test_pdf_tells_that_the_sites_folder_cannot_be_written(built, monkeypatch, tmp_path):
    pytest.importorskip("pypdf")
    (tmp_path / "file").write_text("", encoding="utf-8")
    monkeypatch.setattr(pdf, "PLACE", str(tmp_path / "file" / "whole.html"))
    with pytest.raises(OSError, match=r"the pages in one document cannot be written to .*whole\.html"):
        pdf.make(built, tmp_path / "book.pdf")
