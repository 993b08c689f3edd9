"""Plans in single classes of identical adapters, also where placers see groups of those only alike."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np

from optimizer.packing.model.problem import Bin, FloatArray, Packing, PackingProblem
from optimizer.search.grouping.groups import Groups
from optimizer.search.judging import PatternJudge
from optimizer.search.minimize_gpus import Search


@dataclass(frozen=True, eq=False)
class Detail:
    """A problem whose classes are of identical adapters.

    Parameters
    ----------
    problem
        The problem, with the limits of the one that placers see.
    judge
        The twin as judge of its patterns.
    weights
        Tokens per second of an item of each class, shape (n_classes,).
    groups
        The groups that placers see; None where they see these classes.
    """

    problem: PackingProblem
    judge: PatternJudge
    weights: FloatArray
    groups: Groups | None = None

    @classmethod
    def of(cls, search: Search, inner: PackingProblem) -> Detail:
        """Of the inner region's problem as placers see it."""
        instance, judge = search.instance, search.loop.judge
        if instance.groups is None or instance.served is None:
            weights = [one.tokens_per_s for one in instance.classes] or [1.0] * inner.n_classes
            return cls(inner, judge, np.array(weights))
        served, prices = instance.served, {option.key: option.price for option in inner.options}
        options = (served.option(*one) for one in served.rows("inner"))
        problem = served.problem(served.classes, (replace(o, price=prices[o.key]) for o in options), None)
        limited = replace(
            problem, max_bins=inner.max_bins, budget=inner.budget, device_limits=inner.device_limits
        )
        single = replace(judge, kinds=tuple(one.kind for one in served.classes), kind_of_item=None)
        return cls(limited, single, np.array([one.tokens_per_s for one in served.classes]), instance.groups)

    def bins(self, packing: Packing) -> tuple[Bin, ...]:
        """The bins of a packing that placers made."""
        if self.groups is None:
            return packing.bins
        of, number = self.groups.class_of, self.problem.n_classes
        return tuple(Bin(b.option, np.bincount(of[list(b.items)], minlength=number)) for b in packing.bins)

    def packing(self, bins: Sequence[Bin]) -> Packing:
        """The packing as placers see it."""
        if self.groups is None:
            return Packing(tuple(bins))
        free = np.concatenate([[0], np.cumsum(self.groups.counts)])[:-1]  # next item of each class
        found = []
        for b in bins:
            items = [int(free[c]) + k for c in np.flatnonzero(b.counts) for k in range(int(b.counts[c]))]
            free = free + b.counts
            counts = np.bincount(self.groups.of_item[items], minlength=self.groups.number)
            found.append(Bin(b.option, counts, tuple(items)))
        return Packing(tuple(found))
