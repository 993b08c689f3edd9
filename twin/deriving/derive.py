"""A profile of a model and a GPU that nobody measured, scaled from one that was."""

from __future__ import annotations

import math
from collections.abc import Collection
from pathlib import Path

from scenarios import GPU, LorapackError, find_gpu
from twin.architectures import ModelArchitecture
from twin.deriving.base_step import Machine
from twin.deriving.counts import ModelCounts, model_counts
from twin.deriving.loads import ScaledLoads, adapter_counts, measured_adapters, scaled_loads
from twin.deriving.penalties import pays_penalty
from twin.deriving.scaling import Scaled
from twin.deriving.speeds import gpu_speeds
from twin.deriving.sureness import Distance, share_of
from twin.deriving.terms import DerivedTerm, derived_terms
from twin.memory import memory_model
from twin.memory.kv_cache import LONGEST
from twin.profile import Derivation, EngineProfile, Provenance, ScaledTerm, Uncertainty, shipped_profiles
from twin.startup.question import architecture_of
from twin.step_cost import StepCost

_FEW_ON_PCIE = 2
"""GPUs whose sums over PCIe are as counted; on 4 and 8 L40S they reach 0.16 and 0.05 of a link, not 0.59 as
on 2 (aiconfigurator-core 0.12, comm/nccl)."""


class DerivationError(LorapackError, ValueError):
    """A profile cannot be scaled to what is asked for."""


def derive_profile(
    model: str | Path | ModelArchitecture,
    device: str,
    *,
    source: EngineProfile | None = None,
    tensor_parallel_size: int = 1,
    repetition_penalty: bool | None = None,
    target_modules: Collection[str] | None = None,
) -> EngineProfile:
    """Scale a measured profile to another model, another GPU or several, each term by what it is made of.

    The release of the engine stays that of the measurements, and so do the lengths of requests and the
    server. Deriving what was measured gives the same costs.

    Parameters
    ----------
    model
        Name of a shipped model, its config.json or the folder that holds it, or its facts.
    device
        A GPU of the catalogue.
    source
        A measured profile; absent: the shipped one whose weights are nearest in size.
    tensor_parallel_size
        GPUs of an engine.
    repetition_penalty
        Whether requests have a repetition penalty, which costs each a pass over the vocabulary in every step;
        absent: as the model's makers recommend, which vLLM obeys unless it is told otherwise.

    target_modules
        Matrices that adapters adapt, as their adapter_config.json names them, for what loads cost; absent: as
        those that were measured where the model is that, else all.

    Raises
    ------
    ArchitectureError
        If the model is not known or its config.json is wrong.
    UnknownGPUError
        If the catalogue has no such GPU.
    MissingFigureError
        If it lacks a figure of a GPU that is needed.
    DerivationError
        If the source is itself derived, or the number of GPUs is none.
    UnknownModuleError
        If the model has no matrix of a name in ``target_modules``.
    TensorParallelError
        If the model cannot be divided over so many GPUs.
    """
    architecture, gpu = architecture_of(model), find_gpu(device)
    chosen = source or _nearest(architecture)
    _check(chosen, tensor_parallel_size)
    if repetition_penalty is None:
        repetition_penalty = pays_penalty(architecture.name, model)
    profile = _blank(chosen, architecture, gpu, tensor_parallel_size)
    counts = model_counts(profile.memory, profile.measured)
    wanted = Machine(counts, gpu_speeds(gpu, counts.arithmetic, joined=tensor_parallel_size > 1))
    measured = _machine_of(chosen)
    penalties = (pays_penalty(chosen.memory.architecture.name, None), repetition_penalty)
    terms = derived_terms(chosen.step, measured, wanted, penalties, tensor_parallel_size)
    loads = _loads(chosen, architecture, target_modules)
    away = Distance.between(measured, wanted)
    shares = {one.term.name: _share(one, away) for one in terms}
    shares |= {f"loads.{name}": share_of(one.part, away) for name, one in loads.scaled.items()}
    told = [_told(one.term.name, one.factor, one.scaled) for one in terms]
    told += [_told(f"loads.{name}", one.factor, one) for name, one in loads.scaled.items()]
    return profile.model_copy(
        update={
            "step": StepCost(terms=tuple(one.term for one in terms)),
            "loads": loads.cost,
            "uncertainty": Uncertainty(shares={name: share for name, share in shares.items() if share > 0}),
            "derived": Derivation(
                source=chosen.name,
                model=chosen.model,
                device=chosen.device,
                engine_version=chosen.engine_version,
                tensor_parallel_size=tensor_parallel_size,
                terms=tuple(told),
                note=_note(counts, gpu, tensor_parallel_size),
            ),
        }
    )


def _loads(
    source: EngineProfile, architecture: ModelArchitecture, modules: Collection[str] | None
) -> ScaledLoads:
    measured = measured_adapters(source.memory.architecture)
    own = modules is None and architecture == source.memory.architecture
    return scaled_loads(source.loads, measured, measured if own else adapter_counts(architecture, modules))


def _blank(source: EngineProfile, architecture: ModelArchitecture, gpu: GPU, gpus: int) -> EngineProfile:
    """The source under another name, with the model and the GPU of the derived one but not yet its costs."""
    own = architecture == source.memory.architecture
    name = source.model if own else architecture.name.rsplit("/", 1)[-1].lower()
    several = f".tp{gpus}" if gpus > 1 else ""
    longest = min(architecture.max_position_embeddings, LONGEST)
    return source.model_copy(
        update={
            "name": f"{name}.{gpu.name.lower()}{several}.derived",
            "model": name,
            "device": gpu.name,
            "gpu_memory_gib": source.gpu_memory_gib if gpu.name == source.device else gpu.memory_gib,
            "measured": source.measured.model_copy(
                update={"tensor_parallel_size": gpus, "max_model_len": longest}
            ),
            "memory": source.memory if own else memory_model(architecture, source.engine_version),
            "provenance": Provenance(
                source=f"derived from {source.name}: {source.provenance.source}",
                command="lorapack profile derive",
                runs=0,
                probes=0,
                note=f"not measured; step cost of vLLM {source.engine_version}",
            ),
        }
    )


def _check(source: EngineProfile, gpus: int) -> None:
    if source.derived is not None:
        raise DerivationError(
            f'profile "{source.name}" is itself derived, from "{source.derived.source}"; derive from that one'
        )
    if source.measured.tensor_parallel_size > 1:
        raise DerivationError(
            f'profile "{source.name}" is of {source.measured.tensor_parallel_size} GPUs an engine, whose '
            "sums are in its step cost; derive from one of a single GPU"
        )
    if gpus < 1:
        raise DerivationError(f"tensor_parallel_size is {gpus}; give 1 or more")


def _nearest(architecture: ModelArchitecture) -> EngineProfile:
    """The shipped profile of the model itself, or of that whose size is nearest."""

    def distance(profile: EngineProfile) -> float:
        known = profile.memory.architecture
        return (
            0.0 if known == architecture else 1e-9 + abs(math.log(known.parameters / architecture.parameters))
        )

    return min(shipped_profiles(), key=distance)


def _machine_of(source: EngineProfile) -> Machine:
    """The model and the GPU that a profile was measured with."""
    counts = model_counts(source.memory, source.measured)
    joined = source.measured.tensor_parallel_size > 1
    return Machine(counts, gpu_speeds(find_gpu(source.device), counts.arithmetic, joined=joined))


def _share(one: DerivedTerm, away: Distance) -> float:
    """Share of a term, of which a part may be the host's."""
    own, host = share_of(one.scaled.part, away), share_of("host", away)
    return (1 - one.host_share) * own + one.host_share * host


def _told(name: str, factor: float | None, scaled: Scaled) -> ScaledTerm:
    return ScaledTerm(name=name, factor=factor, part=scaled.part, cause=scaled.cause)


def _note(counts: ModelCounts, gpu: GPU, gpus: int) -> str:
    """What of a step is not counted."""
    remarks = []
    if counts.expert_bytes:
        remarks.append("adapters of experts are not counted, nor their dispatch")
    if gpus > 1:
        remarks.append("work of the host for several workers is not counted")
    if gpus > _FEW_ON_PCIE and gpu.interconnect is not None and gpu.interconnect.kind == "pcie":
        remarks.append("sums of more than two GPUs over PCIe can take many times longer than counted")
    return "; ".join(remarks)
