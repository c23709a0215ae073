"""Files that are there whole or not at all, and a try at writing before any work is done."""

from __future__ import annotations

import os
import uuid
from pathlib import Path


def write_whole(path: str | Path, content: str | bytes) -> None:
    """Write a file whole or not at all: beside it first, under a name that no other process or thread has, then in its place.

    Text is written as UTF-8 with "\\n" at the ends of lines. Of several writers at once the last one wins, and no reader
    ever meets half a file. Raises OSError where the place cannot be written to.
    """
    path = Path(path)
    partial = _beside(path)
    try:
        with open(partial, "xb") as file:  # "x": new; the rights are those that the user's umask gives to new files
            file.write(content.encode("utf-8") if isinstance(content, str) else content)
            file.flush()
            os.fsync(file.fileno())
        os.replace(partial, path)
    finally:
        partial.unlink(missing_ok=True)


def check_writable(path: str | Path, what: str = "the result") -> None:
    """Try now whether a file may be written at `path` later, so that no work is done in vain; leaves nothing but its folder.

    what: what will be written there, for the message. Raises IsADirectoryError where a folder has that name, otherwise
    the OSError (PermissionError, NotADirectoryError, ...) that the writing would end in; both say what to do.
    """
    path = Path(path)
    if path.is_dir():
        raise IsADirectoryError(f"{what} cannot be written to {path}, which is a folder: name a file in it")
    try:
        partial = _beside(path)
        partial.touch(exist_ok=False)
        partial.unlink()
    except OSError as error:
        raise type(error)(
            f"{what} cannot be written to {path} ({error.strerror or error}): name another place, or make this one writable"
        ) from error


def _beside(path: Path) -> Path:
    """A hidden name in the folder of `path` (made where it is missing) that nobody else has."""
    path.parent.mkdir(parents=True, exist_ok=True)
    return path.with_name(f".{path.name}.{uuid.uuid4().hex}.partial")
