"""Changes of a plan that are estimated to make it better: exchanges between GPUs, other ways to run one."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np

from optimizer.packing.model.options import BinLimits
from optimizer.packing.model.problem import Bin, FloatArray, IntArray, PackingProblem
from optimizer.search.cut_loop import pattern_of
from optimizer.search.latency.estimates import LatencyCurve
from optimizer.search.latency.moves import exchanges
from optimizer.search.latency.screening import Rating
from optimizer.search.params import PolishParams


@dataclass(frozen=True)
class Change:
    """What one or two GPUs become.

    Parameters
    ----------
    bins
        By index in the plan.
    gain
        By how much the objective is estimated to improve, as far as these GPUs have a part in it.
    """

    bins: dict[int, Bin]
    gain: float


@dataclass
class Proposer:
    """Estimates changes of plans.

    Parameters
    ----------
    problem
        Its limits are kept; its rows say how full GPUs are, no more.
    curve
        Estimates latencies.
    weights
        Tokens per second of an item of each class, shape (n_classes,).
    worst
        Whether the worst GPU counts, or the mean weighted by what each serves.
    params
        How broadly to look.
    draw
        Source of everything random.
    """

    problem: PackingProblem
    curve: LatencyCurve
    weights: FloatArray
    worst: bool
    params: PolishParams
    draw: np.random.Generator

    def sources(self, ratings: Sequence[Rating]) -> list[int]:
        """The GPUs that should get better: the worst, or some of all."""
        latency = np.array([rating.latency for rating in ratings])
        if not self.worst:
            return [int(g) for g in self.draw.permutation(len(latency))[: self.params.sources]]
        order = np.argsort(-latency, kind="stable")
        near = latency[order] >= latency.max() * (1 - self.params.worst_share)
        return [int(g) for g in order[near][: self.params.sources]]

    def partners(self, bins: Sequence[Bin], source: int, most: int) -> list[int]:
        """GPUs with which one may exchange items, drawn at random where there are more."""
        others = [g for g in range(len(bins)) if g != source]
        return [int(g) for g in self.draw.permutation(others)[:most]]

    def ways_to_run(self, bins: Sequence[Bin], ratings: Sequence[Rating], g: int) -> list[Change]:
        """Other ways to run a GPU with what it holds, the fastest by estimate first."""
        own, rating = bins[g], ratings[g]
        estimate = self._estimates(own.counts)
        changes, engines = list[Change](), {pattern_of(self.problem, own).option}
        for o in np.argsort(estimate, kind="stable"):
            if len(changes) >= self.params.engines or not np.isfinite(estimate[o]):
                break
            changed = Bin(int(o), own.counts)
            engine = pattern_of(self.problem, changed).option
            if engine not in engines:
                engines.add(engine)
                after = _shifted(rating, float(estimate[o] - estimate[own.option]))
                gain = float((self._merit(*_arrays([rating])) - self._merit(*_arrays([after])))[0])
                changes.append(Change({g: changed}, gain))
        return changes

    def exchanges(
        self,
        bins: Sequence[Bin],
        ratings: Sequence[Rating],
        pair: tuple[int, int],
        wanted: Callable[[Bin], bool] = lambda _: True,
        most: int = 1,
    ) -> list[Change]:
        """The exchanges between two GPUs that promise most, of those that make one as it is wanted."""
        a, b = pair
        found = exchanges(bins[a].counts, bins[b].counts, self.params.exchanges_per_pair, self.draw)
        if not len(found):
            return []
        moved, gained = found.change(self.curve.measures.per_item), found.change(self.weights)
        options, latency, weight = [], [], []
        for g, sign in zip(pair, (-1, 1), strict=True):
            sums = self.curve.measures(bins[g].counts)
            estimate = self.curve(sums + sign * moved)
            base = float(self.curve(sums[None, :])[0, bins[g].option])
            options.append(estimate.argmin(axis=1))
            latency.append(ratings[g].latency * np.exp(np.clip(estimate.min(axis=1) - base, -5.0, 50.0)))
            weight.append(np.maximum(ratings[g].weight + sign * gained, 0.0))
        expected = np.stack(latency), np.stack(weight)
        gains = self._merit(*_arrays([ratings[a], ratings[b]])) - self._merit(*expected)
        changes, n_classes = list[Change](), self.problem.n_classes
        for k in np.argsort(-gains, kind="stable"):
            if len(changes) >= most:
                break
            counts = found.moved(int(k), n_classes)
            into = {a: Bin(int(options[0][k]), bins[a].counts - counts)}
            into[b] = Bin(int(options[1][k]), bins[b].counts + counts)
            if any(wanted(one) for one in into.values()):
                changes.append(Change(into, float(gains[k])))
        return changes

    def kicks(self, bins: Sequence[Bin], source: int) -> list[Bin]:
        """A few random exchanges, from GPU to GPU."""
        found, a = list(bins), source
        for _ in range(self.params.kick_exchanges):
            b = self.partners(found, a, 1)[0]
            possible = exchanges(found[a].counts, found[b].counts, 1, self.draw)
            if not len(possible):
                continue
            moved, changed = possible.moved(0, self.problem.n_classes), list(found)
            for g, counts in ((a, found[a].counts - moved), (b, found[b].counts + moved)):
                changed[g] = Bin(int(self._estimates(counts).argmin()), counts)
            if within_limits(self.problem, changed):
                found, a = changed, b
        return found

    def expected(self, b: Bin) -> Rating:
        """What is expected of a bin by the curve alone."""
        estimate = float(self._estimates(b.counts)[b.option])
        return Rating(float(np.exp(min(estimate, 50.0))), float(b.counts @ self.weights))

    def _estimates(self, counts: IntArray) -> FloatArray:
        """Estimated ln(latency) of a content under every option."""
        return np.asarray(self.curve(self.curve.measures(counts)[None, :])[0])

    def _merit(self, latency: FloatArray, weight: FloatArray) -> FloatArray:
        """What GPUs add to the objective: the worst of them, or the sum over what they serve."""
        return np.asarray(latency.max(axis=0) if self.worst else (latency * weight).sum(axis=0))


def _shifted(rating: Rating, shift: float) -> Rating:
    """A rating whose estimate of ln(latency) changes."""
    return Rating(rating.latency * float(np.exp(np.clip(shift, -5.0, 50.0))), rating.weight)


def _arrays(ratings: Sequence[Rating]) -> tuple[FloatArray, FloatArray]:
    """Latencies and weights, shapes (n, 1)."""
    return np.array([[r.latency] for r in ratings]), np.array([[r.weight] for r in ratings])


def within_limits(problem: PackingProblem, bins: Sequence[Bin]) -> bool:
    """Whether so many bins of these options are allowed, each may hold its items, and the price is met."""
    limits = BinLimits(problem)
    for b in bins:
        if limits.available(b.option) < 1 or not problem.options[b.option].holds_strictly(b.counts):
            return False
        limits.take(b.option)
    price = sum(problem.options[b.option].price for b in bins)
    return problem.budget is None or price <= problem.budget * (1 + 1e-9)
