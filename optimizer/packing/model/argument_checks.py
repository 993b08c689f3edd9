"""Checks of single values that a packing problem or `pack` is given; each error names value and remedy."""

from __future__ import annotations

from numbers import Real

import numpy as np
from numpy.typing import NDArray

from scenarios.errors import LorapackError


class PackingError(LorapackError, ValueError):
    """A packing problem, or what was asked of it, is wrong."""


def number(name: str, value: object, *, least: float | None = 0.0, finite: bool = True) -> float:
    """A number of at least ``least``."""
    wanted = "a finite number" if finite else "a number"
    if not isinstance(value, Real) or isinstance(value, bool) or np.isnan(float(value)):
        raise PackingError(f"{name} is {value!r}, must be {wanted}; give one")
    if finite and not np.isfinite(float(value)):
        raise PackingError(f"{name} is {float(value):g}, must be {wanted}; give one")
    if least is not None and value < least:
        raise PackingError(f"{name} is {float(value):g}, must be at least {least:g}; raise it")
    return float(value)


def whole(name: str, value: object, *, least: int = 0) -> int:
    """A whole number of at least ``least``."""
    given = number(name, value, least=least)
    if not given.is_integer():
        raise PackingError(f"{name} is {given:g}, must be a whole number; round it")
    return int(value)  # type: ignore[call-overload, no-any-return]  # of large numbers a float loses digits


def floats(name: str, value: object, *, dimensions: int) -> NDArray[np.float64]:
    """An array of at most so many dimensions."""
    try:
        array = np.asarray(value, dtype=np.float64)
    except (TypeError, ValueError):
        raise PackingError(f"{name} is {value!r:.80}, must hold numbers; give a list or an array") from None
    if array.ndim > dimensions:
        raise PackingError(f"{name} has {array.ndim} dimensions, must have {dimensions}; reshape it")
    return array


def wholes(name: str, value: object) -> NDArray[np.int64]:
    """A list of whole numbers."""
    if isinstance(value, np.ndarray) and value.dtype == np.int64:
        return value
    array = floats(name, value, dimensions=1)
    wrong = np.argwhere(~((array == np.rint(array)) & (np.abs(array) <= 2.0**53)))
    if len(wrong):
        shown = f"{name}[{int(wrong[0][0])}]" if array.ndim else name
        raise PackingError(f"{shown} is {array[tuple(wrong[0])]:g}, must be a whole number; round it")
    return array.astype(np.int64)


def members(name: str, value: object, kind: type) -> None:
    """Refuse what is no tuple or list of a class."""
    wanted = f"must be a tuple or list of {kind.__name__}"
    if not isinstance(value, (tuple, list)):
        raise PackingError(f"{name} is of type {type(value).__name__}, {wanted}; put it into a tuple")
    for k, one in enumerate(value):
        if not isinstance(one, kind):
            raise PackingError(f"{name}[{k}] is of type {type(one).__name__}, {wanted}; build one")
