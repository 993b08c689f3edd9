"""Parameters of the search around the placers; documented figures were measured with the defaults."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Annotated

from pydantic import Field

from learn import LearnParams
from optimizer.baselines.params import BaselineParams
from optimizer.packing.model.params import PackingParams
from optimizer.packing.registry import METHODS
from optimizer.survival.params import SurvivalParams
from scenarios import Params
from scenarios.reading.findings import Finding

Share = Annotated[float, Field(gt=0.0, le=1.0)]
"""A share, above 0."""

Position = Annotated[float, Field(ge=0.0, le=1.0)]
"""Where between the inner region (0) and the outer one (1)."""

Deviations = Annotated[float, Field(ge=0.0)]
"""A number of standard deviations."""

Count = Annotated[int, Field(ge=1)]
"""A number of something, at least 1."""


class TeachingParams(Params):
    """What the twin is asked about GPUs of a plan, and how its answers correct the inner rows."""

    contents_per_round: Count = 8
    """Most contents of a plan of which the twin is asked how far their load may grow, or must shrink."""
    least_fill: Share = 0.95
    """How full an accepted GPU must be for it to be asked about."""
    max_questions: Count = 6
    """Most questions about one content."""
    tolerance: Annotated[float, Field(gt=0.0, lt=1.0)] = 0.01
    """Width of the interval of ln(load) within which the change of the verdict is to be known."""
    relative_tolerance: Annotated[float, Field(ge=0.0, lt=1.0)] = 0.2
    """The same as a share of the distance of that change, where this is more."""
    first_step: Annotated[float, Field(gt=0.0, lt=1.0)] = 0.02
    """Shortest first step in ln(load)."""
    longest_first_step: Annotated[float, Field(gt=0.0, lt=1.0)] = 0.15
    """Longest first step in ln(load); the margin of the verdict says how long it is."""
    end_share: Annotated[float, Field(gt=0.0, le=0.5)] = 0.2
    """Share of an interval by which a question keeps away from its ends."""
    common_share: Annotated[float, Field(ge=0.0, le=1.0)] = 0.9
    """Share of the variance of a row's relative error that all classes have in common."""
    class_distance: Annotated[float, Field(gt=0.0)] = 1.0
    """Distance of two classes, in ln of what they take, over which the rest falls by a factor of e."""
    option_distance: Annotated[float, Field(gt=0.0)] = 1.4
    """Distance of two options, in ln(slots) + ln(rank), over which what they share falls by a factor of e."""
    row_noise: Annotated[float, Field(gt=0.0, lt=1.0)] = 0.01
    """Relative error of the best linear row on one content: what a correction need not explain."""
    passes: Count = 4
    """How often rows are raised for rejected contents that they still hold."""
    rebalances: Annotated[int, Field(ge=0)] = 2
    """How often the GPUs of a plan may relieve each other by what was learned before another plan is made."""
    overfull: Share = 0.1
    """By how much a GPU may be too full while they do."""
    doubt: Annotated[float, Field(ge=0.0, lt=1.0)] = 0.02
    """By how much it may be too full, as far as is known, for the twin to be shown the outcome."""


class GPUMinimizationParams(Params):
    """The fewest (or cheapest) GPUs."""

    first_methods: tuple[str, ...] = ("bfd", "greedy")
    """Placers of the first plans of an exact search; it is never worse than what the twin accepts of them."""
    max_first_rounds: Count = 4
    """Most rounds of cuts for a first plan; what the twin still rejects then is halved."""
    max_rounds: Count = 50
    """Most rounds of cuts for a heuristic's plan."""
    relaxations: tuple[Position, ...] = (0.25,)
    """Regions, from the inner (0) to the outer (1), where a cheaper plan is looked for by cuts alone."""
    max_cut_rounds: Count = 8
    """How often the twin may reject a plan of such a region."""
    max_cut_share: Share = 0.1
    """Share of its GPUs that the twin may reject for the others to be worth another plan."""
    optimism: tuple[Deviations, ...] = (0.0, 0.5, 1.0)
    """Standard deviations by which corrected rows are widened, one after the other, for fewer GPUs."""
    max_taught_rounds: Count = 4
    """How often the twin may reject a plan of the corrected rows, at each width, before another is tried."""
    max_idle_rounds: Count = 7
    """After how many rounds without a better plan, at any width, no further one is made on these rows."""
    max_outer_rounds: Count = 4
    """How often the twin may reject a cheaper plan of the outer rows before the gap is left open."""
    max_rejected_share: Share = 0.5
    """Share of its GPUs that the twin may reject, twice in a row, before it is left open at once."""
    outer_time_share: Share = 0.2
    """Share of the time left that the bound on the outer region may take."""
    attempt_time_share: Share = 0.15
    """Share of the time left for finding one plan with fewer GPUs."""

    def findings(self) -> Iterator[Finding]:
        """Yield the methods that do not exist or minimise no price."""
        able = [name for name, method in METHODS.items() if not method.spreads]
        for k, name in enumerate(self.first_methods):
            if name not in able:
                yield Finding(("first_methods", k), f'is "{name}"', f"choose from {', '.join(able)}")


class LatencyParams(Params):
    """The best latency, or balance, on GPUs that are given or the fewest."""

    model_time_share: Share = 0.5
    """Share of the time left that a placer may take for its linear model of the latency."""
    model_seconds: Annotated[float, Field(gt=0.0)] = 5.0
    """Most counted seconds for a plan of that model where it is a start only."""
    max_model_rounds: Count = 6
    """Most rounds of cuts on that model."""
    max_first_rounds: Count = 2
    """The same for a plan of it on GPUs that are given, before fuller plans are looked for."""
    indifference: Annotated[float, Field(ge=0.0, lt=1.0)] = 1e-3
    """Relative difference up to which plans are equally good, so that the next objective decides."""


class PolishParams(Params):
    """The search for a better latency that asks the twin; its work is counted in simulated requests."""

    requests: Annotated[float, Field(gt=0.0)] = 1e8
    """Requests simulated in short runs before the search ends; a core does some 2.5 million in a second."""
    starts: Count = 2
    """Plans to begin with, the best of those that there are."""
    confirmations: Count = 4
    """How often the whole rule may reject a plan before that start is given up."""
    changes_at_once: Count = 8
    """Most changes that the twin is asked about at once."""
    changes_per_pair: Count = 4
    """Most of them between the same two GPUs."""
    exchanges_per_pair: Count = 128
    """Most exchanges between two GPUs that are estimated, drawn at random where there are more."""
    engines: Count = 3
    """Ways to run a GPU with what it holds that are estimated to be the fastest."""
    sources: Count = 4
    """Most GPUs that are to be improved at once."""
    worst_share: Share = 0.05
    """How near the worst GPU, as a share of its latency, another must be to be improved with it."""
    pairs: Count = 24
    """Most pairs of GPUs that are looked at for exchanges at once."""
    idle_changes: Count = 16
    """Changes in a row without a better plan before nothing near is taken to be better."""
    idle_plans: Count = 2
    """Plans in a row that are better by estimate alone before single changes are looked at."""
    imagined_exchanges: Count = 60
    """Most exchanges from one plan to one that is better by estimate."""
    imagined_partners: Count = 4
    """GPUs that are looked at for each of them."""
    imagined_kicks: Annotated[int, Field(ge=0)] = 3
    """How often some exchanges are made at random, to get away from a plan that none improves."""
    kick_exchanges: Count = 3
    """How many that are."""


class LatencyBoundParams(Params):
    """The bounds on latencies."""

    seconds: Annotated[float, Field(gt=0.0)] = 10.0
    """Most counted seconds for one of them, on top of the search; what is proven by then counts."""
    nodes: Count = 20
    """Nodes of the search tree in which it is told whether all fit on whole GPUs."""
    halvings: Count = 9
    """Halvings of the range, on a logarithmic scale, in which the worst latency is looked for."""
    whole_halvings: Count = 5
    """The same with whole GPUs, from where those in parts end."""
    pieces: Annotated[int, Field(ge=2)] = 6
    """Ends of the pieces of latency by which a mean is bounded, at first, on either side of the plan's."""
    slowest: Annotated[float, Field(gt=1.0)] = 4.0
    """Latency of the slowest GPUs that are told apart, in multiples of the plan's."""
    width: Annotated[float, Field(gt=0.0)] = 0.02
    """Width of a piece, as a share of its low end, that is not halved any more."""
    rounds: Count = 4
    """Most times that the pieces in use are halved, plus one."""
    served_tolerance: Annotated[float, Field(ge=0.0, lt=1.0)] = 0.03
    """By how much the shares of what two GPUs serve of what they are asked for may differ."""


class SplittingParams(Params):
    """Adapters hotter than a GPU, and the base model, served in equal parts."""

    max_replicas: Count = 4096
    """Most GPUs that one adapter is split over."""
    asked_from: Share = 0.5
    """Share of a GPU that an adapter fills from which on the twin is asked whether it accepts it alone."""
    rate_steps: Count = 16
    """Steps in which the largest rate of an adapter that must stay whole is looked for."""
    fine_parts: Count = 16
    """Parts of a part that stand, in the bound, for cutting an adapter wherever one likes."""
    base_part: Share = 0.1
    """Share of a GPU that a part of the base model's traffic fills at most; a GPU gets any number of them."""
    min_requests: Annotated[float, Field(gt=0.0)] = 1000.0
    """Requests of a run on average from which on chance has no part in a verdict."""


class LevelRowsParams(Params):
    """Rows of their own for GPUs that hold adapters with service levels of their own."""

    max_sets: Annotated[int, Field(ge=0)] = 3
    """Distinct levels that get rows, each of which is learned once; those of most adapters do."""


class GroupingParams(Params):
    """Adapters that all differ, in groups of near ones."""

    ungrouped_classes: Count = 400
    """Classes of identical adapters up to which placers see each of them."""
    groups: Count = 200
    """Groups where there are more classes."""
    packing_time_share: Share = 0.15
    """Share of the time left that packing the groups once may take."""
    packing_gap: Annotated[float, Field(ge=0.0, lt=1.0)] = 0.015
    """Relative gap at which a packing of groups is good enough, as rows are not known better."""
    quick_below: Count = 24
    """Bound on the GPUs below which a quick plan is judged as a whole at once."""
    probed_from: Count = 10
    """Bound on the GPUs from which on the twin is asked about some, to know what its margins mean."""
    asked: Count = 10
    """GPUs of a plan of which the twin is asked how far their load may grow, or must shrink."""
    heard: Count = 40
    """GPUs of a judged plan from whose margins rows are corrected."""
    lessons: Count = 120
    """Most GPUs, the last ones, from which rows are corrected at a time."""
    farthest_growth: Annotated[float, Field(gt=0.0)] = 0.2
    """Largest ln(load) to the boundary that counts for what a margin means."""
    least_observations: Count = 7
    """Verdicts that are needed to tell what a margin means, and neighbours that tell how sure that is."""
    largest_error: Annotated[float, Field(gt=0.0)] = 0.03
    """Largest error of a growth, in ln(load), for rows to be corrected by it."""
    caution: tuple[Deviations, ...] = (1.0, 0.0, 0.0, 0.0)
    """Standard deviations by which corrected rows are narrower than is likely, one after the other: the twin
    accepts nearly all of the first plan, and from its verdicts the next ones come nearer to the boundary."""
    idle_rounds: Count = 2
    """After how many of these without a better plan there is no further one."""
    repairs: Count = 20
    """How often what the twin rejects is relieved before a plan is given up."""
    filled_share: Share = 0.02
    """Share of its load by which an accepted GPU may be filled up where margins do not say how much."""
    care: Annotated[float, Field(gt=0.0, lt=0.5)] = 0.005
    """By how much more a GPU is relieved, and less filled, than margins say; doubled every other repair."""
    relieved_share: Share = 0.05
    """The same where margins say nothing yet."""
    emptied_share: Share = 0.03
    """Share of the GPUs that are emptied into others at once, as far as the twin accepts it."""
    closing_tries: Count = 8
    """Light GPUs in a row that cannot be emptied by the rows before no more are tried."""


class ReplanParams(Params):
    """The fewest moves from a running placement."""

    gpus_time_share: Share = 0.5
    """Share of the time for the fewest GPUs; the rest is for the fewest moves."""
    relaxations: tuple[Position, ...] = (0.0, 1.0, 0.5)
    """Where between the inner (0) and the outer region (1) few moves are looked for, in this order."""
    max_rounds_per_relaxation: Count = 12
    """How often the twin may reject a plan of few moves before another region is tried."""


class DerivedCostParams(Params):
    """The GPUs at the ends of what derived step costs may be."""

    time_limit_s: Annotated[float, Field(gt=0)] = 20.0
    """Counted seconds of search for each end but that at which the plan was made."""


class SolveParams(Params):
    """Parameters of `solve`, `compare` and `replan`, by algorithm."""

    gpus: GPUMinimizationParams = GPUMinimizationParams()
    """The fewest (or cheapest) GPUs."""
    teaching: TeachingParams = TeachingParams()
    """What the twin's verdicts teach the inner rows."""
    latency: LatencyParams = LatencyParams()
    """The best latency, or balance, on GPUs that are given or the fewest."""
    polishing: PolishParams = PolishParams()
    """The search for it that asks the twin."""
    latency_bounds: LatencyBoundParams = LatencyBoundParams()
    """The bounds on latencies."""
    splitting: SplittingParams = SplittingParams()
    """Adapters hotter than a GPU, and the base model, served in equal parts."""
    level_rows: LevelRowsParams = LevelRowsParams()
    """Rows of their own for GPUs that hold adapters with service levels of their own."""
    grouping: GroupingParams = GroupingParams()
    """Adapters that all differ, in groups of near ones."""
    replanning: ReplanParams = ReplanParams()
    """The fewest moves from a running placement."""
    derived: DerivedCostParams = DerivedCostParams()
    """Step costs that are derived, not measured."""
    survival: SurvivalParams = SurvivalParams()
    """Plans that hold when GPUs are lost."""
    packing: PackingParams = PackingParams()
    """The placers."""
    learning: LearnParams = LearnParams()
    """Twin runs, and the regions that are fitted to them; the shipped regions are those of the defaults."""
    baselines: BaselineParams = BaselineParams()
    """The rules of others."""


DEFAULTS = SolveParams()
"""What a function takes that is given no parameters."""
