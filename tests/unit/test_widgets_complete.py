"""The figure that completes a foot by three models: its start, its feet, what is held, what differs, its errors."""

import base64
import json
import zlib

import numpy as np
import pytest
import torch
import traitlets

from latentbook.evaluation import load_judge
from latentbook.experiments import mix_and_match, results
from latentbook.training.loop import load_tensors
from latentbook.widgets import CompleteFigure, complete, pad
from latentbook.widgets.sprites import grey_bytes


@pytest.fixture(scope="module")
def figure():
    return CompleteFigure()


def loaded(variant: str):
    """A shipped state in the bits that it is stored in."""
    load = mix_and_match.load_figure_state if variant in mix_and_match.FIGURE_STATES else mix_and_match.load_state
    return load(variant)


@torch.no_grad()
def test_the_start_is_recorded_as_the_shipped_states_have_it(figure):
    """With the same noise and masks for all; rounded for the page, pictures are off by a grey level or two."""
    noise, mask, judge = complete.seeded(0, 32), complete.masks(0, 64), load_judge()
    condition = torch.from_numpy(pad.rasterise(figure.strokes)).flatten()[500:].expand(18, -1)
    tops = np.frombuffer(zlib.decompress(figure.tops), np.uint8).reshape(3, 18, 500)
    for k, variant in enumerate(complete.MODELS.values()):
        model = loaded(variant)
        z = model.prior(model.condition_encoder(condition)).sample(noise)
        wanted = model.sample(condition, z=z, mask=mask)
        assert np.abs(255 * wanted.numpy() - tops[k]).mean() < 2
        seen = judge(torch.cat((wanted, condition), 1).view(-1, 1, 28, 28)).argmax(1)
        assert (seen == torch.tensor(figure.seen[k])).float().mean() > 0.9


def test_it_begins_where_the_models_part(figure):
    many = [len(set(seen)) for seen in figure.seen]
    right = [list(seen).count(6) for seen in figure.seen]
    assert many[0] >= 4 and max(many[1:]) < many[0] and 2 * right[0] <= 18 < 2 * min(right[1:])
    assert all(max(set(seen), key=seen.count) == 6 for seen in figure.seen)
    assert f"published recipe: {many[0]} different digits, most often a 6" in figure.describe()
    assert f"fixed recipe: {many[1]} different digits, most often a 6, {right[1]} of 18 times" in figure.describe()
    zero = CompleteFigure(digit=0)  # where chapter 01 begins: the fixed recipe is sure, the published one is not
    assert set(zero.seen[1]) == {0} and list(zero.seen[0]).count(0) <= 9 < list(zero.seen[2]).count(0)
    assert "fixed recipe: 1 different digit, most often a 0, 18 of 18 times" in zero.describe()


def test_what_is_saved_is_recorded_as_a_hand_has_left_it():
    figure = CompleteFigure()
    figure.strokes, figure.z_seed = complete.feet()["9"], 5
    state = figure.state()
    pictures, seen = figure.answers()
    assert state["seen"] == seen != CompleteFigure().seen
    assert zlib.decompress(base64.b64decode(state["tops"])) == grey_bytes(pictures)[:, :, :500].tobytes()


def test_strokes_that_are_set_later_are_checked_and_told():
    figure = CompleteFigure(strokes=[[(10, 18), (18.01, np.float32(23))]])
    assert figure.strokes == [[[10.0, 18.0], [18.0, 23.0]]]
    with pytest.raises(traitlets.TraitError):
        figure.strokes = [[[1, float("nan")]]]
    for nothing in ([], [[[3, 3], [20, 9]]]):
        figure.strokes = nothing
        assert "without a foot" in figure.describe() and figure.still().axes and figure.state()["strokes"] == nothing


@pytest.mark.parametrize("digit", range(10))
def test_a_foot_has_the_ink_that_the_whole_digit_has_there(digit):
    whole = torch.from_numpy(pad.rasterise(pad.centred(pad.SAMPLES[str(digit)]))).flatten()
    strokes = complete.feet()[str(digit)]
    assert (complete.foot(strokes)[500:] - whole[500:]).abs().max() < 0.15  # points are kept to a tenth of a pixel
    assert complete.foot(strokes)[:500].count_nonzero() == 0
    assert all(15.2 <= y <= 28 and 0 <= x <= 28 for stroke in strokes for x, y in stroke)
    assert all(
        round(value, 1) == value for stroke in strokes for point in stroke for value in point
    )  # as the page has them


def test_a_stroke_is_cut_where_it_crosses():
    assert complete.lower([[[0, 0], [10, 20], [20, 0]]], top=10.0) == [[[5, 10], [10, 20], [15, 10]]]
    assert complete.lower([[[0, 20], [0, 0], [4, 0], [4, 20]]], top=10.0) == [[[0, 20], [0, 10]], [[4, 10], [4, 20]]]
    assert complete.lower([[[0, 0], [9, 5]], [[3, 12]]], top=10.0) == [[[3, 12]]]


def test_a_larger_alpha_keeps_what_a_smaller_one_drew():
    some, more = complete.masks(3, 20), complete.masks(3, 21)
    assert some.sum(1).tolist() == [20] * 18 and more.sum(1).tolist() == [21] * 18 and bool((more >= some).all())
    assert len(some.unique(dim=0)) == 18 and not complete.masks(3, 0).any() and complete.masks(3, 128).all()


def kinds(figure) -> list[int]:
    """Of each model how many pictures differ from another one by more than rounding does; 1 where none does."""
    pictures, _ = figure.answers()
    return [int((torch.cdist(each, each, p=torch.inf) > 0.01).any(1).sum()) or 1 for each in pictures]


def test_what_is_held_is_one_for_all(figure):
    assert kinds(figure) == [18, 18, 18] == kinds(CompleteFigure(mask="held"))
    assert kinds(CompleteFigure(z="held")) == [18, 18, 1]  # the masks still differ; concatenation has none
    assert kinds(CompleteFigure(z="held", mask="held")) == [1, 1, 1]


def test_alpha_and_the_prior_do_what_they_say(figure):
    first, _ = figure.answers()
    assert kinds(foot_alone := CompleteFigure(alpha=128)) == [1, 1, 18]  # no feature is left for z
    assert torch.allclose(foot_alone.answers()[0][2], first[2], atol=1e-5)
    for other, same in (
        (CompleteFigure(prior="standard"), [True, False, True]),
        (CompleteFigure(z_seed=1), [False] * 3),
    ):
        found = zip(other.answers()[0], first, strict=True)
        assert [torch.allclose(one, again, atol=1e-5) for one, again in found] == same


def test_it_says_what_differs_between_the_models(figure):
    rows = {what: texts for what, *texts in figure.differences}
    published, fixed, concatenation = (mix_and_match.VARIANTS[name] for name in complete.MODELS.values())
    assert published.model.prior == concatenation.model.prior != fixed.model.prior
    changed = {what for what, (first, _, third) in rows.items() if first != third}
    assert changed == {"of the foot, the decoder sees", "the judge sees the true digit"}  # like with like
    assert {what for what, (first, second, _) in rows.items() if first == second} == {
        "of the foot, the decoder sees",
        "weight of the KL",
    }
    variants = results.load("mix-and-match")["variants"]
    shares = [100 * np.mean(variants[name]["metrics"]["agreement"]) for name in complete.MODELS.values()]
    assert rows["the judge sees the true digit"] == [f"{value:.1f}\u00a0%" for value in shares]
    rival = 100 * np.mean(variants["concatenation-best"]["metrics"]["agreement"])
    assert f"Given the fixed recipe's prior and training, it reaches {rival:.1f}\u00a0%" in figure.measured


def test_the_rival_is_what_it_is_said_to_be():
    _, notes = load_tensors(mix_and_match.state_path("concatenation"))
    assert (notes["variant"], notes["seed"], notes["data"]["source"]) == ("concatenation", 0, "mnist")
    assert loaded("concatenation").config == mix_and_match.VARIANTS["concatenation"].model
    assert notes["data"] == load_tensors(mix_and_match.state_path("example-mask"))[1]["data"]


def test_its_saved_form_names_the_models_and_is_small(figure):
    state = figure.state()
    names = {name: f"mix-and-match-{variant}" for name, variant in complete.MODELS.items()} | {"judge": "judge"}
    assert {name: state[name]["model"] for name in names} == names
    assert len(json.dumps(state)) < 30_000


@pytest.mark.parametrize(
    ("given", "error", "said"),
    [
        ({"digit": 10}, ValueError, "digit must be a whole number between 0 and 9, got 10"),
        ({"digt": 4}, ValueError, "digt"),
        ({"strokes": [[]]}, ValueError, "a stroke must have shape"),
        ({"strokes": [[[1, 29]]]}, ValueError, "between 0 and 28 pixels"),
        ({"alpha": 129}, traitlets.TraitError, "alpha must be between 0 and 128, got 129"),
        ({"z_seed": -1}, traitlets.TraitError, "z_seed must be between 0 and"),
        ({"z": "fixed"}, traitlets.TraitError, "redrawn"),
        ({"prior": "flat"}, traitlets.TraitError, "conditional"),
    ],
)
def test_what_it_refuses(given, error, said):
    with pytest.raises(error, match=said):
        CompleteFigure(**given)
