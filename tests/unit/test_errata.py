"""The errata quote what the book said, and know whether a chapter still says it."""

import re
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]
STILL = "0.2 on this page; the chapter still says so."


def plain(text: str) -> str:
    """Text as a reader has it, in one line: no markers of numbers, no emphasis."""
    return " ".join(re.sub(r"<!--.*?-->|\*\*", "", text, flags=re.DOTALL).split())


def entries(page: str) -> list[tuple[str, str, str, str]]:
    """(page that was wrong, title, quotation, rest) of every entry."""
    found = []
    for chapter in re.split(r"^## ", page, flags=re.MULTILINE)[1:]:
        source = re.search(r"^\[.+\]\((.+)\)$", chapter, re.MULTILINE)[1].replace(".ipynb", ".md")
        for entry in re.split(r"^### ", chapter, flags=re.MULTILINE)[1:]:
            title, _, text = entry.partition("\n")
            quotation = " ".join(re.findall(r"^> (.+)$", text, re.MULTILINE))
            found.append((source, title, plain(quotation), plain(re.sub(r"^>.*$", "", text, flags=re.MULTILINE))))
    return found


ENTRIES = entries((ROOT / "book" / "errata.md").read_text(encoding="utf-8"))


@pytest.mark.parametrize(("source", "title", "quotation", "rest"), ENTRIES, ids=[title for _, title, *_ in ENTRIES])
def test_an_entry_says_what_is_right_and_whether_its_page_still_is_wrong(source, title, quotation, rest):
    assert quotation and "Right: " in rest and re.search(r"Since: \d\.\d", rest)
    said = quotation in plain((ROOT / "book" / source).read_text(encoding="utf-8"))
    if STILL in rest:
        assert said, f"{source} says this no longer: write `**Since:** 0.2.` in the errata"
    else:
        assert not said, f"{source} still says: {quotation}"


def test_a_sentence_is_found_over_lines_and_markers():
    page = "## A\n\n[a](a.ipynb)\n\n### B\n\n> of 10 runs\n\n**Right:** 9.\n**Since:** 0.2.\n"
    assert entries(page) == [("a.md", "B", "of 10 runs", "Right: 9. Since: 0.2.")]
    assert "of 10 runs" in plain("of <!-- =a/b/c d -->10<!-- / -->\n**runs**")
