"""Loads of adapters, scaled: copies to the GPU by their number, reads from disk by the adapter's bytes."""

from __future__ import annotations

from typing import NamedTuple

from twin.deriving.counts import ModelCounts
from twin.deriving.scaling import Scaled
from twin.step_cost import LoadCost

_COPIED = Scaled(1.0, "gpu load", "copies of single matrices: the host's work, not PCIe's bytes")
_READ = Scaled(1.0, "disk load", "weights of an adapter, read from a disk like the measured one's")


class ScaledLoads(NamedTuple):
    """Costs of loads, and how each came about.

    Parameters
    ----------
    cost
        The costs.
    scaled
        Factor, part and cause of each, by its name.
    """

    cost: LoadCost
    scaled: dict[str, Scaled]


def scaled_loads(cost: LoadCost, measured: ModelCounts, wanted: ModelCounts) -> ScaledLoads:
    """Scale measured loads to another model.

    A copy to the GPU takes as long for rank 8 as for rank 32 (adapter_loads of both measured models: 6.4 to
    6.6 and 3.0 to 3.1 ms where ranks fit), so it is not limited by PCIe: it is a loop over matrices on the
    host.
    """
    copies = wanted.lora_slices / measured.lora_slices if measured.lora_slices else 1.0
    weights = wanted.lora_shape / measured.lora_shape if measured.lora_shape else 1.0
    scaled = {
        name: (_COPIED._replace(factor=copies) if name.startswith("gpu") else _READ._replace(factor=weights))
        for name in LoadCost.model_fields
    }
    return ScaledLoads(
        LoadCost(**{name: getattr(cost, name) * one.factor for name, one in scaled.items()}), scaled
    )
