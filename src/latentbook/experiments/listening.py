"""Listening in nats for the models of the book: what another example's code costs, beside BCE + KL (evaluation.listening).

For each source of a model (the code z, the label y, the style code, the class code) the others stay each example's own:
its condition and mask, its label, the pixels its decoder may look back at. Codes are drawn from the posterior that the
model infers without a true label, as its decoder receives them. For shipped states it needs no new run:
`python -m latentbook listening`.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from functools import singledispatch
from pathlib import Path

import torch
from jaxtyping import Float
from torch import Tensor, nn

from latentbook import checks, evaluation
from latentbook.data.digits import Digits
from latentbook.experiments import EXPERIMENTS, results
from latentbook.experiments.multi_level_swaps import draw
from latentbook.layers.distributions import one_hot
from latentbook.models.conditional_vae import ConditionalVAE
from latentbook.models.mix_and_match import MixAndMatch
from latentbook.models.multi_level_vae import MultiLevelVAE
from latentbook.models.vae import VAE

DIRECTORY = results.DIRECTORY / "listening"
SHIPPED = ("primer", "mix-and-match", "conditional-vae", "multi-level-vae")  # experiments whose states can be asked
PERMUTATIONS = 20


@dataclass(frozen=True)
class Source:
    """One thing that a decoder may listen to: codes [n, ...], and logits [n, pixels] of the examples given such codes.

    others [swaps, n, ...]: the codes to swap in where they can be listed; None: those of other examples.
    """

    codes: Float[Tensor, "n ..."]
    decode: Callable[[Tensor], Tensor]
    others: Float[Tensor, "swaps n ..."] | None = None


@dataclass(frozen=True)
class Inferred:
    """What a model has inferred of some examples: the pixels [n, pixels] it decodes, its divergence [n] in nats, its sources."""

    pixels: Float[Tensor, "n pixels"]
    kl: Float[Tensor, " n"]
    sources: dict[str, Source]


@singledispatch
def inferred(model: nn.Module, digits: Digits, generator: torch.Generator) -> Inferred:
    """The codes of some digits, drawn, and how the model decodes them. Raises ValueError for a model that is not listed here."""
    kinds = ", ".join(kind.__name__ for kind in inferred.registry if kind is not object)
    raise ValueError(f"listening is measured of {kinds}, got {type(model).__name__}: register how it decodes")


@inferred.register
def of_vae(model: VAE, digits: Digits, generator: torch.Generator) -> Inferred:
    """z; with teacher forcing the decoder looks back at each image's own pixels."""
    x = model.rows(digits.images)
    posterior = model.posterior(x)
    source = Source(posterior.sample(generator=generator), lambda z: model.decode(z, x))
    return Inferred(x, posterior.kl().sum(1), {"z": source})


@inferred.register
def of_mix_and_match(model: MixAndMatch, digits: Digits, generator: torch.Generator) -> Inferred:
    """z, the bottom staying; and the bottom as the decoder sees it, z staying. The mask is each image's own throughout.

    Scored on the tops. What another's bottom costs is the less, the more of it z carries already.
    """
    top, condition = model.split(digits.images)
    features = model.condition_encoder(condition)
    mask = model.mask(len(top), generator=generator, device=top.device)
    posterior = model.encode(model.data_encoder(top), features, mask)
    z = posterior.sample(generator=generator)
    sources = {
        "z": Source(z, lambda other: model.decode(other, features, mask)),
        "condition": Source(features, lambda other: model.decode(z, other, mask)),
    }
    return Inferred(top, posterior.kl(model.prior(features)).sum(1), sources)


@inferred.register
def of_conditional_vae(model: ConditionalVAE, digits: Digits, generator: torch.Generator) -> Inferred:
    """z, the label staying as it was predicted; and the predicted label y against every other, z staying.

    The divergence is that of z.
    """
    x = digits.images.flatten(1)
    y = one_hot(model.predict(digits.images), x, model.config.n_classes)
    every_other = torch.stack([y.roll(shift, 1) for shift in range(1, y.shape[1])])
    posterior = model.encode(x, y)
    z = posterior.sample(generator=generator)
    sources = {
        "z": Source(z, lambda other: model.decode(other, y)),
        "y": Source(y, lambda other: model.decode(z, other), every_other),
    }
    return Inferred(x, posterior.kl().sum(1), sources)


@inferred.register
def of_multi_level_vae(model: MultiLevelVAE, digits: Digits, generator: torch.Generator) -> Inferred:
    """The style code, and the class code that the image alone gives; the divergence is the sum of both.

    Pixels are read as Bernoulli means also where the model was trained on squared errors, so that models compare.
    """
    x = model.rows(digits.images)
    style_posterior, class_posterior = model.posteriors(x)
    style, class_code = style_posterior.sample(generator=generator), draw(model, class_posterior, generator)
    sources = {
        "style": Source(style, lambda other: model.decode(other, class_code)),
        "class": Source(class_code, lambda other: model.decode(style, other)),
    }
    return Inferred(x, style_posterior.kl().sum(1) + class_posterior.kl().sum(1), sources)


@torch.no_grad()
def listening_metrics(
    model: nn.Module, digits: Digits, seed: int = 0, permutations: int = PERMUTATIONS
) -> dict[str, float]:
    """BCE + KL and what each source is worth to the decoder, in nats per image, on all given digits: metrics by name.

    "bce_and_kl", and its two terms as "own_bce" and "own_kl"; for each source "listening_SOURCE", the mean over examples and
    permutations of BCE with another example's code less BCE with one's own; "..._std", over examples;
    "..._permutation_std", over permutations, of the mean; and "..._other_class", the mean where all codes come from another
    class. A state without any latent has no such figures: ValueError.
    """
    model.eval()
    generator = torch.Generator(digits.images.device).manual_seed(checks.count("seed", seed, 0))
    found, metrics = inferred(model, digits, generator), {}
    for name, source in found.sources.items():
        given = {"permutations": permutations, "seed": seed}
        heard = evaluation.listening(source.decode, source.codes, found.pixels, others=source.others, **given)
        metrics |= {
            f"listening_{name}": heard.mean,
            f"listening_{name}_std": heard.std,
            f"listening_{name}_permutation_std": heard.permutation_std,
        }
        if source.others is None:
            apart = evaluation.listening(source.decode, source.codes, found.pixels, labels=digits.labels, **given)
            metrics[f"listening_{name}_other_class"] = apart.mean
    own_bce, own_kl = float(heard.own.double().mean()), float(found.kl.double().mean())
    return {"own_bce": own_bce, "own_kl": own_kl, "bce_and_kl": own_bce + own_kl} | metrics


def measure_state(
    experiment: str, variant: str, digits: Digits, directory: str | Path | None = None, permutations: int = PERMUTATIONS
) -> dict[str, float]:
    """Measure a shipped state (seed 0 of its variant) on the given digits and record it; returns the metrics.

    directory: None is the book's own record, DIRECTORY, one file an experiment in the shape of all results.
    Raises ValueError for an experiment or a variant whose state is not shipped or cannot be asked.
    """
    module = EXPERIMENTS[checks.choice("experiment", experiment, SHIPPED)]
    model = module.load_state(checks.choice("variant", variant, module.STATES)).to(digits.images.device)
    metrics = listening_metrics(model, digits, 0, permutations)
    config = {"permutations": permutations, "state": f"{experiment}-{variant}", "variant": module.VARIANTS[variant]}
    config["variant"] = results.plain(config["variant"])
    data = results.data_of(digits)
    folder = DIRECTORY if directory is None else directory
    results.record(experiment, variant, 0, config, data, metrics, 0.0, directory=folder)
    return metrics


HEADER = ("state", "BCE + KL", "another's", "costs", "± over images", "from another class")


def rows(directory: str | Path | None = None) -> list[list[str]]:
    """What is recorded, under HEADER, a row a state and source: nats per image, the cost with its spread over images."""
    folder, found = DIRECTORY if directory is None else directory, []
    for experiment in SHIPPED:
        if results.path_of(experiment, folder).exists():
            for variant, entry in results.load(experiment, folder)["variants"].items():
                metrics = {name: each[0] for name, each in entry["metrics"].items()}
                found += _rows(f"{experiment}: {variant}", metrics)
    return found


def _rows(state: str, metrics: Mapping[str, float]) -> list[list[str]]:
    """A row for each source of one state."""
    found = []
    for source in (key.removeprefix("listening_") for key in metrics if key.count("_") == 1 and "listening" in key):
        heard = metrics[f"listening_{source}"]
        numbers = (heard, metrics[f"listening_{source}_std"], metrics.get(f"listening_{source}_other_class", heard))
        found.append([state, f"{metrics['bce_and_kl']:.1f}", source, *(f"{value:.1f}" for value in numbers)])
    return found


def in_words(directory: str | Path | None = None) -> str:
    """The recorded rows for a terminal."""
    lines = [HEADER, *rows(directory)]
    widths = [max(len(line[i]) for line in lines) for i in range(len(HEADER))]
    return "\n".join("  ".join(text.ljust(width) for text, width in zip(line, widths, strict=True)) for line in lines)
