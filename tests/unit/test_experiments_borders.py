"""Configurations that cannot be are refused when they are made; measures refuse what would be broadcast or read as nothing."""

from __future__ import annotations

import json
import math
from dataclasses import asdict, fields, is_dataclass, replace

import numpy as np
import pytest
import torch

from latentbook.data.digits import Digits
from latentbook.data.scenes import draw_scenes, make_sprites
from latentbook.experiments import (
    EXPERIMENTS,
    air,
    air_measures,
    conditional_vae,
    mix_and_match,
    multi_level_swaps,
    multi_level_table,
    multi_level_vae,
    primer,
    results,
    spatial_transformer,
)
from latentbook.experiments.run import but
from latentbook.layers.distributions import DiagonalGaussian
from latentbook.models.localisation import Localisation

CONFIGS = {name: next(iter(module.VARIANTS.values())) for name, module in EXPERIMENTS.items()}
CONFIGS["descent"] = spatial_transformer.VARIANTS["descent"]
LEAST_EPOCHS = {"mix-and-match": 1}  # the others have variants that are not trained


def every(field_type: str) -> list[tuple[str, str]]:
    """Every field of every experiment's configuration that is annotated so."""
    return [
        (name, entry.name) for name, config in CONFIGS.items() for entry in fields(config) if entry.type == field_type
    ]


@pytest.mark.parametrize("experiment", EXPERIMENTS)
@pytest.mark.parametrize("given", [-1, 1.5, "abc", True, None])
def test_epochs_are_a_whole_number(experiment, given):
    least = LEAST_EPOCHS.get(experiment, 0)
    with pytest.raises(ValueError, match=f"^epochs must be a whole number at least {least}, got {given!r}$"):
        replace(CONFIGS[experiment], epochs=given)


@pytest.mark.parametrize(("experiment", "name"), every("int"))
@pytest.mark.parametrize("given", [-1, 0.5, "3", False, math.nan])
def test_every_count_is_checked(experiment, name, given):
    with pytest.raises(ValueError, match=f"^{name} must be a whole number"):
        replace(CONFIGS[experiment], **{name: given})


@pytest.mark.parametrize(("experiment", "name"), [pair for pair in every("float") if pair[1] != "kl_midpoint"])
@pytest.mark.parametrize("given", [-1.0, math.nan, math.inf, "0.1", True, None])
def test_every_rate_weight_and_share_is_checked(experiment, name, given):
    with pytest.raises(ValueError, match=f"^{name} must be a finite number"):
        replace(CONFIGS[experiment], **{name: given})


@pytest.mark.parametrize("experiment", EXPERIMENTS)
@pytest.mark.parametrize("given", [3, None, "exact", {}])
def test_the_model_is_its_configuration(experiment, given):
    with pytest.raises(ValueError, match=r"^model must be an? \w+Config, got"):
        replace(CONFIGS[experiment], model=given)


@pytest.mark.parametrize(
    ("experiment", "changes", "words"),
    [
        ("mix-and-match", {"schedule": "cosine"}, "schedule must be one of constant, one-cycle, got 'cosine'"),
        ("mix-and-match", {"deterministic": 1}, "deterministic must be True or False, got 1"),
        ("mix-and-match", {"kl_midpoint": math.nan}, "kl_midpoint must be a finite number, got nan"),
        ("conditional-vae", {"share": 1.5}, "share must be a finite number above 0 and at most 1, got 1.5"),
        ("conditional-vae", {"schedule": 1}, "schedule must be a text, got 1"),
        ("multi-level-vae", {"hold_out": 4}, "hold_out must be a tuple of any number of values, got 4"),
        ("multi-level-vae", {"hold_out": (4, -7)}, "each of hold_out must be a whole number at least 0, got -7"),
        ("multi-level-vae", {"learning_rate": 0}, "learning_rate must be a finite number above 0, got 0"),
        ("spatial-transformer", {"target": "place"}, "target must be one of cross_entropy, pixels, where"),
        ("air", {"world": "letters"}, "world must be one of digits, sprites, got 'letters'"),
        ("air", {"first_prior": 1.0}, "first_prior must be a finite number above 0 and below 1, got 1.0"),
        ("air", {"warmup": 1.0}, "warmup must be a finite number at least 0 and below 1, got 1.0"),
        ("air", {"layout": "uniform"}, "layout must be a Layout, got a str"),
        ("air", {"measured": 50}, "measured must be a Layout, got an int"),
    ],
)
def test_other_settings_that_cannot_be(experiment, changes, words):
    with pytest.raises(ValueError, match=words):
        replace(CONFIGS[experiment], **changes)


@pytest.mark.parametrize("experiment", EXPERIMENTS)
def test_configurations_are_plain_and_as_recorded(experiment):
    """Whatever numpy gives is stored as plain numbers, and what was recorded is what is made today."""
    module = EXPERIMENTS[experiment]
    config = replace(CONFIGS[experiment], epochs=np.int64(2), learning_rate=np.float64(0.5), batch_size=np.uint8(3))
    assert json.loads(json.dumps(asdict(config)))["learning_rate"] == 0.5 and type(config.epochs) is int
    recorded = results.load(experiment)["config"]
    assert {name: results.plain(module.VARIANTS[name]) for name in recorded} == recorded


def test_every_configuration_has_such_a_border():
    for name, module in EXPERIMENTS.items():
        for config in module.VARIANTS.values():
            assert is_dataclass(config) and hasattr(type(config), "__post_init__"), name


def test_scenes_of_another_size_than_the_models_are_refused_before_anything_is_drawn():
    config = replace(air.EXACT, model=replace(air.EXACT.model, canvas=60))
    for call in (
        lambda: air.run("exact", 0, config=config, train=None, test=None),
        lambda: air.train(config, None, 0),
    ):
        with pytest.raises(ValueError, match=r"scenes of 50 pixels do not fit a model of 60: set layout.canvas"):
            call()


# Measures

SCENES = draw_scenes(make_sprites(20), 6, seed=1)
COUNTS, BOXES = SCENES.labels, SCENES.boxes.float()
GENERATOR = torch.Generator().manual_seed(0)
LABELS = torch.tensor([0, 0, 1, 1, 2, 2])
IMAGES = torch.rand(6, 1, 28, 28, generator=torch.Generator().manual_seed(0))
CANVAS, WHERE = torch.ones(6, 1, 40, 40), torch.tensor([1.5, 0.0, 0.0]).expand(6, 3)
FOUND = DiagonalGaussian(torch.zeros(6, 2), torch.zeros(6, 2))


def spoilt(values: torch.Tensor) -> torch.Tensor:
    values = values.clone()
    values.view(-1)[0] = math.nan
    return values


def digits(images: torch.Tensor = IMAGES, labels: torch.Tensor = LABELS) -> Digits:
    return Digits(images, labels, "offline", "", "test")


def test_measures_take_lists_arrays_and_narrow_types(plain):
    assert air_measures.accuracy(COUNTS.tolist(), COUNTS.numpy()) == 1.0
    assert air_measures.accuracy(COUNTS.to(torch.uint8), COUNTS + 1) == 0.0
    assert air_measures.matched_iou(BOXES.numpy(), COUNTS.tolist(), SCENES.boxes, COUNTS) == pytest.approx(1)
    assert air_measures.crossing([0.5, np.float64(0.99)]) == 1
    black_and_white = IMAGES.round()
    for measure in (multi_level_swaps.slant, multi_level_swaps.thickness):
        torch.testing.assert_close(measure(black_and_white.bool()), measure(black_and_white))
        assert measure(black_and_white.double()).dtype == torch.float64
    assert multi_level_swaps.correlation([1, 2, 3], np.array([2.0, 4.0, 6.0])) == pytest.approx(1)
    sets = multi_level_swaps.evidence_sets(LABELS.to(torch.uint8), [0, 2], np.int64(1), GENERATOR)
    assert LABELS[sets.flatten()].tolist() == [0, 2]


@pytest.mark.parametrize(
    ("call", "words"),
    [
        (lambda: air_measures.accuracy(COUNTS, COUNTS.unsqueeze(1)), r"true must be \[6\], .*, got \[6, 1\]"),
        (lambda: air_measures.accuracy(COUNTS, COUNTS[:1]), r"true must be \[6\], .*, got \[1\]"),
        (lambda: air_measures.accuracy(COUNTS.float(), COUNTS), "seen must be whole numbers"),
        (lambda: air_measures.accuracy(COUNTS, COUNTS - 5), "true must be counts of at least 0"),
        (lambda: air_measures.accuracy([], []), "seen must"),
        (lambda: air_measures.accuracy(None, COUNTS), "seen must hold numbers, got None"),
        (lambda: air_measures.confusion(COUNTS + 4, COUNTS, 3), r"seen must be class numbers 0\.\.3"),
        (lambda: air_measures.confusion(COUNTS, COUNTS[:, None], 3), r"true must be \[6\]"),
        (lambda: air_measures.confusion(COUNTS, COUNTS, 3.0), "most must be a whole number at least 0, got 3.0"),
        (lambda: air_measures.crossing([0.5, math.nan]), "each accuracy must be a finite number"),
        (lambda: air_measures.crossing([98]), "each accuracy must be .* at most 1, got 98"),
        (lambda: air_measures.matched_iou(BOXES[:5], COUNTS, BOXES, COUNTS), "as many found as counts"),
        (lambda: air_measures.matched_iou(spoilt(BOXES), COUNTS, BOXES, COUNTS), "found must be finite"),
        (lambda: air_measures.matched_iou(BOXES, COUNTS, spoilt(BOXES), COUNTS), "boxes must be finite"),
        (lambda: air_measures.matched_iou(BOXES, COUNTS + 5, BOXES, COUNTS), r"counts must be class numbers 0\.\.2"),
        (lambda: air_measures.matched_iou(BOXES[..., :2], COUNTS, BOXES, COUNTS), r"shape \[6, steps, 4\]"),
        (lambda: air_measures.first_seen(BOXES, COUNTS[:, None], BOXES, COUNTS), r"counts must be \[6\]"),
        (lambda: air_measures.Counting(SCENES.images), "scenes must be a Scenes, got a Tensor"),
        (lambda: air_measures.ink_control(SCENES, digits()), "test must be a Scenes, got a Digits"),
        (lambda: multi_level_swaps.slant(IMAGES * 255), "divide bytes by 255"),
        (lambda: multi_level_swaps.slant(IMAGES[:, 0]), r"images must have shape \[n, 1, height, width\]"),
        (lambda: multi_level_swaps.thickness(spoilt(IMAGES)), "without NaN"),
        (lambda: multi_level_swaps.thickness(None), "images must hold numbers, got None"),
        (lambda: multi_level_swaps.correlation(torch.rand(6), torch.rand(5)), "as many a as b, got 6 a, 5 b"),
        (lambda: multi_level_swaps.correlation(torch.rand(6), torch.rand(6, 1)), r"b must have shape \[6\]"),
        (lambda: multi_level_swaps.correlation(torch.rand(6), spoilt(torch.rand(6))), "b must be finite"),
        (lambda: multi_level_swaps.evidence_sets(LABELS, LABELS[:, None], 1, GENERATOR), "wanted must be"),
        (lambda: multi_level_swaps.evidence_sets(LABELS, LABELS, 0, GENERATOR), "k must be a whole number at least 1"),
        (lambda: multi_level_swaps.evidence_sets(LABELS, LABELS, 1, None), "generator must be a torch.Generator"),
        (lambda: multi_level_swaps.evidence_sets(LABELS, LABELS, 1, GENERATOR, [9] * 6), "scored must be class numbers"),
        (lambda: multi_level_swaps.other_classes(LABELS.float(), GENERATOR), "labels must be whole numbers"),
        (lambda: multi_level_swaps.gather(FOUND, torch.zeros(6), None), "sets must have shape"),
        (lambda: multi_level_swaps.Swaps(digits(), LABELS[:5], LABELS[:, None], IMAGES), "as many source as wanted"),
        (lambda: multi_level_swaps.Swaps(digits(), LABELS[:, None], LABELS[:, None], IMAGES), r"wanted must be \[6\]"),
        (lambda: multi_level_swaps.place(None, digits(), 1, GENERATOR, trials=0), "trials must be a whole number"),
        (lambda: multi_level_table.encode_epoch(None, digits(), GENERATOR, 2.5), "batch_size must be a whole number"),
        (lambda: multi_level_table.fit_probes(None, 0, GENERATOR), "iterations must be a whole number at least 1"),
        (lambda: conditional_vae.gradient_quality(None, IMAGES, [1.0], draws=1), "draws must be .* at least 2, got 1"),
        (lambda: conditional_vae.asked_agreement(None, GENERATOR, 0), "n must be a whole number at least 1, got 0"),
        (lambda: mix_and_match.paste(torch.rand(6, 500), torch.rand(1, 284)), "must be of the same images"),
        (lambda: mix_and_match.paste(torch.rand(6, 500), torch.rand(6, 283)), "must be of the same images"),
        (lambda: spatial_transformer.measures(CANVAS, WHERE[:1], WHERE, LABELS), "got 6 canvas, 1 where, 6 true"),
        (lambda: spatial_transformer.measures(CANVAS, WHERE, WHERE, LABELS[:, None]), r"labels must be \[6\]"),
        (lambda: spatial_transformer.measures(CANVAS * 255, WHERE, WHERE, LABELS), "canvas must hold grey values"),
        (lambda: spatial_transformer.measures(CANVAS, spoilt(WHERE), WHERE, LABELS), "where must be positive"),
        (lambda: spatial_transformer.descend(CANVAS, IMAGES[:1], WHERE), r"target must have shape \[6, 1, 28, 28\]"),
        (lambda: spatial_transformer.descend(CANVAS, IMAGES * 255, WHERE), "target must hold grey values"),
        (lambda: spatial_transformer.descend(CANVAS, IMAGES, WHERE, steps=0), "steps must be a whole number at least 1"),
    ],
)  # fmt: skip
def test_what_would_be_broadcast_or_read_as_nothing_is_refused(plain, call, words):
    with pytest.raises(ValueError, match=words):
        call()


def test_windows_reach_the_judge_as_it_reads_pictures(monkeypatch):
    """In float32 and within [0, 1], whatever precision the network has and whatever rounding has added."""
    seen = []
    monkeypatch.setattr(spatial_transformer.evaluation, "agreement", lambda images, labels: seen.append(images) or 0.5)
    model = Localisation().double()
    spatial_transformer.evaluate(model, digits(), 0)
    spatial_transformer.measures(CANVAS + 0.005, WHERE, WHERE, LABELS)
    assert {images.dtype for images in seen} == {torch.float32} and max(float(images.max()) for images in seen) <= 1


def test_a_weight_may_be_nothing():
    assert primer.Config(kl_weight=0).kl_weight == 0
    config = but(conditional_vae.Config(), adversary=True, adversary_weight=0)
    assert conditional_vae.weights(config)["adversary"] == 0
    config = but(multi_level_vae.Config(), identity=True, identity_weight=0)
    assert multi_level_vae.weights(config)["identity"] == 0
