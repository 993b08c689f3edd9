"""Turns what the search holds and has proven into a `Result`."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field, replace

import numpy as np

import twin
from optimizer.no_plan import NoPlan, NoPlanReason
from optimizer.packing.model.problem import Packing, PackingProblem
from optimizer.packing.model.search_state import StopReason
from optimizer.result import Result, ResultStatus, ResultStop
from optimizer.search.cut_loop import AcceptedPlan, pattern_of
from optimizer.search.grouping.dealing import Dealer
from optimizer.search.instance import Instance
from optimizer.search.judging import placed_gpu, report_on
from optimizer.search.latency.lower_bound import LatencyBound
from optimizer.search.minimize_gpus import GPUMinimum, Search
from optimizer.search.objective_order import Choice, values_of
from optimizer.search.objectives import PRICES, latency_objective_of
from optimizer.search.splitting import InfeasibleError
from optimizer.search.why_no_plan import why_no_plan
from optimizer.step_costs import StepCosts
from optimizer.survival.nodes import numbers_apart, on_nodes
from optimizer.version import __version__
from scenarios import Deadline, Placement, Scenario, Stopped, interrupted
from scenarios.text.formatting import counted
from twin import ValidationReport

MORE_TIME = ", and more may give a better plan"
"""What is said of a search that used up its time."""


def planless_result(
    scenario: Scenario, method: str, error: InfeasibleError | Stopped, *, seconds: float
) -> Result:
    """The result of a scenario that has no plan, or of a search that was cut short, before any placer ran."""
    if isinstance(error, InfeasibleError):
        return _planless(scenario, method, f"infeasible: {error}", None, seconds)
    why = f"{error}; there is no plan yet"
    no_plan = NoPlan(reason=NoPlanReason.INTERRUPTED, why=why)
    if not interrupted():
        no_plan = NoPlan(reason=NoPlanReason.TIME_LIMIT, why=why, remedies=("raise --total-limit",))
    return _planless(scenario, method, no_plan.sentence, no_plan, seconds)


def _planless(
    scenario: Scenario, method: str, message: str, no_plan: NoPlan | None, seconds: float
) -> Result:
    return Result(
        status="infeasible" if no_plan is None else "no_plan",
        stop_reason="proven" if no_plan is None else no_plan.stop_reason,
        message=message,
        no_plan=no_plan,
        method=method,
        objectives=scenario.objective,
        objective=None,
        bound=None,
        gap=None,
        gpus=None,
        placement=None,
        validation=None,
        iterations=0,
        cuts=0,
        seconds=seconds,
        preparation_seconds=seconds,
        seed=scenario.seed,
        version=__version__,
        scenario=scenario,
    )


@dataclass(frozen=True)
class Outcome:
    """How a search ended.

    Parameters
    ----------
    search
        What was solved, by which placer, and how often the twin was asked.
    minimum
        What is proven of the fewest (or cheapest) GPUs.
    choice
        The plan.
    deadline
        When the search was to stop.
    note
        What people should know besides; empty if nothing.
    preparation_seconds, seconds
        Before the search began, and in all.
    latency_bounds
        What is proven of latencies, by objective.
    """

    search: Search
    minimum: GPUMinimum
    choice: Choice
    deadline: Deadline
    note: str = ""
    preparation_seconds: float = 0.0
    seconds: float = 0.0
    latency_bounds: Mapping[str, LatencyBound] = field(default_factory=dict)

    @property
    def instance(self) -> Instance:
        """The scenario as the placers see it."""
        return self.search.instance

    @property
    def priced(self) -> bool:
        """Whether the first objective is a price."""
        return self.instance.scenario.objective[0] in PRICES

    @property
    def values(self) -> tuple[float | None, ...]:
        """The plan's value of each objective; None where there is none, or the twin measured nothing."""
        plan = self.choice.plan
        if plan is None:
            return (None,) * len(self.instance.scenario.objective)
        return values_of(self.instance, plan)

    @property
    def bound(self) -> float | None:
        """The bound on the first objective: the outer region's on a price, or that on a latency.

        A plan below it, which the twin accepts, shows that the region is too narrow. Nothing is proven then.
        """
        bound, value = self.minimum.outer_bound, self.values[0]
        if not self.priced:
            return self.bound_on_latency(self.instance.scenario.objective[0]).value
        if self.minimum.infeasible or bound is None or not 0 < bound < np.inf:
            return None
        if value is None:
            return bound
        return min(bound, value) if value >= bound * (1 - 1e-9) else None

    @property
    def bounds(self) -> tuple[float | None, ...]:
        """The bound on each objective, in their order; on a later price there is none."""
        later = self.instance.scenario.objective[1:]
        return (self.bound, *(self.bound_on_latency(name).value for name in later))

    def bound_on_latency(self, name: str) -> LatencyBound:
        """What is proven of an objective that is no price of the search for the fewest GPUs."""
        return self.latency_bounds.get(name, LatencyBound(None))


def build_result(outcome: Outcome) -> Result:
    """The result of a search."""
    instance, plan, scenario = outcome.instance, outcome.choice.plan, outcome.instance.scenario
    values, bound, status = outcome.values, outcome.bound, _status(outcome)
    no_plan = None
    if status == "no_plan":
        no_plan = why_no_plan(outcome.search, outcome.choice.last, outcome.deadline)
    placed = None if plan is None else placement_of(instance, plan.problem, plan.packing)
    placement = None if placed is None else on_nodes(placed, scenario)
    return Result(
        status=status,
        stop_reason=_stop_reason(outcome, status) if no_plan is None else no_plan.stop_reason,
        message=_message(outcome, status) if no_plan is None else no_plan.sentence,
        no_plan=no_plan,
        method=outcome.search.placer.name,
        objectives=scenario.objective,
        objective=values[0],
        objective_values=values,
        objective_bounds=outcome.bounds,
        bound=bound,
        no_bound=outcome.bound_on_latency(scenario.objective[0]).why_none,
        gap=None if values[0] is None or bound is None else (values[0] - bound) / values[0],
        gpus=None if placement is None else len(placement.gpus),
        placement=placement,
        validation=None if plan is None or placed is None else _validation(instance, plan, placed),
        step_costs=StepCosts.of(instance.profiles),
        iterations=outcome.search.loop.rounds,
        cuts=len(outcome.search.loop.rejected),
        seconds=outcome.seconds,
        preparation_seconds=outcome.preparation_seconds,
        seed=scenario.seed,
        params=outcome.search.params.changed(),
        version=__version__,
        scenario=scenario,
    )


def _status(outcome: Outcome) -> ResultStatus:
    if outcome.choice.plan is None:
        return "infeasible" if outcome.minimum.infeasible else "no_plan"
    objective, bound = outcome.values[0], outcome.bound
    met = objective is not None and bound is not None and objective <= bound * (1 + 1e-9)
    return "optimal" if outcome.search.placer.exact and met else "feasible"


def _stop_reason(outcome: Outcome, status: ResultStatus) -> ResultStop:
    if status == "infeasible" or (status == "optimal" and len(outcome.instance.scenario.objective) == 1):
        return "proven"
    if interrupted():
        return "interrupted"
    placer_stopped = None if outcome.choice.last is None else outcome.choice.last.stop_reason
    by_clock = outcome.deadline.reached or outcome.deadline.work.by_clock
    if by_clock or placer_stopped is StopReason.TIME_LIMIT:
        return "time_limit"
    return "gap_limit" if placer_stopped is StopReason.GAP_LIMIT else "finished"


def _message(outcome: Outcome, status: ResultStatus) -> str:
    """One sentence on the outcome."""
    if status == "infeasible":
        return f"infeasible: {_too_much(outcome)}"
    plan, origin = outcome.choice.plan, outcome.choice.origin
    message, gap = _proven(outcome), ""
    if status != "optimal":
        message, gap = "a plan that the twin accepts", _open_gap(outcome)
        if plan is not None and not plan.solved and not origin:
            message += ", after splitting what it rejected"
    stop = _stop_reason(outcome, status)
    cut_short = _cut_short(outcome) if stop == "time_limit" else ""
    interruption = "the search was interrupted" if stop == "interrupted" else ""
    found = f"found by {origin}" if origin else ""
    return "; ".join(filter(None, (message, gap, found, outcome.note, cut_short, interruption)))


def _proven(outcome: Outcome) -> str:
    """What is said of a plan that meets the bound."""
    objectives = outcome.instance.scenario.objective
    of = f" in {objectives[0]}" if len(objectives) > 1 else ""
    less = {"gpus": "needs fewer GPUs", "cost": "costs less"}.get(objectives[0], "is faster")
    return f"optimal{of}: no plan of the optimistic (outer) region {less}, and the twin accepts it"


def _open_gap(outcome: Outcome) -> str:
    """Why plan and bound do not meet; empty where that was not looked for, or nothing is proven."""
    gap, bound = outcome.minimum.gap, outcome.bound
    if gap is None or bound is None or not outcome.priced:
        return ""
    return f"bound {bound:g} by the optimistic (outer) region: {gap}"


def _cut_short(outcome: Outcome) -> str:
    """Which of several searches had a share of the time only, and used it up."""
    quality = latency_objective_of(outcome.instance.scenario.objective)
    if quality is None:
        return ""
    if not outcome.minimum.finished and not outcome.minimum.proven:
        return f"the search for the fewest GPUs used up the time limit{MORE_TIME}"
    return f"the search for the best {quality.name} used up the time limit{MORE_TIME}"


def _too_much(outcome: Outcome) -> str:
    """What fits nowhere: an adapter that the twin rejects whatever serves it, or all of them together."""
    instance, outer = outcome.instance, outcome.instance.outer
    note = twin.window_note(instance.scenario, twin.times_alone(instance.scenario, instance.profiles))
    rejected = replace(outer, cuts=outcome.search.loop.cuts(outer)).unpackable()
    if len(rejected):
        name = instance.classes[int(rejected[0])].names[0]
        return f'the twin rejects adapter "{name}" on every GPU that could serve it, even alone{note}'
    names = " or ".join(device.name for device in instance.scenario.devices)
    gpus = "any number of GPUs" if outer.max_bins is None else counted(outer.max_bins, "GPU")
    return f"the adapters do not fit {gpus} ({names}), even by the optimistic region{note}"


def placement_of(instance: Instance, problem: PackingProblem, packing: Packing) -> Placement:
    """The placement with the adapters' names: each class is dealt to the bins in order."""
    if instance.groups is not None:
        dealer = Dealer(instance)
        return Placement(
            gpus=tuple(
                placed_gpu(number, pattern_of(problem, b), dealer.shares(b), instance.scenario.base_names)
                for number, b in enumerate(packing.bins)
            )
        )
    contents = _contents(instance, packing)
    gpus = []
    for number, (b, parts) in enumerate(zip(packing.bins, contents, strict=True)):
        pattern = pattern_of(problem, b)
        shares: dict[str, float] = {}
        for share, names in zip(instance.shares, parts, strict=True):
            for name in names:
                shares[name] = shares.get(name, 0.0) + share
        gpus.append(placed_gpu(number, pattern, shares, instance.scenario.base_names))
    return Placement(gpus=tuple(gpus))


def _contents(instance: Instance, packing: Packing) -> list[list[tuple[str, ...]]]:
    """Names per bin and class; all in one where the classes are groups."""
    if instance.groups is not None:
        names = Dealer(instance).names
        return [[tuple(names[i] for i in b.items)] for b in packing.bins]
    taken = [0] * len(instance.classes)
    contents = []
    for b in packing.bins:
        parts = []
        for c, (one, count) in enumerate(zip(instance.classes, b.counts, strict=True)):
            parts.append(one.names[taken[c] : taken[c] + int(count)])
            taken[c] += int(count)
        contents.append(parts)
    return contents


def _validation(instance: Instance, found: AcceptedPlan, placed: Placement) -> ValidationReport:
    """The verdicts, with the names of the adapters that each GPU serves."""
    patterns = [pattern_of(found.problem, b) for b in found.packing.bins]
    numbers = numbers_apart(placed, instance.scenario)
    contents = _contents(instance, found.packing)
    report = report_on(patterns, found.verdicts, numbers, contents, instance.merged)
    ordered = sorted(report.gpus, key=lambda verdict: verdict.gpu)
    return report.model_copy(update={"gpus": tuple(ordered)})
