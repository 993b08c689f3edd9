"""Whole plans that are better by estimate: the twin sees the outcome, and what it says corrects the curve."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from optimizer.packing.model.problem import Bin
from optimizer.search.latency.changes import Proposer, within_limits
from optimizer.search.latency.screening import Rating, value_of


@dataclass
class ImaginedPlan:
    """A plan whose latencies are estimates.

    Parameters
    ----------
    bins, ratings
        The GPUs and what is expected of them.
    """

    bins: list[Bin]
    ratings: list[Rating]


def imagined(proposer: Proposer, bins: Sequence[Bin]) -> list[Bin]:
    """The plan that is best by estimate, of those that exchanges from a plan lead to.

    Where no exchange helps, some are made at random, and the search goes on from there.
    """
    params = proposer.params
    best = _descended(proposer, ImaginedPlan(list(bins), [proposer.expected(b) for b in bins]))
    for _ in range(params.imagined_kicks):
        kicked = proposer.kicks(best.bins, proposer.sources(best.ratings)[0])
        found = _descended(proposer, ImaginedPlan(kicked, [proposer.expected(b) for b in kicked]))
        if _value(proposer, found) < _value(proposer, best):
            best = found
    return best.bins


def _value(proposer: Proposer, plan: ImaginedPlan) -> float:
    return value_of(plan.ratings, worst=proposer.worst)


def _descended(proposer: Proposer, plan: ImaginedPlan) -> ImaginedPlan:
    """The plan after exchanges that help, as long as one is found."""
    for _ in range(proposer.params.imagined_exchanges):
        source = proposer.sources(plan.ratings)[0]
        partners = proposer.partners(plan.bins, source, proposer.params.imagined_partners)
        changes = [
            change
            for partner in partners
            for change in proposer.exchanges(plan.bins, plan.ratings, (source, partner))
            if change.gain > 0
        ]
        changed = next(
            (
                into
                for change in sorted(changes, key=lambda change: -change.gain)
                if within_limits(proposer.problem, into := _after(plan.bins, change.bins))
            ),
            None,
        )
        if changed is None:
            return plan
        plan = ImaginedPlan(
            changed,
            [
                rating if old is new else proposer.expected(new)
                for old, new, rating in zip(plan.bins, changed, plan.ratings, strict=True)
            ],
        )
    return plan


def _after(bins: Sequence[Bin], changed: dict[int, Bin]) -> list[Bin]:
    return [changed.get(g, b) for g, b in enumerate(bins)]
