"""Scenes made one by one and AIR trained by REINFORCE, written as the tutorial writes them: the yardstick of `bench`."""

from __future__ import annotations

import random
from collections.abc import Iterator

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.utils.data import DataLoader

from latentbook.data.digits import Digits
from latentbook.experiments.originals.mix_and_match import PilDigits

CANVAS, WINDOW = 50, 24


def plain_scene(digits: PilDigits, count: int) -> Tensor:
    """One scene [1, canvas, canvas] of so many digits: the second at least half a digit off in x and in y."""
    from torchvision.transforms import Resize  # seconds to import, and only a bench needs it

    canvas, taken = torch.zeros(1, CANVAS, CANVAS), []
    for _ in range(count):
        digit = Resize((WINDOW, WINDOW))(digits[random.randrange(len(digits))][0])
        places = []
        for axis in range(2):
            free = [p for p in range(CANVAS - WINDOW) if all(abs(p - t[axis]) >= WINDOW // 2 for t in taken)]
            places.append(random.choice(free))
        taken.append(places)
        x, y = places
        canvas[:, y : y + WINDOW, x : x + WINDOW] += digit
    return canvas


def plain_scenes(digits: Digits, n: int) -> Iterator[Tensor]:
    """An endless run of n scenes at a time, each [n, 1, canvas, canvas]."""
    pictures = PilDigits(digits)
    while True:
        yield torch.stack([plain_scene(pictures, random.randrange(3)) for _ in range(n)])


def read(image: Tensor, affine: Tensor, size: int) -> Tensor:
    grid = F.affine_grid(affine, [len(image), 1, size, size], align_corners=False)
    return F.grid_sample(image, grid, align_corners=False)


class Cell(nn.Module):
    """The whole image, the code before and the state, laid side by side at every step."""

    def __init__(self, outputs: int):
        super().__init__()
        self.outputs = outputs
        self.layers = nn.Sequential(
            nn.Linear(CANVAS**2 + 24 + 256, 256),
            nn.ReLU(),
            nn.Linear(256, 256),
            nn.ReLU(),
            nn.Linear(256, outputs + 256),
        )

    def forward(self, image: Tensor, z: Tensor, state: Tensor) -> tuple[Tensor, Tensor]:
        out = self.layers(torch.cat([image, z, state], 1))
        return out[:, : self.outputs], out[:, self.outputs :]


class PlainAIR(nn.Module):
    """Three steps of where, what and presence, each pasted onto the canvas before the next; the sizes are ours."""

    def __init__(self):
        super().__init__()
        self.cell, self.baseline = Cell(7), Cell(1)
        with torch.no_grad():
            self.cell.layers[-1].weight[:7] = 0
            self.cell.layers[-1].bias[:7] = torch.tensor([2.0, 3, 0, 0, -3, -3, -3])
        self.encoder = nn.Sequential(nn.Linear(WINDOW**2, 400), nn.ReLU(), nn.Linear(400, 40))
        self.decoder = nn.Sequential(nn.Linear(20, 400), nn.ReLU(), nn.Linear(400, WINDOW**2))

    def loss(self, images: Tensor) -> Tensor:
        """The score function's surrogate with the published masks and reward, and the baseline's squared error."""
        n, image = len(images), images.flatten(1)
        z, state, canvas, reached = torch.ones(n, 24), torch.zeros(n, 256), torch.zeros_like(images), torch.ones(n, 1)
        value_state, values, masks, scores, kl = torch.zeros(n, 256), [], [], [], torch.zeros(n, 1)
        for _ in range(3):
            value, value_state = self.baseline(image, z.detach(), value_state)
            out, state = self.cell(image, z, state)
            p = torch.sigmoid(out[:, :1])
            present = torch.bernoulli(p).detach() * reached
            q = torch.distributions.Normal(out[:, 1:4], torch.exp(0.5 * out[:, 4:]))
            where = q.rsample()
            zero = torch.zeros(n)
            rows = [torch.stack([where[:, 0], zero, where[:, 1]], 1), torch.stack([zero, where[:, 0], where[:, 2]], 1)]
            affine = torch.stack(rows, 1)
            back = torch.cat([torch.ones(n, 1), -where[:, 1:]], 1) / where[:, :1]
            rows = [torch.stack([back[:, 0], zero, back[:, 1]], 1), torch.stack([zero, back[:, 0], back[:, 2]], 1)]
            mean, log_var = self.encoder(read(images, torch.stack(rows, 1), WINDOW).flatten(1)).chunk(2, 1)
            q_what = torch.distributions.Normal(mean, torch.exp(0.5 * log_var))
            what = q_what.rsample()
            drawn = torch.sigmoid(self.decoder(what) - 3).view(n, 1, WINDOW, WINDOW)
            canvas = canvas + read(drawn, affine, CANVAS) * present.view(n, 1, 1, 1)
            prior = torch.distributions.Normal(torch.tensor([3.0, 0, 0]), torch.tensor([0.1, 1, 1]))
            codes = torch.distributions.kl_divergence(q, prior).sum(1, keepdim=True)
            codes = codes + torch.distributions.kl_divergence(q_what, torch.distributions.Normal(0, 1)).sum(
                1, keepdim=True
            )
            on = torch.distributions.Bernoulli(p)
            codes = codes + torch.distributions.kl_divergence(on, torch.distributions.Bernoulli(torch.tensor(0.01)))
            kl = kl + codes * reached
            scores.append(on.log_prob(present) * reached)
            values.append(value)
            masks.append(reached)
            z, reached = torch.cat([present, where, what], 1), present
        nll = (canvas - images).square().flatten(1).sum(1, keepdim=True) / (2 * 0.36)
        values, masks, scores = (torch.cat(part, 1) for part in (values, masks, scores))
        reward = ((nll.detach() - values.detach()) * scores).sum(1)
        error = ((values - nll.detach()).square() * masks).sum(1)
        return (nll.squeeze(1) + 0.7 * kl.squeeze(1) + reward + error).mean()


def plain_steps(digits: Digits) -> Iterator[None]:
    """An endless run of plain training steps on 1,280 scenes that are made once: each `next` is one."""
    model = PlainAIR()
    scenes = next(plain_scenes(digits, 1280))
    loader = DataLoader(list(scenes), batch_size=64, shuffle=True, num_workers=0)
    rest = [*model.cell.parameters(), *model.encoder.parameters(), *model.decoder.parameters()]
    optimizer = torch.optim.Adam([{"params": rest, "lr": 1e-4}, {"params": model.baseline.parameters(), "lr": 1e-2}])
    while True:
        for images in loader:
            loss = model.loss(images)
            optimizer.zero_grad()
            loss.backward()
            optimizer.step()
            yield
