"""The gradient explorer in a real browser: losses and slopes against autograd, descent, and the ways to move the window."""

import functools
import itertools
import json
from collections.abc import Callable

import pytest
import site_harness as harness
import torch
from site_harness import PAGE, Figure

from latentbook.widgets import GradientExplorer

SCENE = torch.zeros(50, 50)  # a hook, smooth enough to be found from some way off
SCENE[24:42, 26:31] = 1
SCENE[36:42, 18:31] = 0.6
SCENE = torch.nn.functional.avg_pool2d(SCENE[None, None], 5, 1, 2)[0, 0]
TARGET = (2.2, -0.4, -0.6)
NEAR, FAR = (2.2, -0.3, -0.5), (2.2, 1.7, 1.7)


def widget(**given) -> GradientExplorer:
    return GradientExplorer(SCENE, TARGET, **{"where": NEAR, **given})


usual = functools.cache(widget)  # one for all tests that ask for nothing else


def open_figure(visit, shown: GradientExplorer | None = None, **how) -> Figure:
    figure = harness.put_in(visit, shown or usual(), **how)
    figure.find("[data-shown]").wait_for(timeout=20_000)
    return figure


def frames(figure: Figure) -> Callable[..., int]:
    """The page's animation by hand: each call is a number of frames and tells how many of them had something to move."""
    figure.page.evaluate(
        """() => {
            const waiting = new Map();
            let last = 0;
            window.requestAnimationFrame = (draw) => { waiting.set(++last, draw); return last; };
            window.cancelAnimationFrame = (id) => waiting.delete(id);
            window.frame = () => {
                const now = [...waiting.values()];
                waiting.clear();
                now.forEach((draw) => draw(performance.now()));
                return now.length > 0;
            };
        }"""
    )
    return lambda count=1: figure.page.evaluate("n => Array.from({ length: n }, frame).filter(Boolean).length", count)


def press(figure: Figure, name: str) -> None:
    figure.find(f'button:text-is("{name}")').click()


def readout(figure: Figure) -> str:
    return figure.find(".lb-readout").first.inner_text().replace("−", "-")


def verdict(figure: Figure) -> str:
    return figure.find(".lb-readout").last.inner_text()


def test_losses_and_slopes_are_autograds(visit):
    shown, page = widget(), visit(PAGE, keep=True)
    generator = torch.Generator().manual_seed(0)
    scale = 0.8 + 5 * torch.rand(60, 1, generator=generator)
    windows = torch.cat([scale, scale * (2 * torch.rand(60, 2, generator=generator) - 1)], 1)
    found = page.evaluate(
        """(given) => {
            const [rows, target, windows] = JSON.parse(given);
            const picture = { values: Float32Array.from(rows.flat()), width: 50, height: 50 };
            const goal = latentbook.widgets.attention.cropAt(picture, target, 28);
            return windows.map((where) => latentbook.widgets.landscape.lossAt(picture, goal, where));
        }""",
        json.dumps([shown.picture().tolist(), TARGET, windows.tolist()]),
    )
    exact = windows.double().requires_grad_()
    losses = shown.loss(exact)
    (slopes,) = torch.autograd.grad(losses.sum(), exact)
    assert [one["loss"] for one in found] == pytest.approx(losses.tolist(), abs=1e-6)
    ours = torch.tensor([one["slope"] for one in found], dtype=torch.float64)
    # 32 bits may see a pixel on the other side of a pixel's centre, where the slope jumps
    assert (ours - slopes[:, 1:]).abs().max() < 1e-3 and (ours - slopes[:, 1:]).abs().median() < 1e-6
    assert slopes[:, 1:].abs().max() > 0.01


@pytest.mark.parametrize("scale", [1.1, 2.2, 4.0])
def test_the_landscape_and_its_level_ground_are_pytorchs(visit, scale):
    shown, page = widget(where=(scale, 0, 0)), visit(PAGE, keep=True)
    found = page.evaluate(
        """(given) => {
            const [rows, target, scale] = JSON.parse(given);
            const picture = { values: Float32Array.from(rows.flat()), width: 50, height: 50 };
            const goal = latentbook.widgets.attention.cropAt(picture, target, 28);
            const { losses, flat } = latentbook.widgets.landscape.landscape(picture, goal, scale);
            return JSON.stringify([[...losses], [...flat]]);
        }""",
        json.dumps([shown.picture().tolist(), TARGET, scale]),
    )
    found = json.loads(found)
    losses, level = shown.landscape()
    assert (torch.tensor(found[0]) - losses.flatten()).abs().max() < 1e-5
    ours = torch.tensor(found[1]).bool()
    assert (ours == level.flatten()).float().mean() > 0.995  # but for windows that touch ink by a rounding
    assert ours.any() and not ours.all()


def test_the_numbers_are_those_of_the_window(visit):
    figure = open_figure(visit)
    shown = widget()
    slope = shown.gradient()
    assert readout(figure) == f"loss {shown.loss():.4f}\ngradient ({slope[0]:.4f}, {slope[1]:.4f})"
    assert figure.find(".lb-spans").inner_text().replace("\n", "").startswith("tx runs from 2.9 at the left to −2.9")


def test_the_arrow_points_along_the_next_step_and_is_ten_times_as_long(visit):
    figure = open_figure(visit, widget(rate=1))
    numbers = "path => path.getAttribute('d').match(/-?[\\d.]+(e-?\\d+)?/g).slice(0, 4).map(Number)"
    x, y, u, v = figure.find(".lb-scene .lb-arrow").evaluate(numbers)
    figure.unfold()
    press(figure, "one step")
    scale, shift_x, shift_y = figure.state("where")
    assert (x, y) == pytest.approx([25 * (1 - NEAR[1] / scale), 25 * (1 - NEAR[2] / scale)])
    moved = [25 * (1 - shift_x / scale), 25 * (1 - shift_y / scale)]
    assert (u - x, v - y) == pytest.approx([10 * (moved[0] - x), 10 * (moved[1] - y)], rel=1e-4)
    slope = widget().gradient()
    assert [shift_x, shift_y] == pytest.approx([NEAR[1] - slope[0], NEAR[2] - slope[1]], abs=1e-5)
    assert figure.find(".lb-trail").get_attribute("d").count("L") == 1


def test_from_nearby_descent_arrives_at_the_target(visit):
    figure = open_figure(visit, calm=False)
    frame = frames(figure)
    press(figure, "descend")
    assert figure.find('button:text-is("stop")').count() == 1
    steps = frame(400)
    assert 3 < steps < 400 and figure.state("where") == pytest.approx(TARGET, abs=0.01)
    assert figure.find('button:text-is("descend")').count() == 1
    assert f"came to rest after {steps + 1} steps" in verdict(figure)
    assert figure.find(".lb-trail").get_attribute("d").count("L") == steps + 1


def test_it_can_be_stopped_and_any_hand_stops_it(visit):
    figure = open_figure(visit, calm=False)
    frame = frames(figure)
    seen = [figure.state("where")]
    press(figure, "descend")
    for _ in range(3):
        seen.append(figure.state("where"))
        frame()
    assert all(one != next for one, next in itertools.pairwise(seen))
    press(figure, "stop")
    at = figure.state("where")
    assert frame() == 0 and figure.state("where") == at
    press(figure, "descend")
    figure.press(figure.find(".lb-scene"), "ArrowUp")
    at = figure.state("where")
    assert frame() == 0 and figure.state("where") == at
    assert figure.find('button:text-is("descend")').count() == 1
    assert figure.find(".lb-trail").get_attribute("d") == ""
    press(figure, "descend")
    frame()
    press(figure, "start again")
    assert frame() == 0 and figure.state("where") == list(NEAR)
    assert figure.find(".lb-trail").get_attribute("d") == ""


def test_who_asks_for_less_motion_gets_the_trail_at_once(visit):
    figure = open_figure(visit)  # the harness asks for it
    press(figure, "descend")
    assert figure.find('button:text-is("descend")').count() == 1
    assert figure.state("where") == pytest.approx(TARGET, abs=0.03)
    assert figure.find(".lb-trail").get_attribute("d").count("L") > 3


def test_far_away_the_gradient_is_exactly_zero_and_it_says_so(visit):
    figure = open_figure(visit, widget(where=FAR))
    assert "exactly zero" in verdict(figure)
    press(figure, "descend")
    assert figure.state("where") == list(FAR)
    assert figure.find(".lb-blind").get_attribute("d").count("M") > 10
    figure.press(figure.find(".lb-scene"), *["-"] * 8)  # twice as large, its centre where it was, it sees the digit
    assert figure.state("where") == pytest.approx([1.1, 0.85, 0.85], abs=0.01)
    assert "exactly zero" not in verdict(figure)
    before = figure.state("where")
    figure.unfold()
    press(figure, "one step")
    assert figure.state("where") != before


def test_too_long_a_step_throws_the_window_away(visit):
    figure = open_figure(visit, widget(rate=5))
    figure.unfold()
    figure.press(figure.find('input[type="range"][data-part="rate"]'), "End")
    assert figure.state("rate") == 100
    press(figure, "descend")
    assert "so long that it threw the window off the scene" in verdict(figure) or "exactly zero" in verdict(figure)
    assert figure.state("where") != pytest.approx(TARGET, abs=0.03)


def test_the_landscape_lies_over_the_scene(visit):
    figure = open_figure(visit)
    scene, land = figure.find(".lb-scene svg").bounding_box(), figure.find(".lb-terrain").bounding_box()
    assert scene["width"] == pytest.approx(land["width"], abs=1) and scene["y"] == pytest.approx(land["y"], abs=1)
    figure.drag(figure.find(".lb-terrain"), (0.3, 0.3), (0.65, 0.55))
    scale, x, y = figure.state("where")
    span = 2 * 1.3 * 53 / 52
    assert (-x / scale, -y / scale) == pytest.approx((0.15 * span, 0.05 * span), abs=0.015)
    center = figure.find(".lb-scene svg > .lb-box").bounding_box()
    assert center["x"] + center["width"] / 2 - scene["x"] == pytest.approx(0.65 * scene["width"], abs=3)


def test_fingers_tap_and_drag_on_the_landscape_and_scroll_past_it(visit):
    figure = open_figure(visit, phone=True, touch=True)
    land = figure.find(".lb-terrain")
    before, top = figure.state("where"), figure.page.evaluate("scrollY")
    figure.swipe(land, (0.2, 0.8), (0.2, 0.3))
    assert harness.becomes(lambda: figure.page.evaluate("scrollY") > top, True) and figure.state("where") == before
    size = harness.settled(land)
    land.tap(position={"x": 0.4 * size["width"], "y": 0.4 * size["height"]})

    def across():
        scale, x, _ = figure.state("where")
        return round(-x / scale / (0.1 * 2 * 1.3), 1)

    assert harness.becomes(across, pytest.approx(-1, abs=0.15))
    harness.settled(land)
    figure.swipe(land, (0.4, 0.4), (0.6, 0.6))
    assert harness.becomes(across, pytest.approx(1, abs=0.15))


def test_dragging_the_box_and_its_corners_works_here_too(visit):
    figure = open_figure(visit)
    panel, spans = figure.find(".lb-scene"), figure.find(".lb-spans").inner_text()
    x, y = (0.5 - shift / 2.2 / 2.6 for shift in NEAR[1:])
    figure.drag(panel, (x, y), (x - 0.2, y - 0.1))
    scale, shift_x, _ = figure.state("where")
    assert scale == 2.2 and -shift_x / scale == pytest.approx(-NEAR[1] / 2.2 - 0.2 * 2.6, abs=0.02)
    figure.press(panel, "+", "+")
    assert figure.state("where")[0] > 2.2 and figure.find(".lb-spans").inner_text() != spans


def test_on_a_phone_nothing_is_cut(visit):
    figure = open_figure(visit, phone=True, touch=True)
    wide = figure.page.evaluate("[document.documentElement.scrollWidth, innerWidth]")
    assert wide[0] <= wide[1]
    panel = figure.div.bounding_box()
    for element in figure.find("canvas, button, input, p, svg").all():
        found = element.bounding_box()
        assert panel["x"] - 1 <= found["x"] and found["x"] + found["width"] <= panel["x"] + panel["width"] + 1


def test_a_notebook_runs_the_very_same_source(visit):
    shown, page = widget(), visit(PAGE)
    in_page = page.evaluate("String(latentbook.widgets.landscape.render)")
    harness.start_module(page, shown._esm, shown.state())
    assert page.evaluate("String(window.module.render)") == in_page
    page.locator(".lb-explorer [data-part=shift_x][type=number]").fill("0.25")
    assert page.evaluate("[window.model.get('where')[1], window.model.sent]") == [0.25, 1]
