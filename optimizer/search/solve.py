"""`solve`: from a scenario to a plan that the digital twin accepts."""

from __future__ import annotations

import time
from collections.abc import Sequence
from dataclasses import replace

import scenarios
import twin
from optimizer.arguments import check_arguments, check_method, method_problem
from optimizer.baselines.named import BASELINES, Baseline
from optimizer.baselines.run import solve_baseline
from optimizer.deployable import deployable
from optimizer.packing.solver import Method, methods
from optimizer.result import Result
from optimizer.search.compilation import compile_loops, twin_loops
from optimizer.search.cut_loop import CutLoop
from optimizer.search.derived.band import with_band
from optimizer.search.grouping.dealing import Dealer
from optimizer.search.grouping.minimize_gpus import cheapest_plan
from optimizer.search.instance import Instance
from optimizer.search.judging import PatternJudge
from optimizer.search.latency.first_plan import plan_on_given
from optimizer.search.latency.lower_bound import LatencyBound, latency_bounds
from optimizer.search.latency.minimize_latency import minimize_latency
from optimizer.search.minimize_gpus import GPUMinimum, Search
from optimizer.search.objective_order import Choice, minimize_second_price
from optimizer.search.objectives import leading_prices
from optimizer.search.params import DEFAULTS, SolveParams
from optimizer.search.preparation import learned_regions, may_group, prepare
from optimizer.search.result_builder import Outcome, build_result, planless_result
from optimizer.search.splitting import InfeasibleError
from optimizer.survival.minimize import with_spare
from optimizer.survival.spare import Spare, check_recovery
from scenarios import Deadline, Problem, Scenario, ScenarioError, Stopped, noticed
from scenarios.stopping.progress import Progress, interruptible, silent
from twin import TwinJudge


def solve(
    scenario: Scenario,
    method: str = "exact",
    *,
    objective: str | Sequence[str] | None = None,
    gpus: int | None = None,
    time_limit_s: float = 60.0,
    total_limit_s: float | None = None,
    gap_limit: float = 0.0,
    acceptance: str | None = None,
    seed: int | None = None,
    workers: int = 1,
    progress: Progress = silent,
    params: SolveParams = DEFAULTS,
    spare: int | str | None = None,
    recovery: str = "live",
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
        Seconds of search for the fewest (or cheapest) GPUs after which the best accepted plan so far is kept.
        What comes before it is not counted: compiling, once after installation, and learning regions, once
        per workload and device. Nor is what a latency takes that comes after it, which is limited in work
        (``params.polishing``); one that comes first, on GPUs that are given, is counted.
    total_limit_s
        Seconds for all of it, learning and compiling too; None: no such limit. What was learned by then is
        kept where regions are cached, and the next call goes on from there.
    gap_limit
        Relative gap at which the placer stops.
    acceptance
        By what a GPU is accepted: ``sustained`` or ``paper``; None: the scenario's. What the scenario says
        for the other criterion alone is set aside.
    seed
        Seed of everything random; None: the scenario's.
    workers
        Processes and threads; the result does not depend on it unless the time limit strikes.
    progress
        Called with progress.
    params
        Parameters of the algorithms. `scenarios.read_params` reads them from TOML.
    spare
        How much may be lost: 1 or 2 GPUs, or ``"1node"``. The plan is on the fewest GPUs with which it still
        holds after any such loss; None: nothing may be lost. It comes before latencies.
    recovery
        How adapters of lost GPUs come back: ``live``, loaded into the engines that run, or after a
        ``restart`` of engines.

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
    check_arguments(
        scenario, objective, gpus, time_limit_s, gap_limit, workers, total_limit_s, seed, params, acceptance
    )
    placer = find_method(method)
    scenario = adjusted(scenario, objective, seed, acceptance)
    check_method(placer, scenario.objective, gpus)
    lost = None if spare is None else spare_of(placer, spare)
    recovers = check_recovery(recovery)
    progress, total = interruptible(progress), Deadline.of(total_limit_s)
    with noticed():
        judge = TwinJudge(scenario, twin.profiles_of(scenario), workers, progress)
        try:
            kernels = kernels_of(placer) + (("items",) if may_group(scenario, params) else ())
            kernels += twin_loops(scenario, judge.profiles)
            compile_loops(judge.profiles[scenario.devices[0].name], kernels, workers, total, progress)
            if isinstance(placer, Baseline):
                found = solve_baseline(
                    judge, placer, gpus=gpus, time_limit_s=time_limit_s, total=total, params=params,
                    started=started,
                )  # fmt: skip
                return deployable(found)
            regions = learned_regions(judge, deadline=total, params=params)
            instance = prepare(judge, regions, gpus=gpus, deadline=total, params=params, grouping=True)
        except (InfeasibleError, Stopped) as error:
            return planless_result(scenario, placer.name, error, seconds=time.monotonic() - started)
        prepared_s, deadline = time.monotonic() - started, total.within(time_limit_s)
        search = search_of(instance, placer, judge, gap_limit, params)
        share = 1.0 if lost is None else params.survival.gpus_time_share
        until = deadline.part(share * time_limit_s)
        outcome = _searched(search, gpus, until, total, spare=lost is not None)
        seconds = time.monotonic() - started
        result = build_result(replace(outcome, preparation_seconds=prepared_s, seconds=seconds))
        if lost is not None:
            result = with_spare(search, outcome.choice, result, lost, recovers, deadline, total)
        elif placer.exact and gpus is None and leading_prices(scenario.objective):
            result = with_band(
                result,
                judge,
                lambda one, there: search_of(one, placer, there, gap_limit, params),
                total=total,
                params=params,
            )
        return deployable(result)


def _searched(
    search: Search, gpus: int | None, deadline: Deadline, total: Deadline, *, spare: bool
) -> Outcome:
    """The objectives in their order.

    Parameters
    ----------
    gpus
        GPUs that were asked for; None: as many as there are.
    deadline
        When to stop looking for the fewest (or cheapest) GPUs, or for a latency that comes first.
    total
        When to stop looking for a latency after these, which is limited in work too.
    spare
        Whether the fewest GPUs are all that is wanted, as a plan with spare is made from there.
    """
    scenario = search.instance.scenario
    fewest = spare or gpus is None or bool(leading_prices(scenario.objective))
    minimum, choice = _first_choice(search, None if fewest else gpus, deadline)
    bounds: dict[str, LatencyBound] = {}
    if not spare:
        choice = minimize_latency(search, choice, gpus, total if fewest else deadline)
        bounds = latency_bounds(search, choice, gpus, total)
    ended_by = total if fewest and minimum.finished else deadline
    note = _gpus_note(scenario, gpus, choice)
    return Outcome(search, minimum, choice, ended_by, note, latency_bounds=bounds)


def _first_choice(search: Search, gpus: int | None, deadline: Deadline) -> tuple[GPUMinimum, Choice]:
    """What is known of the fewest (or cheapest) GPUs, and the plan that prices, or given GPUs, lead to."""
    if gpus is not None:
        return plan_on_given(search, gpus, deadline)
    minimum = cheapest_plan(search, deadline)
    return minimum, minimize_second_price(search, minimum, deadline)


def search_of(
    instance: Instance, placer: Method, judge: TwinJudge, gap_limit: float, params: SolveParams
) -> Search:
    """What the steps of a search need; without a price before a latency, the fewest GPUs come first."""
    if not leading_prices(instance.scenario.objective):
        instance = instance.priced("gpus", instance.inner.max_bins or instance.inner.n_items)
    patterns = PatternJudge(judge, tuple(one.kind for one in instance.classes), merged=instance.merged)
    loop = CutLoop(patterns, judge.progress, params.packing.local_search, teaching=params.teaching)
    if instance.groups is not None:
        dealer = Dealer(instance)
        loop = replace(loop, judge=replace(patterns, kind_of_item=dealer.kind), dealt=dealer.deal)
    return Search(instance, placer, loop, gap_limit, judge.workers, params)


def spare_of(placer: Method | Baseline, given: int | str) -> Spare:
    """What may be lost, for a method that makes plans which hold after it.

    Raises
    ------
    ScenarioError
        If the spare is none, or the method looks for no fewest GPUs.
    """
    spare = Spare.of(given)
    if isinstance(placer, Baseline) or placer.spreads:
        message = f'is given, and method "{placer.name}" makes no plan with spare'
        remedy = "choose a placer that finds the fewest GPUs, such as exact, or leave spare out"
        raise ScenarioError([Problem("spare", message, remedy)], "solve")
    return spare


def find_method(name: str) -> Method | Baseline:
    """The placer or baseline of a name.

    Raises
    ------
    ScenarioError
        If there is none; the message names the one that comes near, or those that exist.
    """
    known: dict[str, Method | Baseline] = {**methods(), **BASELINES}
    if not isinstance(name, str) or name not in known:
        raise ScenarioError([method_problem(name, known)], "solve")
    return known[name]


def kernels_of(placer: Method | Baseline) -> tuple[str, ...]:
    """Groups of compiled loops that a placer calls; what a baseline does needs none but the twin's."""
    return placer.kernels if isinstance(placer, Method) else ()


def _gpus_note(scenario: Scenario, gpus: int | None, choice: Choice) -> str:
    """What should be known of the number of GPUs of an objective on a given number; empty if nothing."""
    total = sum(device.count for device in scenario.devices)
    if leading_prices(scenario.objective) or choice.plan is None:
        return ""
    used = len(choice.plan.packing)
    if gpus is None and used < total:
        return f"on the fewest GPUs, {used} of {total}; --gpus N (gpus=N in Python) allows more"
    if gpus is not None and gpus > total:
        return f"{gpus} GPUs were asked for, {total} exist; raise devices[].count to use more"
    return ""


def adjusted(
    scenario: Scenario, objective: str | Sequence[str] | None, seed: int | None, acceptance: str | None = None
) -> Scenario:
    """The scenario with the objective, the seed and the criterion asked for, checked again as a whole.

    Raises
    ------
    ScenarioError
        If they do not suit the scenario.
    """
    if acceptance is not None:
        scenario = scenarios.override(scenario, f"acceptance={acceptance}")
    changes: dict[str, object] = {} if seed is None else {"seed": seed}
    if objective is not None:
        changes["objective"] = (objective,) if isinstance(objective, str) else tuple(objective)
    if not changes:
        return scenario
    return scenarios.from_mapping(scenario.model_dump(mode="json") | changes, source=scenario.name)
