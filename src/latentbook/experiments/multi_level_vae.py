"""Chapter 03's experiment: a published table and what it measures, then the mended model, swap by swap."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass, field, replace
from typing import Any

import torch
from torch import Tensor

from latentbook import checks, evaluation
from latentbook.data.digits import Batch, Digits, load_digits
from latentbook.experiments import conditional_vae
from latentbook.experiments.multi_level_swaps import (
    Swaps,
    codes,
    draw,
    draw_images,
    evidence_sets,
    generated,
    kept,
    other_classes,
    place,
    swap,
)
from latentbook.experiments.multi_level_table import table
from latentbook.experiments.originals.multi_level_vae import accumulate_by_dictionary, plain_multi_level_steps
from latentbook.experiments.run import SCHEDULES, Run, but, finished, train_as
from latentbook.experiments.states import States
from latentbook.experiments.timing import compare
from latentbook.layers.distributions import DiagonalGaussian, product_of_experts
from latentbook.models.conditional_vae import ConditionalVAE
from latentbook.models.multi_level_vae import MultiLevelVAE, MultiLevelVAEConfig
from latentbook.training.loop import History, TrainingRun, initialise

THRESHOLD_TEXT = (
    "an exception, a NaN, or, after training, swapped images (ten images of evidence) that are no better a digit than chance: "
    "less than 20 % follow either of their two sources"
)
THRESHOLD = 0.2
EVIDENCE = (1, 2, 5, 10)  # how many images of the class a swap is given


@dataclass(frozen=True)
class Config:
    """One variant: the model and how it is trained and measured. The defaults are this book's, not the reproduction's.

    Raises ValueError for numbers out of range and a schedule that does not exist.
    """

    model: MultiLevelVAEConfig = field(default_factory=MultiLevelVAEConfig)
    epochs: int = 30
    batch_size: int = 256  # as published
    learning_rate: float = 1e-3  # as published
    schedule: str = "constant"  # or "one-cycle": up in 10 % of the steps, down to 0 by half a cosine
    style_kl_weight: float = 1.0
    class_kl_weight: float = 1.0
    consensus_weight: float = 1.0  # this and the next two matter only where the model has the term
    adversary_weight: float = 6.0
    identity_weight: float = 10.0
    loss_scale: float = (
        1.0  # the reproduction divides its loss by the 784 pixels; Adam takes the same steps but for its epsilon
    )
    replay: bool = False  # the reproduction's cycle(DataLoader): the first epoch's full batches again and again
    hold_out: tuple[int, ...] = ()  # digit classes that training never shows
    swaps: int = 5000  # swapped images whose slant and thickness are measured
    probe_examples: int = 20_000  # training codes that the probes are fitted on
    table_iterations: int = 0  # > 0: the published table's columns too, its classifiers trained for so many batches

    def __post_init__(self) -> None:
        weights = [name for name in vars(self) if name.endswith("_weight")]
        least = {"epochs": 0, "batch_size": 1, "hold_out": 0, "swaps": 1, "probe_examples": 1, "table_iterations": 0}
        checks.fields_fit(
            self,
            at_least=least | dict.fromkeys(weights, 0),
            above={"learning_rate": 0, "loss_scale": 0},
            choices={"schedule": SCHEDULES},
        )


# The reproduction's protocol, frozen before the first run; 100,000 batches is its classifiers' training.
ORIGINAL = Config(
    MultiLevelVAEConfig(cut_gradient=True), epochs=400, loss_scale=1 / 784, replay=True, table_iterations=100_000
)
# The same model with its gradient, on batches that are new in every epoch.
RESTORED = Config()
PAPER = Config(MultiLevelVAEConfig(class_kl="group", average="groups"))


# Two causes taken apart, at both noises, all trained alike: the gradient, and what the class KL charges for.
CELLS = {
    f"{name}-std-{std:g}": but(RESTORED, noise_std=std, **changes)
    for std in (1.0, 0.1)
    for name, changes in {"cut": {"cut_gradient": True}, "gradient": {}, "group-kl": {"class_kl": "group"}}.items()
}

RESTORED_ALONE = but(ORIGINAL, cut_gradient=False, epochs=RESTORED.epochs, table_iterations=0)  # on the old batches

# What the chapter compares, trained alike: the bound of equation 5, and four changes, each added to the one before, then more
# epochs. None uses more than which images belong together; `NAMED` adds labels. Peak and weights were chosen
# on validation digits (`choices`).
BOUND = Config(
    MultiLevelVAEConfig(likelihood="bernoulli", class_kl="group"), epochs=15, learning_rate=8e-3, schedule="one-cycle"
)
COSTLY_STYLE = but(BOUND, style_kl_weight=4.0)
FEW_IMAGES = but(COSTLY_STYLE, group_size=5)
CHEAP_CLASS = but(FEW_IMAGES, class_kl_weight=0.3)
CONSENSUS = but(CHEAP_CLASS, consensus=True)
UNNAMED = but(CONSENSUS, epochs=60)
UNNAMED_CUT = but(UNNAMED, cut_gradient=True, consensus=False)  # heads that cannot learn have nothing to agree on
NAMED = but(UNNAMED, adversary=True, identity=True, style_kl_weight=3.0, identity_weight=20.0)
# A classifier of the evidence, and chapter 02's model asked for what it says: all labels, as much as they can give.
SUPERVISED = Config(
    epochs=conditional_vae.FIXED.epochs,
    batch_size=conditional_vae.FIXED.batch_size,
    learning_rate=conditional_vae.FIXED.learning_rate,
    schedule=conditional_vae.FIXED.schedule,
)
COMPARED = {
    "bound": BOUND,
    "costly-style": COSTLY_STYLE,
    "few-images": FEW_IMAGES,
    "cheap-class": CHEAP_CLASS,
    "consensus": CONSENSUS,
    "unnamed": UNNAMED,
    "unnamed-cut": UNNAMED_CUT,
    "named": NAMED,
    "supervised": SUPERVISED,
}

# The first edition's, for the companion: 30 epochs at a lower peak; its weights were found on test digits.
PLAIN = Config(MultiLevelVAEConfig(likelihood="bernoulli", class_kl="group"), learning_rate=2e-3, schedule="one-cycle")
STYLE_KL_WEIGHTS = (1.0, 2.0, 4.0)
LATENT_SIZES = ((5, 10), (20, 20))  # style, class
BATCH_SIZES = (64, 512)
WEIGHED = but(PLAIN, style_kl_weight=2.0)  # where both codes live, so that batch and latent sizes can matter
SMALL_GROUPS = but(WEIGHED, group_size=5, random_sizes=True)
ADVERSARY = but(SMALL_GROUPS, adversary=True)
MENDED = but(ADVERSARY, identity=True)

VARIANTS: dict[str, Config] = (
    CELLS
    | COMPARED
    # classes that training never shows
    | {"unnamed-unseen": but(CONSENSUS, hold_out=(4, 7)), "cut-unseen": but(CELLS["cut-std-0.1"], hold_out=(4, 7))}
    | {
        "reproduction-std-1": ORIGINAL,
        "reproduction-std-0.1": but(ORIGINAL, noise_std=0.1),
        "reproduction-std-1-800-epochs": but(ORIGINAL, epochs=800, table_iterations=0),
        "reproduction-short": but(ORIGINAL, epochs=RESTORED.epochs, table_iterations=0),
        "untrained": but(ORIGINAL, noise_std=0.1, epochs=0),
        "untrained-std-1": but(ORIGINAL, epochs=0),
        # one cause at a time: the gradient alone; new batches too; then the paper's objective
        "gradient-replay": RESTORED_ALONE,
        "gradient-replay-8-epochs": but(RESTORED_ALONE, epochs=8),
        "paper": PAPER,
        # the reproduction's side remarks, where it matters as it ran and with the gradient
        "deterministic-class-cut": but(ORIGINAL, deterministic_class=True, epochs=RESTORED.epochs, table_iterations=0),
        "deterministic-class-cut-400-epochs": but(ORIGINAL, deterministic_class=True, table_iterations=0),
        "deterministic-class": but(RESTORED, deterministic_class=True),
    }
    | {f"latent-{s}-{c}": but(WEIGHED, style_dim=s, class_dim=c) for s, c in LATENT_SIZES}
    | {f"batch-{size}": but(WEIGHED, batch_size=size) for size in BATCH_SIZES}
    | {f"style-kl-{weight:g}": but(PLAIN, style_kl_weight=weight) for weight in STYLE_KL_WEIGHTS}
    | {
        "step-groups": SMALL_GROUPS,
        "groups-style-kl-4": but(SMALL_GROUPS, style_kl_weight=4.0),  # as far as one gets without names for the groups
        "step-adversary": ADVERSARY,
        "step-identity": but(SMALL_GROUPS, identity=True),
        "mended": MENDED,
        "mended-60-epochs": but(MENDED, epochs=60),
        "no-evidence": but(MENDED, evidence=False),
        "plain-no-evidence": but(WEIGHED, evidence=False),
        "plain-eps-per-sample": but(WEIGHED, eps_per="sample"),
        "eps-per-sample": but(MENDED, eps_per="sample"),
        "exact": but(MENDED, exact=True),
        "unseen-classes": but(MENDED, hold_out=(4, 7)),
        "plain-unseen-classes": but(WEIGHED, hold_out=(4, 7)),
    }
)
# how many seeds the book measures of each, from 0 on: one, but of the model that is recommended and of what the argument rests on
SEEDS = dict.fromkeys(VARIANTS, 1) | {"mended": 5}
SEEDS |= dict.fromkeys(("gradient-replay", "gradient-replay-8-epochs"), 3) | dict.fromkeys(CELLS | COMPARED, 5)
SEEDS |= {"unnamed": 10, "unnamed-cut": 3, "unnamed-unseen": 3, "cut-unseen": 3}


class Replayed(Digits):
    """Digits in one order for ever: what itertools.cycle makes of a DataLoader that shuffles."""

    def batches(self, batch_size: int, generator: torch.Generator | None = None) -> Iterator[Batch]:
        return super().batches(batch_size)


def build(config: Config, seed: int = 0) -> MultiLevelVAE:
    """The variant's model with its initial weights drawn under a seed."""
    return initialise(lambda: MultiLevelVAE(config.model), seed)


def training_set(config: Config, digits: Digits, seed: int) -> Digits:
    """What the epochs show: all digits but those of classes held out; with `replay` in full batches of one order.

    Raises ValueError where no digits are left.
    """
    kept = ~torch.isin(digits.labels, torch.tensor(config.hold_out, device=digits.labels.device, dtype=torch.int64))
    left = int(kept.sum())
    if left < (config.batch_size if config.replay else 1):
        raise ValueError(
            f"no training digits are left of {len(digits)}: hold out fewer classes than {config.hold_out}, "
            f"or make batch_size={config.batch_size} smaller"
        )
    shown = digits if kept.all() else digits.take(kept)
    if config.replay:
        order = torch.randperm(left, generator=torch.Generator().manual_seed(seed))
        whole = left // config.batch_size * config.batch_size
        shown = Replayed(**vars(shown.take(order[:whole].to(shown.labels.device))))
    return shown


def weights(config: Config) -> dict[str, float]:
    """The weight of each term that the model's loss has."""
    model = config.model
    each = {
        "mse": (model.likelihood == "mse", 1.0),
        "bce": (model.likelihood == "bernoulli", 1.0),
        "style_kl": (True, config.style_kl_weight),
        "class_kl": (not model.deterministic_class, config.class_kl_weight),
        "consensus": (model.consensus, config.consensus_weight),
        "adversary": (model.adversary, config.adversary_weight),
        "identity": (model.identity, config.identity_weight),
    }
    return {name: config.loss_scale * weight for name, (is_there, weight) in each.items() if is_there}


def train(
    config: Config, digits: Digits, seed: int, device: str = "cpu", **options: Any
) -> tuple[MultiLevelVAE, History]:
    """Train one variant as its configuration says; returns the model and its history. options: those of `train_as`."""
    model, shown = build(config, seed), training_set(config, digits, seed)
    return train_as(config, model, shown, seed, device, weights=weights(config), **options)


# Measures


def swap_metrics(swapped: Callable[[int], Swaps], config: Config) -> dict[str, float]:
    """Whom a swapped image follows, by the number of images of evidence, and what it keeps of its style's source."""
    found = {}
    for k in EVIDENCE:
        swaps = swapped(k)
        asked, source = swaps.follows()
        found[f"follows_class_k{k}"] = float(asked.float().mean())
        found["follows_style" if k == 1 else f"follows_style_k{k}"] = float(source.float().mean())
        if k == EVIDENCE[0]:
            found |= kept(swaps, config.swaps)
        if k == EVIDENCE[-1]:
            found |= {f"{name}_k{k}": value for name, value in kept(swaps, config.swaps).items() if "kept" in name}
        if config.hold_out:
            held = torch.isin(swaps.wanted, torch.tensor(config.hold_out, device=swaps.wanted.device))
            found[f"unseen_follows_class_k{k}"] = float(asked[held].float().mean())
    return found


def sampled_metrics(model: MultiLevelVAE, test: Digits, generator: torch.Generator) -> dict[str, float]:
    """Whom a swapped image follows where both codes are drawn, not the posteriors' means."""
    found = {}
    for k in (EVIDENCE[0], EVIDENCE[-1]):
        asked, source = swap(model, test, k, generator, sampled=True).follows()
        found[f"follows_class_k{k}_sampled"] = float(asked.float().mean())
        found[f"follows_style_k{k}_sampled"] = float(source.float().mean())
    return found


def place_metrics(model: MultiLevelVAE, config: Config, test: Digits, generator: torch.Generator) -> dict[str, float]:
    """The share of trials in which one image, and ten, are placed with their class; apart for classes held out."""
    found = {}
    for k in (EVIDENCE[0], EVIDENCE[-1]):
        true, hit = place(model, test, k, generator)
        found[f"placed_k{k}"] = float(hit.float().mean())
        if config.hold_out:
            held = torch.isin(true, torch.tensor(config.hold_out, device=true.device))
            found[f"unseen_placed_k{k}"] = float(hit[held].float().mean())
    return found


def probe_metrics(
    model: MultiLevelVAE, config: Config, train: Digits, test: Digits, generator: torch.Generator, seed: int
) -> dict[str, float]:
    """What an MLP reads off codes that are drawn from each image alone: fitted on train codes, scored on test codes."""
    fitted = train.take(slice(0, config.probe_examples)).to(test.images.device)
    style, single = zip(
        *(
            (s.sample(generator=generator), draw(model, c, generator))
            for s, c in (codes(model, digits) for digits in (fitted, test))
        ),
        strict=True,
    )

    def read_off(pair: tuple[Tensor, Tensor], labels: Tensor, kind: str = "mlp") -> float:
        return evaluation.probe(pair[0], labels, pair[1], test.labels, kind, seed)

    return {
        "class_probe_single": read_off(single, fitted.labels),
        "style_probe": read_off(style, fitted.labels),
        "style_probe_linear": read_off(style, fitted.labels, "linear"),
        "style_probe_shuffled": read_off(style, evaluation.shuffled(fitted.labels), "linear"),
    }


@torch.no_grad()
def drawn_bce(model: MultiLevelVAE, digits: Digits, generator: torch.Generator) -> float:
    """Binary cross-entropy in nats of digits decoded from codes that are drawn from each image alone."""
    style, single = codes(model, digits)
    drawn = draw_images(model, style.sample(generator=generator), draw(model, single, generator))
    return float(evaluation.bce(drawn.flatten(1), digits.images.flatten(1)).mean())


@torch.no_grad()
def evaluate(model: MultiLevelVAE, config: Config, train: Digits, test: Digits, seed: int) -> dict[str, float]:
    """The chapter's figures for one trained model, on all given digits. Labels build evidence of OTHER images alone."""
    model.eval()
    generator = torch.Generator(test.images.device).manual_seed(seed + 1)
    style, single = codes(model, test)
    pixels, style_kl, class_kl = test.images.flatten(1), style.kl(), single.kl()
    means = draw_images(model, style.mean, single.mean)
    return {
        "bce": drawn_bce(model, test, generator),
        "bce_means": float(evaluation.bce(means.flatten(1), pixels).mean()),
        "style_kl": float(style_kl.sum(1).mean()),
        "class_kl_single": float(class_kl.sum(1).mean()),
        "style_active_units": evaluation.active_units(style_kl),
        "class_active_units": evaluation.active_units(class_kl),
        **swap_metrics(lambda k: swap(model, test, k, generator), config),
        **sampled_metrics(model, test, generator),
        **place_metrics(model, config, test, generator),
        "generated_follows_class": generated(model, test, EVIDENCE[-1], generator),
        **probe_metrics(model, config, train, test, generator, seed),
    }


def run(
    variant: str, seed: int, *, config: Config, train: Digits, test: Digits, device: str = "cpu", progress: bool = True
) -> Run:
    """Train (unless untrained) and evaluate one seed of one variant. Its `seconds` are those of the training alone."""
    if variant == "supervised":
        return run_supervised(config, seed, train, test, device, progress)
    if config.epochs == 0:
        model, history = build(config, seed).to(device), History()
    else:
        model, history = globals()["train"](config, train, seed, device, progress=progress)
    finished({}, None, history, model)  # an interrupted training is not measured
    metrics = evaluate(model, config, train, test.to(device), seed)
    if config.table_iterations:
        metrics |= table(model, train.to(device), test.to(device), seed, config.table_iterations)
    return finished(metrics, failure(config, metrics), history, model)


def failure(config: Config, metrics: dict[str, float]) -> str | None:
    """Why a run counts as failed, None where it does not."""
    followed = metrics[f"follows_class_k{EVIDENCE[-1]}"] + metrics[f"follows_style_k{EVIDENCE[-1]}"]
    return f"{followed:.0%} follow a source" if config.epochs and followed < THRESHOLD else None


@torch.no_grad()
def supervised_swap(model: ConditionalVAE, test: Digits, k: int, generator: torch.Generator) -> Swaps:
    """The supervised swap: every test digit's style, decoded with the class that k images are most probably of, together."""
    wanted = other_classes(test.labels, generator)
    sets = evidence_sets(test.labels, wanted, k, generator, scored=torch.arange(len(test), device=wanted.device))
    said = torch.cat([model.classify(batch.images.flatten(1)).log_softmax(1) for batch in test.batches(5000)])
    z = torch.cat([model.infer(batch.images).mean for batch in test.batches(5000)])
    return Swaps(test, wanted, sets, model.sample(said[sets].sum(1).argmax(1), z=z))


def run_supervised(config: Config, seed: int, train: Digits, test: Digits, device: str, progress: bool) -> Run:
    """Chapter 02's fixed model, trained on all labels by this configuration's schedule, in this chapter's swaps."""
    names = ("epochs", "batch_size", "learning_rate", "schedule")
    own = replace(conditional_vae.FIXED, **{name: getattr(config, name) for name in names})
    model, history = conditional_vae.train(own, train, seed, device, progress=progress)
    test = test.to(device)
    model.eval()
    generator = torch.Generator(test.images.device).manual_seed(seed + 1)
    found = swap_metrics(lambda k: supervised_swap(model, test, k, generator), config)
    measured = conditional_vae.measures(model, test, seed)
    found |= {name: measured[name] for name in ("accuracy", "bce", "bce_and_kl")}
    return finished(found, failure(config, found), history, model)


# Speed


def our_steps(digits: Digits, device: str = "cpu") -> Iterator[None]:
    """An endless run of the library's own training steps, batch assembly included: each `next` is one."""
    training = TrainingRun(build(RESTORED).to(device).train(), digits.to(device), learning_rate=RESTORED.learning_rate)
    while True:
        for batch in training.digits.batches(RESTORED.batch_size, training.order):
            if len(batch.labels) == RESTORED.batch_size:
                training.step(batch)
                yield


def accumulations(device: str = "cpu", plain: bool = False, n: int = 256, dim: int = 10) -> Iterator[None]:
    """An endless run of one accumulation of n images' evidence, handed out to each: ours can be differentiated."""
    generator = torch.Generator().manual_seed(0)
    mean, log_var = (torch.randn(n, dim, generator=generator).to(device).requires_grad_() for _ in range(2))
    labels = torch.randint(10, (n,), generator=generator).to(device)
    while True:
        if plain:
            accumulate_by_dictionary(mean.data, log_var.data, labels)
        else:
            product = product_of_experts(DiagonalGaussian(mean, log_var), labels)
            index = torch.unique(labels, return_inverse=True)[1]
            _ = product.mean[index], product.log_var[index]
        yield


def bench(device: str = "cpu", rounds: int = 7, steps: int = 15) -> dict[str, Any]:
    """Time our whole step, and the accumulation alone, against the plainly written ones, in turns in this process."""
    digits = load_digits("train", source="offline").take(slice(0, 1280))
    whole = compare(our_steps(digits, device), plain_multi_level_steps(digits), device, rounds, steps)
    alone = compare(accumulations(device), accumulations(plain=True), device, rounds, steps)
    part = {f"accumulation_{name}": alone[name] for name in ("ours_ms", "plain_ms", "ratio")}
    return {"experiment": "multi-level-vae", **whole, **part}


STATES = ("unnamed", "unnamed-cut")  # the variants whose trained state (seed 0) is shipped
_states = States(
    "multi-level-vae", STATES, VARIANTS, train, lambda config: MultiLevelVAE(MultiLevelVAEConfig(**config)), bits=16
)
state_path, save_state, load_state = _states.path, _states.save, _states.load
