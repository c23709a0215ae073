"""Handwritten digits on the device as whole tensors: MNIST where it can be had, scikit-learn's digits elsewhere."""

from __future__ import annotations

import contextlib
import errno
import gzip
import hashlib
import math
import os
import stat
import threading
import warnings
import zlib
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, fields
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import platformdirs
import torch
import torch.nn.functional as F
from jaxtyping import Float, Int
from torch import Tensor

from latentbook import checks, files
from latentbook.data.downloads import DownloadFailed, fetch

SPLITS = ("train", "test")
SOURCES = ("auto", "mnist", "offline")

# MD5 of the uncompressed files as LeCun, Cortes and Burges published them.
MNIST_MD5 = {
    "train-images-idx3-ubyte": "6bbc9ace898e44ae57da46a324031adb",
    "train-labels-idx1-ubyte": "a25bea736e30d166cdddb491f175f624",
    "t10k-images-idx3-ubyte": "2646ac647ad5339dbf082846283269ea",
    "t10k-labels-idx1-ubyte": "27ae3e4e09519cfbb04c329615203637",
}


class Wording(NamedTuple):
    """What those who ask for digits call their choices, so that a message can name what they typed."""

    root: str = "root="
    download: str = "download=True"
    offline: str = 'source="offline"'

    @property
    def how_to_get_mnist(self) -> str:
        """What to do where there is no MNIST."""
        return (
            f"To use MNIST, go online once (it is downloaded and cached), or name a folder by {self.root} or LATENTBOOK_DATA "
            "that holds MNIST/raw/*-ubyte (or *-ubyte.gz), the layout of torchvision.datasets.MNIST."
        )


PYTHON = Wording()
COMMAND = Wording("--data", "--download", "--offline")


class Batch(NamedTuple):
    """One mini-batch: images float32 [batch, 1, height, width] in [0, 1], labels int64 [batch]."""

    images: Tensor
    labels: Tensor


def check_batch(batch: Any, *parts: str) -> Any:
    """The batch itself. Raises ValueError unless it has the parts that a model reads, images if none is named."""
    hint = "give a Batch(images, labels), as Digits.batches does"
    return checks.has("batch", batch, *(parts or ["images"]), hint=hint)


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

    images: float32 [n, 1, height, width] in [0, 1], 28x28 for MNIST; labels: int64 [n]; source: "mnist", "offline" or
    another word for where they come from; sha256: hash over the raw image and label bytes; split: "train" or "test".
    Arrays, lists, bool and 0/1 images and narrower whole numbers are converted, labels moved to the images' device. Raises
    ValueError for anything else: other shapes or lengths, grey values outside [0, 1] or NaN, types that would be rounded.
    """

    images: Float[Tensor, "n 1 height width"]
    labels: Int[Tensor, " n"]
    source: str
    sha256: str
    split: str

    def __post_init__(self) -> None:
        for name in ("source", "sha256", "split"):
            if not isinstance(getattr(self, name), str):
                raise ValueError(f"{name} must be a string, got {getattr(self, name)!r}")
        shape, hint = ("n", 1, "height", "width"), "a picture has one channel: see unsqueeze(1)"
        images = checks.grey("images", self.images, shape, torch.float32, hint)
        labels = checks.as_tensor("labels", self.labels)
        if labels.ndim == 1:
            checks.same_length(images=images, labels=labels)
        labels = checks.class_numbers("labels", labels, len(images))
        object.__setattr__(self, "images", images)
        object.__setattr__(self, "labels", labels.to(images.device))

    def __len__(self) -> int:
        return len(self.labels)

    def to(self, device: str | torch.device) -> Digits:
        """The same digits on another device."""
        return self._each(lambda part: part.to(device=device) if isinstance(part, Tensor | Digits) else part)

    def take(self, index: Tensor | np.ndarray | Sequence[int] | slice) -> Digits:
        """A subset by numbers, a mask or a slice, in that order; the hash stays that of the whole split.

        index: whole numbers [m] from -n to n-1, bool [n], or a slice, which is cut at the end as Python's are.
        Raises ValueError for any other index, and for one that leaves nothing.
        """
        index = index if isinstance(index, slice) else self._numbers(index)
        some = self._each(lambda part: part[index] if isinstance(part, Tensor) else part)
        if len(some.labels) == 0:
            what = index if isinstance(index, slice) else "a mask or list without one"
            raise ValueError(f"at least one of {len(self.labels)} digits must be taken, got {what}")
        return some

    def batches(self, batch_size: int, generator: torch.Generator | None = None) -> Iterator[Batch]:
        """One epoch of mini-batches: a new order with a generator, the stored order without; the last may be smaller.

        The order is drawn on the generator's device, so a CPU generator gives the same order on every device.
        Raises ValueError, before the first batch is asked for, unless batch_size is a whole number of at least 1.
        """
        batch_size = checks.count("batch_size", batch_size)
        return self._batches(batch_size, checks.generator("generator", generator))

    def _batches(self, batch_size: int, generator: torch.Generator | None) -> Iterator[Batch]:
        if generator is None:
            order = torch.arange(len(self), device=self.images.device)
        else:
            order = torch.randperm(len(self), generator=generator, device=generator.device).to(self.images.device)
        for index in order.split(batch_size):
            yield Batch(self.images.index_select(0, index), self.labels.index_select(0, index))

    def _numbers(self, index: Tensor | np.ndarray | Sequence[int]) -> Tensor:
        """An index checked: what torch reports late, or on a GPU by ending the process, is a ValueError here."""
        hint = "give a slice, or a list of whole numbers or bools; slice(i, i + 1) for a single one"
        index, n = checks.as_tensor("index", index, hint), len(self.labels)
        whole = not (index.is_floating_point() or index.is_complex())
        mask = index.dtype == torch.bool
        if index.ndim != 1 or (mask and len(index) != n) or not (whole or len(index) == 0):
            raise ValueError(
                f"an index is a slice, whole numbers [m] or bool [{n}], got {index.dtype} {list(index.shape)}: "
                "use slice(i, i + 1) for a single one"
            )
        if not mask:
            index = index.long()
            low, high = (int(index.min()), int(index.max())) if len(index) and not index.is_meta else (0, 0)
            if low < -n or high >= n:
                raise ValueError(f"an index must lie in -{n}..{n - 1} for {n} digits, got {low}..{high}")
        return index.to(self.labels.device)

    def _each(self, change: Callable[[Any], Any]) -> Digits:
        """The same kind of digits with every field changed; made of checked values, they are not searched for NaN again."""
        other = object.__new__(type(self))
        for field in fields(self):
            object.__setattr__(other, field.name, change(getattr(self, field.name)))
        return other


def load_digits(
    split: str,
    root: str | os.PathLike[str] | None = None,
    device: str | torch.device = "cpu",
    source: str = "auto",
    download: bool = False,
    wording: Wording = PYTHON,
) -> Digits:
    """Load a whole split of handwritten digits onto a device.

    A folder that is named, by `root` or else by the environment variable LATENTBOOK_DATA (set and not empty), is final:
    MNIST is in it (in MNIST/raw, in raw or in the folder itself, as published or .gz), or that is an error. Only
    `download` fetches it into that folder, which is made if missing. Where no folder is named: the user's cache; else a
    download, kept in the cache if that can be written to; else, with source="auto", scikit-learn's 1,797 digits (8x8,
    enlarged) with a warning that says so. A download that fails is tried again in this process only with `download`,
    which ends in an error and never in the stand-in.

    split: "train" or "test". source: "auto", "mnist" (never the stand-in) or "offline" (never MNIST; LATENTBOOK_DATA is
    not looked at). wording: what a message calls these choices.
    Raises ValueError for an unknown split or source, a device that is not here, a root that is no path, source="offline"
    with a root or download, and a damaged file; FileNotFoundError where MNIST is asked for and cannot be had;
    PermissionError (or another OSError) for a named folder that cannot be read, or cannot be written to with `download`.
    """
    checks.choice("split", split, SPLITS)
    checks.choice("source", source, SOURCES)
    device = checks.device("device", device)
    chosen = _chosen(root, wording)
    if source == "offline":
        for name, given in ((wording.root, root is not None), (wording.download, download)):
            if given:
                raise ValueError(f"{name} is for MNIST, and {wording.offline} never uses it: leave one of them out")
        return _offline(split).to(device)
    if chosen:
        return _mnist(split, _from_folder(split, *chosen, download, wording)).to(device)
    try:
        parts, trouble = _from_cache(split, download)
    except _NotHere as error:
        if source == "mnist" or download:
            raise FileNotFoundError(f"{error}. {wording.how_to_get_mnist}") from error
        warnings.warn(
            f"{error}: using scikit-learn's 1,797 digits (8x8, enlarged). "
            f"Figures and numbers will differ from the book's. {wording.how_to_get_mnist}",
            OfflineDigitsWarning,
            stacklevel=2,
        )
        return _offline(split).to(device)
    if trouble:
        warnings.warn(
            f"MNIST was downloaded but not kept: {trouble}. Make that folder usable, or name another by "
            f"{wording.root} or LATENTBOOK_DATA with {wording.download}; else every start downloads it again.",
            stacklevel=2,
        )
    return _mnist(split, parts).to(device)


# Where the files are looked for

_ONE_AT_A_TIME = threading.Lock()  # threads that load at once: the first downloads, the others find its files


class _NotHere(Exception):
    """Neither the cache nor a download has MNIST; the message says why."""


def _chosen(root: str | os.PathLike[str] | None, wording: Wording) -> tuple[Path, str] | None:
    """The folder that was named and by what it was; None where none was."""
    if root is None:
        by, root = "LATENTBOOK_DATA", os.environ.get("LATENTBOOK_DATA")
        if not root:
            return None
    else:
        by = wording.root
        if not isinstance(root, str | os.PathLike) or not os.fspath(root):
            raise ValueError(f"{by} must name a folder, got {root!r}")
    return Path(os.path.expanduser(root)), by


def _names(split: str) -> list[str]:
    prefix = {"train": "train", "test": "t10k"}[split]
    return [f"{prefix}-images-idx3-ubyte", f"{prefix}-labels-idx1-ubyte"]


def _from_folder(split: str, folder: Path, by: str, download: bool, wording: Wording) -> list[bytes]:
    """The two files of a split from a folder that was named; what is missing is fetched into it if `download`."""
    with _ONE_AT_A_TIME:
        try:
            found = _read_all(split, folder)
        except OSError as error:
            raise type(error)(
                f"{folder}, named by {by}, cannot be read ({_reason(error)}): make it readable, or name another"
            ) from error
        missing = [name for name in _names(split) if name not in found]
        if missing and not download:
            raise FileNotFoundError(
                f"MNIST is not in {folder}, named by {by}: looked for {' and '.join(missing)} (or the same with .gz) in "
                f"MNIST/raw, in raw and in the folder itself; {_contents(folder)}. Name a folder that holds them, "
                f"or ask by {wording.download} to fetch them into this one."
            )
        raw = _home(folder)
        for name in missing:
            try:
                _try_writing(raw)
                found[name] = _download(name)
                _keep(raw / name, found[name])
            except DownloadFailed as error:
                raise FileNotFoundError(
                    f"MNIST is not in {folder}, named by {by}, and could not be downloaded ({error}): go online, or put "
                    f"{name} or {name}.gz there"
                ) from error
            except OSError as error:
                raise type(error)(
                    f"{folder}, named by {by}, cannot be written to ({_reason(error)}), so MNIST cannot be "
                    "fetched into it: make it writable, or name another"
                ) from error
    return [found[name] for name in _names(split)]


def _from_cache(split: str, again: bool) -> tuple[list[bytes], str]:
    """The two files of a split from the cache or a download, and why they could not be kept ("": they were).

    again: try a download even if one has failed in this process. Raises _NotHere where there is none.
    """
    folder, found, trouble = Path(platformdirs.user_cache_dir("latentbook")), {}, ""
    raw = _home(folder)
    with _ONE_AT_A_TIME:
        try:
            found = _read_all(split, folder)
            if len(found) < len(_names(split)):
                _try_writing(raw)
        except OSError as error:  # nobody asked for this folder, so MNIST may still come from elsewhere
            trouble = f"the cache {folder} cannot be used ({_reason(error)})"
        for name in _names(split):
            if name in found:
                continue
            try:
                found[name] = _download(name, again)
            except DownloadFailed as error:
                where = trouble or f"it is not in the cache {folder}"
                raise _NotHere(f"no MNIST: {where}, and it could not be downloaded ({error})") from error
            try:
                if not trouble:
                    _keep(raw / name, found[name])
            except OSError as error:
                trouble = f"the cache {folder} cannot be written to ({_reason(error)})"
    return [found[name] for name in _names(split)], trouble


def _read_all(split: str, folder: Path) -> dict[str, bytes]:
    """The files of a split that are in a folder, by their names. Raises OSError for what cannot be read."""
    paths = {name: _find(folder, name) for name in _names(split)}
    return {name: _read_checked(path, name) for name, path in paths.items() if path}


def _find(folder: Path, name: str) -> Path | None:
    """Where a file stands in or below a folder: torchvision's layout, the folder MNIST, or the folder raw itself."""
    for place in (folder / "MNIST" / "raw", folder / "raw", folder):
        for path in (place / name, place / f"{name}.gz"):
            with contextlib.suppress(FileNotFoundError, NotADirectoryError):  # any other OSError is for the caller
                if stat.S_ISREG(path.stat().st_mode):
                    return path
    return None


def _home(folder: Path) -> Path:
    """Where a download is put: MNIST/raw in the folder, unless that is what was named, or its MNIST."""
    if folder.parts[-2:] == ("MNIST", "raw"):
        return folder
    return folder / "raw" if folder.name == "MNIST" else folder / "MNIST" / "raw"


def _contents(folder: Path, most: int = 8) -> str:
    """What is in a folder where MNIST was looked for, for a message."""
    if not folder.is_dir():
        return "that is not a folder" if folder.exists() else "there is no such folder"
    told = []
    for place in (folder, folder / "raw", folder / "MNIST", folder / "MNIST" / "raw"):
        if place.is_dir():
            try:
                names = sorted(path.name for path in place.iterdir())
            except OSError as error:
                names = [f"what cannot be listed ({_reason(error)})"]
            more = f" and {len(names) - most} more" if len(names) > most else ""
            told.append(f"{place} holds {', '.join(names[:most]) or 'nothing'}{more}")
    return "; ".join(told)


def _read_checked(path: Path, name: str) -> bytes:
    """The uncompressed content of one MNIST file, which must have its published MD5."""
    content = path.read_bytes()
    with contextlib.suppress(OSError, EOFError, zlib.error):  # of a damaged .gz, whose bytes have the wrong MD5 as well
        content = gzip.decompress(content) if path.suffix == ".gz" else content
    if hashlib.md5(content).hexdigest() != MNIST_MD5[name]:
        raise ValueError(
            f"{path} is truncated or altered (its MD5 is not {MNIST_MD5[name]}). Delete it and load again."
        )
    return content


def _try_writing(folder: Path) -> None:
    """Raises OSError where files cannot be put into a folder; it is not made before there is something to put."""
    there = next(place for place in (folder, *folder.parents) if place.exists())
    if not there.is_dir():
        raise NotADirectoryError(errno.ENOTDIR, os.strerror(errno.ENOTDIR), str(there))
    files.check_writable(there / "train-images-idx3-ubyte", "MNIST")


def _keep(path: Path, content: bytes) -> None:
    """Put a checked file in its place, unless another process was quicker: its file has the same content."""
    if not path.is_file():
        try:
            files.write_whole(path, content)
        except OSError:
            if not path.is_file():
                raise


def _reason(error: OSError) -> str:
    """Why, in the system's words; files.check_writable gives its reason as the cause."""
    cause = error.__cause__ if isinstance(error.__cause__, OSError) else error
    return str(cause.strerror or cause)


def _mnist(split: str, parts: list[bytes]) -> Digits:
    images = torch.from_numpy(np.frombuffer(parts[0], np.uint8, offset=16).reshape(-1, 1, 28, 28).copy())
    labels = torch.from_numpy(np.frombuffer(parts[1], np.uint8, offset=8).astype(np.int64))
    return Digits(images.float() / 255, labels, "mnist", hashlib.sha256(b"".join(parts)).hexdigest(), split)


_FAILED: dict[tuple[str, ...], str] = {}  # mirrors -> why they failed, so that nobody waits for them twice


def _download(name: str, again: bool = True) -> bytes:
    """The checked content of one file from torchvision's mirrors. Raises DownloadFailed.

    again: ask them even if they have failed in this process.
    """
    from torchvision.datasets import MNIST  # imported here: only a download needs its list of mirrors

    def unpacked(answer: bytes) -> bytes:
        content = gzip.decompress(answer)
        if hashlib.md5(content).hexdigest() != MNIST_MD5[name]:
            raise ValueError("the file has the wrong MD5")
        return content

    mirrors = tuple(MNIST.mirrors)
    if mirrors in _FAILED and not again:
        raise DownloadFailed(f"tried before in this process: {_FAILED[mirrors]}")
    try:
        content = fetch([f"{mirror}{name}.gz" for mirror in mirrors], unpacked)
    except DownloadFailed as error:
        _FAILED[mirrors] = str(error)
        raise
    _FAILED.pop(mirrors, None)
    return content


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
