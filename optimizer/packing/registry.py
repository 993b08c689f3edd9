"""The methods of `pack` by name; a new placer is one line here."""

from __future__ import annotations

from dataclasses import dataclass

from optimizer.packing.assignment.cpsat import place_cpsat
from optimizer.packing.assignment.milp import place_cbc, place_highs
from optimizer.packing.branch_and_price.branch_and_price import place_by_branch_and_price
from optimizer.packing.exact import place_exact
from optimizer.packing.heuristics.first_fit import place_best_fit, place_first_fit
from optimizer.packing.heuristics.greedy import place_greedy, place_greedy_fill, place_proposed_lat
from optimizer.packing.heuristics.load_balancing import place_spread
from optimizer.packing.heuristics.local_search import place_local_search
from optimizer.packing.model.search_state import Placer

_PRICE = frozenset({"price"})
_LATENCY = frozenset({"worst", "mean"})
_ALL = frozenset({"price", "worst", "mean"})
_CUTS, _HEURISTICS = ("cuts",), ("heuristics", "cuts")


@dataclass(frozen=True)
class Method:
    """A placer with its name.

    Parameters
    ----------
    name, summary
        For menus and messages.
    placer
        The function that works on a `SearchState`.
    exact
        Whether it may say OPTIMAL or INFEASIBLE.
    objectives
        Objectives that it can minimise.
    kernels
        Groups of compiled loops that it calls (`optimizer.packing.warm_up`).
    published
        Whether it is a rule of others, whose plan is left as it is whatever the objective.
    """

    name: str
    summary: str
    placer: Placer
    exact: bool
    objectives: frozenset[str]
    kernels: tuple[str, ...] = ("heuristics", "branch and price", "cuts")
    published: bool = False

    @property
    def spreads(self) -> bool:
        """Whether it can only spread items over bins that are given, since it minimises no price."""
        return "price" not in self.objectives


def _published(name: str, summary: str, placer: Placer, objectives: frozenset[str]) -> Method:
    """A rule of the paper's."""
    return Method(name, summary, placer, False, objectives, _CUTS, published=True)


METHODS: dict[str, Method] = {
    method.name: method
    for method in (
        _published("greedy", "the paper's Proposed, at its test points", place_greedy, _PRICE),
        _published("greedy-fill", "Proposed, tested at every adapter", place_greedy_fill, _PRICE),
        _published("greedy-lat", "the paper's ProposedLat", place_proposed_lat, _LATENCY),
        Method("ffd", "first-fit decreasing, arbitrary fill", place_first_fit, False, _PRICE, _HEURISTICS),
        Method("bfd", "best-fit decreasing, arbitrary fill", place_best_fit, False, _PRICE, _HEURISTICS),
        Method("exact", "patterns, or for latency a spread, then CP-SAT", place_exact, True, _ALL),
        Method(
            "local",
            "best-fit, then local search that empties bins",
            place_local_search,
            False,
            _PRICE,
            _HEURISTICS,
        ),
        Method(
            "spread", "least-loaded bins, then moves and swaps", place_spread, False, _LATENCY, _HEURISTICS
        ),
        Method(
            "patterns", "column generation, diving, CP-SAT to finish", place_by_branch_and_price, True, _PRICE
        ),
        Method("cpsat", "assignment model in CP-SAT", place_cpsat, True, _ALL, _HEURISTICS),
        Method("milp", "assignment model as MILP, HiGHS through PuLP", place_highs, True, _ALL, _HEURISTICS),
        Method("cbc", "assignment model as MILP, CBC through PuLP", place_cbc, True, _ALL, _HEURISTICS),
    )
}
