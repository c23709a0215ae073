"""Trained states that the book ships: where they stand, how they are made, how they are loaded."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

from torch import nn

from latentbook import evaluation
from latentbook.data import Digits
from latentbook.experiments.run import finished
from latentbook.training import load_weights, save_weights


def state_path(experiment: str, variant: str, directory: str | Path | None = None) -> Path:
    """Where the state of a variant stands (None: the shipped one)."""
    return Path(str(evaluation.WEIGHTS if directory is None else directory), f"{experiment}-{variant}.safetensors")


def save_state(
    path: Path, variant: str, train: Callable, config: Any, digits: Digits, device: str = "cpu", progress: bool = True
) -> Path:
    """Train seed 0 of a variant by `train(config, digits, 0, device, progress=...)` and save its state, whole or not at all."""
    model, history = train(config, digits, 0, device, progress=progress)
    finished({}, None, history, model)  # an interrupted training ships nothing
    save_weights(path, model, variant=variant, seed=0, data={"source": digits.source, "hash": digits.sha256})
    return path


def load_state(path: Path, variant: str, states: Sequence[str], build: Callable[[dict], nn.Module]) -> nn.Module:
    """The model of a shipped variant, in evaluation mode. Raises ValueError for one that is not shipped."""
    if variant not in states:
        raise ValueError(
            f"a trained state is shipped of {', '.join(states)}, not of {variant!r}: train it with `train`"
        )
    return load_weights(path, build)
