"""`solve`: from a scenario to a plan that the digital twin accepts."""

from __future__ import annotations

import time
from collections.abc import Sequence
from contextlib import suppress
from dataclasses import replace

import scenarios
import twin
from optimizer.arguments import check_arguments, check_method
from optimizer.baselines.named import BASELINES, Baseline
from optimizer.baselines.run import solve_baseline
from optimizer.packing.model.problem import PackingProblem
from optimizer.packing.solver import Method, methods
from optimizer.progress import Progress, silent
from optimizer.result import Result
from optimizer.search.compilation import compile_loops
from optimizer.search.cut_loop import AcceptedPlan, CutLoop
from optimizer.search.instance import Instance, prepare
from optimizer.search.judging import judge_of_patterns
from optimizer.search.minimize_gpus import GPUMinimization
from optimizer.search.minimize_latency import choose_by_latency
from optimizer.search.objectives import latency_objective_of, leading_prices
from optimizer.search.result_builder import SearchProgress, build_result, infeasible_result, stopped_result
from optimizer.search.splitting import InfeasibleError
from scenarios import Problem, Scenario, ScenarioError
from scenarios.stopping.deadline import UNLIMITED, Deadline, Stopped
from scenarios.stopping.interrupts import interrupted, noticed, request

FEWEST_SHARE = 0.5
"""Share of the time for the fewest GPUs where an objective on their number follows."""


def solve(
    scenario: Scenario,
    method: str = "exact",
    *,
    objective: str | Sequence[str] | None = None,
    gpus: int | None = None,
    time_limit_s: float = 60.0,
    total_limit_s: float | None = None,
    gap_limit: float = 0.0,
    seed: int | None = None,
    workers: int = 1,
    progress: Progress = silent,
) -> Result:
    """Place a scenario's adapters; the twin judges every GPU of the plan.

    Parameters
    ----------
    scenario
        What to place.
    method
        Name of a placer, or of a baseline; `optimizer.methods()` and `optimizer.BASELINES` list them.
    objective
        ``gpus``, ``cost``, ``latency``, ``worst_latency``, ``ttft``, ``worst_ttft`` or ``balance``, or
        several, the most important first; None: the scenario's own. All but the first two work on
        ``gpus`` GPUs, or on the fewest if that is None; after ``gpus`` or ``cost``, on what is best there.
    gpus
        Most GPUs; for the objectives on a given number of GPUs, that number, as far as there are so many.
    time_limit_s
        Seconds of search after which the best accepted plan so far is returned. What comes before it is
        not counted: compiling, once after installation, and learning regions, once per workload and device.
    total_limit_s
        Seconds for all of it, learning and compiling too; None: no such limit. What was learned by then is
        kept where regions are cached, and the next call goes on from there.
    gap_limit
        Relative gap at which the placer stops.
    seed
        Seed of everything random; None: the scenario's.
    workers
        Processes and threads; the result does not depend on it unless the time limit strikes.
    progress
        Called with progress.

    Returns
    -------
    Result
        Also when there is no plan (see its status and message), and on Ctrl-C, with the best plan that
        the twin had accepted by then.

    Raises
    ------
    ScenarioError
        If the method or an objective does not exist, they do not suit each other, or an argument is out
        of its range.
    twin.UnknownProfileError
        If no engine profile is known for the scenario's model and device.
    """
    started = time.monotonic()
    check_arguments(scenario, objective, gpus, time_limit_s, gap_limit, workers, total_limit_s)
    chosen = find_method(method)
    scenario = _adjusted(scenario, objective, seed)
    check_method(chosen, scenario.objective, gpus)
    total = UNLIMITED if total_limit_s is None else Deadline.after(total_limit_s)
    with noticed():
        try:
            if isinstance(chosen, Baseline):
                return solve_baseline(
                    scenario, chosen, gpus=gpus, time_limit_s=time_limit_s, total=total, workers=workers,
                    progress=progress,
                )  # fmt: skip
            compile_loops(twin.profiles_of(scenario)[scenario.devices[0].name], total, progress)
            instance = prepare(scenario, gpus=gpus, workers=workers, progress=progress, deadline=total)
        except InfeasibleError as error:
            return infeasible_result(scenario, chosen.name, str(error), seconds=time.monotonic() - started)
        except Stopped as error:
            return stopped_result(scenario, chosen.name, error, seconds=time.monotonic() - started)
        outcome = _begun(instance, chosen, total.within(time_limit_s), gap_limit, workers, progress)
        outcome.note = _fewer_exist(scenario, gpus)
        outcome.prepared_s = time.monotonic() - started
        try:
            search_in_order(outcome, gpus, time_limit_s)
        except KeyboardInterrupt:  # a callback's own; signals raise nothing
            request()
        return build_result(outcome, time.monotonic() - started)


def _begun(
    instance: Instance, method: Method, deadline: Deadline, gap_limit: float, workers: int, progress: Progress
) -> SearchProgress:
    """What a search holds when it begins."""
    scenario = instance.scenario
    if not leading_prices(scenario.objective):
        instance = instance.priced("gpus", instance.inner.max_bins or instance.inner.n_items)
    judge = judge_of_patterns(scenario, instance.classes, instance.profiles, workers, progress)
    confirmation = CutLoop(judge, deadline, progress)
    search = GPUMinimization(instance, method, confirmation, gap_limit=gap_limit, workers=workers)
    return SearchProgress(instance, method, search, confirmation)


def find_method(name: str) -> Method | Baseline:
    """The placer or baseline of a name.

    Raises
    ------
    ScenarioError
        If there is none; the message lists those that exist.
    """
    known: dict[str, Method | Baseline] = {**methods(), **BASELINES}
    if name not in known:
        problem = Problem("method", f'is "{name}", which does not exist', f"choose from {', '.join(known)}")
        raise ScenarioError([problem], "solve")
    return known[name]


def search_in_order(outcome: SearchProgress, gpus: int | None, time_limit_s: float) -> None:
    """The objectives in their order, each among the plans that are best in those before."""
    instance, confirmation, search = outcome.instance, outcome.confirmation, outcome.search
    quality = latency_objective_of(instance.scenario.objective)
    end = confirmation.deadline
    if quality is not None:
        confirmation.deadline = end.within(FEWEST_SHARE * time_limit_s)
    search.run()
    outcome.found = search.best
    next_price(outcome)
    confirmation.deadline = end
    if quality is None or interrupted():
        return
    inner = allowed(outcome, gpus)
    if inner is not None:
        with suppress(Stopped):
            choose_by_latency(outcome, quality, inner)


def allowed(outcome: SearchProgress, gpus: int | None) -> PackingProblem | None:
    """The problem of the plans that are as good as the one held in the prices before the first quality.

    Where a quality comes first, the GPUs that were asked for, as far as they exist, are allowed. None
    where that needs a plan and there is none.
    """
    instance, found = outcome.instance, outcome.found
    objectives = instance.scenario.objective
    before = leading_prices(objectives)
    most = min(instance.inner.max_bins or instance.inner.n_items, instance.inner.n_items)
    budget = None
    if before or gpus is None:
        if found is None:
            return None
        if before != ("cost",):
            most = len(found.packing)
        if "cost" in before:
            budget = outcome.value("cost", found) * (1 + 1e-9)
    inner = instance.priced("cost" if "cost" in objectives else "gpus", most, budget).inner
    if budget is not None:
        inner = replace(inner, max_bins=min(most, int(budget / inner.prices.min())))
    return inner


def next_price(outcome: SearchProgress) -> None:
    """The best plan by the second price among those that are best by the first."""
    found, instance = outcome.found, outcome.instance
    prices = leading_prices(instance.scenario.objective)
    if found is not None and prices == ("gpus", "cost"):
        cheaper = _cheapest(outcome, instance.priced("cost", len(found.packing)))
        if cheaper is not None and outcome.value("cost", cheaper) < outcome.value("cost", found):
            outcome.found = cheaper
    if prices == ("cost", "gpus") and len(set(instance.inner.prices)) > 1:
        while found is not None and len(found.packing) > 1 and outcome.confirmation.left_s > 0:
            outcome.found = found
            as_cheap = instance.priced("cost", len(found.packing) - 1, budget=found.value * (1 + 1e-9))
            found = _cheapest(outcome, as_cheap)
        outcome.found = found or outcome.found


def _cheapest(outcome: SearchProgress, instance: Instance) -> AcceptedPlan | None:
    """The plan of least price of an instance."""
    search = GPUMinimization(
        instance,
        outcome.method,
        outcome.confirmation,
        gap_limit=outcome.search.gap_limit,
        workers=outcome.search.workers,
    )
    search.run()
    return search.best


def _fewer_exist(scenario: Scenario, gpus: int | None) -> str:
    """That fewer GPUs exist than an objective on a given number of them was to use; empty if not."""
    total = sum(device.count for device in scenario.devices)
    if gpus is None or gpus <= total or leading_prices(scenario.objective):
        return ""
    return f"{gpus} GPUs were asked for, {total} exist; raise devices[].count to use more"


def _adjusted(scenario: Scenario, objective: str | Sequence[str] | None, seed: int | None) -> Scenario:
    """The scenario with the objective and the seed that were asked for."""
    changes: list[str] = [] if seed is None else [f"seed={seed}"]
    if objective is not None:
        names = [objective] if isinstance(objective, str) else objective
        changes.append(f"objective=[{', '.join(names)}]")
    return scenarios.override(scenario, changes) if changes else scenario
