"""Parameters of the placers, by algorithm; defaults are what every documented figure was measured with.

Shares of the time left are of its counted seconds (`scenarios.Deadline`), so that no clock decides what a
step finds.
"""

from __future__ import annotations

from typing import Annotated

from pydantic import Field

from scenarios import Params

_Share = Annotated[float, Field(ge=0, le=1)]
_Number = Annotated[int, Field(ge=0)]
_Positive = Annotated[int, Field(ge=1)]


class BoundParams(Params):
    """Lower bounds before and beside the search."""

    whole_bins_s: Annotated[float, Field(gt=0)] = 20.0
    """Counted seconds at most for the bound with whole numbers of bins."""
    whole_bins_share: Annotated[float, Field(gt=0, le=1)] = 0.1
    """Share of the time left for the bound with whole numbers of bins."""
    division_gap: Annotated[float, Field(ge=0, lt=1)] = 0.05
    """Relative gap at which whole numbers of bins are near enough to those of the relaxation."""


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
    """Counted seconds of local search at most."""
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

    most_classes: _Number = 2_000
    """Classes beyond which there is no such relaxation: one of its programmes takes minutes."""
    exact_classes: _Number = 200
    """Classes up to which the relaxation is solved to its end before plans are made of it."""
    early_gap: Annotated[float, Field(ge=0, lt=1)] = 2e-3
    """Relative gap at which the relaxation of more classes is left for plans."""
    greedy_gain: Annotated[float, Field(ge=0, lt=1)] = 1e-3
    """Greedy columns are given up when a round of them lowers the optimum by less than this share."""
    smoothing: Annotated[float, Field(ge=0, lt=1)] = 0.6
    """Weight of the best bound's duals when bins are priced; 0: the master's duals alone."""
    tree_nodes: tuple[_Positive, _Positive, _Positive] = (300, 5_000, 100_000)
    """Nodes of a pricing tree, from the first rounds to the last, which prove the bound."""
    table_cells: _Number = 32_000_000
    """Largest table of the dynamic programme, which takes milliseconds where the tree may take a second."""
    multiplier_rounds: _Positive = 25
    """Rounds in which the weights of an option's rows are fitted, for the bound of a pricing tree."""
    rivals: _Number = 4
    """Classes that a class is held back for in a pricing tree, at most; 0: no dominance."""
    exchanges: _Number = 3
    """Dual inequalities per class, to the largest that may take its place; 0: none."""
    artificial_price: Annotated[float, Field(gt=0)] = 1_000.0
    """Price of an uncovered item, in dearest bins."""
    interruptible_classes: _Number = 200
    """Classes beyond which the master may take seconds, so that signals must reach its solver."""


class BranchAndPriceParams(Params):
    """Dives, the tree and the enumeration of columns on top of the relaxation."""

    first_plans_share: _Share = 0.2
    """Share of the time for best fit, so that bounds come before it ends where classes are thousands."""
    annealing_shares: tuple[_Share, _Share] = (0.2, 0.1)
    """Share of the time left for annealing, before the relaxation and after it has raised the bound."""
    enumeration_share: _Share = 0.2
    """Share of the time left for a packing of listed bins."""
    relaxation_shares: tuple[_Share, _Share, _Share] = (0.4, 0.2, 0.5)
    """Share of the time left for the relaxation: at first, to its end before branching, and at last."""
    branching_share: _Share = 0.6
    """Share of the time left for branching on numbers of bins."""
    dive_shares: tuple[_Share, _Share] = (0.5, 0.8)
    """Share of the time left for dives, where a small assignment model is to follow and where none is."""
    master_share: _Share = 0.3
    """Share of the time left for the last restricted master."""
    listed_bins: _Positive = 5_000
    """Bins at most that are listed as those of a packing at the bound."""
    listing_nodes: _Positive = 500_000
    """Nodes of the search for them, per option."""
    dives: _Number = 24
    """Dives before a small assignment model takes over."""
    leaf_dives: _Number = 48
    """Dives into a branch whose numbers of bins are all whole."""
    dive_noise: tuple[Annotated[float, Field(ge=0)], Annotated[float, Field(ge=0)]] = (0.1, 0.5)
    """Spread of the noise on what all dives but the first round up, least and most."""
    rounded_fraction: _Share = 0.65
    """Share of a dive's largest fraction from which other columns are rounded up with it."""
    single_rounding_classes: _Number = 100
    """Classes up to which a dive rounds up one column at a time, and prices exactly."""
    columns_per_rounding: _Positive = 12
    """Beyond, a dive rounds up one in so many of the bins that are left."""
    dive_rounds: tuple[_Positive, _Positive] = (40, 12)
    """Rounds of pricing after each rounding of a dive, up to that many classes and beyond."""
    restricted_masters: tuple[tuple[_Number, Annotated[float, Field(gt=0)]], ...] = (
        (0, 3.0), (3, 5.0), (8, 10.0), (24, 10.0),
    )  # fmt: skip
    """Dives after which a restricted master is solved, each with the counted seconds that it may take."""
    restricted_columns: _Positive = 4_000
    """Columns of a restricted master: those of least reduced cost."""
    small_assignment: _Number = 20_000
    """Item variables of a small assignment model; beyond, dives get most of the time."""
    assignment_built_per_s: Annotated[float, Field(ge=0)] = 8_000.0
    """Item variables of an assignment model that is built in a second, before any search."""


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
