"""`exact`: the method that suits the objective, the strongest there is."""

from __future__ import annotations

from optimizer.packing.cpsat import place_cpsat
from optimizer.packing.outcome import Run
from optimizer.packing.patterns import place_patterns
from optimizer.packing.spread import place_spread


def place_exact(run: Run) -> None:
    """Improve plan and bound until they meet or a limit strikes.

    For the price by patterns, which end with the assignment model; for latency a heuristic spread, then
    the assignment model.
    """
    if run.problem.objective == "price":
        place_patterns(run)
        return
    place_spread(run)
    if not run.done:
        place_cpsat(run)
