"""Spatial transformers: known moves, inverses, boxes against what is drawn, gradients, and what is refused."""

from __future__ import annotations

import math
import re

import numpy as np
import pytest
import torch
from hypothesis import example, given, settings
from hypothesis import strategies as st

from latentbook.layers.spatial_transformer import (
    affine_from_where,
    box_corners,
    image_to_window,
    invert,
    paste_windows,
    pseudo_inverse,
    transform,
    window_to_image,
)

scales, shifts = st.floats(0.1, 20), st.floats(-20, 20)
wheres = st.tuples(scales, shifts, shifts).map(lambda values: torch.tensor(values, dtype=torch.float64))


def one(*values: float, dtype: torch.dtype = torch.float64) -> torch.Tensor:
    return torch.tensor([values], dtype=dtype)


def noise(*shape: int, seed: int = 0, dtype: torch.dtype = torch.float64) -> torch.Tensor:
    return torch.rand(shape, generator=torch.Generator().manual_seed(seed), dtype=dtype)


def apply(affine: torch.Tensor, points: torch.Tensor) -> torch.Tensor:
    """Points [n, 2] under affine maps [..., 2, 3]."""
    return points @ affine[..., :2].mT + affine[..., None, :, 2]


def ramp(height: int, width: int) -> torch.Tensor:
    """An image that grows evenly to the right and downwards; [1, 2, height, width], a channel each."""
    y, x = ((2 * torch.arange(n, dtype=torch.float64) + 1) / n - 1 for n in (height, width))
    return torch.stack([x.expand(height, width), y[:, None].expand(height, width)])[None]


def test_the_matrix_as_it_is_written():
    assert affine_from_where(torch.tensor([3.0, -0.5, 2.0])).tolist() == [[3, 0, -0.5], [0, 3, 2]]
    assert affine_from_where(torch.ones(4, 5, 3)).shape == (4, 5, 2, 3)


def test_the_identity_leaves_an_image_as_it_is():
    image, where = noise(3, 2, 7, 10), one(1, 0, 0).expand(3, 3)
    for move in (image_to_window, window_to_image):
        torch.testing.assert_close(move(image, where, (7, 10)), image, rtol=0, atol=1e-12)


@pytest.mark.parametrize(("right", "down"), [(1, 0), (0, 2), (-3, 1), (4, -2)])
def test_a_shift_by_whole_pixels_moves_pixels(right, down):
    image = noise(1, 1, 12, 9)
    where = one(1, -2 * right / 9, -2 * down / 12)  # the window's centre lies at -t / s
    crop = image_to_window(image, where, (12, 9))
    rows, columns = (range(max(0, -n), min(size, size - n)) for n, size in ((down, 12), (right, 9)))
    expected = torch.zeros_like(image)
    for row in rows:
        for column in columns:
            expected[..., row, column] = image[..., row + down, column + right]
    torch.testing.assert_close(crop, expected, rtol=0, atol=1e-12)
    torch.testing.assert_close(
        window_to_image(crop, where, (12, 9)),
        image * (window_to_image(torch.ones_like(crop), where, (12, 9)) > 0.5),
        rtol=0,
        atol=1e-12,
    )


def test_a_scale_above_one_is_a_smaller_window():
    image = noise(1, 1, 8, 8)
    crop = image_to_window(image, one(2, 1, -1), 4)  # centre (-0.5, 0.5): the lower left quarter, pixel by pixel
    torch.testing.assert_close(crop, image[..., 4:, :4], rtol=0, atol=1e-12)
    pasted = torch.zeros_like(image)
    pasted[..., 4:, :4] = crop
    torch.testing.assert_close(window_to_image(crop, one(2, 1, -1), 8), pasted, rtol=0, atol=1e-12)


def test_four_neighbours_weighted_by_the_opposite_areas():
    image = torch.tensor([[1.0, 2], [3, 4]], dtype=torch.float64).view(1, 1, 2, 2)
    right, down = 0.3, 0.6  # a sample point between the four pixel centres, in pixels from the first
    affine = torch.tensor([[[1, 0, right - 0.5], [0, 1, down - 0.5]]], dtype=torch.float64)
    expected = 0.7 * 0.4 * 1 + 0.3 * 0.4 * 2 + 0.7 * 0.6 * 3 + 0.3 * 0.6 * 4
    assert transform(image, affine, 1).item() == pytest.approx(expected, abs=1e-12)


def test_outside_the_canvas_there_is_nothing():
    ones = torch.ones(1, 1, 50, 50, dtype=torch.float64)
    assert image_to_window(ones, one(3, -4.2, 0), 28).abs().max() == 0
    pasted = window_to_image(torch.ones(1, 1, 28, 28, dtype=torch.float64), one(4, 0, 0), 50)
    assert pasted[..., 19:31, 19:31].min() == pytest.approx(1) and pasted[..., :18, :].max() == 0


@given(where=wheres)
def test_the_inverse_undoes_the_map(where):
    points = noise(20, 2) * 4 - 2
    back = apply(affine_from_where(invert(where)), apply(affine_from_where(where), points))
    torch.testing.assert_close(back, points, rtol=1e-9, atol=1e-9)
    torch.testing.assert_close(invert(invert(where)), where, rtol=1e-12, atol=1e-12)


@given(where=wheres)
def test_the_pseudo_inverse_is_the_exact_one(where):
    exact = affine_from_where(invert(where))
    torch.testing.assert_close(pseudo_inverse(affine_from_where(where)), exact, rtol=1e-8, atol=1e-8)


def test_the_pseudo_inverse_needs_the_third_row():
    affine = affine_from_where(torch.tensor([3.0, 0.5, -1.0]))
    without = torch.linalg.pinv(affine)  # [3, 2]
    assert (without[:2] - pseudo_inverse(affine)[:, :2]).abs().max() > 0.01
    rotated = torch.tensor([[[0.6, -0.8, 0.3], [0.8, 0.6, -2.0]], [[1.0, 0.5, 0.0], [0.0, 2.0, 1.0]]])
    points = noise(9, 2, dtype=torch.float32)
    torch.testing.assert_close(apply(pseudo_inverse(rotated), apply(rotated, points)), points.expand(2, 9, 2))


@settings(max_examples=50, deadline=None)
@given(scale=st.floats(1, 8), x=st.floats(-1, 1), y=st.floats(-1, 1))
@example(scale=1.5, x=0.0, y=0.8203125)
def test_a_window_pasted_back_stands_where_it_was_cropped(scale, x, y):
    """Interpolation is exact on a ramp, so crop and paste give it back, except near the edges of window and canvas.

    A pasted pixel reads between two pixels of the window, and those near the canvas's edge read what lies beyond it.
    """
    where, image = one(scale, -scale * x, -scale * y), ramp(50, 40)
    pasted = window_to_image(image_to_window(image, where, 28), where, (50, 40))
    left, top, right, bottom = box_corners(where, (50, 40))[0]
    across, down = torch.arange(40) + 0.5, torch.arange(50) + 0.5
    pixel = 50 / scale / 28  # of the window, in pixels of the canvas
    edge, rim = max(1, pixel) + 1e-6, 0.5 + pixel + 1e-6
    inside = (
        ((down > top + edge) & (down < bottom - edge) & (down > rim) & (down < 50 - rim))[:, None]
        & ((across > left + edge) & (across < right - edge) & (across > rim) & (across < 40 - rim))[None]
    )  # fmt: skip
    torch.testing.assert_close(pasted[..., inside], image[..., inside], rtol=0, atol=1e-9)


@settings(max_examples=100, deadline=None)
@given(scale=st.floats(0.7, 6), x=st.floats(-1.2, 1.2), y=st.floats(-1.2, 1.2), size=st.sampled_from([50, (50, 36)]))
def test_a_box_holds_the_pixels_that_are_drawn(scale, x, y, size):
    """A pasted window of ones reaches half its height at its own edge, in every direction."""
    where = one(scale, -scale * x, -scale * y)
    pasted = window_to_image(torch.ones(1, 1, 28, 28, dtype=torch.float64), where, size)[0, 0]
    left, top, right, bottom = box_corners(where, size)[0].tolist()
    for drawn, low, high in ((pasted.amax(0), left, right), (pasted.amax(1), top, bottom)):
        centres = torch.arange(len(drawn)) + 0.5
        clear = ((centres - low).abs() > 1e-6) & ((centres - high).abs() > 1e-6)
        inside = (centres > low) & (centres < high)
        other = pasted.max() > 0.5  # unless the box leaves the canvas in the other direction
        assert ((drawn > 0.5) == inside)[clear].all() or not other


def test_the_corners_in_pixels():
    corners = box_corners(torch.tensor([[1.0, 0, 0], [2, 1, -1]]), (40, 50))
    assert corners.tolist() == [[0, 0, 50, 40], [0, 20, 25, 40]]
    assert box_corners(torch.tensor([2.0, -0.3, 0.4]), 50).tolist() == pytest.approx([16.25, 7.5, 41.25, 32.5])


@given(where=wheres)
def test_boxes_treat_x_and_y_alike(where):
    left, top, right, bottom = box_corners(where, (30, 70)).tolist()
    turned = box_corners(where[[0, 2, 1]], (70, 30)).tolist()
    assert turned == [top, left, bottom, right]
    assert right - left == pytest.approx(70 / where[0].item()) and bottom - top == pytest.approx(30 / where[0].item())


@pytest.mark.parametrize("move", [image_to_window, window_to_image])
@pytest.mark.parametrize("where", [(0.9, 0.11, -0.07), (2.3, 0.4, -0.31), (3.1, 3.03, 2.9)])
def test_gradients_by_finite_differences(move, where):
    image = noise(2, 2, 6, 7).requires_grad_()
    moved = (one(*where) + noise(2, 3, seed=1) / 10).requires_grad_()
    assert torch.autograd.gradcheck(lambda *given: move(*given, (5, 4)), (image, moved), eps=1e-7, atol=1e-5)


def test_gradients_of_the_box_and_of_the_pseudo_inverse():
    where = one(2.3, 0.4, -0.3).requires_grad_()
    assert torch.autograd.gradcheck(lambda w: box_corners(w, (50, 40)), (where,))
    assert torch.autograd.gradcheck(lambda w: pseudo_inverse(affine_from_where(w)), (where,))


def test_far_from_all_ink_there_is_no_gradient():
    image = torch.zeros(1, 1, 50, 50, dtype=torch.float64)
    image[..., 30:40, 30:40] = 1
    target = image_to_window(image, one(3, -1.2, -1.2), 28)
    for where, blind in (((3, 1.5, 1.5), True), ((3, -0.9, -1.2), False), ((1.2, 0.3, 0.3), False)):
        moved = one(*where).requires_grad_()
        (image_to_window(image, moved, 28) - target).pow(2).mean().backward()
        assert (moved.grad.abs().max() == 0) == blind, where


def test_a_batch_is_its_images_one_by_one():
    image, where = noise(5, 1, 20, 20, dtype=torch.float32), torch.rand(5, 3) + torch.tensor([1.0, -0.5, -0.5])
    batch = image_to_window(image, where, (9, 8))
    alone = torch.cat([image_to_window(image[i : i + 1], where[i : i + 1], (9, 8)) for i in range(5)])
    assert batch.shape == (5, 1, 9, 8) and torch.equal(batch, alone)


@pytest.mark.gpu
def test_the_same_on_an_accelerator():
    image, where = noise(4, 2, 50, 50), one(2.5, 0.3, -0.8).repeat(4, 1)
    for move in (image_to_window, window_to_image):
        moved = where.cuda().requires_grad_()
        there, here = move(image.cuda(), moved, 28), move(image, where.requires_grad_(), 28)
        torch.testing.assert_close(there.cpu(), here, rtol=0, atol=1e-9)
        slopes = [torch.autograd.grad(crop.pow(2).sum(), at)[0].cpu() for crop, at in ((there, moved), (here, where))]
        torch.testing.assert_close(*slopes, rtol=1e-7, atol=1e-7)
    assert box_corners(where.cuda(), 50).is_cuda


@pytest.mark.parametrize("bad", [0.0, -0.0, -2.0, math.nan, math.inf])
@pytest.mark.parametrize("use", [affine_from_where, invert, lambda where: box_corners(where, 50)])
def test_a_scale_that_is_none_is_refused(bad, use):
    where = torch.tensor([[2.0, 0.1, 0.2], [bad, 0.0, 0.5]])
    with pytest.raises(ValueError, match="the scale of where must be positive and all of it finite, got") as caught:
        use(where)
    assert str([bad, 0.0, 0.5]) in str(caught.value) and "1 that are not" in str(caught.value)


@pytest.mark.parametrize("bad", [math.nan, math.inf, -math.inf])
def test_a_shift_that_is_none_is_refused(bad):
    with pytest.raises(ValueError, match="all of it finite"):
        image_to_window(noise(1, 1, 8, 8), one(1, 0, bad), 4)


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda: affine_from_where(torch.ones(4, 2)), "where must be floats [..., 3], (scale, shift_x, shift_y), got"),
        (lambda: affine_from_where(torch.ones(3, dtype=torch.bool)), "got torch.bool [3]"),
        (lambda: affine_from_where(None), "where must hold numbers, got None"),
        (lambda: image_to_window(None, one(1, 0, 0), 4), "image must hold numbers, got None"),
        (lambda: image_to_window(noise(1, 1, 8, 8), one(1, 0, 0), True), "got True"),
        (lambda: image_to_window(noise(1, 1, 8, 8), one(1, 0, 0), (4, 4, 4)), "got (4, 4, 4)"),
        (lambda: image_to_window(noise(1, 1, 8, 8), one(1, 0, 0), 4.0), "got 4.0"),
        (lambda: transform(noise(1, 1, 8, 8), one(math.nan, 0, 0).expand(2, 3)[None], 4), "affine must be finite"),
        (lambda: pseudo_inverse(torch.full((2, 3), math.inf)), "affine must be finite"),
        (lambda: pseudo_inverse(torch.ones(3, 2)), "affine must have shape [2, 3]"),
        (lambda: paste_windows(noise(1, 6, 4), one(1, 0, 0), 8), "as high as wide"),
        (lambda: paste_windows(noise(2, 4, 4), one(1, 0, 0), 8), "with the same batch, got [2, 4, 4] and [1, 3]"),
        (lambda: paste_windows(noise(1, 4, 4), one(1, 0, 0), (8, 8)), "one number stands for height and width"),
        (lambda: paste_windows(noise(1, 4, 4), one(1, 0, 0), True), "canvas must be a whole number at least 1, got True"),
        (lambda: affine_from_where(torch.tensor(1.0)), "got torch.float32 []"),
        (lambda: image_to_window(noise(1, 8, 8), one(1, 0, 0), 4), "image must be [batch, channels, height, width]"),
        (lambda: image_to_window(noise(2, 1, 8, 8), one(1, 0, 0), 4), "got [2, 1, 8, 8] and [1, 2, 3]"),
        (lambda: image_to_window(noise(1, 1, 8, 8), one(1, 0, 0), 0), "size must be at least 1 pixel, or (height, width)"),
        (lambda: box_corners(one(1, 0, 0), (50, -1)), "got (50, -1)"),
    ],
)  # fmt: skip
def test_what_does_not_fit_is_refused_with_what_would(plain, call, message):
    with pytest.raises(ValueError, match=re.escape(message)):
        call()


def test_pasting_by_axes_is_the_spatial_transformers_with_its_gradients():
    generator = torch.Generator().manual_seed(0)
    windows = torch.rand(40, 7, 7, generator=generator, dtype=torch.float64).requires_grad_()
    where = torch.randn(40, 3, generator=generator, dtype=torch.float64)
    where[:, 0] = where[:, 0].abs() + 0.5  # also windows larger than the canvas, and some that lie beside it
    where.requires_grad_()
    weights = torch.rand(40, 16, 16, generator=generator, dtype=torch.float64)
    pairs = (paste_windows(windows, where, 16), window_to_image(windows.unsqueeze(1), where, 16).squeeze(1))
    torch.testing.assert_close(*pairs)
    for ours, theirs in zip(
        *(torch.autograd.grad((out * weights).sum(), (windows, where)) for out in pairs), strict=True
    ):
        torch.testing.assert_close(ours, theirs)
    with pytest.raises(ValueError, match="scale of where must be positive"):
        paste_windows(windows, -where.abs(), 16)


def test_numbers_in_any_form_are_a_where():
    expected = box_corners(torch.tensor([2.0, 1.0, -1.0]), (40, 50))
    for where in ([2.0, 1.0, -1.0], (2, 1, -1), np.array([2, 1, -1]), torch.tensor([2, 1, -1])):
        assert torch.equal(box_corners(where, (np.int64(40), np.uint8(50))), expected)


@pytest.mark.parametrize("coarse", [torch.float16, torch.bfloat16, torch.float32, torch.bool, torch.uint8])
def test_of_two_precisions_the_result_has_the_higher(coarse):
    image, where = noise(1, 1, 8, 8).round(), one(2, 0.5, -0.5)
    for move in (image_to_window, window_to_image):
        found = move(image.to(coarse), where, 4)
        assert found.dtype == torch.float64 and torch.equal(found, move(image, where, 4))
        if coarse.is_floating_point:
            assert move(image, where.to(coarse), 4).dtype == torch.float64
    pasted = paste_windows(image[:, 0].to(coarse), where, 8)
    assert pasted.dtype == torch.float64 and torch.equal(pasted, paste_windows(image[:, 0], where, 8))
    assert paste_windows(image[:, 0], where.float(), 8).dtype == torch.float64


@pytest.mark.parametrize("precision", [torch.float16, torch.bfloat16])
def test_half_precision_is_kept(precision):
    image, where = noise(1, 1, 8, 8).to(precision), one(2, 0.5, -0.5).to(precision)
    crop = image_to_window(image, where, 4)
    whole = (crop, window_to_image(crop, where, 8), paste_windows(crop[:, 0], where, 8), box_corners(where, 8))
    assert {part.dtype for part in (*whole, pseudo_inverse(affine_from_where(where)))} == {precision}
    torch.testing.assert_close(
        crop, image_to_window(image.double(), where.double(), 4).to(precision), atol=0.02, rtol=0
    )
