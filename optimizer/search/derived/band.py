"""How many GPUs a plan would need if its derived step costs were better or worse than expected."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace

from optimizer.result import Result
from optimizer.search.derived.ends import at_end
from optimizer.search.grouping.minimize_gpus import cheapest_plan
from optimizer.search.instance import Instance
from optimizer.search.minimize_gpus import Search
from optimizer.search.params import SolveParams
from optimizer.search.preparation import learned_regions, prepare
from optimizer.search.splitting import InfeasibleError
from optimizer.step_costs import ENDS, StepCosts
from scenarios import Deadline, Stopped
from twin import End, TwinJudge


def with_band(
    result: Result,
    judge: TwinJudge,
    searching: Callable[[Instance, TwinJudge], Search],
    *,
    total: Deadline,
    params: SolveParams,
) -> Result:
    """The result with the fewest GPUs at each end of its derived step costs; as it is where none is derived.

    Each other end is searched with rows scaled by what the twin says of it, and judged by the twin, for
    ``params.derived.time_limit_s`` at most.

    Parameters
    ----------
    result, judge
        The plan, and the twin that judged it.
    searching
        What makes a search of an instance for a judge, with the same placer.
    total
        When to stop all of it; ends that are not reached by then are left out.
    params
        Parameters.
    """
    costs = StepCosts.of(judge.profiles)
    if costs is None:
        return result
    gpus: dict[End, int | None] = {}
    for end in ENDS:
        if end == costs.end:
            gpus[end] = result.gpus
            continue
        there = replace(judge, profiles=at_end(judge.profiles, end), _known={})
        try:
            gpus[end] = _fewest(there, searching, total, params)
        except Stopped:
            break
    return result.model_copy(update={"step_costs": costs.model_copy(update={"gpus": gpus})})


def _fewest(
    judge: TwinJudge,
    searching: Callable[[Instance, TwinJudge], Search],
    total: Deadline,
    params: SolveParams,
) -> int | None:
    """Fewest GPUs of a plan that the twin accepts; None if none was found.

    Raises
    ------
    Stopped
        If the total limit passes before there is an answer.
    """
    try:
        regions = learned_regions(judge, deadline=total, params=params)
        instance = prepare(judge, regions, deadline=total, params=params, grouping=True)
    except InfeasibleError:
        return None
    plan = cheapest_plan(searching(instance, judge), total.part(params.derived.time_limit_s)).best
    return None if plan is None else len(plan.packing)
