"""Small valid files of measurements, and of what else the twin reads."""

from __future__ import annotations

import csv
import io
import json

MODEL = "llama-3.1-8b-instruct"


def table(*rows: tuple[object, ...]) -> bytes:
    """Rows as CSV."""
    text = io.StringIO()
    csv.writer(text, lineterminator="\n").writerows(rows)
    return text.getvalue().encode()


RUNS = table(
    (
        "run_id",
        "model",
        "max_loras",
        "n_adapters",
        "max_lora_rank",
        "rates",
        "sizes",
        "total_time_s",
        "max_num_seqs",
        "kv_cache_tokens",
        "arrivals_est",
        "status",
        "quality",
        "total_throughput",
        "itl_mean_ms",
        "tpot_mean_ms",
        "ttft_mean_ms",
        "starved",
        "running_mean",
        "waiting_mean",
        "kv_usage_mean",
    ),
    (
        "a",
        MODEL,
        8,
        8,
        16,
        "0.4;0.2",
        "8;16",
        30,
        256,
        100_000,
        72,
        "ok",
        "clean",
        900,
        12,
        12,
        60,
        False,
        3,
        0,
        0.1,
    ),
    (
        "b",
        MODEL,
        4,
        8,
        16,
        "0.8",
        "16",
        20,
        256,
        100_000,
        128,
        "ok",
        "clean",
        2000,
        14,
        14,
        90,
        True,
        5,
        1,
        0.2,
    ),
)

MEASUREMENT = b"""\
device: H100-64GB
gpu_memory_gib: 64
engine_version: "0.8.5"
source: simulated
metrics_pause_s: 5
engine: {max_num_seqs: 256, max_model_len: 4096}
"""

TABLES = {
    "measurement.yaml": MEASUREMENT,
    "serving_runs.csv": RUNS,
    "probes.csv": table(
        (
            "model",
            "step_ms",
            "batched_tokens",
            "decodes",
            "context_tokens",
            "n_adapters",
            "max_loras",
            "max_lora_rank",
            "weight",
        ),
        *(
            (MODEL, 10 + 0.01 * n + 0.2 * a, n, n, 100 * n, a, 8 * (a > 0), 16 * (a > 0), 1)
            for n in (1, 16, 64, 128)
            for a in (0, 1, 4)
        ),
        (MODEL, 14.5, 256, 0, 0, 0, 0, 0, 0.5),
    ),
    "adapter_loads.csv": table(
        ("model", "adapter_rank", "max_lora_rank", "cpu_to_gpu_ms", "disk_to_cpu_ms"),
        (MODEL, 8, 8, 6.5, 65.0),
        (MODEL, 8, 16, 8, 65.0),
    ),
    "length_histograms.csv": table(
        ("model", "kind", "bin_lo", "bin_hi", "count"),
        (MODEL, "prompt", 1, 100, 5),
        (MODEL, "output", 1, 50, 5),
        (MODEL, "output", 50, 90, 1),
    ),
    "length_means.csv": table(
        ("model", "prompt_tokens", "output_tokens", "served_tokens", "max_total_tokens"),
        (MODEL, 80, 40, 30, 2048),
    ),
    "metrics_readings.csv": table(("run_id", "t"), ("a", 0), ("a", 5.1), ("a", 10.4)),
}

SUBJECT = {
    "subject": {
        "url": "http://127.0.0.1:1",
        "base": "base",
        "model": MODEL,
        "device": "H100-64GB",
        "gpu_memory_gib": 64.0,
        "engine_version": "0.8.5",
        "kv_cache_tokens": 65_536,
        "adapters": [{"name": "a", "rank": 8}],
        "engine": {
            "max_num_seqs": 8,
            "max_num_batched_tokens": 256,
            "max_model_len": 1024,
            "max_loras": 2,
            "max_lora_rank": 16,
            "max_cpu_loras": 4,
        },
    },
    "params": {"batch_s": 0.05, "watch_s": 0.2},
    "total_s": 0.5,
    "seed": 0,
}

OUTCOME = {
    "name": "run_1",
    "kind": "run",
    "batch": 0,
    "distinct": 1,
    "load": 0.4,
    "seconds": 3.0,
    "started_unix_s": 1_790_000_000.0,
    "requests": 2,
    "completed": 2,
    "failures": {},
    "prompt_tokens": 30,
    "output_tokens": 20,
    "step_ms": 12.0,
    "itl_ms": 12.0,
    "tpot_ms": 12.5,
    "ttft_ms": 50,
    "ttft_mean_ms": 55,
    "tokens_per_s": 30.0,
    "lag_ms": 0.1,
    "gauges": {"running": 1, "waiting": 0, "kv_usage": 0.1, "readings": 3},
}

REQUESTS = table(
    (
        "arrival_s",
        "adapter",
        "prompt_tokens",
        "output_tokens",
        "follows",
        "sent_s",
        "first_token_s",
        "finish_s",
        "generated_tokens",
        "failure",
    ),
    (0.1, 0, 30, 20, -1, 0.1, 0.15, 0.5, 20, ""),
    (0.4, 1, 30, 20, -1, 0.4, 0.45, 0.9, 20, ""),
)

STEPS_TABLE = table(
    (
        "number",
        "context_requests",
        "context_tokens",
        "generation_requests",
        "generation_tokens",
        "elapsed_ms",
        "between_ms",
    ),
    (1, 1, 30, 2, 2, 12.5, 0.2),
    (2, 0, 0, 3, 3, 11, 0.2),
    (3, 2, 60, 1, 1, 14, 0.2),
)

STEPS = "".join(
    f"INFO 01-20 09:00:01 [core.py:350] Iteration({k}): 2 context requests, 300 context tokens, 5 generation "
    f"requests, 5 generation tokens, iteration elapsed time: 12.{k} ms\n"
    for k in range(4)
)

MODEL_CONFIG = {
    "model_type": "llama",
    "hidden_size": 256,
    "intermediate_size": 768,
    "num_hidden_layers": 4,
    "num_attention_heads": 8,
    "num_key_value_heads": 4,
    "head_dim": 32,
    "vocab_size": 1024,
    "max_position_embeddings": 4096,
    "torch_dtype": "bfloat16",
    "tie_word_embeddings": False,
    "quantization_config": {"quant_method": "gptq", "bits": 4, "group_size": 128, "desc_act": False},
}


def bench_result() -> bytes:
    """What `vllm bench serve --save-detailed` writes, of three requests."""
    lists = {
        "input_lens": [100, 80, 100],
        "output_lens": [40, 20, 40],
        "ttfts": [0.1, 0.2, 0.1],
        "itls": [[0.01, 0.02], [0.01], [0.02]],
        "start_times": [1.0, 1.5, 3.0],
    }
    totals = {"duration": 5.0, "completed": 3, "total_input_tokens": 280, "total_output_tokens": 100}
    means = {"mean_ttft_ms": 100.0, "mean_tpot_ms": 10.0, "mean_itl_ms": 10.0, "request_rate": 6.0}
    return json.dumps({"model_id": "base", "burstiness": 1.0, **totals, **means, **lists}).encode()


def with_file(runs: bytes) -> bytes:
    """A table of runs that names a file of the requests sent."""
    rows = list(csv.reader(io.StringIO(runs.decode())))
    return table(*([*row, "requests_file" if k == 0 else "requests/a.csv.gz"] for k, row in enumerate(rows)))
