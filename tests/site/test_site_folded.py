"""Folded code: what folds says what it does, a switch opens it all, no line is cut, and how much code is seen."""

import importlib
import sys

import jupytext
import pytest
import site_harness as harness

sys.path.insert(0, str(harness.ROOT / "book" / "_ext"))  # as Sphinx has it: the helpers import one another
folding = importlib.import_module("folding")

SOURCES = sorted((harness.ROOT / "notebooks").glob("[0-9][0-9]-*.md"))
COLUMNS = 88  # characters of a line of code that the page shows in one line
CHAPTER = "notebooks/04-spatial-transformer.html"
CODE = ".cell_input, .cell_output div.highlight:not(.highlight-none), .bd-article section > div[class*='highlight-']"


def share_of_code(page) -> float:
    """The share of a page's height that visible code takes: open input cells, printed source, listings in the text."""
    return page.evaluate(
        """(code) => {
            const article = document.querySelector("article.bd-article");
            const blocks = [...article.querySelectorAll(code)].filter((block) => !block.parentElement.closest(code));
            const heights = blocks.map((block) => block.checkVisibility() ? block.getBoundingClientRect().height : 0);
            return heights.reduce((sum, height) => sum + height, 0) / article.getBoundingClientRect().height;
        }""",
        CODE,
    )


def cut_lines(page) -> list[str]:
    """The blocks of code that are wider than what shows of them, by how they start."""
    return page.evaluate(
        """() => [...document.querySelectorAll("article.bd-article pre")]
            .filter((pre) => pre.checkVisibility() && pre.scrollWidth > pre.clientWidth + 1)
            .map((pre) => `${pre.scrollWidth - pre.clientWidth} px of ${pre.textContent.trim().slice(0, 60)}`)"""
    )


@pytest.mark.parametrize(
    ("code", "how", "said"),
    [
        ("import importlib.util\n\n%pip install x", {}, "Code: installs the library where it is missing (3 lines)"),
        ("import torch", {}, "Code: imports and set-up (1 line)"),
        ("from x import y\nplt.plot(y)", {"figure": "1.5"}, "Code: draws figure 1.5 (2 lines)"),
        ("rows = []\nfigures.Table([], rows)\n", {"table": True}, "Code: makes the table below (2 lines)"),
        ("x = 1\nprint(x)", {}, "Show the code (2 lines)"),
        ("x = 1", {"whole": True, "figure": "1.5"}, "A solution in code, with its output (1 line)"),
    ],
)
def test_a_fold_says_what_its_code_does(code, how, said):
    assert folding.words(code, **how) == said


@pytest.mark.parametrize("source", SOURCES, ids=lambda path: path.stem)
def test_every_chapter_folds_its_set_up_and_its_plots_and_shows_its_model(source):
    cells = [cell for cell in jupytext.read(source, fmt="md:myst").cells if cell.cell_type == "code"]
    seen = [c.source for c in cells if not {"hide-input", "hide-cell"} & set(c.metadata.get("tags", []))]
    assert not [code for code in seen if "%pip" in code or "profile()" in code or "plt.subplots(" in code]
    shows = [code for code in seen if "figures.Source(" in code or "figures.Excerpt(" in code]
    assert shows or harness.is_companion(source)  # a companion may show no model


@pytest.mark.parametrize("source", SOURCES, ids=lambda path: path.stem)
def test_the_page_folds_what_the_source_tags(built, source):
    cells = [cell for cell in jupytext.read(source, fmt="md:myst").cells if cell.cell_type == "code"]
    html = (built / "notebooks" / f"{source.stem}.html").read_text(encoding="utf-8")
    for tag, kind in (("hide-input", "lb-code"), ("hide-cell", "lb-solution")):
        tagged = sum(tag in cell.metadata.get("tags", []) for cell in cells)
        assert html.count(f'<details class="lb-fold {kind}">') == tagged, f"{tag}: run `make sync` or `make execute`"


@pytest.mark.parametrize("from_folder", [False, True], ids=["http", "file"])
def test_the_switch_opens_all_code_by_keyboard_and_the_visit_remembers(visit, built, from_folder):
    home = {"home": f"file://{built}/"} if from_folder else {}
    page = visit(CHAPTER, **home)
    switch = page.get_by_role("button", name="Show all code")
    folds = page.locator("details.lb-code")
    closed = page.locator("details.lb-code:not([open])")
    assert folds.count() > 5 and closed.count() == folds.count()
    switch.focus()
    page.keyboard.press("Enter")
    assert closed.count() == 0 and switch.count() == 0  # it says what it would do now
    assert page.locator("details.lb-solution[open]").count() == 0  # solutions are not given away
    page.reload()
    assert closed.count() == 0
    page.get_by_role("button", name="Hide code again").press("Space")
    assert closed.count() == folds.count()


def test_without_scripts_there_is_no_switch_and_folds_open(visit):
    page = visit(CHAPTER, scripts=False)
    assert not page.locator("button.lb-show-code").is_visible()
    page.locator("details.lb-code > summary").first.click()
    assert page.locator("details.lb-code .cell_input").first.is_visible()


def test_a_line_of_88_characters_stays_one_line(visit):
    page = visit(CHAPTER, scripts=False)
    for width in (1400, 1280, 1200, 1024):
        page.set_viewport_size({"width": width, "height": 900})
        one, full, wrapped = page.evaluate(
            """(columns) => {
                const all = [...document.querySelectorAll(".cell_output div.highlight pre")];
                const pre = all.find((block) => block.checkVisibility());
                return [1, columns, 3 * columns].map((length) => {
                    pre.textContent = "x".repeat(length);
                    return pre.getBoundingClientRect().height;
                });
            }""",
            COLUMNS,
        )
        assert one == full < wrapped, width


MEASURED = """
<div class="cell"><div class="cell_input" style="height: 100px"></div></div>
<div class="cell"><details><summary></summary><div class="cell_input" style="height: 500px"></div></details></div>
<div class="cell"><div class="cell_output"><div class="highlight" style="height: 50px"><pre>a</pre></div></div></div>
"""
FLAT = """article.bd-article { height: 600px; padding: 0 !important }
article.bd-article * { margin: 0 !important; padding: 0 !important; border: 0 !important }"""


def test_what_is_measured_as_code(visit):
    page = visit("book/bibliography.html")
    page.evaluate("(html) => { document.querySelector('article.bd-article').innerHTML = html; }", MEASURED)
    page.add_style_tag(content=FLAT)
    assert share_of_code(page) == pytest.approx(150 / 600, abs=0.01)
