"""Which options are worth opening, and how many bins of each may still be opened."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence

import numpy as np

from optimizer.packing.model.arrays import BoolArray
from optimizer.packing.model.problem import PackingProblem
from optimizer.packing.model.scaling import ScaledRows

PLENTY = 1 << 60
"""Stands for no limit."""


class BinLimits:
    """How many bins may still be opened, by option, by device and in all."""

    def __init__(self, problem: PackingProblem) -> None:
        self._problem = problem
        self._taken: Counter[int] = Counter()
        self._devices: Counter[str] = Counter()

    def available(self, option: int) -> int:
        """How many more bins of the option may be opened."""
        chosen = self._problem.options[option]
        limit = PLENTY if chosen.limit is None else chosen.limit - self._taken[option]
        of_device = self._problem.device_limits.get(chosen.device)
        if of_device is not None:
            limit = min(limit, of_device - self._devices[chosen.device])
        if self._problem.max_bins is not None:
            limit = min(limit, self._problem.max_bins - self._taken.total())
        return max(0, limit)

    def take(self, option: int, bins: int = 1) -> None:
        """Open bins."""
        self._taken[option] += bins
        self._devices[self._problem.options[option].device] += bins

    def give(self, option: int, bins: int = 1) -> None:
        """Close bins."""
        self.take(option, -bins)


def useful_options(problem: PackingProblem) -> tuple[int, ...]:
    """Options that no other makes superfluous, in their order.

    Option b is superfluous if a holds whatever b holds, costs no more, is no scarcer, and, where latency
    counts, is no slower. That is read off rows: every row of a is implied by one of b.
    """
    # Of options that cover each other the first is kept.
    kept: list[int] = []
    holds_more = _hold_more(problem.rows)
    for b in range(len(problem.options)):
        if problem.rows[b].most.any() and not any(
            a != b
            and _covers(problem, a, b, holds_more)
            and not (a > b and _covers(problem, b, a, holds_more))
            for a in range(len(problem.options))
        ):
            kept.append(b)
    return tuple(kept) or (0,)


def _covers(problem: PackingProblem, a: int, b: int, holds_more: BoolArray) -> bool:
    first, second = problem.options[a], problem.options[b]
    if first.price > second.price or not holds_more[a, b]:
        return False
    if first.limit is not None or (first.device != second.device and first.device in problem.device_limits):
        return False
    if any(a in cut.options and b not in cut.options for cut in problem.cuts):
        return False
    return problem.objective == "price" or _never_slower(problem, a, b)


def _hold_more(rows: Sequence[ScaledRows]) -> BoolArray:
    """Whether each row of option a follows from a row of b, on the classes that b admits, shape (n, n)."""
    most = np.array([one.most for one in rows])
    depth = max(len(one.capacity) for one in rows)
    # Rows of zeros make all options as deep: they follow from any row.
    usage = np.zeros((len(rows), depth, most.shape[1]), dtype=np.int64)
    capacity = np.zeros((len(rows), depth, 1), dtype=np.int64)
    for a, one in enumerate(rows):
        m = len(one.capacity)
        usage[a, :m], capacity[a, :m, 0] = one.usage, one.capacity
    holds = np.zeros((len(rows), len(rows)), dtype=bool)
    for b, one in enumerate(rows):
        classes = one.most > 0
        of_classes, follows = usage[:, :, classes], np.zeros((len(rows), depth), dtype=bool)
        for other, room in zip(one.usage[:, classes], one.capacity, strict=True):
            follows |= (of_classes * room <= other * capacity).all(axis=2)
        holds[:, b] = follows.all(axis=1) & (most[:, classes] > 0).all(axis=1)
    return holds


def _never_slower(problem: PackingProblem, a: int, b: int) -> bool:
    first, second = problem.options[a], problem.options[b]
    if first.latency_usage is None or second.latency_usage is None:
        return False
    if first.latency_offset is None or second.latency_offset is None:
        return False
    classes = problem.rows[b].most > 0
    return all(
        any(
            offset <= other_offset and np.all(piece[classes] <= other[classes])
            for other, other_offset in zip(second.latency_usage, second.latency_offset, strict=True)
        )
        for piece, offset in zip(first.latency_usage, first.latency_offset, strict=True)
    )
