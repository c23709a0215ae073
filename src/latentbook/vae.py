"""The variational autoencoder (Kingma and Welling, 2014; Rezende et al., 2014); its decoder may have another way to know."""

from __future__ import annotations

from dataclasses import dataclass

import torch
import torch.nn.functional as F
from jaxtyping import Float
from torch import Tensor, nn

from latentbook.data import Batch, flat_pixels
from latentbook.distributions import DiagonalGaussian, bernoulli_nll, standard_normal
from latentbook.nets import dense


@dataclass(frozen=True)
class VAEConfig:
    """Sizes of the primer's model."""

    pixels: int = 784
    hidden_dim: int = 256  # one hidden layer on either side: trains in seconds, blurs as every small VAE does
    latent_dim: int = 16  # more than digits need, so that some units fall silent by themselves
    teacher_forcing: bool = False  # the decoder also sees the true pixels before each pixel: another way to know
    neighbours: str = "before"  # with teacher forcing: "before", or "all" pixels but the one that is asked for


class VAE(nn.Module):
    """q(z | x) and p(x | z) as two small networks; Gaussian latent, Bernoulli pixels."""

    def __init__(self, config: VAEConfig = VAEConfig()):
        super().__init__()
        self.config = c = config
        self.encoder = dense(c.pixels, c.hidden_dim, norm=False)
        self.mean = nn.Linear(c.hidden_dim, c.latent_dim)
        self.log_var = nn.Linear(c.hidden_dim, c.latent_dim)
        self.decoder = nn.Sequential(dense(c.latent_dim, c.hidden_dim, norm=False), nn.Linear(c.hidden_dim, c.pixels))
        if c.teacher_forcing:
            self.neighbours = Neighbours(c.pixels, c.neighbours)

    def encode(self, images: Float[Tensor, "batch 1 28 28"]) -> DiagonalGaussian:
        """q(z | x): a Gaussian over z for every image. Raises ValueError for images that `flat_pixels` refuses."""
        hidden = self.encoder(flat_pixels(images, self.config.pixels))
        return DiagonalGaussian(self.mean(hidden), self.log_var(hidden))

    def decode(self, z: Float[Tensor, "*batch latent"], seen: Tensor | None = None) -> Float[Tensor, "*batch 784"]:
        """Logits of p(x | z), or, with teacher forcing, of p(x | z, the pixels of `seen` that come before each pixel)."""
        logits = self.decoder(z)
        if not self.config.teacher_forcing:
            return logits
        if seen is None:
            raise ValueError(
                "a decoder with teacher forcing needs `seen`, the images [batch, 1, 28, 28] it may look back at"
            )
        return logits + self.neighbours(seen)

    def loss(
        self, batch: Batch, *, noise: Tensor | None = None, generator: torch.Generator | None = None
    ) -> dict[str, Float[Tensor, " batch"]]:
        """The two terms of the negative ELBO in nats per image: "bce" and "kl" (Kingma and Welling, 2014, equation 3)."""
        posterior = self.encode(batch.images)
        logits = self.decode(posterior.sample(noise, generator), batch.images)
        bce = bernoulli_nll(logits, batch.images.flatten(1))
        return {"bce": bce.sum(1), "kl": posterior.kl().sum(1)}

    def sample(
        self, n: int, *, z: Tensor | None = None, generator: torch.Generator | None = None
    ) -> Float[Tensor, "n 1 28 28"]:
        """Decoder means for z from the prior (or passed in), in [0, 1]. Not for a decoder with teacher forcing."""
        if z is None:
            z = standard_normal((n, self.config.latent_dim), self.mean.weight, generator)
        return self.decode(z).sigmoid().view(-1, 1, 28, 28)


class Neighbours(nn.Module):
    """Logits for each pixel, linear in other true pixels of the image.

    which="before" sees the pixels before it in row order, a fully visible belief network (Frey, 1998, chapter 3);
    which="all" sees all but the pixel itself, as an input skip connection would let it: no likelihood, only a loss.
    Raises ValueError for another `which`.
    """

    def __init__(self, pixels: int = 784, which: str = "before"):
        super().__init__()
        if which not in ("before", "all"):
            raise ValueError(f"neighbours must be before or all, got {which!r}")
        seen = torch.ones(pixels, pixels)
        self.weight = nn.Parameter(torch.zeros(pixels, pixels))  # starts silent: at step 0 the decoder is the plain one
        self.register_buffer("seen", seen.tril(-1) if which == "before" else seen.fill_diagonal_(0), persistent=False)

    def forward(self, images: Float[Tensor, "batch 1 28 28"]) -> Float[Tensor, "batch 784"]:
        return F.linear(images.flatten(1), self.weight * self.seen)
