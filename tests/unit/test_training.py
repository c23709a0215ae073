"""The one training loop: exact repeatability, resumption, honest means, clear stops, whole files."""

from __future__ import annotations

import json
import math
import os
import sys
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
import pytest
import torch
from torch import nn

from latentbook.data.digits import Batch, Digits
from latentbook.data.scenes import Layout, draw_scenes, fresh_scenes
from latentbook.layers.nets import dropout
from latentbook.models.vae import VAE, VAEConfig
from latentbook.schedules import one_cycle
from latentbook.training import loop as training
from latentbook.training.loop import (
    History,
    fit,
    initialise,
    load_tensors,
    load_weights,
    mean_terms,
    save_tensors,
    save_weights,
    validation,
)


def some_digits(n: int = 20, labels: list[int] | None = None) -> Digits:
    images = torch.rand(n, 1, 28, 28, generator=torch.Generator().manual_seed(n))
    return Digits(images, torch.tensor(labels) if labels else torch.arange(n) % 10, "offline", "abc", "train")


@dataclass(frozen=True)
class TinyConfig:
    width: int = 4


class Tiny(nn.Module):
    """Everything that makes repetition hard: a batch norm, noise, two terms."""

    def __init__(self, config: TinyConfig = TinyConfig()):
        super().__init__()
        self.config = config
        self.first = nn.Sequential(nn.Linear(784, config.width), nn.BatchNorm1d(config.width), nn.ReLU())
        self.second = nn.Linear(config.width, 10)

    def loss(self, batch: Batch, *, generator: torch.Generator | None = None) -> dict[str, torch.Tensor]:
        hidden = self.first(batch.images.flatten(1))
        hidden = hidden + 0.1 * torch.randn(hidden.shape, generator=generator).to(hidden)
        error = nn.functional.cross_entropy(self.second(hidden), batch.labels, reduction="none")
        return {"error": error, "size": hidden.square().mean(1)}


class Pupil(nn.Module):
    """One weight w with the terms w and the label: every gradient is 1, every mean is known. It notes all it sees."""

    def __init__(self):
        super().__init__()
        self.w = nn.Parameter(torch.zeros(()))
        self.seen: list[tuple] = []
        self.labels: list[list[int]] = []

    def loss(self, batch: Batch, *, generator: torch.Generator | None = None, **extra) -> dict[str, torch.Tensor]:
        self.seen.append((self.w.item(), *extra.values()))
        self.labels.append(batch.labels.tolist())
        return {"w": self.w.expand(len(batch.labels)), "label": batch.labels.float()}


class Plain(nn.Module):
    """A linear classifier: neither noise nor batch norm."""

    def __init__(self):
        super().__init__()
        self.layer = nn.Linear(784, 10)

    def loss(self, batch: Batch, *, generator: torch.Generator | None = None) -> dict[str, torch.Tensor]:
        logits = self.layer(batch.images.flatten(1))
        return {"error": nn.functional.cross_entropy(logits, batch.labels, reduction="none")}


def train(model: nn.Module, digits: Digits | None = None, **options) -> History:
    return fit(
        model,
        some_digits() if digits is None else digits,
        **{"epochs": 3, "batch_size": 8, "progress": False} | options,
    )


def same_weights(a: nn.Module, b: nn.Module) -> bool:
    return all(torch.equal(x, y) for x, y in zip(a.state_dict().values(), b.state_dict().values(), strict=True))


# Repeatability


def test_repeats_exactly_under_a_seed():
    first, again, other = (initialise(Tiny, 1) for _ in range(3))
    histories = [train(first, seed=5), train(again, seed=5), train(other, seed=6)]
    assert same_weights(first, again) and histories[0].epochs == histories[1].epochs
    assert not same_weights(first, other) and histories[0].epochs != histories[2].epochs


def test_initialise_draws_by_its_seed_alone():
    before = torch.get_rng_state()
    first, again, other = (initialise(Tiny, seed) for seed in (1, 1, 2))
    assert torch.equal(torch.get_rng_state(), before)
    assert same_weights(first, again) and not same_weights(first, other)


def test_fit_leaves_torchs_random_state():
    model, before = initialise(Tiny, 0), torch.get_rng_state()
    train(model)
    assert torch.equal(torch.get_rng_state(), before)


class WithDropout(Plain):
    """Noise in a layer, drawn from the generator that the loss is given."""

    def loss(self, batch: Batch, *, generator: torch.Generator | None = None) -> dict[str, torch.Tensor]:
        logits = self.layer(dropout(batch.images.flatten(1), 0.5, generator))
        return {"error": nn.functional.cross_entropy(logits, batch.labels, reduction="none")}


def test_dropout_repeats_resumes_and_leaves_torchs_random_state(tmp_path):
    first, again, other, resumed = (initialise(WithDropout, 0) for _ in range(4))
    before = torch.get_rng_state()
    train(first, seed=1)
    assert torch.equal(torch.get_rng_state(), before)
    torch.rand(3)
    train(again, seed=1)
    train(other, seed=2)
    assert same_weights(first, again) and not same_weights(first, other)
    for epochs in (1, 3):
        train(resumed, seed=1, epochs=epochs, checkpoint=tmp_path / "run")
    assert same_weights(first, resumed)


def test_agrees_with_a_loop_written_out():
    """The same batches through torch's plain Adam give the same weights."""
    ours, theirs, digits = initialise(Plain, 0), initialise(Plain, 0), some_digits(22)
    train(ours, digits, learning_rate=0.01, seed=4)
    optimizer, order = torch.optim.Adam(theirs.parameters(), lr=0.01, foreach=False), torch.Generator().manual_seed(4)
    for _ in range(3):
        for index in torch.randperm(22, generator=order).split(8):
            optimizer.zero_grad()
            theirs.loss(Batch(digits.images[index], digits.labels[index]))["error"].mean().backward()
            optimizer.step()
    torch.testing.assert_close(ours.layer.weight, theirs.layer.weight, rtol=0, atol=1e-6)
    assert (ours.layer.weight - initialise(Plain, 0).layer.weight).abs().max() > 0.01


def test_every_example_once_an_epoch_in_a_new_order():
    model = Pupil()
    train(model, some_digits(10, labels=list(range(10))), epochs=2, batch_size=4)
    first, second = ([label for batch in model.labels[i : i + 3] for label in batch] for i in (0, 3))
    assert sorted(first) == sorted(second) == list(range(10)) and first != second
    assert [len(labels) for labels in model.labels] == [4, 4, 2] * 2


# The history


def test_history_is_the_mean_over_all_examples():
    """The label's mean is 10: the last batch alone, or a mean of batch means, gives another number."""
    history = train(Pupil(), some_digits(10, labels=[0] * 9 + [100]), batch_size=4)
    assert history.curve("label") == pytest.approx([10.0] * 3)
    assert history.steps == 9 and len(history.epochs) == 3 and not history.interrupted
    assert list(history.epochs[0]) == ["w", "label"] and history.seconds > 0


def test_history_holds_the_terms_without_their_weights():
    history = train(Pupil(), some_digits(10), weights={"label": 7.0})
    assert history.curve("label") == pytest.approx([4.5] * 3)


# Schedules, arguments, hooks


def test_weights_and_the_learning_rate_act_at_their_steps():
    """Adam moves a weight of constant gradient by the learning rate; without a gradient it stays."""
    model = Pupil()
    train(model, weights={"w": lambda step: float(step >= 3)}, learning_rate=lambda step: 0.1)
    values = [seen[0] for seen in model.seen]
    assert values[:4] == [0.0] * 4 and values[4] < -0.01 and len(values) == 9
    model = Pupil()
    train(model, learning_rate=lambda step: 0.1 if step < 4 else 0.01)
    moved = torch.tensor([seen[0] for seen in model.seen] + [model.w.item()]).diff()
    torch.testing.assert_close(moved, -torch.tensor([0.1] * 4 + [0.01] * 5), rtol=1e-3, atol=1e-6)


def test_a_negative_weight_turns_the_direction_and_unnamed_terms_count_once():
    up, down = Pupil(), Pupil()
    train(up, weights={"w": -2.0})
    train(down)
    assert up.w.item() == pytest.approx(-down.w.item(), rel=1e-4) and up.w > 0


def test_arguments_are_functions_of_the_step():
    model = Pupil()
    train(model, arguments={"alpha": lambda step: 100 - step})
    assert [seen[1] for seen in model.seen] == [100 - step for step in range(9)]


def test_parameters_learn_at_their_own_rates():
    """With gradients of 1, Adam's steps are as long as the rate; the longest start of a name decides."""

    class Three(Pupil):
        def __init__(self):
            super().__init__()
            self.wide, self.wider = nn.Parameter(torch.zeros(())), nn.Parameter(torch.zeros(()))

        def loss(self, batch: Batch, *, generator: torch.Generator | None = None) -> dict[str, torch.Tensor]:
            return {"sum": (self.w + self.wide + self.wider).expand(len(batch.labels))}

    model = Three()
    train(model, learning_rate=lambda step: 0.01 * (step + 1), epochs=1, rate_factors={"wide": 10, "wider": 0.5})
    found = [float(parameter.detach()) for parameter in (model.w, model.wide, model.wider)]
    assert found == pytest.approx([-0.06, -0.6, -0.03], rel=1e-4)  # three steps at 0.01, 0.02, 0.03
    same, plain = initialise(Tiny, 0), initialise(Tiny, 0)
    train(same, rate_factors={"second": 1.0, "first": 1.0})
    train(plain)
    assert same_weights(same, plain)


@pytest.mark.parametrize(("factors", "named"), [({"third": 2.0}, "'third': 2.0"), ({"first": 0.0}, "'first': 0.0")])
def test_rates_of_nothing_and_rates_that_are_none_are_refused(factors, named):
    message = rf"positive numbers to names that parameters start with \(first, second\), got {named}"
    with pytest.raises(ValueError, match=message):
        train(initialise(Tiny, 0), rate_factors=factors)


def test_hooks_are_called_in_order_after_every_epoch():
    calls = []

    def first(model, history):
        model.eval()
        calls.append(("first", len(history.epochs)))

    def second(model, history):
        calls.append(("second", model.training))

    model = initialise(Tiny, 0)
    train(model, epochs=2, on_epoch_end=[first, second])
    assert calls == [("first", 1), ("second", True), ("first", 2), ("second", True)]
    train(model, epochs=1, on_epoch_end=first)
    assert calls[4:] == [("first", 1)]
    assert not model.training  # left in evaluation mode


def test_what_hooks_do_takes_no_training_time(monkeypatch):
    clock, seen = [0.0], []
    monkeypatch.setattr(training.time, "perf_counter", lambda: clock[0])

    class Slow(Pupil):
        def loss(self, batch: Batch, **extra) -> dict[str, torch.Tensor]:
            clock[0] += 1.0
            return super().loss(batch, **extra)

    def watch(model, history):
        clock[0] += 100.0
        seen.append(history.seconds)

    assert train(Slow(), epochs=2, on_epoch_end=watch).seconds == 6.0 and seen == [3.0, 6.0]  # three batches an epoch


def test_a_hook_that_evaluates_does_not_change_the_training():
    plain, watched = initialise(Tiny, 0), initialise(Tiny, 0)
    train(plain)
    train(watched, on_epoch_end=validation(some_digits(9)))
    assert same_weights(plain, watched)


def test_validation_adds_the_held_out_means():
    held_out = some_digits(6, labels=[0, 0, 0, 0, 0, 60])
    history = train(Pupil(), some_digits(10), on_epoch_end=validation(held_out, batch_size=4))
    assert history.curve("test_label") == pytest.approx([10.0] * 3) and history.curve("label")[0] == pytest.approx(4.5)


def test_mean_terms_measures_in_evaluation_mode_under_a_fixed_seed():
    model = initialise(Tiny, 0)
    train(model)
    model.train()
    first, again = mean_terms(model, some_digits(30), batch_size=7), mean_terms(model, some_digits(30), batch_size=7)
    assert first == again and not model.training
    assert first != mean_terms(model, some_digits(30), seed=1, batch_size=7)
    assert mean_terms(Pupil(), some_digits(10, labels=[0] * 9 + [100]), batch_size=4)["label"] == pytest.approx(10)


def test_live_curves_draws_every_epoch(monkeypatch):
    import livelossplot

    drawn = []
    monkeypatch.setattr(livelossplot.PlotLosses, "update", lambda self, logs, step: drawn.append(logs))
    monkeypatch.setattr(livelossplot.PlotLosses, "send", lambda self: drawn.append("sent"))
    history = train(Pupil(), epochs=2, on_epoch_end=training.live_curves())
    assert drawn == [history.epochs[0], "sent", history.epochs[1], "sent"]


@pytest.fixture
def curves(monkeypatch) -> list[dict[str, dict[str, list[float]]]]:
    """What livelossplot is sent: {title: {name: values}} each time."""
    import livelossplot

    def send(self):
        panels = self.logger.grouped_log_history(raw_names=True)
        found = {
            title: {name: [each.value for each in values] for name, values in panel.items()}
            for title, panel in panels.items()
        }
        sent.append(found)

    sent: list = []
    monkeypatch.setattr(livelossplot.PlotLosses, "send", send)
    return sent


@pytest.mark.parametrize("order", [1, -1])
def test_held_out_values_are_drawn_whatever_the_order_of_hooks(curves, order):
    history = train(Pupil(), epochs=2, on_epoch_end=[training.live_curves(), validation(some_digits(9))][::order])
    assert len(curves) == 2 and curves[1]["w"] == {"w": history.curve("w"), "test_w": history.curve("test_w")}


def test_curves_after_a_resumption_show_all_epochs(curves, tmp_path):
    def again(epochs: int, *hooks):
        curves.clear()
        options = {"epochs": epochs, "checkpoint": tmp_path / "run", "on_epoch_end": hooks}
        return train(initialise(Tiny, 0), **options)

    again(2, validation(some_digits(9)))
    history = again(4, training.live_curves(), validation(some_digits(9)))
    for term in ("error", "size"):
        assert curves[-1][term] == {name: history.curve(name) for name in (term, f"test_{term}")}
    assert len(curves) == 3 and len(curves[0]["error"]["test_error"]) == 2  # at once, then two more epochs
    assert load_tensors(tmp_path / "run")[1]["history"]["epochs"] == history.epochs  # what hooks measured is stored
    assert again(4, training.live_curves()).curve("test_error") == history.curve("test_error")
    assert len(curves) == 1 and len(curves[0]["error"]["error"]) == 4  # a finished run is drawn, too


def test_curves_start_anew_with_another_training_and_gain_terms_that_come_later(curves):
    draw = training.live_curves()
    train(Pupil(), epochs=2, on_epoch_end=draw)
    train(Pupil(), epochs=1, on_epoch_end=draw)
    assert len(curves[-1]["w"]["w"]) == 1
    history = History(epochs=[{"w": 1.0}])
    draw(Pupil(), history)
    history.epochs.append({"w": 2.0, "test_w": 3.0})
    draw(Pupil(), history)
    assert curves[-1] == {"w": {"w": [1.0, 2.0], "test_w": [3.0]}}


def test_hooks_are_prepared_before_the_first_step():
    calls = []

    class Prepared:
        draws = True

        def prepare(self, model, history):
            model.eval()
            calls.append(("prepare", history.steps))

        def __call__(self, model, history):
            calls.append(("draw", history.steps))

    def look(model, history):
        calls.append(("measure", history.steps))

    assert train(model := Pupil(), epochs=1, on_epoch_end=[Prepared(), look]).steps == 3
    assert calls == [("prepare", 0), ("measure", 3), ("draw", 3)] and len(model.seen) == 3


@pytest.mark.parametrize(
    ("held_out", "words"),
    [
        (some_digits(4).to("meta"), "the digits of validation are on meta, but the model is on cpu: move them by .to"),
        (
            replace(some_digits(4), images=torch.rand(4, 1, 20, 20)),
            "loss cannot be measured on the digits of validation",
        ),
    ],
)
def test_validation_on_digits_that_cannot_work_fails_before_the_training(held_out, words):
    model = initialise(Tiny, 0)
    with pytest.raises(ValueError, match=words):
        train(model, on_epoch_end=validation(held_out))
    assert same_weights(model, initialise(Tiny, 0))


# Batches of one


@pytest.mark.parametrize(
    ("n", "batch_size", "use"),
    [
        (17, 8, r"batch_size=7 or digits.take\(slice\(0, 16\)\) or a model"),
        (1, 8, "use a model without BatchNorm"),
        (4, 1, "use a model without BatchNorm"),
        (3, 2, "use digits.take"),
    ],
)
def test_batchnorm_does_not_train_on_an_example_alone(n, batch_size, use):
    model = initialise(Tiny, 0)
    with pytest.raises(
        ValueError, match=rf"{n} examples in batches of {batch_size} leave one alone.*\(first.1\).*{use}"
    ):
        train(model, some_digits(n), batch_size=batch_size)
    assert same_weights(model, initialise(Tiny, 0))
    assert train(Plain(), some_digits(n), batch_size=batch_size).epochs  # others do


def test_batchnorm_that_is_not_trained_takes_an_example_alone():
    class Fixed(Tiny):
        def train(self, mode: bool = True):
            super().train(mode)
            self.first[1].eval()
            return self

    assert train(initialise(Fixed, 0), some_digits(17)).steps == 9


def test_the_smallest_share_of_a_batch():
    cases = {
        (129, 128, 1): 1,
        (256, 128, 1): 128,
        (5, 128, 1): 5,
        (12, 4, 2): 2,
        (11, 4, 2): 1,
        (9, 4, 2): 1,
        (13, 5, 3): 1,
    }
    assert {case: training.smallest_share(*case) for case in cases} == cases


# Wrapped models


def by_compile(model: nn.Module) -> nn.Module:
    return torch.compile(model, backend="eager")


class Compiled(Tiny):
    """Only a part is compiled."""

    def __init__(self, config: TinyConfig = TinyConfig()):
        super().__init__(config)
        self.first = torch.compile(self.first, backend="eager")


def only_its_loss(model: nn.Module) -> nn.Module:
    model.loss = torch.compile(model.loss, backend="eager")
    return model


@pytest.mark.parametrize("wrap", [by_compile, nn.DataParallel, lambda model: by_compile(nn.DataParallel(model))])
def test_a_wrapped_model_trains_resumes_saves_and_loads_as_the_model_inside(tmp_path, wrap):
    plain, wrapped, resumed = initialise(Tiny, 0), wrap(initialise(Tiny, 0)), wrap(initialise(Tiny, 0))
    hooked = []
    hooks = [validation(some_digits(9)), lambda model, history: hooked.append(type(model))]
    options = {"rate_factors": {"first": 2.0}, "on_epoch_end": hooks}
    expected = train(plain, **options)
    history = train(wrapped, checkpoint=tmp_path / "run", **options)
    assert history.epochs == expected.epochs and same_weights(plain, wrapped) and set(hooked) == {Tiny}
    assert not wrapped.training and not plain.training
    assert train(initialise(Tiny, 0), epochs=4, checkpoint=tmp_path / "run", **options).steps == 12
    assert train(resumed, epochs=4, checkpoint=tmp_path / "run", **options).steps == 12
    assert mean_terms(wrapped, some_digits(9)) == mean_terms(plain, some_digits(9))
    for name, model in (("plain", plain), ("wrapped", wrapped)):
        save_weights(tmp_path / name, model)
    assert load_tensors(tmp_path / "plain")[1] == load_tensors(tmp_path / "wrapped")[1]
    assert same_weights(load_weights(tmp_path / "wrapped", rebuild), plain)
    assert same_weights(load_weights(tmp_path / "plain", lambda config: wrap(rebuild(config))), plain)


def test_a_model_with_a_compiled_part_or_loss_has_the_names_of_the_plain_one(tmp_path):
    plain, part, loss = initialise(Plain, 0), initialise(Compiled, 0), only_its_loss(initialise(Plain, 0))
    assert train(plain).epochs == train(loss).epochs and same_weights(plain, loss)
    train(part, rate_factors={"first.0": 2.0}, epochs=1)
    save_weights(tmp_path / "weights", part)
    assert set(load_tensors(tmp_path / "weights")[0]) == set(Tiny().state_dict())
    assert same_weights(load_weights(tmp_path / "weights", lambda config: Compiled(TinyConfig(**config))), part)


class Tied(Plain):
    """One matrix under two names, and a view of a vector under a third."""

    def __init__(self):
        super().__init__()
        self.other = nn.Linear(784, 10)
        self.other.weight = self.layer.weight
        self.register_buffer("part", self.layer.bias.detach()[2:4])


@pytest.mark.parametrize("bits", [32, 16, 8])
def test_tied_weights_are_saved_and_loaded(tmp_path, bits):
    model, resumed, whole = (initialise(Tied, 0) for _ in range(3))
    train(model, epochs=1, checkpoint=tmp_path / "run")
    train(resumed, epochs=2, checkpoint=tmp_path / "run")
    train(whole, epochs=2)
    assert same_weights(resumed, whole)
    save_weights(tmp_path / "weights", model, bits=bits)
    loaded = load_weights(tmp_path / "weights", lambda config: Tied())
    assert loaded.other.weight is loaded.layer.weight
    if bits == 32:
        assert same_weights(loaded, model)


def test_live_curves_titles_a_panel_by_its_term(monkeypatch):
    """livelossplot has a long name of its own for "nll", and would use it."""
    import livelossplot

    panels = []
    monkeypatch.setattr(
        livelossplot.PlotLosses, "send", lambda self: panels.append(self.logger.grouped_log_history(raw_names=True))
    )
    history = History()
    history.epochs.append({"nll": 2.0, "test_nll": 3.0})
    training.live_curves()(Pupil(), history)
    assert {title: list(curves) for title, curves in panels[0].items()} == {
        "negative log-likelihood (nats)": ["nll", "test_nll"]
    }


# Interruption and resumption


def frozen(model: nn.Module, name: str) -> nn.Module:
    model.get_parameter(name).requires_grad_(False)
    return model


def interrupt_after(epoch: int):
    def hook(model, history):
        if len(history.epochs) == epoch:
            raise KeyboardInterrupt

    return hook


def test_ctrl_c_returns_the_history_so_far():
    model = initialise(Tiny, 0)
    history = train(model, epochs=5, on_epoch_end=interrupt_after(2))
    assert history.interrupted and len(history.epochs) == 2 and history.steps == 6
    assert not model.training


def test_ctrl_c_within_an_epoch():
    def alpha(step):
        if step == 4:
            raise KeyboardInterrupt
        return 0

    history = train(Pupil(), arguments={"alpha": alpha})
    assert history.interrupted and len(history.epochs) == 1 and history.steps == 4


def interrupt_at_step(step: int):
    def learning_rate(now: int) -> float:
        if now == step:
            raise KeyboardInterrupt
        return 1e-3

    return learning_rate


@pytest.mark.parametrize("factors", [{}, {"first": 10.0}], ids=["one rate", "two rates"])
@pytest.mark.parametrize("cut", ["at an epoch's end", "within an epoch"])
def test_resumes_to_exactly_the_uninterrupted_result(tmp_path, cut, factors):
    whole, first, second = (initialise(Tiny, 0) for _ in range(3))
    expected = train(whole, epochs=4, seed=3, rate_factors=factors)
    checkpoint, seen = tmp_path / "run.safetensors", []
    options = {"epochs": 4, "seed": 3, "checkpoint": checkpoint, "rate_factors": factors}
    if cut == "at an epoch's end":
        broken = train(first, **options, on_epoch_end=interrupt_after(2))
    else:
        broken = train(first, **options, learning_rate=interrupt_at_step(5))
    assert broken.interrupted and not same_weights(first, whole)
    history = train(second, **options, on_epoch_end=lambda model, history: seen.append(len(history.epochs)))
    assert seen == [2, 3, 4]  # the first epoch's checkpoint was used
    assert same_weights(second, whole) and history.epochs == expected.epochs and history.steps == expected.steps
    assert not history.interrupted and history.seconds > broken.seconds - 1
    assert [path.name for path in tmp_path.iterdir()] == ["run.safetensors"]


def test_a_finished_run_is_read_back_without_a_step(tmp_path):
    first, again = initialise(Tiny, 0), initialise(Tiny, 0)
    history = train(first, checkpoint=tmp_path / "run")
    repeated = train(again, checkpoint=tmp_path / "run", on_epoch_end=lambda *_: pytest.fail("there was nothing to do"))
    assert repeated.epochs == history.epochs and same_weights(first, again)


def test_a_finished_run_can_be_prolonged(tmp_path):
    whole, parts = initialise(Tiny, 0), initialise(Tiny, 0)
    expected = train(whole, epochs=4)
    for epochs in (1, 4):
        history = train(parts, epochs=epochs, checkpoint=tmp_path / "run")
    assert same_weights(whole, parts) and history.epochs == expected.epochs


@pytest.mark.parametrize(
    ("change", "named"),
    [
        ({"batch_size": 5}, "batch_size"),
        ({"seed": 1}, "seed"),
        ({"precision": "bfloat16"}, "precision"),
        ({"rate_factors": {"first": 2.0}}, "rate_factors"),
        ({"digits": some_digits(21)}, "examples"),
        ({"digits": some_digits(40).take(slice(20, 40))}, "content of the examples was '\\w+', is '\\w+'"),
        ({"digits": replace(some_digits(), labels=some_digits().labels.flip(0))}, "content of the examples"),
        ({"weights": {"size": 100.0}}, "weights.size at step 0 was 1.0, is 100.0"),
        ({"weights": {"size": 1.0, "error": 2.0}}, "weights.error at step 0 was not given, is 2.0"),
        ({"weights": {"size": lambda step: 1.0 + (step > 1)}}, "weights.size at step 3 was 1.0, is 2.0"),
        ({"learning_rate": 1e-2}, "learning_rate at step 0 was 0.001, is 0.01"),
        ({"learning_rate": lambda step: 1e-3 / (1 + step)}, "learning_rate at step 1 was 0.001, is 0.0005"),
        ({"model": lambda: Tiny(TinyConfig(width=5))}, "config.width was 4, is 5"),
        ({"model": lambda: Asking()}, "model was 'Tiny', is 'Asking'"),
        ({"model": lambda: Tiny().double()}, "dtype was"),
        ({"model": lambda: frozen(Tiny(), "first.0.weight")}, r"frozen was \[\], is \['first.0.weight'\]"),
    ],
)
def test_a_checkpoint_of_other_settings_is_refused(tmp_path, change, named):
    options = {"epochs": 2, "weights": {"size": 1.0}, "checkpoint": tmp_path / "run"}
    train(initialise(Tiny, 0), **options)
    before = (tmp_path / "run").read_bytes()
    change = dict(change)
    model, digits = change.pop("model", Tiny)(), change.pop("digits", None)
    with pytest.raises(ValueError, match=rf"{named}.*delete the checkpoint to start over, or use another file"):
        train(model, digits, **options | change)
    assert (tmp_path / "run").read_bytes() == before


class Asking(Tiny):
    """A loss that takes what it is given."""

    def loss(self, batch: Batch, *, generator: torch.Generator | None = None, **extra) -> dict[str, torch.Tensor]:
        return super().loss(batch, generator=generator)


@pytest.mark.parametrize(
    ("first", "second", "named"),
    [
        (1, 2, "arguments.x at step 0 was 1, is 2$"),
        ("a", "b", "arguments.x at step 0 was 'a', is 'b'$"),
        (torch.zeros(2, 3), torch.ones(2, 3), r"arguments.x at step 0 was \[\[0.0,.*, is \[\[1.0, "),
        (torch.zeros(50), torch.ones(50), r"arguments.x at step 0 was 'a tensor \[50\] of hash \w+', is 'a tensor"),
        ({"a": [1, 2]}, {"a": [1, 3]}, "arguments.x at step 0 was"),
    ],
)
def test_arguments_of_any_kind_belong_to_a_run(tmp_path, first, second, named):
    options = {"epochs": 1, "checkpoint": tmp_path / "run"}
    train(initialise(Asking, 0), arguments={"x": lambda step: first}, **options)
    assert train(initialise(Asking, 0), arguments={"x": lambda step: first}, **options).steps == 3
    with pytest.raises(ValueError, match=named.removesuffix("$")):
        train(initialise(Asking, 0), arguments={"x": lambda step: second}, **options)
    with pytest.raises(ValueError, match=r"arguments.x at step 0 was .*, is not given"):
        train(initialise(Asking, 0), **options)
    with pytest.raises(
        ValueError, match=r"arguments.x must be numbers, text, lists or dicts to be stored, got a object"
    ):
        train(initialise(Asking, 0), arguments={"x": lambda step: object()}, **options)


def test_a_schedule_that_is_another_later_goes_on_from_what_was_the_same(tmp_path):
    """The first epoch has steps 0 to 2: what a schedule does afterwards decides nothing that is in the checkpoint."""
    whole, parts = initialise(Tiny, 0), initialise(Tiny, 0)
    weights = {"size": lambda step: 0.5 if step < 3 else 5.0}
    expected = train(whole, epochs=3, weights=weights)
    train(parts, epochs=1, weights={"size": 0.5}, checkpoint=tmp_path / "run")
    assert train(parts, epochs=3, weights=weights, checkpoint=tmp_path / "run").epochs == expected.epochs
    assert same_weights(whole, parts)
    with pytest.raises(ValueError, match=r"weights.size at step 3 was 5.0, is 0.5: go on as before"):
        train(parts, epochs=3, weights={"size": 0.5}, checkpoint=tmp_path / "run")


def test_a_schedule_over_the_whole_training_is_another_one_for_more_epochs(tmp_path):
    options = {"checkpoint": tmp_path / "run"}
    train(initialise(Tiny, 0), epochs=2, learning_rate=one_cycle(6), **options)
    with pytest.raises(ValueError, match=r"learning_rate at step 0 was 0\.\d+, is 0\.\d+: go on"):
        train(initialise(Tiny, 0), epochs=4, learning_rate=one_cycle(12), **options)


def test_a_weight_of_one_is_no_weight(tmp_path):
    train(initialise(Tiny, 0), epochs=1, weights={"size": 1, "error": lambda step: 1.0}, checkpoint=tmp_path / "run")
    assert train(initialise(Tiny, 0), checkpoint=tmp_path / "run").steps == 9


def test_a_shorter_run_is_not_read_from_a_longer_one(tmp_path):
    train(initialise(Tiny, 0), epochs=3, checkpoint=tmp_path / "run")
    with pytest.raises(
        ValueError, match="already holds 3 epochs, got epochs=2: ask for 3 to read it, for more to go on"
    ):
        train(initialise(Tiny, 0), epochs=2, checkpoint=tmp_path / "run")


def with_metadata(path: Path, change) -> None:
    tensors, metadata = load_tensors(path)
    change(metadata)
    save_tensors(path, tensors, metadata)


@pytest.mark.parametrize(
    ("change", "words"),
    [
        (lambda m: m["run"]["settings"].update(device="cuda"), "device was 'cuda', is 'cpu': go on as before, delete"),
        (lambda m: m["run"]["settings"].update(processes=2), "processes was 2, is 1: go on"),
        (lambda m: m["run"]["settings"].pop("content of the examples"), "content of the examples was not given, is '"),
        (lambda m: m.pop("run"), r"an older version wrote it.*delete the checkpoint to start over"),
    ],
    ids=["another device", "other processes", "less known", "an older version"],
)
def test_a_checkpoint_from_elsewhere_says_what_differs(tmp_path, change, words):
    train(initialise(Tiny, 0), epochs=1, checkpoint=tmp_path / "run")
    with_metadata(tmp_path / "run", change)
    with pytest.raises(ValueError, match=words):
        train(initialise(Tiny, 0), checkpoint=tmp_path / "run")


def test_a_checkpoint_that_the_model_does_not_fit_is_refused(tmp_path):
    """Sizes that no configuration tells."""

    class Sized(Plain):
        def __init__(self, width: int):
            super().__init__()
            self.more = nn.Linear(width, 1)

    train(Sized(2), epochs=1, checkpoint=tmp_path / "run")
    with pytest.raises(ValueError, match=r"the weights in .* do not fit this model"):
        train(Sized(3), checkpoint=tmp_path / "run")


def test_scenes_that_are_drawn_anew_are_known_by_what_they_are_made_of(tmp_path):
    class Watcher(Plain):
        def __init__(self):
            super().__init__()
            self.layer = nn.Linear(30 * 30, 10)

    layout, options = Layout(canvas=30, size=10), {"epochs": 1, "checkpoint": tmp_path / "run"}
    train(initialise(Watcher, 0), fresh_scenes(some_digits(20), 8, layout), **options)
    assert train(initialise(Watcher, 0), fresh_scenes(some_digits(20), 8, layout), **options).steps == 1
    for other in (fresh_scenes(some_digits(21), 8, layout), draw_scenes(some_digits(20), 8, layout)):
        with pytest.raises(ValueError, match="content of the examples was"):
            train(initialise(Watcher, 0), other, **options)


def test_where_a_checkpoint_goes_is_tried_before_the_work(tmp_path):
    (tmp_path / "file").touch()
    for place in (tmp_path / "file" / "run", tmp_path, ""):
        model = initialise(Tiny, 0)
        with pytest.raises(OSError, match="the checkpoint cannot be written to"):
            train(model, checkpoint=place)
        assert same_weights(model, initialise(Tiny, 0))


@pytest.mark.parametrize("damage", ["cut", "rubbish", "empty"])
def test_a_damaged_checkpoint_is_refused(tmp_path, damage):
    path = tmp_path / "run"
    train(initialise(Tiny, 0), epochs=1, checkpoint=path)
    path.write_bytes({"cut": path.read_bytes()[:-50], "rubbish": b"rubbish" * 9, "empty": b""}[damage])
    with pytest.raises(ValueError, match=f"{path} is damaged"):
        train(initialise(Tiny, 0), checkpoint=path)


# Stops and bad arguments


class Breaks(Pupil):
    def loss(self, batch, *, generator=None):
        terms = super().loss(batch)
        if len(self.seen) == 5:
            terms["label"] = torch.full_like(terms["label"], self.value)
        return terms


@pytest.mark.parametrize("value", [float("nan"), float("inf")])
def test_a_loss_that_is_not_finite_names_step_and_term(value):
    model = Breaks()
    model.value = value
    with pytest.raises(FloatingPointError, match=r"not finite at step 4, in the term label$"):
        train(model)
    assert torch.isfinite(model.w)


def test_a_weight_that_is_not_finite_is_named():
    with pytest.raises(FloatingPointError, match="not finite at step 1, in the term weights"):
        train(Pupil(), weights={"w": lambda step: float("nan") if step else 1.0})
    for wrong in (float("nan"), float("inf"), "1", None):
        with pytest.raises(ValueError, match=r"weights\['w'\] must be a finite number"):
            train(Pupil(), weights={"w": wrong})
    for wrong in (float("nan"), -0.1, "fast", None):
        with pytest.raises(ValueError, match=f"learning_rate must be a finite number at least 0, got {wrong!r}"):
            train(Pupil(), learning_rate=wrong)


@pytest.mark.parametrize("name", ["epochs", "batch_size"])
@pytest.mark.parametrize("value", [0, -1, 2.0, "3"])
def test_counts_must_be_positive_ints(name, value):
    with pytest.raises(ValueError, match=f"{name} must be a whole number at least 1, got {value!r}"):
        train(Pupil(), **{name: value})


def test_numpys_numbers_are_numbers(tmp_path):
    """Also in the checkpoint, where they are the same run as Python's."""
    counts = {name: np.int64(value) for name, value in {"epochs": 2, "batch_size": 8, "seed": 3}.items()}
    numbers = {
        "learning_rate": np.float32(0.5),
        "weights": {"size": np.float64(2)},
        "rate_factors": {"first": np.int32(2)},
    }
    plain = {"epochs": 2, "seed": 3, "learning_rate": 0.5, "weights": {"size": 2}, "rate_factors": {"first": 2}}
    ours, theirs = initialise(Tiny, np.int64(0)), initialise(lambda: Tiny(TinyConfig(np.int64(4))), 0)
    expected = train(ours, **plain)
    history = train(theirs, **counts, **numbers, checkpoint=tmp_path / "run")
    assert same_weights(ours, theirs) and history.epochs == expected.epochs
    assert train(initialise(Tiny, 0), **plain, checkpoint=tmp_path / "run").epochs == expected.epochs


@pytest.mark.parametrize("digits", [None, [1, 2], torch.utils.data.DataLoader([1]), torch.zeros(3, 1, 28, 28)])
def test_only_digits_can_be_trained_on(digits):
    with pytest.raises(ValueError, match=r"digits must be Digits.*got (None|a \w+): use load_digits, or Digits\("):
        fit(Pupil(), digits, epochs=1)
    with pytest.raises(ValueError, match="validation needs Digits, at least one, got"):
        validation(digits)


def test_only_models_with_a_loss_can_be_trained():
    class NoGenerator(Plain):
        def loss(self, batch):
            return super().loss(batch)

    class Summed(Plain):
        def loss(self, batch, *, generator=None):
            return super().loss(batch)["error"]

    class Averaged(Plain):
        def loss(self, batch, *, generator=None):
            return {"error": super().loss(batch)["error"].mean()}

    for model, words in (
        (nn.Linear(2, 2), r"a method loss\(batch.*got Linear"),
        (nn.DataParallel(nn.Linear(2, 2)), r"a method loss\(batch"),
        (None, r"must be a torch.nn.Module with .*got None"),
        (NoGenerator(), "NoGenerator.loss is called as .* unexpected keyword argument 'generator'"),
        (Summed(), "must return a dict of named terms.*got a Tensor"),
        (Averaged(), r"one value per example, \[8\] here, got \[\] for error"),
    ):
        with pytest.raises(ValueError, match=words):
            train(model)


@pytest.mark.parametrize("device", ["tpu9", "meta", "cpu:x", 3.5, None] + ["cuda"] * (not torch.cuda.is_available()))
def test_a_device_that_is_not_here_is_refused(device):
    with pytest.raises(ValueError, match=f"device must be one that torch can use here, such as cpu, got {device!r}"):
        train(Pupil(), device=device)


@pytest.mark.parametrize(
    ("options", "words"),
    [
        ({"weights": {"kld": 50.0, "size": 1.0}}, "weights names kld, which does not exist; there are: error, size"),
        ({"weights": {"errors": lambda step: 1.0}}, "weights names errors, which does not exist"),
        ({"weights": 3.0}, "weights must be a dict of names, got a float"),
        ({"weights": ["error"]}, "weights must be a dict of names, got a list"),
        (
            {"arguments": {"alpha": lambda step: 1}},
            r"\(of Tiny.loss\) names alpha, which does not exist; there are: none",
        ),
        ({"arguments": {"generator": lambda step: None}}, "names generator, which does not exist"),
        ({"rate_factors": [1.0]}, "rate_factors must be a dict of names, got a list"),
        ({"rate_factors": {"first": "2"}}, r"rate_factors\['first'\] must be a finite number, got '2'"),
        ({"seed": -1}, "seed must be a whole number between 0 and"),
        ({"on_epoch_end": None}, "on_epoch_end must be a function of model and history.*got None"),
        ({"on_epoch_end": [len, "print"]}, "on_epoch_end must be a function of model and history, or a list"),
        ({"on_epoch_end": lambda model: None}, "a hook is called with the model and the history, but"),
    ],
)
def test_what_cannot_work_is_refused_before_the_model_changes(options, words):
    model, untouched = initialise(Tiny, 0), initialise(Tiny, 0)
    with pytest.raises(ValueError, match=words):
        train(model, **options)
    assert same_weights(model, untouched)  # BatchNorm's statistics too


def test_arguments_must_be_functions_that_the_loss_takes():
    class Two(Pupil):
        def loss(self, batch: Batch, *, alpha, beta=0, generator: torch.Generator | None = None):
            return super().loss(batch)

    with pytest.raises(ValueError, match=r"names gamma, which does not exist; there are: alpha, beta$"):
        train(Two(), arguments={"alpha": lambda step: 1, "gamma": lambda step: 1})
    with pytest.raises(ValueError, match="but missing a required argument: 'alpha'"):
        train(Two())
    with pytest.raises(
        ValueError, match=r"arguments\['alpha'\] must be a function of the step, got 5: use lambda step"
    ):
        train(Two(), arguments={"alpha": 5})
    assert train(Two(), arguments={"alpha": lambda step: 1}).steps == 9


def test_no_digits_and_unknown_precision():
    with pytest.raises(ValueError, match="at least one of 4 digits must be taken"):
        train(Pupil(), some_digits(4).take(slice(0, 0)))
    with pytest.raises(ValueError, match="precision must be one of float32, bfloat16, got 'half'"):
        train(Pupil(), precision="half")


# Progress


def test_progress_is_silent_where_there_is_no_terminal(capsys):
    train(Pupil(), progress=True)
    captured = capsys.readouterr()
    assert captured.err == "" and captured.out == ""


@pytest.mark.parametrize("progress", [True, False])
def test_progress_shows_in_a_terminal_unless_told_not_to(capsys, monkeypatch, progress):
    monkeypatch.delenv("TQDM_DISABLE", raising=False)
    monkeypatch.setattr(sys.stderr, "isatty", lambda: True)
    train(Pupil(), progress=progress)
    assert ("9/9" in capsys.readouterr().err) == progress


# Precision and devices


def test_bfloat16_runs_near_single_precision():
    half, single = initialise(Plain, 0), initialise(Plain, 0)
    losses = [train(model, precision=p).curve("error") for model, p in ((half, "bfloat16"), (single, "float32"))]
    assert losses[0] == pytest.approx(losses[1], rel=0.05) and losses[0] != losses[1]
    assert half.layer.weight.dtype == torch.float32


@pytest.mark.gpu
@pytest.mark.parametrize("precision", ["float32", "bfloat16"])
def test_the_same_code_runs_on_an_accelerator(tmp_path, precision):
    here, there, resumed = (initialise(Plain, 0) for _ in range(3))
    history = train(here, learning_rate=0.01)
    options = {"learning_rate": 0.01, "device": "cuda", "precision": precision, "checkpoint": tmp_path / "run"}
    other = train(there, **options)
    assert there.layer.weight.is_cuda
    tolerance = 1e-4 if precision == "float32" else 0.05
    assert other.curve("error") == pytest.approx(history.curve("error"), rel=tolerance)
    assert train(resumed, **options).epochs == other.epochs and same_weights(resumed, there)


# Files


def rebuild(config: dict) -> Tiny:
    return Tiny(TinyConfig(**config))


def test_weights_come_back_with_their_configuration_and_notes(tmp_path):
    model, path = initialise(lambda: Tiny(TinyConfig(width=6)), 3), tmp_path / "deep" / "weights.safetensors"
    train(model)
    save_weights(path, model, accuracy=0.5, data={"source": "offline"})
    loaded = load_weights(path, rebuild)
    assert same_weights(loaded, model) and loaded.config == TinyConfig(6) and not loaded.training
    assert load_tensors(path)[1] == {
        "model": "Tiny",
        "config": {"width": 6},
        "accuracy": 0.5,
        "data": {"source": "offline"},
    }
    assert [found.name for found in path.parent.iterdir()] == [path.name]  # no .partial beside it
    (other := tmp_path / "other").touch()
    assert path.stat().st_mode == other.stat().st_mode  # whoever installs the book may read its weights


def test_weights_in_half_precision_take_half_the_room_and_come_back_rounded(tmp_path):
    model = initialise(lambda: Tiny(TinyConfig(width=500)), 3)
    save_weights(tmp_path / "whole", model)
    save_weights(tmp_path / "half", model, bits=16)
    sizes = [(tmp_path / name).stat().st_size for name in ("whole", "half")]
    assert sizes[1] < 0.6 * sizes[0]
    loaded = load_weights(tmp_path / "half", rebuild)
    for name, tensor in loaded.state_dict().items():
        before = model.state_dict()[name]
        assert tensor.dtype == before.dtype
        assert torch.equal(tensor, before.half().to(before.dtype) if before.is_floating_point() else before)


def test_weights_in_8_bits_take_a_quarter_of_the_room_and_are_off_by_half_a_step(tmp_path):
    model = initialise(lambda: Tiny(TinyConfig(width=500)), 3)
    with torch.no_grad():
        matrix = next(p for p in model.parameters() if p.ndim == 2)
        matrix[0] = 0  # a row without any size
        matrix[1] *= 1000  # and one whose size is no other row's
    for name, bits in (("whole", 32), ("byte", 8)):
        save_weights(tmp_path / name, model, bits=bits)
    sizes = [(tmp_path / name).stat().st_size for name in ("whole", "byte")]
    assert sizes[1] < 0.35 * sizes[0]
    loaded = load_weights(tmp_path / "byte", rebuild).state_dict()
    assert loaded.keys() == model.state_dict().keys()
    for name, before in model.state_dict().items():
        if before.ndim < 2:
            assert torch.equal(loaded[name], before)
        else:
            step = before.abs().amax(1, keepdim=True) / 127
            assert loaded[name].dtype == before.dtype and ((loaded[name] - before).abs() <= 0.501 * step).all()
            assert not torch.equal(loaded[name], before)
    with pytest.raises(ValueError, match="bits must be 32, 16 or 8, got 4"):
        save_weights(tmp_path / "none", model, bits=4)
    assert not (tmp_path / "none").exists()


def test_metadata_is_plain(tmp_path):
    notes = {"accuracy": np.float32(0.5), "seed": np.int64(3), "each": np.arange(2), "mean": torch.tensor(1.5)}
    save_weights(tmp_path / "weights", Tiny(TinyConfig(np.int64(4))), **notes, counts={1: (2, True, None)})
    assert load_tensors(tmp_path / "weights")[1] == {
        "model": "Tiny",
        "config": {"width": 4},
        "accuracy": 0.5,
        "seed": 3,
        "each": [0, 1],
        "mean": 1.5,
        "counts": {"1": [2, True, None]},
    }
    for wrong, words in (
        ({"note": {1, 2}}, "note must be numbers, text.*got a set"),
        ({"config": 1}, "a note must not be"),
    ):
        with pytest.raises(ValueError, match=words):
            save_weights(tmp_path / "none", Tiny(), **wrong)
    assert not (tmp_path / "none").exists()


def test_weights_of_another_model_are_refused(tmp_path):
    save_weights(tmp_path / "weights", initialise(Tiny, 0))
    with pytest.raises(ValueError, match="holds weights of a Tiny, not of a Plain"):
        load_weights(tmp_path / "weights", lambda config: Plain())


def test_weights_of_other_sizes_are_refused(tmp_path):
    save_weights(tmp_path / "weights", initialise(Tiny, 0))
    with pytest.raises(ValueError, match="weights"):
        load_weights(tmp_path / "weights", lambda config: Tiny(TinyConfig(width=9)))


@pytest.mark.parametrize("kind", ["a checkpoint", "tensors alone"])
def test_files_that_are_no_weights_are_refused(tmp_path, kind):
    if kind == "a checkpoint":
        train(initialise(Tiny, 0), epochs=1, checkpoint=tmp_path / "file")
    else:
        save_tensors(tmp_path / "file", Plain().state_dict(), {})
    with pytest.raises(ValueError, match="file"):
        load_weights(tmp_path / "file", rebuild)


def test_missing_and_damaged_weights(tmp_path):
    with pytest.raises(FileNotFoundError, match=f"no weights at {tmp_path / 'none'}"):
        load_weights(tmp_path / "none", rebuild)
    path = tmp_path / "weights"
    save_weights(path, initialise(Tiny, 0))
    path.write_bytes(path.read_bytes()[:-10])
    with pytest.raises(ValueError, match=f"{path} is damaged"):
        load_weights(path, rebuild)


def test_a_write_that_fails_keeps_the_old_file_and_leaves_no_partial(tmp_path, monkeypatch):
    path = tmp_path / "weights"
    save_weights(path, initialise(Tiny, 0))
    before = path.read_bytes()

    def broken(*_):
        raise OSError("the disk is full")

    with monkeypatch.context() as patched, pytest.raises(OSError, match="disk is full"):
        patched.setattr(os, "replace", broken)
        save_weights(path, initialise(Tiny, 1))

    with monkeypatch.context() as patched, pytest.raises(OSError, match="disk is full"):
        patched.setattr(os, "fsync", broken)
        save_weights(path, initialise(Tiny, 1))
    assert path.read_bytes() == before and list(tmp_path.iterdir()) == [path]


def test_files_hold_no_pickle(tmp_path):
    save_weights(tmp_path / "weights", initialise(Tiny, 0), note="x")
    content = (tmp_path / "weights").read_bytes()
    header = json.loads(content[8 : 8 + int.from_bytes(content[:8], "little")])
    assert json.loads(header["__metadata__"]["config"]) == {"width": 4}


def test_config_of_reads_dataclasses_only():
    assert training.config_of(Tiny()) == {"width": 4} and training.config_of(Plain()) == {}


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({"learning_rate": lambda step: None}, "learning_rate at step 0 must be a finite number at least 0, got None"),
        (
            {"learning_rate": lambda step: math.nan},
            "learning_rate at step 0 must be a finite number at least 0, got nan",
        ),
        ({"learning_rate": lambda step: -1.0}, "learning_rate at step 0 must be a finite number at least 0, got -1.0"),
        ({"weights": {"kl": lambda step: None}}, r"weights\['kl'\] at step 0 must be a finite number, got None"),
        ({"weights": {"kl": lambda: 1.0}}, r"weights\['kl'\] must be a function of the step alone"),
    ],
)
def test_a_schedule_gives_a_number(changes, words):
    digits = Digits(torch.rand(4, 1, 28, 28), [0, 1, 2, 3], "mine", "hash", "train")
    with pytest.raises(ValueError, match=words):
        fit(VAE(VAEConfig(hidden_dim=4)), digits, epochs=1, progress=False, **changes)


def test_something_must_be_able_to_learn():
    digits = Digits(torch.rand(4, 1, 28, 28), [0, 1, 2, 3], "mine", "hash", "train")
    with pytest.raises(ValueError, match="model must have a parameter that can learn, got none"):
        fit(VAE(VAEConfig(hidden_dim=4)).requires_grad_(False), digits, epochs=1, progress=False)


@pytest.mark.parametrize(("term", "got"), [(1.0, "a float"), ([1.0] * 4, "a list")])
def test_a_term_is_a_tensor(term, got):
    class Listed(VAE):
        def loss(self, batch, *, generator=None):
            return {"bce": term}

    digits = Digits(torch.rand(4, 1, 28, 28), [0, 1, 2, 3], "mine", "hash", "train")
    with pytest.raises(ValueError, match=rf"one value per example, \[4\] here, got {got} for bce"):
        fit(Listed(VAEConfig(hidden_dim=4)), digits, epochs=1, progress=False)
