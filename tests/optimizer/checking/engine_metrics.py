"""Texts as /metrics of vLLM, SGLang and gateways answer them, of runs of the twin at an instant."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from twin import SimulationResult

BOOT_S = 1_790_000_000.0
"""When the servers of the tests started, in seconds since 1970."""


def vllm_text(
    run: SimulationResult,
    at_s: float,
    *,
    since_s: float = 0.0,
    names: Sequence[str] = (),
    slots: int = 8,
    kv_cache_tokens: int | None = None,
    preemptions: float = 0.0,
    errors: float = 0.0,
    kv_name: str = "vllm:kv_cache_usage_perc",
    started_s: float = BOOT_S,
) -> str:
    """What vLLM would answer ``at_s`` after a run's start, and which adapters it saw from ``since_s`` on."""
    records, requests = run.records, run.records.requests
    done = records.finish_s <= at_s
    sent, scheduled = records.sent_s <= at_s, records.first_scheduled_s <= at_s
    running, waiting = int((scheduled & ~done).sum()), int((sent & ~scheduled).sum())
    series, width = records.series, records.series_width_s
    kv_use = series[min(int(at_s / width), len(series) - 1), 4] / width / run.usable_blocks
    tokens = run.kv_cache_tokens if kv_cache_tokens is None else kv_cache_tokens
    seen = np.unique(requests.adapter[sent & ~(records.finish_s < since_s)])
    told = ",".join(names[k] if names else run.names[k] for k in seen)
    label = 'engine="0",model_name="base"'
    lines = [
        f"# time: {BOOT_S + at_s}",
        f"process_start_time_seconds {started_s}",
        f"vllm:num_requests_running{{{label}}} {running}",
        f"vllm:num_requests_waiting{{{label}}} {waiting}",
        f"{kv_name}{{{label}}} {kv_use}",
        f"vllm:num_preemptions_total{{{label}}} {preemptions}",
        f'vllm:request_success_total{{finished_reason="length",{label}}} {int(done.sum())}',
        f'vllm:request_success_total{{finished_reason="error",{label}}} {errors}',
        f"vllm:request_prompt_tokens_count{{{label}}} {int(done.sum())}",
        f"vllm:request_prompt_tokens_sum{{{label}}} {int(requests.prompt_tokens[done].sum())}",
        f"vllm:request_generation_tokens_count{{{label}}} {int(done.sum())}",
        f"vllm:request_generation_tokens_sum{{{label}}} {int(requests.output_tokens[done].sum())}",
        f'vllm:lora_requests_info{{max_lora="{slots}",running_lora_adapters="{told}",'
        f'waiting_lora_adapters=""}} {BOOT_S + at_s}',
        f'vllm:cache_config_info{{block_size="16",engine="0",num_gpu_blocks="{tokens // 16}"}} 1.0',
    ]
    return "\n".join(lines) + "\n"


def sglang_text(run: SimulationResult, at_s: float) -> str:
    """What SGLang would answer; another rank of the engine tells the same."""
    records, requests = run.records, run.records.requests
    done = records.finish_s <= at_s
    running = int(((records.first_scheduled_s <= at_s) & ~done).sum())
    lines = [f"# time: {BOOT_S + at_s}"]
    for rank in (0, 1):
        label = f'model_name="base",tp_rank="{rank}"'
        lines += [
            f"sglang:num_running_reqs{{{label}}} {running}",
            f"sglang:num_queue_reqs{{{label}}} 0",
            f"sglang:token_usage{{{label}}} 0.05",
            f"sglang:max_total_num_tokens{{{label}}} {run.kv_cache_tokens}",
            f"sglang:lora_pool_slots_total{{{label}}} 8",
            f"sglang:num_retracted_requests_total{{{label}}} 0",
        ]
    lines += [
        f'sglang:num_requests_total{{is_streaming="true",model_name="base"}} {int(done.sum())}',
        f'sglang:prompt_tokens_total{{model_name="base"}} {int(requests.prompt_tokens[done].sum())}',
        f'sglang:generation_tokens_total{{model_name="base"}} {int(requests.output_tokens[done].sum())}',
    ]
    return "\n".join(lines) + "\n"


def gateway_text(counts: dict[str, int], at_s: float) -> str:
    """What LiteLLM's proxy would answer."""
    metric = "litellm_proxy_total_requests_metric_total"
    lines = [f'{metric}{{requested_model="{name}",user="anna"}} {count}' for name, count in counts.items()]
    return "\n".join([f"# time: {BOOT_S + at_s}", *lines]) + "\n"
