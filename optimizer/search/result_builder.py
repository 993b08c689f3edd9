"""Turns what the search holds and has proven into a `Result`."""

from __future__ import annotations

from dataclasses import dataclass, replace

import numpy as np

import twin
from optimizer.packing.model.problem import Packing, PackingProblem
from optimizer.packing.model.search_state import StopReason
from optimizer.result import Result, ResultStatus, ResultStop
from optimizer.search.cut_loop import AcceptedPlan, pattern_of
from optimizer.search.instance import Instance
from optimizer.search.judging import placed_gpu, report_on
from optimizer.search.minimize_gpus import GPUMinimum, Search
from optimizer.search.objective_order import Choice, plan_value
from optimizer.search.objectives import PRICES, latency_objective_of
from optimizer.search.splitting import InfeasibleError
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
        return _planless(scenario, method, "infeasible", "proven", f"infeasible: {error}", seconds)
    reason: ResultStop = "interrupted" if interrupted() else "time_limit"
    return _planless(scenario, method, "no_plan", reason, f"{error}; there is no plan yet", seconds)


def _planless(
    scenario: Scenario, method: str, status: ResultStatus, reason: ResultStop, message: str, seconds: float
) -> Result:
    return Result(
        status=status,
        stop_reason=reason,
        message=message,
        method=method,
        objectives=scenario.objective,
        objective=None,
        bound=None,
        gap=None,
        outer_bound=None,
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
    """

    search: Search
    minimum: GPUMinimum
    choice: Choice
    deadline: Deadline
    note: str = ""
    preparation_seconds: float = 0.0
    seconds: float = 0.0

    @property
    def instance(self) -> Instance:
        """The scenario as the placers see it."""
        return self.search.instance

    @property
    def bound(self) -> float | None:
        """What no plan's first objective is below, where that is a price; None where nothing is proven."""
        return self.proven(self.minimum.outer_bound)

    def proven(self, bound: float | None) -> float | None:
        """A bound on a price as a result tells it: None where it says nothing."""
        return bound if self.priced and bound is not None and 0 < bound < np.inf else None

    @property
    def priced(self) -> bool:
        """Whether the first objective is a price."""
        return self.instance.scenario.objective[0] in PRICES


def build_result(outcome: Outcome) -> Result:
    """The result of a search."""
    instance, plan, scenario = outcome.instance, outcome.choice.plan, outcome.instance.scenario
    values = tuple(
        None if plan is None else _finite(plan_value(instance, o, plan)) for o in scenario.objective
    )
    objective, bound = values[0], outcome.bound
    if bound is not None and objective is not None:
        bound = min(bound, objective)
    status = _status(outcome, objective, bound)
    placement = None if plan is None else placement_of(instance, plan.problem, plan.packing)
    return Result(
        status=status,
        stop_reason=_stop_reason(outcome, status),
        message=_message(outcome, status),
        method=outcome.search.placer.name,
        objectives=scenario.objective,
        objective=objective,
        objective_values=values,
        bound=bound,
        gap=None if objective is None or bound is None else max(0.0, objective - bound) / objective,
        outer_bound=outcome.proven(outcome.minimum.outer_bound),
        gpus=None if placement is None else len(placement.gpus),
        placement=placement,
        validation=None if plan is None else _validation(instance, plan),
        iterations=outcome.search.loop.rounds,
        cuts=len(outcome.search.loop.rejected),
        seconds=outcome.seconds,
        preparation_seconds=outcome.preparation_seconds,
        seed=scenario.seed,
        params=outcome.search.params.changed(),
        version=__version__,
        scenario=scenario,
    )


def _finite(value: float) -> float | None:
    return value if np.isfinite(value) else None


def _status(outcome: Outcome, objective: float | None, bound: float | None) -> ResultStatus:
    if outcome.choice.plan is None:
        return "infeasible" if outcome.minimum.infeasible else "no_plan"
    proven = objective is not None and bound is not None and objective <= bound * (1 + 1e-9)
    return "optimal" if outcome.search.placer.exact and proven else "feasible"


def _stop_reason(outcome: Outcome, status: ResultStatus) -> ResultStop:
    if status == "infeasible" or (status == "optimal" and len(outcome.instance.scenario.objective) == 1):
        return "proven"
    if interrupted():
        return "interrupted"
    placer_stopped = None if outcome.choice.last is None else outcome.choice.last.stop_reason
    if outcome.deadline.reached or placer_stopped is StopReason.TIME_LIMIT:
        return "time_limit"
    return "gap_limit" if placer_stopped is StopReason.GAP_LIMIT else "finished"


def _message(outcome: Outcome, status: ResultStatus) -> str:
    """One sentence on the outcome."""
    if status == "infeasible":
        return f"infeasible: {_too_much(outcome)}"
    plan, origin = outcome.choice.plan, outcome.choice.origin
    if plan is None:
        return _why_no_plan(outcome)
    objectives = outcome.instance.scenario.objective
    message = "a plan that the twin accepts"
    if status == "optimal":
        of = f" in {objectives[0]}" if len(objectives) > 1 else ""
        parts = outcome.instance.split_in_words
        message = f"optimal for the linearised model{of}{parts}, and accepted by the twin"
    elif not plan.solved and not origin:
        message += ", after splitting what it rejected"
    stop = _stop_reason(outcome, status)
    cut_short = _cut_short(outcome) if stop == "time_limit" else ""
    interruption = "the search was interrupted" if stop == "interrupted" else ""
    return "; ".join(filter(None, (message, origin, outcome.note, cut_short, interruption)))


def _cut_short(outcome: Outcome) -> str:
    """Which of several searches had a share of the time only, and used it up."""
    quality = latency_objective_of(outcome.instance.scenario.objective)
    if quality is None:
        return ""
    if not outcome.minimum.finished and not outcome.minimum.proven:
        share = outcome.search.params.latency.gpus_time_share
        return f"the search for the fewest GPUs used up its {share:.0%} of the time limit{MORE_TIME}"
    return f"the search for the best {quality.name} used up its share of the time limit{MORE_TIME}"


def _why_no_plan(outcome: Outcome) -> str:
    """Why there is no plan, though one may exist, and what can help."""
    if interrupted():
        return "interrupted before the twin had accepted a plan"
    if outcome.deadline.reached:
        return "stopped by the time limit without a plan that the twin accepts; raise it"
    placer, last = outcome.search.placer, outcome.choice.last
    gpus, more = counted(_most_gpus(outcome.instance), "GPU"), _more_gpus(outcome.instance)
    if placer.exact:
        return (
            f"no plan on at most {gpus} that the twin accepts, and no proof that there is none; "
            f"{more}loosen service_levels"
        )
    if last is not None and last.packing is not None:
        return f"the twin rejects every plan of {placer.name} on at most {gpus}; {more}choose another method"
    if last is not None and last.message:
        return f"no plan: {last.message}; choose another method"
    return f"no plan of {placer.name} fits {gpus}; {more}choose another method"


def _most_gpus(instance: Instance) -> int:
    """GPUs that a plan may use: no more than there are adapters."""
    limit = instance.inner.max_bins
    return instance.inner.n_items if limit is None else min(limit, instance.inner.n_items)


def _more_gpus(instance: Instance) -> str:
    """The advice to give more GPUs, with a comma; empty where every adapter could have one of its own."""
    if _most_gpus(instance) == instance.inner.n_items:
        return ""
    exist = sum(device.count for device in instance.scenario.devices)
    return f"give more GPUs ({'--gpus' if _most_gpus(instance) < exist else 'devices[].count'}), or "


def _too_much(outcome: Outcome) -> str:
    """What fits nowhere: an adapter that the twin rejects whatever serves it, or all of them together."""
    instance, outer = outcome.instance, outcome.instance.outer
    note = twin.window_note(instance.scenario, twin.times_alone(instance.scenario, instance.profiles))
    rejected = replace(outer, cuts=outcome.search.loop.cuts(outer)).unpackable()
    if len(rejected):
        name = instance.classes[int(rejected[0])].names[0]
        return f'the twin rejects adapter "{name}" on every GPU that could serve it, even alone{note}'
    names = " or ".join(device.name for device in instance.scenario.devices)
    return f"the adapters do not fit {outer.max_bins} GPUs ({names}), even by the optimistic region{note}"


def placement_of(instance: Instance, problem: PackingProblem, packing: Packing) -> Placement:
    """The placement with the adapters' names: each class is dealt to the bins in order."""
    contents = _contents(instance, packing)
    gpus = []
    for number, (b, parts) in enumerate(zip(packing.bins, contents, strict=True)):
        pattern = pattern_of(problem, b)
        shares: dict[str, float] = {}
        for share, names in zip(instance.shares, parts, strict=True):
            for name in names:
                shares[name] = shares.get(name, 0.0) + share
        gpus.append(placed_gpu(number, pattern, shares))
    return Placement(gpus=tuple(gpus))


def _contents(instance: Instance, packing: Packing) -> list[list[tuple[str, ...]]]:
    """Names per bin and class."""
    taken = [0] * len(instance.classes)
    contents = []
    for b in packing.bins:
        parts = []
        for c, (one, count) in enumerate(zip(instance.classes, b.counts, strict=True)):
            parts.append(one.names[taken[c] : taken[c] + int(count)])
            taken[c] += int(count)
        contents.append(parts)
    return contents


def _validation(instance: Instance, found: AcceptedPlan) -> ValidationReport:
    """The verdicts, with the names of the adapters that each GPU serves."""
    patterns = [pattern_of(found.problem, b) for b in found.packing.bins]
    return report_on(patterns, found.verdicts, range(len(patterns)), _contents(instance, found.packing))
