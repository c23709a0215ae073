"""The product of experts against integration, a plain loop and models whose posterior is known; its extremes and errors."""

from __future__ import annotations

import math

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch.distributions import Normal
from torch.utils._python_dispatch import TorchDispatchMode

from latentbook.layers.distributions import DiagonalGaussian, group_index, product_of_experts

INF = math.inf


def gaussian(n: int, dim: int = 3, seed: int = 0, dtype: torch.dtype = torch.float64) -> DiagonalGaussian:
    generator = torch.Generator().manual_seed(seed)
    return DiagonalGaussian(*(torch.randn(n, dim, generator=generator, dtype=dtype) for _ in range(2)))


def standard(dim: int = 3, dtype: torch.dtype = torch.float64) -> DiagonalGaussian:
    return DiagonalGaussian(torch.zeros(dim, dtype=dtype), torch.zeros(dim, dtype=dtype))


def loop(experts: DiagonalGaussian, groups: torch.Tensor, prior: DiagonalGaussian | None = None) -> DiagonalGaussian:
    """What the product is, group by group and without any care for overflow."""
    means, log_vars = [], []
    for label in sorted(set(groups.tolist())):
        mean, precision = experts.mean[groups == label], experts.log_var[groups == label].neg().exp()
        total, weighted = precision.sum(0), (precision * mean).sum(0)
        if prior is not None:
            total = total - (len(mean) - 1) * prior.log_var.neg().exp()
            weighted = weighted - (len(mean) - 1) * prior.log_var.neg().exp() * prior.mean
        means.append(weighted / total)
        log_vars.append(-total.log())
    return DiagonalGaussian(torch.stack(means), torch.stack(log_vars))


def same(found: DiagonalGaussian, expected: DiagonalGaussian, **tolerance) -> None:
    torch.testing.assert_close(found.mean, expected.mean, **tolerance)
    torch.testing.assert_close(found.log_var, expected.log_var, **tolerance)


# Values


def test_the_product_of_two_by_hand():
    experts = DiagonalGaussian(torch.tensor([[0.0], [3.0]]), torch.tensor([[0.0], [math.log(0.5)]]))
    found = product_of_experts(experts, torch.tensor([7, 7]))  # precisions 1 and 2
    same(found, DiagonalGaussian(torch.tensor([[2.0]]), torch.tensor([[-math.log(3.0)]])))


@pytest.mark.parametrize("n", [1, 2, 5])
def test_the_product_is_that_of_the_densities(n):
    """Densities multiplied and normalised on a grid, by the trapezoid rule."""
    experts = gaussian(n, 1, seed=n)
    x = torch.linspace(-12, 12, 40_001, dtype=torch.float64)
    density = Normal(experts.mean, (0.5 * experts.log_var).exp()).log_prob(x).sum(0).exp()
    density = density / torch.trapezoid(density, x)
    mean = torch.trapezoid(density * x, x)
    variance = torch.trapezoid(density * (x - mean).square(), x)
    found = product_of_experts(experts, torch.zeros(n, dtype=torch.int64))
    same(found, DiagonalGaussian(mean.view(1, 1), variance.log().view(1, 1)), rtol=1e-6, atol=1e-6)


labelled = st.lists(st.integers(-(2**40), 2**40) | st.integers(-2, 2), min_size=1, max_size=30)


@settings(max_examples=80, deadline=None)
@given(labelled, st.integers(0, 999), st.booleans())
def test_any_labels_agree_with_a_loop(labels, seed, exact):
    groups = torch.tensor(labels)
    experts = gaussian(len(labels), seed=seed)
    prior = None
    if exact:  # posteriors that are narrower than the prior, whatever it is
        prior = DiagonalGaussian(*(t[0] for t in (gaussian(1, seed=seed + 1).mean, gaussian(1, seed=seed + 2).log_var)))
        experts = DiagonalGaussian(experts.mean, prior.log_var - torch.nn.functional.softplus(experts.log_var))
    same(product_of_experts(experts, groups, prior), loop(experts, groups, prior), rtol=1e-9, atol=1e-9)


@settings(max_examples=40, deadline=None)
@given(labelled, st.integers(0, 999), st.randoms(use_true_random=False))
def test_neither_order_nor_names_matter(labels, seed, chance):
    experts, groups = gaussian(len(labels), seed=seed), torch.tensor(labels)
    expected = product_of_experts(experts, groups)
    order = list(range(len(labels)))
    chance.shuffle(order)
    same(product_of_experts(DiagonalGaussian(experts.mean[order], experts.log_var[order]), groups[order]), expected)
    renamed = torch.searchsorted(groups.sort().values, groups) * 3 - 50  # other names in the same order
    same(product_of_experts(experts, renamed), expected)


def test_products_of_products():
    experts = gaussian(8)
    halves = product_of_experts(experts, torch.tensor([0, 0, 0, 1, 1, 1, 1, 1]))
    whole = product_of_experts(experts, torch.zeros(8, dtype=torch.int64))
    same(product_of_experts(halves, torch.tensor([4, 4])), whole)


def test_groups_of_one_are_the_experts_themselves():
    experts = gaussian(5)
    same(
        product_of_experts(experts, torch.tensor([3, 1, 2, 9, -4])),
        DiagonalGaussian(experts.mean[[4, 1, 2, 0, 3]], experts.log_var[[4, 1, 2, 0, 3]]),
    )
    same(product_of_experts(experts, torch.arange(5), standard()), experts)
    one = DiagonalGaussian(experts.mean[:1], experts.log_var[:1])
    same(product_of_experts(one, torch.tensor([8])), one)


@pytest.mark.parametrize("dtype", [torch.int8, torch.uint8, torch.int16, torch.int32, torch.int64])
def test_integer_labels_of_any_type(dtype):
    experts, groups = gaussian(6), torch.tensor([3, 0, 3, 100, 0, 3])
    same(product_of_experts(experts, groups.to(dtype)), loop(experts, groups))


def test_more_evidence_narrows_and_n_copies_divide_the_variance_by_n():
    one = gaussian(1)
    for n in (2, 7, 1000):
        copies = DiagonalGaussian(one.mean.expand(n, 3), one.log_var.expand(n, 3))
        found = product_of_experts(copies, torch.zeros(n, dtype=torch.int64))
        same(found, DiagonalGaussian(one.mean, one.log_var - math.log(n)))


def test_group_index_counts():
    count, index, sizes = group_index(torch.tensor([5, -1, 5, 7]), 4)
    assert (count, index.tolist(), sizes.tolist()) == (3, [1, 0, 1, 2], [1, 2, 1])


def test_the_number_of_operations_does_not_grow_with_the_batch():
    """Neither examples nor groups are looped over."""

    class Count(TorchDispatchMode):
        def __init__(self):
            super().__init__()
            self.calls = 0

        def __torch_dispatch__(self, function, types, args=(), kwargs=None):
            self.calls += 1
            return function(*args, **(kwargs or {}))

    counts = []
    for n, groups in ((2, 1), (500, 3), (500, 400)):
        with Count() as counter:
            product_of_experts(
                gaussian(n),
                torch.arange(n) % groups,
                DiagonalGaussian(torch.zeros(3).double(), torch.full((3,), 9.0).double()),
            )
        counts.append(counter.calls)
    assert len(set(counts)) == 1 and counts[0] < 80


# The prior counted once


def test_the_exact_combination_is_the_posterior_of_a_gaussian_model():
    """c ~ N(m, diag v), x_i = c + noise of variance s: the posterior of n observations in closed form, in two dimensions."""
    mean, variance, noise = torch.tensor([1.0, -2.0]).double(), torch.tensor([4.0, 0.25]).double(), 0.5
    x = torch.randn(6, 2, generator=torch.Generator().manual_seed(0), dtype=torch.float64)
    single = DiagonalGaussian(
        (mean / variance + x / noise) / (1 / variance + 1 / noise), -(1 / variance + 1 / noise).log().expand(6, 2)
    )
    groups = torch.tensor([0, 1, 1, 1, 1, 1])
    precision = 1 / variance + torch.tensor([[1.0], [5.0]]).double() / noise
    weighted = mean / variance + torch.stack((x[0], x[1:].sum(0))) / noise
    exact = DiagonalGaussian(weighted / precision, -precision.log())
    same(product_of_experts(single, groups, DiagonalGaussian(mean, variance.log())), exact, rtol=1e-9, atol=1e-9)
    product = product_of_experts(single, groups)
    assert (product.log_var[1] < exact.log_var[1] - 0.05).all()  # counts the prior five times: too sure
    assert ((product.mean[1] - mean).abs() < (exact.mean[1] - mean).abs()).all()  # and drawn to its mean


def test_posteriors_that_say_nothing_give_the_prior_back():
    prior = DiagonalGaussian(torch.tensor([1.0, -1.0]).double(), torch.tensor([0.5, 2.0]).double())
    silent = DiagonalGaussian(prior.mean.expand(9, 2), prior.log_var.expand(9, 2))
    groups = torch.zeros(9, dtype=torch.int64)
    same(product_of_experts(silent, groups, prior), DiagonalGaussian(prior.mean[None], prior.log_var[None]))
    same(product_of_experts(silent, groups), DiagonalGaussian(prior.mean[None], prior.log_var[None] - math.log(9)))


def test_experts_wider_than_the_prior_are_refused():
    wide = DiagonalGaussian(torch.zeros(4, 2), torch.tensor([[0.0, 3.0]] * 4))
    product_of_experts(wide, torch.arange(4), standard(2, torch.float32))  # alone, nothing is divided
    with pytest.raises(ValueError, match=r"in 1 of 2 groups the experts are wider than the prior.*Leave the prior out"):
        product_of_experts(wide, torch.tensor([0, 0, 0, 1]), standard(2, torch.float32))


# Gradients


def test_gradients_are_exact():
    experts, groups = gaussian(7), torch.tensor([4, 4, 0, 2, 0, 4, 4])
    inputs = (experts.mean.requires_grad_(), experts.log_var.requires_grad_())

    def product(mean, log_var):
        found = product_of_experts(DiagonalGaussian(mean, log_var), groups)
        return found.mean, found.log_var

    assert torch.autograd.gradcheck(product, inputs)
    assert torch.autograd.gradgradcheck(product, inputs)

    def exact(mean, log_var, prior_mean, prior_log_var):
        narrow = DiagonalGaussian(mean, prior_log_var - torch.nn.functional.softplus(log_var))
        found = product_of_experts(narrow, groups, DiagonalGaussian(prior_mean, prior_log_var))
        return found.mean, found.log_var

    prior = tuple(torch.randn(3, dtype=torch.float64).requires_grad_() for _ in range(2))
    assert torch.autograd.gradcheck(exact, (*inputs, *prior))


def test_every_expert_of_a_group_gets_a_gradient_and_no_other():
    experts = gaussian(6)
    mean, log_var = experts.mean.requires_grad_(), experts.log_var.requires_grad_()
    found = product_of_experts(DiagonalGaussian(mean, log_var), torch.tensor([0, 1, 0, 1, 0, 2]))
    (found.mean[1].sum() + found.log_var[1].sum()).backward()
    for gradient in (mean.grad, log_var.grad):
        assert (gradient[[1, 3]] != 0).all() and (gradient[[0, 2, 4, 5]] == 0).all()


# Extremes

EDGE = 12 * math.log(10)  # variances from 1e-12 to 1e12


@settings(max_examples=60, deadline=None)
@given(
    st.lists(
        st.tuples(st.floats(-EDGE, EDGE), st.floats(-50, 50), st.integers(0, 3)),
        min_size=1,
        max_size=12,
    ),
    st.booleans(),
)
def test_variances_from_1e_minus_12_to_1e12(rows, upward):
    log_var, mean, groups = (torch.tensor(column) for column in zip(*rows, strict=True))
    mean, log_var = mean.float()[:, None].requires_grad_(), log_var.float()[:, None].requires_grad_()
    found = product_of_experts(DiagonalGaussian(mean, log_var), groups)
    same(
        found,
        loop(DiagonalGaussian(mean.detach().double(), log_var.detach().double()), groups),
        rtol=1e-4,
        atol=1e-3,
        check_dtype=False,
    )
    ((1 if upward else -1) * (found.mean.sum() + found.log_var.sum())).backward()
    assert mean.grad.isfinite().all() and log_var.grad.isfinite().all()
    torch.testing.assert_close(log_var.grad.abs().sum() > 0, torch.tensor(True))


@pytest.mark.parametrize("edge", [-500.0, 500.0])
def test_far_beyond_what_exp_can_hold(edge):
    """exp(500) is no float32: the naive sum is inf or 0, in log space nothing happens."""
    log_var = torch.tensor([[edge], [edge + math.log(2)], [edge]], requires_grad=True)
    mean = torch.tensor([[1.0], [3.0], [4.0]], requires_grad=True)
    found = product_of_experts(DiagonalGaussian(mean, log_var), torch.zeros(3, dtype=torch.int64))
    same(found, DiagonalGaussian(torch.tensor([[(1 + 1.5 + 4) / 2.5]]), torch.tensor([[edge - math.log(2.5)]])))
    (found.mean.sum() + found.log_var.sum()).backward()
    torch.testing.assert_close(mean.grad.flatten(), torch.tensor([0.4, 0.2, 0.4]))
    assert log_var.grad.isfinite().all()


def one_group(log_var: list[float], mean: list[float]) -> tuple[DiagonalGaussian, torch.Tensor, torch.Tensor]:
    log_var, mean = (torch.tensor(values).unsqueeze(1).requires_grad_() for values in (log_var, mean))
    found = product_of_experts(DiagonalGaussian(mean, log_var), torch.zeros(len(mean), dtype=torch.int64))
    (found.mean.sum() + found.log_var.where(found.log_var.isfinite(), 0).sum()).backward()
    assert mean.grad.isfinite().all() and log_var.grad.isfinite().all()
    return found, mean.grad.flatten(), log_var.grad.flatten()


def test_an_infinite_variance_says_nothing():
    found, mean_gradient, log_var_gradient = one_group([0.0, INF, 0.0], [1.0, 100.0, 2.0])
    same(found, DiagonalGaussian(torch.tensor([[1.5]]), torch.tensor([[-math.log(2)]])))
    assert mean_gradient.tolist() == [0.5, 0.0, 0.5] and log_var_gradient[1] == 0
    silent, mean_gradient, _ = one_group([INF, INF], [1.0, 5.0])  # the limit of equal variances
    assert silent.mean.item() == 3 and silent.log_var.item() == INF and mean_gradient.tolist() == [0.5, 0.5]


def test_a_variance_of_zero_is_certain():
    found, mean_gradient, _ = one_group([0.0, -INF, INF], [1.0, 7.0, 2.0])
    assert found.mean.item() == 7 and found.log_var.item() == -INF and mean_gradient.tolist() == [0, 1, 0]
    both, mean_gradient, _ = one_group([-INF, 3.0, -INF], [1.0, 9.0, 4.0])
    assert both.mean.item() == 2.5 and both.log_var.item() == -INF and mean_gradient.tolist() == [0.5, 0, 0.5]


def test_a_certain_expert_stays_certain_over_the_prior():
    experts = DiagonalGaussian(torch.tensor([[7.0], [1.0]]), torch.tensor([[-INF], [-1.0]]))
    found = product_of_experts(experts, torch.tensor([0, 0]), standard(1, torch.float32))
    assert found.mean.item() == 7 and found.log_var.item() == -INF


# Errors


def test_what_is_not_a_number_is_told():
    for mean, log_var in ((math.nan, 0.0), (0.0, math.nan), (INF, 0.0)):
        experts = DiagonalGaussian(torch.tensor([[0.0], [mean]]), torch.tensor([[0.0], [log_var]]))
        with pytest.raises(ValueError, match="means must be finite and their log-variances no NaN"):
            product_of_experts(experts, torch.tensor([0, 0]))


@pytest.mark.parametrize(
    ("groups", "message"),
    [
        (torch.zeros(3), r"groups must be whole numbers such as int64, got torch.float32: use labels.long\(\)"),
        (torch.zeros(3, dtype=torch.bool), "groups must be whole numbers such as int64, got torch.bool"),
        (torch.zeros(2, dtype=torch.int64), r"groups must be \[3\], one for each example, got \[2\]"),
        (torch.zeros(3, 1, dtype=torch.int64), r"groups must be \[3\], .*, got \[3, 1\]"),
        (torch.zeros(3, 10, dtype=torch.int64), r"groups must be \[3\], .*, got \[3, 10\]"),
    ],
)
def test_labels_of_the_wrong_type_or_length(groups, message):
    with pytest.raises(ValueError, match=message):
        product_of_experts(gaussian(3), groups)


def test_an_empty_batch():
    with pytest.raises(ValueError, match=r"experts must have shape \[batch, latent\], nothing empty, got \[0, 3\]"):
        product_of_experts(gaussian(0), torch.zeros(0, dtype=torch.int64))


@pytest.mark.gpu
def test_the_same_on_an_accelerator():
    experts, groups = gaussian(300), torch.arange(300) % 7
    moved = DiagonalGaussian(experts.mean.cuda(), experts.log_var.cuda())
    found = product_of_experts(moved, groups.cuda())
    same(DiagonalGaussian(found.mean.cpu(), found.log_var.cpu()), product_of_experts(experts, groups))
