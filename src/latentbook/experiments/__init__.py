"""One file a chapter: hyper-parameters with their reasons, the run, its metrics."""

from __future__ import annotations

from collections.abc import Iterator, MutableMapping
from importlib import import_module
from types import ModuleType


class OnDemand(MutableMapping[str, ModuleType]):
    """Modules of this package by their experiments' names, imported when first asked for: what needs none starts at once."""

    def __init__(self, *names: str):
        self._modules: dict[str, ModuleType | None] = dict.fromkeys(names)

    def __getitem__(self, name: str) -> ModuleType:
        module = self._modules[name] or import_module(f"{__name__}.{name.replace('-', '_')}")
        self._modules[name] = module
        return module

    def __setitem__(self, name: str, module: ModuleType) -> None:
        self._modules[name] = module

    def __delitem__(self, name: str) -> None:
        del self._modules[name]

    def __iter__(self) -> Iterator[str]:
        return iter(self._modules)

    def __len__(self) -> int:
        return len(self._modules)


EXPERIMENTS = OnDemand("primer", "mix-and-match", "conditional-vae", "multi-level-vae", "spatial-transformer", "air")
