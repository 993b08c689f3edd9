"""A folder of measurement tables, made by simulating engines whose cost is known."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pandas as pd

from twin.measured.predict import predict
from twin.measured.runs import measured_runs, read_runs
from twin.profile import EngineProfile, Frontend, ServedLengths, find_profile
from twin.step_cost import CostTerm, LoadCost, StepCost

MODEL = "llama-3.1-8b-instruct"

TRUTH = StepCost(
    terms=(
        CostTerm(name="step", seconds=0.012),
        CostTerm(name="tokens", seconds=2.5e-5, tokens_above=1),
        CostTerm(name="context", seconds=6e-8, per="context"),
        CostTerm(name="slots", seconds=2.5e-5, lora=True, slots_power=1),
        CostTerm(name="adapters", seconds=3e-4, lora=True, adapters_power=1),
    )
)

LOADS = LoadCost(gpu_s=0.0065, gpu_padding_s=0.0015, disk_s=0.045, disk_rank_s=0.0025)

SECONDS = 900.0


def truth() -> EngineProfile:
    """The engine behind the tables."""
    shipped = find_profile(MODEL, "H100-64GB")
    lengths = ServedLengths(
        prompt=shipped.lengths.prompt, output=shipped.lengths.output, max_total_tokens=2048
    )
    return shipped.model_copy(
        update={"step": TRUTH, "loads": LOADS, "frontend": Frontend(), "lengths": lengths}
    )


def write_tables(folder: Path) -> None:
    """All tables that a calibration reads."""
    _write_runs(folder)
    _write_probes(folder)
    loads = [(8, 8, 6.5, 65.0), (8, 16, 8.0, 65.0), (16, 16, 6.5, 85.0)]
    columns = ["adapter_rank", "max_lora_rank", "cpu_to_gpu_mean_ms", "disk_to_cpu_median_ms"]
    pd.DataFrame(loads, columns=columns).assign(model=MODEL).to_csv(folder / "adapter_loads.csv", index=False)
    _write_lengths(folder)


def run_rows() -> pd.DataFrame:
    """What was asked of each run: two groups of the same kind."""
    rows = []
    sizes = ((8, 8), (8, 16), (32, 32), (32, 40), (64, 64))
    for k, rates in enumerate(("0.1;0.02", "0.2;0.05")):
        for j, (slots, adapters) in enumerate(sizes):
            group = ("odd", "even")[(k + j) % 2]
            rows.append(
                {
                    "run_id": f"{group}/{rates}/{slots}_{adapters}",
                    "source": "simulated",
                    "model": MODEL,
                    "group": group,
                    "max_loras": slots,
                    "n_adapters": adapters,
                    "max_lora_rank": 16,
                    "rates": rates,
                    "sizes": "8;16",
                    "total_time_s": SECONDS,
                    "max_num_seqs": 2048,
                    "kv_cache_tokens": 280_000,
                    "status": "ok",
                    "quality": "clean",
                }
            )
    return pd.DataFrame(rows)


def _write_runs(folder: Path) -> None:
    path, table = folder / "serving_runs.csv", run_rows()
    table.to_csv(path, index=False)
    engine = truth()
    said = pd.DataFrame([predict(run, engine, seed=7).__dict__ for run in measured_runs(read_runs(path))])
    table["total_throughput"] = said["predicted_total_throughput"]
    for name in ("itl", "tpot", "ttft"):
        table[f"{name}_mean_ms"] = said[f"predicted_{name}_ms"]
    table["starved"] = said["predicted_starved"]
    table["running_mean"], table["waiting_mean"], table["kv_usage_mean"] = 10.0, 0.0, 10.0 * 450 / 280_000
    table.to_csv(path, index=False)


def _write_probes(folder: Path) -> None:
    single, batches = [], []
    for slots in (8, 32, 64):
        step = TRUTH.tables(slots, 16, 2048, 1)
        ms = 1e3 * (step.token_s[1] + step.adapter_s[1] + step.context_s * (13 + 60))
        single.append((MODEL, slots, 16, ms, 120))
    plain = TRUTH.tables(0, 0, 2048, 0)
    for batch in (1, 16, 64, 256, 512):
        ms = 1e3 * (plain.token_s[batch] + plain.context_s * batch * (100 + 50))
        batches.append((MODEL, "default_output", batch, 100, 100, ms, np.nan, 0))
    batches.append((MODEL, "default_input", 100, 209, 1, np.nan, 1e3 * plain.token_s[2048], 400))
    columns = ["model", "max_loras", "max_lora_rank", "single_req_itl_ms", "single_req_output_tokens"]
    pd.DataFrame(single, columns=columns).to_csv(folder / "memory_probes.csv", index=False)
    columns = ["model", "family", "max_num_seqs", "prompt_tokens", "set_output_len", "itl_median_ms"]
    columns += ["step_median_ms", "n_steps_window"]
    pd.DataFrame(batches, columns=columns).to_csv(folder / "fixed_batch_without_lora.csv", index=False)
    steps = []
    for adapters in (1, 8, 32, 64):
        step = TRUTH.tables(300, 8, 2048, 300)
        ms = 1e3 * (step.token_s[220] + step.adapter_s[adapters] + step.context_s * 220 * (4 + 50))
        steps += [(MODEL, "overhead_small", f"_220_300_8__1_100_{adapters}", adapters, 220, ms)] * 10
    columns = ["model", "family", "run", "unique_adapters", "batched_tokens", "dt_next_ms"]
    pd.DataFrame(steps, columns=columns).to_csv(folder / "engine_steps.csv.gz", index=False)


def _write_lengths(folder: Path) -> None:
    lengths = truth().lengths
    rows = []
    for kind, shape in (("input", lengths.prompt), ("output", lengths.output)):
        bins = zip(shape.edges[:-1], shape.edges[1:], shape.weights, strict=True)
        rows += [(kind, low, high, weight) for low, high, weight in bins]
    columns = ["kind", "bin_lo", "bin_hi", "count"]
    pd.DataFrame(rows, columns=columns).to_csv(folder / "length_histograms.csv", index=False)
    stats = {
        "pool_mean_input_largest_pool": lengths.prompt.mean_tokens,
        "pool_mean_output_largest_pool": lengths.output.mean_tokens,
        "completed_mean_output_unstarved": lengths.output.mean_tokens,
    }
    table = pd.DataFrame([(MODEL, name, value) for name, value in stats.items()])
    table.columns = pd.Index(["scope", "stat", "value"])
    table.to_csv(folder / "length_stats.csv", index=False)
