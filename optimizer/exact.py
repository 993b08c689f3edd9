"""`exact`: the bound and a plan first, then the assignment model to close what is left."""

from __future__ import annotations

from optimizer.bounds import continuous_bound
from optimizer.cpsat import place_cpsat
from optimizer.firstfit import place_best_fit
from optimizer.outcome import Run


def place_exact(run: Run) -> None:
    """Improve plan and bound until they meet or a limit strikes."""
    if run.problem.objective == "price":
        run.raise_bound(continuous_bound(run.problem))
        place_best_fit(run)
    if not run.done:
        place_cpsat(run)
