"""Compiled knapsacks: the most valuable bin of an option, with a bound when the search is cut short.

`table_knapsack` is the dynamic programme over one row of moderate capacity, with counts split into powers
of two. `tree_knapsack` is a branch and bound over several rows and cuts: depth first by efficiency, each
class from its most items down (Gilmore and Gomory 1963), bounded by the fractional knapsack of an
aggregated row (Martello and Toth, "Knapsack problems", 1990, chapters 2 and 3). An item enters only after
all items that are worth at least as much, and take no more of any row.
"""

from __future__ import annotations

import numpy as np

from optimizer.packing.heuristics.kernels import room_for
from optimizer.packing.model.compilation import compiled
from optimizer.packing.model.problem import BoolArray, FloatArray, IntArray

RIVALS = 4
"""Classes that a class is held back for, at most."""


@compiled
def table_knapsack(
    profit: FloatArray, most: IntArray, usage: IntArray, capacity: int
) -> tuple[IntArray, float]:
    """Exact best counts and value for one row; usage shape (n,)."""
    n = len(profit)
    classes, multiples = [], []
    for c in range(n):
        if profit[c] > 0 and usage[c] <= capacity:
            left, step = most[c], 1
            while left > 0:
                take = min(step, left)
                classes.append(c)
                multiples.append(take)
                left -= take
                step *= 2
    value = np.zeros(capacity + 1)
    taken = np.zeros((len(classes), capacity + 1), dtype=np.bool_)
    for i in range(len(classes)):
        weight, worth = usage[classes[i]] * multiples[i], profit[classes[i]] * multiples[i]
        for w in range(capacity, weight - 1, -1):
            if value[w - weight] + worth > value[w] + 1e-12:
                value[w] = value[w - weight] + worth
                taken[i, w] = True
    counts = np.zeros(n, dtype=np.int64)
    w = capacity
    for i in range(len(classes) - 1, -1, -1):
        if taken[i, w]:
            counts[classes[i]] += multiples[i]
            w -= usage[classes[i]] * multiples[i]
    return counts, value[capacity]


@compiled
def aggregated(usage: IntArray, capacity: IntArray, weight: FloatArray) -> FloatArray:
    """Share that an item of each class takes of the weighted sum of the rows, shape (n,)."""
    load = np.zeros(usage.shape[1])
    for c in range(usage.shape[1]):
        for r in range(usage.shape[0]):
            load[c] += weight[r] * usage[r, c] / max(1, capacity[r])
    return load


@compiled
def row_multipliers(
    profit: FloatArray, most: IntArray, usage: IntArray, capacity: IntArray, rounds: int
) -> FloatArray:
    """Weights of the rows, summing to 1, whose aggregated row bounds the knapsack tightly.

    Rows that the fractional solution overfills gain weight: by bisection where there are two, else by
    multiplicative updates.
    """
    m, n = usage.shape
    weight = np.full(m, 1.0 / m)
    best = weight.copy()
    lowest, low, high = np.inf, 0.0, 1.0
    for k in range(rounds):
        load = aggregated(usage, capacity, weight)
        efficiency = np.zeros(n)
        for c in range(n):
            efficiency[c] = profit[c] / max(load[c], 1e-15) if most[c] > 0 else 0.0
        left, value = 1.0, 0.0
        activity = np.zeros(m)
        for c in np.argsort(-efficiency):
            if efficiency[c] <= 0 or left <= 0:
                break
            amount = float(most[c])
            if load[c] * amount > left:
                amount = left / load[c]
            left -= load[c] * amount
            value += profit[c] * amount
            for r in range(m):
                activity[r] += usage[r, c] * amount / max(1, capacity[r])
        if value < lowest:
            lowest = value
            best = weight.copy()
        if m == 2:  # the bound is convex in the one weight that is free
            if activity[0] > activity[1]:
                low = weight[0]
            else:
                high = weight[0]
            weight[0] = (low + high) / 2
            weight[1] = 1.0 - weight[0]
            continue
        step = 1.0 / (1.0 + 0.5 * k)
        total = 0.0
        for r in range(m):
            weight[r] *= np.exp(step * (activity[r] - 1.0))
            total += weight[r]
        weight /= total
    return best


@compiled
def rivals_of(order: IntArray, profit: FloatArray, usage: IntArray, measures: FloatArray) -> IntArray:
    """Positions of classes that go before a class, -1 where there are fewer, shape (n, RIVALS).

    Some optimal bin has an item of a class only if it has all items of each rival: a rival is worth at
    least as much, takes no more of any row, and is heavier by none of the ``measures``. The nearest are
    kept.
    """
    found = np.full((len(order), RIVALS), -1)
    for i in range(len(order)):
        c, k = order[i], 0
        for j in range(i - 1, -1, -1):
            d = order[j]
            better = profit[d] >= profit[c]
            for w in range(measures.shape[1]):
                better = better and measures[d, w] <= measures[c, w]
            for r in range(usage.shape[0]):
                better = better and usage[r, d] <= usage[r, c]
            if better:
                found[i, k] = j
                k += 1
                if k == RIVALS:
                    break
    return found


@compiled
def _must_wait(
    i: int, first: int, order: IntArray, most: IntArray, counts: IntArray, rivals: IntArray
) -> bool:
    """Whether a rival before position ``first`` is not used up."""
    for k in range(rivals.shape[1]):
        j = rivals[i, k]
        if j < 0:
            return False
        if j < first and counts[order[j]] < most[order[j]]:
            return True
    return False


@compiled
def fractional(
    first: int,
    left: float,
    order: IntArray,
    profit: FloatArray,
    load: FloatArray,
    most: IntArray,
    counts: IntArray,
    rivals: IntArray,
) -> float:
    """Value of the fractional knapsack over the classes from position ``first`` on."""
    value = 0.0
    for i in range(first, len(order)):
        c = order[i]
        if _must_wait(i, first, order, most, counts, rivals):
            continue
        need = load[c] * most[c]
        if need >= left:
            return float(value + profit[c] * (max(left, 0.0) / load[c] if load[c] > 0 else most[c]))
        value += profit[c] * most[c]
        left -= need
    return value


@compiled
def change(c: int, amount: int, counts: IntArray, residual: IntArray, usage: IntArray) -> None:
    counts[c] += amount
    for r in range(len(residual)):
        residual[r] -= usage[r, c] * amount


@compiled
def by_efficiency(profit: FloatArray, most: IntArray, load: FloatArray) -> IntArray:
    """Classes worth taking, by profit per load."""
    efficiency = np.zeros(len(profit))
    for c in range(len(profit)):
        if most[c] > 0 and profit[c] > 0:
            efficiency[c] = profit[c] / max(load[c], 1e-15)
    order = np.argsort(-efficiency)
    k = 0
    while k < len(order) and efficiency[order[k]] > 0:
        k += 1
    return order[:k].copy()


@compiled
def _forward(
    i: int,
    left: float,
    value: float,
    goal: float,
    first: bool,
    order: IntArray,
    profit: FloatArray,
    load: FloatArray,
    most: IntArray,
    usage: IntArray,
    residual: IntArray,
    counts: IntArray,
    rivals: IntArray,
    wanted: IntArray,
    group: IntArray,
    stands: BoolArray,
) -> tuple[int, float, float]:
    """Take as many items as fit from position i on, while the goal can be passed."""
    while i < len(order):
        if not first and value + fractional(i, left, order, profit, load, most, counts, rivals) <= goal:
            break
        c = order[i]
        if _must_wait(i, i, order, most, counts, rivals):
            i += 1
            continue
        amount = min(most[c], room_for(c, usage, residual, counts, wanted, group, stands))
        if amount > 0:
            change(c, amount, counts, residual, usage)
            value += profit[c] * amount
            left -= load[c] * amount
        i += 1
    return i, left, value


@compiled
def backward(
    i: int,
    left: float,
    value: float,
    goal: float,
    order: IntArray,
    profit: FloatArray,
    load: FloatArray,
    most: IntArray,
    usage: IntArray,
    residual: IntArray,
    counts: IntArray,
    rivals: IntArray,
) -> tuple[int, float, float]:
    """Give items back from position i down until the rest can pass the goal; position -1 is the end."""
    while i >= 0:
        c = order[i]
        if counts[c] > 0:
            change(c, -1, counts, residual, usage)
            value -= profit[c]
            left += load[c]
            if value + fractional(i + 1, left, order, profit, load, most, counts, rivals) > goal:
                return i, left, value
            value -= profit[c] * counts[c]
            left += load[c] * counts[c]
            change(c, -counts[c], counts, residual, usage)
        i -= 1
    return i, left, value


@compiled
def tree_knapsack(
    profit: FloatArray,
    most: IntArray,
    usage: IntArray,
    capacity: IntArray,
    wanted: IntArray,
    group: IntArray,
    stands: BoolArray,
    measures: FloatArray,
    multipliers: FloatArray,
    enough: float,
    nodes: int,
) -> tuple[IntArray, float, float]:
    """Best counts found, their value, and an upper bound on the value of any bin.

    Bins worth no more than ``enough`` are not searched for; the bound is then at least ``enough``.
    As far as cuts are concerned, b may take the place of a if none of its ``measures`` is above a's;
    ``multipliers`` are the weights of the aggregated row (`row_multipliers`).
    """
    n = usage.shape[1]
    load = aggregated(usage, capacity, multipliers)
    order = by_efficiency(profit, most, load)
    rivals = rivals_of(order, profit, usage, measures)
    counts, best_counts = np.zeros(n, dtype=np.int64), np.zeros(n, dtype=np.int64)
    residual = capacity.copy()
    left, value, best, i, visited = 1.0, 0.0, 0.0, 0, 0
    while visited < nodes:
        goal = max(best, enough) * (1 + 1e-9) + 1e-12
        i, left, value = _forward(
            i, left, value, goal, visited == 0, order, profit, load, most,
            usage, residual, counts, rivals, wanted, group, stands,
        )  # fmt: skip
        if value > best + 1e-12:
            best = value
            best_counts[:] = counts
            goal = max(best, enough) * (1 + 1e-9) + 1e-12
        visited += 1
        i, left, value = backward(
            i - 1, left, value, goal, order, profit, load, most, usage, residual, counts, rivals
        )
        if i < 0:
            return best_counts, best, goal
        i += 1
    # Cut short: the best of the subtrees left, on the way back to the root.
    upper = max(best, enough)
    while i >= 0:
        upper = max(upper, value + fractional(i, left, order, profit, load, most, counts, rivals))
        i, left, value = backward(
            i - 1, left, value, upper, order, profit, load, most, usage, residual, counts, rivals
        )
        i += 1 if i >= 0 else 0
    return best_counts, best, upper * (1 + 1e-9)
