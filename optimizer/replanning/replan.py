"""`replan`: from a running placement and new rates to the plan that moves the fewest adapters.

The fewest GPUs come first: then the fewest moves among plans on as many. With a price per move both are
weighed against each other. A plan counts only when the twin accepts every GPU of it, as in `solve`; moves
are looked for on the conservative region first, then on ever wider ones up to the optimistic region, where
the least number of moves is a bound for every plan that the twin may accept.
"""

from __future__ import annotations

import math
import time
from collections.abc import Sequence
from contextlib import suppress
from dataclasses import dataclass, replace

import numpy as np

import twin
from optimizer.arguments import check_arguments
from optimizer.deployable import deployable
from optimizer.packing import methods
from optimizer.packing.model.problem import PackingProblem
from optimizer.replanning.changes import (
    Change,
    change_between,
    dealt,
    numbers_of,
    placement_with_names,
    running_in,
)
from optimizer.replanning.engines import keep_engines
from optimizer.replanning.moves import MovesResult, MovesSolver, Running
from optimizer.result import Result
from optimizer.rollouts.rollout import steps_between
from optimizer.search.compilation import compile_loops, twin_loops
from optimizer.search.cut_loop import AcceptedPlan, pattern_of
from optimizer.search.instance import Instance
from optimizer.search.judging import report_on
from optimizer.search.minimize_gpus import Search, minimize_gpus, relaxed
from optimizer.search.objective_order import Choice, values_of
from optimizer.search.objectives import LATENCY_OBJECTIVES
from optimizer.search.params import DEFAULTS, SolveParams
from optimizer.search.preparation import learned_regions, prepare
from optimizer.search.result_builder import Outcome, build_result, planless_result
from optimizer.search.solve import adjusted, search_of
from optimizer.search.splitting import InfeasibleError
from scenarios import Deadline, Placement, Scenario, Stopped, as_started, noticed
from scenarios.arguments import ArgumentCheck, instance_of, number
from scenarios.stopping.progress import Progress, interruptible, silent
from twin import PlacementJudge, TwinJudge


@dataclass(frozen=True)
class Nearest:
    """The plan of fewest moves that is known.

    Parameters
    ----------
    best, homes
        The plan, and the place of each of its GPUs among the running ones; None is a fresh one.
    value
        Its moves, or its price with moves.
    bound
        No plan of the outer region, at the price of this one or with a price of moves, has a smaller value.
    """

    best: AcceptedPlan
    homes: list[int | None]
    value: float
    bound: float = 0.0

    @property
    def proven(self) -> bool:
        """Whether no plan can be nearer."""
        return self.value <= self.bound + 1e-6


@dataclass(frozen=True)
class Mover:
    """Looks for few moves on ever other regions; each step returns what is known after it."""

    search: Search
    running: Running
    move_price: float | None
    deadline: Deadline

    def nearest_to(self, plan: AcceptedPlan) -> Nearest:
        """A plan, each GPU in the place of the running one most like it."""
        homes = self.running.nearest_homes(plan.problem, plan.packing)
        return Nearest(plan, homes, self._value(plan, homes))

    def minimize_moves(self, held: Nearest) -> Nearest:
        """Search until bound and plan meet, all is tried, or the time is over."""
        relaxations = self.search.params.replanning.relaxations
        for k, share in enumerate(relaxations):
            better = True
            while better and not (self.deadline.reached or held.proven):
                before = held.value
                held = self._improved(held, share, 1 / (len(relaxations) - k))
                better = held.value < before - 1e-9
        return held

    def _improved(self, held: Nearest, share: float, time_share: float) -> Nearest:
        """With a nearer plan on one region, if there is one."""
        solver = MovesSolver(
            self.running,
            fresh=self._most_fresh(held),
            move_price=self.move_price,
            seed=self.search.instance.scenario.seed,
            workers=self.search.workers,
            share=time_share / 2,
            below=held.value,
            hint=(held.best.packing, held.homes),
            params=self.search.params.packing.assignment,
        )
        rounds = self.search.params.replanning.max_rounds_per_relaxation
        problem = self._problem(held.best, share)
        result = self.search.loop.run(problem, solver, self.deadline, max_rounds=rounds)
        if share == 1.0 and result.last is not None:
            held = replace(held, bound=max(held.bound, min(result.last.bound, held.value)))
        if result.plan is None or not isinstance(result.plan.solved, MovesResult):
            return held
        homes = list(result.plan.solved.homes)
        value = self._value(result.plan, homes)
        return held if value >= held.value - 1e-9 else Nearest(result.plan, homes, value, held.bound)

    def _most_fresh(self, held: Nearest) -> int:
        """Fresh GPUs that a nearer plan may open.

        Where all prices are equal no more than the plan held has: what more of them serve, its GPUs do too.
        """
        inner = self.search.instance.inner
        if np.ptp(inner.prices) < 1e-12:
            return len(held.best.packing)
        most = inner.price(held.best.packing) if self.move_price is None else held.value
        return min(int(most / inner.prices.min() * (1 + 1e-9)), inner.n_items)

    def _problem(self, best: AcceptedPlan, share: float) -> PackingProblem:
        """The region's problem; without a price per move, with the price of the plan held as budget."""
        problem = relaxed(self.search.instance, share)
        if self.move_price is not None:
            return problem
        return replace(problem, budget=self.search.instance.inner.price(best.packing) * (1 + 1e-9))

    def _value(self, plan: AcceptedPlan, homes: list[int | None]) -> float:
        moves = self.running.moves(plan.packing.counts(), homes)
        price = self.search.instance.inner.price(plan.packing)
        return moves if self.move_price is None else price + self.move_price * moves


def replan(
    scenario: Scenario,
    placement: Placement,
    *,
    move_price: float | None = None,
    gpus: int | None = None,
    time_limit_s: float = 60.0,
    total_limit_s: float | None = None,
    acceptance: str | None = None,
    seed: int | None = None,
    workers: int = 1,
    steps: bool = False,
    progress: Progress = silent,
    params: SolveParams = DEFAULTS,
) -> Change:
    """Place a scenario's adapters anew, moving as few of them as possible.

    Of the scenario's objectives only the prices count; moves take the place of the others.

    Parameters
    ----------
    scenario
        The adapters with their new rates. Adapters that the placement does not have are added, those
        that only the placement has are retired; neither is a move.
    placement
        What is running; a GPU that states no ``max_cpu_loras`` as vLLM starts it (`scenarios.as_started`).
    move_price
        Price of one move in units of the first objective; None: the fewest GPUs first, then the fewest
        moves.
    gpus
        Most GPUs.
    time_limit_s
        Seconds of search after which the best accepted plan so far is returned.
    steps
        Whether to find the steps to the new plan too, as `optimizer.rollout`; the twin is asked about each,
        within ``total_limit_s`` and outside of ``time_limit_s``.
    acceptance, seed, workers, progress, total_limit_s, params
        As in `optimizer.solve`.

    Returns
    -------
    Change
        The result, as of `solve`, and who moves from where to where.

    Raises
    ------
    ScenarioError
        If an argument is of a wrong type, the placement uses a device that the scenario does not have, or
        ``move_price`` is not above 0.
    twin.UnknownProfileError
        If no engine profile is known for the scenario's model and device.
    """
    started = time.monotonic()
    _check(scenario, placement, move_price)
    limits = time_limit_s, 0.0, workers, total_limit_s
    check_arguments(scenario, None, gpus, *limits, seed, params, acceptance, source="replan")
    scenario = adjusted(scenario, None, seed, acceptance)
    placement = as_started(placement, scenario)
    progress, total = interruptible(progress), Deadline.of(total_limit_s)
    with noticed():
        judge = TwinJudge(scenario, twin.profiles_of(scenario), workers, progress)
        try:
            placer, profile = methods()["exact"], judge.profiles[scenario.devices[0].name]
            kernels = placer.kernels + twin_loops(scenario, judge.profiles)
            compile_loops(profile, kernels, workers, total, progress)
            regions = learned_regions(judge, deadline=total, params=params)
            instance = prepare(judge, regions, gpus=gpus, deadline=total, params=params)
        except (InfeasibleError, Stopped) as error:
            seconds = time.monotonic() - started
            return Change(result=planless_result(scenario, "exact", error, seconds=seconds))
        prepared_s, deadline = time.monotonic() - started, total.within(time_limit_s)
        search = search_of(instance, placer, judge, 0.0, params)
        gpus_deadline = deadline.part(params.replanning.gpus_time_share * time_limit_s)
        minimum = minimize_gpus(search, gpus_deadline)
        nearest = None
        if minimum.best is not None:
            mover = Mover(search, running_in(instance, placement), move_price, deadline)
            nearest = mover.minimize_moves(mover.nearest_to(minimum.best))
        choice = Choice(None if nearest is None else nearest.best, last=minimum.last)
        seconds = time.monotonic() - started
        result = build_result(Outcome(search, minimum, choice, deadline, "", prepared_s, seconds))
        if nearest is None:
            return Change(result=result)
        change = _change(result, nearest, instance, placement, move_price, PlacementJudge(judge, total))
        return _with_steps(change, judge, placement, total) if steps else change


def _check(scenario: Scenario, placement: Placement, move_price: float | None) -> None:
    given, price = ArgumentCheck("replan"), "give a price above 0, or none for the fewest moves"
    for name, value, kind in (("scenario", scenario, Scenario), ("placement", placement, Placement)):
        message = f"is of type {type(value).__name__}"
        given.check(name, value, instance_of(kind), f"give a scenarios.{kind.__name__}", message)
    if move_price is not None:
        given.check("move_price", move_price, number(above=0), price)
    given.refuse()
    known = [device.name for device in scenario.devices]
    for k, gpu in enumerate(placement.gpus):
        message = f'is "{gpu.device}", which the scenario does not have'
        remedy = f"choose from {', '.join(known)}"
        given.check(f"gpus[{k}].device", gpu.device, known.__contains__, remedy, message)
    given.refuse()


def _change(
    result: Result,
    nearest: Nearest,
    instance: Instance,
    old: Placement,
    move_price: float | None,
    asked: PlacementJudge,
) -> Change:
    """The result with the names dealt so that they stay, on engines that stay, and what it changes."""
    plan, numbers = nearest.best, numbers_of(old, nearest.homes)
    names = dealt(instance, old, plan.packing, nearest.homes)
    placement = placement_with_names(instance, plan.problem, plan.packing, names, numbers)
    patterns = [pattern_of(plan.problem, b) for b in plan.packing.bins]
    report = report_on(patterns, plan.verdicts, numbers, names, instance.merged)
    placement, report = keep_engines(placement, report, old, asked)
    values = values_of(instance, replace(plan, verdicts=report.gpus))
    parts = instance.split_in_words
    result = result.model_copy(
        update={
            "method": "replan",
            "message": f"{result.message}; {_proof(nearest, move_price, parts)}{_skipped(result.objectives)}",
            "objective": values[0],
            "objective_values": values,
            "placement": placement,
            "validation": report,
        }
    )
    bound = None if move_price is not None else math.ceil(nearest.bound - 1e-6)
    return change_between(deployable(result, old), old, bound)


def _with_steps(change: Change, judge: TwinJudge, running: Placement, deadline: Deadline) -> Change:
    """The change with its steps; without, where there is no plan or no time."""
    new, asked = change.result.placement, PlacementJudge(judge, deadline)
    if new is None:
        return change
    with suppress(Stopped):
        found = steps_between(judge.scenario, running, new, lambda gpus: asked.report(gpus).gpus)
        return change.model_copy(update={"rollout": found})
    return change


def _proof(nearest: Nearest, move_price: float | None, parts: str) -> str:
    """What is known of the moves beside those of other plans; parts of split adapters are as they are."""
    least, what = ("fewest", "moves") if move_price is None else ("lowest", "price with moves")
    if nearest.proven:
        at = " at its price" if move_price is None else ""
        return f"the {least} {what} of all plans of the optimistic (outer) region{parts}{at}"
    return f"{what} not proven to be the {least}"


def _skipped(objectives: Sequence[str]) -> str:
    """What is said of the scenario's objectives beside prices, which few moves take the place of."""
    skipped = [name for name in objectives if name in LATENCY_OBJECTIVES]
    return f"; {' and '.join(skipped)} not looked at: replan minimises moves instead" if skipped else ""
