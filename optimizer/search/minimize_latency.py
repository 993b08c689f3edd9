"""The best quality within given limits: candidates by model and by rule, the twin decides."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace

import numpy as np

from optimizer.packing.heuristics.first_fit import BinFiller
from optimizer.packing.heuristics.open_bins import OpenBins
from optimizer.packing.model.problem import Bin, IntArray, Packing, PackingProblem
from optimizer.search.cut_loop import AcceptedPlan, fixed_method, split_in_half
from optimizer.search.objectives import PRICES, LatencyObjective
from optimizer.search.result_builder import SearchProgress

MODEL_SHARE = 0.5
"""Share of the time left that the exact model of the quality may take."""

MODEL_ROUNDS = 6
"""Most rounds of cuts on that model."""

FALLBACK_METHOD = "cpsat"
"""Method for the model of the quality where the chosen one does not know the objective."""

SAME = 1e-3
"""Relative difference up to which plans are equally good in a quality, so that the next objective decides."""


def choose_by_latency(outcome: SearchProgress, quality: LatencyObjective, inner: PackingProblem) -> None:
    """Replace the outcome's plan by the best accepted one in the order of the objectives.

    Candidates are the plan held, as it is and spread over all GPUs, even deals of the adapters, and the
    linear model's plan; so the answer is never worse than spreading the fewest-GPU plan. None breaks a
    limit of ``inner``. Objectives after ``quality`` choose among these plans. A method that only spreads
    adapters over GPUs is a rule of its own: its plan is the only candidate.

    Parameters
    ----------
    outcome
        Its plan is replaced with every better one, so that it can be interrupted.
    quality
        What the linear model minimises.
    inner
        The problem on the conservative region, with the most GPUs and the most cost allowed.
    """
    objectives = outcome.instance.scenario.objective
    judged: list[tuple[str, AcceptedPlan]] = []
    if outcome.found is not None:
        judged.append((outcome.origin, outcome.found))
    for name, plan in _judged(outcome, quality, inner):
        judged.append((name, plan))
        values = [tuple(outcome.value(each, one) for each in objectives) for _, one in judged]
        outcome.origin, outcome.found = judged[first_in_order(objectives, values)]


def first_in_order(objectives: tuple[str, ...], values: list[tuple[float, ...]]) -> int:
    """Index of the values that are least in the first objective, then in the next, and so on.

    Values of a quality that differ by no more than `SAME` are equal, save in the last objective.
    """
    kept = list(range(len(values)))
    for k, name in enumerate(objectives[:-1]):
        least = min(values[i][k] for i in kept)
        most = least * (1 + (1e-9 if name in PRICES else SAME))
        kept = [i for i in kept if values[i][k] <= most]
    return min(kept, key=lambda i: values[i][-1])


def _judged(
    outcome: SearchProgress, quality: LatencyObjective, inner: PackingProblem
) -> Iterator[tuple[str, AcceptedPlan]]:
    """The candidates that the twin accepts."""
    confirmation, alone = outcome.confirmation, outcome.method.spreads
    for name, problem, packing in () if alone else _candidates(outcome, quality, inner):
        plan = confirmation.accept(problem, packing)
        if plan is not None:
            yield name, plan
        if confirmation.left_s <= 0:
            return
    assert inner.max_bins is not None
    model = quality.problem(inner, inner.max_bins)
    able = outcome.method.name if model.objective in outcome.method.objectives else FALLBACK_METHOD
    seed, workers = outcome.instance.scenario.seed, outcome.search.workers
    hint = None if outcome.found is None else outcome.found.packing
    solver = fixed_method(able, seed=seed, workers=workers, hint=hint, share=MODEL_SHARE)
    plan = confirmation.confirm(model, solver, max_rounds=MODEL_ROUNDS)
    if plan is not None:
        yield "" if alone else "the linear model of the objective", plan
    if not alone and outcome.found is not None and confirmation.left_s > 0:
        wide = _as_wide(inner, outcome.found)
        plan = confirmation.accept(
            wide, on_cheaper(quality.problem(wide, inner.max_bins), outcome.found.packing)
        )
        if plan is not None:
            yield f"{outcome.origin or 'the first plan'}, on cheaper GPUs", plan


def _candidates(
    outcome: SearchProgress, quality: LatencyObjective, inner: PackingProblem
) -> Iterator[tuple[str, PackingProblem, Packing]]:
    """Plans by rule, each with the problem that it is to be valid for."""
    gpus = inner.max_bins
    assert gpus is not None
    first = outcome.found
    for name, rows in (
        ("the adapters dealt evenly", deal(inner, gpus)),
        ("the adapters dealt evenly, rank by rank", deal_by_rank(inner, gpus)),
    ):
        packing = with_best_options(quality.problem(inner, gpus), rows)
        if packing is not None:
            yield name, inner, packing
    if first is not None and len(first.packing) < gpus:
        wide = _as_wide(inner, first)
        yield "the fewest-GPU plan, spread", wide, spread(quality.problem(wide, gpus), first.packing, gpus)


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
