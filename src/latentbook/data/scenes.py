"""Scenes with several objects on one canvas: which, how many and where is known, so that counting can be judged.

Two rules of placement. "uniform": every place on the canvas is as likely as any other, given that the boxes around the
ink overlap no more than a stated share. "diagonal": that of a well-known tutorial, which keeps a second digit's centre
half a digit away from the first's in x and, drawn on its own, in y as well: pairs stand on a diagonal, never side by side.
Objects are MNIST's digits, or three shapes in different greys, made here.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from functools import cached_property
from itertools import pairwise
from typing import NamedTuple

import numpy as np
import torch
import torch.nn.functional as F
from jaxtyping import Bool, Float, Int
from torch import Tensor

from latentbook import checks
from latentbook.data.digits import Batch, Digits

PLACEMENTS = ("uniform", "diagonal")
SHAPES = ("disc", "square", "triangle")
INK = 0.1  # a pixel this bright belongs to the object: the grey fringe of a resized stroke does not make its box wider
BATCHES = 32  # so many are drawn at a time: their scenes stay in the processor's cache
ROUNDS = 1000  # so often are places drawn again before a scene counts as too full


@dataclass(frozen=True)
class Layout:
    """How scenes are laid out; the defaults are the tutorial's but for the placement."""

    canvas: int = 50  # pixels, in height and width
    size: int = 24  # a 28x28 digit is resized to this
    counts: tuple[int, ...] = (0, 1, 2)  # how many objects, at equal odds
    placement: str = "uniform"
    overlap: float = 0.0  # of two boxes around ink, at most this share of the smaller one ("uniform" only)

    def __post_init__(self) -> None:
        for name in ("canvas", "size"):
            checks.side(name, getattr(self, name))
        checks.fields_fit(
            self,
            at_least={"counts": 0, "overlap": 0},
            at_most={"overlap": 1},
            choices={"placement": PLACEMENTS},
        )
        if not self.counts:
            raise ValueError(f"counts must name at least one number of objects, none below 0, got {self.counts}")
        if self.size > self.canvas:
            raise ValueError(
                f"a canvas of {self.canvas} pixels cannot hold an object of {self.size}: enlarge canvas or lower size"
            )
        if self.placement == "diagonal" and (max(self.counts) > 2 or self.canvas <= 2 * self.size):
            raise ValueError(
                "the diagonal rule places at most 2 objects, on a canvas of more than twice their size, got counts "
                f'{self.counts}, canvas {self.canvas}, size {self.size}: use placement="uniform"'
            )


class Stamps(NamedTuple):
    """Objects at their size in a scene: images [m, size, size], boxes around their ink int64 [m, 4] in pixels, labels [m]."""

    images: Tensor
    boxes: Tensor
    labels: Tensor


@dataclass(frozen=True)
class Scenes(Digits):
    """Scenes on one device, to be batched as digits are; their `labels` are the counts.

    images: float32 [n, 1, canvas, canvas] in [0, 1]; labels: int64 [n], the number of objects; objects: int64
    [n, slots], each object's own label, -1 where there is none; boxes: int64 [n, slots, 4], left, top, right, bottom
    around its ink, in pixels from the canvas's outer edge (pixel i lies from i to i + 1), 0 where there is none.
    Raises ValueError where these shapes, or the numbers of scenes, do not agree.
    """

    images: Float[Tensor, "n 1 canvas canvas"]
    objects: Int[Tensor, "n slots"]
    boxes: Int[Tensor, "n slots 4"]
    layout: Layout

    def __post_init__(self) -> None:
        super().__post_init__()
        canvas = checks.kind("layout", self.layout, Layout).canvas
        objects, boxes = (checks.as_tensor(name, getattr(self, name)) for name in ("objects", "boxes"))
        n = checks.same_length(images=self.images, objects=objects, boxes=boxes)
        checks.shaped("images", self.images, (n, 1, canvas, canvas), "they are as large as their layout's canvas")
        slots = objects.shape[-1]
        object.__setattr__(
            self, "objects", checks.whole_numbers("objects", objects, (n, slots))
        )  # past the frozen class
        object.__setattr__(self, "boxes", checks.whole_numbers("boxes", boxes, (n, slots, 4)))


@dataclass(frozen=True)
class FreshScenes(Scenes):
    """As many scenes anew in every epoch: `batches` draws them from its generator (without one, it gives those stored)."""

    digits: Digits

    def __post_init__(self) -> None:
        super().__post_init__()
        check_digits(self.digits)

    @cached_property
    def stamps(self) -> Stamps:
        """The digits at their size in a scene, resized once."""
        return make_stamps(self.digits, self.layout.size)

    def batches(self, batch_size: int, generator: torch.Generator | None = None) -> Iterator[Batch]:
        """One epoch of mini-batches, of new scenes with a generator; the last may be smaller."""
        if checks.generator("generator", generator) is None:
            yield from super().batches(batch_size)
            return
        batch_size = checks.count("batch_size", batch_size)
        part = BATCHES * batch_size
        for start in range(0, len(self), part):
            objects = choose(len(self.digits), min(part, len(self) - start), self.layout, generator)
            images, counts, *_ = compose(self.stamps, *objects, self.layout, generator)
            yield from map(Batch, images.split(batch_size), counts.split(batch_size))


def draw_scenes(digits: Digits, n: int, layout: Layout = Layout(), seed: int = 0) -> Scenes:
    """n scenes of objects drawn from `digits` with replacement, on their device. Held-out scenes come from test digits.

    A seed gives the same scenes on every device: all that is random is drawn on the CPU.
    Raises ValueError for fewer than one scene, digits that are not square, outside [0, 1] or without ink, labels that
    are no whole numbers of at least 0, or more objects than fit.
    """
    n, seed = checks.count("n", n), checks.count("seed", seed, 0)
    check_digits(digits)
    checks.kind("layout", layout, Layout, "give a Layout(...)")
    sha256 = hashlib.sha256(f"{digits.sha256} {n} {layout} {seed}".encode()).hexdigest()
    generator = torch.Generator().manual_seed(seed)
    which, counts = choose(len(digits), n, layout, generator)
    used, which = which.unique(return_inverse=True)  # no other digit need be resized
    stamps = make_stamps(digits.take(used.to(digits.images.device)), layout.size)
    images, counts, objects, boxes = compose(stamps, which, counts, layout, generator)
    return Scenes(images, counts, digits.source, sha256, digits.split, objects, boxes, layout)


def fresh_scenes(digits: Digits, n: int, layout: Layout = Layout(), seed: int = 0) -> FreshScenes:
    """n scenes as `draw_scenes` gives them, to be drawn anew in every epoch of training; raises as it does."""
    return FreshScenes(**vars(draw_scenes(digits, n, layout, seed)), digits=digits)


def check_digits(digits: Digits) -> None:
    """Raises ValueError unless these are digits, as many images as labels and at least one."""
    hint = "give Digits, as load_digits and make_sprites do"
    checks.has("digits", digits, "images", "labels", "source", "sha256", "split", hint=hint)
    if checks.same_length(images=digits.images, labels=digits.labels) == 0:
        raise ValueError("digits must hold at least one image to make scenes of, got none")


def make_stamps(digits: Digits, size: int) -> Stamps:
    """Every digit at `size` pixels, with the box around its ink.

    Raises ValueError for images that are not square, outside [0, 1] or without ink, and for labels that are no whole
    numbers of at least 0 (-1 stands where there is no object).
    """
    check_digits(digits)
    size, images = checks.side("size", size), checks.as_tensor("images", digits.images)
    side = images.shape[-1] if images.ndim == 4 else 28
    dtype = torch.promote_types(checks.float_type(images), torch.float32)  # the least that can be resized everywhere
    hint = "objects are square grey pictures, which are resized without changing their shape; pad others"
    images = checks.grey("images", images, ("n", 1, side, side), dtype, hint)
    labels = checks.class_numbers("labels", digits.labels, len(images))
    if labels.amin() < 0:
        raise ValueError(
            f"labels of objects must be at least 0, got {int(labels.amin())}: -1 stands where there is none"
        )
    images = F.interpolate(images, size=(size, size), mode="bilinear", antialias=True).squeeze(1).clamp(0, 1)
    boxes = ink_boxes(images)
    if empty := int((boxes.sum(1) == 0).sum()):
        raise ValueError(f"{empty} of the images hold no ink (no pixel above {INK})")
    return Stamps(images, boxes, labels)


def ink_boxes(images: Float[Tensor, "m height width"]) -> Int[Tensor, "m 4"]:
    """The box around each image's ink: left, top, right, bottom in pixels from its outer edge, all 0 where there is no ink.

    Raises ValueError for other shapes and for NaN.
    """
    images = checks.as_tensor("images", images)
    images = checks.finite("images", images, ("m", "height", "width"), checks.float_type(images))
    ink, sides = images > INK, []
    for line in (ink.any(1), ink.any(2)):  # columns, rows
        line = line.long()
        sides += [line.argmax(1), line.shape[1] - line.flip(1).argmax(1)]  # argmax gives the first of equals
    return torch.stack(sides, 1)[:, [0, 2, 1, 3]] * ink.flatten(1).any(1, keepdim=True)


def choose(
    digits: int, n: int, layout: Layout, generator: torch.Generator
) -> tuple[Int[Tensor, "n slots"], Int[Tensor, " n"]]:
    """Which of so many digits n scenes hold (the first stands where there is none), and how many; on the generator's device."""
    digits, n = checks.count("digits", digits), checks.count("n", n)
    checks.generator("generator", generator, needed=True)
    kind = torch.randint(len(layout.counts), (n,), generator=generator, device=generator.device)
    counts = torch.tensor(layout.counts, device=generator.device)[kind]
    slots = torch.arange(max(1, *layout.counts), device=generator.device)
    which = torch.randint(digits, (n, len(slots)), generator=generator, device=generator.device)
    return which * (slots < counts.unsqueeze(1)), counts


def compose(
    stamps: Stamps, which: Int[Tensor, "n slots"], counts: Int[Tensor, " n"], layout: Layout, generator: torch.Generator
) -> tuple[Float[Tensor, "n 1 canvas canvas"], Int[Tensor, " n"], Int[Tensor, "n slots"], Int[Tensor, "n slots 4"]]:
    """The scenes of chosen stamps: images, counts, objects and boxes as in `Scenes`, on the device of the stamps."""
    checks.generator("generator", generator, needed=True)
    device = stamps.images.device
    which = checks.whole_numbers("which", which, ("n", "slots")).to(device)
    counts = checks.whole_numbers("counts", counts, (len(which),)).to(device)
    present = torch.arange(which.shape[1], device=device) < counts.unsqueeze(1)  # [n, slots]
    place = place_diagonally if layout.placement == "diagonal" else place_uniformly
    corner = place(stamps.boxes[which], present, layout, generator)  # left and top of each stamp, [n, slots, 2]
    boxes = (stamps.boxes[which] + corner.repeat(1, 1, 2)) * present.unsqueeze(2)
    objects = stamps.labels[which].where(present, -1)
    return paste(stamps.images, which, corner, present, layout), counts, objects, boxes


def place_uniformly(
    boxes: Int[Tensor, "n slots 4"], present: Bool[Tensor, "n slots"], layout: Layout, generator: torch.Generator
) -> Int[Tensor, "n slots 2"]:
    """Left and top of each stamp, anywhere on the canvas; all of a scene's places are drawn again until its boxes allow them.

    Rejection keeps what is left uniform, and counts and objects as they were drawn.
    Raises ValueError where no allowed places are found.
    """
    corner = torch.zeros_like(boxes[..., :2])
    left = torch.arange(len(boxes), device=boxes.device)  # scenes still to be placed
    for _ in range(ROUNDS):
        shape = (len(left), boxes.shape[1], 2)
        drawn = torch.randint(layout.canvas - layout.size + 1, shape, generator=generator, device=generator.device)
        corner[left] = drawn.to(boxes.device)
        share = overlaps(boxes[left] + corner[left].repeat(1, 1, 2), present[left]).flatten(1)
        left = left[(share > layout.overlap).any(1)]
        if len(left) == 0:
            return corner
    raise ValueError(
        f"{int(present[left[0]].sum())} objects of {layout.size} pixels found no place on a canvas of {layout.canvas} in "
        f"{ROUNDS} draws with an overlap of at most {layout.overlap}: enlarge canvas, allow more overlap, or lower counts"
    )


def overlaps(boxes: Int[Tensor, "n slots 4"], present: Bool[Tensor, "n slots"]) -> Float[Tensor, "n slots slots"]:
    """The intersection of every two present boxes of a scene, as a share of the smaller one; 0 for a box with itself."""
    start = torch.maximum(boxes[:, :, None, :2], boxes[:, None, :, :2])
    end = torch.minimum(boxes[:, :, None, 2:], boxes[:, None, :, 2:])
    area = (boxes[..., 2:] - boxes[..., :2]).prod(-1)
    share = (end - start).clamp(min=0).prod(-1) / torch.minimum(area[:, :, None], area[:, None])
    others = ~torch.eye(boxes.shape[1], dtype=torch.bool, device=boxes.device)
    return share * (present[:, :, None] & present[:, None] & others)


def place_diagonally(
    boxes: Int[Tensor, "n slots 4"], present: Bool[Tensor, "n slots"], layout: Layout, generator: torch.Generator
) -> Int[Tensor, "n slots 2"]:
    """The tutorial's rule, with its last place in x and y left out as there: the second at least half a size off in each.

    Pixels are clamped here; there, two digits could add up to more than 1.
    """
    (n, slots), source = present.shape, generator.device
    places = layout.canvas - layout.size  # one less than there are
    first = torch.randint(places, (n, 2, 1), generator=generator, device=source)
    offset = torch.arange(places, device=source) - first  # [n, 2, places]
    allowed = (offset < -(layout.size // 2)) | (offset >= layout.size // 2)
    chance = torch.rand(n, 2, places, generator=generator, device=source, dtype=torch.float32)
    second = chance.masked_fill(~allowed, -1).argmax(2, keepdim=True)
    return torch.cat((first, second), 2).mT[:, :slots].to(boxes.device)


def paste(
    stamps: Float[Tensor, "m size size"],
    which: Int[Tensor, "n slots"],
    corner: Int[Tensor, "n slots 2"],
    present: Bool[Tensor, "n slots"],
    layout: Layout,
) -> Float[Tensor, "n 1 canvas canvas"]:
    """All present stamps added onto empty canvases, in one go; pixels clamped to 1."""
    scene, slot = present.nonzero(as_tuple=True)
    x, y = corner[scene, slot].unbind(1)
    step = torch.arange(layout.size, device=stamps.device)
    rows = (scene * layout.canvas + y).view(-1, 1, 1) + step.view(-1, 1)
    pixels = rows * layout.canvas + x.view(-1, 1, 1) + step  # [objects, size, size], each an index into all canvases
    images = stamps.new_zeros(len(which) * layout.canvas**2)
    images.scatter_add_(0, pixels.flatten(), stamps[which[scene, slot]].flatten())
    return images.clamp_(max=1).view(-1, 1, layout.canvas, layout.canvas)


def make_sprites(n: int, seed: int = 0, split: str = "train") -> Digits:
    """n shapes to make scenes of, as digits are: filled discs, squares and triangles (labels 0, 1, 2) in different greys.

    28x28 pixels; radius 7 to 12 pixels, brightness 0.4 to 1, centre within 1 pixel of the middle, edges anti-aliased.
    Raises ValueError for fewer than one.
    """
    n = checks.count("n", n)
    generator = torch.Generator().manual_seed(checks.count("seed", seed, 0))
    labels = torch.randint(len(SHAPES), (n,), generator=generator)
    radius, grey, left, top = torch.rand(4, n, 1, 1, generator=generator, dtype=torch.float32)
    radius, line = 7 + 5 * radius, torch.arange(28, dtype=torch.float32) - 13.5
    x, y = line - (2 * left - 1), line.view(-1, 1) - (2 * top - 1)
    distance = torch.stack(  # to the edge, in pixels, below 0 inside: [shape, n, 28, 28]
        (
            torch.hypot(x, y) - radius,
            torch.maximum(x.abs(), y.abs()) - 0.8 * radius,
            torch.maximum(y - 0.6 * radius, (2 * x.abs() - y) / 5**0.5 - 0.5 * radius),
        )
    )[labels, torch.arange(n)]
    images = ((0.4 + 0.6 * grey) * (0.5 - distance).clamp(0, 1)).unsqueeze(1)
    return Digits(images, labels, "sprites", hashlib.sha256(images.numpy().tobytes()).hexdigest(), split)


def draw_strokes(
    strokes: Sequence[Sequence[tuple[float, float]]], canvas: int = 50, width: float = 2.5
) -> Float[Tensor, "1 1 canvas canvas"]:
    """A scene drawn by hand: lines through points (x, y) in pixels from the canvas's upper left corner, as wide as a digit's.

    A pixel is as bright as the share of it that lies within half a `width` of a line, about. Raises ValueError for a stroke
    of fewer than two points, points that are not finite, and a width that is not positive.
    """
    canvas, width = checks.side("canvas", canvas), checks.number("width", width, 0, open_low=True)
    if not isinstance(strokes, list | tuple | np.ndarray | Tensor):
        raise ValueError(f"strokes must be a list of strokes, each a list of points (x, y), got {strokes!r}")
    if short := [stroke for stroke in strokes if not hasattr(stroke, "__len__") or len(stroke) < 2]:
        raise ValueError(f"a stroke needs at least two points (x, y), got {short[0]}")
    middles = torch.arange(canvas, dtype=torch.float32) + 0.5
    pixels = torch.stack(torch.meshgrid(middles, middles, indexing="xy"), -1)  # [row, column, (x, y)]
    image = torch.zeros(canvas, canvas, dtype=torch.float32)
    for stroke in strokes:
        points = checks.as_tensor("a stroke", stroke).to(torch.float32)
        for start, end in pairwise(checks.finite("a stroke", points, ("points", 2), torch.float32)):
            along = end - start
            share = ((pixels - start) @ along / along.square().sum().clamp(min=1e-9)).clamp(0, 1)
            distance = (pixels - start - share.unsqueeze(2) * along).norm(dim=2)
            image = torch.maximum(image, (0.5 * width + 0.5 - distance).clamp(0, 1))
    return image.view(1, 1, canvas, canvas)
