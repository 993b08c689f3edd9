"""The public measurements in the form that ``lorapack calibrate`` reads.

    python benchmarks/public_measurements.py SOURCE TARGET

SOURCE holds the tables extracted from the public logs of the artefacts of arXiv 2508.08343 (vLLM 0.8.5, H100
64 GB). What they say by names of runs and families, or in the text beside them, becomes columns here.
"""

from __future__ import annotations

import argparse
from pathlib import Path

import numpy as np
import pandas as pd

from twin.calibration.measurements import DESCRIPTION, TABLES

MEASUREMENT = """\
device: H100-64GB
gpu_memory_gib: 63.43
engine_version: "0.8.5"
source: "public logs of the artefacts of arXiv 2508.08343 (vLLM 0.8.5, H100 64 GB): whole runs, fixed batches, \
single steps"
metrics_pause_s: 2.0
engine:
  max_num_seqs: 2048
  max_num_batched_tokens: 2048
  max_model_len: 131072
"""

MAX_OPEN_REQUESTS = 25_000
"""The measuring client ran out of ports at 20 to 28 thousand requests in flight."""

MAX_TOTAL_TOKENS = 2048
"""Prompt and answer together: how the requests were filtered."""

SINGLE_PROMPT_TOKENS = 13
"""Prompt of the single requests, where the table does not say."""

STEP_FAMILIES = ("overhead_small", "initial_points_small", "find_max_batch_small")
"""Families of the logged steps that are used; the others are in the fixed batches too."""

FEWEST_PREFILL_STEPS = 100
"""Runs with fewer logged steps full of prompts are too short for a median."""


def convert(source: Path, target: Path) -> None:
    """Write every table of the calibration's form, and the description, to a folder."""
    target.mkdir(parents=True, exist_ok=True)
    (target / DESCRIPTION).write_text(MEASUREMENT)
    tables = {
        "serving_runs": serving_runs(source),
        "fixed_batches": fixed_batches(source),
        "prefill_steps": prefill_steps(source),
        "engine_steps": engine_steps(source),
        "adapter_loads": adapter_loads(source),
        "length_histograms": length_histograms(source),
        "length_means": length_means(source),
        "metrics_readings": pd.read_csv(source / "serving_runs_timeseries.csv.gz", usecols=["run_id", "t"]),
    }
    for name, table in tables.items():
        table.to_csv(target / f"{name}.csv.gz", index=False)


def serving_runs(source: Path) -> pd.DataFrame:
    """The runs, without the columns that nothing reads."""
    table = pd.read_csv(source / "serving_runs.csv", dtype={"rates": str, "sizes": str})
    table = table.assign(max_open_requests=MAX_OPEN_REQUESTS)
    return table[[name for name in TABLES["serving_runs"].model_fields if name in table.columns]]


def fixed_batches(source: Path) -> pd.DataFrame:
    """Single requests with an adapter, of the memory probes, and full batches without, which decode only."""
    single = pd.read_csv(source / "memory_probes.csv")
    single = single[single["single_req_itl_ms"].notna()]
    single = pd.DataFrame(
        {
            "model": single["model"],
            "batch_size": 1,
            "prompt_tokens": single["single_req_input_tokens"].fillna(SINGLE_PROMPT_TOKENS).astype(int),
            "output_tokens": single["single_req_output_tokens"].astype(int),
            "itl_ms": single["single_req_itl_ms"],
            "n_adapters": 1,
            "max_loras": single["max_loras"],
            "max_lora_rank": single["max_lora_rank"],
        }
    )
    full = pd.read_csv(source / "fixed_batch_without_lora.csv")
    full = full[(full["family"] == "default_output") & ~(full["preemptions"] > 0)]
    full = pd.DataFrame(
        {
            "model": full["model"],
            "batch_size": full["max_num_seqs"],
            "prompt_tokens": full["prompt_tokens"],
            "output_tokens": full["set_output_len"],
            "itl_ms": full["itl_median_ms"],
            "n_adapters": 0,
            "max_loras": 0,
            "max_lora_rank": 0,
        }
    )
    return pd.concat([single, full])


def prefill_steps(source: Path) -> pd.DataFrame:
    """Runs of one output token, whose every step is full of prompts."""
    table = pd.read_csv(source / "fixed_batch_without_lora.csv")
    table = table[(table["family"] == "default_input") & (table["n_steps_window"] > FEWEST_PREFILL_STEPS)]
    return pd.DataFrame(
        {"model": table["model"], "max_num_batched_tokens": 2048, "step_ms": table["step_median_ms"]}
    )


def engine_steps(source: Path) -> pd.DataFrame:
    """Logged steps; a run is named _SEQUENCES_SLOTS_RANK__WORDS_OUTPUT_ADAPTERS or _SEQUENCES__WORDS_OUTPUT."""
    table = pd.read_csv(source / "engine_steps.csv.gz")
    table = table[table["family"].isin(STEP_FAMILIES) & (table["batched_tokens"] > 0)]
    table = table[table["dt_next_ms"] > 0]
    name = table["run"].str
    # A run without a number of sequences had vLLM's default.
    sequences = name.extract(r"^_(\d+)_\d+_\d+__|^_(\d+)__").bfill(axis=1)[0].fillna("256")
    words = name.extract(r"__(\d+)_(\d+)").astype(int)
    lora = table["family"] != "initial_points_small"
    return pd.DataFrame(
        {
            "model": table["model"],
            "max_loras": np.where(lora, 300, 0),
            "max_lora_rank": np.where(lora, 8, 0),
            "n_adapters": table["unique_adapters"],
            "batched_tokens": table["batched_tokens"].astype(int),
            "step_ms": table["dt_next_ms"],
            "max_num_seqs": sequences.astype(int),
            # One word repeated: 4 tokens of template and the word; 200 words are 407 tokens.
            "prompt_tokens": np.where(words[0] > 50, 407, 4),
            "output_tokens": words[1],
        }
    )


def adapter_loads(source: Path) -> pd.DataFrame:
    """Copies to the GPU by their mean, reads from disk, which have outliers, by their median."""
    names = {"cpu_to_gpu_mean_ms": "cpu_to_gpu_ms", "disk_to_cpu_median_ms": "disk_to_cpu_ms"}
    table = pd.read_csv(source / "adapter_loads.csv").rename(columns=names)
    return table[list(TABLES["adapter_loads"].model_fields)]


def length_histograms(source: Path) -> pd.DataFrame:
    """The histograms of another tokenizer, for each model."""
    bins = pd.read_csv(source / "length_histograms.csv").replace({"kind": {"input": "prompt"}})
    models = sorted(set(pd.read_csv(source / "adapter_loads.csv")["model"]))
    table = pd.concat([bins.assign(model=model) for model in models])
    return table[list(TABLES["length_histograms"].model_fields)]


def length_means(source: Path) -> pd.DataFrame:
    """Means of the largest pool of requests, and of what runs that do not starve completed."""
    stats = pd.read_csv(source / "length_stats.csv").pivot(index="scope", columns="stat", values="value")
    names = {
        "pool_mean_input_largest_pool": "prompt_tokens",
        "pool_mean_output_largest_pool": "output_tokens",
        "completed_mean_output_unstarved": "served_tokens",
    }
    means = stats[list(names)].dropna().rename(columns=names)
    means["max_total_tokens"] = MAX_TOTAL_TOKENS
    return means.rename_axis("model").reset_index()


def main() -> None:
    """Convert a folder."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("source", type=Path, help="folder of the public tables")
    parser.add_argument("target", type=Path, help="folder to write")
    given = parser.parse_args()
    convert(given.source, given.target)


if __name__ == "__main__":
    main()
