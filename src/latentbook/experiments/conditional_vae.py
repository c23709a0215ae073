"""Chapter 02's experiment: the tutorial's conditional VAE, what each step of the mend buys, and few labels."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field, replace
from typing import Any

import torch
from torch import Tensor, nn

from latentbook import checks, evaluation
from latentbook.data.digits import Digits, load_digits
from latentbook.experiments.originals.mix_and_match import plain_conditional_steps
from latentbook.experiments.run import SCHEDULES, Run, finished, steps_of, train_as
from latentbook.experiments.states import States
from latentbook.experiments.timing import compare
from latentbook.layers.distributions import check_temperature, gumbel_softmax, one_hot
from latentbook.models.conditional_vae import UNLABELLED, ConditionalVAE, ConditionalVAEConfig, check_classes
from latentbook.training.loop import History, Hook, TrainingRun, check_device, initialise

THRESHOLD_TEXT = (
    "an exception, a NaN, or a reconstruction no better than the training mean (binary cross-entropy of 206 nats)"
)
THRESHOLD = 206.0


@dataclass(frozen=True)
class Config:
    """One variant: the model and how it is trained. The defaults are the tutorial's, on the whole training set.

    Raises ValueError for numbers out of range and a schedule that does not exist.
    """

    model: ConditionalVAEConfig = field(default_factory=ConditionalVAEConfig)
    share: float = 1.0  # of the training set, stratified by label; the tutorial takes half
    labelled: int = 0  # how many training images keep their label, stratified; 0: all of them
    unlabelled: bool = True  # whether the others are used at all
    epochs: int = 20
    batch_size: int = 64
    learning_rate: float = 1e-3
    schedule: str = "constant"  # or "one-cycle": up in 10 % of the steps, down to 0 by half a cosine
    classification_weight: float = 10.0
    label_kl_weight: float = 1.0
    adversary_weight: float = 4.0  # this and the next two matter only where the model has the term
    recovery_weight: float = 3.0
    smoothness_weight: float = 25.0
    last_temperature: float = 0.0  # > 0: the temperature falls to it geometrically over the steps
    probe_examples: int = 60_000  # training codes that the probes are fitted on

    def __post_init__(self) -> None:
        weights = [name for name in vars(self) if name.endswith("_weight")]
        least = {"labelled": 0, "epochs": 0, "batch_size": 1, "last_temperature": 0, "probe_examples": 1}
        checks.fields_fit(
            self,
            at_least=least | dict.fromkeys(weights, 0),
            above={"share": 0, "learning_rate": 0},
            at_most={"share": 1},
            choices={"schedule": SCHEDULES},
        )


ORIGINAL = Config(share=0.5)
ALL_DATA = Config()
# The ladder: one choice a step, all trained alike (128 images a batch, one-cycle, 10 epochs) up to its last row.
ONE_CYCLE = Config(epochs=10, batch_size=128, learning_rate=2e-3, schedule="one-cycle", probe_examples=30_000)
SEES_LABEL = replace(ONE_CYCLE, model=ConditionalVAEConfig(posterior="image-and-label"))
LABEL_KL = replace(ONE_CYCLE, model=replace(SEES_LABEL.model, label_kl=True))
EXACT = replace(ONE_CYCLE, model=replace(LABEL_KL.model, label="exact"))
KNOWN = replace(ONE_CYCLE, model=replace(LABEL_KL.model, label="known"))
ADVERSARY = replace(ONE_CYCLE, model=replace(KNOWN.model, adversary=True))
RECOVERY = replace(ONE_CYCLE, model=replace(KNOWN.model, recovery=True))
BOTH = replace(ONE_CYCLE, model=replace(ADVERSARY.model, recovery=True))
# 40 epochs: the two terms of the bound are still falling at 10 and at 20; dropout is worth about a tenth of a point of accuracy
MENDED = replace(BOTH, model=replace(BOTH.model, dropout=0.2), epochs=40, probe_examples=60_000)

# Sweeps start from the tutorial as published, half of the data and half of its epochs: all points alike.
SWEEP = replace(ORIGINAL, epochs=10, probe_examples=10_000)
WEIGHTS = (0.1, 1.0, 10.0, 100.0, 1000.0)
TEMPERATURES = (0.2, 0.5, 1.0, 2.0, 5.0)
ADVERSARY_WEIGHTS = (1.0, 2.0, 8.0, 16.0)
# Few labels. The labelled images are repeated until they are a quarter of what an epoch shows, so the cross-entropy weighs
# 100 / 4 = 25 an image, as much as the smoothness. Half a stroke's grey over a dozen pixels is a step of about 1.5.
FEW = Config(
    ConditionalVAEConfig(posterior="image-and-label", label="known", label_kl=True, smooth_radius=1.5),
    epochs=8,
    batch_size=200,
    learning_rate=2e-3,
    schedule="one-cycle",
    classification_weight=100.0,
    probe_examples=10_000,
)
BOUND_ALONE = replace(FEW, model=replace(FEW.model, smooth_radius=0.0))
LABELLED = (100, 1000, 3000)


def sweep(**changes: Any) -> Config:
    """The sweeps' starting point with other choices; those of the model are told apart by name."""
    own = {name: changes.pop(name) for name in tuple(changes) if name in ConditionalVAEConfig.__dataclass_fields__}
    return replace(SWEEP, model=replace(SWEEP.model, **own), **changes)


VARIANTS: dict[str, Config] = (
    {"original": ORIGINAL, "original-all-data": ALL_DATA, "mended": MENDED, "untrained": replace(KNOWN, epochs=0)}
    | {
        "step-one-cycle": ONE_CYCLE,
        "step-sees-label": SEES_LABEL,
        "step-label-kl": LABEL_KL,
        "step-exact": EXACT,
        "step-known": KNOWN,
        "step-adversary": ADVERSARY,
        "step-recovery": RECOVERY,
        "step-both": BOTH,
    }
    | {f"weight-{weight:g}": sweep(classification_weight=weight) for weight in WEIGHTS}
    | {f"weight-{weight:g}-cut": sweep(classification_weight=weight, cut_gradient=True) for weight in WEIGHTS}
    | {f"hard-{value:g}": sweep(temperature=value) for value in TEMPERATURES if value != 1}
    | {f"soft-{value:g}": sweep(label="soft", temperature=value) for value in TEMPERATURES}
    | {"hard-annealed": sweep(temperature=2.0, last_temperature=0.2)}
    | {"soft-annealed": sweep(label="soft", temperature=2.0, last_temperature=0.2)}
    | {f"adversary-{weight:g}": replace(BOTH, adversary_weight=weight) for weight in ADVERSARY_WEIGHTS}
    | {f"labels-{n}": replace(FEW, labelled=n) for n in LABELLED}
    | {f"labels-{n}-alone": replace(BOUND_ALONE, labelled=n, unlabelled=False) for n in LABELLED}
    | {"labels-1000-bound": replace(BOUND_ALONE, labelled=1000)}
    | {"labels-1000-no-label-kl": replace(FEW, labelled=1000, label_kl_weight=0.0)}
)
# how many seeds the book measures of each, from 0 on: of the steps and sweeps fewer than of what they lead from and to
SEEDS = dict.fromkeys(VARIANTS, 3) | dict.fromkeys(("original", "original-all-data", "mended", "untrained"), 5)


def build(config: Config, seed: int = 0) -> ConditionalVAE:
    """The variant's model with its initial weights drawn under a seed."""
    return initialise(lambda: ConditionalVAE(config.model), seed)


def training_set(config: Config, digits: Digits, seed: int) -> Digits:
    """The digits an epoch shows: a stratified share, or all with few labels kept, those images repeated to a quarter.

    Raises ValueError for a class that does not occur, for fewer labels than two a class, or for a part that is no part.
    """
    from sklearn.model_selection import train_test_split

    n_classes = config.model.n_classes
    check_classes(digits.labels, n_classes)
    labels = digits.labels.cpu()

    def stratified(n: int) -> Tensor:
        if n < 2 * n_classes:
            raise ValueError(f"{n} labelled images are too few: {n_classes} classes need at least {2 * n_classes}")
        if n > (most := len(digits) - n_classes):
            raise ValueError(f"{n} of {len(digits)} images leave too few over: take at most {most}, or all of them")
        kept, _ = train_test_split(range(len(digits)), train_size=n, stratify=labels.numpy(), random_state=seed)
        check_classes(labels[kept], n_classes)  # a rare class may have gone without
        return torch.as_tensor(kept, device=digits.labels.device)

    if not config.labelled:
        return digits if config.share == 1 else digits.take(stratified(int(config.share * len(digits))))
    kept = stratified(config.labelled)
    unlabelled = replace(digits, labels=torch.full_like(digits.labels, UNLABELLED))
    repeats = max(1, len(digits) // (3 * config.labelled))
    shown = digits.take(kept.repeat(repeats))
    if not config.unlabelled:
        return shown
    return replace(
        digits,
        images=torch.cat((unlabelled.images, shown.images)),
        labels=torch.cat((unlabelled.labels, shown.labels)),
    )


def temperature(config: Config, steps: int) -> Callable[[int], float]:
    """The temperature over the steps: from the model's to the last one, by the same factor at every step."""
    first, last = config.model.temperature, config.last_temperature
    check_temperature(last)
    return lambda step: first * (last / first) ** min(1.0, step / steps)


def weights(config: Config) -> dict[str, float]:
    """The weight of each term that the model's loss has, of those that have one."""
    model = config.model
    each = {
        "cross_entropy": (True, config.classification_weight),
        "label_kl": (model.label_kl, config.label_kl_weight),
        "adversary": (model.adversary, config.adversary_weight),
        "recovery": (model.recovery, config.recovery_weight),
        "smoothness": (model.smooth_radius, config.smoothness_weight),
    }
    return {name: weight for name, (is_there, weight) in each.items() if is_there}


def train(
    config: Config, digits: Digits, seed: int, device: str = "cpu", **options: Any
) -> tuple[ConditionalVAE, History]:
    """Train one variant as its configuration says; returns the model and its history. options: those of `train_as`."""
    model, shown, arguments = build(config, seed), training_set(config, digits, seed), None
    if config.last_temperature:
        arguments = {"temperature": temperature(config, steps_of(config, shown))}
    return train_as(config, model, shown, seed, device, weights=weights(config), arguments=arguments, **options)


def track_accuracy(train: Digits, test: Digits) -> Hook:
    """A hook that adds the share of digits classified correctly to the history: "accuracy" and "test_accuracy"."""

    def measure(model: ConditionalVAE, history: History) -> None:
        model.eval()
        history.epochs[-1].update(accuracy=accuracy(model, train), test_accuracy=accuracy(model, test))

    def prepare(model: ConditionalVAE, history: History) -> None:
        for digits in (train, test):
            check_device("digits whose accuracy is tracked", digits.images, model)

    measure.prepare = prepare
    return measure


class Strips:
    """A hook that keeps a picture of every epoch: fixed codes under all labels, and fixed digits decoded again.

    z: [styles, latent]; digits: [n, 1, 28, 28]. `styles` grows by [styles, classes, 28, 28] an epoch, `digits` by [n, 28, 28].
    """

    def __init__(self, z: Tensor, digits: Tensor):
        self.z, self.images = z, digits
        self.styles: list[Tensor] = []
        self.digits: list[Tensor] = []

    def prepare(self, model: ConditionalVAE, history: History) -> None:
        """Before training: raises ValueError where codes or digits are on another device than the model."""
        check_device("codes of a strip", self.z, model)
        check_device("digits of a strip", self.images, model)

    @torch.no_grad()
    def __call__(self, model: ConditionalVAE, history: History | None = None) -> None:
        model.eval()
        self.styles.append(all_labels(model, self.z))
        labels = model.predict(self.images)
        self.digits.append(model.sample(labels, z=model.infer(self.images, labels).mean).squeeze(1))


@torch.no_grad()
def all_labels(model: ConditionalVAE, z: Tensor) -> Tensor:
    """Every code decoded with every label: [styles, classes, 28, 28], one style a row."""
    n_classes = model.config.n_classes
    labels = torch.arange(n_classes, device=z.device).repeat(len(z))
    return model.sample(labels, z=z.repeat_interleave(n_classes, 0)).view(len(z), n_classes, 28, 28)


# Measures


@torch.no_grad()
def accuracy(model: ConditionalVAE, digits: Digits) -> float:
    """The share of digits whose most probable class is their label."""
    return float((model.predict(digits.images) == digits.labels).float().mean())


@torch.no_grad()
def codes(model: ConditionalVAE, digits: Digits, generator: torch.Generator) -> tuple[Tensor, Tensor]:
    """A code sampled from q(z | x, predicted y) for every digit, and its KL by dimension: both [n, latent]."""
    parts = [model.infer(batch.images) for batch in digits.batches(5000)]
    return torch.cat([part.sample(generator=generator) for part in parts]), torch.cat([part.kl() for part in parts])


@torch.no_grad()
def reconstruction(model: ConditionalVAE, digits: Digits, z: Tensor) -> float:
    """Binary cross-entropy in nats of digits decoded from their codes and their predicted labels."""
    decoded = model.sample(model.predict(digits.images), z=z).flatten(1)
    return float(evaluation.bce(decoded, digits.images.flatten(1)).mean())


@torch.no_grad()
def asked_agreement(model: ConditionalVAE, generator: torch.Generator, n: int = 10_000) -> tuple[float, float]:
    """Ask for a digit, decode a code of the prior: how often does the judge see that digit? And beside it, a shuffled one?"""
    n = checks.count("n", n)
    asked = torch.arange(n, device=model.mean.weight.device) % model.config.n_classes
    seen = evaluation.judged(model.sample(asked, generator=generator))
    control = evaluation.shuffled(asked)
    return tuple(float((seen == labels).float().mean()) for labels in (asked, control))


@torch.no_grad()
def relabel(model: ConditionalVAE, digits: Digits, z: Tensor) -> tuple[float, float]:
    """The intervention: decode each test digit's code with every other label. Who wins,
    the new label or the old digit?
    """
    inferred, new_wins, old_wins = model.predict(digits.images), 0.0, 0.0
    others = range(1, model.config.n_classes)
    for shift in others:
        asked = (inferred + shift) % model.config.n_classes
        seen = evaluation.judged(model.sample(asked, z=z))
        new_wins += float((seen == asked).float().mean()) / len(others)
        old_wins += float((seen == inferred).float().mean()) / len(others)
    return new_wins, old_wins


@torch.no_grad()
def sampled_accuracy(model: ConditionalVAE, digits: Digits, generator: torch.Generator) -> float:
    """The accuracy with the tutorial's noise left on at test time: of a Gumbel draw instead of the best class."""
    logits = model.classifier(digits.images.flatten(1))
    drawn = gumbel_softmax(logits, 1.0, hard=True, generator=generator).argmax(1)
    return float((drawn == digits.labels).float().mean())


def evaluate(model: ConditionalVAE, config: Config, train: Digits, test: Digits, seed: int) -> dict[str, float]:
    """The chapter's figures for one trained model, on all given digits, no true label used to infer anything."""
    model.eval()
    generator = torch.Generator(test.images.device).manual_seed(seed + 1)
    z, kl = codes(model, test, generator)
    fitted = train.take(slice(0, config.probe_examples)).to(test.images.device)
    train_codes, _ = codes(model, fitted, generator)
    asked, asked_control = asked_agreement(model, generator)
    new_wins, old_wins = relabel(model, test, z)

    def read_off(labels: Tensor, kind: str) -> float:
        return evaluation.probe(train_codes, labels, z, test.labels, kind, seed)

    metrics = {
        "accuracy": accuracy(model, test),
        "sampled_accuracy": sampled_accuracy(model, test, generator),
        "bce": reconstruction(model, test, z),
        "kl": float(kl.sum(1).mean()),
        "active_units": evaluation.active_units(kl),
        "asked_agreement": asked,
        "asked_agreement_shuffled": asked_control,
        "other_label_wins": new_wins,
        "source_digit_wins": old_wins,
        "z_probe_linear": read_off(fitted.labels, "linear"),
        "z_probe_mlp": read_off(fitted.labels, "mlp"),
        "z_probe_shuffled": read_off(evaluation.shuffled(fitted.labels), "linear"),
    }
    return metrics | {"bce_and_kl": metrics["bce"] + metrics["kl"]}


def run(
    variant: str, seed: int, *, config: Config, train: Digits, test: Digits, device: str = "cpu", progress: bool = True
) -> Run:
    """Train (unless untrained) and evaluate one seed of one variant. Its `seconds` are those of the training alone."""
    if config.epochs == 0:
        model: nn.Module = build(config, seed).to(device)
        return Run(evaluate(model, config, train, test.to(device), seed), None, 0.0, model)
    model, history = globals()["train"](config, train, seed, device, progress=progress)
    metrics = evaluate(model, config, train, test.to(device), seed)
    failed = f"bce {metrics['bce']:.1f}" if metrics["bce"] > THRESHOLD else None
    return finished(metrics, failed, history, model)


# The gradient that a draw gives, beside the sum


def gradient_quality(
    model: ConditionalVAE, images: Tensor, temperatures: Sequence[float], draws: int = 200, seed: int = 0
) -> dict[tuple[str, float], tuple[float, float]]:
    """Bias and variance of Gumbel-softmax gradients of the expected bce by the classifier's logits, against the exact sum.

    One code z an image, the same for every draw, so that y alone is random. Returns (kind, temperature) -> the squared
    bias and the variance summed over logits, both relative to the exact gradient's squared length, mean over images.
    Raises ValueError for fewer than two draws, which have no variance.
    """
    draws = checks.count("draws", draws, 2)
    generator = torch.Generator(images.device).manual_seed(seed)
    x = images.flatten(1)
    with torch.no_grad():
        logits = model.classifier(x)
        z = model.encode(x, one_hot(logits.argmax(1), logits)).sample(generator=generator)
    logits.requires_grad_()

    def bce(y: Tensor) -> Tensor:
        decoded = model.decode(z, y)
        return nn.functional.binary_cross_entropy_with_logits(decoded, x, reduction="none").sum(1)

    with torch.no_grad():
        labels = torch.eye(logits.shape[1], device=x.device)
        costs = torch.stack([bce(row.expand(len(x), -1)) for row in labels], 1)
    (exact,) = torch.autograd.grad((logits.softmax(1) * costs).sum(), logits)
    length = exact.square().sum()
    quality = {}
    for kind in ("hard", "soft"):
        for value in temperatures:
            gradients = []
            for _ in range(draws):
                y = gumbel_softmax(logits, value, kind == "hard", generator=generator)
                gradients.append(torch.autograd.grad(bce(y).sum(), logits)[0])
            stack = torch.stack(gradients)
            variance = stack.var(0)
            # the mean of `draws` gradients scatters by itself: take that part out of the squared bias
            bias = (stack.mean(0) - exact).square() - variance / draws
            quality[kind, value] = float(bias.sum() / length), float(variance.sum() / length)
    return quality


# Speed


def our_steps(digits: Digits, device: str = "cpu") -> Iterator[None]:
    """An endless run of the library's own training steps of the tutorial's model: each `next` is one."""
    training = TrainingRun(
        build(ORIGINAL).to(device).train(),
        digits.to(device),
        learning_rate=ORIGINAL.learning_rate,
        weights={"cross_entropy": ORIGINAL.classification_weight},
    )
    while True:
        for batch in training.digits.batches(ORIGINAL.batch_size, training.order):
            if len(batch.labels) == ORIGINAL.batch_size:
                training.step(batch)
                yield


def bench(device: str = "cpu", rounds: int = 7, steps: int = 40) -> dict[str, Any]:
    """Time our whole step against a plain loop at the same batch size, in turns in this process: milliseconds a step."""
    digits = load_digits("train", source="offline").take(slice(0, 1280))
    return {"experiment": "conditional-vae"} | compare(
        our_steps(digits, device), plain_conditional_steps(digits), device, rounds, steps
    )


STATES = ("original-all-data", "mended")  # the variants whose trained state (seed 0) is shipped
_states = States(
    "conditional-vae", STATES, VARIANTS, train, lambda config: ConditionalVAE(ConditionalVAEConfig(**config))
)
state_path, save_state, load_state = _states.path, _states.save, _states.load
