"""The localisation network's training step written plainly, one image at a time: the yardstick of `bench`, and nothing else."""

from __future__ import annotations

import random
from collections.abc import Iterator

import torch
import torch.nn.functional as F
from torch import Tensor
from torch.utils.data import DataLoader

from latentbook.data.digits import Digits
from latentbook.experiments.originals.mix_and_match import PilDigits
from latentbook.models.localisation import Localisation


def sample(image: Tensor, scale: Tensor, shift_x: Tensor, shift_y: Tensor, size: int) -> Tensor:
    """One image [1, height, width] read on one grid."""
    zero = torch.zeros(())
    theta = torch.stack([torch.stack([scale, zero, shift_x]), torch.stack([zero, scale, shift_y])]).unsqueeze(0)
    grid = F.affine_grid(theta, [1, 1, size, size], align_corners=False)
    return F.grid_sample(image.unsqueeze(0), grid, align_corners=False)[0]


def scene(image: Tensor) -> Tensor:
    """One digit at a random size anywhere on a canvas of 40 pixels."""
    scale = 40 / random.uniform(14, 36)
    shifts = [-scale * random.uniform(1 / scale - 1, 1 - 1 / scale) for _ in range(2)]
    return sample(image, *map(torch.tensor, (scale, *shifts)), 40)


def plain_steps(digits: Digits) -> Iterator[None]:
    """An endless run of plain training steps: each `next` is one."""
    model = Localisation()
    loader = DataLoader(PilDigits(digits), batch_size=128, shuffle=True, num_workers=0, drop_last=True)
    optimizer = torch.optim.Adam(model.network.parameters(), lr=4e-3)
    while True:
        for images, labels in loader:
            canvases = torch.stack([scene(image) for image in images])
            windows = []
            for canvas, where in zip(canvases, model.where(canvases), strict=True):
                scale, shift_x, shift_y = where
                windows.append(sample(canvas, 1 / scale, -shift_x / scale, -shift_y / scale, 28))
            loss = F.cross_entropy(model.reader(torch.stack(windows)), labels)
            optimizer.zero_grad()
            loss.backward()
            optimizer.step()
            yield
