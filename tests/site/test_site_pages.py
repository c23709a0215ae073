"""Every built page as readers meet it: light, dark, wide, on a phone, offline, from the folder, without scripts."""

import json
import re

import pytest
import site_harness as harness

NOTEBOOKS = [path for path in harness.listed_pages() if path.startswith("notebooks/")]


def test_these_are_all_pages(built):
    assert {*harness.pages(built)} == {*harness.listed_pages(), "index.html", "genindex.html", "search.html"}


def test_formulas_are_set_without_a_network(visit):
    page = visit("book/notation.html")
    assert page.locator("mjx-container").count() > 20
    assert page.locator("mjx-merror").count() == 0


def test_every_local_link_and_anchor_leads_somewhere(built):
    broken = {page: found for page in harness.pages(built) if (found := harness.broken_links(built, page))}
    assert not broken, json.dumps(broken, indent=1)


def test_the_pages_ask_for_nothing_outside(built):
    """No script, style or picture in any page's HTML has an address outside the site, loaded or not."""
    outside = re.compile(
        r"""<(?:script|img|iframe|source)\b[^>]*\bsrc=["'](?:https?:)?//"""
        r"""|<link\b[^>]*\brel=["'](?:stylesheet|preload|preconnect)["'][^>]*\bhref=["'](?:https?:)?//"""
    )
    found = [page for page in harness.pages(built) if outside.search((built / page).read_text(encoding="utf-8"))]
    assert not found


def test_every_content_image_says_what_it_shows(built):
    silent = {}
    for page in harness.pages(built):
        if found := harness.without_alt(harness.read_page(built / page).images):
            silent[page] = found
    assert not silent, f"images without alt text (cell metadata mystnb: image: alt:): {json.dumps(silent, indent=1)}"


def test_the_check_for_alt_text_can_fail():
    images = [
        {"src": "a"},
        {"src": "b", "alt": "../_images/0a1b.png"},
        {"src": "c", "alt": "figure"},
        {"src": "d", "alt": "Loss falls over ten epochs"},
    ]
    assert harness.without_alt(images) == ["a", "b", "c"]


@pytest.mark.parametrize("path", NOTEBOOKS)
def test_a_chapter_offers_colab_and_download_and_says_where_it_comes_from(built, path):
    links = harness.read_page(built / path).links
    name = path.removeprefix("notebooks/").removesuffix(".html")
    colab = f"https://colab.research.google.com/github/latentbook/latentbook/blob/main/notebooks/{name}.ipynb"
    assert colab in links
    assert f"../_sources/notebooks/{name}.ipynb" in links
    html = (built / path).read_text(encoding="utf-8")
    assert 'class="lb-provenance"' in html, "no record of the run: execute the notebook with `make execute`"
    facts = json.loads((harness.ROOT / "notebooks" / f"{name}.ipynb").read_text(encoding="utf-8"))["metadata"][
        "latentbook"
    ]
    assert facts["data"]["hash"][:12] in html and f"profile {facts['profile']}" in html


def test_the_address_of_the_repository_is_the_projects():
    config = (harness.ROOT / "_config.yml").read_text(encoding="utf-8")
    project = (harness.ROOT / "pyproject.toml").read_text(encoding="utf-8")
    written = re.search(r"^\s+url: (\S+)", config, re.MULTILINE)[1]
    assert written == re.search(r'^Repository = "(.+)"', project, re.MULTILINE)[1]


def test_the_front_page_asks_the_question_and_leads_to_every_chapter(visit):
    article = visit("book/index.html").locator("article")
    assert "When does a decoder listen to a latent, and when does it ignore it?" in article.inner_text()
    chapters = sorted((harness.ROOT / "notebooks").glob("[0-9][0-9]-*.ipynb"))
    for chapter in (path for path in chapters if not harness.is_companion(path)):
        assert article.locator(f'a[href$="{chapter.stem}.html"]').count() >= 1


def test_a_companion_comes_right_after_its_chapter_and_both_lead_to_each_other(built):
    for companion in (path for path in harness.listed_pages() if harness.is_companion(path)):
        chapter = companion.replace("-experiments", "")
        following, before = (
            re.search(rf'<a\s+class="{which}"\s+href="([^"]+)"', (built / page).read_text(encoding="utf-8"))[1]
            for which, page in (("right-next", chapter), ("left-prev", companion))
        )
        assert (following, before) == (companion.split("/")[1], chapter.split("/")[1])
        assert (
            f'href="{chapter.split("/")[1]}"'
            in re.search(r"<article\b.*?</article>", (built / companion).read_text(encoding="utf-8"), re.DOTALL)[0]
        ), f"{companion}: its introduction names its chapter"


@pytest.mark.parametrize("how", [{}, {"dark": True}, {"phone": True, "touch": True}], ids=["light", "dark", "phone"])
def test_the_front_pages_window_follows_the_hand(visit, how):
    figure = harness.Figure(visit("book/index.html", **how), "attention")
    scene, (scale, x, y) = figure.find(".lb-scene svg"), figure.state("where")
    move = figure.swipe if "touch" in how else figure.drag
    start = [(1 - shift / scale / 1.3) / 2 for shift in (x, y)]  # the window's centre; the scene shows 1.3 on each side
    move(scene, start, (start[0] + 0.2, start[1] + 0.1))
    assert figure.state("where") == pytest.approx([scale, x - scale * 0.2 * 2.6, y - scale * 0.1 * 2.6], abs=0.05)
    assert figure.find('input[data-trait="scene"]').count() == 10


def test_the_front_page_has_a_picture_where_no_script_runs(visit):
    stills = visit("book/index.html", scripts=False, phone=True).locator("figure.lb-still")
    for still, says in zip(stills.all(), ("the tutorial's model draws a 3", "a window with scale 2"), strict=True):
        assert still.locator("img").is_visible() and still.locator("figcaption").is_visible()
        assert says in still.locator("img").get_attribute("alt")


def test_words_that_name_a_concept_wear_its_colour_and_a_line_of_their_own(visit):
    page = visit("book/index.html")
    look = {
        name: page.locator(f"article .lb-{name}").last.evaluate(
            "e => { const s = getComputedStyle(e); return [s.textDecorationColor, s.textDecorationStyle, s.color]; }"
        )
        for name in ("data", "condition", "latent")
    }
    assert [colour for colour, _, _ in look.values()] == ["rgb(0, 114, 178)", "rgb(230, 159, 0)", "rgb(0, 158, 115)"]
    assert len({style for _, style, _ in look.values()}) == 3
    assert len({ink for _, _, ink in look.values()}) == 1  # legible: the ink stays the page's
