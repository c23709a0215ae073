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
LOSS, HELD = [None, 171.3, 131.9, 115.26, 109.7, 104.7], [543.21, 168.8, 131.4, 117.1, 111.5, 107.4]
SHARES = {"another label wins": [0.0314, 0.12, 0.29, 0.662, 0.9, 1], "read off by a probe": [1, 0.8, 0.7, 0.5, 0.2, 0]}
STEPS = ["as published", "sum over the pixels", "labels drawn at random", "both of them", "for 60 epochs", "tuned"]
NOTES = [f"The asked digit is seen in {i} of 20." for i in range(COUNT)]


def widget(**given) -> StripsFigure:
    choices = {"beside": BESIDE, "labels": [str(k) for k in range(10)], "headings": ("asked", "again"), "notes": NOTES}
    return StripsFigure(FRAMES, **{**choices, **given})


usual = functools.cache(widget)  # one for all tests that ask for nothing else


def curved(**given) -> StripsFigure:
    choices = {"curves": {"training": LOSS, "validation": HELD}, "curves_label": "BCE + KL (nats)", "index": 4}
    return widget(**{**choices, **given})


def shares(**given) -> StripsFigure:
    """Steps with words, three curves: the fullest figure."""
    curves = {**SHARES, "guessing": [0.1] * COUNT}
    return curved(curves=curves, curves_label="share of test digits", percent=True, words=STEPS, name="step", **given)


def place(figure: Figure, index: int) -> float:
    """Where a frame lies in the plot, from the left of its field."""
    first, last = (float(figure.find(".lb-field svg").get_attribute(f"data-{end}")) for end in ("from", "to"))
    return first + index / LAST * (last - first)


def cursor(figure: Figure) -> float:
    """Where the cursor stands, from the left of the plot's field."""
    box, field = figure.find(".lb-cursor").bounding_box(), figure.find(".lb-field").bounding_box()
    return box["x"] + box["width"] / 2 - field["x"]


def share(figure: Figure, index: float) -> tuple[float, float]:
    """The same as a share of the field's width, halfway down."""
    return place(figure, index) / figure.find(".lb-field").bounding_box()["width"], 0.4


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


def test_without_curves_there_is_no_plot(visit):
    figure = open_figure(visit)
    assert figure.find(".lb-plot, .lb-values, .lb-worded").count() == 0
    assert figure.find("figure").get_attribute("class") == "lb-widget lb-strips"
    assert figure.find("figure > *").count() == 5
    assert figure.find(".lb-readout").inner_html() == NOTES[LAST]


def test_the_cursor_stands_at_the_frame_and_its_values_are_those_given(visit):
    shown = curved()
    figure = open_figure(visit, shown)
    for index in (4, 0, LAST, 2):
        figure.set_slider("index", index)
        assert cursor(figure) == pytest.approx(place(figure, index), abs=1)
        assert figure.find(".lb-values").inner_text() == shown.values_at(index)
        assert figure.find(".lb-readout").inner_text() == f"{shown.values_at(index)}\n{NOTES[index]}"
        said = figure.find(".lb-field svg").get_attribute("aria-label")
        assert said == f"Curves of BCE + KL (nats), {shown.values_at(index)}"
        marks = [mark.bounding_box() for mark in figure.find(".lb-mark.lb-here").all()]
        field = figure.find(".lb-field").bounding_box()["x"]
        assert len(marks) == (1 if index == 0 else 2)  # before training there is no training loss
        for box in marks:
            assert box["x"] + box["width"] / 2 - field == pytest.approx(place(figure, index), abs=1)
    assert shown.values_at(2) == "epoch 2: training 131.9, validation 131.4"
    assert shown.values_at(0) == "epoch 0: validation 543.2"
    assert place(figure, LAST) - place(figure, 0) > 300


def test_a_curve_is_as_high_as_its_values(visit):
    figure = open_figure(visit, shares())
    ticks = {}
    for text in figure.find('.lb-field text[text-anchor="end"]').all():
        ticks[float(text.text_content().removesuffix("\u00a0%"))] = text.get_attribute("y")
    assert set(ticks) == {0, 50, 100}
    heights = {value: float(y) - 4 for value, y in ticks.items()}
    for k, values in enumerate(shares().curves.values()):
        path = figure.find(f"path.lb-curve.lb-curve-{k}").first.get_attribute("d")
        points = [tuple(map(float, point.split())) for point in path[1:].split("L")]
        for index, ((x, y), value) in enumerate(zip(points, values, strict=True)):
            assert x == pytest.approx(place(figure, index), abs=0.2)
            assert y == pytest.approx(heights[0] + value * (heights[100] - heights[0]), abs=0.2)


def test_a_gap_in_a_curve_stays_one(visit):
    figure = open_figure(visit, curved(curves={"a": [1, 2, None, 3, None, 5]}))
    path = figure.find("path.lb-curve.lb-curve-0").first.get_attribute("d")
    assert (path.count("M"), path.count("L")) == (3, 1)
    figure.set_slider("index", 2)
    assert figure.find(".lb-values").inner_text() == "epoch 2: no value"


def test_curves_are_told_apart_by_more_than_colour(visit):
    figure = open_figure(visit, shares())
    seen = [figure.find(f"path.lb-curve.lb-curve-{k}").first for k in range(3)]
    assert len({line.evaluate("e => getComputedStyle(e).strokeDasharray") for line in seen}) == 3
    names = [" ".join(text.locator("tspan").all_text_contents()) for text in figure.find(".lb-named").all()]
    assert names == ["another label wins", "read off by a probe", "guessing"]


@pytest.mark.parametrize(("percent", "least"), [(False, "nats"), (True, "share")])
def test_dragging_in_the_plot_moves_the_cursor_and_the_frame(visit, percent, least):
    figure = open_figure(visit, shares() if percent else curved())
    assert least in figure.find(".lb-plot .lb-heading").inner_text()
    field = figure.find(".lb-field")
    figure.drag(field, share(figure, 4), share(figure, 1.2))
    assert figure.state("index") == 1
    wait(figure, 1)
    assert shows(figure, 1) and cursor(figure) == pytest.approx(place(figure, 1), abs=1)
    figure.drag(field, share(figure, 1), (0.99, 0.9))  # beyond the last frame
    assert figure.state("index") == LAST
    x, y = share(figure, 3.4)
    box = field.bounding_box()
    figure.page.mouse.click(box["x"] + x * box["width"], box["y"] + y * box["height"])
    assert figure.state("index") == 3 and figure.control("index").input_value() == "3"


def test_a_tap_and_a_finger_across_the_plot(visit):
    figure = open_figure(visit, curved(), phone=True, touch=True)
    field = figure.find(".lb-field")
    harness.settled(field)
    x, y = share(figure, 2)
    box = field.bounding_box()
    figure.page.touchscreen.tap(box["x"] + x * box["width"], box["y"] + y * box["height"])
    assert harness.becomes(lambda: figure.state("index"), 2)
    figure.swipe(field, share(figure, 2), share(figure, 5))
    assert harness.becomes(lambda: figure.state("index"), LAST)


def test_dragging_in_the_plot_pauses(visit):
    figure = open_figure(visit, curved(index=0), calm=False)
    figure.find(".lb-bar button").click()
    figure.drag(figure.find(".lb-field"), share(figure, 4), share(figure, 2))
    assert figure.find(".lb-bar button").inner_text() == "play" and figure.state("index") == 2


def test_words_stand_where_a_number_would(visit):
    shown = shares()
    figure = open_figure(visit, shown)
    figure.press(figure.control("index"), "ArrowLeft")
    assert figure.control("index").get_attribute("aria-valuetext") == STEPS[3] == figure.find("output").inner_text()
    assert figure.find(".lb-values").inner_text() == shown.values_at(3)
    assert (
        shown.values_at(3)
        == "both of them: another label wins 66.2\u00a0%, read off by a probe 50.0\u00a0%, guessing 10.0\u00a0%"
    )
    assert figure.find("canvas").first.get_attribute("aria-label").startswith("asked, both of them: 2 rows")
    assert " ".join(figure.find(".lb-now tspan").all_text_contents()) == STEPS[3]


@pytest.mark.parametrize("phone", [False, True], ids=["wide", "phone"])
@pytest.mark.parametrize("made", [curved, shares], ids=["epochs", "steps"])
def test_the_plot_fits_and_its_words_are_readable(visit, made, phone):
    figure = open_figure(visit, made(), phone=phone, touch=phone)
    wide, inner = figure.page.evaluate("[document.documentElement.scrollWidth, innerWidth]")
    assert wide <= inner
    field = figure.find(".lb-field").bounding_box()
    texts = figure.find(".lb-field text").all()
    boxes = [text.bounding_box() for text in texts]
    for text, box in zip(texts, boxes, strict=True):
        assert text.evaluate("e => parseFloat(getComputedStyle(e).fontSize)") >= 11
        assert box["x"] >= field["x"] - 1 and box["x"] + box["width"] <= field["x"] + field["width"] + 1
        assert box["y"] >= field["y"] - 4 and box["y"] + box["height"] <= field["y"] + field["height"] + 1
    for i, one in enumerate(boxes):
        for other in boxes[:i]:
            across = min(one["x"] + one["width"], other["x"] + other["width"]) - max(one["x"], other["x"])
            down = min(one["y"] + one["height"], other["y"] + other["height"]) - max(one["y"], other["y"])
            assert across <= 0 or down <= 3  # a line's box is higher than its letters
    pictures = figure.find("canvas").first.bounding_box()
    assert field["x"] == pytest.approx(pictures["x"], abs=1)
    assert field["width"] == pytest.approx(pictures["width"], abs=1)
    for part in figure.find("input, output, .lb-bar button").all():
        box = part.bounding_box()
        assert box["x"] >= 0 and box["x"] + box["width"] <= inner


def test_nothing_moves_from_step_to_step(visit):
    figure = open_figure(visit, shares())
    tops = set()
    for index in range(COUNT):
        figure.set_slider("index", index)
        button, plot = figure.find(".lb-bar button").bounding_box(), figure.find(".lb-plot").bounding_box()
        tops.add((button["x"], button["y"], plot["y"], plot["height"]))
    assert len(tops) == 1


def test_curves_that_a_notebook_sets_later_are_drawn(visit):
    shown = widget(index=3)
    page = visit(PAGE)
    harness.start_module(page, shown._esm, shown.state())
    page.locator('canvas[data-shown="3"]').first.wait_for(timeout=10_000)
    assert page.locator(".lb-plot").count() == 0
    page.evaluate("curves => window.model.set('curves', curves)", {"loss": [6, 5, 4, 3, 2, 1]})
    assert page.locator(".lb-values").inner_text() == "epoch 3: loss 3"
    page.locator(".lb-cursor").wait_for(state="attached", timeout=10_000)
    page.evaluate("window.model.set('curves', {})")
    assert not page.locator(".lb-plot").is_visible() and page.locator(".lb-readout").inner_text() == NOTES[3]
