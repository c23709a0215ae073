"""Scenes: what is drawn is where it is said to be, as uniformly as it is said to be, and the same under one seed."""

from __future__ import annotations

import json
import time
from dataclasses import asdict, replace
from types import SimpleNamespace

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image
from torch import nn
from torch.utils.data import DataLoader, TensorDataset

from latentbook.data.digits import Digits, load_digits
from latentbook.data.scenes import (
    INK,
    Layout,
    draw_scenes,
    draw_strokes,
    fresh_scenes,
    ink_boxes,
    make_sprites,
    make_stamps,
    overlaps,
)
from latentbook.training.loop import fit

DIGITS = load_digits("train", source="offline")
DIAGONAL = Layout(placement="diagonal")


def one_by_one(scenes, stamps):
    """Every scene again by a plain loop over its objects: each found among all stamps by its label and box, and added."""
    images = torch.zeros_like(scenes.images)
    for i in range(len(scenes)):
        for j in range(int(scenes.labels[i])):
            left, top, right, bottom = scenes.boxes[i, j].tolist()
            crop = scenes.images[i, 0, top:bottom, left:right]
            fits = (stamps.boxes[:, 2] - stamps.boxes[:, 0] == right - left) & (stamps.labels == scenes.objects[i, j])
            for k in fits.nonzero().flatten().tolist():
                a, b, c, d = stamps.boxes[k].tolist()
                if d - b == bottom - top and torch.allclose(stamps.images[k, b:d, a:c], crop, atol=0.15):
                    size = stamps.images.shape[1]
                    images[i, 0, top - b : top - b + size, left - a : left - a + size] += stamps.images[k]
                    break
    return images.clamp(0, 1)


@pytest.mark.parametrize("layout", [Layout(), DIAGONAL, Layout(canvas=64, size=20, counts=(0, 1, 2, 3, 4))])
def test_a_plain_loop_draws_the_same_scenes(layout):
    digits = DIGITS.take(slice(0, 40))
    scenes = draw_scenes(digits, 30, layout, seed=1)
    torch.testing.assert_close(scenes.images, one_by_one(scenes, make_stamps(digits, layout.size)))


@pytest.mark.parametrize("layout", [Layout(counts=(0, 1, 2, 3)), Layout(overlap=0.2), DIAGONAL])
def test_counts_objects_and_boxes_say_what_is_there(layout):
    scenes = draw_scenes(DIGITS, 300, layout)
    slots = torch.arange(max(layout.counts))
    present = slots < scenes.labels.unsqueeze(1)
    assert ((scenes.objects >= 0) == present).all() and (scenes.objects < 10).all()
    assert ((scenes.boxes.sum(2) > 0) == present).all()
    assert (scenes.boxes >= 0).all() and (scenes.boxes <= layout.canvas).all()
    assert scenes.images.amin() >= 0 and scenes.images.amax() <= 1
    assert (scenes.images[scenes.labels == 0] == 0).all()
    alone = (scenes.labels == 1).nonzero().flatten()
    for i in alone.tolist():  # all ink lies in the box, and reaches each of its sides
        left, top, right, bottom = scenes.boxes[i, 0].tolist()
        rows, columns = (scenes.images[i, 0] > INK).nonzero(as_tuple=True)
        extent = [int(columns.min()), int(rows.min()), int(columns.max()) + 1, int(rows.max()) + 1]
        assert extent == [left, top, right, bottom]


@settings(max_examples=25, deadline=None)
@given(st.integers(0, 10**6), st.sampled_from([0.0, 0.1, 0.5, 1.0]))
def test_boxes_overlap_no_more_than_stated(seed, share):
    scenes = draw_scenes(DIGITS.take(slice(0, 50)), 20, Layout(counts=(2, 3), overlap=share), seed)
    for boxes, count in zip(scenes.boxes.tolist(), scenes.labels.tolist(), strict=True):
        for i in range(count):
            for j in range(i):
                (a, b, c, d), (e, f, g, h) = boxes[i], boxes[j]
                common = max(0, min(c, g) - max(a, e)) * max(0, min(d, h) - max(b, f))
                assert common <= share * min((c - a) * (d - b), (g - e) * (h - f)) + 1e-6


def test_overlaps_are_shares_of_the_smaller_box():
    boxes = torch.tensor([[[0, 0, 4, 4], [2, 0, 4, 2], [2, 2, 6, 6]]])
    everything = torch.ones(1, 3, dtype=torch.bool)
    assert overlaps(boxes, everything)[0].tolist() == [[0, 1, 0.25], [1, 0, 0], [0.25, 0, 0]]
    assert overlaps(boxes, torch.tensor([[True, True, False]]))[0, 2].tolist() == [0, 0, 0]


def test_single_objects_stand_anywhere_with_equal_odds():
    layout = Layout(canvas=14, size=10, counts=(1,))
    dot = torch.zeros(1, 1, 28, 28)
    dot[..., 8:20, 8:20] = 1
    scenes = draw_scenes(Digits(dot, torch.zeros(1, dtype=torch.int64), "test", "", "test"), 5000, layout)
    corner = scenes.boxes[:, 0, :2] - scenes.boxes[:, 0, :2].amin(0)
    found = torch.zeros(5, 5).index_put((corner[:, 0], corner[:, 1]), torch.ones(5000), accumulate=True)
    assert ((found - 200).square() / 200).sum() < 52.6  # chi-square, 24 degrees of freedom, 0.05 %


def test_uniform_pairs_stand_beside_each_other_and_diagonal_ones_never():
    def gaps(layout):
        """How far two frames are apart in x and y; boxes around ink would blur it, so every object is a full square."""
        full = Digits(torch.ones(1, 1, 28, 28), torch.zeros(1, dtype=torch.int64), "test", "", "test")
        boxes = draw_scenes(full, 2000, layout).boxes
        assert (boxes[..., 2] - boxes[..., 0] == layout.size).all()
        return (boxes[:, 0, :2] - boxes[:, 1, :2]).abs(), boxes[..., :2]

    apart, corners = gaps(Layout(counts=(2,), placement="diagonal"))
    assert (apart >= 12).all() and corners.amax() == 25  # of 26 that fit; the tutorial leaves the last one out
    assert ((apart < 24).all(1)).float().mean() > 0.9  # nearly all of these "non-overlapping" frames overlap
    apart, corners = gaps(Layout(counts=(2,), canvas=60))
    assert ((apart >= 24).any(1)).all() and ((apart < 12).any(1)).float().mean() > 0.5 and corners.amax() == 36


def test_counts_and_objects_come_at_equal_odds():
    scenes = draw_scenes(DIGITS, 6000, Layout(counts=(0, 1, 2)))
    assert ((scenes.labels.bincount() - 2000).square() / 2000).sum() < 15.2  # chi-square, 2 degrees, 0.05 %
    expected = DIGITS.labels.bincount() / len(DIGITS) * (scenes.objects >= 0).sum()
    found = scenes.objects[scenes.objects >= 0].bincount()  # rejecting places keeps the objects: wide ones are no rarer
    assert ((found - expected).square() / expected).sum() < 29.7  # chi-square, 9 degrees, 0.05 %


def test_a_seed_gives_the_same_scenes_and_another_others():
    first, again, other = (draw_scenes(DIGITS, 20, seed=seed) for seed in (3, 3, 4))
    for name in ("images", "labels", "objects", "boxes"):
        assert torch.equal(getattr(first, name), getattr(again, name))
    assert not torch.equal(first.images, other.images)
    assert first.sha256 == again.sha256 != other.sha256
    assert first.sha256 != draw_scenes(DIGITS, 20, Layout(overlap=0.5), seed=3).sha256


def test_scenes_are_batched_taken_and_moved_as_digits_are():
    scenes = draw_scenes(DIGITS, 10)
    batches = list(scenes.batches(4, torch.Generator().manual_seed(0)))
    assert [len(batch.labels) for batch in batches] == [4, 4, 2]
    assert torch.cat([batch.labels for batch in batches]).bincount().equal(scenes.labels.bincount())
    some = scenes.take(torch.tensor([7, 1]))
    assert torch.equal(some.boxes, scenes.boxes[[7, 1]]) and torch.equal(some.objects, scenes.objects[[7, 1]])
    moved = scenes.to("meta")
    assert {part.device.type for part in (moved.images, moved.labels, moved.objects, moved.boxes)} == {"meta"}
    assert (scenes.source, scenes.split) == ("offline", "train")


def test_fresh_scenes_are_new_in_every_epoch_and_repeat_under_one_generator():
    scenes = fresh_scenes(DIGITS, 10, seed=1)
    assert torch.equal(scenes.images, draw_scenes(DIGITS, 10, seed=1).images)
    generator = torch.Generator().manual_seed(0)
    first, second = (list(scenes.batches(4, generator)) for _ in range(2))
    assert [len(batch.labels) for batch in first] == [4, 4, 2]
    assert not torch.equal(first[0].images, second[0].images)
    again = list(scenes.to("cpu").batches(4, torch.Generator().manual_seed(0)))
    assert all(
        torch.equal(a.images, b.images) and torch.equal(a.labels, b.labels) for a, b in zip(first, again, strict=True)
    )
    stored = torch.cat([batch.images for batch in scenes.batches(3)])
    assert torch.equal(stored, scenes.images)  # without a generator: the stored ones


def test_fit_takes_fresh_scenes():
    seen = []

    class Watcher(nn.Linear):
        def loss(self, batch, *, generator=None):
            seen.append(batch.images)
            return {
                "error": (
                    self(batch.labels.float().unsqueeze(1)) - batch.images.mean((1, 2, 3), keepdim=True)[:, 0, 0]
                ).square()[:, 0]
            }

    history = fit(Watcher(1, 1), fresh_scenes(DIGITS, 6), epochs=2, batch_size=4, progress=False)
    assert len(seen) == 4 and len(history.epochs) == 2
    assert not torch.equal(seen[0], seen[2])


def test_held_out_scenes_know_their_digits():
    test = draw_scenes(load_digits("test", source="offline"), 5)
    assert test.split == "test" and test.sha256 != draw_scenes(DIGITS, 5).sha256


def test_batch_of_one_and_no_objects():
    scenes = draw_scenes(DIGITS, 1, Layout(counts=(0,)))
    assert scenes.images.sum() == 0 and scenes.labels.tolist() == [0] and scenes.objects.tolist() == [[-1]]
    assert draw_scenes(DIGITS.take(slice(0, 1)), 1, Layout(counts=(2,))).objects.tolist() == [
        [int(DIGITS.labels[0])] * 2
    ]


def test_sprites_are_three_filled_shapes():
    sprites = make_sprites(600, seed=2)
    assert sprites.images.shape == (600, 1, 28, 28) and sorted(set(sprites.labels.tolist())) == [0, 1, 2]
    assert sprites.images.amin() == 0 and sprites.images.amax() <= 1
    stamps = make_stamps(sprites, 28)
    width, height = (stamps.boxes[:, 2:] - stamps.boxes[:, :2]).unbind(1)
    ink = (sprites.images > INK).sum((1, 2, 3))
    share = ink / (width * height)  # of the box that is filled
    for label, filled in enumerate((3.1416 / 4, 1.0, 0.5)):
        assert (share[sprites.labels == label] - filled).abs().max() < 0.12
    grey = sprites.images.amax((1, 2, 3))
    assert grey.amin() >= 0.39 and grey.std() > 0.1  # evenly filled, in different greys
    assert torch.equal(sprites.images, make_sprites(600, seed=2).images)
    assert draw_scenes(sprites, 5, Layout(counts=(3,))).source == "sprites"


# What is refused


@pytest.mark.parametrize(
    ("choices", "message"),
    [
        ({"canvas": 20}, "a canvas of 20 pixels cannot hold an object of 24: enlarge canvas or lower size"),
        ({"size": 0}, "size must be a whole number at least 1, got 0"),
        ({"placement": "grid"}, "placement must be one of uniform, diagonal, got 'grid'"),
        ({"counts": ()}, "counts must name at least one number"),
        ({"counts": (0, -1)}, "each of counts must be a whole number at least 0, got -1"),
        ({"overlap": 1.5}, "overlap must be a finite number at least 0 and at most 1, got 1.5"),
        ({"placement": "diagonal", "counts": (0, 3)}, "places at most 2 objects"),
        ({"placement": "diagonal", "canvas": 48}, "more than twice their size"),
    ],
)
def test_a_layout_that_cannot_be_is_refused(choices, message):
    with pytest.raises(ValueError, match=message):
        Layout(**choices)


def test_more_objects_than_fit_are_refused():
    with pytest.raises(ValueError, match=r"5 objects of 24 pixels found no place on a canvas of 30 .* enlarge canvas"):
        draw_scenes(DIGITS, 2, Layout(canvas=30, counts=(5,)))


@pytest.mark.parametrize("value", [-0.1, 1.1, float("nan")])
def test_images_outside_the_grey_range_are_refused(value):
    images = DIGITS.images[:3].clone()
    images[1, 0, 0, 0] = value
    with pytest.raises(ValueError, match=r"images must hold grey values in \[0, 1\]"):
        draw_scenes(Digits(images, DIGITS.labels[:3], "test", "", "test"), 50, Layout(counts=(2,)))


def test_objects_without_ink_and_scenes_without_number_are_refused():
    with pytest.raises(ValueError, match="2 of the images hold no ink"):
        make_stamps(Digits(torch.zeros(2, 1, 28, 28), torch.zeros(2, dtype=torch.int64), "test", "", "test"), 24)
    with pytest.raises(ValueError, match="n must be a whole number at least 1, got 0"):
        draw_scenes(DIGITS, 0)
    with pytest.raises(ValueError, match="n must be a whole number at least 1, got 0"):
        make_sprites(0)


class Unchecked(SimpleNamespace):
    """Digits by their parts, of which nothing has been asked yet."""

    def __len__(self) -> int:
        return len(self.labels)

    def take(self, index) -> Unchecked:
        return Unchecked(**{**vars(self), "images": self.images[index], "labels": self.labels[index]})


def kept(**others) -> Unchecked:
    """Three digits, some of their parts exchanged."""
    return Unchecked(**{**vars(DIGITS.take(slice(0, 3))), **others})


@pytest.mark.parametrize("kind", [torch.bool, torch.uint8, torch.int32, torch.float16])
def test_black_and_white_digits_of_any_type_make_the_scenes_of_their_floats(kind):
    images = DIGITS.images[:3].round()
    scenes = draw_scenes(kept(images=images.to(kind)), 8, seed=2)
    expected = draw_scenes(kept(images=images), 8, seed=2)
    torch.testing.assert_close(scenes.images.float(), expected.images)
    assert torch.equal(scenes.boxes, expected.boxes) and scenes.images.dtype == torch.float32


@pytest.mark.parametrize("kind", [torch.uint8, torch.int8, torch.int32])
def test_absent_objects_are_minus_one_whatever_type_the_labels_have(kind):
    scenes = draw_scenes(kept(labels=DIGITS.labels[:3].to(kind)), 30)
    expected = draw_scenes(kept(), 30)
    assert scenes.objects.dtype == torch.int64 and torch.equal(scenes.objects, expected.objects)
    assert (scenes.objects == -1).any()


def test_numbers_may_be_numpys():
    layout = Layout(canvas=np.int64(40), size=np.int32(20), counts=np.array([0, 2]), overlap=np.float32(0.5))
    assert layout == Layout(canvas=40, size=20, counts=(0, 2), overlap=0.5)
    assert str(layout) == str(Layout(canvas=40, size=20, counts=(0, 2), overlap=0.5))  # it decides the scenes' hash
    json.dumps(asdict(layout))
    scenes, expected = draw_scenes(DIGITS, np.int64(5), layout, np.uint8(3)), draw_scenes(DIGITS, 5, layout, 3)
    assert torch.equal(scenes.images, expected.images) and scenes.sha256 == expected.sha256
    assert torch.equal(make_sprites(np.int64(4), np.int64(1)).images, make_sprites(4, 1).images)
    strokes = [[(5, 5), (5, 30)]]
    assert torch.equal(draw_strokes([np.array(strokes[0])], np.int64(40), np.float64(2.5)), draw_strokes(strokes, 40))


def test_scenes_are_the_same_whatever_torchs_default_precision_is(double_by_default):
    torch.set_default_dtype(torch.float32)
    expected = [draw_scenes(DIGITS, 5), draw_scenes(DIGITS, 5, DIAGONAL), make_sprites(5)]
    drawn = draw_strokes([[(5, 5), (5, 30.5)]])
    torch.set_default_dtype(torch.float64)
    found = [draw_scenes(DIGITS, 5), draw_scenes(DIGITS, 5, DIAGONAL), make_sprites(5)]
    assert all(torch.equal(a.images, b.images) for a, b in zip(found, expected, strict=True))
    assert torch.equal(draw_strokes([[(5, 5), (5, 30.5)]]), drawn)


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda: Layout(canvas=(50, 40)), r"got \(50, 40\): pictures are square here"),
        (lambda: Layout(size=[24, 20]), "one number stands for height and width"),
        (lambda: Layout(canvas=50.0), "canvas must be a whole number at least 1, got 50.0"),
        (lambda: Layout(canvas=True), "canvas must be a whole number at least 1, got True"),
        (lambda: Layout(counts=2), "counts must be a tuple of any number of values, got 2"),
        (lambda: Layout(counts=(1.5,)), "each of counts must be a whole number"),
        (lambda: Layout(overlap=float("nan")), "overlap must be a finite number"),
        (lambda: draw_scenes(None, 5), "digits must have images and labels and .*, got None: give Digits"),
        (lambda: draw_scenes([DIGITS.images, DIGITS.labels], 5), "got a list: give Digits"),
        (lambda: draw_scenes(DataLoader(TensorDataset(DIGITS.images)), 5), "got a DataLoader: give Digits"),
        (lambda: fresh_scenes(DIGITS.images, 5), "got a Tensor: give Digits"),
        (lambda: draw_scenes(DIGITS, 5.0), "n must be a whole number at least 1, got 5.0"),
        (lambda: draw_scenes(DIGITS, 5, seed=None), "seed must be a whole number at least 0, got None"),
        (lambda: draw_scenes(DIGITS, 5, 50), "layout must be a Layout, got an int"),
        (lambda: draw_scenes(kept(images=torch.ones(3, 1, 20, 30)), 5), "objects are square grey pictures"),
        (lambda: draw_scenes(kept(images=torch.ones(3, 28, 28)), 5), r"shape \[n, 1, 28, 28\]"),
        (lambda: draw_scenes(kept(images=DIGITS.images[:3] * 255), 50), "grey values in .* divide bytes by 255"),
        (lambda: draw_scenes(kept(images=(DIGITS.images[:3] * 255).byte()), 50), "got 0 to 255"),
        (lambda: draw_scenes(kept(labels=DIGITS.labels[:3].float()), 5), "labels must be whole numbers"),
        (lambda: draw_scenes(kept(labels=-DIGITS.labels[:3] - 1), 5), "labels of objects must be at least 0"),
        (lambda: list(fresh_scenes(DIGITS, 5).batches(2, 3)), "generator must be a torch.Generator or None, got an int"),
        (lambda: list(fresh_scenes(DIGITS, 5).batches(0, torch.Generator())), "batch_size must be a whole number"),
        (lambda: ink_boxes(torch.full((1, 4, 4), float("nan"))), "images must be finite"),
        (lambda: ink_boxes(torch.ones(1, 1, 4, 4)), r"images must have shape \[m, height, width\]"),
        (lambda: make_stamps(DIGITS, (24, 20)), "one number stands for height and width"),
        (lambda: draw_strokes(None), "strokes must be a list of strokes"),
        (lambda: draw_strokes([[(1, 2), (3, float("nan"))]]), "a stroke must be finite"),
        (lambda: draw_strokes([[(1, 2, 3), (4, 5, 6)]]), r"a stroke must have shape \[points, 2\]"),
        (lambda: draw_strokes([], canvas=(50, 40)), "one number stands for height and width"),
        (lambda: draw_strokes([], width=0), "width must be a finite number above 0, got 0"),
    ],
)  # fmt: skip
def test_what_is_no_layout_no_digits_no_number_is_refused(plain, call, message):
    with pytest.raises(ValueError, match=message):
        call()


SOME = draw_scenes(DIGITS, 6)


@pytest.mark.parametrize(
    ("parts", "message"),
    [
        ({"labels": SOME.labels[:4]}, "as many images as labels, got 6 images, 4 labels"),
        ({"labels": SOME.labels.unsqueeze(1)}, r"labels must be \[6\], one for each example, got \[6, 1\]"),
        ({"labels": SOME.labels.float()}, "labels must be whole numbers"),
        ({"objects": SOME.objects[:3]}, "got 6 images, 3 objects, 6 boxes"),
        ({"boxes": SOME.boxes[:, :1]}, r"boxes must have shape \[6, 2, 4\]"),
        ({"images": SOME.images[:, 0]}, r"images must have shape \[n, 1, height, width\]"),
        ({"images": SOME.images[..., :40]}, "they are as large as their layout's canvas"),
        ({"images": (SOME.images * 255).byte()}, "divide bytes by 255"),
        ({"images": None}, "images must hold numbers, got None"),
        ({"layout": 50}, "layout must be a Layout, got an int"),
    ],
)
def test_scenes_whose_parts_do_not_agree_are_refused(plain, parts, message):
    with pytest.raises(ValueError, match=message):
        replace(SOME, **parts)


def test_scenes_are_made_of_lists_and_arrays_too(plain):
    parts = {name: getattr(SOME, name) for name in ("images", "labels", "objects", "boxes")}
    made = replace(SOME, **{name: part.numpy() for name, part in parts.items()})
    assert all(torch.equal(getattr(made, name), part) for name, part in parts.items())
    assert replace(SOME, labels=SOME.labels.to(torch.uint8)).labels.dtype == torch.int64


# Speed


def tutorials_loop(n: int, draw: np.random.RandomState, canvas: int = 50, size: int = 24) -> torch.Tensor:
    """The tutorial's way: one digit at a time through PIL, and places left out by set differences."""
    from torchvision.transforms import Compose, Resize, ToTensor

    resize = Compose([Resize(size=(size, size)), ToTensor()])
    pixels = (DIGITS.images * 255).byte().squeeze(1).numpy()
    half, places, images = size // 2, np.arange(size // 2, canvas - size // 2), torch.zeros(n, 1, canvas, canvas)
    for i in range(n):
        left_out = [np.empty(0), np.empty(0)]
        for _ in range(draw.randint(3)):
            digit = resize(Image.fromarray(pixels[draw.randint(len(pixels))]))
            x, y = (draw.choice(np.setdiff1d(places, out)) for out in left_out)
            images[i, :, y - half : y + half, x - half : x + half] += digit
            left_out = [np.arange(x - half, x + half), np.arange(y - half, y + half)]
    return images


@pytest.mark.slow
def test_scenes_are_drawn_many_times_faster_than_one_by_one():
    """An epoch of fresh scenes, under the tutorial's rule and the uniform one, against the tutorial's loop."""
    n, generator, draw = 2000, torch.Generator().manual_seed(0), np.random.RandomState(0)

    def seconds(function) -> float:
        start = time.process_time()
        function()
        return time.process_time() - start

    loop = min(seconds(lambda: tutorials_loop(n, draw)) for _ in range(3))
    for layout in (DIAGONAL, Layout()):
        scenes = fresh_scenes(DIGITS, n, layout)
        assert len(scenes.stamps.images) == len(DIGITS)  # resized once for all epochs, before the clock starts
        ours = min(seconds(lambda s=scenes: list(s.batches(64, generator))) for _ in range(5))
        print(
            f"{n} {layout.placement} scenes: {1e3 * ours:.0f} ms, the loop {1e3 * loop:.0f} ms: {loop / ours:.1f} times"
        )
        assert loop / ours > 8  # more than twice that on a quiet machine


# Drawn by hand


def test_strokes_are_as_long_and_as_wide_as_they_were_drawn():
    scene = draw_strokes([[(10, 20.5), (40, 20.5)]], width=2.0)
    assert scene.shape == (1, 1, 50, 50)
    rows, columns = scene[0, 0].sum(1), scene[0, 0].sum(0)
    assert (rows.nonzero().flatten() == torch.tensor([19, 20, 21])).all() and rows[20] == rows.max()
    torch.testing.assert_close(columns[12:38], torch.full((26,), 2.0))  # the width, in pixels' worth of ink
    assert ((scene >= 0) & (scene <= 1)).all()


def test_strokes_go_through_their_points_and_do_not_add_up():
    bent = draw_strokes([[(5, 5), (5, 30), (30, 30)]], canvas=40)[0, 0]
    for x, y in ((5, 5), (5, 20), (5, 30), (20, 30)):
        assert bent[y, x] > 0.9
    assert bent[10, 20] == 0
    torch.testing.assert_close(draw_strokes([[(5, 5), (5, 30)]] * 2), draw_strokes([[(5, 5), (5, 30)]]))
    assert draw_strokes([[(9, 9), (9, 9)]]).sum() > 3  # a dot
    assert (draw_strokes([]) == 0).all()
    with pytest.raises(ValueError, match="at least two points"):
        draw_strokes([[(1, 2)]])
