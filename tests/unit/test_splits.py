"""Training digits in two parts: stratified, seeded, disjoint, never of the test split."""

from __future__ import annotations

from dataclasses import replace

import pytest
import torch
from unit_harness import uniform

from latentbook.data import Digits, draw_scenes, load_digits, make_sprites, split_sprites, train_validation_split


@pytest.fixture(scope="module")
def offline():
    return load_digits("train", source="offline")


def rows(digits):
    return {image.numpy().tobytes() for image in digits.images}


def toy(n=60, classes=3, split="train"):
    """n different pictures of classes in turn."""
    return Digits(uniform(n, 1, 4, 4), torch.arange(n) % classes, "toy", "0" * 64, split)


def test_the_embedded_digits_keep_one_in_twelve(offline):
    train, validation = train_validation_split(offline)
    assert len(validation) == len(offline) // 12 == 119 and len(train) + len(validation) == len(offline)
    assert (train.split, validation.split) == ("train", "validation")
    assert train.source == validation.source == "offline"


def test_no_digit_is_in_both_parts_and_none_is_lost():
    digits = toy()
    train, validation = train_validation_split(digits, 12)
    assert len(validation) == 12 and not rows(train) & rows(validation)
    assert rows(train) | rows(validation) == rows(digits)
    for part in (train, validation):  # each picture kept its label, and the order is that of the digits
        where = [int((digits.images == image).flatten(1).all(1).nonzero()) for image in part.images]
        assert where == sorted(where) and torch.equal(digits.labels[where], part.labels)


def test_either_part_has_every_class_in_its_share(offline):
    train, validation = train_validation_split(offline, 300, seed=3)
    share = offline.labels.bincount() * 300 / len(offline)
    assert (validation.labels.bincount() - share).abs().max() <= 1
    assert (train.labels.bincount() + validation.labels.bincount()).equal(offline.labels.bincount())


def test_the_seed_decides_and_the_hash_tells_which():
    digits = toy()
    (train, held), (same_train, same), (_, other) = (train_validation_split(digits, 12, seed) for seed in (0, 0, 1))
    assert torch.equal(held.images, same.images) and held.sha256 == same.sha256 and train.sha256 == same_train.sha256
    assert rows(held) != rows(other) and len({train.sha256, held.sha256, other.sha256, digits.sha256}) == 4


def test_the_split_behind_the_recorded_choices_is_still_the_same(offline):
    """Another version of scikit-learn that drew others would make the records incomparable: their data's hash would differ."""
    _, validation = train_validation_split(offline)
    assert validation.sha256.startswith("3a5eb8d80d3d")
    assert validation.labels[:12].tolist() == [1, 5, 4, 1, 6, 9, 3, 8, 9, 7, 9, 0]


def test_scenes_of_validation_digits_are_made_of_no_others():
    train, validation = train_validation_split(toy(split="train"), 12)
    shown = {part.split: draw_scenes(part, 40, seed=1) for part in (train, validation)}
    assert shown["validation"].split == "validation" and shown["validation"].sha256 != shown["train"].sha256
    assert set(shown["validation"].objects.unique().tolist()) <= {-1, *validation.labels.tolist()}


def test_sprites_of_validation_are_others_than_those_of_training_and_test():
    sprites = [split_sprites(20, split) for split in ("train", "validation", "test")]
    assert [part.split for part in sprites] == ["train", "validation", "test"]
    assert len(rows(sprites[0]) | rows(sprites[1]) | rows(sprites[2])) == 60
    for part, seed in ((sprites[0], 0), (sprites[2], 1)):  # as chapter 05's experiment draws these two
        assert torch.equal(part.images, make_sprites(20, seed=seed).images)
    with pytest.raises(ValueError, match="split must be one of train, test, validation, got 'all'"):
        split_sprites(20, "all")


def test_what_cannot_be_split_is_refused_in_words(plain):
    digits = toy()
    for split in ("test", "validation"):
        with pytest.raises(ValueError, match=f"from training digits, got the {split} split"):
            train_validation_split(replace(digits, split=split), 12)
    for n in (0, 2, 58, 60, 61):
        with pytest.raises(ValueError, match=rf"at least one digit of each of 3 classes.* got n={n}"):
            train_validation_split(digits, n)
    with pytest.raises(ValueError, match="got n=2"):  # one in twelve of thirty is fewer than the classes
        train_validation_split(digits.take(slice(0, 30)))
    with pytest.raises(ValueError, match="the rarest of which has 1"):
        train_validation_split(replace(digits, labels=torch.tensor([9] + [0, 1] * 29 + [0])), 12)
    with pytest.raises(ValueError, match="got Scenes: split the digits first"):
        train_validation_split(draw_scenes(make_sprites(9), 40), 12)
    with pytest.raises(ValueError, match="digits must be"):
        train_validation_split([1, 2, 3])
    with pytest.raises(ValueError, match="lack a class: take another n or seed"):
        train_validation_split(replace(digits, labels=torch.tensor([2, 2] + [0, 1] * 29)), 3, seed=0)
