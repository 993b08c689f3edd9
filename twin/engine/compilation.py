"""How loops are compiled: numba, and machine code on disk that is used only if it is what it claims to be."""

# mypy: disallow-untyped-calls=False
# (numba's cache has hardly any types)

from __future__ import annotations

import hashlib
import logging
import pickle
from collections.abc import Callable, Iterable
from functools import cache
from multiprocessing import parent_process
from pathlib import Path
from typing import Any, TypeVar, cast

from numba import njit
from numba.core.caching import CompileResultCacheImpl, FunctionCache
from numba.core.serialize import dumps
from numba.misc.appdirs import AppDirs

logger = logging.getLogger(__name__)

F = TypeVar("F", bound=Callable[..., object])

SOURCES = (
    "engine/batch",
    "engine/bulk_copy",
    "engine/compilation",
    "engine/loop",
    "engine/queues",
    "engine/records",
    "engine/scheduler",
    "engine/slots",
    "engine/state",
    "measured/client_view",
)
"""Files of this package whose code or constants end up in compiled code."""

_OPTIONS: dict[str, Any] = {
    "error_model": "numpy",  # no test for division by zero: nothing is divided by what can be zero
    "_nrt": False,  # no reference counts: nothing is allocated, and counting costs more than the loop
}


def compiled(function: F) -> F:
    """Compile a function that other compiled functions call; they hold its code, it has no cache."""
    return cast(F, njit(forceinline=True, **_OPTIONS)(function))


def cached(function: F) -> F:
    """Compile an entry point that allocates nothing, and keep its code on disk."""
    return kept(SOURCES_DIGEST, nogil=True, **_OPTIONS)(function)


def kept(sources: str, **options: Any) -> Callable[[F], F]:
    """A decorator that compiles a function and keeps its code on disk, if there is a place for it.

    Parameters
    ----------
    sources
        Digest of all files whose code ends up in the function (`sources_digest`).
    options
        Options of numba.
    """

    def compile_and_keep(function: F) -> F:
        dispatcher = njit(**options)(function)
        try:
            dispatcher._cache = _CodeCache(function, sources)  # what njit(cache=True) does with numba's own
        except RuntimeError:  # numba found no folder that it may write to
            _say_unkept("no folder for it can be written")
        return cast(F, dispatcher)

    return compile_and_keep


def sources_digest(folder: Path, names: Iterable[str]) -> str:
    """Digest of some Python files of a folder, and of this one, which says how they are compiled."""
    digest = hashlib.sha256(Path(__file__).read_bytes())
    for name in names:
        digest.update((folder / f"{name}.py").read_bytes())
    return digest.hexdigest()


class _Code(CompileResultCacheImpl):  # type: ignore[misc, unused-ignore]  # numba has hardly any types
    """How code is written: with what it was made of, and with the digest of its own bytes.

    numba writes the index before the code and numbers its files anew when a source changes, so that an
    entry may for a moment, or after a crash for ever, lead to the code of another one.
    """

    origin: tuple[str, ...] = ()
    """Digest of the sources, module and name of the function."""

    def __init__(self, function: Callable[..., object]) -> None:
        if not _has_home():  # numba would make a folder ~ in the current one
            self._locator_classes = [c for c in self._locator_classes if "UserWide" not in c.__name__]
        super().__init__(function)

    def reduce(self, data: Any) -> tuple[tuple[str, ...], str, bytes]:
        """What is written of a compiled function."""
        code = dumps(super().reduce(data))
        return self.origin, hashlib.sha256(code).hexdigest(), code

    def rebuild(self, target_context: Any, reduced_data: Any) -> Any:
        """The compiled function of what was written.

        Raises
        ------
        ValueError
            If it is damaged, or the code of other sources or of another function.
        """
        origin, digest, code = reduced_data
        if origin != self.origin or digest != hashlib.sha256(code).hexdigest():
            raise ValueError("it is not what was written")
        return super().rebuild(target_context, pickle.loads(code))


class _CodeCache(FunctionCache):  # type: ignore[misc, unused-ignore]  # numba has hardly any types
    """numba's cache of a function, except that it depends on all sources and never ends a run.

    numba itself looks only at the file of the function to see whether its code is old, not at those of
    the functions that it calls, and raises what a full disk or a damaged file raises.
    """

    _impl_class = _Code

    def __init__(self, function: Callable[..., object], sources: str) -> None:
        super().__init__(function)
        self._sources = sources
        self._impl.origin = (sources, function.__module__, function.__qualname__)

    def load_overload(self, sig: Any, target_context: Any) -> Any:
        """The code for a signature; None if there is none that is sound."""
        try:
            found = super().load_overload(sig, target_context)
            if found is None or tuple(found.signature.args) == tuple(sig):
                return found
            raise ValueError("it is the code of another signature")
        except Exception as error:  # a damaged pickle may raise anything
            logger.warning(
                "%s: compiled code is damaged (%s); compiling anew", self._cache_file._index_path, error
            )
        self._forget()
        return None

    def save_overload(self, sig: Any, data: Any) -> None:
        """Write the code for a signature, if that can be done."""
        try:
            super().save_overload(sig, data)
        except OSError as error:
            _say_unkept(error.strerror or str(error))

    def _index_key(self, sig: Any, codegen: Any) -> tuple[object, ...]:
        return (*super()._index_key(sig, codegen), self._sources)

    def _forget(self) -> None:
        """Begin a new index, as nothing can be added to a damaged one."""
        try:
            self.flush()
        except OSError as error:
            _say_unkept(error.strerror or str(error))


def _has_home() -> bool:
    """Whether numba knows a folder for the caches of the user."""
    return Path(AppDirs("numba", appauthor=False).user_cache_dir).is_absolute()


@cache
def _say_unkept(reason: str) -> None:
    """Say once that code is not kept; the workers of a process need not repeat it."""
    if parent_process() is None:
        logger.warning(
            "compiled code is not kept (%s), so every process compiles anew; "
            "set NUMBA_CACHE_DIR to a folder that can be written",
            reason,
        )


SOURCES_DIGEST = sources_digest(Path(__file__).parents[1], SOURCES)
"""Digest of this package's compiled code."""
