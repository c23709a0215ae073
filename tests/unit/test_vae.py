"""The primer's VAE: its loss against torch.distributions, its gradients, a teacher-forced decoder that cannot peek."""

from __future__ import annotations

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
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
from latentbook.models.vae import VAE, VAEConfig
from latentbook.training.loop import initialise

BOTH = pytest.mark.parametrize("forcing", [False, True], ids=["plain", "teacher-forcing"])


def build(forcing: bool = False, seed: int = 0, **sizes) -> VAE:
    return initialise(lambda: VAE(VAEConfig(teacher_forcing=forcing, **sizes)), seed)


def test_sizes():
    model = build()
    assert linears(model) == [(784, 256), (256, 16), (256, 16), (16, 256), (256, 784)]


@BOTH
def test_loss_is_torchs(forcing):
    """Binary pixels, so that the cross-entropy is Bernoulli's own log-likelihood."""
    model, batch, noise = build(forcing), batch_of(5, binary=True), normal(5, 16)
    terms = model.loss(batch, noise=noise)
    encoded = model.encode(batch.images)
    posterior = Normal(encoded.mean, (0.5 * encoded.log_var).exp())
    logits = model.decode(posterior.mean + posterior.stddev * noise, batch.images)
    expected = -Bernoulli(logits=logits).log_prob(batch.images.flatten(1)).sum(1)
    torch.testing.assert_close(terms["bce"], expected)
    standard = Normal(torch.zeros(5, 16), torch.ones(5, 16))
    torch.testing.assert_close(terms["kl"], kl_divergence(posterior, standard).sum(1), rtol=1e-5, atol=1e-5)
    assert list(terms) == ["bce", "kl"] and all(term.shape == (5,) for term in terms.values())


@BOTH
def test_terms_belong_to_their_examples(forcing):
    model, batch, noise = build(forcing), batch_of(4), normal(4, 16)
    together = model.loss(batch, noise=noise)
    alone = model.loss(Batch(batch.images[2:3], batch.labels[2:3]), noise=noise[2:3])  # a batch of 1 works
    for name, term in alone.items():
        torch.testing.assert_close(term, together[name][2:3], rtol=1e-5, atol=1e-4)


@BOTH
def test_every_parameter_learns(forcing):
    model = build(forcing)
    assert_every_parameter_learns(model, model.loss(batch_of(8), noise=normal(8, 16)))


@BOTH
def test_gradients_against_finite_differences(forcing):
    model = build(forcing, hidden_dim=12, latent_dim=3).double().eval()
    batch, noise = Batch(batch_of(2).images.double(), batch_of(2).labels), normal(2, 3).double()
    assert_gradients_agree(model, lambda: model.loss(batch, noise=noise))


def test_randomness_is_the_generators():
    model, batch, before = build(), batch_of(3), torch.get_rng_state()

    def draw(seed: int) -> torch.Tensor:
        return model.loss(batch, generator=seeded(seed))["bce"]

    assert torch.equal(draw(1), draw(1)) and not torch.equal(draw(1), draw(2))
    first, again = (model.sample(3, generator=seeded(1)) for _ in range(2))
    assert torch.equal(first, again) and not torch.equal(first[0], first[1])
    assert torch.equal(torch.get_rng_state(), before)


def test_samples_are_decoder_means():
    model, z = build(), normal(4, 16)
    images = model.sample(4, z=z)
    assert images.shape == (4, 1, 28, 28)
    torch.testing.assert_close(images.flatten(1), model.decode(z).sigmoid())


@pytest.mark.parametrize("images", [torch.zeros(0, 1, 28, 28), torch.full((1, 1, 28, 28), 255.0)])
def test_images_are_checked(images):
    model = build()
    for ask in (model.encode, lambda given: model.loss(Batch(given, torch.zeros(len(given), dtype=torch.int64)))):
        with pytest.raises(ValueError, match=r"^images must hold .*, got "):
            ask(images)


# Teacher forcing


def test_teacher_forcing_needs_the_image():
    with pytest.raises(ValueError, match="a decoder with teacher forcing needs `seen`"):
        build(True).decode(normal(1, 16))
    with pytest.raises(ValueError, match="needs `seen`"):
        build(True).sample(1)
    assert build(False).decode(normal(1, 16)).shape == (1, 784)


def looking_back() -> VAE:
    """A teacher-forced model whose every weight is set, so that nothing is silent by its initial value."""
    model = build(True)
    generator = seeded(5)
    with torch.no_grad():
        for parameter in model.neighbours.parameters():
            parameter.add_(0.1 * torch.randn(parameter.shape, generator=generator))
    return model


@settings(max_examples=25, deadline=None)
@given(st.integers(0, 783))
def test_a_logit_looks_back_only(pixel):
    """The gradient of one logit by the image it may see: nothing at the pixel itself or after it, in reading order."""
    model, seen = looking_back(), batch_of(1).images.requires_grad_()
    model.decode(normal(1, 16), seen)[0, pixel].backward()
    gradient = seen.grad.flatten()
    assert gradient[pixel:].abs().max() == 0
    row, column = divmod(pixel, 28)
    if column > 0:
        assert gradient[pixel - 1] != 0  # the left neighbour is seen
    if row > 0:
        assert gradient[pixel - 28] != 0  # and the upper one
    if row > 0 and column < 27:
        assert gradient[pixel - 27] != 0  # and the one right of it


@settings(max_examples=10, deadline=None)
@given(st.integers(0, 783))
def test_changing_a_pixel_changes_only_later_logits(pixel):
    model, seen = looking_back(), batch_of(1).images
    changed = seen.clone()
    changed.view(-1)[pixel] = (changed.view(-1)[pixel] + 0.5) % 1
    with torch.no_grad():
        difference = (model.decode(normal(1, 16), changed) - model.decode(normal(1, 16), seen))[0]
    # not exactly 0: a matrix product may sum in another order
    assert difference[: pixel + 1].abs().max() < 1e-6
    assert pixel >= 783 or difference[pixel + 1 :].abs().max() > 1e-5


def test_without_teacher_forcing_the_image_is_not_seen():
    model, z = build(), normal(2, 16)
    assert torch.equal(model.decode(z, batch_of(2).images), model.decode(z, batch_of(2, seed=1).images))


def test_all_neighbours_sees_every_pixel_but_the_one_it_is_asked_for():
    model = initialise(lambda: VAE(VAEConfig(teacher_forcing=True, neighbours="all")), 0)
    model.neighbours.weight.data.fill_(1.0)
    image = torch.zeros(1, 1, 28, 28)
    image[0, 0, 3, 5] = 1
    logits = model.neighbours(image)[0]
    assert logits[3 * 28 + 5] == 0 and logits.sum() == 783


def test_unknown_neighbours_are_refused():
    with pytest.raises(ValueError, match="neighbours must be one of before, all, got 'below'"):
        VAE(VAEConfig(teacher_forcing=True, neighbours="below"))
