"""Attend, Infer, Repeat (Eslami et al., NIPS 2016, arXiv 1603.08575): a scene as a
number of objects, each at its place.

A recurrent network attends to a window of the scene (`where`), a small VAE infers what
it shows (`what`), and this repeats until the network says that nothing more is there
(`presence`). The scene is the sum of all windows, pasted back.
How many there are is learnt in one of four ways (air_objectives); sizes, priors and
networks are those of air_parts.
"""

from __future__ import annotations

import math
from typing import NamedTuple

import torch
import torch.nn.functional as F
from jaxtyping import Float, Int
from torch import Tensor, nn

from latentbook import checks
from latentbook.data.digits import Batch, check_batch
from latentbook.layers.distributions import (
    DiagonalGaussian,
    standard_normal,
)
from latentbook.layers.spatial_transformer import (
    box_corners,
    image_to_window,
    paste_windows,
)
from latentbook.models.air_objectives import (
    Steps,
    concrete,
    count_log_probs,
    exact,
    patterns,
    reinforce,
)
from latentbook.models.air_parts import (
    EDGE,
    EXACT,
    OTHER_SIZE,
    AIRConfig,
    Recurrent,
    WhatVAE,
    check_images,
)
from latentbook.schedules import linear


class Path(NamedTuple):
    """One pass through all steps as if every object were there; z is [where, what] side
    by side, 3 + what numbers.
    """

    logits: Float[Tensor, "batch steps"]  # of presence
    q: DiagonalGaussian  # of z, [batch, steps, 3 + what]
    z: Float[Tensor, "batch steps z"]  # as drawn; `AIR.place` bounds its scale
    crops: Float[Tensor, "batch steps 1 window window"]  # what each window sees

    def in_order(self, order: Int[Tensor, "batch steps"]) -> Path:
        """The same steps in another order, each scene's own."""
        rows = torch.arange(len(order), device=order.device).unsqueeze(1)
        mean, log_var = (part[rows, order] for part in (self.q.mean, self.q.log_var))
        logits, z, crops = (
            part[rows, order] for part in (self.logits, self.z, self.crops)
        )
        return Path(logits, DiagonalGaussian(mean, log_var), z, crops)


class Inference(NamedTuple):
    """What the model sees in scenes; objects beyond the count are there too, as
    candidates that were not used.
    """

    counts: Int[Tensor, " batch"]
    count_log_probs: Float[Tensor, "batch counts"]  # log q(n), n = 0..steps
    # the probability of each step's object, given that the step is reached
    presence: Float[Tensor, "batch steps"]
    where: Float[Tensor, "batch steps 3"]  # (scale, shift_x, shift_y)
    what: Float[Tensor, "batch steps what"]
    crops: Float[Tensor, "batch steps 1 window window"]
    # each object alone, pasted back
    canvases: Float[Tensor, "batch steps canvas canvas"]
    # left, top, right, bottom in pixels (spatial_transformer.box_corners)
    boxes: Float[Tensor, "batch steps 4"]


class AIR(nn.Module):
    """The recurrent inference network, the what-VAE, the priors, and the baseline's
    network where one is learnt.

    Scenes, codes and noise are taken in the model's own precision, and in what it holds
    exactly.
    """

    def __init__(self, config: AIRConfig = EXACT):
        super().__init__()
        self.config = c = checks.kind("config", config, AIRConfig)
        self.z_dim = 3 + c.what_dim
        self.inference = Recurrent(
            c.canvas, 1 + self.z_dim, c.hidden_dim, 1 + 3 + 3, c.image_layer
        )
        with torch.no_grad():
            self.inference.last.weight[:7] = 0
            self.inference.last.bias[:7] = torch.tensor(
                [c.first_presence, *c.where_mean, *[c.first_log_var] * 3]
            )
        self.what = WhatVAE(
            c.window, c.what_hidden_dim, c.what_dim, c.output, c.output_bias
        )
        if c.objective == "reinforce" and c.learnt_baseline:
            self.baseline = Recurrent(
                c.canvas, 1 + self.z_dim, c.hidden_dim, 1, c.image_layer
            )
        presence_logit = torch.tensor(c.presence_prior).logit()
        # they follow from the configuration, so weights files do not hold them
        for name, value in {
            # of z; what is N(0, I)
            "prior_mean": F.pad(torch.tensor(c.where_mean), (0, c.what_dim)),
            "prior_log_var": F.pad(torch.tensor(c.where_var).log(), (0, c.what_dim)),
            "presence_logit": presence_logit,
            "count_prior": self.count_log_probs(presence_logit.expand(c.steps)).exp(),
        }.items():
            self.register_buffer(name, value, persistent=False)

    @property
    def prior(self) -> DiagonalGaussian:
        """p(z) of one object."""
        return DiagonalGaussian(self.prior_mean, self.prior_log_var)

    def exploration(self, step: int) -> float:
        """The floor of presence at a training step; for fit: arguments={"floor":
        model.exploration}.
        """
        return linear(self.config.floor_steps, self.config.floor, 0.0)(step)

    def exploring(self, step: int) -> float:
        """The share of the count's posterior that is uniform at a training step; for
        fit: arguments={"explore": model.exploring}.
        """
        return linear(self.config.floor_steps, self.config.explore, 0.0)(step)

    def count_log_probs(
        self, logits: Float[Tensor, "*batch steps"]
    ) -> Float[Tensor, "*batch counts"]:
        """log q(n), n = 0..steps, from the logits of presence."""
        return count_log_probs(logits, self.config.stops)

    def place(self, z: Float[Tensor, "*batch z"]) -> Float[Tensor, "*batch z"]:
        """z, or where alone, with its scale in the configured range."""
        if self.config.scale_range is None:
            return z
        return torch.cat((z[..., :1].clamp(*self.config.scale_range), z[..., 1:]), -1)

    def posterior(self, mean: Tensor, log_var: Tensor) -> DiagonalGaussian:
        """A Gaussian with its log-variance in the configured range."""
        limits = self.config.log_var_range
        return DiagonalGaussian(
            mean, log_var if limits is None else log_var.clamp(*limits)
        )

    def attend(
        self,
        images: Float[Tensor, "batch 1 canvas canvas"],
        noise: Float[Tensor, "batch steps z"],
    ) -> Path:
        """Infer all steps, where first and then what, with N(0, 1) noise for both.

        Raises ValueError for images of another size or outside [0, 1], and for noise of
        another shape or not finite.
        """
        c = self.config
        images, noise = (
            check_images(images, c.canvas, self.prior_mean.dtype),
            self.check_noise(noise, len(images)),
        )
        left = images.flatten(1)
        projected = self.inference.of_image(left)
        z, state = (
            images.new_ones(len(images), 1 + self.z_dim),
            images.new_zeros(len(images), c.hidden_dim),
        )
        steps = []
        for eps in noise.unbind(1):
            outputs, state = self.inference(projected, z, state)
            logit, mean, log_var = outputs.split((1, 3, 3), dim=1)
            where = self.place(self.posterior(mean, log_var).sample(eps[:, :3]))
            crop = image_to_window(images, where, c.window)
            what_mean, what_log_var = self.what.encode(crop)
            q = self.posterior(
                torch.cat((mean, what_mean), 1), torch.cat((log_var, what_log_var), 1)
            )
            drawn = q.sample(eps)
            steps.append((logit.squeeze(1), q.mean, q.log_var, drawn, crop))
            there = logit.sigmoid() if c.hears_presence else torch.ones_like(logit)
            z = torch.cat((there, self.place(drawn)), 1)  # presence, where, what
            if c.residual and len(steps) < c.steps:
                where, what = z[:, None, 1:].split((3, c.what_dim), 2)
                left = left - self.paint(where, what).flatten(1)
                projected = self.inference.of_image(left)
        logits, mean, log_var, z, crops = (
            torch.stack(part, 1) for part in zip(*steps, strict=True)
        )
        return Path(logits, DiagonalGaussian(mean, log_var), z, crops)

    def scenes_in_float(self, images: Tensor) -> Float[Tensor, "batch 1 canvas canvas"]:
        """Scenes in the model's precision, before `attend` looks at every pixel.

        Raises ValueError for other shapes.
        """
        images = checks.shaped(
            "images",
            checks.as_tensor("images", images),
            ("batch", 1, *[self.config.canvas] * 2),
            OTHER_SIZE,
        )
        return checks.in_float("images", images, self.prior_mean.dtype)

    def check_noise(self, noise: Tensor, n: int) -> Float[Tensor, "batch steps z"]:
        """Noise for n scenes in the model's precision.

        Raises ValueError for another shape, NaN and infinity.
        """
        return checks.finite(
            "noise", noise, (n, self.config.steps, self.z_dim), self.prior_mean.dtype
        )

    def paint(
        self,
        where: Float[Tensor, "batch steps 3"],
        what: Float[Tensor, "batch steps what"],
    ) -> Float[Tensor, "batch steps canvas canvas"]:
        """Each object alone on a canvas: its decoded window, pasted back.

        Raises ValueError for codes of another size.
        """
        c, dtype = self.config, self.prior_mean.dtype
        where, what = (
            checks.in_float(name, checks.as_tensor(name, part), dtype)
            for name, part in (("where", where), ("what", what))
        )
        if (
            where.ndim != 3
            or where.shape != (*what.shape[:2], 3)
            or what.shape[-1] != c.what_dim
        ):
            raise ValueError(
                "where must be [batch, steps, 3] and what [batch, steps, "
                f"{c.what_dim}], which the weights are for, "
                f"got {list(where.shape)} and {list(what.shape)}"
            )
        windows = self.what.decode(what.flatten(0, 1))
        return paste_windows(
            windows.squeeze(1), where.flatten(0, 1), c.canvas
        ).unflatten(0, where.shape[:2])

    def nll(
        self, images: Tensor, canvases: Tensor, share: Float[Tensor, "batch k steps"]
    ) -> Float[Tensor, "batch k"]:
        """-log p(x) in nats of k pictures, each a sum of objects by their shares;
        without the Gaussian's constant.
        """
        # [batch, k, pixels]
        mean, x = share @ canvases.flatten(2), images.flatten(1).unsqueeze(1)
        if self.config.likelihood == "gaussian":
            return (x - mean).square().sum(2) / (2 * self.config.variance)
        return F.binary_cross_entropy(
            mean.clamp(EDGE, 1 - EDGE), x.expand_as(mean), reduction="none"
        ).sum(2)

    def steps(self, images: Tensor, path: Path, **choices) -> Steps:
        """A path as the estimators take it, with this model's priors; choices: fields
        of Steps.
        """
        z, kl = self.place(path.z), path.q.kl(self.prior)
        canvases = self.paint(z[..., :3], z[..., 3:])
        return Steps(
            path.logits,
            {"where": kl[..., :3].sum(2), "what": kl[..., 3:].sum(2)},
            lambda share: self.nll(images, canvases, share),
            **{
                "prior_logit": self.presence_logit,
                "stops": self.config.stops,
                **choices,
            },
        )

    def loss(
        self,
        batch: Batch,
        *,
        floor: float = 0.0,
        explore: float = 0.0,
        presence_prior: float | None = None,
        temperature: float | None = None,
        noise: Tensor | None = None,
        uniform: Tensor | None = None,
        generator: torch.Generator | None = None,
    ) -> dict[str, Float[Tensor, " batch"]]:
        """The terms of the configured objective per scene, in nats and weighted: "nll",
        "kl_presence", "kl_where", "kl_what".

        "reinforce" has "score" and "baseline" besides. `floor` of presence, `explore`
        of the count, `presence_prior` and `temperature` may follow a schedule. noise:
        see attend; uniform [batch, steps] in [0, 1): for the objectives that draw
        presence.
        Raises ValueError for images, noise or numbers that do not fit.
        """
        checks.generator("generator", generator)
        c, images = self.config, self.scenes_in_float(check_batch(batch).images)
        n = len(images)
        path = self.attend(
            images, self.draw_noise(n, generator) if noise is None else noise
        )
        prior = {}
        if presence_prior is not None:
            share = checks.number(
                "presence_prior", presence_prior, 0, 1, open_low=True, open_high=True
            )
            prior["prior_logit"] = path.logits.new_tensor(share).logit()
        choices = {"kl_weight": c.kl_weight, "floor": floor, "explore": explore}
        steps = self.steps(images, path, **choices, **prior)
        if c.objective == "exact":
            return exact(steps)
        if uniform is None:
            device = images.device if generator is None else generator.device
            uniform = torch.rand(
                path.logits.shape, generator=generator, device=device
            ).to(images)
        else:
            uniform = checks.finite("uniform", uniform, path.logits.shape, images.dtype)
        if c.objective == "concrete":
            return concrete(
                steps, uniform, c.temperature if temperature is None else temperature
            )
        return reinforce(
            steps,
            uniform,
            self.predict_cost(images, path) if c.learnt_baseline else None,
            c.published,
        )

    def predict_cost(self, images: Tensor, path: Path) -> Float[Tensor, "batch steps"]:
        """The learnt baseline: each step's cost, from the scene and what was inferred
        before; no gradient goes into either.
        """
        projected = self.baseline.of_image(images.flatten(1))
        # z of the step before; ones at first
        before = F.pad(self.place(path.z.detach()), (1, 0, 1, 0), value=1.0)
        state, values = torch.zeros_like(projected), []
        for z in before[:, : self.config.steps].unbind(1):
            value, state = self.baseline(projected, z, state)
            values.append(value)
        return torch.cat(values, 1)

    def draw_noise(
        self, n: int, generator: torch.Generator | None
    ) -> Float[Tensor, "n steps z"]:
        """N(0, 1) for where and what of n scenes."""
        n, generator = checks.count("n", n), checks.generator("generator", generator)
        return standard_normal(
            (n, self.config.steps, self.z_dim), self.prior_mean, generator
        )

    @torch.no_grad()
    def infer(
        self,
        images: Float[Tensor, "batch 1 canvas canvas"],
        generator: torch.Generator | None = None,
    ) -> Inference:
        """What is in the scenes: posterior means and the most probable count; with a
        generator, a draw of everything.
        """
        images, generator = (
            self.scenes_in_float(images),
            checks.generator("generator", generator),
        )
        noise = self.prior_mean.new_zeros(len(images), self.config.steps, self.z_dim)
        path = self.attend(
            images,
            noise if generator is None else self.draw_noise(len(images), generator),
        )
        log_q = self.count_log_probs(path.logits)
        if not self.config.stops:  # the surest are those that are there
            path = path.in_order(path.logits.argsort(1, descending=True))
        counts = (
            log_q.argmax(1)
            if generator is None
            else draw_counts(log_q.exp(), generator)
        )
        where, what = self.place(path.z).split((3, self.config.what_dim), dim=2)
        boxes = box_corners(where, self.config.canvas)
        presence = path.logits.sigmoid()
        return Inference(
            counts,
            log_q,
            presence,
            where,
            what,
            path.crops,
            self.paint(where, what),
            boxes,
        )

    @torch.no_grad()
    def render(
        self,
        where: Float[Tensor, "batch steps 3"],
        what: Float[Tensor, "batch steps what"],
        counts: Tensor,
    ) -> Float[Tensor, "batch 1 canvas canvas"]:
        """The scenes of the first `counts` [batch] objects of given codes, clamped to
        [0, 1].

        Raises as `paint`, and for NaN.
        """
        c = self.config
        what = checks.finite(
            "what", what, ("batch", "steps", c.what_dim), self.prior_mean.dtype
        )
        return add_up(self.paint(where, what), counts)

    def reconstruct(
        self, images: Tensor, generator: torch.Generator | None = None
    ) -> Tensor:
        """The scenes [batch, 1, canvas, canvas] drawn again from what `infer` sees in
        them.
        """
        seen = self.infer(images, generator)
        return add_up(seen.canvases, seen.counts)

    def sample(
        self,
        n: int,
        *,
        count_prior: Tensor | None = None,
        generator: torch.Generator | None = None,
    ) -> Float[Tensor, "n 1 canvas canvas"]:
        """Scenes from the prior; nearly all are empty under the model's own count
        prior, so give other odds [steps + 1].
        """
        n, generator = checks.count("n", n), checks.generator("generator", generator)
        z = self.place(self.prior.sample(self.draw_noise(n, generator)))
        counts = draw_counts(self.check_odds(count_prior).expand(n, -1), generator)
        return self.render(z[..., :3], z[..., 3:], counts)

    @torch.no_grad()
    def elbo(
        self, images: Tensor, generator: torch.Generator | None = None
    ) -> Float[Tensor, " batch"]:
        """The evidence lower bound in nats: one draw of where and what, the sum over
        all counts, no weights and no floor.
        """
        images = self.scenes_in_float(images)
        path = self.attend(images, self.draw_noise(len(images), generator))
        return -sum(exact(self.steps(images, path)).values()) - self.constant()

    @torch.no_grad()
    def importance_bound(
        self,
        images: Tensor,
        samples: int = 100,
        count_prior: Tensor | None = None,
        generator=None,
    ) -> Float[Tensor, " batch"]:
        """A tighter bound on log p(x) in nats (Burda et al., 2016, equation 8): the
        mean of `samples` importance weights.

        A weight is that of one path summed over all counts, sum_n p(n) p(x, z_1..n) /
        q(z_1..n), and so does not need q(n); without the stopping rule it sums over
        all subsets.
        """
        images, samples = self.scenes_in_float(images), checks.count("samples", samples)
        rows = patterns(self.config.steps, self.config.stops).to(images)
        counts = rows.sum(1).long()
        # a count's odds, shared by its patterns
        odds = self.check_odds(count_prior) / counts.bincount()
        weights, log_prior = [], odds.log()[counts]
        for _ in range(samples):
            path = self.attend(images, self.draw_noise(len(images), generator))
            ratio = (self.prior.log_prob(path.z) - path.q.log_prob(path.z)).sum(2)
            # [batch, patterns]
            log_p = (
                log_prior + ratio @ rows.T - self.steps(images, path).nll_of_patterns()
            )
            weights.append(log_p.logsumexp(1))
        return torch.stack(weights).logsumexp(0) - math.log(samples) - self.constant()

    def constant(self) -> float:
        """What `nll` leaves out: the logarithm of the Gaussian's normaliser over all
        pixels.
        """
        c = self.config
        return (
            0.5 * c.canvas**2 * math.log(2 * math.pi * c.variance)
            if c.likelihood == "gaussian"
            else 0.0
        )

    def check_odds(self, odds: Tensor | None) -> Float[Tensor, " counts"]:
        """Probabilities of 0..steps objects, the model's own if not given.

        Raises ValueError where they are none.
        """
        own = self.count_prior
        odds = own if odds is None else checks.as_tensor("count_prior", odds).to(own)
        if (
            odds.shape != own.shape
            or not (odds >= 0).all()
            or abs(float(odds.sum()) - 1) > 1e-4
        ):
            raise ValueError(
                f"count_prior must be probabilities of 0 to {len(own) - 1} objects, "
                f"which sum to 1, got {odds.tolist()}"
            )
        return odds


def add_up(
    canvases: Float[Tensor, "batch steps canvas canvas"], counts: Tensor
) -> Float[Tensor, "batch 1 canvas canvas"]:
    """The scenes of the first `counts` [batch] objects, each alone on its canvas,
    clamped to [0, 1].

    Raises ValueError unless there is one count for each scene, none above the number of
    its canvases.
    """
    counts = checks.class_numbers(
        "counts", counts, len(canvases), canvases.shape[1] + 1
    ).to(canvases.device)
    used = torch.arange(canvases.shape[1], device=canvases.device) < counts.unsqueeze(1)
    return (
        torch.einsum("bs,bsij->bij", used.to(canvases), canvases)
        .clamp(0, 1)
        .unsqueeze(1)
    )


def draw_counts(
    probabilities: Float[Tensor, "batch counts"], generator: torch.Generator | None
) -> Tensor:
    """One count int64 [batch] for each row, drawn on the generator's device.

    Raises ValueError for rows that are no odds: NaN, below 0, or 0 throughout.
    """
    checks.generator("generator", generator)
    probabilities = checks.as_tensor("probabilities", probabilities)
    dtype = torch.promote_types(checks.float_type(probabilities), torch.float32)
    probabilities = checks.finite(
        "probabilities", probabilities, ("batch", "counts"), dtype
    )
    if (probabilities < 0).any() or not (probabilities.sum(1) > 0).all():
        raise ValueError(
            "probabilities must be at least 0, and not all 0 in a row, got "
            f"{probabilities.tolist()[:3]} ..."
        )
    rows = probabilities if generator is None else probabilities.to(generator.device)
    return rows.multinomial(1, generator=generator).squeeze(1).to(probabilities.device)
