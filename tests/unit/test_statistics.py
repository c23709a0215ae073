"""Intervals and tests on cases whose answers stand in books, or follow by hand."""

import math

import pytest
import torch
from scipy import stats

from latentbook.experiments.statistics import Interval, difference_interval, fisher, mean_interval


def test_students_interval_of_a_mean_is_that_of_the_tables():
    found = mean_interval([1.0, 2.0, 3.0, 4.0, 5.0])
    half = 2.776445 * math.sqrt(2.5 / 5)  # t of 4 degrees of freedom at 97.5 %
    assert found.estimate == 3 and found.confidence == 0.95
    assert (found.low, found.high) == pytest.approx((3 - half, 3 + half), abs=1e-5)
    assert mean_interval([1.0, 2.0, 3.0, 4.0, 5.0], 0.5).high < found.high
    assert mean_interval(torch.tensor([2.0, 2.0])) == Interval(2.0, 2.0, 2.0)


def test_the_interval_holds_the_true_mean_as_often_as_it_says():
    draws = torch.randn(1000, 5, generator=torch.Generator().manual_seed(0)).tolist()
    held = sum(not mean_interval(row).excludes(0.0) for row in draws) / len(draws)
    assert abs(held - 0.95) < 0.025


def test_welchs_interval_of_a_difference_is_that_of_the_formula():
    a, b = [20.0, 22.0, 24.0], [10.0, 10.5, 11.0, 11.5, 12.0]
    va, vb = 4 / 3, 0.625 / 5
    freedom = (va + vb) ** 2 / (va**2 / 2 + vb**2 / 4)  # Welch and Satterthwaite: 2.38
    assert freedom == pytest.approx(2.382, abs=1e-3)
    found = difference_interval(a, b)
    half = stats.t.ppf(0.975, freedom) * math.sqrt(va + vb)
    assert (found.estimate, found.low, found.high) == pytest.approx((11, 11 - half, 11 + half))
    other = difference_interval(b, a)
    assert (other.low, other.high) == pytest.approx((-found.high, -found.low))
    assert found.excludes() and not difference_interval([1.0, 2.0, 3.0], [2.0, 1.0, 3.5]).excludes()
    one = difference_interval(
        [120.0, 120.0, 120.0], [110.0, 111.0, 112.0]
    )  # then the other's own, of 2 degrees of freedom
    assert (one.low, one.high) == pytest.approx((9 - 4.302653 / math.sqrt(3), 9 + 4.302653 / math.sqrt(3)))
    assert difference_interval([1.0, 1.0], [3.0, 3.0]) == Interval(-2.0, -2.0, -2.0)


def test_fishers_test_on_the_lady_tasting_tea():
    """Three of four cups named right: 17/35 in Fisher's own example, two-sided 34/70; all four, 2/70."""
    assert fisher(3, 4, 1, 4) == pytest.approx(34 / 70)
    assert fisher(4, 4, 0, 4) == pytest.approx(2 / 70)
    assert fisher(0, 20, 0, 20) == pytest.approx(1)
    assert fisher(0, 20, 6, 20) == pytest.approx(fisher(6, 20, 0, 20)) == pytest.approx(0.0202, abs=1e-4)


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda: mean_interval([1.0]), "values must be at least two numbers, one a seed, got 1"),
        (lambda: mean_interval([1.0, float("nan")]), "values must be a finite number"),
        (lambda: difference_interval([1.0, 2.0], [3.0]), "b must be at least two numbers"),
        (lambda: mean_interval([1.0, 2.0], 1.0), "confidence must be a finite number above 0 and below 1"),
        (lambda: fisher(5, 4, 0, 4), r"failed \(of 4 runs\) must be a whole number between 0 and 4, got 5"),
        (lambda: fisher(0, 4, 0, 0), "other_runs must be a whole number at least 1, got 0"),
    ],
)
def test_what_has_no_answer_is_refused(call, message):
    with pytest.raises(ValueError, match=message):
        call()


def test_an_interval_is_written_for_a_reader():
    assert str(Interval(1.2345, 0.5, 2.0)) == "1.23 [0.5, 2]"
