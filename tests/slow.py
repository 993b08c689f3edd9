"""Values of a parameter that only the slow tests take."""

from __future__ import annotations

from collections.abc import Iterable

import pytest
from _pytest.mark import ParameterSet


def slow(values: Iterable[object]) -> list[ParameterSet]:
    """Each value, marked: the quick tests take the others of the parameter."""
    return [pytest.param(value, marks=pytest.mark.slow) for value in values]
