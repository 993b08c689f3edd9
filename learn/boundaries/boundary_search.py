"""The boundary of one composition: loaded more and less until an accepted and a starved run are close."""

from __future__ import annotations

import math
from dataclasses import dataclass, replace
from functools import cached_property

import numpy as np
from scipy.optimize import brentq

from learn.bisection import bisect
from learn.boundaries.boundary import BoundaryModel, crossing
from learn.design import Composition, SamplingPlan, kind_of
from learn.features import FEATURES, REGIMES, BoolArray, Engines, FloatArray, candidate_features
from learn.params import DEFAULTS, BoundaryParams, LearnParams
from learn.space import DesignSpace
from learn.steady_state import ESTIMATES, SteadyState
from twin import GPUVerdict, judge

STEP = ESTIMATES.index("step_estimate")
"""Column of the logarithm of a step's milliseconds."""

CARRIED = ESTIMATES.index("carried_estimate")
"""Column of the share that a steady engine carries."""

OUTPUT = next(k for k, feature in enumerate(FEATURES) if feature.name == "output_mean")
"""Column of the mean output tokens of a candidate."""

FIRST_ESTIMATE_TOLERANCE = 1e-3
"""Logarithm to which the load of a search's first run is estimated."""


@dataclass
class Bracket:
    """Runs of one composition, and the nearest to its boundary on each side.

    Parameters
    ----------
    rows
        Runs as rows of a dataset.
    boundary_params
        Where between two runs the boundary may lie.
    accepted, starved
        Logarithm of the total rate, and margin, of the heaviest accepted and the lightest starved run.
    """

    rows: list[dict[str, float]]
    boundary_params: BoundaryParams
    accepted: tuple[float, float] = (-math.inf, math.nan)
    starved: tuple[float, float] = (math.inf, math.nan)

    @property
    def width(self) -> float:
        """Logarithm of the ratio of the two loads."""
        return self.starved[0] - self.accepted[0]

    @property
    def boundary(self) -> float:
        """Total rate in requests/s where the margin crosses 0, or the nearest rate that is known."""
        (low, above), (high, below) = self.accepted, self.starved
        if math.isinf(self.width):
            return math.exp(high if math.isinf(low) else low)
        place = crossing(np.array(above), np.array(below), self.boundary_params)
        return math.exp(low + self.width * float(place))

    def add(self, row: dict[str, float]) -> None:
        """Take in a run."""
        self.rows.append(row)
        at = math.log(row["total_rate"]), row["margin"]
        if row["starved"]:
            self.starved = min(self.starved, at)
        elif at[0] < self.starved[0]:
            self.accepted = max(self.accepted, at)


@dataclass(frozen=True)
class BoundarySearch:
    """The search for the boundary of one composition; loads are total rates in requests/s.

    Parameters
    ----------
    space, plan, params
        The engine, how many runs there may be, and how they are chosen.
    composition
        The mix that is loaded more and less.
    """

    space: DesignSpace
    plan: SamplingPlan
    composition: Composition
    params: LearnParams = DEFAULTS

    def runs(self, expected: float | None) -> list[dict[str, float]]:
        """The bracket of the boundary, and those of some runs at random loads that tell of its inside.

        Those are the ones below the boundary, and above it the few within the bracket.

        Parameters
        ----------
        expected
            Where the boundary is expected; None: short runs bracket it first.
        """
        start = self.rough_boundary() if expected is None else expected
        bracket = self.bracket(start, self.params.search.first_step)
        return bracket.rows + self._scattered(bracket, overloads=False)

    def overloads(self, runs: list[dict[str, float]]) -> list[dict[str, float]]:
        """The other runs at random loads, beyond the bracket that these runs of the composition tell."""
        bracket = Bracket([], self.params.boundary)
        for row in runs:
            if row["run"] < self.plan.max_runs:
                bracket.add(row)
        return self._scattered(bracket, overloads=True)

    def rough_boundary(self) -> float:
        """A load near the boundary, from short runs that are then forgotten."""
        limits = self.params.search
        short = self.space.shortened(limits.bracketing_share)
        rough = replace(self, space=short, plan=replace(self.plan, width=limits.bracketing_width))
        return rough.bracket(self.first_estimate(), limits.bracketing_step).boundary

    def bracket(self, expected: float, first_step: float) -> Bracket:
        """Load the composition more and less until its boundary is bracketed.

        Parameters
        ----------
        expected
            The load to start from.
        first_step
            Largest first change of the logarithm of the load; it doubles with every change.
        """
        low, high = math.log(self.params.search.min_rate), math.log(self.max_rate)
        bracket, step = Bracket([], self.params.boundary), first_step
        log_rate = min(math.log(expected), high)
        while not bracket.rows or (len(bracket.rows) < self.plan.max_runs and low < log_rate <= high):
            bracket.add(self.observe(math.exp(log_rate), len(bracket.rows)))
            if bracket.width <= math.log(self.plan.width):
                break
            if math.isfinite(bracket.width):
                log_rate = math.log(bracket.boundary)
                continue
            log_rate = self._beyond(bracket, step)
            step = min(2 * step, self.params.search.max_step)
        return bracket

    def _beyond(self, bracket: Bracket, step: float) -> float:
        """Logarithm of the next load while all runs lie on one side: one expected on the other side.

        The overshoot doubles with every run, as each that still lies on this side was to lie on the other.
        """
        limits = self.params.search
        beyond = limits.wandering_overshoot if self.space.wander else limits.overshoot
        overshoot = min(beyond * 2.0 ** (len(bracket.rows) - 1), step)
        if math.isinf(bracket.starved[0]):
            log_rate, margin = bracket.accepted
            near = self._by_slope(bracket, step) or self._near(margin)
            # Far from its limit a GPU serves all it is asked for; the margin says nothing of the distance.
            distance = max(overshoot, step / 2) if near is None else near + overshoot
            return log_rate + min(distance, step)
        log_rate, margin = bracket.starved
        excess = self._by_slope(bracket, step) or self._excess(margin)
        return log_rate - min(excess + overshoot, step)

    def _by_slope(self, bracket: Bracket, step: float) -> float | None:
        """How far the boundary is where the margin goes on as between the last two runs, in mixed traffic.

        There a margin alone tells little: whose patience it is of differs from mix to mix, and who waits for
        a slot is late long before a queue grows. None before there are two runs, or in other traffic.
        """
        if not self.space.mixed or len(bracket.rows) < 2:
            return None
        (x, before), (y, last) = ((math.log(row["total_rate"]), row["margin"]) for row in bracket.rows[-2:])
        slope = (before - last) / (y - x)  # a margin falls with the load, but for chance
        return abs(last) / slope if slope > 0 else step / 2

    def _near(self, margin: float) -> float | None:
        """How far the boundary is from an accepted load, by its margin; None if that does not tell."""
        limits = self.params.search
        if self.space.limits_latencies:
            return limits.latency_slope * margin
        if self.space.acceptance == "sustained":
            return 0.0 if margin < limits.near_margin else None
        return margin if margin < limits.saturated_margin else None

    def _excess(self, margin: float) -> float:
        """How far an overloaded GPU is beyond its boundary, by its margin."""
        if self.space.acceptance == "paper":
            # It serves what it can whatever the load: this is too large as the share is too small.
            return -math.log1p(max(margin, -0.99))
        if self.space.limits_latencies and margin > -self.params.search.latency_margin:
            return -self.params.search.latency_slope * margin
        # Whoever comes at time t waits for t (load / capacity − 1), so the longest wait that ends within the
        # run is its length times the share of the load that is too much.
        longest = self.patience_s * math.exp(-margin)
        return -math.log1p(-min(longest / self.space.run_s, 0.9))

    @cached_property
    def patience_s(self) -> float:
        """Seconds that a request may wait; of kinds that differ in it the mean over requests."""
        whole, kinds = self.space.service_levels.patience_s, self.space.traffic
        if all(kind.patience_s is None for kind in kinds):
            return whole
        own = np.array([whole if kind.patience_s is None else kind.patience_s for kind in kinds])
        return float(self.composition.weight @ own[self.composition.kind])

    def _scattered(self, bracket: Bracket, *, overloads: bool) -> list[dict[str, float]]:
        """Runs at random loads, below and above the boundary in turn: the overloads of them, or the rest."""
        limits, index = self.params.search, self.composition.index
        rng = np.random.default_rng((self.plan.seed, 4, index))
        _, among_alike = kind_of(index)
        rows = []
        for k in range(self.plan.spread):
            below = (among_alike + k) % 2 == 0
            factor = rng.uniform(limits.lightest, 1.0) if below else limits.heaviest ** rng.uniform()
            rate = bracket.boundary * factor
            if overloads == (math.log(rate) >= bracket.starved[0]):
                rows.append(self.observe(rate, self.plan.max_runs + k))
        return rows

    def observe(self, total_rate: float, run: int) -> dict[str, float]:
        """One twin run as a row of a dataset; all runs of a composition share their random numbers."""
        option, space = self.composition.option, self.watched(total_rate)
        verdict = judge(
            self.composition.load(space, total_rate),
            space.workload,
            space.engine,
            space.profile,
            max_loras=option.max_loras,
            max_lora_rank=option.max_lora_rank,
            service_levels=space.service_levels,
            acceptance=space.acceptance,
            effort=space.effort,
            gpu_memory_gib=space.memory_gib,
            seed=self.plan.seed * 1_000_003 + self.composition.index,
            replications=space.replications,
        )
        features = self._features(total_rate)[0]
        offered = verdict.offered_tok_per_s
        return {
            "composition": self.composition.index,
            "run": run,
            "total_rate": total_rate,
            **dict(zip((f.name for f in FEATURES), features.tolist(), strict=True)),
            "throughput_tok_per_s": verdict.served_tok_per_s,
            **{name: _or_nan(getattr(verdict, name)) for name in ("itl_ms", "ttft_ms", "ttft_p99_ms")},
            "served_share": min(verdict.served_tok_per_s / offered, 1.0) if offered > 0 else 1.0,
            "worst_served_share": verdict.worst_served_share,
            "margin": self._margin(verdict),
            "starved": int(not verdict.accepted),
        }

    def _margin(self, verdict: GPUVerdict) -> float:
        """How far a run is from its nearest limit: of at least 0 if it is accepted, and below if not."""
        by_paper = self.space.acceptance == "paper"
        return max(verdict.least_margin, -1.0) if by_paper else verdict.signed_margin

    # --- where to begin, and how far to go ---------------------------------------------------------

    def predict(self, model: BoundaryModel, max_rate: float) -> float | None:
        """The load, at most ``max_rate``, at which the composition reaches a model's boundary.

        None where the model holds it for starved at any load. To a thousandth, so that the last digits of a
        fit, which differ between machines, do not matter.
        """
        engine = np.array([self.composition.option.numbers], dtype=np.float64)
        regime = REGIMES[self.composition.shared]

        def excess(log_rate: float) -> float:
            sums = self.composition.sums(self.space, math.exp(log_rate))
            return float(model.values(regime, sums[None, :], engine)[0]) - 1.0

        low, high = math.log(self.params.search.min_rate), math.log(max_rate)
        if excess(low) >= 0:
            return None
        if excess(high) <= 0:
            return max_rate
        return math.exp(round(brentq(excess, low, high, xtol=1e-6), 3))

    def first_estimate(self) -> float:
        """The load at which an engine that works steadily no longer keeps up.

        To a thousandth, and at most so many that a run takes reasonable time.
        """
        limits, by_paper = self.params.search, self.space.acceptance == "paper"
        carried = self.space.service_levels.served_share if by_paper else limits.carried_share

        def keeps_up(log_rate: FloatArray) -> BoolArray:
            estimate = self._steady.estimate(self._features(math.exp(float(log_rate))))
            return np.asarray(estimate[0, CARRIED] >= carried)

        low, high = math.log(limits.min_rate), math.log(limits.max_requests / self.space.run_s)
        if keeps_up(np.array(high)):
            low, high = high, math.log(self.max_rate)
        halvings = math.ceil(math.log2(max((high - low) / FIRST_ESTIMATE_TOLERANCE, 1.0)))
        return math.exp(round(float(bisect(keeps_up, low, high, halvings=halvings)[0]), 3))

    @property
    def max_rate(self) -> float:
        """Heaviest load that is tried: beyond, a run has more requests than are allowed."""
        return self.params.search.max_requests / min(self.space.run_s, self.shortest_s)

    @cached_property
    def shortest_s(self) -> float:
        """Seconds that a run takes at least, however many requests it has, unless the workload is shorter."""
        if not self.space.steady:
            return math.inf
        features = self._features(self.params.search.min_rate)
        step_s = math.exp(float(self._steady.estimate(features)[0, STEP])) / 1e3
        return self.params.search.enough_lifetimes * step_s * float(features[0, OUTPUT])

    def watched(self, total_rate: float) -> DesignSpace:
        """The space with the runs of a load: of short requests so many are served that a part says it all.

        To two digits, so that the last digits of an estimate, which differ between machines, do not matter.
        """
        limits, whole = self.params.search, self.space
        if total_rate <= limits.full_duration_rate:
            return whole
        enough = max(limits.enough_requests / total_rate, self.shortest_s)
        return whole if enough >= whole.run_s else whole.shortened(float(f"{enough:.2g}") / whole.run_s)

    @cached_property
    def _steady(self) -> SteadyState:
        return SteadyState.of_space(self.space)

    def _features(self, total_rate: float) -> FloatArray:
        """Features of the composition at a load, shape (1, len(FEATURES))."""
        mix = self.composition
        engines = Engines(*(np.array([float(value)]) for value in mix.option.numbers))
        figures = self.space.figures.of_each(mix.kind)
        return candidate_features(
            total_rate * mix.weight,
            mix.rank,
            figures.prompt,
            figures.output,
            figures.output_square,
            np.ones((1, len(mix.weight))),
            engines,
            figures.wait_s,
            figures.wander,
            context=figures.context,
            bursts=figures.bursts,
        )


def _or_nan(value: float | None) -> float:
    return math.nan if value is None else value
