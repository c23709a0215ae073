"""On paper: light, nothing cut, stills in place of controls, no half-empty sheets and few of them; the book as one PDF."""

import io
import os
import shutil

import pytest
import site_harness as harness
from pypdf import PdfReader

from latentbook.authoring import pdf

PAPER = {"width": 673, "height": 990}  # what A4 leaves between the margins of print.css, in CSS pixels
CHAPTERS = {  # and the most sheets each may take, code folded; 25 where one is shortened
    "notebooks/00-variational-autoencoders.html": 25,
    "notebooks/01-mix-and-match.html": 25,
    "notebooks/02-conditional-vae.html": 25,
    "notebooks/03-multi-level-vae.html": 25,
    "notebooks/04-spatial-transformer.html": 25,
    "notebooks/05-attend-infer-repeat.html": 30,
}
COMPANIONS = [path for path in harness.listed_pages() if harness.is_companion(path)]
OTHERS = ["book/index.html", "book/notation.html", "book/bibliography.html", *COMPANIONS]

# Elements of the text that hold more than they show, or whose text leaves the sheet.
CUT = """() => {
    const room = document.documentElement.clientWidth, found = [];
    for (const element of document.querySelectorAll("article *")) {
        if (element.closest("svg, mjx-assistive-mml, .visually-hidden") || !element.checkVisibility()) continue;
        const style = getComputedStyle(element), words = element.outerHTML.slice(0, 100);
        if (element.matches("mjx-math") && element.getBoundingClientRect().right > room + 1) found.push(`a formula: ${words}`);
        if (element.closest(".math")) continue; // it holds its own words for those who do not see it, unseen and wider
        if (style.overflowX !== "visible" && element.clientWidth && element.scrollWidth > element.clientWidth + 1)
            found.push(`shows ${element.clientWidth} of ${element.scrollWidth} px: ${words}`);
        for (const node of element.childNodes) {
            if (node.nodeType !== Node.TEXT_NODE || !node.data.trim()) continue;
            const range = document.createRange();
            range.selectNodeContents(node);
            const right = Math.max(...[...range.getClientRects()].map((box) => box.right));
            if (right > room + 1) found.push(`ends at ${Math.round(right)} of ${room} px: ${words}`);
        }
    }
    return found;
}"""
# What is kept whole, by a rule or because it scrolls, and is higher than a third of the sheet; pictures aside.
KEPT_WHOLE = """(most) => [...document.querySelectorAll("article *")]
    .filter((element) => element.checkVisibility() && !element.closest("svg, img, picture, mjx-container"))
    .filter((element) => {
        const { breakInside, overflowY, display } = getComputedStyle(element);
        return display !== "inline" && (breakInside.startsWith("avoid") || ["auto", "scroll", "hidden"].includes(overflowY));
    })
    .filter((element) => element.getBoundingClientRect().height > most && element.innerText.length > 200)
    .map((element) => `${Math.round(element.getBoundingClientRect().height)} px: ${element.outerHTML.slice(0, 100)}`)"""


@pytest.fixture(scope="module")
def on_paper(browser, address):
    """on_paper(path) gives a page as it is printed, from the dark theme; the pages stay open for the tests that follow."""
    context = browser.new_context(viewport=PAPER, color_scheme="dark", reduced_motion="reduce")
    visitors = {}

    def open_page(path):
        if path not in visitors:
            visitors[path] = harness.Visitor(context.new_page(), address)
            page = visitors[path].open(path)
            page.emulate_media(media="print")
            page.evaluate("() => latentbook.whole()")
        return visitors[path].page

    yield open_page
    complaints = [complaint for visitor in visitors.values() for complaint in visitor.complaints]
    context.close()
    assert complaints == []


@pytest.mark.parametrize("path", [*CHAPTERS, *OTHERS])
def test_nothing_is_cut_and_nothing_large_is_kept_whole(on_paper, path):
    page = on_paper(path)
    assert page.evaluate(CUT) == []
    assert page.evaluate(KEPT_WHOLE, PAPER["height"] / 3) == []


def test_cut_text_would_be_found(on_paper):
    page = on_paper("book/bibliography.html")
    page.evaluate("""() => document.querySelector("article").insertAdjacentHTML("beforeend",
        `<div class="try">
         <div style="overflow: hidden !important; width: 90px; white-space: nowrap">words that are much too long</div>
         <b style="position: relative; left: 660px; white-space: nowrap">over the edge</b>
         <div style="break-inside: avoid !important; height: 700px">${"word ".repeat(60)}</div></div>`)""")
    cut, kept = page.evaluate(CUT), page.evaluate(KEPT_WHOLE, PAPER["height"] / 3)
    page.evaluate("document.querySelector('.try').remove()")
    assert len(kept) == 1 and any("over the edge" in line or "ends at" in line for line in cut)


@pytest.mark.parametrize("path", CHAPTERS)
def test_a_chapter_takes_few_enough_sheets(on_paper, path):
    printed = on_paper(path).pdf(prefer_css_page_size=True, print_background=True)
    assert len(PdfReader(io.BytesIO(printed)).pages) <= CHAPTERS[path]


@pytest.mark.parametrize("path", ["notebooks/05-attend-infer-repeat.html", "book/index.html"])
def test_stills_are_printed_in_place_of_figures_that_live(on_paper, path):
    page = on_paper(path)
    page.emulate_media(media="screen")
    harness.Figure(page, "repeat" if "05" in path else "attention")
    page.emulate_media(media="print")
    assert page.locator("figure.lb-widget").count() and not page.locator("figure.lb-widget").first.is_visible()
    assert page.locator("article input:visible, article button:visible").count() == 0
    still = page.locator(".lb-still img").first
    assert still.is_visible() and still.evaluate("image => image.decode().then(() => image.naturalWidth)") > 300


@pytest.mark.parametrize("path", ["notebooks/01-mix-and-match.html", "book/notation.html"])
def test_paper_is_white_and_bare_of_the_site(on_paper, path):
    page = on_paper(path)
    colour = "(element, which) => getComputedStyle(element)[which]"
    paper = page.locator("body").evaluate(colour, "backgroundColor")
    ink = page.locator("article p").first.evaluate(colour, "color")
    assert paper == "rgb(255, 255, 255)" and max(int(v) for v in ink[4:-1].split(",")[:3]) < 120
    furniture = (
        ".bd-header-article, .bd-sidebar, .bd-footer, .prev-next-area, #pst-back-to-top, .lb-top, .headerlink, .copybtn"
    )
    assert (
        page.locator(furniture).evaluate_all("all => all.filter((e) => e.checkVisibility()).map((e) => e.className)")
        == []
    )


INK = """(most) => [...document.querySelectorAll("article .highlight pre, article .highlight pre span, article td, article p")]
    .filter((element) => element.checkVisibility() && [...element.childNodes].some((n) => n.nodeType === 3 && n.data.trim()))
    .map((element) => [getComputedStyle(element).color.match(/[\\d.]+/g).slice(0, 3).map(Number), element.outerHTML.slice(0, 80)])
    .filter(([[r, g, b]]) => 0.2126 * r + 0.7152 * g + 0.0722 * b > most)"""


DARK = """(least) => [...document.querySelectorAll("body *")].filter((element) => {
    const [r, g, b, alpha] = getComputedStyle(element).backgroundColor.match(/[\\d.]+/g).map(Number);
    return element.checkVisibility() && (alpha ?? 1) > 0 && r + g + b < least;
}).map((element) => element.className)"""


@pytest.mark.parametrize("path", ["notebooks/02-conditional-vae.html", "notebooks/05-attend-infer-repeat.html"])
def test_pictures_and_code_are_dark_ink_also_from_the_dark_theme(on_paper, path):
    page = on_paper(path)
    assert page.locator("html").get_attribute("data-theme") == "dark"
    assert page.evaluate(INK, 140) == []
    assert page.evaluate(DARK, 600) == []
    kinds = "all => all.map((e) => [...e.querySelectorAll('img')].filter((i) => i.checkVisibility()).map((i) => i.className))"
    shown = page.locator(".lb-picture-of-code:not(details *)").evaluate_all(kinds)
    assert len(shown) > 5 and all(each == ["only-light"] for each in shown)
    turned = "all => all.filter((e) => e.checkVisibility() && getComputedStyle(e).filter !== 'none').length"
    assert page.locator("article img").evaluate_all(turned) == 0


def test_code_that_is_folded_stays_folded_on_paper(on_paper):
    page = on_paper("notebooks/01-mix-and-match.html")
    shown = (
        "all => all.filter((e) => [...e.children].some((c) => c.tagName !== 'SUMMARY' && c.checkVisibility())).length"
    )
    folds = page.locator("article details:not([open])")
    assert folds.count() > 0 and folds.evaluate_all(shown) == 0


def test_links_of_the_one_pdf_lead_to_its_sheets(browser, built, tmp_path):
    site = tmp_path / "html"
    shutil.copytree(built, site, copy_function=os.link)  # the document stands among the pages while it is printed
    names = ["book/index", "book/notation", "book/bibliography"]
    document = site / pdf.PLACE
    numbers = pdf.sheets(pdf.printed(browser.new_page, document, pdf.whole(site, names, {})))
    found = pdf.printed(browser.new_page, document, pdf.whole(site, names, numbers))
    reader = PdfReader(io.BytesIO(found))
    assert numbers == pdf.sheets(found), "the contents take other room with their numbers in"
    annotations = [one.get_object() for page in reader.pages for one in page.get("/Annots", [])]
    leads = [one["/Dest"].lstrip("/") for one in annotations if "/Dest" in one]
    assert len(leads) > 60 and set(leads) <= {name.lstrip("/") for name in reader.named_destinations}
    text = reader.pages[1].extract_text()
    assert "Contents" in text and f"Bibliography{numbers[pdf.anchor(names[2], 'bibliography')]}" in text.replace(
        " ", ""
    ).replace("\n", "")


def test_nothing_is_cut_in_the_one_pdf(browser, built, tmp_path):
    """Of what is no chapter: those are looked at one by one, above."""
    site = tmp_path / "html"
    shutil.copytree(built, site, copy_function=os.link)
    names = [name for name in pdf.pages(site) if not name.startswith("notebooks/")]
    page = pdf.laid_out(lambda: browser.new_page(viewport=PAPER), site / pdf.PLACE, pdf.whole(site, names, {}))
    cut, wide = page.evaluate(CUT), page.evaluate("document.documentElement.scrollWidth")
    page.close()
    assert len(names) > 5
    assert (cut, wide) == ([], PAPER["width"])  # one thing that is wider makes the browser print all of it smaller
