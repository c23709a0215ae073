"""The diagonal Gaussian, the Gumbel-softmax and counts against torch's own, Monte Carlo and finite differences."""

from __future__ import annotations

import itertools
import math

import pytest
import torch
import torch.nn.functional as F
from hypothesis import given, settings
from hypothesis import strategies as st
from torch.distributions import Categorical, Normal, kl_divergence
from unit_harness import normal

from latentbook.layers.distributions import (
    DiagonalGaussian,
    bernoulli_nll,
    check_temperature,
    count_posterior,
    gumbel_softmax,
    label_kl,
    one_hot,
    presence_log_probs,
    standard_normal,
)

numbers = st.floats(-5, 5, width=32)
pairs = st.lists(st.tuples(numbers, numbers, numbers, numbers, numbers), min_size=1, max_size=8)


def as_normal(gaussian: DiagonalGaussian) -> Normal:
    return Normal(gaussian.mean, gaussian.log_var.exp().sqrt())


def random_gaussian(*shape: int, seed: int = 0, dtype: torch.dtype = torch.float32) -> DiagonalGaussian:
    generator = torch.Generator().manual_seed(seed)
    return DiagonalGaussian(*(torch.randn(*shape, generator=generator, dtype=dtype) for _ in range(2)))


@settings(max_examples=60, deadline=None)
@given(pairs)
def test_closed_forms_agree_with_torch(rows):
    mean, log_var, other_mean, other_log_var, value = torch.tensor(rows, dtype=torch.float64).T
    p, q = DiagonalGaussian(mean, log_var), DiagonalGaussian(other_mean, other_log_var)
    standard = Normal(torch.zeros_like(mean), torch.ones_like(mean))
    close = {"rtol": 1e-5, "atol": 1e-5}
    torch.testing.assert_close(p.kl(), kl_divergence(as_normal(p), standard), **close)
    torch.testing.assert_close(p.kl(q), kl_divergence(as_normal(p), as_normal(q)), **close)
    torch.testing.assert_close(p.log_prob(value), as_normal(p).log_prob(value), **close)
    assert (p.kl() >= -1e-12).all() and (p.kl(q) >= -1e-9 * p.kl(q).abs().clamp(min=1)).all()


def test_closed_forms_hold_in_single_precision():
    p, q = random_gaussian(50, 4), random_gaussian(50, 4, seed=1)
    standard = Normal(torch.zeros(50, 4), torch.ones(50, 4))
    torch.testing.assert_close(p.kl(), kl_divergence(as_normal(p), standard), rtol=1e-5, atol=1e-5)
    torch.testing.assert_close(p.kl(q), kl_divergence(as_normal(p), as_normal(q)), rtol=1e-5, atol=1e-5)


def test_log_prob_is_exact_in_double_precision():
    gaussian = random_gaussian(20, 3, dtype=torch.float64)
    value = torch.linspace(-2, 2, 60, dtype=torch.float64).view(20, 3)
    torch.testing.assert_close(gaussian.log_prob(value), as_normal(gaussian).log_prob(value), rtol=0, atol=1e-12)


def test_kl_to_itself_is_zero_and_the_standard_normal_is_the_default():
    gaussian, zeros = random_gaussian(7, 5), torch.zeros(7, 5)
    assert gaussian.kl(gaussian).abs().max() < 1e-6
    torch.testing.assert_close(gaussian.kl(), gaussian.kl(DiagonalGaussian(zeros, zeros)))
    assert DiagonalGaussian(zeros, zeros).kl().abs().max() == 0
    known = DiagonalGaussian(torch.tensor([[3.0, 0.0]]), torch.tensor([[0.0, 1.0]])).kl()
    torch.testing.assert_close(known, torch.tensor([[4.5, 0.5 * (torch.e - 2)]]))


def test_kl_agrees_with_monte_carlo():
    p, q = random_gaussian(6), random_gaussian(6, seed=3)
    wide = DiagonalGaussian(p.mean.expand(200_000, 6), p.log_var.expand(200_000, 6))
    z = wide.sample(generator=torch.Generator().manual_seed(0))
    difference = p.log_prob(z) - q.log_prob(z)
    error = difference.std(0) / 200_000**0.5
    assert ((difference.mean(0) - p.kl(q)).abs() < 5 * error).all()
    assert (error < 0.02 * (1 + p.kl(q))).all()  # so that the line above says something


def test_sample_takes_the_noise_it_is_given():
    gaussian, noise = random_gaussian(4, 3), torch.randn(4, 3, generator=torch.Generator().manual_seed(9))
    torch.testing.assert_close(gaussian.sample(noise), gaussian.mean + gaussian.log_var.exp().sqrt() * noise)
    assert torch.equal(gaussian.sample(torch.zeros(4, 3)), gaussian.mean)


def test_sample_has_the_right_moments():
    log_var = torch.tensor([-2.0, 0.0, 2.0]).expand(100_000, 3)
    z = DiagonalGaussian(torch.tensor([1.0, -3.0, 0.0]).expand(100_000, 3), log_var).sample(
        generator=torch.Generator().manual_seed(1)
    )
    torch.testing.assert_close(z.mean(0), torch.tensor([1.0, -3.0, 0.0]), rtol=0, atol=0.05)
    torch.testing.assert_close(z.var(0).log(), log_var[0], rtol=0, atol=0.05)


def test_sample_repeats_under_a_generator_and_leaves_torchs_random_state():
    gaussian, before = random_gaussian(5, 2), torch.get_rng_state()
    first, again, other = (gaussian.sample(generator=torch.Generator().manual_seed(seed)) for seed in (4, 4, 5))
    assert torch.equal(first, again) and not torch.equal(first, other)
    assert torch.equal(torch.get_rng_state(), before)


def test_sample_without_a_generator_follows_torchs_own_seed():
    gaussian = random_gaussian(5, 2)
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(3)
        first = gaussian.sample()
        second = gaussian.sample()
        torch.manual_seed(3)
        assert torch.equal(first, gaussian.sample()) and not torch.equal(first, second)


def test_standard_normal_follows_shape_and_precision():
    noise = standard_normal((3, 2), torch.zeros(1, dtype=torch.float64), torch.Generator().manual_seed(0))
    assert noise.shape == (3, 2) and noise.dtype == torch.float64


@pytest.mark.parametrize("shapes", [((2, 3), (3, 2)), ((2, 3), (3,)), ((1, 3), (2, 3))])
def test_shapes_must_agree(shapes):
    with pytest.raises(ValueError, match="mean and log_var must have one shape, got "):
        DiagonalGaussian(*(torch.zeros(shape) for shape in shapes))


def test_gradients_are_exact():
    inputs = [torch.randn(3, 2, generator=torch.Generator().manual_seed(i), dtype=torch.float64) for i in range(5)]
    inputs = [tensor.requires_grad_() for tensor in inputs]

    def kl(mean, log_var, other_mean, other_log_var, _):
        return DiagonalGaussian(mean, log_var).kl(DiagonalGaussian(other_mean, other_log_var))

    assert torch.autograd.gradcheck(kl, inputs)
    assert torch.autograd.gradcheck(lambda mean, log_var: DiagonalGaussian(mean, log_var).kl(), inputs[:2])
    assert torch.autograd.gradcheck(lambda m, v, noise: DiagonalGaussian(m, v).sample(noise), inputs[:3])
    assert torch.autograd.gradcheck(lambda m, v, value: DiagonalGaussian(m, v).log_prob(value), inputs[:3])


def test_extremes_stay_finite():
    extreme = DiagonalGaussian(torch.tensor([[0.0, 50.0, -50.0]]), torch.tensor([[-80.0, 0.0, 20.0]]))
    assert extreme.kl().isfinite().all() and extreme.sample(torch.ones(1, 3)).isfinite().all()


# Classes


@settings(max_examples=60, deadline=None)
@given(st.lists(st.floats(-30, 30, width=32), min_size=2, max_size=12))
def test_label_kl_is_torchs(row):
    logits = torch.tensor([row, row[::-1]], dtype=torch.float64)
    uniform = Categorical(logits=torch.zeros_like(logits))
    torch.testing.assert_close(
        label_kl(logits), kl_divergence(Categorical(logits=logits), uniform), rtol=1e-9, atol=1e-9
    )


def test_label_kl_knows_the_two_ends_and_keeps_its_batch():
    sure = torch.tensor([[[1000.0, 0.0, -1000.0]], [[0.0, 0.0, 0.0]]])
    assert label_kl(sure).flatten().tolist() == pytest.approx([torch.tensor(3.0).log().item(), 0.0], abs=1e-6)
    assert label_kl(sure).shape == (2, 1)


@pytest.mark.parametrize("hard", [True, False], ids=["hard", "soft"])
@pytest.mark.parametrize("temperature", [0.3, 1.0, 4.0])
def test_gumbel_softmax_is_torchs_for_the_same_noise(hard, temperature):
    """torch draws the Gumbel noise as -log of an exponential number e; ours has u = exp(-e)."""
    ours, theirs = (normal(200, 7, seed=1).requires_grad_() for _ in range(2))
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(3)
        expected = F.gumbel_softmax(theirs, temperature, hard)
        torch.manual_seed(3)
        uniform = torch.exp(-torch.empty(200, 7).exponential_())
    drawn = gumbel_softmax(ours, temperature, hard, uniform)
    torch.testing.assert_close(drawn, expected, rtol=1e-4, atol=1e-5)
    for y in (drawn, expected):
        (y * normal(200, 7, seed=2)).sum().backward()
    torch.testing.assert_close(ours.grad, theirs.grad, rtol=1e-3, atol=1e-4)


@pytest.mark.parametrize("temperature", [0.1, 1.0, 10.0])
def test_the_best_class_is_drawn_as_often_as_softmax_says(temperature):
    """At every temperature. The chi-square of 5 classes has 4 degrees of freedom: above 30 once in 200,000 times."""
    n, logits = 50_000, torch.tensor([0.0, 1.0, -1.0, 2.0, 0.5])
    y = gumbel_softmax(logits.expand(n, 5), temperature, hard=True, generator=torch.Generator().manual_seed(0))
    expected = n * logits.softmax(0)
    assert float(((y.sum(0) - expected).square() / expected).sum()) < 30


def test_a_hard_draw_is_one_hot_with_the_soft_draws_gradient():
    logits, weights = normal(50, 10).requires_grad_(), normal(50, 10, seed=1)
    uniform = torch.rand(50, 10, generator=torch.Generator().manual_seed(2))
    hard, soft = (gumbel_softmax(logits, 0.7, kind, uniform) for kind in (True, False))
    torch.testing.assert_close(hard, one_hot(soft.argmax(1), soft), rtol=0, atol=1e-6)
    torch.testing.assert_close(soft.sum(1), torch.ones(50))
    assert soft.min() > 0 and (hard - soft).abs().max() > 0.01  # soft is soft
    gradients = [torch.autograd.grad((y * weights).sum(), logits)[0] for y in (hard, soft)]
    torch.testing.assert_close(*gradients)
    assert gradients[0].abs().max() > 0


def test_the_temperature_leads_from_one_hot_to_uniform():
    logits, uniform = normal(30, 4), torch.rand(30, 4, generator=torch.Generator().manual_seed(1))
    cold, hot = (gumbel_softmax(logits, temperature, False, uniform) for temperature in (1e-3, 1e4))
    torch.testing.assert_close(cold, gumbel_softmax(logits, 1.0, True, uniform), rtol=0, atol=1e-3)
    torch.testing.assert_close(hot, torch.full((30, 4), 0.25), rtol=0, atol=1e-3)


def test_gumbel_draws_repeat_under_a_generator_and_leave_torchs_random_state():
    logits, before = normal(6, 10), torch.get_rng_state()
    first, again, other = (
        gumbel_softmax(logits, 1.0, False, generator=torch.Generator().manual_seed(seed)) for seed in (4, 4, 5)
    )
    assert torch.equal(first, again) and not torch.equal(first, other)
    uniform = torch.rand(6, 10, generator=torch.Generator().manual_seed(4))
    assert torch.equal(first, gumbel_softmax(logits, 1.0, False, uniform))
    assert torch.equal(torch.get_rng_state(), before)


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16, torch.float32, torch.float64])
def test_gumbel_draws_are_finite_in_every_precision(dtype):
    """In half precision numbers just below 1 round to 1; rand itself can return 0."""
    logits = torch.zeros(100_000, 2, dtype=dtype)
    drawn = gumbel_softmax(logits, 0.5, False, generator=torch.Generator().manual_seed(0))
    assert drawn.isfinite().all()
    ends = torch.tensor([[0.0, 1.0], [1.0, 0.0], [0.0, 0.0], [1.0, 1.0]])
    y = gumbel_softmax(logits[:4], 0.5, False, ends)
    assert y.isfinite().all() and y.argmax(1)[:2].tolist() == [1, 0] and y[2:].flatten().tolist() == [0.5] * 4


def test_gradients_of_classes_are_exact():
    logits = normal(3, 4, dtype=torch.float64).requires_grad_()
    uniform = torch.rand(3, 4, generator=torch.Generator().manual_seed(1), dtype=torch.float64)
    assert torch.autograd.gradcheck(lambda x: gumbel_softmax(x, 0.6, False, uniform), [logits])
    assert torch.autograd.gradcheck(label_kl, [logits])


def test_one_hot_follows_columns_and_precision():
    like, labels = torch.zeros(1, 4, dtype=torch.float64), torch.tensor([[3, 0], [1, 1]])
    rows = one_hot(labels, like)
    assert rows.shape == (2, 2, 4) and rows.dtype == torch.float64
    assert torch.equal(rows.argmax(-1), labels) and (rows.sum(-1) == 1).all() and set(rows.unique().tolist()) == {0, 1}
    assert one_hot(labels, like, 7).shape == (2, 2, 7)


@pytest.mark.parametrize("temperature", [0.0, -1.0, float("inf"), float("nan"), 0])
def test_temperatures_that_are_none(temperature):
    message = f"temperature must be a finite number above 0, got {temperature}"
    with pytest.raises(ValueError, match=f"^{message}$"):
        check_temperature(temperature)
    with pytest.raises(ValueError, match=message):
        gumbel_softmax(torch.zeros(2, 3), temperature, True)


def test_bernoulli_nll_is_torchs_at_ordinary_and_extreme_logits():
    logits = torch.cat((torch.linspace(-30, 30, 601), torch.tensor([-1e30, -200.0, 0.0, 200.0, 1e30])))
    for x in (torch.zeros_like(logits), torch.ones_like(logits), torch.linspace(0, 1, len(logits))):
        exact = F.binary_cross_entropy_with_logits(logits.double(), x.double(), reduction="none")
        torch.testing.assert_close(bernoulli_nll(logits, x).double(), exact, atol=1e-6, rtol=1e-5)


def test_bernoulli_nll_has_torchs_gradients_also_at_zero():
    logits = torch.tensor([-40.0, -1.5, 0.0, 0.3, 40.0], dtype=torch.double, requires_grad=True)
    x = torch.tensor([0.2, 1.0, 0.7, 0.0, 0.5], dtype=torch.double, requires_grad=True)
    ours = torch.autograd.grad(bernoulli_nll(logits, x).sum(), (logits, x))
    torchs = torch.autograd.grad(F.binary_cross_entropy_with_logits(logits, x, reduction="sum"), (logits, x))
    for found, expected in zip(ours, torchs, strict=True):
        torch.testing.assert_close(found, expected)
    away = torch.randn(2, 3, dtype=torch.double, requires_grad=True)  # finite differences, once and twice
    grey = torch.rand(2, 3, dtype=torch.double)
    assert torch.autograd.gradcheck(lambda a: bernoulli_nll(a, grey), away)
    assert torch.autograd.gradgradcheck(lambda a: bernoulli_nll(a, grey), away)


def test_bernoulli_nll_is_computed_in_the_targets_precision():
    logits, x = torch.randn(4, 5).bfloat16().requires_grad_(), torch.rand(4, 5)
    nll = bernoulli_nll(logits, x)
    assert nll.dtype == x.dtype
    nll.sum().backward()
    assert logits.grad.dtype == torch.bfloat16 and logits.grad.any()


def test_bernoulli_nll_compares_images_of_one_shape():
    with pytest.raises(ValueError, match=r"one shape, got \[2, 3\] and \[3\]"):
        bernoulli_nll(torch.zeros(2, 3), torch.zeros(3))


# Counts


def brute_counts(p: list[float]) -> list[float]:
    """q(n) by all 2^N patterns of presence, each counted up to its first zero."""
    q = [0.0] * (len(p) + 1)
    for pattern in itertools.product((0, 1), repeat=len(p)):
        n = (*pattern, 0).index(0)
        q[n] += math.prod(p[i] if present else 1 - p[i] for i, present in enumerate(pattern))
    return q


@settings(max_examples=60, deadline=None)
@given(st.lists(st.floats(-8, 8), min_size=1, max_size=5), st.floats(0, 0.49))
def test_the_count_posterior_is_the_sum_over_all_patterns_of_presence(logits, floor):
    p = [floor + (1 - 2 * floor) / (1 + math.exp(-logit)) for logit in logits]
    log_q = count_posterior(torch.tensor(logits, dtype=torch.float64), floor)
    torch.testing.assert_close(log_q.exp(), torch.tensor(brute_counts(p), dtype=torch.float64), rtol=1e-9, atol=1e-12)


@pytest.mark.parametrize("floor", [0.0, 0.1, 0.3])
def test_the_count_posterior_sums_to_one_and_has_gradients_at_extremes(floor):
    logits = torch.tensor([[50.0, -50, 0], [1e4, 1e4, 1e4], [-1e4, 50, -50], [-200, -200, 200]], requires_grad=True)
    log_q = count_posterior(logits, floor)
    torch.testing.assert_close(log_q.exp().sum(-1), torch.ones(4))
    assert log_q.isfinite().all()
    (-log_q[:, 0].sum()).backward()
    assert logits.grad.isfinite().all()
    assert logits.grad[0, 0] > (0.99 if floor == 0 else 0)  # as good as impossible, and still pulled back


@pytest.mark.parametrize("floor", [0.0, 0.2])
def test_gradients_of_the_count_posterior_by_finite_differences(floor):
    logits = torch.randn(3, 4, dtype=torch.float64, generator=torch.Generator().manual_seed(0)).requires_grad_()
    assert torch.autograd.gradcheck(lambda logits: count_posterior(logits, floor), logits)


def test_presence_stays_between_floor_and_one_less_floor():
    on, off = presence_log_probs(torch.tensor([-1e3, -1.0, 0.0, 1.0, 1e3]), 0.3)
    torch.testing.assert_close(on.exp() + off.exp(), torch.ones(5))
    torch.testing.assert_close(on.exp()[[0, 2, 4]], torch.tensor([0.3, 0.5, 0.7]))


@pytest.mark.parametrize("floor", [-0.1, 0.5, math.nan])
def test_a_floor_that_leaves_no_room_is_refused(floor):
    with pytest.raises(ValueError, match=r"floor must be (in \[0, 0.5\)|a finite number)"):
        count_posterior(torch.zeros(2, 3), floor)
