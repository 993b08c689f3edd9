"""Parameters of the placers, by algorithm; defaults are what every documented figure was measured with."""

from __future__ import annotations

from typing import Annotated

from pydantic import Field

from scenarios import Params


class BoundParams(Params):
    """Lower bounds before and beside the search."""


class CoolingSchedule(Params):
    """One annealing: how hot it begins and ends, and how long it takes."""

    hot: Annotated[float, Field(gt=0)]
    """Overflow, in mean items, that is accepted about every third time at the start."""
    cold: Annotated[float, Field(gt=0)]
    """The same at the end."""
    length: Annotated[int, Field(ge=1)] = 1
    """Moves, as a multiple of `AnnealingParams.moves_per_item`."""


class AnnealingParams(Params):
    """Simulated annealing of packings of one bin fewer."""

    schedules: tuple[CoolingSchedule, ...] = (
        CoolingSchedule(hot=0.002, cold=0.0002),
        CoolingSchedule(hot=0.02, cold=0.001),
        CoolingSchedule(hot=0.1, cold=0.001, length=2),
    )
    """Annealings one after the other. Where items are many and small, heat spoils the division that the
    aggregate model begins with; where they are few and large, little moves without."""
    moves_per_item: Annotated[int, Field(ge=1)] = 3_000
    """Moves that an annealing tries for every item."""
    least_moves: Annotated[int, Field(ge=1)] = 300_000
    """Moves that it tries at least."""
    moves_per_look: Annotated[int, Field(ge=1)] = 1_000_000
    """Moves between two looks at the clock."""
    first_step: Annotated[float, Field(gt=0, le=1)] = 0.1
    """Share of the way from the bound to the plan at which a packing is looked for after the bound itself."""
    retry_overflow: Annotated[float, Field(ge=0)] = 0.01
    """Overflow, in bins, up to which an annealing is done again from where it ended."""
    retries: Annotated[int, Field(ge=0)] = 3
    """How often that is done."""
    division_share: Annotated[float, Field(gt=0, le=1)] = 0.1
    """Share of the time that one division of the items over the options may take: the tighter the price, the
    longer it is looked for."""
    harmless_share: Annotated[float, Field(ge=0, le=1)] = 0.01
    """Share of the moves between two bins without overflow that are tried: they help only by chance."""


class LocalSearchParams(Params):
    """Moves and swaps that empty bins, and those that level loads."""

    annealing_share: Annotated[float, Field(ge=0, le=1)] = 0.5
    """Share of the time that annealing gets before local search."""
    longest_s: Annotated[float, Field(gt=0)] = 10.0
    """Seconds of local search at most."""
    rounds: Annotated[int, Field(ge=0)] = 2_000
    """Rounds of opening bins up and filling them anew at most."""
    opened_bins: Annotated[int, Field(ge=1)] = 2
    """Fewest bins that a round opens up."""
    more_opened_bins: Annotated[int, Field(ge=0)] = 5
    """By how many it may open up more, drawn at random."""
    lightness: Annotated[float, Field(ge=0)] = 3.0
    """How much rather light bins are opened: the fullest exp(-lightness) times as likely as the lightest."""
    noise: Annotated[float, Field(ge=0)] = 0.3
    """Standard deviation of the logarithm of the noise on the weights by which items are put back."""
    swap_bins: Annotated[int, Field(ge=0)] = 60
    """Bins up to which swaps are tried as well."""
    swap_every: Annotated[int, Field(ge=1)] = 10
    """Every how many rounds they are."""
    exchanges: Annotated[int, Field(ge=0)] = 3_000
    """Exchanges of items between two bins that level loads at most."""
    tries: Annotated[int, Field(ge=1)] = 8
    """Exchanges between the same two bins that are tried, the best first, before another pair is."""
    slowest_bins: Annotated[int, Field(ge=1)] = 4
    """Bins from the slowest one on that are relieved where the mean latency counts."""
    dealt_pieces: Annotated[int, Field(ge=1)] = 4
    """Pieces of a bin's even share in which a class is dealt, of at least one item each."""


class GreedyParams(Params):
    """The greedy of arXiv 2602.24044."""

    test_points: tuple[Annotated[int, Field(ge=1)], ...] = (
        8, 16, 32, 64, 96, 128, 160, 192, 256, 320, 384, 448, 512, 576,
    )  # fmt: skip
    """Numbers of adapters, and of slots, at which it tests a GPU; the published ones."""


class ColumnGenerationParams(Params):
    """The linear relaxation over patterns: pricing, stabilisation, dual inequalities."""


class BranchAndPriceParams(Params):
    """Dives, the tree and the enumeration of columns on top of the relaxation."""


class AssignmentParams(Params):
    """The assignment model and its solvers."""

    most_variables: Annotated[int, Field(ge=1)] = 400_000
    """Item variables of a model at most; larger problems are for the patterns."""
    alone_s: Annotated[float, Field(gt=0)] = 1.0
    """Deterministic seconds that one search of CP-SAT gets before several are interleaved."""
    largest_coefficient: Annotated[float, Field(ge=1)] = 10_000
    """Coefficient of a row that the MILP solvers get as it is; rows with larger ones are divided."""


class PackingParams(Params):
    """Parameters of every placer."""

    bounds: BoundParams = BoundParams()
    """Lower bounds before and beside the search."""
    annealing: AnnealingParams = AnnealingParams()
    """Simulated annealing of packings of one bin fewer."""
    greedy: GreedyParams = GreedyParams()
    """The greedy of arXiv 2602.24044."""
    local_search: LocalSearchParams = LocalSearchParams()
    """Moves and swaps that empty bins, and those that level loads."""
    column_generation: ColumnGenerationParams = ColumnGenerationParams()
    """The linear relaxation over patterns: pricing, stabilisation, dual inequalities."""
    branch_and_price: BranchAndPriceParams = BranchAndPriceParams()
    """Dives, the tree and the enumeration of columns on top of the relaxation."""
    assignment: AssignmentParams = AssignmentParams()
    """The assignment model and its solvers."""


DEFAULTS = PackingParams()
"""What a function takes that is given no parameters."""
