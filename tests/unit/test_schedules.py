"""Schedules: closed forms, extremes, monotony, errors."""

from __future__ import annotations

import math

import pytest
from hypothesis import given
from hypothesis import strategies as st

from latentbook.schedules import constant, linear, logistic, one_cycle

steps = st.integers(0, 10**6)
positive = st.floats(1e-4, 1e3)


def test_constant():
    assert [constant(0.3)(step) for step in (0, 1, 10**9)] == [0.3] * 3


@given(step=st.integers(0, 10_000))
def test_logistic_is_mix_and_matchs_curve(step):
    assert logistic()(step) == pytest.approx(1 / (1 + math.exp(-0.002 * (step - 2500))), rel=1e-9)


@given(step=st.integers(0, 100), midpoint=st.floats(0, 100), slope=st.floats(0.001, 0.3))
def test_logistic_closed_form(step, midpoint, slope):
    assert logistic(midpoint, slope)(step) == pytest.approx(1 / (1 + math.exp(-slope * (step - midpoint))), rel=1e-6)


def test_logistic_extremes_do_not_overflow():
    assert logistic(2500.0, 0.002)(2500) == 0.5
    assert logistic(1e12, 1e3)(0) == 0.0
    assert logistic(0.0, 1e3)(10**12) == 1.0


@given(a=steps, b=steps, midpoint=st.floats(0, 1e5), slope=positive)
def test_logistic_rises_within_bounds(a, b, midpoint, slope):
    low, high = logistic(midpoint, slope)(min(a, b)), logistic(midpoint, slope)(max(a, b))
    assert 0 <= low <= high <= 1


@given(step=steps, length=st.floats(1, 1e5))
def test_linear_closed_form(step, length):
    assert linear(length)(step) == pytest.approx(min(1, step / length), rel=1e-12)


def test_linear_ends():
    fall = linear(10.0, start=3.0, end=1.0)
    assert [fall(step) for step in (0, 5, 10, 10**9)] == [3, 2, 1, 1]


@given(a=steps, b=steps, length=positive)
def test_linear_rises_within_bounds(a, b, length):
    assert 0 <= linear(length)(min(a, b)) <= linear(length)(max(a, b)) <= 1


@pytest.mark.parametrize("bad", [0.0, -1.0, math.nan])
def test_slope_and_length_must_be_positive(bad):
    with pytest.raises(ValueError, match=f"slope must be positive, got {bad}"):
        logistic(10.0, bad)
    with pytest.raises(ValueError, match=f"length must be positive, got {bad}"):
        linear(bad)


def test_one_cycle_closed_form():
    factor = one_cycle(100, warmup=0.1, floor=0.2)
    assert [factor(step) for step in (0, 4, 9)] == pytest.approx([1 / 11, 5 / 11, 10 / 11])
    assert factor(10) == 1.0
    assert factor(55) == pytest.approx(0.2 + 0.8 * 0.5)  # half way down the cosine
    assert factor(100) == pytest.approx(0.2) and factor(10**6) == pytest.approx(0.2)
    rate = one_cycle(100, warmup=0.1, floor=0.2, peak=3e-3)
    assert all(rate(step) == 3e-3 * factor(step) for step in range(120))


@given(total=st.integers(1, 5000), warmup=st.floats(0, 0.99), a=st.integers(0, 6000), b=st.integers(0, 6000))
def test_one_cycle_rises_then_falls(total, warmup, a, b):
    factor, (a, b) = one_cycle(total, warmup), sorted((a, b))
    assert 0 <= factor(a) <= 1
    assert a >= total or factor(a) > 0  # no step of the training is lost
    if b < warmup * total:
        assert factor(a) <= factor(b)
    elif a >= warmup * total:
        assert factor(a) >= factor(b)


@pytest.mark.parametrize(("total", "warmup"), [(0, 0.1), (-3, 0.1), (10, 1.0), (10, -0.1)])
def test_one_cycle_refuses_what_has_no_shape(total, warmup):
    with pytest.raises(ValueError, match="total must be positive and warmup in"):
        one_cycle(total, warmup)
