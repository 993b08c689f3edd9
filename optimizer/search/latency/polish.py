"""A search over plans that asks the twin itself: whole plans that look better, then exchanges one by one.

Estimates say which plans and changes are asked about; the twin's short runs, on the same seeds for all, say
which are taken.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field

import numpy as np

from optimizer.packing.model.problem import Bin, FloatArray, PackingProblem
from optimizer.search.cut_loop import pattern_of
from optimizer.search.latency.changes import Change, Proposer, within_limits
from optimizer.search.latency.estimates import LatencyCurve, Measures
from optimizer.search.latency.imagined import imagined
from optimizer.search.latency.screening import Rating, Screening, value_of
from optimizer.search.params import PolishParams
from scenarios import Deadline, Stopped
from scenarios.stopping.progress import Progress, silent

LEAST_GAIN = 2e-3
"""Relative improvement below which a change is none: short runs tell no less."""


POLISHING = "a quicker plan is looked for"
"""What is being done, for progress."""


@dataclass(frozen=True)
class Candidate:
    """A plan with what the twin's short runs say of its GPUs.

    Parameters
    ----------
    bins, ratings
        The GPUs and their ratings.
    value
        Of the objective.
    origin
        Where it comes from, for people.
    """

    bins: tuple[Bin, ...]
    ratings: tuple[Rating, ...]
    value: float
    origin: str = ""

    @property
    def accepted(self) -> bool:
        """Whether the twin rejects none of the GPUs, as far as is known."""
        return all(rating.accepted for rating in self.ratings)


@dataclass
class Polisher:
    """Improves plans, as long as its budget lasts.

    Parameters
    ----------
    screening
        Rates GPUs.
    problem
        Its limits are kept; its rows say how full GPUs are, no more.
    params
        How long, and how broadly.
    weights
        Tokens per second of an item of each class, shape (n_classes,).
    seed
        Of everything random.
    deadline
        When to stop.
    progress
        Called with progress, in millions of requests of the budget.
    """

    screening: Screening
    problem: PackingProblem
    params: PolishParams
    weights: FloatArray
    seed: int
    deadline: Deadline
    progress: Progress = silent
    proposer: Proposer = field(init=False)

    def __post_init__(self) -> None:
        curve, draw = LatencyCurve(Measures.of(self.problem)), np.random.default_rng(self.seed)
        worst = self.screening.objective.worst
        self.proposer = Proposer(self.problem, curve, self.weights, worst, self.params, draw)

    @property
    def spent(self) -> bool:
        """Whether the budget or the time is used up."""
        return self.screening.requests >= self.params.requests or self.deadline.reached

    def rated(self, bins: Sequence[Bin], origin: str = "") -> Candidate:
        """A plan as a candidate.

        Raises
        ------
        Stopped
            If the time is over, or the work is interrupted, before all GPUs are rated.
        """
        fresh = {pattern_of(self.problem, b): b for b in bins if not self.screening.knows(b)}
        ratings = self.screening.rate(bins, self.deadline)
        spent, budget = (round(n / 1e6) for n in (self.screening.requests, self.params.requests))
        self.progress(POLISHING, min(spent, budget), budget)
        known = {pattern_of(self.problem, b): r for b, r in zip(bins, ratings, strict=True)}
        for pattern, b in fresh.items():
            self.proposer.curve.hear(b.option, b.counts, known[pattern])
        return Candidate(tuple(bins), ratings, value_of(ratings, worst=self.proposer.worst), origin)

    def polished(self, candidate: Candidate) -> Candidate:
        """The best plan that is found near a candidate; itself where there is no better one."""
        best, idle = candidate, 0
        if len(best.bins) < 2:
            return self._descended(best)
        try:
            while not self.spent and idle < self.params.idle_plans:
                found = self.rated(imagined(self.proposer, best.bins), best.origin)
                better = found.value < best.value * (1 - LEAST_GAIN)
                best, idle = (found, 0) if better else (best, idle + 1)
        except Stopped:
            return best
        return self._descended(best)

    def _descended(self, candidate: Candidate) -> Candidate:
        """A plan that no change looked at improves."""
        idle = 0
        while not self.spent and idle < self.params.idle_changes:
            changes = self._changes(candidate)
            if not changes:
                return candidate
            try:
                improved = self._improved(candidate, changes)
            except Stopped:
                return candidate
            idle = idle + len(changes) if improved is candidate else 0
            candidate = improved
        return candidate

    def _changes(self, candidate: Candidate) -> list[Change]:
        """The changes that are worth asking about next, the best by estimate first."""
        found, bins, ratings = list[Change](), candidate.bins, candidate.ratings
        for a in self.proposer.sources(ratings):
            found += self.proposer.ways_to_run(bins, ratings, a)
            for b in self.proposer.partners(bins, a, max(1, self.params.pairs // self.params.sources)):
                found += self.proposer.exchanges(
                    bins, ratings, (a, b), self._unknown, self.params.changes_per_pair
                )
        found = [change for change in found if any(map(self._unknown, change.bins.values()))]
        found.sort(key=lambda change: -change.gain)
        return found[: self.params.changes_at_once]

    def _unknown(self, b: Bin) -> bool:
        return not self.screening.knows(b)

    def _improved(self, candidate: Candidate, changes: Sequence[Change]) -> Candidate:
        """The candidate with those changes that help, of GPUs that no better change concerns."""
        changed = [b for change in changes for b in change.bins.values()]
        ratings = iter(self.rated(changed).ratings)
        gains = [
            self._gain([candidate.ratings[g] for g in change.bins], [next(ratings) for _ in change.bins])
            for change in changes
        ]
        bins, touched = list(candidate.bins), set[int]()
        for k in np.argsort(gains, kind="stable")[::-1]:
            own = changes[k].bins
            if gains[k] <= 0 or touched & own.keys():
                continue
            into = [own.get(g, b) for g, b in enumerate(bins)]
            if within_limits(self.problem, into):
                bins, touched = into, touched | own.keys()
        return self.rated(bins, candidate.origin) if touched else candidate

    def _gain(self, before: Sequence[Rating], after: Sequence[Rating]) -> float:
        """By how much some GPUs get better; 0 or less where that is not worth it."""
        if self.screening.objective.worst:
            first, second = (max(rating.latency for rating in rated) for rated in (before, after))
        else:
            first, second = (sum(r.latency * r.weight for r in rated) for rated in (before, after))
        return first - second if first - second > LEAST_GAIN * first else 0.0
