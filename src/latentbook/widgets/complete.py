"""CompleteFigure: write the foot of a digit, and three decoders complete it 18 times each, as the judge sees it."""

import functools
import math
import zlib
from collections import Counter
from collections.abc import Iterator, Sequence
from typing import Any, ClassVar

import numpy as np
import torch
import traitlets
from matplotlib.figure import Figure
from torch import Tensor

from latentbook import checks
from latentbook.experiments import mix_and_match, results
from latentbook.figures.plots import BookFigure, book_style
from latentbook.models.mix_and_match import MixAndMatch, MixAndMatchConfig
from latentbook.widgets import pad
from latentbook.widgets.base import Whole, compose
from latentbook.widgets.checks import refused
from latentbook.widgets.export import read_model, seeded_noise, shipped_model
from latentbook.widgets.model import ModelFigure
from latentbook.widgets.sprites import draw_mosaic, grey_bytes
from latentbook.words import a_digit

# The models by the traits that hold them, and the variant of each: concatenation is trained as the published recipe is.
MODELS = {"published": "example-mask", "fixed": "best", "concatenation": "concatenation"}
NAMES = ("published recipe", "fixed recipe", "concatenation")
NOTES = ("mixed, prior {prior}", "prior {prior}, other training", "side by side, else as published")
COUNT = 18  # completions, as in the original's figure
SHAPE = MixAndMatchConfig()
CUT = SHAPE.data_dim // 28  # the row in which the foot begins, ragged: SHAPE.data_dim is no multiple of 28
CUT_AT = math.floor(10 * (CUT - pad.PEN / 2 - 0.5)) / 10  # strokes that end above this leave no ink in the foot
DRAWS = ("redrawn", "held")
PRIORS = ("conditional", "standard")
TONE = "#CC79A7"  # of a class


class CompleteFigure(ModelFigure):
    """A pad to write the lower part of a digit on, and 18 completions of it by each of three models, with the judge's votes.

    All three get the same noise and the same masks. All of it is computed where the figure stands, and nothing that is
    written leaves it.

    digit: whose foot stands on the pad at first. strokes: what is on the pad, lists of points [x, y] in 28 x 28 pixels;
    synced: `figure.strokes` follows the hand. z, mask: "redrawn" for each completion, or "held", one for all. z_seed,
    mask_seed: which ones. alpha: how many features the decoder gets of the foot, where it mixes. prior: "standard" takes
    away that of a model which has one given the foot.

    Raises ValueError for a digit that is none and strokes that leave the pad, traitlets.TraitError for values that no control
    of the figure can have.
    """

    _name: ClassVar[str] = "complete"
    _saved: ClassVar[tuple[str, ...]] = (
        *MODELS, "judge", "names", "kinds", "feet", "digit", "strokes", "z", "mask", "z_seed", "mask_seed", "alpha", "prior",
        "seen", "tops", "differences", "measured", "caption",
    )  # fmt: skip
    _esm = compose("complete", ".js", "sampling", "engine", "pad")
    _css = compose("complete", ".css", "pad")

    published = traitlets.Bytes().tag(sync=True)
    fixed = traitlets.Bytes().tag(sync=True)
    concatenation = traitlets.Bytes().tag(sync=True)
    judge = traitlets.Bytes().tag(sync=True)
    names = traitlets.List().tag(sync=True)
    kinds = traitlets.List().tag(sync=True)  # for each model {"file", "mixing", "prior", "note"}
    feet = traitlets.Dict().tag(sync=True)
    digit = Whole(6).tag(sync=True)
    strokes = traitlets.List().tag(sync=True)
    z = traitlets.Enum(DRAWS, "redrawn").tag(sync=True)
    mask = traitlets.Enum(DRAWS, "redrawn").tag(sync=True)
    z_seed = Whole(0).tag(sync=True)
    mask_seed = Whole(0).tag(sync=True)
    alpha = Whole(SHAPE.alpha).tag(sync=True)
    prior = traitlets.Enum(PRIORS, "conditional").tag(sync=True)
    seen = traitlets.List().tag(
        sync=True
    )  # the start, for as long as the models are on their way: what the judge sees,
    tops = traitlets.Bytes().tag(sync=True)  # and the completed pixels, uint8 [models, 18, 500], deflated
    differences = traitlets.List().tag(sync=True)  # rows of a table: what, and a text for each model
    measured = traitlets.Unicode().tag(sync=True)
    caption = traitlets.Unicode(
        "Same foot, same noise, same masks for all three. A judge, a separate classifier of digits, votes when the pen rests. "
        "What you write stays in this page; only a link that you copy holds it."
    ).tag(sync=True)

    def __init__(self, *, digit: int = 6, strokes: Any = None, **traits: Any) -> None:
        digit = checks.count("digit", digit, 0, 9)
        strokes = feet()[str(digit)] if strokes is None else pad.drawing(strokes)
        files = {name: shipped_model(f"mix-and-match-{variant}") for name, variant in MODELS.items()}
        configs = [mix_and_match.VARIANTS[variant].model for variant in MODELS.values()]
        super().__init__(
            **files,
            judge=shipped_model("judge"),
            names=list(NAMES),
            kinds=[
                {"file": file, "mixing": config.mixing, "prior": config.prior, "note": note}
                for file, config, note in zip(MODELS, configs, NOTES, strict=True)
            ],
            feet=feet(),
            digit=digit,
            strokes=strokes,
            **traits,
            differences=[list(row) for row in differences()],
            measured=rivals(),
        )
        self.record()

    @traitlets.validate("alpha", "z_seed", "mask_seed")
    def _check_counts(self, proposal: dict) -> int:
        name, value = proposal["trait"].name, proposal["value"]
        most = SHAPE.hidden_dim if name == "alpha" else 2**31 - 1
        if not 0 <= value <= most:
            raise traitlets.TraitError(f"{name} must be between 0 and {most}, got {value}")
        return value

    @traitlets.validate("strokes")
    def _check_strokes(self, proposal: dict) -> list:
        return refused(lambda: pad.drawing(proposal["value"]))

    def record(self) -> None:
        """Keep what the models draw in the present state, which is shown until they are there."""
        pictures, self.seen = self.answers()
        self.tops = zlib.compress(grey_bytes(pictures)[:, :, : SHAPE.data_dim].tobytes(), 9)

    def state(self) -> dict[str, Any]:
        """The saved traits, with a record of the state that they tell: a hand may have changed it."""
        self.record()
        return super().state()

    def answers(self) -> tuple[Tensor, list[list[int]]]:
        """The pictures [models, 18, 784] of the present state, grey values 0 to 1, and what the judge sees in each."""
        noise, mask = seeded(self.z_seed, SHAPE.latent_dim), masks(self.mask_seed, self.alpha)
        noise = noise[:1].expand_as(noise) if self.z == "held" else noise
        mask = mask[:1].expand_as(mask) if self.mask == "held" else mask
        models = [reading(getattr(self, name)) for name in MODELS]
        pictures = torch.stack([completed(model, foot(self.strokes), noise, mask, self.prior) for model in models])
        with torch.no_grad():
            seen = reading(self.judge)(pictures.view(-1, 1, 28, 28)).argmax(1).view(len(models), COUNT)
        return pictures, seen.tolist()

    def describe(self) -> str:
        if not foot(self.strokes).any():
            return "A pad without a foot, and three models that wait for one."
        _, seen = self.answers()
        told = "; ".join(f"{name}: {in_words(row)}" for name, row in zip(self.names, seen, strict=True))
        return (
            f"The foot of a digit, and {COUNT} completions of it by each of three models. What the judge sees: {told}."
        )

    @book_style()
    def still(self) -> Figure:
        pictures, seen = self.answers()
        figure = BookFigure(figsize=(7.2, 2.5))
        axes = figure.add_axes((0.0, 0.42, 0.13, 0.42))
        draw_mosaic(axes, grey_bytes(foot(self.strokes)).reshape(1, 1, 28, 28))
        axes.set_title("the foot", fontsize=9.5, loc="left", color="#222222", pad=4)
        for k, name in enumerate(self.names):
            left, width = 0.16 + 0.285 * k, 0.26
            axes = figure.add_axes((left, 0.42, width, 0.46))
            draw_mosaic(axes, grey_bytes(pictures[k]).reshape(3, 6, 28, 28))
            axes.set_title(
                f"{name}: {different(seen[k]).replace(' different', '')}",
                fontsize=9.5,
                loc="left",
                color="#222222",
                pad=4,
            )
            votes = figure.add_axes((left, 0.12, width, 0.24))
            counts = Counter(seen[k])
            votes.bar(range(10), [counts[digit] for digit in range(10)], color=TONE, width=0.7)
            votes.set(xticks=range(10), yticks=[], ylim=(0, COUNT))
            votes.tick_params(length=0, labelsize=8, pad=1)
            votes.spines[["left", "right", "top"]].set_visible(False)
            votes.grid(False)
        return figure


reading = functools.lru_cache(8)(read_model)  # a picture, its words and its start need the same four


def feet() -> dict[str, list]:
    """The lower parts of the sample digits, each placed as MNIST's digits are: strokes by digit."""
    return {digit: lower(pad.centred(strokes)) for digit, strokes in pad.SAMPLES.items()}


def lower(strokes: pad.Strokes, top: float = CUT_AT) -> list[list[list[float]]]:
    """Strokes without what lies above the row `top`, to a tenth of a pixel: what is left has all the ink that a foot has."""
    parts: list[list[list[float]]] = []
    for stroke in strokes:
        part: list[list[float]] = []
        for k, (x, y) in enumerate(stroke):
            if k and (y >= top) != (stroke[k - 1][1] >= top):  # it crosses the row
                u, v = stroke[k - 1]
                part.append([round(u + (x - u) * (top - v) / (y - v), 1), top])
            if y >= top:
                part.append([round(x, 1), round(y, 1)])
            elif part:
                parts.append(part)
                part = []
        parts += [part] if part else []
    return parts


def foot(strokes: pad.Strokes) -> Tensor:
    """The pixels [784] of what is written, those above the foot 0."""
    image = torch.from_numpy(pad.rasterise(strokes)).flatten()
    return torch.where(torch.arange(784) < SHAPE.data_dim, 0, image)


def seeded(seed: int, size: int) -> Tensor:
    """N(0, 1) [18, size], as the page draws it."""
    return torch.from_numpy(seeded_noise(seed, COUNT * size)).float().view(COUNT, size)


def masks(seed: int, alpha: int) -> Tensor:
    """Masks [18, hidden], as the page draws them: the alpha highest of a row's scores, as in the model's own sampling."""
    drawn = seeded(seed, SHAPE.hidden_dim).topk(alpha, dim=1).indices
    return torch.zeros(COUNT, SHAPE.hidden_dim, dtype=torch.bool).scatter_(1, drawn, True)


@torch.no_grad()
def completed(model: MixAndMatch, bottom: Tensor, noise: Tensor, mask: Tensor, prior: str = "conditional") -> Tensor:
    """Whole pictures [n, 784] of a foot [784], with noise [n, latent] and mask [n, hidden]; the foot stays as it is.

    prior: "standard" draws z from N(0, I), whatever prior the model has.
    """
    condition = bottom[SHAPE.data_dim :].expand(len(noise), -1)
    q = model.prior(model.condition_encoder(condition))
    tops = model.sample(condition, z=noise if prior == "standard" else q.sample(noise), mask=mask)
    return torch.cat((tops, condition), 1)


def different(seen: Sequence[int]) -> str:
    """How many different digits there are, in words."""
    count = len(set(seen))
    return f"{count} different digit{'s' if count > 1 else ''}"


def in_words(seen: Sequence[int]) -> str:
    """What the judge sees in a model's completions."""
    digit, times = Counter(seen).most_common(1)[0]
    return f"{different(seen)}, most often {a_digit(digit)}, {times} of {len(seen)} times"


def differences() -> Iterator[tuple[str, ...]]:
    """What differs between the models, as their configurations have it, and the share of test digits that come out right."""
    configs = [mix_and_match.VARIANTS[variant] for variant in MODELS.values()]
    some, every = f"{SHAPE.alpha} of {SHAPE.hidden_dim} features", f"all {SHAPE.hidden_dim} features"
    yield "of the foot, the decoder sees", *(every if c.model.mixing == "concatenation" else some for c in configs)
    yield "prior of z", *("given the foot" if c.model.prior == "conditional" else "N(0, 1)" for c in configs)
    rates = {"constant": "constant", "one-cycle": "one-cycle to"}
    yield "learning rate", *(f"{rates[c.schedule]} {c.learning_rate:g}" for c in configs)
    yield "weight of the KL", *(f"{c.kl_weight:g}" for c in configs)
    yield "epochs", *(str(c.epochs) for c in configs)
    yield "the judge sees the true digit", *(f"{share(variant)}" for variant in MODELS.values())


def share(variant: str) -> str:
    """In how many of a hundred completions the judge sees the digit whose foot was given; the mean over recorded seeds."""
    return f"{100 * np.mean(results.load('mix-and-match')['variants'][variant]['metrics']['agreement']):.1f}\u00a0%"


def rivals() -> str:
    """What has to be known before the fixed model is said to be better than concatenation."""
    runs = len(results.load("mix-and-match")["variants"]["best"]["seeds"])
    return (
        f"Last row: 18 completions of each of 10,000 test digits, means of {runs} trainings. Concatenation stands here as the "
        "published recipe's rival: prior, epochs and schedule are the same. Given the fixed recipe's prior and training, it "
        f"reaches {share('concatenation-best')}; digits drawn as a classifier of feet rates them, "
        f"{share('control')}."
    )
