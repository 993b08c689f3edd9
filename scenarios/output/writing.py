"""Files written whole or not at all."""

from __future__ import annotations

import errno
import os
import stat
import sys
import time
from collections.abc import Iterable
from contextlib import suppress
from pathlib import Path

from scenarios.errors import LorapackError
from scenarios.output.temporary import remove_leftovers, temporary_file
from scenarios.stopping.interrupts import interrupted, unbroken

_MAX_LINKS = 40
"""Links that a path may lead through, as in Linux."""

_ANY_WRITE = stat.S_IWUSR | stat.S_IWGRP | stat.S_IWOTH

_LOOK_S = 0.1
"""Seconds between two looks at whether somebody reads a pipe."""

_REMEDIES = {
    errno.ENOSPC: "make room or name a file elsewhere",
    errno.EDQUOT: "make room or name a file elsewhere",
    errno.EFBIG: "raise the limit on the size of files (ulimit -f) or write less",
    errno.EROFS: "name a file elsewhere",
    errno.EIO: "name a file elsewhere",
    errno.ENAMETOOLONG: "use a shorter name",
    errno.EACCES: "check the rights to its folder",
    errno.EPERM: "check the rights to it and its folder",
    errno.EBADF: "open it for writing",
    errno.EPIPE: "its reader must stay until the end",
    errno.ENXIO: "start what reads it",
}


class OutputFileError(LorapackError, OSError):
    """A file cannot be written."""


def write_whole(path: str | os.PathLike[str], content: str | bytes) -> Path:
    """Write a file through a temporary one beside it, so that no reader ever sees half of it.

    A link is followed, and the file that it names is replaced. A file that exists keeps its mode, and its
    owner where that is allowed; a new one gets the mode that the umask leaves. What is no regular file
    (a pipe, a device, an open descriptor such as ``/dev/stdout``) is written into. Text is written as
    UTF-8.

    Raises
    ------
    OutputFileError
        If it cannot be written.
    """
    target = Path(path)
    # Half a surrogate pair, which a file name may smuggle in, must not cost the whole result.
    data = content.encode(errors="backslashreplace") if isinstance(content, str) else content
    try:
        status = _checked(path)
        if (descriptor := descriptor_of(target)) is not None:
            _write_open(descriptor, data)
        elif status is None or _is_own_name(target, status):
            with unbroken():  # no temporary file stays behind
                _replace(_real(target), status, data)
        else:
            _write(_opened(target), data)
    except OSError as error:
        raise _failure(target, error) from error
    return target


def check_writable(path: str | os.PathLike[str], inputs: Iterable[str | os.PathLike[str]] = ()) -> None:
    """Notice before long work that its result could not be written.

    Parameters
    ----------
    path
        Where the result is to go.
    inputs
        Files that the work reads, which its result must not overwrite.

    Raises
    ------
    OutputFileError
        If the path names a folder, a file that is read-only or one of the inputs, or lies in a folder
        that does not exist or cannot be written to.
    """
    target = Path(path)
    try:
        status = _checked(path)
        if (descriptor := descriptor_of(target)) is not None:
            os.write(descriptor, b"")  # fails where it is closed, or open for reading only
    except OSError as error:
        raise _failure(target, error) from error
    if any(same_file(target, read) for read in inputs):
        raise OutputFileError(f"{target} is what the command reads; name another file")
    if descriptor is not None or not (status is None or stat.S_ISREG(status.st_mode)):
        return
    folder = _real(target).parent
    if not folder.is_dir():
        raise OutputFileError(f"{target} cannot be written; name a file in a folder that exists")
    if not os.access(folder, os.W_OK | os.X_OK):
        raise OutputFileError(f"{target} cannot be written; its folder takes no new files, name another")


def same_file(first: str | os.PathLike[str], second: str | os.PathLike[str]) -> bool:
    """Tell whether two paths name the same file, through links too, or would if it existed."""
    try:
        return Path(first).samefile(second)
    except (OSError, ValueError):
        return _real(Path(first)) == _real(Path(second))


def descriptor_of(path: str | os.PathLike[str]) -> int | None:
    """Return the number of the open file that a path such as ``/dev/stdout`` stands for, if it does."""
    path = Path(path)
    folders = {os.path.realpath(folder) for folder in ("/dev/fd", "/proc/self/fd")}
    for _ in range(_MAX_LINKS):
        if path.name.isdecimal() and os.path.realpath(path.parent) in folders:
            return int(path.name)
        if not path.is_symlink():
            return None
        path = path.parent / path.readlink()
    return None


def _checked(path: str | os.PathLike[str]) -> os.stat_result | None:
    """Status of what is to be written, None if it does not exist; refuses what must not be written.

    A file without any write bit is refused to root too, who could write it: somebody protected it.
    """
    target = Path(path)
    if str(path).endswith(os.sep):
        raise OutputFileError(f"{path} names a folder; name a file")
    try:
        status = target.stat()
    except FileNotFoundError:
        return None
    except ValueError as error:  # a zero byte, or characters that no file name has
        raise OSError(errno.EINVAL, str(error)) from error
    if stat.S_ISDIR(status.st_mode):
        raise OutputFileError(f"{target} is a folder; name a file")
    is_open = descriptor_of(target) is not None
    if not is_open and not (status.st_mode & _ANY_WRITE and os.access(target, os.W_OK)):
        raise OutputFileError(f"{target} is read-only; make it writable or name another file")
    return status


def _is_own_name(path: Path, status: os.stat_result) -> bool:
    """Tell whether a path leads to a regular file by its name, so that it can be replaced.

    A file that was deleted but still is open somewhere has no name. Another one may have taken its place by
    now, as others may write to it too.
    """
    return stat.S_ISREG(status.st_mode) and _real(path).is_file()


def _real(path: Path) -> Path:
    return Path(os.path.realpath(path))


def _write_open(descriptor: int, data: bytes) -> None:
    """Write to a file of this process where it stands: opening it anew would begin at its start."""
    for stream in (sys.stdout, sys.stderr):
        if stream is not None:
            stream.flush()
    _write(os.dup(descriptor), data)


def _write(descriptor: int, data: bytes) -> None:
    with os.fdopen(descriptor, "wb") as file:
        file.write(data)


def _opened(path: Path) -> int:
    """A descriptor to write to; of a pipe as soon as somebody reads it.

    Opening such a pipe waits within the system, where a signal that only sets a flag would not be seen.
    """
    while True:
        try:
            descriptor = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_TRUNC | os.O_NONBLOCK, 0o666)
        except OSError as error:
            if error.errno != errno.ENXIO:
                raise
            if interrupted():
                raise OSError(errno.ENXIO, "nobody reads the pipe") from error
            time.sleep(_LOOK_S)
            continue
        os.set_blocking(descriptor, True)
        return descriptor


def _replace(real: Path, status: os.stat_result | None, data: bytes) -> None:
    """Put a new file in the place of a regular one, or of none; what killed processes left beside it goes."""
    remove_leftovers(real.parent)
    mode = 0o666 if status is None else 0o600  # until the old rights are known to hold, nobody else reads
    temporary, descriptor = temporary_file(real, mode)
    try:
        with os.fdopen(descriptor, "wb") as file:  # locked until it has its name
            file.write(data)
            file.flush()
            if status is not None:
                _keep_rights(temporary, status)
            _rename(temporary, real, data)
    finally:
        temporary.unlink(missing_ok=True)


def _keep_rights(path: Path, status: os.stat_result) -> None:
    """Give a file the owner, as far as allowed, and the mode of another."""
    own = path.stat()
    if (own.st_uid, own.st_gid) != (status.st_uid, status.st_gid):
        for owner, group in ((-1, status.st_gid), (status.st_uid, -1)):  # the group first: it may be ours
            with suppress(PermissionError):
                os.chown(path, owner, group)
    path.chmod(stat.S_IMODE(status.st_mode) & 0o777)


def _rename(temporary: Path, real: Path, data: bytes) -> None:
    try:
        temporary.replace(real)
    except OSError as error:
        if error.errno != errno.EBUSY:
            raise
        # A file that is mounted by itself, as into a container, cannot be replaced.
        _write(_opened(real), data)


def _failure(path: Path, error: OSError) -> OutputFileError:
    if isinstance(error, OutputFileError):
        return error
    reason = error.strerror or str(error)
    remedy = _REMEDIES.get(error.errno or 0, "name a file in a folder that exists")
    return OutputFileError(f"{path} cannot be written ({reason}); {remedy}")
