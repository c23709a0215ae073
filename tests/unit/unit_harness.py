"""What the unit tests share: draws under a seed, batches, and checks that every model has to pass."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path

import torch
from torch import Tensor, nn

import latentbook
from latentbook.data import Batch
from latentbook.training import TrainingRun


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


CHECKED = """
import builtins
import sys
from beartype import BeartypeConf, beartype
from jaxtyping import install_import_hook

sys.path.insert(0, {source!r})
builtins._check = beartype(conf=BeartypeConf(is_pep484_tower=True))  # an int where a float is meant, as PEP 484 says
install_import_hook("latentbook", "builtins._check")

import torch
torch.set_num_threads(1)
"""
REFUSED = """
for number, call in enumerate(wrong):
    try:
        call()
    except Exception as error:
        assert type(error).__name__ == "TypeCheckError", (number, error)
    else:
        raise AssertionError(f"wrong shape {number} was let through")
print("shapes hold")
"""


def assert_written_shapes_hold(calls: str, folder: Path) -> None:
    """Runs calls of the library in a Python of their own, where every signature is checked with the shapes it names.

    calls: code that passes, and defines `wrong`, a list of calls of which each must be refused.
    """
    code = CHECKED.format(source=str(Path(latentbook.__file__).parents[1])) + calls + REFUSED
    done = subprocess.run([sys.executable, "-c", code], cwd=folder, capture_output=True, text=True, timeout=300)
    assert done.returncode == 0 and done.stdout.strip() == "shapes hold", done.stderr


def http(content: bytes, length: int | None = None) -> bytes:
    """A server's answer, which may promise more than it holds."""
    return b"HTTP/1.1 200 OK\r\nConnection: close\r\nContent-Length: %d\r\n\r\n" % (length or len(content)) + content
