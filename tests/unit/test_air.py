"""Attend, Infer, Repeat: sizes, every objective by brute force, unbiased gradients, extremes, bounds, errors."""

from __future__ import annotations

import itertools
import math
from dataclasses import replace

import numpy as np
import pytest
import torch
from torch import nn
from torch.distributions import Bernoulli, Normal, kl_divergence
from unit_harness import seeded

from latentbook.data.digits import Batch, load_digits
from latentbook.data.scenes import Layout, draw_scenes, fresh_scenes
from latentbook.layers.distributions import count_posterior
from latentbook.layers.spatial_transformer import image_to_window, window_to_image
from latentbook.models.air import AIR, draw_counts
from latentbook.models.air_objectives import Steps, concrete, count_log_probs, exact, leave_one_out, reinforce
from latentbook.models.air_parts import OUTPUTS, TUTORIAL, AIRConfig, Recurrent, WhatVAE
from latentbook.training.loop import fit, initialise, load_weights, save_weights

SMALL = {"canvas": 16, "window": 8, "hidden_dim": 12, "what_dim": 4, "what_hidden_dim": 10}
VARIANCE = AIRConfig().variance
OBJECTIVES = [
    {"objective": "exact"},
    {"objective": "reinforce"},
    {"objective": "reinforce", "published": True},
    {"objective": "reinforce", "learnt_baseline": False},
    {"objective": "concrete"},
    {"stops": False, "hears_presence": True},
    {"residual": True},
]
STANDARD = Normal(torch.zeros((), dtype=torch.float64), torch.ones((), dtype=torch.float64))


def build(seed: int = 0, **choices) -> AIR:
    """A small model whose heads say something, in double precision: all its weights are moved off their start."""
    model = initialise(lambda: AIR(AIRConfig(**{**SMALL, **choices})), seed).double()
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.add_(torch.randn(parameter.shape, generator=seeded(seed + 1)) * 0.15)
        model.inference.last.bias[0] = 0.3
    return model


def scenes(n: int = 3, canvas: int = 16, seed: int = 0) -> torch.Tensor:
    return torch.rand(n, 1, canvas, canvas, generator=seeded(seed)).double()


def batch_of(n: int = 3, seed: int = 0) -> Batch:
    return Batch(scenes(n, seed=seed), torch.zeros(n, dtype=torch.int64))


def noise_for(model: AIR, n: int = 3, seed: int = 5) -> torch.Tensor:
    return torch.randn(n, model.config.steps, model.z_dim, generator=seeded(seed)).double()


def total(terms: dict[str, torch.Tensor]) -> torch.Tensor:
    return sum(terms.values())


def gradients(model: AIR, objective: torch.Tensor) -> dict[str, torch.Tensor]:
    """The gradient of every parameter, zero where there is none."""
    names, parameters = zip(*model.named_parameters(), strict=True)
    found = torch.autograd.grad(objective, parameters, allow_unused=True, retain_graph=True)
    return {n: torch.zeros_like(p) if g is None else g for n, p, g in zip(names, parameters, found, strict=True)}


# Sizes and the beginning


def test_the_sizes_and_the_start_are_the_published_ones():
    model = AIR(TUTORIAL)
    assert (model.config.variance, model.config.kl_weight, model.config.presence_prior) == (0.36, 0.7, 0.01)
    sizes = {name: (m.in_features, m.out_features) for name, m in model.named_modules() if isinstance(m, nn.Linear)}
    cell = {"of_image.0": (2500, 256), "of_rest": (24 + 256, 256), "second": (256, 256)}
    assert sizes == {
        **{f"inference.{name}": size for name, size in cell.items()},
        "inference.last": (256, 256 + 7),
        "what.encoder.0": (576, 400),
        "what.encoder.2": (400, 40),
        "what.decoder.0": (20, 400),
        "what.decoder.2": (400, 576),
        **{f"baseline.{name}": size for name, size in cell.items()},
        "baseline.last": (256, 256 + 1),
    }
    looks = AIR().inference.of_image
    assert [tuple(p.shape) for p in looks.parameters() if p.ndim > 1] == [
        (16, 1, 8, 8),
        (32, 16, 3, 3),
        (256, 32 * 12 * 12),
    ]
    assert not hasattr(AIR(), "baseline") and model.config.steps == 3
    path = model.attend(scenes(2, 50).float(), torch.zeros(2, 3, 23))
    assert (path.logits == 2).all()
    assert (path.q.mean[..., :3] == torch.tensor([3.0, 0, 0])).all() and (path.q.log_var[..., :3] == -3).all()
    windows = model.what.decode(torch.zeros(1, 20))
    assert 0.03 < windows.mean() < 0.07  # sigmoid(-3), nearly black


def test_the_first_layer_is_one_layer_of_all_its_inputs():
    torch.manual_seed(0)
    cell = Recurrent(6, 5, 8, 7)
    x, z, state = torch.randn(4, 36), torch.randn(4, 5), torch.randn(4, 8)
    whole = nn.Linear(36 + 5 + 8, 8)
    with torch.no_grad():
        whole.weight.copy_(torch.cat((cell.of_image[-1].weight, cell.of_rest.weight), 1))
        whole.bias.copy_(cell.of_image[-1].bias)
    plainly = nn.Sequential(whole, nn.ReLU(), cell.second, nn.ReLU(), cell.last)(torch.cat((x, z, state), 1))
    outputs, after = cell(cell.of_image(x), z, state)
    torch.testing.assert_close(torch.cat((outputs, after), 1), plainly)
    for part in (cell.of_image[-1].weight.detach(), cell.of_rest.weight.detach()):  # and starts as one
        assert part.abs().max() <= 49**-0.5 and part.std() == pytest.approx((49 * 3) ** -0.5, rel=0.2)


def test_priors_are_buffers_and_move_with_the_model():
    model = build()
    priors = {"prior_mean", "prior_log_var", "presence_logit", "count_prior"}
    assert {name for name, _ in model.named_buffers()} == priors
    assert all(buffer.dtype == torch.float64 for buffer in model.buffers())
    assert {buffer.device.type for buffer in model.to("meta").buffers()} == {"meta"}
    assert not priors & set(model.state_dict())  # they follow from the configuration
    model = AIR()
    assert model.prior_mean[:4].tolist() == pytest.approx([2.2, 0, 0, 0]) and len(model.prior_mean) == 23
    torch.testing.assert_close(model.prior_log_var.exp()[:4], torch.tensor([0.01, 1, 1, 1]))
    torch.testing.assert_close(model.count_prior, torch.tensor([0.99, 0.99 * 0.01, 0.99 * 1e-4, 1e-6]))


# The path and the picture


def test_the_path_is_the_tutorials_recurrence_with_every_object_there():
    model, images = build(), scenes()
    noise = noise_for(model)
    path, c = model.attend(images, noise), model.config
    z, state = torch.ones(3, 8).double(), torch.zeros(3, 12).double()
    for i in range(c.steps):
        outputs, state = model.inference(model.inference.of_image(images.flatten(1)), z, state)
        torch.testing.assert_close(path.logits[:, i], outputs[:, 0])
        where = outputs[:, 1:4] + torch.exp(0.5 * outputs[:, 4:].clamp(-8, 1)) * noise[:, i, :3]
        placed = torch.cat((where[:, :1].clamp(1, 8), where[:, 1:]), 1)
        crop = image_to_window(images, placed, 8)
        torch.testing.assert_close(path.crops[:, i], crop)
        mean, log_var = model.what.encoder(crop.flatten(1)).chunk(2, 1)
        what = mean + torch.exp(0.5 * log_var.clamp(-8, 1)) * noise[:, i, 3:]
        torch.testing.assert_close(path.z[:, i], torch.cat((where, what), 1))
        z = torch.cat((torch.ones(3, 1).double(), placed, what), 1)


def picture(model: AIR, z: torch.Tensor, n: int) -> torch.Tensor:
    """The canvas of the first n objects, pasted one after the other."""
    canvas = torch.zeros(1, 1, 16, 16).double()
    for where, what in zip(model.place(z)[:n, :3], z[:n, 3:], strict=True):
        canvas = canvas + window_to_image(model.what.decode(what[None]), where[None], 16)
    return canvas


def cost_of_codes(model: AIR, path, i: int, n: int) -> torch.Tensor:
    """The divergences of the first n objects of scene i, by torch.distributions."""
    cost = torch.zeros(()).double()
    for j in range(n):
        q = Normal(path.q.mean[i, j], torch.exp(0.5 * path.q.log_var[i, j]))
        prior = Normal(torch.tensor([2.2, 0, 0]).double(), torch.tensor([0.1, 1, 1]).double())
        cost = cost + kl_divergence(Normal(q.mean[:3], q.stddev[:3]), prior).sum()
        cost = cost + kl_divergence(Normal(q.mean[3:], q.stddev[3:]), STANDARD).sum()
    return cost


def patterns_of(p: torch.Tensor):
    """Every pattern of presence of all steps, its probability and the count it stands for."""
    for pattern in itertools.product((0.0, 1.0), repeat=len(p)):
        yield Bernoulli(p).log_prob(torch.tensor(pattern).double()).sum().exp(), (*pattern, 0.0).index(0.0)


def drawn_picture(model: AIR, z: torch.Tensor, used: list[int]) -> torch.Tensor:
    """The canvas of some of the objects, pasted one after the other."""
    return picture(model, z[used], len(used))


def nll_of(model: AIR, x: torch.Tensor, mean: torch.Tensor) -> torch.Tensor:
    if model.config.likelihood == "gaussian":
        return ((x - mean) ** 2).sum() / (2 * VARIANCE)
    return -Bernoulli(mean.clamp(1e-3, 1 - 1e-3), validate_args=False).log_prob(x).sum()


@pytest.mark.parametrize("likelihood", ["gaussian", "bernoulli"])
@pytest.mark.parametrize("explore", [0.0, 0.4, 1.0])
@pytest.mark.parametrize("floor", [0.0, 0.3])
@pytest.mark.parametrize("steps", [1, 3])
def test_the_exact_objective_is_the_sum_over_all_patterns_of_presence(floor, steps, explore, likelihood):
    model, batch = build(steps=steps, likelihood=likelihood), batch_of()
    noise = noise_for(model)
    path = model.attend(batch.images, noise)
    prior = torch.tensor([0.01] * steps, dtype=torch.float64)
    p_n = torch.zeros(steps + 1).double()
    for chance, n in patterns_of(prior):
        p_n[n] += chance
    expected = []
    for i in range(3):
        q = torch.zeros(steps + 1).double()
        for chance, n in patterns_of(floor + (1 - 2 * floor) * path.logits[i].sigmoid()):
            q[n] += chance
        q = (1 - explore) * q + explore / (steps + 1)
        value = 0.7 * (q * (q / p_n).log()).sum()
        for n in range(steps + 1):
            nll = nll_of(model, batch.images[i], picture(model, path.z[i], n)[0])
            value = value + q[n] * (nll + 0.7 * cost_of_codes(model, path, i, n))
        expected.append(value)
    found = total(model.loss(batch, noise=noise, floor=floor, explore=explore))
    torch.testing.assert_close(found, torch.stack(expected), rtol=1e-6, atol=1e-8)


@pytest.mark.parametrize("likelihood", ["gaussian", "bernoulli"])
@pytest.mark.parametrize("explore", [0.0, 0.4])
def test_without_the_stopping_rule_the_sum_is_over_all_subsets(explore, likelihood):
    """Three steps, eight subsets; what explores is uniform over the four counts, and over the subsets of each."""
    model, batch = build(stops=False, likelihood=likelihood), batch_of()
    noise = noise_for(model)
    path = model.attend(batch.images, noise)
    expected, counts = [], torch.zeros(3, 4).double()
    for i in range(3):
        value, odds = 0.0, Bernoulli(path.logits[i].sigmoid())
        for pattern in itertools.product((0.0, 1.0), repeat=3):
            used = [j for j in range(3) if pattern[j]]
            plain = odds.log_prob(torch.tensor(pattern).double()).sum().exp()
            counts[i, len(used)] += plain
            q = (1 - explore) * plain + explore / 4 / math.comb(3, len(used))
            p = 0.01 ** len(used) * 0.99 ** (3 - len(used))
            nll = nll_of(model, batch.images[i], drawn_picture(model, path.z[i], used)[0])
            codes = sum(cost_of_codes(model, path, i, j + 1) - cost_of_codes(model, path, i, j) for j in used)
            value = value + q * (nll + 0.7 * codes + 0.7 * (q / p).log())
        expected.append(value)
    found = total(model.loss(batch, noise=noise, explore=explore))
    torch.testing.assert_close(found, torch.stack(expected), rtol=1e-6, atol=1e-8)
    torch.testing.assert_close(model.count_log_probs(path.logits).exp(), counts)
    binomial = [math.comb(3, n) * 0.01**n * 0.99 ** (3 - n) for n in range(4)]
    torch.testing.assert_close(model.count_prior, torch.tensor(binomial).double(), rtol=1e-5, atol=0)


def test_counts_of_the_stopping_rule_are_those_of_count_posterior():
    logits = 3 * torch.randn(20, 4, generator=seeded()).double()
    torch.testing.assert_close(count_log_probs(logits), count_posterior(logits))


def test_steps_hear_how_sure_the_one_before_was_and_see_what_it_left():
    """With hears_presence z begins with the probability of presence; with residual the image is what is not painted yet."""
    model, images = build(hears_presence=True, residual=True), scenes()
    noise = noise_for(model)
    path = model.attend(images, noise)
    z, state, left = torch.ones(3, 8).double(), torch.zeros(3, 12).double(), images
    for i in range(3):
        outputs, state = model.inference(model.inference.of_image(left.flatten(1)), z, state)
        torch.testing.assert_close(path.logits[:, i], outputs[:, 0])
        placed = model.place(path.z[:, i])
        crop = image_to_window(images, placed[:, :3], 8)  # the glimpse is of the scene
        torch.testing.assert_close(path.crops[:, i], crop)
        left = left - window_to_image(model.what.decode(placed[:, 3:]), placed[:, :3], 16)
        z = torch.cat((outputs[:, :1].sigmoid(), placed), 1)


def test_without_the_stopping_rule_the_surest_objects_are_those_that_are_there():
    model, images = build(stops=False), scenes()
    path, seen = model.attend(images, torch.zeros(3, 3, 7).double()), model.infer(images)
    order = path.logits.argsort(1, descending=True)
    assert (order != torch.arange(3)).any()
    torch.testing.assert_close(seen.presence, path.logits.sigmoid().gather(1, order))
    for i in range(3):
        torch.testing.assert_close(seen.where[i], model.place(path.q.mean)[i, order[i], :3])
        torch.testing.assert_close(seen.crops[i], path.crops[i, order[i]])
    torch.testing.assert_close(seen.count_log_probs, model.count_log_probs(path.logits))


def each_count(model: AIR, path, floor: float = 0.0, explore: float = 0.0):
    """Every count with its probability [batch] and the draws of presence [batch, steps] that lead to it: no Monte Carlo."""
    p = (floor + (1 - 2 * floor) * path.logits.sigmoid()).detach()
    for n in range(model.config.steps + 1):
        uniform = torch.ones_like(p)
        uniform[:, :n] = 0  # 0 is always below p, 1 never
        chance = torch.cat((p[:, :n], 1 - p[:, n : n + 1]), 1).prod(1)
        yield (1 - explore) * chance + explore / (model.config.steps + 1), uniform


@pytest.mark.parametrize("published", [False, True])
def test_the_mean_over_drawn_counts_is_the_expectation(published):
    """REINFORCE's cost has the exact objective's mean; published, the codes of the step that stops are in it too."""
    model, batch = build(objective="reinforce", published=published, learnt_baseline=False), batch_of()
    noise = noise_for(model)
    path = model.attend(batch.images, noise)
    mean = torch.zeros(3).double()
    for n, (chance, uniform) in enumerate(each_count(model, path)):
        terms = model.loss(batch, noise=noise, uniform=uniform)
        mean += chance * (total(terms) - terms["score"])
        if published and n < 3:
            unused = [cost_of_codes(model, path, i, n + 1) - cost_of_codes(model, path, i, n) for i in range(3)]
            mean -= 0.7 * chance * torch.stack(unused)
    other = AIR(replace(model.config, objective="exact")).double()
    other.load_state_dict(model.state_dict())
    torch.testing.assert_close(mean, total(other.loss(batch, noise=noise)))


# Gradients


@pytest.mark.parametrize("choices", [{}, {"stops": False, "hears_presence": True}, {"residual": True}], ids=str)
def test_gradients_of_the_exact_objective_by_finite_differences(choices):
    model, batch = build(**choices), batch_of(2)
    noise = noise_for(model, 2)

    def objective() -> torch.Tensor:
        return total(model.loss(batch, noise=noise, floor=0.1, explore=0.3)).mean()

    found = gradients(model, objective())
    for name, parameter in model.named_parameters():
        direction = torch.randn(parameter.shape, generator=seeded(len(name))).double()
        with torch.no_grad():
            values = []
            for sign in (1, -1):
                parameter.add_(direction, alpha=sign * 1e-6)
                values.append(float(objective()))
                parameter.add_(direction, alpha=-sign * 1e-6)
        numeric = (values[0] - values[1]) / 2e-6
        assert float((found[name] * direction).sum()) == pytest.approx(numeric, rel=1e-4, abs=1e-5), name


def enumerated(
    model: AIR, batch: Batch, noise: torch.Tensor, floor: float, explore: float = 0.0
) -> dict[str, torch.Tensor]:
    """The mean of REINFORCE's gradient over every count, each with its probability."""
    mean: dict[str, torch.Tensor] = {}
    for chance, uniform in each_count(model, model.attend(batch.images, noise), floor, explore):
        terms = model.loss(batch, noise=noise, uniform=uniform, floor=floor, explore=explore)
        terms.pop("baseline", None)
        for name, gradient in gradients(model, (chance * total(terms)).sum()).items():
            mean[name] = mean.get(name, 0) + gradient
    return mean


@pytest.mark.parametrize(("floor", "explore"), [(0.0, 0.0), (0.2, 0.0), (0.0, 0.5)])
@pytest.mark.parametrize("learnt_baseline", [True, False])
def test_reinforce_is_unbiased_in_every_parameter(learnt_baseline, floor, explore):
    """Weighed by the probability of each count, REINFORCE's gradients add up to the exact one's; a baseline changes nothing."""
    model, batch = build(objective="reinforce", learnt_baseline=learnt_baseline), batch_of(2)
    noise = noise_for(model, 2)
    other = AIR(replace(model.config, objective="exact")).double()
    other.load_state_dict(model.state_dict(), strict=not learnt_baseline)
    expected = gradients(other, total(other.loss(batch, noise=noise, floor=floor, explore=explore)).sum())
    found = enumerated(model, batch, noise, floor, explore)
    for name, gradient in expected.items():
        torch.testing.assert_close(found[name], gradient, rtol=1e-6, atol=1e-9)


def test_draws_that_judge_each_other_are_unbiased_and_vary_less():
    """Over all pairs of counts, each with its probability, leave-one-out's gradient of presence is the exact one."""
    model, batch = build(), batch_of(2)
    noise = noise_for(model, 2)
    path = model.attend(batch.images, noise)
    logits = path.logits.detach().requires_grad_()
    steps = model.steps(batch.images, path._replace(logits=logits), kl_weight=0.7)

    def gradient(terms, chance=1.0) -> torch.Tensor:
        return torch.autograd.grad((chance * total(terms)).sum(), logits, retain_graph=True)[0]

    expected = gradient(exact(steps))
    counts = list(each_count(model, path))
    found = sum(
        gradient(leave_one_out(steps, torch.stack((one, two))), first * second)
        for (first, one), (second, two) in itertools.product(counts, counts)
    )
    torch.testing.assert_close(found, expected)
    uniform = torch.rand(300, 2, 2, 3, generator=seeded()).double()
    alone = torch.stack(
        [gradient(reinforce(steps, one[0])) / 2 + gradient(reinforce(steps, one[1])) / 2 for one in uniform]
    )
    judged = torch.stack([gradient(leave_one_out(steps, one)) for one in uniform])
    assert judged.var(0).sum() < 0.5 * alone.var(0).sum()


def test_the_published_masks_and_reward_are_biased():
    model, batch = build(objective="reinforce", published=True), batch_of(2)
    noise = noise_for(model, 2)
    other = AIR(replace(model.config, objective="exact")).double()
    other.load_state_dict(model.state_dict(), strict=False)
    name = "inference.last.bias"
    expected = gradients(other, total(other.loss(batch, noise=noise)).sum())[name]
    assert (enumerated(model, batch, noise, 0.0)[name] - expected).abs().max() > 0.1


def three_objects(draws: int) -> Steps:
    """A path that is given: three objects, the first as good as needed, the second of use, the third harmful."""
    logits = torch.tensor([0.4, -0.3, 0.8]).double().expand(draws, -1).clone().requires_grad_()
    x = scenes(1).flatten(1)
    canvases = x * torch.tensor([[0.9], [0.2], [-0.5]]).double()
    kl = {"codes": torch.tensor([3.0, 1.0, 2.0]).double().expand(draws, -1)}
    prior_logit = torch.tensor(0.01).double().logit()
    return Steps(logits, kl, lambda share: (x - share @ canvases).square().sum(-1), prior_logit, kl_weight=0.7)


@pytest.mark.parametrize("baseline", [None, (30.0, 10.0, 5.0)])
def test_the_mean_of_many_draws_of_reinforce_is_the_exact_gradient_of_presence(baseline):
    draws = 20000
    steps, uniform = three_objects(draws), torch.rand(draws, 3, generator=seeded(3)).double()
    (exactly,) = torch.autograd.grad(total(exact(steps)).sum(), steps.logits)
    baseline = None if baseline is None else torch.tensor(baseline).double().expand(draws, -1)
    terms = reinforce(steps, uniform, baseline)
    terms.pop("baseline", None)
    (drawn,) = torch.autograd.grad(total(terms).sum(), steps.logits)
    error = (drawn.mean(0) - exactly[0]) / (drawn.std(0) / draws**0.5)
    assert error.abs().max() < 4
    assert (drawn.std(0) > 0.3).all() and exactly.std(0).max() < 1e-9  # one varies, the other does not


def test_the_best_baseline_lowers_the_variance_of_reinforce_at_every_step():
    """It is E[g^2 c] / E[g^2], g the gradient of log q and c the cost; the mean cost need not lower it."""
    steps, uniform = three_objects(5000), torch.rand(5000, 3, generator=seeded(3)).double()

    def gradient(baseline: torch.Tensor | None) -> torch.Tensor:
        return torch.autograd.grad(reinforce(steps, uniform, baseline)["score"].sum(), steps.logits)[0]

    plain = gradient(None)
    log_q = gradient(-torch.ones_like(plain)) - plain
    best = ((log_q * plain).mean(0) / log_q.square().mean(0)).expand_as(plain)
    assert (gradient(best).std(0) < 0.9 * plain.std(0)).all()
    assert gradient(best).std(0)[0] < 0.2 * plain.std(0)[0]


@pytest.mark.parametrize("choices", OBJECTIVES, ids=str)
def test_every_parameter_gets_a_gradient(choices):
    model = build(**choices)
    terms = model.loss(batch_of(4), generator=seeded())
    assert set(terms) - {"score", "baseline"} == {"nll", "kl_presence", "kl_where", "kl_what"}
    assert ("score" in terms) == (model.config.objective == "reinforce")
    assert ("baseline" in terms) == hasattr(model, "baseline")
    assert all(term.shape == (4,) and term.isfinite().all() for term in terms.values())
    for name, gradient in gradients(model, total(terms).mean()).items():
        assert gradient.isfinite().all() and gradient.abs().max() > 0, name


def test_the_baseline_learns_from_nothing_but_its_own_error():
    model = build(objective="reinforce")
    terms = model.loss(batch_of(4), generator=seeded())
    own, others = gradients(model, terms.pop("baseline").mean()), gradients(model, total(terms).mean())
    for name in own:
        mine, theirs = (own, others) if name.startswith("baseline.") else (others, own)
        assert mine[name].abs().max() > 0 and theirs[name].abs().max() == 0, name


def test_the_relaxation_becomes_a_draw_as_its_temperature_sinks():
    model = build(objective="concrete")
    logits = torch.tensor([[1.0, -0.5, 2.0]]).double()
    costs = torch.tensor([5.0, 2.0, 1.0]).double()
    steps = Steps(logits, {"codes": torch.ones(1, 3).double()}, lambda share: share @ costs, model.presence_logit)
    for uniform in itertools.product((0.05, 0.95), repeat=3):
        uniform = torch.tensor([uniform]).double()
        there = (torch.logit(uniform) + logits > 0).double().cumprod(1)  # 1 - uniform < p
        cold = concrete(steps, uniform, temperature=1e-3)
        torch.testing.assert_close(cold["nll"], there @ costs)
        torch.testing.assert_close(cold["kl_codes"], there.sum(1))
        torch.testing.assert_close(cold["kl_presence"], exact(steps)["kl_presence"])
    warm = concrete(steps, torch.full((1, 3), 0.5).double(), temperature=1.0)
    torch.testing.assert_close(warm["nll"], logits.sigmoid().cumprod(1) @ costs)


def test_schedules_reach_the_objective():
    model, batch = build(objective="concrete"), batch_of()
    noise, uniform = noise_for(model), torch.rand(3, 3, generator=seeded()).double()

    def value(**arguments) -> torch.Tensor:
        return total(model.loss(batch, noise=noise, uniform=uniform, **arguments))

    plainly = value()
    assert torch.equal(plainly, value(temperature=1.0, floor=0.0))
    torch.testing.assert_close(plainly, value(presence_prior=0.01))
    for arguments in ({"floor": 0.2}, {"presence_prior": 0.5}, {"temperature": 0.3}, {"explore": 0.2}):
        assert not torch.allclose(plainly, value(**arguments))
    model = AIR(AIRConfig(floor=0.3, explore=0.8, floor_steps=900))
    assert [model.exploration(step) for step in (0, 450, 900, 5000)] == pytest.approx([0.3, 0.15, 0, 0])
    assert [model.exploring(step) for step in (0, 450, 900, 5000)] == pytest.approx([0.8, 0.4, 0, 0])


def test_exploration_reaches_windows_that_the_posterior_does_not():
    """Where the model is sure that nothing is there, the third window's gradient is nil without exploration."""
    model, batch = build(), batch_of()
    with torch.no_grad():
        model.inference.last.bias[0] = -40
    name = "what.decoder.2.bias"
    for explore, most in ((0.0, 1e-9), (0.4, None)):
        found = gradients(model, total(model.loss(batch, noise=noise_for(model), explore=explore)).sum())[name]
        assert found.abs().max() < most if most else found.abs().max() > 0.1
    logits = torch.full((1, 3), -40.0).double()
    steps = Steps(logits, {"codes": torch.ones(1, 3).double()}, lambda share: share.sum(2), model.presence_logit)
    there = exact(replace(steps, explore=0.4))["kl_codes"]
    torch.testing.assert_close(there, torch.tensor([0.1 * 1 + 0.1 * 2 + 0.1 * 3]).double())  # q'(n) = 0.4 / 4 each


# Extremes


@pytest.mark.parametrize("choices", OBJECTIVES, ids=str)
@pytest.mark.parametrize("extreme", [50.0, -50.0])
def test_extreme_heads_give_no_nan(choices, extreme):
    """Presence, scale and every log-variance driven far out: values and gradients stay finite."""
    model = build(**choices).float()
    with torch.no_grad():
        model.inference.last.bias[:2] = extreme
        model.inference.last.bias[4:7] = extreme
        model.what.encoder[-1].bias[4:] = extreme
    batch = Batch(scenes(2).float(), torch.zeros(2, dtype=torch.int64))
    for explore in (0.0, 1.0):
        terms = model.loss(batch, explore=explore, generator=seeded())
        assert all(term.isfinite().all() for term in terms.values())
        found = gradients(model, total(terms).mean())
        assert all(gradient.isfinite().all() for gradient in found.values())
    assert (
        float(model.place(torch.tensor([-3.0, 0, 0]))[0]) == 1
        and float(model.place(torch.tensor([99.0, 0, 0]))[0]) == 8
    )


def test_without_its_range_a_scale_of_zero_is_an_error_and_not_a_nan():
    model = AIR(replace(TUTORIAL, **SMALL))
    with torch.no_grad():
        model.inference.last.bias[1] = -5
    with pytest.raises(ValueError, match="the scale of where must be positive"):
        model.loss(Batch(scenes(2).float(), torch.zeros(2, dtype=torch.int64)), generator=seeded())


@pytest.mark.parametrize("output", OUTPUTS)
def test_what_keeps_a_window_in_range(output):
    torch.manual_seed(0)
    vae = WhatVAE(8, 10, 4, output)
    if output == "linear":
        assert (vae.decode(torch.randn(5, 4)) == 0).all()
        nn.init.normal_(vae.decoder[-1].weight)
    windows, layer = vae.decode(w := 9 * torch.randn(5, 4)), vae.decoder(w).view(5, 1, 8, 8)
    expected = {
        "sigmoid": torch.sigmoid(layer - 3),
        "clamped": layer.clamp(0, 1),
        "absolute": layer.abs(),
        "linear": layer,
    }
    torch.testing.assert_close(windows, expected[output])


@pytest.mark.parametrize("choices", OBJECTIVES, ids=str)
def test_a_batch_of_one(choices):
    model = build(**choices)
    alone = model.loss(batch_of(1), noise=noise_for(model, 1), uniform=torch.full((1, 3), 0.4).double())
    among = model.loss(
        Batch(torch.cat((scenes(1), scenes(2, seed=9))), torch.zeros(3, dtype=torch.int64)),
        noise=torch.cat((noise_for(model, 1), noise_for(model, 2, seed=8))),
        uniform=torch.full((3, 3), 0.4).double(),
    )
    for name, term in alone.items():
        torch.testing.assert_close(term, among[name][:1])
    assert model.infer(scenes(1)).counts.shape == (1,) and model.reconstruct(scenes(1)).shape == (1, 1, 16, 16)


def test_the_same_seed_gives_the_same_loss_and_leaves_the_global_one_alone():
    for choices in OBJECTIVES:
        model, batch = build(**choices), batch_of()
        state = torch.get_rng_state()
        first, again, other = (total(model.loss(batch, generator=seeded(s))) for s in (1, 1, 2))
        assert torch.equal(first, again) and not torch.equal(first, other)
        assert torch.equal(state, torch.get_rng_state())


# Inference, pictures, samples


def test_inference_gives_posterior_means_and_the_most_probable_count():
    model, images = build(), scenes()
    seen = model.infer(images)
    path = model.attend(images, torch.zeros(3, 3, 7).double())
    torch.testing.assert_close(seen.presence, path.logits.sigmoid())
    torch.testing.assert_close(seen.count_log_probs.exp().sum(1), torch.ones(3).double())
    assert torch.equal(seen.counts, seen.count_log_probs.argmax(1))
    torch.testing.assert_close(torch.cat((seen.where, seen.what), 2), model.place(path.q.mean))
    for i, j in itertools.product(range(3), range(3)):
        scale, x, y = seen.where[i, j].tolist()
        middle = [8 * (1 - x / scale), 8 * (1 - y / scale)]
        expected = [middle[0] - 8 / scale, middle[1] - 8 / scale, middle[0] + 8 / scale, middle[1] + 8 / scale]
        assert seen.boxes[i, j].tolist() == pytest.approx(expected)
    assert seen.canvases.shape == (3, 3, 16, 16) and seen.crops.shape == (3, 3, 1, 8, 8)
    torch.testing.assert_close(model.infer(images).where, seen.where)  # no draw
    drawn = [model.infer(images, seeded(seed)) for seed in (1, 1, 2)]
    assert torch.equal(drawn[0].where, drawn[1].where) and not torch.equal(drawn[0].where, drawn[2].where)


def test_drawn_counts_follow_their_odds():
    odds = torch.tensor([[0.1, 0.2, 0.7]]).expand(30000, -1)
    found = draw_counts(odds, seeded()).bincount() / 30000
    torch.testing.assert_close(found, odds[0], atol=0.012, rtol=0)


def test_a_reconstruction_is_the_sum_of_the_used_objects():
    model, images = build(), scenes()
    seen = model.infer(images)
    used = torch.arange(3) < seen.counts.unsqueeze(1)
    expected = (seen.canvases * used[:, :, None, None]).sum(1, keepdim=True).clamp(0, 1)
    torch.testing.assert_close(model.reconstruct(images), expected)
    for n in range(4):
        drawn = model.render(seen.where, seen.what, torch.full((3,), n))
        for i in range(3):
            z = torch.cat((seen.where[i], seen.what[i]), 1)
            torch.testing.assert_close(drawn[i : i + 1], picture(model, z, n).clamp(0, 1))


def test_samples_follow_a_given_count_prior_and_are_empty_under_the_models_own():
    model = build()
    assert (model.sample(50, generator=seeded()).flatten(1).amax(1) == 0).float().mean() > 0.9
    two = model.sample(50, count_prior=torch.tensor([0, 0, 1.0, 0]), generator=seeded())
    assert two.shape == (50, 1, 16, 16) and two.amin() >= 0 and two.amax() <= 1
    assert (two.flatten(1).amax(1) > 0).float().mean() > 0.9
    assert torch.equal(two, model.sample(50, count_prior=torch.tensor([0, 0, 1.0, 0]), generator=seeded()))


# Bounds


def test_the_elbo_is_the_negative_objective_without_weights_and_with_its_constant():
    model, batch = build(kl_weight=1.0), batch_of()
    expected = -total(model.loss(batch, generator=seeded(4))) - 128 * math.log(2 * math.pi * VARIANCE)
    torch.testing.assert_close(model.elbo(batch.images, seeded(4)), expected)
    torch.testing.assert_close(build(kl_weight=0.3).elbo(batch.images, seeded(4)), expected)
    bernoulli = build(kl_weight=1.0, likelihood="bernoulli")
    torch.testing.assert_close(
        bernoulli.elbo(batch.images, seeded(4)), -total(bernoulli.loss(batch, generator=seeded(4)))
    )


@pytest.mark.parametrize("stops", [True, False])
def test_the_importance_bound_grows_with_its_samples_and_is_above_the_elbo(stops):
    model, images = build(stops=stops), scenes(2)
    elbo = torch.stack([model.elbo(images, seeded(s)) for s in range(40)]).mean(0)
    few = torch.stack([model.importance_bound(images, 1, generator=seeded(s)) for s in range(40)]).mean(0)
    many = torch.stack([model.importance_bound(images, 20, generator=seeded(s)) for s in range(20)]).mean(0)
    assert (elbo < few).all() and (few < many).all()


def test_importance_weights_have_the_evidence_as_their_mean():
    """One step, codes that the picture does not depend on: log p(x) is a sum over two counts, whatever the posterior is."""
    model, images = build(steps=1), scenes(2)
    with torch.no_grad():
        model.what.decoder[-1].weight.zero_()
        model.what.decoder[-1].bias.fill_(-60)  # the object is black
    expected = (-images.square().flatten(1).sum(1) / (2 * VARIANCE)) - 128 * math.log(2 * math.pi * VARIANCE)
    with torch.no_grad():
        model.inference.last.weight.zero_()
        model.inference.last.bias[1:4] = model.prior_mean[:3]
        model.inference.last.bias[4:7] = model.prior_log_var[:3]
        model.what.encoder[-1].weight.zero_()
        model.what.encoder[-1].bias.zero_()
    torch.testing.assert_close(model.importance_bound(images, 3, generator=seeded()), expected)
    with torch.no_grad():  # and a posterior beside the prior needs more samples for the same
        model.inference.last.bias[2] = 0.3
        model.what.encoder[-1].bias[:4] = 0.2
    many = model.importance_bound(images.repeat(400, 1, 1, 1), 10, generator=seeded()).view(400, 2)
    torch.testing.assert_close(many.logsumexp(0) - math.log(400), expected, atol=0.02, rtol=0)
    even = model.importance_bound(images, 2, count_prior=torch.tensor([0.5, 0.5]), generator=seeded())
    assert even.isfinite().all()


# Training and files


@pytest.mark.parametrize("precision", ["float32", "bfloat16"])
@pytest.mark.parametrize("choices", OBJECTIVES, ids=str)
def test_fit_trains_it_with_its_floor_as_an_argument(choices, precision):
    digits = load_digits("train", source="offline")
    data = fresh_scenes(digits, 12, Layout(canvas=16, size=6))
    model = initialise(lambda: AIR(AIRConfig(**{**SMALL, **choices})), 0)
    arguments = {"floor": model.exploration, "explore": model.exploring}
    history = fit(model, data, epochs=2, batch_size=5, arguments=arguments, precision=precision, progress=False)
    assert history.steps == 6 and all(math.isfinite(value) for epoch in history.epochs for value in epoch.values())


@pytest.mark.slow
def test_the_exact_objective_learns_to_see_one_object_or_none():
    """A small model on small scenes of bright squares: from guessing to right in a few hundred steps."""
    digits = load_digits("train", source="offline")
    square = torch.zeros(1, 1, 28, 28)
    square[..., 6:22, 6:22] = 1
    layout = Layout(canvas=16, size=8, counts=(0, 1))
    data = fresh_scenes(replace(digits, images=square, labels=torch.zeros(1, dtype=torch.int64)), 640, layout)
    config = AIRConfig(
        **{**SMALL, "hidden_dim": 32, "what_hidden_dim": 64}, steps=2, where_mean=(2.0, 0.0, 0.0), floor_steps=200
    )
    model = initialise(lambda: AIR(config), 0)
    arguments = {"floor": model.exploration}
    fit(model, data, epochs=20, batch_size=32, learning_rate=3e-3, arguments=arguments, progress=False)
    held_out = draw_scenes(data.digits, 200, layout, seed=9)
    assert (model.infer(held_out.images).counts == held_out.labels).float().mean() > 0.95


def test_weights_come_back_as_they_were(tmp_path):
    model = build(objective="reinforce").float().eval()
    save_weights(tmp_path / "air.safetensors", model)
    again = load_weights(tmp_path / "air.safetensors", lambda config: AIR(AIRConfig(**config)))
    images = scenes().float()
    assert again.config == model.config and again.config.where_mean == (2.2, 0.0, 0.0)  # JSON has a list
    torch.testing.assert_close(again.infer(images).where, model.infer(images).where)
    assert torch.equal(again.infer(images).counts, model.infer(images).counts)


# What is refused


@pytest.mark.parametrize(
    ("choices", "message"),
    [
        ({"objective": "sum"}, "objective must be one of exact, reinforce, concrete, got 'sum'"),
        ({"output": "relu"}, "output must be one of sigmoid, clamped, absolute, linear, got 'relu'"),
        ({"likelihood": "laplace"}, "likelihood must be one of gaussian, bernoulli"),
        ({"steps": 0}, "steps must be a whole number at least 1, got 0"),
        ({"canvas": 20}, "window must be no larger than canvas"),
        ({"canvas": 5, "window": 4}, "canvas must be at least 6 for image_layer"),
        ({"image_layer": "recurrent"}, "image_layer must be one of convolutional, linear, got 'recurrent'"),
        ({"presence_prior": 1.0}, "presence_prior must be a finite number above 0 and below 1, got 1.0"),
        ({"variance": 0.0}, "variance must be a finite number above 0, got 0.0"),
        ({"where_var": (0.01, -1.0, 1.0)}, "each of where_var must be a finite number above 0, got -1.0"),
        ({"floor": 0.5}, "floor must be a finite number at least 0 and below 0.5, got 0.5"),
        ({"scale_range": (0.0, 8.0)}, "each of scale_range must be a finite number above 0, got 0.0"),
        ({"scale_range": (4.0, 8.0)}, "hold the first of where_mean"),
        ({"temperature": 0.0}, "temperature must be a finite number above 0, got 0.0"),
        ({"explore": 1.1}, "explore must be a finite number at least 0 and at most 1, got 1.1"),
        ({"stops": False, "objective": "concrete"}, 'without the stopping rule .* the objective must be "exact"'),
    ],
)
def test_a_configuration_that_cannot_be_is_refused(choices, message):
    with pytest.raises(ValueError, match=message):
        AIR(AIRConfig(**choices))


def test_images_that_do_not_fit_are_refused(plain):
    model = build()
    for images in (scenes(2, 20), scenes(2)[:, 0], scenes(2)[:0]):
        with pytest.raises(ValueError, match=r"images must have shape \[batch, 1, 16, 16\], nothing empty"):
            model.infer(images)
    for value in (-0.1, 1.2, math.nan):
        images = scenes(2)
        images[1, 0, 3, 3] = value
        with pytest.raises(ValueError, match=r"grey values in \[0, 1\] without NaN"):
            model.loss(Batch(images, torch.zeros(2)), generator=seeded())


def test_codes_noise_and_odds_that_do_not_fit_are_refused(plain):
    model = build()
    where, what = torch.ones(2, 3, 3).double(), torch.zeros(2, 3, 4).double()
    for bad in ((where, what[..., :2]), (where[:, :2], what), (where[..., :2], what)):
        with pytest.raises(ValueError, match=r"where must be \[batch, steps, 3\] and what \[batch, steps, 4\]"):
            model.paint(*bad)
    with pytest.raises(ValueError, match=r"noise must have shape \[2, 3, 7\], nothing empty, got \[2, 3, 6\]"):
        model.attend(scenes(2), torch.zeros(2, 3, 6).double())
    for odds in ([0.5, 0.5], [0.5, 0.5, 0.5, 0.5], [1.5, -0.5, 0, 0]):
        with pytest.raises(ValueError, match="count_prior must be probabilities of 0 to 3 objects, which sum to 1"):
            model.sample(3, count_prior=torch.tensor(odds))
    with pytest.raises(ValueError, match="floor must be in"):
        model.loss(batch_of(), floor=0.7)


def black_and_white(n: int = 2) -> torch.Tensor:
    return scenes(n).round().float()


@pytest.mark.parametrize("choices", OBJECTIVES)
def test_scenes_of_any_type_give_the_loss_of_their_floats(choices, plain):
    model = initialise(lambda: AIR(AIRConfig(**{**SMALL, **choices})), 0)
    images = black_and_white()

    def terms(images) -> dict[str, torch.Tensor]:
        return model.loss(Batch(images, torch.zeros(2)), generator=seeded(1))

    expected = terms(images)
    for other in (images.bool(), images.byte(), images.half(), images.tolist(), images.numpy()):
        found = terms(other)
        assert all(torch.equal(found[name], term) for name, term in expected.items())
    seen, expected = model.infer(images.bool()), model.infer(images)
    assert all(torch.equal(part, other) for part, other in zip(seen, expected, strict=True))


@pytest.mark.parametrize("precision", [torch.float16, torch.bfloat16, torch.float64])
@pytest.mark.parametrize("objective", ["exact", "reinforce", "concrete"])
def test_the_models_precision_is_that_of_all_it_gives(objective, precision):
    model = initialise(lambda: AIR(AIRConfig(**SMALL, objective=objective)), 0).to(precision)
    images = black_and_white().to(precision)
    terms = model.loss(Batch(images, torch.zeros(2)), generator=seeded(), floor=0.1, presence_prior=0.1)
    assert {term.dtype for term in terms.values()} == {precision}
    total({name: term.mean() for name, term in terms.items()}).backward()
    assert all(p.grad is None or p.grad.isfinite().all() for p in model.parameters())
    seen = model.infer(images, seeded())
    assert {seen.where.dtype, seen.what.dtype, seen.canvases.dtype, seen.count_log_probs.dtype} == {precision}
    assert model.sample(2, count_prior=[0.25] * 4, generator=seeded()).dtype == precision
    assert model.elbo(images).isfinite().all() and model.importance_bound(images, 2).isfinite().all()


def test_everything_works_where_torch_is_double_by_default(double_by_default):
    model, images = AIR(AIRConfig(**SMALL)), black_and_white()  # float32, which float64 holds exactly
    assert model.loss(Batch(images, torch.zeros(2)))["nll"].dtype == torch.float64
    assert model.reconstruct(images).dtype == model.sample(2).dtype == torch.float64


def test_numbers_may_be_numpys_and_odds_a_list(tmp_path):
    config = AIRConfig(
        **{name: np.int64(value) for name, value in SMALL.items()}, variance=np.float32(0.5), steps=np.uint8(3)
    )
    assert config == AIRConfig(**SMALL, variance=0.5) and type(config.variance) is float and type(config.steps) is int
    model = AIR(config)
    save_weights(tmp_path / "air.safetensors", model)
    assert load_weights(tmp_path / "air.safetensors", lambda config: AIR(AIRConfig(**config))).config == config
    odds = [0.0, 0.0, 0.5, 0.5]
    expected = model.sample(4, count_prior=torch.tensor(odds), generator=seeded())
    for given in (odds, np.array(odds), np.array(odds, np.float32)):
        assert torch.equal(model.sample(np.int64(4), count_prior=given, generator=seeded()), expected)
    images = black_and_white()
    bound = model.importance_bound(images, np.int64(2), odds, seeded())
    assert torch.equal(bound, model.importance_bound(images, 2, torch.tensor(odds), seeded()))
    codes = torch.ones(2, 3, 3), torch.zeros(2, 3, 4)
    assert torch.equal(model.render(*codes, [1, 2]), model.render(*codes, torch.tensor([1, 2])))


SMALL_AIR = initialise(lambda: AIR(AIRConfig(**SMALL)), 0)
CODES = torch.ones(2, 3, 3), torch.zeros(2, 3, 4)
GIVEN = Batch(black_and_white(), torch.zeros(2))


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda m: AIRConfig(canvas=(50, 40)), "canvas must be a whole number.*one number stands for height and width"),
        (lambda m: AIRConfig(window=[24, 20]), "window must be a whole number.*one number stands for height and width"),
        (lambda m: AIRConfig(canvas=True), "canvas must be a whole number at least 1, got True"),
        (lambda m: AIRConfig(canvas=50.0), "canvas must be a whole number at least 1, got 50.0"),
        (lambda m: AIRConfig(where_mean=(2.2, 0.0)), "where_mean must be a tuple of 3 values"),
        (lambda m: AIRConfig(where_mean=(-1, 0, 0), scale_range=None), "the first of where_mean, a scale, must be positive"),
        (lambda m: AIRConfig(log_var_range=(1.0, -8.0)), r"log_var_range must be \(low, high\)"),
        (lambda m: AIRConfig(kl_weight=math.nan), "kl_weight must be a finite number at least 0, got nan"),
        (lambda m: AIRConfig(published=1), "published must be True or False, got 1"),
        (lambda m: replace(AIRConfig(), steps="3"), "steps must be a whole number at least 1, got '3'"),
        (lambda m: AIR({"canvas": 50}), "config must be an AIRConfig, got a dict"),
        (lambda m: Recurrent(6, 5, 8, 7, "conv"), "image_layer must be one of convolutional, linear, got 'conv'"),
        (lambda m: WhatVAE(6, 5, 8, "relu"), "output must be one of"),
        (lambda m: m.loss(None), "batch must have images, got None"),
        (lambda m: m.loss([GIVEN.images, GIVEN.labels]), "batch must have images, got a list: give a Batch"),
        (lambda m: m.loss(Batch(None, None)), "images must hold numbers, got None"),
        (lambda m: m.loss(Batch(255 * GIVEN.images, None)), "got 0 to 255: divide bytes by 255"),
        (lambda m: m.loss(Batch(GIVEN.images.double() / 3, None)), "float64, which float32 would round"),
        (lambda m: m.loss(GIVEN, generator=3), "generator must be a torch.Generator or None, got an int"),
        (lambda m: m.loss(GIVEN, presence_prior=1.5), "presence_prior must be a finite number above 0 and below 1"),
        (lambda m: m.loss(GIVEN, noise=torch.full((2, 3, 7), math.nan)), "noise must be finite"),
        (lambda m: m.infer(None), "images must hold numbers, got None"),
        (lambda m: m.elbo(GIVEN.images[:, 0]), r"images must have shape \[batch, 1, 16, 16\]"),
        (lambda m: m.importance_bound(GIVEN.images, 0), "samples must be a whole number at least 1, got 0"),
        (lambda m: m.importance_bound(GIVEN.images, 2.5), "samples must be a whole number at least 1, got 2.5"),
        (lambda m: m.sample(0), "n must be a whole number at least 1, got 0"),
        (lambda m: m.sample(True), "n must be a whole number at least 1, got True"),
        (lambda m: m.sample(2, count_prior=[0.5, 0.5]), "count_prior must be probabilities of 0 to 3 objects"),
        (lambda m: m.sample(2, count_prior=[math.nan] * 4), "count_prior must be probabilities of 0 to 3 objects"),
        (lambda m: m.sample(2, count_prior="even"), "count_prior must hold numbers, got a str"),
        (lambda m: m.render(*CODES, torch.tensor([1])), r"counts must be \[2\], one for each example, got \[1\]"),
        (lambda m: m.render(*CODES, torch.tensor([[1], [2]])), r"got \[2, 1\]: flatten it"),
        (lambda m: m.render(*CODES, [1, 4]), r"counts must be class numbers 0\.\.3, got 1\.\.4"),
        (lambda m: m.render(*CODES, [1.0, 2.0]), "counts must be whole numbers"),
        (lambda m: m.render(CODES[0], CODES[1] * math.nan, [1, 1]), "what must be finite"),
        (lambda m: m.paint(*(part.double() / 3 for part in CODES)), "float64, which float32 would round"),
        (lambda m: draw_counts([[0.5, math.nan]], None), "probabilities must be finite"),
        (lambda m: draw_counts([[0.5, -0.5]], None), "probabilities must be at least 0"),
        (lambda m: draw_counts([[0.5, 0.5], [0, 0]], None), "not all 0 in a row"),
        (lambda m: draw_counts([[0.5, 0.5]], 3), "generator must be a torch.Generator or None, got an int"),
    ],
)  # fmt: skip
def test_what_the_model_cannot_take_is_refused_in_words(plain, call, message):
    with pytest.raises(ValueError, match=message):
        call(SMALL_AIR)


@pytest.mark.parametrize("objective", [exact, reinforce, concrete])
def test_parts_of_a_path_that_do_not_fit_together_are_refused(plain, objective):
    logits, prior = torch.zeros(2, 3), torch.tensor(0.0)
    for parts in ((logits[0], {}, prior), (logits, {"what": logits[:, :1]}, prior), (logits, {}, logits)):
        with pytest.raises(ValueError, match="must have shape"):
            Steps(parts[0], parts[1], lambda share: share.sum(2), parts[2])
    steps = Steps(logits, {"what": logits}, lambda share: share.sum(2), prior)
    if objective is not exact:
        with pytest.raises(ValueError, match=r"uniform must have shape \[2, 3\]"):
            objective(steps, torch.rand(2, 1))
    if objective is reinforce:
        with pytest.raises(ValueError, match=r"baseline must have shape \[2, 3\]"):
            objective(steps, torch.rand(2, 3), torch.rand(2, 1))
    if objective is not exact:
        with pytest.raises(ValueError, match="without the stopping rule nothing is drawn or relaxed here: use exact"):
            objective(replace(steps, stops=False), torch.rand(2, 3))
    for draws, message in (
        (torch.rand(2, 3), r"uniform must have shape \[draws, 2, 3\]"),
        (torch.rand(1, 2, 3), "two"),
    ):
        with pytest.raises(ValueError, match=message):
            leave_one_out(steps, draws)
    with pytest.raises(ValueError, match=r"explore must be a finite number at least 0 and at most 1, got -0\.1"):
        replace(steps, explore=-0.1)


# Shapes
