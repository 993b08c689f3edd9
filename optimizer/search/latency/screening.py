"""What the twin measures of GPUs in one short run each: enough to tell a better plan from a worse one.

All runs draw from the same seeds, so that differences between contents are not those of luck. What is found
in this way counts only when the whole rule accepts it. The work is counted in simulated requests, so that
the outcome is the same whatever the machine, and however many share it.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, field

from optimizer.packing.model.problem import Bin, PackingProblem
from optimizer.search.cut_loop import fill, pattern_of
from optimizer.search.judging import Pattern, PatternJudge
from optimizer.search.objectives import LatencyObjective
from scenarios import Deadline
from twin import GPUVerdict

REJECTED = 1e6
"""Latency in ms of a GPU that is rejected and just misses; what misses by more has more."""


@dataclass(frozen=True)
class Rating:
    """What a plan's value needs of one GPU.

    Parameters
    ----------
    latency
        In ms, or a share of the GPU; above `REJECTED` where the twin rejects it.
    weight
        Tokens per second that it serves.
    """

    latency: float
    weight: float

    @property
    def accepted(self) -> bool:
        """Whether the twin accepts the GPU."""
        return self.latency < REJECTED


def value_of(ratings: Sequence[Rating], *, worst: bool) -> float:
    """Value of a plan: of its worst GPU, or the mean weighted by what each GPU serves."""
    if worst:
        return max(rating.latency for rating in ratings)
    total = sum(rating.weight for rating in ratings)
    return sum(rating.latency * rating.weight for rating in ratings) / max(total, 1e-300)


@dataclass
class Screening:
    """Rates GPUs, each distinct one once.

    Parameters
    ----------
    judge
        The twin, with short runs.
    objective
        What is to be rated.
    problem
        Whose bins are rated.

    Attributes
    ----------
    requests
        Requests simulated so far, on average.
    refused
        GPUs that the whole rule rejects though a short run does not.
    """

    judge: PatternJudge
    objective: LatencyObjective
    problem: PackingProblem
    requests: float = 0.0
    refused: dict[Pattern, GPUVerdict] = field(default_factory=dict)
    _known: dict[Pattern, Rating] = field(default_factory=dict, repr=False)

    def knows(self, b: Bin) -> bool:
        """Whether a bin was rated before."""
        return pattern_of(self.problem, b) in self._known

    def rate(self, bins: Sequence[Bin], deadline: Deadline) -> tuple[Rating, ...]:
        """Rating of each bin, in order.

        Raises
        ------
        Stopped
            If the deadline passes, or the work is interrupted, before there are all.
        """
        patterns = [pattern_of(self.problem, b) for b in bins]
        new = {p: b for p, b in zip(patterns, bins, strict=True) if p not in self._known}
        for (pattern, b), verdict in zip(new.items(), self.judge(list(new), deadline), strict=True):
            self.requests += self.judge.requests(pattern)
            self._known[pattern] = self._rating(b, verdict)
        return tuple(self._rated(pattern) for pattern in patterns)

    def refuse(self, bins: Sequence[Bin], verdicts: Sequence[GPUVerdict]) -> None:
        """Remember which bins the whole rule rejects."""
        for b, verdict in zip(bins, verdicts, strict=True):
            pattern = pattern_of(self.problem, b)
            if not verdict.accepted:
                self.refused[pattern] = verdict

    def _rated(self, pattern: Pattern) -> Rating:
        verdict, rating = self.refused.get(pattern), self._known[pattern]
        return rating if verdict is None else Rating(_missed(verdict), rating.weight)

    def _rating(self, b: Bin, verdict: GPUVerdict) -> Rating:
        weight = verdict.served_tok_per_s
        if not verdict.accepted:
            return Rating(_missed(verdict), verdict.offered_tok_per_s)
        figure = self.objective.figure
        if figure is None:
            return Rating(fill(self.problem, b), weight)
        measured = getattr(verdict, figure)
        return Rating(REJECTED if measured is None else min(measured, 0.99 * REJECTED), weight)


def _missed(verdict: GPUVerdict) -> float:
    """What stands for the latency of a rejected GPU: the more, the farther it is from being accepted."""
    margin = verdict.signed_margin
    return REJECTED * (1.0 + (min(-margin, 10.0) if math.isfinite(margin) else 10.0))
