"""Data: MNIST and its stand-in, scenes made of digits, and how they are downloaded."""

from latentbook.data.digits import COMMAND, Batch, Digits, check_batch, flat_pixels, load_digits, square_images
from latentbook.data.downloads import DownloadFailed
from latentbook.data.scenes import Layout, Scenes, draw_scenes, draw_strokes, fresh_scenes, ink_boxes, make_sprites
from latentbook.data.splits import split_sprites, train_validation_split

__all__ = [
    "COMMAND",
    "Batch",
    "Digits",
    "DownloadFailed",
    "Layout",
    "Scenes",
    "check_batch",
    "draw_scenes",
    "draw_strokes",
    "flat_pixels",
    "fresh_scenes",
    "ink_boxes",
    "load_digits",
    "make_sprites",
    "split_sprites",
    "square_images",
    "train_validation_split",
]
