"""The boundary of one composition: loaded more and less until an accepted and a starved run are close."""

from __future__ import annotations

import math
from dataclasses import dataclass, replace

import numpy as np
from scipy.optimize import brentq

from learn.boundary import BoundaryModel, crossing
from learn.design import Composition, SamplingPlan, kind_of
from learn.features import FEATURES, Engines, FloatArray, candidate_features
from learn.space import DesignSpace
from learn.steady_state import ESTIMATES, SteadyState
from scenarios import Workload
from scenarios.arrivals import DeterministicArrivals, GammaArrivals, PoissonArrivals, WeibullArrivals
from twin.judging import judge

MOST_REQUESTS = 5_000_000
"""Most requests of a run of a search: beyond, the twin takes seconds for each."""

ENOUGH_REQUESTS, ENOUGH_TIMES = 100_000, 1000.0
"""Requests, and times of a request on an idle engine, of a run from which on a longer one tells no more."""

WHOLE_RATE_PER_S = 400.0
"""Total rate up to which a run is as long as the workload all the same: its hour is soon played."""

STEADY = (PoissonArrivals, GammaArrivals, WeibullArrivals, DeterministicArrivals)
"""Arrivals whose rates do not change, so that any part of a run is like the whole."""

STEP = ESTIMATES.index("step_estimate")
"""Column of the logarithm of a step's milliseconds."""

CARRIED = ESTIMATES.index("carried_estimate")
"""Column of the share that a steady engine carries."""

OUTPUT = next(k for k, feature in enumerate(FEATURES) if feature.name == "output_mean")
"""Column of the mean output tokens of a candidate."""

SCOUT_SHARE = 0.1
"""Share of the duration that scouting runs take: they only tell later searches where to start."""

BOLD, CAREFUL = math.log(2.0), 0.1
"""Largest first change of the logarithm of the load when scouting, and when the boundary is guessed."""

NUDGE = 0.012
"""Logarithm by which a search aims beyond where it expects the boundary, so as to land on its other side."""

SATURATED = 0.08
"""Margin below which an accepted GPU works at its limit, so that the margin tells how far the boundary is."""

TRUSTED = 1.5
"""How far beyond the largest accepted load a guess may lie: a model of few points may say anything."""

MAX_STEP = math.log(4.0)
"""Largest change of the logarithm of the load between two runs of a search."""

LIGHTEST, HEAVIEST = 0.1, 4.0
"""Loads of the runs away from the boundary, in multiples of it: who overloads a GPU does so thoroughly."""

LEAST_RATE_PER_S = 1e-3
"""Total rate below which a search gives up: the composition starves at any load."""


def predict_boundary(
    space: DesignSpace, composition: Composition, model: BoundaryModel, most: float
) -> float | None:
    """Total rate in requests/s, at most ``most``, at which a composition reaches a model's boundary.

    None where the model holds it for starved at any load. To a thousandth, so that the last digits of a
    fit, which differ between machines, do not matter.
    """
    engine = np.array(composition.engine, dtype=np.float64)
    row = model.rows("shared" if composition.shared else "resident", engine[None, :])[0]

    def excess(log_rate: float) -> float:
        return float(row @ composition.sums(space, math.exp(log_rate))) - 1.0

    low, high = math.log(LEAST_RATE_PER_S), math.log(most)
    if excess(low) >= 0:
        return None
    if excess(high) <= 0:
        return most
    return math.exp(round(brentq(excess, low, high, xtol=1e-6), 3))


def search_boundary(
    space: DesignSpace, plan: SamplingPlan, composition: Composition, expected: float | None
) -> list[dict[str, float]]:
    """Runs of one composition: the bracket of its boundary, and some at random loads around it.

    Parameters
    ----------
    expected
        Total rate in requests/s where the boundary is expected; None: it is scouted first.
    """
    start = bracket_boundary(space, plan, composition) if expected is None else expected
    bracket = search(space, plan, composition, start, CAREFUL)
    return bracket.rows + _scattered(space, plan, composition, bracket)


def bracket_boundary(space: DesignSpace, plan: SamplingPlan, composition: Composition) -> float:
    """Total rate in requests/s near the boundary, from short runs that are then forgotten."""
    workload = space.workload
    short = {"duration_s": SCOUT_SHARE * workload.duration_s, "warmup_s": SCOUT_SHARE * workload.warmup_s}
    brief = replace(space, workload=workload.model_copy(update=short))
    coarse = replace(plan, width=1.2)
    return search(brief, coarse, composition, first_guess(space, composition), BOLD).boundary


def first_guess(space: DesignSpace, composition: Composition) -> float:
    """Total rate in requests/s at which an engine that works steadily no longer keeps up.

    To a thousandth, and at most so many that a run takes reasonable time.
    """
    steady = SteadyState.of_space(space)

    def keeps_up(log_rate: float) -> bool:
        features = _features(space, composition, math.exp(log_rate))
        return bool(steady.estimate(features)[0, CARRIED] >= space.service_levels.served_share)

    low, high = math.log(LEAST_RATE_PER_S), math.log(MOST_REQUESTS / space.workload.duration_s)
    if keeps_up(high):
        low, high = high, math.log(most_rate(space, composition))
    while high - low > 1e-3:
        middle = (low + high) / 2
        low, high = (middle, high) if keeps_up(middle) else (low, middle)
    return math.exp(round(low, 3))


def most_rate(space: DesignSpace, composition: Composition) -> float:
    """Heaviest load in requests/s that is tried: beyond, a run has more than `MOST_REQUESTS`."""
    return MOST_REQUESTS / min(space.workload.duration_s, shortest_s(space, composition))


def shortest_s(space: DesignSpace, composition: Composition) -> float:
    """Seconds that a run takes at least, however many requests it has, unless the workload is shorter."""
    if not isinstance(space.workload.arrivals, STEADY):
        return math.inf
    features = _features(space, composition, LEAST_RATE_PER_S)
    step_s = math.exp(float(SteadyState.of_space(space).estimate(features)[0, STEP])) / 1e3
    return ENOUGH_TIMES * step_s * float(features[0, OUTPUT])


def shortened(space: DesignSpace, composition: Composition, total_rate: float) -> Workload:
    """The workload of a run at a total rate: of short requests, so many are served that a part tells as much.

    To two digits, so that the last digits of an estimate, which differ between machines, do not matter.
    """
    workload = space.workload
    if total_rate <= WHOLE_RATE_PER_S:
        return workload
    enough = max(ENOUGH_REQUESTS / total_rate, shortest_s(space, composition))
    if enough >= workload.duration_s:
        return workload
    part = float(f"{enough:.2g}") / workload.duration_s
    return workload.model_copy(
        update={"duration_s": part * workload.duration_s, "warmup_s": part * workload.warmup_s}
    )


@dataclass
class Bracket:
    """Runs of one composition, and the nearest to its boundary on each side.

    Parameters
    ----------
    rows
        Runs as rows of a dataset.
    accepted, starved
        Logarithm of the total rate, and margin, of the heaviest accepted and the lightest starved run.
    """

    rows: list[dict[str, float]]
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
        return math.exp(low + self.width * float(crossing(np.array(above), np.array(below))))

    def add(self, row: dict[str, float]) -> None:
        """Take in a run."""
        self.rows.append(row)
        at = math.log(row["total_rate"]), row["margin"]
        if row["starved"]:
            self.starved = min(self.starved, at)
        elif at[0] < self.starved[0]:
            self.accepted = max(self.accepted, at)


def search(
    space: DesignSpace, plan: SamplingPlan, composition: Composition, expected: float, stride: float
) -> Bracket:
    """Load a composition more and less until its boundary is bracketed.

    A starved run tells by its margin how much lighter the load must be, and so does an accepted one that
    works at its limit; the others only tell that the boundary is further up.

    Parameters
    ----------
    expected
        Total rate in requests/s to start from.
    stride
        Largest first change of the logarithm of the load; it doubles with every change.
    """
    least, most = math.log(LEAST_RATE_PER_S), math.log(most_rate(space, composition))
    bracket, rate = Bracket([]), min(math.log(expected), most)
    while not bracket.rows or (len(bracket.rows) < plan.max_runs and least < rate <= most):
        bracket.add(observe(space, composition, math.exp(rate), len(bracket.rows), plan.seed))
        if bracket.width <= math.log(plan.width):
            break
        if math.isfinite(bracket.width):
            rate = math.log(bracket.boundary)
            continue
        nudge = min(NUDGE * 2 ** (len(bracket.rows) - 1), stride)
        if math.isinf(bracket.starved[0]):
            rate, margin = bracket.accepted
            rate += min(margin + nudge if margin < SATURATED else max(nudge, stride / 2), stride)
        else:
            rate, margin = bracket.starved
            rate -= min(-math.log1p(max(margin, -0.99)) + nudge, stride)
        stride = min(2 * stride, MAX_STEP)
    return bracket


def _scattered(
    space: DesignSpace, plan: SamplingPlan, composition: Composition, bracket: Bracket
) -> list[dict[str, float]]:
    """Runs at random loads, below and above the boundary in turn."""
    rng = np.random.default_rng((plan.seed, 4, composition.index))
    _, among_alike = kind_of(composition.index)
    rows = []
    for k in range(plan.spread):
        below = (among_alike + k) % 2 == 0
        factor = rng.uniform(LIGHTEST, 1.0) if below else HEAVIEST ** rng.uniform()
        load = bracket.boundary * factor
        rows.append(observe(space, composition, load, len(bracket.rows) + k, plan.seed))
    return rows


def observe(
    space: DesignSpace, composition: Composition, total_rate: float, run: int, seed: int
) -> dict[str, float]:
    """One twin run as a row of a dataset; all runs of a composition share their random numbers."""
    option, load = composition.option, composition.load(space, total_rate)
    verdict = judge(
        load,
        shortened(space, composition, total_rate),
        space.engine,
        space.profile,
        max_loras=option.max_loras,
        max_lora_rank=option.max_lora_rank,
        service_levels=space.service_levels,
        gpu_memory_gib=space.memory_gib,
        seed=seed * 1_000_003 + composition.index,
        replications=1,
    )
    features = _features(space, composition, total_rate)[0]
    offered = verdict.offered_tok_per_s
    return {
        "composition": composition.index,
        "run": run,
        "total_rate": total_rate,
        **dict(zip((f.name for f in FEATURES), features.tolist(), strict=True)),
        "throughput_tok_per_s": verdict.served_tok_per_s,
        "itl_ms": _number(verdict.itl_ms),
        "ttft_ms": _number(verdict.ttft_ms),
        "served_share": min(verdict.served_tok_per_s / offered, 1.0) if offered > 0 else 1.0,
        "worst_served_share": verdict.worst_served_share,
        "margin": max(min(verdict.margins.values()), -1.0),
        "starved": int(not verdict.accepted),
    }


def _features(space: DesignSpace, composition: Composition, total_rate: float) -> FloatArray:
    """Features of a composition at a total rate in requests/s, shape (1, len(FEATURES))."""
    engines = Engines(*(np.array([float(value)]) for value in composition.engine))
    rate, (prompt, output, square) = total_rate * composition.weight, space.means[composition.pair].T
    everyone = np.ones((1, len(rate)))
    return candidate_features(rate, composition.rank, prompt, output, square, everyone, engines)


def _number(value: float | None) -> float:
    return math.nan if value is None else value
