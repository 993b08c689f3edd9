"""The cache on disk: where it lies, and how files come into it without ever ending the work behind them."""

from __future__ import annotations

import errno
import hashlib
import json
import logging
import os
from collections.abc import Mapping
from contextlib import suppress
from functools import cache
from pathlib import Path
from typing import Any

from learn.storage.dataset import write_atomically
from scenarios.output import remove_leftovers

_log = logging.getLogger(__name__)

CACHE_VARIABLE = "LORAPACK_CACHE"
"""Environment variable that names the folder of the cache."""

_told: set[Path] = set()
"""Caches of which it was said that they cannot be used."""


def cache_folder(cache_dir: str | Path | None = None) -> Path | None:
    """Folder of the cache on disk; None where the user has no home folder and names none."""
    if cache_dir is not None:
        return Path(cache_dir)
    if os.environ.get(CACHE_VARIABLE):
        return Path(os.environ[CACHE_VARIABLE])
    base = Path(os.environ.get("XDG_CACHE_HOME", ""))
    if base.is_absolute():  # others are to be ignored (XDG Base Directory Specification)
        return base / "lorapack"
    try:
        home = Path.home()
    except RuntimeError:
        home = Path()
    if home.is_absolute() and os.environ.get("HOME") != "":  # of an empty one Python makes the root
        return home / ".cache" / "lorapack"
    _say_homeless()
    return None


def content_key(content: Mapping[str, Any]) -> str:
    """Name in the cache of what these plain values determine."""
    return hashlib.sha256(json.dumps(content, sort_keys=True).encode()).hexdigest()[:32]


def kept_text(path: Path, root: Path) -> str | None:
    """The text of a file of the cache; None if there is none, or none that can be read.

    Raises
    ------
    ValueError
        If the file holds no text.
    """
    try:
        _refuse_what_is_no_file(path)
        return path.read_text(encoding="utf-8")
    except (FileNotFoundError, NotADirectoryError):
        return None
    except OSError as error:
        _say_unusable(root, path, "read", error)
        return None


def keep(path: Path, text: str, root: Path) -> None:
    """Write a file of the cache, if that can be done: what it is made of stays in memory."""
    try:
        _refuse_what_is_no_file(path)
        write_atomically(path, text)
    except OSError as error:
        _say_unusable(root, path, "written", error)


def _refuse_what_is_no_file(path: Path) -> None:
    """A pipe or a device would be waited for."""
    if path.exists() and not path.is_file():
        raise OSError(errno.EINVAL, "it is no regular file")


def clear_up(root: Path) -> None:
    """Remove temporary files that killed processes left in a cache."""
    with suppress(OSError):  # another process empties it, or it cannot be read
        for folder in (root / "regions", *(root / "samples").glob("**/")):
            remove_leftovers(folder)


@cache
def _say_homeless() -> None:
    _log.warning(
        "there is no home folder, so regions and twin runs are not kept; set %s to a folder", CACHE_VARIABLE
    )


def _say_unusable(root: Path, path: Path, done: str, error: OSError) -> None:
    """Say once of a cache that one of its files cannot be read or written."""
    if root in _told:
        return
    _told.add(root)
    cause = error.__cause__ if isinstance(error.__cause__, OSError) else error
    _log.warning(
        "%s: cannot be %s (%s), so what is made now is made again next time; mend it, or name another folder "
        "than %s",
        path,
        done,
        cause.strerror or cause,
        root,
    )
