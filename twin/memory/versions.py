"""How each release of vLLM shares a GPU's memory out: what it counts, and which CUDA graphs it captures.

Every rule is read from the source of the release that is named beside it.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Literal

from scenarios import EngineConfig
from twin.architectures import Attention, Experts, LatentAttention, ModelArchitecture
from twin.memory.launch import Version

V1_SINCE: Version = (0, 8, 0)
"""First release whose V1 engine is the default (vllm/envs.py)."""

OLDEST_READ: Version = (0, 4, 0)
NEWEST_READ: Version = (0, 32, 0)
"""Oldest and newest release whose rules were read."""

_V1_WITH_LORA: Version = (0, 8, 4)
_V1_IN_32_BITS: Version = (0, 9, 2)

Budget = Literal["reserved", "whole", "increase", "consumed"]
"""What the engine takes off its budget before the KV cache.

``reserved``: all that the free memory fell by since the process began, with what PyTorch's allocator keeps
(worker/worker.py, ``init_gpu_memory - free_gpu_memory``, to 0.6.3). ``whole``: PyTorch's peak and all else
on the GPU, the CUDA context and other processes with it (``non_torch_allocations``: V0 of 0.6.4; V1 to
0.9.0). ``increase``: PyTorch's peak and what else came since the process measured first, when the context
was there already, without what the allocator loses (``memory_profiling``: V0 from 0.6.5, V1 from 0.9.1).
``consumed``: the same as one difference of free memory, with what the allocator loses (from 0.27).
"""

Sizes = Literal["seqs", "steps_of_8", "twice_seqs", "steps_of_16", "all"]
"""Which batch sizes have a CUDA graph: 1, 2, 4, then every eighth up to a limit.

``seqs``: up to the next size of ``max_num_seqs`` (V0). ``steps_of_8``: up to 512, whatever the arguments
(V1 to 0.10.1). ``twice_seqs``: up to twice ``max_num_seqs``, 512 at most (0.10.2 to 0.11.0).
``steps_of_16``: the same, every sixteenth from 256 on (config/vllm.py, from 0.11.1). ``all``: every sixteenth
up to the largest, whatever ``max_num_seqs`` is.
"""


_RANKS: tuple[tuple[Version, tuple[int, ...]], ...] = (
    ((0, 0, 0), (8, 16, 32, 64)),
    ((0, 6, 0), (8, 16, 32, 64, 128, 256)),
    ((0, 8, 0), (8, 16, 32, 64, 128, 256, 320, 512)),
    ((0, 11, 1), (1, 8, 16, 32, 64, 128, 256, 320, 512)),
)


def lora_ranks(version: Version) -> tuple[int, ...]:
    """Values of ``max_lora_rank`` that a release takes, ascending (config.py, ``possible_max_ranks``).

    Read in 0.4.2, 0.5.4, 0.6.0, 0.7.0, 0.8.0, 0.11.0, 0.11.1 and those between and since.
    """
    return [ranks for since, ranks in _RANKS if since <= version][-1]


@dataclass(frozen=True)
class MemoryRules:
    """Rules of one engine of a release.

    Parameters
    ----------
    budget
        What is taken off before the KV cache.
    sizes
        Batch sizes with a CUDA graph, at most ``max_num_batched_tokens``.
    full_graphs
        Whether decode steps of up to ``max_num_seqs`` requests have a whole graph beside the piecewise one of
        each size (``FULL_AND_PIECEWISE``, from 0.11.0).
    full_graphs_of_states
        Whether only models with states have them (models/config.py, ``MambaModelConfig``, 0.10.2).
    largest
        Largest batch with a graph.
    lora_twice
        Whether engines with adapters capture graphs without them too (``cudagraph_specialize_lora``).
    keeps_workspace
        Whether the experts' buffers stay while the sampler runs (v1/worker/workspace.py, from 0.13.0).
    needs_room
        Whether the engine refuses to begin where ``gpu_memory_utilization`` asks for more than is free
        (v1/worker/gpu_worker.py, ``requested_memory``, from 0.9.1).
    """

    budget: Budget
    sizes: Sizes
    full_graphs: bool = False
    full_graphs_of_states: bool = False
    largest: int = 512
    lora_twice: bool = False
    keeps_workspace: bool = False
    needs_room: bool = False


_GRAPHS_COUNTED_SINCE: Version = (0, 20, 0)
_RUNNERS_AGREE_SINCE: Version = (0, 29, 0)
_NEW_RUNNER: tuple[tuple[Version, frozenset[str]], ...] = (
    ((0, 22, 0), frozenset({"qwen3"})),
    ((0, 23, 0), frozenset({"llama", "mistral", "qwen3"})),
    ((0, 24, 0), frozenset({"llama", "mistral", "qwen3", "deepseek_v2", "qwen2_moe", "granitemoe"})),
    ((0, 25, 0), frozenset({"deepseek_v2", "qwen2_moe", "granitemoe"})),
)
_NEW_RUNNER_FOR_QUANTISED: Version = (0, 24, 0)
_NEW_RUNNER_FOR_DENSE: Version = (0, 25, 0)


def counts_graphs(version: Version, model: ModelArchitecture) -> bool:
    """Whether the engine takes its estimate of the CUDA graphs off the budget of the KV cache.

    ``VLLM_MEMORY_PROFILER_ESTIMATE_CUDAGRAPHS`` is on by default from 0.20.0 (vllm/envs.py). The second model
    runner had no estimate before 0.29 (v1/worker/gpu/model_runner.py, ``profile_cudagraph_memory``).
    """
    if version < _GRAPHS_COUNTED_SINCE or version >= _RUNNERS_AGREE_SINCE:
        return version >= _RUNNERS_AGREE_SINCE
    return not on_new_runner(version, model)


def on_new_runner(version: Version, model: ModelArchitecture) -> bool:
    """Whether a model runs on the second model runner (v1/worker/gpu/model_runner.py) by default.

    Models moved one by one (config/vllm.py, ``DEFAULT_V2_MODEL_RUNNER_ARCHITECTURES``), quantised ones not
    before 0.24, and all dense ones with 0.25.
    """
    moved = [models for since, models in _NEW_RUNNER if since <= version]
    if not moved or (model.quantization is not None and version < _NEW_RUNNER_FOR_QUANTISED):
        return False
    plain_dense = version >= _NEW_RUNNER_FOR_DENSE and _is_dense(model)
    return plain_dense or model.model_type in moved[-1]


def has_states(model: ModelArchitecture) -> bool:
    """Whether a model has layers that keep a state in place of keys and values."""
    mixers = (mixer for layer in model.layers for mixer in layer.mixers)
    return not all(isinstance(mixer, Attention | LatentAttention) for mixer in mixers)


def _is_dense(model: ModelArchitecture) -> bool:
    """Whether a model has neither experts nor states."""
    experts = any(isinstance(layer.feed_forward, Experts) for layer in model.layers)
    return not experts and not has_states(model)


def is_v1(version: Version, engine: EngineConfig, max_loras: int) -> bool:
    """Whether a release runs its V1 engine with these arguments, unless told otherwise.

    Up to 0.8.3 engines with adapters, offloaded or bitsandbytes' weights, and up to 0.9.1 those with
    activations in 32 bits fell back to V0 (engine/arg_utils.py, ``_is_v1_supported_oracle``).
    """
    if version < V1_SINCE:
        return False
    young = version < _V1_WITH_LORA
    if young and (max_loras or engine.cpu_offload_gb or engine.quantization == "bitsandbytes"):
        return False
    return engine.dtype != "float32" or version >= _V1_IN_32_BITS


def rules_of(version: Version, v1: bool) -> MemoryRules:
    """The rules of a release's V0 or V1 engine."""
    return _v1_rules(version) if v1 else _v0_rules(version)


def _v0_rules(version: Version) -> MemoryRules:
    rules = MemoryRules("increase", "seqs")
    if version < (0, 6, 4):
        return replace(rules, budget="reserved")
    return replace(rules, budget="whole") if version < (0, 6, 5) else rules


def _v1_budget(version: Version) -> Budget:
    if version < (0, 9, 1):
        return "whole"
    return "increase" if version < (0, 27, 0) else "consumed"


def _v1_rules(version: Version) -> MemoryRules:
    rules = MemoryRules(
        budget=_v1_budget(version),
        sizes="steps_of_8" if version < (0, 10, 2) else "twice_seqs",
        needs_room=version >= (0, 9, 1),
        full_graphs_of_states=version >= (0, 10, 2),
    )
    if version >= (0, 11, 0):
        rules = replace(rules, full_graphs=True)
    if version >= (0, 11, 1):
        rules = replace(rules, sizes="steps_of_16", lora_twice=True)
    if version >= (0, 13, 0):
        rules = replace(rules, keeps_workspace=True)
    return rules
