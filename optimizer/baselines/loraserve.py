"""LoRAServe's placement (Jaiswal et al., arXiv 2511.22880): GPUs apportioned to ranks, adapters in fractions.

A rank's utilisation is its demand over the throughput that a GPU reaches at that rank.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np

from optimizer.baselines.assignment import LEAST_SHARE, SingleAdapters, assigned
from optimizer.packing.model.problem import FloatArray, IntArray, PackingError
from scenarios import Placement


def loraserve(adapters: SingleAdapters, gpus: int, peak_by_rank: Mapping[int, float]) -> Placement:
    """Place by LoRAServe's rule.

    GPUs go to ranks in proportion to utilisation, by largest remainder; a rank that gets none joins the
    next larger rank that has one, or else the next smaller. Inside a group of ranks every GPU takes an
    equal part of the utilisation, adapters in descending utilisation, one that crosses the edge being
    split; the parts are the routing probabilities.

    Parameters
    ----------
    adapters, gpus
        What to place, and on how many GPUs.
    peak_by_rank
        Tokens/s of a GPU whose adapters have this rank.

    Raises
    ------
    PackingError
        If a rank has no peak.
    """
    ranks = sorted({int(r) for r in adapters.ranks})
    missing = [r for r in ranks if r not in peak_by_rank]
    if missing:
        message = f"has no entry for rank {missing[0]}"
        raise PackingError.of("peak_by_rank", message, "add its largest throughput")
    use = adapters.demand / np.array([peak_by_rank[int(r)] for r in adapters.ranks])
    servers = largest_remainder(np.array([use[adapters.ranks == r].sum() for r in ranks]), gpus)
    hosts = {r: _host(servers, k) for k, r in enumerate(ranks)}
    groups: list[list[int]] = []
    shares: list[list[float]] = []
    for k in np.flatnonzero(servers):
        members = [i for i in range(len(adapters)) if hosts[int(adapters.ranks[i])] == k]
        members.sort(key=lambda i: (-use[i], i))
        for group in _split(members, use, int(servers[k])):
            groups.append(list(group))
            shares.append(list(group.values()))
    return assigned(adapters, groups, shares=shares)


def largest_remainder(weights: FloatArray, seats: int) -> IntArray:
    """Seats in proportion to weights: whole parts first, the rest to the largest remainders."""
    quota = weights / weights.sum() * seats
    given: IntArray = np.floor(quota + 1e-12).astype(np.int64)
    for k in np.argsort(-(quota - given), kind="stable")[: seats - int(given.sum())]:
        given[k] += 1
    return given


def _host(servers: IntArray, k: int) -> int:
    """The group of ranks that serves rank number k."""
    above = [j for j in range(k, len(servers)) if servers[j]]
    return above[0] if above else max(j for j in range(k) if servers[j])


def _split(members: Sequence[int], use: FloatArray, gpus: int) -> list[dict[int, float]]:
    """Members over GPUs of equal utilisation, those at an edge in parts: the share of each on each GPU."""
    room = float(use[list(members)].sum()) / gpus
    filled: list[dict[int, float]] = [{}]
    left = room
    for i in members:
        rest = 1.0
        while rest > LEAST_SHARE:
            if len(filled) < gpus and left <= LEAST_SHARE * use[i]:
                filled.append({})
                left = room
            part = rest if len(filled) == gpus else min(rest, left / float(use[i]))
            if rest - part <= LEAST_SHARE:
                part = rest
            filled[-1][i] = part
            left -= part * float(use[i])
            rest -= part
    return filled
