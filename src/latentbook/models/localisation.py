"""A localisation network: it looks at a canvas, says where the digit is, and is taught
by what its window shows.

The first of a spatial transformer's three parts (Jaderberg et al., 2015, section 3.1);
the other two, grid and sampler, are `spatial_transformer`. Nobody need tell it where
the digit was: a reader that only knows digits as they should be is shown the window,
and the gradient of its cross-entropy goes through the bilinear interpolation into
`where`.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import torch
import torch.nn.functional as F
from jaxtyping import Float, Int
from torch import Tensor, nn

from latentbook import checks
from latentbook.data.digits import Batch, check_batch
from latentbook.layers.nets import dense
from latentbook.layers.spatial_transformer import (
    image_to_window,
    invert,
    window_to_image,
)

WINDOW = 28  # pixels: the window shows a digit at the size at which digits are read
LOOKS = ("window", "whole")
# so far outside [0, 1] may a canvas or a window lie: rounding, above all in half
# precision
SLACK = 0.01
DIGITS = 10


@dataclass(frozen=True)
class LocalisationConfig:
    """The task, the network and its first window.

    Raises ValueError for choices that make no sense.
    """

    # pixels: the largest digit leaves it little room, the smallest gets lost on it
    canvas: int = 40
    # pixels of a digit's tile: half of its 28, where interpolation does not yet skip
    # pixels
    smallest: float = 14.0
    largest: float = 36.0
    hidden_dim: int = 256
    # of the window before training, in the middle of the canvas: wide, so it sees most
    # digits
    start_scale: float = 1.5
    # what the reader is shown: "window", or "whole", the canvas as it is (no
    # transformer)
    looks: str = "window"
    # True: the reader learns with the network, from nothing, as in the paper
    reader_learns: bool = False

    def __post_init__(self) -> None:
        checks.side("canvas", self.canvas, 2)  # the network looks at every second pixel
        sizes = {"hidden_dim": 4}  # a quarter of it is the second layer
        checks.fields_fit(
            self, at_least=sizes, above={"start_scale": 1}, choices={"looks": LOOKS}
        )
        if not 0 < self.smallest <= self.largest <= self.canvas:
            raise ValueError(
                "a digit's size must be 0 < smallest <= largest <= "
                f"canvas={self.canvas} pixels, "
                f"got {self.smallest}, {self.largest}"
            )


class Reader(nn.Module):
    """A small classifier of digits that fill their 28 x 28 pixels, in the model's own
    precision.
    """

    def __init__(self, hidden_dim: int = 64):
        super().__init__()
        hidden_dim = checks.count("hidden_dim", hidden_dim)
        self.layers = nn.Sequential(
            nn.Flatten(),
            dense(WINDOW**2, hidden_dim, norm=False),
            nn.Linear(hidden_dim, DIGITS),
        )

    def forward(
        self, images: Float[Tensor, "batch 1 28 28"]
    ) -> Float[Tensor, "batch 10"]:
        """Logits of the ten digits.

        Raises ValueError for images of another size, and for values outside [0, 1].
        """
        return self.layers(digits_as(self, images, SLACK))

    def loss(
        self, batch: Batch, *, generator: torch.Generator | None = None
    ) -> dict[str, Float[Tensor, " batch"]]:
        """{"cross_entropy": [batch]} in nats, on the digits as they are.

        Raises as `forward`, and for labels not in 0..9.
        """
        images, labels = batch_as(self, batch)
        return {
            "cross_entropy": F.cross_entropy(
                self.layers(images), labels, reduction="none"
            )
        }


class Localisation(nn.Module):
    """canvas -> `where` -> window -> reader. Pictures are taken in the model's own
    precision.
    """

    def __init__(self, config: LocalisationConfig = LocalisationConfig()):
        super().__init__()
        self.config = c = checks.kind("config", config, LocalisationConfig)
        self.network = nn.Sequential(
            nn.AvgPool2d(2),  # a coarse look is enough to say where
            nn.Flatten(),
            dense((c.canvas // 2) ** 2, c.hidden_dim, c.hidden_dim // 4, norm=False),
            nn.Linear(c.hidden_dim // 4, 3),
        )
        # one window for every canvas, until something is learnt
        nn.init.zeros_(self.network[-1].weight)
        nn.init.zeros_(self.network[-1].bias)
        self.offset = math.log(math.expm1(c.start_scale - 1))  # the inverse of softplus
        self.reader = Reader()
        self.reader.requires_grad_(c.reader_learns)

    def where(
        self, canvas: Float[Tensor, "batch 1 height width"]
    ) -> Float[Tensor, "batch 3"]:
        """Where the digit is thought to be: a scale above 1, and a centre on the
        canvas, from which the shift follows.

        Raises ValueError for a canvas of another size than the configuration's, and for
        values outside [0, 1].
        """
        canvas = self.check_canvas(canvas)
        if self.config.looks == "whole":
            return canvas.new_tensor([1.0, 0.0, 0.0]).expand(len(canvas), 3)
        scale, centre = self.network(canvas).split([1, 2], 1)
        scale = 1 + F.softplus(scale + self.offset)
        return torch.cat([scale, -scale * centre.tanh()], 1)

    def forward(
        self, canvas: Float[Tensor, "batch 1 height width"]
    ) -> Float[Tensor, "batch 1 28 28"]:
        """The canvas with its shift and scale undone: what the predicted window shows.

        Raises as `where`.
        """
        where = self.where(canvas)
        return image_to_window(
            checks.in_float("canvas", checks.as_tensor("canvas", canvas), where.dtype),
            where,
            WINDOW,
        )

    def check_canvas(self, canvas: Tensor) -> Float[Tensor, "batch 1 height width"]:
        """A canvas as this network takes it."""
        shape = ("batch", 1, self.config.canvas, self.config.canvas)
        hint = "another size needs another LocalisationConfig(canvas=...) and training"
        return checks.grey("canvas", canvas, shape, precision(self), hint, SLACK)

    def scene(
        self,
        images: Float[Tensor, "batch 1 28 28"],
        generator: torch.Generator | None = None,
    ) -> tuple[Float[Tensor, "batch 1 height width"], Float[Tensor, "batch 3"]]:
        """Each digit at a random size anywhere on an empty canvas, and its `where`.

        Raises ValueError for images that are not 28 x 28 grey values in [0, 1].
        """
        return self.compose(
            digits_as(self, images), checks.generator("generator", generator)
        )

    def compose(
        self, images: Tensor, generator: torch.Generator | None
    ) -> tuple[Tensor, Tensor]:
        """`scene`, of images that are known to fit."""
        c, n = self.config, len(images)
        device = images.device if generator is None else generator.device
        size, *centre = torch.rand(
            3, n, generator=generator, device=device, dtype=torch.float32
        ).to(images)
        scale = c.canvas / (c.smallest + size * (c.largest - c.smallest))
        room = 1 - 1 / scale  # so far may the centre be from the middle
        where = torch.stack(
            [scale, *(-scale * room * (2 * place - 1) for place in centre)], 1
        )
        return window_to_image(images, where, c.canvas), where

    def loss(
        self, batch: Batch, *, generator: torch.Generator | None = None
    ) -> dict[str, Float[Tensor, " batch"]]:
        """Three things that can be asked for, on fresh scenes; which of them trains is
        the choice of the weights in `fit`.

        "cross_entropy": the reader's, in nats. "pixels": the squared distance from the
        window to the untouched digit, summed over pixels. "where": that from the
        window's centre and log-scale to the true ones.
        Raises as `scene`, and for labels not in 0..9.
        """
        images, labels = batch_as(self, batch)
        canvas, true = self.compose(images, checks.generator("generator", generator))
        where = self.where(canvas)
        window = image_to_window(canvas, where, WINDOW)
        return {
            "cross_entropy": F.cross_entropy(
                self.reader.layers(window), labels, reduction="none"
            ),
            "pixels": (window - images).square().sum((1, 2, 3)),
            "where": (place(where) - place(true)).square().sum(1),
        }


def precision(model: nn.Module) -> torch.dtype:
    """That of a model's parameters."""
    return next(model.parameters()).dtype


def digits_as(
    model: nn.Module, images: Tensor, slack: float = 0.0
) -> Float[Tensor, "batch 1 28 28"]:
    """Digits as a model takes them.

    Raises ValueError unless they are 28 x 28 grey values in [0, 1].
    """
    hint = f"a digit has {WINDOW} x {WINDOW} pixels here, resize others first"
    return checks.grey(
        "images", images, ("batch", 1, WINDOW, WINDOW), precision(model), hint, slack
    )


def batch_as(
    model: nn.Module, batch: Batch
) -> tuple[Float[Tensor, "batch 1 28 28"], Int[Tensor, " batch"]]:
    """The digits of a batch as a model takes them, and their labels.

    Raises ValueError for others, and for labels not in 0..9.
    """
    images = digits_as(model, check_batch(batch, "images", "labels").images)
    return images, checks.class_numbers("labels", batch.labels, len(images), DIGITS)


def place(where: Float[Tensor, "*batch 3"]) -> Float[Tensor, "*batch 3"]:
    """(log scale, centre x, centre y) of a `where`: coordinates in which equal errors
    look equally wrong.
    """
    where = checks.as_tensor("where", where)
    return torch.cat([where[..., :1].log(), invert(where)[..., 1:]], -1)
