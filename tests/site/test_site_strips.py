"""The scrubber over pictures in a real browser: the very pixels, every way to move it, light and dark, wide and narrow."""

import functools
import io

import numpy as np
import pytest
import site_harness as harness
import torch
from PIL import Image
from site_harness import PAGE, Figure

from latentbook.widgets import StripsFigure
from latentbook.widgets.sprites import lay

COUNT, LAST = 6, 5
FRAMES = torch.rand(COUNT, 2, 10, 28, 28, generator=torch.Generator().manual_seed(0))
BESIDE = torch.rand(COUNT, 1, 4, 28, 28, generator=torch.Generator().manual_seed(1))
NOTES = [f"The asked digit is seen in {i} of 20." for i in range(COUNT)]


def widget(**given) -> StripsFigure:
    choices = {"beside": BESIDE, "labels": [str(k) for k in range(10)], "headings": ("asked", "again"), "notes": NOTES}
    return StripsFigure(FRAMES, **{**choices, **given})


usual = functools.cache(widget)  # one for all tests that ask for nothing else


def open_figure(visit, shown: StripsFigure | None = None, **how) -> Figure:
    figure = harness.put_in(visit, shown or usual(), **how)
    wait(figure, figure.state("index"))
    return figure


def wait(figure: Figure, index: int) -> None:
    """Until the pictures of a frame stand on every canvas."""
    figure.find(f'canvas:not([data-shown="{index}"])').first.wait_for(state="detached", timeout=10_000)


def shows(figure: Figure, index: int) -> bool:
    """Whether both canvases hold the pictures of a frame, to the byte."""
    found = [np.array(harness.grey_values(canvas)) for canvas in figure.find("canvas").all()]
    mosaics = [FRAMES, BESIDE][: len(found)]
    return all(np.array_equal(one, expected(other[index])) for one, other in zip(found, mosaics, strict=True))


def expected(values: torch.Tensor) -> np.ndarray:
    """The pictures of a frame as PyTorch rounds them to 8 bits, laid in rows."""
    return lay((values.double() * 255).round().to(torch.uint8).numpy())


@pytest.mark.parametrize("dark", [False, True], ids=["light", "dark"])
def test_the_canvas_holds_the_values_of_pytorch(visit, dark):
    figure = open_figure(visit, dark=dark)
    for index in (LAST, 0, 3):
        figure.set_slider("index", index)
        wait(figure, index)
        assert shows(figure, index)


@pytest.mark.parametrize("dark", [False, True], ids=["light", "dark"])
def test_readers_see_ink_on_the_pages_own_paper(visit, dark):
    values = torch.tensor([0.0, 0.2, 0.6, 1.0])
    tones = values.view(1, 1, 4, 1, 1).expand(1, 1, 4, 28, 28)
    figure = open_figure(visit, StripsFigure(tones), dark=dark)
    paper = figure.page.evaluate(
        "getComputedStyle(document.body).backgroundColor.match(/[\\d.]+/g).slice(0, 3).map(Number)"
    )
    shot = np.asarray(Image.open(io.BytesIO(figure.find("canvas").screenshot())).convert("RGB"), float)
    height, width = shot.shape[:2]
    for k, value in enumerate(values.tolist()):
        seen = shot[height // 2, int(width * (k + 0.5) / 4)]
        ink = [255 - (1 - value) * (255 - p) if dark else 255 * (1 - value) for p in paper]
        assert np.abs(seen - ink).max() <= 1, (value, seen, ink)


def test_the_slider_by_keyboard(visit):
    figure = open_figure(visit)
    slider = figure.control("index")
    figure.press(slider, "ArrowLeft", "ArrowLeft")
    assert figure.state("index") == LAST - 2
    assert slider.get_attribute("aria-valuetext") == f"{LAST - 2} of {LAST}"
    figure.press(slider, "Home")
    assert figure.state("index") == 0
    wait(figure, 0)
    assert shows(figure, 0)
    figure.press(slider, "ArrowLeft", "ArrowRight", "End")
    assert figure.state("index") == LAST


def test_words_change_with_the_frame(visit):
    figure = open_figure(visit, widget(ticks=(1, 2, 5, 10, 20, 50)))
    first, second = figure.find("canvas").nth(0), figure.find("canvas").nth(1)
    columns = ", ".join(str(k) for k in range(10))
    for index, tick in ((LAST, 50), (2, 5)):
        figure.set_slider("index", index)
        size = f"2 rows of 10 pictures, columns {columns}"
        assert first.get_attribute("aria-label") == f"asked, epoch {tick}: {size}. {NOTES[index]}"
        assert second.get_attribute("aria-label") == f"again, epoch {tick}: 1 row of 4 pictures. {NOTES[index]}"
        assert figure.find(".lb-readout").inner_text() == NOTES[index]
        assert figure.find("output").inner_text() == f"{tick} of 50"
    assert first.get_attribute("role") == "img"
    assert figure.find("label").get_attribute("for") == figure.control("index").get_attribute("id")


def test_it_plays_to_the_last_frame_and_pauses(visit):
    figure = open_figure(visit, widget(index=LAST - 2), calm=False)
    button = figure.find(".lb-bar button")
    assert button.inner_text() == "play"
    button.click()
    assert figure.state("index") >= LAST - 1
    figure.find('button:text-is("play")').wait_for(timeout=10_000)  # it has come to the end and stopped
    assert figure.state("index") == LAST
    button.click()  # once more, from the first frame
    assert button.inner_text() == "pause" and figure.state("index") < LAST
    button.click()
    assert button.inner_text() == "play"
    at = figure.state("index")
    figure.page.wait_for_timeout(1000)
    assert figure.state("index") == at


def test_moving_the_slider_pauses(visit):
    figure = open_figure(visit, widget(index=0), calm=False)
    figure.find(".lb-bar button").click()
    figure.set_slider("index", 3)
    assert figure.find(".lb-bar button").inner_text() == "play"
    figure.page.wait_for_timeout(1000)
    assert figure.state("index") == 3


def test_those_who_ask_for_less_motion_step_by_hand(visit):
    figure = open_figure(visit, widget(index=LAST - 1), calm=True)
    button = figure.find(".lb-bar button")
    assert button.inner_text() == "next epoch"
    seen = []
    for _ in range(3):
        button.click()
        seen.append(figure.state("index"))
    figure.page.wait_for_timeout(1000)
    assert seen == [LAST, 0, 1] and figure.state("index") == 1


def test_dragging_across_the_pictures(visit):
    figure = open_figure(visit, widget(index=0))
    figure.drag(figure.find(".lb-board"), (0.1, 0.5), (0.62, 0.5))
    assert figure.state("index") == 3
    figure.drag(figure.find(".lb-board"), (0.9, 0.5), (0.1, 0.5))
    assert figure.state("index") == 0


def test_a_finger_across_the_pictures(visit):
    figure = open_figure(visit, widget(index=0), phone=True, touch=True)
    figure.swipe(figure.find(".lb-board"), (0.1, 0.5), (0.9, 0.5))
    for _ in range(30):  # a touch is handled in a frame of its own
        if figure.state("index") == LAST:
            break
        figure.page.wait_for_timeout(100)
    assert figure.state("index") == LAST


@pytest.mark.parametrize("calm", [False, True], ids=["play", "next"])
def test_a_phone_shows_it_whole(visit, calm):
    figure = open_figure(visit, phone=True, touch=True, calm=calm)
    wide, inner = figure.page.evaluate("[document.documentElement.scrollWidth, innerWidth]")
    assert wide <= inner
    for element in figure.find("canvas, input, button, output, .lb-columns span").all():
        box = element.bounding_box()
        assert box["x"] >= 0 and box["x"] + box["width"] <= inner
    for element in (figure.control("index"), figure.find(".lb-bar button")):
        assert element.bounding_box()["height"] >= 39  # room for a finger
    tops = [figure.find(part).bounding_box()["y"] for part in (".lb-slider", ".lb-bar button")]
    assert abs(tops[0] - tops[1]) < 10  # in one line


def test_labels_stand_above_their_columns(visit):
    figure = open_figure(visit)
    canvas, spans = figure.find("canvas").first.bounding_box(), figure.find(".lb-columns span").all()
    assert [span.inner_text() for span in spans] == [str(k) for k in range(10)]
    for k, span in enumerate(spans):
        box = span.bounding_box()
        middle = box["x"] + box["width"] / 2
        assert abs(middle - (canvas["x"] + canvas["width"] * (k + 0.5) / 10)) < 1
        assert box["y"] + box["height"] <= canvas["y"] + 1


def test_pictures_are_crisp_and_at_most_twice_their_size(visit):
    figure = open_figure(visit)
    for k, columns in enumerate((10, 4)):
        canvas = figure.find("canvas").nth(k)
        assert canvas.evaluate("e => getComputedStyle(e).imageRendering") == "pixelated"
        assert canvas.bounding_box()["width"] == pytest.approx(2 * 30 * columns, abs=0.5)


def test_one_frame_needs_no_slider(visit):
    figure = open_figure(visit, StripsFigure(FRAMES[:1]))
    assert not figure.control("index").is_visible() and figure.find("button:visible").count() == 0
    assert shows(figure, 0)


def test_two_figures_in_one_page_move_apart(visit):
    figure = open_figure(visit)
    harness.insert(figure.page, widget(index=1).to_html())  # comes first now
    other, figure = Figure(figure.page, "strips", 0), Figure(figure.page, "strips", 1)
    wait(other, 1)
    figure.set_slider("index", 2)
    assert (other.state("index"), figure.state("index")) == (1, 2)


def test_a_notebook_runs_the_very_same_source_and_hears_of_the_frame(visit):
    shown = widget(index=0)
    page = visit(PAGE)
    in_page = page.evaluate("String(latentbook.widgets.strips.render)")
    harness.start_module(page, shown._esm, shown.state())
    assert page.evaluate("String(window.module.render)") == in_page
    page.locator('canvas[data-shown="0"]').first.wait_for(timeout=10_000)
    page.locator(".lb-strips input").fill("4")
    assert page.evaluate("[window.model.get('index'), window.model.sent]") == [4, 1]
    page.evaluate("window.stop(); window.model.set('index', 2)")  # once stopped, it no longer draws
    assert page.locator("canvas").first.get_attribute("data-shown") == "4"
