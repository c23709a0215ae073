"""The Multi-Level VAE: sizes, every objective by a plain loop, gradients and the cut, groups, swaps, errors."""

from __future__ import annotations

import itertools
import math
from dataclasses import replace

import pytest
import torch
import torch.nn.functional as F
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import nn
from torch.distributions import Normal, kl_divergence
from unit_harness import (
    assert_every_parameter_learns,
    assert_gradients_agree,
    normal,
    seeded,
    uniform,
)

from latentbook.data.digits import Batch, load_digits
from latentbook.layers.distributions import DiagonalGaussian
from latentbook.models.multi_level_vae import (
    AVERAGE,
    CLASS_KL,
    EPS_PER,
    LIKELIHOODS,
    MultiLevelVAE,
    MultiLevelVAEConfig,
    draw_groups,
)
from latentbook.training.loop import fit, initialise

LABELS = [3, 1, 3, 0, 3, 9, 1]
CLASS_HEADS = {f"class_{part}.{kind}" for part in ("mean", "log_var") for kind in ("weight", "bias")}


def build(seed: int = 0, **choices) -> MultiLevelVAE:
    """A model whose heads say something: initial weights three times as large as published, biases not 0."""
    model = initialise(
        lambda: MultiLevelVAE(MultiLevelVAEConfig(**{"hidden_dim": 20, "init_std": 0.15, **choices})), seed
    )
    with torch.no_grad():
        for name, parameter in model.named_parameters():
            if name.endswith("bias"):
                parameter.normal_(0, 0.3, generator=seeded(len(name)))
    return model


def pictures(*shape: int, seed: int = 0) -> torch.Tensor:
    return uniform(*shape, 1, 28, 28, seed=seed)


def batch_of(labels: list[int], seed: int = 0) -> Batch:
    return Batch(pictures(len(labels), seed=seed), torch.tensor(labels))


# Sizes and the beginning


def test_the_sizes_are_the_published_ones():
    model = MultiLevelVAE()
    sizes = {name: (m.in_features, m.out_features) for name, m in model.named_modules() if isinstance(m, nn.Linear)}
    assert sizes == {
        "encoder.0": (784, 500),
        "style_mean": (500, 10),
        "style_log_var": (500, 10),
        "class_mean": (500, 10),
        "class_log_var": (500, 10),
        "decoder.0": (20, 500),
        "decoder.2": (500, 784),
    }
    assert [type(layer) for layer in (*model.encoder, *model.decoder)] == [
        nn.Linear,
        nn.Tanh,
        nn.Linear,
        nn.Tanh,
        nn.Linear,
    ]  # the decoder's sigmoid is in its readers


def test_the_initial_weights_are_the_published_ones():
    for name, parameter in initialise(MultiLevelVAE, 0).state_dict().items():
        if name.endswith("bias"):
            assert (parameter == 0).all()
        else:
            assert float(parameter.std()) == pytest.approx(0.05, rel=0.03) and abs(float(parameter.mean())) < 0.003


def test_the_defaults_are_the_reproductions_with_its_gradient():
    c = MultiLevelVAEConfig()
    assert (c.likelihood, c.class_kl, c.average, c.eps_per, c.noise_std) == ("mse", "image", "images", "group", 1.0)
    assert c.evidence and not (c.cut_gradient or c.exact or c.deterministic_class or c.group_size)


# The objective, by a loop over images and groups


def naive(model: MultiLevelVAE, batch: Batch, groups: list[int], style_noise, class_noise) -> dict[str, float]:
    """The objective's terms, one image and one group at a time, with torch.distributions, in double precision."""
    c, x = model.config, batch.images.flatten(1).double()
    model = model.double()
    standard = Normal(torch.zeros(()).double(), torch.ones(()).double())
    names, hidden = sorted(set(groups)), torch.tanh(model.encoder[0](x))
    style_mean, style_log_var = model.style_mean(hidden), model.style_log_var(hidden)
    class_mean, class_log_var = model.class_mean(hidden), model.class_log_var(hidden)
    sums = {"mse" if c.likelihood == "mse" else "bce": 0.0, "style_kl": 0.0, "class_kl": 0.0}
    posterior = {}
    for name in names:
        members = [i for i in range(len(groups)) if groups[i] == name]
        precision = sum(torch.exp(-class_log_var[i]) for i in members)
        mean = sum(torch.exp(-class_log_var[i]) * class_mean[i] for i in members) / precision
        posterior[name] = Normal(mean, precision.rsqrt())
        kl = float(kl_divergence(posterior[name], standard).sum().detach())
        sums["class_kl"] += kl if c.class_kl == "group" else len(members) * kl
    for i, name in enumerate(groups):
        style = Normal(style_mean[i], torch.exp(0.5 * style_log_var[i]))
        sums["style_kl"] += float(kl_divergence(style, standard).sum().detach())
        eps = class_noise[names.index(name) if c.eps_per == "group" else i].double()
        code = posterior[name].mean + c.noise_std * eps * posterior[name].stddev
        if c.deterministic_class:
            code = posterior[name].mean
        z = torch.cat((style.mean + style.stddev * style_noise[i].double(), code))
        p = torch.sigmoid(model.decoder(z))
        if c.likelihood == "mse":
            sums["mse"] += float(((p - x[i]) ** 2).sum().detach())
        else:
            sums["bce"] -= float((x[i] * p.log() + (1 - x[i]) * (1 - p).log()).sum().detach())
    if c.deterministic_class:
        del sums["class_kl"]
    model.float()
    return {name: value / (len(names) if c.average == "groups" else len(groups)) for name, value in sums.items()}


@pytest.mark.parametrize(
    ("likelihood", "class_kl", "average", "eps_per"), list(itertools.product(LIKELIHOODS, CLASS_KL, AVERAGE, EPS_PER))
)
def test_every_objective_agrees_with_a_loop(likelihood, class_kl, average, eps_per):
    model = build(likelihood=likelihood, class_kl=class_kl, average=average, eps_per=eps_per, noise_std=0.7)
    batch, style_noise = batch_of(LABELS), normal(7, 10)
    class_noise = normal(4 if eps_per == "group" else 7, 10, seed=1)
    terms = model.loss(batch, style_noise=style_noise, class_noise=class_noise)
    assert all(term.shape == (7,) for term in terms.values())
    found = {name: float(term.mean().detach()) for name, term in terms.items()}
    assert found == pytest.approx(naive(model, batch, LABELS, style_noise, class_noise), rel=1e-4)


@pytest.mark.parametrize(
    ("choices", "groups"),
    [
        ({"evidence": False}, [0, 1, 2, 3, 4, 5, 6]),
        ({"deterministic_class": True}, LABELS),
        ({"cut_gradient": True}, LABELS),
        ({"group_size": 1}, None),
        ({"style_dim": 3, "class_dim": 5}, LABELS),
    ],
)
def test_single_choices_agree_with_a_loop(choices, groups):
    model, batch = build(class_kl="group", **choices), batch_of(LABELS)
    groups = model.groups(batch.labels, seeded(5)).tolist() if groups is None else groups
    style_noise = normal(7, model.config.style_dim)
    class_noise = normal(len(set(groups)), model.config.class_dim, seed=1)
    terms = model.loss(batch, style_noise=style_noise, class_noise=class_noise, generator=seeded(5))
    found = {name: float(term.mean().detach()) for name, term in terms.items()}
    assert found == pytest.approx(naive(model, batch, groups, style_noise, class_noise), rel=1e-4)


def test_groups_may_be_given_and_any_labels_will_do():
    model, batch, noise = build(), batch_of(LABELS), {"style_noise": normal(7, 10), "class_noise": normal(3, 10)}
    groups = torch.tensor([-5, 2**40, -5, 7, 7, 7, -5])
    found = model.loss(batch, groups=groups, **noise)
    expected = naive(model, batch, groups.tolist(), noise["style_noise"], noise["class_noise"])
    assert {name: float(term.mean().detach()) for name, term in found.items()} == pytest.approx(expected, rel=1e-4)
    again = model.loss(
        Batch(batch.images, groups.int() % 11), **noise
    )  # other types; the labels themselves mean nothing
    assert again.keys() == found.keys()


def test_a_batch_of_one_image():
    terms = build().loss(batch_of([4]), generator=seeded())
    assert all(term.shape == (1,) and term.isfinite().all() for term in terms.values())


def test_the_objective_is_repeatable_and_its_noise_comes_from_the_generator():
    model, batch = build(group_size=2, random_sizes=True), batch_of(LABELS)
    before = torch.get_rng_state()
    first, again, other = (model.loss(batch, generator=seeded(seed)) for seed in (1, 1, 2))
    assert all(torch.equal(first[name], again[name]) for name in first)
    assert not torch.equal(first["mse"], other["mse"]) and torch.equal(torch.get_rng_state(), before)


def test_large_groups_make_the_two_class_kls_differ_by_their_size():
    batch, noise = batch_of([2] * 6), {"style_noise": normal(6, 10), "class_noise": normal(1, 10)}
    once, each = (
        float(build(class_kl=kind).loss(batch, **noise)["class_kl"].detach().sum()) for kind in ("group", "image")
    )
    assert each == pytest.approx(6 * once)


# The class code


def test_one_code_for_a_group_or_one_for_each_image():
    posterior, index = DiagonalGaussian(normal(2, 10), torch.zeros(2, 10)), torch.tensor([0, 1, 0, 0])
    group = build().draw_class(posterior, index, generator=seeded())
    assert torch.equal(group[0], group[2]) and torch.equal(group[0], group[3]) and not torch.equal(group[0], group[1])
    sample = build(eps_per="sample").draw_class(posterior, index, generator=seeded())
    assert len({tuple(row) for row in sample.tolist()}) == 4
    mean = build(deterministic_class=True).draw_class(posterior, index, generator=seeded())
    assert torch.equal(mean, posterior.mean[index])


@pytest.mark.parametrize("eps_per", EPS_PER)
@pytest.mark.parametrize("noise_std", [0.0, 0.1, 1.0])
def test_the_noise_of_the_class_code_has_the_configured_spread(eps_per, noise_std):
    posterior = DiagonalGaussian(torch.full((4000, 10), 3.0), torch.full((4000, 10), math.log(4.0)))
    model = build(noise_std=noise_std, eps_per=eps_per)
    drawn = model.draw_class(posterior, torch.arange(4000), generator=seeded())
    assert float(drawn.mean()) == pytest.approx(3, abs=0.05)
    assert float(drawn.std()) == pytest.approx(2 * noise_std, rel=0.02, abs=1e-6)


def test_exact_posteriors_are_never_wider_than_the_prior_which_counts_once():
    model = build(exact=True)
    _, experts = model.encode(pictures(50))
    assert (experts.log_var < 0).all() and experts.log_var.min() < -0.1
    silent = DiagonalGaussian(torch.zeros(50, 10), torch.zeros(50, 10))
    assert model.accumulate(silent, torch.zeros(50, dtype=torch.int64)).log_var.abs().max() < 1e-5
    assert build().accumulate(silent, torch.zeros(50, dtype=torch.int64)).log_var.max() < -3.9  # the product: 50 priors
    groups = torch.arange(50) % 3
    found = model.accumulate(experts, groups)
    for group in range(3):
        surplus = (experts.log_var[groups == group].neg().exp() - 1).sum(0)
        torch.testing.assert_close(found.log_var[group], -(1 + surplus).log(), rtol=1e-4, atol=1e-5)
    assert model.loss(batch_of(LABELS), generator=seeded())["class_kl"].isfinite().all()


# Gradients


def gradients(model: MultiLevelVAE, batch: Batch) -> dict[str, torch.Tensor | None]:
    model.zero_grad()
    sum(term.mean() for term in model.loss(batch, generator=seeded()).values()).backward()
    return {name: parameter.grad for name, parameter in model.named_parameters()}


@pytest.mark.parametrize("likelihood", LIKELIHOODS)
@pytest.mark.parametrize(
    "choices",
    [
        {},
        {"class_kl": "group", "average": "groups"},
        {"group_size": 2},
        {"exact": True},
        {"deterministic_class": True},
        {"evidence": False},
        {"eps_per": "sample"},
        {"adversary": True, "identity": True},
    ],
)
def test_every_parameter_learns(likelihood, choices):
    """With groups of one and no noise nothing depends on the class log-variance; everywhere else all heads learn."""
    model, batch = build(likelihood=likelihood, **choices), batch_of([1, 1, 1, 4, 4, 0, 0, 0])
    assert_every_parameter_learns(model, model.loss(batch, generator=seeded()))


def test_the_adversary_learns_and_the_encoder_unlearns():
    model, batch, noise = build(adversary=True), batch_of(LABELS), normal(7, 10)
    style, _ = model.encode(batch.images)
    expected = F.cross_entropy(model.adversary(style.sample(noise)), batch.labels, reduction="none")
    found = model.loss(batch, style_noise=noise, generator=seeded())["adversary"]
    torch.testing.assert_close(found, expected)
    for part, sign in ((model.adversary, 1), (model.encoder, -1), (model.style_mean, -1), (model.style_log_var, -1)):
        ours, theirs = (
            torch.autograd.grad(term.sum(), list(part.parameters()), retain_graph=True) for term in (found, expected)
        )
        for a, b in zip(ours, theirs, strict=True):
            torch.testing.assert_close(a, sign * b)
        assert any(a.any() for a in ours)
    heads = [*model.decoder.parameters(), *model.class_mean.parameters()]
    assert torch.autograd.grad(found.sum(), heads, allow_unused=True) == (None,) * len(heads)


def test_the_identity_is_found_in_the_class_code_of_each_image_alone():
    model, batch = build(identity=True), batch_of(LABELS)
    generator = seeded(5)
    _style, _group, own = (torch.randn(n, 10, generator=generator) for n in (7, 4, 7))  # drawn in this order
    _, experts = model.encode(batch.images)
    expected = F.cross_entropy(model.identity(experts.sample(own)), batch.labels, reduction="none")
    found = model.loss(batch, generator=seeded(5))["identity"]
    torch.testing.assert_close(found, expected)
    one, whole = (  # whoever else is in the group: with the noise of style and class given, the generator is its alone
        model.loss(
            batch, groups=groups, style_noise=own, class_noise=normal(int(groups.max()) + 1, 10), generator=seeded(6)
        )["identity"]
        for groups in (torch.arange(7), torch.zeros(7, dtype=torch.int64))
    )
    assert torch.equal(one, whole) and not hasattr(build(), "identity")


@pytest.mark.parametrize("choice", ["adversary", "identity"])
@pytest.mark.parametrize("labels", [[0, 10], [-1, 3]])
def test_classifiers_read_labels_of_their_classes(choice, labels):
    message = rf"labels must be class numbers 0\.\.9, got {labels[0]}\.\.{labels[1]}"
    with pytest.raises(ValueError, match=message):
        build(**{choice: True}).loss(batch_of(labels))
    assert build(**{choice: True}, n_classes=11).loss(batch_of([0, 10]))[choice].isfinite().all()


def test_the_cut_leaves_the_class_heads_without_a_gradient():
    """The published finding's cause: `.data` cuts the graph, so its class heads stay as they were initialised."""
    batch, model = batch_of([1, 1, 1, 4, 4, 0]), build(cut_gradient=True)
    found = gradients(model, batch)
    assert {name for name, gradient in found.items() if gradient is None} == CLASS_HEADS
    assert all((found[name] != 0).any() for name in found.keys() - CLASS_HEADS)
    whole, cut = (m.loss(batch, generator=seeded(3)) for m in (build(), model))
    assert all(torch.equal(whole[name], cut[name]) for name in whole)  # no value tells the difference
    assert not cut["class_kl"].requires_grad and cut["mse"].requires_grad


@pytest.mark.parametrize("cut", [True, False])
def test_training_moves_the_class_heads_only_with_a_gradient(cut):
    digits = load_digits("train", source="offline").take(slice(0, 200))
    model = build(cut_gradient=cut)
    before = {name: parameter.clone() for name, parameter in model.named_parameters()}
    history = fit(model, digits, epochs=2, batch_size=50, progress=False)
    still = {name for name, parameter in model.named_parameters() if torch.equal(parameter, before[name])}
    assert still == (CLASS_HEADS if cut else set())
    assert history.curve("mse")[1] < history.curve("mse")[0]


def test_training_runs_in_half_precision():
    digits = load_digits("train", source="offline").take(slice(0, 100))
    history = fit(build(class_kl="group"), digits, epochs=2, batch_size=50, precision="bfloat16", progress=False)
    assert history.curve("mse")[1] < history.curve("mse")[0]


def test_gradients_against_finite_differences():
    model = build(likelihood="bernoulli", class_kl="group", hidden_dim=4, style_dim=2, class_dim=2).double()
    batch = Batch(pictures(5).double(), torch.tensor([1, 1, 0, 1, 0]))
    noise = {"style_noise": normal(5, 2).double(), "class_noise": normal(2, 2).double()}
    assert_gradients_agree(model, lambda: model.loss(batch, **noise))


# Groups


@settings(max_examples=80, deadline=None)
@given(st.lists(st.integers(-2, 3), min_size=1, max_size=40), st.integers(1, 9), st.booleans(), st.integers(0, 999))
def test_groups_are_parts_of_the_classes(labels, size, random_sizes, seed):
    labels = torch.tensor(labels)
    groups = draw_groups(labels, size, random_sizes, seeded(seed))
    assert groups.dtype == torch.int64 and sorted(set(groups.tolist())) == list(range(int(groups.max()) + 1))
    for group in groups.unique():
        assert len(labels[groups == group].unique()) == 1
    for label in labels.unique():
        counts = sorted(groups[labels == label].unique(return_counts=True)[1].tolist(), reverse=True)
        n = int((labels == label).sum())
        if not random_sizes:
            assert counts == [size] * (n // size) + ([n % size] if n % size else [])
        assert sum(counts) == n


def test_groups_of_one_and_groups_of_all():
    labels = torch.tensor(LABELS)
    assert draw_groups(labels, 1, generator=seeded()).unique().numel() == 7
    whole = draw_groups(labels, 100, generator=seeded())
    assert torch.equal(whole[:, None] == whole, labels[:, None] == labels)


def test_new_groups_are_drawn_at_every_call_and_every_pair_meets_equally_often():
    labels, generator, n = torch.tensor([5] * 6 + [8] * 2), seeded(), 4000
    together = torch.zeros(8, 8)
    for _ in range(n):
        groups = draw_groups(labels, 2, generator=generator)
        together += groups[:, None] == groups
    share = (together / n)[:6, :6][~torch.eye(6, dtype=torch.bool)]
    assert (share - 1 / 5).abs().max() < 5 * (0.2 * 0.8 / n) ** 0.5
    assert (together[6:, :6] == 0).all() and together[6, 7] == n


def test_random_sizes_are_geometric():
    groups = draw_groups(torch.zeros(60_000, dtype=torch.int64), 3, True, seeded())
    sizes = groups.unique(return_counts=True)[1].double()
    assert float(sizes.mean()) == pytest.approx(3, rel=0.02)
    for k in (1, 2, 3, 6):
        assert float((sizes == k).double().mean()) == pytest.approx((2 / 3) ** (k - 1) / 3, rel=0.06)


def test_every_epoch_has_other_groups():
    """What an epoch's batches hold together differs from the last one's, and within a batch sub-groups differ too."""
    digits, order = load_digits("train", source="offline").take(slice(0, 120)), seeded()
    numbered = Batch(torch.arange(120.0).view(-1, 1, 1, 1) / 120, digits.labels)
    digits = replace(digits, images=numbered.images)
    epochs = []
    for _ in range(2):
        companions = set()
        for batch in digits.batches(60, order):
            groups = build(group_size=2).groups(batch.labels, order)
            for group in groups.unique():
                companions.add(tuple(sorted(batch.images.flatten()[groups == group].tolist())))
        epochs.append(companions)
    assert len(epochs[0] & epochs[1]) < 0.3 * len(epochs[0])


def test_a_models_groups_follow_its_settings():
    labels = torch.tensor(LABELS)
    assert build().groups(labels) is labels
    assert build(evidence=False, group_size=3).groups(labels).tolist() == list(range(7))
    assert torch.equal(build(group_size=2).groups(labels, seeded(4)), draw_groups(labels, 2, False, seeded(4)))


# Swaps


def test_a_swap_decodes_the_two_means():
    model, images, evidence = build(), pictures(3), pictures(3, 4, seed=1)
    found = model.swap(images, evidence)
    style, _ = model.encode(images)
    for i in range(3):
        _, experts = model.encode(evidence[i])
        precision = experts.log_var.neg().exp()
        code = (precision * experts.mean).sum(0) / precision.sum(0)
        expected = model.decode(style.mean[i], code).sigmoid().view(1, 28, 28)
        torch.testing.assert_close(found[i], expected, rtol=1e-4, atol=1e-5)
    assert found.shape == images.shape and (found >= 0).all() and (found <= 1).all()
    assert model.swap(images[:1], evidence[:1, :1]).shape == (1, 1, 28, 28)


def test_more_evidence_narrows_the_class():
    model, evidence = build(), pictures(2, 10)
    spread = [model.infer_class(evidence[:, :k]).log_var.mean() for k in (1, 2, 5, 10)]
    assert spread == sorted(spread, reverse=True) and spread[0] - spread[-1] > 2


def test_samples_have_the_class_of_their_evidence_and_new_styles():
    model, evidence = build(), pictures(4, 2)
    z = normal(4, 10)
    expected = model.decode(z, model.infer_class(evidence).mean).sigmoid().view(4, 1, 28, 28)
    assert torch.equal(model.sample(evidence, z=z), expected)
    first, again, other = (model.sample(evidence, generator=seeded(seed)) for seed in (1, 1, 2))
    assert torch.equal(first, again) and not torch.equal(first, other)


# Errors


@pytest.mark.parametrize(
    ("choice", "message"),
    [
        ({"likelihood": "gauss"}, "likelihood must be one of mse, bernoulli, got 'gauss'"),
        ({"class_kl": "batch"}, "class_kl must be one of image, group, got 'batch'"),
        ({"average": "pixels"}, "average must be one of images, groups, got 'pixels'"),
        ({"eps_per": "batch"}, "eps_per must be one of group, sample, got 'batch'"),
        ({"n_classes": 0}, "n_classes must be a whole number at least 1, got 0"),
        ({"class_dim": 0}, "class_dim must be a whole number at least 1, got 0"),
        ({"noise_std": -1.0}, "noise_std must be a finite number at least 0, got -1.0"),
        ({"group_size": -2}, "group_size must be a whole number at least 0, got -2"),
    ],
)
def test_choices_that_do_not_exist(choice, message):
    with pytest.raises(ValueError, match=message):
        MultiLevelVAE(MultiLevelVAEConfig(**choice))


@pytest.mark.parametrize(
    ("labels", "message"),
    [
        (torch.arange(3), r"(labels|groups) must be \[4\], one for each example, got \[3\]"),
        (torch.zeros(4, 10, dtype=torch.int64), r"(labels|groups) must be \[4\], .*, got \[4, 10\]"),
        (torch.zeros(4), "(labels|groups) must be whole numbers such as int64, got torch.float32"),
    ],
)
def test_group_labels_of_the_wrong_length_or_type(labels, message):
    for call in (
        lambda: build().loss(Batch(pictures(4), labels)),
        lambda: build(group_size=2).loss(Batch(pictures(4), labels)),
        lambda: build().loss(batch_of([0] * 4), groups=labels),
    ):
        with pytest.raises(ValueError, match=message):
            call()


@pytest.mark.parametrize("images", [torch.zeros(0, 1, 28, 28), torch.full((1, 1, 28, 28), 255.0)])
def test_images_are_checked(images):
    model, labels = build(), torch.zeros(len(images), dtype=torch.int64)
    for ask in (
        lambda: model.loss(Batch(images, labels)),
        lambda: model.encode(images),
        lambda: model.infer_class(images.unsqueeze(1)),
        lambda: model.swap(images, images.unsqueeze(1)),
    ):
        with pytest.raises(ValueError, match=r"^(images|evidence) must .*, got "):
            ask()


def test_noise_of_the_wrong_shape():
    with pytest.raises(ValueError, match=r"class_noise must have shape \[4, 10\], .*, got \[7, 10\]: one row a group"):
        build().loss(batch_of(LABELS), class_noise=normal(7, 10))
    with pytest.raises(ValueError, match=r"class_noise must have shape \[7, 10\], .*, got \[4, 10\]: one row a sample"):
        build(eps_per="sample").loss(batch_of(LABELS), class_noise=normal(4, 10))


def test_evidence_that_is_missing():
    with pytest.raises(ValueError, match="as many style_images as evidence, got 3 style_images, 2 evidence"):
        build().swap(pictures(3), pictures(2, 4))
    with pytest.raises(ValueError, match=r"evidence must have shape \[n, k, 1, 28, 28\], nothing empty, got \[2, 0, "):
        build().infer_class(torch.zeros(2, 0, 1, 28, 28))
    with pytest.raises(ValueError, match="size must be a whole number at least 1, got 0"):
        draw_groups(torch.zeros(3, dtype=torch.int64), 0)


@pytest.mark.gpu
def test_the_same_on_an_accelerator():
    model, batch = build(), batch_of(LABELS)
    noise = {"style_noise": normal(7, 10), "class_noise": normal(4, 10)}
    expected = model.loss(batch, **noise)
    moved = {name: value.cuda() for name, value in noise.items()}
    found = model.cuda().loss(Batch(batch.images.cuda(), batch.labels.cuda()), **moved)
    for name, term in expected.items():
        torch.testing.assert_close(found[name].cpu(), term, rtol=1e-3, atol=1e-3)
