"""What an engine takes where its user says nothing, by release, GPU and model."""

from __future__ import annotations

from typing import Any

from twin.architectures import ModelArchitecture
from twin.memory.launch import Version

_LARGE_GIB = 70.0
_HUGE_GIB = 160.0


def default_arguments(
    model: ModelArchitecture, version: Version, gpu_memory_gib: float, device: str = ""
) -> dict[str, Any]:
    """Arguments of ``vllm serve MODEL`` without more, as far as memory depends on them.

    Parameters
    ----------
    model
        The base model; its longest sequence is the engine's.
    version
        Release of vLLM.
    gpu_memory_gib
        Memory of the GPU; engines on large ones take larger batches (vllm/engine/arg_utils.py: from 70 GiB,
        from 0.8.5, but no A100 from 0.9.0; from 160 GiB, from 0.28).
    device
        Name of the GPU; to 0.8.4 it alone decides.
    """
    longest = model.max_position_embeddings
    sequences, tokens = 256, 2048
    if version < (0, 8, 0):
        tokens = max(longest, 2048)  # V0 runs prompts whole, unless asked to chunk them
    elif gpu_memory_gib >= _HUGE_GIB and version >= (0, 28, 0):
        sequences, tokens = 1024, 16_384
    elif _takes_large_batches(version, gpu_memory_gib, device.lower()):
        sequences, tokens = 1024, 8192
    return {
        "max_num_seqs": min(sequences, tokens),
        "max_num_batched_tokens": tokens,
        "max_model_len": longest,
        "gpu_memory_utilization": 0.92 if version >= (0, 20, 0) else 0.9,
        "block_size": 16,
    }


def _takes_large_batches(version: Version, gpu_memory_gib: float, device: str) -> bool:
    if version < (0, 8, 5):
        return "h100" in device or "h200" in device
    return gpu_memory_gib >= _LARGE_GIB and (version < (0, 9, 0) or "a100" not in device)
