"""Pages that are light: what they weigh, what they wait for, and that nothing moves when figures and formulas come."""

import importlib
import re
import sys
from types import SimpleNamespace

import pytest
import site_harness as harness
from site_harness import Figure

from latentbook.authoring import site_bench
from latentbook.authoring.site import built_site, pages

EXT = harness.ROOT / "book" / "_ext"
sys.path.insert(0, str(EXT))
light, icons = importlib.import_module("light"), importlib.import_module("light_icons")
CHAPTER = "notebooks/05-attend-infer-repeat.html"


def with_figures(built) -> list[str]:
    return [path for path in harness.pages(built) if harness.read_page(built / path).states]


def test_no_icon_font_and_no_script_that_draws_icons(built):
    left = [path for path in built.rglob("*") if re.search(r"fontawesome|fa-(solid|brands|regular)-", path.name)]
    assert not left
    for path in pages(built):
        text = (built / path).read_text(encoding="utf-8")
        assert "fontawesome" not in text and not icons.GLYPH.search(text), path
    for sheet in (built / "_static" / "styles").glob("*.css"):
        assert "webfonts" not in sheet.read_text(encoding="utf-8")


def test_every_button_with_a_glyph_has_a_name_and_shows_it(visit):
    page = visit(CHAPTER)
    found = page.evaluate(
        """() => [...document.querySelectorAll("button, a")].filter((b) => b.querySelector(".lb-icon")).map((b) => {
            const box = [...b.querySelectorAll(".lb-icon")].map((icon) => icon.getBoundingClientRect().width);
            const name = b.getAttribute("aria-label") || b.textContent.trim() || b.title;
            return [name, b.checkVisibility(), Math.max(...box), box.filter(Boolean).length];
        })"""
    )
    assert len(found) > 10 and all(name for name, *_ in found)
    assert all(10 <= width <= 30 and count == 1 for _, shown, width, count in found if shown), found


def test_the_themes_buttons_still_work(visit):
    page = visit(CHAPTER)
    switch = page.locator(".theme-switch-button").first
    before = page.evaluate("document.documentElement.dataset.mode")
    switch.click()
    assert page.evaluate("document.documentElement.dataset.mode") != before
    page.locator(".dropdown-launch-buttons button").click()
    assert page.locator(".dropdown-launch-buttons .dropdown-menu").is_visible()
    page.keyboard.press("Escape")
    page.keyboard.press("Control+k")
    assert page.locator("#pst-search-dialog input").is_visible()
    assert page.locator("button.copybtn").count() > 5


def test_a_companion_is_found_below_its_chapter_in_the_sidebar(visit):
    companion = next(path for path in harness.listed_pages() if harness.is_companion(path))
    chapter = companion.replace("-experiments", "").split("/")[1]
    page = visit(companion.replace("-experiments", ""))
    link = page.locator(f'.bd-sidebar-primary a[href="{companion.split("/")[1]}"]')
    assert link.is_visible()  # where its chapter is read
    page = visit("book/notation.html")
    item = page.locator(".bd-sidebar-primary li").filter(has=page.locator(f'> a[href$="{chapter}"]'))
    fold = item.get_by_label(light.BELOW)
    assert not item.locator("li a").is_visible()
    fold.focus()
    page.keyboard.press("Enter")
    assert item.locator("li a").is_visible()


def test_the_search_finds(visit):
    page = visit("search.html?q=decoder")
    assert page.locator("#search-results li").first.inner_text()


def test_a_glyph_keeps_what_the_theme_needs_and_an_unknown_one_stops_the_build():
    drawn = icons.draw_icons('<i class="theme-switch fa-solid fa-sun  fa-lg" data-mode="light" title="Light"></i>')
    assert drawn.startswith('<svg class="lb-icon theme-switch" data-mode="light" viewBox')
    assert 'aria-hidden="true"' in drawn
    with pytest.raises(ValueError, match="no drawing for the icon 'fas fa-otter'"):
        icons.draw_icons('<i class="fas fa-otter"></i>')


def test_a_sheet_loses_the_icon_fonts_rules_alone():
    font = '.fa-x:before{content:"x"}.fa-y,.fa-z:before{d:e}', "@font-face{font-family:Font Awesome;h:i}"
    sheet = f".a{{b:c}}{font[0]}ul svg.fa-x{{f:g}}{font[1]}.j{{k:l}}"
    assert light.without_icons(sheet) == ".a{b:c}ul svg.fa-x{f:g}.j{k:l}"


def test_states_and_stills_stand_beside_the_page_under_names_of_their_content(built):
    for path in with_figures(built):
        text = (built / path).read_text(encoding="utf-8")
        assert 'src="data:image/' not in text, path
        assert all(len(state) <= light.SMALL for state in re.findall(r'data-state="([^"]*)"', text)), path
        for place in re.findall(r"[\w./-]+/latentbook/(?:states|stills)/[\w.]+", text):
            assert (built / path).parent.joinpath(place).resolve().is_file(), place
    registered = '(window.latentbookStates??={})["'
    for file in (built / light.STATES).iterdir():
        assert file.read_text(encoding="utf-8").startswith(f'{registered}{file.stem}"]=')


def test_a_states_file_is_named_by_what_it_holds(tmp_path):
    made = light.Pages(tmp_path, {}, tmp_path)
    one, again, other = (made.register(value) for value in ({"a": 1}, {"a": 1}, {"a": 2}))
    assert one == again != other
    big = {"network": "A" * (light.LARGE + 1), "sheet": "data:" + "A" * light.LARGE, "scene": 3}
    found = made.outside(big, "../")
    assert found["data-later"] == f"network=../{light.STATES}/{made.register(big['network'])}.js"
    first = (tmp_path / found["data-from"].removeprefix("../")).read_text(encoding="utf-8")
    assert '"scene":3' in first and "network" not in first


def test_every_image_waits_and_has_its_size(built):
    wrong = []
    for path in pages(built):
        for image in harness.read_page(built / path).images:
            file = ((built / path).parent / image["src"]).resolve()
            size = tuple(map(str, light.size_of(file.read_bytes()) or ("?", "?")))
            how = image.get("loading"), image.get("decoding")
            if how != ("lazy", "async") or (image.get("width"), image.get("height")) != size:
                wrong.append(f"{path}: {image['src']}")
    assert not wrong, "\n".join(wrong)


def test_sizes_of_drawings():
    assert light.size_of(b'<svg width="72pt" height="36pt" viewBox="0 0 72 36">') == (96, 48)
    assert light.size_of(b'<svg viewBox="0 0 300 200.4"><rect/></svg>') == (300, 200)
    assert light.size_of(b'<svg width="100%" height="100%">') is None and light.size_of(b"GIF89a") is None


@pytest.mark.parametrize("home", ["http", "folder"])
def test_a_figure_starts_when_it_comes_near_and_not_before(visit, built, home):
    page = visit("notebooks/02-conditional-vae.html", **({"home": built.as_uri() + "/"} if home == "folder" else {}))
    div = page.locator('div.lb-static[data-name="relabel"]')
    near = page.evaluate("Object.keys(latentbookStates)")  # of the figure that the page opens with
    assert div.get_attribute("data-live") is None and len(near) < page.locator("div.lb-static").count()
    figure = Figure(page, "relabel")
    assert set(near) < set(page.evaluate("Object.keys(latentbookStates)"))
    figure.control("label", "4").check()
    assert figure.state("label") == 4
    assert harness.becomes(lambda: figure.find(".lb-stage").get_attribute("data-shown"), f"{figure.state('source')},4")


def test_a_figure_answers_before_its_model_is_there_and_says_that_it_comes(browser, address, built):
    page = browser.new_page(viewport=harness.WIDE)
    held, later = [], re.findall(r'data-later="network=\S*?(\w+\.js)"', (built / CHAPTER).read_text(encoding="utf-8"))
    page.route(f"**/{later[0]}", lambda route: held.append(route))
    page.goto(address + CHAPTER)
    div = page.locator('div.lb-static[data-name="repeat"]')
    div.scroll_into_view_if_needed()
    note = div.get_by_role("status").filter(has_text="Loading the model")
    note.wait_for()
    assert div.get_attribute("data-live") == "true" and div.get_attribute("aria-busy") == "true"
    high = div.bounding_box()["height"]
    stage = div.evaluate("div => div.latentbook.model.get('stage')")
    div.get_by_role("button", name="previous", exact=True).click()
    assert div.evaluate("div => div.latentbook.model.get('stage')") == stage - 1
    assert harness.becomes(lambda: (page.evaluate("0"), len(held)), (0, 1))
    held[0].continue_()
    assert harness.becomes(lambda: div.get_attribute("aria-busy"), None) and note.count() == 0
    assert harness.becomes(lambda: div.locator("[data-shown]").count(), 1)
    assert div.bounding_box()["height"] == pytest.approx(high, abs=8)
    page.close()


def test_a_state_that_does_not_come_leaves_the_still_picture(browser, address):
    page = browser.new_page(viewport=harness.WIDE)
    page.route("**/latentbook/states/*.js", lambda route: route.abort())
    page.goto(address + CHAPTER)
    div = page.locator('div.lb-static[data-name="repeat"]')
    div.scroll_into_view_if_needed()
    div.locator("figure.lb-still img").wait_for(state="visible")
    assert div.get_attribute("aria-busy") is None and div.get_attribute("data-live") is None
    page.close()


def test_formulas_come_after_the_text_and_all_of_them(browser, address):
    page = browser.new_page(viewport=harness.WIDE)
    held = []
    page.route("**/formulas.js*", lambda route: held.append(route))
    page.goto(address + CHAPTER, wait_until="load")
    assert harness.becomes(lambda: (page.evaluate("0"), len(held)), (0, 1))
    written = page.locator(".math").count()
    first = page.locator("span.math").first
    before = first.bounding_box()
    held[0].continue_()
    page.evaluate("latentbook.ready")
    page.evaluate("document.fonts.ready")
    assert page.locator("mjx-container").count() == written > 40
    assert page.locator("mjx-assistive-mml").count() == written
    assert page.locator("[data-formulas]").count() == 0
    assert first.locator("mjx-container").bounding_box()["width"] == pytest.approx(before["width"], abs=1)
    page.close()


def test_for_paper_everything_is_there(visit):
    page = visit(CHAPTER)
    page.evaluate("latentbook.whole()")
    missing = page.evaluate("[...document.querySelectorAll('article img')].filter((i) => !i.naturalWidth).length")
    assert missing == 0


def test_the_bench_says_what_it_lacks_and_prints_a_table(tmp_path):
    with pytest.raises(ValueError, match=r"no built site in .*make book"):
        built_site(tmp_path)
    row = {"text_bytes": 190_000, "figure_bytes": None, "all_bytes": 400_000, "text_ms": 1540.0}
    said = site_bench.in_words({"a.html": row | {"figure_ms": None, "whole_ms": None}}).splitlines()
    assert said[0].startswith("1.6 Mbit/s, 150 ms, 4x slower CPU") and said[2].split() == [
        "a.html",
        "190",
        "–",
        "400",
        "1.5",
        "–",
        "–",
    ]


def test_the_bench_tells_of_strokes():
    row = {"text_bytes": 1, "figure_bytes": None, "all_bytes": 1, "text_ms": 1.0, "figure_ms": None, "whole_ms": None}
    strokes = {"contradict": {"stroke_ms": 9.4, "slow_stroke_ms": 37.6}}
    said = site_bench.in_words({"a.html": row | {"strokes": strokes}}).splitlines()[-1]
    assert said == "a.html, contradict: 9 ms from a stroke to its picture, 38 ms with a CPU 4x slower (medians)"


def test_the_ledger_is_read_anew_only_for_a_file_that_it_does_not_know(tmp_path):
    ledger = importlib.import_module("ledger")
    for folder, name in (
        (ledger.RESULTS, "primer.json"),
        (ledger.EXPERIMENTS, "primer.py"),
        (ledger.EXPERIMENTS, "run.py"),
    ):
        (tmp_path / folder).mkdir(parents=True, exist_ok=True)
        (tmp_path / folder / name).write_text("{}", encoding="utf-8")
    known = {"book/ledger": {str(ledger.RESULTS / "primer.json"), str(tmp_path / ledger.EXPERIMENTS / "primer.py")}}
    app = SimpleNamespace(srcdir=str(tmp_path))
    env = SimpleNamespace(dependencies=known, found_docs=["book/index", "book/ledger"])
    assert ledger.again_with_new_files(app, env, (), (), ()) == []
    (tmp_path / ledger.RESULTS / "air.json").write_text("{}", encoding="utf-8")
    assert ledger.again_with_new_files(app, env, (), (), ()) == ["book/ledger"]
