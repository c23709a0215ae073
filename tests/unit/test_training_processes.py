"""Training by two processes: the same as by one, resumed as uninterrupted, and refused where it cannot be."""

from __future__ import annotations

import os
import re
import subprocess
import sys
from pathlib import Path

import pytest
import torch

from latentbook.training import loop as training

WORKER = """
import sys, torch
import torch.distributed as dist
from torch import nn
from latentbook.training import loop as training
from latentbook.data.digits import Digits
from latentbook.training.loop import fit, initialise, load_tensors, save_weights

torch.set_num_threads(1)
rank, world, rendezvous, out = int(sys.argv[1]), int(sys.argv[2]), sys.argv[3], sys.argv[4]
if world > 1:
    dist.init_process_group("gloo", init_method=f"file://{rendezvous}", rank=rank, world_size=world)

class Plain(nn.Module):
    def __init__(self):
        super().__init__()
        self.layer = nn.Linear(784, 10)
        self.unused = nn.Linear(2, 2)
        self.register_buffer("drawn", torch.rand(3))

    def loss(self, batch, *, generator=None):
        logits = self.layer(batch.images.flatten(1))
        return {"error": nn.functional.cross_entropy(logits, batch.labels, reduction="none")}

class Sometimes(Plain):
    def loss(self, batch, *, generator=None):
        terms, chosen = super().loss(batch), batch.labels == 0
        if chosen.any():
            extra = torch.zeros(len(chosen)).masked_scatter(chosen, self.unused(batch.images[chosen, 0, 0, :2]).sum(1))
            terms["error"] = terms["error"] + extra
        return terms

class Breaks(Plain):
    def loss(self, batch, *, generator=None):
        return {"error": super().loss(batch)["error"] / (batch.labels != 3)}

class Normed(nn.Module):
    def __init__(self):
        super().__init__()
        self.norm = nn.BatchNorm1d(784)
        self.layer = nn.Linear(784, 10)

    def loss(self, batch, *, generator=None):
        hidden = self.norm(batch.images.flatten(1))
        logits = self.layer(hidden + torch.randn(hidden.shape, generator=generator))
        return {"error": nn.functional.cross_entropy(logits, batch.labels, reduction="none")}

def digits(n, seed=0):
    images = torch.rand(n, 1, 28, 28, generator=torch.Generator().manual_seed(seed))
    return Digits(images, torch.arange(n) % 10, "offline", "", "train")

def state(model):
    return {name: tensor.clone() for name, tensor in model.state_dict().items()}

def said(*arguments, **options):
    try:
        fit(*arguments, **options)
    except (ValueError, FloatingPointError) as error:
        return str(error)

results = {}
for n in (12, 11, 9):  # batches of 4: even shares; a last batch of 3; a last batch of 1
    model = initialise(Plain, 0)
    history = fit(model, digits(n), epochs=2, batch_size=4, seed=1)
    results[n] = (model.layer.weight.detach(), history.curve("error"))
model = initialise(Sometimes, 0)
history = fit(model, digits(11), epochs=2, batch_size=4, seed=1)
results["sometimes"] = (state(model), history.curve("error"))
model = initialise(Normed, 0)
fit(model, digits(4), epochs=1, batch_size=4, learning_rate=0.0)
results["norm"] = state(model)

if world > 1:
    torch.manual_seed(rank)
    model = Plain()
    before = state(model)
    fit(model, digits(8), epochs=1, batch_size=4, learning_rate=0.0)
    results["unseeded"] = (before, state(model))

    written, save_tensors = [], training.save_tensors
    training.save_tensors = lambda path, *rest: written.append(path) or save_tensors(path, *rest)
    options = {"batch_size": 4, "seed": 2}
    whole, parts = initialise(Normed, 0), Normed()  # the second starts with weights of its own in every process
    expected = fit(whole, digits(12), epochs=3, **options)
    fit(initialise(Normed, 0), digits(12), epochs=1, checkpoint="run", **options)
    history = fit(parts, digits(12), epochs=3, checkpoint="run", **options)
    results["resumed"] = [(state(whole), expected.curve("error")), (state(parts), history.curve("error"))]
    results["written"] = len(written)
    results["noises"] = [tensor for name, tensor in load_tensors("run")[0].items() if name.startswith("noise.")]

    wrapped = nn.parallel.DistributedDataParallel(initialise(Plain, 0))
    history = fit(wrapped, digits(11), epochs=2, batch_size=4, seed=1)
    results["wrapped"] = (wrapped.module.layer.weight.detach(), history.curve("error"), wrapped.training)
    save_weights(f"weights-{rank}", wrapped)

    results["said"] = {
        "one": said(Normed(), digits(11), epochs=1, batch_size=4),
        "seeds": said(Plain(), digits(8), epochs=1, batch_size=4, seed=rank),
        "examples": said(Plain(), digits(8, seed=rank), epochs=1, batch_size=4),
        "lengths": said(Plain(), digits(8 + rank), epochs=1, batch_size=4),
        "epochs": said(Plain(), digits(8), epochs=1 + rank, batch_size=4),
        "infinite": said(Breaks(), digits(8), epochs=1, batch_size=8),
        "weights": said(Plain(), digits(8), epochs=1, batch_size=4, weights={"errors": 2.0}),
        "checkpoint": said(initialise(Normed, 0), digits(12), epochs=3, checkpoint=("run", "none")[rank], **options),
    }
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
            results[world][-1]["saved"] = training.load_tensors(folder / f"weights-{rank}")
            results[world][-1]["checkpoint"] = training.load_tensors(folder / "run")
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


def assert_same(first: dict, second: dict, **tolerance) -> None:
    assert first.keys() == second.keys()
    for name, tensor in first.items():
        torch.testing.assert_close(second[name], tensor, **{"rtol": 0, "atol": 0} | tolerance, msg=name)


def test_a_layer_that_only_some_examples_need_learns_as_in_one_process(by_processes):
    (alone,), together = by_processes[1], by_processes[2]
    for result in together:
        assert_same(alone["sometimes"][0], result["sometimes"][0], atol=1e-6)
        assert result["sometimes"][1] == pytest.approx(alone["sometimes"][1], rel=1e-5)


def test_models_without_a_seed_start_as_the_first_processs(by_processes):
    (before, after), (other, same) = (result["unseeded"] for result in by_processes[2])
    assert not torch.equal(before["layer.weight"], other["layer.weight"])
    assert not torch.equal(before["drawn"], other["drawn"])
    assert_same(before, after)
    assert_same(before, same)


def test_batchnorms_statistics_are_the_mean_over_the_processes(by_processes):
    """The mean over both halves of a batch is that of the batch, and so is its running mean."""
    (alone,), together = by_processes[1], by_processes[2]
    assert_same(together[0]["norm"], together[1]["norm"])
    torch.testing.assert_close(together[0]["norm"]["norm.running_mean"], alone["norm"]["norm.running_mean"])
    assert alone["norm"]["norm.running_mean"].min() > 0


def test_a_resumed_run_of_two_processes_is_the_uninterrupted_one(by_processes):
    for result in by_processes[2]:
        (whole, expected), (parts, found) = result["resumed"]
        assert_same(whole, parts)
        assert found == expected
    first, second = (result["resumed"][0] for result in by_processes[2])
    assert_same(first[0], second[0])
    assert first[1] == second[1]


def test_the_first_process_writes_and_every_noise_is_kept(by_processes):
    first, second = by_processes[2]
    assert first["written"] == 3 and second["written"] == 0  # an epoch, then two more
    assert len(first["noises"]) == 2 and not torch.equal(*first["noises"])


def test_a_model_in_distributed_data_parallel_trains_as_the_model_inside(by_processes):
    for result in by_processes[2]:
        weight, curve, is_training = result["wrapped"]
        assert torch.equal(weight, result[11][0]) and curve == result[11][1] and not is_training
        assert result["saved"][1] == {"model": "Plain", "config": {}}
        assert torch.equal(result["saved"][0]["layer.weight"], weight)


@pytest.mark.parametrize(
    ("case", "words"),
    [
        ("one", "11 examples in batches of 4 over 2 processes leave one alone"),
        ("seeds", "the processes were given different runs.*to process 1: seed was 0, is 1"),
        ("examples", "different runs.*to process 1: content of the examples was"),
        ("lengths", "different runs.*to process 1: examples was 8, is 9; content of"),
        ("epochs", "different runs.*to process 1: epochs was 1, is 2"),
        ("weights", "weights names errors, which does not exist; there are: error"),
        ("checkpoint", "different runs.*to process 1: a checkpoint was found was True, is False"),
    ],
)
def test_every_process_refuses_what_cannot_be_trained(by_processes, case, words):
    first, second = (result["said"][case] for result in by_processes[2])
    assert re.search(words, second)
    assert re.search(words.partition(".*to process")[0], first)


def test_a_loss_that_is_infinite_in_one_process_stops_both(by_processes):
    words = "the loss is not finite at step 0, in the term "
    said = {result["said"]["infinite"].removeprefix(words) for result in by_processes[2]}
    assert said == {"error", "that another process names"}


def test_a_checkpoint_knows_of_how_many_processes_it_is(by_processes):
    _, metadata = by_processes[2][0]["checkpoint"]
    assert metadata["run"]["settings"]["processes"] == 2
