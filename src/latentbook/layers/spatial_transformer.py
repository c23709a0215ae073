"""Spatial transformers (Jaderberg et al., 2015): windows of an image, cropped and
pasted back so that gradients pass.

`where` = (scale s, shift t_x, shift t_y) maps canvas coordinates to window coordinates,
w = s c + t. A scale above 1 is a window smaller than the canvas: it spans 2/s of the
canvas and its centre lies at -t/s. An image is read backwards: every output pixel asks
where in the input it comes from. Pasting a window onto the canvas therefore reads with
`where` itself, and cropping, whose output is the window, with its inverse.

Coordinates run from -1 to 1 in x (right) and y (down), between the outer edges of the
outermost pixels (align_corners=False), so a place has the same coordinates in a canvas
of 50 pixels as in a window of 28, the identity leaves an image as it is, and a window's
box is canvas size / s pixels wide. With align_corners=True, -1 and 1 would be the
centres of the outermost pixels, and all of this would change a little with the number
of pixels.

Outside the image there is nothing (padding "zeros"): what a window does not cover stays
empty and windows can be added up. Over the last half pixel an image fades into that
nothing, which gives the window's own edge a gradient; padding "border" would smear its
outermost pixels over the whole canvas instead. Interpolation reads four neighbours
only: a picture made more than twice smaller skips pixels.
"""

from __future__ import annotations

import functools

import torch
import torch.nn.functional as F
from jaxtyping import Float
from torch import Tensor

from latentbook import checks


def affine_from_where(where: Float[Tensor, "*batch 3"]) -> Float[Tensor, "*batch 2 3"]:
    """The matrix [[s, 0, t_x], [0, s, t_y]] of `where` (Jaderberg et al., 2015,
    equation 2: attention).

    Raises ValueError for another shape, a scale that is not positive, and values that
    are NaN or infinite.
    """
    where = check_where(where)
    scale, shift_x, shift_y = where.unbind(-1)
    zero = torch.zeros_like(scale)
    return torch.stack([scale, zero, shift_x, zero, scale, shift_y], -1).unflatten(
        -1, (2, 3)
    )


def invert(where: Float[Tensor, "*batch 3"]) -> Float[Tensor, "*batch 3"]:
    """The inverse of a `where`, again a `where`: c = w / s - t / s, so (1, -t_x, -t_y)
    / s.

    Raises as `affine_from_where`.
    """
    where = check_where(where)
    scale, shift = where.split([1, 2], -1)
    return torch.cat([1 / scale, -shift / scale], -1)


def pseudo_inverse(affine: Float[Tensor, "*batch 2 3"]) -> Float[Tensor, "*batch 2 3"]:
    """The inverse of any affine matrix as AIR's retellings have it: the row (0, 0, 1)
    beneath, then Moore and Penrose.

    Where there is an inverse it is the same: that of `affine_from_where(where)` is
    `affine_from_where(invert(where))`.
    Without the third row, the pseudo-inverse of the 2x3 matrix is not the inverse map.
    Raises ValueError for another shape, NaN and infinite values.
    """
    affine = checks.as_tensor("affine", affine)
    affine = checks.finite(
        "affine", affine, (*affine.shape[:-2], 2, 3), checks.float_type(affine)
    )
    row = affine.new_tensor([0, 0, 1]).expand(*affine.shape[:-2], 1, 3)
    whole = torch.cat([affine, row], -2)
    # half precision has no such decomposition
    exact = whole.to(torch.promote_types(whole.dtype, torch.float32))
    return torch.linalg.pinv(exact)[..., :2, :].to(affine)


def transform(
    image: Float[Tensor, "batch channels height width"],
    affine: Float[Tensor, "batch 2 3"],
    size: int | tuple[int, int],
) -> Float[Tensor, "batch channels rows columns"]:
    """A spatial transformer (Jaderberg et al., 2015, equations 1 and 5): the image,
    read on a grid that `affine` has moved.

    affine: from output to input coordinates. size: (rows, columns) of the output, or
    one number for both. Of two precisions the result has the higher one. Raises
    ValueError for other shapes, an affine that is not finite and a size below 1.
    """
    rows, columns = pair(size)
    image, affine = in_one_type(
        checks.as_tensor("image", image), checks.as_tensor("affine", affine)
    )
    if image.ndim != 4 or affine.shape != (len(image), 2, 3):
        raise ValueError(
            "image must be [batch, channels, height, width] and affine [batch, 2, 3] "
            "with the same batch, got "
            f"{list(image.shape)} and {list(affine.shape)}; expand one of them or add "
            "the missing dimension"
        )
    checks.finite("affine", affine, affine.shape, affine.dtype)
    # [batch, rows, columns, 2]
    grid = F.affine_grid(affine, [len(image), 1, rows, columns], align_corners=False)
    return F.grid_sample(
        image, grid, mode="bilinear", padding_mode="zeros", align_corners=False
    )


def image_to_window(
    image: Float[Tensor, "batch channels height width"],
    where: Float[Tensor, "batch 3"],
    size: int | tuple[int, int],
) -> Float[Tensor, "batch channels rows columns"]:
    """What a window sees of an image: a crop, `size` pixels large.

    Raises as `affine_from_where` and `transform`.
    """
    return transform(image, affine_from_where(invert(where)), size)


def window_to_image(
    window: Float[Tensor, "batch channels rows columns"],
    where: Float[Tensor, "batch 3"],
    size: int | tuple[int, int],
) -> Float[Tensor, "batch channels height width"]:
    """A window pasted back on an empty canvas, `size` pixels large.

    Raises as `affine_from_where` and `transform`.
    """
    return transform(window, affine_from_where(where), size)


def paste_windows(
    windows: Float[Tensor, "batch window window"],
    where: Float[Tensor, "batch 3"],
    canvas: int,
) -> Float[Tensor, "batch canvas canvas"]:
    """What `window_to_image` gives of grey windows, as two matrix products, one for
    each axis, and so in less time.

    `where` neither turns nor shears, so what a row of the canvas reads does not depend
    on the column.
    Raises as `affine_from_where`, and for windows that are not square, or not as many
    as there are places.
    """
    where, canvas = check_where(where), checks.side("canvas", canvas)
    windows = checks.as_tensor("windows", windows)
    if (
        windows.ndim != 3
        or windows.shape[1] != windows.shape[2]
        or where.shape != (len(windows), 3)
    ):
        raise ValueError(
            "windows must be [batch, window, window], as high as wide, and where "
            "[batch, 3] with the same batch, got "
            f"{list(windows.shape)} and {list(where.shape)}; window_to_image pastes "
            "windows of other shapes"
        )
    windows, where = in_one_type(windows, where)
    size = windows.shape[-1]
    centres = (
        torch.arange(canvas, device=where.device).to(where) + 0.5
    ) * 2 / canvas - 1
    # in x and y, as coordinates of the window
    read = where[:, :1, None] * centres + where[:, 1:, None]
    pixel = ((read + 1) * size - 1) / 2
    shares = (
        1 - (pixel.unsqueeze(3) - torch.arange(size, device=where.device)).abs()
    ).clamp(min=0)
    # [batch, canvas, window]: of a pixel's two neighbours, 0 of all others
    across, down = shares.to(windows).unbind(1)
    return down @ windows @ across.mT


def box_corners(
    where: Float[Tensor, "*batch 3"], size: int | tuple[int, int]
) -> Float[Tensor, "*batch 4"]:
    """The window's box on a canvas of `size` pixels: left, top, right, bottom
    (torchvision's xyxy), in pixels.

    Counted from the outer edge of the first pixel, in x as in y: pixel i lies from i to
    i + 1. Matplotlib's imshow and others that put pixel i's centre at i want 0.5 less.
    Raises as `affine_from_where`, and for a size below 1.
    """
    height, width = pair(size)
    half, centre = invert(where).split([1, 2], -1)
    return (
        (torch.cat([centre - half, centre + half], -1) + 1)
        * half.new_tensor([width, height] * 2)
        / 2
    )


def pair(size: int | tuple[int, int]) -> tuple[int, int]:
    """One number as (height, width).

    Raises ValueError for a size below 1, or no whole number.
    """
    both = tuple(size) if isinstance(size, list | tuple | torch.Size) else (size, size)
    try:
        height, width = (checks.count("size", each) for each in both)
    except ValueError:
        raise ValueError(
            "size must be at least 1 pixel, or (height, width) of at least 1, got "
            f"{size!r}"
        ) from None
    return height, width


def in_one_type(*parts: Tensor) -> list[Tensor]:
    """Tensors in the highest floating-point precision among them; torch's default one
    where there is none.
    """
    types = [part.dtype for part in parts if part.is_floating_point()]
    dtype = (
        functools.reduce(torch.promote_types, types)
        if types
        else torch.get_default_dtype()
    )
    return [part.to(dtype) for part in parts]


def check_where(where: Tensor) -> Tensor:
    """`where` as a tensor; whole numbers become floats.

    Raises ValueError unless it is (scale, shift_x, shift_y) in its last dimension, all
    finite, the scale positive.
    """
    where = checks.as_tensor("where", where)
    if (
        where.ndim == 0
        or where.shape[-1] != 3
        or where.is_complex()
        or where.dtype == torch.bool
    ):
        raise ValueError(
            "where must be floats [..., 3], (scale, shift_x, shift_y), got "
            f"{where.dtype} {list(where.shape)}"
        )
    where = where.to(checks.float_type(where))
    fine = where.isfinite().all(-1) & (where[..., 0] > 0)
    if not fine.all():
        raise ValueError(
            "the scale of where must be positive and all of it finite, got "
            f"{where[~fine][0].tolist()} as one of "
            f"{int((~fine).sum())} that are not; bound the scale where it is "
            "predicted, by a clamp or a softplus"
        )
    return where
