"""Distributions in closed form: the diagonal Gaussian by its mean and log-variance."""

from __future__ import annotations

import math
from dataclasses import dataclass
from functools import reduce

import torch
import torch.nn.functional as F
from jaxtyping import Float, Int, Integer
from torch import Tensor

from latentbook import checks


def standard_normal(
    shape: tuple[int, ...] | torch.Size,
    like: Tensor,
    generator: torch.Generator | None = None,
) -> Tensor:
    """Noise N(0, 1) of a shape, on the device and in the precision of `like`.

    Drawn on the generator's own device and then moved, so one CPU generator serves
    every device.
    """
    device = like.device if generator is None else generator.device
    return torch.randn(shape, generator=generator, device=device).to(like)


def given_or_normal(
    name: str,
    given: Tensor | None,
    shape: tuple[int, ...],
    like: Tensor,
    generator: torch.Generator | None = None,
) -> Tensor:
    """Noise or codes in the precision of `like`: those given, or else drawn from
    N(0, 1).

    Raises ValueError where those given have another shape, a wider precision, or are
    not finite.
    """
    if given is None:
        return standard_normal(shape, like, generator)
    return checks.finite(name, given, shape, like=like)


class _BernoulliNLL(torch.autograd.Function):
    """-log p and its gradient, sigmoid(logits) - x: exact where |logits| alone would
    lose the slope, at 0.
    """

    @staticmethod
    def forward(context, logits: Tensor, x: Tensor) -> Tensor:
        context.save_for_backward(logits, x)
        return logits.clamp(min=0).sub_(logits * x).sub_(logits.abs().sigmoid_().log_())

    @staticmethod
    def backward(context, gradient: Tensor) -> tuple[Tensor, Tensor | None]:
        logits, x = context.saved_tensors
        return (
            logits.sigmoid() - x
        ) * gradient, -logits * gradient if context.needs_input_grad[1] else None


def bernoulli_nll(
    logits: Float[Tensor, "*batch pixels"], x: Float[Tensor, "*batch pixels"]
) -> Tensor:
    """-log p(x) in nats, pixel by pixel, of a Bernoulli whose mean is sigmoid(logits);
    grey values x in [0, 1] are means.

    This is torch's binary_cross_entropy_with_logits (to 1e-6) without its log(1 + x),
    for which many CPUs have no vector instructions: there it was a fifth of a training
    step. The result has the wider precision of the two.
    Raises ValueError where the shapes differ.
    """
    if logits.shape != x.shape:
        raise ValueError(
            f"logits and x must have one shape, got {list(logits.shape)} and "
            f"{list(x.shape)}"
        )
    wider = torch.promote_types(logits.dtype, x.dtype)
    return _BernoulliNLL.apply(logits.to(wider), x.to(wider))


@dataclass(frozen=True)
class DiagonalGaussian:
    """N(mean, diag(exp(log_var))) over the last dimension.

    mean, log_var: [..., latent], of one shape; arrays, lists and whole numbers become
    floats. Raises ValueError where the shapes differ, and for noise, a value or another
    Gaussian of another latent size, or of a shape that only broadcasting would fit:
    either of the two may have more dimensions in front, or 1 where the other has n, but
    not each of them.
    Source: Kingma and Welling (2014), section 2.3 and appendices B and C.2.
    """

    mean: Float[Tensor, "*batch latent"]
    log_var: Float[Tensor, "*batch latent"]

    def __post_init__(self) -> None:
        # past the frozen dataclass, once
        object.__setattr__(self, "mean", _floats("mean", self.mean))
        object.__setattr__(self, "log_var", _floats("log_var", self.log_var))
        if self.mean.shape != self.log_var.shape:
            raise ValueError(
                f"mean and log_var must have one shape, got {list(self.mean.shape)} "
                f"and {list(self.log_var.shape)}"
            )

    def sample(
        self, noise: Tensor | None = None, generator: torch.Generator | None = None
    ) -> Float[Tensor, "*batch latent"]:
        """mean + exp(log_var / 2) * noise: the reparameterised sample (Kingma and
        Welling, 2014, section 2.4).
        """
        if noise is None:
            noise = standard_normal(self.mean.shape, self.mean, generator)
        noise = _beside("noise", noise, self.mean)
        return self.mean + torch.exp(0.5 * self.log_var) * noise

    def kl(
        self, other: DiagonalGaussian | None = None
    ) -> Float[Tensor, "*batch latent"]:
        """KL(self || other) in nats, per dimension; `other` is the standard normal if
        not given (appendix B).
        """
        if other is None:
            return 0.5 * (self.mean.square() + self.log_var.exp() - 1 - self.log_var)
        _beside("the other Gaussian's mean", other.mean, self.mean)
        difference = self.log_var - other.log_var
        distance = (self.mean - other.mean).square() * torch.exp(-other.log_var)
        return 0.5 * (distance + difference.exp() - 1 - difference)

    def log_prob(self, value: Tensor) -> Float[Tensor, "*batch latent"]:
        """Log density of `value` in nats, per dimension."""
        value = _beside("value", value, self.mean)
        distance = (value - self.mean).square() * torch.exp(-self.log_var)
        return -0.5 * (distance + self.log_var + math.log(2 * math.pi))


def _floats(name: str, values: Tensor) -> Tensor:
    """Numbers as floats of their own precision; whole numbers and bool in torch's
    default one. Costs a tensor nothing.
    """
    values = checks.as_tensor(name, values)
    return values if values.is_floating_point() else checks.in_float(name, values)


def _beside(name: str, values: Tensor, mean: Tensor) -> Tensor:
    """Values for a Gaussian with this mean.

    Raises ValueError where broadcasting would make more of both than each is.
    """
    values = _floats(name, values)
    if values.shape != mean.shape:
        try:
            together = torch.broadcast_shapes(values.shape, mean.shape)
        except RuntimeError:
            together = None
        if (
            together not in (values.shape, mean.shape)
            or values.shape[-1:] != mean.shape[-1:]
        ):
            raise ValueError(
                f"{name} must fit the mean's shape {list(mean.shape)}, got "
                f"{list(values.shape)}"
            )
    return values


def product_of_experts(
    experts: DiagonalGaussian,
    groups: Integer[Tensor, " batch"],
    prior: DiagonalGaussian | None = None,
) -> DiagonalGaussian:
    """The normalised product of each group's Gaussians: precisions add up, means are
    weighed by them.

    experts: [batch, latent]; groups: an integer label for each expert, any values.
    Returns [groups, latent] in ascending order of the labels (that of torch.unique).
    Source: Bouchacourt et al. (2018), "accumulating group evidence".
    prior: [latent]. Each posterior p(c | x_i) holds the prior once, so the product of n
    of them counts it n times; with `prior` the product is divided by p(c)^(n-1), which
    is exact where the x_i are independent given c.

    Sums are taken in log space, by scatter alone, so log-variances may lie far beyond
    what exp can hold. An expert of log-variance inf says nothing; one of -inf is
    certain and outweighs all others; of several equals the mean is taken, the limit of
    equal variances. Half precision is summed in float32. Raises ValueError for groups
    of a wrong length or type, no experts, a prior of another size, NaN, means that are
    not finite, or experts so wide that dividing by the prior leaves no Gaussian.
    """
    n, latent = checks.shaped("experts", experts.mean, ("batch", "latent")).shape
    means, each = in_single(experts.mean, -experts.log_var)  # each: log-precisions
    count, index, sizes = group_index(groups, n, means.device)
    rows = index.unsqueeze(1).expand_as(each)
    top = each.detach().new_full((count, each.shape[1]), -math.inf)
    # that of a group's most certain expert
    top = top.scatter_reduce(0, rows, each.detach(), "amax")
    # in [0, 1]; inf - inf is equally certain
    relative = (each - top[index]).nan_to_num(0.0).exp()
    zeros = relative.new_zeros(top.shape)
    total = zeros.index_add(0, index, relative)  # in [1, n]
    mean = zeros.index_add(0, index, relative * means) / total
    log_precision = top + total.log()
    if top.isnan().any() or not mean.detach().isfinite().all():
        raise ValueError(
            "the experts' means must be finite and their log-variances no NaN: look "
            "for what made them so (a learning rate?)"
        )
    if prior is not None:
        checks.shaped("prior", prior.mean, (latent,))
        mean, log_precision = _divide_by_prior(mean, log_precision, prior, sizes)
    return DiagonalGaussian(mean.to(experts.mean), -log_precision.to(experts.log_var))


def in_single(*values: Tensor) -> list[Tensor]:
    """Tensors in their widest precision, float32 at least: half precision is too coarse
    to count in.
    """
    wide = reduce(torch.promote_types, (value.dtype for value in values), torch.float32)
    return [value.to(wide) for value in values]


def _divide_by_prior(
    mean: Tensor, log_precision: Tensor, prior: DiagonalGaussian, sizes: Tensor
) -> tuple[Tensor, Tensor]:
    """Mean and log-precision [groups, latent] of a product of n posteriors over the
    prior to the power of n - 1.
    """
    surplus = (sizes - 1).to(mean).unsqueeze(1)
    log_share = torch.where(
        surplus > 0,
        surplus.clamp(min=1).log() - prior.log_var - log_precision,
        -math.inf,
    )
    # of the product's precision that is only the prior, counted again
    share = log_share.exp()
    if (share >= 1).any():
        wide = int((share >= 1).any(1).sum())
        raise ValueError(
            f"in {wide} of {len(mean)} groups the experts are wider than the prior: "
            "divided by it they are no Gaussian. "
            "Leave the prior out, or use posteriors that are never wider than it"
        )
    return (mean - share * prior.mean) / (1 - share), log_precision + torch.log1p(
        -share
    )


def group_index(
    groups: Integer[Tensor, " batch"], n: int, device: torch.device | None = None
) -> tuple[int, Int[Tensor, " batch"], Int[Tensor, " groups"]]:
    """How many groups there are, the group of each of n examples (0, 1, ... in
    ascending order of the labels), their sizes.

    device: where groups are put that come as a list or an array. Raises ValueError
    unless they are n >= 1 whole numbers.
    """
    groups = checks.class_numbers("groups", groups, n, device=device)
    labels, index, sizes = torch.unique(groups, return_inverse=True, return_counts=True)
    return len(labels), index, sizes


def gumbel_softmax(
    logits: Float[Tensor, "*batch classes"],
    temperature: float,
    hard: bool,
    uniform: Tensor | None = None,
    generator: torch.Generator | None = None,
) -> Float[Tensor, "*batch classes"]:
    """A relaxed one-hot draw from softmax(logits) (Jang et al., 2017, equation 2), in
    the logits' precision.

    hard: one-hot on the way forward, the relaxation's gradient on the way back (their
    straight-through estimator). uniform: the noise in (0, 1), of the logits' shape;
    drawn unless it is passed in.
    torch.nn.functional.gumbel_softmax does the same, but takes neither a generator nor
    noise.
    Raises ValueError for a temperature that is not positive, or noise that does not
    fit.
    """
    logits, temperature = _floats("logits", logits), check_temperature(temperature)
    # in half precision a number just below 1 is 1, and its noise infinite
    (wide,) = in_single(logits)
    if uniform is None:
        device = logits.device if generator is None else generator.device
        uniform = torch.rand(logits.shape, generator=generator, device=device).to(wide)
    else:
        uniform = checks.finite("uniform", uniform, logits.shape, like=wide)
        if uniform.min() < 0 or uniform.max() > 1:
            raise ValueError(
                f"uniform must lie in (0, 1), got {uniform.min():.3g} to "
                f"{uniform.max():.3g}: use torch.rand"
            )
    gumbel = -torch.log(-torch.log(uniform.clamp(1e-20, 1 - 1e-7)))  # rand can return 0
    soft = ((wide + gumbel) / temperature).softmax(-1)
    y = one_hot(soft.argmax(-1), soft) + soft - soft.detach() if hard else soft
    return y.to(logits.dtype)


def label_kl(logits: Float[Tensor, "*batch classes"]) -> Float[Tensor, "*batch"]:
    """KL(q(y | x) || uniform) in nats: log(classes) less the prediction's entropy."""
    log_q = _floats("logits", logits).log_softmax(-1)
    return (log_q.exp() * log_q).sum(-1) + math.log(log_q.shape[-1])


def one_hot(
    labels: Int[Tensor, "*batch"], like: Tensor, n_classes: int | None = None
) -> Float[Tensor, "*batch classes"]:
    """Labels as one-hot rows in the precision of `like`, with as many classes as it has
    columns unless said otherwise.

    Raises ValueError for labels that are no whole numbers, or outside 0..classes-1.
    """
    n_classes = (
        like.shape[-1] if n_classes is None else checks.count("n_classes", n_classes)
    )
    labels = checks.as_tensor("labels", labels, device=like.device)
    if labels.is_floating_point() or labels.is_complex() or labels.dtype == torch.bool:
        raise ValueError(
            f"labels must be whole numbers such as int64, got {labels.dtype}: use "
            "labels.long()"
        )
    try:
        return F.one_hot(labels.to(torch.int64), n_classes).to(like.dtype)
    except RuntimeError as error:
        raise ValueError(
            f"labels must be class numbers 0..{n_classes - 1} ({error})"
        ) from None


def check_temperature(temperature: float) -> float:
    """The temperature of the Gumbel-softmax as a plain float.

    Raises ValueError unless it is positive and finite.
    """
    return checks.number("temperature", temperature, 0, open_low=True)


def presence_log_probs(
    logits: Float[Tensor, "*batch steps"], floor: float = 0.0
) -> tuple[Float[Tensor, "*batch steps"], Float[Tensor, "*batch steps"]]:
    """log p and log(1 - p) of each step's presence, p = floor + (1 - 2 floor)
    sigmoid(logits), so p lies in [floor, 1 - floor].

    A floor keeps both outcomes in play, and with them their gradients, whatever the
    logits are.
    Raises ValueError for a floor outside [0, 0.5).
    """
    logits, floor = _floats("logits", logits), checks.number("floor", floor)
    if not 0 <= floor < 0.5:
        raise ValueError(
            "floor must be in [0, 0.5), so that presence can still follow its logits, "
            f"got {floor}"
        )
    on, off = F.logsigmoid(logits), F.logsigmoid(-logits)
    if floor == 0:
        return on, off
    low, span = logits.new_tensor(floor).log(), math.log1p(-2 * floor)
    return torch.logaddexp(low, span + on), torch.logaddexp(low, span + off)


def count_posterior(
    logits: Float[Tensor, "*batch steps"], floor: float = 0.0
) -> Float[Tensor, "*batch counts"]:
    """log q(n) of the number of objects, n = 0..steps, where presence stops at the
    first absence (Eslami et al., 2016, 2.1).

    q(n) = p_1 ... p_n (1 - p_(n+1)), and p_1 ... p_steps for the last: exp sums to 1.
    In logarithms throughout, so a count that is as good as impossible has a finite log
    q and a gradient. floor: as in presence_log_probs.
    """
    on, off = presence_log_probs(logits, floor)
    return F.pad(on.cumsum(-1), (1, 0)) + F.pad(off, (0, 1))
