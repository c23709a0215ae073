"""Shared network parts."""

from __future__ import annotations

from functools import partial

import pytest
import torch
import unit_harness
from torch import nn
from torch.distributions import Categorical, kl_divergence

from latentbook.layers.nets import ReversedGradient, count_parameters, dense, dropout, side_by_side, smoothness
from latentbook.training.loop import initialise

normal = partial(unit_harness.normal, dtype=torch.float64)


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


@pytest.mark.parametrize(
    ("first", "second"),
    [((6,), (6,)), ((6, 1), (1, 10)), ((1, 10), (6, 1)), ((), ())],
    ids=["rows", "ten", "turned", "one"],
)
def test_side_by_side_is_the_layer_on_both(first, second):
    """With ten labels beside every image, too: what is shared is broadcast."""
    layer = initialise(lambda: dense(7, 50, norm=False).double(), seed=0)
    a, b = normal(*first, 4).requires_grad_(), normal(*second, 3, seed=1).requires_grad_()
    shape = torch.broadcast_shapes(first, second)
    beside = layer(torch.cat((a.expand(*shape, 4), b.expand(*shape, 3)), -1))
    found, weights = side_by_side(layer, a, b), normal(*shape, 50, seed=2)
    torch.testing.assert_close(found, beside)
    assert found.shape == (*shape, 50) and (found == 0).any() and found.max() > 0  # behind the ReLU
    inputs = [a, b, *layer.parameters()]
    gradients = [torch.autograd.grad((out * weights).sum(), inputs) for out in (found, beside)]
    for ours, theirs in zip(*gradients, strict=True):
        torch.testing.assert_close(ours, theirs)


def test_reversed_gradient_is_the_identity_with_the_other_gradient():
    x = normal(3, 2).requires_grad_()
    turned = ReversedGradient.apply(x)
    assert torch.equal(turned, x)
    weights = normal(3, 2, seed=1)
    (gradient,) = torch.autograd.grad((turned.square() * weights).sum(), x)
    torch.testing.assert_close(gradient, -2 * x.detach() * weights)


def test_behind_a_reversed_gradient_the_head_descends_and_the_body_ascends():
    body, head = nn.Linear(2, 3).double(), nn.Linear(3, 1).double()
    x = normal(5, 2)
    parameters = [*body.parameters(), *head.parameters()]
    plain = torch.autograd.grad(head(body(x)).square().sum(), parameters)
    turned = torch.autograd.grad(head(ReversedGradient.apply(body(x))).square().sum(), parameters)
    for sign, expected, found in zip((-1, -1, 1, 1), plain, turned, strict=True):
        torch.testing.assert_close(found, sign * expected)
        assert found.abs().max() > 0


# Smoothness


def moved(classifier: nn.Module, x: torch.Tensor, offset: torch.Tensor) -> torch.Tensor:
    """How far an offset moves a prediction: torch's KL."""
    return kl_divergence(Categorical(logits=classifier(x)), Categorical(logits=classifier(x + offset)))


@pytest.mark.parametrize("radius", [0.1, 1.0, 3.0])
def test_smoothness_of_two_classes_is_along_the_one_direction_that_counts(radius):
    """Two linear logits change along the difference of their weights alone, so one step of the power method finds it."""
    classifier, x = nn.Linear(6, 2).double(), normal(40, 6)
    with torch.no_grad():
        difference = classifier.weight[1] - classifier.weight[0]
        worst = radius * difference / difference.norm()
        found = smoothness(classifier, x, radius, torch.Generator().manual_seed(0))
        ends = torch.stack([moved(classifier, x, sign * worst) for sign in (1, -1)])
    assert found.shape == (40,) and (found > 0).all()
    torch.testing.assert_close((ends - found).abs().amin(0), torch.zeros(40).double(), rtol=0, atol=1e-6)


def test_smoothness_is_worse_than_random_directions():
    classifier, x = nn.Sequential(dense(30, 20, norm=False), nn.Linear(20, 10)).double(), normal(50, 30)
    with torch.no_grad():
        found = smoothness(classifier, x, 0.5, torch.Generator().manual_seed(0))
        offsets = [nn.functional.normalize(normal(50, 30, seed=seed), dim=1) / 2 for seed in range(1, 21)]
        random = torch.stack([moved(classifier, x, offset) for offset in offsets])
    assert (found > random.mean(0)).all() and found.mean() > 3 * random.mean()


def test_smoothness_moves_the_moved_prediction_towards_the_first():
    """The gradient of the KL with the offset and the first prediction held fixed."""
    classifier, x = nn.Linear(5, 3).double(), normal(8, 5)
    found = smoothness(classifier, x, 1.0, torch.Generator().manual_seed(0))
    with torch.enable_grad():  # the offset, by the same stream
        noise = torch.randn(8, 5, generator=torch.Generator().manual_seed(0)).double()
        probe = (0.1 * nn.functional.normalize(noise, dim=1)).requires_grad_()
        (gradient,) = torch.autograd.grad(moved(classifier, x, probe).sum(), probe)
    offset, first = nn.functional.normalize(gradient, dim=1), classifier(x).detach()
    expected = kl_divergence(Categorical(logits=first), Categorical(logits=classifier(x + offset)))
    torch.testing.assert_close(found, expected, rtol=1e-4, atol=1e-9)
    for ours, theirs in zip(
        *(torch.autograd.grad(term.sum(), classifier.parameters()) for term in (found, expected)), strict=True
    ):
        torch.testing.assert_close(ours, theirs, rtol=1e-4, atol=1e-9)
        assert ours.abs().max() > 0


def test_smoothness_repeats_under_its_generator_and_a_classifier_that_does_not_look_is_smooth():
    classifier, x, before = nn.Linear(5, 3).double(), normal(4, 5), torch.get_rng_state()
    first, again = (smoothness(classifier, x, 1.0, torch.Generator().manual_seed(1)) for _ in range(2))
    assert torch.equal(first, again) and torch.equal(torch.get_rng_state(), before)
    nn.init.zeros_(classifier.weight)
    assert smoothness(classifier, x, 1.0).abs().max() < 1e-12


@pytest.mark.parametrize("radius", [0.0, -1.0, float("nan")])
def test_smoothness_needs_a_radius(radius):
    with pytest.raises(ValueError, match=f"^radius must be positive, got {radius}$"):
        smoothness(nn.Linear(2, 2), torch.zeros(1, 2), radius)
