"""dLoRA's proactive placement (Wu et al., OSDI 2024): replicas against bursts, uniform routing."""

from __future__ import annotations

import numpy as np

from optimizer.baselines.assignment import SingleAdapters, assigned
from optimizer.packing.model.problem import BoolArray, FloatArray, PackingError
from scenarios import UNLIMITED, Deadline, Placement

PLACING = "dLoRA's rule placed the adapters"
"""What is being done, for the message of a search that ends meanwhile."""


def dlora_proactive(
    adapters: SingleAdapters,
    gpus: int,
    peak_tok_per_s: float,
    *,
    most_adapters: int,
    deadline: Deadline = UNLIMITED,
) -> Placement:
    """Place by dLoRA's proactive rule.

    A GPU gives each of its adapters an equal part of its peak. An adapter's deficit is its demand less the
    parts it has, its burst tolerance the ratio of the parts to the demand. Every adapter is placed once,
    largest demand first, on the GPU with the fewest adapters. Then the adapter of largest deficit gets a
    replica on the GPU with the fewest adapters, until none has a deficit or a replica would lower the
    smallest burst tolerance.

    Parameters
    ----------
    adapters, gpus
        What to place, and on how many GPUs.
    peak_tok_per_s
        Largest throughput of a GPU.
    most_adapters
        Most adapters on a GPU.
    deadline
        When to stop.

    Raises
    ------
    PackingError
        If the GPUs cannot hold the adapters once.
    Stopped
        If the deadline passes, or the work is interrupted, before all are placed.
    """
    if gpus * most_adapters < len(adapters):
        message = f"of {most_adapters} adapters cannot hold {len(adapters)}"
        raise PackingError.of(f"{gpus} GPUs", message, "give more GPUs")
    replicas = _Replicas(adapters.demand, gpus, peak_tok_per_s)
    for i in np.argsort(-adapters.demand, kind="stable"):
        deadline.check(PLACING)
        replicas.add(int(i), replicas.emptiest(int(i)))
    while True:
        deadline.check(PLACING)
        i = int(replicas.deficit.argmax())
        if replicas.deficit[i] <= 0 or replicas.placed[i].all():
            break
        where = replicas.emptiest(i)
        if replicas.sizes[where] >= most_adapters or not replicas.improves(i, where):
            break
        replicas.add(i, where)
    placed = replicas.placed
    groups = [np.flatnonzero(placed[:, g]).tolist() for g in range(gpus)]
    return assigned(adapters, groups, shares=[(1.0 / placed[group].sum(axis=1)).tolist() for group in groups])


class _Replicas:
    """Which GPUs hold which adapters, and the part of a peak that each adapter has."""

    def __init__(self, demand: FloatArray, gpus: int, peak: float) -> None:
        self.demand, self.peak = demand, peak
        self.placed: BoolArray = np.zeros((len(demand), gpus), dtype=bool)
        self.sizes = np.zeros(gpus, dtype=np.int64)
        self.provided = np.zeros(len(demand))

    @property
    def deficit(self) -> FloatArray:
        """Demand that no part of a peak covers, in tokens/s."""
        return self.demand - self.provided

    def emptiest(self, i: int) -> int:
        """The GPU with the fewest adapters among those without this one."""
        return int(np.where(self.placed[i], len(self.demand) + 1, self.sizes).argmin())

    def after(self, i: int, where: int) -> FloatArray:
        """Parts of each adapter if a GPU held one adapter more."""
        size = int(self.sizes[where])
        provided = self.provided.copy()
        if size:
            provided[self.placed[:, where]] += self.peak / (size + 1) - self.peak / size
        provided[i] += self.peak / (size + 1)
        return provided

    def improves(self, i: int, where: int) -> bool:
        """Whether the smallest burst tolerance is no lower with this replica."""
        before = (self.provided / self.demand).min()
        return bool((self.after(i, where) / self.demand).min() >= before * (1 - 1e-12))

    def add(self, i: int, where: int) -> None:
        """Place an adapter on one more GPU."""
        self.provided = self.after(i, where)
        self.placed[i, where] = True
        self.sizes[where] += 1
