"""What an engine takes where its user says nothing, by release, GPU and model."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from scenarios import EngineConfig
from twin.architectures import Attention, ModelArchitecture
from twin.memory.launch import Version
from twin.memory.versions import is_v1

_LARGE_GIB = 70.0
_HUGE_GIB = 160.0
_LEAST_TOKENS = 2048
_LONG = 32_768
"""Tokens of ``max_model_len`` above which a V0 engine chunks its prompts."""

_CHUNKS_SINCE: Version = (0, 5, 4)
"""Release in which V0 chunks the prompts of long models by default; 0.4.2 does not."""
_MANY_TOKENS_SINCE: Version = (0, 6, 5)
"""Release from which chunks make batches of 2,048 tokens; to 0.6.4 of 512."""
_PICTURES_WHOLE_SINCE: Version = (0, 6, 2)
"""Release from which V0 does not chunk prompts with pictures; 0.6.0 does."""
_LATENT_WHOLE_SINCE: Version = (0, 8, 0)
"""Release from which V0 does not chunk prompts of latent attention; 0.7.0 does."""
_PICTURE_TOKENS: tuple[tuple[Version, int], ...] = (((0, 6, 0), 4096), ((0, 6, 4), 5120))
"""Least batch of a V0 engine that sees pictures (``_MULTIMODAL_MODEL_MAX_NUM_BATCHED_TOKENS``)."""

_SEQUENCES_BY_GPU_SINCE: Version = (0, 8, 4)
"""Release from which V1's ``max_num_seqs`` depends on the GPU; to 0.8.2 it is 1,024 on all."""
_NO_MORE_THAN_FITS_SINCE: Version = (0, 12, 0)
"""Release from which a batch has at most ``max_num_seqs`` × ``max_model_len`` tokens; 0.11.0 has more."""


def default_arguments(
    model: ModelArchitecture,
    version: Version,
    gpu_memory_gib: float,
    device: str = "",
    *,
    given: Mapping[str, Any] | None = None,
    max_loras: int = 0,
    v1: bool | None = None,
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
    given
        Arguments that are given, on which others' defaults depend.
    max_loras
        Adapter slots, without which V0 engines chunk long prompts.
    v1
        Whether the V1 engine runs; absent: as the release and the arguments make it.
    """
    known = {"max_model_len": model.max_position_embeddings, **(given or {})}
    # Batches, and adapters, are checked against each other when all are known.
    apart = ("max_num_seqs", "max_num_batched_tokens", "max_cpu_loras")
    alone = {name: known[name] for name in known if name not in apart}
    if is_v1(version, EngineConfig(**alone), max_loras) if v1 is None else v1:
        sequences, tokens = _v1_batch(version, gpu_memory_gib, device.lower())
    else:
        sequences, tokens = 256, _v0_tokens(model, version, known["max_model_len"], max_loras)
    if version >= _NO_MORE_THAN_FITS_SINCE:
        tokens = min(tokens, known.get("max_num_seqs", sequences) * known["max_model_len"])
    return {
        "max_num_seqs": min(sequences, known.get("max_num_batched_tokens", tokens)),
        "max_num_batched_tokens": tokens,
        "max_model_len": model.max_position_embeddings,
        "gpu_memory_utilization": 0.92 if version >= (0, 20, 0) else 0.9,
        "block_size": 16,
    }


def _v1_batch(version: Version, gpu_memory_gib: float, device: str) -> tuple[int, int]:
    """Most requests and tokens of a batch (``_set_default_args_v1``, ``get_batch_defaults``)."""
    if gpu_memory_gib >= _HUGE_GIB and version >= (0, 28, 0):
        return 1024, 16_384
    large = _takes_large_batches(version, gpu_memory_gib, device)
    return 1024 if large or version < _SEQUENCES_BY_GPU_SINCE else 256, 8192 if large else 2048


def _takes_large_batches(version: Version, gpu_memory_gib: float, device: str) -> bool:
    if version < (0, 8, 5):
        return "h100" in device or "h200" in device
    return gpu_memory_gib >= _LARGE_GIB and (version < (0, 9, 0) or "a100" not in device)


def _v0_tokens(model: ModelArchitecture, version: Version, max_model_len: int, max_loras: int) -> int:
    """Most tokens of a batch of a V0 engine, which runs prompts whole unless it chunks them.

    config.py, ``SchedulerConfig``, and engine/arg_utils.py, ``_set_default_args_v0``.
    """
    pictures = model.vision_parameters > 0
    whole = pictures and version >= _PICTURES_WHOLE_SINCE
    whole |= bool(model.kv_lora_rank) and version >= _LATENT_WHOLE_SINCE
    mixers = [mixer for layer in model.layers for mixer in layer.mixers]
    windows = any(isinstance(mixer, Attention) and mixer.window for mixer in mixers)
    chunks = max_model_len > _LONG and version >= _CHUNKS_SINCE and not (whole or windows or max_loras)
    tokens = max(max_model_len, _LEAST_TOKENS)
    if chunks:
        tokens = _LEAST_TOKENS if version >= _MANY_TOKENS_SINCE else 512
    if pictures:
        tokens = max([tokens, *(least for since, least in _PICTURE_TOKENS if since <= version)])
    return tokens
