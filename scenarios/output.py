"""Files written whole or not at all."""

from __future__ import annotations

import os
import tempfile
from pathlib import Path

from scenarios.errors import LorapackError


class OutputFileError(LorapackError, OSError):
    """A file cannot be written."""


def write_whole(path: str | Path, text: str) -> Path:
    """Write a text file through a temporary one beside it, so that no reader ever sees half of it.

    Raises
    ------
    OutputFileError
        If it cannot be written.
    """
    target = Path(path)
    try:
        handle, name = tempfile.mkstemp(dir=target.parent, prefix=f".{target.name}.")
    except OSError as error:
        raise _failure(target, error) from error
    temporary = Path(name)
    try:
        with os.fdopen(handle, "w", encoding="utf-8", newline="") as file:
            file.write(text)
        temporary.chmod(0o644)
        temporary.replace(target)
    except OSError as error:
        raise _failure(target, error) from error
    finally:
        temporary.unlink(missing_ok=True)
    return target


def check_writable(path: str | Path) -> None:
    """Notice before long work that its result could not be written.

    Raises
    ------
    OutputFileError
        If the folder does not exist or cannot be written to.
    """
    target = Path(path)
    if target.is_dir():
        raise OutputFileError(f"{path} is a folder; name a file")
    if not target.parent.is_dir() or not os.access(target.parent, os.W_OK):
        raise OutputFileError(f"{path} cannot be written; name a file in a folder that exists")


def _failure(path: Path, error: OSError) -> OutputFileError:
    reason = error.strerror or str(error)
    return OutputFileError(f"{path} cannot be written ({reason}); name a file in a folder that exists")
