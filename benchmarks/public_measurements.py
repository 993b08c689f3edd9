"""The public measurements in the form that ``lorapack calibrate`` reads.

    python benchmarks/public_measurements.py SOURCE TARGET

SOURCE holds the tables extracted from the public logs of the artefacts of arXiv 2508.08343 (vLLM 0.8.5, H100
64 GB). What they say by names of runs and families, or in the text beside them, becomes columns here.

Takes some seconds.
"""

from __future__ import annotations

import argparse
from pathlib import Path

import numpy as np
import pandas as pd

from twin.calibration.measurements import TABLES
from twin.measured.measurement import DESCRIPTION

MEASUREMENT = """\
device: H100-64GB
gpu_memory_gib: 63.43
engine_version: "0.8.5"
source: >-
  public logs of the artefacts of arXiv 2508.08343 (vLLM 0.8.5, H100 64 GB): whole runs, fixed batches,
  single steps
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

TOKEN_BUDGET = 2048
"""``max_num_batched_tokens`` of all engines."""

FEWEST_PREFILL_STEPS = 100
"""Runs with fewer logged steps full of prompts are too short for a median."""

SLOWEST_STEP_MS = 400.0
"""Logged steps above this are compilations of a kernel for a new shape, which happen once."""

TOKENS_PER_PROBE, ADAPTERS_PER_PROBE = 32, 8
"""Logged steps are one probe by so many tokens and distinct adapters."""

FEWEST_STEPS, STEPS_OF_A_PROBE = 8, 30
"""Smaller groups of logged steps are left out; from the second number on a group has its whole weight."""


def convert(source: Path, target: Path) -> None:
    """Write every table of the calibration's form, and the description, to a folder."""
    target.mkdir(parents=True, exist_ok=True)
    (target / DESCRIPTION).write_text(MEASUREMENT)
    tables = {
        "serving_runs": serving_runs(source),
        "probes": pd.concat(
            [single_requests(source), full_batches(source), prefills(source), logged_steps(source)]
        ),
        "adapter_loads": adapter_loads(source),
        "length_histograms": length_histograms(source),
        "length_means": length_means(source),
        "metrics_readings": metrics_readings(source),
    }
    for name, table in tables.items():
        table.to_csv(target / f"{name}.csv.gz", index=False)


def serving_runs(source: Path) -> pd.DataFrame:
    """The runs, without the columns that nothing reads."""
    table = pd.read_csv(source / "serving_runs.csv", dtype={"rates": str, "sizes": str})
    table = table.assign(max_open_requests=MAX_OPEN_REQUESTS)
    return table[[name for name in TABLES["serving_runs"].model_fields if name in table.columns]]


def metrics_readings(source: Path) -> pd.DataFrame:
    """When the metrics were read in the runs in which stalls are looked for."""
    table = pd.read_csv(source / "serving_runs_timeseries.csv.gz", usecols=["run_id", "t"])
    runs = serving_runs(source)
    return table[table["run_id"].isin(runs.loc[runs["quality"] == "clean", "run_id"])]


def single_requests(source: Path) -> pd.DataFrame:
    """Decodes of one request with an adapter, of the memory probes; half done on the average."""
    table = pd.read_csv(source / "memory_probes.csv")
    table = table[table["single_req_itl_ms"].notna()]
    prompt = table["single_req_input_tokens"].fillna(SINGLE_PROMPT_TOKENS)
    return pd.DataFrame(
        {
            "model": table["model"],
            "step_ms": table["single_req_itl_ms"],
            "batched_tokens": 1,
            "decodes": 1,
            "context_tokens": prompt + table["single_req_output_tokens"] / 2,
            "n_adapters": 1,
            "max_loras": table["max_loras"],
            "max_lora_rank": table["max_lora_rank"],
            "weight": 0.5,
        }
    )


def full_batches(source: Path) -> pd.DataFrame:
    """Decodes of full batches without adapters and without preemptions."""
    table = pd.read_csv(source / "fixed_batch_without_lora.csv")
    table = table[(table["family"] == "default_output") & ~(table["preemptions"] > 0)]
    batch = table["max_num_seqs"]
    return pd.DataFrame(
        {
            "model": table["model"],
            "step_ms": table["itl_median_ms"],
            "batched_tokens": batch,
            "decodes": batch,
            "context_tokens": batch * (table["prompt_tokens"] + table["set_output_len"] / 2),
            "n_adapters": 0,
            "max_loras": 0,
            "max_lora_rank": 0,
            "weight": 1.0,
        }
    )


def prefills(source: Path) -> pd.DataFrame:
    """Steps full of prompts without adapters: one output token each, so the token budget is used up."""
    table = pd.read_csv(source / "fixed_batch_without_lora.csv")
    table = table[(table["family"] == "default_input") & (table["n_steps_window"] > FEWEST_PREFILL_STEPS)]
    table = table.groupby("model", as_index=False).agg(step_ms=("step_median_ms", "median"))
    nothing = dict.fromkeys(("decodes", "context_tokens", "n_adapters", "max_loras", "max_lora_rank"), 0)
    return table.assign(batched_tokens=TOKEN_BUDGET, weight=3.0, **nothing)


def logged_steps(source: Path) -> pd.DataFrame:
    """Medians of logged steps of one composition.

    A run is named _SEQUENCES_SLOTS_RANK__WORDS_OUTPUT_ADAPTERS or, without LoRA, _SEQUENCES__WORDS_OUTPUT.
    """
    table = pd.read_csv(source / "engine_steps.csv.gz")
    table = table[table["family"].isin(STEP_FAMILIES) & (table["batched_tokens"] > 0)]
    table = table[table["dt_next_ms"] < SLOWEST_STEP_MS]
    name, lora = table["run"].str, table["family"] != "initial_points_small"
    words = name.extract(r"__(\d+)_(\d+)").astype(float)
    keys = {
        "model": table["model"],
        "max_loras": np.where(lora, 300, 0),
        "max_lora_rank": np.where(lora, 8, 0),
        "output": words[1],
        # One word repeated: 4 tokens of template and the word; 200 words are 407 tokens.
        "prompt": np.where(words[0] > 50, 407.0, 4.0),
        # A run without a number of sequences had vLLM's default.
        "batch": name.extract(r"^_(\d+)_\d+_\d+__|^_(\d+)__").bfill(axis=1)[0].astype(float).fillna(256.0),
        "tokens_block": table["batched_tokens"] // TOKENS_PER_PROBE,
        "adapters_block": table["unique_adapters"] // ADAPTERS_PER_PROBE,
    }
    groups = table.assign(**keys).groupby(list(keys), as_index=False)
    probes = groups.agg(
        batched_tokens=("batched_tokens", "mean"),
        n_adapters=("unique_adapters", "mean"),
        step_ms=("dt_next_ms", "median"),
        steps=("dt_next_ms", "size"),
    )
    probes = probes[probes["steps"] >= FEWEST_STEPS]
    tokens, batch = probes["batched_tokens"], probes["batch"]
    # Above the batch size, prompts of the next wave share the step with what is left of the last.
    decodes = np.where(tokens <= 1.02 * batch, np.minimum(tokens, batch), 0.7 * batch)
    context = decodes * (probes["prompt"] + probes["output"] / 2)
    weight = 0.3 * np.minimum(1.0, probes["steps"] / STEPS_OF_A_PROBE)
    probes = probes.assign(decodes=decodes, context_tokens=context, weight=weight)
    return probes[[name for name in TABLES["probes"].model_fields if name in probes]]


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
