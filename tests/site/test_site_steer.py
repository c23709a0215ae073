"""A code moved and a label mixed, in a real browser, by mouse, finger and key: what is drawn is what PyTorch draws."""

import base64
import functools
import json

import numpy as np
import pytest
import site_harness as harness
import torch
from site_harness import Figure
from test_site_accessible import FIGURES, violations
from test_site_phone import QUESTION, SMALL, TALLEST, TARGET

from latentbook import words
from latentbook.data import load_digits
from latentbook.widgets import SteerFigure, steer
from latentbook.widgets.export import read_model, shipped_model

TRAITS = ("point", "t", "source", "target")


@functools.cache
def widget() -> SteerFigure:
    return SteerFigure(load_digits("test", source="offline"))


def open_figure(visit, **how) -> Figure:
    """The figure with its models there and at rest."""
    figure = harness.put_in(visit, widget(), **how)
    settled(figure)
    return figure


def data(figure: Figure) -> dict:
    return figure.find("> div").evaluate("e => ({ ...e.dataset })")


def settled(figure: Figure) -> None:
    assert harness.becomes(lambda: ((found := data(figure)).get("live"), found.get("busy")), ("worker", "false"))


def state(figure: Figure) -> dict:
    return {trait: figure.state(trait) for trait in TRAITS}


def by_pytorch(figure: Figure) -> tuple[np.ndarray, list[int]]:
    """Grey values [models, 1 + 11, 28, 28] of the state that the page tells, and what the judge sees in each first one."""
    now, judge = state(figure), read_model(shipped_model("judge"))
    y = torch.zeros(12, 10)
    for k, t in enumerate([now["t"], *np.arange(11) / 10]):
        y[k, now["source"]] += 1 - t
        y[k, now["target"]] += t
    pictures = []
    for name, plane in zip(steer.MODELS.values(), widget().planes, strict=True):
        first, second = torch.tensor(plane["directions"])
        z = now["point"][0] * first + now["point"][1] * second
        with torch.no_grad():
            pictures.append(read_model(shipped_model(name)).decode(z, y).sigmoid().view(12, 28, 28))
    with torch.no_grad():
        seen = judge(torch.stack([each[:1] for each in pictures])).argmax(1).tolist()
    return (255 * torch.stack(pictures)).numpy(), seen


def drawn(figure: Figure) -> np.ndarray:
    panels, strips = figure.find(".lb-side canvas").all(), figure.find(".lb-strip").all()
    rows = [
        [harness.grey_values(panel), *(harness.grey_values(canvas) for canvas in strip.locator("canvas").all())]
        for panel, strip in zip(panels, strips, strict=True)
    ]
    return np.array(rows)


def as_pytorch(figure: Figure) -> bool:
    """Whether every picture is PyTorch's, to one grey level, and the judge says the same, aloud too."""
    settled(figure)
    wanted, seen = by_pytorch(figure)
    assert data(figure)["shown"] == ",".join(map(str, seen))
    verdicts = figure.find(".lb-verdict").all_text_contents()
    assert verdicts == [f"judge sees {words.a_digit(digit)}" for digit in seen]
    assert np.abs(drawn(figure) - wanted).max() <= 1
    return True


def ring(figure: Figure) -> tuple[float, float]:
    """Where the point lies on the first plane, in its units."""
    plane = figure.find(".lb-plane").first.bounding_box()
    grab = figure.find(".lb-grab").first.bounding_box()
    x, y = (grab[a] + grab[b] / 2 - plane[a] for a, b in (("x", "width"), ("y", "height")))
    return 7 * x / plane["width"] - 3.5, 3.5 - 7 * y / plane["width"]


def share(x: float, y: float) -> tuple[float, float]:
    """A place of a plane as shares of its width and height."""
    return (x + 3.5) / 7, (3.5 - y) / 7


def test_the_question_comes_first_and_its_answer_is_what_is_drawn(visit):
    figure = open_figure(visit, ask=True)
    question, (published, fixed) = figure.find(".lb-question"), by_pytorch(figure)[1]
    assert "The label is half a 3 and half an 8. What will the fixed model draw?" in question.inner_text()
    hidden = [*figure.find(".lb-side").all(), *figure.find(".lb-strip").all(), figure.find(".lb-readout")]
    assert all(part.evaluate("e => e.inert && getComputedStyle(e).opacity < 0.3") for part in hidden)
    options = ["a 3", "an 8", "neither"]
    assert question.locator(".lb-bet").all_inner_texts() == options
    right = {3: 0, 8: 1}.get(fixed, 2)
    question.locator(".lb-bet").nth(right).click()
    said = question.locator(".lb-answer").inner_text()
    told = f"Yes. The fixed model draws {words.a_digit(fixed)}, the tutorial's model {words.a_digit(published)}, "
    assert said.startswith(told)
    assert not any(part.evaluate("e => e.inert") for part in hidden) and as_pytorch(figure)


def test_who_is_wrong_is_told_so(visit):
    figure = open_figure(visit, ask=True)
    fixed = by_pytorch(figure)[1][1]
    figure.find(".lb-bet").nth(({3: 0, 8: 1}.get(fixed, 2) + 1) % 3).click()
    assert figure.find(".lb-answer").inner_text().startswith("No. The fixed model draws ")


@pytest.mark.parametrize("how", [{}, {"dark": True}, {"phone": True}], ids=["light", "dark", "phone"])
def test_a_point_dragged_by_the_mouse_is_decoded_as_pytorch_does(visit, how):
    figure = open_figure(visit, **how)
    before = drawn(figure)
    figure.drag(figure.find(".lb-plane").nth(1), share(*figure.state("point")), share(-1.5, -2))
    assert figure.state("point") == pytest.approx([-1.5, -2], abs=0.05) and as_pytorch(figure)
    assert np.abs(drawn(figure) - before).max() > 60
    assert ring(figure) == pytest.approx(tuple(figure.state("point")), abs=0.05)  # both planes have it
    figure.drag(figure.find(".lb-plane").first, share(-1, -1), share(3.4, 3.4))
    assert figure.state("point") == [3, 3] and as_pytorch(figure)


def test_a_finger_drags_the_point_taps_the_plane_and_scrolls_past_it(visit):
    figure = open_figure(visit, phone=True, touch=True)
    plane = figure.find(".lb-plane").first
    figure.swipe(plane, share(*figure.state("point")), share(-1, 0.5))
    assert figure.state("point") == pytest.approx([-1, 0.5], abs=0.06) and as_pytorch(figure)
    box = harness.settled(plane)
    u, v = share(1, -1)
    figure.page.touchscreen.tap(box["x"] + u * box["width"], box["y"] + v * box["height"])
    assert figure.state("point") == pytest.approx([1, -1], abs=0.06) and as_pytorch(figure)
    point = figure.state("point")
    figure.swipe(plane, share(-2, -2), share(-2, 2))
    assert figure.state("point") == point  # it was meant for the page


def test_keys_move_point_and_label(visit):
    figure = open_figure(visit)
    x, y = figure.state("point")
    figure.press(figure.find(".lb-grab").first, "ArrowLeft", "ArrowDown", "Shift+ArrowDown")
    assert figure.state("point") == pytest.approx([x - 0.1, y - 0.6]) and as_pytorch(figure)
    told = figure.find(".lb-grab").nth(1).get_attribute("aria-valuetext")
    assert told == f"first direction at {x - 0.1:.1f}, second direction at {y - 0.6:.1f}"
    figure.press(figure.control("t"), "ArrowRight")
    assert figure.state("t") == 0.55
    figure.press(figure.control("t"), "End")
    assert figure.state("t") == 1 and as_pytorch(figure)
    figure.press(figure.find("select").first, "7")  # as a list is searched by its first letter
    assert figure.state("source") == 7


@pytest.mark.parametrize(("source", "target", "t"), [(7, 1, 0.35), (0, 0, 0.5), (9, 4, 1)])
def test_a_mixed_label_is_decoded_as_pytorch_does(visit, source, target, t):
    figure = open_figure(visit)
    for select, digit in zip(figure.find("select").all(), (source, target), strict=True):
        select.select_option(str(digit))
    figure.set_slider("t", t)
    assert state(figure) | {"point": None} == {"point": None, "t": t, "source": source, "target": target}
    assert as_pytorch(figure)
    words = figure.find(".lb-slider output").inner_text()
    assert words.replace("\u00a0", " ") == steer.mixed(source, target, t).replace(" and", ",")
    assert words in figure.find(".lb-readout").inner_text()


def test_a_small_picture_sets_the_label_and_the_nearest_is_marked(visit):
    figure = open_figure(visit)

    def marked() -> list[list[int]]:
        strips = figure.find(".lb-strip").all()
        pressed = "all => all.map((e) => e.ariaPressed)"
        return [
            np.flatnonzero(np.array(strip.locator("button").evaluate_all(pressed)) == "true").tolist()
            for strip in strips
        ]

    assert marked() == [[5], [5]]
    figure.find(".lb-strip").nth(1).locator("button").nth(2).click()
    assert figure.state("t") == 0.2 and marked() == [[2], [2]] and as_pytorch(figure)
    assert np.abs(drawn(figure)[:, 0] - drawn(figure)[:, 3]).max() == 0  # the large one is the marked one
    figure.set_slider("t", 0.85)
    assert marked() in ([[8], [8]], [[9], [9]])


def test_what_lies_between_classes_is_told_beside_each_plane(visit):
    figure = open_figure(visit)
    for text, plane in zip(figure.find(".lb-between").all_inner_texts(), widget().planes, strict=True):
        assert f"{plane['between']:.0%}" in text.replace("\u00a0", "")
    inked = """canvas => {
        const { data } = canvas.getContext("2d").getImageData(0, 0, canvas.width, canvas.height);
        return data.filter((value, k) => k % 4 === 3 && value > 0).length;
    }"""
    assert all(figure.find(".lb-plane > canvas").nth(k).evaluate(inked) > 5000 for k in range(2))
    figure.unfold()
    assert f"{100 * widget().planes[0]['explained'][0]:.0f}" in figure.find(".lb-note").inner_text()


def test_states_to_try_and_the_way_back(visit):
    figure = open_figure(visit)
    first, seen = state(figure), []
    for button in figure.find(".lb-tries button[aria-pressed]").all():
        assert 2 <= len(button.inner_text().split()) <= 5
        button.click()
        assert button.get_attribute("aria-pressed") == "true" and as_pytorch(figure)
        seen.append(json.dumps(state(figure)))
    assert len(set(seen)) == 3
    figure.find('.lb-tries button:text-is("start again")').click()
    assert state(figure) == first


def follow_link(figure: Figure, told: str) -> None:
    figure.page.evaluate("told => { location.hash = told; }", f"steer~{told}")
    figure.page.evaluate("() => new Promise((resolve) => setTimeout(resolve))")


def test_an_address_brings_a_state_and_what_cannot_be_is_passed_over(visit):
    figure = open_figure(visit, ask=True)
    first = state(figure)
    for told in ("point=[0,3.5]", "point=[1]", 'point=["1",0]', "t=0.51", "t=2", "source=10", 'target="8"', "t=null"):
        follow_link(figure, told)
        assert state(figure) == first, told
    follow_link(figure, "point=[-1,0.5]&t=0.25&source=4&target=9")
    assert state(figure) == {"point": [-1, 0.5], "t": 0.25, "source": 4, "target": 9} and as_pytorch(figure)
    assert not figure.find(".lb-side").first.evaluate("e => e.inert")
    figure.set_slider("t", 0.75)
    assert harness.becomes(lambda: "t=0.75" in figure.page.evaluate("location.hash"), True)


def test_before_the_models_are_there_the_recorded_start_is_shown(visit):
    """And where they cannot be loaded it stays, and that is said."""
    page = visit(harness.PAGE)
    html = harness.saved(widget())
    assert html.count("&quot;judge&quot;:&quot;") == 1
    harness.insert(page, html.replace("&quot;judge&quot;:&quot;", "&quot;judge&quot;:&quot;AAAA"))
    figure = Figure(page, "steer")
    said = "The models of this figure could not be loaded; the digits shown were recorded."
    assert harness.becomes(figure.find(".lb-readout").inner_text, said)
    assert harness.becomes(lambda: "shown" in data(figure), True)
    wanted, seen = by_pytorch(figure)
    assert data(figure)["shown"] == ",".join(map(str, seen)) and np.abs(drawn(figure) - wanted).max() <= 1


def test_a_moved_figure_is_saved_as_it_stands_and_asks_of_that(visit):
    moved = SteerFigure(load_digits("test", source="offline"), count=40)
    moved.point, moved.source, moved.target, moved.t = [-1, -1], 7, 1, 0.25
    figure = harness.put_in(visit, moved, ask=True)
    settled(figure)
    assert "The label is 75\u00a0% a 7, 25\u00a0% a 1." in figure.find(".lb-question").inner_text()
    assert figure.find(".lb-bet").all_inner_texts() == ["a 7", "a 1", "neither"]
    right = {7: 0, 1: 1}.get(moved.seen()[1], 2)
    figure.find(".lb-bet").nth(right).click()
    assert figure.find(".lb-question").get_attribute("data-answered") == "right"


def test_in_a_notebook_a_record_of_another_state_is_not_shown(visit):
    """A figure that a hand has moved, displayed again: its record is of the start, so nothing is asked of it."""
    page, widget_now = visit(harness.PAGE), widget()
    given = widget_now.state() | {name: packed(name) for name in ("first", "second", "judge")} | {"t": 0.75}
    harness.start_module(page, SteerFigure._esm, given)
    assert page.locator(".lb-question").count() == 0
    found = page.locator("[data-live]")
    assert harness.becomes(lambda: found.count() and found.get_attribute("data-busy"), "false")
    assert harness.becomes(
        lambda: page.locator(".lb-readout").inner_text().startswith("The label is 25\u00a0% a 3, 75"), True
    )


def packed(name: str) -> str:
    return base64.b64encode(getattr(widget(), name)).decode()


def test_it_fits_a_phone_and_suits_a_finger(visit):
    figure = open_figure(visit, phone=True, touch=True)
    assert figure.div.evaluate(SMALL, TARGET) == []
    parts = "figure => [...figure.children].map((part) => [part.className, part.getBoundingClientRect().top])"
    tops = dict(figure.find("figure.lb-widget").evaluate(parts))
    assert 0 < tops["lb-tries"] - tops["lb-board"] <= TALLEST and tops["lb-board"] - tops["lb-question"] <= QUESTION
    beyond = """(div) => [...div.querySelectorAll("*")].filter((element) => {
        const box = element.getBoundingClientRect(), room = div.getBoundingClientRect();
        return box.width && !element.closest("svg") && (box.left < room.left - 4 || box.right > room.right + 4);
    }).map((element) => element.outerHTML.slice(0, 90))"""
    figure.find('.lb-tries button:text-is("start again")').click()
    assert [one for one in figure.div.evaluate(beyond) if "lb-grab" not in one] == []
    sides = [canvas.bounding_box()["width"] for canvas in figure.find(".lb-side canvas, .lb-cell:visible canvas").all()]
    assert len(sides) == 14 and min(sides) >= 40


@pytest.mark.parametrize("how", [{}, {"dark": True, "phone": True}], ids=["light", "dark"])
def test_axe_finds_nothing(visit, how):
    figure = open_figure(visit, **how)
    figure.unfold()
    assert violations(figure.page, FIGURES) == []
