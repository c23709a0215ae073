"""Attend, infer, repeat in a real browser: PyTorch's numbers and pictures, the walk, and every way to move a window."""

import functools
import json

import pytest
import site_harness as harness
import torch
from site_harness import PAGE, VIEW, Figure, drag
from torch import nn

from latentbook.layers.distributions import count_posterior
from latentbook.layers.spatial_transformer import image_to_window, window_to_image
from latentbook.training.loop import initialise
from latentbook.widgets import RepeatFigure

STEPS, WINDOW, WHAT, BIAS, VARIANCE = 3, 24, 20, -1.0, 0.36
GREY = 0.02  # what 8-bit weights and 256 greys may change in a grey value
CODE = 0.03  # what 8-bit weights may change in a code, whose numbers reach from about -2 to 2


def network(*sizes: int, seed: int, gain: float) -> nn.Sequential:
    """A network of one hidden layer of ReLU, of the sizes of a trained one and as lively."""
    layers = initialise(lambda: nn.Sequential(nn.Linear(*sizes[:2]), nn.ReLU(), nn.Linear(*sizes[1:])), seed)
    with torch.no_grad():
        for parameter in layers.parameters():
            parameter.mul_(gain)
    return layers


ENCODER, DECODER = network(WINDOW**2, 400, 2 * WHAT, seed=0, gain=2.5), network(WHAT, 400, WINDOW**2, seed=1, gain=2.5)
NOISE = (torch.rand(50, 50, generator=torch.Generator().manual_seed(0)) * 255).round() / 255
RING = torch.zeros(50, 50)
RING[28:44, 8:24] = 1
RING[32:40, 12:20] = 0
SCENES = torch.stack([NOISE, RING, torch.zeros(50, 50)])
WHERE = torch.tensor(
    [[[3, 0.6, -0.3], [2.5, -1.2, -1], [2, 0.9, 1]], [[2.8, 1, -1.3], [3, 0, 0], [3, 1, 1]], [[3, 0, 0]] * 3]
)
PRESENCE = torch.tensor([[0.98, 0.9, 0.05], [0.95, 0.9, 0.8], [0.04, 0.2, 0.2]])
COUNTS = [2, 3, 0]


def widget(**given) -> RepeatFigure:
    networks = {"encoder": ENCODER.parameters(), "decoder": DECODER.parameters(), "output_bias": BIAS}
    choices = {**networks, "counts": [2, 1, 0], "names": ["noise", "a ring", "nothing"], "variance": VARIANCE, **given}
    return RepeatFigure(SCENES, WHERE, PRESENCE, **choices)


usual = functools.cache(widget)  # one for all tests that ask for nothing else


def open_figure(visit, shown: RepeatFigure | None = None, **how) -> Figure:
    figure = harness.put_in(visit, shown or usual(), **how)
    figure.find("[data-shown]").wait_for(timeout=10_000)
    return figure


@torch.no_grad()
def passed(picture: torch.Tensor, where) -> tuple[torch.Tensor, ...]:
    """Crops, means, log-variances, decoded and pasted windows, by PyTorch and the networks as they are."""
    where = torch.as_tensor(where, dtype=torch.float32)
    crops = image_to_window(picture.expand(len(where), 1, -1, -1), where, WINDOW)
    mean, log_var = ENCODER(crops.flatten(1)).chunk(2, 1)
    decoded = (DECODER(mean) + BIAS).sigmoid().view_as(crops)
    return crops[:, 0], mean, log_var, decoded[:, 0], window_to_image(decoded, where, 50)[:, 0]


def greys(canvas) -> torch.Tensor:
    return torch.tensor(harness.grey_values(canvas)) / 255


def check(figure: Figure, painted: int | None = None) -> None:
    """Every picture and number that is shown is PyTorch's for the windows as they stand."""
    scene, where = figure.state("scene"), figure.state("where")
    painted = COUNTS[scene] if painted is None else painted
    crops, mean, _, decoded, pasted = passed(SCENES[scene], where)
    assert (greys(figure.find(".lb-scene canvas")) - SCENES[scene]).abs().max() < 0.003
    for k in range(painted):
        row = figure.find(".lb-step").nth(k)
        assert (greys(row.locator("canvas").first) - crops[k]).abs().max() < 0.003
        assert (greys(row.locator("canvas").last) - decoded[k]).abs().max() < GREY
        bars = row.locator(".lb-code rect").evaluate_all(
            "all => all.map(e => ['y', 'height'].map(a => +e.getAttribute(a)))"
        )
        heights = [-y if y < 0 else -height for y, height in bars]
        assert heights == pytest.approx(mean[k].clamp(-2.5, 2.5).tolist(), abs=CODE)
    canvas = pasted[:painted].sum(0)
    assert (
        greys(figure.find(".lb-column:last-child canvas")) - canvas.clamp(0, 1)
    ).abs().max() < painted * GREY + 0.003
    said = float(figure.find(".lb-fit").inner_text().split()[2])
    assert said == pytest.approx((SCENES[scene] - canvas).square().sum().item() / (2 * VARIANCE), rel=0.01, abs=0.06)


def box(figure: Figure, step: int = 0) -> tuple[float, float, float]:
    """Centre and half side of a step's window, -1 to 1 over the scene."""
    scale, x, y = figure.state("where")[step]
    return -x / scale, -y / scale, 1 / scale


def press(figure: Figure, name: str) -> None:
    figure.find(f'button:text-is("{name}")').click()


def random_windows(count: int) -> torch.Tensor:
    """Windows of every size the figure allows, on the canvas and over its edge."""
    generator = torch.Generator().manual_seed(1)
    scale = 0.8 * (10 / 0.8) ** torch.rand(count, 1, generator=generator)
    return torch.cat([scale, scale * (2 * torch.rand(count, 2, generator=generator) - 1)], 1)


def test_encoder_decoder_and_paste_are_pytorchs(visit):
    """To what 8-bit weights change; the largest differences are printed, for `pytest -s`."""
    shown, page, windows = widget(), visit(PAGE, keep=True), random_windows(60)
    found = page.evaluate(
        """async (given) => {
            const [packed, shapes, rows, windows, size] = JSON.parse(given);
            const { unpackLayers, lookThrough } = latentbook.widgets.repeat, layers = await unpackLayers(packed, shapes);
            const picture = { values: Float32Array.from(rows.flat()), width: rows[0].length, height: rows.length };
            return JSON.stringify(windows.map((where) => {
                const { crop, code, decoded, pasted } = lookThrough(layers, picture, where, size);
                return [crop.values, code.mean, code.deviation, decoded.values, pasted.values].map((values) => [...values]);
            }));
        }""",
        json.dumps([shown.state()["network"], shown.shapes, NOISE.tolist(), windows.tolist(), WINDOW]),
    )
    found = json.loads(found)
    crops, mean, log_var, decoded, pasted = passed(NOISE, windows)
    wanted = (crops, mean, (log_var / 2).exp(), decoded, pasted)
    errors = [
        (torch.tensor([one[i] for one in found]) - exact.flatten(1)).abs().max().item()
        for i, exact in enumerate(wanted)
    ]
    names = ("crop", "mean", "deviation", "decoded", "pasted")
    print("largest difference in", ", ".join(f"{name} {error:.2g}" for name, error in zip(names, errors, strict=True)))
    assert errors[0] <= 1e-5 and max(errors[1:3]) < CODE and max(errors[3:]) < GREY
    assert mean.std() > 0.3 and decoded.std() > 0.1  # there is something to see


def test_the_page_computes_what_python_does(visit):
    """With the very same 8-bit weights the two agree far more closely."""
    figure, shown = open_figure(visit), widget()
    steps = shown.steps()
    for k in range(2):
        row = figure.find(".lb-step").nth(k)
        assert (greys(row.locator("canvas").last) - steps.decoded[k]).abs().max() < 0.003
    assert (greys(figure.find(".lb-column:last-child canvas")) - shown.canvas().clamp(0, 1)).abs().max() < 0.003
    assert figure.find(".lb-fit").inner_text() == f"squared error {shown.error():.1f} nats"


def test_the_count_is_the_librarys(visit):
    figure = open_figure(visit)
    for presence in PRESENCE:
        exact = count_posterior(presence.double().logit()).exp().tolist()
        found = figure.page.evaluate("p => latentbook.widgets.repeat.countPosterior(p)", presence.tolist())
        assert found == pytest.approx(exact, abs=1e-6)
    for scene in range(3):
        figure.find(f'input[data-trait="scene"][value="{scene}"]').check()
        exact = count_posterior(PRESENCE[scene].double().logit()).exp().tolist()
        meters = figure.find(".lb-count .lb-meter")
        assert [float(text) for text in meters.locator(".lb-number").all_inner_texts()] == pytest.approx(
            exact, abs=0.0051
        )
        assert meters.nth(COUNTS[scene]).get_attribute("class") == "lb-meter lb-now"
        widths = meters.locator(".lb-trough span").evaluate_all("all => all.map(e => parseFloat(e.style.width))")
        assert widths == pytest.approx([100 * q for q in exact], abs=0.01)
        presence = figure.find(".lb-step .lb-number").all_inner_texts()
        assert [float(text) for text in presence] == pytest.approx(PRESENCE[scene].tolist(), abs=0.0051)


@pytest.mark.parametrize("dark", [False, True], ids=["light", "dark"])
def test_every_scene_is_shown_as_pytorch_has_it(visit, dark):
    figure = open_figure(visit, dark=dark)
    check(figure)
    for scene in (1, 2, 0):
        figure.find(f'input[data-trait="scene"][value="{scene}"]').check()
        assert (
            figure.state("where") == WHERE[scene].tolist() or figure.state("where") == figure.state("inferred")[scene]
        )
        assert (figure.state("stage"), figure.state("step")) == (3 * COUNTS[scene] + 1, max(0, COUNTS[scene] - 1))
        check(figure)


def parts(figure: Figure) -> list[list[bool]]:
    """Of each step: whether crop, code and decoded window are to be seen."""
    return [
        [
            not part.evaluate("e => e.classList.contains('lb-blank')")
            for part in row.locator(".lb-strip > :not(p)").all()
        ]
        for row in figure.find(".lb-step").all()
    ]


def test_the_walk_goes_through_attend_infer_and_paint(visit):
    figure, readout = open_figure(visit), None
    press(figure, "start")
    readout = figure.find(".lb-readout")
    assert readout.inner_text() == "Nothing has been looked at yet, and the canvas is empty."
    assert parts(figure) == [[False] * 3] * 3 and figure.find(".lb-scene svg text:visible").count() == 0
    pasted, picture = passed(NOISE, figure.state("where"))[4], NOISE
    errors = [(picture - pasted[:k].sum(0)).square().sum().item() / (2 * VARIANCE) for k in range(3)]
    for stage in range(1, 7):
        press(figure, "next")
        step, phase = (stage - 1) // 3, (stage - 1) % 3
        assert figure.state("stage") == stage and figure.state("step") == step
        done = [[True] * 3] * step + [[k <= phase for k in range(3)]] + [[False] * 3] * (2 - step)
        assert parts(figure) == done
        assert figure.find(".lb-scene svg text:visible").all_text_contents() == [str(k + 1) for k in range(step + 1)]
        words = readout.inner_text()
        assert words.startswith(f"Step {step + 1} of 3, {('attend', 'infer', 'paint')[phase]}:")
        now = figure.find(".lb-phases .lb-now").all_inner_texts()
        assert now == [("attend", "infer", "paint")[phase], *(["repeat"] if stage == 4 else [])]
        if phase == 0:
            assert f"there with probability {PRESENCE[0, step]:.2f}" in words and ("something more" in words) == (
                step > 0
            )
            assert f"spans {50 / WHERE[0, step, 0]:.1f} of the scene’s 50 pixels" in words
        if phase == 2:
            before, after = (float(words.split(" nats")[0].split()[i]) for i in (-3, -1))
            assert [before, after] == pytest.approx(errors[step : step + 2], rel=0.01)
            assert ("falls" in words) == (after < before)
        check(figure, painted=stage // 3)
    press(figure, "next")
    assert readout.inner_text() == (
        "Step 3 of 3: something more is there with probability 0.05; it stops. The most probable count is 2, with "
        "probability 0.84; there are 2."
    )
    assert figure.find(".lb-note").all_inner_texts() == ["", "", "not used"]
    figure.press(figure.find('button:text-is("next")'), "Enter")  # there is nothing after it
    assert figure.state("stage") == 7
    press(figure, "previous")
    assert figure.state("stage") == 6
    press(figure, "start")
    press(figure, "all")
    assert (figure.state("stage"), figure.state("step")) == (7, 1)
    check(figure)


def test_what_is_not_yet_known_is_not_told(visit):
    figure = open_figure(visit, widget(stage=1))
    assert figure.find(".lb-step .lb-number").all_inner_texts() == ["0.98", "–", "–"]
    assert figure.find(".lb-count .lb-number").all_inner_texts() == ["0.02", "–", "–", "–"]
    assert figure.find(".lb-step input").evaluate_all("all => all.map(e => e.disabled)") == [False, True, True]
    assert [figure.find(f'button:text-is("{name}")').get_attribute("aria-disabled") for name in ("start", "next")] == [
        "false"
    ] * 2
    press(figure, "previous")
    assert [figure.find(f'button:text-is("{name}")').get_attribute("aria-disabled") for name in ("start", "next")] == [
        "true",
        "false",
    ]


def test_without_a_step_left_it_ends_and_with_none_it_never_starts(visit):
    figure = open_figure(visit, widget(scene=1))
    assert figure.find(".lb-readout").inner_text().startswith("All 3 steps are used. The most probable count is 3,")
    assert figure.find(".lb-readout").inner_text().endswith("there is 1.")
    figure.find('input[data-trait="scene"][value="2"]').check()
    assert "Step 1 of 3: something is there with probability 0.04; it stops." in figure.find(".lb-readout").inner_text()
    assert not figure.find(".lb-scene .lb-corners").is_visible() and figure.find(".lb-step input:checked").count() == 0
    before = figure.state("where")
    figure.press(figure.find(".lb-scene"), "ArrowRight", "+")
    drag(figure, (0, 0), (0.4, 0.4))
    assert figure.state("where") == before  # no window is in hand


def test_dragging_a_window_changes_all_that_follows_from_it_at_once(visit):
    figure = open_figure(visit)
    x, y, half = box(figure, 1)
    before = figure.state("where")
    drag(figure, (x + 0.1, y - 0.05), (x - 0.2, y - 0.35))
    assert box(figure, 1) == pytest.approx((x - 0.3, y - 0.3, half), abs=0.012)  # a pixel on the screen
    assert [figure.state("where")[k] for k in (0, 2)] == [before[k] for k in (0, 2)]
    check(figure)
    own = passed(NOISE, before)[4][:2].sum(0)
    said = figure.find(".lb-fit").inner_text().split("the model’s windows: ")[1]
    assert float(said) == pytest.approx((NOISE - own).square().sum().item() / (2 * VARIANCE), rel=0.01)
    presence = figure.find(".lb-step .lb-number").all_inner_texts()
    assert presence == [f"{p:.2f}" for p in PRESENCE[0].tolist()]  # stays the model's
    x, y, half = box(figure, 1)
    drag(figure, (x + half, y + half), (x + half + 0.2, y + half + 0.2))  # a corner; the opposite one stays
    assert box(figure, 1) == pytest.approx((x + 0.1, y + 0.1, half + 0.1), abs=0.012)
    check(figure)
    press(figure, "the model’s windows")
    assert figure.state("where") == before == figure.state("inferred")[0]
    check(figure)
    assert figure.find(".lb-fit").inner_text().count("\n") == 0


def test_another_window_is_taken_by_hand_or_by_its_row(visit):
    figure = open_figure(visit)
    assert figure.state("step") == 1 and figure.find(".lb-step input:checked").get_attribute("value") == "1"
    x, y, half = box(figure)
    drag(figure, (x, y), (x + 0.2, y))  # the same gesture takes and moves it
    assert figure.state("step") == 0 and box(figure) == pytest.approx((x + 0.2, y, half), abs=0.012)
    assert figure.find(".lb-scene").get_attribute("aria-label") == "Window of step 1"
    check(figure)
    radios = figure.find(".lb-step input")
    figure.press(radios.nth(0), "ArrowDown")
    assert figure.state("step") == 1
    figure.press(radios.nth(1), "ArrowDown")  # the third has no window and is passed over
    assert figure.state("step") == 0


def test_keys_move_and_zoom_the_window_in_hand(visit):
    figure = open_figure(visit)
    panel, (x, y, half) = figure.find(".lb-scene"), box(figure, 1)
    figure.press(panel, "ArrowRight", "ArrowDown", "ArrowDown")
    assert box(figure, 1) == pytest.approx((x + 2 / 50, y + 4 / 50, half), abs=1e-3)  # a pixel of the scene each
    figure.press(panel, *["+"] * 8)
    assert box(figure, 1) == pytest.approx((x + 2 / 50, y + 4 / 50, half / 2), abs=2e-3)
    assert panel.evaluate("e => getComputedStyle(e).outlineStyle") == "solid"
    check(figure)
    figure.press(figure.find('button:text-is("previous")'), "Enter", "Enter")
    assert figure.state("stage") == 5


def test_a_finger_carries_a_window_and_scrolls_the_page_beside_it(visit):
    figure = open_figure(visit, phone=True, touch=True)
    panel, (x, y, half) = figure.find(".lb-scene"), box(figure, 1)
    harness.settled(panel)
    top = figure.page.evaluate("scrollY")
    share = [((c / VIEW) + 1) / 2 for c in (x, y)]
    figure.swipe(panel, (share[0], share[1]), (share[0] - 0.1, share[1] - 0.1))
    assert box(figure, 1) == pytest.approx((x - 0.2 * VIEW, y - 0.2 * VIEW, half), abs=0.02)
    assert figure.page.evaluate("scrollY") == top
    check(figure)
    before = figure.state("where")
    figure.swipe(panel, (0.05, 0.9), (0.05, 0.3))
    figure.page.wait_for_function("top => scrollY > top", arg=top)
    assert figure.state("where") == before


def test_a_phone_shows_it_whole(visit):
    figure = open_figure(visit, phone=True, touch=True)
    wide, inner = figure.page.evaluate("[document.documentElement.scrollWidth, innerWidth]")
    assert wide <= inner
    panel = figure.div.bounding_box()
    for part in ("canvas", "button", "label", "p", ".lb-meter", ".lb-code", ".lb-number", ".lb-phases span"):
        for element in figure.find(part).all():
            if element.is_visible():
                found = element.bounding_box()
                assert panel["x"] - 1 <= found["x"] and found["x"] + found["width"] <= panel["x"] + panel["width"] + 1
    assert figure.find(".lb-scene").bounding_box()["width"] > 0.5 * panel["width"]  # the results stand beside it
    for element in (*figure.find("button").all(), *figure.find(".lb-step label").all()):
        assert element.bounding_box()["height"] >= 44


def test_scene_and_canvas_stand_to_one_scale_and_side_by_side(visit):
    figure = open_figure(visit)
    scene, canvas = (figure.find(f"{part} canvas").bounding_box() for part in (".lb-scene", ".lb-column:last-child"))
    assert scene["width"] == pytest.approx(canvas["width"], abs=1.5) and scene["y"] == pytest.approx(
        canvas["y"], abs=1.5
    )


def test_nothing_moves_while_one_walks(visit):
    figure = open_figure(visit)
    heights = set()
    for stage in range(7, -1, -1):
        assert figure.state("stage") == stage
        heights.add(round(figure.find(".lb-stage").bounding_box()["y"] - figure.div.bounding_box()["y"]))
        heights.add(-round(figure.div.bounding_box()["height"]))
        figure.press(figure.find('button:text-is("previous")'), "Enter")
    assert len(heights) == 2


def test_colour_is_never_alone(visit):
    figure = open_figure(visit)
    dashes = figure.find(".lb-sample rect").evaluate_all("all => all.map(e => getComputedStyle(e).strokeDasharray)")
    assert len(set(dashes)) == 3 and dashes[0] == "none"
    strokes = figure.find(".lb-sample rect").evaluate_all("all => all.map(e => getComputedStyle(e).stroke)")
    assert set(strokes) == {"rgb(213, 94, 0)"}
    drawn = figure.find(".lb-scene .lb-box:visible").evaluate_all(
        "all => all.map(e => getComputedStyle(e).strokeDasharray)"
    )
    assert sorted(drawn) == sorted(dashes[:2])
    assert figure.find(".lb-scene svg text:visible").all_text_contents() == ["1", "2"]


def test_everything_has_a_name(visit):
    figure = open_figure(visit)
    radios = figure.find('input[data-trait="scene"]')
    assert [radio.get_attribute("aria-label") for radio in radios.all()] == ["noise", "a ring", "nothing"]
    assert figure.find(".lb-step input").nth(1).get_attribute("aria-label") == "take the window of step 2"
    labels = [canvas.get_attribute("aria-label") for canvas in figure.find(".lb-step canvas").all()]
    assert labels[:2] == ["crop of window 1", "decoded window 1"]
    assert figure.find(".lb-code").first.get_attribute("aria-label").startswith("code of 20 numbers, from −")
    assert (
        figure.find(".lb-column:last-child canvas").get_attribute("aria-label")
        == "canvas: the sum of the pasted windows"
    )
    assert figure.find(".lb-readout").get_attribute("aria-live") == "polite"
    assert "does not run in this page" in figure.find("figcaption").inner_text()


def test_two_figures_in_one_page_move_apart(visit):
    figure = open_figure(visit)
    harness.insert(figure.page, widget(scene=1).to_html())  # comes first now
    other, figure = Figure(figure.page, "repeat", 0), Figure(figure.page, "repeat", 1)
    figure.press(figure.find(".lb-scene"), "ArrowRight")
    assert other.state("where") == other.state("inferred")[1] and figure.state("where") != figure.state("inferred")[0]


def test_it_works_opened_straight_from_the_folder(visit, built):
    figure = open_figure(visit, home=built.as_uri() + "/")
    x, y, half = box(figure, 1)
    drag(figure, (x, y), (x - 0.3, y))
    assert box(figure, 1) == pytest.approx((x - 0.3, y, half), abs=0.012)
    check(figure)


def test_a_still_picture_with_its_explanation_stands_where_no_script_runs(browser, address, built):
    shown = widget()
    text = (built / PAGE).read_text(encoding="utf-8").replace("</a></h1>", "</a></h1>" + shown.to_html(), 1)
    page = browser.new_page(java_script_enabled=False)
    page.route(f"**/{PAGE}", lambda route: route.fulfill(body=text, content_type="text/html"))
    page.goto(address + PAGE)
    still = page.locator('div.lb-static[data-name="repeat"] figure.lb-still')
    assert still.locator("img").is_visible() and still.locator("img").bounding_box()["width"] > 400
    assert still.locator("img").get_attribute("alt") == shown.describe()
    assert "A still picture" in still.locator("figcaption").inner_text()
    page.close()


def test_a_notebook_runs_the_very_same_source_and_python_moves_the_window(visit):
    shown, page = widget(), visit(PAGE)
    in_page = page.evaluate("String(latentbook.widgets.repeat.render)")
    harness.start_module(page, shown._esm, shown.state())
    assert page.evaluate("String(window.module.render)") == in_page
    page.locator("[data-shown]").wait_for(timeout=10_000)
    page.locator(".lb-repeat .lb-scene").press("ArrowLeft")
    moved = page.evaluate("[window.model.get('where'), window.model.sent]")
    assert moved[0][1] == pytest.approx([2.5, -1.1, -1]) and moved[1] == 1  # this is what reaches figure.where
    page.evaluate("window.model.set('where', [[3, 0, 0], [2, 1, 0], [3, 0, 0]])")  # as when Python sets it
    assert page.locator(".lb-scene svg > .lb-box").get_attribute("width") == "25"
    page.evaluate("window.stop(); window.model.set('where', [[3, 0, 0], [1, 0, 0], [3, 0, 0]])")
    assert page.locator(".lb-scene svg > .lb-box").get_attribute("width") == "25"  # once stopped, it no longer draws
