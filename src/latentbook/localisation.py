"""A localisation network: it looks at a canvas, says where the digit is, and is taught by what its window shows.

The first of a spatial transformer's three parts (Jaderberg et al., 2015, section 3.1); the other two, grid and sampler,
are `spatial_transformer`. Nobody need tell it where the digit was: a reader that only knows digits as they should be is
shown the window, and the gradient of its cross-entropy goes through the bilinear interpolation into `where`.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import torch
import torch.nn.functional as F
from jaxtyping import Float
from torch import Tensor, nn

from latentbook.data import Batch
from latentbook.nets import dense
from latentbook.spatial_transformer import image_to_window, invert, window_to_image

WINDOW = 28  # pixels: the window shows a digit at the size at which digits are read
LOOKS = ("window", "whole")


@dataclass(frozen=True)
class LocalisationConfig:
    """The task, the network and its first window."""

    canvas: int = 40  # pixels: the largest digit leaves it little room, the smallest gets lost on it
    smallest: float = 14.0  # pixels of a digit's tile: half of its 28, where interpolation does not yet skip pixels
    largest: float = 36.0
    hidden_dim: int = 256
    start_scale: float = 1.5  # of the window before training, in the middle of the canvas: wide, so it sees most digits
    looks: str = "window"  # what the reader is shown: "window", or "whole", the canvas as it is (no transformer)
    reader_learns: bool = False  # True: the reader learns with the network, from nothing, as in the paper


class Reader(nn.Module):
    """A small classifier of digits that fill their 28 x 28 pixels."""

    def __init__(self, hidden_dim: int = 64):
        super().__init__()
        self.layers = nn.Sequential(nn.Flatten(), dense(WINDOW**2, hidden_dim, norm=False), nn.Linear(hidden_dim, 10))

    def forward(self, images: Float[Tensor, "batch 1 28 28"]) -> Float[Tensor, "batch 10"]:
        """Logits of the ten digits."""
        return self.layers(images)

    def loss(self, batch: Batch, *, generator: torch.Generator | None = None) -> dict[str, Float[Tensor, " batch"]]:
        """{"cross_entropy": [batch]} in nats, on the digits as they are."""
        return {"cross_entropy": F.cross_entropy(self(batch.images), batch.labels, reduction="none")}


class Localisation(nn.Module):
    """canvas -> `where` -> window -> reader. Raises ValueError for a configuration that makes no sense."""

    def __init__(self, config: LocalisationConfig = LocalisationConfig()):
        super().__init__()
        self.config = c = config
        if c.looks not in LOOKS:
            raise ValueError(f"looks must be one of {', '.join(LOOKS)}, got {c.looks!r}")
        if not 0 < c.smallest <= c.largest <= c.canvas:
            raise ValueError(
                f"a digit's size must be 0 < smallest <= largest <= canvas={c.canvas} pixels, got {c.smallest}, {c.largest}"
            )
        if not c.start_scale > 1:
            raise ValueError(f"start_scale must be above 1, a window smaller than the canvas, got {c.start_scale}")
        self.network = nn.Sequential(
            nn.AvgPool2d(2),  # a coarse look is enough to say where
            nn.Flatten(),
            dense((c.canvas // 2) ** 2, c.hidden_dim, c.hidden_dim // 4, norm=False),
            nn.Linear(c.hidden_dim // 4, 3),
        )
        nn.init.zeros_(self.network[-1].weight)  # one window for every canvas, until something is learnt
        nn.init.zeros_(self.network[-1].bias)
        self.offset = math.log(math.expm1(c.start_scale - 1))  # the inverse of softplus
        self.reader = Reader()
        self.reader.requires_grad_(c.reader_learns)

    def where(self, canvas: Float[Tensor, "batch 1 height width"]) -> Float[Tensor, "batch 3"]:
        """Where the digit is thought to be: a scale above 1, and a centre on the canvas, from which the shift follows."""
        if self.config.looks == "whole":
            return canvas.new_tensor([1.0, 0.0, 0.0]).expand(len(canvas), 3)
        scale, centre = self.network(canvas).split([1, 2], 1)
        scale = 1 + F.softplus(scale + self.offset)
        return torch.cat([scale, -scale * centre.tanh()], 1)

    def forward(self, canvas: Float[Tensor, "batch 1 height width"]) -> Float[Tensor, "batch 1 28 28"]:
        """The canvas with its shift and scale undone: what the predicted window shows."""
        return image_to_window(canvas, self.where(canvas), WINDOW)

    def scene(
        self, images: Float[Tensor, "batch 1 28 28"], generator: torch.Generator | None = None
    ) -> tuple[Float[Tensor, "batch 1 height width"], Float[Tensor, "batch 3"]]:
        """Each digit at a random size anywhere on an empty canvas, and its `where`."""
        c, n = self.config, len(images)
        device = images.device if generator is None else generator.device
        size, *centre = torch.rand(3, n, generator=generator, device=device).to(images)
        scale = c.canvas / (c.smallest + size * (c.largest - c.smallest))
        room = 1 - 1 / scale  # so far may the centre be from the middle
        where = torch.stack([scale, *(-scale * room * (2 * place - 1) for place in centre)], 1)
        return window_to_image(images, where, c.canvas), where

    def loss(self, batch: Batch, *, generator: torch.Generator | None = None) -> dict[str, Float[Tensor, " batch"]]:
        """Three things that can be asked for, on fresh scenes; which of them trains is the choice of the weights in `fit`.

        "cross_entropy": the reader's, in nats. "pixels": the squared distance from the window to the untouched digit,
        summed over pixels. "where": that from the window's centre and log-scale to the true ones.
        """
        canvas, true = self.scene(batch.images, generator)
        where = self.where(canvas)
        window = image_to_window(canvas, where, WINDOW)
        return {
            "cross_entropy": F.cross_entropy(self.reader(window), batch.labels, reduction="none"),
            "pixels": (window - batch.images).square().sum((1, 2, 3)),
            "where": (place(where) - place(true)).square().sum(1),
        }


def place(where: Float[Tensor, "*batch 3"]) -> Float[Tensor, "*batch 3"]:
    """(log scale, centre x, centre y) of a `where`: coordinates in which equal errors look equally wrong."""
    return torch.cat([where[..., :1].log(), invert(where)[..., 1:]], -1)
