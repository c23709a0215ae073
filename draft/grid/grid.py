"""A grid of cells that count: AIR without its recurrence, as SPAIR (Crawford and
Pineau, AAAI 2019) and SPACE (Lin et al., ICLR 2020) have it.

The canvas is cut into cells. Each may hold one object, whose window lies about the cell
and whose presence is the cell's own. All cells are inferred at once, by convolutions,
so the same weights serve a canvas of any size. The sum over presences is exact for any
number of cells: see `expected_squared_error`.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import NamedTuple

import torch
import torch.nn.functional as F
from jaxtyping import Float
from latentbook.data.digits import Batch
from latentbook.layers.distributions import (
    DiagonalGaussian,
    presence_log_probs,
    standard_normal,
)
from latentbook.layers.spatial_transformer import image_to_window, paste_windows
from latentbook.models.air_parts import WhatVAE
from latentbook.schedules import linear
from torch import Tensor, nn


@dataclass(frozen=True)
class GridConfig:
    """Sizes and choices. A cell sees and paints a patch: its pixels and a margin."""

    cell: int = 12  # pixels of a cell, in height and width; 12 = 3 * 2 * 2: the strides
    margin: int = 12  # of a patch, on each side of its cell
    window: int = 18  # pixels of a window, decoded
    width: int = 18  # pixels that a window covers in the scene, by the prior's mean
    reach: int = 12  # a window's centre lies at most so far from its cell's
    spread: float = 0.15  # of the logarithm of a window's size, by the prior
    channels: int = 64
    what_dim: int = 20
    what_hidden_dim: int = 256
    output_bias: float = -3.0  # windows start almost black
    # of a pixel: starts high, so that one window takes a whole digit before detail
    # counts (two that share a digit stay so), and falls evenly in its logarithm
    first_variance: float = 0.3
    variance: float = 0.1
    variance_steps: int = 800  # over which it falls
    kl_weight: float = 0.7
    presence_prior: float = 0.01
    first_presence: float = -2.0  # logit
    floor: float = 0.05  # presence starts in [floor, 1 - floor]
    floor_steps: int = 1000  # over which the floor sinks to 0

    @property
    def patch(self) -> int:
        """Pixels of a patch, in height and width."""
        return self.cell + 2 * self.margin


class Cells(NamedTuple):
    """What all cells of a grid say, as if every object were there."""

    logits: Float[Tensor, "batch cells"]  # of presence
    q: DiagonalGaussian  # of z = [where, what], [batch, cells, 3 + what]
    where: Float[Tensor, "batch cells 3"]  # (scale, shift_x, shift_y) in the patch
    patches: Float[Tensor, "batch cells patch patch"]  # each object alone


class Grid(nn.Module):
    """The convolutional network of presence and where, and the what-VAE."""

    def __init__(self, config: GridConfig = GridConfig()):
        super().__init__()
        self.config = c = config
        self.backbone = backbone(c.channels, 1 + 3 + 3)
        with torch.no_grad():
            self.backbone[-1].weight[:] = 0
            self.backbone[-1].bias[:] = torch.tensor(
                [c.first_presence, *[0.0] * 3, *[-2.0] * 3]
            )
        self.what = WhatVAE(c.window, c.what_hidden_dim, c.what_dim, bias=c.output_bias)

    def exploration(self, step: int) -> float:
        """The floor of presence at a training step."""
        return linear(self.config.floor_steps, self.config.floor, 0.0)(step)

    def pixel_variance(self, step: int) -> float:
        """The variance of a pixel at a training step."""
        c, share = self.config, linear(self.config.variance_steps)(step)
        return c.first_variance ** (1 - share) * c.variance**share

    def place(self, z: Float[Tensor, "*batch 3"]) -> Float[Tensor, "*batch 3"]:
        """Where a window lies in its patch, from codes whose prior is N(0, I)."""
        c = self.config
        scale = c.patch / c.width * torch.exp(c.spread * z[..., :1].clamp(-3, 3))
        centre = 2 * c.reach / c.patch * torch.tanh(z[..., 1:])
        return torch.cat((scale, -scale * centre), -1)

    def look(
        self,
        images: Float[Tensor, "batch 1 canvas canvas"],
        noise: Float[Tensor, "batch cells z"],
    ) -> Cells:
        """Infer all cells, where first and then what, with N(0, 1) noise for both.

        canvas: a multiple of the cell.
        """
        c = self.config
        outputs = self.backbone(images).flatten(2).mT  # [batch, cells, 7]
        logits, mean, log_var = outputs.split((1, 3, 3), 2)
        log_var = log_var.clamp(-8, 1)
        where = self.place(DiagonalGaussian(mean, log_var).sample(noise[..., :3]))
        patches = F.unfold(images, c.patch, padding=c.margin, stride=c.cell)
        patches = patches.mT.reshape(-1, 1, c.patch, c.patch)
        crops = image_to_window(patches, where.flatten(0, 1), c.window)
        what_mean, what_log_var = (
            part.unflatten(0, logits.shape[:2]) for part in self.what.encode(crops)
        )
        q = DiagonalGaussian(
            torch.cat((mean, what_mean), 2),
            torch.cat((log_var, what_log_var.clamp(-8, 1)), 2),
        )
        what = q.sample(noise)[..., 3:]
        windows = self.what.decode(what.flatten(0, 1)).squeeze(1)
        patches = paste_windows(windows, where.flatten(0, 1), c.patch)
        patches = patches.unflatten(0, logits.shape[:2]) * self.on_canvas(images)
        return Cells(logits[..., 0], q, where, patches)

    def on_canvas(self, images: Tensor) -> Float[Tensor, "1 cells patch patch"]:
        """1 for a patch's pixels on the canvas, 0 for those beyond its edge, where
        nothing that is painted is seen or costs anything.
        """
        c, canvas = self.config, torch.ones_like(images[:1])
        inside = F.unfold(canvas, c.patch, padding=c.margin, stride=c.cell)
        return inside.mT.unflatten(2, (c.patch, c.patch))

    def add_up(
        self, patches: Float[Tensor, "batch cells patch patch"], canvas: int
    ) -> Float[Tensor, "batch 1 canvas canvas"]:
        """The sum of all patches, each at its cell's place."""
        c = self.config
        return F.fold(
            patches.flatten(2).mT, canvas, c.patch, padding=c.margin, stride=c.cell
        )

    def loss(
        self,
        batch: Batch,
        *,
        floor: float = 0.0,
        variance: float | None = None,
        noise: Tensor | None = None,
        generator: torch.Generator | None = None,
    ) -> dict[str, Float[Tensor, " batch"]]:
        """The terms of the objective per scene, in nats and weighted: "nll",
        "kl_presence", "kl_where", "kl_what".
        """
        c, images = self.config, batch.images
        if noise is None:
            noise = self.draw_noise(images, generator)
        cells = self.look(images, noise)
        on, off = presence_log_probs(cells.logits, floor)
        p = on.exp()
        mean = self.add_up(p[..., None, None] * cells.patches, images.shape[-1])
        error = expected_squared_error(images, mean, p, cells.patches)
        zeros = torch.zeros_like(cells.q.mean)  # N(0, I) is the prior of where and what
        kl = p.unsqueeze(2) * cells.q.kl(DiagonalGaussian(zeros, zeros))
        variance = c.variance if variance is None else variance
        return {
            "nll": error / (2 * variance),
            "kl_presence": c.kl_weight * bernoulli_kl(on, off, c.presence_prior).sum(1),
            "kl_where": c.kl_weight * kl[..., :3].sum((1, 2)),
            "kl_what": c.kl_weight * kl[..., 3:].sum((1, 2)),
        }

    def draw_noise(
        self, images: Tensor, generator: torch.Generator | None
    ) -> Float[Tensor, "batch cells z"]:
        """N(0, 1) for where and what of every cell."""
        cells = (images.shape[-1] // self.config.cell) ** 2
        shape = (len(images), cells, 3 + self.config.what_dim)
        return standard_normal(shape, images, generator)

    @torch.no_grad()
    def infer(self, images: Float[Tensor, "batch 1 canvas canvas"]) -> Cells:
        """What the cells say by their posterior means."""
        return self.look(images, torch.zeros_like(self.draw_noise(images, None)))


def backbone(channels: int, outputs: int) -> nn.Sequential:
    """From a canvas to cells of 12 pixels: three convolutions that go in steps of 3, 2
    and 2, and two over each cell and its neighbours.
    """
    return nn.Sequential(
        nn.Conv2d(1, channels // 2, 5, stride=3, padding=1),
        nn.ReLU(),
        nn.Conv2d(channels // 2, channels, 4, stride=2, padding=1),
        nn.ReLU(),
        nn.Conv2d(channels, channels, 4, stride=2, padding=1),
        nn.ReLU(),
        nn.Conv2d(channels, 2 * channels, 3, padding=1),
        nn.ReLU(),
        nn.Conv2d(2 * channels, 2 * channels, 3, padding=1),
        nn.ReLU(),
        nn.Conv2d(2 * channels, outputs, 1),
    )


def expected_squared_error(
    images: Float[Tensor, "batch 1 canvas canvas"],
    mean: Float[Tensor, "batch 1 canvas canvas"],
    p: Float[Tensor, "batch cells"],
    patches: Float[Tensor, "batch cells patch patch"],
) -> Float[Tensor, " batch"]:
    """E |x - sum_i b_i c_i|^2 over independent b_i ~ Bernoulli(p_i), all pixels' sum.

    Squared bias plus variance: |x - sum_i p_i c_i|^2 + sum_i p_i (1 - p_i) |c_i|^2,
    where the mean sum_i p_i c_i is given. No subset is drawn, and none left out.
    The patches must be 0 beyond the canvas (`Grid.on_canvas`), or their |c_i|^2 counts
    pixels that no scene has.
    """
    variance = p * (1 - p) * patches.square().sum((2, 3))
    return (images - mean).square().sum((1, 2, 3)) + variance.sum(1)


def bernoulli_kl(on: Tensor, off: Tensor, prior: float) -> Tensor:
    """KL(Bernoulli(p) || Bernoulli(prior)) in nats, element by element, from log p and
    log(1 - p): from p itself, the gradient would be NaN where p rounds to 0 or 1.
    """
    return on.exp() * (on - math.log(prior)) + off.exp() * (off - math.log1p(-prior))


def count_probs(p: Float[Tensor, "batch cells"]) -> Float[Tensor, "batch counts"]:
    """The probability of each number of objects, 0..cells, of independent presences:
    the Poisson binomial distribution, a cell at a time.
    """
    q = F.pad(torch.ones_like(p[:, :1]), (0, p.shape[1]))
    for each in p.unbind(1):
        each = each.unsqueeze(1)
        q = q * (1 - each) + F.pad(q[:, :-1], (1, 0)) * each
    return q
