"""Chapter 00's experiment: what the weight of the KL buys, and decoders that have another way to know."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any, ClassVar

import torch
from torch import Tensor

from latentbook import checks, evaluation
from latentbook.data.digits import Digits
from latentbook.experiments.listening import listening_metrics
from latentbook.experiments.run import Run, finished, train_as
from latentbook.experiments.states import States
from latentbook.models.vae import VAE, VAEConfig
from latentbook.training.loop import History, initialise, mean_terms

THRESHOLD_TEXT = (
    "an exception, a NaN, or a reconstruction worse than the training mean "
    "(a collapsed posterior is a result here, not a failure)"
)
THRESHOLD = 215.0  # nats: a little above the training mean's 206
PERMUTATIONS = 10  # of the labels, in the probe's control: each fits a probe anew


@dataclass(frozen=True)
class Config:
    """One variant of the primer's VAE. Raises ValueError for numbers out of range."""

    model: VAEConfig = field(default_factory=VAEConfig)
    kl_weight: float = 1.0  # 1 is the ELBO; beta of the beta-VAE (Higgins et al., 2017)
    epochs: int = 8  # the test ELBO changes by about a nat an epoch by then; the sweep needs no more
    batch_size: int = 128
    learning_rate: float = 2e-3  # the best bound on validation digits, of 0.0005 to 0.004
    schedule: ClassVar[str] = "constant"  # of every variant, so it is no choice

    def __post_init__(self) -> None:
        least = {"kl_weight": 0, "epochs": 0, "batch_size": 1}
        checks.fields_fit(self, at_least=least, above={"learning_rate": 0})


KL_WEIGHTS = (0.0, 0.1, 0.3, 1.0, 3.0, 10.0, 30.0)
VARIANTS: dict[str, Config] = {f"kl-weight-{weight:g}": Config(kl_weight=weight) for weight in KL_WEIGHTS} | {
    "teacher-forcing": Config(VAEConfig(teacher_forcing=True)),
    "teacher-forcing-long": Config(VAEConfig(teacher_forcing=True), epochs=24),  # its KL still falls after 8
    # the control of teacher forcing: the code is priced out, so that the pixels before are all the decoder has
    "neighbours-only": Config(VAEConfig(teacher_forcing=True), kl_weight=30.0),
    "neighbours-only-long": Config(VAEConfig(teacher_forcing=True), kl_weight=30.0, epochs=24),
    "all-neighbours": Config(VAEConfig(teacher_forcing=True, neighbours="all")),
    "untrained": Config(epochs=0),
}
HEADLINE = (
    "kl-weight-1",
    "kl-weight-30",
    "teacher-forcing",
    "neighbours-only",
    "untrained",
)  # what the chapter compares
SEEDS = {variant: 10 if variant in HEADLINE else 5 for variant in VARIANTS}  # how many the book measures, from 0 on


def build(config: Config, seed: int = 0) -> VAE:
    """The variant's model with its initial weights drawn under a seed."""
    return initialise(lambda: VAE(config.model), seed)


def train(config: Config, digits: Digits, seed: int, device: str = "cpu", **options: Any) -> tuple[VAE, History]:
    """Train one variant as its configuration says; returns the model and its history. options: those of `train_as`."""
    weights = {"kl": config.kl_weight}
    return train_as(config, build(config, seed), digits, seed, device, weights=weights, **options)


@torch.no_grad()
def codes(model: VAE, digits: Digits, seed: int) -> tuple[Tensor, Tensor]:
    """A sampled code [n, latent] and the KL of every dimension [n, latent] for each digit."""
    generator = torch.Generator(digits.images.device).manual_seed(seed)
    parts = [model.encode(batch.images) for batch in digits.batches(5000)]
    return torch.cat([part.sample(generator=generator) for part in parts]), torch.cat([part.kl() for part in parts])


@torch.no_grad()
def swap(model: VAE, digits: Digits, z: Tensor) -> tuple[float, float]:
    """The intervention: decode digit a with the code of another digit b of another
    class. Whom does the picture follow?

    Returns the shares judged to be b's class (the latent is heard) and a's (with
    teacher forcing: the neighbours are).
    """
    other = torch.roll(torch.arange(len(digits), device=z.device), 1)
    differ = digits.labels != digits.labels[other]
    logits = model.decode(z[other][differ], digits.images[differ])
    seen = evaluation.judged(logits.sigmoid().view(-1, 1, 28, 28))
    return tuple(
        float((seen == labels[differ]).float().mean())
        for labels in (
            digits.labels[other],
            digits.labels,
        )
    )


@torch.no_grad()
def decode_alone(model: VAE, z: Tensor, generator: torch.Generator) -> Tensor:
    """What a code [n, latent] says by itself: decoder means [n, pixels] with no true pixel to look back at.

    With teacher forcing the image is made pixel by pixel in row order (ancestral sampling): each pixel sees draws of those
    before it. Returned are the means, each given the draws before. Raises ValueError for a decoder that sees all neighbours:
    no order could make its image.
    """
    from_code = model.decoder(z)
    if not model.config.teacher_forcing:
        return from_code.sigmoid()
    if model.config.neighbours != "before":
        raise ValueError("a decoder that sees the pixels after has no order in which an image could be made")
    weight = (model.neighbours.weight * model.neighbours.seen).T.contiguous()
    means, logits = torch.empty_like(from_code), from_code.clone()
    for pixel in range(model.config.pixels):
        means[:, pixel] = logits[:, pixel].sigmoid()
        drawn = torch.bernoulli(means[:, pixel], generator=generator)
        logits += drawn.unsqueeze(1) * weight[pixel]
    return means


@torch.no_grad()
def follows_alone(model: VAE, z: Tensor, labels: Tensor, seed: int, examples: int = 2000) -> float:
    """The share of images made from codes alone that are judged to be the digit whose code it is."""
    z, labels = z[:examples], labels[:examples]
    means = decode_alone(model, z, torch.Generator(z.device).manual_seed(seed))
    return float((evaluation.judged(means.view(-1, 1, 28, 28)) == labels).float().mean())


def evaluate(model: VAE, train: Digits, test: Digits, seed: int, probe_examples: int = 20_000) -> dict[str, float]:
    """The four diagnostics, the two terms of the ELBO and what another's code costs, on all given digits."""
    model.eval()
    terms = mean_terms(model, test, seed)
    z, kl = codes(model, test, seed)
    fitted = train.take(slice(0, probe_examples)).to(z.device)
    train_codes, _ = codes(model, fitted, seed + 1)
    follows_code, follows_image = swap(model, test, z)

    def at_chance(labels: Tensor) -> float:
        return evaluation.probe(train_codes, labels, z, test.labels)

    metrics = {
        "bce": terms["bce"],
        "kl": terms["kl"],
        "negative_elbo": terms["bce"] + terms["kl"],
        "active_units": evaluation.active_units(kl),
        "follows_code": follows_code,
        "follows_image": follows_image,
        "z_probe_linear": evaluation.probe(train_codes, fitted.labels, z, test.labels),
        "z_probe_shuffled": float(evaluation.shuffled_scores(at_chance, fitted.labels, PERMUTATIONS, seed).mean()),
        "pixel_mean_bce": evaluation.pixel_mean_bce(
            train.images.flatten(1), test.images.flatten(1).to(train.images.device)
        ),
    } | listening_metrics(model, test, seed)
    if model.config.neighbours == "before":
        metrics["follows_alone"] = follows_alone(model, z, test.labels, seed)
    return metrics


def run(
    variant: str, seed: int, *, config: Config, train: Digits, test: Digits, device: str = "cpu", progress: bool = True
) -> Run:
    """Train (unless untrained) and evaluate one seed of one variant. Its `seconds` are those of the training alone."""
    if config.epochs == 0:
        model = build(config, seed).to(device)
        return Run(evaluate(model, train, test.to(device), seed), None, 0.0, model)
    model, history = globals()["train"](config, train, seed, device, progress=progress)
    metrics = evaluate(model, train, test.to(device), seed)
    failed = f"bce {metrics['bce']:.1f}" if metrics["bce"] > THRESHOLD else None
    return finished(metrics, failed, history, model)


STATES = ("kl-weight-1", "kl-weight-30")  # whose trained state (seed 0) is shipped: one that listens, one that does not
_states = States("primer", STATES, VARIANTS, train, lambda config: VAE(VAEConfig(**config)), bits=8)
state_path, save_state, load_state = _states.path, _states.save, _states.load
