"""What the twin teaches of adapters in groups: how far GPUs are from their boundary, and rows to match.

A few GPUs of a plan are judged at several loads, until it is known how far their load may grow. That says
what a margin of a verdict means in load, so from then on every verdict is a measurement: the growth by its
margin is a monotone regression (Barlow et al., Statistical Inference under Order Restrictions, 1972) on all
that was asked. Those measurements correct the rows of groups as lessons do (`optimizer.search.corrections`).
"""

from __future__ import annotations

import math
from collections import defaultdict
from collections.abc import Sequence
from dataclasses import dataclass, field, replace

import numpy as np
from scipy.optimize import isotonic_regression

from optimizer.packing.model.problem import FloatArray, PackingProblem
from optimizer.search.corrections import Corrections, Lesson
from optimizer.search.cut_loop import CutLoop
from optimizer.search.judging import Pattern
from optimizer.search.params import GroupingParams
from scenarios import Deadline, Stopped
from twin import GPUVerdict, LoadGrowth, load_growths


@dataclass(frozen=True, eq=False)
class MarginScale:
    """How far a load may grow, or must shrink, by the margin of the verdict on it.

    Parameters
    ----------
    margins
        Signed margins of verdicts, ascending.
    logs
        Logarithm of the growth at each of them, not falling.
    errors
        How far off that is, as the neighbours show.
    """

    margins: FloatArray
    logs: FloatArray
    errors: FloatArray

    @classmethod
    def of(cls, seen: Sequence[tuple[float, float]], params: GroupingParams) -> MarginScale | None:
        """From margins and the growth at each; None from too few."""
        near = sorted((m, g) for m, g in seen if math.isfinite(m) and abs(g) <= params.farthest_growth)
        if len(near) < params.least_observations:
            return None
        margins, logs = np.array(near).T
        fitted = np.asarray(isotonic_regression(logs).x)
        window = np.ones(params.least_observations)
        number = np.convolve(np.ones(len(fitted)), window, "same")
        errors = np.sqrt(np.convolve((logs - fitted) ** 2, window, "same") / number)
        return cls(margins, fitted, errors)

    def growth(self, verdict: GPUVerdict) -> LoadGrowth:
        """The growth of a judged GPU: at the ends of the scale no further than was seen."""
        margin = verdict.signed_margin
        log, error = (float(np.interp(margin, self.margins, x)) for x in (self.logs, self.errors))
        return LoadGrowth(max(log, 0.0) if verdict.accepted else min(log, 0.0), error)


@dataclass
class Teacher:
    """Asks the twin about some GPUs, and says of others what follows from that.

    Parameters
    ----------
    loop
        Asks the twin.
    corrections
        How lessons change the rows of groups.
    params
        How many are asked, and what is taken from the answers.
    """

    loop: CutLoop
    corrections: Corrections
    params: GroupingParams
    _seen: dict[str, list[tuple[float, float]]] = field(default_factory=lambda: defaultdict(list))
    _lessons: dict[Pattern, Lesson] = field(default_factory=dict)

    def ask(self, patterns: Sequence[Pattern], verdicts: Sequence[GPUVerdict], deadline: Deadline) -> bool:
        """Learn how far the load of some of the judged GPUs may grow; whether the time sufficed."""
        known = dict(zip(patterns, verdicts, strict=True))
        asked = all_sorts([p for p, v in known.items() if v.memory_failure is None], self.params.asked)
        heard = [(k, 0.0, known[pattern]) for k, pattern in enumerate(asked)]

        def answers(questions: Sequence[tuple[int, float]]) -> list[GPUVerdict]:
            scaled = [replace(asked[k], load=factor) for k, factor in questions]
            verdicts = self.loop.judge(scaled, deadline)
            told = zip(questions, verdicts, strict=True)
            heard.extend((k, math.log(factor), verdict) for (k, factor), verdict in told)
            return verdicts

        try:
            found = load_growths([known[p] for p in asked], answers, self.loop.teaching)
        except Stopped:
            return False
        for k, at, verdict in heard:
            growth = found[k]
            if growth is not None:
                self._seen[asked[k].regime].append((verdict.signed_margin, growth.log - at))
        for pattern, growth in zip(asked, found, strict=True):
            if growth is not None:
                self._remember(pattern, growth)
        return True

    def hear(self, patterns: Sequence[Pattern], verdicts: Sequence[GPUVerdict]) -> None:
        """Learn from verdicts what their margins tell."""
        known = dict(zip(patterns, self.growths(patterns, verdicts), strict=True))
        told = {p: g for p, g in known.items() if g is not None and g.error <= self.params.largest_error}
        for pattern in all_sorts(list(told), self.params.heard):
            if _key(pattern) not in self._lessons:
                self._remember(pattern, told[pattern])

    def growths(self, patterns: Sequence[Pattern], verdicts: Sequence[GPUVerdict]) -> list[LoadGrowth | None]:
        """How far the load of each judged GPU may grow by the margin of its verdict; None: not known."""
        scales = {regime: MarginScale.of(seen, self.params) for regime, seen in self._seen.items()}
        found = []
        for pattern, verdict in zip(patterns, verdicts, strict=True):
            scale = scales.get(pattern.regime)
            found.append(None if scale is None or verdict.memory_failure else scale.growth(verdict))
        return found

    def likely(self, problem: PackingProblem, caution: float = 0.0) -> PackingProblem:
        """A problem on the inner rows of groups with these as they are most likely, or narrower with caution.

        Caution is in standard deviations of what is uncertain. Before a lesson nothing is changed.
        """
        if not self._lessons:
            return problem
        return self.corrections.problem(problem, list(self._lessons.values()), -caution)

    def _remember(self, pattern: Pattern, growth: LoadGrowth) -> None:
        """Keep a lesson, and no more than so many; rows of groups do not know which adapters it was about."""
        self._lessons[_key(pattern)] = Lesson(_key(pattern), growth)
        for oldest in list(self._lessons)[: -self.params.lessons]:
            del self._lessons[oldest]


def _key(pattern: Pattern) -> Pattern:
    return replace(pattern, items=())


def all_sorts(patterns: Sequence[Pattern], number: int) -> list[Pattern]:
    """At most so many GPUs, of all regimes, ranks and sizes that there are."""
    order = sorted(patterns, key=lambda p: (p.regime, *_engine(p)))
    places = np.linspace(0, len(order) - 1, min(number, len(order))).round().astype(int)
    return [order[k] for k in places]


def _engine(pattern: Pattern) -> tuple[int, int]:
    return pattern.option.max_lora_rank, pattern.option.max_loras
