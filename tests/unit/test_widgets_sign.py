"""The figure of a class of one's own: its evidence, what it says together, its start, its errors."""

from __future__ import annotations

import json
import zlib

import numpy as np
import pytest
import torch
import traitlets

from latentbook.data import load_digits
from latentbook.data.digits import Digits
from latentbook.experiments import multi_level_vae
from latentbook.widgets import SignFigure, pad, sign

DIGITS = load_digits("test", source="offline")
STROKE = [[[14, 4], [13.51, 23]]]
SEVENS = (DIGITS.labels == 7).nonzero().flatten()[:10]


@pytest.fixture(scope="module")
def figure():
    return SignFigure(DIGITS)


def fresh(**given) -> SignFigure:
    return SignFigure(DIGITS, **given)


def test_the_models_are_shipped_states_of_the_experiment():
    for state in sign.MODELS.values():
        assert state.removeprefix("multi-level-vae-") in multi_level_vae.STATES


def test_it_keeps_ten_of_a_class_one_of_another_and_five_hands_to_the_byte(figure):
    assert figure.labels[:10] == [7] * 10 and 7 not in figure.labels[10:] and figure.hands == [11, 12, 13, 14, 15]
    assert (figure.images()[:, 0] * 255 - DIGITS.images[SEVENS, 0] * 255).abs().max() <= 0.5
    other = fresh(digit=3, hands=[int((DIGITS.labels == d).nonzero()[0]) for d in (1, 4, 8, 9, 7)])
    assert other.labels[:10] == [3] * 10 and other.labels[11:] == [1, 4, 8, 9, 7]


@pytest.mark.parametrize("name", sign.MODELS)
def test_the_product_is_the_closed_form_and_narrows_with_every_image(figure, name):
    """Precisions add; means are weighted by them."""
    figure = fresh()
    alone, found = figure.experts(name), figure.product(name)
    precision = alone.log_var.double().neg().exp()
    mean = (precision * alone.mean).sum(0) / precision.sum(0)
    assert torch.allclose(found.mean[0].double(), mean, atol=1e-4)
    assert torch.allclose(found.log_var[0].double(), -precision.sum(0).log(), atol=1e-4)
    widths = []
    for k in range(11):
        figure.left_out = list(range(k, 10))
        widths.append(sign.width(figure.product(name)))
    assert widths[0] == 1 and widths[1:] == sorted(widths[1:], reverse=True)


@pytest.mark.parametrize("name", sign.MODELS)
def test_a_traitor_narrows_the_product_too(name):
    figure = fresh()
    (evidence,) = (evidence for words, evidence in figure.presets if words.startswith("a traitor"))
    assert [figure.labels[i] == 7 for i in evidence] == [True] * 9 + [False]
    figure.evidence = evidence
    with_it = sign.width(figure.product(name))
    figure.left_out = [9]
    assert with_it < sign.width(figure.product(name))


def test_the_recorded_start_is_the_models_answer(figure):
    """In full precision the pictures lie within a few grey levels of those of the rounded weights."""
    pictures = np.frombuffer(zlib.decompress(figure.pictures), np.uint8).reshape(2, 5, 784)
    for k, (name, state) in enumerate(sign.MODELS.items()):
        drawn, seen = figure.written(name)
        assert figure.recorded[name]["seen"] == seen and not figure.recorded[name]["exact"]
        assert np.abs(255 * drawn.numpy() - pictures[k]).max() <= 0.51
        model = multi_level_vae.load_state(state.removeprefix("multi-level-vae-"))
        styles = figure.kept()[figure.hands][:, None]
        with torch.no_grad():
            exact = model.swap(styles, figure.images()[None].expand(5, -1, -1, -1, -1))
        assert np.abs(255 * exact.flatten(1).numpy() - pictures[k]).mean() < 3
        experts = figure.experts(name)
        assert len(figure.recorded[name]["experts"]) == sign.MOST + 1
        for i, (item, mean, log_var) in enumerate(figure.recorded[name]["experts"][:10]):
            assert item == i and np.allclose(mean, experts.mean[i], atol=1e-4)
            assert np.allclose(log_var, experts.log_var[i], atol=1e-4)


def test_drawings_are_evidence_and_come_back_as_images():
    figure = fresh(evidence=[3, STROKE])
    assert figure.evidence == [3, [[[14.0, 4.0], [13.5, 23.0]]]] and figure.known() is None
    image = figure.images()
    assert image.shape == (2, 1, 28, 28)
    assert np.array_equal(image[1, 0].numpy(), pad.rasterise(pad.centred(figure.evidence[1])))
    assert json.dumps(figure.recorded["cut"]["experts"][-1][0]) == json.dumps(figure.evidence[1])
    figure.left_out = [np.int64(1)]
    assert figure.used == [0] and figure.left_out == [1] and figure.known() == 7
    figure.evidence = [4]  # a place that is no longer there is not left out
    assert figure.left_out == [] and figure.known() == 7
    figure.evidence = []
    assert (
        sign.width(figure.product("cut")) == 1
        and figure.still().axes
        and figure.describe().startswith("No image of evidence")
    )


def test_the_letter_of_the_tries_can_be_drawn(figure):
    drawn = dict(figure.presets)["a letter: A"]
    assert len(drawn) >= 3 and all(pad.drawing(one) == one for one in drawn)
    assert (sign.pictured(drawn, figure.kept()).flatten(1).sum(1) > 30).all()


def test_its_saved_form_names_the_models_and_is_small(figure):
    state = figure.state()
    assert state["cut"] == {"model": sign.MODELS["cut"]} and state["judge"] == {"model": "judge"}
    assert len(json.dumps(state)) < 30_000


def test_it_tells_and_draws_what_it_shows(figure):
    told = figure.describe()
    assert told.startswith("10 images of a 7, and what five hands write")
    for name in sign.MODELS:
        seen = figure.written(name)[1]
        assert f"gradient {name} their product is {sign.width(figure.product(name)):.2f} as wide" in told
        assert f"sees {', '.join(map(str, seen))}: {seen.count(7)} of 5 read as a 7" in told
    titles = [axes.get_title(loc="left") for axes in figure.still().axes]
    assert titles == [
        "images of evidence",
        "what they say of the class, gradient cut",
        "five hands",
        "with the gradient cut",
        "with the gradient restored",
    ]


@pytest.mark.parametrize(
    ("given", "said"),
    [
        ({"digit": 10}, "digit must be a whole number between 0 and 9, got 10"),
        ({"gradient": "half"}, "gradient"),
        ({"hands": [0, 1]}, "hands must be 5 rows of digits, got 2"),
        ({"hands": [*SEVENS[:1].tolist(), 0, 1, 2, 3]}, "hands must be of other digits than the evidence"),
        ({"hands": [0, 1, 2, 3, 10**6]}, "hands must be a whole number between 0 and"),
        ({"evidence": 3}, "evidence must be a list of image numbers and drawings, got a int"),
        ({"evidence": [0] * 11}, "room for 10 images of evidence, got 11"),
        ({"evidence": [16]}, "the number of an image of evidence must be a whole number between 0 and 15, got 16"),
        ({"evidence": [[]]}, "at least one stroke"),
        ({"evidence": [[[[1, 29]]]]}, "between 0 and 28 pixels"),
        ({"evidence": ["a 7"]}, "the number of an image of evidence"),
        ({"colour": "red"}, "colour"),
    ],
)
def test_what_it_refuses(given, said):
    with pytest.raises(ValueError, match=said):
        fresh(**given)


@pytest.mark.parametrize(
    ("digits", "said"),
    [
        (None, r"give load_digits\(\"test\"\)"),
        (DIGITS.take(slice(0, 20)), "digits must hold 10 images of a 7, got"),
        (DIGITS.take(DIGITS.labels == 7), "digits must hold other digits than a 7"),
        (DIGITS.take((DIGITS.labels == 7) | (DIGITS.labels == 0)), "digits must hold a 2, a 3, a 5, a 6 as a hand"),
        (Digits(torch.zeros(4, 1, 8, 8), torch.zeros(4, dtype=torch.long), "own", "", "test"), "digits.images"),
    ],
)
def test_digits_that_will_not_do_are_refused(digits, said):
    with pytest.raises(ValueError, match=said):
        SignFigure(digits)


def test_what_is_set_later_is_checked():
    figure = fresh()
    wrong = [
        ("evidence", [0] * 11),
        ("evidence", [STROKE, []]),
        ("evidence", [-1]),
        ("left_out", [10]),
        ("strokes", [[[1, float("nan")]]]),
        ("gradient", "no"),
    ]
    for name, value in wrong:
        with pytest.raises(traitlets.TraitError):
            setattr(figure, name, value)
    with figure.hold_trait_notifications():  # as the page sends both
        figure.left_out, figure.evidence = [1], [STROKE, 2]
    assert figure.left_out == [1] and len(figure.evidence) == 2
