"""Tensors and trained weights in safetensors files, with plain JSON in the metadata: no pickle, never half a file."""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping
from dataclasses import asdict, is_dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from safetensors import safe_open
from safetensors.torch import save
from torch import Tensor, nn

from latentbook import files

STEP = "/step"  # ends the name of what 8-bit weights are counted in; no parameter has a slash in its name


def unwrapped(model: nn.Module) -> nn.Module:
    """The model that torch.compile, DistributedDataParallel or DataParallel wraps; any other model itself."""
    while True:
        if isinstance(model, nn.parallel.DistributedDataParallel | nn.DataParallel):
            model = model.module
        elif isinstance(getattr(model, "_orig_mod", None), nn.Module):  # torch.compile
            model = model._orig_mod
        else:
            return model


def plain_name(name: str) -> str:
    """The name that a parameter has where no part of the model is compiled."""
    return name.replace("_orig_mod.", "")


def weights_of(model: nn.Module) -> dict[str, Tensor]:
    """A model's parameters and buffers by the names that they have without a wrapper."""
    return {plain_name(name): tensor for name, tensor in unwrapped(model).state_dict().items()}


def put_weights(model: nn.Module, weights: Mapping[str, Tensor]) -> None:
    """Load what `weights_of` gave into a model, wrapped or not. Raises RuntimeError where names or shapes do not fit."""
    inner = unwrapped(model)
    names = {plain_name(name): name for name in inner.state_dict()}
    inner.load_state_dict({names.get(name, name): tensor for name, tensor in weights.items()})


def config_of(model: nn.Module) -> dict[str, Any]:
    """A model's configuration as a plain dict (empty where it has none)."""
    config = getattr(unwrapped(model), "config", None)
    return asdict(config) if is_dataclass(config) else {}


def save_weights(path: str | Path, model: nn.Module, bits: int = 32, **notes: Any) -> None:
    """Write a model's weights with its configuration (and notes) in the metadata: safetensors, whole or not at all.

    bits: 32, as they are; 16, rounded to three decimal places of each weight's own size; 8, where matrices (and kernels)
    are rounded to 255 steps between the largest weights of a row, and vectors stay as they are. A model reads all alike.
    Of a model wrapped by torch.compile or DistributedDataParallel, the model inside is written.
    Raises ValueError for other bits, a note called "config", and notes that JSON cannot hold.
    """
    if "config" in notes:
        raise ValueError("a note must not be called config, which is the model's own configuration: rename it")
    metadata = {"model": type(unwrapped(model)).__name__, "config": config_of(model), **notes}
    save_tensors(path, rounded(weights_of(model), bits), metadata)


def rounded(tensors: Mapping[str, Tensor], bits: int) -> dict[str, Tensor]:
    """Tensors as `save_weights` stores them: of 8 bits are the steps, with their size beside them, one a row."""
    if bits not in (32, 16, 8):
        raise ValueError(f"bits must be 32, 16 or 8, got {bits}")
    stored = {}
    for name, tensor in tensors.items():
        if bits == 32 or not tensor.is_floating_point() or (bits == 8 and tensor.ndim < 2):
            stored[name] = tensor
        elif bits == 16:
            stored[name] = tensor.half()
        else:
            step = tensor.abs().flatten(1).amax(1).clamp(min=1e-30) / 127
            step = step.view(-1, *[1] * (tensor.ndim - 1))
            stored |= {name: (tensor / step).round().to(torch.int8), name + STEP: step}
    return stored


def unrounded(stored: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """The tensors again, of 8 bits as steps times their size."""
    return {
        name: tensor * stored[name + STEP] if name + STEP in stored else tensor
        for name, tensor in stored.items()
        if not name.endswith(STEP)
    }


def load_weights(path: str | Path, build: Callable[[dict[str, Any]], nn.Module]) -> nn.Module:
    """A model built from the configuration in a weights file, with the weights loaded, in evaluation mode.

    `build` may return it wrapped (torch.compile). Weights that were trained on one kind of device load on any other.
    Raises FileNotFoundError or ValueError where the file is missing, damaged or of another model.
    """
    tensors, metadata = load_tensors(path)
    if not {"model", "config"} <= set(metadata):
        raise ValueError(f"{path} holds no weights that save_weights wrote")
    model = build(metadata["config"])
    kind = type(unwrapped(model)).__name__
    if metadata["model"] != kind:
        raise ValueError(f"{path} holds weights of a {metadata['model']}, not of a {kind}")
    try:
        put_weights(model, unrounded(tensors))
    except RuntimeError as error:
        raise ValueError(f"the weights in {path} do not fit this {kind} ({error})") from error
    return model.eval()


def save_tensors(path: str | Path, tensors: Mapping[str, Tensor], metadata: Mapping[str, Any]) -> None:
    """Write tensors and JSON metadata as one safetensors file, whole or not at all.

    Tensors that share memory, such as tied weights, are written once for each name.
    Raises ValueError for metadata that JSON cannot hold (numpy's numbers and tensors become plain ones), OSError where
    the file cannot be written.
    """
    texts = {name: json.dumps(plain(name, value)) for name, value in metadata.items()}
    apart: dict[str, Tensor] = {}
    seen: set[int] = set()
    for name, tensor in tensors.items():
        tensor = tensor.detach().cpu().contiguous()
        memory = tensor.untyped_storage().data_ptr()
        apart[name] = tensor.clone() if memory in seen else tensor
        seen.add(memory)
    files.write_whole(path, save(apart, texts))


def load_tensors(path: str | Path) -> tuple[dict[str, Tensor], dict[str, Any]]:
    """Tensors and metadata of a file that `save_tensors` wrote.

    Raises FileNotFoundError or PermissionError where it cannot be read, ValueError for a damaged one.
    """
    if not Path(path).exists():
        raise FileNotFoundError(f"no weights at {path}")
    try:
        with safe_open(path, framework="pt") as file:
            metadata = {name: json.loads(value) for name, value in (file.metadata() or {}).items()}
            return {name: file.get_tensor(name) for name in file.keys()}, metadata  # noqa: SIM118 (not a dict)
    except PermissionError:
        raise
    except Exception as error:
        raise ValueError(f"{path} is damaged or not one of this library's files ({error})") from error


def plain(name: str, value: Any) -> Any:
    """A value as JSON has it: numpy's numbers, arrays and tensors as Python's, tuples as lists, all keys as text.

    Raises ValueError for anything else, such as a set or an object.
    """
    if isinstance(value, Tensor | np.ndarray | np.generic):
        value = value.tolist()
    if is_dataclass(value) and not isinstance(value, type):
        value = asdict(value)
    if isinstance(value, Mapping):
        return {str(key): plain(f"{name}.{key}", item) for key, item in value.items()}
    if isinstance(value, list | tuple):
        return [plain(name, item) for item in value]
    if value is None or isinstance(value, bool | int | float | str):
        return value
    raise ValueError(
        f"{name} must be numbers, text, lists or dicts to be stored, got a {type(value).__name__}: convert it first"
    )
