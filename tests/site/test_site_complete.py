"""A foot completed by three models, in a real browser: the pictures of PyTorch, the judge's votes, what is held, manners."""

import functools

import numpy as np
import site_harness as harness
from site_harness import Figure
from test_site_accessible import violations
from test_site_phone import QUESTION, SMALL, TALLEST, TARGET

from latentbook.widgets import CompleteFigure, complete
from latentbook.widgets.sprites import grey_bytes

usual = functools.cache(CompleteFigure)
REFERENCE = CompleteFigure()
DRAWN = ("strokes", "z", "mask", "z_seed", "mask_seed", "alpha", "prior")
HOOK = [[[10, 18], [11, 22.5], [17, 22.5], [18, 18]]]
LINK = "#complete~strokes=%5B%5B%5B10%2C18%5D%2C%5B18%2C23%5D%5D%5D&z=%22held%22&mask_seed=4&alpha=100"


def opened(visit, ask: bool = False, **how) -> Figure:
    figure = harness.put_in(visit, usual(), ask=ask, **how)
    rests(figure)
    return figure


def rests(figure: Figure) -> None:
    """Until the models are there and the judge has voted on what they draw."""
    done = "div => div.dataset.live && div.dataset.judged === div.dataset.turn && !div.querySelector('[data-waiting]')"
    assert harness.becomes(lambda: bool(figure.find("[data-turn]").evaluate(done)), True)


def change(figure: Figure, act) -> None:
    """Do something that leads to new pictures, and wait for them and for the votes."""
    place = figure.find("[data-turn]")
    before = place.get_attribute("data-turn")
    act()
    assert harness.becomes(lambda: place.get_attribute("data-turn") != before, True)
    rests(figure)


def pictures(figure: Figure) -> np.ndarray:
    """Grey values [models, 18, 28, 28] as they stand on the canvases."""
    sheet = figure.find(".lb-panels").evaluate(
        """panels => {
            const sheet = document.createElement("canvas"), all = [...panels.querySelectorAll("canvas")];
            [sheet.width, sheet.height] = [28, 28 * all.length];
            all.forEach((canvas, k) => sheet.getContext("2d").drawImage(canvas, 0, 28 * k));
            const { data } = sheet.getContext("2d").getImageData(0, 0, 28, sheet.height);
            return Array.from({ length: data.length / 4 }, (_, k) => data[4 * k]).join();
        }"""
    )
    return np.array(sheet.split(","), int).reshape(3, 18, 28, 28)


def votes(figure: Figure) -> list[list[int]]:
    """The digits that the judge sees, by the panels."""
    found = figure.find(".lb-panel").evaluate_all("all => all.map((panel) => panel.dataset.seen)")
    return [[int(digit) for digit in row.split(",")] for row in found]


def same_as_pytorch(figure: Figure) -> None:
    """Every completion is PyTorch's with that noise and mask, to one grey level, and every vote is the judge's."""
    for name in DRAWN:
        setattr(REFERENCE, name, figure.state(name))
    wanted, seen = REFERENCE.answers()
    off = np.abs(pictures(figure) - grey_bytes(wanted).reshape(3, 18, 28, 28).astype(int))
    assert off.max() <= 1 and votes(figure) == seen


def write(figure: Figure, *points) -> None:
    """A stroke with the mouse between points of the pad, in pixels of the picture."""
    box, mouse = figure.find(".lb-pad-surface").bounding_box(), figure.page.mouse
    for k, (x, y) in enumerate(points):
        mouse.move(box["x"] + x / 28 * box["width"], box["y"] + y / 28 * box["height"], steps=4)
        if k == 0:
            mouse.down()
    mouse.up()


def test_a_foot_is_completed_as_pytorch_does_and_the_judges_votes_are_counted(visit):
    figure = opened(visit)
    same_as_pytorch(figure)
    before = pictures(figure)
    change(figure, lambda: write(figure, (5, 3), (22, 12)))  # above the line, where the model's part is
    assert len(figure.state("strokes")) > len(usual().strokes) and (pictures(figure) == before).all()
    figure.find(".lb-pad-bar").get_by_role("button", name="Clear").click()
    assert harness.becomes(figure.find(".lb-readout").inner_text, "There is no foot yet: write below the line.")
    change(figure, lambda: write(figure, *HOOK[0]))
    assert figure.state("strokes") != usual().strokes
    same_as_pytorch(figure)
    seen = votes(figure)
    for panel, row in zip(figure.find(".lb-panel").all(), seen, strict=True):
        assert panel.locator(".lb-seen").all_inner_texts() == [str(digit) for digit in row]
        bars = panel.locator(".lb-vote b").all_inner_texts()
        assert [int(text or 0) for text in bars] == [row.count(digit) for digit in range(10)]
        assert panel.locator(".lb-number").inner_text().startswith(complete.different(row))
        most = max(row.count(digit) for digit in row)
        assert panel.locator(".lb-number").inner_text().endswith(f"in {most} of 18")
    many = [len(set(row)) for row in seen]
    assert f"{many[1]} (fixed), {many[2]} (concatenation)." in figure.find(".lb-readout").inner_text()


def test_what_is_held_stays_and_what_is_not_is_redrawn(visit):
    figure = opened(visit)
    first, again = pictures(figure), figure.find(".lb-draws button")
    change(figure, again.click)
    assert [figure.state(name) for name in ("z_seed", "mask_seed")] == [1, 1]
    assert (pictures(figure) != first).any((2, 3)).all()
    change(figure, figure.control("z").check)
    one = pictures(figure)
    assert (one[2] == one[2][0]).all() and not (one[0] == one[0][0]).all()  # concatenation has no mask to differ by
    assert "z is held: what still differs is the mask’s doing" in figure.find(".lb-readout").inner_text()
    change(figure, again.click)
    assert [figure.state(name) for name in ("z_seed", "mask_seed")] == [1, 2]
    assert (pictures(figure)[2] == one[2]).all() and (pictures(figure)[:2] != one[:2]).any((2, 3)).all()
    same_as_pytorch(figure)
    change(figure, figure.control("mask").check)
    assert again.is_disabled() and all((each == each[0]).all() for each in pictures(figure))
    change(figure, lambda: figure.find(".lb-pad-samples button").nth(9).click())  # the same noise for another foot
    assert [figure.state(name) for name in ("z_seed", "mask_seed")] == [1, 2]
    same_as_pytorch(figure)


def test_alpha_and_the_prior_are_there_for_who_asks(visit):
    figure = opened(visit)
    first = pictures(figure)
    assert not figure.control("alpha").is_visible()
    figure.unfold()
    change(figure, lambda: figure.control("prior", "standard").check())
    assert (pictures(figure)[[0, 2]] == first[[0, 2]]).all() and (pictures(figure)[1] != first[1]).any()
    assert figure.find(".lb-note").nth(1).inner_text() == "prior N(0, 1), other training"
    change(figure, lambda: figure.set_slider("alpha", 128))
    same_as_pytorch(figure)
    assert (pictures(figure)[2] == first[2]).all()
    assert figure.find(".lb-more tbody tr").count() == 6 and usual().measured in figure.find(".lb-more").inner_text()


def test_the_question_comes_first_and_its_answer_is_the_recorded_start(visit):
    figure = harness.put_in(visit, usual(), ask=True)
    question, many = figure.find(".lb-question"), [len(set(seen)) for seen in usual().seen]
    assert "the foot of a 6" in question.inner_text() and question.locator(".lb-bet").count() == 3
    rests(figure)
    veiled = figure.find(".lb-veiled")
    assert veiled.evaluate_all("all => all.every((each) => each.inert && getComputedStyle(each).opacity < 0.3)")
    assert veiled.count() == 5 and votes(figure) == usual().seen
    question.get_by_role("button", name="5+").click()
    said = f"Yes. The judge sees {many[0]} (published), {many[1]} (fixed), {many[2]} (concatenation). Now write"
    assert said in question.inner_text() and veiled.count() == 0


def test_who_writes_first_finds_nothing_veiled_and_the_question_closed(visit):
    figure = harness.put_in(visit, usual(), ask=True)
    rests(figure)
    change(figure, lambda: write(figure, (8, 20), (9, 24), (18, 24)))
    assert figure.find(".lb-veiled").count() == 0 and figure.find(".lb-question.lb-closed").count() == 1
    assert "strokes" not in figure.page.evaluate("location.href")  # only once a link is asked for


def test_states_to_try_start_again_and_few_controls(visit):
    figure = opened(visit)
    first = {name: figure.state(name) for name in DRAWN}
    tries = [button for button in figure.find(".lb-tries button").all() if button.get_attribute("aria-pressed")]
    assert len(tries) == 3 and all(2 <= len(button.inner_text().split()) <= 5 for button in tries)
    for button in tries:
        change(figure, button.click)
        assert button.get_attribute("aria-pressed") == "true"
    same_as_pytorch(figure)
    change(figure, figure.find('.lb-tries button:text-is("start again")').click)
    assert {name: figure.state(name) for name in DRAWN} == first
    controls = """figure => new Set([...figure.querySelectorAll("input, button, select")]
        .filter((e) => e.checkVisibility({ visibilityProperty: true }) && !e.closest(".lb-tries, .lb-question"))
        .map((e) => e.closest("[role=radiogroup], [role=group]") ?? e)).size"""
    assert figure.find("figure").evaluate(controls) == 3


def test_a_link_brings_the_state_and_what_cannot_be_is_passed_over(visit):
    figure = opened(visit, ask=True)
    change(figure, lambda: figure.page.evaluate("told => { location.hash = told; }", LINK))
    assert figure.state("strokes") == [[[10, 18], [18, 23]]] and figure.find(".lb-veiled").count() == 0
    assert [figure.state(name) for name in ("z", "mask_seed", "alpha", "z_seed")] == ["held", 4, 100, 0]
    same_as_pytorch(figure)
    before = {name: figure.state(name) for name in DRAWN}
    never = ('z="kept"', "alpha=129", "mask_seed=-1", "z_seed=1e99", 'prior="flat"')
    for strokes in ("%5B%5B", "[[[1,29]]]", "[[[null,5]]]", '[[["5","6"]]]'):
        told = "&".join((*never, f"strokes={strokes}"))
        figure.page.evaluate("told => { location.hash = `complete~${told}`; }", told)
        figure.page.evaluate("() => new Promise((resolve) => setTimeout(resolve))")  # hashchange comes as a task
        assert {name: figure.state(name) for name in DRAWN} == before, told
    figure.control("mask").check()
    assert harness.becomes(lambda: "mask=%22held%22" in figure.page.evaluate("location.href"), True)


def test_it_fits_a_phone_one_model_at_a_time_and_axe_finds_nothing(visit):
    figure = opened(visit, phone=True, touch=True, dark=True)
    panels = figure.find(".lb-panel")
    assert [panel.is_visible() for panel in panels.all()] == [True, False, False]
    figure.find(".lb-which label").nth(2).tap()
    assert [panel.is_visible() for panel in panels.all()] == [False, False, True]
    assert panels.nth(2).locator("canvas").first.bounding_box()["width"] >= 40
    tops = dict(figure.find("figure.lb-widget").evaluate(
        "figure => [...figure.children].map((part) => [part.className, part.getBoundingClientRect().top])"))  # fmt: skip
    assert tops["lb-tries"] - tops["lb-board"] <= TALLEST and tops["lb-board"] - tops["lb-question"] <= QUESTION
    figure.unfold()
    assert figure.div.evaluate(SMALL, TARGET) == []
    beyond = """(div) => [...div.querySelectorAll("*")].filter((element) => {
        const box = element.getBoundingClientRect(), room = div.getBoundingClientRect();
        return box.width && !element.closest("svg") && (box.left < room.left - 4 || box.right > room.right + 4);
    }).map((element) => element.outerHTML.slice(0, 90))"""
    assert figure.div.evaluate(beyond) == [] and violations(figure.page) == []


def test_wide_pictures_are_large_enough_axe_finds_nothing_and_nothing_moves_by_itself(visit):
    figure = opened(visit)
    assert figure.find(".lb-one canvas").first.bounding_box()["width"] >= 40 or figure.div.bounding_box()["width"] < 784
    figure.unfold()
    assert violations(figure.page) == []
    turn = figure.find("[data-turn]").get_attribute("data-turn")
    figure.page.wait_for_timeout(500)
    assert figure.find("[data-turn]").get_attribute("data-turn") == turn
    assert figure.find("figure").evaluate("figure => figure.getAnimations({ subtree: true }).length") == 0


def test_it_works_from_the_folder_without_a_network(browser, built):
    context = browser.new_context(viewport=harness.PHONE, has_touch=True, is_mobile=True, offline=True)
    page = context.new_page()
    page.goto(built.as_uri() + "/" + harness.PAGE)
    harness.insert(page, harness.saved(usual()))
    figure = Figure(page, "complete")
    rests(figure)
    change(figure, figure.find(".lb-pad-samples button").nth(8).tap)
    same_as_pytorch(figure)
    context.close()


def test_in_a_notebook_and_where_a_model_does_not_come_the_start_is_shown(visit):
    page, state = visit(harness.PAGE), usual().state()
    broken = dict.fromkeys((*complete.MODELS, "judge"), "AAAA")
    harness.start_module(page, usual()._esm, state | broken)
    assert harness.becomes(
        page.locator(".lb-readout").inner_text,
        "The models of this figure could not be loaded; the completions shown were recorded.",
    )
    found = page.locator(".lb-panel").evaluate_all("all => all.map((panel) => panel.dataset.seen)")
    assert found == [",".join(map(str, row)) for row in usual().seen]
