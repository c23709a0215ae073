"""A file from one of several addresses, with no long wait where nobody answers."""

from __future__ import annotations

import http.client
import queue
import socket
import threading
import time
import urllib.request
import zlib
from collections.abc import Callable, Iterator, Sequence

from tqdm.auto import tqdm

from latentbook.progress import bar_options

PATIENCE = 15.0  # seconds: from the start to the first byte, whoever sends it, and from then on without another


class DownloadFailed(Exception):
    """No address gave the file; the message says what happened at each."""


def fetch(addresses: Sequence[str], unpack: Callable[[bytes], bytes]) -> bytes:
    """The file that the first of several addresses gives, with a bar while it is awaited and while it comes.

    The first byte must come within PATIENCE seconds, whatever the number of addresses and of machines behind their
    names; every further one within PATIENCE after the one before. unpack: makes the content of an answer, and raises
    OSError, EOFError, ValueError or zlib.error for one that will not do. Raises DownloadFailed.
    """
    problems, end = [], time.monotonic() + PATIENCE
    with tqdm(unit="B", unit_scale=True, leave=False, **bar_options()) as bar:
        for asked, address in enumerate(addresses):
            bar.set_description(f"waiting for {address}")
            pieces, wait = [], (end - time.monotonic()) / (len(addresses) - asked)  # the others keep their part of it
            try:
                for piece in _pieces(address, wait, bar):
                    pieces.append(piece)
                    end = time.monotonic() + PATIENCE
                return unpack(b"".join(pieces))
            except (OSError, EOFError, ValueError, zlib.error, http.client.HTTPException) as error:
                problems.append(f"{address}: {error}")
    raise DownloadFailed("; ".join(problems) or "no address is known")


def _pieces(address: str, wait: float, bar: tqdm) -> Iterator[bytes]:
    """What a server sends: the first of it within `wait` s, the rest without a pause of more than PATIENCE s.

    A thread of its own asks, as nothing else limits the time for looking up a name and trying one machine after another.
    When the time is over it is left to itself: it ends with its next time-out.
    """
    if wait <= 0:
        raise TimeoutError("not asked, as the time was up")
    news: queue.SimpleQueue[tuple[bytes, int | None] | Exception] = queue.SimpleQueue()
    left = threading.Event()
    threading.Thread(target=_ask, args=(address, wait, news, left), daemon=True).start()
    try:
        piece, rest = _next(news, wait, bar)
        bar.set_description(address.rpartition("/")[2])
        bar.reset(len(piece) + (rest or 0) or None)
        while piece:
            bar.update(len(piece))
            yield piece
            piece, rest = _next(news, PATIENCE, bar)
    finally:
        left.set()


def _next(
    news: queue.SimpleQueue[tuple[bytes, int | None] | Exception], wait: float, bar: tqdm
) -> tuple[bytes, int | None]:
    """The next piece and the number of bytes still to come, if known; meanwhile the bar's clock goes on.

    Raises what the asking thread has met, and TimeoutError.
    """
    end = time.monotonic() + wait
    while (rest := end - time.monotonic()) > 0:
        try:
            found = news.get(timeout=min(rest, 0.5))
        except queue.Empty:
            bar.refresh()
            continue
        if isinstance(found, Exception):
            raise found
        return found
    raise TimeoutError(f"timed out, nothing came for {wait:.3g} s")


def _ask(
    address: str,
    wait: float,
    news: queue.SimpleQueue[tuple[bytes, int | None] | Exception],
    left: threading.Event,
) -> None:
    """Put the pieces that a server sends into a queue, an empty one last, or the exception that ended it."""
    try:
        with urllib.request.build_opener(_HTTP, _HTTPS).open(address, timeout=wait) as response:
            while not left.is_set() and (piece := response.read1(1 << 16)):
                news.put((piece, response.length))
        news.put((b"", None))
    except Exception as error:
        news.put(error)


class _MachinesShareTheTime:
    """A connection to a name of several machines: the next one has its turn before the time is over."""

    def connect(self) -> None:
        machines = len(socket.getaddrinfo(self.host, self.port, type=socket.SOCK_STREAM))
        self.timeout /= min(machines, 3)  # of many, three: less time each would cut off those that are merely slow
        super().connect()
        self.sock.settimeout(2 * PATIENCE)  # `_next` is the one that counts; this ends a thread left to itself


class _HTTPConnection(_MachinesShareTheTime, http.client.HTTPConnection):
    pass


class _HTTPSConnection(_MachinesShareTheTime, http.client.HTTPSConnection):
    pass


class _HTTP(urllib.request.HTTPHandler):
    def http_open(self, request: urllib.request.Request) -> http.client.HTTPResponse:
        return self.do_open(_HTTPConnection, request)


class _HTTPS(urllib.request.HTTPSHandler):
    def https_open(self, request: urllib.request.Request) -> http.client.HTTPResponse:
        return self.do_open(_HTTPSConnection, request)
