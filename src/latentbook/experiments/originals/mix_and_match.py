"""Training steps written plainly, with the original tutorials' habits: the yardsticks of `bench`, and nothing else.

One PIL image at a time through ToTensor, the default collate, a sigmoid before the cross-entropy, unfused Adam; for
Mix-and-Match Python's `random` for the indices, a list search for their complement and zeros filled by index.
"""

from __future__ import annotations

import random
from collections.abc import Iterator

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.utils.data import DataLoader, Dataset

from latentbook.data.digits import Digits
from latentbook.layers.nets import dense


class PilDigits(Dataset):
    """Digits as torchvision's MNIST hands them out: each item a PIL image, made a tensor when it is asked for."""

    def __init__(self, digits: Digits):
        from torchvision.transforms import functional  # seconds to import, and only a bench needs it

        self.to_pil_image, self.to_tensor = functional.to_pil_image, functional.to_tensor
        self.bytes = (digits.images.cpu() * 255).round().byte()
        self.labels = digits.labels.tolist()

    def __len__(self) -> int:
        return len(self.labels)

    def __getitem__(self, index: int) -> tuple[Tensor, int]:
        return self.to_tensor(self.to_pil_image(self.bytes[index])), self.labels[index]


class PlainMixAndMatch(nn.Module):
    """The same sizes as `MixAndMatch`, one index set a batch kept on the module."""

    def __init__(self):
        super().__init__()
        self.data_encoder, self.condition_encoder = dense(500, 250, 128), dense(284, 142, 128)
        self.mean, self.log_var = nn.Linear(128, 32), nn.Linear(128, 32)
        self.latent_projection = dense(32, 128, norm=False)
        self.decoder = nn.Sequential(dense(128, 128), nn.Linear(128, 500), nn.Sigmoid())

    def fuse(self, drawn: Tensor, other: Tensor) -> Tensor:
        fused = torch.zeros(len(drawn), 128)
        fused[:, self.indices] = drawn[:, self.indices]
        fused[:, self.complement] = other[:, self.complement]
        return fused

    def forward(self, data: Tensor, condition: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        self.indices = random.sample(range(128), 64)
        self.complement = [i for i in range(128) if i not in self.indices]
        features = self.condition_encoder(condition)
        fused = self.fuse(self.data_encoder(data), features)
        mean, log_var = self.mean(fused), self.log_var(fused)
        z = mean + torch.exp(0.5 * log_var) * torch.randn_like(mean)
        return self.decoder(self.fuse(features, self.latent_projection(z))), mean, log_var


def plain_steps(digits: Digits) -> Iterator[None]:
    """An endless run of plain training steps: each `next` is one."""
    model = PlainMixAndMatch()
    loader = DataLoader(PilDigits(digits), batch_size=128, shuffle=True, num_workers=0, drop_last=True)
    cross_entropy, optimizer = nn.BCELoss(reduction="sum"), torch.optim.Adam(model.parameters(), lr=1e-4)
    while True:
        for image, _ in loader:
            flat = image.view(len(image), -1)
            optimizer.zero_grad()
            decoded, mean, log_var = model(flat[:, :500], flat[:, 500:])
            kl = -0.5 * torch.sum(1 + log_var - mean.pow(2) - log_var.exp())
            (cross_entropy(decoded, flat[:, :500]) + kl).backward()
            optimizer.step()
            yield


class PlainConditionalVAE(nn.Module):
    """The same sizes as `ConditionalVAE` by its defaults."""

    def __init__(self):
        super().__init__()
        self.encoder, self.mean, self.log_var = dense(784, 128, norm=False), nn.Linear(128, 20), nn.Linear(128, 20)
        self.classifier = nn.Sequential(dense(784, 128, norm=False), nn.Linear(128, 10))
        self.decoder = nn.Sequential(dense(30, 128, norm=False), nn.Linear(128, 784), nn.Sigmoid())

    def forward(self, x: Tensor) -> tuple[Tensor, Tensor, Tensor, Tensor]:
        logits, hidden = self.classifier(x), self.encoder(x)
        mean, log_var = self.mean(hidden), self.log_var(hidden)
        z = mean + torch.exp(0.5 * log_var) * torch.randn_like(mean)
        y = F.gumbel_softmax(logits, tau=1.0, hard=True)
        return self.decoder(torch.cat((z, y), dim=1)), logits, mean, log_var


def plain_conditional_steps(digits: Digits) -> Iterator[None]:
    """An endless run of plain training steps of the conditional VAE: each `next` is one."""
    model = PlainConditionalVAE()
    loader = DataLoader(PilDigits(digits), batch_size=64, shuffle=True, num_workers=0, drop_last=True)
    cross_entropy, optimizer = nn.BCELoss(reduction="sum"), torch.optim.Adam(model.parameters(), lr=1e-3)
    while True:
        for image, label in loader:
            flat = image.view(len(image), -1)
            optimizer.zero_grad()
            decoded, logits, mean, log_var = model(flat)
            kl = -0.5 * torch.sum(1 + log_var - mean.pow(2) - log_var.exp())
            loss = (cross_entropy(decoded, flat) + kl) / len(flat) + 10 * F.cross_entropy(logits, label)
            loss.backward()
            optimizer.step()
            yield
