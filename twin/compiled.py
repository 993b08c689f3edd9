"""How the loop is compiled: numba, with a cache that notices a change in any of the loop's files."""

from __future__ import annotations

import hashlib
import logging
from collections.abc import Callable
from pathlib import Path
from typing import Any, TypeVar, cast

from numba import njit

logger = logging.getLogger(__name__)

F = TypeVar("F", bound=Callable[..., object])

_SOURCES = ("records", "state", "queues", "slots", "batch", "scheduler", "steps", "compiled")

_OPTIONS: dict[str, Any] = {
    "error_model": "numpy",  # no test for division by zero: nothing is divided by what can be zero
    "_nrt": False,  # no reference counts: nothing is allocated, and counting costs more than the loop
}


def compiled(function: F) -> F:
    """Compile a function that other compiled functions call; they hold its code, it has no cache."""
    return cast(F, njit(forceinline=True, **_OPTIONS)(function))


def cached(function: F) -> F:
    """Compile an entry point, and keep its code on disk.

    numba looks only at the file of the entry point to see whether its cache is old. A digest of all
    files with compiled code, made part of the key as a closure, closes that hole.
    """
    try:
        return cast(F, njit(cache=True, nogil=True, **_OPTIONS)(function))
    except RuntimeError as error:  # numba found no folder that it may write to
        logger.warning("compiled code is not kept, every process compiles anew: %s", error)
        return cast(F, njit(nogil=True, **_OPTIONS)(function))


def sources_digest() -> str:
    """Digest of the files whose code ends up in the compiled loop."""
    folder, digest = Path(__file__).parent, hashlib.sha256()
    for name in _SOURCES:
        digest.update((folder / f"{name}.py").read_bytes())
    return digest.hexdigest()
