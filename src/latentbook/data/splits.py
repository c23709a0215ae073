"""The third split: training digits that are kept for choosing, so that the test split is read once, by what is reported."""

from __future__ import annotations

import hashlib
from dataclasses import replace

import torch

from latentbook import checks
from latentbook.data.digits import Digits
from latentbook.data.scenes import make_sprites

SHARE = 12  # one training digit in so many is kept: 5,000 of MNIST's 60,000
SPRITE_SEEDS = {"train": 0, "test": 1, "validation": 2}  # of the shapes that stand in for the digits of a split


def train_validation_split(digits: Digits, n: int | None = None, seed: int = 0) -> tuple[Digits, Digits]:
    """Training digits in two parts that share none: what is left to train on, and n for validation, stratified by class.

    Hyper-parameters are chosen, and trainings watched, on the second part; the test split is for `evaluate` alone. Scenes
    are split by what they are made of: `draw_scenes` of either part. n: None keeps one digit in twelve, 5,000 of MNIST's
    60,000. The same seed gives the same parts on every device, both in the order of the digits; each has a hash of its own,
    made of the digits' and of which were taken. The split is scikit-learn's `train_test_split`.
    Raises ValueError for the test split or a part that has been split already, and for an n that does not leave both
    parts one digit of every class.
    """
    from sklearn.model_selection import train_test_split

    checks.kind("digits", digits, Digits, "give Digits, as load_digits does")
    if digits.split in ("test", "validation"):
        raise ValueError(f"validation digits are taken from training digits, got the {digits.split} split: load train")
    if type(digits) is not Digits:
        raise ValueError(
            f"scenes are split by what they are made of, got {type(digits).__name__}: split the digits first"
        )
    labels, seed = digits.labels.cpu(), checks.count("seed", seed, 0, 2**32 - 1)
    if n is None:
        n = len(digits) // SHARE
    _, counts = torch.unique(labels, return_counts=True)
    n, classes = checks.count("n", n, 0), len(counts)
    if counts.min() < 2 or not classes <= n <= len(digits) - classes:
        raise ValueError(
            f"n must leave either part at least one digit of each of {classes} classes, the rarest of which has "
            f"{int(counts.min())} of {len(digits)} digits: got n={n}"
        )
    kept, held = train_test_split(range(len(digits)), test_size=n, stratify=labels.numpy(), random_state=seed)
    return _part(digits, kept, digits.split), _part(digits, held, "validation")


def _part(digits: Digits, index: list[int], split: str) -> Digits:
    """Some of the digits in their own order, with a hash that says which. Raises ValueError where a class is missing."""
    order = torch.tensor(index).sort().values
    part = digits.take(order.to(digits.labels.device))
    if len(part.labels.unique()) < len(digits.labels.unique()):
        raise ValueError(f"{len(part)} digits of the {split} part lack a class: take another n or seed")
    sha256 = hashlib.sha256(f"{digits.sha256} {split}".encode() + order.numpy().tobytes()).hexdigest()
    return replace(part, sha256=sha256, split=split)


def split_sprites(n: int, split: str = "train") -> Digits:
    """n shapes to make scenes of, as `make_sprites` draws them: others for "train", "validation" and "test".

    Raises ValueError for fewer than one, or another split.
    """
    return make_sprites(n, seed=SPRITE_SEEDS[checks.choice("split", split, SPRITE_SEEDS)], split=split)
