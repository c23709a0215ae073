"""Another label by hand, in a real browser: the very pixels, the verdicts, keyboard and finger, light and dark."""

import functools

import numpy as np
import pytest
import site_harness as harness
import torch
from site_harness import PAGE, Figure

from latentbook.widgets import RelabelFigure
from latentbook.widgets.sprites import lay

N, COUNT = 6, 10
NAMES = ("as published", "mended")
SOURCES = torch.rand(N, 28, 28, generator=torch.Generator().manual_seed(0))
DECODINGS = {
    name: torch.rand(N, COUNT, 28, 28, generator=torch.Generator().manual_seed(seed))
    for seed, name in enumerate(NAMES, 1)
}
LABELS = [2, 3, 4, 7, 8, 0]
VERDICTS = {
    "as published": torch.tensor(LABELS)[:, None].expand(N, COUNT).clone(),  # always the test digit again
    "mended": torch.arange(COUNT).expand(N, COUNT).clone(),  # always the label, but once
}
VERDICTS["mended"][2, 9] = 1
CHANCES = {name: torch.full((N, COUNT), 0.876) for name in NAMES}


def widget(**given) -> RelabelFigure:
    choices = {"probabilities": CHANCES, "labels": LABELS, "source": 2, "label": 7}
    return RelabelFigure(SOURCES, DECODINGS, VERDICTS, **{**choices, **given})


usual = functools.cache(widget)  # one for all tests that ask for nothing else


def open_figure(visit, shown: RelabelFigure | None = None, **how) -> Figure:
    figure = harness.put_in(visit, shown or usual(), **how)
    wait(figure)
    return figure


def wait(figure: Figure) -> None:
    """Until the chosen pictures stand on their canvases."""
    chosen = f"{figure.state('source')},{figure.state('label')}"
    figure.find(f'.lb-stage[data-shown="{chosen}"]').wait_for(timeout=10_000)


def expected(values: torch.Tensor) -> np.ndarray:
    """A picture as PyTorch rounds it to 8 bits, with its margin."""
    return lay((values.double() * 255).round().to(torch.uint8).numpy()[None, None])


def check_pictures(figure: Figure, source: int, label: int) -> None:
    wait(figure)
    shown = [harness.grey_values(canvas) for canvas in figure.find(".lb-stage canvas").all()]
    wanted = [SOURCES[source], *(DECODINGS[name][source, label] for name in NAMES)]
    assert all(np.array_equal(one, expected(other)) for one, other in zip(shown, wanted, strict=True))


@pytest.mark.parametrize("dark", [False, True], ids=["light", "dark"])
def test_the_canvases_hold_the_values_of_pytorch(visit, dark):
    figure = open_figure(visit, dark=dark)
    check_pictures(figure, 2, 7)
    for i, canvas in enumerate(figure.find(".lb-pick-source canvas").all()):
        assert np.array_equal(harness.grey_values(canvas), expected(SOURCES[i]))
    figure.control("source", "5").check()
    figure.control("label", "1").check()
    check_pictures(figure, 5, 1)


def test_the_arrow_keys_choose_digit_and_label(visit):
    figure = open_figure(visit)
    figure.press(figure.control("label", "7"), "ArrowRight", "ArrowRight", "ArrowRight")
    assert figure.state("label") == 0  # round the end
    figure.press(figure.control("source", "2"), "ArrowLeft")
    assert figure.state("source") == 1
    check_pictures(figure, 1, 0)
    label = figure.page.locator("label:has(:focus-visible)")
    assert label.evaluate("e => getComputedStyle(e).outlineStyle") == "solid"


def test_fingers_choose_digit_and_label(visit):
    figure = open_figure(visit, phone=True, touch=True)
    harness.settled(figure.div)
    figure.find(".lb-pick-label label").nth(3).tap()
    figure.find(".lb-pick-source label").nth(4).tap()
    assert (figure.state("source"), figure.state("label")) == (4, 3)
    check_pictures(figure, 4, 3)


def panel(figure: Figure, number: int) -> tuple[str, str, str]:
    """(who is followed, the verdict, the count) under a model's picture."""
    place = figure.find(".lb-panel-model").nth(number)
    return (
        place.get_attribute("data-winner"),
        " / ".join(place.locator(".lb-verdict > *").all_inner_texts()).replace("\u00a0", " "),
        place.locator(".lb-tally").inner_text(),
    )


def test_the_judge_says_who_is_followed(visit):
    figure = open_figure(visit)
    assert panel(figure, 0) == (
        "source",
        "judge: 4, 88 % / follows the test digit",
        "asked digit seen for 1 of 10 labels",
    )
    assert panel(figure, 1) == ("label", "judge: 7, 88 % / follows the label", "asked digit seen for 9 of 10 labels")
    figure.control("label", "9").check()
    assert panel(figure, 1)[:2] == ("neither", "judge: 1, 88 % / follows neither")
    figure.control("label", "4").check()
    assert panel(figure, 0)[:2] == panel(figure, 1)[:2] == ("label", "judge: 4, 88 % / its own digit")
    assert figure.find(".lb-panel-source .lb-verdict").inner_text() == "shows 4"
    figure.control("source", "0").check()
    assert panel(figure, 1)[2] == "asked digit seen for 10 of 10 labels"


def test_without_labels_and_probabilities_it_says_less(visit):
    figure = open_figure(visit, widget(labels=None, probabilities=None))
    assert panel(figure, 0)[:2] == ("neither", "judge: 4 / not the asked digit")
    assert figure.find(".lb-panel-source .lb-verdict").inner_text() == ""


def test_everything_has_a_name(visit):
    figure = open_figure(visit)
    assert figure.control("source", "2").get_attribute("aria-label") == "test digit 3, showing 4"
    assert figure.control("label", "7").get_attribute("aria-label") == "label 7"
    groups = [group.get_attribute("aria-label") for group in figure.find('[role="radiogroup"]').all()]
    assert groups == ["test digit", "decode with"]
    named = [canvas.get_attribute("aria-label") for canvas in figure.find(".lb-stage canvas").all()]
    assert named == [
        "test digit 3, showing 4",
        "as published: the chosen digit's code decoded with label 7",
        "mended: the chosen digit's code decoded with label 7",
    ]
    assert figure.find(".lb-stage").get_attribute("aria-live") == "polite"


def test_colour_is_never_alone(visit):
    figure = open_figure(visit)
    frames = figure.find(".lb-panel-model .lb-print").evaluate_all(
        "all => all.map(e => [getComputedStyle(e).borderTopColor, getComputedStyle(e).borderTopStyle])"
    )
    assert frames == [["rgb(0, 114, 178)", "dashed"], ["rgb(204, 121, 167)", "solid"]]


def test_a_phone_shows_it_whole(visit):
    figure = open_figure(visit, phone=True, touch=True)
    wide, inner = figure.page.evaluate("[document.documentElement.scrollWidth, innerWidth]")
    assert wide <= inner
    for element in figure.find("canvas, .lb-faces label, .lb-verdict, .lb-heading").all():
        box = element.bounding_box()
        assert box["x"] >= 0 and box["x"] + box["width"] <= inner
    labels = [label.bounding_box() for label in figure.find(".lb-pick-label label").all()]
    assert len({round(box["y"]) for box in labels}) == 2  # ten labels in two rows of five
    assert all(min(box["width"], box["height"]) >= 44 for box in labels)  # room for a finger
    tops = {round(canvas.bounding_box()["y"]) for canvas in figure.find(".lb-stage canvas").all()}
    assert len(tops) == 1  # side by side, whatever their headings


def test_a_notebook_runs_the_very_same_source_and_hears_of_the_choice(visit):
    shown = widget()
    page = visit(PAGE)
    in_page = page.evaluate("String(latentbook.widgets.relabel.render)")
    harness.start_module(page, shown._esm, shown.state())
    assert page.evaluate("String(window.module.render)") == in_page
    page.locator('.lb-stage[data-shown="2,7"]').wait_for(timeout=10_000)
    page.locator('input[data-trait="label"][value="3"]').check()
    assert page.evaluate("[window.model.get('label'), window.model.sent]") == [3, 1]
    page.evaluate("window.stop(); window.model.set('label', 2)")  # once stopped, it no longer draws
    assert page.locator(".lb-stage").get_attribute("data-shown") == "2,3"
