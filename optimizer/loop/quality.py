"""The best quality on a given number of GPUs: candidates by model and by rule, the twin decides."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace

import numpy as np

from optimizer.loop.assemble import Outcome
from optimizer.loop.confirm import Confirmed, Pinned, fixed_method, halves
from optimizer.loop.objectives import Quality
from optimizer.packing.problem import Bin, IntArray, Packing, PackingProblem

MODEL_SHARE = 0.5
"""Share of the time left that the exact model of the quality may take."""

MODEL_ROUNDS = 6
"""Most rounds of cuts on that model."""

FALLBACK_METHOD = "cpsat"
"""Method for the model of the quality where the chosen one does not know the objective."""


def best_quality(outcome: Outcome, quality: Quality, gpus: int) -> None:
    """Replace the outcome's plan by the accepted one of best quality, as the twin measures it.

    Candidates are even deals of the adapters, the fewest-GPU plan as it is and spread over the same GPUs,
    and the linear model's plan; so the answer is never worse than spreading the fewest-GPU plan. Without
    an accepted candidate there is no plan for this number of GPUs.
    """
    inner = replace(outcome.instance.inner, max_bins=gpus)
    best: Confirmed | None = None
    least = float("inf")
    for name, plan in _judged(outcome, quality, inner, gpus):
        value = quality.measure(inner, plan.packing, plan.verdicts)
        if best is None or value < least:
            best, least = plan, value
            outcome.origin = name
    outcome.found = best
    outcome.quality = None if best is None else least


def _judged(
    outcome: Outcome, quality: Quality, inner: PackingProblem, gpus: int
) -> Iterator[tuple[str, Confirmed]]:
    """The candidates that the twin accepts."""
    confirmation = outcome.confirmation
    first: Packing | None = None
    for name, packing in _candidates(outcome, inner, gpus):
        first = first or packing
        plan = confirmation.confirm(inner, Pinned(packing), max_rounds=1)
        if plan is not None:
            yield name, plan
    method = outcome.method
    model = quality.problem(inner, gpus)
    able = method.name if model.objective in method.objectives else FALLBACK_METHOD
    seed, workers = outcome.instance.scenario.seed, outcome.search.workers
    solver = fixed_method(able, seed=seed, workers=workers, hint=first, share=MODEL_SHARE)
    plan = confirmation.confirm(model, solver, max_rounds=MODEL_ROUNDS)
    if plan is not None:
        yield "the linear model of the objective", plan


def _candidates(outcome: Outcome, inner: PackingProblem, gpus: int) -> Iterator[tuple[str, Packing]]:
    for name, rows in (
        ("the adapters dealt evenly", deal(inner, gpus)),
        ("the adapters dealt evenly, rank by rank", deal_by_rank(inner, gpus)),
    ):
        packing = _with_best_options(inner, rows)
        if packing is not None:
            yield name, packing
    if outcome.found is not None and len(outcome.found.packing) <= gpus:
        yield "the fewest-GPU plan, spread", spread(inner, outcome.found.packing, gpus)


def spread(problem: PackingProblem, packing: Packing, gpus: int) -> Packing:
    """A packing over more bins: the slowest bin by estimate is halved until there are enough."""
    bins = list(packing.bins)
    while len(bins) < gpus:
        splittable = [k for k, b in enumerate(bins) if b.counts.sum() > 1]
        if not splittable:
            break
        worst = max(splittable, key=lambda k: problem.options[bins[k].option].latency(bins[k].counts))
        bins[worst : worst + 1] = halves(bins[worst])
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
    ranks = np.array([option.max_lora_rank for option in problem.options])
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


def _with_best_options(problem: PackingProblem, rows: list[IntArray]) -> Packing | None:
    """Each bin with the feasible option of least estimated latency; None if a bin fits none."""
    bins = []
    for counts in rows:
        feasible = [k for k in range(len(problem.options)) if _holds(problem, k, counts)]
        if not feasible:
            return None
        bins.append(Bin(min(feasible, key=lambda k: problem.options[k].latency(counts)), counts))
    return Packing(tuple(bins)) if bins else None


def _holds(problem: PackingProblem, index: int, counts: IntArray) -> bool:
    option = problem.options[index]
    fits = bool(option.fits_class[counts > 0].all())
    return fits and bool((option.usage @ counts <= option.capacity * (1 + 1e-9)).all())
