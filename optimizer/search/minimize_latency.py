"""The best latency within given limits: candidates by model and by rule, the twin decides."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace

import numpy as np

from optimizer.packing.heuristics.first_fit import BinFiller
from optimizer.packing.heuristics.open_bins import OpenBins
from optimizer.packing.model.problem import Bin, IntArray, Packing, PackingProblem
from optimizer.search.cut_loop import AcceptedPlan, LoopResult, split_in_half
from optimizer.search.minimize_gpus import Search
from optimizer.search.objective_order import Choice, as_good, best_in_order
from optimizer.search.objectives import LatencyObjective, latency_objective_of
from scenarios import Deadline, interrupted

FALLBACK_METHOD = "cpsat"
"""Method for the model of the latency where the chosen one does not know the objective."""


def minimize_latency(search: Search, first: Choice, gpus: int | None, deadline: Deadline) -> Choice:
    """The best accepted plan in the order of the objectives, where one of them is a latency or balance.

    Candidates are the plan held, as it is and spread over all GPUs, even deals of the adapters, and the
    linear model's plan; so the answer is never worse than spreading the fewest-GPU plan. None is
    worse in a price before the latency. Objectives after it choose among these plans. A method that only
    spreads adapters over GPUs is a rule of its own: its plan is the only candidate.

    Parameters
    ----------
    first
        The plan held; its plan may be None.
    gpus
        GPUs that are allowed where the latency comes first; None: as many as that plan has.
    deadline
        When to return the best plan by then.
    """
    objective = latency_objective_of(search.instance.scenario.objective)
    inner = None if interrupted() else as_good(search.instance, first.plan, gpus)
    if objective is None or inner is None:
        return first
    judged = [] if first.plan is None else [first]
    by_rule = not search.placer.spreads
    for origin, problem, packing in _by_rule(objective, first, inner) if by_rule else ():
        plan = search.loop.accept(problem, packing, deadline)
        judged += [] if plan is None else [Choice(plan, origin, first.last)]
        if deadline.reached:
            return best_in_order(search, judged, first)
    best = best_in_order(search, judged, first)
    result = _by_model(search, objective, best, inner, deadline)
    origin = f"found by the linear model's estimate of {objective.name}" if by_rule else ""
    judged += [] if result.plan is None else [Choice(result.plan, origin)]
    best = best_in_order(search, judged, first)
    if by_rule and best.plan is not None and not deadline.reached:
        wide = _as_wide(inner, best.plan)
        packing = on_cheaper(_posed(objective, wide), best.plan.packing)
        plan = search.loop.accept(wide, packing, deadline)
        origin = f"{best.origin or 'the plan of the search for the fewest'}, on cheaper GPUs"
        judged += [] if plan is None else [Choice(plan, origin)]
        best = best_in_order(search, judged, first)
    return replace(best, last=result.last or first.last)


def _by_model(
    search: Search, objective: LatencyObjective, best: Choice, inner: PackingProblem, deadline: Deadline
) -> LoopResult:
    """The plan of the linear model that the twin accepts."""
    params, model = search.params.latency, _posed(objective, inner)
    able = search.placer.name if model.objective in search.placer.objectives else FALLBACK_METHOD
    solver = search.solver(able, best.plan, params.model_time_share)
    return search.loop.run(model, solver, deadline, max_rounds=params.max_model_rounds)


def _posed(objective: LatencyObjective, inner: PackingProblem) -> PackingProblem:
    """The linear model's problem of an objective, on as many GPUs as are allowed."""
    assert inner.max_bins is not None
    return objective.problem(inner, inner.max_bins)


def _by_rule(
    objective: LatencyObjective, first: Choice, inner: PackingProblem
) -> Iterator[tuple[str, PackingProblem, Packing]]:
    """Plans by rule, each with the problem that it is to be valid for."""
    gpus = inner.max_bins
    assert gpus is not None
    for name, rows in (
        ("found by dealing the adapters evenly", deal(inner, gpus)),
        ("found by dealing the adapters evenly, rank by rank", deal_by_rank(inner, gpus)),
    ):
        packing = with_best_options(_posed(objective, inner), rows)
        if packing is not None:
            yield name, inner, packing
    if first.plan is not None and len(first.plan.packing) < gpus:
        wide = _as_wide(inner, first.plan)
        packing = spread(objective.problem(wide, gpus), first.plan.packing, gpus)
        yield "found by spreading the plan on the fewest GPUs", wide, packing


def _as_wide(inner: PackingProblem, plan: AcceptedPlan) -> PackingProblem:
    """The problem with the rows of the region that a plan was found in, which may be wider."""
    options = tuple(
        replace(own, usage=other.usage, capacity=other.capacity)
        for own, other in zip(inner.options, plan.problem.options, strict=True)
    )
    return replace(inner, options=options)


def spread(problem: PackingProblem, packing: Packing, gpus: int) -> Packing:
    """A packing over more bins: the slowest bin by estimate is halved until there are enough.

    The second half gets the first one's option, or another where a limit forbids that; a bin for which
    there is none stays whole.
    """
    bins, whole = list(packing.bins), 0  # the first ones of `bins` stay whole
    opening = OpenBins(BinFiller(replace(problem, max_bins=gpus)))
    for b in bins:
        opening.take(b.option)
    while len(bins) < gpus:
        splittable = [k for k, b in enumerate(bins) if k >= whole and b.counts.sum() > 1]
        if not splittable:
            break
        worst = max(splittable, key=lambda k: problem.options[bins[k].option].latency(bins[k].counts))
        first, second = split_in_half(bins[worst])
        option = second.option if opening.may(second.option) else opening.fastest(second.counts)
        if option is None:
            bins.insert(whole, bins.pop(worst))
            whole += 1
            continue
        opening.take(option)
        bins[worst : worst + 1] = [first, replace(second, option=option)]
    return Packing(tuple(bins))


def deal(problem: PackingProblem, gpus: int) -> list[IntArray]:
    """Every class dealt evenly over the bins, the remainders in turn."""
    counts = np.repeat((problem.counts // gpus)[None, :], gpus, axis=0)
    nxt = 0
    for c, rest in enumerate(problem.counts % gpus):
        for k in range(int(rest)):
            counts[(nxt + k) % gpus, c] += 1
        nxt = (nxt + int(rest)) % gpus
    return [row for row in counts if row.any()]


def deal_by_rank(problem: PackingProblem, gpus: int) -> list[IntArray]:
    """Classes that need the same max rank dealt evenly over bins of their own, in proportion to load."""
    ranks = np.array([option.option.max_lora_rank for option in problem.options])
    fits = np.array([option.fits_class for option in problem.options])
    need = np.array([ranks[fits[:, c]].min(initial=1 << 30) for c in range(problem.n_classes)])
    heaviest = np.array([option.usage / option.capacity[:, None] for option in problem.options[-1:]])[0]
    load = {
        int(r): float((heaviest[:, need == r] @ problem.counts[need == r]).max()) for r in np.unique(need)
    }
    if len(load) > gpus:
        return []
    bins = _apportion(load, gpus)
    rows: list[IntArray] = []
    for r, number in bins.items():
        part = replace(problem, counts=np.where(need == r, problem.counts, 0))
        rows += deal(part, number)
    return rows


def _apportion(load: dict[int, float], gpus: int) -> dict[int, int]:
    """At least one bin each, the rest one by one to the largest load per bin."""
    bins = dict.fromkeys(load, 1)
    for _ in range(gpus - len(load)):
        bins[max(load, key=lambda r: load[r] / bins[r])] += 1
    return bins


def with_best_options(problem: PackingProblem, rows: list[IntArray]) -> Packing | None:
    """Each bin with the option of least estimated latency that the limits leave it; None if one has none.

    Bins that fit the fewest options choose first, and leave the cheapest option's price to each of the rest.
    """
    opening = OpenBins(BinFiller(problem))
    bins: list[Bin] = []
    cheapest = float(problem.prices.min())
    for k, counts in enumerate(sorted(rows, key=lambda row: len(opening.holding(row)))):
        option = opening.fastest(counts, reserve=cheapest * (len(rows) - k - 1))
        if option is None:
            return None
        opening.take(option)
        bins.append(Bin(option, counts))
    return Packing(tuple(bins)) if bins else None


def on_cheaper(problem: PackingProblem, packing: Packing) -> Packing:
    """The same bins, each with the cheapest option that makes the objective no worse by estimate."""
    opening = OpenBins(BinFiller(problem))
    for b in packing.bins:
        opening.take(b.option)
    latency = [problem.options[b.option].latency(b.counts) for b in packing.bins]
    bins = []
    for b, own in zip(packing.bins, latency, strict=True):
        most = max(latency) if problem.objective == "worst" else own
        opening.give(b.option)
        option = opening.cheapest(b.counts, most)
        bins.append(b if option is None else replace(b, option=option))
        opening.take(bins[-1].option)
    return Packing(tuple(bins))
