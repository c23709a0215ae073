"""What the unit tests share: draws under a seed, batches, and checks that every model has to pass."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Iterator, Mapping
from typing import Any

import torch
from torch import Tensor, nn

from latentbook.data.digits import Batch
from latentbook.training.loop import TrainingRun

MYST_HEAD = """\
---
jupytext:
  formats: ipynb,md:myst
  text_representation: {extension: .md, format_name: myst}
kernelspec: {display_name: Python 3, language: python, name: python3}
---
"""  # of a notebook's source


def seeded(seed: int = 0) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


def normal(*shape: int, seed: int = 0, dtype: torch.dtype = torch.float32) -> Tensor:
    return torch.randn(*shape, generator=seeded(seed), dtype=dtype)


def uniform(*shape: int, seed: int = 0) -> Tensor:
    return torch.rand(*shape, generator=seeded(seed))


def batch_of(n: int, seed: int = 0, binary: bool = False) -> Batch:
    """n images of noise, grey or black and white, with labels of ten classes."""
    images = uniform(n, 1, 28, 28, seed=seed)
    return Batch(images.round() if binary else images, torch.randint(10, (n,), generator=seeded(seed + 1)))


def batch_sizes(monkeypatch, steps: Iterator[None], count: int) -> list[int]:
    """How many examples each of the first so many training steps of a bench takes."""
    sizes, step = [], TrainingRun.step
    monkeypatch.setattr(TrainingRun, "step", lambda self, batch: sizes.append(len(batch.labels)) or step(self, batch))
    for _ in range(count):
        next(steps)
    return sizes


def linears(module: nn.Module) -> list[tuple[int, int]]:
    """The sizes of a module's linear layers, in order."""
    return [(layer.in_features, layer.out_features) for layer in module.modules() if isinstance(layer, nn.Linear)]


def choices(config: Any) -> tuple:
    """What of a configuration decides which code runs: its words, switches and tuples, and which of its numbers are 0."""
    values = [getattr(config, field.name) for field in dataclasses.fields(config)]
    return tuple(
        choices(value)
        if dataclasses.is_dataclass(value)
        else value != 0
        if isinstance(value, int | float) and not isinstance(value, bool)
        else value
        for value in values
    )


def one_of_each_kind(variants: Mapping[str, Any]) -> list[str]:
    """The first variant of each choice of code: others of its kind differ in sizes, rates and weights alone."""
    first: dict[tuple, str] = {}
    for name, config in variants.items():
        first.setdefault(choices(config), name)
    return list(first.values())


def assert_every_parameter_learns(model: nn.Module, terms: Mapping[str, Tensor]) -> None:
    """The sum of the loss's terms has a gradient by every parameter."""
    model.zero_grad()
    sum(term.sum() for term in terms.values()).backward()
    for name, parameter in model.named_parameters():
        assert parameter.grad is not None and parameter.grad.isfinite().all() and parameter.grad.any(), name


def assert_gradients_agree(model: nn.Module, terms: Callable[[], Mapping[str, Tensor]]) -> None:
    """With finite differences, along a random direction for each parameter. Wants double precision and noise that is given."""

    def objective(*_: Tensor) -> Tensor:
        return sum(term.sum() for term in terms().values())

    torch.autograd.gradcheck(objective, tuple(model.parameters()), fast_mode=True)


def http(content: bytes, length: int | None = None) -> bytes:
    """A server's answer, which may promise more than it holds."""
    return b"HTTP/1.1 200 OK\r\nConnection: close\r\nContent-Length: %d\r\n\r\n" % (length or len(content)) + content
