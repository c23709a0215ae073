"""A conditional VAE with a classifier: generate the digit that is asked for, from
images whose digit must be guessed.

`ConditionalVAEConfig()` is a well-known tutorial's model: the classifier's guess, drawn
by straight-through Gumbel-softmax (Jang et al., 2017), is laid beside the code z and
decoded. The chapter's steps away from it are single choices:

- `posterior="image-and-label"`: q(z | x, y) instead of q(z | x), so that z need not
  repeat what y says;
- `label_kl=True`: the KL of y, without which the objective is no bound (Kingma et al.,
  2014, model M2, equation 7);
- `label="exact"`: the expectation over the ten classes as a sum instead of one draw;
  `label="known"`: the given label where an image has one (equation 6), the sum where it
  has none (equation 7);
- `adversary=True` and `recovery=True`: z independent of y, and y recoverable from what
  is decoded, as terms of the loss.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import torch
import torch.nn.functional as F
from jaxtyping import Float, Int
from torch import Tensor, nn

from latentbook import checks
from latentbook.data.digits import Batch, check_batch, flat_pixels, square_images
from latentbook.layers.distributions import (
    DiagonalGaussian,
    bernoulli_nll,
    check_temperature,
    given_or_normal,
    gumbel_softmax,
    label_kl,
    one_hot,
    standard_normal,
)
from latentbook.layers.nets import (
    ReversedGradient,
    dense,
    dropout,
    side_by_side,
    smoothness,
)

POSTERIORS = ("image", "image-and-label")
LABELS = ("hard", "soft", "exact", "known")
UNLABELLED = -1  # stands where an image has no label


@dataclass(frozen=True)
class ConditionalVAEConfig:
    """Sizes and choices; the defaults are the tutorial's.

    Raises ValueError for those that do not exist.
    """

    pixels: int = 784  # of a square image: 784 is 28 x 28
    hidden_dim: int = 128
    latent_dim: int = 20
    n_classes: int = 10
    posterior: str = "image"  # what q(z | ...) sees
    # which y is decoded in training: a Gumbel-softmax draw ("hard" is straight-through,
    # or "soft"), every class in turn ("exact"), or the one that is given ("known")
    label: str = "hard"
    temperature: float = 1.0  # of the Gumbel-softmax; the tutorial never changes it
    # True: no gradient of the reconstruction reaches the classifier through y
    cut_gradient: bool = False
    label_kl: bool = False  # the KL of y; the tutorial has none
    # a second classifier looks for y in z, and the encoder learns to leave it nothing
    adversary: bool = False
    # the classifier must find the label in an image decoded from the prior
    recovery: bool = False
    # > 0: the classifier's answer may not change within so far of an image,
    # whose pixels go from 0 to 1
    smooth_radius: float = 0.0
    # in the classifier's hidden layer (half as much on its pixels)
    dropout: float = 0.0

    def __post_init__(self) -> None:
        sizes = ("hidden_dim", "latent_dim", "n_classes")
        checks.fields_fit(
            self,
            at_least=dict.fromkeys(sizes, 1)
            | dict.fromkeys(("smooth_radius", "dropout"), 0),
            above={"temperature": 0},
            below={"dropout": 1},
            choices={"posterior": POSTERIORS, "label": LABELS},
            squares=["pixels"],
        )
        if self.label == "exact" and (self.adversary or self.recovery):
            raise ValueError(
                "adversary and recovery need one code for each image: set label to "
                '"known", "hard" or "soft"'
            )


class ConditionalVAE(nn.Module):
    """Encoder, decoder and classifier of the tutorial's sizes; y is one-hot, or a
    relaxation of it, [batch, classes].
    """

    def __init__(self, config: ConditionalVAEConfig = ConditionalVAEConfig()):
        super().__init__()
        self.config = c = checks.kind("config", config, ConditionalVAEConfig)
        seen = c.pixels + (c.n_classes if c.posterior == "image-and-label" else 0)
        self.encoder = dense(seen, c.hidden_dim, norm=False)
        self.mean = nn.Linear(c.hidden_dim, c.latent_dim)
        self.log_var = nn.Linear(c.hidden_dim, c.latent_dim)
        self.decoder = nn.Sequential(
            dense(c.latent_dim + c.n_classes, c.hidden_dim, norm=False),
            nn.Linear(c.hidden_dim, c.pixels),
        )
        self.classifier = nn.Sequential(
            dense(c.pixels, c.hidden_dim, norm=False),
            nn.Linear(c.hidden_dim, c.n_classes),
        )
        if c.adversary:
            self.adversary = nn.Sequential(
                dense(c.latent_dim, 256, norm=False), nn.Linear(256, c.n_classes)
            )

    def classify(
        self, x: Float[Tensor, "batch pixels"], generator: torch.Generator | None = None
    ) -> Float[Tensor, "batch classes"]:
        """Logits of q(y | x); in training under dropout, where configured."""
        x = checks.vectors("x", x, self.config.pixels, self.mean.weight)
        rate = self.config.dropout if self.training else 0.0
        if rate == 0:
            return self.classifier(x)
        first, last = self.classifier
        return last(dropout(first(dropout(x, rate / 2, generator)), rate, generator))

    def encode(
        self,
        x: Float[Tensor, "*#batch pixels"],
        y: Float[Tensor, "*#batch classes"],
    ) -> DiagonalGaussian:
        """q(z | x, y), or q(z | x), which does not look at y."""
        x, y = self.with_label("x", x, self.config.pixels, y)
        hidden = (
            side_by_side(self.encoder, x, y)
            if self.config.posterior == "image-and-label"
            else self.encoder(x)
        )
        return DiagonalGaussian(self.mean(hidden), self.log_var(hidden))

    def decode(
        self, z: Float[Tensor, "*#batch latent"], y: Float[Tensor, "*#batch classes"]
    ) -> Float[Tensor, "*batch pixels"]:
        """Logits of p(x | z, y)."""
        z, y = self.with_label("z", z, self.config.latent_dim, y)
        hidden, out = self.decoder
        return out(side_by_side(hidden, z, y))

    def with_label(
        self, name: str, values: Tensor, size: int, y: Tensor
    ) -> tuple[Tensor, Tensor]:
        """Floats [..., size] and y [..., classes] as the layers take them.

        Raises ValueError where they do not fit.
        """
        values = checks.vectors(name, values, size, self.mean.weight)
        y = checks.vectors("y", y, self.config.n_classes, self.mean.weight)
        for n, m in zip(values.shape[-2::-1], y.shape[-2::-1], strict=False):
            if n != m and 1 not in (n, m):
                raise ValueError(
                    f"{name} {list(values.shape)} and y {list(y.shape)} must be for "
                    "the same examples"
                )
        return values, y

    def guess(
        self,
        logits: Float[Tensor, "batch classes"],
        temperature: float,
        uniform: Tensor | None = None,
        generator: torch.Generator | None = None,
    ) -> Float[Tensor, "batch classes"]:
        """y as the decoder gets it where it is predicted: a draw in training, the best
        class afterwards.
        """
        if not self.training:
            return one_hot(logits.argmax(-1), logits)
        y = gumbel_softmax(
            logits, temperature, self.config.label == "hard", uniform, generator
        )
        return y.detach() if self.config.cut_gradient else y

    def bound(
        self,
        x: Float[Tensor, "batch pixels"],
        y: Float[Tensor, "*#batch k classes"],
        noise: Tensor,
    ) -> tuple[Tensor, Tensor, Tensor]:
        """bce [batch, k], kl of z [batch, k] and z [batch, k or 1, latent] for k
        labels of every image.

        noise: [batch, latent].
        """
        noise = checks.vectors("noise", noise, self.config.latent_dim, self.mean.weight)
        checks.same_length(x=x, noise=noise)
        posterior = self.encode(x.unsqueeze(1), y)
        z = posterior.sample(noise.unsqueeze(1))  # [batch, k or 1, latent]
        logits = self.decode(z, y)  # [batch, k, pixels]
        bce = bernoulli_nll(logits, x.unsqueeze(1).expand_as(logits)).sum(-1)
        return bce, posterior.kl().sum(-1).expand_as(bce), z

    def expected_bound(
        self, x: Tensor, logits: Tensor, noise: Tensor
    ) -> tuple[Tensor, Tensor]:
        """bce and kl [batch]: the sum over all classes weighed by q(y | x), where a
        draw would only estimate it.
        """
        weights = logits.softmax(1)
        weights = weights.detach() if self.config.cut_gradient else weights
        # [1, classes, classes]
        every = torch.eye(
            self.config.n_classes, dtype=x.dtype, device=x.device
        ).unsqueeze(0)
        bce, kl, _ = self.bound(x, every, noise)
        return (weights * bce).sum(1), (weights * kl).sum(1)

    def loss(
        self,
        batch: Batch,
        *,
        temperature: float | None = None,
        noise: Tensor | None = None,
        uniform: Tensor | None = None,
        generator: torch.Generator | None = None,
    ) -> dict[str, Float[Tensor, " batch"]]:
        """Per-example terms in nats: "bce", "kl", "cross_entropy", and those the
        configuration asks for besides.

        "label_kl": KL(q(y | x) || uniform), or log(classes) where the label is given
        (label="known"). "adversary": the cross-entropy of the second classifier, with
        the sign of its gradient turned on the way into the encoder (Ganin et al.,
        2016). "recovery": that of the classifier, held fixed, on images decoded from
        z ~ N(0, I) and labels drawn uniformly: a bound on the information about y in an
        image (Chen et al., 2016, equation 5).
        `temperature` overrides the configured one; noise [batch, latent] and uniform
        [batch, classes] may be passed in.
        Raises ValueError for images that `flat_pixels` refuses, labels that are not
        0..classes-1 or UNLABELLED, one for each image, and for a temperature or noise
        that does not fit.
        """
        c, like = self.config, self.mean.weight
        x = flat_pixels(
            check_batch(batch, "images", "labels").images, c.pixels, like=like
        )
        labels = checks.class_numbers(
            "labels", batch.labels, len(x), c.n_classes, UNLABELLED, like.device
        )
        temperature = check_temperature(
            c.temperature if temperature is None else temperature
        )
        logits, shape = self.classify(x, generator), (len(x), c.latent_dim)
        noise, z = given_or_normal("noise", noise, shape, x, generator), None
        if c.label == "known":
            bce, kl, z = self.known_bound(x, labels, logits, noise)
        elif c.label == "exact":
            bce, kl = self.expected_bound(x, logits, noise)
        else:
            y = self.guess(logits, temperature, uniform, generator)
            bce, kl, z = (
                part.squeeze(1) for part in self.bound(x, y.unsqueeze(1), noise)
            )
        terms = {"bce": bce, "kl": kl}
        if c.label_kl:
            terms["label_kl"] = label_kl(logits)
            if c.label == "known":  # a given label costs -log p(y)
                terms["label_kl"] = terms["label_kl"].where(
                    labels == UNLABELLED, math.log(c.n_classes)
                )
        terms["cross_entropy"] = F.cross_entropy(
            logits, labels, reduction="none", ignore_index=UNLABELLED
        )
        if c.smooth_radius:
            terms["smoothness"] = smoothness(
                self.classifier, x, c.smooth_radius, generator
            )
        return terms | self.hide_and_recover(z, labels, generator)

    def known_bound(
        self, x: Tensor, labels: Tensor, logits: Tensor, noise: Tensor
    ) -> tuple[Tensor, Tensor, Tensor]:
        """M2: the given label's bound where there is one (equation 6), the sum over all
        classes elsewhere (equation 7).

        Returns bce and kl [batch], and z [batch, latent], zero where there is no label.
        """
        has_label = labels != UNLABELLED
        bce, kl, z = (
            torch.zeros_like(noise[:, 0]),
            torch.zeros_like(noise[:, 0]),
            torch.zeros_like(noise),
        )
        if has_label.any():
            given = one_hot(labels[has_label], logits).unsqueeze(1)
            each = self.bound(x[has_label], given, noise[has_label])
            bce[has_label], kl[has_label], z[has_label] = (
                part.squeeze(1).to(noise) for part in each
            )
        if not has_label.all():
            unlabelled = ~has_label
            each = self.expected_bound(
                x[unlabelled], logits[unlabelled], noise[unlabelled]
            )
            bce[unlabelled], kl[unlabelled] = (part.to(noise) for part in each)
        return bce, kl, z

    def hide_and_recover(
        self, z: Tensor | None, labels: Tensor, generator: torch.Generator | None
    ) -> dict[str, Tensor]:
        """The two terms on which independence rests, where the configuration asks for
        them: see `loss`.
        """
        terms = {}
        if self.config.adversary:
            found = self.adversary(ReversedGradient.apply(z))
            terms["adversary"] = F.cross_entropy(
                found, labels, reduction="none", ignore_index=UNLABELLED
            )
        if self.config.recovery:
            prior = standard_normal(z.shape, z, generator)
            device = z.device if generator is None else generator.device
            asked = torch.randint(
                self.config.n_classes, (len(z),), generator=generator, device=device
            ).to(z.device)
            images = self.decode(
                prior, one_hot(asked, z, self.config.n_classes)
            ).sigmoid()
            fixed = {
                name: parameter.detach()
                for name, parameter in self.classifier.named_parameters()
            }
            heard = torch.func.functional_call(self.classifier, fixed, (images,))
            terms["recovery"] = F.cross_entropy(heard, asked, reduction="none")
        return terms

    @torch.no_grad()
    def predict(
        self, images: Float[Tensor, "batch 1 side side"]
    ) -> Int[Tensor, " batch"]:
        """The most probable class of each image: no draw, no noise.

        Raises ValueError as `flat_pixels` does.
        """
        return self.classifier(
            flat_pixels(images, self.config.pixels, like=self.mean.weight)
        ).argmax(1)

    def infer(
        self,
        images: Float[Tensor, "batch 1 side side"],
        labels: Int[Tensor, " batch"] | None = None,
    ) -> DiagonalGaussian:
        """q(z | x, y) with the predicted class unless labels are given; no label may be
        missing.
        """
        c, like = self.config, self.mean.weight
        x = flat_pixels(images, c.pixels, like=like)
        if labels is None:
            labels = self.predict(images)
        labels = checks.class_numbers(
            "labels", labels, len(x), c.n_classes, device=like.device
        )
        return self.encode(x, one_hot(labels, x, c.n_classes))

    def sample(
        self,
        labels: Int[Tensor, " n"],
        *,
        z: Tensor | None = None,
        generator: torch.Generator | None = None,
    ) -> Float[Tensor, "n 1 side side"]:
        """Decoder means in [0, 1] for the asked labels; z [n, latent] from the prior
        unless passed in.
        """
        c, like = self.config, self.mean.weight
        labels = checks.class_numbers(
            "labels", labels, classes=c.n_classes, device=like.device
        )
        shape = (len(labels), c.latent_dim)
        z = given_or_normal("z", z, shape, like, generator)
        return square_images(
            self.decode(z, one_hot(labels, like, c.n_classes)).sigmoid()
        )


def check_classes(labels: Tensor, n_classes: int) -> None:
    """Raises ValueError unless every class occurs: the decoder cannot learn to draw a
    digit that it has never been shown.
    """
    labels, n_classes = (
        checks.class_numbers("labels", labels),
        checks.count("n_classes", n_classes),
    )
    missing = [k for k in range(n_classes) if not (labels == k).any()]
    if missing:
        raise ValueError(
            f"the training labels lack the classes {missing} of 0..{n_classes - 1}: "
            "add examples of them, or set n_classes"
        )
