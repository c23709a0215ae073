"""Shared network parts."""

from __future__ import annotations

import pytest
import torch
from torch import nn

from latentbook.nets import count_parameters, dense, dropout


def test_dense_has_a_linear_a_norm_and_a_relu_for_every_pair():
    layers = list(dense(5, 4, 3))
    assert [type(layer) for layer in layers] == [nn.Linear, nn.BatchNorm1d, nn.ReLU] * 2
    assert [(layer.in_features, layer.out_features) for layer in layers[::3]] == [(5, 4), (4, 3)]
    assert [layer.num_features for layer in layers[1::3]] == [4, 3]


def test_dense_without_norm():
    assert [type(layer) for layer in dense(5, 4, 3, norm=False)] == [nn.Linear, nn.ReLU] * 2


def test_dense_maps_the_last_dimension():
    out = dense(5, 4, 3, norm=False)(torch.randn(2, 7, 5, generator=torch.Generator().manual_seed(0)))
    assert out.shape == (2, 7, 3) and (out >= 0).all() and out.max() > 0


@pytest.mark.parametrize("sizes", [(), (5,)])
def test_dense_needs_two_sizes(sizes):
    with pytest.raises(ValueError, match="dense needs an input and an output size, got"):
        dense(*sizes)


def test_count_parameters_counts_what_is_trained():
    model = dense(5, 4)
    assert count_parameters(model) == 5 * 4 + 4 + 2 * 4
    model[0].bias.requires_grad_(False)
    assert count_parameters(model) == 5 * 4 + 2 * 4


def test_dropout_keeps_the_mean_repeats_under_its_generator_and_touches_no_other_state():
    x, before = torch.ones(400, 50), torch.get_rng_state()
    dropped = dropout(x, 0.3, torch.Generator().manual_seed(0))
    assert dropped.unique().tolist() == pytest.approx([0.0, 1 / 0.7])
    assert dropped.mean().item() == pytest.approx(1, abs=0.02)
    assert torch.equal(dropped, dropout(x, 0.3, torch.Generator().manual_seed(0)))
    assert torch.equal(torch.get_rng_state(), before)
    assert torch.equal(dropout(x, 0.0), x)
