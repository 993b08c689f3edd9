"""The solve-validate-cut loop: a plan counts only when the twin accepts every GPU of it."""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field, replace

import numpy as np

from optimizer.packing import pack
from optimizer.packing.heuristics.load_balancing import balance_load
from optimizer.packing.model.checker import check
from optimizer.packing.model.params import DEFAULTS, LocalSearchParams, PackingParams
from optimizer.packing.model.problem import Bin, NoGoodCut, Packing, PackingProblem
from optimizer.packing.model.search_state import PackingResult
from optimizer.search.corrections import Corrections, Lesson
from optimizer.search.judging import Pattern, PatternJudge
from optimizer.search.params import DEFAULTS as SOLVE_DEFAULTS
from optimizer.search.params import TeachingParams
from scenarios import Deadline, Stopped
from scenarios.stopping.progress import Progress, silent
from twin import GPUVerdict, load_growths

Solver = Callable[[PackingProblem, Deadline, float], PackingResult]
"""Packs a problem, until a deadline, when a bound is known already."""

LEAST_S = 0.1
"""Seconds that a solver gets even where hardly any are left."""


@dataclass(frozen=True)
class JudgedPlan:
    """A packing and what the twin says of it.

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
    solved: PackingResult | None = None

    @property
    def value(self) -> float:
        """The packing's objective."""
        return self.problem.value(self.packing)

    @property
    def rejected_share(self) -> float:
        """Share of the bins that the twin rejects."""
        return sum(not verdict.accepted for verdict in self.verdicts) / len(self.verdicts)

    @property
    def patterns(self) -> list[Pattern]:
        """Content and configuration of each bin."""
        return [pattern_of(self.problem, b) for b in self.packing.bins]


class AcceptedPlan(JudgedPlan):
    """A packing of which the twin accepted every bin."""


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
    """Proposes, judges, cuts and learns, a logic-based Benders decomposition; it remembers every rejection.

    Cuts and lessons hold for every problem of the scenario, so one loop serves all steps of a search. Where
    the time is over, or the search is interrupted, while the twin judges, there is no plan.

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
    teaching
        What the twin is asked by how much a GPU is too full, or could be fuller.

    Attributes
    ----------
    rounds
        How often the twin was shown a plan.
    rejected
        Contents of GPUs that the twin rejected.
    lessons
        By how much contents were too full, or could have been fuller; None where the load does not tell.
    """

    judge: PatternJudge
    progress: Progress = silent
    params: LocalSearchParams = DEFAULTS.local_search
    dealt: Callable[[PackingProblem, Packing], Packing] = lambda _, packing: packing
    teaching: TeachingParams = SOLVE_DEFAULTS.teaching
    rounds: int = 0
    rejected: dict[Pattern, GPUVerdict] = field(default_factory=dict)
    lessons: dict[Pattern, Lesson | None] = field(default_factory=dict)

    def run(
        self,
        problem: PackingProblem,
        solver: Solver,
        deadline: Deadline,
        *,
        max_rounds: int,
        max_rejected_share: float = 1.0,
        corrections: Corrections | None = None,
        optimism: float = 0.0,
        known_bound: float = 0.0,
        balance: bool = False,
    ) -> LoopResult:
        """Solve, let the twin judge, cut off what it rejects, learn by how much, and solve again.

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
            Share of rejected bins above which the problem is given up.
        corrections
            How lessons change the problem's rows, which are the inner ones; None: not at all.
        optimism
            By how much the corrected rows are wider than is likely (`Corrections.rows`).
        known_bound
            A bound on the problem, and on whatever its rows are corrected to, that is proven already.
        balance
            Whether to even out every other packing, the first too, before the twin sees it. Mostly that
            leaves it nothing to reject; where all GPUs are at their limit, an uneven plan may do better.
        """
        result = LoopResult()
        for k in range(max_rounds):
            cut = replace(self.taught(problem, corrections, optimism), cuts=self.cuts(problem))
            packed = solver(cut, deadline, known_bound)
            result = LoopResult(last=packed)
            if packed.packing is None:
                return result
            if corrections is None:  # a cut only takes packings away, so a bound holds in the next round
                known_bound = max(known_bound, packed.bound)
            packing = packed.packing if optimism == 0.0 else over_all_bins(cut, packed.packing)
            if balance and (corrections is not None or k % 2 == 0):
                packing = balance_load(cut, packing, deadline, self.params)
            plan = self.judged(cut, self.dealt(cut, packing), packed, deadline)
            if corrections is not None:
                tries = self.teaching.rebalances if balance else 0
                plan = self._rebalanced(problem, plan, corrections, tries, deadline)
            if isinstance(plan, AcceptedPlan):
                return LoopResult(plan, packed)
            if plan is None or deadline.reached or plan.rejected_share > max_rejected_share:
                return result
        return result

    def _rebalanced(
        self,
        problem: PackingProblem,
        plan: JudgedPlan | None,
        corrections: Corrections,
        tries: int,
        deadline: Deadline,
    ) -> JudgedPlan | None:
        """A plan to learn from; its rejected GPUs relieved by those with room to spare, as far as is learned.

        Where the GPUs of a plan are not all too full by what is learned of them, the nearest plan is the best
        guess, and costs the placer nothing.
        """
        for _ in range(tries):
            if plan is None or isinstance(plan, AcceptedPlan):
                return plan
            if not self.learn(plan, self.taught(problem, corrections, 0.0), deadline):
                return None
            likely = self.taught(problem, corrections, 0.0)
            roomy = replace(_roomier(likely, self.teaching.overfull), cuts=self.cuts(problem))
            packing = balance_load(roomy, plan.packing, deadline, self.params)
            if any(fill(likely, b) > 1 + self.teaching.doubt for b in packing.bins) or check(roomy, packing):
                return plan
            plan = self.judged(roomy, packing, plan.solved, deadline)
        if plan is None or isinstance(plan, AcceptedPlan):
            return plan
        return plan if self.learn(plan, self.taught(problem, corrections, 0.0), deadline) else None

    def judged(
        self, problem: PackingProblem, packing: Packing, solved: PackingResult | None, deadline: Deadline
    ) -> JudgedPlan | None:
        """A round: the packing with the twin's verdict on each bin; None if the end comes before."""
        verdicts = self.verdicts(problem, packing, deadline)
        if verdicts is None:
            return None
        self.rounds += 1
        self.progress("solve, validate, cut", self.rounds, 0)
        accepted = all(verdict.accepted for verdict in verdicts)
        return (AcceptedPlan if accepted else JudgedPlan)(packing, verdicts, problem, solved)

    def taught(
        self, problem: PackingProblem, corrections: Corrections | None, optimism: float
    ) -> PackingProblem:
        """A problem on the inner rows with what the twin has taught of them."""
        if corrections is None:
            return problem
        return corrections.problem(problem, [one for one in self.lessons.values() if one], optimism)

    def learn(self, plan: JudgedPlan, likely: PackingProblem, deadline: Deadline) -> bool:
        """Ask the twin about some GPUs of a plan how much less, or more, would be right; whether it told.

        Those that it rejected come first, and of them as many options as possible, as what is learned of one
        content holds for others of its option. What has room to spare by the likely rows is not worth asking.
        """
        told = self._worth_asking(plan, likely)
        patterns = list(told)

        def ask(asked: Sequence[tuple[int, float]]) -> list[GPUVerdict]:
            return self.judge([replace(patterns[k], load=factor) for k, factor in asked], deadline)

        try:
            found = load_growths(list(told.values()), ask, self.teaching)
        except Stopped:
            return False
        for pattern, growth in zip(patterns, found, strict=True):
            self.lessons[pattern] = None if growth is None else Lesson(pattern, growth)
        return True

    def _worth_asking(self, plan: JudgedPlan, likely: PackingProblem) -> dict[Pattern, GPUVerdict]:
        """The contents to learn from, with the verdicts on them."""
        fresh: dict[Pattern, tuple[int, GPUVerdict]] = {}
        turns = Counter[tuple[int, bool]]()
        for pattern, b, verdict in zip(plan.patterns, plan.packing.bins, plan.verdicts, strict=True):
            near = not verdict.accepted or fill(likely, b) >= self.teaching.least_fill
            known = pattern in self.lessons or pattern in fresh
            if near and not known and verdict.memory_failure is None:
                turns[b.option, verdict.accepted] += 1
                fresh[pattern] = turns[b.option, verdict.accepted], verdict
        order = sorted(fresh, key=lambda p: (fresh[p][0], fresh[p][1].accepted))
        return {p: fresh[p][1] for p in order[: self.teaching.contents_per_round]}

    def accept(self, problem: PackingProblem, packing: Packing, deadline: Deadline) -> AcceptedPlan | None:
        """A packing that no placer made, if it is valid for the problem and the twin accepts every bin.

        The twin's verdict stands in for cuts, which only foretell it.
        """
        if check(replace(problem, cuts=()), packing):
            return None
        plan = self.judged(problem, self.dealt(problem, packing), None, deadline)
        return plan if isinstance(plan, AcceptedPlan) else None

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
            plan = self.judged(problem, Packing(tuple(bins)), None, deadline)
            if plan is None or isinstance(plan, AcceptedPlan):
                return plan
            halved = [
                half
                for b, verdict in zip(bins, plan.verdicts, strict=True)
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
    """A solver that always uses one method of `pack`, for a share of the counted time that is left."""

    def solver(problem: PackingProblem, deadline: Deadline, known_bound: float) -> PackingResult:
        return pack(
            problem,
            method,
            time_limit_s=math.inf,
            deadline=deadline.part(share * deadline.left_s).no_sooner(LEAST_S),
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
    option, slotless = problem.options[b.option].option, problem.without_slot(b.counts)
    adapters = int(b.counts.sum()) - slotless
    engine = option.trimmed(adapters, problem.fewest_slots)
    counts = tuple(int(n) for n in b.counts)
    return Pattern(engine, counts, b.items, slotless=slotless, fewest_slots=problem.fewest_slots)


def fill(problem: PackingProblem, b: Bin) -> float:
    """Share of a bin that is taken, by its fullest row."""
    option = problem.options[b.option]
    return float((option.usage @ b.counts / np.maximum(option.capacity, 1e-300)).max())


def over_all_bins(problem: PackingProblem, packing: Packing) -> Packing:
    """The packing over as many bins as the problem admits, the fullest halved until there are so many.

    An optimistic plan with fewer GPUs than would do is one that the twin has the more to reject of.
    """
    bins = list(packing.bins)
    while len(bins) < (problem.max_bins or 0):
        fullest = max(range(len(bins)), key=lambda k: (bins[k].counts.sum() > 1, fill(problem, bins[k])))
        halves = split_in_half(bins[fullest])
        if len(halves) < 2:
            break
        bins[fullest : fullest + 1] = halves
    wide = Packing(tuple(bins))
    return packing if len(wide) == len(packing) or check(problem, wide) else wide


def _roomier(problem: PackingProblem, share: float) -> PackingProblem:
    """The problem with so much more room in rows that do not count items."""
    options = tuple(
        replace(o, usage=np.where(o.counting_rows[:, None], o.usage, o.usage / (1 + share)))
        for o in problem.options
    )
    return replace(problem, options=options)


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
    option, judged = problem.options[index].option, pattern.option
    if option.device != judged.device or option.max_lora_rank < judged.max_lora_rank:
        return False
    return option.max_loras == judged.max_loras or pattern.run_as(option)
