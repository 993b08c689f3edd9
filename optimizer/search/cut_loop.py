"""The solve-validate-cut loop: a plan counts only when the twin accepts every GPU of it."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field, replace

import numpy as np

from optimizer.packing import pack
from optimizer.packing.heuristics.load_balancing import balance_load
from optimizer.packing.model.checker import check
from optimizer.packing.model.params import DEFAULTS, LocalSearchParams, PackingParams
from optimizer.packing.model.problem import Bin, NoGoodCut, Packing, PackingProblem
from optimizer.packing.model.search_state import PackingResult
from optimizer.search.judging import Pattern, PatternJudge
from scenarios import Deadline, Stopped
from scenarios.stopping.progress import Progress, silent
from twin import GPUVerdict

Solver = Callable[[PackingProblem, float, float], PackingResult]
"""Packs a problem, at most so many seconds, when a bound is known already."""


@dataclass(frozen=True)
class AcceptedPlan:
    """A packing of which the twin accepted every bin.

    Parameters
    ----------
    packing
        The bins.
    verdicts
        The twin's verdict on each bin.
    problem
        The problem that the packing solves, with the cuts that led to it.
    solved
        What the placer said of it; None for a packing that no placer proved anything about.
    """

    packing: Packing
    verdicts: tuple[GPUVerdict, ...]
    problem: PackingProblem
    solved: PackingResult | None

    @property
    def value(self) -> float:
        """The packing's objective."""
        return self.problem.value(self.packing)


@dataclass(frozen=True)
class LoopResult:
    """How a run of the cut loop ended.

    Parameters
    ----------
    plan
        The accepted plan; None when the rounds or the time were used up, or no packing was left.
    last
        What the placer said last; None if it was not asked.
    """

    plan: AcceptedPlan | None = None
    last: PackingResult | None = None


@dataclass
class CutLoop:
    """Proposes, judges and cuts, a logic-based Benders decomposition; it remembers every rejection.

    Cuts hold for every problem of the scenario, so one loop serves all steps of a search. Where the time is
    over, or the search is interrupted, while the twin judges, there is no plan.

    Parameters
    ----------
    judge
        The twin.
    progress
        Called with progress.
    params
        How packings are balanced before the twin sees them.
    dealt
        Says which items each bin holds, where those of a class are only alike.

    Attributes
    ----------
    rounds
        How often the twin was shown a plan.
    rejected
        Contents of GPUs that the twin rejected.
    """

    judge: PatternJudge
    progress: Progress = silent
    params: LocalSearchParams = DEFAULTS.local_search
    dealt: Callable[[PackingProblem, Packing], Packing] = lambda _, packing: packing
    rounds: int = 0
    rejected: dict[Pattern, GPUVerdict] = field(default_factory=dict)

    def run(
        self,
        problem: PackingProblem,
        solver: Solver,
        deadline: Deadline,
        *,
        max_rounds: int,
        max_rejected_share: float = 1.0,
        known_bound: float = 0.0,
        balance: bool = False,
    ) -> LoopResult:
        """Solve, let the twin judge, cut off what it rejects, and solve again.

        A cut only takes packings away, so the bound of one round holds in the next.

        Parameters
        ----------
        problem
            What to solve.
        solver
            The placer.
        deadline
            When to stop.
        max_rounds
            How often to solve.
        max_rejected_share
            Share of rejected bins above which, twice in a row, the problem is given up.
        known_bound
            A bound on the problem that is proven already.
        balance
            Whether to even out every other packing, the first too, before the twin sees it. Mostly that
            leaves it nothing to reject; where all GPUs are at their limit, an uneven plan may do better.
        """
        result, hopeless = LoopResult(), 0
        for k in range(max_rounds):
            cut = replace(problem, cuts=self.cuts(problem))
            packed = solver(cut, deadline.left_s, known_bound)
            result = LoopResult(last=packed)
            self.rounds += 1
            self.progress("solve, validate, cut", self.rounds, 0)
            if packed.packing is None:
                return result
            known_bound = max(known_bound, packed.bound)
            packing = packed.packing
            if balance and k % 2 == 0:
                packing = balance_load(cut, packing, deadline, self.params)
            packing = self.dealt(cut, packing)
            verdicts = self.verdicts(cut, packing, deadline)
            if verdicts is None:
                return result
            rejected = sum(not verdict.accepted for verdict in verdicts)
            if not rejected:
                return LoopResult(AcceptedPlan(packing, verdicts, cut, packed), packed)
            hopeless = hopeless + 1 if rejected > max_rejected_share * len(verdicts) else 0
            if deadline.reached or hopeless == 2:
                return result
        return result

    def accept(self, problem: PackingProblem, packing: Packing, deadline: Deadline) -> AcceptedPlan | None:
        """A packing that no placer made, if it is valid for the problem and the twin accepts every bin.

        The twin's verdict stands in for cuts, which only foretell it.
        """
        if check(replace(problem, cuts=()), packing):
            return None
        packing = self.dealt(problem, packing)
        verdicts = self.verdicts(problem, packing, deadline)
        if verdicts is None:
            return None
        self.rounds += 1
        accepted = all(verdict.accepted for verdict in verdicts)
        return AcceptedPlan(packing, verdicts, problem, None) if accepted else None

    def verdicts(
        self, problem: PackingProblem, packing: Packing, deadline: Deadline
    ) -> tuple[GPUVerdict, ...] | None:
        """The twin's verdict on each bin, rejections remembered; None if the end comes before."""
        patterns = [pattern_of(problem, b) for b in packing.bins]
        try:
            verdicts = self.judge(patterns, deadline)
        except Stopped:
            return None
        self.rejected |= {p: v for p, v in zip(patterns, verdicts, strict=True) if not v.accepted}
        return tuple(verdicts)

    def cuts(self, problem: PackingProblem) -> tuple[NoGoodCut, ...]:
        """The rejections so far as cuts of a problem."""
        cuts = []
        for pattern in self.rejected:
            options = tuple(k for k in range(len(problem.options)) if _covers(problem, k, pattern))
            if options:
                cuts.append(NoGoodCut(options, np.array(pattern.counts)))
        return tuple(cuts)

    def repair(self, problem: PackingProblem, packing: Packing, deadline: Deadline) -> AcceptedPlan | None:
        """Halve the bins that the twin rejects until it accepts all, or a limit is reached."""
        bins = list(packing.bins)
        while not deadline.reached:
            verdicts = self.verdicts(problem, Packing(tuple(bins)), deadline)
            if verdicts is None:
                return None
            self.rounds += 1
            if all(verdict.accepted for verdict in verdicts):
                return AcceptedPlan(Packing(tuple(bins)), verdicts, problem, None)
            halved = [
                half
                for b, verdict in zip(bins, verdicts, strict=True)
                for half in ([b] if verdict.accepted else split_in_half(b))
            ]
            if len(halved) == len(bins) or check(replace(problem, cuts=()), Packing(tuple(halved))):
                return None
            bins = halved
        return None


def fixed_method(
    method: str,
    *,
    seed: int,
    workers: int,
    hint: Packing | None = None,
    gap_limit: float = 0.0,
    share: float = 1.0,
    params: PackingParams | None = None,
) -> Solver:
    """A solver that always uses one method of `pack`, for a share of the time that is left."""

    def solver(problem: PackingProblem, seconds: float, known_bound: float) -> PackingResult:
        return pack(
            problem,
            method,
            time_limit_s=max(share * seconds, 0.1),
            gap_limit=gap_limit,
            seed=seed,
            workers=workers,
            hint=hint,
            known_bound=known_bound,
            params=params,
        )

    return solver


def pattern_of(problem: PackingProblem, b: Bin) -> Pattern:
    """Content and configuration of a bin; slots beyond its adapters are given back to the KV cache."""
    option = problem.options[b.option].option
    engine = replace(option, max_loras=min(option.max_loras, int(b.counts.sum())))
    return Pattern(engine, tuple(int(n) for n in b.counts), b.items)


def split_in_half(b: Bin) -> Sequence[Bin]:
    """Two bins that share a bin's items as evenly as they can."""
    odd = b.counts % 2 == 1
    up = odd & (np.cumsum(odd) % 2 == 1)
    first = b.counts // 2 + up
    second = b.counts - first
    return [Bin(b.option, part) for part in (first, second) if part.any()]


def _covers(problem: PackingProblem, index: int, pattern: Pattern) -> bool:
    """Whether what starves in the pattern's configuration starves in the option's too.

    The same device with at least the pattern's rank, and either the same slots, or slots for every
    adapter in both: then the option's engine differs only by having less memory for the KV cache.
    """
    option, adapters, judged = problem.options[index].option, sum(pattern.counts), pattern.option
    if option.device != judged.device or option.max_lora_rank < judged.max_lora_rank:
        return False
    return option.max_loras == judged.max_loras or min(option.max_loras, adapters) == judged.max_loras
