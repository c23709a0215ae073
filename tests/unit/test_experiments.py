"""Both experiments: every variant runs and gives its metrics, schedules hold, known completions get known figures."""

from __future__ import annotations

import dataclasses
import math
import subprocess
import sys
from types import SimpleNamespace

import pytest
import torch
from torch import nn

from latentbook import evaluation
from latentbook.data.digits import Digits, load_digits
from latentbook.experiments import (
    EXPERIMENTS,
    air,
    conditional_vae,
    judge,
    mix_and_match,
    multi_level_vae,
    primer,
    spatial_transformer,
)
from latentbook.experiments.run import Run, finished, learning_rate
from latentbook.layers.distributions import DiagonalGaussian
from latentbook.models.mix_and_match import Completer, MixAndMatch, MixAndMatchConfig
from latentbook.models.vae import VAE, VAEConfig
from latentbook.training.loop import History, initialise, load_tensors, mean_terms


@pytest.fixture(scope="module")
def train() -> Digits:
    return load_digits("train", source="offline").take(slice(0, 60))


@pytest.fixture(scope="module")
def test() -> Digits:
    return load_digits("test", source="offline").take(slice(0, 30))


def small(config):
    """The same variant in a second: one epoch of three steps, five completions."""
    changes = {"epochs": min(1, config.epochs), "batch_size": 20}
    if hasattr(config, "samples"):
        changes["samples"] = 5
    if hasattr(config, "scenes"):
        changes["scenes"] = 40
    return dataclasses.replace(config, **changes)


def run_small(experiment, variant: str, train: Digits, test: Digits, seed: int = 0) -> Run:
    config = small(experiment.VARIANTS[variant])
    return experiment.run(variant, seed, config=config, train=train, test=test, progress=False)


# Every variant

ALWAYS = {"posterior_bce", "one_sample_bce", "best_of_18_bce", "pairwise_l2", "agreement"}
LATENT = {"kl", "active_units"}
SHARES = {"variance_share_z", "variance_share_mask", "variance_share_interaction"}
HEARD = {"bce_and_kl", "listening_z", "listening_condition"}
FITTED = {"mismatch", "kl_fitted_prior", "agreement_fitted_prior"}


def expected_names(variant: str) -> set[str]:
    if variant == "control":
        return {"agreement", "pixel_mean_bce", "grey_entropy"}
    if variant == "deterministic":
        return ALWAYS
    if variant == "retrieval":
        return {"agreement", "any_agreement", "pairwise_l2"}
    fitted = FITTED if mix_and_match.VARIANTS[variant].model.prior == "standard" else set()
    return ALWAYS | LATENT | HEARD | fitted | (set() if variant == "alpha-128" else SHARES)


@pytest.mark.parametrize("variant", mix_and_match.VARIANTS)
def test_mix_and_match_variants_run(variant, train, test):
    result = run_small(mix_and_match, variant, train, test)
    metrics = result.metrics
    assert expected_names(variant) <= set(metrics)
    assert all(isinstance(value, (int, float)) and math.isfinite(value) for value in metrics.values())
    assert 0 <= metrics["agreement"] <= 1 and result.seconds > 0
    assert isinstance(result.model, nn.Module) == (variant != "retrieval")  # which needs no model
    assert ("mismatch" in metrics) == ("mismatch" in expected_names(variant))
    if variant in ("control", "retrieval"):
        assert result.failed is None and set(metrics) >= expected_names(variant)
        return
    failed = metrics["posterior_bce"] > mix_and_match.THRESHOLD
    assert (result.failed is not None) == failed and (not failed or "posterior_bce" in result.failed)
    assert metrics["best_of_18_bce"] <= metrics["one_sample_bce"] + 1e-3
    if variant == "deterministic":
        assert isinstance(result.model, Completer) and not (LATENT | SHARES) & set(metrics)
        assert metrics["pairwise_l2"] == 0
        assert metrics["best_of_18_bce"] == pytest.approx(metrics["posterior_bce"], rel=1e-4)
    elif variant == "alpha-128":
        assert metrics["pairwise_l2"] == pytest.approx(0, abs=1e-3)
    else:
        assert sum(metrics[name] for name in SHARES) == pytest.approx(1) and metrics["pairwise_l2"] > 0
        assert metrics["variance_share_mask"] == 0 or "concatenation" not in variant


@pytest.mark.parametrize("variant", primer.VARIANTS)
def test_primer_variants_run(variant, train, test):
    result = run_small(primer, variant, train, test)
    names = {"bce", "kl", "active_units", "z_probe_linear", "z_probe_shuffled", "pixel_mean_bce", "listening_z"}
    assert names <= set(result.metrics)
    assert ("follows_alone" in result.metrics) == (variant != "all-neighbours")  # no order makes its images
    assert result.metrics["bce_and_kl"] == pytest.approx(result.metrics["negative_elbo"], rel=0.05)
    assert all(math.isfinite(value) for value in result.metrics.values())
    assert result.metrics["negative_elbo"] == pytest.approx(result.metrics["bce"] + result.metrics["kl"], rel=1e-6)
    assert (result.seconds > 0) == (variant != "untrained")
    if variant != "untrained":
        assert (result.failed is not None) == (result.metrics["bce"] > primer.THRESHOLD)


@pytest.mark.parametrize(
    ("experiment", "variant"), [(mix_and_match, "best"), (mix_and_match, "control"), (primer, "kl-weight-1")]
)
def test_a_seed_repeats_exactly_and_another_does_not(experiment, variant, train, test):
    first, again, other = (run_small(experiment, variant, train, test, seed) for seed in (1, 1, 2))
    assert first.metrics == again.metrics and first.metrics != other.metrics


def test_the_experiments_by_name():
    assert dict(EXPERIMENTS) == {
        "primer": primer,
        "mix-and-match": mix_and_match,
        "conditional-vae": conditional_vae,
        "multi-level-vae": multi_level_vae,
        "spatial-transformer": spatial_transformer,
        "air": air,
    }
    wanted = ["deterministic", "concatenation", "batch-mask", "example-mask", "curriculum", "best"]
    assert [name for name in mix_and_match.VARIANTS if name in wanted] == wanted
    assert all(experiment.THRESHOLD_TEXT and experiment.VARIANTS for experiment in EXPERIMENTS.values())


def test_results_are_read_without_importing_an_experiment():
    code = (
        "import sys; from latentbook.experiments import results; results.load('primer'); print('torch' in sys.modules)"
    )
    assert subprocess.run([sys.executable, "-c", code], capture_output=True, text=True).stdout == "False\n"


def test_the_variants_are_what_their_names_say():
    variants = mix_and_match.VARIANTS
    assert variants["deterministic"].deterministic and variants["concatenation"].model.mixing == "concatenation"
    assert variants["batch-mask"].model == MixAndMatchConfig(mask_per="batch")
    assert (
        variants["example-mask"].model == MixAndMatchConfig(mask_per="example")
        and variants["curriculum"].curriculum_steps
    )
    for name, config in variants.items():
        if name.startswith("alpha-"):
            assert config == dataclasses.replace(variants["retrained"], model=MixAndMatchConfig(alpha=int(name[6:])))
    retrained = variants["retrained"]
    for name, changes in {
        "best": {"prior": "conditional"},
        "concatenation-retrained": {"mixing": "concatenation"},
        "concatenation-best": {"prior": "conditional", "mixing": "concatenation"},
    }.items():  # two by two, and nothing else differs
        assert variants[name] == dataclasses.replace(retrained, model=MixAndMatchConfig(**changes))
    assert retrained.kl_weight == 1 and (retrained.kl_midpoint, retrained.kl_slope) == (2500, 0.002)
    original = variants["batch-mask"]
    assert (original.epochs, original.batch_size, original.learning_rate, original.schedule) == (
        50,
        128,
        1e-4,
        "constant",
    )
    assert original.kl_weight == 1 and not original.curriculum_steps and original.samples == 18
    best = variants["best"].model  # the same encoder and decoder sizes
    assert (best.hidden_dim, best.latent_dim, best.alpha, best.mixing) == (128, 32, 64, "resampling")
    weights = [config.kl_weight for name, config in primer.VARIANTS.items() if name.startswith("kl-weight-")]
    assert weights == sorted(weights) and {0.0, 1.0} <= set(weights)
    assert primer.VARIANTS["teacher-forcing"].model == VAEConfig(teacher_forcing=True)


# Schedules


def test_the_kl_weight_is_the_originals_annealing():
    weight = mix_and_match.kl_weight(mix_and_match.VARIANTS["example-mask"])
    for step in (0, 1000, 2500, 4000, 20_000):
        assert weight(step) == pytest.approx(1 / (1 + math.exp(-0.002 * (step - 2500))))
    heavier = mix_and_match.kl_weight(mix_and_match.Config(kl_weight=1.5))
    assert heavier(2500) == pytest.approx(0.75) and heavier(10**6) == 1.5


def test_the_learning_rate_is_constant_or_one_cycle():
    constant = learning_rate(mix_and_match.Config(), 100)
    assert {constant(step) for step in (0, 10, 10**6)} == {1e-4}
    cycle = learning_rate(mix_and_match.Config(learning_rate=1e-2, schedule="one-cycle"), 100)
    assert cycle(10) == pytest.approx(1e-2) and cycle(0) == pytest.approx(1e-2 / 11)
    assert cycle(55) == pytest.approx(5e-3) and cycle(100) == pytest.approx(0) and cycle(99) > 0
    with pytest.raises(ValueError, match="schedule must be one of constant, one-cycle, got 'cosine'"):
        learning_rate(SimpleNamespace(schedule="cosine", learning_rate=1e-3), 100)


@pytest.mark.parametrize("experiment", EXPERIMENTS.values(), ids=EXPERIMENTS)
def test_a_training_is_as_configured(experiment, train, monkeypatch):
    """The rate ends with the last of 4 epochs of 3 batches, the third of them smaller; what else is asked for reaches `fit`."""
    given, hooks = {}, [lambda model, history: None]
    monkeypatch.setattr("latentbook.experiments.run.fit", lambda model, digits, **options: given.update(options))
    choices = {"schedule": "one-cycle", "reader_epochs": 0, "scenes": 50}  # where they are choices: not all have them
    choices = {
        entry.name: choices[entry.name] for entry in dataclasses.fields(experiment.Config) if entry.name in choices
    }
    config = dataclasses.replace(experiment.Config(), epochs=4, batch_size=20, learning_rate=1e-2, **choices)
    digits, options = train.take(slice(0, 50)), {"progress": False, "checkpoint": "here"}
    model, _ = experiment.train(config, digits, 8, "cuda:1", hooks=hooks, **options)
    expected = {"epochs": 4, "batch_size": 20, "seed": 8, "device": "cuda:1", "on_epoch_end": hooks, **options}
    assert {name: given[name] for name in expected} == expected
    rate = given["learning_rate"]
    assert rate(11) > 1e-6 and rate(12) == pytest.approx(0 if config.schedule == "one-cycle" else 1e-2)
    initial = experiment.build(config, 8).state_dict()
    assert all(torch.equal(tensor, initial[name]) for name, tensor in model.state_dict().items())


def test_the_curriculum_falls_from_the_condition_alone_to_alpha():
    alpha = mix_and_match.curriculum(mix_and_match.Config(curriculum_steps=5000))
    values = [alpha(step) for step in range(0, 6000, 10)]
    assert all(type(value) is int for value in values) and values == sorted(values, reverse=True)
    assert (alpha(0), alpha(2500), alpha(5000), alpha(10**6)) == (128, 96, 64, 64)
    assert set(values) == set(range(64, 129))  # one index at a time


def test_the_curriculum_reaches_the_loss(train, monkeypatch):
    seen, loss = [], MixAndMatch.loss
    monkeypatch.setattr(MixAndMatch, "loss", lambda self, batch, **o: seen.append(o["alpha"]) or loss(self, batch, **o))
    config = dataclasses.replace(small(mix_and_match.Config(curriculum_steps=2)), epochs=2)
    mix_and_match.train(config, train, 0, progress=False)
    assert seen == [128, 96, 64, 64, 64, 64]


# Known completions, known figures


class Knowing(nn.Module):
    """A model that answers with given tops, in turn: its figures can be worked out by hand."""

    split = MixAndMatch.split

    def __init__(self, digits: Digits, *answers: torch.Tensor):
        super().__init__()
        self.config, self.digits, self.answers, self.calls = MixAndMatchConfig(), digits, answers, 0
        self.weight = nn.Parameter(torch.zeros(3))

    def sample(self, condition, *, generator=None):
        assert torch.equal(condition, self.digits.images.flatten(1)[:, 500:])
        self.calls += 1
        return self.answers[(self.calls - 1) % len(self.answers)]

    def loss(self, batch, *, generator=None):
        return {"bce": torch.arange(len(batch.labels)).float()}


def figures(digits: Digits, *answers: torch.Tensor, samples: int = 18) -> dict[str, float]:
    config = mix_and_match.Config(deterministic=True, samples=samples)
    return mix_and_match.evaluate(Knowing(digits, *answers), config, digits, seed=0)


def test_the_truth_as_completion(test):
    top = test.images.flatten(1)[:, :500]
    found = figures(test, top)
    assert found["agreement"] == pytest.approx(evaluation.agreement(test.images, test.labels))
    assert found["agreement"] > 0.6  # else the line above says little
    floor = evaluation.grey_entropy(top)
    for name in ("one_sample_bce", "best_of_18_bce", "mean_of_18_bce"):
        assert found[name] == pytest.approx(floor, rel=1e-4)
    assert found["pairwise_l2"] == 0 and found["any_agreement"] == pytest.approx(found["agreement"])
    assert found["posterior_bce"] == pytest.approx(14.5) and found["parameters"] == 3


def test_two_answers_in_turn(test):
    """The truth and a grey sheet, twice each: of 6 pairs 4 differ, half the answers are right."""
    top = test.images.flatten(1)[:, :500]
    grey = torch.full_like(top, 0.5)
    found = figures(test, top, grey, samples=4)
    distance = float((top - grey).norm(dim=1).mean())
    assert found["pairwise_l2"] == pytest.approx(distance * 4 / 6, rel=1e-4)
    floor, sheet = evaluation.grey_entropy(top), 500 * math.log(2)
    assert found["one_sample_bce"] == pytest.approx((floor + sheet) / 2, rel=1e-4)
    assert found["best_of_18_bce"] == pytest.approx(floor, rel=1e-4)
    mean = (top + grey) / 2
    assert found["mean_of_18_bce"] == pytest.approx(float(evaluation.bce(mean, top).mean()), rel=1e-4)
    truth = evaluation.judged(test.images) == test.labels
    sheets = mix_and_match.paste(grey, test.images.flatten(1)[:, 500:])
    other = evaluation.judged(sheets) == test.labels
    assert found["agreement"] == pytest.approx(float((truth.float() + other.float()).mean() / 2), abs=1e-6)
    assert found["any_agreement"] == pytest.approx(float((truth | other).float().mean()), abs=1e-6)


def test_paste_puts_the_true_bottom_under_the_top(test):
    flat = test.images.flatten(1)
    assert torch.equal(mix_and_match.paste(flat[:, :500], flat[:, 500:]), test.images)


def test_completions_have_their_own_noise_and_masks(test):
    model, bottoms = mix_and_match.build(mix_and_match.Config()).eval(), test.images.flatten(1)[:, 500:]
    tops = mix_and_match.completions(model, bottoms, 3, torch.Generator().manual_seed(0))
    assert tops.shape == (30, 3, 500) and not tops.requires_grad
    assert not torch.equal(tops[:, 0], tops[:, 1]) and not torch.equal(tops[:, 1], tops[:, 2])
    again = mix_and_match.completions(model, bottoms, 3, torch.Generator().manual_seed(0))
    assert torch.equal(tops, again)


def test_kl_per_dimension_adds_up_to_the_losss_kl(test):
    model = mix_and_match.build(mix_and_match.VARIANTS["best"]).eval()
    full = dataclasses.replace(model.config, alpha=128)
    model.config = full  # a mask that leaves no choice, so that both see the same
    per_unit = mix_and_match.kl_per_dimension(model, test, torch.Generator().manual_seed(0))
    assert per_unit.shape == (30, 32)
    with torch.no_grad():
        expected = model.loss(next(test.batches(30)), generator=torch.Generator().manual_seed(1))["kl"]
    torch.testing.assert_close(per_unit.sum(1), expected, rtol=1e-4, atol=1e-5)


def test_source_shares_tell_the_latent_from_the_mask(test):
    """A decoder that hears z alone, the mask alone: whole shares. Concatenation has no mask."""

    class Deaf(MixAndMatch):
        hears = "z"

        def sample(self, condition, *, z=None, mask=None, generator=None):
            heard = z if self.hears == "z" else mask.float()
            return heard[:, :1].expand(-1, 500)

    model, generator = Deaf().eval(), torch.Generator().manual_seed(0)
    assert mix_and_match.source_shares(model, test, generator) == pytest.approx((1, 0, 0), abs=1e-4)
    model.hears = "mask"
    assert mix_and_match.source_shares(model, test, generator) == pytest.approx((0, 1, 0), abs=1e-4)
    beside = MixAndMatch(MixAndMatchConfig(mixing="concatenation"))
    assert mix_and_match.source_shares(beside, test, generator) == (1.0, 0.0, 0.0)


def test_a_code_alone_is_decoded_pixel_by_pixel_from_what_was_drawn():
    """Without true pixels: each mean follows from the draws before it, by the decoder's own logits; the plain model's by z."""
    model = initialise(lambda: VAE(VAEConfig(teacher_forcing=True)), 0).eval()
    with torch.no_grad():
        model.neighbours.weight.normal_(0, 0.5, generator=torch.Generator().manual_seed(0))
    z = torch.randn(3, 16, generator=torch.Generator().manual_seed(1))
    means = primer.decode_alone(model, z, torch.Generator().manual_seed(2))
    generator, drawn = torch.Generator().manual_seed(2), torch.empty(3, 784)
    for pixel in range(784):
        drawn[:, pixel] = torch.bernoulli(means[:, pixel], generator=generator)
    torch.testing.assert_close(means, model.decode(z, drawn).sigmoid(), rtol=1e-4, atol=1e-5)
    plain = initialise(VAE, 0).eval()
    assert torch.equal(primer.decode_alone(plain, z, generator), plain.decode(z).sigmoid())
    everything = VAE(VAEConfig(teacher_forcing=True, neighbours="all"))
    with pytest.raises(ValueError, match="no order in which an image could be made"):
        primer.decode_alone(everything, z, generator)


def test_what_a_code_alone_says_is_judged(monkeypatch, test):
    """A decoder whose image is its code follows it in all cases, one that paints the same image always in one class's."""
    flat = test.images.flatten(1)
    labels = torch.arange(len(test)) % 10
    monkeypatch.setattr(primer, "decode_alone", lambda model, z, generator: z)
    monkeypatch.setattr("latentbook.evaluation.judged", lambda images: (images[:, 0, 0, 0] * 10).round().long())
    codes = flat.clone()
    codes[:, 0] = labels / 10
    assert primer.follows_alone(None, codes, labels, 0) == 1.0
    codes[:, 0] = 0.0
    assert primer.follows_alone(None, codes, labels, 0) == pytest.approx(0.1)


def test_the_neighbours_only_control_has_nothing_to_say():
    """Its code is priced out of a decoder that is otherwise the same."""
    only, forced = primer.VARIANTS["neighbours-only"], primer.VARIANTS["teacher-forcing"]
    assert only == dataclasses.replace(forced, kl_weight=30.0)


class Carrier(MixAndMatch):
    """Its code is the first pixels of the foot, with noise of standard deviation 0.1: all it says is about the condition."""

    def encode(self, data_features, condition_features, mask):
        mean = 2 * condition_features[:, : self.config.latent_dim]
        return DiagonalGaussian(mean, torch.full_like(mean, math.log(0.01)))


def test_a_fitted_prior_finds_the_mismatch_and_leaves_the_model_alone(train, test):
    """A code that says nothing but the foot: with the foot given, nearly all of its KL is saved. One that says nothing: none."""
    model = initialise(lambda: Carrier(MixAndMatchConfig(latent_dim=2)), 0).eval()
    before = {name: value.clone() for name, value in model.state_dict().items()}
    many = dataclasses.replace(train, images=train.images.repeat(20, 1, 1, 1), labels=train.labels.repeat(20))
    fitted = mix_and_match.fit_prior(model, many, seed=0, epochs=20)
    assert all(torch.equal(value, before[name]) for name, value in model.state_dict().items())
    inner = fitted.completer.state_dict()
    assert all(torch.equal(inner[name], value) for name, value in before.items())  # batch norm's statistics too
    carried, left = mean_terms(model, train)["kl"], mean_terms(fitted, train)["kl"]
    assert carried > 3 and left < 0.5 * carried
    assert not any(p.requires_grad for n, p in fitted.completer.named_parameters() if not n.startswith("prior_"))
    metrics = mix_and_match.mismatch_metrics(model, train, test, 0)
    assert metrics["mismatch"] == pytest.approx(mean_terms(model, test)["kl"] - metrics["kl_fitted_prior"], rel=1e-4)
    assert 0 <= metrics["agreement_fitted_prior"] <= 1


def test_retrieval_returns_the_tops_of_the_nearest_feet(train):
    """Of training digits themselves the nearest is the digit: with as many completions as copies, the truth itself."""
    copies = dataclasses.replace(
        train, images=train.images.repeat_interleave(2, 0), labels=train.labels.repeat_interleave(2)
    )
    found = mix_and_match.run_retrieval(mix_and_match.Config(samples=2), copies, train, "cpu")
    truth = float((evaluation.judged(train.images) == train.labels).float().mean())
    assert found.metrics["agreement"] == pytest.approx(truth, abs=0.02)
    assert found.metrics["pairwise_l2"] == pytest.approx(0, abs=0.05) and found.model is None and found.failed is None


def test_the_primers_swap_knows_whom_a_picture_follows(monkeypatch, test):
    """A decoder that draws what its code says follows the code; one that copies what it sees follows the image."""

    class Reader(nn.Module):
        def __init__(self, copies: bool):
            super().__init__()
            self.copies = copies

        def decode(self, z, seen):
            return seen.flatten(1) if self.copies else z

    flat = test.images.flatten(1)
    names = {tuple(image.sigmoid().tolist()): int(label) for image, label in zip(flat, test.labels, strict=True)}
    monkeypatch.setattr(
        evaluation, "judged", lambda images: torch.tensor([names[tuple(i.flatten().tolist())] for i in images])
    )
    assert primer.swap(Reader(copies=False), test, flat) == (1.0, 0.0)
    assert primer.swap(Reader(copies=True), test, flat) == (0.0, 1.0)


def test_an_interrupted_training_is_no_result():
    with pytest.raises(KeyboardInterrupt):
        finished({}, None, History(interrupted=True), nn.Linear(1, 1))
    result = finished({"a": 1.0}, None, History(seconds=2.0), nn.Linear(1, 1))
    assert (result.metrics, result.failed, result.seconds) == ({"a": 1.0}, None, 2.0)


# Shipped states

SHIPPING = [name for name, experiment in EXPERIMENTS.items() if hasattr(experiment, "STATES")]


@pytest.mark.parametrize("name", SHIPPING)
def test_a_state_is_shipped_and_loaded_again(name, train, tmp_path, monkeypatch):
    experiment, variants = EXPERIMENTS[name], EXPERIMENTS[name].VARIANTS
    monkeypatch.setattr(evaluation, "WEIGHTS", tmp_path)
    for variant in experiment.STATES:
        monkeypatch.setitem(variants, variant, small(variants[variant]))
        path = experiment.save_state(variant, train, progress=False)
        assert path == experiment.state_path(variant) == tmp_path / f"{name}-{variant}.safetensors"
        stored, notes = load_tensors(path)
        assert (notes["variant"], notes["seed"]) == (variant, 0)
        assert notes["data"] == {"source": "offline", "hash": train.sha256}
        loaded, (trained, _) = experiment.load_state(variant), experiment.train(variants[variant], train, 0)
        assert type(loaded) is type(trained) and loaded.config == trained.config and not loaded.training
        state, bits = loaded.state_dict(), experiment._states.bits
        for key, tensor in trained.state_dict().items():  # to the bit, or rounded as far as its bits say
            off = (state[key] - tensor).abs().max()
            assert off <= {32: 0.0, 16: 1e-3, 8: 0.6 / 127}[bits] * tensor.abs().max()
    assert len(list(tmp_path.iterdir())) == len(experiment.STATES)  # nothing half-written beside them
    elsewhere = experiment.save_state(variant, train, progress=False, directory=tmp_path / "elsewhere")
    assert elsewhere == experiment.state_path(variant, tmp_path / "elsewhere") == tmp_path / "elsewhere" / path.name
    tensors, other_notes = load_tensors(elsewhere)
    assert other_notes == notes and all(torch.equal(tensor, stored[key]) for key, tensor in tensors.items())


@pytest.mark.parametrize("name", SHIPPING)
def test_an_interrupted_training_ships_nothing(name, train, tmp_path, monkeypatch):
    monkeypatch.setattr("latentbook.experiments.run.fit", lambda *_, **__: History(interrupted=True))
    with pytest.raises(KeyboardInterrupt):
        EXPERIMENTS[name].save_state(EXPERIMENTS[name].STATES[0], train, progress=False, directory=tmp_path)
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("name", SHIPPING)
def test_states_that_are_not_shipped(name):
    experiment = EXPERIMENTS[name]
    other = next(variant for variant in experiment.VARIANTS if variant not in experiment.STATES)
    message = f"^a trained state is shipped of {', '.join(experiment.STATES)}, not of '{other}': train it with `train`$"
    with pytest.raises(ValueError, match=message):
        experiment.load_state(other)


def test_a_place_that_cannot_be_written_is_told_before_a_training(train, test, tmp_path, monkeypatch):
    monkeypatch.setattr("latentbook.experiments.run.fit", None)
    monkeypatch.setattr(judge, "fit", None)
    (tmp_path / "file").write_text("", encoding="utf-8")
    with pytest.raises(NotADirectoryError, match=r"the state of 'best' cannot be written to .*file is a file"):
        mix_and_match.save_state("best", train, directory=tmp_path / "file")
    with pytest.raises(IsADirectoryError, match=r"the judge's weights cannot be written to .*is a folder"):
        judge.train_judge(train, test, path=tmp_path)
    with pytest.raises(ValueError, match=r"variant must be one of .*best.*, got 'bset'"):
        mix_and_match.save_state("bset", train, directory=tmp_path)
    assert [path.name for path in tmp_path.iterdir()] == ["file"]


# Shapes
