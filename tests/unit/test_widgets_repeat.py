"""RepeatFigure: what it keeps of scenes and windows, the networks it packs, its walk, its still picture, and what it refuses."""

from __future__ import annotations

import base64
import io
import itertools
import json
import re

import numpy as np
import pytest
import torch
import traitlets
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image
from torch import nn

from latentbook.layers.distributions import count_posterior
from latentbook.layers.spatial_transformer import image_to_window, window_to_image
from latentbook.training.loop import initialise
from latentbook.widgets import RepeatFigure
from latentbook.widgets.base import render_png
from latentbook.widgets.decoders import pack_layers, through, unpack_layers
from latentbook.widgets.repeat import count_probabilities

N, STEPS, WINDOW, WHAT, BIAS = 4, 3, 8, 5, -1.5


def two_layers(*sizes: int, seed: int) -> nn.Sequential:
    """A lively network of one hidden layer."""
    network = initialise(lambda: nn.Sequential(nn.Linear(*sizes[:2]), nn.ReLU(), nn.Linear(*sizes[1:])), seed)
    with torch.no_grad():
        for parameter in network.parameters():
            parameter.mul_(2)
    return network


ENCODER, DECODER = two_layers(WINDOW**2, 12, 2 * WHAT, seed=0), two_layers(WHAT, 12, WINDOW**2, seed=1)
SCENES = torch.rand(N, 20, 24, generator=torch.Generator().manual_seed(0))
KEPT = (SCENES.double() * 255).round().div(255).float()
WHERE = torch.cat(
    [torch.rand(N, STEPS, 1, generator=torch.Generator().manual_seed(1)) * 2 + 1.5,
     torch.randn(N, STEPS, 2, generator=torch.Generator().manual_seed(2))], 2
)  # fmt: skip
PRESENCE = torch.tensor([[0.9, 0.8, 0.1], [0.2, 0.5, 0.5], [0.99, 0.97, 0.9], [0.9, 0.1, 0.6]])  # 2, 0, 3 and 1 objects
GIVEN = {
    "scenes": SCENES,
    "where": WHERE,
    "presence": PRESENCE,
    "encoder": ENCODER.parameters,
    "decoder": DECODER.parameters,
    "output_bias": BIAS,
    "counts": [2, 0, 2, 1],
    "variance": 0.36,
}


def build(**changes) -> RepeatFigure:
    choices = {**GIVEN, **changes}
    for name in ("encoder", "decoder"):
        if callable(choices[name]):
            choices[name] = choices[name]()  # parameters() can be gone through once
    return RepeatFigure(**choices)


@torch.no_grad()
def expected(scene: int, where: torch.Tensor) -> tuple[torch.Tensor, ...]:
    """Crops, means, log-variances, decoded and pasted windows by PyTorch and the networks as they are."""
    crops = image_to_window(KEPT[scene].expand(STEPS, 1, -1, -1), where, WINDOW)
    mean, log_var = ENCODER(crops.flatten(1)).chunk(2, 1)
    decoded = (DECODER(mean) + BIAS).sigmoid().view(STEPS, 1, WINDOW, WINDOW)
    return crops[:, 0], mean, log_var, decoded[:, 0], window_to_image(decoded, where, (20, 24))[:, 0]


def test_lists_arrays_and_tensors_are_taken_alike():
    lists = {name: GIVEN[name].tolist() for name in ("scenes", "where", "presence")}
    networks = {name: [part.tolist() for part in GIVEN[name]()] for name in ("encoder", "decoder")}
    arrays = {name: np.asarray(value) for name, value in lists.items()}
    assert build(**lists, **networks).state() == build(**arrays, counts=torch.tensor([2, 0, 2, 1])).state()
    assert build(**arrays).state() == build().state()


def test_torchs_default_precision_changes_nothing():
    expected = build(
        scene=np.int64(2), stage=np.int64(3), variance=np.float32(0.5), output_bias=np.float32(-1)
    ).to_html()
    torch.set_default_dtype(torch.float64)
    try:
        assert build(scene=2, stage=3, variance=0.5, output_bias=-1).to_html() == expected
    finally:
        torch.set_default_dtype(torch.float32)


def test_the_state_is_plain_and_reaches_the_notebook():
    state = build().state()
    assert set(state) == set(RepeatFigure._saved) and json.loads(json.dumps(state)) == state
    assert all(build().trait_metadata(name, "sync") for name in RepeatFigure._saved)


@pytest.mark.parametrize("scene", range(N))
def test_it_computes_what_it_shows(scene):
    figure = build(scene=scene)
    found, wanted = figure.steps(), expected(scene, WHERE[scene])
    assert torch.allclose(found.crops, wanted[0], atol=1e-4)  # windows are kept to five places
    for values, exact, tolerance in zip(found[1:], wanted[1:], (0.03, 0.03, 0.01, 0.01), strict=True):
        assert exact.std() > 0.05 and (values - exact).abs().max() < tolerance
    for painted in range(STEPS + 1):
        canvas = wanted[4][:painted].sum(0)
        assert (figure.canvas(painted) - canvas).abs().max() < 0.02
        exact = (KEPT[scene] - canvas).square().sum().item() / 0.72
        assert figure.error(painted) == pytest.approx(exact, rel=0.01)
    assert torch.equal(figure.canvas(), figure.canvas(figure.count))


def test_without_a_variance_the_error_is_in_squared_grey_values():
    assert build(variance=None).error() == pytest.approx(build().error() * 0.72)


def test_the_count_is_the_most_probable_one():
    for scene, count in enumerate((2, 0, 3, 1)):
        figure = build(scene=scene)
        exact = count_posterior(PRESENCE[scene].double().logit()).exp().numpy()
        assert np.allclose(figure.count_posterior, exact) and figure.count == count == exact.argmax()
        assert (figure.stage, figure.step) == (3 * count + 1, max(0, count - 1))


@settings(max_examples=50, deadline=None)
@given(st.lists(st.floats(0, 1), min_size=1, max_size=6))
def test_the_posterior_of_the_count_sums_to_one(presence):
    odds = count_probabilities(np.array(presence))
    assert len(odds) == len(presence) + 1 and odds.sum() == pytest.approx(1) and odds.min() >= 0


def test_python_moves_a_window_and_hears_of_it():
    figure, heard = build(), []
    figure.observe(lambda change: heard.append(change["new"]), "where")
    moved = [*figure.inferred[0][:2], (3, 0.5, -0.5)]
    figure.where = moved
    sent = [[2.0, 0.25, 0.5], *figure.inferred[0][1:]]
    figure.set_state({"where": sent})  # as a front end sends it
    assert heard == [[*figure.inferred[0][:2], [3.0, 0.5, -0.5]], sent]
    crops = image_to_window(KEPT[0].expand(STEPS, 1, -1, -1), torch.tensor(sent), WINDOW)
    assert torch.equal(figure.steps().crops, crops[:, 0])
    for wrong, message in (
        ([[0, 0, 0], *sent[1:]], r"each step's where must be .* the scale positive, got \[0.0, 0.0, 0.0\]"),
        ([*sent[1:], 3], "each step's where must be three finite numbers"),
        (sent[1:], "where must hold a window for each of 3 steps, got 2"),
    ):
        with pytest.raises(traitlets.TraitError, match=message):
            figure.where = wrong
    assert figure.where == sent


def test_another_scene_comes_with_all_its_steps_and_the_models_windows():
    figure = build(stage=2)
    assert (figure.stage, figure.step) == (2, 0)
    figure.where = [[2, 0, 0]] * STEPS
    figure.scene = 2
    assert (figure.stage, figure.step, figure.where) == (10, 2, figure.inferred[2])
    figure.set_state({"scene": 0, "stage": 7, "step": 1, "where": figure.inferred[0]})  # as a front end sends it
    assert (figure.scene, figure.stage, figure.step, figure.where) == (0, 7, 1, figure.inferred[0])
    figure.scene = 1
    assert (figure.stage, figure.step) == (1, 0)


@pytest.mark.parametrize(
    ("trait", "value", "most"), [("stage", 8, 7), ("stage", -1, 7), ("step", 3, 2), ("scene", 4, 3)]
)
def test_a_walk_beyond_its_end_is_refused(trait, value, most):
    with pytest.raises(traitlets.TraitError, match=f"{trait} must be between 0 and {most}.*, got {value}"):
        setattr(build(), trait, value)


@settings(max_examples=25, deadline=None)
@given(st.lists(st.integers(1, 9), min_size=3, max_size=5), st.integers(0, 2**31))
def test_layers_of_any_size_are_packed(sizes, seed):
    random = np.random.default_rng(seed)
    layers = [(random.normal(size=(b, a)), random.normal(size=b)) for a, b in itertools.pairwise(sizes)]
    found = unpack_layers(pack_layers(layers), [weight.shape for weight, _ in layers])
    for (weight, bias), (kept, kept_bias) in zip(layers, found, strict=True):
        assert (abs(weight - kept) <= abs(weight).max(1, keepdims=True) / 254 + 1e-6).all()
        assert np.allclose(bias, kept_bias, atol=1e-6)
    values = random.normal(size=(3, sizes[0]))
    networks = nn.Sequential(
        *[part for a, b in itertools.pairwise(sizes) for part in (nn.Linear(a, b), nn.ReLU())][:-1]
    )
    with torch.no_grad():
        for linear, (weight, bias) in zip(list(networks)[::2], layers, strict=True):
            linear.weight.copy_(torch.from_numpy(weight))
            linear.bias.copy_(torch.from_numpy(bias))
        assert np.allclose(through(layers, values), networks(torch.from_numpy(values).float()), atol=1e-3)


def test_an_output_without_weights_is_no_trouble():
    ((weight, bias),) = unpack_layers(pack_layers([(np.zeros((2, 3)), np.ones(2))]), [(2, 3)])
    assert not weight.any() and (bias == 1).all()


def test_a_trained_models_figure_fits_into_a_page():
    encoder, decoder = (
        two_layers(576, 400, 40, seed=0),
        two_layers(20, 400, 576, seed=1),
    )  # evenly spread: hard to deflate
    odds, where = torch.full((8, 3), 0.7), torch.tensor([3.0, 0, 0]).expand(8, 3, -1)
    scenes = torch.rand(8, 50, 50, generator=torch.Generator().manual_seed(0))
    figure = RepeatFigure(
        scenes, where, odds, encoder=encoder.parameters(), decoder=decoder.parameters(), output_bias=-3
    )
    html, png = figure.to_html(), render_png(figure.still())
    assert figure.window == 24 and len(html) + len(png) * 4 / 3 < 900_000


def test_the_still_picture_shows_every_step_that_is_used():
    figure = build(scene=3)  # one of three
    shown = [np.asarray(axes.images[0].get_array()) for axes in figure.still().axes if axes.images]
    steps = figure.steps()
    for found, picture in zip(
        shown, (figure.picture(), figure.canvas().clamp(0, 1), steps.crops[0], steps.decoded[0]), strict=True
    ):
        assert np.array_equal(found, picture.numpy())
    texts = [text.get_text() for text in figure.still().texts]
    assert texts == ["presence", "1: 0.90", "2: 0.10", "not used", "3: 0.60", "not used"]
    bars = [patch.get_height() for patch in figure.still().axes[-1].patches]
    assert bars == pytest.approx(figure.count_posterior.tolist())
    assert sum(bool(axes.images) for axes in build(scene=2).still().axes) == 2 + 2 * 3


@pytest.mark.parametrize("scene", range(N))
def test_nothing_in_the_still_picture_is_cut(scene):
    png = np.asarray(Image.open(io.BytesIO(render_png(build(scene=scene).still()))).convert("L"))
    assert min(png[0].min(), png[-1].min(), png[:, 0].min(), png[:, -1].min()) == 255


def test_the_saved_output_is_the_same_every_time():
    first, again = (build()._repr_mimebundle_()[0] for _ in range(2))
    for kind in ("text/html", "text/plain", "image/png"):
        assert first[kind] == again[kind]
    assert base64.b64decode(first["image/png"]).startswith(b"\x89PNG") and first["text/plain"] == "RepeatFigure()"


def test_it_says_what_its_picture_shows():
    figure = build(scene=3)
    said = figure.describe()
    assert "a scene of 24 by 20 pixels with numbered windows" in said and "1 window is used" in said
    assert "step 1 with probability 0.90, step 2 with probability 0.10, step 3 with probability 0.60" in said
    assert f"a squared error of {figure.error():.1f} nats" in said and "most probable 1." in said
    assert "the recurrent network that infers them does not run in this page" in figure.caption


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"scenes": SCENES[0]}, "scenes must have shape [n, height, width], nothing empty, got [20, 24]"),
        ({"scenes": SCENES * 2}, "scenes must hold grey values in [0, 1] without NaN"),
        ({"where": WHERE[:2]}, "where must have shape [4, steps, 3], nothing empty, got [2, 3, 3]"),
        ({"where": -WHERE}, "where must have positive scales, its first numbers, got -3."),
        ({"presence": PRESENCE[:, :2]}, "presence must have shape [4, 3], nothing empty, got [4, 2]"),
        ({"presence": PRESENCE.logit()}, "presence must lie between 0 and 1, got -2.19722 to 4.59512: give probabilities"),
        ({"presence": PRESENCE * float("nan")}, "presence must be finite, got 12 values that are NaN or infinite"),
        ({"encoder": []}, "encoder must hold two layers' weights and biases, 4 tensors, got 0: give model.encoder.parameters()"),
        ({"encoder": two_layers(60, 5, 10, seed=0).parameters}, "log-variances of its code, got 60 pixels to 10 numbers"),
        ({"encoder": two_layers(64, 5, 9, seed=0).parameters}, "got 64 pixels to 9 numbers"),
        ({"decoder": two_layers(4, 5, 64, seed=0).parameters}, "the decoder's first weight must have shape [hidden, 5]"),
        ({"decoder": two_layers(5, 5, 49, seed=0).parameters}, "the decoder's second weight must have shape [64, 5]"),
        ({"output_bias": None}, "output_bias must be a finite number, got None"),
        ({"counts": [1, 2]}, "counts must have shape [4], nothing empty, got [2]"),
        ({"counts": [0.5] * 4}, "counts must be whole numbers such as int64, got torch.float32"),
        ({"names": ["a"]}, "names must hold one text for each scene, 4 of them or none, got 1"),
        ({"variance": "0.5"}, "variance must be a finite number above 0, got '0.5'"),
        ({"encoder": None}, "encoder must hold two layers' weights and biases, 4 tensors, got 0"),
        ({"counts": [-1, 0, 0, 0]}, "counts must lie between 0 and 99, got -1 to 0"),
        ({"variance": 0}, "variance must be a finite number above 0, got 0"),
        ({"scene": 4}, "scene must be a whole number between 0 and 3, got 4"),
        ({"stage": 8}, "stage must be a whole number between 0 and 7, got 8"),
    ],
)  # fmt: skip
def test_values_that_do_not_fit_are_refused_with_what_would(changes, message):
    with pytest.raises(ValueError, match=re.escape(message)):
        build(**changes)
