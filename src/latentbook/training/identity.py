"""What decides the result of a training run, in plain numbers: two runs that agree in it may share a checkpoint."""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Mapping
from dataclasses import fields
from typing import Any

import torch
from torch import Tensor, nn

from latentbook.data.digits import Digits
from latentbook.schedules import Schedule
from latentbook.training.tensor_files import config_of, plain, plain_name, unwrapped

PROBES = (0, *(factor * 10**power for power in range(7) for factor in (1, 3)))  # steps at which schedules are read
LONG = 16  # tensors of more numbers are told apart by their hash


def settings_of(model: nn.Module) -> dict[str, Any]:
    """What a model brings to a run besides its weights: class, configuration, precision, and what does not learn."""
    inner = unwrapped(model)
    parameters = {plain_name(name): parameter for name, parameter in inner.named_parameters()}
    return {
        "model": type(inner).__name__,
        **{f"config.{name}": plain(f"config.{name}", value) for name, value in config_of(model).items()},
        "dtype": sorted({str(parameter.dtype) for parameter in parameters.values()}),
        "frozen": [name for name, parameter in parameters.items() if not parameter.requires_grad],
    }


def schedules_at_probes(
    steps: int, rate: Schedule, weights: Mapping[str, Schedule], arguments: Mapping[str, Callable[[int], Any]]
) -> dict[str, dict[str, Any]]:
    """Every schedule by its values at a few of a run's `steps`: {step: {name: value}}.

    Raises ValueError for a value that cannot be compared (see tensor_files.plain).
    """
    return {
        str(step): {
            "learning_rate": value_of("learning_rate", rate(step)),
            **{f"weights.{name}": value_of(f"weights.{name}", value(step)) for name, value in weights.items()},
            **{f"arguments.{name}": value_of(f"arguments.{name}", value(step)) for name, value in arguments.items()},
        }
        for step in PROBES
        if step < steps
    }


def value_of(name: str, value: Any) -> Any:
    """A value as JSON has it, a large tensor by its hash."""
    if isinstance(value, Tensor) and value.numel() > LONG:
        digest = hashlib.sha256()
        add(digest, name, value)
        return f"a tensor {list(value.shape)} of hash {digest.hexdigest()[:16]}"
    return plain(name, value)


def content_hash(digits: Digits) -> str:
    """A hash over the examples themselves, unlike `Digits.sha256`, which stays that of the whole after `take`."""
    digest = hashlib.sha256(type(digits).__name__.encode())
    for field in fields(digits):
        part = getattr(digits, field.name)
        if isinstance(part, Digits):
            part = content_hash(part)
        if field.name not in ("source", "sha256", "split"):  # where they come from, not what they are
            add(digest, field.name, part)
    return digest.hexdigest()[:16]


def add(digest: Any, name: str, part: Any) -> None:
    """Take one named part into a hash: a tensor by its bytes, anything else as it is written."""
    if not isinstance(part, Tensor):
        digest.update(f"{name} {part!r}".encode())
        return
    digest.update(f"{name} {part.dtype} {list(part.shape)}".encode())
    digest.update(part.detach().cpu().contiguous().reshape(-1).view(torch.uint8).numpy())


def differences(was: Mapping[str, Any], now: Mapping[str, Any]) -> list[str]:
    """What differs between two runs, {"settings": {...}, "steps": {step: {...}}} each, with both values, each name once.

    Schedules are compared at the steps that both runs have, so that a longer run may go on from a shorter one.
    """
    found = compared(was["settings"], now["settings"], "")
    for step in was["steps"]:
        if step in now["steps"]:
            for name, what in compared(was["steps"][step], now["steps"][step], f" at step {step}").items():
                found.setdefault(name, what)
    return list(found.values())


def compared(was: Mapping[str, Any], now: Mapping[str, Any], when: str) -> dict[str, str]:
    """{name: what was and is} of all that differs; a term that is not named has the weight 1."""
    found = {}
    for name in {**was, **now}:
        unnamed = 1.0 if name.startswith("weights.") else None
        if was.get(name, unnamed) != now.get(name, unnamed):
            before, after = (repr(each[name]) if name in each else "not given" for each in (was, now))
            found[name] = f"{name}{when} was {before}, is {after}"
    return found
