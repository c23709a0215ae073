"""The Multi-Level VAE (Bouchacourt et al., AAAI 2018, arXiv 1705.08841): one class code
for a group, one style code an image.

Images come in groups that share something (here: their digit). The class code's
posterior is the product of what every image of the group says about it, the style
code's is each image's own. The defaults are a well-known reproduction's sizes and
objective, with the gradient that it cut by accident; the chapter's steps away from it
are single choices:

- `cut_gradient=True`: the reproduction as it ran: its class heads never learn;
- `class_kl="group"`, `average="groups"`: the paper's objective (equation 5): the class
  KL once a group, all over the groups;
- `noise_std`, `deterministic_class`: less noise on the class code, or none, the
  reproduction's way round its bug;
- `group_size`: random parts of the classes as groups, so that the decoder also meets
  little evidence;
- `exact`: the combination of evidence that counts the prior once;
- `consensus`: one image should say of the class what its whole group says;
- `adversary`, `identity`: the label of a group must not be found in the style code, and
  in one image's class code it must.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import torch
import torch.nn.functional as F
from jaxtyping import Float, Int, Integer
from torch import Tensor, nn

from latentbook import checks
from latentbook.data.digits import Batch, check_batch, flat_pixels, square_images
from latentbook.layers.distributions import (
    DiagonalGaussian,
    bernoulli_nll,
    given_or_normal,
    group_index,
    product_of_experts,
    standard_normal,
)
from latentbook.layers.nets import ReversedGradient, dense

LIKELIHOODS = ("mse", "bernoulli")
CLASS_KL = ("image", "group")
AVERAGE = ("images", "groups")
EPS_PER = ("group", "sample")


@dataclass(frozen=True)
class MultiLevelVAEConfig:
    """Sizes and choices; the defaults are the reproduction's, whose words are quoted
    where they name a choice.

    Raises ValueError for sizes or choices that do not exist.
    """

    pixels: int = 784  # of a square image: 784 is 28 x 28
    hidden_dim: int = 500  # one hidden layer of tanh on either side
    style_dim: int = 10
    class_dim: int = 10
    init_std: float = 0.05  # of all initial weights; biases start at 0
    # squared error summed over pixels; "bernoulli": cross-entropy, grey values as means
    likelihood: str = "mse"
    # accumulate the class evidence of a group; False: every image is a group of its own
    evidence: bool = True
    # 0: a group is all the batch has of one class; n: random groups of n; unread
    # without evidence
    group_size: int = 0
    # group_size (not 0) is only the mean of geometric sizes: 1 is the most frequent
    random_sizes: bool = False
    # posteriors never wider than the prior, which their combination counts once
    exact: bool = False
    # "only 1 random variable was sampled per group"; "sample": one for each image
    eps_per: str = "group"
    # of the class code's eps in training;
    # "using these values [0.1] we were able to reproduce"
    noise_std: float = 1.0
    # "using the mu ... as a deterministic node": no noise, no KL of the class
    deterministic_class: bool = False
    # the class KL counts once for every image of the group, or once a "group"
    # (equation 5)
    class_kl: str = "image"
    # the objective is the batch's sum over its images, or over its "groups"
    # (equation 5)
    average: str = "images"
    # True: evidence is accumulated on `.data`, as the reproduction did
    cut_gradient: bool = False
    # a classifier looks for the group's label in the style code; the encoder learns to
    # leave it nothing
    adversary: bool = False
    # a linear classifier must find it in a class code drawn from one image alone
    identity: bool = False
    # what each image says of its class alone is drawn to what its group says together
    consensus: bool = False
    # labels are 0..n_classes-1 where one of these two classifiers reads them
    n_classes: int = 10

    def __post_init__(self) -> None:
        sizes = ("hidden_dim", "style_dim", "class_dim", "n_classes")
        checks.fields_fit(
            self,
            at_least=dict.fromkeys(sizes, 1)
            | dict.fromkeys(("group_size", "init_std", "noise_std"), 0),
            choices={
                "likelihood": LIKELIHOODS,
                "class_kl": CLASS_KL,
                "average": AVERAGE,
                "eps_per": EPS_PER,
            },
            squares=["pixels"],
        )


class MultiLevelVAE(nn.Module):
    """Encoder, two pairs of heads and decoder: a style code for each image, a class
    code for each group of images.
    """

    def __init__(self, config: MultiLevelVAEConfig = MultiLevelVAEConfig()):
        super().__init__()
        self.config = c = checks.kind("config", config, MultiLevelVAEConfig)
        self.encoder = nn.Sequential(nn.Linear(c.pixels, c.hidden_dim), nn.Tanh())
        self.style_mean, self.style_log_var = (
            nn.Linear(c.hidden_dim, c.style_dim) for _ in range(2)
        )
        self.class_mean, self.class_log_var = (
            nn.Linear(c.hidden_dim, c.class_dim) for _ in range(2)
        )
        self.decoder = nn.Sequential(
            nn.Linear(c.style_dim + c.class_dim, c.hidden_dim),
            nn.Tanh(),
            nn.Linear(c.hidden_dim, c.pixels),
        )
        for layer in self.modules():
            if isinstance(layer, nn.Linear):
                nn.init.normal_(layer.weight, 0.0, c.init_std)
                nn.init.zeros_(layer.bias)
        if c.adversary:
            self.adversary = nn.Sequential(
                dense(c.style_dim, 256, norm=False), nn.Linear(256, c.n_classes)
            )
        if c.identity:
            self.identity = nn.Linear(c.class_dim, c.n_classes)

    def rows(self, images: Tensor) -> Float[Tensor, "batch pixels"]:
        """Images as the model reads them.

        Raises ValueError for those that `flat_pixels` refuses.
        """
        return flat_pixels(images, self.config.pixels, like=self.style_mean.weight)

    def encode(
        self, images: Float[Tensor, "batch 1 side side"]
    ) -> tuple[DiagonalGaussian, DiagonalGaussian]:
        """q(s | x) [batch, style], and what each image alone says of its class,
        q(c | x) [batch, class].
        """
        return self.posteriors(self.rows(images))

    def posteriors(
        self, x: Float[Tensor, "batch pixels"]
    ) -> tuple[DiagonalGaussian, DiagonalGaussian]:
        """What `encode` returns, of rows of pixels."""
        hidden = self.encoder(x)
        class_log_var = self.class_log_var(hidden)
        if self.config.exact:
            # a precision of 1 + exp(...): the prior's, and some evidence
            class_log_var = -F.softplus(-class_log_var)
        style = DiagonalGaussian(self.style_mean(hidden), self.style_log_var(hidden))
        return style, DiagonalGaussian(self.class_mean(hidden), class_log_var)

    def accumulate(
        self, experts: DiagonalGaussian, groups: Integer[Tensor, " batch"]
    ) -> DiagonalGaussian:
        """q(c | all images of a group): [groups, class], in ascending order of the
        labels ("accumulating group evidence").
        """
        if self.config.cut_gradient:
            experts = DiagonalGaussian(experts.mean.detach(), experts.log_var.detach())
        zeros = experts.mean.new_zeros(self.config.class_dim)
        return product_of_experts(
            experts,
            groups,
            DiagonalGaussian(zeros, zeros) if self.config.exact else None,
        )

    def decode(
        self,
        style: Float[Tensor, "*batch style"],
        class_code: Float[Tensor, "*batch class"],
    ) -> Float[Tensor, "*batch pixels"]:
        """Logits of the pixels' means. Raises ValueError for codes of other sizes."""
        c, like = self.config, self.style_mean.weight
        style = checks.vectors("style", style, c.style_dim, like)
        class_code = checks.vectors("class_code", class_code, c.class_dim, like)
        if style.shape[:-1] != class_code.shape[:-1]:
            raise ValueError(
                f"style {list(style.shape)} and class_code {list(class_code.shape)} "
                "must be for the same images"
            )
        return self.decoder(torch.cat((style, class_code), dim=-1))

    def groups(
        self,
        labels: Integer[Tensor, " batch"],
        generator: torch.Generator | None = None,
    ) -> Tensor:
        """The groups of a batch by this model's own settings: a label for each image,
        drawn anew at every call.
        """
        labels = checks.class_numbers(
            "labels", labels, device=self.style_mean.weight.device
        )
        if not self.config.evidence:
            return torch.arange(len(labels), device=labels.device)
        if self.config.group_size:
            return draw_groups(
                labels, self.config.group_size, self.config.random_sizes, generator
            )
        return labels

    def draw_class(
        self,
        posterior: DiagonalGaussian,
        index: Tensor,
        noise: Tensor | None = None,
        generator=None,
    ) -> Float[Tensor, "batch class"]:
        """The class code of each image as the decoder gets it in training; index
        [batch]: whose group's posterior it is.
        """
        c = self.config
        rows = len(posterior.mean) if c.eps_per == "group" else len(index)
        shape = (rows, c.class_dim)
        if noise is None:
            noise = standard_normal(shape, posterior.mean, generator)
        else:
            like, hint = self.style_mean.weight, f"one row a {c.eps_per}"
            noise = checks.finite("class_noise", noise, shape, like=like, hint=hint)
        if c.deterministic_class:
            return posterior.mean[index]
        if c.eps_per == "group":
            return posterior.sample(c.noise_std * noise)[index]
        return DiagonalGaussian(posterior.mean[index], posterior.log_var[index]).sample(
            c.noise_std * noise
        )

    def loss(
        self,
        batch: Batch,
        *,
        groups: Tensor | None = None,
        style_noise: Tensor | None = None,
        class_noise: Tensor | None = None,
        generator: torch.Generator | None = None,
    ) -> dict[str, Float[Tensor, " batch"]]:
        """Per-example terms whose means over the batch are the objective's: "mse" or
        "bce", "style_kl", "class_kl".

        Their unit is the nat ("mse", a squared error: that of a Gaussian of variance
        1/2, but for a constant), per image or, with average="groups", per group.
        groups: any integer labels [batch], in place of those drawn from the batch's
        own.
        Where the configuration asks for them, two cross-entropies per image besides, of
        finding the batch's labels: "adversary" in the style code, its gradient turned
        on the way into the encoder (Ganin et al., 2016), and "identity" in a class code
        that is drawn from the image alone.
        "consensus": half the squared distance, in units of the prior, of one image's
        class mean from its group's; it reads no label.
        style_noise [batch, style] and class_noise [groups, class] (with
        eps_per="sample" [batch, class]) may be passed in.
        Raises ValueError for images that `flat_pixels` refuses, and for labels, groups
        or noise that do not fit them.
        """
        c, labels, x = (
            self.config,
            check_batch(batch, "images", "labels").labels,
            self.rows(batch.images),
        )
        if groups is None or c.adversary or c.identity:
            labels = self.check_labels(labels, len(x))
        style, experts = self.posteriors(x)
        groups = self.groups(labels, generator) if groups is None else groups
        n_groups, index, sizes = group_index(groups, len(x), x.device)
        if style_noise is not None:
            style_noise = checks.finite(
                "style_noise", style_noise, (len(x), c.style_dim), like=x
            )
        class_posterior = self.accumulate(experts, index)
        z = style.sample(style_noise, generator)
        logits = self.decode(
            z, self.draw_class(class_posterior, index, class_noise, generator)
        )
        terms = {**self.reconstruction(logits, x), "style_kl": style.kl().sum(1)}
        if not c.deterministic_class:
            class_kl = class_posterior.kl().sum(1)
            terms["class_kl"] = (
                class_kl / sizes if c.class_kl == "group" else class_kl
            )[index]
        if c.consensus:
            apart = experts.mean - class_posterior.mean[index]
            terms["consensus"] = 0.5 * apart.square().sum(1)
        scale = len(index) / n_groups if c.average == "groups" else 1.0
        terms = {name: scale * term for name, term in terms.items()}
        return terms | self.find_labels(z, experts, labels, generator)

    def check_labels(self, labels: Tensor, n: int) -> Int[Tensor, " batch"]:
        """Whole numbers, one for each image; 0..n_classes-1 where a classifier reads
        them, or a ValueError.
        """
        c = self.config
        classes = c.n_classes if c.adversary or c.identity else None
        return checks.class_numbers(
            "labels", labels, n, classes, device=self.style_mean.weight.device
        )

    def find_labels(
        self,
        z: Tensor,
        experts: DiagonalGaussian,
        labels: Tensor,
        generator: torch.Generator | None,
    ) -> dict[str, Float[Tensor, " batch"]]:
        """The two cross-entropies of `loss` that read labels, where the configuration
        has them.
        """
        c, found = self.config, {}
        if c.adversary:
            found["adversary"] = self.adversary(ReversedGradient.apply(z))
        if c.identity:
            found["identity"] = self.identity(experts.sample(generator=generator))
        return {
            name: F.cross_entropy(logits, labels, reduction="none")
            for name, logits in found.items()
        }

    def reconstruction(
        self,
        logits: Float[Tensor, "batch pixels"],
        x: Float[Tensor, "batch pixels"],
    ) -> dict[str, Float[Tensor, " batch"]]:
        """The likelihood's term under its name, summed over pixels."""
        if self.config.likelihood == "mse":
            return {"mse": (logits.sigmoid() - x).square().sum(1)}
        return {"bce": bernoulli_nll(logits, x).sum(1)}

    def infer_class(
        self, evidence: Float[Tensor, "n k 1 side side"]
    ) -> DiagonalGaussian:
        """q(c | k images) for n sets of evidence, each of k images of one class:
        [n, class].

        Raises ValueError for other shapes, or images that `flat_pixels` refuses.
        """
        side, like = math.isqrt(self.config.pixels), self.style_mean.weight
        evidence = checks.as_tensor(
            "evidence", evidence, dtype=like.dtype, device=like.device
        )
        evidence = checks.grey(
            "evidence", evidence, ("n", "k", 1, side, side), like.dtype
        )
        n, k = evidence.shape[:2]
        _, experts = self.encode(evidence.flatten(0, 1))
        return self.accumulate(
            experts, torch.arange(n, device=evidence.device).repeat_interleave(k)
        )

    def swap(
        self,
        style_images: Float[Tensor, "n 1 side side"],
        evidence: Float[Tensor, "n k 1 side side"],
    ) -> Float[Tensor, "n 1 side side"]:
        """Each image drawn again as the class of its evidence: decoder means in [0, 1]
        of the posteriors' means.
        """
        class_code, (style, _) = (
            self.infer_class(evidence).mean,
            self.encode(style_images),
        )
        checks.same_length(style_images=style.mean, evidence=class_code)
        return square_images(self.decode(style.mean, class_code).sigmoid())

    def sample(
        self,
        evidence: Float[Tensor, "n k 1 side side"],
        *,
        z: Tensor | None = None,
        generator: torch.Generator | None = None,
    ) -> Float[Tensor, "n 1 side side"]:
        """New styles of given classes: decoder means in [0, 1]; z [n, style] from the
        prior unless passed in.
        """
        class_code = self.infer_class(evidence).mean
        shape = (len(class_code), self.config.style_dim)
        z = given_or_normal("z", z, shape, class_code, generator)
        return square_images(self.decode(z, class_code).sigmoid())


def draw_groups(
    labels: Integer[Tensor, " batch"],
    size: int,
    random_sizes: bool = False,
    generator: torch.Generator | None = None,
) -> Int[Tensor, " batch"]:
    """Random groups of `size` images of one label (what is left over makes a smaller
    one), other ones at every call.

    random_sizes: sizes are geometric with mean `size`, cut short where a label's images
    end.
    Raises ValueError for labels that are no whole numbers, or a size below 1.
    """
    labels, size = checks.class_numbers("labels", labels), checks.count("size", size)
    n, device = len(labels), labels.device if generator is None else generator.device
    order = torch.randperm(n, generator=generator, device=device).to(labels.device)
    # label by label, in random order within
    order = order[labels[order].argsort(stable=True)]
    position = torch.arange(n, device=labels.device)
    first = torch.ones_like(position, dtype=torch.bool)
    first[1:] = labels[order[1:]] != labels[order[:-1]]
    if random_sizes:
        begins = first | (
            torch.rand(n, generator=generator, device=device).to(labels.device)
            < 1 / size
        )
    else:
        # its place within its label
        rank = position - torch.where(first, position, 0).cummax(0).values
        begins = rank % size == 0
    return torch.empty_like(position).index_copy(0, order, begins.cumsum(0) - 1)
