"""Mix-and-Match: sizes, masks, which half reaches which side, the loss of torch.distributions, gradients, errors."""

from __future__ import annotations

import random
import re

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import nn
from torch.distributions import Bernoulli, Normal, kl_divergence
from unit_harness import (
    assert_every_parameter_learns,
    assert_gradients_agree,
    batch_of,
    linears,
    normal,
    seeded,
)

from latentbook.data.digits import Batch
from latentbook.models.mix_and_match import (
    MIXINGS,
    PRIORS,
    Completer,
    MixAndMatch,
    MixAndMatchConfig,
    resampling,
    sampling,
)
from latentbook.training.loop import initialise

KINDS = pytest.mark.parametrize(("mixing", "prior"), [(mixing, prior) for mixing in MIXINGS for prior in PRIORS])


def build(seed: int = 0, **choices) -> MixAndMatch:
    """A model in evaluation mode whose batch norms have seen a batch, so that they are not the identity."""
    model = initialise(lambda: MixAndMatch(MixAndMatchConfig(**choices)), seed)
    model.loss(batch_of(64, seed=9), generator=seeded(0))
    return model.eval()


def kinds(module: nn.Module) -> list[type]:
    return [type(layer) for layer in module.modules() if not isinstance(layer, nn.Sequential)]


# Sizes


def test_the_sizes_are_the_originals():
    model, block = build(), [nn.Linear, nn.BatchNorm1d, nn.ReLU]
    assert linears(model.data_encoder) == [(500, 250), (250, 128)] and kinds(model.data_encoder) == block * 2
    assert linears(model.condition_encoder) == [(284, 142), (142, 128)] and kinds(model.condition_encoder) == block * 2
    assert linears(model.mean) == linears(model.log_var) == [(128, 32)]
    assert linears(model.latent_projection) == [(32, 128)] and kinds(model.latent_projection) == [nn.Linear, nn.ReLU]
    assert linears(model.decoder) == [(128, 128), (128, 500)] and kinds(model.decoder) == [*block, nn.Linear]
    assert model.config.alpha == 64
    named = {name.split(".")[0] for name, _ in model.named_parameters()}
    assert named == {"data_encoder", "condition_encoder", "mean", "log_var", "latent_projection", "decoder"}


def test_concatenation_differs_only_where_two_vectors_become_one():
    ours, theirs = linears(build()), linears(build(mixing="concatenation"))
    assert [pair for pair in zip(ours, theirs, strict=True) if pair[0] != pair[1]] == [
        ((128, 32), (256, 32)),
        ((128, 32), (256, 32)),
        ((128, 128), (256, 128)),
    ]


def test_the_conditional_prior_has_the_latents_size():
    model = build(prior="conditional")
    assert linears(model.prior_mean) == linears(model.prior_log_var) == [(128, 128), (128, 32)]
    assert not hasattr(build(), "prior_mean")


def test_the_completer_has_the_same_condition_encoder_and_decoder():
    completer, model = Completer(), build()
    assert linears(completer.condition_encoder) == linears(model.condition_encoder)
    assert linears(completer.decoder) == linears(model.decoder) and len(linears(completer)) == 4


def test_split_is_the_first_500_pixels_in_reading_order():
    batch = batch_of(3)
    data, condition = build().split(batch.images)
    assert torch.equal(data, batch.images.flatten(1)[:, :500]) and torch.equal(
        condition, batch.images.flatten(1)[:, 500:]
    )
    assert condition.shape == (3, 284)
    row, column = divmod(500, 28)
    assert condition[1, 0] == batch.images[1, 0, row, column] and (row, column) == (17, 24)  # a ragged cut


# Sampling


@settings(max_examples=60, deadline=None)
@given(st.data())
def test_every_row_draws_exactly_alpha(data):
    hidden = data.draw(st.integers(1, 200))
    alpha = data.draw(st.integers(0, hidden))
    batch, per = data.draw(st.integers(1, 9)), data.draw(st.sampled_from(["example", "batch"]))
    mask = sampling(batch, hidden, alpha, per, seeded(data.draw(st.integers(0, 999))))
    assert mask.shape == (batch, hidden) and mask.dtype == torch.bool
    assert mask.sum(1).tolist() == [alpha] * batch
    assert per == "example" or (mask == mask[0]).all()


def test_rows_differ_per_example_and_not_per_batch():
    rows = {tuple(row) for row in sampling(50, 128, 64, "example", seeded()).tolist()}
    assert len(rows) == 50
    one = {tuple(row) for row in sampling(50, 128, 64, "batch", seeded()).tolist()}
    other = {tuple(row) for row in sampling(50, 128, 64, "batch", seeded(1)).tolist()}
    assert len(one) == len(other) == 1 and one != other  # but the next batch has another


@pytest.mark.parametrize("alpha", [1, 16, 64, 120])
def test_every_index_is_drawn_equally_often(alpha):
    """Counts of a draw without replacement: their chi-square has 127 degrees of freedom (mean 127, deviation 16)."""
    rows, hidden = 20_000, 128
    counts = sampling(rows, hidden, alpha, generator=seeded(3)).sum(0).double()
    share = alpha / hidden
    variance = rows * share * (1 - share) * hidden / (hidden - 1)
    statistic = float((counts - rows * share).square().sum() / variance)
    assert 127 - 5 * 16 < statistic < 127 + 5 * 16


def test_pairs_of_indices_are_drawn_equally_often():
    mask = sampling(20_000, 6, 3, generator=seeded(4)).double()
    together = (mask.T @ mask / len(mask))[~torch.eye(6, dtype=torch.bool)]
    assert (together - 3 / 6 * 2 / 5).abs().max() < 5 * 0.0029


def test_draws_follow_torchs_generator_alone():
    before, pythons, numpys = torch.get_rng_state(), random.getstate(), np.random.get_state()[1].copy()  # noqa: NPY002
    first, again, other = (sampling(4, 128, 64, generator=seeded(seed)) for seed in (1, 1, 2))
    assert torch.equal(first, again) and not torch.equal(first, other)
    assert torch.equal(torch.get_rng_state(), before)
    assert random.getstate() == pythons and (np.random.get_state()[1] == numpys).all()  # noqa: NPY002


def test_draws_without_a_generator_follow_torchs_seed():
    with torch.random.fork_rng(devices=[]):
        masks = []
        for seed in (5, 5, 6):
            torch.manual_seed(seed)
            masks.append(sampling(4, 128, 64))
    assert torch.equal(masks[0], masks[1]) and not torch.equal(masks[0], masks[2])


def test_the_models_mask_follows_its_settings():
    batch = build(alpha=10, mask_per="batch").mask(5, generator=seeded())
    assert batch.sum(1).tolist() == [10] * 5 and (batch == batch[0]).all()
    example = build(alpha=10).mask(5, generator=seeded())
    assert example.sum(1).tolist() == [10] * 5 and not (example == example[0]).all()
    assert build().mask(2, alpha=3, generator=seeded()).sum(1).tolist() == [3, 3]
    assert build().mask(2, alpha=0, generator=seeded()).sum() == 0  # 0 is not "not given"


# Resampling


@settings(max_examples=30, deadline=None)
@given(alpha=st.integers(0, 128), seed=st.integers(0, 999))
def test_resampling_is_the_originals_index_assignment(alpha, seed):
    """The original fills a vector of zeros by index: `chosen` at the drawn ones, `other` at their complement."""
    chosen, other = normal(4, 128, seed=seed), normal(4, 128, seed=seed + 1)
    mask = sampling(4, 128, alpha, "batch", seeded(seed))
    drawn = mask[0].nonzero().flatten()
    complement = torch.tensor([i for i in range(128) if i not in set(drawn.tolist())], dtype=torch.int64)
    filled = torch.zeros(4, 128)
    filled[:, drawn] = chosen[:, drawn]
    filled[:, complement] = other[:, complement]
    assert torch.equal(resampling(chosen, other, mask), filled)


def sides(model: MixAndMatch) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor, torch.Tensor]:
    """Data features, condition features, a latent and a mask for 4 examples."""
    return normal(4, 128, seed=1), normal(4, 128, seed=2), normal(4, 32, seed=3), model.mask(4, generator=seeded(4))


def test_both_sides_are_the_originals_index_assignment():
    model = build(mask_per="batch")
    data, condition, z, mask = sides(model)
    drawn, complement = mask[0].nonzero().flatten(), (~mask[0]).nonzero().flatten()
    encoder_input, decoder_input = torch.zeros(4, 128), torch.zeros(4, 128)
    encoder_input[:, drawn], encoder_input[:, complement] = data[:, drawn], condition[:, complement]
    latent = model.latent_projection(z)
    decoder_input[:, drawn], decoder_input[:, complement] = condition[:, drawn], latent[:, complement]
    posterior = model.encode(data, condition, mask)
    torch.testing.assert_close(posterior.mean, model.mean(encoder_input))
    torch.testing.assert_close(posterior.log_var, model.log_var(encoder_input))
    torch.testing.assert_close(model.decode(z, condition, mask), model.decoder(decoder_input))


def test_the_encoder_sees_data_at_the_drawn_indices_and_the_condition_elsewhere():
    model = build()
    data, condition, _, mask = sides(model)
    mean = model.encode(data, condition, mask).mean
    assert torch.equal(model.encode(torch.where(mask, data, 99.0), condition, mask).mean, mean)
    assert torch.equal(model.encode(data, torch.where(mask, 99.0, condition), mask).mean, mean)
    assert not torch.equal(model.encode(torch.where(mask, 99.0, data), condition, mask).mean, mean)
    assert not torch.equal(model.encode(data, torch.where(mask, condition, 99.0), mask).mean, mean)


def test_the_decoder_sees_the_condition_at_the_drawn_indices_only():
    model = build()
    _, condition, z, mask = sides(model)
    logits = model.decode(z, condition, mask)
    assert torch.equal(model.decode(z, torch.where(mask, condition, 99.0), mask), logits)
    assert not torch.equal(model.decode(z, torch.where(mask, 99.0, condition), mask), logits)
    assert not torch.equal(model.decode(z + 1, condition, mask), logits)


def test_concatenation_keeps_both_vectors_whole_and_needs_no_mask():
    model = build(mixing="concatenation")
    data, condition, z, mask = sides(model)
    posterior = model.encode(data, condition, mask)
    torch.testing.assert_close(posterior.mean, model.mean(torch.cat((data, condition), 1)))
    logits = model.decode(z, condition, mask)
    torch.testing.assert_close(logits, model.decoder(torch.cat((condition, model.latent_projection(z)), 1)))
    assert torch.equal(model.decode(z, condition, ~mask), logits)


def test_at_full_alpha_the_latent_is_not_heard():
    model, bottoms = build(alpha=128), batch_of(3).images.flatten(1)[:, 500:]
    assert torch.equal(model.sample(bottoms, z=normal(3, 32)), model.sample(bottoms, z=normal(3, 32, seed=1)))
    first, second = model.sample(bottoms[:1], z=normal(1, 32)), model.sample(bottoms[1:2], z=normal(1, 32))
    assert not torch.equal(first, second)


def test_at_alpha_0_the_condition_does_not_reach_the_decoder():
    bottoms = batch_of(3).images.flatten(1)[:, 500:]
    model, z = build(alpha=0), normal(3, 32)
    assert torch.equal(model.sample(bottoms, z=z), model.sample(bottoms.flip(0), z=z))
    assert torch.equal(model.sample(bottoms, generator=seeded()), model.sample(bottoms.flip(0), generator=seeded()))
    assert not torch.equal(model.sample(bottoms, z=z), model.sample(bottoms, z=z + 1))
    guided = build(alpha=0, prior="conditional")
    assert torch.equal(guided.sample(bottoms, z=z), guided.sample(bottoms.flip(0), z=z))
    other = guided.sample(bottoms.flip(0), generator=seeded())
    assert not torch.equal(guided.sample(bottoms, generator=seeded()), other)  # by its prior alone


# The loss


def priors_of(model: MixAndMatch, features: torch.Tensor) -> Normal:
    if model.config.prior == "standard":
        return Normal(torch.zeros(len(features), 32), torch.ones(len(features), 32))
    return Normal(model.prior_mean(features), (0.5 * model.prior_log_var(features)).exp())


@KINDS
@pytest.mark.parametrize("training", [False, True], ids=["evaluation", "training"])
def test_loss_is_torchs(mixing, prior, training):
    """Every step written out again with torch.distributions. Binary pixels: the cross-entropy is Bernoulli's own."""
    model, batch, noise = build(mixing=mixing, prior=prior).train(training), batch_of(6, binary=True), normal(6, 32)
    mask = model.mask(6, generator=seeded(1))
    terms = model.loss(batch, mask=mask, noise=noise)
    top, bottom = batch.images.flatten(1).split([500, 284], dim=1)
    data, condition = model.data_encoder(top), model.condition_encoder(bottom)

    def mix(chosen, other):
        if mixing == "concatenation":
            return torch.cat((chosen, other), 1)
        return chosen * mask + other * ~mask

    mixed = mix(data, condition)
    posterior = Normal(model.mean(mixed), (0.5 * model.log_var(mixed)).exp())
    logits = model.decoder(mix(condition, model.latent_projection(posterior.mean + posterior.stddev * noise)))
    expected_kl = kl_divergence(posterior, priors_of(model, condition)).sum(1)
    torch.testing.assert_close(terms["bce"], -Bernoulli(logits=logits).log_prob(top).sum(1), rtol=1e-5, atol=1e-4)
    torch.testing.assert_close(terms["kl"], expected_kl, rtol=1e-4, atol=1e-5)
    assert list(terms) == ["bce", "kl"] and terms["bce"].shape == terms["kl"].shape == (6,)


def test_grey_pixels_are_read_as_bernoulli_means():
    model, batch = build(), batch_of(3)
    given = {"mask": model.mask(3, generator=seeded()), "noise": normal(3, 32)}
    top, bottom = model.split(batch.images)
    features = model.condition_encoder(bottom)
    z = model.encode(model.data_encoder(top), features, given["mask"]).sample(given["noise"])
    p = model.decode(z, features, given["mask"]).sigmoid()
    expected = -(top * p.log() + (1 - top) * (1 - p).log()).sum(1)
    torch.testing.assert_close(model.loss(batch, **given)["bce"], expected, rtol=1e-4, atol=1e-3)


@KINDS
def test_terms_belong_to_their_examples_and_a_batch_of_one_works(mixing, prior):
    model, batch, noise = build(mixing=mixing, prior=prior), batch_of(4), normal(4, 32)
    mask = model.mask(4, generator=seeded())
    together = model.loss(batch, mask=mask, noise=noise)
    alone = model.loss(Batch(batch.images[1:2], batch.labels[1:2]), mask=mask[1:2], noise=noise[1:2])
    for name, term in alone.items():
        torch.testing.assert_close(term, together[name][1:2], rtol=1e-5, atol=1e-4)
    assert model.sample(batch.images[:1].flatten(1)[:, 500:], generator=seeded()).shape == (1, 500)


def test_losss_randomness_is_the_generators():
    model, batch, before = build(), batch_of(4), torch.get_rng_state()

    def bce(seed: int, **options) -> torch.Tensor:
        return model.loss(batch, generator=seeded(seed), **options)["bce"]

    assert torch.equal(bce(1), bce(1)) and not torch.equal(bce(1), bce(2))
    mask, noise = model.mask(4, generator=seeded()), normal(4, 32)
    assert torch.equal(bce(1, mask=mask, noise=noise), bce(2, mask=mask, noise=noise))
    assert not torch.equal(bce(1, mask=mask), bce(2, mask=mask)) and not torch.equal(
        bce(1, noise=noise), bce(2, noise=noise)
    )
    assert torch.equal(torch.get_rng_state(), before)


def test_losss_alpha_overrides_the_configured_one():
    model, batch, noise = build(), batch_of(4), normal(4, 32)
    full = torch.ones(4, 128, dtype=torch.bool)
    given = model.loss(batch, alpha=128, noise=noise, generator=seeded())
    assert torch.equal(given["bce"], model.loss(batch, mask=full, noise=noise)["bce"])
    none = model.loss(batch, alpha=0, noise=noise, generator=seeded())
    assert torch.equal(none["bce"], model.loss(batch, mask=~full, noise=noise)["bce"])


# The prior and samples


def test_the_standard_prior_ignores_the_condition():
    prior = build().prior(normal(3, 128))
    assert prior.mean.shape == (3, 32) and prior.mean.abs().max() == 0 and prior.log_var.abs().max() == 0


def test_the_conditional_prior_is_used_in_the_kl_and_in_samples():
    model, batch, noise = build(prior="conditional"), batch_of(3), normal(3, 32)
    mask = model.mask(3, generator=seeded())
    bottoms = model.split(batch.images)[1]
    features = model.condition_encoder(bottoms)
    before, drawn = (
        model.loss(batch, mask=mask, noise=noise)["kl"],
        model.sample(bottoms, mask=mask, generator=seeded(5)),
    )
    prior = model.prior(features)
    first_noise = torch.randn(3, 32, generator=seeded(5))
    torch.testing.assert_close(
        drawn, model.sample(bottoms, mask=mask, z=prior.mean + (0.5 * prior.log_var).exp() * first_noise)
    )
    with torch.no_grad():
        model.prior_mean[-1].bias.add_(1)
    assert (model.loss(batch, mask=mask, noise=noise)["kl"] != before).all()
    assert not torch.equal(model.sample(bottoms, mask=mask, generator=seeded(5)), drawn)


@KINDS
def test_samples_are_decoder_means(mixing, prior):
    model, bottoms = build(mixing=mixing, prior=prior), batch_of(4).images.flatten(1)[:, 500:]
    z, mask = normal(4, 32), build().mask(4, generator=seeded())
    given = model.sample(bottoms, z=z, mask=mask)
    torch.testing.assert_close(given, model.decode(z, model.condition_encoder(bottoms), mask).sigmoid())
    assert given.shape == (4, 500) and given.min() >= 0 and given.max() <= 1
    first, again, other = (model.sample(bottoms, generator=seeded(seed)) for seed in (1, 1, 2))
    assert torch.equal(first, again) and not torch.equal(first, other)


def test_samples_of_one_bottom_differ_by_their_z_and_by_their_mask():
    model, bottom = build(), batch_of(1).images.flatten(1)[:, 500:].expand(2, 284)
    by_z = model.sample(bottom, z=normal(2, 32), mask=model.mask(1, generator=seeded()).expand(2, 128))
    by_mask = model.sample(bottom, z=normal(1, 32).expand(2, 32), generator=seeded())
    assert not torch.equal(by_z[0], by_z[1]) and not torch.equal(by_mask[0], by_mask[1])


def test_the_standard_prior_draws_standard_normal_latents():
    model, bottoms = build(), batch_of(3).images.flatten(1)[:, 500:]
    mask, noise = model.mask(3, generator=seeded()), torch.randn(3, 32, generator=seeded(8))
    torch.testing.assert_close(
        model.sample(bottoms, mask=mask, generator=seeded(8)), model.sample(bottoms, mask=mask, z=noise)
    )


# Gradients


def models():
    return [("completer", "none"), *((mixing, prior) for mixing in MIXINGS for prior in PRIORS)]


def any_model(mixing: str, prior: str, **sizes) -> nn.Module:
    if mixing == "completer":
        return initialise(lambda: Completer(MixAndMatchConfig(**sizes)), 0)
    return initialise(lambda: MixAndMatch(MixAndMatchConfig(mixing=mixing, prior=prior, **sizes)), 0)


@pytest.mark.parametrize(("mixing", "prior"), models())
def test_every_parameter_learns(mixing, prior):
    model = any_model(mixing, prior).train()
    assert_every_parameter_learns(model, model.loss(batch_of(32), generator=seeded()))


@pytest.mark.parametrize(("mixing", "prior"), models())
def test_gradients_against_finite_differences(mixing, prior):
    model = any_model(mixing, prior, hidden_dim=10, latent_dim=3, alpha=5).double().eval()
    drawn = batch_of(3, seed=1)  # none of whose units stands at the kink of a ReLU
    batch = Batch(drawn.images.double(), drawn.labels)
    given = {} if mixing == "completer" else {"mask": model.mask(3, generator=seeded()), "noise": normal(3, 3).double()}
    assert_gradients_agree(model, lambda: model.loss(batch, **given))


# The completer


def test_the_completer_answers_once_and_its_loss_is_torchs():
    model, batch = initialise(Completer, 0).eval(), batch_of(5, binary=True)
    top, bottom = batch.images.flatten(1).split([500, 284], dim=1)
    logits = model.decoder(model.condition_encoder(bottom))
    terms = model.loss(batch)
    assert list(terms) == ["bce"]
    torch.testing.assert_close(terms["bce"], -Bernoulli(logits=logits).log_prob(top).sum(1), rtol=1e-5, atol=1e-4)
    torch.testing.assert_close(model.sample(bottom), logits.sigmoid())
    assert torch.equal(model.sample(bottom, generator=seeded(1)), model.sample(bottom, generator=seeded(2)))
    assert model.sample(bottom[:1]).shape == (1, 500)


# Bad input


@pytest.mark.parametrize("alpha", [-1, 129, 64.0, True, "64", np.float64(64)])
def test_alpha_out_of_range_or_no_int(alpha):
    message = re.escape(f"alpha (of hidden_dim=128) must be a whole number between 0 and 128, got {alpha!r}")
    with pytest.raises(ValueError, match=rf"alpha .*must be a whole number .*, got {re.escape(repr(alpha))}"):
        MixAndMatchConfig(alpha=alpha)
    with pytest.raises(ValueError, match=message):
        sampling(2, 128, alpha)
    with pytest.raises(ValueError, match=message):
        build().loss(batch_of(2), alpha=alpha)


@pytest.mark.parametrize(
    ("name", "value", "allowed"),
    [("mixing", "mix", MIXINGS), ("prior", "learnt", PRIORS), ("mask_per", "pixel", ("example", "batch"))],
)
def test_unknown_choices(name, value, allowed):
    with pytest.raises(ValueError, match=f"^{name} must be one of {', '.join(allowed)}, got '{value}'$"):
        MixAndMatch(MixAndMatchConfig(**{name: value}))


def test_sampling_refuses_an_empty_batch_and_an_unknown_per():
    with pytest.raises(ValueError, match="batch must be a whole number at least 1, got 0"):
        sampling(0, 128, 64)
    with pytest.raises(ValueError, match="per must be one of example, batch, got 'pixel'"):
        sampling(2, 128, 64, "pixel")


MASKS = {
    "too narrow": torch.ones(2, 127, dtype=torch.bool),
    "too few rows": torch.ones(1, 128, dtype=torch.bool),
    "one row without its batch": torch.ones(128, dtype=torch.bool),
    "of numbers": torch.ones(2, 128),
    "of ints": torch.ones(2, 128, dtype=torch.int64),
}


@pytest.mark.parametrize("kind", MASKS)
def test_wrong_masks(kind):
    mask, model = MASKS[kind], build()
    message = re.escape(f"mask must be bool [2, 128], got {mask.dtype} {list(mask.shape)}")
    with pytest.raises(ValueError, match=message):
        model.loss(batch_of(2), mask=mask)
    with pytest.raises(ValueError, match=message):
        model.sample(torch.zeros(2, 284), mask=mask)


@pytest.mark.parametrize("build_one", [build, lambda: Completer().eval()], ids=["mix-and-match", "completer"])
def test_images_and_conditions_are_checked(build_one):
    for images in (torch.zeros(0, 1, 28, 28), torch.full((1, 1, 28, 28), 255.0)):
        with pytest.raises(ValueError, match=r"^images must hold .*, got "):
            build_one().loss(Batch(images, torch.zeros(len(images), dtype=torch.int64)))
    for condition in (torch.zeros(0, 284), torch.zeros(2, 500), torch.zeros(284), torch.full((1, 284), 255.0)):
        with pytest.raises(ValueError, match=r"^condition must hold .*, got "):
            build_one().sample(condition)
