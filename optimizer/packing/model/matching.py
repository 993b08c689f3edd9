"""Compiled matching of a bin's items to a cut's: does the bin dominate the cut, and how far is it from it.

A cut is given by what it wants, the group of every class and which group stands for which want
(`cuts.CutShape`). Items are matched greedily first, those that stand for few wants before
the others, which is already a maximum flow where the order is a chain; then along augmenting paths (Ford and
Fulkerson 1956, breadth first).
"""

from __future__ import annotations

import numpy as np

from optimizer.packing.model.compilation import cached, compiled
from optimizer.packing.model.problem import BoolArray, IntArray


@compiled
def _match_greedily(supply: IntArray, need: IntArray, flow: IntArray, stands: BoolArray) -> int:
    """Match group after group as far as it goes; how many items."""
    matched = 0
    for g in range(len(supply)):
        for w in range(len(need)):
            if supply[g] == 0:
                break
            amount = min(supply[g], need[w])
            if amount > 0 and stands[g, w]:
                flow[g, w] += amount
                supply[g] -= amount
                need[w] -= amount
                matched += amount
    return matched


@compiled
def _augment(target: int, supply: IntArray, need: IntArray, flow: IntArray, stands: BoolArray) -> int:
    """Match more items to one want along a shortest path; how many, 0 if there is no path.

    A want is reached from another if a group that stands for the latter has items matched to the former.
    """
    groups, wants = len(supply), len(need)
    towards = np.full(wants, -1)
    by = np.full(wants, -1)
    queue = np.empty(wants, dtype=np.int64)
    queue[0] = target
    towards[target] = target
    head, tail = 0, 1
    while head < tail:
        w = queue[head]
        head += 1
        for g in range(groups):
            if not stands[g, w]:
                continue
            if supply[g] > 0:
                return _push(g, w, target, towards, by, supply, need, flow)
            for v in range(wants):
                if flow[g, v] > 0 and towards[v] < 0:
                    towards[v] = w
                    by[v] = g
                    queue[tail] = v
                    tail += 1
    return 0


@compiled
def _push(
    g: int,
    w: int,
    target: int,
    towards: IntArray,
    by: IntArray,
    supply: IntArray,
    need: IntArray,
    flow: IntArray,
) -> int:
    """Match items of group g to want w, and pass on along the path what w had, up to the target."""
    amount = min(supply[g], need[target])
    v = w
    while v != target:
        amount = min(amount, flow[by[v], v])
        v = towards[v]
    supply[g] -= amount
    flow[g, w] += amount
    v = w
    while v != target:
        flow[by[v], v] -= amount
        flow[by[v], towards[v]] += amount
        v = towards[v]
    need[target] -= amount
    return int(amount)


@compiled
def _match_all(supply: IntArray, need: IntArray, flow: IntArray, stands: BoolArray) -> int:
    """Match as many items as can be, on top of the flow given; how many more."""
    matched = _match_greedily(supply, need, flow, stands)
    for w in range(len(need)):
        while need[w] > 0:
            amount = _augment(w, supply, need, flow, stands)
            if amount == 0:
                break
            matched += amount
    return matched


@compiled
def room_by_cut(
    c: int, room: int, counts: IntArray, wanted: IntArray, group: IntArray, stands: BoolArray
) -> int:
    """How many of ``room`` more items of class c a bin takes without dominating a cut.

    With k more items of the class the flow is min(flow + k, flow with any number of them), because it is
    concave in k and rises by at most one per item.
    """
    mine = group[c]
    if mine < 0:
        return room
    total = wanted.sum()
    supply = np.zeros(len(stands), dtype=np.int64)
    held = 0
    for i in range(len(counts)):
        if counts[i] > 0 and group[i] >= 0:
            supply[group[i]] += counts[i]
            held += counts[i]
    if held + room < total:
        return room
    need = wanted.copy()
    flow = np.zeros(stands.shape, dtype=np.int64)
    matched = _match_all(supply, need, flow, stands)
    if matched + room < total:
        return room
    supply[mine] += total
    if matched + _match_all(supply, need, flow, stands) < total:
        return room
    return int(total - matched - 1)


@cached
def dominates_one(counts: IntArray, wanted: IntArray, group: IntArray, stands: BoolArray) -> bool:
    """Whether a bin with these items dominates any of several cuts, stacked as in `CutTable`."""
    for k in range(len(wanted)):
        supply = np.zeros(stands.shape[1], dtype=np.int64)
        for i in range(len(counts)):
            if group[k, i] >= 0:
                supply[group[k, i]] += counts[i]
        total = wanted[k].sum()
        if supply.sum() < total:
            continue
        flow = np.zeros(stands[k].shape, dtype=np.int64)
        if _match_all(supply, wanted[k].copy(), flow, stands[k]) == total:
            return True
    return False
