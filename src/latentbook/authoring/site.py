"""The built site in a browser: where both are, the site served as a host on the web does, and a page opened in it."""

import functools
import gzip
import re
import shutil
import threading
import zlib
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from http.server import SimpleHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

BROWSERS = ("chromium", "chromium-browser", "google-chrome", "google-chrome-stable")
FLAGS = (
    *("--no-sandbox", "--disable-gpu", "--disable-background-networking"),
    *("--disable-component-update", "--disable-sync", "--no-first-run"),
)
ZIPPED = (".html", ".css", ".js", ".svg", ".json")


def built_site(folder: Path | None = None) -> Path:
    """The folder of the built site, of this directory's book unless named. Raises ValueError where none is, or half of one."""
    folder = Path("_build/html") if folder is None else folder
    if not (folder / "objects.inv").is_file():
        raise ValueError(f"no built site in {folder.resolve()}: give `make book` first, in the book's own folder")
    if broken := _broken(folder):
        raise ValueError(f"the site in {folder.resolve()} is not whole ({broken}): give `make book` again")
    return folder


def documents(folder: Path) -> list[str]:
    """The pages that a built site was made with, as paths from its root, by its inventory. Raises ValueError for a cut one."""
    *_, listed = (folder / "objects.inv").read_bytes().split(b"\n", 4)
    try:
        rows = zlib.decompress(listed).decode("utf-8").splitlines()
    except zlib.error as error:
        raise ValueError(str(error)) from None
    return [f"{row.split(' std:doc ')[0]}.html" for row in rows if " std:doc " in row]


def _broken(folder: Path) -> str | None:
    """What of a built site is missing or cut, None for a whole one."""
    try:
        wanted = documents(folder)
        if not wanted:
            return "it has no pages"
        for page in wanted:
            text = (folder / page).read_text(encoding="utf-8")
            if "<article" not in text or not text.rstrip().endswith("</html>"):
                return f"{page} is empty or cut"
        first = re.search(r'url=([^"]+)"', (folder / "index.html").read_text(encoding="utf-8"))
        return None if first and first[1] in wanted else "index.html leads to no page"
    except (OSError, ValueError) as error:
        return str(error)


def pages(folder: Path) -> list[str]:
    """Every page of a built site, as paths from its root, but for the first one, which only leads on."""
    found = (path.relative_to(folder) for path in folder.rglob("*.html"))
    return sorted(path.as_posix() for path in found if not path.parts[0].startswith("_") and str(path) != "index.html")


@functools.cache
def zipped(path: Path, changed: int) -> bytes:
    """A file's bytes as gzip sends them; `changed` is when it was, so that an older answer is not given again."""
    return gzip.compress(path.read_bytes(), 6)


class Zipping(SimpleHTTPRequestHandler):
    """Sends text gzipped, as hosts on the web do, and says nothing."""

    protocol_version = "HTTP/1.1"

    def do_GET(self) -> None:
        path = Path(self.translate_path(self.path))
        if path.suffix not in ZIPPED or not path.is_file():
            return super().do_GET()
        body = zipped(path, path.stat().st_mtime_ns)
        self.send_response(200)
        self.send_header("Content-Type", self.guess_type(str(path)))
        self.send_header("Content-Encoding", "gzip")
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, *args: object) -> None:
        """Nothing."""


class Quiet(ThreadingHTTPServer):
    """Says nothing of a browser that leaves before it has all."""

    daemon_threads = True

    def handle_error(self, *args: object) -> None:
        """Nothing."""


@contextmanager
def served(folder: Path) -> Iterator[str]:
    """The folder over http on loopback, text gzipped; gives the address, with a slash at its end."""
    server = Quiet(("127.0.0.1", 0), functools.partial(Zipping, directory=str(folder)))
    threading.Thread(target=server.serve_forever, daemon=True).start()
    try:
        yield f"http://127.0.0.1:{server.server_port}/"
    finally:
        server.shutdown()
        server.server_close()


def find_browser() -> str | None:
    """The path of a Chromium on this machine, if there is one."""
    return next((path for name in BROWSERS if (path := shutil.which(name))), None)


@contextmanager
def started() -> Iterator[Any]:
    """A headless Chromium of this machine. Raises ValueError where there is none, ModuleNotFoundError without Playwright.

    What the browser cannot do is a RuntimeError of one line, whether it does not start or stops later.
    """
    from playwright.sync_api import Error, sync_playwright

    path = find_browser()
    if path is None:
        raise ValueError("no browser: install chromium (Debian: apt-get install chromium)")
    with sync_playwright() as playwright:
        try:
            browser = playwright.chromium.launch(executable_path=path, args=list(FLAGS))
        except Error as error:
            how = f"see what `{path} --headless --version` says, or put another one first on PATH"
            raise RuntimeError(f"the browser {path} does not start ({_line(error)}): {how}") from error
        try:
            yield browser
        except Error as error:
            raise RuntimeError(f"the browser {path} could not go on ({_line(error)}): try again") from error
        finally:
            with suppress(Error):  # it may be gone already
                browser.close()


def _line(error: Exception) -> str:
    """The first line of what Playwright says, without the name of its call."""
    return re.sub(r"^\w+\.\w+: ", "", str(error).strip().partition("\n")[0]).rstrip(".:")
