"""How far the load of a GPU may grow, or must shrink, until the twin's verdict changes.

All rates of a content are scaled by one factor, and the twin is asked again: outwards in doubled steps until
both verdicts are known, then between them. Where the margins of both are known they say where to ask next
(false position, in the logarithm of the load), kept away from the ends of the interval as in the method of
Dekker and Brent (Brent, Algorithms for Minimization without Derivatives, 1973).
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, replace

from optimizer.search.judging import Pattern, PatternJudge, margin_of
from optimizer.search.params import TeachingParams
from scenarios import Deadline
from twin import GPUVerdict


@dataclass(frozen=True)
class Growth:
    """Where the twin's verdict on a content changes.

    Parameters
    ----------
    log
        Logarithm of the factor on the load at which it changes; negative where the content is rejected.
    error
        Half of the interval in which it lies.
    """

    log: float
    error: float


@dataclass
class _Ray:
    """One content at several loads."""

    pattern: Pattern
    accepted_at: float = -math.inf
    rejected_at: float = math.inf
    accepted_margin: float = math.nan
    rejected_margin: float = math.nan
    step: float = 0.0

    def hear(self, at: float, verdict: GPUVerdict) -> None:
        """Take in a verdict at the logarithm of a load."""
        if verdict.accepted:
            self.accepted_at, self.accepted_margin = at, margin_of(verdict)
        else:
            self.rejected_at, self.rejected_margin = at, margin_of(verdict)

    @property
    def width(self) -> float:
        return self.rejected_at - self.accepted_at

    def next(self, params: TeachingParams) -> float:
        """Logarithm of the load to ask about."""
        if math.isfinite(self.width):
            return self._between(params)
        rejected = math.isinf(self.accepted_at)
        margin = self.rejected_margin if rejected else self.accepted_margin
        told = abs(margin) + params.tolerance / 2 if math.isfinite(margin) else 0.0
        least = self.step or params.first_step
        self.step = min(max(told, least), 2 * self.step or params.longest_first_step)
        return self.rejected_at - self.step if rejected else self.accepted_at + self.step

    def _between(self, params: TeachingParams) -> float:
        low, high = self.accepted_margin, -self.rejected_margin
        share = low / (low + high) if low > 0 and high > 0 and math.isfinite(low + high) else 0.5
        share = min(max(share, params.end_share), 1 - params.end_share)
        return self.accepted_at + share * self.width

    def done(self, params: TeachingParams) -> bool:
        if not math.isfinite(self.width):
            return False
        middle = (self.accepted_at + self.rejected_at) / 2
        return self.width <= max(params.tolerance, params.relative_tolerance * abs(middle))


def growths(
    judge: PatternJudge,
    patterns: Sequence[Pattern],
    verdicts: Sequence[GPUVerdict],
    params: TeachingParams,
    deadline: Deadline,
) -> list[Growth | None]:
    """Where the verdict on each content changes; None where it did not within the questions allowed.

    Parameters
    ----------
    judge
        The twin.
    patterns, verdicts
        Contents, and the twin's verdict on each.
    params
        How finely, and how often the twin may be asked.
    deadline
        When to stop.

    Raises
    ------
    Stopped
        If the deadline passes, or the work is interrupted, before there are all.
    """
    rays = [_Ray(pattern) for pattern in patterns]
    for ray, verdict in zip(rays, verdicts, strict=True):
        ray.hear(0.0, verdict)
    for _ in range(params.max_questions):
        asked = [ray for ray in rays if not ray.done(params)]
        if not asked:
            break
        loads = [ray.next(params) for ray in asked]
        scaled = [replace(r.pattern, load=math.exp(at)) for r, at in zip(asked, loads, strict=True)]
        for ray, at, verdict in zip(asked, loads, judge(scaled, deadline), strict=True):
            ray.hear(at, verdict)
    return [_growth(ray) for ray in rays]


def _growth(ray: _Ray) -> Growth | None:
    if not math.isfinite(ray.width):
        return None
    return Growth((ray.accepted_at + ray.rejected_at) / 2, ray.width / 2)
