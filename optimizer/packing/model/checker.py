"""An independent check of packings: plain NumPy on the given figures, shared with no placer."""

from __future__ import annotations

from collections import Counter

import numpy as np
from numpy.typing import NDArray
from scipy.sparse import csr_matrix
from scipy.sparse.csgraph import maximum_flow

from optimizer.packing.model.problem import TOLERANCE, NoGoodCut, Packing, PackingProblem


def check(problem: PackingProblem, packing: Packing) -> list[str]:
    """What is wrong with a packing, one sentence each; empty if it is right.

    Checks that every item is packed once, that classes, rows, cuts and limits are respected.
    """
    violations: list[str] = []
    for g, b in enumerate(packing.bins):
        violations += _check_bin(problem, g, b.option, b.counts)
    if not any("has shape" in v or "does not exist" in v for v in violations):
        violations += _check_whole(problem, packing)
    return violations


def _check_bin(problem: PackingProblem, g: int, option: int, counts: NDArray[np.int64]) -> list[str]:
    if counts.shape != problem.counts.shape:
        return [f"bin {g}: counts has shape {counts.shape}, not {problem.counts.shape}"]
    if not 0 <= option < len(problem.options):
        return [f"bin {g}: option {option} does not exist"]
    chosen = problem.options[option]
    found = []
    if (counts < 0).any():
        found.append(f"bin {g}: negative counts")
    for c in np.flatnonzero((counts > 0) & ~chosen.fits_class):
        found.append(f'bin {g}: class {problem.class_name(int(c))} may not enter option "{chosen.name}"')
    used = chosen.usage @ counts
    for r in np.flatnonzero(used > chosen.capacity * (1 + TOLERANCE)):
        found.append(
            f'bin {g}: row {r} of option "{chosen.name}" is {used[r]:.9g}, above {chosen.capacity[r]:.9g}'
        )
    for k, cut in enumerate(problem.cuts):
        if option in cut.options and matches(cut, counts, problem.heaviness):
            found.append(f"bin {g}: dominates cut {k}")
    return found


def matches(cut: NoGoodCut, counts: NDArray[np.int64], heaviness: NDArray[np.float64] | None) -> bool:
    """Whether a bin's items can be matched to all of a cut's, each at least as heavy.

    By maximum flow, independent of the conditions that the placers use.
    """
    wanted, have = np.flatnonzero(cut.counts), np.flatnonzero(counts)
    stands = have[:, None] == wanted
    if heaviness is not None:
        stands = (heaviness[have][:, None] >= heaviness[wanted]).all(axis=-1)
    total = int(cut.counts.sum())
    size = len(have) + len(wanted) + 2
    capacity = np.zeros((size, size), dtype=np.int32)
    capacity[0, 1 : 1 + len(have)] = np.minimum(counts[have], total)
    capacity[1 : 1 + len(have), 1 + len(have) : -1] = np.where(stands, total, 0)
    capacity[1 + len(have) : -1, -1] = cut.counts[wanted]
    return bool(maximum_flow(csr_matrix(capacity), 0, size - 1).flow_value == total)


def _check_whole(problem: PackingProblem, packing: Packing) -> list[str]:
    found = []
    packed = packing.counts().sum(axis=0) if packing.bins else np.zeros_like(problem.counts)
    for c in np.flatnonzero(packed != problem.counts):
        found.append(
            f"class {problem.class_name(int(c))}: {packed[c]} items packed, there are {problem.counts[c]}"
        )
    options = Counter(b.option for b in packing.bins)
    for o, option in enumerate(problem.options):
        if option.limit is not None and options[o] > option.limit:
            found.append(f'option "{option.name}": {options[o]} bins, above its limit {option.limit}')
    devices = Counter(problem.options[b.option].device for b in packing.bins)
    for device, limit in problem.device_limits.items():
        if devices[device] > limit:
            found.append(f'device "{device}": {devices[device]} bins, above its limit {limit}')
    if problem.max_bins is not None and len(packing.bins) > problem.max_bins:
        found.append(f"{len(packing.bins)} bins, above the limit {problem.max_bins}")
    if problem.budget is not None and problem.price(packing) > problem.budget * (1 + TOLERANCE):
        found.append(f"price {problem.price(packing):g} is above the budget {problem.budget:g}")
    return found
