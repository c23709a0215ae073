"""Handwritten digits on the device as whole tensors: MNIST where it can be had, scikit-learn's digits elsewhere."""

from __future__ import annotations

import gzip
import hashlib
import http.client
import math
import os
import time
import urllib.error
import urllib.request
import warnings
import zlib
from collections.abc import Iterator
from dataclasses import dataclass, replace
from pathlib import Path
from typing import NamedTuple

import numpy as np
import platformdirs
import torch
import torch.nn.functional as F
from jaxtyping import Float, Int
from torch import Tensor

from latentbook import checks

SPLITS = ("train", "test")
SOURCES = ("auto", "mnist", "offline")

# MD5 of the uncompressed files as LeCun, Cortes and Burges published them.
MNIST_MD5 = {
    "train-images-idx3-ubyte": "6bbc9ace898e44ae57da46a324031adb",
    "train-labels-idx1-ubyte": "a25bea736e30d166cdddb491f175f624",
    "t10k-images-idx3-ubyte": "2646ac647ad5339dbf082846283269ea",
    "t10k-labels-idx1-ubyte": "27ae3e4e09519cfbb04c329615203637",
}
HOW_TO_GET_MNIST = (
    "To use MNIST, go online once (it is downloaded and cached), or pass root= (or set LATENTBOOK_DATA to) a folder that holds "
    "MNIST/raw/*-ubyte, the layout of torchvision.datasets.MNIST."
)


class Batch(NamedTuple):
    """One mini-batch: images float32 [batch, 1, 28, 28] in [0, 1], labels int64 [batch]."""

    images: Tensor
    labels: Tensor


def flat_pixels(
    images: Tensor, pixels: int, name: str = "images", like: Tensor | None = None
) -> Float[Tensor, "batch pixels"]:
    """Images [batch, ...] as rows of pixels, in the precision of `like`, a model's weights (None: torch's default one).

    Bool, bytes 0 and 1 and narrower floats are converted, arrays and lists also put on the device of `like`. Raises
    ValueError unless there is at least one image, each of so many pixels, all in [0, 1] and none of them NaN; and for a
    precision that would be rounded.
    """
    dtype, device = (None, None) if like is None else (like.dtype, like.device)
    images = checks.as_tensor(name, images, dtype=dtype, device=device)
    if images.ndim < 2 or len(images) == 0 or images[0].numel() != pixels:
        raise ValueError(f"{name} must hold {pixels} pixels for each of at least one example, got {list(images.shape)}")
    return checks.grey(name, images.flatten(1), ("batch", pixels), dtype)


def square_images(rows: Float[Tensor, "*batch pixels"]) -> Float[Tensor, "n 1 side side"]:
    """Rows of pixels as square images: the way back from `flat_pixels`."""
    side = math.isqrt(rows.shape[-1])
    return rows.reshape(-1, 1, side, side)


class OfflineDigitsWarning(UserWarning):
    """MNIST could not be had; scikit-learn's digits stand in for it."""


@dataclass(frozen=True)
class Digits:
    """A whole split on one device, with its provenance.

    images: float32 [n, 1, 28, 28] in [0, 1]; labels: int64 [n]; source: "mnist" or "offline";
    sha256: hash over the raw image and label bytes; split: "train" or "test".
    """

    images: Float[Tensor, "n 1 28 28"]
    labels: Int[Tensor, " n"]
    source: str
    sha256: str
    split: str

    def __len__(self) -> int:
        return len(self.labels)

    def to(self, device: str | torch.device) -> Digits:
        """The same digits on another device."""
        return replace(self, images=self.images.to(device), labels=self.labels.to(device))

    def take(self, index: Tensor | slice) -> Digits:
        """A subset by index or slice, in that order; the hash stays that of the whole split."""
        return replace(self, images=self.images[index], labels=self.labels[index])

    def batches(self, batch_size: int, generator: torch.Generator | None = None) -> Iterator[Batch]:
        """One epoch of mini-batches: a new order with a generator, the stored order without; the last may be smaller.

        The order is drawn on the generator's device, so a CPU generator gives the same order on every device.
        """
        if generator is None:
            order = torch.arange(len(self), device=self.images.device)
        else:
            order = torch.randperm(len(self), generator=generator, device=generator.device).to(self.images.device)
        for index in order.split(batch_size):
            yield Batch(self.images.index_select(0, index), self.labels.index_select(0, index))


def load_digits(
    split: str, root: str | Path | None = None, device: str | torch.device = "cpu", source: str = "auto"
) -> Digits:
    """Load a whole split of handwritten digits onto a device.

    Looked up in this order: `root`, else the environment variable LATENTBOOK_DATA, else the user's cache folder; where the
    files are missing, a download into that folder; with source="auto" and no download, scikit-learn's 1,797 digits
    (8x8, enlarged), with one warning that says so.

    split: "train" or "test". source: "auto", "mnist" (never the stand-in) or "offline" (never MNIST).
    Raises ValueError for an unknown split or source or a damaged file, PermissionError for a root that cannot be written
    to, FileNotFoundError where MNIST is asked for and cannot be had.
    """
    for name, given, allowed in (("split", split, SPLITS), ("source", source, SOURCES)):
        if given not in allowed:
            raise ValueError(f"{name} must be one of {', '.join(allowed)}, got {given!r}")
    if source == "offline":
        return _offline(split).to(device)
    chosen = root or os.environ.get("LATENTBOOK_DATA")
    folder = Path(chosen or platformdirs.user_cache_dir("latentbook")).expanduser()
    try:
        return _mnist(split, folder / "MNIST" / "raw").to(device)
    except OSError as error:
        if isinstance(error, PermissionError) and chosen:
            raise  # a folder that was asked for is a mistake to be told, never papered over by the stand-in
        if source == "mnist":
            raise FileNotFoundError(
                f"MNIST is not in {folder} and no download worked ({error}). {HOW_TO_GET_MNIST}"
            ) from error
        warnings.warn(
            "MNIST is not here and could not be downloaded: using scikit-learn's 1,797 digits (8x8, enlarged). "
            f"Figures and numbers will differ from the book's. {HOW_TO_GET_MNIST}",
            OfflineDigitsWarning,
            stacklevel=2,
        )
        return _offline(split).to(device)


def _mnist(split: str, raw: Path) -> Digits:
    prefix = {"train": "train", "test": "t10k"}[split]
    parts = [_read_checked(raw / f"{prefix}-{kind}-ubyte") for kind in ("images-idx3", "labels-idx1")]
    images = torch.from_numpy(np.frombuffer(parts[0], np.uint8, offset=16).reshape(-1, 1, 28, 28).copy())
    labels = torch.from_numpy(np.frombuffer(parts[1], np.uint8, offset=8).astype(np.int64))
    return Digits(images.float() / 255, labels, "mnist", hashlib.sha256(b"".join(parts)).hexdigest(), split)


def _read_checked(path: Path) -> bytes:
    """The bytes of one uncompressed MNIST file, fetched if missing, checked against its published MD5."""
    if not path.exists():
        _download(path)
    content = path.read_bytes()
    if hashlib.md5(content).hexdigest() != MNIST_MD5[path.name]:
        raise ValueError(
            f"{path} is truncated or altered (its MD5 is not {MNIST_MD5[path.name]}). Delete it and load again."
        )
    return content


def _download(path: Path, timeout: float = 10.0, deadline: float = 120.0) -> None:
    """Fetch one file from torchvision's mirrors; a silent server is left after `timeout` s, a slow one after `deadline` s."""
    writable = next(folder for folder in path.parents if folder.exists())
    if not os.access(writable, os.W_OK):
        raise PermissionError(
            f"{writable} is not writable, so MNIST cannot be put there. Pass a root= that you may write to."
        )
    path.parent.mkdir(parents=True, exist_ok=True)
    from torchvision.datasets import MNIST  # imported here: only a download needs its list of mirrors

    problems = []
    for mirror in MNIST.mirrors:
        try:
            content = gzip.decompress(_fetch(f"{mirror}{path.name}.gz", timeout, time.monotonic() + deadline))
            if hashlib.md5(content).hexdigest() != MNIST_MD5[path.name]:
                raise OSError("the file has the wrong MD5")
        except (OSError, EOFError, zlib.error, http.client.HTTPException) as error:
            problems.append(f"{mirror}: {error}")
            continue
        partial = path.with_name(f"{path.name}.{os.getpid()}.partial")
        try:
            partial.write_bytes(content)
            os.replace(partial, path)  # whole or not at all
        finally:
            partial.unlink(missing_ok=True)
        return
    raise FileNotFoundError("; ".join(problems))


def _fetch(url: str, timeout: float, end: float) -> bytes:
    chunks = []
    with urllib.request.urlopen(url, timeout=timeout) as response:
        while chunk := response.read1(1 << 16):
            chunks.append(chunk)
            if time.monotonic() > end:
                raise TimeoutError("too slow, given up")
    return b"".join(chunks)


def _offline(split: str) -> Digits:
    """scikit-learn's 8x8 digits, enlarged to 20x20 in the middle of 28x28 as MNIST's are; every fifth one is a test digit."""
    from sklearn.datasets import load_digits as load_small

    small = load_small()
    kept = (np.arange(len(small.target)) % 5 == 0) == (split == "test")
    pixels = torch.tensor(small.images[kept] / 16, dtype=torch.float32).unsqueeze(1)
    images = F.pad(F.interpolate(pixels, size=(20, 20), mode="bilinear", align_corners=False), (4, 4, 4, 4))
    labels = torch.tensor(small.target[kept], dtype=torch.int64)
    sha256 = hashlib.sha256(small.images[kept].tobytes() + small.target[kept].tobytes()).hexdigest()
    return Digits(images, labels, "offline", sha256, split)
