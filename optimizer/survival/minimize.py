"""The fewest GPUs with which a plan holds when some are lost.

It needs as many GPUs as a plan without spare and those that are lost: no fewer, as what is left holds
everything. From there on ever more GPUs are tried, with plans that leave room (`roomy_plans`), until the twin
accepts one, and what becomes of it after every loss.
"""

from __future__ import annotations

import math
import time
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass, replace
from functools import cached_property
from itertools import combinations_with_replacement

from optimizer.result import Result, ResultStatus
from optimizer.search.latency.minimize_latency import polished_plans
from optimizer.search.minimize_gpus import Search
from optimizer.search.objective_order import Choice
from optimizer.search.objectives import LATENCY_OBJECTIVES, PRICES, latency_objective_of, price
from optimizer.search.result_builder import placement_of
from optimizer.survival.engine_rows import EngineRows
from optimizer.survival.exchanges import exchanged
from optimizer.survival.live import LiveRecovery
from optimizer.survival.losses import distinct_losses
from optimizer.survival.nodes import on_nodes
from optimizer.survival.pieces import Catalogue
from optimizer.survival.report import LossCase, Survival
from optimizer.survival.restart import RestartRecovery
from optimizer.survival.roomy_plans import RoomyPlan, RoomyPlans
from optimizer.survival.spare import Recovery, Spare
from scenarios import Deadline, Placement, Stopped, interrupted
from scenarios.text.formatting import counted
from twin import PlacementJudge, ValidationReport

SEARCHING = "GPUs with spare"
"""What is being done, for progress."""


@dataclass(frozen=True)
class HeldPlan:
    """A plan that holds after every loss.

    Parameters
    ----------
    placement
        The plan.
    report
        The twin's verdict on it.
    losses
        What becomes of it.
    """

    placement: Placement
    report: ValidationReport
    losses: tuple[LossCase, ...]


@dataclass(frozen=True, eq=False)
class SpareSearch:
    """Looks for plans that hold after losses.

    Parameters
    ----------
    search
        The problems of the scenario and the twin.
    base
        A plan without spare that the twin accepts.
    choice
        The same as the search has it.
    spare, recovery
        What may be lost, and how what was there must come back.
    deadline
        When to stop.
    """

    search: Search
    base: Placement
    choice: Choice
    spare: Spare
    recovery: Recovery
    deadline: Deadline

    @cached_property
    def catalogue(self) -> Catalogue:
        """The adapters and the inner rows."""
        instance = self.search.instance
        return Catalogue(instance.scenario, EngineRows(instance.scenario, instance.regions))

    @cached_property
    def plans(self) -> RoomyPlans:
        """What makes plans with room to spare."""
        base, params = self.catalogue.gpus(self.base), self.search.params.survival
        return RoomyPlans(self.catalogue, self.search.loop.judge.judge, base, self.spare, params)

    @cached_property
    def restart(self) -> RestartRecovery:
        """What looks for plans on fewer GPUs; it knows the plan without spare."""
        known = [] if self.choice.plan is None else [self.choice.plan]
        return RestartRecovery(self.search, self.search.params.survival, known)

    @property
    def added(self) -> int:
        """How many GPUs a plan needs at least beyond one without spare: the fewest that the worst loss takes.

        0 where parts that were asked for (``min_replicas``) may come together on the GPUs that are left:
        without them fewer GPUs may hold everything.
        """
        scenario = self.search.instance.scenario
        if self.recovery == "live" and any(one.min_replicas > 1 for one in scenario.classes):
            return 0
        return min(self.spare.gpus_lost(scenario, device.name) for device in scenario.devices)

    def fewest(self) -> HeldPlan | None:
        """The plan on the fewest GPUs that was found; None if there is none by the deadline."""
        most = self.search.instance.inner.max_bins or self.search.instance.inner.n_items
        for number in range(len(self.base.gpus) + self.added, most + 1):
            for devices in self._devices(number):
                found = self._on(devices)
                if found is not None or self.deadline.reached:
                    return found
        return None

    def _devices(self, number: int) -> Iterator[tuple[str, ...]]:
        """The devices of so many GPUs: those of the base plan and others, the cheapest first."""
        scenario = self.search.instance.scenario
        base = Counter(gpu.device for gpu in self.base.gpus)
        names = [device.name for device in scenario.devices]
        limit = {device.name: device.count for device in scenario.devices}
        prices = {device.name: price(device, _price_name(scenario.objective)) for device in scenario.devices}
        added = combinations_with_replacement(names, number - base.total())
        for more in sorted(added, key=lambda one: sum(prices[name] for name in one)):
            total = base + Counter(more)
            if all(total[name] <= limit[name] for name in names):
                yield tuple(name for name in names for _ in range(total[name]))

    def _on(self, devices: tuple[str, ...]) -> HeldPlan | None:
        """A plan on these GPUs that holds; None if none was found."""
        self.search.loop.progress(SEARCHING, len(devices), 0)
        params = self.search.params.survival
        plans = self.plans.on(devices, self.deadline)
        if len(plans) > 1 and self._verdicts(plans[0]) > params.most_verdicts:
            plans = [plans[-1], *plans[:-1]]  # with engines that are all but idle a loss concerns few GPUs
        for plan in plans:
            if plan.strain <= params.overfull or self.recovery == "restart":
                found = self.held(plan)
                if found is not None or self.deadline.reached:
                    return found
        if self.recovery == "restart":
            return None
        starts = [*plans[: params.exchanged_plans], *plans[max(params.exchanged_plans, len(plans) - 1) :]]
        for plan in starts:
            until = self.deadline.part(params.exchange_time_share * self.deadline.left_s)
            better = exchanged(self.plans, plan, until, self.search.instance.scenario.seed)
            if better is not None and better.strain <= params.overfull:
                found = self.held(better)
                if found is not None or self.deadline.reached:
                    return found
        return None

    def _verdicts(self, plan: RoomyPlan) -> int:
        """Verdicts that a plan needs whose losses concern every GPU that is left."""
        cases = distinct_losses(plan.gpus, plan.placement, self.spare, self.search.instance.scenario)
        return sum(len(plan.gpus) - len(lost) for lost in cases)

    def surviving(self, placement: Placement) -> HeldPlan | None:
        """A plan of others, with as many slots as it needs after losses, if it holds; else None.

        This is what a search that improves a plan with spare asks of its candidates.
        """
        return self.held(self.plans.fitted(self.plans.with_slots(self.catalogue.gpus(placement))))

    def held(self, plan: RoomyPlan) -> HeldPlan | None:
        """The plan with the twin's word on it and on every loss; None if it does not hold, or not in time."""
        scenario, judge = self.search.instance.scenario, self.search.loop.judge.judge
        if self.recovery == "restart":
            plan = _trimmed(plan, scenario.engine.fewest_slots)
        placement = on_nodes(plan.placement, scenario)
        gpus = self.catalogue.gpus(placement)
        live = LiveRecovery(self.catalogue, judge, gpus, self.search.params.survival)
        cases = distinct_losses(gpus, placement, self.spare, scenario)
        losses = dict[tuple[int, ...], LossCase]()
        try:
            report = PlacementJudge(judge, self.deadline).report(placement.gpus)
            if not report.accepted:
                return None
            # The worst first: where a plan does not hold, that shows soon.
            for lost in sorted(cases, key=live.strain, reverse=True) if self.recovery == "live" else cases:
                case = self._case(live, placement, lost)
                if not case.accepted:
                    return None
                losses[lost] = case.model_copy(update={"alike": tuple(cases[lost])})
        except Stopped:
            return None
        return HeldPlan(placement, report, tuple(losses[lost] for lost in cases))

    def _case(self, live: LiveRecovery, placement: Placement, lost: tuple[int, ...]) -> LossCase:
        if self.recovery == "live":
            return live.recover(lost, self.deadline)
        return self.restart.recover(placement, lost, self.deadline)


def with_spare(
    search: Search,
    choice: Choice,
    result: Result,
    spare: Spare,
    recovery: Recovery,
    deadline: Deadline,
    total: Deadline,
) -> Result:
    """The result of a search with a plan that holds after losses in place of one without spare.

    Where none is found, the plan stays as it is, and the result says that it does not hold.

    Parameters
    ----------
    search
        What the plan was found by.
    choice
        The plan without spare.
    result
        The same as a result.
    spare, recovery
        What may be lost, and how what was there must come back.
    deadline
        When to stop looking for the fewest GPUs.
    total
        When to stop looking for a plan on as many that is quicker.
    """
    if result.placement is None:
        return result
    started = time.monotonic()
    looked = SpareSearch(search, result.placement, choice, spare, recovery, deadline)
    bound = _gpus_bound(result, looked.added)
    found = looked.fewest()
    criterion = search.instance.scenario.acceptance
    survival = Survival(spare=str(spare), recovery=recovery, acceptance=criterion, bound=bound)
    seconds = result.seconds + time.monotonic() - started
    if found is None:
        return _without_spare(
            search, result, looked, survival.model_copy(update={"complete": False}), seconds
        )
    found = _quicker(replace(looked, deadline=total), found)
    survival = survival.model_copy(update={"losses": found.losses})
    return _updated(search, result, looked, found, survival, result.seconds + time.monotonic() - started)


def _quicker(looked: SpareSearch, found: HeldPlan) -> HeldPlan:
    """A plan on as many GPUs that holds too and is better in the first latency; the one found if none is."""
    search = looked.search
    objective = latency_objective_of(search.instance.scenario.objective)
    if objective is None:
        return found
    inner = search.instance.priced("cost" if _by_cost(search) else "gpus", len(found.placement.gpus)).inner
    if _by_cost(search):
        inner = replace(inner, budget=(_value(looked, found, "cost") or 0.0) * (1 + 1e-9))
    value = _value(looked, found, objective.name)
    for choice in reversed(polished_plans(search, looked.choice, inner, looked.deadline)):
        assert choice.plan is not None
        placement = placement_of(search.instance, choice.plan.problem, choice.plan.packing)
        if len(placement.gpus) != len(found.placement.gpus):
            continue
        held = looked.surviving(placement)
        better = None if held is None else _value(looked, held, objective.name)
        if held is not None and better is not None and (value is None or better < value):
            return held
    return found


def _by_cost(search: Search) -> bool:
    return "cost" in search.instance.scenario.objective


def _price_name(objectives: tuple[str, ...]) -> str:
    """The price that decides between devices."""
    return next((name for name in objectives if name in PRICES), "gpus")


def _gpus_bound(result: Result, added: int) -> int | None:
    """Fewest GPUs of any plan with spare; None where the number of GPUs is not what is bounded."""
    if result.bound is None or result.objectives[0] != "gpus":
        return None
    return math.ceil(result.bound - 1e-9) + added


def _trimmed(plan: RoomyPlan, fewest_slots: int) -> RoomyPlan:
    """The plan with no more slots than adapters, where its engines are started again after a loss."""
    gpus = tuple(replace(g, engine=g.engine.trimmed(g.adapters, fewest_slots)) for g in plan.gpus)
    return replace(plan, gpus=gpus)


def _without_spare(
    search: Search, result: Result, looked: SpareSearch, survival: Survival, seconds: float
) -> Result:
    """The result whose plan has no spare."""
    most = search.instance.inner.max_bins or 0
    stop = result.stop_reason
    if survival.bound is not None and survival.bound > most:
        why = f"it needs {survival.bound} GPUs, and there are {most}"
    elif looked.deadline.reached:
        why = "the time was over; more may find one"
        stop = "interrupted" if interrupted() else "time_limit"
    else:
        why = f"none was found on up to {most} GPUs; raise devices[].count or --gpus"
    update = {
        "message": f"no plan that holds after the loss of {looked.spare.in_words}: {why}; without spare: "
        f"{result.message}",
        "stop_reason": stop,
        "status": "feasible",
        "seconds": seconds,
        "survival": survival.model_copy(update={"message": why}),
    }
    return result.model_copy(update=update)


def _updated(
    search: Search,
    result: Result,
    looked: SpareSearch,
    found: HeldPlan,
    survival: Survival,
    seconds: float,
) -> Result:
    """The result with the plan that holds."""
    values = tuple(_value(looked, found, name) for name in result.objectives)
    value, bound = values[0], _bound(search, result, looked.added)
    met = value is not None and bound is not None and value <= bound * (1 + 1e-9)
    status: ResultStatus = "optimal" if met else "feasible"
    message = _message(result, looked, met)
    return result.model_copy(
        update={
            "status": status,
            "message": message,
            "objective": value,
            "objective_values": values,
            "objective_bounds": (bound, *result.objective_bounds[1:]),
            "bound": bound,
            "gap": None if value is None or bound is None else (value - bound) / value,
            "gpus": len(found.placement.gpus),
            "placement": found.placement,
            "validation": found.report,
            "seconds": seconds,
            "survival": survival.model_copy(update={"message": message}),
        }
    )


def _bound(search: Search, result: Result, added: int) -> float | None:
    """The bound on the first objective: what is lost costs at least the cheapest GPUs."""
    if result.bound is None:
        return None
    first = result.objectives[0]
    cheapest = min(price(device, first) for device in search.instance.scenario.devices)
    return (math.ceil(result.bound - 1e-9) if first == "gpus" else result.bound) + added * cheapest


def _value(looked: SpareSearch, found: HeldPlan, objective: str) -> float | None:
    """Value of an objective for a plan that holds; None where nothing was measured."""
    scenario, inner = looked.search.instance.scenario, looked.search.instance.inner
    if objective in LATENCY_OBJECTIVES:
        if objective == "balance":
            rows, gpus = looked.catalogue.rows, looked.catalogue.gpus(found.placement)
            return max(rows.fill(g.engine, len(g.pieces), looked.catalogue.sums(g.pieces)) for g in gpus)
        assert looked.choice.plan is not None
        # The packing has no part in latencies: they are what the twin measured.
        packing = looked.choice.plan.packing
        value = LATENCY_OBJECTIVES[objective].measure(inner, packing, found.report.gpus)
        return value if math.isfinite(value) else None
    devices = {device.name: device for device in scenario.devices}
    return float(sum(price(devices[gpu.device], objective) for gpu in found.placement.gpus))


def _message(result: Result, looked: SpareSearch, met: bool) -> str:
    """One sentence on the outcome."""
    lost = f"the loss of any {looked.spare.in_words}"
    how = "with the engines that run" if looked.recovery == "live" else "once engines are started again"
    less = "costs less" if result.objectives[0] == "cost" else "needs fewer GPUs"
    message = f"a plan that the twin accepts, and after {lost} too, {how}"
    if met:
        message = f"optimal: no plan that holds after {lost} {less}; the twin accepts this one, {how}"
    without = f"{counted(len(looked.base.gpus), 'GPU')} without spare"
    return f"{message}; {without}"
