"""The decorator of compiled inner loops."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, TypeVar, cast

from numba import njit

F = TypeVar("F", bound=Callable[..., Any])


def compiled(function: F) -> F:
    """Compile with numba, keeping the machine code on disk; typed as the function it is given."""
    return cast(F, njit(cache=True, error_model="numpy")(function))
