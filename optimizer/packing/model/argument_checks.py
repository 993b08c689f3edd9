"""Single values that a packing problem or `pack` is given, each as what it must be."""

from __future__ import annotations

import numpy as np

from optimizer.packing.model.arrays import FloatArray, IntArray
from scenarios import Problem
from scenarios.arguments import is_number
from scenarios.errors import InputError


class PackingError(InputError):
    """A packing problem, or what was asked of it, is wrong."""

    @classmethod
    def of(cls, name: str, message: str, remedy: str = "") -> PackingError:
        """The error of one problem."""
        return cls([Problem(name, message, remedy)])


def to_number(name: str, value: object, *, least: float = 0.0, finite: bool = True) -> float:
    """A number of at least ``least``."""
    kind = "a finite number" if finite else "a number"
    if not is_number(value):
        raise PackingError.of(name, f"is {value!r}, must be {kind}", "give one")
    if finite and not np.isfinite(float(value)):
        raise PackingError.of(name, f"is {float(value):g}, must be {kind}", "give one")
    if value < least:
        raise PackingError.of(name, f"is {float(value):g}, must be at least {least:g}", "raise it")
    return float(value)


def to_whole(name: str, value: object, *, least: int = 0) -> int:
    """A whole number of at least ``least``."""
    number = to_number(name, value, least=least)
    if not number.is_integer():
        raise PackingError.of(name, f"is {number:g}, must be a whole number", "round it")
    return int(value)  # type: ignore[call-overload, no-any-return]  # of large numbers a float loses digits


def to_floats(name: str, value: object, *, dimensions: int) -> FloatArray:
    """An array of at most so many dimensions."""
    try:
        array = np.asarray(value, dtype=np.float64)
    except (TypeError, ValueError):
        message = f"is {value!r:.80}, must hold numbers"
        raise PackingError.of(name, message, "give a list or an array") from None
    if array.ndim > dimensions:
        raise PackingError.of(name, f"has {array.ndim} dimensions, must have {dimensions}", "reshape it")
    return array


def to_wholes(name: str, value: object) -> IntArray:
    """A list of whole numbers."""
    if isinstance(value, np.ndarray) and value.dtype == np.int64:
        return value
    array = to_floats(name, value, dimensions=1)
    wrong = np.argwhere(~((array == np.rint(array)) & (np.abs(array) <= 2.0**53)))
    if len(wrong):
        shown = f"{name}[{int(wrong[0][0])}]" if array.ndim else name
        message = f"is {array[tuple(wrong[0])]:g}, must be a whole number"
        raise PackingError.of(shown, message, "round it")
    return array.astype(np.int64)


def check_members(name: str, value: object, kind: type) -> None:
    """Refuse what is no tuple or list of a class."""
    expected = f"must be a tuple or list of {kind.__name__}"
    if not isinstance(value, (tuple, list)):
        message = f"is of type {type(value).__name__}, {expected}"
        raise PackingError.of(name, message, "put it into a tuple")
    for k, member in enumerate(value):
        if not isinstance(member, kind):
            message = f"is of type {type(member).__name__}, {expected}"
            raise PackingError.of(f"{name}[{k}]", message, "build one")
