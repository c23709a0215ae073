"""Interactive figures in a real browser: started in a page and as in a notebook, moved by key, mouse and finger."""

import functools
import itertools
import json
import re

import pytest
import site_harness as harness
from site_harness import Figure

from latentbook.widgets import MixingFigure, draw_mask

CHAPTER = "notebooks/01-mix-and-match.html"
TONES = {"data": "rgb(0, 114, 178)", "condition": "rgb(230, 159, 0)", "latent": "rgb(0, 158, 115)"}
IN_THE_DARK = {"data": "rgb(45, 143, 208)"}  # blue is lighter on dark ground; the others stay


def sources(figure: Figure, side: str) -> list[list[str]]:
    """The sources of the mixed features on one side, row by row, as the cells show them."""
    return figure.find(f'[data-side="{side}"][data-block="mixed"]').evaluate(
        """block => [...block.querySelectorAll(".lb-row")].map(
            row => [...row.children].map(cell => /lb-is-(\\w+)/.exec(cell.className)[1]))"""
    )


def mask(figure: Figure) -> list[list[bool]]:
    """The mask that the encoder's side shows: true where the data stand."""
    return [[source == "data" for source in row] for row in sources(figure, "encoder")]


def expected(figure: Figure) -> list[list[bool]]:
    """The mask that Python draws from the same traits."""
    state = {name: figure.state(name) for name in ("seed", "alpha", "hidden", "per", "data")}
    return draw_mask(state["seed"], state["alpha"], state["hidden"], len(state["data"]), state["per"])


usual = functools.cache(MixingFigure)  # one for all tests


def open_figure(visit, **how) -> Figure:
    return harness.put_in(visit, usual(), **how)


@pytest.fixture
def mixing(visit):
    return open_figure(visit)


def test_it_shows_the_mask_that_python_draws_on_both_sides(mixing):
    drawn = expected(mixing)
    assert mask(mixing) == drawn
    assert sources(mixing, "decoder") == [["condition" if on else "latent" for on in row] for row in drawn]


def test_the_same_masks_in_javascript_and_python(mixing):
    cases = [
        [seed, seed % (hidden + 1), hidden, rows, per]
        for seed in [*range(40), 2**31 - 1]
        for hidden, rows, per in ((16, 3, "example"), (128, 2, "batch"), (1, 1, "example"), (37, 4, "example"))
    ]
    found = mixing.page.evaluate("cases => cases.map(c => latentbook.widgets.mixing.drawMask(...c))", cases)
    assert found == [draw_mask(*case) for case in cases]
    assert all(sum(row) == alpha for (_, alpha, *_), rows in zip(cases, found, strict=True) for row in rows)


def test_alpha_by_keyboard(mixing):
    slider, before = mixing.control("alpha"), mixing.state("alpha")
    kept = mask(mixing)
    mixing.press(slider, "ArrowRight", "ArrowRight")
    assert mixing.state("alpha") == before + 2
    assert all(sum(row) == before + 2 for row in mask(mixing))
    assert all(
        new or not old
        for new_row, row in zip(mask(mixing), kept, strict=True)
        for new, old in zip(new_row, row, strict=True)
    )
    mixing.press(slider, "Home")
    assert mixing.state("alpha") == 0 and not any(map(any, mask(mixing)))
    assert {s for row in sources(mixing, "decoder") for s in row} == {"latent"}
    mixing.press(slider, "End")
    assert all(map(all, mask(mixing)))
    assert slider.get_attribute("aria-valuetext") == f"{mixing.state('hidden')} of {mixing.state('hidden')} drawn"


def test_alpha_by_mouse(mixing):
    mixing.drag(mixing.control("alpha"), (0.5, 0.5), (0.95, 0.5))
    assert mixing.state("alpha") > 12 and mask(mixing) == expected(mixing)


def test_alpha_by_finger(visit):
    figure = open_figure(visit, phone=True, touch=True)
    figure.swipe(figure.control("alpha"), (0.5, 0.5), (0.1, 0.5))
    for _ in range(30):  # a touch is handled in a frame of its own
        if figure.state("alpha") < 4:
            break
        figure.page.wait_for_timeout(100)
    assert figure.state("alpha") < 4 and mask(figure) == expected(figure)


def test_redrawing_changes_the_mask_and_keeps_alpha(mixing):
    seen = [mask(mixing)]
    for _ in range(4):
        mixing.find(".lb-bar > button").click()
        seen.append(mask(mixing))
        assert all(sum(row) == mixing.state("alpha") for row in seen[-1])
        assert seen[-1] == expected(mixing)
    assert all(one != other for one, other in itertools.pairwise(seen))


def test_a_mask_per_batch_is_one_mask(mixing):
    assert len({tuple(row) for row in mask(mixing)}) > 1
    mixing.press(mixing.control("per", "example"), "ArrowRight")
    assert mixing.state("per") == "batch"
    assert len({tuple(row) for row in mask(mixing)}) == 1
    mixing.control("per", "example").check()
    assert mask(mixing) == expected(mixing)


def test_a_feature_says_where_it_comes_from(mixing):
    cells = mixing.find('[data-side="encoder"][data-block="mixed"] .lb-cell')
    on = mask(mixing)[1]
    dropped, drawn = on.index(False), on.index(True)
    cells.nth(len(on) + dropped).hover()
    said = mixing.find(".lb-readout").inner_text()
    assert (
        f"Example 2, feature {dropped}, not drawn" in said
        and "from the condition (resampled)" in said
        and "from the latent (resampled)" in said
    )
    assert mixing.find(".lb-pointed").count() == 6  # this feature in every block of both sides
    cells.nth(len(on) + drawn).hover()
    assert "Encoder: from the data. Decoder: from the condition." in mixing.find(".lb-readout").inner_text()
    assert (
        cells.nth(len(on) + dropped).get_attribute("aria-label")
        == f"example 2, feature {dropped}: from the condition (resampled)"
    )


def test_the_arrow_keys_walk_over_the_features(mixing):
    grid = mixing.find('[data-side="decoder"] [role="grid"]')
    assert grid.locator('[tabindex="0"]').count() == 1
    mixing.press(grid.locator('[tabindex="0"]'), "ArrowRight", "ArrowRight", "ArrowDown")
    assert "Example 2, feature 2," in mixing.find(".lb-readout").inner_text()
    mixing.page.keyboard.press("End")
    assert f"feature {mixing.state('hidden') - 1}," in mixing.find(".lb-readout").inner_text()
    outline = mixing.page.evaluate("getComputedStyle(document.activeElement).outlineStyle")
    assert outline == "solid"


def test_a_finger_reads_features(visit):
    figure = open_figure(visit, phone=True, touch=True)
    figure.swipe(figure.find('[data-side="encoder"] [role="grid"]'), (0.1, 0.5), (0.9, 0.5))
    assert "Example 2, feature" in figure.find(".lb-readout").inner_text()


@pytest.mark.parametrize("dark", [False, True], ids=["light", "dark"])
def test_colours_are_the_concepts_and_never_alone(visit, dark):
    figure = open_figure(visit, dark=dark)
    swatches = {
        name: figure.find(f".lb-swatch.lb-is-{name}").first.evaluate(
            "e => [getComputedStyle(e).backgroundColor, getComputedStyle(e).backgroundImage]"
        )
        for name in TONES
    }
    for name, (colour, _) in swatches.items():
        numbers = [float(n) for n in re.findall(r"[\d.]+", colour)]
        rgb = [round(255 * n) for n in numbers[:3]] if colour.startswith("color(") else [round(n) for n in numbers[:3]]
        assert f"rgb({rgb[0]}, {rgb[1]}, {rgb[2]})" == (TONES | IN_THE_DARK if dark else TONES)[name]
    assert len({mark for _, mark in swatches.values()}) == 3
    ink, paper = figure.find(".lb-readout").evaluate(
        "e => [getComputedStyle(e).color, getComputedStyle(document.body).backgroundColor]"
    )
    assert contrast(ink, paper) > 7


def contrast(one: str, other: str) -> float:
    """WCAG contrast of two rgb() colours."""

    def luminance(colour: str) -> float:
        parts = [int(n) / 255 for n in re.findall(r"\d+", colour)[:3]]
        linear = [c / 12.92 if c <= 0.03928 else ((c + 0.055) / 1.055) ** 2.4 for c in parts]
        return 0.2126 * linear[0] + 0.7152 * linear[1] + 0.0722 * linear[2]

    low, high = sorted((luminance(one), luminance(other)))
    return (high + 0.05) / (low + 0.05)


def test_no_motion_for_those_who_ask_for_none(visit):
    still = open_figure(visit).find(".lb-cell").first
    moving = open_figure(visit, calm=False).find(".lb-cell").first
    assert still.evaluate("e => getComputedStyle(e).transitionDuration") == "0s"
    assert moving.evaluate("e => getComputedStyle(e).transitionDuration") != "0s"


def test_it_works_opened_straight_from_the_folder(visit, built):
    figure = Figure(visit(CHAPTER, home=built.as_uri() + "/"), "mixing")
    before = mask(figure)
    figure.find(".lb-bar > button").click()
    assert mask(figure) != before and mask(figure) == expected(figure)


def test_a_still_picture_with_its_explanation_stands_where_no_script_runs(visit):
    page = visit(CHAPTER, scripts=False)
    still = page.locator('div.lb-static[data-name="mixing"] figure.lb-still').first
    assert still.locator("img").is_visible() and still.locator("figcaption").is_visible()
    box = still.locator("img").bounding_box()
    assert box["width"] > 400 and box["height"] > 150
    assert "the decoder side" in still.locator("img").get_attribute("alt")
    assert "A still picture" in still.locator("figcaption").inner_text()


def test_a_notebook_runs_the_very_same_source(visit, browser):
    page = visit(harness.PAGE)
    in_page = page.evaluate("String(latentbook.widgets.mixing.render)")
    widget = MixingFigure(alpha=3, per="batch")
    harness.start_module(page, widget._esm, widget.state())
    assert page.evaluate("String(window.module.render)") == in_page
    assert page.locator(".lb-mixing [role=grid]").first.locator(".lb-is-data").count() == 9
    page.locator(".lb-mixing input[data-trait=alpha]").fill("5")
    assert page.evaluate("[window.model.get('alpha'), window.model.sent]") == [5, 1]
    page.evaluate("window.stop(); window.model.set('alpha', 0)")  # once stopped, it no longer draws
    assert page.locator(".lb-mixing [role=grid]").first.locator(".lb-is-data").count() == 15


def test_a_figure_that_cannot_start_leaves_its_still_picture(visit, browser, address):
    page = browser.new_page()
    page.goto(address + CHAPTER)
    page.evaluate(
        """() => { const div = document.createElement("div"); div.className = "lb-static";
        div.dataset.name = "unheard-of"; div.dataset.state = "{}"; div.innerHTML = "<p>still</p>";
        document.body.append(div); latentbook.mount(div); }"""
    )
    assert page.locator('div[data-name="unheard-of"]').inner_text() == "still"
    page.close()


def test_the_saved_output_is_stable_and_complete():
    first, _ = MixingFigure()._repr_mimebundle_()
    again, _ = MixingFigure()._repr_mimebundle_()
    assert first["text/plain"] == "MixingFigure()"
    assert "application/vnd.jupyter.widget-view+json" in first
    for kind in ("text/html", "text/plain", "image/png"):
        assert first[kind] == again[kind]
    state = json.loads(harness.Reader(first["text/html"]).states[0])
    assert set(state) == set(MixingFigure._saved)


@pytest.mark.parametrize(
    ("given", "message"),
    [
        ({"alpha": 17}, "alpha must be a whole number between 0 and 16, got 17"),
        ({"alpha": True}, "alpha must be a whole number between 0 and 16, got True"),
        ({"per": "epoch"}, "per must be one of example, batch, got 'epoch'"),
        ({"rows": 0}, "rows must be a whole number at least 1"),
        ({"data": [[0.5]]}, "missing: condition, latent"),
        ({"data": [[2.0]], "condition": [[0.1]], "latent": [[0.1]]}, "must lie between 0 and 1, got 2 to 2"),
        ({"data": [[0.2]], "condition": [[0.1, 0.2]], "latent": [[0.1]]}, "one shape"),
        ({"data": [[0.2], []], "condition": [[0.1]], "latent": [[0.1]]}, "rows of one length"),
    ],
)
def test_values_that_do_not_fit_are_refused_with_what_would(given, message):
    with pytest.raises(ValueError, match=re.escape(message)):
        MixingFigure(**given)
