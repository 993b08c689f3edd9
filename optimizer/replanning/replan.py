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
from dataclasses import dataclass, field, replace

import twin
from optimizer.packing import methods
from optimizer.packing.model.problem import PackingProblem
from optimizer.progress import Progress, silent
from optimizer.replanning.changes import (
    Change,
    change_between,
    dealt,
    numbers_of,
    placement_with_names,
    running_in,
)
from optimizer.replanning.moves import MovesSolver, Running
from optimizer.search.compilation import compile_loops
from optimizer.search.cut_loop import AcceptedPlan, CutLoop, pattern_of
from optimizer.search.instance import Instance, prepare
from optimizer.search.judging import judge_of_patterns, report_on
from optimizer.search.minimize_gpus import GPUMinimization, relaxed
from optimizer.search.objectives import LATENCY_OBJECTIVES
from optimizer.search.result_builder import SearchProgress, build_result, infeasible_result, stopped_result
from optimizer.search.splitting import InfeasibleError
from scenarios import Placement, Problem, Scenario, ScenarioError
from scenarios.stopping.deadline import UNLIMITED, Deadline, Stopped
from scenarios.stopping.interrupts import noticed, request

FEWEST_SHARE = 0.5
"""Share of the time for the fewest GPUs; the rest is for the fewest moves."""

RELAXATIONS = (0.0, 1.0, 0.5)
"""Where between the inner and the outer region few moves are looked for, in this order."""

ROUNDS_PER_RELAXATION = 12
"""How often the twin may reject a plan of few moves before another region is tried."""


@dataclass
class _Nearest:
    """The search for few moves; what it holds is valid at any moment."""

    instance: Instance
    running: Running
    confirmation: CutLoop
    move_price: float | None
    workers: int
    best: AcceptedPlan | None = None
    homes: list[int | None] = field(default_factory=list)
    value: float = float("inf")
    bound: float = 0.0

    def start(self, plan: AcceptedPlan) -> None:
        """Begin with an accepted plan, each GPU in the place of the running one most like it."""
        self._offer(plan, self.running.nearest_homes(plan.problem, plan.packing))

    @property
    def proven(self) -> bool:
        """Whether no plan can be nearer."""
        return self.value <= self.bound + 1e-6

    def run(self) -> None:
        """Search until bound and plan meet, all is tried, or the time is over."""
        assert self.best is not None
        with suppress(Stopped):
            for k, share in enumerate(RELAXATIONS):
                left = len(RELAXATIONS) - k
                while self.confirmation.left_s > 0 and not self.proven:
                    if not self._improve(share, 1 / left):
                        break

    def _improve(self, share: float, time_share: float) -> bool:
        """Look for a nearer plan on one region; whether there was one."""
        assert self.best is not None
        solver = MovesSolver(
            self.running,
            fresh=len(self.best.packing),
            move_price=self.move_price,
            seed=self.instance.scenario.seed,
            workers=self.workers,
            share=time_share / 2,
            below=self.value,
            hint=(self.best.packing, self.homes),
        )
        plan = self.confirmation.confirm(self._problem(share), solver, max_rounds=ROUNDS_PER_RELAXATION)
        if share == 1.0:
            self.bound = max(self.bound, min(solver.bound, self.value))
        if plan is None or solver.homes is None:
            return False
        return self._offer(plan, solver.homes)

    def _problem(self, share: float) -> PackingProblem:
        """The region's problem; without a price per move, with the price of the plan held as budget."""
        assert self.best is not None
        problem = relaxed(self.instance, share)
        if self.move_price is not None:
            return problem
        return replace(problem, budget=self.instance.inner.price(self.best.packing) * (1 + 1e-9))

    def _offer(self, plan: AcceptedPlan, homes: list[int | None]) -> bool:
        moves = self.running.moves(plan.packing.counts(), homes)
        price = self.instance.inner.price(plan.packing)
        value = moves if self.move_price is None else price + self.move_price * moves
        if value >= self.value - 1e-9:
            return False
        self.best, self.homes, self.value = plan, homes, value
        return True


def replan(
    scenario: Scenario,
    placement: Placement,
    *,
    move_price: float | None = None,
    gpus: int | None = None,
    time_limit_s: float = 60.0,
    total_limit_s: float | None = None,
    seed: int | None = None,
    workers: int = 1,
    progress: Progress = silent,
) -> Change:
    """Place a scenario's adapters anew, moving as few of them as possible.

    Of the scenario's objectives only the prices count; moves take the place of the others.

    Parameters
    ----------
    scenario
        The adapters with their new rates. Adapters that the placement does not have are added, those
        that only the placement has are retired; neither is a move.
    placement
        What is running.
    move_price
        Price of one move in units of the first objective; None: the fewest GPUs first, then the fewest
        moves.
    gpus
        Most GPUs.
    time_limit_s
        Seconds of search after which the best accepted plan so far is returned.
    seed, workers, progress, total_limit_s
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
    scenario = scenario if seed is None else scenario.model_copy(update={"seed": seed})
    method = methods()["exact"]
    total = UNLIMITED if total_limit_s is None else Deadline.after(total_limit_s)
    with noticed():
        try:
            compile_loops(twin.profiles_of(scenario)[scenario.devices[0].name], total, progress)
            instance = prepare(scenario, gpus=gpus, workers=workers, progress=progress, deadline=total)
        except InfeasibleError as error:
            seconds = time.monotonic() - started
            return Change(result=infeasible_result(scenario, method.name, str(error), seconds=seconds))
        except Stopped as error:
            seconds = time.monotonic() - started
            return Change(result=stopped_result(scenario, method.name, error, seconds=seconds))
        judge = judge_of_patterns(scenario, instance.classes, instance.profiles, workers, progress)
        end = total.within(time_limit_s)
        confirmation = CutLoop(judge, end.within(FEWEST_SHARE * time_limit_s), progress)
        search = GPUMinimization(instance, method, confirmation, workers=workers)
        nearest = _Nearest(instance, running_in(instance, placement), confirmation, move_price, workers)
        outcome = SearchProgress(
            instance, method, search, confirmation, prepared_s=time.monotonic() - started
        )
        try:
            search.run()
            if search.best is not None:
                nearest.start(search.best)
                confirmation.deadline = end
                nearest.run()
        except KeyboardInterrupt:  # a callback's own; signals raise nothing
            request()
        return _change(outcome, nearest, placement, time.monotonic() - started)


def _check(scenario: Scenario, placement: Placement, move_price: float | None) -> None:
    given = {"scenario": (scenario, Scenario), "placement": (placement, Placement)}
    wrong = [
        Problem(name, f"is of type {type(value).__name__}", f"give a scenarios.{kind.__name__}")
        for name, (value, kind) in given.items()
        if not isinstance(value, kind)
    ]
    if move_price is not None and not isinstance(move_price, (int, float)):
        wrong.append(Problem("move_price", f"is of type {type(move_price).__name__}", "give a number"))
    if wrong:
        raise ScenarioError(wrong, "replan")
    known = [device.name for device in scenario.devices]
    problems = [
        Problem(
            f"gpus[{k}].device",
            f'is "{gpu.device}", which the scenario does not have',
            f"choose from {', '.join(known)}",
        )
        for k, gpu in enumerate(placement.gpus)
        if gpu.device not in known
    ]
    if move_price is not None and not move_price > 0:
        problems.append(
            Problem("move_price", f"is {move_price:g}", "give a price above 0, or none for the fewest moves")
        )
    if problems:
        raise ScenarioError(problems, "replan")


def _change(outcome: SearchProgress, nearest: _Nearest, old: Placement, seconds: float) -> Change:
    """The result with the names dealt so that they stay, and what it changes."""
    outcome.found = nearest.best
    result = build_result(outcome, seconds)
    plan = nearest.best
    if plan is None:
        return Change(result=result)
    instance, numbers = outcome.instance, numbers_of(old, nearest.homes)
    names = dealt(instance, old, plan.packing, nearest.homes)
    placement = placement_with_names(instance, plan.problem, plan.packing, names, numbers)
    patterns = [pattern_of(plan.problem, b) for b in plan.packing.bins]
    result = result.model_copy(
        update={
            "method": "replan",
            "message": f"{result.message}; {_said_of(nearest)}{_skipped(result.objectives)}",
            "placement": placement,
            "validation": report_on(patterns, plan.verdicts, numbers, names),
        }
    )
    bound = None if nearest.move_price is not None else math.ceil(nearest.bound - 1e-6)
    return change_between(result, old, bound)


def _said_of(nearest: _Nearest) -> str:
    what = "moves" if nearest.move_price is None else "price with moves"
    if nearest.proven:
        return f"the fewest {what} of all plans inside the outer region"
    return f"{what} not proven to be the fewest"


def _skipped(objectives: Sequence[str]) -> str:
    """What is said of the scenario's objectives beside prices, which few moves take the place of."""
    skipped = [name for name in objectives if name in LATENCY_OBJECTIVES]
    return f"; {' and '.join(skipped)} not looked at: replan minimises moves instead" if skipped else ""
