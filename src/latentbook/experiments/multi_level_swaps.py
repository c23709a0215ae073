"""Swaps and what they show: evidence of other images, whom the drawn image follows, what it keeps of its style's source."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from jaxtyping import Float, Int
from torch import Tensor

from latentbook import checks, evaluation
from latentbook.data.digits import Digits
from latentbook.evaluation import correlation, slant, thickness
from latentbook.layers.distributions import DiagonalGaussian, standard_normal
from latentbook.models.multi_level_vae import MultiLevelVAE


def evidence_sets(
    labels: Int[Tensor, " n"],
    wanted: Int[Tensor, " m"],
    k: int,
    generator: torch.Generator,
    scored: Int[Tensor, " m"] | None = None,
) -> Int[Tensor, "m k"]:
    """For each wanted class, the indices of k different images of it, drawn at random, never the `scored` one itself.

    Raises ValueError for a class that has fewer than k such images, and for labels or indices that are no whole numbers [n].
    """
    k, generator = checks.count("k", k), checks.generator("generator", generator, needed=True)
    labels = checks.class_numbers("labels", labels)
    wanted = checks.class_numbers("wanted", wanted).to(labels.device)
    if scored is not None:
        scored = checks.class_numbers("scored", scored, len(wanted), len(labels)).to(labels.device)
    values, counts = torch.unique(labels, return_counts=True)
    places = torch.arange(int(counts.max()), device=labels.device)
    starts = (counts.cumsum(0) - counts).unsqueeze(1)
    members = labels.argsort(stable=True)[(starts + places).clamp(max=len(labels) - 1)]  # [classes, most images of one]
    rows = torch.searchsorted(values, wanted).clamp(max=len(values) - 1)
    if not torch.equal(values[rows], wanted):
        raise ValueError(f"there are no images of some wanted classes: labels have {values.tolist()}")
    drawn = []
    for part in torch.arange(len(wanted), device=labels.device).split(2000):  # a random number for every candidate
        candidates = members[rows[part]]
        scores = torch.rand(candidates.shape, generator=generator, device=generator.device).to(labels.device)
        scores = scores.masked_fill(places >= counts[rows[part]].unsqueeze(1), -1.0)
        if scored is not None:
            scores = scores.masked_fill(candidates == scored[part].unsqueeze(1), -1.0)
        if k > len(places) or (best := scores.topk(k, sorted=False)).values.min() < 0:
            raise ValueError(
                f"{k} other images of one class are needed as evidence, the smallest has {int(counts.min())}"
            )
        drawn.append(candidates.gather(1, best.indices))
    return torch.cat(drawn)


def other_classes(labels: Int[Tensor, " n"], generator: torch.Generator) -> Int[Tensor, " n"]:
    """For each image a class that is not its own, all others equally likely. Raises ValueError where there is one class only."""
    labels = checks.class_numbers("labels", labels)
    checks.generator("generator", generator, needed=True)
    values, own = torch.unique(labels, return_inverse=True)
    if len(values) < 2:
        raise ValueError(f"a swap needs two classes, these images have only {values.tolist()}")
    shift = torch.randint(1, len(values), labels.shape, generator=generator, device=generator.device).to(labels.device)
    return values[(own + shift) % len(values)]


def gather(experts: DiagonalGaussian, sets: Int[Tensor, "m k"], model: MultiLevelVAE) -> DiagonalGaussian:
    """q(c | the images of each set) from what every image says alone: [m, class]."""
    sets = checks.whole_numbers("sets", sets, ("m", "k")).to(experts.mean.device)
    chosen = DiagonalGaussian(experts.mean[sets.flatten()], experts.log_var[sets.flatten()])
    return model.accumulate(chosen, torch.arange(len(sets), device=sets.device).repeat_interleave(sets.shape[1]))


@torch.no_grad()
def codes(model: MultiLevelVAE, digits: Digits) -> tuple[DiagonalGaussian, DiagonalGaussian]:
    """q(s | x) and q(c | x) of every digit, each from its image alone."""
    parts = [model.encode(batch.images) for batch in digits.batches(5000)]
    return tuple(
        DiagonalGaussian(torch.cat([p[i].mean for p in parts]), torch.cat([p[i].log_var for p in parts]))
        for i in range(2)
    )


def draw(model: MultiLevelVAE, posterior: DiagonalGaussian, generator: torch.Generator) -> Tensor:
    """One class code for each posterior as the decoder gets it in training, each with its own noise."""
    noise = standard_normal(posterior.mean.shape, posterior.mean, generator)
    return posterior.mean if model.config.deterministic_class else posterior.sample(model.config.noise_std * noise)


@torch.no_grad()
def draw_images(model: MultiLevelVAE, style: Tensor, class_code: Tensor) -> Float[Tensor, "n 1 28 28"]:
    """Decoder means."""
    parts = zip(style.split(5000), class_code.split(5000), strict=True)
    return torch.cat([model.decode(s, c).sigmoid() for s, c in parts]).view(-1, 1, 28, 28)


# Styles that differ in slant and thickness, picked by us: which test digit of which class.
STYLES = ((3, 16), (4, 18), (5, 17), (7, 16), (9, 11))


def first_of_each(test: Digits, n: int) -> Int[Tensor, "classes n"]:
    """The indices of the first n digits of each class, in ascending order. Raises ValueError where a class has fewer."""
    n, values = checks.count("n", n), torch.unique(test.labels)
    found = [(test.labels == value).nonzero()[:n, 0] for value in values]
    if len(few := min(found, key=len)) < n:
        raise ValueError(f"{n} digits of each class are needed, there are only {len(few)} of one")
    return torch.stack(found)


def specimens(test: Digits, k: int) -> tuple[Float[Tensor, "styles 1 28 28"], Float[Tensor, "classes k 1 28 28"]]:
    """What all swap grids of the chapter are made of: STYLES, and the first k digits of each class as evidence."""
    held = first_of_each(test, 1 + max(max(number for _, number in STYLES), k))
    rows, columns = zip(*STYLES, strict=True)
    return test.images[held[list(rows), list(columns)]], test.images[held[:, :k]]


@torch.no_grad()
def swap_grid(
    model: MultiLevelVAE, styles: Float[Tensor, "n 1 28 28"], evidence: Float[Tensor, "classes k 1 28 28"]
) -> Float[Tensor, "n classes 28 28"]:
    """Every style with every class, from the posteriors' means."""
    n, m = len(styles), len(evidence)
    drawn = model.swap(styles.repeat_interleave(m, 0), evidence.repeat(n, 1, 1, 1, 1))
    return drawn.view(n, m, *drawn.shape[-2:])


@dataclass(frozen=True)
class Swaps:
    """Test digits drawn again as another class: where the style is from, which class was asked, on what evidence, the result.

    Raises ValueError unless there is one of each for every source.
    """

    source: Digits
    wanted: Int[Tensor, " n"]
    evidence: Int[Tensor, "n k"]
    images: Float[Tensor, "n 1 28 28"]

    def __post_init__(self) -> None:
        n = checks.same_length(source=self.source, wanted=self.wanted, evidence=self.evidence, images=self.images)
        found = {
            "wanted": checks.class_numbers("wanted", self.wanted, n),
            "evidence": checks.whole_numbers("evidence", self.evidence, (n, "k")),
            "images": checks.shaped("images", checks.as_tensor("images", self.images), (n, 1, "height", "width")),
        }
        for name, part in found.items():
            object.__setattr__(self, name, part)  # the dataclass is frozen

    def follows(self) -> tuple[Tensor, Tensor]:
        """Does the judge see the class of the evidence, and does it see that of the style's source? Two bool [n]."""
        seen = evaluation.judged(self.images)
        return seen == self.wanted, seen == self.source.labels


@torch.no_grad()
def swap(model: MultiLevelVAE, test: Digits, k: int, generator: torch.Generator, sampled: bool = False) -> Swaps:
    """Every test digit's style with the class of k images of another class, from the posteriors' means unless sampled."""
    style, experts = codes(model, test)
    wanted = other_classes(test.labels, generator)
    sets = evidence_sets(test.labels, wanted, k, generator, scored=torch.arange(len(test), device=wanted.device))
    class_posterior = gather(experts, sets, model)
    s = style.sample(generator=generator) if sampled else style.mean
    c = draw(model, class_posterior, generator) if sampled else class_posterior.mean
    return Swaps(test, wanted, sets, draw_images(model, s, c))


def kept(swaps: Swaps, n: int) -> dict[str, float]:
    """What the first n swaps keep of their style source, and what they take from the first image of their evidence."""
    n = checks.count("n", n)
    drawn, source = swaps.images[:n], swaps.source.images[:n]
    first = swaps.source.images[swaps.evidence[:n, 0]]
    found = {}
    for name, measure in (("slant", slant), ("thickness", thickness)):
        found[f"{name}_kept"] = correlation(measure(drawn), measure(source))
        found[f"{name}_of_evidence"] = correlation(measure(drawn), measure(first))
    return found


@torch.no_grad()
def place(
    model: MultiLevelVAE, test: Digits, k: int, generator: torch.Generator, trials: int = 2000, reference: int = 10
) -> tuple[Tensor, Tensor]:
    """Does evidence place a class? k images of a class against a `reference` set of every class, nearest mean wins.

    Returns the true class of each trial and whether it was found, both [trials]; no image is in two sets.
    """
    k, trials, reference = (checks.count(*each) for each in (("k", k), ("trials", trials), ("reference", reference)))
    _, experts = codes(model, test)
    values = torch.unique(test.labels)
    which = torch.randint(len(values), (trials,), generator=generator, device=generator.device).to(values.device)
    asked = evidence_sets(test.labels, values[which], k + reference, generator)
    others = evidence_sets(test.labels, values.repeat(trials), reference, generator).view(
        trials, len(values), reference
    )
    others[torch.arange(trials, device=values.device), which] = asked[:, k:]
    means = gather(experts, others.flatten(0, 1), model).mean.view(trials, len(values), -1)
    distance = (means - gather(experts, asked[:, :k], model).mean.unsqueeze(1)).square().sum(2)
    return values[which], distance.argmin(1) == which


@torch.no_grad()
def generated(model: MultiLevelVAE, test: Digits, k: int, generator: torch.Generator) -> float:
    """New styles from the prior for the class of k images: the share in which the judge sees that class."""
    _, experts = codes(model, test)
    sets = evidence_sets(test.labels, test.labels, k, generator)
    class_code = gather(experts, sets, model).mean
    style = standard_normal((len(test), model.config.style_dim), class_code, generator)
    return evaluation.agreement(draw_images(model, style, class_code), test.labels)
