"""How hyper-parameters were chosen: each choice of a chapter beside its alternatives, judged on validation digits alone.

A choice names what was varied, the value that the book took, and the alternatives; every point is trained on the training
digits less those of validation (`train_validation_split`) and measured on these by the chapter's own criteria. No test
digit is ever loaded here. One file an experiment, in the shape of all results: `python -m latentbook choices`.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import torch
from torch import nn

from latentbook.data.digits import Digits
from latentbook.data.splits import train_validation_split
from latentbook.experiments import EXPERIMENTS, air, conditional_vae, mix_and_match, multi_level_vae, primer, results
from latentbook.experiments.air_measures import accuracy, confusion, count_log_probs
from latentbook.experiments.listening import listening_metrics
from latentbook.experiments.multi_level_swaps import swap
from latentbook.experiments.run import Run, but, finished
from latentbook.experiments.statistics import Interval, difference_interval
from latentbook.training.loop import mean_terms

DIRECTORY = results.DIRECTORY / "choices"
SEEDS = (0, 1, 2)  # of every point
SCREENED = 15  # epochs of chapter 01's points: the longest annealing is over after 12
# Where chapter 01's choices start from: the first edition's recipe, which was found by looking at test digits.
FIRST_EDITION = replace(
    mix_and_match.BEST, learning_rate=2e-3, kl_weight=1.5, kl_midpoint=500, kl_slope=0.01, epochs=SCREENED
)


# Chapter 02's points: enough epochs for one cycle to settle, few enough for all of them to be tried.
CONDITIONAL = replace(conditional_vae.FIXED, epochs=8)
FEW_LABELS = replace(conditional_vae.FEW, labelled=1000, learning_rate=2e-3)  # at the first edition's peak
# Chapter 03's, likewise.
UNNAMED = replace(multi_level_vae.UNNAMED, epochs=8)
NAMED = replace(multi_level_vae.NAMED, epochs=UNNAMED.epochs)


@dataclass(frozen=True)
class Criterion:
    """A metric by which points are compared, whether more of it is better, and how a table writes it.

    decides: whether it has a say in what is better; else it is shown beside those that have, for what they leave out.
    """

    metric: str
    name: str
    more_is_better: bool = False
    form: str = ".1f"
    decides: bool = True

    def written(self, value: float) -> str:
        """The number as the table has it, shares as per cent."""
        return f"{100 * value:{self.form[:-1]}f}" if self.form.endswith("%") else f"{value:{self.form}}"


@dataclass(frozen=True)
class Choice:
    """One hyper-parameter: what was varied, the value taken, the points by their values; all else as in `base`.

    points: {value as the table has it: the configuration's other fields, those of its model by name}; the one called `taken`
    is the book's, the one called `before` that of the base, which is where the comparison started. criteria: by what its
    points are compared.
    """

    experiment: str
    name: str
    called: str  # the base, in the record
    base: Any  # the configuration that is varied, one field at a time
    before: str
    taken: str
    points: Mapping[str, Mapping[str, Any]]
    criteria: tuple[Criterion, ...]

    def point(self, value: str) -> str:
        """The name under which a point is recorded: where the choices of a base start is one point, named as the base."""
        return self.called if value == self.before else f"{self.called}: {self.name} {value}"

    def config(self, value: str) -> Any:
        """The configuration of a point."""
        return but(self.base, **self.points[value])


# One criterion decides every choice, the bound that is trained. What samples are worth stands beside it and decides nothing:
# agreement alone is highest for a completer without a latent, so to choose by it would be to choose a model that says less.
ELBO = Criterion("negative_elbo", "BCE + KL (nats)", form=".2f")
BOUND = Criterion("bce_and_kl", "BCE + KL (nats)", form=".2f")
AGREEMENT = Criterion("agreement", "beside: agreement (%)", more_is_better=True, form=".1%", decides=False)
BEST_OF_18 = Criterion("best_of_18_bce", "beside: best-of-18 BCE (nats)", decides=False)
HEARD = Criterion("listening_z", "beside: another's z costs (nats)", more_is_better=True, decides=False)
# The adversary's weight trades one thing for another: a point is beaten only by one that is better in one and no worse in the
# other. Recovery's is not judged by how often the label wins: that is nearly what the term is trained for.
OBEYED = Criterion("other_label_wins", "another label wins (%)", more_is_better=True, form=".1%")
OBEYED_BESIDE = Criterion("other_label_wins", "beside: another label wins (%)", True, ".1%", decides=False)
SLANT = Criterion("slant_kept", "beside: slant kept (correlation)", more_is_better=True, form=".3f", decides=False)
RIGHT = Criterion("accuracy", "right on validation digits (%)", more_is_better=True, form=".2%")
BOUND_BESIDE = Criterion("bce_and_kl", "beside: BCE + KL (nats)", form=".2f", decides=False)
# In chapter 03 what a swap takes from the evidence, of one image or ten, trades against what it keeps of the hand.
FOLLOWED = Criterion("follows_class_k1", "follows class, 1 image (%)", more_is_better=True, form=".1%")
FOLLOWED_TEN = Criterion("follows_class_k10", "follows class, 10 images (%)", more_is_better=True, form=".1%")
HAND = Criterion("thickness_kept", "thickness kept (correlation)", more_is_better=True, form=".3f")
HAND_BESIDE = replace(HAND, name="beside: thickness kept (correlation)", decides=False)
BCE = Criterion("bce", "beside: BCE (nats)", decides=False)
SAMPLED = (BOUND, AGREEMENT, BEST_OF_18, HEARD)  # chapter 01's criteria
CLASS_OR_HAND = (FOLLOWED, FOLLOWED_TEN, HAND, BCE)  # chapter 03's without labels
CLASS = (FOLLOWED, FOLLOWED_TEN, HAND_BESIDE, BCE)  # and with them, where the class is what labels are for
# In chapter 05 all scenes count alike; which way the wrong ones are wrong stands beside.
COUNT = Criterion("count_accuracy", "counted right (%)", more_is_better=True, form=".2%")
UNDER = Criterion("undercounts", "beside: too few (%)", form=".2%", decides=False)
OVER = Criterion("overcounts", "beside: too many (%)", form=".2%", decides=False)
COUNTED = (COUNT, UNDER, OVER)

# One tuple an experiment, so that a page which shows one does not hang on the others.
PRIMER: tuple[Choice, ...] = (
    Choice(
        "primer",
        "learning rate",
        called="kl-weight-1",
        base=replace(primer.VARIANTS["kl-weight-1"], learning_rate=1e-3),
        before="0.001",
        taken="0.002",
        points={str(rate): {"learning_rate": rate} for rate in (0.0005, 0.001, 0.002, 0.004)},
        criteria=(ELBO,),
    ),
)
MIX_AND_MATCH: tuple[Choice, ...] = (
    Choice(
        "mix-and-match",
        "KL weight",
        called=f"best, {SCREENED} epochs",
        base=FIRST_EDITION,
        before="1.5",
        taken="1.0",
        points={str(weight): {"kl_weight": weight} for weight in (1.0, 1.5, 2.0, 3.0)},
        criteria=SAMPLED,
    ),
    Choice(
        "mix-and-match",
        "peak learning rate",
        called=f"best, {SCREENED} epochs",
        base=FIRST_EDITION,
        before="0.002",
        taken="0.008",
        points={str(rate): {"learning_rate": rate} for rate in (0.001, 0.002, 0.004, 0.008, 0.016)},
        criteria=SAMPLED,
    ),
    Choice(
        "mix-and-match",
        "KL annealing (midpoint, slope)",
        called=f"best, {SCREENED} epochs",
        base=FIRST_EDITION,
        before="500, 0.01",
        taken="2500, 0.002",
        points={
            "500, 0.01": {"kl_midpoint": 500, "kl_slope": 0.01},
            "2500, 0.002": {"kl_midpoint": 2500, "kl_slope": 0.002},
        },
        criteria=SAMPLED,
    ),
)
CONDITIONAL_VAE: tuple[Choice, ...] = (
    Choice(
        "conditional-vae",
        "peak learning rate",
        called="fixed, 8 epochs",
        base=CONDITIONAL,
        before="0.008",
        taken="0.008",
        points={str(rate): {"learning_rate": rate} for rate in (0.002, 0.008, 0.016, 0.032)},
        criteria=(BOUND, OBEYED_BESIDE, SLANT),
    ),
    Choice(
        "conditional-vae",
        "adversary weight",
        called="fixed, 8 epochs",
        base=CONDITIONAL,
        before="4.0",
        taken="4.0",
        points={str(weight): {"adversary_weight": weight} for weight in (2.0, 4.0, 8.0)},
        criteria=(BOUND, OBEYED, SLANT),
    ),
    Choice(
        "conditional-vae",
        "recovery weight",
        called="fixed, 8 epochs",
        base=CONDITIONAL,
        before="3.0",
        taken="3.0",
        points={str(weight): {"recovery_weight": weight} for weight in (3.0, 10.0)},
        criteria=(BOUND, OBEYED_BESIDE, SLANT),
    ),
    Choice(
        "conditional-vae",
        "smoothness radius",
        called="1,000 labels",
        base=FEW_LABELS,
        before="1.5",
        taken="1.5",
        points={str(radius): {"smooth_radius": radius} for radius in (0.75, 1.5, 3.0)},
        criteria=(RIGHT, BOUND_BESIDE),
    ),
    Choice(
        "conditional-vae",
        "peak learning rate, few labels",
        called="1,000 labels",
        base=FEW_LABELS,
        before="0.002",
        taken="0.008",
        points={str(rate): {"learning_rate": rate} for rate in (0.002, 0.004, 0.008, 0.016)},
        criteria=(RIGHT, BOUND_BESIDE),
    ),
)
MULTI_LEVEL_VAE: tuple[Choice, ...] = (
    Choice(
        "multi-level-vae",
        "peak learning rate",
        called="without labels, 8 epochs",
        base=UNNAMED,
        before="0.008",
        taken="0.008",
        points={str(rate): {"learning_rate": rate} for rate in (0.004, 0.008, 0.016)},
        criteria=(FOLLOWED, HAND_BESIDE, BCE),  # a rate trades nothing
    ),
    Choice(
        "multi-level-vae",
        "weight of the style KL",
        called="without labels, 8 epochs",
        base=UNNAMED,
        before="4.0",
        taken="4.0",
        points={str(weight): {"style_kl_weight": weight} for weight in (3.0, 4.0, 6.0)},
        criteria=CLASS_OR_HAND,
    ),
    Choice(
        "multi-level-vae",
        "weight of the class KL",
        called="without labels, 8 epochs",
        base=UNNAMED,
        before="0.3",
        taken="0.3",
        points={str(weight): {"class_kl_weight": weight} for weight in (0.1, 0.3, 1.0)},
        criteria=CLASS_OR_HAND,
    ),
    Choice(
        "multi-level-vae",
        "weight of the consensus",
        called="without labels, 8 epochs",
        base=UNNAMED,
        before="1.0",
        taken="1.0",
        points={
            "0": {"consensus": False},
            **{str(weight): {"consensus_weight": weight} for weight in (1.0, 3.0)},
        },
        criteria=CLASS_OR_HAND,
    ),
    Choice(
        "multi-level-vae",
        "weight of the style KL",
        called="with labels, 8 epochs",
        base=NAMED,
        before="3.0",
        taken="3.0",
        points={str(weight): {"style_kl_weight": weight} for weight in (2.0, 3.0, 4.0)},
        criteria=CLASS,
    ),
    Choice(
        "multi-level-vae",
        "weights of adversary and identity",
        called="with labels, 8 epochs",
        base=NAMED,
        before="6, 20",
        taken="6, 20",
        points={
            f"{a}, {i}": {"adversary_weight": float(a), "identity_weight": float(i)}
            for a, i in ((6, 10), (6, 20), (6, 40), (12, 20))
        },
        criteria=CLASS,
    ),
)
STARTS = {f"{share:g}": {"explore": share} for share in (0.4, 0.7, 1.0)}
AIR: tuple[Choice, ...] = (
    Choice(
        "air",
        "start of exploration",
        called="up to two digits",
        base=air.EXPLORED,
        before="0.7",
        taken="0.7",
        points=STARTS,
        criteria=COUNTED,
    ),
    Choice(
        "air",
        "variance of the likelihood",
        called="up to two digits",
        base=air.EXPLORED,
        before="0.15",
        taken="0.15",
        points={f"{variance:g}": {"variance": variance} for variance in (0.1, 0.15)},
        criteria=COUNTED,
    ),
    Choice(
        "air",
        "scale of windows",
        called="up to two digits",
        base=air.EXPLORED,
        before="2.2",
        taken="2.2",
        points={f"{scale:g}": {"where_mean": (scale, 0.0, 0.0)} for scale in (2.2, 2.6)},
        criteria=COUNTED,
    ),
)
CHOICES = PRIMER + MIX_AND_MATCH + CONDITIONAL_VAE + MULTI_LEVEL_VAE + AIR


@dataclass(frozen=True)
class Planned:
    """One seed of one point of a choice."""

    choice: Choice
    value: str
    seed: int


def planned(experiments: Sequence[str], seeds: Sequence[int], directory: str | Path | None = None) -> list[Planned]:
    """The runs that are not recorded yet, choice by choice, of each one seed of every point before the next seed."""
    done: set[tuple[str, str, int]] = set()
    for experiment in MEASURES:
        if results.path_of(experiment, _folder(directory)).exists():
            variants = results.load(experiment, _folder(directory))["variants"]
            done |= {(experiment, point, seed) for point, entry in variants.items() for seed in entry["seeds"]}
    wanted = []
    for choice in CHOICES:
        for seed, value in ((seed, value) for seed in seeds for value in choice.points):
            key = (choice.experiment, choice.point(value), seed)
            if choice.experiment in experiments and key not in done:
                wanted.append(Planned(choice, value, seed))
                done.add(key)
    return wanted


def parts(digits: Digits) -> tuple[Digits, Digits]:
    """What every point is trained and judged on: the training digits, and of them those of validation."""
    return train_validation_split(digits)


def run(run: Planned, train: Digits, validation: Digits, device: str = "cpu", progress: bool = True) -> Run:
    """Train one point and measure it on validation digits. Its `seconds` are those of the training alone."""
    module, config = EXPERIMENTS[run.choice.experiment], run.choice.config(run.value)
    model, history = module.train(config, train, run.seed, device, progress=progress)
    finished({}, None, history, model)  # an interrupted training is not measured
    held = validation.to(device)
    return finished(MEASURES[run.choice.experiment](model, config, held, run.seed), None, history, model)


def of_primer(model: nn.Module, config: primer.Config, validation: Digits, seed: int) -> dict[str, float]:
    """The two terms of the ELBO, their sum and listening, as the primer's `evaluate` has them."""
    terms = mean_terms(model, validation, seed)
    found = {"bce": terms["bce"], "kl": terms["kl"], "negative_elbo": terms["bce"] + terms["kl"]}
    return found | listening_metrics(model, validation, seed)


def of_conditional_vae(
    model: nn.Module, config: conditional_vae.Config, validation: Digits, seed: int
) -> dict[str, float]:
    """Chapter 02's figures but for the probes, which are fitted on training digits."""
    return conditional_vae.measures(model, validation, seed)


@torch.no_grad()
def of_multi_level_vae(
    model: nn.Module, config: multi_level_vae.Config, validation: Digits, seed: int
) -> dict[str, float]:
    """Chapter 03's swaps and its BCE, evidence of other validation digits."""
    model.eval()
    generator = torch.Generator(validation.images.device).manual_seed(seed + 1)
    found = multi_level_vae.swap_metrics(lambda k: swap(model, validation, k, generator), config)
    return found | {"bce": multi_level_vae.drawn_bce(model, validation, generator)}


def of_air(model: nn.Module, config: air.Config, validation: Digits, seed: int) -> dict[str, float]:
    """Chapter 05's counts, on scenes of validation digits that are the same for every seed."""
    scenes = air.held_out(config, validation)
    seen = count_log_probs(model.eval(), scenes.images).argmax(1)
    return {"count_accuracy": accuracy(seen, scenes.labels), **confusion(seen, scenes.labels, config.model.steps)}


MEASURES: dict[str, Callable[..., dict[str, float]]] = {
    "primer": of_primer,
    "mix-and-match": mix_and_match.evaluate,
    "conditional-vae": of_conditional_vae,
    "multi-level-vae": of_multi_level_vae,
    "air": of_air,
}


def record(
    planned: Planned, train: Digits, validation: Digits, directory: str | Path | None = None, device: str = "cpu"
) -> str:
    """Make one run and record it at once, one that diverged as failed; returns what there is to say of it."""
    start, about = time.perf_counter(), results.data_of(train, validation)
    try:
        found = run(planned, train, validation, device, progress=False)
        metrics, seconds, failed = found.metrics, found.seconds, None
    except ArithmeticError as error:  # a loss that is NaN
        metrics, seconds, failed = None, time.perf_counter() - start, str(error)
    choice, folder = planned.choice, _folder(directory)
    about = (choice.config(planned.value), about, metrics, seconds, failed, folder, results.machine(device))
    results.record(choice.experiment, choice.point(planned.value), planned.seed, *about)
    told = failed or ", ".join(f"{c.name} {c.written(metrics[c.metric])}" for c in choice.criteria)
    return f"{choice.experiment} {choice.point(planned.value)} seed {planned.seed}: {told} ({seconds:.0f} s)"


# What the record says


def values(choice: Choice, value: str, criterion: Criterion, directory: str | Path | None = None) -> list[float]:
    """One value a seed of a criterion at a point; none where nothing is recorded of it."""
    if not results.path_of(choice.experiment, _folder(directory)).exists():
        return []
    variants = results.load(choice.experiment, _folder(directory))["variants"]
    return variants.get(choice.point(value), {"metrics": {}})["metrics"].get(criterion.metric, [])


def gain(choice: Choice, value: str, criterion: Criterion, directory: str | Path | None = None) -> Interval:
    """How much better than what was taken a point is, above 0 where it is better, with Welch's interval over seeds.

    Raises ValueError where fewer than two seeds of either are recorded.
    """
    other, taken = (values(choice, each, criterion, directory) for each in (value, choice.taken))
    return difference_interval(other, taken) if criterion.more_is_better else difference_interval(taken, other)


def beaten_by(choice: Choice, directory: str | Path | None = None) -> list[str]:
    """The points that are better than what was taken by one criterion and worse by none, as far as intervals of 95 % tell.

    A choice that is beaten by none is confirmed.
    """
    better = []
    for value in choice.points:
        if value != choice.taken:
            deciding = [criterion for criterion in choice.criteria if criterion.decides]
            gains = [gain(choice, value, criterion, directory) for criterion in deciding]
            if any(each.low > 0 for each in gains) and not any(each.high < 0 for each in gains):
                better.append(value)
    return better


def verdict(choice: Choice, directory: str | Path | None = None) -> str:
    """What the record says of a choice: `confirmed`, or what beats it."""
    deciding = next(criterion for criterion in choice.criteria if criterion.decides)
    seeds = min(len(values(choice, value, deciding, directory)) for value in choice.points)
    if seeds < 2:
        return "not measured yet"
    better = beaten_by(choice, directory)
    told = f"not confirmed; better: {', '.join(better)}" if better else "confirmed"
    return told if seeds >= len(SEEDS) else f"after {seeds} of {len(SEEDS)} seeds: {told}"


HEADER = ("experiment", "model", "choice", "by, on validation", "taken", "alternatives", "verdict")


def rows(directory: str | Path | None = None) -> list[list[str]]:
    """All choices under HEADER: see `rows_of`."""
    return rows_of(CHOICES, directory)


def rows_of(choices: Sequence[Choice], directory: str | Path | None = None) -> list[list[str]]:
    """Some choices under HEADER, a row a criterion: what was taken and its alternatives, mean ± standard deviation over seeds."""
    found = []
    for choice in choices:
        for criterion in choice.criteria:
            written = {
                value: _spread(criterion, values(choice, value, criterion, directory)) for value in choice.points
            }
            taken = f"{choice.taken}: {written.pop(choice.taken)}"
            others = "; ".join(f"{value}: {text}" for value, text in written.items())
            told = verdict(choice, directory) if criterion.decides else "–"
            found.append([choice.experiment, choice.called, choice.name, criterion.name, taken, others, told])
    return found


def table(directory: str | Path | None = None) -> str:
    """The one table of all choices, in Markdown: see `rows`."""
    lines = [HEADER, ["---"] * len(HEADER), *rows(directory)]
    return "\n".join(f"| {' | '.join(line)} |" for line in lines)


def _spread(criterion: Criterion, numbers: Sequence[float]) -> str:
    if not numbers:
        return "–"
    spread = f" ± {criterion.written(results.summarise(numbers, 'std'))}" if len(numbers) > 1 else ""
    return criterion.written(results.summarise(numbers, "mean")) + spread


def _folder(directory: str | Path | None) -> Path:
    return DIRECTORY if directory is None else Path(directory)
