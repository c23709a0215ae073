"""The book on paper: one document from the pages, links between them alive, contents with page numbers."""

import re

import pytest

from latentbook.authoring import pdf

PAGE = """<!doctype html><html><head><link rel="stylesheet" href="../_static/a.css"><title>t</title></head><body>
<article class="bd-article"><section id="{name}"><h1>{title}<a class="headerlink" href="#{name}">#</a></h1>
<section id="part"><h2>A <em>part</em></h2><p><a href="{other}.html#part">over there</a> <a href="#part">here</a>
<a href="https://example.org/#part">away</a> <code>href="#part"</code></p><script>alert("no")</script>
<img src="../_images/a.png" loading="lazy" alt="href"></section></section></article>{following}</body></html>"""


@pytest.fixture
def site(tmp_path):
    (tmp_path / "book").mkdir()
    (tmp_path / "index.html").write_text(
        '<title>The book</title><meta content="0; url=book/one.html">', encoding="utf-8"
    )
    link = '<a class="right-next"\n href="two.html" title="next">'
    for name, title, other, following in (("one", "One", "two", link), ("two", "Two", "one", "")):
        text = PAGE.format(name=name, title=title, other=other, following=following)
        (tmp_path / "book" / f"{name}.html").write_text(text, encoding="utf-8")
    return tmp_path


def test_the_pages_are_found_in_reading_order(site):
    assert pdf.pages(site) == ["book/one", "book/two"]


def test_links_lead_to_where_the_other_page_stands_in_the_document(site):
    text = pdf.whole(site, pdf.pages(site), {})
    ids, links = re.findall(r'\bid="([^"]+)"', text), re.findall(r'<a href="#([^"]+)">(?:over there|here)', text)
    assert links == ["book-two--part", "book-one--part", "book-one--part", "book-two--part"]
    assert len(ids) == len(set(ids)) and set(links) <= set(ids)
    assert text.count('<a href="https://example.org/#part">') == 2
    assert text.count('<code>href="#part"</code>') == 2  # text is no attribute
    assert "alert" not in text and "lazy" not in text


def test_the_contents_have_the_sheet_of_every_page_and_of_the_sections_of_chapters(site):
    numbers = {"book-one--one": 3, "book-one--part": 4, "book-two--two": 9, "book-two--part": 10}
    listed = r'<li class="lb-(\w+)" data-page="(\d+)"><a href="#[^"]+">(.*?)</a>'
    found = re.findall(listed, pdf.whole(site, pdf.pages(site), numbers))
    assert found == [("chapter", "3", "One"), ("chapter", "9", "Two")]
    chapter = pdf.article(PAGE.format(name="one", title="One", other="two", following=""), "notebooks/one", set())
    found = re.findall(
        listed, pdf.contents({"notebooks/one": chapter}, {"notebooks-one--one": 5, "notebooks-one--part": 6})
    )
    assert found == [("chapter", "5", "One"), ("section", "6", "A part")]


def test_a_site_that_is_not_built_is_told(tmp_path):
    with pytest.raises(ValueError, match="give `make book` first"):
        pdf.make(tmp_path, tmp_path / "book.pdf")
    assert not (tmp_path / "book.pdf").exists()
