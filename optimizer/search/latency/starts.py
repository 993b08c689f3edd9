"""Plans to begin with where a latency is to be minimised: by rule, and by the linear model's estimates."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace

import numpy as np

from optimizer.packing.heuristics.first_fit import BinFiller
from optimizer.packing.heuristics.open_bins import OpenBins
from optimizer.packing.model.problem import (
    Bin,
    FloatArray,
    IntArray,
    Packing,
    PackingOption,
    PackingProblem,
)
from optimizer.search.cut_loop import split_in_half
from optimizer.search.objectives import LatencyObjective


def posed(objective: LatencyObjective, inner: PackingProblem) -> PackingProblem:
    """The linear model's problem of an objective, on as many GPUs as are allowed."""
    assert inner.max_bins is not None
    return objective.problem(inner, inner.max_bins)


def by_rule(
    objective: LatencyObjective, tight: Packing | None, inner: PackingProblem
) -> Iterator[tuple[str, Packing]]:
    """Plans by rule on as many GPUs as are allowed, and where they come from.

    Parameters
    ----------
    tight
        A plan on few GPUs, if there is one.
    inner
        Its options and limits are kept; what a GPU holds may be more than its rows.
    """
    gpus = inner.max_bins
    assert gpus is not None
    free = posed(objective, unlimited(inner))
    for name, rows in (
        ("dealing the adapters evenly", deal(inner, gpus)),
        ("dealing the adapters evenly, rank by rank", deal_by_rank(inner, gpus)),
    ):
        packing = with_best_options(free, rows)
        if packing is not None:
            yield name, packing
    if tight is not None and len(tight) < gpus:
        yield "spreading a plan on few GPUs", spread(free, tight, gpus)


def unlimited(problem: PackingProblem) -> PackingProblem:
    """The problem without rows but the strict ones: a GPU may hold whatever its option admits."""
    most = problem.counts.astype(np.float64)

    def capacity(option: PackingOption) -> FloatArray:
        wide = np.maximum(option.capacity, option.usage @ most * (1 + 1e-9))
        return np.concatenate([option.capacity[: option.strict_rows], wide[option.strict_rows :]])

    options = tuple(replace(option, capacity=capacity(option)) for option in problem.options)
    return replace(problem, options=options, cuts=())


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
