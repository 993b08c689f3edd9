"""Which releases of vLLM have which of our arguments, where not all since 0.8.0 have them.

Read from ``add_argument`` in vllm/engine/arg_utils.py of the releases 0.8.0 to 0.32.0, 32 of them: of an
argument that came or went between two of these, the release named is the nearest that was read.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Literal

RELEASES: Mapping[str, tuple[str | None, str | None]] = {
    "speculative_config": ("0.8.2", None),
    "scheduler_reserve_full_isl": ("0.19.0", None),
    "watermark": ("0.24.0", None),
    "max_num_scheduled_tokens": ("0.26.0", None),
    "max_num_active_seqs": ("0.32.0", None),
    "kv_cache_memory_bytes": ("0.10.2", None),
    "data_parallel_size": ("0.8.4", None),
    "async_scheduling": ("0.10.0", None),
    "max_num_partial_prefills": (None, "0.26.0"),
    "max_long_partial_prefills": (None, "0.26.0"),
    "long_prefill_token_threshold_adaptive": ("0.32.0", None),
    "prefill_schedule_interval": ("0.24.0", None),
    "max_num_queued_reqs": ("0.29.0", None),
    "max_num_queued_tokens": ("0.29.0", None),
    "num_scheduler_steps": (None, "0.10.0"),
    "num_lookahead_slots": (None, "0.11.2"),
    "scheduler_delay_factor": (None, "0.10.2"),
    "preemption_mode": (None, "0.10.2"),
    "disable_async_output_proc": (None, "0.10.2"),
    "swap_space": (None, "0.17.0"),
    "stream_interval": ("0.11.1", None),
    "disable_chunked_mm_input": ("0.8.4", None),
    "kv_offloading_size": ("0.11.1", None),
    "kv_offloading_backend": ("0.11.1", None),
    "disable_hybrid_kv_cache_manager": ("0.9.1", None),
    "kv_cache_dtype_skip_layers": ("0.19.0", None),
    "calculate_kv_scales": (None, "0.27.0"),
    "mamba_cache_dtype": ("0.10.1", None),
    "mamba_ssm_cache_dtype": ("0.10.1", None),
    "mamba_block_size": ("0.11.1", None),
    "mamba_cache_mode": ("0.15.0", None),
    "offload_backend": ("0.17.0", None),
    "offload_group_size": ("0.17.0", None),
    "offload_num_in_group": ("0.17.0", None),
    "offload_prefetch_step": ("0.17.0", None),
    "language_model_only": ("0.17.0", None),
    "skip_mm_profiling": ("0.10.1", None),
    "lora_extra_vocab_size": (None, "0.11.2"),
    "enable_lora_bias": (None, "0.11.0"),
    "enable_tower_connector_lora": ("0.14.0", None),
    "enable_mixed_moe_lora_format": ("0.22.0", None),
    "enable_moe_shared_loras": ("0.26.0", None),
    "enable_prompt_adapter": (None, "0.10.1"),
    "cudagraph_capture_sizes": ("0.11.1", None),
    "max_cudagraph_capture_size": ("0.11.1", None),
    "max_seq_len_to_capture": (None, "0.10.2"),
    "optimization_level": ("0.12.0", None),
    "performance_mode": ("0.17.0", None),
    "attention_backend": ("0.13.0", None),
    "moe_backend": ("0.17.0", None),
    "linear_backend": ("0.22.0", None),
    "all2all_backend": ("0.11.1", None),
    "disable_cascade_attn": ("0.8.2", None),
    "kv_sharing_fast_prefill": ("0.10.1", None),
    "decode_context_parallel_size": ("0.10.2", None),
    "prefill_context_parallel_size": ("0.12.0", None),
    "enable_dbo": ("0.11.0", None),
    "enable_eplb": ("0.9.2", None),
    "lora_target_modules": ("0.19.0", None),
    "specialize_active_lora": ("0.16.0", None),
}
"""First and last release with the argument; None: it is older than 0.8.0, or still there in 0.32.0."""


ONE_WAY: Mapping[str, str | None] = {
    "enable_lora": "0.8.5",
    "enable_expert_parallel": "0.8.5",
    "fully_sharded_loras": "0.8.5",
    "calculate_kv_scales": "0.8.5",
    "enable_lora_bias": "0.8.5",
    "disable_custom_all_reduce": "0.8.5",
    "enforce_eager": "0.9.0",
    "disable_sliding_window": "0.9.0",
    "enable_sleep_mode": "0.9.0",
    "disable_cascade_attn": "0.9.0",
    "disable_async_output_proc": None,
    "enable_prompt_adapter": None,
}
"""First release in which a switch can be said to be off too, as ``--no-enforce-eager``; None: there is none.

Before it the switch is off unless it is named (``action="store_true"``), and ``--no-`` is refused.
"""

AS_WORD: Mapping[str, str] = {"enable_chunked_prefill": "0.8.5", "disable_chunked_mm_input": "0.8.5"}
"""First release in which a switch takes no word; before it ``true`` or ``false`` (``StoreBoolean``)."""

AS_PAIRS: Mapping[str, str] = {"limit_mm_per_prompt": "0.8.5"}
"""First release that takes JSON for an argument; before it ``image=2,video=1`` (``nullable_kvs``)."""

SwitchForm = Literal["either", "on alone", "word"]
"""How a release takes a switch: ``--x`` and ``--no-x``, ``--x`` or nothing, ``--x=false``."""


def switch_form(name: str, release: str | None) -> SwitchForm:
    """How a release takes one of our switches; where the release is not known, the newest is meant."""
    if name in AS_WORD:
        return "word" if release is not None and _parts(release) < _parts(AS_WORD[name]) else "either"
    first = ONE_WAY.get(name, "0")
    if first is None:
        return "on alone"
    return "on alone" if release is not None and _parts(release) < _parts(first) else "either"


FIRST_RESOLVER = "0.9.0"
"""First release with the resolver of folders (vllm/plugins/lora_resolvers/filesystem_resolver.py)."""


def has_resolver(release: str | None) -> bool:
    """Whether a release finds adapters in a folder by their names."""
    return release is None or _parts(release) >= _parts(FIRST_RESOLVER)


def takes_pairs(name: str, release: str | None) -> bool:
    """Whether a release wants ``KEY=NUMBER`` with commas between where others take JSON."""
    return name in AS_PAIRS and release is not None and _parts(release) < _parts(AS_PAIRS[name])


def has_argument(name: str, release: str | None) -> bool:
    """Whether a release has an argument of ours; where the release is not known, the newest is meant."""
    first, last = RELEASES.get(name, (None, None))
    if release is None:
        return last is None
    parts = _parts(release)
    return (first is None or parts >= _parts(first)) and (last is None or parts <= _parts(last))


def _parts(release: str) -> tuple[int, ...]:
    """The numbers that a release begins with: of ``0.8.5.post1`` 0, 8 and 5."""
    numbers = []
    for part in release.split("."):
        digits = part[: len(part) - len(part.lstrip("0123456789"))]
        if not digits or len(digits) > 6:
            break
        numbers.append(int(digits))
        if digits != part:
            break
    return tuple(numbers)
