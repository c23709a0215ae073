"""Files that are there whole or not at all, and a try at writing before any work is done."""

from __future__ import annotations

import errno
import os
import stat
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
    except OSError as error:  # some, such as a full disk's, name no file; others name the one that is beside it
        if error.errno is None:
            raise
        raise type(error)(error.errno, error.strerror, str(path)) from error
    finally:
        partial.unlink(missing_ok=True)


def check_writable(path: str | Path, what: str = "the result") -> None:
    """Try now whether a file may be written at `path` later, so that no work is done in vain; leaves nothing but its folder.

    what: what will be written there, for the message. Raises IsADirectoryError where a folder has that name, otherwise
    the OSError (PermissionError, NotADirectoryError, ...) that the writing would end in; both say what to do.
    """
    path = Path(path)
    try:
        if path.is_dir():
            raise IsADirectoryError(f"{what} cannot be written to {path}, which is a folder: name a file in it")
        above = next(folder for folder in path.absolute().parents if folder.exists())
        if not above.is_dir():
            raise NotADirectoryError(errno.ENOTDIR, f"{above} is a file")
        if _kept_by_its_owner(path):
            raise PermissionError(errno.EPERM, "only its owner may replace it in this folder")
        partial = _beside(path)
        partial.touch(exist_ok=False)
        partial.unlink()
    except IsADirectoryError:
        raise
    except OSError as error:
        raise type(error)(
            f"{what} cannot be written to {path} ({error.strerror or error}): name another place, or make this one writable"
        ) from error


def _kept_by_its_owner(path: Path) -> bool:
    """Whether a file is somebody else's in a folder like /tmp, where all may write but nobody may replace another's file."""
    if os.name != "posix" or not path.exists():
        return False
    folder = path.parent.stat()
    return bool(folder.st_mode & stat.S_ISVTX) and os.geteuid() not in (0, folder.st_uid, path.stat().st_uid)


def _beside(path: Path) -> Path:
    """A hidden name in the folder of `path` (made where it is missing) that nobody else has."""
    path.parent.mkdir(parents=True, exist_ok=True)
    return path.with_name(f".{path.name}.{uuid.uuid4().hex}.partial")
