"""A decoder of one hidden layer, small enough to travel in a page: weights in 8 bits, decoded there and here alike."""

import zlib
from collections.abc import Sequence
from typing import Any

import numpy as np

from latentbook.widgets.sprites import numbers

LEVELS = 80  # of a weight to either side of 0: fewer make a lighter page, more a closer one


def pack_decoder(layers: Sequence[Any], style_codes: np.ndarray, dim: int, pixels: int) -> bytes:
    """A decoder of one hidden layer, for some styles and any class code [dim], deflated.

    It holds, as float32, for each hidden unit the step of its weights to the pixels, the pixels' biases, what each style
    gives to the hidden units [styles, hidden], and their weights of the class code [hidden, dim]; then the weights to the
    pixels, int8 [hidden, pixels] in those steps. Raises ValueError for other layers than weight, bias, weight, bias.
    """
    if len(layers) != 4:
        raise ValueError(
            f"decoder must hold two layers' weights and biases, 4 tensors, got {len(layers)}: give model.decoder.parameters()"
        )
    first = numbers("the decoder's first weight", layers[0], f"hidden {style_codes.shape[1] + dim}")
    hidden = len(first)
    first_bias = numbers("the decoder's first bias", layers[1], f"{hidden}")
    second = numbers("the decoder's second weight", layers[2], f"{pixels} {hidden}")
    bias = numbers("the decoder's second bias", layers[3], f"{pixels}")
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
