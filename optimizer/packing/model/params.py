"""Parameters of the placers, by algorithm; defaults are what every documented figure was measured with."""

from __future__ import annotations

from scenarios import Params


class BoundParams(Params):
    """Lower bounds before and beside the search."""


class AnnealingParams(Params):
    """Simulated annealing of packings of one bin fewer."""


class LocalSearchParams(Params):
    """Moves and swaps that empty bins, and those that level loads."""


class ColumnGenerationParams(Params):
    """The linear relaxation over patterns: pricing, stabilisation, dual inequalities."""


class BranchAndPriceParams(Params):
    """Dives, the tree and the enumeration of columns on top of the relaxation."""


class AssignmentParams(Params):
    """The assignment model and its solvers."""


class PackingParams(Params):
    """Parameters of every placer."""

    bounds: BoundParams = BoundParams()
    """Lower bounds before and beside the search."""
    annealing: AnnealingParams = AnnealingParams()
    """Simulated annealing of packings of one bin fewer."""
    local_search: LocalSearchParams = LocalSearchParams()
    """Moves and swaps that empty bins, and those that level loads."""
    column_generation: ColumnGenerationParams = ColumnGenerationParams()
    """The linear relaxation over patterns: pricing, stabilisation, dual inequalities."""
    branch_and_price: BranchAndPriceParams = BranchAndPriceParams()
    """Dives, the tree and the enumeration of columns on top of the relaxation."""
    assignment: AssignmentParams = AssignmentParams()
    """The assignment model and its solvers."""
