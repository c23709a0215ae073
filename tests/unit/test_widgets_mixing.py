"""MixingFigure: what it takes for features and sizes, and what it refuses."""

from __future__ import annotations

import json

import numpy as np
import pytest
import torch
import traitlets

from latentbook.widgets import MixingFigure, draw_mask

ROWS = torch.rand(2, 6, generator=torch.Generator().manual_seed(0))


def build(**given) -> MixingFigure:
    return MixingFigure(**{"data": ROWS, "condition": ROWS / 2, "latent": 1 - ROWS, **given})


def test_lists_arrays_and_tensors_of_any_precision_are_taken_alike():
    expected = build().state()
    for convert in (torch.Tensor.tolist, torch.Tensor.numpy, torch.Tensor.double):
        values = {"data": convert(ROWS), "condition": convert(ROWS / 2), "latent": convert(1 - ROWS)}
        assert build(**values).state() == expected
    assert np.allclose(build().data, ROWS, atol=6e-4)


def test_numpys_integers_are_kept_as_plain_ones():
    figure = MixingFigure(alpha=np.int64(3), seed=np.int64(5), hidden=np.int32(7), rows=np.uint8(2))
    assert (figure.alpha, figure.seed, figure.hidden, len(figure.data)) == (3, 5, 7, 2)
    figure.alpha = np.int64(2)
    assert type(figure.alpha) is int and json.loads(json.dumps(figure.state()))["alpha"] == 2
    assert figure.mask == draw_mask(np.int64(5), np.int64(2), np.int64(7), np.int64(2))
    with pytest.raises(traitlets.TraitError, match="alpha must be between 0 and hidden=7, got 8"):
        figure.alpha = 8


@pytest.mark.parametrize(
    ("given", "words"),
    [
        ({"data": ROWS * 255}, r"data must lie between 0 and 1, got .*: divide features by their maximum"),
        ({"data": ROWS * float("nan")}, "data must be finite, got 12 values"),
        ({"data": ROWS[0]}, r"data must have shape \[rows, hidden\], nothing empty, got \[6\]"),
        ({"data": [[0.5], [0.5, 1.0]]}, "data must hold numbers in rows of one length"),
        ({"data": ROWS[:, :5]}, r"data, condition and latent must have one shape \[rows, hidden\]"),
        ({"latent": None}, "give data, condition and latent together, or none of them; missing: latent"),
        ({"alpha": 7}, "alpha must be a whole number between 0 and 6, got 7"),
        ({"alpha": 2.0}, "alpha must be a whole number between 0 and 6, got 2.0"),
        ({"per": "day"}, "per must be one of example, batch, got 'day'"),
        ({"seed": "1"}, "seed must be a whole number"),
    ],
)
def test_values_that_do_not_fit_are_refused_with_what_would(given, words):
    with pytest.raises(ValueError, match=words):
        build(**given)


def test_sizes_that_are_none_are_refused():
    for wrong in (0, 1.5, True):
        with pytest.raises(ValueError, match="hidden must be a whole number at least 1"):
            MixingFigure(hidden=wrong)
