"""`exact`: the method that suits the objective, the strongest there is."""

from __future__ import annotations

from optimizer.packing.assignment.cpsat import place_cpsat
from optimizer.packing.branch_and_price.branch_and_price import place_by_branch_and_price
from optimizer.packing.heuristics.load_balancing import place_spread
from optimizer.packing.model.search_state import SearchState


def place_exact(run: SearchState) -> None:
    """Improve plan and bound until they meet or a limit strikes.

    For the price by patterns, which end with the assignment model; for latency a heuristic spread, then
    the assignment model.
    """
    if run.problem.objective == "price":
        place_by_branch_and_price(run)
        return
    place_spread(run)
    if not run.done:
        place_cpsat(run)
