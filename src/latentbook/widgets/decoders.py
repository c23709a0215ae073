"""Networks small enough to travel in a page: weights in 8 bits, computed there and here alike."""

import math
import zlib
from collections.abc import Iterable, Sequence
from typing import Any

import numpy as np

from latentbook.widgets.checks import numbers

LEVELS = 80  # of a weight to either side of 0: fewer make a lighter page, more a closer one
ALL_LEVELS = 127  # as many as 8 bits hold
Layer = tuple[np.ndarray, np.ndarray]  # weight [outputs, inputs] and bias [outputs]


def two_layers(name: str, parameters: Iterable[Any], inputs: Any, outputs: Any) -> list[Layer]:
    """A network of one hidden layer as its two layers. inputs, outputs: how many, or a word where any number will do.

    Raises ValueError for anything but weight, bias, weight, bias of such sizes.
    """
    parts = list(parameters) if isinstance(parameters, Iterable) else []
    if len(parts) != 4:
        raise ValueError(
            f"{name} must hold two layers' weights and biases, 4 tensors, got {len(parts)}: give model.{name}.parameters()"
        )
    first = numbers(f"the {name}'s first weight", parts[0], f"hidden {inputs}")
    first_bias = numbers(f"the {name}'s first bias", parts[1], f"{len(first)}")
    second = numbers(f"the {name}'s second weight", parts[2], f"{outputs} {len(first)}")
    return [(first, first_bias), (second, numbers(f"the {name}'s second bias", parts[3], f"{len(second)}"))]


def what_vae(encoder: Iterable[Any], decoder: Iterable[Any], output_bias: float) -> list[Layer]:
    """Encoder and decoder as four layers, the output bias in the last; raises ValueError where they do not fit together."""
    layers = two_layers("encoder", encoder, "pixels", "codes")
    (codes, _), pixels = layers[1][0].shape, layers[0][0].shape[1]
    if codes % 2 or math.isqrt(pixels) ** 2 != pixels:
        raise ValueError(
            f"encoder must map a square window to the means and log-variances of its code, got {pixels} pixels to {codes} numbers"
        )
    hidden, (weight, bias) = two_layers("decoder", decoder, codes // 2, pixels)
    return [*layers, hidden, (weight, bias + output_bias)]


def pack_layers(layers: Sequence[Layer]) -> bytes:
    """Linear layers, deflated: for each in turn its outputs' steps and biases, float32; then for each its weights, int8.

    A weight is its level times the step of its output, which is the output's largest weight over ALL_LEVELS.
    """
    steps = [abs(weight).max(1).clip(1e-30) / ALL_LEVELS for weight, _ in layers]
    floats = [np.concatenate((step, bias)).astype("<f4") for step, (_, bias) in zip(steps, layers, strict=True)]
    levels = [np.rint(weight / step[:, None]).astype(np.int8) for step, (weight, _) in zip(steps, layers, strict=True)]
    return zlib.compress(b"".join(part.tobytes() for part in floats + levels), 9)


def unpack_layers(packed: bytes, shapes: Sequence[Sequence[int]]) -> list[Layer]:
    """The layers of these shapes [outputs, inputs], as the page's JavaScript has them (`unpackLayers` in layers.js)."""
    content, layers = zlib.decompress(packed), []
    at, levels = 0, 8 * sum(outputs for outputs, _ in shapes)
    for outputs, inputs in shapes:
        step, bias = np.frombuffer(content, "<f4", 2 * outputs, at).reshape(2, outputs).astype(float)
        weight = np.frombuffer(content, np.int8, outputs * inputs, levels).reshape(outputs, inputs)
        layers.append((weight * step[:, None], bias))
        at, levels = at + 8 * outputs, levels + outputs * inputs
    return layers


def through(layers: Sequence[Layer], values: np.ndarray) -> np.ndarray:
    """The outputs [n, outputs] of linear layers with ReLUs between them, for inputs [n, inputs]."""
    for weight, bias in layers[:-1]:
        values = (values @ weight.T + bias).clip(0)
    weight, bias = layers[-1]
    return values @ weight.T + bias


def pack_decoder(layers: Iterable[Any], style_codes: np.ndarray, dim: int, pixels: int) -> bytes:
    """A decoder of one hidden layer, for some styles and any class code [dim], deflated.

    It holds, as float32, for each hidden unit the step of its weights to the pixels, the pixels' biases, what each style
    gives to the hidden units [styles, hidden], and their weights of the class code [hidden, dim]; then the weights to the
    pixels, int8 [hidden, pixels] in those steps. Raises ValueError as `two_layers` does.
    """
    (first, first_bias), (second, bias) = two_layers("decoder", layers, style_codes.shape[1] + dim, pixels)
    steps = abs(second).max(0).clip(1e-30) / LEVELS
    given = style_codes @ first[:, :-dim].T + first_bias
    floats = np.concatenate([part.ravel() for part in (steps, bias, given, first[:, -dim:])]).astype("<f4")
    return zlib.compress(floats.tobytes() + np.rint(second / steps).astype(np.int8).T.tobytes(), 9)


def decode(packed: bytes, styles: int, class_code: np.ndarray, pixels: int) -> np.ndarray:
    """Grey values 0 to 1 [styles, pixels] of every style with one class code [dim], as the page's JavaScript decodes them."""
    dim = len(class_code)
    content = zlib.decompress(packed)
    hidden = (len(content) - 4 * pixels) // (4 * (1 + styles + dim) + pixels)
    sizes = (hidden, pixels, styles * hidden, hidden * dim)
    steps, bias, given, weight = np.split(np.frombuffer(content, "<f4", sum(sizes)), np.cumsum(sizes)[:-1])
    levels = np.frombuffer(content, np.int8, offset=4 * sum(sizes)).reshape(hidden, pixels)
    hidden_units = np.tanh(given.reshape(styles, hidden) + weight.reshape(hidden, dim) @ class_code)
    return 1 / (1 + np.exp(-(hidden_units * steps) @ levels - bias))
