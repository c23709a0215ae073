"""Distributions in closed form: the diagonal Gaussian by its mean and log-variance."""

from __future__ import annotations

import math
from dataclasses import dataclass

import torch
import torch.nn.functional as F
from jaxtyping import Float, Int
from torch import Tensor


def standard_normal(
    shape: tuple[int, ...] | torch.Size, like: Tensor, generator: torch.Generator | None = None
) -> Tensor:
    """Noise N(0, 1) of a shape, on the device and in the precision of `like`.

    Drawn on the generator's own device and then moved, so one CPU generator serves every device.
    """
    device = like.device if generator is None else generator.device
    return torch.randn(shape, generator=generator, device=device).to(like)


@dataclass(frozen=True)
class DiagonalGaussian:
    """N(mean, diag(exp(log_var))) over the last dimension.

    mean, log_var: [..., latent], of one shape. Raises ValueError where the shapes differ.
    Source: Kingma and Welling (2014), section 2.3 and appendices B and C.2.
    """

    mean: Float[Tensor, "*batch latent"]
    log_var: Float[Tensor, "*batch latent"]

    def __post_init__(self) -> None:
        if self.mean.shape != self.log_var.shape:
            raise ValueError(
                f"mean and log_var must have one shape, got {list(self.mean.shape)} and {list(self.log_var.shape)}"
            )

    def sample(
        self, noise: Tensor | None = None, generator: torch.Generator | None = None
    ) -> Float[Tensor, "*batch latent"]:
        """mean + exp(log_var / 2) * noise: the reparameterised sample (Kingma and Welling, 2014, section 2.4)."""
        if noise is None:
            noise = standard_normal(self.mean.shape, self.mean, generator)
        return self.mean + torch.exp(0.5 * self.log_var) * noise

    def kl(self, other: DiagonalGaussian | None = None) -> Float[Tensor, "*batch latent"]:
        """KL(self || other) in nats, per dimension; `other` is the standard normal if not given (appendix B)."""
        if other is None:
            return 0.5 * (self.mean.square() + self.log_var.exp() - 1 - self.log_var)
        difference = self.log_var - other.log_var
        distance = (self.mean - other.mean).square() * torch.exp(-other.log_var)
        return 0.5 * (distance + difference.exp() - 1 - difference)

    def log_prob(self, value: Tensor) -> Float[Tensor, "*batch latent"]:
        """Log density of `value` in nats, per dimension."""
        distance = (value - self.mean).square() * torch.exp(-self.log_var)
        return -0.5 * (distance + self.log_var + math.log(2 * math.pi))


def gumbel_softmax(
    logits: Float[Tensor, "*batch classes"],
    temperature: float,
    hard: bool,
    uniform: Tensor | None = None,
    generator: torch.Generator | None = None,
) -> Float[Tensor, "*batch classes"]:
    """A relaxed one-hot draw from softmax(logits) (Jang et al., 2017, equation 2); noise by `uniform` in (0, 1) or a generator.

    hard: one-hot on the way forward, the relaxation's gradient on the way back (their straight-through estimator).
    torch.nn.functional.gumbel_softmax does the same, but takes neither a generator nor noise.
    Raises ValueError for a temperature that is not positive.
    """
    check_temperature(temperature)
    if uniform is None:
        device = logits.device if generator is None else generator.device
        uniform = torch.rand(logits.shape, generator=generator, device=device)
    # float32 at least: in half precision a number just below 1 is 1, and its noise infinite
    uniform = uniform.to(logits.device, torch.promote_types(logits.dtype, torch.float32))
    gumbel = -torch.log(-torch.log(uniform.clamp(1e-20, 1 - 1e-7)))  # rand can return 0
    soft = ((logits + gumbel) / temperature).softmax(-1)
    return one_hot(soft.argmax(-1), soft) + soft - soft.detach() if hard else soft


def label_kl(logits: Float[Tensor, "*batch classes"]) -> Float[Tensor, "*batch"]:
    """KL(q(y | x) || uniform) in nats: log(classes) less the entropy of the prediction."""
    log_q = logits.log_softmax(-1)
    return (log_q.exp() * log_q).sum(-1) + math.log(logits.shape[-1])


def one_hot(
    labels: Int[Tensor, "*batch"], like: Tensor, n_classes: int | None = None
) -> Float[Tensor, "*batch classes"]:
    """Labels as one-hot rows in the precision of `like`, with as many classes as it has columns unless said otherwise."""
    return F.one_hot(labels, like.shape[-1] if n_classes is None else n_classes).to(like.dtype)


def check_temperature(temperature: float) -> None:
    """Raises ValueError unless the temperature of the Gumbel-softmax is a positive, finite number."""
    if not 0 < temperature < math.inf:
        raise ValueError(
            f"temperature must be positive and finite, got {temperature}: lower it towards 0 for harder draws"
        )
