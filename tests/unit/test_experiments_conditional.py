"""Chapter 02's experiment: what is trained on, what is measured on models whose figures are known, gradients, speed."""

from __future__ import annotations

import dataclasses
import math
import re

import numpy as np
import pytest
import torch
from torch import nn
from unit_harness import batch_sizes, normal, seeded

from latentbook import evaluation
from latentbook.data.digits import Batch, Digits, load_digits
from latentbook.experiments import conditional_vae, timing
from latentbook.experiments.conditional_vae import VARIANTS, Config
from latentbook.experiments.originals import mix_and_match as plain
from latentbook.layers.distributions import gumbel_softmax
from latentbook.layers.nets import count_parameters
from latentbook.models.conditional_vae import UNLABELLED, ConditionalVAE, ConditionalVAEConfig
from latentbook.training.loop import History, initialise

# The probe's batch size is made for more codes than there are here.
pytestmark = pytest.mark.filterwarnings("ignore:Got `batch_size` less than 1")


@pytest.fixture(scope="module")
def train() -> Digits:
    return load_digits("train", source="offline").take(slice(0, 300))


@pytest.fixture(scope="module")
def test() -> Digits:
    return load_digits("test", source="offline").take(slice(0, 60))


def small(config: Config, **changes) -> Config:
    """The same variant in a moment: narrow, one epoch of a few steps, a handful of labels."""
    changes = {
        "model": dataclasses.replace(config.model, hidden_dim=16, latent_dim=4),
        "epochs": min(1, config.epochs),
        "batch_size": 100,
        "labelled": min(40, config.labelled),
    } | changes
    return dataclasses.replace(config, **changes)


def build(**choices) -> ConditionalVAE:
    choices = {"hidden_dim": 16, "latent_dim": 4} | choices
    return initialise(lambda: ConditionalVAE(ConditionalVAEConfig(**choices)), 0).eval()


# Variants


TRAINED = [name for name, config in VARIANTS.items() if config.epochs and name != "class-means"]


@pytest.mark.parametrize("variant", TRAINED)
def test_every_variant_trains(variant, train):
    config = small(VARIANTS[variant])
    model, history = conditional_vae.train(config, train, 0, progress=False)
    wanted = {"bce", "kl", "cross_entropy"} | {
        name for name in ("label_kl", "adversary", "recovery") if getattr(config.model, name)
    }
    wanted |= {"smoothness"} if config.model.smooth_radius else set()
    assert wanted == set(history.epochs[0]) and all(math.isfinite(value) for value in history.epochs[0].values())
    assert history.steps == -(-len(conditional_vae.training_set(config, train, 0)) // 100)
    untouched = conditional_vae.build(config, 0).state_dict()
    learns = "" if config.bound_weight else "classifier."  # else nothing that draws
    for name, tensor in model.state_dict().items():
        assert torch.equal(tensor, untouched[name]) != name.startswith(learns), name
    assert not model.training


def test_the_original_is_the_tutorial_and_its_neighbour_differs_in_its_data_alone():
    original = VARIANTS["original"]
    assert original.model == ConditionalVAEConfig() and (original.share, original.labelled) == (0.5, 0)
    assert (original.epochs, original.batch_size, original.learning_rate, original.schedule) == (
        20,
        64,
        1e-3,
        "constant",
    )
    assert (original.classification_weight, original.last_temperature) == (10.0, 0.0)
    assert VARIANTS["original-all-data"] == dataclasses.replace(original, share=1.0)


STEPS = {
    "retrained": ("retrained", {}),
    "sees-label": ("retrained", {"posterior": "image-and-label", "label": "known", "label_kl": True}),
    "independent": ("sees-label", {"adversary": True}),
    "fixed": ("independent", {"recovery": True}),
    "no-arrow": ("fixed", {"posterior": "image"}),
}


@pytest.mark.parametrize("step", STEPS)
def test_what_is_compared_is_trained_alike_and_each_step_holds_the_one_before(step):
    before, choice = STEPS[step]
    expected = dataclasses.replace(VARIANTS[before], model=dataclasses.replace(VARIANTS[before].model, **choice))
    assert VARIANTS[step] == expected
    assert VARIANTS["kl-weight-4"] == dataclasses.replace(VARIANTS["retrained"], kl_weight=4.0)
    recipe = {"epochs", "batch_size", "learning_rate", "schedule", "probe_examples", "share", "classification_weight"}
    assert all(getattr(VARIANTS[step], name) == getattr(VARIANTS["retrained"], name) for name in recipe)
    assert VARIANTS["retrained"].model == dataclasses.replace(ConditionalVAEConfig(), dropout=0.2)


LADDER = {
    "step-sees-label": ("step-one-cycle", {"posterior": "image-and-label"}),
    "step-label-kl": ("step-sees-label", {"label_kl": True}),
    "step-exact": ("step-label-kl", {"label": "exact"}),
    "step-known": ("step-label-kl", {"label": "known"}),
    "step-adversary": ("step-known", {"adversary": True}),
    "step-recovery": ("step-known", {"recovery": True}),
    "step-both": ("step-adversary", {"recovery": True}),
}


@pytest.mark.parametrize("step", LADDER)
def test_each_step_of_the_ladder_is_one_choice(step):
    before, choice = LADDER[step]
    expected = dataclasses.replace(VARIANTS[before], model=dataclasses.replace(VARIANTS[before].model, **choice))
    assert VARIANTS[step] == expected


def test_the_sweeps_differ_from_the_tutorial_in_what_they_are_named_for():
    start = dataclasses.replace(VARIANTS["original"], epochs=10, probe_examples=10_000)
    hard, soft = start.model, dataclasses.replace(start.model, label="soft")
    expected = {
        "weight-10": start,
        "weight-0.1": dataclasses.replace(start, classification_weight=0.1),
        "weight-1000-cut": dataclasses.replace(
            start, classification_weight=1000.0, model=dataclasses.replace(hard, cut_gradient=True)
        ),
        "hard-0.2": dataclasses.replace(start, model=dataclasses.replace(hard, temperature=0.2)),
        "soft-1": dataclasses.replace(start, model=soft),
        "soft-5": dataclasses.replace(start, model=dataclasses.replace(soft, temperature=5.0)),
        "hard-annealed": dataclasses.replace(
            start, model=dataclasses.replace(hard, temperature=2.0), last_temperature=0.2
        ),
    }
    assert {name: VARIANTS[name] for name in expected} == expected
    assert "hard-1" not in VARIANTS  # it is weight-10
    for n in (100, 1000):
        few = VARIANTS[f"labels-{n}"]
        assert few.labelled == n and few.unlabelled and few.model.label == "known" and few.model.label_kl
        plain_bound = dataclasses.replace(few, model=dataclasses.replace(few.model, smooth_radius=0.0))
        assert few.model.smooth_radius and VARIANTS[f"labels-{n}-bound"] == plain_bound
        smooth, alone = VARIANTS[f"labels-{n}-smoothness"], VARIANTS[f"labels-{n}-alone"]
        assert set(conditional_vae.weights(smooth)) == {"bce", "kl", "cross_entropy", "smoothness"}
        assert set(conditional_vae.weights(alone)) == {"bce", "kl", "cross_entropy"}
        assert smooth.bound_weight == alone.bound_weight == 0
        assert smooth.unlabelled and not alone.unlabelled
    assert VARIANTS["labels-1000-no-label-kl"] == dataclasses.replace(few, labelled=1000, label_kl_weight=0.0)
    sizes = {(c.model.pixels, c.model.hidden_dim, c.model.latent_dim, c.model.n_classes) for c in VARIANTS.values()}
    assert sizes == {(784, 128, 20, 10)}  # none is helped by its size


# What an epoch shows


def counts(labels: torch.Tensor) -> torch.Tensor:
    return torch.bincount(labels, minlength=10)


def places(shown: Digits, digits: Digits) -> list[int]:
    """Where each image stands among the digits: their pixels are all different."""
    table = {image.numpy().tobytes(): place for place, image in enumerate(digits.images)}
    assert len(table) == len(digits)
    return [table[image.numpy().tobytes()] for image in shown.images]


@pytest.fixture(scope="module")
def whole() -> Digits:
    return load_digits("train", source="offline")


def test_all_of_the_digits_are_the_digits(train):
    assert conditional_vae.training_set(Config(), train, 0) is train


def test_a_share_is_stratified_and_follows_the_seed(whole):
    shown, again, other = (conditional_vae.training_set(Config(share=0.5), whole, seed) for seed in (0, 0, 1))
    assert len(shown) == len(whole) // 2
    assert ((counts(shown.labels) - counts(whole.labels) / 2).abs() <= 1).all()
    found = places(shown, whole)
    assert len(set(found)) == len(found) and torch.equal(shown.labels, whole.labels[found])
    assert found == places(again, whole) != places(other, whole)
    assert (shown.source, shown.sha256, shown.split) == (whole.source, whole.sha256, whole.split)


def test_few_labels_are_repeated_to_about_a_quarter(whole):
    shown = conditional_vae.training_set(Config(labelled=40), whole, 0)
    n, has_label = len(whole), shown.labels != UNLABELLED
    assert 0.2 < has_label.float().mean() <= 0.25
    assert (
        torch.equal(shown.images[:n], whole.images) and not has_label[:n].any()
    )  # every image, as one without a label
    found = places(shown.take(has_label), whole)
    assert {found.count(place) for place in found} == {n // 120} and len(set(found)) == 40
    assert torch.equal(shown.labels[has_label], whole.labels[found])
    kept = whole.labels[sorted(set(found))]
    assert ((counts(kept) - counts(whole.labels) * 40 / n).abs() <= 1).all()
    other = conditional_vae.training_set(Config(labelled=40), whole, 1)
    assert set(places(other.take(other.labels != UNLABELLED), whole)) != set(found)


def test_few_labels_alone_are_the_same_ones_without_the_rest(whole):
    config = Config(labelled=40)
    both = conditional_vae.training_set(config, whole, 0)
    alone = conditional_vae.training_set(dataclasses.replace(config, unlabelled=False), whole, 0)
    labelled = both.take(both.labels != UNLABELLED)
    assert torch.equal(alone.images, labelled.images) and torch.equal(alone.labels, labelled.labels)


def test_few_labels_are_trained_on_for_equally_many_steps():
    """On MNIST's numbers."""
    zeros = Digits(torch.zeros(60_000, 1, 1, 1), torch.arange(60_000) % 10, "offline", "0" * 64, "train")
    steps = {
        name: config.epochs * -(-len(conditional_vae.training_set(config, zeros, 0)) // config.batch_size)
        for name, config in VARIANTS.items()
        if name.startswith("labels-")
    }
    assert len(steps) == 9 and len(set(steps.values())) == 1, steps


def test_the_pooled_half_holds_test_digits_and_says_which(whole):
    test = load_digits("test", source="offline")
    shown, seen = conditional_vae.pooled_half(whole, test, 0)
    total = len(whole) + len(test)
    assert len(shown) == int(0.9 * (total // 2)) and seen.dtype == torch.bool and len(seen) == len(test)
    assert 0.35 < seen.float().mean() < 0.55
    both = Digits(
        torch.cat((whole.images, test.images)), torch.cat((whole.labels, test.labels)), "offline", "", "train"
    )
    found = places(shown, both)
    assert len(set(found)) == len(found) and torch.equal(shown.labels, both.labels[found])
    assert {place - len(whole) for place in found if place >= len(whole)} == set(seen.nonzero()[:, 0].tolist())
    expected = counts(both.labels) * 0.45
    assert ((counts(shown.labels) - expected).abs() <= 2).all()
    assert not torch.equal(seen, conditional_vae.pooled_half(whole, test, 1)[1])


def test_many_labels_are_shown_once(whole):
    shown = conditional_vae.training_set(Config(labelled=1000), whole, 0)
    assert len(shown) == len(whole) + 1000


def test_a_class_that_is_missing_is_named(whole):
    without = whole.take((whole.labels != 3) & (whole.labels != 5))
    message = re.escape("the training labels lack the classes [3, 5] of 0..9: add examples of them, or set n_classes")
    for config in (Config(), Config(share=0.5), Config(labelled=40)):
        with pytest.raises(ValueError, match=message):
            conditional_vae.training_set(config, without, 0)
        with pytest.raises(ValueError, match=message):
            conditional_vae.train(small(config), without, 0, progress=False)
    of_three = Config(ConditionalVAEConfig(n_classes=3))
    assert len(conditional_vae.training_set(of_three, whole.take(whole.labels < 3), 0)) == int((whole.labels < 3).sum())


def test_a_rare_class_may_not_go_without_a_label(whole):
    rare = torch.cat(((whole.labels != 3).nonzero().flatten(), (whole.labels == 3).nonzero().flatten()[:2]))
    with pytest.raises(ValueError, match=re.escape("lack the classes [3] of 0..9")):
        conditional_vae.training_set(Config(labelled=40), whole.take(rare), 0)


@pytest.mark.parametrize("config", [Config(labelled=19), Config(share=0.01)])
def test_too_few_labels(config, whole):
    n = config.labelled or int(config.share * len(whole))
    with pytest.raises(ValueError, match=f"^{n} labelled images are too few: 10 classes need at least 20$"):
        conditional_vae.training_set(config, whole, 0)


@pytest.mark.parametrize("config", [Config(labelled=1437), Config(labelled=60_000), Config(share=0.999)])
def test_too_many_labels(config, whole):
    n = config.labelled or int(config.share * len(whole))
    message = f"^{n} of 1437 images leave too few over: take at most 1427, or all of them$"
    with pytest.raises(ValueError, match=message):
        conditional_vae.training_set(config, whole, 0)


# Schedules


def test_the_temperature_falls_by_the_same_factor_at_every_step():
    config = VARIANTS["hard-annealed"]
    value = conditional_vae.temperature(config, 50)
    assert value(0) == pytest.approx(2.0) and value(25) == pytest.approx(math.sqrt(2.0 * 0.2))
    assert value(50) == value(10**6) == pytest.approx(0.2)
    factors = [value(step + 1) / value(step) for step in range(50)]
    assert factors == pytest.approx([0.1 ** (1 / 50)] * 50)
    for wrong in (-0.2, math.inf):
        with pytest.raises(ValueError, match="last_temperature must be a finite number at least 0, got"):
            dataclasses.replace(config, last_temperature=wrong)


def test_temperature_and_weights_reach_the_loss(train, monkeypatch):
    seen, loss = [], ConditionalVAE.loss
    monkeypatch.setattr(
        ConditionalVAE, "loss", lambda self, b, **o: seen.append(o.get("temperature")) or loss(self, b, **o)
    )
    config = small(VARIANTS["soft-annealed"], share=1.0)
    conditional_vae.train(dataclasses.replace(config, epochs=2), train, 0, progress=False)
    assert seen == pytest.approx([2.0 * 0.1 ** (step / 6) for step in range(6)])
    seen.clear()
    conditional_vae.train(small(Config()), train, 0, progress=False)
    assert seen == [None] * 3  # the model's own

    weights = {"cross_entropy": 2.0, "label_kl": 3.0, "adversary": 5.0, "recovery": 7.0, "smoothness": 11.0}
    named = {name.replace("cross_entropy", "classification") + "_weight": value for name, value in weights.items()}
    given = {}
    monkeypatch.setattr("latentbook.experiments.run.fit", lambda *args, **options: given.update(options))
    every = ConditionalVAEConfig(label="known", label_kl=True, adversary=True, recovery=True, smooth_radius=1.0)
    conditional_vae.train(Config(every, **named), train, 0)
    assert given["weights"] == weights
    conditional_vae.train(Config(**named), train, 0)
    assert given["weights"] == {"cross_entropy": 2.0}  # a weight is given to terms that there are
    conditional_vae.train(Config(bound_weight=0.5, kl_weight=4.0), train, 0)
    assert given["weights"] == {"bce": 0.5, "kl": 2.0, "cross_entropy": 10.0}


def test_every_variant_weights_the_terms_of_its_own_loss(train):
    batch = Batch(train.images[:40], train.labels[:40])
    for name, config in VARIANTS.items():
        terms = conditional_vae.build(config).loss(batch, generator=seeded())
        assert set(conditional_vae.weights(config)) | {"bce", "kl"} == set(terms), name


# Measures on models whose figures are known


class Known(nn.Module):
    """Draws sheets of one grey, a tenth for each digit, and reads them off again; it hears the label where it is told to."""

    def __init__(self, hears):
        super().__init__()
        self.config, self.mean, self.hears = ConditionalVAEConfig(), nn.Linear(1, 1), hears

    def predict(self, images):
        return (images[:, 0, 0, 0] * 10).round().long()

    def sample(self, labels, *, z=None, generator=None):
        other = torch.full_like(labels, 3) if z is None else z[:, 0].long()
        return sheets(torch.where(self.hears(labels), labels, other))


def sheets(labels: torch.Tensor) -> torch.Tensor:
    return (labels.float() / 10).view(-1, 1, 1, 1).expand(-1, 1, 28, 28)


@pytest.fixture
def reader(monkeypatch):
    """A judge that reads the sheets without fail."""
    monkeypatch.setattr(evaluation, "judged", lambda images: (images[:, 0, 0, 0] * 10).round().long())


def always(labels):
    return labels >= 0


def never(labels):
    return labels < 0


def even(labels):
    return labels % 2 == 0


def test_asked_agreement_of_a_decoder_that_listens_and_of_a_deaf_one(reader):
    asked, control = conditional_vae.asked_agreement(Known(always), seeded())
    assert asked == 1.0 and control == pytest.approx(0.1, abs=0.02)  # 10,000 digits, a tenth each
    assert conditional_vae.asked_agreement(Known(never), seeded()) == pytest.approx((0.1, 0.1))  # always a three
    half, _ = conditional_vae.asked_agreement(Known(even), seeded())
    assert half == pytest.approx(0.6)  # five of ten, and the three when it is asked for
    assert conditional_vae.asked_agreement(Known(always), seeded(), n=20)[0] == 1.0


def test_relabelling_tells_who_wins(reader):
    """Digits 0 to 9 once each, their codes holding the old digit."""
    labels = torch.arange(10)
    digits = Digits(sheets(labels), labels, "offline", "0" * 64, "test")
    z = labels.float().unsqueeze(1)

    def wins(hears, code=z):
        tried = conditional_vae.relabel(Known(hears), digits, code)
        assert tried.asked.shape == tried.seen.shape == (9, 10) and tried.images.shape == (9, 10, 1, 28, 28)
        assert all(sorted([*tried.asked[:, i].tolist(), i]) == list(range(10)) for i in range(10))
        return tried.new_wins, tried.old_wins

    assert wins(always) == pytest.approx((1.0, 0.0))
    assert wins(never) == pytest.approx((0.0, 1.0))
    assert wins(even) == pytest.approx((0.5, 0.5))  # 4 or 5 of the 9 others are even
    assert wins(never, torch.full((10, 1), 77.0)) == pytest.approx((0.0, 0.0))


def strokes(slants: torch.Tensor, wide: float = 4.0) -> torch.Tensor:
    """Upright bars that lean by so many pixels a row, as smooth grey."""
    rows = torch.arange(28).view(1, 28, 1) - 13.5
    across = torch.arange(28).view(1, 1, 28) - 13.5 + slants.view(-1, 1, 1) * rows
    return (torch.sigmoid(4 * (wide / 2 - across.abs())) * (rows.abs() < 9)).unsqueeze(1)


class Styled(Known):
    """Draws bars as its codes say: z[:, 0] the class of the source, z[:, 1] the lean; or deaf to z, always upright."""

    def __init__(self, deaf):
        super().__init__(always)
        self.deaf = deaf

    def predict(self, images):
        return torch.arange(len(images)) % 10

    def sample(self, labels, *, z=None, generator=None):
        return strokes(torch.zeros(len(labels)) if self.deaf else z[:, 1])


def test_style_is_kept_by_a_decoder_that_hears_z_and_lost_by_one_that_is_deaf_to_it(monkeypatch):
    """And a decoder that only hears which class was written keeps nothing, though classes lean by themselves."""
    n = 200
    classes = torch.arange(n) % 10
    own = torch.linspace(-0.4, 0.4, n)[torch.randperm(n, generator=seeded())]
    lean = 0.05 * classes + own
    digits = Digits(strokes(lean), classes, "offline", "0" * 64, "test")
    z = torch.stack((classes.float(), lean), 1)
    by_class = torch.stack((classes.float(), 0.05 * classes), 1)

    def kept(model, code, obeys=True):
        tried = conditional_vae.relabel(model, digits, code)
        tried = dataclasses.replace(tried, seen=tried.asked if obeys else tried.inferred.expand_as(tried.asked))
        return conditional_vae.style_kept(tried, digits, model.sample(classes, z=code))

    monkeypatch.setattr(evaluation, "judged", lambda images: torch.zeros(len(images), dtype=torch.long))
    heard, deaf, told = kept(Styled(False), z), kept(Styled(True), z), kept(Styled(False), by_class)
    assert heard["slant_kept"] > 0.99 and 0.8 < heard["diversity_kept"] < 1.2
    assert heard["diversity_own"] == pytest.approx(1.0, abs=0.02)  # it reconstructs what was written
    assert deaf == pytest.approx(dict.fromkeys(deaf, 0.0), abs=1e-6)
    assert told["slant_kept"] == pytest.approx(0.0, abs=1e-6) and told["diversity_own"] < 0.01
    nothing = kept(Styled(False), z, obeys=False)  # no drawing shows the digit asked for: nothing is kept
    assert [nothing[name] for name in ("slant_kept", "thickness_kept", "diversity_kept")] == [0.0] * 3


def test_values_less_their_groups_mean():
    values, groups = torch.tensor([1.0, 3.0, 10.0, 20.0, 30.0]), torch.tensor([7, 7, 2, 2, 9])
    assert conditional_vae.centred(values, groups).tolist() == [-1.0, 1.0, -5.0, 5.0, 0.0]
    images = values.view(5, 1, 1, 1).expand(5, 1, 1, 2)
    assert conditional_vae.scatter(images, groups) == pytest.approx(math.sqrt(2 * (1 + 1 + 25 + 25) / 2))
    assert conditional_vae.scatter(images[:1], groups[:1]) == 0.0


def test_the_mean_digit_obeys_the_judge_and_knows_no_code(whole, test):
    means = conditional_vae.ClassMeans(whole)
    drawn = means.sample(torch.tensor([3, 3, 8]), z=normal(3, 4))
    assert torch.equal(drawn[0], drawn[1]) and drawn.shape == (3, 1, 28, 28)
    torch.testing.assert_close(drawn[2], whole.images[whole.labels == 8].mean(0))
    found = conditional_vae.run("class-means", 0, config=VARIANTS["class-means"], train=whole, test=test).metrics
    assert {found[name] for name in ("slant_kept", "thickness_kept", "diversity_kept", "diversity_own")} == {
        0.0
    } or all(abs(found[name]) < 1e-5 for name in ("slant_kept", "thickness_kept", "diversity_kept", "diversity_own"))
    assert found["other_label_wins"] > found["source_digit_wins"]


def test_accuracy_with_and_without_the_noise():
    """A classifier whose probabilities are set: without noise the best class, with it each as often as it is probable."""
    model, share = build(), torch.tensor([0.5, 0.3, 0.2] + [1e-9] * 7)
    with torch.no_grad():
        model.classifier[-1].weight.zero_()
        model.classifier[-1].bias.copy_(share.log())
    labels = torch.arange(3).repeat_interleave(torch.tensor([5000, 3000, 2000]))
    digits = Digits(torch.zeros(10_000, 1, 28, 28), labels, "offline", "0" * 64, "test")
    assert conditional_vae.accuracy(model, digits) == 0.5
    sampled = conditional_vae.sampled_accuracy(model, digits, seeded())
    assert sampled == pytest.approx(0.5**2 + 0.3**2 + 0.2**2, abs=0.025)  # 5 standard errors
    assert sampled == conditional_vae.sampled_accuracy(model, digits, seeded())


@pytest.mark.parametrize("posterior", ["image", "image-and-label"])
def test_codes_and_reconstruction_are_those_of_the_loss(posterior, test):
    model = build(posterior=posterior)
    z, kl = conditional_vae.codes(model, test, seeded(3))
    assert z.shape == kl.shape == (60, 4) and not z.requires_grad
    noise = torch.randn(60, 4, generator=seeded(3))
    with torch.no_grad():
        terms = model.loss(Batch(test.images, test.labels), noise=noise)  # in evaluation mode: the predicted label
    torch.testing.assert_close(kl.sum(1), terms["kl"], rtol=1e-4, atol=1e-5)
    expected = terms["bce"].mean().item()
    assert conditional_vae.reconstruction(model, test, z) == pytest.approx(expected, rel=1e-4)
    torch.testing.assert_close(z, model.infer(test.images).sample(noise))


# Runs

NAMES = {
    "accuracy",
    "sampled_accuracy",
    "bce",
    "kl",
    "bce_and_kl",
    "active_units",
    "asked_agreement",
    "asked_agreement_shuffled",
    "other_label_wins",
    "source_digit_wins",
    "slant_kept",
    "thickness_kept",
    "diversity_kept",
    "diversity_own",
    "listening_z",
    "listening_y",
    "z_probe_linear",
    "z_probe_mlp",
    "z_probe_shuffled",
}


@pytest.fixture
def quick(monkeypatch):
    """200 asked digits instead of 10,000."""
    asked = conditional_vae.asked_agreement
    monkeypatch.setattr(conditional_vae, "asked_agreement", lambda model, generator: asked(model, generator, 200))


def run(variant: str, train: Digits, test: Digits, seed: int = 0, **changes):
    config = small(VARIANTS[variant], **changes)
    return conditional_vae.run(variant, seed, config=config, train=train, test=test, progress=False)


@pytest.mark.parametrize("variant", ["original", "mended", "step-exact", "labels-100", "untrained"])
def test_runs_give_their_figures(variant, train, test, quick):
    result = run(variant, train, test)
    metrics = result.metrics
    assert set(metrics) == NAMES and all(math.isfinite(value) for value in metrics.values())
    assert metrics["bce_and_kl"] == metrics["bce"] + metrics["kl"]
    assert isinstance(metrics["active_units"], int) and 0 <= metrics["active_units"] <= 4
    style = {name for name in NAMES if name.endswith(("_kept", "_own"))}
    shares = NAMES - {"bce", "kl", "bce_and_kl", "active_units", "listening_z", "listening_y"} - style
    assert all(0 <= metrics[name] <= 1 + 1e-6 for name in shares)
    assert metrics["other_label_wins"] + metrics["source_digit_wins"] <= 1 + 1e-6
    assert metrics["accuracy"] == conditional_vae.accuracy(result.model, test)
    assert (result.seconds > 0) == (variant != "untrained")
    if variant == "untrained":
        assert result.failed is None
    else:
        assert (result.failed is None) == (metrics["bce"] <= conditional_vae.THRESHOLD)


def test_probes_are_scored_on_test_codes_and_their_control_on_shuffled_labels(train, test, monkeypatch):
    """Codes that name the class, or on test digits the next one: right always, or never; shuffled, about one in ten."""
    for shift, right in ((0, 1.0), (1, 0.0)):

        def codes(model, digits, generator, shift=shift):
            named = (digits.labels + shift * (digits.split == "test")) % 10
            return 3 * torch.eye(10)[named] + 0.1 * torch.randn(len(named), 10, generator=generator), None

        monkeypatch.setattr(conditional_vae, "codes", codes)
        found = conditional_vae.probes(build(), train, test, 0)
        assert found["z_probe_linear"] == right and found["z_probe_mlp"] == pytest.approx(right, abs=0.1)
        assert found["z_probe_shuffled"] < 0.3


def test_a_pooled_run_tells_the_test_digits_it_was_trained_on_from_the_others(whole, test, quick):
    result = run("original-pooled", whole, test)
    _, seen = conditional_vae.pooled_half(whole, test, 0)
    parts = {"accuracy_seen": seen, "accuracy_unseen": ~seen}
    assert set(result.metrics) == NAMES | set(parts)
    for name, part in parts.items():
        expected = (result.model.predict(test.images) == test.labels)[part].float().mean()
        assert result.metrics[name] == pytest.approx(float(expected))


@pytest.mark.parametrize("variant", ["labels-100-smoothness", "labels-100-alone"])
def test_a_classifier_that_trains_alone_is_asked_for_nothing_else(variant, train, test, quick):
    result = run(variant, train, test)
    assert result.failed is None
    assert result.metrics == {"accuracy": conditional_vae.accuracy(result.model, test)}
    before = conditional_vae.build(small(VARIANTS[variant]), 0).state_dict()
    trained = {name for name, value in result.model.state_dict().items() if not torch.equal(value, before[name])}
    assert trained == {name for name in before if name.startswith("classifier.")}


def test_a_seed_repeats_exactly_and_another_does_not(train, test, quick):
    first, again, other = (run("mended", train, test, seed) for seed in (1, 1, 2))
    assert first.metrics == again.metrics and first.metrics != other.metrics


def test_a_reconstruction_beyond_the_threshold_has_failed(train, test, quick, monkeypatch):
    monkeypatch.setattr(conditional_vae, "reconstruction", lambda model, digits, z: 206.04)
    assert run("original", train, test).failed == "bce 206.0"
    monkeypatch.setattr(conditional_vae, "reconstruction", lambda model, digits, z: 205.96)
    assert run("original", train, test).failed is None


def test_an_interrupted_training_is_no_result(train, test, quick, monkeypatch):
    given = build(), History(interrupted=True)
    monkeypatch.setattr(conditional_vae, "train", lambda *args, **options: given)
    with pytest.raises(KeyboardInterrupt):
        run("original", train, test)


def test_no_true_label_infers_anything(train, test, quick):
    """The same figures with every test label wrong, but for those that compare with it."""
    model, config = build(), small(VARIANTS["mended"])
    wrong = dataclasses.replace(test, labels=(test.labels + 1) % 10)
    found, other = (conditional_vae.evaluate(model, config, train, digits, 0) for digits in (test, wrong))
    compared = {"accuracy", "sampled_accuracy", "z_probe_linear", "z_probe_mlp", "z_probe_shuffled"}
    assert {n: v for n, v in found.items() if n not in compared} == {
        n: v for n, v in other.items() if n not in compared
    }


def test_the_mend_learns_on_real_digits(whole):
    """A narrow one in a second: it classifies, reconstructs better than the mean digit, and draws what it is asked for.

    Too blurred for the judge as yet: which class's mean is a drawing nearest to?
    """
    digits = load_digits("test", source="offline")
    model = dataclasses.replace(VARIANTS["mended"].model, hidden_dim=64, latent_dim=8)
    config = dataclasses.replace(VARIANTS["mended"], model=model, epochs=6, batch_size=50, learning_rate=5e-3)
    before = conditional_vae.build(config, 0)
    after, history = conditional_vae.train(config, whole, 0, progress=False)
    means = torch.stack([whole.images[whole.labels == label].mean(0).flatten() for label in range(10)])
    control = evaluation.pixel_mean_bce(whole.images.flatten(1), digits.images.flatten(1))

    def figures(model: ConditionalVAE) -> tuple[float, float, float]:
        z, _ = conditional_vae.codes(model, digits, seeded())
        drawn = conditional_vae.all_labels(model, normal(50, 8)).flatten(2)
        heard = (torch.cdist(drawn, means).argmin(2) == torch.arange(10)).float().mean().item()
        return conditional_vae.accuracy(model, digits), conditional_vae.reconstruction(model, digits, z), heard

    accuracy, bce, heard = figures(after)
    assert accuracy > 0.9 and bce < 0.95 * control and heard > 0.8
    accuracy, bce, heard = figures(before)
    assert accuracy < 0.3 and bce > control and heard < 0.3
    assert history.curve("bce")[-1] < history.curve("bce")[0]


# Hooks


def test_the_accuracy_of_every_epoch_is_kept(train, test):
    config = small(VARIANTS["original"], epochs=2, share=1.0)
    model, history = conditional_vae.train(
        config, train, 0, hooks=[conditional_vae.track_accuracy(train, test)], progress=False
    )
    assert history.curve("accuracy")[-1] == conditional_vae.accuracy(model, train)
    assert history.curve("test_accuracy")[-1] == conditional_vae.accuracy(model, test)
    assert len(history.curve("test_accuracy")) == 2


def test_hooks_on_another_device_are_refused_before_the_training(train, test):
    config, z, images = small(VARIANTS["original"], epochs=1), normal(2, 4), test.images[:5]
    for hook, words in (
        (conditional_vae.track_accuracy(train, test.to("meta")), "digits whose accuracy is tracked are on meta"),
        (conditional_vae.Strips(z.to("meta"), images), "codes of a strip are on meta"),
        (conditional_vae.Strips(z, images.to("meta")), "digits of a strip are on meta"),
    ):
        with pytest.raises(ValueError, match=f"{words}, but the model is on cpu: move them"):
            conditional_vae.train(config, train, 0, hooks=[hook], progress=False)


def test_all_labels_has_one_style_a_row():
    model, z = build(), normal(3, 4)
    strip = conditional_vae.all_labels(model, z)
    assert strip.shape == (3, 10, 28, 28) and not strip.requires_grad
    for style, label in ((0, 0), (1, 7), (2, 9)):
        alone = model.sample(torch.tensor([label]), z=z[style : style + 1])[0, 0]
        torch.testing.assert_close(strip[style, label], alone)


def test_strips_keep_a_picture_of_every_epoch(train, test):
    z, digits = normal(2, 4), test.images[:5]
    strips = conditional_vae.Strips(z, digits)
    config = small(VARIANTS["mended"], epochs=3)
    model, _ = conditional_vae.train(config, train, 0, hooks=[strips], progress=False)
    assert [part.shape for part in strips.styles] == [(2, 10, 28, 28)] * 3
    assert [part.shape for part in strips.digits] == [(5, 28, 28)] * 3
    assert torch.equal(strips.styles[-1], conditional_vae.all_labels(model, z))
    labels = model.predict(digits)
    again = model.sample(labels, z=model.infer(digits).mean)[:, 0]
    torch.testing.assert_close(strips.digits[-1], again)
    assert not torch.equal(strips.styles[0], strips.styles[1])
    untouched, _ = conditional_vae.train(config, train, 0, progress=False)  # looking changes nothing
    for ours, theirs in zip(model.parameters(), untouched.parameters(), strict=True):
        assert torch.equal(ours, theirs)


# Gradients of a draw


def cubic(n: int) -> tuple[ConditionalVAE, torch.Tensor]:
    """A model of two equally probable classes whose bce is 1 + y^3, y being the second class's part; and n images."""
    model = build(pixels=1, n_classes=2)
    with torch.no_grad():
        model.classifier[-1].weight.zero_()
        model.classifier[-1].bias.zero_()
    model.decode = lambda z, y: torch.expm1(1 + y[:, 1:] ** 3).log()  # of a black pixel: bce = log(1 + exp(logit))
    return model, torch.zeros(n, 1, 1, 1)


def by_quadrature(kind: str, temperature: float) -> tuple[float, float]:
    """The same figures by a sum over the one random number that two classes leave, the logistic difference of two Gumbels."""
    u = (np.arange(400_000) + 0.5) / 400_000
    y = 1 / (1 + np.exp(-np.log(u / (1 - u)) / temperature))
    slope = 3 * (y > 0.5) if kind == "hard" else 3 * y**2
    gradient, exact = slope * y * (1 - y) / temperature, 0.25
    return ((gradient.mean() - exact) / exact) ** 2, gradient.var() / exact**2


def test_bias_and_variance_of_draws_whose_figures_are_known():
    """At temperature 1, y is uniform on [0, 1]: soft 3/20 for 1/4, a squared bias of 0.16; hard has none, and more variance."""
    model, images = cubic(400)
    found = conditional_vae.gradient_quality(model, images, (0.5, 1.0, 2.0, 1e4), draws=150)
    assert list(found) == [(kind, value) for kind in ("hard", "soft") for value in (0.5, 1.0, 2.0, 1e4)]
    assert by_quadrature("soft", 1.0) == pytest.approx((0.16, 9 * (1 / 252 - 0.0025) * 16), rel=1e-4)
    assert by_quadrature("hard", 1.0) == pytest.approx((0.0, 1.4), rel=1e-4, abs=1e-8)
    for (kind, value), figures in found.items():
        assert figures == pytest.approx(by_quadrature(kind, value), rel=0.04, abs=0.01), (kind, value)
    assert found["soft", 1e4] == pytest.approx((1.0, 0.0), abs=1e-3)  # so hot that nothing comes through


def test_a_draws_gradient_leaves_the_model_as_it_was(test):
    model = build()
    before = {name: tensor.clone() for name, tensor in model.state_dict().items()}
    first, again, other = (
        conditional_vae.gradient_quality(model, test.images[:4], [1.0], draws=5, seed=seed) for seed in (0, 0, 1)
    )
    assert first == again != other and set(first) == {("hard", 1.0), ("soft", 1.0)}
    assert all(parameter.grad is None for parameter in model.parameters())
    assert all(torch.equal(tensor, before[name]) for name, tensor in model.state_dict().items())


# Speed


class Clock:
    """A clock that moves when it is told to, and by a fixed tick when it is read."""

    def __init__(self, tick: float = 0.0):
        self.now, self.tick = 0.0, tick

    def perf_counter(self) -> float:
        self.now += self.tick
        return self.now


def test_two_ways_are_compared_after_one_round_of_warming_up(monkeypatch):
    clock, taken = Clock(), {"ours": 0, "plain": 0}
    monkeypatch.setattr(timing, "time", clock)
    monkeypatch.setattr(timing, "matmul_peak", lambda device: 1e6)

    def steps(name: str, seconds: float):
        while True:
            taken[name] += 1
            slow = taken[name] <= 4 or 8 < taken[name] <= 12  # the first round, and one of the three that count
            clock.now += 10 * seconds if slow else seconds
            torch.ones(3, 4) @ torch.ones(4, 5)
            yield

    found = timing.compare(steps("ours", 0.002), steps("plain", 0.006), rounds=3, steps=4)
    assert found["ours_ms"] == pytest.approx(2) and found["plain_ms"] == pytest.approx(6)
    assert found["ratio"] == pytest.approx(3) and taken == {"ours": 17, "plain": 16}  # one more to count its products
    assert found["mflop_per_step"] == pytest.approx(2 * 3 * 4 * 5 / 1e6)
    assert found["matmul_share"] == pytest.approx(120 / 0.002 / 1e6) and found["matmul_peak_gflops"] == 1e-3
    assert (found["threads"], found["device"]) == (torch.get_num_threads(), "cpu")


def test_the_peak_is_the_products_of_the_best_repeat(monkeypatch):
    monkeypatch.setattr(timing, "time", Clock(tick=0.5))
    assert timing.matmul_peak(size=8, repeats=3) == pytest.approx(2 * 8**3 / 0.5)


def test_the_bench_takes_both_loops():
    found = conditional_vae.bench(rounds=1, steps=2)
    assert found["experiment"] == "conditional-vae" and found["ratio"] == found["plain_ms"] / found["ours_ms"]
    assert found["matmul_share"] > 0 and found["ours_ms"] > 0
    first = 784 * 128 * 2  # encoder and classifier: their input needs no gradient
    others = 128 * 20 * 2 + 30 * 128 + 128 * 784 + 128 * 10
    assert found["mflop_per_step"] == pytest.approx(2 * 64 * (2 * first + 3 * others) / 1e6)


def test_our_steps_go_on_for_ever_with_whole_batches(monkeypatch, train):
    # 300 digits: four batches of 64 an epoch, the rest left out
    assert batch_sizes(monkeypatch, conditional_vae.our_steps(train), 6) == [64] * 6


# The plain loop


def test_the_plain_model_is_the_same_model(monkeypatch):
    """It takes our weights as they are and, for the same noise, gives the same answers."""
    ours, theirs = ConditionalVAE().train(), plain.PlainConditionalVAE()
    theirs.load_state_dict(ours.state_dict())
    assert count_parameters(theirs) == count_parameters(ours)
    x, noise, uniform = torch.rand(5, 784, generator=seeded()), normal(5, 20), torch.rand(5, 10, generator=seeded(1))
    monkeypatch.setattr(torch, "randn_like", lambda like: noise)
    monkeypatch.setattr(plain.F, "gumbel_softmax", lambda logits, tau, hard: gumbel_softmax(logits, tau, hard, uniform))
    decoded, logits, mean, log_var = theirs(x)
    y = gumbel_softmax(ours.classifier(x), 1.0, True, uniform)
    posterior = ours.encode(x, y)
    for found, expected in (
        (logits, ours.classifier(x)),
        (mean, posterior.mean),
        (log_var, posterior.log_var),
        (decoded, ours.decode(posterior.sample(noise), y).sigmoid()),
    ):
        torch.testing.assert_close(found, expected, rtol=1e-5, atol=1e-5)


def test_a_plain_step_is_our_step(monkeypatch, train):
    """One batch of all digits, the same weights, no noise: the same weights afterwards."""
    digits = train.take(slice(0, 64))
    digits = dataclasses.replace(digits, images=(digits.images * 255).round() / 255)  # as bytes hold them
    ours, made = ConditionalVAE().train(), []

    def same_weights():
        made.append(model())
        made[0].load_state_dict(ours.state_dict())
        return made[0]

    model = plain.PlainConditionalVAE
    monkeypatch.setattr(plain, "PlainConditionalVAE", same_weights)
    monkeypatch.setattr(torch, "randn_like", torch.zeros_like)
    monkeypatch.setattr(
        plain.F,
        "gumbel_softmax",
        lambda logits, tau, hard: gumbel_softmax(logits, tau, hard, torch.full_like(logits, 0.5)),
    )
    steps = plain.plain_conditional_steps(digits)
    next(steps)
    terms = ours.loss(Batch(digits.images, digits.labels), noise=torch.zeros(64, 20), uniform=torch.full((64, 10), 0.5))
    optimizer = torch.optim.Adam(ours.parameters(), lr=1e-3)
    before = [parameter.detach().clone() for parameter in ours.parameters()]
    (terms["bce"] + terms["kl"] + 10 * terms["cross_entropy"]).mean().backward()
    optimizer.step()
    for name, expected in ours.state_dict().items():
        difference = (made[0].state_dict()[name] - expected).abs()
        # Adam's first step is the gradient's sign: it may turn where the gradient is nothing but rounding
        assert (difference < 1e-5).float().mean() > 0.995, name
    assert all((parameter != start).any() for parameter, start in zip(ours.parameters(), before, strict=True))
