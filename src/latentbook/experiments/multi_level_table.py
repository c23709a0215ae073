"""The reproduction's own measure: classifiers fitted on drawn codes, with and without evidence, as its script has it.

What it does is kept, right or wrong: a class code "with evidence" comes from the images that have the SAME TRUE LABEL in
the batch of 128, for training and for scored images alike; the batch norms stay in training mode while scoring; batches
that are not full are dropped; one epoch's batches are drawn once and shown again and again. An untrained encoder scores
above 95 % in the column "class with evidence", which is why it stands beside every row.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import NamedTuple

import torch
import torch.nn.functional as F
from jaxtyping import Float
from torch import Tensor, nn

from latentbook import checks
from latentbook.data.digits import Digits
from latentbook.layers.distributions import DiagonalGaussian, standard_normal
from latentbook.models.multi_level_vae import MultiLevelVAE

BATCH_SIZE = 128
LEARNING_RATE = 1e-4
# what each of the four classifiers reads; the two on style differ by their initial weights and noise alone
COLUMNS = ("style", "class", "style_alone", "class_alone")


class Probes(nn.Module):
    """Several classifiers z-256-256-10 (BatchNorm, LeakyReLU 0.2) side by side, each with its own weights and input.

    Weights N(0, 0.05), biases 0. Their batch norms know the batch alone, as in training mode.
    """

    def __init__(self, count: int, dim: int, hidden_dim: int = 256, n_classes: int = 10):
        super().__init__()
        sizes = ((dim, hidden_dim), (hidden_dim, hidden_dim), (hidden_dim, n_classes))
        self.weights = nn.ParameterList(0.05 * torch.randn(count, a, b) for a, b in sizes)
        self.biases = nn.ParameterList(torch.zeros(count, 1, b) for _, b in sizes)
        self.gains = nn.ParameterList(torch.ones(count * hidden_dim) for _ in range(2))
        self.shifts = nn.ParameterList(torch.zeros(count * hidden_dim) for _ in range(2))

    def forward(self, z: Float[Tensor, "count batch dim"]) -> Float[Tensor, "count batch classes"]:
        """Logits of every classifier for its own codes."""
        for weight, bias, gain, shift in zip(self.weights, self.biases, self.gains, self.shifts, strict=False):
            h = torch.baddbmm(bias, z, weight)
            count, batch, hidden = h.shape
            h = F.batch_norm(h.transpose(0, 1).reshape(batch, -1), None, None, gain, shift, training=True)
            z = F.leaky_relu(h, 0.2).view(batch, count, hidden).transpose(0, 1)
        return torch.baddbmm(self.biases[-1], z, self.weights[-1])


class Codes(NamedTuple):
    """What one batch hands to the classifiers: z [4, batch, dim] in the order of COLUMNS, labels [batch]."""

    z: Tensor
    labels: Tensor


@dataclass(frozen=True)
class Epoch:
    """One shuffled epoch in full batches, encoded once: tensors [batches, batch, ...]; noise_std: of the group's eps."""

    style: DiagonalGaussian
    alone: DiagonalGaussian
    grouped: DiagonalGaussian  # the group's posterior, repeated for each of its images
    group: Tensor  # [batches, batch]: its label in 0..n_classes-1
    labels: Tensor
    n_classes: int
    noise_std: float

    def batch(self, i: int, generator: torch.Generator) -> Codes:
        """Fresh draws of the i-th batch's codes."""
        style = [self._draw(self.style, i, generator) for _ in range(2)]
        eps = standard_normal((self.n_classes, self.grouped.mean.shape[-1]), self.grouped.mean, generator)
        mean, log_var = self.grouped.mean[i], self.grouped.log_var[i]
        grouped = DiagonalGaussian(mean, log_var).sample(self.noise_std * eps[self.group[i]])
        z = (style[0], grouped, style[1], self._draw(self.alone, i, generator))
        width = max(part.shape[1] for part in z)  # a shorter code is filled up with zeros, which no classifier can use
        return Codes(torch.stack([F.pad(part, (0, width - part.shape[1])) for part in z]), self.labels[i])

    @staticmethod
    def _draw(posterior: DiagonalGaussian, i: int, generator: torch.Generator) -> Tensor:
        return DiagonalGaussian(posterior.mean[i], posterior.log_var[i]).sample(generator=generator)


@torch.no_grad()
def encode_epoch(
    model: MultiLevelVAE, digits: Digits, generator: torch.Generator, batch_size: int = BATCH_SIZE
) -> Epoch:
    """A shuffled epoch with its codes' posteriors, evidence accumulated by the true labels of each batch.

    Raises ValueError for fewer digits than one batch.
    """
    batch_size = checks.count("batch_size", batch_size)
    batches = list(digits.batches(batch_size, generator))
    if len(batches[-1].labels) < batch_size:
        batches.pop()
    if not batches:
        raise ValueError(f"the classifiers need at least one full batch of {batch_size}, got {len(digits)} digits")
    parts = [model.encode(batch.images) for batch in batches]
    labels = torch.stack([batch.labels for batch in batches])
    n_classes = int(labels.max()) + 1
    style, alone = (_stacked([part[side] for part in parts]) for side in range(2))
    which = labels + n_classes * torch.arange(len(labels), device=labels.device).unsqueeze(1)
    flat = DiagonalGaussian(alone.mean.flatten(0, 1), alone.log_var.flatten(0, 1))
    groups = model.accumulate(flat, which.flatten())
    _, index = torch.unique(which, return_inverse=True)
    grouped = DiagonalGaussian(groups.mean[index], groups.log_var[index])
    noise_std = 0.0 if model.config.deterministic_class else model.config.noise_std
    return Epoch(style, alone, grouped, labels, labels, n_classes, noise_std)


def _stacked(parts: list[DiagonalGaussian]) -> DiagonalGaussian:
    return DiagonalGaussian(torch.stack([p.mean for p in parts]), torch.stack([p.log_var for p in parts]))


def fit_probes(epoch: Epoch, iterations: int, generator: torch.Generator, seed: int = 0) -> Probes:
    """Adam at 1e-4 for so many batches, the epoch's batches again and again in one order."""
    iterations = checks.count("iterations", iterations)
    width = max(epoch.style.mean.shape[-1], epoch.alone.mean.shape[-1])
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        probes = Probes(len(COLUMNS), width, n_classes=epoch.n_classes).to(epoch.labels.device)
    optimizer = torch.optim.Adam(
        probes.parameters(), lr=LEARNING_RATE, fused=epoch.labels.device.type in ("cpu", "cuda")
    )
    for codes in _cycle(epoch, iterations, generator):
        logits = probes(codes.z)
        labels = codes.labels.expand(len(logits), -1)
        loss = F.cross_entropy(logits.flatten(0, 1), labels.flatten(), reduction="sum") / len(codes.labels)
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
    return probes


def _cycle(epoch: Epoch, iterations: int, generator: torch.Generator) -> Iterator[Codes]:
    for i in range(iterations):
        yield epoch.batch(i % len(epoch.labels), generator)


@torch.no_grad()
def score(probes: Probes, epoch: Epoch, generator: torch.Generator) -> Float[Tensor, " 4"]:
    """The share of an epoch's digits that each classifier names right, one draw of the codes each."""
    right = torch.zeros(len(COLUMNS), device=epoch.labels.device)
    for codes in _cycle(epoch, len(epoch.labels), generator):
        right += (probes(codes.z).argmax(2) == codes.labels).sum(1)
    return right / epoch.labels.numel()


def table(
    model: MultiLevelVAE, train: Digits, test: Digits, seed: int, iterations: int, batch_size: int = BATCH_SIZE
) -> dict[str, float]:
    """The published table's columns for one model: table_<style, class>_<train, test>, and again with `_alone`: no evidence.

    Fitted on one shuffled epoch of the training digits, scored on another and on the test digits.
    """
    model.eval()
    generator = torch.Generator(train.images.device).manual_seed(seed)
    probes = fit_probes(encode_epoch(model, train, generator, batch_size), iterations, generator, seed)
    found = {}
    for split, digits in (("train", train), ("test", test)):
        shares = score(probes, encode_epoch(model, digits, generator, batch_size), generator)
        for column, share in zip(COLUMNS, shares, strict=True):
            kind, _, alone = column.partition("_")
            found[f"table_{kind}_{split}" + ("_alone" if alone else "")] = float(share)
    return found
