"""Downloads: what misbehaving servers, names and networks do, and how soon they are left."""

from __future__ import annotations

import http.client
import itertools
import socket
import sys
import threading

import pytest
from unit_harness import http as answer_of

from latentbook.data import downloads
from latentbook.data.downloads import DownloadFailed, fetch

CONTENT = bytes(range(256)) * 100


@pytest.fixture(autouse=True)
def no_proxy(monkeypatch):
    monkeypatch.setenv("no_proxy", "*")


@pytest.fixture
def impatient(monkeypatch):
    """Everybody answers at once or is meant to be left."""
    monkeypatch.setattr(downloads, "PATIENCE", 0.3)


@pytest.fixture
def quiet():
    """An event that no silent thread waits for any longer once the test is over."""
    event = threading.Event()
    yield event
    event.set()


def whole(answer: bytes) -> bytes:
    if answer != CONTENT:
        raise ValueError("another file")
    return answer


def send(connection, name):
    connection.sendall(answer_of(CONTENT))


def test_the_file_comes_from_the_first_that_has_it(server):
    (bad, _), (good, asked), (last, idle) = server(lambda *_: None), server(send), server(send)
    assert fetch([bad + "x", good + "x", last + "x"], whole) == CONTENT
    assert asked == ["x"] and idle == []


def test_servers_that_accept_and_never_answer_share_one_patience(server, monkeypatch, quiet, impatient):
    silent, _ = server(lambda *_: quiet.wait(60))
    waits, pieces = [], downloads._pieces
    monkeypatch.setattr(downloads, "_pieces", lambda a, wait, bar: waits.append(wait) or pieces(a, wait, bar))
    with pytest.raises(DownloadFailed, match=r"^http://127.*/a: timed out.*; .*/b: timed out.*; .*/c: timed out"):
        fetch([silent + name for name in "abc"], whole)
    assert len(waits) == 3 and sum(waits) <= 0.3 and 0 < waits[0] <= 0.1


def test_a_silent_server_leaves_time_for_the_next(server, monkeypatch, quiet):
    monkeypatch.setattr(downloads, "PATIENCE", 2.0)
    (silent, _), (good, _) = server(lambda *_: quiet.wait(60)), server(send)
    assert fetch([silent + "x", good + "x"], whole) == CONTENT


def test_a_name_that_is_never_looked_up(monkeypatch, quiet, impatient):
    monkeypatch.setattr(socket, "getaddrinfo", lambda *_, **__: quiet.wait(60))
    with pytest.raises(DownloadFailed, match="timed out, nothing came for"):
        fetch(["http://mirror.invalid/x"], whole)


def test_a_name_that_does_not_exist(monkeypatch):
    def unknown(*_, **__):
        raise socket.gaierror(-2, "Name or service not known")

    monkeypatch.setattr(socket, "getaddrinfo", unknown)
    with pytest.raises(DownloadFailed, match=r"http://mirror.invalid/x: .*Name or service not known"):
        fetch(["http://mirror.invalid/x"], whole)


@pytest.mark.parametrize(("machines", "share"), [(1, 6.0), (2, 3.0), (3, 2.0), (8, 2.0)])
@pytest.mark.parametrize("kind", [downloads._HTTPConnection, downloads._HTTPSConnection])
def test_the_machines_of_a_name_share_its_time(machines, share, kind, monkeypatch):
    """Where packets are dropped, the first of them would take it all."""
    given = []

    def connect(address, timeout, *_):
        given.append(timeout)
        raise TimeoutError

    monkeypatch.setattr(socket, "getaddrinfo", lambda *_, **__: [()] * machines)
    monkeypatch.setattr(socket, "create_connection", connect)
    with pytest.raises(TimeoutError):
        kind("mirror.invalid", timeout=6.0).connect()
    assert given == [share]


def test_a_connection_made_may_pause_for_more_than_the_whole_patience(server, impatient):
    address, _ = server(send)
    connection = downloads._HTTPConnection(address.split("/")[2], timeout=0.2)
    connection.connect()
    assert connection.sock.gettimeout() == 0.6
    connection.close()


def test_no_end_is_set_to_what_goes_on(monkeypatch):
    """Slow and steady: minutes by the clock, and never a long pause."""
    clock = itertools.count(0, 4)
    monkeypatch.setattr(downloads, "PATIENCE", 15.0)
    monkeypatch.setattr(downloads.time, "monotonic", lambda: next(clock))
    parts = [CONTENT[start : start + 256] for start in range(0, len(CONTENT), 256)]

    def ask(address, wait, news, left):
        for part in [*parts, b""]:
            news.put((part, None))

    monkeypatch.setattr(downloads, "_ask", ask)
    assert fetch(["x"], whole) == CONTENT
    assert next(clock) > 4 * len(parts)


def test_a_server_that_falls_silent_is_left_and_nobody_else_is_waited_for(server, monkeypatch, quiet):
    monkeypatch.setattr(downloads, "PATIENCE", 1.0)

    def begin(connection, name):
        connection.sendall(answer_of(CONTENT[:5], len(CONTENT)))
        quiet.wait(60)

    (stalled, _), (silent, asked) = server(begin), server(lambda *_: quiet.wait(60))
    with pytest.raises(DownloadFailed, match=r"timed out, nothing came for 1 s; .*not asked, as the time was up"):
        fetch([stalled + "x", silent + "x"], whole)
    assert asked == []


def test_a_thread_that_was_left_reads_no_more(server):
    left, more = threading.Event(), threading.Event()

    def pour(connection, name):
        connection.sendall(answer_of(b"x", 10_000_000))
        more.wait(60)
        for _ in range(100):
            connection.sendall(b"x" * 1000)

    address, _ = server(pour)
    news = downloads.queue.SimpleQueue()
    thread = threading.Thread(target=downloads._ask, args=(address, 5.0, news, left), daemon=True)
    thread.start()
    assert news.get(timeout=30) == (b"x", 9_999_999)
    left.set()
    more.set()
    thread.join(30)
    assert not thread.is_alive() and news.qsize() <= 2


BAD_ANSWERS = {
    "another file": answer_of(b"<html>please log in</html>"),
    "cut short": answer_of(CONTENT[:20], len(CONTENT)),
    "empty": answer_of(b"", 0),
    "not HTTP": b"hello\r\n\r\n",
    "hung up": b"",
    "not found": b"HTTP/1.1 404 Not Found\r\nContent-Length: 0\r\n\r\n",
}


@pytest.mark.parametrize("kind", BAD_ANSWERS)
def test_bad_answers_are_refused_and_named(server, kind):
    address, _ = server(lambda connection, name: connection.sendall(BAD_ANSWERS[kind]))
    with pytest.raises(DownloadFailed, match=f"^{address}x: ."):
        fetch([address + "x"], whole)


@pytest.mark.parametrize(
    "error", [http.client.IncompleteRead(b""), EOFError("e"), downloads.zlib.error("z"), OSError("o")]
)
def test_what_unpacking_meets_is_no_reason_to_stop(server, error):
    address, _ = server(send)
    tries = iter([error, None])

    def unpack(answer):
        if problem := next(tries):
            raise problem
        return answer

    assert fetch([address + "x"] * 2, unpack) == CONTENT


def test_no_address():
    with pytest.raises(DownloadFailed, match="no address is known"):
        fetch([], whole)


@pytest.mark.parametrize("terminal", [True, False])
def test_a_bar_shows_the_waiting_and_the_download_in_a_terminal_only(server, capsys, monkeypatch, terminal):
    monkeypatch.delenv("TQDM_DISABLE", raising=False)
    monkeypatch.setattr(sys.stderr, "isatty", lambda: terminal)
    address, _ = server(send)
    fetch([address + "x.gz"], whole)
    said = capsys.readouterr().err
    assert (f"waiting for {address}x.gz" in said) == ("x.gz: " in said.replace(address, "")) == terminal
    assert bool(said) == terminal
