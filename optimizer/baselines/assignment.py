"""Plans that give single adapters, whole or in shares, to GPUs with slots chosen freely.

Nothing here asks a model of the GPU: such a plan may starve, or not start, and the twin says so.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np

from optimizer.packing.model.problem import FloatArray, IntArray, PackingError
from scenarios import PlacedGPU, Placement, Scenario
from scenarios.engine import padded_rank

SlotRule = Callable[[int], int]
"""Slots of a GPU by its number of adapters."""

LEAST_SHARE = 1e-6
"""Smallest share of an adapter's requests that is routed to a GPU of its own."""


@dataclass(frozen=True, eq=False)
class SingleAdapters:
    """Adapters one by one, in the scenario's order.

    Parameters
    ----------
    names
        The adapters' names.
    ranks
        LoRA rank, shape (n,).
    rates
        Requests/s, shape (n,).
    tokens
        Mean prompt plus output tokens of a request, shape (n,).
    """

    names: tuple[str, ...]
    ranks: IntArray
    rates: FloatArray
    tokens: FloatArray

    def __post_init__(self) -> None:
        lengths = {len(self.names), len(self.ranks), len(self.rates), len(self.tokens)}
        if len(lengths) != 1 or not self.names:
            raise PackingError("names, ranks, rates and tokens must have one entry per adapter, one at least")

    def __len__(self) -> int:
        return len(self.names)

    @property
    def demand(self) -> FloatArray:
        """Tokens/s of each adapter, shape (n,)."""
        return self.rates * self.tokens


@dataclass(frozen=True, eq=False)
class AssignedGPU:
    """A GPU of an assignment: slots, largest rank, adapters by index, and which share of each."""

    max_loras: int
    max_rank: int
    adapters: IntArray
    shares: FloatArray


@dataclass(frozen=True, eq=False)
class Assignment:
    """GPUs with their adapters; every adapter's shares sum to 1."""

    gpus: tuple[AssignedGPU, ...]

    def __len__(self) -> int:
        return len(self.gpus)


def single_adapters(scenario: Scenario) -> SingleAdapters:
    """The adapters of a scenario in the order of its entries."""
    of_class = {name: one for one in scenario.classes for name in one.names}
    names = tuple(name for entry in scenario.adapters for name in entry.names())
    classes = [of_class[name] for name in names]
    return SingleAdapters(
        names=names,
        ranks=np.array([c.rank for c in classes], dtype=np.int64),
        rates=np.array([c.rate for c in classes]),
        tokens=np.array([c.prompt.mean_tokens + c.output.mean_tokens for c in classes]),
    )


def all_slots(adapters: int) -> int:
    """A slot for every adapter."""
    return adapters


def half_slots(adapters: int) -> int:
    """A slot for every second adapter."""
    return max(1, adapters // 2)


def third_slots(adapters: int) -> int:
    """A slot for every third adapter."""
    return max(1, adapters // 3)


def assigned(
    adapters: SingleAdapters,
    groups: Sequence[Sequence[int]],
    slots: SlotRule = all_slots,
    shares: Sequence[Sequence[float]] | None = None,
) -> Assignment:
    """GPUs for groups of adapters, without empty ones; rank = the largest of the group."""
    gpus = []
    for g, group in enumerate(groups):
        if len(group):
            members = np.asarray(group, dtype=np.int64)
            part = np.ones(len(members)) if shares is None else np.asarray(shares[g], dtype=np.float64)
            gpus.append(AssignedGPU(slots(len(members)), int(adapters.ranks[members].max()), members, part))
    return Assignment(tuple(gpus))


def placement_of_assignment(adapters: SingleAdapters, plan: Assignment, device: str) -> Placement:
    """The placement that an assignment is, on GPUs of one kind."""
    return Placement(
        gpus=tuple(
            PlacedGPU(
                gpu=number,
                device=device,
                max_loras=gpu.max_loras,
                max_lora_rank=padded_rank(gpu.max_rank),  # type: ignore[arg-type]  # one of vLLM's ranks
                adapters=tuple(adapters.names[i] for i in gpu.adapters),
                shares={
                    adapters.names[i]: float(share)
                    for i, share in zip(gpu.adapters, gpu.shares, strict=True)
                    if share < 1
                },
            )
            for number, gpu in enumerate(plan.gpus)
        )
    )
