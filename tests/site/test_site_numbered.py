"""Numbers, links and heads: chapters, figures, equations, references, descriptions, skip links, search by section."""

import importlib
import re
import sys

import pytest
import site_harness as harness
from docutils import nodes

sys.path.insert(0, str(harness.ROOT / "book" / "_ext"))  # as Sphinx has it: the helpers import one another
numbering, plain, head, finding = (importlib.import_module(name) for name in ("numbering", "plain", "head", "finding"))

NOTEBOOKS = sorted(path.stem for path in (harness.ROOT / "notebooks").glob("[0-9][0-9]-*.ipynb"))
CHAPTERS = [name for name in NOTEBOOKS if not harness.is_companion(name)]
LIVE = "notebooks/04-spatial-transformer.html"


def html_of(built, chapter: str) -> str:
    return (built / "notebooks" / f"{chapter}.html").read_text(encoding="utf-8")


@pytest.mark.parametrize(
    ("docname", "number"),
    [
        ("notebooks/00-variational-autoencoders", "0"),
        ("notebooks/03-multi-level-vae", "3"),
        ("notebooks/03-multi-level-vae-experiments", "E3"),
        ("book/03-notes", None),
        ("notebooks/drafts", None),
    ],
)
def test_a_chapters_number_is_its_files(docname, number):
    assert numbering.chapter_of(docname) == number


@pytest.mark.parametrize(
    ("text", "found"),
    [
        ("as figure 3.4 shows", [("figure 3.4", "figure", "3.4")]),
        ("Equation (2.1) is", [("Equation (2.1)", "equation", "2.1")]),
        (
            "figures 3.4, 3.5 and E3.10",
            [("figures 3.4", "figure", "3.4"), ("3.5", "figure", "3.5"), ("E3.10", "figure", "E3.10")],
        ),
        ("equations (1.1) to\n(1.3)", [("equations (1.1)", "equation", "1.1"), ("(1.3)", "equation", "1.3")]),
        ("figure\n0.2.", [("figure\n0.2", "figure", "0.2")]),
        ("equation 7 of the paper, section 3.4, a figure of 3.4 nats, reconfigure 3.4", []),
    ],
)
def test_references_are_found_in_a_text(text, found):
    assert [(text[a:b], kind, number) for a, b, kind, number in numbering.references(text)] == found


def test_a_caption_is_a_paragraph_emphasised_from_end_to_end():
    emphasis, words = nodes.emphasis("", "A digit."), nodes.Text(" and more")
    assert numbering.is_emphasised(nodes.paragraph("", "", emphasis, nodes.Text("\n")))
    assert not numbering.is_emphasised(nodes.paragraph("", "", emphasis.deepcopy(), words))
    bold = nodes.paragraph("", "", nodes.Text(""), nodes.strong("", "Digits."), nodes.Text(" More."))
    assert numbering.has_bold_lead(bold) and not numbering.is_emphasised(bold)
    assert not numbering.is_emphasised(None) and not numbering.has_bold_lead(None)
    assert numbering.caption("3.4", nodes.paragraph("", "", emphasis.deepcopy())).children[0].astext() == "A digit."
    assert numbering.caption("3.4", None).children == []


@pytest.mark.parametrize(
    ("tex", "said"),
    [
        (r"\ell", "ℓ"),
        (r"\sigma^2", "σ^2"),
        (r"p(x \mid z)", "p(x |z)"),
        (r"-\log u_k", "-log u_k"),
        (r"\mathcal{L}\,\beta", "L β"),
        (r"\text{KL}(q \| p)", "KL(q | p)"),
    ],
)
def test_a_formula_is_said_without_tex(tex, said):
    assert plain.formula(tex) == said


def test_a_description_is_whole_sentences_up_to_200_characters():
    assert plain.description(iter(["Short. " + "word " * 20 + "end. Next one."])) == "Short. " + "word " * 20 + "end."
    assert plain.description(
        iter(["Is it?", "It is one of those things that are long enough to be said here, or nearly so."])
    ).startswith("Is it? It is")
    long = plain.description(iter(["word " * 100 + "."]))
    assert len(long) <= 200 and long.endswith("…")
    assert plain.description(iter([])) == ""


def test_reading_time_counts_no_code_tables_or_closed_details():
    document = nodes.section()
    document += nodes.paragraph("", "Three words here.")
    document += nodes.raw("", "<details><summary>more</summary>", format="html")
    document += nodes.paragraph("", "hidden away")
    document += nodes.raw("", "</details>", format="html")
    document += nodes.container("", nodes.paragraph("", "an output"), nb_element="cell_code_output")
    document += nodes.table("", nodes.paragraph("", "a cell"))
    assert list(plain.prose(document)) == ["Three words here."]
    assert [head.minutes(n) for n in (0, 300, 2200)] == [1, 1, 10]


def test_objectives_stand_at_the_head_where_there_are_any():
    assert "lb-objectives" not in head.head(900, [], False) and "button" not in head.head(900, [], False)
    shown = head.head(900, head.objectives('["see `fit`", "tell *why* <b>"]'), True)
    assert "<li>see <code>fit</code></li><li>tell <em>why</em> &lt;b&gt;</li>" in shown and "button" in shown
    assert head.objectives(None) == [] and head.objectives(["a"]) == ["a"] and head.objectives("one") == ["one"]


def test_absolute_addresses_stand_only_where_the_site_has_one():
    assert "og:url" not in head.tags("T", "D", "S", "../p.png", None)
    shown = head.tags('A "title"', "D", "S", "https://x.org/p.png", "https://x.org/a.html")
    assert 'content="A &quot;title&quot;"' in shown and 'og:url" content="https://x.org/a.html"' in shown


def test_a_page_is_searched_by_section():
    inner = nodes.section("", nodes.title("", "Inner"), nodes.paragraph("", "inside"), ids=["inner"])
    cell = nodes.container("", nodes.literal_block("", "x = 1"), nb_element="cell_code")
    formula = nodes.paragraph("", "with ", nodes.math("", r"\beta"), nodes.Text(" on top"))
    outer = nodes.section("", nodes.title("", "Outer"), formula, cell, inner, ids=["outer", "other"])
    document = nodes.section("", outer)
    found = {anchor: rest for anchor, *rest in finding.sections(document) if anchor}
    assert found == {"outer": ["Outer", "with β on top", "x = 1"], "inner": ["Inner", "inside", ""]}


def test_chapters_are_numbered_in_title_and_sidebar(built):
    page = html_of(built, CHAPTERS[0])
    for chapter in NOTEBOOKS:
        number = numbering.chapter_of(f"notebooks/{chapter}")
        own = html_of(built, chapter)
        assert f'<h1><span class="lb-chapter">{number}.</span> ' in own and f"<title>{number}. " in own
        assert re.search(rf'toctree-l\d[^>]*><a[^>]*><span class="lb-chapter">{number}\.</span> ', page)


@pytest.mark.parametrize("chapter", NOTEBOOKS)
def test_every_picture_outside_a_solution_has_a_number_and_a_link_to_itself(visit, chapter):
    page = visit(f"notebooks/{chapter}.html", scripts=False)
    found = page.evaluate(
        """() => ({
            bare: [...document.querySelectorAll("article .cell_output :is(img, div.lb-static)")]
                .filter((e) => !e.closest("figure.lb-figure") && !e.closest("details.lb-solution")).length,
            figures: [...document.querySelectorAll("article figure.lb-figure")].map((figure) =>
                [figure.id, figure.querySelector(":scope > figcaption .lb-number").textContent,
                 figure.querySelector(":scope > figcaption a.headerlink").hash]),
            equations: [...document.querySelectorAll("article div.math")]
                .map((e) => [e.id, e.querySelector(".eqno")?.firstChild.textContent]),
        })"""
    )
    number = numbering.chapter_of(f"notebooks/{chapter}")
    names = [
        (numbering.anchor("figure", f"{number}.{i}"), f"Figure {number}.{i}")
        for i in range(1, len(found["figures"]) + 1)
    ]
    assert found["bare"] == 0 and len(names) > (0 if harness.is_companion(chapter) else 3)
    assert found["figures"] == [[anchor, name, f"#{anchor}"] for anchor, name in names]
    assert found["equations"] == [
        [numbering.anchor("equation", f"{number}.{i}"), f"({number}.{i})"]
        for i in range(1, len(found["equations"]) + 1)
    ]


def test_most_figures_have_their_caption(built):
    for chapter in NOTEBOOKS:
        captions = re.findall(
            r'<figcaption><p><span class="lb-number">[^<]*</span> (.*?)<a class="headerlink"',
            html_of(built, chapter),
            re.S,
        )
        assert sum(len(text.split()) > 5 for text in captions) > 0.6 * len(captions), chapter


BOOK = {
    "conf.py": "import sys\nsys.path.insert(0, {ext!r})\nextensions = ['myst_nb', 'numbering']\nnb_execution_mode = 'off'\n"
    "suppress_warnings = ['toc', 'app']\nmath_numfig = False\nmyst_enable_extensions = ['dollarmath']\n",
    "index.md": "# Book\n\n```{toctree}\nnotebooks/03-three\nnotebooks/04-four\n```\n",
    "notebooks/03-three.md": "# Three\n\nSee equation (3.1), figure 4.1 and `figure 9.9`.\n\n$$\nx\n$$\n",
    "notebooks/04-four.md": "# Four\n\nBack to equation (3.1).\n",
}


def build_small(folder, **changed) -> tuple[str, dict[str, str]]:
    """Build a book of two chapters; returns what Sphinx warned of and the chapters' HTML."""
    import io

    from sphinx.application import Sphinx
    from sphinx.util.docutils import docutils_namespace

    for name, text in (BOOK | changed).items():
        path = folder / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text.format(ext=str(harness.ROOT / "book" / "_ext")) if name == "conf.py" else text)
    warnings = io.StringIO()
    with docutils_namespace():
        app = Sphinx(folder, folder, folder / "out", folder / "trees", "html", status=None, warning=warnings)
        app.build()
    pages = {n: (folder / "out" / "notebooks" / f"{n}.html").read_text() for n in ("03-three", "04-four")}
    return warnings.getvalue(), pages


def test_references_become_links_and_one_that_leads_nowhere_is_warned_of(tmp_path):
    warned, pages = build_small(tmp_path)
    assert 'href="#equation-3-1"' in pages["03-three"] and 'href="03-three.html#equation-3-1"' in pages["04-four"]
    assert "there is no figure 4.1" in warned and "9.9" not in warned and "figure 4.1" in pages["03-three"]
    # a page that has not changed is warned of too, when what it refers to is gone
    warned, _ = build_small(tmp_path, **{"notebooks/03-three.md": "# Three\n\nNothing here.\n"})
    assert "there is no equation 3.1" in warned and "figure 4.1" not in warned


def test_every_page_has_a_description_and_a_picture_of_its_own(built):
    seen = set()
    for name in ["book/index", *(f"notebooks/{chapter}" for chapter in NOTEBOOKS)]:
        html = (built / f"{name}.html").read_text(encoding="utf-8")
        (described,) = re.findall(r'<meta name="description" content="([^"]+)"', html)
        (picture,) = re.findall(r'<meta property="og:image" content="\.\./([^"]+)"', html)
        assert len(described) > 50 and "\\" not in described and f'og:description" content="{described}"' in html
        assert (built / picture).stat().st_size < 300_000
        seen |= {described, picture}
    assert len(seen) == 2 * (len(NOTEBOOKS) + 1)


def test_a_preview_has_the_shape_of_a_card():
    import io

    from PIL import Image

    for size in ((2000, 100), (10, 300)):
        out = io.BytesIO()
        Image.new("L", size, 0).save(out, "PNG")
        card = Image.open(io.BytesIO(head.preview(out.getvalue()))).convert("L")
        assert card.size == (1200, 630) and card.getpixel((0, 0)) == 255 and card.getpixel((600, 315)) == 0


def test_a_chapter_says_how_long_it_takes_to_read(built):
    for chapter in CHAPTERS:
        (minutes,) = re.findall(r'<p class="lb-reading"><span>(\d+) minutes to read', html_of(built, chapter))
        assert 5 <= int(minutes) <= 40


def test_a_skip_link_shows_on_focus_and_leads_to_its_figure(visit):
    page = visit(LIVE)
    page.keyboard.press("Tab")  # the theme's own: to the main content
    links = page.locator(".lb-skip a")
    assert links.count() == page.locator("figure.lb-live").count() == 2
    page.keyboard.press("Tab")
    assert links.first.evaluate("link => link === document.activeElement")
    assert harness.becomes(lambda: links.first.bounding_box()["y"] >= 0, True)
    page.keyboard.press("Enter")
    assert page.evaluate("document.activeElement.id") == links.first.get_attribute("href")[1:]
    place = page.evaluate("document.activeElement.id")
    page.wait_for_function("id => document.getElementById(id).querySelector('[data-live]')", arg=place)
    page.keyboard.press("Tab")
    assert page.evaluate("document.activeElement.closest('figure.lb-live')?.id") == place


@pytest.mark.parametrize("from_folder", [False, True], ids=["http", "file"])
def test_search_lands_on_a_section_and_shows_words(visit, built, from_folder):
    home = {"home": f"file://{built}/"} if from_folder else {}
    page = visit("search.html?q=gumbel+temperature", **home)
    links = page.locator("#search-results li a")
    links.first.wait_for()
    addresses = links.evaluate_all("all => all.map((a) => a.getAttribute('href'))")
    assert addresses and all("#" in address for address in addresses)
    assert re.search(r"02-conditional-vae(-experiments)?\.html#", " ".join(addresses[:3]))
    said = " ".join(page.locator("#search-results p.context").all_inner_texts())
    assert "\\(" not in said and "\\ell" not in said and page.locator("#search-results mark").count() > 1
    links.first.click()
    page.wait_for_load_state()
    assert page.evaluate("document.getElementById(decodeURIComponent(location.hash.slice(1))) !== null")


def test_search_finds_other_forms_of_a_word_and_says_when_there_is_nothing(visit):
    page = visit("search.html?q=trains")
    count = page.evaluate("latentbookSearch.find('trains').length")
    assert count == page.evaluate("latentbookSearch.find('training').length") > 20
    assert page.evaluate("latentbookSearch.find('unheardofword').length") == 0
    assert page.evaluate("latentbookSearch.find('gumbel unheardofword').length") == 0
