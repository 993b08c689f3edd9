"""Temporary files and folders, through which others come to be whole; those that a killed process left go.

Whoever writes one holds a lock on it (flock), which the system lets go of however the process ends. So one
that is not locked is nobody's, and whoever writes into the same folder next removes it.
"""

from __future__ import annotations

import errno
import os
import re
import shutil
import stat
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

try:
    import fcntl
except ImportError:  # pragma: no cover - Windows has no such locks
    fcntl = None  # type: ignore[assignment]

UNLOCKED_S = 3600.0
"""Age in seconds from which one is left where the file system knows no locks."""

_NAME = re.compile(r"\.lorapack-[0-9a-f]{12}")


def temporary_file(beside: Path, mode: int) -> tuple[Path, int]:
    """Create a file and lock it; its path, and a descriptor to write to, which holds the lock until closed.

    Parameters
    ----------
    beside
        The file that it is to become. Its own name is short, as that may be as long as can be.
    mode
        Its rights, as far as the umask leaves them.

    Raises
    ------
    OSError
        If it cannot be created.
    """
    while True:
        path = _unused_name(beside)
        descriptor = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL, mode)
        _lock(descriptor)
        if path.exists():
            return path, descriptor
        os.close(descriptor)  # somebody who cleared up was faster than the lock


@contextmanager
def temporary_folder(beside: Path, mode: int = 0o777) -> Iterator[Path]:
    """Within there is a locked folder beside a path; what has its name at the end is removed.

    Parameters
    ----------
    beside
        What it is to become, or where it is to lie.
    mode
        Its rights, as far as the umask leaves them.

    Raises
    ------
    OSError
        If it cannot be created.
    """
    path, descriptor = _locked_folder(beside, mode)
    try:
        yield path
    finally:
        shutil.rmtree(path, ignore_errors=True)
        os.close(descriptor)


def remove_leftovers(folder: Path) -> None:
    """Remove what killed processes left in a folder, as far as that is allowed."""
    with suppress(OSError), os.scandir(folder) as entries:
        for name in [entry.name for entry in entries if _NAME.fullmatch(entry.name)]:
            with suppress(OSError):  # another process was faster, or it is another user's
                _remove_if_left(folder / name)


def _unused_name(beside: Path) -> Path:
    return beside.with_name(f".lorapack-{os.urandom(6).hex()}")


def _locked_folder(beside: Path, mode: int) -> tuple[Path, int]:
    while True:
        path = _unused_name(beside)
        path.mkdir(mode)
        with suppress(FileNotFoundError):  # somebody who cleared up was faster
            descriptor = os.open(path, os.O_RDONLY)
            _lock(descriptor)
            if path.exists():
                return path, descriptor
            os.close(descriptor)


def _lock(descriptor: int) -> None:
    with suppress(OSError):  # a file system without locks
        _flock(descriptor, wait=True)


def _flock(descriptor: int, *, wait: bool) -> None:
    if fcntl is None:
        raise OSError(errno.ENOTSUP, "there are no locks")
    fcntl.flock(descriptor, fcntl.LOCK_EX if wait else fcntl.LOCK_EX | fcntl.LOCK_NB)


def _remove_if_left(path: Path) -> None:
    descriptor = os.open(path, os.O_RDONLY | os.O_NONBLOCK | os.O_NOFOLLOW)
    try:
        status = os.fstat(descriptor)
        if not _is_left(descriptor, status):
            return
        if stat.S_ISREG(status.st_mode):
            path.unlink()
        elif stat.S_ISDIR(status.st_mode):
            shutil.rmtree(path, ignore_errors=True)
    finally:
        os.close(descriptor)


def _is_left(descriptor: int, status: os.stat_result) -> bool:
    """Whether nobody holds it any more."""
    try:
        _flock(descriptor, wait=False)
    except BlockingIOError:
        return False
    except OSError:  # no locks
        return time.time() - status.st_mtime > UNLOCKED_S
    return True
