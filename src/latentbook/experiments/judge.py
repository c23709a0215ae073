"""The independent judge: trained once on MNIST, shipped, and never a part of any chapter's model."""

from __future__ import annotations

from pathlib import Path

from latentbook.data.digits import Digits
from latentbook.evaluation import WEIGHTS, Judge, agreement
from latentbook.files import check_writable
from latentbook.schedules import one_cycle
from latentbook.training.loop import fit, initialise, save_weights

EPOCHS = 12  # test accuracy moves by less than 0.1 % after that
LEARNING_RATE = 3e-3


def check_place(path: str | Path | None = None) -> Path:
    """Where the judge's weights are saved (None: where `load_judge` finds them). Raises OSError if they cannot be."""
    place = Path(str(WEIGHTS / "judge.safetensors")) if path is None else Path(path)
    check_writable(place, "the judge's weights")
    return place


def train_judge(
    train: Digits,
    test: Digits,
    *,
    epochs: int = EPOCHS,
    seed: int = 0,
    device: str = "cpu",
    path: str | Path | None = None,
) -> tuple[Judge, float]:
    """Train the judge, measure it on the test digits and save its weights (None: where `load_judge` finds them).

    Returns the judge and its test accuracy. Raises ValueError where it stays below 99 % on MNIST, and saves nothing then;
    OSError, before the training, where the weights cannot be saved.
    """
    place = check_place(path)
    judge = initialise(Judge, seed)
    rate = one_cycle(epochs * -(-len(train) // 128), peak=LEARNING_RATE)
    fit(judge, train, epochs=epochs, learning_rate=rate, seed=seed, device=device)
    accuracy = agreement(test.images.to(device), test.labels.to(device), judge)
    if train.source == "mnist" and accuracy < 0.99:
        raise ValueError(
            f"the judge reached {accuracy:.2%} on the test digits, it needs 99 %: train it for more epochs"
        )
    notes = {
        "accuracy": accuracy,
        "data": {"source": train.source, "hash": train.sha256},
        "epochs": epochs,
        "seed": seed,
    }
    save_weights(place, judge, **notes)
    return judge, accuracy
