"""How the book measures: an independent judge, diagnostics of a latent, diversity, probes, and the controls beside them.

Every measure takes tensors, arrays or lists and computes in the widest precision of what it is given, float32 at least;
whole numbers and bool become floats. Shapes that do not fit, NaN, and numbers outside [0, 1] where grey values are meant
are a ValueError.
"""

from __future__ import annotations

import math
import warnings
from collections.abc import Callable
from dataclasses import dataclass
from functools import cache, reduce
from importlib.resources import files
from pathlib import Path
from typing import Any

import torch
import torch.nn.functional as F
from jaxtyping import Float, Int
from torch import Tensor, nn

from latentbook import checks
from latentbook.data.digits import Batch, check_batch
from latentbook.layers.distributions import bernoulli_nll
from latentbook.layers.nets import dropout
from latentbook.training.loop import load_weights

WEIGHTS = files("latentbook") / "weights"
PICTURES = ("n", 1, 28, 28)  # what the judge reads
CLASSES = 10


class Judge(nn.Module):
    """A small convolutional classifier of digits, unlike any chapter's model: it alone says what a decoder drew."""

    def __init__(self, channels: int = 16):
        super().__init__()
        channels = checks.count("channels", channels)
        self.features = nn.Sequential(
            nn.Conv2d(1, channels, 5, stride=2, padding=2),  # 14x14
            nn.BatchNorm2d(channels),
            nn.ReLU(),
            nn.Conv2d(channels, 2 * channels, 3, stride=2, padding=1),  # 7x7
            nn.BatchNorm2d(2 * channels),
            nn.ReLU(),
            nn.Conv2d(2 * channels, 2 * channels, 3, padding=1),
            nn.BatchNorm2d(2 * channels),
            nn.ReLU(),
            nn.MaxPool2d(2),  # 3x3
            nn.Flatten(),
        )
        self.head = nn.Linear(2 * channels * 9, 10)

    def forward(self, images: Float[Tensor, "batch 1 28 28"]) -> Float[Tensor, "batch 10"]:
        """Logits of the ten digits."""
        like = self.head.weight
        images = checks.as_tensor("images", images, dtype=like.dtype, device=like.device)
        images = checks.in_float("images", checks.shaped("images", images, PICTURES), like.dtype)
        return self.head(self.features(images))

    def loss(self, batch: Batch, *, generator: torch.Generator | None = None) -> dict[str, Tensor]:
        """{"cross_entropy": [batch]} in nats; in training under dropout, and with the batch shifted by up to 2 pixels.

        Raises ValueError for images that are not grey values [batch, 1, 28, 28], or labels that do not fit them.
        """
        like = self.head.weight
        images = checks.as_tensor(
            "images", check_batch(batch, "images", "labels").images, dtype=like.dtype, device=like.device
        )
        images = checks.grey("images", images, PICTURES, like.dtype)
        labels = checks.class_numbers("labels", batch.labels, len(images), CLASSES, device=like.device)
        if not self.training:
            return {"cross_entropy": F.cross_entropy(self(images), labels, reduction="none")}
        shift = torch.randint(-2, 3, (2,), generator=generator, device=generator.device if generator else None)
        features = self.features(torch.roll(images, tuple(shift.tolist()), dims=(2, 3)))
        logits = self.head(dropout(features, 0.3, generator))
        return {"cross_entropy": F.cross_entropy(logits, labels, reduction="none")}


def load_judge(device: str | torch.device = "cpu") -> Judge:
    """The shipped judge, trained on MNIST by `python -m latentbook train-judge`, in evaluation mode and float32.

    It is loaded once for each device, however that is named. Raises ValueError for one that is not here.
    """
    return _load_judge(
        torch.empty(0, device=checks.device("device", device)).device
    )  # "cuda" is the current one, by its number


@cache
def _load_judge(device: torch.device) -> Judge:
    return load_weights(Path(str(WEIGHTS / "judge.safetensors")), lambda config: Judge()).float().to(device)


@torch.no_grad()
def judged(
    images: Float[Tensor, "n 1 28 28"], judge: nn.Module | None = None, batch_size: int = 2000
) -> Int[Tensor, " n"]:
    """The judge's label for each image. Give decoder means, never Bernoulli draws: the judge has seen smooth grey only.

    Images of any precision are judged in the judge's own, rounded where theirs is wider: it only says which digit it is.
    Raises ValueError for images that are not grey values [n, 1, 28, 28], n >= 1.
    """
    images = _pictures(images)
    judge = load_judge(images.device) if judge is None else checks.kind("judge", judge, nn.Module)
    like = next(judge.parameters(), images)  # a judge may have no weights
    parts = images.to(like.dtype).split(checks.count("batch_size", batch_size))
    return torch.cat([judge(part).argmax(1) for part in parts])


def agreement(images: Float[Tensor, "n 1 28 28"], labels: Int[Tensor, " n"], judge: nn.Module | None = None) -> float:
    """The share of images in which the judge sees the given label.

    Raises ValueError as `judged` does, and unless there is one label in 0..9 for each image.
    """
    images = _pictures(images)
    labels = checks.class_numbers("labels", labels, len(images), CLASSES, device=images.device)
    return float((judged(images, judge) == labels).float().mean())


def _pictures(images: Tensor) -> Float[Tensor, "n 1 28 28"]:
    """Grey values of the judge's size."""
    images = checks.as_tensor("images", images)
    return checks.grey("images", images, PICTURES, _precision(images), "the judge reads digits of 28x28 pixels")


def _precision(*values: Tensor) -> torch.dtype:
    """The widest floating-point precision among tensors, float32 at least."""
    return reduce(torch.promote_types, (value.dtype for value in values if value.is_floating_point()), torch.float32)


def _finite(name: str, values: Any, shape: tuple[int | str, ...]) -> Tensor:
    """Floats of a shape, none of them NaN or infinite."""
    values = checks.as_tensor(name, values)
    return checks.finite(name, values, shape, _precision(values))


def _grey_rows(shape: tuple[int | str, ...] | None = None, **values: Any) -> list[Tensor]:
    """Grey values by their names, in their widest precision; shape: of each (None: any, the last dimension pixels)."""
    tensors = {name: checks.as_tensor(name, value) for name, value in values.items()}
    wide = _precision(*tensors.values())
    wanted = {name: shape or ("n",) * (value.ndim - 1) + ("pixels",) for name, value in tensors.items()}
    return [checks.grey(name, value, wanted[name], wide) for name, value in tensors.items()]


# Diagnostics of a latent


def active_units(kl: Float[Tensor, "n latent"], threshold: float = 0.01) -> int:
    """How many latent dimensions carry information: mean KL(q || p) over the data above `threshold` nats."""
    mean = _finite("kl", kl, ("n", "latent")).mean(0)
    return int((mean > checks.number("threshold", threshold)).sum())


# Quality and diversity of several samples for one input


def bce(
    probabilities: Float[Tensor, "*batch pixels"], target: Float[Tensor, "*#batch pixels"]
) -> Float[Tensor, "*batch"]:
    """Binary cross-entropy in nats, summed over the last dimension; `target` is broadcast to the probabilities' shape."""
    probabilities, target = _grey_rows(probabilities=probabilities, target=target)
    shape, given = probabilities.shape, target.shape
    fits = len(given) <= len(shape) and given[-1] == shape[-1]
    if not fits or any(n not in (1, m) for n, m in zip(given[::-1], shape[::-1], strict=False)):
        raise ValueError(
            f"target must have the probabilities' shape {list(shape)}, or 1 in its place, got {list(given)}"
        )
    return F.binary_cross_entropy(probabilities, target.expand_as(probabilities), reduction="none").sum(-1)


def pairwise_l2(samples: Float[Tensor, "n k pixels"]) -> Float[Tensor, " n"]:
    """The mean Euclidean distance among the k samples of each input (0 where they are all the same).

    Raises ValueError for fewer than two samples.
    """
    samples = _finite("samples", samples, ("n", "k", "pixels"))
    k = samples.shape[1]
    if k < 2:
        raise ValueError(f"pairwise_l2 compares samples: it needs at least 2 for each input, got {k}")
    return torch.cdist(samples, samples, compute_mode="donot_use_mm_for_euclid_dist").sum((1, 2)) / (k * (k - 1))


def best_of_k(samples: Float[Tensor, "n k pixels"], target: Float[Tensor, "n pixels"]) -> Float[Tensor, " n"]:
    """The lowest binary cross-entropy among the k samples of each input, in nats."""
    samples, target = checks.as_tensor("samples", samples), checks.as_tensor("target", target)
    n, _, pixels = checks.shaped("samples", samples, ("n", "k", "pixels")).shape
    return bce(samples, checks.shaped("target", target, (n, pixels)).unsqueeze(1)).amin(1)


@torch.no_grad()
def variance_shares(grid: Float[Tensor, "n a b pixels"]) -> tuple[float, float, float]:
    """Where the variance of samples comes from: the shares of two sources of randomness and of their interaction.

    grid[:, i, j] is the sample made with the i-th draw of source a and the j-th of source b. Variance components of the
    two-way random-effects layout (Searle, Casella and McCulloch, 1992, section 4.2), summed over pixels and averaged over
    inputs; without replicates the residual is the interaction. Components estimated below 0 count as 0. Shares sum to 1.
    Raises ValueError for fewer than two draws of a source, or samples that do not vary at all.
    """
    grid = _finite("grid", grid, ("n", "a", "b", "pixels"))
    a, b = grid.shape[1:3]
    if min(a, b) < 2:
        raise ValueError(f"variance_shares needs at least 2 draws of each source, got {a} and {b}")
    row, column = grid.mean(2, keepdim=True), grid.mean(1, keepdim=True)
    mean = row.mean(1, keepdim=True)

    def total(deviation: Tensor) -> float:
        return float(deviation.square().sum((1, 2, 3)).mean())

    residual = total(grid - row - column + mean) / ((a - 1) * (b - 1))
    first = max(0.0, (b * total(row - mean) / (a - 1) - residual) / b)
    second = max(0.0, (a * total(column - mean) / (b - 1) - residual) / a)
    whole = first + second + residual
    if whole == 0:
        raise ValueError("the samples do not vary: there is no variance to share out")
    return first / whole, second / whole, residual / whole


# Probes and controls


def probe(
    train_codes: Float[Tensor, "n latent"],
    train_labels: Int[Tensor, " n"],
    test_codes: Float[Tensor, "m latent"],
    test_labels: Int[Tensor, " m"],
    kind: str = "linear",
    seed: int = 0,
) -> float:
    """The accuracy with which labels can be read off frozen codes: fitted on train codes, scored on test codes.

    kind: "linear" (logistic regression) or "mlp" (one hidden layer of 256 units), both of scikit-learn, on standardised
    codes. Codes should be SAMPLED from the posterior, as the decoder receives them. Raises ValueError for another kind,
    and for codes or labels of other shapes and lengths.
    """
    checks.choice("kind", kind, ("linear", "mlp"))
    seed = checks.count("seed", seed, least=0)
    train_codes = _finite("train_codes", train_codes, ("n", "latent"))
    test_codes = _finite("test_codes", test_codes, ("n", train_codes.shape[1]))
    train_labels = checks.class_numbers("train_labels", train_labels, len(train_codes))
    test_labels = checks.class_numbers("test_labels", test_labels, len(test_codes))
    from sklearn.exceptions import ConvergenceWarning
    from sklearn.linear_model import LogisticRegression
    from sklearn.neural_network import MLPClassifier
    from sklearn.pipeline import make_pipeline
    from sklearn.preprocessing import StandardScaler

    if kind == "linear":
        classifier = LogisticRegression(max_iter=300)
    else:
        kept = len(train_codes) - math.ceil(0.1 * len(train_codes))  # a tenth is set aside, to see when to stop
        batch_size = max(1, min(500, kept))  # scikit-learn warns of batches larger than what is kept
        classifier = MLPClassifier(
            256, batch_size=batch_size, max_iter=40, early_stopping=True, n_iter_no_change=4, random_state=seed
        )
    fitted = make_pipeline(StandardScaler(), classifier)
    with warnings.catch_warnings():
        # expected: the cap on the iterations is deliberate, so that all codes are read with the same patience
        warnings.simplefilter("ignore", ConvergenceWarning)
        fitted.fit(train_codes.detach().cpu().numpy(), train_labels.cpu().numpy())
    return float(fitted.score(test_codes.detach().cpu().numpy(), test_labels.cpu().numpy()))


def shuffled(labels: Int[Tensor, " n"], seed: int = 0) -> Int[Tensor, " n"]:
    """The same labels in a random order: the control of every probe (it should then score at chance)."""
    labels, seed = checks.class_numbers("labels", labels), checks.count("seed", seed, least=0)
    return labels[torch.randperm(len(labels), generator=torch.Generator().manual_seed(seed)).to(labels.device)]


@torch.no_grad()
def pixel_mean_bce(train: Float[Tensor, "n pixels"], test: Float[Tensor, "m pixels"]) -> float:
    """The control of every reconstruction: the cross-entropy of always answering the training mean, in nats per image."""
    train, test = _grey_rows(("n", "pixels"), train=train, test=test)
    checks.shaped("test", test, ("n", train.shape[1]), "train and test must have the same pixels")
    mean = train.mean(0).clamp(1e-6, 1 - 1e-6)
    return float(bce(mean.expand_as(test), test).mean())


@torch.no_grad()
def grey_entropy(images: Float[Tensor, "n pixels"]) -> float:
    """The cross-entropy of a perfect copy, in nats per image: what grey values read as Bernoulli means cost at least."""
    (images,) = _grey_rows(("n", "pixels"), images=images)
    return float(bce(images, images).mean())


def shuffled_scores(
    score: Callable[[Int[Tensor, " n"]], float], labels: Int[Tensor, " n"], permutations: int = 100, seed: int = 0
) -> Float[Tensor, " permutations"]:
    """What a measure gives when labels are shuffled, once for each of many permutations: a control with its own spread.

    score: the measure as a function of labels alone. One permutation says little: by chance it may agree with the truth.
    permutations: 100 of a share that is counted; of a probe, which each fits anew, as many as one can wait for.
    Raises ValueError for labels that are none, fewer than two permutations, and a score that is not a finite number.
    """
    labels = checks.class_numbers("labels", labels)
    permutations, seed = checks.count("permutations", permutations, 2), checks.count("seed", seed, 0)
    generator = torch.Generator().manual_seed(seed)
    orders = [torch.randperm(len(labels), generator=generator).to(labels.device) for _ in range(permutations)]
    found = [checks.number("score of shuffled labels", score(labels[order])) for order in orders]
    return torch.tensor(found, dtype=torch.float64)


# Listening: what it costs, in nats, to be given another example's code


@dataclass(frozen=True)
class Listening:
    """What decoding with another example's code costs, against decoding with one's own: see `listening`.

    own: the cross-entropy [n] of each example decoded from its own code; other: [permutations, n], from others' codes;
    both in nats.
    """

    own: Float[Tensor, " n"]
    other: Float[Tensor, "permutations n"]

    @property
    def cost(self) -> Float[Tensor, "permutations n"]:
        """other - own, in nats: 0 throughout for a decoder that does not listen."""
        return self.other - self.own

    @property
    def mean(self) -> float:
        """The mean over examples and permutations, in nats: how much the decoder listens."""
        return float(self.cost.double().mean())

    @property
    def std(self) -> float:
        """The standard deviation over examples of each one's mean over the permutations, in nats."""
        return float(self.cost.double().mean(0).std()) if len(self.own) > 1 else 0.0

    @property
    def permutation_std(self) -> float:
        """The standard deviation over permutations of the mean over examples, in nats: what the draw of codes is worth."""
        return float(self.cost.double().mean(1).std()) if len(self.other) > 1 else 0.0


@torch.no_grad()
def listening(
    decode: Callable[[Float[Tensor, "n ..."]], Float[Tensor, "n pixels"]],
    codes: Float[Tensor, "n ..."],
    images: Float[Tensor, "n pixels"],
    *,
    labels: Int[Tensor, " n"] | None = None,
    others: Float[Tensor, "permutations n ..."] | None = None,
    permutations: int = 20,
    seed: int = 0,
) -> Listening:
    """BCE(decoded from another example's code) - BCE(decoded from one's own), in nats, over many permutations.

    decode: logits [n, pixels] for n codes in the order of the examples; what else it is given (a label, a condition, a
    mask, pixels to look back at) stays each example's own, so that nothing but the code is another's. codes: as the decoder
    receives them in training, that is SAMPLED from the posterior. No example gets its own code; with labels [n] none gets
    that of its own class, else a decoder that reads the class alone would seem to listen less than it does. others: the codes
    to decode instead, where they can be listed, such as all other labels; permutations and seed then decide nothing.
    A decoder that ignores its code is at exactly 0. One that listens loses here what its code told it, and more: the wrong
    code misleads it. So the figure is no information in nats, and may exceed the KL by far.
    Raises ValueError for logits, codes or labels that do not fit the images, for fewer than two examples or permutations,
    and, with labels, for a class that has more than half of the examples.
    """
    permutations, seed = checks.count("permutations", permutations, 2), checks.count("seed", seed, 0)
    (images,) = _grey_rows(("n", "pixels"), images=images)
    codes = checks.as_tensor("codes", codes)
    n = checks.same_length(images=images, codes=codes)
    codes = _finite("codes", codes, (n, *("code",) * max(1, codes.ndim - 1)))
    generator = torch.Generator().manual_seed(seed)

    def cost(given: Tensor) -> Tensor:
        logits = checks.as_tensor("the logits of decode", decode(given))
        logits = checks.finite("the logits of decode", logits, tuple(images.shape), _precision(logits))
        return bernoulli_nll(logits, images).sum(1)

    if others is None:
        orders = (derangement(n, generator, labels).to(codes.device) for _ in range(permutations))
        return Listening(cost(codes), torch.stack([cost(codes[other]) for other in orders]))
    others = checks.finite("others", others, ("permutations", *codes.shape), like=codes)
    return Listening(cost(codes), torch.stack([cost(given) for given in others]))


def derangement(
    n: int, generator: torch.Generator | None = None, labels: Int[Tensor, " n"] | None = None
) -> Int[Tensor, " n"]:
    """A random permutation of 0..n-1 that leaves nothing in its place; with labels [n], nothing in its class.

    Examples in a random order, each given the next one's place; with labels the classes, in a random order too, stand
    together, and the step is drawn among those that lead out of every class. On the generator's device.
    Raises ValueError for fewer than two, labels that are not n whole numbers, and a class that has more than half of them.
    """
    n, generator = checks.count("n", n, 2), checks.generator("generator", generator)
    device = generator.device if generator else torch.device("cpu")
    order, low, high = torch.randperm(n, generator=generator, device=device), 1, 1
    if labels is not None:
        labels = checks.class_numbers("labels", labels, n).to(device)
        _, own, counts = torch.unique(labels, return_inverse=True, return_counts=True)
        low, high = int(counts.max()), n - int(counts.max())
        if low > high:
            raise ValueError(
                f"a class of {low} among {n} examples has no partners of other classes for all: it may have half at most"
            )
        rank = torch.randperm(len(counts), generator=generator, device=device)[own]
        order = order[rank[order].argsort(stable=True)]
    step = int(torch.randint(low, high + 1, (1,), generator=generator, device=device))
    other = torch.empty_like(order)
    other[order] = order.roll(-step)
    return other


def grey_images(images: Tensor) -> Float[Tensor, "n 1 height width"]:
    """Pictures whose shape is measured, as floats. Raises ValueError unless they are [n, 1, height, width] in [0, 1], no NaN."""
    images = checks.as_tensor("images", images)
    return checks.grey("images", images, ("n", 1, "height", "width"), checks.float_type(images))


def slant(images: Float[Tensor, "n 1 28 28"]) -> Float[Tensor, " n"]:
    """How far a digit leans: the shear mu_11 / mu_02 of its ink in pixels a row,
    positive to the right, 0 for a blank image.

    An upright stroke sheared by t has slant t exactly; it is what "deskewing" a digit
    removes. Raises as `grey_images`.
    """
    images = grey_images(images)
    ink, (n, _, rows, columns) = images.clamp(min=0).squeeze(1), images.shape
    up = -torch.arange(rows, device=images.device, dtype=images.dtype).view(1, -1, 1)
    right = torch.arange(
        columns,
        device=images.device,
        dtype=images.dtype,
    ).view(1, 1, -1)
    mass = ink.sum((1, 2)).clamp(min=1e-6)
    y = up - ((ink * up).sum((1, 2)) / mass).view(n, 1, 1)
    x = right - ((ink * right).sum((1, 2)) / mass).view(n, 1, 1)
    return (ink * x * y).sum((1, 2)) / (ink * y.square()).sum((1, 2)).clamp(min=1e-6)


def thickness(images: Float[Tensor, "n 1 28 28"]) -> Float[Tensor, " n"]:
    """The width of a digit's stroke in pixels: twice its area over its outline, 0 for a
    blank image.

    The outline of a grey image is its total variation (the coarea formula), so a stroke
    that is only fainter keeps its width; for the same reason strokes of less than two
    pixels, which are grey throughout, all measure about two.
    Raises as `grey_images`.
    """
    ink = F.pad(grey_images(images).clamp(min=0).squeeze(1), (1, 1, 1, 1))
    # the corners between four pixels
    a, b, c, d = ink[:, :-1, :-1], ink[:, :-1, 1:], ink[:, 1:, :-1], ink[:, 1:, 1:]
    outline = 0.5 * (
        # across and down
        (b + d - a - c).square() + (c + d - a - b).square()
    ).sqrt().sum((1, 2))
    return 2 * ink.sum((1, 2)) / outline.clamp(min=1e-6)


def correlation(a: Float[Tensor, " n"], b: Float[Tensor, " n"]) -> float:
    """Pearson's correlation; 0 where one of the two does not vary. Raises ValueError unless both are finite numbers [n]."""
    a, b = (checks.as_tensor(name, part) for name, part in (("a", a), ("b", b)))
    n = checks.same_length(a=a, b=b)
    a, b = (checks.finite(name, part, (n,), torch.float64) for name, part in (("a", a), ("b", b)))
    a, b = a.double() - a.double().mean(), b.double() - b.double().mean()
    scale = a.norm() * b.norm()
    return float(a @ b / scale) if scale > 1e-9 * len(a) else 0.0
