"""Compiled matching of a bin's items to a cut's: does the bin dominate the cut, and how far is it from it.

A cut is given by its requirements, the group of every class, and which groups are compatible with which
requirement (`cuts.CutShape`). Items are matched greedily first, groups with few compatible requirements
before the others, which is already a maximum flow where the order is a chain; then along augmenting paths
(Ford and Fulkerson 1956, breadth first).
"""

from __future__ import annotations

import numpy as np

from optimizer.packing.model.arrays import BoolArray, IntArray
from optimizer.packing.model.compilation import cached, compiled


@compiled
def _match_greedily(supply: IntArray, missing: IntArray, flow: IntArray, compatible: BoolArray) -> int:
    """Match group after group as far as it goes; how many items."""
    matched = 0
    for g in range(len(supply)):
        for r in range(len(missing)):
            if supply[g] == 0:
                break
            amount = min(supply[g], missing[r])
            if amount > 0 and compatible[g, r]:
                flow[g, r] += amount
                supply[g] -= amount
                missing[r] -= amount
                matched += amount
    return matched


@compiled
def _augment(target: int, supply: IntArray, missing: IntArray, flow: IntArray, compatible: BoolArray) -> int:
    """Match more items to one requirement along a shortest path; how many, 0 if there is no path.

    The search goes backwards, from the requirement that misses items to a group that has some left. Another
    requirement is reached if a group that could serve this one has items matched to it: these can be taken
    over, and the other is served anew.
    """
    groups, requirements = len(supply), len(missing)
    towards = np.full(requirements, -1)  # the requirement that takes over from each, on the way to the target
    by = np.full(requirements, -1)  # the group whose items it takes over
    queue = np.empty(requirements, dtype=np.int64)
    queue[0] = target
    towards[target] = target
    head, tail = 0, 1
    while head < tail:
        r = queue[head]
        head += 1
        for g in range(groups):
            if not compatible[g, r]:
                continue
            if supply[g] > 0:
                return _push(g, r, target, towards, by, supply, missing, flow)
            for other in range(requirements):
                if flow[g, other] > 0 and towards[other] < 0:
                    towards[other] = r
                    by[other] = g
                    queue[tail] = other
                    tail += 1
    return 0


@compiled
def _push(
    g: int,
    first: int,
    target: int,
    towards: IntArray,
    by: IntArray,
    supply: IntArray,
    missing: IntArray,
    flow: IntArray,
) -> int:
    """Match items of group g to a requirement, and pass on along the path what that had, up to the target."""
    # As many as every link of the path can pass on.
    amount = min(supply[g], missing[target])
    r = first
    while r != target:
        amount = min(amount, flow[by[r], r])
        r = towards[r]
    supply[g] -= amount
    flow[g, first] += amount
    r = first
    while r != target:
        flow[by[r], r] -= amount
        flow[by[r], towards[r]] += amount
        r = towards[r]
    missing[target] -= amount
    return int(amount)


@compiled
def _match_all(supply: IntArray, missing: IntArray, flow: IntArray, compatible: BoolArray) -> int:
    """Match as many items as can be, on top of the flow given; how many more."""
    matched = _match_greedily(supply, missing, flow, compatible)
    for r in range(len(missing)):
        while missing[r] > 0:
            amount = _augment(r, supply, missing, flow, compatible)
            if amount == 0:
                break
            matched += amount
    return matched


@compiled
def room_by_cut(
    c: int,
    room: int,
    counts: IntArray,
    requirements: IntArray,
    class_group: IntArray,
    compatible: BoolArray,
) -> int:
    """How many of ``room`` more items of class c a bin takes without dominating a cut.

    With k more items of the class the flow is min(flow + k, flow with any number of them), because it is
    concave in k and rises by at most one per item.
    """
    group = class_group[c]
    if group < 0:
        return room
    total = requirements.sum()
    supply = np.zeros(len(compatible), dtype=np.int64)
    useful = 0
    for i in range(len(counts)):
        if counts[i] > 0 and class_group[i] >= 0:
            supply[class_group[i]] += counts[i]
            useful += counts[i]
    # Most bins have too few items to dominate anything: no matching is needed to see that.
    if useful + room < total:
        return room
    missing = requirements.copy()
    flow = np.zeros(compatible.shape, dtype=np.int64)
    matched = _match_all(supply, missing, flow, compatible)
    if matched + room < total:
        return room
    # With any number of items more the cut stays out of reach, or the last one that it takes is one too many.
    supply[group] += total
    if matched + _match_all(supply, missing, flow, compatible) < total:
        return room
    return int(total - matched - 1)


@cached
def dominates_one(
    counts: IntArray, requirements: IntArray, class_group: IntArray, compatible: BoolArray
) -> bool:
    """Whether a bin with these items dominates any of several cuts, stacked as in `CutTable`."""
    for k in range(len(requirements)):
        supply = np.zeros(compatible.shape[1], dtype=np.int64)
        for i in range(len(counts)):
            if class_group[k, i] >= 0:
                supply[class_group[k, i]] += counts[i]
        total = requirements[k].sum()
        if supply.sum() < total:
            continue
        flow = np.zeros(compatible[k].shape, dtype=np.int64)
        if _match_all(supply, requirements[k].copy(), flow, compatible[k]) == total:
            return True
    return False
