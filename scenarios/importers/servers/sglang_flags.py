"""Flags of SGLang's server, in vLLM's words where both mean the same."""

from __future__ import annotations

from collections.abc import Sequence

from scenarios.importers.servers.command_flags import Flags, flags_of
from scenarios.importers.servers.engine_values import notes_on_unknown

NAMES = {
    "model": "model",
    "model_path": "model",
    "served_model_name": "served_model_name",
    "host": "host",
    "port": "port",
    "lora_paths": "lora_modules",
    "enable_lora": "enable_lora",
    "max_loras_per_batch": "max_loras",
    "max_loaded_loras": "max_cpu_loras",
    "max_lora_rank": "max_lora_rank",
    "lora_target_modules": "lora_target_modules",
    "context_length": "max_model_len",
    "max_running_requests": "max_num_seqs",
    "chunked_prefill_size": "max_num_batched_tokens",
    "tp": "tensor_parallel_size",
    "tp_size": "tensor_parallel_size",
    "tensor_parallel_size": "tensor_parallel_size",
    "pp_size": "pipeline_parallel_size",
    "pipeline_parallel_size": "pipeline_parallel_size",
    "dp": "data_parallel_size",
    "dp_size": "data_parallel_size",
    "data_parallel_size": "data_parallel_size",
    "dtype": "dtype",
    "quantization": "quantization",
    "kv_cache_dtype": "kv_cache_dtype",
}
"""What vLLM calls them (sglang/srt/arg_groups/fields of 0.5.23)."""

_NEGATED = {"disable_radix_cache": "enable_prefix_caching"}
_SWITCHES = frozenset({"enable_lora", *_NEGATED, "trust_remote_code", "enable_metrics"})
_SILENT = frozenset(
    {
        *("trust_remote_code", "enable_metrics", "api_key", "admin_api_key", "log_level", "log_requests"),
        *("chat_template", "tokenizer_path", "tokenizer_mode", "load_format", "random_seed", "device"),
        *("tool_call_parser", "reasoning_parser", "revision", "download_dir", "watchdog_timeout"),
    }
)
DEFAULT_SLOTS = "8"
"""Of ``--max-loras-per-batch`` (sglang/srt/arg_groups/fields/lora.py, 0.5.23)."""


def translated(words: Sequence[str], origin: str) -> tuple[Flags, tuple[str, ...]]:
    """The flags of a command of SGLang under vLLM's names, and what a user must know of them.

    Raises
    ------
    ImportSourceError
        If a flag cannot be meant.
    """
    given = flags_of(words, origin, frozenset(NAMES) | (_SILENT - _SWITCHES), _SWITCHES)
    values: dict[str, str | bool | list[str]] = {}
    unknown = []
    for name, value in given.values.items():
        if name in _NEGATED:
            values[_NEGATED[name]] = False
        elif name == "chunked_prefill_size" and value == "-1":
            continue
        elif name in NAMES:
            values[NAMES[name]] = value
        elif name not in _SILENT:
            unknown.append(f"--{name.replace('_', '-')}")
    notes = ["It is SGLang, and the twin plays vLLM: what is foretold of it is vLLM's."]
    if "lora_modules" in values or values.get("enable_lora") is True:
        notes.append("A slot of SGLang may go to requests of the base model (--max-loras-per-batch).")
        values.setdefault("max_loras", DEFAULT_SLOTS)
        if "max_lora_rank" not in values:
            notes.append("It states no --max-lora-rank: SGLang takes the largest of its adapters.")
    return Flags(values, given.loose), (*notes, *notes_on_unknown(unknown))
