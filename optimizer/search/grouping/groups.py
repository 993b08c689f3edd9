"""Adapters that all differ, in groups of near ones, so that placers see a few hundred classes.

An item of a grouped problem is any member of its group. The inner problem counts it by what the members take
on average, the outer one by what none of them is below. Which member goes where is dealt afterwards, by what
each of them takes itself (`optimizer.search.grouping.dealing`), and the twin judges the members.
"""

from __future__ import annotations

import heapq
from collections.abc import Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from itertools import count

import numpy as np
from numpy.typing import NDArray

from optimizer.packing.model.problem import FloatArray, IntArray, PackingOption
from scenarios import AdapterClass


@dataclass(frozen=True, eq=False)
class Groups:
    """The group of each class of identical adapters.

    Items are numbered class by class, in the order of the classes.

    Parameters
    ----------
    of_class
        Group of each class, from 0 up without a gap, shape (n_classes,).
    counts
        Items of each class, shape (n_classes,).
    """

    of_class: IntArray
    counts: IntArray

    @cached_property
    def number(self) -> int:
        """How many groups there are."""
        return int(self.of_class.max()) + 1

    @cached_property
    def class_of(self) -> IntArray:
        """Class of each item, shape (n_items,)."""
        return np.repeat(np.arange(len(self.counts)), self.counts)

    @cached_property
    def of_item(self) -> IntArray:
        """Group of each item, shape (n_items,)."""
        return np.asarray(self.of_class[self.class_of])

    @cached_property
    def _order(self) -> tuple[IntArray, IntArray]:
        """The classes by group, and where each group begins."""
        order = np.argsort(self.of_class, kind="stable")
        return order, np.searchsorted(self.of_class[order], np.arange(self.number))

    def mean(self, figures: FloatArray) -> FloatArray:
        """What items have on average in each group; figures by class, shape (m, n_classes)."""
        order, starts = self._order
        sums = np.add.reduceat((figures * self.counts)[:, order], starts, axis=1)
        return np.asarray(sums / np.add.reduceat(self.counts[order], starts))

    def averaged(self, option: PackingOption) -> PackingOption:
        """An option of all classes as one of groups, each taking what its items take on average."""
        return self._option(option, self.mean(option.usage))

    def least(self, option: PackingOption) -> PackingOption:
        """An option of all classes as one of groups, each taking what none of its items is below."""
        order, starts = self._order
        return self._option(option, np.minimum.reduceat(option.usage[:, order], starts, axis=1))

    def _option(self, option: PackingOption, usage: FloatArray) -> PackingOption:
        order, starts = self._order
        latency = None if option.latency_usage is None else self.mean(option.latency_usage)
        allowed = np.logical_and.reduceat(option.fits_class[order], starts)
        return replace(option, usage=usage, allowed=allowed, latency_usage=latency)

    def representatives(
        self, classes: Sequence[AdapterClass], figures: FloatArray
    ) -> tuple[AdapterClass, ...]:
        """For each group the class that is next to its mean by some figures, with the names of all its items.

        Parameters
        ----------
        classes
            The classes.
        figures
            Of each class, shape (n_classes, m).
        """
        scale = np.maximum(np.abs(figures).mean(axis=0), 1e-300)
        apart = (np.abs(figures - self.mean(figures.T).T[self.of_class]) / scale).sum(axis=1)
        order = np.lexsort((apart, self.of_class))
        nearest = order[np.searchsorted(self.of_class[order], np.arange(self.number))]
        names: list[list[str]] = [[] for _ in range(self.number)]
        for one, group in zip(classes, self.of_class.tolist(), strict=True):
            names[group] += one.names
        return tuple(replace(classes[c], names=tuple(mine)) for c, mine in zip(nearest, names, strict=True))


def grouped(ranks: NDArray[np.int64], counts: IntArray, figures: FloatArray, most: int) -> Groups:
    """Classes of adapters in groups of one rank and of near figures.

    The group that loses most by being one is cut in two, at the mean of the figure in which its members
    differ most, until there are so many.

    Parameters
    ----------
    ranks, counts
        Rank, and items, of each class, shape (n_classes,).
    figures
        What of a class's item adds up on a GPU, at least 0, shape (n_classes, m).
    most
        Most groups; ranks may make them more.
    """
    share = figures / np.maximum(figures.mean(axis=0), 1e-300)
    numbers = count()

    def entry(part: IntArray) -> tuple[float, int, IntArray, int]:
        """For a heap: what a part loses, the greatest first, and the figure in which it differs most."""
        spread = np.ptp(share[part], axis=0)
        widest = int(spread.argmax())
        return -float(spread[widest] * counts[part].sum()), next(numbers), part, widest

    parts = [entry(np.flatnonzero(ranks == rank)) for rank in np.unique(ranks)]
    heapq.heapify(parts)
    while len(parts) < most and parts[0][0] < 0.0:
        _, _, part, widest = heapq.heappop(parts)
        values = share[part, widest]
        heavy = values > min(values.mean(), np.nextafter(values.max(), 0.0))  # never empty
        for half in (part[~heavy], part[heavy]):
            heapq.heappush(parts, entry(half))
    of_class = np.zeros(len(ranks), dtype=np.int64)
    for group, (_, _, part, _) in enumerate(sorted(parts, key=lambda one: int(one[2][0]))):
        of_class[part] = group
    return Groups(of_class, counts)
