"""Choices of hyper-parameters: planned, made on validation digits alone, recorded one run at a time, told in one table."""

from __future__ import annotations

import json
from dataclasses import replace

import pytest

from latentbook.data import digits as digits_module
from latentbook.data import load_digits
from latentbook.experiments import EXPERIMENTS, choices, conditional_vae, primer, results
from latentbook.experiments.choices import (
    CHOICES,
    ELBO,
    MEASURES,
    Choice,
    Criterion,
    beaten_by,
    planned,
    table,
    verdict,
)
from latentbook.experiments.run import but

TOY = Choice(
    "primer",
    "learning rate",
    called="kl-weight-1, 1 epochs",
    base=replace(primer.VARIANTS["kl-weight-1"], epochs=1, learning_rate=0.001),
    before="0.001",
    taken="0.001",
    points={str(rate): {"learning_rate": rate} for rate in (0.001, 0.01)},
    criteria=(ELBO,),
)


@pytest.fixture
def toy(monkeypatch):
    monkeypatch.setattr(choices, "CHOICES", (TOY,))


# the variant that trains by what was chosen, by the choice's name, its base or its experiment
MEANT_FOR = {
    "primer": "kl-weight-1",
    "mix-and-match": "best",
    "fixed, 8 epochs": "fixed",
    "1,000 labels": "labels-1000",
    "without labels, 8 epochs": "unnamed",
    "with labels, 8 epochs": "named",
    "up to two digits": "explored",
}


def test_every_choice_takes_what_the_book_takes():
    """The variant has the field as it was taken; the base has it as it was before, and so has every other choice's point."""
    for choice in CHOICES:
        meant = next(MEANT_FOR[key] for key in (choice.name, choice.called, choice.experiment) if key in MEANT_FOR)
        own = results.plain(EXPERIMENTS[choice.experiment].VARIANTS[meant])
        own |= own["model"]
        taken, before = choice.points[choice.taken], choice.points[choice.before]
        assert {field: own[field] for field in taken} == json.loads(json.dumps(taken)), (
            choice.name
        )  # a list has no tuples
        assert choice.config(choice.before) == choice.base == but(choice.base, **before)
        others = [choice.config(value) for value in choice.points if value != choice.taken]
        assert others and all(other != choice.config(choice.taken) for other in others)


def test_points_have_names_of_their_own_and_share_where_they_start():
    recorded = {}
    for choice in CHOICES:
        for value in choice.points:
            key = choice.experiment, choice.point(value)
            assert recorded.setdefault(key, choice.config(value)) == choice.config(value), key
    names = [point for _, point in recorded]
    assert names.count("kl-weight-1") == names.count("best, 15 epochs") == 1
    assert "kl-weight-1: learning rate 0.002" in names and "best, 15 epochs: KL weight 2.0" in names


def test_what_was_taken_is_beaten_by_nothing_and_is_no_end_of_what_was_tried():
    """On the book's own record; of an end nobody can say whether more of it would be better still."""
    for choice in CHOICES:
        assert verdict(choice) == "confirmed", choice.name
        if "rate" in choice.name:
            first, *_, last = choice.points
            assert choice.taken not in (first, last)


def test_one_seed_of_every_point_comes_before_the_next_and_what_is_recorded_is_left_out(tmp_path):
    todo = planned(["primer"], (0, 1), tmp_path)
    points = [(run.choice.point(run.value), run.seed) for run in todo]
    assert len(points) == len(set(points)) == 2 * 4
    first = [seed for point, seed in points if "learning" in point or point == "kl-weight-1"]
    assert first == [0] * 4 + [1] * 4
    data = {"source": "toy", "hash": "0"}
    results.record("primer", "kl-weight-1", 1, TOY.config("0.001"), data, {"x": 1.0}, 1.0, directory=tmp_path)
    left = planned(["primer"], (0, 1), tmp_path)
    assert {(run.choice.point(run.value), run.seed) for run in left} == set(points) - {("kl-weight-1", 1)}
    assert planned(["mix-and-match"], (0,), tmp_path)[0].choice.experiment == "mix-and-match"


def test_a_point_is_trained_and_judged_without_test_digits(toy, tmp_path, monkeypatch):
    digits = load_digits("train", source="offline")
    monkeypatch.setattr(digits_module, "load_digits", None)
    train, validation = choices.parts(digits)
    assert (train.split, validation.split) == ("train", "validation")
    seen = []
    monkeypatch.setattr(
        choices, "listening_metrics", lambda model, held, seed: seen.append(held.sha256) or {"own": 1.0}
    )
    for run in planned(["primer"], (0, 1), tmp_path):
        assert "BCE + KL (nats)" in choices.record(run, train, validation, tmp_path)
    assert set(seen) == {validation.sha256} and len(seen) == 4
    document = results.load("primer", tmp_path)
    assert document["data"] == results.data_of(train, validation)
    entry = document["variants"]["kl-weight-1, 1 epochs"]
    assert entry["seeds"] == [0, 1] and set(entry["metrics"]) == {"bce", "kl", "negative_elbo", "own"}
    assert document["config"]["kl-weight-1, 1 epochs: learning rate 0.01"]["learning_rate"] == 0.01
    fast, slow = (choices.values(TOY, value, ELBO, tmp_path) for value in ("0.01", "0.001"))
    assert max(fast) < min(slow)  # ten steps at 0.001 learn little
    assert planned(["primer"], (0, 1), tmp_path) == []


def test_a_run_that_diverges_is_recorded_as_failed(toy, tmp_path, monkeypatch):
    def diverge(*arguments, **options):
        raise FloatingPointError("the loss is NaN")

    monkeypatch.setattr(choices, "run", diverge)
    train, validation = choices.parts(load_digits("train", source="offline"))
    told = choices.record(planned(["primer"], (3,), tmp_path)[0], train, validation, tmp_path)
    assert "the loss is NaN" in told
    entry = results.load("primer", tmp_path)["variants"]["kl-weight-1, 1 epochs"]
    assert entry["failed"] == [3] and entry["reasons"] == {"3": "the loss is NaN"} and entry["seeds"] == []


def test_mix_and_match_is_judged_as_in_its_chapter(tmp_path):
    train, validation = choices.parts(load_digits("train", source="offline"))
    run = next(run for run in planned(["mix-and-match"], (0,), tmp_path))
    short = choices.Planned(replace(run.choice, base=replace(run.choice.base, epochs=1)), run.value, 0)
    found = choices.run(short, train.take(slice(0, 256)), validation.take(slice(0, 40)), progress=False)
    assert {criterion.metric for criterion in run.choice.criteria} | {"listening_z"} <= set(found.metrics)
    assert found.seconds > 0


@pytest.mark.parametrize(
    "tuned", [choices.CONDITIONAL_VAE, choices.MULTI_LEVEL_VAE, choices.AIR], ids=lambda c: c[0].experiment
)
def test_the_other_chapters_are_judged_by_what_their_criteria_name(tuned, tmp_path):
    train, validation = choices.parts(load_digits("train", source="offline"))
    choice = tuned[1]
    value = next(v for v in choice.points if v != choice.before)
    short = choices.Planned(replace(choice, base=replace(choice.base, epochs=1)), value, 0)
    found = choices.run(short, train.take(slice(0, 256)), validation.take(slice(0, 200)), progress=False)
    assert {criterion.metric for each in tuned for criterion in each.criteria} <= set(found.metrics)
    assert not any("probe" in metric for metric in found.metrics)


def test_every_choice_stands_with_its_own_experiment():
    for experiment in MEASURES:
        own = getattr(choices, experiment.upper().replace("-", "_"))
        assert own and own == tuple(choice for choice in CHOICES if choice.experiment == experiment)


def test_a_point_may_change_the_model():
    base = conditional_vae.FEW
    choice = replace(
        TOY, base=base, before="1.5", taken="1.5", points={str(r): {"smooth_radius": r} for r in (0.75, 1.5)}
    )
    assert [choice.config(value).model.smooth_radius for value in choice.points] == [0.75, 1.5]
    assert choice.config("1.5") == base


# The record, read


def recorded(tmp_path, **metrics):
    """A record of TOY: {value: {metric: one number a seed}}."""
    for value, columns in metrics.items():
        value = value.replace("_", ".")
        for seed, row in enumerate(zip(*columns.values(), strict=True)):
            about = (TOY.config(value), {"source": "toy", "hash": "0"}, dict(zip(columns, row, strict=True)), 1.0)
            results.record("primer", TOY.point(value), seed, *about, directory=tmp_path)
    return tmp_path


def test_a_choice_is_beaten_by_what_is_better_beyond_its_interval(tmp_path):
    near = recorded(
        tmp_path / "near",
        **{"0_001": {"negative_elbo": [110.0, 111.0, 112.0]}, "0_01": {"negative_elbo": [109.5, 110.5, 111.5]}},
    )
    assert beaten_by(TOY, near) == [] and verdict(TOY, near) == "confirmed"
    far = recorded(
        tmp_path / "far",
        **{"0_001": {"negative_elbo": [110.0, 110.1, 110.2]}, "0_01": {"negative_elbo": [109.0, 109.1, 109.2]}},
    )
    shown = replace(TOY, criteria=(replace(ELBO, decides=False),))
    assert beaten_by(shown, far) == []  # what is only shown decides nothing
    assert beaten_by(TOY, far) == ["0.01"] and verdict(TOY, far) == "not confirmed; better: 0.01"
    gain = choices.gain(TOY, "0.01", ELBO, far)
    assert gain.estimate == pytest.approx(1.0) and gain.low > 0
    worse = recorded(
        tmp_path / "worse",
        **{"0_001": {"negative_elbo": [100.0, 100.1, 100.2]}, "0_01": {"negative_elbo": [109.0, 109.1, 109.2]}},
    )
    assert verdict(TOY, worse) == "confirmed"


def test_what_is_better_by_one_criterion_and_worse_by_another_does_not_beat(tmp_path):
    both = (Criterion("a", "a", more_is_better=True), Criterion("b", "b"))
    choice = replace(TOY, criteria=both)
    low, high = [1.0, 1.1, 1.2], [2.0, 2.1, 2.2]
    trade = recorded(tmp_path / "trade", **{"0_001": {"a": low, "b": low}, "0_01": {"a": high, "b": high}})
    assert verdict(choice, trade) == "confirmed"
    better = recorded(tmp_path / "better", **{"0_001": {"a": low, "b": high}, "0_01": {"a": high, "b": low}})
    assert verdict(choice, better) == "not confirmed; better: 0.01"
    one = recorded(tmp_path / "one", **{"0_001": {"a": low, "b": low}, "0_01": {"a": high, "b": low}})
    assert verdict(choice, one) == "not confirmed; better: 0.01"


def test_the_table_says_what_was_taken_its_alternatives_and_the_verdict(toy, tmp_path):
    assert verdict(TOY, tmp_path) == "not measured yet" and "| 0.001: – | 0.01: – |" in table(tmp_path)
    recorded(tmp_path, **{"0_001": {"negative_elbo": [110.0, 112.0]}, "0_01": {"negative_elbo": [120.0, 120.0]}})
    lines = table(tmp_path).splitlines()
    assert lines[0].count("|") == lines[1].count("|") == lines[2].count("|") and len(lines) == 3
    assert lines[2] == (
        "| primer | kl-weight-1, 1 epochs | learning rate | BCE + KL (nats) | 0.001: 111.00 ± 1.41 | 0.01: 120.00 ± 0.00 "
        "| after 2 of 3 seeds: confirmed |"
    )


def test_the_books_record_is_on_mnists_training_digits():
    for experiment in MEASURES:
        if results.path_of(experiment, choices.DIRECTORY).exists():
            document = results.load(experiment, choices.DIRECTORY)
            configs = {
                c.point(v): results.plain(c.config(v)) for c in CHOICES for v in c.points if c.experiment == experiment
            }
            assert document["data"]["source"] == "mnist" and document["data"] != results.load(experiment)["data"]
            for point in document["variants"]:
                assert document["config"][point] == configs[point], point


def test_shares_are_written_as_per_cent():
    assert Criterion("a", "a", form=".1%").written(0.7087) == "70.9" and Criterion("b", "b").written(81.58) == "81.6"
