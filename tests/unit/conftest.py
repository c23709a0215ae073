"""Lets the tests beside this file import what they share, and switches off the shape checks where a test asks for it."""

import contextlib
import socket
import sys
import threading
from pathlib import Path

import pytest

sys.path.insert(0, str(Path(__file__).parent))  # under any import mode


@pytest.fixture
def plain():
    """The library without the shape checks of the test run, which would speak before its own errors."""
    import jaxtyping

    before = jaxtyping.config.jaxtyping_disable
    jaxtyping.config.update("jaxtyping_disable", True)
    yield
    jaxtyping.config.update("jaxtyping_disable", before)


@pytest.fixture
def server():
    """Start servers on loopback, each answering by `answer(connection, name asked for)`; returns address and names asked for."""
    listeners = []

    def start(answer):
        listener, asked = socket.create_server(("127.0.0.1", 0)), []
        listeners.append(listener)

        def one(connection):
            with connection, contextlib.suppress(OSError):  # the client hung up
                request = connection.recv(65536).decode()
                asked.append(request.split()[1].lstrip("/") if request else "")
                answer(connection, asked[-1])

        def loop():
            with contextlib.suppress(OSError):  # closed
                while True:
                    threading.Thread(target=one, args=(listener.accept()[0],), daemon=True).start()

        threading.Thread(target=loop, daemon=True).start()
        return f"http://127.0.0.1:{listener.getsockname()[1]}/", asked

    yield start
    for listener in listeners:
        listener.close()


@pytest.fixture
def double_by_default():
    """torch makes float64 numbers unless told otherwise, as some people's start files have it."""
    import torch

    before = torch.get_default_dtype()
    torch.set_default_dtype(torch.float64)
    yield
    torch.set_default_dtype(before)
