"""Evidence in a real browser: sums and pictures as PyTorch has them, keyboard and finger, light and dark."""

import functools
import math
import re

import numpy as np
import pytest
import site_harness as harness
import torch
from site_harness import PAGE, Figure

from latentbook.layers.distributions import DiagonalGaussian, product_of_experts
from latentbook.models.multi_level_vae import MultiLevelVAE, MultiLevelVAEConfig
from latentbook.training.loop import initialise
from latentbook.widgets import EvidenceFigure
from latentbook.widgets.sprites import lay

SETS, N, STYLES, DIM = 2, 10, 2, 10
MODEL = initialise(
    lambda: MultiLevelVAE(MultiLevelVAEConfig(init_std=0.1)), 0
)  # lively, but no surer than a trained one
NAMES = ["sevens", "a mixture"]


def normal(*shape: int, seed: int) -> torch.Tensor:
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed))


IMAGES = torch.rand(SETS, N, 28, 28, generator=torch.Generator().manual_seed(0))
MEAN, LOG_VAR, CENTRES = normal(SETS, N, DIM, seed=1), normal(SETS, N, DIM, seed=2) / 2 - 2, normal(10, DIM, seed=3)
STYLE_IMAGES, STYLE_CODES = IMAGES[0, :STYLES].flip(1), normal(STYLES, 10, seed=4)


def widget(**given) -> EvidenceFigure:
    choices = {"mean": MEAN, "log_var": LOG_VAR, "names": NAMES, "centres": CENTRES, "k": 3}
    choices |= {"styles": STYLE_IMAGES, "style_codes": STYLE_CODES, "decoder": MODEL.decoder.parameters()}
    return EvidenceFigure(IMAGES, **{**choices, **given})


usual = functools.cache(widget)  # one for all tests that ask for nothing else


def open_figure(visit, shown: EvidenceFigure | None = None, **how) -> Figure:
    figure = harness.put_in(visit, shown or usual(), **how)
    wait(figure)
    return figure


def wait(figure: Figure) -> None:
    """Until what is chosen stands on the canvases."""
    chosen = [NAMES.index(figure.state("evidence")), figure.state("combination"), *figure.state("used")]
    figure.find(f'.lb-board[data-shown="{",".join(map(str, chosen))}"]').wait_for(timeout=10_000)


def together(mean: torch.Tensor, log_var: torch.Tensor, exact: bool = False) -> DiagonalGaussian:
    """What experts [n, class] say together, as the library has it in float64."""
    zeros = torch.zeros(mean.shape[1], dtype=torch.float64)
    groups = torch.zeros(len(mean), dtype=torch.long)
    experts = DiagonalGaussian(mean.double(), log_var.double())
    return product_of_experts(experts, groups, DiagonalGaussian(zeros, zeros) if exact else None)


def combine(figure: Figure, mean: torch.Tensor, log_var: torch.Tensor, exact: bool) -> dict:
    """The same by the page's own function."""
    experts = [{"mean": m, "logVar": v} for m, v in zip(mean.tolist(), log_var.tolist(), strict=True)]
    call = "([experts, dims, exact]) => latentbook.widgets.evidence.combine(experts, dims, exact)"
    return figure.page.evaluate(call, [experts, mean.shape[1], exact])


@pytest.mark.parametrize("exact", [False, True], ids=["product", "exact"])
def test_combinations_are_those_of_pytorch(visit, exact):
    figure = open_figure(visit)
    for n, seed in ((1, 0), (2, 1), (3, 2), (10, 3), (50, 4)):
        mean, log_var = 3 * normal(n, 6, seed=seed), -normal(n, 6, seed=seed + 100).abs()
        found, expected = combine(figure, mean, log_var, exact), together(mean, log_var, exact)
        assert found["missing"] == 0
        assert found["mean"] == pytest.approx(expected.mean[0].tolist(), rel=1e-9, abs=1e-9)
        assert found["logVar"] == pytest.approx(expected.log_var[0].tolist(), rel=1e-9, abs=1e-9)


def test_combinations_are_stable_where_variances_are_beyond_numbers(visit):
    figure = open_figure(visit)
    for log_var in (-2000.0, -28.0, 28.0, 2000.0):
        mean, log_vars = normal(4, 3, seed=0), torch.full((4, 3), log_var) + normal(4, 3, seed=1)
        for exact in (False, True)[: 1 + (log_var < 0)]:
            found, expected = combine(figure, mean, log_vars, exact), together(mean, log_vars, exact)
            assert found["mean"] == pytest.approx(expected.mean[0].tolist(), rel=1e-9)
            assert found["logVar"] == pytest.approx(expected.log_var[0].tolist(), rel=1e-9)


def test_without_experts_there_is_the_prior_and_it_counts_where_that_cannot_be_divided_out(visit):
    figure = open_figure(visit)
    for exact in (False, True):
        nothing = combine(figure, torch.zeros(0, 2), torch.zeros(0, 2), exact)
        assert nothing == {"mean": [0, 0], "logVar": [0, 0], "missing": 0}
    precision = torch.tensor([[0.4, 0.5, 0.6, 3.0], [0.4, 0.5, 0.6, 3.0]])  # two of them need more than one together
    assert combine(figure, torch.zeros(2, 4), -precision.log(), True)["missing"] == 2
    with pytest.raises(ValueError, match="wider than the prior"):
        together(torch.zeros(2, 4), -precision.log(), True)


def test_an_ellipse_is_that_of_the_projected_covariance(visit):
    figure = open_figure(visit)
    plane, mean, log_var = normal(2, 5, seed=0).double(), normal(5, seed=1).double(), normal(5, seed=2).double()
    call = "([plane, mean, logVar]) => latentbook.widgets.evidence.ellipse(plane, { mean, logVar })"
    found = figure.page.evaluate(call, [plane.tolist(), mean.tolist(), log_var.tolist()])
    turn = torch.tensor(
        [[math.cos(found["angle"]), -math.sin(found["angle"])], [math.sin(found["angle"]), math.cos(found["angle"])]]
    )
    spread = turn.double() @ torch.diag(torch.tensor([found["a"], found["b"]]).double() / 2).square() @ turn.double().T
    assert torch.allclose(spread, plane @ torch.diag(log_var.exp()) @ plane.T, atol=1e-5)
    assert [found["x"], found["y"]] == pytest.approx((plane @ mean).tolist())


def check_pictures(figure: Figure, chosen_set: int, used: list[int], exact: bool = False) -> None:
    """Evidence and styles to the byte; every column as the model redraws the styles, within 0.02 of a grey value."""
    wait(figure)
    for i, canvas in enumerate(figure.find(".lb-image canvas").all()):
        assert np.array_equal(harness.grey_values(canvas), as_shown(IMAGES[chosen_set, i]))
    for i, canvas in enumerate(figure.find(".lb-source canvas").all()):
        assert np.array_equal(harness.grey_values(canvas), as_shown(STYLE_IMAGES[i]))
    canvases = figure.find(".lb-drawn canvas").all()
    shown = np.array([harness.grey_values(canvas) for canvas in canvases]).reshape(STYLES, N, 30, 30)
    for k, column in enumerate(used, 1):
        code = together(MEAN[chosen_set, used[:k]], LOG_VAR[chosen_set, used[:k]], exact).mean.float()
        with torch.no_grad():
            expected = MODEL.decode(STYLE_CODES, code.expand(STYLES, -1)).sigmoid().view(-1, 28, 28)
        assert abs(shown[:, column, 1:29, 1:29] / 255 - expected.numpy()).max() < 0.02
        assert expected.std() > 0.1  # there is something to see
    rest = [i for i in range(N) if i not in used]
    assert not shown[:, rest].any()


def as_shown(values: torch.Tensor) -> np.ndarray:
    """A picture as PyTorch rounds it to 8 bits, with its margin."""
    return lay((values.double() * 255).round().to(torch.uint8).numpy()[None, None])


@pytest.mark.parametrize("dark", [False, True], ids=["light", "dark"])
def test_any_choice_of_images_is_decoded_as_pytorch_does(visit, dark):
    figure = open_figure(visit, dark=dark)
    check_pictures(figure, 0, [0, 1, 2])
    for number in (1, 6, 9):
        figure.find(".lb-image").nth(number).click()
    assert figure.state("used") == [0, 2, 6, 9]
    check_pictures(figure, 0, [0, 2, 6, 9])
    figure.control("evidence", "a mixture").check()
    figure.unfold()
    figure.control("combination", "exact").check()
    check_pictures(figure, 1, [0, 2, 6, 9], exact=True)


def numbers(figure: Figure, row: str) -> list[str]:
    """Mean standard deviation, KL and nearest digit as a row of the table says them."""
    return figure.find(f'tr[data-row="{row}"] td').all_inner_texts()


def said(posterior: DiagonalGaussian) -> list[str]:
    nearest = int((CENTRES.double() - posterior.mean).square().sum(1).argmin())
    return [f"{posterior.log_var.div(2).exp().mean():.2f}", f"{posterior.kl().sum():.1f}", str(nearest)]


def test_the_posterior_shrinks_as_images_are_added(visit):
    figure = open_figure(
        visit, widget(plane=torch.eye(2, CENTRES.shape[1]))
    )  # one plane, so that areas can be compared
    areas = {"product": [], "exact": []}
    for k in range(1, N + 1):
        figure.set_slider("k", k)
        assert figure.state("used") == list(range(k))
        for name in areas:
            assert numbers(figure, name) == said(together(MEAN[0, :k], LOG_VAR[0, :k], name == "exact"))
            ellipse = figure.find(f".lb-below > svg ellipse.lb-{name}")
            areas[name].append(math.prod(float(ellipse.get_attribute(radius)) for radius in ("rx", "ry")))
    for name in areas:
        assert areas[name] == sorted(areas[name], reverse=True) and areas[name][0] > 4 * areas[name][-1]
    assert areas["product"][0] == areas["exact"][0]  # one image is what it is
    assert all(product < exact for product, exact in zip(areas["product"][1:], areas["exact"][1:], strict=True))


def test_the_plane_shows_every_image_the_prior_and_the_digits(visit):
    figure = open_figure(visit)
    plane = figure.find(".lb-below > svg")
    assert [plane.locator(f"ellipse.lb-{kind}").count() for kind in ("one", "other", "prior")] == [3, N - 3, 1]
    assert plane.locator("text").all_text_contents() == [str(i) for i in range(10)]
    assert plane.locator(".lb-nearest text").text_content() == numbers(figure, "product")[2]
    size = plane.bounding_box()["width"]
    for dot in plane.locator("circle").all():  # the centres are all in the picture
        box = dot.bounding_box()
        assert plane.bounding_box()["x"] < box["x"] < plane.bounding_box()["x"] + size
    unit = float(plane.locator("ellipse.lb-prior").get_attribute("rx")) / 2
    where = re.search(r"translate\((\S+) (\S+)\)", plane.locator("ellipse.lb-product").get_attribute("transform"))
    origin = re.search(r"translate\((\S+) (\S+)\)", plane.locator("ellipse.lb-prior").get_attribute("transform"))
    seen = [(float(where[1]) - float(origin[1])) / unit, -(float(where[2]) - float(origin[2])) / unit]
    code = together(MEAN[0, :3], LOG_VAR[0, :3]).mean[0].double()
    directions = torch.as_tensor(widget().drawn_plane())
    assert seen == pytest.approx((directions @ code).tolist(), abs=1e-3)


def test_on_the_plane_the_two_nearest_digits_are_as_far_from_the_code_as_they_are(visit):
    figure = open_figure(visit)
    plane = figure.find(".lb-below > svg")
    unit = float(plane.locator("ellipse.lb-prior").get_attribute("rx")) / 2
    place = re.search(r"translate\((\S+) (\S+)\)", plane.locator("ellipse.lb-product").get_attribute("transform"))
    x, y = map(float, place.groups())
    far = (torch.tensor(figure.state("centres")).double() - together(MEAN[0, :3], LOG_VAR[0, :3]).mean[0]).norm(dim=1)
    near = far.argsort()[:2].tolist()
    for i, group in enumerate(plane.locator("g:has(circle)").all()):
        centre = [float(group.locator("circle").get_attribute(name)) for name in ("cx", "cy")]
        drawn = math.dist(centre, (x, y)) / unit
        assert drawn <= far[i] + 1e-3 and ("lb-off" in group.get_attribute("class")) == (i not in near)
        if i in near:
            assert drawn == pytest.approx(float(far[i]), abs=1e-3)


def test_no_evidence_leaves_the_prior(visit):
    figure = open_figure(visit, widget(k=0))
    assert numbers(figure, "one") == ["–", "–", "–"]
    assert numbers(figure, "product") == numbers(figure, "exact") == ["1.00", "0.0", "–"]
    assert figure.find(".lb-nearest").count() == 0
    assert figure.find(".lb-readout").inner_text() == "No evidence: the class code has only its prior."
    check_pictures(figure, 0, [])


def test_it_says_where_the_exact_combination_does_not_exist(visit):
    log_var = LOG_VAR.clone()
    log_var[:, :, :2] = 1.0
    figure = open_figure(visit, widget(log_var=log_var, exact=True))
    assert "does not exist for this evidence: in 2 of 10 dimensions" in figure.find(".lb-readout").inner_text()
    assert numbers(figure, "exact") == ["none", "–", "–"]
    assert figure.find(".lb-below > svg ellipse.lb-exact").count() == 0
    shown = [harness.grey_values(canvas) for canvas in figure.find(".lb-drawn canvas").all()]
    assert [np.any(picture) for picture in shown[:4]] == [True, False, False, False]  # one image alone has one
    figure.unfold()
    figure.control("combination", "product").check()
    wait(figure)
    assert np.any(harness.grey_values(figure.find(".lb-drawn canvas").nth(2)))
    figure.set_slider("k", 1)
    assert "does not exist" not in figure.find(".lb-readout").inner_text()


def test_keys_put_images_in_and_out_and_move_the_slider(visit):
    figure = open_figure(visit)
    image = figure.find(".lb-image").nth(5)
    figure.press(image, "Enter")
    assert figure.state("used") == [0, 1, 2, 5] and image.get_attribute("aria-pressed") == "true"
    figure.press(image, "Space")
    assert figure.state("used") == [0, 1, 2] and image.get_attribute("aria-pressed") == "false"
    assert image.evaluate("e => getComputedStyle(e).outlineStyle") == "solid"
    figure.press(figure.control("k"), "ArrowRight", "ArrowRight")
    assert figure.state("used") == [0, 1, 2, 3, 4]
    assert figure.control("k").get_attribute("aria-valuetext") == "5 of 10"
    figure.press(figure.control("evidence", "sevens"), "ArrowDown")
    assert figure.state("evidence") == "a mixture"
    check_pictures(figure, 1, [0, 1, 2, 3, 4])


def test_fingers_put_images_in_and_out(visit):
    figure = open_figure(visit, phone=True, touch=True)
    harness.settled(figure.div)
    figure.find(".lb-image").nth(0).tap()
    figure.find(".lb-image").nth(9).tap()
    assert figure.state("used") == [1, 2, 9]
    check_pictures(figure, 0, [1, 2, 9])


def test_everything_has_a_name(visit):
    figure = open_figure(visit)
    assert figure.find(".lb-image").nth(2).get_attribute("aria-label") == "image 3 of 10"
    assert figure.find(".lb-source canvas").nth(1).get_attribute("aria-label") == "style 2"
    drawn = figure.find(".lb-drawn canvas")
    assert drawn.nth(N + 1).get_attribute("aria-label") == "style 2 with the class of 2 images"
    assert [drawn.nth(i).get_attribute("aria-hidden") for i in (2, 3)] == ["false", "true"]
    assert figure.find(".lb-readout").get_attribute("aria-live") == "polite"
    assert figure.find(".lb-readout").inner_text() in figure.find(".lb-below > svg").get_attribute("aria-label")
    assert figure.find("thead th").all_inner_texts() == ["posterior of", "mean sd", "KL, nats", "nearest"]


def test_colour_is_never_alone(visit):
    figure = open_figure(visit)
    looks = figure.find(".lb-own").evaluate_all(
        "all => all.map(e => [getComputedStyle(e).borderTopColor, getComputedStyle(e).borderTopStyle])"
    )
    assert looks[0] == ["rgb(204, 121, 167)", "solid"] and looks[9][1] == "dashed"
    assert figure.find(".lb-mark").all_inner_texts() == ["1", "2", "3", *["–"] * 7]
    dashes = {
        kind: figure.find(f".lb-below > svg ellipse.lb-{kind}").first.evaluate(
            "e => getComputedStyle(e).strokeDasharray"
        )
        for kind in ("one", "prior", "product", "exact")
    }
    assert dashes["product"] == dashes["one"] == "none"
    assert len({dashes["product"], dashes["prior"], dashes["exact"]}) == 3
    fill = "e => getComputedStyle(e).fill"
    assert figure.find(".lb-below > svg ellipse.lb-one").first.evaluate(fill) == "none"
    assert figure.find(".lb-below > svg ellipse.lb-product").evaluate(fill) != "none"


def test_a_phone_shows_it_whole(visit):
    figure = open_figure(visit, phone=True, touch=True)
    wide, inner = figure.page.evaluate("[document.documentElement.scrollWidth, innerWidth]")
    assert wide <= inner
    for element in figure.find("canvas, label, output, input, table, .lb-below > svg").all():
        box = element.bounding_box()
        assert box["x"] >= 0 and box["x"] + box["width"] <= inner
    images = [image.bounding_box() for image in figure.find(".lb-image").all()]
    assert all(min(box["width"], box["height"]) >= 44 for box in images)  # room for a finger
    drawn = [canvas.bounding_box() for canvas in figure.find(".lb-drawn").all()[:N]]
    assert len({round(box["y"]) for box in drawn}) == 1  # what is redrawn in a row, in the order of the evidence
    assert [box["x"] for box in drawn] == sorted(box["x"] for box in drawn)


def test_a_notebook_runs_the_very_same_source_and_hears_of_the_choice(visit):
    shown = widget()
    page = visit(PAGE)
    in_page = page.evaluate("String(latentbook.widgets.evidence.render)")
    harness.start_module(page, shown._esm, shown.state())
    assert page.evaluate("String(window.module.render)") == in_page
    page.locator('.lb-board[data-shown="0,product,0,1,2"]').wait_for(timeout=10_000)
    page.locator(".lb-image").nth(4).click()
    assert page.evaluate("[window.model.get('used'), window.model.sent]") == [[0, 1, 2, 4], 1]
    page.locator('input[data-trait="k"]').fill("2")
    assert page.evaluate("[window.model.get('used'), window.model.sent]") == [[0, 1], 2]
    page.evaluate("window.stop(); window.model.set('used', [3])")  # once stopped, it no longer draws
    assert page.locator(".lb-board").get_attribute("data-shown") == "0,product,0,1"
