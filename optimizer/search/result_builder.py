"""Turns what the search holds and has proven into a `Result`."""

from __future__ import annotations

from dataclasses import dataclass, replace

import numpy as np

import twin
from optimizer.packing.model.problem import Packing, PackingProblem
from optimizer.packing.model.search_state import StopReason
from optimizer.packing.registry import Method
from optimizer.result import Result, ResultStatus, ResultStop
from optimizer.search.cut_loop import AcceptedPlan, CutLoop, pattern_of
from optimizer.search.instance import Instance
from optimizer.search.judging import placed_gpu, report_on
from optimizer.search.minimize_gpus import GPUMinimization
from optimizer.search.objectives import LATENCY_OBJECTIVES, PRICES, price
from optimizer.version import __version__
from scenarios import Placement, Scenario
from scenarios.stopping.deadline import Stopped
from scenarios.stopping.interrupts import interrupted
from twin import ValidationReport


def infeasible_result(scenario: Scenario, method: str, message: str, *, seconds: float) -> Result:
    """The result of a scenario that is proven to have no plan before any placer ran."""
    return _planless(scenario, method, "infeasible", "proven", f"infeasible: {message}", seconds)


def stopped_result(scenario: Scenario, method: str, error: Stopped, *, seconds: float) -> Result:
    """The result of a search that was cut short before any placer ran."""
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


@dataclass
class SearchProgress:
    """What a search of `solve` holds; valid at any moment, so that it can be interrupted.

    Parameters
    ----------
    instance, method
        What is solved, and by which placer.
    search
        The search for the fewest (or cheapest) GPUs, with its bounds.
    confirmation
        The loop with the twin.
    found
        The plan, None if there is none.
    origin
        Where the plan comes from, for people.
    note
        What people should know besides; empty if nothing.
    prepared_s
        Seconds before the search began.
    """

    instance: Instance
    method: Method
    search: GPUMinimization
    confirmation: CutLoop
    found: AcceptedPlan | None = None
    origin: str = ""
    note: str = ""
    prepared_s: float = 0.0

    @property
    def held(self) -> AcceptedPlan | None:
        """The plan, or what the search held when it was interrupted."""
        return self.found or (self.search.best if interrupted() else None)

    @property
    def priced(self) -> bool:
        """Whether the first objective is a price."""
        return self.instance.scenario.objective[0] in PRICES

    def value(self, objective: str, plan: AcceptedPlan) -> float:
        """Value of an objective for a plan; infinite where the twin measured nothing."""
        inner = self.instance.inner
        if objective in LATENCY_OBJECTIVES:
            return LATENCY_OBJECTIVES[objective].measure(inner, plan.packing, plan.verdicts)
        devices = {device.name: device for device in self.instance.scenario.devices}
        return sum(price(devices[inner.options[b.option].device], objective) for b in plan.packing.bins)


def build_result(outcome: SearchProgress, seconds: float) -> Result:
    """The result of a search."""
    instance, found, scenario = outcome.instance, outcome.held, outcome.instance.scenario
    values = tuple(None if found is None else _finite(outcome.value(o, found)) for o in scenario.objective)
    objective = values[0]
    bound = outcome.search.proven_bound if outcome.priced else None
    if bound is not None and (bound <= 0 or not np.isfinite(bound)):
        bound = None  # nothing is proven
    elif bound is not None and objective is not None:
        bound = min(bound, objective)
    status = _status(outcome, objective, bound)
    placement = None if found is None else placement_of(instance, found.problem, found.packing)
    return Result(
        status=status,
        stop_reason=_stop_reason(outcome, status),
        message=_message(outcome, status),
        method=outcome.method.name,
        objectives=scenario.objective,
        objective=objective,
        objective_values=values,
        bound=bound,
        gap=None if objective is None or bound is None else max(0.0, objective - bound) / objective,
        outer_bound=outcome.search.outer_bound if outcome.priced else None,
        gpus=None if placement is None else len(placement.gpus),
        placement=placement,
        validation=None if found is None else _validation(instance, found),
        iterations=outcome.confirmation.rounds,
        cuts=len(outcome.confirmation.rejected),
        seconds=seconds,
        preparation_seconds=outcome.prepared_s,
        seed=scenario.seed,
        version=__version__,
        scenario=scenario,
    )


def _finite(value: float) -> float | None:
    return value if np.isfinite(value) else None


def _status(outcome: SearchProgress, objective: float | None, bound: float | None) -> ResultStatus:
    if outcome.held is None:
        return "infeasible" if outcome.search.infeasible else "no_plan"
    proven = objective is not None and bound is not None and objective <= bound * (1 + 1e-9)
    return "optimal" if outcome.method.exact and proven else "feasible"


def _stop_reason(outcome: SearchProgress, status: ResultStatus) -> ResultStop:
    if status == "infeasible" or (status == "optimal" and len(outcome.instance.scenario.objective) == 1):
        return "proven"
    if interrupted():
        return "interrupted"
    said = outcome.confirmation.last
    limited = said is not None and said.stop_reason is StopReason.TIME_LIMIT
    if outcome.confirmation.left_s <= 0 or limited:
        return "time_limit"
    return "gap_limit" if said is not None and said.stop_reason is StopReason.GAP_LIMIT else "finished"


def _message(outcome: SearchProgress, status: ResultStatus) -> str:
    """One sentence on the outcome."""
    if status == "infeasible":
        return f"infeasible: {_too_much(outcome)}"
    found = outcome.held
    if found is None:
        if interrupted():
            return "interrupted before the twin had accepted a plan"
        return "stopped without a plan that the twin accepts; raise the time limit or the number of GPUs"
    said = "a plan that the twin accepts"
    if status == "optimal":
        objectives = outcome.instance.scenario.objective
        of = f" in {objectives[0]}" if len(objectives) > 1 else ""
        parts = outcome.instance.in_parts
        said = f"optimal for the linearised model{of}{parts}, and accepted by the twin"
    elif not found.solved and not outcome.origin:
        said += ", after splitting what it rejected"
    said += f" ({outcome.origin})" if outcome.origin else ""
    said += f"; {outcome.note}" if outcome.note else ""
    return said + ("; the search was interrupted" if _stop_reason(outcome, status) == "interrupted" else "")


def _too_much(outcome: SearchProgress) -> str:
    """What fits nowhere: an adapter that the twin rejects whatever serves it, or all of them together."""
    instance, outer = outcome.instance, outcome.instance.outer
    note = twin.window_note(instance.scenario, twin.times_alone(instance.scenario, instance.profiles))
    rejected = replace(outer, cuts=outcome.confirmation.cuts(outer)).unpackable()
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
