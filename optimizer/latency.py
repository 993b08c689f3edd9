"""The least latency on a given number of GPUs: candidates by model and by rule, the twin decides."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace

import numpy as np

from optimizer.confirm import Confirmation, Confirmed, halves
from optimizer.instance import Instance
from optimizer.packing import methods, pack
from optimizer.problem import Bin, IntArray, Packing, PackingProblem
from optimizer.tables import cell_text
from twin import GPUVerdict

MODEL_SHARE = 0.5
"""Share of the remaining time that the exact model of the latency may take."""

FALLBACK_METHOD = "cpsat"
"""Method for the latency model where the chosen one does not know the objective."""


def least_latency(
    instance: Instance,
    method: str,
    confirmation: Confirmation,
    fewest: Confirmed | None,
    gpus: int,
    *,
    seed: int,
    workers: int,
) -> tuple[Confirmed | None, str]:
    """The accepted plan with the least mean inter-token latency, as the twin measures it.

    Candidates are the linear model's plan, the fewest-GPU plan spread over the same GPUs, and even
    deals of the adapters; so the answer is never worse than spreading the fewest-GPU plan.

    Returns
    -------
    tuple
        The plan, None if the twin accepts no candidate, and a sentence on where it comes from.
    """
    problem = replace(instance.inner, max_bins=gpus)
    best: Confirmed | None = None
    origin = "no candidate was accepted"
    for name, packing in _candidates(problem, method, confirmation, fewest, gpus, seed=seed, workers=workers):
        verdicts = confirmation.verdicts(problem, packing)
        confirmation.rounds += 1
        if not all(verdict.accepted for verdict in verdicts):
            continue
        candidate = Confirmed(packing, verdicts, problem, None)
        if best is None or mean_itl_ms(candidate.verdicts) < mean_itl_ms(best.verdicts):
            best, origin = candidate, name
    return best, origin


def mean_itl_ms(verdicts: tuple[GPUVerdict, ...]) -> float:
    """Mean inter-token latency over GPUs, weighted by their served tokens, in ms."""
    weight = np.array([verdict.served_tok_per_s or 0.0 for verdict in verdicts])
    itl = np.array([np.nan if verdict.itl_ms is None else verdict.itl_ms for verdict in verdicts])
    known = np.isfinite(itl) & (weight > 0)
    return float(np.average(itl[known], weights=weight[known])) if known.any() else float("inf")


def _candidates(
    problem: PackingProblem,
    method: str,
    confirmation: Confirmation,
    fewest: Confirmed | None,
    gpus: int,
    *,
    seed: int,
    workers: int,
) -> Iterator[tuple[str, Packing]]:
    dealt = _with_best_options(problem, deal(problem, gpus))
    if dealt is not None:
        yield "the adapters dealt evenly", dealt
    by_rank = _with_best_options(problem, deal_by_rank(problem, gpus))
    if by_rank is not None:
        yield "the adapters dealt evenly, rank by rank", by_rank
    if fewest is not None:
        yield "the fewest-GPU plan, spread", spread(problem, fewest.packing, gpus)
    model = replace(problem, objective="mean", cuts=confirmation.cuts(problem))
    able = method if "mean" in methods()[method].objectives else FALLBACK_METHOD
    seconds = max(1.0, confirmation.left_s * MODEL_SHARE)
    solved = pack(model, able, time_limit_s=seconds, seed=seed, workers=workers, hint=dealt)
    if solved.packing is not None:
        label = "" if solved.objective is None else f" (estimated {cell_text(solved.objective)} ms)"
        yield f"the linear latency model{label}", solved.packing


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
