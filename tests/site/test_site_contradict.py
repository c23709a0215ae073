"""The front page's figure in a real browser: write a digit, ask for another; what is drawn is what PyTorch draws."""

import base64
import json
import re
from types import SimpleNamespace

import numpy as np
import pytest
import site_harness as harness
import torch

from latentbook.data import load_digits
from latentbook.widgets import contradict, export

PAGE = "book/index.html"
ONE_AS_NINE = "#contradict~label=9&strokes=" + "%5B%5B%5B14%2C5%5D%2C%5B13.5%2C23%5D%5D%5D"


def ready(page, shown: bool = True) -> harness.Figure:
    """The figure with its models there; its question skipped if what it shows is looked at."""
    figure = harness.Figure(page, "contradict", ask=not shown)
    page.wait_for_function("() => document.querySelector('[data-name=contradict] [data-live]')", timeout=30_000)
    return figure


def shows(figure) -> list[int]:
    """The digits that the judge sees in the ink, the asked one, and those that it sees in both pictures."""
    return [int(part) for part in figure.find("[data-shown]").get_attribute("data-shown").split(",")]


def comes(figure, start: str) -> None:
    assert harness.becomes(lambda: figure.find("[data-shown]").get_attribute("data-shown").startswith(start), True)


def drawn(figure) -> list[np.ndarray]:
    return [np.array(harness.grey_values(canvas)) for canvas in figure.find(".lb-panel canvas").all()]


def by_pytorch(figure) -> tuple[list[np.ndarray], list[int]]:
    files = [export.shipped_model(state) for state, _ in contradict.MODELS.values()]
    strokes, label = figure.state("strokes"), figure.state("label")
    pictures, chances = contradict.answers(strokes, label, files)
    grey = [np.frombuffer(one, np.uint8).reshape(28, 28) for one in pictures[1:]]
    return grey, [int(np.argmax(one)) for one in chances]


def write(figure, *points) -> None:
    """A stroke with the mouse between points of the pad, 0 to 1."""
    box, mouse = figure.find(".lb-pad-surface").bounding_box(), figure.page.mouse
    for k, (x, y) in enumerate(points):
        mouse.move(box["x"] + x * box["width"], box["y"] + y * box["height"], steps=4)
        if k == 0:
            mouse.down()
    mouse.up()


def test_the_question_comes_first_and_its_answer_is_what_is_drawn(visit):
    page = visit(PAGE)
    figure = ready(page, shown=False)
    question = figure.find(".lb-question")
    assert "Here is a 3. Ask two models for a 7" in question.inner_text()
    assert figure.find(".lb-panel").first.evaluate("panel => panel.inert && getComputedStyle(panel).opacity < 0.3")
    question.get_by_role("button", name="a 7", exact=True).click()
    assert (
        question.inner_text()
        .rstrip()
        .endswith("No. The tutorial's model draws a 3, the fixed model a 7. Now write your own.")
    )
    assert not figure.find(".lb-panel").first.evaluate("panel => panel.inert") and shows(figure) == [3, 7, 3, 7]


@pytest.mark.parametrize("how", [{}, {"dark": True}], ids=["light", "dark"])
def test_every_stroke_is_decoded_as_pytorch_does(visit, how):
    figure = ready(visit(PAGE, **how))
    figure.find(".lb-pad").get_by_role("button", name="Clear").click()
    write(figure, (0.3, 0.25), (0.7, 0.25), (0.45, 0.85))
    comes(figure, "7,7,")
    for label in (2, 9):
        figure.control("label", str(label)).check()
        comes(figure, f"7,{label},")
        wanted, (ink, *seen) = by_pytorch(figure)
        assert shows(figure) == [ink, label, *seen]
        for one, other in zip(drawn(figure), wanted, strict=True):
            assert np.abs(one - other.astype(int)).max() <= 1


def test_tries_are_counted_where_ink_and_label_disagree_once_each(visit):
    figure = ready(visit(PAGE))
    row = figure.find(".lb-numbers tbody tr").first.locator("td")
    assert row.all_inner_texts() == ["–", "–"]
    figure.control("label", "3").check()  # what is written
    comes(figure, "3,3,")
    figure.page.wait_for_timeout(1700)
    assert (
        row.all_inner_texts() == ["–", "–"]
        and "a digit that you did not write" in figure.find(".lb-readout").inner_text()
    )
    figure.control("label", "5").check()
    comes(figure, "3,5,")
    published, fixed = (int(seen == 5) for seen in shows(figure)[2:])
    assert harness.becomes(row.all_inner_texts, [f"{published} of 1", f"{fixed} of 1"])
    figure.control("label", "3").check()
    figure.control("label", "5").check()
    figure.page.wait_for_timeout(1700)
    assert row.all_inner_texts() == [f"{published} of 1", f"{fixed} of 1"]
    shares = figure.find(".lb-numbers tbody tr").nth(1).locator("td").all_inner_texts()
    assert [int(text.split()[0]) for text in shares] == [
        round(100 * contradict.follows_another_label(variant)) for _, variant in contradict.MODELS.values()
    ]


def test_an_empty_pad_is_said(visit):
    figure = ready(visit(PAGE))
    figure.find(".lb-pad").get_by_role("button", name="Clear").click()
    assert harness.becomes(figure.find(".lb-readout").inner_text, "The pad is empty: write a digit.")


@pytest.mark.parametrize("home", ["http", "folder"])
def test_a_link_brings_ink_and_label_and_no_question_is_in_its_way(visit, built, home):
    figure = ready(
        visit(PAGE + ONE_AS_NINE, **({"home": built.as_uri() + "/"} if home == "folder" else {})), shown=False
    )
    comes(figure, "1,9,")
    assert figure.state("strokes") == [[[14, 5], [13.5, 23]]]
    assert not figure.find(".lb-panel").first.evaluate("panel => panel.inert")
    figure.control("label", "4").check()
    assert harness.becomes(lambda: "label=4" in figure.page.evaluate("location.hash"), True)


@pytest.mark.parametrize(
    "strokes",
    [
        "%5B%5B%5B14",
        "[[[null,5]]]",
        '[[["5","6"]]]',
        "[[[true,false]]]",
        "[[[[5],[6]],[[7],[8]]]]",
        "[[]]",
        "[[[1e9,2]]]",
    ],
)
def test_a_link_that_cannot_be_shown_is_left_aside(visit, strokes):
    figure = ready(visit(PAGE + f"#contradict~label=12&strokes={strokes}"))
    assert shows(figure) == [3, 7, 3, 7] and figure.state("label") == 7


def test_it_works_from_the_folder_without_a_network_on_a_phone(browser, built):
    context = browser.new_context(
        viewport=harness.PHONE, has_touch=True, is_mobile=True, offline=True, reduced_motion="reduce"
    )
    page = context.new_page()
    page.goto(built.as_uri() + "/" + PAGE)
    figure = ready(page)
    figure.find(".lb-pad-samples button").nth(6).tap()
    comes(figure, "6,7,")
    assert shows(figure)[3] == 7 and by_pytorch(figure)[1][1:] == shows(figure)[2:]
    context.close()


def test_before_the_models_are_there_the_recorded_start_is_shown(browser, address, built):
    page, held = browser.new_page(viewport=harness.WIDE), []
    (later,) = re.findall(r'data-later="(first=[^"]*)"', (built / PAGE).read_text(encoding="utf-8"))
    for name in re.findall(r"\w+\.js", later):
        page.route(f"**/{name}", lambda route: held.append(route))
    page.goto(address + PAGE, wait_until="domcontentloaded")
    figure = SimpleNamespace(find=page.locator('[data-name="contradict"] > .lb-live').locator)  # not whole yet
    figure.find(".lb-question").get_by_role("button", name="a 3").click()
    assert shows(figure) == [3, 7, 3, 7] and "Yes." in figure.find(".lb-answer").inner_text()
    before = drawn(figure)
    page.evaluate("0")
    for route in held:
        route.continue_()
    page.wait_for_function("() => document.querySelector('[data-name=contradict] [data-live]')")
    for old, new in zip(before, drawn(figure), strict=True):
        assert np.abs(old - new).max() <= 1
    page.close()


def test_the_judge_reads_500_held_out_digits_as_pytorch_does(visit):
    images = load_digits("test", source="offline").images
    more = load_digits("train", source="offline").images[: 500 - len(images)]
    images = torch.cat([images, more])[:500]
    judge = export.read_model(export.shipped_model("judge"))
    with torch.no_grad():
        wanted = judge(images).softmax(1)
    page = visit(harness.PAGE)
    page.evaluate(harness.all_figures())
    values = base64.b64encode(images.numpy().astype("<f4").tobytes()).decode()
    packed = base64.b64encode(export.shipped_model("judge")).decode()
    found = page.evaluate(
        """async ([packed, values]) => {
            const { engine, inflate, bytes } = latentbookWidgets.contradict;
            const judge = engine.model(await inflate(packed)), all = new Float32Array(bytes(values).buffer);
            return JSON.stringify(Array.from({ length: all.length / 784 },
                (_, i) => [...judge.judge(all.subarray(784 * i, 784 * (i + 1)))]));
        }""",
        [packed, values],
    )
    found = torch.tensor(json.loads(found))
    assert len(found) == 500 and torch.equal(found.argmax(1), wanted.argmax(1))
    assert (found - wanted).abs().max() < 1e-4


def test_a_pen_that_rests_on_the_pad_is_no_try_and_ink_stays_out_of_the_address(visit):
    figure = ready(visit(PAGE), shown=False)
    cells, mouse = figure.find(".lb-numbers tbody tr").first.locator("td"), figure.page.mouse
    figure.find(".lb-pad").get_by_role("button", name="Clear").click()
    assert harness.becomes(lambda: figure.find(".lb-board").get_attribute("data-stale"), "")
    assert not figure.find(".lb-panel").first.evaluate("panel => panel.inert")  # who writes first is not asked
    assert figure.find(".lb-closed .lb-bets").evaluate("bets => bets.inert")
    box = figure.find(".lb-pad-surface").bounding_box()
    mouse.move(box["x"] + 0.5 * box["width"], box["y"] + 0.2 * box["height"])
    mouse.down()
    mouse.move(box["x"] + 0.5 * box["width"], box["y"] + 0.5 * box["height"], steps=4)
    comes(figure, "1,7,")
    assert figure.find(".lb-board").get_attribute("data-stale") is None
    figure.page.wait_for_timeout(1700)
    assert cells.all_inner_texts() == ["–", "–"]
    mouse.move(box["x"] + 0.5 * box["width"], box["y"] + 0.8 * box["height"], steps=4)
    mouse.up()
    assert harness.becomes(lambda: [text.split(" of ")[-1] for text in cells.all_inner_texts()], ["1", "1"])
    assert "strokes" not in figure.page.evaluate("location.hash")
    figure.find(".lb-tries").get_by_role("button", name="link to this").click()
    assert "strokes" in figure.page.evaluate("location.hash")


def test_states_to_try_are_not_the_readers_tries(visit):
    figure = ready(visit(PAGE))
    figure.find(".lb-tries").get_by_role("button", name="a 4, asked for as a 9").click()
    comes(figure, "4,9,")
    figure.page.wait_for_timeout(1700)
    assert figure.find(".lb-numbers tbody tr").first.locator("td").all_inner_texts() == ["–", "–"]
