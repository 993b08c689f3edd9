"""A folder of measurement tables, made by simulating engines whose cost is known."""

from __future__ import annotations

from pathlib import Path

import pandas as pd

from twin import EngineProfile, find_profile
from twin.measured.predict import predict
from twin.measured.run_tables import measured_runs, read_runs
from twin.profile import Frontend, ServedLengths
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


DESCRIPTION = """\
device: L40S-48GB
gpu_memory_gib: 44.5
engine_version: "0.8.5"
source: simulated
metrics_pause_s: 5
engine:
  max_num_seqs: 2048
  max_model_len: 4096
"""


def write_tables(folder: Path) -> None:
    """All that a calibration reads."""
    (folder / "measurement.yaml").write_text(DESCRIPTION)
    write_runs(folder)
    _write_probes(folder)
    loads = [(8, 8, 6.5, 65.0), (8, 16, 8.0, 65.0), (16, 16, 6.5, 85.0)]
    columns = ["adapter_rank", "max_lora_rank", "cpu_to_gpu_ms", "disk_to_cpu_ms"]
    _write(folder, "adapter_loads", columns, loads)
    _write_lengths(folder)


def _write(folder: Path, name: str, columns: list[str], rows: list[tuple[object, ...]]) -> None:
    pd.DataFrame(rows, columns=columns).assign(model=MODEL).to_csv(folder / f"{name}.csv.gz", index=False)


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


def write_runs(folder: Path) -> None:
    """The runs with what was measured."""
    path, table = folder / "serving_runs.csv", run_rows()
    table.to_csv(path, index=False)
    engine = truth()
    runs = measured_runs(read_runs(path), path)
    predicted = pd.DataFrame([predict(run, engine, seed=7).__dict__ for run in runs])
    table["total_throughput"] = predicted["predicted_total_throughput"]
    for name in ("itl", "tpot", "ttft"):
        table[f"{name}_mean_ms"] = predicted[f"predicted_{name}_ms"]
    table["starved"] = predicted["predicted_starved"]
    table["running_mean"], table["waiting_mean"], table["kv_usage_mean"] = 10.0, 0.0, 10.0 * 450 / 280_000
    table.to_csv(path, index=False)


def _write_probes(folder: Path) -> None:
    rows: list[tuple[object, ...]] = []

    def add(
        tokens: int, decodes: int, each: float, slots: int, rank: int, adapters: int, weight: float
    ) -> None:
        step = TRUTH.tables(slots, rank, 2048, slots)
        seconds = step.token_s[tokens] + step.adapter_s[adapters] + step.context_s * decodes * each
        rows.append((1e3 * seconds, tokens, decodes, decodes * each, adapters, slots, rank, weight))

    for slots in (8, 32, 64):
        add(1, 1, 13 + 60, slots, 16, 1, 0.5)
    for batch in (1, 16, 64, 256, 512):
        add(batch, batch, 100 + 50, 0, 0, 0, 1.0)
    add(2048, 0, 0, 0, 0, 0, 3.0)
    for adapters in (1, 8, 32, 64):
        add(220, 220, 4 + 50, 300, 8, adapters, 0.1)
    columns = ["step_ms", "batched_tokens", "decodes", "context_tokens", "n_adapters", "max_loras"]
    _write(folder, "probes", [*columns, "max_lora_rank", "weight"], rows)


def _write_lengths(folder: Path) -> None:
    lengths = truth().lengths
    rows = []
    for kind, shape in (("prompt", lengths.prompt), ("output", lengths.output)):
        bins = zip(shape.edges[:-1], shape.edges[1:], shape.weights, strict=True)
        rows += [(kind, low, high, weight) for low, high, weight in bins]
    _write(folder, "length_histograms", ["kind", "bin_lo", "bin_hi", "count"], rows)
    prompt, output = lengths.prompt.mean_tokens, lengths.output.mean_tokens
    columns = ["prompt_tokens", "output_tokens", "served_tokens", "max_total_tokens"]
    _write(folder, "length_means", columns, [(prompt, output, output, 2048)])
