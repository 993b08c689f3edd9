"""The methods of `pack` by name; a new placer is one line here."""

from __future__ import annotations

from dataclasses import dataclass

from optimizer.cpsat import place_cpsat
from optimizer.exact import place_exact
from optimizer.firstfit import place_best_fit, place_first_fit
from optimizer.outcome import Placer

_PRICE = frozenset({"price"})
_ALL = frozenset({"price", "worst", "mean"})


@dataclass(frozen=True)
class Method:
    """A placer with its name.

    Parameters
    ----------
    name, summary
        For menus and messages.
    placer
        The function that works on a `Run`.
    exact
        Whether it may say OPTIMAL or INFEASIBLE.
    objectives
        Objectives that it can minimise.
    """

    name: str
    summary: str
    placer: Placer
    exact: bool
    objectives: frozenset[str]


METHODS: dict[str, Method] = {
    method.name: method
    for method in (
        Method("ffd", "first-fit decreasing, arbitrary fill", place_first_fit, False, _PRICE),
        Method("bfd", "best-fit decreasing, arbitrary fill", place_best_fit, False, _PRICE),
        Method("exact", "bound and plan first, then the assignment model", place_exact, True, _ALL),
        Method("cpsat", "assignment model in CP-SAT", place_cpsat, True, _ALL),
    )
}
