"""Chapter 05's experiment: how many objects a scene holds, learnt four ways, and what breaks when a choice is undone."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field, replace
from typing import Any

import torch
from torch import Tensor

from latentbook import checks
from latentbook.data.digits import Batch, Digits, load_digits
from latentbook.data.scenes import Layout, Scenes, draw_scenes, fresh_scenes
from latentbook.data.splits import split_sprites, train_validation_split
from latentbook.experiments.air_measures import Counting, accuracy, count_log_probs, ink_control, measure
from latentbook.experiments.originals.air import plain_scenes, plain_steps
from latentbook.experiments.run import SCHEDULES, Run, but, finished, train_as
from latentbook.experiments.states import States
from latentbook.experiments.timing import compare
from latentbook.models.air import AIR
from latentbook.models.air_parts import TUTORIAL, AIRConfig
from latentbook.schedules import Schedule, linear
from latentbook.training.loop import History, TrainingRun, initialise

THRESHOLD_TEXT = (
    "an exception, a NaN, or a model that counts the objects of fewer than 98 % of the held-out scenes of its own kind"
)
THRESHOLD = 0.98
UNIFORM, DIAGONAL, THREE = Layout(), Layout(placement="diagonal"), Layout(counts=(0, 1, 2, 3))
PAIRS_TWICE = (0, 1, 2, 2)  # in training pairs are as frequent as all else: they are what is hard
SHOWN = Layout(counts=PAIRS_TWICE)
TO_THREE = Layout(counts=(0, 1, 2, 2, 3, 3))
WORLDS = ("digits", "sprites")
HELD_OUT, WATCHED = 1, 2  # seeds of the scenes that are measured, and of those that are counted during training


@dataclass(frozen=True)
class Config:
    """One variant: the model, its scenes, how it is trained and measured.

    The defaults are those of "exact", which watches test scenes.
    Raises ValueError for numbers out of range and choices that do not exist.
    """

    model: AIRConfig = field(default_factory=AIRConfig)
    layout: Layout = SHOWN  # of the scenes of training
    measured: Layout | None = UNIFORM  # of those held out; None: the same
    world: str = "digits"  # or "sprites"
    fixed: int = 0  # > 0: so many scenes again and again; 0: every scene is new
    scenes: int = 1600  # an epoch: 25 steps, after which counts are looked at
    epochs: int = 64
    batch_size: int = 64
    learning_rate: float = 3e-3  # at its highest
    schedule: str = "one-cycle"  # or "constant"
    warmup: float = 0.05  # of one cycle: the share of steps that go up
    baseline_rate: float = 5.0  # factor of the learning rate, for a learnt baseline
    # presence's prior starts here and falls to the model's, evenly in its logarithm
    first_prior: float | None = None
    kl_warmup: bool = False  # divergences start at weight 0
    warm_steps: int = 800  # of these two
    held_out: int = 5000  # scenes that are measured
    watched: int = 1000  # scenes that are counted after every epoch
    # these are made of validation digits, which training then goes without; "test": as
    # in the first edition, whose runs are still compared with
    watch: str = "validation"
    bounded: int = 200  # scenes whose probability is bounded

    def __post_init__(self) -> None:
        counts = (
            "scenes",
            "batch_size",
            "warm_steps",
            "held_out",
            "watched",
            "bounded",
        )
        checks.fields_fit(
            self,
            at_least=dict.fromkeys(counts, 1)
            | dict.fromkeys(
                ("fixed", "epochs", "warmup"),
                0,
            ),
            above={"learning_rate": 0, "baseline_rate": 0, "first_prior": 0},
            below={"warmup": 1, "first_prior": 1},
            choices={
                "world": WORLDS,
                "schedule": SCHEDULES,
                "watch": ("validation", "test"),
            },
        )

    def check_sizes(self) -> None:
        """Raises ValueError unless all scenes are as large as the model wants them; for
        when a run starts.
        """
        for layout in (self.layout, self.measured or self.layout):
            if layout.canvas != self.model.canvas:
                raise ValueError(
                    f"scenes of {layout.canvas} pixels do not fit a model of "
                    f"{self.model.canvas}: set layout.canvas, measured.canvas and "
                    "model.canvas alike"
                )


EXACT = Config(watch="test")
FAITHFUL = Config(
    TUTORIAL,
    DIAGONAL,
    measured=None,
    fixed=10_000,
    epochs=314,  # of 25 steps, together the tutorial's 50 epochs of 157
    learning_rate=1e-4,
    schedule="constant",
    baseline_rate=100.0,
    watch="test",
)


# The second edition's recipe for up to two digits, chosen on validation scenes: the count's posterior explores. Two sprites
# may fit into a window that is as wide as a digit with its margin, so theirs are smaller.
EXPLORED = but(Config(), explore=0.7, floor=0.0)
KINDS: dict[str, dict[str, Any]] = {
    "": {},
    "-diagonal": {"layout": replace(DIAGONAL, counts=PAIRS_TWICE), "measured": DIAGONAL},
    "-equal-counts": {"layout": UNIFORM},
    "-sprites": {"world": "sprites", "where_mean": (2.6, 0.0, 0.0)},
}
EXPLORED_IN = {f"explored{kind}": but(EXPLORED, **changes) for kind, changes in KINDS.items()}

NO_FLOOR = but(EXACT, floor=0.0)
CORRECTED = but(FAITHFUL, published=False)
SMALLER = but(EXACT, where_mean=TUTORIAL.where_mean)
VARIANTS: dict[str, Config] = {
    "exact": EXACT,
    "exact-diagonal": but(EXACT, layout=replace(DIAGONAL, counts=PAIRS_TWICE), measured=DIAGONAL),
    # the tutorial as it is, and with its masks and reward put right: what is not used is then free to run away
    "reinforce-faithful": FAITHFUL,
    "reinforce-corrected": but(CORRECTED, scale_range=EXACT.model.scale_range, log_var_range=EXACT.model.log_var_range),
    "reinforce-corrected-unbounded": CORRECTED,
    # the same networks, optimiser, schedule, floor, scenes and steps as "exact"
    "reinforce-matched": but(EXACT, objective="reinforce"),
    "reinforce-matched-no-baseline": but(EXACT, objective="reinforce", learnt_baseline=False),
    "concrete-matched": but(EXACT, objective="concrete"),
    # one choice undone at a time
    "no-floor": NO_FLOOR,
    "no-floor-kl-warmup": but(NO_FLOOR, kl_warmup=True),
    "no-floor-annealed-prior": but(NO_FLOOR, first_prior=0.99),
    "annealed-prior": but(EXACT, first_prior=0.99, presence_prior=1e-5),
    "presence-prior-half": but(EXACT, presence_prior=0.5),
    "tutorial-variance": but(EXACT, variance=TUTORIAL.variance),
    "tutorial-window": SMALLER,
    "tutorial-network": but(EXACT, image_layer="linear"),
    "tutorial-counts": but(EXACT, layout=UNIFORM),
    "no-scale-range": but(EXACT, scale_range=None, log_var_range=None),
    "bernoulli": but(EXACT, likelihood="bernoulli"),
    "output-clamped": but(EXACT, output="clamped"),
    "output-absolute": but(EXACT, output="absolute"),
    "output-linear": but(EXACT, output="linear"),
    # other worlds: where a window of a digit with its margin would hold two objects, the tutorial's smaller ones serve better
    "to-three": but(SMALLER, layout=TO_THREE, measured=THREE, steps=4),
    "up-to-three": but(SMALLER, measured=THREE, steps=4),
    "sprites": but(SMALLER, world="sprites"),
    "to-three-large-window": but(EXACT, layout=TO_THREE, measured=THREE, steps=4),
    "sprites-large-window": but(EXACT, world="sprites"),
    **EXPLORED_IN,
    # no training: what the sum of all pixels alone says
    "ink": replace(EXACT, epochs=0, layout=UNIFORM),
    "ink-diagonal": replace(EXACT, epochs=0, layout=DIAGONAL, measured=DIAGONAL),
}
# how many seeds the book measures of each, from 0 on: 20 where it says how often a training fails
SEEDS = dict.fromkeys(VARIANTS, 5) | {"exact": 20, "exact-diagonal": 20, "explored-diagonal": 10}


@dataclass(frozen=True)
class Portions(Scenes):
    """Fixed scenes, of which every epoch shows so many, drawn anew without replacement."""

    portion: int

    def __post_init__(self) -> None:
        super().__post_init__()
        object.__setattr__(self, "portion", checks.count("portion", self.portion))  # the dataclass is frozen

    def __len__(self) -> int:
        return min(self.portion, len(self.labels))

    def batches(self, batch_size: int, generator: torch.Generator | None = None) -> Iterator[Batch]:
        if checks.generator("generator", generator) is None:
            order = torch.arange(len(self))
        else:
            order = torch.randperm(len(self.labels), generator=generator)[: len(self)]
        yield from Scenes.batches(self.take(order.to(self.labels.device)), batch_size)


def build(config: Config, seed: int = 0) -> AIR:
    """The variant's model with its initial weights drawn under a seed."""
    return initialise(lambda: AIR(config.model), seed)


def objects(config: Config, digits: Digits) -> Digits:
    """What the variant's scenes are made of: the given digits, or as many sprites for the same split."""
    if config.world == "digits":
        return digits
    return split_sprites(len(digits), digits.split)


def training_set(config: Config, digits: Digits, seed: int) -> Scenes:
    """The scenes of training: new ones in every epoch, or portions of a fixed set."""
    made_of = objects(config, digits)
    if not config.fixed:
        return fresh_scenes(made_of, config.scenes, config.layout, seed)
    return Portions(**vars(draw_scenes(made_of, config.fixed, config.layout, seed)), portion=config.scenes)


def held_out(config: Config, digits: Digits, layout: Layout | None = None) -> Scenes:
    """The scenes that are measured, the same for every seed; of test digits."""
    return draw_scenes(objects(config, digits), config.held_out, layout or config.measured or config.layout, HELD_OUT)


def presence_prior(config: Config) -> Schedule:
    """The prior of presence, from the first to the model's own, evenly in its logarithm (the paper anneals a geometric prior)."""
    share = linear(config.warm_steps)
    return lambda step: config.first_prior ** (1 - share(step)) * config.model.presence_prior ** share(step)


def schedules(model: AIR) -> dict[str, Schedule]:
    """What follows a schedule in every training, as `fit` takes it."""
    return {"floor": model.exploration, "explore": model.exploring}


def train(
    config: Config,
    digits: Digits,
    seed: int,
    device: str = "cpu",
    **options: Any,
) -> tuple[AIR, History]:
    """Train one variant as its configuration says; returns the model and its history.

    options: those of `train_as`.
    """
    config.check_sizes()
    model = build(config, seed)
    arguments = schedules(model)
    if config.first_prior is not None:
        arguments["presence_prior"] = presence_prior(config)
    if hasattr(model, "baseline"):
        options["rate_factors"] = {"baseline": config.baseline_rate}
    if config.kl_warmup:
        options["weights"] = dict.fromkeys(
            ("kl_presence", "kl_where", "kl_what"),
            linear(config.warm_steps),
        )
    shown = training_set(config, digits, seed)
    return train_as(config, model, shown, seed, device, arguments=arguments, **options)


def evaluate(model: AIR, config: Config, test: Digits, seed: int) -> dict[str, float]:
    """The chapter's figures for one trained model; its counts on scenes of either placement besides."""
    device = model.prior_mean.device
    generator = torch.Generator(device).manual_seed(seed)
    found = measure(model, held_out(config, test).to(device), config.bounded, generator)
    for name, layout in (("uniform", UNIFORM), ("diagonal", DIAGONAL)):
        scenes = held_out(config, test, layout).to(device)
        found[f"count_accuracy_{name}"] = accuracy(count_log_probs(model, scenes.images).argmax(1), scenes.labels)
    return found


def run(
    variant: str, seed: int, *, config: Config, train: Digits, test: Digits, device: str = "cpu", progress: bool = True
) -> Run:
    """Train (unless there is nothing to train) and evaluate one seed. Its `seconds` are those of the training alone."""
    config.check_sizes()
    if config.epochs == 0:
        scenes = draw_scenes(objects(config, train), 2 * config.held_out, config.layout, seed)
        return Run({"count_accuracy": ink_control(scenes, held_out(config, test))}, None, 0.0)
    shown, watched = (train, test) if config.watch == "test" else train_validation_split(train)
    layout = config.measured or config.layout
    hook = Counting(draw_scenes(objects(config, watched), config.watched, layout, WATCHED).to(device))
    model, history = globals()["train"](config, shown, seed, device, hooks=[hook], progress=progress)
    finished({}, None, history, model)  # an interrupted training is not measured
    metrics = (
        evaluate(model, config, test, seed) | hook.metrics() | {"ms_per_step": 1e3 * history.seconds / history.steps}
    )
    counted = metrics["count_accuracy"]
    return finished(metrics, f"count accuracy {counted:.1%}" if counted < THRESHOLD else None, history, model)


# Speed


def our_steps(digits: Digits, device: str = "cpu", config: Config = EXACT) -> Iterator[None]:
    """An endless run of the library's own training steps of a variant, scenes included: each `next` is one."""
    model = build(config).to(device).train()
    shown = training_set(config, digits, 0).to(device)
    arguments = schedules(model)
    training = TrainingRun(model, shown, learning_rate=config.learning_rate, arguments=arguments)
    while True:
        for batch in training.digits.batches(config.batch_size, training.order):
            training.step(batch)
            yield


def our_scenes(digits: Digits, n: int, device: str = "cpu", layout: Layout = DIAGONAL) -> Iterator[Tensor]:
    """An endless run of n scenes at a time, placed as the tutorial places them unless told otherwise."""
    shown = fresh_scenes(digits.to(device), n, layout)
    generator = torch.Generator().manual_seed(0)
    while True:
        yield torch.cat([batch.images for batch in shown.batches(EXACT.batch_size, generator)])


def bench(device: str = "cpu", rounds: int = 7, steps: int = 5) -> dict[str, Any]:
    """Time our whole step against the tutorial's, the making of 640 scenes (placed as the tutorial does, and uniformly), and
    "exact" against our own "reinforce-faithful", each pair in turns in this process."""
    digits = load_digits("train", source="offline")
    whole = compare(our_steps(digits, device), plain_steps(digits), device, rounds, steps)
    made, uniform = (
        compare(our_scenes(digits, 640, device, layout), plain_scenes(digits, 640), device, rounds, 1)
        for layout in (DIAGONAL, UNIFORM)
    )
    faithful = compare(our_steps(digits, device), our_steps(digits, device, FAITHFUL), device, rounds, steps)
    parts = {"scenes": made, "uniform": uniform, "faithful": faithful}
    names = ("ours_ms", "plain_ms", "ratio")
    return {"experiment": "air", **whole, **{f"{part}_{name}": parts[part][name] for part in parts for name in names}}


def from_file(config: dict[str, Any]) -> AIR:
    """A model of the configuration in a weights file, where tuples are lists."""
    return AIR(AIRConfig(**{name: tuple(v) if isinstance(v, list) else v for name, v in config.items()}))


STATES = ("exact",)  # the variant whose trained state (seed 0) is shipped
_states = States("air", STATES, VARIANTS, train, from_file, bits=8)
state_path, save_state, load_state = _states.path, _states.save, _states.load
