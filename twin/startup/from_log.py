"""A memory model that agrees with the log of a server, to be asked about other arguments."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from scenarios import EngineConfig, FurtherArguments, StartupLog
from twin.memory import MemoryModel
from twin.memory.allocator import GIB
from twin.memory.footprint import Footprint, footprint, kv_of

_FORWARD = (
    "forward_gib",
    "forward_intermediate",
    "forward_hidden",
    "embedding_copies",
    "sampler_gib",
    "sampler_bytes",
)
_LEAST = 0.001
_MANY = 1_000_000
"""Blocks of which the tokens are told, to know the share of one."""

_GRAPHS = ("graph_gib", "graph_layer_gib", "graph_layer_lora_gib")


_OF_LORA = ("enable_lora", "max_loras", "max_lora_rank")


def arguments_of(log: StartupLog) -> dict[str, Any]:
    """Arguments of a log on which memory depends, and those of its adapters."""
    return {
        name: value
        for name, value in log.arguments.items()
        if name in _OF_LORA or name in EngineConfig.model_fields.keys() - FurtherArguments.model_fields.keys()
    }


def corrected(
    memory: MemoryModel,
    engine: EngineConfig,
    gpu_memory_gib: float,
    max_loras: int,
    rank: int,
    log: StartupLog,
) -> MemoryModel:
    """The memory model with the parts that the log tells.

    Weights are those of the log, less the slots that were there; activation and graphs are scaled, so that
    they follow other batches as the formulas do; what is left between the budget, these and the KV cache of
    the log is a constant.

    Parameters
    ----------
    memory
        Memory of the model under the log's engine.
    engine, max_loras, rank
        Arguments of the engine of the log, and its slots.
    gpu_memory_gib
        Memory of its GPU.
    log
        What the engine said.
    """

    def use(of: MemoryModel) -> Footprint:
        return footprint(of, engine, gpu_memory_gib, max_loras, rank)

    if log.weights_gib is not None:
        weights = log.weights_gib + engine.cpu_offload_gb - use(memory).slots_gib
        memory = memory.model_copy(update={"weights_gib": max(_LEAST, weights)})
    if log.activation_gib is not None:
        memory = _scaled(memory, _FORWARD, log.activation_gib, lambda of: use(of).activation_gib)
    if log.graph_gib is not None:
        memory = _scaled(memory, _GRAPHS, log.graph_gib, lambda of: use(of).graph_gib)
    left = _kv_gib(memory, engine, max_loras, rank, log)
    if left is not None:
        off = use(memory).kv_gib - left
        memory = memory.model_copy(update={"context_gib": max(0.0, memory.context_gib + off)})
    return memory.model_copy(update={"provenance": "the log of a start, and the model's shapes"})


def _scaled(
    memory: MemoryModel, names: tuple[str, ...], told: float, part: Callable[[MemoryModel], float]
) -> MemoryModel:
    """The model with some constants scaled so that a part is as told, as far as it depends on them."""

    def times(factor: float) -> MemoryModel:
        return memory.model_copy(update={name: getattr(memory, name) * factor for name in names})

    without, computed = part(times(0.0)), part(memory)
    if computed <= without:
        return memory
    return times(max(0.0, (told - without) / (computed - without)))


def _kv_gib(
    memory: MemoryModel, engine: EngineConfig, max_loras: int, rank: int, log: StartupLog
) -> float | None:
    """GiB of the log's KV cache; from its blocks or tokens where it does not say them."""
    if log.kv_cache_gib is not None:
        return log.kv_cache_gib
    kv = kv_of(memory, engine, max_loras, rank)
    if log.num_gpu_blocks is not None:
        return log.num_gpu_blocks * kv.block_bytes / GIB
    if log.kv_cache_tokens is None:
        return None
    blocks_of_a_token = _MANY / max(1, kv.tokens(_MANY))
    return log.kv_cache_tokens * blocks_of_a_token * kv.block_bytes / GIB
