"""The digits: where they come from, in which order, and what happens when they are damaged or cannot be had."""

from __future__ import annotations

import gzip
import hashlib
import inspect
import math
import os
import re
import socket
import struct
import threading
import warnings
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch.utils.data import DataLoader
from unit_harness import http

from latentbook.data import digits as data
from latentbook.data.digits import Batch, Digits, OfflineDigitsWarning, flat_pixels, load_digits

SIZES = {"train": 7, "t10k": 3}


def idx_files() -> dict[str, bytes]:
    """The four files of a tiny MNIST, in the format of the real one."""
    draw, made = np.random.default_rng(0), {}
    for prefix, n in SIZES.items():
        images = draw.integers(0, 256, (n, 28, 28), dtype=np.uint8)
        images[0, 0, :2] = (0, 255)
        made[f"{prefix}-images-idx3-ubyte"] = struct.pack(">IIII", 2051, n, 28, 28) + images.tobytes()
        made[f"{prefix}-labels-idx1-ubyte"] = (
            struct.pack(">II", 2049, n) + draw.integers(0, 10, n, dtype=np.uint8).tobytes()
        )
    return made


FILES = idx_files()


@pytest.fixture(autouse=True)
def surroundings(monkeypatch, tmp_path):
    """No network, no real cache, no environment: the tiny MNIST's hashes stand for the real ones."""
    for name, content in FILES.items():
        monkeypatch.setitem(data.MNIST_MD5, name, hashlib.md5(content).hexdigest())
    monkeypatch.delenv("LATENTBOOK_DATA", raising=False)
    monkeypatch.setenv("no_proxy", "*")
    monkeypatch.setattr(data.platformdirs, "user_cache_dir", lambda *_: str(tmp_path / "cache"))
    monkeypatch.setattr(data, "_FAILED", {})
    set_mirrors(monkeypatch)


def set_mirrors(monkeypatch, *addresses: str) -> None:
    from torchvision.datasets import MNIST

    monkeypatch.setattr(MNIST, "mirrors", list(addresses))


def write_mnist(root: Path) -> Path:
    raw = root / "MNIST" / "raw"
    raw.mkdir(parents=True)
    for name, content in FILES.items():
        (raw / name).write_bytes(content)
    return root


def everything_below(folder: Path) -> list[Path]:
    return [path for path in folder.rglob("*") if path.is_file()]


@pytest.fixture
def serve(server, monkeypatch):
    """Start a mirror that answers by `answer(connection, name of the file asked for)`; returns the names asked for."""

    def start(answer=None) -> list[str]:
        address, asked = server(answer or give)
        set_mirrors(monkeypatch, address)
        return asked

    return start


def give(connection, name: str) -> None:
    connection.sendall(http(gzip.compress(FILES[name.removesuffix(".gz")])))


def forbidden(*_):
    pytest.fail("nothing may be downloaded here")


# The offline digits


@pytest.mark.parametrize(("split", "n"), [("train", 1437), ("test", 360)])
def test_offline_digits_have_the_promised_form(split, n):
    digits = load_digits(split, source="offline")
    assert (digits.split, digits.source, len(digits)) == (split, "offline", n)
    assert digits.images.shape == (n, 1, 28, 28) and digits.images.dtype == torch.float32
    assert digits.labels.shape == (n,) and digits.labels.dtype == torch.int64
    assert digits.images.min() == 0 and digits.images.max() == 1
    assert sorted(digits.labels.unique().tolist()) == list(range(10))
    frame = digits.images.clone()
    frame[:, :, 4:24, 4:24] = 0
    assert frame.abs().max() == 0  # centred like MNIST's: four empty pixels all round


@pytest.mark.parametrize("split", ["train", "test"])
def test_offline_digits_are_scikit_learns_with_their_hash(split):
    from sklearn.datasets import load_digits as load_small

    small, digits = load_small(), load_digits(split, source="offline")
    index = [i for i in range(1797) if (i % 5 == 0) == (split == "test")]
    assert digits.labels.tolist() == small.target[index].tolist()
    assert digits.sha256 == hashlib.sha256(small.images[index].tobytes() + small.target[index].tobytes()).hexdigest()
    shrunk = torch.nn.functional.adaptive_avg_pool2d(digits.images[:, 0, 4:24, 4:24], 8)
    correlation = np.corrcoef(shrunk.flatten().numpy(), small.images[index].ravel())[0, 1]
    assert correlation > 0.95  # the pictures belong to those labels, upright


def test_offline_never_looks_for_mnist(monkeypatch, tmp_path):
    monkeypatch.setenv("LATENTBOOK_DATA", str(tmp_path / "missing"))
    assert load_digits("test", source="offline").source == "offline"


@pytest.mark.parametrize("choice", [{"root": "here"}, {"download": True}])
def test_offline_with_a_choice_that_it_would_ignore(choice, monkeypatch, tmp_path):
    monkeypatch.chdir(tmp_path)
    (name,) = choice
    with pytest.raises(ValueError, match=f'{name}=.* is for MNIST, and source="offline" never uses it'):
        load_digits("test", source="offline", **choice)
    with pytest.raises(ValueError, match=r"^--(data|download) is for MNIST, and --offline never uses it"):
        load_digits("test", source="offline", wording=data.COMMAND, **choice)


# A folder that is named


@pytest.mark.parametrize(("split", "prefix"), [("train", "train"), ("test", "t10k")])
def test_mnist_files_are_read(tmp_path, split, prefix):
    digits = load_digits(split, root=write_mnist(tmp_path), source="mnist")
    pictures, names = FILES[f"{prefix}-images-idx3-ubyte"], FILES[f"{prefix}-labels-idx1-ubyte"]
    assert (digits.source, digits.split, len(digits)) == ("mnist", split, SIZES[prefix])
    assert digits.images.shape == (SIZES[prefix], 1, 28, 28) and digits.images.dtype == torch.float32
    assert digits.labels.dtype == torch.int64 and digits.labels.tolist() == list(names[8:])
    torch.testing.assert_close(digits.images.flatten() * 255, torch.tensor(list(pictures[16:]), dtype=torch.float32))
    assert digits.images.min() == 0 and digits.images.max() == 1
    assert digits.sha256 == hashlib.sha256(pictures + names).hexdigest()


@pytest.mark.parametrize("named", [".", "MNIST", "MNIST/raw"])
@pytest.mark.parametrize("packed", ["plain", "gz", "gz unpacked by a browser", "mixed"])
def test_every_layout_gives_the_same_digits(tmp_path, named, packed):
    wanted = load_digits("test", root=write_mnist(tmp_path / "wanted"))
    raw = write_mnist(tmp_path / "other") / "MNIST" / "raw"
    for path in raw.iterdir():
        if packed == "gz" or (packed == "mixed" and "labels" in path.name):
            path.write_bytes(gzip.compress(path.read_bytes()))
        if packed not in ("plain", "mixed") or (packed == "mixed" and "labels" in path.name):
            path.rename(f"{path}.gz")
    found = load_digits("test", root=tmp_path / "other" / named)
    assert torch.equal(found.images, wanted.images) and torch.equal(found.labels, wanted.labels)
    assert found.sha256 == wanted.sha256


def named(by: str, folder: Path, monkeypatch) -> dict:
    """The arguments that name a folder in one of the three ways."""
    if by == "LATENTBOOK_DATA":
        monkeypatch.setenv("LATENTBOOK_DATA", str(folder))
        return {}
    return {"root": str(folder), "wording": data.COMMAND if by == "--data" else data.PYTHON}


@pytest.mark.parametrize("by", ["root=", "--data", "LATENTBOOK_DATA"])
@pytest.mark.parametrize("source", ["auto", "mnist"])
def test_a_mistyped_folder_is_an_error_and_not_made(by, source, monkeypatch, tmp_path):
    write_mnist(tmp_path / "cache")
    monkeypatch.setattr(data, "_download", forbidden)
    folder = tmp_path / "mnits"
    with pytest.raises(FileNotFoundError) as caught:
        load_digits("test", source=source, **named(by, folder, monkeypatch))
    said = str(caught.value)
    for part in (
        f"{folder}, named by {by}:",
        "t10k-images-idx3-ubyte",
        "t10k-labels-idx1-ubyte",
        ".gz",
        "no such folder",
    ):
        assert part in said
    assert "\n" not in said and "could not be downloaded" not in said
    assert ("--download" in said, "download=True" in said, "root=" in said) == (
        by == "--data",
        by != "--data",
        by == "root=",
    )
    assert not folder.exists()


def test_what_was_found_is_told_and_only_what_is_missing_is_named(tmp_path):
    raw = write_mnist(tmp_path / "here") / "MNIST" / "raw"
    (raw / "t10k-labels-idx1-ubyte").rename(raw / "labels.txt")
    with pytest.raises(FileNotFoundError) as caught:
        load_digits("test", root=tmp_path / "here")
    said = str(caught.value)
    assert f"{raw} holds labels.txt, t10k-images-idx3-ubyte, train-" in said
    assert "looked for t10k-labels-idx1-ubyte (or" in said


@pytest.mark.parametrize(
    ("make", "told"), [(Path.mkdir, "holds nothing"), (lambda path: path.write_text("x"), "is not a folder")]
)
def test_an_empty_folder_and_a_file(tmp_path, make, told):
    make(tmp_path / "here")
    with pytest.raises(FileNotFoundError, match=told):
        load_digits("test", root=tmp_path / "here")


def test_explicit_root_comes_before_the_environment(monkeypatch, tmp_path):
    monkeypatch.setenv("LATENTBOOK_DATA", str(tmp_path / "elsewhere"))
    assert load_digits("test", root=write_mnist(tmp_path / "here")).source == "mnist"


def test_a_root_without_files_is_not_silently_replaced_by_the_environments(monkeypatch, tmp_path):
    monkeypatch.setenv("LATENTBOOK_DATA", str(write_mnist(tmp_path / "environment")))
    with pytest.raises(FileNotFoundError, match="here"):
        load_digits("test", root=tmp_path / "here", source="mnist")


def test_environment_comes_before_the_cache(monkeypatch, tmp_path):
    damaged = write_mnist(tmp_path / "cache") / "MNIST" / "raw" / "t10k-labels-idx1-ubyte"
    damaged.write_bytes(b"never read")
    monkeypatch.setenv("LATENTBOOK_DATA", str(write_mnist(tmp_path / "environment")))
    assert load_digits("test").source == "mnist"


def test_an_empty_variable_is_none_and_an_empty_root_a_mistake(monkeypatch, tmp_path):
    write_mnist(tmp_path / "cache")
    monkeypatch.setenv("LATENTBOOK_DATA", "")
    assert load_digits("test").source == "mnist"
    for root in ("", 3, True, b"x"):
        with pytest.raises(ValueError, match=f"^--data must name a folder, got {root!r}"):
            load_digits("test", root=root, wording=data.COMMAND)


def test_a_home_folder_is_meant_by_a_tilde(monkeypatch, tmp_path):
    monkeypatch.setenv("HOME", str(tmp_path))
    monkeypatch.setenv("USERPROFILE", str(tmp_path))
    write_mnist(tmp_path / "here")
    assert load_digits("test", root="~/here").source == "mnist"


@pytest.mark.parametrize("source", ["auto", "mnist"])
@pytest.mark.parametrize("by", ["root=", "LATENTBOOK_DATA"])
def test_a_folder_that_cannot_be_read_is_told(by, source, monkeypatch, tmp_path):
    write_mnist(tmp_path / "here")
    allowed = Path.stat

    def stat(path, **options):
        if tmp_path / "here" in path.parents:
            raise PermissionError(13, "Permission denied", str(path))
        return allowed(path, **options)

    monkeypatch.setattr(Path, "stat", stat)
    with pytest.raises(PermissionError, match=rf"here, named by {by}, cannot be read \(Permission denied\): make it"):
        load_digits("test", source=source, **named(by, tmp_path / "here", monkeypatch))


@pytest.mark.skipif(not hasattr(os, "geteuid") or os.geteuid() == 0, reason="root may read and write anywhere")
@pytest.mark.parametrize(("mode", "options", "told"), [(0, {}, "read"), (0o500, {"download": True}, "written to")])
def test_a_folder_without_rights_is_told(tmp_path, mode, options, told):
    tmp_path.chmod(mode)
    try:
        with pytest.raises(PermissionError, match=f"cannot be {told}"):
            load_digits("test", root=tmp_path, **options)
    finally:
        tmp_path.chmod(0o700)


def test_a_read_only_root_that_holds_the_files_serves(monkeypatch, tmp_path):
    write_mnist(tmp_path)
    monkeypatch.setattr(data.files, "check_writable", None)
    assert load_digits("test", root=tmp_path, download=True).source == "mnist"


# A download into a named folder


@pytest.mark.parametrize("by", ["root=", "LATENTBOOK_DATA"])
@pytest.mark.parametrize("folder", ["new", "new/MNIST", "new/MNIST/raw"])
def test_download_fetches_into_the_named_folder(by, folder, serve, monkeypatch, tmp_path):
    asked, choice = serve(), named(by, tmp_path / folder, monkeypatch)
    assert load_digits("test", download=True, **choice).source == "mnist"
    assert sorted(everything_below(tmp_path)) == sorted(
        tmp_path / "new" / "MNIST" / "raw" / name for name in FILES if name.startswith("t10k")
    )
    assert load_digits("test", **choice).source == load_digits("test", download=True, **choice).source == "mnist"
    assert len(asked) == 2  # it is there now


def test_download_fetches_only_what_is_missing(serve, tmp_path):
    asked, raw = serve(), write_mnist(tmp_path) / "MNIST" / "raw"
    (raw / "t10k-labels-idx1-ubyte").unlink()
    load_digits("test", root=tmp_path, download=True)
    assert asked == ["t10k-labels-idx1-ubyte.gz"]


def test_a_download_that_fails_is_an_error_and_makes_nothing(tmp_path):
    with pytest.raises(FileNotFoundError, match=r"new, named by root=, and could not be downloaded \(no address"):
        load_digits("test", root=tmp_path / "new", download=True)
    with pytest.raises(FileNotFoundError, match="could not be downloaded"):
        load_digits("test", download=True)  # no stand-in for what was asked for
    assert list(tmp_path.iterdir()) == []


def test_a_folder_that_cannot_be_written_to_is_told_before_the_download(serve, tmp_path):
    asked = serve()
    (tmp_path / "file").write_text("x")
    with pytest.raises(NotADirectoryError, match=r"--data, cannot be written to \(Not a directory\), so MNIST cannot"):
        load_digits("test", root=tmp_path / "file" / "new", download=True, wording=data.COMMAND)
    assert asked == []


# No folder is named: the cache, a download, the stand-in


def test_cache_comes_before_a_download(monkeypatch, tmp_path):
    write_mnist(tmp_path / "cache")
    monkeypatch.setattr(data, "_download", forbidden)
    assert load_digits("train").source == "mnist"


def test_download_comes_before_the_offline_digits_and_is_kept(serve, tmp_path):
    asked = serve()
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        digits = load_digits("test")
    assert digits.source == "mnist" and len(digits) == 3
    assert asked == ["t10k-images-idx3-ubyte.gz", "t10k-labels-idx1-ubyte.gz"]
    kept = everything_below(tmp_path / "cache")
    assert {path.name: path.read_bytes() for path in kept} == {n: c for n, c in FILES.items() if n.startswith("t10k")}
    load_digits("test", source="mnist")
    assert len(asked) == 2  # the second call asks no server


def test_the_second_mirror_is_tried(serve, monkeypatch):
    from torchvision.datasets import MNIST

    serve()
    with socket.create_server(("127.0.0.1", 0)) as closed:
        port = closed.getsockname()[1]
    set_mirrors(monkeypatch, f"http://127.0.0.1:{port}/", *MNIST.mirrors)
    assert load_digits("test").source == "mnist"


def test_a_mirror_with_another_file_is_no_mirror(serve, tmp_path):
    serve(lambda connection, name: give(connection, "train-labels-idx1-ubyte.gz"))
    with pytest.raises(
        FileNotFoundError, match=r"http://127.0.0.1.*t10k-images-idx3-ubyte.gz: the file has the wrong MD5"
    ):
        load_digits("test", source="mnist")
    assert everything_below(tmp_path) == []


@pytest.mark.parametrize("source", ["auto", "mnist"])
@pytest.mark.parametrize("fault", ["read", "write", "keep"])
def test_a_cache_that_cannot_be_used_is_named_and_mnist_is_used_without_it(fault, source, serve, monkeypatch, tmp_path):
    """Nobody asked for the cache folder, so it is no mistake of the reader's; but every start downloads again."""
    serve()

    def denied(path, *_):
        raise PermissionError(13, "Permission denied", str(path))

    if fault == "write":
        (tmp_path / "cache").write_text("a file where the folder should be")
    else:
        monkeypatch.setattr(
            *{"read": (data, "_read_all"), "keep": (data.files, "write_whole")}[fault], lambda *_: denied("x")
        )
    with pytest.warns(
        UserWarning, match=rf"not kept: the cache {re.escape(str(tmp_path / 'cache'))} cannot be .*(denied|Not a)"
    ):
        digits = load_digits("test", source=source)
    assert (digits.source, len(digits)) == ("mnist", 3)
    set_mirrors(monkeypatch)
    with pytest.warns(OfflineDigitsWarning, match=f"cache {re.escape(str(tmp_path / 'cache'))}"):
        assert load_digits("test").source == "offline"


def test_fallback_warns_once_a_call_at_the_callers_line(tmp_path):
    for _ in range(2):
        with warnings.catch_warnings(record=True) as caught:
            warnings.simplefilter("default")
            digits = inspect.unwrap(load_digits)("test")  # without the frames of the shape checks
        assert digits.source == "offline" and digits.sha256 == load_digits("test", source="offline").sha256
        assert [warning.category for warning in caught] == [OfflineDigitsWarning]
        assert caught[0].filename == __file__
        said = str(caught[0].message)
        for part in ("scikit-learn", "could not be downloaded (", "root=", "LATENTBOOK_DATA", str(tmp_path / "cache")):
            assert part in said
    assert issubclass(OfflineDigitsWarning, UserWarning)  # shown without any setting
    assert everything_below(tmp_path) == []


def test_source_mnist_with_none_to_be_had_says_how_to_get_it():
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        with pytest.raises(FileNotFoundError, match=r"not in the cache .*--data or LATENTBOOK_DATA.*MNIST/raw"):
            load_digits("train", source="mnist", wording=data.COMMAND)


def test_a_failure_is_remembered_until_a_download_is_asked_for(serve, monkeypatch):
    """Neither the other split nor a later call waits again."""
    good = threading.Event()
    asked = serve(lambda connection, name: good.is_set() and give(connection, name))
    with pytest.warns(OfflineDigitsWarning, match=r"could not be downloaded \(http://127"):
        load_digits("train")
    assert len(asked) == 1
    good.set()
    for split in ("test", "train"):
        with pytest.warns(OfflineDigitsWarning, match=r"could not be downloaded \(tried before in this process: http"):
            load_digits(split)
    with pytest.raises(FileNotFoundError, match="tried before"):
        load_digits("test", source="mnist")
    assert len(asked) == 1
    assert (
        load_digits("train", download=True).source == load_digits("test").source == "mnist"
    )  # a success is a new start
    assert len(asked) == 5


def test_other_mirrors_are_no_longer_those_that_failed(serve):
    with pytest.warns(OfflineDigitsWarning):
        load_digits("test")
    serve()
    assert load_digits("test").source == "mnist"


# Several at once


def test_threads_that_load_at_once_download_once_and_have_the_same(serve, tmp_path):
    asked, together = serve(), threading.Barrier(4)

    def load(_):
        together.wait()
        return load_digits("test")

    with ThreadPoolExecutor(4) as pool:
        found = list(pool.map(load, range(4)))
    assert all(torch.equal(each.images, found[0].images) and each.source == "mnist" for each in found)
    assert len(asked) == 2
    assert {path.name for path in everything_below(tmp_path)} == {name for name in FILES if name.startswith("t10k")}


@pytest.mark.parametrize("fault", [None, "the file is open elsewhere"])
def test_the_loser_of_a_race_uses_the_winners_file(fault, serve, monkeypatch, tmp_path):
    """Another process puts its file there while this one downloads."""
    raw = tmp_path / "cache" / "MNIST" / "raw"

    def win(connection, name):
        raw.mkdir(parents=True, exist_ok=True)
        (raw / name.removesuffix(".gz")).write_bytes(FILES[name.removesuffix(".gz")])
        give(connection, name)

    serve(win)

    def write_whole(path, content):
        raise PermissionError(fault)

    monkeypatch.setattr(data.files, "write_whole", write_whole)
    if fault:  # it comes between the look and the writing
        monkeypatch.setattr(Path, "is_file", lambda path, looks=[False, True, False, True]: looks.pop(0))
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        assert load_digits("test").source == "mnist"


def test_temporary_names_are_nobody_elses(serve, monkeypatch, tmp_path):
    """Two containers have the same process ids."""
    serve()
    monkeypatch.setattr(os, "getpid", lambda: 1)
    names, replace = [], os.replace
    monkeypatch.setattr(
        os, "replace", lambda source, target: names.append(Path(source).name) or replace(source, target)
    )
    for folder in ("one", "other"):
        load_digits("test", root=tmp_path / folder, download=True)
    assert len(set(names)) == 4


# Damage and mistakes


@pytest.mark.parametrize("source", ["auto", "mnist"])
@pytest.mark.parametrize("name", ["t10k-images-idx3-ubyte", "t10k-labels-idx1-ubyte"])
@pytest.mark.parametrize("damage", ["truncated", "altered", "truncated.gz"])
@pytest.mark.parametrize("place", ["root", "cache"])
def test_damaged_files_are_named_and_left_alone(tmp_path, name, damage, source, place):
    path = write_mnist(tmp_path / "cache") / "MNIST" / "raw" / name
    content = bytearray(path.read_bytes())
    if damage == "truncated.gz":
        path.unlink()
        path, content = Path(f"{path}.gz"), bytearray(gzip.compress(content))
    else:
        content[-1] ^= 1
    path.write_bytes(content if damage == "altered" else content[:-1])
    before = path.read_bytes()
    with pytest.raises(ValueError, match=f"{path.name} is truncated or altered.*Delete it"):
        load_digits("test", root=tmp_path / "cache" if place == "root" else None, source=source)
    assert path.read_bytes() == before


@pytest.mark.parametrize("split", ["validation", "Train", ""])
def test_unknown_split(split):
    with pytest.raises(ValueError, match=f"split must be one of train, test, got '{split}'"):
        load_digits(split, source="offline")


@pytest.mark.parametrize("source", ["sklearn", "MNIST", None])
def test_unknown_source(source):
    with pytest.raises(ValueError, match=f"source must be one of auto, mnist, offline, got {source!r}"):
        load_digits("test", source=source)


def test_a_write_that_fails_leaves_nothing(serve, monkeypatch, tmp_path):
    serve()

    def broken(source, target):
        raise OSError("the disk is full")

    monkeypatch.setattr(os, "replace", broken)
    with pytest.raises(OSError, match=r"cannot be written to \(the disk is full\)"):
        load_digits("test", root=tmp_path, download=True)
    assert everything_below(tmp_path) == []


# The container


def digits_of(images, labels, **about) -> Digits:
    return Digits(images, labels, **{"source": "own", "sha256": "", "split": "train"} | about)


IMAGES = torch.rand(6, 1, 28, 28)
LABELS = torch.arange(6)


@pytest.mark.parametrize(
    "images",
    [
        IMAGES,
        IMAGES.numpy(),
        IMAGES.tolist(),
        IMAGES.half(),
        IMAGES.round().bool(),
        IMAGES.round().to(torch.uint8).numpy(),
        torch.rand(6, 1, 14, 14),
        torch.rand(6, 1, 20, 30),
    ],
    ids=["tensor", "array", "list", "half", "bool", "0/1 bytes", "14x14", "20x30"],
)
@pytest.mark.parametrize("default", [torch.float32, torch.float64])
def test_images_are_converted_where_that_is_exact(images, default):
    if isinstance(images, list) and default == torch.float64:
        pytest.skip("a list has torch's default precision")
    before = torch.get_default_dtype()
    torch.set_default_dtype(default)
    try:
        found = digits_of(images, LABELS).images
    finally:
        torch.set_default_dtype(before)
    assert found.dtype == torch.float32 and torch.equal(found, torch.as_tensor(images).float())


@pytest.mark.parametrize(
    "labels",
    [LABELS, LABELS.int(), LABELS.to(torch.uint8), LABELS.tolist(), LABELS.numpy(), LABELS.numpy().astype("i2")],
)
def test_labels_become_int64(labels):
    found = digits_of(IMAGES, labels).labels
    assert found.dtype == torch.int64 and found.tolist() == [0, 1, 2, 3, 4, 5]


@pytest.mark.parametrize(
    ("images", "labels", "message"),
    [
        (torch.rand(100, 1, 28, 28), torch.zeros(60).long(), "as many images as labels, got 100 images, 60 labels"),
        (torch.rand(60, 1, 28, 28), torch.zeros(100).long(), "as many images as labels, got 60 images, 100 labels"),
        (IMAGES, LABELS[:, None], r"labels must be \[6\], one for each example, got \[6, 1\]"),
        (IMAGES, LABELS.float(), "labels must be whole numbers"),
        (IMAGES, None, "labels must hold numbers, got None"),
        (IMAGES, list("abcdef"), "labels must hold numbers"),
        (None, LABELS, "images must hold numbers, got None"),
        (DataLoader([1]), LABELS, "images must hold numbers, got a DataLoader"),
        (IMAGES.double(), LABELS, r"images must be float32 here, got torch.float64.*images.to\(torch.float32\)"),
        (IMAGES * 255, LABELS, r"images must hold grey values in \[0, 1\].*divide bytes by 255"),
        ((IMAGES * 255).byte(), LABELS, r"images must hold grey values in \[0, 1\].*divide bytes by 255"),
        ((IMAGES * 255).byte().numpy(), LABELS, "divide bytes by 255"),
        (IMAGES.masked_fill(IMAGES[4, 0, 3, 3] == IMAGES, math.nan), LABELS, "without NaN"),
        (IMAGES[:, 0], LABELS, r"\[n, 1, height, width\], nothing empty, got \[6, 28, 28\].*unsqueeze"),
        (IMAGES.expand(-1, 3, -1, -1), LABELS, r"\[n, 1, height, width\]"),
        (IMAGES[:0], LABELS[:0], "nothing empty"),
    ],
)
def test_what_is_not_one_split_of_pictures(images, labels, message):
    with pytest.raises(ValueError, match=message):
        digits_of(images, labels)


def test_the_provenance_is_told_in_words():
    with pytest.raises(ValueError, match="sha256 must be a string, got None"):
        digits_of(IMAGES, LABELS, sha256=None)


@pytest.mark.gpu
def test_labels_and_index_follow_the_images_to_their_device():
    digits = digits_of(IMAGES.cuda(), LABELS.tolist())
    assert digits.labels.device == digits.images.device
    assert digits.take([3, 1]).labels.tolist() == [3, 1]
    assert [batch.labels.tolist() for batch in digits.batches(4)] == [[0, 1, 2, 3], [4, 5]]
    with pytest.raises(ValueError, match="must lie in"):
        digits.take([6])


# Batches


def numbered(n: int) -> Digits:
    """Digits that carry their own position: image i is filled with i / 1000, label i."""
    images = (torch.arange(n) / 1000).view(n, 1, 1, 1).expand(n, 1, 28, 28).contiguous()
    return Digits(images, torch.arange(n), "offline", "", "train")


@settings(max_examples=40, deadline=None)
@given(n=st.integers(1, 60), size=st.integers(1, 70), seed=st.none() | st.integers(0, 2**31))
def test_batches_hold_every_example_once(n, size, seed):
    generator = None if seed is None else torch.Generator().manual_seed(seed)
    batches = list(numbered(n).batches(size, generator))
    assert all(isinstance(batch, Batch) for batch in batches)
    assert [len(batch.labels) for batch in batches] == [size] * (n // size) + [n % size] * (n % size > 0)
    labels = torch.cat([batch.labels for batch in batches])
    assert sorted(labels.tolist()) == list(range(n))
    assert seed is not None or labels.tolist() == list(range(n))
    for batch in batches:
        torch.testing.assert_close(batch.images[:, 0, 3, 5], batch.labels / 1000)  # images stay with their labels


def test_batches_repeat_under_a_seed_and_differ_between_epochs():
    def epochs(seed):
        generator = torch.Generator().manual_seed(seed)
        return [torch.cat([b.labels for b in numbered(50).batches(8, generator)]).tolist() for _ in range(2)]

    first, second = epochs(1)
    assert epochs(1) == [first, second] and epochs(2) != [first, second]
    assert first != second != sorted(second)


def test_batches_leave_torchs_random_state():
    before = torch.get_rng_state()
    list(numbered(20).batches(3, torch.Generator().manual_seed(0)))
    assert torch.equal(torch.get_rng_state(), before)


@pytest.mark.parametrize("size", [0, -1, 2.0, "8", None, True])
def test_a_batch_size_is_a_whole_number_told_at_once(size):
    with pytest.raises(ValueError, match=f"batch_size must be a whole number at least 1, got {size!r}"):
        numbered(5).batches(size)
    assert [len(batch.labels) for batch in numbered(5).batches(np.int64(2))] == [2, 2, 1]


def test_a_seed_is_no_generator():
    with pytest.raises(ValueError, match=r"generator must be a torch.Generator or None, got an int"):
        numbered(5).batches(2, 0)


@pytest.mark.parametrize(
    ("index", "wanted"),
    [
        (torch.tensor([3, 0, 3]), [3, 0, 3]),
        (torch.tensor([3, 1], dtype=torch.uint8), [3, 1]),  # numbers, not a mask
        (torch.tensor([-1, -5]), [4, 0]),
        ([2, 1], [2, 1]),
        (np.array([2, 1]), [2, 1]),
        (torch.arange(5) > 2, [3, 4]),
        (np.arange(5) > 2, [3, 4]),
        (slice(1, 3), [1, 2]),
        (slice(3, 60_000), [3, 4]),
    ],
)
def test_take_gives_those_in_that_order(index, wanted):
    part = numbered(5).take(index)
    assert part.labels.tolist() == wanted
    torch.testing.assert_close(part.images[:, 0, 3, 5], part.labels / 1000)


@pytest.mark.parametrize(
    ("index", "message"),
    [
        (torch.tensor([0, 5]), r"must lie in -5..4 for 5 digits, got 0..5"),
        (torch.tensor([-6]), r"must lie in -5..4 for 5 digits, got -6..-6"),
        (torch.ones(4, dtype=torch.bool), r"bool \[5\], got torch.bool \[4\]"),
        (torch.zeros(5, dtype=torch.bool), "at least one of 5 digits must be taken"),
        (torch.zeros(0, dtype=torch.int64), "at least one of 5 digits must be taken"),
        ([], "at least one of 5 digits must be taken"),
        (slice(5, 9), r"at least one of 5 digits must be taken, got slice\(5, 9, None\)"),
        (torch.tensor([1.0]), "torch.float32"),
        (torch.tensor([[1]]), r"\[1, 1\]"),
        (torch.tensor(1), r"slice\(i, i \+ 1\)"),
        (3, "index must hold numbers, got an int"),
        (None, "index must hold numbers, got None"),
    ],
)
def test_take_of_what_is_not_there(index, message):
    with pytest.raises(ValueError, match=message):
        numbered(5).take(index)


def test_parts_and_copies_are_not_searched_again(monkeypatch):
    """Every value has been looked at once; 60,000 pictures a call are too many for no new reason."""
    digits = numbered(5)
    monkeypatch.setattr(data.checks, "grey", None)
    assert len(digits.take(slice(0, 3)).take([1]).to("cpu")) == 1


def test_take_and_to_keep_the_provenance():
    digits = load_digits("test", source="offline")
    part = digits.take(torch.tensor([5, 2])).to("cpu")
    assert part.labels.tolist() == digits.labels[[5, 2]].tolist() and torch.equal(part.images[1], digits.images[2])
    assert (part.source, part.sha256, part.split) == (digits.source, digits.sha256, "test")
    assert len(digits.take(slice(0, 9))) == 9


# What a model is given


@pytest.mark.parametrize("images", [torch.rand(3, 1, 28, 28).round(), torch.rand(1, 784)], ids=["images", "one row"])
def test_flat_pixels_keep_their_order(images):
    found = flat_pixels(images, 784)
    assert torch.equal(found, images.reshape(-1, 784))


@pytest.mark.parametrize("shape", [(0, 1, 28, 28), (2, 1, 28, 27), (2, 3, 28, 28), (2, 783), (784,), ()])
def test_the_wrong_number_of_pixels(shape):
    message = f"condition must hold 784 pixels for each of at least one example, got {list(shape)}"
    with pytest.raises(ValueError, match=f"^{re.escape(message)}$"):
        flat_pixels(torch.zeros(shape), 784, "condition")


@pytest.mark.parametrize(
    ("value", "given"),
    [
        (math.nan, "nan to nan"),
        (-0.01, "-0.01 to 0.5"),
        (1.5, "0.5 to 1.5"),
        (255.0, "0.5 to 255"),
        (math.inf, "to inf"),
    ],
)
@pytest.mark.parametrize("place", [0, 783])
def test_pixels_outside_0_and_1(value, given, place):
    images = torch.full((2, 784), 0.5)
    images[1, place] = value
    message = (
        rf"^images must hold grey values in \[0, 1\] without NaN, got .*{given}: divide bytes by 255, undo a norm.*$"
    )
    with pytest.raises(ValueError, match=message):
        flat_pixels(images.view(2, 1, 28, 28), 784)


def test_take_of_a_range_and_of_a_single_number():
    assert numbered(5).take(range(1, 5, 2)).labels.tolist() == numbered(5).labels[[1, 3]].tolist()
    with pytest.raises(ValueError, match=r"index must hold numbers, got an int: .* slice\(i, i \+ 1\)"):
        numbered(5).take(3)


def test_an_unknown_device_is_told_before_anything_is_read():
    with pytest.raises(ValueError, match="device must be one that torch can use here, such as cpu, got 'cudaa'"):
        load_digits("test", source="offline", device="cudaa")
