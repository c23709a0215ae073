"""Trained states that the book ships: where they stand, how they are made, how they are loaded."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from torch import nn

from latentbook import checks, evaluation
from latentbook.data.digits import Digits
from latentbook.experiments.run import finished
from latentbook.files import check_writable
from latentbook.training.loop import History, load_weights, save_weights


@dataclass(frozen=True)
class States:
    """The states of one experiment: seed 0 of each shipped variant, trained by `train` as its configuration says.

    build: a model from its own configuration as a dict. bits: of a stored weight (training.save_weights), fewer for the
    larger models: all the book's states have to fit one small package.
    """

    experiment: str
    shipped: Sequence[str]
    variants: Mapping[str, Any]
    train: Callable[..., tuple[nn.Module, History]]
    build: Callable[[dict[str, Any]], nn.Module]
    bits: int = 32

    def path(self, variant: str, directory: str | Path | None = None) -> Path:
        """Where the state of a variant stands (None: the shipped one)."""
        folder = evaluation.WEIGHTS if directory is None else directory
        return Path(str(folder), f"{self.experiment}-{variant}.safetensors")

    def save(
        self,
        variant: str,
        digits: Digits,
        device: str = "cpu",
        progress: bool = True,
        directory: str | Path | None = None,
    ) -> Path:
        """Train seed 0 of a variant and save its state, whole or not at all; returns the file.

        directory: None ships it. `python -m latentbook weights EXPERIMENT` does so for all that are shipped.
        Raises ValueError for an unknown variant, OSError, before the training, where the state cannot be saved.
        """
        checks.choice("variant", variant, self.variants)
        path = self.path(variant, directory)
        check_writable(path, f"the state of {variant!r}")
        model, history = self.train(self.variants[variant], digits, 0, device, progress=progress)
        finished({}, None, history, model)  # an interrupted training ships nothing
        data = {"source": digits.source, "hash": digits.sha256}
        save_weights(path, model, self.bits, variant=variant, seed=0, data=data)
        return path

    def load(self, variant: str) -> nn.Module:
        """The shipped model of a variant, in evaluation mode. Raises ValueError for one that is not shipped."""
        if variant not in self.shipped:
            shipped = ", ".join(self.shipped)
            raise ValueError(f"a trained state is shipped of {shipped}, not of {variant!r}: train it with `train`")
        return load_weights(self.path(variant), self.build)
