"""The digits: where they come from, in which order, and what happens when they are damaged or cannot be had."""

from __future__ import annotations

import contextlib
import functools
import gzip
import hashlib
import inspect
import math
import os
import re
import socket
import struct
import threading
import time
import warnings
from pathlib import Path

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from latentbook import data
from latentbook.data import Batch, Digits, OfflineDigitsWarning, flat_pixels, load_digits

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
def serve(monkeypatch):
    """Start a server on loopback that answers each connection by `answer(connection, name of the file asked for)`."""
    listener = socket.create_server(("127.0.0.1", 0))
    asked: list[str] = []
    stop = threading.Event()

    def start(answer) -> list[str]:
        def one(connection):
            with connection:
                request = connection.recv(65536).decode()
                asked.append(request.split()[1].lstrip("/") if request else "")
                with contextlib.suppress(OSError):  # the client hung up
                    answer(connection, asked[-1])

        def loop():
            while not stop.is_set():
                try:
                    connection, _ = listener.accept()
                except OSError:
                    return
                threading.Thread(target=one, args=(connection,), daemon=True).start()

        threading.Thread(target=loop, daemon=True).start()
        set_mirrors(monkeypatch, f"http://127.0.0.1:{listener.getsockname()[1]}/")
        return asked

    yield start
    stop.set()
    listener.close()


def http(content: bytes, length: int | None = None) -> bytes:
    return b"HTTP/1.1 200 OK\r\nConnection: close\r\nContent-Length: %d\r\n\r\n" % (length or len(content)) + content


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
    assert load_digits("test", root=write_mnist(tmp_path), source="offline").source == "offline"


# MNIST files and the order in which they are looked for


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


def test_cache_comes_before_a_download(monkeypatch, tmp_path):
    write_mnist(tmp_path / "cache")
    monkeypatch.setattr(data, "_download", lambda path: pytest.fail("nothing was missing"))
    assert load_digits("train").source == "mnist"


def test_download_comes_before_the_offline_digits_and_is_kept(serve, tmp_path):
    asked = serve(lambda connection, name: connection.sendall(http(gzip.compress(FILES[name.removesuffix(".gz")]))))
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

    serve(lambda connection, name: connection.sendall(http(gzip.compress(FILES[name.removesuffix(".gz")]))))
    with socket.create_server(("127.0.0.1", 0)) as closed:
        port = closed.getsockname()[1]
    set_mirrors(monkeypatch, f"http://127.0.0.1:{port}/", *MNIST.mirrors)
    assert load_digits("test").source == "mnist"


# The fallback


def test_fallback_warns_once_a_call_at_the_callers_line(tmp_path):
    for _ in range(2):
        with warnings.catch_warnings(record=True) as caught:
            warnings.simplefilter("default")
            digits = inspect.unwrap(load_digits)("test", root=tmp_path)  # without the frames of the shape checks
        assert digits.source == "offline" and digits.sha256 == load_digits("test", source="offline").sha256
        assert [warning.category for warning in caught] == [OfflineDigitsWarning]
        assert caught[0].filename == __file__
        assert "scikit-learn" in str(caught[0].message) and "LATENTBOOK_DATA" in str(caught[0].message)
    assert issubclass(OfflineDigitsWarning, UserWarning)  # shown without any setting
    assert everything_below(tmp_path) == []


def test_source_mnist_with_none_to_be_had_says_how_to_get_it(tmp_path):
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        with pytest.raises(FileNotFoundError, match=r"MNIST is not in .*LATENTBOOK_DATA.*MNIST/raw"):
            load_digits("train", root=tmp_path, source="mnist")


# Damage and mistakes


@pytest.mark.parametrize("source", ["auto", "mnist"])
@pytest.mark.parametrize("name", ["t10k-images-idx3-ubyte", "t10k-labels-idx1-ubyte"])
@pytest.mark.parametrize("damage", ["truncated", "altered"])
def test_damaged_files_are_named_and_left_alone(tmp_path, name, damage, source):
    path = write_mnist(tmp_path) / "MNIST" / "raw" / name
    content = bytearray(path.read_bytes())
    content[-1] ^= 1
    path.write_bytes(content[:-1] if damage == "truncated" else content)
    before = path.read_bytes()
    with pytest.raises(ValueError, match=f"{name} is truncated or altered.*Delete it"):
        load_digits("test", root=tmp_path, source=source)
    assert path.read_bytes() == before


@pytest.mark.parametrize("source", ["auto", "mnist"])
def test_a_root_that_cannot_be_written_to_is_told(monkeypatch, tmp_path, source):
    allowed = os.access
    monkeypatch.setattr(os, "access", lambda path, mode: mode != os.W_OK and allowed(path, mode))
    with pytest.raises(PermissionError, match=f"{tmp_path} is not writable.*root="):
        load_digits("test", root=tmp_path / "deep" / "er", source=source)
    assert list(tmp_path.iterdir()) == []


def test_a_cache_that_cannot_be_written_to_makes_way_for_the_embedded_digits(monkeypatch, tmp_path):
    """Nobody asked for the cache folder, so it is no mistake of the reader's."""
    allowed = os.access
    monkeypatch.delenv("LATENTBOOK_DATA", raising=False)
    monkeypatch.setattr(data.platformdirs, "user_cache_dir", lambda name: str(tmp_path / name))
    monkeypatch.setattr(os, "access", lambda path, mode: mode != os.W_OK and allowed(path, mode))
    with pytest.warns(data.OfflineDigitsWarning):
        assert load_digits("test").source == "offline"
    with pytest.raises(FileNotFoundError, match="not writable"):
        load_digits("test", source="mnist")


@pytest.mark.skipif(not hasattr(os, "geteuid") or os.geteuid() == 0, reason="root may write anywhere")
def test_a_read_only_folder_is_told(tmp_path):
    tmp_path.chmod(0o500)
    try:
        with pytest.raises(PermissionError, match="is not writable"):
            load_digits("test", root=tmp_path)
    finally:
        tmp_path.chmod(0o700)


def test_a_read_only_root_that_holds_the_files_serves(monkeypatch, tmp_path):
    write_mnist(tmp_path)
    monkeypatch.setattr(os, "access", lambda path, mode: mode != os.W_OK)
    assert load_digits("test", root=tmp_path).source == "mnist"


@pytest.mark.parametrize("split", ["validation", "Train", ""])
def test_unknown_split(split):
    with pytest.raises(ValueError, match=f"split must be one of train, test, got '{split}'"):
        load_digits(split, source="offline")


@pytest.mark.parametrize("source", ["sklearn", "MNIST", None])
def test_unknown_source(source):
    with pytest.raises(ValueError, match=f"source must be one of auto, mnist, offline, got {source!r}"):
        load_digits("test", source=source)


# Servers that misbehave


def refused(path: Path, within: float, timeout: float = 0.3, deadline: float = 0.6) -> str:
    start = time.monotonic()
    with pytest.raises(FileNotFoundError) as caught:
        data._download(path, timeout, deadline)
    assert time.monotonic() - start < within
    assert everything_below(path.parent) == []
    return str(caught.value)


def test_a_silent_server_is_left_at_the_time_out(serve, tmp_path):
    quiet = threading.Event()
    serve(lambda connection, name: quiet.wait(6))
    assert "timed out" in refused(tmp_path / "t10k-labels-idx1-ubyte", within=3)
    quiet.set()


def test_load_digits_gets_past_a_silent_server(serve, monkeypatch, tmp_path):
    quiet = threading.Event()
    serve(lambda connection, name: quiet.wait(6))
    monkeypatch.setattr(data, "_download", functools.partial(data._download, timeout=0.3, deadline=0.6))
    with pytest.warns(OfflineDigitsWarning):
        assert load_digits("test", root=tmp_path).source == "offline"
    quiet.set()


def test_the_real_time_outs_are_short():
    parameters = inspect.signature(data._download).parameters
    timeout, deadline = parameters["timeout"].default, parameters["deadline"].default
    assert 0 < timeout <= 30 and timeout <= deadline <= 300


def test_a_slow_server_is_left_at_the_deadline(serve, tmp_path):
    """A byte now and then keeps every single read within the time-out: only the deadline can end it."""

    def drip(connection, name):
        connection.sendall(http(b"", 1_000_000))
        for _ in range(120):
            connection.sendall(b"x")
            time.sleep(0.05)

    serve(drip)
    assert "slow" in refused(tmp_path / "t10k-labels-idx1-ubyte", within=3)


def test_a_steady_but_slow_server_is_left_at_the_deadline(serve, tmp_path):
    def pour(connection, name):
        connection.sendall(http(b"", 100_000_000))
        for _ in range(100):
            connection.sendall(b"x" * 100_000)
            time.sleep(0.05)

    serve(pour)
    assert "slow" in refused(tmp_path / "t10k-labels-idx1-ubyte", within=3)


BAD_ANSWERS = {
    "wrong MD5": http(gzip.compress(FILES["train-labels-idx1-ubyte"])),
    "not gzip": http(b"<html>please log in</html>"),
    "damaged gzip": http(gzip.compress(b"")[:10] + b"\xff" * 64),
    "cut short": http(gzip.compress(FILES["t10k-labels-idx1-ubyte"])[:20], 31),
    "not HTTP": b"hello\r\n\r\n",
    "hung up": b"",
    "not found": b"HTTP/1.1 404 Not Found\r\nContent-Length: 0\r\n\r\n",
}


@pytest.mark.parametrize("kind", BAD_ANSWERS)
def test_bad_answers_are_refused_and_leave_nothing(serve, tmp_path, kind):
    serve(lambda connection, name: connection.sendall(BAD_ANSWERS[kind]))
    message = refused(tmp_path / "t10k-labels-idx1-ubyte", within=3)
    assert "http://127.0.0.1" in message
    assert kind != "wrong MD5" or "wrong MD5" in message


def test_a_write_that_fails_leaves_nothing(serve, monkeypatch, tmp_path):
    serve(lambda connection, name: connection.sendall(http(gzip.compress(FILES[name.removesuffix(".gz")]))))

    def broken(source, target):
        raise OSError("the disk is full")

    monkeypatch.setattr(os, "replace", broken)
    with pytest.raises(OSError, match="disk is full"):
        data._download(tmp_path / "t10k-labels-idx1-ubyte")
    assert everything_below(tmp_path) == []


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
