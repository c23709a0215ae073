"""The figure that trains: what it keeps, its instruments in plain PyTorch, its still picture and words, what it refuses."""

import base64
import functools
import json
import zlib

import numpy as np
import pytest
import torch
import traitlets

from latentbook.data import load_digits
from latentbook.data.digits import Digits
from latentbook.widgets import CollapseFigure, collapse
from latentbook.widgets.base import render_png
from latentbook.widgets.export import read_model


@functools.cache
def digits() -> Digits:
    return load_digits("train", source="offline")


@pytest.fixture(scope="module")
def figure():
    return CollapseFigure(digits(), count=600, epochs=20)


def test_digits_are_windows_of_four_pixels_in_32_greys(figure):
    images = figure.images()
    full = digits().images[:600].view(600, 14, 2, 14, 2).mean((2, 4))
    assert images.shape == (600, 1, 14, 14) and len(figure.labels) == 600
    assert (images[:, 0] - full).abs().max() <= 0.5 / 31 + 0.5 / 255 + 1e-6
    assert len(images.unique()) <= 32 and len(zlib.decompress(figure.digits)) == 600 * 196
    assert figure.labels[:30] == "".join(str(int(label)) for label in digits().labels[:30])


def test_a_page_gets_the_digits_after_the_figure_and_little_before():
    """2,000 digits are more than light.py puts in front of a figure, and all the rest is less."""
    ink = (torch.rand(2000, 1, 28, 28, generator=torch.Generator().manual_seed(0)) < 0.2).float()
    wide = Digits(ink, torch.arange(2000) % 10, "mnist", "none", "train")
    small = collapse.shrunk(wide, 2000)
    packed = zlib.compress((small.images * 255).round().byte().numpy().tobytes(), 9)
    assert 120_000 < 4 * len(packed) / 3 < 500_000


def test_what_stands_before_the_figure_is_small(figure):
    state = {name: len(json.dumps(value)) for name, value in figure.state().items()}
    assert sum(state.values()) - state["digits"] < 120_000 and state["network"] < 75_000


def test_it_begins_with_a_model_that_listens_as_the_page_has_it(figure):
    model, small = read_model(figure.network), collapse.shrunk(digits(), 600)
    now = figure.recorded["history"][-1]
    assert now == collapse.gauge(model, small) | {"steps": 20 * 19} and figure.training["steps"] == 380
    assert [row["steps"] for row in figure.recorded["history"]] == list(range(19, 381, 19))
    means = model.encode(small.images).mean.detach().numpy()
    assert np.abs(figure.codes() - means).max() <= 0.0006
    assert now["listening"] > 5 and min(now["kls"]) > 0.3 and now["probe"] > 2 * now["control"]


def test_beta_and_mean_empty_the_code_and_neighbours_make_it_unheard_at_a_lower_loss(figure):
    now, outcomes = figure.recorded["history"][-1], figure.recorded["outcomes"]
    for name in ("beta", "mean"):
        after = outcomes[name]["after"]
        assert sum(after["kls"]) < 0.1 and abs(after["listening"]) < 0.5 and after["spread"] < 0.3 * now["spread"]
        assert after["probe"] < now["probe"] / 1.5
    seen = outcomes["neighbours"]["after"]
    assert collapse.loss(seen) < collapse.loss(now) - 1 and seen["listening"] < now["listening"] / 4
    assert sum(seen["kls"]) > 0.1  # it pays for a code that the decoder hardly hears


def test_listening_is_the_rise_of_the_bce_with_another_code():
    small = collapse.shrunk(digits(), 40)
    model = collapse.initialise(lambda: collapse.VAE(collapse.config()), 0)
    found = collapse.gauge(model, small)
    noise = torch.from_numpy(collapse.seeded_noise(7, 80)).float().view(40, 2)
    with torch.no_grad():
        q = model.encode(small.images)
        z, x = q.mean + (q.log_var / 2).exp() * noise, small.images.flatten(1)
        bce = [
            -torch.distributions.Bernoulli(logits=model.decode(one), validate_args=False).log_prob(x).sum(1).mean()
            for one in (z, z.roll(-1, 0))
        ]
        kls = (q.mean.square() + q.log_var.exp() - 1 - q.log_var).mean(0) / 2
    assert found["bce"] == pytest.approx(bce[0].item(), abs=1e-3)
    assert found["listening"] == pytest.approx((bce[1] - bce[0]).item(), abs=1e-3)
    assert found["kls"] == pytest.approx(kls.tolist(), abs=1e-4)


def test_the_probe_is_fitted_on_one_half_and_scored_on_the_other():
    z = torch.tensor([[0.0, 0], [0, 2], [5, 0], [5, 2], [1, 1], [4, 1], [0, 0], [5, 5]])
    labels = torch.tensor([0, 0, 3, 3, 0, 3, 3, 3])
    assert collapse.nearest_mean(z, labels) == 0.75  # one of the second half lies nearest to the other class


def test_the_digits_shown_are_of_eight_classes(figure):
    labels = [figure.labels[k] for k in figure.recorded["shown"]]
    assert labels == sorted(set(labels)) and len(labels) == 8


def test_its_still_picture_and_words(figure):
    assert render_png(figure.still())[:4] == b"\x89PNG"
    words, now = figure.describe(), figure.recorded["history"][-1]
    assert f"listening rises to {now['listening']:.1f} nats" in words and f"{now['probe']:.0%}" in words
    assert 'data-name="collapse"' in figure.to_html()
    assert base64.b64encode(figure.digits).decode() in figure.to_html()


def test_the_same_seed_gives_the_same_figure():
    first, again, other = (CollapseFigure(digits(), count=64, epochs=2, seed=seed).state() for seed in (0, 0, 1))
    assert first == again and first["network"] != other["network"]


@pytest.mark.parametrize(
    ("plan", "said"),
    [
        ([], "plan must be"),
        ([[5, 1, 0, 0]], "from step 0 on"),
        ([[0, 1, 0, 0], [0, 8, 0, 0]], "each step later"),
        ([[0, 31, 0, 0]], "beta must be between 0 and 30"),
        ([[0, 1, 2, 0]], "neighbours and mean 0 or 1"),
        ("words", "plan must be"),
    ],
)
def test_plans_that_are_none_are_refused(figure, plan, said):
    with pytest.raises((traitlets.TraitError, ValueError), match=said if isinstance(plan, list) else "plan"):
        figure.plan = plan
    assert figure.plan == [[0, 1, 0, 0]]


def test_other_refusals():
    with pytest.raises(ValueError, match="digits must be at least 16 of 28x28 pixels"):
        CollapseFigure(Digits(torch.zeros(20, 1, 14, 14), torch.zeros(20, dtype=torch.long), "mnist", "none", "train"))
    with pytest.raises(ValueError, match="count"):
        CollapseFigure(digits(), count=3)
    with pytest.raises(ValueError, match="planet"):
        CollapseFigure(digits(), count=64, epochs=1, planet=1)
