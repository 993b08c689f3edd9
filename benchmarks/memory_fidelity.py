"""Computed against measured GPU memory: KV capacity, and which engines start.

    python benchmarks/memory_fidelity.py --measurements FOLDER

The folder holds the tables memory_probes.csv, memory_observations.csv and serving_runs.csv.

Takes some seconds.
"""

from __future__ import annotations

import argparse
import sys
from pathlib import Path

import pandas as pd

from scenarios import EngineConfig
from twin import plan_memory
from twin.architectures import find_architecture
from twin.memory import memory_model

GPU_MEMORY_GIB = 63.43
TABLES = ("memory_probes.csv", "memory_observations.csv", "serving_runs.csv")

STARTED = ("ok", "started")
FAILURES = {
    "kv_below_max_model_len": "kv_below_max_model_len",
    "no_kv_memory": "no_kv_memory",
    "oom_cuda": "oom_cuda",
    "oom_sampler_warmup": "oom_cuda",
}


def read_measured(folder: Path) -> pd.DataFrame:
    """Measured engines: arguments, KV capacity where there is one, and failure (empty where it started).

    Interrupted probes keep their KV capacity, without an outcome. Left out are engines that shared their GPU
    with another process, failures of the infrastructure, and rows that say nothing of memory.
    """
    probes = pd.read_csv(folder / "memory_probes.csv").rename(columns={"status": "outcome"})
    probes = probes.assign(table="memory_probes", lora=1, max_num_seqs=2048)
    observations = pd.read_csv(folder / "memory_observations.csv").assign(table="memory_observations")
    runs = pd.read_csv(folder / "serving_runs.csv").rename(columns={"status": "outcome"})
    told = runs["outcome"].isin([*STARTED, *FAILURES])
    shared = runs["quality"].isin(["reduced_kv_foreign_memory", "port_collision"])
    runs = runs[told & ~shared].assign(table="serving_runs", lora=1, max_num_seqs=2048)
    runs["max_model_len"] = runs["model"].map(lambda model: 131072 if "llama" in model else 32768)
    table = pd.concat([probes, observations, runs], ignore_index=True)
    table["failure"] = table["outcome"].map({**FAILURES, **dict.fromkeys(STARTED, "")})
    known = table["max_num_seqs"].notna() & table["max_model_len"].notna()
    says = table["failure"].notna() | table["kv_cache_tokens"].notna()
    columns = ["table", "model", "lora", "max_loras", "max_lora_rank", "max_num_seqs", "max_model_len"]
    return table.loc[known & says, [*columns, "kv_cache_tokens", "kv_available_gib", "failure"]]


def compare(folder: Path) -> pd.DataFrame:
    """The measured engines, each with what is computed for it and the error of its KV capacity in percent."""
    table = read_measured(folder)
    plans = []
    for row in table.to_dict("records"):
        engine = EngineConfig(max_num_seqs=int(row["max_num_seqs"]), max_model_len=int(row["max_model_len"]))
        slots, rank = (int(row["max_loras"]), int(row["max_lora_rank"])) if row["lora"] else (0, 0)
        memory = memory_model(find_architecture(row["model"]))
        plans.append(plan_memory(memory, engine, GPU_MEMORY_GIB, slots, rank))
    table["computed_tokens"] = [plan.kv_cache_tokens for plan in plans]
    table["computed_gib"] = [plan.kv_gib for plan in plans]
    table["computed_failure"] = [plan.failure or "" for plan in plans]
    tokens = (table["computed_tokens"] / table["kv_cache_tokens"] - 1) * 100
    # An engine that refused to start for too small a KV cache printed its GiB instead of its tokens.
    table["error_percent"] = tokens.fillna((table["computed_gib"] / table["kv_available_gib"] - 1) * 100)
    return table


def summarise(table: pd.DataFrame) -> pd.DataFrame:
    """Per table and model: engines, median and worst error of the KV capacity, outcomes that are right."""
    lines = []
    for (source, model), rows in table.groupby(["table", "model"], sort=True):
        judged = rows[rows["failure"].notna()]
        error = rows["error_percent"].abs()
        lines.append(
            {
                "table": source,
                "model": model,
                "engines with KV": int(error.notna().sum()),
                "median error %": error.median(),
                "worst error %": error.max(),
                "outcomes": len(judged),
                "right": int((judged["failure"] == judged["computed_failure"]).sum()),
            }
        )
    return pd.DataFrame(lines)


def main() -> int:
    """Print the comparison."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--measurements", type=Path, required=True, help="folder of the tables")
    folder = parser.parse_args().measurements
    missing = [name for name in TABLES if not (folder / name).is_file()]
    if missing:
        print(
            f"{folder}: no measurements here ({', '.join(missing)} missing); give their folder with "
            "--measurements",
            file=sys.stderr,
        )
        return 2
    table = compare(folder)
    print(summarise(table).to_string(index=False, float_format="%.2f"))
    judged = table[table["failure"].notna()]
    right = (judged["failure"] == judged["computed_failure"]).mean()
    error = table["error_percent"].abs()
    print(
        f"all: KV capacity median error {error.median():.2f} %, worst {error.max():.2f} %; "
        f"outcome right in {right:.2%} of {len(judged)}"
    )
    wrong = judged[judged["failure"] != judged["computed_failure"]]
    if len(wrong):
        print(wrong.to_string(index=False))
    return 0


if __name__ == "__main__":
    sys.exit(main())
