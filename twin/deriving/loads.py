"""Loads of adapters, scaled: copies to the GPU by the adapter's matrices, reads from disk by its weights."""

from __future__ import annotations

from collections.abc import Collection
from typing import NamedTuple

from scenarios import LorapackError
from twin.architectures import Linear, ModelArchitecture
from twin.deriving.scaling import Scaled
from twin.step_cost import LoadCost

_ATTENTION = ("q_proj", "k_proj", "v_proj", "o_proj")
_MEASURED_MODULES = {"Qwen2.5-7B-Instruct": _ATTENTION}
"""Matrices that the adapters of a measured model adapt, where not all of them.

Which they are is not on record. Qwen's loads take 0.47 (copies) and 0.19 (reads, by rank) of Llama's time:
four of its seven matrices a layer would be 0.50 of the copies and 0.24 of the weights, all seven 0.88 and
0.96.
"""

_COPIED = Scaled(1.0, "gpu load", "copies of single matrices: the host's work, not PCIe's bytes")
_READ = Scaled(1.0, "disk load", "weights of an adapter, read from a disk like the measured one's")


class UnknownModuleError(LorapackError, ValueError):
    """A model has no matrix of a name that adapters are said to adapt."""


class AdapterCounts(NamedTuple):
    """What an adapter of a model is made of.

    Parameters
    ----------
    matrices
        Matrices of the model that it adapts.
    weights
        Their inputs and outputs: its weights for each unit of rank.
    """

    matrices: int
    weights: int


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


def adapter_counts(model: ModelArchitecture, modules: Collection[str] | None) -> AdapterCounts:
    """Count the matrices and weights of an adapter.

    Parameters
    ----------
    model
        The base model.
    modules
        Names of the matrices that it adapts, as in an adapter_config.json; None: all.

    Raises
    ------
    UnknownModuleError
        If the model has no matrix of a name.
    """
    made = [m for layer in model.layers for m in layer.modules(model.hidden_size)]
    adapted = [m for m in made if isinstance(m, Linear) and m.adapted]
    parts = [(part.name, m.inputs + part.outputs) for m in adapted for part in m.parts if part.loaded]
    known = sorted({name for name, _ in parts})
    unknown = [name for name in modules or () if name not in known]
    if unknown:
        raise UnknownModuleError(
            f'target_modules names "{unknown[0]}", which {model.name} has not; it has {", ".join(known)}'
        )
    weights = [size for name, size in parts if modules is None or name in modules]
    return AdapterCounts(len(weights), sum(weights))


def measured_adapters(model: ModelArchitecture) -> AdapterCounts:
    """What the adapters of a measured model are made of."""
    return adapter_counts(model, _MEASURED_MODULES.get(model.name))


def scaled_loads(cost: LoadCost, measured: AdapterCounts, wanted: AdapterCounts) -> ScaledLoads:
    """Scale measured loads to other adapters.

    A copy to the GPU takes as long for rank 8 as for rank 32 (adapter_loads of both measured models: 6.4 to
    6.6 and 3.0 to 3.1 ms where ranks fit), so it is not limited by PCIe: it is a loop over matrices on the
    host.
    """
    copies = wanted.matrices / measured.matrices
    weights = wanted.weights / measured.weights
    scaled = {
        name: _COPIED._replace(factor=copies) if name.startswith("gpu") else _READ._replace(factor=weights)
        for name in LoadCost.model_fields
    }
    values = {name: getattr(cost, name) * one.factor for name, one in scaled.items()}
    return ScaledLoads(LoadCost(**values), scaled)
