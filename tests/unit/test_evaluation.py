"""Every measure on a case whose answer is known, and the judge that is shipped."""

from __future__ import annotations

import math
import warnings

import pytest
import torch
import torch.nn.functional as F
from sklearn.neural_network import MLPClassifier
from torch import nn
from unit_harness import normal, uniform

from latentbook import evaluation
from latentbook.data.digits import Batch, Digits, load_digits
from latentbook.evaluation import (
    WEIGHTS,
    Judge,
    active_units,
    agreement,
    bce,
    best_of_k,
    grey_entropy,
    judged,
    load_judge,
    pairwise_l2,
    pixel_mean_bce,
    probe,
    shuffled,
    variance_shares,
)
from latentbook.training.loop import initialise, load_tensors

# The judge


def test_the_shipped_judge_says_how_good_it_is():
    tensors, notes = load_tensors(WEIGHTS / "judge.safetensors")
    assert notes["accuracy"] >= 0.99 and notes["data"]["source"] == "mnist" and len(notes["data"]["hash"]) == 64
    assert set(tensors) == set(Judge().state_dict())


def test_the_shipped_judge_reads_digits_it_has_never_seen():
    """scikit-learn's digits, other writers' at 8x8: 78 % of the test split (MNIST: 99 %)."""
    digits, judge = load_digits("test", source="offline"), load_judge()
    assert not judge.training
    seen = judged(digits.images, judge)
    right = (seen == digits.labels).float()
    assert right.mean() > 0.7
    assert agreement(digits.images, digits.labels) == pytest.approx(float(right.mean()))
    assert min(float(right[digits.labels == label].mean()) for label in range(10)) > 0.3  # no class is left to chance
    flipped = judged(digits.images.flip(2, 3), judge)
    assert (flipped == digits.labels).float().mean() < 0.5  # it looks at the picture the right way up


def test_the_judge_is_loaded_once():
    assert load_judge() is load_judge()


class Mean(nn.Module):
    """A judge whose answer is known: the brightest tenth of a picture names the class."""

    def forward(self, images):
        return images.flatten(1)[:, :10]


def test_judged_and_agreement_count_in_parts():
    images = torch.zeros(7, 1, 28, 28)
    answers = [3, 1, 4, 1, 5, 9, 2]
    for image, answer in zip(images, answers, strict=True):
        image[0, 0, answer] = 1
    assert judged(images, Mean(), batch_size=3).tolist() == answers
    assert agreement(images, torch.tensor([3, 1, 4, 1, 0, 0, 0]), Mean()) == pytest.approx(4 / 7)


def test_judges_loss_is_cross_entropy_and_shifts_in_training_only(monkeypatch):
    judge = initialise(Judge, 0)
    batch = Batch(uniform(6, 1, 28, 28), torch.arange(6))
    judge.eval()
    expected = F.cross_entropy(judge(batch.images), batch.labels, reduction="none")
    torch.testing.assert_close(judge.loss(batch)["cross_entropy"], expected)
    judge.train()
    monkeypatch.setattr(evaluation, "dropout", lambda x, rate, generator: x)  # what is left is the shift
    losses = {
        round(float(judge.loss(batch, generator=torch.Generator().manual_seed(s))["cross_entropy"].sum().detach()), 4)
        for s in range(6)
    }
    assert len(losses) > 1


# Diagnostics


def test_active_units_counts_dimensions_above_the_threshold_on_average():
    kl = torch.tensor([[0.0, 0.02, 5.0, 0.005, 0.0], [0.0, 0.02, 0.0, 0.005, 0.04]])
    assert active_units(kl) == 3  # the last one by its mean of 0.02 alone
    assert active_units(kl, threshold=1.0) == 1 and active_units(torch.zeros(4, 6)) == 0
    assert active_units(torch.full((3, 2), 0.01)) == 0 or torch.full((3, 2), 0.01).mean() > 0.01


# Quality and diversity


def test_bce_agrees_with_torch_and_broadcasts():
    p, x = uniform(4, 3, 20), uniform(4, 1, 20, seed=1).round()
    expected = torch.stack([F.binary_cross_entropy(p[:, k], x[:, 0], reduction="none").sum(1) for k in range(3)], 1)
    torch.testing.assert_close(bce(p, x), expected)
    torch.testing.assert_close(bce(torch.full((2, 10), 0.5), torch.ones(2, 10)), torch.full((2,), 10 * math.log(2)))
    assert bce(torch.tensor([[1.0, 0.0]]), torch.tensor([[1.0, 0.0]])).item() == 0


def test_pairwise_l2_by_hand():
    samples = torch.tensor([[[0.0, 0.0], [3.0, 4.0], [3.0, 0.0]], [[1.0, 1.0]] * 3])
    torch.testing.assert_close(pairwise_l2(samples), torch.tensor([(5.0 + 3.0 + 4.0) / 3, 0.0]))
    torch.testing.assert_close(pairwise_l2(samples[:1, :2]), torch.tensor([5.0]))
    same = uniform(1, 1, 500).expand(1, 18, 500)
    assert pairwise_l2(same).item() == 0  # exactly, not the rounding error of a product


def test_pairwise_l2_agrees_with_a_double_loop():
    samples = normal(3, 5, 7)
    pairs = [(i, j) for i in range(5) for j in range(i)]
    expected = torch.stack([(samples[:, i] - samples[:, j]).norm(dim=1) for i, j in pairs]).mean(0)
    torch.testing.assert_close(pairwise_l2(samples), expected)


def test_pairwise_l2_needs_two_samples():
    with pytest.raises(ValueError, match="it needs at least 2 for each input, got 1"):
        pairwise_l2(torch.zeros(3, 1, 5))


def test_best_of_k_is_the_best_for_each_input():
    target = torch.tensor([[1.0, 0.0], [0.0, 0.0]])
    samples = torch.tensor([[[0.9, 0.1], [0.5, 0.5]], [[0.5, 0.5], [0.2, 0.2]]])
    torch.testing.assert_close(best_of_k(samples, target), torch.tensor([-2 * math.log(0.9), -2 * math.log(0.8)]))


def grid(first: float = 0.0, second: float = 0.0, both: float = 0.0, n: int = 40, draws: int = 24, pixels: int = 10):
    """Samples made of two additive sources and one of their interaction, with these standard deviations."""
    a, b = normal(n, draws, 1, pixels, seed=1), normal(n, 1, draws, pixels, seed=2)
    mean = 5 * normal(n, 1, 1, pixels, seed=4)
    return mean + first * a + second * b + both * normal(n, draws, draws, pixels, seed=3)


@pytest.mark.parametrize(
    ("scales", "shares"),
    [
        ((1.0, 0.0, 0.0), (1, 0, 0)),
        ((0.0, 1.0, 0.0), (0, 1, 0)),
        ((0.0, 0.0, 1.0), (0, 0, 1)),
        ((1.0, 1.0, 0.0), (0.5, 0.5, 0)),
        ((1.0, 2.0, 1.0), (1 / 6, 4 / 6, 1 / 6)),
        ((3.0, 1.0, 2.0), (9 / 14, 1 / 14, 4 / 14)),
    ],
)
def test_variance_shares_of_known_mixtures(scales, shares):
    found = variance_shares(grid(*scales))
    assert found == pytest.approx(shares, abs=0.02) and sum(found) == pytest.approx(1)


def test_variance_shares_are_not_fooled_by_few_draws():
    """Naive mean squares would credit either source with a part of the interaction: 1/4 of it at 4 draws."""
    found = variance_shares(grid(0.0, 0.0, 1.0, n=400, draws=4))
    assert found == pytest.approx((0, 0, 1), abs=0.03)
    found = variance_shares(grid(1.0, 0.0, 1.0, n=400, draws=3))
    assert found == pytest.approx((0.5, 0, 0.5), abs=0.03)


def test_variance_shares_when_the_numbers_of_draws_differ():
    assert variance_shares(grid(1.0, 2.0, 1.0)[:, :7]) == pytest.approx((1 / 6, 4 / 6, 1 / 6), abs=0.03)
    assert variance_shares(grid(2.0, 1.0, 1.0)[:, :, :7]) == pytest.approx((4 / 6, 1 / 6, 1 / 6), abs=0.03)


@pytest.mark.parametrize("shape", [(3, 1, 4, 5), (3, 4, 1, 5)])
def test_variance_shares_need_two_draws(shape):
    with pytest.raises(ValueError, match=f"at least 2 draws of each source, got {shape[1]} and {shape[2]}"):
        variance_shares(torch.zeros(shape))


def test_variance_shares_need_variance():
    with pytest.raises(ValueError, match="the samples do not vary"):
        variance_shares(torch.ones(3, 4, 4, 5))


# Probes and controls


def codes(n: int, seed: int, noise: float = 0.1) -> tuple[torch.Tensor, torch.Tensor]:
    """Codes from which the label can be read, on scales that differ by thousands."""
    labels = torch.randint(0, 4, (n,), generator=torch.Generator().manual_seed(seed))
    scales = torch.tensor([1000.0, 0.001, 1.0, 1.0])
    return (F.one_hot(labels, 4) + noise * normal(n, 4, seed=seed)) * scales, labels


@pytest.mark.parametrize("kind", ["linear", "mlp"])
def test_probe_reads_separable_codes(kind):
    assert probe(*codes(1000, 1), *codes(300, 2), kind=kind) > 0.97


def test_probe_reads_nothing_from_noise_or_shuffled_labels():
    codes_train, labels_train = codes(400, 1)
    codes_test, labels_test = codes(400, 2)
    assert abs(probe(normal(400, 4, seed=8), labels_train, normal(400, 4, seed=9), labels_test) - 0.25) < 0.1
    assert abs(probe(codes_train, shuffled(labels_train), codes_test, labels_test) - 0.25) < 0.2


def test_probe_is_scored_on_the_test_codes():
    """A label that the test codes carry the other way round cannot be read, however well the fit went."""
    labels = torch.arange(100) % 2
    code = labels.float().unsqueeze(1)
    assert probe(code, labels, code, labels) == 1.0 and probe(code, labels, 1 - code, labels) == 0.0


def test_only_an_mlp_reads_a_bent_boundary():
    def ring(seed):
        z = normal(6000, 2, seed=seed)
        return z, (z.norm(dim=1) > 1.18).long()

    assert probe(*ring(1), *ring(2)) < 0.65 and probe(*ring(1), *ring(2), kind="mlp") > 0.85


def test_probe_keeps_to_itself_that_its_iterations_are_capped_and_nothing_else(monkeypatch):
    z, fitted, fit = normal(1000, 20), [], MLPClassifier.fit
    labels = (z @ normal(20, 10, seed=2)).argmax(1)
    monkeypatch.setattr(MLPClassifier, "fit", lambda self, *data: fitted.append(self) or fit(self, *data))
    with warnings.catch_warnings(record=True) as said:
        warnings.simplefilter("always")
        probe(z, labels, z, labels, kind="mlp")
    assert fitted[0].n_iter_ == fitted[0].max_iter and said == []
    monkeypatch.setattr(
        MLPClassifier, "fit", lambda self, *data: warnings.warn("another", stacklevel=1) or fit(self, *data)
    )
    with pytest.warns(UserWarning, match="another"):
        probe(z, labels, z, labels, kind="mlp")


@pytest.mark.parametrize(("codes", "batch"), [(30, 27), (100, 90), (555, 499), (560, 500)])
def test_an_mlp_probe_of_few_codes_takes_batches_of_all_that_it_fits_and_warns_of_nothing(monkeypatch, codes, batch):
    z, labels, fitted, fit = normal(codes, 2), torch.arange(codes) % 2, [], MLPClassifier.fit
    monkeypatch.setattr(MLPClassifier, "fit", lambda self, *data: fitted.append(self) or fit(self, *data))
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        probe(z, labels, z, labels, kind="mlp")
    assert fitted[0].batch_size == batch


def test_probe_refuses_another_kind():
    with pytest.raises(ValueError, match="kind must be one of linear, mlp, got 'tree'"):
        probe(*codes(10, 1), *codes(10, 2), kind="tree")


def test_shuffled_keeps_the_labels_and_loses_their_order():
    labels = torch.arange(200)
    first = shuffled(labels)
    assert sorted(first.tolist()) == labels.tolist() and (first == labels).float().mean() < 0.1
    assert torch.equal(first, shuffled(labels)) and not torch.equal(first, shuffled(labels, seed=1))


def test_pixel_mean_bce_is_the_cost_of_the_training_mean():
    train = torch.tensor([[1.0, 0.0, 1.0], [0.0, 0.0, 1.0]])
    test = torch.tensor([[1.0, 0.0, 1.0], [0.0, 0.0, 1.0], [1.0, 0.0, 1.0]])
    assert pixel_mean_bce(train, test) == pytest.approx(math.log(2), abs=1e-4)
    wrong = pixel_mean_bce(train, torch.tensor([[0.0, 1.0, 1.0]]))
    assert wrong == pytest.approx(math.log(2) + math.log(1e6), rel=1e-3)  # never infinite


def test_grey_entropy():
    assert grey_entropy(torch.tensor([[0.0, 1.0, 1.0], [0.0, 0.0, 1.0]])) == 0
    assert grey_entropy(torch.full((3, 8), 0.5)) == pytest.approx(8 * math.log(2))
    grey = uniform(5, 30)
    expected = -(grey * grey.log() + (1 - grey) * (1 - grey).log()).sum(1).mean()
    assert grey_entropy(grey) == pytest.approx(float(expected), rel=1e-5)


# Training the judge


def small(split: str, n: int, source: str = "offline") -> Digits:
    digits = load_digits(split, source="offline").take(slice(0, n))
    return Digits(digits.images, digits.labels, source, digits.sha256, split)


def test_training_the_judge_writes_what_it_measured(tmp_path):
    from latentbook.experiments.judge import train_judge

    path = tmp_path / "judge.safetensors"
    judge, accuracy = train_judge(small("train", 600), small("test", 100), epochs=3, path=path)
    notes = load_tensors(path)[1]
    assert (
        notes["accuracy"]
        == accuracy
        == pytest.approx(agreement(small("test", 100).images, small("test", 100).labels, judge))
    )
    assert accuracy > 0.3 and not judge.training
    assert notes["data"] == {"source": "offline", "hash": small("train", 1).sha256} and notes["epochs"] == 3
    loaded = evaluation.load_weights(path, lambda config: Judge())
    assert torch.equal(loaded.features[0].weight, judge.features[0].weight)


def test_training_the_judge_repeats_exactly(tmp_path):
    from latentbook.experiments.judge import train_judge

    judges = []
    for name in "ab":
        torch.rand(5)  # torch's own random state does not matter
        judges.append(train_judge(small("train", 100), small("test", 20), epochs=1, path=tmp_path / name)[0])
    assert torch.equal(judges[0].features[0].weight, judges[1].features[0].weight)


def test_a_bad_judge_on_mnist_is_not_saved(tmp_path):
    from latentbook.experiments.judge import train_judge

    with pytest.raises(ValueError, match=r"the judge reached .* it needs 99 %"):
        train_judge(small("train", 100, "mnist"), small("test", 50), epochs=1, path=tmp_path / "judge")
    assert list(tmp_path.iterdir()) == []


def test_a_judge_is_a_module_that_reads_arrays_too_on_a_device_that_is_here():
    images = torch.rand(2, 1, 28, 28)
    judge = Judge().eval()
    assert torch.equal(judge(images.numpy()), judge(images))
    with pytest.raises(ValueError, match="judge must be a Module, got a str"):
        judged(images, "judge")
    with pytest.raises(ValueError, match="device must be one that torch can use here"):
        load_judge("cudaa")


@pytest.mark.filterwarnings("error")
def test_measures_take_pictures_with_a_history():
    images = torch.rand(3, 784)
    learnt = images.clone().requires_grad_()
    assert grey_entropy(learnt) == grey_entropy(images)
    assert pixel_mean_bce(learnt, learnt) == pixel_mean_bce(images, images)
    grid = torch.rand(2, 2, 2, 3)
    assert variance_shares(grid.clone().requires_grad_()) == variance_shares(grid)
