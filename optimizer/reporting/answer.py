"""The answer first: how many GPUs, how sure, what they cost, and what the greedy needs."""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Mapping, Sequence

from optimizer.comparison import OVER_S
from optimizer.reporting.contents import HOURS_PER_MONTH, Answer, Reference
from optimizer.reporting.numbers import rounded
from optimizer.reporting.params import ReportParams
from optimizer.result import Result
from optimizer.result_text import queue_note, twin_notes, why_no_bound
from optimizer.search.objectives import LATENCY_OBJECTIVES, leading_prices
from optimizer.search.solve import solve
from optimizer.survival.text import answer as survival_answer
from scenarios import Deadline, criterion_in_words
from scenarios.stopping.progress import Progress
from scenarios.text.formatting import counted, listed
from twin import EngineProfile

OF_PAPER, OF_PAPER_LATENCY = "greedy", "greedy-lat"
"""The paper's placers: of the fewest GPUs, and of a latency on given ones."""

FILLING = "greedy-fill"
"""The greedy that tests every number of adapters, for scenarios in which the paper's finds no plan."""

NAMED = 3
"""Kinds of GPU that a sentence names."""


def answer_of(result: Result, greedy: Result | None, profiles: Mapping[str, EngineProfile]) -> Answer:
    """The answer of a result.

    Parameters
    ----------
    result
        The result.
    greedy
        That of the greedy on the same scenario; None: the plan is its own, or there can be none.
    profiles
        Engine profile of each device.
    """
    scenario, plan, judged = result.scenario, result.placement, result.validation
    per_month = monthly_cost(result)
    verdicts = judged.gpus if judged else ()
    survival = "" if result.survival is None else survival_answer(result.survival).plain
    return Answer(
        status=result.status,
        message=result.message,
        method=result.method,
        objectives=result.objectives,
        accepted=result.accepted,
        gpus=result.gpus,
        devices={} if plan is None else dict(Counter(gpu.device for gpu in plan.gpus)),
        adapters=scenario.n_adapters - len(scenario.base_names),
        bound=result.bound,
        bound_of=result.objectives[0],
        bound_text="" if result.bound is None else _bound_in_words(result.objectives[0], result.bound),
        no_bound="" if result.bound is not None else why_no_bound(result),
        cost_per_month=per_month,
        greedy_cost_per_month=None if greedy is None else monthly_cost(greedy),
        cost_unit=""
        if per_month is None
        else f"the currency of the scenario's price_per_hour, {HOURS_PER_MONTH} h",
        acceptance=result.acceptance,
        criterion=criterion_in_words(scenario),
        sureness="measured" if result.step_costs is None else "derived",
        sureness_text=_how_sure(result, profiles),
        greedy=None if greedy is None else _reference(greedy),
        offered_tok_per_s=rounded(sum(v.offered_tok_per_s for v in verdicts)) if verdicts else None,
        served_tok_per_s=rounded(sum(v.served_tok_per_s for v in verdicts)) if verdicts else None,
        survival=survival,
        notes=(*twin_notes(result), *(line.plain.removeprefix("note: ") for line in queue_note([result]))),
        seconds=rounded(result.seconds),
    )


def _bound_in_words(objective: str, bound: float) -> str:
    """The bound on the first objective in a sentence."""
    if objective == "gpus":
        return f"no plan has fewer than {counted(math.ceil(bound - 1e-6), 'GPU')}"
    if objective == "cost":
        return f"no plan costs less than {bound:.4g} per hour"
    known = LATENCY_OBJECTIVES[objective]
    figure = f"{bound:.1%}" if known.figure is None else f"{bound:,.4g} ms"
    return f"no plan on so many GPUs has a smaller {known.summary} than {figure}"


def monthly_cost(result: Result) -> float | None:
    """What a plan's GPUs cost in a month; None where the scenario states no price of one of them."""
    return None if result.cost_per_hour is None else HOURS_PER_MONTH * result.cost_per_hour


def _how_sure(result: Result, profiles: Mapping[str, EngineProfile]) -> str:
    """From what the step times are known, in a sentence."""
    if result.step_costs is not None:
        return result.step_costs.sentence
    used = {gpu.device for gpu in result.placement.gpus} if result.placement else set(profiles)
    told = [f"{name}, vLLM {one.engine_version}" for name, one in profiles.items() if name in used]
    return f"step times were measured on {listed(told, NAMED)}"


# --- the greedy beside it ------------------------------------------------------------------------------


def _reference(greedy: Result) -> Reference:
    return Reference(method=greedy.method, gpus=greedy.gpus, accepted=greedy.accepted, message=greedy.message)


def greedy_of(
    result: Result,
    others: Sequence[Result],
    params: ReportParams,
    workers: int,
    progress: Progress,
    deadline: Deadline,
) -> Result:
    """The greedy's result for the scenario of another: one of those that there are, or solved here.

    It is that of the paper's greedy, or of `FILLING` where that alone finds a plan of the fewest GPUs.
    """
    first = leading_prices(result.objectives)

    def found_by(name: str) -> Result:
        for other in others:
            if other.method == name and other.scenario == result.scenario:
                return other
        return solve(
            result.scenario,
            name,
            gpus=None if first else result.gpus,
            total_limit_s=max(deadline.within(params.greedy_seconds).clock_s, OVER_S),
            workers=workers,
            progress=progress,
        )

    greedy = found_by(OF_PAPER if first else OF_PAPER_LATENCY)
    if greedy.placement is not None or not first:
        return greedy
    filled = found_by(FILLING)
    return greedy if filled.placement is None else filled
