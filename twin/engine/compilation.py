"""How loops are compiled: numba, and machine code on disk that is used only if it is what it claims to be."""

# mypy: disallow-untyped-calls=False
# (numba's cache has hardly any types)

from __future__ import annotations

import hashlib
import io
import logging
import pickle
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from functools import cache, cached_property
from multiprocessing import parent_process
from pathlib import Path
from typing import Any, TypeVar, cast

from numba import njit
from numba.core.caching import CompileResultCacheImpl, FunctionCache, IndexDataCacheFile
from numba.core.registry import CPUDispatcher
from numba.core.serialize import dumps
from numba.core.types import int32, int64, unliteral
from numba.misc.appdirs import AppDirs

from scenarios import write_whole

logger = logging.getLogger(__name__)

F = TypeVar("F", bound=Callable[..., object])

SOURCES = (
    "engine/compilation",
    "engine/compiled/batch",
    "engine/compiled/blocks",
    "engine/compiled/bulk_copy",
    "engine/compiled/endings",
    "engine/compiled/line",
    "engine/compiled/loop",
    "engine/compiled/queues",
    "engine/compiled/scheduler",
    "engine/compiled/slots",
    "engine/compiled/special",
    "engine/records",
    "engine/state",
    "measured/client_view",
)
"""Files of this package whose code or constants end up in compiled code."""

_OPTIONS: dict[str, Any] = {
    "error_model": "numpy",  # no test for division by zero: nothing is divided by what can be zero
    "_nrt": False,  # no reference counts: nothing is allocated, and counting costs more than the loop
}


_NO_C_WRAPPER: dict[str, Any] = {"no_cfunc_wrapper": True}  # nothing calls compiled code from C


class InnerFunction(CPUDispatcher):  # type: ignore[misc, unused-ignore]  # numba has hardly any types
    """A function that other compiled functions call; they hold its code, so that it needs no cache.

    numba spends half of the time that a small function takes on wrappers for callers in Python and C, and
    compiles it anew for every constant and every width of an integer that it is called with. This one has
    no wrappers, and takes constants and integers of 32 bits as integers of 64.

    Parameters
    ----------
    function
        What to compile.
    sources
        Digest of all files whose code ends up in the function (`sources_digest`).
    options
        Options of numba.
    """

    def __init__(self, function: Callable[..., object], sources: str, **options: Any) -> None:
        super().__init__(
            function, targetoptions={"nopython": True, "no_cpython_wrapper": True, **_NO_C_WRAPPER, **options}
        )
        self._sources, self._options = sources, options

    def get_call_template(self, args: Iterable[Any], kws: Any) -> Any:
        """What numba asks when compiled code calls this function with arguments of some types."""
        return super().get_call_template(tuple(_widened(kind) for kind in args), kws)

    def __call__(self, *args: Any) -> Any:
        """Call it from Python, as tests do: compiled once more, with a wrapper, and kept on disk."""
        return self._for_python(*args)

    @cached_property
    def _for_python(self) -> Callable[..., Any]:
        return kept(self._sources, **self._options)(self.py_func)


def _widened(kind: Any) -> Any:
    kind = unliteral(kind)
    return int64 if kind == int32 else kind


def compiled(function: F) -> F:
    """Compile a function into those that call it (`InnerFunction`)."""
    return cast(F, InnerFunction(function, SOURCES_DIGEST, forceinline=True, **_OPTIONS))


def apart(function: F) -> F:
    """Compile a function that few runs need once, not anew into each of those that call it."""
    return cast(F, InnerFunction(function, SOURCES_DIGEST, **_OPTIONS))


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
        dispatcher = njit(**_NO_C_WRAPPER, **options)(function)
        try:
            dispatcher._cache = _CodeCache(function, sources)  # what njit(cache=True) does with numba's own
        except RuntimeError:  # numba found no folder that it may write to
            _say_unkept("no folder for it can be written")
        return cast(F, dispatcher)

    return compile_and_keep


def is_kept(kernel: Any) -> bool:
    """Whether there is a place on disk for the code of an entry point."""
    return isinstance(kernel._cache, _CodeCache)


def is_on_disk(kernel: Any) -> bool:
    """Whether there is code on disk of an entry point, for arguments of some types."""
    return is_kept(kernel) and kernel._cache.holds(kernel)


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


class _Files(IndexDataCacheFile):  # type: ignore[misc, unused-ignore]  # numba has hardly any types
    """Index and code of a function on disk; what a process leaves that is killed meanwhile is removed."""

    @contextmanager
    def _open_for_write(self, filepath: str) -> Iterator[io.BytesIO]:
        content = io.BytesIO()
        yield content
        write_whole(filepath, content.getvalue())


class _CodeCache(FunctionCache):  # type: ignore[misc, unused-ignore]  # numba has hardly any types
    """numba's cache of a function, except that it depends on all sources and never ends a run.

    numba itself looks only at the file of the function to see whether its code is old, not at those of
    the functions that it calls, and raises what a full disk or a damaged file raises.
    """

    _impl_class = _Code

    def __init__(self, function: Callable[..., object], sources: str) -> None:
        super().__init__(function)
        stamp = self._impl.locator.get_source_stamp()
        self._cache_file = _Files(self._cache_path, self._impl.filename_base, stamp)
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
            _say_unkept(_reason(error))

    def holds(self, dispatcher: Any) -> bool:
        """Whether there is code of these sources for this machine; loading it tells whether it is sound."""
        ours = self._index_key(None, dispatcher.targetctx.codegen())
        try:
            return any(key[1:] == ours[1:] for key in self._cache_file._load_index())
        except Exception:  # a damaged pickle may raise anything
            return False

    def _index_key(self, sig: Any, codegen: Any) -> tuple[object, ...]:
        return (*super()._index_key(sig, codegen), self._sources)

    def _forget(self) -> None:
        """Begin a new index, as nothing can be added to a damaged one."""
        try:
            self.flush()
        except OSError as error:
            _say_unkept(_reason(error))


def _has_home() -> bool:
    """Whether numba knows a folder for the caches of the user."""
    return Path(AppDirs("numba", appauthor=False).user_cache_dir).is_absolute()


def _reason(error: OSError) -> str:
    """What the system says."""
    cause = error.__cause__ if isinstance(error.__cause__, OSError) else error
    return cause.strerror or str(cause)


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
