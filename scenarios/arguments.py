"""Checks of what a function is given: every value against a rule, and all that is wrong told at once."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable
from dataclasses import dataclass, field
from numbers import Integral, Real
from typing import Any, TypeGuard

from scenarios.errors import InputError, Problem, ScenarioError

Rule = Callable[[Any], bool]
"""Whether a value may be given."""


def is_number(value: object) -> TypeGuard[float]:
    """Whether a value is a number: no truth value, and not NaN."""
    return isinstance(value, Real) and not isinstance(value, bool) and not math.isnan(float(value))


def whole(*, least: int) -> Rule:
    """The rule of whole numbers of at least so many."""
    return lambda value: isinstance(value, Integral) and not isinstance(value, bool) and int(value) >= least


def number(*, above: float = -math.inf, least: float = -math.inf, below: float = math.inf) -> Rule:
    """The rule of finite numbers in a range."""
    return lambda value: is_number(value) and above < value < below and value >= least


def several(value: object) -> list[Any]:
    """Values as a list: those of an iterable, or the one that stands alone, which a text always does."""
    return list(value) if isinstance(value, Iterable) and not isinstance(value, str | bytes) else [value]


def instance_of(*kinds: type) -> Rule:
    """The rule of the members of some classes."""
    return lambda value: isinstance(value, kinds)


@dataclass(frozen=True)
class ArgumentCheck:
    """Collects the problems of one call.

    Parameters
    ----------
    source
        What was called, for the error's first line.
    problems
        What is wrong so far.
    """

    source: str
    problems: list[Problem] = field(default_factory=list)

    def check(self, name: str, value: object, rule: Rule, remedy: str, message: str = "") -> None:
        """Note a value that breaks a rule, with what to give instead."""
        if not rule(value):
            self.problems.append(Problem(name, message or f"is {value!r}", remedy))

    def refuse(self) -> None:
        """Raise what is wrong.

        Raises
        ------
        ScenarioError
            If anything is.
        """
        refuse(self.problems, lambda problems: ScenarioError(problems, self.source))


def refuse(problems: Iterable[Problem], error: Callable[[list[Problem]], InputError]) -> None:
    """Raise an error of all problems, if there are any."""
    found = list(problems)
    if found:
        raise error(found)
