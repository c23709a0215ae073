"""Weights that change with the training step: each function returns a callable step -> weight."""

from __future__ import annotations

import math
from collections.abc import Callable

Schedule = Callable[[int], float]


def constant(value: float) -> Schedule:
    """The same weight at every step."""
    return lambda step: value


def logistic(midpoint: float = 2500, slope: float = 0.002) -> Schedule:
    """KL annealing 1 / (1 + exp(-slope (step - midpoint))) (Bowman et al., 2016, section 3.1; these defaults are
    Mix-and-Match's). Raises ValueError unless slope > 0."""
    if not slope > 0:  # also true of NaN
        raise ValueError(f"slope must be positive, got {slope}")
    return lambda step: 0.5 * (1 + math.tanh(0.5 * slope * (step - midpoint)))  # the same function, without overflow


def linear(length: float, start: float = 0.0, end: float = 1.0) -> Schedule:
    """From `start` at step 0 to `end` at step `length` in a straight line, then `end`. Raises ValueError unless length > 0."""
    if not length > 0:
        raise ValueError(f"length must be positive, got {length}")
    return lambda step: start + (end - start) * min(1.0, step / length)


def one_cycle(total: int, warmup: float = 0.1, floor: float = 0.0, peak: float = 1.0) -> Schedule:
    """A learning rate: straight up to `peak` over the first `warmup` share of `total` steps, then half a cosine down.

    It ends at the share `floor` of `peak`. Smith and Topin (2018), with the straight line and the cosine of torch's
    OneCycleLR. Raises ValueError unless total > 0 and 0 <= warmup < 1.
    """
    if not total > 0 or not 0 <= warmup < 1:
        raise ValueError(f"total must be positive and warmup in [0, 1), got total={total}, warmup={warmup}")
    rise = warmup * total

    def rate(step: int) -> float:
        if step < rise:
            return peak * ((step + 1) / (rise + 1))
        progress = min(1.0, (step - rise) / (total - rise))
        return peak * (floor + (1 - floor) * 0.5 * (1 + math.cos(math.pi * progress)))

    return rate
