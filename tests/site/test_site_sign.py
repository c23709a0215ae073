"""A class of one's own in a real browser: experts, product and drawings as PyTorch has them, by mouse, key and finger."""

import functools
import json

import numpy as np
import pytest
import site_harness as harness
import torch

from latentbook.data import load_digits
from latentbook.widgets import SignFigure, export, sign
from latentbook.widgets.complete import reading

DIGITS = load_digits("test", source="offline")
TRAITS = ("gradient", "evidence", "left_out")
SMALL = 44  # pixels that a finger needs


@functools.cache
def usual() -> SignFigure:
    return SignFigure(DIGITS)


def open_figure(visit, shown: bool = True, **how) -> harness.Figure:
    """The figure with its models there and its start drawn by them; its question skipped, if what it shows is looked at."""
    figure = harness.put_in(visit, usual(), ask=not shown, **how)
    figure.page.wait_for_function("() => document.querySelector('[data-name=sign] [data-live]')", timeout=30_000)
    wait(figure)
    return figure


def wait(figure: harness.Figure) -> None:
    """Until the five hands show what is chosen."""

    def shown() -> bool:
        at = figure.div.evaluate("(div) => div.querySelector('[data-shown]')?.dataset.shown ?? 'null'")
        stale = figure.find(".lb-writing").get_attribute("data-stale")
        return json.loads(at) == [figure.state(name) for name in TRAITS] and stale is None

    assert harness.becomes(shown, True)


def by_pytorch(figure: harness.Figure) -> tuple[SignFigure, str]:
    """A figure in Python that is as the page's is, and the position of its switch."""
    other = SignFigure(DIGITS)
    with other.hold_trait_notifications():
        other.evidence, other.left_out = figure.state("evidence"), figure.state("left_out")
    return other, figure.state("gradient")


def agrees(figure: harness.Figure) -> None:
    """Width of the product to a ten-thousandth, pictures to a grey level, the judge's words exactly."""
    wait(figure)
    other, name = by_pytorch(figure)
    drawn, seen = other.written(name)
    canvases = figure.find(".lb-drawn canvas").all()
    assert len(canvases) == 5
    for canvas, wanted in zip(canvases, drawn.view(-1, 28, 28).numpy(), strict=True):
        assert np.abs(np.array(harness.grey_values(canvas)) - 255 * wanted).max() <= 1.01
    assert figure.find("[data-seen]").get_attribute("data-seen") == ",".join(map(str, seen))
    assert figure.find(".lb-verdict").all_inner_texts() == [f"reads {digit}" for digit in seen]
    found = float(figure.find("[data-width]").get_attribute("data-width"))
    assert found == pytest.approx(sign.width(other.product(name)), rel=1e-4)
    if (digit := other.known()) is not None:
        counted = f"{seen.count(digit)} of 5 read as a {digit}".replace("a 8", "an 8")
        assert figure.find(".lb-counted").inner_text() == counted


def stroke(figure: harness.Figure, *points: tuple[float, float]) -> None:
    """A stroke with the mouse between points of the pad, 0 to 1."""
    box, mouse = figure.find(".lb-pad-surface").bounding_box(), figure.page.mouse
    for k, (x, y) in enumerate(points):
        mouse.move(box["x"] + x * box["width"], box["y"] + y * box["height"], steps=4)
        if k == 0:
            mouse.down()
    mouse.up()


def press(figure: harness.Figure, words: str) -> None:
    figure.find("button").get_by_text(words, exact=True).click()


def test_the_question_comes_first_and_its_answer_is_what_is_drawn(visit):
    figure = open_figure(visit, shown=False)
    question, writing = figure.find(".lb-question"), figure.find(".lb-writing")
    assert "The model sees ten 7s, but the layers that make its class code never learned." in question.inner_text()
    assert writing.evaluate("part => part.inert && getComputedStyle(part).opacity < 0.3")
    hits = [recorded["seen"].count(7) for recorded in usual().recorded.values()]
    question.get_by_role("button", name=["0–1", "2–3", "4–5"][hits[0] // 2]).click()
    said = f"Yes. {hits[0]} of 5. With the gradient restored, {hits[1]} of 5: turn the switch, then add a sign of your own."
    assert figure.find(".lb-answer").inner_text() == said
    assert not writing.evaluate("part => part.inert") and f"{hits[0]} of 5" in figure.find(".lb-counted").inner_text()


@pytest.mark.parametrize("how", [{}, {"dark": True}], ids=["light", "dark"])
def test_both_models_draw_what_pytorch_draws(visit, how):
    figure = open_figure(visit, **how)
    agrees(figure)
    figure.control("gradient", "restored").check()
    agrees(figure)
    assert figure.find("ellipse.lb-one").count() == 10 + 1  # and one in the legend


def test_experts_and_their_product_are_pytorchs(visit):
    """Each in a page of its own engine, to a hundred-thousandth."""
    figure = open_figure(visit)
    images = usual().images()
    for name, state in sign.MODELS.items():
        model = reading(export.shipped_model(state))
        with torch.no_grad():
            wanted, product = model.encode(images)[1], model.infer_class(images[None])
        found = figure.div.evaluate(
            """async (div, [name, images]) => {
                const { engine, inflate, together } = latentbookWidgets.sign;
                const model = engine.model(await inflate(div.latentbook.model.get(name)));
                const experts = images.map((image) => model.encode(Float32Array.from(image)).class);
                const plain = ({ mean, logVar }) => [[...mean], [...logVar]];
                return [experts.map(plain), plain(together(experts, 10, false)), plain(together([], 10, false))];
            }""",
            [name, images.flatten(1).tolist()],
        )
        assert np.allclose(np.array(found[0])[:, 0], wanted.mean, atol=1e-5)
        assert np.allclose(np.array(found[0])[:, 1], wanted.log_var, atol=1e-5)
        assert np.allclose(found[1][0], product.mean[0], atol=1e-4)
        assert np.allclose(found[1][1], product.log_var[0], atol=1e-4)
        assert not np.array(found[2]).any()  # without evidence, the prior


def test_a_drawing_is_added_left_out_taken_in_and_removed(visit):
    figure = open_figure(visit)
    figure.control("gradient", "restored").check()
    stroke(figure, (0.3, 0.25), (0.7, 0.25), (0.45, 0.85))
    assert harness.becomes(lambda: len(figure.state("strokes")), 1)
    press(figure, "Add image")
    assert figure.state("strokes") == [] and len(figure.state("evidence")) == 1  # it takes the place of ours
    agrees(figure)
    alone = float(figure.find("[data-width]").get_attribute("data-width"))
    figure.find(".lb-pad-samples button").nth(7).click()
    press(figure, "Add image")
    figure.find(".lb-pad-samples button").nth(4).click()
    press(figure, "Add image")
    assert len(figure.state("evidence")) == 3 and figure.find(".lb-slot:not([data-empty])").count() == 3
    agrees(figure)
    assert float(figure.find("[data-width]").get_attribute("data-width")) < alone
    assert "3 images, drawn here. Together they are" in figure.find(".lb-readout").inner_text()
    image = figure.find(".lb-image").nth(2)
    image.click()
    assert figure.state("left_out") == [2] and image.get_attribute("aria-pressed") == "false"
    agrees(figure)
    image.click()
    assert figure.state("left_out") == []
    image.click()
    figure.find(".lb-remove").nth(0).click()  # those behind it move up
    assert len(figure.state("evidence")) == 2 and figure.state("left_out") == [1]
    agrees(figure)
    press(figure, "remove those out")
    assert len(figure.state("evidence")) == 1 and figure.state("left_out") == []
    press(figure, "remove all")
    wait(figure)
    assert figure.state("evidence") == [] and "only the prior is known" in figure.find(".lb-readout").inner_text()
    press(figure, "Add image")
    assert figure.find(".lb-readout").inner_text() == "The pad is empty: draw a sign first."


def test_ten_drawings_are_all_that_fit(visit):
    figure = open_figure(visit)
    press(figure, "remove all")
    for k in range(10):
        figure.find(".lb-pad-samples button").nth(k).click()
        press(figure, "Add image")
    figure.find(".lb-pad-samples button").nth(0).click()
    figure.press(figure.find(".lb-add"), "Enter")  # it says why nothing comes of it
    assert len(figure.state("evidence")) == 10 and len(figure.state("strokes")) > 0
    assert figure.find(".lb-readout").inner_text() == "Ten images are all that fit: remove one."
    assert figure.find(".lb-add").get_attribute("aria-disabled") == "true"
    agrees(figure)


def test_the_tries_are_what_they_say(visit):
    figure = open_figure(visit)
    figure.control("gradient", "restored").check()
    widths = {}
    for words, evidence in usual().presets:
        press(figure, words)
        assert json.dumps(figure.state("evidence")) == json.dumps(evidence).replace(".0", "")
        agrees(figure)
        assert figure.find(".lb-tries button").get_by_text(words, exact=True).get_attribute("aria-pressed") == "true"
        widths[words.split(":")[0]] = float(figure.find("[data-width]").get_attribute("data-width"))
        if words.startswith("a traitor"):
            assert "They disagree, yet precisions add" in figure.find(".lb-readout").inner_text()
    assert widths["ten 7s"] < widths["one 7"]
    assert figure.find(".lb-counted").inner_text() == "read by a judge who knows digits alone"
    press(figure, "start again")
    assert figure.state("evidence") == list(range(10)) and figure.state("gradient") == "cut"
    agrees(figure)


def test_a_link_brings_evidence_and_nothing_drawn_stands_in_the_address_before_it_is_asked_for(visit):
    figure = open_figure(visit)
    press(figure, "one 7")
    figure.control("gradient", "restored").check()
    wait(figure)
    figure.page.wait_for_timeout(600)
    assert "evidence" not in figure.page.evaluate("location.hash")
    figure.find(".lb-tries").get_by_role("button", name="link to this").click()
    address = figure.page.evaluate("location.hash")
    assert "evidence=%5B0%5D" in address and "gradient=%22restored%22" in address


def test_it_is_played_by_keys_alone(visit):
    figure = open_figure(visit)
    keyboard = figure.page.keyboard
    image = figure.find(".lb-image").nth(3)
    image.focus()
    keyboard.press("Enter")
    assert figure.state("left_out") == [3]
    keyboard.press("Space")
    assert figure.state("left_out") == []
    figure.press(figure.find(".lb-remove").nth(9), "Enter")  # its button is gone, the focus goes to the last image
    assert len(figure.state("evidence")) == 9
    assert figure.find(".lb-image").nth(8).evaluate("button => document.activeElement === button")
    figure.press(figure.find(".lb-pad-surface"), "Space", *["Shift+ArrowDown"] * 2, "Space")
    assert harness.becomes(lambda: len(figure.state("strokes")), 1)
    figure.press(figure.find(".lb-add"), "Enter")
    assert len(figure.state("evidence")) == 10 and isinstance(figure.state("evidence")[9], list)
    figure.press(figure.control("gradient", "cut"), "ArrowRight")
    assert figure.state("gradient") == "restored"
    agrees(figure)


def test_on_a_phone_it_fits_suits_a_finger_and_lets_the_page_scroll(visit):
    figure = open_figure(visit, shown=False, phone=True, touch=True)
    inside = figure.find("figure.lb-widget")
    tops = inside.evaluate("(f) => [...f.children].map((part) => [part.className, part.getBoundingClientRect().top])")
    places = dict(tops)
    assert places["lb-board"] - places["lb-question"] <= 180 and places["lb-tries"] - places["lb-board"] <= 780
    harness.show(figure.div)
    small = """(div, least) => [...div.querySelectorAll("button, label:has(input)")]
        .filter((one) => !one.disabled && one.checkVisibility({ visibilityProperty: true }))
        .map((one) => [one.className + one.textContent, one.getBoundingClientRect()])
        .filter(([, { width, height }]) => width > 0 && (width < least - 0.5 || height < least - 0.5))
        .map(([words, { width, height }]) => [words, width, height])"""
    assert figure.div.evaluate(small, SMALL) == []
    beyond = """(div) => [...div.querySelectorAll("*")].filter((one) => {
        const box = one.getBoundingClientRect(), room = div.getBoundingClientRect();
        return box.width && !one.closest("svg") && (box.left < room.left - 4 || box.right > room.right + 4);
    }).map((one) => one.outerHTML.slice(0, 90))"""
    assert figure.div.evaluate(beyond) == []
    assert figure.page.evaluate("document.documentElement.scrollWidth <= innerWidth")
    figure.find(".lb-image").nth(0).tap()
    assert figure.state("left_out") == [0]
    agrees(figure)
    before = figure.page.evaluate("scrollY")
    figure.swipe(figure.find(".lb-hands"), (0.5, 0.9), (0.5, -2))
    assert harness.becomes(lambda: figure.page.evaluate("scrollY") > before, True)
    assert figure.state("left_out") == [0] and figure.state("strokes") == []
    pad = figure.find(".lb-pad-surface")
    figure.swipe(pad, (0.4, 0.2), (0.4, 0.8))
    assert harness.becomes(lambda: len(figure.state("strokes")), 1)


@pytest.mark.parametrize("how", [{}, {"phone": True}], ids=["wide", "phone"])
def test_text_and_digits_are_large_enough(visit, how):
    figure = open_figure(visit, **how)
    sizes = figure.div.evaluate(
        """(div) => [...div.querySelectorAll(".lb-live .lb-sign *")]
            .filter((one) => [...one.childNodes].some((node) => node.nodeType === 3 && node.textContent.trim()))
            .filter((one) => one.checkVisibility({ visibilityProperty: true }))
            .map((one) => {
                const svg = one.closest("svg"), scale = svg ? svg.clientWidth / svg.viewBox.baseVal.width : 1;
                return [one.textContent, scale * parseFloat(getComputedStyle(one).fontSize)];
            })"""
    )
    assert len(sizes) > 20 and [one for one in sizes if one[1] < 11] == []
    digits = figure.find(".lb-slots canvas, .lb-hands canvas").all()
    assert min(canvas.bounding_box()["width"] for canvas in digits) >= 39.5


def test_it_starts_as_a_notebook_has_it_and_draws_the_start_before_its_models_are_there(browser):
    """The models never come: both positions of the switch show what was recorded, and the plane follows what is left out."""
    page = browser.new_page(viewport=harness.WIDE)
    state = {**usual().state(), "cut": "", "restored": "", "judge": ""}
    harness.start_module(page, usual()._esm, state)
    shown = "() => JSON.stringify([...document.querySelectorAll('.lb-verdict')].map((one) => one.textContent))"
    for name in sign.MODELS:
        page.locator(f'input[value="{name}"]').check()
        wanted = json.dumps([f"reads {digit}" for digit in usual().recorded[name]["seen"]], separators=(",", ":"))
        assert harness.becomes(functools.partial(page.evaluate, shown), wanted)
    before = page.locator("ellipse.lb-one").count()
    page.locator(".lb-image").nth(0).click()
    assert harness.becomes(page.locator("ellipse.lb-one").count, before - 1)
    assert page.locator(".lb-writing").get_attribute("data-stale") == ""
    page.close()
