"""Chapter 04's experiment: variants, measures on windows whose figures are known, descent, speed."""

from __future__ import annotations

import dataclasses
import math

import pytest
import torch
from unit_harness import batch_sizes

from latentbook import evaluation
from latentbook.data.digits import Digits, load_digits
from latentbook.experiments import spatial_transformer
from latentbook.experiments.originals import localisation as plain_localisation
from latentbook.experiments.spatial_transformer import VARIANTS, Config, Descent
from latentbook.layers.spatial_transformer import image_to_window, window_to_image
from latentbook.models.localisation import WINDOW, Localisation, place
from latentbook.training.loop import History

NETWORKS = [name for name, config in VARIANTS.items() if isinstance(config, Config)]
DESCENTS = [name for name in VARIANTS if name not in NETWORKS]
MEASURES = {"agreement", "centre_error", "scale_error", "scale_bias", "missed_share"}


@pytest.fixture(scope="module")
def train() -> Digits:
    return load_digits("train", source="offline").take(slice(0, 300))


@pytest.fixture(scope="module")
def test() -> Digits:
    return load_digits("test", source="offline").take(slice(0, 60))


def small(config: Config | Descent) -> Config | Descent:
    """The same variant in a moment: narrow, one epoch of a few steps."""
    if isinstance(config, Descent):
        return dataclasses.replace(config, steps=20, examples=10)
    model = dataclasses.replace(config.model, hidden_dim=16)
    epochs = {"epochs": min(1, config.epochs), "reader_epochs": min(1, config.reader_epochs)}
    return dataclasses.replace(config, model=model, examples=200, batch_size=50, **epochs)


def run(variant: str, train: Digits, test: Digits, seed: int = 0):
    config = small(VARIANTS[variant])
    return spatial_transformer.run(variant, seed, config=config, train=train, test=test, progress=False)


def seeded(seed: int = 0) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


# Variants


@pytest.mark.parametrize("variant", VARIANTS)
def test_every_variant_runs(variant, train, test):
    result = run(variant, train, test)
    wanted = MEASURES | ({"reader_accuracy"} if variant in NETWORKS else set())
    wanted |= {"canvas_agreement", "true_window_agreement"} if variant == "untrained" else set()
    assert set(result.metrics) == wanted and all(math.isfinite(value) for value in result.metrics.values())
    assert (result.seconds > 0) == (variant in NETWORKS and variant != "untrained")
    judged = variant in NETWORKS and variant not in ("untrained", "whole")
    assert (result.failed is not None) == (judged and result.metrics["agreement"] < spatial_transformer.THRESHOLD)


def test_the_variants_are_what_their_names_say():
    reader = VARIANTS["reader"]
    assert reader == Config() and reader.target == "cross_entropy" and not reader.model.reader_learns
    assert VARIANTS["pixels"] == dataclasses.replace(reader, target="pixels")
    assert VARIANTS["where"] == dataclasses.replace(reader, target="where")
    for name in ("reader", "where"):
        wide, narrow = VARIANTS[name], VARIANTS[f"{name}-small"]
        assert dataclasses.replace(narrow, model=wide.model) == wide and narrow.model.start_scale == 4.0
    joint, whole = VARIANTS["joint"], VARIANTS["whole"]
    assert joint.model.reader_learns and joint.reader_epochs == 0 and joint.target == "cross_entropy"
    assert whole == dataclasses.replace(joint, model=dataclasses.replace(joint.model, looks="whole"))
    assert {VARIANTS[name].start_scale for name in DESCENTS if "small" in name} == {4.0}
    assert VARIANTS["descent"].start_scale == reader.model.start_scale  # descent and network start alike
    assert [name for name in DESCENTS if VARIANTS[name].blur] == ["descent-blurred", "descent-small-blurred"]


@pytest.mark.parametrize("variant", ["reader", "descent-blurred"])
def test_a_seed_repeats_exactly_and_another_does_not(variant, train, test):
    first, again, other = (run(variant, train, test, seed) for seed in (1, 1, 2))
    assert first.metrics == again.metrics and first.metrics != other.metrics


def test_only_the_target_trains(train, monkeypatch):
    seen = []
    for module in ("spatial_transformer", "run"):  # of the reader, of the network
        monkeypatch.setattr(
            f"latentbook.experiments.{module}.fit",
            lambda model, digits, **options: seen.append((model, digits, options)) or History(),
        )
    spatial_transformer.train(VARIANTS["pixels"], train, 3)
    (reader, all_digits, _), (model, shown, options) = seen
    assert reader is model.reader and all_digits is train and shown.images is not None and len(shown) == 300
    assert options["weights"] == {"cross_entropy": 0.0, "pixels": 1.0, "where": 0.0} and options["seed"] == 3
    assert not any(parameter.requires_grad for parameter in reader.parameters())
    rate = options["learning_rate"]
    assert max(rate(step) for step in range(9)) == pytest.approx(4e-3, rel=0.1) and rate(9) == pytest.approx(0)
    seen.clear()
    spatial_transformer.train(VARIANTS["joint"], train, 0)
    assert len(seen) == 1  # a reader that learns with the network is not taught before


def test_a_fixed_reader_stays_as_it_was_taught(train):
    config = small(VARIANTS["reader"])
    model, _ = spatial_transformer.train(config, train, 0, progress=False)
    shorter, _ = spatial_transformer.train(dataclasses.replace(config, examples=50), train, 0, progress=False)
    pairs = zip(model.reader.parameters(), shorter.reader.parameters(), strict=True)
    assert all(torch.equal(ours, theirs) for ours, theirs in pairs)
    assert not torch.equal(model.network[-1].weight, shorter.network[-1].weight)


def test_an_interrupted_training_is_no_result(train, test, monkeypatch):
    given = Localisation(), History(interrupted=True)
    monkeypatch.setattr(spatial_transformer, "train", lambda *args, **options: given)
    with pytest.raises(KeyboardInterrupt):
        run("reader", train, test)


def test_the_windows_of_every_epoch_are_kept(train, test):
    config = dataclasses.replace(small(VARIANTS["reader"]), epochs=2)
    canvas, _ = Localisation().scene(test.images[:5], seeded())
    watched = spatial_transformer.Windows(canvas)
    watched(spatial_transformer.build(config))
    model, _ = spatial_transformer.train(config, train, 0, hooks=[watched], progress=False)
    assert [where.shape for where in watched.where] == [(5, 3)] * 3
    torch.testing.assert_close(watched.where[0], torch.tensor([[1.5, 0.0, 0.0]]).expand(5, 3))
    assert torch.equal(watched.where[-1], model.where(canvas))
    with pytest.raises(ValueError, match="canvases whose windows are kept are on meta, but the model is on cpu"):
        spatial_transformer.train(
            config, train, 0, hooks=[spatial_transformer.Windows(canvas.to("meta"))], progress=False
        )


# Measures


def test_measures_of_windows_that_are_right(test):
    canvas, true = Localisation().scene(test.images, seeded())
    found = spatial_transformer.measures(canvas, true, true, test.labels)
    assert found["agreement"] == evaluation.agreement(image_to_window(canvas, true, WINDOW), test.labels)
    assert {name: found[name] for name in MEASURES - {"agreement"}} == dict.fromkeys(MEASURES - {"agreement"}, 0.0)


def test_measures_of_windows_that_are_off_by_known_amounts(test):
    canvas, true = Localisation().scene(test.images, seeded())
    scale, centre_x, centre_y = place(true).unbind(1)
    moved = spatial_transformer.unplace(torch.stack([scale + 0.1, centre_x + 3 / 20, centre_y - 4 / 20], 1))
    found = spatial_transformer.measures(canvas, moved, true, test.labels)
    assert found["centre_error"] == pytest.approx(5, rel=1e-4)  # 3 and 4 of the canvas's 40 pixels
    assert found["scale_error"] == pytest.approx(0.1, rel=1e-4) == found["scale_bias"]
    wider = spatial_transformer.measures(canvas, true * torch.tensor([0.5]), true, test.labels)
    assert wider["scale_bias"] == pytest.approx(-math.log(2)) == -wider["scale_error"] and wider["missed_share"] == 0


def test_a_window_has_missed_with_less_than_half_of_the_ink():
    """A canvas of even ink in the left half: windows that cover all of it, a third, and nothing."""
    canvas = torch.zeros(3, 1, 40, 40)
    canvas[:, :, :, :20] = 1
    where = torch.tensor([[1.0, 0.0, 0.0], [1.0, -0.7, 0.0], [4.0, -3.0, 0.0]])
    found = spatial_transformer.measures(canvas, where, where, torch.zeros(3, dtype=torch.int64))
    assert found["missed_share"] == pytest.approx(2 / 3)


def test_the_controls_are_the_whole_canvas_and_the_true_windows(test):
    model = Localisation()
    found = spatial_transformer.controls(model, test, 5)
    canvas, true = model.scene(test.images, seeded(6))  # the scenes that `evaluate` measures
    whole = torch.nn.functional.interpolate(canvas, size=WINDOW, mode="bilinear", align_corners=False)
    assert found["canvas_agreement"] == evaluation.agreement(whole, test.labels)
    seen = image_to_window(canvas, true, WINDOW)
    assert found["true_window_agreement"] == evaluation.agreement(seen, test.labels)


# Descent


def test_unplace_undoes_place():
    where = torch.rand(20, 3, generator=seeded()) + torch.tensor([0.5, -0.5, -0.5])
    torch.testing.assert_close(spatial_transformer.unplace(place(where)), where)


def test_blur_keeps_ink_and_spreads_a_point_as_a_gaussian():
    point = torch.zeros(1, 1, 41, 41)
    point[0, 0, 20, 20] = 1
    spread = spatial_transformer.blurred(point, 3.0)[0, 0]
    offsets = torch.arange(41.0) - 20
    assert float(spread.sum()) == pytest.approx(1, rel=1e-4)
    assert float((spread.sum(0) * offsets**2).sum()) == pytest.approx(9, rel=0.05)  # the variance; its tails are cut
    assert spatial_transformer.blurred(point, 0.0) is point


def test_descent_finds_a_window_that_overlaps_and_leaves_one_that_does_not(test):
    images = test.images[:8]
    true = torch.tensor([[2.0, 0.5, -0.4]]).expand(8, 3)
    canvas = window_to_image(images, true, 40)
    near, far = torch.tensor([[1.8, 0.3, -0.5]]).expand(8, 3), torch.tensor([[8.0, -7.0, 7.0]]).expand(8, 3)
    path = spatial_transformer.descend(canvas, images, near, steps=120)
    assert path.shape == (120, 8, 3) and not path.requires_grad
    off = (place(path[-1]) - place(true)).abs().amax(1)
    assert (off < 0.05).sum() >= 6  # a neighbouring stroke may hold one up
    torch.testing.assert_close(spatial_transformer.descend(canvas, images, far, steps=5)[-1], far)
    away = (place(near) - place(true)).abs().amax(1)
    assert (off < away).sum() >= 6


def test_blur_brings_a_window_that_touches_nothing_into_reach():
    """A dot outside the window: no gradient from it as it is, and the right direction from it blurred."""
    canvas, target = torch.zeros(1, 1, 40, 40), torch.zeros(1, 1, WINDOW, WINDOW)
    canvas[0, 0, 19:21, 30:32], target[0, 0, 10:18, 10:18] = 1, 1
    start = torch.tensor([[3.0, 0.0, 0.0]])
    sharp, blurred = (spatial_transformer.descend(canvas, target, start, 5, blur=blur)[-1] for blur in (0.0, 3.0))
    torch.testing.assert_close(sharp, start)
    assert place(blurred)[0, 1] > 0.05  # to the right, where the dot is


# Speed


def test_the_bench_takes_both_loops():
    found = spatial_transformer.bench(rounds=1, steps=1)
    assert found["experiment"] == "spatial-transformer" and found["ratio"] == found["plain_ms"] / found["ours_ms"]
    assert found["matmul_share"] > 0 and found["ours_ms"] > 0


def test_our_steps_go_on_for_ever_with_whole_batches(monkeypatch, train):
    # 300 digits: two batches of 128 an epoch, the rest left out
    assert batch_sizes(monkeypatch, spatial_transformer.our_steps(train), 3) == [128] * 3


def test_the_plain_sampler_is_our_sampler(test):
    where = torch.tensor([[1.7, 0.3, -0.2]])
    plain = plain_localisation.sample(test.images[0], *where[0], 40)
    torch.testing.assert_close(plain, window_to_image(test.images[:1], where, 40)[0])


def test_a_plain_scene_holds_the_whole_digit(test):
    for image in test.images[:10]:
        scene = plain_localisation.scene(image)
        assert scene.shape == (1, 40, 40) and scene.sum() > 0.2 * image.sum()
