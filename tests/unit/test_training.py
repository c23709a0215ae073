"""The one training loop: exact repeatability, resumption, honest means, clear stops, whole files."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path

import pytest
import torch
from torch import nn

from latentbook import training
from latentbook.data import Batch, Digits
from latentbook.nets import dropout
from latentbook.training import (
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
    monkeypatch.setattr(livelossplot.PlotLosses, "update", lambda self, logs: drawn.append(logs))
    monkeypatch.setattr(livelossplot.PlotLosses, "send", lambda self: drawn.append("sent"))
    history = train(Pupil(), epochs=2, on_epoch_end=training.live_curves())
    assert drawn == [history.epochs[0], "sent", history.epochs[1], "sent"]


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
    assert {title: list(curves) for title, curves in panels[0].items()} == {"loss: nll": ["nll", "test_nll"]}


# Interruption and resumption


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
        ({"model": Tiny(TinyConfig(width=5))}, "width"),
    ],
)
def test_a_checkpoint_of_other_settings_is_refused(tmp_path, change, named):
    train(initialise(Tiny, 0), epochs=1, checkpoint=tmp_path / "run")
    before = (tmp_path / "run").read_bytes()
    model = change.pop("model", None) or initialise(Tiny, 0)
    with pytest.raises(ValueError, match=rf"(?s){named}.*delete the checkpoint to start over"):
        train(model, change.pop("digits", None), checkpoint=tmp_path / "run", **change)
    assert (tmp_path / "run").read_bytes() == before


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
    with pytest.raises(FloatingPointError, match="not finite at step 0, in the term weights"):
        train(Pupil(), weights={"w": float("nan")})


@pytest.mark.parametrize("name", ["epochs", "batch_size"])
@pytest.mark.parametrize("value", [0, -1, 2.0, "3"])
def test_counts_must_be_positive_ints(name, value):
    with pytest.raises(ValueError, match=f"{name} must be a positive int, got {value!r}"):
        train(Pupil(), **{name: value})


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


WORKER = """
import sys, torch
import torch.distributed as dist
from torch import nn
from latentbook.data import Digits
from latentbook.training import fit, initialise

torch.set_num_threads(1)
rank, world, rendezvous, out = int(sys.argv[1]), int(sys.argv[2]), sys.argv[3], sys.argv[4]
if world > 1:
    dist.init_process_group("gloo", init_method=f"file://{rendezvous}", rank=rank, world_size=world)

class Plain(nn.Module):
    def __init__(self):
        super().__init__()
        self.layer = nn.Linear(784, 10)
        self.unused = nn.Linear(2, 2)

    def loss(self, batch, *, generator=None):
        logits = self.layer(batch.images.flatten(1))
        return {"error": nn.functional.cross_entropy(logits, batch.labels, reduction="none")}

results = {}
for n in (12, 11, 9):  # batches of 4: even shares; a last batch of 3; a last batch of 1
    images = torch.rand(n, 1, 28, 28, generator=torch.Generator().manual_seed(0))
    model = initialise(Plain, 0)
    history = fit(model, Digits(images, torch.arange(n) % 10, "offline", "", "train"), epochs=2, batch_size=4, seed=1)
    results[n] = (model.layer.weight.detach(), history.curve("error"))
torch.save(results, out)
if world > 1:
    dist.destroy_process_group()
"""


@pytest.fixture(scope="module")
def by_processes(tmp_path_factory) -> dict[int, list]:
    """What one process and what each of two processes ends with: {processes: [result of each]}."""
    folder = tmp_path_factory.mktemp("processes")
    (folder / "worker.py").write_text(WORKER)
    source = str(Path(training.__file__).parents[1])
    environment = os.environ | {"GLOO_SOCKET_IFNAME": "lo", "PYTHONPATH": source, "MASTER_ADDR": "127.0.0.1"}
    started = {
        (world, rank): subprocess.Popen(
            [sys.executable, "worker.py", str(rank), str(world), str(folder / "meet"), f"{world}-{rank}.pt"],
            cwd=folder,
            env=environment,
            stderr=subprocess.PIPE,
            text=True,
        )
        for world, rank in ((2, 0), (2, 1))
    }
    with pytest.MonkeyPatch.context() as patched:
        patched.setattr(sys, "argv", ["worker.py", "0", "1", "", str(folder / "alone.pt")])
        exec(WORKER, {})
    results: dict[int, list] = {1: [torch.load(folder / "alone.pt", weights_only=True)], 2: []}
    try:
        for (world, rank), process in started.items():
            _, problems = process.communicate(timeout=90)
            assert process.returncode == 0, problems
            results[world].append(torch.load(folder / f"{world}-{rank}.pt", weights_only=True))
    finally:
        for process in started.values():
            process.kill()
    return results


@pytest.mark.parametrize("n", [12, 11, 9])
def test_two_processes_give_the_weights_of_one(by_processes, n):
    (alone,), together = by_processes[1], by_processes[2]
    for result in together:
        torch.testing.assert_close(result[n][0], alone[n][0], rtol=0, atol=1e-6)


@pytest.mark.parametrize("n", [12, 11, 9])
def test_two_processes_give_the_history_of_one(by_processes, n):
    (alone,), together = by_processes[1], by_processes[2]
    for result in together:
        assert result[n][1] == pytest.approx(alone[n][1], rel=1e-5)


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

    def half(path, content):
        with open(path, "wb") as file:
            file.write(content[: len(content) // 2])
        broken()

    with monkeypatch.context() as patched, pytest.raises(OSError, match="disk is full"):
        patched.setattr(Path, "write_bytes", half)
        save_weights(path, initialise(Tiny, 1))
    assert path.read_bytes() == before and list(tmp_path.iterdir()) == [path]


def test_files_hold_no_pickle(tmp_path):
    save_weights(tmp_path / "weights", initialise(Tiny, 0), note="x")
    content = (tmp_path / "weights").read_bytes()
    header = json.loads(content[8 : 8 + int.from_bytes(content[:8], "little")])
    assert json.loads(header["__metadata__"]["config"]) == {"width": 4}


def test_config_of_reads_dataclasses_only():
    assert training.config_of(Tiny()) == {"width": 4} and training.config_of(Plain()) == {}
