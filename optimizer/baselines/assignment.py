"""Placements that give single adapters, whole or in shares, to GPUs with slots chosen freely.

Nothing here asks a model of the GPU: what is placed so may starve, or not start, and the twin says so.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np

from optimizer.packing.model.problem import FloatArray, IntArray, PackingError
from scenarios import MAX_SLOTS, PlacedGPU, Placement, Scenario, padded_rank

SlotRule = Callable[[int], int]
"""Slots of a GPU by its number of adapters, of which one of the base model alone is taken to have one."""

LEAST_SHARE = 1e-6
"""Smallest share of an adapter's requests that is routed to a GPU of its own."""


@dataclass(frozen=True, eq=False)
class SingleAdapters:
    """Adapters one by one, in the scenario's order, and the GPUs that they are for.

    Parameters
    ----------
    device
        Kind of the GPUs.
    names
        The adapters' names.
    ranks
        LoRA rank, shape (n,); 0: the base model, which takes no slot.
    rates
        Requests/s, shape (n,).
    tokens
        Mean prompt plus output tokens of a request, shape (n,).
    slots
        Slots of every engine; None: what a rule says.
    """

    device: str
    names: tuple[str, ...]
    ranks: IntArray
    rates: FloatArray
    tokens: FloatArray
    slots: int | None = None

    def __post_init__(self) -> None:
        lengths = {len(self.names), len(self.ranks), len(self.rates), len(self.tokens)}
        if len(lengths) != 1 or not self.names:
            message = "must have one entry per adapter, one at least"
            raise PackingError.of("names, ranks, rates and tokens", message)

    def __len__(self) -> int:
        return len(self.names)

    @property
    def demand(self) -> FloatArray:
        """Tokens/s of each adapter, shape (n,)."""
        return self.rates * self.tokens


def single_adapters(scenario: Scenario, device: str) -> SingleAdapters:
    """The adapters of a scenario in the order of its entries, for GPUs of one kind."""
    of_class = {name: one for one in scenario.classes for name in one.names}
    names = tuple(name for entry in scenario.adapters for name in entry.names())
    classes = [of_class[name] for name in names]
    return SingleAdapters(
        device=device,
        names=names,
        ranks=np.array([c.rank for c in classes], dtype=np.int64),
        rates=np.array([c.rate for c in classes]),
        tokens=np.array([c.kind.mean_prompt_tokens + c.output.mean_tokens for c in classes]),
        slots=scenario.engine.max_loras,
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
) -> Placement:
    """GPUs for groups of adapters, given by index, without empty ones; rank = the largest of the group.

    Parameters
    ----------
    adapters, groups
        The adapters, and those of each GPU.
    slots
        Slots of a GPU, where no number is stated.
    shares
        Which share of each adapter a GPU serves; None: all of it.
    """
    gpus: list[PlacedGPU] = []
    for g, group in enumerate(groups):
        if not len(group):
            continue
        names = tuple(adapters.names[i] for i in group)
        parts = {} if shares is None else dict(zip(names, shares[g], strict=True))
        ranks = adapters.ranks[list(group)]
        with_slot = max(int(np.count_nonzero(ranks)), 1)
        gpus.append(
            PlacedGPU(
                gpu=len(gpus),
                device=adapters.device,
                max_loras=adapters.slots or min(slots(with_slot), MAX_SLOTS),
                max_lora_rank=padded_rank(int(ranks.max())),  # type: ignore[arg-type]
                adapters=names,
                shares={name: share for name, share in parts.items() if share < 1},
            )
        )
    return Placement(gpus=tuple(gpus))
