"""Are two variants different? Intervals of means over seeds, and tests of failures, by scipy.stats."""

from __future__ import annotations

import math
import warnings
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from latentbook import checks

CONFIDENCE = 0.95


@dataclass(frozen=True)
class Interval:
    """An estimate and the interval that holds the true value with the stated confidence; `confidence` is a share of 1."""

    estimate: float
    low: float
    high: float
    confidence: float = CONFIDENCE

    def excludes(self, value: float = 0.0) -> bool:
        """Whether a value lies outside."""
        return not self.low <= value <= self.high

    def __str__(self) -> str:
        return f"{self.estimate:.3g} [{self.low:.3g}, {self.high:.3g}]"


def mean_interval(values: Sequence[float], confidence: float = CONFIDENCE) -> Interval:
    """Student's interval of a mean over seeds (scipy.stats.t); one that has no width where all values are the same.

    Raises ValueError for fewer than two values, numbers that are not finite, and a confidence outside (0, 1).
    """
    from scipy import stats

    values, confidence = _numbers("values", values), _share(confidence)
    mean, error = values.mean(), values.std(ddof=1) / math.sqrt(len(values))
    half = stats.t.ppf((1 + confidence) / 2, len(values) - 1) * error
    return Interval(float(mean), float(mean - half), float(mean + half), confidence)


def difference_interval(a: Sequence[float], b: Sequence[float], confidence: float = CONFIDENCE) -> Interval:
    """Welch's interval of the difference mean(a) - mean(b), for samples whose variances need not be alike.

    Where neither sample varies, the interval has no width. Raises ValueError as `mean_interval` does.
    """
    from scipy import stats

    a, b, confidence = _numbers("a", a), _numbers("b", b), _share(confidence)
    difference = float(a.mean() - b.mean())
    if np.ptp(a) == np.ptp(b) == 0:  # scipy would divide 0 by 0
        return Interval(difference, difference, difference, confidence)
    with warnings.catch_warnings():
        warnings.filterwarnings(
            "ignore", "Precision loss occurred"
        )  # of one sample that does not vary: its variance is 0
        low, high = stats.ttest_ind(a, b, equal_var=False).confidence_interval(confidence)
    return Interval(difference, float(low), float(high), confidence)


def fisher(failed: int, runs: int, other_failed: int, other_runs: int) -> float:
    """The two-sided p-value of Fisher's exact test that `failed` of `runs` and `other_failed` of `other_runs` fail alike.

    Raises ValueError for more failures than runs, and for no runs.
    """
    from scipy import stats

    rows = []
    for name, bad, all_runs in (("failed", failed, runs), ("other_failed", other_failed, other_runs)):
        all_runs = checks.count(name.replace("failed", "runs"), all_runs)
        bad = checks.count(f"{name} (of {all_runs} runs)", bad, 0, all_runs)
        rows.append([bad, all_runs - bad])
    return float(stats.fisher_exact(rows).pvalue)


def _numbers(name: str, values: Sequence[float]) -> np.ndarray:
    """At least two finite numbers, one a seed."""
    numbers = np.asarray([checks.number(name, value) for value in values], dtype=np.float64)
    if len(numbers) < 2:
        raise ValueError(f"{name} must be at least two numbers, one a seed, got {len(numbers)}: record more seeds")
    return numbers


def _share(confidence: float) -> float:
    return checks.number("confidence", confidence, 0, 1, open_low=True, open_high=True)
