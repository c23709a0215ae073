"""The variational autoencoder (Kingma and Welling, 2014; Rezende et al., 2014); its
decoder may have another way to know.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
import torch.nn.functional as F
from jaxtyping import Float
from torch import Tensor, nn

from latentbook import checks
from latentbook.data.digits import Batch, check_batch, flat_pixels, square_images
from latentbook.layers.distributions import (
    DiagonalGaussian,
    bernoulli_nll,
    given_or_normal,
)
from latentbook.layers.nets import dense

NEIGHBOURS = ("before", "all")


@dataclass(frozen=True)
class VAEConfig:
    """Sizes of the primer's model.

    Raises ValueError for sizes or choices that do not exist.
    """

    pixels: int = 784  # of a square image: 784 is 28 x 28
    # one hidden layer on either side: trains in seconds, blurs as every small VAE does
    hidden_dim: int = 256
    # more than digits need, so that some units fall silent by themselves
    latent_dim: int = 16
    # the decoder also sees the true pixels before each pixel: another way to know
    teacher_forcing: bool = False
    # with teacher forcing: "before", or "all" pixels but the one that is asked for
    neighbours: str = "before"

    def __post_init__(self) -> None:
        sizes = dict.fromkeys(("hidden_dim", "latent_dim"), 1)
        checks.fields_fit(
            self, at_least=sizes, choices={"neighbours": NEIGHBOURS}, squares=["pixels"]
        )


class VAE(nn.Module):
    """q(z | x) and p(x | z) as small networks; Gaussian latent, Bernoulli pixels."""

    def __init__(self, config: VAEConfig = VAEConfig()):
        super().__init__()
        self.config = c = checks.kind("config", config, VAEConfig)
        self.encoder = dense(c.pixels, c.hidden_dim, norm=False)
        self.mean = nn.Linear(c.hidden_dim, c.latent_dim)
        self.log_var = nn.Linear(c.hidden_dim, c.latent_dim)
        self.decoder = nn.Sequential(
            dense(c.latent_dim, c.hidden_dim, norm=False),
            nn.Linear(c.hidden_dim, c.pixels),
        )
        if c.teacher_forcing:
            self.neighbours = Neighbours(c.pixels, c.neighbours)

    def rows(self, images: Tensor) -> Float[Tensor, "batch pixels"]:
        """Images as the model reads them.

        Raises ValueError for those that `flat_pixels` refuses.
        """
        return flat_pixels(images, self.config.pixels, like=self.mean.weight)

    def posterior(self, x: Float[Tensor, "batch pixels"]) -> DiagonalGaussian:
        """q(z | x) of rows of pixels."""
        hidden = self.encoder(x)
        return DiagonalGaussian(self.mean(hidden), self.log_var(hidden))

    def encode(self, images: Float[Tensor, "batch 1 side side"]) -> DiagonalGaussian:
        """q(z | x): a Gaussian over z for every image.

        Raises ValueError as `rows` does.
        """
        return self.posterior(self.rows(images))

    def decode(
        self,
        z: Float[Tensor, "*batch latent"],
        seen: Tensor | None = None,
    ) -> Float[Tensor, "*batch pixels"]:
        """Logits of p(x | z), or, with teacher forcing, of p(x | z, the pixels of
        `seen` before each pixel).
        """
        logits = self.decoder(
            checks.vectors("z", z, self.config.latent_dim, self.mean.weight)
        )
        if not self.config.teacher_forcing:
            return logits
        if seen is None:
            raise ValueError(
                "a decoder with teacher forcing needs `seen`, the images [batch, 1, "
                "side, side] it may look back at"
            )
        from_seen = self.neighbours(seen)
        checks.same_length(z=logits, seen=from_seen)
        return logits + from_seen

    def loss(
        self,
        batch: Batch,
        *,
        noise: Tensor | None = None,
        generator: torch.Generator | None = None,
    ) -> dict[str, Float[Tensor, " batch"]]:
        """The two terms of the negative ELBO in nats per image: "bce" and "kl" (Kingma
        and Welling, 2014, equation 3).

        noise [batch, latent] may be passed in. Raises ValueError as `rows` does.
        """
        x = self.rows(check_batch(batch).images)
        if noise is not None:
            noise = checks.finite(
                "noise", noise, (len(x), self.config.latent_dim), like=x
            )
        posterior = self.posterior(x)
        logits = self.decode(posterior.sample(noise, generator), x)
        bce = bernoulli_nll(logits, x)
        return {"bce": bce.sum(1), "kl": posterior.kl().sum(1)}

    def sample(
        self,
        n: int,
        *,
        z: Tensor | None = None,
        generator: torch.Generator | None = None,
    ) -> Float[Tensor, "n 1 side side"]:
        """Decoder means for z [n, latent] from the prior (or passed in), in [0, 1].

        Not with teacher forcing.
        """
        shape = (checks.count("n", n), self.config.latent_dim)
        z = given_or_normal("z", z, shape, self.mean.weight, generator)
        return square_images(self.decode(z).sigmoid())


class Neighbours(nn.Module):
    """Logits for each pixel, linear in other true pixels of the image.

    which="before" sees the pixels before it in row order, a fully visible belief
    network (Frey, 1998, chapter 3); which="all" sees all but the pixel itself, as an
    input skip connection would let it: no likelihood, only a loss.
    Raises ValueError for another `which`.
    """

    def __init__(self, pixels: int = 784, which: str = "before"):
        super().__init__()
        checks.choice("neighbours", which, NEIGHBOURS)
        seen = torch.ones(pixels, pixels)
        # starts silent: at step 0 the decoder is the plain one
        self.weight = nn.Parameter(torch.zeros(pixels, pixels))
        self.register_buffer(
            "seen",
            seen.tril(-1) if which == "before" else seen.fill_diagonal_(0),
            persistent=False,
        )

    def forward(self, images: Tensor) -> Float[Tensor, "batch pixels"]:
        """images: [batch, 1, side, side], or rows of pixels.

        Raises ValueError for those that `flat_pixels` refuses.
        """
        x = flat_pixels(images, len(self.weight), "seen", like=self.weight)
        return F.linear(x, self.weight * self.seen)
