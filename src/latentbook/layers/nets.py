"""Small network parts that several chapters share."""

from __future__ import annotations

from itertools import pairwise

import torch
import torch.nn.functional as F
from jaxtyping import Float
from torch import Tensor, nn


def dense(*sizes: int, norm: bool = True) -> nn.Sequential:
    """Linear, BatchNorm (unless norm=False) and ReLU for every pair of neighbouring
    sizes: [..., sizes[0]] -> [..., sizes[-1]].

    Raises ValueError for fewer than two sizes.
    """
    if len(sizes) < 2:
        raise ValueError(f"dense needs an input and an output size, got {sizes}")
    layers: list[nn.Module] = []
    for before, after in pairwise(sizes):
        layers += (
            [nn.Linear(before, after), nn.BatchNorm1d(after), nn.ReLU()]
            if norm
            else [nn.Linear(before, after), nn.ReLU()]
        )
    return nn.Sequential(*layers)


def dropout(x: Tensor, rate: float, generator: torch.Generator | None = None) -> Tensor:
    """Inverted dropout (Srivastava et al., 2014) whose noise comes from a generator, so
    that a training run repeats exactly.
    """
    kept = (
        torch.rand(
            x.shape,
            generator=generator,
            device=x.device if generator is None else generator.device,
        )
        >= rate
    )
    return x * kept.to(x) / (1 - rate)


def count_parameters(model: nn.Module) -> int:
    """How many trainable numbers a model has."""
    return sum(
        parameter.numel() for parameter in model.parameters() if parameter.requires_grad
    )


def side_by_side(layer: nn.Sequential, first: Tensor, second: Tensor) -> Tensor:
    """A dense layer on [first, second], without laying them side by side: ten labels
    share the work for one image.
    """
    linear, activation = layer
    a, b = linear.weight.split((first.shape[-1], second.shape[-1]), dim=1)
    return activation(F.linear(first, a, linear.bias) + F.linear(second, b))


class ReversedGradient(torch.autograd.Function):
    """The identity on the way forward; on the way back the gradient changes its sign
    (Ganin et al., 2016, section 4.2).
    """

    @staticmethod
    def forward(context, x: Tensor) -> Tensor:
        return x.view_as(x)

    @staticmethod
    def backward(context, gradient: Tensor) -> Tensor:
        return -gradient


def smoothness(
    classifier: nn.Module,
    x: Float[Tensor, "batch features"],
    radius: float,
    generator: torch.Generator | None = None,
) -> Float[Tensor, " batch"]:
    """Virtual adversarial training (Miyato et al., 2019, equations 5 to 12): how far a
    prediction can be moved, in nats.

    KL(q(y | x) || q(y | x + r)) for the worst r of length `radius`, found by one step
    of the power method from a random direction; q(y | x) itself is held fixed. Needs no
    label. Raises ValueError for a radius that is not positive.
    """
    if not radius > 0:
        raise ValueError(f"radius must be positive, got {radius}")
    device = x.device if generator is None else generator.device
    direction = F.normalize(
        torch.randn(x.shape, generator=generator, device=device).to(x), dim=1
    )
    log_q = classifier(x).log_softmax(1).detach()

    def kl(offset: Tensor) -> Tensor:
        return F.kl_div(
            classifier(x + offset).log_softmax(1),
            log_q,
            reduction="none",
            log_target=True,
        ).sum(1)

    with torch.enable_grad():  # also where the loss is only measured
        probe = (0.1 * direction).requires_grad_()
        (gradient,) = torch.autograd.grad(kl(probe).sum(), probe)
    return kl(radius * F.normalize(gradient, dim=1))
