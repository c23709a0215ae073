"""Listening in nats, on decoders whose answer is known; and of the models of the book, shipped and made here."""

from __future__ import annotations

import math

import pytest
import torch
from unit_harness import normal, seeded, uniform

from latentbook import evaluation
from latentbook.data import Digits, load_digits
from latentbook.evaluation import Listening, derangement, listening, shuffled_scores
from latentbook.experiments import EXPERIMENTS, results
from latentbook.experiments import listening as heard
from latentbook.experiments.listening import SHIPPED, inferred, listening_metrics, measure_state
from latentbook.models import (
    VAE,
    ConditionalVAE,
    ConditionalVAEConfig,
    MixAndMatch,
    MixAndMatchConfig,
    MultiLevelVAE,
    MultiLevelVAEConfig,
    VAEConfig,
)
from latentbook.training.loop import initialise

# The measure


def logits(probabilities):
    return torch.log(probabilities) - torch.log1p(-probabilities)


def copies(codes):
    """The decoder that hears all: its code is the image."""
    return logits(codes)


def two_kinds(n=8, pixels=5):
    """Images that are 0.1 or 0.9 throughout, in turn, and which they are."""
    labels = torch.arange(n) % 2
    return (0.1 + 0.8 * labels.float()).unsqueeze(1).expand(n, pixels).clone(), labels


def test_a_deaf_decoder_is_at_exactly_0():
    images = uniform(30, 7)
    found = listening(lambda z: normal(30, 7, seed=4), normal(30, 2), images)
    assert found.cost.shape == (20, 30) and not found.cost.any()
    assert (found.mean, found.std, found.permutation_std) == (0, 0, 0)
    assert found.own.mean() == pytest.approx(float(evaluation.bce(normal(30, 7, seed=4).sigmoid(), images).mean()))


def test_a_decoder_that_copies_its_code_pays_the_divergence_of_bernoullis():
    """Another kind's code costs KL(0.1 || 0.9) a pixel, 0.8 log 9; with codes of other kinds alone, all pay the same."""
    images, labels = two_kinds()
    found = listening(copies, images, images, labels=labels, permutations=3)
    price = 5 * 0.8 * math.log(9)
    assert torch.allclose(found.cost, torch.full((3, 8), price), atol=1e-5)
    assert found.mean == pytest.approx(price) and found.std < 1e-5 and found.permutation_std < 1e-5
    assert found.own.tolist() == pytest.approx([5 * -(0.1 * math.log(0.1) + 0.9 * math.log(0.9))] * 8)


def test_without_labels_codes_of_the_same_kind_count_too():
    """Of the 7 others 4 are of the other kind: the mean over many permutations comes near 4/7 of the price."""
    images, _ = two_kinds()
    price, many = 5 * 0.8 * math.log(9), listening(copies, images, images, permutations=2000)
    assert many.mean == pytest.approx(4 / 7 * price, rel=0.02)
    assert many.permutation_std > 0  # how many of the other kind is drawn


def test_a_decoder_that_hears_half_of_the_pixels_pays_half():
    images, labels = two_kinds(pixels=6)

    def half(codes):
        return torch.cat((logits(codes[:, :3]), torch.zeros(len(codes), 3)), 1)

    found = listening(half, images, images, labels=labels)
    assert found.mean == pytest.approx(3 * 0.8 * math.log(9))


def test_it_does_not_depend_on_how_codes_are_written_or_on_what_is_added_for_all():
    images, codes = uniform(12, 4), normal(12, 3)
    weight = normal(3, 4, seed=9)
    plain = listening(lambda z: z @ weight, codes, images)
    turned = torch.linalg.qr(normal(3, 3, seed=5))[0]
    other = listening(lambda z: (z - 7) @ turned.T @ weight, codes @ turned + 7, images)
    assert torch.allclose(plain.cost, other.cost, atol=1e-4)
    doubled = listening(lambda z: (z @ weight).repeat(1, 2), codes, images.repeat(1, 2))
    assert torch.allclose(doubled.cost, 2 * plain.cost, atol=1e-4)  # nats add up over pixels


def test_what_is_not_swapped_stays_each_examples_own():
    """A conditional decoder that reads its condition alone is deaf to the code, also where conditions differ."""
    condition = normal(10, 4)
    found = listening(lambda z: condition + 0 * z[:, :1], normal(10, 2), uniform(10, 4))
    assert found.mean == 0


def test_codes_to_swap_in_may_be_listed_instead():
    """A decoder of one pixel a label: every other label costs what it says, and no draw is left."""
    nats, labels = torch.tensor([0.5, 1.0, 2.0]), torch.tensor([0, 1, 2, 0])
    y = torch.eye(3)[labels]
    others = torch.stack([y.roll(1, 1), y.roll(2, 1)])
    found = listening(
        lambda code: -torch.log(torch.expm1(code @ nats)).unsqueeze(1), y, torch.ones(4, 1), others=others
    )
    assert torch.allclose(found.own, nats[labels]) and found.other.shape == (2, 4)
    assert found.cost[:, 0].tolist() == pytest.approx([0.5, 1.5])  # from label 0 to 1 and to 2
    with pytest.raises(ValueError, match=r"others must have shape \[permutations, 4, 3\]"):
        listening(lambda code: code, y, uniform(4, 3), others=y)


def test_the_seed_decides_and_codes_may_have_any_shape():
    images, codes = uniform(9, 4), normal(9, 2, 2)
    first, same, other = (listening(lambda z: z.flatten(1), codes, images, seed=s) for s in (0, 0, 1))
    assert torch.equal(first.cost, same.cost) and not torch.equal(first.cost, other.cost)


def test_spreads_are_those_of_means_over_the_other_axis():
    own, other = torch.tensor([1.0, 2.0]), torch.tensor([[2.0, 5.0], [4.0, 5.0], [3.0, 5.0]])
    found = Listening(own, other)
    assert found.cost.tolist() == [[1, 3], [3, 3], [2, 3]] and found.mean == 2.5
    assert found.std == pytest.approx(math.sqrt(0.5))  # of 2 and 3
    assert found.permutation_std == pytest.approx(0.5)  # of 2, 3, 2.5


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"codes": normal(3, 2)}, "there must be as many images as codes, got 4 images, 3 codes"),
        ({"images": uniform(4, 3) + 1}, "images"),
        ({"decode": lambda z: normal(4, 2)}, r"the logits of decode must have shape \[4, 3\]"),
        ({"decode": lambda z: torch.full((4, 3), math.nan)}, "the logits of decode must be finite"),
        ({"permutations": 1}, "permutations must be a whole number at least 2, got 1"),
        ({"labels": torch.tensor([0, 0, 0, 1])}, "a class of 3 among 4 examples has no partners"),
        ({"labels": torch.tensor([0, 1])}, r"labels must be \[4\]"),
    ],
)
def test_what_does_not_fit_is_refused(plain, change, message):
    given = {"decode": lambda z: normal(4, 3), "codes": normal(4, 2), "images": uniform(4, 3)} | change
    decode, codes, images = given.pop("decode"), given.pop("codes"), given.pop("images")
    with pytest.raises(ValueError, match=message):
        listening(decode, codes, images, **given)


# Derangements


@pytest.mark.parametrize("n", [2, 3, 10, 101])
def test_a_derangement_is_a_permutation_that_leaves_nothing_in_its_place(n):
    for seed in range(20):
        other = derangement(n, seeded(seed))
        assert other.sort().values.tolist() == list(range(n)) and not (other == torch.arange(n)).any()


def test_every_other_example_is_equally_likely():
    generator = seeded()
    counts = sum(torch.nn.functional.one_hot(derangement(4, generator), 4) for _ in range(3000))
    assert counts.diagonal().tolist() == [0] * 4
    assert ((counts / 1000 - 1).abs() < 0.12)[~torch.eye(4, dtype=torch.bool)].all()


def test_with_labels_no_code_comes_from_the_own_class():
    labels = torch.tensor([0] * 5 + [1] * 3 + [2] * 2)  # one class has half
    partners = set()
    for seed in range(50):
        other = derangement(10, seeded(seed), labels)
        assert other.sort().values.tolist() == list(range(10)) and not (labels[other] == labels).any()
        partners |= set(zip(labels.tolist(), labels[other].tolist(), strict=True))
    assert partners == {(0, 1), (0, 2), (1, 0), (2, 0)}
    even = torch.arange(30) % 3
    pairs = {
        pair
        for s in range(20)
        for pair in zip(even.tolist(), even[derangement(30, seeded(s), even)].tolist(), strict=True)
    }
    assert pairs == {(a, b) for a in range(3) for b in range(3) if a != b}


# Shuffled controls


def test_many_shuffles_come_near_what_chance_gives_by_counting():
    """Two thirds of class 0 on either side: chance is (2/3)^2 + (1/3)^2."""
    seen, labels = torch.tensor([0, 0, 1] * 20), torch.tensor([0, 1, 0] * 20)
    scores = shuffled_scores(lambda other: float((seen == other).float().mean()), labels, 2000)
    assert float(scores.mean()) == pytest.approx(5 / 9, abs=0.005) and 0.03 < scores.std() < 0.07
    assert torch.equal(scores[:5], shuffled_scores(lambda o: float((seen == o).float().mean()), labels, 5))


def test_a_score_that_does_not_look_at_the_order_has_no_spread():
    assert shuffled_scores(lambda labels: float(labels.sum()), torch.tensor([1, 2, 3]), 4).tolist() == [6.0] * 4
    with pytest.raises(ValueError, match="score of shuffled labels must be a finite number"):
        shuffled_scores(lambda labels: math.nan, torch.tensor([1, 2]), 4)
    with pytest.raises(ValueError, match="permutations must be a whole number at least 2"):
        shuffled_scores(lambda labels: 1.0, torch.tensor([1, 2]), 1)


# The models


MODELS = {
    "VAE": lambda: VAE(VAEConfig(hidden_dim=8, latent_dim=3)),
    "VAE with teacher forcing": lambda: VAE(VAEConfig(hidden_dim=8, latent_dim=3, teacher_forcing=True)),
    "Mix-and-Match": lambda: MixAndMatch(MixAndMatchConfig(hidden_dim=8, latent_dim=3, alpha=4)),
    "concatenation": lambda: MixAndMatch(
        MixAndMatchConfig(hidden_dim=8, alpha=4, mixing="concatenation", prior="conditional")
    ),
    "conditional VAE": lambda: ConditionalVAE(ConditionalVAEConfig(hidden_dim=8, latent_dim=3)),
    "Multi-Level VAE": lambda: MultiLevelVAE(MultiLevelVAEConfig(hidden_dim=8, style_dim=3, class_dim=2)),
}
MIXED = {"Mix-and-Match": ["z", "condition"], "concatenation": ["z", "condition"]}
SOURCES = MIXED | {"conditional VAE": ["z", "y"], "Multi-Level VAE": ["style", "class"]}


@pytest.fixture(scope="module")
def some():
    return load_digits("test", source="offline").take(slice(0, 60))


@pytest.mark.parametrize("name", MODELS)
def test_a_model_decodes_its_own_codes_as_its_loss_does(name, some):
    """The own cross-entropy and the divergence are those of the loss under the same noise, as far as that can be passed in."""
    model = initialise(MODELS[name], 0).eval()
    with torch.no_grad():
        found = inferred(model, some, seeded())
        assert list(found.sources) == SOURCES.get(name, ["z"])
        costs = [
            listening(source.decode, source.codes, found.pixels, others=source.others)
            for source in found.sources.values()
        ]
    for heard_source in costs[1:]:
        assert torch.equal(heard_source.own, costs[0].own)
    with torch.no_grad():
        terms = model.loss(some, generator=seeded())
    if name.startswith("VAE"):  # one draw, of z
        assert torch.allclose(costs[0].own, terms["bce"], atol=1e-3)
    if "kl" in terms:
        assert found.kl.mean() == pytest.approx(float(terms["kl"].mean()), rel=0.1)
    assert all(cost.cost.abs().max() > 0 for cost in costs)  # untrained, but not deaf


@pytest.mark.parametrize("name", MODELS)
def test_a_model_whose_decoder_is_cut_off_from_its_codes_is_at_0(name, some):
    model = initialise(MODELS[name], 0).eval()
    with torch.no_grad():
        for part in model.decoder.modules():
            if isinstance(part, torch.nn.Linear):
                part.weight.zero_()
    metrics = listening_metrics(model, some, permutations=2)
    assert {value for key, value in metrics.items() if key.startswith("listening_")} == {0.0}


def test_metrics_name_every_source_with_its_spreads(some):
    metrics = listening_metrics(initialise(MODELS["Multi-Level VAE"], 0), some, permutations=2)
    endings = ("", "_std", "_permutation_std", "_other_class")
    assert set(metrics) == {"own_bce", "own_kl", "bce_and_kl"} | {
        f"listening_{source}{end}" for source in ("style", "class") for end in endings
    }
    assert metrics["bce_and_kl"] == metrics["own_bce"] + metrics["own_kl"]


def test_a_model_that_is_not_listed_is_refused(some):
    with pytest.raises(ValueError, match=r"listening is measured of VAE, MixAndMatch, .*, got Judge"):
        listening_metrics(evaluation.Judge(), some)


# The record


def test_a_shipped_state_is_measured_without_a_run_and_recorded(some, tmp_path):
    metrics = measure_state("primer", "kl-weight-1", some, tmp_path, permutations=2)
    deaf = measure_state("primer", "kl-weight-30", some, tmp_path, permutations=2)
    assert metrics["listening_z"] > 50 > 5 > deaf["listening_z"]
    document = results.load("primer", tmp_path)
    assert document["data"] == results.data_of(some) and list(document["variants"]) == ["kl-weight-1", "kl-weight-30"]
    entry = document["variants"]["kl-weight-1"]
    assert entry["seeds"] == [0] and entry["metrics"]["listening_z"] == [metrics["listening_z"]]
    assert [row[:3] for row in heard.rows(tmp_path)] == [
        ["primer: kl-weight-1", f"{metrics['bce_and_kl']:.1f}", "z"],
        ["primer: kl-weight-30", f"{deaf['bce_and_kl']:.1f}", "z"],
    ]
    assert heard.in_words(tmp_path).splitlines()[0].split() == " ".join(heard.HEADER).split()
    with pytest.raises(ValueError, match=r"experiment must be one of primer, .*, got 'air'"):
        measure_state("air", "exact", some, tmp_path)
    with pytest.raises(ValueError, match="variant must be one of kl-weight-1, kl-weight-30"):
        measure_state("primer", "kl-weight-3", some, tmp_path)


def test_the_books_record_is_of_every_state_on_mnist():
    for experiment in SHIPPED:
        document = results.load(experiment, heard.DIRECTORY)
        assert set(document["variants"]) == set(EXPERIMENTS[experiment].STATES), experiment
        assert document["data"]["source"] == "mnist"
    recorded = {row[0]: float(row[3]) for row in heard.rows() if row[2] == "z"}
    assert recorded["primer: kl-weight-30"] < 5 < recorded["primer: kl-weight-1"]


def test_the_recorded_cross_entropy_is_that_of_the_experiment():
    """BCE + KL of seed 0 was recorded before, by the experiment's own code with other noise: they agree to about a nat."""
    for variant in ("kl-weight-1", "kl-weight-30"):
        of_run = results.load("primer")["variants"][variant]["metrics"]["negative_elbo"][0]
        of_state = results.load("primer", heard.DIRECTORY)["variants"][variant]["metrics"]["bce_and_kl"][0]
        assert of_state == pytest.approx(of_run, abs=1.0)


def test_digits_may_be_any_that_the_model_reads():
    digits = Digits(uniform(6, 1, 4, 4), torch.arange(6) % 3, "toy", "0" * 64, "test")
    model = initialise(lambda: VAE(VAEConfig(pixels=16, hidden_dim=4, latent_dim=2)), 0)
    assert math.isfinite(listening_metrics(model, digits, permutations=2)["listening_z"])
