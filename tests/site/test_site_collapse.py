"""A VAE that trains in the page, in a real browser: beta, its collapse and recovery, neighbours, mean, replay, manners."""

import functools
import importlib
import json
import re
import sys

import numpy as np
import pytest
import site_harness as harness
import torch
from site_harness import Figure
from test_site_accessible import FIGURES, violations

from latentbook.data import load_digits
from latentbook.widgets import CollapseFigure, collapse
from latentbook.widgets.export import read_model

COUNT, EPOCHS = 400, 20


@functools.cache
def widget(**given) -> CollapseFigure:
    return CollapseFigure(load_digits("train", source="offline"), count=COUNT, epochs=EPOCHS, **given)


usual = widget  # for the tests of manners


def open_figure(visit, **how) -> Figure:
    """The figure with its digits there; less motion is wanted, so it trains to its goal at once, unless calm=False."""
    figure = harness.put_in(visit, widget(), **how)
    assert harness.becomes(lambda: data(figure)["live"], "worker")
    return figure


def data(figure: Figure) -> dict:
    return figure.find("> div").evaluate("e => ({ ...e.dataset })")


def trained(figure: Figure, steps: int) -> None:
    """Wait until a run has rested after so many steps."""
    assert harness.becomes(lambda: (data(figure)["done"], data(figure)["busy"]), (str(steps), "false"), 40)


def gauges(figure: Figure) -> dict:
    """What the instruments say now."""
    loss, kls, listening, shares = figure.find(".lb-gauge b").all_inner_texts()
    numbers = [float(x) for text in (loss, kls, listening, shares) for x in re.findall(r"-?[\d.]+", text)]
    return dict(zip(("loss", "first", "second", "listening", "probe", "control"), numbers, strict=True))


def kl(figure: Figure) -> float:
    return gauges(figure)["first"] + gauges(figure)["second"]


def beta(figure: Figure, value: float) -> None:
    betas = [0, 0.25, 0.5, 1, 2, 4, 6, 8, 12, 16, 22, 30]
    figure.set_slider("beta", betas.index(value))


def train(figure: Figure, steps: int) -> None:
    """By the button that takes 200 steps where less motion is wanted."""
    start = int(data(figure)["done"])
    figure.find(".lb-train").click()
    trained(figure, start + 200)
    if steps > 200:
        train(figure, steps - 200)


def picture(figure: Figure, row: str) -> np.ndarray:
    return np.array(harness.grey_values(figure.find(f'canvas[data-row="{row}"]')))


def test_it_asks_first_then_trains_at_beta_8_and_the_code_collapses(visit):
    figure = open_figure(visit, ask=True)
    before, question = gauges(figure), figure.find(".lb-question")
    now, after = widget().recorded["history"][-1], widget().recorded["outcomes"]["beta"]["after"]
    assert before["listening"] == pytest.approx(now["listening"], abs=0.06)
    assert "What will the codes do?" in question.inner_text()
    question.get_by_text("spread out").click()
    words = question.locator(".lb-answer").inner_text()
    assert words.startswith("No. The KL of our run fell from ") and f"to {sum(after['kls']):.2f}" in words
    trained(figure, 400)
    found = gauges(figure)
    assert found["first"] + found["second"] < 0.1 < before["first"] + before["second"]
    assert found["listening"] < 1 < before["listening"] and found["probe"] < before["probe"] / 1.5
    assert "collapsed. Within " in figure.find(".lb-readout").inner_text()
    own, other = picture(figure, "own"), picture(figure, "other")
    assert np.abs(own.astype(int) - other).max() < 40  # nearly the same for every code


def test_beta_is_turned_while_it_trains_and_the_code_recovers(visit):
    figure = open_figure(visit, calm=False)
    start = kl(figure)
    figure.find(".lb-train").click()
    beta(figure, 8)
    assert figure.find(".lb-readout").get_attribute("aria-live") == "off"
    assert harness.becomes(lambda: kl(figure) < 0.1, True)
    beta(figure, 1)
    assert harness.becomes(lambda: kl(figure) > start / 2, True)
    figure.find(".lb-train").click()
    assert harness.becomes(lambda: data(figure)["busy"], "false")
    plan, steps = figure.state("plan"), figure.state("steps")
    assert [row[1] for row in plan][-2:] == [8, 1] and 0 < plan[-1][0] < steps
    assert figure.find(".lb-readout").get_attribute("aria-live") == "polite"
    assert "the decoder listens" in figure.find(".lb-readout").inner_text()
    told = figure.page.evaluate("location.hash")
    assert harness.becomes(lambda: f"steps={steps}" in figure.page.evaluate("location.hash"), True), told
    frames = figure.page.evaluate("""async () => {
        const times = [], until = performance.now() + 600;
        document.querySelector(".lb-train").click();
        const real = requestAnimationFrame;
        window.requestAnimationFrame = (move) => real((time) => {
            const start = performance.now();
            move(time);
            times.push(performance.now() - start);
        });
        while (performance.now() < until) await new Promise((r) => real(r));
        window.requestAnimationFrame = real;
        document.querySelector(".lb-train").click();
        return times.sort((a, b) => a - b);
    }""")
    assert len(frames) > 5 and frames[len(frames) // 2] < 16


def test_with_pixels_in_view_the_decoder_listens_less_at_the_same_loss(visit):
    figure = open_figure(visit)
    before = gauges(figure)
    figure.unfold()
    box = figure.control("neighbours")
    box.click()
    assert not box.is_checked() and data(figure)["done"] == "0"  # it is asked first
    question = figure.find(".lb-place .lb-question")
    question.get_by_text("less", exact=True).click()
    assert question.locator(".lb-answer").inner_text().startswith("Yes. After ")
    trained(figure, 600)
    found, words = gauges(figure), figure.find(".lb-readout").inner_text()
    assert box.is_checked() and figure.state("scratch") and found["loss"] < before["loss"]
    assert found["listening"] < before["listening"] / 4 and figure.find("path.lb-ghost").count() == 6
    assert "the one without neighbours (thin lines)" in words and figure.find("circle.lb-equal").count() == 8
    listened, alone = map(float, re.search(r"other code cost ([-\d.]+).*it cost ([\d.]+)", words).groups())
    last = widget().recorded["history"][-1]
    assert listened < alone / 3 and alone == pytest.approx(last["listening"], abs=0.06)
    assert f"been at a loss of {collapse.loss(last):.1f}" in words
    assert set(np.unique(picture(figure, "samples"))) <= {0, 255}  # drawn pixel after pixel
    box.click()  # once asked, it only switches
    assert figure.state("plan")[-1] == [600, 1, 0, 0]


def test_a_mean_for_the_sum_collapses_the_code(visit):
    figure = open_figure(visit)
    figure.unfold()
    figure.control("mean").click()
    figure.find(".lb-place").get_by_text("the code collapses").click()
    assert figure.find(".lb-place .lb-answer").inner_text().startswith("Yes. It is a β of 196")
    trained(figure, 300)
    assert kl(figure) < 0.05 and abs(gauges(figure)["listening"]) < 0.5 and figure.control("mean").is_checked()


def test_pictures_and_the_dragged_point_are_decoded_as_pytorch_does(visit):
    figure, model = open_figure(visit), read_model(widget().network)
    plane = figure.find(".lb-plane")
    figure.drag(plane, (0.5, 0.5), (0.8, 0.3))
    assert figure.state("point") == pytest.approx([2.1, 1.4], abs=0.1)
    figure.press(figure.find(".lb-grab"), "ArrowLeft", "Shift+ArrowDown")
    assert figure.state("point") == pytest.approx([2.0, 0.9], abs=0.1)
    codes = torch.from_numpy(widget().codes()[widget().recorded["shown"]]).float()
    points = torch.cat([torch.tensor([figure.state("point")]), codes])
    with torch.no_grad():
        drawn = (model.decode(points).sigmoid() * 255).view(-1, 14, 14).numpy()
    assert np.abs(picture(figure, "point") - drawn[0]).max() <= 1
    for row, wanted in (("own", drawn[1:]), ("other", np.roll(drawn[1:], -1, 0))):
        shown = picture(figure, row)
        for k in range(8):
            assert np.abs(shown[1:15, 16 * k + 1 : 16 * k + 15] - wanted[k]).max() <= 1
    digits = (widget().images()[widget().recorded["shown"], 0] * 255).numpy()
    assert np.abs(picture(figure, "digits")[1:15, 1:15] - digits[0]).max() <= 1


def test_a_run_is_replayed_look_by_look(visit):
    figure = open_figure(visit)
    first, own = gauges(figure), picture(figure, "own")
    beta(figure, 8)
    assert "β is 8 now: train." in figure.find(".lb-readout").inner_text()
    train(figure, 200)
    after, looks = gauges(figure), int(data(figure)["looks"])
    assert looks == 21 and kl(figure) < first["first"] + first["second"]
    figure.set_slider("look", 0)
    assert gauges(figure) == first and np.array_equal(picture(figure, "own"), own)
    figure.set_slider("look", 20)
    assert gauges(figure) == after
    figure.set_slider("look", 10)
    assert figure.find(".lb-scrub output").inner_text() == f"step {widget().training['steps'] + 100}"
    train(figure, 200)  # goes on from where it was, not from what is looked at
    assert data(figure)["done"] == "400"


LINK = "scratch=false&plan=" + "%5B%5B0%2C8%2C0%2C0%5D%2C%5B100%2C1%2C0%2C0%5D%5D" + "&steps=200"


def test_a_link_trains_the_same_run_again(visit):
    figure = open_figure(visit)
    figure.page.evaluate("told => { location.hash = told; }", f"collapse~{LINK}")
    trained(figure, 200)
    by_link = gauges(figure)
    figure.find('.lb-tries button:text-is("start again")').click()
    trained(figure, 0)
    assert figure.state("plan") == [[0, 1, 0, 0]] and data(figure)["looks"] == "1"
    beta(figure, 8)
    figure.unfold()
    for _ in range(10):
        steps = int(data(figure)["done"])
        figure.find('button:text-is("10 steps")').click()
        trained(figure, steps + 10)
    beta(figure, 1)
    train(figure, 100)  # in one go of 200
    assert figure.state("plan") == [[0, 8, 0, 0], [100, 1, 0, 0]]
    figure.set_slider("look", 20)
    assert gauges(figure) == by_link
    for told in (
        "plan=[]",
        "plan=[[0,99,0,0]]",
        "plan=[[1,1,0,0]]",
        "steps=-1",
        "steps=1e9",
        "point=[9,9]",
        "scratch=3",
    ):
        shown = [figure.state(name) for name in ("scratch", "plan", "steps", "point")]
        figure.page.evaluate("told => { location.hash = told; }", f"collapse~{told}")
        figure.page.wait_for_timeout(30)
        assert [figure.state(name) for name in ("scratch", "plan", "steps", "point")] == shown


def test_states_to_try_from_scratch_and_back(visit):
    figure = open_figure(visit)
    buttons = [b for b in figure.find(".lb-tries button").all() if b.get_attribute("aria-pressed")]
    assert 2 <= len(buttons) <= 4
    buttons[3].click()
    trained(figure, 300)
    assert figure.state("plan") == [[0, 1, 0, 1]] and buttons[3].get_attribute("aria-pressed") == "true"
    figure.page.evaluate("location.hash = 'collapse~scratch=true&steps=300'")
    trained(figure, 300)
    assert figure.state("scratch")
    found = gauges(figure)
    figure.set_slider("look", 0)
    assert gauges(figure)["loss"] > 1.5 * found["loss"] and abs(gauges(figure)["listening"]) < 0.3 < found["listening"]
    figure.find('.lb-tries button:text-is("start again")').click()
    trained(figure, 0)
    assert gauges(figure)["loss"] == pytest.approx(collapse.loss(widget().recorded["history"][-1]), abs=0.06)


def test_it_rests_off_the_screen(visit):
    figure = open_figure(visit, calm=False)
    figure.find(".lb-train").click()
    assert harness.becomes(lambda: int(data(figure)["done"]) > 0, True)
    figure.page.evaluate("""() => {
        document.body.insertAdjacentHTML("beforeend", '<div id="away" style="height: 4000px"></div>');
        scrollTo(0, 1e6);
    }""")
    figure.page.wait_for_timeout(300)
    rests = data(figure)["done"]
    figure.page.wait_for_timeout(500)
    assert data(figure)["done"] == rests and data(figure)["busy"] == "true"
    figure.page.evaluate("document.querySelector('#away').remove()")
    figure.div.scroll_into_view_if_needed()
    assert harness.becomes(lambda: int(data(figure)["done"]) > int(rests), True)
    figure.find(".lb-train").click()


def test_nothing_trains_by_itself_where_less_motion_is_wanted(visit):
    figure = open_figure(visit)
    assert figure.find(".lb-train").inner_text() == "train 200 steps"
    train(figure, 200)
    figure.page.wait_for_timeout(300)
    assert data(figure)["done"] == "200" and figure.find(".lb-train").inner_text() == "train 200 steps"


def test_few_controls_a_live_region_and_nothing_for_axe_to_find(visit):
    figure = open_figure(visit)
    assert len(figure.find("[aria-live=polite]").inner_text().split()) > 10
    controls = figure.find("figure").evaluate(
        """figure => [...figure.querySelectorAll("input, button, select")]
            .filter((e) => e.checkVisibility({ visibilityProperty: true }) && !e.closest(".lb-tries, .lb-question")).length"""
    )
    assert controls == 3
    figure.unfold()
    assert violations(figure.page, FIGURES) == []
    figure.page.emulate_media(color_scheme="dark")
    assert harness.becomes(lambda: figure.page.locator("html").get_attribute("data-theme"), "dark")
    assert violations(figure.page, FIGURES) == []
    figure.page.emulate_media(color_scheme="light")
    assert harness.becomes(lambda: figure.page.locator("html").get_attribute("data-theme"), "light")


def test_on_a_phone_from_the_folder_without_network_control_and_result_fit_and_a_finger_moves_the_point(visit, built):
    figure = open_figure(visit, phone=True, touch=True, home=built.as_uri() + "/")
    top, gauge, grab = (figure.find(part).bounding_box() for part in (".lb-controls", ".lb-gauges", ".lb-grab"))
    assert gauge["y"] + gauge["height"] - top["y"] < 780 and min(grab["width"], grab["height"]) >= 44
    assert figure.find("figure").evaluate("e => e.scrollWidth <= e.clientWidth")
    figure.find(".lb-train").tap()
    trained(figure, 200)
    figure.swipe(figure.find(".lb-plane"), (0.5, 0.5), (0.25, 0.5))
    assert figure.state("point") == pytest.approx([-1.75, 0], abs=0.15)


def test_a_notebook_trains_as_the_page_does(visit):
    page = visit(harness.PAGE)
    state = widget().state() | {"plan": [[0, 8, 0, 0]], "steps": 100}
    harness.start_module(page, widget()._esm, state)
    root = page.locator(".lb-collapse").locator("..")
    assert harness.becomes(
        lambda: [root.get_attribute(f"data-{name}") for name in ("done", "busy")], ["100", "false"], 30
    )
    text = page.locator(".lb-gauge b").nth(1).inner_text()
    assert sum(map(float, re.findall(r"[\d.]+", text))) < sum(widget().recorded["history"][-1]["kls"]) / 2
    assert (
        page.evaluate("model.get('steps')") == 100
        and json.dumps(page.evaluate("model.get('plan')")) == "[[0, 8, 0, 0]]"
    )
    page.evaluate("stop()")


@pytest.mark.parametrize("home", ["http", "folder"])
def test_the_recorded_start_is_there_before_the_digits(browser, tmp_path, monkeypatch, home):
    """As the site's builder writes a page: the digits come after the figure, which until then shows how it was trained."""
    sys.path.insert(0, str(harness.ROOT / "book" / "_ext"))
    light, offline_site = importlib.import_module("light"), importlib.import_module("offline_site")
    boot = offline_site.classic((harness.ROOT / "book/_ext/boot.js").read_text(encoding="utf-8"))
    (tmp_path / "boot.js").write_text(boot, encoding="utf-8")
    state = widget().state()
    monkeypatch.setattr(light, "can_wait", lambda value: value == state["digits"])  # as the book's, which are more
    page = f"<!doctype html><html><head><title>x</title></head><body><main>{widget().to_html(b'')}</main></body></html>"
    made = light.Pages(tmp_path, {}, tmp_path).lighten(page, "x")
    assert 'data-later="digits=' in made and state["digits"] not in made
    made = made.replace("</head>", '<script defer src="boot.js"></script></head>')
    (tmp_path / "x.html").write_text(made, encoding="utf-8")
    late = re.search(r'data-later="digits=([^"]+)"', made)[1].rsplit("/", 1)[1]
    with harness.serve(tmp_path) as served:
        context, held = browser.new_context(offline=home == "folder", reduced_motion="reduce"), []
        page = context.new_page()
        page.route(f"**/{late}", lambda route: held.append(route))
        page.goto((served if home == "http" else tmp_path.as_uri() + "/") + "x.html", wait_until="domcontentloaded")
        page.locator(".lb-gauge b").first.wait_for()
        assert re.match(r"Loading the digits: \d+ kB, the model trains here", page.locator(".lb-loading").inner_text())
        loss = page.locator(".lb-gauge b").first.inner_text()
        assert float(loss.split("\u00a0")[0]) == round(collapse.loss(widget().recorded["history"][-1]), 1)
        ink = (
            "c => c.getContext('2d').getImageData(0, 0, c.width, c.height).data.some((v, k) => k % 4 === 0 && v > 100)"
        )
        assert harness.becomes(lambda: page.locator('canvas[data-row="own"]').evaluate(ink), True)
        assert not page.locator('canvas[data-row="digits"]').evaluate(ink)
        page.locator(".lb-bet", has_text="fall to the centre").click()  # it trains once they are there
        assert page.locator(".lb-answer").first.inner_text().startswith("Yes. ")
        assert harness.becomes(lambda: (page.evaluate("0"), len(held)), (0, 1))
        held[0].continue_()
        root = page.locator(".lb-collapse").locator("..")
        assert harness.becomes(
            lambda: [root.get_attribute(f"data-{name}") for name in ("done", "busy")], ["400", "false"], 40
        )
        context.close()
