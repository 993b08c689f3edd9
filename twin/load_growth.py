"""How far the load of a GPU may grow, or must shrink, until the twin's verdict changes.

All rates of a content are scaled by one factor, and the twin is asked again: outwards in growing steps until
both verdicts are known, then between them. Where the margins of both are known they say where to ask next
(false position, in the logarithm of the load), kept away from the ends of the interval as in the method of
Dekker and Brent (Brent, Algorithms for Minimization without Derivatives, 1973).
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Protocol

from twin.verdict import GPUVerdict

LONGEST_STEP = math.log(2.0)
"""Longest step in ln(load): twice the load of a full GPU has twice its requests, which are all drawn."""

Ask = Callable[[Sequence[tuple[int, float]]], Sequence[GPUVerdict]]
"""Verdicts on contents, each given by its number, at a factor on its load."""


class Steps(Protocol):
    """How finely, and how often the twin may be asked; lengths are in ln(load).

    Parameters
    ----------
    tolerance, relative_tolerance
        Width of the interval in which the change is to be known, and the same as a share of its distance.
    first_step, longest_first_step
        Shortest and longest first step; the margin of the verdict says how long it is.
    end_share
        Share of an interval by which a question keeps away from its ends.
    max_questions
        Most questions about one content.
    """

    @property
    def tolerance(self) -> float: ...
    @property
    def relative_tolerance(self) -> float: ...
    @property
    def first_step(self) -> float: ...
    @property
    def longest_first_step(self) -> float: ...
    @property
    def end_share(self) -> float: ...
    @property
    def max_questions(self) -> int: ...


@dataclass(frozen=True)
class FineSteps:
    """Steps that find the change to 1 %, however far it is."""

    tolerance: float = 0.01
    relative_tolerance: float = 0.0
    first_step: float = 0.02
    longest_first_step: float = 0.2
    end_share: float = 0.2
    max_questions: int = 32


@dataclass(frozen=True)
class LoadGrowth:
    """Where the twin's verdict on a content changes.

    Parameters
    ----------
    log
        Logarithm of the factor on the load at which it changes; negative where the content is rejected.
    error
        Half of the interval in which it lies; at its lower end the content is accepted, at its upper not.
    """

    log: float
    error: float

    @property
    def accepted_factor(self) -> float:
        """Largest factor on the load at which the content is known to be accepted."""
        return math.exp(self.log - self.error)


@dataclass
class _Ray:
    """One content at several loads."""

    accepted_at: float = -math.inf
    rejected_at: float = math.inf
    accepted_margin: float = math.nan
    rejected_margin: float = math.nan
    step: float = 0.0

    def hear(self, at: float, verdict: GPUVerdict) -> None:
        """Take in a verdict at the logarithm of a load."""
        if verdict.accepted:
            self.accepted_at, self.accepted_margin = at, verdict.signed_margin
        else:
            self.rejected_at, self.rejected_margin = at, verdict.signed_margin

    @property
    def width(self) -> float:
        return self.rejected_at - self.accepted_at

    def next(self, steps: Steps) -> float:
        """Logarithm of the load to ask about."""
        if math.isfinite(self.width):
            return self._between(steps)
        rejected = math.isinf(self.accepted_at)
        margin = self.rejected_margin if rejected else self.accepted_margin
        told = abs(margin) + steps.tolerance / 2 if math.isfinite(margin) else 0.0
        longest = min(2 * self.step, LONGEST_STEP) or steps.longest_first_step
        self.step = min(max(told, self.step or steps.first_step), longest)
        return self.rejected_at - self.step if rejected else self.accepted_at + self.step

    def _between(self, steps: Steps) -> float:
        low, high = self.accepted_margin, -self.rejected_margin
        share = low / (low + high) if low > 0 and high > 0 and math.isfinite(low + high) else 0.5
        share = min(max(share, steps.end_share), 1 - steps.end_share)
        return self.accepted_at + share * self.width

    def done(self, steps: Steps) -> bool:
        if not math.isfinite(self.width):
            return False
        middle = (self.accepted_at + self.rejected_at) / 2
        return self.width <= max(steps.tolerance, steps.relative_tolerance * abs(middle))

    @property
    def growth(self) -> LoadGrowth | None:
        if not math.isfinite(self.width):
            return None
        return LoadGrowth((self.accepted_at + self.rejected_at) / 2, self.width / 2)


def load_growths(verdicts: Sequence[GPUVerdict], ask: Ask, steps: Steps) -> list[LoadGrowth | None]:
    """Where the verdict on each content changes; None where it did not within the questions allowed.

    More load is taken never to be better.

    Parameters
    ----------
    verdicts
        The twin's verdict on each content as it is.
    ask
        Asks the twin about several contents at once; what it raises is not caught.
    steps
        How finely, and how often.
    """
    rays = [_Ray() for _ in verdicts]
    for ray, verdict in zip(rays, verdicts, strict=True):
        ray.hear(0.0, verdict)
    for _ in range(steps.max_questions):
        asked = [(k, ray.next(steps)) for k, ray in enumerate(rays) if not ray.done(steps)]
        if not asked:
            break
        for (k, at), verdict in zip(asked, ask([(k, math.exp(at)) for k, at in asked]), strict=True):
            rays[k].hear(at, verdict)
    return [ray.growth for ray in rays]
