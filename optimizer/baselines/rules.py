"""Rules by which others place adapters: none of them asks a model of the GPU.

MaxBackbone, Random and the least-rate variants are the baselines of arXiv 2602.24044; least-adapters and
bin-pack are AIBrix's adapter scheduling. dLoRA's and LoRAServe's placements have modules of their own.
"""

from __future__ import annotations

import numpy as np

from optimizer.baselines.assignment import (
    SingleAdapters,
    SlotRule,
    all_slots,
    assigned,
    half_slots,
)
from optimizer.baselines.params import DEFAULTS
from scenarios import Placement


def max_backbone(
    adapters: SingleAdapters, peak_tok_per_s: float, *, less_parallel: bool = False
) -> Placement:
    """MaxBackbone: next-fit, in the order given, until the demand reaches what the GPU does without LoRA.

    Parameters
    ----------
    adapters
        What to place.
    peak_tok_per_s
        Largest throughput of the backbone without adapters.
    less_parallel
        MaxBackboneLessParallel: half the slots.
    """
    groups: list[list[int]] = [[]]
    load = 0.0
    for i, demand in enumerate(adapters.demand):
        if groups[-1] and load + demand > peak_tok_per_s:
            groups.append([])
            load = 0.0
        groups[-1].append(i)
        load += float(demand)
    return assigned(adapters, groups, half_slots if less_parallel else all_slots)


def random_placement(
    adapters: SingleAdapters, gpus: int, seed: int, *, slots: SlotRule | None = None
) -> Placement:
    """Random: a random GPU for every adapter; slots random too unless a rule is given."""
    rng = np.random.default_rng(np.random.SeedSequence(seed))
    where = rng.integers(0, gpus, len(adapters))
    groups = [np.flatnonzero(where == g).tolist() for g in range(gpus)]
    return assigned(adapters, groups, slots or (lambda n: int(rng.integers(1, n + 1))))


def least_rate(adapters: SingleAdapters, gpus: int, *, slots: SlotRule = all_slots) -> Placement:
    """Every adapter, in the order given, to the GPU with the least aggregated rate."""
    load = np.zeros(gpus)
    groups: list[list[int]] = [[] for _ in range(gpus)]
    for i, rate in enumerate(adapters.rates):
        g = int(load.argmin())
        groups[g].append(i)
        load[g] += rate
    return assigned(adapters, groups, slots)


def least_adapters(adapters: SingleAdapters, gpus: int) -> Placement:
    """AIBrix's least-adapters: every adapter, in the order given, to the GPU with the fewest adapters."""
    return assigned(adapters, [list(range(g, len(adapters), gpus)) for g in range(gpus)])


def bin_pack_capped(adapters: SingleAdapters, cap: int = DEFAULTS.adapters_per_gpu) -> Placement:
    """AIBrix's bin-pack: every adapter to the fullest GPU that has fewer than ``cap`` adapters."""
    firsts = range(0, len(adapters), cap)
    return assigned(adapters, [list(range(first, min(first + cap, len(adapters)))) for first in firsts])
