"""Mix-and-Match perturbation (Aliakbarian et al., CVPR 2020, arXiv 1908.00733) on
digits, beside the models it argues with.

The task is the original tutorial's: complete a digit from its bottom. The first 500
pixels in row order are the data, the last 284 the condition. Three ways to let the
condition in, at the same layer sizes:

- `MixAndMatch`, mixing="resampling": a random half of the feature vector comes from
  each side (the paper, section 3);
- `MixAndMatch`, mixing="concatenation": both feature vectors side by side, the usual
  conditional VAE (Sohn et al., 2015);
- `Completer`: no latent at all, the condition decides alone.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from jaxtyping import Bool, Float
from torch import Tensor, nn

from latentbook import checks
from latentbook.data.digits import Batch, check_batch, flat_pixels
from latentbook.layers.distributions import (
    DiagonalGaussian,
    bernoulli_nll,
    standard_normal,
)
from latentbook.layers.nets import dense

MIXINGS = ("resampling", "concatenation")
PRIORS = ("standard", "conditional")
PER = ("example", "batch")


@dataclass(frozen=True)
class MixAndMatchConfig:
    """Sizes and choices; the defaults are the original tutorial's unless the comment
    says otherwise.

    Raises ValueError for sizes or choices that do not exist.
    """

    # pixels to complete; 500 is row 17.86, so the cut is ragged, as in the original
    data_dim: int = 500
    condition_dim: int = 284  # pixels given
    hidden_dim: int = 128  # features on either side: what is mixed
    latent_dim: int = 32
    alpha: int = 64  # how many of the hidden features are drawn: a count, not a rate
    mask_per: str = "example"  # the original draws one mask for a whole batch: "batch"
    mixing: str = "resampling"
    # "conditional": a Gaussian read off the condition (not in the original)
    prior: str = "standard"

    def __post_init__(self) -> None:
        least = {
            "data_dim": 2,  # an encoder's first layer halves
            "condition_dim": 2,
            "hidden_dim": 1,
            "latent_dim": 1,
            "alpha": 0,
        }
        choices = {"mask_per": PER, "mixing": MIXINGS, "prior": PRIORS}
        checks.fields_fit(self, at_least=least, choices=choices)
        check_alpha(self.alpha, self.hidden_dim)


def sampling(
    batch: int,
    hidden_dim: int,
    alpha: int,
    per: str = "example",
    generator: torch.Generator | None = None,
    device: str | torch.device = "cpu",
) -> Bool[Tensor, "batch hidden"]:
    """Sampling (Mix-and-Match, section 3): `alpha` of `hidden_dim` features, uniformly,
    without replacement.

    Returns a bool mask [batch, hidden_dim] with exactly alpha True in every row;
    per="batch" repeats one row.
    Raises ValueError for an alpha outside 0..hidden_dim, an empty batch or an unknown
    `per`.
    """
    batch, hidden_dim = (
        checks.count("batch", batch),
        checks.count("hidden_dim", hidden_dim),
    )
    alpha, per = check_alpha(alpha, hidden_dim), checks.choice("per", per, PER)
    rows = batch if per == "example" else 1
    where = device if generator is None else generator.device
    scores = torch.rand(rows, hidden_dim, generator=generator, device=where)
    # the highest of hidden_dim random scores
    drawn = scores.topk(alpha, dim=1, sorted=False).indices
    mask = torch.zeros_like(scores, dtype=torch.bool).scatter_(1, drawn, True)
    return mask.to(device).expand(batch, hidden_dim)


def resampling(
    chosen: Float[Tensor, "batch hidden"],
    other: Float[Tensor, "batch hidden"],
    mask: Bool[Tensor, "batch hidden"],
) -> Float[Tensor, "batch hidden"]:
    """Resampling (Mix-and-Match, section 3): `chosen` where the mask is set, `other`
    elsewhere.
    """
    # at weights of 0 and 1 exactly what torch.where gives, and faster
    return torch.lerp(other, chosen, mask.to(other))


def check_alpha(alpha: int, hidden_dim: int) -> int:
    """Alpha as a plain int.

    Raises ValueError unless it is a whole number between 0 and hidden_dim.
    """
    return checks.count(f"alpha (of hidden_dim={hidden_dim})", alpha, 0, hidden_dim)


class MixAndMatch(nn.Module):
    """The conditional VAE of the original tutorial, with its mask as an argument and
    its two choices switchable.
    """

    def __init__(self, config: MixAndMatchConfig = MixAndMatchConfig()):
        super().__init__()
        self.config = c = checks.kind("config", config, MixAndMatchConfig)
        mixed_dim = c.hidden_dim if c.mixing == "resampling" else 2 * c.hidden_dim
        self.data_encoder = dense(c.data_dim, c.data_dim // 2, c.hidden_dim)
        self.condition_encoder = dense(
            c.condition_dim, c.condition_dim // 2, c.hidden_dim
        )
        self.mean = nn.Linear(mixed_dim, c.latent_dim)
        self.log_var = nn.Linear(mixed_dim, c.latent_dim)
        self.latent_projection = dense(c.latent_dim, c.hidden_dim, norm=False)
        self.decoder = nn.Sequential(
            dense(mixed_dim, c.hidden_dim), nn.Linear(c.hidden_dim, c.data_dim)
        )
        if c.prior == "conditional":
            self.prior_mean, self.prior_log_var = (
                nn.Sequential(
                    dense(c.hidden_dim, c.hidden_dim, norm=False),
                    nn.Linear(c.hidden_dim, c.latent_dim),
                )
                for _ in range(2)
            )

    def split(
        self, images: Float[Tensor, "batch 1 height width"]
    ) -> tuple[Tensor, Tensor]:
        """The top of each image and its bottom: data [batch, 500],
        condition [batch, 284].

        Raises ValueError for images that `flat_pixels` refuses.
        """
        c, like = self.config, next(self.parameters())
        pixels = flat_pixels(images, c.data_dim + c.condition_dim, like=like)
        return pixels[:, : c.data_dim], pixels[:, c.data_dim :]

    def mask(
        self,
        batch: int,
        alpha: int | None = None,
        generator: torch.Generator | None = None,
        device="cpu",
    ) -> Tensor:
        """A fresh mask [batch, hidden] by this model's own settings; `alpha` overrides
        the configured one.
        """
        alpha = self.config.alpha if alpha is None else alpha
        return sampling(
            batch,
            self.config.hidden_dim,
            alpha,
            self.config.mask_per,
            generator,
            device,
        )

    def combine(
        self, chosen: Tensor, other: Tensor, mask: Tensor
    ) -> Float[Tensor, "batch mixed"]:
        """How two feature vectors [batch, hidden] become one: resampling, or
        concatenation (no mask needed).

        Raises ValueError for vectors or a mask of other shapes or types.
        """
        size, like = self.config.hidden_dim, self.mean.weight
        chosen, other = (
            checks.vectors("features", side, size, like) for side in (chosen, other)
        )
        checks.same_length(chosen=chosen, other=other)
        if self.config.mixing == "concatenation":
            return torch.cat((chosen, other), dim=1)
        mask = checks.as_tensor("mask", mask, device=like.device)
        if mask.shape != chosen.shape or mask.dtype != torch.bool:
            raise ValueError(
                f"mask must be bool {list(chosen.shape)}, got {mask.dtype} "
                f"{list(mask.shape)}"
            )
        return resampling(chosen, other, mask)

    def encode(
        self, data_features: Tensor, condition_features: Tensor, mask: Tensor
    ) -> DiagonalGaussian:
        """q(z | x, c): data features at the drawn indices, condition features at the
        complement (section 3.1).
        """
        mixed = self.combine(data_features, condition_features, mask)
        return DiagonalGaussian(self.mean(mixed), self.log_var(mixed))

    def decode(
        self, z: Float[Tensor, "batch latent"], condition_features: Tensor, mask: Tensor
    ) -> Float[Tensor, "batch data"]:
        """Logits of p(x | z, c): condition features at the drawn indices, latent ones
        at the complement.
        """
        z = checks.vectors("z", z, self.config.latent_dim, self.mean.weight)
        return self.decoder(
            self.combine(condition_features, self.latent_projection(z), mask)
        )

    def prior(
        self, condition_features: Float[Tensor, "batch hidden"]
    ) -> DiagonalGaussian:
        """p(z | c): N(0, I), or, with prior="conditional", a Gaussian read off the
        condition.
        """
        condition_features = checks.vectors(
            "condition_features",
            condition_features,
            self.config.hidden_dim,
            self.mean.weight,
        )
        if self.config.prior == "conditional":
            return DiagonalGaussian(
                self.prior_mean(condition_features),
                self.prior_log_var(condition_features),
            )
        zeros = condition_features.new_zeros(
            len(condition_features), self.config.latent_dim
        )
        return DiagonalGaussian(zeros, zeros)

    def loss(
        self,
        batch: Batch,
        *,
        alpha: int | None = None,
        mask: Tensor | None = None,
        noise: Tensor | None = None,
        generator: torch.Generator | None = None,
    ) -> dict[str, Float[Tensor, " batch"]]:
        """Per-example terms of the negative ELBO in nats: "bce" (summed over pixels)
        and "kl" (summed over dimensions).

        Grey values are read as Bernoulli means, as the original does: the "bce" of a
        perfect copy is the pixels' own entropy, not 0. `mask` [batch, hidden] (in place
        of `alpha`) and `noise` [batch, latent] may be passed in.
        Raises ValueError as `split` does, and for a mask, an alpha or noise that does
        not fit.
        """
        data, condition = self.split(check_batch(batch).images)
        if mask is None:
            mask = self.mask(len(data), alpha, generator, data.device)
        elif alpha is not None:
            raise ValueError("alpha draws a mask: give alpha or mask, not both")
        if noise is not None:
            noise = checks.finite(
                "noise", noise, (len(data), self.config.latent_dim), like=data
            )
        condition_features = self.condition_encoder(condition)
        posterior = self.encode(self.data_encoder(data), condition_features, mask)
        z = posterior.sample(noise, generator)
        bce = bernoulli_nll(self.decode(z, condition_features, mask), data)
        kl = posterior.kl(
            self.prior(condition_features)
            if self.config.prior == "conditional"
            else None
        )
        return {"bce": bce.sum(1), "kl": kl.sum(1)}

    def sample(
        self,
        condition: Float[Tensor, "batch condition"],
        *,
        z: Tensor | None = None,
        mask: Tensor | None = None,
        generator: torch.Generator | None = None,
    ) -> Float[Tensor, "batch data"]:
        """Completions: decoder means [batch, 500] in [0, 1] for given bottoms; z
        [batch, latent] from the prior and mask [batch, hidden] drawn unless passed in.

        Raises ValueError for a condition that `flat_pixels` refuses, and for a z or
        mask that does not fit.
        """
        condition = flat_pixels(
            condition, self.config.condition_dim, "condition", like=self.mean.weight
        )
        features, shape = (
            self.condition_encoder(condition),
            (len(condition), self.config.latent_dim),
        )
        if z is None:
            z = self.prior(features).sample(
                standard_normal(shape, condition, generator)
            )
        if mask is None:
            mask = self.mask(
                len(condition), generator=generator, device=condition.device
            )
        return self.decode(
            checks.finite("z", z, shape, like=condition), features, mask
        ).sigmoid()


class Completer(nn.Module):
    """The deterministic completer: the same condition encoder and decoder, no latent,
    no mask.
    """

    def __init__(self, config: MixAndMatchConfig = MixAndMatchConfig()):
        super().__init__()
        self.config = c = checks.kind("config", config, MixAndMatchConfig)
        self.condition_encoder = dense(
            c.condition_dim, c.condition_dim // 2, c.hidden_dim
        )
        self.decoder = nn.Sequential(
            dense(c.hidden_dim, c.hidden_dim), nn.Linear(c.hidden_dim, c.data_dim)
        )

    split = MixAndMatch.split

    def loss(
        self, batch: Batch, *, generator: torch.Generator | None = None
    ) -> dict[str, Float[Tensor, " batch"]]:
        """{"bce": [batch]}: cross-entropy in nats, summed over the pixels to complete.

        Raises ValueError as `split` does.
        """
        data, condition = self.split(check_batch(batch).images)
        logits = self.decoder(self.condition_encoder(condition))
        return {"bce": bernoulli_nll(logits, data).sum(1)}

    def sample(
        self, condition: Tensor, *, generator: torch.Generator | None = None
    ) -> Float[Tensor, "batch data"]:
        """The one completion [batch, 500] in [0, 1] this model has for each bottom.

        Raises ValueError as `flat_pixels`.
        """
        like = self.condition_encoder[0].weight
        condition = flat_pixels(
            condition, self.config.condition_dim, "condition", like=like
        )
        return self.decoder(self.condition_encoder(condition)).sigmoid()
