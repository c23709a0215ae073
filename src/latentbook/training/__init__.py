"""One loop for every model, and what a run leaves: checkpoints, weights files, its identity."""

from latentbook.training.loop import (
    History,
    Hook,
    TrainingRun,
    check_device,
    fit,
    initialise,
    live_curves,
    mean_terms,
    validation,
)
from latentbook.training.tensor_files import load_tensors, load_weights, save_tensors, save_weights

__all__ = [
    "History",
    "Hook",
    "TrainingRun",
    "check_device",
    "fit",
    "initialise",
    "live_curves",
    "load_tensors",
    "load_weights",
    "mean_terms",
    "save_tensors",
    "save_weights",
    "validation",
]
