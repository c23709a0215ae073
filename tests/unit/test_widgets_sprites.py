"""Sprite sheets: what is packed comes out again to the byte, and what cannot be a grey picture is refused."""

from __future__ import annotations

import base64
import io
import re

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image

from latentbook.widgets.checks import grey
from latentbook.widgets.sprites import PREFIX, lay, pack, unpack

AXES = "frames rows columns height width"


def noise(*shape: int, seed: int = 0) -> np.ndarray:
    return np.random.default_rng(seed).integers(0, 256, shape, dtype=np.uint8)


def image(sheet: str) -> Image.Image:
    assert sheet.startswith(PREFIX)
    return Image.open(io.BytesIO(base64.b64decode(sheet.removeprefix(PREFIX))))


@settings(max_examples=40, deadline=None)
@given(st.integers(1, 30), st.integers(1, 9), st.integers(1, 9), st.integers(0, 2**31))
def test_pictures_come_out_as_they_went_in(n, height, width, seed):
    pictures = noise(n, height, width, seed=seed)
    assert np.array_equal(unpack(*pack(pictures)), pictures)


def test_every_grey_value_survives():
    ramp = np.arange(256, dtype=np.uint8).reshape(1, 16, 16)
    found = unpack(*pack(ramp))
    assert found.dtype == np.uint8 and np.array_equal(found, ramp)


@pytest.mark.parametrize("value", [0, 1, 255])
def test_pictures_of_one_tone_survive(value):
    pictures = np.full((3, 28, 28), value, np.uint8)
    assert np.array_equal(unpack(*pack(pictures)), pictures)


def test_the_sheet_is_an_eight_bit_grey_png_without_colour_profile():
    found = image(pack(noise(5, 28, 28))[0])
    assert (found.format, found.mode) == ("PNG", "L")
    assert not {"icc_profile", "gamma", "srgb", "transparency"} & set(found.info)


def test_equal_pictures_stand_on_the_sheet_once():
    one = noise(1, 28, 28)
    sheet, packing = pack(np.concatenate([one, noise(1, 28, 28, seed=1), one, one]))
    assert packing["places"] == [0, 1, 0, 0]
    assert image(sheet).size == (28 * packing["across"], 56 // packing["across"])


def test_a_sheet_is_about_as_wide_as_it_is_high():
    for shape in ((1050, 28, 28), (300, 50, 20), (7, 28, 28)):
        width, height = image(pack(noise(*shape))[0]).size
        assert 0.5 <= width / height <= 2, shape


def test_packing_is_the_same_every_time():
    assert pack(noise(20, 28, 28)) == pack(noise(20, 28, 28))


@pytest.mark.parametrize(
    "pictures", [np.zeros((2, 28, 28)), np.zeros((28, 28), np.uint8), np.zeros((0, 28, 28), np.uint8)]
)
def test_only_bytes_in_pictures_are_packed(pictures):
    with pytest.raises(ValueError, match=r"pictures must be uint8 \[n, height, width\], got"):
        pack(pictures)


def test_grey_values_are_those_of_pytorch_and_never_rescaled():
    values = torch.rand(3, 2, 4, 28, 28, generator=torch.Generator().manual_seed(0)) / 2
    expected = (values.double() * 255).round().to(torch.uint8)
    assert np.array_equal(grey("frames", values, AXES), expected.numpy())
    steps = torch.arange(256, dtype=torch.float32).div(255).view(1, 1, 1, 16, 16)
    assert grey("frames", steps, AXES).flatten().tolist() == list(range(256))


def test_lists_arrays_and_tensors_that_ask_for_a_gradient_are_taken():
    values = torch.rand(1, 1, 2, 3, 3, requires_grad=True)
    expected = grey("frames", values, AXES)
    assert np.array_equal(grey("frames", values.tolist(), AXES), expected)
    assert np.array_equal(grey("frames", values.detach().numpy(), AXES), expected)


@pytest.mark.parametrize(
    ("values", "axes", "message"),
    [
        (
            np.zeros((2, 28, 28)),
            AXES,
            f"frames must have shape [{AXES.replace(' ', ', ')}], nothing empty, got [2, 28, 28]",
        ),
        (np.zeros((2, 0, 3, 4, 4)), AXES, "nothing empty, got [2, 0, 3, 4, 4]"),
        (np.zeros((3, 4)), "2 n", "frames must have shape [2, n], nothing empty, got [3, 4]: reshape it first"),
        (np.array([0.5, np.nan, np.inf]), "n", "frames must hold grey values in [0, 1] without NaN, got nan to nan"),
        (np.array([0.5, 1.5]), "n", "must hold grey values in [0, 1] without NaN, got 0.5 to 1.5: divide bytes by 255"),
        (np.array([-0.25, 0.5]), "n", "must hold grey values in [0, 1] without NaN, got -0.25 to 0.5"),
        (np.array(["a"]), "n", "frames must hold numbers in rows of one length (they are <U1)"),
        ([[0.1, 0.2], [0.3]], "n m", "frames must hold numbers in rows of one length"),
    ],
)
def test_what_is_no_grey_picture_is_refused(values, axes, message):
    with pytest.raises(ValueError, match=re.escape(message)):
        grey("frames", values, axes)


def test_pictures_are_laid_in_rows_with_a_margin():
    pictures = noise(2, 3, 4, 5)
    found = lay(pictures)
    assert found.shape == (2 * 6, 3 * 7)
    for row in range(2):
        for column in range(3):
            top, left = row * 6 + 1, column * 7 + 1
            assert np.array_equal(found[top : top + 4, left : left + 5], pictures[row, column])
    assert found.sum(dtype=int) == pictures.sum(dtype=int)  # nothing but zeros between them
