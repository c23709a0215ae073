"""What one run of an experiment hands back."""

from __future__ import annotations

from dataclasses import dataclass

from torch import nn

from latentbook.training import History


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
