"""The conditional VAE: sizes, each loss by hand, the sum over classes, which gradient reaches whom, errors."""

from __future__ import annotations

import math
import re
from dataclasses import replace
from itertools import product

import pytest
import torch
import torch.nn.functional as F
from torch import nn
from torch.distributions import Bernoulli, Categorical, Normal, kl_divergence
from unit_harness import (
    assert_every_parameter_learns,
    assert_gradients_agree,
    batch_of,
    linears,
    normal,
    seeded,
    uniform,
)

from latentbook.data.digits import Batch, load_digits
from latentbook.layers.distributions import gumbel_softmax
from latentbook.layers.nets import smoothness
from latentbook.models.conditional_vae import (
    LABELS,
    POSTERIORS,
    UNLABELLED,
    ConditionalVAE,
    ConditionalVAEConfig,
    check_classes,
)
from latentbook.training.loop import fit, initialise

KINDS = pytest.mark.parametrize(
    ("posterior", "label"), [(posterior, label) for posterior in POSTERIORS for label in LABELS]
)
POSTERIOR = pytest.mark.parametrize("posterior", POSTERIORS)


def build(seed: int = 0, **choices) -> ConditionalVAE:
    """A small model in training mode, with a classifier that is sure enough to make its classes differ."""
    choices = {"hidden_dim": 16, "latent_dim": 4} | choices
    model = initialise(lambda: ConditionalVAE(ConditionalVAEConfig(**choices)), seed)
    with torch.no_grad():
        model.classifier[-1].weight.mul_(8)
    return model.train()


def with_weights_of(model: ConditionalVAE, **choices) -> ConditionalVAE:
    """The same weights under other choices."""
    other = ConditionalVAE(ConditionalVAEConfig(**{"hidden_dim": 16, "latent_dim": 4} | choices)).to(model.mean.weight)
    other.load_state_dict(model.state_dict())
    return other.train(model.training)


def partly(batch: Batch, *rows: int) -> Batch:
    """The same batch without the labels of some rows."""
    labels = batch.labels.clone()
    labels[list(rows)] = UNLABELLED
    return Batch(batch.images, labels)


def rows(labels: torch.Tensor) -> torch.Tensor:
    return F.one_hot(labels, 10).float()


def by_hand(model: ConditionalVAE, x: torch.Tensor, y: torch.Tensor, noise: torch.Tensor) -> tuple:
    """bce, kl and z of one y an image, by concatenation and torch.distributions."""
    hidden = model.encoder(torch.cat((x, y), 1) if model.config.posterior == "image-and-label" else x)
    posterior = Normal(model.mean(hidden), (0.5 * model.log_var(hidden)).exp())
    z = posterior.mean + posterior.stddev * noise
    logits = model.decoder(torch.cat((z, y), 1))
    kl = kl_divergence(posterior, Normal(torch.zeros_like(z), torch.ones_like(z))).sum(1)
    return F.binary_cross_entropy_with_logits(logits, x, reduction="none").sum(1), kl, z


def close(found: torch.Tensor, expected: torch.Tensor) -> None:
    torch.testing.assert_close(found, expected, rtol=1e-5, atol=1e-4)


# Sizes


def test_the_sizes_are_the_tutorials():
    model = ConditionalVAE()
    assert linears(model.encoder) == linears(model.classifier)[:1] == [(784, 128)]
    assert linears(model.mean) == linears(model.log_var) == [(128, 20)]
    assert linears(model.decoder) == [(30, 128), (128, 784)] and linears(model.classifier) == [(784, 128), (128, 10)]
    named = {name.split(".")[0] for name, _ in model.named_parameters()}
    assert named == {"encoder", "mean", "log_var", "decoder", "classifier"}
    c = model.config
    assert (c.posterior, c.label, c.temperature) == ("image", "hard", 1.0)
    assert not any((c.cut_gradient, c.label_kl, c.adversary, c.recovery, c.smooth_radius, c.dropout))


def test_the_choices_change_no_size_but_the_encoders_input_and_the_adversary():
    full = ConditionalVAE(
        ConditionalVAEConfig(posterior="image-and-label", label="known", adversary=True, recovery=True)
    )
    assert linears(full.encoder) == [(794, 128)] and linears(full.adversary) == [(20, 256), (256, 10)]
    assert [size for size in linears(full) if size not in linears(ConditionalVAE())] == [
        (794, 128),
        (20, 256),
        (256, 10),
    ]
    assert not hasattr(ConditionalVAE(), "adversary")


# The loss


@POSTERIOR
@pytest.mark.parametrize("label", ["hard", "soft"])
def test_loss_is_torchs(posterior, label):
    """Every step written out again with torch.distributions. Binary pixels: the cross-entropy is Bernoulli's own."""
    model, batch = build(posterior=posterior, label=label, label_kl=True, temperature=0.7), batch_of(6, binary=True)
    noise, u = normal(6, 4), uniform(6, 10)
    terms, x = model.loss(batch, noise=noise, uniform=u), batch.images.flatten(1)
    logits = model.classifier(x)
    y = ((logits - (-u.log()).log()) / 0.7).softmax(1)
    y = rows(y.argmax(1)) if label == "hard" else y
    bce, kl, z = by_hand(model, x, y, noise)
    close(terms["bce"], bce)
    close(terms["bce"], -Bernoulli(logits=model.decoder(torch.cat((z, y), 1))).log_prob(x).sum(1))
    close(terms["kl"], kl)
    close(terms["cross_entropy"], -Categorical(logits=logits).log_prob(batch.labels))
    close(terms["label_kl"], math.log(10) - Categorical(logits=logits).entropy())
    assert list(terms) == ["bce", "kl", "label_kl", "cross_entropy"]
    assert all(term.shape == (6,) for term in terms.values())


def test_the_tutorials_loss_has_no_term_for_the_label():
    assert list(build().loss(batch_of(3), generator=seeded())) == ["bce", "kl", "cross_entropy"]


@POSTERIOR
def test_the_expected_bound_is_the_sum_over_ten_classes(posterior):
    model, batch, noise = build(posterior=posterior, label="exact"), batch_of(5), normal(5, 4)
    x = batch.images.flatten(1)
    share = model.classifier(x).softmax(1)
    bce, kl = torch.zeros(5), torch.zeros(5)
    for k in range(10):
        each = by_hand(model, x, rows(torch.full((5,), k)), noise)
        bce, kl = bce + share[:, k] * each[0], kl + share[:, k] * each[1]
    terms = model.loss(batch, noise=noise)
    close(terms["bce"], bce)
    close(terms["kl"], kl)
    assert share.max() < 0.999 and share.min() > 1e-6  # so that every class has a part in it


@POSTERIOR
def test_the_expected_bound_is_the_mean_of_hard_draws(posterior):
    """4,000 draws of y for each of 3 images under the same noise of z, by the model that draws."""
    exact, n = build(posterior=posterior, label="exact"), 4000
    drawing, batch, noise = with_weights_of(exact, posterior=posterior), batch_of(3), normal(3, 4)
    with torch.no_grad():
        expected = exact.loss(batch, noise=noise)
        many = Batch(*(part.repeat_interleave(n, 0) for part in batch))
        draws = drawing.loss(many, noise=noise.repeat_interleave(n, 0), generator=seeded(1))
    for name in ("bce", "kl"):
        values = draws[name].view(3, n)
        error = values.std(1) / n**0.5
        assert ((values.mean(1) - expected[name]).abs() <= 5 * error + 1e-3).all(), name
        assert name == "kl" or (error > 1e-3).all()  # the draws do differ
    assert torch.equal(draws["cross_entropy"].view(3, n)[:, 0], draws["cross_entropy"].view(3, n)[:, 1])


UNKNOWN_ROWS = {"none": (), "all": tuple(range(6)), "first": (0, 1), "last": (4, 5), "mixed": (0, 3, 5)}


@POSTERIOR
@pytest.mark.parametrize("which", UNKNOWN_ROWS)
def test_known_labels_are_used_and_unknown_ones_summed_over(posterior, which):
    """Kingma et al. (2014): equation 6 where there is a label, equation 7 where there is none, in any order."""
    model, noise = build(posterior=posterior, label="known", label_kl=True), normal(6, 4)
    batch = partly(batch_of(6), *UNKNOWN_ROWS[which])
    terms, x, unknown = model.loss(batch, noise=noise), batch.images.flatten(1), batch.labels == UNLABELLED
    summed = with_weights_of(model, posterior=posterior, label="exact", label_kl=True).loss(batch, noise=noise)
    bce, kl, _ = by_hand(model, x, rows(batch.labels.clamp(min=0)), noise)
    close(terms["bce"], torch.where(unknown, summed["bce"], bce))
    close(terms["kl"], torch.where(unknown, summed["kl"], kl))
    close(terms["label_kl"], torch.where(unknown, summed["label_kl"], math.log(10)))
    log_share = model.classifier(x).log_softmax(1)
    close(terms["cross_entropy"], torch.where(unknown, 0.0, -log_share[range(6), batch.labels.clamp(min=0)]))
    assert (terms["cross_entropy"] == 0).sum() == unknown.sum()


def test_the_sum_weighs_each_labels_bound_and_adds_what_the_guess_costs():
    """Equation 7 by equation 6: the expectation over q(y | x) of each label's bound and of log q(y | x)."""
    model, batch, noise = build(label="known", label_kl=True), batch_of(4), normal(4, 4)
    share = model.classifier(batch.images.flatten(1)).softmax(1)
    found = sum(model.loss(partly(batch, *range(4)), noise=noise)[name] for name in ("bce", "kl", "label_kl"))
    expected = torch.zeros(4)
    for k in range(10):
        terms = model.loss(Batch(batch.images, torch.full((4,), k)), noise=noise)
        expected = expected + share[:, k] * (terms["bce"] + terms["kl"] + terms["label_kl"] + share[:, k].log())
    close(found, expected)


@KINDS
def test_terms_belong_to_their_examples_and_a_batch_of_one_works(posterior, label):
    model = build(posterior=posterior, label=label, label_kl=True, adversary=label != "exact")
    batch, noise, u = partly(batch_of(4), 1), normal(4, 4), uniform(4, 10)
    together = model.loss(batch, noise=noise, uniform=u)
    for row in (1, 2):
        one = slice(row, row + 1)
        alone = model.loss(Batch(batch.images[one], batch.labels[one]), noise=noise[one], uniform=u[one])
        assert list(alone) == list(together)
        for name, term in alone.items():
            torch.testing.assert_close(term, together[name][one], rtol=1e-5, atol=1e-4)


@KINDS
def test_losss_randomness_is_the_generators(posterior, label):
    others = label != "exact"
    model = build(posterior=posterior, label=label, adversary=others, recovery=others, smooth_radius=1.0, dropout=0.3)
    batch, before = partly(batch_of(4), 2), torch.get_rng_state()

    def total(seed: int, **options) -> torch.Tensor:
        return sum(model.loss(batch, generator=seeded(seed), **options).values())

    assert torch.equal(total(1), total(1)) and not torch.equal(total(1), total(2))
    assert torch.equal(torch.get_rng_state(), before)


def test_noise_and_uniform_may_be_passed_in():
    model, batch, noise, u = build(), batch_of(4), normal(4, 4), uniform(4, 10)

    def bce(seed: int, **options) -> torch.Tensor:
        return model.loss(batch, generator=seeded(seed), **options)["bce"]

    assert torch.equal(bce(1, noise=noise, uniform=u), bce(2, noise=noise, uniform=u))
    assert not torch.equal(bce(1, noise=noise), bce(2, noise=noise))
    assert not torch.equal(bce(1, uniform=u), bce(2, uniform=u))
    stream = seeded(1)  # first z's noise, then y's
    drawn = {"noise": torch.randn(4, 4, generator=stream), "uniform": torch.rand(4, 10, generator=stream)}
    assert torch.equal(bce(1), bce(2, **drawn))


def test_losss_temperature_overrides_the_configured_one():
    model, batch, given = build(label="soft"), batch_of(4), {"noise": normal(4, 4), "uniform": uniform(4, 10)}
    colder = with_weights_of(model, label="soft", temperature=0.3)
    assert torch.equal(model.loss(batch, temperature=0.3, **given)["bce"], colder.loss(batch, **given)["bce"])
    assert torch.equal(colder.loss(batch, temperature=1.0, **given)["bce"], model.loss(batch, **given)["bce"])
    assert not torch.equal(model.loss(batch, **given)["bce"], colder.loss(batch, **given)["bce"])


@POSTERIOR
@pytest.mark.parametrize("label", ["hard", "soft"])
def test_there_is_no_gumbel_noise_after_training(posterior, label):
    """The tutorial drew y at test time too. Here the best class is taken, whatever the noise."""
    model, batch, noise = build(posterior=posterior, label=label), batch_of(8), normal(8, 4)
    first, second = ({"noise": noise, "uniform": uniform(8, 10, seed=seed)} for seed in (1, 2))
    assert not torch.equal(model.loss(batch, **first)["bce"], model.loss(batch, **second)["bce"])
    model.eval()
    terms, x = model.loss(batch, **first), batch.images.flatten(1)
    assert torch.equal(terms["bce"], model.loss(batch, **second)["bce"])
    bce, kl, _ = by_hand(model, x, rows(model.classifier(x).argmax(1)), noise)
    close(terms["bce"], bce)
    close(terms["kl"], kl)


def test_dropout_is_the_classifiers_in_training_alone():
    model, x = build(dropout=0.5), batch_of(5).images.flatten(1)
    plain = model.classifier(x)
    dropped, again, other = (model.classify(x, seeded(seed)) for seed in (1, 1, 2))
    assert torch.equal(dropped, again) and not torch.equal(dropped, other) and not torch.equal(dropped, plain)
    assert torch.equal(model.predict(batch_of(5).images), plain.argmax(1))  # a prediction never drops anything
    assert torch.equal(model.eval().classify(x), plain)
    assert torch.equal(build().classify(x), build().classifier(x))


def test_dropout_is_of_the_hidden_layer_and_half_as_much_of_the_pixels():
    model, x, stream = build(dropout=0.4), batch_of(5).images.flatten(1), seeded(1)
    pixels = x * (torch.rand(5, 784, generator=stream) >= 0.2) / 0.8
    hidden = model.classifier[0](pixels)
    hidden = hidden * (torch.rand(5, 16, generator=stream) >= 0.4) / 0.6
    close(model.classify(x, seeded(1)), model.classifier[1](hidden))


# Encoding, predicting, sampling


def test_predict_is_the_most_probable_class():
    model, batch = build(), batch_of(9)
    found = model.predict(batch.images)
    assert found.dtype == torch.int64 and found.shape == (9,) and not found.requires_grad
    assert torch.equal(found, model.classifier(batch.images.flatten(1)).argmax(1)) and len(found.unique()) > 1
    assert torch.equal(model.predict(batch.images[:1]), found[:1])


@POSTERIOR
def test_infer_uses_the_prediction_unless_labels_are_given(posterior):
    model, batch = build(posterior=posterior), batch_of(7)
    guessed = model.infer(batch.images)
    given = model.infer(batch.images, model.predict(batch.images))
    assert guessed.mean.shape == guessed.log_var.shape == (7, 4)
    assert torch.equal(guessed.mean, given.mean) and torch.equal(guessed.log_var, given.log_var)
    other = model.infer(batch.images, (model.predict(batch.images) + 1) % 10)
    assert torch.equal(other.mean, given.mean) == (posterior == "image")  # q(z | x) does not look at y
    hidden = batch.images.flatten(1)
    if posterior == "image-and-label":
        hidden = torch.cat((hidden, rows(model.predict(batch.images))), 1)
    torch.testing.assert_close(guessed.mean, model.mean(model.encoder(hidden)))
    torch.testing.assert_close(guessed.log_var, model.log_var(model.encoder(hidden)))


def test_samples_are_decoder_means():
    model, labels, z = build(), torch.arange(10), normal(10, 4)
    images = model.sample(labels, z=z)
    expected = model.decoder(torch.cat((z, rows(labels)), 1)).sigmoid().view(10, 1, 28, 28)
    torch.testing.assert_close(images, expected)
    assert images.shape == (10, 1, 28, 28) and images.min() >= 0 and images.max() <= 1
    torch.testing.assert_close(model.sample(labels[3:4], z=z[3:4]), images[3:4])
    first, again, other = (model.sample(labels, generator=seeded(seed)) for seed in (1, 1, 2))
    assert torch.equal(first, again) and not torch.equal(first, other)
    assert torch.equal(first, model.sample(labels, z=torch.randn(10, 4, generator=seeded(1))))  # the prior
    flipped = model.sample(labels.flip(0), z=z)
    assert not torch.equal(flipped, images)  # the label is heard


def test_other_sizes_work():
    model = build(n_classes=3, label="known", label_kl=True, posterior="image-and-label")
    batch = Batch(batch_of(3).images, torch.tensor([0, 2, UNLABELLED]))
    assert model.loss(batch, generator=seeded())["label_kl"][0].item() == pytest.approx(math.log(3))
    assert model.sample(torch.tensor([2])).shape == (1, 1, 28, 28)
    with pytest.raises(ValueError, match=re.escape("labels must be class numbers 0..2, got 3..3")):
        model.sample(torch.tensor([3]))


# Which gradient reaches whom


def configurations() -> list[dict]:
    found = []
    for posterior, label, cut, others in product(POSTERIORS, LABELS, (False, True), (False, True)):
        if not (label == "exact" and others):
            choices = {"posterior": posterior, "label": label, "cut_gradient": cut, "label_kl": others}
            found.append(
                choices
                | ({"adversary": True, "recovery": True, "smooth_radius": 1.0, "dropout": 0.2} if others else {})
            )
    return found


def name_of(choices: dict) -> str:
    return "-".join(value if isinstance(value, str) else name for name, value in choices.items() if value)


@pytest.mark.parametrize("choices", configurations(), ids=name_of)
def test_every_parameter_learns(choices):
    model = build(**choices)
    assert_every_parameter_learns(model, model.loss(partly(batch_of(16), 3, 4), generator=seeded()))


@KINDS
def test_gradients_against_finite_differences(posterior, label):
    """In double precision; not of straight-through draws, whose gradient is by intention not that of what they return."""
    label = "soft" if label == "hard" else label
    model = build(posterior=posterior, label=label, label_kl=True, hidden_dim=8, latent_dim=3).double()
    batch = partly(batch_of(4), 1, 2)
    batch = Batch(batch.images.double(), batch.labels)
    given = {"noise": normal(4, 3).double(), "uniform": uniform(4, 10).double()}
    assert_gradients_agree(model, lambda: model.loss(batch, **given))


def gradients(of: torch.Tensor, module: nn.Module) -> list[torch.Tensor]:
    """The gradient by each parameter, zero where there is none."""
    return torch.autograd.grad(of.sum(), tuple(module.parameters()), retain_graph=True, materialize_grads=True)


def largest(of: torch.Tensor, module: nn.Module) -> float:
    return max(float(gradient.abs().max()) for gradient in gradients(of, module))


@KINDS
def test_cut_the_reconstruction_tells_the_classifier_nothing(posterior, label):
    model = build(posterior=posterior, label=label)
    cut = with_weights_of(model, posterior=posterior, label=label, cut_gradient=True)
    batch, given = partly(batch_of(6), 0, 1), {"noise": normal(6, 4), "uniform": uniform(6, 10)}
    open_terms, cut_terms = model.loss(batch, **given), cut.loss(batch, **given)
    for name, term in open_terms.items():
        torch.testing.assert_close(term, cut_terms[name])  # the values are the same
    assert largest(open_terms["bce"], model.classifier) > 1e-4
    assert (largest(open_terms["kl"], model.classifier) > 1e-4) == (posterior == "image-and-label")
    assert largest(cut_terms["bce"] + cut_terms["kl"], cut.classifier) == 0
    assert largest(cut_terms["cross_entropy"], cut.classifier) > 0
    assert largest(cut_terms["bce"], cut.encoder) > 0 and largest(cut_terms["bce"], cut.decoder) > 0


def test_a_known_label_tells_the_classifier_nothing():
    model, batch = build(posterior="image-and-label", label="known", label_kl=True), batch_of(6)
    terms = model.loss(batch, noise=normal(6, 4))
    assert largest(terms["bce"] + terms["kl"] + terms["label_kl"], model.classifier) == 0
    assert largest(terms["cross_entropy"], model.classifier) > 0


def test_the_reconstructions_gradient_of_a_hard_draw_is_the_soft_ones_at_the_drawn_label():
    """Straight-through: the slope of the decoder at the one-hot label, handed to the relaxation."""
    model, batch, noise, u = build(), batch_of(5), normal(5, 4), uniform(5, 10)
    x = batch.images.flatten(1)
    logits = model.classifier(x)
    soft = gumbel_softmax(logits, 1.0, False, u)
    y = rows(soft.argmax(1)).requires_grad_()
    (slope,) = torch.autograd.grad(by_hand(model, x, y, noise)[0].sum(), y)
    expected = gradients((slope * soft).sum(), model.classifier)
    found = gradients(model.loss(batch, noise=noise, uniform=u)["bce"], model.classifier)
    for ours, theirs in zip(found, expected, strict=True):
        torch.testing.assert_close(ours, theirs, rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize("label", ["known", "hard", "soft"])
def test_the_adversary_learns_and_the_encoder_unlearns(label):
    model = build(posterior="image-and-label", label=label, adversary=True)
    batch, noise, u = batch_of(6), normal(6, 4), uniform(6, 10)
    x = batch.images.flatten(1)
    y = rows(batch.labels) if label == "known" else gumbel_softmax(model.classifier(x), 1.0, label == "hard", u)
    _, _, z = by_hand(model, x, y, noise)
    expected = F.cross_entropy(model.adversary(z), batch.labels, reduction="none")
    found = model.loss(batch, noise=noise, uniform=u)["adversary"]
    close(found, expected)
    for part, sign in ((model.adversary, 1), (model.encoder, -1), (model.mean, -1), (model.log_var, -1)):
        for ours, theirs in zip(gradients(found, part), gradients(expected, part), strict=True):
            torch.testing.assert_close(ours, sign * theirs, rtol=1e-4, atol=1e-6)
        assert largest(found, part) > 0
    assert largest(found, model.decoder) == 0


def test_the_adversary_passes_over_images_without_a_label():
    model, noise = build(label="known", adversary=True), normal(5, 4)
    batch = batch_of(5)
    whole, part = (model.loss(given, noise=noise)["adversary"] for given in (batch, partly(batch, 1, 3)))
    assert part[[1, 3]].tolist() == [0, 0]
    torch.testing.assert_close(part[[0, 2, 4]], whole[[0, 2, 4]])
    assert model.loss(partly(batch, *range(5)), noise=noise)["adversary"].tolist() == [0] * 5


def test_recovery_asks_the_decoder_and_holds_the_classifier():
    model, batch, stream = build(label="known", recovery=True), batch_of(6), seeded(5)
    found = model.loss(batch, noise=normal(6, 4), generator=seeded(5))["recovery"]
    prior, asked = torch.randn(6, 4, generator=stream), torch.randint(10, (6,), generator=stream)
    images = model.decoder(torch.cat((prior, rows(asked)), 1)).sigmoid()
    expected = F.cross_entropy(model.classifier(images), asked, reduction="none")
    close(found, expected)
    assert largest(found, model.classifier) == 0 < largest(expected, model.classifier)
    assert largest(found, model.encoder) == 0
    for ours, theirs in zip(gradients(found, model.decoder), gradients(expected, model.decoder), strict=True):
        torch.testing.assert_close(ours, theirs, rtol=1e-4, atol=1e-6)
    assert largest(found, model.decoder) > 0
    assert all(parameter.requires_grad for parameter in model.parameters())  # held for this term alone


def test_smoothness_is_the_classifiers_with_or_without_a_label():
    model, batch = build(label="known", smooth_radius=1.5), partly(batch_of(6), 1, 2)
    found = model.loss(batch, noise=normal(6, 4), generator=seeded(5))["smoothness"]
    expected = smoothness(model.classifier, batch.images.flatten(1), 1.5, seeded(5))
    close(found, expected)
    assert (found > 0).all() and largest(found, model.classifier) > 0
    assert largest(found, model.encoder) == largest(found, model.decoder) == 0
    model.eval()
    with torch.no_grad():  # it is measured on held-out digits, too
        assert torch.equal(
            model.loss(batch, generator=seeded(5))["smoothness"].isfinite(), torch.ones(6, dtype=torch.bool)
        )


# Training


@pytest.fixture(scope="module")
def digits():
    return load_digits("train", source="offline").take(slice(0, 240))


@pytest.mark.parametrize("choices", configurations()[::3], ids=name_of)
@pytest.mark.parametrize("precision", ["float32", "bfloat16"])
def test_every_kind_trains_with_labels_missing(choices, precision, digits):
    """Long enough for half precision to draw numbers next to 0 and to 1."""
    labels = torch.where(torch.arange(240) % 3 == 0, digits.labels, UNLABELLED)
    given = replace(digits, labels=labels)
    history = fit(build(**choices), given, epochs=3, batch_size=80, precision=precision, progress=False)
    assert all(math.isfinite(value) for epoch in history.epochs for value in epoch.values())
    assert history.curve("bce")[2] < history.curve("bce")[0]


@pytest.mark.gpu
@KINDS
@pytest.mark.parametrize("precision", ["float32", "bfloat16"])
def test_the_same_code_runs_on_an_accelerator(posterior, label, precision, digits):
    others = label != "exact"
    choices = {"posterior": posterior, "label": label, "label_kl": True, "adversary": others, "recovery": others}
    model = build(**choices, dropout=0.1)
    history = fit(model, digits, epochs=2, batch_size=40, device="cuda", precision=precision, progress=False)
    assert history.curve("bce")[1] < history.curve("bce")[0]
    images = digits.images.cuda()
    asked = torch.arange(10, device="cuda")
    assert model.sample(asked).is_cuda and model.sample(asked, generator=seeded()).is_cuda
    assert model.infer(images).mean.is_cuda and model.predict(images).is_cuda


# Bad input


@pytest.mark.parametrize(("name", "value", "allowed"), [("posterior", "label", POSTERIORS), ("label", "true", LABELS)])
def test_unknown_choices(name, value, allowed):
    with pytest.raises(ValueError, match=f"^{name} must be one of {', '.join(allowed)}, got '{value}'$"):
        ConditionalVAE(ConditionalVAEConfig(**{name: value}))


@pytest.mark.parametrize("term", ["adversary", "recovery"])
def test_the_sum_over_classes_has_no_one_code(term):
    message = 'adversary and recovery need one code for each image: set label to "known", "hard" or "soft"'
    with pytest.raises(ValueError, match=message):
        ConditionalVAE(ConditionalVAEConfig(label="exact", **{term: True}))


@pytest.mark.parametrize("temperature", [0.0, -0.5, float("nan"), float("inf")])
def test_temperatures_that_are_none(temperature):
    message = f"temperature must be a finite number above 0, got {temperature}"
    with pytest.raises(ValueError, match=message):
        ConditionalVAE(ConditionalVAEConfig(temperature=temperature))
    with pytest.raises(ValueError, match=message):
        build().loss(batch_of(2), temperature=temperature)


LABELS_OUT_OF_RANGE = [([0, 10], "0..10"), ([-2, 3], "-2..3"), ([255, 1], "1..255")]


@pytest.mark.parametrize(("labels", "given"), LABELS_OUT_OF_RANGE)
@pytest.mark.parametrize("label", LABELS)
def test_labels_out_of_range(labels, given, label):
    model, images, labels = build(label=label), batch_of(2).images, torch.tensor(labels)
    with pytest.raises(ValueError, match=f"^labels must be class numbers 0..9, or -1 .*, got {re.escape(given)}$"):
        model.loss(Batch(images, labels))
    for ask in (lambda: model.sample(labels), lambda: model.infer(images, labels)):
        with pytest.raises(ValueError, match=f"^labels must be class numbers 0..9, got {re.escape(given)}$"):
            ask()


def test_no_digit_is_asked_for_by_no_label():
    missing = torch.tensor([3, UNLABELLED])
    for ask in (lambda: build().sample(missing), lambda: build().infer(batch_of(2).images, missing)):
        with pytest.raises(ValueError, match=re.escape("labels must be class numbers 0..9, got -1..3")):
            ask()


WRONG_TYPES = {
    "floats": torch.tensor([1.0, 2.0]),
    "bools": torch.tensor([True, False]),
    "one-hot floats": torch.eye(10)[:2],
}


@pytest.mark.parametrize("kind", WRONG_TYPES)
def test_labels_of_another_type(kind):
    labels, model = WRONG_TYPES[kind], build()
    message = re.escape(f"labels must be whole numbers such as int64, got {labels.dtype}: use labels.long(), or argmax")
    with pytest.raises(ValueError, match=message):
        model.loss(Batch(batch_of(2).images, labels))
    with pytest.raises(ValueError, match=message):
        model.sample(labels)
    with pytest.raises(ValueError, match=message):
        model.infer(batch_of(2).images, labels)


@pytest.mark.parametrize("shape", [(3,), (2, 1), (2, 10), (1,)])
def test_labels_for_other_images(shape):
    with pytest.raises(ValueError, match=re.escape(f"labels must be [2], one for each example, got {list(shape)}")):
        build().loss(Batch(batch_of(2).images, torch.zeros(shape, dtype=torch.int64)))


@pytest.mark.parametrize("images", [torch.zeros(0, 1, 28, 28), torch.full((1, 1, 28, 28), 255.0)])
def test_images_are_checked(images):
    model, labels = build(), torch.zeros(len(images), dtype=torch.int64)
    for ask in (
        lambda: model.loss(Batch(images, labels)),
        lambda: model.predict(images),
        lambda: model.infer(images),
        lambda: model.infer(images, labels),
    ):
        with pytest.raises(ValueError, match=r"^images must hold .*, got "):
            ask()


def test_a_class_that_is_missing():
    check_classes(torch.arange(10), 10)
    check_classes(torch.tensor([UNLABELLED, 0, 1]), 2)
    message = "the training labels lack the classes [3, 7] of 0..9: add examples of them, or set n_classes"
    with pytest.raises(ValueError, match=f"^{re.escape(message)}$"):
        check_classes(torch.tensor([0, 1, 2, 4, 5, 6, 8, 9, 9]), 10)


# Shapes
