"""Chapter 05's experiment: variants, schedules, measures on cases whose figures are known, crossing, scenes, speed."""

from __future__ import annotations

import dataclasses
import math

import pytest
import torch
from unit_harness import one_of_each_kind, seeded

from latentbook.data.digits import Digits, load_digits
from latentbook.data.scenes import Layout, draw_scenes
from latentbook.data.splits import split_sprites, train_validation_split
from latentbook.experiments import air, air_measures
from latentbook.experiments.air import DIAGONAL, EXACT, VARIANTS, Config
from latentbook.experiments.air_measures import crossing, matched_iou
from latentbook.experiments.originals import air as plain_air
from latentbook.experiments.originals.mix_and_match import PilDigits
from latentbook.experiments.run import learning_rate
from latentbook.models.air import AIR
from latentbook.models.air_parts import TUTORIAL, AIRConfig
from latentbook.training.loop import History

TRAINED = one_of_each_kind({name: config for name, config in VARIANTS.items() if config.epochs})


@pytest.fixture(scope="module")
def train() -> Digits:
    return load_digits("train", source="offline").take(slice(0, 300))


@pytest.fixture(scope="module")
def test() -> Digits:
    return load_digits("test", source="offline").take(slice(0, 100))


def small(config: Config) -> Config:
    """The same variant in a moment: narrow, two epochs of two steps, few scenes to measure."""
    model = dataclasses.replace(config.model, hidden_dim=16, what_hidden_dim=16, what_dim=4)
    sizes = {"epochs": min(2, config.epochs), "scenes": 20, "batch_size": 10, "fixed": min(50, config.fixed)}
    return dataclasses.replace(config, model=model, held_out=60, watched=20, bounded=3, **sizes)


def run(variant: str, train: Digits, test: Digits, seed: int = 0):
    """One run of the small variant. The bound by importance weights takes 5 of its 100 samples: else five sixths of the time."""
    bound = AIR.importance_bound

    def few(model, images, samples, *rest, **options):
        assert samples == 100
        return bound(model, images, 5, *rest, **options)

    with pytest.MonkeyPatch.context() as patched:
        patched.setattr(AIR, "importance_bound", few)
        return air.run(variant, seed, config=small(VARIANTS[variant]), train=train, test=test, progress=False)


# Variants


@pytest.mark.parametrize("variant", TRAINED)
def test_every_kind_of_variant_trains_and_is_measured(variant, train, test):
    result = run(variant, train, test)
    metrics, most = result.metrics, VARIANTS[variant].model.steps
    counts = (VARIANTS[variant].measured or VARIANTS[variant].layout).counts
    shares = {f"count_{n}_seen_as_{m}" for n in counts for m in range(most + 1)}
    accuracies = {f"count_accuracy{which}" for which in ("", "_sampled", "_uniform", "_diagonal")}
    crossed = {"crossed_98", "steps_to_98", "seconds_to_98", "ms_per_step"}
    assert set(metrics) == shares | accuracies | crossed | {
        *("undercounts", "overcounts", "elbo", "iwae_100"),
        *("window_iou", "box_iou", "policy_x", "policy_y", "squared_error"),
        *(("what_accuracy", "what_accuracy_of_scene") if VARIANTS[variant].world == "digits" else ()),
    }
    assert all(math.isfinite(value) for value in metrics.values()) and result.seconds > 0
    for n in counts:
        assert sum(metrics[f"count_{n}_seen_as_{m}"] for m in range(most + 1)) == pytest.approx(1)
    assert metrics["count_accuracy"] + metrics["undercounts"] + metrics["overcounts"] == pytest.approx(1)
    assert metrics["elbo"] < metrics["iwae_100"] and metrics["crossed_98"] == 0 and metrics["steps_to_98"] == 4
    assert (result.failed is not None) == (metrics["count_accuracy"] < air.THRESHOLD)


def test_every_variant_fits_its_scenes(train):
    batch = next(draw_scenes(train, 2, EXACT.layout).batches(2))
    for name, config in VARIANTS.items():
        config.check_sizes()
        if config.epochs and config.world == "digits":
            scenes = batch if config.layout.canvas == 50 else next(draw_scenes(train, 2, config.layout).batches(2))
            assert air.build(small(config), 0).loss(scenes, generator=seeded())["nll"].isfinite().all(), name


@pytest.mark.parametrize("variant", ["ink", "ink-diagonal"])
def test_the_control_is_not_trained(variant, train, test):
    result = run(variant, train, test)
    assert result.model is None and result.seconds == 0
    assert result.metrics["count_accuracy"] > 0.9  # scikit-learn's digits hold nearly the same ink each


def test_the_variants_are_what_their_names_say():
    assert (
        VARIANTS["exact"] == Config(watch="test") and VARIANTS["exact"].epochs * VARIANTS["exact"].scenes == 1600 * 64
    )
    assert EXACT.layout.counts == (0, 1, 2, 2) and EXACT.measured == Layout() and EXACT.layout.placement == "uniform"
    diagonal = dataclasses.replace(EXACT.layout, placement="diagonal")
    assert VARIANTS["exact-diagonal"] == dataclasses.replace(EXACT, layout=diagonal, measured=DIAGONAL)
    assert VARIANTS["tutorial-counts"] == dataclasses.replace(EXACT, layout=Layout())
    faithful = VARIANTS["reinforce-faithful"]
    assert faithful.model == TUTORIAL and faithful.layout == DIAGONAL and faithful.fixed == 10_000
    assert faithful.epochs * faithful.scenes / faithful.batch_size == 50 * 157  # the tutorial's 50 epochs
    assert (faithful.learning_rate, faithful.baseline_rate, faithful.schedule) == (1e-4, 100, "constant")
    corrected = dataclasses.replace(TUTORIAL, published=False)
    assert VARIANTS["reinforce-corrected-unbounded"] == dataclasses.replace(faithful, model=corrected)
    bounded = dataclasses.replace(corrected, scale_range=(1.0, 8.0), log_var_range=(-8.0, 1.0))
    assert VARIANTS["reinforce-corrected"] == dataclasses.replace(faithful, model=bounded)
    for name, choices in {
        "reinforce-matched": {"objective": "reinforce"},
        "reinforce-matched-no-baseline": {"objective": "reinforce", "learnt_baseline": False},
        "concrete-matched": {"objective": "concrete"},
        "no-floor": {"floor": 0.0},
        "presence-prior-half": {"presence_prior": 0.5},
        "tutorial-variance": {"variance": 0.36},
        "tutorial-window": {"where_mean": (3.0, 0.0, 0.0)},
        "tutorial-network": {"image_layer": "linear"},
        "no-scale-range": {"scale_range": None, "log_var_range": None},
        "bernoulli": {"likelihood": "bernoulli"},
        **{f"output-{name}": {"output": name} for name in ("clamped", "absolute", "linear")},
    }.items():
        assert VARIANTS[name] == dataclasses.replace(EXACT, model=dataclasses.replace(EXACT.model, **choices)), name
    explored = VARIANTS["explored"]
    assert explored.watch == "validation" and explored.layout == EXACT.layout and explored.epochs == EXACT.epochs
    assert (explored.model.explore, explored.model.floor, explored.model.where_mean[0]) == (0.7, 0.0, 2.2)
    for name in air.KINDS:  # one recipe: worlds differ in their scenes, and sprites in the size of windows
        other = VARIANTS[f"explored{name}"]
        world = {field: getattr(explored, field) for field in ("layout", "measured", "world")}
        assert dataclasses.replace(other, **world, model=explored.model) == explored, name
        assert dataclasses.replace(other.model, where_mean=explored.model.where_mean) == explored.model
        assert (other.model == explored.model) == (name != "-sprites")
    three = VARIANTS["up-to-three"]
    assert max(three.layout.counts) == 2 and max(three.measured.counts) == 3 and three.model.steps == 4


@pytest.mark.parametrize("variant", ["exact", "reinforce-faithful"])
def test_a_seed_repeats_exactly_and_another_does_not(variant, train, test):
    first, again, other = (run(variant, train, test, seed).metrics for seed in (1, 1, 2))
    clocks = {"seconds_to_98", "ms_per_step"}
    assert all(first[name] == again[name] for name in first.keys() - clocks)
    assert first["elbo"] != other["elbo"]


def test_schedules_and_rates_reach_the_training(train, monkeypatch):
    given = []
    monkeypatch.setattr(
        air, "train_as", lambda config, model, scenes, *rest, **options: given.append((scenes, options))
    )
    for variant in ("exact", "reinforce-faithful", "no-floor-kl-warmup", "annealed-prior"):
        air.train(dataclasses.replace(VARIANTS[variant], fixed=min(50, VARIANTS[variant].fixed)), train, 0)
    (_, exact), (scenes, faithful), (_, warm), (_, annealed) = given
    assert set(exact) == {"arguments"} and exact["arguments"]["floor"](0) == EXACT.model.floor
    assert faithful["rate_factors"] == {"baseline": 100.0} and faithful["arguments"]["floor"](0) == 0
    assert isinstance(scenes, air.Portions)
    assert set(warm["weights"]) == {"kl_presence", "kl_where", "kl_what"}
    assert [warm["weights"]["kl_where"](step) for step in (0, 400, 800, 2000)] == [0, 0.5, 1, 1]
    prior = annealed["arguments"]["presence_prior"]
    assert [prior(step) for step in (0, 400, 800, 2000)] == pytest.approx([0.99, (0.99e-5) ** 0.5, 1e-5, 1e-5])


def test_the_rate_goes_up_for_80_steps_and_down_to_nothing():
    rate = learning_rate(EXACT, 1600)
    assert rate(80) == max(map(rate, range(1600))) == EXACT.learning_rate and rate(1600) == pytest.approx(0)


def test_curves_are_watched_on_validation_scenes_that_training_goes_without(train, test, monkeypatch):
    """Of digits and of sprites; a run of the first edition trains on all and watches test scenes."""
    seen = []

    class Looking(air_measures.Counting):
        def __init__(self, scenes):
            super().__init__(scenes)
            seen.append(scenes)

    fit = air.train

    def training(config, digits, *rest, **options):
        seen.append(digits)
        return fit(config, digits, *rest, **options)

    monkeypatch.setattr(air, "Counting", Looking)
    monkeypatch.setattr(air, "train", training)
    left, held = train_validation_split(train)
    for variant, shown, watched in (
        ("explored", left, held),
        ("explored-sprites", left, split_sprites(len(held), "validation")),
        ("exact", train, test),
    ):
        seen.clear()
        run(variant, train, test)
        scenes, digits = seen
        assert digits.sha256 == shown.sha256, variant
        config = small(VARIANTS[variant])
        assert scenes.sha256 == draw_scenes(watched, config.watched, config.measured, air.WATCHED).sha256, variant


def test_an_interrupted_training_is_no_result(train, test, monkeypatch):
    monkeypatch.setattr(air, "train", lambda *args, **options: (AIR(), History(interrupted=True)))
    with pytest.raises(KeyboardInterrupt):
        run("exact", train, test)


# Scenes


def test_portions_show_every_fixed_scene_no_more_than_once_an_epoch(train):
    scenes = air.training_set(dataclasses.replace(VARIANTS["reinforce-faithful"], fixed=50, scenes=20), train, 0)
    assert len(scenes) == 20 and len(scenes.images) == 50
    shown = [torch.cat([batch.images for batch in scenes.batches(8, seeded(seed))]) for seed in (1, 1, 2)]
    assert torch.equal(shown[0], shown[1]) and not torch.equal(shown[0], shown[2])
    pairs = (shown[0].flatten(1)[:, None] == scenes.images.flatten(1)).all(2)
    filled = shown[0].flatten(1).any(1)  # empty scenes are all alike
    assert len(shown[0]) == 20 and (pairs[filled].sum(1) == 1).all() and (pairs[filled].sum(0) <= 1).all()
    assert torch.equal(torch.cat([batch.images for batch in scenes.batches(8)]), scenes.images[:20])


def test_sprites_of_the_two_splits_are_not_the_same(train, test):
    made = [air.objects(VARIANTS["sprites"], digits) for digits in (train, test)]
    assert [len(sprites) for sprites in made] == [300, 100] and made[0].split == "train"
    assert not torch.equal(made[0].images[:100], made[1].images) and made[0].labels.max() == 2
    assert air.objects(EXACT, train) is train


# Measures


@pytest.mark.parametrize(
    ("accuracies", "expected"),
    [
        ([0.5, 0.98, 0.99], 1),
        ([0.98, 0.96, 0.985, 0.97], 2),  # fell below 97 % again
        ([0.98, 0.975, 0.97], 0),
        ([0.97, 0.979, 0.978], None),
        ([0.99, 0.99, 0.9], None),
        ([], None),
    ],
)
def test_crossing_is_the_first_evaluation_after_which_it_stays(accuracies, expected):
    assert crossing(accuracies) == expected


def test_the_hook_counts_after_every_epoch_and_says_when(test):
    scenes, model = draw_scenes(test, 12), AIR()
    hook = air_measures.Counting(scenes)
    for steps in (25, 50, 75):
        hook(model, History(steps=steps, seconds=steps / 10))
    share = float((model.infer(scenes.images).counts == scenes.labels).float().mean())
    assert hook.accuracy == [share] * 3 and hook.steps == [25, 50, 75]
    assert hook.metrics() == {"crossed_98": 0.0, "steps_to_98": 75, "seconds_to_98": 7.5}
    with pytest.raises(ValueError, match="scenes that are counted are on meta, but the model is on cpu"):
        air_measures.Counting(scenes.to("meta")).prepare(model, History())
    hook.accuracy = [0.5, 0.99, 1.0]
    assert hook.metrics() == {"crossed_98": 1.0, "steps_to_98": 50, "seconds_to_98": 5.0}


def test_confusion_of_known_counts():
    true, seen = torch.tensor([0, 0, 1, 1, 1, 1, 2, 2]), torch.tensor([0, 0, 1, 1, 0, 2, 1, 2])
    found = air_measures.confusion(seen, true, most=2)
    rows = [[found[f"count_{n}_seen_as_{m}"] for m in range(3)] for n in range(3)]
    assert rows == [[1, 0, 0], [0.25, 0.5, 0.25], [0, 0.5, 0.5]]
    assert (found["undercounts"], found["overcounts"]) == (0.25, 0.125)


def test_boxes_are_matched_so_that_they_overlap_most():
    boxes = torch.tensor([[[0, 0, 10, 10], [20, 0, 30, 10]], [[0, 0, 4, 4], [0, 0, 0, 0]], [[0] * 4, [0] * 4]])
    true = torch.tensor([2, 1, 0])
    swapped = torch.tensor([[20.0, 0, 30, 10], [0, 0, 10, 5], [0, 0, 10, 10]])  # the third is not used
    found = torch.stack([swapped, torch.tensor([[2.0, 0, 6, 4]] * 3), torch.zeros(3, 4)])
    assert matched_iou(found, torch.tensor([2, 0, 0]), boxes, true) == pytest.approx((1 + 0.5) / 2)
    assert matched_iou(found, torch.tensor([2, 1, 3]), boxes, true) == pytest.approx((1 + 0.5 + 1 / 3) / 3)
    assert matched_iou(found, torch.tensor([1, 0, 0]), boxes, true) == pytest.approx(1)  # its own box, not the first
    assert matched_iou(found, torch.tensor([0, 0, 0]), boxes, true) == 0
    blank = torch.zeros(3, 3, 4)
    assert matched_iou(blank, torch.tensor([2, 0, 0]), boxes, true) == 0


class Knowing(AIR):
    """A model that sees in every scene what was put there: its figures can be worked out by hand."""

    def __init__(self, scenes):
        super().__init__()
        self.scenes, self.at = scenes, 0

    def infer(self, images, generator=None):
        part = slice(self.at, self.at + len(images))
        self.at += len(images)
        seen, boxes = super().infer(images), self.scenes.boxes[part].float()
        middle, wide = (boxes[..., :2] + boxes[..., 2:]) / 2, 10.0
        windows = torch.cat((middle - wide, middle + wide), 2)
        canvases = torch.zeros(len(images), 2, 50, 50)
        for canvas, (left, top, right, bottom) in zip(
            canvases.flatten(0, 1), boxes.long().flatten(0, 1).tolist(), strict=True
        ):
            canvas[top:bottom, left:right] = 0.5
        return seen._replace(counts=self.scenes.labels[part], boxes=windows, canvases=canvases)


class Painting(Knowing):
    """It paints the scene itself, each object within its own box."""

    def infer(self, images, generator=None):
        seen = super().infer(images, generator)
        return seen._replace(canvases=(seen.canvases > 0) * images)


def test_looks_of_a_model_that_sees_what_is_there(test):
    scenes = draw_scenes(test, 30)
    found = air_measures.looks(Knowing(scenes), scenes)
    sizes = (scenes.boxes[..., 2:] - scenes.boxes[..., :2]).prod(2)
    assert found["box_iou"] == 1 and (sizes <= 400).all()
    expected = sizes.sum() / 400 / scenes.labels.sum()  # every box lies within its window of 20 x 20
    assert found["window_iou"] == pytest.approx(float(expected), rel=1e-5)
    middle = (scenes.boxes[..., :2] + scenes.boxes[..., 2:]).double()[scenes.labels == 2] / 2
    policy = (middle[:, 0] - middle[:, 1]).mean(0).tolist()  # its first window is on the first object
    assert [found["policy_x"], found["policy_y"]] == pytest.approx(policy, abs=1e-4)


def test_pairs_are_those_of_the_matching_and_name_their_scene():
    boxes = torch.tensor([[[0, 0, 10, 10], [20, 0, 30, 10]], [[0, 0, 0, 0]] * 2, [[5, 5, 9, 9], [0, 0, 0, 0]]])
    found = torch.tensor([[[20.0, 0, 30, 10], [0, 0, 10, 5]], [[0, 0, 4, 4]] * 2, [[0, 0, 1, 1], [5, 5, 9, 9]]])
    pairs = air_measures.matched(found, torch.tensor([2, 2, 2]), boxes, torch.tensor([2, 0, 1]))
    rows = torch.stack((pairs.scene, pairs.found, pairs.true), 1).tolist()
    assert sorted(rows) == [[0, 0, 1], [0, 1, 0], [2, 1, 0]] and sorted(pairs.iou.tolist()) == [0.5, 1, 1]
    none = air_measures.matched(found, torch.tensor([0, 0, 0]), boxes, torch.tensor([2, 0, 1]))
    assert [len(part) for part in none] == [0] * 4


def test_a_single_object_becomes_a_picture_of_mnists_size_with_its_ink_in_the_middle(test):
    scenes = draw_scenes(test, 40, Layout(counts=(1,)))
    pictures = air_measures.as_digits(scenes.images[:, 0], 24)
    places = torch.arange(28) + 0.5
    for axis in (2, 3):
        mass = pictures.sum((1, 5 - axis)) / pictures.sum((1, 2, 3)).unsqueeze(1)
        torch.testing.assert_close((mass * places).sum(1), torch.full((40,), 14.0), atol=0.5, rtol=0)
    whole = pictures.sum((1, 2, 3)) / scenes.images.sum((1, 2, 3))
    torch.testing.assert_close(whole, torch.full((40,), (28 / 24) ** 2), atol=0.05, rtol=0)
    assert (air_measures.as_digits(torch.zeros(2, 50, 50), 24) == 0).all()


def test_objects_are_read_by_the_judge_against_their_own_labels(test, monkeypatch):
    """A model that paints what is there is read as the scene itself; one that paints it mirrored is not; a blank one never."""
    scenes = draw_scenes(test, 60, Layout(counts=(0, 1, 2)))
    seen = []

    def labels(pictures):  # a judge that knows: what it is shown is compared with the scene's own
        seen.append(pictures)
        return torch.full((len(pictures),), 3)

    monkeypatch.setattr(air_measures.evaluation, "judged", labels)
    found = air_measures.read_objects(Painting(scenes), scenes)
    threes = float((scenes.objects[scenes.objects >= 0] == 3).float().mean())
    assert found == pytest.approx({"what_accuracy": threes, "what_accuracy_of_scene": threes})
    torch.testing.assert_close(seen[0], seen[1])  # what it paints is the scene within the true boxes
    assert len(seen[0]) == int(scenes.labels.sum())
    blind = dataclasses.replace(scenes, labels=torch.zeros_like(scenes.labels))
    assert air_measures.read_objects(Painting(blind), blind) == {"what_accuracy": 0.0, "what_accuracy_of_scene": 0.0}


def test_the_object_seen_first_is_the_one_nearest_to_the_first_window():
    boxes = torch.tensor([[[0, 0, 10, 10], [30, 20, 40, 30]]] * 4)
    windows = torch.tensor([[[28.0, 20, 38, 30], [1, 1, 11, 11]], [[2.0, 3, 12, 13], [28, 20, 38, 30]]] * 2)
    first, second = air_measures.first_seen(windows, torch.tensor([2, 2, 1, 2]), boxes, torch.tensor([2, 2, 2, 1]))
    assert first.tolist() == [[35, 25], [5, 5]] and second.tolist() == [[5, 5], [35, 25]]
    none = air_measures.first_seen(windows, torch.tensor([1] * 4), boxes, torch.tensor([2] * 4))
    assert [len(part) for part in none] == [0, 0]


def test_counts_are_those_of_inference_in_any_parts(test, monkeypatch):
    scenes, model = draw_scenes(test, 13), AIR().eval()
    whole = air_measures.count_log_probs(model, scenes.images)
    torch.testing.assert_close(whole, model.infer(scenes.images).count_log_probs)
    monkeypatch.setattr(air_measures, "PART", 5)
    torch.testing.assert_close(air_measures.count_log_probs(model, scenes.images), whole)


def test_the_ink_control_reads_counts_off_the_sum_of_pixels(train, test):
    scenes = draw_scenes(train, 300)
    telling = dataclasses.replace(scenes, images=torch.ones_like(scenes.images) * scenes.labels.view(-1, 1, 1, 1) / 3)
    assert air_measures.ink_control(telling, telling) == 1
    silent = dataclasses.replace(scenes, images=torch.zeros_like(scenes.images))
    assert air_measures.ink_control(silent, silent) < 0.5


# Speed


def test_the_bench_takes_steps_and_scenes():
    found = air.bench(rounds=1, steps=1)
    assert found["experiment"] == "air" and found["ratio"] == found["plain_ms"] / found["ours_ms"]
    assert found["scenes_ratio"] == found["scenes_plain_ms"] / found["scenes_ours_ms"] > 5
    assert found["uniform_ratio"] == found["uniform_plain_ms"] / found["uniform_ours_ms"] > 5
    assert found["faithful_ratio"] == found["faithful_plain_ms"] / found["faithful_ours_ms"]


def test_the_plain_model_is_ours_with_the_tutorials_choices(test):
    """The same weights, noise and draws: one loss. The noise is drawn in the plain model's order and handed to ours."""
    plain, ours, images = plain_air.PlainAIR(), AIR(TUTORIAL), draw_scenes(test, 6, DIAGONAL).images
    for theirs, cell in ((plain.cell, ours.inference), (plain.baseline, ours.baseline)):
        with torch.no_grad():
            cell.of_image[-1].weight.copy_(theirs.layers[0].weight[:, :2500])
            cell.of_rest.weight.copy_(theirs.layers[0].weight[:, 2500:])
            cell.of_image[-1].bias.copy_(theirs.layers[0].bias)
        cell.second.load_state_dict(theirs.layers[2].state_dict())
        cell.last.load_state_dict(theirs.layers[4].state_dict())
    ours.what.encoder.load_state_dict(plain.encoder.state_dict())
    ours.what.decoder.load_state_dict(plain.decoder.state_dict())
    present = torch.tensor([[1, 1, 0], [0, 0, 0], [1, 1, 1], [1, 0, 0], [1, 1, 0], [0, 0, 0]]).float()
    where, what = (torch.randn(6, 3, n, generator=seeded(n)) for n in (3, 20))
    noise = iter([part[:, i] for i in range(3) for part in (where, what)])
    draws = iter(present.unsqueeze(2).unbind(1))
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(torch.distributions.Normal, "rsample", lambda self: self.mean + self.stddev * next(noise))
        patch.setattr(torch, "bernoulli", lambda p: next(draws))
        theirs = plain.loss(images)
    terms = ours.loss(
        air.Batch(images, torch.zeros(6, dtype=torch.int64)), noise=torch.cat((where, what), 2), uniform=1 - present
    )
    torch.testing.assert_close(sum(terms.values()).mean(), theirs, rtol=1e-4, atol=1e-3)


def test_a_plain_scene_holds_the_whole_digits(test):
    pictures = PilDigits(test)
    assert (plain_air.plain_scene(pictures, 0) == 0).all()
    scene = plain_air.plain_scene(pictures, 2)
    assert scene.shape == (1, 50, 50) and scene.sum() > 40


# States


def test_a_model_from_a_file_has_the_same_configuration():
    config = dataclasses.asdict(AIRConfig()) | {"where_mean": [2.2, 0.0, 0.0], "scale_range": [1.0, 8.0]}
    assert air.from_file(config).config == AIRConfig()
