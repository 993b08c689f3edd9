"""Parameters of learning; the shipped regions and every documented figure were made with the defaults."""

from __future__ import annotations

import math
from typing import Annotated

from pydantic import Field

from scenarios import Params

_Positive = Annotated[float, Field(gt=0)]
_Share = Annotated[float, Field(gt=0, lt=1)]


class DesignParams(Params):
    """Which mixes of adapters are drawn."""

    adapters_per_slot: Annotated[int, Field(ge=2)] = 10
    """Most adapters per slot: with more, luck decides who is served, and no row tells."""
    max_length_pairs: Annotated[int, Field(ge=1)] = 8
    """Most pairs of prompt and output lengths that a design mixes; more are thinned by their work."""
    max_skew: Annotated[float, Field(ge=0, le=10)] = 2.5
    """Largest standard deviation of the logarithm of the adapters' rates."""
    hot_to_cold: Annotated[float, Field(ge=1)] = 1000.0
    """Largest ratio between the rates of the hot and the cold adapters of a two-level mix."""
    base_absent: Annotated[float, Field(ge=0, le=1)] = 0.25
    """Share of the mixes without traffic of the base model, where a scenario has some."""
    base_alone: Annotated[float, Field(ge=0, le=1)] = 0.15
    """Share of the mixes of nothing else, of those with a slot for every adapter."""


class SearchParams(Params):
    """The search for the boundary of one mix; steps are changes of the logarithm of its load."""

    max_requests: Annotated[int, Field(ge=1)] = 5_000_000
    """Most requests of a run: beyond, the twin takes seconds for each."""
    enough_requests: Annotated[int, Field(ge=1)] = 100_000
    """Requests from which on a longer run of steady arrivals tells no more."""
    enough_lifetimes: _Positive = 1000.0
    """Times of a request on an idle engine that such a run lasts at least."""
    full_duration_rate: Annotated[float, Field(ge=0)] = 400.0
    """Requests per second up to which a run is as long as the workload all the same."""
    min_rate: _Positive = 1e-3
    """Requests per second below which a search gives up: the mix starves at any load."""
    bracketing_share: Annotated[float, Field(gt=0, le=1)] = 0.1
    """Share of the duration that the runs take which only tell where the search begins."""
    bracketing_width: Annotated[float, Field(gt=1)] = 1.2
    """Ratio of the bracket's ends at which these runs stop."""
    bracketing_step: _Positive = math.log(2.0)
    """Largest first step of these runs."""
    first_step: _Positive = 0.1
    """Largest first step where the boundary is expected."""
    max_step: _Positive = math.log(4.0)
    """Largest step."""
    overshoot: _Positive = 0.012
    """Distance beyond the expected boundary that is aimed at, so as to land on its other side."""
    wandering_overshoot: _Positive = 0.03
    """The same where rates wander, and boundaries lie further from where they are expected: a little less
    than the width of a bracket, so that a run on the other side ends the search."""
    carried_share: Annotated[float, Field(gt=0, le=1)] = 0.98
    """Share of the load that a steady engine carries where a search for what is sustained begins."""
    near_margin: _Positive = 2.0
    """Margin below which a GPU that sustains its load is near its boundary."""
    latency_margin: _Positive = 1.5
    """How far below 0 a margin may be for a latency that is limited, rather than for a queue that grows."""
    latency_slope: _Positive = 2.0
    """Change of the logarithm of the load that changes that of a limited latency by 1."""
    saturated_margin: _Positive = 0.08
    """Margin below which an accepted GPU works at its limit, and the margin tells how far the boundary is."""
    extrapolation: Annotated[float, Field(ge=1)] = 1.5
    """Largest ratio of an expected boundary to the heaviest accepted load: few points may say anything."""
    lightest: Annotated[float, Field(gt=0, le=1)] = 0.1
    """Lightest load of the runs away from the boundary, in multiples of it."""
    heaviest: Annotated[float, Field(ge=1)] = 4.0
    """Heaviest load of these runs, in multiples of it."""


class BoundaryParams(Params):
    """The fit of the boundary's rows to the points of options alike."""

    near_slots: _Positive = 0.4
    """Difference of the logarithms of two options' slots at which their distance is 1."""
    near_rank: _Positive = 1.0
    """The same of their ranks."""
    near_kv: _Positive = 0.4
    """The same of their KV caches."""
    enough_points: _Positive = 40.0
    """Weight of points that an option is fitted to; options further away are drawn in until it is reached."""
    widening: Annotated[float, Field(gt=1)] = 1.5
    """Factor by which the neighbourhood grows until then."""
    min_weight: Annotated[float, Field(ge=0, lt=1)] = 0.02
    """Weight below which points are left out."""
    first_work: _Positive = 0.97
    """Share of the work that a GPU can do from which on one that shares slots is first taken to be stopped by
    its work."""
    rounds: Annotated[int, Field(ge=1)] = 6
    """Most rounds of telling anew what stops those GPUs, and of fitting."""
    max_bracket: Annotated[float, Field(gt=1)] = 1.25
    """Largest ratio between the two loads around a boundary that regions are fitted to."""
    max_rough_bracket: Annotated[float, Field(gt=1)] = 2.0
    """The same where a fit only says where to search, or is an input of surrogates."""
    crossing_margin: Annotated[float, Field(ge=0, lt=0.5)] = 0.15
    """Distance that a boundary keeps from either run around it: margins are as noisy as the runs."""


class RegionFitParams(Params):
    """How far the rows are shrunk and widened."""

    resident_confidence: _Share = 0.97
    """Share of the boundaries outside the inner region, with a slot for every adapter."""
    shared_confidence: _Share = 0.83
    """The same where adapters wait for slots: there luck decides much of who starves, and more confidence
    would cost more room than the twin's cuts cost time."""
    outer_confidence: _Share = 0.995
    """Share of the boundaries inside the outer region."""
    folds: Annotated[int, Field(ge=2)] = 6
    """Parts of the cross-validation; below two points for each there is none."""
    unknown_factor: Annotated[float, Field(ge=1)] = 2.0
    """Factor by which rows are shrunk and widened where too few boundaries are known to tell better."""
    prior_points: _Positive = 4.0
    """Weight, in points, of what all options say against what an option's own points say."""

    @property
    def inner_confidence(self) -> dict[str, float]:
        """Share of the boundaries outside the inner region, by regime."""
        return {"resident": self.resident_confidence, "shared": self.shared_confidence}


class LatencyFitParams(Params):
    """The upper estimates of latencies."""

    knots: tuple[Annotated[float, Field(gt=0, lt=1)], ...] = (0.5, 0.75, 0.9, 0.95)
    """How full the region is where the slope of the latency may grow; it always may at 0."""
    share_below: _Share = 0.9
    """Share of the accepted runs that lie below the estimate."""
    neighbours: Annotated[int, Field(ge=1)] = 41
    """Runs alike in fill whose median says how large a latency is there: a second too much means little where
    requests wait for minutes, and much on an idle engine."""


class LatencyFloorParams(Params):
    """The floors of latencies."""

    share_below: _Share = 0.05
    """Share of the accepted runs that lie below the line that is then lowered."""
    folds: Annotated[int, Field(ge=2)] = 6
    """Parts of the runs, by mix, each held against the line of the others."""
    held_out_below: Annotated[float, Field(ge=0, lt=1)] = 0.002
    """Share of these runs, and of those by the whole rule, that lie below the lowered line."""
    margin: Annotated[float, Field(gt=0, le=1)] = 0.96
    """Factor on it for mean latencies: the plans of least latency are chosen, not drawn."""
    percentile_margin: Annotated[float, Field(gt=0, le=1)] = 0.9
    """The same for percentiles, which depend more on what is chosen."""
    least_runs: Annotated[int, Field(ge=2)] = 30
    """Accepted runs below which no floor is told."""


class SurrogateParams(Params):
    """The learned models that answer in place of the twin."""

    itl_weight: _Positive = 5.0
    """What an error of the logarithm of ITL counts against its spread."""
    ttft_weight: _Positive = 1.0
    """The same of the logarithm of TTFT."""
    served_share_weight: _Positive = 1.5
    """The same of the served share of the GPU."""
    worst_share_weight: _Positive = 0.5
    """The same of the smallest served share of an adapter."""
    steepness: _Positive = 12.0
    """How sharply the extra input that tells the two sides of the boundary apart changes there."""
    max_rules: Annotated[int, Field(ge=2)] = 32
    """Most leaves of the small tree."""
    tolerance: Annotated[float, Field(ge=0, lt=1)] = 0.05
    """How far beyond an end of what was sampled a feature may lie, as a share of that end."""

    @property
    def weights(self) -> tuple[float, float, float, float]:
        """The weights in the order of the targets."""
        return self.itl_weight, self.ttft_weight, self.served_share_weight, self.worst_share_weight


class LearnParams(Params):
    """Parameters of learning regions and surrogates."""

    design: DesignParams = DesignParams()
    """Which mixes of adapters are drawn."""
    search: SearchParams = SearchParams()
    """The search for the boundary of one mix."""
    boundary: BoundaryParams = BoundaryParams()
    """The fit of the boundary's rows."""
    region_fit: RegionFitParams = RegionFitParams()
    """How far the rows are shrunk and widened."""
    latency_fit: LatencyFitParams = LatencyFitParams()
    """The upper estimates of latencies."""
    latency_floor: LatencyFloorParams = LatencyFloorParams()
    """The floors of latencies, for bounds."""
    surrogate: SurrogateParams = SurrogateParams()
    """The learned models that answer in place of the twin."""

    def of_runs(self) -> dict[str, object]:
        """What differs from the defaults and changes which loads the twin is run on."""
        return {name: v for name, v in self.changed().items() if name in ("design", "search", "boundary")}

    def of_regions(self) -> dict[str, object]:
        """What differs from the defaults and changes regions: all but the surrogates'."""
        return {name: v for name, v in self.changed().items() if name != "surrogate"}


DEFAULTS = LearnParams()
"""The parameters unless others are given."""
