"""Trained models as one small file each, which the page's engine (engine.js) runs.

A file holds a model's class and configuration, and its layers: batch norm is folded into the layer before it, matrices and
kernels are rounded to steps of 8 or 16 bits, and biases stay as they are. Neither PyTorch nor anything of it is needed to
make one from a weights file, so the site's builder does it on the way.
"""

from __future__ import annotations

import base64
import functools
import gzip
import hashlib
import json
import math
import struct
import zlib
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np
from safetensors import safe_open

if TYPE_CHECKING:
    from torch import nn

WEIGHTS = Path(__file__).resolve().parents[1] / "weights"
LEVELS = {8: 127, 16: 32767}  # of a weight to either side of 0
LARGE = 20_000  # weights: "mixed" rounds matrices of more to 8 bits, and the others to 16
UNUSED = ("adversary.", "identity.", "baseline.")  # parts that only training asks for
NORM_EPS = 1e-5  # of PyTorch's batch norm
STEP = "/step"  # ends the name of what 8-bit weights of a weights file are counted in (training.tensor_files)
MODELS = ("AIR", "ConditionalVAE", "Judge", "Localisation", "MixAndMatch", "MultiLevelVAE", "VAE")  # in engine.js

# The shipped states by the names of their files, and their bits: 8 where they lose at most 0.05 nats and a thousandth of the
# share that they are measured by (shipped.json has what each lost), else 16. The judge is small, and says the same in 16.
FINE = ("conditional-vae-fixed", "judge")
SHIPPED = {path.stem: 16 if path.stem in FINE else 8 for path in sorted(WEIGHTS.glob("*.safetensors"))}


class Layer(NamedTuple):
    """A linear layer or a convolution, batch norm included."""

    weight: np.ndarray  # [outputs, inputs], or [outputs, inputs, height, width]
    bias: np.ndarray  # [outputs]


class Packed(NamedTuple):
    """What a model's file holds, as the page has it."""

    kind: str  # one of MODELS
    config: dict[str, Any]
    layers: dict[str, Layer]  # by the names of the PyTorch modules; weights are levels times steps, in float32


class ShippedModel(bytes):
    """A shipped state's file that knows its name, so that a figure's saved HTML can name it and need not hold it."""

    name: str


@functools.cache
def shipped_model(name: str) -> ShippedModel:
    """The file of a shipped state, in the bits that SHIPPED names; made once a process, in some tenths of a second.

    Raises ValueError for a name that is not there.
    """
    if name not in SHIPPED:
        raise ValueError(f"no shipped model is called {name!r}; there are: {', '.join(SHIPPED)}")
    found = ShippedModel(export_file(WEIGHTS / f"{name}.safetensors", SHIPPED[name]))
    found.name = name
    return found


def place(name: str, folder: str | Path) -> Path:
    """Where a shipped model's file is written: its name tells its content."""
    return Path(folder) / f"{name}-{hashlib.sha256(shipped_model(name)).hexdigest()[:16]}.model"


def export_file(path: Path, bits: int | str) -> bytes:
    """What `export_model` gives of the model in a weights file, without PyTorch. Raises ValueError as `read_weights` does."""
    kind, config, tensors = read_weights(path)
    try:
        layers = folded(tensors)
    except (KeyError, ValueError) as error:
        raise ValueError(f"the weights in {path} do not fit each other ({error}): put back a whole copy") from None
    return pack_model(kind, config, layers, bits)


def export_model(model: nn.Module, bits: int | str = 8) -> bytes:
    """The file of any model of the book: a VAE, MixAndMatch, ConditionalVAE, MultiLevelVAE, Localisation, AIR or Judge.

    bits: 8, 16, or "mixed", where matrices of more than 20,000 weights have 8 and the others 16.
    Raises ValueError for other models and bits, for choices that the page's engine does not know, and for weights that are
    not finite.
    """
    from torch import nn

    from latentbook.training.tensor_files import config_of, unwrapped, weights_of

    inner = unwrapped(model)
    if not isinstance(inner, nn.Module):
        what = f"a model of the book is asked for ({', '.join(MODELS)}), got a {type(inner).__name__}"
        raise ValueError(f"{what}: load weights into a model first")
    check_model(type(inner).__name__, config_of(inner))
    if not isinstance(inner, _class_of(type(inner).__name__)):
        raise ValueError(
            f"the page's engine runs the book's own {type(inner).__name__}, got another class of that name"
        )
    tensors = {name: tensor.detach().cpu().float().numpy() for name, tensor in weights_of(inner).items()}
    return pack_model(type(inner).__name__, config_of(inner), folded(tensors), bits)


def read_weights(path: Path) -> tuple[str, dict[str, Any], dict[str, np.ndarray]]:
    """Class, configuration and tensors (float32) of a weights file that `training.save_weights` wrote, without PyTorch.

    Raises OSError where it cannot be read, ValueError for a damaged one and for any other file.
    """
    try:
        with safe_open(path, framework="np") as file:
            metadata = {name: json.loads(value) for name, value in (file.metadata() or {}).items()}
            stored = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118 (not a dict)
        steps = {name.removesuffix(STEP): stored.pop(name) for name in list(stored) if name.endswith(STEP)}
        tensors = {name: part.astype(np.float32) * steps.get(name, np.float32(1)) for name, part in stored.items()}
    except OSError:
        raise
    except Exception as error:  # safetensors has its own
        raise ValueError(f"{path} is damaged or not one of this library's files ({error})") from error
    kind, config = (metadata.get(part) for part in ("model", "config"))
    if not isinstance(kind, str) or not isinstance(config, dict):
        raise ValueError(f"{path} holds no weights that save_weights wrote")
    return kind, config, tensors


def folded(tensors: Mapping[str, np.ndarray]) -> dict[str, Layer]:
    """A model's layers by their names, in alphabetical order: those that are used, with the batch norm that follows them."""
    layers = {}
    for layer in layers_of(tensors):
        weight = tensors[f"{layer}.weight"].astype(np.float64)
        bias = tensors.get(f"{layer}.bias", np.zeros(len(weight))).astype(np.float64)
        if f"{norm_of(layer)}.running_mean" in tensors:
            gain, shift, mean, variance = (
                tensors[f"{norm_of(layer)}.{part}"].astype(np.float64)
                for part in ("weight", "bias", "running_mean", "running_var")
            )
            gain = gain / np.sqrt(variance + NORM_EPS)
            weight, bias = weight * gain.reshape(-1, *[1] * (weight.ndim - 1)), (bias - mean) * gain + shift
        layers[layer] = Layer(weight, bias)
    return layers


def layers_of(tensors: Mapping[str, Any]) -> list[str]:
    """The names of a model's layers that are used, in alphabetical order, by its parameters (arrays or tensors)."""
    names = [name.removesuffix(".weight") for name in sorted(tensors) if name.endswith(".weight")]
    return [name for name in names if tensors[f"{name}.weight"].ndim > 1 and not f"{name}.".startswith(UNUSED)]


def norm_of(layer: str) -> str:
    """The name of the module after a layer, nn.Sequential's next number: its batch norm, if it has one."""
    before, dot, number = layer.rpartition(".")
    return f"{before}{dot}{int(number) + 1}" if number.isdigit() else ""


def pack_model(kind: str, config: Mapping[str, Any], layers: Mapping[str, Layer], bits: int | str) -> bytes:
    """A model's file, deflated: the length of a JSON header (uint32), the header, which says the shapes and bits of the
    layers; then for each in turn its outputs' steps and biases, float32; then the levels of the weights, int8, and of
    those in 16 bits first all high bytes of a layer, int8, then its low ones, uint8.

    The same bytes for the same model. Raises ValueError as `export_model` does.
    """
    check_model(kind, config)
    _bits(0, bits)
    if not layers:
        raise ValueError(f"a {kind} of no layers cannot be packed: give all of its weights")
    for name, layer in layers.items():
        _check_layer(name, layer)
    bits_of = {name: _bits(layer.weight.size, bits) for name, layer in layers.items()}
    shapes = [
        {"name": name, "shape": list(layer.weight.shape), "bits": bits_of[name]} for name, layer in layers.items()
    ]
    header = json.dumps({"model": kind, "config": dict(config), "layers": shapes}, separators=(",", ":"))
    header += " " * (-len(header) % 4)  # the floats after it begin at a multiple of four
    floats, levels = [], []
    for name, (weight, bias) in layers.items():
        rows, most = weight.reshape(len(weight), -1), LEVELS[bits_of[name]]
        step = (abs(rows).max(1).clip(1e-30) / most).astype("<f4")
        level = np.rint(rows / step[:, None].astype(np.float64)).clip(-most, most).astype(np.int32)
        floats += [step, bias.astype("<f4")]
        levels += (
            [level.astype(np.int8)] if most == 127 else [(level >> 8).astype(np.int8), (level & 255).astype(np.uint8)]
        )
    deflate = zlib.compressobj(9, strategy=zlib.Z_FILTERED)  # meant for numbers: few of them repeat
    content = (
        struct.pack("<I", len(header)) + header.encode("ascii") + b"".join(part.tobytes() for part in floats + levels)
    )
    return deflate.compress(content) + deflate.flush()


def check_model(kind: str, config: Mapping[str, Any]) -> None:
    """Raises ValueError for a model, or a choice in its configuration, that engine.js does not have."""
    if kind not in MODELS:
        raise ValueError(f"the page's engine runs {', '.join(MODELS)}, got a {kind}: give one of these")
    for name, wanted in {
        "teacher_forcing": False,
        "image_layer": "convolutional",
        "output": "sigmoid",
        "looks": "window",
    }.items():
        if config.get(name, wanted) != wanted:
            raise ValueError(f"the page's engine runs models of {name}={wanted!r} alone, got {config[name]!r}")


def _check_layer(name: str, layer: Layer) -> None:
    """Raises ValueError for weights and biases that do not fit each other, or that float32 cannot hold."""
    weight, bias = layer
    if weight.ndim < 2 or not weight.size or bias.shape != weight.shape[:1]:
        shapes = f"{list(weight.shape)} and {list(bias.shape)}"
        raise ValueError(f"weights and biases of {name} must be [outputs, inputs, ...] and [outputs], got {shapes}")
    most = np.finfo(np.float32).max
    bad = sum(int((~(abs(part) <= most)).sum()) for part in layer)
    if bad:
        raise ValueError(f"the weights of {name} must be finite, got {bad} that are not: look for a run that diverged")


def _bits(weights: int, bits: int | str) -> int:
    if isinstance(bits, str) and bits == "mixed":
        return 8 if weights > LARGE else 16
    if not isinstance(bits, int | float | np.number) or bits not in LEVELS:
        raise ValueError(f'bits must be 8, 16 or "mixed", got {bits!r}')
    return int(bits)


def unpack_model(packed: bytes) -> Packed:
    """What a model's file holds, to the last bit as the page has it.

    Raises ValueError for bytes that are no such file, or less or more than one, and for what is no bytes.
    """
    if not isinstance(packed, bytes | bytearray | memoryview):
        raise ValueError(f"a model's file is bytes, got a {type(packed).__name__}: give what export_model returned")
    try:
        content = _inflated(packed)
        (size,) = struct.unpack_from("<I", content)
        header = json.loads(content[4 : 4 + size])
        _check_header(header, len(content) - 4 - size)
        at, parts = 4 + size, {}
        for layer in header["layers"]:
            outputs = layer["shape"][0]
            parts[layer["name"]] = np.frombuffer(content, "<f4", 2 * outputs, at).reshape(2, outputs)
            at += 8 * outputs
        layers = {}
        for layer in header["layers"]:
            shape, (step, bias) = layer["shape"], parts[layer["name"]]
            size = math.prod(shape)
            level = np.frombuffer(content, np.int8, size, at).astype(np.int32)
            at += size
            if layer["bits"] == 16:
                level = 256 * level + np.frombuffer(content, np.uint8, size, at)
                at += size
            weight = level.reshape(shape[0], -1).astype(np.float32) * step[:, None]
            layers[layer["name"]] = Layer(weight.reshape(shape), bias)
            _check_layer(layer["name"], layers[layer["name"]])
        return Packed(header["model"], header["config"], layers)
    except (zlib.error, struct.error, ValueError, RecursionError) as error:
        raise _no_file(error) from None


def _no_file(why: Any) -> ValueError:
    return ValueError(f"these bytes are no model's file ({why}): give what export_model returned")


def _inflated(packed: bytes) -> bytes:
    """What was deflated. Raises ValueError where anything is missing or follows it, zlib.error for other bytes."""
    inflate = zlib.decompressobj()
    content = inflate.decompress(packed) + inflate.flush()
    if not inflate.eof or inflate.unused_data:
        raise ValueError(f"{len(inflate.unused_data)} bytes follow it" if inflate.eof else "its end is missing")
    return content


def _check_header(header: Any, rest: int) -> None:
    """Raises ValueError unless a header is one that `pack_model` writes, for so many bytes after it."""
    if not isinstance(header, dict) or not isinstance(header.get("config"), dict):
        raise ValueError("its header must have a model, its config and its layers")
    check_model(header.get("model"), header["config"])
    layers, asked = header.get("layers"), 0
    if not isinstance(layers, list) or not layers or not all(isinstance(layer, dict) for layer in layers):
        raise ValueError("its header must list layers")
    for layer in layers:
        name, shape, bits = (layer.get(part) for part in ("name", "shape", "bits"))
        if not isinstance(name, str) or [other.get("name") for other in layers].count(name) > 1:
            raise ValueError(f"each layer must have a name of its own, got {name!r}")
        if not isinstance(shape, list) or len(shape) < 2 or not all(type(n) is int and n > 0 for n in shape):
            raise ValueError(f"the shape of {name} must be two or more whole numbers of at least 1, got {shape!r}")
        if type(bits) is not int or bits not in LEVELS:
            raise ValueError(f"the bits of {name} must be 8 or 16, got {bits!r}")
        asked += 8 * shape[0] + math.prod(shape) * bits // 8
    if asked != rest:
        raise ValueError(f"its header asks for {asked:,} bytes after it, there are {rest:,}")


def _class_of(kind: str) -> type[nn.Module]:
    """One of MODELS."""
    from latentbook import evaluation, models

    return evaluation.Judge if kind == "Judge" else getattr(models, kind)


def built(kind: str, config: Mapping[str, Any]) -> nn.Module:
    """A model of the book by its class and the configuration that a file has of it, not yet trained.

    Raises ValueError for others.
    """
    from latentbook import models

    check_model(kind, config)
    if kind == "Judge":
        return _class_of(kind)()
    made = {name: tuple(value) if isinstance(value, list) else value for name, value in config.items()}
    try:
        return _class_of(kind)(getattr(models, f"{kind}Config")(**made))
    except Exception as error:  # an unknown choice is a TypeError, a layer that torch cannot make a RuntimeError
        raise ValueError(f"no {kind} has this configuration ({error})") from error


def read_model(packed: bytes) -> nn.Module:
    """The PyTorch model with the weights that the page has, in evaluation mode; batch norm does nothing in it any more.

    Raises ValueError as `unpack_model` does, and for a file that has not just the layers of its model.
    """
    import torch

    kind, config, layers = unpack_model(packed)
    try:
        model = built(kind, config)
        _check_whole(model, layers)
    except ValueError as error:
        raise _no_file(error) from error
    with torch.no_grad():
        for name, layer in layers.items():
            module = model.get_submodule(name)
            module.weight.copy_(torch.from_numpy(layer.weight.copy()))
            if module.bias is not None:
                module.bias.copy_(torch.from_numpy(layer.bias.copy()))
        for module in model.modules():
            if isinstance(module, torch.nn.BatchNorm1d | torch.nn.BatchNorm2d):
                module.reset_running_stats()
                module.weight.fill_((1 + module.eps) ** 0.5)
                module.bias.zero_()
    return model.eval()


def _check_whole(model: nn.Module, layers: Mapping[str, Layer]) -> None:
    """Raises ValueError unless a file has all layers that are used of a model, none besides, in their shapes."""
    tensors = model.state_dict()
    wanted = {name: list(tensors[f"{name}.weight"].shape) for name in layers_of(tensors)}
    found = {name: list(layer.weight.shape) for name, layer in layers.items()}
    if missing := [name for name in wanted if name not in found]:
        raise ValueError(f"of a {type(model).__name__} it lacks the layers {', '.join(missing)}")
    if unknown := [name for name in found if name not in wanted]:
        raise ValueError(f"a {type(model).__name__} has no layers {', '.join(unknown)}")
    if other := [f"{name} {found[name]} instead of {wanted[name]}" for name in wanted if found[name] != wanted[name]]:
        raise ValueError(f"its layers have other shapes: {', '.join(other)}")


def sent_bytes(packed: bytes) -> int:
    """How many bytes a host sends for a model's file: as the site has it, in base64, gzipped."""
    return len(gzip.compress(base64.b64encode(packed), 6, mtime=0))


def seeded_noise(seed: int, count: int) -> np.ndarray:
    """N(0, 1) [count], float64, as the page draws it from a seed: mulberry32, and of every two numbers a pair by Box and
    Muller (1958)."""
    state, drawn = seed & 0xFFFFFFFF, []

    def following() -> float:
        nonlocal state
        state = (state + 0x6D2B79F5) & 0xFFFFFFFF
        t = state
        t = ((t ^ (t >> 15)) * (t | 1)) & 0xFFFFFFFF
        t ^= (t + ((t ^ (t >> 7)) * (t | 61) & 0xFFFFFFFF)) & 0xFFFFFFFF
        return (t ^ (t >> 14)) / 4294967296

    while len(drawn) < count:
        radius, angle = np.sqrt(-2 * np.log(1 - following())), 2 * np.pi * following()
        drawn += [radius * np.cos(angle), radius * np.sin(angle)]
    return np.array(drawn[:count])
