"""Distributions in closed form: the diagonal Gaussian by its mean and log-variance."""

from __future__ import annotations

import math
from dataclasses import dataclass

import torch
import torch.nn.functional as F
from jaxtyping import Float, Int, Integer
from torch import Tensor


def standard_normal(
    shape: tuple[int, ...] | torch.Size, like: Tensor, generator: torch.Generator | None = None
) -> Tensor:
    """Noise N(0, 1) of a shape, on the device and in the precision of `like`.

    Drawn on the generator's own device and then moved, so one CPU generator serves every device.
    """
    device = like.device if generator is None else generator.device
    return torch.randn(shape, generator=generator, device=device).to(like)


class _BernoulliNLL(torch.autograd.Function):
    """-log p and its gradient, sigmoid(logits) - x: exact where |logits| alone would lose the slope, at 0."""

    @staticmethod
    def forward(context, logits: Tensor, x: Tensor) -> Tensor:
        context.save_for_backward(logits, x)
        return logits.clamp(min=0).sub_(logits * x).sub_(logits.abs().sigmoid_().log_())

    @staticmethod
    def backward(context, gradient: Tensor) -> tuple[Tensor, Tensor | None]:
        logits, x = context.saved_tensors
        return (logits.sigmoid() - x) * gradient, -logits * gradient if context.needs_input_grad[1] else None


def bernoulli_nll(logits: Float[Tensor, "*batch pixels"], x: Float[Tensor, "*batch pixels"]) -> Tensor:
    """-log p(x) in nats, pixel by pixel, of a Bernoulli whose mean is sigmoid(logits); grey values x in [0, 1] are means.

    This is torch's binary_cross_entropy_with_logits (to 1e-6) without its log(1 + x), for which many CPUs have no
    vector instructions: there it was a fifth of a training step. Raises ValueError where the shapes differ.
    """
    if logits.shape != x.shape:
        raise ValueError(f"logits and x must have one shape, got {list(logits.shape)} and {list(x.shape)}")
    return _BernoulliNLL.apply(logits.to(x), x)


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


def product_of_experts(
    experts: DiagonalGaussian, groups: Integer[Tensor, " batch"], prior: DiagonalGaussian | None = None
) -> DiagonalGaussian:
    """The normalised product of each group's Gaussians: precisions add up, means are weighed by them.

    experts: [batch, latent]; groups: an integer label for each expert, any values. Returns [groups, latent] in ascending
    order of the labels (that of torch.unique). Source: Bouchacourt et al. (2018), "accumulating group evidence".
    prior: [latent]. Each posterior p(c | x_i) holds the prior once, so the product of n of them counts it n times; with
    `prior` the product is divided by p(c)^(n-1), which is exact where the x_i are independent given c.

    Sums are taken in log space, by scatter alone, so log-variances may lie far beyond what exp can hold. An expert of
    log-variance inf says nothing; one of -inf is certain and outweighs all others; of several equals the mean is taken,
    the limit of equal variances. Raises ValueError for groups of a wrong length or type, no experts, NaN, means that are
    not finite, or experts so wide that dividing by the prior leaves no Gaussian.
    """
    count, index, sizes = group_index(groups, len(experts.mean))
    each, rows = -experts.log_var, index.unsqueeze(1).expand_as(experts.log_var)  # log-precisions [batch, latent]
    top = each.detach().new_full((count, each.shape[1]), -math.inf)
    top = top.scatter_reduce(0, rows, each.detach(), "amax")  # that of a group's most certain expert
    relative = (each - top[index]).nan_to_num(0.0).exp()  # in [0, 1]; inf - inf is equally certain
    zeros = relative.new_zeros(top.shape)
    total = zeros.index_add(0, index, relative)  # in [1, n]
    mean = zeros.index_add(0, index, relative * experts.mean) / total
    log_precision = top + total.log()
    if top.isnan().any() or not mean.detach().isfinite().all():
        raise ValueError(
            "the experts' means must be finite and their log-variances no NaN: look for what made them so (a learning rate?)"
        )
    if prior is not None:
        mean, log_precision = _divide_by_prior(mean, log_precision, prior, sizes)
    return DiagonalGaussian(mean, -log_precision)


def _divide_by_prior(
    mean: Tensor, log_precision: Tensor, prior: DiagonalGaussian, sizes: Tensor
) -> tuple[Tensor, Tensor]:
    """Mean and log-precision [groups, latent] of a product of n posteriors over the prior to the power of n - 1."""
    surplus = (sizes - 1).to(mean).unsqueeze(1)
    log_share = torch.where(surplus > 0, surplus.clamp(min=1).log() - prior.log_var - log_precision, -math.inf)
    share = log_share.exp()  # of the product's precision that is only the prior, counted again
    if (share >= 1).any():
        wide = int((share >= 1).any(1).sum())
        raise ValueError(
            f"in {wide} of {len(mean)} groups the experts are wider than the prior: divided by it they are no Gaussian. "
            "Leave the prior out, or use posteriors that are never wider than it"
        )
    return (mean - share * prior.mean) / (1 - share), log_precision + torch.log1p(-share)


def group_index(groups: Integer[Tensor, " batch"], n: int) -> tuple[int, Int[Tensor, " batch"], Int[Tensor, " groups"]]:
    """How many groups there are, the group of each of n examples (0, 1, ... in ascending order of the labels), their sizes.

    Raises ValueError as check_groups does.
    """
    check_groups(groups, n)
    labels, index, sizes = torch.unique(groups, return_inverse=True, return_counts=True)
    return len(labels), index, sizes


def check_groups(groups: Tensor, n: int) -> None:
    """Raises ValueError unless groups are n >= 1 integers."""
    if groups.is_floating_point() or groups.is_complex() or groups.dtype == torch.bool:
        raise ValueError(
            f"group labels must be integers, got {groups.dtype}: use labels.long(), or argmax of one-hot rows"
        )
    if groups.shape != (n,) or n == 0:
        raise ValueError(
            f"there must be one group label for each of at least one example, got {list(groups.shape)} for {n}"
        )


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


def presence_log_probs(
    logits: Float[Tensor, "*batch steps"], floor: float = 0.0
) -> tuple[Float[Tensor, "*batch steps"], Float[Tensor, "*batch steps"]]:
    """log p and log(1 - p) of each step's presence, p = floor + (1 - 2 floor) sigmoid(logits), so p lies in [floor, 1 - floor].

    A floor keeps both outcomes in play, and with them their gradients, whatever the logits are.
    Raises ValueError for a floor outside [0, 0.5).
    """
    if not 0 <= floor < 0.5:
        raise ValueError(f"floor must be in [0, 0.5), so that presence can still follow its logits, got {floor}")
    on, off = F.logsigmoid(logits), F.logsigmoid(-logits)
    if floor == 0:
        return on, off
    low, span = logits.new_tensor(floor).log(), math.log1p(-2 * floor)
    return torch.logaddexp(low, span + on), torch.logaddexp(low, span + off)


def count_posterior(logits: Float[Tensor, "*batch steps"], floor: float = 0.0) -> Float[Tensor, "*batch counts"]:
    """log q(n) of the number of objects, n = 0..steps, where presence stops at the first absence (Eslami et al., 2016, 2.1).

    q(n) = p_1 ... p_n (1 - p_(n+1)), and p_1 ... p_steps for the last: exp sums to 1. In logarithms throughout, so a
    count that is as good as impossible has a finite log q and a gradient. floor: as in presence_log_probs.
    """
    on, off = presence_log_probs(logits, floor)
    return F.pad(on.cumsum(-1), (1, 0)) + F.pad(off, (0, 1))
