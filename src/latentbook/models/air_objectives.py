"""Four ways to learn how many objects a scene holds (Eslami et al., 2016, section 2.2),
all from one path.

Presence stops at its first zero, so with N steps there are N + 1 possible counts. Let
the networks take all N steps as if every object were there: count n then uses the first
n objects of this one path, whatever n is, and nothing else need be computed for it.
`exact` sums over the counts; `reinforce` draws one, with a baseline or without, and
`leave_one_out` several, each other's baseline; `concrete` relaxes presence. Without the
stopping rule every step has its own presence, and `exact` sums over all 2^N subsets of
the same path.
Each returns named per-example terms, in nats and weighted, whose sum is to be
minimised.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import NamedTuple

import torch
import torch.nn.functional as F
from jaxtyping import Float
from torch import Tensor

from latentbook import checks
from latentbook.layers.distributions import (
    check_temperature,
    presence_log_probs,
)


@dataclass(frozen=True)
class Steps:
    """What a path through all steps offers: per step an object, what its codes cost,
    and the logit of its presence.

    logits: [batch, steps]. kl: name -> [batch, steps] in nats, of an object's codes.
    nll: from the share of each object in k pictures [batch, k, steps] to -log p(x) of
    each picture [batch, k]. prior_logit: of presence, a scalar tensor.
    kl_weight: of all divergences. floor: presence stays in [floor, 1 - floor]
    (distributions.presence_log_probs). explore: this share of the posterior is uniform
    over the counts. stops: presence ends at its first absence; else every step has its
    own.
    Raises ValueError where the shapes do not agree, and for explore outside [0, 1].
    """

    logits: Float[Tensor, "batch steps"]
    kl: dict[str, Float[Tensor, "batch steps"]]
    nll: Callable[[Tensor], Tensor]
    prior_logit: Float[Tensor, ""]
    kl_weight: float = 1.0
    floor: float = 0.0
    explore: float = 0.0
    stops: bool = True

    def __post_init__(self) -> None:
        checks.shaped("logits", self.logits, ("batch", "steps"))
        for name, kl in self.kl.items():
            checks.shaped(f"kl of {name}", kl, self.logits.shape)
        checks.shaped("prior_logit", self.prior_logit, ())
        checks.number("explore", self.explore, 0, 1)

    def patterns(self) -> Float[Tensor, "patterns steps"]:
        """Which objects are there, a row for each possibility: see `patterns`."""
        return patterns(self.logits.shape[1], self.stops).to(self.logits)

    def nll_of_patterns(self) -> Float[Tensor, "batch patterns"]:
        """-log p(x) of every pattern."""
        return self.nll(self.patterns().expand(len(self.logits), -1, -1))

    def log_prior(self) -> Float[Tensor, " patterns"]:
        """log p of every pattern. With the stopping rule it is the geometric
        distribution, cut off at the last step.
        """
        logits = self.prior_logit.expand(self.logits.shape[1])
        return pattern_log_probs(*presence_log_probs(logits), self.stops)

    def log_q(self) -> Float[Tensor, "batch patterns"]:
        """log q of every pattern, the share that explores included:
        q'(n) = (1 - explore) q(n) + explore / (N + 1), alike for all of a count.
        """
        presence = presence_log_probs(self.logits, self.floor)
        log_q = pattern_log_probs(*presence, self.stops)
        if self.explore == 0:
            return log_q
        counts = self.patterns().sum(1)
        as_many = (counts == counts.unsqueeze(1)).sum(1)  # patterns of the same count
        uniform = -(as_many * (self.logits.shape[1] + 1)).to(log_q).log()
        share = log_q.new_tensor(self.explore)
        return torch.logaddexp((-share).log1p() + log_q, share.log() + uniform)

    def presence(self) -> tuple[Tensor, Tensor]:
        """log p and log(1 - p) of each step's presence, given that it is reached.

        Raises ValueError without the stopping rule: only `exact` sums over subsets.
        """
        if not self.stops:
            raise ValueError(
                "without the stopping rule nothing is drawn or relaxed here: use "
                "exact, or Steps(..., stops=True)"
            )
        if self.explore == 0:
            return presence_log_probs(self.logits, self.floor)
        log_q = self.log_q()  # of counts 0..steps
        at_least = log_q.flip(1).logcumsumexp(1).flip(1)  # log q(n >= i)
        return at_least[:, 1:] - at_least[:, :-1], log_q[:, :-1] - at_least[:, :-1]

    def weighted(
        self, share: Float[Tensor, "batch steps"]
    ) -> dict[str, Float[Tensor, "batch steps"]]:
        """What the codes of each object cost, by its share."""
        return {
            f"kl_{name}": self.kl_weight * share * kl for name, kl in self.kl.items()
        }

    def kl_presence(self) -> Float[Tensor, " batch"]:
        """KL(q || p), over all patterns."""
        log_q = self.log_q()
        return self.kl_weight * (log_q.exp() * (log_q - self.log_prior())).sum(1)


def patterns(steps: int, stops: bool = True) -> Float[Tensor, "patterns steps"]:
    """Which of so many steps' objects are there: row n the first n of them, from 0 to
    all; without the stopping rule a row for each of the 2^steps subsets.
    """
    if stops:
        return torch.ones(steps + 1, steps).tril(-1)
    return torch.cartesian_prod(*[torch.tensor([0.0, 1.0])] * steps).view(-1, steps)


def pattern_log_probs(
    on: Float[Tensor, "*batch steps"], off: Float[Tensor, "*batch steps"], stops: bool
) -> Float[Tensor, "*batch patterns"]:
    """log q of every row of `patterns`, from each step's presence and absence."""
    if stops:
        return F.pad(on.cumsum(-1), (1, 0)) + F.pad(off, (0, 1))
    rows = patterns(on.shape[-1], stops).to(on)
    return on @ rows.T + off @ (1 - rows).T


def count_log_probs(
    logits: Float[Tensor, "*batch steps"], stops: bool = True
) -> Float[Tensor, "*batch counts"]:
    """log q(n) of the number of objects, n = 0..steps: a sum over its patterns."""
    log_q = pattern_log_probs(*presence_log_probs(logits), stops)
    counts = patterns(logits.shape[-1], stops).sum(1)
    each = [log_q[..., counts == n] for n in range(logits.shape[-1] + 1)]
    return torch.stack([part.logsumexp(-1) for part in each], -1)


def exact(steps: Steps) -> dict[str, Float[Tensor, " batch"]]:
    """The expectation over what is there as a sum over all patterns, N + 1 of them (2^N
    without the stopping rule): its gradient has no variance but that of where and what.
    """
    q = steps.log_q().exp()
    there = q @ steps.patterns()  # the chance that object i is used
    codes = {name: kl.sum(1) for name, kl in steps.weighted(there).items()}
    return {
        "nll": (q * steps.nll_of_patterns()).sum(1),
        "kl_presence": steps.kl_presence(),
        **codes,
    }


def reinforce(
    steps: Steps,
    uniform: Float[Tensor, "batch steps"],
    baseline: Float[Tensor, "batch steps"] | None = None,
    published: bool = False,
) -> dict[str, Float[Tensor, " batch"]]:
    """One count drawn by `uniform` in [0, 1), and the score function for its gradient
    (Williams, 1992; Mnih and Gregor, 2014).

    "score" is a surrogate: its value means nothing, its gradient is cost times the
    gradient of log q(presence). The cost of a step is all that its outcome can still
    change: -log p(x) and the divergences from there on. `baseline` predicts it from
    what is known before, and has its own squared error, "baseline". published: as a
    well-known tutorial has it. There the cost is -log p(x) alone, though presence
    decides on the divergences too, and the codes of the step that stops are charged.
    Raises ValueError where the shapes do not agree.
    """
    uniform = checks.shaped(
        "uniform", checks.as_tensor("uniform", uniform), steps.logits.shape
    )
    if baseline is not None:
        baseline = checks.shaped(
            "baseline", checks.as_tensor("baseline", baseline), steps.logits.shape
        )
    terms, cost, log_q, reached = draw_count(steps, uniform, published)
    advantage = cost if baseline is None else cost - baseline.detach()
    terms["score"] = (advantage * log_q * reached).sum(1)
    if baseline is not None:
        terms["baseline"] = ((baseline - cost).square() * reached).sum(1)
    return terms


def leave_one_out(
    steps: Steps, uniform: Float[Tensor, "draws batch steps"]
) -> dict[str, Float[Tensor, " batch"]]:
    """Several counts drawn for each scene, each draw's baseline the mean cost of the
    others (Kool et al., 2019, "Buy 4 REINFORCE samples, get a baseline for free!"): no
    network predicts it, and all draws share one path.

    Terms as those of `reinforce`, means over the draws.
    Raises ValueError for fewer than two draws, and where shapes do not agree.
    """
    uniform = checks.shaped(
        "uniform", checks.as_tensor("uniform", uniform), ("draws", *steps.logits.shape)
    )
    if len(uniform) < 2:
        raise ValueError(
            "uniform must hold at least two draws of each scene, one to judge the "
            f"other by, got {len(uniform)}"
        )
    draws = [draw_count(steps, one) for one in uniform]
    cost = torch.stack([draw.cost for draw in draws])
    others = (cost.sum(0) - cost) / (len(cost) - 1)
    score = torch.stack([draw.log_q * draw.reached for draw in draws])
    mean = {
        name: torch.stack([draw.terms[name] for draw in draws]).mean(0)
        for name in draws[0].terms
    }
    return mean | {"score": ((cost - others) * score).sum(2).mean(0)}


class Draw(NamedTuple):
    """One count drawn for every scene, as the score function needs it."""

    terms: dict[str, Float[Tensor, " batch"]]
    # what each step's outcome can still change; no gradient goes into it
    cost: Float[Tensor, "batch steps"]
    log_q: Float[Tensor, "batch steps"]  # of each step's outcome
    reached: Float[Tensor, "batch steps"]  # 1 where a step took place, else 0


def draw_count(
    steps: Steps, uniform: Float[Tensor, "batch steps"], published: bool = False
) -> Draw:
    """A count by `uniform` in [0, 1), step by step; published: see reinforce."""
    on, off = steps.presence()
    there = uniform < on.exp()
    used = there.to(on).cumprod(1)  # object i is there: no zero up to i
    # step i took place: no zero before i
    reached = F.pad(used[:, :-1], (1, 0), value=1.0)
    nll = steps.nll(used.unsqueeze(1)).squeeze(1)
    prior_on, prior_off = presence_log_probs(steps.prior_logit.expand_as(on))
    # one Bernoulli's divergence a step
    presence = on.exp() * (on - prior_on) + off.exp() * (off - prior_off)
    presence = steps.kl_weight * reached * presence
    codes = steps.weighted(reached if published else used)
    cost = nll.unsqueeze(1)
    if not published:
        own = torch.stack(tuple(codes.values())).sum(0)
        # a step's own presence divergence does not depend on its draw
        cost = cost + from_here_on(own + presence) - presence
    terms = {
        "nll": nll,
        "kl_presence": presence.sum(1),
        **{name: kl.sum(1) for name, kl in codes.items()},
    }
    cost = cost.detach().expand_as(on)
    return Draw(terms, cost, torch.where(there, on, off), reached)


def from_here_on(cost: Float[Tensor, "batch steps"]) -> Float[Tensor, "batch steps"]:
    """For each step the sum of its cost and of all later ones."""
    return cost.flip(1).cumsum(1).flip(1)


def concrete(
    steps: Steps, uniform: Float[Tensor, "batch steps"], temperature: float = 1.0
) -> dict[str, Float[Tensor, " batch"]]:
    """Presence relaxed to (0, 1) (Maddison et al., 2017, appendix: BinConcrete), drawn
    by `uniform`; objects are there in part.

    The divergence of the count needs no draw and is exact, so only the picture and the
    codes' cost are of the relaxed model.
    Raises ValueError for a temperature that is not positive, and where the shapes do
    not agree.
    """
    check_temperature(temperature)
    uniform = checks.shaped(
        "uniform", checks.as_tensor("uniform", uniform), steps.logits.shape
    )
    on, off = steps.presence()
    # the noise in float32 at least: in half precision a number just below 1 is 1
    noise = torch.logit(
        uniform.to(torch.promote_types(uniform.dtype, torch.float32)), eps=1e-6
    ).to(on)
    used = torch.sigmoid((on - off + noise) / temperature).cumprod(1)
    codes = {name: kl.sum(1) for name, kl in steps.weighted(used).items()}
    return {
        "nll": steps.nll(used.unsqueeze(1)).squeeze(1),
        "kl_presence": steps.kl_presence(),
        **codes,
    }
