"""The figure that asks two models for another digit than was written: its numbers, its start, its errors."""

import base64
import json
from pathlib import Path

import numpy as np
import pytest
import torch
import traitlets
from test_widgets_windows import States

from latentbook.evaluation import load_judge
from latentbook.experiments import conditional_vae, results
from latentbook.widgets import ContradictFigure, contradict, pad

FRONT = Path(__file__).parents[2] / "book" / "contradict.html"


@pytest.fixture(scope="module")
def figure():
    return ContradictFigure(digit=3, label=7)


def test_the_start_is_recorded_as_the_shipped_states_have_it(figure):
    """In full precision the pictures are within a grey level or two of those of the rounded weights, and the verdicts same."""
    image = torch.from_numpy(pad.rasterise(figure.strokes))[None, None]
    judge = load_judge()
    for k, (state, _) in enumerate(contradict.MODELS.values()):
        model = conditional_vae.load_state(state.removeprefix("conditional-vae-"))
        with torch.no_grad():
            picture = contradict.decoded(model, image, 7)
        recorded = np.frombuffer(base64.b64decode(figure.recorded["pictures"][k]), np.uint8)
        assert np.abs(255 * picture.flatten().numpy() - recorded).mean() < 2
        assert int(judge(picture).argmax()) == int(np.argmax(figure.recorded["chances"][k + 1]))
    assert figure.recorded["ink"] == 3


def test_it_begins_with_a_contradiction_that_tells_the_two_apart(figure):
    published, fixed = (int(np.argmax(chances)) for chances in figure.recorded["chances"][1:])
    assert (published, fixed) == (3, 7)
    assert "the tutorial's model draws a 3; the fixed model draws a 7" in figure.describe()


def test_the_shares_that_it_quotes_are_the_ledgers(figure):
    variants = results.load("conditional-vae")["variants"]
    wins = [np.mean(variants[name]["metrics"]["other_label_wins"]) for name in ("retrained", "fixed")]
    assert figure.measured == pytest.approx(wins) and figure.measured[0] < 0.2 < 0.9 < figure.measured[1]


def test_its_saved_form_names_the_models_and_is_small(figure):
    state = figure.state()
    assert state["first"] == {"model": "conditional-vae-retrained"} and state["judge"] == {"model": "judge"}
    assert len(json.dumps(state)) < 20_000


@pytest.mark.parametrize(
    ("given", "said"),
    [
        ({"digit": 10}, "digit must be a whole number between 0 and 9, got 10"),
        ({"label": -1}, "label"),
        ({"digit": 4, "label": 4}, "label must be another digit than the one on the pad, got 4 for both"),
        ({"strokes": [[]]}, r"a stroke must have shape \[points, 2\], nothing empty"),
        ({"strokes": [5]}, "a stroke must hold numbers, got an int"),
        ({"strokes": "a 3"}, "strokes must be a list of strokes"),
        ({"strokes": [[[1, float("nan")]]]}, "a stroke must be finite"),
        ({"strokes": [[[1, 29]]]}, "between 0 and 28 pixels"),
    ],
)
def test_what_it_refuses(given, said):
    with pytest.raises(ValueError, match=said):
        ContradictFigure(**given)


def test_what_is_set_later_is_checked_and_told():
    figure = ContradictFigure(strokes=[[np.array([14, 5]), (13.51, np.float32(23))]], label=9)
    assert figure.strokes == [[[14.0, 5.0], [13.5, 23.0]]] and figure.recorded["ink"] == 1
    figure.label = 2
    assert figure.describe().startswith("A written 1, and what two models draw when they are asked for a 2:")
    for name, value in (("label", 99), ("strokes", [[[1, float("nan")]]]), ("strokes", [5])):
        with pytest.raises(traitlets.TraitError):
            setattr(figure, name, value)
    figure.strokes = []
    assert "empty pad" in figure.describe() and figure.still().axes


def test_the_front_pages_figure_is_current(figure):
    text = FRONT.read_text(encoding="utf-8")
    (saved,) = States(text, "contradict").found
    new = json.loads(json.dumps(figure.state()))
    old, again = saved.pop("recorded"), new.pop("recorded")  # whose last digits differ between machines
    assert old["ink"] == again["ink"] and np.allclose(old["chances"], again["chances"], atol=1e-4)
    assert saved == new, "make it anew: CONTRIBUTING.md says how"
    assert States(text, "contradict").alt == figure.describe() and figure.caption in States(text, "contradict").words
