"""What is handed to the models and measures: converted where nothing is lost, else refused before any work, in words."""

from __future__ import annotations

import json
import math
import pickle
from collections.abc import Callable
from dataclasses import asdict, replace
from functools import cache
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor
from unit_harness import normal, seeded, uniform

from latentbook import evaluation
from latentbook.data.digits import Batch, flat_pixels, square_images
from latentbook.evaluation import Judge
from latentbook.layers.distributions import (
    DiagonalGaussian,
    bernoulli_nll,
    count_posterior,
    gumbel_softmax,
    label_kl,
    one_hot,
    product_of_experts,
)
from latentbook.models.air import AIR
from latentbook.models.conditional_vae import LABELS, ConditionalVAE, ConditionalVAEConfig, check_classes
from latentbook.models.localisation import Localisation, LocalisationConfig
from latentbook.models.mix_and_match import Completer, MixAndMatch, MixAndMatchConfig, sampling
from latentbook.models.multi_level_vae import MultiLevelVAE, MultiLevelVAEConfig, draw_groups
from latentbook.models.vae import VAE, VAEConfig
from latentbook.training.loop import config_of, initialise, load_weights, save_weights

N = 6
BITS = uniform(N, 1, 28, 28).round()  # 0 and 1 alone, so that every type holds them exactly
CLASSES = torch.tensor([0, 3, 3, 9, 0, 7])
MENDED = {"posterior": "image-and-label", "label": "known", "label_kl": True, "adversary": True, "recovery": True}
MODELS: dict[str, Callable[[], torch.nn.Module]] = {
    "vae": lambda: VAE(VAEConfig(hidden_dim=8, latent_dim=3)),
    "vae-forced": lambda: VAE(VAEConfig(hidden_dim=8, latent_dim=3, teacher_forcing=True)),
    "mix-and-match": lambda: MixAndMatch(MixAndMatchConfig(hidden_dim=8, latent_dim=3, alpha=4)),
    "mix-and-match-conditional": lambda: MixAndMatch(
        MixAndMatchConfig(hidden_dim=8, latent_dim=3, alpha=4, prior="conditional")
    ),
    "concatenation": lambda: MixAndMatch(
        MixAndMatchConfig(hidden_dim=8, latent_dim=3, alpha=4, mixing="concatenation")
    ),
    "completer": lambda: Completer(MixAndMatchConfig(hidden_dim=8, latent_dim=3, alpha=4)),
    **{
        f"conditional-{label}": lambda label=label: ConditionalVAE(
            ConditionalVAEConfig(hidden_dim=8, latent_dim=3, label=label, label_kl=True)
        )
        for label in LABELS
    },
    "conditional-mended": lambda: ConditionalVAE(
        ConditionalVAEConfig(hidden_dim=8, latent_dim=3, smooth_radius=1.0, dropout=0.2, **MENDED)
    ),
    "multi-level": lambda: MultiLevelVAE(MultiLevelVAEConfig(hidden_dim=8, style_dim=3, class_dim=3)),
    "multi-level-mended": lambda: MultiLevelVAE(
        MultiLevelVAEConfig(
            hidden_dim=8,
            style_dim=3,
            class_dim=3,
            likelihood="bernoulli",
            exact=True,
            group_size=2,
            random_sizes=True,
            adversary=True,
            identity=True,
        )
    ),
    "judge": evaluation.Judge,
}
EVERY = pytest.mark.parametrize("name", MODELS)


def made(name: str) -> torch.nn.Module:
    return initialise(MODELS[name], 0)


def uses(model: torch.nn.Module) -> dict[str, Callable[[Any], Any]]:
    """Everything a model does with images."""
    found: dict[str, Callable[[Any], Any]] = {
        "loss": lambda images: model.loss(Batch(images, CLASSES), generator=seeded())
    }
    if isinstance(model, VAE | MultiLevelVAE):
        found["encode"] = model.encode
    if isinstance(model, VAE) and model.config.teacher_forcing:
        found["decode"] = lambda images: model.decode(torch.zeros(N, 3).to(model.mean.weight), images)
    if isinstance(model, MixAndMatch | Completer):
        found["split"] = model.split
    if isinstance(model, ConditionalVAE):
        found |= {"predict": model.predict, "infer": model.infer, "infer-labelled": lambda x: model.infer(x, CLASSES)}
    if isinstance(model, MultiLevelVAE):
        found["swap"] = lambda images: model.swap(images, BITS.unsqueeze(1).to(model.style_mean.weight))
    return found


def tensors(found: Any) -> list[Tensor]:
    """All tensors in what a call returns."""
    if isinstance(found, Tensor):
        return [found]
    if isinstance(found, DiagonalGaussian):
        return [found.mean, found.log_var]
    return [tensor for part in (found.values() if isinstance(found, dict) else found) for tensor in tensors(part)]


# Images: what is converted

AS_FLOATS = {
    "bool": lambda images: images.bool(),
    "bytes": lambda images: images.to(torch.uint8),
    "int64": lambda images: images.long(),
    "half": lambda images: images.half(),
    "array": lambda images: images.numpy(),
    "array of bytes": lambda images: images.numpy().astype(np.uint8),
    "array that is turned twice": lambda images: images.flip(0).numpy()[::-1],
    "lists": lambda images: images.tolist(),
    "a list of tensors": lambda images: list(images),
    "rows": lambda images: images.flatten(1),
}


@pytest.mark.parametrize("kind", AS_FLOATS)
@EVERY
def test_images_of_other_types_give_exactly_what_their_floats_give(name, kind):
    if name == "judge" and kind == "rows":
        return  # it looks at pictures
    model = made(name)
    for use in uses(model).values():
        expected, found = tensors(use(BITS)), tensors(use(AS_FLOATS[kind](BITS)))
        assert len(expected) == len(found) and all(map(torch.equal, expected, found))


@pytest.mark.parametrize("kind", ["float32", "bool", "lists"])
@EVERY
def test_a_model_in_double_precision_reads_what_is_narrower_and_widens_it(name, kind):
    model, given = made(name).double(), {"float32": BITS, "bool": BITS.bool(), "lists": BITS.tolist()}[kind]
    for use in uses(model).values():
        expected, found = tensors(use(BITS.double())), tensors(use(given))
        assert all(map(torch.equal, expected, found))
        assert {tensor.dtype for tensor in found} <= {torch.float64, torch.int64}


def test_lists_of_floats_have_the_models_precision():
    """0.1 is not rounded to float32 on its way into a model of doubles."""
    assert flat_pixels([[0.1] * 4], 4, like=torch.zeros(1).double()).tolist() == [[0.1] * 4]
    assert flat_pixels([[0.5] * 4], 4, like=torch.zeros(1).half()).dtype == torch.float16


@pytest.mark.parametrize("kind", ["the model's own", "bool"])
@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16], ids=str)
@EVERY
def test_models_in_half_precision_run_whole(name, dtype, kind):
    model = made(name).to(dtype)
    images = BITS.bool() if kind == "bool" else BITS.to(dtype)
    for use in uses(model).values():
        for tensor in tensors(use(images)):
            assert tensor.isfinite().all() and tensor.dtype in (dtype, torch.float32, torch.int64)
    for tensor in drawn(model):
        assert tensor.dtype == dtype and (tensor >= 0).all() and (tensor <= 1).all()
    if name not in ("judge", "completer"):
        sum(term.float().mean() for term in uses(model)["loss"](images).values()).backward()
        assert all(p.grad is None or (p.grad.isfinite().all() and p.grad.dtype == dtype) for p in model.parameters())


def drawn(model: torch.nn.Module) -> list[Tensor]:
    """What a model draws by itself."""
    if isinstance(model, VAE):
        return [] if model.config.teacher_forcing else [model.sample(4, generator=seeded())]
    if isinstance(model, MixAndMatch | Completer):
        return [model.sample(BITS.flatten(1)[:, 500:].bool(), generator=seeded())]
    if isinstance(model, ConditionalVAE):
        return [model.sample(CLASSES, generator=seeded())]
    if isinstance(model, MultiLevelVAE):
        evidence = BITS.bool().view(3, 2, 1, 28, 28)
        return [model.sample(evidence, generator=seeded()), model.swap(BITS[:3].bool(), evidence)]
    return []


@pytest.fixture
def doubles():
    torch.set_default_dtype(torch.float64)
    yield
    torch.set_default_dtype(torch.float32)


@EVERY
def test_everything_works_where_doubles_are_the_default(name, doubles):
    model = made(name)
    assert {parameter.dtype for parameter in model.parameters()} == {torch.float64}
    for images in (BITS, BITS.double(), BITS.bool()):
        for use in uses(model).values():
            assert {tensor.dtype for tensor in tensors(use(images))} <= {torch.float64, torch.int64}
    assert {tensor.dtype for tensor in drawn(model)} <= {torch.float64}


def test_a_model_of_singles_still_works_where_doubles_are_the_default(doubles):
    for name in MODELS:
        model = made(name).float()
        for use in uses(model).values():
            assert {tensor.dtype for tensor in tensors(use(BITS))} <= {torch.float32, torch.int64}, name


# Images: what is refused

BAD_IMAGES = {
    "None": (None, "hold numbers, got None"),
    "a generator": (iter([]), "hold numbers, got a list_iterator"),
    "words": ("abc", "hold numbers, got a str"),
    "bytes 0 to 255": ((255 * BITS).to(torch.uint8), r"got 0 to 255: divide bytes by 255"),
    "floats 0 to 255": (255 * BITS, r"got 0 to 255"),
    "normalised": (2 * BITS - 1, r"in \[0, 1\] without NaN, got -1 to 1"),
    "NaN": (BITS.clone().index_fill_(0, torch.tensor([2]), math.nan), "without NaN, got nan"),
    "doubles": (BITS.double(), r"be float32 here, got torch.float64.*(images|seen)\.to\(torch\.float32\).*astype"),
    "an array of doubles": (BITS.double().numpy(), "be float32 here, got torch.float64"),
    "none": (BITS[:0], "got"),
    "other sizes": (torch.zeros(N, 1, 28, 27), "got"),
    "in colour": (torch.zeros(N, 3, 28, 28), "got"),
    "one number": (torch.tensor(0.5), "got"),
    "rows of two lengths": ([[0.5] * 784, [0.5] * 783], "rows of one length"),
}


@pytest.mark.parametrize("kind", BAD_IMAGES)
@EVERY
def test_other_images_are_refused_by_name(name, kind):
    images, words = BAD_IMAGES[kind]
    for what, use in uses(made(name)).items():
        if what == "decode" and images is None:
            words = "needs `seen`"
        with pytest.raises(ValueError, match=rf"^(images|seen|a decoder) .*{words}"):
            use(images)


def test_a_model_of_half_precision_refuses_singles():
    with pytest.raises(ValueError, match=r"images must be float16 here, got torch\.float32, which float16 would round"):
        made("vae").half().encode(BITS)


# Labels and groups

SAME_LABELS = {
    "a list": CLASSES.tolist(),
    "a tuple": tuple(CLASSES.tolist()),
    "an array": CLASSES.numpy(),
    "an array of bytes": CLASSES.numpy().astype(np.uint8),
    "int32": CLASSES.int(),
    "uint8": CLASSES.to(torch.uint8),
}
BAD_LABELS = {
    "None": (None, "hold numbers, got None"),
    "floats": (CLASSES.float(), "be whole numbers such as int64, got torch.float32"),
    "int64 lists of lists": ([[1]] * N, r"one for each example, got \[6, 1\]: flatten it"),
    "one-hot": (torch.eye(10)[CLASSES].long(), r"got \[6, 10\]: flatten it, or use argmax"),
    "too few": (CLASSES[:4], r"be \[6\], one for each example, got \[4\]"),
    "words": (["3"] * N, "hold numbers in rows of one length"),
}


@cache
def label_users() -> dict[str, Callable[[Any], Any]]:
    conditional, levels, judge = made("conditional-mended"), made("multi-level-mended"), made("judge").eval()
    return {
        "conditional loss": lambda labels: conditional.loss(Batch(BITS, labels), generator=seeded()),
        "conditional infer": lambda labels: conditional.infer(BITS, labels),
        "multi-level loss": lambda labels: levels.loss(Batch(BITS, labels), generator=seeded()),
        "multi-level groups": lambda groups: made("multi-level").loss(
            Batch(BITS, None), groups=groups, generator=seeded()
        ),
        "judge": lambda labels: judge.loss(Batch(BITS, labels)),
        "agreement": lambda labels: torch.tensor(evaluation.agreement(BITS, labels, judge)),
        "product": lambda groups: product_of_experts(DiagonalGaussian(normal(N, 2), normal(N, 2)), groups),
        "train labels": lambda labels: torch.tensor(evaluation.probe(normal(N, 2), labels, normal(N, 2), CLASSES)),
        "test labels": lambda labels: torch.tensor(evaluation.probe(normal(N, 2), CLASSES, normal(N, 2), labels)),
    }


@pytest.mark.parametrize("user", label_users())
def test_labels_of_other_types_are_the_same_labels(user):
    for labels in SAME_LABELS.values():
        expected, found = (tensors(label_users()[user](given)) for given in (CLASSES, labels))
        assert all(map(torch.equal, expected, found))


@pytest.mark.parametrize("user", label_users())
def test_other_labels_are_refused_by_name(user):
    for labels, words in BAD_LABELS.values():
        if user == "conditional infer" and labels is None:
            continue  # there they are predicted
        with pytest.raises(ValueError, match=f"^(train_labels|test_labels|labels|groups) must .*{words}"):
            label_users()[user](labels)


def test_labels_alone_may_be_lists_too():
    model, levels, labels = made("conditional-known"), made("multi-level-mended"), CLASSES.tolist()
    assert torch.equal(model.sample(labels, generator=seeded()), model.sample(CLASSES, generator=seeded()))
    assert torch.equal(levels.groups(labels, seeded()), levels.groups(CLASSES, seeded()))
    assert torch.equal(
        draw_groups(labels, np.int64(2), generator=seeded()), draw_groups(CLASSES, 2, generator=seeded())
    )
    assert torch.equal(evaluation.shuffled(CLASSES.numpy()), evaluation.shuffled(CLASSES))
    check_classes([0, 1, 2], 3)
    assert one_hot([[1, 0]], torch.zeros(2)).tolist() == [[[0.0, 1.0], [1.0, 0.0]]]
    for ask in (model.sample, levels.groups, evaluation.shuffled, lambda given: one_hot(given, torch.zeros(3))):
        with pytest.raises(ValueError, match=r"labels must be whole numbers such as int64, got torch\.float32"):
            ask([0.0, 1.0])
    with pytest.raises(ValueError, match=r"labels must be class numbers 0\.\.2"):
        one_hot([3], torch.zeros(3))


# Codes, noise, masks


@cache
def refusals() -> dict[str, tuple[Callable[[], Any], str]]:
    vae, mixing, conditional, levels = map(made, ("vae", "mix-and-match", "conditional-hard", "multi-level"))
    batch, bottoms, features = Batch(BITS, CLASSES), BITS.flatten(1)[:, 500:], torch.zeros(N, 8)
    mask, one = torch.ones(N, 8, dtype=torch.bool), DiagonalGaussian(normal(N, 3), normal(N, 3))
    nan = torch.full((N, 3), math.nan)
    return {
        "vae sample 0": (lambda: vae.sample(0), "n must be a whole number at least 1, got 0"),
        "vae sample 2.5": (lambda: vae.sample(2.5), "n must be a whole number at least 1, got 2.5"),
        "vae sample z": (lambda: vae.sample(4, z=normal(5, 3)), r"z must have shape \[4, 3\].*got \[5, 3\]"),
        "vae sample NaN": (lambda: vae.sample(N, z=nan), "z must be finite, got 18 values"),
        "vae decode": (lambda: vae.decode(normal(N, 4)), r"z must have shape \[..., 3\], got \[6, 4\]"),
        "vae decode doubles": (lambda: vae.decode(normal(N, 3).double()), "z must be float32 here, got torch.float64"),
        "vae decode words": (lambda: vae.decode("z"), "z must hold numbers, got a str"),
        "vae decode seen": (
            lambda: made("vae-forced").decode(normal(2, 3), BITS),
            "as many z as seen, got 2 z, 6 seen",
        ),
        "vae noise": (lambda: vae.loss(batch, noise=normal(1, 3)), r"noise must have shape \[6, 3\].*got \[1, 3\]"),
        "vae noise NaN": (lambda: vae.loss(batch, noise=nan), "noise must be finite"),
        "mix noise": (lambda: mixing.loss(batch, noise=normal(N, 4)), r"noise must have shape \[6, 3\]"),
        "mix alpha and mask": (lambda: mixing.loss(batch, alpha=2, mask=mask), "give alpha or mask, not both"),
        "mix alpha": (lambda: mixing.mask(3, 9), r"alpha \(of hidden_dim=8\) must be .* between 0 and 8, got 9"),
        "mix rows": (lambda: mixing.mask(2.5), "batch must be a whole number at least 1, got 2.5"),
        "mix z": (lambda: mixing.sample(bottoms, z=normal(1, 3)), r"z must have shape \[6, 3\].*got \[1, 3\]"),
        "mix mask": (lambda: mixing.sample(bottoms, mask=mask[:, :7]), r"mask must be bool \[6, 8\], got torch.bool"),
        "mix decode": (lambda: mixing.decode(normal(N, 2), features, mask), r"z must have shape \[..., 3\]"),
        "mix features": (
            lambda: mixing.encode(features[:, :7], features, mask),
            r"features must have shape \[..., 8\]",
        ),
        "mix batches": (lambda: mixing.encode(features[:1], features, mask), "as many chosen as other, got 1 chosen"),
        "mix prior": (lambda: mixing.prior(features[:, :7]), r"condition_features must have shape \[..., 8\]"),
        "conditional noise": (lambda: conditional.loss(batch, noise=normal(N)), r"noise must have shape \[6, 3\]"),
        "conditional uniform": (
            lambda: conditional.loss(batch, uniform=uniform(N, 9)),
            r"uniform must have shape \[6, 10\].*got \[6, 9\]",
        ),
        "conditional uniform range": (
            lambda: conditional.loss(batch, uniform=2 + uniform(N, 10)),
            r"uniform must lie in \(0, 1\), got 2",
        ),
        "conditional temperature": (
            lambda: conditional.loss(batch, temperature="warm"),
            "temperature must be a finite number above 0, got 'warm'",
        ),
        "conditional z": (lambda: conditional.sample([3], z=normal(2, 3)), r"z must have shape \[1, 3\].*got \[2, 3\]"),
        "conditional decode": (
            lambda: conditional.decode(normal(4, 3), torch.zeros(5, 10)),
            r"z \[4, 3\] and y \[5, 10\] must be for the same examples",
        ),
        "conditional y": (
            lambda: conditional.decode(normal(4, 3), torch.zeros(4, 9)),
            r"y must have shape \[..., 10\]",
        ),
        "conditional x": (lambda: conditional.classify(BITS), r"x must have shape \[..., 784\], got \[6, 1, 28, 28\]"),
        "levels style noise": (
            lambda: levels.loss(batch, style_noise=normal(N, 4)),
            r"style_noise must have .*\[6, 3\]",
        ),
        "levels class noise": (lambda: levels.loss(batch, class_noise=nan), r"class_noise must have shape \[4, 3\]"),
        "levels decode": (
            lambda: levels.decode(normal(4, 3), normal(3, 3)),
            r"style \[4, 3\] and class_code \[3, 3\] must be for the same images",
        ),
        "levels code": (lambda: levels.decode(normal(4, 2), normal(4, 3)), r"style must have shape \[..., 3\]"),
        "levels evidence": (lambda: levels.infer_class(BITS), r"evidence must have shape \[n, k, 1, 28, 28\]"),
        "levels evidence range": (lambda: levels.infer_class(2 * BITS[None]), "evidence must hold grey values"),
        "levels swap": (
            lambda: levels.swap(BITS, BITS[None]),
            "as many style_images as evidence, got 6 style_images, 1 evidence",
        ),
        "levels z": (lambda: levels.sample(BITS[None], z=normal(N, 3)), r"z must have shape \[1, 3\].*got \[6, 3\]"),
        "levels size": (lambda: draw_groups(CLASSES, 1.5), "size must be a whole number at least 1, got 1.5"),
        "gaussian": (lambda: DiagonalGaussian("mean", normal(3)), "mean must hold numbers, got a str"),
        "gaussian noise": (lambda: one.sample(normal(N, 1)), r"noise must fit the mean's shape \[6, 3\], got \[6, 1\]"),
        "gaussian outer": (
            lambda: DiagonalGaussian(normal(N, 1, 3), normal(N, 1, 3)).sample(normal(5, 3)),
            r"noise must fit the mean's shape \[6, 1, 3\], got \[5, 3\]",
        ),
        "gaussian kl": (
            lambda: one.kl(DiagonalGaussian(normal(1), normal(1))),
            r"the other Gaussian's mean must fit the mean's shape \[6, 3\], got \[1\]",
        ),
        "gaussian value": (lambda: one.log_prob(normal(4, 3)), r"value must fit the mean's shape"),
        "product prior": (
            lambda: product_of_experts(one, CLASSES, DiagonalGaussian(normal(1), normal(1))),
            r"prior must have shape \[3\].*got \[1\]",
        ),
        "product of one": (lambda: product_of_experts(DiagonalGaussian([0.0], [0.0]), [0]), r"experts must have shape"),
        "gumbel": (lambda: gumbel_softmax(normal(2, 3), None, True), "temperature must be a finite number above 0"),
        "counts": (lambda: count_posterior(normal(3), "low"), "floor must be a finite number, got 'low'"),
    }


@pytest.mark.parametrize("case", refusals())
def test_codes_noise_and_masks_that_do_not_fit(case, plain):
    call, words = refusals()[case]
    with pytest.raises(ValueError, match=words):
        call()


def test_codes_and_noise_may_be_lists_and_counts_numpys():
    vae, mixing, z = made("vae"), made("mix-and-match").eval(), normal(4, 3)
    assert torch.equal(vae.sample(np.int64(4), z=z.tolist()), vae.sample(4, z=z))
    assert torch.equal(vae.decode(z.numpy()), vae.decode(z)) and torch.equal(
        vae.decode(z.half()), vae.decode(z.half().float())
    )
    batch, noise, mask = Batch(BITS, CLASSES), normal(N, 3), sampling(N, 8, 4, generator=seeded())
    for given in (mask.tolist(), mask.numpy()):
        found, expected = (mixing.loss(batch, mask=m, noise=n) for m, n in ((given, noise.tolist()), (mask, noise)))
        assert all(torch.equal(found[term], expected[term]) for term in expected)
    assert sampling(np.int64(3), np.int64(8), np.uint8(4)).sum(1).tolist() == [4, 4, 4]


def test_a_gaussian_of_lists_or_whole_numbers_is_one_of_floats():
    expected = DiagonalGaussian(torch.tensor([[1.0, 2.0]]), torch.tensor([[0.0, 1.0]]))
    for found in (
        DiagonalGaussian([[1, 2]], [[0, 1]]),
        DiagonalGaussian(torch.tensor([[1, 2]]), torch.tensor([[0, 1]])),
        DiagonalGaussian(np.array([[1.0, 2.0]], np.float32), ((0.0, 1.0),)),
    ):
        assert torch.equal(found.sample(generator=seeded()), expected.sample(generator=seeded()))
        assert torch.equal(found.kl(), expected.kl()) and torch.equal(found.log_prob([3, 4]), expected.log_prob([3, 4]))


def test_noise_may_have_more_rows_than_the_mean_and_a_prior_fewer():
    one, many = DiagonalGaussian(normal(3), normal(3)), DiagonalGaussian(normal(N, 3), normal(N, 3))
    assert one.sample(normal(N, 3)).shape == (N, 3)
    assert torch.equal(many.kl(one)[2], DiagonalGaussian(many.mean[2], many.log_var[2]).kl(one))


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16, torch.float32, torch.float64], ids=str)
@pytest.mark.parametrize("hard", [True, False])
def test_a_draw_has_the_precision_of_its_logits(hard, dtype):
    y = gumbel_softmax(normal(50, 10).to(dtype), 1.0, hard, uniform(50, 10))
    assert y.dtype == dtype
    if hard:
        torch.testing.assert_close(y, y.round(), rtol=0, atol=1e-6)
    expected = gumbel_softmax(normal(50, 10).to(dtype).double(), 1.0, hard, uniform(50, 10))
    torch.testing.assert_close(y.double(), expected, rtol=0.01, atol=1e-3)


def test_the_likelihood_of_bits_and_of_another_precision_is_not_rounded_to_theirs():
    logits, bits = normal(4, 5), uniform(4, 5).round()
    expected = bernoulli_nll(logits, bits)
    for given in (bits.bool(), bits.long(), bits.half()):  # bool made the logits 0 and 1
        assert torch.equal(bernoulli_nll(logits, given), expected)
    assert bernoulli_nll(logits, bits.double()).dtype == torch.float64
    assert torch.equal(label_kl([[0.0, 1.0]]), label_kl(torch.tensor([[0.0, 1.0]])))


@pytest.mark.parametrize("exact", [False, True])
def test_a_product_of_many_halves_is_that_of_singles(exact):
    """300 in bfloat16 is a sum that stays at 256; and 299/300 is 1, as if the experts were wider than the prior."""
    n = 300
    half = DiagonalGaussian(normal(n, 2).bfloat16(), torch.zeros(n, 2).bfloat16())
    prior = DiagonalGaussian(torch.zeros(2).bfloat16(), torch.full((2,), 0.5).bfloat16()) if exact else None
    found = product_of_experts(half, [0] * n, prior)
    wide = DiagonalGaussian(half.mean.double(), half.log_var.double())
    expected = product_of_experts(
        wide, [0] * n, prior and DiagonalGaussian(prior.mean.double(), prior.log_var.double())
    )
    assert found.mean.dtype == found.log_var.dtype == torch.bfloat16
    torch.testing.assert_close(found.log_var.double(), expected.log_var, rtol=0.01, atol=0)
    torch.testing.assert_close(found.mean.double(), expected.mean, rtol=0.02, atol=1e-3)


# Sizes: every image has the side that its configuration has


@pytest.mark.parametrize("side", [1, 8, 56])
def test_images_of_another_side_stay_whole(side):
    pixels, images = side * side, uniform(3, 1, side, side)
    vae = VAE(VAEConfig(pixels=pixels, hidden_dim=4, latent_dim=2))
    assert vae.sample(8).shape == (8, 1, side, side)
    z = normal(8, 2)
    assert torch.equal(vae.sample(8, z=z).flatten(1), vae.decode(z).sigmoid())
    conditional = ConditionalVAE(ConditionalVAEConfig(pixels=pixels, hidden_dim=4, latent_dim=2))
    assert conditional.sample([1, 2]).shape == (2, 1, side, side) and conditional.predict(images).shape == (3,)
    levels = MultiLevelVAE(MultiLevelVAEConfig(pixels=pixels, hidden_dim=4))
    evidence = images.unsqueeze(1)
    assert levels.sample(evidence).shape == levels.swap(images, evidence).shape == (3, 1, side, side)
    for model in (vae, conditional, levels):
        assert model.loss(Batch(images, CLASSES[:3]), generator=seeded())[
            "kl" if model is not levels else "mse"
        ].shape == (3,)
        with pytest.raises(ValueError, match=rf"images must hold {pixels} pixels"):
            model.loss(Batch(torch.zeros(3, 1, side, side + 1), CLASSES[:3]))


def test_square_images_are_the_way_back_from_rows():
    images = uniform(2, 1, 5, 5)
    assert torch.equal(square_images(flat_pixels(images, 25)), images)


@pytest.mark.parametrize("config", [VAEConfig, ConditionalVAEConfig, MultiLevelVAEConfig])
def test_pixels_that_make_no_square_are_refused_when_the_configuration_is_made(config):
    message = "pixels must fill a square image, as 784 = 28 x 28 do, got 600: the nearest are 576 and 625"
    with pytest.raises(ValueError, match=message):
        config(pixels=600)
    with pytest.raises(ValueError, match=message):
        replace(config(), pixels=600)


def test_top_and_bottom_may_be_of_any_size_but_must_make_the_image():
    model = MixAndMatch(MixAndMatchConfig(data_dim=40, condition_dim=20, hidden_dim=4, latent_dim=2, alpha=2))
    data, condition = model.split(uniform(3, 1, 6, 10))
    assert (data.shape, condition.shape) == ((3, 40), (3, 20)) and model.sample(condition).shape == (3, 40)
    with pytest.raises(ValueError, match="images must hold 60 pixels"):
        model.split(BITS)


# Configurations hold plain numbers, whatever they are made of

PLAIN = {
    VAEConfig: {"pixels": np.int64(64), "latent_dim": np.uint8(3), "teacher_forcing": np.True_},
    MixAndMatchConfig: {"hidden_dim": np.int32(16), "alpha": np.int64(8)},
    ConditionalVAEConfig: {"temperature": np.float32(0.5), "dropout": np.float64(0.25), "label_kl": np.bool_(True)},
    MultiLevelVAEConfig: {"noise_std": torch.tensor(0.5), "group_size": torch.tensor(4)},
}


@pytest.mark.parametrize("config", PLAIN, ids=lambda config: config.__name__)
def test_configurations_are_plain_and_travel(config, tmp_path):
    made = config(**PLAIN[config])
    for name, value in PLAIN[config].items():
        assert getattr(made, name) == value and type(getattr(made, name)) is type(getattr(config(), name))
    assert config(**json.loads(json.dumps(asdict(made)))) == made == pickle.loads(pickle.dumps(made)) == replace(made)
    assert hash(made) == hash(config(**asdict(made)))
    model = {
        VAEConfig: VAE,
        MixAndMatchConfig: MixAndMatch,
        ConditionalVAEConfig: ConditionalVAE,
        MultiLevelVAEConfig: MultiLevelVAE,
    }[config]
    save_weights(tmp_path / "w.safetensors", model(made))
    assert config_of(load_weights(tmp_path / "w.safetensors", lambda given: model(config(**given)))) == asdict(made)


@pytest.mark.parametrize(
    ("config", "choices", "words"),
    [
        (VAEConfig, {"hidden_dim": 0}, "hidden_dim must be a whole number at least 1, got 0"),
        (VAEConfig, {"latent_dim": 2.5}, "latent_dim must be a whole number at least 1, got 2.5"),
        (VAEConfig, {"teacher_forcing": "yes"}, "teacher_forcing must be True or False, got 'yes'"),
        (VAEConfig, {"neighbours": "below"}, "neighbours must be one of before, all, got 'below'"),
        (MixAndMatchConfig, {"alpha": 9999}, r"alpha \(of hidden_dim=128\) must be .* between 0 and 128, got 9999"),
        (MixAndMatchConfig, {"data_dim": 1}, "data_dim must be a whole number at least 2, got 1"),
        (ConditionalVAEConfig, {"dropout": 1.0}, "dropout must be a finite number at least 0 and below 1, got 1.0"),
        (
            ConditionalVAEConfig,
            {"smooth_radius": math.nan},
            "smooth_radius must be a finite number at least 0, got nan",
        ),
        (ConditionalVAEConfig, {"n_classes": -1}, "n_classes must be a whole number at least 1, got -1"),
        (MultiLevelVAEConfig, {"init_std": "small"}, "init_std must be a finite number at least 0, got 'small'"),
        (MultiLevelVAEConfig, {"exact": 1}, "exact must be True or False, got 1"),
    ],
)
def test_fields_are_checked_when_a_configuration_is_made(config, choices, words):
    with pytest.raises(ValueError, match=words):
        config(**choices)


# Measures


@pytest.fixture(scope="module")
def digits():
    from latentbook.data.digits import load_digits

    return load_digits("test", source="offline").take(slice(0, 40))


def test_the_judge_reads_what_it_is_given_or_says_why_not(digits, plain):
    images, labels = digits.images, digits.labels
    expected = evaluation.judged(images)
    for same in (images.double(), images.numpy(), images.tolist(), list(images)):  # doubles of singles: no rounding
        assert torch.equal(evaluation.judged(same), expected)
    assert torch.equal(evaluation.judged(images.round().bool()), evaluation.judged(images.round()))
    assert evaluation.agreement(images.double(), labels.numpy()) == evaluation.agreement(images, labels)
    holed = images.clone()
    holed[3, 0, 5, 5] = math.nan
    for bad, words in (
        (255 * images, "got 0 to 255: divide bytes by 255"),
        ((255 * images).to(torch.uint8), "got 0 to 255"),
        (holed, "without NaN, got nan"),
        (images[:, 0], r"have shape \[n, 1, 28, 28\], nothing empty, got \[40, 28, 28\]: the judge reads digits"),
        (images[..., :20, :20], r"got \[40, 1, 20, 20\]"),
        (images[:0], r"got \[0, 1, 28, 28\]"),
    ):
        for ask in (evaluation.judged, lambda given: evaluation.agreement(given, labels)):
            with pytest.raises(ValueError, match=f"^images must .*{words}"):
                ask(bad)


@pytest.mark.parametrize(
    ("labels", "words"),
    [
        (lambda y: y[:, None], r"be \[40\], one for each example, got \[40, 1\]"),
        (lambda y: y[None], r"got \[1, 40\]"),
        (lambda y: y[:39], r"be \[40\], .*, got \[39\]"),
        (lambda y: y.float(), "whole numbers such as int64, got torch.float32"),
        (lambda y: y + 1, r"class numbers 0\.\.9, got 1\.\.10"),
    ],
)
def test_agreement_is_of_one_label_an_image(labels, words, digits, plain):
    with pytest.raises(ValueError, match=f"^labels must .*{words}"):
        evaluation.agreement(digits.images, labels(digits.labels))


def test_the_judge_is_one_whatever_its_device_is_called_and_stays_single(doubles, digits):
    judge = evaluation.load_judge(torch.device("cpu"))
    assert judge is evaluation.load_judge("cpu") is evaluation.load_judge() and judge.head.weight.dtype == torch.float32
    evaluation._load_judge.cache_clear()
    assert evaluation.load_judge().head.weight.dtype == torch.float32
    found = evaluation.judged(digits.images.double())
    torch.set_default_dtype(torch.float32)
    assert torch.equal(found, evaluation.judged(digits.images))


ONES = torch.ones(4, 3, 5)
BAD_MEASURES = {
    "kl of one image": (lambda: evaluation.active_units(ONES[0, 0]), r"kl must have shape \[n, latent\]"),
    "kl NaN": (lambda: evaluation.active_units(ONES[0] * math.nan), "kl must be finite"),
    "kl none": (lambda: evaluation.active_units(ONES[:0, 0]), "nothing empty"),
    "kl threshold": (lambda: evaluation.active_units(ONES[0], "low"), "threshold must be a finite number, got 'low'"),
    "bce bytes": (lambda: evaluation.bce(ONES, 255 * ONES), "target must hold grey values .* got 255 to 255"),
    "bce logits": (lambda: evaluation.bce(-ONES, ONES), "probabilities must hold grey values"),
    "bce NaN": (lambda: evaluation.bce(ONES * math.nan, ONES), "probabilities must hold grey values .*without NaN"),
    "bce pixels": (
        lambda: evaluation.bce(ONES, ONES[..., :1]),
        r"target must have the probabilities' shape \[4, 3, 5\]",
    ),
    "bce outer": (lambda: evaluation.bce(ONES[:, :1], ONES), r"shape \[4, 1, 5\], or 1 in its place, got \[4, 3, 5\]"),
    "bce number": (lambda: evaluation.bce(torch.tensor(0.5), ONES), r"probabilities must have shape \[pixels\]"),
    "best target": (lambda: evaluation.best_of_k(ONES, ONES[:3, 0]), r"target must have shape \[4, 5\].*got \[3, 5\]"),
    "best one": (lambda: evaluation.best_of_k(ONES, ONES[0, :1]), r"target must have shape \[4, 5\].*got \[1, 5\]"),
    "best flat": (lambda: evaluation.best_of_k(ONES[0], ONES[0]), r"samples must have shape \[n, k, pixels\]"),
    "l2 flat": (lambda: evaluation.pairwise_l2(ONES[0]), r"samples must have shape \[n, k, pixels\]"),
    "l2 NaN": (lambda: evaluation.pairwise_l2(ONES * math.nan), "samples must be finite, got 60 values"),
    "shares flat": (lambda: evaluation.variance_shares(ONES), r"grid must have shape \[n, a, b, pixels\]"),
    "shares NaN": (lambda: evaluation.variance_shares(ONES[None] * math.inf), "grid must be finite"),
    "probe codes": (
        lambda: evaluation.probe(normal(5, 2), CLASSES, normal(6, 2), CLASSES),
        r"train_labels must be \[5\], one for each example, got \[6\]",
    ),
    "probe test": (
        lambda: evaluation.probe(normal(6, 2), CLASSES, normal(5, 2), CLASSES),
        r"test_labels must be \[5\]",
    ),
    "probe sizes": (
        lambda: evaluation.probe(normal(6, 2), CLASSES, normal(6, 3), CLASSES),
        r"test_codes must have shape \[n, 2\].*got \[6, 3\]",
    ),
    "probe NaN": (
        lambda: evaluation.probe(normal(6, 2) * math.nan, CLASSES, normal(6, 2), CLASSES),
        "train_codes must be finite",
    ),
    "probe none": (lambda: evaluation.probe(normal(0, 2), [], normal(6, 2), CLASSES), "train_codes .* nothing empty"),
    "probe seed": (
        lambda: evaluation.probe(normal(6, 2), CLASSES, normal(6, 2), CLASSES, seed=0.5),
        "seed must be a whole number at least 0, got 0.5",
    ),
    "shuffled rows": (lambda: evaluation.shuffled(ONES[0].long()), r"labels must be \[n >= 1\]"),
    "mean pictures": (lambda: evaluation.pixel_mean_bce(BITS, BITS), r"train must have shape \[n, pixels\]"),
    "mean sizes": (
        lambda: evaluation.pixel_mean_bce(ONES[0], ONES[0, :, :4]),
        r"test must have shape \[n, 5\].*got \[3, 4\]",
    ),
    "entropy bytes": (lambda: evaluation.grey_entropy(255 * ONES[0]), r"images must hold grey values in \[0, 1\]"),
    "entropy pictures": (lambda: evaluation.grey_entropy(BITS), r"images must have shape \[n, pixels\]"),
}


@pytest.mark.parametrize("case", BAD_MEASURES)
def test_measures_refuse_what_they_cannot_measure(case, plain):
    call, words = BAD_MEASURES[case]
    with pytest.raises(ValueError, match=words):
        call()


def test_measures_take_any_type_and_compute_in_the_wider():
    grey, bits = uniform(4, 5), uniform(4, 5, seed=1).round()
    expected = evaluation.bce(grey, bits)
    for target in (bits.bool(), bits.long(), bits.numpy(), bits.tolist(), bits.half()):
        assert torch.equal(evaluation.bce(grey, target), expected)
    mixed = evaluation.bce(grey, bits.double())
    assert mixed.dtype == torch.float64 and torch.equal(mixed, evaluation.bce(grey.double(), bits.double()))
    assert evaluation.bce(grey.bfloat16(), bits).dtype == torch.float32
    samples = uniform(4, 3, 5)
    assert torch.equal(evaluation.best_of_k(samples, bits.bool()), evaluation.best_of_k(samples, bits))
    assert evaluation.best_of_k(samples, bits.double()).dtype == torch.float64
    assert evaluation.pixel_mean_bce(bits.bool(), grey.tolist()) == evaluation.pixel_mean_bce(bits, grey)
    assert evaluation.grey_entropy(bits.bool()) == 0
    assert torch.equal(evaluation.pairwise_l2(samples.tolist()), evaluation.pairwise_l2(samples))
    assert evaluation.active_units(np.array([[0.0, 1.0]])) == 1
    codes = normal(60, 2)
    labels = (codes[:, 0] > 0).long()
    half = evaluation.probe(codes.bfloat16().requires_grad_(), labels.tolist(), codes.double(), labels.numpy())
    assert half == pytest.approx(evaluation.probe(codes, labels, codes, labels), abs=0.05)


ALL_CLASSES = (VAE, MixAndMatch, Completer, ConditionalVAE, MultiLevelVAE, Localisation, AIR, Judge)


@pytest.mark.parametrize("model", ALL_CLASSES)
@pytest.mark.parametrize("batch", [None, (torch.zeros(2, 1, 28, 28), torch.zeros(2)), [1]])
def test_no_model_takes_a_batch_that_is_none(model, batch):
    with pytest.raises(ValueError, match=r"batch must have images.* give a Batch\(images, labels\)"):
        model().loss(batch)


@pytest.mark.parametrize("model", ALL_CLASSES[:-1])
def test_a_configuration_is_one_of_the_models_own(model):
    for given in ({"pixels": 784}, None, LocalisationConfig if model is not Localisation else VAEConfig()):
        with pytest.raises(ValueError, match=r"config must be an? \w+Config, got"):
            model(given)
