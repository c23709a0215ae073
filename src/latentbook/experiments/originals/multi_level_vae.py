"""The Multi-Level VAE's step written plainly, with the reproduction's habits: the yardstick of `bench`, and nothing else.

Evidence is gathered one image at a time into dictionaries, noise is handed out one image at a time, each term of the
loss is sent back by itself; one PIL image at a time through ToTensor, the default collate, unfused Adam.
"""

from __future__ import annotations

from collections.abc import Iterator

import torch
from torch import Tensor, nn
from torch.utils.data import DataLoader

from latentbook.data.digits import Digits
from latentbook.experiments.originals.mix_and_match import PilDigits


def accumulate_by_dictionary(mean: Tensor, log_var: Tensor, labels: Tensor) -> tuple[Tensor, Tensor]:
    """The group's mean and log-variance for every image, [batch, class]: two loops over the images, one to hand out."""
    variance = log_var.exp()
    precisions: dict[int, Tensor] = {}
    means: dict[int, Tensor] = {}
    for i in range(len(labels)):
        label = labels[i].item()
        variance[i][variance[i] == 0] = 1e-6
        precisions[label] = precisions[label] + 1 / variance[i] if label in precisions else 1 / variance[i]
    for i in range(len(labels)):
        label = labels[i].item()
        weighted = mean[i] * (1 / variance[i])
        means[label] = means[label] + weighted if label in means else weighted
    group_mean, group_variance = torch.empty_like(mean), torch.empty_like(variance)
    for i in range(len(labels)):
        label = labels[i].item()
        group_mean[i] = means[label] / precisions[label]
        group_variance[i] = 1 / precisions[label]
        group_variance[i][group_variance[i] == 0] = 1e-6
    return group_mean, group_variance.log()


def draw_by_dictionary(mean: Tensor, log_var: Tensor, labels: Tensor) -> Tensor:
    """A class code for every image with one eps a group, one image at a time."""
    eps = {label.item(): torch.randn(1, mean.shape[1]) for label in torch.unique(labels)}
    std, drawn = (0.5 * log_var).exp(), torch.empty_like(mean)
    for i in range(len(labels)):
        drawn[i] = std[i].mul(eps[labels[i].item()]).squeeze(0)
        drawn[i].add_(mean[i])
    return drawn


class PlainMultiLevelVAE(nn.Module):
    """The same sizes as `MultiLevelVAE` by its defaults."""

    def __init__(self):
        super().__init__()
        self.encoder = nn.Sequential(nn.Linear(784, 500), nn.Tanh())
        self.style_mean, self.style_log_var = nn.Linear(500, 10), nn.Linear(500, 10)
        self.class_mean, self.class_log_var = nn.Linear(500, 10), nn.Linear(500, 10)
        self.decoder = nn.Sequential(nn.Linear(20, 500), nn.Tanh(), nn.Linear(500, 784), nn.Sigmoid())


def kl_to_standard(mean: Tensor, log_var: Tensor) -> Tensor:
    """KL to N(0, I), summed over the batch."""
    return -0.5 * torch.sum(1 + log_var - mean.pow(2) - log_var.exp())


def plain_multi_level_steps(digits: Digits, batch_size: int = 256) -> Iterator[None]:
    """An endless run of plain training steps: each `next` is one."""
    model = PlainMultiLevelVAE()
    loader = DataLoader(PilDigits(digits), batch_size=batch_size, shuffle=True, num_workers=0, drop_last=True)
    optimizer = torch.optim.Adam(model.parameters(), lr=1e-3)
    while True:
        for image, label in loader:
            flat = image.view(len(image), -1)
            optimizer.zero_grad()
            hidden = model.encoder(flat)
            style_mean, style_log_var = model.style_mean(hidden), model.style_log_var(hidden)
            class_mean, class_log_var = model.class_mean(hidden), model.class_log_var(hidden)
            # without its gradient, as the reproduction has it
            mean, log_var = accumulate_by_dictionary(class_mean.data, class_log_var.data, label)
            mean.requires_grad_(), log_var.requires_grad_()
            (kl_to_standard(style_mean, style_log_var) / flat.numel()).backward(retain_graph=True)
            (kl_to_standard(mean, log_var) / flat.numel()).backward(retain_graph=True)
            style = style_mean + (0.5 * style_log_var).exp() * torch.randn_like(style_mean)
            code = draw_by_dictionary(mean, log_var, label)
            ((model.decoder(torch.cat((style, code), 1)) - flat).pow(2).sum() / flat.numel()).backward()
            optimizer.step()
            yield
