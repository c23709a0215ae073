"""CollapseFigure: a small VAE that trains where the figure stands, and four instruments that say whether it listens."""

import base64
import copy
import math
import zlib
from collections.abc import Callable, Mapping
from typing import Any, ClassVar

import numpy as np
import torch
import torch.nn.functional as F
import traitlets
from matplotlib.figure import Figure
from torch import Tensor, nn

from latentbook import checks
from latentbook.data.digits import Digits
from latentbook.figures.plots import COLOURS, BookFigure, book_style
from latentbook.layers.distributions import bernoulli_nll
from latentbook.models.vae import VAE, VAEConfig
from latentbook.training.loop import History, fit, initialise
from latentbook.widgets.base import StaticWidget, Whole, compose
from latentbook.widgets.export import export_model, read_model, seeded_noise
from latentbook.widgets.plane import draw_codes
from latentbook.widgets.sprites import draw_mosaic

SIDE, HIDDEN, LATENT = 14, 64, 2  # 196-64-2: a step takes some two milliseconds in the page
LEVELS = 31  # of grey: a third less to send than all 255, and the eye sees no difference
RATE, BATCH = 5e-3, 32  # a code that collapses at beta 8 does so within 200 steps, and is back as fast
SHOWN = 8  # digits and samples
SOME = 512  # digits on which reconstruction and listening are measured
GAUGE_SEED, SAMPLE_SEED = 7, 8  # of the instruments' noise, the same at every step; of the samples' codes
SHIFTS = [97 * k for k in range(1, 6)]  # by which the control deals labels to other digits
MOST = 4000  # steps of a run in the page
# The runs that the answers quote, from the trained model or from its start: (from the start?, epochs, model, weights).
RUNS: dict[str, tuple[bool, int, dict[str, Any], dict[str, float]]] = {
    "beta": (False, 6, {}, {"kl": 8.0}),
    "neighbours": (True, 8, {"teacher_forcing": True}, {}),
    "mean": (False, 4, {}, {"bce": 1 / SIDE**2}),
}


class CollapseFigure(StaticWidget):
    """A VAE of two latent units that trains in the page, on small digits: the reader weighs its KL, breaks it, and watches
    the codes and four instruments: the KL of each unit, listening (by how many nats a digit is reconstructed worse from
    another's code), a probe of the class on sampled codes, and its control.

    It begins with a model that `fit` has trained; what the answers to its questions say was measured on runs of the same kind.

    digits: 28x28 training digits with labels, of which the first `count` are used, at 14x14. epochs, seed: of the training.
    plan: what holds from which step of the run on, [[step, beta, neighbours, mean], ...], the last two 0 or 1; steps: how far
    the run is; scratch: whether it begins with an untrained model; point: the code that is decoded. All four are synced.

    Raises ValueError for digits of another size, or too few.
    """

    _name: ClassVar[str] = "collapse"
    _saved: ClassVar[tuple[str, ...]] = (
        "digits", "labels", "network", "recorded", "training", "plan", "steps", "scratch", "point", "caption",
    )  # fmt: skip
    _esm = compose("collapse", ".js", "sampling", "engine", "plane")
    _css = compose("collapse", ".css", "plane")

    digits = traitlets.Bytes().tag(sync=True)  # deflated grey values [count * 196]
    labels = traitlets.Unicode().tag(sync=True)  # a figure each
    network = traitlets.Bytes().tag(sync=True)  # the trained model, as export_model has it
    recorded = traitlets.Dict().tag(sync=True)
    training = traitlets.Dict().tag(sync=True)
    plan = traitlets.List([[0, 1, 0, 0]]).tag(sync=True)
    steps = Whole(0).tag(sync=True)
    scratch = traitlets.Bool(False).tag(sync=True)
    point = traitlets.List([0.0, 0.0]).tag(sync=True)
    caption = traitlets.Unicode(
        "A VAE of two latent units trains here, on your machine, on small digits. Four instruments follow it; the replay goes "
        "back through its steps."
    ).tag(sync=True)

    def __init__(self, digits: Digits, *, count: int = 2000, epochs: int = 48, seed: int = 0, **traits: Any) -> None:
        small = shrunk(digits, checks.count("count", count, least=2 * SHOWN))
        model = initialise(lambda: VAE(config()), seed)
        history: list[dict[str, Any]] = []
        train(model, small, epochs, seed, lambda: history.append(gauge(model, small)))
        packed = export_model(model, bits=16)
        model = read_model(packed)
        steps = math.ceil(len(small) / BATCH) * len(history)
        history[-1] = gauge(model, small)
        means = model.encode(small.images).mean.detach()
        super().__init__(
            digits=zlib.compress((small.images * 255).round().byte().numpy().tobytes(), 9),
            labels="".join(map(str, small.labels.tolist())),
            network=packed,
            recorded={
                "history": [row | {"steps": steps * (k + 1) // len(history)} for k, row in enumerate(history)],
                "means": base64.b64encode((1000 * means).round().short().numpy().astype("<i2").tobytes()).decode(),
                "shown": shown(small.labels),
                "outcomes": {name: outcome(model, small, seed, *run) for name, run in RUNS.items()},
            },
            training={"learningRate": RATE, "batch": BATCH, "hidden": HIDDEN, "seed": seed, "steps": steps},
            **traits,
        )

    @traitlets.validate("plan")
    def _check_plan(self, proposal: dict) -> list:
        try:
            return checked_plan(proposal["value"])
        except ValueError as error:
            raise traitlets.TraitError(str(error)) from error

    def images(self) -> Tensor:
        """The digits as the model reads them, [count, 1, 14, 14]."""
        grey = np.frombuffer(zlib.decompress(self.digits), np.uint8).reshape(-1, 1, SIDE, SIDE)
        return torch.from_numpy(grey.astype(np.float32) / 255)

    def codes(self) -> np.ndarray:
        """The means of the trained model's codes, [count, 2]."""
        return np.frombuffer(base64.b64decode(self.recorded["means"]), "<i2").reshape(-1, LATENT) / 1000

    def describe(self) -> str:
        now, after = self.recorded["history"][-1], self.recorded["outcomes"]["beta"]["after"]
        return (
            f"Left, the codes of {len(self.labels)} digits on a plane, as figures of their class, spread over the prior's "
            f"circles. Right, digits, what is decoded from their own codes and from the next digit's, and samples. "
            f"Below, the training: the loss falls to {loss(now):.1f} nats, the two units cost {now['kls'][0]:.2f} and "
            f"{now['kls'][1]:.2f} nats, listening rises to {now['listening']:.1f} nats, and a probe names "
            f"{now['probe']:.0%} of the classes, its control {now['control']:.0%}. With beta 8 the code's KL would fall to "
            f"{sum(after['kls']):.2f} nats."
        )

    @book_style()
    def still(self) -> Figure:
        figure = BookFigure(figsize=(7.2, 5.2))
        plane = figure.add_axes((0.01, 0.36, 0.42, 0.6))
        draw_codes(plane, self.codes(), self.labels)
        model, images, chosen = read_model(self.network), self.images(), self.recorded["shown"]
        z = torch.from_numpy(self.codes()[chosen]).float()
        samples = torch.from_numpy(seeded_noise(SAMPLE_SEED, LATENT * SHOWN)).float().view(SHOWN, LATENT)
        with torch.no_grad():
            drawn = [images[chosen].flatten(1), *(model.decode(one).sigmoid() for one in (z, z.roll(-1, 0), samples))]
        rows = (255 * torch.stack(drawn) + 0.5).byte().view(4, SHOWN, SIDE, SIDE).numpy()
        for k, (title, row) in enumerate(
            zip(("digits", "own code", "the next one's code", "samples"), rows, strict=True)
        ):
            axes = figure.add_axes((0.47, 0.81 - 0.15 * k, 0.52, 0.12))
            draw_mosaic(axes, row[None])
            axes.set_title(title, fontsize=9, loc="left", color="#222222", pad=2)
        for k, (title, curves) in enumerate(self.curves().items()):
            axes = figure.add_axes((0.05 + 0.245 * k, 0.07, 0.19, 0.18))
            for (values, colour), style in zip(curves, ("-", "--"), strict=False):
                axes.plot([row["steps"] for row in self.recorded["history"]], values, style, color=colour)
            axes.set_title(title, fontsize=9, loc="left", color="#222222", pad=3)
            axes.tick_params(labelsize=7.5)
            axes.set_ylim(bottom=None if k == 0 else 0)
        return figure

    def curves(self) -> dict[str, list[tuple[list[float], str]]]:
        """What the instruments said while the model was trained, by their titles, each with its colour."""
        rows, green = self.recorded["history"], COLOURS["latent"]
        return {
            "loss (nats)": [([loss(row) for row in rows], "#333333")],
            "KL per unit (nats)": [([row["kls"][k] for row in rows], green) for k in range(LATENT)],
            "listening (nats)": [([row["listening"] for row in rows], COLOURS["data"])],
            "probe, control": [
                ([row["probe"] for row in rows], COLOURS["class"]),
                ([row["control"] for row in rows], "#666666"),
            ],
        }


def config(**more: Any) -> VAEConfig:
    return VAEConfig(pixels=SIDE**2, hidden_dim=HIDDEN, latent_dim=LATENT, **more)


def shrunk(digits: Digits, count: int) -> Digits:
    """The first digits, each window of 2 by 2 pixels one of 32 greys. Raises ValueError for too few, or another size."""
    if tuple(digits.images.shape[1:]) != (1, 2 * SIDE, 2 * SIDE) or len(digits) < 2 * SHOWN:
        raise ValueError(
            f"digits must be at least {2 * SHOWN} of {2 * SIDE}x{2 * SIDE} pixels, got {list(digits.images.shape)}"
        )
    few = digits.take(slice(count)).to("cpu")
    grey = ((F.avg_pool2d(few.images, 2) * LEVELS).round() / LEVELS * 255).round() / 255  # bytes, as the page gets them
    return Digits(grey, few.labels, digits.source, digits.sha256, digits.split)


def train(
    model: nn.Module, small: Digits, epochs: int, seed: int, after: Callable[[], None] = lambda: None, **weights: float
) -> None:
    """Some epochs as the page trains; weights: of the loss's terms."""

    def each(model: nn.Module, history: History) -> None:
        after()

    fit(
        model, small, epochs=epochs, batch_size=BATCH, learning_rate=RATE, weights=weights, seed=seed, on_epoch_end=each,
        progress=False,
    )  # fmt: skip


def outcome(
    model: VAE,
    small: Digits,
    seed: int,
    scratch: bool,
    epochs: int,
    choices: Mapping[str, Any],
    weights: Mapping[str, float],
) -> dict[str, Any]:
    """{"after": what the instruments say after a run of RUNS, "steps": of it}."""
    other = initialise(lambda: VAE(config(**choices)), seed) if scratch else copy.deepcopy(model)
    train(other, small, epochs, seed + 1, **weights)
    return {"after": gauge(other, small), "steps": math.ceil(len(small) / BATCH) * epochs}


def loss(row: Mapping[str, Any]) -> float:
    """The negative ELBO, in nats."""
    return row["bce"] + sum(row["kls"])


@torch.no_grad()
def gauge(model: VAE, small: Digits) -> dict[str, Any]:
    """The instruments, as VAETrainer of engine.js has them: {"bce", "kls", "listening", "probe", "control", "spread"}.

    KL of each unit: over all digits. bce and listening: of 512 at most, whose codes are sampled; listening is how much the
    bce rises where each is decoded with the code of the next one. probe: the share of the second half of sampled codes
    whose nearest class mean, of those in the first half, is their own class's; control: the same with other digits' labels.
    """
    q, n = model.encode(small.images), len(small)
    noise = torch.from_numpy(seeded_noise(GAUGE_SEED, n * LATENT)).to(q.mean).view(n, LATENT)
    z, x = q.sample(noise), small.images[:SOME].flatten(1)
    own = z[:SOME]
    bce, other = (
        bernoulli_nll(model.decode(codes, small.images[:SOME]), x).sum(1).mean().item()
        for codes in (own, own.roll(-1, 0))
    )
    found = {
        "bce": bce,
        "kls": q.kl().mean(0).tolist(),
        "listening": other - bce,
        "probe": nearest_mean(z, small.labels),
        "control": float(np.mean([nearest_mean(z, small.labels.roll(-shift)) for shift in SHIFTS])),
        "spread": q.mean.square().mean().sqrt().item(),
    }
    return {
        name: [round(v, 4) for v in value] if isinstance(value, list) else round(value, 4)
        for name, value in found.items()
    }


def nearest_mean(z: Tensor, labels: Tensor) -> float:
    """The share of the second half of codes that lie nearest to the mean of their own class in the first half."""
    half = len(z) // 2
    classes = labels[:half].unique()
    means = torch.stack([z[:half][labels[:half] == label].mean(0) for label in classes])
    nearest = classes[(z[half:, None] - means).square().sum(2).argmin(1)]
    return (nearest == labels[half:]).float().mean().item()


def shown(labels: Tensor) -> list[int]:
    """The numbers of the digits to show: the first of each of eight classes, where there are so many."""
    first = [int((labels == label).nonzero()[0]) for label in labels.unique()]
    more = [k for k in range(len(labels)) if k not in first]
    return (first + more)[:SHOWN]


def checked_plan(plan: Any) -> list[list[float]]:
    """A plan of a run; raises ValueError for what is none."""
    fits = (
        isinstance(plan, list | tuple)
        and len(plan) > 0
        and all(isinstance(row, list | tuple) and len(row) == 4 for row in plan)
    )
    steps = [row[0] for row in plan] if fits else []
    if not fits or steps[0] != 0 or sorted(set(steps)) != steps or steps[-1] > MOST:
        raise ValueError(
            f"plan must be [[step, beta, neighbours, mean], ...] from step 0 on, each step later, got {plan!r}"
        )
    for _, beta, *switches in plan:
        if not 0 <= checks.number("beta", beta) <= 30 or any(one not in (0, 1) for one in switches):
            raise ValueError(f"beta must be between 0 and 30 and neighbours and mean 0 or 1, got {[beta, *switches]}")
    return [list(row) for row in plan]
