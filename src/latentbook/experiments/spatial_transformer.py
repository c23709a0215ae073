"""Chapter 04's experiment: a window learns to undo random shifts and scales, by a network or by plain gradient descent."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field, replace
from typing import Any, ClassVar

import torch
from jaxtyping import Float
from torch import Tensor, nn

from latentbook import checks, evaluation
from latentbook.data.digits import Digits, load_digits
from latentbook.experiments.originals.localisation import plain_steps
from latentbook.experiments.run import Run, finished, train_as
from latentbook.experiments.states import States
from latentbook.experiments.timing import compare
from latentbook.layers.spatial_transformer import check_where, image_to_window, window_to_image
from latentbook.models.localisation import SLACK, WINDOW, Localisation, LocalisationConfig, place
from latentbook.training.loop import History, TrainingRun, check_device, fit, initialise

THRESHOLD_TEXT = (
    "an exception, a NaN, or a network in whose windows the judge names fewer digits than the whole canvas's 65 %"
)
THRESHOLD = 0.65


TARGETS = ("cross_entropy", "pixels", "where")  # the terms of the loss


@dataclass(frozen=True)
class Config:
    """One variant of the localisation network and how it is trained. Raises ValueError for numbers out of range."""

    model: LocalisationConfig = field(default_factory=LocalisationConfig)
    target: str = "cross_entropy"  # the term of the loss that trains; the others are only watched
    examples: int = 20_000  # digits an epoch; scenes are new each time, so more digits add little
    epochs: int = 3
    batch_size: int = 128
    learning_rate: float = 4e-3  # at its highest
    schedule: ClassVar[str] = "one-cycle"  # of every variant, so it is no choice
    reader_epochs: int = 2  # on all untouched digits, before the network's training; 0 where the reader learns with it

    def __post_init__(self) -> None:
        least = {"examples": 1, "epochs": 0, "batch_size": 1, "reader_epochs": 0}
        checks.fields_fit(self, at_least=least, above={"learning_rate": 0}, choices={"target": TARGETS})


@dataclass(frozen=True)
class Descent:
    """No network: gradient descent on the `where` of every single canvas, towards the untouched digit."""

    start_scale: float = 1.5  # as the network's
    blur: float = 0.0  # pixels: standard deviation with which both pictures are blurred at first, falling to 0 halfway
    steps: int = 100  # of Adam
    step_size: float = 0.05  # in log-scale and in halves of the canvas: a pixel a step
    examples: int = 1000

    def __post_init__(self) -> None:
        least = {"blur": 0, "steps": 1, "examples": 1}
        checks.fields_fit(self, at_least=least, above={"start_scale": 0, "step_size": 0})


READER = Config()
JOINT = Config(LocalisationConfig(reader_learns=True), reader_epochs=0)
SMALL = 4.0  # the scale of a window of 10 of the canvas's 40 pixels: it cuts or misses most digits
VARIANTS: dict[str, Config | Descent] = {
    "reader": READER,
    "pixels": replace(READER, target="pixels"),
    "where": replace(READER, target="where"),
    "reader-small": replace(READER, model=LocalisationConfig(start_scale=SMALL)),
    "where-small": replace(READER, target="where", model=LocalisationConfig(start_scale=SMALL)),
    "joint": JOINT,
    "whole": replace(JOINT, model=replace(JOINT.model, looks="whole")),
    "untrained": replace(READER, epochs=0, reader_epochs=0),
    "descent": Descent(),
    "descent-small": Descent(start_scale=SMALL),
    "descent-blurred": Descent(blur=3.0),
    "descent-small-blurred": Descent(start_scale=SMALL, blur=3.0),
}
SEEDS = dict.fromkeys(VARIANTS, 5)  # how many the book measures of each, from 0 on


def build(config: Config, seed: int = 0) -> Localisation:
    """The variant's model with its initial weights drawn under a seed."""
    return initialise(lambda: Localisation(config.model), seed)


def train(
    config: Config, digits: Digits, seed: int, device: str = "cpu", progress: bool = True, **options: Any
) -> tuple[Localisation, History]:
    """Teach the reader, then the network as its configuration says; returns the model and the network's history.

    options: those of `train_as`.
    """
    model = build(config, seed)
    if config.reader_epochs:
        reader = model.reader.requires_grad_(True)
        settings = {"batch_size": config.batch_size, "seed": seed, "device": device, "progress": progress}
        fit(reader, digits, epochs=config.reader_epochs, **settings)
        reader.requires_grad_(False)
    weights = {name: float(name == config.target) for name in TARGETS}
    shown = digits.take(slice(0, config.examples))
    return train_as(config, model, shown, seed, device, weights=weights, progress=progress, **options)


class Windows:
    """A hook that keeps `where` of some canvases before training and after every epoch: [n, 3] each."""

    def __init__(self, canvas: Tensor):
        self.canvas = canvas
        self.where: list[Tensor] = []

    def prepare(self, model: Localisation, history: History) -> None:
        """Before training: raises ValueError where the canvases are on another device than the model."""
        check_device("canvases whose windows are kept", self.canvas, model)

    @torch.no_grad()
    def __call__(self, model: Localisation, history: History | None = None) -> None:
        self.where.append(model.eval().where(self.canvas).cpu())


# Gradient descent without a network


def unplace(place: Float[Tensor, "*batch 3"]) -> Float[Tensor, "*batch 3"]:
    """The `where` of (log scale, centre x, centre y): the inverse of `place`."""
    place = checks.as_tensor("place", place)
    scale = place[..., :1].exp()
    return torch.cat([scale, -scale * place[..., 1:]], -1)


def blurred(images: Float[Tensor, "n 1 height width"], deviation: float) -> Float[Tensor, "n 1 height width"]:
    """Gaussian blur of so many pixels; none at 0."""
    from torchvision.transforms.v2.functional import gaussian_blur  # seconds to import, and only a descent needs it

    return gaussian_blur(images, 2 * round(3 * deviation) + 1, deviation) if deviation > 0.2 else images


def descend(
    canvas: Float[Tensor, "n 1 height width"],
    target: Float[Tensor, "n 1 28 28"],
    where: Float[Tensor, "n 3"],
    steps: int = 100,
    step_size: float = 0.05,
    blur: float = 0.0,
) -> Float[Tensor, "steps n 3"]:
    """Move every window by Adam so that it shows its target, by squared distance;
    returns its `where` after each step.

    blur: see `Descent`. A window whose gradient is zero at the start stays where it is.
    Raises ValueError for pictures outside [0, 1] or of other shapes, one for each
    window, and numbers out of range.
    """
    where = check_where(where)
    n = len(where)
    canvas = checks.grey(
        "canvas",
        canvas,
        (n, 1, "height", "width"),
        where.dtype,
        slack=SLACK,
    )
    target = checks.grey("target", target, (n, 1, WINDOW, WINDOW), where.dtype)
    Descent(steps=steps, step_size=step_size, blur=blur)  # refuses what is out of range
    moved = place(where).detach().clone().requires_grad_()
    optimizer, path = torch.optim.Adam([moved], lr=step_size), []
    for step in range(steps):
        if step % 10 == 0:  # blurring costs more than a step
            deviation = blur * max(0.0, 1 - 2 * step / steps)
            seen, wanted = blurred(canvas, deviation), blurred(target, deviation)
        window = image_to_window(seen, unplace(moved), WINDOW)
        optimizer.zero_grad()
        (window - wanted).square().sum().backward()
        optimizer.step()
        path.append(unplace(moved.detach()))
    return torch.stack(path)


# Measures


def as_judged(window: Float[Tensor, "n 1 28 28"]) -> Float[Tensor, "n 1 28 28"]:
    """A window as the judge takes it: in float32, and what rounding in the interpolation left outside [0, 1] put back."""
    return window.float().clamp(0, 1)


@torch.no_grad()
def measures(canvas: Tensor, where: Tensor, true: Tensor, labels: Tensor) -> dict[str, float]:
    """How often the judge names the digit in the windows `where`, and how far they are from the true ones.

    missed_share: windows that hold less than half of their digit's ink. centre_error: the distance of the centres in
    pixels of the canvas. scale_error: of the log-scales, and scale_bias their mean difference (below 0: too wide).
    Raises ValueError unless there is one of each for every square canvas, all in range.
    """
    where, true = check_where(where), check_where(true)
    canvas = checks.as_tensor("canvas", canvas)
    n, size = checks.same_length(canvas=canvas, where=where, true=true), canvas.shape[-1]
    canvas = checks.grey("canvas", canvas, (n, 1, size, size), where.dtype, slack=SLACK)
    for name, part in (("where", where), ("true", true)):
        checks.shaped(name, part, (n, 3))
    labels = checks.class_numbers("labels", labels, n)
    window = image_to_window(canvas, where, WINDOW)
    covered = window_to_image(torch.ones_like(window), where, size)
    ink = (covered * canvas).sum((1, 2, 3)) / canvas.sum((1, 2, 3))
    error = place(where) - place(true)
    return {
        "agreement": evaluation.agreement(as_judged(window), labels),
        "centre_error": float(error[:, 1:].norm(dim=1).mean() * size / 2),
        "scale_error": float(error[:, 0].abs().mean()),
        "scale_bias": float(error[:, 0].mean()),
        "missed_share": float((ink < 0.5).float().mean()),
    }


@torch.no_grad()
def evaluate(model: Localisation, test: Digits, seed: int) -> dict[str, float]:
    """The chapter's figures for one network, on new scenes of all given digits."""
    model.eval()
    canvas, true = model.scene(test.images, torch.Generator(test.images.device).manual_seed(seed + 1))
    read = model.reader(model(canvas)).argmax(1) == test.labels
    return measures(canvas, model.where(canvas), true, test.labels) | {"reader_accuracy": float(read.float().mean())}


def evaluate_descent(config: Descent, test: Digits, seed: int) -> dict[str, float]:
    """The same figures for windows that were moved one by one."""
    test = test.take(slice(0, config.examples))
    canvas, true = Localisation().scene(test.images, torch.Generator(test.images.device).manual_seed(seed + 1))
    start = canvas.new_tensor([config.start_scale, 0.0, 0.0]).expand(len(canvas), 3)
    path = descend(canvas, test.images, start, config.steps, config.step_size, config.blur)
    return measures(canvas, path[-1], true, test.labels)


@torch.no_grad()
def controls(model: Localisation, test: Digits, seed: int) -> dict[str, float]:
    """What the judge names without any window, on the whole canvas, and in the true windows, of the same scenes."""
    canvas, true = model.scene(test.images, torch.Generator(test.images.device).manual_seed(seed + 1))
    whole = canvas.new_tensor([1.0, 0.0, 0.0]).expand(len(canvas), 3)
    return {
        f"{name}_agreement": evaluation.agreement(as_judged(image_to_window(canvas, where, WINDOW)), test.labels)
        for name, where in (("canvas", whole), ("true_window", true))
    }


def run(
    variant: str,
    seed: int,
    *,
    config: Config | Descent,
    train: Digits,
    test: Digits,
    device: str = "cpu",
    progress: bool = True,
) -> Run:
    """Train (unless there is nothing to train) and evaluate one seed. Its `seconds` are those of the network's training."""
    test = test.to(device)
    if isinstance(config, Descent):
        return Run(evaluate_descent(config, test, seed), None, 0.0)
    if config.epochs == 0:
        model: nn.Module = build(config, seed).to(device)
        return Run(evaluate(model, test, seed) | controls(model, test, seed), None, 0.0, model)
    model, history = globals()["train"](config, train, seed, device, progress=progress)
    metrics = evaluate(model, test, seed)
    useless = config.model.looks == "window" and metrics["agreement"] < THRESHOLD
    return finished(metrics, f"agreement {metrics['agreement']:.1%}" if useless else None, history, model)


# Speed


def our_steps(digits: Digits, device: str = "cpu") -> Iterator[None]:
    """An endless run of the library's own training steps of "reader": each `next` is one."""
    training = TrainingRun(
        build(READER).to(device).train(),
        digits.to(device),
        learning_rate=READER.learning_rate,
        weights={"pixels": 0.0, "where": 0.0},
    )
    while True:
        for batch in training.digits.batches(READER.batch_size, training.order):
            if len(batch.labels) == READER.batch_size:
                training.step(batch)
                yield


def bench(device: str = "cpu", rounds: int = 7, steps: int = 10) -> dict[str, Any]:
    """Time our whole step against one image at a time, same batch size, in turns in this process: milliseconds a step."""
    digits = load_digits("train", source="offline").take(slice(0, 1280))
    return {"experiment": "spatial-transformer"} | compare(
        our_steps(digits, device), plain_steps(digits), device, rounds, steps
    )


STATES = ("reader",)  # the variant whose trained state (seed 0) is shipped
_states = States(
    "spatial-transformer", STATES, VARIANTS, train, lambda config: Localisation(LocalisationConfig(**config)), bits=16
)
state_path, save_state, load_state = _states.path, _states.save, _states.load
