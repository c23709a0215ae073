"""What the experiments share: training as a configuration says, and what one run hands back."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, fields, replace
from typing import Any

from torch import nn

from latentbook.data.digits import Digits
from latentbook.schedules import Schedule, constant, one_cycle
from latentbook.training.loop import History, Hook, fit

SCHEDULES = ("constant", "one-cycle")  # of a learning rate


def but(config: Any, **changes: Any) -> Any:
    """A configuration with other choices; those of its `model` are told apart by name."""
    names = {entry.name for entry in fields(config.model)}
    own = {name: changes.pop(name) for name in tuple(changes) if name in names}
    return replace(config, model=replace(config.model, **own), **changes)


def steps_of(config: Any, digits: Digits) -> int:
    """How many steps the configured epochs take over these digits; an epoch's last batch may be smaller."""
    return config.epochs * -(-len(digits) // config.batch_size)


def learning_rate(config: Any, steps: int) -> Schedule:
    """The configured learning rate over so many steps; `warmup` of one cycle is a tenth where it is no choice.

    Raises ValueError for a schedule that does not exist.
    """
    if config.schedule == "constant":
        return constant(config.learning_rate)
    if config.schedule == "one-cycle":
        return one_cycle(steps, getattr(config, "warmup", 0.1), peak=config.learning_rate)
    raise ValueError(f"schedule must be one of constant, one-cycle, got {config.schedule!r}")


def check_config(module: Any, config: Any) -> None:
    """Raises ValueError for a configuration that an experiment cannot train: its model and its learning rate are made once.

    module: the experiment. Both are cheap; what only the data or the training can tell is told there.
    """
    try:
        if hasattr(module, "build") and hasattr(config, "model"):
            module.build(config)
        if hasattr(config, "schedule"):
            learning_rate(config, max(1, config.epochs))
    except Exception as error:  # a layer of a size that torch cannot make is a RuntimeError
        raise ValueError(str(error)) from error


def train_as(
    config: Any,
    model: nn.Module,
    digits: Digits,
    seed: int,
    device: str = "cpu",
    hooks: Sequence[Hook] = (),
    progress: bool = True,
    **options: Any,
) -> tuple[nn.Module, History]:
    """Train a model with the configured epochs, batch size and learning rate; returns it and its history.

    options: the others of `fit`, above all the weights of the loss.
    """
    history = fit(
        model,
        digits,
        epochs=config.epochs,
        batch_size=config.batch_size,
        learning_rate=learning_rate(config, steps_of(config, digits)),
        seed=seed,
        device=device,
        on_epoch_end=hooks,
        progress=progress,
        **options,
    )
    return model, history


@dataclass
class Run:
    """One seed of one variant: its metrics by name, why it counts as failed (None: it does not), the seconds of its training."""

    metrics: dict[str, float]
    failed: str | None
    seconds: float
    model: nn.Module | None = None


def finished(metrics: dict[str, float], failed: str | None, history: History, model: nn.Module) -> Run:
    """The run of a training that ended by itself. An interrupted one is no result: it raises KeyboardInterrupt."""
    if history.interrupted:
        raise KeyboardInterrupt
    return Run(metrics, failed, history.seconds, model)
